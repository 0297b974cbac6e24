// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The ioctls with one field wrong at a time.

use std::fs::File;
use std::mem::size_of;

use virgo_proto::uapi::{
    self, CpupoolFollow, CpupoolKill, CpupoolLend, CpupoolList, CpupoolProgram, CpupoolSet,
    CpupoolStart,
};
use virgo_tests::sys::{self, Plain};

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const E2BIG: i32 = 7;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const EMSGSIZE: i32 = 90;
const EOPNOTSUPP: i32 = 95;
const ENOKEY: i32 = 126;
const EACCES: i32 = 13;

/// What the kernel says to a command; 0 for good.
fn said<T: Plain>(command: u32, value: &mut T) -> i32 {
    let device = File::open(uapi::DEVICE).expect("the device");
    sys::ioctl(&device, command, value).map_or_else(|errno| errno.0, |_| 0)
}

fn entry(name: &str, path: &str) -> CpupoolProgram {
    let mut entry = CpupoolProgram {
        uid: 65534,
        gid: 65534,
        time_ms: 1000,
        processes: 10,
        memory: 1 << 25,
        output: 1000,
        ..Default::default()
    };
    entry.name[..name.len()].copy_from_slice(name.as_bytes());
    entry.path[..path.len()].copy_from_slice(path.as_bytes());
    entry
}

fn set(entries: &[CpupoolProgram], group: &str, change: impl FnOnce(&mut CpupoolSet)) -> i32 {
    let mut value = CpupoolSet {
        size: size_of::<CpupoolSet>() as u32,
        count: entries.len() as u32,
        at_once: 2,
        entries: entries.as_ptr() as u64,
        group: group.as_ptr() as u64,
        group_length: group.len() as u32,
        ..Default::default()
    };
    change(&mut value);
    said(uapi::CPUPOOL_IOC_SET, &mut value)
}

fn start(words: &[u8], change: impl FnOnce(&mut CpupoolStart)) -> i32 {
    let mut value = CpupoolStart {
        size: size_of::<CpupoolStart>() as u32,
        arguments: words.as_ptr() as u64,
        arguments_length: words.len() as u32,
        ..Default::default()
    };
    change(&mut value);
    said(uapi::CPUPOOL_IOC_START, &mut value)
}

/// What makes an entry wrong.
type Change<'a> = &'a dyn Fn(&mut CpupoolProgram);

