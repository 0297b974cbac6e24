// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The treap beside the standard library's ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use virgo_logic::treap::{Links, Nodes, Treap, NIL};

#[derive(Default)]
struct Table(Vec<(u64, Links)>);

impl Nodes for Table {
    type Key = u64;

    fn key(&self, node: u32) -> u64 {
        self.0.get(node as usize).map_or(0, |n| n.0)
    }
    fn links(&self, node: u32) -> Links {
        self.0.get(node as usize).map_or(Links::NONE, |n| n.1)
    }
    fn set_links(&mut self, node: u32, links: Links) {
        if let Some(n) = self.0.get_mut(node as usize) {
            n.1 = links;
        }
    }
}

fn contents(set: &Treap, table: &Table) -> Vec<u64> {
    let mut all = Vec::new();
    let mut at = set.first(table);
    while let Some(node) = at {
        all.push(table.key(node));
        at = set.after(table, table.key(node));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_an_ordered_map_holds(
        seed: u32,
        steps in prop::collection::vec((any::<bool>(), 0_u64..200), 0..400),
    ) {
        let mut table = Table::default();
        let mut set = Treap::new(seed);
        let mut map = BTreeMap::new();
        for (add, key) in steps {
            if add && !map.contains_key(&key) {
                let node = table.0.len() as u32;
                table.0.push((key, Links::NONE));
                set.insert(&mut table, node);
                map.insert(key, node);
            } else if let Some(node) = map.remove(&key) {
                prop_assert!(set.remove(&mut table, node));
                prop_assert!(!set.remove(&mut table, node));
                prop_assert_eq!(table.links(node), Links::NONE);
            }
            prop_assert_eq!(set.first(&table), map.values().next().copied());
            prop_assert_eq!(set.find(&table, key), map.get(&key).copied());
            prop_assert_eq!(set.is_empty(), map.is_empty());
        }
        prop_assert_eq!(contents(&set, &table), map.keys().copied().collect::<Vec<_>>());
    }
}

#[test]
fn it_stays_shallow_whatever_the_order() {
    for order in 0..3 {
        let mut table = Table::default();
        let mut set = Treap::new(7);
        for n in 0..100_000_u64 {
            let key = match order {
                0 => n,
                1 => 100_000 - n,
                _ => n ^ 0x5555,
            };
            let node = table.0.len() as u32;
            table.0.push((key, Links::NONE));
            set.insert(&mut table, node);
        }
        // From the top to the least: of 100,000 nodes some 12, not thousands.
        struct Counting<'a>(&'a Table, std::cell::Cell<u32>);
        impl Nodes for Counting<'_> {
            type Key = u64;
            fn key(&self, node: u32) -> u64 {
                self.0.key(node)
            }
            fn links(&self, node: u32) -> Links {
                self.1.set(self.1.get() + 1);
                self.0.links(node)
            }
            fn set_links(&mut self, _: u32, _: Links) {}
        }
        let counting = Counting(&table, std::cell::Cell::new(0));
        for key in [0, 1, 50_000, 99_999] {
            counting.1.set(0);
            let _ = set.find(&counting, key);
            assert!(counting.1.get() < 100, "{} steps", counting.1.get());
        }
    }
}

#[test]
fn nothing_is_in_an_empty_set() {
    let mut table = Table::default();
    let mut set = Treap::new(0);
    assert_eq!(set.first(&table), None);
    assert_eq!(set.after(&table, 0), None);
    assert!(!set.remove(&mut table, 3));
    assert!(!set.remove(&mut table, NIL));
}
