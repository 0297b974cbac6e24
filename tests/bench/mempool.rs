// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-mempool beside memcached, in one guest.
//!
//! `bench-mempool icount`: for a guest of `tests/vm run --icount`, where a nanosecond is an
//! instruction; each figure is the whole round: client, both ways through the kernel, server.
//! `bench-mempool wall`: for a guest with two CPUs; pairs of runs, one of each server, by turns.
//! `bench-mempool local`: of the first, only the doors that no competitor has.
//! `bench-mempool memory`: what an item takes. Each prints lines `row|NAME|MEMCACHED|OURS|UNIT`
//! besides a table for people; scripts/bench-mempool makes doc/benchmarks.md of them.
//!
//! With `--only memcached` the second column is memcached again: that tells the method's own error.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use virgo::mempool::{Look, MappedCache, Mempool, Put};
use virgo_tests::epoll::Epoll;
use virgo_tests::{module, wait_until, SOON};

const MODULE: &str = "virgo-mempool";
const OURS: u16 = 30000;
const THEIRS: u16 = 22122;
const SOCKET: &str = "/run/bench-memcached.sock";
/// 100 bytes, as in the figures that the targets come from.
const VALUE: usize = 100;
/// For memory an item: key of 11 bytes, value of 32.
const SMALL: usize = 32;
/// How long a server is loaded at a time: that many million instructions, or with two CPUs longer.
const WINDOW: Duration = Duration::from_millis(300);
const WALL: Duration = Duration::from_millis(1000);

/// Where a server is.
#[derive(Clone, Copy)]
enum Door {
    Tcp(u16),
    Unix,
}

/// Either kind of stream.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(door: Door) -> Stream {
        match door {
            Door::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
                stream.set_nodelay(true).expect("nodelay");
                Stream::Tcp(stream)
            }
            Door::Unix => Stream::Unix(UnixStream::connect(SOCKET).expect("connect")),
        }
    }

    fn nonblocking(&self) {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        }
        .expect("nonblocking");
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(room),
            Stream::Unix(stream) => stream.read(room),
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(data),
            Stream::Unix(stream) => stream.write(data),
        }
    }

    fn write_all(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            match self.write(data) {
                Ok(count) => data = &data[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("send: {error}"),
            }
        }
    }

    fn fd(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// A generator of numbers that is the same for both servers and costs next to nothing.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % limit
    }
}

/// `key00000042`: 11 bytes.
fn put_key(out: &mut Vec<u8>, mut number: usize) {
    let mut key = *b"key00000000";
    for digit in key[3..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&key);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Get,
    Set,
}

/// What to load a server with.
#[derive(Clone, Copy)]
struct Load {
    what: What,
    connections: usize,
    pipeline: usize,
    keys: usize,
    value: usize,
}

impl Load {
    fn batch(&self, random: &mut Random, out: &mut Vec<u8>) {
        out.clear();
        for _ in 0..self.pipeline {
            let key = random.below(self.keys);
            match self.what {
                What::Get => {
                    out.extend_from_slice(b"get ");
                    put_key(out, key);
                    out.extend_from_slice(b"\r\n");
                }
                What::Set => put_set(out, key, self.value, ""),
            }
        }
    }

    /// Bytes of one answer: every key is there.
    fn answer(&self) -> usize {
        match self.what {
            What::Get => format!("VALUE key00000000 0 {}\r\n", self.value).len() + self.value + 7,
            What::Set => "STORED\r\n".len(),
        }
    }
}

fn put_set(out: &mut Vec<u8>, key: usize, value: usize, rest: &str) {
    out.extend_from_slice(b"set ");
    put_key(out, key);
    out.extend_from_slice(format!(" 0 0 {value}{rest}\r\n").as_bytes());
    out.resize(out.len() + value, b'x');
    out.extend_from_slice(b"\r\n");
}

/// What a measurement gave: nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    each: f64,
    p50: u64,
    p99: u64,
}

