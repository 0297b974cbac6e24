// SPDX-License-Identifier: GPL-2.0-only

//! virgo-analytics' functions for other modules. Compiled into virgo-analytics alone.
//!
//! A module that uses them can be loaded while virgo-analytics is, and pins it. What they promise
//! is in doc/analytics.md.

use core::{
    ffi::c_void,
    ptr,
    slice, //
};

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};

use crate::{
    lib::{
        analytics::{
            RawNotice,
            RawValue, //
        },
        rcu::{
            bytes_of_words,
            Directory,
            RcuRecord, //
        },
    },
    virgo_export, //
};

/// The settings, for readers; null before there are any and after.
///
/// # Invariants
///
/// Null, or the directory that an [`Opened`] holds.
static DIRECTORY: Atomic<*mut Directory<RcuRecord>> = Atomic::new(ptr::null_mut());

/// The settings, opened to other modules. Drop closes them: each module that can read pins this
/// one, so there are none by then.
pub(crate) struct Opened(#[expect(dead_code, reason = "kept alive")] Arc<Directory<RcuRecord>>);

impl Opened {
    /// Opens them. Once, in the module's init.
    pub(crate) fn new(directory: Arc<Directory<RcuRecord>>) -> Self {
        // INVARIANT: Held by the value that is returned. Release: what it holds is complete.
        DIRECTORY.store(Arc::as_ptr(&directory).cast_mut(), Release);
        Opened(directory)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        DIRECTORY.store(ptr::null_mut(), Release);
    }
}

/// For other modules: a setting. 0; `-ENOENT`: there is none of that name; `-ENODEV` while the
/// module comes or goes. Of the value's text as much is copied as there is room for. Any context,
/// also an interrupt's.
///
/// # Safety
///
/// `key` is readable for `key_len` bytes, `value` null or writable, `text` writable for `capacity`
/// bytes, which may be 0.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_analytics_get(
    key: *const u8,
    key_len: usize,
    value: *mut RawValue,
    text: *mut u8,
    capacity: usize,
) -> i32 {
    // SAFETY: By the invariant it is null or held, and is not given up while a module that can
    // call this is loaded. Acquire: pairs with the store that opened it.
    let Some(directory) = (unsafe { DIRECTORY.load(Acquire).as_ref() }) else {
        return ENODEV.to_errno();
    };
    // SAFETY: By the safety requirements.
    let key = unsafe { slice::from_raw_parts(key, key_len) };
    let Some((_, record)) = directory.find(key) else {
        return ENOENT.to_errno();
    };
    record.read(|words| {
        let [number, version, form, rest @ ..] = words else {
            return;
        };
        // CAST: the two halves are wanted.
        let (kind, length) = (*form as u32, (*form >> 32) as u32);
        if !value.is_null() {
            let told = RawValue {
                // CAST: back to what it was.
                number: *number as i64,
                version: *version,
                kind,
                length,
            };
            // SAFETY: By the safety requirements.
            unsafe { value.write(told) };
        }
        if capacity > 0 {
            let bytes = bytes_of_words(rest);
            // CAST: u32 fits usize on 64-bit.
            let count = (length as usize).min(capacity).min(bytes.len());
            // SAFETY: By the safety requirements; the record is another memory.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), text, count) };
        }
    });
    0
}
virgo_export!(virgo_analytics_get);

/// What another module asked to be told of.
struct Watcher {
    id: i64,
    /// Of this setting alone; empty: of all.
    key: KVec<u8>,
    context: *mut c_void,
    changed: unsafe extern "C" fn(context: *mut c_void, notice: *const RawNotice),
}

struct List {
    watchers: KVec<Watcher>,
    next: i64,
}

// SAFETY: Who registers vouches that its function may be called from any thread.
unsafe impl Send for List {}

kernel::sync::global_lock! {
    // SAFETY: Initialised in `Watchers::new`, in the module's init, before any other module can
    // call an exported function.
    unsafe(uninit) static WATCHERS: Mutex<List> = List {
        watchers: KVec::new(),
        next: 1,
    };
}

