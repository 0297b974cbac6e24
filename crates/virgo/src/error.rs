// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Errors: what failed, why, and what to do next.

use std::error::Error as StdError;
use std::fmt;

use rustix::io::Errno;
use virgo_proto::uapi;

use crate::ring::LayoutError;

/// What was attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Open a device.
    Open(&'static str),
    /// `VIRGO_IOC_QUERY`.
    Query,
    /// `VIRGO_PROFILER_IOC_REGISTER` of this task.
    Register(String),
    /// `VIRGO_PROFILER_IOC_UNREGISTER` of this task.
    Unregister(String),
    /// `VIRGO_PROFILER_IOC_LIST`.
    List,
    /// `VIRGO_PROFILER_IOC_RATE`, to read.
    Rate,
    /// `VIRGO_PROFILER_IOC_RATE`, to set this rate.
    SetRate(u32),
    /// `VIRGO_PROFILER_IOC_INFO`.
    Info,
    /// `VIRGO_PROFILER_IOC_SEEN` of this position.
    Seen(u64),
    /// Map the profiler's buffer.
    Map,
    /// Understand the profiler's buffer.
    Layout,
    /// `VIRGO_IOC_NODES_LOAD`, to listen here.
    LoadNodes(std::net::SocketAddr),
    /// `VIRGO_IOC_NODES_LOAD` of nothing.
    ClearNodes,
    /// `VIRGO_IOC_NODES_LIST`.
    ListNodes,
    /// `VIRGO_IOC_NODES_POLICY`.
    NodePolicy,
    /// `VIRGO_IOC_NODE_PING` of this node.
    PingNode(String),
    /// `VIRGO_IOC_NODE_PICK`.
    PickNode,
    /// `VIRGO_CPUPOOL_IOC_CALL` of this function, on this node where one was chosen.
    CallFunction(String, Option<crate::NodeId>),
    /// `VIRGO_CPUPOOL_IOC_LIST`.
    ListFunctions,
    /// `VIRGO_CPUPOOL_IOC_SET`.
    SetPrograms,
    /// `VIRGO_CPUPOOL_IOC_LEND`.
    LendCredentials,
    /// `VIRGO_CPUPOOL_IOC_PROGRAMS` or `VIRGO_CPUPOOL_IOC_RUNS`.
    ListPrograms,
    /// `VIRGO_CPUPOOL_IOC_START` of this program, on this node where one was chosen.
    StartProgram(String, Option<crate::NodeId>),
    /// `VIRGO_CPUPOOL_IOC_FOLLOW` of a run on this node.
    FollowProgram(crate::NodeId),
    /// `VIRGO_CPUPOOL_IOC_KILL` of this run.
    KillProgram(u64),
    /// Wait for a device.
    Poll,
    /// `VIRGO_MEM_IOC_MALLOC` of so many bytes.
    Malloc(u64),
    /// `VIRGO_MEM_IOC_SET` of this block.
    SetBlock(String),
    /// `VIRGO_MEM_IOC_GET` of this block.
    GetBlock(String),
    /// `VIRGO_MEM_IOC_FREE` of this block.
    FreeBlock(String),
    /// `VIRGO_MEM_IOC_LIST`.
    ListBlocks,
    /// `VIRGO_MEM_IOC_STAT`.
    Stat,
    /// `VIRGO_MEM_IOC_PUT` with this key.
    Put(String),
    /// `VIRGO_MEM_IOC_TAKE` with this key.
    Take(String),
    /// `VIRGO_MEM_IOC_DROP` with this key.
    Delete(String),
    /// `VIRGO_MEM_IOC_COUNT` with this key.
    Count(String),
    /// `VIRGO_MEM_IOC_SCAN`.
    Scan,
    /// `VIRGO_MEM_IOC_FLUSH`.
    Flush,
    /// `VIRGO_MEM_IOC_SETTINGS`, to read.
    Settings,
    /// `VIRGO_MEM_IOC_SETTINGS`, to change them.
    SetSettings,
    /// `VIRGO_MEM_IOC_SHARE` of this prefix.
    Share(String),
    /// `VIRGO_MEM_IOC_SHARE` with `SHARE_REMOVE` of this prefix.
    Unshare(String),
    /// Map a shared namespace.
    MapShare(String),
    /// Understand a shared namespace's table.
    Table,
    /// `VIRGO_MEM_IOC_SEEN` of so many changes.
    SeenChanges(u64),
    /// One of the queue's commands, in words.
    Queue(String),
    /// One of the settings' commands, in words.
    Analytics(String),
    /// One of EventNet's commands, in words.
    Eventnet(String),
    /// `VIRGO_TRACE_IOC_START` of this process.
    Trace(String),
    /// `VIRGO_TRACE_IOC_STOP`.
    StopTrace,
    /// `VIRGO_TRACE_IOC_INFO`.
    TraceState,
    /// Read a trace's records.
    ReadTrace,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Open(path) => write!(f, "open {path}"),
            Action::Query => write!(f, "ask which modules are loaded"),
            Action::Register(task) => write!(f, "register {task}"),
            Action::Unregister(task) => write!(f, "unregister {task}"),
            Action::List => write!(f, "list the registered tasks"),
            Action::Rate => write!(f, "read the sampling rate"),
            Action::SetRate(hz) => write!(f, "set the sampling rate to {hz} Hz"),
            Action::Info => write!(f, "ask for the buffer's shape"),
            Action::Seen(head) => write!(f, "tell the kernel that {head} records were read"),
            Action::Map => write!(f, "map the profiler's buffer"),
            Action::Layout => write!(f, "read the profiler's buffer"),
            Action::LoadNodes(_) => write!(f, "load the nodes"),
            Action::ClearNodes => write!(f, "forget the nodes"),
            Action::ListNodes => write!(f, "list the nodes"),
            Action::NodePolicy => write!(f, "read or set how nodes are chosen"),
            Action::PingNode(node) => write!(f, "reach node {node}"),
            Action::PickNode => write!(f, "choose a node"),
            Action::CallFunction(name, None) => write!(f, "call {name}"),
            Action::CallFunction(name, Some(node)) => write!(f, "call {name} on node {node}"),
            Action::ListFunctions => write!(f, "list the functions"),
            Action::SetPrograms => write!(f, "say which programs may be run"),
            Action::LendCredentials => write!(f, "lend this user's credentials"),
            Action::ListPrograms => write!(f, "list the programs"),
            Action::StartProgram(name, None) => write!(f, "run {name}"),
            Action::StartProgram(name, Some(node)) => write!(f, "run {name} on node {node}"),
            Action::FollowProgram(node) => write!(f, "follow a program on node {node}"),
            Action::KillProgram(id) => write!(f, "kill run {id:x}"),
            Action::Poll => write!(f, "wait for the kernel"),
            Action::Malloc(bytes) => write!(f, "make a block of {bytes} bytes"),
            Action::SetBlock(vuid) => write!(f, "write block {vuid}"),
            Action::GetBlock(vuid) => write!(f, "read block {vuid}"),
            Action::FreeBlock(vuid) => write!(f, "free block {vuid}"),
            Action::ListBlocks => write!(f, "list the blocks"),
            Action::Stat => write!(f, "ask what the memory pool holds"),
            Action::Put(key) => write!(f, "store {key}"),
            Action::Take(key) => write!(f, "fetch {key}"),
            Action::Delete(key) => write!(f, "delete {key}"),
            Action::Count(key) => write!(f, "count {key}"),
            Action::Scan => write!(f, "list the named values"),
            Action::Flush => write!(f, "forget the named values"),
            Action::Settings => write!(f, "read the memory pool's settings"),
            Action::SetSettings => write!(f, "change the memory pool's settings"),
            Action::Share(prefix) => write!(f, "share the namespace {prefix}"),
            Action::Unshare(prefix) => write!(f, "take the namespace {prefix} down"),
            Action::MapShare(prefix) => write!(f, "map the namespace {prefix}"),
            Action::Queue(what) | Action::Eventnet(what) | Action::Analytics(what) => {
                f.write_str(what)
            }
            Action::Table => write!(f, "read a shared namespace"),
            Action::SeenChanges(count) => {
                write!(f, "tell the kernel that {count} changes were seen")
            }
            Action::Trace(task) => write!(f, "trace {task}"),
            Action::StopTrace => write!(f, "stop the trace"),
            Action::TraceState => write!(f, "ask how the trace stands"),
            Action::ReadTrace => write!(f, "read the trace"),
        }
    }
}

