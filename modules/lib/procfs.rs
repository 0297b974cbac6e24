// SPDX-License-Identifier: GPL-2.0-only

//! Files and folders under /proc that vanish with their value.

use core::{
    marker::PhantomData,
    ptr::NonNull,
    slice, //
};

use kernel::{
    bindings,
    error::from_err_ptr,
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        poll::PollTable,
        Arc, //
    },
    types::ForeignOwnable,
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceWriter, //
    }, //
};

use super::{
    chardev::Waiter,
    ffi, //
};

/// What a file under /proc does.
pub trait ProcFile: Send + Sync + 'static {
    /// Whether the file can be written.
    const WRITABLE: bool;

    /// Writes the file's text. May sleep. It is called again from the start with a larger buffer
    /// when the text did not fit.
    fn show(&self, out: &SeqFile) -> Result;

    /// Takes what was written: at most a page, all at once. May sleep.
    fn write(&self, file: &File, text: &[u8]) -> Result {
        let _ = (file, text);
        Err(EPERM)
    }
}

/// A folder under /proc. Drop removes it with what is in it.
///
/// # Invariants
///
/// The pointer is a folder which exists.
pub struct ProcDir(NonNull<ffi::ProcDirEntry>);

// SAFETY: A folder may be removed from any thread.
unsafe impl Send for ProcDir {}
// SAFETY: There are no methods that take `&self`.
unsafe impl Sync for ProcDir {}

impl ProcDir {
    /// Makes the folder `path` below /proc; the one above it must be there. May sleep.
    pub fn new(path: &'static CStr) -> Result<Self> {
        // SAFETY: `path` is a C string.
        let dir = unsafe { ffi::virgo_shim_proc_mkdir(path.as_char_ptr()) };
        // INVARIANT: The function returned a folder.
        NonNull::new(dir).map(ProcDir).ok_or(ENOMEM)
    }
}

impl Drop for ProcDir {
    fn drop(&mut self) {
        // SAFETY: The folder exists by the invariant, and is not used again.
        unsafe { ffi::virgo_shim_proc_rmdir(self.0.as_ptr()) };
    }
}

/// A file under /proc. Drop removes it and waits for calls inside it; it may sleep.
///
/// # Invariants
///
/// `proc` is a file which exists; `context` came from `Arc::into_foreign` and is owned.
pub struct ProcEntry<T: ProcFile> {
    proc: NonNull<ffi::Proc>,
    context: *mut c_void,
    _owns: PhantomData<Arc<T>>,
}

// SAFETY: A file may be removed from any thread, and an `Arc<T>` of a `Send + Sync` type be sent.
unsafe impl<T: ProcFile> Send for ProcEntry<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: ProcFile> Sync for ProcEntry<T> {}

impl<T: ProcFile> ProcEntry<T> {
    const OPS: ffi::ProcOps = ffi::ProcOps {
        show: Self::show,
        write: if T::WRITABLE { Some(Self::write) } else { None },
    };

    /// Makes the file `path` below /proc, whose folder must be there, with permission bits `mode`.
    /// May sleep. The file can be used at once, so make it when all else is ready.
    pub fn new(path: &'static CStr, mode: u16, file: Arc<T>) -> Result<Self> {
        let context = file.into_foreign();
        // SAFETY: `path` is a C string, the operations are a constant, and the context is given
        // back only after the file has been removed.
        let proc = from_err_ptr(unsafe {
            ffi::virgo_shim_proc_create(path.as_char_ptr(), mode, &Self::OPS, context)
        })
        .and_then(|proc| NonNull::new(proc).ok_or(ENOMEM));
        match proc {
            // INVARIANT: Both were just made.
            Ok(proc) => Ok(Self {
                proc,
                context,
                _owns: PhantomData,
            }),
            Err(error) => {
                // SAFETY: From `into_foreign` above; no file uses it.
                drop(unsafe { Arc::<T>::from_foreign(context) });
                Err(error)
            }
        }
    }

