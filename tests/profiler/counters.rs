// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The figures of the records, beside what the kernel itself tells.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::time::Duration;

use virgo_proto::uapi::{self, ProfilerSample};
use virgo_tests::buffer::{name_of, Reader};
use virgo_tests::child::Child;
use virgo_tests::device::Device;
use virgo_tests::module;
use virgo_tests::procfs;
use virgo_tests::sys::{self, Area, Mapping, PAGE};
use virgo_tests::{wait_until, SOON};

/// The kernel's fast count of resident pages is off by up to a batch for each processor and kind of
/// page; /proc/PID/statm shows the slow, exact one.
const RSS_SLACK: u64 = 3 * 64 * 8 * PAGE as u64;

const MS: u64 = 1_000_000;

fn cpu_ns(record: &ProfilerSample) -> u64 {
    record.utime_ns + record.stime_ns
}

fn state(record: &ProfilerSample) -> char {
    char::from_u32(record.state).unwrap()
}

/// Waits until all threads of a process sleep, so that its figures stand still.
fn settle(pid: i32) {
    let asleep = wait_until(SOON, || {
        fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .all(|task| {
                let tid = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
                procfs::is_asleep(pid, tid)
            })
    });
    assert!(asleep, "process {pid} does not sleep");
}

/// Makes major faults: reads pages of a file which are not in memory.
fn fault_from_disk(pages: usize) {
    let path = format!("/var/tmp/virgo-tests-{}", std::process::id());
    fs::write(&path, vec![1; pages * PAGE]).unwrap();
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    let map = Mapping::new(
        file.as_fd(),
        pages * PAGE,
        libc::PROT_READ,
        libc::MAP_SHARED,
        0,
    )
    .unwrap();
    map.advise(libc::MADV_RANDOM).unwrap();
    sys::drop_cached(&file);
    for page in 0..pages {
        assert_eq!(map.word(page * PAGE), 0x0101_0101_0101_0101);
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn figures_of_a_process_are_those_of_proc() {
    const PAGES: usize = 4000;
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("a long name, cut", |parent| {
        parent.say(0);
        parent.hear();
        let mut area = Area::new(PAGES);
        area.touch(0, PAGES);
        fault_from_disk(50);
        sys::burn(200 * MS);
        parent.say(0);
        parent.hear();
        0
    });
    child.hear();
    settle(child.pid);
    let id = device.register(child.pid, 0).unwrap();
    let before = reader.fresh(id);
    assert_eq!(
        cpu_ns(&before),
        procfs::thread_run_ns(child.pid, child.pid).unwrap()
    );
    child.say(0);
    child.hear();
    settle(child.pid);
    let record = reader.fresh(id);
    let stat = procfs::stat(child.pid).unwrap();
    let pid = child.pid.unsigned_abs();
    assert_eq!((record.pid, record.tid), (pid, pid));
    assert_eq!(record.min_flt, stat.minflt);
    assert_eq!(record.maj_flt, stat.majflt);
    assert!(record.min_flt >= before.min_flt + PAGES as u64);
    assert!(record.maj_flt > before.maj_flt, "pages came from the disk");
    assert_eq!(
        cpu_ns(&record),
        procfs::thread_run_ns(child.pid, child.pid).unwrap(),
        "exact run time"
    );
    assert!(cpu_ns(&record) >= cpu_ns(&before) + 200 * MS);
    // /proc/PID/stat cuts both off at ticks of 10 ms.
    let ticks = (stat.utime + stat.stime) * 10 * MS;
    assert!(
        (ticks..=ticks + 20 * MS).contains(&cpu_ns(&record)),
        "{ticks} {}",
        cpu_ns(&record)
    );
    let rss = procfs::rss_bytes(child.pid).unwrap();
    assert!(
        record.rss_bytes.abs_diff(rss) <= RSS_SLACK,
        "{} {rss}",
        record.rss_bytes
    );
    assert!(
        record.rss_bytes >= before.rss_bytes,
        "the area is gone, not the rest"
    );
    assert_eq!(state(&record), 'S');
    assert_eq!(name_of(&record.comm), stat.comm);
    assert_eq!(name_of(&record.comm), "a long name, cu");
    assert_eq!(record.flags, 0);
}

#[test]
fn resident_memory_is_followed() {
    const PAGES: usize = 8192;
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("grows", |parent| loop {
        let mut area = Area::new(PAGES);
        parent.hear();
        area.touch(0, PAGES);
        parent.say(0);
        parent.hear();
        drop(area);
        parent.say(0);
    });
    let id = device.register(child.pid, 0).unwrap();
    for _ in 0..2 {
        let small = reader.fresh(id).rss_bytes;
        child.say(0);
        child.hear();
        let large = reader.fresh(id).rss_bytes;
        let grown = (PAGES * PAGE) as u64;
        assert!(
            (large - small).abs_diff(grown) <= RSS_SLACK,
            "{small} {large}"
        );
        child.say(0);
        child.hear();
        assert!(reader.fresh(id).rss_bytes.abs_diff(small) <= RSS_SLACK);
    }
}

#[test]
fn a_running_process_is_between_two_looks_of_our_own() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let child = Child::busy("busy");
    let id = device.register(child.pid, 0).unwrap();
    let own_look = || procfs::thread_run_ns(child.pid, child.pid).unwrap();
    let first = reader.fresh(id);
    let mut last = first;
    for _ in 0..10 {
        let before = own_look();
        let record = reader.fresh(id);
        let after = own_look();
        let seen = cpu_ns(&record);
        assert!((before..=after).contains(&seen), "{before} {seen} {after}");
        assert!(record.utime_ns >= last.utime_ns && record.stime_ns >= last.stime_ns);
        assert_eq!(state(&record), 'R');
        last = record;
    }
    assert!(cpu_ns(&last) > cpu_ns(&first));
    assert!(
        last.utime_ns > last.stime_ns,
        "it does nothing in the kernel"
    );
}

/// Waits for a record of `id` that shows the state.
fn state_comes(reader: &mut Reader<'_>, id: u64, wanted: char) -> ProfilerSample {
    reader.find(|record| record.id == id && state(record) == wanted)
}

#[test]
fn states_are_the_letters_of_proc() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("states", |parent| {
        // Asleep, then busy, then waiting in the kernel for a child of its own.
        parent.hear();
        sys::burn(500 * MS);
        parent.say(0);
        parent.hear();
        if sys::fork_and_wait() == 0 {
            parent.hear();
            sys::exit_now(0);
        }
        parent.say(0);
        parent.hear();
        0
    });
    let id = device.register(child.pid, 0).unwrap();
    state_comes(&mut reader, id, 'S');
    child.say(0);
    state_comes(&mut reader, id, 'R');
    child.hear();
    child.say(0);
    state_comes(&mut reader, id, 'D');
    assert_eq!(procfs::stat(child.pid).unwrap().state, 'D');
    child.say(0);
    child.hear();
    state_comes(&mut reader, id, 'S');
    child.signal(libc::SIGSTOP);
    state_comes(&mut reader, id, 'T');
    child.signal(libc::SIGCONT);
    state_comes(&mut reader, id, 'S');
    sys::trace_stop(child.pid).unwrap();
    state_comes(&mut reader, id, 't');
    sys::trace_end(child.pid).unwrap();
    state_comes(&mut reader, id, 'S');
    child.signal(libc::SIGKILL);
    let last = reader.exit_of(id);
    assert_eq!(state(&last), 'Z');
    // Kernel threads are tasks like any other.
    let kthread = device.register(2, 0).unwrap();
    let record = reader.fresh(kthread);
    assert_eq!(name_of(&record.comm), "kthreadd");
    assert_eq!(record.rss_bytes, 0);
    device.unregister(2, 0).unwrap();
}

