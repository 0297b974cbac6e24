// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The nodes of the cluster: the files that name them, and the kernel's table.

use std::collections::BTreeSet;
use std::fmt;
use std::mem::size_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use virgo_proto::node::node_id;
use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::{sys, Control, Result};

/// The port of the nodes among themselves, where a file names none.
pub const DEFAULT_PORT: u16 = 40000;

/// A node's number: the same on all nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A node as a file names it: an address, and how much it takes compared to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    /// Address and port.
    pub addr: SocketAddr,
    /// From 1 to 1000.
    pub weight: u32,
}

/// Sixteen bytes: IPv4 as `::ffff:a.b.c.d`.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn scope(addr: &SocketAddr) -> u32 {
    match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(addr) => addr.scope_id(),
    }
}

fn socket_addr(ip: [u8; 16], port: u32, scope: u32) -> SocketAddr {
    let port = u16::try_from(port).unwrap_or(0);
    let ip = Ipv6Addr::from(ip);
    match ip.to_ipv4_mapped() {
        Some(ip) => SocketAddr::from((ip, port)),
        None => std::net::SocketAddrV6::new(ip, port, 0, scope).into(),
    }
}

impl NodeAddress {
    /// The node's number.
    pub fn id(&self) -> NodeId {
        NodeId(node_id(&octets(self.addr.ip()), self.addr.port()))
    }

    /// Whether the address is one of this machine.
    pub fn is_local(&self) -> bool {
        // Only an address of the machine's own can be bound.
        let mut addr = self.addr;
        addr.set_port(0);
        UdpSocket::bind(addr).is_ok()
    }

    fn to_uapi(self) -> uapi::NodeAddress {
        uapi::NodeAddress {
            ip: octets(self.addr.ip()),
            scope: scope(&self.addr),
            port: self.addr.port().into(),
            weight: self.weight,
            reserved: 0,
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.addr, self.weight)
    }
}

/// An entry of a file that is no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNodeError {
    entry: String,
    why: &'static str,
}

impl fmt::Display for ParseNodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no node: {}", self.entry, self.why)
    }
}

impl std::error::Error for ParseNodeError {}

impl FromStr for NodeAddress {
    type Err = ParseNodeError;

    /// `ADDRESS[:PORT][;WEIGHT]`; an IPv6 address with a port in brackets.
    fn from_str(entry: &str) -> std::result::Result<Self, ParseNodeError> {
        let wrong = |why| ParseNodeError {
            entry: entry.into(),
            why,
        };
        let (addr, weight) = match entry.split_once(';') {
            None => (entry, 1),
            Some((addr, weight)) => {
                let weight = weight.trim().parse().ok();
                let weight = weight.filter(|weight| (1..=uapi::NODE_WEIGHT_MAX).contains(weight));
                let weight =
                    weight.ok_or_else(|| wrong("the weight is not a number from 1 to 1000"))?;
                (addr.trim(), weight)
            }
        };
        let bare = addr
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(addr);
        let addr = match bare.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, DEFAULT_PORT),
            Err(_) => addr
                .parse::<SocketAddr>()
                .map_err(|_| wrong("it is not an IPv4 or IPv6 address with or without a port"))?,
        };
        // One node has one form.
        let addr = match addr {
            SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => addr,
            _ => SocketAddr::new(addr.ip().to_canonical(), addr.port()),
        };
        if addr.port() == 0 {
            return Err(wrong("there is no port 0"));
        }
        if addr.ip().is_unspecified() || addr.ip().is_multicast() {
            return Err(wrong("it is not the address of a machine"));
        }
        Ok(NodeAddress { addr, weight })
    }
}

/// The nodes that a file names, separated by commas or newlines, in its order; those named again
/// are left out. What follows a `#` on a line is a remark.
///
/// ```
/// let nodes = virgo::parse_nodes("10.0.0.1,10.0.0.2:40001;2,\n[fd00::1]:40000\n").unwrap();
/// assert_eq!(nodes.len(), 3);
/// assert_eq!((nodes[1].addr.port(), nodes[1].weight), (40001, 2));
/// ```
pub fn parse_nodes(text: &str) -> std::result::Result<Vec<NodeAddress>, ParseNodeError> {
    let mut seen = BTreeSet::new();
    let mut nodes = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("");
        for entry in line
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let node: NodeAddress = entry.parse()?;
            if seen.insert(node.addr) {
                nodes.push(node);
            }
        }
    }
    Ok(nodes)
}

