// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The words of port 30000 for blocks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::mem::{handle, handle_text, parse, step, Request, Step, LINE_MAX};

/// A request written plainly.
fn plain(request: Request<'_>) -> Vec<u8> {
    let hex = |vuid| String::from_utf8_lossy(&handle_text(&vuid)).into_owned();
    let text = match request {
        Request::Malloc(length) => format!("malloc({length})"),
        Request::SetAt(vuid, offset, length) => format!("set({},{offset},{length})", hex(vuid)),
        Request::Get(vuid) => format!("get({})", hex(vuid)),
        Request::GetAt(vuid, offset, length) => format!("get({},{offset},{length})", hex(vuid)),
        Request::Free(vuid) => format!("free({})", hex(vuid)),
        Request::Set(vuid, text) => {
            let mut all = format!("virgo_cloud_set({},", hex(vuid)).into_bytes();
            all.extend_from_slice(text);
            all.push(b')');
            return all;
        }
    };
    format!("virgo_cloud_{text}").into_bytes()
}

fuzz_target!(|data: &[u8]| {
    match step(data) {
        Step::Whole(request, taken) => {
            assert!(taken > 0 && taken <= data.len());
            // What follows does not change it.
            assert_eq!(step(&data[..taken]), Step::Whole(request, taken));
            if let Ok(request) = request {
                assert_eq!(parse(&plain(request)), Ok(request));
            }
        }
        Step::Part => assert!(!data.contains(&b'\n') && data.len() < LINE_MAX + 2),
        Step::TooLong => assert!(data.len() > LINE_MAX),
    }
    if let Ok(vuid) = handle(data) {
        assert_eq!(handle(&handle_text(&vuid)), Ok(vuid));
    }
});
