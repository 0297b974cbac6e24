// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The system calls, and all `unsafe` of this crate.

use std::mem::size_of;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{open, Mode, OFlags};
use rustix::io::{retry_on_intr, Errno};
use rustix::ioctl::{ioctl, Opcode, Updater};
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use virgo_proto::uapi;

/// A structure that an ioctl reads and writes, and that holds no address.
///
/// # Safety
///
/// The type is `repr(C)` as in the header, any bytes are a valid value of it, and the kernel
/// follows no pointer in it.
pub(crate) unsafe trait Plain {}

// SAFETY: integers alone, mirrored from the header and compared with it by a test.
unsafe impl Plain for uapi::Query {}
// SAFETY: as above.
unsafe impl Plain for uapi::NodesPolicy {}
// SAFETY: as above.
unsafe impl Plain for uapi::NodePing {}
// SAFETY: as above.
unsafe impl Plain for uapi::ProfilerTask {}
// SAFETY: as above.
unsafe impl Plain for uapi::ProfilerRate {}
// SAFETY: as above.
unsafe impl Plain for uapi::ProfilerInfo {}
// SAFETY: as above.
unsafe impl Plain for uapi::ProfilerSeen {}
// SAFETY: as above.
unsafe impl Plain for uapi::QueueDone {}
// SAFETY: as above.
unsafe impl Plain for uapi::AnalyticsUndo {}
// SAFETY: as above.
unsafe impl Plain for uapi::AnalyticsInfo {}
// SAFETY: as above.
unsafe impl Plain for uapi::AnalyticsSeen {}
// SAFETY: as above.
unsafe impl Plain for uapi::QueueStat {}
// SAFETY: as above.
unsafe impl Plain for uapi::QueueDrain {}
// SAFETY: as above.
unsafe impl Plain for uapi::MemMalloc {}
// SAFETY: as above.
unsafe impl Plain for uapi::MemFree {}
// SAFETY: as above.
unsafe impl Plain for uapi::MemStat {}
// SAFETY: as above.
unsafe impl Plain for uapi::MemFlush {}
// SAFETY: as above.
unsafe impl Plain for uapi::MemSettings {}
// SAFETY: as above.
unsafe impl Plain for uapi::MemSeen {}
// SAFETY: as above.
unsafe impl Plain for uapi::EventnetStat {}
// SAFETY: as above.
unsafe impl Plain for uapi::EventnetSettings {}
// SAFETY: as above.
unsafe impl Plain for uapi::TraceStart {}
// SAFETY: as above.
unsafe impl Plain for uapi::TraceStop {}
// SAFETY: as above.
unsafe impl Plain for uapi::TraceInfo {}

// SAFETY: as above.
unsafe impl Plain for uapi::FsHandle {}
// SAFETY: as above.
unsafe impl Plain for uapi::FsStat {}

