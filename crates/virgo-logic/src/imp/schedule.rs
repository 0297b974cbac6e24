// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! When a thing that happens at a steady rate is due next.

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;

/// A steady series of moments: `start + n * 1 s / rate`, without drift.
///
/// Each moment is computed from the start, not from the one before, so neither lateness nor
/// rounding adds up: at 3 Hz the third moment of every second is exact again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    start_ns: u64,
    rate_hz: u32,
    round: u64,
}

/// What [`Schedule::next`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// When the next round is due.
    pub due_ns: u64,
    /// How many rounds were due in the meantime and are skipped.
    pub missed: u64,
}

impl Schedule {
    /// A schedule whose round 0 is at `start_ns`. A rate of 0 is taken as 1.
    pub fn new(start_ns: u64, rate_hz: u32) -> Self {
        Schedule {
            start_ns,
            rate_hz: rate_hz.max(1),
            round: 0,
        }
    }

    /// The moment of round `round`, rounded down to a nanosecond.
    fn moment(&self, round: u64) -> u64 {
        let rate = u64::from(self.rate_hz);
        // Whole seconds and the rest apart, so the product stays small.
        let seconds = round.checked_div(rate).unwrap_or(0);
        let rest = round.checked_rem(rate).unwrap_or(0);
        let fraction = rest
            .saturating_mul(NSEC_PER_SEC)
            .checked_div(rate)
            .unwrap_or(0);
        self.start_ns
            .saturating_add(seconds.saturating_mul(NSEC_PER_SEC))
            .saturating_add(fraction)
    }

    /// The round which is due after now. Rounds that have passed are skipped and counted.
    pub fn next(&mut self, now_ns: u64) -> Next {
        let wanted = self.round.saturating_add(1);
        let due_ns = self.moment(wanted);
        if due_ns > now_ns {
            self.round = wanted;
            return Next { due_ns, missed: 0 };
        }
        // Late: take the first round after now. The estimate is at most one off, since moments
        // are rounded down.
        let late = now_ns.saturating_sub(self.start_ns);
        let rate = u64::from(self.rate_hz);
        let seconds = late.checked_div(NSEC_PER_SEC).unwrap_or(0);
        let rest = late.checked_rem(NSEC_PER_SEC).unwrap_or(0);
        let mut round = seconds.saturating_mul(rate).saturating_add(
            rest.saturating_mul(rate)
                .checked_div(NSEC_PER_SEC)
                .unwrap_or(0),
        );
        round = round.max(wanted);
        while self.moment(round) <= now_ns && round < u64::MAX {
            round = round.saturating_add(1);
        }
        let missed = round.saturating_sub(wanted);
        self.round = round;
        Next {
            due_ns: self.moment(round),
            missed,
        }
    }
}
