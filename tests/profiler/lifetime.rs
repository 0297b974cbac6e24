// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Loading and unloading the profiler: parameters, refusals, nothing left over.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::Instant;

use virgo_proto::uapi;
use virgo_tests::buffer::Reader;
use virgo_tests::child::Child;
use virgo_tests::device::{tell_status, write_once, Device, STATUS};
use virgo_tests::module::{self, PROFILER};
use virgo_tests::procfs::{logged_during, KernelMemory};
use virgo_tests::script;
use virgo_tests::sys::{EAGAIN, EINVAL, ENOMEM, PAGE};
use virgo_tests::{wait_until, SOON};

fn nothing_is_left() {
    assert!(!module::is_loaded(PROFILER));
    for path in [
        uapi::PROFILER_DEVICE,
        "/proc/virgo/profiler",
        "/sys/class/misc/virgo-profiler",
        "/sys/module/virgo_profiler",
    ] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}

#[test]
fn bad_parameters_are_refused_with_the_reason() {
    let _machine = module::core_only();
    for (parameter, value, range) in [
        ("buffer_pages", 0, "1 to 65536"),
        ("buffer_pages", 65537, "1 to 65536"),
        ("buffer_pages", u32::MAX, "1 to 65536"),
        ("rate_hz", 0, "1 to 1000"),
        ("rate_hz", 1001, "1 to 1000"),
        ("max_tasks", 0, "1 to 1048576"),
        ("max_tasks", 1_048_577, "1 to 1048576"),
    ] {
        let (result, log) =
            logged_during(|| module::load(PROFILER, &format!("{parameter}={value}")));
        assert_eq!(result, Err(EINVAL), "{parameter}={value}");
        let told = format!("parameter {parameter} is {value}: it must be {range}");
        assert!(log.iter().any(|line| line.contains(&told)), "{log:?}");
        nothing_is_left();
    }
    for parameters in [
        "buffer_pages=-1",
        "buffer_pages=abc",
        "buffer_pages=",
        "buffer_pages",
        "buffer_pages=4294967296",
        "buffer_pages=1x",
        "rate_hz=-20",
        "rate_hz=20.5",
        "rate_hz=50 buffer_pages=0",
    ] {
        assert_eq!(
            module::load(PROFILER, parameters),
            Err(EINVAL),
            "{parameters}"
        );
        nothing_is_left();
    }
    // The core is none the worse.
    assert_eq!(Device::control().query().unwrap().modules, 1);
    module::load(PROFILER, "buffer_pages=1 rate_hz=1000 max_tasks=1").unwrap();
}

#[test]
fn the_largest_buffer_works_or_is_refused_in_order() {
    let _machine = module::core_only();
    let before = KernelMemory::now().available_kb;
    let bytes = 65536 * PAGE as u64;
    match module::load(PROFILER, "buffer_pages=65536") {
        Err(error) => {
            assert_eq!(error, ENOMEM);
            nothing_is_left();
        }
        Ok(()) => {
            let device = Device::profiler();
            assert_eq!(device.info().unwrap().map_bytes, bytes + PAGE as u64);
            let child = Child::idle("target");
            let mut reader = Reader::new(&device);
            let id = device.register(child.pid, 0).unwrap();
            reader.fresh(id);
            // Its last page is there as well.
            assert_eq!(reader.buffer().mapping().word(bytes as usize), 0);
        }
    }
    let _machine = {
        drop(_machine);
        module::none()
    };
    let free = KernelMemory::now().available_kb;
    println!("{free} kB free afterwards, {before} before");
    // Less than half of the buffer's 256 MiB are missing.
    assert!(free + 128 * 1024 > before, "the memory came back");
}

