// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command line of `virgo analytics`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

/// Shown by `virgo analytics --help`.
pub(crate) const EXAMPLES: &str = "Examples:\n\n\
  virgo analytics ls                          the settings, their values and who reads them\n\
  virgo analytics set profiler.rate 50 --why 'looking for a leak'\n\
  virgo analytics get profiler.rate\n\
  virgo analytics undo                        take the last change back\n\
  virgo analytics watch                       changes as they come\n\
  virgo analytics load                        /etc/virgo_kernel_analytics.conf\n\
  virgo analytics stream 127.0.0.1:64000      settings from a stream\n\n\
doc/analytics.md is the guide.";

#[derive(Debug, Subcommand)]
pub(crate) enum Analytics {
    /// Set a value
    ///
    /// What a person has set stands: a stream or a learner can't change it until it is unset.
    #[command(after_long_help = "Examples:\n\n\
      virgo analytics set mempool.memory_limit 512M\n\
      virgo analytics set kernel_analytics1 v1 --new\n\
      virgo analytics set --cluster cpupool.policy random   on all nodes")]
    Set(Set),
    /// Print a value, or (--all) all there is to know of it
    #[command(after_long_help = "Examples:\n\n\
      virgo analytics get profiler.rate\n\
      virgo --json analytics get profiler.rate")]
    Get {
        /// The setting
        key: String,
        /// Its range, who set it, when and why
        #[arg(short, long)]
        all: bool,
    },
    /// Take back what was set; the default is in force again
    #[command(after_long_help = "Examples:\n\n\
      virgo analytics unset profiler.rate\n\
      virgo analytics unset --cluster cpupool.policy")]
    Unset {
        /// The setting
        key: String,
        /// Why, for those who look at it later
        #[arg(long, default_value = "")]
        why: String,
        /// What was set for the cluster, on all its nodes
        #[arg(long)]
        cluster: bool,
    },
    /// List the settings
    ///
    /// Where the cluster has set something, there are two columns more: the version, which is the same
    /// on all nodes that know the same, and the node it comes from.
    #[command(after_long_help = "Examples:\n\n\
      virgo analytics ls\n\
      virgo analytics ls mempool.\n\
      virgo --json analytics ls | jq -r '.[] | select(.source == \"learner\") | .key'")]
    Ls {
        /// Those alone whose names begin so
        prefix: Option<String>,
    },
    /// Load files of settings
    ///
    /// Without a file: /etc/virgo_kernel_analytics.conf. The files' items are key=value, separated
    /// by commas or on lines of their own; commas and ends of lines inside brackets and quotes
    /// belong to the value. Settings that are not there are made.
    #[command(after_long_help = "Example:\n\n  virgo analytics load my.conf --check")]
    Load {
        /// The files
        #[arg(value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// Set nothing; say what is wrong with the files
        #[arg(long)]
        check: bool,
    },
    /// Print changes as they come
    #[command(after_long_help = "Examples:\n\n\
      virgo analytics watch\n\
      virgo analytics watch profiler.rate -n 1\n\
      virgo --json analytics watch | while read -r line; do notify-send \"$line\"; done")]
    Watch {
        /// Of this setting alone
        key: Option<String>,
        /// End after so many
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<u64>,
        /// Begin with the changes that were made, as far as they are kept (512)
        #[arg(long)]
        log: bool,
    },
    /// Print the changes that were made, as far as they are kept (512)
    #[command(after_long_help = "Example:\n\n  virgo analytics log")]
    Log,
    /// Take the last changes back, up to 10
    #[command(after_long_help = "Examples:\n\n  virgo analytics undo\n  virgo analytics undo 3")]
    Undo {
        /// How many
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
        count: u32,
    },
    /// Set what a stream of settings says, until it ends
    ///
    /// Connects, says KERNEL_ANALYTICS_STREAMING_START as the original does, and takes key=value
    /// items, separated by commas or on lines of their own. What a person has set stands.
    #[command(after_long_help = "Example:\n\n\
      nc -l 64000 &    # then type k1=v1\n\
      virgo analytics stream 127.0.0.1:64000")]
    Stream {
        /// HOST:PORT; the original's port is 64000
        #[arg(value_name = "HOST:PORT")]
        from: String,
        /// Set only what is there already
        #[arg(long)]
        known: bool,
    },
    /// Declare a setting for programs: what it may be, and who reads it
    #[command(after_long_help = "Examples:\n\n\
      virgo analytics define web.workers --kind int --range 1..64 --initial 4 --reader 'my web server'\n\
      virgo analytics define web.mode --kind choice --words fast,safe --initial safe")]
    Define(Define),
    /// Show how many settings and changes there are, and the limits
    Stat,
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    /// The setting
    pub(crate) key: String,
    /// Its value; a number may have K, M, G or T behind it
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// Why, for those who look at it later
    #[arg(long, default_value = "")]
    pub(crate) why: String,
    /// Make a setting that is not there
    #[arg(long)]
    pub(crate) new: bool,
    /// Only if the setting's version is this ("get --all" shows it)
    #[arg(long, value_name = "VERSION")]
    pub(crate) only_if: Option<u64>,
    /// On all nodes of the cluster, those that are away now when they are back
    #[arg(long)]
    pub(crate) cluster: bool,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Any text
    Text,
    /// A whole number
    Int,
    /// true or false
    Bool,
    /// One of some words
    Choice,
}

#[derive(Args, Debug)]
pub(crate) struct Define {
    /// The setting
    pub(crate) key: String,
    /// What it may be
    #[arg(long, value_enum, default_value_t = Kind::Text)]
    pub(crate) kind: Kind,
    /// A number's least and greatest value
    #[arg(long, value_name = "LOW..HIGH", allow_hyphen_values = true)]
    pub(crate) range: Option<String>,
    /// A choice's words
    #[arg(long, value_delimiter = ',')]
    pub(crate) words: Vec<String>,
    /// The value it has where nobody has set it
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub(crate) initial: String,
    /// Who reads it
    #[arg(long, default_value = "")]
    pub(crate) reader: String,
}