/// `VIRGO_FS_IOC_OPEN`: the handle.
pub(crate) fn fs_open(
    fd: impl AsFd,
    node: u32,
    path: &[u8],
    flags: u32,
    mode: u32,
) -> Result<u64, Errno> {
    let mut argument = uapi::FsOpen {
        size: size_of::<uapi::FsOpen>() as u32,
        path: path.as_ptr() as u64,
        path_len: u32::try_from(path.len()).map_err(|_| Errno::NAMETOOLONG)?,
        open_flags: flags,
        mode,
        node,
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: the command takes an FsOpen, of which any bytes are a valid value.
        let updater = unsafe { Updater::<{ uapi::FS_IOC_OPEN }, uapi::FsOpen>::new(&mut argument) };
        // SAFETY: the kernel writes the argument alone, and reads `path_len` bytes at `path`, which
        // are borrowed until the call returns.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(argument.handle)
}

/// READ or READDIR: how many bytes came.
pub(crate) fn fs_read<const OPCODE: Opcode>(
    fd: impl AsFd,
    handle: u64,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, Errno> {
    let mut argument = uapi::FsIo {
        size: size_of::<uapi::FsIo>() as u32,
        handle,
        data: buffer.as_mut_ptr() as u64,
        length: buffer.len() as u64,
        offset,
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: READ and READDIR take an FsIo, of which any bytes are a valid value.
        let updater = unsafe { Updater::<OPCODE, uapi::FsIo>::new(&mut argument) };
        // SAFETY: the kernel writes the argument, and `length` bytes at `data` at most: that many
        // are borrowed mutably until the call returns.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(usize::try_from(argument.length)
        .unwrap_or(0)
        .min(buffer.len()))
}

/// WRITE: how many bytes were written.
pub(crate) fn fs_write(
    fd: impl AsFd,
    handle: u64,
    data: &[u8],
    offset: u64,
) -> Result<usize, Errno> {
    let mut argument = uapi::FsIo {
        size: size_of::<uapi::FsIo>() as u32,
        handle,
        data: data.as_ptr() as u64,
        length: data.len() as u64,
        offset,
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: the command takes an FsIo, of which any bytes are a valid value.
        let updater = unsafe { Updater::<{ uapi::FS_IOC_WRITE }, uapi::FsIo>::new(&mut argument) };
        // SAFETY: the kernel writes the argument alone, and reads `length` bytes at `data`, which
        // are borrowed until the call returns.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(usize::try_from(argument.length)
        .unwrap_or(0)
        .min(data.len()))
}

/// TRUNCATE.
pub(crate) fn fs_truncate(fd: impl AsFd, handle: u64, length: u64) -> Result<(), Errno> {
    let mut argument = uapi::FsIo {
        size: size_of::<uapi::FsIo>() as u32,
        handle,
        offset: length,
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: the command takes an FsIo, of which any bytes are a valid value.
        let updater =
            unsafe { Updater::<{ uapi::FS_IOC_TRUNCATE }, uapi::FsIo>::new(&mut argument) };
        // SAFETY: the kernel writes the argument alone; no address is in it.
        unsafe { ioctl(fd.as_fd(), updater) }
    })
}

/// Opens a device for reading and writing.
pub(crate) fn open_device(path: &str) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
}

/// One ioctl whose argument holds no address.
pub(crate) fn call<const OPCODE: Opcode, T: Plain>(
    fd: impl AsFd,
    value: &mut T,
) -> Result<(), Errno> {
    const { assert!((OPCODE >> 16) & 0x3fff == size_of::<T>() as Opcode) };
    retry_on_intr(|| {
        // SAFETY:
        // - the size in OPCODE is that of `T`, checked above, so the kernel reads and writes
        //   `*value` and no byte past it;
        // - whatever it writes is a valid `T`, and it follows no address in it: `T: Plain`.
        let updater = unsafe { Updater::<OPCODE, T>::new(value) };
        // SAFETY: `updater` describes the command truly, see above. On a descriptor that is not
        // VIRGO's the type byte 0xEB makes it an unknown command.
        unsafe { ioctl(fd.as_fd(), updater) }
    })
}