#[test]
fn unloading_is_refused_while_the_device_is_open_or_mapped() {
    let _machine = module::profiler("");
    let device = Device::profiler();
    let refused = || {
        assert_eq!(module::unload(PROFILER), Err(EAGAIN));
        let outcome = script::run("rmmod", &["virgo_profiler"]);
        assert!(outcome.err.contains("is in use"), "{}", outcome.err);
    };
    refused();
    let buffer = device.buffer();
    drop(device);
    // Mapped, and no descriptor open.
    assert_eq!(buffer.header().magic, uapi::PROFILER_MAGIC);
    refused();
    assert_eq!(buffer.header().magic, uapi::PROFILER_MAGIC);
    drop(buffer);
    module::unload(PROFILER).unwrap();
    nothing_is_left();
}

#[test]
fn unloading_while_sampling() {
    let _machine = module::profiler("rate_hz=1000");
    let device = Device::profiler();
    let buffer = device.buffer();
    let children: Vec<Child> = (0..50)
        .map(|number| {
            if number % 10 == 0 {
                Child::busy("busy")
            } else {
                Child::idle("idle")
            }
        })
        .collect();
    for child in &children {
        tell_status(&format!("R {}", child.pid)).unwrap();
    }
    assert!(wait_until(SOON, || buffer.header().ticks > 20));
    // Open, but a file under /proc does not hold a module.
    let status = OpenOptions::new()
        .read(true)
        .write(true)
        .open(STATUS)
        .unwrap();
    drop(buffer);
    drop(device);
    module::unload(PROFILER).unwrap();
    nothing_is_left();
    assert!(Path::new("/proc/virgo").exists(), "that is the core's");
    assert!(write_once(&status, b"R 1\n").is_err());
    assert!(std::io::read_to_string(&status).is_err());
    // And again, afresh.
    module::load(PROFILER, "").unwrap();
    let device = Device::profiler();
    assert_eq!(device.list(), []);
    assert_eq!(device.buffer().head(), 0);
    assert!(std::io::read_to_string(&status).is_err(), "the old one's");
    for child in &children {
        assert!(fs::metadata(format!("/proc/{}", child.pid)).is_ok());
    }
}

#[test]
fn loading_and_unloading_leaks_nothing() {
    let _machine = module::core_only();
    let rounds = if virgo_tests::long() { 1000 } else { 200 };
    let children: Vec<Child> = (0..10).map(|_| Child::idle("target")).collect();
    let file = File::open(module::file_of(PROFILER)).unwrap();
    let round = |number: u32| {
        virgo_tests::sys::finit_module(&file, "rate_hz=1000").unwrap();
        match number % 3 {
            0 => {}
            // Unloaded while it samples.
            1 => {
                for child in &children {
                    tell_status(&format!("R {}", child.pid)).unwrap();
                }
            }
            // After it has sampled, been mapped, and told its registrations.
            _ => {
                let device = Device::profiler();
                let buffer = device.buffer();
                for child in &children {
                    device.register(child.pid, uapi::PROFILER_F_BIND).unwrap();
                }
                assert!(wait_until(SOON, || buffer.header().ticks > 2));
                assert_eq!(device.list().len(), children.len());
            }
        }
        module::unload(PROFILER).unwrap();
    };
    // Caches of the kernel's fill.
    (0..30).for_each(round);
    let before = KernelMemory::now();
    let start = Instant::now();
    (0..rounds).for_each(round);
    nothing_is_left();
    // Half a page a round, were it leaked, would be more than this. Some of what was freed comes
    // back late, after a grace period of RCU; what has leaked never does.
    let slack = u64::from(rounds) * 2;
    let mut after = KernelMemory::now();
    let back = wait_until(SOON, || {
        after = KernelMemory::now();
        after.vmalloc_kb <= before.vmalloc_kb + slack
            && after.slab_kb <= before.slab_kb + slack
            && after.available_kb + 8 * slack >= before.available_kb
    });
    println!(
        "{rounds} rounds in {:?}: {before:?}, {after:?}",
        start.elapsed()
    );
    assert!(back, "{before:?}, {after:?}");
}
