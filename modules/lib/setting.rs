// SPDX-License-Identifier: GPL-2.0-only

//! Settings that act: numbers of a module's that virgo-analytics may change while it runs.
//!
//! A module registers each with its range, its value now and a function that applies another one.
//! virgo-core keeps the list, so a module needs virgo-analytics neither to be loaded nor to run;
//! when that is loaded it drives what is in the list, and what comes later.
//!
//! ```ignore
//! const RATE: Spec = Spec {
//!     name: "profiler.rate",
//!     reader: "virgo-profiler: sampling rounds a second",
//!     kind: Kind::Int { low: 1, high: 1000 },
//! };
//! // A field that is dropped before what it changes.
//! rate: Setting::new(&RATE, 20, profiler.clone(), |profiler, value| profiler.set_rate(value))?,
//! ```

use core::{
    ffi::c_void,
    marker::PhantomData, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

use super::ffi;
use crate::proto::analytics::Kind as Form;

/// What may be set.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A whole number.
    Int {
        /// The least.
        low: i64,
        /// The greatest.
        high: i64,
    },
    /// 0 or 1.
    Bool,
    /// One of these words, which have `|` between; the number is the word's place.
    Choice(&'static str),
}

/// What is said of a setting.
pub struct Spec {
    /// Its name, `module.what`.
    pub name: &'static str,
    /// Who reads it, and what it does.
    pub reader: &'static str,
    /// What it may be.
    pub kind: Kind,
}

/// A setting as it crosses the boundary of modules.
#[repr(C)]
pub(crate) struct RawSetting {
    /// `size_of::<RawSetting>()` of who registers.
    pub(crate) size: u32,
    /// [`Form`] as a number.
    pub(crate) kind: u32,
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) initial: i64,
    pub(crate) name: *const u8,
    pub(crate) name_len: usize,
    pub(crate) reader: *const u8,
    pub(crate) reader_len: usize,
    pub(crate) words: *const u8,
    pub(crate) words_len: usize,
    pub(crate) context: *mut c_void,
    pub(crate) apply: unsafe extern "C" fn(context: *mut c_void, value: i64) -> i32,
}

/// What virgo-core tells of a setting.
#[repr(C)]
pub(crate) struct RawTold {
    pub(crate) kind: u32,
    pub(crate) reserved: u32,
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) initial: i64,
    pub(crate) name: [u8; 128],
    pub(crate) reader: [u8; 64],
    pub(crate) words: [u8; 256],
}

/// Told to virgo-analytics by [`super::service::Service::call`]: a setting of this name came.
pub const OP_CAME: u32 = 1;
/// Likewise: it went.
pub const OP_WENT: u32 = 2;
/// Likewise, without a name: a node of the cluster has come up.
pub const OP_NODE: u32 = 3;

struct Handler<T> {
    target: Arc<T>,
    apply: fn(&T, i64) -> Result,
}

/// A registered setting. Drop takes it off the list and waits until nobody applies it; it sleeps.
/// The last value stays in force.
///
/// # Invariants
///
/// `id` is of the list and ours; `context` came from `KBox::into_raw` and is owned.
pub struct Setting<T: Send + Sync + 'static> {
    id: i64,
    context: *mut Handler<T>,
    _owns: PhantomData<Handler<T>>,
}

// SAFETY: It may be taken off the list from any thread, and what it owns be sent.
unsafe impl<T: Send + Sync + 'static> Send for Setting<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: Send + Sync + 'static> Sync for Setting<T> {}

