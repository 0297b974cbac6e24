// SPDX-License-Identifier: GPL-2.0-only

//! The list of settings that act: the functions that virgo-core exports.
//!
//! Beside [`super::setting`], which every module has, this file is compiled into virgo-core alone.
//!
//! # Locking
//!
//! One mutex over the list, held while a setting is applied: so a module that takes its setting off
//! the list has waited for that. virgo-analytics applies under its own mutex, which is therefore
//! taken first; it is told of what comes and goes with no lock held.

use core::{
    ffi::c_void,
    slice, //
};

use kernel::prelude::*;

use crate::{
    lib::{
        service::{
            Module,
            Provider, //
        },
        setting::{
            RawSetting,
            RawTold,
            OP_CAME,
            OP_NODE,
            OP_WENT, //
        },
    },
    proto::analytics::{
        valid_key,
        valid_words,
        words,
        Kind, //
    },
};

/// The most settings that modules can register.
const MAX: usize = 256;

struct Entry {
    id: i64,
    kind: Kind,
    low: i64,
    high: i64,
    initial: i64,
    name: KVec<u8>,
    reader: KVec<u8>,
    words: KVec<u8>,
    context: *mut c_void,
    apply: unsafe extern "C" fn(context: *mut c_void, value: i64) -> i32,
}

struct List {
    entries: KVec<Entry>,
    next: i64,
}

// SAFETY: The pointers in it are the modules', which vouched that they may be used from any thread
// (`Setting`'s handler is `Send + Sync`).
unsafe impl Send for List {}

kernel::sync::global_lock! {
    // SAFETY: Initialised in `Settings::new`, before the module's init is over and thus before any
    // other module can call an exported function.
    unsafe(uninit) static LIST: Mutex<List> = List {
        entries: KVec::new(),
        next: 1,
    };
}

/// The list, open as long as virgo-core is loaded.
pub(crate) struct Settings(());

impl Settings {
    /// Opens the list. Call it once, in the module's init.
    pub(crate) fn new() -> Self {
        // SAFETY: Called once, by the contract of this function.
        unsafe { LIST.init() };
        Settings(())
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // Statics are not dropped. There are no settings: each module that has one pins this one.
        LIST.lock().entries = KVec::new();
    }
}

fn tell(operation: u32, name: &[u8]) {
    if let Some(analytics) = Provider::find(Module::Analytics) {
        // What it can't do with it, it logs.
        let _ = analytics.call(operation, name, &mut []);
    }
}

/// A node of the cluster has come up: it may know of settings, or not. May sleep.
pub(crate) fn node_up() {
    tell(OP_NODE, &[]);
}

fn copied(bytes: &[u8]) -> Result<KVec<u8>> {
    let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL)?;
    copy.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(copy)
}

fn add(raw: &RawSetting, name: &[u8], reader: &[u8], list: &[u8]) -> Result<i64> {
    let kind = Kind::from_number(raw.kind).ok_or(EINVAL)?;
    let (low, high) = match kind {
        Kind::Int => (raw.low, raw.high),
        Kind::Bool => (0, 1),
        Kind::Choice => {
            let count = i64::try_from(words(list).count()).unwrap_or(i64::MAX);
            (0, count.saturating_sub(1))
        }
        Kind::Text => return Err(EINVAL),
    };
    if !valid_key(name)
        || reader.len() > 63
        || list.len() > 255
        || (kind == Kind::Choice) != valid_words(list)
        || !(low..=high).contains(&raw.initial)
    {
        return Err(EINVAL);
    }
    let (name, reader, words) = (copied(name)?, copied(reader)?, copied(list)?);
    let mut all = LIST.lock();
    if all.entries.iter().any(|entry| *entry.name == *name) {
        return Err(EEXIST);
    }
    if all.entries.len() >= MAX {
        return Err(ENOSPC);
    }
    let id = all.next;
    all.next = id.saturating_add(1);
    let entry = Entry {
        id,
        kind,
        low,
        high,
        initial: raw.initial,
        name,
        reader,
        words,
        context: raw.context,
        apply: raw.apply,
    };
    all.entries.push(entry, GFP_KERNEL)?;
    Ok(id)
}

