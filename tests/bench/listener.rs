// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What a request costs on the shared listener, beside a user-space epoll server which does no
//! work but answer. Meant for `tests/vm run --icount`, where a nanosecond is an instruction:
//!
//! `tests/vm run --icount --no-load -- /virgo/bin/tests/bench-listener`
//!
//! Each figure is the whole round: client, TCP both ways on loopback, server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Instant;

use virgo_tests::epoll::{serve_lines, Epoll};
use virgo_tests::module;

const MODULE: &str = "virgo-selftest";
const EPOLL: u16 = 17009;
const REQUEST: &[u8] = b"get key00000000\r\n";

/// 132 bytes, as memcached answers for an item of 100.
fn answer() -> Vec<u8> {
    let mut all = b"VALUE key00000000 0 100\r\n".to_vec();
    all.extend_from_slice(&[b'x'; 100]);
    all.extend_from_slice(b"\r\nEND\r\n");
    all
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// Nanoseconds a request, with so many connections and requests under way on each.
fn load(port: u16, connections: usize, pipeline: usize, requests: usize) -> f64 {
    let (epoll, batch) = (Epoll::new(), REQUEST.repeat(pipeline));
    let whole = answer().len() * pipeline;
    let mut all: Vec<_> = (0..connections).map(|_| (connect(port), 0usize)).collect();
    for (id, (stream, _)) in all.iter().enumerate() {
        epoll.add(stream.as_raw_fd(), id);
    }
    let mut input = vec![0; 131_072];
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    // Once around to warm up, then the clock.
    let mut done = 0;
    let mut start = Instant::now();
    for (stream, _) in &mut all {
        stream.write_all(&batch).expect("send");
    }
    let warm = requests / 10;
    let mut counting = false;
    while done < requests {
        if !counting && done >= warm {
            (counting, done, start) = (true, 0, Instant::now());
        }
        let n = epoll.wait(&mut events);
        for event in &events[..n] {
            let (stream, got) = &mut all[event.u64 as usize];
            *got += stream.read(&mut input).expect("receive");
            if *got == whole {
                *got = 0;
                done += pipeline;
                stream.write_all(&batch).expect("send");
            }
        }
    }
    start.elapsed().as_nanos() as f64 / done as f64
}

/// Nanoseconds from connect() to the end of the first answer: median and 99th of a hundred.
fn first_answer(port: u16) -> (u128, u128) {
    let mut times: Vec<u128> = (0..300)
        .map(|_| {
            let start = Instant::now();
            let mut stream = connect(port);
            stream.write_all(REQUEST).expect("send");
            let mut all = vec![0; answer().len()];
            stream.read_exact(&mut all).expect("receive");
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        serve_lines(EPOLL, &answer());
    }
    let _machine = module::core_only();
    module::load(MODULE, "").expect("virgo-selftest loads");
    let own = std::env::current_exe().expect("own path");
    let mut server = Command::new(own)
        .arg("serve")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("server");
    let _ = server
        .stdout
        .as_mut()
        .expect("pipe")
        .read(&mut [0; 6])
        .expect("ready");
    let servers = [("epoll", EPOLL), ("softirq", 17001), ("process", 17002)];
    println!(
        "{:>22} {:>10} {:>10} {:>10}",
        "ns a request", "epoll", "softirq", "process"
    );
    for (connections, pipeline, requests) in [
        (1, 1, 10_000),
        (4, 1, 10_000),
        (16, 1, 10_000),
        (16, 16, 50_000),
        (16, 64, 100_000),
    ] {
        let row = servers.map(|(_, port)| load(port, connections, pipeline, requests));
        println!(
            "{:>22} {:>10.0} {:>10.0} {:>10.0}   softirq/epoll {:.2}",
            format!("{connections} x {pipeline}"),
            row[0],
            row[1],
            row[2],
            row[1] / row[0]
        );
    }
    for (name, port) in servers {
        let (median, worst) = first_answer(port);
        println!("connect to first answer, {name}: median {median} ns, 99 % {worst} ns");
        assert!(
            worst < 1_000_000 || std::thread::available_parallelism().is_ok_and(|n| n.get() > 1),
            "{name}: the first answer takes a millisecond or more"
        );
    }
    server.kill().expect("kill");
    server.wait().expect("wait");
    module::unload(MODULE).expect("it unloads");
}
