// SPDX-License-Identifier: GPL-2.0-only

//! Blocks of memory and the table of them.
//!
//! The table is a tree: fragments of 3,000 slots, made when there is no free slot and given back
//! when the last of a fragment's is free (but for the first). A block's handle says slot, generation and a random tag;
//! generations are never used twice while the module is loaded, so that the handle of a block that
//! was freed finds nothing, even where its slot, or its whole fragment, was made anew.
//!
//! The table's lock is held for a look-up; a block's own lock for a copy of at most a page, so
//! that bytes which lie in one page of a block are read and written whole. Longer ones may show
//! two writers' halves.

use kernel::{
    alloc::{
        flags::GFP_NOWAIT,
        Flags, //
    },
    page::PAGE_SIZE,
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
        compat::estale,
        event,
        pages::PageVec,
        random::random_u32,
        service::Module,
        spinlock::BhSpinLock,
        time::monotonic_ns,
        zeroed::zeroed, //
    },
    new_bh_spinlock,
    proto::uapi::{
        MemBlock,
        Vuid,
        MEM_BLOCK_MAX,
        MEM_F_STRIPE, //
    },
    remote::Stripes,
};

/// Slots of a fragment, as in the original's table.
const FRAGMENT: usize = 3000;
/// What a block takes beside its bytes, reckoned.
const BLOCK_COST: u64 = 128;
/// Blocks up to this many bytes lie in one piece of the kernel's heap.
const SMALL_MAX: usize = 2048;
/// The least and the most blocks that can be allowed.
pub(crate) const BLOCKS_MIN: u32 = 1;
pub(crate) const BLOCKS_MAX: u32 = 1 << 24;

/// Who made a block.
#[derive(Clone, Copy)]
pub(crate) struct Maker {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
}

impl Maker {
    /// A peer of the network.
    pub(crate) const NETWORK: Maker = Maker {
        uid: u32::MAX,
        pid: 0,
    };
}

/// A block's bytes.
enum Body {
    Small(KVVec<u8>),
    Pages(PageVec),
}

/// A block.
#[pin_data]
pub(crate) struct Block {
    length: usize,
    cost: u64,
    created_ns: u64,
    maker: Maker,
    /// Where its bytes are, if that is not here.
    stripes: Option<Stripes>,
    #[pin]
    body: BhSpinLock<Body>,
}

impl Block {
    /// Where the bytes are, if not here.
    pub(crate) fn stripes(&self) -> Option<&Stripes> {
        self.stripes.as_ref()
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Copies bytes out; how many, up to the block's end. `ERANGE` past it. Does not sleep.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Result<usize> {
        let left = self.length.checked_sub(offset).ok_or(ERANGE)?;
        let total = to.len().min(left);
        let mut done = 0usize;
        while done < total {
            let at = offset.saturating_add(done);
            let part = (PAGE_SIZE - at % PAGE_SIZE).min(total.saturating_sub(done));
            let to = to.get_mut(done..done.saturating_add(part)).ok_or(EINVAL)?;
            match &*self.body.lock() {
                Body::Small(bytes) => {
                    let from = bytes.get(at..at.saturating_add(part)).ok_or(EINVAL)?;
                    to.copy_from_slice(from);
                }
                Body::Pages(pages) => pages.read(at, to)?,
            }
            done = done.saturating_add(part);
        }
        Ok(total)
    }

    /// Whether so many bytes fit there. `ERANGE`.
    pub(crate) fn check(&self, offset: usize, length: usize) -> Result {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(ERANGE),
        }
    }

    /// Copies bytes in: all, or `ERANGE` and none. Does not sleep.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result {
        self.check(offset, from.len())?;
        let mut done = 0usize;
        while done < from.len() {
            let at = offset.saturating_add(done);
            let part = (PAGE_SIZE - at % PAGE_SIZE).min(from.len().saturating_sub(done));
            let from = from.get(done..done.saturating_add(part)).ok_or(EINVAL)?;
            match &mut *self.body.lock() {
                Body::Small(bytes) => bytes
                    .get_mut(at..at.saturating_add(part))
                    .ok_or(EINVAL)?
                    .copy_from_slice(from),
                Body::Pages(pages) => pages.write(at, from)?,
            }
            done = done.saturating_add(part);
        }
        Ok(())
    }
}

/// A place for a block.
struct Slot {
    generation: u32,
    tag: u32,
    block: Option<Arc<Block>>,
    /// The next free slot of the fragment, if this one is free.
    next: u16,
}

