// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Bad input, and bad moments.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};

use virgo::trace::{History, Target, TraceFile};
use virgo_proto::uapi::{self, TraceInfo, TraceStart, TraceStop};
use virgo_tests::child::Child;
use virgo_tests::sys::{
    self, Area, Errno, E2BIG, EAGAIN, EBADF, EBUSY, EFAULT, EINVAL, ENOSPC, ENOTTY, EPERM, ERANGE,
    ESRCH,
};
use virgo_tests::{module, wait_until, SOON};

use crate::{check_counts, read_all, set_nonblocking, waiting};

fn open() -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(uapi::TRACE_FILE)
        .expect("the file opens")
}

fn write(mut file: &File, text: &str) -> Result<(), Errno> {
    file.write_all(text.as_bytes())
        .map_err(|error| sys::errno_of(&error))
}

fn read(mut file: &File, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    let got = file
        .read(&mut bytes)
        .map_err(|error| sys::errno_of(&error))?;
    bytes.truncate(got);
    Ok(bytes)
}

#[test]
fn what_is_written_must_be_understood() {
    let file = open();
    for text in ["2", "1 x", "1 -5", "follow", "1 1 1", "\n", "0 7", "11"] {
        assert_eq!(write(&file, text), Err(EINVAL), "{text:?}");
    }
    assert_eq!(write(&file, &"1".repeat(5000)), Err(E2BIG));
    assert_eq!(write(&file, "0"), Err(ESRCH), "nothing to stop");
    assert_eq!(write(&file, "1 999999999"), Err(ESRCH));
    assert_eq!(read(&file, 100), Err(ESRCH), "no trace was started");
    // Threads of the kernel's have no memory: kthreadd.
    assert_eq!(write(&file, "1 2"), Err(EINVAL));
    let mut child = Child::idle("ended");
    let pid = child.pid;
    child.say(1);
    child.wait();
    assert_eq!(write(&file, &format!("1 {pid}")), Err(ESRCH));
}

#[test]
fn one_trace_at_a_time() {
    let child = Child::idle("wanted");
    let (first, second) = (open(), open());
    write(&first, &format!("1 {}\n", child.pid)).expect("a trace");
    assert_eq!(write(&first, &format!("1 {}", child.pid)), Err(EBUSY));
    assert_eq!(write(&second, &format!("1 {}", child.pid)), Err(EBUSY));
    write(&first, "0").expect("it stops");
    assert_eq!(write(&first, "0"), Err(ESRCH));
    write(&second, &format!("1 {}", child.pid)).expect("free now");
    // What was recorded can still be read, then there is no trace.
    while !read(&first, 65536).unwrap_or_default().is_empty() {}
    assert_eq!(read(&first, 65536), Err(ESRCH));
    drop(second);
    write(&first, &format!("1 {}", child.pid)).expect("again");
}

#[test]
fn ioctls_are_checked() {
    let file = open();
    let start = |change: &dyn Fn(&mut TraceStart)| {
        let mut request = TraceStart {
            size: size_of::<TraceStart>() as u32,
            ..Default::default()
        };
        change(&mut request);
        sys::ioctl(&file, uapi::TRACE_IOC_START, &mut request).map(drop)
    };
    assert_eq!(start(&|r| r.size = 8), Err(EINVAL));
    assert_eq!(start(&|r| r.flags = 4), Err(EINVAL));
    assert_eq!(start(&|r| r.reserved0 = 1), Err(EINVAL));
    assert_eq!(start(&|r| r.reserved[1] = 1), Err(EINVAL));
    assert_eq!(start(&|r| r.limit_bytes = 8191), Err(ERANGE));
    assert_eq!(start(&|r| r.limit_bytes = u64::MAX), Err(ERANGE));
    assert_eq!(start(&|r| r.pid = 999_999_999), Err(ESRCH));
    assert_eq!(start(&|r| r.pid = -1), Err(ESRCH));
    assert_eq!(
        start(&|r| {
            r.flags = uapi::TRACE_F_PIDFD;
            r.pid = 0;
        }),
        Err(EBADF)
    );
    let mut stop = TraceStop { size: 8, flags: 0 };
    assert_eq!(
        sys::ioctl(&file, uapi::TRACE_IOC_STOP, &mut stop),
        Err(ESRCH)
    );
    stop.flags = 1;
    assert_eq!(
        sys::ioctl(&file, uapi::TRACE_IOC_STOP, &mut stop),
        Err(EINVAL)
    );
    let mut info = TraceInfo {
        size: size_of::<TraceInfo>() as u32,
        ..Default::default()
    };
    assert_eq!(
        sys::ioctl(&file, uapi::TRACE_IOC_INFO, &mut info),
        Err(ESRCH)
    );
    assert_eq!(sys::ioctl_at(&file, uapi::TRACE_IOC_INFO, 1), Err(EFAULT));
    assert_eq!(
        sys::ioctl_at(&file, uapi::PROFILER_IOC_LIST, 1),
        Err(ENOTTY)
    );
    assert_eq!(sys::ioctl_at(&file, 0x5401, 1), Err(ENOTTY));
    // By a pidfd, and by a 32-bit program.
    let child = Child::idle("by pidfd");
    // SAFETY: A call that makes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.pid, 0) } as i32;
    start(&|r| {
        r.flags = uapi::TRACE_F_PIDFD;
        r.pid = fd;
    })
    .expect("a trace");
    let mut low = Area::low(1);
    low.write(0, &64_u32.to_ne_bytes());
    sys::ioctl_32bit(&file, uapi::TRACE_IOC_INFO, low.address(0)).expect("its state");
    assert_eq!(low.read(8, 4), uapi::TRACE_RUNNING.to_ne_bytes());
    // SAFETY: Ours.
    unsafe { libc::close(fd) };
}

