// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The local doors: ioctls and mapped namespaces.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use virgo_proto::uapi::{
    self, MemBlock, MemCount, MemDrop, MemFlush, MemFree, MemIo, MemList, MemMalloc, MemPut,
    MemScan, MemSeen, MemSettings, MemShare, MemSlot, MemStat, MemTable, MemTake, Vuid,
};
use virgo_tests::device::Device;
use virgo_tests::module;
use virgo_tests::script;
use virgo_tests::sys::{
    self, Area, Errno, Mapping, Res, EACCES, EAGAIN, EEXIST, EFAULT, EINVAL, ENODEV, ENOENT, EPERM,
    PAGE,
};

use crate::net::{pool, Client, MODULE};

const ESTALE: Errno = Errno(libc::ESTALE);
const ERANGE: Errno = Errno(libc::ERANGE);
const EFBIG: Errno = Errno(libc::EFBIG);
const ENOSPC: Errno = Errno(libc::ENOSPC);
const EMSGSIZE: Errno = Errno(libc::EMSGSIZE);
const EDOM: Errno = Errno(libc::EDOM);
const ENAMETOOLONG: Errno = Errno(libc::ENAMETOOLONG);

macro_rules! sized {
    ($type:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $type { size: size_of::<$type>() as u32, $($field: $value,)* ..$type::default() }
    };
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn malloc(device: &Device, length: u64) -> Res<Vuid> {
    let mut request = sized!(MemMalloc { length: length });
    sys::ioctl(device, uapi::MEM_IOC_MALLOC, &mut request).map(|_| request.vuid)
}

fn set(device: &Device, vuid: Vuid, offset: u64, bytes: &[u8]) -> Res<u64> {
    let mut request = sized!(MemIo {
        vuid: vuid,
        offset: offset,
        length: bytes.len() as u64,
        address: address(bytes),
    });
    sys::ioctl(device, uapi::MEM_IOC_SET, &mut request).map(|_| request.length)
}

fn get(device: &Device, vuid: Vuid, offset: u64, length: usize) -> Res<Vec<u8>> {
    let mut bytes = vec![0xee; length];
    let mut request = sized!(MemIo {
        vuid: vuid,
        offset: offset,
        length: length as u64,
        address: bytes.as_mut_ptr() as u64,
    });
    sys::ioctl(device, uapi::MEM_IOC_GET, &mut request)?;
    bytes.truncate(request.length as usize);
    Ok(bytes)
}

fn free(device: &Device, vuid: Vuid) -> Res<()> {
    let mut request = sized!(MemFree { vuid: vuid });
    sys::ioctl(device, uapi::MEM_IOC_FREE, &mut request).map(drop)
}

fn list(device: &Device, capacity: usize) -> (u32, Vec<MemBlock>) {
    let mut bytes = vec![0; capacity * size_of::<MemBlock>()];
    let mut request = sized!(MemList {
        entries: bytes.as_mut_ptr() as u64,
        capacity: capacity as u32,
    });
    sys::ioctl(device, uapi::MEM_IOC_LIST, &mut request).expect("the list");
    let stored = (request.count as usize).min(capacity);
    let entries = bytes
        .chunks_exact(size_of::<MemBlock>())
        .take(stored)
        .map(sys::from_bytes)
        .collect();
    (request.count, entries)
}

fn stat(device: &Device) -> MemStat {
    let mut stat = sized!(MemStat {});
    sys::ioctl(device, uapi::MEM_IOC_STAT, &mut stat).expect("the figures");
    stat
}

fn good_put(key: &[u8], value: &[u8]) -> MemPut {
    sized!(MemPut {
        key: address(key),
        key_len: key.len() as u32,
        value: address(value),
        value_len: value.len() as u32,
    })
}

fn put(device: &Device, mut request: MemPut) -> Res<u64> {
    sys::ioctl(device, uapi::MEM_IOC_PUT, &mut request).map(|_| request.cas)
}

fn take(device: &Device, key: &[u8], capacity: usize) -> Res<(Vec<u8>, MemTake)> {
    let mut value = vec![0xee; capacity];
    let mut request = sized!(MemTake {
        key: address(key),
        key_len: key.len() as u32,
        value: value.as_mut_ptr() as u64,
        capacity: capacity as u32,
    });
    sys::ioctl(device, uapi::MEM_IOC_TAKE, &mut request)?;
    assert!(value[request.value_len as usize..]
        .iter()
        .all(|byte| *byte == 0xee));
    value.truncate(request.value_len as usize);
    Ok((value, request))
}

#[test]
fn blocks_by_ioctl() {
    let _pool = pool("block_mb=80");
    for path in [uapi::DEVICE, uapi::MEMPOOL_DEVICE] {
        let device = Device::open(path).unwrap();
        for length in [1_u64, 2048, 2049, 100_000, 64 << 20] {
            let vuid = malloc(&device, length).unwrap();
            let bytes: Vec<u8> = (0..length.min(300_000))
                .map(|n| (n * 13 + n / 251) as u8)
                .collect();
            assert_eq!(
                get(&device, vuid, 0, 10),
                Ok(vec![0; 10.min(length as usize)])
            );
            assert_eq!(set(&device, vuid, 0, &bytes), Ok(bytes.len() as u64));
            assert_eq!(get(&device, vuid, 0, bytes.len()).unwrap(), bytes);
            let end = length - 1;
            assert_eq!(set(&device, vuid, end, b"z"), Ok(1));
            assert_eq!(get(&device, vuid, end, 100), Ok(b"z".to_vec()));
            assert_eq!(get(&device, vuid, length, 100), Ok(Vec::new()));
            assert_eq!(set(&device, vuid, length, b"z"), Err(ERANGE));
            assert_eq!(set(&device, vuid, end, b"zz"), Err(ERANGE));
            for offset in [length + 1, 1 << 31, 1 << 63, u64::MAX] {
                if offset > length {
                    assert_eq!(get(&device, vuid, offset, 1), Err(ERANGE));
                    assert_eq!(set(&device, vuid, offset, b"z"), Err(ERANGE));
                }
            }
            let (count, entries) = list(&device, 10);
            assert_eq!((count, entries.len()), (1, 1));
            assert_eq!((entries[0].vuid, entries[0].length), (vuid, length));
            assert_eq!(entries[0].pid, std::process::id());
            assert_eq!(list(&device, 0), (1, Vec::new()));
            assert_eq!(free(&device, vuid), Ok(()));
            assert_eq!(free(&device, vuid), Err(ESTALE));
            assert_eq!(get(&device, vuid, 0, 1), Err(ESTALE));
            assert_eq!(set(&device, vuid, 0, b"z"), Err(ESTALE));
        }
        assert_eq!(malloc(&device, 0), Err(EINVAL));
        assert_eq!(malloc(&device, (64 << 20) + 1), Err(EFBIG));
        assert_eq!(malloc(&device, u64::MAX), Err(EFBIG));
        let most = malloc(&device, 64 << 20).unwrap();
        assert_eq!(malloc(&device, 64 << 20), Err(ENOSPC));
        free(&device, most).unwrap();
        // Handles that were made up.
        for word in [[0, 0], [u64::MAX; 2], [0, 1 << 32], [1 << 32, 1]] {
            assert_eq!(get(&device, Vuid { word }, 0, 1), Err(ESTALE));
            assert_eq!(free(&device, Vuid { word }), Err(ESTALE));
        }
        let stat = stat(&device);
        assert_eq!((stat.blocks, stat.block_bytes), (0, 0));
    }
}

/// Without a cluster the one node that there is, is the choice of each way to choose.
#[test]
fn blocks_by_policy_on_one_node() {
    let _pool = pool("");
    let device = Device::control();
    for policy in [
        uapi::MEM_POLICY_DEFAULT,
        uapi::MEM_POLICY_LEAST_LOADED,
        uapi::MEM_POLICY_RANDOM,
        uapi::MEM_POLICY_TWO_CHOICES,
    ] {
        let mut request = sized!(MemMalloc {
            flags: uapi::MEM_F_POLICY,
            policy: policy,
            length: 10,
        });
        assert_eq!(
            sys::ioctl(&device, uapi::MEM_IOC_MALLOC, &mut request),
            Ok(0),
            "policy {policy}"
        );
        assert_eq!(set(&device, request.vuid, 0, b"0123456789"), Ok(10));
        assert_eq!(get(&device, request.vuid, 5, 10), Ok(b"56789".to_vec()));
        assert_eq!(free(&device, request.vuid), Ok(()));
    }
    assert_eq!(stat(&device).blocks, 0);
}

#[test]
fn the_table_of_blocks_grows_and_shrinks() {
    let _pool = pool("");
    let device = Device::control();
    // More than two fragments of it.
    let mut vuids: Vec<Vuid> = (0..7000).map(|_| malloc(&device, 16).unwrap()).collect();
    for (n, vuid) in vuids.iter().enumerate() {
        set(&device, *vuid, 0, &n.to_le_bytes()).unwrap();
    }
    let (count, entries) = list(&device, 8000);
    assert_eq!((count, entries.len()), (7000, 7000));
    for (n, vuid) in vuids.iter().enumerate() {
        assert_eq!(get(&device, *vuid, 0, 8).unwrap(), n.to_le_bytes());
    }
    // Every other one goes, and others come in their places, with other handles.
    let old: Vec<Vuid> = vuids.iter().copied().step_by(2).collect();
    for vuid in &old {
        free(&device, *vuid).unwrap();
    }
    vuids = vuids.into_iter().skip(1).step_by(2).collect();
    for _ in 0..old.len() {
        vuids.push(malloc(&device, 16).unwrap());
    }
    for vuid in &old {
        assert_eq!(get(&device, *vuid, 0, 8), Err(ESTALE));
        assert!(!vuids.contains(vuid));
    }
    for vuid in &vuids {
        free(&device, *vuid).unwrap();
    }
    assert_eq!(stat(&device).block_bytes, 0);
    assert_eq!(list(&device, 10), (0, Vec::new()));
}

#[test]
fn named_values_by_ioctl_and_by_port() {
    let _pool = pool("");
    let device = Device::control();
    let mut client = Client::new();
    let cas = put(&device, good_put(b"key", b"value")).unwrap();
    client.expect(
        "gets key\r\n",
        format!("VALUE key 0 5 {cas}\r\nvalue\r\nEND\r\n"),
    );
    client.expect(format!("cas key 7 100 3 {cas}\r\nnew\r\n"), "STORED\r\n");
    let (value, taken) = take(&device, b"key", 100).unwrap();
    assert_eq!((value.as_slice(), taken.item_flags), (&b"new"[..], 7));
    assert!((98..=100).contains(&taken.exptime), "{}", taken.exptime);
    client.expect("mg key c\r\n", format!("HD c{}\r\n", taken.cas));
    assert_eq!(take(&device, b"other", 100).err(), Some(ENOENT));
    assert_eq!(take(&device, b"key", 2).err(), Some(EMSGSIZE));
    // Each way to store.
    let with = |mode: u32, value: &[u8]| MemPut {
        mode,
        ..good_put(b"key", value)
    };
    assert_eq!(put(&device, with(uapi::MEM_PUT_ADD, b"x")), Err(EEXIST));
    put(&device, with(uapi::MEM_PUT_APPEND, b"er")).unwrap();
    put(&device, with(uapi::MEM_PUT_PREPEND, b"re")).unwrap();
    assert_eq!(take(&device, b"key", 100).unwrap().0, b"renewer");
    put(&device, with(uapi::MEM_PUT_REPLACE, b"r")).unwrap();
    let old = MemPut {
        cas: taken.cas,
        ..with(uapi::MEM_PUT_CAS, b"c")
    };
    assert_eq!(put(&device, old), Err(ESTALE));
    let (_, now) = take(&device, b"key", 100).unwrap();
    let cas = put(
        &device,
        MemPut {
            cas: now.cas,
            ..old
        },
    )
    .unwrap();
    assert!(cas != now.cas);
    let other = MemPut {
        mode: uapi::MEM_PUT_REPLACE,
        ..good_put(b"other", b"x")
    };
    for mode in [
        uapi::MEM_PUT_REPLACE,
        uapi::MEM_PUT_APPEND,
        uapi::MEM_PUT_PREPEND,
    ] {
        assert_eq!(put(&device, MemPut { mode, ..other }), Err(ENOENT));
    }
    let mode = uapi::MEM_PUT_CAS;
    assert_eq!(
        put(
            &device,
            MemPut {
                mode,
                cas: 1,
                ..other
            }
        ),
        Err(ENOENT)
    );
    // Deleted only as it is, and once.
    let mut gone = sized!(MemDrop {
        key: address(b"key"),
        key_len: 3,
        cas: cas + 1,
    });
    assert_eq!(
        sys::ioctl(&device, uapi::MEM_IOC_DROP, &mut gone),
        Err(ESTALE)
    );
    gone.cas = cas;
    assert_eq!(sys::ioctl(&device, uapi::MEM_IOC_DROP, &mut gone), Ok(0));
    assert_eq!(
        sys::ioctl(&device, uapi::MEM_IOC_DROP, &mut gone),
        Err(ENOENT)
    );
    client.expect("get key\r\n", "END\r\n");
    // Numbers.
    let mut count = sized!(MemCount {
        key: address(b"n"),
        key_len: 1,
        delta: 5,
    });
    let run = |count: &mut MemCount| sys::ioctl(&device, uapi::MEM_IOC_COUNT, count);
    assert_eq!(run(&mut count), Err(ENOENT));
    count.flags = uapi::MEM_F_CREATE;
    count.initial = 40;
    assert_eq!(run(&mut count), Ok(0));
    assert_eq!(count.value, 40);
    count.cas = 0;
    assert_eq!(run(&mut count), Ok(0));
    assert_eq!(count.value, 45);
    client.expect("get n\r\n", "VALUE n 0 2\r\n45\r\nEND\r\n");
    client.expect("set n 0 0 1\r\nx\r\n", "STORED\r\n");
    assert_eq!(run(&mut count), Err(EDOM));
    // Values of every size, both ways.
    for length in [0_usize, 1, 511, 512, 513, 8000, 8200, 100_000, 1_000_000] {
        let value: Vec<u8> = (0..length).map(|n| (n * 3 + n / 256) as u8).collect();
        put(&device, good_put(b"long", &value)).unwrap();
        assert_eq!(take(&device, b"long", length + 10).unwrap().0, value);
        assert_eq!(take(&device, b"long", length).unwrap().0, value);
        let mut answer = format!("VA {length}\r\n").into_bytes();
        answer.extend_from_slice(&value);
        answer.extend_from_slice(b"\r\n");
        client.expect("mg long v\r\n", answer);
    }
    let mut flush = sized!(MemFlush {});
    sys::ioctl(&device, uapi::MEM_IOC_FLUSH, &mut flush).unwrap();
    assert_eq!(stat(&device).items, 0);
}

#[test]
fn limits_and_bad_arguments_of_named_values() {
    let _pool = pool("");
    let device = Device::control();
    let key = [b'k'; 300];
    let long = MemPut {
        key_len: 251,
        ..good_put(&key, b"x")
    };
    assert_eq!(put(&device, long), Err(ENAMETOOLONG));
    assert_eq!(
        put(
            &device,
            MemPut {
                key_len: 250,
                ..long
            }
        )
        .map(|_| ()),
        Ok(())
    );
    assert_eq!(put(&device, MemPut { key_len: 0, ..long }), Err(EINVAL));
    assert_eq!(
        put(
            &device,
            MemPut {
                key_len: u32::MAX,
                ..long
            }
        ),
        Err(ENAMETOOLONG)
    );
    let good = good_put(b"k", b"x");
    assert_eq!(
        put(
            &device,
            MemPut {
                value_len: 1 << 20,
                ..good
            }
        ),
        Err(EFBIG)
    );
    assert_eq!(
        put(
            &device,
            MemPut {
                value_len: u32::MAX,
                ..good
            }
        ),
        Err(EFBIG)
    );
    assert_eq!(put(&device, MemPut { value: 8, ..good }), Err(EFAULT));
    assert_eq!(put(&device, MemPut { key: 8, ..good }), Err(EFAULT));
    assert_eq!(put(&device, MemPut { mode: 6, ..good }), Err(EINVAL));
    assert_eq!(put(&device, MemPut { flags: 1, ..good }), Err(EINVAL));
    assert_eq!(put(&device, MemPut { cas: 1, ..good }), Err(EINVAL));
    assert_eq!(
        put(
            &device,
            MemPut {
                reserved0: 1,
                ..good
            }
        ),
        Err(EINVAL)
    );
    assert_eq!(put(&device, MemPut { size: 8, ..good }), Err(EINVAL));
    // The bounds can be read by all, and set by few.
    let mut settings = sized!(MemSettings {});
    sys::ioctl(&device, uapi::MEM_IOC_SETTINGS, &mut settings).unwrap();
    assert_eq!(
        (settings.item_max, settings.memory_limit),
        (1 << 20, 64 << 20)
    );
    assert_eq!((settings.port, settings.max_connections), (30000, 1024));
    settings.flags = uapi::MEM_SET_ITEM_MAX | uapi::MEM_SET_MEMORY_LIMIT;
    settings.item_max = 4 << 20;
    settings.memory_limit = 32 << 20;
    let refused = sys::as_user(1000, || {
        let mut settings = settings;
        sys::ioctl(&device, uapi::MEM_IOC_SETTINGS, &mut settings)
    });
    assert_eq!(refused, Err(EPERM));
    sys::ioctl(&device, uapi::MEM_IOC_SETTINGS, &mut settings).unwrap();
    assert_eq!(
        (settings.item_max, settings.memory_limit),
        (4 << 20, 32 << 20)
    );
    let large = vec![1; 3 << 20];
    put(&device, good_put(b"k", &large)).unwrap();
    assert_eq!(take(&device, b"k", 4 << 20).unwrap().0, large);
    settings.item_max = 1;
    assert_eq!(
        sys::ioctl(&device, uapi::MEM_IOC_SETTINGS, &mut settings),
        Err(ERANGE)
    );
    // Without the module, nothing.
    module::unload(MODULE).unwrap();
    assert_eq!(put(&device, good), Err(ENODEV));
    module::load(MODULE, "").unwrap();
}

#[test]
fn scanning_tells_every_value() {
    let _pool = pool("");
    let device = Device::control();
    let mut expected = std::collections::BTreeMap::new();
    for n in 0..3000_usize {
        let key = format!("key{n}");
        let value = vec![n as u8; n % 500];
        put(
            &device,
            MemPut {
                item_flags: n as u32,
                ..good_put(key.as_bytes(), &value)
            },
        )
        .unwrap();
        expected.insert(key.into_bytes(), value);
    }
    put(&device, good_put(b"large", &[7; 50_000])).unwrap();
    expected.insert(b"large".to_vec(), vec![7; 50_000]);
    for keys_only in [false, true] {
        let mut found = std::collections::BTreeMap::new();
        let mut room = vec![0_u64; 60_000 / 8];
        let mut scan = sized!(MemScan {
            flags: if keys_only { uapi::MEM_F_KEYS_ONLY } else { 0 },
            buffer: room.as_mut_ptr() as u64,
            capacity: 60_000,
        });
        loop {
            sys::ioctl(&device, uapi::MEM_IOC_SCAN, &mut scan).unwrap();
            let bytes: Vec<u8> = room.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let mut at = 0;
            for _ in 0..scan.count {
                let head: [u32; 4] = std::array::from_fn(|n| {
                    u32::from_ne_bytes(bytes[at + n * 4..at + n * 4 + 4].try_into().unwrap())
                });
                let [length, key_len, value_len, _] = head.map(|word| word as usize);
                let key = bytes[at + 32..at + 32 + key_len].to_vec();
                let value = if keys_only {
                    &[][..]
                } else {
                    &bytes[at + 32 + key_len..at + 32 + key_len + value_len]
                };
                assert!(found.insert(key, value.to_vec()).is_none(), "told twice");
                at += length;
            }
            assert_eq!(at, scan.used as usize);
            if scan.cursor == 0 {
                break;
            }
        }
        assert!(found.keys().eq(expected.keys()));
        if !keys_only {
            assert_eq!(found, expected);
        }
    }
    let mut room = [0_u64; 4];
    let mut scan = sized!(MemScan {
        buffer: room.as_mut_ptr() as u64,
        capacity: 32,
    });
    assert_eq!(
        sys::ioctl(&device, uapi::MEM_IOC_SCAN, &mut scan),
        Err(EMSGSIZE)
    );
    assert!(scan.needed > 32);
}

/// A mapped namespace.
struct Table {
    device: Device,
    map: Mapping,
    share: MemShare,
}

const HEADER: usize = uapi::MEM_TABLE_HEADER_SIZE as usize;

fn share(device: &Device, prefix: &[u8], flags: u32, slots: u64, slot_size: u32) -> Res<MemShare> {
    let mut share = sized!(MemShare {
        flags: flags,
        prefix: address(prefix),
        prefix_len: prefix.len() as u32,
        slots: slots,
        slot_size: slot_size,
    });
    sys::ioctl(device, uapi::MEM_IOC_SHARE, &mut share).map(|_| share)
}

impl Table {
    fn new(prefix: &[u8], flags: u32, slots: u64, slot_size: u32) -> Table {
        let device = Device::open(uapi::MEMPOOL_DEVICE).unwrap();
        let share = share(&device, prefix, flags, slots, slot_size).unwrap();
        let length = share.map_bytes as usize;
        let map = Mapping::new(&device, length, libc::PROT_READ, libc::MAP_SHARED, 0).unwrap();
        Table { device, map, share }
    }

    fn header(&self, offset: usize) -> u64 {
        self.map.word(offset)
    }

    fn hidden(&self) -> u64 {
        self.header(std::mem::offset_of!(MemTable, hidden))
    }

    fn items(&self) -> u64 {
        self.header(std::mem::offset_of!(MemTable, items))
    }

    fn changes(&self) -> u64 {
        self.header(std::mem::offset_of!(MemTable, changes))
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let seed = self.header(std::mem::offset_of!(MemTable, seed));
        let mut h = seed ^ (key.len() as u64).wrapping_mul(uapi::MEM_HASH_1);
        for chunk in key.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            h = (h ^ u64::from_le_bytes(word)).wrapping_mul(uapi::MEM_HASH_2);
            h ^= h >> 32;
        }
        h.max(1)
    }

    /// By the header's words: `None` for a miss.
    fn get(&self, key: &[u8]) -> Option<(Vec<u8>, MemSlot)> {
        let hash = self.hash(key);
        let clock = (self.header(std::mem::offset_of!(MemTable, clock_s)) & 0xffff_ffff) as u32;
        for step in 0..u64::from(uapi::MEM_WINDOW) {
            let slot = hash.wrapping_add(step) % self.share.slots;
            let at = HEADER + slot as usize * self.share.slot_size as usize;
            loop {
                let before = self.map.word(at);
                std::sync::atomic::fence(Ordering::Acquire);
                if before % 2 == 1 {
                    continue;
                }
                let words: [u64; 5] = std::array::from_fn(|n| self.map.word(at + n * 8));
                let slot = MemSlot {
                    seq: words[0],
                    hash: words[1],
                    cas: words[2],
                    item_flags: words[3] as u32,
                    expire: (words[3] >> 32) as u32,
                    key_len: words[4] as u32,
                    value_len: (words[4] >> 32) as u32,
                };
                if slot.hash != hash {
                    break;
                }
                let room = self.share.slot_size as usize - 40;
                let key_room = (slot.key_len as usize).div_ceil(8) * 8;
                let total = (key_room + slot.value_len as usize).div_ceil(8) * 8;
                let bytes: Vec<u8> = (0..total.min(room) / 8)
                    .flat_map(|n| self.map.word(at + 40 + n * 8).to_ne_bytes())
                    .collect();
                std::sync::atomic::fence(Ordering::Acquire);
                if self.map.word(at) != before {
                    continue;
                }
                if bytes.get(..slot.key_len as usize) != Some(key) {
                    break;
                }
                if slot.expire != 0 && slot.expire <= clock {
                    return None;
                }
                let value = bytes.get(key_room..key_room + slot.value_len as usize);
                return Some((value.unwrap_or(b"elsewhere").to_vec(), slot));
            }
        }
        None
    }
}

