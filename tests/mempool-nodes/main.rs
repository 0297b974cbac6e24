// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The memory pool over three guests as the nodes of a cluster: this one is node 1.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use virgo_proto::uapi::{
    self, MemCount, MemDrop, MemFree, MemIo, MemMalloc, MemPut, MemStat, MemTake, Vuid,
};
use virgo_tests::device::Device;
use virgo_tests::nodes::{self, power, sh};
use virgo_tests::script;
use virgo_tests::sys::{self, Errno, Res, ENOENT};

const ESTALE: Errno = Errno(libc::ESTALE);

/// No request waits longer on a node that is dead: its time and some for a busy machine.
const LONGEST: Duration = Duration::from_secs(6);

macro_rules! sized {
    ($type:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $type { size: size_of::<$type>() as u32, $($field: $value,)* ..$type::default() }
    };
}

/// Modules, key and table on all three, and all up for node 1; the nodes' numbers in the order of
/// their addresses.
fn cluster() -> Vec<u32> {
    let script = "for m in core mempool; do [ -e /sys/module/virgo_$m ] || \
                  insmod /virgo/ko/virgo-$m.ko || exit 1; done";
    for node in 1..=3 {
        sh(node, script);
        nodes::load_table(node, &["10.77.0.1", "10.77.0.2", "10.77.0.3"]);
    }
    nodes::wait_up(3)
}

fn put(device: &Device, key: &str, value: &[u8], flags: u32) -> Res<u32> {
    let mut request = sized!(MemPut {
        flags: flags,
        key: key.as_ptr() as u64,
        key_len: key.len() as u32,
        value: value.as_ptr() as u64,
        value_len: value.len() as u32,
        item_flags: 7,
    });
    sys::ioctl(device, uapi::MEM_IOC_PUT, &mut request).map(|_| request.node)
}

/// The value, and the node that was asked, or the error and that node.
fn take(device: &Device, key: &str, flags: u32) -> (Res<Vec<u8>>, u32) {
    let mut value = vec![0; 200_000];
    let mut request = sized!(MemTake {
        flags: flags,
        key: key.as_ptr() as u64,
        key_len: key.len() as u32,
        value: value.as_mut_ptr() as u64,
        capacity: value.len() as u32,
    });
    let result = sys::ioctl(device, uapi::MEM_IOC_TAKE, &mut request);
    value.truncate(request.value_len as usize);
    (result.map(|_| value), request.node)
}

fn malloc(device: &Device, request: MemMalloc) -> (Vuid, u32) {
    let mut request = request;
    sys::ioctl(device, uapi::MEM_IOC_MALLOC, &mut request).expect("a block");
    (request.vuid, request.node)
}

fn set(device: &Device, vuid: Vuid, offset: u64, bytes: &[u8]) -> (Res<i32>, u32) {
    let mut request = sized!(MemIo {
        vuid: vuid,
        offset: offset,
        length: bytes.len() as u64,
        address: bytes.as_ptr() as u64,
    });
    let result = sys::ioctl(device, uapi::MEM_IOC_SET, &mut request);
    (result, request.node)
}

fn get(device: &Device, vuid: Vuid, offset: u64, length: usize) -> (Res<Vec<u8>>, u32) {
    let mut bytes = vec![0; length];
    let mut request = sized!(MemIo {
        vuid: vuid,
        offset: offset,
        length: length as u64,
        address: bytes.as_mut_ptr() as u64,
    });
    let result = sys::ioctl(device, uapi::MEM_IOC_GET, &mut request);
    bytes.truncate(request.length as usize);
    (result.map(|_| bytes), request.node)
}

fn free(device: &Device, vuid: Vuid) -> Res<i32> {
    let mut request = sized!(MemFree { vuid: vuid });
    sys::ioctl(device, uapi::MEM_IOC_FREE, &mut request)
}

fn stat(device: &Device) -> MemStat {
    let mut stat = sized!(MemStat {});
    sys::ioctl(device, uapi::MEM_IOC_STAT, &mut stat).expect("the figures");
    stat
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 255) as u8).collect()
}

/// Requests of `virgo` on a node, in one line each.
fn virgo(node: usize, line: &str) -> String {
    sh(node, &format!("virgo mem {line}"))
}

