// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Bytes that no client sends: whatever comes, the others are served, nothing is left behind, and
//! the kernel has nothing to complain of (which tests/vm sees to).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use virgo_proto::p9::{kind, Lock, SetAttr};

use crate::*;

/// A session that does a little of everything, as the messages of a client.
fn session() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut push = |request: &Request<'_>| {
        let mut bytes = vec![0; 1024];
        let tag = if request.kind() == kind::VERSION {
            p9::NOTAG
        } else {
            all.len() as u16
        };
        let length = request.write(tag, &mut bytes).expect("room");
        bytes.truncate(length);
        all.push(bytes);
    };
    push(&Request::Version {
        msize: 65536,
        version: p9::VERSION,
    });
    push(&Request::Attach {
        fid: 0,
        afid: p9::NOFID,
        uname: b"u",
        aname: b"",
        n_uname: 0,
    });
    let walk = |fid, newfid, names: &[&[u8]]| {
        let mut bytes = vec![0; 256];
        let length = p9::write_walk(&mut bytes, 60, fid, newfid, names).expect("room");
        bytes.truncate(length);
        bytes
    };
    let mut walks = vec![
        walk(0, 1, &[]),
        walk(0, 2, &[b"f"]),
        walk(0, 3, &[b"..", b"d"]),
    ];
    push(&Request::Mkdir {
        dfid: 0,
        name: b"d",
        mode: 0o755,
        gid: 0,
    });
    let mut rest = Vec::new();
    {
        let mut push = |request: &Request<'_>| {
            let mut bytes = vec![0; 1024];
            let length = request
                .write(100 + rest.len() as u16, &mut bytes)
                .expect("room");
            bytes.truncate(length);
            rest.push(bytes);
        };
        push(&Request::Lcreate {
            fid: 1,
            name: b"f",
            flags: 2,
            mode: 0o644,
            gid: 0,
        });
        push(&Request::Write {
            fid: 1,
            offset: 0,
            data: b"some bytes",
        });
        push(&Request::Read {
            fid: 1,
            offset: 0,
            count: 100,
        });
        push(&Request::Fsync {
            fid: 1,
            datasync: 0,
        });
        let lock = Lock {
            kind: 1,
            flags: 0,
            start: 0,
            length: 10,
            proc_id: 1,
            client_id: b"c",
        };
        push(&Request::Lock { fid: 1, lock });
        push(&Request::GetLock { fid: 1, lock });
        push(&Request::GetAttr {
            fid: 0,
            mask: 0x7ff,
        });
        push(&Request::SetAttr {
            fid: 1,
            change: SetAttr {
                valid: 1 | 8 | 32,
                mode: 0o600,
                size: 5,
                ..SetAttr::default()
            },
        });
        push(&Request::StatFs { fid: 0 });
        push(&Request::Symlink {
            dfid: 0,
            name: b"l",
            target: b"f",
            gid: 0,
        });
        push(&Request::Link {
            dfid: 0,
            fid: 1,
            name: b"h",
        });
        push(&Request::RenameAt {
            old_dfid: 0,
            old_name: b"h",
            new_dfid: 0,
            new_name: b"i",
        });
        push(&Request::XattrWalk {
            fid: 0,
            newfid: 9,
            name: b"",
        });
        push(&Request::XattrCreate {
            fid: 9,
            name: b"user.x",
            size: 0,
            flags: 0,
        });
        push(&Request::Readdir {
            fid: 0,
            offset: 0,
            count: 1000,
        });
        push(&Request::Readlink { fid: 0 });
        push(&Request::Flush { oldtag: 3 });
        for name in [&b"f"[..], b"l", b"i"] {
            push(&Request::UnlinkAt {
                dfid: 0,
                name,
                flags: 0,
            });
        }
        push(&Request::UnlinkAt {
            dfid: 0,
            name: b"d",
            flags: 0x200,
        });
        push(&Request::Remove { fid: 3 });
        push(&Request::Clunk { fid: 1 });
    }
    all.append(&mut walks);
    all.append(&mut rest);
    all
}