/// Puts a setting on the list; its number, or an errno. May sleep.
///
/// # Safety
///
/// `raw` points to a setting of at least as many bytes as it says, whose strings are readable, and
/// whose function may be called with its context, from any thread, until it is taken off the list.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_setting_add(raw: *const RawSetting) -> i64 {
    // SAFETY: By the safety requirements; the size comes first.
    if unsafe { (*raw).size } as usize != size_of::<RawSetting>() {
        // CAST: an errno fits.
        return ENOEXEC.to_errno() as i64;
    }
    // SAFETY: By the safety requirements.
    let raw = unsafe { &*raw };
    // SAFETY: As above.
    let (name, reader, list) = unsafe {
        (
            slice::from_raw_parts(raw.name, raw.name_len),
            slice::from_raw_parts(raw.reader, raw.reader_len),
            slice::from_raw_parts(raw.words, raw.words_len),
        )
    };
    match add(raw, name, reader, list) {
        Ok(id) => {
            tell(OP_CAME, name);
            id
        }
        // CAST: an errno fits.
        Err(error) => error.to_errno() as i64,
    }
}
crate::virgo_export!(virgo_core_setting_add);

/// Takes a setting off the list, and waits until nobody applies it. Sleeps.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_setting_remove(id: i64) {
    let mut all = LIST.lock();
    let Some(place) = all.entries.iter().position(|entry| entry.id == id) else {
        return;
    };
    let Ok(entry) = all.entries.remove(place) else {
        return;
    };
    drop(all);
    tell(OP_WENT, &entry.name);
}
crate::virgo_export!(virgo_core_setting_remove);

fn put(bytes: &[u8], place: &mut [u8]) {
    // Shorter than the place, which is zero, by the checks in `add`.
    if let Some(place) = place.get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// # Safety
///
/// `out` is writable.
unsafe fn told(entry: Option<&Entry>, out: *mut RawTold) -> i32 {
    let Some(entry) = entry else {
        return ENOENT.to_errno();
    };
    let mut told = RawTold {
        // CAST: `repr(u32)`.
        kind: entry.kind as u32,
        reserved: 0,
        low: entry.low,
        high: entry.high,
        initial: entry.initial,
        name: [0; 128],
        reader: [0; 64],
        words: [0; 256],
    };
    put(&entry.name, &mut told.name);
    put(&entry.reader, &mut told.reader);
    put(&entry.words, &mut told.words);
    // SAFETY: By the safety requirements.
    unsafe { out.write(told) };
    0
}

/// Tells of the setting at a place; 0 or `-ENOENT`. May sleep.
///
/// # Safety
///
/// `out` is writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_setting_at(place: usize, out: *mut RawTold) -> i32 {
    // SAFETY: By the safety requirements.
    unsafe { told(LIST.lock().entries.get(place), out) }
}
crate::virgo_export!(virgo_core_setting_at);

/// Tells of the setting of a name; 0 or `-ENOENT`. May sleep.
///
/// # Safety
///
/// `name` is readable for `length` bytes, `out` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_setting_find(
    name: *const u8,
    length: usize,
    out: *mut RawTold,
) -> i32 {
    // SAFETY: By the safety requirements.
    let name = unsafe { slice::from_raw_parts(name, length) };
    let all = LIST.lock();
    let entry = all.entries.iter().find(|entry| *entry.name == *name);
    // SAFETY: By the safety requirements.
    unsafe { told(entry, out) }
}
crate::virgo_export!(virgo_core_setting_find);

/// Gives a setting a value; 0, `-ENOENT`, or what its module says. Sleeps.
///
/// # Safety
///
/// `name` is readable for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_setting_apply(
    name: *const u8,
    length: usize,
    value: i64,
) -> i32 {
    // SAFETY: By the safety requirements.
    let name = unsafe { slice::from_raw_parts(name, length) };
    let all = LIST.lock();
    let Some(entry) = all.entries.iter().find(|entry| *entry.name == *name) else {
        return ENOENT.to_errno();
    };
    if !(entry.low..=entry.high).contains(&value) {
        return ERANGE.to_errno();
    }
    // SAFETY: The function may be called until its setting is taken off the list, for which the
    // mutex must be had.
    unsafe { (entry.apply)(entry.context, value) }
}
crate::virgo_export!(virgo_core_setting_apply);
