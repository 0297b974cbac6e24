// SPDX-License-Identifier: GPL-2.0-only

//! The records of a trace on their way to its reader.
//!
//! Writers are the traced threads, in the midst of a fault or of a change of their map: they take
//! one spinlock for a moment and never wait for the reader. Memory grows by chunks of 8 KiB up to
//! a limit; what does not fit is counted. A reader takes a chunk out whole and copies from it
//! without the lock.

use core::mem;

use kernel::{
    alloc::flags::{
        GFP_NOWAIT,
        __GFP_NOWARN, //
    },
    prelude::*, //
};

use crate::proto::trace::{
    whole,
    Encoder,
    Fault,
    Record,
    RECORD_MAX,
    SMALL_MAX, //
};

/// Bytes in a chunk.
pub(crate) const CHUNK: usize = 8192;
/// Chunks beyond the limit, for the last records of processes, which are never dropped.
const RESERVE: usize = 64;

static_assert!(RECORD_MAX + SMALL_MAX <= CHUNK);

/// What came of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It did not fit and was counted.
    Dropped,
    /// It is there.
    Done,
    /// It is there, and whoever polls should know, as there was nothing before.
    First,
    /// It is there, and a chunk before it is full: a reader should come.
    Chunk,
}

/// The chunks, first to last, and what the writers share.
pub(crate) struct Queue {
    /// A ring of places, of which `used` from `first` on hold a chunk.
    places: KVVec<Option<KVec<u8>>>,
    first: usize,
    used: usize,
    /// Most chunks that may be in use.
    limit: usize,
    /// An empty chunk, kept for the next need.
    spare: Option<KVec<u8>>,
    /// A chunk is at the reader's.
    lent: bool,
    /// Where records are put together.
    scratch: KVec<u8>,
    encoder: Encoder,
    /// Not told to the reader yet.
    lost_faults: u64,
    lost_maps: u64,
}

