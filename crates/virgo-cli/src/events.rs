// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo events`: what happened, and what led to what.

mod forms;
mod graph;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail, Context};
use petgraph::graph::NodeIndex;
use petgraph::Direction;
use serde_json::json;
use virgo::eventnet::{check_list, check_name, Content, Eventnet, Id, Journal, Record, Settings};
use virgo::uapi::{self, Module};
use virgo::Control;

use crate::cli::events as cli;
use crate::stop;
use crate::text::{self, Align, Table};
use graph::{module_word, Event, Events, Name, What};

pub(crate) fn run(
    command: cli::Events,
    source: &cli::Source,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let stdout = || BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match command {
        cli::Events::Log { what } => log(&what, json),
        cli::Events::Stat => stat(json),
        cli::Events::Set {
            modules,
            flush_ms,
            collector,
        } => set(modules.as_deref(), flush_ms, collector.as_deref(), json),
        cli::Events::Tail { count, all } => tail(count, all, json),
        cli::Events::Ls => {
            let events = load(source)?;
            let mut all: Vec<NodeIndex<u32>> = events.graph.node_indices().collect();
            all.sort_by_key(|index| events.graph[*index].id);
            list(&events, &all, json, &mut stdout())
        }
        cli::Events::Order { output, original } => {
            order(&load(source)?, output.as_deref(), original, json)
        }
        cli::Events::Path { from, to } => {
            let events = load(source)?;
            let (start, end) = (find(&events, &from)?, find(&events, &to)?);
            match events.path(start, end) {
                Some(way) => list(&events, &way, json, &mut stdout()),
                None => {
                    eprintln!("virgo: {from} did not lead to {to}");
                    Ok(ExitCode::FAILURE)
                }
            }
        }
        cli::Events::Ancestors { event } => query(source, &[event], json, |events, from| {
            let graph = events.with_node_order();
            let mut all = Events::reach(&graph, from, Direction::Incoming);
            for index in from {
                all.remove(index);
            }
            all
        }),
        cli::Events::Concurrent { event } => query(source, &[event], json, |events, from| {
            let graph = events.with_node_order();
            let before = Events::reach(&graph, from, Direction::Incoming);
            let after = Events::reach(&graph, from, Direction::Outgoing);
            let all = events.graph.node_indices();
            all.filter(|index| !before.contains(index) && !after.contains(index))
                .collect()
        }),
        cli::Events::Cut { events } => query(source, &events, json, |events, from| {
            Events::reach(&events.with_node_order(), from, Direction::Incoming)
        }),
        cli::Events::Cycles => cycles(&load(source)?, json),
        cli::Events::Dot { part } => {
            let events = load(source)?;
            let chosen = choose(&events, &part)?;
            stdout().write_all(forms::dot(&events, chosen.as_ref()).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Events::Svg { part } => {
            let events = load(source)?;
            let chosen = choose(&events, &part)?;
            let count = chosen
                .as_ref()
                .map_or(events.graph.node_count(), HashSet::len);
            if count > forms::DRAWN {
                bail!(
                    "{count} events are too many to draw, {} are the most: choose with --around or --last",
                    forms::DRAWN
                );
            }
            let picture = forms::svg(&forms::dot(&events, chosen.as_ref()))?;
            stdout().write_all(picture.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Events::Chrome => {
            let mut out = stdout();
            forms::chrome(&load(source)?, &mut out)?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        cli::Events::Shiviz => {
            let events = load(source)?;
            let order = ordered(&events)?;
            let mut out = stdout();
            forms::shiviz(&events, &order, &mut out)?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Reads a journal in pieces until `next` has no more.
fn read_journal(
    events: &mut Events,
    mut next: impl FnMut(u64) -> anyhow::Result<Option<Vec<u8>>>,
) -> anyhow::Result<()> {
    let mut journal = Journal::new();
    while let Some(piece) = next(journal.position())? {
        journal.add(&piece);
        journal.records(|record| events.add(record));
    }
    if journal.damaged() > 0 {
        eprintln!(
            "virgo: {} bytes of the journal are damaged, and were passed over",
            journal.damaged()
        );
    }
    Ok(())
}

fn load(source: &cli::Source) -> anyhow::Result<Events> {
    let mut events = Events::default();
    if let Some(folder) = &source.text {
        read_text(&mut events, folder)?;
    } else if let Some(path) = &source.journal {
        let shown = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        read_journal(&mut events, |_| {
            let mut piece = Vec::new();
            Read::by_ref(&mut file)
                .take(1 << 20)
                .read_to_end(&mut piece)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Some(piece).filter(|piece| !piece.is_empty()))
        })?;
    } else {
        let eventnet = Eventnet::open()?;
        read_journal(&mut events, |position| Ok(eventnet.read(position)?))?;
    }
    Ok(events)
}

/// The original's two files.
fn read_text(events: &mut Events, folder: &Path) -> anyhow::Result<()> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let vertices = read("EventNetVertices.txt")?;
    let edges = read("EventNetEdges.txt")?;
    for (number, line) in String::from_utf8_lossy(&vertices).lines().enumerate() {
        // The C version left a NUL behind each line.
        let line = line.trim_matches('\0').trim();
        if line.is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split('-').map(str::trim).collect();
        let [id, _, talks] = fields[..] else {
            bail!(
                "EventNetVertices.txt, line {}: {} fields, not 3 with - between",
                number + 1,
                fields.len()
            );
        };
        // The order of the lines stands for the time that they do not have.
        let stamp = Id {
            stamp: number as u64 + 1,
            node: 0,
        };
        for talk in talks.split('#') {
            let talk = talk.trim().trim_start_matches('(').trim_end_matches(')');
            let (partakers, conversation) = talk.rsplit_once(',').unwrap_or((talk, ""));
            let talk = (partakers.trim().to_owned(), conversation.trim().to_owned());
            events.vertex(id, talk, stamp);
        }
    }
    for (number, line) in String::from_utf8_lossy(&edges).lines().enumerate() {
        let line = line.trim_matches('\0').trim();
        if line.is_empty() {
            continue;
        }
        let Some((from, to)) = line.split_once(',') else {
            bail!(
                "EventNetEdges.txt, line {}: not two events with a comma between",
                number + 1
            );
        };
        events.edge(from.trim(), to.trim());
    }
    Ok(())
}

fn find(events: &Events, name: &str) -> anyhow::Result<NodeIndex<u32>> {
    events
        .find(name)
        .ok_or_else(|| anyhow!("there is no event {name}: \"virgo events ls\" shows what there is"))
}

fn query(
    source: &cli::Source,
    names: &[String],
    json: bool,
    choose: impl FnOnce(&Events, &[NodeIndex<u32>]) -> HashSet<NodeIndex<u32>>,
) -> anyhow::Result<ExitCode> {
    let events = load(source)?;
    let from = names
        .iter()
        .map(|name| find(&events, name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut all: Vec<NodeIndex<u32>> = choose(&events, &from).into_iter().collect();
    all.sort_by_key(|index| (events.graph[*index].id, *index));
    list(
        &events,
        &all,
        json,
        &mut BufWriter::new(io::stdout().lock()),
    )
}

fn list(
    events: &Events,
    chosen: &[NodeIndex<u32>],
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    for index in chosen {
        let event = &events.graph[*index];
        if json {
            let mut all = forms::event_json(event);
            let causes: Vec<String> = events
                .graph
                .neighbors_directed(*index, Direction::Incoming)
                .map(|cause| events.graph[cause].name.to_string())
                .collect();
            if !causes.is_empty() {
                all["causes"] = causes.into();
            }
            writeln!(out, "{all}")?;
        } else {
            let name = event.name.to_string();
            let label = event.label();
            let label = label.strip_prefix(name.as_str()).unwrap_or(&label);
            writeln!(out, "{name} {}", label.trim_start())?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The topological order; an error that names a cycle.
fn ordered(events: &Events) -> anyhow::Result<Vec<NodeIndex<u32>>> {
    events.order().map_err(|_| {
        let cycles = events.cycles();
        let shown = cycles.first().map(|way| way_text(events, way));
        anyhow!(
            "there are {} cycles, so there is no order: {}; see \"virgo events cycles\"",
            cycles.len(),
            shown.unwrap_or_default()
        )
    })
}

/// What is said of an event behind its name: where it happened and what it was, or who partook.
fn about(event: &Event) -> String {
    let label = event.label();
    match (&event.name, &event.what) {
        (_, What::Unknown) => String::new(),
        (Name::Module(_), _) => format!("{} {label}", event.node()),
        (Name::Own(name), _) => label.strip_prefix(&**name).unwrap_or(&label).to_owned(),
    }
}

fn order(
    events: &Events,
    output: Option<&Path>,
    original: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let order = ordered(events)?;
    let original = original || output.is_some();
    let write = |out: &mut dyn Write| -> io::Result<()> {
        for (index, node) in order.iter().enumerate() {
            let event = &events.graph[*node];
            if json {
                writeln!(out, "{}", forms::event_json(event))?;
            } else if original {
                writeln!(out, "{index} - {} ", event.name)?;
            } else {
                let line = format!("{index} - {} {}", event.name, about(event).trim());
                writeln!(out, "{}", line.trim_end())?;
            }
        }
        out.flush()
    };
    match output {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            write(&mut BufWriter::with_capacity(1 << 16, file))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => write(&mut BufWriter::with_capacity(1 << 16, io::stdout().lock()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn way_text(events: &Events, way: &[NodeIndex<u32>]) -> String {
    let mut text = String::new();
    for index in way.iter().chain(way.first()) {
        if !text.is_empty() {
            text.push_str(" -> ");
        }
        text.push_str(&events.graph[*index].name.to_string());
    }
    text
}

fn cycles(events: &Events, json: bool) -> anyhow::Result<ExitCode> {
    let cycles = events.cycles();
    let mut out = io::stdout().lock();
    for way in &cycles {
        if json {
            let names: Vec<String> = way
                .iter()
                .map(|index| events.graph[*index].name.to_string())
                .collect();
            writeln!(out, "{}", json!({ "cycle": names }))?;
        } else {
            writeln!(out, "{}", way_text(events, way))?;
        }
    }
    Ok(if cycles.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn choose(events: &Events, part: &cli::Part) -> anyhow::Result<Option<HashSet<NodeIndex<u32>>>> {
    if let Some(name) = &part.around {
        return Ok(Some(events.near(find(events, name)?, part.steps)));
    }
    Ok(part.last.map(|last| {
        let mut all: Vec<NodeIndex<u32>> = events.graph.node_indices().collect();
        all.sort_by_key(|index| events.graph[*index].id);
        let skip = all.len().saturating_sub(last);
        all.into_iter().skip(skip).collect()
    }))
}

fn log(what: &cli::Log, json: bool) -> anyhow::Result<ExitCode> {
    let name = |name: &str| check_name(name.as_bytes()).map_err(|fault| anyhow!("{name}: {fault}"));
    let message = match what {
        cli::Log::Vertex {
            id,
            partakers,
            conversation,
        } => {
            name(id)?;
            for list in [partakers, conversation] {
                check_list(list.as_bytes()).map_err(|fault| anyhow!("{list}: {fault}"))?;
            }
            format!("eventnet_vertexmsg#{id}#{partakers}#{conversation}#")
        }
        cli::Log::Edge { from, to } => {
            name(from)?;
            name(to)?;
            format!("eventnet_edgemsg#{from}#{to}#")
        }
    };
    let id = Eventnet::open()?.log(&message)?;
    if json {
        println!(
            "{}",
            json!({ "stamp": id.stamp, "node": format!("n{:08x}", id.node) })
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A record as a line.
fn record_line(record: &Record<'_>, json: bool) -> Option<String> {
    let mut events = Events::default();
    if let Content::Edge { from, to } = record.content {
        let (from, to) = (String::from_utf8_lossy(from), String::from_utf8_lossy(to));
        return Some(if json {
            json!({ "what": "edge", "from": from, "to": to, "stamp": record.stamp,
                "node": format!("n{:08x}", record.node) })
            .to_string()
        } else {
            format!("{from} -> {to}")
        });
    }
    events.add(record);
    // The event itself comes first, then those that it names.
    let event = events.graph.node_weights().next()?;
    Some(if json {
        forms::event_json(event).to_string()
    } else {
        let name = event.name.to_string();
        let label = event.label();
        let label = label.strip_prefix(name.as_str()).unwrap_or(&label);
        format!("{name} {}", label.trim_start())
    })
}

fn tail(count: Option<u64>, all: bool, json: bool) -> anyhow::Result<ExitCode> {
    let eventnet = Eventnet::open()?;
    let stop = stop::Stop::on_signals()?;
    let mut journal = Journal::new();
    let mut left = count.unwrap_or(u64::MAX);
    let mut shown = all;
    let mut out = io::stdout().lock();
    while left > 0 && !stop.is_set() {
        let Some(piece) = eventnet.read(journal.position())? else {
            // What there was has been read; from here on it is new.
            shown = true;
            out.flush()?;
            eventnet.wait(Duration::from_secs(1))?;
            continue;
        };
        journal.add(&piece);
        let mut lines = Vec::new();
        journal.records(|record| {
            if shown {
                lines.extend(record_line(record, json));
            }
        });
        for line in lines {
            if left > 0 {
                writeln!(out, "{line}")?;
                left -= 1;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn modules_text(mask: u32) -> String {
    let names: Vec<&str> = Module::ALL
        .into_iter()
        .filter(|module| (mask >> (*module as u32)) & 1 != 0)
        .map(|module| module_word(module as u8))
        .collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(",")
    }
}

fn stat(json: bool) -> anyhow::Result<ExitCode> {
    let s = Eventnet::open()?.stat()?;
    let rows = [
        ("events", s.events),
        ("vertices", s.vertices),
        ("edges", s.edges),
        ("lost", s.lost),
        ("losses", s.losses),
        ("refused", s.refused),
        ("received", s.received),
        ("forwarded", s.forwarded),
        ("behind", s.behind),
        ("journal_bytes", s.journal_bytes),
        ("rendered_bytes", s.rendered_bytes),
        ("journal_errno", s.journal_errno.into()),
        ("render_errno", s.render_errno.into()),
    ];
    if json {
        let mut all: serde_json::Map<String, serde_json::Value> = rows
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        all.insert("node".into(), format!("n{:08x}", s.node).into());
        all.insert("modules".into(), modules_text(s.modules).into());
        println!("{}", serde_json::Value::Object(all));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right)]);
    for (name, value) in rows {
        table.row(vec![name.to_owned(), value.to_string()]);
    }
    table.row(vec!["node".into(), format!("n{:08x}", s.node)]);
    table.row(vec!["modules".into(), modules_text(s.modules)]);
    print!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn modules_of(text: &str) -> anyhow::Result<u32> {
    match text {
        "all" => return Ok((1 << Module::ALL.len()) - 1),
        "none" => return Ok(0),
        _ => {}
    }
    text.split(',').try_fold(0, |mask, word| {
        let module = Module::ALL
            .into_iter()
            .find(|module| module_word(*module as u8) == word.trim());
        match module {
            Some(module) => Ok(mask | (1 << module as u32)),
            None => Err(anyhow::Error::new(text::Usage(format!(
                "there is no module {word}: they are {}",
                modules_text(u32::MAX)
            )))),
        }
    })
}

/// The number of a node.
fn node_of(text: &str) -> anyhow::Result<u32> {
    if text == "none" {
        return Ok(0);
    }
    let nodes = Control::open()?.nodes()?.nodes;
    let found = nodes.iter().find(|node| {
        node.addr.to_string() == text
            || format!("{:08x}", node.id.0) == text.trim_start_matches('n')
    });
    found.map(|node| node.id.0).ok_or_else(|| {
        anyhow!("there is no node {text}: \"virgo nodes\" shows their numbers and addresses")
    })
}

fn set(
    modules: Option<&str>,
    flush_ms: Option<u32>,
    collector: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut wanted = Settings::default();
    if let Some(modules) = modules {
        wanted.flags |= uapi::EVENTNET_SET_MODULES;
        wanted.modules = modules_of(modules)?;
    }
    if let Some(flush_ms) = flush_ms {
        wanted.flags |= uapi::EVENTNET_SET_FLUSH;
        wanted.flush_ms = flush_ms;
    }
    if let Some(collector) = collector {
        wanted.flags |= uapi::EVENTNET_SET_COLLECTOR;
        wanted.collector = node_of(collector)?;
    }
    let now = Eventnet::open()?.settings(wanted)?;
    let collector = match now.collector {
        0 => "none".to_owned(),
        node => format!("n{node:08x}"),
    };
    if json {
        println!(
            "{}",
            json!({ "modules": modules_text(now.modules), "flush_ms": now.flush_ms, "ring": now.ring,
                "collector": collector })
        );
    } else {
        println!("modules {}", modules_text(now.modules));
        println!("flush_ms {}", now.flush_ms);
        println!("ring {}", now.ring);
        println!("collector {collector}");
    }
    Ok(ExitCode::SUCCESS)
}
