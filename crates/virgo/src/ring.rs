// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The reader of the profiler's buffer.
//!
//! # Memory ordering
//!
//! The kernel alone writes. For record number `n`, in slot `n % capacity`, it stores 0 to the
//! slot's `seq`, then the fields, then `n + 1` to `seq` (release), then `n + 1` to the header's
//! `head` (release). A reader loads `seq`, copies the fields, loads `seq` again, and has the
//! record only if both loads gave `n + 1`:
//!
//! - the acquire fence after the first load pairs with the release of `seq = n + 1`, so the copy
//!   is not older than record `n`;
//! - the acquire fence between the copy and the second load keeps the copy before that load, so
//!   if the copy saw a field of a later record, then the second load sees that record's `seq = 0`
//!   or something newer.
//!
//! All loads are relaxed with separate fences, never `Ordering::Acquire`: the pages are mapped
//! read-only, where Rust promises relaxed loads alone.

use std::error::Error as StdError;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::time::Duration;

use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::profiler::{self, Profiler};
use crate::sample::{Sample, WORDS};
use crate::sys;
use crate::Result;

/// The header's fields, by word.
mod word {
    pub(super) const MAGIC_LAYOUT: usize = 0;
    pub(super) const SIZES: usize = 1;
    pub(super) const CAPACITY: usize = 2;
    pub(super) const HEAD: usize = 3;
    pub(super) const GENERATION: usize = 4;
    pub(super) const DROPPED: usize = 5;
    pub(super) const TICKS: usize = 6;
    pub(super) const MISSED_TICKS: usize = 7;
    pub(super) const RATE_REGISTERED: usize = 8;
    pub(super) const START_NS: usize = 9;
    pub(super) const COUNT: usize = 10;
}

/// What a reader finds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A record.
    Sample(Sample),
    /// So many records were overwritten before this reader came to them.
    Lost(u64),
}

/// The header's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// How many records the buffer holds.
    pub capacity: u64,
    /// Records written so far.
    pub head: u64,
    /// Grows at each registration, removal and change of rate.
    pub generation: u64,
    /// Samples that were due and were not taken.
    pub dropped: u64,
    /// Sampling rounds so far.
    pub ticks: u64,
    /// Sampling rounds that were skipped.
    pub missed_ticks: u64,
    /// Sampling rounds a second.
    pub rate_hz: u32,
    /// Registered tasks now.
    pub registered: u32,
    /// When sampling last started; 0 while no task is registered.
    pub start_ns: u64,
}

/// Why a mapping is not a buffer that this library can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// Shorter than the header says.
    Short,
    /// The first word is not the profiler's.
    Magic(u32),
    /// A layout that this library doesn't know.
    Layout(u32),
    /// Record or header sizes that no layout has.
    Sizes,
    /// A table of named values begins with other words, is of another layout, or has impossible
    /// sizes.
    Table(&'static str),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Short => write!(f, "the mapped buffer is shorter than its header says"),
            LayoutError::Magic(magic) => write!(f, "the buffer begins with {magic:#010x}"),
            LayoutError::Layout(layout) => write!(
                f,
                "the buffer has layout {layout}, this program knows layout {}",
                uapi::PROFILER_LAYOUT
            ),
            LayoutError::Sizes => write!(f, "the buffer's header has impossible sizes"),
            LayoutError::Table(what) => write!(f, "its table {what}"),
        }
    }
}

impl StdError for LayoutError {}

/// One reader's place in a ring of records, in any memory.
///
/// [`Ring`] is this with the kernel's memory and its descriptor. Every record is either returned
/// or counted as lost, exactly once.
#[derive(Debug)]
pub struct Reader<M> {
    memory: M,
    header_words: usize,
    record_words: usize,
    capacity: u64,
    next: u64,
    lost: u64,
}

impl<M: AsRef<[AtomicU64]>> Reader<M> {
    /// Checks the header in `memory` and begins at the oldest record that is there.
    pub fn new(memory: M) -> std::result::Result<Self, LayoutError> {
        let words = memory.as_ref();
        if words.len() < word::COUNT {
            return Err(LayoutError::Short);
        }
        let (magic, layout) = split(load(words, word::MAGIC_LAYOUT));
        if magic != uapi::PROFILER_MAGIC {
            return Err(LayoutError::Magic(magic));
        }
        if layout != uapi::PROFILER_LAYOUT {
            return Err(LayoutError::Layout(layout));
        }
        let (header_size, record_size) = split(load(words, word::SIZES));
        let capacity = load(words, word::CAPACITY);
        // Both sizes are u32, so they fit a usize on the 64-bit machines this crate is for.
        let (header_size, record_size) = (header_size as usize, record_size as usize);
        let header_words = header_size / 8;
        let record_words = record_size / 8;
        if header_size % 8 != 0
            || record_size % 8 != 0
            || header_words < word::COUNT
            || record_words < WORDS
            || capacity == 0
        {
            return Err(LayoutError::Sizes);
        }
        let fits = usize::try_from(capacity)
            .ok()
            .and_then(|capacity| capacity.checked_mul(record_words))
            .and_then(|records| records.checked_add(header_words))
            .is_some_and(|needed| needed <= words.len());
        if !fits {
            return Err(LayoutError::Short);
        }
        let mut reader = Reader {
            memory,
            header_words,
            record_words,
            capacity,
            next: 0,
            lost: 0,
        };
        reader.seek_oldest();
        Ok(reader)
    }

