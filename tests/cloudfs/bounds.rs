// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Limits, each with an error of its own; faults of the disk; unloading.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use virgo::files::{open, Connection};
use virgo_tests::sys::Errno;

use crate::*;

#[test]
fn nothing_changes_where_nothing_may() {
    for parameters in ["read_only=1", "allow=127.0.0.1+ro"] {
        let served = serve(parameters);
        let file = served.root.join("f");
        fs::write(&file, b"text").expect("a file");
        chown(&file, Some(NOBODY), Some(NOBODY)).expect("chown");
        let tree = tree();
        let results = [
            tree.open("/f", open::RDWR, 0).map(drop),
            tree.open("/f", open::TRUNC, 0).map(drop),
            tree.open("/g", open::CREATE, 0o644).map(drop),
            tree.mkdir("/d", 0o755),
            tree.rename("/f", "/g"),
            tree.hard_link("/f", "/g"),
            tree.symlink("f", "/g"),
            tree.remove_file("/f"),
            tree.set_mode("/f", 0o600),
        ];
        for (index, result) in results.into_iter().enumerate() {
            assert_eq!(errno(result), EROFS, "{parameters}, {index}");
        }
        let mut text = String::new();
        let mut opened = tree.open("/f", 0, 0).expect("open");
        opened.read_to_string(&mut text).expect("read");
        assert_eq!(text, "text");
    }
}

#[test]
fn strangers_are_not_let_in() {
    // A rule that says nothing of the loopback addresses leaves them alone; one that does decides.
    let _served = serve("bind=0.0.0.0 allow=192.0.2.0/24");
    tree();
    let address = "127.0.0.2:50000";
    tree();
    drop(Tree::connect(address).expect("a loopback address"));
    // The guest's own address on its network is no loopback one.
    let own = run("ip", &["-4", "-o", "addr", "show", "eth0"]);
    let own = own.split_whitespace().find_map(|word| {
        let (address, _) = word.split_once('/')?;
        address.parse::<std::net::Ipv4Addr>().ok()
    });
    let own = own.expect("an address of eth0");
    assert!(Tree::connect(&own.to_string()).is_err());
}

#[test]
fn handles_have_bounds() {
    let _served = serve("max_handles=20 max_client_handles=16");
    let mut a = attached();
    for fid in 1..16 {
        a.walk(0, fid, &[]).expect("walk");
    }
    assert_eq!(errno(a.walk(0, 16, &[])), EMFILE);
    // Four more for all the others.
    let mut b = attached();
    for fid in 1..4 {
        b.walk(0, fid, &[]).expect("walk");
    }
    assert_eq!(errno(b.walk(0, 4, &[])), 23);
    a.call(&Request::Clunk { fid: 15 }).expect("clunk");
    b.walk(0, 4, &[]).expect("walk");
    drop((a, b));
    nothing_held();
}

#[test]
fn bytes_under_way_have_a_bound() {
    let _served = serve("max_bytes=1048576");
    let tree = tree();
    let file = tree
        .open("/f", open::RDWR | open::CREATE, 0o644)
        .expect("create");
    // Half of it is there for one.
    assert_eq!(file.write_at(&[1; 500_000], 0).expect("write"), 500_000);
    // Answers count too.
    let mut c = Connection::connect(HOST, 1 << 20).expect("connect");
    attach(&mut c, 0).expect("attach");
    c.walk(0, 1, &[b"f"]).expect("walk");
    c.call(&Request::Lopen { fid: 1, flags: 0 }).expect("open");
    // A message that is begun and not ended holds what it announced.
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = Connection::connect(HOST, 1 << 20).expect("connect");
        attach(&mut other, 0).expect("attach");
        let mut head = [0; 5000];
        head[..4].copy_from_slice(&500_000_u32.to_le_bytes());
        head[4] = p9::kind::WRITE;
        other.send(&head).expect("send");
        others.push(other);
    }
    assert!(wait_until(SOON, || number("bytes_under_way") >= 1_000_000));
    let read = Request::Read {
        fid: 1,
        offset: 0,
        count: 500_000,
    };
    assert_eq!(errno(c.call(&read)), 105);
    drop(others);
    assert!(wait_until(SOON, || number("bytes_under_way") == 0));
    c.call(&read).expect("now there is room");
}

