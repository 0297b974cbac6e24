// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-profiler in a guest: registration, figures, rate, buffer, loading and unloading.

mod buffer;
mod counters;
mod crowd;
mod lifetime;
mod rate;
mod registration;
