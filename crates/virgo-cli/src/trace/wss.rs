// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace wss`: how many different pages faulted within a window of time.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::record::span;
use crate::cli;
use crate::text::{self, Align, Table};

/// The working set at one moment.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    time_s: f64,
    /// Different pages within the window before.
    pages: u64,
    bytes: u64,
    /// Different pages since the start.
    total_pages: u64,
}

/// `accesses`: moments in nanoseconds, in order, and pages numbered from 0.
fn working_set(accesses: &[(u64, u32)], window: u64, step: u64, end: u64) -> Vec<(u64, u64, u64)> {
    let pages = accesses
        .iter()
        .map(|(_, page)| *page as usize + 1)
        .max()
        .unwrap_or(0);
    let mut count = vec![0_u32; pages];
    let mut seen = vec![false; pages];
    let (mut here, mut total) = (0, 0);
    let mut inside: VecDeque<(u64, u32)> = VecDeque::new();
    let mut rest = accesses.iter().peekable();
    let mut rows = Vec::new();
    let mut now = step;
    loop {
        while let Some((at, page)) = rest.next_if(|(at, _)| *at <= now) {
            let index = *page as usize;
            if count[index] == 0 {
                here += 1;
            }
            count[index] += 1;
            if !std::mem::replace(&mut seen[index], true) {
                total += 1;
            }
            inside.push_back((*at, *page));
        }
        while let Some((_, page)) = inside.pop_front_if_before(now.saturating_sub(window)) {
            let index = page as usize;
            count[index] -= 1;
            if count[index] == 0 {
                here -= 1;
            }
        }
        rows.push((now, here, total));
        if now >= end {
            return rows;
        }
        now = now.saturating_add(step);
    }
}

trait PopBefore {
    fn pop_front_if_before(&mut self, moment: u64) -> Option<(u64, u32)>;
}

impl PopBefore for VecDeque<(u64, u32)> {
    fn pop_front_if_before(&mut self, moment: u64) -> Option<(u64, u32)> {
        if self
            .front()
            .is_some_and(|(at, _)| *at <= moment && moment > 0)
        {
            self.pop_front()
        } else {
            None
        }
    }
}

pub(crate) fn run(options: &cli::TraceWss, json: bool) -> anyhow::Result<ExitCode> {
    let history = super::load(&options.input)?;
    let (start, length) = span(&history);
    let nanoseconds = |seconds: f64| ((seconds * 1e9) as u64).max(1);
    let step = options
        .step
        .map_or((length / 40).max(1_000_000), nanoseconds);
    let window = options.window.map_or(step.saturating_mul(2), nanoseconds);
    let mut accesses: Vec<(u64, u32)> = history
        .faults
        .iter()
        .zip(history.references())
        .map(|(fault, page)| (fault.time_ns.saturating_sub(start), page))
        .collect();
    accesses.sort_unstable();
    let rows: Vec<Row> = working_set(&accesses, window, step, length)
        .into_iter()
        .map(|(at, pages, total_pages)| Row {
            time_s: at as f64 / 1e9,
            pages,
            bytes: pages.saturating_mul(history.begin.page_size),
            total_pages,
        })
        .collect();
    let mut out = io::stdout().lock();
    if json {
        for row in &rows {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let most = rows.iter().map(|row| row.pages).max().unwrap_or(0).max(1);
    let mut table = Table::new(&[
        ("SECONDS", Align::Right),
        ("PAGES", Align::Right),
        ("MEMORY", Align::Right),
        ("TOUCHED", Align::Right),
        ("", Align::Left),
    ]);
    for row in &rows {
        let length = (row.pages * 40 / most) as usize;
        table.row(vec![
            format!("{:.4}", row.time_s),
            row.pages.to_string(),
            text::bytes(row.bytes),
            row.total_pages.to_string(),
            "#".repeat(length),
        ]);
    }
    writeln!(
        out,
        "pages that faulted within {:.3} ms before",
        window as f64 / 1e6
    )?;
    write!(out, "{table}")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn as_counted_by_hand(
            mut accesses in proptest::collection::vec((1..1000_u64, 0..20_u32), 0..100),
            window in 1..300_u64,
            step in 1..100_u64,
        ) {
            accesses.sort_unstable();
            for (now, here, total) in working_set(&accesses, window, step, 1000) {
                let inside: HashSet<u32> = accesses
                    .iter()
                    .filter(|(at, _)| *at <= now && (now < window || *at > now - window))
                    .map(|(_, page)| *page)
                    .collect();
                let all: HashSet<u32> = accesses
                    .iter()
                    .filter(|(at, _)| *at <= now)
                    .map(|(_, page)| *page)
                    .collect();
                prop_assert_eq!((here, total), (inside.len() as u64, all.len() as u64));
            }
        }
    }
}
