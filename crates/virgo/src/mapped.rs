// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Reading named values without a system call: a shared namespace's table, mapped.
//!
//! # Memory ordering
//!
//! The kernel alone writes. It makes a slot's `seq` odd, writes the slot, then makes `seq` even and
//! greater (release). A reader loads `seq`, copies what it wants, loads `seq` again, and has a whole
//! value only if both loads gave the same even number:
//!
//! - the acquire fence after the first load pairs with the kernel's release, so the copy is not
//!   older than that content;
//! - the acquire fence before the second load keeps the copy before it, so if the copy saw a word
//!   of a later content, then the second load sees another number.
//!
//! All loads are relaxed with separate fences, never `Ordering::Acquire`: the pages are mapped
//! read-only, where Rust promises relaxed loads alone.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::time::Duration;

use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::mempool::{Mempool, Taken, Value};
use crate::ring::LayoutError;
use crate::sys;
use crate::Result;

/// The table's header, by word.
mod word {
    pub(super) const MAGIC_LAYOUT: usize = 0;
    pub(super) const SIZES: usize = 1;
    pub(super) const SLOTS: usize = 2;
    pub(super) const SEED: usize = 3;
    pub(super) const CHANGES: usize = 4;
    pub(super) const ITEMS: usize = 5;
    pub(super) const HIDDEN: usize = 6;
    pub(super) const CLOCK_CLOSED: usize = 7;
    pub(super) const PREFIX_LEN: usize = 8;
    pub(super) const PREFIX: usize = 9;
    pub(super) const COUNT: usize = 41;
}

/// A slot's head, by word.
mod slot {
    pub(super) const SEQ: usize = 0;
    pub(super) const HASH: usize = 1;
    pub(super) const CAS: usize = 2;
    pub(super) const FLAGS_EXPIRE: usize = 3;
    pub(super) const LENGTHS: usize = 4;
    pub(super) const COUNT: usize = 5;
}

/// How often a slot that is being written is looked at again. A write takes well under a
/// microsecond, unless its CPU was taken away from under it.
const TRIES: u32 = 200;

/// A value that was found in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hit {
    /// Bytes of the value, now in front in the room that was given.
    pub length: usize,
    /// The user's own flags.
    pub flags: u32,
    /// Its number.
    pub cas: u64,
    /// Seconds that it stays; `None`: for ever.
    pub ttl: Option<u64>,
}

/// Why the table alone does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsure {
    /// It is not in the table, but the table had no place for some values.
    Hidden,
    /// It is longer than a slot, or than the room that was given: so many bytes.
    Long(usize),
    /// It was being written each time that it was looked at.
    Busy,
    /// The table is not kept up to date any more.
    Closed,
}

/// What a look into the table gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The value was copied.
    Hit(Hit),
    /// There is no such value.
    Miss,
    /// Ask the kernel.
    Unsure(Unsure),
}

/// What the header counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Grows with each change of a value in the namespace.
    pub changes: u64,
    /// Values in the table.
    pub items: u64,
    /// Values of the namespace that had no place in the table.
    pub hidden: u64,
    /// Slots of the table.
    pub slots: u64,
    /// Bytes of a slot.
    pub slot_size: u32,
    /// The table is not kept up to date any more.
    pub closed: bool,
}

/// One value, in a walk over the table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shown {
    /// Its key.
    pub key: Vec<u8>,
    /// Bytes of the value.
    pub length: usize,
    /// The user's own flags.
    pub flags: u32,
    /// Its number.
    pub cas: u64,
}

/// The table in any memory. [`MappedCache`] is this with the kernel's memory and its descriptor.
#[derive(Debug)]
pub struct Table<M> {
    memory: M,
    seed: u64,
    mask: u64,
    header_words: usize,
    slot_words: usize,
}

