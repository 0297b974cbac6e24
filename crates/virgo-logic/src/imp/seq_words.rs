// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A few words that one writer replaces and any number of readers see whole, none waiting for another.
//!
//! A sequence lock after H.-J. Boehm, "Can seqlocks get along with programming language memory models?"
//! (2012): the words are atomic for the sake of the language's memory model, not of the machine. A reader
//! that meets a writer is told so and does not try again by itself: it may have interrupted the writer on
//! its own processor, and would wait for ever.

use core::sync::atomic::{fence, AtomicU64, Ordering};

/// The words.
#[derive(Debug)]
pub struct SeqWords<const N: usize> {
    /// Odd while they are being replaced.
    turn: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> SeqWords<N> {
    /// These words.
    pub fn new(words: [u64; N]) -> Self {
        SeqWords {
            turn: AtomicU64::new(0),
            words: words.map(AtomicU64::new),
        }
    }

    /// The words; `None` while they are being replaced, or where they have been meanwhile. Any context.
    #[inline]
    pub fn read(&self) -> Option<[u64; N]> {
        let turn = self.turn.load(Ordering::Acquire);
        let mut words = [0; N];
        for (word, place) in words.iter_mut().zip(&self.words) {
            *word = place.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        (turn & 1 == 0 && self.turn.load(Ordering::Relaxed) == turn).then_some(words)
    }

    /// Replaces them. One writer at a time: the caller has a lock. Any context.
    pub fn write(&self, words: [u64; N]) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, place) in words.into_iter().zip(&self.words) {
            place.store(word, Ordering::Relaxed);
        }
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
    }
}
