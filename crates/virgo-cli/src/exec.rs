// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo exec`, `virgo map`, `virgo runs`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, IsTerminal as _, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context as _};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::io::Errno;
use serde_json::{json, Value};
use virgo::programs::{End, Execution, Killed, Limits, Outcome, Ran, Run};
use virgo::{Control, Node, NodeId, NodePolicy};

use crate::cli;
use crate::cpupool::{address, each_node};
use crate::nodes::{find, policy_of};
use crate::queue;
use crate::stop::Stop;
use crate::text::{self, Align, Table};

/// How long to wait for a program's first news, and until it is looked at again.
const FIRST: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_millis(20);
/// Seconds that virgo-queue may keep a program running where nothing is said; its own bound and the
/// node's are smaller.
const LONGEST: f64 = 86_400.0;
/// How often what is printed is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often a program that may run twice is run, where its node goes down.
const TRIES: u32 = 3;
/// Exit statuses as of timeout(1) and of shells.
const TIME_OVER: u8 = 124;
const NOT_RUN: u8 = 126;
const SIGNALLED: u8 = 128;
const INTERRUPTED: u8 = SIGNALLED + 2;

fn limits(options: &cli::RunLimits) -> Limits {
    Limits {
        time: options.time.map_or(Duration::ZERO, Duration::from_secs_f64),
        processes: options.processes.unwrap_or(0),
        memory: options.memory.unwrap_or(0),
        output: options.output.unwrap_or(0),
    }
}

fn unread(error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot read standard input: {}", text::reason(error))
}

/// The errno of an error of the library.
fn errno(error: &virgo::Error) -> Option<Errno> {
    error.errno().map(Errno::from_raw_os_error)
}

/// Whether the node of a run is lost.
fn lost(error: &virgo::Error) -> bool {
    matches!(errno(error), Some(Errno::HOSTDOWN | Errno::TIMEDOUT))
}

/// Starts a program and follows it to its end. What it writes goes to `each`.
fn follow(
    control: &Control,
    run: &mut Run,
    stop: &Stop,
    mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
) -> anyhow::Result<Result<End, virgo::Error>> {
    let mut killed = false;
    // A short program's end is waited for in the kernel. A longer one is looked at now and then: a
    // module in which somebody always waits could not be unloaded.
    let mut wait = FIRST;
    loop {
        if stop.is_set() && !killed {
            killed = true;
            // One that has ended meanwhile needs no killing.
            if let Err(error) = control.kill_run(run.node, run.id) {
                if errno(&error) != Some(Errno::SRCH) {
                    return Ok(Err(error));
                }
            }
        }
        let news = match control.follow(run, wait) {
            Ok(news) => news,
            Err(error) if errno(&error) == Some(Errno::INTR) => continue,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = each(&news.out, &news.err) {
            // Nobody reads it: as with a program that writes into a pipe that is closed.
            let _ = control.kill_run(run.node, run.id);
            bail!(
                "cannot write the program's output: {}",
                text::reason(&error)
            );
        }
        if let Some(end) = news.end {
            return Ok(Ok(end));
        }
        if !wait.is_zero() {
            wait = Duration::ZERO;
        } else if news.out.is_empty() && news.err.is_empty() {
            thread::sleep(AGAIN);
        }
    }
}

/// What this command ends with, after a program.
fn status(end: &End, stopped: bool) -> u8 {
    match (end.outcome, end.killed) {
        (_, Some(Killed::Asked)) if stopped => INTERRUPTED,
        (_, Some(Killed::Time)) => TIME_OVER,
        (Outcome::Exit(status), _) => u8::try_from(status).unwrap_or(1),
        (Outcome::Signal(signal), _) => SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(0)),
        (Outcome::Failed(_), _) => NOT_RUN,
    }
}

/// What is to be said of an end beside its status; nothing of one that is as usual.
fn words(end: &End) -> Option<String> {
    match (end.outcome, end.killed) {
        (Outcome::Exit(_), None) => None,
        (outcome, None) => {
            let why = match outcome {
                Outcome::Signal(25) => "; it wrote more than allowed (--output)",
                Outcome::Signal(9) => "; perhaps it took more memory than allowed (--memory)",
                _ => "",
            };
            Some(format!("{outcome}{why}"))
        }
        (_, Some(killed)) => Some(killed.to_string()),
    }
}

fn usage(end: &End) -> Value {
    json!({
        "elapsed_ms": end.elapsed.as_secs_f64() * 1e3,
        "user_ms": end.user.as_secs_f64() * 1e3,
        "system_ms": end.system.as_secs_f64() * 1e3,
        "peak_bytes": end.peak,
    })
}