impl<M: AsRef<[AtomicU64]>> Table<M> {
    /// Checks the header in `memory`.
    pub fn new(memory: M) -> std::result::Result<Self, LayoutError> {
        let words = memory.as_ref();
        if words.len() < word::COUNT {
            return Err(LayoutError::Table("is shorter than its header"));
        }
        let (magic, layout) = split(load(words, word::MAGIC_LAYOUT));
        if magic != uapi::MEM_TABLE_MAGIC {
            return Err(LayoutError::Table("does not begin with VMEM"));
        }
        if layout != uapi::MEM_TABLE_LAYOUT {
            return Err(LayoutError::Table(
                "has a layout that this program does not know",
            ));
        }
        let (header_size, slot_size) = split(load(words, word::SIZES));
        let slots = load(words, word::SLOTS);
        let sizes_hold = header_size % 8 == 0
            && header_size as usize >= word::COUNT * 8
            && slot_size.is_power_of_two()
            && (uapi::MEM_SLOT_MIN..=uapi::MEM_SLOT_MAX).contains(&slot_size)
            && slots.is_power_of_two()
            && slots <= uapi::MEM_SLOTS_MAX.into();
        if !sizes_hold {
            return Err(LayoutError::Table("has impossible sizes"));
        }
        let header_words = header_size as usize / 8;
        let slot_words = slot_size as usize / 8;
        let fits = usize::try_from(slots)
            .ok()
            .and_then(|slots| slots.checked_mul(slot_words))
            .and_then(|all| all.checked_add(header_words))
            .is_some_and(|needed| needed <= words.len());
        if !fits {
            return Err(LayoutError::Table("is shorter than its header says"));
        }
        let seed = load(words, word::SEED);
        Ok(Table {
            memory,
            seed,
            mask: slots - 1,
            header_words,
            slot_words,
        })
    }

    /// Looks a value up and copies it into `room`. No system call, no allocation, no waiting: the
    /// writers are never held up, and hold up a reader for some two hundred looks at most.
    #[inline]
    pub fn look(&self, key: &[u8], room: &mut [u8]) -> Look {
        let words = self.memory.as_ref();
        let last = rest(key);
        let hash = hash(self.seed, key, last);
        for step in 0..u64::from(uapi::MEM_WINDOW) {
            let slot = self.slot(hash.wrapping_add(step));
            let Some((head, body)) = slot.split_first_chunk::<{ slot::COUNT }>() else {
                continue;
            };
            // What the slot holds: looked at until it stood still. See "Memory ordering" above for
            // the fences.
            for tried in 0.. {
                let seq = load(head, slot::SEQ);
                fence(Ordering::Acquire);
                if seq % 2 == 0 {
                    if load(head, slot::HASH) != hash {
                        // Nobody's, or another's.
                        fence(Ordering::Acquire);
                        if load(head, slot::SEQ) == seq {
                            break;
                        }
                    } else {
                        let seen = self.copy(head, body, key, last, room);
                        fence(Ordering::Acquire);
                        if load(head, slot::SEQ) == seq {
                            match seen {
                                None => break,
                                Some(Look::Hit(_)) if self.closed() => {
                                    return Look::Unsure(Unsure::Closed)
                                }
                                Some(look) => return look,
                            }
                        }
                    }
                }
                if tried == TRIES {
                    return Look::Unsure(Unsure::Busy);
                }
                std::hint::spin_loop();
            }
        }
        // What was in none of the slots may have been moved out before they were looked at.
        fence(Ordering::Acquire);
        if self.closed() {
            Look::Unsure(Unsure::Closed)
        } else if load(words, word::HIDDEN) != 0 {
            Look::Unsure(Unsure::Hidden)
        } else {
            Look::Miss
        }
    }

    /// The words of the slot with this number, modulo their count.
    #[inline]
    fn slot(&self, number: u64) -> &[AtomicU64] {
        // CAST: below the count of slots, which `new` has checked to fit in memory.
        let start = self.header_words + (number & self.mask) as usize * self.slot_words;
        self.memory
            .as_ref()
            .get(start..start + self.slot_words)
            .unwrap_or(&[])
    }

