// SPDX-License-Identifier: GPL-2.0-only

//! Short copies where they stand.
//!
//! The kernel's memcpy() is a call and, on many processors, a string instruction, which takes a while
//! to get going. Keys, numbers and small values are copied faster by words.

use core::ptr;

/// Longer ones are memcpy()'s.
const SHORT: usize = 512;

/// Copies `from` to `to`. Any context.
///
/// # Safety
///
/// `to` is writable for as many bytes, and they are not those of `from`.
#[inline(always)]
pub unsafe fn copy_short(from: &[u8], to: *mut u8) {
    let (start, length) = (from.as_ptr(), from.len());
    if length > SHORT {
        // SAFETY: By the function's safety requirements.
        unsafe { ptr::copy_nonoverlapping(start, to, length) };
        return;
    }
    // SAFETY: Wherever this reads and writes is within `length` bytes of both, by the comparison
    // before it; words need not lie where words do.
    unsafe {
        let pair = |at: usize| {
            let (from, to) = (start.add(at).cast::<u64>(), to.add(at).cast::<u64>());
            let (a, b) = (from.read_unaligned(), from.add(1).read_unaligned());
            to.write_unaligned(a);
            to.add(1).write_unaligned(b);
        };
        let mut at = 0usize;
        // Four words at a time: a loop of one would be made a call of memcpy() again.
        while length.wrapping_sub(at) >= 32 {
            pair(at);
            pair(at.wrapping_add(16));
            at = at.wrapping_add(32);
        }
        if length >= 16 {
            if length.wrapping_sub(at) > 16 {
                pair(at);
            }
            // The last ones, a second time where they are not whole words.
            pair(length.wrapping_sub(16));
        } else if length >= 8 {
            let last = length.wrapping_sub(8);
            let a = start.cast::<u64>().read_unaligned();
            let b = start.add(last).cast::<u64>().read_unaligned();
            to.cast::<u64>().write_unaligned(a);
            to.add(last).cast::<u64>().write_unaligned(b);
        } else if length >= 4 {
            let last = length.wrapping_sub(4);
            let a = start.cast::<u32>().read_unaligned();
            let b = start.add(last).cast::<u32>().read_unaligned();
            to.cast::<u32>().write_unaligned(a);
            to.add(last).cast::<u32>().write_unaligned(b);
        } else if length > 0 {
            let (a, b, c) = (
                *start,
                *start.add(length / 2),
                *start.add(length.wrapping_sub(1)),
            );
            *to = a;
            *to.add(length / 2) = b;
            *to.add(length.wrapping_sub(1)) = c;
        }
    }
}
