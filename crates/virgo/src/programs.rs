// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Programs that run on the node with the least to do.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use virgo_proto::program;
use virgo_proto::uapi;

use crate::error::{errno_name, Action, Error};
use crate::{room, sys, Control, NodeId, NodePolicy, Result};

/// Room for output, and as much for error output, of one look.
const ROOM: usize = 256 << 10;

/// What a run may use; 0 is as much as the node's table says, which is never exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long, to the millisecond.
    pub time: Duration,
    /// Processes and threads at once.
    pub processes: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of output, and as many of error output.
    pub output: u64,
}

impl Limits {
    fn time_ms(&self) -> u32 {
        if self.time.is_zero() {
            return 0;
        }
        u32::try_from(self.time.as_millis())
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

/// A program that may be run on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramEntry {
    /// What callers name it by, beside its path.
    pub name: String,
    /// Where it is: absolute, without symbolic links.
    pub path: PathBuf,
    /// As which user.
    pub uid: u32,
    /// As which group.
    pub gid: u32,
    /// With how much at most; none may be 0.
    pub limits: Limits,
    /// How often it was started.
    pub runs: u64,
}

/// A program to be run.
#[derive(Clone, Debug)]
pub struct Execution<'a> {
    /// The program, by its name in the node's table or by its path.
    pub program: &'a OsStr,
    /// Its arguments.
    pub arguments: &'a [&'a OsStr],
    /// Its standard input.
    pub input: &'a [u8],
    /// Where it is to run.
    pub policy: NodePolicy,
    /// What it may use.
    pub limits: Limits,
}

impl Execution<'_> {
    /// The arguments as they are sent, each with a NUL behind it.
    fn words(&self) -> Vec<u8> {
        let mut words = Vec::new();
        for word in std::iter::once(&self.program).chain(self.arguments) {
            words.extend_from_slice(word.as_bytes());
            words.push(0);
        }
        words
    }

    /// The request that has virgo-queue run it, for its tube `virgo.cpupool`; `again`: it may run
    /// twice. The answer is [`Answer::Program`](crate::queue::Answer::Program). The error is of too many or
    /// bad arguments.
    pub fn request(&self, again: bool) -> Result<Vec<u8>> {
        let words = self.words();
        if !program::are_arguments(&words)
            || words.iter().filter(|byte| **byte == 0).count() != self.arguments.len() + 1
        {
            let name = self.program.to_string_lossy().into_owned();
            return Err(Error::new(Action::StartProgram(name, None), Errno::INVAL));
        }
        let limits = program::Limits {
            time_ms: self.limits.time_ms(),
            processes: self.limits.processes,
            memory: self.limits.memory,
            output: self.limits.output,
        };
        let mut request = self.policy.words().into_bytes();
        if again {
            request.extend_from_slice(b"@again ");
        }
        request.extend_from_slice(b"@program ");
        // At most ARGUMENTS_MAX.
        request.extend_from_slice(&program::Start::header(&limits, words.len() as u32));
        request.extend_from_slice(&words);
        request.extend_from_slice(self.input);
        Ok(request)
    }
}

/// A program that runs somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where.
    pub node: NodeId,
    /// Its number there.
    pub id: u64,
    out_at: u64,
    err_at: u64,
}

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this status.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// It could not be run, for this errno.
    Failed(i32),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exit(status) => write!(f, "exit status {status}"),
            Outcome::Signal(signal) => write!(f, "signal {signal}"),
            Outcome::Failed(errno) => write!(f, "it could not be run ({})", errno_name(*errno)),
        }
    }
}

/// Why a program was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// Its time was over.
    Time,
    /// Somebody asked for it.
    Asked,
    /// Nobody asked how it went any more.
    Alone,
    /// The module was unloaded.
    Unload,
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Killed::Time => "its time was over",
            Killed::Asked => "killed as asked",
            Killed::Alone => "nobody asked for its output any more",
            Killed::Unload => "virgo-cpupool was unloaded",
        })
    }
}

impl Killed {
    fn from_number(number: u32) -> Option<Killed> {
        Some(match number {
            program::REASON_TIME => Killed::Time,
            program::REASON_KILL => Killed::Asked,
            program::REASON_ALONE => Killed::Alone,
            program::REASON_UNLOAD => Killed::Unload,
            _ => return None,
        })
    }
}

