// SPDX-License-Identifier: GPL-2.0-only

//! How modules find and use one another: by the service registry in virgo-core.
//!
//! A module that offers something registers a [`Service`]; who wants to use it looks it up at the
//! time of use. While it is used the provider is pinned and cannot be unloaded. That a provider is
//! not there is an ordinary answer.
//!
//! Only C types cross the boundary between modules. Debian's kernels have no MODVERSIONS, so the
//! table carries its size and version, and virgo-core refuses what does not match.

use core::{
    marker::PhantomData,
    ptr::NonNull,
    slice, //
};

use kernel::{
    alloc::Flags,
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

use super::{
    cluster::NodeId,
    compat::{
        emsgsize,
        eopnotsupp, //
    },
    ffi,
    module::{
        this_module,
        VERSION_NUMBER, //
    },
};
pub use crate::proto::uapi::Module;

/// Version of [`ServiceOps`] and of every function that virgo-core exports. Grows with each change.
pub const ABI: u32 = 2;

/// An operation of [`Service::remote`] that means the same for all modules that have it: a request
/// in the words of the module's port. The time that it may take in milliseconds (4 bytes, little
/// endian), then the words; the answer is what the port would say, or the error.
pub const WORDS: u32 = 1 << 16;

/// The greatest errno (include/linux/err.h).
const MAX_ERRNO: i32 = 4095;

/// A service, as it crosses the boundary.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ServiceOps {
    /// `size_of::<ServiceOps>()` of the provider.
    pub(crate) size: u32,
    /// [`ABI`] of the provider.
    pub(crate) abi: u32,
    /// A [`Module`].
    pub(crate) id: u32,
    /// The provider's version, as in the uAPI.
    pub(crate) version: u32,
    pub(crate) owner: *mut bindings::module,
    pub(crate) context: *mut c_void,
    pub(crate) ioctl: unsafe extern "C" fn(context: *mut c_void, cmd: u32, arg: usize) -> isize,
    pub(crate) call: unsafe extern "C" fn(
        context: *mut c_void,
        operation: u32,
        input: *const u8,
        input_len: usize,
        output: *mut u8,
        output_len: usize,
    ) -> isize,
    pub(crate) remote: unsafe extern "C" fn(
        context: *mut c_void,
        from: u32,
        operation: u32,
        input: *const u8,
        input_len: usize,
        limit: usize,
        output: *mut RawBuffer,
    ) -> i32,
}

/// A `KVVec<u8>` that changes its owner across a boundary of modules: its memory is the kernel's
/// (kvmalloc), so whoever has it may free it.
#[repr(C)]
pub(crate) struct RawBuffer {
    data: *mut u8,
    length: usize,
    capacity: usize,
}

impl RawBuffer {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::from_vec(KVVec::new())
    }

    /// Gives a buffer up.
    pub(crate) fn from_vec(buffer: KVVec<u8>) -> Self {
        let (data, length, capacity) = buffer.into_raw_parts();
        RawBuffer {
            data,
            length,
            capacity,
        }
    }

    /// Takes the buffer over.
    ///
    /// # Safety
    ///
    /// It came from [`RawBuffer::from_vec`], here or in another module, and nobody else takes it.
    pub(crate) unsafe fn into_vec(self) -> KVVec<u8> {
        // SAFETY: By the safety requirements.
        unsafe { KVVec::from_raw_parts(self.data, self.length, self.capacity) }
    }
}

/// A place in the registry, of which virgo-core alone knows the inside.
#[repr(C)]
pub(crate) struct Slot {
    _opaque: [u8; 0],
}

