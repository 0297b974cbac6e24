// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The records of a page-fault trace: whatever is read can be written, and is read the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::trace::{frame, parse_trace_command, whole, Decoder, Encoder, RECORD_MAX};

fuzz_target!(|data: &[u8]| {
    let _ = parse_trace_command(data);
    assert!(whole(data, data.len() / 2) <= data.len());
    let (mut decoder, mut again) = (Decoder::new(), Decoder::new());
    let mut encoder = Encoder::new();
    let mut rest = data;
    while let Ok(Some((record, used))) = decoder.next(rest) {
        assert_eq!(frame(rest), Ok(Some(used)));
        if matches!(record, virgo_proto::trace::Record::Begin(_)) {
            (encoder, again) = (Encoder::new(), Decoder::new());
        }
        let mut room = [0; RECORD_MAX];
        let length = encoder.encode(&record, &mut room).expect("it fits");
        let (same, all) = again
            .next(&room[..length])
            .expect("a record")
            .expect("whole");
        assert_eq!((same, all), (record, length));
        rest = &rest[used..];
    }
});
