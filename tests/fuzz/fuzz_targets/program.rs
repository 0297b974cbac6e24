// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What nodes send one another about programs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::program::{
    are_arguments, counter, first, is_path, is_program_name, number, Follow, Progress, Start,
    FOLLOW, PROGRESS, START_HEADER,
};

fuzz_target!(|data: &[u8]| {
    if let Some(start) = Start::parse(data) {
        assert_eq!(data.len(), START_HEADER + start.arguments.len() + start.input.len());
        assert!(are_arguments(start.arguments));
        assert!(!first(start.arguments).is_empty());
        let length = u32::try_from(start.arguments.len()).expect("bounded");
        assert_eq!(Start::header(&start.limits, length), data[..START_HEADER]);
    }
    if let Some(follow) = Follow::parse(data) {
        assert_eq!(data.len(), FOLLOW);
        assert_eq!(follow.encode(), data);
    }
    if let Some((progress, out, err)) = Progress::parse(data) {
        assert_eq!(data.len(), PROGRESS + out.len() + err.len());
        assert_eq!(progress.encode(), data[..PROGRESS]);
    }
    if is_path(data) {
        assert!(data[0] == b'/' && !data.ends_with(b"/..") && !data.contains(&0));
    }
    if is_program_name(data) {
        assert!(!data.contains(&b'/'));
    }
    let _ = (counter(data, b"usage_usec"), number(data));
});