impl Queue {
    /// For at most `bytes`, rounded up to whole chunks. `ENOMEM`. May sleep.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let limit = bytes.div_ceil(CHUNK).max(1);
        let count = limit.checked_add(RESERVE).ok_or(EINVAL)?;
        let mut places = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            places.push(None, GFP_KERNEL)?;
        }
        Ok(Queue {
            places,
            first: 0,
            used: 0,
            limit,
            spare: Some(KVec::with_capacity(CHUNK, GFP_KERNEL)?),
            lent: false,
            scratch: KVec::from_elem(0, RECORD_MAX, GFP_KERNEL)?,
            encoder: Encoder::new(),
            lost_faults: 0,
            lost_maps: 0,
        })
    }

    /// Bytes that the chunks may take.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit.saturating_mul(CHUNK)
    }

    /// Bytes that wait, and are not at the reader's.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let mut sum: usize = 0;
        for index in 0..self.used {
            sum = sum.saturating_add(self.place(index).map_or(0, KVec::len));
        }
        sum
    }

    /// Whether there is nothing for a reader to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn index(&self, nth: usize) -> usize {
        let index = self.first.wrapping_add(nth);
        if index < self.places.len() {
            index
        } else {
            index.wrapping_sub(self.places.len())
        }
    }

    fn place(&self, nth: usize) -> Option<&KVec<u8>> {
        self.places.get(self.index(nth)).and_then(Option::as_ref)
    }

    #[inline]
    fn last(&mut self) -> Option<&mut KVec<u8>> {
        let nth = self.used.checked_sub(1)?;
        let index = self.index(nth);
        self.places.get_mut(index).and_then(Option::as_mut)
    }

    /// Makes room for `need` bytes at the end of the last chunk. Does not sleep.
    fn room(&mut self, need: usize, forced: bool) -> bool {
        if let Some(chunk) = self.last() {
            if CHUNK.saturating_sub(chunk.len()) >= need {
                return true;
            }
        }
        let in_use = self.used.saturating_add(usize::from(self.lent));
        let bound = if forced {
            self.places.len()
        } else {
            self.limit
        };
        if in_use >= bound || self.used >= self.places.len() {
            return false;
        }
        let chunk = match self.spare.take() {
            Some(chunk) => chunk,
            None => match KVec::with_capacity(CHUNK, GFP_NOWAIT | __GFP_NOWARN) {
                Ok(chunk) => chunk,
                Err(_) => return false,
            },
        };
        let index = self.index(self.used);
        match self.places.get_mut(index) {
            Some(place) => *place = Some(chunk),
            None => return false,
        }
        self.used = self.used.wrapping_add(1);
        true
    }

    /// Puts `length` bytes of the scratch at the end, for which there is room.
    #[inline]
    fn append(&mut self, length: usize) -> bool {
        let scratch = mem::take(&mut self.scratch);
        let done = match (self.last(), scratch.get(..length)) {
            // Within the chunk's capacity: nothing is allocated.
            (Some(chunk), Some(bytes)) => chunk.extend_from_slice(bytes, GFP_NOWAIT).is_ok(),
            _ => false,
        };
        self.scratch = scratch;
        done
    }

    /// Tells the reader about what did not fit, if that is due.
    fn tell_lost(&mut self) {
        let record = Record::Dropped {
            faults: self.lost_faults,
            maps: self.lost_maps,
        };
        if let Some(length) = self.encoder.encode(&record, &mut self.scratch) {
            if self.append(length) {
                self.lost_faults = 0;
                self.lost_maps = 0;
            }
        }
    }

    #[inline]
    fn prepare(&mut self, need: usize, forced: bool) -> Option<Put> {
        let before = self.used;
        let lost = self.lost_faults != 0 || self.lost_maps != 0;
        let need = if lost {
            need.saturating_add(SMALL_MAX)
        } else {
            need
        };
        if !self.room(need, forced) {
            return None;
        }
        if lost {
            self.tell_lost();
        }
        Some(match (before, self.used) {
            (0, _) => Put::First,
            (before, now) if before != now => Put::Chunk,
            _ => Put::Done,
        })
    }

    /// Adds a fault. Does not sleep.
    #[inline]
    pub(crate) fn fault(&mut self, fault: &Fault) -> Put {
        if let Some(put) = self.prepare(SMALL_MAX, false) {
            if let Some(length) = self.encoder.fault(fault, &mut self.scratch) {
                if self.append(length) {
                    return put;
                }
            }
        }
        self.lost_faults = self.lost_faults.wrapping_add(1);
        Put::Dropped
    }

    /// Adds another record. Does not sleep.
    pub(crate) fn put(&mut self, record: &Record<'_>) -> Put {
        let (need, forced) = match record {
            Record::Area(area) => (area.name.len().saturating_add(SMALL_MAX), false),
            Record::Exec { path, .. } => (path.len().saturating_add(SMALL_MAX), false),
            Record::End(_) => (SMALL_MAX, true),
            _ => (SMALL_MAX, false),
        };
        if let Some(put) = self.prepare(need.min(RECORD_MAX), forced) {
            if let Some(length) = self.encoder.encode(record, &mut self.scratch) {
                if self.append(length) {
                    return put;
                }
            }
        }
        self.lost_maps = self.lost_maps.wrapping_add(1);
        Put::Dropped
    }

    /// Counts a record about a process that could not be made.
    pub(crate) fn lose_map(&mut self) {
        self.lost_maps = self.lost_maps.wrapping_add(1);
    }

    /// Takes the first chunk out, for the reader, who gives `empty` back.
    fn take(&mut self, empty: KVec<u8>) -> KVec<u8> {
        if self.spare.is_none() && empty.capacity() >= CHUNK {
            self.spare = Some(empty);
        }
        let taken = if self.used == 0 {
            None
        } else {
            let index = self.first;
            self.first = self.index(1);
            self.used = self.used.wrapping_sub(1);
            self.places.get_mut(index).and_then(Option::take)
        };
        self.lent = taken.is_some();
        taken.unwrap_or_default()
    }
}

/// The chunk at the reader's, and how much of it was read.
pub(crate) struct Lent {
    chunk: KVec<u8>,
    read: usize,
}

impl Lent {
    /// None yet.
    pub(crate) fn new() -> Self {
        Lent {
            chunk: KVec::new(),
            read: 0,
        }
    }

    /// What was not read yet.
    fn rest(&self) -> &[u8] {
        self.chunk.get(self.read..).unwrap_or(&[])
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        self.rest().is_empty()
    }

    /// Takes the next chunk, of which there may be none, when this one is done. `take` runs
    /// `Queue::take` under the queue's lock.
    pub(crate) fn refill(&mut self, queue: &mut Queue) {
        let mut empty = mem::take(&mut self.chunk);
        empty.clear();
        self.chunk = queue.take(empty);
        self.read = 0;
    }

    /// The records of this chunk that fit in `room`.
    pub(crate) fn fitting(&self, room: usize) -> &[u8] {
        let rest = self.rest();
        rest.get(..whole(rest, room)).unwrap_or(&[])
    }

    /// `length` more bytes were read.
    pub(crate) fn advance(&mut self, length: usize) {
        self.read = self.read.saturating_add(length);
    }
}
