// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What it costs to tell of an event, in instructions, and whether each loss is counted at ten
//! times the ring's rate; beside writing a line to the kernel's trace buffer and to its log.
//!
//! Meant for `tests/vm run --icount`: a nanosecond of the guest's clock is an instruction.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use virgo_tests::{module, wait_until};

const TELLER: &str = "/proc/virgo/eventtest";
const RING: u64 = 1024;
const ROUNDS: usize = 7;
const SOON: Duration = Duration::from_secs(120);

/// The numbers of a file with a name and a number a line.
fn number(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {path}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Told and written, or lost.
fn seen() -> u64 {
    number("/proc/virgo/eventnet", "events ") + number("/proc/virgo/eventnet", "lost ")
}

/// Instructions an event, of a burst that fits the ring; and of one with a cause each.
fn tell(command: &str) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let before = seen();
        let count = RING / 4;
        fs::write(TELLER, format!("{command} {count}")).expect("tell");
        let ns = number(TELLER, "ns ");
        assert_eq!(number(TELLER, "stamped "), count, "some were dropped");
        assert!(wait_until(SOON, || seen() == before + count));
        ns as f64 / count as f64
    });
    median(rounds.collect())
}

/// Instructions a line, of a program that writes 256 of them to a file of the kernel's.
fn lines(path: &str) -> Option<f64> {
    let mut file = OpenOptions::new().write(true).open(path).ok()?;
    let rounds = (0..ROUNDS).map(|_| each(&mut file));
    Some(median(rounds.collect()))
}

fn each(file: &mut File) -> f64 {
    let begin = Instant::now();
    for number in 0..256 {
        // As long as the module's.
        let _ = writeln!(file, "queue test {number:08}");
    }
    begin.elapsed().as_nanos() as f64 / 256.0
}

fn main() {
    let _machine = module::core_only();
    module::load("virgo-eventtest", "").expect("virgo-eventtest loads");
    // Without virgo-eventnet: what a module pays that could tell.
    let without = median(
        (0..ROUNDS)
            .map(|_| {
                fs::write(TELLER, "log 100000").expect("tell");
                number(TELLER, "ns ") as f64 / 100_000.0
            })
            .collect(),
    );
    let _ = fs::remove_dir_all("/var/tmp/bench-eventnet");
    fs::create_dir_all("/var/tmp/bench-eventnet").expect("a folder");
    let parameters =
        format!("folder=/var/tmp/bench-eventnet modules=all ring={RING} flush_ms=20 fsync=never");
    module::load("virgo-eventnet", &parameters).expect("virgo-eventnet loads");
    println!("| telling of an event | instructions |");
    println!("|---|---|");
    println!("| nobody asks for it | {without:.0} |");
    println!("| a vertex | {:.0} |", tell("log"));
    println!(
        "| a vertex and an edge from its cause | {:.0} |",
        tell("chain")
    );
    // Every line, and none to the console, which is slow.
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on");
    let _ = fs::write("/proc/sys/kernel/printk", "1");
    for (name, path) in [
        (
            "a line to tracefs' trace_marker, from a program",
            "/sys/kernel/tracing/trace_marker",
        ),
        ("a line to /dev/kmsg, from a program", "/dev/kmsg"),
    ] {
        match lines(path) {
            Some(cost) => println!("| {name} | {cost:.0} |"),
            None => println!("| {name} | not there |"),
        }
    }
    let before = (seen(), number("/proc/virgo/eventnet", "lost "));
    let count = 10 * RING * 10;
    fs::write(TELLER, format!("log {count}")).expect("tell");
    assert!(
        wait_until(SOON, || seen() == before.0 + count),
        "not all are accounted for"
    );
    let lost = number("/proc/virgo/eventnet", "lost ") - before.1;
    println!();
    println!(
        "{count} events without a pause, ring of {RING}: {} written, {lost} lost, all counted, {} losses told",
        count - lost,
        number("/proc/virgo/eventnet", "losses ")
    );
    module::unload("virgo-eventtest").expect("unload");
    module::unload("virgo-eventnet").expect("unload");
}
