// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command line. Help, manual pages and completions are all made from this.

pub(crate) mod analytics;
pub(crate) mod events;
pub(crate) mod learn;
pub(crate) mod mem;
pub(crate) mod queue;

use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

/// Look after VIRGO's kernel modules, and read their profiler.
#[derive(Debug, Parser)]
#[command(
    name = "virgo",
    version,
    disable_help_subcommand = true,
    after_help = "Exit status: 0 if all went well, 1 if not, 2 if the command line is wrong. \
                  \"virgo profiler run\" and \"virgo trace run\" exit as their command does.",
    after_long_help = "Exit status: 0 if all went well, 1 if not, 2 if the command line is wrong. \
                       \"virgo profiler run\" and \"virgo trace run\" exit as their command does.\n\n\
                       If something does not work, begin with \"virgo doctor\"."
)]
pub(crate) struct Cli {
    /// Print JSON, for programs, instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the files hold. doc/profiler.md says more.
const COLUMNS: &str = "Columns of CSV files and names in JSON lines:\n\n\
  time_s    seconds of CLOCK_MONOTONIC\n\
  id        identity of the registration, never used twice\n\
  pid, tid  process and thread, in the initial pid namespace\n\
  comm      name of the thread\n\
  state     a letter as in /proc/PID/stat\n\
  min_flt, maj_flt    faults since the task began\n\
  utime_ms, stime_ms  CPU time since the task began\n\
  cpu_pct   CPU since the task's sample before, in percent of one; empty for the first\n\
  rss_kib   resident memory\n\
  flags     thread, first, exit, last, joined by +\n\
  lost      records of any task that were lost before this one\n\
  label     the command, for those that \"virgo profiler run\" started";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check that VIRGO works here; say what to do where it doesn't
    ///
    /// Looks at the modules, their version and features, and whether this user may use the
    /// devices. Exits with 1 if a check failed.
    Doctor,
    /// Show which modules are loaded, and what the profiler is doing
    Status,
    /// Show the versions of this program and of the loaded modules
    Version,
    /// Sample page faults, CPU time and memory of processes
    Profiler {
        #[command(subcommand)]
        command: Profiler,
    },
    /// Use the memory pool: blocks of memory, and named values
    #[command(after_help = mem::EXAMPLES)]
    Mem {
        #[command(subcommand)]
        command: mem::Mem,
    },
    /// Call a kernel function by name, here or on another node
    #[command(after_help = CALL_EXAMPLES)]
    Call(Call),
    /// List the kernel functions that can be called by name
    Functions(Functions),
    /// Run a program here or on another node: its output, its exit status
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(Exec),
    /// Run a program for each line of standard input, over all nodes
    #[command(after_help = MAP_EXAMPLES)]
    Map(Map),
    /// Show which programs may be run, and say it for this node
    #[command(after_help = PROGRAMS_EXAMPLES)]
    Programs(Programs),
    /// Show the programs that run, and kill them
    Runs(Runs),
    /// Show the cluster's nodes: who is up, how busy, and why not; load and change them
    Nodes(Nodes),
    /// Work on files of other nodes, by virgo-cloudfs
    ///
    /// A file of a node is NODE:/PATH: NODE is a name or an address, with :PORT if it is not
    /// 50000, and the path is below the folder that the node serves. Symbolic links are not
    /// followed by the node. To use the files with any program, mount them:
    /// mount -t 9p -o trans=tcp,port=50000,version=9p2000.L NODE /mnt
    #[command(after_long_help = FS_EXAMPLES)]
    Fs {
        #[command(subcommand)]
        command: Fs,
    },
    /// Use the queue: requests that wait their turn
    #[command(after_help = queue::EXAMPLES)]
    Queue {
        #[command(subcommand)]
        command: queue::Queue,
    },
    /// Events: what happened, and what led to what
    #[command(after_help = events::EXAMPLES)]
    Events {
        #[command(flatten)]
        source: events::Source,
        #[command(subcommand)]
        command: events::Events,
    },
    /// Print the counters of all modules for Prometheus, or serve them
    ///
    /// In the text format of Prometheus. With --listen they are served over HTTP at /metrics, until
    /// it is stopped.
    #[command(after_long_help = "Examples:\n\n\
      virgo export | promtool check metrics\n\
      virgo export --listen 127.0.0.1:9634")]
    Export {
        /// Serve them at this address
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<std::net::SocketAddr>,
    },
    /// Look at settings, change them, watch them
    #[command(after_help = analytics::EXAMPLES)]
    Analytics {
        #[command(subcommand)]
        command: analytics::Analytics,
    },
    /// Learn what settings should be, from what was seen; advice, unless told to set it
    #[command(after_help = learn::EXAMPLES)]
    Learn {
        #[command(subcommand)]
        command: learn::Learn,
    },
    /// Record every page fault of a process and every change of its memory map, and study them
    ///
    /// The traces are read with the same command's show, plot, heat, wss, simulate and diff.
    /// virgo-profiler must be loaded to record, not to read.
    #[command(after_long_help = TRACE)]
    Trace {
        #[command(subcommand)]
        command: Trace,
    },
    /// Record a command's page faults, as the original's tracepgfault does
    #[command(hide = true)]
    Tracepgfault {
        #[arg(value_hint = ValueHint::FilePath)]
        out: PathBuf,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Use memory, as the original profiler's test program does
    Work(Work),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Mangen {
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
    /// Stop until the parent has registered this process, then become COMMAND
    #[command(hide = true)]
    Gate {
        #[arg(long)]
        parent: i32,
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
}

/// Shown below the help of `virgo fs`.
const FS_EXAMPLES: &str = "Examples:\n\n\
  virgo fs ls 10.77.0.2:/\n\
  virgo fs put report.pdf node2:/reports/\n\
  virgo fs get node2:/reports/report.pdf /tmp\n\
  virgo fs cp node2:/a node3:/b\n\
  virgo fs mkdir -p node2:/x/y/z\n\
  virgo --json fs df node2:/";

#[derive(Debug, Subcommand)]
pub(crate) enum Fs {
    /// List a folder
    Ls {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH")]
        target: std::ffi::OsString,
    },
    /// Print files
    Cat {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH", required = true)]
        targets: Vec<std::ffi::OsString>,
    },
    /// Copy a file of this machine to a node
    Put {
        /// A file here
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        from: std::ffi::OsString,
        /// NODE:/PATH, a folder or the new file's name
        #[arg(value_name = "NODE:/PATH")]
        to: std::ffi::OsString,
        /// Print no progress
        #[arg(short, long)]
        quiet: bool,
    },
    /// Copy a node's file to this machine
    Get {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH")]
        from: std::ffi::OsString,
        /// A folder or a name here; else the current folder
        #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
        to: Option<std::ffi::OsString>,
        /// Print no progress
        #[arg(short, long)]
        quiet: bool,
    },
    /// Copy a file, here or on nodes, to any of them
    Cp {
        /// A file here, or NODE:/PATH
        #[arg(value_name = "FROM", value_hint = ValueHint::FilePath)]
        from: std::ffi::OsString,
        /// A folder or a name here, or NODE:/PATH
        #[arg(value_name = "TO", value_hint = ValueHint::AnyPath)]
        to: std::ffi::OsString,
        /// Print no progress
        #[arg(short, long)]
        quiet: bool,
    },
    /// Rename a file on its node
    Mv {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH")]
        from: std::ffi::OsString,
        /// NODE:/PATH of the same node
        #[arg(value_name = "NODE:/NEW")]
        to: std::ffi::OsString,
    },
    /// Remove files and empty folders
    Rm {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH", required = true)]
        targets: Vec<std::ffi::OsString>,
        /// Folders with all that is in them
        #[arg(short, long)]
        recursive: bool,
    },
    /// Make folders
    Mkdir {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH", required = true)]
        targets: Vec<std::ffi::OsString>,
        /// And those above that are missing; one that is there is no error
        #[arg(short, long)]
        parents: bool,
    },
    /// Tell all about a file
    Stat {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH")]
        target: std::ffi::OsString,
    },
    /// Tell how much room a node has
    Df {
        /// NODE:/PATH
        #[arg(value_name = "NODE:/PATH")]
        target: std::ffi::OsString,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Profiler {
    /// Run commands and profile them from their first instruction to their end
    ///
    /// Each command is registered before it begins; its children are not. At the end a table is
    /// printed. The exit status is the command's own; with several, that of the first one which
    /// failed.
    #[command(after_long_help = COLUMNS)]
    Run(Run),
    /// Register processes, until they end or are unregistered
    Register(Tasks),
    /// Unregister processes
    Unregister(Tasks),
    /// List what is registered
    List,
    /// Show the sampling rate, or set it for all
    Rate {
        /// Sampling rounds a second, 1 to 1000
        hz: Option<u32>,
    },
    /// Print samples as they come
    ///
    /// Samples of every registered task are printed, whoever registered it. Any number of readers
    /// may run at the same time; none takes anything away from another.
    #[command(after_long_help = COLUMNS)]
    Monitor(Monitor),
    /// Show a live table of the registered tasks
    ///
    /// Keys: c, f, m, r, t, n sort by CPU, faults, major faults, resident memory, CPU time, pid;
    /// i reverses the order; space pauses; q ends.
    Top(Top),
    /// Draw recorded samples
    Plot(Plot),
    /// Write samples into a CSV file
    ///
    /// Samples of every registered task are written, whoever registered it.
    #[command(after_long_help = COLUMNS)]
    Record(Record),
    /// Run one of the original's case studies, and draw its plots
    ///
    /// Case 1 runs two pairs of processes: R 50000 with R 10000, then R 50000 with L 10000. Case
    /// 2 runs 1, 5, 7 and 11 copies of "work 200 R 10000" and draws the CPU's utilisation
    /// against their number.
    Case(Case),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Sampling rounds a second while it runs, 1 to 1000; then the rate is set back
    #[arg(long, value_name = "HZ")]
    pub(crate) rate: Option<u32>,
    /// Write the samples into this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) csv: Option<PathBuf>,
    /// Draw faults and CPU over time into this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,
    /// Draw faults and CPU over time into this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) png: Option<PathBuf>,
    /// Title of the drawings
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// A command with its arguments, quoted as for a shell; may be given again, then all run at
    /// the same time. No shell is started: write 'sh -c "..."' for one
    #[arg(
        short = 'c',
        long = "command",
        value_name = "COMMAND",
        required_unless_present = "argv",
        value_hint = ValueHint::CommandString
    )]
    pub(crate) commands: Vec<String>,
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// A command with its arguments
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) argv: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Tasks {
    /// Process ids; thread ids with --thread
    #[arg(required = true, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pids: Vec<i32>,
    /// Single threads, not whole processes
    #[arg(long)]
    pub(crate) thread: bool,
}

/// What to register for as long as a command reads.
#[derive(Debug, Args)]
pub(crate) struct Bound {
    /// Register this process while this runs; may be given again
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pids: Vec<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    #[command(flatten)]
    pub(crate) bound: Bound,
    /// The original's four columns, a row for each sampling round: jiffies, minor faults, major
    /// faults, CPU in percent, summed over all registered tasks since the round before
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    pub(crate) classic: bool,
    /// Comma-separated values, with a header line
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<f64>,
    /// End after so many rows
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Print what the buffer holds, and end, as the original's monitor does
    #[arg(long)]
    pub(crate) dump: bool,
    /// With --classic: the kernel's timer frequency; else taken from /boot/config-RELEASE
    #[arg(long, value_name = "N", requires = "classic", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) hz: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) bound: Bound,
    /// Seconds between two tables
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) delay: f64,
    /// What to sort by
    #[arg(short, long, value_enum, default_value_t = Sort::Cpu)]
    pub(crate) sort: Sort,
    /// Print so many tables as plain text, and end
    #[arg(short, long, value_name = "N")]
    pub(crate) batch: Option<u64>,
}

/// What `top` sorts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// CPU now
    Cpu,
    /// Faults a second
    Faults,
    /// Major faults a second
    Major,
    /// Resident memory
    Rss,
    /// CPU time in all
    Time,
    /// Process id
    Pid,
}

#[derive(Debug, Args)]
pub(crate) struct Plot {
    /// A file written by "profiler run --csv", "record" or "monitor --csv"
    #[arg(value_name = "IN.csv", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// Where to draw: a name that ends in .svg or .png; may be given again
    #[arg(short, long, value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub(crate) output: Vec<PathBuf>,
    /// Draw this alone; else faults and CPU, one above the other
    #[arg(long, value_enum)]
    pub(crate) by: Option<By>,
    /// Title of the drawing
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
}

/// What a plot shows over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Accumulated page faults
    Faults,
    /// CPU, in percent of one
    Cpu,
    /// Resident memory
    Rss,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    #[command(flatten)]
    pub(crate) bound: Bound,
    /// Where to write
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// End after so many seconds; else at Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct Case {
    /// Which case study
    #[arg(value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) number: u8,
    /// Memory of each process, in MiB; else the original's 1024 (case 1) or 200 (case 2), or
    /// less if this machine has less
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) mb: Option<u32>,
    /// Memory accesses in each iteration; else the original's 50000 and 10000. With case 1 it is
    /// the first process's, the second has a fifth of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) accesses: Option<u64>,
    /// Iterations of each process
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) iterations: u32,
    /// Pause after each iteration, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(crate) pause: u64,
    /// With case 2: the numbers of processes
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,5,7,11", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) processes: Vec<u32>,
    /// Sampling rounds a second
    #[arg(long, value_name = "HZ", default_value_t = 20)]
    pub(crate) rate: u32,
    /// Directory to write the CSV files and the drawings into; made if missing
    #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