const DEAD: [Errno; 2] = [Errno(libc::EHOSTDOWN), Errno(libc::ETIMEDOUT)];

#[track_caller]
fn assert_dead<T: std::fmt::Debug>(result: &Res<T>) {
    assert!(
        result.as_ref().is_err_and(|error| DEAD.contains(error)),
        "{result:?}"
    );
}

/// One after the other: the last one takes a node away.
#[test]
fn the_pool_over_three_nodes() {
    let ids = cluster();
    let device = Device::control();
    println!("named values");
    named_values(&device, &ids);
    println!("blocks of one node");
    let vuids = blocks_of_one_node(&device, &ids);
    println!("blocks in chunks");
    let striped = blocks_in_chunks(&device, &ids);
    println!("by virgo mem");
    by_command(&ids);
    println!("bounds");
    bounds(&device, &ids);
    println!("a node dies, and returns");
    a_node_dies(&device, &ids, &vuids, striped);
}

/// Each on the node that owns its key, and found from each.
fn named_values(device: &Device, ids: &[u32]) {
    let mut count = BTreeMap::new();
    for n in 0..60 {
        let node = put(device, &format!("key{n}"), &pattern(n * 50), 0).expect("stored");
        assert!(ids.contains(&node), "{node:08x}");
        *count.entry(node).or_insert(0) += 1;
    }
    assert_eq!(count.len(), 3, "{count:?}");
    assert_eq!(stat(device).items, count[&ids[0]]);
    for n in 0..60 {
        let key = format!("key{n}");
        let (value, node) = take(device, &key, 0);
        assert_eq!(value, Ok(pattern(n * 50)));
        // Here alone it is only if it belongs here.
        let (local, _) = take(device, &key, uapi::MEM_F_LOCAL);
        assert_eq!(local.is_ok(), node == ids[0]);
        if n % 20 == 3 {
            // All nodes have the same owner for it.
            for from in 1..=3 {
                let told = virgo(from, &format!("take --json {key}"));
                let told: Value = serde_json::from_str(&told).expect("JSON");
                assert_eq!(told["node"], format!("{node:08x}"), "{told}");
                assert_eq!(told["bytes"], n * 50);
            }
        }
    }
    let big = pattern(150_000);
    for n in 0..6 {
        put(device, &format!("big{n}"), &big, 0).expect("stored");
        assert_eq!(take(device, &format!("big{n}"), 0).0, Ok(big.clone()));
    }
    let mut gone = sized!(MemDrop {
        key: b"key5".as_ptr() as u64,
        key_len: 4
    });
    sys::ioctl(device, uapi::MEM_IOC_DROP, &mut gone).expect("deleted");
    assert_eq!(take(device, "key5", 0).0, Err(ENOENT));
    assert_eq!(
        sys::ioctl(device, uapi::MEM_IOC_DROP, &mut gone),
        Err(ENOENT)
    );
    // Numbers, and every way to store, on each node.
    for n in 0..9 {
        let key = format!("n{n}");
        let mut count = sized!(MemCount {
            key: key.as_ptr() as u64,
            key_len: key.len() as u32,
            delta: 5,
        });
        let run = |count: &mut MemCount| sys::ioctl(device, uapi::MEM_IOC_COUNT, count);
        assert_eq!(run(&mut count), Err(ENOENT));
        count.node = 0;
        count.flags = uapi::MEM_F_CREATE;
        count.initial = 40;
        run(&mut count).expect("made");
        assert_eq!(count.value, 40);
        let node = std::mem::take(&mut count.node);
        run(&mut count).expect("added");
        assert_eq!((count.value, count.node), (45, node));
        let store = |mode: u32, value: &[u8], cas: u64| {
            let mut request = sized!(MemPut {
                mode: mode,
                cas: cas,
                key: key.as_ptr() as u64,
                key_len: key.len() as u32,
                value: value.as_ptr() as u64,
                value_len: value.len() as u32,
            });
            sys::ioctl(device, uapi::MEM_IOC_PUT, &mut request).map(|_| request.cas)
        };
        assert_eq!(store(uapi::MEM_PUT_ADD, b"x", 0), Err(Errno(libc::EEXIST)));
        let cas = store(uapi::MEM_PUT_APPEND, b"x", 0).expect("appended");
        assert_eq!(store(uapi::MEM_PUT_CAS, b"y", cas + 1), Err(ESTALE));
        store(uapi::MEM_PUT_CAS, b"y", cas).expect("as it was");
        assert_eq!(take(device, &key, 0).0, Ok(b"y".to_vec()));
    }
}

