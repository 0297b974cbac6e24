// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace`: page faults of a process, one by one.

mod chart;
mod diff;
mod heat;
mod record;
mod show;
mod simulate;
mod wss;

pub(crate) use chart::{draw, Chart, HEIGHT};

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use virgo::trace::{Fault, History, FAULT_EXEC, FAULT_MAJOR, FAULT_WRITE};

use crate::cli;
use crate::text;

pub(crate) fn run(command: cli::Trace, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        cli::Trace::Run(options) => record::run(&options, json),
        cli::Trace::Attach(options) => record::attach(&options, json),
        cli::Trace::Show(options) => show::run(&options, json),
        cli::Trace::Plot(options) => chart::run(&options),
        cli::Trace::Heat(options) => heat::run(&options, json),
        cli::Trace::Wss(options) => wss::run(&options, json),
        cli::Trace::Simulate(options) => simulate::run(&options, json),
        cli::Trace::Diff(options) => diff::run(&options, json),
    }
}

/// Reads a trace; says on standard error what is missing in it.
fn load(path: &Path) -> anyhow::Result<History> {
    let file = File::open(path)
        .map_err(|error| text::file_error("read", path, &error, "Look at its name."))?;
    let history = History::read(file).map_err(|error| {
        anyhow::anyhow!(
            "cannot read {}: {error}. Record one with \"virgo trace run {} -- COMMAND\".",
            path.display(),
            path.display()
        )
    })?;
    if history.dropped > 0 || history.dropped_maps > 0 {
        text::remark(&format!(
            "{}: {} and {} of maps are missing, as the reader was too slow",
            path.display(),
            text::plural(history.dropped, "fault"),
            text::plural(history.dropped_maps, "record")
        ));
    }
    if history.cut {
        text::remark(&format!(
            "{}: it ends in the midst of a record; what is before is used",
            path.display()
        ));
    }
    Ok(history)
}

/// What a fault is coloured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Read,
    Write,
    Exec,
    Major,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Read, Kind::Write, Kind::Exec, Kind::Major];

    fn of(fault: &Fault) -> Kind {
        if fault.is(FAULT_MAJOR) {
            Kind::Major
        } else if fault.is(FAULT_EXEC) {
            Kind::Exec
        } else if fault.is(FAULT_WRITE) {
            Kind::Write
        } else {
            Kind::Read
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Exec => "execute",
            Kind::Major => "major",
        }
    }
}
