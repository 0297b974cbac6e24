// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Registering and unregistering, by /proc and by ioctl; bad input; who may.

use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;

use virgo_proto::uapi::{
    self, ProfilerEntry, ProfilerTask, PROFILER_F_BIND as BIND, PROFILER_F_PIDFD as PIDFD,
    PROFILER_F_THREAD as THREAD,
};
use virgo_tests::buffer::{name_of, Reader};
use virgo_tests::child::{in_child, Child};
use virgo_tests::device::{
    good_info, good_list, good_rate, good_seen, good_task, status, tell_status, write_once, Device,
    STATUS,
};
use virgo_tests::module;
use virgo_tests::sys::{
    self, Area, Errno, Plain, Res, E2BIG, EACCES, EBADF, EEXIST, EFAULT, EINVAL, ENOSPC, EPERM,
    ERANGE, ESRCH, NOBODY, PAGE,
};
use virgo_tests::{wait_until, SOON};

/// No process has this number: it is more than the kernel ever gives.
const NO_PID: i32 = 1 << 22;

fn registered_pids() -> Vec<i32> {
    let mut pids: Vec<i32> = Device::control()
        .list()
        .iter()
        .map(|entry| entry.pid as i32)
        .collect();
    pids.sort_unstable();
    pids
}

#[test]
fn status_file_registers_lists_and_unregisters() {
    let _machine = module::profiler("");
    let mode = fs::metadata(STATUS).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    assert_eq!(status(), "");
    let (first, second) = (Child::idle("first"), Child::idle("second"));
    tell_status(&format!("R {}\n", first.pid)).unwrap();
    assert_eq!(status(), format!("PID: {}\n", first.pid));
    // As C programs write it.
    tell_status(&format!("R {}\0", second.pid)).unwrap();
    assert_eq!(
        status(),
        format!("PID: {}\nPID: {}\n", first.pid, second.pid)
    );
    tell_status(&format!("U {}", first.pid)).unwrap();
    assert_eq!(status(), format!("PID: {}\n", second.pid));
    tell_status(&format!("U {}\n", second.pid)).unwrap();
    assert_eq!(status(), "");
    // Several lines at once, with spaces and empty lines.
    let text = format!("R {}\n\nR\t{} \nU {}\n", first.pid, second.pid, first.pid);
    tell_status(&text).unwrap();
    assert_eq!(status(), format!("PID: {}\n", second.pid));
}

#[test]
fn status_file_refuses_garbage_and_changes_nothing() {
    let _machine = module::profiler("");
    let (known, other) = (Child::idle("known"), Child::idle("other"));
    tell_status(&format!("R {}\n", known.pid)).unwrap();
    let before = Device::control().list();
    let generation = Device::profiler().buffer().header().generation;
    let pid = other.pid;
    let mut garbage: Vec<String> = [
        "",
        "\n",
        "\n\n",
        " ",
        "\0",
        "R",
        "R ",
        "U",
        "X 1",
        "r 1",
        "u 1",
        "RR 1",
        "1",
        "R x",
        "R -1",
        "R +1",
        "R 0",
        "R 0x1",
        "R 1 2",
        "R 1.0",
        "R 2147483648",
        "R 4294967297",
        "R 18446744073709551617",
        "R 99999999999999999999999999",
        "R \u{ff11}",
        "\u{7f}",
    ]
    .map(str::to_owned)
    .to_vec();
    // A good line does not save a bad one, before or after it.
    garbage.push(format!("R {pid}\nX 1\n"));
    garbage.push(format!("X 1\nR {pid}\n"));
    garbage.push(format!("R {pid}\nR {pid}x\n"));
    garbage.push(format!("R {pid}\0\nR {pid}\n"));
    garbage.push(format!("U {}\ngarbage", known.pid));
    garbage.push(format!("R {pid}; R {pid}"));
    for text in &garbage {
        let wrong = if text.is_empty() {
            // write() of nothing does not reach every file; it is no error.
            continue;
        } else {
            tell_status(text)
        };
        assert_eq!(wrong, Err(EINVAL), "{text:?}");
    }
    for bytes in [&b"R \xff\n"[..], b"\xff\xfe", b"R 1\xc2\xa0"] {
        let file = OpenOptions::new().write(true).open(STATUS).unwrap();
        assert_eq!(write_once(&file, bytes), Err(EINVAL), "{bytes:?}");
    }
    for text in [
        format!("R {NO_PID}"),
        format!("U {NO_PID}"),
        format!("U {pid}"),
    ] {
        assert_eq!(tell_status(&text), Err(ESRCH), "{text:?}");
    }
    assert_eq!(
        tell_status(&format!("R {}", known.pid)),
        Err(EINVAL),
        "a duplicate"
    );
    let strip = |entries: Vec<ProfilerEntry>| -> Vec<(u64, u32)> {
        entries.iter().map(|entry| (entry.id, entry.pid)).collect()
    };
    assert_eq!(strip(Device::control().list()), strip(before));
    let after = Device::profiler().buffer().header().generation;
    assert_eq!(after, generation);
}

