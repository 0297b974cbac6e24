// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Lines at the front of a stream: against the plainest way to say the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::lines::{find_lf, line, Line};

fuzz_target!(|input: (u8, &[u8])| {
    let (max, data) = (usize::from(input.0), input.1);
    let lf = data.iter().position(|byte| *byte == b'\n');
    assert_eq!(find_lf(data), lf);
    match line(data, max) {
        Line::Whole { text, taken } => {
            assert_eq!(Some(taken - 1), lf);
            let whole = &data[..taken - 1];
            assert_eq!(text, whole.strip_suffix(b"\r").unwrap_or(whole));
            assert!(text.len() <= max);
        }
        // More bytes could still make a line that is short enough.
        Line::Part => {
            assert_eq!(lf, None);
            assert!(data.strip_suffix(b"\r").unwrap_or(data).len() <= max);
        }
        Line::TooLong => {
            let whole = &data[..lf.unwrap_or(data.len())];
            assert!(whole.strip_suffix(b"\r").unwrap_or(whole).len() > max);
        }
    }
});
