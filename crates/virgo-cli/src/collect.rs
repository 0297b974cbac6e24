// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Taking samples out of the kernel's buffer.

use std::time::{Duration, Instant};

use virgo::{Delta, Header, Profiler, Record, Ring, Sample, Task, Tracker};

use crate::cli;
use crate::stop::Stop;

/// A sample with what can be said about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sample: Sample,
    /// Since the registration's sample before.
    pub(crate) delta: Option<Delta>,
    /// Records of any task that were lost just before.
    pub(crate) lost: u64,
}

/// Longest wait before signals and deadlines are looked at again.
pub(crate) const TURN: Duration = Duration::from_millis(200);

/// How long a registration may be without a sample before it is forgotten: its last record was
/// lost. The lowest rate is one a second.
const FORGET_NS: u64 = 60_000_000_000;

/// A reader of the buffer that knows each task's sample before.
pub(crate) struct Collector {
    ring: Ring,
    tracker: Tracker,
    lost: u64,
    newest_ns: u64,
    forget_at: u64,
}

impl Collector {
    /// Begins at the oldest record there.
    pub(crate) fn open() -> virgo::Result<Self> {
        Ok(Collector {
            ring: Ring::open()?,
            tracker: Tracker::new(),
            lost: 0,
            newest_ns: 0,
            forget_at: FORGET_NS,
        })
    }

    /// Begins at the next record.
    pub(crate) fn skip_old(&mut self) {
        self.ring.seek_head();
    }

    pub(crate) fn header(&self) -> Header {
        self.ring.header()
    }

    /// The next sample, if there is one. Never waits.
    pub(crate) fn next(&mut self) -> Option<Seen> {
        loop {
            match self.ring.next_record()? {
                Record::Lost(count) => self.lost += count,
                Record::Sample(sample) => {
                    let delta = self.tracker.take(&sample);
                    self.newest_ns = self.newest_ns.max(sample.time_ns);
                    if self.newest_ns >= self.forget_at {
                        self.tracker
                            .forget_before(self.newest_ns.saturating_sub(FORGET_NS));
                        self.forget_at = self.newest_ns.saturating_add(FORGET_NS);
                    }
                    return Some(Seen {
                        sample,
                        delta,
                        lost: std::mem::take(&mut self.lost),
                    });
                }
            }
        }
    }

    /// Waits for samples, at most for `timeout` and for [`TURN`].
    pub(crate) fn wait(&self, timeout: Duration) -> virgo::Result<bool> {
        self.ring.wait(timeout.min(TURN))
    }
}

/// When to end.
pub(crate) struct Until {
    stop: Stop,
    deadline: Option<Instant>,
}

impl Until {
    pub(crate) fn new(seconds: Option<f64>) -> std::io::Result<Self> {
        let deadline = seconds
            .and_then(|seconds| Instant::now().checked_add(Duration::from_secs_f64(seconds)));
        Ok(Until {
            stop: Stop::on_signals()?,
            deadline,
        })
    }

    /// The time that is left; `None` when it is over, or a signal came.
    pub(crate) fn left(&self) -> Option<Duration> {
        if self.stop.is_set() {
            return None;
        }
        match self.deadline {
            None => Some(TURN),
            Some(deadline) => deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero()),
        }
    }
}

/// Registers processes until the returned value is dropped. One that is registered already is
/// left as it is.
pub(crate) fn register_bound(bound: &cli::Bound) -> virgo::Result<Option<Profiler>> {
    if bound.pids.is_empty() {
        return Ok(None);
    }
    let profiler = Profiler::open()?;
    for pid in &bound.pids {
        match profiler.register(&Task::process(*pid).bind()) {
            Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {}
            result => drop(result?),
        }
    }
    Ok(Some(profiler))
}