/// How a program ended, and what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was killed, if it was.
    pub killed: Option<Killed>,
    /// How long it ran.
    pub elapsed: Duration,
    /// Processor time in user mode, of all its processes.
    pub user: Duration,
    /// Likewise in the kernel.
    pub system: Duration,
    /// The most memory that it took; 0 where the kernel does not say.
    pub peak: u64,
}

impl End {
    /// From a status as of wait(2), or the errno of one that could not be run.
    fn new(progress: &program::Progress) -> End {
        let status = progress.status as i32;
        End {
            outcome: if progress.state == program::FAILED {
                Outcome::Failed(status)
            } else if status & 0x7f != 0 {
                Outcome::Signal(status & 0x7f)
            } else {
                Outcome::Exit((status >> 8) & 0xff)
            },
            killed: Killed::from_number(progress.reason),
            elapsed: Duration::from_nanos(progress.elapsed_ns),
            user: Duration::from_nanos(progress.user_ns),
            system: Duration::from_nanos(progress.system_ns),
            peak: progress.peak_bytes,
        }
    }
}

/// A program that virgo-queue had run, with all of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// Where.
    pub node: NodeId,
    /// Its end.
    pub end: End,
    /// Output.
    pub out: Vec<u8>,
    /// Error output.
    pub err: Vec<u8>,
}

impl Ran {
    /// From what the queue keeps. `None` if it is none.
    pub(crate) fn parse(answer: &[u8]) -> Option<Ran> {
        let (node, progress, out, err) = program::parse_ran(answer)?;
        Some(Ran {
            node: NodeId(node),
            end: End::new(&progress),
            out: out.to_vec(),
            err: err.to_vec(),
        })
    }
}

/// What a program has written since it was last looked at, and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct News {
    /// Output.
    pub out: Vec<u8>,
    /// Error output.
    pub err: Vec<u8>,
    /// Its end, with the last of the output.
    pub end: Option<End>,
}

/// A run in a node's list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInfo {
    /// Its number.
    pub id: u64,
    /// The program's name.
    pub name: String,
    /// As which user.
    pub uid: u32,
    /// It has not ended.
    pub running: bool,
    /// It is to end.
    pub killed: Option<Killed>,
    /// How long it runs or ran.
    pub elapsed: Duration,
    /// Bytes of output so far.
    pub out: u64,
    /// Bytes of error output so far.
    pub err: u64,
}

/// Whether a program may be called this: letters, digits, `.`, `_`, `+` and `-`, at most 31, not `.` or
/// `-` first.
pub fn is_program_name(name: &str) -> bool {
    program::is_program_name(name.as_bytes())
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes)
        .map_or(bytes, CStr::to_bytes)
        .escape_ascii()
        .to_string()
}

fn filled<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut all = [0; N];
    if bytes.len() >= N || bytes.contains(&0) {
        return None;
    }
    all[..bytes.len()].copy_from_slice(bytes);
    Some(all)
}

/// Lends this process's credentials, so that programs can be run as its user on this node. The descriptor
/// is of /dev/virgo, which the user itself may not be allowed to open: an administrator's process hands
/// it on.
pub fn lend(device: impl AsFd) -> Result<()> {
    sys::cpupool_lend(device).map_err(|errno| Error::new(Action::LendCredentials, errno))
}

impl Control {
    /// Says which programs may be run on this node, at most `at_once` at a time, in the control groups
    /// `0`, `1` and so on below `group`, which must be there. A process of each of the entries' users has
    /// called [`lend`] before. Without entries: none any more.
    pub fn set_programs(&self, entries: &[ProgramEntry], group: &Path, at_once: u32) -> Result<()> {
        let failed = |errno| Error::new(Action::SetPrograms, errno);
        let mut raw = Vec::with_capacity(entries.len());
        for entry in entries {
            let invalid = || failed(Errno::INVAL);
            raw.push(uapi::CpupoolProgram {
                name: filled(entry.name.as_bytes()).ok_or_else(invalid)?,
                path: filled(entry.path.as_os_str().as_bytes()).ok_or_else(invalid)?,
                uid: entry.uid,
                gid: entry.gid,
                time_ms: entry.limits.time_ms(),
                processes: entry.limits.processes,
                memory: entry.limits.memory,
                output: entry.limits.output,
                ..Default::default()
            });
        }
        sys::cpupool_set(self, &raw, group.as_os_str().as_bytes(), at_once).map_err(failed)
    }

