// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Running commands with the profiler on them, from their first instruction to their end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    getpid, kill_process, pidfd_open, waitid, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions,
};
use virgo::{Profiler, Sample, Task};

use crate::collect::{Collector, Seen};
use crate::monitor::csv_error;
use crate::plot::{Data, Point};
use crate::row::Row;
use crate::stop::Stop;
use crate::text;

/// What to run, and what to keep.
pub(crate) struct Plan {
    pub(crate) commands: Vec<Planned>,
    pub(crate) rate: Option<u32>,
    pub(crate) csv: Option<PathBuf>,
    /// Keep every sample, to draw them.
    pub(crate) keep: bool,
    pub(crate) quiet: bool,
    pub(crate) output: Output,
}

/// Where the commands' standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Where this program's goes.
    Inherit,
    /// To standard error, where it is not mixed with this program's.
    Aside,
    /// Nowhere.
    Discard,
}

/// One command.
pub(crate) struct Planned {
    /// What tables and drawings call it.
    pub(crate) label: String,
    pub(crate) argv: Vec<OsString>,
}

impl Planned {
    /// A command that is called what it is.
    pub(crate) fn new(argv: Vec<OsString>) -> Self {
        let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
        Planned {
            label: words.join(" "),
            argv,
        }
    }
}

/// One command's figures.
pub(crate) struct Outcome {
    pub(crate) label: String,
    pub(crate) status: ExitStatus,
    pub(crate) first: Sample,
    pub(crate) last: Sample,
    pub(crate) peak_rss: u64,
    pub(crate) samples: u64,
}

impl Outcome {
    /// As a shell says it: the exit code, or 128 and the signal.
    pub(crate) fn code(&self) -> u8 {
        let code = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 1,
        };
        u8::try_from(code).unwrap_or(1)
    }
}

/// All commands' figures.
pub(crate) struct Finished {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) data: Data,
    pub(crate) rate_hz: u32,
    pub(crate) lost: u64,
    /// Rounds that the kernel skipped meanwhile.
    pub(crate) missed: u64,
    /// A signal ended it.
    pub(crate) interrupted: bool,
}

/// A child that has been started, and not yet been reaped. Killed if dropped.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    label: String,
    ended: bool,
    reaped: bool,
}

impl Running {
    /// Starts the gate, which will become the command.
    pub(crate) fn start(command: &Planned, output: Output) -> anyhow::Result<Self> {
        let label = command.label.clone();
        let stdout = match output {
            Output::Inherit => Stdio::inherit(),
            Output::Aside => Stdio::from(io::stderr().as_fd().try_clone_to_owned()?),
            Output::Discard => Stdio::null(),
        };
        let child = Command::new("/proc/self/exe")
            .arg("gate")
            .arg("--parent")
            .arg(getpid().as_raw_pid().to_string())
            .arg("--")
            .args(&command.argv)
            .stdout(stdout)
            .spawn()
            .map_err(|error| {
                anyhow::anyhow!(
                    "cannot start {label}: {}. Is /proc mounted?",
                    text::reason(&error)
                )
            })?;
        let pid = Pid::from_child(&child);
        Ok(Running {
            child,
            pid,
            label,
            ended: false,
            reaped: false,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the gate has stopped itself.
    pub(crate) fn wait_stopped(&self) -> anyhow::Result<()> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = loop {
            match waitid(WaitId::Pid(self.pid), options) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        match status {
            Some(status) if status.stopped() => Ok(()),
            _ => anyhow::bail!(
                "cannot start {}: it ended before it began. Try it without the profiler.",
                self.label
            ),
        }
    }

    /// Whether it has ended. It is not reaped, so that the kernel still has its figures.
    fn has_ended(&mut self) -> bool {
        if !self.ended {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            self.ended = match waitid(WaitId::Pid(self.pid), options) {
                Ok(status) => status
                    .is_some_and(|status| status.exited() || status.killed() || status.dumped()),
                Err(errno) => errno == Errno::CHILD,
            };
        }
        self.ended
    }

    /// Sends a signal, unless it was reaped.
    pub(crate) fn signal(&self, signal: Signal) {
        if !self.reaped {
            // It may have ended just now, which is what the signal is for.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Waits for its end.
    pub(crate) fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            let _ = self.reap();
        }
    }
}

/// The rate, set back when dropped.
struct Rate<'a> {
    profiler: &'a Profiler,
    old: u32,
    new: u32,
}

impl<'a> Rate<'a> {
    fn set(profiler: &'a Profiler, wanted: Option<u32>) -> virgo::Result<Self> {
        let old = profiler.rate()?;
        let new = wanted.unwrap_or(old);
        if new != old {
            profiler.set_rate(new)?;
        }
        Ok(Rate { profiler, old, new })
    }
}

impl Drop for Rate<'_> {
    fn drop(&mut self) {
        // Unless somebody else has changed it meanwhile.
        if self.new != self.old && self.profiler.rate().is_ok_and(|now| now == self.new) {
            let _ = self.profiler.set_rate(self.old);
        }
    }
}

/// What has been seen of one registration.
#[derive(Default)]
struct Watched {
    first: Sample,
    last: Sample,
    peak_rss: u64,
    samples: u64,
    done: bool,
}

/// Takes the samples of this session's own registrations.
struct Watch {
    tasks: HashMap<u64, (usize, Watched)>,
    labels: Vec<String>,
    csv: Option<csv::Writer<BufWriter<File>>>,
    data: Option<Data>,
    lost: u64,
    samples: u64,
}

impl Watch {
    fn take_all(&mut self, collector: &mut Collector) -> anyhow::Result<()> {
        while let Some(seen) = collector.next() {
            self.take(&seen)?;
        }
        if let Some(csv) = &mut self.csv {
            csv.flush()?;
        }
        Ok(())
    }