/// A table of nodes, to be loaded.
#[derive(Clone, Debug)]
pub struct NodeTable<'key> {
    /// All nodes, this one among them; at most 64.
    pub nodes: Vec<NodeAddress>,
    /// Which of them is this one.
    pub me: usize,
    /// Where to listen for the others.
    pub bind: SocketAddr,
    /// The cluster's key, 16 to 1024 bytes. Without one there is no other node.
    pub key: Option<&'key [u8]>,
}

/// A node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// It answers.
    Up,
    /// Silent for more than a second.
    Suspect,
    /// Requests to it fail at once.
    Down,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NodeState::Up => "up",
            NodeState::Suspect => "suspect",
            NodeState::Down => "down",
        })
    }
}

/// A node as the kernel sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// It is this one.
    pub me: bool,
    /// Address and port.
    pub addr: SocketAddr,
    /// How much it takes compared to others.
    pub weight: u32,
    /// Up, suspect or down.
    pub state: NodeState,
    /// When it came into that state, by CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// How busy it said to be last: 1000 for each runnable task a processor, and more for pressure
    /// and for scarce memory. `None` while nothing is known.
    pub load: Option<NodeLoad>,
    /// How long the last heartbeat took.
    pub rtt: Duration,
    /// Requests made of it from here.
    pub calls: u64,
    /// Of those, without an answer.
    pub failed: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// Why it was last not up.
    pub error: Option<String>,
}

/// How busy a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeLoad {
    /// All of it as one number.
    pub load: u32,
    /// Tasks that run or want to.
    pub runnable: u32,
    /// Processors.
    pub cpus: u32,
    /// The share of the last ten seconds in which some task waited, in thousandths.
    pub pressure: Option<u32>,
    /// Memory that could be used without swapping.
    pub free_kib: u64,
    /// All memory.
    pub total_kib: u64,
}

impl From<&uapi::Node> for Node {
    fn from(node: &uapi::Node) -> Self {
        let error: Vec<u8> = node
            .error
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect();
        Node {
            id: NodeId(node.id),
            me: node.flags & uapi::NODE_SELF != 0,
            addr: socket_addr(node.ip, node.port, node.scope),
            weight: node.weight,
            state: match node.state {
                uapi::NODE_UP => NodeState::Up,
                uapi::NODE_SUSPECT => NodeState::Suspect,
                _ => NodeState::Down,
            },
            since_ns: node.since_ns,
            load: (node.cpus > 0).then_some(NodeLoad {
                load: node.load,
                runnable: node.runnable,
                cpus: node.cpus,
                pressure: (node.pressure != u32::MAX).then_some(node.pressure),
                free_kib: node.free_kib,
                total_kib: node.total_kib,
            }),
            rtt: Duration::from_nanos(node.rtt_ns),
            calls: node.calls,
            failed: node.failed,
            in_flight: node.in_flight,
            error: (!error.is_empty()).then(|| String::from_utf8_lossy(&error).into_owned()),
        }
    }
}

/// The nodes, and the port that they come to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Nodes {
    /// Ordered by number.
    pub nodes: Vec<Node>,
    /// Which table; 0 while none was loaded.
    pub generation: u64,
    /// Where the port is open.
    pub bind: Option<SocketAddr>,
    /// Connections of other nodes now.
    pub connections: u64,
    /// Connections from addresses that are not in the table.
    pub strangers: u64,
    /// Connections that were closed for what came on them.
    pub refused: u64,
}

/// How to choose a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePolicy {
    /// As the cluster is set to.
    Default,
    /// The node with the least load for its weight.
    LeastLoaded,
    /// Any node, as likely as its weight.
    Random,
    /// The less loaded of two drawn at random.
    TwoChoices,
    /// This one.
    Node(NodeId),
}

impl NodePolicy {
    /// `VIRGO_POLICY_` and the node.
    pub fn to_numbers(self) -> (u32, u32) {
        match self {
            NodePolicy::Default => (uapi::POLICY_DEFAULT, 0),
            NodePolicy::LeastLoaded => (uapi::POLICY_LEAST_LOADED, 0),
            NodePolicy::Random => (uapi::POLICY_RANDOM, 0),
            NodePolicy::TwoChoices => (uapi::POLICY_TWO_CHOICES, 0),
            NodePolicy::Node(node) => (uapi::POLICY_NODE, node.0),
        }
    }

