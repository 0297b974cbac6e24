// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Which node a key belongs to: rendezvous hashing (D. Thaler, C. Ravishankar, "Using Name-Based
//! Mappings to Increase Hit Rates", IEEE/ACM Trans. Networking 6(1), 1998).
//!
//! Every node computes the same owner from the same table, in any order. When a node is added or
//! taken away, only its own keys change owner.

/// Mixes all bits into all bits: the finalizer of splitmix64 (public domain, S. Vigna).
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A key's hash: FNV-1a of 64 bits, mixed. Every node must compute the same.
pub fn key_hash(key: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

/// A node's score for a key: the greatest of as many draws as its weight says, so that the chance
/// to have the greatest of all is proportional to the weight.
fn score(hash: u64, node: u32, weight: u32) -> u64 {
    let base = hash ^ mix(u64::from(node).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..weight.max(1)).fold(0, |best, draw| {
        best.max(mix(base.wrapping_add(
            u64::from(draw).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )))
    })
}

/// The owner among `nodes`, each a number and a weight (0 counts as 1); `None` without nodes.
pub fn owner(hash: u64, nodes: impl Iterator<Item = (u32, u32)>) -> Option<u32> {
    // By the number where two scores are equal, so that the order of the nodes does not matter.
    nodes
        .map(|(node, weight)| (score(hash, node, weight), node))
        .max()
        .map(|(_, node)| node)
}

/// The next of a series of numbers that begins from a seed: splitmix64. For choices that are to be
/// the same again, not for secrets.
pub fn next_number(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    // CAST: the high half.
    (mix(*state) >> 32) as u32
}