    /// What a slot with the hash of `key` holds, if its `seq` stays as it is; `None`: another key.
    /// `last`: the key's [`rest`].
    #[inline(always)]
    fn copy(
        &self,
        head: &[AtomicU64; slot::COUNT],
        body: &[AtomicU64],
        key: &[u8],
        last: u64,
        room: &mut [u8],
    ) -> Option<Look> {
        let (key_len, value_len) = split(load(head, slot::LENGTHS));
        let (own_key, value) = body.split_at_checked(key.len().div_ceil(8))?;
        if key_len as usize != key.len() || !same(own_key, key, last) {
            return None;
        }
        let (flags, expire) = split(load(head, slot::FLAGS_EXPIRE));
        let ttl = if expire == 0 {
            None
        } else {
            let (clock, _) = split(load(self.memory.as_ref(), word::CLOCK_CLOSED));
            if expire <= clock {
                return Some(Look::Miss);
            }
            Some((expire - clock).into())
        };
        let length = value_len as usize;
        let (Some(value), Some(room)) = (value.get(..length.div_ceil(8)), room.get_mut(..length))
        else {
            return Some(Look::Unsure(Unsure::Long(length)));
        };
        copy_out(value, room);
        Some(Look::Hit(Hit {
            length,
            flags,
            cas: load(head, slot::CAS),
            ttl,
        }))
    }

    #[inline]
    fn closed(&self) -> bool {
        split(load(self.memory.as_ref(), word::CLOCK_CLOSED)).1 != 0
    }

    /// What the header counts. The fields are loaded one by one, while the kernel may count on.
    pub fn counts(&self) -> Counts {
        let words = self.memory.as_ref();
        Counts {
            changes: load(words, word::CHANGES),
            items: load(words, word::ITEMS),
            hidden: load(words, word::HIDDEN),
            slots: self.mask + 1,
            // CAST: it was a u32.
            slot_size: (self.slot_words * 8) as u32,
            closed: self.closed(),
        }
    }

    /// The prefix that the namespace's keys have.
    pub fn prefix(&self) -> Vec<u8> {
        let words = self.memory.as_ref();
        let (length, _) = split(load(words, word::PREFIX_LEN));
        let mut prefix = vec![0; (length as usize).min((word::COUNT - word::PREFIX) * 8)];
        copy_out(
            words.get(word::PREFIX..word::COUNT).unwrap_or(&[]),
            &mut prefix,
        );
        prefix
    }

    /// All values in the table, in no order. Those that change meanwhile may be left out.
    pub fn shown(&self) -> impl Iterator<Item = Shown> + '_ {
        (0..=self.mask).filter_map(|number| {
            let words = self.slot(number);
            let (head, body) = words.split_at_checked(slot::COUNT)?;
            for _ in 0..TRIES {
                let seq = load(head, slot::SEQ);
                fence(Ordering::Acquire);
                if seq % 2 == 0 {
                    let shown = self.show(head, body);
                    fence(Ordering::Acquire);
                    if load(head, slot::SEQ) == seq {
                        return shown;
                    }
                }
                std::hint::spin_loop();
            }
            None
        })
    }

    fn show(&self, head: &[AtomicU64], body: &[AtomicU64]) -> Option<Shown> {
        if load(head, slot::HASH) == 0 {
            return None;
        }
        let (key_len, value_len) = split(load(head, slot::LENGTHS));
        let (flags, expire) = split(load(head, slot::FLAGS_EXPIRE));
        let (clock, _) = split(load(self.memory.as_ref(), word::CLOCK_CLOSED));
        if expire != 0 && expire <= clock {
            return None;
        }
        let mut key = vec![0; (key_len as usize).min(uapi::MEM_KEY_MAX as usize)];
        copy_out(body.get(..key.len().div_ceil(8))?, &mut key);
        Some(Shown {
            key,
            length: value_len as usize,
            flags,
            cas: load(head, slot::CAS),
        })
    }
}

