// SPDX-License-Identifier: GPL-2.0-only

//! virgo-mempool's function for other modules. Compiled into virgo-mempool alone.

use core::slice;

use kernel::prelude::*;

use crate::{
    lib::service::{
        Module,
        Provider, //
    },
    virgo_export, //
};

/// For other modules: the value of a key, into `value`; its length, even where that is more than
/// the room of `capacity` bytes, and then nothing is copied. `-ENOENT`, `-EINVAL` for a null
/// pointer, `-ENODEV` while the module comes or goes. May sleep.
///
/// # Safety
///
/// `key` and `value` are null or valid for their lengths, and do not overlap.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_mem_get(
    key: *const u8,
    key_len: usize,
    value: *mut u8,
    capacity: usize,
) -> isize {
    if key.is_null() || (value.is_null() && capacity > 0) {
        // CAST: an errno fits.
        return EINVAL.to_errno() as isize;
    }
    // SAFETY: By the safety requirements.
    let key = unsafe { slice::from_raw_parts(key, key_len) };
    let room: &mut [u8] = if capacity == 0 {
        &mut []
    } else {
        // SAFETY: Likewise.
        unsafe { slice::from_raw_parts_mut(value, capacity) }
    };
    let result = Provider::find(Module::Mempool)
        .ok_or(ENODEV)
        .and_then(|pool| pool.call_length(0, key, room));
    match result {
        Ok(length) => isize::try_from(length).unwrap_or(isize::MAX),
        // CAST: an errno fits.
        Err(error) => error.to_errno() as isize,
    }
}
virgo_export!(virgo_mem_get);
