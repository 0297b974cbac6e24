// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The log: what is put is there after the module was loaded anew, whatever became of the disk.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use virgo_tests::procfs::logged_during;
use virgo_tests::sys::Errno;
use virgo_tests::{module, wait_until, SOON};

use crate::client::{ours, Client, MODULE, PORT};

/// A folder of its own, empty, on the guest's disk.
struct Folder(PathBuf);

fn folder(name: &str) -> Folder {
    let path = Path::new("/var/tmp").join(format!("virgo-queue-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    Folder(path)
}

impl Folder {
    fn parameters(&self, more: &str) -> String {
        format!("log={} {more}", self.0.display())
    }

    fn file(&self, number: u32) -> PathBuf {
        self.0.join(format!("queue.{number}"))
    }

    /// Bytes on the disk, of all files.
    fn used(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let files = fs::read_dir(&self.0).expect("the folder");
        files
            .map(|f| f.expect("a file").metadata().expect("it").blocks() * 512)
            .sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[test]
fn all_of_a_job_is_there_again() {
    for fsync in ["always", "interval", "never"] {
        let folder = folder("again");
        let parameters = folder.parameters(&format!("fsync={fsync}"));
        let blob: Vec<u8> = (0..60_000_u32).map(|n| (n * 7) as u8).collect();
        {
            let _ours = ours(&parameters);
            let mut client = Client::connect(PORT);
            assert_eq!(client.put("5 0 30", b"first"), 1);
            assert_eq!(client.put("4 1000 31", &blob), 2);
            assert_eq!(client.ask("use other"), "USING other\r\n");
            assert_eq!(client.put("3 0 32", b"buried"), 3);
            assert_eq!(client.put("2 0 33", b"deleted"), 4);
            assert_eq!(client.put("1 0 34", b"reserved"), 5);
            assert_eq!(client.ask("watch other"), "WATCHING 2\r\n");
            assert_eq!(client.ask("delete 4"), "DELETED\r\n");
            assert!(client.ask("reserve-job 3").starts_with("RESERVED 3 "));
            assert_eq!(client.ask("bury 3 9"), "BURIED\r\n");
            assert!(client.ask("reserve").starts_with("RESERVED 5 "));
        }
        let (_ours, told) = logged_during(|| ours(&parameters));
        assert!(
            told.iter()
                .any(|line| line.contains("4 requests") && !line.contains("not unloaded")),
            "{told:?}"
        );
        let mut client = Client::connect(PORT);
        let stats = client.ask("stats-job 1");
        for line in [
            "pri: 5",
            "state: ready",
            "ttr: 30",
            "reserves: 0",
            "tube: \"default\"",
        ] {
            assert!(stats.contains(line), "{line} in {stats}");
        }
        let stats = client.ask("stats-job 2");
        for line in ["pri: 4", "state: delayed", "delay: 1000", "ttr: 31"] {
            assert!(stats.contains(line), "{line} in {stats}");
        }
        assert!((900..=1000).contains(&client.number("stats-job 2", "time-left")));
        let stats = client.ask("stats-job 3");
        for line in ["pri: 9", "state: buried", "buries: 1", "tube: \"other\""] {
            assert!(stats.contains(line), "{line} in {stats}");
        }
        assert_eq!(client.ask("stats-job 4"), "NOT_FOUND\r\n");
        // Who had it is gone; that it was given out before is known.
        let stats = client.ask("stats-job 5");
        for line in ["pri: 1", "state: ready", "reserves: 1"] {
            assert!(stats.contains(line), "{line} in {stats}");
        }
        client.send(b"peek 2\r\n");
        let mut whole = b"FOUND 2 60000\r\n".to_vec();
        whole.extend_from_slice(&blob);
        whole.extend_from_slice(b"\r\n");
        assert_eq!(client.answer(), whole);
        assert_eq!(client.put("0 0 1", b"new"), 6);
    }
}

#[test]
fn the_log_stays_as_long_as_what_lives() {
    let folder = folder("compact");
    let parameters = folder.parameters("fsync=never log_segment_mb=1");
    {
        let _ours = ours(&parameters);
        let mut client = Client::connect(PORT);
        // An old job which stays, in front of many that go.
        let _ = client.put("0 100000 30", b"stays");
        let body = [b'x'; 10_000];
        for _ in 0..1500 {
            let id = client.put("0 0 30", &body);
            assert_eq!(client.ask(&format!("delete {id}")), "DELETED\r\n");
        }
        let small = wait_until(SOON, || folder.used() < 6 << 20);
        assert!(small, "{} bytes for one job", folder.used());
        assert!(client.number("stats", "binlog-oldest-index") > 5);
    }
    let _ours = ours(&parameters);
    let mut client = Client::connect(PORT);
    assert_eq!(client.number("stats", "current-jobs-delayed"), 1);
    assert_eq!(client.ask("peek 1"), "FOUND 1 5\r\nstays\r\n");
}

/// Changes a byte of a file.
fn flip(path: &Path, at: u64) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("the file");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("seek");
    file.read_exact(&mut byte).expect("read");
    file.seek(SeekFrom::Start(at)).expect("seek");
    file.write_all(&[byte[0] ^ 0x10]).expect("write");
}

fn find(path: &Path, what: &[u8]) -> u64 {
    let all = fs::read(path).expect("the file");
    let at = all.windows(what.len()).position(|w| w == what);
    at.unwrap_or_else(|| panic!("{what:?} is not in it")) as u64
}

#[test]
fn a_flipped_bit_costs_one_job_and_is_told() {
    let folder = folder("flip");
    let parameters = folder.parameters("");
    {
        let _ours = ours(&parameters);
        let mut client = Client::connect(PORT);
        for n in 0..10 {
            let _ = client.put("0 0 30", format!("body {n}").as_bytes());
        }
    }
    flip(&folder.file(0), find(&folder.file(0), b"body 4"));
    // The file's first record too.
    flip(&folder.file(0), 16);
    let (_ours, told) = logged_during(|| ours(&parameters));
    assert!(
        told.iter()
            .any(|line| line.contains("queue.0: ") && line.contains("are damaged")),
        "{told:?}"
    );
    let mut client = Client::connect(PORT);
    assert_eq!(client.number("stats", "current-jobs-ready"), 9);
    assert_eq!(client.ask("peek 5"), "NOT_FOUND\r\n");
    assert_eq!(client.ask("peek 6"), "FOUND 6 6\r\nbody 5\r\n");
}

#[test]
fn a_torn_end_costs_the_last_record_and_is_told() {
    let folder = folder("torn");
    let parameters = folder.parameters("");
    {
        let _ours = ours(&parameters);
        let mut client = Client::connect(PORT);
        for n in 0..10 {
            let _ = client.put("0 0 30", format!("body {n}").as_bytes());
        }
    }
    // As if the power had gone in the middle of the last job's record.
    let at = find(&folder.file(0), b"body 9");
    let file = OpenOptions::new()
        .write(true)
        .open(folder.file(0))
        .expect("the file");
    file.set_len(at + 2).expect("truncate");
    drop(file);
    {
        let (_ours, told) = logged_during(|| ours(&parameters));
        assert!(
            told.iter().any(|line| line.contains("no whole record")),
            "{told:?}"
        );
        assert!(
            told.iter().any(|line| line.contains("not unloaded")),
            "{told:?}"
        );
        let mut client = Client::connect(PORT);
        assert_eq!(client.number("stats", "current-jobs-ready"), 9);
        let _ = client.put("0 0 30", b"after it");
    }
    let _ours = ours(&parameters);
    let mut client = Client::connect(PORT);
    assert_eq!(client.number("stats", "current-jobs-ready"), 10);
}

#[test]
fn a_folder_that_cannot_be_used_is_told() {
    let _machine = module::core_only();
    let folder = folder("wrong");
    let none = folder.0.join("none");
    let load = |parameters: &str| module::load(MODULE, parameters);
    let (result, told) = logged_during(|| load(&format!("log={}", none.display())));
    assert_eq!(result, Err(Errno(libc::ENOENT)));
    assert!(
        told.iter()
            .any(|line| line.contains("the folder is not there")),
        "{told:?}"
    );
    for bad in [
        "log=relative",
        "log=/ fsync=sometimes",
        "log=/ fsync_ms=0",
        "log=/ log_segment_mb=0",
    ] {
        assert_eq!(load(bad), Err(Errno(libc::EINVAL)), "{bad}");
    }
    fs::write(
        folder.file(0),
        b"something else entirely, and long enough to be looked at",
    )
    .expect("write");
    let (result, told) = logged_during(|| load(&folder.parameters("")));
    assert_eq!(result, Ok(()));
    assert!(
        told.iter()
            .any(|line| line.contains("nothing in it can be read")),
        "{told:?}"
    );
    module::unload(MODULE).expect("it unloads");
    // What is not ours is not overwritten.
    assert!(fs::read(folder.file(0))
        .expect("read")
        .starts_with(b"something else"));
}

/// A small file system in memory.
struct Disk(PathBuf);

fn disk(size: &str) -> Disk {
    let path = PathBuf::from("/var/tmp/virgo-queue-disk");
    let _ = Command::new("umount").arg(&path).output();
    fs::create_dir_all(&path).expect("a folder");
    let options = format!("size={size}");
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
        .arg(&path)
        .status();
    assert!(done.expect("mount").success());
    Disk(path)
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_acknowledged() {
    let disk = disk("6m");
    let parameters = format!("log={} log_segment_mb=1", disk.0.display());
    let body = vec![b'f'; 50_000];
    let mut count = 0;
    {
        let _ours = ours(&parameters);
        let mut client = Client::connect(PORT);
        let ((), told) = logged_during(|| loop {
            match client.try_put("0 0 30", &body) {
                answer if answer.starts_with("INSERTED") => count += 1,
                answer => {
                    assert_eq!(answer, "OUT_OF_MEMORY\r\n");
                    break;
                }
            }
        });
        assert!(
            told.iter().any(|line| line.contains("no space is left")),
            "{told:?}"
        );
        assert!(count > 80, "{count} jobs of 50000 bytes in 6 MiB");
        assert_eq!(client.number("stats", "current-jobs-ready"), count);
        let mut lines = Client::connect(PORT);
        assert_eq!(
            lines.ask("a request"),
            "ERR log it cannot be written: no space is left on its disk\r\n"
        );
        // With room it goes on by itself.
        let done = Command::new("mount")
            .args(["-o", "remount,size=12m"])
            .arg(&disk.0)
            .status();
        assert!(done.expect("mount").success());
        let again = wait_until(SOON, || {
            client.try_put("0 0 30", b"more").starts_with("INSERTED")
        });
        assert!(again, "it stays full");
    }
    let _ours = ours(&parameters);
    let mut client = Client::connect(PORT);
    assert_eq!(client.number("stats", "current-jobs-ready"), count + 1);
}

#[test]
fn a_read_only_disk_is_told_and_gives_back_what_it_has() {
    let disk = disk("8m");
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let done = Command::new("mount")
            .args(["-o", &options])
            .arg(&disk.0)
            .status();
        assert!(done.expect("mount").success(), "{how}");
    };
    let parameters = format!("log={} log_segment_mb=1", disk.0.display());
    {
        let _ours = ours(&parameters);
        let mut client = Client::connect(PORT);
        let _ = client.put("0 0 30", b"one");
        let _ = client.put("0 0 30", b"two");
    }
    remount("ro");
    {
        let ((_ours, mut client), told) = logged_during(|| {
            let ours = ours(&parameters);
            let mut client = Client::connect(PORT);
            assert_eq!(client.try_put("0 0 30", b"three"), "OUT_OF_MEMORY\r\n");
            (ours, client)
        });
        assert!(
            told.iter()
                .any(|line| line.contains("its disk is read-only")),
            "{told:?}"
        );
        // What is there can be looked at, but not be given out: nobody would know of it.
        assert_eq!(client.ask("peek 1"), "FOUND 1 3\r\none\r\n");
        assert_eq!(client.ask("reserve"), "OUT_OF_MEMORY\r\n");
        let mut lines = Client::connect(PORT);
        assert_eq!(
            lines.ask("a request"),
            "ERR log it cannot be written: its disk is read-only\r\n"
        );
        assert_eq!(client.number("stats", "current-jobs-ready"), 2);
    }
    remount("rw");
    let _ours = ours(&parameters);
    let mut client = Client::connect(PORT);
    assert_eq!(client.number("stats", "current-jobs-ready"), 2);
    assert_eq!(client.ask("reserve"), "RESERVED 1 3\r\none\r\n");
    assert_eq!(client.ask("delete 1"), "DELETED\r\n");
    let _ = client.put("0 0 30", b"three");
}

#[test]
fn many_clients_share_a_sync() {
    let folder = folder("group");
    let _ours = ours(&folder.parameters("fsync=always"));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(PORT);
                for _ in 0..50 {
                    let id = client.put("0 0 30", b"x");
                    let job = client.ask("reserve");
                    let own = job.split(' ').nth(1).expect("a number");
                    assert_eq!(client.ask(&format!("delete {own}")), "DELETED\r\n");
                    assert!(id > 0);
                }
            });
        }
    });
    let mut client = Client::connect(PORT);
    assert_eq!(client.number("stats", "current-jobs-ready"), 0);
    assert_eq!(
        client.number("stats", "binlog-records-written"),
        8 * 50 * 3 + 1
    );
}
