// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! /dev/virgo: QUERY, bad input, poll, 32-bit callers.

use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use virgo_proto::uapi::{self, Query};
use virgo_tests::device::{good_query, Device};
use virgo_tests::module::{self, PROFILER};
use virgo_tests::sys::{self, Area, E2BIG, EACCES, EFAULT, EINVAL, ENODEV, ENOTTY, NOBODY, PAGE};

const SIZE: usize = size_of::<Query>();
const CORE_BIT: u64 = 1 << uapi::Module::Core as u32;
const PROFILER_BIT: u64 = 1 << uapi::Module::Profiler as u32;

#[test]
fn only_root_may_open_the_devices() {
    let _machine = module::profiler("");
    for path in [uapi::DEVICE, uapi::PROFILER_DEVICE] {
        let node = fs::metadata(path).unwrap();
        assert!(node.file_type().is_char_device(), "{path}");
        assert_eq!(node.mode() & 0o7777, 0o660, "{path}");
        assert_eq!((node.uid(), node.gid()), (0, 0), "{path}");
        let refused = sys::as_user(NOBODY, || Device::open(path).err());
        assert_eq!(refused, Some(EACCES), "{path}");
    }
}

#[test]
fn query_tells_version_features_and_modules() {
    let _machine = module::core_only();
    let device = Device::control();
    let alone = device.query().unwrap();
    assert_eq!(alone.size as usize, SIZE);
    let version = env!("CARGO_PKG_VERSION");
    let number = |n| {
        let mut parts = version.split('.');
        parts
            .nth(n)
            .and_then(|part| part.parse::<u32>().ok())
            .unwrap()
    };
    assert_eq!(
        alone.version,
        (number(0) << 16) | (number(1) << 8) | number(2)
    );
    assert_eq!(alone.abi, 2);
    assert_eq!(
        alone.features,
        uapi::FEATURE_QUERY | uapi::FEATURE_POLL_MODULES | uapi::FEATURE_NODES
    );
    assert_eq!(alone.modules, CORE_BIT);
    assert_eq!((alone.flags, alone.reserved), (0, [0; 3]));

    module::load(PROFILER, "").unwrap();
    let both = device.query().unwrap();
    assert_eq!(both.modules, CORE_BIT | PROFILER_BIT);
    assert_eq!(both.generation, alone.generation + 1);

    module::unload(PROFILER).unwrap();
    let again = device.query().unwrap();
    assert_eq!(again.modules, CORE_BIT);
    assert_eq!(again.generation, alone.generation + 2);
}

#[test]
fn each_field_that_is_wrong_alone_is_einval() {
    let _machine = module::core_only();
    let device = Device::control();
    let refused = |change: &dyn Fn(&mut Query)| {
        let mut query = good_query();
        change(&mut query);
        let before = query;
        let result = sys::ioctl(&device, uapi::IOC_QUERY, &mut query);
        assert_eq!(query, before, "a refused command changes nothing");
        result.err()
    };
    for bit in 0..32 {
        let error = refused(&|query| query.flags = 1 << bit);
        assert_eq!(error, Some(EINVAL), "flag {bit}");
    }
    for index in 0..3 {
        for value in [1, u64::MAX, 1 << 63] {
            let error = refused(&|query| query.reserved[index] = value);
            assert_eq!(error, Some(EINVAL), "reserved[{index}] = {value:#x}");
        }
    }
    // What the kernel fills in may hold anything.
    let mut query = good_query();
    query.version = u32::MAX;
    query.abi = u32::MAX;
    query.features = u64::MAX;
    query.modules = u64::MAX;
    query.generation = u64::MAX;
    sys::ioctl(&device, uapi::IOC_QUERY, &mut query).unwrap();
    assert_eq!(query, device.query().unwrap());
}

#[test]
fn sizes_of_older_and_newer_callers() {
    let _machine = module::core_only();
    let device = Device::control();
    let with_size = |size: u32, tail: &[u8]| {
        let mut query = good_query();
        query.size = size;
        let mut bytes = sys::bytes_of(&query);
        bytes.extend_from_slice(tail);
        let result = sys::ioctl_bytes(&device, uapi::IOC_QUERY, &mut bytes);
        (result.err(), bytes)
    };
    for size in [0, 1, 3, 4, 63, 4097, 8192, 0x7fff_ffff, u32::MAX] {
        assert_eq!(with_size(size, &[]).0, Some(EINVAL), "size {size}");
    }
    for size in [64, 65, 72, 128, 129, 4095, 4096] {
        let (error, bytes) = with_size(size, &[]);
        assert_eq!(error, None, "size {size}");
        let query: Query = sys::from_bytes(&bytes);
        assert_eq!(query.size, size, "the size stays the caller's");
        assert_eq!(query.modules, CORE_BIT);
    }
    // Each byte that this kernel does not know, alone.
    for size in [65_usize, 72, 127, 128, 192, 193, 4096] {
        for place in [64, 65, 71, 126, 127, 128, 129, 191, 192, 4095] {
            if place >= size {
                continue;
            }
            let mut tail = vec![0; size - SIZE];
            tail[place - SIZE] = 1;
            let (error, _) = with_size(size as u32, &tail);
            assert_eq!(error, Some(E2BIG), "size {size}, byte {place}");
        }
    }
    // A byte behind the size that the caller named is not looked at, nor written.
    let (error, bytes) = with_size(72, &[0, 0, 0, 0, 0, 0, 0, 0, 0xa5]);
    assert_eq!(error, None);
    assert_eq!(bytes[72], 0xa5);
    // Bytes that are not known are left as they are.
    let (_, bytes) = with_size(128, &[0; 64]);
    assert_eq!(bytes[64..], [0; 64]);
}

