// SPDX-License-Identifier: GPL-2.0-only

//! Kernel functions that other nodes and users may call by name: virgo-cpupool keeps them, any module
//! can offer one.
//!
//! A module that does imports virgo-cpupool's symbols, which pins virgo-cpupool. tests and readers
//! begin with modules/virgo-example.

use core::{
    marker::PhantomData,
    ptr::NonNull,
    slice, //
};

use kernel::{
    alloc::flags::{
        GFP_ATOMIC,
        __GFP_NOWARN, //
    },
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::ForeignOwnable, //
};

use super::{
    ffi,
    module::this_module,
    service::{
        RawBuffer,
        RemoteReply, //
    },
    time::monotonic_ns, //
};

/// Version of [`FunctionOps`]. Grows with each change.
pub const FUNCTION_ABI: u32 = 2;

/// A function may sleep for long, or compute for long: it is not run where others wait.
const SLOW: u32 = 1 << 0;
/// A function never sleeps, nor computes for long: it may be run in softirq.
const ATOMIC: u32 = 1 << 1;

/// A function, as it crosses the boundary of modules.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FunctionOps {
    /// `size_of::<FunctionOps>()` of the owner.
    pub(crate) size: u32,
    /// [`FUNCTION_ABI`] of the owner.
    pub(crate) abi: u32,
    pub(crate) flags: u32,
    pub(crate) name_len: u32,
    pub(crate) name: *const u8,
    pub(crate) owner: *mut bindings::module,
    pub(crate) context: *mut c_void,
    pub(crate) run: unsafe extern "C" fn(
        context: *mut c_void,
        input: *const u8,
        input_len: usize,
        limit: usize,
        deadline_ns: u64,
        stop: *const Atomic<u32>,
        // Not 0: nothing may sleep, nor is `deadline_ns` of any meaning.
        atomic: u32,
        output: *mut RawBuffer,
    ) -> i32,
}

impl FunctionOps {
    /// Whether it may take long.
    pub(crate) fn is_slow(&self) -> bool {
        self.flags & SLOW != 0
    }

    /// Whether it may be run where nothing may sleep.
    pub(crate) fn is_atomic(&self) -> bool {
        self.flags & ATOMIC != 0
    }
}

/// A place in the table, of which virgo-cpupool alone knows the inside.
#[repr(C)]
pub(crate) struct FunctionSlot {
    _opaque: [u8; 0],
}

/// A call that is under way.
pub struct Running<'a> {
    deadline_ns: u64,
    stop: &'a Atomic<u32>,
    /// In softirq: whose time is spent is not known, and no signal is the caller's.
    atomic: bool,
}

impl Running<'_> {
    /// The call is to end: its time is over, its caller was killed, or its module is going. Ask at
    /// least every hundred milliseconds, and return [`Running::why`] then.
    pub fn cancelled(&self) -> bool {
        // Relaxed: a number that is looked at again.
        self.stop.load(Relaxed) != 0
            || (!self.atomic
                && (monotonic_ns() > self.deadline_ns || kernel::current!().signal_pending()))
    }

    /// The error that a cancelled call ends with: `ETIMEDOUT`, `ENODEV` where the module is going, or
    /// `EINTR`.
    pub fn why(&self) -> Error {
        if self.stop.load(Relaxed) != 0 {
            ENODEV
        } else if monotonic_ns() > self.deadline_ns {
            ETIMEDOUT
        } else {
            EINTR
        }
    }
}

/// What can be called by name.
pub trait Function: Send + Sync + 'static {
    /// Its name: letters, digits and `_`, not a digit first, at most 63.
    const NAME: &'static str;

    /// It may sleep or compute for more than some microseconds.
    const SLOW: bool = true;

    /// It never sleeps (no mutex, no `GFP_KERNEL`, no file) and takes some microseconds at most. A call
    /// by TCP is then served in the softirq that brought it, without waking a thread; with `ENOMEM`
    /// there it is called again where memory is waited for. What it shares with process context it
    /// must guard with locks that keep softirqs out. One that is [`SLOW`](Self::SLOW) is never taken
    /// for it.
    const ATOMIC: bool = false;

    /// One call: bytes in, bytes out, or an error. The input came from anywhere.
    ///
    /// Process context; may sleep, unless [`ATOMIC`](Self::ATOMIC). Several calls may run at the same
    /// time.
    fn run(&self, input: &[u8], output: &mut RemoteReply, call: &Running<'_>) -> Result;
}

