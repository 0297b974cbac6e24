// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What a request through the queue costs, beside Debian's beanstalkd: `make bench-queue`. Meant
//! for `tests/vm run --icount`, where a nanosecond is an instruction.
//!
//! A cycle is put, reserve and delete of 100 bytes. Each figure is the whole of it: client, TCP
//! both ways on loopback, server.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use virgo_proto::uapi::{self, QueueDone, QueueName, QueuePut, QueueTake};
use virgo_tests::device::Device;
use virgo_tests::{module, procfs, sys, wait_until, SOON};

const MODULE: &str = "virgo-queue";
const OURS: u16 = 60000;
const REFERENCE: u16 = 11300;
const BODY: [u8; 100] = [b'x'; 100];

struct Client {
    stream: TcpStream,
    seen: Vec<u8>,
}

fn connect(port: u16) -> Client {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let seen = Vec::with_capacity(4096);
    Client { stream, seen }
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// The number in an answer that ends with CR LF, and with a body of 100 bytes if it has one.
    fn answer(&mut self, body: bool) -> u64 {
        let mut part = [0; 4096];
        self.seen.clear();
        loop {
            let n = self.stream.read(&mut part).expect("receive");
            assert!(n > 0, "closed");
            self.seen.extend_from_slice(&part[..n]);
            if let Some(end) = self.seen.iter().position(|b| *b == b'\n') {
                if !body || self.seen.len() >= end + 1 + BODY.len() + 2 {
                    let line = std::str::from_utf8(&self.seen[..end]).expect("text");
                    let number = line.trim_end().split(' ').nth(1);
                    return number.map_or(0, |n| n.parse().expect("a number"));
                }
            }
        }
    }
}

/// Nanoseconds a cycle, on so many connections at once.
fn cycles(port: u16, connections: usize, rounds: usize) -> f64 {
    let mut all: Vec<_> = (0..connections).map(|_| connect(port)).collect();
    let put = [&b"put 0 0 60 100\r\n"[..], &BODY, b"\r\n"].concat();
    let mut ids = vec![0; connections];
    let warm = rounds / 10 + 1;
    let mut start = Instant::now();
    for round in 0..warm + rounds {
        if round == warm {
            start = Instant::now();
        }
        for client in &mut all {
            client.send(&put);
        }
        for client in &mut all {
            client.answer(false);
        }
        for client in &mut all {
            client.send(b"reserve\r\n");
        }
        for (client, id) in all.iter_mut().zip(&mut ids) {
            *id = client.answer(true);
        }
        for (client, id) in all.iter_mut().zip(&ids) {
            client.send(format!("delete {id}\r\n").as_bytes());
        }
        for client in &mut all {
            client.answer(false);
        }
    }
    start.elapsed().as_nanos() as f64 / (rounds * connections) as f64
}

fn by_ioctl(rounds: usize) -> f64 {
    let device = Device::open(uapi::QUEUE_DEVICE).expect("the device");
    let mut room = [0_u8; 128];
    let tube = QueueName::new(b"default").expect("a name");
    let put = QueuePut {
        size: size_of::<QueuePut>() as u32,
        body: BODY.as_ptr() as u64,
        length: 100,
        ttr: 60,
        tube,
        ..QueuePut::default()
    };
    let take = QueueTake {
        size: size_of::<QueueTake>() as u32,
        body: room.as_mut_ptr() as u64,
        capacity: 128,
        tube,
        ..QueueTake::default()
    };
    let done = QueueDone {
        size: size_of::<QueueDone>() as u32,
        ..QueueDone::default()
    };
    let start = Instant::now();
    for _ in 0..rounds {
        let mut put = put;
        sys::ioctl_in_place(&device, uapi::QUEUE_IOC_PUT, &mut put).expect("put");
        let mut take = take;
        sys::ioctl_in_place(&device, uapi::QUEUE_IOC_TAKE, &mut take).expect("take");
        let mut done = QueueDone {
            id: take.id,
            ..done
        };
        sys::ioctl_in_place(&device, uapi::QUEUE_IOC_DONE, &mut done).expect("done");
    }
    start.elapsed().as_nanos() as f64 / rounds as f64
}

struct Beanstalkd(Child);

