// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace show`: the original's picture of each region, or every fault.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use virgo::trace::{
    Fault, History, FAULT_EXEC, FAULT_FIRST, FAULT_INDIRECT, FAULT_MAJOR, FAULT_OTHER,
    FAULT_RETRIED, FAULT_SWAPPED, FAULT_USER, FAULT_WRITE,
};

use super::Kind;
use crate::cli::{self, TraceFormat, When};
use crate::monitor::csv_error;

pub(crate) fn run(options: &cli::TraceShow, json: bool) -> anyhow::Result<ExitCode> {
    let history = super::load(&options.input)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let format = if json {
        TraceFormat::Json
    } else {
        options.format
    };
    match format {
        TraceFormat::Regions => {
            let colour = match options.color {
                When::Always => true,
                When::Never => false,
                When::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            };
            regions(&history, colour, &mut out)?;
        }
        TraceFormat::Csv => {
            let mut csv = csv::Writer::from_writer(&mut out);
            for fault in &history.faults {
                csv.serialize(row(&history, fault)).map_err(csv_error)?;
            }
            csv.flush()?;
        }
        TraceFormat::Json => {
            for fault in &history.faults {
                serde_json::to_writer(&mut out, &row(&history, fault))?;
                out.write_all(b"\n")?;
            }
        }
        TraceFormat::Chrome => chrome(&history, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// `Region: bfb99000 - bfbaf000 (  22 pages): |....XX............XXXX|`
fn regions(history: &History, colour: bool, out: &mut impl Write) -> io::Result<()> {
    let page = history.begin.page_size.max(1);
    let mut marks: Vec<Vec<(u64, Kind)>> = vec![Vec::new(); history.regions.len()];
    for fault in &history.faults {
        if let Some(region) = history.region(fault) {
            marks[region.number].push((fault.address / page, Kind::of(fault)));
        }
    }
    let mut order: Vec<usize> = (0..history.regions.len()).collect();
    order.sort_by_key(|index| {
        let region = &history.regions[*index];
        let process = history
            .processes
            .iter()
            .position(|process| process.pid == region.pid);
        (process, region.program, region.lowest, region.number)
    });
    let several = history.processes.len() > 1 || !history.execs.is_empty();
    let mut space = None;
    for index in order {
        let region = &history.regions[index];
        if several
            && space.replace((region.pid, region.program)) != Some((region.pid, region.program))
        {
            let program = history
                .execs
                .iter()
                .filter(|exec| exec.pid == region.pid)
                .nth((region.program as usize).wrapping_sub(1));
            match program {
                Some(exec) => writeln!(out, "Process {}, {}:", region.pid, exec.path)?,
                None => writeln!(out, "Process {}, at first:", region.pid)?,
            }
        }
        let (first, last) = (region.lowest / page, region.highest / page);
        write!(
            out,
            "Region: {:08x} - {:08x} ({:4} pages): |",
            region.lowest,
            region.highest,
            last - first
        )?;
        let mut marks = std::mem::take(&mut marks[index]);
        marks.sort_unstable();
        // The most telling kind of each page comes last.
        let mut at = first;
        let mut marks = marks.into_iter().peekable();
        while let Some((number, mut kind)) = marks.next() {
            while let Some((_, other)) = marks.next_if(|(other, _)| *other == number) {
                kind = other;
            }
            dots(out, number.saturating_sub(at))?;
            if colour {
                write!(out, "\x1b[{}mX\x1b[0m", colour_of(kind))?;
            } else {
                out.write_all(b"X")?;
            }
            at = number + 1;
        }
        dots(out, last.saturating_sub(at))?;
        out.write_all(b"|\n")?;
    }
    Ok(())
}

fn dots(out: &mut impl Write, mut count: u64) -> io::Result<()> {
    const DOTS: [u8; 256] = [b'.'; 256];
    while count > 0 {
        let some = count.min(256);
        out.write_all(&DOTS[..some as usize])?;
        count -= some;
    }
    Ok(())
}

fn colour_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "32",
        Kind::Write => "33",
        Kind::Exec => "36",
        Kind::Major => "1;31",
    }
}

/// A fault, for programs.
#[derive(Serialize)]
struct Row<'a> {
    time_s: f64,
    pid: u32,
    tid: u32,
    address: String,
    ip: String,
    kind: &'static str,
    access: &'static str,
    first: bool,
    flags: String,
    latency_us: f64,
    region: String,
    permissions: String,
    name: &'a str,
}

fn row<'a>(history: &'a History, fault: &Fault) -> Row<'a> {
    let region = history.region(fault);
    let names = [
        (FAULT_USER, "user"),
        (FAULT_SWAPPED, "swapped"),
        (FAULT_INDIRECT, "indirect"),
        (FAULT_OTHER, "other"),
        (FAULT_RETRIED, "retried"),
    ];
    let flags: Vec<&str> = names
        .iter()
        .filter(|(flag, _)| fault.is(*flag))
        .map(|(_, name)| *name)
        .collect();
    Row {
        time_s: fault.time_ns as f64 / 1e9,
        pid: fault.pid,
        tid: fault.tid,
        address: format!("{:#x}", fault.address),
        ip: format!("{:#x}", fault.ip),
        kind: if fault.is(FAULT_MAJOR) {
            "major"
        } else {
            "minor"
        },
        access: if fault.is(FAULT_EXEC) {
            "execute"
        } else if fault.is(FAULT_WRITE) {
            "write"
        } else {
            "read"
        },
        first: fault.is(FAULT_FIRST),
        flags: flags.join("+"),
        latency_us: f64::from(fault.latency_ns) / 1e3,
        region: region.map_or(String::new(), |region| {
            format!("{:x}-{:x}", region.lowest, region.highest)
        }),
        permissions: region.map_or(String::new(), |region| region.area.permissions()),
        name: region.map_or("", |region| &region.area.name),
    }
}

/// The trace-event format that Chrome's about:tracing and Perfetto read.
fn chrome(history: &History, out: &mut impl Write) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Event<'a> {
        name: &'static str,
        cat: &'static str,
        ph: &'static str,
        ts: f64,
        dur: f64,
        pid: u32,
        tid: u32,
        args: Row<'a>,
    }
    out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
    let start = history.begin.monotonic_ns;
    for (index, fault) in history.faults.iter().enumerate() {
        if index > 0 {
            out.write_all(b",\n")?;
        }
        let event = Event {
            name: Kind::of(fault).name(),
            cat: "fault",
            ph: "X",
            ts: fault.time_ns.saturating_sub(start) as f64 / 1e3,
            dur: f64::from(fault.latency_ns) / 1e3,
            pid: fault.pid,
            tid: fault.tid,
            args: row(history, fault),
        };
        serde_json::to_writer(&mut *out, &event)?;
    }
    out.write_all(b"\n]}\n")?;
    Ok(())
}
