// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo mem watch`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use virgo::mempool::{MappedCache, Shown};

use super::put_bytes;
use crate::cli::mem as cli;
use crate::stop::Stop;
use crate::text;

/// How long a wait lasts at most, so that the flags are looked at.
const WAIT: Duration = Duration::from_millis(500);

/// What happened to a value between two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Put(Shown),
    Gone(Vec<u8>),
}

/// The values as they were when they were looked at last: the numbers by their keys.
type Before = HashMap<Vec<u8>, u64>;

/// What is different from before, in the order of the keys. `there` tells whether a value that was
/// not shown is there all the same: it was being written.
fn changes(
    before: &mut Before,
    now: impl Iterator<Item = Shown>,
    there: impl Fn(&[u8]) -> bool,
) -> Vec<Change> {
    let mut after = Before::with_capacity(before.len());
    let mut all = Vec::new();
    for shown in now {
        after.insert(shown.key.clone(), shown.cas);
        if before.get(&shown.key) != Some(&shown.cas) {
            all.push(Change::Put(shown));
        }
    }
    for (key, number) in before.iter() {
        if after.contains_key(key) {
            continue;
        }
        if there(key) {
            // Its change is told at the next look.
            after.insert(key.clone(), *number);
        } else {
            all.push(Change::Gone(key.clone()));
        }
    }
    *before = after;
    let key = |change: &Change| match change {
        Change::Put(shown) => shown.key.clone(),
        Change::Gone(key) => key.clone(),
    };
    all.sort_by_key(key);
    all
}

fn line(change: &Change, json: bool) -> String {
    if !json {
        return match change {
            Change::Put(shown) => format!(
                "put   {}  {}, number {}",
                shown.key.escape_ascii(),
                text::plural(shown.length as u64, "byte"),
                shown.cas
            ),
            Change::Gone(key) => format!("gone  {}", key.escape_ascii()),
        };
    }
    let mut all = serde_json::Map::new();
    match change {
        Change::Put(shown) => {
            all.insert("change".into(), "put".into());
            put_bytes(&mut all, "key", &shown.key);
            all.insert("bytes".into(), shown.length.into());
            all.insert("flags".into(), shown.flags.into());
            all.insert("cas".into(), shown.cas.into());
        }
        Change::Gone(key) => {
            all.insert("change".into(), "gone".into());
            put_bytes(&mut all, "key", key);
        }
    }
    Json::from(all).to_string()
}

pub(super) fn run(options: &cli::Watch, json: bool) -> anyhow::Result<ExitCode> {
    let cache = MappedCache::open(options.prefix.as_bytes())?;
    let stop = Stop::on_signals()?;
    let end = options
        .duration
        .map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let mut out = io::stdout().lock();
    let mut before = Before::new();
    // Counted before the look: what changes during it is looked at again.
    let mut seen = cache.counts().changes;
    // The kernel knows of those that the table cannot tell of now.
    let there = |key: &[u8]| {
        cache
            .get_into(key, &mut [])
            .map_or(true, |found| found.is_some())
    };
    changes(&mut before, cache.shown(), there);
    let (mut told, mut hidden) = (0_u64, 0);
    loop {
        let over = end.is_some_and(|end| Instant::now() >= end);
        if over || stop.is_set() || options.count.is_some_and(|count| told >= count) {
            return Ok(ExitCode::SUCCESS);
        }
        let left = end.map_or(WAIT, |end| end.saturating_duration_since(Instant::now()));
        if !cache.wait(seen, left.min(WAIT))? {
            continue;
        }
        let counts = cache.counts();
        seen = counts.changes;
        for change in changes(&mut before, cache.shown(), there) {
            if options.count.is_some_and(|count| told >= count) {
                break;
            }
            writeln!(out, "{}", line(&change, json))?;
            told += 1;
        }
        out.flush()?;
        if counts.hidden > hidden {
            text::remark(&format!(
                "{} have no place in the table, and their changes are not told. Share {:?} anew \
                 with more --slots.",
                text::plural(counts.hidden, "value"),
                options.prefix
            ));
        }
        hidden = counts.hidden;
        if counts.closed {
            text::remark("the namespace was taken down");
            return Ok(ExitCode::FAILURE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_reads_well() {
        assert_eq!(line(&Change::Gone(b"a\n".to_vec()), false), "gone  a\\n");
        assert_eq!(
            line(&Change::Gone(b"a".to_vec()), true),
            json!({ "change": "gone", "key": "a" }).to_string()
        );
    }
}
