// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Requests and answers between memory pools come out as they went in, and nothing else comes out of
//! anything.

use std::convert::Infallible;

use proptest::prelude::*;
use virgo_proto::pool::{
    counted, handle, number, parse, Map, Request, Sink, Taken, Wrong, KEY_MAX,
};
use virgo_proto::uapi::{Vuid, MEM_PUT_CAS};

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = Infallible;

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn bytes_of(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Bytes(Vec::new());
    let Ok(()) = request.write(&mut bytes);
    assert!(bytes.0.len() <= request.size());
    bytes.0
}

/// The request of this number, with these numbers, this key and this value.
fn request<'a>(which: usize, words: [u64; 5], key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    let [a, b, c, d, e] = words;
    let vuid = Vuid { word: [a, b] };
    match which {
        0 => Request::Malloc(a),
        1 => Request::Set {
            vuid,
            offset: c,
            bytes: value,
        },
        2 => Request::Get {
            vuid,
            offset: c,
            length: d,
        },
        3 => Request::Free(vuid),
        4 => Request::Put {
            mode: (a % (u64::from(MEM_PUT_CAS) + 1)) as u32,
            flags: b as u32,
            exptime: c as i64,
            cas: d,
            key,
            value,
        },
        5 => Request::Take {
            capacity: a,
            touch: (b % 2 == 1).then_some(c as i64),
            key,
        },
        6 => Request::Drop { cas: a, key },
        7 => Request::Count {
            down: a % 2 == 1,
            delta: b,
            initial: (c % 2 == 1).then_some((d, e as i64)),
            key,
        },
        _ => Request::Locate(vuid),
    }
}

fn parts() -> impl Strategy<Value = (usize, [u64; 5], Vec<u8>, Vec<u8>)> {
    let key = proptest::collection::vec(any::<u8>(), 1..=KEY_MAX);
    let value = proptest::collection::vec(any::<u8>(), 0..300);
    (0..9_usize, any::<[u64; 5]>(), key, value)
}

#[test]
fn the_form_is_as_specified() {
    let put = Request::Put {
        mode: 5,
        flags: 7,
        exptime: -1,
        cas: 9,
        key: b"key",
        value: b"value",
    };
    assert_eq!(put.operation(), 5);
    let mut form = Vec::new();
    for word in [5, 7, u64::MAX, 9, 3] {
        form.extend_from_slice(&word.to_le_bytes());
    }
    form.extend_from_slice(b"keyvalue");
    assert_eq!(bytes_of(&put), form);
    assert_eq!(parse(5, &form), Ok(put));
}

#[test]
fn what_is_none_is_refused() {
    let words = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    for operation in [0, 10, u32::MAX] {
        assert_eq!(parse(operation, &words(&[1])), Err(Wrong::Operation));
    }
    let with_key = |numbers: &[u64], length: u64, key: &[u8]| {
        let mut all = words(numbers);
        all.extend_from_slice(&length.to_le_bytes());
        all.extend_from_slice(key);
        all
    };
    let long = [b'k'; 251];
    for (operation, bytes) in [
        (1, words(&[])),
        (1, words(&[1, 2])),
        (3, words(&[1, 2, 3])),
        (3, words(&[1, 2, 3, 4, 5])),
        (5, with_key(&[6, 0, 0, 0], 1, b"k")),
        (5, with_key(&[0, 1 << 32, 0, 0], 1, b"k")),
        (7, with_key(&[0], 0, b"")),
        (7, with_key(&[0], 2, b"k")),
        (7, with_key(&[0], 1, b"kk")),
        (7, with_key(&[0], 251, &long)),
        (7, with_key(&[0], u64::MAX, b"k")),
        (6, with_key(&[0, 2, 0], 1, b"k")),
        (6, with_key(&[0, 0, 5], 1, b"k")),
        (8, with_key(&[4, 1, 0, 0], 1, b"k")),
        (8, with_key(&[1, 1, 5, 0], 1, b"k")),
        (9, words(&[1])),
    ] {
        assert_eq!(
            parse(operation, &bytes),
            Err(Wrong::Form),
            "{operation}: {bytes:?}"
        );
    }
}

#[test]
fn answers_are_understood() {
    let words = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    assert_eq!(handle(&words(&[1, 2])), Some(Vuid { word: [1, 2] }));
    assert_eq!(handle(&words(&[1, 2, 3])), None);
    assert_eq!(number(&words(&[7])), Some(7));
    assert_eq!(number(&[0; 7]), None);
    assert_eq!(counted(&words(&[7, 8])), Some((7, 8)));
    assert_eq!(counted(&words(&[7])), None);
    let plain = words(&[100, 0]);
    let plain = Map::parse(&plain).expect("a map");
    assert_eq!(
        (plain.length, plain.chunk, plain.parts().count()),
        (100, 0, 0)
    );
    let chunked = words(&[100, 10, 1, 2, 3, 4]);
    let chunked = Map::parse(&chunked).expect("a map");
    let parts: Vec<[u64; 2]> = chunked.parts().map(|vuid| vuid.word).collect();
    assert_eq!((chunked.chunk, parts), (10, vec![[1, 2], [3, 4]]));
    // Chunks without parts, parts without chunks, half a part, no length of a chunk.
    for bad in [
        &[100, 10][..],
        &[100, 0, 1, 2],
        &[100, 10, 1],
        &[100, 1 << 32, 1, 2],
        &[100],
    ] {
        assert_eq!(Map::parse(&words(bad)), None, "{bad:?}");
    }
    let taken = Taken {
        length: 3,
        flags: 5,
        left: -1,
        cas: 9,
        value: Some(b"abc"),
    };
    let mut bytes = Bytes(Vec::new());
    let Ok(()) = taken.write(&mut bytes);
    assert_eq!(Taken::parse(&bytes.0, 3), Some(taken));
    // More than was asked for is none; less is none either.
    assert_eq!(Taken::parse(&bytes.0, 2), None);
    assert_eq!(Taken::parse(&bytes.0[..34], 3), None);
    let longer = Taken {
        value: None,
        ..taken
    };
    assert_eq!(Taken::parse(&bytes.0[..32], 2), Some(longer));
}

proptest! {
    #[test]
    fn what_went_in_comes_out((which, words, key, value) in parts()) {
        let request = request(which, words, &key, &value);
        let bytes = bytes_of(&request);
        prop_assert_eq!(parse(request.operation(), &bytes), Ok(request));
    }

    #[test]
    fn any_bytes_are_a_request_or_not(operation in 0..12_u32, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(request) = parse(operation, &bytes) {
            prop_assert_eq!(request.operation(), operation);
            prop_assert_eq!(bytes_of(&request), bytes);
        }
    }

    /// Each front of a request is either none or one with less behind its key.
    #[test]
    fn parts_of_a_request_are_refused((which, words, key, value) in parts(), cut in any::<prop::sample::Index>()) {
        let request = request(which, words, &key, &value);
        let bytes = bytes_of(&request);
        let part = &bytes[..cut.index(bytes.len())];
        match parse(request.operation(), part) {
            Err(wrong) => prop_assert_eq!(wrong, Wrong::Form),
            Ok(Request::Set { .. } | Request::Put { .. }) => {}
            Ok(other) => prop_assert!(false, "{other:?} of a part"),
        }
    }
}
