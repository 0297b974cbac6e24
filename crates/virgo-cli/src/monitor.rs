// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo profiler monitor` and `record`: samples as they come.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::classic::{kernel_hz, Rounds};
use crate::cli;
use crate::collect::{register_bound, Collector, Seen, Until};
use crate::row::Row;
use crate::text;

/// Writes samples in one form.
trait Printer {
    /// Writes what this sample completes; returns how many rows that were.
    fn sample(&mut self, seen: &Seen, collector: &Collector) -> anyhow::Result<u64>;
    /// Writes what is left; returns how many rows that were.
    fn finish(&mut self) -> anyhow::Result<u64>;
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// Comma-separated values.
struct Csv<W: Write>(csv::Writer<W>);

impl<W: Write> Csv<W> {
    fn new(out: W) -> Self {
        Csv(csv::Writer::from_writer(out))
    }
}

impl<W: Write> Printer for Csv<W> {
    fn sample(&mut self, seen: &Seen, _: &Collector) -> anyhow::Result<u64> {
        self.0.serialize(Row::new(seen, "")).map_err(csv_error)?;
        Ok(1)
    }

    fn finish(&mut self) -> anyhow::Result<u64> {
        Ok(0)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

/// The I/O error inside, so that a closed pipe is known as such.
pub(crate) fn csv_error(error: csv::Error) -> anyhow::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        kind => anyhow::anyhow!("cannot write a row: {kind:?}. This is a fault of this program."),
    }
}

/// A JSON object on each line.
struct Json<W: Write>(W);

impl<W: Write> Printer for Json<W> {
    fn sample(&mut self, seen: &Seen, _: &Collector) -> anyhow::Result<u64> {
        writeln!(self.0, "{}", serde_json::to_string(&Row::new(seen, ""))?)?;
        Ok(1)
    }

    fn finish(&mut self) -> anyhow::Result<u64> {
        Ok(0)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

/// For people: rates instead of counters.
struct Plain<W: Write> {
    out: W,
    rows: u64,
}

/// Lines between two headings.
const HEADING_EVERY: u64 = 40;

impl<W: Write> Printer for Plain<W> {
    fn sample(&mut self, seen: &Seen, _: &Collector) -> anyhow::Result<u64> {
        if seen.lost > 0 {
            writeln!(self.out, "({} lost)", text::plural(seen.lost, "record"))?;
        }
        if self.rows % HEADING_EVERY == 0 {
            writeln!(
                self.out,
                "{:>12}  {:>7}  {:>7} S {:>9}  {:>7}  {:>6}  {:>10}  COMMAND",
                "TIME (s)", "PID", "TID", "MINFLT/s", "MAJFLT/s", "CPU %", "RSS"
            )?;
        }
        self.rows += 1;
        let sample = &seen.sample;
        let number = |value: Option<f64>, decimals: usize| match value {
            Some(value) => format!("{value:.decimals$}"),
            None => "-".into(),
        };
        let delta = seen.delta;
        let rate = |count: fn(&virgo::Delta) -> u64| {
            number(delta.and_then(|delta| delta.per_second(count(&delta))), 0)
        };
        writeln!(
            self.out,
            "{:>12.3}  {:>7}  {:>7} {} {:>9}  {:>8}  {:>6}  {:>10}  {}",
            sample.time_ns as f64 / 1e9,
            sample.pid,
            sample.tid,
            char::from(sample.state),
            rate(|delta| delta.min_flt),
            rate(|delta| delta.maj_flt),
            number(delta.and_then(|delta| delta.cpu_percent()), 1),
            text::bytes(sample.rss_bytes),
            sample.comm,
        )?;
        Ok(1)
    }

    fn finish(&mut self) -> anyhow::Result<u64> {
        Ok(0)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}

/// The original's columns.
struct Classic<W: Write> {
    out: W,
    rounds: Rounds,
}

impl<W: Write> Printer for Classic<W> {
    fn sample(&mut self, seen: &Seen, collector: &Collector) -> anyhow::Result<u64> {
        let header = collector.header();
        match self.rounds.take(seen, header.rate_hz, header.start_ns) {
            Some(line) => writeln!(self.out, "{line}")?,
            None => return Ok(0),
        }
        Ok(1)
    }

    fn finish(&mut self) -> anyhow::Result<u64> {
        match self.rounds.close() {
            Some(line) => writeln!(self.out, "{line}")?,
            None => return Ok(0),
        }
        Ok(1)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}

pub(crate) fn run(options: &cli::Monitor, json: bool) -> anyhow::Result<ExitCode> {
    let until = Until::new(options.duration)?;
    let mut collector = Collector::open()?;
    if !options.dump {
        collector.skip_old();
    }
    let _bound = register_bound(&options.bound)?;
    let out = io::BufWriter::new(io::stdout().lock());
    let mut printer: Box<dyn Printer + '_> = if options.classic {
        Box::new(Classic {
            out,
            rounds: Rounds::new(options.hz.unwrap_or_else(kernel_hz)),
        })
    } else if options.csv {
        Box::new(Csv::new(out))
    } else if json {
        Box::new(Json(out))
    } else {
        Box::new(Plain { out, rows: 0 })
    };
    let limit = options.count.unwrap_or(u64::MAX);
    let rows = stream(
        &mut collector,
        &until,
        limit,
        options.dump,
        printer.as_mut(),
    )?;
    drop(printer);
    if options.classic {
        writeln!(io::stdout().lock(), "read {rows} profiled data")?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn record(options: &cli::Record) -> anyhow::Result<ExitCode> {
    let until = Until::new(options.duration)?;
    let mut collector = Collector::open()?;
    collector.skip_old();
    let _bound = register_bound(&options.bound)?;
    let file = File::create(&options.output).map_err(|error| {
        text::file_error(
            "write",
            &options.output,
            &error,
            "Choose another place with -o.",
        )
    })?;
    let mut printer = Csv::new(io::BufWriter::new(file));
    stream(&mut collector, &until, u64::MAX, false, &mut printer)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints until the time is over, a signal comes, `limit` rows are printed, or, if `dump`, the
/// buffer is empty. Returns how many rows were printed.
fn stream(
    collector: &mut Collector,
    until: &Until,
    limit: u64,
    dump: bool,
    printer: &mut dyn Printer,
) -> anyhow::Result<u64> {
    let mut rows = 0;
    'reading: while rows < limit {
        while let Some(seen) = collector.next() {
            rows += printer.sample(&seen, collector)?;
            if rows >= limit {
                break 'reading;
            }
        }
        printer.flush()?;
        match until.left() {
            Some(left) if !dump => drop(collector.wait(left)?),
            _ => break,
        }
    }
    if rows < limit {
        rows += printer.finish()?;
    }
    printer.flush()?;
    Ok(rows)
}
