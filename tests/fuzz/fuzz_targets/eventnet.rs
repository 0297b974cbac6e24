// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! EventNet's messages, its journal, and the copying of its text file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::crc::crc32c_after;
use virgo_proto::eventlog::{decode, encode, Found, Id, Reader};
use virgo_proto::eventnet::{parse, Extender, More, Out};

struct Text(Vec<u8>);

impl Out for Text {
    type Error = ();
    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = parse(data);
    let _ = Id::parse(data);
    let mut reader = Reader::new(data, 0, crc32c_after);
    while reader.next().is_some() {}
    // With a checksum that fits everything the content is looked at too.
    if let Found::Record(record, size) = decode(data, |_, _| 0) {
        let mut room = vec![0; 20_000];
        assert_eq!(encode(&record, |_, _| 0, &mut room), Some(size));
        assert_eq!(decode(&room[..size], |_, _| 0), Found::Record(record, size));
    }
    // However it is cut, the copy is the same.
    let cut = data.first().map_or(1, |byte| usize::from(*byte) + 1);
    let copy = |cut: usize| {
        let (mut extender, mut out) = (Extender::new(), Text(Vec::new()));
        let mut more = |id: &[u8]| {
            (id.len() % 2 == 1).then_some(More {
                partakers: b",x",
                conversations: b"#(x)",
            })
        };
        for piece in data.chunks(cut) {
            extender.copy(piece, &mut more, &mut out).expect("room");
        }
        out.0
    };
    assert_eq!(copy(cut), copy(data.len().max(1)));
});