#[test]
fn status_file_does_all_lines_or_none() {
    let _machine = module::profiler("max_tasks=3");
    let children: Vec<Child> = (0..4).map(|_| Child::idle("target")).collect();
    let [a, b, c, d] = [0, 1, 2, 3].map(|number: usize| children[number].pid);
    let mut ended = Child::idle("ended");
    ended.signal(libc::SIGKILL);
    assert!(wait_until(SOON, || ended.is_zombie()));
    let zombie = ended.pid;
    let id = Device::control().register(a, 0).unwrap();
    for (text, error) in [
        (format!("R {b}\nR {NO_PID}\n"), ESRCH),
        (format!("R {b}\nR {zombie}\n"), ESRCH),
        (format!("R {b}\nR {b}\n"), EINVAL),
        (format!("R {b}\nR {a}\n"), EINVAL),
        (format!("R {b}\nU {b}\nU {b}\n"), ESRCH),
        (format!("U {a}\nU {b}\n"), ESRCH),
        (format!("U {a}\nU {a}\n"), ESRCH),
        (format!("U {a}\nR {a}\nR {a}\n"), EINVAL),
        (format!("R {b}\nR {c}\nR {d}\n"), ENOSPC),
    ] {
        assert_eq!(tell_status(&text), Err(error), "{text:?}");
        let list = Device::control().list();
        assert_eq!(list.len(), 1, "{text:?}");
        assert_eq!((list[0].id, list[0].pid as i32), (id, a), "{text:?}");
    }
    // Each line finds what those before it left.
    tell_status(&format!("U {a}\nR {a}\nR {b}\nR {c}\nU {b}\nR {d}\n")).unwrap();
    assert_eq!(registered_pids(), {
        let mut three = [a, c, d];
        three.sort_unstable();
        three
    });
    let theirs = OpenOptions::new().write(true).open(STATUS).unwrap();
    let own = idle_of_nobody();
    tell_status(&format!("U {d}\n")).unwrap();
    in_child("nobody", || {
        sys::become_user(NOBODY);
        let text = format!("R {}\nU {a}\n", own.pid);
        assert_eq!(write_once(&theirs, text.as_bytes()), Err(EPERM));
    });
    assert_eq!(Device::control().list().len(), 2);
    ended.wait();
}

#[test]
fn status_file_takes_a_page_and_no_more() {
    let _machine = module::profiler("");
    let child = Child::idle("target");
    let file = OpenOptions::new().write(true).open(STATUS).unwrap();
    let mut text = format!("R {}\n", child.pid).into_bytes();
    text.resize(PAGE + 1, b'\n');
    assert_eq!(write_once(&file, &text), Err(E2BIG));
    assert_eq!(status(), "");
    write_once(&file, &text[..PAGE]).unwrap();
    assert_eq!(status(), format!("PID: {}\n", child.pid));
    text = vec![b'x'; 1 << 20];
    assert_eq!(write_once(&file, &text), Err(E2BIG));
    assert_eq!(
        sys::read_to_address(&file, 0, 1),
        Err(EBADF),
        "not opened for reading"
    );
}