const TRACE: &str = "Examples:\n\n\
  virgo trace run ls.trace -- ls -lR /etc\n\
  virgo trace show ls.trace\n\
  virgo trace plot ls.trace -o ls.svg\n\
  virgo trace simulate ls.trace --policy lru,opt --frames 10..200 --step 10";

#[derive(Debug, Subcommand)]
pub(crate) enum Trace {
    /// Run a command and record its page faults, from its first instruction to its end
    ///
    /// The command is stopped before it begins, then traced, then let go. The exit status is the
    /// command's own. At the end the number of faults is told beside what the kernel counted.
    #[command(after_long_help = "Example: virgo trace run --follow gcc.trace -- gcc -c a.c")]
    Run(TraceRun),
    /// Record the page faults of a process that runs already
    #[command(after_long_help = "Example: virgo trace attach 1234 -o db.trace --duration 5")]
    Attach(TraceAttach),
    /// Show a trace: each region with a mark for each page that faulted, or every fault
    ///
    /// A line a region, by its widest extent: "X" a page that faulted, "." one that did not. On a
    /// terminal the X is green for a read, yellow for a write, cyan for an instruction, red for a
    /// major fault.
    #[command(after_long_help = "Example: virgo trace show --format csv ls.trace > ls.csv")]
    Show(TraceShow),
    /// Draw a trace: address against time, a dot a fault
    #[command(after_long_help = "Example: virgo trace plot ls.trace -o ls.svg -o ls.png")]
    Plot(TracePlot),
    /// Show which functions met the faults, for programs with symbols
    #[command(after_long_help = "Example: virgo trace heat --by line --top 10 ls.trace")]
    Heat(TraceHeat),
    /// Show the working set over time: different pages that faulted within a window
    #[command(after_long_help = "Example: virgo trace wss --window 0.01 ls.trace")]
    Wss(TraceWss),
    /// Simulate page replacement on the recorded accesses: misses by number of frames
    ///
    /// The accesses are the recorded faults: each page that faulted, in order, again each time
    /// that it faulted.
    #[command(
        after_long_help = "Example: virgo trace simulate --policy lru,opt --frames 1..64 ls.trace"
    )]
    Simulate(TraceSimulate),
    /// Compare two traces: totals, and faults by file
    #[command(after_long_help = "Example: virgo trace diff before.trace after.trace")]
    Diff(TraceDiff),
}

