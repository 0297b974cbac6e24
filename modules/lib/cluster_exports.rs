// SPDX-License-Identifier: GPL-2.0-only

//! The functions of the cluster that virgo-core exports.
//!
//! Beside [`super::cluster`], which every module has, this file is compiled into virgo-core alone.
//! What they do is in modules/virgo-core/cluster.

use core::{
    ptr,
    slice, //
};

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    }, //
};

use crate::{
    cluster::Cluster,
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

/// The cluster that the exported functions work on; null before there is one and after.
///
/// # Invariants
///
/// Null, or the cluster that an [`Opened`] holds.
static CLUSTER: Atomic<*mut Cluster> = Atomic::new(ptr::null_mut());

/// The cluster, opened to other modules. Drop closes it to them: each that could call pins this
/// module, so there are none by then.
pub(crate) struct Opened(Arc<Cluster>);

impl Opened {
    /// Opens it. Once, in the module's init.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        // INVARIANT: Held by the value that is returned. Release: what it holds is complete.
        CLUSTER.store(Arc::as_ptr(&cluster).cast_mut(), Release);
        Opened(cluster)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        CLUSTER.store(ptr::null_mut(), Release);
        self.0.close();
    }
}

/// Does something with the cluster. `ENODEV` without one, which no other module meets.
fn with<T>(action: impl FnOnce(&Cluster) -> T) -> Result<T> {
    // Acquire: pairs with the store that opened it.
    let cluster = CLUSTER.load(Acquire);
    // SAFETY: By the invariant it is null or held, and is not given up while a module that can
    // call this is loaded.
    unsafe { cluster.as_ref() }.map(action).ok_or(ENODEV)
}

fn status(result: Result) -> i32 {
    result.map_or_else(Error::to_errno, |()| 0)
}

/// This node's number. May sleep.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_cluster_me() -> u32 {
    with(|cluster| cluster.me().number()).unwrap_or(0)
}
crate::virgo_export!(virgo_core_cluster_me);

/// Whether there is no node but this one. Does not sleep.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_cluster_alone() -> i32 {
    with(|cluster| i32::from(cluster.alone())).unwrap_or(1)
}
crate::virgo_export!(virgo_core_cluster_alone);

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
    let told = with(|cluster| {
        cluster.each_node(|node| {
            if count < capacity {
                // SAFETY: By the safety requirements, and below the capacity.
                unsafe { ptr::write(out.wrapping_add(count), node) };
                count = count.saturating_add(1);
            }
        });
    });
    if let Err(error) = told {
        // CAST: an errno fits.
        return error.to_errno() as isize;
    }
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
            .and_then(|policy| with(|cluster| cluster.pick(policy))?)
            // SAFETY: By the safety requirements.
            .map(|node| unsafe { chosen.write(node.number()) }),
    )
}
crate::virgo_export!(virgo_core_cluster_pick);

/// This node begins (1) or has ended (0) work that it was chosen for. Does not sleep.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_cluster_here(begins: i32) {
    // Without a cluster nobody chooses.
    let _ = with(|cluster| match begins {
        0 => cluster.source().end(),
        _ => cluster.source().begin(),
    });
}
crate::virgo_export!(virgo_core_cluster_here);

/// The node that a key belongs to. May sleep.
///
/// # Safety
///
/// `key` is readable for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_cluster_owner(key: *const u8, length: usize) -> u32 {
    // SAFETY: By the safety requirements.
    let key = unsafe { slice::from_raw_parts(key, length) };
    with(|cluster| cluster.owner(key).number()).unwrap_or(0)
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
                with(|cluster| {
                    cluster.call(node, module, operation, input, reply_limit, timeout_ms)
                })?
            })
            // SAFETY: By the safety requirements.
            .map(|answer| unsafe { output.write(RawBuffer::from_vec(answer)) }),
    )
}
crate::virgo_export!(virgo_core_cluster_call);
