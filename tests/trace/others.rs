// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The same faults as others see, in the same run.

use std::fs;
use std::process::Command;

use virgo::trace::{History, Target, TraceFile, FAULT_INDIRECT, FAULT_OTHER, FAULT_USER};
use virgo_tests::sys::{self, Area};

use crate::{check_counts, waiting};

const TRACING: &str = "/sys/kernel/tracing";

fn set(name: &str, text: &str) {
    fs::write(format!("{TRACING}/{name}"), text).unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Turns ftrace off again, whatever happens.
struct Ftrace;

impl Ftrace {
    fn on(pid: i32) -> Ftrace {
        sys::mount_tracefs();
        set("trace", "");
        set("buffer_size_kb", "4096");
        set("set_event_pid", &pid.to_string());
        set("events/exceptions/page_fault_user/enable", "1");
        Ftrace
    }

    /// Addresses, in order.
    fn addresses(&self) -> Vec<u64> {
        set("events/exceptions/page_fault_user/enable", "0");
        let text = fs::read_to_string(format!("{TRACING}/trace")).expect("ftrace's text");
        text.lines()
            .filter_map(|line| line.split("address=").nth(1))
            .filter_map(|rest| rest.split_whitespace().next())
            .filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
            .collect()
    }
}

impl Drop for Ftrace {
    fn drop(&mut self) {
        set("events/exceptions/page_fault_user/enable", "0");
        let _ = fs::write(format!("{TRACING}/set_event_pid"), "");
        set("trace", "");
    }
}

#[test]
fn ftrace_sees_the_same_addresses_in_the_same_order() {
    let mut child = waiting("both", |_| {
        for round in 0..10 {
            let mut area = Area::new(100);
            area.touch(round, 80);
            let _ = area.read(90 * sys::PAGE, 1);
        }
        sys::execute("/bin/ls", "/etc/ssl")
    });
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    let ftrace = Ftrace::on(child.pid);
    child.say(1);
    let history = History::read(file).expect("a trace");
    child.wait();
    let theirs = ftrace.addresses();
    check_counts(&history);
    // What the program itself met; the kernel's own accesses are another tracepoint's.
    let ours: Vec<u64> = history
        .faults
        .iter()
        .filter(|fault| fault.is(FAULT_USER))
        .map(|fault| fault.address)
        .collect();
    // What it did itself; ls comes on top of that.
    assert!(ours.len() > 810, "{}", ours.len());
    assert_eq!(ours, theirs);
}

#[test]
#[ignore = "takes minutes where machines are emulated"]
fn perf_sees_the_same() {
    let (out, data) = ("/tmp/virgo-both.trace", "/tmp/virgo-both.data");
    let status = Command::new("perf")
        .args([
            "record",
            "-q",
            "-e",
            "page-faults",
            "-c",
            "1",
            "-d",
            "-k",
            "CLOCK_MONOTONIC",
            "-o",
            data,
            "--",
        ])
        .args([
            "/virgo/bin/virgo",
            "trace",
            "run",
            "-q",
            out,
            "--",
            "ls",
            "-l",
            "/etc",
        ])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    let history = History::read(fs::File::open(out).expect("the trace")).expect("a trace");
    check_counts(&history);
    let pid = history.begin.pid;
    let text = Command::new("perf")
        .args(["script", "-i", data, "-F", "pid,time,addr"])
        .output()
        .expect("perf script runs");
    // "  123   4.567890:  7f0123456000"
    let theirs: Vec<(u64, u64)> = String::from_utf8_lossy(&text.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let theirs: u32 = words.next()?.parse().ok()?;
            let time: f64 = words.next()?.trim_end_matches(':').parse().ok()?;
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            (theirs == pid).then_some(((time * 1e9) as u64, address))
        })
        .collect();
    // perf's event counts what the CPU met, but not what the kernel got by itself; and it begins
    // with the process, ours when it is let go.
    let start = history.faults.first().map_or(0, |fault| fault.time_ns);
    let theirs: Vec<u64> = theirs
        .iter()
        .filter(|(time, _)| *time + 100_000 >= start)
        .map(|(_, address)| *address)
        .collect();
    let ours: Vec<u64> = history
        .faults
        .iter()
        .filter(|fault| !fault.is(FAULT_INDIRECT) && !fault.is(FAULT_OTHER))
        .map(|fault| fault.address)
        .collect();
    println!("ours {} theirs {}", ours.len(), theirs.len());
    let common = ours
        .iter()
        .filter(|address| theirs.contains(address))
        .count();
    assert_eq!(common, ours.len(), "perf has each of ours");
    assert!(
        theirs.len() - ours.len() <= 20,
        "{} {}",
        ours.len(),
        theirs.len()
    );
}