impl Trace {
    /// The original's `tracepgfault OUT COMMAND ...`.
    pub(crate) fn classic(out: PathBuf, command: Vec<std::ffi::OsString>) -> Self {
        Trace::Run(TraceRun {
            out,
            follow: false,
            buffer: None,
            quiet: true,
            command,
        })
    }
}

/// The command line, with `tracepgfault ...` made `virgo tracepgfault ...` if this program was
/// called by that name.
pub(crate) fn arguments(
    words: impl Iterator<Item = std::ffi::OsString>,
) -> Vec<std::ffi::OsString> {
    let mut words: Vec<_> = words.collect();
    let classic = words.first().is_some_and(|name| {
        std::path::Path::new(name)
            .file_name()
            .is_some_and(|name| name == "tracepgfault")
    });
    if classic {
        words.insert(1, "tracepgfault".into());
    }
    words
}

#[derive(Debug, Args)]
pub(crate) struct TraceRun {
    /// Where to write the trace
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Trace the command's children as well, and theirs
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Most memory of the kernel's for records that were not written yet, in KiB, at least 8; else
    /// as the module's parameter trace_kb says
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u64).range(8..))]
    pub(crate) buffer: Option<u64>,
    /// Tell nothing at the end
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// A command with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceAttach {
    /// The process
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    /// Where to write the trace
    #[arg(short, long, value_name = "FILE", default_value = "virgo.trace", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// End after so many seconds; else with the process, or at Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<f64>,
    /// Trace the process's children as well, and theirs
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Most memory of the kernel's for records that were not written yet, in KiB, at least 8; else
    /// as the module's parameter trace_kb says
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u64).range(8..))]
    pub(crate) buffer: Option<u64>,
    /// Tell nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TraceShow {
    /// A trace
    #[arg(value_name = "TRACE", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// What to print; --json is --format json
    #[arg(long, value_enum, default_value_t = TraceFormat::Regions)]
    pub(crate) format: TraceFormat,
    /// Whether to colour the marks
    #[arg(long, value_enum, default_value_t = When::Auto)]
    pub(crate) color: When,
}

