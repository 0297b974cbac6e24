// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `/dev/virgo-profiler`: what is registered, and at which rate it is sampled.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::sample::Comm;
use crate::sys;
use crate::Result;

/// Which task to register or unregister.
#[derive(Debug)]
pub struct Task<'fd> {
    target: Target<'fd>,
    bind: bool,
}

#[derive(Debug)]
enum Target<'fd> {
    Process(i32),
    Thread(i32),
    Pidfd(BorrowedFd<'fd>),
}

impl<'fd> Task<'fd> {
    /// A whole process, by its id in the caller's pid namespace.
    pub fn process(pid: i32) -> Self {
        Task::new(Target::Process(pid))
    }

    /// One thread, by its id in the caller's pid namespace.
    pub fn thread(tid: i32) -> Self {
        Task::new(Target::Thread(tid))
    }

    /// A whole process, by a pidfd: certain not to be another that got the same id.
    pub fn pidfd(fd: BorrowedFd<'fd>) -> Self {
        Task::new(Target::Pidfd(fd))
    }

    fn new(target: Target<'fd>) -> Self {
        Task {
            target,
            bind: false,
        }
    }

    /// The registration ends when its [`Profiler`] is dropped, or its process dies.
    #[must_use]
    pub fn bind(self) -> Self {
        Task { bind: true, ..self }
    }

    fn argument(&self) -> uapi::ProfilerTask {
        let (flags, pid) = match &self.target {
            Target::Process(pid) => (0, *pid),
            Target::Thread(tid) => (uapi::PROFILER_F_THREAD, *tid),
            Target::Pidfd(fd) => (uapi::PROFILER_F_PIDFD, fd.as_raw_fd()),
        };
        let bind = if self.bind { uapi::PROFILER_F_BIND } else { 0 };
        uapi::ProfilerTask {
            size: size_of::<uapi::ProfilerTask>() as u32,
            flags: flags | bind,
            pid,
            ..Default::default()
        }
    }

    fn name(&self) -> String {
        match &self.target {
            Target::Process(pid) => format!("process {pid}"),
            Target::Thread(tid) => format!("thread {tid}"),
            Target::Pidfd(fd) => format!("the process of pidfd {}", fd.as_raw_fd()),
        }
    }
}

/// One registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Identity of the registration, as in the samples.
    pub id: u64,
    /// Records written for it so far.
    pub samples: u64,
    /// Process id in the caller's pid namespace; 0 if it has none there.
    pub pid: u32,
    /// Thread id in the caller's pid namespace; 0 if it has none there.
    pub tid: u32,
    /// The registration is of one thread.
    pub thread: bool,
    /// The registration ends when a file is closed.
    pub bound: bool,
    /// Name of the thread.
    pub comm: Comm,
}

impl From<uapi::ProfilerEntry> for Entry {
    fn from(entry: uapi::ProfilerEntry) -> Self {
        Entry {
            id: entry.id,
            samples: entry.samples,
            pid: entry.pid,
            tid: entry.tid,
            thread: entry.flags & uapi::PROFILER_F_THREAD != 0,
            bound: entry.flags & uapi::PROFILER_F_BIND != 0,
            comm: Comm(entry.comm),
        }
    }
}

/// The buffer's shape, and the limit on registered tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Bytes to map.
    pub map_bytes: u64,
    /// How many records the buffer holds.
    pub capacity: u64,
    /// Bytes from one record to the next.
    pub record_size: u32,
    /// Bytes in front of the first record.
    pub header_size: u32,
    /// The limit on registered tasks.
    pub max_tasks: u32,
}

/// `/dev/virgo-profiler`, opened.
#[derive(Debug)]
pub struct Profiler {
    fd: OwnedFd,
}

impl Profiler {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        let path = uapi::PROFILER_DEVICE;
        let fd = sys::open_device(path).map_err(|errno| Error::new(Action::Open(path), errno))?;
        Ok(Profiler { fd })
    }

    /// The descriptor alone.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// `REGISTER`. Returns the registration's identity, as in the samples.
    pub fn register(&self, task: &Task<'_>) -> Result<u64> {
        let mut argument = task.argument();
        sys::call::<{ uapi::PROFILER_IOC_REGISTER }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Register(task.name()), errno))?;
        Ok(argument.id)
    }

    /// `UNREGISTER`. Returns the identity that the registration had. Whether the task says
    /// [`Task::bind`] makes no difference.
    pub fn unregister(&self, task: &Task<'_>) -> Result<u64> {
        let mut argument = task.argument();
        argument.flags &= !uapi::PROFILER_F_BIND;
        sys::call::<{ uapi::PROFILER_IOC_UNREGISTER }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Unregister(task.name()), errno))?;
        Ok(argument.id)
    }

    /// `LIST`: every registration.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let fail = |errno| Error::new(Action::List, errno);
        let mut entries = Vec::new();
        loop {
            let count = sys::list(&self.fd, &mut entries).map_err(fail)?;
            let count = usize::try_from(count).map_err(|_| fail(Errno::NOMEM))?;
            if count <= entries.len() {
                entries.truncate(count);
                return Ok(entries.into_iter().map(Entry::from).collect());
            }
            // Some room for those that come meanwhile, so that this ends.
            let room = count.saturating_add(count / 8).saturating_add(16);
            entries.resize(room, uapi::ProfilerEntry::default());
        }
    }

    /// `RATE`: sampling rounds a second.
    pub fn rate(&self) -> Result<u32> {
        self.rate_call(0, 0, Action::Rate)
    }

    /// `RATE` with `RATE_SET`: from now on `hz` rounds a second, for all.
    pub fn set_rate(&self, hz: u32) -> Result<()> {
        self.rate_call(uapi::PROFILER_RATE_SET, hz, Action::SetRate(hz))
            .map(drop)
    }

    fn rate_call(&self, flags: u32, rate_hz: u32, action: Action) -> Result<u32> {
        let mut argument = uapi::ProfilerRate {
            size: size_of::<uapi::ProfilerRate>() as u32,
            flags,
            rate_hz,
            ..Default::default()
        };
        sys::call::<{ uapi::PROFILER_IOC_RATE }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(action, errno))?;
        Ok(argument.rate_hz)
    }

    /// `INFO`: the buffer's shape.
    pub fn info(&self) -> Result<Info> {
        let mut argument = uapi::ProfilerInfo {
            size: size_of::<uapi::ProfilerInfo>() as u32,
            ..Default::default()
        };
        sys::call::<{ uapi::PROFILER_IOC_INFO }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Info, errno))?;
        Ok(Info {
            map_bytes: argument.map_bytes,
            capacity: argument.capacity,
            record_size: argument.record_size,
            header_size: argument.header_size,
            max_tasks: argument.max_tasks,
        })
    }

    /// `SEEN`: polling this descriptor reports it readable once the head is beyond `head`. A
    /// [`Ring`](crate::Ring) does this by itself, on its own descriptor.
    pub fn seen(&self, head: u64) -> Result<()> {
        seen(&self.fd, head)
    }
}

impl AsFd for Profiler {
    /// To wait on with other descriptors.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `SEEN` on a descriptor of the device.
pub(crate) fn seen(fd: &OwnedFd, head: u64) -> Result<()> {
    let mut argument = uapi::ProfilerSeen {
        size: size_of::<uapi::ProfilerSeen>() as u32,
        head,
        ..Default::default()
    };
    sys::call::<{ uapi::PROFILER_IOC_SEEN }, _>(fd, &mut argument)
        .map_err(|errno| Error::new(Action::Seen(head), errno))
}
