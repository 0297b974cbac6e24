// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The rate is what was asked for, and stays so.

use virgo_proto::uapi::ProfilerHeader;
use virgo_tests::buffer::Reader;
use virgo_tests::child::Child;
use virgo_tests::device::Device;
use virgo_tests::module;
use virgo_tests::sys;
use virgo_tests::{wait_until, SOON};

const SECOND: u64 = 1_000_000_000;

/// When round `number` is due, from the start on.
fn due_ns(number: u64, hz: u64) -> u64 {
    number / hz * SECOND + number % hz * SECOND / hz
}

/// A child which wakes up as often as the profiler ought to, and counts the times that it could not
/// since the machine did not let it: what is this machine's fault cannot be held against the
/// profiler.
fn witness(hz: u64) -> Child {
    let mut child = Child::spawn_with_files("witness", |parent| {
        let mut line = parent.take();
        let stop = std::thread::spawn(move || line.hear());
        let start = sys::monotonic_ns();
        let (mut round, mut missed) = (0, 0);
        parent.say(0);
        while !stop.is_finished() {
            sys::wait_till_ns(start + due_ns(round, hz));
            let late = sys::monotonic_ns() - start;
            let mut next = round + 1;
            while due_ns(next, hz) <= late {
                next += 1;
            }
            missed += next - round - 1;
            round = next;
        }
        parent.say(missed);
        parent.hear();
        0
    });
    child.hear();
    child
}

fn missed_by(mut witness: Child) -> u64 {
    witness.say(0);
    witness.hear()
}

struct Outcome {
    /// Rounds that were taken.
    taken: u64,
    /// Rounds that were skipped.
    missed: u64,
    /// Rounds that the witness skipped.
    machine: u64,
    /// From the start to the last round.
    last_ns: u64,
    /// By how much rounds came late at the end, at best.
    least_late_ns: u64,
}

impl Outcome {
    /// Skipped about as few rounds as a program which only waits for the same moments. Where the
    /// machine is so busy that such a program misses a tenth of them, the numbers of the two tell
    /// nothing of the profiler, and are not compared; that is said.
    fn is_no_worse_than_a_program(&self, slack: u64) {
        if self.machine * 10 > self.taken + self.missed {
            println!("the machine is too busy for this rate: skipped rounds are not compared");
            return;
        }
        assert!(
            self.missed <= 2 * self.machine + slack,
            "{} rounds skipped, {} by a program that does the same",
            self.missed,
            self.machine
        );
    }
}

/// Samples one process at `hz` for that long and checks that the rounds are where they ought to be.
fn sample(hz: u64, seconds: u64) -> Outcome {
    let _machine = module::profiler(&format!("rate_hz={hz} buffer_pages=1024"));
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let child = Child::idle("target");
    let witness = witness(hz);
    let before = reader.buffer().header();
    device.register(child.pid, 0).unwrap();
    let start = reader.buffer().header().start_ns;
    let mut times = Vec::new();
    let limit = SOON + std::time::Duration::from_secs(seconds);
    assert!(reader.follow(limit, |record| {
        times.push(record.time_ns);
        record.time_ns >= start + seconds * SECOND
    }));
    device.unregister(child.pid, 0).unwrap();
    let after = reader.buffer().header();
    let machine = missed_by(witness);
    // The very last record is that of the unregistration, which is no round.
    times.extend(reader.drain().iter().map(|record| record.time_ns));
    times.pop();
    assert_eq!(reader.lost, 0);
    let since = |field: fn(&ProfilerHeader) -> u64| field(&after) - field(&before);
    let taken = since(|header| header.ticks);
    let missed = since(|header| header.missed_ticks);
    assert_eq!(taken, times.len() as u64, "a record a round");
    assert_eq!(since(|header| header.dropped), missed, "of one task");

    assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    let late: Vec<u64> = times
        .iter()
        .enumerate()
        .map(|(number, time)| {
            let past = time - start;
            assert!(due_ns(number as u64, hz) <= past, "round {number} is early");
            let round = past * hz / SECOND;
            past - due_ns(round, hz).min(past)
        })
        .collect();
    // Taken or skipped, all the rounds that were due have been counted, and none besides: with a
    // drift of any size this is wrong after some time.
    let last_ns = times[times.len() - 1] - start;
    let counted = taken + missed;
    assert!(
        due_ns(counted, hz) > last_ns,
        "{counted} rounds in {last_ns} ns"
    );
    if missed == 0 {
        assert!(
            due_ns(counted - 1, hz) <= last_ns,
            "{counted} rounds in {last_ns} ns"
        );
    }
    let tail = late.len() - (late.len() / 10).max(3).min(late.len());
    let least_late_ns = *late[tail..].iter().min().unwrap();
    println!(
        "{hz} Hz for {:.3} s: {taken} rounds, {missed} skipped ({machine} by the machine), at the end at least {} us late",
        last_ns as f64 / 1e9,
        least_late_ns / 1000
    );
    Outcome {
        taken,
        missed,
        machine,
        last_ns,
        least_late_ns,
    }
}

#[test]
fn twenty_hertz_are_twenty_hertz() {
    let outcome = sample(20, 60);
    let mean = |rounds: u64| (rounds - 1) as f64 / (outcome.last_ns as f64 / 1e9);
    let due = mean(outcome.taken + outcome.missed);
    assert!((due - 20.0).abs() <= 0.02, "{due} Hz were due");
    outcome.is_no_worse_than_a_program(1);
    if outcome.machine == 0 {
        let mean = mean(outcome.taken);
        assert!((mean - 20.0).abs() <= 0.02, "{mean} Hz");
    }
    // No drift: the last rounds are as close to their moment as the first.
    assert!(
        outcome.least_late_ns < 5_000_000,
        "{} ns",
        outcome.least_late_ns
    );
}

#[test]
fn other_rates_are_exact_too() {
    for (hz, seconds) in [(1, 4), (250, 4), (997, 4), (1000, 4)] {
        sample(hz, seconds).is_no_worse_than_a_program(hz * seconds / 50);
    }
}

#[test]
fn a_change_of_rate_takes_effect_at_once() {
    let _machine = module::profiler("rate_hz=1");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let child = Child::idle("target");
    let id = device.register(child.pid, 0).unwrap();
    reader.fresh(id);
    let mut start = reader.buffer().header().start_ns;
    for hz in [500, 1, 100, 1000, 20] {
        let before = sys::monotonic_ns();
        device.set_rate(hz).unwrap();
        let header = reader.buffer().header();
        assert!(
            header.start_ns >= before.max(start),
            "the rounds begin anew"
        );
        start = header.start_ns;
        assert_eq!(header.rate_hz, hz);
        // The first comes at once, not when the old rate would have had it.
        let record = reader.find(|record| record.time_ns >= start);
        let next = reader.find(|other| other.time_ns > record.time_ns);
        let apart = next.time_ns - record.time_ns;
        assert!(
            apart + 50_000_000 >= SECOND / u64::from(hz),
            "{hz} Hz: {apart} ns"
        );
    }
    device.unregister(child.pid, 0).unwrap();
    assert!(wait_until(SOON, || reader.buffer().header().start_ns == 0));
}
