// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace diff`: two traces, by what they touched.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use virgo::trace::{History, Usage};

use super::record::span;
use crate::cli;
use crate::text::{Align, Table};

#[derive(Serialize)]
struct Row {
    what: String,
    before: u64,
    after: u64,
    change: i64,
}

/// Faults by the name of their region.
fn by_name(history: &History) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for fault in &history.faults {
        let name = match history.region(fault) {
            None => "(no region)",
            Some(region) if region.area.name.is_empty() => "(anonymous)",
            Some(region) => &region.area.name,
        };
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

fn row(what: &str, before: u64, after: u64) -> Row {
    Row {
        what: what.into(),
        before,
        after,
        change: after.wrapping_sub(before) as i64,
    }
}

fn latency(history: &History) -> u64 {
    history
        .faults
        .iter()
        .map(|fault| u64::from(fault.latency_ns))
        .sum::<u64>()
        / 1000
}

fn pages(history: &History) -> u64 {
    history
        .references()
        .iter()
        .max()
        .map_or(0, |last| u64::from(*last) + 1)
}

fn rows(a: &History, b: &History) -> (Vec<Row>, Vec<Row>) {
    let (x, y) = (a.usage(), b.usage());
    let of = |what: &str, field: fn(&Usage) -> u64| row(what, field(&x), field(&y));
    let totals = vec![
        of("faults", Usage::faults),
        of("minor faults", |usage| usage.minor),
        of("major faults", |usage| usage.major),
        of("first touches", |usage| usage.first),
        of("writes", |usage| usage.writes),
        of("instruction fetches", |usage| usage.executes),
        row("different pages", pages(a), pages(b)),
        row("time in faults, us", latency(a), latency(b)),
        row("time traced, us", span(a).1 / 1000, span(b).1 / 1000),
        row("changes of maps", a.map_changes, b.map_changes),
    ];
    let (before, after) = (by_name(a), by_name(b));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let count = |counts: &BTreeMap<String, u64>, name: &String| {
        counts.get(name).copied().unwrap_or_default()
    };
    let mut regions: Vec<Row> = names
        .into_iter()
        .map(|name| row(name, count(&before, name), count(&after, name)))
        .collect();
    regions.sort_by_key(|row| std::cmp::Reverse(row.change.unsigned_abs()));
    (totals, regions)
}

pub(crate) fn run(options: &cli::TraceDiff, json: bool) -> anyhow::Result<ExitCode> {
    let (a, b) = (super::load(&options.before)?, super::load(&options.after)?);
    let (totals, regions) = rows(&a, &b);
    let mut out = io::stdout().lock();
    if json {
        for row in totals.iter().chain(&regions) {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    for (title, rows) in [("", totals), ("FAULTS IN", regions)] {
        let mut table = Table::new(&[
            ("BEFORE", Align::Right),
            ("AFTER", Align::Right),
            ("CHANGE", Align::Right),
            (title, Align::Left),
        ]);
        for row in rows {
            table.row(vec![
                row.before.to_string(),
                row.after.to_string(),
                format!("{:+}", row.change),
                row.what,
            ]);
        }
        writeln!(out, "{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}