/// What `trace show` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceFormat {
    /// A line a region, a mark a page
    Regions,
    /// A line a fault, comma-separated, with a header line
    Csv,
    /// A JSON object a fault
    Json,
    /// Trace events for chrome://tracing and ui.perfetto.dev
    Chrome,
}

/// Whether to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct TracePlot {
    /// A trace
    #[arg(value_name = "TRACE", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// Where to draw: a name that ends in .svg or .png; may be given again
    #[arg(short, long, value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub(crate) output: Vec<PathBuf>,
    /// Title of the drawing
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceHeat {
    /// A trace
    #[arg(value_name = "TRACE", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// What to count by
    #[arg(long, value_enum, default_value_t = HeatBy::Function)]
    pub(crate) by: HeatBy,
    /// Show so many; else 30, with --json all
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
}

/// What `trace heat` counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeatBy {
    /// Function
    Function,
    /// Line of the source, where the program has debug information
    Line,
}

#[derive(Debug, Args)]
pub(crate) struct TraceWss {
    /// A trace
    #[arg(value_name = "TRACE", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// The window, in seconds; else two steps
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) window: Option<f64>,
    /// From one line to the next, in seconds; else a fortieth of the trace
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) step: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceSimulate {
    /// A trace
    #[arg(value_name = "TRACE", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// Which policies
    #[arg(
        long,
        value_enum,
        value_name = "POLICY,...",
        value_delimiter = ',',
        default_value = "lru,fifo,clock,opt"
    )]
    pub(crate) policy: Vec<PolicyName>,
    /// Numbers of frames, from A to B
    #[arg(long, value_name = "A..B", default_value = "1..64", value_parser = frames)]
    pub(crate) frames: (usize, usize),
    /// From one number of frames to the next; else so much that there are at most 66
    #[arg(long, value_name = "N", value_parser = step)]
    pub(crate) step: Option<usize>,
}