/// Loads a server for a while, closed loop: a connection's next batch goes out when the answers to
/// the one before are all there.
fn load(door: Door, load: Load, window: Duration) -> Cost {
    let epoll = Epoll::new();
    let (mut random, mut batch) = (Random(12345), Vec::new());
    let whole = load.answer() * load.pipeline;
    let mut all: Vec<_> = (0..load.connections)
        .map(|id| {
            let stream = Stream::connect(door);
            stream.nonblocking();
            epoll.add(stream.fd(), id);
            (stream, 0_usize, Instant::now())
        })
        .collect();
    let mut input = vec![0; 1 << 17];
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("histogram");
    for (stream, _, sent) in &mut all {
        load.batch(&mut random, &mut batch);
        *sent = Instant::now();
        stream.write_all(&batch);
    }
    let (warm, mut counting, mut done) = (window / 10, false, 0_usize);
    let mut start = Instant::now();
    loop {
        let n = epoll.wait(&mut events);
        let mut now = Instant::now();
        for event in &events[..n] {
            let (stream, got, sent) = &mut all[event.u64 as usize];
            let count = match stream.read(&mut input) {
                Ok(0) => panic!("the server has closed the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("receive: {error}"),
            };
            *got += count;
            assert!(
                *got <= whole,
                "an answer is not as expected: {}",
                input[..count.min(200)].escape_ascii()
            );
            if *got < whole {
                continue;
            }
            now = Instant::now();
            if counting {
                done += load.pipeline;
                let time = now.duration_since(*sent).as_nanos();
                times.saturating_record(u64::try_from(time).unwrap_or(u64::MAX).max(1));
            }
            *got = 0;
            load.batch(&mut random, &mut batch);
            *sent = now;
            stream.write_all(&batch);
        }
        let passed = now.duration_since(start);
        if !counting && passed >= warm {
            (counting, start) = (true, now);
        } else if counting && passed >= window {
            return Cost {
                each: passed.as_nanos() as f64 / done.max(1) as f64,
                p50: times.value_at_quantile(0.5),
                p99: times.value_at_quantile(0.99),
            };
        }
    }
}

/// Stores keys `from..to` and waits until all are stored.
fn fill(door: Door, from: usize, to: usize, value: usize) {
    let mut stream = Stream::connect(door);
    let mut out = Vec::new();
    for key in from..to {
        put_set(&mut out, key, value, " noreply");
        if out.len() > 60_000 || key + 1 == to {
            stream.write_all(&out);
            out.clear();
        }
    }
    // The answer comes behind all that was sent before.
    stream.write_all(b"version\r\n");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut room = [0; 256];
        let count = stream.read(&mut room).expect("receive");
        assert!(count > 0, "the server has closed the connection");
        answer.extend_from_slice(&room[..count]);
    }
    assert!(answer.starts_with(b"VERSION "), "{}", answer.escape_ascii());
}

