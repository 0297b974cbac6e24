// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The graph of events.
//!
//! Its edges are those that were told. Besides, a module's events on one node have come one after
//! the other: for the queries (`ancestors`, `concurrent`, `cut`) each is taken to have led to the
//! next of its node, as in Lamport's happened-before.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use petgraph::algo::{astar, tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use petgraph::Direction;
use rustc_hash::FxHashMap;
use virgo::eventnet::{Content, Id, Record};
use virgo::uapi::Module;

/// How an event is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// By its stamp and node.
    Module(Id),
    /// As somebody has called it.
    Own(Arc<str>),
}

impl Name {
    pub(crate) fn parse(text: &str) -> Name {
        match Id::parse(text.as_bytes()) {
            Some(id) => Name::Module(id),
            None => Name::Own(text.into()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Module(id) => id.fmt(f),
            Name::Own(name) => f.write_str(name),
        }
    }
}

/// What is known of an event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: Name,
    /// Its first record's; `Id::default()` where only an edge names it.
    pub(crate) id: Id,
    pub(crate) module: u8,
    pub(crate) what: What,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Only an edge names it.
    Unknown,
    /// Somebody told of it: partakers, conversations.
    Vertex(Box<[(String, String)]>),
    /// A module told of it: kind, subject.
    Event(Arc<str>, Box<str>),
    /// So many are missing.
    Loss(u64),
}

impl Event {
    /// The node, as a word.
    pub(crate) fn node(&self) -> String {
        format!("n{:08x}", self.id.node)
    }

    /// In a few words.
    pub(crate) fn label(&self) -> String {
        match &self.what {
            What::Unknown => self.name.to_string(),
            What::Vertex(talks) => {
                let all: Vec<String> = talks.iter().map(|(p, c)| format!("({p},{c})")).collect();
                format!("{} {}", self.name, all.join("#"))
            }
            What::Event(kind, subject) if subject.is_empty() => {
                format!("{} {kind}", module_word(self.module))
            }
            What::Event(kind, subject) => {
                format!("{} {kind} {subject}", module_word(self.module))
            }
            What::Loss(count) => format!("{} lost {count}", module_word(self.module)),
        }
    }
}

/// A module's name without what all have in common.
pub(crate) fn module_word(number: u8) -> &'static str {
    let name = Module::from_number(number.into()).map_or("virgo-unknown", Module::name);
    name.strip_prefix("virgo-").unwrap_or(name)
}

/// The events and what led to what.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) graph: DiGraph<Event, (), u32>,
    /// By their ids, which the modules' clocks give: nobody chooses them.
    ids: FxHashMap<Id, NodeIndex<u32>>,
    names: HashMap<Arc<str>, NodeIndex<u32>>,
    /// Each kind once: there are few, and many events.
    kinds: HashSet<Arc<str>>,
}

/// Of a cause that names no node: the effect's own.
fn of_node(id: Id, node: u32) -> Id {
    let node = if id.node == 0 { node } else { id.node };
    Id { node, ..id }
}

impl Events {
    fn node(&mut self, name: Name) -> NodeIndex<u32> {
        let event = |name, id| Event {
            name,
            id,
            module: Module::Eventnet as u8,
            what: What::Unknown,
        };
        let graph = &mut self.graph;
        match name {
            Name::Module(id) => *self
                .ids
                .entry(id)
                .or_insert_with(|| graph.add_node(event(Name::Module(id), id))),
            Name::Own(name) => match self.names.entry(name) {
                Entry::Occupied(there) => *there.get(),
                Entry::Vacant(place) => {
                    let name = Name::Own(place.key().clone());
                    *place.insert(graph.add_node(event(name, Id::default())))
                }
            },
        }
    }

    fn kind(&mut self, kind: &[u8]) -> Arc<str> {
        let text = String::from_utf8_lossy(kind);
        match self.kinds.get(text.as_ref()) {
            Some(there) => there.clone(),
            None => {
                let kind: Arc<str> = text.into();
                self.kinds.insert(kind.clone());
                kind
            }
        }
    }