#[test]
fn others_processes_are_not_for_everybody() {
    let mut child = Child::spawn("nobody", |parent| {
        sys::become_user(65534);
        let file = open();
        let same = |result, expected| u64::from(result == expected);
        parent.say(same(write(&file, "1 1"), Err(EPERM)));
        // Its own is.
        parent.say(same(write(&file, "1"), Ok(())));
        0
    });
    assert_eq!(child.hear(), 1);
    assert_eq!(child.hear(), 1);
    child.wait();
}

#[test]
fn a_short_buffer_and_no_records() {
    let child = Child::idle("quiet");
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    set_nonblocking(&file);
    let raw = File::from(file.try_clone().expect("another descriptor"));
    assert_eq!(read(&raw, 3), Err(EINVAL), "no record is so short");
    assert_eq!(read(&raw, 0), Ok(Vec::new()));
    let mut all = Vec::new();
    // A few bytes at a time: whole records each time.
    loop {
        match read(&raw, 200) {
            Ok(bytes) => {
                let mut rest = &bytes[..];
                while let Some(length) = virgo_proto::trace::frame(rest).expect("a record") {
                    rest = &rest[length..];
                }
                assert!(rest.is_empty());
                all.extend(bytes);
            }
            Err(EAGAIN) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(virgo::trace::Events::new(&all[..]).is_ok());
}

/// What poll() tells at once, and within a while.
fn readable(file: &TraceFile, within: std::time::Duration) -> bool {
    let limit = i32::try_from(within.as_millis()).expect("a short time");
    match sys::poll(file, libc::POLLIN, limit) {
        0 => false,
        told => {
            assert_eq!(told, libc::POLLIN);
            true
        }
    }
}

#[test]
fn poll_tells_when_a_read_would_not_wait() {
    let at_once = std::time::Duration::ZERO;
    let file = TraceFile::open().expect("the file opens");
    assert!(readable(&file, at_once), "without a trace a read is ESRCH");
    let mut child = waiting("polled", |parent| {
        let mut area = Area::new(10);
        area.touch(0, 10);
        parent.say(0);
        parent.hear();
        0
    });
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    set_nonblocking(&file);
    let raw = File::from(file.try_clone().expect("another descriptor"));
    let drain = || loop {
        match read(&raw, 65536) {
            Ok(bytes) if bytes.is_empty() => return true,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, EAGAIN);
                return false;
            }
        }
    };
    assert!(!drain());
    assert!(
        !readable(&file, at_once),
        "it waits for us, and nothing is left"
    );
    child.say(1);
    child.hear();
    assert!(readable(&file, SOON), "it has touched pages");
    // It may still come to its wait.
    assert!(wait_until(SOON, || !drain() && !readable(&file, at_once)));
    child.say(1);
    child.wait();
    assert!(wait_until(SOON, || readable(&file, SOON) && drain()));
    assert!(readable(&file, at_once), "the end stays");
}

#[test]
fn two_readers_share_the_records() {
    let mut child = waiting("two readers", |_| {
        let mut area = Area::new(3000);
        area.touch(0, 3000);
        0
    });
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let file = File::from(file.try_clone().expect("another descriptor"));
            std::thread::spawn(move || read_all(file))
        })
        .collect();
    child.say(1);
    child.wait();
    let mut sum = 0;
    for reader in readers {
        let (bytes, error) = reader.join().expect("a thread");
        assert!(error.is_none(), "both see the end: {error:?}");
        sum += bytes.len();
    }
    assert!(sum > 3000 * 8, "{sum} bytes");
}

#[test]
fn a_reader_that_is_killed() {
    let mut target = waiting("target", |parent| {
        let mut area = Area::new(2000);
        area.touch(0, 1000);
        parent.say(0);
        parent.hear();
        area.touch(1000, 1000);
        0
    });
    let pid = target.pid;
    let mut reader = Child::spawn("reader", move |parent| {
        let file = open();
        write(&file, &format!("1 {pid}")).expect("a trace");
        parent.say(0);
        while read(&file, 65536).is_ok() {}
        0
    });
    reader.hear();
    target.say(1);
    target.hear();
    reader.signal(libc::SIGKILL);
    reader.wait();
    // The target goes on, and can be traced anew.
    let file = TraceFile::open().expect("the file opens");
    file.start(Target::Process(pid), false, 0)
        .expect("free again");
    target.say(1);
    let history = History::read(file).expect("a trace");
    check_counts(&history);
    assert_eq!(target.wait().code, Some(0));
}

