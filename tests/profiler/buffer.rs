// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The buffer: its shape, readers while it wraps, what a mapping may do, poll.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::time::{Duration, Instant};

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE};
use virgo_proto::uapi::{self, ProfilerSample};
use virgo_tests::buffer::{Buffer, Reader};
use virgo_tests::child::Child;
use virgo_tests::device::Device;
use virgo_tests::module;
use virgo_tests::procfs;
use virgo_tests::sys::{self, Mapping, EACCES, EFAULT, EINVAL, EIO, EPERM, PAGE};
use virgo_tests::{wait_until, SOON};

#[test]
fn the_header_tells_the_shape() {
    for pages in [1, 2, 3, 128] {
        let _machine = module::profiler(&format!("buffer_pages={pages} rate_hz=50 max_tasks=9"));
        let device = Device::profiler();
        let info = device.info().unwrap();
        assert_eq!(info.map_bytes as usize, (pages + 1) * PAGE);
        assert_eq!(info.record_size as usize, size_of::<ProfilerSample>());
        assert_eq!(info.header_size, uapi::PROFILER_HEADER_SIZE);
        assert_eq!(
            info.capacity as usize,
            pages * PAGE / size_of::<ProfilerSample>()
        );
        assert_eq!(info.max_tasks, 9);
        assert_eq!(Device::control().info(), Ok(info), "by either door");
        let buffer = device.buffer();
        let header = buffer.header();
        assert_eq!(header.magic, uapi::PROFILER_MAGIC);
        assert_eq!(header.layout, uapi::PROFILER_LAYOUT);
        assert_eq!(header.header_size, info.header_size);
        assert_eq!(header.record_size, info.record_size);
        assert_eq!(header.capacity, info.capacity);
        assert_eq!((header.head, header.ticks, header.registered), (0, 0, 0));
        assert_eq!((header.dropped, header.missed_ticks), (0, 0));
        assert_eq!((header.rate_hz, header.start_ns), (50, 0));
        assert_eq!(header.reserved, [0; 6]);
        // Nothing of the kernel's is in what has not been written.
        for offset in (size_of::<uapi::ProfilerHeader>()..info.map_bytes as usize).step_by(8) {
            assert_eq!(buffer.mapping().word(offset), 0, "at {offset}");
        }
    }
}

#[test]
fn the_header_follows_what_happens() {
    let _machine = module::profiler("rate_hz=100");
    let device = Device::profiler();
    let buffer = device.buffer();
    let mut reader = Reader::new(&device);
    let children = [Child::idle("one"), Child::idle("two")];
    let generation = buffer.header().generation;
    let before = sys::monotonic_ns();
    let first = device.register(children[0].pid, 0).unwrap();
    let start = buffer.header().start_ns;
    assert!((before..=sys::monotonic_ns()).contains(&start));
    assert_eq!(buffer.header().generation, generation + 1);
    assert_eq!(buffer.header().registered, 1);
    reader.fresh(first);
    let second = device.register(children[1].pid, 0).unwrap();
    assert_eq!(buffer.header().generation, generation + 2);
    assert_eq!(buffer.header().registered, 2);
    assert_eq!(buffer.header().start_ns, start, "the rounds go on");
    reader.fresh(second);
    assert!(buffer.header().ticks > 1);
    device.unregister(children[0].pid, 0).unwrap();
    assert_eq!(buffer.header().generation, generation + 3);
    assert_eq!(buffer.header().registered, 1);
    device.unregister(children[1].pid, 0).unwrap();
    let last = buffer.header();
    assert_eq!(last.generation, generation + 4);
    assert_eq!((last.registered, last.start_ns), (0, 0));
    // Nothing is registered, nothing happens.
    let mut idle = 0;
    assert!(wait_until(SOON, || {
        idle += 1;
        idle > 100
    }));
    assert_eq!(buffer.header(), last);
    assert!(!device.readable(100) || device.seen(last.head).is_ok());
    assert_eq!(buffer.header(), last);
}

