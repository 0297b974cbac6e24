// SPDX-License-Identifier: GPL-2.0-only

//! /dev/virgo: an open file of it.
//!
//! A command of another module's range is handed to that module through the registry.

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    lib::{
        chardev::{
            CharDevice,
            Waiter,
            POLLIN, //
        },
        module::VERSION_NUMBER,
        service::{
            Provider,
            ABI, //
        },
        uapi::{
            Arg,
            Command, //
        },
    },
    proto::uapi::{
        self,
        Module, //
    },
    registry::{
        Changes,
        Registry, //
    },
};

const FEATURES: u64 = uapi::FEATURE_QUERY | uapi::FEATURE_POLL_MODULES;

/// What all open files share.
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    pub(crate) changes: Arc<Changes>,
}

/// An open file.
pub(crate) struct ControlFile {
    shared: Arc<Shared>,
    /// The newest generation that a query through this file has returned.
    seen: Atomic<u64>,
}

impl ControlFile {
    fn query(&self, arg: Arg) -> Result<isize> {
        let mut query = arg.read::<uapi::Query>()?;
        let value = &mut query.value;
        if value.flags != 0 || value.reserved != [0; 3] {
            return Err(EINVAL);
        }
        // Before the modules: a change in between makes the file readable once more.
        let generation = self.shared.changes.generation();
        value.version = VERSION_NUMBER;
        value.abi = ABI;
        value.features = FEATURES;
        value.modules = self.shared.registry.loaded();
        value.generation = generation;
        query.write_back()?;
        // Relaxed: of two queries at once on one file either may be the last.
        self.seen.store(generation, Relaxed);
        Ok(0)
    }
}

impl CharDevice for ControlFile {
    type Shared = Shared;

    const NAME: &'static CStr = c"virgo";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = false;

    fn open(shared: Arc<Shared>) -> Result<Pin<KBox<Self>>> {
        let seen = Atomic::new(shared.changes.generation());
        Ok(KBox::pin(ControlFile { shared, seen }, GFP_KERNEL)?)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        let module = Command::new(command)
            .and_then(Command::module)
            .ok_or(ENOTTY)?;
        if module != Module::Core {
            let provider = Provider::find(module).ok_or(ENODEV)?;
            return provider.ioctl(command, argument);
        }
        if Command::new(command) == Command::new(uapi::IOC_QUERY) {
            return self.query(Arg::new(argument));
        }
        Err(ENOTTY)
    }

    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        waiter.wait_for(self.shared.changes.condition());
        if self.shared.changes.generation() != self.seen.load(Relaxed) {
            POLLIN
        } else {
            0
        }
    }
}
