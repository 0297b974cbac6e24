// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The store's memory: limits, what is given up, what an item takes.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use virgo_tests::{wait_until, SOON};

use crate::net::{pool, Client};

/// Stores `count` values of `length` bytes, without waiting for each.
fn fill(client: &mut Client, prefix: &str, count: usize, length: usize) {
    let value = "v".repeat(length);
    for chunk in (0..count).collect::<Vec<_>>().chunks(100) {
        let mut request = String::new();
        for n in chunk {
            request.push_str(&format!("set {prefix}{n:07} 0 0 {length}\r\n{value}\r\n"));
        }
        client.expect(request, "STORED\r\n".repeat(chunk.len()));
    }
}

#[test]
fn an_item_takes_68_bytes() {
    let _pool = pool("");
    let mut client = Client::new();
    // Keys of 11 bytes.
    fill(&mut client, "keys", 20_000, 32);
    assert_eq!(client.stat("curr_items"), 20_000);
    assert_eq!(client.stat("bytes"), 68 * 20_000);
    let held = client.stat("held_bytes");
    println!("held for 20,000 items: {held}, {} each", held / 20_000);
    // What is not full yet of each shard, and the table, at four bytes a value.
    assert!(held < 20_000 * 72 + 16 * (32_768 + 8_192), "{held}");
}

#[test]
fn the_limit_is_kept_and_what_is_read_stays() {
    let _pool = pool("memory_mb=4");
    let mut client = Client::new();
    let hot = "set hot 0 0 5\r\nhello\r\n";
    client.expect(hot, "STORED\r\n");
    for round in 0..60 {
        fill(&mut client, &format!("r{round:02}"), 2000, 100);
        client.expect("get hot\r\n", "VALUE hot 0 5\r\nhello\r\nEND\r\n");
        let held = client.stat("held_bytes");
        assert!(held <= 4 << 20, "{held} bytes are held");
    }
    assert!(client.stat("evictions") > 50_000);
    // Most of the memory is of use.
    let bytes = client.stat("bytes");
    assert!(bytes > 2 << 20, "{bytes}");
    // The youngest are there.
    client.expect(
        "get r590001999\r\n",
        format!("VALUE r590001999 0 100\r\n{}\r\nEND\r\n", "v".repeat(100)),
    );
    // Big values are within it as well.
    let value = "b".repeat(1_000_000);
    for n in 0..20 {
        client.expect(
            format!("set big{n} 0 0 1000000\r\n{value}\r\n"),
            "STORED\r\n",
        );
        let held = client.stat("held_bytes");
        assert!(held <= 4 << 20, "{held} bytes are held");
    }
    client.expect("cache_memlimit 2\r\n", "OK\r\n");
    let held = client.stat("held_bytes");
    assert!(held <= 2 << 20, "{held} bytes are held");
    client.expect(
        "cache_memlimit 0\r\n",
        "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
    );
}

#[test]
fn without_eviction_the_limit_is_an_error() {
    let _pool = pool("memory_mb=2 evict=0");
    let mut client = Client::new();
    let value = "v".repeat(1000);
    let mut stored = 0;
    loop {
        match client
            .ask(format!("set k{stored} 0 0 1000\r\n{value}\r\n"))
            .as_str()
        {
            "STORED" => stored += 1,
            answer => {
                assert_eq!(answer, "SERVER_ERROR out of memory storing object");
                break;
            }
        }
        assert!(stored < 3000, "the limit is not kept");
    }
    assert!(stored > 500, "{stored}");
    assert_eq!(client.stat("evictions"), 0);
    for n in 0..stored {
        client.expect(format!("mg k{n} s\r\n"), "HD s1000\r\n");
    }
    // What is deleted makes room.
    for n in 0..stored / 2 {
        client.expect(format!("delete k{n}\r\n"), "DELETED\r\n");
    }
    for n in 0..stored / 3 {
        client.expect(format!("set n{n} 0 0 1000\r\n{value}\r\n"), "STORED\r\n");
    }
}

/// Also of values that bring their own memory, and when the limit is lowered: what was said to be
/// stored is there.
#[test]
fn without_eviction_nothing_is_lost() {
    const FULL: &str = "SERVER_ERROR out of memory storing object";
    let _pool = pool("memory_mb=4 evict=0");
    let mut client = Client::new();
    let value = "v".repeat(100_000);
    let mut stored = 0;
    loop {
        let request = format!("set k{stored} 0 0 100000\r\n{value}\r\n");
        match client.ask(request).as_str() {
            "STORED" => stored += 1,
            answer => {
                assert_eq!(answer, FULL);
                break;
            }
        }
        assert!(client.stat("held_bytes") <= 4 << 20);
        assert!(stored < 100, "the limit is not kept");
    }
    assert!(stored > 30, "{stored}");
    let all = |client: &mut Client| {
        for n in 0..stored {
            client.expect(format!("mg k{n} s\r\n"), "HD s100000\r\n");
        }
    };
    all(&mut client);
    // Two that become one, which is too long to lie with others.
    let half = "h".repeat(6000);
    let _ = client.ask(format!("set both 0 0 6000\r\n{half}\r\n"));
    let answer = client.ask(format!("append k0 0 0 6000\r\n{half}\r\n"));
    assert_eq!(answer, FULL);
    all(&mut client);
    // A lower limit gives nothing up: until there is room again, nothing is stored that needs some.
    client.expect("cache_memlimit 2\r\n", "OK\r\n");
    all(&mut client);
    client.expect(
        format!("set new 0 0 100000\r\n{value}\r\n"),
        format!("{FULL}\r\n"),
    );
    let mut small = Vec::new();
    for n in 0..1000 {
        match client
            .ask(format!("set s{n} 0 0 100\r\n{}\r\n", &value[..100]))
            .as_str()
        {
            "STORED" => small.push(n),
            answer => assert_eq!(answer, FULL),
        }
    }
    for n in &small {
        client.expect(format!("mg s{n} s\r\n"), "HD s100\r\n");
    }
    all(&mut client);
    assert_eq!(client.stat("evictions"), 0);
    for n in 0..stored {
        client.expect(format!("delete k{n}\r\n"), "DELETED\r\n");
    }
    client.expect(format!("set new 0 0 100000\r\n{value}\r\n"), "STORED\r\n");
}

