// SPDX-License-Identifier: GPL-2.0-only

//! Telling what happened: the way from any module to virgo-eventnet, which may be there or not.
//!
//! ```ignore
//! if event::wanted(Module::Queue) {
//!     event::log(Module::Queue, b"put", name, EventId::NONE);
//! }
//! ```
//!
//! [`wanted`] is one load, of a word in virgo-core that is 0 while virgo-eventnet is not loaded or
//! not asked for that module's events. [`log`] never sleeps, never waits, and may be called in any
//! context but NMIs and under the scheduler's own locks; where the buffer is full the event is
//! dropped and counted, and the loss is an event of its own.
//!
//! [`stamp`] and [`seen`] are the node's hybrid logical clock (`virgo_logic::hlc`): who sends to
//! another node sends a stamp along, who receives shows it to the clock.

use core::{
    fmt::{
        self,
        Write, //
    },
    marker::PhantomData,
    slice, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
    types::ForeignOwnable, //
};

use super::{
    ffi,
    service::Module, //
};

/// The most bytes of an event's kind and subject together; the subject's rest is cut off.
pub const TEXT_MAX: usize = 80;

/// Which event: its stamp, and the node that it happened on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventId {
    /// The stamp; 0: no event.
    pub stamp: u64,
    /// The node's number; 0: this one.
    pub node: u32,
}

impl EventId {
    /// No event: what has no cause, or was not logged.
    pub const NONE: EventId = EventId { stamp: 0, node: 0 };
}

/// An event, as it crosses the boundary of modules.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RawEvent {
    /// A `Module`; without a kind, the subject is a message.
    module: u32,
    pub(crate) cause_node: u32,
    pub(crate) cause_stamp: u64,
    kind: *const u8,
    kind_len: usize,
    subject: *const u8,
    subject_len: usize,
}

impl RawEvent {
    /// A message in the original's words.
    pub(crate) fn message(text: &[u8]) -> Self {
        RawEvent {
            // CAST: `repr(u32)`.
            module: Module::Eventnet as u32,
            cause_node: 0,
            cause_stamp: 0,
            kind: text.as_ptr(),
            kind_len: 0,
            subject: text.as_ptr(),
            subject_len: text.len(),
        }
    }
}

/// Who takes events, as it crosses the boundary.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SinkOps {
    pub(crate) context: *mut c_void,
    pub(crate) log: unsafe extern "C" fn(context: *mut c_void, event: *const RawEvent) -> u64,
    /// Bit `1 << module` for each whose events are asked for.
    pub(crate) mask: u32,
    pub(crate) reserved: u32,
}

/// Whether a module's events are asked for. Any context.
#[inline(always)]
pub fn wanted(module: Module) -> bool {
    // SAFETY: The word is virgo-core's, which this module needs, so it lives as long as this
    // module; it is atomic. Relaxed: what changes a moment later is not missed.
    // CAST: `repr(u32)`.
    unsafe { ffi::virgo_core_event_mask.load(Relaxed) >> (module as u32) & 1 != 0 }
}

/// Tells of an event, if it is [`wanted`]. `NONE` if it was not, or was dropped.
///
/// `kind` is a short word ("put"); `subject` says of what, any bytes; together at most
/// [`TEXT_MAX`], the rest of the subject is left out. `cause` is the event that led to this one;
/// where it is `NONE` and the thread serves a request of another node, that is taken for it.
/// Any context but NMIs and the scheduler's; never sleeps.
#[inline]
pub fn log(module: Module, kind: &[u8], subject: &[u8], cause: EventId) -> EventId {
    if !wanted(module) {
        return EventId::NONE;
    }
    let event = RawEvent {
        // CAST: `repr(u32)`.
        module: module as u32,
        cause_node: cause.node,
        cause_stamp: cause.stamp,
        kind: kind.as_ptr(),
        kind_len: kind.len(),
        subject: subject.as_ptr(),
        subject_len: subject.len(),
    };
    // SAFETY: The event's slices are valid for their lengths during the call.
    let stamp = unsafe { ffi::virgo_core_event_log(&event) };
    EventId { stamp, node: 0 }
}

/// Tells of an event with a subject that is to be formatted, which is done only if the event is
/// wanted: `tell(Module::Core, b"node", fmt!("{} up", id))`. As [`log`].
pub fn tell(module: Module, kind: &[u8], subject: fmt::Arguments<'_>) -> EventId {
    tell_of(module, kind, subject, EventId::NONE)
}

/// As [`tell`], of an event that another led to.
pub fn tell_of(
    module: Module,
    kind: &[u8],
    subject: fmt::Arguments<'_>,
    cause: EventId,
) -> EventId {
    if !wanted(module) {
        return EventId::NONE;
    }
    let mut text = Subject {
        bytes: [0; TEXT_MAX],
        length: 0,
    };
    // What does not fit is left out.
    let _ = text.write_fmt(subject);
    let bytes = text.bytes.get(..text.length).unwrap_or(&[]);
    log(module, kind, bytes, cause)
}

