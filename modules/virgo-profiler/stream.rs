// SPDX-License-Identifier: GPL-2.0-only

//! The records of a trace on their way to its reader.
//!
//! Writers are the traced threads, in the midst of a fault or of a change of their map: they take
//! one spinlock for a moment and never wait for the reader. Memory grows by chunks of 8 KiB up to
//! a limit; what does not fit is counted. A reader takes a chunk out whole and copies from it
//! without the lock.

use core::mem;

use kernel::{
    alloc::{
        flags::{
            GFP_NOWAIT,
            __GFP_NOWARN, //
        },
        Flags, //
    },
    prelude::*, //
};

use crate::{
    lib::zeroed::zeroed,
    proto::trace::{
        whole,
        Encoder,
        Fault,
        Record,
        RECORD_MAX,
        SMALL_MAX, //
    },
};

/// Bytes in a chunk.
pub(crate) const CHUNK: usize = 8192;
/// A reader that waits is woken when so many chunks are full, or a quarter of what there may be.
const WAKE: usize = 8;
/// Chunks that are kept for the next need: as many as are filled until a reader looks.
const SPARES: usize = 4;
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
    /// It is there, and chunks before it are full: a reader should come.
    Chunk,
}

/// A piece of the stream: whole records.
struct Chunk {
    /// [`CHUNK`] of them, or none.
    bytes: KVec<u8>,
    used: usize,
}

impl Chunk {
    const fn none() -> Self {
        Chunk {
            bytes: KVec::new(),
            used: 0,
        }
    }

    fn new(flags: Flags) -> Result<Self> {
        Ok(Chunk {
            bytes: zeroed(CHUNK, flags)?,
            used: 0,
        })
    }

    fn is_none(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    fn rest(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.used..).unwrap_or(&mut [])
    }

    /// What is written from `start` on.
    fn written(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.used).unwrap_or(&[])
    }
}

/// The chunks, first to last, and what the writers share.
pub(crate) struct Queue {
    /// What is being written, behind all others.
    last: Chunk,
    encoder: Encoder,
    /// Something is in `lost_faults` or `lost_maps`.
    lost: bool,
    /// A ring of places, of which `used` from `first` on hold a chunk.
    places: KVVec<Option<Chunk>>,
    first: usize,
    used: usize,
    /// Most chunks that may be in use.
    limit: usize,
    /// Empty chunks, kept for the next need.
    spares: KVec<Chunk>,
    /// A chunk is at the reader's.
    lent: bool,
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
        let mut spares = KVec::with_capacity(SPARES, GFP_KERNEL)?;
        spares.push(Chunk::new(GFP_KERNEL)?, GFP_KERNEL)?;
        Ok(Queue {
            last: Chunk::none(),
            encoder: Encoder::new(),
            lost: false,
            places,
            first: 0,
            used: 0,
            limit,
            spares,
            lent: false,
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
        let mut sum = self.last.used;
        for nth in 0..self.used {
            let chunk = self.places.get(self.index(nth)).and_then(Option::as_ref);
            sum = sum.saturating_add(chunk.map_or(0, |chunk| chunk.used));
        }
        sum
    }

    /// Whether there is nothing for a reader to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0 && self.last.used == 0
    }

    fn index(&self, nth: usize) -> usize {
        let index = self.first.wrapping_add(nth);
        if index < self.places.len() {
            index
        } else {
            index.wrapping_sub(self.places.len())
        }
    }

    /// Makes room for `need` bytes at the end of the last chunk. Does not sleep.
    fn room(&mut self, need: usize, forced: bool) -> bool {
        if self.last.rest().len() >= need {
            return true;
        }
        let in_use = self
            .used
            .saturating_add(usize::from(self.lent))
            .saturating_add(usize::from(!self.last.is_none()));
        let bound = if forced {
            self.places.len()
        } else {
            self.limit
        };
        if in_use >= bound || self.used >= self.places.len() {
            return false;
        }
        let chunk = match self.spares.pop() {
            Some(chunk) => chunk,
            None => match Chunk::new(GFP_NOWAIT | __GFP_NOWARN) {
                Ok(chunk) => chunk,
                Err(_) => return false,
            },
        };
        let full = mem::replace(&mut self.last, chunk);
        if !full.is_none() {
            let index = self.index(self.used);
            if let Some(place) = self.places.get_mut(index) {
                *place = Some(full);
                self.used = self.used.wrapping_add(1);
            }
        }
        true
    }