/// A call that failed. Its `Display` is the whole message: `cannot WHAT: WHY (ERRNO). NEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    action: Action,
    errno: Option<Errno>,
    layout: Option<LayoutError>,
    /// The node that it is about, if it is another's.
    node: Option<u32>,
}

impl Error {
    pub(crate) fn new(action: Action, errno: Errno) -> Self {
        Error {
            action,
            errno: Some(errno),
            layout: None,
            node: None,
        }
    }

    /// Says which node it is about; 0 for this one.
    pub(crate) fn at(self, node: u32) -> Self {
        Error {
            node: (node != 0).then_some(node),
            ..self
        }
    }

    pub(crate) fn layout(error: LayoutError) -> Self {
        Error {
            action: Action::Layout,
            errno: None,
            layout: Some(error),
            node: None,
        }
    }

    pub(crate) fn table(error: LayoutError) -> Self {
        Error {
            action: Action::Table,
            errno: None,
            layout: Some(error),
            node: None,
        }
    }

    /// What was attempted.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The error number that the kernel gave, if it gave one.
    pub fn errno(&self) -> Option<i32> {
        self.errno.map(Errno::raw_os_error)
    }

    /// The number of the node that it is about, if that is another one.
    pub fn node(&self) -> Option<u32> {
        self.node
    }

