// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The ioctls of /dev/virgo-queue, and the `virgo queue` command.

use std::thread;
use std::time::{Duration, Instant};

use virgo_proto::uapi::{self, QueueDone, QueueName, QueuePut, QueueResult, QueueStat, QueueTake};
use virgo_tests::device::Device;
use virgo_tests::script;
use virgo_tests::sys::{self, Errno, Res};
use virgo_tests::{wait_until, SOON};

use crate::client::{ours, Client, PORT};

fn name(tube: &str) -> QueueName {
    QueueName::new(tube.as_bytes()).expect("a name")
}

fn put(device: &Device, tube: &str, body: &[u8]) -> Res<u64> {
    let mut put = QueuePut {
        size: size_of::<QueuePut>() as u32,
        body: body.as_ptr() as u64,
        length: body.len() as u32,
        ttr: 60,
        tube: name(tube),
        ..QueuePut::default()
    };
    sys::ioctl(device, uapi::QUEUE_IOC_PUT, &mut put)?;
    Ok(put.id)
}

fn take(device: &Device, tube: &str, timeout_ms: u32, room: &mut [u8]) -> Res<QueueTake> {
    let mut take = QueueTake {
        size: size_of::<QueueTake>() as u32,
        body: room.as_mut_ptr() as u64,
        capacity: room.len() as u32,
        timeout_ms,
        tube: name(tube),
        ..QueueTake::default()
    };
    sys::ioctl(device, uapi::QUEUE_IOC_TAKE, &mut take).map(|_| take)
}

fn done(device: &Device, id: u64, action: u32) -> Res<()> {
    let mut done = QueueDone {
        size: size_of::<QueueDone>() as u32,
        id,
        action,
        ..QueueDone::default()
    };
    sys::ioctl(device, uapi::QUEUE_IOC_DONE, &mut done).map(|_| ())
}

fn device() -> Device {
    Device::open(uapi::QUEUE_DEVICE).expect("the device")
}

const EMSGSIZE: Errno = Errno(libc::EMSGSIZE);

#[test]
fn what_one_door_takes_in_the_other_gives_out() {
    let _ours = ours("");
    let file = device();
    let mut client = Client::connect(PORT);
    assert_eq!(put(&file, "default", b"by ioctl"), Ok(1));
    assert_eq!(client.ask("reserve"), "RESERVED 1 8\r\nby ioctl\r\n");
    assert_eq!(
        done(&file, 1, uapi::QUEUE_ACK),
        Err(sys::ENOENT),
        "another's"
    );
    assert_eq!(client.ask("delete 1"), "DELETED\r\n");
    let _ = client.put("7 0 30", b"by line");
    let mut room = [0; 100];
    let taken = take(&file, "", 0, &mut room).expect("it is ready");
    assert_eq!(
        (taken.id, taken.length, taken.pri, taken.reserves),
        (2, 7, 7, 1)
    );
    assert_eq!(&room[..7], b"by line");
    assert_eq!(client.ask("delete 2"), "NOT_FOUND\r\n");
    for action in [uapi::QUEUE_TOUCH, uapi::QUEUE_BURY, uapi::QUEUE_KICK] {
        assert_eq!(done(&file, 2, action), Ok(()), "action {action}");
    }
    assert_eq!(
        take(&file, "default", 0, &mut room).map(|t| t.reserves),
        Ok(2)
    );
    assert_eq!(done(&file, 2, uapi::QUEUE_RELEASE), Ok(()));
    assert_eq!(
        take(&file, "default", 0, &mut room).map(|t| t.reserves),
        Ok(3)
    );
    // The file goes, and what it had is ready again.
    drop(file);
    assert!(wait_until(SOON, || client
        .number("stats", "current-jobs-ready")
        == 1));
}

#[test]
fn one_that_waits_is_woken() {
    let _ours = ours("");
    let file = device();
    let start = Instant::now();
    let mut room = [0; 10];
    assert_eq!(
        take(&file, "w", 300, &mut room).map(|_| ()),
        Err(sys::EAGAIN)
    );
    assert!(start.elapsed() >= Duration::from_millis(295));
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let file = device();
            let mut room = [0; 10];
            take(&file, "w", uapi::QUEUE_FOREVER, &mut room).map(|t| (t.id, room[0]))
        });
        let mut client = Client::connect(PORT);
        assert!(wait_until(SOON, || client
            .number("stats", "current-waiting")
            == 1));
        assert!(!file.readable(0));
        let id = put(&file, "w", b"!").expect("put");
        assert_eq!(waits.join().expect("thread"), Ok((id, b'!')));
    });
    // That one's file is gone: it is ready again.
    assert!(wait_until(SOON, || file.readable(100)));
}

