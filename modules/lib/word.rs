// SPDX-License-Identifier: GPL-2.0-only

//! Numbers that are read and written in one piece, and no more: `READ_ONCE()` and `WRITE_ONCE()`.

use core::{
    cell::UnsafeCell,
    ptr, //
};

use super::compat::write_barrier;

/// A number that others may read while one writes it. The writers take turns by a lock, or there is
/// one; there is no order towards anything else but [`Self::store_release`]'s. What atomics do by a
/// call of a function, this does by an instruction, for paths that count them.
pub struct Word(UnsafeCell<u64>);

// SAFETY: An aligned word is read and written in one piece, as the kernel's memory model has it for
// volatile accesses, and no reference to it is ever made.
unsafe impl Sync for Word {}

impl Word {
    /// A number.
    pub const fn new(value: u64) -> Self {
        Word(UnsafeCell::new(value))
    }

    /// What it is. Any context.
    #[inline]
    pub fn load(&self) -> u64 {
        // SAFETY: Valid and aligned; see above for concurrent writes.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    /// Makes it another. Any context.
    #[inline]
    pub fn store(&self, value: u64) {
        // SAFETY: Valid and aligned; see above for concurrent reads.
        unsafe { ptr::write_volatile(self.0.get(), value) }
    }

    /// Makes it another, once all that was written before can be seen. Any context.
    pub fn store_release(&self, value: u64) {
        write_barrier();
        self.store(value);
    }
}
