// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Completions and manual pages, made from the command line's description.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::text;

pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "virgo", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes virgo.1, virgo-doctor.1, ..., virgo-profiler-run.1, and so on.
pub(crate) fn manual(directory: &Path) -> anyhow::Result<ExitCode> {
    let fail = |error: &io::Error| {
        text::file_error("write into", directory, error, "Choose another directory.")
    };
    fs::create_dir_all(directory).map_err(|error| fail(&error))?;
    let mut command = Cli::command();
    command.build();
    clap_mangen::generate_to(command, directory).map_err(|error| fail(&error))?;
    Ok(ExitCode::SUCCESS)
}
