// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The store's shard beside a plain map, on random requests.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use virgo_logic::kv::{
    is_large, Count, Large, Meta, Mode, Put, Reclaim, Refused, Shard, Space, Value, BUCKETS_MIN,
    SEGMENT, SHARED,
};
use virgo_logic::siphash::SipKey;

#[derive(Clone, Debug)]
struct Big(Rc<Vec<u8>>);

impl Large for Big {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn cost(&self) -> u64 {
        self.0.len() as u64 + 64
    }
}

#[derive(Default, Debug)]
struct Memory {
    segments: Vec<Option<Vec<u8>>>,
    metas: Vec<Meta>,
    buckets: Vec<u32>,
    larges: Vec<Option<Big>>,
    bucket_limit: usize,
    shared: HashSet<Vec<u8>>,
}

impl Memory {
    fn add(&mut self) -> u32 {
        let place = self.segments.iter().position(Option::is_none);
        let number = place.unwrap_or(self.segments.len());
        if place.is_none() {
            self.segments.push(None);
            self.metas.push(Meta::default());
        }
        // What was there before must not matter.
        self.segments[number] = Some(vec![0xa5; SEGMENT]);
        number as u32
    }

    fn held(&self) -> usize {
        self.segments.iter().flatten().count()
    }
}

impl Space for Memory {
    type Large = Big;

    fn segment(&self, number: u32) -> &[u8] {
        self.segments
            .get(number as usize)
            .and_then(Option::as_deref)
            .unwrap_or(&[])
    }

    fn segment_mut(&mut self, number: u32) -> &mut [u8] {
        self.segments
            .get_mut(number as usize)
            .and_then(Option::as_deref_mut)
            .unwrap_or(&mut [])
    }

    fn meta(&self, number: u32) -> Meta {
        self.metas[number as usize]
    }

    fn set_meta(&mut self, number: u32, meta: Meta) {
        self.metas[number as usize] = meta;
    }

    fn release(&mut self, number: u32) {
        assert!(
            self.segments[number as usize].take().is_some(),
            "released twice"
        );
    }

    fn bucket(&self, number: u32) -> u32 {
        self.buckets[number as usize]
    }

    fn set_bucket(&mut self, number: u32, value: u32) {
        self.buckets[number as usize] = value;
    }

    fn add_bucket(&mut self, number: u32) -> bool {
        assert_eq!(number as usize, self.buckets.len());
        if self.buckets.len() >= self.bucket_limit {
            return false;
        }
        self.buckets.push(u32::MAX);
        true
    }

    fn drop_buckets(&mut self, from: u32) {
        self.buckets.truncate(from as usize);
    }

    fn large(&self, number: u32) -> Option<&Big> {
        self.larges.get(number as usize)?.as_ref()
    }

    fn keep(&mut self, value: Big) -> Result<u32, Big> {
        self.larges.push(Some(value));
        Ok(self.larges.len() as u32 - 1)
    }

    fn forget(&mut self, number: u32) {
        assert!(
            self.larges[number as usize].take().is_some(),
            "forgotten twice"
        );
    }

    fn forget_all(&mut self) {
        self.larges.clear();
    }

    fn gone(&mut self, segment: u32, offset: usize, length: usize) {
        let key = self.segment(segment)[offset..offset + length].to_vec();
        assert!(self.shared.remove(&key), "{key:?} is not shared");
    }
}

fn shard(bucket_limit: usize) -> Shard<Memory> {
    let memory = Memory {
        buckets: vec![u32::MAX; BUCKETS_MIN as usize],
        bucket_limit,
        ..Memory::default()
    };
    Shard::new(memory, SipKey { k0: 1, k1: 2 }, 0, 1)
}

/// Repeats a request, with a new segment each time that there is no room.
fn with_room<T>(
    shard: &mut Shard<Memory>,
    mut request: impl FnMut(&mut Shard<Memory>) -> Result<T, Refused>,
) -> Result<T, Refused> {
    loop {
        match request(shard) {
            Err(Refused::Full) => {
                let number = shard.space.add();
                shard.supply(number);
            }
            other => return other,
        }
    }
}

