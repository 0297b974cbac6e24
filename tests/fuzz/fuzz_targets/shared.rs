// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Settings of the cluster, as other nodes send them: whatever is one is made again the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::shared::{Entries, Entry, ENTRY_MAX};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Some((entry, behind)) = Entry::parse(rest) {
        let mut place = [0; ENTRY_MAX];
        let size = entry.encode(&mut place).expect("it is sound");
        assert_eq!(place[..size], rest[..rest.len() - behind.len()]);
        rest = behind;
    }
    assert!(Entries::new(data).count() <= data.len());
});
