// SPDX-License-Identifier: GPL-2.0-only

//! Vectors of zeros.

use kernel::{
    alloc::{
        flags::__GFP_ZERO,
        AllocError,
        Allocator,
        Flags,
        Vec, //
    },
    prelude::*,
};

/// A vector of `count` zeros, as the allocator gives them. `Vec::from_elem` writes element by
/// element, six instructions for each; the kernel crate has this one since 7.3. May sleep, by `flags`.
pub fn zeroed<T: Zeroable, A: Allocator>(
    count: usize,
    flags: Flags,
) -> Result<Vec<T, A>, AllocError> {
    let mut all = Vec::with_capacity(count, flags | __GFP_ZERO)?;
    // SAFETY: There is room for `count`, by the line above; all of it is zero, by the flag, and zeros
    // are a `T`, by the trait.
    unsafe { all.inc_len(count) };
    Ok(all)
}
