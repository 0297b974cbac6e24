// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Loading and unloading virgo-core.

use std::fs;
use std::path::Path;

use virgo_proto::uapi;
use virgo_tests::child::Child;
use virgo_tests::device::Device;
use virgo_tests::module::{self, CORE, PROFILER};
use virgo_tests::procfs::{self, logged_during};
use virgo_tests::script;
use virgo_tests::sys::{self, EAGAIN, EBUSY, EEXIST, EINVAL, EIO, ENODEV, ENOENT, ENOEXEC};
use virgo_tests::{wait_until, SOON};

#[test]
fn unloading_is_refused_while_the_device_is_open() {
    let _machine = module::core_only();
    let device = Device::control();
    assert_eq!(module::unload(CORE), Err(EAGAIN));
    let outcome = script::run("rmmod", &["virgo_core"]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.err.contains("in use"), "{}", outcome.err);
    assert!(module::is_loaded(CORE));
    device.query().unwrap();
    // A second descriptor of the same file holds it as well.
    let second = device.0.try_clone().unwrap();
    drop(device);
    assert_eq!(module::unload(CORE), Err(EAGAIN));
    drop(second);
    module::unload(CORE).unwrap();
    assert!(!module::is_loaded(CORE));
    assert!(!Path::new(uapi::DEVICE).exists());
    assert!(!Path::new("/proc/virgo").exists());
    assert_eq!(Device::open(uapi::DEVICE).err(), Some(ENOENT));
}

#[test]
fn unloading_is_refused_while_a_module_needs_it() {
    let _machine = module::profiler("");
    assert_eq!(module::unload(CORE), Err(EAGAIN));
    let outcome = script::run("rmmod", &["virgo_core"]);
    assert!(
        outcome.err.contains("is in use by: virgo_profiler"),
        "{}",
        outcome.err
    );
    module::unload(PROFILER).unwrap();
    module::unload(CORE).unwrap();
}

#[test]
fn loading_twice_is_refused_and_changes_nothing() {
    let _machine = module::profiler("rate_hz=7");
    let device = Device::control();
    let before = device.query().unwrap();
    assert_eq!(module::load(CORE, ""), Err(EEXIST));
    assert_eq!(module::load(PROFILER, "rate_hz=9"), Err(EEXIST));
    for name in [CORE, PROFILER] {
        let file = module::file_of(name);
        let outcome = script::run("insmod", &[file.to_str().unwrap()]);
        assert_ne!(outcome.code, 0);
        assert!(outcome.err.contains("File exists"), "{}", outcome.err);
    }
    assert_eq!(device.query().unwrap(), before);
    assert!(!device.readable(0));
    assert_eq!(device.rate(), Ok(7));
}

#[test]
fn the_profiler_does_not_load_without_the_core() {
    let _machine = module::none();
    assert_eq!(module::load(PROFILER, ""), Err(ENOENT));
    assert!(!module::is_loaded(PROFILER));
}

#[test]
fn a_module_for_another_kernel_is_refused() {
    let _machine = module::none();
    let path = scripts_folder("other-kernel").join("virgo-core.ko");
    let file = fs::File::open(path).unwrap();
    assert_eq!(sys::finit_module(&file, ""), Err(ENOEXEC));
    assert!(!module::is_loaded(CORE));
}

#[test]
fn loading_and_unloading_again_and_again() {
    let _machine = module::none();
    let rounds = if virgo_tests::long() { 1000 } else { 30 };
    for round in 0..rounds {
        module::load(CORE, "").unwrap();
        let device = Device::control();
        let generation = device.query().unwrap().generation;
        assert_eq!(generation, 1, "round {round}");
        drop(device);
        module::unload(CORE).unwrap();
    }
}

/// A folder with the modules as if built for another kernel.
pub(crate) fn scripts_folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("virgo-core-{name}"));
    fs::create_dir_all(&folder).unwrap();
    for module in [CORE, PROFILER] {
        let mut bytes = fs::read(module::file_of(module)).unwrap();
        let mark = b"vermagic=";
        let place = bytes
            .windows(mark.len())
            .position(|window| window == mark)
            .expect("a module says which kernel it is for");
        // "7.2.12+deb13-amd64" becomes "9.2.12+deb13-amd64".
        bytes[place + mark.len()] = b'9';
        fs::write(folder.join(format!("{module}.ko")), bytes).unwrap();
    }
    folder
}

