// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The 9P door, message by message.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::time::Duration;

use virgo::files::{open, Connection};
use virgo_proto::p9::{self, kind, Lock, Reader, Request, SetAttr};

use crate::*;

#[test]
fn the_version_is_agreed_on() {
    let _served = serve("msize=65536");
    let mut connection = Connection::open(HOST).expect("connect");
    assert_eq!(connection.version(1 << 30).expect("version"), 65536);
    // Anew, and shorter.
    assert_eq!(connection.version(8192).expect("version"), 8192);
    let mut other = Connection::open(HOST).expect("connect");
    let error = other.version(100).expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for version in [&b"9P2000"[..], b"9P2000.u", b"", b"9P2000.L2"] {
        let mut connection = Connection::open(HOST).expect("connect");
        let mut bytes = [0; 64];
        let request = Request::Version {
            msize: 8192,
            version,
        };
        let length = request.write(p9::NOTAG, &mut bytes).expect("room");
        connection.send(&bytes[..length]).expect("send");
        let answer = connection.receive().expect("receive");
        let mut r = Reader(&answer[p9::HEADER..]);
        assert_eq!((r.u32(), r.string()), (Ok(8192), Ok(p9::UNKNOWN)));
        // There is no session: whatever comes next ends it.
        let request = Request::Clunk { fid: 0 };
        assert!(connection.call(&request).is_err());
    }
}

#[test]
fn a_new_version_forgets_the_old_session() {
    let _served = serve("");
    let mut connection = attached();
    assert_eq!(number("handles"), 1);
    connection.version(8192).expect("version");
    assert_eq!(
        errno(connection.call(&Request::GetAttr { fid: 0, mask: 0 })),
        EBADF
    );
    nothing_held();
}

#[test]
fn files_are_written_and_read() {
    let served = serve("");
    let tree = tree();
    tree.mkdir("/a", 0o755).expect("mkdir");
    let flags = open::RDWR | open::CREATE;
    let mut file = tree.open("/a/file", flags, 0o644).expect("create");
    let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&data).expect("write");
    file.sync().expect("sync");
    assert!(fs::read(served.root.join("a/file")).expect("read") == data);
    file.seek(SeekFrom::Start(0)).expect("seek");
    let mut back = Vec::new();
    file.read_to_end(&mut back).expect("read");
    assert!(back == data, "{} of {} bytes", back.len(), data.len());
    file.seek(SeekFrom::End(-4)).expect("seek");
    let mut last = [0; 4];
    file.read_exact(&mut last).expect("read");
    assert_eq!(last, 2_999_999_u32.to_le_bytes());
    file.set_len(5).expect("truncate");
    assert_eq!(file.metadata().expect("stat").size(), 5);
    assert_eq!(file.read_at(&mut [0; 9], 100).expect("past the end"), 0);
    drop(file);

    tree.rename("/a/file", "/b").expect("rename");
    tree.hard_link("/b", "/a/c").expect("link");
    assert_eq!(tree.metadata("/b").expect("stat").attr().nlink, 2);
    tree.symlink("../b", "/a/d").expect("symlink");
    assert_eq!(tree.read_link("/a/d").expect("readlink"), "../b");
    assert!(tree.metadata("/a/d").expect("stat").is_symlink());
    assert_eq!(errno(tree.open("/a/d", 0, 0)), ELOOP);
    assert_eq!(errno(tree.read_link("/b")), EINVAL);
    tree.set_mode("/b", 0o600).expect("chmod");
    assert_eq!(tree.metadata("/b").expect("stat").mode(), 0o100_600);
    let mut names: Vec<_> = tree.read_dir("/a").expect("readdir");
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let list: Vec<_> = names.iter().map(|e| (e.name.to_str(), e.kind)).collect();
    assert_eq!(list, [(Some("c"), 8), (Some("d"), 10)]);
    assert_eq!(errno(tree.remove_dir("/a")), 39);
    assert_eq!(errno(tree.remove_file("/a")), EISDIR);
    assert_eq!(errno(tree.remove_dir("/b")), ENOTDIR);
    for path in ["/a/c", "/a/d", "/b"] {
        tree.remove_file(path).expect(path);
    }
    tree.remove_dir("/a").expect("rmdir");
    assert_eq!(fs::read_dir(&served.root).expect("list").count(), 0);
    assert!(tree.statfs("/").expect("statfs").blocks > 0);
    drop(tree);
    nothing_held();
}