/// The end of a fragment's list of free slots.
const NO_SLOT: u16 = u16::MAX;

struct Fragment {
    slots: KVVec<Slot>,
    free: u16,
    used: u16,
}

impl Fragment {
    fn new(flags: Flags) -> Result<KBox<Self>> {
        let mut slots = KVVec::with_capacity(FRAGMENT, flags | __GFP_NOWARN)?;
        for number in 0..FRAGMENT {
            let next = if number + 1 < FRAGMENT {
                // CAST: below 3,000.
                (number + 1) as u16
            } else {
                NO_SLOT
            };
            let slot = Slot {
                generation: 0,
                tag: 0,
                block: None,
                next,
            };
            slots.push(slot, flags)?;
        }
        let fragment = Fragment {
            slots,
            free: 0,
            used: 0,
        };
        Ok(KBox::new(fragment, flags)?)
    }
}

/// The root of the tree.
struct Table {
    fragments: KVVec<Option<KBox<Fragment>>>,
    /// No fragment before this one has a free slot.
    first_free: usize,
    generation: u32,
    blocks: u64,
    bytes: u64,
    made: u64,
}

/// Figures of the blocks.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) made: u64,
}

/// Blocks and their bounds.
#[pin_data]
pub(crate) struct Blocks {
    limit: Atomic<u64>,
    most: Atomic<u32>,
    #[pin]
    table: BhSpinLock<Table>,
}

/// A handle taken apart.
struct Handle {
    node: u32,
    tag: u32,
    generation: u32,
    fragment: usize,
    slot: usize,
}

impl Handle {
    fn new(vuid: &Vuid) -> Handle {
        let [high, low] = vuid.word;
        // CAST: the halves of words; u32 fits usize.
        let slot = (low & 0xffff_ffff) as usize;
        Handle {
            node: (high >> 32) as u32,
            tag: high as u32,
            generation: (low >> 32) as u32,
            fragment: slot / FRAGMENT,
            slot: slot % FRAGMENT,
        }
    }

    fn vuid(&self) -> Vuid {
        let slot = self
            .fragment
            .saturating_mul(FRAGMENT)
            .saturating_add(self.slot);
        // CAST: at most BLOCKS_MAX slots.
        let low = u64::from(self.generation) << 32 | u64::from(slot as u32);
        Vuid {
            word: [u64::from(self.node) << 32 | u64::from(self.tag), low],
        }
    }
}

/// The node that a handle's block is on; 0 without a cluster.
pub(crate) fn node_of(vuid: &Vuid) -> u32 {
    Handle::new(vuid).node
}

/// The same handle, with the node in it, if it has none.
pub(crate) fn on_node(vuid: &Vuid, node: u32) -> Vuid {
    let handle = Handle::new(vuid);
    match handle.node {
        0 => Handle { node, ..handle }.vuid(),
        _ => *vuid,
    }
}