#[test]
fn status_file_is_read_in_pieces() {
    let _machine = module::profiler("rate_hz=1");
    let crowd = virgo_tests::child::Crowd::new(1500);
    let device = Device::control();
    for pid in &crowd.pids {
        device.register(*pid, 0).unwrap();
    }
    // More than seq_file's first buffer, and read a few bytes at a time.
    let mut wanted = String::new();
    for pid in &crowd.pids {
        wanted += &format!("PID: {pid}\n");
    }
    assert_eq!(status(), wanted);
    let mut file = fs::File::open(STATUS).unwrap();
    let (mut pieces, mut piece) = (Vec::new(), [0; 61]);
    loop {
        let count = std::io::Read::read(&mut file, &mut piece).unwrap();
        if count == 0 {
            break;
        }
        pieces.extend_from_slice(&piece[..count]);
    }
    assert_eq!(String::from_utf8(pieces).unwrap(), wanted);
}

#[test]
fn ioctls_register_and_unregister_on_both_devices() {
    let _machine = module::profiler("");
    let child = Child::idle("target");
    let mut ids = Vec::new();
    for device in [Device::control(), Device::profiler()] {
        let id = device.register(child.pid, 0).unwrap();
        assert_eq!(device.register(child.pid, 0), Err(EEXIST));
        let list = device.list();
        assert_eq!(list.len(), 1);
        assert_eq!(
            (list[0].id, list[0].pid, list[0].tid),
            (id, child.pid as u32, child.pid as u32)
        );
        assert_eq!((list[0].flags, list[0].reserved0), (0, 0));
        assert_eq!(name_of(&list[0].comm), "target");
        assert_eq!(device.unregister(child.pid, 0), Ok(id));
        assert_eq!(device.unregister(child.pid, 0), Err(ESRCH));
        assert_eq!(device.list(), []);
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1], "an identity is never used twice");
    for pid in [0, -1, i32::MIN, i32::MAX, NO_PID] {
        assert_eq!(Device::control().register(pid, 0), Err(ESRCH), "{pid}");
        assert_eq!(Device::control().unregister(pid, 0), Err(ESRCH), "{pid}");
    }
}

/// A command with a structure in which one thing is wrong.
fn refused<T: Plain + PartialEq + std::fmt::Debug>(
    device: &Device,
    command: u32,
    good: T,
    change: impl FnOnce(&mut T),
) -> Option<Errno> {
    let mut value = good;
    change(&mut value);
    let before = value;
    let result = sys::ioctl(device, command, &mut value);
    assert_eq!(value, before, "a refused command changes nothing");
    result.err()
}

