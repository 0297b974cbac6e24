// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's CRC-32C, which uses the processor's instruction for it.

use kernel::ffi::c_void;

extern "C" {
    /// lib/crc/crc32-main.c; not in the bindings.
    fn crc32c(crc: u32, data: *const c_void, len: usize) -> u32;
}

/// CRC-32C of `data`, behind bytes whose own is `before` (0: none). Any context.
pub fn crc32c_after(before: u32, data: &[u8]) -> u32 {
    // SAFETY: The slice is readable for its length; the function keeps nothing.
    !unsafe { crc32c(!before, data.as_ptr().cast(), data.len()) }
}
