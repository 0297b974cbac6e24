// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command `virgo`: looks after VIRGO's kernel modules and reads their profiler.

#![forbid(unsafe_code)]

mod analytics;
mod board;
mod case;
mod classic;
mod cli;
mod collect;
mod cpupool;
mod doctor;
mod events;
mod exec;
mod export;
mod fs;
mod gate;
mod learn;
mod mem;
mod monitor;
mod nodes;
mod pages;
mod plot;
mod plotfile;
mod profiler;
mod programs;
mod queue;
mod report;
mod row;
mod run;
mod session;
mod status;
mod stop;
mod text;
mod top;
mod trace;
mod work;

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = match cli::Cli::try_parse_from(cli::arguments(std::env::args_os())) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output, where a closed pipe is no fault.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(2),
            };
        }
    };
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) if closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            text::complain(&error);
            if error.is::<text::Usage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The reader of standard output has seen enough, as `head` does.
fn closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn dispatch(arguments: cli::Cli) -> anyhow::Result<ExitCode> {
    let json = arguments.json;
    match arguments.command {
        cli::Command::Doctor => doctor::run(json),
        cli::Command::Status => status::run(json),
        cli::Command::Version => status::version(json),
        cli::Command::Profiler { command } => profiler::run(command, json),
        cli::Command::Mem { command } => mem::run(command, json),
        cli::Command::Call(options) => cpupool::call(&options, json),
        cli::Command::Functions(options) => cpupool::functions(&options, json),
        cli::Command::Exec(options) => exec::exec(&options, json),
        cli::Command::Map(options) => exec::map(&options, json),
        cli::Command::Runs(options) => exec::runs(&options, json),
        cli::Command::Programs(options) => programs::run(&options, json),
        cli::Command::Nodes(options) => nodes::run(&options, json),
        cli::Command::Fs { command } => fs::run(command, json),
        cli::Command::Queue { command } => queue::run(command, json),
        cli::Command::Events { source, command } => events::run(command, &source, json),
        cli::Command::Export { listen } => export::run(listen, json),
        cli::Command::Analytics { command } => analytics::run(command, json),
        cli::Command::Learn { command } => learn::run(command, json),
        cli::Command::Trace { command } => trace::run(command, json),
        cli::Command::Tracepgfault { out, command } => {
            trace::run(cli::Trace::classic(out, command), json)
        }
        cli::Command::Work(options) => work::run(&options),
        cli::Command::Completions { shell } => pages::completions(shell),
        cli::Command::Mangen { directory } => pages::manual(&directory),
        cli::Command::Gate { parent, command } => gate::run(parent, &command),
    }
}