    /// Why it failed, in words.
    pub fn why(&self) -> String {
        match (self.errno, self.layout) {
            (Some(errno), _) => {
                let why = explain(&self.action, errno.raw_os_error()).0;
                match self.node {
                    Some(node) => format!("{why} (node {node:08x})"),
                    None => why,
                }
            }
            (None, Some(layout)) => layout.to_string(),
            (None, None) => "the reason is not known".into(),
        }
    }

    /// What to do next, as a sentence.
    pub fn next(&self) -> String {
        match self.errno {
            Some(errno) => explain(&self.action, errno.raw_os_error()).1,
            None => SAME_BUILD.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.action, self.why())?;
        if let Some(errno) = self.errno {
            write!(f, " ({})", errno_name(errno.raw_os_error()))?;
        }
        write!(f, ". {}", self.next())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.layout.as_ref().map(|layout| layout as _)
    }
}

const SAME_BUILD: &str =
    "The program and the modules may be of different versions; see \"virgo doctor\".";

/// Why an action failed with this error number, and what to do next: a clause and a sentence.
pub fn explain(action: &Action, errno: i32) -> (String, String) {
    use Action as A;

    let errno = Errno::from_raw_os_error(errno);
    let module = match action {
        A::Open(path) if *path == uapi::DEVICE => "virgo-core",
        A::Open(path) if *path == uapi::QUEUE_DEVICE => "virgo-queue",
        A::Queue(_) => "virgo-queue",
        A::Open(path) if *path == uapi::ANALYTICS_DEVICE => "virgo-analytics",
        A::Analytics(_) => "virgo-analytics",
        A::Open(path) if *path == uapi::EVENTNET_DEVICE => "virgo-eventnet",
        A::Eventnet(_) => "virgo-eventnet",
        A::Open(path) if *path == uapi::MEMPOOL_DEVICE => "virgo-mempool",
        A::Malloc(_)
        | A::SetBlock(_)
        | A::GetBlock(_)
        | A::FreeBlock(_)
        | A::ListBlocks
        | A::Stat
        | A::Put(_)
        | A::Take(_)
        | A::Delete(_)
        | A::Count(_)
        | A::Scan
        | A::Flush
        | A::Settings
        | A::SetSettings
        | A::Share(_)
        | A::Unshare(_)
        | A::MapShare(_)
        | A::Table
        | A::SeenChanges(_) => "virgo-mempool",
        A::Query
        | A::LoadNodes(_)
        | A::ClearNodes
        | A::ListNodes
        | A::NodePolicy
        | A::PingNode(_)
        | A::PickNode => "virgo-core",
        A::CallFunction(..)
        | A::ListFunctions
        | A::SetPrograms
        | A::LendCredentials
        | A::ListPrograms
        | A::StartProgram(..)
        | A::FollowProgram(_)
        | A::KillProgram(_) => "virgo-cpupool",
        _ => "virgo-profiler",
    };
    let load = format!(
        "Try \"sudo modprobe {module}\", or \"sudo insmod-scripts/load\" in the source tree."
    );
    let doctor = "See \"virgo doctor\", and the kernel's log: \"sudo dmesg\".".to_owned();

    match (action, errno) {
        (A::Open(_), Errno::NOENT) | (_, Errno::NODEV | Errno::NXIO) => {
            (format!("the module {module} is not loaded"), load)
        }
        (A::Open(_), Errno::ACCESS | Errno::PERM) => (
            "this user has no permission".into(),
            "Run it with sudo, or join the group that owns the device.".into(),
        ),
        (A::Open(_), Errno::MFILE | Errno::NFILE) => (
            "too many files are open".into(),
            "Raise the limit (\"ulimit -n\"), or close some.".into(),
        ),
        (A::Eventnet(_), Errno::NOSPC) => (
            "the journal's disk is full, or there are as many names as max_names allows".into(),
            "See /proc/virgo/eventnet; make room, or load virgo-eventnet with a larger max_names.".into(),
        ),
        (A::Eventnet(_), Errno::FBIG) => (
            "the journal is as long as max_mb allows".into(),
            "Load virgo-eventnet with a larger max_mb, or move its folder away and load it anew.".into(),
        ),
        (A::Eventnet(_), Errno::INVAL) => (
            "it is no message that EventNet knows".into(),
            "See \"virgo events log --help\".".into(),
        ),
        (A::Analytics(_), Errno::NOENT) => (
            "there is none".into(),
            "\"virgo analytics ls\" shows what there is; \"set --new\" makes a setting.".into(),
        ),
        (A::Analytics(_), Errno::ILSEQ) => (
            "that can't be a setting's name".into(),
            "A name is 1 to 127 letters, digits and _.-:/@.".into(),
        ),
        (A::Analytics(_), Errno::INVAL) => (
            "it is not of the setting's kind, or has a control character in it".into(),
            "\"virgo analytics ls\" shows what each setting may be.".into(),
        ),
        (A::Analytics(_), Errno::RANGE) => (
            "it is out of the setting's range".into(),
            "\"virgo analytics ls\" shows what each setting may be.".into(),
        ),
        (A::Analytics(_), Errno::TOOBIG) => (
            "a value has at most 4096 bytes, a choice's words 255".into(),
            "Give a shorter one.".into(),
        ),
        (A::Analytics(_), Errno::BUSY) => (
            "what a person has set stands".into(),
            "\"virgo analytics unset\" takes that back.".into(),
        ),
        (A::Analytics(_), Errno::REMOTE) => (
            "the cluster has set it".into(),
            "Set it for all nodes (--cluster), or take that back with \"virgo analytics unset --cluster\".".into(),
        ),
        (A::Analytics(_), Errno::STALE) => (
            "it has been changed in between".into(),
            "Look at it, and try again.".into(),
        ),
        (A::Analytics(_), Errno::NOSPC) => (
            "there is no room for more settings".into(),
            "Load virgo-analytics with larger max_settings or max_mb.".into(),
        ),
        (A::Analytics(_), Errno::EXIST) => (
            "a module that is loaded has declared it".into(),
            "Choose another name.".into(),
        ),
        (A::Analytics(_), Errno::PERM) => (
            "this user may only read settings".into(),
            "Run it with sudo: CAP_SYS_ADMIN is needed.".into(),
        ),
        (A::Queue(_), Errno::NOENT) => (
            "there is none that you may have".into(),
            "\"virgo queue ls\" shows what there is.".into(),
        ),
        (A::Queue(_), Errno::NOSPC) => (
            "the tube, the queue's memory or the log's disk is full".into(),
            "See \"virgo queue stat\" and \"sudo dmesg\"; take some, or load virgo-queue with larger limits.".into(),
        ),
        (A::Queue(_), Errno::BUSY) => (
            "no more requests are taken in".into(),
            "See \"virgo queue drain --help\".".into(),
        ),
        (A::Queue(_), Errno::TOOBIG) => (
            "the request is longer than the module's max_job_size".into(),
            "Put a shorter one, or load virgo-queue with a larger max_job_size.".into(),
        ),
        (A::Register(_) | A::Unregister(_), Errno::BADF) => (
            "the descriptor is not a pidfd".into(),
            "Make one with pidfd_open(2).".into(),
        ),
        (A::Register(_), Errno::SRCH) => (
            "no such task".into(),
            "It may have ended; \"ps -eL\" shows which are there.".into(),
        ),
        (A::Unregister(_), Errno::SRCH) => (
            "it is not registered".into(),
            "\"virgo profiler list\" shows what is.".into(),
        ),
        (A::Register(_), Errno::EXIST) => (
            "it is already registered".into(),
            "Nothing needs to be done; \"virgo profiler list\" shows it.".into(),
        ),
        (A::Register(_) | A::Unregister(_), Errno::PERM | Errno::ACCESS) => (
            "the task belongs to another user".into(),
            "Run it with sudo: CAP_PERFMON or CAP_SYS_PTRACE is needed.".into(),
        ),
        (A::Register(_), Errno::NOSPC) => (
            "the limit on registered tasks is reached".into(),
            "Unregister some, or load virgo-profiler with a larger max_tasks.".into(),
        ),
        (A::Trace(_), Errno::BADF) => (
            "the descriptor is not a pidfd".into(),
            "Make one with pidfd_open(2).".into(),
        ),
        (A::Trace(_), Errno::SRCH) => (
            "there is no such process, or it has ended".into(),
            "\"ps -e\" shows which are there.".into(),
        ),
        (A::Trace(_), Errno::PERM | Errno::ACCESS) => (
            "the process belongs to another user, or is a set-user-id program".into(),
            "Run it with sudo: CAP_PERFMON or CAP_SYS_PTRACE is needed.".into(),
        ),
        (A::Trace(_), Errno::BUSY) => (
            "it is traced already, or a BPF program is attached to handle_mm_fault()".into(),
            "Wait until that ends.".into(),
        ),
        (A::Trace(_), Errno::INVAL) => (
            "it is a thread of the kernel's, which has no memory of its own".into(),
            "Choose a process with a command line in \"ps -ef\" that is not in brackets.".into(),
        ),
        (A::Trace(_), Errno::NOSPC) => (
            "there are as many traces as the module allows".into(),
            "End one, or load virgo-profiler with a larger max_traces.".into(),
        ),
        (A::Trace(_), Errno::RANGE) => (
            "the limit on memory is below 8 KiB or above the module's trace_kb".into(),
            "Choose one inside, or load virgo-profiler with a larger trace_kb.".into(),
        ),
        (A::Trace(_), Errno::NOENT) => (
            "this kernel lacks a tracepoint or function that the trace needs".into(),
            "\"sudo virgo doctor\" tells which kernels are supported.".into(),
        ),
        (A::StopTrace | A::TraceState | A::ReadTrace, Errno::SRCH) => (
            "no trace runs".into(),
            "It was stopped, or never started.".into(),
        ),
        (A::SetRate(_), Errno::RANGE) => (
            format!(
                "the rate is outside {} to {} Hz",
                uapi::PROFILER_RATE_MIN,
                uapi::PROFILER_RATE_MAX
            ),
            "Choose one inside.".into(),
        ),
        (A::SetRate(_), Errno::PERM | Errno::ACCESS) => (
            "the rate is one for all users".into(),
            "Run it with sudo: CAP_SYS_ADMIN, CAP_PERFMON or CAP_SYS_PTRACE is needed.".into(),
        ),
        (A::Seen(_), Errno::INVAL) => (
            "the kernel has not written that many, or this is not the profiler's own device".into(),
            SAME_BUILD.into(),
        ),
        (A::LoadNodes(bind), Errno::NOKEY) => (
            format!(
                "without a key other nodes cannot be authenticated, so there can be none, and no \
                 address wider than loopback be listened on ({bind} was asked for)"
            ),
            "Make a key with \"virgo nodes new-key /etc/virgo/key\", and copy it to every node."
                .into(),
        ),
        (A::LoadNodes(_), Errno::KEYREJECTED) => (
            format!(
                "the key is shorter than {} bytes or longer than {}",
                uapi::NODES_KEY_MIN,
                uapi::NODES_KEY_MAX
            ),
            "Make one with \"virgo nodes new-key FILE\".".into(),
        ),
        (A::LoadNodes(_), Errno::NOSPC) => (
            format!("a cluster has at most {} nodes", uapi::NODES_MAX),
            "Leave some out.".into(),
        ),
        (A::LoadNodes(_), Errno::EXIST) => (
            "two of the nodes are one, or have the same number".into(),
            "Change the port of one of them.".into(),
        ),
        (A::LoadNodes(bind), Errno::ADDRINUSE) => (
            format!("another program listens on {bind}"),
            "\"ss -tlnp\" shows which; or give the nodes another port.".into(),
        ),
        (A::LoadNodes(bind), Errno::ADDRNOTAVAIL) => (
            format!("{bind} is not an address of this machine"),
            "Name one with --bind.".into(),
        ),
        (A::CallFunction(_, Some(_)), Errno::HOSTDOWN) => (
            "the node went down, or is down; whether the function ran is not known".into(),
            "Try again, or add --idempotent if it may run twice; \"virgo nodes\" shows who is up."
                .into(),
        ),
        (A::CallFunction(..), Errno::HOSTDOWN) => {
            ("no node is up".into(), "\"virgo nodes\" shows why.".into())
        }
        (A::CallFunction(_, Some(_)), Errno::NOENT) => (
            "there is no function of that name".into(),
            "\"virgo functions\" shows which there are.".into(),
        ),
        (A::CallFunction(..) | A::ListFunctions, Errno::NOENT | Errno::NOTCONN) => (
            "there is no such node".into(),
            "\"virgo nodes\" shows which there are.".into(),
        ),
        (A::CallFunction(..), Errno::TIMEDOUT) => (
            "it took longer than allowed, and was told to end".into(),
            "Allow more time with --timeout.".into(),
        ),
        (A::CallFunction(..), Errno::INVAL) => (
            "the function does not take this input".into(),
            "doc/cpupool.md says what each takes.".into(),
        ),
        (A::CallFunction(..), Errno::RANGE) => (
            "the number is too large for the function".into(),
            "Choose a smaller one.".into(),
        ),
        (A::CallFunction(..), Errno::MSGSIZE) => (
            "input or output is longer than 2 MiB".into(),
            "Split the work into several calls.".into(),
        ),
        (A::StartProgram(..), Errno::OPNOTSUPP) => (
            "no programs are set up on that node".into(),
            "An administrator does that there, by \"virgo programs load\".".into(),
        ),
        (A::SetPrograms, Errno::OPNOTSUPP) => (
            "the folder is no control group of version 2, or this kernel runs one helper in place \
             of all programs (CONFIG_STATIC_USERMODEHELPER)"
                .into(),
            "doc/cpupool.md says what is needed.".into(),
        ),
        (A::LendCredentials, Errno::INVAL) => (
            "it is root's, or of another user namespace than the first".into(),
            "Name another user.".into(),
        ),
        (A::SetPrograms, Errno::NOKEY) => (
            "a user of the programs has not lent its credentials".into(),
            "\"virgo programs load\" has each of them do it.".into(),
        ),
        (A::SetPrograms, Errno::BUSY) => (
            "programs run in other control groups than these".into(),
            "\"virgo runs\" shows them; wait for their end or kill them.".into(),
        ),
        (A::SetPrograms, Errno::INVAL) => (
            "a program's entry is not valid, or two have one name or path".into(),
            "doc/cpupool.md says what an entry holds.".into(),
        ),
        (A::StartProgram(..), Errno::ACCESS) => (
            "it is not among the programs that may be run there".into(),
            "\"virgo programs\" lists them.".into(),
        ),
        (A::StartProgram(..), Errno::PERM) => (
            "the file is not a program that only root can change, without set-user-ID".into(),
            "Look at its owner and mode on that node.".into(),
        ),
        (A::StartProgram(..), Errno::LOOP) => (
            "a part of its path has become a symbolic link".into(),
            "Load the programs again on that node.".into(),
        ),
        (A::StartProgram(_, Some(_)), Errno::NOENT) => (
            "the program is not there".into(),
            "Install it on that node.".into(),
        ),
        (A::StartProgram(..), Errno::NOENT | Errno::NOTCONN) => (
            "there is no such node".into(),
            "\"virgo nodes\" shows which there are.".into(),
        ),
        (A::StartProgram(..), Errno::BUSY) => (
            "as many programs as may run there do".into(),
            "Try again later, or on another node.".into(),
        ),
        (A::StartProgram(..), Errno::MSGSIZE | Errno::TOOBIG) => (
            "input and arguments are longer than 2 MiB together, or than its memory".into(),
            "Give it less.".into(),
        ),
        (A::StartProgram(..), Errno::INVAL) => (
            "there are more than 1024 arguments or 128 KiB of them, or an empty name".into(),
            "Give it less.".into(),
        ),
        (A::StartProgram(_, Some(_)), Errno::HOSTDOWN) => (
            "the node is down; whether the program was started is not known".into(),
            "\"virgo nodes\" shows who is up.".into(),
        ),
        (A::StartProgram(..), Errno::HOSTDOWN) => {
            ("no node is up".into(), "\"virgo nodes\" shows why.".into())
        }
        (A::FollowProgram(_), Errno::HOSTDOWN | Errno::TIMEDOUT) => (
            "the node went down; whether the program ran to its end is not known".into(),
            "Run it again, or add --idempotent if it may run twice; \"virgo nodes\" shows who is up."
                .into(),
        ),
        (A::FollowProgram(_) | A::KillProgram(_), Errno::SRCH) => (
            "there is no such run any more".into(),
            "\"virgo runs\" shows which there are.".into(),
        ),
        (A::PingNode(_) | A::PickNode, Errno::HOSTDOWN) => {
            ("it is down".into(), "\"virgo nodes\" shows why.".into())
        }
        (A::PingNode(_), Errno::TIMEDOUT) => (
            "it did not answer in time".into(),
            "\"virgo nodes\" shows how it does.".into(),
        ),
        (A::PingNode(_) | A::PickNode, Errno::NOENT | Errno::NOTCONN) => (
            "there is no such node".into(),
            "\"virgo nodes\" shows which there are.".into(),
        ),
        (A::Map, Errno::ACCESS | Errno::PERM) => (
            "the buffer can only be mapped for reading".into(),
            SAME_BUILD.into(),
        ),
        (A::Map, Errno::AGAIN) => (
            "the limit on locked memory is reached".into(),
            "Raise it (\"ulimit -l\").".into(),
        ),
        _ if module == "virgo-mempool" => explain_mempool(action, errno, doctor),
        _ => explain_any(errno, doctor),
    }
}

