// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo mem`: blocks of memory and named values.

mod snapshot;
mod watch;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::prelude::{Engine as _, BASE64_STANDARD};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{json, Value as Json};
use virgo::mempool::{
    Change, Expiry, MappedCache, Mempool, Mode, Owner, Place, Policy, Put, Value, Vuid,
};
use virgo::Control;

use crate::cli::mem::{self as cli, Mem, OnOff};
use crate::queue;
use crate::text::{self, Align, Table};

/// What is copied at a time.
const PIECE: usize = 1 << 20;
/// From here on a copy shows how far it is.
const LARGE: u64 = 8 << 20;

pub(crate) fn run(command: Mem, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Mem::Malloc(options) => malloc(&options, json),
        Mem::Set(options) => set(&options),
        Mem::Get(options) => get(&options),
        Mem::Free { blocks } => free(&blocks),
        Mem::List => list(json),
        Mem::Stat => stat(json),
        Mem::Put(options) => put(&options, json),
        Mem::Take(options) => take(&options, json),
        Mem::Delete { keys, owner } => delete(&keys, &owner, json),
        Mem::Count(options) => count(&options, json),
        Mem::Keys(options) => keys(&options, json),
        Mem::Flush { after } => {
            Mempool::open()?.flush(Duration::from_secs(after.into()))?;
            Ok(ExitCode::SUCCESS)
        }
        Mem::Watch(options) => watch::run(&options, json),
        Mem::Save(options) => snapshot::save(&options, json),
        Mem::Load(options) => snapshot::load(&options, json),
        Mem::Share(options) => share(&options, json),
        Mem::Settings(options) => settings(&options, json),
    }
}

/// The number of a node that is named by its address or its number.
fn node(words: &str) -> anyhow::Result<u32> {
    let nodes = Control::open()?.nodes()?.nodes;
    Ok(crate::nodes::find(&nodes, words)?.id.0)
}

fn open(options: &cli::Owner) -> anyhow::Result<Mempool> {
    let owner = match options {
        cli::Owner { here: true, .. } => Owner::Here,
        cli::Owner {
            node: Some(words), ..
        } => Owner::Node(node(words)?),
        cli::Owner { .. } => Owner::ByKey,
    };
    Ok(Mempool::open()?.on(owner))
}

/// Leaves a request with the queue, in the words of memcached's protocol.
fn later(options: &cli::Owner, words: &[u8], json: bool) -> anyhow::Result<ExitCode> {
    // Long enough for a request to another node, which ends by itself before.
    const SECONDS: f64 = 10.0;
    let mut request = match options {
        cli::Owner { here: true, .. } => "@here ".to_owned(),
        cli::Owner {
            node: Some(words), ..
        } => format!("@{:08x} ", node(words)?),
        cli::Owner { .. } => String::new(),
    }
    .into_bytes();
    request.extend_from_slice(words);
    queue::put_for("virgo.mempool", &request, SECONDS, json)
}

/// A key as a line of the protocol can hold it.
fn word(key: &str) -> anyhow::Result<&str> {
    let bad = |byte: u8| byte <= b' ' || byte == 0x7f;
    if key.is_empty() || key.bytes().any(bad) {
        anyhow::bail!("with --async a key has no spaces or control characters, and is not empty");
    }
    Ok(key)
}

/// A node's number as "virgo nodes" writes it; none where there is no cluster.
fn node_text(node: u32) -> Option<String> {
    (node != 0).then(|| format!("{node:08x}"))
}