fn outcome(end: &End) -> Value {
    let (exit, signal) = match end.outcome {
        Outcome::Exit(status) => (Some(status), None),
        Outcome::Signal(signal) => (None, Some(signal)),
        Outcome::Failed(_) => (None, None),
    };
    json!({
        "exit": exit,
        "signal": signal,
        "failed": matches!(end.outcome, Outcome::Failed(_)).then(|| end.outcome.to_string()),
        "killed": end.killed.map(|killed| killed.to_string()),
    })
}

pub(crate) fn exec(options: &cli::Exec, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let stop = Stop::on_signals()?;
    let mut input = Vec::new();
    if options.stdin {
        io::stdin()
            .lock()
            .read_to_end(&mut input)
            .map_err(|error| unread(&error))?;
    }
    let (program, arguments) = options.command.split_first().context("no program")?;
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let policy = policy_of(
        &control,
        options.place.policy,
        options.place.node.as_deref(),
    )?;
    let execution = Execution {
        program,
        arguments: &arguments,
        input: &input,
        policy,
        limits: limits(&options.limits),
    };
    if options.later {
        let request = execution.request(options.place.idempotent)?;
        let time = options.limits.time.unwrap_or(LONGEST);
        return queue::put_for("virgo.cpupool", &request, time, json);
    }
    let mut tries = if options.place.idempotent { TRIES } else { 1 };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let hold = json || options.place.idempotent;
    let (run, end) = loop {
        tries -= 1;
        let mut run = match control.start(&execution) {
            Ok(run) => run,
            Err(error) if lost(&error) && tries > 0 => continue,
            Err(error) => return Err(error.into()),
        };
        let ended = follow(&control, &mut run, &stop, |more, errors| {
            if hold {
                out.extend_from_slice(more);
                err.extend_from_slice(errors);
                return Ok(());
            }
            write_all(more, errors)
        })?;
        match ended {
            Ok(end) => break (run, end),
            Err(error) if lost(&error) && tries > 0 => {
                out.clear();
                err.clear();
            }
            Err(error) => {
                write_all(&out, &err)?;
                return Err(error.into());
            }
        }
    };
    let name = program.to_string_lossy();
    show(
        &control,
        ("program", json!(name), &name),
        (run.node, &end),
        (&out, &err),
        json,
    )?;
    if options.verbose && !json {
        text::remark(&format!(
            "{} on {}: {}, {:.3} s, user {:.3} s, system {:.3} s, memory {}",
            program.to_string_lossy(),
            address(&control.nodes()?.nodes, run.node),
            end.outcome,
            end.elapsed.as_secs_f64(),
            end.user.as_secs_f64(),
            end.system.as_secs_f64(),
            text::bytes(end.peak),
        ));
    }
    Ok(status(&end, stop.is_set()).into())
}

/// Prints what a program has written and how it ended: `what` it is to JSON, and in words.
fn show(
    control: &Control,
    what: (&str, Value, &str),
    (node, end): (NodeId, &End),
    (out, err): (&[u8], &[u8]),
    json: bool,
) -> anyhow::Result<()> {
    if json {
        let mut value = json!({
            what.0: what.1,
            "node": node.to_string(),
            "address": address(&control.nodes()?.nodes, node),
            "output": String::from_utf8_lossy(out),
            "error_output": String::from_utf8_lossy(err),
        });
        merge(&mut value, outcome(end));
        merge(&mut value, usage(end));
        writeln!(io::stdout(), "{value}")?;
        return Ok(());
    }
    write_all(out, err)?;
    if let Some(words) = words(end) {
        let address = address(&control.nodes()?.nodes, node);
        text::remark(&format!("{} on {address}: {words}", what.2));
    }
    Ok(())
}

/// A program that virgo-queue had run, for `virgo queue result`.
pub(crate) fn ran(id: u64, ran: &Ran, json: bool) -> anyhow::Result<ExitCode> {
    show(
        &Control::open()?,
        ("request", json!(id), &format!("request {id}")),
        (ran.node, &ran.end),
        (&ran.out, &ran.err),
        json,
    )?;
    Ok(status(&ran.end, false).into())
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

fn write_all(out: &[u8], err: &[u8]) -> io::Result<()> {
    if !out.is_empty() {
        let mut stdout = io::stdout().lock();
        stdout.write_all(out)?;
        stdout.flush()?;
    }
    if !err.is_empty() {
        io::stderr().lock().write_all(err)?;
    }
    Ok(())
}

/// What became of one line.
struct Item {
    node: Option<NodeId>,
    out: Vec<u8>,
    err: Vec<u8>,
    result: Result<End, String>,
}

/// How many lines may be done before the first one that is not.
fn ahead(jobs: usize) -> usize {
    64 + 4 * jobs
}

struct Mapping<'a> {
    options: &'a cli::Map,
    lines: Vec<Vec<u8>>,
    policy: NodePolicy,
    stop: Stop,
    next: AtomicUsize,
    printed: Mutex<usize>,
    more: Condvar,
}