#[test]
fn every_record_is_in_its_slot() {
    // Two pages hold 85 records and 32 bytes more.
    let _machine = module::profiler("buffer_pages=2 rate_hz=200");
    let device = Device::profiler();
    let buffer = device.buffer();
    assert_eq!(buffer.capacity(), 85);
    let children: Vec<Child> = (0..3).map(|_| Child::idle("target")).collect();
    for child in &children {
        device.register(child.pid, 0).unwrap();
    }
    assert!(wait_until(SOON, || buffer.head() > 300));
    for child in &children {
        device.unregister(child.pid, 0).unwrap();
    }
    // The writer is still: the newest 85 are all there, in order, and no older one.
    let head = buffer.head();
    let mut last_time = 0;
    for number in head - buffer.capacity()..head {
        let record = buffer.record(number).expect("the record is there");
        assert_eq!(record.seq, number + 1);
        assert!(record.time_ns >= last_time);
        last_time = record.time_ns;
    }
    assert!(buffer.record(head).is_none());
    assert!(buffer.record(head - buffer.capacity() - 1).is_none());
    let end = PAGE + 85 * size_of::<ProfilerSample>();
    for offset in (end..3 * PAGE).step_by(8) {
        assert_eq!(buffer.mapping().word(offset), 0, "behind the last slot");
    }
}

/// What a reader of [`wrapping_never_tears_a_record`] expects of each registration.
type Expected = HashMap<u64, ProfilerSample>;

/// Reads all that there is, again and again, for a while and until it has been overtaken; how many
/// records it got and how many it came too late for.
fn check_all(buffer: &Buffer, expected: &Expected, time: Duration) -> (u64, u64) {
    let start = Instant::now();
    let (mut got, mut late, mut last_head) = (0, 0, 0);
    while start.elapsed() < time || (late == 0 && start.elapsed() < SOON) {
        let head = buffer.head();
        assert!(head >= last_head, "the head went back");
        last_head = head;
        let mut last_time = 0;
        // From the oldest on, which is overwritten next.
        for number in head.saturating_sub(buffer.capacity())..head {
            match buffer.record(number) {
                Some(record) => {
                    got += 1;
                    let known = expected.get(&record.id).expect("a registration's identity");
                    let like_known = ProfilerSample {
                        seq: known.seq,
                        time_ns: known.time_ns,
                        flags: known.flags,
                        ..record
                    };
                    assert_eq!(like_known, *known);
                    assert_eq!(record.seq, number + 1);
                    assert!(record.time_ns >= last_time);
                    last_time = record.time_ns;
                }
                None => late += 1,
            }
        }
    }
    (got, late)
}

#[test]
fn wrapping_never_tears_a_record() {
    // A page holds 42 records; a round writes 30.
    let _machine = module::profiler("buffer_pages=1 rate_hz=1000");
    let device = Device::profiler();
    device.set_rate(20).unwrap();
    let children: Vec<Child> = (0..30)
        .map(|number| {
            let mut child = Child::spawn(&format!("reader's {number}"), move |parent| {
                let mut area = sys::Area::new(500);
                area.touch(0, number * 10);
                parent.say(0);
                parent.hear();
                0
            });
            child.hear();
            child
        })
        .collect();
    for child in &children {
        assert!(wait_until(SOON, || procfs::stat(child.pid).unwrap().state == 'S'));
        device.register(child.pid, 0).unwrap();
    }
    // They sleep, so nothing in their records changes but the time.
    let mut reader = Reader::new(&device);
    let mut expected = Expected::new();
    assert!(reader.follow(SOON, |record| {
        if record.flags == 0 {
            expected.insert(record.id, *record);
        }
        expected.len() == children.len()
    }));
    device.set_rate(1000).unwrap();
    let time = Duration::from_secs(if virgo_tests::long() { 60 } else { 4 });
    let mut readers: Vec<Child> = (0..2)
        .map(|_| {
            Child::spawn("reader", |parent| {
                let device = Device::profiler();
                let (got, late) = check_all(&device.buffer(), &expected, time);
                parent.say(got);
                parent.say(late);
                0
            })
        })
        .collect();
    let (mut got, mut late) = (0, 0);
    for reader in &mut readers {
        got += reader.hear();
        late += reader.hear();
        reader.wait_ok();
    }
    println!("{got} records read, {late} overwritten meanwhile");
    assert!(got > 1000, "{got}");
    assert!(
        late > 0,
        "the readers were never overtaken: nothing was tried"
    );
}

