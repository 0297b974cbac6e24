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

pub(crate) fn run(options: &cli::TraceSimulate, json: bool) -> anyhow::Result<ExitCode> {
    let history = super::load(&options.input)?;
    let references = history.references();
    let frames: Vec<usize> = (options.frames.0..=options.frames.1)
        .step_by(options.step)
        .collect();
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
