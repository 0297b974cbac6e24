// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Many tasks, and tasks that end at every moment.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Instant;

use virgo_proto::uapi::{self, ProfilerSample};
use virgo_tests::buffer::Reader;
use virgo_tests::child::{Child, Crowd};
use virgo_tests::device::{tell_status, Device};
use virgo_tests::module;
use virgo_tests::sys::{self, EEXIST, EINVAL, ESRCH};
use virgo_tests::{wait_until, SOON};

/// Lets the kernel have more tasks than it would in so small a guest.
fn allow_many_tasks() {
    for (name, value) in [("threads-max", "40000"), ("pid_max", "100000")] {
        fs::write(format!("/proc/sys/kernel/{name}"), value).unwrap();
    }
}

#[test]
fn ten_thousand_tasks() {
    const COUNT: usize = 10_000;
    allow_many_tasks();
    let _machine = module::profiler("rate_hz=1 buffer_pages=1024");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let start = Instant::now();
    let mut crowd = Crowd::new(COUNT);
    let made = start.elapsed();
    let mut ids = HashMap::new();
    for pid in &crowd.pids {
        let id = device.register(*pid, 0).unwrap();
        ids.insert(id, *pid as u32);
        // Rounds are under way already, and would fill the buffer.
        reader.drain();
    }
    let registered = start.elapsed();
    assert_eq!(ids.len(), COUNT);
    assert_eq!(reader.buffer().header().registered as usize, COUNT);
    assert_eq!(device.list().len(), COUNT);

    // Each is in a round, with its own figures.
    let now = sys::monotonic_ns();
    let mut round = HashMap::new();
    assert!(reader.follow(SOON, |record| {
        assert_eq!(ids.get(&record.id), Some(&record.pid));
        assert_eq!(record.flags & !uapi::SAMPLE_FIRST, 0);
        if record.time_ns >= now {
            round.insert(record.id, *record);
        }
        round.len() == COUNT
    }));
    let sampled = start.elapsed();
    // All in one round, which has one time.
    let times: HashSet<u64> = round.values().map(|record| record.time_ns).collect();
    assert!(times.len() <= 2, "{} rounds", times.len());

    let mut ends = HashSet::new();
    let mut note = |record: &ProfilerSample| {
        assert_eq!(ids.get(&record.id), Some(&record.pid));
        if record.flags & uapi::SAMPLE_EXIT != 0 {
            assert!(ends.insert(record.id), "it ended twice");
        } else {
            assert!(!ends.contains(&record.id), "it is dead");
        }
        ends.len() == COUNT
    };
    for pid in std::mem::take(&mut crowd.pids) {
        sys::kill(pid, libc::SIGKILL).unwrap();
        sys::wait4(pid, 0).unwrap();
        for record in reader.drain() {
            note(&record);
        }
    }
    let killed = start.elapsed();
    assert!(reader.follow(SOON, note) || reader.buffer().header().registered == 0);
    assert_eq!(ends.len(), COUNT);
    assert!(wait_until(SOON, || reader.buffer().header().registered == 0));
    assert_eq!(reader.lost, 0);
    assert_eq!(device.list(), []);
    let header = reader.buffer().header();
    println!(
        "made after {made:?}, registered {registered:?}, sampled {sampled:?}, killed {killed:?}, told {:?}; {} of {} rounds skipped",
        start.elapsed(),
        header.missed_ticks,
        header.ticks + header.missed_ticks,
    );
}

#[test]
fn processes_that_end_while_they_are_registered_and_sampled() {
    const AT_ONCE: usize = 20;
    let count = match (virgo_tests::long(), virgo_tests::debug_kernel()) {
        (_, true) => 60,
        (true, false) => 5000,
        (false, false) => 1000,
    };
    let _machine = module::profiler("rate_hz=1000 buffer_pages=1024");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    // Another one registers and unregisters whatever it finds, by the other door.
    let mut meddler = Child::spawn("meddler", |parent| {
        let mut line = parent.take();
        let stop = std::thread::spawn(move || line.hear());
        let mut done = 0_u64;
        parent.say(0);
        while !stop.is_finished() {
            for entry in fs::read_dir("/proc").unwrap() {
                let name = entry.unwrap().file_name();
                let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                    continue;
                };
                let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if comm != "storm\n" {
                    continue;
                }
                for verb in ["R", "U"] {
                    match tell_status(&format!("{verb} {pid}")) {
                        Ok(()) => done += 1,
                        Err(error) => assert!([EINVAL, ESRCH].contains(&error), "{error:?}"),
                    }
                }
            }
        }
        parent.say(done);
        parent.hear();
        0
    });
    meddler.hear();
    let mut ids = HashSet::new();
    let (mut refused, mut taken) = (0, 0);
    let mut ends: HashMap<u64, u32> = HashMap::new();
    let mut note = |reader: &mut Reader<'_>| {
        for record in reader.drain() {
            let end = record.flags & (uapi::SAMPLE_EXIT | uapi::SAMPLE_LAST);
            assert!(!ends.contains_key(&record.id), "a record after the last");
            if end != 0 {
                ends.insert(record.id, end);
            }
        }
    };
    let mut alive = Vec::new();
    for number in 0..count {
        // Ends at once, after some work, or when it is killed.
        alive.push(Child::spawn("storm", |parent| {
            match number % 4 {
                0 => {}
                1 => sys::burn(1_000_000),
                2 => sys::Area::new(64).touch(0, 64),
                _ => {
                    parent.hear();
                }
            }
            0
        }));
        let pid = alive[alive.len() - 1].pid;
        match device.register(pid, 0) {
            Ok(id) => {
                assert!(ids.insert(id), "an identity is never used twice");
            }
            Err(EEXIST) => taken += 1,
            Err(error) => {
                assert_eq!(error, ESRCH);
                refused += 1;
            }
        }
        if number % 5 == 0 {
            let _ = device.unregister(pid, 0);
        }
        if alive.len() == AT_ONCE {
            for child in &mut alive {
                child.kill();
            }
            alive.clear();
            note(&mut reader);
        }
    }
    drop(alive);
    meddler.say(0);
    let meddled = meddler.hear();
    meddler.finish();
    assert!(wait_until(SOON, || {
        note(&mut reader);
        reader.buffer().header().registered == 0
    }));
    note(&mut reader);
    let exits = ends
        .values()
        .filter(|end| **end & uapi::SAMPLE_EXIT != 0)
        .count();
    println!(
        "{count} processes: {} registered, {refused} had ended, {taken} were taken, {meddled} commands by the other; {exits} exits told, {} lost",
        ids.len(),
        reader.lost
    );
    if reader.lost == 0 {
        for id in &ids {
            assert!(
                ends.contains_key(id),
                "registration {id} has no last record"
            );
        }
    }
    assert!(ids.len() > count / 4, "{} registered", ids.len());
    assert!(exits > count / 8, "{exits} exits");
    assert_eq!(device.list(), []);
}
