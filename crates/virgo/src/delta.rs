// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Differences between one registration's samples.

use std::collections::HashMap;

use crate::sample::Sample;

/// What a task did between two of its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Nanoseconds between the two samples.
    pub time_ns: u64,
    /// Minor faults.
    pub min_flt: u64,
    /// Major faults.
    pub maj_flt: u64,
    /// User CPU time, in nanoseconds.
    pub utime_ns: u64,
    /// System CPU time, in nanoseconds.
    pub stime_ns: u64,
}

impl Delta {
    /// From `old` to `new`. A figure that went back counts as nothing done.
    pub fn between(old: &Sample, new: &Sample) -> Self {
        Delta {
            time_ns: new.time_ns.saturating_sub(old.time_ns),
            min_flt: new.min_flt.saturating_sub(old.min_flt),
            maj_flt: new.maj_flt.saturating_sub(old.maj_flt),
            utime_ns: new.utime_ns.saturating_sub(old.utime_ns),
            stime_ns: new.stime_ns.saturating_sub(old.stime_ns),
        }
    }

    /// User and system CPU time together, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.utime_ns.saturating_add(self.stime_ns)
    }

    /// Minor and major faults together.
    pub fn faults(&self) -> u64 {
        self.min_flt.saturating_add(self.maj_flt)
    }

    /// CPU time in percent of one CPU; `None` between two samples of the same moment.
    pub fn cpu_percent(&self) -> Option<f64> {
        (self.time_ns != 0).then(|| self.cpu_ns() as f64 * 100.0 / self.time_ns as f64)
    }

    /// `count` of these as a rate a second; `None` between two samples of the same moment.
    pub fn per_second(&self, count: u64) -> Option<f64> {
        (self.time_ns != 0).then(|| count as f64 * 1e9 / self.time_ns as f64)
    }
}

/// Remembers each registration's last sample.
///
/// Registrations are told apart by their id, so a pid that is used again starts anew.
#[derive(Debug, Default)]
pub struct Tracker {
    last: HashMap<u64, Sample>,
}

impl Tracker {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Tracker::default()
    }

    /// Takes a sample; returns what its task did since the one before, or `None` for the first
    /// one that this tracker sees.
    pub fn take(&mut self, sample: &Sample) -> Option<Delta> {
        let old = if sample.is_last() {
            self.last.remove(&sample.id)
        } else {
            self.last.insert(sample.id, *sample)
        };
        old.map(|old| Delta::between(&old, sample))
    }

    /// Forgets registrations without a sample since `time_ns`: those whose last record was lost.
    pub fn forget_before(&mut self, time_ns: u64) {
        self.last.retain(|_, sample| sample.time_ns >= time_ns);
    }

    /// How many registrations are remembered.
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virgo_proto::uapi;

    fn sample(id: u64, time_ns: u64, min_flt: u64, utime_ns: u64, flags: u32) -> Sample {
        Sample {
            id,
            pid: 7,
            time_ns,
            min_flt,
            utime_ns,
            flags,
            ..Sample::default()
        }
    }

    #[test]
    fn a_reused_pid_is_never_mixed_in() {
        let mut tracker = Tracker::new();
        assert_eq!(
            tracker.take(&sample(1, 0, 100, 0, uapi::SAMPLE_FIRST)),
            None
        );
        let delta = tracker.take(&sample(1, 50, 103, 25, 0)).unwrap();
        assert_eq!((delta.min_flt, delta.cpu_percent()), (3, Some(50.0)));
        let delta = tracker
            .take(&sample(1, 60, 103, 25, uapi::SAMPLE_EXIT))
            .unwrap();
        assert_eq!((delta.min_flt, delta.cpu_percent()), (0, Some(0.0)));
        assert!(tracker.is_empty());
        assert_eq!(tracker.take(&sample(2, 70, 5, 1, uapi::SAMPLE_FIRST)), None);
    }

    #[test]
    fn a_first_record_that_is_also_the_last_leaves_nothing() {
        let mut tracker = Tracker::new();
        let flags = uapi::SAMPLE_FIRST | uapi::SAMPLE_EXIT;
        assert_eq!(tracker.take(&sample(1, 0, 100, 0, flags)), None);
        assert!(tracker.is_empty());
    }

    #[test]
    fn no_time_and_steps_back_give_no_rate() {
        let (old, new) = (sample(1, 50, 9, 9, 0), sample(1, 50, 3, 3, 0));
        let delta = Delta::between(&old, &new);
        assert_eq!(delta, Delta::default());
        assert_eq!(delta.cpu_percent(), None);
        assert_eq!(delta.per_second(3), None);
    }

    #[test]
    fn lost_last_records_can_be_forgotten() {
        let mut tracker = Tracker::new();
        tracker.take(&sample(1, 10, 0, 0, 0));
        tracker.take(&sample(2, 20, 0, 0, 0));
        tracker.forget_before(20);
        assert_eq!(tracker.len(), 1);
        assert!(tracker.take(&sample(2, 30, 0, 0, 0)).is_some());
    }
}
