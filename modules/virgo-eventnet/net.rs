// SPDX-License-Identifier: GPL-2.0-only

//! What the doors, the modules' events and the collector share: the rings, the messages that
//! wait, the numbers.

use core::mem::take;

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVar,
        Arc,
        Mutex, //
    }, //
};

use crate::{
    door::Answering,
    journal::Journal,
    lib::{
        cluster,
        event::{
            self,
            Event,
            TEXT_MAX, //
        },
        file::OwnedFile,
        procfs::ProcFile, //
    },
    logic::event_ring::{
        pack,
        Pushed,
        Record as Words,
        Ring,
        Slot,
        WORDS, //
    },
    proto::uapi::Module,
};

/// Rings: one for each module.
pub(crate) const RINGS: usize = Module::ALL.len();

/// Words of a record in front of its text: stamp, cause's stamp, cause's node and the lengths.
pub(crate) const HEAD_WORDS: usize = 3;

static_assert!(HEAD_WORDS + TEXT_MAX / 8 == WORDS);

/// The most bytes of messages that wait to be written.
pub(crate) const PENDING_MAX: usize = 4 << 20;

/// One module's events on their way.
pub(crate) struct ModuleRing {
    pub(crate) ring: Ring,
    pub(crate) slots: KVVec<Slot>,
}

/// A message that waits to be written.
pub(crate) struct Waiting {
    pub(crate) stamp: u64,
    pub(crate) text: KVVec<u8>,
    pub(crate) answer: Answering,
}

/// The messages that wait.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) list: KVVec<Waiting>,
    bytes: usize,
    /// Nothing more is taken in: the module is going.
    closed: bool,
}

impl Pending {
    /// Takes them all.
    pub(crate) fn take(&mut self) -> KVVec<Waiting> {
        self.bytes = 0;
        take(&mut self.list)
    }
}

/// A number that starts at nothing; a statistic, so relaxed.
pub(crate) struct Count(Atomic<u64>);

impl Default for Count {
    fn default() -> Self {
        Count(Atomic::new(0))
    }
}

impl Count {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
    pub(crate) fn add(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }
}

/// The numbers.
#[derive(Default)]
pub(crate) struct Counts {
    /// Events of modules in the journal.
    pub(crate) events: Count,
    /// Messages about events in the journal.
    pub(crate) vertices: Count,
    /// Messages about causes in the journal.
    pub(crate) edges: Count,
    /// Events of modules that nobody will know: no room in the ring, or not written.
    pub(crate) lost: Count,
    /// Losses told in the journal.
    pub(crate) losses: Count,
    /// Messages that were refused.
    pub(crate) refused: Count,
    /// Records of other nodes in the journal.
    pub(crate) received: Count,
    /// Own records that the collecting node has.
    pub(crate) forwarded: Count,
    /// Bytes of the journal that it has not been sent.
    pub(crate) behind: Count,
    /// Bytes of the journal that the text files have.
    pub(crate) rendered: Count,
    /// Why the last write failed; 0: it did not.
    pub(crate) error: Count,
    /// Why the last writing of the text files failed, likewise.
    pub(crate) render_error: Count,
}

/// What all parts share.
#[pin_data]
pub(crate) struct Net {
    pub(crate) rings: KVVec<ModuleRing>,
    #[pin]
    pub(crate) pending: Mutex<Pending>,
    /// Woken when the journal has grown.
    #[pin]
    pub(crate) grown: PollCondVar,
    /// Bytes of the journal that are written.
    pub(crate) committed: Count,
    /// 1: the collector has been told that there is something in the rings.
    pub(crate) armed: Atomic<u32>,
    /// This node's number, as the collector last asked for it.
    pub(crate) node: Atomic<u32>,
    /// The node that collects; 0: none.
    pub(crate) collector: Atomic<u32>,
    /// Whose events are asked for.
    pub(crate) mask: Atomic<u32>,
    pub(crate) flush_ns: Atomic<u64>,
    pub(crate) counts: Counts,
    pub(crate) file: Arc<OwnedFile>,
    pub(crate) ring_size: usize,
}

