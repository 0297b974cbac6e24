// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo mem` and the library against the module.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use virgo::mempool::{Change, Expiry, Look, MappedCache, Mempool, Mode, Place, Put, Unsure};
use virgo_tests::{wait_until, SOON};

use crate::servers::{Ours, OURS};

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }
}

fn virgo_with(input: &[u8], arguments: &[&str]) -> Ran {
    let mut child = Command::new("virgo")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("virgo is there");
    let (mut stdin, input) = (child.stdin.take().expect("stdin"), input.to_vec());
    let writer = thread::spawn(move || {
        // It may not want all of it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `virgo mem ...`, which must go well; what it printed.
fn mem(arguments: &[&str]) -> Vec<u8> {
    let all: Vec<&str> = ["mem"].iter().chain(arguments).copied().collect();
    let ran = virgo_with(b"", &all);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    ran.out
}

fn mem_text(arguments: &[&str]) -> String {
    String::from_utf8(mem(arguments))
        .expect("text")
        .trim()
        .to_owned()
}

/// Runs `virgo mem ...`, which must fail with status 1; what it complained of.
fn mem_fails(arguments: &[&str]) -> String {
    let all: Vec<&str> = ["mem"].iter().chain(arguments).copied().collect();
    let ran = virgo_with(b"", &all);
    assert_eq!(ran.code, 1, "{arguments:?}: {ran:?}");
    assert!(ran.err.starts_with("virgo: "), "{ran:?}");
    ran.err
}

/// What the port answers to bytes.
fn ask(text: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, OURS)).expect("connect");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    stream.write_all(text.as_bytes()).expect("send");
    stream.write_all(b"quit\r\n").expect("send");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("receive");
    all
}

#[test]
fn a_block_is_made_written_read_and_freed() {
    let _ours = Ours::start();
    let block = mem_text(&["malloc", "3M"]);
    assert_eq!(block.len(), 32, "{block}");
    // More than one piece, and of no round length.
    let data: Vec<u8> = (0..2_500_001_u32)
        .map(|at| (at * 7 + at / 251) as u8)
        .collect();
    let ran = virgo_with(&data, &["mem", "set", &block]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(mem(&["get", &block, "--length", "2500001"]) == data);
    let all = mem(&["get", &block]);
    assert_eq!(all.len(), 3 << 20);
    assert!(all[data.len()..].iter().all(|byte| *byte == 0));
    mem(&["set", &block, "hello", "--offset", "4096"]);
    assert_eq!(
        mem(&["get", &block, "--offset", "4096", "--length", "5"]),
        b"hello"
    );
    assert_eq!(virgo_with(b"setdata\0", &["mem", "set", &block]).code, 0);
    assert_eq!(mem_text(&["get", &block, "--text"]), "setdata");
    // The same block by the original's words.
    assert!(ask(&format!("virgo_cloud_get({block})\r\n")).starts_with("setdata"));
    let listed = mem_text(&["list", "--json"]);
    assert!(
        listed.contains(&block) && listed.contains("\"bytes\":3145728"),
        "{listed}"
    );
    assert!(mem_text(&["list"]).contains(&block));

    let words = mem_fails(&["set", &block, "x", "--offset", "3145728"]);
    assert!(words.contains("past the block's end (ERANGE)"), "{words}");
    mem(&["free", &block]);
    for arguments in [
        &["get", &block][..],
        &["set", &block, "x"],
        &["free", &block],
    ] {
        let words = mem_fails(arguments);
        assert!(
            words.contains("no such block") && words.contains("(ESTALE)"),
            "{words}"
        );
    }
    assert_eq!(mem_text(&["list", "--json"]), "[]");
    let words = mem_fails(&["malloc", "65M"]);
    assert!(words.contains("at most 64 MiB (EFBIG)"), "{words}");
}

#[test]
fn a_value_is_the_same_by_every_door() {
    let _ours = Ours::start();
    mem(&["put", "greeting", "hello, world", "--flags", "42"]);
    assert_eq!(
        ask("get greeting\r\n"),
        "VALUE greeting 42 12\r\nhello, world\r\nEND\r\n"
    );
    assert_eq!(mem(&["take", "greeting"]), b"hello, world");
    let shown = mem_text(&["take", "greeting", "--json"]);
    let answer = ask("gets greeting\r\n");
    let number = answer
        .split([' ', '\r'])
        .nth(4)
        .expect("a number")
        .to_owned();
    assert!(
        shown.contains(&format!("\"cas\":{number},")),
        "{shown} {answer}"
    );
    let cache = MappedCache::create(b"greet", 0, 0).expect("it is shared");
    let mut room = [0; 256];
    match cache.look(b"greeting", &mut room) {
        Look::Hit(hit) => {
            assert_eq!(&room[..hit.length], b"hello, world");
            assert_eq!((hit.flags, hit.cas.to_string()), (42, number));
            assert_eq!(hit.ttl, None);
        }
        other => panic!("{other:?}"),
    }
    // By each door, and seen by the others.
    ask("append greeting 0 0 1 noreply\r\n!\r\n");
    assert_eq!(
        cache.get(b"greeting").unwrap().unwrap().data,
        b"hello, world!"
    );
    mem(&["put", "greeting", ">", "--prepend"]);
    assert_eq!(
        ask("get greeting\r\n"),
        "VALUE greeting 42 14\r\n>hello, world!\r\nEND\r\n"
    );
    assert_eq!(
        cache.get(b"greeting").unwrap().unwrap().data,
        b">hello, world!"
    );
    mem(&["delete", "greeting"]);
    assert_eq!(ask("get greeting\r\n"), "END\r\n");
    assert_eq!(cache.look(b"greeting", &mut room), Look::Miss);
    assert!(mem_fails(&["take", "greeting"]).contains("no value named"));

    // Values that are long, empty, and no text; from a file and from standard input.
    let long: Vec<u8> = (0..900_000_u32).map(|at| (at / 3) as u8).collect();
    let ran = virgo_with(&long, &["mem", "put", "long"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(mem(&["take", "long"]) == long);
    fs::write("/tmp/value", &long[..1000]).expect("a file");
    mem(&["put", "filed", "--file", "/tmp/value"]);
    mem(&["take", "filed", "--output", "/tmp/copy"]);
    assert!(fs::read("/tmp/copy").expect("the copy") == long[..1000]);
    mem(&["put", "empty", ""]);
    assert_eq!(mem(&["take", "empty"]), b"");
    let words = virgo_with(&vec![b'x'; 2 << 20], &["mem", "put", "huge"]);
    assert!(
        words.code == 1 && words.err.contains("(EFBIG)"),
        "{words:?}"
    );
    assert!(mem_fails(&["put", &"k".repeat(251), "v"]).contains("(ENAMETOOLONG)"));

    assert!(mem_fails(&["put", "empty", "x", "--add"]).contains("(EEXIST)"));
    assert!(mem_fails(&["put", "absent", "x", "--replace"]).contains("(ENOENT)"));
    assert!(mem_fails(&["put", "absent", "x", "--append"]).contains("(ENOENT)"));
    assert!(mem_fails(&["put", "empty", "x", "--cas", "1"]).contains("(ESTALE)"));
    assert!(mem_fails(&["put", "absent", "x", "--cas", "1"]).contains("(ENOENT)"));
    assert!(mem_fails(&["delete", "absent"]).contains("no value named"));

    assert!(mem_fails(&["count", "visits"]).contains("--initial 0"));
    assert_eq!(mem_text(&["count", "visits", "10", "--initial", "5"]), "5");
    assert_eq!(mem_text(&["count", "visits"]), "6");
    assert_eq!(mem_text(&["count", "visits", "100", "--down"]), "0");
    assert!(mem_fails(&["count", "filed"]).contains("(EDOM)"));

    let mut keys: Vec<String> = mem_text(&["keys"]).lines().map(str::to_owned).collect();
    keys.sort();
    assert_eq!(keys, ["empty", "filed", "long", "visits"]);
    assert_eq!(mem_text(&["keys", "f"]), "filed");
    assert!(mem_text(&["keys", "--long"]).contains("900000"));
    let stat = mem_text(&["stat", "--json"]);
    assert!(stat.contains("\"items\":4,"), "{stat}");
    assert!(mem_text(&["stat"]).contains("values       4"));
    mem(&["flush"]);
    assert_eq!(mem_text(&["keys", "--json"]), "[]");
}

#[test]
fn values_have_the_time_that_they_were_given() {
    let _ours = Ours::start();
    let pool = Mempool::open().expect("the device");
    let with = |expiry| Put {
        expiry,
        ..Put::default()
    };
    pool.put(b"short", b"1", with(Expiry::In(1))).expect("put");
    pool.put(b"long", b"2", with(Expiry::In(1000)))
        .expect("put");
    pool.put(b"over", b"3", with(Expiry::In(0))).expect("put");
    assert_eq!(pool.take(b"over").expect("take"), None);
    let left = pool.take(b"long").expect("take").expect("there").ttl;
    assert!(
        left.is_some_and(|left| (995..=1000).contains(&left)),
        "{left:?}"
    );
    let gone = wait_until(SOON, || pool.take(b"short").expect("take").is_none());
    assert!(gone, "a second does not end");
    assert!(pool.touch(b"long", Expiry::Never).expect("touch"));
    assert_eq!(pool.take(b"long").expect("take").expect("there").ttl, None);
    let touched = pool
        .take_touch(b"long", Expiry::In(50))
        .expect("take")
        .expect("there");
    assert_eq!(touched.data, b"2");
    let left = pool.take(b"long").expect("take").expect("there").ttl;
    assert!(left.is_some_and(|left| left <= 50), "{left:?}");
    assert!(!pool.touch(b"absent", Expiry::Never).expect("touch"));
}

#[test]
fn the_numbers_settle_who_was_first() {
    let _ours = Ours::start();
    const EACH: u64 = 300;
    Mempool::open()
        .and_then(|pool| pool.put(b"counter", b"0", Put::default()))
        .expect("put");
    // Read, add, write if nobody else did meanwhile.
    let add = || {
        let pool = Mempool::open().expect("the device");
        for _ in 0..EACH {
            loop {
                let value = pool.take(b"counter").expect("take").expect("there");
                let number: u64 = std::str::from_utf8(&value.data).unwrap().parse().unwrap();
                let next = (number + 1).to_string();
                let stored = pool.cas(b"counter", next.as_bytes(), value.cas, Put::default());
                if stored.expect("cas").is_some() {
                    break;
                }
            }
        }
    };
    let others: Vec<_> = (0..3).map(|_| thread::spawn(add)).collect();
    for other in others {
        other.join().expect("added");
    }
    assert_eq!(mem_text(&["take", "counter"]), (3 * EACH).to_string());
}

#[test]
fn what_is_saved_is_loaded_again() {
    let ours = Ours::start();
    let pool = Mempool::open().expect("the device");
    let long = vec![7; 600_000];
    for number in 0..3000_u32 {
        let put = Put {
            flags: number,
            expiry: if number % 2 == 0 {
                Expiry::Never
            } else {
                Expiry::In(5000)
            },
            ..Put::default()
        };
        pool.put(
            format!("key:{number}").as_bytes(),
            &number.to_le_bytes(),
            put,
        )
        .expect("put");
    }
    pool.put(b"long", &long, Put::default()).expect("put");
    pool.put(b"\xff\x00\n", b"", Put::default()).expect("put");
    let brief = Put {
        expiry: Expiry::In(1),
        ..Put::default()
    };
    pool.put(b"brief", b"gone by then", brief).expect("put");
    mem(&["save", "/tmp/all.virgomem"]);
    mem(&["save", "--prefix", "key:1", "/tmp/some.virgomem", "--json"]);
    assert!(
        mem_text(&["load", "--check", "--json", "/tmp/some.virgomem"]).contains("\"values\":1111")
    );
    drop(pool);
    drop(ours);

    let _ours = Ours::start();
    let pool = Mempool::open().expect("the device");
    pool.put(b"key:5", b"newer", Put::default()).expect("put");
    let ran = virgo_with(b"", &["mem", "load", "--keep", "/tmp/all.virgomem"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.err.contains("1 that were there left out"),
        "{}",
        ran.err
    );
    assert_eq!(pool.take(b"key:5").unwrap().unwrap().data, b"newer");
    for number in [0_u32, 1, 2, 2998, 2999] {
        let value = pool
            .take(format!("key:{number}").as_bytes())
            .expect("take")
            .expect("there");
        assert_eq!(
            (value.data, value.flags),
            (number.to_le_bytes().to_vec(), number)
        );
        assert_eq!(value.ttl.is_some(), number % 2 == 1);
    }
    assert!(pool.take(b"long").unwrap().unwrap().data == long);
    assert_eq!(pool.take(b"\xff\x00\n").unwrap().unwrap().data, b"");
    // By way of a pipe, too.
    let ran = virgo_with(b"", &["mem", "save", "-"]);
    assert_eq!(ran.code, 0);
    mem(&["flush"]);
    let loaded = virgo_with(&ran.out, &["mem", "load", "-", "--json"]);
    assert_eq!(loaded.code, 0, "{loaded:?}");
    assert!(loaded.text().contains("\"stored\":"), "{loaded:?}");
    assert!(pool.take(b"long").unwrap().unwrap().data == long);

    // A damaged file changes nothing, unless that is asked for.
    mem(&["flush"]);
    let mut bytes = fs::read("/tmp/all.virgomem").expect("the file");
    let at = bytes
        .windows(7)
        .position(|seven| seven == b"key:77\x4d")
        .expect("key 77")
        + 6;
    bytes[at] ^= 1;
    fs::write("/tmp/all.virgomem", &bytes).expect("the file");
    assert!(mem_fails(&["load", "/tmp/all.virgomem"]).contains("is damaged"));
    assert_eq!(mem_text(&["keys", "--json"]), "[]");
    assert!(mem_fails(&["load", "--salvage", "/tmp/all.virgomem"]).contains("1 damaged left out"));
    assert_eq!(pool.take(b"key:77").unwrap(), None);
    assert!(pool.take(b"key:78").unwrap().is_some());
    assert!(mem_fails(&["save", "/nonexistent/file"]).contains("no such file"));
}

#[test]
fn a_shared_namespace_follows_its_values() {
    let _ours = Ours::start();
    let pool = Mempool::open().expect("the device");
    // What is there before it is shared is in it.
    pool.put(b"s:before", b"there", Put::default())
        .expect("put");
    assert!(mem_fails(&["watch", "s:"]).contains("no such namespace is shared (ENOENT)"));
    let shape = mem_text(&[
        "share",
        "s:",
        "--slots",
        "64",
        "--slot-size",
        "128",
        "--json",
    ]);
    assert!(
        shape.contains("\"slots\":64}") && shape.contains("\"items\":1,"),
        "{shape}"
    );
    let cache = MappedCache::open(b"s:").expect("it is shared");
    assert_eq!(cache.prefix(), b"s:");
    let mut room = [0; 256];
    assert!(matches!(cache.look(b"s:before", &mut room), Look::Hit(hit) if hit.length == 5));
    // Every kind of change.
    let changes = cache.counts().changes;
    pool.put(b"s:1", b"one", Put::default()).expect("put");
    pool.put(b"other", b"not in it", Put::default())
        .expect("put");
    assert!(cache.wait(changes, SOON).expect("wait"));
    assert_eq!(cache.counts().changes, changes + 1);
    assert!(!cache.wait(changes + 1, Duration::ZERO).expect("wait"));
    assert!(matches!(cache.look(b"s:1", &mut room), Look::Hit(_)));
    pool.put(
        b"s:1",
        b"+",
        Put {
            mode: Mode::Append,
            ..Put::default()
        },
    )
    .expect("put");
    assert_eq!(cache.get(b"s:1").unwrap().unwrap().data, b"one+");
    assert_eq!(
        ask("set s:n 0 0 1\r\n5\r\nincr s:n 37\r\n"),
        "STORED\r\n42\r\n"
    );
    assert_eq!(cache.get(b"s:n").unwrap().unwrap().data, b"42");
    pool.put(b"s:long", &[b'x'; 500], Put::default())
        .expect("put");
    assert_eq!(
        cache.look(b"s:long", &mut room),
        Look::Unsure(Unsure::Long(500))
    );
    assert_eq!(cache.get(b"s:long").unwrap().unwrap().data.len(), 500);
    pool.put(
        b"s:brief",
        b"1",
        Put {
            expiry: Expiry::In(1),
            ..Put::default()
        },
    )
    .expect("put");
    let over = wait_until(SOON, || cache.look(b"s:brief", &mut room) == Look::Miss);
    assert!(over, "its time does not end in the table");
    // More than have a place: none is told missing that is there.
    for number in 0..200 {
        let key = format!("s:many:{number}");
        pool.put(key.as_bytes(), key.as_bytes(), Put::default())
            .expect("put");
    }
    assert!(cache.counts().hidden > 0, "{:?}", cache.counts());
    for number in 0..200 {
        let key = format!("s:many:{number}");
        let value = cache.get(key.as_bytes()).expect("get");
        assert_eq!(value.expect("it is there").data, key.as_bytes(), "{key}");
    }
    pool.flush(Duration::ZERO).expect("flush");
    assert!(wait_until(SOON, || cache.get(b"s:1").unwrap().is_none()));
    // The table is cleared piece by piece.
    let cleared = wait_until(SOON, || cache.look(b"s:many:7", &mut room) == Look::Miss);
    assert!(cleared, "{:?}", cache.counts());

    let watcher = Command::new("virgo")
        .args(["mem", "watch", "s:", "--count", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("virgo");
    // It says nothing of what was before; so change until it has seen both.
    let done = AtomicBool::new(false);
    let text = thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                pool.put(b"s:watched", format!("{number}").as_bytes(), Put::default())
                    .expect("put");
                thread::yield_now();
            }
        });
        let output = watcher.wait_with_output().expect("it ends");
        done.store(true, Ordering::Relaxed);
        String::from_utf8(output.stdout).expect("text")
    });
    assert_eq!(text.matches("put   s:watched").count(), 2, "{text}");

    mem(&["share", "--remove", "s:"]);
    pool.put(b"s:after", b"1", Put::default()).expect("put");
    assert_eq!(
        cache.look(b"s:after", &mut room),
        Look::Unsure(Unsure::Closed)
    );
    assert_eq!(cache.get(b"s:after").unwrap().unwrap().data, b"1");
    assert!(mem_fails(&["share", "--remove", "s:"]).contains("(ENOENT)"));
}

#[test]
fn a_mapped_reader_never_sees_a_mixture() {
    let _ours = Ours::start();
    const KEYS: u64 = 8;
    let cache = MappedCache::create(b"m:", 64, 512).expect("it is shared");
    let stop = Arc::new(AtomicBool::new(false));
    // Each value is its number's last digits, as often as the number says.
    let value = |number: u64| vec![b'0' + (number % 10) as u8; 1 + (number % 300) as usize];
    let writer = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let pool = Mempool::open().expect("the device");
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let key = format!("m:{}", number % KEYS);
                let put = Put {
                    flags: number as u32,
                    ..Put::default()
                };
                pool.put(key.as_bytes(), &value(number), put).expect("put");
            }
            number
        })
    };
    let mut room = [0; 512];
    let (mut hits, mut at) = (0, 0_u64);
    let mut last = [0_u32; KEYS as usize];
    while hits < 20_000 {
        at += 1;
        let key = format!("m:{}", at % KEYS);
        match cache.look(key.as_bytes(), &mut room) {
            Look::Hit(hit) => {
                hits += 1;
                assert_eq!(
                    room[..hit.length],
                    value(hit.flags.into()),
                    "number {}",
                    hit.flags
                );
                let before = &mut last[(at % KEYS) as usize];
                assert!(
                    hit.flags >= *before,
                    "it went back from {before} to {}",
                    hit.flags
                );
                *before = hit.flags;
            }
            // Before the first one, or while one is written.
            Look::Miss => assert_eq!(last[(at % KEYS) as usize], 0, "it was there before"),
            Look::Unsure(Unsure::Busy) => {}
            other => panic!("{other:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().expect("the writer") > 100);
}

#[test]
fn settings_are_shown_changed_and_kept_in_bounds() {
    let _ours = Ours::start();
    let before = mem_text(&["settings", "--json"]);
    assert!(before.contains("\"port\":30000"), "{before}");
    let after = mem_text(&[
        "settings",
        "--memory-limit",
        "32M",
        "--item-max",
        "2M",
        "--json",
    ]);
    assert!(
        after.contains("\"memory_limit\":33554432") && after.contains("\"item_max\":2097152"),
        "{after}"
    );
    let ran = virgo_with(&vec![b'x'; 1_500_000], &["mem", "put", "larger"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(mem_fails(&["settings", "--item-max", "65M"]).contains("(ERANGE)"));
    let pool = Mempool::open().expect("the device");
    let settings = pool.settings().expect("settings");
    assert_eq!(settings.item_max, 2 << 20);
    assert!(pool
        .change(Change {
            max_blocks: Some(3),
            ..Change::default()
        })
        .is_ok_and(|now| now.max_blocks == 3));
    for _ in 0..3 {
        pool.malloc(10, Place::Here).expect("a block");
    }
    assert!(mem_fails(&["malloc", "10"]).contains("(ENOSPC)"));
    // Full, and nothing may go: refused; then what is oldest goes.
    mem(&["flush"]);
    pool.change(Change {
        memory_limit: Some(4 << 20),
        evict: Some(false),
        ..Change::default()
    })
    .expect("changed");
    let data = vec![b'x'; 1000];
    let refused = (0..20_000_u32)
        .find_map(|number| {
            pool.put(format!("fill:{number}").as_bytes(), &data, Put::default())
                .err()
        })
        .expect("some is refused");
    assert_eq!(refused.errno(), Some(12), "{refused}");
    assert_eq!(pool.stat().expect("stat").evicted, 0);
    pool.change(Change {
        evict: Some(true),
        ..Change::default()
    })
    .expect("changed");
    for number in 0..20_000_u32 {
        pool.put(format!("fill:{number}").as_bytes(), &data, Put::default())
            .expect("put");
    }
    let stat = pool.stat().expect("stat");
    assert!(
        stat.evicted > 0 && stat.held_bytes <= stat.memory_limit,
        "{stat:?}"
    );
    assert!(pool.take(b"fill:19999").expect("take").is_some());
}

#[test]
fn the_originals_calls_give_everyone_their_own() {
    use virgo::cloud::{virgo_free, virgo_get, virgo_malloc, virgo_set};
    use virgo::mempool::Vuid;

    let _ours = Ours::start();
    // The original's own test, which the original failed: both read the first one's data.
    let all: Vec<_> = (1..=2)
        .map(|process| {
            thread::spawn(move || {
                let text = format!("DataSet_process{process}");
                for _ in 0..100 {
                    let mut vuid = Vuid::default();
                    virgo_malloc(100, &mut vuid).expect("malloc");
                    virgo_set(vuid, &text).expect("set");
                    let mut room = [0; 100];
                    let length = virgo_get(vuid, &mut room).expect("get");
                    assert_eq!(&room[..length], text.as_bytes());
                    virgo_free(vuid).expect("free");
                    assert!(virgo_get(vuid, &mut room).is_err());
                }
            })
        })
        .collect();
    for one in all {
        one.join().expect("its own data");
    }
}
