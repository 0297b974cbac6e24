// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The original profiler's four columns: `jiffies min_flt maj_flt cpu`, a row for each sampling
//! round, summed over all registered tasks since the round before.
//!
//! The original reads the kernel's `jiffies`, which begin at `INITIAL_JIFFIES`, five minutes
//! before a 32-bit counter wraps. Here they are computed from the sample's time, so they may be
//! off by the few milliseconds between the kernel's clock and its tick.

use std::fs;

use crate::collect::Seen;

/// Debian's kernels for amd64.
const DEFAULT_HZ: u32 = 250;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) jiffies: u64,
    pub(crate) min_flt: u64,
    pub(crate) maj_flt: u64,
    /// 100 * (user + system time) / period: above 100 when several CPUs were used.
    pub(crate) cpu: u64,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {} {}",
            self.jiffies, self.min_flt, self.maj_flt, self.cpu
        )
    }
}

/// Sums samples up by round.
#[derive(Debug)]
pub(crate) struct Rounds {
    hz: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    round: u64,
    period_ns: u64,
    time_ns: u64,
    min_flt: u64,
    maj_flt: u64,
    cpu_ns: u64,
}

impl Rounds {
    /// `hz`: the kernel's timer frequency.
    pub(crate) fn new(hz: u32) -> Self {
        Rounds { hz, open: None }
    }

    /// Takes a sample, taken at `rate_hz` by a sampling that began at `start_ns`. Returns the row
    /// that it completes: that of the round before.
    pub(crate) fn take(&mut self, seen: &Seen, rate_hz: u32, start_ns: u64) -> Option<Line> {
        let period_ns = 1_000_000_000 / u64::from(rate_hz.max(1));
        // A tenth of a period, in case that a timer was early.
        let since = seen
            .sample
            .time_ns
            .saturating_add(period_ns / 10)
            .saturating_sub(start_ns);
        let round = since / period_ns;
        let done = match &self.open {
            Some(open) if open.round == round && open.period_ns == period_ns => None,
            _ => self.close(),
        };
        let open = self.open.get_or_insert(Open {
            round,
            period_ns,
            time_ns: seen.sample.time_ns,
            min_flt: 0,
            maj_flt: 0,
            cpu_ns: 0,
        });
        if let Some(delta) = seen.delta {
            open.min_flt = open.min_flt.saturating_add(delta.min_flt);
            open.maj_flt = open.maj_flt.saturating_add(delta.maj_flt);
            open.cpu_ns = open.cpu_ns.saturating_add(delta.cpu_ns());
        }
        done
    }

    /// The row of the round that is open, if one is.
    pub(crate) fn close(&mut self) -> Option<Line> {
        let open = self.open.take()?;
        Some(Line {
            jiffies: jiffies(open.time_ns, self.hz),
            min_flt: open.min_flt,
            maj_flt: open.maj_flt,
            cpu: open.cpu_ns.saturating_mul(100) / open.period_ns.max(1),
        })
    }
}

/// `jiffies` of a 64-bit kernel at this CLOCK_MONOTONIC time.
fn jiffies(time_ns: u64, hz: u32) -> u64 {
    let initial = (1_u64 << 32) - 300 * u64::from(hz);
    let ticks = u128::from(time_ns) * u128::from(hz) / 1_000_000_000;
    initial.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
}

/// The running kernel's timer frequency, as its configuration file has it.
pub(crate) fn kernel_hz() -> u32 {
    let uname = rustix::system::uname();
    fs::read_to_string(format!(
        "/boot/config-{}",
        uname.release().to_string_lossy()
    ))
    .ok()
    .and_then(|config| {
        let line = config
            .lines()
            .find_map(|line| line.strip_prefix("CONFIG_HZ="))?;
        line.parse().ok()
    })
    .filter(|hz| (1..=10_000).contains(hz))
    .unwrap_or(DEFAULT_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virgo::{Delta, Sample};

    const MS: u64 = 1_000_000;

    fn seen(time_ms: u64, min_flt: u64, cpu_ms: u64) -> Seen {
        let mut sample = Sample::default();
        sample.time_ns = time_ms * MS;
        let delta = Delta {
            time_ns: 50 * MS,
            min_flt,
            maj_flt: 1,
            utime_ns: cpu_ms * MS,
            stime_ns: 0,
        };
        Seen {
            sample,
            delta: Some(delta),
            lost: 0,
        }
    }

    #[test]
    fn jiffies_begin_five_minutes_before_the_wrap() {
        assert_eq!(jiffies(0, 250), 4_294_892_296);
        assert_eq!(jiffies(300_000_000_000, 250), 1 << 32);
        assert_eq!(jiffies(4 * MS, 250), 4_294_892_297);
        assert_eq!(jiffies(0, 1000), 0xffff_ffff - 299_999);
    }

    #[test]
    fn a_round_is_a_row_that_sums_all_tasks() {
        let mut rounds = Rounds::new(250);
        // Two tasks in each round; the first round is late by 3 ms, the second early by 1 ms.
        let samples = [
            (1_053, 10, 20),
            (1_053, 5, 25),
            (1_099, 7, 50),
            (1_100, 0, 50),
        ];
        let mut lines: Vec<Line> = samples
            .iter()
            .filter_map(|(time, faults, cpu)| {
                rounds.take(&seen(*time, *faults, *cpu), 20, 1_000 * MS)
            })
            .collect();
        lines.extend(rounds.close());
        let rows: Vec<_> = lines
            .iter()
            .map(|line| (line.min_flt, line.maj_flt, line.cpu))
            .collect();
        assert_eq!(rows, [(15, 2, 90), (7, 2, 200)]);
        assert_eq!(lines[0].to_string(), "4294892559 15 2 90");
        assert_eq!(rounds.close(), None);
    }

    #[test]
    fn a_last_record_between_two_rounds_belongs_to_the_one_before() {
        let mut rounds = Rounds::new(250);
        assert_eq!(rounds.take(&seen(50, 1, 0), 20, 0), None);
        assert_eq!(rounds.take(&seen(80, 2, 0), 20, 0), None);
        let line = rounds.take(&seen(100, 4, 0), 20, 0).unwrap();
        assert_eq!(line.min_flt, 3);
    }

    #[test]
    fn odd_rates_and_times_do_no_harm() {
        let mut rounds = Rounds::new(10_000);
        rounds.take(&seen(1, 1, 0), 0, u64::MAX);
        let mut last = seen(1, 1, 0);
        last.sample.time_ns = u64::MAX;
        assert!(rounds.take(&last, 1000, 0).is_some());
        assert!(rounds.close().is_some());
    }
}