#[test]
fn connections_have_a_bound() {
    let _served = serve("max_connections=2");
    let (_a, _b) = (attached(), attached());
    let mut third = TcpStream::connect(HOST).expect("connect");
    third.set_read_timeout(Some(SOON)).expect("timeout");
    let mut text = String::new();
    third.read_to_string(&mut text).expect("the last words");
    assert_eq!(text, "ERR EUSERS 2 connections are the limit\r\n");
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let served = serve("");
    for n in 0..50 {
        fs::write(served.root.join(format!("f{n}")), b"text").expect("a file");
    }
    let mut all = Vec::new();
    for _ in 0..20 {
        let mut c = attached();
        for n in 0..50 {
            let name = format!("f{n}");
            c.walk(0, n + 1, &[name.as_bytes()]).expect("walk");
            c.call(&Request::Lopen {
                fid: n + 1,
                flags: 0,
            })
            .expect("open");
        }
        // A message that never ends.
        c.send(&[200, 0, 0, 0, p9::kind::WALK, 1, 0, 9])
            .expect("send");
        all.push(c);
    }
    assert_eq!(number("handles"), 20 * 51);
    drop(all);
    nothing_held();
}

#[test]
fn a_thousand_clients() {
    let served = serve("max_connections=1100");
    fs::write(served.root.join("f"), b"text").expect("a file");
    let count = if virgo_tests::long() { 1000 } else { 300 };
    let mut all: Vec<_> = (0..count).map(|_| attached()).collect();
    for c in &mut all {
        c.walk(0, 1, &[b"f"]).expect("walk");
        c.call(&Request::Lopen { fid: 1, flags: 0 }).expect("open");
    }
    // All ask at once.
    let read = Request::Read {
        fid: 1,
        offset: 0,
        count: 100,
    };
    for c in &mut all {
        c.submit(&read).expect("submit");
    }
    for c in &mut all {
        assert_eq!(&c.receive().expect("receive")[p9::DATA_HEAD..], b"text");
    }
    assert_eq!(number("handles"), 2 * count);
    drop(all);
    nothing_held();
}

#[test]
fn a_full_disk_is_told() {
    let machine = module::core_only();
    let root = folder("served", NOBODY);
    let path = root.display().to_string();
    run(
        "mount",
        &["-t", "tmpfs", "-o", "size=1M,mode=777", "none", &path],
    );
    load(&root, "");
    let tree = tree();
    let mut file = tree
        .open("/f", open::RDWR | open::CREATE, 0o644)
        .expect("create");
    let error = loop {
        if let Err(error) = file.write_all(&[1; 4096]) {
            break error;
        }
    };
    assert_eq!(error.raw_os_error(), Some(ENOSPC));
    drop(file);
    // The mount is in use as long as it is served.
    let status = Command::new("umount").arg(&path).status().expect("umount");
    assert!(!status.success(), "a served folder was unmounted");
    // Lazily unmounted it is served on, to those who know it.
    run("umount", &["-l", &path]);
    assert!(tree.metadata("/f").expect("stat").size() > 900_000);
    tree.remove_file("/f").expect("remove");
    drop(tree);
    module::unload(MODULE).expect("it unloads");
    drop(machine);
}

