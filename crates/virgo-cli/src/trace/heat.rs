// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace heat`: faults by the function, or the line, that met them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use object::{Object, ObjectSegment};
use serde::Serialize;
use virgo::trace::{Fault, History, Usage};

use crate::cli::{self, HeatBy};
use crate::text::{self, Align, Table};

/// A program or a library, with what tells where its code comes from.
struct Binary {
    loader: addr2line::Loader,
    /// Offset in the file, its length, address that the file gives it.
    segments: Vec<(u64, u64, u64)>,
}

impl Binary {
    fn open(path: &str) -> Option<Self> {
        let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
        let bytes = std::fs::read(path).ok()?;
        let file = object::File::parse(&*bytes).ok()?;
        let segments = file
            .segments()
            .map(|segment| {
                let (offset, length) = segment.file_range();
                (offset, length, segment.address())
            })
            .collect();
        Some(Binary {
            loader: addr2line::Loader::new(path).ok()?,
            segments,
        })
    }

    fn address(&self, offset: u64) -> Option<u64> {
        self.segments
            .iter()
            .find(|(start, length, _)| (*start..start.saturating_add(*length)).contains(&offset))
            .map(|(start, _, address)| offset - start + address)
    }

    /// Function and line.
    fn place(&self, offset: u64) -> (Option<String>, Option<String>) {
        let Some(address) = self.address(offset) else {
            return (None, None);
        };
        let mut function = None;
        let mut line = None;
        if let Ok(mut frames) = self.loader.find_frames(address) {
            if let Ok(Some(frame)) = frames.next() {
                function = frame
                    .function
                    .and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
                line = frame.location.and_then(|place| {
                    Some(format!(
                        "{}:{}",
                        place.file?,
                        place.line.unwrap_or_default()
                    ))
                });
            }
        }
        let function = function.or_else(|| {
            let symbol = self.loader.find_symbol(address)?;
            Some(addr2line::demangle_auto(symbol.into(), None).into_owned())
        });
        (function, line)
    }
}

#[derive(Serialize)]
struct Row {
    faults: u64,
    major: u64,
    first: u64,
    latency_us: u64,
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    binary: String,
}

struct Places {
    binaries: HashMap<String, Option<Binary>>,
    known: HashMap<(u32, u64), (String, Option<String>, String)>,
}

impl Places {
    fn of(&mut self, history: &History, fault: &Fault) -> (String, Option<String>, String) {
        let Some(region) = history.code(fault) else {
            return ("(unknown)".into(), None, String::new());
        };
        let area = &region.area;
        let offset = (fault.ip - area.start).wrapping_add(area.offset);
        if let Some(place) = self.known.get(&(fault.code, offset)) {
            return place.clone();
        }
        let name = area.name.to_string();
        let place = if name.starts_with('/') {
            let binary = self
                .binaries
                .entry(name.clone())
                .or_insert_with(|| Binary::open(&name));
            let (function, line) = binary
                .as_ref()
                .map_or((None, None), |binary| binary.place(offset));
            (
                function.unwrap_or_else(|| format!("{offset:#x}")),
                line,
                name,
            )
        } else {
            (format!("{:#x}", fault.ip), None, name)
        };
        self.known.insert((fault.code, offset), place.clone());
        place
    }
}

pub(crate) fn run(options: &cli::TraceHeat, json: bool) -> anyhow::Result<ExitCode> {
    let history = super::load(&options.input)?;
    let mut places = Places {
        binaries: HashMap::new(),
        known: HashMap::new(),
    };
    let mut counts: HashMap<(String, Option<String>, String), (Usage, u64)> = HashMap::new();
    for fault in &history.faults {
        let (function, line, binary) = places.of(&history, fault);
        let line = line.filter(|_| options.by == HeatBy::Line);
        let (usage, latency) = counts.entry((function, line, binary)).or_default();
        usage.add(fault);
        *latency += u64::from(fault.latency_ns);
    }
    let mut rows: Vec<Row> = counts
        .into_iter()
        .map(|((function, line, binary), (usage, latency))| Row {
            faults: usage.faults(),
            major: usage.major,
            first: usage.first,
            latency_us: latency / 1000,
            function,
            line,
            binary,
        })
        .collect();
    rows.sort_by(|a, b| {
        (b.faults, &a.function, &a.line, &a.binary).cmp(&(
            a.faults,
            &b.function,
            &b.line,
            &b.binary,
        ))
    });
    let all: u64 = rows.iter().map(|row| row.faults).sum();
    let top = options.top.unwrap_or(if json { usize::MAX } else { 30 });
    let mut out = io::stdout().lock();
    if json {
        for row in rows.iter().take(top) {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("FAULTS", Align::Right),
        ("%", Align::Right),
        ("MAJOR", Align::Right),
        ("FIRST", Align::Right),
        ("US", Align::Right),
        ("WHERE", Align::Left),
    ]);
    for row in rows.iter().take(top) {
        let mut place = row.function.clone();
        if let Some(line) = &row.line {
            place.push_str(&format!(" at {line}"));
        }
        if !row.binary.is_empty() {
            place.push_str(&format!(" in {}", row.binary));
        }
        table.row(vec![
            row.faults.to_string(),
            format!("{:.1}", 100.0 * row.faults as f64 / all.max(1) as f64),
            row.major.to_string(),
            row.first.to_string(),
            row.latency_us.to_string(),
            place,
        ]);
    }
    write!(out, "{table}")?;
    if rows.len() > top {
        writeln!(
            out,
            "and {}; --top shows more",
            text::plural((rows.len() - top) as u64, "place")
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
