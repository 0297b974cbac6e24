// SPDX-License-Identifier: GPL-2.0-only

//! Errors that `kernel::error::code` has no name for, and how clients are told of errors.

use kernel::prelude::*;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:literal),+ $(,)?) => { $(
        $(#[$doc])*
        pub(crate) fn $name() -> Error {
            Error::from_errno(-$number)
        }
    )+ };
}

errnos! {
    /// More bytes are under way than allowed.
    enobufs = 105,
    /// A message is longer than was agreed.
    emsgsize = 90,
    /// It is not what the protocol says.
    eproto = 71,
    /// What is asked for is not done here.
    eopnotsupp = 95,
    /// A handle of something that has been closed.
    estale = 116,
    /// Another node, which is not reached from here.
    ehostunreach = 113,
    /// A path is too long.
    enametoolong = 36,
    /// No more locks.
    enolck = 37,
}

/// The number that a client is told: one that user space knows.
pub(crate) fn told(error: Error) -> u32 {
    match error.to_errno().unsigned_abs() {
        // ERESTARTSYS and its kin.
        512..=514 | 516 => 4,
        number @ 1..=133 => number,
        _ => 5,
    }
}

/// The name that a line of text is told an error with.
pub(crate) fn name(error: Error) -> &'static str {
    match told(error) {
        1 => "EPERM",
        2 => "ENOENT",
        4 => "EINTR",
        9 => "EBADF",
        11 => "EAGAIN",
        6 => "ENXIO",
        12 => "ENOMEM",
        13 => "EACCES",
        16 => "EBUSY",
        17 => "EEXIST",
        18 => "EXDEV",
        20 => "ENOTDIR",
        21 => "EISDIR",
        22 => "EINVAL",
        23 => "ENFILE",
        24 => "EMFILE",
        26 => "ETXTBSY",
        27 => "EFBIG",
        28 => "ENOSPC",
        30 => "EROFS",
        31 => "EMLINK",
        36 => "ENAMETOOLONG",
        39 => "ENOTEMPTY",
        40 => "ELOOP",
        75 => "EOVERFLOW",
        90 => "EMSGSIZE",
        95 => "EOPNOTSUPP",
        105 => "ENOBUFS",
        116 => "ESTALE",
        122 => "EDQUOT",
        _ => "EIO",
    }
}
