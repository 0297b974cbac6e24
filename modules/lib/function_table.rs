// SPDX-License-Identifier: GPL-2.0-only

//! The table of functions that can be called by name, and what virgo-cpupool exports.
//!
//! Beside [`super::functions`], which every module has, this file is compiled into virgo-cpupool
//! alone.
//!
//! # Locking
//!
//! One spinlock over all places, which keeps softirqs out, as calls come from there too. A function is
//! never called under it: a caller counts itself in, lets go of the lock, calls, and counts itself out.

use core::{
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use crate::{
    lib::{
        compat::emsgsize,
        functions::{
            FunctionOps,
            FunctionSlot,
            FUNCTION_ABI, //
        },
        service::RawBuffer,
        spinlock::{
            BhGuard,
            BhSpinLock, //
        },
        time::monotonic_ns, //
    },
    proto::call::{
        is_name,
        NAME_MAX, //
    },
};

/// The most functions.
pub(crate) const MAX_FUNCTIONS: usize = 256;

/// A function's place.
struct Place {
    name: [u8; NAME_MAX],
    name_len: usize,
    ops: FunctionOps,
    /// Not 0: calls are to end.
    stop: Atomic<u32>,
    running: usize,
    calls: u64,
    failed: u64,
    busy_ns: u64,
}

impl Place {
    fn name(&self) -> &[u8] {
        self.name.get(..self.name_len).unwrap_or(&[])
    }
}

/// # Invariants
///
/// A place's box is freed only when it is out of the table and nobody runs.
struct Table {
    /// In the order of their names; with room for [`MAX_FUNCTIONS`].
    places: KVec<KBox<Place>>,
}

impl Table {
    fn find(&mut self, name: &[u8]) -> Option<&mut Place> {
        let mut places = self.places.iter_mut();
        let place = places.find(|place| place.name() == name)?;
        Some(&mut **place)
    }
}

// SAFETY: The raw pointers in a place are the owner's, which vouched that they may be used from any
// thread by implementing `Function: Send + Sync`.
unsafe impl Send for Table {}

/// Where the table is.
///
/// # Invariants
///
/// Null, or the lock of the one [`Opened`], which the module's init makes before any other module can
/// call an exported function, and which goes last of all that the module has.
struct Where(Atomic<*mut BhSpinLock<Table>>);

impl Where {
    fn lock(&self) -> BhGuard<'_, Table> {
        // SAFETY: By the invariant it is there while anybody can call this. Acquire: pairs with the
        // store of `Opened::new`.
        unsafe { &*self.0.load(Acquire) }.lock()
    }
}

static TABLE: Where = Where(Atomic::new(ptr::null_mut()));

/// The table, open as long as this value lives. There is one, made by the module's init.
pub(crate) struct Opened(#[expect(dead_code, reason = "kept alive")] Pin<KBox<BhSpinLock<Table>>>);

impl Opened {
    /// Opens it. `ENOMEM`. Call it once, in the module's init.
    pub(crate) fn new() -> Result<Self> {
        let places = KVec::with_capacity(MAX_FUNCTIONS, GFP_KERNEL)?;
        let lock = crate::new_bh_spinlock!(Table { places }, c"virgo_functions");
        let lock = KBox::pin_init(lock, GFP_KERNEL)?;
        // INVARIANT: Held by the value that is returned.
        TABLE.0.store(ptr::from_ref(&*lock).cast_mut(), Release);
        Ok(Opened(lock))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        TABLE.0.store(ptr::null_mut(), Release);
    }
}

/// A function, for lists.
pub(crate) struct Listed {
    pub(crate) name: [u8; NAME_MAX],
    pub(crate) slow: bool,
    pub(crate) running: u32,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) busy_ns: u64,
}

/// All functions, ordered by name. `ENOMEM`. May sleep.
pub(crate) fn list() -> Result<KVec<Listed>> {
    let mut all = KVec::with_capacity(MAX_FUNCTIONS, GFP_KERNEL)?;
    for place in TABLE.lock().places.iter() {
        let listed = Listed {
            name: place.name,
            slow: place.ops.is_slow(),
            running: u32::try_from(place.running).unwrap_or(u32::MAX),
            calls: place.calls,
            failed: place.failed,
            busy_ns: place.busy_ns,
        };
        // There is room for all, and nothing may sleep here.
        let _ = all.push_within_capacity(listed);
    }
    Ok(all)
}

/// Whether a function may take long; `None` if there is none of this name.
pub(crate) fn is_slow(name: &[u8]) -> Option<bool> {
    TABLE.lock().find(name).map(|place| place.ops.is_slow())
}

/// Calls a function, in this thread. It is told to end at `deadline_ns`; at most `limit` bytes come
/// out. `ENOENT` if there is none of this name, or its own errors. Sleeps.
pub(crate) fn call(name: &[u8], input: &[u8], limit: usize, deadline_ns: u64) -> Result<KVVec<u8>> {
    let entered = Entered::new(TABLE.lock().find(name).ok_or(ENOENT)?);
    run(entered, input, limit, Some(deadline_ns))
}

/// The same where nothing may sleep: `None` where the function would have to.
pub(crate) fn call_atomic(name: &[u8], input: &[u8], limit: usize) -> Option<Result<KVVec<u8>>> {
    let entered = match TABLE.lock().find(name) {
        None => return Some(Err(ENOENT)),
        Some(place) if !place.ops.is_atomic() => return None,
        Some(place) => Entered::new(place),
    };
    let result = run(entered, input, limit, None);
    // Who may sleep can wait for memory.
    (result.as_ref().err() != Some(&ENOMEM)).then_some(result)
}

