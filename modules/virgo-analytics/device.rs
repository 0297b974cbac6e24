// SPDX-License-Identifier: GPL-2.0-only

//! /dev/virgo-analytics: an open file of it, which can be polled.

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
    control::Control,
    lib::{
        chardev::{
            CharDevice,
            Waiter,
            POLLIN, //
        },
        uapi::{
            Arg,
            Command, //
        },
    },
    proto::uapi::{
        self,
        AnalyticsSeen, //
    },
};

/// An open file.
pub(crate) struct AnalyticsFile {
    control: Arc<Control>,
    /// The number of the last change that its reader knows of.
    seen: Atomic<u64>,
}

impl AnalyticsFile {
    fn seen(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<AnalyticsSeen>()?;
        let version = request.value.version;
        if request.value.flags != 0 || version > self.control.settings().version() {
            return Err(EINVAL);
        }
        // Relaxed: one number, and the file's users see to their own order.
        self.seen.store(version, Relaxed);
        Ok(0)
    }
}

impl CharDevice for AnalyticsFile {
    type Shared = Control;

    const NAME: &'static CStr = c"virgo-analytics";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = false;

    fn open(shared: Arc<Control>) -> Result<Pin<KBox<Self>>> {
        let seen = Atomic::new(shared.settings().version());
        let file = AnalyticsFile {
            control: shared,
            seen,
        };
        Ok(KBox::pin(file, GFP_KERNEL)?)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        if Command::new(command).is_some()
            && Command::new(command) == Command::new(uapi::ANALYTICS_IOC_SEEN)
        {
            return self.seen(Arg::new(argument));
        }
        self.control.command(command, argument)
    }

    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        waiter.wait_for(self.control.settings().changed());
        if self.control.settings().version() > self.seen.load(Relaxed) {
            POLLIN
        } else {
            0
        }
    }
}