fn blocks_of_one_node(device: &Device, ids: &[u32]) -> Vec<Vuid> {
    let bytes = pattern(3_000_000);
    let mut vuids = Vec::new();
    for id in ids {
        let (vuid, node) = malloc(
            device,
            sized!(MemMalloc {
                node: *id,
                length: 3_000_000
            }),
        );
        assert_eq!(node, *id);
        assert_eq!(get(device, vuid, 0, 10).0, Ok(vec![0; 10]));
        assert_eq!(set(device, vuid, 0, &bytes).0, Ok(0));
        assert_eq!(get(device, vuid, 0, 4_000_000).0, Ok(bytes.clone()));
        assert_eq!(
            get(device, vuid, 2_999_999, 10).0,
            Ok(bytes[2_999_999..].to_vec())
        );
        assert_eq!(get(device, vuid, 3_000_000, 10).0, Ok(Vec::new()));
        for (offset, length) in [(2_999_999, 2), (3_000_001, 1), (u64::MAX, 1), (1 << 63, 1)] {
            let bytes = &bytes[..length];
            let range = Err(Errno(libc::ERANGE));
            assert_eq!(set(device, vuid, offset, bytes).0, range, "{offset}");
        }
        vuids.push(vuid);
    }
    assert_eq!(stat(device).blocks, 1);
    // By policy: somewhere, and it can be used.
    for policy in 0..=uapi::MEM_POLICY_TWO_CHOICES {
        let (vuid, node) = malloc(
            device,
            sized!(MemMalloc {
                flags: uapi::MEM_F_POLICY,
                policy: policy,
                length: 100
            }),
        );
        assert!(ids.contains(&node));
        assert_eq!(set(device, vuid, 90, b"0123456789").0, Ok(0));
        assert_eq!(get(device, vuid, 95, 100).0, Ok(b"56789".to_vec()));
        assert_eq!(free(device, vuid), Ok(0));
        assert_eq!(free(device, vuid), Err(ESTALE));
    }
    assert_eq!(free(device, vuids[1]), Ok(0));
    assert_eq!(get(device, vuids[1], 0, 1), (Err(ESTALE), ids[1]));
    assert_eq!(set(device, vuids[1], 0, b"x"), (Err(ESTALE), ids[1]));
    // A node that there is not.
    let mut foreign = vuids[0];
    foreign.word[0] = (0xbeef << 32) | (foreign.word[0] & 0xffff_ffff);
    assert_eq!(get(device, foreign, 0, 1), (Err(ESTALE), 0xbeef));
    assert_eq!(free(device, foreign), Err(ESTALE));
    let mut nowhere = sized!(MemMalloc {
        node: 0xbeef,
        length: 10
    });
    assert_eq!(
        sys::ioctl(device, uapi::MEM_IOC_MALLOC, &mut nowhere),
        Err(ENOENT)
    );
    vuids
}

