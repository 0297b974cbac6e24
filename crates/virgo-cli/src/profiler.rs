// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo profiler`: the short commands, and the way to the others.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use virgo::{Profiler, Task};

use crate::cli;
use crate::text::{self, Align, Table};
use crate::{case, monitor, plotfile, run, top};

pub(crate) fn run(command: cli::Profiler, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        cli::Profiler::Run(options) => run::run(&options, json),
        cli::Profiler::Register(tasks) => each(&tasks, |profiler, task| profiler.register(task)),
        cli::Profiler::Unregister(tasks) => {
            each(&tasks, |profiler, task| profiler.unregister(task))
        }
        cli::Profiler::List => list(json),
        cli::Profiler::Rate { hz: Some(hz) } => {
            Profiler::open()?.set_rate(hz)?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Profiler::Rate { hz: None } => rate(json),
        cli::Profiler::Monitor(options) => monitor::run(&options, json),
        cli::Profiler::Top(options) => top::run(&options, json),
        cli::Profiler::Plot(options) => plotfile::run(&options),
        cli::Profiler::Record(options) => monitor::record(&options),
        cli::Profiler::Case(options) => case::run(&options, json),
    }
}

/// Does the same to every task named; goes on after one that failed.
fn each(
    tasks: &cli::Tasks,
    act: impl Fn(&Profiler, &Task<'_>) -> virgo::Result<u64>,
) -> anyhow::Result<ExitCode> {
    let profiler = Profiler::open()?;
    let mut code = ExitCode::SUCCESS;
    for pid in &tasks.pids {
        let task = if tasks.thread {
            Task::thread(*pid)
        } else {
            Task::process(*pid)
        };
        if let Err(error) = act(&profiler, &task) {
            text::complain(&error.into());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

#[derive(Serialize)]
struct Listed {
    id: u64,
    pid: u32,
    tid: u32,
    kind: &'static str,
    bound: bool,
    samples: u64,
    comm: String,
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let entries = Profiler::open()?.list()?;
    let listed = entries.into_iter().map(|entry| Listed {
        id: entry.id,
        pid: entry.pid,
        tid: entry.tid,
        kind: if entry.thread { "thread" } else { "process" },
        bound: entry.bound,
        samples: entry.samples,
        comm: entry.comm.to_string(),
    });
    let mut out = io::stdout().lock();
    if json {
        let listed: Vec<_> = listed.collect();
        writeln!(out, "{}", serde_json::to_string(&listed)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("PID", Align::Right),
        ("TID", Align::Right),
        ("KIND", Align::Left),
        ("ENDS", Align::Left),
        ("SAMPLES", Align::Right),
        ("COMMAND", Align::Left),
    ]);
    for entry in listed {
        table.row(vec![
            entry.pid.to_string(),
            entry.tid.to_string(),
            entry.kind.into(),
            if entry.bound {
                "with its profiler"
            } else {
                "with the task"
            }
            .into(),
            entry.samples.to_string(),
            entry.comm,
        ]);
    }
    if !table.is_empty() {
        write!(out, "{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rate(json: bool) -> anyhow::Result<ExitCode> {
    let hz = Profiler::open()?.rate()?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{{\"rate_hz\":{hz}}}")?;
    } else {
        writeln!(out, "{hz} Hz")?;
    }
    Ok(ExitCode::SUCCESS)
}
