// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Splitting an exact run time into user and system time.

/// CPU time as published: both parts only ever grow, and their sum is the exact run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Nanoseconds in user mode.
    pub user_ns: u64,
    /// Nanoseconds in the kernel.
    pub system_ns: u64,
}

impl CpuTime {
    /// The next value, from the scheduler's exact run time and the tick's samples.
    ///
    /// `exact_ns` is the run time so far, `user_ticks_ns` and `system_ticks_ns` the sampled
    /// times, of which only the ratio counts. The exact time which came since `self` is split in
    /// the ratio of the totals, and neither part goes back: the rule of `cputime_adjust()` in
    /// kernel/sched/cputime.c.
    pub fn advance(self, exact_ns: u64, user_ticks_ns: u64, system_ticks_ns: u64) -> CpuTime {
        let before = self.user_ns.saturating_add(self.system_ns);
        // A sum over threads may lag behind while one of them exits; time does not run back.
        if exact_ns <= before {
            return self;
        }
        let system = if system_ticks_ns == 0 {
            0
        } else if user_ticks_ns == 0 {
            exact_ns
        } else {
            scale(exact_ns, system_ticks_ns, user_ticks_ns)
        };
        // Neither part may shrink below what was published.
        let highest_system = exact_ns.saturating_sub(self.user_ns);
        let system_ns = system.clamp(self.system_ns.min(highest_system), highest_system);
        CpuTime {
            user_ns: exact_ns.saturating_sub(system_ns),
            system_ns,
        }
    }
}

/// `exact * part / (part + other)` in 64 bits, with the operands cut to 32 bits where they do not
/// fit: an error below one part in 2^31. `part` is not 0.
fn scale(exact: u64, part: u64, other: u64) -> u64 {
    let whole = part.saturating_add(other);
    if let Some(product) = exact.checked_mul(part) {
        return product.checked_div(whole).unwrap_or(0);
    }
    // Bring the ratio to at most 32 bits; then split the exact time at 32 bits.
    let shift = 32_u32.saturating_sub(whole.leading_zeros());
    let part = part.checked_shr(shift).unwrap_or(0);
    let whole = whole.checked_shr(shift).unwrap_or(0).max(1);
    let quotient = exact.checked_div(whole).unwrap_or(0);
    let rest = exact.checked_rem(whole).unwrap_or(0);
    quotient
        .saturating_mul(part)
        .saturating_add(rest.saturating_mul(part).checked_div(whole).unwrap_or(0))
}
