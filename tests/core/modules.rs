// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Loading and unloading virgo-core.

use std::fs;
use std::path::Path;

use virgo_proto::uapi;
use virgo_tests::device::Device;
use virgo_tests::module::{self, CORE, PROFILER};
use virgo_tests::script;
use virgo_tests::sys::{self, EAGAIN, EEXIST, ENOENT, ENOEXEC};

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
    let rounds = if virgo_tests::long() { 1000 } else { 100 };
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
