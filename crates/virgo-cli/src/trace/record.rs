// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace run` and `attach`: from the kernel into a file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Signal;
use serde::Serialize;
use virgo::trace::{History, Target, TraceFile};

use crate::cli;
use crate::session::{Output, Planned, Running};
use crate::stop::Stop;
use crate::text;

/// How long to let records come together.
const GATHER: Duration = Duration::from_millis(20);

/// What was recorded.
#[derive(Serialize)]
struct Summary {
    file: String,
    bytes: u64,
    processes: usize,
    minor: u64,
    major: u64,
    dropped: u64,
    kernel_minor: u64,
    kernel_major: u64,
    map_changes: u64,
}

impl Summary {
    fn new(path: &Path, bytes: u64) -> anyhow::Result<Self> {
        let history = super::load(path)?;
        let usage = history.usage();
        let sum = |of: fn(&virgo::trace::End) -> u64| history.ends.iter().map(of).sum();
        Ok(Summary {
            file: path.display().to_string(),
            bytes,
            processes: history.processes.len(),
            minor: usage.minor,
            major: usage.major,
            dropped: sum(|end| end.dropped),
            kernel_minor: sum(|end| end.min_flt),
            kernel_major: sum(|end| end.maj_flt),
            map_changes: history.map_changes,
        })
    }

    fn tell(&self, quiet: bool, json: bool) -> anyhow::Result<()> {
        if json {
            writeln!(io::stdout(), "{}", serde_json::to_string(self)?)?;
        } else if !quiet {
            let recorded = self.minor + self.major;
            let counted = self.kernel_minor + self.kernel_major;
            text::remark(&format!(
                "{}: {} ({} major) of {} in {}; the kernel counted {}, {} dropped",
                self.file,
                text::plural(recorded, "fault"),
                text::count(self.major),
                text::plural(self.processes as u64, "process").replace("processs", "processes"),
                text::bytes(self.bytes),
                text::count(counted),
                text::count(self.dropped),
            ));
        }
        Ok(())
    }
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path)
        .map_err(|error| text::file_error("write", path, &error, "Choose another place."))
}

fn write_error(path: &Path, error: &io::Error) -> anyhow::Error {
    text::file_error("write", path, error, "Is the disk full?")
}

fn read_error(error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "cannot read the trace: {}. Was virgo-profiler unloaded?",
        text::reason(error)
    )
}

/// Starts the command stopped, traces it, and lets it go on.
fn start(options: &cli::TraceRun, quiet: bool) -> anyhow::Result<(Running, TraceFile)> {
    let argv: Vec<OsString> = options.command.clone();
    let trace = TraceFile::open()?;
    let output = if quiet {
        Output::Aside
    } else {
        Output::Inherit
    };
    let child = Running::start(&Planned::new(argv), output)?;
    child.wait_stopped()?;
    let target = Target::Process(child.pid().as_raw_pid());
    trace.start(target, options.follow, limit(options.buffer))?;
    child.signal(Signal::CONT);
    Ok((child, trace))
}

fn limit(kib: Option<u64>) -> u64 {
    kib.unwrap_or(0).saturating_mul(1024)
}

pub(crate) fn run(options: &cli::TraceRun, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = create(&options.out)?;
    // Signals of the terminal reach the command as well, which ends by them or not; the trace
    // ends with it.
    let stop = Stop::on_signals()?;
    let (mut child, mut trace) = start(options, json)?;
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match trace.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                bytes += length as u64;
                let records = buffer.get(..length).unwrap_or(&[]);
                if let Err(error) = out.write_all(records) {
                    child.signal(Signal::KILL);
                    return Err(write_error(&options.out, &error));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                if stop.is_set() {
                    child.signal(Signal::TERM);
                }
            }
            Err(error) => return Err(read_error(&error)),
        }
    }
    drop(trace);
    let status = child.reap()?;
    Summary::new(&options.out, bytes)?.tell(options.quiet, json)?;
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

pub(crate) fn attach(options: &cli::TraceAttach, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = create(&options.output)?;
    let stop = Stop::on_signals()?;
    let mut trace = TraceFile::open()?;
    trace.start(
        Target::Process(options.pid),
        options.follow,
        limit(options.buffer),
    )?;
    if !options.quiet && !json {
        text::remark(&format!("tracing process {}; Ctrl-C ends it", options.pid));
    }
    let end = options
        .duration
        .map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let mut stopped = false;
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let over = end.is_some_and(|end| Instant::now() >= end);
        if !stopped && (stop.is_set() || over) {
            stopped = true;
            match trace.stop() {
                Ok(()) => {}
                // It ended by itself just now.
                Err(error) if error.errno() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !stopped {
            if !readable(&trace, end)? {
                continue;
            }
            // Some at a time: else this would run for each fault.
            std::thread::sleep(GATHER);
        }
        match trace.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                bytes += length as u64;
                let records = buffer.get(..length).unwrap_or(&[]);
                out.write_all(records)
                    .map_err(|error| write_error(&options.output, &error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Stopped, and all was read.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => break,
            Err(error) => return Err(read_error(&error)),
        }
    }
    drop(trace);
    Summary::new(&options.output, bytes)?.tell(options.quiet, json)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for records, until the end at most, or a signal.
fn readable(trace: &TraceFile, end: Option<Instant>) -> anyhow::Result<bool> {
    let left = end.map_or(Duration::from_secs(3600), |end| {
        end.saturating_duration_since(Instant::now())
    });
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(trace, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(read_error(&errno.into())),
    }
}

/// How long a trace lasted, in nanoseconds, and when it began.
pub(super) fn span(history: &History) -> (u64, u64) {
    let start = history.begin.monotonic_ns;
    let last = history
        .faults
        .iter()
        .map(|fault| fault.time_ns)
        .chain(history.ends.iter().map(|end| end.time_ns))
        .max()
        .unwrap_or(start);
    (start, last.saturating_sub(start))
}
