// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A forecast of the nodes' load, and the policy that follows from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{json, Value as Json};
use virgo::Control;

use super::forecast::{ahead, Expected, LEAST};
use super::Advice;
use crate::stop::Stop;
use crate::text;

/// What is set.
const KEY: &str = "cpupool.policy";
/// How sure a difference can be, from the surest on.
const LEVELS: [f64; 5] = [0.99, 0.95, 0.9, 0.8, 0.5];

/// A line of `virgo nodes --watch --json`, what is needed of it.
#[derive(Deserialize)]
struct Line {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    address: String,
    load: Option<Load>,
}

#[derive(Deserialize)]
struct Load {
    load: u32,
    cpus: u32,
}

/// Loads by node, a number a sample; and each node's CPUs.
#[derive(Default)]
struct History {
    loads: BTreeMap<String, Vec<f64>>,
    cpus: BTreeMap<String, u32>,
}

impl History {
    fn add(&mut self, address: &str, load: u32, cpus: u32) {
        let series = self.loads.entry(address.into()).or_default();
        // Thousandths of a runnable task a CPU.
        series.push(f64::from(load) / 1000.0);
        self.cpus.insert(address.into(), cpus);
    }

    fn read(path: &Path) -> anyhow::Result<History> {
        let next = "Write one with \"virgo nodes --watch 1 --json\".";
        let words = fs::read_to_string(path)
            .map_err(|error| text::file_error("read", path, &error, next))?;
        let mut history = History::default();
        for (number, line) in words.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(line).map_err(|error| {
                anyhow::anyhow!(
                    "cannot understand {}:{}: {error}. {next}",
                    path.display(),
                    number + 1
                )
            })?;
            for node in line.nodes {
                if let Some(load) = node.load {
                    history.add(&node.address, load.load, load.cpus);
                }
            }
        }
        Ok(history)
    }

    fn watch(seconds: u32) -> anyhow::Result<History> {
        let control = Control::open()?;
        let stop = Stop::on_signals()?;
        let mut history = History::default();
        for _ in 0..seconds {
            for node in control.nodes()?.nodes {
                if let Some(load) = node.load {
                    history.add(&node.addr.to_string(), load.load, load.cpus);
                }
            }
            thread::sleep(Duration::from_secs(1));
            if stop.is_set() {
                break;
            }
        }
        Ok(history)
    }
}

/// The mean over a forecast.
fn mean(expected: &[Expected]) -> Expected {
    let n = expected.len().max(1) as f64;
    let sum = |pick: fn(&Expected) -> f64| expected.iter().map(pick).sum::<f64>() / n;
    Expected {
        point: sum(|e| e.point),
        low: sum(|e| e.low),
        high: sum(|e| e.high),
    }
}

pub(super) fn learn(
    path: Option<&Path>,
    seconds: Option<u32>,
    samples: usize,
) -> anyhow::Result<Advice> {
    let history = match (path, seconds) {
        (Some(path), _) => History::read(path)?,
        (None, seconds) => History::watch(seconds.unwrap_or(60))?,
    };
    Ok(advise(&history, samples))
}

fn advise(history: &History, samples: usize) -> Advice {
    let mut saw = Vec::new();
    let mut seen = Vec::new();
    let mut known: Vec<(&str, Expected)> = Vec::new();
    for (address, series) in &history.loads {
        let Some(expected) = ahead(series, samples, 0.95).map(|all| mean(&all)) else {
            saw.push(format!(
                "{address}: {} samples; at least {LEAST} are needed",
                series.len()
            ));
            continue;
        };
        let now = series.last().copied().unwrap_or(0.0);
        saw.push(format!(
            "{address}: load {now:.2} a CPU after {} samples; expected {:.2} ({:.2} to {:.2})",
            series.len(),
            expected.point,
            expected.low.max(0.0),
            expected.high
        ));
        seen.push(json!({
            "node": address, "cpus": history.cpus.get(address), "samples": series.len(),
            "load": now, "expected": expected.point, "low": expected.low, "high": expected.high,
        }));
        known.push((address, expected));
    }
    let advice = |set, confidence, basis: &str| Advice {
        saw: saw.clone(),
        seen: Json::from(seen.clone()),
        set,
        create: false,
        confidence,
        basis: basis.into(),
        events: Vec::new(),
    };
    let by_point = |a: &&(&str, Expected), b: &&(&str, Expected)| a.1.point.total_cmp(&b.1.point);
    let (Some(idle), Some(busy)) = (known.iter().min_by(by_point), known.iter().max_by(by_point))
    else {
        return advice(None, 0.0, "there is no history that is long enough");
    };
    if known.len() < 2 {
        return advice(None, 1.0, "there is one node, and nothing to choose");
    }
    // How sure is it that the busiest stays busier than the idlest?
    let sure = LEVELS.into_iter().find(|level| {
        let at = |address: &str| {
            let series = history.loads.get(address)?;
            ahead(series, samples, *level).map(|all| mean(&all))
        };
        match (at(idle.0), at(busy.0)) {
            (Some(idle), Some(busy)) => idle.high < busy.low,
            _ => false,
        }
    });
    match sure {
        Some(level) => {
            let why = format!("{} stays busier than {}", busy.0, idle.0);
            advice(
                Some((KEY.into(), "least-loaded".into(), why)),
                level,
                "the forecasts of the busiest and the idlest node do not touch at this level",
            )
        }
        None => {
            let why = "no node stays busier than another; two at random spread bursts".to_owned();
            advice(
                Some((KEY.into(), "two-choices".into(), why)),
                0.5,
                "the forecasts of the busiest and the idlest node overlap even at 50 %",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load by the sample's number.
    type Series = fn(u32) -> u32;

    fn history(loads: &[(&str, Series)]) -> History {
        let mut history = History::default();
        for (address, load) in loads {
            for sample in 0..60 {
                history.add(address, load(sample), 2);
            }
        }
        history
    }

    /// Noise that is the same each time, 0 to 199.
    fn noise(x: u32) -> u32 {
        (x.wrapping_mul(2_654_435_761) >> 16) & 0x7f
    }

    #[test]
    fn a_node_that_stays_busy_is_avoided() {
        let busy = history(&[("a", |x| 3000 + noise(x)), ("b", |x| 200 + noise(x + 77))]);
        let advice = advise(&busy, 10);
        let (key, value, why) = advice.set.expect("advice");
        assert_eq!((key.as_str(), value.as_str()), (KEY, "least-loaded"));
        assert_eq!(why, "a stays busier than b");
        assert!(advice.confidence >= 0.95, "{}", advice.confidence);
    }

    #[test]
    fn equal_nodes_share_by_two_choices() {
        let equal = history(&[
            ("a", |x| 1000 + 8 * noise(x)),
            ("b", |x| 1000 + 8 * noise(x + 77)),
        ]);
        let advice = advise(&equal, 10);
        assert_eq!(advice.set.expect("advice").1, "two-choices");
    }

    #[test]
    fn one_node_and_short_histories_give_no_advice() {
        assert!(advise(&history(&[("a", noise)]), 5).set.is_none());
        assert!(advise(&History::default(), 5).set.is_none());
        let mut short = History::default();
        short.add("a", 1, 1);
        let advice = advise(&short, 5);
        assert!(advice.set.is_none() && advice.saw[0].contains("at least"));
    }
}