#[test]
fn each_field_that_is_wrong_alone_is_refused() {
    let _machine = module::profiler("");
    let child = Child::idle("target");
    for device in [Device::control(), Device::profiler()] {
        let device = &device;
        let own = device.buffer_is_here();
        let good = good_task(child.pid, 0);
        for command in [uapi::PROFILER_IOC_REGISTER, uapi::PROFILER_IOC_UNREGISTER] {
            let refused =
                |change: &dyn Fn(&mut ProfilerTask)| refused(device, command, good, change);
            for size in [0, 3, 39, 4097, u32::MAX] {
                assert_eq!(
                    refused(&|task| task.size = size),
                    Some(EINVAL),
                    "size {size}"
                );
            }
            for bit in 3..32 {
                assert_eq!(
                    refused(&|task| task.flags = 1 << bit),
                    Some(EINVAL),
                    "flag {bit}"
                );
            }
            assert_eq!(refused(&|task| task.flags = THREAD | PIDFD), Some(EINVAL));
            assert_eq!(refused(&|task| task.reserved0 = 1), Some(EINVAL));
            assert_eq!(refused(&|task| task.reserved[0] = 1), Some(EINVAL));
            assert_eq!(refused(&|task| task.reserved[1] = 1 << 63), Some(EINVAL));
            assert_eq!(refused(&|task| task.pid = NO_PID), Some(ESRCH));
            if command == uapi::PROFILER_IOC_UNREGISTER || !own {
                assert_eq!(refused(&|task| task.flags = BIND), Some(EINVAL));
            }
            check_pointers_and_size(device, command, good);
        }
        assert_eq!(device.list(), []);

        let good = good_list();
        let list = uapi::PROFILER_IOC_LIST;
        for size in [0, 3, 39, 4097] {
            assert_eq!(refused(device, list, good, |l| l.size = size), Some(EINVAL));
        }
        for bit in 0..32 {
            assert_eq!(
                refused(device, list, good, |l| l.flags = 1 << bit),
                Some(EINVAL)
            );
        }
        assert_eq!(
            refused(device, list, good, |l| l.reserved[0] = 1),
            Some(EINVAL)
        );
        assert_eq!(
            refused(device, list, good, |l| l.reserved[1] = 1),
            Some(EINVAL)
        );
        check_pointers_and_size(device, list, good);

        let good = good_rate();
        let rate = uapi::PROFILER_IOC_RATE;
        for size in [0, 3, 15, 4097] {
            assert_eq!(refused(device, rate, good, |r| r.size = size), Some(EINVAL));
        }
        for bit in 1..32 {
            assert_eq!(
                refused(device, rate, good, |r| r.flags = 1 << bit),
                Some(EINVAL)
            );
        }
        assert_eq!(
            refused(device, rate, good, |r| r.reserved0 = 1),
            Some(EINVAL)
        );
        for hz in [0, 1001, u32::MAX] {
            let error = refused(device, rate, good, |r| {
                r.flags = uapi::PROFILER_RATE_SET;
                r.rate_hz = hz;
            });
            assert_eq!(error, Some(ERANGE), "{hz} Hz");
        }
        check_pointers_and_size(device, rate, good);
        assert_eq!(device.rate(), Ok(uapi::PROFILER_RATE_DEFAULT));

        let good = good_info();
        let info = uapi::PROFILER_IOC_INFO;
        for size in [0, 3, 55, 4097] {
            assert_eq!(refused(device, info, good, |i| i.size = size), Some(EINVAL));
        }
        for bit in 0..32 {
            assert_eq!(
                refused(device, info, good, |i| i.flags = 1 << bit),
                Some(EINVAL)
            );
        }
        assert_eq!(
            refused(device, info, good, |i| i.reserved0 = 1),
            Some(EINVAL)
        );
        assert_eq!(
            refused(device, info, good, |i| i.reserved[0] = 1),
            Some(EINVAL)
        );
        assert_eq!(
            refused(device, info, good, |i| i.reserved[1] = 1),
            Some(EINVAL)
        );
        check_pointers_and_size(device, info, good);

        let good = good_seen(0);
        let seen = uapi::PROFILER_IOC_SEEN;
        if own {
            for size in [0, 3, 15, 4097] {
                assert_eq!(refused(device, seen, good, |s| s.size = size), Some(EINVAL));
            }
            for bit in 0..32 {
                assert_eq!(
                    refused(device, seen, good, |s| s.flags = 1 << bit),
                    Some(EINVAL)
                );
            }
            for head in [1 << 40, u64::MAX] {
                assert_eq!(refused(device, seen, good, |s| s.head = head), Some(EINVAL));
            }
            check_pointers_and_size(device, seen, good);
        } else {
            assert_eq!(refused(device, seen, good, |_| ()), Some(EINVAL));
        }
    }
}

/// Bad addresses, and what follows the structure.
fn check_pointers_and_size<T: Plain>(device: &Device, command: u32, good: T) {
    for address in [0, 8, 0x8000_0000_0000, usize::MAX - 7] {
        let result = sys::ioctl_at(device, command, address);
        assert_eq!(result, Err(EFAULT), "{address:#x}");
    }
    let mut bytes = sys::bytes_of(&good);
    let size = bytes.len() as u32 + 8;
    bytes[..4].copy_from_slice(&size.to_ne_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(sys::ioctl_bytes(device, command, &mut bytes), Err(E2BIG));
}

trait Own {
    fn buffer_is_here(&self) -> bool;
}

impl Own for Device {
    /// Whether this is the profiler's own device.
    fn buffer_is_here(&self) -> bool {
        let link = fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd())).unwrap();
        link.to_str() == Some(uapi::PROFILER_DEVICE)
    }
}

