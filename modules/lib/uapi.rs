// SPDX-License-Identifier: GPL-2.0-only

//! Copying ioctl structures in and out by the uAPI's rules (include/uapi/linux/virgo.h).

use core::{
    mem::MaybeUninit,
    slice, //
};

use kernel::{
    bindings,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use super::copy::copy_short;
use crate::proto::uapi as abi;

/// A structure that begins with its size, as all of the uAPI's do.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding, is valid for every bit pattern, and its first field is
/// the `u32` size.
pub unsafe trait Sized32: Copy + Default {
    /// Size of the structure's first version, in bytes.
    const FIRST_SIZE: usize;
}

/// Declares the uAPI's structures with the size of their first version.
macro_rules! sized32 {
    ($($type:ident: $first:literal),+ $(,)?) => { $(
        // SAFETY: `repr(C)`, integers only, `size` first; the sum of the fields' sizes is checked
        // to be the structure's in the mirror's test, so there is no padding.
        unsafe impl Sized32 for abi::$type {
            const FIRST_SIZE: usize = $first;
        }
        static_assert!(size_of::<abi::$type>() >= $first);
        static_assert!(core::mem::offset_of!(abi::$type, size) == 0);
    )+ };
}

sized32! {
    Query: 64,
    NodesLoad: 88,
    NodesList: 96,
    NodesPolicy: 40,
    NodePing: 32,
    NodePick: 40,
    CpupoolCall: 88,
    CpupoolList: 48,
    CpupoolSet: 56,
    CpupoolLend: 16,
    CpupoolStart: 88,
    CpupoolFollow: 136,
    CpupoolKill: 32,
    ProfilerTask: 40,
    ProfilerList: 40,
    ProfilerRate: 16,
    ProfilerInfo: 56,
    ProfilerSeen: 16,
    QueuePut: 264,
    QueueTake: 272,
    QueueDone: 48,
    QueuePeek: 312,
    QueueStat: 392,
    QueueList: 48,
    QueueDrain: 16,
    QueueTube: 264,
    QueueReply: 48,
    QueueResult: 48,
    MemMalloc: 64,
    MemIo: 72,
    MemFree: 40,
    MemList: 40,
    MemStat: 216,
    MemPut: 80,
    MemTake: 80,
    MemDrop: 48,
    MemCount: 80,
    MemScan: 56,
    MemFlush: 32,
    MemSettings: 64,
    MemShare: 64,
    MemSeen: 16,
    FsOpen: 40,
    FsIo: 40,
    FsHandle: 16,
    FsStat: 72,
    TraceStart: 40,
    TraceStop: 8,
    TraceInfo: 64,
    EventnetLog: 48,
    EventnetRead: 64,
    EventnetStat: 144,
    EventnetSettings: 48,
    AnalyticsGet: 768,
    AnalyticsSet: 592,
    AnalyticsDefine: 512,
    AnalyticsLog: 56,
    AnalyticsUndo: 40,
    AnalyticsInfo: 128,
    AnalyticsSeen: 16,
}

/// Largest size that a caller may name: a page, as for the kernel's own extensible structures.
const MAX_SIZE: usize = 4096;

/// An ioctl's command: its direction, type and number. The size which is coded in it is left out:
/// the structure's own size field says it, and grows with the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    direction: u32,
    number: u32,
}

impl Command {
    /// From the number that the ioctl came with; `None` if it is not one of VIRGO's.
    pub const fn new(command: u32) -> Option<Command> {
        if (command >> 8) & 0xff != abi::IOC_MAGIC {
            return None;
        }
        Some(Command {
            direction: command >> 30,
            number: command & 0xff,
        })
    }

    /// The module that it belongs to.
    pub fn module(self) -> Option<abi::Module> {
        abi::Module::from_number(self.number >> 4)
    }
}

/// An ioctl's argument: where in user space the structure is.
#[derive(Clone, Copy)]
pub struct Arg(usize);

/// A structure from user space and how much of it the caller knows.
pub struct Sized<T> {
    /// The structure; fields that the caller's version lacks are zero.
    pub value: T,
    user_size: usize,
    arg: Arg,
}

impl Arg {
    /// From the number that the ioctl came with.
    pub fn new(arg: usize) -> Self {
        Arg(arg)
    }

    /// Reads a structure. `EFAULT`; `EINVAL` for a size below the first version's or over a page;
    /// `E2BIG` where bytes that this kernel does not know are not zero. May sleep.
    pub fn read<T: Sized32>(self) -> Result<Sized<T>> {
        let mut request = Sized::empty(self);
        request.fetch()?;
        Ok(request)
    }
}

impl<T: Sized32> Sized<T> {
    /// For [`fetch`](Self::fetch), where copies of the structure on its way would cost too much.
    #[inline(always)]
    pub fn empty(arg: Arg) -> Self {
        Sized {
            value: T::default(),
            user_size: 0,
            arg,
        }
    }

