// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Ordered sets whose nodes lie in somebody else's table, linked by index.
//!
//! A treap: a search tree by the nodes' keys and a heap by numbers that are as good as random,
//! here a mix of the node's index and a seed, so that they need no room. Adding and taking out
//! take time that grows with the logarithm of the number of nodes, whatever the order they come
//! in. Nothing is allocated and nothing recurses; eight bytes a node and set are all it takes.
//!
//! Keys in one set must differ: who has equal ones puts a number behind them.

/// No node.
pub const NIL: u32 = u32::MAX;

/// A node's place in one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    left: u32,
    right: u32,
}

impl Links {
    /// Of a node that is in no set.
    pub const NONE: Links = Links {
        left: NIL,
        right: NIL,
    };
}

impl Default for Links {
    fn default() -> Self {
        Links::NONE
    }
}

/// The table of nodes, seen by one set.
///
/// For an index that it does not have, `key` is anything and `links` is [`Links::NONE`].
pub trait Nodes {
    /// What the set is ordered by.
    type Key: Ord + Copy;

    /// A node's key. It does not change while the node is in the set.
    fn key(&self, node: u32) -> Self::Key;
    /// A node's links, kept for the set.
    fn links(&self, node: u32) -> Links;
    /// Keeps a node's links.
    fn set_links(&mut self, node: u32, links: Links);
}

/// One set: its root, and the seed of its shape.
#[derive(Clone, Copy, Debug)]
pub struct Treap {
    root: u32,
    seed: u32,
}

/// Where a link is kept.
#[derive(Clone, Copy)]
enum Place {
    Root,
    Left(u32),
    Right(u32),
}

impl Treap {
    /// The empty set. The seed should not be known to who chooses the indexes.
    pub const fn new(seed: u32) -> Self {
        Treap { root: NIL, seed }
    }

    /// Whether it has no nodes.
    pub const fn is_empty(&self) -> bool {
        self.root == NIL
    }

    /// The number that makes a node stand above others.
    const fn weight(&self, node: u32) -> u32 {
        // Mixes all bits (the finaliser of MurmurHash3).
        let mut x = node ^ self.seed;
        x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        x ^ (x >> 16)
    }

    fn put<N: Nodes>(&mut self, nodes: &mut N, place: Place, node: u32) {
        match place {
            Place::Root => self.root = node,
            Place::Left(at) => {
                let mut links = nodes.links(at);
                links.left = node;
                nodes.set_links(at, links);
            }
            Place::Right(at) => {
                let mut links = nodes.links(at);
                links.right = node;
                nodes.set_links(at, links);
            }
        }
    }

    /// Adds a node, which is not in the set.
    pub fn insert<N: Nodes>(&mut self, nodes: &mut N, node: u32) {
        let key = nodes.key(node);
        let weight = self.weight(node);
        let mut place = Place::Root;
        let mut at = self.root;
        while at != NIL && self.weight(at) >= weight {
            let links = nodes.links(at);
            if key < nodes.key(at) {
                place = Place::Left(at);
                at = links.left;
            } else {
                place = Place::Right(at);
                at = links.right;
            }
        }
        self.put(nodes, place, node);
        // What stood there is divided between the node's two sides.
        let mut less = Place::Left(node);
        let mut more = Place::Right(node);
        while at != NIL {
            let links = nodes.links(at);
            if nodes.key(at) < key {
                self.put(nodes, less, at);
                less = Place::Right(at);
                at = links.right;
            } else {
                self.put(nodes, more, at);
                more = Place::Left(at);
                at = links.left;
            }
        }
        self.put(nodes, less, NIL);
        self.put(nodes, more, NIL);
    }

    /// Takes a node out; false if it is not in the set.
    pub fn remove<N: Nodes>(&mut self, nodes: &mut N, node: u32) -> bool {
        let key = nodes.key(node);
        let mut place = Place::Root;
        let mut at = self.root;
        while at != node {
            if at == NIL {
                return false;
            }
            let links = nodes.links(at);
            if key < nodes.key(at) {
                place = Place::Left(at);
                at = links.left;
            } else {
                place = Place::Right(at);
                at = links.right;
            }
        }
        if at == NIL {
            return false;
        }
        let Links {
            mut left,
            mut right,
        } = nodes.links(node);
        // Its two sides become one, the heavier on top.
        while left != NIL && right != NIL {
            if self.weight(left) >= self.weight(right) {
                self.put(nodes, place, left);
                place = Place::Right(left);
                left = nodes.links(left).right;
            } else {
                self.put(nodes, place, right);
                place = Place::Left(right);
                right = nodes.links(right).left;
            }
        }
        self.put(nodes, place, if left != NIL { left } else { right });
        nodes.set_links(node, Links::NONE);
        true
    }

    /// The node with the least key.
    pub fn first<N: Nodes>(&self, nodes: &N) -> Option<u32> {
        let mut best = None;
        let mut at = self.root;
        while at != NIL {
            best = Some(at);
            at = nodes.links(at).left;
        }
        best
    }

    /// The node with the least key that is greater than `key`.
    pub fn after<N: Nodes>(&self, nodes: &N, key: N::Key) -> Option<u32> {
        let mut best = None;
        let mut at = self.root;
        while at != NIL {
            let links = nodes.links(at);
            if nodes.key(at) > key {
                best = Some(at);
                at = links.left;
            } else {
                at = links.right;
            }
        }
        best
    }

    /// The node with this key.
    pub fn find<N: Nodes>(&self, nodes: &N, key: N::Key) -> Option<u32> {
        let mut at = self.root;
        while at != NIL {
            let here = nodes.key(at);
            if here == key {
                return Some(at);
            }
            let links = nodes.links(at);
            at = if key < here { links.left } else { links.right };
        }
        None
    }
}
