// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `/proc/virgo/trace/history`, opened: one trace.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::sys;
use crate::Result;

/// Which process to trace.
#[derive(Clone, Copy, Debug)]
pub enum Target<'fd> {
    /// The caller's own.
    Own,
    /// This one, by its id in the caller's pid namespace.
    Process(i32),
    /// The one of a pidfd: certain not to be another that got the same id.
    Pidfd(BorrowedFd<'fd>),
}

impl Target<'_> {
    fn name(&self) -> String {
        match self {
            Target::Own => "this process".into(),
            Target::Process(pid) => format!("process {pid}"),
            Target::Pidfd(fd) => format!("the process of pidfd {}", fd.as_raw_fd()),
        }
    }
}

/// How a trace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceState {
    /// Processes that are traced.
    pub processes: u32,
    /// The trace was stopped, or its last process is gone.
    pub ended: bool,
    /// Faults recorded so far.
    pub recorded: u64,
    /// Faults that did not fit.
    pub dropped: u64,
    /// Bytes of records that wait to be read.
    pub waiting_bytes: u64,
    /// Most that may wait.
    pub limit_bytes: u64,
}

/// The file, opened. Dropping it ends the trace. Reading gives whole records, and waits for them.
#[derive(Debug)]
pub struct TraceFile {
    file: File,
}

impl TraceFile {
    /// Opens the file; nothing is traced yet.
    pub fn open() -> Result<Self> {
        let path = uapi::TRACE_FILE;
        let fd = sys::open_device(path).map_err(|errno| Error::new(Action::Open(path), errno))?;
        Ok(TraceFile {
            file: File::from(fd),
        })
    }

    /// `START`: traces a process from now on, with `follow` its children as well. `limit_bytes`:
    /// most memory for records that were not read yet; 0 for the module's own limit.
    pub fn start(&self, target: Target<'_>, follow: bool, limit_bytes: u64) -> Result<()> {
        let (mut flags, pid) = match target {
            Target::Own => (0, 0),
            Target::Process(pid) => (0, pid),
            Target::Pidfd(fd) => (uapi::TRACE_F_PIDFD, fd.as_raw_fd()),
        };
        if follow {
            flags |= uapi::TRACE_F_FOLLOW;
        }
        let mut argument = uapi::TraceStart {
            size: size_of::<uapi::TraceStart>() as u32,
            flags,
            pid,
            limit_bytes,
            ..Default::default()
        };
        sys::call::<{ uapi::TRACE_IOC_START }, _>(&self.file, &mut argument)
            .map_err(|errno| Error::new(Action::Trace(target.name()), errno))
    }

    /// `STOP`: what was recorded can still be read.
    pub fn stop(&self) -> Result<()> {
        let mut argument = uapi::TraceStop {
            size: size_of::<uapi::TraceStop>() as u32,
            flags: 0,
        };
        sys::call::<{ uapi::TRACE_IOC_STOP }, _>(&self.file, &mut argument)
            .map_err(|errno| Error::new(Action::StopTrace, errno))
    }

    /// `INFO`: how it stands.
    pub fn state(&self) -> Result<TraceState> {
        let mut argument = uapi::TraceInfo {
            size: size_of::<uapi::TraceInfo>() as u32,
            ..Default::default()
        };
        sys::call::<{ uapi::TRACE_IOC_INFO }, _>(&self.file, &mut argument)
            .map_err(|errno| Error::new(Action::TraceState, errno))?;
        Ok(TraceState {
            processes: argument.processes,
            ended: argument.state != uapi::TRACE_RUNNING,
            recorded: argument.recorded,
            dropped: argument.dropped,
            waiting_bytes: argument.waiting_bytes,
            limit_bytes: argument.limit_bytes,
        })
    }

    /// Another descriptor of the same trace.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

impl io::Read for TraceFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl AsFd for TraceFile {
    /// To wait on with other descriptors.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
