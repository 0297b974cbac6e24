// SPDX-License-Identifier: GPL-2.0-only

//! Open files by number, of one client of the telnet door or one open file of the device.

use core::ops::Deref;

use kernel::{
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::{
    errno,
    export::{
        Export,
        HandleTicket, //
    },
    lib::vfs::{
        OpenFile,
        Place, //
    },
    proto::files::Handle,
};

/// A file of this node.
pub(crate) struct Local {
    pub(crate) place: Place,
    pub(crate) file: Arc<OpenFile>,
    pub(crate) writable: bool,
}

/// What a handle is of.
pub(crate) struct Opened<T> {
    what: T,
    _ticket: HandleTicket,
}

impl<T> Deref for Opened<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

/// A place of the table.
struct Slot<T> {
    generation: u16,
    node: u16,
    opened: Option<Arc<Opened<T>>>,
}

struct Slots<T> {
    slots: KVVec<Slot<T>>,
    count: u32,
}

/// The open files of a client, closed with it.
#[pin_data]
pub(crate) struct Handles<T> {
    export: Arc<Export>,
    #[pin]
    slots: Mutex<Slots<T>>,
}

impl<T> Handles<T> {
    /// A table without any.
    pub(crate) fn new(export: Arc<Export>) -> impl PinInit<Self> {
        pin_init!(Handles {
            export,
            slots <- kernel::new_mutex!(Slots {
                slots: KVVec::new(),
                count: 0,
            }),
        })
    }

    /// Takes an open file in, of the node that its handles say (0: this one); its handle. `EMFILE`
    /// if the client has too many, `ENFILE` if all have.
    pub(crate) fn insert(&self, node: u16, what: T) -> Result<u64> {
        let opened = Arc::new(
            Opened {
                what,
                _ticket: self.export.handle()?,
            },
            GFP_KERNEL,
        )?;
        let mut table = self.slots.lock();
        if table.count >= self.export.limits.client_handles {
            return Err(EMFILE);
        }
        let free = table.slots.iter().position(|slot| slot.opened.is_none());
        let index = match free {
            Some(index) => index,
            None => {
                let slot = Slot {
                    generation: 0,
                    node,
                    opened: None,
                };
                table.slots.push(slot, GFP_KERNEL)?;
                table.slots.len().saturating_sub(1)
            }
        };
        let slot = table.slots.get_mut(index).ok_or(EMFILE)?;
        slot.opened = Some(opened);
        slot.node = node;
        let handle = Handle {
            node,
            generation: slot.generation,
            slot: u32::try_from(index).map_err(|_| EMFILE)?,
        };
        table.count = table.count.saturating_add(1);
        Ok(handle.into())
    }

    /// What a handle is of. `ESTALE` if that has been closed, `EBADF` if there never was one.
    pub(crate) fn get(&self, number: u64) -> Result<Arc<Opened<T>>> {
        let handle = Handle::from(number);
        let table = self.slots.lock();
        // CAST: u32 fits usize on 64-bit.
        let slot = table.slots.get(handle.slot as usize).ok_or(EBADF)?;
        match &slot.opened {
            Some(opened) if slot.generation == handle.generation => {
                // Else it is a handle of another table.
                (slot.node == handle.node)
                    .then(|| opened.clone())
                    .ok_or(EBADF)
            }
            // Generations only grow, but for the wrap.
            _ if handle.generation <= slot.generation => Err(errno::estale()),
            _ => Err(EBADF),
        }
    }

    /// Takes a file out, which is closed when the last lets go of it. As [`Handles::get`].
    pub(crate) fn close(&self, number: u64) -> Result<Arc<Opened<T>>> {
        // Looks at all that could be wrong.
        drop(self.get(number)?);
        let handle = Handle::from(number);
        let mut table = self.slots.lock();
        // CAST: as above.
        let slot = table.slots.get_mut(handle.slot as usize).ok_or(EBADF)?;
        if slot.generation != handle.generation {
            return Err(errno::estale());
        }
        let opened = slot.opened.take().ok_or(errno::estale())?;
        slot.generation = slot.generation.wrapping_add(1);
        table.count = table.count.saturating_sub(1);
        Ok(opened)
    }
}