#[test]
fn a_registration_whose_answer_is_lost_is_undone() {
    let _machine = module::profiler("");
    let child = Child::idle("target");
    let device = Device::profiler();
    let mut area = Area::new(1);
    area.write(0, &sys::bytes_of(&good_task(child.pid, 0)));
    area.protect(0, libc::PROT_READ);
    let result = sys::ioctl_at(&device, uapi::PROFILER_IOC_REGISTER, area.address(0));
    assert_eq!(result, Err(EFAULT));
    assert_eq!(device.list(), []);
    device.register(child.pid, 0).unwrap();
}

#[test]
fn the_list_stores_no_more_than_there_is_room_for() {
    let _machine = module::profiler("");
    let children: Vec<Child> = (0..5).map(|_| Child::idle("one")).collect();
    let device = Device::control();
    assert_eq!(device.list_up_to(10).unwrap(), (0, vec![]));
    let ids: Vec<u64> = children
        .iter()
        .map(|child| device.register(child.pid, 0).unwrap())
        .collect();
    for room in [0, 1, 4, 5, 6, 1000] {
        let (count, entries) = device.list_up_to(room).unwrap();
        assert_eq!(count, 5);
        let stored: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
        assert_eq!(stored, ids[..room.min(5)]);
    }
    // A count that no array can have is no reason to fail.
    let area = Area::new(1);
    let mut list = good_list();
    list.entries = area.address(0) as u64;
    list.capacity = u32::MAX;
    sys::ioctl(&device, uapi::PROFILER_IOC_LIST, &mut list).unwrap();
    assert_eq!(list.count, 5);
    // No array, one in the kernel, one that is not whole.
    for entries in [
        0,
        0xffff_ffff_8100_0000,
        u64::MAX - 20,
        area.address(PAGE - 8) as u64,
    ] {
        let mut list = good_list();
        list.entries = entries;
        list.capacity = 5;
        let result = sys::ioctl(&device, uapi::PROFILER_IOC_LIST, &mut list);
        if entries as usize != area.address(PAGE - 8) || result.is_err() {
            assert_eq!(result, Err(EFAULT), "{entries:#x}");
        }
    }
}

#[test]
fn pidfds_name_processes() {
    let _machine = module::profiler("");
    let mut child = Child::idle("target");
    let device = Device::profiler();
    let pidfd = sys::pidfd(child.pid).unwrap();
    let id = device.register(pidfd.as_raw_fd(), PIDFD).unwrap();
    assert_eq!(registered_pids(), [child.pid]);
    assert_eq!(
        device.register(child.pid, 0),
        Err(EEXIST),
        "the same process"
    );
    assert_eq!(device.unregister(pidfd.as_raw_fd(), PIDFD), Ok(id));
    // What is no pidfd.
    for fd in [-1, 9999, i32::MIN, device.0.as_raw_fd(), 0] {
        assert_eq!(device.register(fd, PIDFD), Err(EBADF), "{fd}");
        assert_eq!(device.unregister(fd, PIDFD), Err(EBADF), "{fd}");
    }
    child.signal(libc::SIGKILL);
    assert!(wait_until(SOON, || child.is_zombie()));
    assert_eq!(
        device.register(pidfd.as_raw_fd(), PIDFD),
        Err(ESRCH),
        "a zombie"
    );
    assert_eq!(device.register(child.pid, 0), Err(ESRCH), "a zombie");
    child.wait();
    assert_eq!(
        device.register(pidfd.as_raw_fd(), PIDFD),
        Err(ESRCH),
        "reaped"
    );
}

/// A child with a second thread, and that thread's id. It hears once to end the thread, once to end.
fn child_with_thread() -> (Child, i32) {
    let mut child = Child::spawn("process", |parent| {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sys::set_name("thread");
            tell.send(sys::gettid()).unwrap();
            let _ = stopped.recv();
        });
        parent.say(told.recv().unwrap() as u64);
        parent.hear();
        drop(stop);
        thread.join().unwrap();
        parent.say(0);
        parent.hear();
        0
    });
    let tid = child.hear() as i32;
    (child, tid)
}

