// SPDX-License-Identifier: GPL-2.0-only

//! /dev/virgo-mempool: an open file of it, which can be bound to a shared namespace, mapped and
//! polled.

use kernel::{
    fs::File,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

use crate::{
    control::Pool,
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
        MemSeen, //
    },
    share::Share,
};

/// An open file.
#[pin_data]
pub(crate) struct MempoolFile {
    pool: Arc<Pool>,
    /// How many changes its reader has seen.
    seen: Atomic<u64>,
    /// Set once.
    #[pin]
    share: Mutex<Option<Arc<Share>>>,
}

impl MempoolFile {
    fn share(&self) -> Option<Arc<Share>> {
        self.share.lock().clone()
    }

    fn bind(&self, arg: Arg) -> Result<isize> {
        // One namespace for a file: a poller waits for that one's changes.
        if self.share().is_some() {
            return Err(EBUSY);
        }
        let Some(share) = self.pool.share(arg, true)? else {
            return Ok(0);
        };
        self.seen.store(share.changes(), Relaxed);
        let mut place = self.share.lock();
        if place.is_some() {
            return Err(EBUSY);
        }
        *place = Some(share);
        Ok(0)
    }

    fn seen(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<MemSeen>()?;
        let share = self.share().ok_or(EINVAL)?;
        if request.value.flags != 0 || request.value.changes > share.changes() {
            return Err(EINVAL);
        }
        // Relaxed: one number, and the file's users see to their own order.
        self.seen.store(request.value.changes, Relaxed);
        Ok(0)
    }
}

impl CharDevice for MempoolFile {
    type Shared = Pool;

    const NAME: &'static CStr = c"virgo-mempool";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = true;

    fn open(pool: Arc<Pool>) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(MempoolFile {
                pool,
                seen: Atomic::new(0),
                share <- new_mutex!(None, "virgo_mempool_file"),
            }? Error),
            GFP_KERNEL,
        )
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        let known = Command::new(command).ok_or(ENOTTY)?;
        if Some(known) == Command::new(uapi::MEM_IOC_SHARE) {
            return self.bind(Arg::new(argument));
        }
        if Some(known) == Command::new(uapi::MEM_IOC_SEEN) {
            return self.seen(Arg::new(argument));
        }
        self.pool.command(command, argument)
    }

    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        let Some(share) = self.share() else {
            return 0;
        };
        waiter.wait_for(share.changed());
        if share.is_closed() || share.changes() > self.seen.load(Relaxed) {
            POLLIN
        } else {
            0
        }
    }

    fn mmap(&self, mapping: &Mapping<'_>) -> Result {
        self.share().ok_or(ENODEV)?.map(mapping)
    }
}
