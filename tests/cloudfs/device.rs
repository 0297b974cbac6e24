// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! /dev/virgo-cloudfs, by the library and by hand.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use virgo::files::open;
use virgo::local::{virgo_close, virgo_open, virgo_read, virgo_write, Local};
use virgo_proto::uapi::{self, FsHandle, FsIo, FsOpen, FsStat};
use virgo_tests::sys::{self, Area};

use crate::*;

#[test]
fn files_are_used_without_a_network() {
    let served = serve("");
    let local = Local::open().expect("the device");
    let flags = open::RDWR | open::CREATE;
    let file = local.open_file("/f", flags, 0o666).expect("open");
    assert_eq!(file, 0);
    let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(local.write(file, &data, 5).expect("write"), data.len());
    let mut back = vec![0; data.len()];
    assert_eq!(local.read(file, &mut back, 5).expect("read"), data.len());
    assert!(back == data);
    local.sync(file).expect("sync");
    local.truncate(file, 7).expect("truncate");
    let stat = local.stat(file).expect("stat");
    let meta = served.root.join("f").metadata().expect("stat");
    assert_eq!(
        (stat.bytes, stat.ino, stat.mode),
        (7, meta.ino(), meta.mode())
    );
    // A caller's umask counts, and its rights are its own: this one is root.
    assert_eq!((meta.mode() & 0o777, meta.uid()), (0o666 & !umask(), 0));
    local.close(file).expect("close");
    assert_eq!(errno(local.close(file)), 116);
    assert_eq!(errno(local.read(file, &mut back, 0)), 116);
    assert_eq!(errno(local.read(99, &mut back, 0)), EBADF);
    assert_eq!(errno(local.open_file("/f", flags | open::EXCL, 0)), EEXIST);
    assert_eq!(errno(local.open_file("/none", 0, 0)), ENOENT);
    assert_eq!(errno(local.open_file("/../../etc/passwd", 0, 0)), ENOENT);
    for n in 0..500 {
        File::create(served.root.join(format!("n{n}"))).expect("create");
    }
    let folder = local.open_file("/", open::DIRECTORY, 0).expect("open");
    let mut names: Vec<_> = local.read_dir(folder).expect("readdir");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 503);
    // What is above the root is nobody's business, and its number neither.
    let number = |wanted: &[u8]| {
        let found = names.iter().find(|(_, _, name)| name == wanted);
        found.expect("in every folder").0
    };
    assert_eq!(number(b".."), number(b"."));
    // Another open file of the device has other handles.
    let other = Local::open().expect("the device");
    assert_eq!(errno(other.stat(folder)), EBADF);
    drop((local, other));
    nothing_held();
}

/// This process's umask.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(line.expect("a umask").trim(), 8).expect("octal")
}

#[test]
fn the_callers_rights_are_its_own() {
    let served = serve("");
    fs::write(served.root.join("secret"), b"x").expect("a file");
    fs::set_permissions(
        served.root.join("secret"),
        fs::Permissions::from_mode(0o600),
    )
    .expect("chmod");
    let local = Local::open().expect("the device");
    local.open_file("/secret", 0, 0).expect("root may");
    let refused = sys::as_user(1234, || errno(local.open_file("/secret", 0, 0)));
    assert_eq!(refused, EACCES);
}

#[test]
fn the_originals_calls() {
    let text = b"test_virgo_filesystem_25September2017";
    if std::env::var_os("VIRGO_CHILD").is_some() {
        let descriptor = virgo_open("/virgofstest.txt").expect("open");
        assert_eq!(virgo_write(descriptor, text, 0).expect("write"), text.len());
        let mut back = [0; 250];
        assert_eq!(
            virgo_read(descriptor, &mut back, 0).expect("read"),
            text.len()
        );
        virgo_close(descriptor).expect("close");
        let busy = module::unload(MODULE).map_err(|error| error.0);
        assert_eq!(busy, Err(11), "a module with an open device was unloaded");
        return;
    }
    let served = serve("");
    // The library keeps the device open as long as its process lives: a process of its own.
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "device::the_originals_calls"])
        .env("VIRGO_CHILD", "1")
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert_eq!(
        fs::read(served.root.join("virgofstest.txt")).expect("read"),
        text
    );
}

