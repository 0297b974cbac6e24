// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Keys spread by weight, and stay where they are when the table changes.

use proptest::prelude::*;
use virgo_logic::rendezvous::{key_hash, owner};

fn owner_of(key: u32, nodes: &[(u32, u32)]) -> u32 {
    owner(
        key_hash(format!("key {key}").as_bytes()),
        nodes.iter().copied(),
    )
    .expect("nodes")
}

/// These numbers are the protocol's: nodes of all versions must agree.
#[test]
fn the_hash_is_what_it_was() {
    assert_eq!(key_hash(b""), 0xf52a_15e9_a9b5_e89b);
    let nodes = [(0x1111_1111, 1), (0x2222_2222, 1), (0x3333_3333, 2)];
    let owners: Vec<u32> = (0..8).map(|key| owner_of(key, &nodes) >> 28).collect();
    assert_eq!(owners, [1, 3, 3, 3, 2, 3, 1, 3]);
}

#[test]
fn nobody_owns_where_nobody_is() {
    assert_eq!(owner(1, core::iter::empty()), None);
}

/// Chi-square against the shares that the weights give; 99.9th percentile for 3 degrees of freedom.
#[test]
fn keys_spread_by_weight() {
    let nodes = [(7, 1), (8, 2), (9, 3), (0xffff_ffff, 4)];
    let mut counts = [0_u32; 4];
    for key in 0..40_000 {
        let owner = owner_of(key, &nodes);
        let place = nodes.iter().position(|(id, _)| *id == owner);
        counts[place.expect("an owner of the table")] += 1;
    }
    let statistic: f64 = counts
        .iter()
        .zip([4_000.0, 8_000.0, 12_000.0, 16_000.0])
        .map(|(count, expected): (&u32, f64)| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    assert!(statistic < 16.27, "chi-square {statistic}: {counts:?}");
}

proptest! {
    #[test]
    fn the_order_does_not_matter(hash: u64, mut nodes: Vec<(u32, u32)>) {
        for node in &mut nodes {
            node.1 %= 20;
        }
        let forth = owner(hash, nodes.iter().copied());
        let back = owner(hash, nodes.iter().rev().copied());
        prop_assert_eq!(forth, back);
        prop_assert_eq!(forth.is_none(), nodes.is_empty());
    }

    /// A node that goes takes none but its own keys with it.
    #[test]
    fn others_keys_stay(hash: u64, nodes in proptest::collection::btree_map(any::<u32>(), 1_u32..5, 2..20), gone: prop::sample::Index) {
        let nodes: Vec<(u32, u32)> = nodes.into_iter().collect();
        let gone = nodes[gone.index(nodes.len())].0;
        let before = owner(hash, nodes.iter().copied());
        let after = owner(hash, nodes.iter().copied().filter(|node| node.0 != gone));
        if before != Some(gone) {
            prop_assert_eq!(before, after);
        }
    }
}
