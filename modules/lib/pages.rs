// SPDX-License-Identifier: GPL-2.0-only

//! Memory of the kernel that user space may map to read.

use core::ptr::NonNull;

use kernel::{
    alloc::{
        flags::__GFP_HIGHMEM,
        Flags, //
    },
    bindings,
    mm::virt::{
        flags as vm_flags,
        VmaNew, //
    },
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};

use super::{
    compat::write_barrier,
    zeroed::zeroed, //
};

/// A mapping that user space asks for.
pub struct Mapping<'a> {
    vma: &'a VmaNew,
}

impl<'a> Mapping<'a> {
    pub(super) fn new(vma: &'a VmaNew) -> Self {
        Mapping { vma }
    }

    /// First page of the file that the mapping shows.
    fn first_page(&self) -> usize {
        // SAFETY: The area is being set up by this thread, which may read its fields.
        unsafe { (*self.vma.as_ptr()).vm_pgoff }
    }

    fn pages(&self) -> usize {
        self.vma.end().saturating_sub(self.vma.start()) / PAGE_SIZE
    }
}

/// A run of zeroed pages, contiguous for the kernel, which user space can map but not change.
///
/// The kernel writes whole 64-bit words through shared references; readers in user space see each
/// word whole. The pages are freed when the last of this value and the mappings is gone: a mapping
/// holds references on its pages.
///
/// # Invariants
///
/// `words` points to `count` words of `_memory`, which is never resized; they are read and written
/// through this pointer alone, as volatile words.
pub struct SharedPages {
    words: NonNull<u64>,
    count: usize,
    _memory: VVec<u64>,
}

// SAFETY: The memory is not tied to a thread.
unsafe impl Send for SharedPages {}
// SAFETY: Words are only touched by volatile loads and stores of 64 bits; who writes which word
// when is up to the caller, and no memory error can follow from it.
unsafe impl Sync for SharedPages {}

const WORDS_PER_PAGE: usize = PAGE_SIZE / size_of::<u64>();

impl SharedPages {
    /// Allocates `pages` pages of zeros. `EINVAL` for none or for more than fit, `ENOMEM` without
    /// a warning in the log if there is not enough memory. May sleep.
    pub fn new(pages: usize, flags: Flags) -> Result<Self> {
        let count = pages.checked_mul(WORDS_PER_PAGE).ok_or(EINVAL)?;
        if count == 0 {
            return Err(EINVAL);
        }
        let mut memory: VVec<u64> = zeroed(count, flags)?;
        let words = NonNull::new(memory.as_mut_ptr()).ok_or(ENOMEM)?;
        // INVARIANT: The vector has just been made with `count` words, and is hidden from now on.
        Ok(SharedPages {
            words,
            count,
            _memory: memory,
        })
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.count.saturating_mul(size_of::<u64>())
    }

    /// Reads word `index`. `None` past the end.
    pub fn load(&self, index: usize) -> Option<u64> {
        // SAFETY: `index` is below `count`, so the word is in the memory by the invariant.
        (index < self.count).then(|| unsafe { self.words.add(index).as_ptr().read_volatile() })
    }

    /// Writes word `index`; nothing past the end. No ordering.
    pub fn store(&self, index: usize, value: u64) {
        if index < self.count {
            // SAFETY: As in `load`.
            unsafe { self.words.add(index).as_ptr().write_volatile(value) };
        }
    }

    /// Writes word `index` after everything that was written before.
    pub fn publish(&self, index: usize, value: u64) {
        write_barrier();
        self.store(index, value);
    }

    /// Writes a record of `1 + N` words at word `index` so that a reader can tell whether it got it
    /// whole: the first word becomes 0, then `body` is written, then the first word becomes `seq`.
    /// Nothing is written if it does not fit.
    pub fn write_record<const N: usize>(&self, index: usize, seq: u64, body: &[u64; N]) {
        if !index.checked_add(N).is_some_and(|last| last < self.count) {
            return;
        }
        // SAFETY: The words from `index` to `index + N` are below `count`, so in the memory.
        unsafe {
            let record = self.words.add(index).as_ptr();
            record.write_volatile(0);
            write_barrier();
            for (offset, value) in body.iter().enumerate() {
                record.add(1).add(offset).write_volatile(*value);
            }
            write_barrier();
            record.write_volatile(seq);
        }
    }

