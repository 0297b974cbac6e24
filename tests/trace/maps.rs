// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The maps, replayed, are those of /proc at every checkpoint.

use std::ptr;

use virgo::trace::{Event, Events, History, Target, TraceFile};
use virgo_tests::child::{Child, Parent};
use virgo_tests::debug_kernel;
use virgo_tests::sys::PAGE;

use crate::{drain, proc_maps, set_nonblocking, waiting};

/// Runs `body`, which says a number at each checkpoint and then waits, and compares there.
fn compare(name: &str, body: impl FnOnce(&mut Parent) -> i32) -> (u32, Events<TraceFile>) {
    let mut child = waiting(name, |parent| {
        let status = body(parent);
        parent.say(u64::MAX);
        parent.hear();
        status
    });
    let file = TraceFile::open().expect("the file opens");
    set_nonblocking(&file);
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    let mut events = Events::new(file).expect("a trace");
    let pid = child.pid as u32;
    drain(&mut events);
    same(&events, child.pid, "at the start");
    let mut checkpoint = 0;
    loop {
        child.say(1);
        let last = child.hear() == u64::MAX;
        drain(&mut events);
        checkpoint += 1;
        same(&events, child.pid, &format!("checkpoint {checkpoint}"));
        if last {
            break;
        }
    }
    child.say(1);
    child.wait();
    (pid, events)
}

fn same(events: &Events<TraceFile>, pid: i32, when: &str) {
    let layout = events.layout(pid as u32).expect("a map");
    assert_eq!(layout.maps(), proc_maps(pid), "{when}");
    assert_eq!(layout.surprises(), 0, "{when}");
}

fn checkpoint(parent: &mut Parent) {
    parent.say(0);
    parent.hear();
}

