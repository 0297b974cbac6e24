// SPDX-License-Identifier: GPL-2.0-only

//! Shared namespaces: values whose key begins with a prefix, shown in a table that programs map
//! and read by themselves. The layout is in include/uapi/linux/virgo.h.
//!
//! A table has one lock for who writes it; readers take none. It is taken inside a shard's lock,
//! never the other way round.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVar,
        Arc, //
    }, //
};

use core::mem::offset_of;

use crate::{
    lib::{
        pages::{
            Mapping,
            SharedPages, //
        },
        random::random_u64,
        spinlock::BhSpinLock, //
    },
    logic::kv::{
        At,
        Item,
        Shard,
        SHARED, //
    },
    memory::{
        Big,
        Memory, //
    },
    new_bh_spinlock,
    proto::uapi::{
        self,
        MemSlot,
        MemTable, //
    },
};

const WORD: usize = size_of::<u64>();
const HEADER_WORDS: usize = uapi::MEM_TABLE_HEADER_SIZE as usize / WORD;
/// Words of a slot's head.
const HEAD_WORDS: usize = size_of::<MemSlot>() / WORD;
/// The most namespaces.
const SHARES_MAX: usize = 64;
const SLOT_DEFAULT: u32 = 256;
const SLOTS_DEFAULT: u64 = 4096;

static_assert!(size_of::<MemSlot>() == 5 * WORD);
static_assert!(size_of::<MemTable>() <= uapi::MEM_TABLE_HEADER_SIZE as usize);
static_assert!(uapi::MEM_TABLE_HEADER_SIZE as usize % PAGE_SIZE == 0);

/// Index of the word that a field of the header begins in.
macro_rules! header_word {
    ($field:ident) => {{
        const OFFSET: usize = offset_of!(MemTable, $field);
        static_assert!(OFFSET % WORD == 0);
        OFFSET / WORD
    }};
}

/// Two 32-bit fields, one after the other in memory, as the word they make.
fn pair(first: u32, second: u32) -> u64 {
    let (low, high) = if cfg!(target_endian = "little") {
        (first, second)
    } else {
        (second, first)
    };
    u64::from(low) | u64::from(high) << 32
}

/// Bytes as the words that they are in memory, the last one filled up with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(WORD).map(|chunk| {
        let mut word = [0; WORD];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        u64::from_ne_bytes(word)
    })
}

/// The hash of a key, as the header says.
fn hash(seed: u64, key: &[u8]) -> u64 {
    // CAST: usize fits u64.
    let mut h = seed ^ (key.len() as u64).wrapping_mul(uapi::MEM_HASH_1);
    for word in words(key) {
        // The words are of memory's order; the hash is of little-endian numbers.
        h = (h ^ word.to_le()).wrapping_mul(uapi::MEM_HASH_2);
        h ^= h >> 32;
    }
    h.max(1)
}

/// Where an entry may be: the words that its slots begin at.
struct Window {
    first: u64,
    next: u64,
}

/// Figures that a writer changes.
struct Counts {
    changes: u64,
    items: u64,
    hidden: u64,
}

/// One namespace.
#[pin_data]
pub(crate) struct Share {
    prefix: KVec<u8>,
    pages: SharedPages,
    slots: u64,
    slot_size: u32,
    seed: u64,
    closed: Atomic<bool>,
    #[pin]
    counts: BhSpinLock<Counts>,
    #[pin]
    changed: PollCondVar,
}