#[test]
fn a_shared_namespace_shows_what_every_door_stores() {
    let _pool = pool("");
    let mut client = Client::new();
    client.expect("set cfg:before 3 0 5\r\nearly\r\n", "STORED\r\n");
    let table = Table::new(b"cfg:", uapi::MEM_SHARE_CREATE, 0, 0);
    assert_eq!((table.share.slots, table.share.slot_size), (4096, 256));
    assert_eq!(table.get(b"cfg:before").unwrap().0, b"early");
    assert_eq!(table.get(b"cfg:none"), None);
    let control = Device::control();
    let cas = put(&control, good_put(b"cfg:a", b"one")).unwrap();
    let (value, slot) = table.get(b"cfg:a").unwrap();
    assert_eq!(
        (value.as_slice(), slot.cas, slot.item_flags),
        (&b"one"[..], cas, 0)
    );
    client.expect("set cfg:a 9 0 3\r\ntwo\r\n", "STORED\r\n");
    let (value, slot) = table.get(b"cfg:a").unwrap();
    assert_eq!((value.as_slice(), slot.item_flags), (&b"two"[..], 9));
    client.expect("mg cfg:a c\r\n", format!("HD c{}\r\n", slot.cas));
    client.expect("append cfg:a 0 0 1\r\n!\r\n", "STORED\r\n");
    assert_eq!(table.get(b"cfg:a").unwrap().0, b"two!");
    client.expect(
        "set cfg:n 0 0 1\r\n9\r\nincr cfg:n 1\r\n",
        "STORED\r\n10\r\n",
    );
    assert_eq!(table.get(b"cfg:n").unwrap().0, b"10");
    client.expect("ms cfg:m 3\r\nabc\r\n", "HD\r\n");
    assert_eq!(table.get(b"cfg:m").unwrap().0, b"abc");
    client.expect("set other 0 0 1\r\nx\r\n", "STORED\r\n");
    assert_eq!(table.get(b"other"), None);
    assert_eq!((table.items(), table.hidden()), (4, 0));
    client.expect("delete cfg:a\r\n", "DELETED\r\n");
    assert_eq!(table.get(b"cfg:a"), None);
    // Time: by the table's own clock.
    client.expect("touch cfg:m 1\r\n", "TOUCHED\r\n");
    assert!(virgo_tests::wait_until(virgo_tests::SOON, || table
        .get(b"cfg:m")
        .is_none()));
    // Longer than a slot: told to be elsewhere.
    let long = "x".repeat(300);
    client.expect(format!("set cfg:long 0 0 300\r\n{long}\r\n"), "STORED\r\n");
    assert_eq!(table.get(b"cfg:long").unwrap().0, b"elsewhere");
    client.expect("flush_all\r\n", "OK\r\n");
    assert_eq!((table.items(), table.hidden()), (0, 0));
    assert_eq!(table.get(b"cfg:before"), None);
    client.expect("set cfg:z 0 0 1\r\nz\r\n", "STORED\r\n");
    assert_eq!(table.get(b"cfg:z").unwrap().0, b"z");
}

