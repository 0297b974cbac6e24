// SPDX-License-Identifier: GPL-2.0-only

//! /dev/virgo-profiler: an open file of it, which can be mapped and polled.

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
    control::Profiler,
    lib::{
        chardev::{
            CharDevice,
            Waiter,
            POLLIN, //
        },
        pages::Mapping,
        uapi::{
            Arg,
            Command, //
        },
    },
    proto::uapi::{
        self,
        ProfilerSeen, //
    },
    sampler::Owner,
};

/// What all open files share.
pub(crate) struct Shared {
    pub(crate) profiler: Arc<Profiler>,
    next_file: Atomic<u64>,
}

impl Shared {
    pub(crate) fn new(profiler: Arc<Profiler>) -> Self {
        Shared {
            profiler,
            next_file: Atomic::new(1),
        }
    }
}

/// An open file.
pub(crate) struct ProfilerFile {
    profiler: Arc<Profiler>,
    /// Its number, never used twice.
    number: u64,
    /// How many records its reader has seen.
    seen: Atomic<u64>,
}

impl ProfilerFile {
    fn seen(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<ProfilerSeen>()?;
        if request.value.flags != 0 || request.value.head > self.profiler.sampler().ring().head() {
            return Err(EINVAL);
        }
        // Relaxed: one number, and the file's users see to their own order.
        self.seen.store(request.value.head, Relaxed);
        Ok(0)
    }
}

impl CharDevice for ProfilerFile {
    type Shared = Shared;

    const NAME: &'static CStr = c"virgo-profiler";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = true;

    fn open(shared: Arc<Shared>) -> Result<Pin<KBox<Self>>> {
        let file = ProfilerFile {
            profiler: shared.profiler.clone(),
            // Relaxed: the numbers must differ, no more.
            number: shared.next_file.fetch_add(1, Relaxed),
            seen: Atomic::new(shared.profiler.sampler().ring().head()),
        };
        Ok(KBox::pin(file, GFP_KERNEL)?)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        if Command::new(command).is_some()
            && Command::new(command) == Command::new(uapi::PROFILER_IOC_SEEN)
        {
            return self.seen(Arg::new(argument));
        }
        self.profiler.command(command, argument, Some(self.number))
    }

    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        let sampler = self.profiler.sampler();
        waiter.wait_for(sampler.written());
        if sampler.ring().head() > self.seen.load(Relaxed) {
            POLLIN
        } else {
            0
        }
    }

    fn mmap(&self, mapping: &Mapping<'_>) -> Result {
        self.profiler.sampler().ring().map(mapping)
    }
}

impl Drop for ProfilerFile {
    fn drop(&mut self) {
        self.profiler.sampler().close(Owner::File(self.number));
    }
}
