// SPDX-License-Identifier: GPL-2.0-only

//! Copying ioctl structures in and out by the uAPI's rules (include/uapi/linux/virgo.h).

use core::{
    mem::MaybeUninit,
    slice, //
};

use kernel::{
    alloc::{
        Allocator,
        Flags,
        Vec, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use super::{
    copy::copy_short,
    ffi, //
};
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
    /// Where what goes back to the caller begins and ends, in bytes; in the first version.
    const OUT: (usize, usize);
}

/// Declares the uAPI's structures with the size of their first version, and, where the fields that
/// go back lie together and a call is to be cheap, the first of them and the one behind the last.
macro_rules! sized32 {
    (@out $type:ident $first:literal) => { (size_of::<u32>(), $first) };
    (@out $type:ident $first:literal $from:ident $to:ident) => {
        (
            core::mem::offset_of!(abi::$type, $from),
            core::mem::offset_of!(abi::$type, $to),
        )
    };
    ($($type:ident: $first:literal $([$from:ident .. $to:ident])?),+ $(,)?) => { $(
        // SAFETY: `repr(C)`, integers only, `size` first; the sum of the fields' sizes is checked
        // to be the structure's in the mirror's test, so there is no padding.
        unsafe impl Sized32 for abi::$type {
            const FIRST_SIZE: usize = $first;
            const OUT: (usize, usize) = sized32!(@out $type $first $($from $to)?);
        }
        static_assert!(<abi::$type as Sized32>::OUT.0 >= size_of::<u32>());
        static_assert!(<abi::$type as Sized32>::OUT.0 < <abi::$type as Sized32>::OUT.1);
        static_assert!(<abi::$type as Sized32>::OUT.1 <= $first);
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
    QueuePut: 264 [id..reserved],
    QueueTake: 272 [length..reserved],
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
    MemPut: 80 [cas..reserved],
    MemTake: 80 [value_len..reserved],
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
        let mut value = T::default();
        // SAFETY: `value` is writable, and initialised.
        let user_size = unsafe { self.fetch(&raw mut value) }?;
        Ok(Sized {
            value,
            user_size,
            arg: self,
        })
    }

    /// Reads a structure into `value`; the size that the caller says it has. Errors as
    /// [`Arg::read`]'s. May sleep.
    ///
    /// # Safety
    ///
    /// `value` is writable; initialised is what lies behind the first version. After an error it may
    /// be as it was.
    #[inline(always)]
    unsafe fn fetch<T: Sized32>(self, value: *mut T) -> Result<usize> {
        // SAFETY: `value` is writable for its size, which is at least the first version's.
        let got = unsafe { from_user(value.cast(), self.0, T::FIRST_SIZE) };
        if got.is_err() {
            return Err(self.torn(T::FIRST_SIZE));
        }
        // SAFETY: The first field is the `u32` size by the trait.
        let user_size = unsafe { value.cast::<u32>().read() };
        // CAST: u32 fits usize on 64-bit.
        let user_size = user_size as usize;
        if user_size != T::FIRST_SIZE {
            // SAFETY: All is initialised: the first version just now, the rest by the caller's word.
            self.fetch_rest(unsafe { &mut *value }, user_size)?;
        }
        Ok(user_size)
    }

    /// Why the first version's bytes could not be read.
    #[cold]
    fn torn(self, first: usize) -> Error {
        // Perhaps the size is there, and it is wrong.
        let pointer = UserPtr::from_addr(self.0);
        let size = UserSlice::new(pointer, size_of::<u32>())
            .reader()
            .read::<u32>();
        match size {
            // CAST: u32 fits usize on 64-bit.
            Ok(size) if !(first..=MAX_SIZE).contains(&(size as usize)) => EINVAL,
            _ => EFAULT,
        }
    }

    /// Reads what lies behind the first version.
    #[cold]
    fn fetch_rest<T: Sized32>(self, value: &mut T, user_size: usize) -> Result {
        if !(T::FIRST_SIZE..=MAX_SIZE).contains(&user_size) {
            return Err(EINVAL);
        }
        let known = user_size.min(size_of::<T>());
        let mut reader = UserSlice::new(UserPtr::from_addr(self.0), user_size).reader();
        reader.skip(T::FIRST_SIZE)?;
        // SAFETY: `T` is valid for every bit pattern and has no padding by its trait; `known` is
        // at most its size; nothing else refers to `value`.
        let bytes = unsafe { slice::from_raw_parts_mut((&raw mut *value).cast::<u8>(), known) };
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
        Ok(())
    }

    /// Writes what goes back to the caller, who knows `user_size` bytes; the size field stays the
    /// caller's. `EFAULT`. May sleep.
    #[inline(always)]
    fn write<T: Sized32>(self, value: &T, user_size: usize) -> Result {
        let (from, to) = T::OUT;
        let start = (&raw const *value).cast::<u8>();
        // SAFETY: `T` has no padding by its trait, so all its bytes are initialised; what goes back
        // lies in the first version, and that in it, as is checked where they are declared.
        unsafe {
            to_user(
                self.0.wrapping_add(from),
                start.add(from),
                to.wrapping_sub(from),
            )
        }?;
        // What only later versions have.
        let known = user_size.min(size_of::<T>());
        match known.checked_sub(T::FIRST_SIZE) {
            None | Some(0) => Ok(()),
            // SAFETY: As above; `known` is at most the structure's size.
            Some(more) => unsafe {
                to_user(
                    self.0.wrapping_add(T::FIRST_SIZE),
                    start.add(T::FIRST_SIZE),
                    more,
                )
            },
        }
    }
}

impl<T: Sized32> Sized<T> {
    /// Writes what goes back to the caller: see [`UserStruct::write_back`].
    pub fn write_back(&self) -> Result {
        self.arg.write(&self.value, self.user_size)
    }
}

/// Place for a structure from user space, where each copy of it on its way would be felt.
pub struct UserStruct<T> {
    value: MaybeUninit<T>,
    /// How much of it the caller knows; 0: nothing has been read.
    user_size: usize,
    arg: Arg,
}

impl<T: Sized32> UserStruct<T> {
    /// There is nothing in it yet.
    #[inline(always)]
    pub const fn new(arg: Arg) -> Self {
        UserStruct {
            value: MaybeUninit::uninit(),
            user_size: 0,
            arg,
        }
    }

    /// Reads the structure: see [`Arg::read`]. May sleep.
    #[inline(always)]
    pub fn fetch(&mut self) -> Result<&mut T> {
        self.user_size = 0;
        if size_of::<T>() > T::FIRST_SIZE {
            self.value = MaybeUninit::zeroed();
        }
        // SAFETY: `value` is writable; what lies behind the first version is zero.
        self.user_size = unsafe { self.arg.fetch(self.value.as_mut_ptr()) }?;
        // SAFETY: All of it was read or is zero, and every bit pattern is a `T`.
        Ok(unsafe { self.value.assume_init_mut() })
    }

    /// Writes what goes back to the caller; all other fields stay the caller's. `EFAULT`; `EINVAL`
    /// where nothing was read. May sleep.
    #[inline(always)]
    pub fn write_back(&self) -> Result {
        if self.user_size == 0 {
            return Err(EINVAL);
        }
        // SAFETY: It was read.
        self.arg
            .write(unsafe { self.value.assume_init_ref() }, self.user_size)
    }
}

/// Copies from user space. `EFAULT`. May sleep.
///
/// # Safety
///
/// `to` is writable for `length` bytes.
#[inline(always)]
unsafe fn from_user(to: *mut u8, address: usize, length: usize) -> Result {
    let from = UserPtr::from_addr(address).as_const_ptr();
    // SAFETY: By the safety requirements; any address of user space may be tried.
    match unsafe { ffi::virgo_shim_from_user(to.cast(), from.cast(), length) } {
        0 => Ok(()),
        _ => Err(EFAULT),
    }
}

/// Copies to user space. `EFAULT`. May sleep.
///
/// # Safety
///
/// `from` is readable for `length` bytes, which are initialised.
#[inline(always)]
unsafe fn to_user(address: usize, from: *const u8, length: usize) -> Result {
    let to = UserPtr::from_addr(address).as_mut_ptr();
    // SAFETY: By the safety requirements; any address of user space may be tried.
    match unsafe { ffi::virgo_shim_to_user(to.cast(), from.cast(), length) } {
        0 => Ok(()),
        _ => Err(EFAULT),
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
        // SAFETY: There is room for so many bytes, as was just seen.
        unsafe { from_user(self.bytes.as_mut_ptr().cast(), address, length) }?;
        self.length = length;
        Ok(())
    }

    /// Copies what is in it to user space. `EFAULT`. May sleep.
    #[inline]
    pub fn copy_out(&self, address: u64) -> Result {
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        // SAFETY: So many bytes are initialised.
        unsafe { to_user(address, self.bytes.as_ptr().cast(), self.length) }
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
    // SAFETY: The slice is writable for its length.
    unsafe { from_user(bytes.as_mut_ptr(), address, bytes.len()) }
}

/// A copy of `length` bytes of user space. `EFAULT`; `ENOMEM`. May sleep.
pub fn copied<A: Allocator>(address: u64, length: usize, flags: Flags) -> Result<Vec<u8, A>> {
    let address = usize::try_from(address).map_err(|_| EFAULT)?;
    let mut all = Vec::with_capacity(length, flags)?;
    // SAFETY: There is room for so many bytes, by the line above.
    unsafe { from_user(all.as_mut_ptr(), address, length) }?;
    // SAFETY: So many were copied into the room.
    unsafe { all.inc_len(length) };
    Ok(all)
}

/// Copies to user space. `EFAULT`. May sleep.
pub fn copy_out(address: u64, bytes: &[u8]) -> Result {
    let address = usize::try_from(address).map_err(|_| EFAULT)?;
    // SAFETY: The slice is readable for its length.
    unsafe { to_user(address, bytes.as_ptr(), bytes.len()) }
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
