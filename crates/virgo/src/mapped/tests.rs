// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The reader against a writer that does what the header file says of the kernel.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::*;

/// A table in memory of our own, and the kernel's side of it.
#[derive(Clone)]
struct Memory(Arc<Vec<AtomicU64>>);

impl AsRef<[AtomicU64]> for Memory {
    fn as_ref(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// Up to eight bytes as a little-endian number, padded with zeros.
fn padded(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

fn pair(low: u32, high: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&low.to_ne_bytes());
    bytes[4..].copy_from_slice(&high.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

const HEADER: usize = uapi::MEM_TABLE_HEADER_SIZE as usize / 8;
const SEED: u64 = 0xfeed_f00d;

impl Memory {
    fn new(slots: usize, slot_size: usize) -> Self {
        let words = HEADER + slots * slot_size / 8;
        let memory = Memory(Arc::new((0..words).map(|_| AtomicU64::new(0)).collect()));
        memory.store(
            word::MAGIC_LAYOUT,
            pair(uapi::MEM_TABLE_MAGIC, uapi::MEM_TABLE_LAYOUT),
        );
        memory.store(
            word::SIZES,
            pair(uapi::MEM_TABLE_HEADER_SIZE, slot_size as u32),
        );
        memory.store(word::SLOTS, slots as u64);
        memory.store(word::SEED, SEED);
        memory.store(word::PREFIX_LEN, pair(2, 0));
        memory.store(word::PREFIX, u64::from_ne_bytes(*b"k:\0\0\0\0\0\0"));
        memory
    }

    fn store(&self, at: usize, value: u64) {
        self.0[at].store(value, Ordering::Relaxed);
    }

    fn load(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Relaxed)
    }

    fn slots(&self) -> u64 {
        self.load(word::SLOTS)
    }

    fn slot_words(&self) -> usize {
        split(self.load(word::SIZES)).1 as usize / 8
    }

    fn start(&self, number: u64) -> usize {
        HEADER + (number % self.slots()) as usize * self.slot_words()
    }

    /// The slot that has the key, else one that is empty.
    fn place(&self, key: &[u8]) -> Option<usize> {
        let hash = plain_hash(SEED, key);
        let all = (0..u64::from(uapi::MEM_WINDOW)).map(|step| self.start(hash.wrapping_add(step)));
        let mut empty = None;
        for start in all {
            let own = self.load(start + slot::HASH);
            if own == hash {
                return Some(start);
            }
            if own == 0 && empty.is_none() {
                empty = Some(start);
            }
        }
        empty
    }

    fn put(&self, key: &[u8], value: &[u8], cas: u64, expire: u32) -> bool {
        let Some(start) = self.place(key) else {
            self.store(word::HIDDEN, self.load(word::HIDDEN) + 1);
            return false;
        };
        self.begin(start);
        self.fill(start, key, value, cas, expire);
        self.end(start);
        true
    }

    fn begin(&self, start: usize) {
        let seq = self.load(start + slot::SEQ);
        self.store(start + slot::SEQ, seq + 1);
        fence(Ordering::Release);
    }

    fn end(&self, start: usize) {
        let seq = self.load(start + slot::SEQ);
        self.0[start + slot::SEQ].store(seq + 1, Ordering::Release);
    }

    fn fill(&self, start: usize, key: &[u8], value: &[u8], cas: u64, expire: u32) {
        self.store(start + slot::HASH, plain_hash(SEED, key));
        self.store(start + slot::CAS, cas);
        self.store(start + slot::FLAGS_EXPIRE, pair(7, expire));
        self.store(
            start + slot::LENGTHS,
            pair(key.len() as u32, value.len() as u32),
        );
        let mut at = start + slot::COUNT;
        let end = start + self.slot_words();
        let key_words = key.len().div_ceil(8);
        let room = (self.slot_words() - slot::COUNT).saturating_sub(key_words) * 8;
        let value = if value.len() <= room { value } else { &[] };
        for part in [key, value] {
            for chunk in part.chunks(8) {
                assert!(at < end);
                self.store(at, padded(chunk).to_le());
                at += 1;
            }
        }
    }

    fn remove(&self, key: &[u8]) {
        let start = self.place(key).unwrap();
        self.begin(start);
        self.store(start + slot::HASH, 0);
        self.end(start);
    }
}

/// The hash again, from the words of the header file.
fn plain_hash(seed: u64, key: &[u8]) -> u64 {
    let mut hash = seed ^ (key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut padded_key = key.to_vec();
    while padded_key.len() % 8 != 0 {
        padded_key.push(0);
    }
    for at in (0..padded_key.len()).step_by(8) {
        let mut word = 0_u64;
        for (shift, byte) in padded_key[at..at + 8].iter().enumerate() {
            word |= u64::from(*byte) << (8 * shift);
        }
        hash = (hash ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^= hash >> 32;
    }
    if hash == 0 {
        1
    } else {
        hash
    }
}

fn table(memory: &Memory) -> Table<Memory> {
    Table::new(memory.clone()).unwrap()
}

#[test]
fn what_was_put_is_found_and_nothing_else() {
    let memory = Memory::new(64, 128);
    let table = table(&memory);
    let mut room = [0; 128];
    assert_eq!(table.look(b"k:1", &mut room), Look::Miss);
    assert!(memory.put(b"k:1", b"hello", 11, 0));
    assert_eq!(
        table.look(b"k:1", &mut room),
        Look::Hit(Hit {
            length: 5,
            flags: 7,
            cas: 11,
            ttl: None
        })
    );
    assert_eq!(&room[..5], b"hello");
    assert_eq!(table.look(b"k:2", &mut room), Look::Miss);
    assert_eq!(table.look(b"k:1\0", &mut room), Look::Miss);
    memory.put(b"k:1", b"", 12, 0);
    assert!(matches!(table.look(b"k:1", &mut []), Look::Hit(hit) if hit.length == 0));
    memory.remove(b"k:1");
    assert_eq!(table.look(b"k:1", &mut room), Look::Miss);
    assert_eq!(table.prefix(), b"k:");
}

#[test]
fn what_the_table_does_not_know_is_said() {
    let memory = Memory::new(8, 64);
    let table = table(&memory);
    let mut room = [0; 64];
    // 64 bytes less 40 of the head and 8 of the key.
    memory.put(b"k:fits", &[b'x'; 16], 1, 0);
    memory.put(b"k:long", &[b'x'; 17], 2, 0);
    assert!(matches!(table.look(b"k:fits", &mut room), Look::Hit(_)));
    assert_eq!(
        table.look(b"k:long", &mut room),
        Look::Unsure(Unsure::Long(17))
    );
    assert_eq!(
        table.look(b"k:fits", &mut room[..15]),
        Look::Unsure(Unsure::Long(16))
    );
    // Its time is over when the store's clock says so.
    memory.put(b"k:mortal", b"1", 3, 50);
    memory.store(word::CLOCK_CLOSED, pair(49, 0));
    assert!(matches!(table.look(b"k:mortal", &mut room), Look::Hit(hit) if hit.ttl == Some(1)));
    memory.store(word::CLOCK_CLOSED, pair(50, 0));
    assert_eq!(table.look(b"k:mortal", &mut room), Look::Miss);
    assert_eq!(table.shown().count(), 2);
    // Eight slots, each within reach of each key.
    for number in 0..5 {
        assert!(memory.put(format!("k:{number}").as_bytes(), b"v", 9, 0));
    }
    assert!(!memory.put(b"k:ninth", b"v", 9, 0));
    assert_eq!(
        table.look(b"k:ninth", &mut room),
        Look::Unsure(Unsure::Hidden)
    );
    assert!(matches!(table.look(b"k:3", &mut room), Look::Hit(_)));
    // One that is being written.
    let start = memory.place(b"k:3").unwrap();
    memory.begin(start);
    assert_eq!(table.look(b"k:3", &mut room), Look::Unsure(Unsure::Busy));
    memory.end(start);
    memory.store(word::CLOCK_CLOSED, pair(50, 1));
    assert_eq!(table.look(b"k:3", &mut room), Look::Unsure(Unsure::Closed));
    assert_eq!(table.look(b"k:9", &mut room), Look::Unsure(Unsure::Closed));
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let good = |change: &dyn Fn(&Memory)| {
        let memory = Memory::new(8, 64);
        change(&memory);
        Table::new(memory).map(drop)
    };
    assert_eq!(good(&|_| {}), Ok(()));
    let cases: [(&str, usize, u64); 9] = [
        ("magic", word::MAGIC_LAYOUT, pair(1, 1)),
        ("layout", word::MAGIC_LAYOUT, pair(uapi::MEM_TABLE_MAGIC, 2)),
        ("short header", word::SIZES, pair(64, 64)),
        ("odd header", word::SIZES, pair(4095, 64)),
        ("small slot", word::SIZES, pair(4096, 32)),
        ("slot no power of two", word::SIZES, pair(4096, 96)),
        ("slots no power of two", word::SLOTS, 7),
        ("more than there is", word::SLOTS, 16),
        ("far too many", word::SLOTS, 1 << 63),
    ];
    for (name, at, value) in cases {
        assert!(good(&|memory| memory.store(at, value)).is_err(), "{name}");
    }
    assert!(Table::new(Memory(Arc::new(Vec::new()))).is_err());
}

#[test]
fn a_reader_never_sees_a_mixture() {
    const KEYS: usize = 6;
    let memory = Memory::new(8, 256);
    let stop = Arc::new(AtomicBool::new(false));
    let key = |number: usize| format!("k:{number}");
    // Each value repeats its number, and is as long as it says.
    let value = |cas: u64| {
        let length = 1 + (cas as usize * 7) % 150;
        vec![cas as u8; length]
    };
    for number in 0..KEYS {
        memory.put(key(number).as_bytes(), &value(1), 1, 0);
    }
    let writer = {
        let (memory, stop) = (memory.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut cas = 1;
            while !stop.load(Ordering::Relaxed) {
                cas += 1;
                memory.put(key(cas as usize % KEYS).as_bytes(), &value(cas), cas, 0);
            }
            cas
        })
    };
    let table = table(&memory);
    let mut room = [0; 256];
    let mut last = HashMap::new();
    let (mut hits, mut busy) = (0, 0);
    while hits < 20_000 {
        let number = hits % KEYS;
        match table.look(key(number).as_bytes(), &mut room) {
            Look::Hit(hit) => {
                hits += 1;
                assert_eq!(room[..hit.length], value(hit.cas), "number {}", hit.cas);
                let before = last.insert(number, hit.cas).unwrap_or(0);
                assert!(hit.cas >= before, "it went back");
            }
            Look::Unsure(Unsure::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
        assert!(busy < 10_000_000, "it is always busy");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 1);
}

proptest! {
    #[test]
    fn the_hash_is_that_of_the_header_file(seed: u64, key in proptest::collection::vec(any::<u8>(), 0..=250)) {
        prop_assert_eq!(hash(seed, &key, rest(&key)), plain_hash(seed, &key));
    }

    #[test]
    fn a_table_is_a_map(
        operations in proptest::collection::vec(
            (0_u8..40, proptest::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..120),
    ) {
        let memory = Memory::new(64, 256);
        let table = table(&memory);
        let mut model = HashMap::new();
        let mut room = [0; 256];
        for (at, (name, value, delete)) in operations.into_iter().enumerate() {
            let key = vec![b'k'; 1 + usize::from(name)];
            if delete && model.remove(&key).is_some() {
                memory.remove(&key);
            } else if memory.put(&key, &value, at as u64, 0) {
                model.insert(key, (value, at as u64));
            }
        }
        for name in 0..40 {
            let key = vec![b'k'; 1 + name];
            match (model.get(&key), table.look(&key, &mut room)) {
                (Some((value, cas)), Look::Hit(hit)) => {
                    prop_assert_eq!(&room[..hit.length], &value[..]);
                    prop_assert_eq!(hit.cas, *cas);
                }
                (Some((value, _)), Look::Unsure(Unsure::Long(length))) => {
                    prop_assert_eq!(length, value.len());
                    prop_assert!(40 + key.len().next_multiple_of(8) + length > 256);
                }
                (None, Look::Miss) => {}
                (None, Look::Unsure(Unsure::Hidden)) => prop_assert!(table.counts().hidden > 0),
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(table.shown().count(), model.len());
    }

    #[test]
    fn any_memory_is_read_without_a_fault(
        words in proptest::collection::vec(any::<u64>(), 0..8 * 8),
        key in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let memory = Memory::new(8, 64);
        for (at, value) in words.into_iter().enumerate() {
            memory.store(HEADER + at, value);
        }
        let table = table(&memory);
        let mut room = [0; 64];
        let _ = table.look(&key, &mut room);
        let _ = table.shown().count();
    }
}