#[test]
fn threads_are_registered_by_themselves() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let (mut child, tid) = child_with_thread();
    assert_eq!(device.register(tid, 0), Err(ESRCH), "it is no process");
    assert_eq!(tell_status(&format!("R {tid}")), Err(ESRCH));
    let mut reader = Reader::new(&device);
    let thread = device.register(tid, THREAD).unwrap();
    assert_eq!(device.register(tid, THREAD), Err(EEXIST));
    // The process, and its first thread as a thread, are others.
    let process = device.register(child.pid, 0).unwrap();
    let leader = device.register(child.pid, THREAD).unwrap();
    let list = device.list();
    let entry = |id| *list.iter().find(|entry| entry.id == id).unwrap();
    let pid = child.pid as u32;
    assert_eq!((entry(thread).pid, entry(thread).tid), (pid, tid as u32));
    assert_eq!((entry(leader).pid, entry(leader).tid), (pid, pid));
    assert_eq!(
        [thread, process, leader].map(|id| entry(id).flags),
        [THREAD, 0, THREAD]
    );
    assert_eq!(name_of(&entry(thread).comm), "thread");
    assert_eq!(status(), format!("TID: {tid}\nPID: {pid}\nTID: {pid}\n"));
    let record = reader.fresh(thread);
    assert_eq!((record.pid, record.tid), (pid, tid as u32));
    assert_ne!(record.flags & uapi::SAMPLE_THREAD, 0);
    assert_eq!(name_of(&record.comm), "thread");
    assert_eq!(reader.fresh(process).flags & uapi::SAMPLE_THREAD, 0);
    assert_eq!(device.unregister(child.pid, THREAD), Ok(leader));

    // The thread ends, the process does not.
    child.say(0);
    let last = reader.exit_of(thread);
    assert_eq!((last.pid, last.tid), (pid, tid as u32));
    child.hear();
    let list = device.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].id, process);
    assert_eq!(device.register(tid, THREAD), Err(ESRCH), "it has gone");
    assert_eq!(reader.fresh(process).flags & uapi::SAMPLE_EXIT, 0);
}

#[test]
fn bound_registrations_end_with_their_file() {
    let _machine = module::profiler("");
    let children: Vec<Child> = (0..3).map(|_| Child::idle("target")).collect();
    let watcher = Device::profiler();
    let mut reader = Reader::new(&watcher);
    let file = Device::profiler();
    let bound = file.register(children[0].pid, BIND).unwrap();
    let free = file.register(children[1].pid, 0).unwrap();
    let other = watcher.register(children[2].pid, BIND).unwrap();
    assert_eq!(
        watcher
            .list()
            .iter()
            .map(|entry| entry.flags)
            .collect::<Vec<_>>(),
        [BIND, 0, BIND]
    );
    // Bound to the open file, not to one of its descriptors.
    let second = file.0.try_clone().unwrap();
    drop(file);
    assert_eq!(watcher.list().len(), 3);
    drop(second);
    let ids = |entries: Vec<ProfilerEntry>| -> Vec<u64> {
        let mut ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(watcher.list()), [free, other]);
    let last = reader.find(|record| record.id == bound && record.flags & uapi::SAMPLE_LAST != 0);
    assert_eq!(last.flags & uapi::SAMPLE_EXIT, 0);
    // What is bound may be unregistered by hand as well, and the file then has nothing to end.
    assert_eq!(watcher.unregister(children[2].pid, 0), Ok(other));
    drop(reader);
    drop(watcher);
    assert_eq!(ids(Device::control().list()), [free]);
    // When a process with the file open is killed, the file is closed.
    let pid = children[0].pid;
    let mut holder = Child::spawn("holder", |parent| {
        Device::profiler().register(pid, BIND).unwrap();
        let device = Device::profiler();
        device.register(pid, BIND).unwrap();
        parent.say(0);
        parent.hear();
        0
    });
    holder.hear();
    assert_eq!(Device::control().list().len(), 2);
    holder.kill();
    assert!(wait_until(SOON, || ids(Device::control().list()) == [free]));
}