/// What a module offers to user space through /dev/virgo and to the other modules.
///
/// [`Service::ioctl`] and [`Service::call`] run in the caller's context and may sleep.
pub trait Service: Send + Sync + 'static {
    /// Which module this is.
    const MODULE: Module;

    /// A command on /dev/virgo with one of this module's numbers. `ENOTTY` for one it does not know.
    fn ioctl(&self, command: u32, argument: usize) -> Result<isize>;

    /// A request of another module: bytes in, bytes out, how many were written. `EOPNOTSUPP` for
    /// an operation it does not know.
    fn call(&self, operation: u32, input: &[u8], output: &mut [u8]) -> Result<usize> {
        let _ = (operation, input, output);
        Err(eopnotsupp())
    }

    /// A request of another node (or of this one, by [`super::cluster::call`]): bytes in, bytes
    /// out. `EOPNOTSUPP` for an operation it does not know; the caller gets the error's number.
    ///
    /// Process context; may sleep. Runs on a pool of the module's own in virgo-core, at most
    /// [`super::cluster::WORKERS`] at once, so a slow request stops no other module's. A handler
    /// that calls another node in turn holds its place in the pool meanwhile: keep such calls'
    /// timeouts short. While it runs the module can't go: unloading waits for it.
    ///
    /// `input` came over the network, from a node that holds the cluster's key: its form is not to
    /// be trusted all the same.
    fn remote(
        &self,
        from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        let _ = (from, operation, input, output);
        Err(eopnotsupp())
    }
}

/// The answer to a request of another node, bounded by what the caller takes.
pub struct RemoteReply {
    buffer: KVVec<u8>,
    limit: usize,
    flags: Flags,
}

impl RemoteReply {
    /// An answer of at most so many bytes, in memory that is asked for in this way.
    pub(super) fn new(limit: usize, flags: Flags) -> Self {
        RemoteReply {
            buffer: KVVec::new(),
            limit,
            flags,
        }
    }

    /// What it holds.
    pub(super) fn into_buffer(self) -> KVVec<u8> {
        self.buffer
    }

    /// The most bytes that the caller takes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Appends a copy. `EMSGSIZE` past the limit; `ENOMEM`. May sleep, but not where its caller may not.
    pub fn push(&mut self, data: &[u8]) -> Result {
        self.check(self.buffer.len().saturating_add(data.len()))?;
        Ok(self.buffer.extend_from_slice(data, self.flags)?)
    }

    /// Makes room for so many bytes more, so that they are appended without copying what is there.
    /// `EMSGSIZE`, `ENOMEM`. May sleep, as [`push`](Self::push).
    pub fn reserve(&mut self, more: usize) -> Result {
        self.check(self.buffer.len().saturating_add(more))?;
        Ok(self.buffer.reserve(more, self.flags)?)
    }

    /// Hands over a buffer, which is not copied, in place of what is there. `EMSGSIZE`.
    pub fn set(&mut self, buffer: KVVec<u8>) -> Result {
        self.check(buffer.len())?;
        self.buffer = buffer;
        Ok(())
    }

    fn check(&self, length: usize) -> Result {
        if length > self.limit {
            return Err(emsgsize());
        }
        Ok(())
    }
}

/// A registered service. Drop takes it out of the registry and waits until nobody is inside; it
/// may sleep, and must not run inside a call of the service itself.
///
/// # Invariants
///
/// `slot` is a place in the registry that is ours; `context` came from `Arc::into_foreign`, owned.
pub struct Registration<T: Service> {
    slot: NonNull<Slot>,
    context: *mut c_void,
    _owns: PhantomData<Arc<T>>,
}

// SAFETY: A service may be taken out from any thread, and the `Arc` be sent.
unsafe impl<T: Service> Send for Registration<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: Service> Sync for Registration<T> {}

