// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Full disks, limits, bad ioctls, and unloading under load.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use virgo_proto::uapi::{self, EventnetLog, EventnetRead, EventnetSettings, EventnetStat};
use virgo_tests::device::Device;
use virgo_tests::sys::{self, Errno, EFAULT, EINVAL, ENOTTY};
use virgo_tests::{module, wait_until, SOON};

use crate::world::{
    device, load, ours, stat, tell, told, unload, Client, Folder, What, MODULE, TELLER, UPDATED,
};

const VERTICES: &str = "EventNetVertices.txt";
const EDGES: &str = "EventNetEdges.txt";

/// Sends edges until one is refused; how many were not.
fn fill(client: &mut Client, from: u64) -> (u64, String) {
    let mut n = from;
    loop {
        let name = format!("{n:0>100}");
        let answer = client.ask(&format!("eventnet_edgemsg#{name}#x#"));
        if answer != UPDATED {
            return (n, answer);
        }
        n += 1;
        assert!(n < 100_000, "it is never full");
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let folder = Folder::of_size("full", 1 << 20);
    let _ours = ours(&folder, "modules=all ring=1024");
    let mut client = Client::connect();
    client.update("eventnet_vertexmsg#first#a#b#");
    let (n, answer) = fill(&mut client, 0);
    assert!(answer.starts_with("ERR ENOSPC "), "{answer}");
    assert!(n > 100, "{n}");
    assert_eq!(stat().journal_errno, 28);
    // A module's events meanwhile are lost, and it is counted.
    assert!(tell("log 2000")[1] > 0);
    assert!(wait_until(SOON, || {
        let stat = stat();
        stat.lost + stat.events >= 2000
    }));
    folder.mount("remount,size=64M");
    let (mut again, mut tries) = (String::new(), 0);
    assert!(
        wait_until(SOON, || {
            tries += 1;
            again = client.ask("eventnet_vertexmsg#last#a#b#");
            again == UPDATED
        }),
        "{again}"
    );
    let mut expected = String::new();
    for n in 0..n {
        expected += &format!("{n:0>100},x\n");
    }
    // The edges of the events that were lost come behind.
    let same = || folder.text(EDGES).starts_with(&expected);
    assert!(wait_until(SOON, same));
    assert!(wait_until(SOON, || folder
        .text(VERTICES)
        .contains("last - a,b - (a,b)\n")));
    assert!(folder.text(VERTICES).starts_with("first - a,b - (a,b)\n"));
    assert_eq!(stat().journal_errno, 0);
    tell("log 1");
    assert!(wait_until(SOON, || stat().losses > 0
        && stat().events + stat().lost >= 2001));
    let lost: u64 = folder
        .journal()
        .iter()
        .map(|told| match told.what {
            What::Loss { count, .. } => count,
            _ => 0,
        })
        .sum();
    assert_eq!(lost, stat().lost);
    drop(client);
    unload();
    load(&folder, "");
    assert!(folder.text(EDGES).starts_with(&expected));
}

#[test]
fn limits_have_names() {
    let folder = Folder::new("limits");
    let machine = ours(
        &folder,
        "max_mb=1 max_names=10 fsync=never max_connections=2",
    );
    let mut client = Client::connect();
    for n in 0..10 {
        client.update(&format!("eventnet_vertexmsg#v{n}#a#b#"));
    }
    // Names are counted when they are in the file.
    assert!(wait_until(SOON, || folder.text(VERTICES).lines().count() == 10));
    let answer = client.ask("eventnet_vertexmsg#another#a#b#");
    assert!(answer.contains("max_names"), "{answer}");
    client.update("eventnet_vertexmsg#v3#a#b#");
    let list = "l".repeat(4000);
    let mut last = String::new();
    for _ in 0..400 {
        last = client.ask(&format!("eventnet_vertexmsg#v1#{list}#b#"));
        if last != UPDATED {
            break;
        }
    }
    assert!(
        last.starts_with("ERR EFBIG ") && last.contains("max_mb"),
        "{last}"
    );
    let _second = Client::connect();
    let mut third = Client::connect();
    assert!(third.answer().starts_with("ERR EUSERS 2 connections"));
    drop(client);
    drop(machine);
    let _machine = module::core_only();
    for bad in [
        "port=0",
        "ring=1",
        "ring=100000",
        "flush_ms=0",
        "max_mb=0",
        "max_names=0",
        "listen=2",
        "folder=relative",
        "folder=/proc/nothing/there",
        "modules=nonsense",
        "fsync=perhaps",
    ] {
        let parameters = if bad.starts_with("folder") {
            bad.to_owned()
        } else {
            format!("folder={} {bad}", folder.path.display())
        };
        assert!(module::load(MODULE, &parameters).is_err(), "{bad}");
        assert!(!module::is_loaded(MODULE));
    }
}

fn log(device: &Device, message: &[u8]) -> Result<EventnetLog, Errno> {
    let mut area = sys::Area::new(4);
    area.write(0, message);
    let mut log = EventnetLog {
        size: size_of::<EventnetLog>() as u32,
        message: area.address(0) as u64,
        length: message.len() as u32,
        ..Default::default()
    };
    sys::ioctl(device, uapi::EVENTNET_IOC_LOG, &mut log)?;
    Ok(log)
}

fn read(device: &Device, position: u64) -> (Vec<u8>, EventnetRead) {
    let area = sys::Area::new(64);
    let mut read = EventnetRead {
        size: size_of::<EventnetRead>() as u32,
        buffer: area.address(0) as u64,
        position,
        capacity: 64 * 4096,
        ..Default::default()
    };
    sys::ioctl(device, uapi::EVENTNET_IOC_READ, &mut read).expect("read");
    (area.read(0, read.length as usize), read)
}

#[test]
fn ioctls() {
    let folder = Folder::new("ioctls");
    let _ours = ours(&folder, "");
    let device = device();
    let first = log(&device, b"eventnet_edgemsg#1#2#").expect("log");
    let second = log(&Device::control(), b"eventnet_vertexmsg#1#a#b#\n").expect("log");
    assert!(second.stamp > first.stamp && first.node == second.node);
    assert_eq!(stat().edges, 1);
    assert_eq!(log(&device, b"nonsense").err(), Some(EINVAL));
    assert_eq!(log(&device, b"").err(), Some(EINVAL));
    let long = vec![b'x'; 9000];
    assert_eq!(log(&device, &long).err().map(|e| e.0), Some(90));

    // A reader is woken by what comes, and by nothing else.
    let (bytes, request) = read(&device, 0);
    assert_eq!(request.next, request.end);
    assert_eq!(bytes.len() as u64, request.end);
    assert_eq!(told(&bytes).len(), 3);
    assert!(!device.readable(0));
    let third = log(&device, b"eventnet_edgemsg#2#3#").expect("log");
    assert!(device.readable(1000));
    let (bytes, after) = read(&device, request.next);
    assert!(after.next > request.next);
    assert_eq!(bytes.len() % 8, 0);
    assert_eq!(read(&device, u64::MAX / 2).0.len(), 0);

    // What is not right is refused, each alone.
    let size = size_of::<EventnetRead>() as u32;
    let good = EventnetRead {
        size,
        position: 0,
        ..Default::default()
    };
    for bad in [
        EventnetRead { size: 8, ..good },
        EventnetRead { flags: 1, ..good },
        EventnetRead {
            reserved: [0, 1],
            ..good
        },
    ] {
        let mut bad = bad;
        assert_eq!(
            sys::ioctl(&device, uapi::EVENTNET_IOC_READ, &mut bad),
            Err(EINVAL)
        );
    }
    let mut wild = EventnetRead {
        buffer: 8,
        capacity: 4096,
        ..good
    };
    assert_eq!(
        sys::ioctl(&device, uapi::EVENTNET_IOC_READ, &mut wild),
        Err(EFAULT)
    );
    let mut bad = EventnetLog {
        size: size_of::<EventnetLog>() as u32,
        message: 8,
        length: 20,
        ..Default::default()
    };
    assert_eq!(
        sys::ioctl(&device, uapi::EVENTNET_IOC_LOG, &mut bad),
        Err(EFAULT)
    );
    let mut bad = EventnetStat {
        size: size_of::<EventnetStat>() as u32,
        reserved: [0, 0, 0, 1],
        ..Default::default()
    };
    assert_eq!(
        sys::ioctl(&device, uapi::EVENTNET_IOC_STAT, &mut bad),
        Err(EINVAL)
    );
    for (flags, modules, flush_ms) in [(1 << 9, 0, 5), (1, 1 << 8, 5), (2, 0, 0), (2, 0, 60_001)] {
        let mut bad = EventnetSettings {
            size: size_of::<EventnetSettings>() as u32,
            flags,
            modules,
            flush_ms,
            ..Default::default()
        };
        assert_eq!(
            sys::ioctl(&device, uapi::EVENTNET_IOC_SETTINGS, &mut bad),
            Err(EINVAL)
        );
    }
    assert_eq!(sys::ioctl_at(&device, 0xc008_eb5f, 0), Err(ENOTTY));
    assert!(third.stamp > second.stamp);
}

/// Unloading while messages and events come in: what was acknowledged is in the files.
#[test]
fn unloading_under_load() {
    let folder = Folder::new("unload");
    let machine = ours(&folder, "modules=all fsync=never");
    tell("log 1");
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for writer in 0..4 {
            let (over, acknowledged) = (&over, &acknowledged);
            scope.spawn(move || {
                let mut n = 0;
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut client) = Client::try_connect() else {
                        continue;
                    };
                    loop {
                        client.send_quietly(&format!("eventnet_edgemsg#w{writer}#n{n}#\r\n"));
                        match client.try_answer() {
                            Ok(Some(answer)) if answer == UPDATED => {
                                acknowledged.fetch_add(1, Ordering::Relaxed);
                                n += 1;
                            }
                            _ => break,
                        }
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
            });
        }
        let (over, done) = (&over, &acknowledged);
        // No faster than the clients: else a slow machine has a storm to put into its text files.
        scope.spawn(move || {
            let mut seen = u64::MAX;
            while !over.load(Ordering::Relaxed) {
                let more = || done.load(Ordering::Relaxed) != seen || over.load(Ordering::Relaxed);
                assert!(wait_until(SOON, more));
                seen = done.load(Ordering::Relaxed);
                tell("log 500");
            }
        });
        for _ in 0..6 {
            let before = acknowledged.load(Ordering::Relaxed);
            assert!(wait_until(SOON, || acknowledged.load(Ordering::Relaxed) > before + 50));
            unload();
            load(&folder, "modules=all fsync=never");
        }
        over.store(true, Ordering::Relaxed);
    });
    module::unload(TELLER).expect("unload");
    unload();
    // Unloading leaves what takes long to the next load.
    load(&folder, "fsync=never");
    let all = acknowledged.load(Ordering::Relaxed);
    let edges = |text: &str| text.lines().filter(|line| line.starts_with('w')).count() as u64;
    assert!(wait_until(SOON, || edges(&folder.text(EDGES)) >= all));
    unload();
    let text = folder.text(EDGES);
    for writer in 0..4 {
        let prefix = format!("w{writer},n");
        let mut numbers: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        // One that was not acknowledged may be there, and may be sent again.
        assert!(
            numbers.iter().enumerate().all(|(n, m)| n as u64 == *m),
            "{writer}"
        );
    }
    drop(machine);
}

/// With and without each other, in every order.
#[test]
fn orders_of_unloading() {
    let folder = Folder::new("orders");
    let _machine = module::core_only();
    load(&folder, "modules=all");
    assert_eq!(tell("log 5")[1], 5);
    unload();
    assert_eq!(tell("log 5")[1], 0);
    load(&folder, "modules=all");
    assert_eq!(tell("log 5")[1], 5);
    module::unload(TELLER).expect("unload");
    let held = device();
    assert!(module::unload(MODULE).is_err(), "with the device open");
    drop(held);
    unload();
    let status = Command::new("rmmod")
        .arg("virgo_core")
        .status()
        .expect("rmmod");
    assert!(status.success());
}