    /// # Safety
    ///
    /// Called by the shim with a `seq_file` and this entry's context.
    unsafe extern "C" fn show(m: *mut bindings::seq_file, context: *mut c_void) -> c_int {
        // SAFETY: The shim hands over the context of `new`, which lives until the file is gone.
        let file = unsafe { Arc::<T>::borrow(context) };
        // SAFETY: The shim hands over a `seq_file` that is being filled.
        let out = unsafe { SeqFile::from_raw(m) };
        match file.show(out) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the shim with an open file, `len` readable bytes and this entry's context.
    unsafe extern "C" fn write(
        opened: *const bindings::file,
        text: *const c_char,
        len: usize,
        context: *mut c_void,
    ) -> c_int {
        // SAFETY: As in `show`.
        let file = unsafe { Arc::<T>::borrow(context) };
        // SAFETY: The shim hands over the buffer that it copied in, of `len` bytes and a NUL.
        let text = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
        // SAFETY: The file is open during the call to its write operation; procfs's files have no
        // position lock held by this thread that we would end.
        let opened = unsafe { File::from_raw_file(opened) };
        match file.write(opened, text) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }
}

impl<T: ProcFile> Drop for ProcEntry<T> {
    fn drop(&mut self) {
        // SAFETY: The file exists by the invariant, and is not used again.
        unsafe { ffi::virgo_shim_proc_remove(self.proc.as_ptr()) };
        // SAFETY: The context is owned by the invariant, and no call is inside the file any more.
        drop(unsafe { Arc::<T>::from_foreign(self.context) });
    }
}

/// The state of one open file of a stream under /proc, and what the file does.
///
/// All operations run in the caller's context and may sleep. A file that is removed waits for
/// those under way, so a read that waits must be woken first.
pub trait ProcStream: Send + Sync + Sized + 'static {
    /// What all open files share.
    type Shared: Send + Sync + 'static;

    /// A file was opened.
    fn open(shared: Arc<Self::Shared>) -> Result<Pin<KBox<Self>>>;

    /// Writes what there is to `out`; how much. 0 is the end of the file.
    fn read(&self, file: &File, out: &mut UserSliceWriter) -> Result<usize>;

    /// Takes what was written: at most a page, all at once.
    fn write(&self, file: &File, text: &[u8]) -> Result;

    /// A command. 32-bit callers come here too, with their pointer widened.
    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<isize>;

    /// Registers the poller with `waiter` and returns what is ready now.
    fn poll(&self, waiter: &Waiter<'_>) -> u32;
}

/// A stream under /proc. Drop removes it, waits for calls inside it, and closes it for those who
/// have it open; it may sleep.
///
/// # Invariants
///
/// `proc` is a file which exists; `context` came from `Arc::into_foreign` and is owned.
pub struct StreamEntry<T: ProcStream> {
    proc: NonNull<ffi::Proc>,
    context: *mut c_void,
    _owns: PhantomData<Arc<T::Shared>>,
}

// SAFETY: As for `ProcEntry`.
unsafe impl<T: ProcStream> Send for StreamEntry<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: ProcStream> Sync for StreamEntry<T> {}

impl<T: ProcStream> StreamEntry<T> {
    const OPS: ffi::StreamOps = ffi::StreamOps {
        open: Self::open,
        read: Self::read,
        write: Self::write,
        ioctl: Self::ioctl,
        poll: Self::poll,
        release: Self::release,
    };

    /// Makes the file `path` below /proc, whose folder must be there, with permission bits `mode`.
    /// May sleep. The file can be used at once, so make it when all else is ready.
    pub fn new(path: &'static CStr, mode: u16, shared: Arc<T::Shared>) -> Result<Self> {
        let context = shared.into_foreign();
        // SAFETY: `path` is a C string, the operations are a constant, and the context is given
        // back only after the file has been removed.
        let proc = from_err_ptr(unsafe {
            ffi::virgo_shim_stream_create(path.as_char_ptr(), mode, &Self::OPS, context)
        })
        .and_then(|proc| NonNull::new(proc).ok_or(ENOMEM));
        match proc {
            // INVARIANT: Both were just made.
            Ok(proc) => Ok(Self {
                proc,
                context,
                _owns: PhantomData,
            }),
            Err(error) => {
                // SAFETY: From `into_foreign` above; no file uses it.
                drop(unsafe { Arc::<T::Shared>::from_foreign(context) });
                Err(error)
            }
        }
    }