#[test]
fn fids_and_tags_are_looked_at() {
    let served = serve("");
    fs::create_dir(served.root.join("d")).expect("mkdir");
    fs::write(served.root.join("f"), b"text").expect("a file");
    let mut c = attached();
    let attr = |fid| Request::GetAttr { fid, mask: 0 };
    assert_eq!(errno(c.call(&attr(7))), EBADF);
    assert_eq!(errno(c.call(&Request::Clunk { fid: 7 })), EBADF);
    assert_eq!(errno(attach(&mut c, 0)), EBADF);
    // A number that is in use is not taken away from who has it.
    c.walk(0, 1, &[b"d"]).expect("walk");
    assert_eq!(errno(c.walk(0, 1, &[b"f"])), EBADF);
    // From a file nothing leads on, and a part of a way is no way.
    c.walk(0, 2, &[b"f"]).expect("walk");
    assert_eq!(errno(c.walk(2, 3, &[b"f"])), ENOTDIR);
    assert_eq!(errno(c.walk(0, 3, &[b"d", b"none"])), ENOENT);
    assert_eq!(errno(c.call(&attr(3))), EBADF);
    // To itself.
    c.walk(1, 1, &[b"..", b"f"]).expect("walk");
    c.call(&Request::Lopen { fid: 1, flags: 0 }).expect("open");
    assert_eq!(errno(c.call(&Request::Lopen { fid: 1, flags: 0 })), EBADF);
    let read = |fid| Request::Read {
        fid,
        offset: 0,
        count: 10,
    };
    assert_eq!(&c.call(&read(1)).expect("read")[p9::DATA_HEAD..], b"text");
    assert_eq!(errno(c.call(&read(2))), EBADF);
    let write = Request::Write {
        fid: 1,
        offset: 0,
        data: b"x",
    };
    assert_eq!(errno(c.call(&write)), EBADF);
    // A clunked one is gone, and its number free.
    c.call(&Request::Clunk { fid: 1 }).expect("clunk");
    assert_eq!(errno(c.call(&read(1))), EBADF);
    c.walk(0, 1, &[]).expect("clone");
    // Removing what cannot be removed lets the fid go all the same.
    assert_eq!(errno(c.call(&Request::Remove { fid: 1 })), EBUSY);
    assert_eq!(errno(c.call(&Request::Clunk { fid: 1 })), EBADF);
    c.call(&Request::Remove { fid: 2 }).expect("remove");
    assert!(!served.root.join("f").exists());
    // Names that are none.
    for (name, expected) in [
        (&b""[..], EINVAL),
        (b".", EINVAL),
        (b"a/b", EINVAL),
        (b"a\0b", EINVAL),
        (&[b'n'; 256], ENAMETOOLONG),
        (&[b'n'; 65535], EMSGSIZE),
    ] {
        let mut big = Connection::connect(HOST, 1 << 20).expect("connect");
        attach(&mut big, 0).expect("attach");
        let expected = if name.len() == 65535 {
            ENAMETOOLONG
        } else {
            expected
        };
        assert_eq!(
            errno(big.walk(0, 9, &[name])),
            expected,
            "{} bytes",
            name.len()
        );
        let mkdir = Request::Mkdir {
            dfid: 0,
            name,
            mode: 0o755,
            gid: 0,
        };
        assert_eq!(errno(big.call(&mkdir)), expected, "{} bytes", name.len());
    }
    let dotdot = Request::Mkdir {
        dfid: 0,
        name: b"..",
        mode: 0o755,
        gid: 0,
    };
    assert_eq!(errno(c.call(&dotdot)), EINVAL);
    // Authentication is not needed, and an answer says so.
    let auth = Request::Auth {
        afid: 5,
        uname: b"",
        aname: b"",
        n_uname: 0,
    };
    assert_eq!(errno(c.call(&auth)), EOPNOTSUPP);
    let mut unknown = vec![0; 11];
    unknown[0] = 11;
    unknown[4] = 200;
    c.send(&unknown).expect("send");
    let answer = c.receive().expect("receive");
    assert_eq!(answer[4], kind::LERROR + 1);
}

