// SPDX-License-Identifier: GPL-2.0-only

//! Page faults and map changes of chosen processes, as the probes of `modules/shim/trace.c` see
//! them.
//!
//! [`Probes`] puts the probes in place; [`Tracing`] makes a process one that they report on, to a
//! [`Tracee`]. All of [`Tracee`]'s functions are called under RCU, in the process that does it,
//! and must not sleep.

use core::{
    marker::PhantomData,
    ptr::NonNull,
    slice, //
};

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::Arc,
    task::Task,
    types::ForeignOwnable, //
};

use super::ffi;

/// A page fault at its end: `struct virgo_shim_fault`.
pub type Fault = ffi::Fault;

/// In [`Fault::flags`]: not done, and not counted: the thread will try again. The lower bits are
/// those of a trace's records.
pub const FAULT_RETRY: u32 = 1 << 16;

/// In [`Area::flags`]: not in the map yet. The lower bits are those of a trace's records.
pub const AREA_NEW: u32 = 1 << 4;

/// An area of a memory map.
pub struct Area<'a>(&'a ffi::Area);

impl Area<'_> {
    /// Tells it from the others; stays when it is resized.
    pub fn id(&self) -> u64 {
        self.0.id
    }
    /// First address.
    pub fn start(&self) -> u64 {
        self.0.start
    }
    /// The address behind the last.
    pub fn end(&self) -> u64 {
        self.0.end
    }
    /// Where in its file, in bytes.
    pub fn offset(&self) -> u64 {
        self.0.offset
    }
    /// The file's inode number; 0 without a file.
    pub fn inode(&self) -> u64 {
        self.0.inode
    }
    /// The file's device: major and minor number.
    pub fn device(&self) -> (u32, u32) {
        // MAJOR() and MINOR() (include/linux/kdev_t.h).
        (self.0.device >> 20, self.0.device & 0xf_ffff)
    }
    /// `AREA_` bits.
    pub fn flags(&self) -> u32 {
        self.0.flags
    }
    /// Its name as in /proc/PID/maps; empty without one.
    pub fn name(&self) -> &[u8] {
        if self.0.name.is_null() {
            return &[];
        }
        // SAFETY: The shim gives so many bytes, which stay during the call that the area is
        // borrowed for. CAST: u64 is usize on 64-bit.
        unsafe { slice::from_raw_parts(self.0.name.cast::<u8>(), self.0.name_len as usize) }
    }
}

/// A memory map, locked.
pub struct LockedMap<'a> {
    mm: NonNull<bindings::mm_struct>,
    _lock: PhantomData<&'a ()>,
}

impl LockedMap<'_> {
    /// The address space, as in [`Fault::mm`].
    pub fn number(&self) -> u64 {
        // CAST: usize fits u64.
        self.mm.as_ptr().addr() as u64
    }

    /// Calls `each` for every area that touches `start..end`, in order, until it returns `false`.
    /// Does not sleep.
    pub fn walk<F: FnMut(&Area<'_>) -> bool>(&self, start: u64, end: u64, mut each: F) {
        /// # Safety
        ///
        /// `arg` is a `F` that nobody else uses, `area` an area.
        unsafe extern "C" fn call<F: FnMut(&Area<'_>) -> bool>(
            arg: *mut c_void,
            area: *const ffi::Area,
        ) -> c_int {
            // SAFETY: By the safety requirements.
            let (each, area) = unsafe { (&mut *arg.cast::<F>(), &*area) };
            c_int::from(!each(&Area(area)))
        }
        // SAFETY: The map is locked by the type. The function is called back with `each` only, and
        // only during the call.
        unsafe {
            ffi::virgo_shim_trace_walk(
                self.mm.as_ptr(),
                // CAST: u64 is usize on 64-bit.
                start as usize,
                end as usize,
                call::<F>,
                (&raw mut each).cast(),
            )
        };
    }
}