#[test]
fn mappings_that_could_change_it_are_refused() {
    let _machine = module::profiler("buffer_pages=4");
    let device = Device::profiler();
    let length = device.info().unwrap().map_bytes as usize;
    assert_eq!(length, 5 * PAGE);
    let map =
        |prot, flags, length, offset| Mapping::new(&device, length, prot, flags, offset).err();
    for prot in [
        PROT_WRITE,
        PROT_READ | PROT_WRITE,
        PROT_EXEC,
        PROT_READ | PROT_EXEC,
        PROT_READ | PROT_WRITE | PROT_EXEC,
    ] {
        assert_eq!(map(prot, MAP_SHARED, length, 0), Some(EPERM), "{prot:#x}");
    }
    assert_eq!(map(PROT_READ, MAP_PRIVATE, length, 0), Some(EINVAL));
    for offset in [PAGE, 4 * PAGE, 5 * PAGE, 1 << 40] {
        let error = map(PROT_READ, MAP_SHARED, PAGE, offset);
        assert_eq!(error, Some(EINVAL), "offset {offset}");
    }
    for longer in [length + 1, length + PAGE, 1 << 30] {
        let error = map(PROT_READ, MAP_SHARED, longer, 0);
        assert_eq!(error, Some(EINVAL), "{longer} bytes");
    }
    for shorter in [1, PAGE, 2 * PAGE, length - 1, length] {
        assert_eq!(map(PROT_READ, MAP_SHARED, shorter, 0), None);
    }
    assert_eq!(map(PROT_NONE, MAP_SHARED, length, 0), None);
    // A file that is open for reading alone.
    let reading = Device(File::open(uapi::PROFILER_DEVICE).unwrap());
    let error = Mapping::new(&reading, length, PROT_READ | PROT_WRITE, MAP_SHARED, 0).err();
    assert_eq!(error, Some(EACCES));
    assert!(Mapping::new(&reading, length, PROT_READ, MAP_SHARED, 0).is_ok());
    // One that is open for writing alone.
    let writing = OpenOptions::new()
        .write(true)
        .open(uapi::PROFILER_DEVICE)
        .unwrap();
    let error = Mapping::new(&writing, length, PROT_READ, MAP_SHARED, 0).err();
    assert_eq!(error, Some(EACCES));
    // The control device has nothing to map.
    let error = Mapping::new(Device::control(), PAGE, PROT_READ, MAP_SHARED, 0).err();
    assert_eq!(error, Some(sys::ENODEV));
}

#[test]
fn a_mapping_cannot_be_made_to_do_more() {
    let _machine = module::profiler("buffer_pages=4 rate_hz=100");
    let device = Device::profiler();
    let length = device.info().unwrap().map_bytes as usize;
    for prot in [PROT_READ, PROT_NONE] {
        let mut mapping = Mapping::new(&device, length, prot, MAP_SHARED, 0).unwrap();
        for more in [
            PROT_WRITE,
            PROT_READ | PROT_WRITE,
            PROT_EXEC,
            PROT_READ | PROT_EXEC,
        ] {
            assert_eq!(mapping.protect(more), Err(EACCES), "{more:#x}");
        }
        mapping.protect(PROT_READ).unwrap();
        assert_eq!(mapping.word(0) as u32, uapi::PROFILER_MAGIC);
        assert_eq!(mapping.resize(length + PAGE), Err(EFAULT));
        assert_eq!(mapping.resize(16 * length), Err(EFAULT));
    }
}

