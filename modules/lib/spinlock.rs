// SPDX-License-Identifier: GPL-2.0-only

//! A spinlock for what process context shares with softirqs, such as the listener's.
//!
//! `kernel::sync::SpinLock` leaves softirqs on: one that comes while the lock is held on its CPU,
//! and wants it, would wait for ever.

use kernel::{
    bindings,
    sync::lock::{
        Backend,
        Guard,
        Lock, //
    }, //
};

/// `spin_lock_bh()`: softirqs are off on this CPU while it is held.
pub struct BhBackend;

/// A lock that process context and softirqs may share; not for hard interrupts. Nothing may sleep
/// while it is held.
pub type BhSpinLock<T> = Lock<T, BhBackend>;

/// What a [`BhSpinLock`] guards, for as long as it is locked.
pub type BhGuard<'a, T> = Guard<'a, T, BhBackend>;

// SAFETY: A `spinlock_t` gives mutual exclusion; `relock` locks in the same way.
unsafe impl Backend for BhBackend {
    type State = bindings::spinlock_t;
    type GuardState = ();

    unsafe fn init(
        ptr: *mut Self::State,
        name: *const kernel::ffi::c_char,
        key: *mut bindings::lock_class_key,
    ) {
        // SAFETY: By the trait's safety requirements.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) {
        // SAFETY: Initialised by the safety requirements; the raw lock is the first thing in a
        // `spinlock_t` (include/linux/spinlock_types.h).
        unsafe { bindings::_raw_spin_lock_bh(ptr.cast()) }
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, _state: &()) {
        // SAFETY: As in `lock`; the caller holds it.
        unsafe { bindings::_raw_spin_unlock_bh(ptr.cast()) }
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<()> {
        // SAFETY: As in `lock`.
        (unsafe { bindings::_raw_spin_trylock_bh(ptr.cast()) } != 0).then_some(())
    }

    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: Initialised by the safety requirements.
        unsafe { bindings::spin_assert_is_held(ptr) }
    }
}

/// A new [`BhSpinLock`] with a lock class of its own.
#[macro_export]
macro_rules! new_bh_spinlock {
    ($inner:expr, $name:literal) => {
        $crate::lib::spinlock::BhSpinLock::new($inner, $name, ::kernel::static_lock_class!())
    };
}
