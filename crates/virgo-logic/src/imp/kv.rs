// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Named values in little memory: one shard of the memory pool's store.
//!
//! Items lie one behind the other in *segments* of 32 KiB, four-byte steps, with a head of 24
//! bytes; a table of 32-bit references finds them by the hash of their key. Nothing else is kept
//! for an item: an item of an 11-byte key and a 32-byte value takes 68 bytes and a share of the
//! table (four bytes at most one bucket an item).
//!
//! **Room.** New items go to the end of the *open* segment. What is deleted or replaced stays as a
//! dead item till its segment is *reclaimed*: what lives in it is copied to the open one, the rest
//! is forgotten. Segments form a queue by age. To evict, the oldest is reclaimed and only the
//! values that were read since the last time stay (at most half of it): the order of a queue with
//! a second chance, which keeps what is used without touching any list when it is used.
//!
//! **Table.** Linear hashing: it grows by one bucket at a time, as items come, and shrinks
//! likewise, so that no operation ever rehashes more than a bucket.
//!
//! **Big values** (items over [`INLINE_MAX`]) are kept by the [`Space`], and the item holds their
//! number.
//!
//! All memory belongs to the [`Space`], so that this file knows neither the kernel's allocator nor
//! the host's. When there is no room the operation says so and changes nothing; the caller brings
//! a segment and tries again. The caller also holds the lock: nothing here is shared.

use super::siphash::{siphash13, SipKey};

/// Bytes of a segment.
pub const SEGMENT: usize = 32768;
/// Items start at multiples of this.
const GRAIN: usize = 4;
/// Bytes of an item's head.
pub const HEAD: usize = 24;
/// The longest item that lies in a segment; the value of a longer one is kept beside.
pub const INLINE_MAX: usize = 8192;
/// No item.
const NIL: u32 = u32::MAX;
/// The most steps that an item has in excess: two bits of its head say how many.
const SPARE_MAX: usize = 3;
/// Bits of the head's number of bytes that an item's value takes.
const VALUE_BITS: u32 = 14;
/// Segments looked at for the one with the least in it.
const LOOK: usize = 16;
/// Buckets that are never given back.
pub const BUCKETS_MIN: u32 = 64;
/// The longest key.
pub const KEY_MAX: usize = 250;

/// The item is garbage.
const DEAD: u8 = 1;
/// The value is kept by the space.
const LARGE: u8 = 2;
/// A word of user flags follows the head.
const FLAGS: u8 = 4;
/// It was read at least once.
const FETCHED: u8 = 8;
/// It was read since it was last looked at for room.
const HOT: u8 = 16;
/// Marked as out of date by the user.
pub const STALE: u8 = 32;
/// A client was told that it may bring a newer value.
pub const WON: u8 = 64;
/// Someone else keeps a copy, and is told when the item goes.
pub const SHARED: u8 = 128;

/// What the caller may set and clear.
const MARKS: u8 = STALE | WON | SHARED;

/// Where an item is: the segment's number and, in its lowest bits, the step in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(u32);

/// Bits of an [`At`] that are the step.
const STEP_BITS: u32 = (SEGMENT / GRAIN).trailing_zeros();
const STEP: u32 = u32::MAX >> (u32::BITS - STEP_BITS);
/// Segments that there can be: 16 GiB of them. Numbers are below this.
pub const SEGMENTS_MAX: u32 = 1 << (u32::BITS - STEP_BITS);

impl At {
    fn new(segment: u32, offset: usize) -> At {
        // CAST: an offset is below SEGMENT.
        At((segment << STEP_BITS) | ((offset / GRAIN) as u32 & STEP))
    }

    fn segment(self) -> u32 {
        self.0 >> STEP_BITS
    }

    fn offset(self) -> usize {
        // CAST: u32 fits usize.
        ((self.0 & STEP) as usize).wrapping_mul(GRAIN)
    }
}

/// What is kept of a segment, apart from its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta {
    /// Bytes from the front that hold items, dead ones too.
    used: u32,
    /// Bytes of live items.
    live: u32,
    /// The next older segment.
    older: u32,
    /// The next younger segment.
    newer: u32,
}

/// A value that is kept beside the segments.
pub trait Large: Clone {
    /// The value.
    fn bytes(&self) -> &[u8];
    /// Memory that it takes.
    fn cost(&self) -> u64;
}

/// Whether two keys are the same. By words, since they are short.
#[inline(always)]
fn same(one: &[u8], other: &[u8]) -> bool {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    if one.len() != other.len() {
        return false;
    }
    // The last eight once more, whether they are whole words or not.
    match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(last), Some(other_last)) => {
            let pairs = one.chunks_exact(8).zip(other.chunks_exact(8));
            word(last) == word(other_last) && { pairs }.all(|(one, other)| {
                match (one.first_chunk(), other.first_chunk()) {
                    (Some(one), Some(other)) => word(one) == word(other),
                    _ => false,
                }
            })
        }
        _ => one.iter().zip(other).all(|(one, other)| one == other),
    }
}

/// Where a shard's memory comes from.
pub trait Space {
    /// A big value.
    type Large: Large;

    /// The bytes of a segment; empty if there is none of that number.
    fn segment(&self, number: u32) -> &[u8];
    /// Likewise, to write.
    fn segment_mut(&mut self, number: u32) -> &mut [u8];
    /// What is known of a segment.
    fn meta(&self, number: u32) -> Meta;
    /// Keeps what is known of a segment.
    fn set_meta(&mut self, number: u32, meta: Meta);
    /// The segment is not used any more.
    fn release(&mut self, number: u32);