/// Why a call of the memory pool failed.
fn explain_mempool(action: &Action, errno: Errno, doctor: String) -> (String, String) {
    use Action as A;

    let (why, next) = match (action, errno) {
        (_, Errno::HOSTDOWN) => (
            "its node is down",
            "\"virgo nodes\" shows the nodes and their last errors.",
        ),
        (_, Errno::TIMEDOUT) => (
            "its node did not answer in time",
            "\"virgo nodes\" shows the nodes and their last errors.",
        ),
        (_, Errno::NOTCONN) => (
            "it is another node's, and no cluster is configured here",
            "Write the nodes into /etc/virgo_cloud.conf, and try \"virgo nodes load\".",
        ),
        (_, Errno::NAMETOOLONG) => (
            "a key has at most 250 bytes",
            "Use a shorter one, or a hash of it.",
        ),
        (A::Malloc(_), Errno::FBIG) => ("a block has at most 64 MiB", "Make several."),
        (A::Malloc(_), Errno::NOSPC) => (
            "the limit on blocks or on their memory is reached",
            "Free some (\"virgo mem list\"), or raise it (\"virgo mem settings\").",
        ),
        (A::Malloc(_), Errno::INVAL) => (
            "a block has at least one byte, and a chunk is a multiple of 4096",
            "Choose another size.",
        ),
        (A::SetBlock(_) | A::GetBlock(_) | A::FreeBlock(_), Errno::STALE) => (
            "there is no such block: it was freed, or the handle is wrong",
            "\"virgo mem list\" shows those of this node.",
        ),
        (A::SetBlock(_), Errno::RANGE) => (
            "that is past the block's end",
            "\"virgo mem list\" shows its length.",
        ),
        (A::GetBlock(_), Errno::RANGE) => (
            "the offset is past the block's end",
            "\"virgo mem list\" shows its length.",
        ),
        (A::Put(_), Errno::EXIST) => ("there is a value already", "Leave --add out to replace it."),
        (A::Put(_), Errno::STALE) => (
            "the value has changed meanwhile",
            "Fetch it again, and decide anew.",
        ),
        (A::Delete(_), Errno::STALE) => (
            "the value has changed meanwhile",
            "Fetch it again, and decide anew.",
        ),
        (A::Put(_) | A::Take(_) | A::Delete(_) | A::Count(_), Errno::NOENT) => (
            "there is no such value",
            "\"virgo mem keys\" shows those of this node.",
        ),
        (A::Put(_) | A::Take(_) | A::Delete(_) | A::Count(_), Errno::INVAL) => {
            ("a key has at least one byte", "Give one.")
        }
        (A::Put(_), Errno::FBIG) => (
            "the value is larger than the limit for one item",
            "\"virgo mem settings\" shows it (item_max), and raises it.",
        ),
        (A::Put(_) | A::Count(_), Errno::NOMEM) => (
            "the limit on memory is reached, and nothing may be given up for it",
            "\"virgo mem settings\" shows and raises it (memory_limit).",
        ),
        (A::Count(_), Errno::DOM) => (
            "the value is no decimal number of 64 bits",
            "Store one first.",
        ),
        (A::SetSettings, Errno::RANGE) => (
            "a value is out of its bounds",
            "doc/mempool.md has the bounds.",
        ),
        (A::Share(_) | A::MapShare(_) | A::Unshare(_), Errno::NOENT) => (
            "no such namespace is shared",
            "\"virgo mem share PREFIX\" makes one.",
        ),
        (A::Share(_), Errno::EXIST) => (
            "it is shared already with another shape, or overlaps with one that is",
            "Take that down first: \"virgo mem share --remove PREFIX\".",
        ),
        (A::Share(_), Errno::NOSPC) => (
            "the limit on namespaces or on their memory is reached",
            "Make a smaller one (--slots, --slot-size), or take one down.",
        ),
        (A::Share(_) | A::Unshare(_) | A::SetSettings, Errno::PERM | Errno::ACCESS) => (
            "it is one for all users",
            "Run it with sudo: CAP_SYS_ADMIN is needed.",
        ),
        (A::Share(_), Errno::INVAL) => (
            "a prefix has 1 to 250 bytes; slots and their size are powers of two, 8 to 4194304 \
             and 64 to 65536",
            "Choose others.",
        ),
        (A::SeenChanges(_), Errno::INVAL) => ("the kernel has not counted that many", SAME_BUILD),
        _ => return explain_any(errno, doctor),
    };
    (why.into(), next.into())
}

