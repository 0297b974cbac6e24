// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Page-fault traces: recording them, reading them back, replaying the memory maps in them, and
//! simulating page replacement on them.
//!
//! The format is described in doc/trace.md.

mod file;
mod history;
mod layout;
mod replace;

pub use file::{Target, TraceFile, TraceState};
pub use history::{End, Event, Events, Exec, Fault, History, ReadError, Usage};
pub use layout::{Area, Layout, Region};
pub use replace::{misses, Policy};

pub use virgo_proto::trace::{
    AREA_EXEC, AREA_READ, AREA_SHARED, AREA_WRITE, FAULT_EXEC, FAULT_FIRST, FAULT_INDIRECT,
    FAULT_MAJOR, FAULT_OTHER, FAULT_RETRIED, FAULT_SWAPPED, FAULT_USER, FAULT_WRITE,
};