#[test]
fn a_change_wakes_who_polls() {
    let _pool = pool("");
    let table = Table::new(b"cfg:", uapi::MEM_SHARE_CREATE, 8, 64);
    let mut client = Client::new();
    assert!(!table.device.readable(0));
    client.expect("set other 0 0 1\r\nx\r\n", "STORED\r\n");
    assert!(!table.device.readable(0));
    let waiter = thread::spawn(move || {
        assert!(table.device.readable(60_000));
        table
    });
    client.expect("set cfg:a 0 0 1\r\nx\r\n", "STORED\r\n");
    let table = waiter.join().expect("woken");
    let mut seen = sized!(MemSeen {
        changes: table.changes()
    });
    sys::ioctl(&table.device, uapi::MEM_IOC_SEEN, &mut seen).unwrap();
    assert!(!table.device.readable(0));
    seen.changes += 1;
    assert_eq!(
        sys::ioctl(&table.device, uapi::MEM_IOC_SEEN, &mut seen),
        Err(EINVAL)
    );
    client.expect("delete cfg:a\r\n", "DELETED\r\n");
    assert!(table.device.readable(60_000));
    // Taken down: told, by poll and in the table.
    let control = Device::control();
    share(&control, b"cfg:", uapi::MEM_SHARE_REMOVE, 0, 0).unwrap();
    assert!(table.device.readable(60_000));
    assert_eq!(
        table.header(std::mem::offset_of!(MemTable, clock_s)) >> 32,
        1
    );
    assert_eq!(
        share(&control, b"cfg:", uapi::MEM_SHARE_REMOVE, 0, 0).err(),
        Some(ENOENT)
    );
    client.expect("set cfg:a 0 0 1\r\nx\r\n", "STORED\r\n");
    assert_eq!(table.get(b"cfg:a"), None);
    // The module stays while the file is open, and the mapping has the table then.
    assert_eq!(module::unload(MODULE), Err(EAGAIN));
}

