// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The journal's records.

use proptest::prelude::*;
use virgo_proto::crc::crc32c_after as crc32c;
use virgo_proto::eventlog::{
    decode, encode, size_of_record, Content, Found, Id, Reader, Record, MAX_CONTENT,
};

fn record(number: u64, content: Content<'_>) -> Record<'_> {
    Record {
        number,
        stamp: 0x1234_5678_9abc_def0,
        origin: 0,
        node: 0x0a00_0001,
        module: 4,
        content,
    }
}

fn bytes(record: &Record<'_>) -> Vec<u8> {
    let mut out = vec![0xaa; 20_000];
    let size = encode(record, crc32c, &mut out).expect("it fits");
    out.truncate(size);
    out
}

const IDS: [Id; 2] = [Id { stamp: 7, node: 9 }, Id { stamp: 0, node: 0 }];

fn all() -> Vec<Content<'static>> {
    vec![
        Content::Open { incarnation: 99 },
        Content::Event {
            cause: IDS[0],
            kind: b"put",
            subject: b"mail",
        },
        Content::Vertex {
            id: b"e1",
            partakers: b"a,b",
            conversation: b"c",
        },
        Content::Edge {
            from: b"1",
            to: b"2",
        },
        Content::Loss {
            count: 5,
            after: IDS[0],
            before: IDS[1],
        },
        Content::Peer { incarnation: 3 },
    ]
}

#[test]
fn all_come_back_and_no_part_does() {
    for content in all() {
        let record = record(5, content);
        let bytes = bytes(&record);
        assert_eq!(decode(&bytes, crc32c), Found::Record(record, bytes.len()));
        for end in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..end], crc32c), Found::Part(_)));
        }
        // Each bit is covered.
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !matches!(decode(&bad, crc32c), Found::Record(..)),
                "bit {bit} of {content:?}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_not_written() {
    let long = vec![b'x'; MAX_CONTENT];
    let content = Content::Vertex {
        id: b"e",
        partakers: &long,
        conversation: b"c",
    };
    assert_eq!(
        encode(&record(1, content), crc32c, &mut vec![0; 40_000]),
        None
    );
    let content = Content::Edge {
        from: b"1",
        to: b"2",
    };
    let whole = bytes(&record(1, content)).len();
    assert_eq!(whole, size_of_record(6));
    for room in 0..whole {
        assert_eq!(
            encode(&record(1, content), crc32c, &mut vec![0; room]),
            None
        );
    }
}

#[test]
fn names_of_events() {
    let id = Id {
        stamp: 0x0123_4567_89ab_cdef,
        node: 0x7f00_0001,
    };
    assert_eq!(id.to_string(), "e0123456789abcdef.7f000001");
    assert_eq!(Id::parse(id.to_string().as_bytes()), Some(id));
    for bad in [
        "",
        "e",
        "e1",
        "e0123456789abcdef-7f000001",
        "e0123456789abcdef.7f00000",
        "e0123456789abcdeF.7f000001",
        "x0123456789abcdef.7f000001",
        "e0123456789abcdef.7f0000011",
    ] {
        assert_eq!(Id::parse(bad.as_bytes()), None, "{bad}");
    }
}

/// What a failed write left behind, with numbers that were taken back, is not read again.
#[test]
fn a_failed_write_stays_failed() {
    let edge = Content::Edge {
        from: b"1",
        to: b"2",
    };
    let mut file = bytes(&record(1, edge));
    file.extend(bytes(&record(1 + (1 << 32), edge)));
    file.extend(bytes(&record(3, edge)));
    file.extend(bytes(&record(4, edge)));
    let mut reader = Reader::new(&file, 0, crc32c);
    let mut numbers = Vec::new();
    while let Some(record) = reader.next() {
        numbers.push(record.number);
    }
    assert_eq!(numbers, [1, 1 + (1 << 32)]);
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..600), last in any::<u64>()) {
        let mut reader = Reader::new(&bytes, last, crc32c);
        while reader.next().is_some() {}
        prop_assert!(reader.position() <= bytes.len() + 8);
    }

    /// A damaged place costs the records that it touches, and no other.
    #[test]
    fn damage_is_passed_over(count in 1_usize..20, at in 0_usize..4000, length in 1_usize..40) {
        let (mut file, mut ends) = (Vec::new(), Vec::new());
        for number in 0..count {
            let content = all()[number % 6];
            file.extend(bytes(&record(number as u64 + 1, content)));
            ends.push(file.len());
        }
        let whole = file.clone();
        let at = at % file.len();
        let upto = (at + length).min(file.len());
        for byte in &mut file[at..upto] {
            *byte ^= 0x5a;
        }
        let mut start = 0;
        let mut expected = Vec::new();
        for (number, end) in ends.iter().enumerate() {
            if whole[start..*end] == file[start..*end] {
                expected.push(number as u64 + 1);
            }
            start = *end;
        }
        let mut reader = Reader::new(&file, 0, crc32c);
        let mut got = Vec::new();
        loop {
            while let Some(record) = reader.next() {
                got.push(record.number);
            }
            if reader.position() >= file.len() {
                break;
            }
            reader.skip();
        }
        prop_assert_eq!(got, expected);
    }
}