#[test]
fn bad_addresses_are_efault() {
    let _machine = module::core_only();
    let device = Device::control();
    let at = |address: usize| sys::ioctl_at(&device, uapi::IOC_QUERY, address).err();
    for address in [
        0,
        1,
        PAGE - 1,
        0x7fff_ffff_f000,
        0x7fff_ffff_ffff,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8100_0000,
        usize::MAX - 3,
        usize::MAX,
    ] {
        assert_eq!(at(address), Some(EFAULT), "{address:#x}");
    }

    let good = sys::bytes_of(&good_query());
    let mut area = Area::new(3);
    // Memory that can be read alone: the input is fine, the answer has no place.
    area.write(0, &good);
    area.protect(0, libc::PROT_READ);
    assert_eq!(at(area.address(0)), Some(EFAULT));
    assert_eq!(area.read(0, SIZE), good);
    // The end of what is mapped: whole in front of it, and a byte too far.
    area.protect(2, libc::PROT_NONE);
    area.write(2 * PAGE - SIZE, &good);
    assert_eq!(at(area.address(2 * PAGE - SIZE)), None);
    for short in [1, 4, 8, SIZE - 4, SIZE - 1] {
        area.write(2 * PAGE - SIZE + short, &good[..SIZE - short]);
        let error = at(area.address(2 * PAGE - SIZE + short));
        assert_eq!(error, Some(EFAULT), "{short} bytes are missing");
    }
    // An address that is not aligned is served.
    area.write(PAGE + 3, &good);
    assert_eq!(at(area.address(PAGE + 3)), None);
    let answer: Query = sys::from_bytes(&area.read(PAGE + 3, SIZE));
    assert_eq!(answer, device.query().unwrap());
    // A size that names a page which ends in what is not mapped.
    let mut query = good_query();
    query.size = 4096;
    area.write(PAGE, &[0; PAGE]);
    area.write(PAGE + 8, &sys::bytes_of(&query));
    assert_eq!(at(area.address(PAGE + 8)), Some(EFAULT));
}

/// `_IOC()`.
fn command(direction: u32, magic: u32, number: u32, size: u32) -> u32 {
    (direction << 30) | (size << 16) | (magic << 8) | number
}

#[test]
fn unknown_commands_are_enotty() {
    let _machine = module::profiler("");
    let device = Device::control();
    let try_command = |command: u32| {
        let mut bytes = sys::bytes_of(&good_query());
        let before = bytes.clone();
        let result = sys::ioctl_bytes(&device, command, &mut bytes);
        if result.is_err() {
            assert_eq!(bytes, before);
        }
        result.err()
    };
    assert_eq!(try_command(uapi::IOC_QUERY), None);
    for magic in [
        0,
        uapi::IOC_MAGIC - 1,
        uapi::IOC_MAGIC + 1,
        0xff,
        b'T'.into(),
    ] {
        let error = try_command(command(3, magic, 0, SIZE as u32));
        assert_eq!(error, Some(ENOTTY), "magic {magic:#x}");
    }
    for direction in 0..3 {
        let error = try_command(command(direction, uapi::IOC_MAGIC, 0, SIZE as u32));
        assert_eq!(error, Some(ENOTTY), "direction {direction}");
    }
    for number in (0x06..0x10).chain(0x76..0x100) {
        let error = try_command(command(3, uapi::IOC_MAGIC, number, SIZE as u32));
        assert_eq!(error, Some(ENOTTY), "number {number:#x}");
    }
    // The size in the command is that of the caller's version: the structure's own counts.
    for size in [0, 8, SIZE as u32 + 8] {
        assert_eq!(try_command(command(3, uapi::IOC_MAGIC, 0, size)), None);
    }
    // Commands of files in general that this one has not.
    for command in [0x5401, 0x541b, 0] {
        assert_eq!(try_command(command), Some(ENOTTY), "{command:#x}");
    }
}

#[test]
fn commands_of_modules_that_are_not_loaded_are_enodev() {
    let _machine = module::core_only();
    let device = Device::control();
    let mut bytes = sys::bytes_of(&good_query());
    for number in 0x10..0x80 {
        for direction in 0..4 {
            let command = command(direction, uapi::IOC_MAGIC, number, SIZE as u32);
            let result = sys::ioctl_bytes(&device, command, &mut bytes);
            assert_eq!(result, Err(ENODEV), "number {number:#x}");
        }
    }
    assert_eq!(device.info().err(), Some(ENODEV));
    module::load(PROFILER, "").unwrap();
    device.info().unwrap();
    module::unload(PROFILER).unwrap();
    assert_eq!(device.info().err(), Some(ENODEV));
}

