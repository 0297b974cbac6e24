// SPDX-License-Identifier: GPL-2.0-only

//! A lock-free stack of messages: pushed from any context, taken whole.

use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};

struct Node<T> {
    next: Option<NonNull<Node<T>>>,
    value: T,
}

/// Messages from any thread to one.
///
/// # Invariants
///
/// `head` starts a chain of nodes made by `KBox::into_raw`, each owned by it.
pub(super) struct Inbox<T> {
    head: Atomic<*mut Node<T>>,
    _owns: core::marker::PhantomData<KBox<Node<T>>>,
}

// SAFETY: The values only change hands, from the pusher's to the taker's thread.
unsafe impl<T: Send> Send for Inbox<T> {}
// SAFETY: As above; all sharing is through the atomic head.
unsafe impl<T: Send> Sync for Inbox<T> {}

impl<T> Inbox<T> {
    pub(super) const fn new() -> Self {
        // INVARIANT: An empty chain.
        Self {
            head: Atomic::new(core::ptr::null_mut()),
            _owns: core::marker::PhantomData,
        }
    }

    /// True where nothing waits; a message that comes meanwhile is missed.
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Relaxed).is_null()
    }

    /// Adds a message. Any context; `flags` as the context asks.
    pub(super) fn push(&self, value: T, flags: kernel::alloc::Flags) -> Result {
        let node = KBox::into_raw(KBox::new(Node { next: None, value }, flags)?);
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: The node is ours until the exchange succeeds.
            unsafe { (*node).next = NonNull::new(head) };
            // Full: publishes the node. Nodes are only ever taken all at once, so
            // a head that comes back is the same head.
            match self.head.cmpxchg(head, node, Full) {
                Ok(_) => return Ok(()),
                Err(now) => head = now,
            }
        }
    }

    /// Takes all messages, oldest first.
    pub(super) fn take(&self, mut each: impl FnMut(T)) {
        let mut rest = NonNull::new(self.head.xchg(core::ptr::null_mut(), Full));
        let mut first = None;
        while let Some(mut node) = rest {
            // SAFETY: The chain is ours since the exchange, by the invariant.
            let n = unsafe { node.as_mut() };
            rest = core::mem::replace(&mut n.next, first);
            first = Some(node);
        }
        while let Some(node) = first {
            // SAFETY: As above; each node is turned back once.
            let node = KBox::into_inner(unsafe { KBox::from_raw(node.as_ptr()) });
            first = node.next;
            each(node.value);
        }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.take(drop);
    }
}
