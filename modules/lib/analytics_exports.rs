// SPDX-License-Identifier: GPL-2.0-only

//! virgo-analytics' functions for other modules. Compiled into virgo-analytics alone.
//!
//! A module that uses them can be loaded while virgo-analytics is, and pins it. What they promise
//! is in doc/analytics.md.

use core::{
    ffi::c_void,
    ptr,
    slice,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    }, //
};

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
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
            RcuRecord,
            Record, //
        },
    },
    logic::seq_words::SeqWords,
    virgo_export, //
};

/// Of a setting's value: the number, the version, and what it is and how long its text.
const HEAD: usize = 3;

/// A value that is not in force yet.
pub(crate) struct Fresh {
    head: [u64; HEAD],
    record: Record,
}

impl Fresh {
    /// Of these words, and the text. `ENOMEM`, `EINVAL`. May sleep.
    pub(crate) fn new(head: [u64; HEAD], text: &[u8]) -> Result<Self> {
        Ok(Fresh {
            head,
            record: Record::new(&head, text)?,
        })
    }
}

/// A setting's value. Who wants no text gets it without RCU's bookkeeping.
pub(crate) struct Kept {
    head: SeqWords<HEAD>,
    /// The same words, and the text.
    record: RcuRecord,
}

impl Kept {
    /// The first value.
    pub(crate) fn new(first: Fresh) -> Self {
        Kept {
            head: SeqWords::new(first.head),
            record: RcuRecord::new(first.record),
        }
    }

    /// Puts another in force. One at a time: the caller has a lock. Sleeps, at times for a grace period.
    pub(crate) fn replace(&self, fresh: Fresh) {
        self.head.write(fresh.head);
        self.record.replace(fresh.record);
    }
}

impl RawValue {
    fn of(head: [u64; HEAD]) -> Self {
        let [number, version, form] = head;
        RawValue {
            // CAST: back to what it was.
            number: number as i64,
            version,
            // CAST: the two halves are wanted.
            kind: form as u32,
            length: (form >> 32) as u32,
        }
    }
}

/// The settings, for readers; null before there are any and after.
///
/// # Invariants
///
/// Null, or the directory that an [`Opened`] holds.
// As in `Directory`: not the kernel's, whose load is a call.
static DIRECTORY: AtomicPtr<Directory<Kept>> = AtomicPtr::new(ptr::null_mut());

/// The settings, opened to other modules. Drop closes them: each module that can read pins this
/// one, so there are none by then.
pub(crate) struct Opened(#[expect(dead_code, reason = "kept alive")] Arc<Directory<Kept>>);

impl Opened {
    /// Opens them. Once, in the module's init.
    pub(crate) fn new(directory: Arc<Directory<Kept>>) -> Self {
        // INVARIANT: Held by the value that is returned. Release: what it holds is complete.
        DIRECTORY.store(Arc::as_ptr(&directory).cast_mut(), Ordering::Release);
        Opened(directory)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        DIRECTORY.store(ptr::null_mut(), Ordering::Release);
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
    let Some(directory) = (unsafe { DIRECTORY.load(Ordering::Acquire).as_ref() }) else {
        return ENODEV.to_errno();
    };
    // SAFETY: By the safety requirements.
    let key = unsafe { slice::from_raw_parts(key, key_len) };
    let Some((_, kept)) = directory.find(key) else {
        return ENOENT.to_errno();
    };
    // Where a writer is met, maybe interrupted by this, the record is there at any time.
    let head = kept.head.read().filter(|_| capacity == 0);
    let Some(head) = head else {
        // SAFETY: By the safety requirements.
        unsafe { from_record(&kept.record, value, text, capacity) };
        return 0;
    };
    if !value.is_null() {
        // SAFETY: By the safety requirements.
        unsafe { value.write(RawValue::of(head)) };
    }
    0
}
virgo_export!(virgo_analytics_get);

/// The value and its text, out of a record.
///
/// # Safety
///
/// As for [`virgo_analytics_get`].
#[inline(never)]
unsafe fn from_record(record: &RcuRecord, value: *mut RawValue, text: *mut u8, capacity: usize) {
    record.read(|words| {
        let Some((head, rest)) = words.split_first_chunk() else {
            return;
        };
        let told = RawValue::of(*head);
        if !value.is_null() {
            // SAFETY: By the safety requirements.
            unsafe { value.write(told) };
        }
        if capacity > 0 {
            let bytes = bytes_of_words(rest);
            // CAST: u32 fits usize on 64-bit.
            let count = (told.length as usize).min(capacity).min(bytes.len());
            // SAFETY: By the safety requirements; the record is another memory.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), text, count) };
        }
    });
}

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