impl Mapping<'_> {
    /// The command with a line in place of each `{}`, or behind it.
    fn command(&self, line: &[u8]) -> Vec<OsString> {
        let mut found = false;
        let mut words: Vec<OsString> = self
            .options
            .command
            .iter()
            .enumerate()
            .map(|(index, word)| {
                let mut made = Vec::new();
                let mut rest = word.as_bytes();
                // The program itself is never taken from a line.
                while let Some(at) = (index > 0)
                    .then(|| rest.windows(2).position(|two| two == b"{}"))
                    .flatten()
                {
                    made.extend_from_slice(&rest[..at]);
                    made.extend_from_slice(line);
                    rest = &rest[at + 2..];
                    found = true;
                }
                made.extend_from_slice(rest);
                OsString::from_vec(made)
            })
            .collect();
        if !found {
            words.push(OsString::from_vec(line.to_vec()));
        }
        words
    }

    fn one(&self, control: &Control, line: &[u8]) -> Item {
        let command = self.command(line);
        let mut item = Item {
            node: None,
            out: Vec::new(),
            err: Vec::new(),
            result: Err("there is no program".into()),
        };
        let Some((program, arguments)) = command.split_first() else {
            return item;
        };
        let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        let mut tries = if self.options.place.idempotent {
            TRIES
        } else {
            1
        };
        let mut nap = Duration::from_millis(5);
        loop {
            if self.stop.is_set() {
                item.result = Err("ended by a signal".into());
                return item;
            }
            let started = control.start(&Execution {
                program,
                arguments: &arguments,
                input: &[],
                policy: self.policy,
                limits: limits(&self.options.limits),
            });
            let result = match started {
                Ok(mut run) => {
                    item.node = Some(run.node);
                    let ended = follow(control, &mut run, &self.stop, |out, err| {
                        item.out.extend_from_slice(out);
                        item.err.extend_from_slice(err);
                        Ok(())
                    });
                    match ended {
                        Ok(Ok(end)) => {
                            item.result = Ok(end);
                            return item;
                        }
                        Ok(Err(error)) => error,
                        // The closure above has no errors.
                        Err(_) => return item,
                    }
                }
                // Somebody else's runs end.
                Err(error) if errno(&error) == Some(Errno::BUSY) => {
                    thread::sleep(nap);
                    nap = (nap * 2).min(Duration::from_millis(200));
                    continue;
                }
                Err(error) => error,
            };
            tries -= 1;
            if tries == 0 || !lost(&result) {
                item.result = Err(result.to_string());
                return item;
            }
            item.out.clear();
            item.err.clear();
        }
    }

    /// A worker: line after line, not too far ahead of what is printed.
    fn work(&self, results: &mpsc::Sender<(usize, Item)>) -> anyhow::Result<()> {
        let control = Control::open()?;
        loop {
            // Relaxed: a counter.
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(line) = self.lines.get(index) else {
                return Ok(());
            };
            let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
            while index > *printed + ahead(self.options.jobs) && !self.stop.is_set() {
                printed = self
                    .more
                    .wait_timeout(printed, LOOK)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            drop(printed);
            if results.send((index, self.one(&control, line))).is_err() {
                return Ok(());
            }
        }
    }
}

