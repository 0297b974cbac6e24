// SPDX-License-Identifier: GPL-2.0-only

//! The bound on what all listeners of the suite together hear and say, `MaxNetworkBandwidth`: one
//! bucket, which virgo-core keeps, so that it is the same for all modules.

use super::ffi;

/// Takes so many bytes out of the bucket; how many nanoseconds it is in debt then. 0 where there is
/// no bound, or as long as it lasts. Any context.
#[inline]
pub(super) fn take(bytes: usize) -> u64 {
    // SAFETY: The function takes any number.
    unsafe { ffi::virgo_core_bandwidth_take(bytes) }
}