/// Sends a message in the original's words ("eventnet_edgemsg#1#2#"), of at most [`TEXT_MAX`] bytes.
///
/// As [`log`], whatever modules' events are asked for. `ENODEV` without virgo-eventnet, `EMSGSIZE`,
/// `EINVAL` for what is no message, `ENOBUFS` where it was dropped (which is counted). Any context
/// but NMIs and the scheduler's; never sleeps.
pub fn message(message: &CStr) -> Result {
    // SAFETY: A C string.
    to_result(unsafe { ffi::virgo_eventnet_log(message.as_char_ptr()) })
}

/// A subject in the making.
struct Subject {
    bytes: [u8; TEXT_MAX],
    length: usize,
}

impl fmt::Write for Subject {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or(&mut []);
        let used = text.len().min(room.len());
        if let (Some(place), Some(text)) = (room.get_mut(..used), text.as_bytes().get(..used)) {
            place.copy_from_slice(text);
            self.length = self.length.saturating_add(used);
        }
        Ok(())
    }
}

/// The node's next stamp. Any context but NMIs.
pub fn stamp() -> u64 {
    // SAFETY: The function has no preconditions.
    unsafe { ffi::virgo_core_clock_tick() }
}

/// Another node's stamp has come; ours are greater from now on. Returns one. Stamps that are more
/// than [`SKEW_MAX_NS`] ahead of the time of day are not believed: 0. Any context but NMIs.
pub fn seen(stamp: u64) -> u64 {
    // SAFETY: The function has no preconditions.
    unsafe { ffi::virgo_core_clock_seen(stamp) }
}

/// How far another node's clock may be ahead: a day.
pub const SKEW_MAX_NS: u64 = 86_400 * 1_000_000_000;

/// What a sink is given.
pub struct Event<'a> {
    raw: &'a RawEvent,
}

impl Event<'_> {
    /// Whose it is.
    pub fn module(&self) -> u32 {
        self.raw.module
    }
    /// What led to it.
    pub fn cause(&self) -> EventId {
        EventId {
            stamp: self.raw.cause_stamp,
            node: self.raw.cause_node,
        }
    }
    /// What happened.
    pub fn kind(&self) -> &[u8] {
        // SAFETY: Who logs gives slices that are valid during the call.
        unsafe { slice::from_raw_parts(self.raw.kind, self.raw.kind_len) }
    }
    /// To what.
    pub fn subject(&self) -> &[u8] {
        // SAFETY: As in `kind`.
        unsafe { slice::from_raw_parts(self.raw.subject, self.raw.subject_len) }
    }
}

/// Who takes the events of all modules: virgo-eventnet.
pub trait Sink: Send + Sync + 'static {
    /// Takes an event; its stamp, or 0 where it was dropped. Any context but NMIs; must not sleep,
    /// and must not log itself.
    fn log(&self, event: &Event<'_>) -> u64;
}

/// A sink that is attached. Drop detaches it and waits until nobody is inside; it sleeps.
///
/// # Invariants
///
/// The sink is attached with `context`, which came from `Arc::into_foreign` and is owned.
pub struct Attached<T: Sink> {
    context: *mut c_void,
    _owns: PhantomData<Arc<T>>,
}

// SAFETY: A sink may be detached from any thread.
unsafe impl<T: Sink> Send for Attached<T> {}
// SAFETY: `set` takes any thread.
unsafe impl<T: Sink> Sync for Attached<T> {}

impl<T: Sink> Attached<T> {
    /// Attaches the sink: the events of the modules in `mask` (bit `1 << module`) go there.
    /// `EEXIST` if there is one, `ENOEXEC` if virgo-core is of another build. May sleep.
    pub fn new(sink: Arc<T>, mask: u32) -> Result<Self> {
        let context = sink.into_foreign();
        let ops = SinkOps {
            context,
            log: Self::log,
            mask,
            reserved: 0,
        };
        // CAST: a small constant.
        let size = size_of::<SinkOps>() as u32;
        // SAFETY: The table is copied during the call; the context lives until it is detached.
        let status = unsafe { ffi::virgo_core_event_attach(&ops, super::service::ABI, size) };
        if let Err(error) = to_result(status) {
            // SAFETY: From `into_foreign` above; it was not taken.
            drop(unsafe { Arc::<T>::from_foreign(context) });
            return Err(error);
        }
        // INVARIANT: Just attached.
        Ok(Attached {
            context,
            _owns: PhantomData,
        })
    }

    /// Whose events are asked for from now on. Any context.
    pub fn set(&self, mask: u32) {
        // SAFETY: As in `wanted`. Relaxed: as there.
        unsafe { ffi::virgo_core_event_mask.store(mask, Relaxed) };
    }

    /// # Safety
    ///
    /// Called by virgo-core under RCU with the context, and an event whose slices are valid.
    unsafe extern "C" fn log(context: *mut c_void, event: *const RawEvent) -> u64 {
        // SAFETY: By the safety requirements; Drop waits for RCU before it gives the context up.
        let (sink, raw) = unsafe { (Arc::<T>::borrow(context), &*event) };
        sink.log(&Event { raw })
    }
}

impl<T: Sink> Drop for Attached<T> {
    fn drop(&mut self) {
        // SAFETY: It is attached by the invariant; the function waits until nobody is inside.
        unsafe { ffi::virgo_core_event_detach() };
        // SAFETY: Owned by the invariant, and nobody uses it any more.
        drop(unsafe { Arc::<T>::from_foreign(self.context) });
    }
}