    fn module_event(&mut self, record: &Record<'_>, what: What) -> NodeIndex<u32> {
        let index = self.node(Name::Module(record.id()));
        let event = &mut self.graph[index];
        event.module = record.module;
        event.what = what;
        index
    }

    /// Takes in a record.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match record.content {
            Content::Open { .. } | Content::Peer { .. } => {}
            Content::Event {
                cause,
                kind,
                subject,
            } => {
                let what = What::Event(self.kind(kind), text(subject).into());
                let index = self.module_event(record, what);
                if cause.stamp != 0 {
                    let from = self.node(Name::Module(of_node(cause, record.node)));
                    self.graph.add_edge(from, index, ());
                }
            }
            Content::Loss {
                count,
                after,
                before,
            } => {
                let index = self.module_event(record, What::Loss(count));
                if after.stamp != 0 {
                    let from = self.node(Name::Module(of_node(after, record.node)));
                    self.graph.add_edge(from, index, ());
                }
                if before.stamp != 0 {
                    let to = self.node(Name::Module(of_node(before, record.node)));
                    self.graph.add_edge(index, to, ());
                }
            }
            Content::Vertex {
                id,
                partakers,
                conversation,
            } => {
                self.vertex(
                    &text(id),
                    (text(partakers), text(conversation)),
                    record.id(),
                );
            }
            Content::Edge { from, to } => self.edge(&text(from), &text(to)),
        }
    }

    /// An event that somebody has named.
    pub(crate) fn vertex(&mut self, name: &str, talk: (String, String), id: Id) {
        let index = self.node(Name::parse(name));
        let event = &mut self.graph[index];
        match &mut event.what {
            What::Vertex(talks) => {
                let mut all = std::mem::take(talks).into_vec();
                all.push(talk);
                *talks = all.into();
            }
            what @ What::Unknown => {
                *what = What::Vertex([talk].into());
                if let Name::Own(_) = event.name {
                    event.id = id;
                }
            }
            // A module's own words stay.
            _ => {}
        }
    }

    /// That one led to another.
    pub(crate) fn edge(&mut self, from: &str, to: &str) {
        let (from, to) = (self.node(Name::parse(from)), self.node(Name::parse(to)));
        self.graph.add_edge(from, to, ());
    }

    /// The event of this name.
    pub(crate) fn find(&self, name: &str) -> Option<NodeIndex<u32>> {
        match Name::parse(name) {
            Name::Module(id) => self.ids.get(&id).copied(),
            Name::Own(name) => self.names.get(&name).copied(),
        }
    }

    /// Causes before effects; where they do not depend on one another, the earlier stamp first.
    /// An error: an event in a cycle.
    pub(crate) fn order(&self) -> Result<Vec<NodeIndex<u32>>, NodeIndex<u32>> {
        let mut all: Vec<NodeIndex<u32>> = self.graph.node_indices().collect();
        // Stable, so of one stamp the one that was told first.
        all.sort_by_key(|index| self.graph[*index].id);
        let mut place = vec![0_u32; all.len()];
        for (at, index) in all.iter().enumerate() {
            place[index.index()] = at as u32;
        }
        let agrees = self
            .graph
            .edge_references()
            .all(|edge| place[edge.source().index()] < place[edge.target().index()]);
        if agrees {
            return Ok(all);
        }
        // The stamps alone do not tell: names that were put in before their causes. The library's
        // order begins with the nodes and the edges that come first, so it is given them by stamp.
        let mut sorted: DiGraph<NodeIndex<u32>, (), u32> =
            DiGraph::with_capacity(all.len(), self.graph.edge_count());
        for index in all.iter().rev() {
            sorted.add_node(*index);
        }
        let last = all.len().saturating_sub(1) as u32;
        for edge in self.graph.edge_references() {
            let of = |index: NodeIndex<u32>| NodeIndex::new((last - place[index.index()]) as usize);
            sorted.add_edge(of(edge.source()), of(edge.target()), ());
        }
        match toposort(&sorted, None) {
            Ok(order) => Ok(order.into_iter().map(|index| sorted[index]).collect()),
            Err(cycle) => Err(sorted[cycle.node_id()]),
        }
    }

    /// The cycles: each a way round, shortest first among those with the same events.
    pub(crate) fn cycles(&self) -> Vec<Vec<NodeIndex<u32>>> {
        let mut cycles = Vec::new();
        for part in tarjan_scc(&self.graph) {
            let Some(start) = part
                .iter()
                .copied()
                .min_by_key(|index| self.graph[*index].id)
            else {
                continue;
            };
            if part.len() == 1 {
                if self.graph.contains_edge(start, start) {
                    cycles.push(vec![start]);
                }
                continue;
            }
            let members: HashSet<NodeIndex<u32>> = part.into_iter().collect();
            cycles.push(self.way_round(start, &members));
        }
        cycles
    }

    /// The shortest way from an event back to it.
    fn way_round(
        &self,
        start: NodeIndex<u32>,
        members: &HashSet<NodeIndex<u32>>,
    ) -> Vec<NodeIndex<u32>> {
        let mut before: HashMap<NodeIndex<u32>, NodeIndex<u32>> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for next in self.graph.neighbors(at).filter(|n| members.contains(n)) {
                if next == start {
                    let mut way = vec![at];
                    let mut at = at;
                    while at != start {
                        at = before[&at];
                        way.push(at);
                    }
                    way.reverse();
                    return way;
                }
                if let Entry::Vacant(place) = before.entry(next) {
                    place.insert(at);
                    queue.push_back(next);
                }
            }
        }
        vec![start]
    }

    /// The shortest way along the edges that were told.
    pub(crate) fn path(
        &self,
        from: NodeIndex<u32>,
        to: NodeIndex<u32>,
    ) -> Option<Vec<NodeIndex<u32>>> {
        astar(&self.graph, from, |at| at == to, |_| 1_u32, |_| 0).map(|(_, way)| way)
    }

    /// The graph with each module event of a node leading to the next of it.
    pub(crate) fn with_node_order(&self) -> DiGraph<(), (), u32> {
        let mut graph = self.graph.map(|_, _| (), |_, ()| ());
        let mut by_node: Vec<NodeIndex<u32>> = self
            .graph
            .node_indices()
            .filter(|index| matches!(self.graph[*index].name, Name::Module(_)))
            .collect();
        by_node.sort_by_key(|index| {
            let id = self.graph[*index].id;
            (id.node, id.stamp)
        });
        for pair in by_node.windows(2) {
            if self.graph[pair[0]].id.node == self.graph[pair[1]].id.node {
                graph.add_edge(pair[0], pair[1], ());
            }
        }
        graph
    }

    /// All from which these can be reached (or that can be reached from them), these among them.
    pub(crate) fn reach(
        graph: &DiGraph<(), (), u32>,
        from: &[NodeIndex<u32>],
        direction: Direction,
    ) -> HashSet<NodeIndex<u32>> {
        let mut seen: HashSet<NodeIndex<u32>> = from.iter().copied().collect();
        let mut todo = from.to_vec();
        while let Some(at) = todo.pop() {
            for next in graph.neighbors_directed(at, direction) {
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
        seen
    }

    /// The events at most so many steps away from one, in either direction.
    pub(crate) fn near(&self, event: NodeIndex<u32>, steps: usize) -> HashSet<NodeIndex<u32>> {
        let mut seen = HashSet::from([event]);
        let mut front = vec![event];
        for _ in 0..steps {
            let mut next = Vec::new();
            for at in front {
                for other in self.graph.neighbors_undirected(at) {
                    if seen.insert(other) {
                        next.push(other);
                    }
                }
            }
            front = next;
        }
        seen
    }
}
