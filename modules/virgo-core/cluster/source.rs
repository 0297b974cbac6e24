// SPDX-License-Identifier: GPL-2.0-only

//! How busy this node is, looked at at most four times a second.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    }, //
};

use crate::{
    lib::{
        file::{
            Access,
            OwnedFile, //
        },
        time::monotonic_ns,
    },
    load::{
        memory_kib,
        processors, //
    },
    logic::load,
    proto::frame::Load,
};

/// For how long a look is good.
const FRESH_NS: u64 = 250_000_000;

/// What was seen at a look.
#[derive(Clone, Copy, Default)]
struct Look {
    /// When; 0 for never.
    ns: u64,
    load: Load,
    under_way: usize,
}

/// This node's load.
#[pin_data]
pub(crate) struct Source {
    #[pin]
    last: Mutex<Look>,
    /// Requests of this node's that it serves itself.
    under_way: Atomic<usize>,
}

/// The beginning of a small text file of the kernel's.
fn read<'a>(folder: &CStr, name: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = OwnedFile::open_in(folder, name, Access::Read, 0).ok()?;
    let length = file.read_at(buffer, 0).ok()?;
    buffer.get(..length)
}

fn look() -> Load {
    let mut buffer = [0; 128];
    let cpus = processors();
    // The thread that looks is running too, and is not counted. Without /proc the load is nothing:
    // the other nodes' figures are no better then.
    let runnable = read(c"/proc", c"loadavg", &mut buffer)
        .and_then(load::runnable)
        .map_or(0, |runnable| runnable.saturating_sub(1));
    // /proc/pressure cannot be read from inside the kernel, the root group's file can.
    let pressure = read(c"/sys/fs/cgroup", c"cpu.pressure", &mut buffer)
        .and_then(load::pressure)
        .unwrap_or(Load::UNKNOWN);
    let (free_kib, total_kib) = memory_kib();
    Load {
        runnable,
        cpus,
        pressure,
        load: load::load(runnable, cpus, pressure, free_kib, total_kib),
        free_kib,
        total_kib,
    }
}

impl Source {
    /// Not looked at yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            last <- kernel::new_mutex!(Look::default(), "virgo_cluster_load"),
            under_way: Atomic::new(0),
        })
    }

    /// The load now, or a moment ago. Only from a kernel thread or a work queue: it opens files,
    /// which must be the machine's, not those of a caller's own root folder. May sleep.
    pub(crate) fn now(&self) -> Load {
        let mut last = self.last.lock();
        let ns = monotonic_ns();
        if last.ns == 0 || ns.saturating_sub(last.ns) > FRESH_NS {
            *last = Look {
                ns,
                load: look(),
                under_way: self.under_way(),
            };
        }
        last.load
    }

    /// What was seen last, and how many requests of its own this node served then, for any context
    /// that may sleep.
    pub(crate) fn seen(&self) -> (Load, usize) {
        let last = self.last.lock();
        (last.load, last.under_way)
    }

    /// How many requests of its own this node serves. Any context.
    pub(crate) fn under_way(&self) -> usize {
        // Relaxed: a number to choose by.
        self.under_way.load(Relaxed)
    }

    /// This node serves a request of its own. Any context.
    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Relaxed);
    }

    /// And has served it.
    pub(crate) fn end(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }
}
