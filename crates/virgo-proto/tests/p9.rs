// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! 9P2000.L: what is written is read back, and any bytes are a message or none.

use proptest::prelude::*;
use virgo_proto::p9::{
    data_head, header, is_9p, is_entry_name, kind, parse, write_error, write_head, write_walk,
    Attr, Entry, Header, Lock, Malformed, Qid, Reader, Request, SetAttr, StatFs, Time, WriteHead,
    Writer, DATA_HEAD, ENTRY_HEAD, HEADER, IO_HEADER, MAX_WALK, NOTAG, VERSION,
};

/// A request of every type.
fn requests<'a>(a: u32, b: u64, text: &'a [u8], other: &'a [u8]) -> Vec<Request<'a>> {
    let time = |sec, nsec| Time { sec, nsec };
    let lock = Lock {
        kind: 1,
        flags: a,
        start: b,
        length: b ^ 1,
        proc_id: a,
        client_id: text,
    };
    vec![
        Request::Version {
            msize: a,
            version: text,
        },
        Request::Auth {
            afid: a,
            uname: text,
            aname: other,
            n_uname: a,
        },
        Request::Attach {
            fid: a,
            afid: 1,
            uname: text,
            aname: other,
            n_uname: a,
        },
        Request::Flush { oldtag: a as u16 },
        Request::Read {
            fid: a,
            offset: b,
            count: a,
        },
        Request::Write {
            fid: a,
            offset: b,
            data: text,
        },
        Request::Clunk { fid: a },
        Request::Remove { fid: a },
        Request::StatFs { fid: a },
        Request::Lopen { fid: a, flags: a },
        Request::Lcreate {
            fid: a,
            name: text,
            flags: 1,
            mode: 2,
            gid: a,
        },
        Request::Symlink {
            dfid: a,
            name: text,
            target: other,
            gid: 3,
        },
        Request::Mknod {
            dfid: a,
            name: text,
            mode: 1,
            major: 2,
            minor: 3,
            gid: 4,
        },
        Request::Rename {
            fid: a,
            dfid: 1,
            name: text,
        },
        Request::Readlink { fid: a },
        Request::GetAttr { fid: a, mask: b },
        Request::SetAttr {
            fid: a,
            change: SetAttr {
                valid: 1,
                mode: 2,
                uid: 3,
                gid: 4,
                size: b,
                atime: time(5, 6),
                mtime: time(b, 8),
            },
        },
        Request::XattrWalk {
            fid: a,
            newfid: 1,
            name: text,
        },
        Request::XattrCreate {
            fid: a,
            name: text,
            size: b,
            flags: 2,
        },
        Request::Readdir {
            fid: a,
            offset: b,
            count: 9,
        },
        Request::Fsync {
            fid: a,
            datasync: 1,
        },
        Request::Lock { fid: a, lock },
        Request::GetLock {
            fid: a,
            lock: Lock { flags: 0, ..lock },
        },
        Request::Link {
            dfid: a,
            fid: 2,
            name: text,
        },
        Request::Mkdir {
            dfid: a,
            name: text,
            mode: 3,
            gid: 4,
        },
        Request::RenameAt {
            old_dfid: a,
            old_name: text,
            new_dfid: 5,
            new_name: other,
        },
        Request::UnlinkAt {
            dfid: a,
            name: text,
            flags: 0x200,
        },
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        a: u32, b: u64, tag: u16,
        text in proptest::collection::vec(any::<u8>(), 0..300),
        other in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for request in requests(a, b, &text, &other) {
            let mut buffer = vec![0; 2000];
            let length = request.write(tag, &mut buffer).unwrap();
            let message = &buffer[..length];
            let expected = Header { size: length as u32, kind: request.kind(), tag };
            prop_assert_eq!(header(message), Some(expected));
            prop_assert_eq!(parse(message), Ok((tag, request)));
            // Not one byte less, and not one more; but Linux's last word of an fsync.
            for cut in HEADER..length {
                let short = parse(&message[..cut]);
                let may = matches!(request, Request::Fsync { .. }) && cut == length - 4;
                prop_assert_eq!(short.is_ok(), may, "{:?} cut at {}", request, cut);
            }
            prop_assert!(request.write(tag, &mut vec![0; length - 1]).is_err());
            buffer.truncate(length + 1);
            prop_assert_eq!(parse(&buffer), Err(Malformed::Trailing));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = header(&bytes);
        let _ = is_9p(&bytes);
        let _ = write_head(&bytes);
        if let Ok((tag, request)) = parse(&bytes) {
            // What was understood is what comes out again, but for the size, which is not looked at
            // here, and the fsync's word.
            let mut buffer = vec![0; bytes.len() + 4];
            let length = request.write(tag, &mut buffer).unwrap();
            let fsync = matches!(request, Request::Fsync { .. });
            prop_assert!(fsync || length == bytes.len());
            if length == bytes.len() {
                prop_assert_eq!(&buffer[4..length], &bytes[4..]);
            }
        }
    }

    #[test]
    fn every_type_of_noise(kind: u8, bytes in proptest::collection::vec(0..4_u8, 0..120)) {
        let mut message = vec![0, 0, 0, 0, kind, 0, 0];
        message.extend_from_slice(&bytes);
        let _ = parse(&message);
    }

    #[test]
    fn walks(
        fid: u32, newfid: u32, tag: u16,
        names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20),
    ) {
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let mut buffer = vec![0; 1000];
        let length = write_walk(&mut buffer, tag, fid, newfid, &names).unwrap();
        match parse(&buffer[..length]) {
            Ok((_, Request::Walk { fid: f, newfid: n, names: all })) => {
                prop_assert!(names.len() <= MAX_WALK);
                prop_assert_eq!((f, n, all.count()), (fid, newfid, names.len()));
                prop_assert_eq!(all.iter().collect::<Vec<_>>(), names);
            }
            other => {
                prop_assert!(names.len() > MAX_WALK);
                prop_assert_eq!(other, Err(Malformed::TooManyNames));
            }
        }
    }

    #[test]
    fn answers(a: u32, b: u64, name in proptest::collection::vec(any::<u8>(), 0..300)) {
        let qid = Qid { kind: 0x80, version: a, path: b };
        let time = Time { sec: b, nsec: 7 };
        let attr = Attr {
            valid: b, qid, mode: a, uid: 1, gid: 2, nlink: 3, rdev: 4, size: 5, blksize: 6,
            blocks: b, atime: time, mtime: time, ctime: time, btime: time, generation: 8,
            data_version: 9,
        };
        let stat = StatFs {
            kind: a, bsize: 1, blocks: 2, bfree: 3, bavail: 4, files: 5, ffree: 6, fsid: b, namelen: 7,
        };
        let mut buffer = [0; 256];
        let mut w = Writer::new(&mut buffer, kind::GETATTR + 1, 5);
        w.attr(&attr);
        w.statfs(&stat);
        let length = w.finish().unwrap();
        let mut r = Reader(&buffer[HEADER..length]);
        prop_assert_eq!((r.attr(), r.statfs(), r.end()), (Ok(attr), Ok(stat), Ok(())));
        let entry = Entry { qid, offset: b, kind: 8, name: &name };
        let mut bytes = entry.head().unwrap().to_vec();
        bytes.extend_from_slice(&name);
        prop_assert_eq!(bytes.len(), Entry::size(name.len()));
        prop_assert_eq!(Reader(&bytes).entry(), Ok(entry));
    }
}