/// A figure of `stats`.
fn stat(door: Door, name: &str) -> u64 {
    let mut stream = Stream::connect(door);
    stream.write_all(b"stats\r\n");
    let mut answer = Vec::new();
    while !answer.ends_with(b"END\r\n") {
        let mut room = [0; 4096];
        let count = stream.read(&mut room).expect("receive");
        assert!(count > 0, "the server has closed the connection");
        answer.extend_from_slice(&room[..count]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix(&format!("STAT {name} ")))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in stats"))
}

/// memcached on both of its doors, two processes; they go with this value.
struct Memcached(Vec<Child>);

impl Memcached {
    fn start(threads: usize) -> Self {
        let _ = fs::remove_file(SOCKET);
        let (threads, port) = (threads.to_string(), THEIRS.to_string());
        let common = ["-u", "root", "-m", "1024", "-t", &threads, "-c", "1024"];
        let start = |own: &[&str]| {
            Command::new("memcached")
                .args(common)
                .args(own)
                .stdout(Stdio::null())
                .spawn()
                .expect("memcached is there (--packages memcached)")
        };
        let servers = vec![
            start(&["-l", "127.0.0.1", "-p", &port]),
            start(&["-s", SOCKET]),
        ];
        let up = wait_until(SOON, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, THEIRS)).is_ok()
                && UnixStream::connect(SOCKET).is_ok()
        });
        assert!(up, "memcached does not answer");
        Memcached(servers)
    }

    /// Resident memory of the one on TCP, in bytes.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.0[0].id());
        let text = fs::read_to_string(path).expect("status");
        text.lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse::<u64>().ok())
            .expect("VmRSS")
            * 1024
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        for server in &mut self.0 {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Free memory, in bytes, as the kernel estimates it.
fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("MemAvailable")
        * 1024
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn row(name: &str, theirs: f64, ours: f64, unit: &str) {
    println!("row|{name}|{theirs:.1}|{ours:.1}|{unit}");
}

/// The two servers of a comparison.
struct Pair {
    theirs: Door,
    ours: Door,
    rounds: usize,
    window: Duration,
}

impl Pair {
    /// Both by turns; the medians of their costs.
    fn run(&self, one: Load) -> (Cost, Cost, f64) {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            theirs.push(load(self.theirs, one, self.window));
            ours.push(load(self.ours, one, self.window));
        }
        let spread = |all: &[Cost]| {
            let each = all.iter().map(|cost| cost.each);
            let (low, high) = each.fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| {
                (low.min(value), high.max(value))
            });
            (high - low) / low
        };
        let worst = spread(&theirs).max(spread(&ours));
        (middle(theirs), middle(ours), worst)
    }

    fn compare(&self, name: &str, one: Load, unit: &str) {
        let (theirs, ours, spread) = self.run(one);
        println!(
            "{name:>44} {:>10.0} {:>10.0}   {:.2}   p50 {} / {}, p99 {} / {} ns, spread {:.1} %",
            theirs.each,
            ours.each,
            ours.each / theirs.each,
            theirs.p50,
            ours.p50,
            theirs.p99,
            ours.p99,
            spread * 100.0
        );
        row(name, theirs.each, ours.each, unit);
        row(
            &format!("{name}, p50"),
            theirs.p50 as f64,
            ours.p50 as f64,
            "ns",
        );
        row(
            &format!("{name}, p99"),
            theirs.p99 as f64,
            ours.p99 as f64,
            "ns",
        );
    }
}

/// The one whose cost is in the middle.
fn middle(mut all: Vec<Cost>) -> Cost {
    all.sort_by(|one, other| one.each.total_cmp(&other.each));
    all[all.len() / 2]
}

/// Nanoseconds a call, the median of several rounds.
fn each(times: usize, mut call: impl FnMut(usize)) -> f64 {
    let round = |call: &mut dyn FnMut(usize)| {
        let start = Instant::now();
        for at in 0..times {
            call(at);
        }
        start.elapsed().as_nanos() as f64 / times as f64
    };
    round(&mut call);
    median((0..5).map(|_| round(&mut call)).collect())
}

fn one(what: What, connections: usize, pipeline: usize, keys: usize) -> Load {
    Load {
        what,
        connections,
        pipeline,
        keys,
        value: VALUE,
    }
}

