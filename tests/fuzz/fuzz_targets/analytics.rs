// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Files and streams of settings: whatever comes is read to its end, and in pieces as at once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::analytics::{
    parse_value, valid_key, valid_words, whole_items, Conf, Kind, VALUE_MAX,
};

fuzz_target!(|input: (u8, &[u8])| {
    let (number, data) = (u32::from(input.0), input.1);
    let mut line = 0;
    for item in Conf::new(data) {
        let at = match item {
            Ok(item) => {
                assert!(valid_key(item.key) && item.value.len() <= VALUE_MAX);
                if let Some(kind) = Kind::from_number(number % 5) {
                    let _ = parse_value(kind, (-9, 9), b"a|b", item.value);
                }
                item.line
            }
            Err(error) => error.line,
        };
        assert!(at >= line);
        line = at;
    }
    let _ = valid_words(data);
    let whole = whole_items(data);
    assert!(whole <= data.len());
    // What is whole stays so when more comes, and no fault is hidden or made by the cut.
    let all: Vec<_> = Conf::new(data).take_while(Result::is_ok).flatten().collect();
    for (one, other) in Conf::new(&data[..whole]).zip(&all) {
        if let Ok(one) = one {
            assert_eq!((one.key, one.value), (other.key, other.value));
        }
    }
});
