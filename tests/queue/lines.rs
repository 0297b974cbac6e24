// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The original's lines, the bounds, and unloading.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use virgo_tests::module;
use virgo_tests::sys::Errno;
use virgo_tests::{long, wait_until, SOON};

use crate::client::{ours, Client, MODULE, PORT};

/// The number and the exchange of `QUEUED id exchange`.
fn queued(answer: &str) -> (u64, String) {
    let mut words = answer.trim_end().split(' ');
    assert_eq!(words.next(), Some("QUEUED"), "{answer}");
    let id = words.next().and_then(|n| n.parse().ok()).expect("a number");
    (id, words.next().expect("an exchange").to_owned())
}

#[test]
fn any_line_is_a_request() {
    let _ours = ours("");
    let mut client = Client::connect(PORT);
    let (id, exchange) = queued(&client.ask("KingCobra_17August2015"));
    assert!(exchange.starts_with("7f000001#"), "{exchange}");
    let (second, later) =
        queued(&client.ask("VIRGO64QueueToKingCobra64_25September2017 two words"));
    assert_ne!(later, exchange);
    // Commands are understood on it too.
    assert_eq!(client.ask("watch kingcobra"), "WATCHING 2\r\n");
    let body = format!("REQUEST#{exchange}#KingCobra_17August2015");
    let reserved = format!("RESERVED {id} {}\r\n{body}\r\n", body.len());
    assert_eq!(client.ask("reserve"), reserved);
    assert_eq!(client.ask(&format!("delete {id}")), "DELETED\r\n");
    assert!(client.ask("reserve").contains("two words\r\n"));
    assert_eq!(client.ask(&format!("delete {second}")), "DELETED\r\n");
    // A line of a client that speaks beanstalkd's protocol is none.
    let mut other = Client::connect(PORT);
    assert_eq!(other.ask("list-tube-used"), "USING default\r\n");
    assert_eq!(other.ask("KingCobra_17August2015"), "UNKNOWN_COMMAND\r\n");
}

#[test]
fn a_request_without_a_line_end_is_one() {
    let _ours = ours("");
    // As the original's clients send it: 3000 bytes, of which most are zero.
    let mut client = Client::connect(PORT);
    let mut padded = b"KingCobraRequest_11February2016".to_vec();
    padded.resize(3000, 0);
    client.send(&padded);
    let (id, _) = queued(&String::from_utf8_lossy(&client.answer()));
    // Or without anything behind it.
    let mut bare = Client::connect(PORT);
    bare.send(b"bare");
    bare.stream().shutdown(Shutdown::Write).expect("shutdown");
    let (next, _) = queued(&String::from_utf8_lossy(&bare.rest()));
    assert_eq!(next, id + 1);
    let mut control = Client::connect(PORT);
    assert_eq!(
        control.number("stats-tube kingcobra", "current-jobs-ready"),
        2
    );
}

#[test]
fn a_reply_is_never_answered_and_an_address_not_believed() {
    let _ours = ours("");
    let mut client = Client::connect(PORT);
    client.send(b"REPLY#7f000001#12:34 :--- from somebody to client\r\n");
    client.send(b"REPLY#x\r\nREQUEST#01020304#1:1#forged\r\n");
    let (id, exchange) = queued(&String::from_utf8_lossy(&client.answer()));
    assert_eq!(id, 1);
    assert!(exchange.starts_with("7f000001#"), "{exchange}");
    let peeked = client.ask("peek 1");
    assert!(
        peeked.ends_with(&format!("REQUEST#{exchange}#forged\r\n")),
        "{peeked}"
    );
}

