// SPDX-License-Identifier: GPL-2.0-only

//! The nodes of the cluster, and calling them.
//!
//! virgo-core keeps the table of nodes, one authenticated connection to each, and what it knows of
//! their state and load; these are the safe calls of what it exports. With no cluster configured
//! there is one node, this one, and everything works on it.
//!
//! A request goes to a module's [`super::service::Service::remote`] on the node that it names, bytes
//! in, bytes out:
//!
//! ```ignore
//! let node = cluster::pick(Policy::Default)?;
//! let answer = cluster::call(node, Module::Cpupool, OP_CALL, input, 4096, 5000)?;
//! ```
//!
//! What crosses between the nodes is specified in doc/protocol.md, what the states mean in
//! doc/cluster.md.

use core::fmt;

use kernel::{
    error::to_result,
    prelude::*, //
};

use super::{
    ffi,
    service::{
        Module,
        RawBuffer, //
    },
};

/// The most nodes a cluster has, this one among them.
pub const MAX_NODES: usize = 64;

/// The most bytes of a request, and of an answer.
pub const MAX_PAYLOAD: usize = 2 << 20;

/// The most requests of other nodes that one module serves at once; more wait.
pub const WORKERS: u16 = 32;

/// The most requests under way to one node; past it [`call`] is `EBUSY`.
pub const MAX_IN_FLIGHT: usize = 256;

/// A node's number: the same on all nodes of a cluster, derived from the node's configured address
/// and port (`virgo_proto::node::node_id`). Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// From a number, as another node or a program sent it. That there is such a node is not said.
    pub const fn from_number(number: u32) -> NodeId {
        NodeId(number)
    }

    /// The number, to be sent or stored.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// How to choose a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// As the cluster is set to.
    Default,
    /// The node with the least load for its weight.
    LeastLoaded,
    /// Any, as likely as its weight.
    Random,
    /// The less loaded of two drawn at random.
    TwoChoices,
    /// This one.
    Node(NodeId),
}

impl Policy {
    /// `VIRGO_POLICY_` and the node, as the uAPI has them.
    pub const fn to_numbers(self) -> (u32, u32) {
        match self {
            Policy::Default => (0, 0),
            Policy::LeastLoaded => (1, 0),
            Policy::Random => (2, 0),
            Policy::TwoChoices => (3, 0),
            Policy::Node(node) => (4, node.0),
        }
    }

    /// From the uAPI's numbers; `None` for a policy that is not known.
    pub const fn from_numbers(policy: u32, node: u32) -> Option<Policy> {
        Some(match policy {
            0 => Policy::Default,
            1 => Policy::LeastLoaded,
            2 => Policy::Random,
            3 => Policy::TwoChoices,
            4 => Policy::Node(NodeId(node)),
            _ => return None,
        })
    }
}

/// What is known of a node's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It answers.
    Up = 1,
    /// It has not answered for a second, or its connection broke just now; requests still go there.
    Suspect = 2,
    /// Requests to it fail at once.
    #[default]
    Down = 3,
}

impl State {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Suspect => "suspect",
            State::Down => "down",
        }
    }
}

/// A node of the table, as it crosses the boundary of modules.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct RawNode {
    pub(crate) id: u32,
    pub(crate) state: u32,
    pub(crate) weight: u32,
    pub(crate) load: u32,
    pub(crate) me: u32,
    pub(crate) reserved: u32,
}

/// A node of the table.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// This very node.
    pub me: bool,
    /// Up, suspect or down.
    pub state: State,
    /// How much it takes compared to others, from 1.
    pub weight: u32,
    /// How busy it said to be last: about 1000 for each runnable task a CPU.
    pub load: u32,
}

/// This node. Does not sleep long (a mutex).
pub fn me() -> NodeId {
    // SAFETY: The function has no preconditions.
    NodeId(unsafe { ffi::virgo_core_cluster_me() })
}

/// Whether there is no node but this one, so that it owns every key. One atomic load; any context.
pub fn alone() -> bool {
    // SAFETY: The function has no preconditions.
    unsafe { ffi::virgo_core_cluster_alone() != 0 }
}

