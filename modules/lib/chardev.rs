// SPDX-License-Identifier: GPL-2.0-only

//! Character devices under the misc major, with what `kernel::miscdevice` leaves out up to Linux
//! 7.2: the owner (without it, unloading a module whose device is open frees running code), poll,
//! and permission bits. To be replaced by the kernel crate's when it has all three.

use core::marker::PhantomData;

use kernel::{
    bindings,
    fs::File,
    mm::virt::VmaNew,
    prelude::*,
    sync::{
        poll::{
            PollCondVar,
            PollTable, //
        },
        Arc, //
    },
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

use super::{
    module::this_module,
    pages::Mapping, //
};

/// Readable without blocking, as poll() reports it.
pub const POLLIN: u32 = bindings::POLLIN | bindings::POLLRDNORM;

/// The state of one open file of a device, and what the file does.
///
/// All operations run in the caller's context and may sleep.
pub trait CharDevice: Send + Sync + Sized + 'static {
    /// What all open files share.
    type Shared: Send + Sync + 'static;

    /// Name under /dev.
    const NAME: &'static CStr;
    /// Permission bits of the node.
    const MODE: u16;
    /// Whether [`Self::mmap`] is there.
    const HAS_MMAP: bool;

    /// A file was opened. Runs under the misc devices' lock: take no lock here which is held while
    /// a [`Device`] is dropped.
    fn open(shared: Arc<Self::Shared>) -> Result<Pin<KBox<Self>>>;

    /// A command. 32-bit callers come here too, with their pointer widened.
    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<isize>;

    /// Registers the poller with `waiter` and returns what is ready now.
    fn poll(&self, waiter: &Waiter<'_>) -> u32;

    /// Maps memory.
    fn mmap(&self, mapping: &Mapping<'_>) -> Result {
        let _ = mapping;
        Err(ENODEV)
    }
}

/// Who polls a file.
pub struct Waiter<'a> {
    file: &'a File,
    table: PollTable<'a>,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(file: &'a File, table: PollTable<'a>) -> Self {
        Waiter { file, table }
    }

    /// Asks to be woken by `condition`. Call it before looking at the state.
    pub fn wait_for(&self, condition: &PollCondVar) {
        self.table.register_wait(self.file, condition);
    }
}

/// A registered device. Drop removes the node; files that are open go on (and pin the module).
///
/// Make it last in a module's initialiser, since it can be opened at once, and declare it first, so
/// that it is dropped first.
///
/// # Invariants
///
/// `misc` is registered.
#[repr(C)]
#[pin_data(PinnedDrop)]
pub struct Device<T: CharDevice> {
    /// First, so that a pointer to it is a pointer to the device.
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    shared: Arc<T::Shared>,
    _files: PhantomData<T>,
}

// SAFETY: A device may be removed from any thread; the `Arc` may be sent since its content is
// `Send + Sync`.
unsafe impl<T: CharDevice> Send for Device<T> {}
// SAFETY: There are no methods that take `&self` but the callbacks, which use the `Arc` alone.
unsafe impl<T: CharDevice> Sync for Device<T> {}

impl<T: CharDevice> Device<T> {
    /// Registers the device. May sleep. `EBUSY` without a free minor number, `EEXIST` if the name
    /// is taken.
    pub fn new(shared: Arc<T::Shared>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shared,
            _files: PhantomData,
            // Last: from here on the device can be opened.
            misc <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                let misc = bindings::miscdevice {
                    // CAST: 255, a constant.
                    minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                    name: T::NAME.as_char_ptr(),
                    fops: &Self::OPERATIONS,
                    mode: T::MODE,
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot is for a `miscdevice`.
                unsafe { slot.write(misc) };
                // SAFETY: The slot is pinned and deregistered before it is freed.
                // INVARIANT: On success the device is registered.
                kernel::error::to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }

    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: this_module(),
        open: Some(Self::open),
        release: Some(Self::release),
        unlocked_ioctl: Some(Self::ioctl),
        // The structures are the same for 32-bit callers; only the pointer must be widened.
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: bindings::compat_ptr_ioctl,
        poll: Some(Self::poll),
        mmap: if T::HAS_MMAP { Some(Self::mmap) } else { None },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by `misc_open()`, with the `miscdevice` in the file's private data.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, raw: *mut bindings::file) -> c_int {
        // SAFETY: `misc_open()` stored the `miscdevice`, which is the first field of a `repr(C)`
        // `Device<T>`; it stays registered during this call, since that runs under the lock which
        // `misc_deregister()` takes.
        let device = unsafe { &*(*raw).private_data.cast::<Self>() };
        match T::open(device.shared.clone()) {
            Ok(state) => {
                // SAFETY: The file is being opened; its private data is ours from here on.
                unsafe { (*raw).private_data = state.into_foreign() };
                0
            }
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called once for each file that `open` succeeded for, when its last reference is gone.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, raw: *mut bindings::file) -> c_int {
        // SAFETY: `open` stored the state, and no other operation runs on the file any more.
        drop(unsafe { <Pin<KBox<T>>>::from_foreign((*raw).private_data) });
        0
    }

    /// # Safety
    ///
    /// Called with an open file of this device.
    unsafe extern "C" fn ioctl(raw: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: `open` stored the state, which lives until `release`.
        let state = unsafe { <Pin<KBox<T>>>::borrow((*raw).private_data) };
        // SAFETY: The file is open during the call, and no position lock is held by this thread.
        let file = unsafe { File::from_raw_file(raw) };
        match state.ioctl(file, cmd, arg) {
            Ok(value) => value,
            // CAST: an errno fits.
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called with an open file of this device and a poll table that is null or valid.
    unsafe extern "C" fn poll(
        raw: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: As in `ioctl`.
        let state = unsafe { <Pin<KBox<T>>>::borrow((*raw).private_data) };
        // SAFETY: As in `ioctl`.
        let file = unsafe { File::from_raw_file(raw) };
        // SAFETY: By the safety requirements.
        let table = unsafe { PollTable::from_raw(table) };
        state.poll(&Waiter { file, table })
    }

    /// # Safety
    ///
    /// Called with an open file of this device and an area that is being set up.
    unsafe extern "C" fn mmap(
        raw: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: As in `ioctl`.
        let state = unsafe { <Pin<KBox<T>>>::borrow((*raw).private_data) };
        // SAFETY: The area is new and belongs to this call, with the mmap lock held.
        let vma = unsafe { VmaNew::from_raw(vma) };
        match state.mmap(&Mapping::new(vma)) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }
}

#[pinned_drop]
impl<T: CharDevice> PinnedDrop for Device<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the invariant, and not used again.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
