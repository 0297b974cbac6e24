// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Every fault is there, with what it was.

use virgo::trace::{
    History, Target, TraceFile, FAULT_FIRST, FAULT_INDIRECT, FAULT_MAJOR, FAULT_USER, FAULT_WRITE,
};
use virgo_tests::sys::{Area, PAGE};

use crate::{check_counts, trace_of, waiting};

#[test]
fn a_process_from_its_first_fault_to_its_last() {
    let (history, ended) = trace_of("touches", false, |parent| {
        let mut area = Area::new(500);
        area.touch(0, 500);
        let _ = parent;
        0
    });
    check_counts(&history);
    let process = history.processes[0];
    let end = history.ends[0];
    let whole = ended.usage;
    assert_eq!(
        process.min_flt + process.maj_flt + end.min_flt + end.maj_flt,
        (whole.ru_minflt + whole.ru_majflt) as u64,
        "what wait4() says"
    );
    assert!(end.min_flt >= 500);
    assert_eq!(end.dropped, 0);
}

#[test]
fn each_fault_says_what_it_was() {
    let mut child = waiting("kinds", |parent| {
        let mut area = Area::new(64);
        parent.say(area.address(0) as u64);
        parent.hear();
        area.touch(0, 16);
        // Read first: the zero page; then written: a fault again, not the first touch.
        for page in 16..32 {
            let _ = area.read(page * PAGE, 1);
        }
        area.touch(16, 16);
        0
    });
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    child.say(1);
    let start = child.hear();
    child.say(1);
    let history = History::read(file).expect("a trace");
    check_counts(&history);
    let at = |page: u64| {
        let address = start + page * PAGE as u64;
        let faults: Vec<_> = history
            .faults
            .iter()
            .filter(|fault| fault.address & !(PAGE as u64 - 1) == address)
            .collect();
        faults
    };
    for page in 0..16 {
        let [fault] = at(page)[..] else {
            panic!("page {page}: {:?}", at(page));
        };
        assert!(fault.is(FAULT_WRITE) && fault.is(FAULT_USER) && fault.is(FAULT_FIRST));
        assert!(!fault.is(FAULT_MAJOR) && !fault.is(FAULT_INDIRECT));
        assert_eq!(fault.tid, child.pid as u32);
        assert!(fault.latency_ns > 0 && fault.latency_ns < u32::MAX);
        let code = history.code(fault).expect("code");
        assert!(code.area.permissions().contains('x'), "{code:?}");
        let region = history.region(fault).expect("a region");
        assert!(region.area.start <= fault.address && fault.address < region.area.end);
    }
    for page in 16..32 {
        let [read, write] = at(page)[..] else {
            panic!("page {page}: {:?}", at(page));
        };
        assert!(read.is(FAULT_FIRST) && !read.is(FAULT_WRITE));
        assert!(write.is(FAULT_WRITE) && !write.is(FAULT_FIRST));
    }
    for page in 32..64 {
        assert!(at(page).is_empty(), "page {page} was not touched");
    }
    let end = history.ends[0];
    assert!(history.faults.iter().all(|fault| {
        fault.time_ns >= history.begin.monotonic_ns && fault.time_ns <= end.time_ns
    }));
}

#[test]
fn what_the_kernel_does_on_its_behalf() {
    let (history, _) = trace_of("by read()", false, |_| {
        let area = Area::new(64);
        let file = std::fs::File::open("/proc/self/maps").expect("a file");
        // The kernel writes into pages that were not touched.
        for page in 0..32 {
            // SAFETY: The area is ours, and no reference points into it.
            unsafe {
                libc::pread(
                    std::os::fd::AsRawFd::as_raw_fd(&file),
                    area.address(page * PAGE) as *mut _,
                    16,
                    0,
                );
            }
        }
        // SAFETY: The area is ours.
        let locked = unsafe { libc::mlock(area.address(32 * PAGE) as *const _, 32 * PAGE) };
        assert_eq!(locked, 0);
        0
    });
    check_counts(&history);
    let by_kernel = history
        .faults
        .iter()
        .filter(|fault| !fault.is(FAULT_USER) && !fault.is(FAULT_INDIRECT));
    assert!(by_kernel.clone().count() >= 32);
    for fault in by_kernel {
        assert!(
            fault.ip < 1 << 47,
            "no address of the kernel's: {:x}",
            fault.ip
        );
    }
}

#[test]
fn sixty_four_threads() {
    let (history, _) = trace_of("threads", false, |_| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                std::thread::spawn(|| {
                    let mut area = Area::new(100);
                    area.touch(0, 100);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("a thread");
        }
        0
    });
    check_counts(&history);
    let mut tids: Vec<u32> = history.faults.iter().map(|fault| fault.tid).collect();
    tids.sort_unstable();
    tids.dedup();
    assert_eq!(tids.len(), 65);
    assert!(history.ends[0].min_flt >= 6400);
}

#[test]
fn a_ring_that_is_full_counts_what_it_drops() {
    let mut child = waiting("storm", |parent| {
        let mut area = Area::new(5000);
        area.touch(0, 5000);
        parent.say(1);
        parent.hear();
        0
    });
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 32768)
        .expect("the trace starts");
    child.say(1);
    // Nobody reads meanwhile.
    child.hear();
    let state = file.state().expect("its state");
    assert!(state.dropped > 1000 && state.recorded > 1000, "{state:?}");
    assert!(state.waiting_bytes <= 32768);
    child.say(1);
    let history = History::read(file).expect("a trace");
    check_counts(&history);
    assert!(history.ends[0].dropped > 1000);
}

#[test]
fn children_only_when_asked_for() {
    let body = |_: &mut virgo_tests::child::Parent| {
        for _ in 0..3 {
            let mut child = virgo_tests::child::Child::spawn("grandchild", |_| {
                let mut area = Area::new(100);
                area.touch(0, 100);
                7
            });
            assert_eq!(child.wait().code, Some(7));
        }
        0
    };
    let (history, _) = trace_of("forks", false, body);
    check_counts(&history);
    assert_eq!(history.processes.len(), 1);
    let (history, _) = trace_of("forks", true, body);
    check_counts(&history);
    assert_eq!(history.processes.len(), 4);
    for process in &history.processes[1..] {
        assert_eq!(process.parent, history.processes[0].pid);
        let end = history
            .ends
            .iter()
            .find(|end| end.pid == process.pid)
            .unwrap();
        assert!(end.min_flt >= 100, "{end:?}");
    }
}
