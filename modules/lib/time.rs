// SPDX-License-Identifier: GPL-2.0-only

//! Clocks.

use kernel::bindings;

/// CLOCK_MONOTONIC in nanoseconds. Does not sleep.
pub fn monotonic_ns() -> u64 {
    // SAFETY: The function has no preconditions but that timekeeping runs, as it does once modules
    // can be loaded.
    let now = unsafe { bindings::ktime_get() };
    // The clock starts at 0 when the machine does.
    now.unsigned_abs()
}

/// Whole seconds of CLOCK_MONOTONIC; cheaper than [`monotonic_ns`]. Does not sleep.
pub fn monotonic_s() -> u64 {
    // SAFETY: As above.
    unsafe { bindings::ktime_get_seconds() }.unsigned_abs()
}

/// Seconds of Unix time. Does not sleep.
pub fn unix_s() -> i64 {
    // SAFETY: As above.
    unsafe { bindings::ktime_get_real_seconds() }
}

/// CLOCK_REALTIME: seconds since 1970, and nanoseconds. Does not sleep.
pub fn wall_clock() -> (u64, u32) {
    let mut now = bindings::timespec64::default();
    // SAFETY: `now` is writable; timekeeping runs.
    unsafe { bindings::ktime_get_real_ts64(&mut now) };
    (
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// CLOCK_REALTIME in nanoseconds. Does not sleep.
pub fn realtime_ns() -> u64 {
    // SAFETY: As in `monotonic_ns`.
    let now = unsafe { bindings::ktime_get_with_offset(bindings::tk_offsets_TK_OFFS_REAL) };
    // Before 1970 for a machine whose clock is wrong.
    u64::try_from(now).unwrap_or(0)
}

/// CLOCK_REALTIME in nanoseconds, for any context, NMIs among them: a clock that is being set just
/// now may be read a little off. Does not sleep.
#[inline]
pub fn realtime_fast_ns() -> u64 {
    // SAFETY: As in `monotonic_ns`.
    unsafe { bindings::ktime_get_real_fast_ns() }
}
