// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What a setting costs: reading it, and hearing of its change; beside sysctl, inotify and etcd.
//!
//! Meant for `tests/vm run --icount`: a nanosecond of the guest's clock is an instruction, and
//! there is one CPU. Prints a table.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use virgo::analytics::{Analytics, Options};
use virgo_tests::module;
use virgo_tests::procfs;
use virgo_tests::sys::{self, monotonic_ns};
use virgo_tests::{wait_until, SOON};

const FILE: &str = "/proc/virgo/settest";
const SYSCTL: &str = "/proc/sys/kernel/threads-max";
const ETCD: &str = "127.0.0.1:2379";

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// Median of 7 rounds of `count` actions: nanoseconds for one.
fn each(count: u64, mut action: impl FnMut()) -> u64 {
    let rounds = (0..7).map(|_| {
        let start = Instant::now();
        for _ in 0..count {
            action();
        }
        start.elapsed().as_nanos() as u64 / count
    });
    median(rounds.collect())
}

fn row(what: &str, value: u64) {
    println!("| {what} | {value} |");
}

/// `virgo_analytics_get()`, called in a loop in the kernel.
fn in_kernel(key: &str) -> u64 {
    const COUNT: u64 = 100_000;
    let rounds = (0..7).map(|_| {
        fs::write(FILE, format!("get {key} {COUNT}")).expect("read");
        let text = fs::read_to_string(FILE).expect("the file");
        let took = text.lines().find_map(|line| line.strip_prefix("took_ns="));
        took.expect("took_ns").parse::<u64>().expect("a number") / COUNT
    });
    median(rounds.collect())
}

/// From just before a change to the return of who waits for it, in `rounds` changes.
fn wake(rounds: usize, mut change: impl FnMut(usize), wait: impl FnMut() -> u64 + Send) -> u64 {
    let (ready, begin) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let mut wait = wait;
    let pid = std::process::id() as i32;
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..rounds {
                ready.send(sys::gettid()).expect("sent");
                tell.send(wait()).expect("sent");
            }
        });
        let mut took = Vec::new();
        for round in 0..rounds {
            let waiter = begin.recv().expect("ready");
            let asleep = wait_until(SOON, || procfs::is_asleep(pid, waiter));
            assert!(asleep, "thread {waiter} does not wait");
            let start = monotonic_ns();
            change(round);
            took.push(told.recv().expect("woken") - start);
        }
        median(took)
    })
}

struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Etcd {
    fn start() -> Option<(Etcd, String)> {
        let version = Command::new("etcd").arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout)
            .lines()
            .next()?
            .to_owned();
        let child = Command::new("etcd")
            .args(["--data-dir", "/tmp/etcd", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let etcd = Etcd(child);
        let _ = wait_until(Duration::from_secs(60), || TcpStream::connect(ETCD).is_ok());
        Some((etcd, version))
    }

    fn ask(stream: &mut TcpStream, path: &str, body: &str) -> Option<String> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut room = [0; 4096];
        let count = stream.read(&mut room).ok()?;
        Some(String::from_utf8_lossy(room.get(..count)?).into_owned())
    }
}

fn main() {
    let _machine = module::core_only();
    module::load("virgo-analytics", "max_settings=200000 max_mb=1024").expect("it loads");
    module::load("virgo-settest", "").expect("it loads");
    println!("| what | instructions |\n|---|---|");
    {
        let settings = Analytics::open().expect("the device");
        let new = Options {
            create: true,
            ..Options::default()
        };
        settings
            .set("net.bandwidth.limit", "255", &new)
            .expect("set");
        row(
            "virgo_analytics_get() of a name of 19 bytes, 4 settings",
            in_kernel("net.bandwidth.limit"),
        );
        row(
            "ioctl GET from a program",
            each(2000, || {
                let _ = settings.get("net.bandwidth.limit").expect("read");
            }),
        );
        row("ioctl SET, another value each time", {
            let mut number = 0_u64;
            each(2000, || {
                number += 1;
                settings
                    .set(
                        "net.bandwidth.limit",
                        &number.to_string(),
                        &Options::default(),
                    )
                    .expect("set");
            })
        });
        for count in [1000_u32, 100_000] {
            let from = settings.numbers().expect("numbers").settings as u32;
            for n in from..count {
                settings
                    .set(&format!("some.key.of.many.{n}"), "1", &new)
                    .expect("set");
            }
            let what = format!("virgo_analytics_get(), {count} settings");
            row(&what, in_kernel("net.bandwidth.limit"));
        }
        let mut text = String::new();
        row(
            "sysctl: open, read and close a file of /proc/sys",
            each(2000, || {
                text = fs::read_to_string(SYSCTL).expect("read");
            }),
        );
        let mut open = File::open(SYSCTL).expect("open");
        row(
            "sysctl: read it again through an open file",
            each(2000, || {
                open.seek(SeekFrom::Start(0)).expect("sought");
                let mut room = [0; 32];
                let _ = open.read(&mut room).expect("read");
            }),
        );
        let waiter = Analytics::open().expect("the device");
        let woken = wake(
            101,
            |round| {
                settings
                    .set(
                        "net.bandwidth.limit",
                        &(round + 1).to_string(),
                        &Options::default(),
                    )
                    .expect("set");
            },
            || {
                let seen = waiter.numbers().expect("numbers").version;
                waiter.seen(seen).expect("seen");
                while !waiter.wait(SOON).expect("poll") {}
                monotonic_ns()
            },
        );
        row("change to waiter awake: SET to the return of poll()", woken);
        // A program that is told of a file by inotify.
        fs::write("/tmp/conf", "x").expect("a file");
        // SAFETY: Numbers, and a path that lives.
        let inotify = unsafe {
            let fd = libc::inotify_init1(libc::IN_CLOEXEC);
            assert!(libc::inotify_add_watch(fd, c"/tmp/conf".as_ptr(), libc::IN_CLOSE_WRITE) >= 0);
            <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
        };
        let mut events = File::from(inotify);
        let woken = wake(
            101,
            |round| fs::write("/tmp/conf", round.to_string()).expect("written"),
            || {
                sys::poll(events.as_fd(), libc::POLLIN, 60_000);
                let now = monotonic_ns();
                let mut room = [0; 4096];
                let _ = events.read(&mut room).expect("read");
                now
            },
        );
        row(
            "change to waiter awake: a file written to the return of poll() on inotify",
            woken,
        );
        row(
            "change seen by who looks 20 times a second: on average",
            25_000_000,
        );
    }
    match Etcd::start() {
        Some((_etcd, version)) => {
            let mut stream = TcpStream::connect(ETCD).expect("connected");
            let put = Etcd::ask(
                &mut stream,
                "/v3/kv/put",
                r#"{"key":"Zm9v","value":"YmFy"}"#,
            );
            assert!(put.is_some_and(|answer| answer.contains("200 OK")));
            let cost = each(50, || {
                let answer = Etcd::ask(&mut stream, "/v3/kv/range", r#"{"key":"Zm9v"}"#);
                assert!(answer.is_some_and(|answer| answer.contains("YmFy")));
            });
            row(
                &format!("read from {version}, one connection that stays open"),
                cost,
            );
        }
        None => println!("| etcd | not there |"),
    }
    module::unload("virgo-settest").expect("it unloads");
    module::unload("virgo-analytics").expect("it unloads");
}
