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
unsafe impl Plain for uapi::ProfilerTask {}
// SAFETY: as above.
unsafe impl Plain for uapi::ProfilerRate {}
// SAFETY: as above.
unsafe impl Plain for uapi::ProfilerInfo {}
// SAFETY: as above.
unsafe impl Plain for uapi::ProfilerSeen {}

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
