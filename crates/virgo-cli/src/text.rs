// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Words and tables for people.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// A wrong command line: exit status 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints an error on standard error, with the program's name.
pub(crate) fn complain(error: &anyhow::Error) {
    remark(&error.to_string());
}

/// Prints a remark on standard error.
pub(crate) fn remark(text: &str) {
    // In one piece, since others may write there too. Nothing is left to be done if it is closed.
    let _ = io::stderr().write_all(format!("virgo: {text}\n").as_bytes());
}

/// An error about a file, with what to do next.
pub(crate) fn file_error(verb: &str, path: &Path, error: &io::Error, next: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "cannot {verb} {}: {}. {next}",
        path.display(),
        reason(error)
    )
}

/// The words of an error, without Rust's `(os error N)`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let mut chars = text.split(" (os error").next().unwrap_or(&text).chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => text,
    }
}

/// Where a column's text goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with aligned columns; the last one is not padded.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (title, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(index));
                cells.map(|cell| width(cell)).fold(width(title), usize::max)
            })
            .collect();
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|(title, _)| (*title).into())
            .collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, (_, align)), width) in row.iter().zip(&self.columns).zip(&widths) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}")),
                    Align::Right => line.push_str(&format!("{cell:>width$}")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A count with its thousands set apart by thin spaces that every terminal has: `25 120`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that fits: `812 KiB`, `201.5 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && scaled < 1000.0);
    format!("{scaled:.decimals$} {}", UNITS[unit])
}

/// CPU time: `12.345 s`, or `1:02:03` from an hour on.
pub(crate) fn cpu_time(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    if seconds < 3600.0 {
        return format!("{seconds:.2} s");
    }
    let whole = ns / 1_000_000_000;
    format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

/// A word with or without its plural s.
pub(crate) fn plural(count: u64, word: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {word}{s}", self::count(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_easy_to_read() {
        let counts = [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (25_120, "25 120"),
            (1_234_567, "1 234 567"),
        ];
        for (value, text) in counts {
            assert_eq!(count(value), text);
        }
        let sizes = [
            (0, "0 KiB"),
            (831_488, "812 KiB"),
            (1 << 20, "1.0 MiB"),
            (1023 << 20, "1023 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (value, text) in sizes {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(cpu_time(12_345_000_000), "12.35 s");
        assert_eq!(cpu_time(3_723_000_000_000), "1:02:03");
        assert_eq!(plural(1, "record"), "1 record");
        assert_eq!(plural(0, "record"), "0 records");
    }

    #[test]
    fn a_table_is_aligned_and_has_no_spaces_at_line_ends() {
        let mut table = Table::new(&[("PID", Align::Right), ("COMMAND", Align::Left)]);
        table.row(vec!["7".into(), "a".into()]);
        table.row(vec!["12345".into(), "longer".into()]);
        assert_eq!(
            table.to_string(),
            "  PID  COMMAND\n    7  a\n12345  longer\n"
        );
    }

    #[test]
    fn system_errors_lose_their_number() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(reason(&error), "no such file or directory");
    }
}