/// A policy of page replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// The page that was not used for the longest time goes
    Lru,
    /// The page that came first goes
    Fifo,
    /// The next page round that was not used goes
    Clock,
    /// The page that will not be used for the longest time goes
    Opt,
}

#[derive(Debug, Args)]
pub(crate) struct TraceDiff {
    /// The first trace
    #[arg(value_name = "BEFORE", value_hint = ValueHint::FilePath)]
    pub(crate) before: PathBuf,
    /// The second trace
    #[arg(value_name = "AFTER", value_hint = ValueHint::FilePath)]
    pub(crate) after: PathBuf,
}

/// Parses `A..B`, or one number.
fn frames(text: &str) -> Result<(usize, usize), String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim_start_matches('=').parse::<usize>().ok();
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= to && to <= 100_000_000 => Ok((from, to)),
        _ => Err("a range of numbers of frames is needed, such as 1..64".into()),
    }
}

fn step(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(step) if step > 0 => Ok(step),
        _ => Err("a number above 0 is needed".into()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Work {
    /// Memory to use, in MiB: 1 to 1024
    #[arg(value_name = "MB")]
    pub(crate) memory: Option<String>,
    /// R for random accesses, L or T for local ones: a fifth random, the others close together
    #[arg(value_name = "R|L")]
    pub(crate) locality: Option<String>,
    /// Memory accesses in each iteration
    #[arg(value_name = "ACCESSES")]
    pub(crate) accesses: Option<String>,
    /// Iterations
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) iterations: u32,
    /// Pause after each iteration, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(crate) pause: u64,
    /// Register this process with the profiler while it works, as the original does
    #[arg(long)]
    pub(crate) register: bool,
    /// Let the kernel use huge pages; else each page faults by itself, as in the original's time
    #[arg(long)]
    pub(crate) huge_pages: bool,
}

/// What stands at the end of "virgo call --help".
const CALL_EXAMPLES: &str = "Examples:\n\n\
  virgo call primes 1000000               on the node that the policy chooses\n\
  virgo call --node 10.0.0.2 uname\n\
  virgo call --policy p2c --idempotent -v primes 100000000\n\
  virgo call --stdin echo < FILE\n\
  virgo queue result --wait 60 $(virgo call --async primes 100000000)";

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// How the node is chosen; else as the cluster is set to
    #[arg(short, long, value_enum, conflicts_with = "node")]
    pub(crate) policy: Option<NodePolicy>,
    /// Run it on this node, by address or number
    #[arg(short, long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// How long it may take, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: f64,
    /// It may run twice: call it on another node if its own goes down meanwhile
    #[arg(short, long)]
    pub(crate) idempotent: bool,
    /// Take the input from standard input, and print the output as it is
    #[arg(long, conflicts_with = "arguments")]
    pub(crate) stdin: bool,
    /// Say afterwards where it ran, and how long
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Leave it to virgo-queue and print its number there, for "virgo queue result"
    #[arg(long = "async", conflicts_with = "verbose")]
    pub(crate) later: bool,
    /// The function; "virgo functions" lists them
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Its input: the words, with a space between two
    #[arg(
        value_name = "ARG",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Functions {
    /// Of this node alone, by address or number
    #[arg(short, long, value_name = "NODE")]
    pub(crate) node: Option<String>,
}

/// What stands at the end of "virgo exec --help".
const EXEC_EXAMPLES: &str = "Examples:\n\n\
  virgo exec -- uname -n                      on the node that the policy chooses\n\
  virgo exec --node 10.0.0.2 -v -- sha256sum /usr/bin/bash\n\
  virgo exec --stdin --time 10 -- sort -n < FILE\n\
  virgo queue result --wait 60 $(virgo exec --async -- sha256sum /usr/bin/bash)\n\n\
Exit status: the program's; 128 and the signal that ended it; 124 if its time was over; 126 if it\n\
could not be run. Ctrl-C kills it.";

/// What stands at the end of "virgo map --help".
const MAP_EXAMPLES: &str = "Examples:\n\n\
  ls /usr/bin | virgo map -j 8 -- sha256sum /usr/bin/{}\n\
  seq 1000 | virgo map --idempotent -j 16 -- factor {}\n\n\
The output comes in the order of the lines. Exit status 1 if a line failed.";

/// What stands at the end of "virgo programs --help".
const PROGRAMS_EXAMPLES: &str = "Examples:\n\n\
  virgo programs                              on all nodes\n\
  sudo virgo programs load                    from /etc/virgo/programs.toml\n\
  virgo programs load --check FILE\n\
  sudo virgo programs clear";

/// Where a program runs.
#[derive(Debug, Args)]
pub(crate) struct RunPlace {
    /// How the node is chosen; else as the cluster is set to
    #[arg(short, long, value_enum, conflicts_with = "node")]
    pub(crate) policy: Option<NodePolicy>,
    /// Run it on this node, by address or number
    #[arg(short, long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// It may run twice: run it on another node if its own goes down meanwhile; its output is
    /// printed at its end
    #[arg(short, long)]
    pub(crate) idempotent: bool,
}

/// What a program may use, within what its node allows.
#[derive(Debug, Args)]
pub(crate) struct RunLimits {
    /// Kill it after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) time: Option<f64>,
    /// The most memory, in bytes; K, M and G are powers of 1024
    #[arg(long, value_name = "BYTES", value_parser = mem::size)]
    pub(crate) memory: Option<u64>,
    /// The most output, and as much error output
    #[arg(long, value_name = "BYTES", value_parser = mem::size)]
    pub(crate) output: Option<u64>,
    /// The most processes and threads
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) place: RunPlace,
    #[command(flatten)]
    pub(crate) limits: RunLimits,
    /// Give it standard input, which is read to its end first; else it has none
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Say afterwards where it ran, how long, and what it used
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Leave it to virgo-queue and print its number there, for "virgo queue result"; the arguments and
    /// the input have almost 64 KiB together then
    #[arg(long = "async", conflicts_with = "verbose")]
    pub(crate) later: bool,
    /// The program, by name or path, and its arguments; "virgo programs" lists them
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Map {
    #[command(flatten)]
    pub(crate) place: RunPlace,
    #[command(flatten)]
    pub(crate) limits: RunLimits,
    /// So many at once
    #[arg(short, long, value_name = "N", default_value = "8",
          value_parser = clap::value_parser!(u16).range(1..=1024).map(usize::from))]
    pub(crate) jobs: usize,
    /// The program and its arguments: each {} is the line; without one it stands at the end
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Programs {
    #[command(subcommand)]
    pub(crate) command: Option<ProgramsCommand>,
    /// Of this node alone, by address or number
    #[arg(short, long, value_name = "NODE")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProgramsCommand {
    /// Let the programs of a file be run on this node, and no others; needs root
    Load(ProgramsLoad),
    /// Let no programs be run any more; needs root
    Clear,
    /// What "load" has each user do
    #[command(hide = true)]
    Lend,
}