impl Net {
    /// With rings of `ring` events each, a power of two. `ENOMEM`.
    pub(crate) fn new(
        ring: usize,
        flush_ms: u32,
        mask: u32,
        journal: &Journal,
    ) -> impl PinInit<Self, Error> {
        let file = journal.file();
        let end = journal.end();
        pin_init::pin_init_scope(move || {
            let mut rings = KVVec::with_capacity(RINGS, GFP_KERNEL)?;
            for _ in 0..RINGS {
                let mut slots = KVVec::with_capacity(ring, GFP_KERNEL)?;
                for index in 0..ring {
                    // CAST: usize fits u64.
                    slots.push(Slot::new(index as u64), GFP_KERNEL)?;
                }
                let ring = Ring::new();
                rings.push(ModuleRing { ring, slots }, GFP_KERNEL)?;
            }
            let committed = Count::default();
            committed.set(end);
            Ok(try_pin_init!(Net {
                rings,
                pending <- kernel::new_mutex!(Pending::default(), "virgo_eventnet_pending"),
                grown <- kernel::new_poll_condvar!("virgo_eventnet_grown"),
                committed,
                armed: Atomic::new(0),
                node: Atomic::new(cluster::me().number()),
                collector: Atomic::new(0),
                mask: Atomic::new(mask),
                flush_ns: Atomic::new(u64::from(flush_ms).saturating_mul(1_000_000)),
                counts: Counts::default(),
                file,
                ring_size: ring,
            }? Error))
        })
    }

    /// Puts a module's event into its ring: its stamp and where it is, `None` where there is no
    /// room or no such module. Any context but NMIs.
    pub(crate) fn put(&self, event: &Event<'_>) -> Option<(u64, u64)> {
        // CAST: u32 fits usize on 64-bit.
        let ring = self.rings.get(event.module() as usize)?;
        let stamp = event::stamp();
        let cause = event.cause();
        let kind = event.kind();
        let kind = kind.get(..TEXT_MAX).unwrap_or(kind);
        let room = TEXT_MAX.saturating_sub(kind.len());
        let subject = event.subject();
        let subject = subject.get(..room).unwrap_or(subject);
        let mut words: Words = [0; WORDS];
        // CAST: both are at most `TEXT_MAX`.
        let lengths = (kind.len() as u64) << 32 | (subject.len() as u64) << 40;
        let [first, second, third, rest @ ..] = &mut words;
        *first = stamp;
        *second = cause.stamp;
        *third = u64::from(cause.node) | lengths;
        let used = pack(rest, 0, kind);
        let used = pack(rest, used, subject);
        let full = HEAD_WORDS.saturating_add(used.div_ceil(8));
        match ring.ring.push(&ring.slots, &words, full) {
            Pushed::At(position) => Some((stamp, position)),
            Pushed::Dropped => None,
        }
    }

    /// Has a message wait to be written. `ENOBUFS` past the bound, `ENODEV` once the
    /// module is going, `ENOMEM`; the answer comes back then. May sleep.
    pub(crate) fn enqueue(
        &self,
        message: &[u8],
        answer: Answering,
    ) -> Result<u64, (Error, Answering)> {
        let mut text = KVVec::new();
        if text.extend_from_slice(message, GFP_KERNEL).is_err() {
            return Err((ENOMEM, answer));
        }
        let mut pending = self.pending.lock();
        if pending.closed {
            return Err((ENODEV, answer));
        }
        let bytes = pending.bytes.saturating_add(text.len());
        if bytes > PENDING_MAX {
            return Err((crate::lib::compat::enobufs(), answer));
        }
        if pending.list.reserve(1, GFP_KERNEL).is_err() {
            return Err((ENOMEM, answer));
        }
        let stamp = event::stamp();
        let waiting = Waiting {
            stamp,
            text,
            answer,
        };
        // The room was made above, so this does not fail.
        let _ = pending.list.push_within_capacity(waiting);
        pending.bytes = bytes;
        Ok(stamp)
    }

    /// Takes no more messages.
    pub(crate) fn close(&self) {
        self.pending.lock().closed = true;
    }
}

/// /proc/virgo/eventnet: what was taken in and what was lost, a name and a number a line.
pub(crate) struct Status(Arc<Net>);

impl Status {
    /// Of these.
    pub(crate) fn new(net: Arc<Net>) -> Self {
        Status(net)
    }
}

impl ProcFile for Status {
    const WRITABLE: bool = false;

    fn show(&self, out: &SeqFile) -> Result {
        let counts = &self.0.counts;
        seq_print!(out, "events {}\n", counts.events.get());
        seq_print!(out, "vertices {}\n", counts.vertices.get());
        seq_print!(out, "edges {}\n", counts.edges.get());
        seq_print!(out, "lost {}\n", counts.lost.get());
        seq_print!(out, "losses {}\n", counts.losses.get());
        seq_print!(out, "refused {}\n", counts.refused.get());
        seq_print!(out, "received {}\n", counts.received.get());
        seq_print!(out, "forwarded {}\n", counts.forwarded.get());
        seq_print!(out, "behind {}\n", counts.behind.get());
        seq_print!(out, "journal_bytes {}\n", self.0.committed.get());
        seq_print!(out, "rendered_bytes {}\n", counts.rendered.get());
        seq_print!(out, "journal_errno {}\n", counts.error.get());
        seq_print!(out, "render_errno {}\n", counts.render_error.get());
        Ok(())
    }
}
