// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo queue`: requests that wait their turn.

use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde_json::{json, Value as Json};
use virgo::queue::{Answer, Keep, Options, Queue, Request, Settings, Taken};
use virgo::uapi;

use crate::cli::queue as cli;
use crate::exec;
use crate::text::{self, Align, Table};

/// The original's records in REQUEST_REPLY.queue.
const RECORD: usize = 256;

pub(crate) fn run(command: cli::Queue, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        cli::Queue::Put(options) => put(&options, json),
        cli::Queue::Take(options) => take(&options, json),
        cli::Queue::Ls => list(json),
        cli::Queue::Stat { tube } => stat(tube.as_deref(), json),
        cli::Queue::Tail { tube, count } => tail(tube.as_deref(), count, json),
        cli::Queue::Result { id, wait } => result(id, seconds(wait), json),
        cli::Queue::Set(options) => set(&options, json),
        cli::Queue::Drain { end } => {
            Queue::open()?.drain(Some(!end))?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Queue::Export { tube, kingcobra } => export(tube.as_deref(), kingcobra),
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

fn put(options: &cli::Put, json: bool) -> anyhow::Result<ExitCode> {
    let queue = Queue::open()?;
    let body = match &options.data {
        Some(data) => data.clone().into_bytes(),
        None => {
            let mut data = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut data)
                .context("cannot read standard input")?;
            data
        }
    };
    let how = Options {
        pri: options.pri,
        delay: seconds(options.delay),
        ttr: seconds(options.ttr),
    };
    print_id(queue.put(&options.tube, &body, how)?, json)
}

fn print_id(id: u64, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "id": id }))?;
    } else {
        writeln!(out, "{id}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves a request for another module with the queue; prints its number. It may take so many
/// seconds.
pub(crate) fn put_for(
    tube: &str,
    request: &[u8],
    timeout: f64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let queue = Queue::open().context("virgo-queue serves what is left with --async")?;
    let how = Options {
        // The module leaves itself half a second of it.
        ttr: Duration::from_secs_f64(timeout.ceil() + 1.0),
        ..Options::default()
    };
    print_id(queue.put(tube, request, how)?, json)
}

/// A body as JSON has it.
fn body(bytes: &[u8]) -> (&'static str, Json) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("text", text.into()),
        Err(_) => ("base64", BASE64_STANDARD.encode(bytes).into()),
    }
}

/// Gives a request to a command; what it printed, if that is wanted. `None` if it failed.
fn give(
    command: &[std::ffi::OsString],
    taken: &Taken,
    wanted: bool,
) -> anyhow::Result<Option<Vec<u8>>> {
    let [program, arguments @ ..] = command else {
        return Ok(Some(Vec::new()));
    };
    let shown = program.to_string_lossy();
    let mut child = Command::new(program)
        .args(arguments)
        .env("VIRGO_REQUEST", taken.id.to_string())
        .stdin(Stdio::piped())
        .stdout(if wanted {
            Stdio::piped()
        } else {
            Stdio::inherit()
        })
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let input = child.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut input) = input {
                // One that does not read all of it may know why.
                let _ = input.write_all(&taken.body);
            }
        });
        child.wait_with_output()
    })
    .with_context(|| format!("cannot wait for {shown}"))?;
    Ok(output.status.success().then_some(output.stdout))
}

