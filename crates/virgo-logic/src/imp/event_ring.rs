// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A bounded ring of small records, from many writers to one reader, without locks.
//!
//! A writer takes a place by one compare-and-exchange and never waits: not for the reader, not for
//! another writer that it has interrupted. Where there is no room the record is dropped and
//! counted, and the count is told with the next record that finds room: so a reader learns not
//! only how many are missing but between which two.
//!
//! After D. Vyukov's bounded queue. Each place has a turn: `position` while it waits for the
//! writer of that position, `position + 1` once that is done. A record's words are atomic for the
//! sake of the language's memory model, not of the machine: they are written between taking the
//! place and the turn's release, and read after its acquire.

use core::sync::atomic::{AtomicU64, Ordering};

/// Words of a record.
pub const WORDS: usize = 13;

/// A record. Its first word is the writer's stamp: the first of those that are dropped is told.
pub type Record = [u64; WORDS];

/// At most eight bytes as a little-endian number: what is behind them is 0. Of short ones the first
/// and the last half overlap, which is cheaper than a byte at a time.
#[inline]
fn number(bytes: &[u8]) -> u64 {
    if let Some(all) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*all);
    }
    // CAST: below 8.
    let length = bytes.len() as u32;
    if let (Some(low), Some(high)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let shift = length.wrapping_sub(4).wrapping_mul(8);
        let high = u64::from(u32::from_le_bytes(*high));
        return u64::from(u32::from_le_bytes(*low)) | high.wrapping_shl(shift);
    }
    if let (Some(low), Some(high)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        let shift = length.wrapping_sub(2).wrapping_mul(8);
        let high = u64::from(u16::from_le_bytes(*high));
        return u64::from(u16::from_le_bytes(*low)) | high.wrapping_shl(shift);
    }
    bytes.first().copied().map_or(0, u64::from)
}

/// Puts bytes into words that are 0 from byte `at` on, little-endian; what does not fit is left out.
/// Where the next byte would be.
///
/// ```
/// use virgo_logic::event_ring::pack;
/// let mut words = [0; 2];
/// let at = pack(&mut words, 0, b"put");
/// assert_eq!(pack(&mut words, at, b"1234567"), 10);
/// assert_eq!(words, [u64::from_le_bytes(*b"put12345"), u64::from_le_bytes(*b"67\0\0\0\0\0\0")]);
/// ```
#[inline]
pub fn pack(words: &mut [u64], mut at: usize, bytes: &[u8]) -> usize {
    for chunk in bytes.chunks(8) {
        let value = number(chunk);
        // CAST: below 64.
        let shift = ((at % 8) as u32).wrapping_mul(8);
        let index = at / 8;
        if let Some(word) = words.get_mut(index) {
            *word |= value.wrapping_shl(shift);
        }
        if shift != 0 {
            if let Some(word) = words.get_mut(index.wrapping_add(1)) {
                *word |= value.wrapping_shr(64_u32.wrapping_sub(shift));
            }
        }
        at = at.saturating_add(chunk.len());
    }
    at
}

/// A place of the ring; 128 bytes.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Slot {
    turn: AtomicU64,
    lost: AtomicU64,
    first: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Slot {
    /// The place at `index` of a new ring.
    pub fn new(index: u64) -> Slot {
        Slot {
            turn: AtomicU64::new(index),
            lost: AtomicU64::new(0),
            first: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }
}

/// What the writers and the reader share, beside the places.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Ring {
    /// The next position to be written.
    tail: AtomicU64,
    /// Dropped, and not told yet.
    untold: AtomicU64,
    /// The first word of the first of these.
    first: AtomicU64,
    /// Dropped in all.
    dropped: AtomicU64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the ring, at this position.
    At(u64),
    /// There was no room; it is counted.
    Dropped,
}

/// What the reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Popped {
    /// The record.
    pub record: Record,
    /// How many were dropped since the one before.
    pub lost: u64,
    /// The first word of the first of them. A hint: where two processors drop and write at once,
    /// it can be that of an earlier one.
    pub first: u64,
}

impl Ring {
    /// An empty ring.
    pub const fn new() -> Ring {
        Ring {
            tail: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            first: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Puts a record into `slots`, which were made for this ring and are a power of two in number.
    ///
    /// Of `words` words the first `used` are kept; the others are not touched. Any context.
    #[inline]
    pub fn push(&self, slots: &[Slot], record: &Record, used: usize) -> Pushed {
        // CAST: usize fits u64.
        let mask = (slots.len() as u64).wrapping_sub(1);
        let mut position = self.tail.load(Ordering::Relaxed);
        loop {
            // CAST: below the number of places.
            let Some(slot) = slots.get((position & mask) as usize) else {
                return self.drop_one(record);
            };
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == position {
                match self.tail.compare_exchange_weak(
                    position,
                    position.wrapping_add(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        for (place, word) in slot.words.iter().zip(record).take(used) {
                            place.store(*word, Ordering::Relaxed);
                        }
                        let (lost, first) = self.trailing();
                        slot.lost.store(lost, Ordering::Relaxed);
                        if lost > 0 {
                            slot.first.store(first, Ordering::Relaxed);
                        }
                        slot.turn.store(position.wrapping_add(1), Ordering::Release);
                        return Pushed::At(position);
                    }
                    Err(now) => position = now,
                }
            } else if turn.wrapping_sub(position) > u64::MAX / 2 {
                // The reader has not come by here since the last round.
                return self.drop_one(record);
            } else {
                position = self.tail.load(Ordering::Relaxed);
            }
        }
    }

    #[cold]
    fn drop_one(&self, record: &Record) -> Pushed {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if self.untold.fetch_add(1, Ordering::Relaxed) == 0 {
            let [stamp, ..] = *record;
            self.first.store(stamp, Ordering::Relaxed);
        }
        Pushed::Dropped
    }

    /// Takes the record at `head`, the reader's own position, if it is complete. One reader only.
    pub fn pop(&self, slots: &[Slot], head: &mut u64) -> Option<Popped> {
        // CAST: usize fits u64.
        let length = slots.len() as u64;
        // CAST: below the number of places.
        let slot = slots.get((*head & length.wrapping_sub(1)) as usize)?;
        if slot.turn.load(Ordering::Acquire) != head.wrapping_add(1) {
            return None;
        }
        let mut record = [0; WORDS];
        for (word, place) in record.iter_mut().zip(&slot.words) {
            *word = place.load(Ordering::Relaxed);
        }
        let lost = slot.lost.load(Ordering::Relaxed);
        let first = slot.first.load(Ordering::Relaxed);
        slot.turn
            .store(head.wrapping_add(length), Ordering::Release);
        *head = head.wrapping_add(1);
        Some(Popped {
            record,
            lost,
            first,
        })
    }

    /// How many were dropped behind the last record, and the first word of the first of them. They
    /// are told by this, and not again.
    #[inline]
    pub fn trailing(&self) -> (u64, u64) {
        if self.untold.load(Ordering::Relaxed) == 0 {
            return (0, 0);
        }
        let first = self.first.load(Ordering::Relaxed);
        (self.untold.swap(0, Ordering::Relaxed), first)
    }

    /// How many were dropped in all.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many positions have been given out.
    pub fn written(&self) -> u64 {
        self.tail.load(Ordering::Relaxed)
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}
