// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The listener that all ports share, by way of the virgo-selftest module.
//!
//! `VIRGO_LONG=1` runs the unload test a hundred times.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::size_of_val;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use virgo_tests::module::{self, Machine};
use virgo_tests::sys::Errno;
use virgo_tests::{debug_kernel, long, wait_until, SOON};

const MODULE: &str = "virgo-selftest";
const ECHO: u16 = 17000;
const ATOMIC: u16 = 17001;
const PROCESS: u16 = 17002;
const STATUS: u16 = 17003;
const SIX: u16 = 17004;
/// What the two null services answer to a line.
const ITEM: usize = 25 + 100 + 2 + 5;

/// The services, freshly loaded; unloading them again is part of every test.
struct Services(#[allow(dead_code)] Machine);

fn services(parameters: &str) -> Services {
    let machine = module::core_only();
    module::load(MODULE, parameters).expect("virgo-selftest loads");
    Services(machine)
}

impl Drop for Services {
    fn drop(&mut self) {
        if !thread::panicking() {
            let start = Instant::now();
            module::unload(MODULE).expect("virgo-selftest unloads");
            assert!(
                start.elapsed() < SOON,
                "unloading took {:?}",
                start.elapsed()
            );
        }
    }
}

fn try_connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect(port: u16) -> TcpStream {
    try_connect(port).unwrap_or_else(|error| panic!("connect to {port}: {error}"))
}

fn option<T>(stream: &TcpStream, name: i32, value: &T) {
    // SAFETY: The descriptor is open; `value` is as long as said and outlives the call.
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            std::ptr::from_ref(value).cast(),
            size_of_val(value) as libc::socklen_t,
        )
    };
    assert_eq!(done, 0, "setsockopt: {}", io::Error::last_os_error());
}

/// Has the next close send a reset.
fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    option(stream, libc::SO_LINGER, &linger);
}

fn ask(stream: &mut TcpStream, line: &[u8]) -> Vec<u8> {
    stream.write_all(line).expect("send");
    read_line(stream)
}

fn read_line(stream: &mut TcpStream) -> Vec<u8> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        match stream.read(&mut byte).expect("receive") {
            0 => break,
            _ => line.push(byte[0]),
        }
    }
    line
}

fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut all = vec![0; length];
    stream.read_exact(&mut all).expect("receive");
    all
}

/// The rest, up to the peer's end; a reset after it counts as the end.
fn read_rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = [0; 65536];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("receive: {error}, after {} bytes", all.len()),
        }
    }
}

/// A number of the named service.
fn stat(service: &str, name: &str) -> u64 {
    let mut stream = connect(STATUS);
    stream.write_all(b"stats\n").expect("send");
    let mut text = String::new();
    while !text.ends_with("END\n") {
        text.push_str(&String::from_utf8(read_line(&mut stream)).expect("text"));
    }
    let line = text.lines().find(|l| l.split(' ').next() == Some(service));
    let line = line.unwrap_or_else(|| panic!("no {service} in {text}"));
    let wanted = line
        .split(' ')
        .find_map(|w| w.strip_prefix(&format!("{name}=")));
    wanted
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

#[test]
fn a_line_comes_back() {
    let _services = services("");
    let mut stream = connect(ECHO);
    assert_eq!(ask(&mut stream, b"hello\n"), b"hello\n");
    assert_eq!(
        ask(&mut stream, b"carriage return\r\n"),
        b"carriage return\n"
    );
    assert_eq!(ask(&mut stream, b"\n"), b"\n");
    assert_eq!(ask(&mut stream, b"\0\xff\x80\n"), b"\0\xff\x80\n");
}

#[test]
fn ipv6_is_served_too() {
    let _services = services("");
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, SIX));
    let mut stream = TcpStream::connect_timeout(&address, SOON).expect("connect to ::1");
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    assert_eq!(ask(&mut stream, b"six\n"), b"six\n");
}

