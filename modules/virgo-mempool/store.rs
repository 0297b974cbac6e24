// SPDX-License-Identifier: GPL-2.0-only

//! Named values: the shards, their limits, and every operation on them, whichever door it comes
//! through.
//!
//! The lock of a shard is held for a look-up and a copy of at most 8 KiB; nothing sleeps under it.
//! Where an operation lacks room, the lock is let go, room is made, and the operation begins anew.

use kernel::{
    alloc::{
        flags::{
            GFP_KERNEL_ACCOUNT,
            GFP_NOWAIT, //
        },
        Flags, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    lib::{
        random::random_u64,
        shrinker::Shrink,
        spinlock::{
            BhGuard,
            BhSpinLock, //
        },
        time::{
            monotonic_s,
            unix_s, //
        },
    },
    logic::{
        kv::{
            is_large,
            At,
            Count,
            Counts,
            Item,
            Mode,
            Put,
            Reclaim,
            Refused,
            Shard,
            Stored,
            Value,
            KEY_MAX, //
        },
        siphash::{
            siphash13,
            SipKey, //
        },
    },
    memory::{
        self,
        Big,
        Held,
        Memory,
        Segment,
        SEGMENT_COST, //
    },
    new_bh_spinlock,
    share::Shares,
};

/// How many shards there are; a power of two.
pub(crate) const SHARDS: usize = 16;
/// Attempts to get an operation done for which room was made.
const ATTEMPTS: usize = 64;
/// Bytes that memcached adds to key and value when it compares with the item limit.
pub(crate) const ITEM_OVERHEAD: usize = 50;
/// The least and the most memory that can be set.
pub(crate) const MEMORY_MIN: u64 = 1 << 20;
pub(crate) const MEMORY_MAX: u64 = 1 << 44;
/// The least and the most bytes of an item.
pub(crate) const ITEM_MIN: u32 = 1024;
pub(crate) const ITEM_MAX: u32 = 64 << 20;
/// Exptimes up to this are from now, greater ones Unix time.
const RELATIVE_MAX: i64 = 60 * 60 * 24 * 30;
/// The store's clock at load. What has run out has an end of 1.
const CLOCK_START: u32 = 2;
const LONG_GONE: u32 = 1;

/// How an operation may get memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// In softirq.
    Softirq,
    /// In process context, for a peer of the network.
    Network,
    /// In process context of the process that asks.
    Caller,
}

impl Context {
    pub(crate) fn flags(self) -> Flags {
        match self {
            Context::Softirq => GFP_NOWAIT,
            Context::Network => GFP_KERNEL,
            Context::Caller => GFP_KERNEL_ACCOUNT,
        }
    }

    fn may_sleep(self) -> bool {
        self != Context::Softirq
    }
}

/// Why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Another number than the one given.
    Exists,
    NotFound,
    NotStored,
    NotNumber,
    /// Over the item limit.
    TooLarge,
    NoMemory,
    /// It must be done where sleeping is allowed.
    WouldSleep,
}

/// Numbers of one shard, beside what the shard counts itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) get_hits: u64,
    pub(crate) get_misses: u64,
    pub(crate) get_expired: u64,
    pub(crate) sets: u64,
    pub(crate) touch_hits: u64,
    pub(crate) touch_misses: u64,
    pub(crate) delete_hits: u64,
    pub(crate) delete_misses: u64,
    pub(crate) incr_hits: u64,
    pub(crate) incr_misses: u64,
    pub(crate) decr_hits: u64,
    pub(crate) decr_misses: u64,
    pub(crate) cas_hits: u64,
    pub(crate) cas_misses: u64,
    pub(crate) cas_badval: u64,
    pub(crate) shrunk: u64,
}

/// What a shard's lock guards.
pub(crate) struct Bank {
    pub(crate) shard: Shard<Memory>,
    pub(crate) tally: Tally,
}

/// All figures of the store at about one moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) large: u64,
    pub(crate) segments: u64,
    pub(crate) buckets: u64,
    pub(crate) counts: Counts,
    pub(crate) tally: Tally,
}