/// Relaxed: see "Memory ordering" above for the fences. The callers have checked the length.
#[inline]
fn load(words: &[AtomicU64], index: usize) -> u64 {
    words[index].load(Ordering::Relaxed)
}

/// Two 32-bit fields that lie one behind the other.
#[inline]
fn split(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    )
}

/// Eight bytes as a little-endian number.
#[inline]
fn whole(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// What is behind the last whole eight bytes of a key: as a little-endian number, padded with zeros.
/// Short copies of unknown length would be calls.
#[inline]
fn rest(key: &[u8]) -> u64 {
    let count = key.len() % 8;
    match key.last_chunk::<8>() {
        _ if count == 0 => 0,
        Some(last) => u64::from_le_bytes(*last) >> (8 * (8 - count)),
        None => key
            .iter()
            .rev()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    }
}

/// The table's hash of a key, as include/uapi/linux/virgo.h says.
/// `last`: its [`rest`].
#[inline]
fn hash(seed: u64, key: &[u8], last: u64) -> u64 {
    let mix = |hash: u64, word: u64| {
        let hash = (hash ^ word).wrapping_mul(uapi::MEM_HASH_2);
        hash ^ (hash >> 32)
    };
    let mut hash = seed ^ (key.len() as u64).wrapping_mul(uapi::MEM_HASH_1);
    for chunk in key.chunks_exact(8) {
        hash = mix(hash, whole(chunk));
    }
    if key.len() % 8 != 0 {
        hash = mix(hash, last);
    }
    hash.max(1)
}

/// Whether the words are the key, padded with zeros. They are as many as the key needs.
#[inline]
fn same(words: &[AtomicU64], key: &[u8], last: u64) -> bool {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed).to_le();
    let mut pairs = key.chunks_exact(8).zip(words);
    pairs.all(|(chunk, word)| load(word) == whole(chunk))
        && (key.len() % 8 == 0
            || words
                .get(key.len() / 8)
                .is_some_and(|word| load(word) == last))
}

/// Copies bytes out of words, as many as `room` has.
#[inline]
fn copy_out(words: &[AtomicU64], room: &mut [u8]) {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    let (length, whole) = (room.len(), room.len() / 8);
    let Some((words, behind)) = words.split_at_checked(whole) else {
        return;
    };
    // Four at a time, in arrays so that no length is looked at again, then one by one.
    let mut to = room.chunks_exact_mut(32);
    let mut from = words.chunks_exact(4);
    for (to, from) in Iterator::zip(to.by_ref(), from.by_ref()) {
        if let (Ok(to), [a, b, c, d]) = (<&mut [u8; 32]>::try_from(to), from) {
            to[..8].copy_from_slice(&load(a).to_ne_bytes());
            to[8..16].copy_from_slice(&load(b).to_ne_bytes());
            to[16..24].copy_from_slice(&load(c).to_ne_bytes());
            to[24..].copy_from_slice(&load(d).to_ne_bytes());
        }
    }
    let to = to.into_remainder().chunks_exact_mut(8);
    for (to, word) in to.zip(from.remainder()) {
        to.copy_from_slice(&load(word).to_ne_bytes());
    }
    let count = length % 8;
    let (1.., Some(end)) = (count, behind.first()) else {
        return;
    };
    // The bytes behind the last whole word, as numbers: short copies of unknown length would be calls.
    let end = load(end).to_le();
    match (words.last(), room.last_chunk_mut::<8>()) {
        (Some(before), Some(room)) => {
            // CAST: below 64.
            let shift = 8 * count as u32;
            let whole = (load(before).to_le() >> shift) | (end << (64 - shift));
            *room = whole.to_le_bytes();
        }
        _ => {
            for (to, byte) in room.iter_mut().zip(end.to_le_bytes()) {
                *to = byte;
            }
        }
    }
}