impl<T: Service> Registration<T> {
    /// Puts the service into the registry. `ENOEXEC` if virgo-core is of another version, `EEXIST`
    /// if the module's service is there already. May sleep.
    pub fn new(service: Arc<T>) -> Result<Self> {
        let context = service.into_foreign();
        let ops = ServiceOps {
            // CAST: a small constant.
            size: size_of::<ServiceOps>() as u32,
            abi: ABI,
            // CAST: `repr(u32)`.
            id: T::MODULE as u32,
            version: VERSION_NUMBER,
            owner: this_module(),
            context,
            ioctl: Self::ioctl,
            call: Self::call,
            remote: Self::remote,
        };
        // SAFETY: The table is copied during the call; the context lives until the service has
        // been taken out.
        let slot =
            from_err_ptr(unsafe { ffi::virgo_core_register_service(&ops, ops.abi, ops.size) })
                .and_then(|slot| NonNull::new(slot).ok_or(ENOMEM));
        match slot {
            // INVARIANT: Both were just made.
            Ok(slot) => Ok(Self {
                slot,
                context,
                _owns: PhantomData,
            }),
            Err(error) => {
                // SAFETY: From `into_foreign` above; the registry did not take it.
                drop(unsafe { Arc::<T>::from_foreign(context) });
                Err(error)
            }
        }
    }

    /// # Safety
    ///
    /// Called through the registry with this registration's context.
    unsafe extern "C" fn ioctl(context: *mut c_void, cmd: u32, arg: usize) -> isize {
        // SAFETY: The registry hands over the context, which lives while the service is registered
        // or used.
        let service = unsafe { Arc::<T>::borrow(context) };
        match service.ioctl(cmd, arg) {
            Ok(value) => value,
            // CAST: an errno fits.
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called through the registry with this registration's context, and with buffers that are
    /// valid for their lengths and do not overlap.
    unsafe extern "C" fn call(
        context: *mut c_void,
        operation: u32,
        input: *const u8,
        input_len: usize,
        output: *mut u8,
        output_len: usize,
    ) -> isize {
        // SAFETY: As in `ioctl`.
        let service = unsafe { Arc::<T>::borrow(context) };
        // SAFETY: By the safety requirements.
        let (input, output) = unsafe {
            (
                slice::from_raw_parts(input, input_len),
                slice::from_raw_parts_mut(output, output_len),
            )
        };
        match service.call(operation, input, output) {
            // A length of a slice fits isize.
            Ok(written) => isize::try_from(written).unwrap_or(isize::MAX),
            // CAST: an errno fits.
            Err(error) => error.to_errno() as isize,
        }
    }
}

impl<T: Service> Registration<T> {
    /// # Safety
    ///
    /// Called through the registry with this registration's context, an input that is valid for its
    /// length, and a place for the answer.
    unsafe extern "C" fn remote(
        context: *mut c_void,
        from: u32,
        operation: u32,
        input: *const u8,
        input_len: usize,
        limit: usize,
        output: *mut RawBuffer,
    ) -> i32 {
        // SAFETY: As in `ioctl`.
        let service = unsafe { Arc::<T>::borrow(context) };
        // SAFETY: By the safety requirements.
        let input = unsafe { slice::from_raw_parts(input, input_len) };
        let mut reply = RemoteReply::new(limit, GFP_KERNEL);
        match service.remote(NodeId::from_number(from), operation, input, &mut reply) {
            Ok(()) => {
                // SAFETY: By the safety requirements; what was there is nothing.
                unsafe { output.write(RawBuffer::from_vec(reply.buffer)) };
                0
            }
            Err(error) => error.to_errno(),
        }
    }
}

/// Runs a service's `remote` by its table.
///
/// # Safety
///
/// `ops` is a registered service's table, and the service cannot be taken out during the call.
pub(crate) unsafe fn run_remote(
    ops: &ServiceOps,
    from: NodeId,
    operation: u32,
    input: &[u8],
    limit: usize,
) -> Result<KVVec<u8>> {
    let mut output = RawBuffer::empty();
    // SAFETY: By the safety requirements; the slice is valid for its length.
    let status = unsafe {
        (ops.remote)(
            ops.context,
            from.number(),
            operation,
            input.as_ptr(),
            input.len(),
            limit,
            &mut output,
        )
    };
    // SAFETY: It is empty, or what the provider put there for us.
    let output = unsafe { output.into_vec() };
    // CAST: an i32 fits isize.
    Provider::result(status as isize)?;
    if output.len() > limit {
        return Err(emsgsize());
    }
    Ok(output)
}

/// Offers virgo-core a table of another version or size, as a module of another build would; what
/// it answers, `None` if it took it. For tests.
pub fn refusal(abi: u32, size: u32) -> Option<Error> {
    // SAFETY: virgo-core reads the table only if version and size are its own, which the pointer
    // to nothing is not given for: the callers name others.
    let slot = unsafe { ffi::virgo_core_register_service(NonNull::dangling().as_ptr(), abi, size) };
    from_err_ptr(slot).err()
}

impl<T: Service> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: The place is ours by the invariant, and given up here.
        unsafe { ffi::virgo_core_unregister_service(self.slot.as_ptr()) };
        // SAFETY: The context is owned by the invariant, and nobody uses the service any more.
        drop(unsafe { Arc::<T>::from_foreign(self.context) });
    }
}

