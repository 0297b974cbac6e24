// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace simulate`: how often the recorded accesses would miss with so many frames.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use virgo::trace::{misses, Policy};

use crate::cli::{self, PolicyName};
use crate::text::{Align, Table};

#[derive(Serialize)]
struct Row {
    frames: usize,
    policy: &'static str,
    misses: u64,
    ratio: f64,
}

/// Rows that a wide range is cut down to, and no policy takes long for.
const ROWS: usize = 64;

/// The numbers of frames from `from` to `to`: with that step, or with one that is 1, 2 or 5 and zeros
/// and makes at most [`ROWS`] steps; then `to` is among them.
fn numbers((from, to): (usize, usize), step: Option<usize>) -> Vec<usize> {
    if let Some(step) = step {
        return (from..=to).step_by(step).collect();
    }
    let mut round = (0..).flat_map(|zeros| [1, 2, 5].map(|digit| digit * 10_usize.pow(zeros)));
    let least = (to - from).div_ceil(ROWS);
    let step = round.find(|step| *step >= least).unwrap_or(least);
    // From the second on they are as round as the step.
    let next = (from + 1).next_multiple_of(step);
    let mut numbers = vec![from];
    numbers.extend((next..to).step_by(step));
    if to > from {
        numbers.push(to);
    }
    numbers
}

pub(crate) fn run(options: &cli::TraceSimulate, json: bool) -> anyhow::Result<ExitCode> {
    let history = super::load(&options.input)?;
    let references = history.references();
    let frames = numbers(options.frames, options.step);
    let policies: Vec<Policy> = options
        .policy
        .iter()
        .map(|name| match name {
            PolicyName::Lru => Policy::Lru,
            PolicyName::Fifo => Policy::Fifo,
            PolicyName::Clock => Policy::Clock,
            PolicyName::Opt => Policy::Opt,
        })
        .collect();
    let results: Vec<Vec<u64>> = policies
        .iter()
        .map(|policy| misses(*policy, &references, &frames))
        .collect();
    let mut out = io::stdout().lock();
    if json {
        let all = references.len().max(1) as f64;
        for (policy, counts) in policies.iter().zip(&results) {
            for (frames, misses) in frames.iter().zip(counts) {
                let row = Row {
                    frames: *frames,
                    policy: policy.name(),
                    misses: *misses,
                    ratio: *misses as f64 / all,
                };
                writeln!(out, "{}", serde_json::to_string(&row)?)?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut columns = vec![("FRAMES", Align::Right)];
    columns.extend(policies.iter().map(|policy| {
        let title = match policy {
            Policy::Lru => "LRU",
            Policy::Fifo => "FIFO",
            Policy::Clock => "CLOCK",
            Policy::Opt => "OPT",
        };
        (title, Align::Right)
    }));
    let mut table = Table::new(&columns);
    for (index, frames) in frames.iter().enumerate() {
        let mut cells = vec![frames.to_string()];
        cells.extend(
            results
                .iter()
                .map(|counts| counts.get(index).map_or(String::new(), u64::to_string)),
        );
        table.row(cells);
    }
    write!(out, "{table}")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn wide_ranges_have_few_rows() {
        assert_eq!(numbers((1, 3), None), [1, 2, 3]);
        assert_eq!(numbers((8, 8), None), [8]);
        assert_eq!(numbers((0, 64), None).len(), 65);
        assert_eq!(numbers((1, 9), Some(4)), [1, 5, 9]);
        let wide = numbers((1, 100_000), None);
        assert_eq!(wide[..3], [1, 2000, 4000]);
        assert_eq!(wide.last(), Some(&100_000));
        for to in [65, 66, 1000, 99_999, 100_000_000] {
            let rows = numbers((1, to), None);
            assert!(rows.len() <= 66 && rows.is_sorted(), "{to}: {}", rows.len());
            assert_eq!((rows.first(), rows.last()), (Some(&1), Some(&to)));
        }
    }
}
