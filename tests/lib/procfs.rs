// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the kernel itself tells of processes and of its memory.

use std::fs;

use crate::sys::{self, Res};

/// A part of /proc/PID/stat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name.
    pub comm: String,
    /// Letter of the state.
    pub state: char,
    /// Minor faults.
    pub minflt: u64,
    /// Major faults.
    pub majflt: u64,
    /// User time in ticks of 10 ms.
    pub utime: u64,
    /// System time in ticks of 10 ms.
    pub stime: u64,
}

fn read(path: &str) -> Res<String> {
    fs::read_to_string(path).map_err(|error| sys::errno_of(&error))
}

fn parse_stat(text: &str) -> Stat {
    let (start, end) = (
        text.find('(').expect("a name"),
        text.rfind(')').expect("a name"),
    );
    let rest: Vec<&str> = text[end + 2..].split(' ').collect();
    let number = |index: usize| rest[index].parse().expect("a number");
    Stat {
        comm: text[start + 1..end].to_owned(),
        state: rest[0].chars().next().expect("a state"),
        // The state is field 3 of proc_pid_stat(5).
        minflt: number(10 - 3),
        majflt: number(12 - 3),
        utime: number(14 - 3),
        stime: number(15 - 3),
    }
}

/// A process's figures.
pub fn stat(pid: i32) -> Res<Stat> {
    Ok(parse_stat(&read(&format!("/proc/{pid}/stat"))?))
}

/// A thread's figures.
pub fn thread_stat(pid: i32, tid: i32) -> Res<Stat> {
    Ok(parse_stat(&read(&format!("/proc/{pid}/task/{tid}/stat"))?))
}

/// Whether a thread sleeps, is stopped or has ended: it runs only once something wakes it.
#[must_use]
pub fn is_asleep(pid: i32, tid: i32) -> bool {
    thread_stat(pid, tid).is_ok_and(|stat| "STtZ".contains(stat.state))
}

/// A thread's run time in nanoseconds, by the scheduler.
pub fn thread_run_ns(pid: i32, tid: i32) -> Res<u64> {
    let text = read(&format!("/proc/{pid}/task/{tid}/schedstat"))?;
    Ok(text
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number"))
}

/// A process's resident memory in bytes.
pub fn rss_bytes(pid: i32) -> Res<u64> {
    let text = read(&format!("/proc/{pid}/statm"))?;
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("a number");
    Ok(pages * sys::PAGE as u64)
}

/// A line of /proc/meminfo, in kB.
#[must_use]
pub fn meminfo_kb(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or_else(|| panic!("/proc/meminfo has no {name}"))
}

/// What the kernel holds for itself: what a module that leaks would make grow.
#[derive(Clone, Copy, Debug)]
pub struct KernelMemory {
    /// Slab that cannot be reclaimed, in kB.
    pub slab_kb: u64,
    /// vmalloc, in kB.
    pub vmalloc_kb: u64,
    /// Memory that programs have or could have, in kB, with what waits in the lists of each
    /// processor: what the kernel uses is missing from it.
    pub available_kb: u64,
}

impl KernelMemory {
    /// Now, with caches dropped.
    #[must_use]
    pub fn now() -> KernelMemory {
        fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
        KernelMemory {
            slab_kb: meminfo_kb("SUnreclaim"),
            vmalloc_kb: meminfo_kb("VmallocUsed"),
            available_kb: meminfo_kb("MemAvailable")
                + meminfo_kb("AnonPages")
                + processors_lists_kb(),
        }
    }
}

/// Free pages in the lists that each processor keeps for itself, in kB: some megabytes that come
/// and go, and that `MemAvailable` leaves out.
fn processors_lists_kb() -> u64 {
    // A line "count: N" of each processor, in each zone's "pagesets".
    let zones = fs::read_to_string("/proc/zoneinfo").expect("/proc/zoneinfo");
    let pages: u64 = zones
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"))
        .map(|count| count.trim().parse::<u64>().expect("a number of pages"))
        .sum();
    pages * sys::PAGE as u64 / 1024
}

/// The kernel's log, one line after the other, without its time stamps.
#[must_use]
pub fn kernel_log() -> Vec<String> {
    let output = std::process::Command::new("dmesg")
        .arg("--notime")
        .output()
        .expect("dmesg");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What the kernel logs while `action` runs.
pub fn logged_during<T>(action: impl FnOnce() -> T) -> (T, Vec<String>) {
    let mark = format!("virgo-tests: mark {}", sys::monotonic_ns());
    // Without a line's end it is not to be read before something else is logged.
    fs::write("/dev/kmsg", format!("{mark}\n")).expect("/dev/kmsg");
    let value = action();
    let log = kernel_log();
    let start = log
        .iter()
        .rposition(|line| line.contains(&mark))
        .expect("the mark is in the log");
    (value, log[start + 1..].to_vec())
}