    /// Serves an mmap() of the pages from the first on: read-only, never executable, shared, gone
    /// in children, not in core dumps. `EPERM` for a writable or executable mapping, `EINVAL` for a
    /// private one, another offset, or more than there is. May sleep.
    pub fn map(&self, mapping: &Mapping<'_>) -> Result {
        let vma = mapping.vma;
        if vma.writable() || vma.executable() {
            return Err(EPERM);
        }
        // A private mapping, by the rule of is_cow_mapping() (include/linux/mm.h). SHARED alone is
        // off as well where the file is open for reading only, and the bindings' MAYSHARE has the
        // value of MAYEXEC (rust/bindings/bindings_helper.h, Linux 7.2).
        if vma.flags() & (vm_flags::SHARED | vm_flags::MAYWRITE) == vm_flags::MAYWRITE {
            return Err(EINVAL);
        }
        let pages = mapping.pages();
        if mapping.first_page() != 0 || pages > self.count / WORDS_PER_PAGE {
            return Err(EINVAL);
        }
        vma.try_clear_maywrite()?;
        vma.try_clear_mayexec()?;
        vma.set_dontexpand();
        vma.set_dontcopy();
        vma.set_dontdump();
        let area = vma.set_mixedmap();
        let start = self.words.as_ptr().cast::<u8>();
        for page in 0..pages {
            let offset = page.checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
            let address = vma.start().checked_add(offset).ok_or(EINVAL)?;
            // SAFETY: The page is below the number of pages, so the address is in the memory,
            // which is mapped by vmalloc and stays so while `self` lives.
            let raw = unsafe { bindings::vmalloc_to_page(start.add(offset).cast()) };
            if raw.is_null() {
                return Err(EFAULT);
            }
            // SAFETY: `Page` is a pointer to a `struct page`; the borrow is not dropped as an
            // owner would be. The mapping takes its own reference on the page.
            let raw = unsafe { kernel::page::BorrowedPage::from_raw(NonNull::new_unchecked(raw)) };
            let page: &Page = &raw;
            area.vm_insert_page(address, page)?;
        }
        Ok(())
    }
}

/// Memory of whole pages, zeroed, which need not be contiguous for the kernel: for much of it.
pub struct PageVec {
    pages: KVVec<Page>,
}

impl PageVec {
    /// Allocates memory for `bytes` bytes. `ENOMEM` without a warning in the log. May sleep.
    pub fn new(bytes: usize, flags: Flags) -> Result<Self> {
        let count = bytes.div_ceil(PAGE_SIZE);
        let mut pages = KVVec::with_capacity(count, flags | __GFP_NOWARN)?;
        for _ in 0..count {
            let page = Page::alloc_page(flags | __GFP_ZERO | __GFP_HIGHMEM | __GFP_NOWARN)?;
            pages.push(page, flags)?;
        }
        Ok(PageVec { pages })
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// The parts of pages that make up `length` bytes from `offset`: page, offset in it, length.
    fn parts(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut at = offset;
        let end = offset.saturating_add(length);
        core::iter::from_fn(move || {
            (at < end).then(|| {
                let inside = at % PAGE_SIZE;
                let part = (PAGE_SIZE - inside).min(end - at);
                let page = at / PAGE_SIZE;
                at += part;
                (page, inside, part)
            })
        })
    }

    /// Copies bytes out. `EINVAL` past the end. Does not sleep.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let mut to = to;
        for (page, inside, part) in Self::parts(offset, to.len()) {
            let page = self.pages.get(page).ok_or(EINVAL)?;
            let (now, rest) = to.split_at_mut_checked(part).ok_or(EINVAL)?;
            // SAFETY: The slice is valid for its length; nobody writes the page meanwhile, since
            // that takes `&mut self`.
            unsafe { page.read_raw(now.as_mut_ptr(), inside, part) }?;
            to = rest;
        }
        Ok(())
    }

    /// Copies bytes in. `EINVAL` past the end. Does not sleep.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        let mut from = from;
        for (page, inside, part) in Self::parts(offset, from.len()) {
            let page = self.pages.get(page).ok_or(EINVAL)?;
            let (now, rest) = from.split_at_checked(part).ok_or(EINVAL)?;
            // SAFETY: The slice is valid for its length; `&mut self` is the only access to the
            // page.
            unsafe { page.write_raw(now.as_ptr(), inside, part) }?;
            from = rest;
        }
        Ok(())
    }
}