/// A shared namespace, mapped: named values are read without a system call, and a change of one
/// wakes whoever waits.
///
/// ```no_run
/// use virgo::mempool::{MappedCache, Mempool, Put};
///
/// # fn main() -> Result<(), virgo::Error> {
/// // Once, as root: sudo virgo mem share session:
/// let cache = MappedCache::open(b"session:")?;
/// Mempool::open()?.put(b"session:7", b"Ada", Put::default())?;
/// let value = cache.get(b"session:7")?.expect("it was just stored");
/// assert_eq!(value.data, b"Ada");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MappedCache {
    table: Table<sys::Map>,
    pool: Mempool,
}

impl MappedCache {
    /// Maps a namespace that is shared already.
    pub fn open(prefix: &[u8]) -> Result<Self> {
        Self::bind(prefix, 0, 0, 0)
    }

    /// Maps a namespace, and shares it first if it is not: with so many slots of so many bytes (0:
    /// 4096 of 256). Needs CAP_SYS_ADMIN.
    pub fn create(prefix: &[u8], slots: u64, slot_size: u32) -> Result<Self> {
        Self::bind(prefix, uapi::MEM_SHARE_CREATE, slots, slot_size)
    }

    fn bind(prefix: &[u8], flags: u32, slots: u64, slot_size: u32) -> Result<Self> {
        let pool = Mempool::open()?;
        let shared = pool.share(prefix, flags, slots, slot_size)?;
        let map = pool.map(prefix, shared.map_bytes)?;
        let table = Table::new(map).map_err(Error::table)?;
        Ok(MappedCache { table, pool })
    }

    /// Looks a value up in the table alone: see [`Table::look`].
    #[inline]
    pub fn look(&self, key: &[u8], room: &mut [u8]) -> Look {
        self.table.look(key, room)
    }

    /// Fetches a value: from the table, or where the table alone does not know, from the kernel.
    /// `None` if there is none.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let mut data = vec![0; self.table.slot_words * 8];
        match self.table.look(key, &mut data) {
            Look::Hit(hit) => {
                data.truncate(hit.length);
                Ok(Some(Value {
                    data,
                    flags: hit.flags,
                    cas: hit.cas,
                    ttl: hit.ttl,
                    node: 0,
                }))
            }
            Look::Miss => Ok(None),
            Look::Unsure(_) => self.pool.take(key),
        }
    }

    /// The same into `room`; see [`Mempool::take_into`].
    pub fn get_into(&self, key: &[u8], room: &mut [u8]) -> Result<Option<Taken>> {
        match self.table.look(key, room) {
            Look::Hit(hit) => Ok(Some(Taken {
                length: hit.length,
                flags: hit.flags,
                cas: hit.cas,
                ttl: hit.ttl,
                node: 0,
            })),
            Look::Miss => Ok(None),
            Look::Unsure(_) => self.pool.take_into(key, room),
        }
    }

    /// See [`Table::counts`].
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// See [`Table::prefix`].
    pub fn prefix(&self) -> Vec<u8> {
        self.table.prefix()
    }

    /// See [`Table::shown`].
    pub fn shown(&self) -> impl Iterator<Item = Shown> + '_ {
        self.table.shown()
    }

    /// Waits until something in the namespace has changed since there were `changes` of them;
    /// `false` after `timeout`, or when a signal came.
    pub fn wait(&self, changes: u64, timeout: Duration) -> Result<bool> {
        self.pool.seen(changes)?;
        sys::wait_readable(&self.pool, timeout).map_err(|errno| Error::new(Action::Poll, errno))
    }

    /// The device, for all other calls.
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }
}

impl AsFd for MappedCache {
    /// To wait on with other descriptors; see [`MappedCache::wait`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pool.as_fd()
    }
}

#[cfg(test)]
mod tests;
