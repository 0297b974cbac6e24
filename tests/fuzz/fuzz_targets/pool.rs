// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the memory pools of a cluster's nodes ask one another for, and the answers: the first byte is the
//! operation, the rest is taken for its request, and for an answer of each kind.

#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use virgo_proto::pool::{counted, handle, number, parse, Map, Request, Sink, Taken, KEY_MAX};

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = Infallible;

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn check_key(key: &[u8]) {
    assert!(!key.is_empty() && key.len() <= KEY_MAX);
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    if let Ok(request) = parse(u32::from(*first), rest) {
        match &request {
            Request::Put { key, .. }
            | Request::Take { key, .. }
            | Request::Drop { key, .. }
            | Request::Count { key, .. } => check_key(key),
            _ => {}
        }
        // Written, it is the same bytes again.
        let mut bytes = Bytes(Vec::new());
        let Ok(()) = request.write(&mut bytes);
        assert_eq!(bytes.0, rest);
        assert!(rest.len() <= request.size());
    }
    let _ = (handle(rest), number(rest), counted(rest));
    if let Some(map) = Map::parse(rest) {
        assert_eq!(map.parts().count() * 16 + 16, rest.len());
        assert_eq!(map.chunk == 0, map.parts().next().is_none());
    }
    let capacity = usize::from(*first);
    if let Some(taken) = Taken::parse(rest, capacity) {
        assert_eq!(taken.value.is_some(), taken.length as usize <= capacity);
        let mut bytes = Bytes(Vec::new());
        let Ok(()) = taken.write(&mut bytes);
        assert_eq!(bytes.0, rest);
    }
});