/// One that stays is returned.
fn blocks_in_chunks(device: &Device, ids: &[u32]) -> Vuid {
    let bytes = pattern(1_000_000);
    let stripe = |chunk: u32, length: u64| {
        malloc(
            device,
            sized!(MemMalloc {
                flags: uapi::MEM_F_STRIPE,
                chunk: chunk,
                length: length
            }),
        )
    };
    let before = stat(device).blocks;
    let (striped, node) = stripe(4096, 1_000_000);
    assert_eq!(node, ids[0]);
    assert_eq!(set(device, striped, 0, &bytes).0, Ok(0));
    assert_eq!(get(device, striped, 0, 2_000_000).0, Ok(bytes.clone()));
    assert_eq!(set(device, striped, 4090, b"over the border").0, Ok(0));
    assert_eq!(
        get(device, striped, 4090, 15).0,
        Ok(b"over the border".to_vec())
    );
    assert_eq!(
        get(device, striped, 999_999, 15).0,
        Ok(bytes[999_999..].to_vec())
    );
    assert_eq!(
        set(device, striped, 999_999, b"xy").0,
        Err(Errno(libc::ERANGE))
    );
    // A third of it is on each.
    for from in 1..=3 {
        let list = virgo(from, "list --json");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        let parts: Vec<u64> = list
            .as_array()
            .expect("a list")
            .iter()
            .filter(|block| block["striped"] == false)
            .filter_map(|block| block["bytes"].as_u64())
            .filter(|bytes| *bytes < 1_000_000)
            .collect();
        assert_eq!(parts, [82 * 4096], "on node {from}");
    }
    // The other nodes read it, write it and free it as well.
    let told = sh(
        2,
        &format!(
            "virgo mem get {striped} --offset 4090 --length 15",
            striped = hex(striped)
        ),
    );
    assert_eq!(told, "over the border");
    sh(
        3,
        &format!(
            "virgo mem set {} --offset 8185 'and this one'",
            hex(striped)
        ),
    );
    assert_eq!(
        get(device, striped, 8185, 12).0,
        Ok(b"and this one".to_vec())
    );
    sh(2, &format!("virgo mem free {}", hex(striped)));
    assert_eq!(get(device, striped, 0, 1).0, Err(ESTALE));
    assert_eq!(stat(device).blocks, before);
    for from in 2..=3 {
        let list = virgo(from, "list --json");
        assert!(!list.contains(&format!("{}", 82 * 4096)), "{list}");
    }
    // Shorter than the nodes are many, and the longest.
    let (small, _) = stripe(4096, 5000);
    assert_eq!(set(device, small, 4095, b"xy").0, Ok(0));
    assert_eq!(
        get(device, small, 4094, 9000).0.map(|bytes| bytes.len()),
        Ok(906)
    );
    assert_eq!(free(device, small), Ok(0));
    let (large, _) = stripe(0, 64 << 20);
    let end = (64 << 20) - 5;
    assert_eq!(set(device, large, end, b"ended").0, Ok(0));
    assert_eq!(get(device, large, end, 100).0, Ok(b"ended".to_vec()));
    assert_eq!(free(device, large), Ok(0));
    assert_eq!(stat(device).blocks, before);
    let (stays, _) = stripe(4096, 1_000_000);
    assert_eq!(set(device, stays, 0, &bytes).0, Ok(0));
    stays
}

fn hex(vuid: Vuid) -> String {
    format!("{:016x}{:016x}", vuid.word[0], vuid.word[1])
}

fn by_command(ids: &[u32]) {
    // By address and by number; what is where is told.
    let third = format!("{:08x}", ids[2]);
    let block = virgo(1, "malloc 100 --node 10.77.0.3");
    let block = block.trim();
    assert!(block.starts_with(&third), "{block}");
    virgo(1, &format!("set {block} hello"));
    assert_eq!(virgo(2, &format!("get {block} --text")), "hello\n");
    let list = virgo(3, "list --json");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let entry = list
        .as_array()
        .and_then(|list| list.iter().find(|entry| entry["block"] == block))
        .expect("it is in the list");
    assert_eq!(entry["node"], third.as_str());
    virgo(2, &format!("free {block}"));
    virgo(1, &format!("put --node {third} there 'a value'"));
    let told = virgo(2, "take --json --node 10.77.0.3 there");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (told["node"].as_str(), told["value"].as_str()),
        (Some(third.as_str()), Some("a value"))
    );
    assert_eq!(virgo(3, "take --here there"), "a value");
    virgo(1, &format!("delete --node {third} there"));
}

/// What a request between nodes has room for is less than a value may be long.
fn bounds(device: &Device, ids: &[u32]) {
    for node in 1..=3 {
        virgo(node, "settings --item-max 8M");
    }
    let long = pattern(3 << 20);
    let at = |node: u32, length: usize| {
        let mut request = sized!(MemPut {
            node: node,
            key: b"long".as_ptr() as u64,
            key_len: 4,
            value: long.as_ptr() as u64,
            value_len: length as u32,
        });
        sys::ioctl(device, uapi::MEM_IOC_PUT, &mut request).map(|_| request.node)
    };
    assert_eq!(at(ids[0], 3 << 20), Ok(ids[0]));
    assert_eq!(at(ids[1], 3 << 20), Err(Errno(libc::EFBIG)));
    assert_eq!(at(ids[1], 2_000_000), Ok(ids[1]));
    // A block of more than a node's limit.
    virgo(2, "settings --block-limit 1M");
    let mut request = sized!(MemMalloc {
        node: ids[1],
        length: 2 << 20
    });
    assert_eq!(
        sys::ioctl(device, uapi::MEM_IOC_MALLOC, &mut request),
        Err(Errno(libc::ENOSPC))
    );
    // In chunks it fails there as well, and leaves nothing on the others.
    let before = stat(device);
    let mut request = sized!(MemMalloc {
        flags: uapi::MEM_F_STRIPE,
        length: 30 << 20
    });
    assert_eq!(
        sys::ioctl(device, uapi::MEM_IOC_MALLOC, &mut request),
        Err(Errno(libc::ENOSPC))
    );
    let after = stat(device);
    assert_eq!(
        (after.blocks, after.block_bytes),
        (before.blocks, before.block_bytes)
    );
    virgo(2, "settings --block-limit 256M");
}

