// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The queue's log: any bytes are read to their end, in order; whatever is read can be written, and
//! is read the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::qlog::{encode, encoded_size, Found, Reader, Sink};

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = ();

    fn append(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// So weak that the fuzzer finds it: the last byte alone.
fn checksum(before: u32, bytes: &[u8]) -> u32 {
    bytes.last().map_or(before, |byte| u32::from(*byte))
}

fuzz_target!(|data: &[u8]| {
    let mut end = 0;
    for found in Reader::new(data, checksum) {
        let (at, length) = match found {
            Found::Record { number, at, record } => {
                let mut out = Bytes(Vec::new());
                encode(&record, number, checksum, &mut out).expect("it has room");
                assert_eq!(out.0.len(), encoded_size(&record));
                let mut again = Reader::new(&out.0, checksum);
                let expected = Found::Record { number, at: 0, record };
                assert_eq!(again.next(), Some(expected));
                assert_eq!(again.next(), None);
                (at, out.0.len())
            }
            Found::Damage { at, bytes } | Found::Torn { at, bytes } => (at, bytes),
        };
        assert!(at >= end && at < data.len());
        assert!(length > 0);
        end = at + length;
    }
});