fn put<'a>(shard: &Shard<Memory>, key: &'a [u8], value: &'a [u8], mode: Mode) -> Put<'a, Big> {
    Put {
        hash: shard.hash(key),
        key,
        value: if is_large(key.len(), value.len()) {
            Value::Large(Big(Rc::new(value.to_vec())))
        } else {
            Value::Bytes(value)
        },
        flags: 0,
        exp: 0,
        mode,
        cas: None,
        new_cas: None,
        invalidate: false,
        vivify: None,
        now: 1,
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    value: Vec<u8>,
    flags: u32,
    exp: u32,
    cas: u64,
}

fn check(shard: &mut Shard<Memory>, model: &HashMap<Vec<u8>, Known>, key: &[u8], now: u32) {
    let hash = shard.hash(key);
    let found = shard.find(hash, key, now);
    let known = model
        .get(key)
        .filter(|known| known.exp == 0 || known.exp > now);
    assert_eq!(found.is_some(), known.is_some(), "{key:?}");
    if let (Some(at), Some(known)) = (found, known) {
        let item = shard.item(at).expect("an item");
        assert_eq!(item.key, key);
        assert_eq!(item.value, &known.value[..]);
        assert_eq!(
            (item.flags, item.exp, item.cas),
            (known.flags, known.exp, known.cas)
        );
    }
}

fn scan_all(shard: &Shard<Memory>) -> HashSet<Vec<u8>> {
    let (mut cursor, mut keys) = (0, HashSet::new());
    loop {
        cursor = shard.scan(cursor, |item| {
            assert!(keys.insert(item.key.to_vec()), "told twice");
        });
        if cursor == 0 {
            return keys;
        }
    }
}

fn run(seed: u64, keys: u64, steps: u32, longest: u64, bucket_limit: usize) {
    let mut random = Random(seed);
    let mut shard = shard(bucket_limit);
    let mut model: HashMap<Vec<u8>, Known> = HashMap::new();
    let mut now = 1;
    for step in 0..steps {
        let number = random.below(keys);
        let mut key = format!("key{number}").into_bytes();
        key.resize(key.len() + (number % 40) as usize, b'.');
        let length = random.below(longest) as usize;
        let value = vec![random.below(256) as u8; length];
        let flags = if random.below(2) == 0 {
            0
        } else {
            random.below(1 << 32) as u32
        };
        let exp = if random.below(4) == 0 {
            now + random.below(20) as u32
        } else {
            0
        };
        let live = model
            .get(&key)
            .filter(|known| known.exp == 0 || known.exp > now)
            .cloned();
        match random.below(12) {
            0..=4 => {
                let mode = [Mode::Set, Mode::Add, Mode::Replace][random.below(3) as usize];
                let given = (random.below(4) == 0)
                    .then(|| live.as_ref().map_or(7, |known| known.cas ^ random.below(2)));
                let request = Put {
                    flags,
                    exp,
                    cas: given,
                    now,
                    ..put(&shard, &key, &value, mode)
                };
                let result = with_room(&mut shard, |shard| shard.put(&request));
                let expected = match (&live, mode, given) {
                    (Some(_), Mode::Add, _) => Err(Refused::NotStored),
                    (None, Mode::Set | Mode::Replace, Some(_)) => Err(Refused::NotFound),
                    (Some(known), _, Some(cas)) if cas != known.cas => Err(Refused::Exists),
                    (None, Mode::Replace, _) => Err(Refused::NotStored),
                    _ => Ok(()),
                };
                assert_eq!(result.map(|_| ()), expected);
                if let Ok(stored) = result {
                    let cas = stored.cas;
                    assert_eq!(stored.len as usize, value.len());
                    let known = Known {
                        value,
                        flags,
                        exp,
                        cas,
                    };
                    model.insert(key.clone(), known);
                }
            }
            5 | 6 => {
                let mode = [Mode::Append, Mode::Prepend][random.below(2) as usize];
                let short = &value[..value.len().min(50)];
                let request = Put {
                    now,
                    ..put(&shard, &key, short, mode)
                };
                let result = with_room(&mut shard, |shard| shard.put(&request));
                match (live, result) {
                    (None, result) => assert_eq!(result, Err(Refused::NotStored)),
                    (Some(mut known), Ok(stored)) => {
                        if mode == Mode::Append {
                            known.value.extend_from_slice(short);
                        } else {
                            known.value.splice(0..0, short.iter().copied());
                        }
                        known.cas = stored.cas;
                        model.insert(key.clone(), known);
                    }
                    (Some(known), result) => {
                        assert_eq!(result, Err(Refused::Joined));
                        assert!(is_large(key.len(), known.value.len() + short.len() + 4));
                    }
                }
            }
            7 => {
                let hash = shard.hash(&key);
                if let Some(at) = shard.find(hash, &key, now) {
                    shard.remove(at);
                }
                model.remove(&key);
            }
            8 => {
                shard.reclaim(Reclaim::Compact, now);
            }
            9 => {
                let request = Count {
                    hash: shard.hash(&key),
                    key: &key,
                    delta: random.below(1000),
                    decrement: random.below(2) == 0,
                    initial: Some((random.below(200), exp)),
                    cas: None,
                    new_cas: None,
                    now,
                };
                let result = with_room(&mut shard, |shard| shard.count(&request));
                match live {
                    None => {
                        let (value, stored) = result.expect("made");
                        assert_eq!(value, request.initial.expect("given").0);
                        let value = value.to_string().into_bytes();
                        let known = Known {
                            value,
                            flags: 0,
                            exp,
                            cas: stored.cas,
                        };
                        model.insert(key.clone(), known);
                    }
                    Some(mut known) => {
                        let old = std::str::from_utf8(&known.value)
                            .ok()
                            .and_then(|text| text.trim_end().parse::<u64>().ok());
                        match (old, result) {
                            (Some(old), Ok((value, stored))) => {
                                let expected = if request.decrement {
                                    old.saturating_sub(request.delta)
                                } else {
                                    old.wrapping_add(request.delta)
                                };
                                assert_eq!(value, expected);
                                let width = known.value.len();
                                known.value = format!("{value:<width$}").into_bytes();
                                known.cas = stored.cas;
                                model.insert(key.clone(), known);
                            }
                            (_, result) => assert_eq!(result.err(), Some(Refused::NotNumber)),
                        }
                    }
                }
            }
            10 => now += random.below(3) as u32,
            _ => {
                for number in 0..shard.space.segments.len() {
                    shard.sweep(number as u32, now);
                }
                model.retain(|_, known| known.exp == 0 || known.exp > now);
                assert_eq!(shard.items(), model.len() as u64);
                assert_eq!(scan_all(&shard), model.keys().cloned().collect());
            }
        }
        check(&mut shard, &model, &key, now);
        // Every other key is kept by someone else too, who must know of its end.
        let hash = shard.hash(&key);
        if number % 2 == 0 {
            let at = shard.find(hash, &key, now);
            if let Some(at) = at {
                shard.set_marks(at, SHARED, 0);
                shard.space.shared.insert(key.clone());
            }
            assert_eq!(at.is_some(), shard.space.shared.contains(&key));
        }
        assert!(shard.bytes() >= shard.large_bytes());
        assert_eq!(shard.segments() as usize, shard.space.held(), "step {step}");
    }
    for key in model.keys() {
        check(&mut shard, &model, key, now);
    }
    let big: u64 = shard.space.larges.iter().flatten().map(Large::cost).sum();
    assert_eq!(big, shard.large_bytes());
    shard.clear();
    assert_eq!(
        (shard.items(), shard.bytes(), shard.space.held()),
        (0, 0, 0)
    );
    assert!(scan_all(&shard).is_empty());
    model.clear();
    check(&mut shard, &model, b"key1", now);
}

const STEPS: u32 = if cfg!(miri) { 300 } else { 10_000 };

#[test]
fn does_what_a_map_does() {
    for seed in 1..4 {
        run(seed, 50, STEPS, 60, usize::MAX);
        run(seed + 100, 3000, STEPS, 200, usize::MAX);
        run(seed + 200, 60, STEPS, 12_000, usize::MAX);
        run(seed + 300, 2000, STEPS, 30, 100);
    }
}

#[test]
fn an_item_takes_68_bytes() {
    let mut shard = shard(usize::MAX);
    for number in 0..1000 {
        let key = format!("key{number:08}");
        let request = put(&shard, key.as_bytes(), &[7; 32], Mode::Set);
        with_room(&mut shard, |shard| shard.put(&request)).expect("stored");
    }
    assert_eq!(shard.bytes(), 68 * 1000);
    assert_eq!(shard.segments(), 3);
    assert_eq!(shard.buckets(), 1000);
}

#[test]
fn what_is_read_stays_and_the_rest_goes() {
    let mut shard = shard(usize::MAX);
    let keys: Vec<String> = (0..1700).map(|number| format!("key{number}")).collect();
    for key in &keys {
        let request = put(&shard, key.as_bytes(), &[7; 32], Mode::Set);
        with_room(&mut shard, |shard| shard.put(&request)).expect("stored");
    }
    let hot = &keys[10..20];
    for key in hot {
        let hash = shard.hash(key.as_bytes());
        let at = shard.find(hash, key.as_bytes(), 1).expect("there");
        shard.hit(at, 1);
    }
    let number = shard.space.add();
    shard.supply(number);
    let before = shard.segments();
    // The one that was open last has least in it, and all of that has room elsewhere.
    assert!(shard.reclaim(Reclaim::Evict, 1));
    assert_eq!((shard.segments(), shard.counts.evicted), (before - 1, 0));
    assert!(shard.reclaim(Reclaim::Evict, 1));
    assert_eq!(shard.segments(), before - 2);
    assert!(shard.counts.evicted > 100);
    for key in hot {
        let hash = shard.hash(key.as_bytes());
        assert!(shard.find(hash, key.as_bytes(), 1).is_some(), "{key}");
    }
    let hash = shard.hash(b"key0");
    assert!(shard.find(hash, b"key0", 1).is_none());
    // All of it can be given back.
    while shard.reclaim(Reclaim::Evict, 1) {}
    assert_eq!((shard.items(), shard.bytes(), shard.segments()), (0, 0, 0));
}

#[test]
fn a_table_which_grows_and_shrinks_is_scanned_without_a_gap() {
    let mut random = Random(99);
    for round in 0..20 {
        let mut shard = shard(usize::MAX);
        let stay: Vec<String> = (0..300).map(|n| format!("stay{n}")).collect();
        for key in &stay {
            let request = put(&shard, key.as_bytes(), b"x", Mode::Set);
            with_room(&mut shard, |shard| shard.put(&request)).expect("stored");
        }
        let mut seen = HashSet::new();
        let (mut cursor, mut others) = (0, 0u64);
        loop {
            cursor = shard.scan(cursor, |item| {
                seen.insert(item.key.to_vec());
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..random.below(12) {
                let key = format!("other{}", random.below(others.max(1) + 1));
                if (round % 2 == 0) == (random.below(8) != 0) {
                    others += 1;
                    let request = put(&shard, key.as_bytes(), b"x", Mode::Set);
                    with_room(&mut shard, |shard| shard.put(&request)).expect("stored");
                } else {
                    let hash = shard.hash(key.as_bytes());
                    if let Some(at) = shard.find(hash, key.as_bytes(), 1) {
                        shard.remove(at);
                    }
                }
            }
        }
        for key in &stay {
            assert!(seen.contains(key.as_bytes()), "{key} was not told");
        }
    }
}
