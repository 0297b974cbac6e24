// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Running programs, such as `insmod-scripts/load`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// For a shell: control groups where programs' groups are made, in a guest that nothing has mounted
/// them in.
pub const MOUNT_GROUPS: &str =
    "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup";

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

fn run_command(command: &mut Command) -> Outcome {
    let output = command
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program of the PATH, or by its path.
#[must_use]
pub fn run(program: &str, arguments: &[&str]) -> Outcome {
    run_command(Command::new(program).args(arguments))
}

/// Runs a program as another user. std drops the supplementary groups as well.
#[must_use]
pub fn run_as(user: u32, program: &str, arguments: &[&str]) -> Outcome {
    run_command(Command::new(program).args(arguments).uid(user).gid(user))
}