#[test]
fn a_full_table_says_so() {
    let _pool = pool("");
    let table = Table::new(b"t", uapi::MEM_SHARE_CREATE, 8, 64);
    let mut client = Client::new();
    for n in 0..20 {
        client.expect(format!("set t{n} 0 0 2\r\nxx\r\n"), "STORED\r\n");
    }
    // All slots are in one window.
    assert_eq!((table.items(), table.hidden()), (8, 12));
    // A change of what is hidden is no other.
    for n in 0..20 {
        client.expect(format!("set t{n} 0 0 3\r\nyyy\r\n"), "STORED\r\n");
    }
    assert_eq!((table.items(), table.hidden()), (8, 12));
    for n in 0..20 {
        client.expect(format!("delete t{n}\r\n"), "DELETED\r\n");
    }
    assert_eq!((table.items(), table.hidden()), (0, 0));
    // A key that is too long for the slots is hidden too.
    let key = "t".repeat(30);
    client.expect(format!("set {key} 0 0 1\r\nx\r\n"), "STORED\r\n");
    assert_eq!((table.items(), table.hidden()), (0, 1));
}

#[test]
fn namespaces_have_bounds_and_owners() {
    let _pool = pool("share_mb=1");
    let control = Device::control();
    let open = || Device::open(uapi::MEMPOOL_DEVICE).unwrap();
    let create = uapi::MEM_SHARE_CREATE;
    assert_eq!(share(&control, b"a", create, 0, 0).err(), Some(EINVAL));
    assert_eq!(share(&open(), b"a", 0, 0, 0).err(), Some(ENOENT));
    assert_eq!(share(&open(), b"", create, 0, 0).err(), Some(EINVAL));
    assert_eq!(share(&open(), b"a", create, 7, 0).err(), Some(EINVAL));
    assert_eq!(share(&open(), b"a", create, 4, 0).err(), Some(EINVAL));
    assert_eq!(share(&open(), b"a", create, 8, 100).err(), Some(EINVAL));
    assert_eq!(share(&open(), b"a", create, 1 << 23, 0).err(), Some(EINVAL));
    assert_eq!(share(&open(), b"a", create, 4096, 256).err(), Some(ENOSPC));
    let first = open();
    let refused = sys::as_user(1000, || share(&first, b"a", create, 8, 64).err());
    assert_eq!(refused, Some(EPERM));
    let made = share(&first, b"a", create, 8, 64).unwrap();
    assert_eq!(share(&open(), b"a", create, 16, 64).err(), Some(EEXIST));
    assert_eq!(share(&open(), b"ab", create, 8, 64).err(), Some(EEXIST));
    assert!(share(&open(), b"a", create, 0, 0).is_ok());
    assert!(share(&open(), b"a", 0, 0, 0).is_ok());
    let reader = open();
    assert!(sys::as_user(1000, || share(&reader, b"a", 0, 0, 0).is_ok()));
    assert_eq!(
        share(&reader, b"a", 0, 0, 0).err(),
        Some(Errno(libc::EBUSY))
    );
    // To read, and as it is.
    let length = made.map_bytes as usize;
    let map = |prot: i32, flags: i32| Mapping::new(&first, length, prot, flags, 0).err();
    let both = libc::PROT_READ | libc::PROT_WRITE;
    assert!(matches!(map(both, libc::MAP_SHARED), Some(EPERM | EACCES)));
    assert!(map(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED).is_some());
    assert_eq!(map(libc::PROT_READ, libc::MAP_SHARED), None);
    let longer = Mapping::new(&first, length + 4096, libc::PROT_READ, libc::MAP_SHARED, 0);
    assert_eq!(longer.err(), Some(EINVAL));
    let none = Mapping::new(open(), length, libc::PROT_READ, libc::MAP_SHARED, 0);
    assert_eq!(none.err(), Some(ENODEV));
}