#[test]
fn heads() {
    assert_eq!(ENTRY_HEAD, 24);
    let head = data_head(kind::READ + 1, 0x0102, 5).expect("it fits");
    assert_eq!(head, [16, 0, 0, 0, 117, 2, 1, 5, 0, 0, 0]);
    assert_eq!(head.len(), DATA_HEAD);
    assert_eq!(data_head(kind::READ + 1, 0, u32::MAX as usize), None);
    assert_eq!(data_head(kind::READ + 1, 0, usize::MAX), None);
    let mut buffer = [0; 100];
    let request = Request::Write {
        fid: 7,
        offset: 8,
        data: b"data",
    };
    let length = request.write(1, &mut buffer).expect("room");
    let expected = WriteHead {
        fid: 7,
        offset: 8,
        count: 4,
    };
    assert_eq!(write_head(&buffer[..IO_HEADER]), Some(expected));
    assert_eq!(write_head(&buffer[..IO_HEADER - 1]), None);
    // A count that the message has no room for.
    buffer[0] = length as u8 + 1;
    assert_eq!(write_head(&buffer), None);
    assert_eq!(write_error(&mut buffer, 3, 28), Ok(11));
    assert_eq!(&buffer[..11], [11, 0, 0, 0, 7, 3, 0, 28, 0, 0, 0]);
    assert!(write_error(&mut buffer[..10], 3, 28).is_err());
}

#[test]
fn text_is_told_from_9p() {
    let mut buffer = [0; 64];
    let request = Request::Version {
        msize: 8192,
        version: VERSION,
    };
    let length = request.write(NOTAG, &mut buffer).expect("room");
    for cut in 0..length {
        let expected = if cut < HEADER { None } else { Some(true) };
        assert_eq!(is_9p(&buffer[..cut]), expected, "{cut} bytes");
    }
    let line = b"virgo_cloud_open(/a)\r\n";
    for cut in 0..line.len() {
        assert_ne!(is_9p(&line[..cut]), Some(true), "{cut} bytes");
    }
    assert_eq!(is_9p(b"\n"), Some(false));
}

#[test]
fn names_of_entries() {
    for good in [&b"a"[..], b"...", b".a", b"a b\xff", b"-"] {
        assert!(is_entry_name(good), "{good:?}");
    }
    for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
        assert!(!is_entry_name(bad), "{bad:?}");
    }
}