fn beanstalkd(arguments: &[&str]) -> Beanstalkd {
    let child = Command::new("beanstalkd")
        .args(["-l", "127.0.0.1", "-p", &REFERENCE.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .expect("beanstalkd");
    let there = || TcpStream::connect((Ipv4Addr::LOCALHOST, REFERENCE)).is_ok();
    assert!(wait_until(SOON, there), "beanstalkd does not listen");
    Beanstalkd(child)
}

impl Drop for Beanstalkd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn load(parameters: &str) {
    let _ = module::unload(MODULE);
    module::load(MODULE, parameters).expect("virgo-queue loads");
}

fn empty(path: &str) -> &str {
    let _ = fs::remove_dir_all(path);
    fs::create_dir_all(Path::new(path)).expect("a folder");
    path
}

/// Puts so many jobs of so many bytes, a hundred at a time.
fn fill(port: u16, jobs: usize, bytes: usize) {
    let mut client = connect(port);
    let body = vec![b'y'; bytes];
    let one = [
        format!("put 0 0 60 {bytes}\r\n").as_bytes(),
        &body[..],
        b"\r\n",
    ]
    .concat();
    let many = one.repeat(100);
    for _ in 0..jobs / 100 {
        client.send(&many);
        let mut lines = 0;
        let mut part = [0; 4096];
        while lines < 100 {
            let n = client.stream.read(&mut part).expect("receive");
            assert!(part[..n].iter().all(|b| *b != b'_'), "it is full");
            lines += part[..n].iter().filter(|b| **b == b'\n').count();
        }
    }
}

/// Takes and deletes all of them, by their numbers.
fn drain(port: u16, jobs: usize) {
    let mut client = connect(port);
    for start in (1..=jobs).step_by(100) {
        let lines: Vec<String> = (start..start + 100)
            .map(|n| format!("delete {n}\r\n"))
            .collect();
        client.send(lines.concat().as_bytes());
        let mut heard = 0;
        let mut part = [0; 4096];
        while heard < 100 {
            let n = client.stream.read(&mut part).expect("receive");
            assert!(part[..n].iter().all(|b| *b != b'_'), "it was not there");
            heard += part[..n].iter().filter(|b| **b == b'\n').count();
        }
    }
}

/// What is free or can be made so, with the processors' own lists of free pages, which MemAvailable
/// leaves out and which are long after so much has been freed.
fn available() -> u64 {
    let zones = fs::read_to_string("/proc/zoneinfo").expect("/proc/zoneinfo");
    let lists = zones.lines().filter_map(|line| {
        let pages = line.trim().strip_prefix("count:")?;
        pages.trim().parse::<u64>().ok()
    });
    procfs::meminfo_kb("MemAvailable") + lists.sum::<u64>() * 4
}

fn row(what: &str, theirs: Option<f64>, ours: f64) {
    match theirs {
        Some(theirs) => println!(
            "| {what} | {theirs:.0} | {ours:.0} | {:.2} |",
            ours / theirs
        ),
        None => println!("| {what} | – | {ours:.0} | |"),
    }
}

fn costs(rounds: usize) {
    println!("| what | beanstalkd | virgo-queue | ratio |\n|---|---|---|---|");
    let theirs = {
        let _reference = beanstalkd(&[]);
        [cycles(REFERENCE, 1, rounds), cycles(REFERENCE, 8, rounds)]
    };
    load("");
    let ours = [cycles(OURS, 1, rounds), cycles(OURS, 8, rounds)];
    row(
        "put + reserve + delete, 1 connection",
        Some(theirs[0]),
        ours[0],
    );
    row(
        "put + reserve + delete, 8 connections",
        Some(theirs[1]),
        ours[1],
    );
    row("the same by ioctl", Some(theirs[1]), by_ioctl(3000));

    let log = empty("/dev/shm/queue");
    let durable = {
        let _reference = beanstalkd(&["-b", empty("/dev/shm/beanstalkd")]);
        cycles(REFERENCE, 8, rounds)
    };
    for fsync in ["interval", "never", "always"] {
        load(&format!("log={log} fsync={fsync}"));
        let what = format!("durable, 8 connections: beanstalkd -b, fsync={fsync}; on tmpfs");
        row(&what, Some(durable), cycles(OURS, 8, rounds));
        module::unload(MODULE).expect("it unloads");
        let _ = empty(log);
    }
    // Who waits at once shares a sync: the more, the less it matters what one takes.
    let disk = empty("/var/tmp/queue");
    for (connections, rounds) in [(8, 50), (64, 20), (256, 8)] {
        let [free, synced] = ["never", "always"].map(|fsync| {
            load(&format!("log={disk} fsync={fsync}"));
            let cost = cycles(OURS, connections, rounds);
            let what = format!("durable, {connections} connections: fsync={fsync}, on ext4");
            row(&what, None, cost);
            module::unload(MODULE).expect("it unloads");
            let _ = empty(disk);
            cost
        });
        println!(
            "| the rate with fsync=always of that with never, {connections} connections | | {:.2} | |",
            free / synced
        );
    }
}

fn memory() {
    let disk = empty("/var/tmp/queue");
    load("max_mb=1024");
    let before = available();
    fill(OURS, 100_000, 1024);
    let full = available();
    drain(OURS, 100_000);
    let back = wait_until(Duration::from_secs(2), || {
        available() + before / 50 >= before
    });
    println!(
        "memory for 100,000 requests of 1 KiB: {} bytes each; after they are drained {} of {} KiB \
         available ({})",
        before.saturating_sub(full) * 1024 / 100_000,
        available(),
        before,
        if back { "within 2 %" } else { "NOT within 2 %" }
    );

    load(&format!(
        "max_mb=1024 log={disk} fsync=never log_segment_mb=64"
    ));
    let before = available();
    fill(OURS, 1_000_000, 128);
    println!(
        "memory for 1,000,000 requests of 128 bytes: {} bytes each, with the page cache of their log",
        before.saturating_sub(available()) * 1024 / 1_000_000
    );
    module::unload(MODULE).expect("it unloads");
    let before = available();
    let start = Instant::now();
    load(&format!(
        "max_mb=1024 log={disk} fsync=never log_segment_mb=64"
    ));
    println!(
        "replay of 1,000,000: {:.1} s of the guest, {} bytes each",
        start.elapsed().as_secs_f64(),
        before.saturating_sub(available()) * 1024 / 1_000_000
    );
    module::unload(MODULE).expect("it unloads");
    let _ = fs::remove_dir_all(disk);
}

fn main() {
    costs(300);
    memory();
}
