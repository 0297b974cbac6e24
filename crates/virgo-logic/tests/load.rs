// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A node's load, and the texts that it is read from.

use proptest::prelude::*;
use virgo_logic::load::{load, pressure, runnable};

#[test]
fn texts_of_the_kernel() {
    assert_eq!(runnable(b"0.52 0.58 0.59 3/977 12345\n"), Some(3));
    assert_eq!(runnable(b"0.52 0.58 0.59"), None);
    assert_eq!(runnable(b"0.52 0.58 0.59 x/977 1"), None);
    assert_eq!(runnable(b"0.52 0.58 0.59 99999999999/977 1"), None);
    let text = b"some avg10=12.34 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    assert_eq!(pressure(text), Some(123));
    assert_eq!(pressure(b"some avg10=100.00 avg60=1"), Some(1000));
    assert_eq!(pressure(b"full avg10=1.00"), None);
    assert_eq!(pressure(b"some avg10="), None);
}

#[test]
fn a_task_a_processor_is_a_thousand() {
    assert_eq!(load(4, 4, 0, 1 << 20, 1 << 20), 1000);
    assert_eq!(load(4, 4, 250, 1 << 20, 1 << 20), 1250);
    // Not known is nothing.
    assert_eq!(load(4, 4, u32::MAX, 1 << 20, 1 << 20), 1000);
    assert_eq!(load(0, 0, 0, 0, 0), 0);
    assert_eq!(load(0, 1, 0, 0, 1 << 20), 4000);
    assert_eq!(load(0, 1, 0, 1 << 15, 1 << 20), 2000);
}

proptest! {
    #[test]
    fn any_text(text: Vec<u8>) {
        let _ = runnable(&text);
        let _ = pressure(&text);
    }

    #[test]
    fn it_grows(runnable in 0_u32..100_000, cpus: u32, pressure in 0_u32..1000, free: u64, total: u64) {
        let now = load(runnable, cpus, pressure, free, total);
        prop_assert!(load(runnable + 1, cpus, pressure, free, total) >= now);
        prop_assert!(load(runnable, cpus, pressure + 1, free, total) > now);
        prop_assert!(load(runnable, cpus, pressure, free.saturating_sub(1), total) >= now);
    }
}
