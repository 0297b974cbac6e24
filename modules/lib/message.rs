// SPDX-License-Identifier: GPL-2.0-only

//! Long messages in pages of their own, which a socket sends without copying them.
//!
//! The kernel zeroes what it allocates, and copies what is sent; for 64 KiB each of these costs as
//! much as reading the file. A [`Message`] is lent to the socket page by page, and used again when
//! the peer has them, which the pages' own count of references tells: see [`Messages`].

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use super::listener::Bytes;

extern "C" {
    fn virgo_message_alloc(size: usize, data: *mut *mut u8, room: *mut usize) -> *mut c_void;
    fn virgo_message_free(page: *mut c_void);
    fn virgo_message_idle(page: *mut c_void) -> bool;
}

/// No message has less room than this.
const LEAST: usize = 16 << 10;

/// Bytes in pages of their own.
///
/// # Invariants
///
/// `page` is a run of pages of which a reference is owned, `data` its `size` bytes, all of them
/// initialised, of which the first `len` are the message. While somebody else has references on
/// the pages, the bytes do not change.
pub struct Message {
    page: NonNull<c_void>,
    data: NonNull<u8>,
    size: usize,
    len: usize,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for Message {}
// SAFETY: Through a shared reference it is only read.
unsafe impl Sync for Message {}

impl Message {
    /// Room for `size` bytes at least. `ENOMEM`. May sleep.
    fn new(size: usize) -> Result<Self> {
        let (mut data, mut room) = (core::ptr::null_mut(), 0);
        // SAFETY: Both can be written.
        let page = unsafe { virgo_message_alloc(size, &mut data, &mut room) };
        let (page, data) = (NonNull::new(page), NonNull::new(data));
        // INVARIANT: The function gave us a reference on zeroed pages.
        Ok(Message {
            page: page.ok_or(ENOMEM)?,
            data: data.ok_or(ENOMEM)?,
            size: room,
            len: 0,
        })
    }

    /// Whether nobody else has the pages.
    fn is_idle(&self) -> bool {
        // SAFETY: The page is ours by the invariant.
        unsafe { virgo_message_idle(self.page.as_ptr()) }
    }

    /// The message.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: Initialised by the invariant; `len` is not above `size`.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }

    /// The message, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `bytes`; nobody else has it, by `&mut`.
        unsafe { core::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }

    /// What is behind the message.
    pub fn room(&mut self) -> &mut [u8] {
        let room = self.size.saturating_sub(self.len);
        // SAFETY: As in `bytes_mut`; within `size`.
        unsafe { core::slice::from_raw_parts_mut(self.data.as_ptr().add(self.len), room) }
    }

    /// The first `count` bytes of the room are of the message now.
    pub fn grow(&mut self, count: usize) {
        self.len = self.len.saturating_add(count).min(self.size);
    }

    /// The pages, for a socket.
    pub(super) fn page(&self) -> *mut c_void {
        self.page.as_ptr()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: A reference is owned by the invariant.
        unsafe { virgo_message_free(self.page.as_ptr()) };
    }
}

/// Messages that are used again, a bounded number.
#[pin_data]
pub struct Messages {
    #[pin]
    free: Mutex<KVec<Message>>,
    most: usize,
}

impl Messages {
    /// Keeps `most` at most.
    pub fn new(most: usize) -> Result<Arc<Self>> {
        let free = KVec::with_capacity(most, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Messages {
                free <- kernel::new_mutex!(free),
                most,
            }),
            GFP_KERNEL,
        )
    }

    /// An empty message with room for `size` bytes, 128 KiB at most. `ENOMEM`. May sleep.
    pub fn take(self: &Arc<Self>, size: usize) -> Result<Lent> {
        // Few sizes, so that most are fit for most.
        let size = size.max(LEAST);
        let mut free = self.free.lock();
        let found = free
            .iter()
            .position(|message| message.size >= size && message.is_idle());
        let kept = found.and_then(|at| free.remove(at).ok());
        drop(free);
        let mut message = match kept {
            Some(message) => message,
            None => Message::new(size)?,
        };
        message.len = 0;
        Ok(Lent {
            message: Some(message),
            owner: self.clone(),
        })
    }

    /// Keeps a message for the next; with too many the oldest goes.
    fn give(&self, message: Message) {
        let mut free = self.free.lock();
        let old = if free.len() >= self.most {
            free.remove(0).ok()
        } else {
            None
        };
        // There is room for it, made at the start.
        let _ = free.push(message, GFP_KERNEL);
        drop(free);
        drop(old);
    }
}

/// A message of [`Messages`], which goes back there.
pub struct Lent {
    message: Option<Message>,
    owner: Arc<Messages>,
}

impl Lent {
    /// The message, to be filled.
    pub fn fill(&mut self) -> Option<&mut Message> {
        self.message.as_mut()
    }
}

impl Bytes for Lent {
    fn bytes(&self) -> &[u8] {
        self.message.as_ref().map_or(&[], Message::bytes)
    }

    fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.owner.give(message);
        }
    }
}
