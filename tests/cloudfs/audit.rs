// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the kernel's threads touch on behalf of clients, seen where a security module would be
//! asked: each file that is opened, read, written, looked at, searched or changed, by its file system
//! and its number. None may lie outside of the served folder.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use virgo::files::open;
use virgo_tests::sys;

use crate::confinement::{names, outside, race};
use crate::disk::Disk;
use crate::hostile::flips;
use crate::text::Telnet;
use crate::*;

const TRACING: &str = "/sys/kernel/tracing";

/// Name of the event, function, and the inode in its arguments, as the kernel's BTF has them.
const HOOKS: &[(&str, &str, &str)] = &[
    ("open", "security_file_open", "file->f_inode"),
    ("use", "security_file_permission", "file->f_inode"),
    ("search", "security_inode_permission", "inode"),
    ("look", "security_inode_getattr", "path->dentry->d_inode"),
    ("create", "security_inode_create", "dir"),
    ("mkdir", "security_inode_mkdir", "dir"),
    ("rmdir", "security_inode_rmdir", "dir"),
    ("unlink", "security_inode_unlink", "dir"),
    ("symlink", "security_inode_symlink", "dir"),
    ("link_of", "security_inode_link", "old_dentry->d_inode"),
    ("link_to", "security_inode_link", "dir"),
    ("move_from", "security_inode_rename", "old_dir"),
    ("move_to", "security_inode_rename", "new_dir"),
    ("change", "security_inode_setattr", "dentry->d_inode"),
    ("setxattr", "security_inode_setxattr", "dentry->d_inode"),
    ("getxattr", "security_inode_getxattr", "dentry->d_inode"),
    ("listxattr", "security_inode_listxattr", "dentry->d_inode"),
    ("readlink", "security_inode_readlink", "dentry->d_inode"),
    ("statfs", "security_sb_statfs", "dentry->d_inode"),
];

/// Counts them by place, in the kernel, so that none gets lost; for the kernel's workers alone.
const HISTOGRAM: &str = "hist:keys=dev,ino:size=65536 if COMM ~ \"kworker*\"";

fn write(name: &str, text: &str) -> std::io::Result<()> {
    fs::write(format!("{TRACING}/{name}"), text)
}

/// Switched off when dropped.
struct Audit;

impl Audit {
    fn on() -> Self {
        sys::mount_tracefs();
        let audit = Audit;
        for (event, function, inode) in HOOKS {
            let probe = format!(
                "p:audit/{event} {function} dev={inode}->i_sb->s_dev:u32 ino={inode}->i_ino:u64"
            );
            let mut events = fs::OpenOptions::new();
            let mut events = events
                .append(true)
                .open(format!("{TRACING}/kprobe_events"))
                .expect("kprobe_events");
            std::io::Write::write_all(&mut events, probe.as_bytes())
                .unwrap_or_else(|error| panic!("{probe}: {error}: {}", log()));
            write(&format!("events/audit/{event}/trigger"), HISTOGRAM)
                .unwrap_or_else(|error| panic!("{event}: {error}: {}", log()));
        }
        audit
    }

    /// How often each event was seen at each (file system, number).
    fn seen(&self) -> BTreeMap<(&'static str, u64, u64), u64> {
        let mut all = BTreeMap::new();
        for (event, ..) in HOOKS {
            let path = format!("{TRACING}/events/audit/{event}/hist");
            let text = fs::read_to_string(path).expect("hist");
            for line in text.lines() {
                // "{ dev:         27, ino:          5 } hitcount:       3"
                let words: Vec<&str> = line
                    .split([' ', ',', '{', '}'])
                    .filter(|word| !word.is_empty())
                    .collect();
                let number = |text: &str| text.parse::<u64>().ok();
                match words.as_slice() {
                    ["dev:", dev, "ino:", ino, "hitcount:", count] => {
                        let key = number(dev).zip(number(ino)).expect("numbers");
                        let count = number(count).expect("a number");
                        all.insert((*event, key.0, key.1), count);
                    }
                    ["Dropped:", dropped] => assert_eq!(*dropped, "0", "{event}"),
                    _ => assert!(!line.starts_with('{'), "{line}"),
                }
            }
            assert!(text.contains("Dropped: 0"), "{event}: {text}");
        }
        all
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        for (event, ..) in HOOKS {
            let _ = write(
                &format!("events/audit/{event}/trigger"),
                &format!("!{HISTOGRAM}"),
            );
        }
        let _ = write("kprobe_events", "");
    }
}

