// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo analytics`: settings for the whole kernel.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value as Json};
use virgo::analytics::{
    Analytics, Change, Declaration, Here, Options, Pushed, Setting, Source, Who,
};
use virgo_proto::analytics::{
    parse_int, whole_items, Conf, Kind, STREAM_RECORD, STREAM_START, VALUE_MAX,
};

use crate::cli::analytics as cli;
use crate::stop::Stop;
use crate::text::{self, Align, Table};

/// The original's file.
const FILE: &str = "/etc/virgo_kernel_analytics.conf";

/// The longest file that is read.
const FILE_MAX: u64 = 256 << 20;

pub(crate) fn run(command: cli::Analytics, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        cli::Analytics::Set(options) => set(&options, json),
        cli::Analytics::Get { key, all } => get(&key, all, json),
        cli::Analytics::Unset { key, why, cluster } => {
            if cluster {
                let done = Analytics::open()?.unset_cluster(&key, &why)?;
                pushed(&done, json)?;
            } else {
                Analytics::open()?.unset(&key, Source::Person, &why)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        cli::Analytics::Ls { prefix } => list(prefix.as_deref().unwrap_or(""), json),
        cli::Analytics::Load { files, check } => load(&files, check, json),
        cli::Analytics::Watch { key, count, log } => watch(key.as_deref(), count, log, json),
        cli::Analytics::Log => log(json),
        cli::Analytics::Undo { count } => undo(count),
        cli::Analytics::Stream { from, known } => stream(&from, known, json),
        cli::Analytics::Define(options) => define(&options),
        cli::Analytics::Stat => stat(json),
    }
}

/// Tells what became of a change for the cluster.
fn pushed(done: &Pushed, json: bool) -> anyhow::Result<()> {
    if json {
        let shown = json!({
            "version": done.version, "reached": done.reached, "nodes": done.nodes,
        });
        writeln!(io::stdout(), "{shown}")?;
    } else if done.reached < done.nodes {
        text::remark(&format!(
            "{} of {} nodes have it now, the others get it when they answer",
            done.reached, done.nodes
        ));
    }
    Ok(())
}

fn set(options: &cli::Set, json: bool) -> anyhow::Result<ExitCode> {
    let how = Options {
        why: &options.why,
        create: options.new,
        version: options.only_if,
        ..Options::default()
    };
    let settings = Analytics::open()?;
    if options.cluster {
        let done = settings.set_cluster(&options.key, &options.value, &how)?;
        pushed(&done, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let version = settings.set(&options.key, &options.value, &how)?;
    if json {
        writeln!(io::stdout(), "{}", json!({ "version": version }))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds since 1970.
fn seconds(when: Option<SystemTime>) -> Option<f64> {
    let when = when?.duration_since(UNIX_EPOCH).ok()?;
    Some(when.as_millis() as f64 / 1000.0)
}

fn who_json(who: Option<&Who>) -> Json {
    who.map_or(
        Json::Null,
        |who| json!({ "uid": who.uid, "pid": who.pid, "comm": who.comm }),
    )
}

fn who_text(who: Option<&Who>) -> String {
    who.map_or_else(String::new, |who| {
        format!("uid {} ({} {})", who.uid, who.comm, who.pid)
    })
}

fn setting_json(s: &Setting) -> Json {
    let bounds = (s.kind == Kind::Int).then_some(s.range);
    json!({
        "key": s.key, "value": s.value, "number": s.number, "kind": s.kind.word(),
        "low": bounds.map(|range| range.0), "high": bounds.map(|range| range.1),
        "words": s.words, "initial": s.initial, "reader": s.reader, "read": s.read,
        "declared": s.declared, "source": s.source.word(), "who": who_json(s.who.as_ref()),
        "when": seconds(s.when), "why": s.why,
        "left_ms": s.left.map(|left| left.as_millis() as u64), "version": s.version,
        "cluster": s.cluster.map(|cluster| json!({
            "version": cluster.stamp, "origin": format!("{:08x}", cluster.node),
            "state": cluster.state.word(),
        })),
    })
}

/// A moment, as people read it, in UTC.
fn moment(when: Option<SystemTime>) -> String {
    let Some(since) = when.and_then(|when| when.duration_since(UNIX_EPOCH).ok()) else {
        return String::new();
    };
    let (days, rest) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // The civil date of a count of days, by the eras of 400 years (146097 days) from 1 March 0000.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (
        day - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn get(key: &str, all: bool, json: bool) -> anyhow::Result<ExitCode> {
    let s = Analytics::open()?.get(key)?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", setting_json(&s))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !all {
        writeln!(out, "{}", s.value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut line = |name: &str, value: &str| -> io::Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        writeln!(out, "{name:<8} {value}")
    };
    line("value", &s.value)?;
    line("kind", s.kind.word())?;
    line("allowed", &s.allowed())?;
    line("default", &s.initial)?;
    line("reader", &s.reader)?;
    line("read", if s.read { "yes" } else { "by no module now" })?;
    line("set by", s.source.word())?;
    line("who", &who_text(s.who.as_ref()))?;
    line("when", &moment(s.when))?;
    line("why", &s.why)?;
    if let Some(left) = s.left {
        line("expires", &format!("in {} s", left.as_secs()))?;
    }
    line("version", &s.version.to_string())?;
    if let Some(cluster) = s.cluster {
        line("cluster", cluster.state.word())?;
        line("  stamp", &format!("{:016x}", cluster.stamp))?;
        line("  origin", &format!("{:08x}", cluster.node))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// As much of a value as a column takes.
fn short(value: &str) -> String {
    if value.chars().count() <= 40 {
        return value.into();
    }
    value.chars().take(39).chain(['…']).collect()
}

fn list(prefix: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut all = Analytics::open()?.list()?;
    all.retain(|s| s.key.starts_with(prefix));
    let mut out = io::stdout().lock();
    if json {
        let all: Vec<Json> = all.iter().map(setting_json).collect();
        writeln!(out, "{}", Json::from(all))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut columns = vec![
        ("SETTING", Align::Left),
        ("VALUE", Align::Left),
        ("ALLOWED", Align::Left),
        ("DEFAULT", Align::Left),
        ("BY", Align::Left),
        ("READER", Align::Left),
    ];
    let cluster = all.iter().any(|s| s.cluster.is_some());
    if cluster {
        columns.extend([("VERSION", Align::Left), ("ORIGIN", Align::Left)]);
    }
    let mut table = Table::new(&columns);
    for s in all {
        let reader = match (s.reader.is_empty(), s.read || !s.declared) {
            (false, false) => format!("({})", s.reader),
            _ => s.reader.clone(),
        };
        let mut row = vec![
            s.key.clone(),
            short(&s.value),
            s.allowed(),
            short(&s.initial),
            s.source.word().into(),
            reader,
        ];
        if cluster {
            row.extend(s.cluster.map_or_else(Default::default, |cluster| {
                let note = match cluster.state {
                    Here::InForce => String::new(),
                    state => format!(" ({})", state.word()),
                };
                [
                    format!("{:016x}", cluster.stamp),
                    format!("{:08x}{note}", cluster.node),
                ]
            }));
        }
        table.row(row);
    }
    write!(out, "{table}")?;
    Ok(ExitCode::SUCCESS)
}

/// A value as a setting has it: one line, each end of a line inside it a blank.
fn one_line(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    let lines: Vec<&str> = value.lines().map(str::trim).collect();
    lines.join(" ").replace('\t', " ").trim().to_owned()
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let fail =
        |error: &io::Error| text::file_error("read", path, error, "Name a file that can be read.");
    let file = fs::File::open(path).map_err(|error| fail(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(&error))?;
    anyhow::ensure!(
        bytes.len() as u64 <= FILE_MAX,
        "cannot read {}: it is longer than {FILE_MAX} bytes. Split it.",
        path.display()
    );
    Ok(bytes)
}

/// What became of items.
#[derive(Default)]
struct Tally {
    set: u64,
    faults: u64,
}

impl Tally {
    fn fault(&mut self, place: &str, text: &str) {
        self.faults += 1;
        // All are counted; a person reads no more than some.
        match self.faults {
            ..=20 => text::remark(&format!("{place}{text}")),
            21 => text::remark("more faults are only counted"),
            _ => {}
        }
    }

    fn print(&self, json: bool) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout().lock();
        if json {
            let shown = json!({ "set": self.set, "faults": self.faults });
            writeln!(out, "{shown}")?;
        } else {
            writeln!(
                out,
                "{} set, {}",
                text::plural(self.set, "setting"),
                text::plural(self.faults, "fault")
            )?;
        }
        Ok(if self.faults == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Sets the items of a text. A limit that is reached ends it.
fn take_items(
    settings: Option<&Analytics>,
    bytes: &[u8],
    place: &dyn Fn(u32) -> String,
    options: &Options<'_>,
    tally: &mut Tally,
) {
    for item in Conf::new(bytes) {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                let shown = short(&one_line(error.text));
                let what = format!("cannot take {shown:?}: {}.", error.fault.text());
                tally.fault(&place(error.line), &what);
                continue;
            }
        };
        // Letters, digits and some marks.
        let key = String::from_utf8_lossy(item.key);
        let value = one_line(item.value);
        let Some(settings) = settings else {
            tally.set += 1;
            continue;
        };
        match settings.set(&key, &value, options) {
            Ok(_) => tally.set += 1,
            Err(error) => {
                tally.fault(&place(item.line), &error.to_string());
                if error.errno() == Some(rustix::io::Errno::NOSPC.raw_os_error()) {
                    tally.fault("", "what follows is not looked at.");
                    break;
                }
            }
        }
    }
}

fn load(files: &[PathBuf], check: bool, json: bool) -> anyhow::Result<ExitCode> {
    let default = [PathBuf::from(FILE)];
    let files = if files.is_empty() { &default } else { files };
    let settings = if check {
        None
    } else {
        Some(Analytics::open()?)
    };
    let mut tally = Tally::default();
    for path in files {
        let bytes = read_file(path)?;
        let name = path.display().to_string();
        let why = format!("loaded from {name}");
        let options = Options {
            source: Source::File,
            why: &why,
            create: true,
            ..Options::default()
        };
        let place = |line| format!("{name}:{line}: ");
        take_items(settings.as_ref(), &bytes, &place, &options, &mut tally);
    }
    tally.print(json)
}

fn change_json(c: &Change) -> Json {
    json!({
        "version": c.version, "when": seconds(c.when), "source": c.source.word(),
        "who": who_json(c.who.as_ref()), "key": c.key, "before": c.before, "after": c.after,
        "why": c.why, "unset": c.unset, "undo": c.undo, "expired": c.expired,
        "cluster": c.cluster,
    })
}

fn change_text(c: &Change) -> String {
    let mut notes = Vec::new();
    for (there, word) in [
        (c.cluster, "cluster"),
        (c.unset, "unset"),
        (c.undo, "undo"),
        (c.expired, "expired"),
    ] {
        if there {
            notes.push(word.to_owned());
        }
    }
    if let Some(who) = &c.who {
        notes.push(who_text(Some(who)));
    }
    if !c.why.is_empty() {
        notes.push(c.why.clone());
    }
    format!(
        "{} {} {}: {:?} -> {:?} by {} [{}]",
        c.version,
        moment(c.when),
        c.key,
        c.before,
        c.after,
        c.source.word(),
        notes.join("; ")
    )
}

fn print_change(out: &mut impl Write, change: &Change, json: bool) -> io::Result<()> {
    if json {
        writeln!(out, "{}", change_json(change))
    } else {
        writeln!(out, "{}", change_text(change))
    }
}

fn log(json: bool) -> anyhow::Result<ExitCode> {
    let (changes, _) = Analytics::open()?.changes(0)?;
    let mut out = io::stdout().lock();
    for change in &changes {
        print_change(&mut out, change, json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn watch(key: Option<&str>, count: Option<u64>, log: bool, json: bool) -> anyhow::Result<ExitCode> {
    let settings = Analytics::open()?;
    if let Some(key) = key {
        settings.get(key)?;
    }
    let stop = Stop::on_signals()?;
    let mut left = count;
    let mut seen = if log { 0 } else { settings.numbers()?.version };
    let mut out = io::stdout().lock();
    settings.seen(seen)?;
    while left != Some(0) && !stop.is_set() {
        if !settings.wait(Duration::from_secs(1))? {
            continue;
        }
        let (changes, lost) = settings.changes(seen)?;
        if lost > 0 {
            text::remark(&format!(
                "{} came faster than they were read",
                text::plural(lost, "change")
            ));
        }
        for change in &changes {
            seen = change.version;
            if left != Some(0) && key.is_none_or(|key| key == change.key) {
                print_change(&mut out, change, json)?;
                left = left.map(|left| left - 1);
            }
        }
        out.flush()?;
        settings.seen(seen)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn undo(count: u32) -> anyhow::Result<ExitCode> {
    let done = Analytics::open()?.undo(count)?;
    if done < count {
        text::remark(&format!(
            "only {} could be taken back",
            text::plural(done.into(), "change")
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn connect(from: &str) -> anyhow::Result<TcpStream> {
    let next = "Give HOST:PORT of a server that is there; the original's port is 64000.";
    let fail = |error: io::Error| {
        anyhow::anyhow!("cannot connect to {from}: {}. {next}", text::reason(&error))
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in from.to_socket_addrs().map_err(fail)? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(fail(last))
}

fn stream(from: &str, known: bool, json: bool) -> anyhow::Result<ExitCode> {
    let settings = Analytics::open()?;
    let stop = Stop::on_signals()?;
    let mut stream = connect(from)?;
    let mut hello = STREAM_START.to_vec();
    hello.resize(STREAM_RECORD, 0);
    stream.write_all(&hello)?;
    // So that a signal is seen soon.
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let why = format!("streamed from {from}");
    let options = Options {
        source: Source::Stream,
        why: &why,
        create: !known,
        ..Options::default()
    };
    let mut tally = Tally::default();
    let place = |_line| String::new();
    let (mut held, mut room) = (Vec::new(), [0; 64 << 10]);
    while !stop.is_set() {
        let count = match stream.read(&mut room) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => {
                tally.fault("", &format!("the stream broke: {}.", text::reason(&error)));
                break;
            }
        };
        held.extend_from_slice(room.get(..count).unwrap_or(&room));
        let mut whole = whole_items(&held);
        if whole == 0 && held.len() > 2 * VALUE_MAX {
            // No item is as long as this.
            whole = held.len();
        }
        let bytes = held.get(..whole).unwrap_or(&[]);
        take_items(Some(&settings), bytes, &place, &options, &mut tally);
        held.drain(..whole);
    }
    take_items(Some(&settings), &held, &place, &options, &mut tally);
    tally.print(json)
}

fn define(options: &cli::Define) -> anyhow::Result<ExitCode> {
    let usage = |text: &str| anyhow::Error::from(text::Usage(text.into()));
    let range = match (options.kind, &options.range) {
        (cli::Kind::Int, None) => (i64::MIN, i64::MAX),
        (cli::Kind::Int, Some(range)) => range
            .split_once("..")
            .and_then(|(low, high)| Some((parse_int(low.as_bytes())?, parse_int(high.as_bytes())?)))
            .ok_or_else(|| usage("--range is LOW..HIGH, two whole numbers"))?,
        (_, Some(_)) => return Err(usage("--range is for --kind int alone")),
        (_, None) => (0, 0),
    };
    let (kind, initial) = match options.kind {
        cli::Kind::Text => (Kind::Text, ""),
        cli::Kind::Int => (Kind::Int, "0"),
        cli::Kind::Bool => (Kind::Bool, "false"),
        cli::Kind::Choice => (Kind::Choice, options.words.first().map_or("", |word| word)),
    };
    if options.words.is_empty() == (kind == Kind::Choice) {
        return Err(usage("--words is for --kind choice, which needs it"));
    }
    Analytics::open()?.define(&Declaration {
        key: &options.key,
        kind,
        range,
        words: &options.words,
        initial: if options.initial.is_empty() {
            initial
        } else {
            &options.initial
        },
        reader: &options.reader,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn stat(json: bool) -> anyhow::Result<ExitCode> {
    let n = Analytics::open()?.numbers()?;
    let mut out = io::stdout().lock();
    if json {
        let shown = json!({
            "version": n.version, "settings": n.settings, "max_settings": n.max_settings,
            "bytes": n.bytes, "max_bytes": n.max_bytes, "refused": n.refused,
            "expired": n.expired, "undoable": n.undoable, "watchers": n.watchers,
        });
        writeln!(out, "{shown}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in [
        (
            "settings",
            format!("{} of at most {}", n.settings, n.max_settings),
        ),
        ("bytes", format!("{} of at most {}", n.bytes, n.max_bytes)),
        ("changes", n.version.to_string()),
        ("undoable", n.undoable.to_string()),
        ("refused", n.refused.to_string()),
        ("expired", n.expired.to_string()),
        ("watchers", n.watchers.to_string()),
    ] {
        writeln!(out, "{name:<9} {value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        for (seconds, wanted) in [
            (1, "1970-01-01 00:00:01"),
            (951_827_696, "2000-02-29 12:34:56"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_798_761_599, "2026-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            let when = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(moment(Some(when)), wanted);
        }
    }

    #[test]
    fn values_over_lines_become_one() {
        assert_eq!(one_line(b"[1.31 4.47\n]"), "[1.31 4.47 ]");
        assert_eq!(one_line(b" {'22',\n  '20'}\t"), "{'22', '20'}");
    }
}
