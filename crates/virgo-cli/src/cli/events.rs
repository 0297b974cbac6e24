// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command line of `virgo events`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Shown by `virgo events --help`.
pub(crate) const EXAMPLES: &str = "Examples:\n\n\
  virgo events log edge sale invoice          say that one event led to another\n\
  virgo events tail                           print events as they come\n\
  virgo events order -o EventNetOrdering.txt  all of them, causes before effects\n\
  virgo events path order shipment            how one led to the other\n\
  virgo events svg --around invoice > i.svg   draw what is around one\n\
  virgo events chrome > run.json              for ui.perfetto.dev or chrome://tracing\n\n\
What is read is the journal of virgo-eventnet, by its device; with --journal a copy of one,\n\
with --text a folder with the original's two text files. doc/eventnet.md is the guide.";

/// Where events come from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Source {
    /// Read this journal, not the device
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) journal: Option<PathBuf>,
    /// Read EventNetVertices.txt and EventNetEdges.txt in this folder
    #[arg(long, global = true, value_name = "FOLDER", value_hint = ValueHint::DirPath, conflicts_with = "journal")]
    pub(crate) text: Option<PathBuf>,
}

/// Which events to draw.
#[derive(Args, Clone, Debug)]
pub(crate) struct Part {
    /// Only this event and those near it
    #[arg(long, value_name = "EVENT")]
    pub(crate) around: Option<String>,
    /// How many steps from it
    #[arg(long, value_name = "N", default_value_t = 3, requires = "around")]
    pub(crate) steps: usize,
    /// Only the last so many
    #[arg(long, value_name = "N", conflicts_with = "around")]
    pub(crate) last: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// Have something written: an event, or that one led to another
    #[command(after_long_help = "Examples:\n\n\
      virgo events log vertex invoice alice,bob mail\n\
      virgo events log edge sale invoice")]
    Log {
        #[command(subcommand)]
        what: Log,
    },
    /// Print all events (with --json a JSON line each)
    #[command(
        after_long_help = "Example:\n\n  virgo events ls --json | jq -r 'select(.what == \"loss\")'"
    )]
    Ls,
    /// Print events as they come
    #[command(after_long_help = "Example:\n\n  virgo events tail --json -n 10")]
    Tail {
        /// End after so many
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<u64>,
        /// Begin with those that are there
        #[arg(long)]
        all: bool,
    },
    /// Print all events, causes before effects
    ///
    /// Behind each its node, module, kind and subject, or its partakers and conversation; but with
    /// --output or --original its name alone, to the byte as the original's EventNetOrdering.txt has
    /// it. Among events that do not depend on one another the earlier stamp comes first. Fails where
    /// there is a cycle, and names it.
    #[command(after_long_help = "Examples:\n\n\
      virgo events order\n\
      virgo events order -o EventNetOrdering.txt")]
    Order {
        /// Write it to this file
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
        /// As the original's file has it
        #[arg(long)]
        original: bool,
    },
    /// Print how one event led to another: the shortest way; exits with 1 if it did not
    #[command(after_long_help = "Example:\n\n  virgo events path sale shipment")]
    Path {
        /// The cause
        from: String,
        /// The effect
        to: String,
    },
    /// Print all events that may have led to one
    #[command(after_long_help = "Example:\n\n  virgo events ancestors shipment")]
    Ancestors {
        /// The effect
        event: String,
    },
    /// Print the events that neither led to one nor came of it
    #[command(after_long_help = "Example:\n\n  virgo events concurrent shipment")]
    Concurrent {
        /// Which
        event: String,
    },
    /// Print the smallest consistent cut with these events: with each, all that led to it
    #[command(after_long_help = "Example:\n\n  virgo events cut shipment invoice")]
    Cut {
        /// Which
        #[arg(required = true)]
        events: Vec<String>,
    },
    /// Find cycles and name them; exits with 1 if there are any
    #[command(after_long_help = "Example:\n\n  virgo events cycles --text /var/log/eventnet")]
    Cycles,
    /// Print the graph for Graphviz
    #[command(
        after_long_help = "Example:\n\n  virgo events dot --last 50 | dot -Tpdf > events.pdf"
    )]
    Dot {
        #[command(flatten)]
        part: Part,
    },
    /// Draw the graph as SVG
    #[command(
        after_long_help = "Example:\n\n  virgo events svg --around invoice --steps 2 > invoice.svg"
    )]
    Svg {
        #[command(flatten)]
        part: Part,
    },
    /// Print a trace for ui.perfetto.dev or chrome://tracing: nodes, modules, and arrows
    #[command(after_long_help = "Example:\n\n  virgo events chrome > run.json")]
    Chrome,
    /// Print a log for ShiViz, with vector clocks
    ///
    /// In ShiViz the parser's expression is the one that it has by default:
    /// (?<host>\S*) (?<clock>{.*})\n(?<event>.*)
    #[command(after_long_help = "Example:\n\n  virgo events shiviz > run.log")]
    Shiviz,
    /// Show what was taken in and what was lost
    #[command(after_long_help = "Example:\n\n  virgo events stat --json")]
    Stat,
    /// Show the settings, or change them
    #[command(after_long_help = "Examples:\n\n\
      virgo events set --modules core,queue\n\
      virgo events set --flush-ms 100\n\
      sudo virgo events set --collector 10.0.0.2:40000")]
    Set {
        /// Whose events are taken: names with commas between, all, or none
        #[arg(long, value_name = "NAMES")]
        modules: Option<String>,
        /// How long a module's event waits for others before it is written
        #[arg(long, value_name = "MS")]
        flush_ms: Option<u32>,
        /// The node that gets a copy of this node's records: its number or its address with the
        /// port, as "virgo nodes" shows them, or none
        #[arg(long, value_name = "NODE")]
        collector: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// An event, or more of one that is known
    #[command(after_long_help = "Example:\n\n  virgo events log vertex invoice alice,bob mail")]
    Vertex {
        /// Its name
        id: String,
        /// Who partakes, with commas between
        partakers: String,
        /// Who else has a part in this conversation, likewise
        conversation: String,
    },
    /// That one event led to another
    #[command(after_long_help = "Example:\n\n  virgo events log edge sale invoice")]
    Edge {
        /// The cause
        from: String,
        /// The effect
        to: String,
    },
}
