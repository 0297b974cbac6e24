// SPDX-License-Identifier: GPL-2.0-only

//! What virgo-core has for events, and exports: the word that says whose are asked for, the place
//! where virgo-eventnet hangs itself in, and the node's clock.
//!
//! Beside [`super::event`], which every module has, this file is compiled into virgo-core alone.

use core::ptr;

use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        rcu, //
    },
    task::Task, //
};

use crate::{
    lib::{
        compat::{
            emsgsize,
            enobufs, //
        },
        event::{
            wanted,
            EventId,
            RawEvent,
            SinkOps,
            SKEW_MAX_NS,
            TEXT_MAX, //
        },
        service::{
            Module,
            ABI, //
        },
        task::in_task,
        time::realtime_fast_ns, //
    },
    logic::hlc,
    proto::eventnet::parse, //
};

/// Bit `1 << module` for each whose events are asked for; 0 without a sink.
#[no_mangle]
#[allow(non_upper_case_globals, reason = "a symbol of the kernel")]
pub(crate) static virgo_core_event_mask: Atomic<u32> = Atomic::new(0);
crate::virgo_export!(virgo_core_event_mask);

/// The sink's table; null without one.
///
/// # Invariants
///
/// Null, or a box that is freed only after it was taken out and an RCU grace period has passed.
static SINK: Atomic<*mut SinkOps> = Atomic::new(ptr::null_mut());

/// Whether a module's requests to other nodes are to be events. Those of the two that ask all the
/// time, for their own ends, are not: telling of what eventnet sends would be sent again.
pub(crate) fn requests_wanted(module: Module) -> bool {
    !matches!(module, Module::Eventnet | Module::Analytics) && wanted(module)
}

/// What a thread is doing because of an event.
struct Led {
    /// Its task; 0: the place is free.
    task: Atomic<usize>,
    stamp: Atomic<u64>,
    node: Atomic<u32>,
}

/// How many threads can do something because of an event, and have that told.
const LED: usize = 64;

/// The threads that serve requests of other nodes.
static PLACES: [Led; LED] = [const {
    Led {
        task: Atomic::new(0),
        stamp: Atomic::new(0),
        node: Atomic::new(0),
    }
}; LED];
/// How many of the places are taken.
static TAKEN: Atomic<u32> = Atomic::new(0);

/// This thread.
fn current() -> usize {
    Task::current_raw().addr()
}

/// What this thread does comes of an event, until the value is dropped, in the same thread.
pub(crate) struct Leading(&'static Led);

impl Leading {
    /// Of this event. `None` where too many threads have one.
    pub(crate) fn new(event: EventId) -> Option<Self> {
        let me = current();
        let place = PLACES.iter().find(|place| {
            // Relaxed: what is in it is for this thread alone.
            place.task.load(Relaxed) == 0 && place.task.cmpxchg(0, me, Relaxed).is_ok()
        })?;
        place.node.store(event.node, Relaxed);
        place.stamp.store(event.stamp, Relaxed);
        TAKEN.fetch_add(1_u32, Relaxed);
        Some(Leading(place))
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.stamp.store(0, Relaxed);
        self.0.task.store(0, Relaxed);
        TAKEN.fetch_sub(1_u32, Relaxed);
    }
}

/// What led to what this thread does, if that is known: the stamp and the node.
fn leading() -> Option<(u64, u32)> {
    if TAKEN.load(Relaxed) == 0 || !in_task() {
        return None;
    }
    let me = current();
    let place = PLACES.iter().find(|place| place.task.load(Relaxed) == me)?;
    let stamp = place.stamp.load(Relaxed);
    (stamp != 0).then(|| (stamp, place.node.load(Relaxed)))
}

/// The node's last stamp.
static CLOCK: Atomic<u64> = Atomic::new(0);

/// Sets the clock forward by a step; the stamp.
#[inline]
fn step(next: impl Fn(u64) -> u64) -> u64 {
    let mut last = CLOCK.load(Relaxed);
    loop {
        let stamp = next(last);
        // Relaxed: a stamp's own order is that of the word; what it stamps is published by others.
        match CLOCK.cmpxchg(last, stamp, Relaxed) {
            Ok(_) => return stamp,
            Err(now) => last = now,
        }
    }
}

/// The node's next stamp. Any context but NMIs.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_clock_tick() -> u64 {
    let now = realtime_fast_ns();
    step(|last| hlc::tick(last, now))
}
crate::virgo_export!(virgo_core_clock_tick);

