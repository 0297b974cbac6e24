// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What a call and a run cost by virgo-cpupool, beside a user-space server that does no work but
//! answer, and beside a process that is started here.
//!
//! For `tests/vm run --icount`, where a nanosecond is an instruction; each figure is the whole of it.
//! Prints `NAME FIGURE` a line; scripts/bench-cpupool makes ratios and medians of them.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use virgo::programs::{Execution, Limits, Outcome};
use virgo::{Call, Control, NodePolicy};
use virgo_tests::epoll::serve_lines;
use virgo_tests::module;

const MODULE: &str = "virgo-cpupool";
const OURS: u16 = 10000;
const THEIRS: u16 = 10009;
/// The function that the original had, and what it answers.
const REQUEST: &[u8] = b"virgo_cloud_test_kernelspace\n";
const ANSWER: usize = 126;
const BUSYBOX: &str = "/usr/bin/busybox";
const PROGRAMS: &str =
    "user = \"65534:65534\"\nat_once = 2\n[[program]]\npath = \"/usr/bin/busybox\"\n";

/// Nanoseconds each of so many takes, after a tenth as many to warm up.
fn each(count: u32, mut work: impl FnMut()) -> f64 {
    for _ in 0..count / 10 {
        work();
    }
    let begin = Instant::now();
    for _ in 0..count {
        work();
    }
    begin.elapsed().as_nanos() as f64 / f64::from(count)
}

fn round_trips(port: u16) -> f64 {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let mut answer = vec![0; ANSWER];
    each(5000, || {
        stream.write_all(REQUEST).expect("send");
        stream.read_exact(&mut answer).expect("an answer");
    })
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        serve_lines(THEIRS, &[b'x'; ANSWER]);
    }
    let _machine = module::core_only();
    module::load(MODULE, "").expect("virgo-cpupool loads");
    let mut server = Command::new(std::env::current_exe().expect("own path"))
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()
        .expect("server");
    let ready = server.stdout.as_mut().expect("pipe").read(&mut [0; 6]);
    assert!(ready.is_ok_and(|n| n > 0), "the server does not start");
    for _ in 0..3 {
        println!("tcp-null {:.0}", round_trips(THEIRS));
        println!("tcp-call {:.0}", round_trips(OURS));
    }
    server.kill().expect("kill");
    server.wait().expect("wait");

    let control = Control::open().expect("/dev/virgo");
    let call = Call::new("echo", &[b'x'; 100]);
    let ioctl = each(5000, || {
        control.call(&call).expect("a call");
    });
    println!("ioctl-call {ioctl:.0}");

    std::fs::write("/tmp/programs", PROGRAMS).expect("write the file");
    let load = ["programs", "load", "/tmp/programs"];
    let loaded = Command::new("virgo").args(load).status().expect("virgo");
    assert!(loaded.success(), "the program is not allowed");
    let words = [OsStr::new("echo"), OsStr::new("hello")];
    let execution = Execution {
        program: OsStr::new("busybox"),
        arguments: &words,
        input: &[],
        policy: NodePolicy::Default,
        limits: Limits::default(),
    };
    let run = || {
        let mut run = control.start(&execution).expect("started");
        let mut out = Vec::new();
        loop {
            let news = control
                .follow(&mut run, Duration::from_secs(1))
                .expect("news");
            out.extend(news.out);
            if let Some(end) = news.end {
                assert_eq!((end.outcome, &out[..]), (Outcome::Exit(0), &b"hello\n"[..]));
                return;
            }
        }
    };
    let spawn = || {
        let output = Command::new(BUSYBOX).args(words).output().expect("spawned");
        assert!(output.status.success() && output.stdout == b"hello\n");
    };
    for _ in 0..3 {
        println!("spawn {:.0}", each(200, spawn));
        println!("exec {:.0}", each(200, run));
    }
    module::unload(MODULE).expect("it unloads");
}