#[test]
fn a_signal_ends_a_read_that_waits() {
    let target = Child::idle("target");
    let pid = target.pid;
    let mut reader = Child::spawn("reader", move |parent| {
        let file = open();
        write(&file, &format!("1 {pid}")).expect("a trace");
        while read(&file, 65536).expect("records").len() > 60000 {}
        parent.say(0);
        let _ = read(&file, 65536);
        0
    });
    reader.hear();
    reader.signal(libc::SIGTERM);
    assert_eq!(reader.wait().signal, Some(libc::SIGTERM));
    drop(target);
}

#[test]
fn stopped_in_a_storm() {
    let mut storm = Child::spawn("storm", |parent| {
        parent.say(0);
        for _ in 0..4 {
            std::thread::spawn(|| loop {
                let mut area = Area::new(64);
                area.touch(0, 64);
            });
        }
        parent.hear();
        0
    });
    storm.hear();
    for round in 0..if virgo_tests::long() { 200 } else { 10 } {
        let file = TraceFile::open().expect("the file opens");
        file.start(Target::Process(storm.pid), false, 0)
            .expect("the trace starts");
        assert!(wait_until(SOON, || file.state().unwrap().recorded > 500));
        file.stop().expect("it stops");
        assert!(file.state().unwrap().ended);
        // It lives: after the last record there is no trace.
        let (bytes, error) = read_all(file);
        assert_eq!(
            error.map(|error| sys::errno_of(&error)),
            Some(ESRCH),
            "round {round}"
        );
        let history = History::read(&bytes[..]).expect("a trace");
        check_counts(&history);
    }
}

#[test]
fn a_thousand_rounds() {
    let child = Child::idle("again and again");
    let file = open();
    // The probes stay in place, as this one's trace does.
    let other = Child::idle("other");
    let keep = open();
    write(&keep, &format!("1 {}", other.pid)).expect("a trace");
    for _ in 0..1000 {
        write(&file, &format!("1 {}", child.pid)).expect("a trace");
        write(&file, "0").expect("its end");
    }
    drop(keep);
    // And with the probes put in place each time, which waits for every processor.
    for _ in 0..if virgo_tests::long() { 1000 } else { 10 } {
        write(&file, &format!("1 {}", child.pid)).expect("a trace");
        write(&file, "0").expect("its end");
    }
}

#[test]
fn parameters_are_checked() {
    let _machine = module::core_only();
    for parameters in ["max_traces=0", "max_traces=5000", "trace_kb=7"] {
        assert_eq!(module::load(module::PROFILER, parameters), Err(EINVAL));
    }
    module::load(module::PROFILER, "").expect("it loads");
}

#[test]
fn the_limit_on_traces() {
    let _machine = module::profiler("max_traces=2 trace_kb=64");
    let children: Vec<_> = (0..3).map(|_| Child::idle("many")).collect();
    let files: Vec<_> = (0..3).map(|_| open()).collect();
    let start = |index: usize| write(&files[index], &format!("1 {}", children[index].pid));
    start(0).expect("a trace");
    start(1).expect("a trace");
    assert_eq!(start(2), Err(ENOSPC));
    write(&files[0], "0").expect("its end");
    start(2).expect("there is room");
    drop(files);
    module::unload(module::PROFILER).expect("it unloads");
    module::load(module::PROFILER, "").expect("it loads");
}

#[test]
fn a_set_user_id_program_is_not_traced_on() {
    let program = "/tmp/virgo-suid";
    std::fs::copy("/bin/true", program).expect("a copy");
    std::fs::set_permissions(
        program,
        std::os::unix::fs::PermissionsExt::from_mode(0o4755),
    )
    .expect("its permissions");
    let mut child = Child::spawn("nobody", |parent| {
        sys::become_user(65534);
        let mut target = waiting("target", |_| sys::execute("/tmp/virgo-suid", "x"));
        let file = TraceFile::open().expect("the file opens");
        file.start(Target::Process(target.pid), false, 0)
            .expect("its own process");
        target.say(1);
        let history = History::read(file).expect("a trace");
        target.wait();
        let forbidden = history.ends[0].why == virgo_proto::trace::Why::Forbidden;
        let told = history
            .execs
            .iter()
            .any(|exec| exec.path == "/tmp/virgo-suid");
        let other = history
            .faults
            .iter()
            .any(|fault| fault.is(virgo::trace::FAULT_OTHER) && fault.address != 0);
        parent.say(u64::from(forbidden) + 2 * u64::from(told) + 4 * u64::from(other));
        0
    });
    assert_eq!(child.hear(), 1, "forbidden, and nothing told of it");
    child.wait();
    let _ = std::fs::remove_file(program);
}