/// A function that can be called. Drop takes it out, tells the calls under way that they are
/// cancelled, and waits for them; it sleeps.
///
/// # Invariants
///
/// `slot` is a place in the table that is ours; `context` came from `Arc::into_foreign`, owned.
pub struct FunctionRegistration<T: Function> {
    slot: NonNull<FunctionSlot>,
    context: *mut c_void,
    _owns: PhantomData<Arc<T>>,
}

// SAFETY: A function may be taken out from any thread, and the `Arc` be sent.
unsafe impl<T: Function> Send for FunctionRegistration<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: Function> Sync for FunctionRegistration<T> {}

impl<T: Function> FunctionRegistration<T> {
    /// Offers the function. `ENOEXEC` if virgo-cpupool is of another build, `EEXIST` if there is one
    /// of this name, `EINVAL` for a name that cannot be, `ENOSPC` with too many. May sleep.
    pub fn new(function: Arc<T>) -> Result<Self> {
        let context = function.into_foreign();
        let flags = match (T::SLOW, T::ATOMIC) {
            (true, _) => SLOW,
            (_, true) => ATOMIC,
            _ => 0,
        };
        let ops = FunctionOps {
            // CAST: small constants.
            size: size_of::<FunctionOps>() as u32,
            abi: FUNCTION_ABI,
            flags,
            name_len: T::NAME.len() as u32,
            name: T::NAME.as_ptr(),
            owner: this_module(),
            context,
            run: Self::run,
        };
        // SAFETY: The table is copied during the call; name and context live until the function
        // has been taken out.
        let slot =
            from_err_ptr(unsafe { ffi::virgo_cpupool_register_function(&ops, ops.abi, ops.size) })
                .and_then(|slot| NonNull::new(slot).ok_or(ENOMEM));
        match slot {
            // INVARIANT: Both were just made.
            Ok(slot) => Ok(Self {
                slot,
                context,
                _owns: PhantomData,
            }),
            Err(error) => {
                // SAFETY: From `into_foreign` above; nobody took it.
                drop(unsafe { Arc::<T>::from_foreign(context) });
                Err(error)
            }
        }
    }

    /// # Safety
    ///
    /// Called through the table with this registration's context, an input that is valid for its
    /// length, a flag that lives during the call, and a place for the output.
    unsafe extern "C" fn run(
        context: *mut c_void,
        input: *const u8,
        input_len: usize,
        limit: usize,
        deadline_ns: u64,
        stop: *const Atomic<u32>,
        atomic: u32,
        output: *mut RawBuffer,
    ) -> i32 {
        // SAFETY: The table hands over the context, which lives while the function is in it or is
        // being called.
        let function = unsafe { Arc::<T>::borrow(context) };
        // SAFETY: By the safety requirements.
        let input = unsafe { slice::from_raw_parts(input, input_len) };
        let call = Running {
            deadline_ns,
            // SAFETY: By the safety requirements.
            stop: unsafe { &*stop },
            atomic: atomic != 0,
        };
        let flags = if call.atomic {
            GFP_ATOMIC | __GFP_NOWARN
        } else {
            GFP_KERNEL
        };
        let mut reply = RemoteReply::new(limit, flags);
        match function.run(input, &mut reply, &call) {
            Ok(()) => {
                // SAFETY: By the safety requirements; what was there is nothing.
                unsafe { output.write(RawBuffer::from_vec(reply.into_buffer())) };
                0
            }
            Err(error) => error.to_errno(),
        }
    }
}

impl<T: Function> Drop for FunctionRegistration<T> {
    fn drop(&mut self) {
        // SAFETY: The place is ours by the invariant, and given up here.
        unsafe { ffi::virgo_cpupool_unregister_function(self.slot.as_ptr()) };
        // SAFETY: The context is owned by the invariant, and nobody calls the function any more.
        drop(unsafe { Arc::<T>::from_foreign(self.context) });
    }
}