#[test]
fn requests_under_way_are_answered_in_any_number() {
    let served = serve("");
    fs::write(served.root.join("f"), b"text").expect("a file");
    let mut c = attached();
    // Many more than are worked on at a time.
    let count = 1000_u16;
    let mut all = Vec::new();
    for tag in 0..count {
        let mut bytes = [0; 32];
        let length = Request::GetAttr { fid: 0, mask: 0 }
            .write(tag, &mut bytes)
            .expect("room");
        all.extend_from_slice(&bytes[..length]);
    }
    c.send(&all).expect("send");
    let mut seen = vec![false; usize::from(count)];
    for _ in 0..count {
        let answer = c.receive().expect("receive");
        assert_eq!(answer[4], kind::GETATTR + 1);
        let tag = p9::header(&answer).expect("a header").tag;
        assert!(
            !std::mem::replace(&mut seen[usize::from(tag)], true),
            "{tag} twice"
        );
    }
}

#[test]
fn attributes_change_as_by_system_calls() {
    let served = serve("");
    let tree = tree();
    drop(
        tree.open("/f", open::WRONLY | open::CREATE, 0o644)
            .expect("create"),
    );
    let stat = || *tree.metadata("/f").expect("stat").attr();
    let set = |change: SetAttr| tree.change("/f", &change);
    let time = |sec, nsec| p9::Time { sec, nsec };
    set(SetAttr {
        valid: 16 | 32 | 128 | 256,
        atime: time(1_000_000, 5),
        mtime: time(2_000_000, 6),
        ..SetAttr::default()
    })
    .expect("utimes");
    assert_eq!(
        (stat().atime, stat().mtime),
        (time(1_000_000, 5), time(2_000_000, 6))
    );
    set(SetAttr {
        valid: 32,
        ..SetAttr::default()
    })
    .expect("touch");
    assert!(stat().mtime.sec > 1_700_000_000 && stat().atime.sec == 1_000_000);
    set(SetAttr {
        valid: 8,
        size: 4_000_000_000,
        ..SetAttr::default()
    })
    .expect("truncate");
    assert_eq!(stat().size, 4_000_000_000);
    for change in [
        SetAttr {
            valid: 8,
            size: 1 << 63,
            ..SetAttr::default()
        },
        SetAttr {
            valid: 1 << 20,
            ..SetAttr::default()
        },
        SetAttr {
            valid: 16 | 128,
            atime: time(0, 1_000_000_000),
            ..SetAttr::default()
        },
        SetAttr {
            valid: 32 | 256,
            mtime: time(0, u64::MAX),
            ..SetAttr::default()
        },
    ] {
        assert_eq!(errno(set(change)), EINVAL, "{change:?}");
    }
    assert_eq!(
        errno(tree.change(
            "/",
            &SetAttr {
                valid: 8,
                ..SetAttr::default()
            }
        )),
        EISDIR
    );
    assert!(served.root.exists());
}

