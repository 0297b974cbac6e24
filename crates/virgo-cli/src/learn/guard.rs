// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Watching a measure after a learnt value was set, and taking that back when it gets worse.

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use virgo::analytics::{Analytics, Options, Source};

use crate::cli::learn::Measure;
use crate::stop::Stop;
use crate::text;

/// How long a measure is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long a value is set for; longer than a look, so that it stands from one to the next.
const LEASE: Duration = Duration::from_secs(30);

/// A counter's sum so far.
fn counter(measure: Measure) -> Option<f64> {
    let (path, find): (_, fn(&str) -> Option<f64>) = match measure {
        Measure::Cpu => ("/proc/pressure/cpu", pressure),
        Measure::Memory => ("/proc/pressure/memory", pressure),
        Measure::Faults => ("/proc/vmstat", |text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("pgmajfault "));
            line?.trim().parse().ok()
        }),
        Measure::Errors => ("/proc/net/snmp", |text| {
            let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
            let (names, values) = (lines.next()?, lines.next()?);
            let place = names.split(' ').position(|name| name == "RetransSegs")?;
            values.split(' ').nth(place)?.parse().ok()
        }),
    };
    find(&fs::read_to_string(path).ok()?)
}

/// Microseconds that some task has waited.
fn pressure(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.rsplit_once("total=")?.1.trim().parse().ok()
}

/// The measure a second, over a look. `None`: the kernel does not tell it, or a signal came.
fn look(measure: Measure, stop: &Stop) -> Option<f64> {
    let (start, before) = (Instant::now(), counter(measure)?);
    while start.elapsed() < LOOK {
        if stop.is_set() {
            return None;
        }
        thread::sleep(Duration::from_millis(200));
    }
    Some((counter(measure)? - before) / start.elapsed().as_secs_f64())
}

/// Whether a measure has become worse than it was by so many percent. What is next to nothing is
/// not worse than nothing: a hundredth of the time for pressure, one a second for the others.
fn is_worse(measure: Measure, before: f64, now: f64, percent: u32) -> bool {
    let nothing = match measure {
        Measure::Cpu | Measure::Memory => 10_000.0,
        Measure::Faults | Measure::Errors => 1.0,
    };
    now > before * (1.0 + f64::from(percent) / 100.0) + nothing
}

/// Sets the value for a short time, again and again until it is to expire; takes it back when the
/// measure gets worse than it was before, or a person sets another one.
pub(super) fn hold(
    settings: &Analytics,
    key: &str,
    value: &str,
    options: &Options<'_>,
    measure: Measure,
    percent: u32,
) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_signals()?;
    anyhow::ensure!(
        counter(measure).is_some(),
        "cannot guard: this kernel does not tell that measure. Choose another, or leave --guard out."
    );
    let Some(before) = look(measure, &stop) else {
        return Ok(ExitCode::FAILURE);
    };
    let end = Instant::now() + options.ttl.unwrap_or(LEASE);
    let mut end_why = "its time is over";
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        let lease = Options {
            ttl: Some(LEASE.min(left).max(Duration::from_millis(1))),
            ..options.clone()
        };
        // Fails where a person has set another one meanwhile: that stands.
        settings.set(key, value, &lease)?;
        let Some(now) = look(measure, &stop) else {
            end_why = "told to stop";
            break;
        };
        if is_worse(measure, before, now, percent) {
            let why = format!("{measure:?} got worse: {before:.1} before, {now:.1} a second now");
            settings.unset(key, Source::Learner, &why)?;
            text::remark(&format!("{key} was taken back: {why}"));
            return Ok(ExitCode::FAILURE);
        }
    }
    settings.unset(key, Source::Learner, end_why)?;
    text::remark(&format!("{key} was taken back: {end_why}"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_read_and_compared() {
        let psi = "some avg10=0.00 avg60=0.00 avg300=0.00 total=123456\nfull avg10=0 total=9\n";
        assert_eq!(pressure(psi), Some(123_456.0));
        assert!(counter(Measure::Faults).is_some());
        assert!(counter(Measure::Errors).is_some());
        assert!(!is_worse(Measure::Faults, 100.0, 125.0, 25));
        assert!(is_worse(Measure::Faults, 100.0, 127.0, 25));
        assert!(!is_worse(Measure::Cpu, 0.0, 9_000.0, 25), "next to nothing");
        assert!(is_worse(Measure::Cpu, 0.0, 20_000.0, 25));
    }
}
