// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo profiler run`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli;
use crate::plot::{self, Chart, Format};
use crate::report::Report;
use crate::session::{self, Finished, Output, Plan, Planned};
use crate::text::{self, Usage};

pub(crate) fn run(options: &cli::Run, json: bool) -> anyhow::Result<ExitCode> {
    let mut commands = Vec::new();
    for line in &options.commands {
        commands.push(Planned::new(split(line)?));
    }
    if !options.argv.is_empty() {
        commands.push(Planned::new(options.argv.clone()));
    }
    let drawings = [(&options.svg, Format::Svg), (&options.png, Format::Png)];
    let finished = session::run(Plan {
        commands,
        rate: options.rate,
        csv: options.csv.clone(),
        keep: drawings.iter().any(|(path, _)| path.is_some()),
        quiet: options.quiet,
        output: if json { Output::Aside } else { Output::Inherit },
    })?;
    for (path, format) in drawings {
        if let Some(path) = path {
            draw(&finished, options.title.as_deref(), path, format)?;
        }
    }
    let report = Report::from(&finished);
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    if finished.interrupted {
        text::remark("ended by a signal; what was written until then is complete");
    }
    let failed = report
        .commands
        .iter()
        .map(|line| line.exit)
        .find(|code| *code != 0);
    Ok(ExitCode::from(failed.unwrap_or(0)))
}

/// Splits a command as a shell does, without its other powers.
fn split(line: &str) -> anyhow::Result<Vec<OsString>> {
    match shlex::split(line) {
        Some(words) if !words.is_empty() => Ok(words.into_iter().map(OsString::from).collect()),
        _ => Err(Usage(format!(
            "cannot understand the command {line:?}: it is empty, or a quote is not closed. \
             Quote it as for a shell."
        ))
        .into()),
    }
}

/// Draws both panels of a finished run.
pub(crate) fn draw(
    finished: &Finished,
    title: Option<&str>,
    path: &Path,
    format: Format,
) -> anyhow::Result<()> {
    let chart = Chart {
        title: title.unwrap_or("Page faults and CPU over time").into(),
        notes: format!(
            "sampled at {} Hz by virgo-profiler, {} lost",
            finished.rate_hz,
            text::plural(finished.lost, "record"),
        ),
        panels: plot::BOTH.to_vec(),
    };
    plot::write(&chart, &finished.data, path, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_at_spaces_and_quotes() {
        assert_eq!(split("sh -c 'a b; c'").unwrap(), ["sh", "-c", "a b; c"]);
        for wrong in ["", "  ", "a 'b"] {
            assert!(split(wrong).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
    }
}