/// What tracing says of a line that it did not take.
fn log() -> String {
    fs::read_to_string(format!("{TRACING}/error_log")).unwrap_or_default()
}

/// A place as the kernel numbers it.
fn place(path: &Path) -> (u64, u64) {
    let meta = fs::symlink_metadata(path).expect("stat");
    let dev = meta.dev();
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    ((u64::from(major) << 20) | u64::from(minor), meta.ino())
}

/// What the sessions above have none of. Not by the kernel's client: its workers use its sockets.
fn rest() {
    let mut c = attached();
    c.walk(0, 1, &[]).expect("walk");
    let (name, value) = (b"user.a", b"value");
    let create = Request::Lcreate {
        fid: 1,
        name: b"attr",
        flags: open::RDWR,
        mode: 0o644,
        gid: 0,
    };
    c.call(&create).expect("create");
    c.walk(0, 2, &[b"attr"]).expect("walk");
    let set = Request::XattrCreate {
        fid: 2,
        name,
        size: value.len() as u64,
        flags: 0,
    };
    c.call(&set).expect("xattrcreate");
    let write = Request::Write {
        fid: 2,
        offset: 0,
        data: value,
    };
    c.call(&write).expect("write");
    c.call(&Request::Clunk { fid: 2 }).expect("clunk");
    c.walk(0, 2, &[b"attr"]).expect("walk");
    for (newfid, name) in [(3, &name[..]), (4, b"")] {
        let walk = Request::XattrWalk {
            fid: 2,
            newfid,
            name,
        };
        c.call(&walk).expect("xattrwalk");
    }
    let tree = tree();
    tree.read_link("/absolute").expect("readlink");
    tree.mkdir("/to", 0o755).expect("mkdir");
    tree.rename("/attr", "/to/moved").expect("rename");
    tree.remove_file("/to/moved").expect("unlink");
    tree.remove_dir("/to").expect("rmdir");
}

/// With /srv a file system of its own, which has the served folder and what is outside of it.
fn audited() {
    let served = serve("");
    let outside = outside();
    let forbidden: Vec<_> = [
        Path::new("/srv"),
        outside.as_path(),
        &outside.join("secret"),
    ]
    .into_iter()
    .map(place)
    .collect();
    let (dev, root) = place(&served.root);
    let audit = Audit::on();
    names(&served, &outside);
    let limit = if virgo_tests::long() { 60 } else { 4 };
    race(&served, &outside, std::time::Duration::from_secs(limit));
    let step = if virgo_tests::long() { 1 } else { 61 };
    flips(step);
    let mut telnet = Telnet::new();
    for path in [
        "../outside/secret",
        "absolute/secret",
        "/srv/outside/secret",
    ] {
        let said = telnet.ask(&format!("virgo_cloud_open({path})"));
        assert!(said.starts_with("ERR "), "{said}");
    }
    drop(telnet);
    rest();
    nothing_held();
    let seen = audit.seen();
    for ((event, at, number), count) in &seen {
        let is_outside = *at != dev || forbidden.contains(&(*at, *number));
        assert!(!is_outside, "{event} {count} times of {at:#x}:{number}");
    }
    // All that the sessions do was seen.
    for (event, ..) in HOOKS {
        let count: u64 = seen
            .iter()
            .filter_map(|((name, ..), count)| (name == event).then_some(*count))
            .sum();
        println!("{event}: {count}");
        assert!(count > 0, "no {event} was seen");
    }
    assert!(seen.contains_key(&("search", dev, root)));
    // And it would have been seen, had they got out: now it is served.
    module::unload(MODULE).expect("it unloads");
    load(Path::new("/srv"), "");
    let secret = tree().open("/outside/secret", 0, 0).expect("open");
    secret.read_at(&mut [0; 7], 0).expect("read");
    drop(secret);
    let seen = audit.seen();
    let (_, number) = place(&outside.join("secret"));
    for event in ["open", "use", "search"] {
        assert!(
            seen.contains_key(&(event, dev, number)),
            "{event}: {seen:?}"
        );
    }
    drop(audit);
    drop(served);
}

#[test]
fn nothing_outside_is_touched_in_memory() {
    // Left behind by a test that failed.
    let _ = Command::new("umount").args(["-lq", "/srv"]).output();
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "none", "/srv"]);
    audited();
    run("umount", &["/srv"]);
}

#[test]
fn nothing_outside_is_touched_on_a_disk() {
    let disk = Disk::new(64);
    disk.mount(Path::new("/srv"), "rw");
    audited();
    run("umount", &["/srv"]);
}
