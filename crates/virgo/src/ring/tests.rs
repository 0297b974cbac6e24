// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::*;

const HEADER_WORDS: usize = 16;

/// A ring in ordinary memory, with a writer that does what the kernel does.
#[derive(Clone)]
struct Memory(Arc<Vec<AtomicU64>>);

impl AsRef<[AtomicU64]> for Memory {
    fn as_ref(&self) -> &[AtomicU64] {
        &self.0
    }
}

fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

impl Memory {
    fn new(capacity: u64) -> Self {
        let len = HEADER_WORDS + capacity as usize * WORDS;
        let words: Vec<_> = (0..len).map(|_| AtomicU64::new(0)).collect();
        let memory = Memory(Arc::new(words));
        memory.set(
            word::MAGIC_LAYOUT,
            pair(uapi::PROFILER_MAGIC, uapi::PROFILER_LAYOUT),
        );
        memory.set(word::SIZES, pair(HEADER_WORDS as u32 * 8, WORDS as u32 * 8));
        memory.set(word::CAPACITY, capacity);
        memory.set(word::RATE_REGISTERED, pair(20, 3));
        memory
    }

    fn set(&self, index: usize, value: u64) {
        self.0[index].store(value, Ordering::Release);
    }

    fn slot(&self, number: u64) -> usize {
        let capacity = self.0[word::CAPACITY].load(Ordering::Relaxed);
        HEADER_WORDS + (number % capacity) as usize * WORDS
    }

    /// The writer's first half: the record is torn from here on.
    fn begin(&self, number: u64) {
        self.0[self.slot(number)].store(0, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// The second half.
    fn finish(&self, number: u64) {
        let start = self.slot(number);
        let words = made(number).to_words(number + 1);
        for (offset, word) in words.iter().enumerate().skip(1) {
            self.0[start + offset].store(*word, Ordering::Relaxed);
        }
        self.set(start, number + 1);
        self.set(word::HEAD, number + 1);
    }

    fn write(&self, number: u64) {
        self.begin(number);
        self.finish(number);
    }
}

/// A sample whose every field is made from its number, so that a torn copy shows.
fn made(number: u64) -> Sample {
    Sample {
        id: number,
        time_ns: number.wrapping_mul(3),
        min_flt: number.wrapping_mul(5),
        maj_flt: number.wrapping_mul(7),
        utime_ns: number.wrapping_mul(11),
        stime_ns: number.wrapping_mul(13),
        rss_bytes: number.wrapping_mul(17),
        pid: number as u32,
        tid: (number as u32).wrapping_mul(19),
        state: b"RSDTtXZI"[(number % 8) as usize],
        flags: (number as u32).wrapping_mul(23),
        comm: crate::Comm(u128::from(number).wrapping_mul(29).to_ne_bytes()),
    }
}

fn all(reader: &mut Reader<Memory>) -> Vec<Record> {
    std::iter::from_fn(|| reader.next_record()).collect()
}

#[test]
fn an_empty_ring_gives_nothing() {
    let mut reader = Reader::new(Memory::new(5)).unwrap();
    assert_eq!(reader.next_record(), None);
    assert_eq!((reader.position(), reader.lost()), (0, 0));
    let header = reader.header();
    assert_eq!(
        (header.rate_hz, header.registered, header.capacity),
        (20, 3, 5)
    );
}

#[test]
fn records_come_in_order_over_the_wrap() {
    let memory = Memory::new(5);
    let mut reader = Reader::new(memory.clone()).unwrap();
    for number in 0..23 {
        memory.write(number);
        assert_eq!(reader.next_record(), Some(Record::Sample(made(number))));
        assert_eq!(reader.next_record(), None);
    }
}

#[test]
fn a_lapped_reader_knows_exactly_how_many_it_lost() {
    let memory = Memory::new(5);
    let mut reader = Reader::new(memory.clone()).unwrap();
    (0..23).for_each(|number| memory.write(number));
    let expected: Vec<_> = std::iter::once(Record::Lost(18))
        .chain((18..23).map(|number| Record::Sample(made(number))))
        .collect();
    assert_eq!(all(&mut reader), expected);
    assert_eq!(reader.lost(), 18);
}

#[test]
fn a_new_reader_begins_at_the_oldest_and_has_lost_nothing() {
    let memory = Memory::new(5);
    (0..23).for_each(|number| memory.write(number));
    let mut reader = Reader::new(memory).unwrap();
    assert_eq!(all(&mut reader).len(), 5);
    assert_eq!(reader.lost(), 0);
    reader.seek_oldest();
    assert_eq!(reader.position(), 18);
    reader.seek_head();
    assert_eq!(reader.next_record(), None);
}

#[test]
fn a_record_that_is_being_overwritten_is_lost_and_the_next_is_not() {
    let memory = Memory::new(5);
    let mut reader = Reader::new(memory.clone()).unwrap();
    (0..5).for_each(|number| memory.write(number));
    memory.begin(5);
    assert_eq!(reader.next_record(), Some(Record::Lost(1)));
    assert_eq!(reader.next_record(), Some(Record::Sample(made(1))));
    memory.finish(5);
    let rest: Vec<_> = (2..6).map(|number| Record::Sample(made(number))).collect();
    assert_eq!(all(&mut reader), rest);
}

#[test]
fn a_number_of_another_lap_is_not_taken() {
    let memory = Memory::new(3);
    let mut reader = Reader::new(memory.clone()).unwrap();
    memory.write(0);
    // The record of the next lap is there already, the head doesn't say so yet.
    memory.set(memory.slot(0), 4);
    assert_eq!(reader.next_record(), Some(Record::Lost(1)));
}

#[test]
fn readers_do_not_disturb_each_other() {
    let memory = Memory::new(7);
    let mut first = Reader::new(memory.clone()).unwrap();
    let mut second = Reader::new(memory.clone()).unwrap();
    (0..4).for_each(|number| memory.write(number));
    assert_eq!(all(&mut first).len(), 4);
    (4..9).for_each(|number| memory.write(number));
    assert_eq!(all(&mut first).len(), 5);
    assert_eq!(second.next_record(), Some(Record::Lost(2)));
    assert_eq!(all(&mut second).len(), 7);
    assert_eq!((first.lost(), second.lost()), (0, 2));
}

#[test]
fn headers_that_are_wrong_are_refused() {
    let cases: [(usize, u64, LayoutError); 9] = [
        (word::MAGIC_LAYOUT, 0, LayoutError::Magic(0)),
        (
            word::MAGIC_LAYOUT,
            pair(uapi::PROFILER_MAGIC, 2),
            LayoutError::Layout(2),
        ),
        (word::SIZES, pair(72, 96), LayoutError::Sizes),
        (word::SIZES, pair(81, 96), LayoutError::Sizes),
        (word::SIZES, pair(128, 88), LayoutError::Sizes),
        (word::SIZES, pair(128, 97), LayoutError::Sizes),
        (word::CAPACITY, 0, LayoutError::Sizes),
        (word::CAPACITY, 6, LayoutError::Short),
        (word::CAPACITY, u64::MAX, LayoutError::Short),
    ];
    for (index, value, expected) in cases {
        let memory = Memory::new(5);
        memory.set(index, value);
        assert_eq!(
            Reader::new(memory).err(),
            Some(expected),
            "word {index} = {value:#x}"
        );
    }
    let short = Memory(Arc::new(vec![AtomicU64::new(0)]));
    assert_eq!(Reader::new(short).err(), Some(LayoutError::Short));
}

#[test]
fn larger_records_of_a_later_kernel_are_read() {
    let memory = Memory::new(5);
    // The same memory taken as records of one word more: four of them fit.
    memory.set(
        word::SIZES,
        pair(HEADER_WORDS as u32 * 8, WORDS as u32 * 8 + 8),
    );
    memory.set(word::CAPACITY, 4);
    let start = HEADER_WORDS + WORDS + 1;
    for (offset, value) in made(1).to_words(2).iter().enumerate() {
        memory.set(start + offset, *value);
    }
    memory.set(word::HEAD, 2);
    let mut reader = Reader::new(memory).unwrap();
    assert_eq!(reader.next_record(), Some(Record::Lost(1)));
    assert_eq!(reader.next_record(), Some(Record::Sample(made(1))));
}

#[test]
fn no_reader_ever_sees_a_torn_record() {
    const RECORDS: u64 = 200_003;
    let memory = Memory::new(3);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let mut reader = Reader::new(memory.clone()).unwrap();
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let (mut seen, mut lost) = (0, 0);
                loop {
                    // Loaded before the ring is emptied, so that nothing written earlier is missed.
                    let last_round = done.load(Ordering::Acquire);
                    while let Some(record) = reader.next_record() {
                        match record {
                            Record::Sample(sample) => {
                                assert_eq!(sample, made(sample.id));
                                assert_eq!(sample.id + 1, reader.position());
                                seen += 1;
                            }
                            Record::Lost(count) => lost += count,
                        }
                    }
                    if last_round {
                        break;
                    }
                }
                assert_eq!(seen + lost, RECORDS);
                assert_eq!(lost, reader.lost());
            })
        })
        .collect();
    (0..RECORDS).for_each(|number| memory.write(number));
    done.store(true, Ordering::Release);
    for reader in readers {
        reader.join().unwrap();
    }
}