    /// Reads the structure: see [`Arg::read`]. May sleep.
    #[inline(always)]
    pub fn fetch(&mut self) -> Result {
        // SAFETY: `value` is writable for its size, which is at least the first version's; every
        // bit pattern is valid.
        let left = unsafe {
            bindings::_copy_from_user(
                (&raw mut self.value).cast(),
                UserPtr::from_addr(self.arg.0).as_const_ptr(),
                // Known when this is built, so that no check of the object is needed: as C does it.
                T::FIRST_SIZE,
            )
        };
        // SAFETY: The first field is the `u32` size by the trait.
        let user_size = unsafe { (&raw const self.value).cast::<u32>().read() };
        // CAST: u32 fits usize on 64-bit.
        let user_size = user_size as usize;
        if left != 0 || user_size != T::FIRST_SIZE {
            return self.fetch_other(left != 0, user_size);
        }
        self.user_size = user_size;
        Ok(())
    }

    /// Reads a structure of another version. `torn`: the first version's bytes are not all there.
    #[cold]
    fn fetch_other(&mut self, torn: bool, user_size: usize) -> Result {
        let pointer = UserPtr::from_addr(self.arg.0);
        if torn {
            // Perhaps the size is there, and it is wrong.
            let user_size: u32 = UserSlice::new(pointer, size_of::<u32>()).reader().read()?;
            // CAST: u32 fits usize on 64-bit.
            let fits = (T::FIRST_SIZE..=MAX_SIZE).contains(&(user_size as usize));
            return Err(if fits { EFAULT } else { EINVAL });
        }
        if !(T::FIRST_SIZE..=MAX_SIZE).contains(&user_size) {
            return Err(EINVAL);
        }
        let known = user_size.min(size_of::<T>());
        let mut reader = UserSlice::new(pointer, user_size).reader();
        reader.skip(T::FIRST_SIZE)?;
        // SAFETY: `T` is valid for every bit pattern and has no padding by its trait; `known` is
        // at most its size; nothing else refers to `value`.
        let bytes = unsafe { slice::from_raw_parts_mut((&raw mut self.value).cast::<u8>(), known) };
        reader.read_slice(bytes.get_mut(T::FIRST_SIZE..).ok_or(EINVAL)?)?;
        let mut unknown = [0_u8; 64];
        while !reader.is_empty() {
            let length = reader.len().min(unknown.len());
            let chunk = unknown.get_mut(..length).ok_or(EINVAL)?;
            reader.read_slice(chunk)?;
            if chunk.iter().any(|byte| *byte != 0) {
                return Err(E2BIG);
            }
        }
        self.user_size = user_size;
        Ok(())
    }

    /// Writes `value` back: as much as the caller knows; the size field stays the caller's. May sleep.
    pub fn write_back(&self) -> Result {
        let known = self.user_size.min(size_of::<T>());
        let skip = size_of::<u32>();
        let pointer = UserPtr::from_addr(self.arg.0).wrapping_byte_add(skip);
        // SAFETY: `T` has no padding by its trait, so all its bytes are initialised; `known` is at
        // most its size.
        let bytes = unsafe { slice::from_raw_parts((&raw const self.value).cast::<u8>(), known) };
        let bytes = bytes.get(skip..).ok_or(EINVAL)?;
        if known != T::FIRST_SIZE {
            return UserSlice::new(pointer, bytes.len())
                .writer()
                .write_slice(bytes);
        }
        // SAFETY: The bytes are readable for so many, which are those of the first version.
        let left = unsafe {
            bindings::_copy_to_user(
                pointer.as_mut_ptr(),
                bytes.as_ptr().cast(),
                // As in `read`.
                T::FIRST_SIZE.saturating_sub(size_of::<u32>()),
            )
        };
        match left {
            0 => Ok(()),
            _ => Err(EFAULT),
        }
    }
}

/// Room for up to `N` bytes on the stack, which is not cleared before it is filled.
pub struct Room<const N: usize> {
    bytes: [MaybeUninit<u8>; N],
    /// As many are initialised.
    length: usize,
}

impl<const N: usize> Default for Room<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Room<N> {
    /// Nothing is in it.
    #[inline]
    pub const fn new() -> Self {
        Room {
            bytes: [const { MaybeUninit::uninit() }; N],
            length: 0,
        }
    }

    /// What is in it.
    #[inline]
    pub fn get(&self) -> &[u8] {
        // SAFETY: `length` bytes are initialised, and it is at most `N`.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr().cast(), self.length) }
    }

    /// Fills it with a copy of these bytes. False: there are more than have room.
    #[inline]
    pub fn fill(&mut self, from: &[u8]) -> bool {
        if from.len() > N {
            return false;
        }
        // SAFETY: There is room for so many, and it is not theirs.
        unsafe { copy_short(from, self.bytes.as_mut_ptr().cast()) };
        self.length = from.len();
        true
    }