    /// What goes before a request that virgo-queue passes on: nothing, or a word with `@` and a space.
    pub fn words(self) -> String {
        match self {
            NodePolicy::Default => String::new(),
            NodePolicy::LeastLoaded => "@least-loaded ".into(),
            NodePolicy::Random => "@random ".into(),
            NodePolicy::TwoChoices => "@p2c ".into(),
            NodePolicy::Node(node) => format!("@{node} "),
        }
    }
}

impl Control {
    /// Puts a table of nodes in place of the one before; returns its generation.
    pub fn load_nodes(&self, table: &NodeTable<'_>) -> Result<u64> {
        let nodes: Vec<_> = table.nodes.iter().map(|node| node.to_uapi()).collect();
        let mut argument = uapi::NodesLoad {
            size: size_of::<uapi::NodesLoad>() as u32,
            self_index: u32::try_from(table.me).unwrap_or(u32::MAX),
            bind_ip: octets(table.bind.ip()),
            bind_port: table.bind.port().into(),
            bind_scope: scope(&table.bind),
            ..Default::default()
        };
        sys::nodes_load(self, &mut argument, &nodes, table.key.unwrap_or(&[]))
            .map_err(|errno| Error::new(Action::LoadNodes(table.bind), errno))?;
        Ok(argument.generation)
    }

    /// Forgets the table: this node alone.
    pub fn clear_nodes(&self) -> Result<u64> {
        let mut argument = uapi::NodesLoad {
            size: size_of::<uapi::NodesLoad>() as u32,
            ..Default::default()
        };
        sys::nodes_load(self, &mut argument, &[], &[])
            .map_err(|errno| Error::new(Action::ClearNodes, errno))?;
        Ok(argument.generation)
    }

    /// The nodes.
    pub fn nodes(&self) -> Result<Nodes> {
        let mut entries = vec![uapi::Node::default(); uapi::NODES_MAX as usize];
        let list = sys::nodes_list(self, &mut entries)
            .map_err(|errno| Error::new(Action::ListNodes, errno))?;
        let count = entries.len().min(list.count as usize);
        Ok(Nodes {
            nodes: entries[..count].iter().map(Node::from).collect(),
            generation: list.generation,
            bind: (list.bind_port != 0).then(|| socket_addr(list.bind_ip, list.bind_port, 0)),
            connections: list.connections,
            strangers: list.strangers,
            refused: list.refused,
        })
    }

    /// Asks a node for a sign of life; how long it took. `name` is for the error's words.
    pub fn ping_node(&self, node: NodeId, name: &str, timeout: Duration) -> Result<Duration> {
        let mut argument = uapi::NodePing {
            size: size_of::<uapi::NodePing>() as u32,
            node: node.0,
            timeout_ms: u32::try_from(timeout.as_millis())
                .unwrap_or(u32::MAX)
                .max(1),
            ..Default::default()
        };
        sys::call::<{ uapi::IOC_NODE_PING }, _>(self, &mut argument)
            .map_err(|errno| Error::new(Action::PingNode(name.into()), errno))?;
        Ok(Duration::from_nanos(argument.rtt_ns))
    }

    /// Chooses a node as a request would.
    pub fn pick_node(&self, policy: NodePolicy) -> Result<NodeId> {
        let (policy, node) = policy.to_numbers();
        let mut argument = uapi::NodePick {
            size: size_of::<uapi::NodePick>() as u32,
            policy,
            node,
            ..Default::default()
        };
        sys::node_pick(self, &mut argument, &[])
            .map_err(|errno| Error::new(Action::PickNode, errno))?;
        Ok(NodeId(argument.node))
    }

    /// The node that a key of at most 4096 bytes belongs to, up or not.
    pub fn owner_node(&self, key: &[u8]) -> Result<NodeId> {
        let mut argument = uapi::NodePick {
            size: size_of::<uapi::NodePick>() as u32,
            flags: uapi::PICK_OWNER,
            ..Default::default()
        };
        sys::node_pick(self, &mut argument, key)
            .map_err(|errno| Error::new(Action::PickNode, errno))?;
        Ok(NodeId(argument.node))
    }

    /// How nodes are chosen, and the seed (0: none). `None` for a policy that this library does not
    /// know.
    pub fn node_policy(&self) -> Result<(Option<NodePolicy>, u64)> {
        self.change_policy(0, 0, 0)
    }