fn bar(total: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    match ProgressStyle::with_template("{bar:30} {human_pos} of {human_len}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

pub(crate) fn map(options: &cli::Map, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let lines = io::stdin()
        .lock()
        .split(b'\n')
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| unread(&error))?;
    let total = lines.len();
    let mapping = Mapping {
        options,
        lines,
        policy: policy_of(
            &control,
            options.place.policy,
            options.place.node.as_deref(),
        )?,
        stop: Stop::on_signals()?,
        next: AtomicUsize::new(0),
        printed: Mutex::new(0),
        more: Condvar::new(),
    };
    let nodes = control.nodes()?.nodes;
    let progress = bar(total);
    let failed = thread::scope(|scope| {
        let (send, results) = mpsc::channel();
        let workers: Vec<_> = (0..options.jobs.min(total.max(1)))
            .map(|_| {
                let send = send.clone();
                let mapping = &mapping;
                scope.spawn(move || mapping.work(&send))
            })
            .collect();
        drop(send);
        let mut failed = 0;
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (index, item) in results {
            waiting.insert(index, item);
            progress.inc(1);
            while let Some(item) = waiting.remove(&next) {
                let good = progress.suspend(|| tell(&mapping, &nodes, next, &item, json));
                match good {
                    Ok(good) => failed += usize::from(!good),
                    Err(error) => {
                        mapping.stop.set();
                        return Err(error.into());
                    }
                }
                next += 1;
                *mapping
                    .printed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = next;
                mapping.more.notify_all();
            }
        }
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        anyhow::Ok(failed)
    })?;
    progress.finish_and_clear();
    if mapping.stop.is_set() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    text::remark(&format!(
        "{failed} of {} failed",
        text::plural(total as u64, "line")
    ));
    Ok(ExitCode::FAILURE)
}

/// Prints what came of a line; whether it was good.
fn tell(
    mapping: &Mapping<'_>,
    nodes: &[Node],
    index: usize,
    item: &Item,
    json: bool,
) -> io::Result<bool> {
    let good =
        matches!(&item.result, Ok(end) if end.outcome == Outcome::Exit(0) && end.killed.is_none());
    let node = item.node.map(|node| address(nodes, node));
    let line = mapping.lines.get(index).map_or(&[][..], Vec::as_slice);
    if json {
        let mut value = json!({
            "index": index,
            "line": String::from_utf8_lossy(line),
            "address": node,
            "output": String::from_utf8_lossy(&item.out),
            "error_output": String::from_utf8_lossy(&item.err),
        });
        match &item.result {
            Ok(end) => {
                merge(&mut value, outcome(end));
                merge(&mut value, usage(end));
            }
            Err(error) => merge(&mut value, json!({ "error": error })),
        }
        writeln!(io::stdout(), "{value}")?;
        return Ok(good);
    }
    write_all(&item.out, &item.err)?;
    if !good {
        let why = match &item.result {
            Ok(end) => words(end).unwrap_or_else(|| end.outcome.to_string()),
            Err(error) => error.clone(),
        };
        let place = node.map_or_else(String::new, |node| format!(" on {node}"));
        let line = String::from_utf8_lossy(line);
        text::remark(&format!("line {} ({line}){place}: {why}", index + 1));
    }
    Ok(good)
}

pub(crate) fn runs(options: &cli::Runs, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let nodes = control.nodes()?.nodes;
    if let Some(cli::RunsCommand::Kill { node, id }) = &options.command {
        let node = find(&nodes, node)?.id;
        let id = u64::from_str_radix(id, 16)
            .ok()
            .context("a run's number is needed, as \"virgo runs\" prints it")?;
        control.kill_run(node, id)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("RUN", Align::Left),
        ("NODE", Align::Left),
        ("PROGRAM", Align::Left),
        ("USER", Align::Right),
        ("STATE", Align::Left),
        ("TIME", Align::Right),
        ("OUTPUT", Align::Right),
        ("ERRORS", Align::Right),
    ]);
    let code = each_node(
        &nodes,
        options.node.as_deref(),
        |node| control.runs(node),
        |node, run| {
            if json {
                let value = json!({
                    "id": format!("{:016x}", run.id),
                    "node": node.id.to_string(),
                    "address": node.addr.to_string(),
                    "program": run.name,
                    "uid": run.uid,
                    "running": run.running,
                    "killed": run.killed.map(|killed| killed.to_string()),
                    "elapsed_ms": run.elapsed.as_secs_f64() * 1e3,
                    "out_bytes": run.out,
                    "err_bytes": run.err,
                });
                writeln!(io::stdout(), "{value}")?;
                return Ok(());
            }
            let state = match (run.running, run.killed) {
                (true, None) => "runs",
                (true, Some(_)) => "ends",
                (false, _) => "ended",
            };
            table.row(vec![
                format!("{:016x}", run.id),
                node.addr.to_string(),
                run.name,
                run.uid.to_string(),
                state.into(),
                format!("{:.1} s", run.elapsed.as_secs_f64()),
                text::bytes(run.out),
                text::bytes(run.err),
            ]);
            Ok(())
        },
    )?;
    if !json {
        write!(io::stdout(), "{table}")?;
    }
    Ok(code)
}
