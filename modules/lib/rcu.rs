// SPDX-License-Identifier: GPL-2.0-only

//! What is read without a lock, from any context: records that are replaced as a whole, and a
//! table of names that only grows.

use core::{
    ptr,
    slice,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    }, //
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
    words: [u64; 4],
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
    // The language's atomics, as each load of the kernel's is a call of a helper in C: two of them, and
    // what must be kept over them, would be a quarter of a search. Entries are reached by pointers that
    // are stored with release and loaded with acquire alone, in which both models agree.
    buckets: KVVec<AtomicPtr<Entry<T>>>,
    order: KVVec<AtomicPtr<Entry<T>>>,
    count: Atomic<usize>,
}

// SAFETY: The entries belong to the table.
unsafe impl<T: Send> Send for Directory<T> {}
// SAFETY: Entries are shared by reference; what changes are atomics. An insert moves a `T` in.
unsafe impl<T: Send + Sync> Sync for Directory<T> {}

/// A name as four numbers. Of two names of one length, at most [`WHOLE`], these are the same only if
/// the names are.
#[inline(always)]
fn words_of(key: &[u8]) -> [u64; 4] {
    if let (Some(front), Some(back)) = (key.first_chunk::<16>(), key.last_chunk::<16>()) {
        let [first, second] = halves_of(front);
        let [third, last] = halves_of(back);
        if key.len() <= WHOLE {
            return [first, second, third, last];
        }
        return [first, folded(key, second), third, last];
    }
    if let (Some(front), Some(back)) = (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        return [u64::from_le_bytes(*front), u64::from_le_bytes(*back), 0, 0];
    }
    [short(key), 0, 0, 0]
}

/// The longest name that is all in its [`words_of`].
const WHOLE: usize = 32;

#[inline(always)]
fn halves_of(bytes: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    // CAST: the halves are wanted.
    [both as u64, (both >> 64) as u64]
}

/// Fewer than eight bytes as a number. A call, so that longer names need fewer registers.
#[inline(never)]
fn short(key: &[u8]) -> u64 {
    key.iter()
        .fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

/// All of a long name, mixed with a number.
#[inline(never)]
fn folded(key: &[u8], start: u64) -> u64 {
    key.chunks(8).fold(start, |state, part| {
        let word = part
            .first_chunk()
            .map_or_else(|| short(part), |word| u64::from_le_bytes(*word));
        (state ^ word).wrapping_mul(FACTOR).rotate_left(32)
    })
}

/// Whether they are the same words; without the call of memcmp() that `==` is.
#[inline(always)]
fn same(one: &[u64; 4], other: &[u64; 4]) -> bool {
    let [a, b, c, d] = one;
    let [e, f, g, h] = other;
    (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
}

/// Odd, and about 2^64 over the golden ratio: D. E. Knuth's multiplicative hashing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes a name's words into a number. Names come from who may set settings, so a hash that nobody can
/// force to collide is not needed; the seed is there so that nobody relies on the order.
#[inline(always)]
fn hash(seed: u64, words: [u64; 4]) -> u64 {
    let [first, second, third, last] = words;
    let front = (first ^ seed).wrapping_add(second.rotate_left(29));
    let back = third.wrapping_add(last.rotate_left(17));
    let mixed = front.wrapping_mul(FACTOR) ^ back.wrapping_mul(FACTOR.rotate_left(21));
    // What differs in the top bits alone is to differ in the lowest, which choose the place.
    (mixed ^ (mixed >> 32)).wrapping_mul(FACTOR) >> 32
}

impl<T> Directory<T> {
    /// An empty table for at most so many. `ENOMEM`. May sleep.
    pub fn new(capacity: u32) -> Result<Self> {
        // CAST: u32 fits usize on 64-bit.
        let capacity = capacity as usize;
        let size = capacity.max(8).next_power_of_two();
        let table = |size| -> Result<KVVec<AtomicPtr<Entry<T>>>> {
            let mut table = KVVec::with_capacity(size, GFP_KERNEL)?;
            for _ in 0..size {
                table.push(AtomicPtr::new(ptr::null_mut()), GFP_KERNEL)?;
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

    #[inline(always)]
    fn bucket(&self, hash: u64) -> Option<&AtomicPtr<Entry<T>>> {
        // CAST: usize fits u64, and back for what is masked. The size is a power of two.
        let mask = (self.buckets.len() as u64).wrapping_sub(1);
        self.buckets.get((hash & mask) as usize)
    }

    /// Finds an entry: its number and value. Any context.
    #[inline(always)]
    pub fn find(&self, key: &[u8]) -> Option<(u32, &T)> {
        let words = words_of(key);
        // Acquire: pairs with the store that linked the entry.
        let mut next = self.bucket(hash(self.seed, words))?.load(Ordering::Acquire);
        // SAFETY: By the invariant it is null or an entry that lives as long as the table.
        while let Some(entry) = unsafe { next.as_ref() } {
            if same(&entry.words, &words)
                && entry.key.len() == key.len()
                && (key.len() <= WHOLE || *entry.key == *key)
            {
                return Some((entry.index, &entry.value));
            }
            next = entry.next;
        }
        None
    }

    /// The entry with this number: its name and value. Any context.
    pub fn at(&self, index: u32) -> Option<(&[u8], &T)> {
        // CAST: u32 fits usize on 64-bit. Acquire: as in `find`.
        let entry = self.order.get(index as usize)?.load(Ordering::Acquire);
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
        let words = words_of(key);
        let bucket = self.bucket(hash(self.seed, words)).ok_or(ENOSPC)?;
        let mut name = KVec::with_capacity(key.len(), GFP_KERNEL)?;
        name.extend_from_slice(key, GFP_KERNEL)?;
        // It was a u32 that the table was made for.
        let number = u32::try_from(index).map_err(|_| ENOSPC)?;
        let entry = Entry {
            words,
            next: bucket.load(Ordering::Relaxed),
            index: number,
            key: name,
            value,
        };
        let entry = KBox::into_raw(KBox::new(entry, GFP_KERNEL)?);
        // INVARIANT: A box that is freed with the table. Release: its content is seen by who finds
        // it.
        bucket.store(entry, Ordering::Release);
        place.store(entry, Ordering::Release);
        self.count.store(index.saturating_add(1), Relaxed);
        Ok(number)
    }
}

impl<T> Drop for Directory<T> {
    fn drop(&mut self) {
        for place in self.order.iter() {
            let entry = place.load(Ordering::Relaxed);
            if !entry.is_null() {
                // SAFETY: By the invariant it is a box, which is in this list once; nobody uses
                // the table any more.
                drop(unsafe { KBox::from_raw(entry) });
            }
        }
    }
}