#[test]
fn poll_tells_that_a_module_came_or_went() {
    let _machine = module::core_only();
    let first = Device::control();
    let second = Device::control();
    assert!(
        !first.readable(0),
        "nothing has happened since it was opened"
    );
    let before = first.query().unwrap().generation;

    // The poller sleeps when the module comes.
    let mut child = virgo_tests::child::Child::spawn_with_files("poller", |parent| {
        parent.say(1);
        parent.say(u64::from(first.readable(30_000)));
        0
    });
    assert_eq!(child.hear(), 1);
    assert!(
        virgo_tests::wait_until(virgo_tests::SOON, || {
            virgo_tests::procfs::stat(child.pid).unwrap().state == 'S'
        }),
        "the poller sleeps"
    );
    module::load(PROFILER, "").unwrap();
    assert_eq!(child.hear(), 1, "the poller was woken");
    child.wait_ok();

    assert!(first.readable(0));
    assert!(first.readable(0), "it stays so until it is asked");
    assert_eq!(first.query().unwrap().generation, before + 1);
    assert!(!first.readable(0), "asked through this file");
    assert!(second.readable(0), "but not through the other");
    assert_eq!(second.query().unwrap().generation, before + 1);
    assert!(!second.readable(0));

    module::unload(PROFILER).unwrap();
    assert!(first.readable(0));
    assert_eq!(first.query().unwrap().generation, before + 2);
    assert!(!first.readable(0));
    // A query that is refused tells nothing, so it counts for nothing.
    let mut wrong = good_query();
    wrong.flags = 1;
    assert_eq!(
        sys::ioctl(&second, uapi::IOC_QUERY, &mut wrong),
        Err(EINVAL)
    );
    assert!(second.readable(0));
    let mut area = Area::new(1);
    area.write(0, &sys::bytes_of(&good_query()));
    area.protect(0, libc::PROT_READ);
    assert_eq!(
        sys::ioctl_at(&second, uapi::IOC_QUERY, area.address(0)),
        Err(EFAULT)
    );
    assert!(second.readable(0), "the answer did not get through");
    // A new file begins with what is there now.
    assert!(!Device::control().readable(0));
}

#[test]
fn programs_of_32_bits_are_served() {
    let _machine = module::profiler("");
    let device = Device::control();
    let mut area = Area::low(3);
    let mut call = |command: u32, bytes: &[u8]| {
        area.write(0, bytes);
        let result = sys::ioctl_32bit(&device, command, area.address(0));
        (result.err(), area.read(0, bytes.len()))
    };
    let (error, bytes) = call(uapi::IOC_QUERY, &sys::bytes_of(&good_query()));
    assert_eq!(error, None);
    assert_eq!(sys::from_bytes::<Query>(&bytes), device.query().unwrap());

    // The same checks for them.
    let mut wrong = good_query();
    wrong.flags = 1;
    assert_eq!(
        call(uapi::IOC_QUERY, &sys::bytes_of(&wrong)).0,
        Some(EINVAL)
    );
    let unknown = command(3, uapi::IOC_MAGIC, 0x0f, SIZE as u32);
    assert_eq!(call(unknown, &sys::bytes_of(&good_query())).0, Some(ENOTTY));
    for address in [0, 0xffff_f000_usize] {
        let error = sys::ioctl_32bit(&device, uapi::IOC_QUERY, address).err();
        assert_eq!(error, Some(EFAULT), "{address:#x}");
    }

    // Commands of another module, with a structure that holds an address.
    let device = Device::profiler();
    let mut pid = virgo_tests::child::Child::idle("target");
    let mut task = virgo_tests::device::good_task(pid.pid, 0);
    area.write(0, &sys::bytes_of(&task));
    let register = uapi::PROFILER_IOC_REGISTER;
    assert_eq!(sys::ioctl_32bit(&device, register, area.address(0)), Ok(0));
    task = sys::from_bytes(&area.read(0, size_of_val(&task)));
    let mut list = virgo_tests::device::good_list();
    list.entries = area.address(PAGE) as u64;
    list.capacity = 1;
    area.write(0, &sys::bytes_of(&list));
    let command = uapi::PROFILER_IOC_LIST;
    assert_eq!(sys::ioctl_32bit(&device, command, area.address(0)), Ok(0));
    list = sys::from_bytes(&area.read(0, size_of_val(&list)));
    let entry: uapi::ProfilerEntry =
        sys::from_bytes(&area.read(PAGE, size_of::<uapi::ProfilerEntry>()));
    assert_eq!(list.count, 1);
    assert_eq!((entry.id, entry.pid), (task.id, pid.pid.unsigned_abs()));
    pid.kill();
}

#[test]
fn the_reserved_words_are_where_the_test_thinks() {
    // The places that `sizes_of_older_and_newer_callers` names depend on it.
    assert_eq!(SIZE, 64);
    assert_eq!(offset_of!(Query, reserved), 40);
}