/// Sends bytes, says that is all, and reads what comes until the end. False if the server did not
/// end it.
fn play(bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(HOST).expect("connect");
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    stream.set_write_timeout(Some(SOON)).expect("timeout");
    // The server may end it in the middle.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn still_serves() {
    attached()
        .call(&Request::GetAttr { fid: 0, mask: 0 })
        .expect("the others are served");
}

#[test]
fn the_session_itself_is_right() {
    let served = serve("");
    let mut c = virgo::files::Connection::open(HOST).expect("connect");
    let mut errors = Vec::new();
    let all = session();
    for message in &all {
        c.send(message).expect("send");
        let answer = c.receive().expect("receive");
        if answer[4] == kind::LERROR + 1 {
            errors.push((message[4], answer[p9::HEADER]));
        }
    }
    // Of thirty these alone fail, as they should: a readdir and a readlink of what is neither, ...
    let kinds: Vec<_> = errors.iter().map(|(kind, _)| *kind).collect();
    let expected = [
        kind::WALK,
        kind::XATTRCREATE,
        kind::READDIR,
        kind::READLINK,
        kind::REMOVE,
    ];
    assert_eq!(kinds, expected, "{errors:?}");
    assert_eq!(fs::read_dir(&served.root).expect("list").count(), 0);
}

#[test]
fn every_truncation() {
    let _served = serve("");
    let all = session().concat();
    for length in 0..all.len() {
        assert!(play(&all[..length]), "{length} bytes");
    }
    still_serves();
    nothing_held();
}

#[test]
fn every_bit_flip() {
    let _served = serve("");
    flips(if virgo_tests::long() { 1 } else { 5 });
    still_serves();
    nothing_held();
}

/// The session with a bit wrong, each `step`th of them.
pub(crate) fn flips(step: usize) {
    let all = session().concat();
    for bit in (0..all.len() * 8).step_by(step) {
        let mut bytes = all.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(play(&bytes), "bit {bit}");
    }
}

#[test]
fn every_size_and_type() {
    let _served = serve("");
    let begin = &session()[..2].concat();
    for size in [
        0,
        1,
        6,
        7,
        8,
        11,
        22,
        23,
        24,
        65535,
        65536,
        65537,
        1 << 20,
        1 << 31,
        u32::MAX - 1,
        u32::MAX,
    ] {
        for kind in [kind::WRITE, kind::READ, kind::WALK, kind::CLUNK] {
            let mut bytes = begin.clone();
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(&[kind, 1, 0]);
            bytes.extend_from_slice(&[0xff; 100]);
            assert!(play(&bytes), "size {size}, type {kind}");
        }
        // As the very first message.
        let mut bytes = size.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[kind::VERSION, 0xff, 0xff]);
        bytes.extend_from_slice(&[0xff; 100]);
        assert!(play(&bytes), "version of size {size}");
    }
    for kind in 0..=255 {
        for length in [7_u32, 11, 30, 100] {
            let mut bytes = begin.clone();
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&[kind, 1, 0]);
            bytes.resize(begin.len() + length as usize, 0xff);
            assert!(play(&bytes), "type {kind}, {length} bytes");
            bytes[begin.len() + 7..].fill(0);
            assert!(play(&bytes), "type {kind}, {length} bytes of nothing");
        }
    }
    still_serves();
    nothing_held();
}