    fn take(&mut self, seen: &Seen) -> anyhow::Result<()> {
        self.lost += seen.lost;
        let sample = &seen.sample;
        let Some((index, watched)) = self.tasks.get_mut(&sample.id) else {
            return Ok(());
        };
        if watched.samples == 0 {
            watched.first = *sample;
        }
        // A last record of a task that has gone may have no memory and no time to tell of.
        watched.last = *sample;
        watched.peak_rss = watched.peak_rss.max(sample.rss_bytes);
        watched.samples += 1;
        watched.done |= sample.is_last();
        self.samples += 1;
        let label = self.labels.get(*index).map_or("", String::as_str);
        if let Some(csv) = &mut self.csv {
            csv.serialize(Row::new(seen, label)).map_err(csv_error)?;
        }
        if let Some(data) = &mut self.data {
            data.add(
                sample.id,
                sample.pid,
                sample.tid,
                label,
                Point::from(sample),
            );
        }
        Ok(())
    }

    fn all(&self, condition: impl Fn(&Watched) -> bool) -> bool {
        self.tasks.values().all(|(_, watched)| condition(watched))
    }
}

/// How long the kernel may take for a first or a last record, beyond two rounds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long commands may take to end after a signal, before they are killed.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the plan to its end, or until a signal comes.
pub(crate) fn run(plan: Plan) -> anyhow::Result<Finished> {
    let stop = Stop::on_signals()?;
    let profiler = Profiler::open()?;
    let mut collector = Collector::open()?;
    collector.skip_old();
    let csv = match &plan.csv {
        None => None,
        Some(path) => {
            let file = File::create(path).map_err(|error| {
                text::file_error("write", path, &error, "Choose another place with --csv.")
            })?;
            Some(csv::Writer::from_writer(BufWriter::new(file)))
        }
    };
    let rate = Rate::set(&profiler, plan.rate)?;
    let round = Duration::from_secs(1) / rate.new.max(1);
    let missed_before = collector.header().missed_ticks;

    // All gates first, then all registrations, then all go: they begin at the same time.
    let mut running = Vec::new();
    for command in &plan.commands {
        running.push(Running::start(command, plan.output)?);
    }
    let mut watch = Watch {
        tasks: HashMap::new(),
        labels: running
            .iter()
            .map(|running| running.label.clone())
            .collect(),
        csv,
        data: plan.keep.then(Data::default),
        lost: 0,
        samples: 0,
    };
    for child in &running {
        child.wait_stopped()?;
    }
    for (index, child) in running.iter().enumerate() {
        let pidfd: OwnedFd = pidfd_open(child.pid, PidfdFlags::empty())?;
        let id = profiler.register(&Task::pidfd(pidfd.as_fd()).bind())?;
        watch.tasks.insert(id, (index, Watched::default()));
    }
    // The first record is what all figures are counted from.
    let deadline = Instant::now() + round * 2 + PATIENCE;
    loop {
        watch.take_all(&mut collector)?;
        if watch.all(|watched| watched.samples > 0) || Instant::now() >= deadline {
            break;
        }
        collector.wait(round)?;
    }
    for child in &running {
        child.signal(Signal::CONT);
    }

    let mut progress = Progress::new(plan.quiet);
    let mut killing: Option<Instant> = None;
    let mut last_records: Option<Instant> = None;
    loop {
        collector.wait(Duration::from_millis(100))?;
        watch.take_all(&mut collector)?;
        progress.show(&watch);
        // Every child is asked, so no short cut with `all`.
        let ended = running
            .iter_mut()
            .filter_map(|child| child.has_ended().then_some(()))
            .count();
        if ended == running.len() {
            let deadline =
                *last_records.get_or_insert_with(|| Instant::now() + round * 2 + PATIENCE);
            if watch.all(|watched| watched.done) || Instant::now() >= deadline {
                break;
            }
        }
        if stop.is_set() {
            match killing {
                None => {
                    running.iter().for_each(|child| child.signal(Signal::TERM));
                    killing = Some(Instant::now() + GRACE);
                }
                Some(deadline) if Instant::now() >= deadline => {
                    running.iter().for_each(|child| child.signal(Signal::KILL));
                }
                Some(_) => {}
            }
        }
    }
    progress.end();

    let mut watched: HashMap<usize, Watched> = watch.tasks.into_values().collect();
    let mut outcomes = Vec::new();
    for (index, child) in running.iter_mut().enumerate() {
        let watched = watched.remove(&index).unwrap_or_default();
        outcomes.push(Outcome {
            label: child.label.clone(),
            status: child.reap()?,
            first: watched.first,
            last: watched.last,
            peak_rss: watched.peak_rss,
            samples: watched.samples,
        });
    }
    Ok(Finished {
        outcomes,
        data: watch.data.unwrap_or_default(),
        rate_hz: rate.new,
        lost: watch.lost,
        missed: collector
            .header()
            .missed_ticks
            .saturating_sub(missed_before),
        interrupted: killing.is_some(),
    })
}

/// A line on standard error that says how far it is: over itself on a terminal, else one now and
/// then.
struct Progress {
    quiet: bool,
    terminal: bool,
    began: Instant,
    next: Instant,
    shown: usize,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let began = Instant::now();
        let terminal = io::stderr().is_terminal();
        Progress {
            quiet,
            terminal,
            began,
            next: began + Progress::pause(terminal),
            shown: 0,
        }
    }

    /// Between two lines.
    fn pause(terminal: bool) -> Duration {
        Duration::from_millis(if terminal { 500 } else { 5_000 })
    }

    fn show(&mut self, watch: &Watch) {
        let now = Instant::now();
        if self.quiet || now < self.next {
            return;
        }
        self.next = now + Progress::pause(self.terminal);
        let faults: u64 = watch
            .tasks
            .values()
            .map(|(_, watched)| watched.last.faults().saturating_sub(watched.first.faults()))
            .sum();
        let left = watch
            .tasks
            .values()
            .filter(|(_, watched)| !watched.done)
            .count();
        let line = format!(
            "{:.0} s: {} running, {}, {}",
            now.duration_since(self.began).as_secs_f64(),
            text::plural(left as u64, "command"),
            text::plural(watch.samples, "sample"),
            text::plural(faults, "fault"),
        );
        if self.terminal {
            let width = self.shown.max(line.len());
            let _ = write!(io::stderr(), "\r{line:<width$}");
            self.shown = width;
        } else {
            text::remark(&line);
        }
    }

    fn end(&self) {
        if self.shown > 0 {
            let _ = write!(io::stderr(), "\r{:width$}\r", "", width = self.shown);
        }
    }
}