    /// The content of a bucket, `u32::MAX` where nothing was ever stored.
    fn bucket(&self, number: u32) -> u32;
    /// Stores the content of a bucket.
    fn set_bucket(&mut self, number: u32, value: u32);
    /// Makes memory for the bucket of this number, one more than there are. False: there is none.
    fn add_bucket(&mut self, number: u32) -> bool;
    /// Buckets from this number on are not used any more.
    fn drop_buckets(&mut self, from: u32);

    /// A big value.
    fn large(&self, number: u32) -> Option<&Self::Large>;
    /// Keeps a big value; gives it back if there is no memory for its number.
    fn keep(&mut self, value: Self::Large) -> Result<u32, Self::Large>;
    /// The value is not used any more.
    fn forget(&mut self, number: u32);
    /// No big value is used any more.
    fn forget_all(&mut self);

    /// An item marked [`SHARED`] goes, and no other of its key comes in its place. Its key is
    /// these bytes of a segment. Not called by [`Shard::clear`].
    fn gone(&mut self, segment: u32, offset: usize, length: usize);
}

/// An item's head.
#[derive(Clone, Copy, Debug)]
struct Head {
    next: u32,
    exp: u32,
    access: u32,
    cas: u64,
    /// Bytes of the value, or of the number of a big one.
    inline: u16,
    /// Steps that the item has in excess.
    spare: u8,
    klen: u8,
    bits: u8,
}

impl Head {
    #[inline(always)]
    fn read(segment: &[u8], offset: usize) -> Option<Head> {
        let bytes = segment.get(offset..)?.first_chunk::<HEAD>()?;
        let b = bytes;
        let word = u16::from_le_bytes([b[20], b[21]]);
        Some(Head {
            next: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            exp: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            access: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            cas: u64::from_le_bytes([b[12], b[13], b[14], b[15], b[16], b[17], b[18], b[19]]),
            inline: word & (u16::MAX >> (u16::BITS - VALUE_BITS)),
            // CAST: two bits.
            spare: (word >> VALUE_BITS) as u8,
            klen: b[22],
            bits: b[23],
        })
    }

    #[inline(always)]
    fn write(&self, segment: &mut [u8], offset: usize) {
        let room = segment.get_mut(offset..);
        if let Some(b) = room.and_then(|room| room.first_chunk_mut::<HEAD>()) {
            let (n, e, a) = (
                self.next.to_le_bytes(),
                self.exp.to_le_bytes(),
                self.access.to_le_bytes(),
            );
            let word = self.inline | (u16::from(self.spare) << VALUE_BITS);
            let (c, w) = (self.cas.to_le_bytes(), word.to_le_bytes());
            *b = [
                n[0], n[1], n[2], n[3], e[0], e[1], e[2], e[3], a[0], a[1], a[2], a[3], c[0], c[1],
                c[2], c[3], c[4], c[5], c[6], c[7], w[0], w[1], self.klen, self.bits,
            ];
        }
    }

    fn size(&self) -> usize {
        let flags = self.bits & FLAGS != 0;
        item_bytes(self.klen.into(), self.inline.into(), flags)
            .saturating_add(usize::from(self.spare).wrapping_mul(GRAIN))
    }

    #[inline(always)]
    fn key_at(&self, offset: usize) -> usize {
        let flags = if self.bits & FLAGS == 0 { 0 } else { 4 };
        offset.wrapping_add(HEAD).wrapping_add(flags)
    }

    #[inline(always)]
    fn value_at(&self, offset: usize) -> usize {
        self.key_at(offset).wrapping_add(usize::from(self.klen))
    }

    #[inline(always)]
    fn expired(&self, now: u32) -> bool {
        self.exp != 0 && self.exp <= now
    }
}

/// A value to store.
#[derive(Debug)]
pub enum Value<'a, L> {
    /// It is copied.
    Bytes(&'a [u8]),
    /// It is taken over; only for items which [`is_large`] says so of.
    Large(L),
}

/// True for an item whose value is kept beside the segments.
pub fn is_large(key: usize, value: usize) -> bool {
    item_bytes(key, value, true) > INLINE_MAX
}

/// Bytes that an item takes in a segment, or would.
fn item_bytes(key: usize, value: usize, flags: bool) -> usize {
    HEAD.saturating_add(if flags { 4 } else { 0 })
        .saturating_add(key)
        .saturating_add(value)
        .checked_next_multiple_of(GRAIN)
        .unwrap_or(usize::MAX)
}

/// What an item is, for a reader.
#[derive(Debug)]
pub struct Item<'a, L> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value: the bytes.
    pub value: &'a [u8],
    /// The value as it is kept, if it is a big one.
    pub large: Option<&'a L>,
    /// The user's own flags.
    pub flags: u32,
    /// Its number.
    pub cas: u64,
    /// When it ends, by the store's clock; 0: never.
    pub exp: u32,
    /// When it was last read or stored.
    pub access: u32,
    /// It was read before.
    pub fetched: bool,
    /// [`STALE`], [`WON`] and [`SHARED`].
    pub marks: u8,
    /// All memory that it takes.
    pub size: u64,
}

/// How to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In any case.
    Set,
    /// If the key is not there.
    Add,
    /// If the key is there.
    Replace,
    /// Behind what is there.
    Append,
    /// Before what is there.
    Prepend,
}