/// All nodes, this one among them, ordered by number; the same order on all nodes. `ENOMEM`. May
/// sleep.
pub fn nodes() -> Result<KVec<Node>> {
    let mut raw: KVec<RawNode> = KVec::from_elem(RawNode::default(), MAX_NODES, GFP_KERNEL)?;
    // SAFETY: The array has room for that many, each of that size.
    let count =
        unsafe { ffi::virgo_core_cluster_nodes(raw.as_mut_ptr(), raw.len(), size_of::<RawNode>()) };
    let count = usize::try_from(count).map_err(|_| EINVAL)?;
    let mut nodes = KVec::with_capacity(count, GFP_KERNEL)?;
    for node in raw.iter().take(count) {
        let node = Node {
            id: NodeId(node.id),
            me: node.me != 0,
            state: match node.state {
                1 => State::Up,
                2 => State::Suspect,
                _ => State::Down,
            },
            weight: node.weight,
            load: node.load,
        };
        nodes.push(node, GFP_KERNEL)?;
    }
    Ok(nodes)
}

/// Chooses a node among those that are up, this one included.
///
/// `EHOSTDOWN`: the node that was named is down, or none is up. `ENOENT`: no such node. May sleep.
pub fn pick(policy: Policy) -> Result<NodeId> {
    let (policy, node) = policy.to_numbers();
    let mut chosen = 0;
    // SAFETY: The number can be written.
    to_result(unsafe { ffi::virgo_core_cluster_pick(policy, node, &mut chosen) })?;
    Ok(NodeId(chosen))
}

/// Work for which this node was picked and that does not go through [`call`], until it is dropped: it
/// counts when a node is picked next, as requests to other nodes do.
pub struct Here(());

/// Begins such work. Does not sleep.
pub fn here() -> Here {
    // SAFETY: The function has no preconditions.
    unsafe { ffi::virgo_core_cluster_here(1) };
    Here(())
}

impl Drop for Here {
    fn drop(&mut self) {
        // SAFETY: The function has no preconditions; `here` has begun it.
        unsafe { ffi::virgo_core_cluster_here(0) };
    }
}

/// The node that a key belongs to, up or not: the same on every node with the same table
/// (rendezvous hashing, weights honoured). May sleep (a mutex).
pub fn owner(key: &[u8]) -> NodeId {
    // SAFETY: The slice is valid for its length.
    NodeId(unsafe { ffi::virgo_core_cluster_owner(key.as_ptr(), key.len()) })
}

/// Sends a request to a module of a node and waits for the answer, of at most `reply_limit` bytes
/// (and [`MAX_PAYLOAD`]).
///
/// [`me`] is served in the caller's own thread, without a socket, and without the timeout. Sleeps;
/// no lock that the handler takes may be held. A signal ends the wait.
///
/// # Errors
///
/// - `EHOSTDOWN`: the node is down, or went down during the call. Whether the request was carried
///   out is not known then.
/// - `ETIMEDOUT`: no answer within `timeout_ms`; likewise.
/// - `EMSGSIZE`: the request is longer than [`MAX_PAYLOAD`], or the answer than `reply_limit`.
/// - `ENOTCONN`: no cluster is configured, and the node is not this one.
/// - `ENOENT`: no such node in the table.
/// - `EBUSY`: [`MAX_IN_FLIGHT`] requests to the node are under way, or its own limit is reached.
/// - `ENOBUFS`: more bytes wait to be sent to it than allowed.
/// - `ENODEV`: the module is not loaded there.
/// - `EINTR`: a signal came; whether the request was carried out is not known.
/// - `ENOMEM`, or the handler's own.
pub fn call(
    node: NodeId,
    module: Module,
    operation: u32,
    input: &[u8],
    reply_limit: usize,
    timeout_ms: u32,
) -> Result<KVVec<u8>> {
    let mut output = RawBuffer::empty();
    // SAFETY: The slice is valid for its length, and the answer can be written.
    let status = unsafe {
        ffi::virgo_core_cluster_call(
            node.0,
            // CAST: `repr(u32)`.
            module as u32,
            operation,
            input.as_ptr(),
            input.len(),
            reply_limit,
            timeout_ms,
            &mut output,
        )
    };
    // SAFETY: It is empty, or what virgo-core put there for us.
    let output = unsafe { output.into_vec() };
    to_result(status)?;
    Ok(output)
}
