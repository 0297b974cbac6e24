// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the tests that run in guests share: system calls behind safe functions, child processes
//! that wait to be told what to do, VIRGO's devices, the profiler's buffer, and loading modules.
//!
//! The tests need root, the modules in `/virgo/ko`, and `--test-threads=1`: modules are the whole
//! machine's. None of them sleeps; they wait for conditions, with a deadline.

pub mod buffer;
pub mod child;
pub mod device;
pub mod epoll;
pub mod module;
pub mod nodes;
pub mod procfs;
pub mod script;
pub mod sys;

use std::time::{Duration, Instant};

/// Is this the debug kernel (scripts/build-debug-kernel), on which everything takes ten times as
/// long or more? What is a matter of quantity alone may be less there.
#[must_use]
pub fn debug_kernel() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .is_ok_and(|release| release.contains("virgodebug"))
}

/// How long anything may take that ought to happen at once. Emulated machines are slow, and debug
/// kernels slower.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; false if it does not within `limit`. Looks every 2 ms.
#[must_use]
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        sys::pause_ms(2);
    }
}

/// Whether to run the long form of tests that have one (`VIRGO_LONG=1`).
#[must_use]
pub fn long() -> bool {
    std::env::var_os("VIRGO_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}