/// A request to store.
#[derive(Debug)]
pub struct Put<'a, L> {
    /// Hash of the key, by [`Shard::hash`].
    pub hash: u64,
    /// 1 to [`KEY_MAX`] bytes.
    pub key: &'a [u8],
    /// The value.
    pub value: Value<'a, L>,
    /// The user's own flags.
    pub flags: u32,
    /// When it ends, by the store's clock; 0: never.
    pub exp: u32,
    /// How.
    pub mode: Mode,
    /// Only if this is the value's number.
    pub cas: Option<u64>,
    /// The number to give it, not the next one.
    pub new_cas: Option<u64>,
    /// If the value's number is greater than `cas`, store all the same, marked [`STALE`].
    pub invalidate: bool,
    /// Append and prepend: make the item, to end then, if it is not there.
    pub vivify: Option<u32>,
    /// The store's clock.
    pub now: u32,
}

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub cas: u64,
    /// Bytes of the value.
    pub len: u32,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another number than the one given.
    Exists,
    /// Not there.
    NotFound,
    /// The mode says no.
    NotStored,
    /// Not a number.
    NotNumber,
    /// No room: bring a segment and try again.
    Full,
    /// The result is a big value: read, join, and store it by its number.
    Joined,
    /// What was given makes no item: no key, too long a one, or too big a value for the way it came.
    Invalid,
}

/// A request to add to a number.
#[derive(Clone, Copy, Debug)]
pub struct Count<'a> {
    /// Hash of the key.
    pub hash: u64,
    /// The key.
    pub key: &'a [u8],
    /// How much.
    pub delta: u64,
    /// Take away instead.
    pub decrement: bool,
    /// Make it, with this value and end, if it is not there.
    pub initial: Option<(u64, u32)>,
    /// Only if this is the value's number.
    pub cas: Option<u64>,
    /// The number to give it.
    pub new_cas: Option<u64>,
    /// The store's clock.
    pub now: u32,
}

/// What has happened, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items stored.
    pub stored: u64,
    /// Values whose time ran out.
    pub expired: u64,
    /// Values given up for room.
    pub evicted: u64,
    /// Values given up for room that nobody had read.
    pub evicted_unfetched: u64,
    /// Segments reclaimed.
    pub reclaimed: u64,
    /// Items copied to another segment.
    pub moved: u64,
}

impl Counts {
    /// Adds another's.
    pub fn add(&mut self, other: &Counts) {
        self.stored = self.stored.wrapping_add(other.stored);
        self.expired = self.expired.wrapping_add(other.expired);
        self.evicted = self.evicted.wrapping_add(other.evicted);
        self.evicted_unfetched = self.evicted_unfetched.wrapping_add(other.evicted_unfetched);
        self.reclaimed = self.reclaimed.wrapping_add(other.reclaimed);
        self.moved = self.moved.wrapping_add(other.moved);
    }
}

/// How to reclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// Nothing that lives is given up.
    Compact,
    /// Values may be given up.
    Evict,
}

/// One shard.
#[derive(Debug)]
pub struct Shard<S: Space> {
    /// Its memory.
    pub space: S,
    /// What has happened.
    pub counts: Counts,
    key: SipKey,
    open: u32,
    oldest: u32,
    newest: u32,
    segments: u32,
    buckets: u32,
    items: u64,
    live: u64,
    large: u64,
    cas: u64,
    step: u64,
}

impl<S: Space> Shard<S> {
    /// An empty shard. `first` and `step` are for the values' numbers: the shards of a store begin
    /// with different ones and step over each other's. The space must have [`BUCKETS_MIN`] buckets.
    pub fn new(space: S, key: SipKey, first: u64, step: u64) -> Self {
        Shard {
            space,
            counts: Counts::default(),
            key,
            open: NIL,
            oldest: NIL,
            newest: NIL,
            segments: 0,
            buckets: BUCKETS_MIN,
            items: 0,
            live: 0,
            large: 0,
            cas: first,
            step,
        }
    }

