// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The graph as other programs read it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::anyhow;
use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};
use petgraph::graph::NodeIndex;
use petgraph::visit::EdgeRef;
use petgraph::Direction;
use serde_json::{json, Value as Json};

use super::graph::{module_word, Event, Events, Name, What};

/// The most events that are drawn: more take minutes, and nobody could read the picture.
pub(crate) const DRAWN: usize = 2000;

/// An event as a JSON object.
pub(crate) fn event_json(event: &Event) -> Json {
    let mut all = json!({ "event": event.name.to_string() });
    if event.id.stamp != 0 {
        all["stamp"] = event.id.stamp.into();
        all["node"] = event.node().into();
        all["time_ns"] = (event.id.stamp & !0xffff).into();
    }
    match &event.what {
        What::Unknown => all["what"] = "named by an edge alone".into(),
        What::Vertex(talks) => {
            all["what"] = "vertex".into();
            let talks: Vec<Json> = talks
                .iter()
                .map(|(p, c)| json!({ "partakers": p, "conversation": c }))
                .collect();
            all["talks"] = talks.into();
        }
        What::Event(kind, subject) => {
            all["what"] = "event".into();
            all["module"] = module_word(event.module).into();
            all["kind"] = (**kind).into();
            all["subject"] = (**subject).into();
        }
        What::Loss(count) => {
            all["what"] = "loss".into();
            all["module"] = module_word(event.module).into();
            all["lost"] = (*count).into();
        }
    }
    all
}

/// Text between quotes in DOT.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The graph in Graphviz's language.
pub(crate) fn dot(events: &Events, chosen: Option<&HashSet<NodeIndex<u32>>>) -> String {
    let wanted = |index: &NodeIndex<u32>| chosen.is_none_or(|chosen| chosen.contains(index));
    let mut out = String::from("digraph events {\n  rankdir=TB;\n  node [shape=box];\n");
    for index in events.graph.node_indices().filter(wanted) {
        let event = &events.graph[index];
        let colour = match event.what {
            What::Loss(_) => ", fillcolor=\"orange\", style=\"filled\"",
            _ => "",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "  {} [label={}{colour}];",
            quoted(&event.name.to_string()),
            quoted(&event.label()),
        );
    }
    for edge in events.graph.edge_references() {
        if wanted(&edge.source()) && wanted(&edge.target()) {
            let name = |index: NodeIndex<u32>| quoted(&events.graph[index].name.to_string());
            let _ = writeln!(out, "  {} -> {};", name(edge.source()), name(edge.target()));
        }
    }
    out.push_str("}\n");
    out
}

/// The graph as a picture.
pub(crate) fn svg(dot: &str) -> anyhow::Result<String> {
    let mut parser = DotParser::new(dot);
    let parsed = parser
        .process()
        .map_err(|error| anyhow!("the layout library does not read the graph: {error}"))?;
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&parsed);
    let mut picture = SVGWriter::new();
    builder.get().do_it(false, false, false, &mut picture);
    Ok(picture.finalize())
}

/// The row of an event: its process and its thread, as trace viewers call them.
fn row(event: &Event) -> (String, String) {
    match (&event.name, &event.what) {
        (Name::Module(_), _) => (event.node(), module_word(event.module).to_owned()),
        (Name::Own(_), What::Vertex(talks)) => {
            let first = talks
                .first()
                .and_then(|(partakers, _)| partakers.split(',').next())
                .unwrap_or("");
            (event.node(), first.trim().to_owned())
        }
        _ => (event.node(), "unknown".to_owned()),
    }
}

