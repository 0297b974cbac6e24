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

pub mod balance;
pub mod cputime;
pub mod event_ring;
pub mod hlc;
pub mod kv;
pub mod load;
pub mod primes;
pub mod rendezvous;
pub mod schedule;
pub mod seq_words;
pub mod siphash;
pub mod treap;