/// What is on it is an error that names it, what is not is there; and when it is back, it takes
/// part again.
fn a_node_dies(device: &Device, ids: &[u32], vuids: &[Vuid], striped: Vuid) {
    let bytes = pattern(3_000_000);
    power(3, "--kill");
    let begin = Instant::now();
    let (result, node) = get(device, vuids[2], 0, 100);
    assert_dead(&result);
    assert_eq!(node, ids[2]);
    assert!(begin.elapsed() < LONGEST, "{:?}", begin.elapsed());
    let mut lost = 0;
    for n in (0..60).filter(|n| *n != 5) {
        let begin = Instant::now();
        let (value, node) = take(device, &format!("key{n}"), 0);
        if node == ids[2] {
            assert_dead(&value);
            lost += 1;
        } else {
            assert_eq!(value, Ok(pattern(n * 50)));
        }
        assert!(begin.elapsed() < LONGEST, "{:?}", begin.elapsed());
    }
    assert!(lost > 0);
    let outcome = script::run("virgo", &["mem", "get", &hex(vuids[2])]);
    assert_eq!(outcome.code, 1);
    let name = format!("{:08x}", ids[2]);
    assert!(outcome.err.contains(&name), "{}", outcome.err);
    // Chunks of it: those of the others are there.
    assert_eq!(
        get(device, striped, 0, 4096).0,
        Ok(pattern(1_000_000)[..4096].to_vec())
    );
    let (result, node) = get(device, striped, 0, 1_000_000);
    assert_dead(&result);
    assert_eq!(node, ids[2]);
    // It is gone, though a part of it is out of reach.
    assert_dead(&free(device, striped));
    assert_eq!(get(device, striped, 0, 1).0, Err(ESTALE));
    // New ones are laid on those that are left.
    let (new, _) = malloc(
        device,
        sized!(MemMalloc {
            flags: uapi::MEM_F_STRIPE,
            length: 1_000_000
        }),
    );
    assert_eq!(set(device, new, 0, &bytes[..1_000_000]).0, Ok(0));
    assert_eq!(
        get(device, new, 0, 1_000_000).0,
        Ok(bytes[..1_000_000].to_vec())
    );
    assert_eq!(free(device, new), Ok(0));
    for _ in 0..10 {
        let (vuid, node) = malloc(
            device,
            sized!(MemMalloc {
                flags: uapi::MEM_F_POLICY,
                policy: uapi::MEM_POLICY_RANDOM,
                length: 10
            }),
        );
        assert_ne!(node, ids[2]);
        assert_eq!(free(device, vuid), Ok(0));
    }
    assert_eq!(get(device, vuids[0], 0, 3_000_000).0, Ok(bytes));
    assert_eq!(free(device, vuids[0]), Ok(0));

    power(3, "--start");
    assert_eq!(cluster(), ids);
    // It has nothing, and says so; what is stored there again is found.
    assert_eq!(get(device, vuids[2], 0, 1), (Err(ESTALE), ids[2]));
    for n in (0..60).filter(|n| *n != 5) {
        let key = format!("key{n}");
        let (value, node) = take(device, &key, 0);
        if node == ids[2] {
            assert_eq!(value, Err(ENOENT));
            assert_eq!(put(device, &key, b"again", 0), Ok(node));
            assert_eq!(take(device, &key, 0).0, Ok(b"again".to_vec()));
        } else {
            assert_eq!(value, Ok(pattern(n * 50)));
        }
    }
}
