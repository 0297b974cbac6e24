// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The kernel's own client, with nothing of ours.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{symlink, FileExt, MetadataExt};

use crate::*;

#[test]
fn the_kernels_client_mounts_it() {
    let served = serve("");
    let mounted = Mounted::new("msize=131072");
    let (here, there) = (&mounted.0, &served.root);
    fs::create_dir(here.join("d")).expect("mkdir");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(here.join("d/f"))
        .expect("create");
    let data: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&data).expect("write");
    file.sync_all().expect("fsync");
    assert!(fs::read(there.join("d/f")).expect("read") == data);
    file.seek(SeekFrom::Start(0)).expect("seek");
    let mut back = Vec::new();
    file.read_to_end(&mut back).expect("read");
    assert!(back == data);
    file.set_len(10).expect("ftruncate");
    assert_eq!(there.join("d/f").metadata().expect("stat").len(), 10);
    fs::rename(here.join("d/f"), here.join("g")).expect("rename");
    fs::hard_link(here.join("g"), here.join("h")).expect("link");
    symlink("g", here.join("s")).expect("symlink");
    assert_eq!(
        fs::read_link(here.join("s")).expect("readlink"),
        Path::new("g")
    );
    assert_eq!(
        fs::read(here.join("s")).expect("by the client's own link"),
        data[..10]
    );
    let (a, b) = (
        here.join("g").metadata().expect("stat"),
        there.join("g").metadata().expect("stat"),
    );
    assert_eq!(
        (
            a.mode(),
            a.nlink(),
            a.uid(),
            a.gid(),
            a.size(),
            a.mtime(),
            a.mtime_nsec()
        ),
        (
            b.mode(),
            b.nlink(),
            b.uid(),
            b.gid(),
            b.size(),
            b.mtime(),
            b.mtime_nsec()
        )
    );
    fs::set_permissions(here.join("g"), fs::Permissions::from_mode(0o640)).expect("chmod");
    assert_eq!(there.join("g").metadata().expect("stat").mode(), 0o100_640);
    // Open and removed.
    let open = File::open(here.join("h")).expect("open");
    fs::remove_file(here.join("h")).expect("unlink");
    fs::remove_file(here.join("g")).expect("unlink");
    let mut text = [0; 10];
    open.read_exact_at(&mut text, 0)
        .expect("read what is removed");
    assert_eq!(text, data[..10]);
    drop(open);
    drop(file);
    fs::remove_file(here.join("s")).expect("unlink");
    fs::remove_dir(here.join("d")).expect("rmdir");
    run("mknod", &["--version"]);
    let refused = Command::new("mknod")
        .arg(here.join("null"))
        .args(["c", "1", "3"])
        .status();
    assert!(!refused.expect("mknod").success());
    drop(mounted);
    nothing_held();
}

#[test]
fn many_at_once() {
    let _served = serve("");
    let mounted = Mounted::new("msize=65536");
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let folder = mounted.0.join(format!("t{n}"));
            thread::spawn(move || {
                fs::create_dir(&folder).expect("mkdir");
                for m in 0..30 {
                    let path = folder.join(format!("f{m}"));
                    let data = vec![n as u8; 1000 * m + 1];
                    fs::write(&path, &data).expect("write");
                    assert!(fs::read(&path).expect("read") == data);
                    fs::rename(&path, folder.join("moved")).expect("rename");
                    fs::remove_file(folder.join("moved")).expect("unlink");
                }
                fs::remove_dir(&folder).expect("rmdir");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
    drop(mounted);
    nothing_held();
}

#[test]
fn attributes_and_locks_of_system_calls() {
    let served = serve("");
    let mounted = Mounted::new("msize=65536");
    let file = mounted.0.join("f");
    fs::write(&file, b"text").expect("write");
    let name = file.display().to_string();
    run("setfattr", &["-n", "user.a", "-v", "value", &name]);
    assert!(run("getfattr", &["--only-values", "-n", "user.a", &name]).contains("value"));
    let there = served.root.join("f").display().to_string();
    assert!(run("getfattr", &["--only-values", "-n", "user.a", &there]).contains("value"));
    run("setfattr", &["-x", "user.a", &name]);
    assert!(!run("getfattr", &["-d", &there]).contains("user.a"));
    // flock(1) takes a lock that is the whole file's.
    run("flock", &["-w", "60", &name, "true"]);
    run("stat", &["-f", &mounted.0.display().to_string()]);
    run("truncate", &["-s", "123", &name]);
    run("touch", &["-d", "2001-02-03 04:05:06.789 UTC", &name]);
    let meta = served.root.join("f").metadata().expect("stat");
    // The client keeps whole seconds of what it is told to set.
    assert_eq!((meta.len(), meta.mtime()), (123, 981_173_106));
    drop(mounted);
    nothing_held();
}