    /// Tells the reader about what did not fit.
    fn tell_lost(&mut self) {
        let record = Record::Dropped {
            faults: self.lost_faults,
            maps: self.lost_maps,
        };
        if let Some(length) = self.encoder.encode(&record, self.last.rest()) {
            self.last.used = self.last.used.wrapping_add(length);
            self.lost_faults = 0;
            self.lost_maps = 0;
            self.lost = false;
        }
    }

    fn prepare(&mut self, need: usize, forced: bool) -> Option<Put> {
        let (empty, before) = (self.is_empty(), self.used);
        let need = if self.lost {
            need.saturating_add(SMALL_MAX)
        } else {
            need
        };
        if !self.room(need, forced) {
            return None;
        }
        if self.lost {
            self.tell_lost();
        }
        Some(if empty {
            Put::First
        } else if self.used != before && self.used >= WAKE.min(self.limit / 4) {
            Put::Chunk
        } else {
            Put::Done
        })
    }

    /// Adds a fault. Does not sleep.
    #[inline]
    pub(crate) fn fault(&mut self, fault: &Fault) -> Put {
        if self.last.used != 0 && !self.lost {
            if let Some(length) = self.encoder.fault(fault, self.last.rest()) {
                self.last.used = self.last.used.wrapping_add(length);
                return Put::Done;
            }
        }
        self.fault_anew(fault)
    }

    /// The same where there may be no room, or something else is to be told.
    #[cold]
    fn fault_anew(&mut self, fault: &Fault) -> Put {
        if let Some(put) = self.prepare(SMALL_MAX, false) {
            // Not by `Encoder::fault`, whose code would be put in here once more.
            if let Some(length) = self
                .encoder
                .encode(&Record::Fault(*fault), self.last.rest())
            {
                self.last.used = self.last.used.wrapping_add(length);
                return put;
            }
        }
        self.lost_faults = self.lost_faults.wrapping_add(1);
        self.lost = true;
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
            if let Some(length) = self.encoder.encode(record, self.last.rest()) {
                self.last.used = self.last.used.wrapping_add(length);
                return put;
            }
        }
        self.lose_map();
        Put::Dropped
    }

    /// Counts a record about a process that could not be made.
    pub(crate) fn lose_map(&mut self) {
        self.lost_maps = self.lost_maps.wrapping_add(1);
        self.lost = true;
    }

    /// Takes the first chunk out, for the reader, who gives `empty` back.
    fn take(&mut self, mut empty: Chunk) -> Chunk {
        if !empty.is_none() && self.spares.len() < SPARES {
            empty.used = 0;
            // Within its capacity: nothing is allocated.
            let _ = self.spares.push(empty, GFP_NOWAIT);
        }
        let taken = if self.used > 0 {
            let index = self.first;
            self.first = self.index(1);
            self.used = self.used.wrapping_sub(1);
            self.places.get_mut(index).and_then(Option::take)
        } else if self.last.used > 0 {
            Some(mem::replace(&mut self.last, Chunk::none()))
        } else {
            None
        };
        self.lent = taken.is_some();
        taken.unwrap_or(Chunk::none())
    }
}

/// The chunk at the reader's, and how much of it was read.
pub(crate) struct Lent {
    chunk: Chunk,
    read: usize,
}

impl Lent {
    /// None yet.
    pub(crate) fn new() -> Self {
        Lent {
            chunk: Chunk::none(),
            read: 0,
        }
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        self.chunk.written(self.read).is_empty()
    }

    /// Takes the next chunk, of which there may be none, when this one is done.
    pub(crate) fn refill(&mut self, queue: &mut Queue) {
        let empty = mem::replace(&mut self.chunk, Chunk::none());
        self.chunk = queue.take(empty);
        self.read = 0;
    }

    /// The records of this chunk that fit in `room`.
    pub(crate) fn fitting(&self, room: usize) -> &[u8] {
        let rest = self.chunk.written(self.read);
        rest.get(..whole(rest, room)).unwrap_or(&[])
    }

    /// `length` more bytes were read.
    pub(crate) fn advance(&mut self, length: usize) {
        self.read = self.read.saturating_add(length);
    }
}
