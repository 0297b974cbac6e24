// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! VIRGO's devices.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};

use virgo_proto::uapi::{
    self, ProfilerEntry, ProfilerInfo, ProfilerList, ProfilerRate, ProfilerSeen, ProfilerTask,
    Query,
};

use crate::buffer::Buffer;
use crate::sys::{self, Area, Errno, Res};

/// An open file of `/dev/virgo` or `/dev/virgo-profiler`.
pub struct Device(pub File);

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

macro_rules! sized {
    ($type:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $type { size: size_of::<$type>() as u32, $($field: $value,)* ..$type::default() }
    };
}

/// A query as it ought to be.
#[must_use]
pub fn good_query() -> Query {
    sized!(Query {})
}

/// A request about a task as it ought to be.
#[must_use]
pub fn good_task(pid: i32, flags: u32) -> ProfilerTask {
    sized!(ProfilerTask {
        pid: pid,
        flags: flags
    })
}

/// A request for the list as it ought to be, without room for entries.
#[must_use]
pub fn good_list() -> ProfilerList {
    sized!(ProfilerList {})
}

/// A request for the rate as it ought to be.
#[must_use]
pub fn good_rate() -> ProfilerRate {
    sized!(ProfilerRate {})
}

/// A request for the buffer's shape as it ought to be.
#[must_use]
pub fn good_info() -> ProfilerInfo {
    sized!(ProfilerInfo {})
}

/// A reader's place as it ought to be told.
#[must_use]
pub fn good_seen(head: u64) -> ProfilerSeen {
    sized!(ProfilerSeen { head: head })
}

impl Device {
    /// Opens a device for reading and writing.
    pub fn open(path: &str) -> Res<Device> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map(Device)
            .map_err(|error| sys::errno_of(&error))
    }

    /// Opens `/dev/virgo`. Panics if it cannot.
    #[must_use]
    pub fn control() -> Device {
        Self::open(uapi::DEVICE).expect("/dev/virgo opens")
    }

    /// Opens `/dev/virgo-profiler`. Panics if it cannot.
    #[must_use]
    pub fn profiler() -> Device {
        Self::open(uapi::PROFILER_DEVICE).expect("/dev/virgo-profiler opens")
    }

    /// What is loaded.
    pub fn query(&self) -> Res<Query> {
        let mut query = good_query();
        sys::ioctl(self, uapi::IOC_QUERY, &mut query).map(|_| query)
    }

    /// Registers a task; the identity of the registration.
    pub fn register(&self, pid: i32, flags: u32) -> Res<u64> {
        let mut task = good_task(pid, flags);
        sys::ioctl(self, uapi::PROFILER_IOC_REGISTER, &mut task).map(|_| task.id)
    }

    /// Unregisters a task; the identity that the registration had.
    pub fn unregister(&self, pid: i32, flags: u32) -> Res<u64> {
        let mut task = good_task(pid, flags);
        sys::ioctl(self, uapi::PROFILER_IOC_UNREGISTER, &mut task).map(|_| task.id)
    }

    /// The count of registrations, and at most `capacity` of them.
    pub fn list_up_to(&self, capacity: usize) -> Res<(u32, Vec<ProfilerEntry>)> {
        const SIZE: usize = size_of::<ProfilerEntry>();
        let area = Area::new((capacity * SIZE).div_ceil(sys::PAGE) + 1);
        let mut list = good_list();
        list.entries = area.address(0) as u64;
        list.capacity = capacity as u32;
        sys::ioctl(self, uapi::PROFILER_IOC_LIST, &mut list)?;
        let stored = (list.count as usize).min(capacity);
        let bytes = area.read(0, stored * SIZE);
        assert!(
            area.read(stored * SIZE, SIZE).iter().all(|byte| *byte == 0),
            "written behind the last entry"
        );
        Ok((
            list.count,
            bytes.chunks_exact(SIZE).map(sys::from_bytes).collect(),
        ))
    }

    /// All registrations.
    #[must_use]
    pub fn list(&self) -> Vec<ProfilerEntry> {
        let (count, _) = self.list_up_to(0).expect("the list");
        self.list_up_to(count as usize).expect("the list").1
    }

    /// Sampling rounds a second.
    pub fn rate(&self) -> Res<u32> {
        let mut rate = good_rate();
        sys::ioctl(self, uapi::PROFILER_IOC_RATE, &mut rate).map(|_| rate.rate_hz)
    }

    /// Sets the rate; what it is then.
    pub fn set_rate(&self, rate_hz: u32) -> Res<u32> {
        let mut rate = good_rate();
        rate.flags = uapi::PROFILER_RATE_SET;
        rate.rate_hz = rate_hz;
        sys::ioctl(self, uapi::PROFILER_IOC_RATE, &mut rate).map(|_| rate.rate_hz)
    }

    /// The shape of the buffer.
    pub fn info(&self) -> Res<ProfilerInfo> {
        let mut info = good_info();
        sys::ioctl(self, uapi::PROFILER_IOC_INFO, &mut info).map(|_| info)
    }

    /// Tells how far the reader has come.
    pub fn seen(&self, head: u64) -> Res<()> {
        sys::ioctl(self, uapi::PROFILER_IOC_SEEN, &mut good_seen(head)).map(drop)
    }

    /// Whether there is something to read; waits for at most that long.
    #[must_use]
    pub fn readable(&self, timeout_ms: i32) -> bool {
        let events = sys::poll(self, libc::POLLIN, timeout_ms);
        assert_eq!(events & !libc::POLLIN, 0, "poll() reports {events:#x}");
        events != 0
    }

    /// Maps the whole buffer.
    #[must_use]
    pub fn buffer(&self) -> Buffer {
        Buffer::map(self).expect("the buffer is mapped")
    }
}

/// The text of `/proc/virgo/profiler/status`.
pub const STATUS: &str = "/proc/virgo/profiler/status";

/// Writes to a file in one go.
pub fn write_once(file: &File, text: &[u8]) -> Res<()> {
    match (&mut &*file as &mut dyn std::io::Write).write(text) {
        Ok(count) => {
            assert_eq!(count, text.len(), "all of it is taken, or nothing");
            Ok(())
        }
        Err(error) => Err(sys::errno_of(&error)),
    }
}

/// Opens the status file and writes to it.
pub fn tell_status(text: &str) -> Res<()> {
    let file = OpenOptions::new()
        .write(true)
        .open(STATUS)
        .map_err(|error| sys::errno_of(&error))?;
    write_once(&file, text.as_bytes())
}

/// What the status file says.
#[must_use]
pub fn status() -> String {
    std::fs::read_to_string(STATUS).expect("the status")
}

/// Whether an error is the one of a device that is not there.
#[must_use]
pub fn is_gone(error: Errno) -> bool {
    error == sys::ENOENT
}