/// A request to store, before it is known where.
pub(crate) struct PutRequest<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) flags: u32,
    /// By the store's clock.
    pub(crate) exp: u32,
    pub(crate) mode: Mode,
    pub(crate) cas: Option<u64>,
    pub(crate) new_cas: Option<u64>,
    pub(crate) invalidate: bool,
    pub(crate) vivify: Option<u32>,
}

impl<'a> PutRequest<'a> {
    /// Store in any case, for ever.
    pub(crate) fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        PutRequest {
            key,
            value,
            flags: 0,
            exp: 0,
            mode: Mode::Set,
            cas: None,
            new_cas: None,
            invalidate: false,
            vivify: None,
        }
    }
}

/// A request to add to a number, likewise.
pub(crate) struct CountRequest<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) delta: u64,
    pub(crate) decrement: bool,
    pub(crate) initial: Option<(u64, u32)>,
    pub(crate) cas: Option<u64>,
    pub(crate) new_cas: Option<u64>,
}

/// What [`Store::get_into`] found.
pub(crate) struct Got {
    pub(crate) length: u32,
    pub(crate) flags: u32,
    pub(crate) cas: u64,
    /// Seconds to its end; -1: none.
    pub(crate) left: i64,
    /// A big value, which was not copied.
    pub(crate) large: Option<Big>,
}

/// The store.
pub(crate) struct Store {
    banks: KVec<Pin<KBox<BhSpinLock<Bank>>>>,
    key: SipKey,
    held: Arc<Held>,
    shares: Arc<Shares>,
    /// Bytes of big values that are about to be held, where nothing may be given up for them.
    promised: Atomic<u64>,
    item_max: Atomic<u32>,
    /// Where the next room is made.
    next: Atomic<u32>,
    /// By the store's clock; 0: none is due.
    flush_at: Atomic<u32>,
    flushes: Atomic<u64>,
    start_s: u64,
    /// Taken off the figures by `stats reset`.
    verbosity: Atomic<u32>,
}

impl Store {
    pub(crate) fn new(memory_limit: u64, item_max: u32, shares: Arc<Shares>) -> Result<Self> {
        let held = Arc::new(Held::new(memory_limit), GFP_KERNEL)?;
        let key = SipKey {
            k0: random_u64(),
            k1: random_u64(),
        };
        let mut banks = KVec::with_capacity(SHARDS, GFP_KERNEL)?;
        for first in 0..SHARDS {
            let memory = Memory::new(held.clone(), shares.clone())?;
            // CAST: small.
            let shard = Shard::new(memory, key, first as u64, SHARDS as u64);
            let tally = Tally::default();
            let bank = new_bh_spinlock!(Bank { shard, tally }, c"virgo_mempool_shard");
            banks.push(KBox::pin_init(bank, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Store {
            banks,
            key,
            held,
            shares,
            promised: Atomic::new(0),
            item_max: Atomic::new(item_max),
            next: Atomic::new(0),
            flush_at: Atomic::new(0),
            flushes: Atomic::new(0),
            start_s: monotonic_s(),
            verbosity: Atomic::new(0),
        })
    }

    /// The store's clock.
    pub(crate) fn now(&self) -> u32 {
        let up = monotonic_s().saturating_sub(self.start_s);
        // A load of 136 years ends the counting.
        u32::try_from(up)
            .unwrap_or(u32::MAX)
            .saturating_add(CLOCK_START)
    }

    /// Seconds since the module was loaded.
    pub(crate) fn uptime(&self) -> u32 {
        self.now().saturating_sub(CLOCK_START)
    }

    /// When something ends, by the store's clock, of what a client said.
    pub(crate) fn expiry(&self, exptime: i64) -> u32 {
        if exptime == 0 {
            return 0;
        }
        if exptime < 0 {
            return LONG_GONE;
        }
        let seconds = if exptime <= RELATIVE_MAX {
            exptime
        } else {
            exptime.saturating_sub(unix_s())
        };
        match u32::try_from(seconds) {
            Ok(seconds) if seconds > 0 => self.now().saturating_add(seconds),
            _ if seconds <= 0 => LONG_GONE,
            // Past the clock's end.
            _ => 0,
        }
    }

    /// Seconds of Unix time of an end by the store's clock; 0 for never.
    pub(crate) fn unix_expiry(&self, exp: u32) -> i64 {
        if exp == 0 {
            return 0;
        }
        unix_s()
            .saturating_add(exp.into())
            .saturating_sub(self.now().into())
    }

    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        siphash13(&self.key, key)
    }

    /// The shard of a hash, locked.
    #[inline]
    pub(crate) fn lock(&self, hash: u64) -> Option<BhGuard<'_, Bank>> {
        // CAST: four bits.
        let index = (hash >> 60) as usize % SHARDS;
        self.banks.get(index).map(|bank| bank.lock())
    }