fn take(options: &cli::Take, json: bool) -> anyhow::Result<ExitCode> {
    let queue = Queue::open()?;
    let Some(taken) = queue.take(&options.tube, options.wait.map(seconds))? else {
        eprintln!("virgo: no request is ready in {}", options.tube);
        return Ok(ExitCode::FAILURE);
    };
    if options.command.is_empty() {
        let mut out = io::stdout().lock();
        if json {
            let (name, content) = body(&taken.body);
            let shown = json!({
                "id": taken.id, "pri": taken.pri, "reserves": taken.reserves, name: content,
            });
            writeln!(out, "{shown}")?;
        } else {
            out.write_all(&taken.body)?;
            out.flush()?;
        }
    } else {
        let Some(answer) = give(&options.command, &taken, options.reply)? else {
            queue.release(taken.id, taken.pri, Duration::ZERO)?;
            eprintln!("virgo: the command failed; request {} went back", taken.id);
            return Ok(ExitCode::FAILURE);
        };
        if options.reply {
            queue.reply(taken.id, &answer)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    queue.ack(taken.id)?;
    Ok(ExitCode::SUCCESS)
}

fn result(id: u64, wait: Duration, json: bool) -> anyhow::Result<ExitCode> {
    let queue = Queue::open()?;
    let until = Instant::now() + wait;
    loop {
        match queue.result(id)? {
            Answer::Here(body) => {
                let mut out = io::stdout().lock();
                out.write_all(&body)?;
                out.flush()?;
                return Ok(ExitCode::SUCCESS);
            }
            Answer::Program(ran) => return exec::ran(id, &ran, json),
            Answer::Failed(errno, words) => {
                let words = String::from_utf8_lossy(&words);
                eprintln!("virgo: request {id} failed: {errno}: {words}");
                return Ok(ExitCode::FAILURE);
            }
            Answer::NotYet if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            Answer::NotYet => {
                eprintln!("virgo: request {id} has not been answered yet; --wait waits for that");
                return Ok(ExitCode::FAILURE);
            }
            _ => {
                eprintln!(
                    "virgo: there is no answer to {id}: no such request, or done with unanswered"
                );
                return Ok(ExitCode::FAILURE);
            }
        }
    }
}

fn set(options: &cli::Set, json: bool) -> anyhow::Result<ExitCode> {
    let queue = Queue::open()?;
    let before = queue.settings(&options.tube)?;
    let given = options.clear
        || options.limit.is_some()
        || options.tries.is_some()
        || options.keep.is_some()
        || !options.copies.is_empty();
    if given {
        let mut settings = before.unwrap_or_default();
        if options.clear {
            settings = Settings::default();
        }
        settings.limit = options.limit.unwrap_or(settings.limit);
        settings.tries = options.tries.unwrap_or(settings.tries);
        if let Some(keep) = options.keep {
            settings.keep = match keep {
                cli::Keep::Default => Keep::Default,
                cli::Keep::None => Keep::None,
                cli::Keep::Later => Keep::Later,
                cli::Keep::Always => Keep::Always,
            };
        }
        if !options.copies.is_empty() {
            settings.copies.clone_from(&options.copies);
        }
        queue.set(&options.tube, &settings)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(settings) = before else {
        eprintln!("virgo: there is no tube {}", options.tube);
        return Ok(ExitCode::FAILURE);
    };
    let keep = match settings.keep {
        Keep::None => "none",
        Keep::Later => "later",
        Keep::Always => "always",
        _ => "default",
    };
    let mut out = io::stdout().lock();
    if json {
        let shown = json!({
            "limit": settings.limit, "tries": settings.tries, "keep": keep,
            "copies": settings.copies,
        });
        writeln!(out, "{shown}")?;
    } else {
        let or = |value: u32, none: &str| match value {
            0 => none.to_owned(),
            value => value.to_string(),
        };
        writeln!(out, "limit: {}", or(settings.limit, "the module's"))?;
        writeln!(out, "tries: {}", or(settings.tries, "any number"))?;
        writeln!(out, "kept: {keep}")?;
        if !settings.copies.is_empty() {
            writeln!(out, "copies: {}", settings.copies.join(" "))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let queue = Queue::open()?;
    let mut tubes = Vec::new();
    for name in queue.tubes()? {
        // One that is gone meanwhile is left out.
        if let Ok(stat) = queue.stat(Some(&name)) {
            tubes.push((name, stat));
        }
    }
    let mut out = io::stdout().lock();
    if json {
        let all: Vec<Json> = tubes
            .iter()
            .map(|(name, s)| {
                json!({
                    "tube": name, "ready": s.ready, "delayed": s.delayed, "buried": s.buried,
                    "reserved": s.reserved, "waiting": s.waiting, "total": s.total,
                })
            })
            .collect();
        writeln!(out, "{}", Json::from(all))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("TUBE", Align::Left),
        ("READY", Align::Right),
        ("DELAYED", Align::Right),
        ("BURIED", Align::Right),
        ("TAKEN", Align::Right),
        ("WAITING", Align::Right),
        ("TOTAL", Align::Right),
    ]);
    for (name, s) in tubes {
        table.row(vec![
            name,
            s.ready.to_string(),
            s.delayed.to_string(),
            s.buried.to_string(),
            s.reserved.to_string(),
            s.waiting.to_string(),
            s.total.to_string(),
        ]);
    }
    write!(out, "{table}")?;
    Ok(ExitCode::SUCCESS)
}

fn kept(log: u32) -> &'static str {
    match log {
        uapi::QUEUE_LOG_NEVER => "never",
        uapi::QUEUE_LOG_INTERVAL => "interval",
        uapi::QUEUE_LOG_ALWAYS => "always",
        _ => "none",
    }
}

fn stat(tube: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let s = Queue::open()?.stat(tube)?;
    let mut out = io::stdout().lock();
    if json {
        let shown = json!({
            "ready": s.ready, "delayed": s.delayed, "buried": s.buried, "reserved": s.reserved,
            "urgent": s.urgent, "waiting": s.waiting, "total": s.total, "timeouts": s.timeouts,
            "bytes": s.bytes, "max_bytes": s.max_bytes, "tubes": s.tubes, "workers": s.workers,
            "draining": s.draining == 1, "log": kept(s.log), "log_error": s.log_error,
            "log_bytes": s.log_bytes, "log_records": s.log_records, "log_damaged": s.log_damaged,
            "pause_left_ms": s.pause_left_ns / 1_000_000,
        });
        writeln!(out, "{shown}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "requests: {} ready, {} delayed, {} buried, {} taken; {} so far, {} ran out of time",
        s.ready, s.delayed, s.buried, s.reserved, s.total, s.timeouts
    )?;
    writeln!(out, "waiting for one: {}", s.waiting)?;
    if tube.is_none() {
        let (used, most) = (text::bytes(s.bytes), text::bytes(s.max_bytes));
        writeln!(out, "memory: {used} of {most}; {} tubes", s.tubes)?;
    }
    if s.draining == 1 {
        writeln!(out, "draining: no more requests are taken in")?;
    }
    if s.log == uapi::QUEUE_LOG_NONE {
        writeln!(
            out,
            "log: none, requests are lost when the module is unloaded"
        )?;
    } else {
        let (bytes, records) = (text::bytes(s.log_bytes), s.log_records);
        writeln!(
            out,
            "log: fsync={}, {bytes}, {records} records written",
            kept(s.log)
        )?;
        if s.log_error != 0 {
            let name = virgo::errno_name(i32::try_from(s.log_error).unwrap_or(0));
            writeln!(out, "log: CANNOT BE WRITTEN ({name}): see \"sudo dmesg\"")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn exported(request: &Request) -> Json {
    let (name, content) = body(&request.body);
    json!({
        "id": request.id, "tube": request.tube, "state": request.state.word(),
        "pri": request.pri, "age_s": request.age.as_secs(), "reserves": request.reserves,
        name: content,
    })
}

fn tail(tube: Option<&str>, count: Option<u64>, json: bool) -> anyhow::Result<ExitCode> {
    let queue = Queue::open()?;
    let mut last = 0;
    while let Some(request) = queue.next(last, tube)? {
        last = request.id;
    }
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        match queue.next(last, tube)? {
            Some(request) => {
                last = request.id;
                left -= 1;
                let mut out = io::stdout().lock();
                if json {
                    writeln!(out, "{}", exported(&request))?;
                } else {
                    write!(out, "{} {} ", request.id, request.tube)?;
                    out.write_all(&request.body)?;
                    writeln!(out)?;
                }
                out.flush()?;
            }
            // Nothing tells of requests that somebody else takes at once; looking ten times a
            // second shows those that stay.
            None => thread::sleep(Duration::from_millis(100)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The original's record: the line, a mark, and zeros; what is too long is cut.
fn record(line: &[u8]) -> [u8; RECORD] {
    const MARK: &[u8] = b" $$\n";
    let mut record = [0; RECORD];
    let length = line.len().min(RECORD - MARK.len() - 1);
    record[..length].copy_from_slice(&line[..length]);
    record[length..length + MARK.len()].copy_from_slice(MARK);
    record
}

fn export(tube: Option<&str>, kingcobra: bool) -> anyhow::Result<ExitCode> {
    let queue = Queue::open()?;
    let tube = if kingcobra { Some("kingcobra") } else { tube };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut last = 0;
    while let Some(request) = queue.next(last, tube)? {
        last = request.id;
        if kingcobra {
            out.write_all(&record(&request.body))?;
        } else {
            writeln!(out, "{}", exported(&request))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_originals() {
        let shown = record(b"REQUEST#7f000001#1:2#x");
        assert!(shown.starts_with(b"REQUEST#7f000001#1:2#x $$\n\0"));
        let long = record(&[b'y'; 1000]);
        assert_eq!(&long[RECORD - 6..], b"y $$\n\0");
    }

    #[test]
    fn what_is_no_text_is_base64() {
        assert_eq!(body(b"abc"), ("text", "abc".into()));
        assert_eq!(body(b"\xff\x00"), ("base64", "/wA=".into()));
    }
}
