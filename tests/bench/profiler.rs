// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What a sample costs: virgo-profiler beside a poll of /proc and pidstat, in one guest.
//!
//! Meant for `tests/vm run --icount`: with one CPU and `-icount shift=0,sleep=off` a nanosecond of
//! the guest's clock is an instruction, so a difference of times is a number of instructions. The
//! module's cost is what a loop of known length takes longer while tasks are registered: it holds
//! all that sampling causes (timer interrupt, switch to the worker, the round itself).

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

use virgo_proto::uapi;

const ROUNDS: usize = 7;
/// Steps of the measured loop, about seven instructions each: two seconds of the guest's clock.
const SPIN: u64 = 285_000_000;

fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is writable.
    let done = unsafe { libc::clock_gettime(id, &mut now) };
    assert_eq!(done, 0, "read a clock");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds that the loop takes.
fn spin() -> u64 {
    let start = monotonic();
    let mut value = 0_u64;
    for step in 0..SPIN {
        value = std::hint::black_box(value ^ step);
    }
    std::hint::black_box(value);
    monotonic() - start
}

/// The quietest of several rounds: what else the guest does only ever adds to a round.
fn quietest(round: impl FnMut() -> u64) -> u64 {
    std::iter::repeat_with(round)
        .take(ROUNDS)
        .min()
        .unwrap_or(0)
}

struct Profiler {
    file: File,
    header: *const u64,
    map_bytes: usize,
}

impl Profiler {
    fn open() -> Profiler {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(uapi::PROFILER_DEVICE)
            .expect("the profiler is loaded");
        let mut info = uapi::ProfilerInfo {
            size: size_of::<uapi::ProfilerInfo>() as u32,
            ..Default::default()
        };
        // SAFETY: The command takes this structure.
        let done = unsafe {
            libc::ioctl(
                file.as_raw_fd(),
                uapi::PROFILER_IOC_INFO as libc::Ioctl,
                &mut info,
            )
        };
        assert_eq!(done, 0, "ask for the buffer's size");
        let map_bytes = info.map_bytes as usize;
        // SAFETY: A new mapping, nothing is replaced.
        let header = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(header, libc::MAP_FAILED, "map the buffer");
        Profiler {
            file,
            header: header.cast(),
            map_bytes,
        }
    }

    fn word(&self, offset: usize) -> u64 {
        assert!(offset + 8 <= self.map_bytes);
        // SAFETY: Inside the mapping, aligned; the kernel writes it, so it is read as volatile.
        unsafe { self.header.add(offset / 8).read_volatile() }
    }

    fn head(&self) -> u64 {
        self.word(std::mem::offset_of!(uapi::ProfilerHeader, head))
    }

    fn ticks(&self) -> u64 {
        self.word(std::mem::offset_of!(uapi::ProfilerHeader, ticks))
    }

    fn register(&self, pid: i32) {
        let mut task = uapi::ProfilerTask {
            size: size_of::<uapi::ProfilerTask>() as u32,
            flags: uapi::PROFILER_F_BIND,
            pid,
            ..Default::default()
        };
        // SAFETY: The command takes this structure.
        let done = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                uapi::PROFILER_IOC_REGISTER as libc::Ioctl,
                &mut task,
            )
        };
        assert_eq!(done, 0, "register: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        // SAFETY: Our own mapping, of this length, not used after this. The file, and with it the
        // registrations, goes only when the mapping does.
        unsafe { libc::munmap(self.header.cast_mut().cast(), self.map_bytes) };
    }
}

/// Processes that wait until they are killed.
struct Sleepers(Vec<libc::pid_t>);

