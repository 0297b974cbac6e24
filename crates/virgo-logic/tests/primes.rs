// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! How many primes there are.

use proptest::prelude::*;
use virgo_logic::primes::{divisors, Count, MAX};

fn count(bound: u64, window: usize) -> u64 {
    let mut room = vec![0; divisors(bound).expect("not too large")];
    let mut window = vec![0; window];
    let mut count = Count::new(bound, &mut room, &mut window).expect("enough room");
    loop {
        if let Some(found) = count.advance() {
            return found;
        }
    }
}

#[test]
fn known_counts() {
    for (bound, expected) in [
        (0, 0),
        (2, 0),
        (3, 1),
        (4, 2),
        (5, 2),
        (10, 4),
        (100, 25),
        (1000, 168),
        (1_000_000, 78_498),
        (10_000_000, 664_579),
    ] {
        assert_eq!(count(bound, 1 << 15), expected, "below {bound}");
    }
}

#[test]
fn what_is_too_large_is_refused() {
    assert!(divisors(MAX).is_some());
    assert!(divisors(MAX + 1).is_none());
    assert!(Count::new(100, &mut [0; 2], &mut [0; 8]).is_none());
    assert!(Count::new(100, &mut [0; 20], &mut []).is_none());
}

proptest! {
    #[test]
    fn as_by_trial(bound in 0_u64..3000, window in 1_usize..200) {
        let prime = |n: &u64| *n > 1 && (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0);
        prop_assert_eq!(count(bound, window), (0..bound).filter(prime).count() as u64);
    }
}