#[test]
fn the_limit_on_tasks_is_kept() {
    let _machine = module::profiler("max_tasks=3");
    let children: Vec<Child> = (0..4).map(|_| Child::idle("target")).collect();
    let device = Device::control();
    assert_eq!(device.info().unwrap().max_tasks, 3);
    for child in &children[..3] {
        device.register(child.pid, 0).unwrap();
    }
    assert_eq!(device.register(children[3].pid, 0), Err(ENOSPC));
    assert_eq!(tell_status(&format!("R {}", children[3].pid)), Err(ENOSPC));
    assert_eq!(device.register(children[0].pid, 0), Err(EEXIST));
    assert_eq!(device.list().len(), 3);
    device.unregister(children[1].pid, 0).unwrap();
    device.register(children[3].pid, 0).unwrap();
    assert_eq!(device.register(children[1].pid, 0), Err(ENOSPC));
}

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_KILL: u32 = 5;

/// A child of nobody's.
fn idle_of_nobody() -> Child {
    let mut child = Child::spawn("nobody's", |parent| {
        sys::become_user(NOBODY);
        parent.say(0);
        parent.hear();
        0
    });
    child.hear();
    child
}

/// Tries all ways to register and unregister `pid`; all must end alike.
fn all_ways(devices: &[Device; 2], status: &fs::File, pid: i32) -> Res<()> {
    let mut results = Vec::new();
    for device in devices {
        results.push(device.register(pid, 0).map(drop));
        if results.iter().all(Result::is_ok) {
            device.unregister(pid, 0).unwrap();
        }
    }
    results.push(write_once(status, format!("R {pid}").as_bytes()));
    if results.iter().all(Result::is_ok) {
        write_once(status, format!("U {pid}").as_bytes()).unwrap();
    }
    assert!(
        results.iter().all(|result| *result == results[0]),
        "{results:?}"
    );
    results[0]
}

#[test]
fn users_may_watch_their_own_processes_alone() {
    let _machine = module::profiler("");
    let devices = [Device::control(), Device::profiler()];
    let root = Child::idle("root's");
    let own = idle_of_nobody();
    let init = 1;
    in_child("nobody", || {
        sys::become_user(NOBODY);
        let status = OpenOptions::new().write(true).open(STATUS).unwrap();
        assert_eq!(Device::open(uapi::PROFILER_DEVICE).err(), Some(EACCES));
        assert_eq!(all_ways(&devices, &status, own.pid), Ok(()));
        assert_eq!(all_ways(&devices, &status, root.pid), Err(EPERM));
        assert_eq!(all_ways(&devices, &status, init), Err(EPERM));
        assert_eq!(devices[1].register(root.pid, THREAD), Err(EPERM));
        let pidfd = sys::pidfd(root.pid).unwrap();
        assert_eq!(devices[1].register(pidfd.as_raw_fd(), PIDFD), Err(EPERM));
    });
    // Nor may they end what another has registered.
    devices[0].register(root.pid, 0).unwrap();
    in_child("nobody", || {
        sys::become_user(NOBODY);
        for device in &devices {
            assert_eq!(device.unregister(root.pid, 0), Err(EPERM));
        }
        assert_eq!(tell_status(&format!("U {}", root.pid)), Err(EPERM));
    });
    assert_eq!(registered_pids(), [root.pid]);
    devices[0].unregister(root.pid, 0).unwrap();

    // A program that can become another user again is not its user's own.
    let mut mixed = Child::spawn("mixed", |parent| {
        // SAFETY: Numbers.
        assert_eq!(unsafe { libc::setresuid(NOBODY, NOBODY, 0) }, 0);
        parent.say(0);
        parent.hear();
        0
    });
    mixed.hear();
    in_child("nobody", || {
        sys::become_user(NOBODY);
        assert_eq!(devices[0].register(mixed.pid, 0), Err(EPERM));
    });
    assert_eq!(devices[0].list(), []);
}

#[test]
fn capabilities_allow_what_the_header_says() {
    let _machine = module::profiler("");
    let devices = [Device::control(), Device::profiler()];
    let root = Child::idle("root's");
    for (capability, watch, rate) in [
        (CAP_SYS_PTRACE, Ok(()), Ok(9)),
        (CAP_PERFMON, Ok(()), Ok(9)),
        (CAP_SYS_ADMIN, Err(EPERM), Ok(9)),
        (CAP_KILL, Err(EPERM), Err(EPERM)),
    ] {
        in_child("capable", || {
            sys::become_user_with_capability(NOBODY, capability);
            let status = OpenOptions::new().write(true).open(STATUS).unwrap();
            assert_eq!(
                all_ways(&devices, &status, root.pid),
                watch,
                "capability {capability}"
            );
            for device in &devices {
                assert_eq!(device.set_rate(9), rate, "capability {capability}");
            }
        });
    }
    devices[0].set_rate(20).unwrap();
    in_child("nobody", || {
        sys::become_user(NOBODY);
        for device in &devices {
            assert_eq!(device.set_rate(9), Err(EPERM));
            assert_eq!(device.set_rate(0), Err(EPERM));
            assert_eq!(device.rate(), Ok(20), "reading is allowed");
        }
    });
}

