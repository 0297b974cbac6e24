// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The original VIRGO's calls, under its own names: `virgo_clone`, `virgo_cloud_malloc`, `_set`, `_get`, `_free`,
//! and the names that its system calls had.
//!
//! They do what the original was meant to do, and nothing that it did by mistake: a handle is no
//! address, a text that does not fit is refused, and what was freed stays freed. Each call opens
//! `/dev/virgo-mempool` and closes it again, as each of the original's opened a connection; a
//! program that makes many of them uses [`Mempool`].
//!
//! ```no_run
//! use virgo::cloud::*;
//!
//! # fn main() -> Result<(), virgo::Error> {
//! let vuid = virgo_cloud_malloc(100)?;
//! virgo_cloud_set(vuid, "DataSet_process1")?;
//! assert_eq!(virgo_cloud_get(vuid)?, b"DataSet_process1");
//! virgo_cloud_free(vuid)?;
//! # Ok(())
//! # }
//! ```

use std::ffi::{c_int, c_void};

use rustix::io::Errno;

use crate::mempool::{Mempool, Place, Policy, Vuid};
use crate::Result;
use crate::{Call, Control, NodePolicy};

/// Makes a block of `size` bytes on the node that the balancer chooses, where no cluster is
/// configured on this one. The original chose one by chance: [`Policy::Random`], with
/// [`Mempool::malloc`].
pub fn virgo_cloud_malloc(size: u64) -> Result<Vuid> {
    let pool = Mempool::open()?;
    match pool.malloc(size, Place::Chosen(Policy::Default)) {
        Err(error) if error.errno() == Some(Errno::NOTCONN.raw_os_error()) => {
            pool.malloc(size, Place::Here)
        }
        result => result,
    }
}

/// Writes a text to the front of a block, and a NUL byte behind it if there is room. A text that is
/// longer than the block is `ERANGE`, and nothing is written.
pub fn virgo_cloud_set(vuid: Vuid, data: &str) -> Result<Vuid> {
    let pool = Mempool::open()?;
    let (_, length) = pool.get(vuid, 0, &mut [])?;
    let mut text = data.as_bytes().to_vec();
    if (text.len() as u64) < length {
        text.push(0);
    }
    pool.set(vuid, 0, &text)?;
    Ok(vuid)
}

/// Reads a text: a block's bytes up to the first NUL byte, or to its end.
pub fn virgo_cloud_get(vuid: Vuid) -> Result<Vec<u8>> {
    let mut text = Mempool::open()?.read(vuid)?;
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    Ok(text)
}

/// Gives a block back.
pub fn virgo_cloud_free(vuid: Vuid) -> Result<()> {
    Mempool::open()?.free(vuid)
}

/// The original's system call 549 (360 on i386): [`virgo_cloud_malloc`].
pub fn virgo_malloc(size: u64, vuid: &mut Vuid) -> Result<()> {
    *vuid = virgo_cloud_malloc(size)?;
    Ok(())
}

/// The original's system call 550 (361 on i386): [`virgo_cloud_set`].
pub fn virgo_set(vuid: Vuid, data_in: &str) -> Result<()> {
    virgo_cloud_set(vuid, data_in).map(drop)
}

/// The original's system call 551 (362 on i386): [`virgo_cloud_get`] into `data_out`; how many
/// bytes it was. What does not fit is left out.
pub fn virgo_get(vuid: Vuid, data_out: &mut [u8]) -> Result<usize> {
    let text = virgo_cloud_get(vuid)?;
    let length = text.len().min(data_out.len());
    data_out[..length].copy_from_slice(&text[..length]);
    Ok(length)
}

/// The original's system call 552 (363 on i386): [`virgo_cloud_free`].
pub fn virgo_free(vuid: Vuid) -> Result<()> {
    virgo_cloud_free(vuid)
}

/// The original's system call 548 (359 on i386): calls a kernel function by name, on a node that is
/// chosen by chance, as the original's was; how many bytes it answered. The original never looked at
/// the other arguments either.
pub fn virgo_clone(
    func: &str,
    _child_stack: *mut c_void,
    _flags: c_int,
    _arg: *mut c_void,
) -> Result<usize> {
    let call = Call {
        policy: NodePolicy::Random,
        // The original's programs end the name with a space.
        ..Call::new(func.trim(), &[])
    };
    Ok(Control::open()?.call(&call)?.output.len())
}