#[test]
fn a_name_that_changes_is_followed() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("before", |parent| {
        parent.say(0);
        parent.hear();
        sys::set_name("after");
        parent.say(0);
        parent.hear();
        0
    });
    // It has its name.
    child.hear();
    let id = device.register(child.pid, 0).unwrap();
    assert_eq!(name_of(&reader.fresh(id).comm), "before");
    child.say(0);
    child.hear();
    assert_eq!(name_of(&reader.fresh(id).comm), "after");
    assert_eq!(name_of(&device.list()[0].comm), "after");
}

#[test]
fn a_process_is_the_sum_of_its_threads() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("threads", |parent| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
        let mut threads = Vec::new();
        for number in 1..=4 {
            let stopped = stopped.clone();
            let thread = std::thread::spawn(move || {
                let mut area = Area::new(200 * number);
                area.touch(0, 200 * number);
                sys::burn(20 * MS * number as u64);
                if number > 2 {
                    let _ = stopped.lock().unwrap().recv();
                }
            });
            if number > 2 {
                threads.push(thread);
            } else {
                thread.join().unwrap();
            }
        }
        parent.say(0);
        parent.hear();
        drop(stop);
        for thread in threads {
            thread.join().unwrap();
        }
        parent.say(0);
        parent.hear();
        0
    });
    let pid = child.pid;
    let id = device.register(pid, 0).unwrap();
    child.hear();
    // Two have gone, two are there.
    assert!(wait_until(SOON, || fs::read_dir(format!(
        "/proc/{pid}/task"
    ))
    .unwrap()
    .count()
        == 3));
    let compare = |reader: &mut Reader<'_>| {
        // The last threads may still be on their way to sleep.
        let mut seen = None;
        let same = wait_until(SOON, || {
            settle(pid);
            let record = reader.fresh(id);
            let stat = procfs::stat(pid).unwrap();
            let own = (stat.minflt, stat.majflt, sys::process_cpu_ns(pid).unwrap());
            let told = (record.min_flt, record.maj_flt, cpu_ns(&record));
            seen = Some((told, own));
            told == own
        });
        assert!(same, "{seen:?}");
        seen.unwrap().0
    };
    let (faults, _, cpu) = compare(&mut reader);
    assert!(faults >= 2000, "{faults}");
    assert!(cpu >= 200 * MS, "{cpu}");
    let leader = procfs::thread_run_ns(pid, pid).unwrap();
    assert!(leader < cpu, "the threads count");
    child.say(0);
    child.hear();
    let (later, _, _) = compare(&mut reader);
    assert!(later >= faults, "what dead threads did stays");
}