#[test]
fn what_is_past_a_bound_is_told() {
    let _ours = ours("max_job_size=100 max_mb=1 max_tubes=3 max_tube_jobs=50");
    let mut client = Client::connect(PORT);
    assert_eq!(client.try_put("0 0 1", &[b'x'; 101]), "JOB_TOO_BIG\r\n");
    assert_eq!(client.ask("use a"), "USING a\r\n");
    assert_eq!(client.ask("watch b"), "WATCHING 2\r\n");
    assert_eq!(client.ask("watch c"), "OUT_OF_MEMORY\r\n");
    for _ in 0..50 {
        let _ = client.put("0 0 1", b"x");
    }
    assert_eq!(client.try_put("0 0 1", b"x"), "DRAINING\r\n");
    let mut lines = Client::connect(PORT);
    let long = "y".repeat(200);
    assert_eq!(lines.ask(&long), "ERR memory the system has none left\r\n");
    assert_eq!(client.ask("ignore b"), "WATCHING 1\r\n");
    assert_eq!(
        lines.ask(&long),
        "ERR long a request has 100 bytes at most\r\n"
    );
    for _ in 0..50 {
        let _ = queued(&lines.ask("short"));
    }
    assert_eq!(
        lines.ask("short"),
        "ERR full the tube holds 50 requests, its limit\r\n"
    );
    // A line without an end.
    let mut endless = Client::connect(PORT);
    endless.send(&vec![b'z'; 100_000]);
    let told = endless.rest();
    assert_eq!(told, b"ERR request longer than 4196 bytes\r\n");
}

#[test]
fn memory_has_a_bound_and_comes_back() {
    let _ours = ours("max_mb=8");
    let mut client = Client::connect(PORT);
    let body = vec![b'm'; 60_000];
    let mut count = 0;
    let told = loop {
        match client.try_put("0 0 100", &body) {
            answer if answer.starts_with("INSERTED") => count += 1,
            answer => break answer,
        }
    };
    assert_eq!(told, "OUT_OF_MEMORY\r\n");
    assert!(
        (120..=140).contains(&count),
        "{count} jobs of 60000 bytes in 8 MiB"
    );
    for _ in 0..count {
        let job = client.ask("reserve");
        let id = job.split(' ').nth(1).expect("a number").to_owned();
        assert_eq!(client.ask(&format!("delete {id}")), "DELETED\r\n");
    }
    let _ = client.put("0 0 100", &body);
}

#[test]
fn wrong_parameters_are_refused_and_a_port_in_use_is_told() {
    let _machine = module::core_only();
    for bad in [
        "listen=2",
        "port=0",
        "max_connections=0",
        "max_job_size=0",
        "max_mb=0",
        "max_tubes=0",
        "max_tube_jobs=0",
        "max_job_size=16777217",
    ] {
        assert_eq!(module::load(MODULE, bad), Err(Errno(libc::EINVAL)), "{bad}");
    }
    let taken = std::net::TcpListener::bind(("127.0.0.1", PORT)).expect("bind");
    assert_eq!(module::load(MODULE, ""), Err(Errno(libc::EADDRINUSE)));
    module::load(MODULE, "listen=0").expect("without the port it loads");
    module::unload(MODULE).expect("it unloads");
    drop(taken);
}

/// Puts, takes, waits and goes, until the connection breaks.
fn traffic(seed: u64, rounds: &AtomicU64, stop: &AtomicBool) {
    let mut n = seed;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::try_connect(PORT) else {
            return;
        };
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let text = match n >> 61 {
            0 => "put 0 0 1 5\r\nhello\r\nreserve\r\n".repeat(20),
            1 => "put 5 1 1 3\r\nabc\r\n".repeat(10),
            2 => "watch a\r\nuse a\r\nput 0 0 1 1\r\nx\r\nreserve-with-timeout 1\r\n".into(),
            3 => "kick 10\r\nstats\r\nlist-tubes\r\n".repeat(5),
            4 => "reserve-with-timeout 2\r\n".into(),
            5 => "put 0 0 1 60000\r\nhalf of a body".into(),
            6 => "a request\r\nanother\r\n".repeat(10),
            _ => "pause-tube default 1\r\nreserve\r\n".into(),
        };
        use std::io::Write;
        let _ = client.stream().write_all(text.as_bytes());
        let _ = client.poll_quietly();
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn it_unloads_under_traffic() {
    let times = if long() { 50 } else { 4 };
    for _ in 0..times {
        let module = ours("max_connections=200");
        let rounds = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 0..4 {
                let (rounds, stop) = (&rounds, &stop);
                scope.spawn(move || traffic(seed, rounds, stop));
            }
            let mut waiting: Vec<Client> = (0..50).map(|_| Client::connect(PORT)).collect();
            for client in &mut waiting {
                client.send(b"watch nobody\r\nignore default\r\nreserve\r\n");
            }
            assert!(wait_until(SOON, || rounds.load(Ordering::Relaxed) > 100));
            drop(module);
            stop.store(true, Ordering::Relaxed);
        });
    }
}