#[test]
fn numbers_at_their_ends() {
    let served = serve("");
    fs::write(served.root.join("f"), b"text").expect("a file");
    chown(served.root.join("f"), Some(NOBODY), Some(NOBODY)).expect("chown");
    let mut c = attached();
    c.walk(0, 1, &[b"f"]).expect("walk");
    c.call(&Request::Lopen { fid: 1, flags: 2 }).expect("open");
    for offset in [1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX] {
        for count in [0, 1, 1 << 31, u32::MAX] {
            let read = Request::Read {
                fid: 1,
                offset,
                count,
            };
            match c.call(&read) {
                Ok(answer) => assert_eq!(answer.len(), p9::DATA_HEAD),
                Err(error) => assert_eq!(error.raw_os_error(), Some(EINVAL)),
            }
        }
        let write = Request::Write {
            fid: 1,
            offset,
            data: b"x",
        };
        if offset >= 1 << 62 {
            let error = errno(c.call(&write));
            assert!(matches!(error, EINVAL | 27), "{error}");
        }
        for length in [0, 1, 1 << 62, u64::MAX] {
            let lock = Lock {
                kind: 1,
                flags: 0,
                start: offset,
                length,
                proc_id: u32::MAX,
                client_id: b"",
            };
            // Some are locks, some are none; none is a fault.
            let _ = c.call(&Request::Lock { fid: 1, lock });
            let _ = c.call(&Request::GetLock { fid: 1, lock });
        }
    }
    c.walk(0, 2, &[]).expect("walk");
    c.call(&Request::Lopen { fid: 2, flags: 0 }).expect("open");
    for offset in [1, 2, 3, 77, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX] {
        let _ = c.call(&Request::Readdir {
            fid: 2,
            offset,
            count: 1000,
        });
    }
    for flags in [3, 0o40000, 0o20_000_000, u32::MAX] {
        c.walk(0, 3, &[b"f"]).expect("walk");
        let _ = c.call(&Request::Lopen { fid: 3, flags });
        c.call(&Request::Clunk { fid: 3 }).expect("clunk");
    }
    for fid in [p9::NOFID, 1 << 31] {
        c.walk(0, fid, &[]).expect("walk");
        c.call(&Request::Clunk { fid }).expect("clunk");
    }
    still_serves();
    drop(c);
    nothing_held();
}

#[test]
fn one_tag_for_two() {
    let served = serve("");
    fs::write(served.root.join("f"), [0; 10]).expect("a file");
    chown(served.root.join("f"), Some(NOBODY), Some(NOBODY)).expect("chown");
    let mut a = attached();
    a.walk(0, 1, &[b"f"]).expect("walk");
    a.call(&Request::Lopen { fid: 1, flags: 2 }).expect("open");
    let mut b = attached();
    b.walk(0, 1, &[b"f"]).expect("walk");
    b.call(&Request::Lopen { fid: 1, flags: 2 }).expect("open");
    let lock = |flags| Lock {
        kind: 1,
        flags,
        start: 0,
        length: 0,
        proc_id: 1,
        client_id: b"",
    };
    a.call(&Request::Lock {
        fid: 1,
        lock: lock(0),
    })
    .expect("lock");
    let mut waits = [0; 64];
    let length = Request::Lock {
        fid: 1,
        lock: lock(p9::LOCK_BLOCK),
    }
    .write(7, &mut waits)
    .expect("room");
    b.send(&waits[..length]).expect("send");
    let mut second = [0; 32];
    let length = Request::GetAttr { fid: 0, mask: 0 }
        .write(7, &mut second)
        .expect("room");
    b.send(&second[..length]).expect("send");
    let answer = b.receive().expect("receive");
    assert_eq!(answer[4], kind::LERROR + 1);
    assert_eq!(answer[p9::HEADER], EBUSY as u8);
    // The first is still to come.
    drop(a);
    let answer = b.receive().expect("receive");
    assert_eq!(answer[4], kind::LOCK + 1);
    drop(b);
    nothing_held();
}

/// Noise from a generator of its own, behind a right beginning.
#[test]
fn noise() {
    let _served = serve("");
    let begin = &session()[..2].concat();
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let rounds = if virgo_tests::long() { 20_000 } else { 500 };
    for round in 0..rounds {
        let mut bytes = if round % 3 == 0 {
            Vec::new()
        } else {
            begin.clone()
        };
        for _ in 0..random() % 20 {
            let length = 7 + (random() % 60) as usize;
            bytes.extend_from_slice(&(length as u32).to_le_bytes());
            let kinds = [
                8, 12, 14, 16, 20, 22, 24, 26, 30, 32, 40, 50, 52, 54, 70, 72, 74, 76, 108, 110,
                116, 118, 120, 122,
            ];
            bytes.push(kinds[random() as usize % kinds.len()]);
            for _ in 5..length {
                // Small numbers are fids, tags and lengths that mean something.
                let byte = random();
                bytes.push(if byte % 3 == 0 {
                    (byte >> 8) as u8
                } else {
                    (byte >> 8) as u8 % 4
                });
            }
        }
        assert!(play(&bytes), "round {round}");
    }
    still_serves();
    nothing_held();
}
