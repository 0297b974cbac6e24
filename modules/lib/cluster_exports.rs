// SPDX-License-Identifier: GPL-2.0-only

//! The functions of the cluster that virgo-core exports.
//!
//! Beside [`super::cluster`], which every module has, this file is compiled into virgo-core alone.
//! What they do is in modules/virgo-core/cluster.

use core::{
    ptr,
    slice, //
};

use kernel::prelude::*;

use crate::{
    cluster,
    lib::{
        cluster::{
            NodeId,
            Policy,
            RawNode, //
        },
        service::{
            Module,
            RawBuffer, //
        },
    },
};

fn status(result: Result) -> i32 {
    result.map_or_else(Error::to_errno, |()| 0)
}

/// This node's number. May sleep.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_cluster_me() -> u32 {
    cluster::me().number()
}
crate::virgo_export!(virgo_core_cluster_me);

/// Fills in the nodes, at most `capacity`; how many there are, or `-EINVAL` where `size` is not an
/// entry's. May sleep.
///
/// # Safety
///
/// `out` is writable for `capacity` entries of `size` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_cluster_nodes(
    out: *mut RawNode,
    capacity: usize,
    size: usize,
) -> isize {
    if size != size_of::<RawNode>() {
        // CAST: an errno fits.
        return EINVAL.to_errno() as isize;
    }
    let mut count = 0;
    cluster::each_node(|node| {
        if count < capacity {
            // SAFETY: By the safety requirements, and below the capacity.
            unsafe { ptr::write(out.wrapping_add(count), node) };
            count = count.saturating_add(1);
        }
    });
    isize::try_from(count).unwrap_or(isize::MAX)
}
crate::virgo_export!(virgo_core_cluster_nodes);

/// Chooses a node; 0 or an errno. May sleep.
///
/// # Safety
///
/// `chosen` is writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_cluster_pick(
    policy: u32,
    node: u32,
    chosen: *mut u32,
) -> i32 {
    status(
        Policy::from_numbers(policy, node)
            .ok_or(EINVAL)
            .and_then(cluster::pick)
            // SAFETY: By the safety requirements.
            .map(|node| unsafe { chosen.write(node.number()) }),
    )
}
crate::virgo_export!(virgo_core_cluster_pick);

/// The node that a key belongs to. May sleep.
///
/// # Safety
///
/// `key` is readable for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_cluster_owner(key: *const u8, length: usize) -> u32 {
    // SAFETY: By the safety requirements.
    cluster::owner(unsafe { slice::from_raw_parts(key, length) }).number()
}
crate::virgo_export!(virgo_core_cluster_owner);

/// Makes a request of a node; 0 or an errno. Sleeps.
///
/// # Safety
///
/// `input` is readable for `input_len` bytes, `output` writable; what is in `output` is forgotten.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_cluster_call(
    node: u32,
    module: u32,
    operation: u32,
    input: *const u8,
    input_len: usize,
    reply_limit: usize,
    timeout_ms: u32,
    output: *mut RawBuffer,
) -> i32 {
    // SAFETY: By the safety requirements.
    let input = unsafe { slice::from_raw_parts(input, input_len) };
    status(
        Module::from_number(module)
            .ok_or(EINVAL)
            .and_then(|module| {
                let node = NodeId::from_number(node);
                cluster::call(node, module, operation, input, reply_limit, timeout_ms)
            })
            // SAFETY: By the safety requirements.
            .map(|answer| unsafe { output.write(RawBuffer::from_vec(answer)) }),
    )
}
crate::virgo_export!(virgo_core_cluster_call);
