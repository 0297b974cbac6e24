// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Room for what the kernel writes, where it is not known before how much that will be.

use std::cell::RefCell;

thread_local! {
    /// Kept, as memory so long is the kernel's again each time that it is freed, and cleared anew: that
    /// is dearer than a call, or the start of a small program. What is never touched costs nothing.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's room, `length` bytes of it, with anything in them. `work` must not ask for it
/// again.
pub(crate) fn with<R>(length: usize, work: impl FnOnce(&mut [u8]) -> R) -> R {
    ROOM.with_borrow_mut(|room| {
        if room.len() < length {
            *room = vec![0; length];
        }
        work(&mut room[..length])
    })
}