#[test]
fn extended_attributes_come_and_go() {
    let served = serve("");
    fs::write(served.root.join("f"), b"").expect("a file");
    chown(served.root.join("f"), Some(NOBODY), Some(NOBODY)).expect("chown");
    let mut c = attached();
    let get = |c: &mut Connection, name: &[u8]| -> std::io::Result<Vec<u8>> {
        c.walk(0, 1, &[b"f"])?;
        let walk = Request::XattrWalk {
            fid: 1,
            newfid: 2,
            name,
        };
        let size = c.call(&walk).map(|a| Reader(&a[p9::HEADER..]).u64());
        c.call(&Request::Clunk { fid: 1 })?;
        let size = size?.expect("a size");
        let read = Request::Read {
            fid: 2,
            offset: 0,
            count: 60000,
        };
        let value = c.call(&read)?[p9::DATA_HEAD..].to_vec();
        assert_eq!(value.len() as u64, size);
        c.call(&Request::Clunk { fid: 2 })?;
        Ok(value)
    };
    let set = |c: &mut Connection, name: &[u8], value: &[u8], flags| -> std::io::Result<()> {
        c.walk(0, 1, &[b"f"])?;
        let create = Request::XattrCreate {
            fid: 1,
            name,
            size: value.len() as u64,
            flags,
        };
        if let Err(error) = c.call(&create) {
            c.call(&Request::Clunk { fid: 1 })?;
            return Err(error);
        }
        for (at, part) in value.chunks(700).enumerate() {
            let write = Request::Write {
                fid: 1,
                offset: (at * 700) as u64,
                data: part,
            };
            c.call(&write)?;
        }
        c.call(&Request::Clunk { fid: 1 }).map(drop)
    };
    assert_eq!(errno(get(&mut c, b"user.a")), ENODATA);
    assert_eq!(get(&mut c, b"").expect("list"), b"");
    let long = [7; 3000];
    set(&mut c, b"user.a", &long, 0).expect("set");
    set(&mut c, b"user.b", b"", 0).expect("set to nothing");
    assert_eq!(get(&mut c, b"user.a").expect("get"), long);
    assert_eq!(get(&mut c, b"user.b").expect("get"), b"");
    let list = get(&mut c, b"").expect("list");
    let mut names: Vec<_> = list.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    names.sort();
    assert_eq!(names, [&b"user.a"[..], b"user.b"]);
    assert_eq!(errno(set(&mut c, b"user.a", b"x", 1)), EEXIST);
    assert_eq!(errno(set(&mut c, b"user.c", b"x", 2)), ENODATA);
    // How Linux removes one.
    set(&mut c, b"user.a", b"", 2).expect("remove");
    assert_eq!(errno(get(&mut c, b"user.a")), ENODATA);
    // Not a user's to set.
    assert_eq!(errno(set(&mut c, b"trusted.a", b"x", 0)), EPERM);
    assert_eq!(errno(set(&mut c, b"security.a", b"x", 0)), EPERM);
    assert_eq!(errno(set(&mut c, b"user.a", &[0; 65537], 0)), 7);
    // Less than was announced is nothing.
    c.walk(0, 1, &[b"f"]).expect("walk");
    let create = Request::XattrCreate {
        fid: 1,
        name: b"user.d",
        size: 10,
        flags: 0,
    };
    c.call(&create).expect("create");
    assert_eq!(errno(c.call(&Request::Clunk { fid: 1 })), EINVAL);
    assert_eq!(errno(get(&mut c, b"user.d")), ENODATA);
    drop(c);
    nothing_held();
}

fn lock(kind: u8, flags: u32, start: u64, length: u64, proc_id: u32) -> Lock<'static> {
    Lock {
        kind,
        flags,
        start,
        length,
        proc_id,
        client_id: b"test",
    }
}

/// A connection with fid 1 open at a file.
fn opened(flags: u32) -> Connection {
    let mut c = attached();
    c.walk(0, 1, &[b"f"]).expect("walk");
    c.call(&Request::Lopen { fid: 1, flags }).expect("open");
    c
}

fn try_lock(c: &mut Connection, lock: Lock<'_>) -> u8 {
    c.call(&Request::Lock { fid: 1, lock }).expect("lock")[p9::HEADER]
}

