// SPDX-License-Identifier: GPL-2.0-only

//! Tables of equal things, found by an index that stays the same while they live.
//!
//! The memory comes in blocks of about a page and goes back block by block, when the last thing in
//! one is gone: after a queue has been drained nothing of it is left.

use kernel::prelude::*;

use crate::logic::treap::NIL;

/// Something a [`Slab`] holds.
pub(crate) trait Item: Default {
    /// A field of a free item's that the slab may use.
    fn next_free(&mut self) -> &mut u32;
}

/// A block, or the place of one.
struct Block<T> {
    /// Empty, with no memory, where the block is not there.
    items: KVec<T>,
    /// How many are in use.
    used: u32,
    /// The first free one; [`NIL`]: none.
    free: u32,
}

/// The table. Its owner's lock guards it; adding to it may sleep, for memory.
pub(crate) struct Slab<T> {
    blocks: KVVec<Block<T>>,
    /// The lowest block that may have room.
    hint: usize,
    live: usize,
}

impl<T: Item> Slab<T> {
    /// How many items a block has.
    const PER: usize = {
        let per = 4096 / size_of::<T>();
        if per < 4 {
            4
        } else {
            per
        }
    };

    pub(crate) const fn new() -> Self {
        Slab {
            blocks: KVVec::new(),
            hint: 0,
            live: 0,
        }
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Bytes of memory that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().filter(|b| b.items.capacity() > 0);
        blocks
            .count()
            .saturating_mul(Self::PER)
            .saturating_mul(size_of::<T>())
            .saturating_add(self.blocks.capacity().saturating_mul(size_of::<Block<T>>()))
    }

    fn split(index: u32) -> (usize, usize) {
        // CAST: u32 fits usize on 64-bit.
        let index = index as usize;
        (index / Self::PER, index % Self::PER)
    }

    /// The item at an index; of a free one, nobody cares.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (block, place) = Self::split(index);
        self.blocks.get(block)?.items.get(place)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (block, place) = Self::split(index);
        self.blocks.get_mut(block)?.items.get_mut(place)
    }

    /// A block with a free item, made if need be.
    fn room(&mut self) -> Result<usize> {
        // From the front, so that the blocks at the end come free.
        while let Some(block) = self.blocks.get_mut(self.hint) {
            if block.items.is_empty() {
                Self::fill(block)?;
            }
            if block.free != NIL {
                return Ok(self.hint);
            }
            self.hint = self.hint.saturating_add(1);
        }
        let next = self.blocks.len();
        // An index must fit, and not be NIL.
        let end = next.checked_add(1).and_then(|n| n.checked_mul(Self::PER));
        if end.and_then(|end| u32::try_from(end).ok()).is_none() {
            return Err(ENOMEM);
        }
        let mut block = Block {
            items: KVec::new(),
            used: 0,
            free: NIL,
        };
        Self::fill(&mut block)?;
        self.blocks.push(block, GFP_KERNEL)?;
        self.hint = next;
        Ok(next)
    }

    fn fill(block: &mut Block<T>) -> Result {
        let mut items = KVec::with_capacity(Self::PER, GFP_KERNEL)?;
        for place in 0..Self::PER {
            let mut item = T::default();
            let next = place.saturating_add(1);
            *item.next_free() = if next < Self::PER {
                u32::try_from(next)?
            } else {
                NIL
            };
            items.push(item, GFP_KERNEL)?;
        }
        block.items = items;
        block.free = 0;
        block.used = 0;
        Ok(())
    }

    /// Adds an item; its index. `ENOMEM`.
    pub(crate) fn insert(&mut self, item: T) -> Result<u32> {
        let number = self.room()?;
        let block = self.blocks.get_mut(number).ok_or(ENOMEM)?;
        let place = block.free;
        // CAST: u32 fits usize on 64-bit.
        let slot = block.items.get_mut(place as usize).ok_or(ENOMEM)?;
        block.free = *slot.next_free();
        // A free item has no memory of its own, and to drop a vector without any is a call of the
        // allocator all the same.
        core::mem::forget(core::mem::replace(slot, item));
        block.used = block.used.saturating_add(1);
        self.live = self.live.saturating_add(1);
        let index = number
            .checked_mul(Self::PER)
            .and_then(|start| start.checked_add(place as usize))
            .ok_or(ENOMEM)?;
        Ok(u32::try_from(index)?)
    }

    /// Takes an item out, which is there.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        self.remove_with(index, core::mem::take)
    }

    /// Frees an item, which is there: `empty` takes what has memory of its own out of it. What that
    /// returns.
    pub(crate) fn remove_with<R>(
        &mut self,
        index: u32,
        empty: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let (number, place) = Self::split(index);
        let block = self.blocks.get_mut(number)?;
        let slot = block.items.get_mut(place)?;
        let left = empty(slot);
        *slot.next_free() = block.free;
        block.free = u32::try_from(place).ok()?;
        block.used = block.used.saturating_sub(1);
        self.live = self.live.saturating_sub(1);
        self.hint = self.hint.min(number);
        // An empty block goes, but one that is alone: a queue that is filled and emptied by ones
        // would do nothing else.
        if block.used == 0 && self.live > 0 {
            block.items = KVec::new();
            block.free = NIL;
        }
        let last_gone = |block: &Block<T>| block.items.is_empty();
        while self.blocks.last().is_some_and(last_gone) {
            self.blocks.pop();
        }
        // The list of blocks as well, once it is four times too long.
        let capacity = self.blocks.capacity();
        if capacity > 1024 && self.blocks.len() < capacity / 4 {
            let mut smaller = KVVec::new();
            // Without memory for it, it just stays as long as it is.
            if smaller
                .reserve(self.blocks.len().saturating_mul(2), GFP_KERNEL)
                .is_ok()
            {
                while let Some(block) = self.blocks.pop() {
                    if smaller.push(block, GFP_KERNEL).is_err() {
                        break;
                    }
                }
                smaller.reverse();
                self.blocks = smaller;
            }
        }
        Some(left)
    }
}