#[test]
fn a_pipeline_of_any_length_is_answered_in_order() {
    let _services = services("");
    for count in [1, 2, 63, 64, 65, 127, 128, 129, 1000] {
        let mut stream = connect(ECHO);
        let all: Vec<u8> = (0..count)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        stream.write_all(&all).expect("send");
        assert!(
            read_exactly(&mut stream, all.len()) == all,
            "pipeline of {count}"
        );
        for port in [ATOMIC, PROCESS] {
            let mut stream = connect(port);
            stream
                .write_all(&b"get key\r\n".repeat(count))
                .expect("send");
            let answer = read_exactly(&mut stream, ITEM * count);
            assert_eq!(
                answer.iter().filter(|b| **b == b'E').count(),
                2 * count,
                "port {port}"
            );
        }
    }
}

#[test]
fn requests_may_come_byte_by_byte() {
    let _services = services("");
    for port in [ECHO, ATOMIC, PROCESS] {
        let mut stream = connect(port);
        for byte in b"get key\nget key\n" {
            stream.write_all(&[*byte]).expect("send");
        }
        let expected = if port == ECHO { 16 } else { 2 * ITEM };
        let _ = read_exactly(&mut stream, expected);
    }
}

#[test]
fn a_request_that_must_sleep_leaves_softirq_and_keeps_its_place() {
    let _services = services("");
    let mut stream = connect(ATOMIC);
    stream
        .write_all(b"a\n!sleep\nb\n!sleep\n!quit\nnever\n")
        .expect("send");
    let all = read_rest(&mut stream);
    let text = String::from_utf8(all).expect("text");
    let order: Vec<_> = text
        .lines()
        .filter(|l| ["END", "slept"].contains(l))
        .collect();
    assert_eq!(order, ["END", "slept", "END", "slept"]);
}

#[test]
fn big_answers_arrive_whole() {
    let _services = services("");
    for command in ["!big", "!shared"] {
        for size in [0, 1, 16383, 16384, 16385, 1_000_000] {
            let mut stream = connect(ECHO);
            let request = format!("before\n{command} {size}\nafter\n!quit\n");
            stream.write_all(request.as_bytes()).expect("send");
            let all = read_rest(&mut stream);
            let letter = if command == "!big" { "b" } else { "s" };
            let expected = format!("before\n{}\nafter\n", letter.repeat(size));
            assert!(
                all == expected.as_bytes(),
                "{command} {size}: {} bytes",
                all.len()
            );
        }
    }
}

#[test]
fn a_late_answer_keeps_its_place() {
    let _services = services("");
    let mut stream = connect(ECHO);
    stream
        .write_all(b"1\n!later 2\n3\n!lost\n4\n!later 5\n!quit\n")
        .expect("send");
    assert_eq!(read_rest(&mut stream), b"1\n2\n3\n4\n5\n");
}

#[test]
fn a_line_over_the_limit_is_refused_by_its_name() {
    let _services = services("max_frame=1000");
    let mut stream = connect(ECHO);
    let mut line = vec![b'x'; 999];
    line.push(b'\n');
    assert_eq!(ask(&mut stream, &line), line, "1000 bytes are allowed");
    for length in [1000, 1001, 100_000] {
        for port in [ECHO, ATOMIC] {
            let mut stream = connect(port);
            stream.write_all(&vec![b'x'; length]).expect("send");
            let answer = read_rest(&mut stream);
            assert_eq!(
                answer, b"ERR request longer than 1000 bytes\r\n",
                "{port}: {length}"
            );
        }
    }
    assert_eq!(stat("echo", "frames"), 3);
    assert_eq!(stat("atomic", "frames"), 3);
    assert_eq!(ask(&mut stream, b"others go on\n"), b"others go on\n");
}

