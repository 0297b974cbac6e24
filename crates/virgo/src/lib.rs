// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Client library of the VIRGO kernel modules.
//!
//! The contract:
//!
//! - **Thin.** One call for each ioctl of `include/uapi/linux/virgo.h`, and one reader each for the
//!   profiler's mapped buffer and the memory pool's mapped namespaces ([`mempool`]). No state is
//!   kept that the kernel keeps.
//! - **Thread-safe.** Every method takes `&self`, but for those of a [`Ring`], which is one
//!   reader's position. Open as many as needed: they never disturb each other or the kernel.
//! - **Quiet.** It never prints and never exits.
//! - **Owned.** Descriptors are `OwnedFd`, closed on drop. A registration made with
//!   [`Task::bind`] ends with its [`Profiler`].
//! - **Errors keep their errno**, and say what failed, why, and what to do next. Calls that a
//!   signal interrupted before they did anything are made again; [`Ring::wait`] and
//!   [`Control::wait`] instead return early, so that a caller can look at its own flags.
//!
//! ```no_run
//! use std::time::Duration;
//! use virgo::{Profiler, Record, Ring, Task};
//!
//! # fn main() -> Result<(), virgo::Error> {
//! let profiler = Profiler::open()?;
//! profiler.register(&Task::process(1234).bind())?;
//! let mut ring = Ring::open()?;
//! while ring.wait(Duration::from_secs(1))? {
//!     while let Some(record) = ring.next_record() {
//!         match record {
//!             Record::Sample(sample) => println!("{} {}", sample.pid, sample.min_flt),
//!             Record::Lost(count) => eprintln!("{count} records were overwritten"),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(not(all(
    target_os = "linux",
    target_has_atomic = "64",
    target_pointer_width = "64"
)))]
compile_error!("the kernel's buffers are read by 64-bit atomic loads: a 64-bit Linux is needed");

pub mod analytics;
pub mod cloud;
mod control;
mod cpupool;
mod delta;
mod error;
pub mod eventnet;
pub mod files;
pub mod local;
mod mapped;
pub mod mempool;
mod nodes;
mod profiler;
pub mod programs;
pub mod queue;
mod ring;
mod room;
mod sample;
pub mod snapshot;
mod sys;
pub mod trace;

pub use control::{Control, Modules, Version};
pub use cpupool::{Call, Called, Function};
pub use delta::{Delta, Tracker};
pub use error::{errno_name, explain, Action, Error};
pub use nodes::{
    parse_nodes, Node, NodeAddress, NodeId, NodeLoad, NodePolicy, NodeState, NodeTable, Nodes,
    ParseNodeError, DEFAULT_PORT,
};
pub use profiler::{Entry, Info, Profiler, Task};
pub use ring::{Header, LayoutError, Reader, Record, Ring};
pub use sample::{Comm, Sample};

pub use virgo_proto::uapi;

/// What the calls of this library return.
pub type Result<T> = std::result::Result<T, Error>;
