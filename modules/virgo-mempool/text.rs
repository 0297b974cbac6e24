// SPDX-License-Identifier: GPL-2.0-only

//! A short text that is put together on the stack.

use crate::logic::kv::decimal;

/// A text of at most `N` bytes. What does not fit is left out: give it the room that it needs.
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) fn new() -> Self {
        Text {
            bytes: [0; N],
            length: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.length.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
        self
    }

    #[inline]
    pub(crate) fn number(&mut self, value: u64) -> &mut Self {
        self.push(decimal(value, &mut [0; 20]))
    }

    #[inline]
    pub(crate) fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}
