// SPDX-License-Identifier: GPL-2.0-only

//! What is read without a lock, from any context: records that are replaced as a whole, and a
//! table of names that only grows.

use core::{
    ptr,
    slice, //
};

use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        rcu, //
    }, //
};

use super::random::random_u64;

/// Words of a record that is not there for others yet.
pub struct Record(KVec<u64>);

impl Record {
    /// The words, and bytes behind them. `ENOMEM`; `EINVAL` for more than a GiB. May sleep.
    pub fn new(words: &[u64], bytes: &[u8]) -> Result<Self> {
        let count = bytes
            .len()
            .div_ceil(size_of::<u64>())
            .checked_add(words.len())
            .and_then(|count| count.checked_add(1))
            .filter(|count| *count < 1 << 27)
            .ok_or(EINVAL)?;
        let mut all = KVec::with_capacity(count, GFP_KERNEL)?;
        // CAST: below 2^27.
        all.push(count as u64, GFP_KERNEL)?;
        all.extend_from_slice(words, GFP_KERNEL)?;
        for chunk in bytes.chunks(size_of::<u64>()) {
            let mut word = [0; 8];
            if let Some(place) = word.get_mut(..chunk.len()) {
                place.copy_from_slice(chunk);
            }
            all.push(u64::from_ne_bytes(word), GFP_KERNEL)?;
        }
        Ok(Record(all))
    }

    fn publish(self) -> *mut u64 {
        self.0.into_raw_parts().0
    }
}