/// One that is longer than all the memory.
#[test]
fn a_value_that_never_fits_is_refused() {
    let _pool = pool("memory_mb=1 item_max=4194304");
    let mut client = Client::new();
    client.expect("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    let value = "v".repeat(2_000_000);
    client.expect(
        format!("set big 0 0 2000000\r\n{value}\r\n"),
        "SERVER_ERROR out of memory storing object\r\n",
    );
    client.expect("get big a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    // What was there would be out of date.
    client.expect("set big 0 0 1\r\nx\r\n", "STORED\r\n");
    client.expect(
        format!("set big 0 0 2000000\r\n{value}\r\n"),
        "SERVER_ERROR out of memory storing object\r\n",
    );
    client.expect("get big\r\n", "END\r\n");
    client.in_step();
}

#[test]
fn changed_values_do_not_fill_the_memory() {
    let _pool = pool("memory_mb=64");
    let mut client = Client::new();
    for round in 0..40_usize {
        // Another size each time, so that none fits where the one before was.
        fill(&mut client, "same", 1000, 100 + round * 20);
    }
    assert_eq!(client.stat("curr_items"), 1000);
    assert_eq!(client.stat("evictions"), 0);
    let held = client.stat("held_bytes");
    assert!(held < 8 << 20, "{held} bytes are held for 1 MB");
}

#[test]
fn time_runs_out_without_anybody_asking() {
    let _pool = pool("");
    let mut client = Client::new();
    for n in 0..200 {
        client.expect(format!("set t{n} 0 1 1\r\nx\r\n"), "STORED\r\n");
    }
    client.expect("set stays 0 0 1\r\nx\r\n", "STORED\r\n");
    assert!(wait_until(SOON, || client.stat("curr_items") == 1));
    assert_eq!(client.stat("reclaimed"), 200);
}

#[test]
fn the_host_gets_its_memory_back() {
    let _pool = pool("memory_mb=64");
    let mut client = Client::new();
    fill(&mut client, "x", 100_000, 100);
    let before = client.stat("held_bytes");
    assert!(before > 10 << 20, "{before}");
    // Has the kernel shrink all its caches.
    assert!(wait_until(SOON, || {
        fs::write("/proc/sys/vm/drop_caches", "2").expect("drop caches");
        client.stat("held_bytes") < before / 2
    }));
    assert!(client.stat("shrunk") > 0);
    assert_eq!(client.stat("evictions"), 0);
    client.expect("set after 0 0 1\r\nx\r\n", "STORED\r\n");
    client.expect("get after\r\n", "VALUE after 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn many_writers_lose_nothing() {
    let _pool = pool("");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..8 {
            let stop = &stop;
            scope.spawn(move || {
                let mut client = Client::new();
                for round in 0..150 {
                    let value = format!("{worker}-{round}");
                    let length = value.len();
                    client.expect(
                        format!("set own{worker} 0 0 {length}\r\n{value}\r\nincr sum 1\r\nget own{worker}\r\n")
                            .replace("incr sum 1\r\n", ""),
                        format!("STORED\r\nVALUE own{worker} 0 {length}\r\n{value}\r\nEND\r\n"),
                    );
                    let answer = client.ask("ma sum N0 J1 q\r\nmn\r\n");
                    assert_eq!(answer, "MN");
                    // By comparing and swapping, until it works.
                    loop {
                        let line = client.ask("mg list c v\r\n");
                        let (new, mode) = match line.strip_prefix("VA ") {
                            Some(rest) => {
                                let old = client.line();
                                let cas = rest.split(" c").nth(1).expect("cas");
                                (format!("{old}."), format!("C{cas}"))
                            }
                            None => (String::from("."), String::from("ME")),
                        };
                        let length = new.len();
                        let answer = client.ask(format!("ms list {length} {mode}\r\n{new}\r\n"));
                        match answer.as_str() {
                            "HD" => break,
                            "EX" | "NS" => {}
                            other => panic!("{other}"),
                        }
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    let mut client = Client::new();
    client.expect("get sum\r\n", "VALUE sum 0 4\r\n1200\r\nEND\r\n");
    client.expect("mg list s\r\n", "HD s1200\r\n");
}
