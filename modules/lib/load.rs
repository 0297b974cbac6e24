// SPDX-License-Identifier: GPL-2.0-only

//! How busy this machine is. For virgo-core.

use kernel::bindings;

/// Processors that are online; at least 1.
pub(crate) fn processors() -> u32 {
    // SAFETY: The counter is the kernel's, and always there; it is read as `num_online_cpus()`
    // does, without a lock.
    let count = unsafe { core::ptr::read_volatile(&raw const bindings::__num_online_cpus.counter) };
    u32::try_from(count).unwrap_or(1).max(1)
}

/// Memory that could be used without swapping, and all, in KiB. Does not sleep.
pub(crate) fn memory_kib() -> (u64, u64) {
    let mut info = bindings::sysinfo::default();
    // SAFETY: The structure is writable.
    unsafe { bindings::si_meminfo(&mut info) };
    // SAFETY: No preconditions.
    let pages = u64::try_from(unsafe { bindings::si_mem_available() }).unwrap_or(0);
    let page_kib = 1_u64 << (bindings::PAGE_SHIFT - 10);
    (
        pages.saturating_mul(page_kib),
        // CAST: an unsigned long is 64 bits on the machines that the suite is for.
        (info.totalram as u64).saturating_mul(page_kib),
    )
}