    /// The header's counters. They are loaded one by one, while the kernel may count on.
    pub fn header(&self) -> Header {
        let words = self.memory.as_ref();
        let head = self.head();
        let (rate_hz, registered) = split(load(words, word::RATE_REGISTERED));
        Header {
            capacity: self.capacity,
            head,
            generation: load(words, word::GENERATION),
            dropped: load(words, word::DROPPED),
            ticks: load(words, word::TICKS),
            missed_ticks: load(words, word::MISSED_TICKS),
            rate_hz,
            registered,
            start_ns: load(words, word::START_NS),
        }
    }

    /// Goes on at the oldest record that is still there. What is jumped over isn't lost.
    pub fn seek_oldest(&mut self) {
        self.next = self.head().saturating_sub(self.capacity);
    }

    /// Goes on at the next record that will be written.
    pub fn seek_head(&mut self) {
        self.next = self.head();
    }

    /// The number, from 0, of the record that comes next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// How many records this reader has lost in all.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next record, or `None` when this reader has seen all there is. Never waits.
    pub fn next_record(&mut self) -> Option<Record> {
        let head = self.head();
        // A head that went back would be a new buffer in old memory, which the kernel never does.
        if self.next >= head {
            return None;
        }
        let oldest = head.saturating_sub(self.capacity);
        if self.next < oldest {
            return Some(self.lose_until(oldest));
        }
        if let Some(sample) = self.copy(self.next) {
            self.next += 1;
            return Some(Record::Sample(sample));
        }
        // Overwritten while it was copied. By now the head may be far beyond: all that is gone
        // for certain is jumped over in one step.
        let oldest = self.head().saturating_sub(self.capacity);
        Some(self.lose_until(oldest.max(self.next + 1)))
    }

    fn lose_until(&mut self, position: u64) -> Record {
        let count = position.saturating_sub(self.next);
        self.next = position;
        self.lost += count;
        Record::Lost(count)
    }

    fn head(&self) -> u64 {
        let head = load(self.memory.as_ref(), word::HEAD);
        // Pairs with the release of `head`: records below it are complete, or newer.
        fence(Ordering::Acquire);
        head
    }

    /// Copies record `number` out of its slot; `None` if it isn't there any more, or was
    /// overwritten meanwhile.
    fn copy(&self, number: u64) -> Option<Sample> {
        let slot = usize::try_from(number % self.capacity).ok()?;
        // `new` has checked that every slot below `capacity` lies in memory.
        let start = self.header_words + slot * self.record_words;
        let record: &[AtomicU64; WORDS] = self
            .memory
            .as_ref()
            .get(start..start + WORDS)?
            .try_into()
            .ok()?;
        let expected = number.wrapping_add(1);
        if record[0].load(Ordering::Relaxed) != expected {
            return None;
        }
        // See "Memory ordering" above for both fences.
        fence(Ordering::Acquire);
        let copy = record.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if record[0].load(Ordering::Relaxed) != expected {
            return None;
        }
        Some(Sample::from_words(&copy))
    }
}

/// Relaxed: see "Memory ordering" above for the fences. `new` has checked the header's length.
fn load(words: &[AtomicU64], index: usize) -> u64 {
    words[index].load(Ordering::Relaxed)
}

/// Two 32-bit fields that lie one behind the other.
fn split(word: u64) -> (u32, u32) {
    let bytes = word.to_ne_bytes();
    let half =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (half(0), half(4))
}

/// A reader of the kernel's buffer, with its own descriptor to wait on.
#[derive(Debug)]
pub struct Ring {
    reader: Reader<sys::Map>,
    fd: OwnedFd,
}

impl Ring {
    /// Opens the device, maps the buffer read-only, and begins at the oldest record.
    pub fn open() -> Result<Self> {
        let profiler = Profiler::open()?;
        let info = profiler.info()?;
        let len = usize::try_from(info.map_bytes)
            .map_err(|_| Error::new(Action::Map, rustix::io::Errno::NOMEM))?;
        let fd = profiler.into_fd();
        let map = sys::Map::new(&fd, len).map_err(|errno| Error::new(Action::Map, errno))?;
        let reader = Reader::new(map).map_err(Error::layout)?;
        Ok(Ring { reader, fd })
    }

    /// Waits until there is something to read; `false` after `timeout`, or when a signal came.
    ///
    /// Takes what was read so far as seen: read until [`Ring::next_record`] gives `None` first.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        profiler::seen(&self.fd, self.reader.position())?;
        sys::wait_readable(&self.fd, timeout).map_err(|errno| Error::new(Action::Poll, errno))
    }

    /// See [`Reader::next_record`].
    pub fn next_record(&mut self) -> Option<Record> {
        self.reader.next_record()
    }

    /// See [`Reader::header`].
    pub fn header(&self) -> Header {
        self.reader.header()
    }

    /// See [`Reader::seek_head`].
    pub fn seek_head(&mut self) {
        self.reader.seek_head();
    }

    /// See [`Reader::seek_oldest`].
    pub fn seek_oldest(&mut self) {
        self.reader.seek_oldest();
    }

    /// See [`Reader::lost`].
    pub fn lost(&self) -> u64 {
        self.reader.lost()
    }

    /// See [`Reader::position`].
    pub fn position(&self) -> u64 {
        self.reader.position()
    }
}

impl AsFd for Ring {
    /// To wait on with other descriptors; see [`Ring::wait`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
