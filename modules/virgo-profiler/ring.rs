// SPDX-License-Identifier: GPL-2.0-only

//! The buffer that user space maps: a header page, then record slots that are used in turn.
//!
//! There is one writer, which holds the sampler's mutex. Readers are programs, any number, which
//! take no lock and cannot write; the kernel never reads back what is in the buffer but the head.

use core::mem::offset_of;

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    lib::pages::{
        Mapping,
        SharedPages, //
    },
    proto::uapi::{
        self,
        ProfilerHeader,
        ProfilerSample, //
    },
};

const WORD: usize = size_of::<u64>();
/// Words of a record.
const RECORD_WORDS: usize = size_of::<ProfilerSample>() / WORD;
/// Words of a record after its sequence number.
pub(crate) const BODY_WORDS: usize = RECORD_WORDS - 1;
/// Words in front of the first record.
const HEADER_WORDS: usize = uapi::PROFILER_HEADER_SIZE as usize / WORD;

static_assert!(size_of::<ProfilerSample>() == RECORD_WORDS * WORD);
static_assert!(offset_of!(ProfilerSample, seq) == 0);
static_assert!(size_of::<ProfilerHeader>() <= uapi::PROFILER_HEADER_SIZE as usize);
// The header is a page, so that records start at one.
static_assert!(uapi::PROFILER_HEADER_SIZE as usize % PAGE_SIZE == 0);

/// Index of the word that a field of the header begins in.
macro_rules! header_word {
    ($field:ident) => {{
        const OFFSET: usize = offset_of!(ProfilerHeader, $field);
        static_assert!(OFFSET % WORD == 0);
        OFFSET / WORD
    }};
}

/// Two 32-bit fields, one after the other in memory, as the word they make.
pub(crate) fn pair(first: u32, second: u32) -> u64 {
    let (low, high) = if cfg!(target_endian = "little") {
        (first, second)
    } else {
        (second, first)
    };
    u64::from(low) | u64::from(high) << 32
}

/// Numbers in the header that change while the profiler runs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Status {
    pub(crate) generation: u64,
    pub(crate) dropped: u64,
    pub(crate) ticks: u64,
    pub(crate) missed_ticks: u64,
    pub(crate) rate_hz: u32,
    pub(crate) registered: u32,
    pub(crate) start_ns: u64,
}

/// The buffer.
pub(crate) struct Ring {
    pages: SharedPages,
    capacity: u64,
    /// The word that the last whole slot begins at; what is behind it is not used.
    last_slot: usize,
}

/// Where the writer is. There is one, kept under the sampler's mutex.
pub(crate) struct Cursor {
    /// Records written so far.
    head: u64,
    /// The word that the next record begins at.
    word: usize,
}

impl Cursor {
    pub(crate) fn new() -> Self {
        Cursor {
            head: 0,
            word: HEADER_WORDS,
        }
    }
}

impl Ring {
    /// Allocates a buffer with `pages` pages of records.
    pub(crate) fn new(pages: u32) -> Result<Self> {
        // CAST: u32 fits usize on 64-bit.
        let records = (pages as usize).checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        let bytes = records
            .checked_add(uapi::PROFILER_HEADER_SIZE as usize)
            .ok_or(EINVAL)?;
        let pages = SharedPages::new(bytes / PAGE_SIZE, GFP_KERNEL | __GFP_NOWARN)?;
        let slots = records / size_of::<ProfilerSample>();
        let last_slot = slots
            .checked_sub(1)
            .and_then(|last| last.checked_mul(RECORD_WORDS))
            .and_then(|words| words.checked_add(HEADER_WORDS))
            .ok_or(EINVAL)?;
        // CAST: usize fits u64.
        let capacity = slots as u64;
        let ring = Ring {
            pages,
            capacity,
            last_slot,
        };
        let set = |word, value| ring.pages.store(word, value);
        set(
            header_word!(magic),
            pair(uapi::PROFILER_MAGIC, uapi::PROFILER_LAYOUT),
        );
        set(
            header_word!(header_size),
            // CAST: 96, a constant.
            pair(
                uapi::PROFILER_HEADER_SIZE,
                size_of::<ProfilerSample>() as u32,
            ),
        );
        set(header_word!(capacity), capacity);
        Ok(ring)
    }

    /// How many records it holds.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Its size in bytes, header included.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// How many records have been published so far.
    pub(crate) fn head(&self) -> u64 {
        self.pages.load(header_word!(head)).unwrap_or(0)
    }

    /// Serves an mmap().
    pub(crate) fn map(&self, mapping: &Mapping<'_>) -> Result {
        self.pages.map(mapping)
    }

    /// Writes a record in the next slot. [`Self::publish`] makes it known.
    pub(crate) fn write(&self, cursor: &mut Cursor, body: &[u64; BODY_WORDS]) {
        let seq = cursor.head.wrapping_add(1);
        self.pages.write_record(cursor.word, seq, body);
        cursor.head = seq;
        cursor.word = if cursor.word < self.last_slot {
            cursor.word.wrapping_add(RECORD_WORDS)
        } else {
            HEADER_WORDS
        };
    }

    /// Makes all records known that have been written.
    pub(crate) fn publish(&self, cursor: &Cursor) {
        self.pages.publish(header_word!(head), cursor.head);
    }

    /// Writes the numbers of the header.
    pub(crate) fn set_status(&self, status: &Status) {
        let set = |word, value| self.pages.store(word, value);
        set(header_word!(generation), status.generation);
        set(header_word!(dropped), status.dropped);
        set(header_word!(ticks), status.ticks);
        set(header_word!(missed_ticks), status.missed_ticks);
        set(
            header_word!(rate_hz),
            pair(status.rate_hz, status.registered),
        );
        set(header_word!(start_ns), status.start_ns);
    }
}
