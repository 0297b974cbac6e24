// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Frames come out as they went in, and nothing else comes out of anything.

use proptest::prelude::*;
use virgo_proto::crc::crc32c;
use virgo_proto::frame::{
    header, parse, Bad, Header, Hello, Kind, Load, Parsed, HEADER, MAX_PAYLOAD, TAG,
};

const KINDS: [Kind; 9] = [
    Kind::Hello,
    Kind::Challenge,
    Kind::Proof,
    Kind::Welcome,
    Kind::Ping,
    Kind::Pong,
    Kind::Request,
    Kind::Reply,
    Kind::Refused,
];

fn bytes_of(head: &Header, payload: &[u8], tag: Option<[u8; TAG]>) -> Vec<u8> {
    let mut bytes = header(head, payload, tag.is_some(), crc32c)
        .expect("short")
        .to_vec();
    bytes.extend_from_slice(payload);
    bytes.extend(tag.iter().flatten());
    bytes
}

fn headers() -> impl Strategy<Value = Header> {
    let numbers = (any::<u64>(), any::<[u32; 4]>(), any::<u64>(), any::<bool>());
    (0..KINDS.len(), numbers).prop_map(|(kind, (id, words, stamp, event))| Header {
        kind: KINDS[kind],
        id,
        words,
        stamp,
        event,
    })
}

#[test]
fn the_form_is_as_specified() {
    let head = Header {
        kind: Kind::Request,
        id: 0x0102_0304_0506_0708,
        words: [2, 3, 4096, 5000],
        stamp: 0x1112_1314_1516_1718,
        event: false,
    };
    let bytes = bytes_of(&head, b"hello", None);
    assert_eq!(bytes.len(), HEADER + 5);
    assert_eq!(bytes[..12], *b"VRGO\x02\x07\x00\x00\x05\x00\x00\x00");
    assert_eq!(bytes[12..16], crc32c(b"hello").to_le_bytes());
    assert_eq!(bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(
        bytes[24..40],
        *b"\x02\0\0\0\x03\0\0\0\0\x10\0\0\x88\x13\0\0"
    );
    assert_eq!(
        bytes[40..48],
        [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]
    );
    assert_eq!(bytes[48..52], [0; 4]);
    assert_eq!(bytes[52..56], crc32c(&bytes[..52]).to_le_bytes());
    let caused = Header {
        event: true,
        ..head
    };
    assert_eq!(bytes_of(&caused, b"", None)[6], 2);
}

#[test]
fn what_is_too_long_is_no_frame() {
    let head = Header {
        id: 1,
        ..Header::plain(Kind::Reply)
    };
    assert!(header(&head, &vec![0; MAX_PAYLOAD], false, crc32c).is_some());
    assert!(header(&head, &vec![0; MAX_PAYLOAD + 1], false, crc32c).is_none());
    let bytes = bytes_of(&head, &[0; 101], None);
    // Told by the header alone, before the payload has come.
    assert_eq!(
        parse(&bytes[..HEADER], 100, crc32c),
        Parsed::Bad(Bad::Length(101))
    );
}

#[test]
fn other_ports_clients_are_told_at_once() {
    for words in [&b"G"[..], b"GET / HTTP/1.0\r\n", b"virgo", b"VRGP", b"\0"] {
        assert_eq!(parse(words, 100, crc32c), Parsed::Bad(Bad::Magic));
    }
    assert_eq!(
        parse(b"VRGO\x01", 100, crc32c),
        Parsed::Bad(Bad::Version(1))
    );
    assert_eq!(parse(b"", 100, crc32c), Parsed::Part(HEADER));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn there_and_back(
        head in headers(),
        payload in proptest::collection::vec(any::<u8>(), 0..600),
        tag: Option<[u8; TAG]>,
        more in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let whole = bytes_of(&head, &payload, tag);
        let mut bytes = whole.clone();
        bytes.extend_from_slice(&more);
        let Parsed::Whole(frame) = parse(&bytes, 600, crc32c) else {
            return Err(TestCaseError::fail("not whole"));
        };
        prop_assert_eq!(frame.header, head);
        prop_assert_eq!(frame.payload, &payload[..]);
        prop_assert_eq!(frame.tag, tag.as_ref());
        prop_assert_eq!(frame.taken, whole.len());
        prop_assert_eq!(frame.signed, &whole[..HEADER + payload.len()]);
    }

    /// Of every beginning it is known that more must come, and at most how much.
    #[test]
    fn beginnings_are_parts(head in headers(), payload in proptest::collection::vec(any::<u8>(), 0..100), tag: Option<[u8; TAG]>) {
        let whole = bytes_of(&head, &payload, tag);
        for end in 0..whole.len() {
            let expected = if end < HEADER { HEADER } else { whole.len() };
            prop_assert_eq!(parse(&whole[..end], 100, crc32c), Parsed::Part(expected));
        }
    }

    /// A run of up to 32 flipped bits is always told, wherever it is, but in the tag, which is told
    /// by who has the key.
    #[test]
    fn damage_is_told(head in headers(), payload in proptest::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, mask in 1_u32..) {
        let whole = bytes_of(&head, &payload, None);
        let mut bytes = whole.clone();
        let start = at.index(bytes.len());
        for (place, flip) in bytes[start..].iter_mut().zip(mask.to_le_bytes()) {
            *place ^= flip;
        }
        if bytes != whole {
            let whole = matches!(parse(&bytes, 100, crc32c), Parsed::Whole(_));
            prop_assert!(!whole);
        }
    }

    #[test]
    fn anything(bytes: Vec<u8>, max: usize) {
        let _ = parse(&bytes, max, crc32c);
        let _ = Hello::parse(&bytes);
        let _ = Load::parse(&bytes);
    }

    /// With valid checksums, so that what lies behind them is reached.
    #[test]
    fn anything_with_good_checksums(mut bytes in proptest::collection::vec(any::<u8>(), HEADER..300), keep_length: bool) {
        bytes[..5].copy_from_slice(b"VRGO\x02");
        bytes[7] &= 1;
        bytes[48..52].fill(0);
        if !keep_length {
            let length = (bytes.len() - HEADER) as u32;
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            let sum = crc32c(&bytes[HEADER..]);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32c(&bytes[..52]);
        bytes[52..56].copy_from_slice(&sum.to_le_bytes());
        match parse(&bytes, 1 << 20, crc32c) {
            Parsed::Whole(frame) => prop_assert!(frame.taken <= bytes.len()),
            Parsed::Part(size) => prop_assert!(size > bytes.len()),
            Parsed::Bad(_) => {}
        }
    }

    #[test]
    fn payloads(from: u32, to: u32, keyed: bool, nonce: [u8; 32], runnable: u32, free_kib: u64) {
        let hello = Hello { from, to, keyed, nonce };
        prop_assert_eq!(Hello::parse(&hello.to_bytes()), Some(hello));
        let load = Load { runnable, free_kib, cpus: 3, pressure: Load::UNKNOWN, load: 5, total_kib: 7 };
        prop_assert_eq!(Load::parse(&load.to_bytes()), Some(load));
    }
}
