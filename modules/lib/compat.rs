// SPDX-License-Identifier: GPL-2.0-only

//! Differences between the kernel releases that the suite supports.

use core::borrow::Borrow;

use kernel::{
    bindings,
    prelude::*, //
};

/// A module parameter's value: `ModuleParamAccess::value()` gives a reference up to Linux 7.2 and
/// a copy from 7.3 on.
pub fn param<T: Copy>(value: impl Borrow<T>) -> T {
    *value.borrow()
}

/// Errors that `kernel::error::code` lacks.
macro_rules! errnos {
    ($($name:ident = $number:ident),+ $(,)?) => { $(
        #[doc = concat!(stringify!($number), ", which `kernel::error::code` lacks.")]
        pub fn $name() -> Error {
            // CAST: a small constant.
            Error::from_errno(-(bindings::$number as i32))
        }
    )+ };
}

errnos! {
    eaddrinuse = EADDRINUSE,
    ehostdown = EHOSTDOWN,
    ehostunreach = EHOSTUNREACH,
    ekeyrejected = EKEYREJECTED,
    eloop = ELOOP,
    emsgsize = EMSGSIZE,
    enametoolong = ENAMETOOLONG,
    enobufs = ENOBUFS,
    enokey = ENOKEY,
    enolck = ENOLCK,
    enotconn = ENOTCONN,
    eopnotsupp = EOPNOTSUPP,
    eproto = EPROTO,
    eremote = EREMOTE,
    estale = ESTALE,
}

/// Orders the stores before it before the stores after it, for readers on other CPUs and in user
/// space.
///
/// `kernel::sync::barrier::smp_wmb()` has another name from Linux 7.3 on. A release fence is at
/// least as strong, and like it no instruction on x86.
pub fn write_barrier() {
    core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
}

/// HRTIMER_NORESTART: a number up to Linux 7.2, a type of its own from 7.3 on.
pub(super) const fn hrtimer_norestart() -> bindings::hrtimer_restart {
    // SAFETY: The type is an integer, or a struct of one; 0 is HRTIMER_NORESTART
    // (include/linux/hrtimer_types.h).
    unsafe { core::mem::zeroed() }
}