/// What an error number means whatever was attempted.
fn explain_any(errno: Errno, doctor: String) -> (String, String) {
    match errno {
        Errno::NOTTY => (
            "the module does not know this command".into(),
            SAME_BUILD.into(),
        ),
        Errno::INVAL | Errno::TOOBIG => (
            "the module does not take these values".into(),
            SAME_BUILD.into(),
        ),
        Errno::NOMEM => (
            "the kernel has no memory left for it".into(),
            "Close some programs, and try again.".into(),
        ),
        Errno::BUSY => ("it is in use".into(), "Try again later.".into()),
        Errno::INTR => ("a signal came".into(), "Try again.".into()),
        Errno::PERM | Errno::ACCESS => (
            "this user may not do that".into(),
            "Run it with sudo.".into(),
        ),
        errno => (system_text(errno), doctor),
    }
}

/// The C library's words for an error number, without Rust's `(os error N)`.
fn system_text(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(
        || "the reason is not known".into(),
        |first| first.to_lowercase().chain(chars).collect(),
    )
}

/// The error number's name as in errno(3), for those that VIRGO's calls give; else `errno N`.
pub fn errno_name(errno: i32) -> String {
    let name = match Errno::from_raw_os_error(errno) {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::SRCH => "ESRCH",
        Errno::INTR => "EINTR",
        Errno::IO => "EIO",
        Errno::NXIO => "ENXIO",
        Errno::TOOBIG => "E2BIG",
        Errno::BADF => "EBADF",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::FAULT => "EFAULT",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::INVAL => "EINVAL",
        Errno::NFILE => "ENFILE",
        Errno::MFILE => "EMFILE",
        Errno::NOTTY => "ENOTTY",
        Errno::NOSPC => "ENOSPC",
        Errno::RANGE => "ERANGE",
        Errno::NOSYS => "ENOSYS",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::FBIG => "EFBIG",
        Errno::DOM => "EDOM",
        Errno::STALE => "ESTALE",
        Errno::MSGSIZE => "EMSGSIZE",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NOKEY => "ENOKEY",
        Errno::KEYREJECTED => "EKEYREJECTED",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::HOSTDOWN => "EHOSTDOWN",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::NOTCONN => "ENOTCONN",
        _ => return format!("errno {errno}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions() -> Vec<Action> {
        vec![
            Action::Open(uapi::DEVICE),
            Action::Open(uapi::PROFILER_DEVICE),
            Action::Query,
            Action::Register("process 7".into()),
            Action::Unregister("thread 7".into()),
            Action::List,
            Action::Rate,
            Action::SetRate(2000),
            Action::Info,
            Action::Seen(9),
            Action::Map,
            Action::LoadNodes(([10, 0, 0, 1], 40000).into()),
            Action::ClearNodes,
            Action::ListNodes,
            Action::NodePolicy,
            Action::PingNode("10.0.0.2".into()),
            Action::PickNode,
            Action::CallFunction("primes".into(), Some(crate::NodeId(7))),
            Action::CallFunction("primes".into(), None),
            Action::ListFunctions,
            Action::SetPrograms,
            Action::LendCredentials,
            Action::ListPrograms,
            Action::StartProgram("sort".into(), Some(crate::NodeId(7))),
            Action::StartProgram("sort".into(), None),
            Action::FollowProgram(crate::NodeId(7)),
            Action::KillProgram(7),
            Action::Poll,
            Action::Open(uapi::MEMPOOL_DEVICE),
            Action::Malloc(5),
            Action::SetBlock("1f".into()),
            Action::GetBlock("1f".into()),
            Action::FreeBlock("1f".into()),
            Action::ListBlocks,
            Action::Stat,
            Action::Put("a key".into()),
            Action::Take("a key".into()),
            Action::Delete("a key".into()),
            Action::Count("a key".into()),
            Action::Scan,
            Action::Flush,
            Action::Settings,
            Action::SetSettings,
            Action::Share("a:".into()),
            Action::Unshare("a:".into()),
            Action::MapShare("a:".into()),
            Action::SeenChanges(3),
            Action::Open(uapi::QUEUE_DEVICE),
            Action::Queue("take a request".into()),
            Action::Open(uapi::ANALYTICS_DEVICE),
            Action::Analytics("set a to 1".into()),
            Action::Trace("process 7".into()),
            Action::StopTrace,
            Action::TraceState,
            Action::ReadTrace,
        ]
    }

    #[test]
    fn every_error_number_says_what_why_and_what_next() {
        for action in actions() {
            for errno in 1..=133 {
                let error = Error::new(action.clone(), Errno::from_raw_os_error(errno));
                assert_eq!(error.errno(), Some(errno));
                let (why, next) = (error.why(), error.next());
                assert!(
                    !why.is_empty() && !why.ends_with('.'),
                    "{action:?} {errno}: {why}"
                );
                assert!(next.ends_with('.'), "{action:?} {errno}: {next}");
                let text = error.to_string();
                assert!(
                    text.starts_with("cannot ") && text.ends_with(&next),
                    "{text}"
                );
                assert!(!text.contains("os error"), "{text}");
            }
        }
    }

    #[test]
    fn the_message_is_one_that_a_user_can_act_on() {
        let error = Error::new(Action::Open(uapi::PROFILER_DEVICE), Errno::NOENT);
        assert_eq!(
            error.to_string(),
            "cannot open /dev/virgo-profiler: the module virgo-profiler is not loaded (ENOENT). \
             Try \"sudo modprobe virgo-profiler\", or \"sudo insmod-scripts/load\" in the source tree."
        );
        let error = Error::new(Action::Register("process 7".into()), Errno::SRCH);
        assert_eq!(
            error.to_string(),
            "cannot register process 7: no such task (ESRCH). \
             It may have ended; \"ps -eL\" shows which are there."
        );
    }

    #[test]
    fn a_buffer_of_another_layout_is_told_apart() {
        let error = Error::layout(LayoutError::Layout(2));
        assert_eq!(error.errno(), None);
        assert!(error.to_string().contains("layout 2"), "{error}");
        assert!(StdError::source(&error).is_some());
    }
}