    /// Fills it with so many bytes of user space. `E2BIG` for more than have room; `EFAULT`. May
    /// sleep.
    #[inline]
    pub fn copy_in(&mut self, address: u64, length: usize) -> Result {
        self.length = 0;
        if length > N {
            return Err(E2BIG);
        }
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        // SAFETY: There is room for so many bytes, as was just seen: the check of the object that
        // `copy_from_user()` makes has nothing to add.
        let left = unsafe {
            bindings::_copy_from_user(
                self.bytes.as_mut_ptr().cast(),
                UserPtr::from_addr(address).as_const_ptr(),
                length,
            )
        };
        if left != 0 {
            return Err(EFAULT);
        }
        self.length = length;
        Ok(())
    }

    /// Copies what is in it to user space. `EFAULT`. May sleep.
    #[inline]
    pub fn copy_out(&self, address: u64) -> Result {
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        // SAFETY: So many bytes are initialised. As above.
        let left = unsafe {
            bindings::_copy_to_user(
                UserPtr::from_addr(address).as_mut_ptr(),
                self.bytes.as_ptr().cast(),
                self.length,
            )
        };
        match left {
            0 => Ok(()),
            _ => Err(EFAULT),
        }
    }
}

/// A structure without a size of its own, for lists and tables.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding, and is valid for every bit pattern.
pub unsafe trait Plain: Copy {}

// SAFETY: Integers only; the sum of the fields' sizes is the structure's (include/uapi).
unsafe impl Plain for abi::MemBlock {}
static_assert!(size_of::<abi::MemBlock>() == 48);
// SAFETY: As above.
unsafe impl Plain for abi::CpupoolFunction {}
static_assert!(size_of::<abi::CpupoolFunction>() == 96);
// SAFETY: As above.
unsafe impl Plain for abi::CpupoolProgram {}
static_assert!(size_of::<abi::CpupoolProgram>() == 304);
// SAFETY: As above.
unsafe impl Plain for abi::CpupoolRun {}
static_assert!(size_of::<abi::CpupoolRun>() == 80);
// SAFETY: As above.
unsafe impl Plain for abi::Node {}
static_assert!(size_of::<abi::Node>() == 208);
// SAFETY: As above.
unsafe impl Plain for abi::MemRecord {}
static_assert!(size_of::<abi::MemRecord>() == 32);
// SAFETY: As above.
unsafe impl Plain for abi::ProfilerEntry {}

// SAFETY: As above.
unsafe impl Plain for abi::AnalyticsChange {}
static_assert!(size_of::<abi::AnalyticsChange>() == 432);

/// Copies a structure from user space. `EFAULT`. May sleep.
pub fn copy_in_plain<T: Plain + Default>(address: u64) -> Result<T> {
    let mut value = T::default();
    // SAFETY: The structures are integers, valid for every bit pattern, without padding by the
    // trait; nothing else refers to `value`.
    let bytes = unsafe { slice::from_raw_parts_mut((&raw mut value).cast::<u8>(), size_of::<T>()) };
    copy_in(address, bytes)?;
    Ok(value)
}

/// The bytes of a structure.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: By the trait all bytes are initialised.
    unsafe { slice::from_raw_parts((&raw const *value).cast::<u8>(), size_of::<T>()) }
}

/// Copies from user space. `EFAULT`. May sleep.
pub fn copy_in(address: u64, bytes: &mut [u8]) -> Result {
    let address = usize::try_from(address).map_err(|_| EFAULT)?;
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .reader()
        .read_slice(bytes)
}

/// Copies to user space. `EFAULT`. May sleep.
pub fn copy_out(address: u64, bytes: &[u8]) -> Result {
    let address = usize::try_from(address).map_err(|_| EFAULT)?;
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .writer()
        .write_slice(bytes)
}

/// Where entry `index` of the list of `T` at `address` is in user space. `EFAULT`.
fn entry_address<T: Plain>(address: u64, index: usize) -> Result<u64> {
    // CAST: usize fits u64.
    let offset = index.checked_mul(size_of::<T>()).ok_or(EFAULT)? as u64;
    address.checked_add(offset).ok_or(EFAULT)
}

/// Reads entry `index` of the list at `address` from user space. `EFAULT`. May sleep.
pub fn read_entry<T: Plain + Default>(address: u64, index: usize) -> Result<T> {
    copy_in_plain(entry_address::<T>(address, index)?)
}

/// Writes entry `index` of the list at `address` to user space. `EFAULT`. May sleep.
pub fn write_entry<T: Plain>(address: u64, index: usize, entry: &T) -> Result {
    copy_out(entry_address::<T>(address, index)?, bytes_of(entry))
}
