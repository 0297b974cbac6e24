// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! How far tasks' page fault rates are out of the ordinary.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{json, Value as Json};

use super::forecast::{ahead, LEAST};
use super::{event_name, Advice};
use crate::row::Row;

/// What is set.
const KEY: &str = "anomaly.faults";
/// In so many of 100 cases the next rate is inside what is expected.
const LEVEL: f64 = 0.99;

/// A task's fault rates.
#[derive(Default)]
struct Task {
    name: String,
    pid: u32,
    last: Option<(f64, u64)>,
    rates: Vec<f64>,
}

/// A rate that is out of the ordinary.
struct Odd {
    pid: u32,
    name: String,
    rate: f64,
    expected: f64,
    score: f64,
}

fn read(path: &Path) -> anyhow::Result<Vec<Task>> {
    let next = "Write one with \"virgo profiler record -o FILE\".";
    let fail =
        |error: csv::Error| anyhow::anyhow!("cannot read {}: {error}. {next}", path.display());
    let mut tasks: BTreeMap<u64, Task> = BTreeMap::new();
    for row in csv::Reader::from_path(path).map_err(fail)?.deserialize() {
        let row: Row = row.map_err(fail)?;
        let task = tasks.entry(row.id).or_default();
        (task.name, task.pid) = (row.comm, row.pid);
        let faults = row.min_flt.saturating_add(row.maj_flt);
        if let Some((time, before)) = task.last {
            if row.time_s > time {
                let count = faults.saturating_sub(before);
                task.rates.push(count as f64 / (row.time_s - time));
            }
        }
        task.last = Some((row.time_s, faults));
    }
    Ok(tasks.into_values().collect())
}

/// The task's last rates against what those before let expect: the oddest.
fn oddest(task: &Task) -> Option<Odd> {
    let held_out = (task.rates.len() / 5).max(1);
    let (past, recent) = task.rates.split_at(task.rates.len().checked_sub(held_out)?);
    let expected = ahead(past, held_out, LEVEL)?;
    let odds = recent.iter().zip(expected).map(|(rate, e)| {
        // One fault a second is no anomaly, however steady it was.
        let width = ((e.high - e.low) / 2.0).max(1.0);
        Odd {
            pid: task.pid,
            name: task.name.clone(),
            rate: *rate,
            expected: e.point,
            score: (rate - e.point).abs() / width,
        }
    });
    odds.max_by(|a, b| a.score.total_cmp(&b.score))
}

pub(super) fn learn(path: &Path, least: f64) -> anyhow::Result<Advice> {
    Ok(advise(&read(path)?, least))
}

/// What is told of it: each time it is found it is an event of its own.
fn event(odd: &Odd) -> [String; 3] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_nanos());
    let name = event_name(&odd.name);
    [
        format!("anomaly_{}_{now}", odd.pid),
        format!("{name},pid_{}", odd.pid),
        format!("faults_score_{:.1}", odd.score),
    ]
}

fn advise(tasks: &[Task], least: f64) -> Advice {
    let mut all: Vec<Odd> = tasks.iter().filter_map(oddest).collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let looked = all.len();
    let mut saw = vec![format!(
        "{looked} of {} tasks have the {LEAST} and more samples that are needed",
        tasks.len()
    )];
    all.retain(|odd| odd.score >= least);
    let seen: Vec<Json> = all
        .iter()
        .map(|odd| {
            json!({
                "pid": odd.pid, "comm": odd.name, "faults_per_s": odd.rate,
                "expected": odd.expected, "score": odd.score,
            })
        })
        .collect();
    for odd in &all {
        saw.push(format!(
            "{} ({}): {:.0} faults/s where {:.0} were expected, score {:.1}",
            odd.pid, odd.name, odd.rate, odd.expected, odd.score
        ));
    }
    Advice {
        saw,
        seen: json!({ "tasks": tasks.len(), "looked_at": looked, "odd": seen }),
        set: all.first().map(|odd| {
            let value = format!("{{{}: {:.1}}}", odd.pid, odd.score);
            let why = format!("{:.0} faults/s, not {:.0}", odd.rate, odd.expected);
            (KEY.into(), value, why)
        }),
        create: true,
        // A score of 1 is met by chance in 1 of 100 cases; more than that, more rarely.
        confidence: if all.is_empty() { 1.0 } else { LEVEL },
        basis: "each task against the forecast of its own past (exponential smoothing)".into(),
        events: all.iter().map(event).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: u32, rates: impl Iterator<Item = f64>) -> Task {
        Task {
            name: format!("t{pid}"),
            pid,
            rates: rates.collect(),
            ..Task::default()
        }
    }

    /// Steady, with some noise.
    fn steady(x: u32) -> f64 {
        1000.0 + f64::from((x.wrapping_mul(2_654_435_761) >> 16) & 0x3f)
    }

    #[test]
    fn a_burst_is_odd_and_noise_is_not() {
        let quiet = task(1, (0..100).map(steady));
        let burst = task(
            2,
            (0..100).map(|x| if x == 95 { 9000.0 } else { steady(x) }),
        );
        let advice = advise(&[quiet, burst, task(3, (0..5).map(steady))], 1.5);
        let odd = advice.seen["odd"].as_array().expect("a list");
        assert_eq!(odd.len(), 1, "{:?}", advice.saw);
        assert_eq!(odd[0]["pid"], 2);
        assert!(odd[0]["score"].as_f64().expect("a score") > 10.0);
        assert_eq!(advice.seen["looked_at"], 2);
        let (key, value, _) = advice.set.expect("advice");
        assert_eq!(key, KEY);
        let [event] = &advice.events[..] else {
            panic!("{:?}", advice.events);
        };
        assert!(event[0].starts_with("anomaly_2_"), "{event:?}");
        assert_eq!(event[1], "t2,pid_2");
        assert!(value.starts_with("{2: "), "{value}");
    }

    #[test]
    fn nothing_odd_sets_nothing() {
        assert!(advise(&[task(1, (0..100).map(steady))], 1.5).set.is_none());
        assert!(advise(&[], 1.0).set.is_none());
    }
}
