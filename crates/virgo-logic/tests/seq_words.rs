// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Words that are replaced while they are read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use virgo_logic::seq_words::SeqWords;

/// Whoever gets words gets those of one writing, and no older ones than before.
#[test]
fn readers_never_see_two_writings_at_once() {
    const WRITINGS: u64 = 300_000;
    let words = SeqWords::new([0, 0, !0]);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut last, mut seen) = (0, 0_u64);
                    loop {
                        let end = ended.load(Ordering::Acquire);
                        if let Some([a, b, c]) = words.read() {
                            assert_eq!((b, c), (a.wrapping_mul(3), !a));
                            assert!(a >= last, "{a} after {last}");
                            seen += u64::from(a != last);
                            last = a;
                        }
                        if end {
                            return (last, seen);
                        }
                    }
                })
            })
            .collect();
        for n in 0..WRITINGS {
            words.write([n, n.wrapping_mul(3), !n]);
        }
        ended.store(true, Ordering::Release);
        let mut seen = 0;
        for reader in readers {
            let (last, changes) = reader.join().expect("a reader");
            assert_eq!(last, WRITINGS - 1, "what was written last is there");
            seen += changes;
        }
        assert!(seen > 3, "they read while it was written: {seen}");
    });
}
