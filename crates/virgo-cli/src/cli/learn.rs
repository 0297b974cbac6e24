// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command line of `virgo learn`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

/// Shown by `virgo learn --help`.
pub(crate) const EXAMPLES: &str = "Examples:\n\n\
  virgo learn sources /var/log/kern.log       who knocks most often at the firewall\n\
  virgo learn load --seconds 60               a forecast of the nodes' load, and what follows\n\
  virgo learn faults out.csv                  which tasks' fault rates are out of the ordinary\n\n\
Each says what it saw, what it would set and how sure it is, and sets nothing without --apply.\n\
What a person has set stands. doc/analytics.md is the guide.";

#[derive(Debug, Subcommand)]
pub(crate) enum Learn {
    /// Count the source addresses in a kernel firewall's log
    ///
    /// Reads the lines that netfilter's LOG target writes (also UFW's), from files or standard
    /// input, in one pass.
    #[command(after_long_help = "Examples:\n\n\
      virgo learn sources /var/log/kern.log /var/log/ufw.log\n\
      journalctl -k | virgo learn sources --top 3 --json\n\
      virgo learn sources /var/log/kern.log --apply --expires 3600")]
    Sources {
        /// The logs; none: standard input
        #[arg(value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// How many addresses to name
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
        top: u32,
        #[command(flatten)]
        how: How,
    },
    /// Forecast the nodes' load, and choose how calls are spread over them
    ///
    /// Reads a history as "virgo nodes --watch 1 --json" writes it, or (--seconds) watches the
    /// nodes itself. Would set cpupool.policy.
    #[command(after_long_help = "Examples:\n\n\
      virgo learn load --seconds 120\n\
      virgo nodes --watch 1 --json > nodes.jsonl    # for some minutes\n\
      virgo learn load nodes.jsonl --apply --guard cpu")]
    Load {
        /// The history
        #[arg(value_hint = ValueHint::FilePath, required_unless_present = "seconds")]
        history: Option<PathBuf>,
        /// Watch the nodes for so many seconds instead
        #[arg(long, conflicts_with = "history", value_parser = clap::value_parser!(u32).range(10..=86_400))]
        seconds: Option<u32>,
        /// How many samples ahead
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
        ahead: u32,
        #[command(flatten)]
        how: How,
    },
    /// Score how far tasks' fault rates are out of the ordinary
    ///
    /// Reads samples as "virgo profiler record" writes them. A score of 1 is the edge of what the
    /// task's own past lets expect in 99 of 100 cases.
    #[command(after_long_help = "Examples:\n\n\
      virgo profiler record -o out.csv --duration 60\n\
      virgo learn faults out.csv --json")]
    Faults {
        /// The samples
        #[arg(value_hint = ValueHint::FilePath)]
        samples: PathBuf,
        /// Report scores from here on
        #[arg(long, default_value_t = 1.0)]
        score: f64,
        #[command(flatten)]
        how: How,
    },
}

/// What to do with what was learnt.
#[derive(Args, Debug)]
pub(crate) struct How {
    /// Set it; a learnt value that runs out
    #[arg(long)]
    pub(crate) apply: bool,
    /// Seconds after which the kernel takes it back
    #[arg(long, value_name = "SECONDS", default_value_t = 3600,
        value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub(crate) expires: u32,
    /// Stay, and take it back at once when this gets worse
    ///
    /// The value is set for a short time only, again and again while the measure is no worse, so
    /// it runs out too if this program ends.
    #[arg(long, requires = "apply")]
    pub(crate) guard: Option<Measure>,
    /// How much worse, in percent
    #[arg(long, default_value_t = 25, requires = "guard")]
    pub(crate) worse: u32,
}

/// What is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Time lost for want of CPU (/proc/pressure/cpu)
    Cpu,
    /// Time lost for want of memory (/proc/pressure/memory)
    Memory,
    /// Major page faults a second (/proc/vmstat)
    Faults,
    /// TCP segments sent again a second (/proc/net/snmp)
    Errors,
}