#[test]
fn a_process_goes_on_when_its_first_thread_has_ended() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("headless", |parent| {
        let (started, start) = std::sync::mpsc::channel();
        let mut line = parent.take();
        std::thread::spawn(move || {
            started.send(()).unwrap();
            line.say(0);
            line.hear();
            sys::exit_now(0);
        });
        start.recv().unwrap();
        sys::exit_thread()
    });
    let id = device.register(child.pid, 0).unwrap();
    child.hear();
    let record = state_comes(&mut reader, id, 'Z');
    assert_eq!(record.flags & uapi::SAMPLE_EXIT, 0, "one thread is there");
    for _ in 0..3 {
        assert_eq!(reader.fresh(id).flags, 0);
    }
    child.say(0);
    reader.exit_of(id);
    child.wait_ok();
    assert_eq!(device.list(), []);
}

#[test]
fn execve_of_a_thread_does_not_change_the_registration() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("before", |parent| {
        parent.say(0);
        parent.hear();
        std::thread::spawn(|| sys::execute("/bin/sleep", "1000000"));
        loop {
            parent.hear();
        }
    });
    child.hear();
    let pid = child.pid;
    let id = device.register(pid, 0).unwrap();
    let before = reader.fresh(id);
    child.say(0);
    let mut last = before;
    let came = reader.follow(SOON, |record| {
        assert_eq!(record.id, id);
        assert_eq!((record.pid, record.tid), (pid as u32, pid as u32));
        assert_eq!(record.flags & !uapi::SAMPLE_FIRST, 0);
        assert!(record.min_flt >= last.min_flt && cpu_ns(record) >= cpu_ns(&last));
        last = *record;
        name_of(&record.comm) == "sleep" && state(record) == 'S'
    });
    assert!(came);
    assert!(wait_until(SOON, || {
        settle(pid);
        let record = reader.fresh(id);
        record.min_flt == procfs::stat(pid).unwrap().minflt
            && cpu_ns(&record) == sys::process_cpu_ns(pid).unwrap()
    }));
    let list = device.list();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].id, list[0].pid), (id, pid as u32));
    assert_eq!(device.register(pid, 0), Err(sys::EEXIST));
    assert_eq!(device.unregister(pid, 0), Ok(id));
    let again = device.register(pid, 0).unwrap();
    child.signal(libc::SIGKILL);
    reader.exit_of(again);
}

