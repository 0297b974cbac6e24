// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The stable form of a sample in CSV files and JSON lines. doc/profiler.md describes it.

use serde::{Deserialize, Serialize};

use crate::collect::Seen;

/// One line. New columns are added at the end only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Seconds of CLOCK_MONOTONIC.
    pub(crate) time_s: f64,
    /// Identity of the registration.
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) comm: String,
    pub(crate) state: char,
    /// Since the task began.
    pub(crate) min_flt: u64,
    /// Since the task began.
    pub(crate) maj_flt: u64,
    /// Since the task began.
    pub(crate) utime_ms: f64,
    /// Since the task began.
    pub(crate) stime_ms: f64,
    /// Of one CPU, since the registration's sample before; empty for the first.
    pub(crate) cpu_pct: Option<f64>,
    pub(crate) rss_kib: u64,
    /// `thread`, `first`, `exit`, `last`, joined by `+`.
    #[serde(default)]
    pub(crate) flags: String,
    /// Records, of any task, that were lost before this one.
    #[serde(default)]
    pub(crate) lost: u64,
    /// The command line, for those that `profiler run` started.
    #[serde(default)]
    pub(crate) label: String,
}

impl Row {
    pub(crate) fn new(seen: &Seen, label: &str) -> Self {
        let sample = &seen.sample;
        let flags: Vec<&str> = [
            (sample.is_thread(), "thread"),
            (sample.is_first(), "first"),
            (sample.is_exit(), "exit"),
            (sample.is_last() && !sample.is_exit(), "last"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
        Row {
            time_s: round(sample.time_ns as f64 / 1e9, 6),
            id: sample.id,
            pid: sample.pid,
            tid: sample.tid,
            comm: sample.comm.to_string(),
            state: char::from(sample.state),
            min_flt: sample.min_flt,
            maj_flt: sample.maj_flt,
            utime_ms: round(sample.utime_ns as f64 / 1e6, 3),
            stime_ms: round(sample.stime_ns as f64 / 1e6, 3),
            cpu_pct: seen
                .delta
                .and_then(|delta| delta.cpu_percent())
                .map(|pct| round(pct, 2)),
            rss_kib: sample.rss_bytes / 1024,
            flags: flags.join("+"),
            lost: seen.lost,
            label: label.into(),
        }
    }
}

fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row() -> Row {
        Row {
            time_s: 12.345_678,
            id: 3,
            pid: 412,
            tid: 412,
            comm: "a,\"b\"".into(),
            state: 'R',
            min_flt: 25_120,
            maj_flt: 1,
            utime_ms: 91.5,
            stime_ms: 7.25,
            cpu_pct: None,
            rss_kib: 204_800,
            flags: "first".into(),
            lost: 0,
            label: "virgo work 200 R 50000".into(),
        }
    }

    fn written(row: &Row) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(row).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn the_columns_are_those_of_the_documentation() {
        assert_eq!(
            written(&row()),
            "time_s,id,pid,tid,comm,state,min_flt,maj_flt,utime_ms,stime_ms,cpu_pct,rss_kib,\
             flags,lost,label\n\
             12.345678,3,412,412,\"a,\"\"b\"\"\",R,25120,1,91.5,7.25,,204800,first,0,\
             virgo work 200 R 50000\n"
        );
    }

    #[test]
    fn json_has_the_same_names() {
        let text = serde_json::to_string(&row()).unwrap();
        assert!(
            text.starts_with("{\"time_s\":12.345678,\"id\":3,\"pid\":412,"),
            "{text}"
        );
        assert!(text.contains("\"cpu_pct\":null"), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            time_us: u32, id: u64, pid: u32, comm in "[ -~]{0,15}", min_flt: u64,
            cpu in proptest::option::of(0_u32..10_000), label in "\\PC{0,20}",
        ) {
            let row = Row {
                time_s: round(f64::from(time_us) / 1e6, 6),
                id, pid, comm, min_flt, label,
                cpu_pct: cpu.map(|cpu| round(f64::from(cpu) / 100.0, 2)),
                ..row()
            };
            let text = written(&row);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let read: Row = reader.deserialize().next().unwrap().unwrap();
            prop_assert_eq!(read, row);
        }
    }
}
