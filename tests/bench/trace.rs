// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What recording a page fault costs: `virgo trace` beside perf record, perf trace and bpftrace.
//!
//! Meant for `tests/vm run --icount`: a nanosecond of the guest's clock is an instruction, and
//! what a reader beside the traced program does counts as well, since there is one CPU.

use std::process::{Command, Stdio};
use std::time::Instant;

use virgo_tests::sys::{Area, PAGE};

const OUT: &str = "/tmp/bench-trace.out";

/// Faults of this process's children.
fn faults_of_children() -> u64 {
    // SAFETY: Plain numbers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: The structure is writable.
    let status = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    assert_eq!(status, 0);
    (usage.ru_minflt + usage.ru_majflt) as u64
}

/// A program to be traced: says at its end how many faults it caused, and in how many nanoseconds.
fn work(kind: &str) {
    let start = Instant::now();
    let (rounds, pages) = match kind {
        // 2048 pages, mapped, touched and unmapped, again and again.
        "loop" => (20, 2048),
        "gib" => (1, 262_144),
        "stress-ng" => {
            let status = Command::new("stress-ng")
                .args([
                    "--fault",
                    "1",
                    "--fault-ops",
                    "3000",
                    "--temp-path",
                    "/tmp",
                    "--quiet",
                ])
                .status();
            assert!(status.is_ok_and(|status| status.success()));
            println!("{} {}", faults_of_children(), start.elapsed().as_nanos());
            return;
        }
        _ => panic!("{kind}?"),
    };
    for _ in 0..rounds {
        let mut area = Area::new(pages);
        area.touch(0, pages);
    }
    println!("{} {}", rounds * pages, start.elapsed().as_nanos());
}

/// Runs a command whose output holds the two numbers; nanoseconds a fault.
fn run(command: &mut Command) -> Option<(f64, f64)> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| {
        let mut words = line.split(' ');
        words.clone().count() == 2 && words.all(|word| word.parse::<u64>().is_ok())
    })?;
    let (faults, ns) = line.split_once(' ')?;
    Some((faults.parse().ok()?, ns.parse().ok()?))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Tracer {
    name: &'static str,
    before: &'static [&'static str],
    /// Counts what it recorded.
    recorded: fn() -> Option<u64>,
}

fn lines(command: &str) -> Option<u64> {
    let output = Command::new("sh").arg("-c").arg(command).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

const TRACERS: &[Tracer] = &[
    Tracer {
        name: "untraced",
        before: &[],
        recorded: || Some(0),
    },
    Tracer {
        name: "virgo trace run",
        before: &["/virgo/bin/virgo", "trace", "run", "-q", "--follow", OUT, "--"],
        recorded: || lines("virgo trace show --format csv /tmp/bench-trace.out | tail -n +2 | wc -l"),
    },
    Tracer {
        name: "perf record -e page-faults -c 1 -d",
        before: &["perf", "record", "-q", "-e", "page-faults", "-c", "1", "-d", "-o", OUT, "--"],
        recorded: || lines("perf script -i /tmp/bench-trace.out -F addr 2>/dev/null | wc -l"),
    },
    Tracer {
        name: "perf trace -F all",
        before: &["perf", "trace", "-F", "all", "--no-syscalls", "-o", OUT, "--"],
        recorded: || lines("grep -c fault /tmp/bench-trace.out"),
    },
    Tracer {
        name: "bpftrace page_fault_user",
        before: &[
            "bpftrace", "-q", "-o", OUT, "-e",
            "tracepoint:exceptions:page_fault_user /comm == \"bench-trace\" || comm == \"stress-ng-fault\" || comm == \"stress-ng\"/ { printf(\"%lld %d %lx %lx\\n\", nsecs, tid, args.address, args.ip); }",
            "-c",
        ],
        recorded: || lines("wc -l < /tmp/bench-trace.out"),
    },
];

fn compare(kind: &str, rounds: usize, own: &str) {
    println!("{kind}:");
    println!(
        "  {:<36} {:>9} {:>8} {:>10} {:>8}",
        "", "ns/fault", "+%", "recorded", "bytes"
    );
    let mut base = f64::NAN;
    for tracer in TRACERS {
        let mut figures = Vec::new();
        let mut faults = 0.0;
        for _ in 0..rounds {
            let mut words: Vec<String> = tracer.before.iter().map(|w| (*w).into()).collect();
            if words.last().is_some_and(|word| word == "-c") {
                words.push(format!("{own} work {kind}"));
            } else {
                words.extend([own.into(), "work".into(), kind.into()]);
            }
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            if let Some((count, ns)) = run(&mut command) {
                faults = count;
                figures.push(ns / count);
            }
        }
        if figures.is_empty() {
            println!("  {:<36} {:>9}", tracer.name, "not here");
            continue;
        }
        let spread = figures.iter().copied().fold(0.0, f64::max)
            / figures.iter().copied().fold(f64::INFINITY, f64::min);
        let cost = median(figures);
        if base.is_nan() {
            base = cost;
        }
        let recorded = (tracer.recorded)().unwrap_or(0);
        let bytes = std::fs::metadata(OUT).map_or(0, |file| file.len());
        println!(
            "  {:<36} {:>9.0} {:>8.1} {:>9.1}% {:>8.1}   (spread {:.1} %)",
            tracer.name,
            cost,
            100.0 * (cost / base - 1.0),
            100.0 * recorded as f64 / faults,
            bytes as f64 / recorded.max(1) as f64,
            100.0 * (spread - 1.0),
        );
        let _ = std::fs::remove_file(OUT);
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "work") {
        work(&words[2]);
        return;
    }
    assert_eq!(PAGE, 4096);
    for package in [
        "perf --version",
        "bpftrace --version",
        "stress-ng --version",
    ] {
        let output = Command::new("sh").arg("-c").arg(package).output();
        if let Ok(output) = output {
            print!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }
    // A name that bpftrace can tell from its own.
    let own = "/tmp/bench-trace";
    std::fs::copy(std::env::current_exe().expect("this program"), own).expect("a copy");
    compare("loop", 3, own);
    compare("stress-ng", 3, own);
    compare("gib", 1, own);
}