fn tables() {
    let good = entry("id", "/usr/bin/id");
    let group = "/sys/fs/cgroup/virgo";
    let one = |change: &dyn Fn(&mut CpupoolProgram)| {
        let mut entry = good;
        change(&mut entry);
        set(&[entry], group, |_| {})
    };
    let wrong: [(&str, Change<'_>); 16] = [
        ("user 0", &|e| e.uid = 0),
        ("no user", &|e| e.uid = u32::MAX),
        ("no group", &|e| e.gid = u32::MAX),
        ("group 0", &|e| e.gid = 0),
        ("no time", &|e| e.time_ms = 0),
        ("no processes", &|e| e.processes = 0),
        ("no memory", &|e| e.memory = 0),
        ("no output", &|e| e.output = 0),
        ("a count of runs", &|e| e.runs = 1),
        ("reserved", &|e| e.reserved = 1),
        ("no name", &|e| e.name = [0; 32]),
        ("a name without end", &|e| e.name = [b'a'; 32]),
        ("a path without end", &|e| e.path = [b'/'; 224]),
        ("a relative path", &|e| e.path[0] = b'.'),
        ("..", &|e| e.path[..12].copy_from_slice(b"/usr/../bin/")),
        ("a name with /", &|e| e.name[0] = b'/'),
    ];
    for (what, change) in wrong {
        assert_eq!(one(change), EINVAL, "{what}");
    }
    // A user who has lent nothing, and root, who can't.
    assert_eq!(one(&|e| e.uid = 4711), ENOKEY);
    let mut lend = CpupoolLend {
        size: size_of::<CpupoolLend>() as u32,
        ..Default::default()
    };
    assert_eq!(said(uapi::CPUPOOL_IOC_LEND, &mut lend), EINVAL);
    assert_eq!(set(&[good, good], group, |_| {}), EINVAL);
    let again = entry("id2", "/usr/bin/id");
    assert_eq!(set(&[good, again], group, |_| {}), EINVAL);
    assert_eq!(set(&[good], group, |v| v.flags = 1), EINVAL);
    assert_eq!(set(&[good], group, |v| v.reserved0 = 1), EINVAL);
    assert_eq!(set(&[good], group, |v| v.reserved[1] = 1), EINVAL);
    assert_eq!(set(&[good], group, |v| v.at_once = 0), EINVAL);
    assert_eq!(set(&[good], group, |v| v.at_once = 257), EINVAL);
    assert_eq!(set(&[good], group, |v| v.count = 257), EINVAL);
    assert_eq!(set(&[good], group, |v| v.count = u32::MAX), EINVAL);
    assert_eq!(set(&[good], group, |v| v.entries = 8), EFAULT);
    assert_eq!(set(&[good], group, |v| v.entries = u64::MAX - 8), EFAULT);
    assert_eq!(set(&[good], group, |v| v.group = 8), EFAULT);
    assert_eq!(set(&[good], group, |v| v.group_length = 0), EINVAL);
    assert_eq!(set(&[good], group, |v| v.group_length = 256), EINVAL);
    assert_eq!(set(&[good], "/sys/fs\0/cgroup", |_| {}), EINVAL);
    assert_eq!(set(&[good], "/sys/fs/cgroup/none", |_| {}), ENOENT);
    assert_eq!(set(&[good], "/tmp", |_| {}), EOPNOTSUPP);
    // A group, but without those for the runs.
    assert_eq!(set(&[good], "/sys/fs/cgroup/virgo/0", |_| {}), ENOENT);
    // More of them than there are.
    assert_eq!(set(&[good], group, |v| v.at_once = 200), ENOENT);
}

fn starts() {
    assert_eq!(start(b"id\0", |v| v.flags = 1), EINVAL);
    assert_eq!(start(b"id\0", |v| v.reserved[0] = 1), EINVAL);
    assert_eq!(start(b"id\0", |v| v.policy = 9), EINVAL);
    assert_eq!(start(b"id", |_| {}), EINVAL);
    assert_eq!(start(b"", |_| {}), EINVAL);
    assert_eq!(start(b"\0", |_| {}), EINVAL);
    assert_eq!(start(b"\0id\0", |_| {}), EINVAL);
    assert_eq!(start(b"id\0", |v| v.arguments = 8), EFAULT);
    assert_eq!(
        start(b"id\0", |v| (v.input, v.input_length) = (8, 1)),
        EFAULT
    );
    assert_eq!(start(b"id\0", |v| v.arguments_length = u32::MAX), EINVAL);
    assert_eq!(start(b"id\0", |v| v.input_length = u32::MAX), EMSGSIZE);
    assert_eq!(start(b"id\0", |v| v.input_length = 2 << 20), EMSGSIZE);
    assert_eq!(start(&[b'a'; 40], |v| v.arguments_length = 8), EINVAL);
    assert_eq!(start(b"nothing\0", |_| {}), EACCES);
    assert_eq!(start(b"id\0", |v| v.size = 8), EINVAL);
    assert_eq!(start(b"id\0", |v| v.size = 5000), EINVAL);
    let mut long = [0_u8; 120];
    long[..4].copy_from_slice(&120_u32.to_ne_bytes());
    long[110] = 1;
    let device = File::open(uapi::DEVICE).expect("the device");
    let refused = sys::ioctl_bytes(&device, uapi::CPUPOOL_IOC_START, &mut long);
    assert_eq!(refused.map_err(|errno| errno.0), Err(E2BIG));
}

fn the_rest() {
    let follow = |change: &dyn Fn(&mut CpupoolFollow)| {
        let mut value = CpupoolFollow {
            size: size_of::<CpupoolFollow>() as u32,
            ..Default::default()
        };
        change(&mut value);
        said(uapi::CPUPOOL_IOC_FOLLOW, &mut value)
    };
    assert_eq!(follow(&|_| {}), ESRCH);
    assert_eq!(follow(&|v| v.id = u64::MAX), ESRCH);
    assert_eq!(follow(&|v| v.wait_ms = u32::MAX), ESRCH);
    assert_eq!(follow(&|v| v.flags = 1), EINVAL);
    assert_eq!(follow(&|v| v.reserved0 = 1), EINVAL);
    assert_eq!(follow(&|v| v.reserved[1] = 1), EINVAL);
    assert_eq!(follow(&|v| v.node = 0xdead), ENOENT);
    let kill = |change: &dyn Fn(&mut CpupoolKill)| {
        let mut value = CpupoolKill {
            size: size_of::<CpupoolKill>() as u32,
            ..Default::default()
        };
        change(&mut value);
        said(uapi::CPUPOOL_IOC_KILL, &mut value)
    };
    assert_eq!(kill(&|_| {}), ESRCH);
    assert_eq!(kill(&|v| v.flags = 1), EINVAL);
    assert_eq!(kill(&|v| v.reserved0 = 1), EINVAL);
    assert_eq!(kill(&|v| v.reserved = 1), EINVAL);
    for command in [uapi::CPUPOOL_IOC_PROGRAMS, uapi::CPUPOOL_IOC_RUNS] {
        let list = |change: &dyn Fn(&mut CpupoolList)| {
            let mut value = CpupoolList {
                size: size_of::<CpupoolList>() as u32,
                ..Default::default()
            };
            change(&mut value);
            said(command, &mut value)
        };
        assert_eq!(list(&|_| {}), 0);
        assert_eq!(list(&|v| v.flags = 1), EINVAL);
        assert_eq!(list(&|v| v.reserved0 = 1), EINVAL);
        assert_eq!(list(&|v| v.reserved[0] = 1), EINVAL);
    }
}

/// With programs allowed.
pub(crate) fn wrong_fields_are_refused() {
    tables();
    starts();
    the_rest();
    // A run that says where its output went wrong.
    let mut value = CpupoolStart {
        size: size_of::<CpupoolStart>() as u32,
        arguments: c"id".as_ptr() as u64,
        arguments_length: 3,
        ..Default::default()
    };
    assert_eq!(said(uapi::CPUPOOL_IOC_START, &mut value), 0);
    let mut follow = CpupoolFollow {
        size: size_of::<CpupoolFollow>() as u32,
        node: value.node,
        id: value.id,
        wait_ms: 1000,
        out: 8,
        capacity: 100,
        ..Default::default()
    };
    let begin = std::time::Instant::now();
    while said(uapi::CPUPOOL_IOC_FOLLOW, &mut follow) == 0 {
        assert!(begin.elapsed().as_secs() < 20, "it never writes");
    }
    follow.capacity = 0;
    assert_eq!(said(uapi::CPUPOOL_IOC_FOLLOW, &mut follow), 0);
    assert_eq!((follow.out_length, follow.more), (0, 1));
    follow.out_at = u64::MAX;
    assert_eq!(said(uapi::CPUPOOL_IOC_FOLLOW, &mut follow), 0);
    assert_eq!(follow.out_length, 0);
}
