// SPDX-License-Identifier: GPL-2.0-only

//! Safe wrappers for what the `kernel` crate lacks: the only place with `unsafe` and `bindings::`.
//!
//! Every module takes in this folder as source with `#[path = "../lib/mod.rs"] mod lib;`, so no
//! Rust type crosses a module's boundary; what a module does not use is not compiled into it.
//! Differences between kernel releases are in [`compat`] and in `modules/shim` only.

#![allow(dead_code, unreachable_pub, reason = "each module uses a part")]

pub mod analytics;
mod bandwidth;
pub mod chardev;
pub mod cluster;
pub mod compat;
mod copy;
pub mod crc;
pub mod event;
pub mod export;
pub mod ffi;
pub mod file;
pub mod functions;
pub mod kthread;
pub mod listener;
pub mod message;
pub mod module;
pub mod pages;
pub mod param;
pub mod procfs;
pub mod program;
pub mod random;
pub mod rcu;
pub mod service;
pub mod setting;
pub mod shrinker;
pub mod spinlock;
pub mod task;
pub mod time;
pub mod trace;
pub mod uapi;
pub mod vfs;
pub mod word;
pub mod workqueue;
pub mod zeroed;