/// `VIRGO_PROFILER_IOC_LIST` into `entries`; returns how many there are in all.
pub(crate) fn list(fd: impl AsFd, entries: &mut [uapi::ProfilerEntry]) -> Result<u32, Errno> {
    // A list longer than 2^32 - 1 is not asked for.
    let capacity = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut argument = uapi::ProfilerList {
        size: size_of::<uapi::ProfilerList>() as u32,
        entries: entries.as_mut_ptr() as u64,
        capacity,
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: the command takes a ProfilerList, of which any bytes are a valid value.
        let updater = unsafe {
            Updater::<{ uapi::PROFILER_IOC_LIST }, uapi::ProfilerList>::new(&mut argument)
        };
        // SAFETY: the kernel writes the argument, and at most `capacity` entries at `entries`:
        // that many are borrowed mutably until the call returns, and any bytes are valid ones.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(argument.count)
}

/// One ioctl whose argument holds addresses.
///
/// # Safety
///
/// The command of `OPCODE` takes a `T`, which is `repr(C)` and of which any bytes are a valid
/// value. Until the call returns, the addresses in `value` are those of memory that the kernel may
/// read and write as the command's documentation says.
unsafe fn call_at<const OPCODE: Opcode, T>(fd: impl AsFd, value: &mut T) -> Result<(), Errno> {
    const { assert!((OPCODE >> 16) & 0x3fff == size_of::<T>() as Opcode) };
    // SAFETY: the size in OPCODE is that of `T`; the rest is the caller's promise.
    let updater = unsafe { Updater::<OPCODE, T>::new(value) };
    // SAFETY: as above.
    unsafe { ioctl(fd.as_fd(), updater) }
}

/// A length for a field of 32 bits. What is longer is longer than any limit of the kernel's.
fn length32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// `VIRGO_ANALYTICS_IOC_GET` into `room`.
pub(crate) fn analytics_get(
    fd: impl AsFd,
    get: &mut uapi::AnalyticsGet,
    room: &mut [u8],
) -> Result<(), Errno> {
    get.text = room.as_mut_ptr() as u64;
    get.capacity = length32(room);
    // SAFETY: GET writes at most `capacity` bytes at `text`, which are borrowed mutably.
    unsafe { call_at::<{ uapi::ANALYTICS_IOC_GET }, _>(fd, get) }
}

/// `VIRGO_ANALYTICS_IOC_SET` of `text`.
pub(crate) fn analytics_set(
    fd: impl AsFd,
    set: &mut uapi::AnalyticsSet,
    text: &[u8],
) -> Result<(), Errno> {
    set.text = text.as_ptr() as u64;
    set.length = length32(text);
    // SAFETY: SET reads `length` bytes at `text`, which are borrowed.
    unsafe { call_at::<{ uapi::ANALYTICS_IOC_SET }, _>(fd, set) }
}

/// `VIRGO_ANALYTICS_IOC_DEFINE` with `text`.
pub(crate) fn analytics_define(
    fd: impl AsFd,
    define: &mut uapi::AnalyticsDefine,
    text: &[u8],
) -> Result<(), Errno> {
    define.text = text.as_ptr() as u64;
    define.length = length32(text);
    // SAFETY: DEFINE reads `length` bytes at `text`, which are borrowed.
    unsafe { call_at::<{ uapi::ANALYTICS_IOC_DEFINE }, _>(fd, define) }
}

/// `VIRGO_ANALYTICS_IOC_LOG` into `entries`.
pub(crate) fn analytics_log(
    fd: impl AsFd,
    log: &mut uapi::AnalyticsLog,
    entries: &mut [uapi::AnalyticsChange],
) -> Result<(), Errno> {
    log.entries = entries.as_mut_ptr() as u64;
    log.capacity = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    // SAFETY: LOG writes at most `capacity` entries at `entries`, which are borrowed mutably, and
    // any bytes are a valid one.
    unsafe { call_at::<{ uapi::ANALYTICS_IOC_LOG }, _>(fd, log) }
}

/// `VIRGO_QUEUE_IOC_PUT` of `body`.
pub(crate) fn queue_put(fd: impl AsFd, put: &mut uapi::QueuePut, body: &[u8]) -> Result<(), Errno> {
    put.body = body.as_ptr() as u64;
    put.length = length32(body);
    // SAFETY: PUT reads `length` bytes at `body`, which are borrowed.
    unsafe { call_at::<{ uapi::QUEUE_IOC_PUT }, _>(fd, put) }
}

/// `VIRGO_EVENTNET_IOC_LOG` of `message`.
pub(crate) fn eventnet_log(
    fd: impl AsFd,
    log: &mut uapi::EventnetLog,
    message: &[u8],
) -> Result<(), Errno> {
    log.message = message.as_ptr() as u64;
    log.length = length32(message);
    // SAFETY: LOG reads `length` bytes at `message`, which are borrowed.
    unsafe { call_at::<{ uapi::EVENTNET_IOC_LOG }, _>(fd, log) }
}

/// `VIRGO_EVENTNET_IOC_READ` into `room`.
pub(crate) fn eventnet_read(
    fd: impl AsFd,
    read: &mut uapi::EventnetRead,
    room: &mut [u8],
) -> Result<(), Errno> {
    read.buffer = room.as_mut_ptr() as u64;
    read.capacity = length32(room);
    // SAFETY: READ writes at most `capacity` bytes at `buffer`, which are borrowed mutably.
    unsafe { call_at::<{ uapi::EVENTNET_IOC_READ }, _>(fd, read) }
}

/// `VIRGO_QUEUE_IOC_TAKE` into `room`.
pub(crate) fn queue_take(
    fd: impl AsFd,
    take: &mut uapi::QueueTake,
    room: &mut [u8],
) -> Result<(), Errno> {
    take.body = room.as_mut_ptr() as u64;
    take.capacity = length32(room);
    // SAFETY: TAKE writes at most `capacity` bytes at `body`, which are borrowed mutably.
    unsafe { call_at::<{ uapi::QUEUE_IOC_TAKE }, _>(fd, take) }
}

/// `VIRGO_QUEUE_IOC_PEEK` into `room`.
pub(crate) fn queue_peek(
    fd: impl AsFd,
    peek: &mut uapi::QueuePeek,
    room: &mut [u8],
) -> Result<(), Errno> {
    peek.body = room.as_mut_ptr() as u64;
    peek.capacity = length32(room);
    // SAFETY: PEEK writes at most `capacity` bytes at `body`, which are borrowed mutably.
    unsafe { call_at::<{ uapi::QUEUE_IOC_PEEK }, _>(fd, peek) }
}

/// `VIRGO_QUEUE_IOC_LIST` into `room`.
pub(crate) fn queue_list(
    fd: impl AsFd,
    list: &mut uapi::QueueList,
    room: &mut [u8],
) -> Result<(), Errno> {
    list.names = room.as_mut_ptr() as u64;
    list.capacity = length32(room);
    // SAFETY: LIST writes at most `capacity` bytes at `names`, which are borrowed mutably.
    unsafe { call_at::<{ uapi::QUEUE_IOC_LIST }, _>(fd, list) }
}

/// `VIRGO_QUEUE_IOC_TUBE`, to set it; `copies` are names, each with a NUL behind it.
pub(crate) fn queue_tube_set(
    fd: impl AsFd,
    tube: &mut uapi::QueueTube,
    copies: &[u8],
) -> Result<(), Errno> {
    tube.flags = uapi::QUEUE_TUBE_SET;
    tube.copies = copies.as_ptr() as u64;
    tube.length = length32(copies);
    // SAFETY: TUBE reads `length` bytes at `copies`, which are borrowed.
    unsafe { call_at::<{ uapi::QUEUE_IOC_TUBE }, _>(fd, tube) }
}

/// `VIRGO_QUEUE_IOC_TUBE`, to read it into `room`.
pub(crate) fn queue_tube(
    fd: impl AsFd,
    tube: &mut uapi::QueueTube,
    room: &mut [u8],
) -> Result<(), Errno> {
    tube.copies = room.as_mut_ptr() as u64;
    tube.capacity = length32(room);
    // SAFETY: TUBE writes at most `capacity` bytes at `copies`, which are borrowed mutably.
    unsafe { call_at::<{ uapi::QUEUE_IOC_TUBE }, _>(fd, tube) }
}

/// `VIRGO_QUEUE_IOC_REPLY` with `body`.
pub(crate) fn queue_reply(
    fd: impl AsFd,
    reply: &mut uapi::QueueReply,
    body: &[u8],
) -> Result<(), Errno> {
    reply.body = body.as_ptr() as u64;
    reply.length = length32(body);
    // SAFETY: REPLY reads `length` bytes at `body`, which are borrowed.
    unsafe { call_at::<{ uapi::QUEUE_IOC_REPLY }, _>(fd, reply) }
}

/// `VIRGO_QUEUE_IOC_RESULT` into `room`.
pub(crate) fn queue_result(
    fd: impl AsFd,
    result: &mut uapi::QueueResult,
    room: &mut [u8],
) -> Result<(), Errno> {
    result.body = room.as_mut_ptr() as u64;
    result.capacity = length32(room);
    // SAFETY: RESULT writes at most `capacity` bytes at `body`, which are borrowed mutably.
    unsafe { call_at::<{ uapi::QUEUE_IOC_RESULT }, _>(fd, result) }
}

/// `VIRGO_MEM_IOC_SET` of `data`.
pub(crate) fn mem_set(fd: impl AsFd, io: &mut uapi::MemIo, data: &[u8]) -> Result<(), Errno> {
    let before = *io;
    retry_on_intr(|| {
        *io = uapi::MemIo {
            address: data.as_ptr() as u64,
            length: data.len() as u64,
            ..before
        };
        // SAFETY: SET reads `length` bytes at `address`, which are borrowed.
        unsafe { call_at::<{ uapi::MEM_IOC_SET }, _>(&fd, io) }
    })
}

/// `VIRGO_MEM_IOC_GET` into `room`.
pub(crate) fn mem_get(fd: impl AsFd, io: &mut uapi::MemIo, room: &mut [u8]) -> Result<(), Errno> {
    let before = *io;
    retry_on_intr(|| {
        *io = uapi::MemIo {
            address: room.as_mut_ptr() as u64,
            length: room.len() as u64,
            ..before
        };
        // SAFETY: GET writes at most `length` bytes at `address`, which are borrowed mutably.
        unsafe { call_at::<{ uapi::MEM_IOC_GET }, _>(&fd, io) }
    })
}

/// `VIRGO_MEM_IOC_LIST` into `entries`; returns how many there are in all.
pub(crate) fn mem_list(fd: impl AsFd, entries: &mut [uapi::MemBlock]) -> Result<u32, Errno> {
    let mut argument = uapi::MemList {
        size: size_of::<uapi::MemList>() as u32,
        entries: entries.as_mut_ptr() as u64,
        capacity: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    // SAFETY: LIST writes at most `capacity` entries, which are borrowed mutably, and of which any
    // bytes are valid ones.
    retry_on_intr(|| unsafe { call_at::<{ uapi::MEM_IOC_LIST }, _>(&fd, &mut argument) })?;
    Ok(argument.count)
}

/// `VIRGO_MEM_IOC_PUT`. Not made again after a signal: `append` twice would be wrong.
pub(crate) fn mem_put(
    fd: impl AsFd,
    put: &mut uapi::MemPut,
    key: &[u8],
    value: &[u8],
) -> Result<(), Errno> {
    put.key = key.as_ptr() as u64;
    put.key_len = length32(key);
    put.value = value.as_ptr() as u64;
    put.value_len = length32(value);
    // SAFETY: PUT reads the key and the value, of the lengths told, which are borrowed.
    unsafe { call_at::<{ uapi::MEM_IOC_PUT }, _>(fd, put) }
}

/// `VIRGO_MEM_IOC_TAKE` into `room`.
pub(crate) fn mem_take(
    fd: impl AsFd,
    take: &mut uapi::MemTake,
    key: &[u8],
    room: &mut [u8],
) -> Result<(), Errno> {
    let before = *take;
    retry_on_intr(|| {
        *take = uapi::MemTake {
            key: key.as_ptr() as u64,
            key_len: length32(key),
            value: room.as_mut_ptr() as u64,
            capacity: length32(room),
            ..before
        };
        // SAFETY: TAKE reads the key and writes at most `capacity` bytes at `value`: both are
        // borrowed, the latter mutably.
        unsafe { call_at::<{ uapi::MEM_IOC_TAKE }, _>(&fd, take) }
    })
}

/// `VIRGO_MEM_IOC_DROP`. Not made again after a signal.
pub(crate) fn mem_drop(fd: impl AsFd, drop: &mut uapi::MemDrop, key: &[u8]) -> Result<(), Errno> {
    drop.key = key.as_ptr() as u64;
    drop.key_len = length32(key);
    // SAFETY: DROP reads the key, which is borrowed.
    unsafe { call_at::<{ uapi::MEM_IOC_DROP }, _>(fd, drop) }
}

/// `VIRGO_MEM_IOC_COUNT`. Not made again after a signal.
pub(crate) fn mem_count(
    fd: impl AsFd,
    count: &mut uapi::MemCount,
    key: &[u8],
) -> Result<(), Errno> {
    count.key = key.as_ptr() as u64;
    count.key_len = length32(key);
    // SAFETY: COUNT reads the key, which is borrowed.
    unsafe { call_at::<{ uapi::MEM_IOC_COUNT }, _>(fd, count) }
}

/// `VIRGO_MEM_IOC_SCAN` into `room`: words, since records are aligned to eight bytes.
pub(crate) fn mem_scan(
    fd: impl AsFd,
    scan: &mut uapi::MemScan,
    room: &mut [u64],
) -> Result<(), Errno> {
    let before = *scan;
    let bytes = room.len().saturating_mul(size_of::<u64>());
    retry_on_intr(|| {
        *scan = uapi::MemScan {
            buffer: room.as_mut_ptr() as u64,
            capacity: u32::try_from(bytes).unwrap_or(u32::MAX),
            ..before
        };
        // SAFETY: SCAN writes at most `capacity` bytes at `buffer`, which are borrowed mutably, and
        // any bytes make valid numbers.
        unsafe { call_at::<{ uapi::MEM_IOC_SCAN }, _>(&fd, scan) }
    })
}

/// `VIRGO_MEM_IOC_SHARE`.
pub(crate) fn mem_share(
    fd: impl AsFd,
    share: &mut uapi::MemShare,
    prefix: &[u8],
) -> Result<(), Errno> {
    share.prefix = prefix.as_ptr() as u64;
    share.prefix_len = length32(prefix);
    // SAFETY: SHARE reads the prefix, which is borrowed.
    unsafe { call_at::<{ uapi::MEM_IOC_SHARE }, _>(fd, share) }
}

/// `VIRGO_IOC_NODES_LOAD` with these nodes and this key, in place of what `argument` says of them.
pub(crate) fn nodes_load(
    fd: impl AsFd,
    argument: &mut uapi::NodesLoad,
    nodes: &[uapi::NodeAddress],
    key: &[u8],
) -> Result<(), Errno> {
    argument.nodes = nodes.as_ptr() as u64;
    argument.count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    argument.key = key.as_ptr() as u64;
    argument.key_length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    retry_on_intr(|| {
        // SAFETY: the command takes a NodesLoad, of which any bytes are a valid value.
        let updater =
            unsafe { Updater::<{ uapi::IOC_NODES_LOAD }, uapi::NodesLoad>::new(argument) };
        // SAFETY: the kernel writes the argument, and reads `count` nodes and `key_length` bytes:
        // those slices are borrowed until the call returns; longer than 2^32 - 1 they are refused.
        unsafe { ioctl(fd.as_fd(), updater) }
    })
}

/// `VIRGO_IOC_NODES_LIST` into `entries`.
pub(crate) fn nodes_list(
    fd: impl AsFd,
    entries: &mut [uapi::Node],
) -> Result<uapi::NodesList, Errno> {
    let mut argument = uapi::NodesList {
        size: size_of::<uapi::NodesList>() as u32,
        entries: entries.as_mut_ptr() as u64,
        capacity: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: the command takes a NodesList, of which any bytes are a valid value.
        let updater =
            unsafe { Updater::<{ uapi::IOC_NODES_LIST }, uapi::NodesList>::new(&mut argument) };
        // SAFETY: the kernel writes the argument, and at most `capacity` entries at `entries`:
        // that many are borrowed mutably until the call returns, and any bytes are valid ones.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(argument)
}

/// `VIRGO_CPUPOOL_IOC_CALL` of this function; the output's length. A signal ends it: the call is not
/// made again.
pub(crate) fn cpupool_call(
    fd: impl AsFd,
    argument: &mut uapi::CpupoolCall,
    name: &[u8],
    input: &[u8],
    output: &mut [u8],
) -> Result<(), Errno> {
    argument.name = name.as_ptr() as u64;
    argument.name_length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    argument.input = input.as_ptr() as u64;
    argument.input_length = u32::try_from(input.len()).unwrap_or(u32::MAX);
    argument.output = output.as_mut_ptr() as u64;
    argument.output_capacity = u32::try_from(output.len()).unwrap_or(u32::MAX);
    // SAFETY: the command takes a CpupoolCall, of which any bytes are a valid value.
    let updater =
        unsafe { Updater::<{ uapi::CPUPOOL_IOC_CALL }, uapi::CpupoolCall>::new(argument) };
    // SAFETY: the kernel writes the argument, reads name and input, and writes at most
    // `output_capacity` bytes of the output; all are borrowed until the call returns. Lengths past
    // 2^32 - 1 are refused.
    unsafe { ioctl(fd.as_fd(), updater) }
}

/// `VIRGO_CPUPOOL_IOC_LIST` of a node into `entries`; returns how many there are in all.
pub(crate) fn cpupool_list(
    fd: impl AsFd,
    node: u32,
    entries: &mut [uapi::CpupoolFunction],
) -> Result<u32, Errno> {
    let mut argument = uapi::CpupoolList {
        size: size_of::<uapi::CpupoolList>() as u32,
        node,
        entries: entries.as_mut_ptr() as u64,
        capacity: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: the command takes a CpupoolList, of which any bytes are a valid value.
        let updater =
            unsafe { Updater::<{ uapi::CPUPOOL_IOC_LIST }, uapi::CpupoolList>::new(&mut argument) };
        // SAFETY: the kernel writes the argument, and at most `capacity` entries at `entries`:
        // that many are borrowed mutably until the call returns, and any bytes are valid ones.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(argument.count)
}

/// `VIRGO_CPUPOOL_IOC_SET` with these programs.
pub(crate) fn cpupool_set(
    fd: impl AsFd,
    entries: &[uapi::CpupoolProgram],
    group: &[u8],
    at_once: u32,
) -> Result<(), Errno> {
    let mut argument = uapi::CpupoolSet {
        size: size_of::<uapi::CpupoolSet>() as u32,
        count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        at_once,
        entries: entries.as_ptr() as u64,
        group: group.as_ptr() as u64,
        group_length: u32::try_from(group.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    // SAFETY: the command takes a CpupoolSet, of which any bytes are a valid value.
    let updater =
        unsafe { Updater::<{ uapi::CPUPOOL_IOC_SET }, uapi::CpupoolSet>::new(&mut argument) };
    // SAFETY: the kernel reads the argument, the entries and the name, borrowed until it returns;
    // counts past 2^32 - 1 are refused.
    unsafe { ioctl(fd.as_fd(), updater) }
}

/// `VIRGO_CPUPOOL_IOC_LEND`.
pub(crate) fn cpupool_lend(fd: impl AsFd) -> Result<(), Errno> {
    let mut argument = uapi::CpupoolLend {
        size: size_of::<uapi::CpupoolLend>() as u32,
        ..Default::default()
    };
    // SAFETY: the command takes a CpupoolLend, of which any bytes are a valid value.
    let updater =
        unsafe { Updater::<{ uapi::CPUPOOL_IOC_LEND }, uapi::CpupoolLend>::new(&mut argument) };
    // SAFETY: the kernel reads the argument, borrowed until the call returns.
    unsafe { ioctl(fd.as_fd(), updater) }
}

/// The argument of a list with room for so many entries.
fn cpupool_room<T>(node: u32, entries: &mut [T]) -> uapi::CpupoolList {
    uapi::CpupoolList {
        size: size_of::<uapi::CpupoolList>() as u32,
        node,
        entries: entries.as_mut_ptr() as u64,
        capacity: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        ..Default::default()
    }
}

/// `VIRGO_CPUPOOL_IOC_PROGRAMS` of a node into `entries`; returns how many there are in all.
pub(crate) fn cpupool_programs(
    fd: impl AsFd,
    node: u32,
    entries: &mut [uapi::CpupoolProgram],
) -> Result<u32, Errno> {
    let mut argument = cpupool_room(node, entries);
    retry_on_intr(|| {
        // SAFETY: the command takes a CpupoolList, of which any bytes are a valid value.
        let updater = unsafe {
            Updater::<{ uapi::CPUPOOL_IOC_PROGRAMS }, uapi::CpupoolList>::new(&mut argument)
        };
        // SAFETY: the kernel writes the argument, and at most `capacity` entries at `entries`:
        // that many are borrowed mutably until the call returns, and any bytes are valid ones.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(argument.count)
}

/// `VIRGO_CPUPOOL_IOC_RUNS`, likewise.
pub(crate) fn cpupool_runs(
    fd: impl AsFd,
    node: u32,
    entries: &mut [uapi::CpupoolRun],
) -> Result<u32, Errno> {
    let mut argument = cpupool_room(node, entries);
    retry_on_intr(|| {
        // SAFETY: the command takes a CpupoolList, of which any bytes are a valid value.
        let updater =
            unsafe { Updater::<{ uapi::CPUPOOL_IOC_RUNS }, uapi::CpupoolList>::new(&mut argument) };
        // SAFETY: as in `cpupool_programs`.
        unsafe { ioctl(fd.as_fd(), updater) }
    })?;
    Ok(argument.count)
}

/// `VIRGO_CPUPOOL_IOC_START` with these arguments, each with a NUL behind it, and this input. Not
/// made again after a signal: it may have been started.
pub(crate) fn cpupool_start(
    fd: impl AsFd,
    argument: &mut uapi::CpupoolStart,
    arguments: &[u8],
    input: &[u8],
) -> Result<(), Errno> {
    argument.arguments = arguments.as_ptr() as u64;
    argument.arguments_length = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
    argument.input = input.as_ptr() as u64;
    argument.input_length = u32::try_from(input.len()).unwrap_or(u32::MAX);
    // SAFETY: the command takes a CpupoolStart, of which any bytes are a valid value.
    let updater =
        unsafe { Updater::<{ uapi::CPUPOOL_IOC_START }, uapi::CpupoolStart>::new(argument) };
    // SAFETY: the kernel writes the argument, and reads arguments and input; all are borrowed until
    // the call returns. Lengths past 2^32 - 1 are refused.
    unsafe { ioctl(fd.as_fd(), updater) }
}

/// `VIRGO_CPUPOOL_IOC_FOLLOW` into room of the same size for both outputs.
pub(crate) fn cpupool_follow(
    fd: impl AsFd,
    argument: &mut uapi::CpupoolFollow,
    out: &mut [u8],
    err: &mut [u8],
) -> Result<(), Errno> {
    argument.out = out.as_mut_ptr() as u64;
    argument.err = err.as_mut_ptr() as u64;
    argument.capacity = u32::try_from(out.len().min(err.len())).unwrap_or(u32::MAX);
    // SAFETY: the command takes a CpupoolFollow, of which any bytes are a valid value.
    let updater =
        unsafe { Updater::<{ uapi::CPUPOOL_IOC_FOLLOW }, uapi::CpupoolFollow>::new(argument) };
    // SAFETY: the kernel writes the argument, and at most `capacity` bytes of each output; all are
    // borrowed mutably until the call returns.
    unsafe { ioctl(fd.as_fd(), updater) }
}

/// `VIRGO_CPUPOOL_IOC_KILL` of this run.
pub(crate) fn cpupool_kill(fd: impl AsFd, node: u32, id: u64) -> Result<(), Errno> {
    let mut argument = uapi::CpupoolKill {
        size: size_of::<uapi::CpupoolKill>() as u32,
        node,
        id,
        ..Default::default()
    };
    retry_on_intr(|| {
        // SAFETY: the command takes a CpupoolKill, of which any bytes are a valid value.
        let updater =
            unsafe { Updater::<{ uapi::CPUPOOL_IOC_KILL }, uapi::CpupoolKill>::new(&mut argument) };
        // SAFETY: the kernel writes the argument, borrowed mutably until the call returns.
        unsafe { ioctl(fd.as_fd(), updater) }
    })
}

/// `VIRGO_IOC_NODE_PICK` with this key.
pub(crate) fn node_pick(
    fd: impl AsFd,
    argument: &mut uapi::NodePick,
    key: &[u8],
) -> Result<(), Errno> {
    argument.key = key.as_ptr() as u64;
    argument.key_length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    retry_on_intr(|| {
        // SAFETY: the command takes a NodePick, of which any bytes are a valid value.
        let updater = unsafe { Updater::<{ uapi::IOC_NODE_PICK }, uapi::NodePick>::new(argument) };
        // SAFETY: the kernel writes the argument, and reads `key_length` bytes of the key, which is
        // borrowed until the call returns; one longer than 2^32 - 1 is refused.
        unsafe { ioctl(fd.as_fd(), updater) }
    })
}

/// Waits until `fd` is readable. `false` after `timeout`, or when a signal came.
pub(crate) fn wait_readable(fd: impl AsFd, timeout: Duration) -> Result<bool, Errno> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => Ok(false),
        Ok(_) => {
            let events = fds[0].revents();
            if events.contains(PollFlags::IN) {
                Ok(true)
            } else {
                // POLLERR or POLLHUP: without this a caller would spin.
                Err(Errno::IO)
            }
        }
        Err(errno) => Err(errno),
    }
}

/// A read-only shared mapping of a device's memory, as 64-bit words.
///
/// # Invariants
///
/// `words` is the start of a live mapping of at least `len` bytes, which this value owns, readable,
/// aligned to a page; `len` is a multiple of 8.
#[derive(Debug)]
pub(crate) struct Map {
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; `munmap` may be called by any.
unsafe impl Send for Map {}
// SAFETY: shared access is by atomic loads alone.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of `fd`, `PROT_READ` and `MAP_SHARED`.
    pub(crate) fn new(fd: impl AsFd, len: usize) -> Result<Self, Errno> {
        if len == 0 || len % size_of::<AtomicU64>() != 0 {
            return Err(Errno::INVAL);
        }
        // SAFETY: a new mapping at an address that the kernel chooses overlaps no other.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                fd.as_fd(),
                0,
            )?
        };
        // INVARIANT: mmap gave `len` readable bytes at a page's start; `len` was checked above.
        let words = NonNull::new(address.cast()).ok_or(Errno::FAULT)?;
        Ok(Map { words, len })
    }
}

impl AsRef<[AtomicU64]> for Map {
    fn as_ref(&self) -> &[AtomicU64] {
        // SAFETY: by the invariant the memory is mapped, aligned, and stays so while `self` is
        // borrowed. The kernel writes to it meanwhile, which an `AtomicU64` allows. The mapping
        // is read-only: this crate makes relaxed loads of 8 bytes alone, which the documentation
        // of `std::sync::atomic` allows on read-only memory (see `ring.rs`).
        unsafe { slice::from_raw_parts(self.words.as_ptr(), self.len / size_of::<AtomicU64>()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: by the invariant this value owns the mapping, and no borrow of it is left.
        // Unmapping what was mapped cannot fail in a way that could be handled here.
        let _ = unsafe { munmap(self.words.as_ptr().cast(), self.len) };
    }
}