/// How many there are, for those who need not take the lock.
static COUNT: Atomic<u32> = Atomic::new(0);

/// The most functions that can be told of changes.
const MAX_WATCHERS: usize = 1024;

/// What is told of a change.
pub(crate) struct Notice<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) text: &'a [u8],
    pub(crate) number: i64,
    pub(crate) version: u64,
    pub(crate) source: u32,
}

/// The list of who is told, open as long as this value lives.
pub(crate) struct Watchers(());

impl Watchers {
    /// Opens the list. Once, in the module's init.
    pub(crate) fn new() -> Self {
        // SAFETY: Called once, by the contract of this function.
        unsafe { WATCHERS.init() };
        Watchers(())
    }

    /// How many there are.
    pub(crate) fn count() -> u32 {
        // Relaxed: a number.
        COUNT.load(Relaxed)
    }

    /// Tells those who asked for it. Sleeps, as long as they do.
    pub(crate) fn tell(notice: &Notice<'_>) {
        if Self::count() == 0 {
            return;
        }
        let raw = RawNotice {
            key: notice.key.as_ptr(),
            key_len: notice.key.len(),
            text: notice.text.as_ptr(),
            text_len: notice.text.len(),
            number: notice.number,
            version: notice.version,
            source: notice.source,
            reserved: 0,
        };
        for watcher in WATCHERS.lock().watchers.iter() {
            if watcher.key.is_empty() || *watcher.key == *notice.key {
                // SAFETY: The function may be called until it is taken off the list, for which the
                // mutex must be had.
                unsafe { (watcher.changed)(watcher.context, &raw) };
            }
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        // Statics are not dropped. It is empty: each module that watches pins this one.
        WATCHERS.lock().watchers = KVec::new();
    }
}

/// For other modules: asks to be told of changes of a setting, or of all (`key_len` 0). A number
/// to stop it with, or an errno. May sleep.
///
/// `changed` is called after each change, in the order of the changes, in process context, with
/// what is in force now; it may sleep, though not for long, and may read settings, but neither set
/// any nor call this or [`virgo_analytics_unwatch`].
///
/// # Safety
///
/// `key` is readable for `key_len` bytes; `changed` may be called with `context` from any thread
/// until [`virgo_analytics_unwatch`] has returned.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_analytics_watch(
    key: *const u8,
    key_len: usize,
    changed: unsafe extern "C" fn(context: *mut c_void, notice: *const RawNotice),
    context: *mut c_void,
) -> i64 {
    let add = || -> Result<i64> {
        let mut name = KVec::new();
        if key_len > 0 {
            // SAFETY: By the safety requirements.
            let key = unsafe { slice::from_raw_parts(key, key_len) };
            name.extend_from_slice(key, GFP_KERNEL)?;
        }
        let mut list = WATCHERS.lock();
        if list.watchers.len() >= MAX_WATCHERS {
            return Err(ENOSPC);
        }
        let id = list.next;
        list.next = id.saturating_add(1);
        let watcher = Watcher {
            id,
            key: name,
            context,
            changed,
        };
        list.watchers.push(watcher, GFP_KERNEL)?;
        COUNT.store(u32::try_from(list.watchers.len()).unwrap_or(0), Relaxed);
        Ok(id)
    };
    // CAST: an errno fits.
    add().unwrap_or_else(|error| error.to_errno() as i64)
}
virgo_export!(virgo_analytics_watch);

/// For other modules: stops it, and waits until the function has returned. Sleeps.
#[no_mangle]
pub(crate) extern "C" fn virgo_analytics_unwatch(id: i64) {
    let mut list = WATCHERS.lock();
    if let Some(place) = list.watchers.iter().position(|watcher| watcher.id == id) {
        // It is there.
        let _ = list.watchers.remove(place);
    }
    COUNT.store(u32::try_from(list.watchers.len()).unwrap_or(0), Relaxed);
}
virgo_export!(virgo_analytics_unwatch);
