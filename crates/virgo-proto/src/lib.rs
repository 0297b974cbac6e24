// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Structures, numbers and parsers that VIRGO's kernel modules and programs share.
//!
//! The sources are in `imp/`, which knows nothing of this crate: the kernel modules take in the
//! very same files with `#[path]`. Nothing here allocates, panics, or holds `unsafe`.

#![no_std]
#![forbid(unsafe_code)]

mod imp;
pub use imp::*;