#[derive(Debug, Args)]
pub(crate) struct ProgramsLoad {
    /// The file; doc/cpupool.md has an example
    #[arg(default_value = "/etc/virgo/programs.toml")]
    pub(crate) file: PathBuf,
    /// Only say what is wrong with it
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Runs {
    #[command(subcommand)]
    pub(crate) command: Option<RunsCommand>,
    /// Of this node alone, by address or number
    #[arg(short, long, value_name = "NODE")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Kill a program with all its processes
    Kill {
        /// The node, by address or number
        node: String,
        /// The run, as "virgo runs" prints it
        #[arg(value_name = "RUN")]
        id: String,
    },
}

/// What stands at the end of "virgo nodes --help".
const NODES_EXAMPLES: &str = "Examples:\n\n\
  virgo nodes new-key /etc/virgo/key     once; copy it to every node\n\
  virgo nodes load                       on every node\n\
  virgo nodes load nodes.conf --key key --bind 10.0.0.1\n\
  virgo nodes                            who is up, and how busy\n\
  virgo nodes --watch --json             a line a second, for programs\n\
  virgo nodes ping 10.0.0.2";

#[derive(Debug, Args)]
#[command(after_help = NODES_EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Nodes {
    /// Again and again, after so many seconds
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    pub(crate) watch: Option<f64>,
    /// With --watch: end after so many times
    #[arg(short = 'n', long, value_name = "N", requires = "watch")]
    pub(crate) count: Option<u64>,
    #[command(subcommand)]
    pub(crate) command: Option<NodesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// Load the table of nodes from files
    ///
    /// A file names addresses, separated by commas or newlines: ADDRESS[:PORT][;WEIGHT], an IPv6
    /// address with a port in brackets. This machine's own is among them. The table that was there
    /// is replaced at once; connections to nodes that are in both go on.
    ///
    /// Without a key this node is alone, and no port is open. With one every frame between nodes is
    /// authenticated by it.
    #[command(after_help = NODES_EXAMPLES)]
    Load(NodesLoad),
    /// Forget the table: this node alone
    Clear,
    /// Ask nodes for a sign of life
    Ping(NodesPing),
    /// Show how nodes are chosen, or set it
    Policy(NodesPolicy),
    /// Choose a node as a request would, and print it
    Pick(NodesPick),
    /// Make a key for a cluster, in a new file that only its owner can read
    NewKey {
        /// The file
        #[arg(value_hint = ValueHint::FilePath, default_value = "/etc/virgo/key")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NodesLoad {
    /// Files that name the nodes; else /etc/virgo_cloud.conf and /etc/virgo_client.conf, as far as
    /// they are there
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// The cluster's key; else /etc/virgo/key, if it is there. Nobody but its owner may be able to
    /// read it
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// The address to listen on, with or without a port; else this node's own
    #[arg(short, long, value_name = "ADDRESS")]
    pub(crate) bind: Option<String>,
    /// Which of the nodes is this one; else the one whose address this machine has
    #[arg(long = "self", value_name = "NODE")]
    pub(crate) me: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NodesPing {
    /// Nodes by address or number; else all others
    #[arg(value_name = "NODE")]
    pub(crate) nodes: Vec<String>,
    /// How often, once a second
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) count: u64,
    /// How long to wait for each, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) timeout: f64,
}

#[derive(Debug, Args)]
pub(crate) struct NodesPolicy {
    /// What requests go by that name no policy of their own
    #[arg(value_enum)]
    pub(crate) policy: Option<NodePolicy>,
    /// Begin choices at random anew from this number, to have them the same again; 0: at random
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct NodesPick {
    /// How to choose; else as the cluster is set to
    #[arg(short, long, value_enum, conflicts_with_all = ["node", "key"])]
    pub(crate) policy: Option<NodePolicy>,
    /// This node, by address or number, if it is up
    #[arg(long, value_name = "NODE", conflicts_with = "key")]
    pub(crate) node: Option<String>,
    /// The node that this key belongs to, up or not
    #[arg(short, long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Choose so many times, and print how often each was chosen
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "key"
    )]
    pub(crate) count: u64,
}

/// How a node is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NodePolicy {
    /// The node with the least load for its weight
    LeastLoaded,
    /// Any node, as likely as its weight
    Random,
    /// The less loaded of two nodes drawn at random
    P2c,
}

impl NodePolicy {
    pub(crate) fn of_library(self) -> virgo::NodePolicy {
        match self {
            NodePolicy::LeastLoaded => virgo::NodePolicy::LeastLoaded,
            NodePolicy::Random => virgo::NodePolicy::Random,
            NodePolicy::P2c => virgo::NodePolicy::TwoChoices,
        }
    }
}

/// Parses a time in seconds, 1 ms to a year.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.001..=31_557_600.0).contains(&value) => Ok(value),
        _ => Err("a number of seconds, at least 0.001, is needed".into()),
    }
}
