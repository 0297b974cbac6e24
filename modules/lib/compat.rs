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

/// EOPNOTSUPP, which `kernel::error::code` lacks.
pub fn eopnotsupp() -> Error {
    // CAST: 95, a constant.
    Error::from_errno(-(bindings::EOPNOTSUPP as i32))
}

/// ESTALE, likewise.
pub fn estale() -> Error {
    // CAST: 116, a constant.
    Error::from_errno(-(bindings::ESTALE as i32))
}

/// ENAMETOOLONG, likewise.
pub fn enametoolong() -> Error {
    // CAST: 36, a constant.
    Error::from_errno(-(bindings::ENAMETOOLONG as i32))
}

/// Orders the stores before it before the stores after it, for readers on other CPUs and in user
/// space.
///
/// `kernel::sync::barrier::smp_wmb()` has another name from Linux 7.3 on. A release fence is at
/// least as strong, and like it no instruction on x86.
pub fn write_barrier() {
    core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
}

/// ELOOP, likewise.
pub fn eloop() -> Error {
    // CAST: 40, a constant.
    Error::from_errno(-(bindings::ELOOP as i32))
}

/// EMSGSIZE, likewise.
pub fn emsgsize() -> Error {
    // CAST: 90, a constant.
    Error::from_errno(-(bindings::EMSGSIZE as i32))
}

/// EHOSTDOWN, likewise.
pub fn ehostdown() -> Error {
    // CAST: 112, a constant.
    Error::from_errno(-(bindings::EHOSTDOWN as i32))
}

/// ENOTCONN, likewise.
pub fn enotconn() -> Error {
    // CAST: 107, a constant.
    Error::from_errno(-(bindings::ENOTCONN as i32))
}

/// ENOKEY, likewise.
pub fn enokey() -> Error {
    // CAST: 126, a constant.
    Error::from_errno(-(bindings::ENOKEY as i32))
}

/// EKEYREJECTED, likewise.
pub fn ekeyrejected() -> Error {
    // CAST: 129, a constant.
    Error::from_errno(-(bindings::EKEYREJECTED as i32))
}

/// ENOBUFS, likewise.
pub fn enobufs() -> Error {
    // CAST: 105, a constant.
    Error::from_errno(-(bindings::ENOBUFS as i32))
}

/// EADDRINUSE, likewise.
pub fn eaddrinuse() -> Error {
    // CAST: 98, a constant.
    Error::from_errno(-(bindings::EADDRINUSE as i32))
}

/// HRTIMER_NORESTART: a number up to Linux 7.2, a type of its own from 7.3 on.
pub(super) const fn hrtimer_norestart() -> bindings::hrtimer_restart {
    // SAFETY: The type is an integer, or a struct of one; 0 is HRTIMER_NORESTART
    // (include/linux/hrtimer_types.h).
    unsafe { core::mem::zeroed() }
}