#[test]
fn locks_keep_others_out() {
    let served = serve("");
    fs::write(served.root.join("f"), [0; 100]).expect("a file");
    chown(served.root.join("f"), Some(NOBODY), Some(NOBODY)).expect("chown");
    let (mut a, mut b) = (opened(open::RDWR), opened(open::RDWR));
    let (rd, wr, un) = (p9::LOCK_RDLCK, p9::LOCK_WRLCK, p9::LOCK_UNLCK);
    assert_eq!(try_lock(&mut a, lock(wr, 0, 0, 10, 1)), p9::LOCK_SUCCESS);
    assert_eq!(try_lock(&mut b, lock(wr, 0, 5, 10, 1)), p9::LOCK_BLOCKED);
    assert_eq!(try_lock(&mut b, lock(wr, 0, 10, 0, 1)), p9::LOCK_SUCCESS);
    // Another process of the same client is another owner; the same one has it already.
    assert_eq!(try_lock(&mut a, lock(rd, 0, 0, 1, 2)), p9::LOCK_BLOCKED);
    assert_eq!(try_lock(&mut a, lock(rd, 0, 0, 1, 1)), p9::LOCK_SUCCESS);
    let ask = Request::GetLock {
        fid: 1,
        lock: lock(wr, 0, 50, 1, 1),
    };
    let answer = a.call(&ask).expect("getlock");
    let mut r = Reader(&answer[p9::HEADER..]);
    assert_eq!(
        (r.u8(), r.u64(), r.u64(), r.u32()),
        (Ok(wr), Ok(10), Ok(0), Ok(1))
    );
    // A waiting one gets it as soon as it is free.
    let waits = Request::Lock {
        fid: 1,
        lock: lock(wr, p9::LOCK_BLOCK, 20, 5, 9),
    };
    let tag = a.submit(&waits).expect("submit");
    a.stream()
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("timeout");
    assert!(a.receive().is_err(), "the lock is taken");
    a.stream().set_read_timeout(Some(SOON)).expect("timeout");
    assert_eq!(try_lock(&mut b, lock(un, 0, 0, 0, 1)), p9::LOCK_SUCCESS);
    let answer = a.receive().expect("receive");
    assert_eq!(p9::header(&answer).map(|h| h.tag), Some(tag));
    assert_eq!(answer[p9::HEADER], p9::LOCK_SUCCESS);
    // With the client its locks go.
    drop(a);
    assert!(wait_until(SOON, || {
        try_lock(&mut b, lock(wr, 0, 0, 0, 1)) == p9::LOCK_SUCCESS
    }));
    let mut reader = opened(open::RDONLY);
    let write_lock = Request::Lock {
        fid: 1,
        lock: lock(wr, 0, 0, 0, 1),
    };
    assert_eq!(errno(reader.call(&write_lock)), EBADF);
    let odd = Request::Lock {
        fid: 1,
        lock: lock(9, 0, 0, 0, 1),
    };
    assert_eq!(errno(reader.call(&odd)), EINVAL);
    drop((b, reader));
    nothing_held();
}

#[test]
fn a_flushed_request_is_not_answered() {
    let served = serve("");
    fs::write(served.root.join("f"), [0; 100]).expect("a file");
    chown(served.root.join("f"), Some(NOBODY), Some(NOBODY)).expect("chown");
    let (mut a, mut b) = (opened(open::RDWR), opened(open::RDWR));
    let wr = p9::LOCK_WRLCK;
    assert_eq!(try_lock(&mut a, lock(wr, 0, 0, 0, 1)), p9::LOCK_SUCCESS);
    let waits = Request::Lock {
        fid: 1,
        lock: lock(wr, p9::LOCK_BLOCK, 0, 0, 1),
    };
    let tag = b.submit(&waits).expect("submit");
    // While it waits the connection goes on.
    b.walk(0, 5, &[]).expect("walk");
    b.call(&Request::Flush { oldtag: tag }).expect("flush");
    // What was flushed never got the lock, or has given it back.
    drop(a);
    let mut c = opened(open::RDWR);
    assert!(wait_until(SOON, || {
        try_lock(&mut c, lock(wr, 0, 0, 0, 1)) == p9::LOCK_SUCCESS
    }));
    // Flushing what is not there is no fault.
    b.call(&Request::Flush { oldtag: 4711 }).expect("flush");
    b.call(&Request::GetAttr { fid: 5, mask: 0 })
        .expect("goes on");
    drop((b, c));
    nothing_held();
}

