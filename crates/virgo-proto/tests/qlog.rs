// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The queue's log: records come back, and what is damaged harms nothing else.

use proptest::prelude::*;
use virgo_proto::qlog::{
    encode, encoded_size, Change, Found, Phase, Put, Reader, Record, Sink, Tube,
};

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = ();
    fn append(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// CRC-32C, bit by bit, continued from what it gave.
fn crc32c(seed: u32, data: &[u8]) -> u32 {
    let mut crc = !seed;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn change(id: u64) -> Change {
    Change {
        id,
        deadline: 17,
        pri: 3,
        delay: 9,
        counts: [1, 2, 3, 4, 5],
        phase: Phase::Buried,
    }
}

fn records(body: &[u8]) -> Vec<Record<'_>> {
    vec![
        Record::Open {
            segment: 1,
            next_id: 7,
        },
        Record::Put(Put {
            change: change(1),
            created: 99,
            ttr: 60,
            tube: b"default",
            body,
        }),
        Record::Change(change(1)),
        Record::Tube(Tube {
            name: b"a",
            limit: 5,
            tries: 6,
            keep: 1,
            copies: b"b\0c\0",
        }),
        Record::Delete(1),
        Record::Close { next_id: 8 },
    ]
}

/// The records, one behind the other, and where each begins.
fn written(records: &[Record<'_>]) -> (Vec<u8>, Vec<usize>) {
    let mut out = Bytes(Vec::new());
    let mut starts = Vec::new();
    for (n, record) in records.iter().enumerate() {
        starts.push(out.0.len());
        encode(record, n as u64, crc32c, &mut out).expect("room");
        assert_eq!(out.0.len() - starts[n], encoded_size(record));
        assert_eq!(out.0.len() % 8, 0);
    }
    (out.0, starts)
}

#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_come_back(body: Vec<u8>, zeros in 0_usize..100) {
        let records = records(&body);
        let (mut bytes, starts) = written(&records);
        bytes.resize(bytes.len() + zeros, 0);
        let found: Vec<_> = Reader::new(&bytes, crc32c).collect();
        let wanted: Vec<_> = records
            .iter()
            .zip(&starts)
            .enumerate()
            .map(|(n, (record, at))| Found::Record { number: n as u64, at: *at, record: *record })
            .collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn a_flipped_bit_costs_one_record(body: Vec<u8>, place: prop::sample::Index, bit in 0_u8..8) {
        let records = records(&body);
        let (mut bytes, starts) = written(&records);
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let hit = starts.iter().rposition(|start| *start <= at).expect("a record");
        let found: Vec<_> = Reader::new(&bytes, crc32c).collect();
        let left: Vec<u64> = found
            .iter()
            .filter_map(|f| match f { Found::Record { number, .. } => Some(*number), _ => None })
            .collect();
        // Padding is not covered: a bit there changes nothing.
        let harmless = left.len() == records.len();
        if !harmless {
            let wanted: Vec<u64> = (0..records.len() as u64).filter(|n| *n != hit as u64).collect();
            prop_assert_eq!(left, wanted);
            let told = found.iter().any(|f| matches!(f, Found::Damage { at, .. } | Found::Torn { at, .. } if *at == starts[hit]));
            prop_assert!(told);
        }
    }

    #[test]
    fn a_torn_end_costs_the_last_record(body: Vec<u8>, cut: prop::sample::Index) {
        let records = records(&body);
        let (bytes, starts) = written(&records);
        let end = cut.index(bytes.len());
        let whole = starts.iter().skip(1).chain([&bytes.len()]).filter(|s| **s <= end).count();
        let found: Vec<_> = Reader::new(&bytes[..end], crc32c).collect();
        let read = found.iter().filter(|f| matches!(f, Found::Record { .. })).count();
        // Where only padding is missing the record is whole.
        prop_assert!(read == whole || read == whole + 1);
        let damage = found.iter().any(|f| matches!(f, Found::Damage { .. }));
        prop_assert!(!damage);
    }

    #[test]
    fn any_bytes_are_read_without_harm(data: Vec<u8>) {
        let _ = Reader::new(&data, crc32c).count();
    }
}
