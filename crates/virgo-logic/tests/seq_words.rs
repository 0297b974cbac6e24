// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Words that are replaced while they are read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use virgo_logic::seq_words::SeqWords;

/// Whoever gets words gets those of one writing, and no older ones than before.
#[test]
fn readers_never_see_two_writings_at_once() {
    const WRITINGS: u64 = 100_000;
    const CHANGES: u64 = 100;
    let words = SeqWords::new([0, 0, !0]);
    let ended = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    loop {
                        let end = ended.load(Ordering::Acquire);
                        if let Some([a, b, c]) = words.read() {
                            assert_eq!((b, c), (a.wrapping_mul(3), !a));
                            assert!(a >= last, "{a} after {last}");
                            seen.fetch_add(u64::from(a != last), Ordering::Relaxed);
                            last = a;
                        }
                        if end {
                            return last;
                        }
                    }
                })
            })
            .collect();
        // As long as it takes them to have read while it is written, on a busy machine too.
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut n = 0;
        while n < WRITINGS || seen.load(Ordering::Relaxed) < CHANGES && Instant::now() < deadline {
            n += 1;
            words.write([n, n.wrapping_mul(3), !n]);
        }
        ended.store(true, Ordering::Release);
        for reader in readers {
            let last = reader.join().expect("a reader");
            assert_eq!(last, n, "what was written last is there");
        }
    });
    assert!(seen.into_inner() >= CHANGES);
}
