// SPDX-License-Identifier: GPL-2.0-only

//! The bucket behind [`super::bandwidth`]. Compiled into virgo-core alone.
//!
//! It is kept as the moment at which what was taken will have been paid for: taking moves that
//! moment on by the bytes' time at the rate that is set, from now at the earliest but for a small
//! credit. So the mean is the rate, whatever the sizes, and there is nothing to be filled up by a
//! timer.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

use crate::lib::{
    setting::{
        Kind,
        Setting,
        Spec, //
    },
    time::monotonic_ns,
};

/// How long nothing need have been taken for the greatest credit.
const CREDIT_NS: u64 = 50_000_000;

/// Mbit/s; 0: no bound.
static RATE: Atomic<u64> = Atomic::new(0);
/// When what was taken is paid for.
static PAID: Atomic<u64> = Atomic::new(0);

const SETTING: Spec = Spec {
    name: "MaxNetworkBandwidth",
    reader: "virgo-core: Mbit/s through all ports of the suite; 0: no bound",
    kind: Kind::Int {
        low: 0,
        high: 1_000_000,
    },
};

/// The bucket, as a setting. Dropped, there is no bound.
pub(crate) struct Bandwidth(#[expect(dead_code, reason = "kept registered")] Setting<()>);

impl Bandwidth {
    /// Without a bound. Once, in the module's init. `ENOMEM`. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let set = |(): &(), mbits: i64| -> Result {
            // Relaxed: the two numbers need not be seen together; a moment is paid for at either
            // rate.
            PAID.store(monotonic_ns(), Relaxed);
            RATE.store(u64::try_from(mbits).map_err(|_| ERANGE)?, Relaxed);
            Ok(())
        };
        let nothing = Arc::new((), GFP_KERNEL)?;
        Ok(Bandwidth(Setting::new(&SETTING, 0, nothing, set)?))
    }
}

/// Takes bytes; how many nanoseconds the bucket is in debt then. Any context.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_bandwidth_take(bytes: usize) -> u64 {
    let rate = RATE.load(Relaxed);
    if rate == 0 {
        return 0;
    }
    let now = monotonic_ns();
    // CAST: usize fits u64. A byte takes 8000 ns at a Mbit/s.
    let cost = (bytes as u64).saturating_mul(8000) / rate;
    let mut paid = PAID.load(Relaxed);
    loop {
        let from = paid.max(now.saturating_sub(CREDIT_NS));
        let to = from.saturating_add(cost);
        if cost == 0 {
            return to.saturating_sub(now);
        }
        match PAID.cmpxchg(paid, to, Relaxed) {
            Ok(_) => return to.saturating_sub(now),
            Err(other) => paid = other,
        }
    }
}
crate::virgo_export!(virgo_core_bandwidth_take);