#[test]
fn being_watched_changes_nothing_in_the_process() {
    let _machine = module::profiler("rate_hz=1000");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut child = Child::spawn("watched", |parent| {
        parent.say(0);
        parent.hear();
        let before = sys::own_usage();
        parent.say(0);
        parent.hear();
        let after = sys::own_usage();
        let faults = |usage: &libc::rusage| (usage.ru_minflt, usage.ru_majflt);
        assert_eq!(faults(&before), faults(&after));
        0
    });
    child.hear();
    child.say(0);
    child.hear();
    settle(child.pid);
    let look = || {
        let stat = procfs::stat(child.pid).unwrap();
        let run = procfs::thread_run_ns(child.pid, child.pid).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
        (stat, run, status)
    };
    let before = look();
    let id = device.register(child.pid, 0).unwrap();
    let mut rounds = 0;
    assert!(reader.follow(SOON, |_| {
        rounds += 1;
        rounds == 500
    }));
    assert_eq!(look(), before);
    assert_eq!(device.unregister(child.pid, 0), Ok(id));
    assert_eq!(look(), before);
    child.say(0);
    child.wait_ok();
}

#[test]
fn the_exit_record_has_the_last_figures() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    for reap_at_once in [false, true] {
        for threads in [0, 3] {
            let mut child = Child::spawn("ends", |parent| {
                parent.hear();
                let work = |pages: usize| {
                    let mut area = Area::new(pages);
                    area.touch(0, pages);
                    sys::burn(10 * MS);
                };
                let all: Vec<_> = (0..threads)
                    .map(|number| std::thread::spawn(move || work(100 * (number + 1))))
                    .collect();
                work(1000);
                for thread in all {
                    thread.join().unwrap();
                }
                7
            });
            let id = device.register(child.pid, 0).unwrap();
            reader.fresh(id);
            child.say(0);
            let ended = reap_at_once.then(|| child.wait());
            let mut records = Vec::new();
            assert!(reader.follow(SOON, |record| {
                assert_eq!(record.id, id);
                records.push(*record);
                record.flags & uapi::SAMPLE_EXIT != 0
            }));
            let last = *records.last().unwrap();
            assert!(state(&last) == 'Z' || reap_at_once && state(&last) == 'X');
            assert_eq!(last.rss_bytes, 0);
            assert_eq!(name_of(&last.comm), "ends");
            let ended = ended.unwrap_or_else(|| child.wait());
            assert_eq!(ended.code, Some(7));
            let usage = ended.usage;
            assert_eq!(
                (last.min_flt, last.maj_flt),
                (usage.ru_minflt as u64, usage.ru_majflt as u64)
            );
            let time = |value: libc::timeval| {
                value.tv_sec as u64 * 1000 * MS + value.tv_usec as u64 * 1000
            };
            let total = time(usage.ru_utime) + time(usage.ru_stime);
            assert!(
                cpu_ns(&last).abs_diff(total) < 20 * MS,
                "{} {total}",
                cpu_ns(&last)
            );
            // It is the last record, and the registration is gone.
            assert_eq!(device.list(), []);
            assert_eq!(reader.buffer().header().registered, 0);
            assert!(reader.drain().is_empty());
        }
    }
}

