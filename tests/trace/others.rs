// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The same faults as others see, in the same run.

use std::fs;
use std::process::Command;

use virgo::trace::{Fault, History, Target, TraceFile, FAULT_INDIRECT, FAULT_OTHER, FAULT_USER};
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

/// What `perf script` tells of the process: when, where, and the code that did it.
fn perf_samples(data: &str, pid: u32) -> Vec<(u64, u64, u64)> {
    let text = Command::new("perf")
        .args(["script", "-i", data, "--ns", "-F", "pid,time,addr,ip"])
        .output()
        .expect("perf script runs");
    // "  123   4.567890123:  7f0123456000  5601234567"
    String::from_utf8_lossy(&text.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let theirs: u32 = words.next()?.parse().ok()?;
            let (seconds, fraction) = words.next()?.trim_end_matches(':').split_once('.')?;
            let time =
                seconds.parse::<u64>().ok()? * 1_000_000_000 + fraction.parse::<u64>().ok()?;
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let ip = u64::from_str_radix(words.next()?, 16).ok()?;
            (theirs == pid).then_some((time, address, ip))
        })
        .collect()
}

#[test]
fn perf_sees_the_same() {
    let (out, data) = ("/tmp/virgo-both.trace", "/tmp/virgo-both.data");
    let status = Command::new("perf")
        .args(["record", "-q", "-B", "-N", "-e", "page-faults"])
        .args(["-c", "1", "-d", "-k", "CLOCK_MONOTONIC", "-o", data, "--"])
        .args(["/virgo/bin/virgo", "trace", "run", "-q", out, "--"])
        .args(["ls", "-l", "/etc"])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    let history = History::read(fs::File::open(out).expect("the trace")).expect("a trace");
    check_counts(&history);
    let begin = history.begin.monotonic_ns;
    // perf begins with the process, which meets some faults until it stops and is traced.
    let (before, theirs): (Vec<_>, Vec<_>) = perf_samples(data, history.begin.pid)
        .into_iter()
        .partition(|(time, ..)| *time < begin);
    // What get_user_pages() met was no exception of the processor's, so perf does not see it.
    let (indirect, ours): (Vec<&Fault>, Vec<&Fault>) = history
        .faults
        .iter()
        .partition(|fault| fault.is(FAULT_INDIRECT));
    // Where the kernel did it on the program's behalf, perf has the kernel's address.
    let theirs: Vec<(u64, u64)> = theirs
        .iter()
        .map(|(_, address, ip)| (*address, if *ip < 1 << 47 { *ip } else { 0 }))
        .collect();
    let seen: Vec<(u64, u64)> = ours
        .iter()
        .map(|fault| (fault.address, fault.ip * u64::from(fault.is(FAULT_USER))))
        .collect();
    println!(
        "{} in common; {} before the trace, {} indirect",
        seen.len(),
        before.len(),
        indirect.len()
    );
    assert!(seen.len() > 100);
    assert_eq!(seen, theirs);
    // Of execve(): the stack of the new program is filled while the old one runs.
    assert!(
        indirect.iter().all(|fault| fault.is(FAULT_OTHER)),
        "{indirect:?}"
    );
    for path in [out, data] {
        let _ = fs::remove_file(path);
    }
}