/// A place with a call in it, which is not freed before [`run`] has counted the call out.
struct Entered(NonNull<Place>);

impl Entered {
    /// Counts a call in.
    fn new(place: &mut Place) -> Self {
        place.running = place.running.saturating_add(1);
        Entered(NonNull::from(place))
    }
}

/// Runs the function of a place, and counts the call out. Without a deadline nothing may sleep.
fn run(
    entered: Entered,
    input: &[u8],
    limit: usize,
    deadline_ns: Option<u64>,
) -> Result<KVVec<u8>> {
    let place = entered.0.as_ptr();
    let begin = monotonic_ns();
    let mut output = RawBuffer::empty();
    // SAFETY: A place with a call in it is not freed; table, context and flag live as long. The
    // input is valid for its length.
    let status = unsafe {
        ((*place).ops.run)(
            (*place).ops.context,
            input.as_ptr(),
            input.len(),
            limit,
            deadline_ns.unwrap_or(u64::MAX),
            &raw const (*place).stop,
            deadline_ns.is_none().into(),
            &mut output,
        )
    };
    // SAFETY: It is empty, or what the function's owner put there for us.
    let output = unsafe { output.into_vec() };
    let result = match status {
        0 if output.len() > limit => Err(emsgsize()),
        0 => Ok(output),
        // What is no errno is told as invalid.
        error if (-4095..0).contains(&error) => Err(Error::from_errno(error)),
        _ => Err(EINVAL),
    };
    let spent = monotonic_ns().saturating_sub(begin);
    let _table = TABLE.lock();
    // SAFETY: As above; the counts change under the lock only.
    unsafe {
        (*place).running = (*place).running.saturating_sub(1);
        (*place).calls = (*place).calls.wrapping_add(1);
        (*place).failed = (*place).failed.wrapping_add(u64::from(result.is_err()));
        (*place).busy_ns = (*place).busy_ns.wrapping_add(spent);
    }
    result
}

/// Puts a function into the table.
///
/// Returns its place, or an error pointer: `ENOEXEC` where `abi` or `size` is not this module's,
/// `EINVAL` for a name that cannot be, `EEXIST`, `ENOSPC`, `ENOMEM`. May sleep.
///
/// # Safety
///
/// `ops` points to at least `size` bytes of a table, whose name is readable during the call and whose
/// function and context stay valid until the function is taken out again.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_cpupool_register_function(
    ops: *const FunctionOps,
    abi: u32,
    size: u32,
) -> *mut FunctionSlot {
    let failed = |error: Error| ptr::without_provenance_mut(error.to_errno() as isize as usize);
    if abi != FUNCTION_ABI || size as usize != size_of::<FunctionOps>() {
        pr_err!(
            "a function of another build was refused: its table has version {} and {} bytes, ours {} and {}; load modules of one build\n",
            abi,
            size,
            FUNCTION_ABI,
            size_of::<FunctionOps>()
        );
        return failed(ENOEXEC);
    }
    // SAFETY: By the safety requirements, and the size is the table's.
    let ops = unsafe { *ops };
    // SAFETY: By the safety requirements. CAST: u32 fits usize on 64-bit.
    let given = unsafe { slice::from_raw_parts(ops.name, ops.name_len as usize) };
    if !is_name(given) {
        return failed(EINVAL);
    }
    let mut name = [0; NAME_MAX];
    for (to, from) in name.iter_mut().zip(given) {
        *to = *from;
    }
    let place = Place {
        name,
        name_len: given.len(),
        ops,
        stop: Atomic::new(0),
        running: 0,
        calls: 0,
        failed: 0,
        busy_ns: 0,
    };
    let Ok(mut place) = KBox::new(place, GFP_KERNEL) else {
        return failed(ENOMEM);
    };
    let slot: *mut Place = &mut *place;
    let mut table = TABLE.lock();
    let at = table.places.partition_point(|there| there.name() < given);
    if table
        .places
        .get(at)
        .is_some_and(|there| there.name() == given)
    {
        return failed(EEXIST);
    }
    if table.places.len() >= MAX_FUNCTIONS {
        return failed(ENOSPC);
    }
    if table.places.insert_within_capacity(at, place).is_err() {
        return failed(ENOMEM);
    }
    slot.cast()
}
crate::virgo_export!(virgo_cpupool_register_function);

/// Takes a function out of the table, tells its calls to end, and waits for them. Sleeps.
///
/// # Safety
///
/// `slot` came from [`virgo_cpupool_register_function`] and is given up here.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_cpupool_unregister_function(slot: *mut FunctionSlot) {
    let slot = slot.cast::<Place>();
    let mut table = TABLE.lock();
    let Some(at) = table
        .places
        .iter()
        .position(|place| ptr::eq(&**place, slot))
    else {
        return;
    };
    let Ok(place) = table.places.remove(at) else {
        return;
    };
    // Out of the table, so that no new call comes.
    let raw = KBox::into_raw(place);
    loop {
        // SAFETY: `raw` is freed below only; the count changes under the lock, held here.
        unsafe {
            // Relaxed: calls look at it again and again.
            (*raw).stop.store(1, Relaxed);
            if (*raw).running == 0 {
                break;
            }
        }
        drop(table);
        fsleep(Delta::from_millis(1));
        table = TABLE.lock();
    }
    drop(table);
    // SAFETY: From `into_raw` above; no call runs and none can come.
    drop(unsafe { KBox::from_raw(raw) });
}
crate::virgo_export!(virgo_cpupool_unregister_function);
