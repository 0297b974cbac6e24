// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo profiler plot`: drawing recorded samples.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{self, By};
use crate::plot::{self, Chart, Data, Format, Point};
use crate::row::Row;
use crate::text::{self, Usage};

pub(crate) fn run(options: &cli::Plot) -> anyhow::Result<ExitCode> {
    let mut outputs = Vec::new();
    for path in &options.output {
        let format = Format::of(path).ok_or_else(|| {
            Usage(format!(
                "cannot draw {}: the name ends neither in .svg nor in .png. Choose one of them.",
                path.display()
            ))
        })?;
        outputs.push((path, format));
    }
    let (data, lost) = read(&options.input)?;
    if data.is_empty() {
        anyhow::bail!(
            "cannot draw {}: it holds no samples. Record some with \"virgo profiler run --csv\".",
            options.input.display()
        );
    }
    let panels = match options.by {
        None => plot::BOTH.to_vec(),
        Some(by) => vec![by],
    };
    let title = match options.by {
        None => "Page faults and CPU over time",
        Some(By::Faults) => "Page faults over time",
        Some(By::Cpu) => "CPU over time",
        Some(By::Rss) => "Resident memory over time",
    };
    let chart = Chart {
        title: options.title.clone().unwrap_or_else(|| title.into()),
        notes: format!(
            "sampled by virgo-profiler, {} lost",
            text::plural(lost, "record")
        ),
        panels,
    };
    for (path, format) in outputs {
        plot::write(&chart, &data, path, format)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a CSV file; returns its samples, and how many were lost.
fn read(path: &Path) -> anyhow::Result<(Data, u64)> {
    let file = File::open(path)
        .map_err(|error| text::file_error("read", path, &error, "Look at its name."))?;
    let mut data = Data::default();
    let mut lost: u64 = 0;
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    for row in reader.deserialize::<Row>() {
        let row = row.map_err(|error| not_ours(path, &error))?;
        lost = lost.saturating_add(row.lost);
        let label = if row.label.is_empty() {
            &row.comm
        } else {
            &row.label
        };
        data.add(row.id, row.pid, row.tid, label, Point::from(&row));
    }
    Ok((data, lost))
}

fn not_ours(path: &Path, error: &csv::Error) -> anyhow::Error {
    let why = match error.kind() {
        csv::ErrorKind::Io(error) => text::reason(error),
        csv::ErrorKind::Deserialize { pos, err } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} is not a sample: {err}")
        }
        csv::ErrorKind::UnequalLengths { pos, .. } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has another number of columns than the heading")
        }
        csv::ErrorKind::Utf8 { .. } => text::reason(&io::ErrorKind::InvalidData.into()),
        _ => error.to_string(),
    };
    anyhow::anyhow!(
        "cannot read {}: {why}. Give a file written by \"virgo profiler run --csv\", \"record\" \
         or \"monitor --csv\".",
        path.display()
    )
}