/// Where data come from.
enum Source<'a> {
    Text(&'a str),
    File(File, &'a Path),
    Input,
}

impl<'a> Source<'a> {
    fn new(text: Option<&'a str>, file: Option<&'a PathBuf>) -> anyhow::Result<Self> {
        match (text, file) {
            (Some(text), _) => Ok(Source::Text(text)),
            (None, Some(path)) => {
                let file = File::open(path).map_err(|error| {
                    text::file_error("read", path, &error, "Look at its name and rights.")
                })?;
                Ok(Source::File(file, path))
            }
            (None, None) => Ok(Source::Input),
        }
    }

    /// How much it is, where that can be known.
    fn length(&self) -> Option<u64> {
        match self {
            Source::Text(text) => Some(text.len() as u64),
            Source::File(file, _) => file
                .metadata()
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|about| about.len()),
            Source::Input => None,
        }
    }

    /// Fills `room` as far as there is something.
    fn fill(&mut self, room: &mut [u8]) -> anyhow::Result<usize> {
        let mut got = 0;
        while got < room.len() {
            let rest = &mut room[got..];
            let result = match self {
                Source::Text(text) => {
                    let length = rest.len().min(text.len());
                    rest[..length].copy_from_slice(&text.as_bytes()[..length]);
                    // Bytes, not characters: what is left need not be text.
                    return self.rest_of_text(got, length);
                }
                Source::File(file, _) => file.read(rest),
                Source::Input => io::stdin().lock().read(rest),
            };
            match result {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let path = match self {
                        Source::File(_, path) => *path,
                        _ => Path::new("standard input"),
                    };
                    return Err(text::file_error("read", path, &error, "Try again."));
                }
            }
        }
        Ok(got)
    }

    /// A text from the command line fits into one piece: arguments are at most 128 KiB long.
    fn rest_of_text(&mut self, got: usize, length: usize) -> anyhow::Result<usize> {
        *self = Source::Text("");
        Ok(got + length)
    }

    /// All of it, as far as it is not longer than `limit`.
    fn whole(mut self, limit: usize) -> anyhow::Result<Vec<u8>> {
        let mut data = vec![0; PIECE];
        let mut length = 0;
        loop {
            let got = self.fill(&mut data[length..])?;
            length += got;
            if length < data.len() {
                data.truncate(length);
                return Ok(data);
            }
            if length > limit {
                anyhow::bail!(
                    "cannot store it: it is longer than {}, the most that any setting allows. \
                     Put it into blocks (\"virgo mem malloc\").",
                    text::bytes(limit as u64)
                );
            }
            data.resize(length * 2, 0);
        }
    }
}

/// Where data go.
enum Sink<'a> {
    File(File, &'a Path),
    Output,
}

impl<'a> Sink<'a> {
    fn new(path: Option<&'a PathBuf>) -> anyhow::Result<Self> {
        match path {
            None => Ok(Sink::Output),
            Some(path) => {
                let file = File::create(path).map_err(|error| {
                    text::file_error("write", path, &error, "Choose another file.")
                })?;
                Ok(Sink::File(file, path))
            }
        }
    }

    fn write(&mut self, data: &[u8]) -> anyhow::Result<()> {
        match self {
            // A closed pipe is told apart by its error, in main().
            Sink::Output => Ok(io::stdout().lock().write_all(data)?),
            Sink::File(file, path) => file
                .write_all(data)
                .map_err(|error| text::file_error("write", path, &error, "Is the disk full?")),
        }
    }
}

