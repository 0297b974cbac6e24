// SPDX-License-Identifier: GPL-2.0-only

//! How busy this node is, looked at at most four times a second.

use kernel::{
    prelude::*,
    sync::Mutex, //
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

/// This node's load.
#[pin_data]
pub(crate) struct Source {
    #[pin]
    last: Mutex<(u64, Load)>,
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
            last <- kernel::new_mutex!((0, Load::default()), "virgo_cluster_load"),
        })
    }

    /// The load now, or a moment ago. Only from a kernel thread or a work queue: it opens files,
    /// which must be the machine's, not those of a caller's own root folder. May sleep.
    pub(crate) fn now(&self) -> Load {
        let mut last = self.last.lock();
        let now = monotonic_ns();
        if last.0 == 0 || now.saturating_sub(last.0) > FRESH_NS {
            *last = (now, look());
        }
        last.1
    }

    /// What was seen last, for any context that may sleep.
    pub(crate) fn seen(&self) -> Load {
        self.last.lock().1
    }
}
