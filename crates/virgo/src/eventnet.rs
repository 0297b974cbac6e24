// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `/dev/virgo-eventnet`: what happened and what led to what.

use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use virgo_proto::crc::crc32c_after;
use virgo_proto::uapi;

pub use virgo_proto::eventlog::{Content, Id, Record};
pub use virgo_proto::eventnet::{check_list, check_name, Fault, Message};

use crate::error::{Action, Error};
use crate::sys;
use crate::Result;

/// Numbers; the header says what each is.
pub type Stat = uapi::EventnetStat;
/// Settings, likewise.
pub type Settings = uapi::EventnetSettings;

/// Bytes that are asked for at a time.
const PIECE: usize = 1 << 20;

/// `/dev/virgo-eventnet`, opened.
///
/// ```no_run
/// use virgo::eventnet::{Eventnet, Journal};
///
/// # fn main() -> Result<(), virgo::Error> {
/// let eventnet = Eventnet::open()?;
/// eventnet.log("eventnet_edgemsg#cause#effect#")?;
/// let mut journal = Journal::new();
/// while let Some(piece) = eventnet.read(journal.position())? {
///     journal.add(&piece);
///     journal.records(|record| println!("{:?}", record.content));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Eventnet {
    fd: OwnedFd,
}

fn action(what: impl Into<String>) -> Action {
    Action::Eventnet(what.into())
}

impl Eventnet {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        let path = uapi::EVENTNET_DEVICE;
        let fd = sys::open_device(path).map_err(|errno| Error::new(Action::Open(path), errno))?;
        Ok(Eventnet { fd })
    }

    /// Has a message written, as on the port; which event it is. With fsync=always it is on the
    /// disk then.
    pub fn log(&self, message: &str) -> Result<Id> {
        let mut log = uapi::EventnetLog {
            size: size_of::<uapi::EventnetLog>() as u32,
            ..Default::default()
        };
        sys::eventnet_log(&self.fd, &mut log, message.as_bytes())
            .map_err(|errno| Error::new(action("log an event"), errno))?;
        Ok(Id {
            stamp: log.stamp,
            node: log.node,
        })
    }

    /// The journal's next bytes from `position` on; `None` if there are no more now.
    pub fn read(&self, position: u64) -> Result<Option<Vec<u8>>> {
        let mut room = vec![0; PIECE];
        let mut read = uapi::EventnetRead {
            size: size_of::<uapi::EventnetRead>() as u32,
            position,
            ..Default::default()
        };
        sys::eventnet_read(&self.fd, &mut read, &mut room)
            .map_err(|errno| Error::new(action("read the journal"), errno))?;
        room.truncate(read.length as usize);
        Ok(Some(room).filter(|room| !room.is_empty()))
    }

    /// Waits until the journal is longer than what was read; whether it is. Earlier if a signal
    /// comes.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        sys::wait_readable(&self.fd, timeout)
            .map_err(|errno| Error::new(action("wait for events"), errno))
    }

    /// Numbers.
    pub fn stat(&self) -> Result<Stat> {
        let mut stat = Stat {
            size: size_of::<Stat>() as u32,
            ..Default::default()
        };
        sys::call::<{ uapi::EVENTNET_IOC_STAT }, _>(&self.fd, &mut stat)
            .map_err(|errno| Error::new(action("ask for the numbers"), errno))?;
        Ok(stat)
    }

    /// Changes the settings that `flags` name; how they are then.
    pub fn settings(&self, settings: Settings) -> Result<Settings> {
        let mut settings = Settings {
            size: size_of::<Settings>() as u32,
            ..settings
        };
        sys::call::<{ uapi::EVENTNET_IOC_SETTINGS }, _>(&self.fd, &mut settings)
            .map_err(|errno| Error::new(action("change the settings"), errno))?;
        Ok(settings)
    }
}

impl AsFd for Eventnet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads a journal that comes in pieces.
#[derive(Debug, Default)]
pub struct Journal {
    rest: Vec<u8>,
    read: u64,
    last: u64,
    damaged: u64,
}

impl Journal {
    /// From the beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the next piece begins.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// Bytes that were damaged, and passed over.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Adds the piece at [`Journal::position`].
    pub fn add(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        self.read += piece.len() as u64;
    }

    /// The records that are whole by now, each once.
    pub fn records(&mut self, mut each: impl FnMut(&Record<'_>)) {
        let mut reader = virgo_proto::eventlog::Reader::new(&self.rest, self.last, crc32c_after);
        while let Some(record) = reader.next() {
            each(&record);
        }
        // The beginning of a record that never comes, where there is room for the longest.
        while self.rest.len() - reader.position().min(self.rest.len()) > 2 * (16 << 10) {
            reader.skip();
            while let Some(record) = reader.next() {
                each(&record);
            }
        }
        self.last = reader.last();
        self.damaged += reader.damaged;
        let used = reader.position().min(self.rest.len());
        self.rest.drain(..used);
    }
}
