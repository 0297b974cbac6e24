// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The page-fault trace in a guest: every fault, every change of the map, and bad input.

mod bad;
mod edges;
mod exact;
mod lifetime;
mod maps;
mod others;
mod programs;
mod tool;

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _};

use virgo::trace::{Event, Events, History, ReadError, Target, TraceFile};
use virgo_tests::child::{Child, Parent};

/// Fails unless the trace has, of each process, as many faults as the kernel counted.
pub(crate) fn check_counts(history: &History) {
    let mut faults: HashMap<u32, (u64, u64)> = HashMap::new();
    for fault in &history.faults {
        let (minor, major) = faults.entry(fault.pid).or_default();
        if fault.is(virgo::trace::FAULT_MAJOR) {
            *major += 1;
        } else {
            *minor += 1;
        }
    }
    assert_eq!(history.ends.len(), history.processes.len(), "{history:?}");
    let mut dropped = 0;
    for end in &history.ends {
        let (minor, major) = faults.get(&end.pid).copied().unwrap_or_default();
        assert_eq!(end.recorded, minor + major, "{end:?}");
        assert_eq!(
            end.recorded + end.dropped,
            end.min_flt + end.maj_flt,
            "{end:?}"
        );
        if end.dropped == 0 {
            assert_eq!((minor, major), (end.min_flt, end.maj_flt), "{end:?}");
        }
        dropped += end.dropped;
    }
    assert_eq!(history.dropped, dropped);
    assert!(!history.cut);
}

/// A child that waits to be traced, then runs `body`.
pub(crate) fn waiting(name: &str, body: impl FnOnce(&mut Parent) -> i32) -> Child {
    let mut child = Child::spawn(name, |parent| {
        parent.say(0);
        parent.hear();
        body(parent)
    });
    child.hear();
    child
}

/// Traces `body` in a child from its beginning to its end.
pub(crate) fn trace_of(
    name: &str,
    follow: bool,
    body: impl FnOnce(&mut Parent) -> i32,
) -> (History, virgo_tests::child::Ended) {
    let mut child = waiting(name, body);
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), follow, 0)
        .expect("the trace starts");
    child.say(1);
    let history = History::read(file).expect("a trace");
    let ended = child.wait();
    (history, ended)
}

/// All events that are there now.
pub(crate) fn drain<R: io::Read>(events: &mut Events<R>) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match events.next_event() {
            Ok(Some(event)) => all.push(event),
            Ok(None) => return all,
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads to the end, or to an error; what was read until then. `read_to_end()` would not do: it
/// begins with a buffer that is shorter than a record.
pub(crate) fn read_all(mut input: impl io::Read) -> (Vec<u8>, Option<io::Error>) {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return (bytes, None),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => return (bytes, Some(error)),
        }
    }
}

/// Lets reads return at once.
pub(crate) fn set_nonblocking(file: &TraceFile) {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: Two calls that change a flag of an open file.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        assert_eq!(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK), 0);
    }
}

/// /proc/PID/maps, without the gate page, which is in no map.
pub(crate) fn proc_maps(pid: i32) -> String {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{pid}/maps"))
        .and_then(|mut file| file.read_to_string(&mut text))
        .expect("the process's map");
    text.split_inclusive('\n')
        .filter(|line| !line.trim_end().ends_with("[vsyscall]"))
        .collect()
}