/// Another node's stamp has come; 0 if it is not to be believed. Any context but NMIs.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_clock_seen(stamp: u64) -> u64 {
    let now = realtime_fast_ns();
    if hlc::too_far(stamp, now, SKEW_MAX_NS) {
        return 0;
    }
    step(|last| hlc::merge(last, stamp, now))
}
crate::virgo_export!(virgo_core_clock_seen);

/// Hands an event to the sink; its stamp, 0 without one. Any context but NMIs.
///
/// # Safety
///
/// The event's slices are valid for their lengths.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_event_log(event: *const RawEvent) -> u64 {
    let _reading = rcu::read_lock();
    // Acquire: pairs with the store that attached it.
    let ops = SINK.load(Acquire);
    // SAFETY: By the invariant the table is not freed while RCU is read.
    let Some(ops) = (unsafe { ops.as_ref() }) else {
        return 0;
    };
    // SAFETY: By the safety requirements.
    let raw = unsafe { &*event };
    if raw.cause_stamp == 0 {
        if let Some((stamp, node)) = leading() {
            let mut caused = *raw;
            (caused.cause_stamp, caused.cause_node) = (stamp, node);
            // SAFETY: As below.
            return unsafe { (ops.log)(ops.context, &caused) };
        }
    }
    // SAFETY: The context lives until the sink is detached, which waits for RCU.
    unsafe { (ops.log)(ops.context, event) }
}
crate::virgo_export!(virgo_core_event_log);

/// The original's function: has a message written, "eventnet_edgemsg#1#2#"; 0, or `-ENODEV` without
/// virgo-eventnet, `-EMSGSIZE` for more than [`TEXT_MAX`] bytes, `-EINVAL` for what is no message,
/// `-ENOBUFS` where it was dropped. Unlike the original's it never sleeps: any context but NMIs.
///
/// # Safety
///
/// `message` is a C string.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_eventnet_log(message: *const c_char) -> i32 {
    // SAFETY: By the safety requirements.
    let text = unsafe { CStr::from_char_ptr(message) }
        .to_bytes()
        .trim_ascii();
    if SINK.load(Relaxed).is_null() {
        return ENODEV.to_errno();
    }
    if text.len() > TEXT_MAX {
        return emsgsize().to_errno();
    }
    if parse(text).is_err() {
        return EINVAL.to_errno();
    }
    // SAFETY: The text is readable during the call.
    match unsafe { virgo_core_event_log(&RawEvent::message(text)) } {
        0 => enobufs().to_errno(),
        _ => 0,
    }
}
crate::virgo_export!(virgo_eventnet_log);

/// Attaches a sink: 0, or `EEXIST`, `ENOEXEC`, `ENOMEM`. May sleep.
///
/// # Safety
///
/// If `abi` and `size` are ours, the table is valid, and its context lives until
/// [`virgo_core_event_detach`] has returned.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_event_attach(
    ops: *const SinkOps,
    abi: u32,
    size: u32,
) -> i32 {
    if abi != ABI || size as usize != size_of::<SinkOps>() {
        return ENOEXEC.to_errno();
    }
    // SAFETY: By the safety requirements.
    let ops = unsafe { *ops };
    let Ok(ops) = KBox::new(ops, GFP_KERNEL) else {
        return ENOMEM.to_errno();
    };
    let mask = ops.mask;
    let raw = KBox::into_raw(ops);
    // Release: the table is complete.
    if SINK.cmpxchg(ptr::null_mut(), raw, Release).is_err() {
        // SAFETY: From `into_raw` above; nobody else has it.
        drop(unsafe { KBox::from_raw(raw) });
        return EEXIST.to_errno();
    }
    virgo_core_event_mask.store(mask, Relaxed);
    0
}
crate::virgo_export!(virgo_core_event_attach);

/// Detaches the sink, and waits until nobody is inside. Sleeps.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_event_detach() {
    virgo_core_event_mask.store(0, Relaxed);
    let raw = SINK.xchg(ptr::null_mut(), Acquire);
    if raw.is_null() {
        return;
    }
    // SAFETY: The function has no preconditions but that it may sleep.
    unsafe { bindings::synchronize_rcu() };
    // SAFETY: A box by the invariant, taken out; no reader of RCU has it any more.
    drop(unsafe { KBox::from_raw(raw) });
}
crate::virgo_export!(virgo_core_event_detach);