/// A new mapping.
fn map(at: usize, pages: usize, protection: i32, flags: i32) -> usize {
    // SAFETY: New, or over what this function made before and nothing refers to.
    let start = unsafe {
        libc::mmap(
            at as *mut _,
            pages * PAGE,
            protection,
            libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    start as usize
}

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

#[test]
fn every_call_that_changes_a_map() {
    compare("changes", |parent| {
        let private = libc::MAP_PRIVATE;
        // SAFETY: All of it is on mappings of this function's own, which nothing refers to.
        unsafe {
            let a = map(0, 64, RW, private);
            checkpoint(parent);
            libc::mprotect((a + 8 * PAGE) as *mut _, 8 * PAGE, libc::PROT_READ);
            checkpoint(parent);
            libc::mprotect((a + 8 * PAGE) as *mut _, 8 * PAGE, RW);
            checkpoint(parent);
            libc::munmap((a + 20 * PAGE) as *mut _, 4 * PAGE);
            checkpoint(parent);
            map(a + 20 * PAGE, 2, libc::PROT_NONE, private | libc::MAP_FIXED);
            checkpoint(parent);
            map(a + 18 * PAGE, 8, RW, libc::MAP_SHARED | libc::MAP_FIXED);
            checkpoint(parent);
            let b = libc::mremap(a as *mut _, 4 * PAGE, 4000 * PAGE, libc::MREMAP_MAYMOVE);
            assert_ne!(b, libc::MAP_FAILED);
            checkpoint(parent);
            libc::mremap(b, 4000 * PAGE, 3 * PAGE, 0);
            checkpoint(parent);
            let c = libc::mremap(b, 3 * PAGE, 8 * PAGE, 0);
            let _ = c;
            checkpoint(parent);
            // The heap.
            let heap = libc::sbrk(0) as usize;
            libc::sbrk(3 * PAGE as isize + 5);
            checkpoint(parent);
            libc::brk(heap as *mut _);
            checkpoint(parent);
            libc::madvise((a + 30 * PAGE) as *mut _, 4 * PAGE, libc::MADV_DONTFORK);
            checkpoint(parent);
            libc::mlock((a + 36 * PAGE) as *mut _, 4 * PAGE);
            checkpoint(parent);
            libc::munlock((a + 36 * PAGE) as *mut _, 4 * PAGE);
            checkpoint(parent);
            // A file, a part of it, and a named file in memory.
            let file = libc::memfd_create(c"virgo memory".as_ptr(), 0);
            libc::ftruncate(file, 16 * PAGE as i64);
            let d = libc::mmap(
                ptr::null_mut(),
                8 * PAGE,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file,
                4 * PAGE as i64,
            );
            assert_ne!(d, libc::MAP_FAILED);
            checkpoint(parent);
            libc::munmap(d.byte_add(2 * PAGE), PAGE);
            checkpoint(parent);
            libc::close(file);
            // A child copies the map, and changes nothing in this one.
            let mut child = Child::spawn("child", |_| {
                map(0, 5, RW, private);
                0
            });
            child.wait();
            checkpoint(parent);
            libc::munmap(a as *mut _, 64 * PAGE);
        }
        0
    });
}

/// Uses `depth` pages of stack.
fn descend(depth: usize) -> u8 {
    let room = [depth as u8; 4096];
    let below = if depth > 0 { descend(depth - 1) } else { 0 };
    std::hint::black_box(&room)[depth % 4096].wrapping_add(below)
}

#[test]
fn a_stack_that_grows() {
    // The main thread's, since the test's own is a mapping of fixed size: by a program of its own.
    let (_, events) = compare("grows", |parent| {
        let downward = map(0, 4, RW, libc::MAP_PRIVATE | libc::MAP_GROWSDOWN);
        // SAFETY: Ours.
        unsafe { libc::munmap((downward - PAGE) as *mut _, PAGE) };
        checkpoint(parent);
        descend(20);
        // SAFETY: A page below the mapping, which grows to it; nothing else is there.
        unsafe { (downward as *mut u8).sub(8).write_volatile(1) };
        0
    });
    drop(events);
}

#[test]
fn random_changes() {
    let rounds = if virgo_tests::long() { 20_000 } else { 2000 };
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let (pid, mut events) = compare("random", |parent| {
        let pages = 256;
        let base = map(0, pages, libc::PROT_NONE, libc::MAP_PRIVATE);
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for round in 0..rounds {
            let first = random(pages);
            let count = 1 + random((pages - first).min(24));
            let at = base + first * PAGE;
            let protection = [libc::PROT_NONE, libc::PROT_READ, RW][random(3)];
            // SAFETY: All inside the reserved range, which nothing refers to.
            unsafe {
                match random(4) {
                    0 => drop(libc::munmap(at as *mut _, count * PAGE)),
                    1 => drop(libc::mprotect(at as *mut _, count * PAGE, protection)),
                    2 => drop(map(
                        at,
                        count,
                        protection,
                        libc::MAP_FIXED | [libc::MAP_PRIVATE, libc::MAP_SHARED][random(2)],
                    )),
                    _ => {
                        let to = base + random(pages - 24) * PAGE;
                        let _ = libc::mremap(
                            at as *mut _,
                            count * PAGE,
                            (1 + random(24)) * PAGE,
                            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                            to as *mut libc::c_void,
                        );
                    }
                }
            }
            if round % (rounds / 40) == 0 {
                checkpoint(parent);
            }
        }
        0
    });
    drain(&mut events);
    // Regions outlive changes of size: there are far fewer than changes.
    let regions = events
        .regions()
        .iter()
        .filter(|region| region.pid == pid)
        .count();
    assert!(regions < rounds * 2, "{regions} regions");
}

#[test]
fn execve_brings_a_new_map() {
    let mut child = Child::spawn("before", |parent| {
        parent.say(0);
        parent.hear();
        let argv = [c"/bin/sleep".as_ptr(), c"1000".as_ptr(), ptr::null()];
        // SAFETY: Arguments as execv() wants them.
        unsafe { libc::execv(argv[0], argv.as_ptr()) };
        1
    });
    child.hear();
    let file = TraceFile::open().expect("the file opens");
    set_nonblocking(&file);
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    child.say(1);
    let mut events = Events::new(file).expect("a trace");
    let asleep = || {
        let text = std::fs::read_to_string(format!("/proc/{}/wchan", child.pid));
        text.is_ok_and(|text| text.contains("nanosleep"))
    };
    assert!(virgo_tests::wait_until(virgo_tests::SOON, asleep));
    let all = drain(&mut events);
    assert!(all
        .iter()
        .any(|event| matches!(event, Event::Exec(exec) if exec.path == "/bin/sleep")));
    same(&events, child.pid, "after execve()");
    let regions = events.regions();
    assert!(regions
        .iter()
        .any(|region| region.program == 0 && region.gone_ns.is_some()));
    assert!(regions
        .iter()
        .any(|region| region.area.name.contains("libc")));
}

#[test]
fn a_hundred_thousand_regions() {
    // The debug kernel looks through all of a map with each change.
    let count = if debug_kernel() { 2_000 } else { 100_000_usize };
    std::fs::write("/proc/sys/vm/max_map_count", "300000").expect("a higher limit");
    let mut child = waiting("regions", |parent| {
        let base = map(0, 2 * count, libc::PROT_NONE, libc::MAP_PRIVATE);
        for index in 0..count {
            // SAFETY: Ours.
            unsafe {
                libc::mprotect((base + 2 * index * PAGE) as *mut _, PAGE, libc::PROT_READ);
            }
        }
        parent.say(0);
        parent.hear();
        0
    });
    child.say(1);
    child.hear();
    let file = TraceFile::open().expect("the file opens");
    set_nonblocking(&file);
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    let mut events = Events::new(file).expect("a trace");
    drain(&mut events);
    let layout = events.layout(child.pid as u32).expect("a map");
    assert!(layout.areas().count() > 2 * count - 10);
    assert_eq!(layout.maps(), proc_maps(child.pid));
    child.say(1);
    child.wait();
}

#[test]
fn changes_that_did_not_fit_are_told_again() {
    let mut child = waiting("much", |parent| {
        for _ in 0..2000 {
            let at = map(0, 3, RW, libc::MAP_PRIVATE);
            // SAFETY: Ours.
            unsafe { libc::mprotect((at + PAGE) as *mut _, PAGE, libc::PROT_READ) };
        }
        parent.say(0);
        parent.hear();
        map(0, 7, RW, libc::MAP_PRIVATE);
        parent.say(0);
        parent.hear();
        0
    });
    let file = TraceFile::open().expect("the file opens");
    set_nonblocking(&file);
    file.start(Target::Process(child.pid), false, 1 << 19)
        .expect("the trace starts");
    child.say(1);
    child.hear();
    let mut events = Events::new(file).expect("a trace");
    drain(&mut events);
    child.say(1);
    child.hear();
    let all = drain(&mut events);
    let _ = all;
    let layout = events.layout(child.pid as u32).expect("a map");
    assert_eq!(layout.maps(), proc_maps(child.pid));
    child.say(1);
    child.wait();
}

#[test]
fn a_vfork_child_uses_its_parents_map() {
    let (history, _) = crate::trace_of("vforks", true, |_| {
        let status = std::process::Command::new("/bin/true").status();
        i32::from(!status.is_ok_and(|status| status.success()))
    });
    crate::check_counts(&history);
    assert_eq!(history.processes.len(), 2);
    assert!(history.execs.iter().any(|exec| exec.path == "/bin/true"));
    check_regions(&history);
}

fn check_regions(history: &History) {
    let lost = history
        .faults
        .iter()
        .filter(|fault| fault.region == u32::MAX && !fault.is(virgo::trace::FAULT_OTHER))
        .count();
    assert_eq!(lost, 0, "every fault is in a region that is known");
}
