// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Loading and unloading while something is traced.

use std::io::Read as _;

use virgo::trace::{Target, TraceFile};
use virgo_tests::child::Child;
use virgo_tests::sys::{self, Area, EIO, ENODEV};
use virgo_tests::{module, wait_until, SOON};

fn storm() -> Child {
    let mut child = Child::spawn("storm", |parent| {
        for _ in 0..4 {
            std::thread::spawn(|| loop {
                let mut area = Area::new(64);
                area.touch(0, 64);
            });
        }
        parent.say(0);
        parent.hear();
        0
    });
    child.hear();
    child
}

#[test]
fn unloaded_in_a_storm() {
    for _ in 0..5 {
        let machine = module::profiler("");
        let child = storm();
        let file = TraceFile::open().expect("the file opens");
        file.start(Target::Process(child.pid), true, 0)
            .expect("the trace starts");
        assert!(wait_until(SOON, || file.state().unwrap().recorded > 500));
        // The file is open, and closed for us.
        module::unload(module::PROFILER).expect("it unloads");
        let mut file = file;
        let error = file.read(&mut [0; 100]).expect_err("it is gone");
        assert_eq!(sys::errno_of(&error), EIO);
        drop(file);
        // Nobody's return passes through what is gone: a fault that is still under way pins it.
        let gone = wait_until(SOON, || module::unload(module::CORE).is_ok());
        assert!(gone, "virgo-core does not unload in the storm");
        drop(child);
        drop(machine);
    }
    module::load(module::CORE, "").expect("it loads");
    module::load(module::PROFILER, "").expect("it loads");
}

#[test]
fn a_reader_is_sent_away() {
    let machine = module::profiler("");
    let child = Child::idle("quiet");
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    let reader = std::thread::spawn(move || {
        let mut file = file;
        let mut bytes = [0; 65536];
        loop {
            if let Err(error) = file.read(&mut bytes) {
                return sys::errno_of(&error);
            }
        }
    });
    module::unload(module::PROFILER).expect("it unloads");
    let errno = reader.join().expect("a thread");
    assert!(errno == ENODEV || errno == EIO, "{errno:?}");
    module::load(module::PROFILER, "").expect("it loads");
    drop(machine);
}

#[test]
fn no_probe_without_a_trace() {
    let _machine = module::profiler("");
    let enabled = || std::fs::read_to_string("/sys/kernel/tracing/enabled_functions");
    sys::mount_tracefs();
    assert_eq!(enabled().expect("ftrace's list"), "");
    let child = Child::idle("quiet");
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    let now = enabled().expect("ftrace's list");
    assert!(now.contains("handle_mm_fault") && now.contains("__vma_start_write"));
    drop(file);
    assert_eq!(enabled().expect("ftrace's list"), "");
}
