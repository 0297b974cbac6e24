// SPDX-License-Identifier: GPL-2.0-only

//! Giving memory back when the machine needs it.

use core::ptr::NonNull;

use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

use super::ffi;

/// What can give memory back.
///
/// Both functions run in process context, of whoever asked for memory: they must not allocate, and
/// must take no lock that is held anywhere while memory is asked for in a way that may sleep.
pub trait Shrink: Send + Sync + 'static {
    /// How many objects could be given up. Does not sleep.
    fn count(&self) -> usize;

    /// Gives up about `wanted` of them; how many it were, 0 if there is nothing to be done now.
    fn scan(&self, wanted: usize) -> usize;
}

/// A registered shrinker. Drop waits until nobody is inside; it sleeps.
///
/// # Invariants
///
/// `raw` is registered, and its private data came from `Arc::into_foreign`, owned.
pub struct Shrinker<T: Shrink> {
    raw: NonNull<bindings::shrinker>,
    _owns: core::marker::PhantomData<Arc<T>>,
}

// SAFETY: A shrinker may be freed from any thread, and the `Arc` be sent.
unsafe impl<T: Shrink> Send for Shrinker<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: Shrink> Sync for Shrinker<T> {}

/// `SHRINK_EMPTY` (include/linux/shrinker.h).
const EMPTY: c_ulong = c_ulong::MAX - 1;
/// `SHRINK_STOP`.
const STOP: c_ulong = c_ulong::MAX;

impl<T: Shrink> Shrinker<T> {
    /// Registers it. `batch` objects are asked for at once. `ENOMEM`. May sleep.
    pub fn new(name: &'static CStr, batch: i16, target: Arc<T>) -> Result<Self> {
        // SAFETY: The format takes one string, which is a C string.
        let raw = unsafe { ffi::shrinker_alloc(0, c"%s".as_char_ptr(), name.as_char_ptr()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: It is allocated and not registered, so nobody else looks at it.
        unsafe {
            let shrinker = raw.as_ptr();
            (*shrinker).count_objects = Some(Self::count);
            (*shrinker).scan_objects = Some(Self::scan);
            (*shrinker).batch = batch.into();
            // DEFAULT_SEEKS.
            (*shrinker).seeks = 2;
            (*shrinker).private_data = target.into_foreign().cast();
            ffi::shrinker_register(shrinker);
        }
        // INVARIANT: Registered just now, with an owned `Arc`.
        Ok(Shrinker {
            raw,
            _owns: core::marker::PhantomData,
        })
    }

    /// # Safety
    ///
    /// Called for a registered shrinker of this type.
    unsafe extern "C" fn count(
        raw: *mut bindings::shrinker,
        _control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: The data lives until the shrinker has been freed.
        let target = unsafe { Arc::<T>::borrow((*raw).private_data.cast()) };
        match target.count() {
            0 => EMPTY,
            // CAST: same width.
            count => (count as c_ulong).min(c_ulong::MAX / 2),
        }
    }

    /// # Safety
    ///
    /// Called for a registered shrinker of this type, with a control that it may write.
    unsafe extern "C" fn scan(
        raw: *mut bindings::shrinker,
        control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: As in `count`.
        let target = unsafe { Arc::<T>::borrow((*raw).private_data.cast()) };
        // SAFETY: By the safety requirements. CAST: same width.
        let wanted = unsafe { (*control).nr_to_scan } as usize;
        match target.scan(wanted) {
            0 => STOP,
            // CAST: same width.
            done => done as c_ulong,
        }
    }
}

impl<T: Shrink> Drop for Shrinker<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by the invariant, and not used again; freeing waits for who is inside
        // (and frees the structure itself after a grace period). Then the data is ours alone.
        unsafe {
            let data = (*self.raw.as_ptr()).private_data;
            ffi::shrinker_free(self.raw.as_ptr());
            drop(Arc::<T>::from_foreign(data.cast()));
        }
    }
}