#[test]
fn bad_arguments_are_refused() {
    let _ours = ours("max_job_size=100");
    let file = device();
    let mut room = [0; 10];
    assert_eq!(put(&file, "-bad", b"x"), Err(sys::EINVAL));
    assert_eq!(put(&file, "a b", b"x"), Err(sys::EINVAL));
    assert_eq!(put(&file, "a", &[0; 101]), Err(sys::E2BIG));
    let good = QueuePut {
        size: size_of::<QueuePut>() as u32,
        length: 1,
        body: room.as_ptr() as u64,
        ..QueuePut::default()
    };
    let mut bad = QueuePut { flags: 1, ..good };
    assert_eq!(
        sys::ioctl(&file, uapi::QUEUE_IOC_PUT, &mut bad).map(|_| ()),
        Err(sys::EINVAL)
    );
    let mut bad = QueuePut { body: 8, ..good };
    assert_eq!(
        sys::ioctl(&file, uapi::QUEUE_IOC_PUT, &mut bad).map(|_| ()),
        Err(sys::EFAULT)
    );
    let mut bad = QueuePut { size: 8, ..good };
    assert_eq!(
        sys::ioctl(&file, uapi::QUEUE_IOC_PUT, &mut bad).map(|_| ()),
        Err(sys::EINVAL)
    );
    let mut bad = QueuePut {
        tube: QueueName([b'a'; 208]),
        ..good
    };
    assert_eq!(
        sys::ioctl(&file, uapi::QUEUE_IOC_PUT, &mut bad).map(|_| ()),
        Err(sys::EINVAL)
    );

    let good = QueueResult {
        size: size_of::<QueueResult>() as u32,
        id: 1,
        ..QueueResult::default()
    };
    for mut bad in [
        QueueResult { flags: 1, ..good },
        QueueResult { error: 1, ..good },
        QueueResult { kind: 1, ..good },
        QueueResult {
            reserved: 1,
            ..good
        },
        QueueResult { size: 8, ..good },
    ] {
        assert_eq!(
            sys::ioctl(&file, uapi::QUEUE_IOC_RESULT, &mut bad).map(|_| ()),
            Err(sys::EINVAL)
        );
    }
    assert_eq!(take(&file, "a", 0, &mut room).map(|_| ()), Err(sys::EAGAIN));
    let id = put(&file, "a", &[7; 50]).expect("put");
    assert_eq!(take(&file, "a", 0, &mut room).map(|_| ()), Err(EMSGSIZE));
    let mut stat = QueueStat {
        size: size_of::<QueueStat>() as u32,
        ..QueueStat::default()
    };
    assert_eq!(
        sys::ioctl(&file, uapi::QUEUE_IOC_STAT, &mut stat).map(|_| ()),
        Ok(())
    );
    assert_eq!((stat.ready, stat.reserved), (1, 0), "it was not taken");
    assert_eq!(done(&file, id, 9), Err(sys::EINVAL));
    assert_eq!(done(&file, id + 1, uapi::QUEUE_ACK), Err(sys::ENOENT));
    assert_eq!(
        done(&file, id, uapi::QUEUE_TOUCH),
        Err(sys::ENOENT),
        "not taken"
    );
    // Through /dev/virgo nobody waits.
    let control = Device::control();
    assert_eq!(
        take(&control, "a", 1, &mut room).map(|_| ()),
        Err(sys::EINVAL)
    );
    let mut large = [0; 64];
    assert_eq!(take(&control, "a", 0, &mut large).map(|t| t.id), Ok(id));
    assert_eq!(done(&control, id, uapi::QUEUE_ACK), Ok(()));
    assert_eq!(
        sys::ioctl_at(&file, 0xc000_eb4f, 0).map(|_| ()),
        Err(sys::ENOTTY)
    );
}

#[test]
fn the_command_puts_takes_and_tells() {
    let _ours = ours("");
    let run = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["queue"].iter().chain(arguments).copied().collect();
        script::run("virgo", &arguments)
    };
    let out = run(&["put", "mail", "to: somebody", "--pri", "5"]);
    assert_eq!((out.code, out.out.as_str()), (0, "1\n"), "{}", out.err);
    let out = run(&["export"]);
    assert!(out.out.contains("\"text\":\"to: somebody\""), "{}", out.out);
    let out = run(&["ls", "--json"]);
    assert!(out.out.contains("\"tube\":\"mail\""), "{}", out.out);
    let out = run(&["stat"]);
    assert!(
        out.out.contains("1 ready") && out.out.contains("log: none"),
        "{}",
        out.out
    );
    let out = run(&["take", "mail", "--", "false"]);
    assert_eq!(out.code, 1);
    assert!(out.err.contains("request 1 went back"), "{}", out.err);
    let out = run(&["take", "mail", "--", "cat"]);
    assert_eq!((out.code, out.out.as_str()), (0, "to: somebody"));
    let out = run(&["take", "mail"]);
    assert_eq!(out.code, 1);
    assert!(out.err.contains("no request is ready"), "{}", out.err);
    assert_eq!(run(&["drain"]).code, 0);
    let out = run(&["put", "mail", "x"]);
    assert!(
        out.err.contains("no more requests are taken in"),
        "{}",
        out.err
    );
    assert_eq!(run(&["drain", "--end"]).code, 0);
    let mut lines = Client::connect(PORT);
    let _ = lines.ask("KingCobra_17August2015");
    let out = run(&["export", "--kingcobra"]);
    assert!(out.out.starts_with("REQUEST#7f000001#"), "{}", out.out);
    assert!(
        out.out.contains("#KingCobra_17August2015 $$\n"),
        "{}",
        out.out
    );
}

/// Names that are found by the same hash: FNV-1a of 32 bits makes one of each pair.
#[test]
fn tubes_whose_names_have_the_same_hash_are_two() {
    let _queue = ours("");
    let device = device();
    let pairs = [
        ("costarring", "liquid"),
        ("declinate", "macallums"),
        ("altarage", "zinke"),
    ];
    let mut room = [0; 16];
    for (one, two) in pairs {
        for _ in 0..2 {
            for tube in [one, two] {
                put(&device, tube, tube.as_bytes()).expect("room");
            }
            // A tube goes with its last request; the other stays.
            for tube in [one, two] {
                let taken = take(&device, tube, 0, &mut room).expect("its own");
                assert_eq!(&room[..taken.length as usize], tube.as_bytes());
                done(&device, taken.id, uapi::QUEUE_ACK).expect("it");
                assert_eq!(take(&device, tube, 0, &mut room), Err(sys::EAGAIN));
            }
        }
    }
}
