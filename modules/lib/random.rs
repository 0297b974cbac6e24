// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's random numbers, fit for secrets.

use kernel::bindings;

/// 32 random bits. Any context.
pub fn random_u32() -> u32 {
    // SAFETY: No preconditions.
    unsafe { bindings::get_random_u32() }
}

/// 64 random bits. Any context.
pub fn random_u64() -> u64 {
    // SAFETY: No preconditions.
    unsafe { bindings::get_random_u64() }
}
