// SPDX-License-Identifier: GPL-2.0-only

//! The cluster: which nodes there are, how they do, and requests among them.

use kernel::{
    prelude::*, //
};

use crate::{
    lib::{
        cluster::{
            NodeId,
            Policy,
            RawNode,
            State,
            MAX_PAYLOAD, //
        },
        compat::{
            emsgsize,
            enotconn,
            param, //
        },
        service::Module,
    },
    module_parameters,
    proto::node::{
        mapped,
        node_id, //
    },
    registry,
};

/// The port of the nodes among themselves, as the module was told.
fn port() -> u16 {
    // Checked when the module is loaded.
    u16::try_from(param::<u32>(module_parameters::cluster_port.value())).unwrap_or(40000)
}

/// Checks the module's parameters; tells what is wrong with them.
pub(crate) fn check_parameters() -> Result {
    let port = param::<u32>(module_parameters::cluster_port.value());
    if port == 0 || port > 65535 {
        pr_err!(
            "parameter cluster_port is {}: it must be 1 to 65535\n",
            port
        );
        return Err(EINVAL);
    }
    Ok(())
}

/// This node's number: without a table that of 127.0.0.1.
pub(crate) fn me() -> NodeId {
    NodeId::from_number(node_id(&mapped([127, 0, 0, 1]), port()))
}

/// Tells all nodes, ordered by number.
pub(crate) fn each_node(mut tell: impl FnMut(RawNode)) {
    tell(RawNode {
        id: me().number(),
        // CAST: `repr(u32)`.
        state: State::Up as u32,
        weight: 1,
        load: 0,
        me: 1,
        reserved: 0,
    });
}

/// Chooses a node.
pub(crate) fn pick(policy: Policy) -> Result<NodeId> {
    match policy {
        Policy::Node(node) if node != me() => Err(ENOENT),
        _ => Ok(me()),
    }
}

/// The node that a key belongs to.
pub(crate) fn owner(_key: &[u8]) -> NodeId {
    me()
}

/// Makes a request of a node.
pub(crate) fn call(
    node: NodeId,
    module: Module,
    operation: u32,
    input: &[u8],
    reply_limit: usize,
    _timeout_ms: u32,
) -> Result<KVVec<u8>> {
    if input.len() > MAX_PAYLOAD {
        return Err(emsgsize());
    }
    let limit = reply_limit.min(MAX_PAYLOAD);
    if node == me() {
        return registry::serve(module, node, operation, input, limit);
    }
    Err(enotconn())
}