#[test]
fn a_hostile_reader_changes_nothing() {
    let _machine = module::profiler("buffer_pages=4 rate_hz=100");
    let device = Device::profiler();
    let buffer = device.buffer();
    let child = Child::idle("target");
    let id = device.register(child.pid, 0).unwrap();
    let mut reader = Reader::new(&device);
    reader.fresh(id);
    device.unregister(child.pid, 0).unwrap();
    let words = |buffer: &Buffer| -> Vec<u64> {
        (0..buffer.mapping().length())
            .step_by(8)
            .map(|offset| buffer.mapping().word(offset))
            .collect()
    };
    let before = words(&buffer);

    let own = std::process::id() as i32;
    let address = buffer.mapping().address();
    let poison = [0xa5; 64];
    for offset in [0, PAGE] {
        // As a debugger, of oneself and of another.
        assert_eq!(
            sys::write_memory(own, address + offset, &poison),
            Err(EFAULT)
        );
        let memory = OpenOptions::new()
            .write(true)
            .open("/proc/self/mem")
            .unwrap();
        let error =
            std::os::unix::fs::FileExt::write_at(&memory, &poison, (address + offset) as u64)
                .unwrap_err();
        assert!([EIO, EFAULT].contains(&sys::errno_of(&error)), "{error}");
        // Through the kernel's own copying.
        let zero = File::open("/dev/zero").unwrap();
        assert_eq!(
            sys::read_to_address(&zero, address + offset, 64),
            Err(EFAULT)
        );
        let result = sys::ioctl_at(&device, uapi::PROFILER_IOC_INFO, address + offset);
        assert!(result.is_err(), "the answer must not go there");
    }
    assert_eq!(words(&buffer), before);

    // Advice that would drop pages of an ordinary file: at worst this mapping is of no more use.
    Child::spawn_with_files("adviser", |_| {
        let mapping = Device::profiler().buffer();
        let map = mapping.mapping();
        for advice in [
            libc::MADV_DONTNEED,
            libc::MADV_REMOVE,
            libc::MADV_FREE,
            libc::MADV_COLD,
            libc::MADV_PAGEOUT,
            libc::MADV_HUGEPAGE,
            libc::MADV_MERGEABLE,
            libc::MADV_DOFORK,
            libc::MADV_DODUMP,
            libc::MADV_WILLNEED,
        ] {
            let _ = map.advise(advice);
        }
        0
    })
    .wait_ok();
    assert_eq!(words(&buffer), before);

    // A child of fork() does not have it.
    let mut heir = Child::spawn_with_files("heir", |_| {
        std::hint::black_box(buffer.mapping().word(0));
        0
    });
    assert_eq!(heir.wait().signal, Some(libc::SIGSEGV));

    // Two sees the same pages.
    let second = Device::profiler().buffer();
    assert_eq!(words(&second), before);
    device.register(child.pid, 0).unwrap();
    assert!(wait_until(SOON, || second.head() > before[3]));
    device.unregister(child.pid, 0).unwrap();
    assert_eq!(words(&second), words(&buffer));
}

#[test]
fn poll_wakes_readers_for_new_records() {
    let _machine = module::profiler("rate_hz=20");
    let (first, second) = (Device::profiler(), Device::profiler());
    let buffer = first.buffer();
    let child = Child::idle("target");
    assert!(!first.readable(0), "there is nothing to read");
    // A reader that sleeps in poll() is woken by the first record.
    let mut poller = Child::spawn_with_files("poller", |parent| {
        parent.say(1);
        parent.say(u64::from(first.readable(30_000)));
        0
    });
    assert_eq!(poller.hear(), 1);
    assert!(wait_until(SOON, || procfs::stat(poller.pid).unwrap().state == 'S'));
    first.register(child.pid, 0).unwrap();
    assert_eq!(poller.hear(), 1);
    poller.wait_ok();
    assert!(first.readable(0) && second.readable(0));
    first.unregister(child.pid, 0).unwrap();

    let head = buffer.head();
    assert!(first.readable(0), "until it says that it has seen them");
    first.seen(head - 1).unwrap();
    assert!(first.readable(0), "one is left");
    first.seen(head).unwrap();
    assert!(!first.readable(0));
    assert!(second.readable(0), "each file for itself");
    for beyond in [head + 1, u64::MAX] {
        assert_eq!(first.seen(beyond), Err(EINVAL));
    }
    assert!(!first.readable(0), "a refused command changes nothing");
    first.seen(0).unwrap();
    assert!(first.readable(0), "a reader may go back");
    assert_eq!(Device::control().seen(0), Err(EINVAL), "it has no buffer");
    // A new file begins with what comes next.
    let third = Device::profiler();
    assert!(!third.readable(0));
    // Each round wakes.
    third.register(child.pid, 0).unwrap();
    let rounds = 10;
    let start = Instant::now();
    for _ in 0..rounds {
        assert!(third.readable(30_000));
        third.seen(buffer.head()).unwrap();
    }
    assert!(
        start.elapsed() >= Duration::from_millis(50 * (rounds - 2)),
        "woken for nothing"
    );
    // So does the last record.
    third.set_rate(1).unwrap();
    assert!(third.readable(30_000));
    third.seen(buffer.head()).unwrap();
    let before = Instant::now();
    third.unregister(child.pid, 0).unwrap();
    assert!(third.readable(0) || before.elapsed() > Duration::from_millis(900));
}