/// virgo-stale says in its parameters what it claims to be.
const STALE: &str = "virgo-stale";

#[test]
fn a_module_of_another_build_is_refused_with_the_reason() {
    let _machine = module::core_only();
    let device = Device::control();
    let before = device.query().unwrap();
    for (parameters, table) in [
        ("abi=3", "its table has version 3 and 56 bytes"),
        ("abi=0", "its table has version 0 and 56 bytes"),
        ("size=48", "its table has version 2 and 48 bytes"),
        (
            "size=4294967295",
            "its table has version 2 and 4294967295 bytes",
        ),
    ] {
        let (result, log) = logged_during(|| module::load(STALE, parameters));
        assert_eq!(result, Err(ENOEXEC), "{parameters}");
        assert!(log.iter().any(|line| line.contains(table)), "{log:?}");
        let file = module::file_of(STALE);
        let outcome = script::run("insmod", &[file.to_str().unwrap(), parameters]);
        // So insmod words ENOEXEC.
        let words = "Invalid module format";
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
    for id in [0, 8, u32::MAX] {
        assert_eq!(module::load(STALE, &format!("id={id}")), Err(EINVAL));
    }
    assert_eq!(device.query().unwrap(), before);
    assert!(!device.readable(0));
    module::load(PROFILER, "").unwrap();
    // The kernel keeps EEXIST for a module that is loaded already, and says EBUSY for an init
    // function's.
    assert_eq!(module::load(STALE, "id=7"), Err(EBUSY), "there is one");
    module::unload(PROFILER).unwrap();
    module::load(STALE, "id=7").unwrap();
    assert_eq!(module::load(PROFILER, ""), Err(EBUSY));
    assert!(!Path::new(uapi::PROFILER_DEVICE).exists());
    assert!(!Path::new("/proc/virgo/profiler").exists());
    module::unload(STALE).unwrap();
    module::load(PROFILER, "").unwrap();
}

/// A command of module number 4, which no structure belongs to.
const COMMAND: u32 = (3 << 30) | (8 << 16) | (uapi::IOC_MAGIC << 8) | 0x40;

#[test]
fn what_a_provider_answers_is_passed_on() {
    let _machine = module::core_only();
    let device = Device::control();
    let mut nothing = [0; 8];
    assert_eq!(
        sys::ioctl_bytes(&device, COMMAND, &mut nothing),
        Err(ENODEV)
    );
    for (answer, result) in [
        (0, Ok(0)),
        (7, Ok(7)),
        (-5, Err(EIO)),
        (-4096, Err(EINVAL)),
        (i64::MIN, Err(EINVAL)),
    ] {
        module::load(STALE, &format!("answer={answer}")).unwrap();
        assert_eq!(device.query().unwrap().modules, 1 | (1 << 4));
        let told = sys::ioctl_bytes(&device, COMMAND, &mut nothing);
        assert_eq!(told, result, "{answer}");
        module::unload(STALE).unwrap();
    }
}

#[test]
fn a_provider_is_not_unloaded_while_somebody_is_inside() {
    let _machine = module::core_only();
    module::load(STALE, "block=1 answer=3").unwrap();
    let mut inside = Child::spawn("caller", |parent| {
        let device = Device::control();
        parent.say(0);
        let _ = sys::ioctl_bytes(&device, COMMAND, &mut [0; 8]);
        parent.say(1);
        parent.hear();
        0
    });
    inside.hear();
    assert!(wait_until(SOON, || {
        let channel = std::fs::read_to_string(format!("/proc/{}/wchan", inside.pid)).unwrap();
        procfs::stat(inside.pid).unwrap().state == 'S' && channel.starts_with("stale_ioctl")
    }));
    assert_eq!(module::unload(STALE), Err(EAGAIN));
    inside.kill();
    module::unload(STALE).unwrap();
}
