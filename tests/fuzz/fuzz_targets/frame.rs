// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Frames between nodes: whatever is whole is made again the same, byte for byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::crc::crc32c;
use virgo_proto::frame::{header, parse, Hello, Load, Parsed, HEADER, MAX_PAYLOAD};

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (mend, mut data) = input;
    if mend && data.len() >= HEADER {
        // With good checksums, so that what lies behind them is reached.
        data[..5].copy_from_slice(b"VRGO\x02");
        let length = u32::from_le_bytes([data[8], data[9], data[10], data[11]]) as usize;
        let end = data.len().min(HEADER.saturating_add(length));
        let sum = crc32c(&data[HEADER..end]);
        data[12..16].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32c(&data[..52]);
        data[52..56].copy_from_slice(&sum.to_le_bytes());
    }
    match parse(&data, MAX_PAYLOAD, crc32c) {
        Parsed::Whole(frame) => {
            let mut again = header(&frame.header, frame.payload, frame.tag.is_some(), crc32c)
                .expect("it was short enough")
                .to_vec();
            again.extend_from_slice(frame.payload);
            assert_eq!(again, frame.signed);
            again.extend(frame.tag.iter().copied().flatten());
            assert_eq!(again, data[..frame.taken]);
        }
        Parsed::Part(size) => assert!(size > data.len()),
        Parsed::Bad(_) => {}
    }
    if let Some(hello) = Hello::parse(&data) {
        assert_eq!(hello.to_bytes()[..], data);
    }
    if let Some(load) = Load::parse(&data) {
        assert_eq!(load.to_bytes()[..], data);
    }
});