impl Blocks {
    pub(crate) fn new(limit: u64, most: u32) -> impl PinInit<Self> {
        pin_init!(Self {
            limit: Atomic::new(limit),
            most: Atomic::new(most),
            table <- new_bh_spinlock!(
                Table {
                    fragments: KVVec::new(),
                    first_free: 0,
                    generation: 0,
                    blocks: 0,
                    bytes: 0,
                    made: 0,
                },
                c"virgo_mempool_blocks"
            ),
        })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    pub(crate) fn most(&self) -> u32 {
        self.most.load(Relaxed)
    }

    /// `ERANGE`.
    pub(crate) fn set_most(&self, most: u32) -> Result {
        if !(BLOCKS_MIN..=BLOCKS_MAX).contains(&most) {
            return Err(ERANGE);
        }
        self.most.store(most, Relaxed);
        Ok(())
    }

    pub(crate) fn figures(&self) -> Figures {
        let table = self.table.lock();
        Figures {
            blocks: table.blocks,
            bytes: table.bytes,
            made: table.made,
        }
    }

    /// Makes a block of zeros. `EINVAL` for none, `EFBIG` over the longest, `ENOSPC` for a limit,
    /// `ENOMEM`. May sleep.
    pub(crate) fn malloc(
        &self,
        node: u32,
        length: u64,
        maker: Maker,
        flags: Flags,
    ) -> Result<Vuid> {
        if length == 0 {
            return Err(EINVAL);
        }
        if length > MEM_BLOCK_MAX {
            return Err(EFBIG);
        }
        let size = usize::try_from(length).map_err(|_| EFBIG)?;
        let whole = if size <= SMALL_MAX {
            length
        } else {
            // CAST: usize fits u64.
            length.next_multiple_of(PAGE_SIZE as u64)
        };
        self.reserve(node, size, whole, None, maker, flags)
    }

    /// Makes a block whose bytes are elsewhere. `ENOSPC`, `ENOMEM`. May sleep.
    pub(crate) fn adopt(
        &self,
        node: u32,
        length: usize,
        stripes: Stripes,
        maker: Maker,
        flags: Flags,
    ) -> Result<Vuid> {
        self.reserve(node, length, 0, Some(stripes), maker, flags)
    }

    /// Makes a block that takes `memory` bytes here, within the limits.
    fn reserve(
        &self,
        node: u32,
        size: usize,
        memory: u64,
        stripes: Option<Stripes>,
        maker: Maker,
        flags: Flags,
    ) -> Result<Vuid> {
        let cost = memory.saturating_add(BLOCK_COST);
        // Taken at once, so that many at a time do not pass the limit together.
        {
            let mut table = self.table.lock();
            let bytes = table.bytes.saturating_add(cost);
            if bytes > self.limit() || table.blocks >= self.most().into() {
                return Err(ENOSPC);
            }
            table.bytes = bytes;
            table.blocks = table.blocks.saturating_add(1);
        }
        let made = self.make(node, size, cost, stripes, maker, flags);
        if made.is_err() {
            let mut table = self.table.lock();
            table.bytes = table.bytes.saturating_sub(cost);
            table.blocks = table.blocks.saturating_sub(1);
        }
        made
    }

    fn make(
        &self,
        node: u32,
        length: usize,
        cost: u64,
        stripes: Option<Stripes>,
        maker: Maker,
        flags: Flags,
    ) -> Result<Vuid> {
        let body = if stripes.is_some() {
            Body::Small(KVVec::new())
        } else if length <= SMALL_MAX {
            Body::Small(zeroed(length, flags | __GFP_NOWARN)?)
        } else {
            Body::Pages(PageVec::new(length, flags)?)
        };
        let block = Arc::pin_init(
            pin_init!(Block {
                length,
                cost,
                created_ns: monotonic_ns(),
                maker,
                stripes,
                body <- new_bh_spinlock!(body, c"virgo_mempool_block"),
            }),
            flags,
        )?;
        let tag = random_u32();
        let mut spare = None;
        loop {
            let mut table = self.table.lock();
            if let Some(vuid) = table.place(node, tag, &block, &mut spare) {
                table.made = table.made.wrapping_add(1);
                drop(table);
                event::tell(Module::Mempool, b"malloc", format_args!("{length}"));
                return Ok(vuid);
            }
            drop(table);
            if spare.is_some() {
                // There was one, and no memory to keep it.
                return Err(ENOMEM);
            }
            spare = Some(Fragment::new(flags)?);
        }
    }

    /// Finds a block. `ESTALE`.
    pub(crate) fn find(&self, vuid: &Vuid) -> Result<Arc<Block>> {
        let handle = Handle::new(vuid);
        self.table
            .lock()
            .slot(&handle)
            .and_then(|slot| slot.block.clone())
            .ok_or(estale())
    }

    /// Gives a block back; who reads or writes it just now still can. The block, of which the parts
    /// elsewhere are the caller's to free. `ESTALE`.
    pub(crate) fn free(&self, vuid: &Vuid) -> Result<Arc<Block>> {
        let handle = Handle::new(vuid);
        let (block, fragment) = self.table.lock().take(&handle).ok_or(estale())?;
        event::tell(Module::Mempool, b"free", format_args!("{}", block.length));
        // Outside the lock: it may be much memory.
        drop(fragment);
        Ok(block)
    }

    /// Lists up to `most` blocks; how many there are. May sleep.
    pub(crate) fn list(&self, node: u32, most: usize) -> Result<(u64, KVVec<MemBlock>)> {
        let mut list = KVVec::new();
        loop {
            let count = self.figures().blocks;
            let room = usize::try_from(count).unwrap_or(usize::MAX).min(most);
            list.clear();
            list.reserve(room, GFP_KERNEL | __GFP_NOWARN)?;
            let table = self.table.lock();
            let mut complete = true;
            let slots = table
                .fragments
                .iter()
                .enumerate()
                .flat_map(|(number, slots)| {
                    let slots = slots.iter().flat_map(|fragment| fragment.slots.iter());
                    slots
                        .enumerate()
                        .map(move |(slot, place)| (number, slot, place))
                });
            for (fragment, slot, place) in slots {
                let Some(block) = &place.block else { continue };
                if list.len() >= most {
                    break;
                }
                if list.len() >= list.capacity() {
                    complete = false;
                    break;
                }
                let vuid = Handle {
                    node,
                    tag: place.tag,
                    generation: place.generation,
                    fragment,
                    slot,
                }
                .vuid();
                let entry = MemBlock {
                    vuid,
                    // CAST: usize fits u64.
                    length: block.length as u64,
                    created_ns: block.created_ns,
                    flags: if block.stripes.is_some() {
                        MEM_F_STRIPE
                    } else {
                        0
                    },
                    uid: block.maker.uid,
                    pid: block.maker.pid,
                    node,
                };
                list.push(entry, GFP_NOWAIT)?;
            }
            if complete {
                return Ok((table.blocks, list));
            }
        }
    }
}

impl Table {
    /// The slot of a handle, if the handle is of the block that is there.
    fn slot(&mut self, handle: &Handle) -> Option<&mut Slot> {
        self.fragments
            .get_mut(handle.fragment)?
            .as_mut()?
            .slots
            .get_mut(handle.slot)
            .filter(|slot| {
                slot.block.is_some()
                    && slot.generation == handle.generation
                    && slot.tag == handle.tag
            })
    }