#[test]
fn each_field_wrong_alone() {
    let _served = serve("");
    let device = File::options()
        .read(true)
        .write(true)
        .open(uapi::FS_DEVICE)
        .expect("the device");
    let mut area = Area::new(1);
    area.write(0, b"/f");
    let good = FsOpen {
        size: size_of::<FsOpen>() as u32,
        path: area.address(0) as u64,
        path_len: 2,
        open_flags: 0o102,
        mode: 0o644,
        ..FsOpen::default()
    };
    let mut opened = good;
    sys::ioctl(&device, uapi::FS_IOC_OPEN, &mut opened).expect("open");
    for (bad, expected) in [
        (FsOpen { size: 39, ..good }, EINVAL),
        (FsOpen { flags: 1, ..good }, EINVAL),
        (
            FsOpen {
                open_flags: 1 << 30,
                ..good
            },
            EINVAL,
        ),
        (
            FsOpen {
                open_flags: 3,
                ..good
            },
            EINVAL,
        ),
        (
            FsOpen {
                mode: 0o10000,
                ..good
            },
            EINVAL,
        ),
        (FsOpen { node: 1, ..good }, 113),
        (
            FsOpen {
                path_len: 4097,
                ..good
            },
            ENAMETOOLONG,
        ),
        (FsOpen { path: 16, ..good }, 14),
        (
            FsOpen {
                path_len: 0,
                ..good
            },
            EINVAL,
        ),
    ] {
        let mut bad = bad;
        let result = sys::ioctl(&device, uapi::FS_IOC_OPEN, &mut bad);
        assert_eq!(result.map_err(|error| error.0), Err(expected), "{bad:?}");
    }
    let io = FsIo {
        size: size_of::<FsIo>() as u32,
        handle: opened.handle,
        data: area.address(0) as u64,
        length: 10,
        ..FsIo::default()
    };
    for (bad, expected) in [
        (FsIo { flags: 1, ..io }, EINVAL),
        (FsIo { handle: 5, ..io }, EBADF),
        (
            FsIo {
                handle: 1 << 48,
                ..io
            },
            EBADF,
        ),
        (FsIo { data: 16, ..io }, 14),
        (
            FsIo {
                length: (1 << 20) + 1,
                ..io
            },
            EMSGSIZE,
        ),
        (
            FsIo {
                length: u64::MAX,
                ..io
            },
            EMSGSIZE,
        ),
        (
            FsIo {
                offset: 1 << 63,
                ..io
            },
            EINVAL,
        ),
    ] {
        for command in [uapi::FS_IOC_WRITE, uapi::FS_IOC_READ] {
            // There must be something to read where the copy is to fail.
            let mut ok = io;
            sys::ioctl(&device, uapi::FS_IOC_WRITE, &mut ok).expect("write");
            let mut bad = bad;
            let result = sys::ioctl(&device, command, &mut bad);
            assert_eq!(result.map_err(|error| error.0), Err(expected), "{bad:?}");
        }
    }
    for (command, flags) in [(uapi::FS_IOC_CLOSE, 1), (uapi::FS_IOC_SYNC, 2)] {
        let mut bad = FsHandle {
            size: size_of::<FsHandle>() as u32,
            flags,
            handle: opened.handle,
        };
        let result = sys::ioctl(&device, command, &mut bad);
        assert_eq!(result.map_err(|error| error.0), Err(EINVAL));
    }
    let mut stat = FsStat {
        size: size_of::<FsStat>() as u32,
        flags: 1,
        handle: opened.handle,
        ..FsStat::default()
    };
    let result = sys::ioctl(&device, uapi::FS_IOC_STAT, &mut stat);
    assert_eq!(result.map_err(|error| error.0), Err(EINVAL));
    let unknown = sys::ioctl(&device, 0xc028_eb3f, &mut opened);
    assert_eq!(unknown.map_err(|error| error.0), Err(25));
}