impl Sleepers {
    fn grow(&mut self, count: usize) {
        while self.0.len() < count {
            // SAFETY: The program has one thread; the child does nothing but wait.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
            if pid == 0 {
                loop {
                    // SAFETY: No preconditions.
                    unsafe { libc::pause() };
                }
            }
            self.0.push(pid);
        }
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for pid in &self.0 {
            // SAFETY: Our own children, not yet waited for.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        for pid in &self.0 {
            // SAFETY: As above.
            unsafe { libc::waitpid(*pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// Reads /proc/PID/stat of every process `rounds` times, as a sampler in user space must.
/// Processes read a round, and nanoseconds of CPU a process.
fn poll_proc(rounds: u64) -> (u64, u64) {
    let before = clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    let mut read = 0;
    let mut text = [0_u8; 4096];
    for _ in 0..rounds {
        for entry in std::fs::read_dir("/proc").expect("list /proc").flatten() {
            let name = entry.file_name();
            if !name
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
            {
                continue;
            }
            let mut path = entry.path();
            path.push("stat");
            if let Ok(mut file) = File::open(path) {
                read += u64::from(file.read(&mut text).is_ok());
            }
        }
    }
    let spent = clock(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
    (read / rounds, spent / read.max(1))
}

/// Nanoseconds of CPU that pidstat takes a process and report, at one report a second (its
/// shortest interval).
fn pidstat(processes: u64) -> Option<u64> {
    const REPORTS: u64 = 3;
    let child = Command::new("pidstat")
        .args(["-r", "-u", "-p", "ALL", "1", "3"])
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let pid = child.id();
    // SAFETY: All zeros is a valid siginfo_t; our own child, which stays a zombie to be asked.
    let spent = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT);
        let mut id = 0;
        assert_eq!(
            libc::clock_getcpuclockid(pid as i32, &mut id),
            0,
            "its clock"
        );
        clock(id)
    };
    let mut child = child;
    child.wait().ok()?.success().then_some(())?;
    // It reads all once more before the first report.
    Some(spent / ((REPORTS + 1) * processes))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next();
    let counts: &[usize] = &[1, 250, 10_000];
    let quiet = quietest(spin);
    let again = quietest(spin);
    let noise = quiet.abs_diff(again);
    println!("loop alone: {quiet} ns; again: {again} ns; differs by {noise} ns");

    let mut lines = String::from("tasks,instructions_a_sample,instructions_a_round,slowdown_pct\n");
    let mut sleepers = Sleepers(Vec::new());
    println!(
        "\n{:>8} {:>14} {:>14} {:>12}",
        "tasks", "instr/sample", "instr/round", "slow-down"
    );
    let mut per_round = Vec::new();
    for &count in counts {
        sleepers.grow(count);
        let idle = quietest(spin);
        let profiler = Profiler::open();
        for pid in &sleepers.0 {
            profiler.register(*pid);
        }
        let (mut samples, mut ticks) = (0, 0);
        let busy = quietest(|| {
            let before = (profiler.head(), profiler.ticks());
            let took = spin();
            samples = profiler.head() - before.0;
            ticks = profiler.ticks() - before.1;
            took
        });
        let extra = busy.saturating_sub(idle);
        let a_sample = extra / samples.max(1);
        let a_round = extra / ticks.max(1);
        let slowdown = 100.0 * extra as f64 / idle as f64;
        println!("{count:>8} {a_sample:>14} {a_round:>14} {slowdown:>11.3}%");
        lines += &format!("{count},{a_sample},{a_round},{slowdown:.4}\n");
        per_round.push((count as f64, a_round as f64));
        drop(profiler);
        if count == 250 {
            let (processes, poll) = poll_proc(20);
            println!(
                "{:>8} {poll:>14} {:>14} {:>12}   /proc poll, {processes} processes",
                "", "", ""
            );
            lines += &format!("proc-poll,{poll},,\n");
            match pidstat(processes) {
                Some(cost) => {
                    println!("{:>8} {cost:>14} {:>14} {:>12}   pidstat -r -u", "", "", "");
                    lines += &format!("pidstat,{cost},,\n");
                }
                None => println!("pidstat (package sysstat) is not there"),
            }
            println!(
                "         ratio to a sample of ours: /proc poll {:.0}",
                poll as f64 / a_sample.max(1) as f64
            );
        }
    }
    if let [.., (few, cheap), (many, dear)] = per_round[..] {
        let each = (dear - cheap) / (many - few);
        let fixed = cheap - each * few;
        println!("\na round costs {fixed:.0} + {each:.1} for each task");
        lines += &format!("fit,{each:.1},{fixed:.0},\n");
    }
    if let Some(path) = out {
        let mut file = File::create(&path).expect("make the output file");
        file.write_all(lines.as_bytes())
            .expect("write the output file");
    }
}