#[test]
fn first_and_last_records_say_so() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let child = Child::idle("target");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = device.register(child.pid, 0).unwrap();
        let mut flags = Vec::new();
        assert!(reader.follow(SOON, |record| {
            assert_eq!(record.id, id);
            flags.push(record.flags);
            flags.len() == 3
        }));
        assert_eq!(flags, [uapi::SAMPLE_FIRST, 0, 0]);
        device.unregister(child.pid, 0).unwrap();
        let rest = reader.drain();
        let (last, middle) = rest.split_last().unwrap();
        assert!(middle.iter().all(|record| record.flags == 0));
        assert_eq!(last.flags, uapi::SAMPLE_LAST);
        assert_eq!(state(last), 'S');
        assert!(!ids.contains(&id));
        ids.push(id);
    }
    // Unregistered before its first round was due: one record, the first and the last.
    device.set_rate(1).unwrap();
    let other = Child::idle("other");
    device.register(child.pid, 0).unwrap();
    reader.find(|record| record.flags == uapi::SAMPLE_FIRST);
    let id = device.register(other.pid, 0).unwrap();
    device.unregister(other.pid, 0).unwrap();
    let records = reader.drain();
    let records: Vec<_> = records.iter().filter(|record| record.id == id).collect();
    let last = records.last().unwrap();
    assert_ne!(last.flags & uapi::SAMPLE_LAST, 0);
    assert_ne!(records[0].flags & uapi::SAMPLE_FIRST, 0);
    // A child of a registered process is not registered.
    let count = device.list().len();
    let mut parent = Child::spawn("parent", |parent| {
        parent.say(0);
        parent.hear();
        let inner = Child::idle("inner");
        parent.say(inner.pid as u64);
        parent.hear();
        0
    });
    parent.hear();
    device.register(parent.pid, 0).unwrap();
    parent.say(0);
    parent.hear();
    assert_eq!(device.list().len(), count + 1);
}

#[test]
fn a_reused_pid_is_another_process() {
    let _machine = module::profiler("rate_hz=1");
    let device = Device::profiler();
    let mut reader = Reader::new(&device);
    let mut old = Child::idle("old");
    let pid = old.pid;
    let old_id = device.register(pid, 0).unwrap();
    reader.find(|record| record.id == old_id);
    // Between two rounds: the process ends, and another gets its number.
    old.kill();
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let new = Child::idle("new");
    assert_eq!(
        new.pid, pid,
        "the kernel gives the number that was asked for"
    );
    let new_id = device.register(pid, 0).unwrap();
    assert_ne!(new_id, old_id);
    let mut records = Vec::new();
    assert!(reader.follow(SOON, |record| {
        records.push(*record);
        records.iter().filter(|record| record.id == new_id).count() == 3
    }));
    let mut exits = 0;
    for record in &records {
        assert_eq!(record.pid, pid as u32);
        let exit = record.flags & uapi::SAMPLE_EXIT != 0;
        if record.id == old_id {
            assert_eq!((name_of(&record.comm).as_str(), exit), ("old", true));
            exits += 1;
        } else {
            assert_eq!(
                (record.id, name_of(&record.comm).as_str(), exit),
                (new_id, "new", false)
            );
        }
    }
    assert_eq!(exits, 1);
    assert_eq!(device.list().len(), 1);
    assert_eq!(device.unregister(pid, 0), Ok(new_id));

    // The same with the old process's number in the status file's hands.
    let mut old = new;
    device.register(pid, 0).unwrap();
    old.kill();
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let new = Child::idle("newer");
    assert_eq!(new.pid, pid);
    assert_eq!(
        virgo_tests::device::tell_status(&format!("U {pid}")),
        Err(sys::ESRCH),
        "this process was not registered"
    );
    let generation = reader.buffer().header().generation;
    virgo_tests::device::tell_status(&format!("R {pid}")).unwrap();
    assert!(reader.buffer().header().generation > generation);
    let only = reader.follow(Duration::from_secs(60), |record| {
        name_of(&record.comm) == "newer"
    });
    assert!(only);
}