#[test]
fn a_lock_that_is_flushed_before_it_began_is_nobodys() {
    let served = serve("");
    fs::write(served.root.join("f"), [0; 100]).expect("a file");
    chown(served.root.join("f"), Some(NOBODY), Some(NOBODY)).expect("chown");
    let (mut a, mut b) = (opened(open::RDWR), opened(open::RDWR));
    let (wr, un) = (p9::LOCK_WRLCK, p9::LOCK_UNLCK);
    for round in 0..30 {
        // Both in one piece: the flush is looked at before the other has begun, most times.
        let lock_it = lock(wr, round % 2 * p9::LOCK_BLOCK, 0, 0, 1);
        let mut bytes = [0; 256];
        let first = Request::Lock {
            fid: 1,
            lock: lock_it,
        };
        let length = first.write(1000, &mut bytes).expect("room");
        let flush = Request::Flush { oldtag: 1000 };
        let more = flush.write(1001, &mut bytes[length..]).expect("room");
        a.send(&bytes[..length + more]).expect("send");
        let answer = a.receive().expect("receive");
        if p9::header(&answer).map(|header| header.tag) == Some(1000) {
            // It was first, so the lock is had.
            a.receive().expect("the flush's");
            try_lock(&mut a, lock(un, 0, 0, 0, 1));
        }
        assert!(
            wait_until(SOON, || {
                try_lock(&mut b, lock(wr, 0, 0, 0, 1)) == p9::LOCK_SUCCESS
            }),
            "round {round}"
        );
        try_lock(&mut b, lock(un, 0, 0, 0, 1));
    }
    drop((a, b));
    nothing_held();
}

#[test]
fn big_folders_are_read_in_parts() {
    let served = serve("");
    let count = 5000;
    for n in 0..count {
        fs::write(served.root.join(format!("file-with-a-name-{n}")), b"").expect("a file");
    }
    symlink("x", served.root.join("link")).expect("symlink");
    let mut seen: Vec<_> = tree()
        .read_dir("/")
        .expect("readdir")
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count + 1);
    // Every length of answers tells every name once.
    for size in [330, 400, 777, 4096] {
        let mut c = attached();
        c.walk(0, 1, &[]).expect("walk");
        c.call(&Request::Lopen { fid: 1, flags: 0 }).expect("open");
        let (mut offset, mut names) = (0, Vec::new());
        loop {
            let answer = c
                .call(&Request::Readdir {
                    fid: 1,
                    offset,
                    count: size,
                })
                .expect("readdir");
            let mut r = Reader(&answer[p9::DATA_HEAD..]);
            assert!(r.0.len() <= size as usize);
            if r.0.is_empty() {
                break;
            }
            while !r.0.is_empty() {
                let entry = r.entry().expect("an entry");
                offset = entry.offset;
                names.push(entry.name.to_vec());
            }
        }
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(
            (names.len(), all),
            (count + 3, count + 3),
            "answers of {size}"
        );
    }
    let mut c = attached();
    c.walk(0, 1, &[]).expect("walk");
    c.call(&Request::Lopen { fid: 1, flags: 0 }).expect("open");
    let little = Request::Readdir {
        fid: 1,
        offset: 0,
        count: 10,
    };
    assert_eq!(errno(c.call(&little)), EINVAL);
}
