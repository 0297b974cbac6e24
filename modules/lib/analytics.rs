// SPDX-License-Identifier: GPL-2.0-only

//! The settings, for modules that need virgo-analytics: a module that uses this can be loaded only
//! while that is. Most should register what they have by [`super::setting`] instead.

use core::{
    ffi::c_void,
    slice, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

use super::ffi;

/// A setting's value, as it crosses the boundary of modules (`struct virgo_analytics_value` of
/// doc/analytics.md).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RawValue {
    /// As a number: an integer itself, a truth 0 or 1, a choice's word its place, a text 0.
    pub number: i64,
    /// The number of the change that made it so; 0: none has.
    pub version: u64,
    /// `VIRGO_ANALYTICS_TEXT` and so on.
    pub kind: u32,
    /// Bytes of its text.
    pub length: u32,
}

/// What is told of a change (`struct virgo_analytics_notice`).
#[repr(C)]
pub(crate) struct RawNotice {
    pub(crate) key: *const u8,
    pub(crate) key_len: usize,
    pub(crate) text: *const u8,
    pub(crate) text_len: usize,
    pub(crate) number: i64,
    pub(crate) version: u64,
    pub(crate) source: u32,
    pub(crate) reserved: u32,
}

/// A setting; as much of its text as there is room for goes into `text`. `ENOENT`, `ENODEV`. Any
/// context.
#[inline(always)]
pub fn get(key: &[u8], text: &mut [u8]) -> Result<RawValue> {
    let mut value = RawValue::default();
    // SAFETY: The slices are valid for their lengths, the value is writable.
    let status = unsafe {
        ffi::virgo_analytics_get(
            key.as_ptr(),
            key.len(),
            &mut value,
            text.as_mut_ptr(),
            text.len(),
        )
    };
    if status == 0 {
        return Ok(value);
    }
    to_result(status).map(|()| value)
}

/// What is told of a change.
pub struct Change<'a> {
    /// The setting.
    pub key: &'a [u8],
    /// Its value now.
    pub text: &'a [u8],
    /// The same as a number.
    pub number: i64,
    /// The number of the change.
    pub version: u64,
}

/// What wants to be told of changes.
pub trait Watch: Send + Sync + 'static {
    /// A setting has changed. Process context; may sleep, not for long; may read settings, must
    /// not set any, nor make or drop a [`Watching`].
    fn changed(&self, change: &Change<'_>);
}

/// As long as this lives, changes are told. Drop waits for one that is being told; it sleeps.
///
/// # Invariants
///
/// `id` is of virgo-analytics' list; `context` came from `Arc::into_foreign`, owned.
pub struct Watching<T: Watch> {
    id: i64,
    context: *mut c_void,
    _owns: core::marker::PhantomData<Arc<T>>,
}

// SAFETY: It may be dropped on any thread, and the `Arc` be sent.
unsafe impl<T: Watch> Send for Watching<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: Watch> Sync for Watching<T> {}

impl<T: Watch> Watching<T> {
    /// Asks to be told of changes of a setting, or of all (an empty name). `ENOSPC`: too many ask.
    /// `ENOMEM`. May sleep.
    pub fn new(key: &[u8], watch: Arc<T>) -> Result<Self> {
        use kernel::types::ForeignOwnable;

        let context = watch.into_foreign();
        // SAFETY: The slice is valid for its length; the context lives until it is taken off.
        let id =
            unsafe { ffi::virgo_analytics_watch(key.as_ptr(), key.len(), Self::changed, context) };
        if id < 0 {
            // SAFETY: From `into_foreign` above; the list did not take it.
            drop(unsafe { Arc::<T>::from_foreign(context) });
            return Err(i32::try_from(id)
                .ok()
                .and_then(|id| to_result(id).err())
                .unwrap_or(EINVAL));
        }
        // INVARIANT: Both were just made.
        Ok(Watching {
            id,
            context,
            _owns: core::marker::PhantomData,
        })
    }

    /// # Safety
    ///
    /// Called with this value's context and a notice whose strings are readable.
    unsafe extern "C" fn changed(context: *mut c_void, notice: *const RawNotice) {
        use kernel::types::ForeignOwnable;

        // SAFETY: By the safety requirements; the context is freed after it was taken off.
        let (watch, notice) = unsafe { (Arc::<T>::borrow(context), &*notice) };
        // SAFETY: By the safety requirements.
        let (key, text) = unsafe {
            (
                slice::from_raw_parts(notice.key, notice.key_len),
                slice::from_raw_parts(notice.text, notice.text_len),
            )
        };
        watch.changed(&Change {
            key,
            text,
            number: notice.number,
            version: notice.version,
        });
    }
}

impl<T: Watch> Drop for Watching<T> {
    fn drop(&mut self) {
        use kernel::types::ForeignOwnable;

        // SAFETY: The number is ours by the invariant, and given up here.
        unsafe { ffi::virgo_analytics_unwatch(self.id) };
        // SAFETY: Owned by the invariant; nobody calls with it any more.
        drop(unsafe { Arc::<T>::from_foreign(self.context) });
    }
}
