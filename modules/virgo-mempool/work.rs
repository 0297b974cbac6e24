// SPDX-License-Identifier: GPL-2.0-only

//! The clockwork: what runs out is forgotten by and by, delayed flushes are done, and shared
//! tables are told the time.

use kernel::sync::{
    atomic::{
        Atomic,
        Relaxed, //
    },
    Arc, //
};

use crate::{
    lib::{
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        },
    },
    store::Store,
};

const SECOND: u64 = 1_000_000_000;
/// Rounds are this far apart where nobody needs the time to the second.
const LAZY: u64 = 10;
/// Segments of a shard that a round looks at.
const BUDGET: u32 = 8;

/// What the rounds do.
pub(crate) struct Clockwork {
    store: Arc<Store>,
    from: Atomic<u32>,
}

impl Clockwork {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Clockwork {
            store,
            from: Atomic::new(0),
        }
    }
}

impl DeadlineHandler for Clockwork {
    fn run(&self, work: &DeadlineWork<Self>) {
        let store = &self.store;
        store.flush_if_due();
        store.shares().tick(store.now());
        // Relaxed: rounds follow one another.
        let mut from = self.from.load(Relaxed);
        store.sweep(&mut from, BUDGET);
        self.from.store(from, Relaxed);
        let busy = store.shares().any() || store.flush_waits();
        work.arm(next(if busy { 1 } else { LAZY }));
    }
}

/// A moment `seconds` from now, right behind a second's beginning, where the store's clock ticks.
pub(crate) fn next(seconds: u64) -> u64 {
    let now = monotonic_ns() / SECOND;
    now.saturating_add(seconds).saturating_mul(SECOND)
}
