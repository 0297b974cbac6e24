// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The shared sources. Inside this folder paths begin with `self::` or `super::`, never with
//! `crate::`, since the crate's root differs between the host and each kernel module.

// The host exports all of it, a module uses a part and exports nothing.
#![allow(unreachable_pub, dead_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod access;
pub mod analytics;
pub mod beanstalk;
pub mod call;
pub mod command;
pub mod crc;
pub mod errand;
pub mod eventlog;
pub mod eventnet;
pub mod files;
pub mod frame;
pub mod kingcobra;
pub mod lines;
pub mod mem;
pub mod memcached;
pub mod node;
pub mod p9;
pub mod pool;
pub mod program;
pub mod qlog;
pub mod shared;
pub mod trace;
pub mod uapi;