/// Chrome's trace format, which Perfetto reads too: an instant for each event, an arrow for each
/// edge.
pub(crate) fn chrome(events: &Events, out: &mut dyn Write) -> io::Result<()> {
    let mut processes: BTreeMap<String, usize> = BTreeMap::new();
    let mut threads: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut places: HashMap<NodeIndex<u32>, (usize, usize)> = HashMap::new();
    for index in events.graph.node_indices() {
        let (process, thread) = row(&events.graph[index]);
        let count = processes.len() + 1;
        let pid = *processes.entry(process.clone()).or_insert(count);
        let count = threads.len() + 1;
        let tid = *threads.entry((process, thread)).or_insert(count);
        places.insert(index, (pid, tid));
    }
    out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
    let mut first = true;
    let mut write = |out: &mut dyn Write, value: Json| -> io::Result<()> {
        if !std::mem::take(&mut first) {
            out.write_all(b",\n")?;
        }
        write!(out, "{value}")
    };
    for (name, pid) in &processes {
        let args = json!({ "name": name });
        write(
            out,
            json!({ "ph": "M", "name": "process_name", "pid": pid, "args": args }),
        )?;
    }
    for ((process, thread), tid) in &threads {
        let args = json!({ "name": thread });
        let pid = processes[process];
        write(
            out,
            json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": args }),
        )?;
    }
    // Microseconds since the first event: a double holds nanoseconds of that exactly enough.
    let begin = events
        .graph
        .node_weights()
        .map(|event| event.id.stamp)
        .filter(|stamp| *stamp != 0)
        .min()
        .unwrap_or(0);
    let ts = |event: &Event| event.id.stamp.saturating_sub(begin) as f64 / 1000.0;
    for index in events.graph.node_indices() {
        let event = &events.graph[index];
        let (pid, tid) = places[&index];
        write(
            out,
            json!({
                "ph": "X", "name": event.label(), "cat": "event", "pid": pid, "tid": tid,
                "ts": ts(event), "dur": 1, "args": event_json(event),
            }),
        )?;
    }
    for edge in events.graph.edge_references() {
        let id = edge.id().index();
        for (index, ph) in [(edge.source(), "s"), (edge.target(), "f")] {
            let (pid, tid) = places[&index];
            let ts = ts(&events.graph[index]);
            let mut arrow = json!({
                "ph": ph, "name": "led to", "cat": "cause", "id": id, "pid": pid, "tid": tid, "ts": ts,
            });
            if ph == "f" {
                arrow["bp"] = "e".into();
            }
            write(out, arrow)?;
        }
    }
    out.write_all(b"\n]}\n")
}

/// ShiViz's text: two lines for each event, with a vector clock. How many edges were left out, as
/// their effect is before their cause on the same host.
pub(crate) fn shiviz(
    events: &Events,
    order: &[NodeIndex<u32>],
    out: &mut dyn Write,
) -> io::Result<()> {
    let host = |event: &Event| {
        let host = match &event.name {
            Name::Module(_) => event.node(),
            Name::Own(_) => row(event).1,
        };
        // The host ends at the first space.
        host.replace(char::is_whitespace, "_")
    };
    let mut own: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut clocks: HashMap<NodeIndex<u32>, BTreeMap<String, u64>> = HashMap::new();
    for index in order {
        let event = &events.graph[*index];
        let host = host(event);
        let mut clock = own.get(&host).cloned().unwrap_or_default();
        for cause in events.graph.neighbors_directed(*index, Direction::Incoming) {
            // In a topological order all causes have theirs.
            for (other, count) in clocks.get(&cause).into_iter().flatten() {
                let mine = clock.entry(other.clone()).or_default();
                *mine = (*mine).max(*count);
            }
        }
        *clock.entry(host.clone()).or_default() += 1;
        let shown: serde_json::Map<String, Json> = clock
            .iter()
            .map(|(host, count)| (host.clone(), (*count).into()))
            .collect();
        writeln!(out, "{host} {}", Json::Object(shown))?;
        writeln!(out, "{}", event.label().replace(['\n', '\r'], " "))?;
        own.insert(host, clock.clone());
        if events.graph.neighbors(*index).next().is_some() {
            clocks.insert(*index, clock);
        }
    }
    Ok(())
}