    /// The programs that may be run on a node, or on this one.
    pub fn programs(&self, node: Option<NodeId>) -> Result<Vec<ProgramEntry>> {
        let mut raw = vec![uapi::CpupoolProgram::default(); 256];
        let count = sys::cpupool_programs(self, node.map_or(0, |node| node.0), &mut raw)
            .map_err(|errno| Error::new(Action::ListPrograms, errno))?;
        raw.truncate(count as usize);
        Ok(raw
            .iter()
            .map(|raw| ProgramEntry {
                name: text(&raw.name),
                path: text(&raw.path).into(),
                uid: raw.uid,
                gid: raw.gid,
                limits: Limits {
                    time: Duration::from_millis(raw.time_ms.into()),
                    processes: raw.processes,
                    memory: raw.memory,
                    output: raw.output,
                },
                runs: raw.runs,
            })
            .collect())
    }

    /// Starts a program. Whoever does must go on to [`Control::follow`] it: a run that nobody has asked
    /// about for ten seconds is killed.
    pub fn start(&self, execution: &Execution<'_>) -> Result<Run> {
        let arguments = execution.words();
        let (policy, node) = execution.policy.to_numbers();
        let mut argument = uapi::CpupoolStart {
            size: size_of::<uapi::CpupoolStart>() as u32,
            policy,
            node,
            time_ms: execution.limits.time_ms(),
            processes: execution.limits.processes,
            memory: execution.limits.memory,
            output: execution.limits.output,
            ..Default::default()
        };
        let result = sys::cpupool_start(self, &mut argument, &arguments, execution.input);
        let node = NodeId(argument.node);
        result.map_err(|errno| {
            let node = (node.0 != 0).then_some(node);
            let name = execution.program.to_string_lossy().into_owned();
            Error::new(Action::StartProgram(name, node), errno)
        })?;
        Ok(Run {
            node,
            id: argument.id,
            out_at: 0,
            err_at: 0,
        })
    }

    /// What a run has written since the last call, or its end; waits a while for it. The error's number
    /// is EINTR if a signal came: nothing is lost then, ask again.
    pub fn follow(&self, run: &mut Run, wait: Duration) -> Result<News> {
        let mut argument = uapi::CpupoolFollow {
            size: size_of::<uapi::CpupoolFollow>() as u32,
            node: run.node.0,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            id: run.id,
            out_at: run.out_at,
            err_at: run.err_at,
            ..Default::default()
        };
        let written = |room: &[u8], length: u32| room[..room.len().min(length as usize)].to_vec();
        let (out, err) = room::with(2 * ROOM, |both| {
            let (out, err) = both.split_at_mut(ROOM);
            sys::cpupool_follow(self, &mut argument, out, err)?;
            Ok((
                written(out, argument.out_length),
                written(err, argument.err_length),
            ))
        })
        .map_err(|errno| Error::new(Action::FollowProgram(run.node), errno))?;
        run.out_at += out.len() as u64;
        run.err_at += err.len() as u64;
        let ended = argument.state != program::RUNNING && argument.more == 0;
        let end = ended.then(|| {
            End::new(&program::Progress {
                state: argument.state,
                status: argument.status,
                reason: argument.reason,
                elapsed_ns: argument.elapsed_ns,
                user_ns: argument.user_ns,
                system_ns: argument.system_ns,
                peak_bytes: argument.peak_bytes,
                ..Default::default()
            })
        });
        Ok(News { out, err, end })
    }

    /// Kills a run of a node, with all its processes.
    pub fn kill_run(&self, node: NodeId, id: u64) -> Result<()> {
        sys::cpupool_kill(self, node.0, id)
            .map_err(|errno| Error::new(Action::KillProgram(id), errno))
    }

    /// The runs of a node, or of this one.
    pub fn runs(&self, node: Option<NodeId>) -> Result<Vec<RunInfo>> {
        let mut raw = vec![uapi::CpupoolRun::default(); 256];
        let count = sys::cpupool_runs(self, node.map_or(0, |node| node.0), &mut raw)
            .map_err(|errno| Error::new(Action::ListPrograms, errno))?;
        raw.truncate(count as usize);
        Ok(raw
            .iter()
            .map(|raw| RunInfo {
                id: raw.id,
                name: text(&raw.name),
                uid: raw.uid,
                running: raw.state == program::RUNNING,
                killed: Killed::from_number(raw.reason),
                elapsed: Duration::from_nanos(raw.elapsed_ns),
                out: raw.out_bytes,
                err: raw.err_bytes,
            })
            .collect())
    }
}