proptest! {
    #[test]
    fn words_and_samples_are_the_same(
        seq: u64, id: u64, time_ns: u64, min_flt: u64, maj_flt: u64, utime_ns: u64,
        stime_ns: u64, rss_bytes: u64, pid: u32, tid: u32, state in 0x21_u8..0x7f, flags: u32,
        comm: [u8; 16],
    ) {
        let sample = Sample {
            id, time_ns, min_flt, maj_flt, utime_ns, stime_ns, rss_bytes, pid, tid, state, flags,
            comm: crate::Comm(comm),
        };
        let words = sample.to_words(seq);
        prop_assert_eq!(words[0], seq);
        prop_assert_eq!(Sample::from_words(&words), sample);
    }

    /// Every record is returned or counted as lost, once and in order, however writing and
    /// reading take turns.
    #[test]
    fn nothing_is_missed_and_nothing_comes_twice(
        capacity in 1_u64..9,
        turns in prop::collection::vec((0_u64..20, 0_usize..20, any::<bool>()), 1..40),
    ) {
        let memory = Memory::new(capacity);
        let mut reader = Reader::new(memory.clone()).unwrap();
        let (mut written, mut expected, mut lost) = (0, 0, 0);
        for (writes, reads, torn) in turns {
            for _ in 0..writes {
                memory.write(written);
                written += 1;
            }
            if torn {
                memory.begin(written);
            }
            for _ in 0..reads {
                match reader.next_record() {
                    Some(Record::Sample(sample)) => {
                        prop_assert_eq!(sample, made(expected));
                        expected += 1;
                    }
                    Some(Record::Lost(count)) => {
                        prop_assert!(count > 0);
                        expected += count;
                        lost += count;
                    }
                    None => {
                        prop_assert_eq!(expected, written);
                        break;
                    }
                }
                prop_assert_eq!(reader.position(), expected);
                prop_assert_eq!(reader.lost(), lost);
            }
        }
        prop_assert!(expected <= written);
    }
}