    /// # Safety
    ///
    /// Called by the shim with this entry's context and a place for the state.
    unsafe extern "C" fn open(context: *mut c_void, state: *mut *mut c_void) -> c_int {
        // SAFETY: The shim hands over the context of `new`, which lives until the file is gone.
        let shared = unsafe { Arc::<T::Shared>::borrow(context) };
        match T::open(shared.into()) {
            Ok(opened) => {
                // SAFETY: By the safety requirements.
                unsafe { *state = opened.into_foreign() };
                0
            }
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the shim with a state of `open` and its open file.
    unsafe extern "C" fn read(
        state: *mut c_void,
        opened: *const bindings::file,
        buffer: *mut c_char,
        count: usize,
    ) -> c_long {
        // SAFETY: `open` made the state, which lives until `release`.
        let state = unsafe { <Pin<KBox<T>>>::borrow(state) };
        // SAFETY: The file is open during the call; it has no position.
        let file = unsafe { File::from_raw_file(opened) };
        let mut out = UserSlice::new(UserPtr::from_addr(buffer.addr()), count).writer();
        match state.read(file, &mut out) {
            // At most `count`, which the shim bounds by MAX_RW_COUNT.
            Ok(length) => c_long::try_from(length).unwrap_or(c_long::MAX),
            // CAST: an errno fits.
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the shim with a state of `open`, its open file, and `len` readable bytes.
    unsafe extern "C" fn write(
        state: *mut c_void,
        opened: *const bindings::file,
        text: *const c_char,
        len: usize,
    ) -> c_int {
        // SAFETY: As in `read`.
        let state = unsafe { <Pin<KBox<T>>>::borrow(state) };
        // SAFETY: As in `read`.
        let file = unsafe { File::from_raw_file(opened) };
        // SAFETY: The shim hands over the buffer that it copied in.
        let text = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
        match state.write(file, text) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the shim with a state of `open` and its open file.
    unsafe extern "C" fn ioctl(
        state: *mut c_void,
        opened: *const bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: As in `read`.
        let state = unsafe { <Pin<KBox<T>>>::borrow(state) };
        // SAFETY: As in `read`.
        let file = unsafe { File::from_raw_file(opened) };
        match state.ioctl(file, command, argument) {
            Ok(value) => value,
            // CAST: an errno fits.
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the shim with a state of `open`, its open file, and a poll table that is null or
    /// valid.
    unsafe extern "C" fn poll(
        state: *mut c_void,
        opened: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: As in `read`.
        let state = unsafe { <Pin<KBox<T>>>::borrow(state) };
        // SAFETY: As in `read`.
        let file = unsafe { File::from_raw_file(opened) };
        // SAFETY: By the safety requirements.
        let table = unsafe { PollTable::from_raw(table) };
        state.poll(&Waiter::new(file, table))
    }

    /// # Safety
    ///
    /// Called by the shim once for each state of `open`, when nothing else uses it.
    unsafe extern "C" fn release(state: *mut c_void) {
        // SAFETY: By the safety requirements.
        drop(unsafe { <Pin<KBox<T>>>::from_foreign(state) });
    }
}

impl<T: ProcStream> Drop for StreamEntry<T> {
    fn drop(&mut self) {
        // SAFETY: The file exists by the invariant, and is not used again.
        unsafe { ffi::virgo_shim_proc_remove(self.proc.as_ptr()) };
        // SAFETY: The context is owned by the invariant, and no call is inside the file any more.
        drop(unsafe { Arc::<T::Shared>::from_foreign(self.context) });
    }
}