#[test]
fn text_written_for_somebody_else_needs_the_rights_of_both() {
    let _machine = module::profiler("");
    let root = Child::idle("root's");
    let own = idle_of_nobody();
    let open = || OpenOptions::new().write(true).open(STATUS).unwrap();
    // Opened by nobody, and then written to by a privileged program, as by one that was started
    // with it as its stdout.
    let of_nobody = sys::as_user(NOBODY, open);
    let text = format!("R {}\n", root.pid);
    assert_eq!(write_once(&of_nobody, text.as_bytes()), Err(EPERM));
    // Opened by root and inherited by an ordinary program.
    let of_root = open();
    in_child("nobody", || {
        sys::become_user(NOBODY);
        assert_eq!(write_once(&of_root, text.as_bytes()), Err(EPERM));
        let own = format!("R {}\nU {}\n", own.pid, own.pid);
        // Root, who opened it, may watch anybody.
        write_once(&of_root, own.as_bytes()).unwrap();
        write_once(&of_nobody, own.as_bytes()).unwrap();
    });
    let own = format!("R {}\nU {}\n", own.pid, own.pid);
    write_once(&of_nobody, own.as_bytes()).unwrap();
    assert_eq!(status(), "");
    write_once(&of_root, text.as_bytes()).unwrap();
}

#[test]
fn numbers_are_those_of_the_callers_namespace() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let outside = Child::idle("outside");
    let outside_id = device.register(outside.pid, 0).unwrap();
    let mut parent = Child::spawn_with_files("parent", |parent| {
        sys::unshare(libc::CLONE_NEWPID).unwrap();
        let mut inner = Child::spawn_with_files("inner", |outer| {
            let device = Device::control();
            let id = device.register(1, 0).unwrap();
            let list = device.list();
            let entry = |id| *list.iter().find(|entry| entry.id == id).unwrap();
            assert_eq!((entry(id).pid, entry(id).tid), (1, 1));
            let outside = entry(outside_id);
            assert_eq!((outside.pid, outside.tid), (0, 0), "it has no number here");
            assert_eq!(device.unregister(outside_id as i32 + 1000, 0), Err(ESRCH));
            outer.say(id);
            outer.hear();
            0
        });
        parent.say(inner.pid as u64);
        parent.say(inner.hear());
        parent.hear();
        inner.kill();
        0
    });
    let pid = parent.hear() as u32;
    let id = parent.hear();
    // The parent's own number for its child is that of the initial namespace.
    let record = reader.fresh(id);
    assert_eq!((record.pid, record.tid), (pid, pid));
    assert_eq!(registered_pids(), {
        let mut both = [outside.pid, pid as i32];
        both.sort_unstable();
        both
    });
    parent.say(0);
    reader.exit_of(id);
    parent.wait_ok();
}

#[test]
fn rates_are_set_for_all() {
    let _machine = module::profiler("rate_hz=13");
    let devices = [Device::control(), Device::profiler()];
    let buffer = devices[1].buffer();
    assert_eq!(devices[0].rate(), Ok(13));
    let generation = buffer.header().generation;
    for (count, hz) in [1, 1000, 999, 20].into_iter().enumerate() {
        assert_eq!(devices[count % 2].set_rate(hz), Ok(hz));
        assert_eq!(devices[(count + 1) % 2].rate(), Ok(hz));
        let header = buffer.header();
        assert_eq!(header.rate_hz, hz);
        assert_eq!(header.generation, generation + count as u64 + 1);
        assert_eq!(header.start_ns, 0, "nothing is registered");
    }
}
