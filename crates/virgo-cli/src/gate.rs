// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The process that becomes a profiled command.
//!
//! `profiler run` starts this program again as `virgo gate`, which stops itself. The parent sees
//! it stopped, registers it, and lets it go on; only then it becomes the command. So the command
//! is registered before its first instruction, without ptrace and without a descriptor that the
//! command would inherit.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{
    getpid, getppid, kill_process, set_parent_process_death_signal, Pid, Signal,
};

use crate::text;

pub(crate) fn run(parent: i32, command: &[OsString]) -> anyhow::Result<ExitCode> {
    // If the parent dies now, nobody would ever let this process go on.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        anyhow::bail!("cannot start: this is a part of \"virgo profiler run\". Use that instead.");
    }
    kill_process(getpid(), Signal::STOP)?;
    set_parent_process_death_signal(None)?;
    let Some((program, arguments)) = command.split_first() else {
        anyhow::bail!("cannot start: there is no command. Give one after \"--\".");
    };
    let error = Command::new(program).args(arguments).exec();
    text::remark(&format!(
        "cannot run {}: {}. Look at its name, and at PATH.",
        program.to_string_lossy(),
        text::reason(&error)
    ));
    // As shells do.
    Ok(ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    }))
}