/// Who is told about a traced process. No function may sleep.
pub trait Tracee: Send + Sync + Sized + 'static {
    /// A fault is done, or will be tried again. On the thread that met it.
    fn fault(&self, fault: &Fault);
    /// An area will be changed. The map is locked for writing; the area has no name.
    fn area_write(&self, area: &Area<'_>);
    /// The map's lock will be let go. It is still held for writing.
    fn map_unlock(&self, map: &LockedMap<'_>);
    /// The map is new: at the start and, with the program's name, after `execve()`. `None` where
    /// it could not be locked, or belongs to another tracee.
    fn map(&self, map: Option<&LockedMap<'_>>, exec: Option<&[u8]>);
    /// A child was forked, and has not run yet.
    fn fork(&self, child: &Task);
    /// The last thread is exiting; it may meet more faults.
    fn exit(&self);
}

/// The probes, in place. Drop takes them away and waits until none runs; it sleeps. No [`Tracing`]
/// may outlive it: they hold a reference.
pub struct Probes<T: Tracee>(PhantomData<fn(T)>);

impl<T: Tracee> Probes<T> {
    const OPS: ffi::TraceOps = ffi::TraceOps {
        fault: Self::fault,
        area_write: Self::area_write,
        map_unlock: Self::map_unlock,
        map: Self::map,
        fork: Self::fork,
        exit: Self::exit,
    };

    /// Puts the probes in place. `EBUSY` if they are, or a BPF program is attached to the same
    /// function; `ENOENT` if the kernel lacks one of them; `ENOMEM`. May sleep.
    pub fn new() -> Result<Self> {
        // SAFETY: The table is a constant; its functions take contexts of tracees, which are
        // `Arc<T>`s that live until the tracee is freed.
        to_result(unsafe { ffi::virgo_shim_trace_register(&Self::OPS) })?;
        Ok(Probes(PhantomData))
    }

    /// # Safety
    ///
    /// `context` came from `Arc<T>::into_foreign` and is not given back during the call.
    unsafe fn tracee<'a>(context: *mut c_void) -> <Arc<T> as ForeignOwnable>::Borrowed<'a> {
        // SAFETY: By the safety requirements.
        unsafe { Arc::<T>::borrow(context) }
    }

    /// # Safety
    ///
    /// Called by the shim with a tracee's context and a fault.
    unsafe extern "C" fn fault(context: *mut c_void, fault: *const Fault) {
        // SAFETY: By the safety requirements.
        unsafe { Self::tracee(context).fault(&*fault) }
    }

    /// # Safety
    ///
    /// Called by the shim with a tracee's context and an area.
    unsafe extern "C" fn area_write(context: *mut c_void, area: *const ffi::Area) {
        // SAFETY: By the safety requirements.
        unsafe { Self::tracee(context).area_write(&Area(&*area)) }
    }

    /// # Safety
    ///
    /// Called by the shim with a tracee's context and an address space that is locked.
    unsafe extern "C" fn map_unlock(context: *mut c_void, mm: *mut bindings::mm_struct) {
        let Some(mm) = NonNull::new(mm) else {
            return;
        };
        let map = LockedMap {
            mm,
            _lock: PhantomData,
        };
        // SAFETY: By the safety requirements.
        unsafe { Self::tracee(context).map_unlock(&map) }
    }

    /// # Safety
    ///
    /// Called by the shim with a tracee's context, null or an address space that is locked, and
    /// null or a C string.
    unsafe extern "C" fn map(
        context: *mut c_void,
        mm: *mut bindings::mm_struct,
        exec: *const c_char,
    ) {
        let map = NonNull::new(mm).map(|mm| LockedMap {
            mm,
            _lock: PhantomData,
        });
        let exec = (!exec.is_null()).then(|| {
            // SAFETY: By the safety requirements.
            unsafe { CStr::from_char_ptr(exec) }.to_bytes()
        });
        // SAFETY: By the safety requirements.
        unsafe { Self::tracee(context).map(map.as_ref(), exec) }
    }

    /// # Safety
    ///
    /// Called by the shim with a tracee's context and a task that stays during the call.
    unsafe extern "C" fn fork(context: *mut c_void, child: *mut bindings::task_struct) {
        // SAFETY: By the safety requirements; `Task` is transparent.
        unsafe { Self::tracee(context).fork(&*child.cast::<Task>()) }
    }

    /// # Safety
    ///
    /// Called by the shim with a tracee's context.
    unsafe extern "C" fn exit(context: *mut c_void) {
        // SAFETY: By the safety requirements.
        unsafe { Self::tracee(context).exit() }
    }
}

impl<T: Tracee> Drop for Probes<T> {
    fn drop(&mut self) {
        // SAFETY: The probes were put in place by `new`, and no tracee is left, as each holds a
        // reference on this value.
        unsafe { ffi::virgo_shim_trace_unregister() };
    }
}

/// Gives up what a fault held that took longer than its probes. May sleep.
pub fn unpin() {
    // SAFETY: The function has no preconditions.
    unsafe { ffi::virgo_shim_trace_unpin() };
}

/// Before virgo-core is unloaded: waits until no task is on its way out of a probe. May sleep.
pub fn wait_for_returns() {
    // SAFETY: The function has no preconditions but that it may sleep.
    unsafe { ffi::virgo_shim_trace_exit() };
}

/// A process that the probes report on. Drop ends that, and waits until no report is under way; it
/// sleeps. [`silence`] waits once for many.
///
/// # Invariants
///
/// `raw` is a tracee which is not freed; its context is `tracee`'s, which is kept.
pub struct Tracing<T: Tracee> {
    raw: NonNull<ffi::ShimTracee>,
    tracee: Arc<T>,
    context: *mut c_void,
    quiet: bool,
    _probes: Arc<Probes<T>>,
}

// SAFETY: A tracee may be freed from any thread; the `Arc`s may be sent.
unsafe impl<T: Tracee> Send for Tracing<T> {}
// SAFETY: What takes `&self` locks by itself.
unsafe impl<T: Tracee> Sync for Tracing<T> {}

impl<T: Tracee> Tracing<T> {
    /// Reports on `task`'s process to `tracee` from now on, at first only on its faults. `EEXIST`
    /// if it is traced already, `ENOMEM`. Does not sleep.
    pub fn new(probes: Arc<Probes<T>>, task: &Task, tracee: Arc<T>) -> Result<Self> {
        let context = tracee.clone().into_foreign();
        // SAFETY: The task lives by its type; the context stays until the tracee is freed.
        let raw = from_err_ptr(unsafe { ffi::virgo_shim_tracee_add(task.as_ptr(), context) })
            .and_then(|raw| NonNull::new(raw).ok_or(ENOMEM));
        match raw {
            // INVARIANT: Just made.
            Ok(raw) => Ok(Tracing {
                raw,
                tracee,
                context,
                quiet: false,
                _probes: probes,
            }),
            Err(error) => {
                // SAFETY: From `into_foreign` above; nobody uses it.
                drop(unsafe { Arc::<T>::from_foreign(context) });
                Err(error)
            }
        }
    }

    /// Whom it is reported to.
    pub fn tracee(&self) -> &Arc<T> {
        &self.tracee
    }

    /// Reports the process's map, and its changes from now on. `ESRCH` without one. May sleep.
    pub fn start_map(&self) -> Result {
        // SAFETY: The tracee exists by the invariant.
        to_result(unsafe { ffi::virgo_shim_tracee_map(self.raw.as_ptr()) })
    }

    /// The same for a child that was just forked. Only within [`Tracee::fork`]. Does not sleep.
    pub fn child_map(&self) {
        // SAFETY: The tracee exists by the invariant, and its task does not run yet.
        unsafe { ffi::virgo_shim_tracee_child(self.raw.as_ptr()) };
    }

    /// Ends the reports; some may still be under way. Does not sleep.
    pub fn remove(&self) {
        // SAFETY: The tracee exists by the invariant.
        unsafe { ffi::virgo_shim_tracee_remove(self.raw.as_ptr()) };
    }
}

/// Minor and major faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Minor ones.
    pub minor: u64,
    /// Major ones.
    pub major: u64,
}

impl Counted {
    /// Both.
    pub fn sum(self) -> u64 {
        self.minor.wrapping_add(self.major)
    }

    /// With those of another thread.
    pub fn plus(self, other: Counted) -> Counted {
        Counted {
            minor: self.minor.wrapping_add(other.minor),
            major: self.major.wrapping_add(other.major),
        }
    }

    /// Since there were `before`.
    pub fn since(self, before: Counted) -> Counted {
        Counted {
            minor: self.minor.wrapping_sub(before.minor),
            major: self.major.wrapping_sub(before.major),
        }
    }
}

impl From<[u64; 2]> for Counted {
    fn from([minor, major]: [u64; 2]) -> Self {
        Counted { minor, major }
    }
}

/// What the kernel counted for a thread alone. Of the caller itself it is exact; of one that runs it
/// is of some moment of the call. Does not sleep.
pub fn counted(thread: &Task) -> Counted {
    let mut counted = [0; 2];
    // SAFETY: The thread is alive by its type; the array is writable.
    unsafe { ffi::virgo_shim_trace_counted(thread.as_ptr(), &mut counted) };
    counted.into()
}

/// Calls `each` for each thread of `task`'s process, while none is made and none goes. They run on.
/// Returns what the threads had counted that are gone, and whether any was left. Does not sleep;
/// `each` is called with interrupts off, so it shall take no lock and no time.
pub fn threads<F: FnMut(&Task)>(task: &Task, mut each: F) -> (Counted, bool) {
    /// # Safety
    ///
    /// `arg` is a `F` that nobody else uses, `thread` a task that lives during the call.
    unsafe extern "C" fn call<F: FnMut(&Task)>(
        arg: *mut c_void,
        thread: *mut bindings::task_struct,
    ) {
        // SAFETY: By the safety requirements; `Task` is transparent.
        let (each, thread) = unsafe { (&mut *arg.cast::<F>(), &*thread.cast::<Task>()) };
        each(thread);
    }
    let mut gone = [0; 2];
    // SAFETY: The task is alive by its type. The function is called back with `each` only, and only
    // during the call; the array is writable.
    let status = unsafe {
        ffi::virgo_shim_trace_threads(task.as_ptr(), call::<F>, (&raw mut each).cast(), &mut gone)
    };
    (gone.into(), status == 0)
}

/// Whether every fault of `thread` that was counted before this call has been reported, as it sleeps
/// or has exited. `false`: that is not known. Does not sleep.
pub fn is_quiet(thread: &Task) -> bool {
    // SAFETY: The thread is alive by its type.
    unsafe { ffi::virgo_shim_trace_is_quiet(thread.as_ptr()) != 0 }
}

/// Waits until every fault that was counted before this call has been reported, whoever's. Sleeps,
/// a tenth of a second and more.
pub fn settle() {
    // SAFETY: The function has no preconditions but that it may sleep.
    unsafe { ffi::virgo_shim_trace_settle() };
}

/// Waits until no report is under way that began before. May sleep.
pub fn wait_for_reports() {
    // SAFETY: The function has no preconditions but that it may sleep.
    unsafe { ffi::virgo_shim_trace_sync() };
}

/// Ends the reports of many, waiting once. May sleep.
pub fn silence<T: Tracee>(all: &mut [Tracing<T>]) {
    if all.iter().all(|tracing| tracing.quiet) {
        return;
    }
    for tracing in all.iter() {
        tracing.remove();
    }
    wait_for_reports();
    for tracing in all {
        tracing.quiet = true;
    }
}

impl<T: Tracee> Drop for Tracing<T> {
    fn drop(&mut self) {
        if !self.quiet {
            self.remove();
            wait_for_reports();
        }
        // SAFETY: Removed, and no report is under way; not used again.
        unsafe { ffi::virgo_shim_tracee_free(self.raw.as_ptr()) };
        // SAFETY: From `into_foreign` in `new`; no report uses it any more.
        drop(unsafe { Arc::<T>::from_foreign(self.context) });
    }
}