/// The doors that only we have: keys are `key00000000` to `key00000999`.
fn local(unix: f64) {
    const KEYS: usize = 1000;
    let names: Vec<Vec<u8>> = (0..KEYS)
        .map(|number| {
            let mut key = Vec::new();
            put_key(&mut key, number);
            key
        })
        .collect();
    let pool = Mempool::open().expect("the device opens");
    let mut room = [0_u8; 128];
    for name in &names {
        let taken = pool.take_into(name, &mut room).expect("take");
        assert_eq!(taken.map(|taken| taken.length), Some(VALUE), "it is there");
    }
    let mut random = Random(99);
    let ioctl = each(20_000, |_| {
        let name = &names[random.below(KEYS)];
        black_box(pool.take_into(name, &mut room).expect("take"));
    });
    println!(
        "{:>44} {unix:>10.0} {ioctl:>10.0}   {:.3}",
        "ioctl get",
        ioctl / unix
    );
    row(
        "get by ioctl (memcached: Unix socket)",
        unix,
        ioctl,
        "instructions",
    );
    // No command of ours has this number: it is refused as soon as the module has it.
    let (fd, nothing) = (pool.as_fd().as_raw_fd(), 0xEB2F);
    let floor = each(20_000, |_| {
        // SAFETY: The command has no argument.
        black_box(unsafe { libc::ioctl(fd, nothing) });
    });
    println!("{:>44} {:>10} {floor:>10.0}", "ioctl that is refused", "");
    row("ioctl that is refused", f64::NAN, floor, "instructions");
    let value = [b'x'; VALUE];
    let put = each(20_000, |_| {
        let name = &names[random.below(KEYS)];
        black_box(pool.put(name, &value, Put::default()).expect("put"));
    });
    println!("{:>44} {:>10} {put:>10.0}", "ioctl put", "");
    row("put by ioctl", f64::NAN, put, "instructions");

    // As long as the others', in a namespace of their own, whose table they fill to a half.
    let shared: Vec<Vec<u8>> = names
        .iter()
        .map(|name| [b"map", &name[3..]].concat())
        .collect();
    let cache = MappedCache::create(b"map", 2048, 256).expect("the namespace is shared");
    for name in &shared {
        pool.put(name, &value, Put::default()).expect("put");
    }
    // Those for which none of the slots was free that they may be in are asked for from the kernel.
    let shown: Vec<_> = shared
        .iter()
        .filter(|name| matches!(cache.look(name, &mut room), Look::Hit(_)))
        .collect();
    let mut hits = 0;
    let mapped = each(100_000, |_| {
        let name = shown[random.below(shown.len())];
        if let Look::Hit(hit) = black_box(cache.look(name, &mut room)) {
            hits += usize::from(hit.length == VALUE);
        }
    });
    // Without the call: choosing a key.
    let chosen = each(100_000, |_| {
        black_box(&names[random.below(shown.len())]);
    });
    // Once to warm up, and five times.
    assert_eq!(hits, 600_000, "each is in the table");
    let counts = cache.counts();
    assert!(
        shown.len() * 100 >= KEYS * 98,
        "a table half full has room for nearly all: {counts:?}"
    );
    println!(
        "{:>44} {unix:>10.0} {mapped:>10.0}   {:.4}   ({chosen:.0} of them to choose a key; {counts:?})",
        "mapped get",
        mapped / unix
    );
    row(
        "mapped get (memcached: Unix socket)",
        unix,
        mapped,
        "instructions",
    );
    row(
        "  of them to choose a key",
        f64::NAN,
        chosen,
        "instructions",
    );
    let shared_put = each(20_000, |_| {
        let name = &shared[random.below(KEYS)];
        black_box(pool.put(name, &value, Put::default()).expect("put"));
    });
    println!(
        "{:>44} {:>10} {shared_put:>10.0}",
        "ioctl put into a shared namespace", ""
    );
    row(
        "put by ioctl into a shared namespace",
        f64::NAN,
        shared_put,
        "instructions",
    );
    drop(cache);
    pool.unshare(b"map").expect("it is taken down");
}

/// One kind of request for a while, for a profiler that runs beside it: "ioctl", "mapped", or
/// connections and pipeline.
fn busy(arguments: &[String]) {
    const LONG: Duration = Duration::from_secs(2);
    if arguments.first().is_some_and(|word| word == "ioctl") {
        let pool = Mempool::open().expect("the device opens");
        let (mut key, mut room) = (Vec::new(), [0; 128]);
        put_key(&mut key, 42);
        let start = Instant::now();
        while start.elapsed() < LONG {
            for _ in 0..100 {
                black_box(pool.take_into(&key, &mut room).expect("take"));
            }
        }
        return;
    }
    if arguments.first().is_some_and(|word| word == "mapped") {
        let cache = MappedCache::create(b"map", 2048, 256).expect("the namespace is shared");
        let key = b"map00000042";
        cache
            .pool()
            .put(key, &[b'x'; VALUE], Put::default())
            .expect("put");
        let mut room = [0; 128];
        let start = Instant::now();
        while start.elapsed() < LONG {
            for _ in 0..100 {
                black_box(cache.look(black_box(key), &mut room));
            }
        }
        return;
    }
    let number = |at: usize| arguments.get(at).and_then(|word| word.parse().ok());
    let (connections, pipeline) = (number(0).unwrap_or(16), number(1).unwrap_or(16));
    let cost = load(
        Door::Tcp(OURS),
        one(What::Get, connections, pipeline, 10_000),
        LONG,
    );
    println!("{cost:?}");
}

