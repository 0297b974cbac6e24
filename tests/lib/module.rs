// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Loading and unloading VIRGO's modules.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virgo_proto::uapi::Module;

use crate::sys::{self, Res};
use crate::{wait_until, SOON};

/// Where the modules for this kernel are.
pub const FOLDER: &str = "/virgo/ko";

/// virgo-core.
pub const CORE: &str = "virgo-core";
/// virgo-profiler.
pub const PROFILER: &str = "virgo-profiler";

/// The kernel's name for a module.
#[must_use]
pub fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The module's file.
#[must_use]
pub fn file_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.ko"))
}

/// Whether a module is loaded, by /proc/modules.
#[must_use]
pub fn is_loaded(name: &str) -> bool {
    let name = kernel_name(name);
    fs::read_to_string("/proc/modules")
        .expect("/proc/modules")
        .lines()
        .any(|line| line.split(' ').next() == Some(&name))
}

/// Loads a module.
pub fn load(name: &str, parameters: &str) -> Res<()> {
    let path = file_of(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    sys::finit_module(&file, parameters)
}

/// Unloads a module. `EAGAIN` if it is in use.
pub fn unload(name: &str) -> Res<()> {
    sys::delete_module(&kernel_name(name))
}

/// What a test has while it changes the machine's modules: no other test runs meanwhile.
pub struct Machine(#[allow(dead_code)] MutexGuard<'static, ()>);

/// Unloads all of VIRGO's modules. One that was left in use by a test before is waited for.
#[must_use]
pub fn none() -> Machine {
    static ONE: Mutex<()> = Mutex::new(());
    let machine = Machine(ONE.lock().unwrap_or_else(PoisonError::into_inner));
    let users = Module::ALL.iter().rev().map(|module| module.name());
    for name in [
        "virgo-stale",
        "virgo-selftest",
        "virgo-eventtest",
        "virgo-settest",
    ]
    .into_iter()
    .chain(users)
    {
        let gone = wait_until(SOON, || !is_loaded(name) || unload(name).is_ok());
        assert!(gone, "{name} cannot be unloaded");
    }
    machine
}

/// virgo-core, freshly loaded, alone.
#[must_use]
pub fn core_only() -> Machine {
    let machine = none();
    load(CORE, "").expect("virgo-core loads");
    machine
}

/// virgo-core and virgo-profiler, freshly loaded.
#[must_use]
pub fn profiler(parameters: &str) -> Machine {
    let machine = core_only();
    load(PROFILER, parameters).expect("virgo-profiler loads");
    machine
}