impl<T: Send + Sync + 'static> Setting<T> {
    /// Registers a setting, whose value is `initial` now. Where virgo-analytics has another one
    /// for it, that is applied before this returns; if it can't be, virgo-analytics forgets it.
    ///
    /// `apply` runs in process context and may sleep; it gets values of the range alone, one at a
    /// time. What it refuses is told to who set it. It must not register settings, nor call
    /// virgo-analytics. Take no lock around this that it takes.
    ///
    /// `EEXIST`: the name is taken. `EINVAL`: the spec contradicts itself. `ENOMEM`. May sleep.
    pub fn new(
        spec: &Spec,
        initial: i64,
        target: Arc<T>,
        apply: fn(&T, i64) -> Result,
    ) -> Result<Self> {
        let (kind, low, high, words) = match spec.kind {
            Kind::Int { low, high } => (Form::Int, low, high, ""),
            Kind::Bool => (Form::Bool, 0, 1, ""),
            Kind::Choice(words) => (Form::Choice, 0, 0, words),
        };
        let context = KBox::into_raw(KBox::new(Handler { target, apply }, GFP_KERNEL)?);
        let raw = RawSetting {
            // CAST: a small constant.
            size: size_of::<RawSetting>() as u32,
            // CAST: `repr(u32)`.
            kind: kind as u32,
            low,
            high,
            initial,
            name: spec.name.as_ptr(),
            name_len: spec.name.len(),
            reader: spec.reader.as_ptr(),
            reader_len: spec.reader.len(),
            words: words.as_ptr(),
            words_len: words.len(),
            context: context.cast(),
            apply: Self::apply,
        };
        // SAFETY: The strings are read during the call; function and context live until the
        // setting has been taken off the list.
        let id = unsafe { ffi::virgo_core_setting_add(&raw) };
        if id < 0 {
            // SAFETY: From `into_raw` above; the list did not take it.
            drop(unsafe { KBox::from_raw(context) });
            return Err(
                i32::try_from(id).map_or(EINVAL, |id| to_result(id).err().unwrap_or(EINVAL))
            );
        }
        // INVARIANT: Both were just made.
        Ok(Setting {
            id,
            context,
            _owns: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Called through the list with this setting's context.
    unsafe extern "C" fn apply(context: *mut c_void, value: i64) -> i32 {
        // SAFETY: By the safety requirements; it is freed after the setting is off the list.
        let handler = unsafe { &*context.cast::<Handler<T>>() };
        (handler.apply)(&handler.target, value).map_or_else(Error::to_errno, |()| 0)
    }
}

impl<T: Send + Sync + 'static> Drop for Setting<T> {
    fn drop(&mut self) {
        // SAFETY: The setting is ours by the invariant, and given up here.
        unsafe { ffi::virgo_core_setting_remove(self.id) };
        // SAFETY: Owned by the invariant; nobody calls with it any more.
        drop(unsafe { KBox::from_raw(self.context) });
    }
}

/// A setting that some module has registered.
pub struct Told(RawTold);

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(&[])
}

impl Told {
    fn from(fill: impl FnOnce(*mut RawTold) -> i32) -> Result<Told> {
        let mut told = RawTold {
            kind: 0,
            reserved: 0,
            low: 0,
            high: 0,
            initial: 0,
            name: [0; 128],
            reader: [0; 64],
            words: [0; 256],
        };
        to_result(fill(&mut told))?;
        Ok(Told(told))
    }

    /// The setting with this place in the list; `ENOENT` past the last. Places change when settings
    /// go. May sleep.
    pub fn at(place: usize) -> Result<Told> {
        // SAFETY: The structure can be written.
        Self::from(|told| unsafe { ffi::virgo_core_setting_at(place, told) })
    }

    /// The setting of this name; `ENOENT`. May sleep.
    pub fn find(name: &[u8]) -> Result<Told> {
        // SAFETY: The slice is valid for its length, the structure can be written.
        Self::from(|told| unsafe { ffi::virgo_core_setting_find(name.as_ptr(), name.len(), told) })
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        until_nul(&self.0.name)
    }

    /// Who reads it.
    pub fn reader(&self) -> &[u8] {
        until_nul(&self.0.reader)
    }

    /// A choice's words.
    pub fn words(&self) -> &[u8] {
        until_nul(&self.0.words)
    }

    /// What it may be.
    pub fn kind(&self) -> Form {
        Form::from_number(self.0.kind).unwrap_or(Form::Text)
    }

    /// A number's range.
    pub fn range(&self) -> (i64, i64) {
        (self.0.low, self.0.high)
    }

    /// Its value when it was registered.
    pub fn initial(&self) -> i64 {
        self.0.initial
    }
}

/// Gives a registered setting a value. For virgo-analytics alone.
///
/// `ENOENT`: nobody has registered it. Else what its module says. Sleeps.
pub fn apply(name: &[u8], value: i64) -> Result {
    // SAFETY: The slice is valid for its length.
    to_result(unsafe { ffi::virgo_core_setting_apply(name.as_ptr(), name.len(), value) })
}
