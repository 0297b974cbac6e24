// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Where a trace begins and ends while its process goes on: recorded and dropped are what the kernel
//! counted, to the fault, and of each thread there is every fault between its first and its last.

use std::collections::HashMap;

use virgo::trace::{History, Target, TraceFile, FAULT_FIRST, FAULT_USER};
use virgo_tests::child::Child;
use virgo_tests::sys::{Area, PAGE};
use virgo_tests::{long, procfs, wait_until, SOON};

use crate::{check_counts, read_all};

const PAGES: usize = 64;
const THREADS: usize = 4;
/// All of a storm's: also the main one, the one that makes threads, the one it makes, and the one
/// that forks.
const MOST_THREADS: u64 = THREADS as u64 + 4;

/// A process that faults all the time: four threads that touch the pages of an area of their own in
/// order, again and again; one that makes threads which fault and end; with `forks` one that forks
/// children which do; and one that sleeps. Also the addresses of the areas.
fn storm(forks: bool) -> (Child, Vec<u64>) {
    let mut child = Child::spawn("storm", move |parent| {
        for _ in 0..THREADS {
            let (tell, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let mut area = Area::new(PAGES);
                let start = area.address(0);
                tell.send(start as u64).expect("the main thread listens");
                loop {
                    area.touch(0, PAGES);
                    // SAFETY: The pages are the area's, which nothing refers to.
                    unsafe { libc::madvise(start as *mut _, PAGES * PAGE, libc::MADV_DONTNEED) };
                }
            });
            parent.say(told.recv().expect("an address"));
        }
        std::thread::spawn(|| loop {
            let thread = std::thread::spawn(|| Area::new(20).touch(0, 20));
            thread.join().expect("a thread");
        });
        if forks {
            std::thread::spawn(|| loop {
                // SAFETY: The child has one thread, which uses memory of its own alone.
                unsafe {
                    let pid = libc::fork();
                    if pid == 0 {
                        Area::new(20).touch(0, 20);
                        libc::_exit(0);
                    }
                    libc::waitpid(pid, std::ptr::null_mut(), 0);
                }
            });
        }
        parent.hear();
        0
    });
    let areas = (0..THREADS).map(|_| child.hear()).collect();
    (child, areas)
}

/// Keeps the probes in place by another trace: putting them there and taking them away waits for every
/// task, which takes long in a storm.
fn keep_probes() -> (Child, TraceFile) {
    let child = Child::idle("other");
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    (child, file)
}

/// Minor and major faults of all threads, by /proc.
fn counted(child: &Child) -> u64 {
    let stat = procfs::stat(child.pid).expect("its line in /proc");
    stat.minflt + stat.majflt
}

fn trace(child: &Child, follow: bool, limit: u64, enough: u64) -> History {
    let file = TraceFile::open().expect("the file opens");
    let outer_first = counted(child);
    file.start(Target::Process(child.pid), follow, limit)
        .expect("the trace starts");
    let inner_first = counted(child);
    let state = || file.state().expect("its state");
    assert!(wait_until(SOON, || state().recorded + state().dropped > enough));
    let inner_last = counted(child);
    file.stop().expect("it stops");
    let outer_last = counted(child);
    let (bytes, _) = read_all(file);
    let history = History::read(&bytes[..]).expect("a trace");
    check_counts(&history);
    let end = history
        .ends
        .iter()
        .find(|end| end.pid == child.pid as u32)
        .expect("its end");
    let ours = end.min_flt + end.maj_flt;
    // A thread that was in the midst of a fault at the start has that one before its beginning, and
    // one that was at the end of a fault when it was stopped, behind its end: one fault a thread each.
    let (inner, outer) = (inner_last - inner_first, outer_last - outer_first);
    assert!(
        inner <= ours + 2 * MOST_THREADS && ours <= outer,
        "{inner} <= {ours} <= {outer}"
    );
    history
}

#[test]
fn nothing_is_missing_between_start_and_stop() {
    let _probes = keep_probes();
    let (child, areas) = storm(false);
    for round in 0..if long() { 300 } else { 5 } {
        let history = trace(&child, false, 0, 1000);
        assert_eq!(history.dropped, 0);
        // Each page of an area, one after the other.
        let mut next: HashMap<u64, u64> = HashMap::new();
        let mut seen = 0;
        for fault in &history.faults {
            let Some(start) = areas
                .iter()
                .find(|start| (**start..**start + (PAGES * PAGE) as u64).contains(&fault.address))
            else {
                continue;
            };
            assert!(fault.is(FAULT_USER) && fault.is(FAULT_FIRST), "{fault:?}");
            let page = (fault.address - start) / PAGE as u64;
            let expected = next.insert(*start, (page + 1) % PAGES as u64);
            assert!(
                expected.is_none_or(|expected| expected == page),
                "round {round}: {expected:?} is missing before {fault:?}"
            );
            seen += 1;
        }
        assert!(seen > 100, "{seen}");
    }
}

#[test]
fn what_is_dropped_is_counted_between_start_and_stop() {
    let _probes = keep_probes();
    let (child, _) = storm(false);
    for _ in 0..if long() { 100 } else { 3 } {
        let history = trace(&child, false, 16384, 3000);
        assert!(history.dropped > 0);
    }
}

#[test]
fn children_are_counted_between_start_and_stop() {
    let _probes = keep_probes();
    let (child, _) = storm(true);
    for _ in 0..if long() { 100 } else { 3 } {
        let history = trace(&child, true, 0, 1000);
        assert_eq!(history.dropped, 0);
    }
}

#[test]
fn threads_that_sleep_do_not_count() {
    // A hundred asleep, of which some wake up once.
    let mut child = Child::spawn("sleepers", |parent| {
        let threads: Vec<_> = (0..100)
            .map(|index| {
                std::thread::spawn(move || {
                    std::thread::park();
                    if index % 3 == 0 {
                        Area::new(7).touch(0, 7);
                    }
                })
            })
            .collect();
        parent.say(0);
        parent.hear();
        for thread in threads {
            thread.thread().unpark();
            thread.join().expect("a thread");
        }
        parent.say(0);
        parent.hear();
        0
    });
    child.hear();
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    let before = counted(&child);
    child.say(1);
    child.hear();
    let after = counted(&child);
    child.say(1);
    let history = History::read(file).expect("a trace");
    check_counts(&history);
    assert!(after - before >= 34 * 7);
    assert!(history.ends[0].min_flt + history.ends[0].maj_flt >= after - before);
    child.wait();
}