/// The bytes of words.
pub fn bytes_of_words(words: &[u64]) -> &[u8] {
    // SAFETY: A slice of words is one of bytes, all of them initialised, for the same time.
    unsafe { slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// A record that readers see whole, as it was or as it is, whatever a writer does meanwhile.
///
/// # Invariants
///
/// The pointer is the first word of a published [`Record`], which is freed a grace period after it
/// was replaced.
pub struct RcuRecord(Atomic<*mut u64>);

impl RcuRecord {
    /// With a first record.
    pub fn new(record: Record) -> Self {
        // INVARIANT: Just published.
        RcuRecord(Atomic::new(record.publish()))
    }

    /// Shows the record's words, without its length. Any context; `look` must not sleep.
    pub fn read<R>(&self, look: impl FnOnce(&[u64]) -> R) -> R {
        let _guard = rcu::read_lock();
        // Acquire: the record's words are seen as they were when it was published.
        let first = self.0.load(Acquire);
        // SAFETY: By the invariant it is a record's first word, which is the count of its words,
        // and it is not freed while the guard lives.
        let words = unsafe { slice::from_raw_parts(first, first.read() as usize) };
        look(words.get(1..).unwrap_or(&[]))
    }

    /// Puts another in its place. One at a time: the caller has a lock. Sleeps, at times for a
    /// grace period.
    pub fn replace(&self, record: Record) {
        // INVARIANT: Just published. Release: pairs with `read`.
        let old = self.0.load(Relaxed);
        self.0.store(record.publish(), Release);
        // SAFETY: The old record was allocated by kmalloc or vmalloc; no new reader finds it, and
        // those that have are waited for before it is freed. With no head the function may sleep.
        unsafe { bindings::kvfree_call_rcu(ptr::null_mut(), old.cast()) };
    }
}

impl Drop for RcuRecord {
    fn drop(&mut self) {
        // SAFETY: By the invariant it was allocated and is not freed; nobody reads it, since the
        // value is borrowed to read.
        unsafe { bindings::kvfree(self.0.load(Relaxed).cast()) };
    }
}

// SAFETY: The record is freed by whoever drops the value.
unsafe impl Send for RcuRecord {}

struct Entry<T> {
    hash: u64,
    next: *mut Entry<T>,
    index: u32,
    key: KVec<u8>,
    value: T,
}

/// A table from names to values. What is put in stays until the table goes, so it is found without
/// a lock, in any context.
///
/// # Invariants
///
/// Every pointer in the table, and in the chains that begin there, is null or a boxed entry which
/// is freed with the table.
pub struct Directory<T> {
    seed: u64,
    buckets: KVVec<Atomic<*mut Entry<T>>>,
    order: KVVec<Atomic<*mut Entry<T>>>,
    count: Atomic<usize>,
}

// SAFETY: The entries belong to the table.
unsafe impl<T: Send> Send for Directory<T> {}
// SAFETY: Entries are shared by reference; what changes are atomics. An insert moves a `T` in.
unsafe impl<T: Send + Sync> Sync for Directory<T> {}

/// Eight bytes as a number.
#[inline]
fn word_of(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The last bytes of a name that are not in its whole words, with some before them, as a number.
/// Names of one length have the same only if these bytes are the same.
#[inline]
fn last_of(key: &[u8]) -> u64 {
    if let Some(bytes) = key.last_chunk::<8>() {
        return u64::from_ne_bytes(*bytes);
    }
    let half = |bytes: Option<&[u8; 4]>| bytes.map(|bytes| u32::from_ne_bytes(*bytes).into());
    let halves: (Option<u64>, Option<u64>) = (half(key.first_chunk()), half(key.last_chunk()));
    if let (Some(low), Some(high)) = halves {
        return low | high << 32;
    }
    key.iter()
        .fold(0, |last, byte| (last << 8) | u64::from(*byte))
}

/// Mixes a name into a number. Names come from who may set settings, so a hash that nobody can
/// force to collide is not needed; the seed is there so that nobody relies on the order.
fn hash(seed: u64, key: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    // CAST: usize fits u64.
    let mut state = seed ^ key.len() as u64;
    for word in key.chunks_exact(8) {
        state = (state ^ word_of(word)).wrapping_mul(FACTOR);
        state ^= state >> 32;
    }
    state = (state ^ last_of(key)).wrapping_mul(FACTOR);
    state ^ (state >> 29)
}

/// Whether two names are the same: a word at a time, which the kernel's memcmp() is dearer than
/// for short ones.
fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let words = one.chunks_exact(8).zip(other.chunks_exact(8));
    let mut equal = words.map(|(a, b)| word_of(a) == word_of(b));
    last_of(one) == last_of(other) && equal.all(|equal| equal)
}

impl<T> Directory<T> {
    /// An empty table for at most so many. `ENOMEM`. May sleep.
    pub fn new(capacity: u32) -> Result<Self> {
        // CAST: u32 fits usize on 64-bit.
        let capacity = capacity as usize;
        let size = capacity.max(8).next_power_of_two();
        let table = |size| -> Result<KVVec<Atomic<*mut Entry<T>>>> {
            let mut table = KVVec::with_capacity(size, GFP_KERNEL)?;
            for _ in 0..size {
                table.push(Atomic::new(ptr::null_mut()), GFP_KERNEL)?;
            }
            Ok(table)
        };
        Ok(Directory {
            seed: random_u64(),
            buckets: table(size)?,
            order: table(capacity)?,
            count: Atomic::new(0),
        })
    }

    fn bucket(&self, hash: u64) -> Option<&Atomic<*mut Entry<T>>> {
        // CAST: usize fits u64, and back for what is masked. The size is a power of two.
        let mask = (self.buckets.len() as u64).wrapping_sub(1);
        self.buckets.get((hash & mask) as usize)
    }

    /// Finds an entry: its number and value. Any context.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<(u32, &T)> {
        let hash = hash(self.seed, key);
        // Acquire: pairs with the store that linked the entry.
        let mut next = self.bucket(hash)?.load(Acquire);
        // SAFETY: By the invariant it is null or an entry that lives as long as the table.
        while let Some(entry) = unsafe { next.as_ref() } {
            if entry.hash == hash && same(&entry.key, key) {
                return Some((entry.index, &entry.value));
            }
            next = entry.next;
        }
        None
    }

    /// The entry with this number: its name and value. Any context.
    pub fn at(&self, index: u32) -> Option<(&[u8], &T)> {
        // CAST: u32 fits usize on 64-bit. Acquire: as in `find`.
        let entry = self.order.get(index as usize)?.load(Acquire);
        // SAFETY: As in `find`.
        let entry = unsafe { entry.as_ref() }?;
        Some((&entry.key, &entry.value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        // Relaxed: a number; entries are found by what links them.
        self.count.load(Relaxed)
    }

    /// Puts a name in that is not there; its number. One at a time: the caller has a lock.
    /// `ENOSPC`: the table is full. `ENOMEM`. May sleep.
    pub fn insert(&self, key: &[u8], value: T) -> Result<u32> {
        let index = self.len();
        let place = self.order.get(index).ok_or(ENOSPC)?;
        let hash = hash(self.seed, key);
        let bucket = self.bucket(hash).ok_or(ENOSPC)?;
        let mut name = KVec::with_capacity(key.len(), GFP_KERNEL)?;
        name.extend_from_slice(key, GFP_KERNEL)?;
        // It was a u32 that the table was made for.
        let number = u32::try_from(index).map_err(|_| ENOSPC)?;
        let entry = Entry {
            hash,
            next: bucket.load(Relaxed),
            index: number,
            key: name,
            value,
        };
        let entry = KBox::into_raw(KBox::new(entry, GFP_KERNEL)?);
        // INVARIANT: A box that is freed with the table. Release: its content is seen by who finds
        // it.
        bucket.store(entry, Release);
        place.store(entry, Release);
        self.count.store(index.saturating_add(1), Relaxed);
        Ok(number)
    }
}

impl<T> Drop for Directory<T> {
    fn drop(&mut self) {
        for place in self.order.iter() {
            let entry = place.load(Relaxed);
            if !entry.is_null() {
                // SAFETY: By the invariant it is a box, which is in this list once; nobody uses
                // the table any more.
                drop(unsafe { KBox::from_raw(entry) });
            }
        }
    }
}
