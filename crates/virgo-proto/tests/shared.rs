// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Settings of the cluster come out as they went in, and nothing else comes out of anything.

use proptest::prelude::*;
use virgo_proto::shared::{Entries, Entry, ENTRY_MAX};

fn entry<'a>(key: &'a [u8], why: &'a [u8], text: &'a [u8]) -> Entry<'a> {
    Entry {
        stamp: 0x18d3_0000_0000_0001,
        node: 7,
        when_ns: 5,
        uid: 1000,
        pid: 12,
        comm: *b"virgo\0\0\0\0\0\0\0\0\0\0\0",
        gone: false,
        source: 1,
        key,
        why,
        text,
    }
}

#[test]
fn layout() {
    let mut place = [0xff; 80];
    let entry = entry(b"a.b", b"so", b"10");
    assert_eq!(entry.encode(&mut place), Some(59));
    assert_eq!(place[0..8], [1, 0, 0, 0, 0, 0, 0xd3, 0x18]);
    assert_eq!(place[16..20], [7, 0, 0, 0]);
    assert_eq!(place[28..36], [0, 1, 3, 2, 2, 0, 0, 0]);
    assert_eq!(place[52..59], *b"a.bso10");
    assert_eq!(Entry::parse(&place[..59]), Some((entry, &[][..])));
    assert!((0..59).all(|length| Entry::parse(&place[..length]).is_none()));
    assert!((0..59).all(|room| entry.encode(&mut [0; 59][..room]).is_none()));
}

#[test]
fn what_is_no_entry() {
    let mut place = [0; ENTRY_MAX];
    let good = entry(b"k", b"", b"v");
    assert!(good.is_sound());
    for bad in [
        Entry { stamp: 0, ..good },
        Entry { node: 0, ..good },
        Entry { key: b"", ..good },
        Entry {
            key: b"a b",
            ..good
        },
        Entry { why: b"\n", ..good },
        Entry {
            why: &[b'w'; 128],
            ..good
        },
        Entry {
            text: b"\x1b",
            ..good
        },
        Entry {
            text: &[b'v'; 4097],
            ..good
        },
        Entry { gone: true, ..good },
    ] {
        assert_eq!(bad.encode(&mut place), None, "{bad:?}");
    }
    let size = good.encode(&mut place).expect("it fits");
    for (at, value) in [(28, 2), (34, 1), (35, 1), (30, 0), (52, b' ')] {
        let mut bytes = place;
        bytes[at] = value;
        assert_eq!(Entry::parse(&bytes[..size]), None, "{at}");
    }
}

#[test]
fn the_later_wins() {
    let a = entry(b"k", b"", b"1");
    let later = Entry {
        stamp: a.stamp + 1,
        node: 1,
        ..a
    };
    let other = Entry { node: 8, ..a };
    let gone = Entry {
        gone: true,
        text: b"",
        ..a
    };
    let text = Entry { text: b"2", ..a };
    assert!(later.rank() > a.rank() && later.rank() > other.rank());
    assert!(other.rank() > a.rank() && gone.rank() > a.rank() && text.rank() > a.rank());
}

prop_compose! {
    fn any_entry()(
        stamp in 1..=u64::MAX, node in 1..=u32::MAX, when_ns: u64, uid: u32, pid: u32,
        comm: [u8; 16], gone: bool, source: u8,
        key in "[a-zA-Z0-9_.:/@-]{1,127}", why in "[ -~]{0,127}", text in "[ -~é]{0,200}",
    ) -> (u64, u32, u64, u32, u32, [u8; 16], bool, u8, String, String, String) {
        let text = if gone { String::new() } else { text };
        (stamp, node, when_ns, uid, pid, comm, gone, source, key, why, text)
    }
}

proptest! {
    #[test]
    fn entries_come_back(all in prop::collection::vec(any_entry(), 0..8)) {
        let mut bytes = Vec::new();
        let entries: Vec<Entry<'_>> = all
            .iter()
            .map(|(stamp, node, when_ns, uid, pid, comm, gone, source, key, why, text)| Entry {
                stamp: *stamp,
                node: *node,
                when_ns: *when_ns,
                uid: *uid,
                pid: *pid,
                comm: *comm,
                gone: *gone,
                source: *source,
                key: key.as_bytes(),
                why: why.as_bytes(),
                text: text.as_bytes(),
            })
            .collect();
        for entry in &entries {
            let mut place = [0; ENTRY_MAX];
            let size = entry.encode(&mut place).expect("it is sound");
            bytes.extend_from_slice(&place[..size]);
        }
        let back: Option<Vec<Entry<'_>>> = Entries::new(&bytes).collect();
        prop_assert_eq!(back, Some(entries));
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for entry in Entries::new(&bytes).flatten() {
            let mut place = [0; ENTRY_MAX];
            prop_assert!(entry.encode(&mut place).is_some());
        }
    }
}