#[test]
fn one_connection_too_many_is_told_so() {
    let _services = services("max_connections=3");
    let mut kept: Vec<_> = (0..3).map(|_| connect(ECHO)).collect();
    for stream in &mut kept {
        assert_eq!(ask(stream, b"in\n"), b"in\n");
    }
    for _ in 0..3 {
        let mut stream = connect(ECHO);
        assert_eq!(
            read_rest(&mut stream),
            b"ERR connections limit of 3 reached\r\n"
        );
    }
    assert_eq!(stat("echo", "refused"), 3);
    for stream in &mut kept {
        assert_eq!(ask(stream, b"still in\n"), b"still in\n");
    }
    drop(kept.pop());
    assert!(
        wait_until(SOON, || stat("echo", "active") == 2),
        "a place is free"
    );
    assert_eq!(ask(&mut connect(ECHO), b"next\n"), b"next\n");
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    // A machine that stands still makes the busy one idle too, which says nothing of either.
    assert!(
        (0..5).any(|_| idle_is_closed_and_busy_is_not()),
        "this machine stood still for a second, five times"
    );
}

/// `false` where the busy one could not be kept busy.
fn idle_is_closed_and_busy_is_not() -> bool {
    let _services = services("idle_ms=1500");
    let mut busy = connect(ECHO);
    let mut idle = connect(ECHO);
    let start = Instant::now();
    assert_eq!(ask(&mut idle, b"once\n"), b"once\n");
    idle.set_nonblocking(true).expect("nonblocking");
    let mut heard = Vec::new();
    let mut asked = Instant::now();
    let mut stood_still = false;
    let closed = wait_until(SOON, || {
        let answer = ask(&mut busy, b"busy\n");
        stood_still |= asked.elapsed() > Duration::from_secs(1);
        if stood_still {
            return true;
        }
        asked = Instant::now();
        assert_eq!(answer, b"busy\n");
        let mut part = [0; 256];
        match idle.read(&mut part) {
            Ok(0) => true,
            Ok(n) => {
                heard.extend_from_slice(&part[..n]);
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    });
    let took = start.elapsed();
    let timeouts = stat("echo", "idle_timeouts");
    let answer = ask(&mut busy, b"busy\n");
    if stood_still || asked.elapsed() > Duration::from_secs(1) {
        return false;
    }
    assert!(closed);
    assert!(took >= Duration::from_millis(1490), "after {took:?}");
    assert_eq!(heard, b"ERR idle for 1500 ms\r\n");
    assert_eq!(timeouts, 1);
    assert_eq!(answer, b"busy\n");
    true
}

#[test]
fn a_reader_that_takes_nothing_is_waited_for_and_harms_nobody() {
    let _services = services("send_ms=0");
    let mut slow = connect(ECHO);
    // Not less: loopback's segments of 64 KiB don't fit well into a small window.
    option(&slow, libc::SO_RCVBUF, &262_144i32);
    let (count, size) = (200, 100_000);
    slow.write_all(format!("!big {size}\n").repeat(count).as_bytes())
        .expect("send");
    // It stops when what is on the way fills the buffers: far before the end.
    let mut before = u64::MAX;
    let stopped = wait_until(SOON, || {
        let _ = ask(&mut connect(ECHO), b"others are served\n");
        let sent = stat("echo", "bytes_out");
        std::mem::replace(&mut before, sent) + 18 == sent
    });
    assert!(stopped, "it goes on sending");
    assert!(
        before < 4_000_000,
        "{before} bytes went to a peer that reads nothing"
    );
    let all = read_exactly(&mut slow, count * (size + 1));
    assert_eq!(all.iter().filter(|b| **b == b'\n').count(), count);
}

#[test]
fn a_reader_that_takes_nothing_for_too_long_is_closed() {
    let _services = services("send_ms=500");
    let mut slow = connect(ECHO);
    // Not less: loopback's segments of 64 KiB don't fit well into a small window.
    option(&slow, libc::SO_RCVBUF, &262_144i32);
    slow.write_all(&b"!big 1000000\n".repeat(10)).expect("send");
    assert!(wait_until(SOON, || stat("echo", "send_timeouts") == 1));
    assert!(wait_until(SOON, || stat("echo", "active") == 0));
    assert!(read_rest(&mut slow).len() < 10_000_000);
}

#[test]
fn a_peer_that_has_sent_all_gets_all_answers() {
    let _services = services("");
    let mut stream = connect(ECHO);
    stream
        .write_all(b"1\n!later 2\n!big 1000000\nrest")
        .expect("send");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    let all = read_rest(&mut stream);
    assert!(all.starts_with(b"1\n2\nbbb"));
    assert!(
        all.ends_with(b"b\nrest rest\n"),
        "{:?}",
        String::from_utf8_lossy(&all[all.len() - 20..])
    );
    let mut stream = connect(ATOMIC);
    stream.write_all(b"1\n2\n").expect("send");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_rest(&mut stream).len(), 2 * ITEM);
}

#[test]
fn resets_at_any_moment_are_survived() {
    let _services = services("");
    for round in 0..200u32 {
        let mut stream = connect([ECHO, ATOMIC, PROCESS][round as usize % 3]);
        let request = b"!big 100000\n!later x\n".repeat(1 + round as usize % 7);
        stream.write_all(&request).expect("send");
        if round % 2 == 0 {
            let mut some = [0; 10];
            let _ = stream.read(&mut some).expect("receive");
        }
        reset_on_close(&stream);
    }
    for service in ["echo", "atomic", "process"] {
        assert!(
            wait_until(SOON, || stat(service, "active") == 0),
            "{service} keeps connections"
        );
    }
    assert_eq!(ask(&mut connect(ECHO), b"alive\n"), b"alive\n");
}

#[test]
fn connections_that_come_and_go_at_once_leave_nothing() {
    let _services = services("");
    for _ in 0..300 {
        let stream = connect(ECHO);
        reset_on_close(&stream);
        drop(stream);
        drop(connect(ECHO));
    }
    assert!(wait_until(SOON, || stat("echo", "active") == 0));
}

#[test]
fn a_thousand_connections_are_served_at_once() {
    let _services = services("");
    let mut all: Vec<_> = (0..1000).map(|_| connect(ATOMIC)).collect();
    assert!(wait_until(SOON, || stat("atomic", "active") == 1000));
    for round in 1..=3 {
        for stream in &mut all {
            stream.write_all(&b"get x\n".repeat(round)).expect("send");
        }
        for stream in &mut all {
            let _ = read_exactly(stream, round * ITEM);
        }
    }
    drop(all);
    assert!(wait_until(SOON, || stat("atomic", "active") == 0));
}

#[test]
fn one_busy_connection_does_not_starve_another() {
    let _services = services("");
    for port in [ATOMIC, PROCESS] {
        let mut greedy = connect(port);
        let mut modest = connect(port);
        let done = AtomicBool::new(false);
        let answers = AtomicU64::new(0);
        thread::scope(|scope| {
            let mut reader = greedy.try_clone().expect("clone");
            scope.spawn(|| {
                // Longer than their answers, or what is under way takes minutes to answer.
                let lines = [&[b'x'; 199][..], b"\n"].concat().repeat(50);
                while !done.load(Ordering::Relaxed) {
                    greedy.write_all(&lines).expect("send");
                }
                greedy.shutdown(Shutdown::Write).expect("shutdown");
            });
            let answers = &answers;
            scope.spawn(move || {
                let mut part = vec![0; 1 << 20];
                while let Ok(n @ 1..) = reader.read(&mut part) {
                    answers.fetch_add(n as u64, Ordering::Relaxed);
                }
            });
            assert!(wait_until(SOON, || answers.load(Ordering::Relaxed) > 100_000));
            let mut worst = Duration::ZERO;
            for _ in 0..20 {
                let start = Instant::now();
                modest.write_all(b"x\n").expect("send");
                let _ = read_exactly(&mut modest, ITEM);
                worst = worst.max(start.elapsed());
            }
            done.store(true, Ordering::Relaxed);
            // Emulated, with two greedy threads: generous, but no starvation.
            assert!(worst < Duration::from_secs(5), "port {port}: {worst:?}");
        });
    }
}

#[test]
fn idle_connections_cost_no_wake_ups() {
    let _services = services("idle_ms=600000");
    let mut all: Vec<_> = (0..50).map(|_| connect(ECHO)).collect();
    for stream in &mut all {
        assert_eq!(ask(stream, b"x\n"), b"x\n");
    }
    let counts = || (stat("echo", "wakeups"), stat("echo", "sweeps"));
    let before = counts();
    // Nothing comes for three seconds, which is what is measured.
    all[0]
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("timeout");
    let nothing = all[0].read(&mut [0]).expect_err("nothing was asked");
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    assert_eq!(counts(), before, "workers woke for nothing");
}

#[test]
fn a_port_in_use_is_told_and_nothing_stays() {
    let _machine = module::core_only();
    for port in [ECHO, STATUS] {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
        assert_eq!(
            module::load(MODULE, ""),
            Err(Errno(libc::EADDRINUSE)),
            "port {port}"
        );
        drop(taken);
    }
    for bad in ["port=65535", "max_connections=0", "max_frame=0"] {
        assert_eq!(module::load(MODULE, bad), Err(Errno(libc::EINVAL)), "{bad}");
    }
    module::load(MODULE, "").expect("it loads when the port is free");
    assert_eq!(ask(&mut connect(ECHO), b"x\n"), b"x\n");
    module::unload(MODULE).expect("it unloads");
    assert!(try_connect(ECHO).is_err(), "nobody listens any more");
}

/// Connections in full traffic, each with a few requests under way, until they break.
fn traffic(count: usize, started: &AtomicU64) {
    let mut all: Vec<TcpStream> = Vec::new();
    for n in 0..count {
        let Ok(stream) = try_connect([ECHO, ATOMIC, PROCESS][n % 3]) else {
            break;
        };
        stream.set_nonblocking(true).expect("nonblocking");
        all.push(stream);
    }
    let requests = b"some line\n!later x\n!big 5000\n!sleep\nget x\n";
    let mut part = vec![0; 65536];
    while !all.is_empty() {
        all.retain_mut(|stream| {
            let broken = |r: io::Result<usize>| match r {
                Ok(n) => n == 0,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            !broken(stream.write(requests)) && !broken(stream.read(&mut part))
        });
        started.fetch_add(1, Ordering::Relaxed);
    }
}

fn available() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let number = line.and_then(|l| l.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).expect("MemAvailable")
}

#[test]
fn unloading_under_load_is_an_ordinary_thing() {
    let (rounds, each) = match (long(), debug_kernel()) {
        (true, _) => (100, 250),
        (_, true) => (3, 25),
        _ => (8, 250),
    };
    let mut after_first = 0;
    for round in 0..rounds {
        let machine = services("max_connections=400");
        let started = [const { AtomicU64::new(0) }; 4];
        thread::scope(|scope| {
            for started in &started {
                scope.spawn(move || traffic(each, started));
            }
            // A thousand in all (on stock kernels), and every one of them has been in traffic.
            let full = wait_until(SOON, || {
                started.iter().all(|n| n.load(Ordering::Relaxed) > 1)
            });
            assert!(full, "round {round}: no traffic");
            let start = Instant::now();
            drop(machine);
            assert!(start.elapsed() < SOON);
        });
        if round == 1 {
            after_first = available();
        }
    }
    // Sockets on their way out hold memory for a moment.
    let leak = || after_first - available();
    assert!(
        wait_until(SOON, || leak() < 16 << 10),
        "{} KiB are missing",
        leak()
    );
}