/// A bar on standard error for what takes long, if somebody looks.
fn progress(total: Option<u64>, bytes: bool, quiet: bool) -> ProgressBar {
    let worth = total.is_none_or(|total| !bytes || total >= LARGE);
    if quiet || !worth || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match (total.is_some(), bytes) {
        (true, true) => "{bar:30} {binary_bytes} of {binary_total_bytes}, {eta} left",
        (false, true) => "{binary_bytes}",
        (true, false) => "{bar:30} {human_pos} of {human_len} values, {eta} left",
        (false, false) => "{human_pos} values",
    };
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn malloc(options: &cli::Malloc, json: bool) -> anyhow::Result<ExitCode> {
    let place = match (&options.node, options.policy, options.stripe) {
        (Some(words), _, _) => Place::Node(node(words)?),
        (_, Some(policy), _) => Place::Chosen(match policy {
            cli::Policy::Default => Policy::Default,
            cli::Policy::LeastLoaded => Policy::LeastLoaded,
            cli::Policy::Random => Policy::Random,
            cli::Policy::P2c => Policy::TwoChoices,
        }),
        (_, _, Some(chunk)) => Place::Striped(chunk),
        (None, None, None) => Place::Here,
    };
    let block = Mempool::open()?.malloc(options.size, place)?;
    let mut out = io::stdout().lock();
    if json {
        let value = json!({ "block": block.to_string(), "bytes": options.size });
        writeln!(out, "{value}")?;
    } else {
        writeln!(out, "{block}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn set(options: &cli::Set) -> anyhow::Result<ExitCode> {
    let pool = Mempool::open()?;
    let mut source = Source::new(options.data.as_deref(), options.file.as_ref())?;
    let bar = progress(source.length(), true, false);
    let mut piece = vec![0; PIECE];
    let mut offset = options.offset;
    loop {
        let got = source.fill(&mut piece)?;
        if got > 0 || offset == options.offset {
            pool.set(options.block, offset, &piece[..got])?;
        }
        offset = offset.saturating_add(got as u64);
        bar.inc(got as u64);
        if got < piece.len() {
            bar.finish_and_clear();
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn get(options: &cli::Get) -> anyhow::Result<ExitCode> {
    let pool = Mempool::open()?;
    // How long it is, and whether the offset is inside: before a file is made.
    let (_, length) = pool.get(options.block, options.offset, &mut [])?;
    let there = length.saturating_sub(options.offset);
    let mut left = options.length.map_or(there, |wanted| wanted.min(there));
    let mut sink = Sink::new(options.output.as_ref())?;
    let bar = progress(Some(left), true, false);
    let mut piece = vec![0; PIECE];
    let mut offset = options.offset;
    while left > 0 {
        let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let (got, _) = pool.get(options.block, offset, &mut piece[..wanted])?;
        if got == 0 {
            break;
        }
        let data = &piece[..got];
        let end = if options.text {
            data.iter().position(|byte| *byte == 0)
        } else {
            None
        };
        sink.write(data.get(..end.unwrap_or(got)).unwrap_or(data))?;
        if end.is_some() {
            break;
        }
        offset = offset.saturating_add(got as u64);
        left = left.saturating_sub(got as u64);
        bar.inc(got as u64);
    }
    if options.text {
        sink.write(b"\n")?;
    }
    bar.finish_and_clear();
    Ok(ExitCode::SUCCESS)
}

fn free(blocks: &[Vuid]) -> anyhow::Result<ExitCode> {
    let pool = Mempool::open()?;
    let mut code = ExitCode::SUCCESS;
    for block in blocks {
        if let Err(error) = pool.free(*block) {
            text::complain(&error.into());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Nanoseconds of CLOCK_MONOTONIC now.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// A time span that people read: `3 s`, `5:07`, `2:03:09`, `4 d 2 h`.
fn span(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{}:{:02}", seconds / 60, seconds % 60),
        3600..=86_399 => format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let blocks = Mempool::open()?.list()?;
    let now = monotonic();
    let age = |created: u64| now.saturating_sub(created) / 1_000_000_000;
    let mut out = io::stdout().lock();
    if json {
        let all: Vec<Json> = blocks
            .iter()
            .map(|block| {
                json!({
                    "block": block.vuid.to_string(),
                    "bytes": block.length,
                    "age_s": age(block.created_ns),
                    "striped": block.striped,
                    "uid": block.uid,
                    "pid": block.pid,
                    "node": node_text(block.node),
                })
            })
            .collect();
        writeln!(out, "{}", Json::from(all))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("BLOCK", Align::Left),
        ("BYTES", Align::Right),
        ("AGE", Align::Right),
        ("NODE", Align::Right),
        ("UID", Align::Right),
        ("PID", Align::Right),
        ("", Align::Left),
    ]);
    let or_network =
        |number: Option<u32>| number.map_or_else(|| "network".into(), |number| number.to_string());
    for block in blocks {
        table.row(vec![
            block.vuid.to_string(),
            block.length.to_string(),
            span(age(block.created_ns)),
            node_text(block.node).unwrap_or_else(|| "-".into()),
            or_network(block.uid),
            or_network(block.pid),
            if block.striped { "striped" } else { "" }.into(),
        ]);
    }
    if !table.is_empty() {
        write!(out, "{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn stat(json: bool) -> anyhow::Result<ExitCode> {
    let pool = Mempool::open()?;
    let stat = pool.stat()?;
    let up = monotonic().saturating_sub(stat.start_ns) / 1_000_000_000;
    let mut out = io::stdout().lock();
    if json {
        let value = json!({
            "node": node_text(stat.node),
            "up_s": up,
            "items": stat.items,
            "item_bytes": stat.item_bytes,
            "held_bytes": stat.held_bytes,
            "memory_limit": stat.memory_limit,
            "items_made": stat.items_made,
            "gets": stat.gets,
            "hits": stat.hits,
            "sets": stat.sets,
            "deletes": stat.deletes,
            "expired": stat.expired,
            "evicted": stat.evicted,
            "shrunk": stat.shrunk,
            "blocks": stat.blocks,
            "block_bytes": stat.block_bytes,
            "block_limit": stat.block_limit,
            "blocks_made": stat.blocks_made,
            "shares": stat.shares,
            "share_bytes": stat.share_bytes,
            "connections": stat.connections,
            "connections_made": stat.connections_made,
            "connections_refused": stat.connections_refused,
        });
        writeln!(out, "{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let each = match stat.items {
        0 => String::new(),
        items => format!(", {} bytes each", stat.item_bytes / items),
    };
    writeln!(
        out,
        "values       {}{each}; {} of {} held",
        text::count(stat.items),
        text::bytes(stat.held_bytes),
        text::bytes(stat.memory_limit)
    )?;
    let rate = match stat.gets {
        0 => String::new(),
        gets => format!(" ({:.1} % found)", 100.0 * stat.hits as f64 / gets as f64),
    };
    writeln!(
        out,
        "requests     {}{rate}, {}, {}",
        text::plural(stat.gets, "look-up"),
        text::plural(stat.sets, "store"),
        text::plural(stat.deletes, "delete")
    )?;
    writeln!(
        out,
        "given up     {} expired, {} for room, {} since the host needed memory",
        text::count(stat.expired),
        text::count(stat.evicted),
        text::count(stat.shrunk)
    )?;
    writeln!(
        out,
        "blocks       {}; {} of {}; {} made so far",
        text::count(stat.blocks),
        text::bytes(stat.block_bytes),
        text::bytes(stat.block_limit),
        text::count(stat.blocks_made)
    )?;
    writeln!(
        out,
        "shared       {}, {}",
        text::plural(stat.shares, "namespace"),
        text::bytes(stat.share_bytes)
    )?;
    writeln!(
        out,
        "connections  {} now, {} so far, {} turned away",
        text::count(stat.connections.into()),
        text::count(stat.connections_made),
        text::count(stat.connections_refused)
    )?;
    writeln!(out, "up           {}", span(up))?;
    Ok(ExitCode::SUCCESS)
}

fn put(options: &cli::Put, json: bool) -> anyhow::Result<ExitCode> {
    // The most that item_max can be set to.
    const MOST: usize = 64 << 20;
    let pool = open(&options.owner)?;
    let value = Source::new(options.value.as_deref(), options.file.as_ref())?.whole(MOST)?;
    let mode = match (options.cas, options) {
        (Some(cas), _) => Mode::Cas(cas),
        (_, cli::Put { add: true, .. }) => Mode::Add,
        (_, cli::Put { replace: true, .. }) => Mode::Replace,
        (_, cli::Put { append: true, .. }) => Mode::Append,
        (_, cli::Put { prepend: true, .. }) => Mode::Prepend,
        _ => Mode::Set,
    };
    if options.owner.later {
        let (verb, cas) = match mode {
            Mode::Add => ("add", String::new()),
            Mode::Replace => ("replace", String::new()),
            Mode::Append => ("append", String::new()),
            Mode::Prepend => ("prepend", String::new()),
            Mode::Cas(cas) => ("cas", format!(" {cas}")),
            _ => ("set", String::new()),
        };
        let (key, flags) = (word(&options.key)?, options.flags);
        // The protocol takes a time of more than thirty days for a moment, and -1 for none at all.
        let ttl = match options.ttl {
            None => 0,
            Some(0) => -1,
            Some(ttl @ 1..=2_592_000) => i64::from(ttl),
            Some(_) => anyhow::bail!("with --async a value's --ttl is 30 days at most"),
        };
        let line = format!("{verb} {key} {flags} {ttl} {}{cas}\r\n", value.len());
        let words = [line.as_bytes(), &value, b"\r\n"].concat();
        return later(&options.owner, &words, json);
    }
    let how = Put {
        mode,
        expiry: options.ttl.map_or(Expiry::Never, Expiry::In),
        flags: options.flags,
    };
    let stored = pool.put(options.key.as_bytes(), &value, how)?;
    if json {
        let value =
            json!({ "key": options.key, "cas": stored.cas, "node": node_text(stored.node) });
        writeln!(io::stdout().lock(), "{value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A member `name`, or `name_base64` for what is no text.
fn put_bytes(into: &mut serde_json::Map<String, Json>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => into.insert(name.into(), text.into()),
        Err(_) => into.insert(
            format!("{name}_base64"),
            BASE64_STANDARD.encode(bytes).into(),
        ),
    };
}

fn take(options: &cli::Take, json: bool) -> anyhow::Result<ExitCode> {
    if options.owner.later {
        let key = word(&options.key)?;
        let words = match options.touch {
            None => format!("gets {key}\r\n"),
            Some(seconds) => format!("gats {seconds} {key}\r\n"),
        };
        return later(&options.owner, words.as_bytes(), json);
    }
    let pool = open(&options.owner)?;
    let key = options.key.as_bytes();
    let found = match options.touch {
        None => pool.take(key)?,
        Some(seconds) => pool.take_touch(key, Expiry::In(seconds))?,
    };
    let Some(value) = found else {
        anyhow::bail!(
            "there is no value named {:?}. \"virgo mem keys\" shows those of this node.",
            options.key
        );
    };
    if json {
        writeln!(io::stdout().lock(), "{}", described(&options.key, &value))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut sink = Sink::new(options.output.as_ref())?;
    sink.write(&value.data)?;
    // A line of its own for people; every byte as it is for programs.
    let shown = matches!(sink, Sink::Output) && io::stdout().is_terminal();
    if shown && !value.data.ends_with(b"\n") {
        sink.write(b"\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn described(key: &str, value: &Value) -> Json {
    let mut all = serde_json::Map::new();
    all.insert("key".into(), key.into());
    all.insert("bytes".into(), value.data.len().into());
    all.insert("flags".into(), value.flags.into());
    all.insert("cas".into(), value.cas.into());
    all.insert("ttl_s".into(), value.ttl.into());
    all.insert("node".into(), node_text(value.node).into());
    put_bytes(&mut all, "value", &value.data);
    all.into()
}

fn delete(keys: &[String], options: &cli::Owner, json: bool) -> anyhow::Result<ExitCode> {
    if options.later {
        for key in keys {
            later(
                options,
                format!("delete {}\r\n", word(key)?).as_bytes(),
                json,
            )?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let pool = open(options)?;
    let mut code = ExitCode::SUCCESS;
    for key in keys {
        let error = match pool.delete(key.as_bytes()) {
            Ok(true) => continue,
            Ok(false) => anyhow::anyhow!("there is no value named {key:?}. Nothing was deleted."),
            Err(error) => error.into(),
        };
        text::complain(&error);
        code = ExitCode::FAILURE;
    }
    Ok(code)
}

fn count(options: &cli::Count, json: bool) -> anyhow::Result<ExitCode> {
    if options.owner.later {
        let (key, delta) = (word(&options.key)?, options.delta);
        let line = match (options.initial, options.down) {
            (None, false) => format!("incr {key} {delta}\r\n"),
            (None, true) => format!("decr {key} {delta}\r\n"),
            (Some(initial), false) => format!("ma {key} N0 J{initial} D{delta} v\r\n"),
            (Some(initial), true) => format!("ma {key} N0 J{initial} D{delta} MD v\r\n"),
        };
        return later(&options.owner, line.as_bytes(), json);
    }
    let pool = open(&options.owner)?;
    let key = options.key.as_bytes();
    let number = if options.down {
        pool.decrement(key, options.delta, options.initial)?
    } else {
        pool.increment(key, options.delta, options.initial)?
    };
    let Some(number) = number else {
        anyhow::bail!(
            "there is no value named {:?}. --initial 0 makes it.",
            options.key
        );
    };
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "key": options.key, "value": number }))?;
    } else {
        writeln!(out, "{number}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds of Unix time now.
fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}

fn keys(options: &cli::Keys, json: bool) -> anyhow::Result<ExitCode> {
    let pool = Mempool::open()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut table = Table::new(&[
        ("KEY", Align::Left),
        ("BYTES", Align::Right),
        ("LEFT", Align::Right),
        ("FLAGS", Align::Right),
        ("NUMBER", Align::Right),
    ]);
    let mut first = true;
    if json {
        write!(out, "[")?;
    }
    for record in pool.keys() {
        let record = record?;
        if !record.key.starts_with(options.prefix.as_bytes()) {
            continue;
        }
        let ttl = record
            .expires
            .map(|second| u64::try_from(second.saturating_sub(now())).unwrap_or(0));
        if json {
            let mut all = serde_json::Map::new();
            put_bytes(&mut all, "key", &record.key);
            all.insert("bytes".into(), record.value_len.into());
            all.insert("flags".into(), record.flags.into());
            all.insert("cas".into(), record.cas.into());
            all.insert("ttl_s".into(), ttl.into());
            write!(out, "{}{}", if first { "" } else { "," }, Json::from(all))?;
            first = false;
        } else if options.long {
            table.row(vec![
                record.key.escape_ascii().to_string(),
                record.value_len.to_string(),
                ttl.map_or_else(String::new, span),
                record.flags.to_string(),
                record.cas.to_string(),
            ]);
        } else {
            writeln!(out, "{}", record.key.escape_ascii())?;
        }
    }
    if json {
        writeln!(out, "]")?;
    } else if !table.is_empty() {
        write!(out, "{table}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn share(options: &cli::Share, json: bool) -> anyhow::Result<ExitCode> {
    let prefix = options.prefix.as_bytes();
    if options.remove {
        Mempool::open()?.unshare(prefix)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Those who may not make one may still ask about one that is there.
    let cache = if options.slots == 0 && options.slot_size == 0 {
        MappedCache::open(prefix).or_else(|_| MappedCache::create(prefix, 0, 0))?
    } else {
        MappedCache::create(prefix, options.slots, options.slot_size)?
    };
    let counts = cache.counts();
    let mut out = io::stdout().lock();
    if json {
        let value = json!({
            "prefix": options.prefix,
            "slots": counts.slots,
            "slot_bytes": counts.slot_size,
            "items": counts.items,
            "hidden": counts.hidden,
            "changes": counts.changes,
        });
        writeln!(out, "{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{} slots of {} bytes, {}; {} in it, {} without a place",
        text::count(counts.slots),
        counts.slot_size,
        text::bytes(counts.slots.saturating_mul(counts.slot_size.into())),
        text::plural(counts.items, "value"),
        text::count(counts.hidden)
    )?;
    Ok(ExitCode::SUCCESS)
}

fn settings(options: &cli::Settings, json: bool) -> anyhow::Result<ExitCode> {
    let pool = Mempool::open()?;
    let change = Change {
        memory_limit: options.memory_limit,
        block_limit: options.block_limit,
        item_max: options.item_max,
        evict: options.evict.map(|evict| evict == OnOff::On),
        max_blocks: options.max_blocks,
    };
    let settings = if change == Change::default() {
        pool.settings()?
    } else {
        pool.change(change)?
    };
    let mut out = io::stdout().lock();
    if json {
        let value = json!({
            "memory_limit": settings.memory_limit,
            "item_max": settings.item_max,
            "evict": settings.evict != 0,
            "block_limit": settings.block_limit,
            "max_blocks": settings.max_blocks,
            "max_connections": settings.max_connections,
            "idle_ms": settings.idle_ms,
            "port": settings.port,
        });
        writeln!(out, "{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let on_off = if settings.evict == 0 { "off" } else { "on" };
    let port = match settings.port {
        0 => "none".into(),
        port => port.to_string(),
    };
    writeln!(
        out,
        "memory_limit     {}",
        text::bytes(settings.memory_limit)
    )?;
    writeln!(
        out,
        "item_max         {}",
        text::bytes(settings.item_max.into())
    )?;
    writeln!(out, "evict            {on_off}")?;
    writeln!(
        out,
        "block_limit      {}",
        text::bytes(settings.block_limit)
    )?;
    writeln!(
        out,
        "max_blocks       {}",
        text::count(settings.max_blocks.into())
    )?;
    writeln!(
        out,
        "max_connections  {}",
        text::count(settings.max_connections.into())
    )?;
    writeln!(
        out,
        "idle             {} ms",
        text::count(settings.idle_ms.into())
    )?;
    writeln!(out, "port             {port}")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_easy_to_read() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1:00"),
            (3599, "59:59"),
            (7389, "2:03:09"),
            (352_800, "4 d 2 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_apart() {
        let mut all = serde_json::Map::new();
        put_bytes(&mut all, "a", "grün".as_bytes());
        put_bytes(&mut all, "b", b"\xff\x00");
        assert_eq!(
            Json::from(all).to_string(),
            r#"{"a":"grün","b_base64":"/wA="}"#
        );
    }

    #[test]
    fn a_source_is_read_to_its_end() {
        let whole = |length: usize| {
            let text = "x".repeat(length);
            Source::Text(&text).whole(64 << 20).unwrap().len()
        };
        for length in [0, 1, 4096, PIECE - 1] {
            assert_eq!(whole(length), length);
        }
    }
}
