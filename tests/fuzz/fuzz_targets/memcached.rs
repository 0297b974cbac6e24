// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! memcached's requests.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::memcached::{
    decode_base64, encode_base64, number, quick_get, step, Meta, MetaVerb, Request, Step,
    KEYS_LINE_MAX, KEY_MAX, LINE_MAX,
};

fn check_key(key: &[u8]) {
    assert!(!key.is_empty() && key.len() <= KEY_MAX);
    assert!(!key.contains(&b' ') && !key.contains(&b'\n'));
}

fn check_meta(meta: &Meta<'_>) {
    check_key(meta.key);
    let mut room = [0; KEY_MAX];
    let plain = meta.plain_key(&mut room);
    assert!(!plain.is_empty() && plain.len() <= KEY_MAX);
}

fn check_flags(meta: &Meta<'_>) {
    let mut seen = [false; 127];
    for word in meta.flags {
        let seen = &mut seen[usize::from(word[0])];
        assert!(!*seen, "a flag is there twice");
        *seen = true;
    }
}

fn check(request: &Request<'_>) {
    match request {
        Request::Get { keys, .. } => { *keys }.for_each(check_key),
        Request::Store { key, length, .. } => {
            check_key(key);
            assert!(*length <= i32::MAX as usize);
        }
        Request::Delete { key, .. } | Request::Count { key, .. } | Request::Touch { key, .. } => {
            check_key(key);
        }
        Request::Meta(verb, meta) => {
            check_meta(meta);
            // The words behind the key say nothing to "me", as with memcached.
            if *verb != MetaVerb::Debug {
                check_flags(meta);
            }
        }
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    if data.is_empty() {
        return;
    }
    if let Some((keys, taken)) = quick_get(data) {
        let Step::Whole(
            Request::Get {
                keys: own,
                cas: false,
                touch: None,
            },
            bytes,
        ) = step(data)
        else {
            panic!("it is no plain get");
        };
        assert!(bytes == taken && keys.eq(own));
    }
    match step(data) {
        Step::Whole(request, taken) => {
            assert!(taken > 0 && taken <= data.len());
            check(&request);
            // What follows does not change it.
            assert_eq!(step(&data[..taken]), Step::Whole(request, taken));
        }
        Step::Wrong {
            answer,
            taken,
            swallow,
            ..
        } => {
            assert!(taken > 0 && taken <= data.len());
            assert!(answer.ends_with(b"\r\n") && swallow <= i32::MAX as usize);
        }
        Step::Part => assert!(!data.contains(&b'\n') && data.len() < KEYS_LINE_MAX + 2),
        Step::TooLong => assert!(data.len() > LINE_MAX),
        Step::Binary => {}
    }
    if let Some(value) = number(data) {
        assert_eq!(number(value.to_string().as_bytes()), Some(value));
    }
    let mut room = [0; 512];
    if let Some(bytes) = decode_base64(data, &mut room) {
        let mut text = [0; 1024];
        let text = encode_base64(bytes, &mut text).expect("there is room");
        let mut again = [0; 512];
        assert_eq!(decode_base64(text, &mut again), Some(bytes));
    }
});