/// Another module's service, pinned: its module cannot be unloaded while this value lives.
///
/// # Invariants
///
/// `slot` is a place in the registry that we hold a use of.
pub struct Provider {
    slot: NonNull<Slot>,
}

// SAFETY: A use may be given up on any thread.
unsafe impl Send for Provider {}
// SAFETY: The service's functions may be called from several threads: `Service` is `Sync`.
unsafe impl Sync for Provider {}

impl Provider {
    /// Looks up a module's service; `None` if it is not loaded. May sleep.
    pub fn find(module: Module) -> Option<Provider> {
        // SAFETY: The function takes any numbers. CAST: `repr(u32)`.
        let slot = unsafe { ffi::virgo_core_service_get(module as u32, ABI) };
        // INVARIANT: The function returned a place with a use for us.
        NonNull::new(slot).map(|slot| Provider { slot })
    }

    fn ops(&self) -> &ServiceOps {
        // SAFETY: The place is held by the invariant; its table does not change while it is.
        unsafe { &*ffi::virgo_core_service_ops(self.slot.as_ptr()) }
    }

    /// Hands over a command of user space. May sleep.
    pub fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        let ops = self.ops();
        // SAFETY: The context is the service's own, which is alive while it is held.
        let value = unsafe { (ops.ioctl)(ops.context, command, argument) };
        Self::result(value)
    }

    /// Makes a request. How many bytes of `output` were written. May sleep.
    pub fn call(&self, operation: u32, input: &[u8], output: &mut [u8]) -> Result<usize> {
        let ops = self.ops();
        // SAFETY: As in `ioctl`; the slices are valid for their lengths and, one being mutable, do
        // not overlap.
        let value = unsafe {
            (ops.call)(
                ops.context,
                operation,
                input.as_ptr(),
                input.len(),
                output.as_mut_ptr(),
                output.len(),
            )
        };
        Self::result(value).map(|value| value.unsigned_abs().min(output.len()))
    }

    /// As [`call`](Self::call), for operations that answer with a length which may be more than
    /// was written.
    pub fn call_length(&self, operation: u32, input: &[u8], output: &mut [u8]) -> Result<usize> {
        let ops = self.ops();
        // SAFETY: As in `call`.
        let value = unsafe {
            (ops.call)(
                ops.context,
                operation,
                input.as_ptr(),
                input.len(),
                output.as_mut_ptr(),
                output.len(),
            )
        };
        Self::result(value).map(isize::unsigned_abs)
    }

    fn result(value: isize) -> Result<isize> {
        if value >= 0 {
            return Ok(value);
        }
        // A provider that answers what is no errno is told as invalid.
        Err(i32::try_from(value)
            .ok()
            .filter(|value| (-MAX_ERRNO..0).contains(value))
            .map_or(EINVAL, Error::from_errno))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // SAFETY: We hold a use by the invariant, and give it up here.
        unsafe { ffi::virgo_core_service_put(self.slot.as_ptr()) };
    }
}