    /// Shard `index`, locked.
    pub(crate) fn lock_index(&self, index: usize) -> Option<BhGuard<'_, Bank>> {
        self.banks.get(index).map(|bank| bank.lock())
    }

    pub(crate) fn memory_limit(&self) -> u64 {
        self.held.limit()
    }

    /// Sets the limit; gives up what is over it. `ERANGE`.
    pub(crate) fn set_memory_limit(&self, bytes: u64) -> Result {
        if !(MEMORY_MIN..=MEMORY_MAX).contains(&bytes) {
            return Err(ERANGE);
        }
        self.held.set_limit(bytes);
        self.keep_limit(usize::MAX);
        Ok(())
    }

    pub(crate) fn item_max(&self) -> u32 {
        self.item_max.load(Relaxed)
    }

    /// `ERANGE`.
    pub(crate) fn set_item_max(&self, bytes: u32) -> Result {
        if !(ITEM_MIN..=ITEM_MAX).contains(&bytes) {
            return Err(ERANGE);
        }
        self.item_max.store(bytes, Relaxed);
        Ok(())
    }

    pub(crate) fn evicts(&self) -> bool {
        self.held.may_pass()
    }

    pub(crate) fn set_evicts(&self, evict: bool) {
        self.held.let_pass(evict);
    }

    pub(crate) fn verbosity(&self) -> u32 {
        self.verbosity.load(Relaxed)
    }

    pub(crate) fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level.min(3), Relaxed);
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Relaxed)
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.get()
    }

    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// True for a key and value that are within the item limit.
    pub(crate) fn fits(&self, key: usize, value: usize) -> bool {
        key.saturating_add(value).saturating_add(ITEM_OVERHEAD) <= self.item_max() as usize
        // CAST: u32 fits usize.
    }

    // ------------------------------------------------------------- room

    /// Gives up values until the memory is within its limit, in at most `rounds` steps. True: it
    /// is.
    fn keep_limit(&self, rounds: usize) -> bool {
        let limit = self.memory_limit();
        let evicts = self.evicts();
        // Twice around without anything to give up is the end.
        let mut idle = 0;
        for _ in 0..rounds {
            if self.held.get() <= limit {
                return true;
            }
            if idle > 2 * SHARDS {
                break;
            }
            idle = if self.reclaim_next(evicts) {
                0
            } else {
                idle + 1
            };
        }
        self.held.get() <= limit
    }

    /// Reclaims one segment of the next shard. False: it had none.
    fn reclaim_next(&self, evict: bool) -> bool {
        // CAST: u32 fits usize.
        let index = self.next.fetch_add(1, Relaxed) as usize % SHARDS;
        let how = if evict {
            Reclaim::Evict
        } else {
            Reclaim::Compact
        };
        let now = self.now();
        self.lock_index(index)
            .is_some_and(|mut bank| bank.shard.reclaim(how, now))
    }

    /// Not to evict means that the limit is kept before, not after: sees that there is room for so
    /// many bytes, until the promise is dropped, by when they are held. More than there could ever
    /// be are refused in any case.
    fn promise(&self, bytes: u64) -> Result<Option<Promise<'_>>, Failure> {
        if bytes.saturating_add(SEGMENT_COST) > self.memory_limit() {
            return Err(Failure::NoMemory);
        }
        if self.evicts() {
            return Ok(None);
        }
        self.promised.fetch_add(bytes, Relaxed);
        let promise = Promise { store: self, bytes };
        // With those of others: all of them together are to fit.
        let fits = || {
            let all = self.held.get().saturating_add(self.promised.load(Relaxed));
            all <= self.memory_limit()
        };
        if !fits() {
            self.compact_all();
            if !fits() {
                return Err(Failure::NoMemory);
            }
        }
        Ok(Some(promise))
    }

    /// Brings a segment to the shard of `hash`.
    fn make_room(&self, hash: u64, context: Context) -> Result<(), Failure> {
        let _segment = self.promise(SEGMENT_COST)?;
        let none = if context.may_sleep() {
            Failure::NoMemory
        } else {
            Failure::WouldSleep
        };
        let segment = Segment::new(context.flags()).map_err(|_| none)?;
        let now = self.now();
        {
            let mut bank = self.lock(hash).ok_or(none)?;
            let number = bank.shard.space.add(segment).map_err(|_| none)?;
            bank.shard.supply(number);
            // Not more garbage than half of what lives, and two segments.
            let lives = bank.shard.bytes().saturating_sub(bank.shard.large_bytes());
            let has = u64::from(bank.shard.segments()).saturating_mul(SEGMENT_COST);
            if has > lives.saturating_mul(3) / 2 + 3 * SEGMENT_COST {
                for _ in 0..2 {
                    if !bank.shard.reclaim(Reclaim::Compact, now) {
                        break;
                    }
                }
            }
        }
        if self.held.get() > self.memory_limit() {
            self.keep_limit(4 * SHARDS);
        }
        Ok(())
    }

    /// Reclaims what can be without giving anything up.
    fn compact_all(&self) {
        let now = self.now();
        for index in 0..SHARDS {
            for _ in 0..8 {
                let more = self
                    .lock_index(index)
                    .is_some_and(|mut bank| bank.shard.reclaim(Reclaim::Compact, now));
                if !more {
                    break;
                }
            }
        }
    }

    /// Does `operation` on the shard of `hash`, making room as often as it says that it is full.
    fn with_room<T>(
        &self,
        hash: u64,
        context: Context,
        mut operation: impl FnMut(&mut Bank) -> Result<T, Refused>,
    ) -> Result<T, Failure> {
        for _ in 0..ATTEMPTS {
            let result = {
                let mut bank = self.lock(hash).ok_or(Failure::NoMemory)?;
                operation(&mut bank)
            };
            match result {
                Ok(value) => return Ok(value),
                Err(Refused::Full) => self.make_room(hash, context)?,
                Err(Refused::Exists) => return Err(Failure::Exists),
                Err(Refused::NotFound) => return Err(Failure::NotFound),
                Err(Refused::NotStored) => return Err(Failure::NotStored),
                Err(Refused::NotNumber) => return Err(Failure::NotNumber),
                Err(Refused::Joined) => return Err(Failure::TooLarge),
                Err(Refused::Invalid) => return Err(Failure::TooLarge),
            }
        }
        Err(Failure::NoMemory)
    }

    /// Tells the shared namespaces that the value of a key is another now.
    pub(crate) fn changed(&self, bank: &mut Bank, hash: u64, key: &[u8], now: u32) {
        if !self.shares.any() || !self.shares.wants(key) {
            return;
        }
        if let Some(at) = bank.shard.find(hash, key, now) {
            self.shares.show(&mut bank.shard, at);
        }
    }

    // ------------------------------------------------------- operations

    /// Shows the item of a key to `read`, with the shard locked: it must not sleep.
    pub(crate) fn read<T>(
        &self,
        key: &[u8],
        touch: bool,
        read: impl FnOnce(Option<Item<'_, Big>>) -> T,
    ) -> Option<T> {
        let hash = self.hash(key);
        let now = self.now();
        let mut bank = self.lock(hash)?;
        let at = bank.shard.find(hash, key, now);
        let result = read(at.and_then(|at| bank.shard.item(at)));
        if let Some(at) = at.filter(|_| touch) {
            bank.shard.hit(at, now);
        }
        Some(result)
    }

    /// Fetches a value for a caller in memory: into `to`, if it is not longer than `capacity` and
    /// fits there; a big one is handed out instead. `exp` is a new end to give it. Does not sleep.
    pub(crate) fn get_into(
        &self,
        key: &[u8],
        exp: Option<u32>,
        to: &mut [u8],
        capacity: usize,
    ) -> Option<Got> {
        self.get_with(key, exp, capacity, |bytes| {
            if let Some(room) = to.get_mut(..bytes.len()) {
                room.copy_from_slice(bytes);
            }
        })
    }

    /// Fetches a value: shows it to `copy` with the shard locked, so that must not sleep, if it is
    /// not longer than `capacity`; a big one is handed out instead. Does not sleep.
    #[inline]
    pub(crate) fn get_with(
        &self,
        key: &[u8],
        exp: Option<u32>,
        capacity: usize,
        copy: impl FnOnce(&[u8]),
    ) -> Option<Got> {
        let hash = self.hash(key);
        let now = self.now();
        let mut bank = self.lock(hash)?;
        let bank = &mut *bank;
        let Some((at, item)) = bank.shard.get(hash, key, now) else {
            bank.tally.get_misses = bank.tally.get_misses.wrapping_add(1);
            return None;
        };
        let fits = item.value.len() <= capacity;
        let large = item.large.filter(|_| fits).cloned();
        if fits && large.is_none() {
            copy(item.value);
        }
        let got = Got {
            // CAST: values are below 4 GiB.
            length: item.value.len() as u32,
            flags: item.flags,
            cas: item.cas,
            left: match exp.unwrap_or(item.exp) {
                0 => -1,
                exp => exp.saturating_sub(now).into(),
            },
            large,
        };
        bank.shard.hit(at, now);
        bank.tally.get_hits = bank.tally.get_hits.wrapping_add(1);
        if let Some(exp) = exp {
            bank.shard.set_exp(at, exp);
            self.changed(bank, hash, key, now);
        }
        Some(got)
    }

    /// A big value of these bytes.
    fn big(value: &[u8], context: Context) -> Result<Big, Failure> {
        if !context.may_sleep() {
            return Err(Failure::WouldSleep);
        }
        let mut bytes = KVVec::new();
        bytes
            .extend_from_slice(value, context.flags() | __GFP_NOWARN)
            .map_err(|_| Failure::NoMemory)?;
        memory::Value::new(bytes, context.flags()).map_err(|_| Failure::NoMemory)
    }

    /// Stores.
    pub(crate) fn put(
        &self,
        request: &PutRequest<'_>,
        context: Context,
    ) -> Result<Stored, Failure> {
        let key = request.key;
        if key.is_empty() || key.len() > KEY_MAX || !self.fits(key.len(), request.value.len()) {
            return Err(Failure::TooLarge);
        }
        let hash = self.hash(key);
        let mut _promise = None;
        let value = if is_large(key.len(), request.value.len()) {
            let big = Self::big(request.value, context)?;
            _promise = self.promise(crate::logic::kv::Large::cost(&big))?;
            Value::Large(big)
        } else {
            Value::Bytes(request.value)
        };
        let put = Put {
            hash,
            key,
            value,
            flags: request.flags,
            exp: request.exp,
            mode: request.mode,
            cas: request.cas,
            new_cas: request.new_cas,
            invalidate: request.invalidate,
            vivify: request.vivify,
            now: self.now(),
        };
        let mut joined = false;
        let result = self.with_room(hash, context, |bank| {
            let result = bank.shard.put(&put);
            bank.count_put(request.cas.is_some(), &result);
            if result.is_ok() {
                self.changed(bank, hash, key, put.now);
            }
            joined = result == Err(Refused::Joined);
            result
        });
        let result = if joined {
            self.join(request, hash, context)
        } else {
            result
        };
        match result {
            Ok(stored) if self.held.get() > self.memory_limit() && self.evicts() => {
                self.after_large(hash, key).map(|()| stored)
            }
            result => result,
        }
    }

    /// Keeps the limit after a value was stored that brought its own memory.
    fn after_large(&self, hash: u64, key: &[u8]) -> Result<(), Failure> {
        if self.keep_limit(usize::MAX) {
            return Ok(());
        }
        // There is nothing else to give up.
        if let Some(mut bank) = self.lock(hash) {
            if let Some(at) = bank.shard.find(hash, key, self.now()) {
                bank.shard.remove(at);
            }
        }
        Err(Failure::NoMemory)
    }

    /// Appends or prepends where the result is a big value: it is made outside the lock, and
    /// stored if the value is still the one that it was made of.
    fn join(
        &self,
        request: &PutRequest<'_>,
        hash: u64,
        context: Context,
    ) -> Result<Stored, Failure> {
        if !context.may_sleep() {
            return Err(Failure::WouldSleep);
        }
        let flags = context.flags() | __GFP_NOWARN;
        let now = self.now();
        let key = request.key;
        for _ in 0..ATTEMPTS {
            let mut bytes = KVVec::<u8>::new();
            let old = {
                let mut bank = self.lock(hash).ok_or(Failure::NoMemory)?;
                let at = bank.shard.find(hash, key, now).ok_or(Failure::NotStored)?;
                let item = bank.shard.item(at).ok_or(Failure::NotStored)?;
                let old = (item.cas, item.flags, item.exp, item.value.len());
                // Taken along if it is a big one, else again below.
                (old, item.large.cloned())
            };
            let ((cas, item_flags, exp, length), large) = old;
            if request.cas.is_some_and(|given| given != cas) {
                return Err(Failure::Exists);
            }
            let total = length.saturating_add(request.value.len());
            if !self.fits(key.len(), total) {
                return Err(Failure::TooLarge);
            }
            bytes.reserve(total, flags).map_err(|_| Failure::NoMemory)?;
            let before = request.mode == Mode::Prepend;
            let mut add = |part: &[u8]| -> Result<(), Failure> {
                bytes
                    .extend_from_slice(part, GFP_NOWAIT)
                    .map_err(|_| Failure::NoMemory)
            };
            if before {
                add(request.value)?;
            }
            match &large {
                Some(large) => add(crate::logic::kv::Large::bytes(large))?,
                None => {
                    let mut bank = self.lock(hash).ok_or(Failure::NoMemory)?;
                    let item = bank
                        .shard
                        .find(hash, key, now)
                        .and_then(|at| bank.shard.item(at))
                        .filter(|item| item.cas == cas && item.value.len() == length);
                    match item {
                        Some(item) => add(item.value)?,
                        None => continue,
                    }
                }
            }
            if !before {
                add(request.value)?;
            }
            let big = memory::Value::new(bytes, context.flags()).map_err(|_| Failure::NoMemory)?;
            let _promise = self.promise(crate::logic::kv::Large::cost(&big))?;
            let put = Put {
                hash,
                key,
                value: Value::Large(big),
                flags: item_flags,
                exp,
                mode: Mode::Set,
                cas: Some(cas),
                new_cas: request.new_cas,
                invalidate: false,
                vivify: None,
                now,
            };
            let result = self.with_room(hash, context, |bank| {
                let result = bank.shard.put(&put);
                if result.is_ok() {
                    self.changed(bank, hash, key, now);
                }
                result
            });
            match result {
                Err(Failure::Exists | Failure::NotFound) => {}
                other => return other,
            }
        }
        Err(Failure::NoMemory)
    }

    /// Adds to a number.
    pub(crate) fn count(
        &self,
        request: &CountRequest<'_>,
        context: Context,
    ) -> Result<(u64, Stored), Failure> {
        let hash = self.hash(request.key);
        let count = Count {
            hash,
            key: request.key,
            delta: request.delta,
            decrement: request.decrement,
            initial: request.initial,
            cas: request.cas,
            new_cas: request.new_cas,
            now: self.now(),
        };
        self.with_room(hash, context, |bank| {
            let result = bank.shard.count(&count);
            let (hits, misses) = if request.decrement {
                (&mut bank.tally.decr_hits, &mut bank.tally.decr_misses)
            } else {
                (&mut bank.tally.incr_hits, &mut bank.tally.incr_misses)
            };
            match result {
                Ok(_) => *hits = hits.wrapping_add(1),
                Err(Refused::NotFound) => *misses = misses.wrapping_add(1),
                Err(_) => {}
            }
            if result.is_ok() {
                self.changed(bank, hash, request.key, count.now);
            }
            result
        })
    }

    /// Deletes.
    pub(crate) fn delete(&self, key: &[u8], cas: Option<u64>) -> Result<(), Failure> {
        let hash = self.hash(key);
        let now = self.now();
        let mut bank = self.lock(hash).ok_or(Failure::NotFound)?;
        let Some(at) = bank.shard.find(hash, key, now) else {
            bank.tally.delete_misses = bank.tally.delete_misses.wrapping_add(1);
            return Err(Failure::NotFound);
        };
        let number = bank.shard.item(at).map(|item| item.cas);
        if cas.is_some() && number != cas {
            return Err(Failure::Exists);
        }
        bank.tally.delete_hits = bank.tally.delete_hits.wrapping_add(1);
        bank.shard.remove(at);
        Ok(())
    }

    /// Gives a value another end.
    pub(crate) fn touch(&self, key: &[u8], exp: u32) -> bool {
        let hash = self.hash(key);
        let now = self.now();
        let Some(mut bank) = self.lock(hash) else {
            return false;
        };
        let Some(at) = bank.shard.find(hash, key, now) else {
            bank.tally.touch_misses = bank.tally.touch_misses.wrapping_add(1);
            return false;
        };
        bank.tally.touch_hits = bank.tally.touch_hits.wrapping_add(1);
        bank.shard.set_exp(at, exp);
        bank.shard.hit(at, now);
        self.changed(&mut bank, hash, key, now);
        true
    }

    /// Does several things with one item, with the shard locked, and room made as often as it
    /// says that it is full. `change` gets the item's place, and says whether it changed it.
    pub(crate) fn with_item<T>(
        &self,
        key: &[u8],
        context: Context,
        mut change: impl FnMut(&mut Bank, Option<At>, u64, u32) -> Result<(T, bool), Refused>,
    ) -> Result<T, Failure> {
        let hash = self.hash(key);
        let now = self.now();
        self.with_room(hash, context, |bank| {
            let at = bank.shard.find(hash, key, now);
            let (value, changed) = change(bank, at, hash, now)?;
            if changed {
                self.changed(bank, hash, key, now);
            }
            Ok(value)
        })
    }

    // ------------------------------------------------------------ flush

    /// Forgets everything, now or in `delay` seconds. Process context; sleeps. With a delay, the
    /// caller sees to it that the clockwork runs.
    pub(crate) fn flush(&self, delay: u32) {
        self.flushes.fetch_add(1, Relaxed);
        if delay > 0 {
            self.flush_at
                .store(self.now().saturating_add(delay), Relaxed);
            return;
        }
        self.flush_at.store(0, Relaxed);
        self.clear();
    }

    fn clear(&self) {
        let clear = || {
            for index in 0..SHARDS {
                if let Some(mut bank) = self.lock_index(index) {
                    bank.shard.clear();
                }
            }
        };
        self.shares.clear(clear, || self.show_all());
    }

    /// Whether a flush is to come.
    pub(crate) fn flush_waits(&self) -> bool {
        self.flush_at.load(Relaxed) != 0
    }

    pub(crate) fn flush_if_due(&self) {
        let at = self.flush_at.load(Relaxed);
        if at == 0 || self.now() < at {
            return;
        }
        // Full: one of those who see it does it.
        if self.flush_at.cmpxchg(at, 0, Full).is_ok() {
            self.clear();
        }
    }

    /// Puts all values that belong into shared namespaces there.
    pub(crate) fn show_all(&self) {
        for index in 0..SHARDS {
            if let Some(mut bank) = self.lock_index(index) {
                self.shares.show_shard(&mut bank.shard);
            }
        }
    }

    // ---------------------------------------------------------- figures

    /// Adds the figures up.
    pub(crate) fn figures(&self) -> Figures {
        let mut sum = Figures::default();
        for bank in &self.banks {
            let bank = bank.lock();
            let shard = &bank.shard;
            sum.items = sum.items.wrapping_add(shard.items());
            sum.bytes = sum.bytes.wrapping_add(shard.bytes());
            sum.large = sum.large.wrapping_add(shard.large_bytes());
            sum.segments = sum.segments.wrapping_add(shard.segments().into());
            sum.buckets = sum.buckets.wrapping_add(shard.buckets().into());
            sum.counts.add(&shard.counts);
            sum.tally.add(&bank.tally);
        }
        sum
    }

    /// Sets the figures that grow to 0.
    pub(crate) fn reset_figures(&self) {
        for bank in &self.banks {
            let mut bank = bank.lock();
            bank.tally = Tally::default();
            bank.shard.counts = Counts::default();
        }
        self.flushes.store(0, Relaxed);
    }

    /// Forgets what has run out, in `budget` segments of each shard from number `*from` on.
    pub(crate) fn sweep(&self, from: &mut u32, budget: u32) {
        self.flush_if_due();
        let now = self.now();
        let mut most = 0;
        for index in 0..SHARDS {
            for step in 0..budget {
                let Some(mut bank) = self.lock_index(index) else {
                    return;
                };
                let numbers = bank.shard.space.numbers();
                most = most.max(numbers);
                let number = from.wrapping_add(step);
                if number >= numbers {
                    break;
                }
                bank.shard.sweep(number, now);
            }
        }
        *from = from.wrapping_add(budget);
        if *from >= most {
            *from = 0;
        }
    }
}

