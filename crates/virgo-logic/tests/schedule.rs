// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A steady rate has no drift, whatever the lateness.

use proptest::prelude::*;
use virgo_logic::schedule::{Next, Schedule, NSEC_PER_SEC};

#[test]
fn three_hertz_is_exact_every_second() {
    let mut schedule = Schedule::new(1_000, 3);
    let mut now = 1_000;
    let mut moments = Vec::new();
    for _ in 0..6 {
        let next = schedule.next(now);
        assert_eq!(next.missed, 0);
        moments.push(next.due_ns - 1_000);
        now = next.due_ns;
    }
    assert_eq!(
        moments,
        [
            333_333_333,
            666_666_666,
            1_000_000_000,
            1_333_333_333,
            1_666_666_666,
            2_000_000_000
        ]
    );
}

#[test]
fn lateness_below_a_period_skips_nothing() {
    let mut schedule = Schedule::new(0, 20);
    let mut now = 0;
    // 52 ms after each due moment's predecessor, as 13 jiffies at HZ=250 would have it.
    for round in 1..=1200_u64 {
        let next = schedule.next(now);
        assert_eq!(
            next,
            Next {
                due_ns: round * 50_000_000,
                missed: 0
            }
        );
        now = next.due_ns + 2_000_000;
    }
}

#[test]
fn rounds_that_passed_are_counted() {
    let mut schedule = Schedule::new(0, 20);
    assert_eq!(schedule.next(0).due_ns, 50_000_000);
    // The worker comes back after 7 further periods.
    let next = schedule.next(50_000_000 + 7 * 50_000_000 + 1);
    assert_eq!(next.missed, 7);
    assert_eq!(next.due_ns, 450_000_000);
}

proptest! {
    #[test]
    fn next_is_after_now_on_the_grid_and_nothing_is_uncounted(
        start in 0..1_u64 << 50,
        rate in 1..=1000_u32,
        steps in proptest::collection::vec(0..10 * NSEC_PER_SEC, 1..50),
    ) {
        let mut schedule = Schedule::new(start, rate);
        let mut now = start;
        let mut rounds = 0_u128;
        for step in steps {
            now += step;
            let next = schedule.next(now);
            prop_assert!(next.due_ns > now);
            rounds += u128::from(next.missed) + 1;
            let expected = u128::from(start) + rounds * u128::from(NSEC_PER_SEC) / u128::from(rate);
            prop_assert_eq!(u128::from(next.due_ns), expected);
            now = next.due_ns;
        }
    }
}