/// One CPU on which a nanosecond is an instruction.
fn icount(pair: &Pair, own: bool) {
    const KEYS: usize = 10_000;
    println!(
        "{:>44} {:>10} {:>10}   ratio",
        "instructions a request", "memcached", "ours"
    );
    for door in [pair.theirs, pair.ours, Door::Unix] {
        fill(door, 0, KEYS, VALUE);
    }
    for (what, word) in [(What::Get, "get"), (What::Set, "set")] {
        for (connections, pipeline) in [(1, 1), (1, 16), (16, 1), (16, 16)] {
            let s = if connections == 1 { "" } else { "s" };
            pair.compare(
                &format!("TCP {word}, {connections} connection{s}, pipeline {pipeline}"),
                one(what, connections, pipeline, KEYS),
                "instructions",
            );
        }
    }
    let unix = median(
        (0..pair.rounds)
            .map(|_| load(Door::Unix, one(What::Get, 1, 1, KEYS), pair.window).each)
            .collect(),
    );
    println!("{:>44} {unix:>10.0}", "Unix-socket get, 1 connection");
    if own {
        local(unix);
    }
    // Does it cost more with many items?
    let mut before = 0;
    for keys in [1_000, 10_000, 100_000, 1_000_000] {
        for door in [pair.theirs, pair.ours] {
            fill(door, before, keys, SMALL);
        }
        before = keys;
        let mut many = one(What::Get, 16, 16, keys);
        many.value = SMALL;
        // The first ones are still of another length.
        for door in [pair.theirs, pair.ours] {
            fill(door, 0, keys.min(KEYS), SMALL);
        }
        pair.compare(
            &format!("TCP get of {keys} items, 16 connections, pipeline 16"),
            many,
            "instructions",
        );
        if own {
            let pool = Mempool::open().expect("the device opens");
            let (mut random, mut key, mut room) = (Random(5), Vec::new(), [0; 64]);
            let cost = each(20_000, |_| {
                key.clear();
                put_key(&mut key, random.below(keys));
                let taken = pool.take_into(&key, &mut room).expect("take");
                assert!(taken.is_some(), "it is there");
            });
            println!(
                "{:>44} {:>10} {cost:>10.0}",
                format!("ioctl get of {keys} items"),
                ""
            );
            row(
                &format!("get by ioctl of {keys} items"),
                f64::NAN,
                cost,
                "instructions",
            );
        }
    }
}

/// What an item takes, with so many of them.
fn memory(own: bool) {
    const COUNT: usize = 1_000_000;
    let memcached = Memcached::start(1);
    // Its own tables are there before the first item; a few items more bring the rest.
    fill(Door::Tcp(THEIRS), COUNT, COUNT + 1000, SMALL);
    let (resident, free) = (memcached.resident(), available());
    fill(Door::Tcp(THEIRS), 0, COUNT, SMALL);
    let count = stat(Door::Tcp(THEIRS), "curr_items");
    assert_eq!(count, COUNT as u64 + 1000, "it has kept all of them");
    let theirs = (memcached.resident() - resident) as f64 / COUNT as f64;
    let theirs_free = free.saturating_sub(available()) as f64 / COUNT as f64;
    drop(memcached);
    println!("memcached: {theirs:.1} bytes an item resident, {theirs_free:.1} less available");
    if !own {
        return;
    }
    let pool = Mempool::open().expect("the device opens");
    fill(Door::Tcp(OURS), COUNT, COUNT + 1000, SMALL);
    let (before, free) = (pool.stat().expect("stat"), available());
    fill(Door::Tcp(OURS), 0, COUNT, SMALL);
    let after = pool.stat().expect("stat");
    println!("{after:?}");
    let free = free.saturating_sub(available()) as f64 / COUNT as f64;
    let items = after.items - before.items;
    let held = (after.held_bytes - before.held_bytes) as f64 / items as f64;
    let used = (after.item_bytes - before.item_bytes) as f64 / items as f64;
    println!(
        "ours: {used:.1} bytes an item used, {held:.1} held, {free:.1} less available, \
         {items} of {COUNT} kept"
    );
    assert_eq!(items, COUNT as u64, "it has kept all of them");
    row(
        "memory an item, by MemAvailable",
        theirs_free,
        free,
        "bytes",
    );
    row(
        "memory an item, by the server's own count",
        theirs,
        used,
        "bytes",
    );
}