/// Bytes that are about to be held.
struct Promise<'a> {
    store: &'a Store,
    bytes: u64,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let bytes = self.bytes.wrapping_neg();
        self.store.promised.fetch_add(bytes, Relaxed);
    }
}

impl Bank {
    fn count_put(&mut self, with_cas: bool, result: &Result<Stored, Refused>) {
        let tally = &mut self.tally;
        if *result == Err(Refused::Full) {
            return;
        }
        tally.sets = tally.sets.wrapping_add(1);
        if with_cas {
            let number = match result {
                Ok(_) => &mut tally.cas_hits,
                Err(Refused::NotFound) => &mut tally.cas_misses,
                _ => &mut tally.cas_badval,
            };
            *number = number.wrapping_add(1);
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        let add = |sum: &mut u64, n: u64| *sum = sum.wrapping_add(n);
        add(&mut self.get_hits, other.get_hits);
        add(&mut self.get_misses, other.get_misses);
        add(&mut self.get_expired, other.get_expired);
        add(&mut self.sets, other.sets);
        add(&mut self.touch_hits, other.touch_hits);
        add(&mut self.touch_misses, other.touch_misses);
        add(&mut self.delete_hits, other.delete_hits);
        add(&mut self.delete_misses, other.delete_misses);
        add(&mut self.incr_hits, other.incr_hits);
        add(&mut self.incr_misses, other.incr_misses);
        add(&mut self.decr_hits, other.decr_hits);
        add(&mut self.decr_misses, other.decr_misses);
        add(&mut self.cas_hits, other.cas_hits);
        add(&mut self.cas_misses, other.cas_misses);
        add(&mut self.cas_badval, other.cas_badval);
        add(&mut self.shrunk, other.shrunk);
    }
}

/// The unit of the shrinker is a page.
const PAGE: u64 = 4096;

impl Shrink for Store {
    fn count(&self) -> usize {
        // Half of it stays, whatever comes: a cache that is empty helps nobody.
        let spare = self.held.get().saturating_sub(self.memory_limit() / 16);
        usize::try_from(spare / PAGE).unwrap_or(usize::MAX)
    }

    fn scan(&self, wanted: usize) -> usize {
        let before = self.held.get();
        // CAST: usize fits u64.
        let goal = before.saturating_sub((wanted as u64).saturating_mul(PAGE));
        let mut idle = 0;
        while self.held.get() > goal && idle <= SHARDS {
            let gave = {
                // CAST: u32 fits usize.
                let index = self.next.fetch_add(1, Relaxed) as usize % SHARDS;
                let now = self.now();
                self.lock_index(index).is_some_and(|mut bank| {
                    let before = bank.shard.counts.evicted;
                    let gave = bank.shard.reclaim(Reclaim::Evict, now);
                    let evicted = bank.shard.counts.evicted.wrapping_sub(before);
                    bank.tally.shrunk = bank.tally.shrunk.wrapping_add(evicted);
                    bank.shard.counts.evicted = before;
                    gave
                })
            };
            idle = if gave { 0 } else { idle + 1 };
        }
        let freed = before.saturating_sub(self.held.get());
        usize::try_from(freed / PAGE).unwrap_or(usize::MAX)
    }
}
