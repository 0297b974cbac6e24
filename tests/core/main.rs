// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-core in a guest: the control device, loading and unloading, the scripts.

mod control;
mod modules;
mod scripts;