impl Share {
    fn new(prefix: &[u8], slots: u64, slot_size: u32) -> Result<Arc<Self>> {
        let bytes = Self::table_bytes(slots, slot_size)?;
        let pages = SharedPages::new(bytes.div_ceil(PAGE_SIZE), GFP_KERNEL | __GFP_NOWARN)?;
        let mut kept = KVec::new();
        kept.extend_from_slice(prefix, GFP_KERNEL)?;
        let seed = random_u64();
        let set = |word, value| pages.store(word, value);
        set(
            header_word!(magic),
            pair(uapi::MEM_TABLE_MAGIC, uapi::MEM_TABLE_LAYOUT),
        );
        set(
            header_word!(header_size),
            pair(uapi::MEM_TABLE_HEADER_SIZE, slot_size),
        );
        set(header_word!(slots), slots);
        set(header_word!(seed), seed);
        // CAST: at most 250.
        set(header_word!(prefix_len), pair(prefix.len() as u32, 0));
        for (at, word) in words(prefix).enumerate() {
            set(header_word!(prefix).saturating_add(at), word);
        }
        Arc::pin_init(
            pin_init!(Share {
                prefix: kept,
                pages,
                slots,
                slot_size,
                seed,
                closed: Atomic::new(false),
                counts <- new_bh_spinlock!(
                    Counts {
                        changes: 0,
                        items: 0,
                        hidden: 0,
                    },
                    c"virgo_mempool_share"
                ),
                changed <- PollCondVar::new(
                    c"virgo_mempool_changed",
                    kernel::static_lock_class!()
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// Bytes of a table, without the rest of the last page.
    fn table_bytes(slots: u64, slot_size: u32) -> Result<usize> {
        usize::try_from(slots)
            .ok()
            // CAST: u32 fits usize.
            .and_then(|slots| slots.checked_mul(slot_size as usize))
            .and_then(|bytes| bytes.checked_add(uapi::MEM_TABLE_HEADER_SIZE as usize))
            .ok_or(EINVAL)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    pub(crate) fn slots(&self) -> u64 {
        self.slots
    }

    pub(crate) fn slot_size(&self) -> u32 {
        self.slot_size
    }

    /// How many changes there were.
    pub(crate) fn changes(&self) -> u64 {
        self.pages.load(header_word!(changes)).unwrap_or(0)
    }

    /// Whether it is taken down.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// What pollers wait for.
    pub(crate) fn changed(&self) -> &PollCondVar {
        &self.changed
    }

    /// Serves an mmap().
    pub(crate) fn map(&self, mapping: &Mapping<'_>) -> Result {
        self.pages.map(mapping)
    }

    fn window(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let mask = self.slots.wrapping_sub(1);
        // CAST: u32 fits usize.
        let slot_words = self.slot_size as usize / WORD;
        let window = Window {
            first: hash,
            next: 0,
        };
        (0..u64::from(uapi::MEM_WINDOW)).map(move |step| {
            let slot = window.first.wrapping_add(window.next.wrapping_add(step)) & mask;
            // CAST: below the number of slots, which are in memory.
            HEADER_WORDS.wrapping_add((slot as usize).wrapping_mul(slot_words))
        })
    }

    /// Whether the slot at this word has this key.
    fn holds(&self, at: usize, hash: u64, key: &[u8]) -> bool {
        let word = |offset: usize| self.pages.load(at.wrapping_add(offset));
        // CAST: at most 250.
        let length = key.len() as u32;
        word(1) == Some(hash)
            && word(4).is_some_and(|lengths| {
                let kept = if cfg!(target_endian = "little") {
                    lengths as u32 // CAST: the low half.
                } else {
                    (lengths >> 32) as u32 // CAST: likewise.
                };
                kept == length
            })
            && words(key)
                .enumerate()
                .all(|(offset, part)| word(HEAD_WORDS.wrapping_add(offset)) == Some(part))
    }

    /// Writes `body` behind the sequence number at this word.
    fn write(&self, at: usize, body: impl Iterator<Item = u64>) {
        let seq = self.pages.load(at).unwrap_or(0) & !1;
        self.pages.store(at, seq.wrapping_add(1));
        let mut body = (at.wrapping_add(1)..).zip(body);
        // The first with a barrier before it, so that nothing of it is seen with the old number.
        if let Some((word, value)) = body.next() {
            self.pages.publish(word, value);
        }
        for (word, value) in body {
            self.pages.store(word, value);
        }
        self.pages.publish(at, seq.wrapping_add(2));
    }

    fn publish(&self, counts: &mut Counts) {
        counts.changes = counts.changes.wrapping_add(1);
        self.pages.store(header_word!(items), counts.items);
        self.pages.store(header_word!(hidden), counts.hidden);
        self.pages.publish(header_word!(changes), counts.changes);
        self.changed.notify_all();
    }

    /// Shows a value. `known`: it was shown, or hidden, before.
    fn show(&self, item: &Item<'_, Big>, known: bool) {
        let hash = hash(self.seed, item.key);
        let key_words = item.key.len().div_ceil(WORD);
        // CAST: u32 fits usize.
        let room = (self.slot_size as usize / WORD).saturating_sub(HEAD_WORDS);
        let mut counts = self.counts.lock();
        let old = self.window(hash).find(|at| self.holds(*at, hash, item.key));
        let place = old.or_else(|| {
            self.window(hash)
                .find(|at| self.pages.load(at.wrapping_add(1)) == Some(0))
        });
        match place.filter(|_| key_words <= room) {
            Some(at) => {
                let value_room = room.saturating_sub(key_words).saturating_mul(WORD);
                let value = if item.value.len() <= value_room {
                    item.value
                } else {
                    &[]
                };
                // CAST: both fit u32, since the item has them so.
                let lengths = pair(item.key.len() as u32, item.value.len() as u32);
                let head = [hash, item.cas, pair(item.flags, item.exp), lengths];
                let body = Iterator::chain(head.into_iter(), words(item.key));
                let body = Iterator::chain(body, words(value));
                self.write(at, body);
                if old.is_none() {
                    counts.items = counts.items.saturating_add(1);
                    if known {
                        counts.hidden = counts.hidden.saturating_sub(1);
                    }
                }
            }
            None if known => {}
            None => counts.hidden = counts.hidden.saturating_add(1),
        }
        self.publish(&mut counts);
    }

    /// A value that was shown, or hidden, is gone.
    fn gone(&self, key: &[u8]) {
        let hash = hash(self.seed, key);
        let mut counts = self.counts.lock();
        match self.window(hash).find(|at| self.holds(*at, hash, key)) {
            Some(at) => {
                self.write(at, [0_u64].into_iter());
                counts.items = counts.items.saturating_sub(1);
            }
            None => counts.hidden = counts.hidden.saturating_sub(1),
        }
        self.publish(&mut counts);
    }

    /// Says that so many values more are not in the table.
    fn hide(&self, count: u64) {
        let mut counts = self.counts.lock();
        counts.hidden = counts.hidden.saturating_add(count);
        self.publish(&mut counts);
    }

    /// Takes that back.
    fn unhide(&self, count: u64) {
        let mut counts = self.counts.lock();
        counts.hidden = counts.hidden.saturating_sub(count);
        self.publish(&mut counts);
    }

    /// All values are gone; one is said to be hidden, for who calls.
    fn clear(&self) {
        let mut counts = self.counts.lock();
        // CAST: u32 fits usize.
        let slot_words = self.slot_size as usize / WORD;
        let mut at = HEADER_WORDS;
        for _ in 0..self.slots {
            if self.pages.load(at.wrapping_add(1)).unwrap_or(0) != 0 {
                self.write(at, [0_u64].into_iter());
            }
            at = at.wrapping_add(slot_words);
        }
        counts.items = 0;
        counts.hidden = 1;
        self.publish(&mut counts);
    }

    fn close(&self, clock: u32) {
        self.closed.store(true, Relaxed);
        self.pages.publish(header_word!(clock_s), pair(clock, 1));
        self.changed.notify_all();
    }

    fn tick(&self, clock: u32) {
        if !self.is_closed() {
            self.pages.store(header_word!(clock_s), pair(clock, 0));
        }
    }
}

/// All namespaces.
#[pin_data]
pub(crate) struct Shares {
    limit: u64,
    count: Atomic<u32>,
    #[pin]
    list: BhSpinLock<KVec<Arc<Share>>>,
}

impl Shares {
    /// None yet; their tables may take `limit` bytes together.
    pub(crate) fn new(limit: u64) -> impl PinInit<Self> {
        pin_init!(Self {
            limit,
            count: Atomic::new(0),
            list <- new_bh_spinlock!(KVec::new(), c"virgo_mempool_shares"),
        })
    }

    /// Whether there is any.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.count.load(Relaxed) != 0
    }

    /// How many, and what their tables take.
    pub(crate) fn figures(&self) -> (u64, u64) {
        let list = self.list.lock();
        // CAST: usize fits u64.
        let bytes = list.iter().map(|share| share.bytes() as u64).sum();
        (list.len() as u64, bytes)
    }

    /// Does something with the namespace of a key, if there is one, with the list locked: what
    /// held the namespace beyond that could be the last to let it go, and that sleeps.
    fn with<T>(&self, key: &[u8], act: impl FnOnce(&Share) -> T) -> Option<T> {
        let list = self.list.lock();
        list.iter()
            .find(|share| key.starts_with(&share.prefix))
            .map(|share| act(share))
    }

    /// Whether a key belongs to a namespace.
    pub(crate) fn wants(&self, key: &[u8]) -> bool {
        self.with(key, |_| ()).is_some()
    }

    /// Shows a value, if its key belongs to a namespace, and has the shard say when it goes.
    pub(crate) fn show(&self, shard: &mut Shard<Memory>, at: At) {
        self.show_as(shard, at, false);
    }

    /// Likewise; `new`: whatever its mark says, the namespace does not know it yet.
    fn show_as(&self, shard: &mut Shard<Memory>, at: At, new: bool) {
        let shown = shard.item(at).and_then(|item| {
            let known = item.marks & SHARED != 0 && !new;
            self.with(item.key, |share| share.show(&item, known))
        });
        if shown.is_some() {
            shard.set_marks(at, SHARED, 0);
        }
    }

    /// Shows all values of a shard that belong to a namespace.
    pub(crate) fn show_shard(&self, shard: &mut Shard<Memory>) {
        let mut cursor = 0;
        loop {
            let mut found = KVec::new();
            cursor = shard.scan_places(cursor, |at, item| {
                if self.wants(item.key) && found.push(at, GFP_ATOMIC).is_err() {
                    // It is not in the table, which says so then.
                    self.with(item.key, |share| share.hide(1));
                }
            });
            for at in &found {
                self.show_as(shard, *at, true);
            }
            if cursor == 0 {
                return;
            }
        }
    }

    /// A value marked as shared is gone.
    pub(crate) fn gone(&self, key: &[u8]) {
        self.with(key, |share| share.gone(key));
    }

    /// Empties the tables, while `clear` forgets the values and `show` shows what came meanwhile.
    /// Readers are told not to rely on the tables until it is done. Process context; sleeps.
    pub(crate) fn clear(&self, clear: impl FnOnce(), show: impl FnOnce()) {
        let all = self.all();
        for share in &all {
            share.hide(1);
        }
        clear();
        for share in &all {
            share.clear();
        }
        if !all.is_empty() {
            show();
        }
        for share in &all {
            share.unhide(1);
        }
    }

    /// Tells the tables what time it is.
    pub(crate) fn tick(&self, clock: u32) {
        for share in self.list.lock().iter() {
            share.tick(clock);
        }
    }

    fn all(&self) -> KVec<Arc<Share>> {
        let mut all = KVec::new();
        if all.reserve(SHARES_MAX, GFP_ATOMIC).is_ok() {
            for share in self.list.lock().iter() {
                // There is room for the most.
                let _ = all.push(share.clone(), GFP_ATOMIC);
            }
        }
        all
    }

    /// The namespace of this prefix. `ENOENT`.
    pub(crate) fn find(&self, prefix: &[u8]) -> Result<Arc<Share>> {
        let list = self.list.lock();
        list.iter()
            .find(|share| share.prefix.as_slice() == prefix)
            .cloned()
            .ok_or(ENOENT)
    }

    /// Makes a namespace, or finds the one that is there; whether it is new. `EINVAL`, `EEXIST`,
    /// `ENOSPC`, `ENOMEM`. May sleep.
    pub(crate) fn create(
        &self,
        prefix: &[u8],
        slots: u64,
        slot_size: u32,
        clock: u32,
    ) -> Result<(Arc<Share>, bool)> {
        let agrees = |share: &Share| {
            (slots == 0 || slots == share.slots) && (slot_size == 0 || slot_size == share.slot_size)
        };
        if let Ok(share) = self.find(prefix) {
            return if agrees(&share) {
                Ok((share, false))
            } else {
                Err(EEXIST)
            };
        }
        let slots = if slots == 0 { SLOTS_DEFAULT } else { slots };
        let slot_size = if slot_size == 0 {
            SLOT_DEFAULT
        } else {
            slot_size
        };
        if !(u64::from(uapi::MEM_SLOTS_MIN)..=u64::from(uapi::MEM_SLOTS_MAX)).contains(&slots)
            || !slots.is_power_of_two()
            || !(uapi::MEM_SLOT_MIN..=uapi::MEM_SLOT_MAX).contains(&slot_size)
            || !slot_size.is_power_of_two()
        {
            return Err(EINVAL);
        }
        // CAST: usize fits u64.
        let bytes = Share::table_bytes(slots, slot_size)? as u64;
        let full = |count: u64, held: u64| {
            // CAST: small.
            count >= SHARES_MAX as u64 || held.saturating_add(bytes) > self.limit
        };
        let (count, held) = self.figures();
        if full(count, held) {
            return Err(ENOSPC);
        }
        let share = Share::new(prefix, slots, slot_size)?;
        share.tick(clock);
        let mut room = KVec::with_capacity(SHARES_MAX, GFP_KERNEL)?;
        // Declared before the guard, so that what is left in it is freed after unlocking.
        let mut list = self.list.lock();
        // CAST: as above.
        let held = list.iter().map(|share| share.bytes() as u64).sum();
        if full(list.len() as u64, held) {
            return Err(ENOSPC);
        }
        if list
            .iter()
            .any(|other| other.prefix.starts_with(prefix) || prefix.starts_with(&other.prefix))
        {
            return Err(EEXIST);
        }
        if list.capacity() < SHARES_MAX {
            for share in list.iter() {
                // There is room for the most.
                let _ = room.push(share.clone(), GFP_ATOMIC);
            }
            core::mem::swap(&mut *list, &mut room);
        }
        // Likewise.
        list.push(share.clone(), GFP_ATOMIC)?;
        // CAST: at most SHARES_MAX.
        self.count.store(list.len() as u32, Relaxed);
        drop(list);
        Ok((share, true))
    }

    /// Takes a namespace down. `ENOENT`.
    pub(crate) fn remove(&self, prefix: &[u8], clock: u32) -> Result<Arc<Share>> {
        let share = {
            let mut list = self.list.lock();
            let at = list
                .iter()
                .position(|share| share.prefix.as_slice() == prefix)
                .ok_or(ENOENT)?;
            let share = list.remove(at).map_err(|_| ENOENT)?;
            // CAST: at most SHARES_MAX.
            self.count.store(list.len() as u32, Relaxed);
            share
        };
        share.close(clock);
        Ok(share)
    }

    /// Takes all down: the module is going.
    pub(crate) fn close_all(&self, clock: u32) {
        for share in self.all() {
            share.close(clock);
        }
    }
}
