// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The words of port 10000, whole and in two parts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::call::{front, is_name, parse, parse_remote, Front};

fuzz_target!(|data: &[u8]| {
    match front(data) {
        Front::Request(text, taken) => {
            assert!(text.len() < taken && taken <= data.len());
            assert_eq!(text, &data[..text.len()]);
            // With one byte less it is not whole yet.
            assert_eq!(front(&data[..taken - 1]), Front::Part);
            if let Some(call) = parse(text) {
                assert!(is_name(call.name) && call.input.len() <= text.len());
            }
        }
        Front::Skip(count) => assert!(0 < count && count <= data.len()),
        Front::Part => assert!(!data.contains(&b'\n') && !data.contains(&0)),
        Front::TooLong => {}
    }
    if let Some(call) = parse_remote(data) {
        assert_eq!(data.len(), 1 + call.name.len() + call.input.len());
    }
});