    /// Sets how nodes are chosen.
    pub fn set_node_policy(&self, policy: NodePolicy) -> Result<()> {
        self.change_policy(uapi::NODES_SET_POLICY, policy.to_numbers().0, 0)
            .map(drop)
    }

    /// Has choices at random begin anew from a seed; 0: from the kernel's random numbers.
    pub fn set_node_seed(&self, seed: u64) -> Result<()> {
        self.change_policy(uapi::NODES_SET_SEED, 0, seed).map(drop)
    }

    fn change_policy(
        &self,
        flags: u32,
        policy: u32,
        seed: u64,
    ) -> Result<(Option<NodePolicy>, u64)> {
        let mut argument = uapi::NodesPolicy {
            size: size_of::<uapi::NodesPolicy>() as u32,
            flags,
            policy,
            seed,
            ..Default::default()
        };
        sys::call::<{ uapi::IOC_NODES_POLICY }, _>(self, &mut argument)
            .map_err(|errno| Error::new(Action::NodePolicy, errno))?;
        let policy = match argument.policy {
            uapi::POLICY_LEAST_LOADED => Some(NodePolicy::LeastLoaded),
            uapi::POLICY_RANDOM => Some(NodePolicy::Random),
            uapi::POLICY_TWO_CHOICES => Some(NodePolicy::TwoChoices),
            _ => None,
        };
        Ok((policy, argument.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(nodes: &[NodeAddress]) -> Vec<String> {
        nodes.iter().map(NodeAddress::to_string).collect()
    }

    #[test]
    fn the_originals_files() {
        let nodes = parse_nodes("127.0.0.1,192.168.1.5\n").unwrap();
        assert_eq!(texts(&nodes), ["127.0.0.1:40000;1", "192.168.1.5:40000;1"]);
        let nodes =
            parse_nodes("10.0.0.1,\n10.0.0.2:50000 , 10.0.0.3;4\r\n\n, # a remark, 1.2\n").unwrap();
        assert_eq!(
            texts(&nodes),
            ["10.0.0.1:40000;1", "10.0.0.2:50000;1", "10.0.0.3:40000;4"]
        );
        assert_eq!(parse_nodes("").unwrap(), []);
    }

    #[test]
    fn both_families() {
        let nodes = parse_nodes("::1,[fd00::2],[fd00::3]:7;3,::ffff:10.0.0.1,10.0.0.1").unwrap();
        assert_eq!(
            texts(&nodes),
            [
                "[::1]:40000;1",
                "[fd00::2]:40000;1",
                "[fd00::3]:7;3",
                "10.0.0.1:40000;1"
            ]
        );
    }

    #[test]
    fn what_is_no_node_is_named() {
        for (text, word) in [
            ("10.0.0", "address"),
            ("10.0.0.1:", "address"),
            ("10.0.0.1:70000", "address"),
            ("10.0.0.1:0", "port"),
            ("10.0.0.1;0", "weight"),
            ("10.0.0.1;1001", "weight"),
            ("10.0.0.1;x", "weight"),
            ("0.0.0.0", "machine"),
            ("224.0.0.1", "machine"),
            ("node1", "address"),
        ] {
            let error = parse_nodes(&format!("10.9.9.9,{text}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn numbers_do_not_depend_on_the_form() {
        let one: NodeAddress = "10.0.0.1".parse().unwrap();
        let other: NodeAddress = "[::ffff:10.0.0.1]:40000;5".parse().unwrap();
        assert_eq!(one.id(), other.id());
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            if let Ok(nodes) = parse_nodes(&text) {
                let again = nodes.iter().map(NodeAddress::to_string).collect::<Vec<_>>().join(",");
                prop_assert_eq!(parse_nodes(&again).unwrap(), nodes);
            }
        }

        #[test]
        fn any_node(ip: [u8; 16], v4: bool, port in 1_u16.., weight in 1_u32..=1000) {
            let ip: IpAddr = if v4 {
                <[u8; 4]>::try_from(&ip[..4]).unwrap().into()
            } else {
                ip.into()
            };
            prop_assume!(!ip.to_canonical().is_unspecified() && !ip.to_canonical().is_multicast());
            let node = NodeAddress { addr: SocketAddr::new(ip.to_canonical(), port), weight };
            prop_assert_eq!(node.to_string().parse::<NodeAddress>().unwrap(), node);
        }
    }
}
