// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The table at the end of a run.

use serde::Serialize;

use crate::session::{Finished, Outcome};
use crate::text::{self, Align, Table};

/// One command's figures, in JSON's form.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) pid: u32,
    pub(crate) command: String,
    pub(crate) seconds: f64,
    pub(crate) cpu_pct: f64,
    pub(crate) user_ms: f64,
    pub(crate) system_ms: f64,
    pub(crate) min_flt: u64,
    pub(crate) maj_flt: u64,
    pub(crate) peak_rss_kib: u64,
    pub(crate) samples: u64,
    pub(crate) exit: u8,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rate_hz: u32,
    pub(crate) lost: u64,
    pub(crate) missed_rounds: u64,
    pub(crate) commands: Vec<Line>,
}

impl From<&Outcome> for Line {
    fn from(outcome: &Outcome) -> Self {
        let delta = virgo::Delta::between(&outcome.first, &outcome.last);
        Line {
            pid: outcome.first.pid,
            command: outcome.label.clone(),
            seconds: delta.time_ns as f64 / 1e9,
            cpu_pct: delta.cpu_percent().unwrap_or(0.0),
            user_ms: delta.utime_ns as f64 / 1e6,
            system_ms: delta.stime_ns as f64 / 1e6,
            min_flt: delta.min_flt,
            maj_flt: delta.maj_flt,
            peak_rss_kib: outcome.peak_rss / 1024,
            samples: outcome.samples,
            exit: outcome.code(),
        }
    }
}

impl From<&Finished> for Report {
    fn from(finished: &Finished) -> Self {
        Report {
            rate_hz: finished.rate_hz,
            lost: finished.lost,
            missed_rounds: finished.missed,
            commands: finished.outcomes.iter().map(Line::from).collect(),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("PID", Right),
            ("TIME", Right),
            ("CPU %", Right),
            ("USER", Right),
            ("SYSTEM", Right),
            ("MINFLT", Right),
            ("MAJFLT", Right),
            ("PEAK RSS", Right),
            ("SAMPLES", Right),
            ("EXIT", Right),
            ("COMMAND", Left),
        ]);
        for line in &self.commands {
            table.row(vec![
                line.pid.to_string(),
                format!("{:.2} s", line.seconds),
                format!("{:.1}", line.cpu_pct),
                format!("{:.2} s", line.user_ms / 1e3),
                format!("{:.2} s", line.system_ms / 1e3),
                text::count(line.min_flt),
                text::count(line.maj_flt),
                text::bytes(line.peak_rss_kib.saturating_mul(1024)),
                text::count(line.samples),
                line.exit.to_string(),
                line.command.clone(),
            ]);
        }
        write!(f, "{table}")?;
        if self.lost > 0 {
            writeln!(
                f,
                "{} lost: the buffer was overwritten before it was read. Load virgo-profiler with \
                 a larger buffer, or lower the rate.",
                text::plural(self.lost, "record")
            )?;
        }
        if self.missed_rounds > 0 {
            writeln!(
                f,
                "{} skipped: the one before was still under way.",
                text::plural(self.missed_rounds, "sampling round")
            )?;
        }
        Ok(())
    }
}