    /// The hash of a key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        siphash13(&self.key, key)
    }

    /// Items now, those among them whose time has run out but which nobody has looked at.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Memory of all items: in segments, and big values.
    pub fn bytes(&self) -> u64 {
        self.live.saturating_add(self.large)
    }

    /// Memory of big values.
    pub fn large_bytes(&self) -> u64 {
        self.large
    }

    /// Segments in use.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// Buckets of the table.
    pub fn buckets(&self) -> u32 {
        self.buckets
    }

    #[inline(always)]
    fn index(&self, hash: u64) -> u32 {
        Self::index_of(hash, self.buckets)
    }

    #[inline(always)]
    fn index_of(hash: u64, buckets: u32) -> u32 {
        let mask = buckets.wrapping_sub(1);
        // All ones below the highest bit of `mask`, and that one.
        let wide = u32::MAX >> mask.leading_zeros().min(31);
        // CAST: the low half is what is wanted.
        let index = hash as u32 & wide;
        if index < buckets {
            index
        } else {
            index & (wide >> 1)
        }
    }

    fn head(&self, at: At) -> Option<Head> {
        Head::read(self.space.segment(at.segment()), at.offset())
    }

    fn write_head(&mut self, at: At, head: &Head) {
        head.write(self.space.segment_mut(at.segment()), at.offset());
    }

    fn key_of(&self, at: At, head: &Head) -> &[u8] {
        let from = head.key_at(at.offset());
        self.space
            .segment(at.segment())
            .get(from..from.wrapping_add(usize::from(head.klen)))
            .unwrap_or(&[])
    }

    #[inline(always)]
    fn lookup(&self, hash: u64, key: &[u8]) -> Option<(At, Head)> {
        let mut at = self.space.bucket(self.index(hash));
        while at != NIL {
            let place = At(at);
            let segment = self.space.segment(place.segment());
            let head = Head::read(segment, place.offset())?;
            if usize::from(head.klen) == key.len() {
                let from = head.key_at(place.offset());
                let kept = segment.get(from..from.wrapping_add(key.len()));
                if kept.is_some_and(|kept| same(kept, key)) {
                    return Some((place, head));
                }
            }
            at = head.next;
        }
        None
    }

    /// Finds the item of a key. One whose time has run out is forgotten, and not found.
    #[inline]
    pub fn find(&mut self, hash: u64, key: &[u8], now: u32) -> Option<At> {
        let (at, head) = self.lookup(hash, key)?;
        if head.expired(now) {
            self.kill(at, &head, hash);
            self.counts.expired = self.counts.expired.wrapping_add(1);
            return None;
        }
        Some(at)
    }

    /// Finds the item of a key, to read it, in one go: as [`find`](Self::find) and
    /// [`item`](Self::item).
    #[inline(always)]
    pub fn get(&mut self, hash: u64, key: &[u8], now: u32) -> Option<(At, Item<'_, S::Large>)> {
        let (at, head) = self.lookup(hash, key)?;
        if head.expired(now) {
            self.kill(at, &head, hash);
            self.counts.expired = self.counts.expired.wrapping_add(1);
            return None;
        }
        Some((at, self.item_of(at, &head)?))
    }

    /// The item, to read. `at` is from [`find`](Self::find), with nothing in between.
    #[inline]
    pub fn item(&self, at: At) -> Option<Item<'_, S::Large>> {
        let head = self.head(at)?;
        self.item_of(at, &head)
    }

    #[inline(always)]
    fn item_of(&self, at: At, head: &Head) -> Option<Item<'_, S::Large>> {
        let segment = self.space.segment(at.segment());
        let key_at = head.key_at(at.offset());
        let value_at = head.value_at(at.offset());
        let inline = segment.get(value_at..value_at.wrapping_add(head.inline.into()))?;
        let (value, large) = if head.bits & LARGE == 0 {
            (inline, None)
        } else {
            let number = inline.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))?;
            let large = self.space.large(number)?;
            (large.bytes(), Some(large))
        };
        let flags = if head.bits & FLAGS == 0 {
            0
        } else {
            let word = segment.get(at.offset().wrapping_add(HEAD)..)?;
            u32::from_le_bytes(*word.first_chunk::<4>()?)
        };
        Some(Item {
            key: segment.get(key_at..value_at)?,
            value,
            large,
            flags,
            cas: head.cas,
            exp: head.exp,
            access: head.access,
            fetched: head.bits & FETCHED != 0,
            marks: head.bits & MARKS,
            // CAST: usize fits u64.
            size: (head.size() as u64).saturating_add(large.map_or(0, Large::cost)),
        })
    }

    /// The item was read.
    #[inline]
    pub fn hit(&mut self, at: At, now: u32) {
        let segment = self.space.segment_mut(at.segment());
        if let Some(head) = segment
            .get_mut(at.offset()..)
            .and_then(|room| room.first_chunk_mut::<HEAD>())
        {
            let n = now.to_le_bytes();
            head[8] = n[0];
            head[9] = n[1];
            head[10] = n[2];
            head[11] = n[3];
            head[23] |= HOT | FETCHED;
        }
    }

    /// Gives the item another end.
    pub fn set_exp(&mut self, at: At, exp: u32) {
        if let Some(mut head) = self.head(at) {
            head.exp = exp;
            self.write_head(at, &head);
        }
    }

    /// Sets and clears [`STALE`], [`WON`] and [`SHARED`].
    pub fn set_marks(&mut self, at: At, set: u8, clear: u8) {
        if let Some(mut head) = self.head(at) {
            head.bits = (head.bits & !(clear & MARKS)) | (set & MARKS);
            self.write_head(at, &head);
        }
    }

    /// Gives the item another number: `new`, or the next.
    pub fn set_cas(&mut self, at: At, new: Option<u64>) -> u64 {
        let cas = self.next_cas(new);
        if let Some(mut head) = self.head(at) {
            head.cas = cas;
            self.write_head(at, &head);
        }
        cas
    }

    fn next_cas(&mut self, new: Option<u64>) -> u64 {
        new.unwrap_or_else(|| {
            self.cas = self.cas.wrapping_add(self.step);
            self.cas
        })
    }

    /// Forgets an item.
    pub fn remove(&mut self, at: At) {
        if let Some(head) = self.head(at) {
            let hash = self.hash(self.key_of(at, &head));
            self.kill(at, &head, hash);
        }
    }

    /// Makes what pointed at `at` point to `to`.
    fn relink(&mut self, at: At, hash: u64, to: u32) {
        let bucket = self.index(hash);
        let mut here = self.space.bucket(bucket);
        if here == at.0 {
            self.space.set_bucket(bucket, to);
            return;
        }
        while here != NIL {
            let Some(mut head) = self.head(At(here)) else {
                return;
            };
            if head.next == at.0 {
                head.next = to;
                self.write_head(At(here), &head);
                return;
            }
            here = head.next;
        }
    }

    /// Takes an item out of the table and makes it garbage.
    fn kill(&mut self, at: At, head: &Head, hash: u64) {
        if head.bits & SHARED != 0 {
            let key = head.key_at(at.offset());
            self.space.gone(at.segment(), key, head.klen.into());
        }
        self.replaced(at, head, hash);
    }

    /// Likewise, where another of its key comes in its place.
    fn replaced(&mut self, at: At, head: &Head, hash: u64) {
        self.relink(at, hash, head.next);
        self.bury(at, head);
        self.items = self.items.wrapping_sub(1);
        self.shrink_table();
    }

    /// Makes an item garbage which the table does not know any more.
    fn bury(&mut self, at: At, head: &Head) {
        if head.bits & LARGE != 0 {
            let from = head.value_at(at.offset());
            let number = self
                .space
                .segment(at.segment())
                .get(from..)
                .and_then(|b| b.first_chunk::<4>())
                .map(|b| u32::from_le_bytes(*b));
            if let Some(number) = number {
                let cost = self.space.large(number).map_or(0, Large::cost);
                self.large = self.large.saturating_sub(cost);
                self.space.forget(number);
            }
        }
        let mut dead = *head;
        dead.bits |= DEAD;
        self.write_head(at, &dead);
        self.account(at.segment(), head.size(), false);
        let meta = self.space.meta(at.segment());
        if meta.live == 0 && at.segment() != self.open {
            self.retire(at.segment());
        }
    }

    fn account(&mut self, segment: u32, bytes: usize, born: bool) {
        let mut meta = self.space.meta(segment);
        // CAST: an item is smaller than a segment.
        let bytes = bytes as u32;
        if born {
            meta.live = meta.live.saturating_add(bytes);
            self.live = self.live.saturating_add(bytes.into());
        } else {
            meta.live = meta.live.saturating_sub(bytes);
            self.live = self.live.saturating_sub(bytes.into());
        }
        self.space.set_meta(segment, meta);
    }

    /// Takes a segment out of the queue and gives it back.
    fn retire(&mut self, segment: u32) {
        let meta = self.space.meta(segment);
        if meta.older == NIL {
            self.oldest = meta.newer;
        } else {
            let mut other = self.space.meta(meta.older);
            other.newer = meta.newer;
            self.space.set_meta(meta.older, other);
        }
        if meta.newer == NIL {
            self.newest = meta.older;
        } else {
            let mut other = self.space.meta(meta.newer);
            other.older = meta.older;
            self.space.set_meta(meta.newer, other);
        }
        if self.open == segment {
            self.open = NIL;
        }
        self.segments = self.segments.saturating_sub(1);
        self.counts.reclaimed = self.counts.reclaimed.wrapping_add(1);
        self.space.release(segment);
    }

    /// Takes over a segment of [`SEGMENT`] bytes that the space has under this number.
    pub fn supply(&mut self, segment: u32) {
        let old = self.open;
        let meta = Meta {
            used: 0,
            live: 0,
            older: self.newest,
            newer: NIL,
        };
        self.space.set_meta(segment, meta);
        if self.newest == NIL {
            self.oldest = segment;
        } else {
            let mut other = self.space.meta(self.newest);
            other.newer = segment;
            self.space.set_meta(self.newest, other);
        }
        self.newest = segment;
        self.open = segment;
        self.segments = self.segments.saturating_add(1);
        if old != NIL && self.space.meta(old).live == 0 {
            self.retire(old);
        }
    }

    /// Bytes left in the open segment.
    pub fn room(&self) -> usize {
        if self.open == NIL {
            return 0;
        }
        // CAST: below SEGMENT.
        SEGMENT.saturating_sub(self.space.meta(self.open).used as usize)
    }

    fn allocate(&mut self, bytes: usize) -> Result<At, Refused> {
        if self.room() < bytes {
            return Err(Refused::Full);
        }
        let mut meta = self.space.meta(self.open);
        // CAST: below SEGMENT.
        let at = At::new(self.open, meta.used as usize);
        meta.used = meta.used.saturating_add(bytes as u32);
        self.space.set_meta(self.open, meta);
        Ok(at)
    }

    fn grow_table(&mut self) {
        if self.items <= u64::from(self.buckets) || self.buckets >= 1 << 30 {
            return;
        }
        let new = self.buckets;
        if !self.space.add_bucket(new) {
            return;
        }
        self.space.set_bucket(new, NIL);
        // The bucket that is split: the new number without its highest bit.
        let old = new & (u32::MAX >> new.leading_zeros().saturating_add(1).min(31));
        self.buckets = new.saturating_add(1);
        let mut here = self.space.bucket(old);
        let (mut stay, mut go) = (NIL, NIL);
        while here != NIL {
            let at = At(here);
            let Some(mut head) = self.head(at) else { break };
            here = head.next;
            let hash = self.hash(self.key_of(at, &head));
            let list = if Self::index_of(hash, self.buckets) == new {
                &mut go
            } else {
                &mut stay
            };
            head.next = *list;
            *list = at.0;
            self.write_head(at, &head);
        }
        self.space.set_bucket(old, stay);
        self.space.set_bucket(new, go);
    }

    fn shrink_table(&mut self) {
        if self.buckets <= BUCKETS_MIN || self.items >= u64::from(self.buckets / 4) {
            return;
        }
        let last = self.buckets.saturating_sub(1);
        let into = last & (u32::MAX >> last.leading_zeros().saturating_add(1).min(31));
        let chain = self.space.bucket(last);
        self.buckets = last;
        if chain != NIL {
            let mut end = At(chain);
            while let Some(head) = self.head(end) {
                if head.next == NIL {
                    let mut head = head;
                    head.next = self.space.bucket(into);
                    self.write_head(end, &head);
                    break;
                }
                end = At(head.next);
            }
            self.space.set_bucket(into, chain);
        }
        self.space.drop_buckets(last);
    }

    /// Writes an item's bytes. The place has room for them.
    fn fill(&mut self, at: At, head: &Head, key: &[u8], flags: u32, value: &[u8]) {
        self.write_head(at, head);
        let from = at.offset().wrapping_add(HEAD);
        let Some(rest) = self.space.segment_mut(at.segment()).get_mut(from..) else {
            return;
        };
        let rest = if head.bits & FLAGS == 0 {
            rest
        } else {
            let Some((word, rest)) = rest.split_first_chunk_mut::<4>() else {
                return;
            };
            *word = flags.to_le_bytes();
            rest
        };
        if let Some((room, rest)) = rest.split_at_mut_checked(key.len()) {
            room.copy_from_slice(key);
            if let Some(room) = rest.get_mut(..value.len()) {
                room.copy_from_slice(value);
            }
        }
    }

    /// Puts a new item, which is in its place, into the table.
    fn link(&mut self, at: At, hash: u64) {
        let bucket = self.index(hash);
        if let Some(mut head) = self.head(at) {
            head.next = self.space.bucket(bucket);
            self.write_head(at, &head);
            self.space.set_bucket(bucket, at.0);
            self.account(at.segment(), head.size(), true);
        }
        self.items = self.items.wrapping_add(1);
        self.counts.stored = self.counts.stored.wrapping_add(1);
        self.grow_table();
    }

    /// Writes an item, in the place of `old` if that is there.
    #[allow(clippy::too_many_arguments, reason = "an item has that many parts")]
    fn write(
        &mut self,
        old: Option<(At, Head)>,
        hash: u64,
        key: &[u8],
        value: &Value<'_, S::Large>,
        flags: u32,
        exp: u32,
        marks: u8,
        new_cas: Option<u64>,
        now: u32,
    ) -> Result<Stored, Refused> {
        let (inline, len) = match value {
            Value::Bytes(bytes) => (bytes.len(), bytes.len()),
            Value::Large(large) => (4, large.bytes().len()),
        };
        let total = item_bytes(key.len(), inline, flags != 0);
        let len = u32::try_from(len).map_err(|_| Refused::Invalid)?;
        let inline = u16::try_from(inline).map_err(|_| Refused::Invalid)?;
        let klen = u8::try_from(key.len()).map_err(|_| Refused::Invalid)?;
        if total > INLINE_MAX || klen == 0 {
            return Err(Refused::Invalid);
        }
        let mut head = Head {
            next: NIL,
            exp,
            access: now,
            cas: 0,
            inline,
            spare: 0,
            klen,
            bits: marks | if flags == 0 { 0 } else { FLAGS },
        };
        head.bits |= old.map_or(0, |(_, was)| was.bits & SHARED);
        // Over the old one, where the new one fits and wastes no more than a few steps.
        if let (Some((at, was)), Value::Bytes(bytes)) = (old, value) {
            let spare = was.size().checked_sub(total).map(|bytes| bytes / GRAIN);
            let spare = spare.filter(|steps| was.bits & LARGE == 0 && *steps <= SPARE_MAX);
            if let Some(spare) = spare {
                head.cas = self.next_cas(new_cas);
                head.next = was.next;
                // CAST: two bits.
                head.spare = spare as u8;
                head.bits |= HOT;
                self.fill(at, &head, key, flags, bytes);
                self.counts.stored = self.counts.stored.wrapping_add(1);
                return Ok(Stored { cas: head.cas, len });
            }
        }
        if self.room() < total {
            return Err(Refused::Full);
        }
        let mut number = [0; 4];
        let (bytes, cost) = match value {
            Value::Bytes(bytes) => (*bytes, 0),
            Value::Large(large) => {
                let cost = large.cost();
                let kept = self.space.keep(large.clone()).map_err(|_| Refused::Full)?;
                number = kept.to_le_bytes();
                head.bits |= LARGE;
                (number.as_slice(), cost)
            }
        };
        let at = match self.allocate(total) {
            Ok(at) => at,
            Err(why) => {
                if head.bits & LARGE != 0 {
                    self.space.forget(u32::from_le_bytes(number));
                }
                return Err(why);
            }
        };
        self.large = self.large.saturating_add(cost);
        head.cas = self.next_cas(new_cas);
        self.fill(at, &head, key, flags, bytes);
        if let Some((at, was)) = old {
            self.replaced(at, &was, hash);
        }
        self.link(at, hash);
        Ok(Stored { cas: head.cas, len })
    }

    /// Stores.
    pub fn put(&mut self, put: &Put<'_, S::Large>) -> Result<Stored, Refused> {
        let (hash, key, now) = (put.hash, put.key, put.now);
        let (mut exp, mut marks) = (put.exp, 0);
        let old = self
            .find(hash, key, now)
            .and_then(|at| self.head(at).map(|head| (at, head)));
        let given = put.cas;
        if let Some((at, head)) = old {
            if put.mode == Mode::Add {
                self.hit(at, now);
                return Err(Refused::NotStored);
            }
            if given.is_some_and(|cas| cas != head.cas) {
                if !(put.invalidate && given.is_some_and(|cas| cas < head.cas)) {
                    return Err(Refused::Exists);
                }
                marks = STALE;
            }
            if matches!(put.mode, Mode::Append | Mode::Prepend) {
                return self.join(put, at, &head);
            }
        } else {
            match (put.mode, put.vivify) {
                (Mode::Set | Mode::Replace, _) if given.is_some() => {
                    return Err(Refused::NotFound);
                }
                (Mode::Set | Mode::Add, _) => {}
                (Mode::Append | Mode::Prepend, Some(end)) => exp = end,
                _ => return Err(Refused::NotStored),
            }
        }
        self.write(
            old,
            hash,
            key,
            &put.value,
            put.flags,
            exp,
            marks,
            put.new_cas,
            now,
        )
    }

    /// Appends or prepends to an item.
    fn join(&mut self, put: &Put<'_, S::Large>, at: At, was: &Head) -> Result<Stored, Refused> {
        let Value::Bytes(bytes) = &put.value else {
            return Err(Refused::Joined);
        };
        let old_len = usize::from(was.inline);
        let len = old_len.saturating_add(bytes.len());
        let total = item_bytes(put.key.len(), len, was.bits & FLAGS != 0);
        if was.bits & LARGE != 0 || total > INLINE_MAX {
            return Err(Refused::Joined);
        }
        let new = self.allocate(total)?;
        let head = Head {
            next: NIL,
            access: put.now,
            cas: self.next_cas(put.new_cas),
            // CAST: below INLINE_MAX.
            inline: len as u16,
            spare: 0,
            bits: was.bits & (FLAGS | FETCHED | HOT | SHARED),
            ..*was
        };
        self.write_head(new, &head);
        let (value, from) = (head.value_at(new.offset()), was.value_at(at.offset()));
        // The word of flags and the key, then the old value.
        let start = new.offset().wrapping_add(HEAD);
        self.copy(
            (at.segment(), at.offset().wrapping_add(HEAD)),
            (new.segment(), start),
            value.saturating_sub(start),
        );
        let (old_to, new_to) = if put.mode == Mode::Append {
            (value, value.saturating_add(old_len))
        } else {
            (value.saturating_add(bytes.len()), value)
        };
        self.copy((at.segment(), from), (new.segment(), old_to), old_len);
        let room = self.space.segment_mut(new.segment());
        if let Some(room) = room.get_mut(new_to..new_to.saturating_add(bytes.len())) {
            room.copy_from_slice(bytes);
        }
        self.replaced(at, was, put.hash);
        self.link(new, put.hash);
        Ok(Stored {
            cas: head.cas,
            len: head.inline.into(),
        })
    }

    /// Copies bytes from one place of a segment to another.
    fn copy(&mut self, from: (u32, usize), to: (u32, usize), len: usize) {
        let mut done = 0usize;
        let mut bounce = [0; 256];
        while done < len {
            let n = len.saturating_sub(done).min(bounce.len());
            let (start, end) = (from.1.saturating_add(done), to.1.saturating_add(done));
            let source = self.space.segment(from.0);
            let (Some(source), Some(part)) = (
                source.get(start..start.saturating_add(n)),
                bounce.get_mut(..n),
            ) else {
                return;
            };
            part.copy_from_slice(source);
            let target = self.space.segment_mut(to.0);
            if let Some(room) = target.get_mut(end..end.saturating_add(n)) {
                room.copy_from_slice(part);
            }
            done = done.saturating_add(n);
        }
    }

    /// Adds to a number. The number now, and the value's own.
    pub fn count(&mut self, count: &Count<'_>) -> Result<(u64, Stored), Refused> {
        let (hash, key, now) = (count.hash, count.key, count.now);
        let mut digits = [0; 20];
        let found = self
            .find(hash, key, now)
            .and_then(|at| self.head(at).map(|head| (at, head)));
        let Some((at, mut head)) = found else {
            let (initial, exp) = count.initial.ok_or(Refused::NotFound)?;
            let text = Value::Bytes(decimal(initial, &mut digits));
            let stored = self.write(None, hash, key, &text, 0, exp, 0, count.new_cas, now)?;
            return Ok((initial, stored));
        };
        if count.cas.is_some_and(|cas| cas != head.cas) {
            return Err(Refused::Exists);
        }
        let item = self.item(at).ok_or(Refused::NotFound)?;
        let flags = item.flags;
        let old = parse_decimal(item.value.trim_ascii_end()).ok_or(Refused::NotNumber)?;
        let new = if count.decrement {
            old.saturating_sub(count.delta)
        } else {
            old.wrapping_add(count.delta)
        };
        let text = decimal(new, &mut digits);
        let room = usize::from(head.inline);
        if head.bits & LARGE == 0 && text.len() <= room {
            // As memcached does: the length stays, with spaces behind.
            head.cas = self.next_cas(count.new_cas);
            head.bits |= HOT;
            self.write_head(at, &head);
            let from = head.value_at(at.offset());
            let segment = self.space.segment_mut(at.segment());
            if let Some(value) = segment.get_mut(from..from.saturating_add(room)) {
                value.fill(b' ');
                if let Some(front) = value.get_mut(..text.len()) {
                    front.copy_from_slice(text);
                }
            }
            let stored = Stored {
                cas: head.cas,
                len: head.inline.into(),
            };
            return Ok((new, stored));
        }
        let text = Value::Bytes(text);
        let old = Some((at, head));
        let stored = self.write(
            old,
            hash,
            key,
            &text,
            flags,
            head.exp,
            0,
            count.new_cas,
            now,
        )?;
        Ok((new, stored))
    }

    /// Empties a value, and forgets its user flags; its end stays.
    pub fn empty(
        &mut self,
        at: At,
        new_cas: Option<u64>,
        now: u32,
    ) -> Result<(At, Stored), Refused> {
        let head = self.head(at).ok_or(Refused::NotFound)?;
        let mut key = [0; KEY_MAX];
        let from = self.key_of(at, &head);
        let key = key.get_mut(..from.len()).ok_or(Refused::Invalid)?;
        key.copy_from_slice(from);
        let hash = self.hash(key);
        let old = Some((at, head));
        let value = Value::Bytes(&[]);
        let stored = self.write(old, hash, key, &value, 0, head.exp, 0, new_cas, now)?;
        let (at, _) = self.lookup(hash, key).ok_or(Refused::NotFound)?;
        Ok((at, stored))
    }

    /// Copies a live item to the open segment. False: there is no room.
    fn relocate(&mut self, at: At, was: &Head, hash: u64) -> bool {
        let Ok(new) = self.allocate(was.size()) else {
            return false;
        };
        self.copy(
            (at.segment(), at.offset()),
            (new.segment(), new.offset()),
            was.size(),
        );
        let mut head = *was;
        head.bits &= !HOT;
        self.write_head(new, &head);
        self.relink(at, hash, new.0);
        self.account(new.segment(), head.size(), true);
        let mut dead = *was;
        dead.bits |= DEAD;
        self.write_head(at, &dead);
        self.account(at.segment(), was.size(), false);
        self.counts.moved = self.counts.moved.wrapping_add(1);
        true
    }

    /// Which segment to reclaim, and whether all that lives in it can stay.
    fn victim(&mut self, how: Reclaim) -> Option<(u32, bool)> {
        let mut best: Option<(u32, u32)> = None;
        let mut here = self.oldest;
        let mut oldest = None;
        for _ in 0..LOOK {
            if here == NIL {
                break;
            }
            let meta = self.space.meta(here);
            if here != self.open {
                oldest = oldest.or(Some(here));
                if best.is_none_or(|(_, live)| meta.live < live) {
                    best = Some((here, meta.live));
                }
            }
            here = meta.newer;
        }
        // CAST: u32 fits usize.
        let fits = |live: u32| live as usize <= self.room();
        let most = match how {
            Reclaim::Compact => SEGMENT / 4 * 3,
            Reclaim::Evict => SEGMENT / 2,
        };
        match best {
            Some((victim, live)) if live as usize <= most && fits(live) => Some((victim, true)),
            _ if how == Reclaim::Compact => None,
            _ => Some((oldest.or((self.open != NIL).then_some(self.open))?, false)),
        }
    }

    /// Gives one segment back, if it can. With [`Reclaim::Evict`] that is: if there is one.
    pub fn reclaim(&mut self, how: Reclaim, now: u32) -> bool {
        let Some((victim, all)) = self.victim(how) else {
            return false;
        };
        if victim == self.open {
            self.open = NIL;
        }
        let used = self.space.meta(victim).used;
        let mut keep = SEGMENT / 2;
        let mut offset = 0usize;
        // CAST: u32 fits usize.
        while offset < used as usize {
            let at = At::new(victim, offset);
            let head = match self.head(at) {
                Some(head) if head.klen != 0 => head,
                _ => break,
            };
            offset = offset.saturating_add(head.size());
            if head.bits & DEAD != 0 {
                continue;
            }
            let hash = self.hash(self.key_of(at, &head));
            if head.expired(now) {
                self.counts.expired = self.counts.expired.wrapping_add(1);
            } else {
                let stays = all || (head.bits & HOT != 0 && head.size() <= keep);
                if stays && self.relocate(at, &head, hash) {
                    keep = keep.saturating_sub(head.size());
                    if self.space.meta(victim).live == 0 {
                        break;
                    }
                    continue;
                }
                self.counts.evicted = self.counts.evicted.wrapping_add(1);
                if head.bits & FETCHED == 0 {
                    self.counts.evicted_unfetched = self.counts.evicted_unfetched.wrapping_add(1);
                }
            }
            let last = self.space.meta(victim).live as usize <= head.size();
            self.kill(at, &head, hash);
            if last {
                // Nothing lived in it any more, so that it has been given back.
                return true;
            }
        }
        self.retire(victim);
        true
    }

    /// Forgets what has run out of time in the segment of this number. How many there were.
    pub fn sweep(&mut self, number: u32, now: u32) -> u64 {
        let used = if self.space.segment(number).is_empty() {
            0
        } else {
            // CAST: u32 fits usize.
            self.space.meta(number).used as usize
        };
        let mut gone = 0u64;
        let mut offset = 0usize;
        while offset < used {
            let at = At::new(number, offset);
            let head = match self.head(at) {
                Some(head) if head.klen != 0 => head,
                _ => break,
            };
            offset = offset.saturating_add(head.size());
            if head.bits & DEAD == 0 && head.expired(now) {
                let hash = self.hash(self.key_of(at, &head));
                self.kill(at, &head, hash);
                gone = gone.saturating_add(1);
            }
        }
        self.counts.expired = self.counts.expired.wrapping_add(gone);
        gone
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        while self.oldest != NIL {
            self.retire(self.oldest);
        }
        for bucket in 0..self.buckets.min(BUCKETS_MIN) {
            self.space.set_bucket(bucket, NIL);
        }
        self.space.drop_buckets(BUCKETS_MIN);
        self.space.forget_all();
        self.buckets = BUCKETS_MIN;
        self.items = 0;
        self.live = 0;
        self.large = 0;
    }

    /// Shows a part of the items to `each`; where to go on, 0 at the end. Begin with 0.
    ///
    /// The table may grow and shrink between two calls: what stays in the shard all the time is
    /// shown at least once. (The cursor counts with its highest bit first, so that the buckets
    /// that come of one that was shown, by growing, count as shown as well.)
    pub fn scan(&self, cursor: u32, mut each: impl FnMut(Item<'_, S::Large>)) -> u32 {
        self.scan_places(cursor, |_, item| each(item))
    }

    /// As [`scan`](Self::scan), with the items' places.
    pub fn scan_places(&self, cursor: u32, mut each: impl FnMut(At, Item<'_, S::Large>)) -> u32 {
        let half = 1u32 << (31u32.saturating_sub(self.buckets.leading_zeros()));
        let mask = half.wrapping_sub(1);
        let low = cursor & mask;
        let high = low.saturating_add(half);
        for bucket in [Some(low), (high < self.buckets).then_some(high)]
            .into_iter()
            .flatten()
        {
            let mut here = self.space.bucket(bucket);
            while here != NIL {
                let Some(head) = self.head(At(here)) else {
                    break;
                };
                if let Some(item) = self.item(At(here)) {
                    each(At(here), item);
                }
                here = head.next;
            }
        }
        (cursor | !mask)
            .reverse_bits()
            .wrapping_add(1)
            .reverse_bits()
    }
}

/// The digits of a number.
pub fn decimal(mut value: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    for place in room.iter_mut().rev() {
        // CAST: a digit.
        *place = b'0'.wrapping_add((value % 10) as u8);
        value /= 10;
        at = at.saturating_sub(1);
        if value == 0 {
            break;
        }
    }
    room.get(at..).unwrap_or(&[])
}

/// A number of 64 bits in decimal digits, nothing else.
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(value)
}
