// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The split of the run time is exact in its sum and never runs back.

use proptest::prelude::*;
use virgo_logic::cputime::CpuTime;

#[test]
fn splits_by_the_ratio_of_the_ticks() {
    let time = CpuTime::default().advance(1_000_000, 3, 1);
    assert_eq!(time.user_ns, 750_000);
    assert_eq!(time.system_ns, 250_000);
    // No tick has hit it yet: all is user time, as the kernel's own rule has it.
    let time = CpuTime::default().advance(500, 0, 0);
    assert_eq!((time.user_ns, time.system_ns), (500, 0));
    let time = CpuTime::default().advance(500, 0, 4);
    assert_eq!((time.user_ns, time.system_ns), (0, 500));
}

#[test]
fn agrees_with_wide_arithmetic_where_the_product_overflows() {
    let exact = 40 * 365 * 86_400 * 1_000_000_000_u64;
    let (user, system) = (exact / 3 * 2, exact / 3);
    let time = CpuTime::default().advance(exact, user, system);
    let wide = u128::from(exact) * u128::from(system) / u128::from(user + system);
    let error = u128::from(time.system_ns).abs_diff(wide);
    assert!(error <= u128::from(exact >> 30), "off by {error}");
    assert_eq!(time.user_ns + time.system_ns, exact);
}

proptest! {
    #[test]
    fn sums_up_and_only_grows(
        steps in proptest::collection::vec((0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40), 1..40)
    ) {
        let mut time = CpuTime::default();
        let (mut exact, mut user, mut system) = (0, 0, 0);
        for (run, in_user, in_system) in steps {
            exact += run;
            user += in_user;
            system += in_system;
            let next = time.advance(exact, user, system);
            prop_assert_eq!(next.user_ns + next.system_ns, exact);
            prop_assert!(next.user_ns >= time.user_ns);
            prop_assert!(next.system_ns >= time.system_ns);
            time = next;
        }
    }
}
