// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Messages of 9P2000.L, and the original's orders for files: whatever is understood can be
//! written, and is understood the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::files::{components, parse_order};
use virgo_proto::p9::{header, is_9p, parse, write_head, HEADER};

fuzz_target!(|data: &[u8]| {
    let _ = parse_order(data);
    if let Some(parts) = components(data) {
        for part in parts {
            assert!(!part.is_empty() && part != b"." && !part.contains(&b'/'));
        }
    }
    let _ = (is_9p(data), write_head(data));
    if let Ok((tag, request)) = parse(data) {
        let head = header(data).expect("a message has one");
        assert_eq!(head.tag, tag);
        let mut room = vec![0; data.len() + HEADER];
        let length = request.write(tag, &mut room).expect("it is no longer");
        assert_eq!(parse(&room[..length]), Ok((tag, request)));
    }
});
