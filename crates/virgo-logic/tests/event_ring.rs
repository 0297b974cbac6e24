// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The events' ring against a model, and with many writers at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use virgo_logic::event_ring::{pack, Pushed, Record, Ring, Slot, WORDS};

fn slots(count: u64) -> Vec<Slot> {
    (0..count).map(Slot::new).collect()
}

fn record(number: u64) -> Record {
    let mut record = [0; WORDS];
    for (index, word) in record.iter_mut().enumerate() {
        *word = number.wrapping_mul(index as u64 + 1);
    }
    record
}

proptest! {
    /// Pieces that are packed are the bytes one after the other.
    #[test]
    fn pieces_follow_one_another(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..5),
    ) {
        let mut words = [0; 10];
        let mut at = 0;
        for piece in &pieces {
            at = pack(&mut words, at, piece);
        }
        let mut all = pieces.concat();
        prop_assert_eq!(at, all.len());
        all.resize(80, 0);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        prop_assert_eq!(bytes, all);
    }

    /// Whatever is pushed and popped in turn, nothing is lost that is not counted, at its place.
    #[test]
    fn like_a_bounded_queue(steps in proptest::collection::vec(any::<bool>(), 1..300)) {
        let (ring, slots) = (Ring::new(), slots(8));
        let mut model: VecDeque<(u64, u64, u64)> = VecDeque::new();
        let (mut head, mut number, mut lost, mut first, mut dropped) = (0, 0, 0, 0, 0);
        for push in steps {
            if push {
                number += 1;
                let pushed = ring.push(&slots, &record(number), WORDS);
                if model.len() < slots.len() {
                    prop_assert!(matches!(pushed, Pushed::At(_)));
                    model.push_back((number, lost, first));
                    (lost, first) = (0, 0);
                } else {
                    prop_assert_eq!(pushed, Pushed::Dropped);
                    if lost == 0 {
                        first = number;
                    }
                    lost += 1;
                    dropped += 1;
                }
            } else {
                let got = ring.pop(&slots, &mut head);
                let expected = model.pop_front();
                prop_assert_eq!(got.map(|got| (got.record, got.lost)),
                    expected.map(|(n, lost, _)| (record(n), lost)));
                if let (Some(got), Some((_, 1.., first))) = (got, expected) {
                    prop_assert_eq!(got.first, first);
                }
            }
        }
        prop_assert_eq!(ring.dropped(), dropped);
        prop_assert_eq!(ring.trailing(), (lost, if lost == 0 { 0 } else { first }));
        prop_assert_eq!(ring.trailing().0, 0);
    }
}

/// Four writers and a reader that is too slow: each writer's records come in its own order, none
/// twice and none torn, and what is missing is the count that is told.
#[test]
fn many_writers() {
    // Miri is slow.
    let each: u64 = if cfg!(miri) { 200 } else { 200_000 };
    let (ring, slots) = (Ring::new(), slots(64));
    let done = AtomicBool::new(false);
    let (mut got, mut lost) = (0_u64, 0_u64);
    thread::scope(|scope| {
        let mut writers = Vec::new();
        for writer in 0..4_u64 {
            let (ring, slots) = (&ring, &slots);
            writers.push(scope.spawn(move || {
                for number in 1..=each {
                    let _ = ring.push(slots, &record((writer << 32) | number), WORDS);
                }
            }));
        }
        let (ring, slots, done, got, lost) = (&ring, &slots, &done, &mut got, &mut lost);
        let reader = scope.spawn(move || {
            let (mut head, mut last) = (0, [0_u64; 4]);
            loop {
                let over = done.load(Ordering::Acquire);
                let Some(popped) = ring.pop(slots, &mut head) else {
                    if over {
                        break;
                    }
                    thread::yield_now();
                    continue;
                };
                let [number, ..] = popped.record;
                assert_eq!(popped.record, record(number), "torn");
                let writer = (number >> 32) as usize;
                assert!(
                    number & 0xffff_ffff > last[writer],
                    "out of order, or twice"
                );
                last[writer] = number & 0xffff_ffff;
                *got += 1;
                *lost += popped.lost;
            }
        });
        for writer in writers {
            writer.join().expect("a writer");
        }
        done.store(true, Ordering::Release);
        reader.join().expect("the reader");
    });
    lost += ring.trailing().0;
    assert_eq!(got + lost, 4 * each);
    assert_eq!(lost, ring.dropped());
    assert_eq!(got, ring.written());
}

#[test]
fn short_records_leave_the_rest_alone() {
    let (ring, slots) = (Ring::new(), slots(1));
    let mut head = 0;
    assert_eq!(ring.push(&slots, &record(7), WORDS), Pushed::At(0));
    assert!(ring.pop(&slots, &mut head).is_some());
    assert_eq!(ring.push(&slots, &record(9), 3), Pushed::At(1));
    let got = ring.pop(&slots, &mut head).expect("it is there");
    assert_eq!(got.record[..3], record(9)[..3]);
    assert_eq!(got.record[3..], record(7)[3..]);
    // A ring without places takes nothing, and says so.
    assert_eq!(ring.push(&[], &record(1), WORDS), Pushed::Dropped);
}