/// An ext4 in a file, served; frozen, all that writes waits.
#[test]
fn what_blocks_holds_nobody_else_up() {
    let machine = module::core_only();
    let root = folder("served", NOBODY);
    let image = "/srv/image";
    run("modprobe", &["loop"]);
    run("truncate", &["-s", "32M", image]);
    run("mkfs.ext4", &["-q", "-F", image]);
    let path = root.display().to_string();
    run("mount", &["-o", "loop", image, &path]);
    run("chmod", &["777", &path]);
    fs::write(root.join("f"), b"text").expect("a file");
    load(&root, "");
    let (mut a, mut b) = (attached(), attached());
    run("fsfreeze", &["-f", &path]);
    // On one connection several wait.
    let mut tags = Vec::new();
    for name in [&b"a"[..], b"b", b"c", b"d"] {
        let mkdir = Request::Mkdir {
            dfid: 0,
            name,
            mode: 0o755,
            gid: 0,
        };
        tags.push(a.submit(&mkdir).expect("submit"));
    }
    // Itself and others go on, on every CPU.
    let start = Instant::now();
    for _ in 0..20 {
        a.walk(0, 1, &[b"f"]).expect("walk");
        a.call(&Request::Clunk { fid: 1 }).expect("clunk");
        b.walk(0, 1, &[b"f"]).expect("walk");
        b.call(&Request::Clunk { fid: 1 }).expect("clunk");
        drop(attached());
    }
    let went_on = start.elapsed();
    // One that waits is given up: its answer never comes.
    a.call(&Request::Flush { oldtag: tags[0] }).expect("flush");
    // Another's client goes away.
    b.submit(&Request::Mkdir {
        dfid: 0,
        name: b"e",
        mode: 0o755,
        gid: 0,
    })
    .expect("submit");
    drop(b);
    run("fsfreeze", &["-u", &path]);
    let mut answered = Vec::new();
    for _ in 1..tags.len() {
        let answer = a.receive().expect("receive");
        answered.push(p9::header(&answer).expect("a header").tag);
    }
    answered.sort_unstable();
    assert_eq!(answered, tags[1..]);
    a.call(&Request::GetAttr { fid: 0, mask: 0 })
        .expect("goes on");
    assert!(went_on < SOON / 2, "{went_on:?}");
    drop(a);
    nothing_held();
    module::unload(MODULE).expect("it unloads");
    run("umount", &[&path]);
    drop(machine);
}

#[test]
fn a_file_that_is_replaced_stays_open() {
    let served = serve("");
    let file = served.root.join("f");
    fs::write(&file, b"old").expect("a file");
    let tree = tree();
    let opened = tree.open("/f", 0, 0).expect("open");
    fs::write(served.root.join("g"), b"new").expect("a file");
    fs::rename(served.root.join("g"), &file).expect("rename");
    let mut text = [0; 3];
    opened.read_at(&mut text, 0).expect("read");
    assert_eq!(&text, b"old");
    assert_eq!(opened.metadata().expect("stat").attr().nlink, 0);
    let mut again = String::new();
    let mut anew = tree.open("/f", 0, 0).expect("open");
    anew.read_to_string(&mut again).expect("read");
    assert_eq!(again, "new");
}

#[test]
fn it_unloads_under_load() {
    let rounds = if virgo_tests::long() { 30 } else { 5 };
    let machine = module::core_only();
    let root = folder("served", NOBODY);
    for n in 0..20 {
        fs::write(root.join(format!("f{n}")), [1; 10000]).expect("a file");
    }
    for round in 0..rounds {
        load(&root, "");
        let clients: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn(|| {
                    let mut done = 0_u64;
                    // Until the server is gone.
                    while let Ok(tree) = Tree::connect(HOST) {
                        while tree
                            .open("/f1", 0, 0)
                            .and_then(|mut f| f.read(&mut [0; 9000]))
                            .is_ok()
                        {
                            done += 1;
                        }
                    }
                    done
                })
            })
            .collect();
        assert!(
            wait_until(SOON, || number("requests") > 200),
            "round {round}"
        );
        let result = module::unload(MODULE);
        assert_eq!(result, Ok(()) as Result<(), Errno>, "round {round}");
        let done: u64 = clients
            .into_iter()
            .map(|c| c.join().expect("a client"))
            .sum();
        assert!(done > 0);
    }
    drop(machine);
}

#[test]
fn it_unloads_with_a_mount_in_use() {
    let served = serve("");
    fs::write(served.root.join("f"), b"text").expect("a file");
    let mounted = Mounted::new("msize=65536");
    let mut file = fs::File::open(mounted.0.join("f")).expect("open");
    module::unload(MODULE).expect("it unloads");
    // The client's calls end with an error, not with a hang.
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = sender.send(file.read_to_end(&mut text).is_err());
    });
    let ended = receiver.recv_timeout(SOON).expect("the read ends");
    assert!(ended, "a read without a server succeeded");
    drop(mounted);
    // Served again, and mounted again.
    load(&served.root, "");
    let again = Mounted::new("msize=65536");
    assert_eq!(fs::read(again.0.join("f")).expect("read"), b"text");
    drop(again);
}

#[test]
fn idle_costs_nothing_and_is_not_ended() {
    let _served = serve("");
    let mut c = attached();
    thread::park_timeout(Duration::from_millis(500));
    c.call(&Request::GetAttr { fid: 0, mask: 0 })
        .expect("still there");
    let _ = c.stream().write(&[]).expect("nothing");
}
