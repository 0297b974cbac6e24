// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Counting primes, a piece at a time: work for a processor that can be stopped between two pieces.
//!
//! The sieve of Eratosthenes over windows of odd numbers (C. Bays, R. Hudson, "The segmented sieve
//! of Eratosthenes and primes in arithmetic progressions to 10^12", BIT 17, 1977). Memory comes from
//! the caller.

/// The largest bound.
pub const MAX: u64 = 1_000_000_000_000;

/// The whole part of a square root.
fn root(value: u64) -> u64 {
    let mut low = 0_u64;
    let mut high = 1_u64 << 32;
    while low < high {
        let middle = low.saturating_add(high).saturating_add(1) / 2;
        if middle
            .checked_mul(middle)
            .is_some_and(|square| square <= value)
        {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    low
}

/// How many numbers the sieve of primes below `bound` needs for its divisors; `None` past [`MAX`].
pub fn divisors(bound: u64) -> Option<usize> {
    // At most half of the numbers up to the root, and a few more for small ones.
    (bound <= MAX)
        .then(|| usize::try_from(root(bound) / 2).ok())?
        .map(|half| half.saturating_add(2))
}

/// Primes below a bound, counted window by window.
#[derive(Debug)]
pub struct Count<'a> {
    bound: u64,
    next: u64,
    found: u64,
    divisors: &'a [u32],
    window: &'a mut [u8],
}

impl<'a> Count<'a> {
    /// Begins. `room` is for as many divisors as [`divisors`] says, `window` for a byte for each odd
    /// number of a window. `None` past [`MAX`], or with too little room.
    pub fn new(bound: u64, room: &'a mut [u32], window: &'a mut [u8]) -> Option<Self> {
        if room.len() < divisors(bound)? || window.is_empty() {
            return None;
        }
        let limit = root(bound);
        // Odd primes up to the root, by trial of those before.
        let mut count = 0_usize;
        let mut candidate = 3_u64;
        while candidate <= limit {
            let known = room.get(..count).unwrap_or(&[]);
            let prime = known
                .iter()
                .map(|prime| u64::from(*prime))
                .take_while(|prime| prime.saturating_mul(*prime) <= candidate)
                .all(|prime| candidate.checked_rem(prime) != Some(0));
            if prime {
                *room.get_mut(count)? = u32::try_from(candidate).ok()?;
                count = count.saturating_add(1);
            }
            candidate = candidate.saturating_add(2);
        }
        Some(Count {
            bound,
            next: 3,
            // The only even one.
            found: u64::from(bound > 2),
            divisors: room.get(..count)?,
            window,
        })
    }

    /// Sieves one window. The number of primes, once all are counted.
    pub fn advance(&mut self) -> Option<u64> {
        if self.next >= self.bound {
            return Some(self.found);
        }
        let start = self.next;
        let odds = u64::try_from(self.window.len()).unwrap_or(u64::MAX);
        let left = self.bound.saturating_sub(start).saturating_add(1) / 2;
        let size = usize::try_from(odds.min(left)).unwrap_or(0);
        let window = self.window.get_mut(..size).unwrap_or(&mut []);
        window.fill(1);
        let end = start.saturating_add(odds.min(left).saturating_mul(2));
        for prime in self.divisors.iter().map(|prime| u64::from(*prime)) {
            let square = prime.saturating_mul(prime);
            if square >= end {
                break;
            }
            let mut first = square;
            if square < start {
                // The first odd multiple in the window.
                first = start
                    .checked_add(prime.saturating_sub(1))
                    .and_then(|sum| sum.checked_div(prime))
                    .unwrap_or(0)
                    .saturating_mul(prime);
                if first % 2 == 0 {
                    first = first.saturating_add(prime);
                }
            }
            let offset = usize::try_from(first.saturating_sub(start) / 2).unwrap_or(usize::MAX);
            let step = usize::try_from(prime).unwrap_or(usize::MAX);
            for mark in window.iter_mut().skip(offset).step_by(step.max(1)) {
                *mark = 0;
            }
        }
        let found: u64 = window.iter().map(|mark| u64::from(*mark)).sum();
        self.found = self.found.saturating_add(found);
        self.next = end;
        (end >= self.bound).then_some(self.found)
    }
}
