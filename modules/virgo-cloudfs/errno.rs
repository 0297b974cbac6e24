// SPDX-License-Identifier: GPL-2.0-only

//! How clients are told of errors.

use kernel::prelude::*;

pub(crate) use crate::lib::compat::{
    ehostunreach,
    emsgsize,
    enametoolong,
    enobufs,
    enolck,
    eopnotsupp,
    eproto,
    estale, //
};

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