    /// Puts a block into a free slot. `None`: there is none, and `spare` was not given or could
    /// not be kept.
    fn place(
        &mut self,
        node: u32,
        tag: u32,
        block: &Arc<Block>,
        spare: &mut Option<KBox<Fragment>>,
    ) -> Option<Vuid> {
        let with_room = |fragment: &Option<KBox<Fragment>>| {
            fragment
                .as_ref()
                .is_some_and(|fragment| fragment.free != NO_SLOT)
        };
        let count = self.fragments.len();
        let mut number = (self.first_free..count)
            .find(|number| self.fragments.get(*number).is_some_and(with_room));
        if number.is_none() {
            self.first_free = count;
            let fragment = spare.take()?;
            let gap = self.fragments.iter().position(Option::is_none);
            let place = gap.unwrap_or(count);
            if gap.is_none()
                && self
                    .fragments
                    .push(None, GFP_NOWAIT | __GFP_NOWARN)
                    .is_err()
            {
                *spare = Some(fragment);
                return None;
            }
            *self.fragments.get_mut(place)? = Some(fragment);
            number = Some(place);
        }
        let number = number?;
        self.first_free = number;
        let generation = self.generation.wrapping_add(1);
        let fragment: &mut Fragment = &mut *self.fragments.get_mut(number)?.as_mut()?;
        let index = usize::from(fragment.free);
        let slot = fragment.slots.get_mut(index)?;
        fragment.free = slot.next;
        slot.next = NO_SLOT;
        slot.generation = generation;
        slot.tag = tag;
        slot.block = Some(block.clone());
        fragment.used = fragment.used.saturating_add(1);
        self.generation = generation;
        let handle = Handle {
            node,
            tag,
            generation,
            fragment: number,
            slot: index,
        };
        Some(handle.vuid())
    }

    /// Takes a block out; and its fragment, if that is empty now.
    fn take(&mut self, handle: &Handle) -> Option<(Arc<Block>, Option<KBox<Fragment>>)> {
        let slot = self.slot(handle)?;
        let block = slot.block.take()?;
        self.bytes = self.bytes.saturating_sub(block.cost);
        self.blocks = self.blocks.saturating_sub(1);
        self.first_free = self.first_free.min(handle.fragment);
        let place = self.fragments.get_mut(handle.fragment)?;
        let fragment = place.as_mut()?;
        let free = fragment.free;
        if let Some(slot) = fragment.slots.get_mut(handle.slot) {
            slot.next = free;
        }
        // CAST: below 3,000.
        fragment.free = handle.slot as u16;
        fragment.used = fragment.used.saturating_sub(1);
        // The first one stays, so that one block made and freed in turn costs little.
        let empty = if fragment.used == 0 && handle.fragment > 0 {
            place.take()
        } else {
            None
        };
        while matches!(self.fragments.last(), Some(None)) {
            self.fragments.pop();
        }
        Some((block, empty))
    }
}