/// Two CPUs, wall clock.
fn wall(pair: &Pair) {
    const KEYS: usize = 10_000;
    println!(
        "{:>44} {:>10} {:>10}   ratio",
        "requests a second", "memcached", "ours"
    );
    for door in [pair.theirs, pair.ours] {
        fill(door, 0, KEYS, VALUE);
    }
    for (what, word) in [(What::Get, "get"), (What::Set, "set")] {
        for (connections, pipeline) in [(1, 1), (16, 1), (16, 16)] {
            let one = one(what, connections, pipeline, KEYS);
            let mut pairs: Vec<(Cost, Cost)> = (0..pair.rounds)
                .map(|_| {
                    (
                        load(pair.theirs, one, pair.window),
                        load(pair.ours, one, pair.window),
                    )
                })
                .collect();
            pairs.sort_by(|(a, b), (c, d)| (a.each / b.each).total_cmp(&(c.each / d.each)));
            let (theirs, ours) = pairs[pairs.len() / 2];
            let ratio = |(theirs, ours): &(Cost, Cost)| theirs.each / ours.each;
            let mut line = String::new();
            let s = if connections == 1 { "" } else { "s" };
            let name =
                format!("wall clock, TCP {word}, {connections} connection{s}, pipeline {pipeline}");
            let _ = write!(
                line,
                "{name:>44} {:>10.0} {:>10.0}   {:.2}   pairs from {:.2} to {:.2}; p99 {} / {} us",
                1e9 / theirs.each,
                1e9 / ours.each,
                theirs.each / ours.each,
                pairs.first().map_or(0.0, ratio),
                pairs.last().map_or(0.0, ratio),
                theirs.p99 / 1000,
                ours.p99 / 1000
            );
            println!("{line}");
            row(
                &name,
                1e9 / theirs.each,
                1e9 / ours.each,
                "requests a second",
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let own = !arguments.iter().any(|word| word == "memcached");
    let mode = arguments.first().map_or("icount", String::as_str);
    let _machine = module::core_only();
    if own {
        let parameters = std::env::var("VIRGO_MEMPOOL").unwrap_or_default();
        module::load(MODULE, &parameters).expect("virgo-mempool loads");
        let up = wait_until(SOON, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, OURS)).is_ok()
        });
        assert!(up, "the port does not answer");
        let change = virgo::mempool::Change {
            memory_limit: Some(1 << 30),
            ..Default::default()
        };
        Mempool::open()
            .and_then(|pool| pool.change(change))
            .expect("as much memory as memcached");
    }
    if mode == "memory" {
        return memory(own);
    }
    if mode == "local" {
        fill(Door::Tcp(OURS), 0, 10_000, VALUE);
        return local(f64::NAN);
    }
    if mode == "loop" {
        fill(Door::Tcp(OURS), 0, 10_000, VALUE);
        return busy(&arguments[1..]);
    }
    let version = Command::new("memcached").arg("-V").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("version|{}", version.unwrap_or_default());
    let memcached = Memcached::start(if mode == "wall" { 2 } else { 1 });
    let mut pair = Pair {
        theirs: Door::Tcp(THEIRS),
        ours: Door::Tcp(if own { OURS } else { THEIRS }),
        rounds: 3,
        window: WINDOW,
    };
    if mode == "wall" {
        pair.rounds = 7;
        pair.window = WALL;
        wall(&pair);
    } else {
        icount(&pair, own);
    }
    drop(memcached);
    if own {
        module::unload(MODULE).expect("it unloads");
    }
}