#[test]
fn readers_see_whole_values_while_writers_write() {
    let _pool = pool("");
    let table = Table::new(b"w", uapi::MEM_SHARE_CREATE, 8, 1024);
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if let Some((value, _)) = table.get(b"w") {
                        assert!(value.windows(2).all(|pair| pair[0] == pair[1]), "{value:?}");
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut client = Client::new();
        for n in 0..3000_usize {
            let length = 100 + n % 700;
            let letter = char::from(b'a' + (n % 26) as u8);
            let value = letter.to_string().repeat(length);
            client.expect(format!("set w 0 0 {length}\r\n{value}\r\n"), "STORED\r\n");
        }
        assert!(virgo_tests::wait_until(virgo_tests::SOON, || reads
            .load(Ordering::Relaxed)
            > 100));
        stop.store(true, Ordering::Relaxed);
    });
}

/// Another module's way, virgo_mem_get(), by a module in C.
#[test]
fn values_for_other_modules() {
    const NAME: &str = "virgo-memtest";
    const ASK: &str = "/sys/module/virgo_memtest/parameters/get";
    let _pool = pool("");
    let mut client = Client::new();
    let insmod = |name: &str| {
        let outcome = script::run("insmod", &[&format!("/virgo/ko/{name}.ko")]);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
    };
    insmod(NAME);
    let ask = |room: usize, key: &str| {
        fs::write(ASK, format!("{room} {key}")).expect("ask");
        let answer = fs::read_to_string(ASK).expect("the answer");
        let (result, value) = answer
            .strip_suffix('\n')
            .and_then(|answer| answer.split_once(' '))
            .expect("a number and bytes");
        (result.parse::<i64>().expect("a number"), value.to_string())
    };
    let none = |room: usize| ".".repeat(room.min(3000));
    for length in [0_usize, 1, 100, 512, 513, 2999, 8200, 1_000_000] {
        let value: String = (0..length)
            .map(|n| char::from(b'a' + (n % 23) as u8))
            .collect();
        client.expect(format!("set key 7 0 {length}\r\n{value}\r\n"), "STORED\r\n");
        for room in [length, length + 5] {
            let mut whole = value.clone() + ".....";
            whole.truncate(room.min(3000));
            assert_eq!(
                ask(room, "key"),
                (length as i64, whole),
                "{length} in {room}"
            );
        }
        if length > 0 {
            // Too little room: the length, and nothing is copied.
            let room = length - 1;
            assert_eq!(ask(room, "key"), (length as i64, none(room)));
        }
    }
    let missing = -i64::from(libc::ENOENT);
    assert_eq!(ask(10, "other"), (missing, none(10)));
    assert_eq!(ask(10, &"k".repeat(251)), (missing, none(10)));
    assert_eq!(ask(0, "other"), (missing, String::new()));
    assert_eq!(ask(10, "-"), (-i64::from(libc::EINVAL), none(10)));
    // It cannot go from under who uses it.
    let outcome = script::run("rmmod", &[MODULE]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.err.contains("in use"), "{}", outcome.err);
    assert_eq!(ask(10, "other"), (missing, none(10)));
    let outcome = script::run("rmmod", &[NAME]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
}

/// Values of every length that is copied by words, and some more, up to the last byte that is
/// mapped, and a byte too far.
#[test]
fn values_at_the_end_of_memory() {
    let _pool = pool("");
    let device = Device::control();
    let mut area = Area::new(2);
    area.protect(1, libc::PROT_NONE);
    let pattern: Vec<u8> = (0..PAGE).map(|n| (n % 251) as u8 + 1).collect();
    let mut other = vec![0; PAGE];
    for length in (0..=530).chain([PAGE - 1, PAGE]) {
        let value = &pattern[PAGE - length..];
        area.write(0, &pattern);
        let at = area.address(PAGE - length) as u64;
        let mut request = good_put(b"edge", b"");
        (request.value, request.value_len) = (at, length as u32);
        put(&device, request).unwrap_or_else(|error| panic!("put {length}: {error:?}"));
        let (got, _) = take(&device, b"edge", PAGE).expect("what was put");
        assert_eq!(got, value, "{length} bytes were put");
        // And out again, to the same place.
        area.write(0, &other);
        let mut fetch = sized!(MemTake {
            key: address(b"edge"),
            key_len: 4,
            value: at,
            capacity: length as u32,
        });
        sys::ioctl(&device, uapi::MEM_IOC_TAKE, &mut fetch).expect("room for it");
        assert_eq!(fetch.value_len as usize, length);
        other[PAGE - length..].copy_from_slice(value);
        assert_eq!(area.read(0, PAGE), other, "{length} bytes were taken");
        other.fill(0);
        if length > 0 {
            request.value = at + 1;
            // What it told is not what it may be asked.
            (fetch.value, fetch.exptime) = (at + 1, 0);
            assert_eq!(put(&device, request), Err(EFAULT), "{length}");
            let told = sys::ioctl(&device, uapi::MEM_IOC_TAKE, &mut fetch);
            assert_eq!(told, Err(EFAULT), "{length}");
            let (got, _) = take(&device, b"edge", PAGE).expect("what was there before");
            assert_eq!(got, value, "{length}");
        }
    }
}
