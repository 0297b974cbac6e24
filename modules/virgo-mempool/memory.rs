// SPDX-License-Identifier: GPL-2.0-only

//! The memory of a shard of the store: segments, table, big values.
//!
//! All of it is under the shard's spinlock, so what is asked for here is asked for without
//! sleeping; segments and big values are made outside and handed in.

use kernel::{
    alloc::{
        flags::GFP_NOWAIT,
        Flags, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    lib::{
        listener::Bytes,
        zeroed::zeroed, //
    },
    logic::kv::{
        Large,
        Meta,
        Space,
        BUCKETS_MIN,
        SEGMENT,
        SEGMENTS_MAX, //
    },
    share::Shares,
};

/// Buckets of one piece of the table: a page of 32-bit references.
const PIECE: usize = 1024;
/// What a big value takes beside its bytes.
const LARGE_COST: usize = 64;

/// The flags for memory that is asked for with a lock held.
fn without_sleep() -> Flags {
    GFP_NOWAIT | __GFP_NOWARN
}

/// A big value, shared with the answers that are on their way.
pub(crate) struct Value {
    bytes: KVVec<u8>,
}

impl Value {
    /// A value of these bytes.
    pub(crate) fn new(bytes: KVVec<u8>, flags: Flags) -> Result<Big> {
        Ok(Big(Arc::new(Value { bytes }, flags)?))
    }
}

impl Bytes for Value {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A hold on a big value.
#[derive(Clone)]
pub(crate) struct Big(pub(crate) Arc<Value>);

impl Large for Big {
    fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    fn cost(&self) -> u64 {
        // CAST: usize fits u64.
        self.0.bytes.capacity().saturating_add(LARGE_COST) as u64
    }
}

/// All bytes that the store has from the system, and how many it may have.
pub(crate) struct Held {
    bytes: Atomic<u64>,
    limit: Atomic<u64>,
    /// What is over the limit is given up afterwards; else it may never be passed.
    may_pass: Atomic<bool>,
}

// Relaxed: numbers of their own, which nothing else is read by.
impl Held {
    pub(crate) const fn new(limit: u64) -> Self {
        Held {
            bytes: Atomic::new(0),
            limit: Atomic::new(limit),
            may_pass: Atomic::new(true),
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    pub(crate) fn may_pass(&self) -> bool {
        self.may_pass.load(Relaxed)
    }

    pub(crate) fn let_pass(&self, may: bool) {
        self.may_pass.store(may, Relaxed);
    }

    /// Whether so many more may be held.
    fn fits(&self, bytes: u64) -> bool {
        self.may_pass() || self.get().saturating_add(bytes) <= self.limit()
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn sub(&self, bytes: u64) {
        self.bytes.fetch_add(bytes.wrapping_neg(), Relaxed);
    }
}

/// An empty segment.
pub(crate) struct Segment(KVVec<u8>);

impl Segment {
    pub(crate) fn new(flags: Flags) -> Result<Self> {
        Ok(Segment(zeroed(SEGMENT, flags | __GFP_NOWARN)?))
    }
}

/// What a segment takes, its own figures included.
// CAST: small.
pub(crate) const SEGMENT_COST: u64 =
    (SEGMENT + size_of::<Meta>() + size_of::<Option<KVVec<u8>>>()) as u64;
// CAST: small.
const PIECE_COST: u64 = (PIECE * size_of::<u32>()) as u64;

/// A piece of the table, all of it empty.
fn empty_piece(flags: Flags) -> Result<KVVec<u32>> {
    let mut piece: KVVec<u32> = zeroed(PIECE, flags)?;
    piece.fill(u32::MAX);
    Ok(piece)
}

/// The memory of one shard.
pub(crate) struct Memory {
    segments: KVVec<Option<KVVec<u8>>>,
    metas: KVVec<Meta>,
    table: KVVec<KVVec<u32>>,
    larges: KVVec<Option<Big>>,
    /// Numbers in `larges` that are free.
    free: KVVec<u32>,
    held: Arc<Held>,
    shares: Arc<Shares>,
}

impl Memory {
    pub(crate) fn new(held: Arc<Held>, shares: Arc<Shares>) -> Result<Self> {
        let mut table = KVVec::new();
        table.push(empty_piece(GFP_KERNEL)?, GFP_KERNEL)?;
        static_assert!(BUCKETS_MIN as usize <= PIECE);
        held.add(PIECE_COST);
        Ok(Memory {
            segments: KVVec::new(),
            metas: KVVec::new(),
            table,
            larges: KVVec::new(),
            free: KVVec::new(),
            held,
            shares,
        })
    }

    /// How many numbers of segments there are.
    pub(crate) fn numbers(&self) -> u32 {
        // Bounded by memory over 32 KiB.
        u32::try_from(self.segments.len()).unwrap_or(u32::MAX)
    }

    /// Takes a segment over; its number. Gives it back if there is no room for one more. Does not
    /// sleep.
    pub(crate) fn add(&mut self, segment: Segment) -> Result<u32, Segment> {
        let free = self.segments.iter().position(Option::is_none);
        let number = free.unwrap_or(self.segments.len());
        // The last is that of the reference to no item.
        let Some(number) = u32::try_from(number).ok().filter(|n| *n < SEGMENTS_MAX - 1) else {
            return Err(segment);
        };
        if free.is_none() {
            let flags = without_sleep();
            if self.segments.reserve(1, flags).is_err()
                || self.metas.push(Meta::default(), flags).is_err()
                || self.segments.push(None, flags).is_err()
            {
                return Err(segment);
            }
        }
        // CAST: u32 fits usize.
        if let Some(place) = self.segments.get_mut(number as usize) {
            *place = Some(segment.0);
            self.held.add(SEGMENT_COST);
        }
        Ok(number)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for segment in self.segments.iter_mut() {
            if segment.take().is_some() {
                self.held.sub(SEGMENT_COST);
            }
        }
        // CAST: usize fits u64.
        self.held
            .sub(PIECE_COST.saturating_mul(self.table.len() as u64));
        self.forget_all();
    }
}

// Indices are u32 numbers that this file gave out; `get` keeps a wrong one harmless.
impl Space for Memory {
    type Large = Big;

    #[inline(always)]
    fn segment(&self, number: u32) -> &[u8] {
        // CAST: u32 fits usize.
        match self.segments.get(number as usize) {
            Some(Some(segment)) => segment,
            _ => &[],
        }
    }

    #[inline(always)]
    fn segment_mut(&mut self, number: u32) -> &mut [u8] {
        // CAST: as above.
        match self.segments.get_mut(number as usize) {
            Some(Some(segment)) => segment,
            _ => &mut [],
        }
    }

    fn meta(&self, number: u32) -> Meta {
        // CAST: as above.
        self.metas.get(number as usize).copied().unwrap_or_default()
    }

    fn set_meta(&mut self, number: u32, meta: Meta) {
        // CAST: as above.
        if let Some(place) = self.metas.get_mut(number as usize) {
            *place = meta;
        }
    }

    fn release(&mut self, number: u32) {
        // CAST: as above.
        if let Some(place) = self.segments.get_mut(number as usize) {
            if place.take().is_some() {
                self.held.sub(SEGMENT_COST);
            }
        }
    }

    #[inline(always)]
    fn bucket(&self, number: u32) -> u32 {
        // CAST: as above.
        let number = number as usize;
        self.table
            .get(number / PIECE)
            .and_then(|piece| piece.get(number % PIECE))
            .copied()
            .unwrap_or(u32::MAX)
    }

    #[inline(always)]
    fn set_bucket(&mut self, number: u32, value: u32) {
        // CAST: as above.
        let number = number as usize;
        if let Some(place) = self
            .table
            .get_mut(number / PIECE)
            .and_then(|piece| piece.get_mut(number % PIECE))
        {
            *place = value;
        }
    }

    fn add_bucket(&mut self, number: u32) -> bool {
        // CAST: as above.
        if (number as usize) < self.table.len().saturating_mul(PIECE) {
            return true;
        }
        // A table that cannot grow is slower, no more.
        if !self.held.fits(PIECE_COST) {
            return false;
        }
        let piece = empty_piece(without_sleep());
        let added = piece.is_ok_and(|piece| self.table.push(piece, without_sleep()).is_ok());
        if added {
            self.held.add(PIECE_COST);
        }
        added
    }

    fn drop_buckets(&mut self, from: u32) {
        // CAST: as above.
        let pieces = (from as usize).div_ceil(PIECE).max(1);
        while self.table.len() > pieces {
            self.table.pop();
            self.held.sub(PIECE_COST);
        }
    }

    fn large(&self, number: u32) -> Option<&Big> {
        // CAST: as above.
        self.larges.get(number as usize)?.as_ref()
    }

    fn keep(&mut self, value: Big) -> Result<u32, Big> {
        let cost = value.cost();
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = self.larges.len();
                let flags = without_sleep();
                // Room for the number's return, so that going never needs memory.
                if self.free.reserve(number.saturating_add(1), flags).is_err()
                    || self.larges.push(None, flags).is_err()
                {
                    return Err(value);
                }
                match u32::try_from(number) {
                    Ok(number) => number,
                    Err(_) => return Err(value),
                }
            }
        };
        // CAST: as above.
        if let Some(place) = self.larges.get_mut(number as usize) {
            *place = Some(value);
            self.held.add(cost);
        }
        Ok(number)
    }

    fn forget(&mut self, number: u32) {
        // CAST: as above.
        if let Some(value) = self.larges.get_mut(number as usize).and_then(Option::take) {
            self.held.sub(value.cost());
            // `keep` made the room.
            let _ = self.free.push(number, without_sleep());
        }
    }

    fn forget_all(&mut self) {
        for value in self.larges.iter_mut().filter_map(Option::take) {
            self.held.sub(value.cost());
        }
        self.larges.clear();
        self.free.clear();
    }

    fn gone(&mut self, segment: u32, offset: usize, length: usize) {
        let end = offset.saturating_add(length);
        if let Some(key) = self.segment(segment).get(offset..end) {
            self.shares.gone(key);
        }
    }
}
