// SPDX-License-Identifier: GPL-2.0-only

//! Takes what is in the rings and what waits, writes it, answers, and makes the text files: one
//! work item, so one after the other.

use core::mem::take;

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Full,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

use crate::{
    door::Answering,
    forward::{
        pair,
        split,
        Forward,
        HEAD, //
    },
    journal::{
        find_peer,
        set_peer,
        Journal, //
    },
    lib::{
        cluster::{
            self,
            NodeId, //
        },
        crc::crc32c_after,
        event::{
            self,
            Event,
            Sink, //
        },
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        }, //
    },
    logic::event_ring::Record as Words,
    net::{
        Net,
        HEAD_WORDS,
        RINGS, //
    },
    proto::{
        eventlog::{
            Content,
            Id,
            Reader, //
        },
        eventnet::{
            parse,
            Message, //
        },
        uapi::Module, //
    },
    render::Render,
};

/// The most events that are taken from the rings at a time.
const BATCH: usize = 4096;
/// Whose records messages become. CAST: a small constant.
const OWN: u8 = Module::Eventnet as u8;
/// How long after a failure it is tried again.
const RETRY_NS: u64 = 1_000_000_000;
/// How long unloading goes on with the text files.
const FINISH_NS: u64 = 5_000_000_000;
/// The text files are not made again before so many times what the last time took have passed.
const RENDER_PAUSE: u64 = 4;

/// An event out of a ring.
struct Taken {
    words: Words,
    module: u8,
    /// How many are missing before it, and the stamp of the first of these.
    lost: u64,
    first: u64,
}

/// What is known of the losses of a module.
#[derive(Clone, Copy, Default)]
struct Lost {
    /// The stamp of its last event that was taken.
    last: u64,
    /// Events that were taken, and could not be written.
    unwritten: u64,
    /// The stamp of the first of these.
    first: u64,
    /// And of the last event before them.
    after: u64,
    /// Events that were dropped behind what is still in the ring, and are not told yet.
    behind: u64,
    /// The stamp of the first of these.
    behind_first: u64,
}

/// What only the collector touches.
struct Files {
    journal: Journal,
    render: Render,
    heads: [u64; RINGS],
    taken: KVVec<Taken>,
    lost: [Lost; RINGS],
    /// Events, vertices, edges in the journal's buffer; by module for the events.
    gathered: [u64; RINGS],
    /// The first of these, by module: its stamp and the one before it.
    since: [(u64, u64); RINGS],
    losses: u64,
    /// Losses in the buffer, by module: how many events, and as in [`Lost`].
    told: [Lost; RINGS],
    /// Who is to be told when the buffer is written.
    answers: KVVec<(Answering, bool)>,
    /// When the text files may be made again.
    render_at: u64,
}

/// The collector.
#[pin_data]
pub(crate) struct Collector {
    net: Arc<Net>,
    #[pin]
    forward: DeadlineWork<Forward>,
    #[pin]
    files: Mutex<Files>,
}

impl Collector {
    /// Of this journal and these text files. `ENOMEM`.
    pub(crate) fn new(net: Arc<Net>, journal: Journal, render: Render) -> Result<Arc<Self>> {
        net.counts.rendered.set(render.position());
        let files = Files {
            journal,
            render,
            heads: [0; RINGS],
            taken: KVVec::with_capacity(BATCH, GFP_KERNEL)?,
            lost: [Lost::default(); RINGS],
            gathered: [0; RINGS],
            since: [(0, 0); RINGS],
            losses: 0,
            told: [Lost::default(); RINGS],
            answers: KVVec::new(),
            render_at: 0,
        };
        let forward = Forward::new(net.clone(), files.journal.incarnation)?;
        Arc::pin_init(
            try_pin_init!(Collector {
                net,
                forward <- DeadlineWork::new(
                    c"virgo_eventnet_forward",
                    kernel::static_lock_class!(),
                    forward,
                ),
                files <- kernel::new_mutex!(files, "virgo_eventnet_files"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Takes another node's records: the answer. `EINVAL` for what is no request, or why the
    /// journal cannot be written: nothing of the request counts then. May sleep.
    fn receive(&self, from: NodeId, input: &[u8]) -> Result<[u8; HEAD]> {
        let (incarnation, stamp, records) = split(input)?;
        let stamp = event::seen(stamp);
        let net = &*self.net;
        let mut files = self.files.lock();
        let last = files.receive(net, from, incarnation, records)?;
        Ok(pair(last, stamp))
    }
}

impl Files {
    /// Writes another node's records that are new; the number of the last that is here.
    fn receive(
        &mut self,
        net: &Net,
        from: NodeId,
        incarnation: u64,
        records: &[u8],
    ) -> Result<u64> {
        // What is gathered is this node's own: its answers are due, whatever becomes of these.
        let _ = self.commit(net);
        let node = from.number();
        let known = find_peer(&mut self.journal.peers, node)
            .filter(|peer| peer.incarnation == incarnation)
            .map(|peer| peer.last);
        if known.is_none() {
            let content = Content::Peer { incarnation };
            if !self.journal.append(event::stamp(), node, 0, 0, content)? {
                return Err(ENOSPC);
            }
        }
        let mut last = known.unwrap_or(0);
        let mut count = 0_u64;
        let mut reader = Reader::new(records, last, crc32c_after);
        while let Some(record) = reader.next() {
            // A node tells of itself alone, and of nothing that was told to it.
            let own = matches!(
                record.content,
                Content::Event { .. }
                    | Content::Vertex { .. }
                    | Content::Edge { .. }
                    | Content::Loss { .. }
            );
            if record.origin == 0 && own {
                let (stamp, module, number) = (record.stamp, record.module, record.number);
                let content = record.content;
                if !self.journal.append(stamp, node, module, number, content)? {
                    self.keep_peer(net, node, incarnation, last)?;
                    if !self.journal.append(stamp, node, module, number, content)? {
                        return Err(ENOSPC);
                    }
                }
                count = count.saturating_add(1);
            }
            last = record.number;
        }
        self.keep_peer(net, node, incarnation, last)?;
        net.counts.received.add(count);
        Ok(last)
    }

    /// Writes what is gathered, and only then takes note of it: what is not in the journal is to
    /// come again.
    fn keep_peer(&mut self, net: &Net, node: u32, incarnation: u64, last: u64) -> Result {
        self.commit(net)?;
        set_peer(&mut self.journal.peers, node, incarnation, last)
    }

    /// Takes events out of the rings; whether there are more.
    fn drain(&mut self, net: &Net) -> bool {
        self.taken.clear();
        for (index, ring) in net.rings.iter().enumerate() {
            let Some(head) = self.heads.get_mut(index) else {
                continue;
            };
            // Each gets its share, so that a busy one does not keep the others out.
            for _ in 0..BATCH / RINGS {
                let Some(popped) = ring.ring.pop(&ring.slots, head) else {
                    break;
                };
                let taken = Taken {
                    words: popped.record,
                    // CAST: below `RINGS`.
                    module: index as u8,
                    lost: popped.lost,
                    first: popped.first,
                };
                // There is room for a batch.
                let _ = self.taken.push_within_capacity(taken);
            }
        }
        self.taken.sort_unstable_by_key(|taken| {
            let [stamp, ..] = taken.words;
            stamp
        });
        self.taken.len() >= BATCH / RINGS
    }

    /// Writes what is gathered, tells those who wait, and counts.
    fn commit(&mut self, net: &Net) -> Result {
        // Else nothing was tried, and how the last write ended stays true.
        if self.journal.is_gathered() {
            return self.write(net);
        }
        Ok(())
    }

    fn write(&mut self, net: &Net) -> Result {
        let result = self.journal.commit();
        let error = result
            .err()
            .map_or(0, |error| error.to_errno().unsigned_abs());
        net.counts.error.set(error.into());
        net.committed.set(self.journal.end());
        let mut events = 0_u64;
        for index in 0..RINGS {
            let (Some(count), Some(since), Some(lost), Some(told)) = (
                self.gathered.get_mut(index),
                self.since.get_mut(index),
                self.lost.get_mut(index),
                self.told.get_mut(index),
            ) else {
                continue;
            };
            let count = take(count);
            let told = take(told);
            if result.is_err() && told.unwritten > 0 {
                // That they are lost is not told yet.
                if lost.unwritten == 0 {
                    (lost.first, lost.after) = (told.first, told.after);
                }
                lost.unwritten = lost.unwritten.saturating_add(told.unwritten);
            }
            if result.is_ok() {
                events = events.saturating_add(count);
            } else if count > 0 {
                if lost.unwritten == 0 {
                    (lost.first, lost.after) = *since;
                }
                (_, lost.last) = *since;
                lost.unwritten = lost.unwritten.saturating_add(count);
                net.counts.lost.add(count);
            }
        }
        let losses = take(&mut self.losses);
        if result.is_ok() {
            net.counts.events.add(events);
            net.counts.losses.add(losses);
        }
        for (answer, vertex) in take(&mut self.answers) {
            if result.is_ok() {
                let count = if vertex {
                    &net.counts.vertices
                } else {
                    &net.counts.edges
                };
                count.add(1);
            } else {
                net.counts.refused.add(1);
            }
            answer.tell(result);
        }
        if result.is_ok() {
            net.grown.notify_all();
        }
        result
    }

    /// Gathers a record, and writes what is gathered where there is no room.
    fn append(&mut self, net: &Net, stamp: u64, module: u8, content: Content<'_>) -> Result {
        let node = net.node.load(Relaxed);
        for _ in 0..2 {
            if self.journal.append(stamp, node, module, 0, content)? {
                return Ok(());
            }
            self.commit(net)?;
        }
        Err(ENOSPC)
    }

    /// Tells of a loss: how many, the stamps of the first, of the event before, and of the one
    /// behind.
    fn loss(&mut self, net: &Net, module: u8, count: u64, stamps: (u64, u64, u64)) -> Result {
        let (first, after, before) = stamps;
        let id = |stamp| Id { stamp, node: 0 };
        // The stamp of the first that is missing is nobody else's. Where it is not known, the loss
        // has one of now, and only its place after the last event is told.
        let known = first > after && (before == 0 || first < before);
        let (stamp, before) = if known {
            (first, before)
        } else {
            (event::stamp(), 0)
        };
        let content = Content::Loss {
            count,
            after: id(after),
            before: id(before),
        };
        self.append(net, stamp, module, content)?;
        self.losses = self.losses.saturating_add(1);
        if let Some(told) = self.told.get_mut(usize::from(module)) {
            if told.unwritten == 0 {
                (told.first, told.after) = (stamp, after);
            }
            told.unwritten = told.unwritten.saturating_add(count);
        }
        Ok(())
    }

    /// What could not be written before, if it can be now.
    fn unwritten(&mut self, net: &Net, module: u8, before: u64) -> Result {
        let index = usize::from(module);
        let Some(lost) = self.lost.get(index).copied() else {
            return Ok(());
        };
        if lost.unwritten > 0 {
            self.loss(
                net,
                module,
                lost.unwritten,
                (lost.first, lost.after, before),
            )?;
            if let Some(lost) = self.lost.get_mut(index) {
                lost.unwritten = 0;
            }
        }
        Ok(())
    }

    fn event(&mut self, net: &Net, taken: &Taken) -> Result {
        let [stamp, cause, third, text @ ..] = &taken.words;
        let stamp = *stamp;
        let index = usize::from(taken.module);
        self.unwritten(net, taken.module, stamp)?;
        self.behind(net, taken.module, stamp)?;
        let after = self.lost.get(index).map_or(0, |lost| lost.last);
        if taken.lost > 0 {
            net.counts.lost.add(taken.lost);
            self.lose(net, taken.module, taken.lost, (taken.first, after, stamp))?;
        }
        let mut bytes = [0_u8; (crate::logic::event_ring::WORDS - HEAD_WORDS) * 8];
        for (place, word) in bytes.chunks_exact_mut(8).zip(text) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        // CAST: a byte each, as `Net::put` stored them.
        let kind = (third >> 32) as u8;
        let subject = (third >> 40) as u8;
        let (kind, rest) = bytes.split_at_checked(kind.into()).unwrap_or((&bytes, &[]));
        let subject = rest.get(..subject.into()).unwrap_or(&[]);
        let content = if kind.is_empty() {
            // By the original's function, which has looked at it.
            match parse(subject) {
                Ok(Message::Vertex {
                    id,
                    partakers,
                    conversation,
                }) => Content::Vertex {
                    id,
                    partakers,
                    conversation,
                },
                Ok(Message::Edge { from, to }) => Content::Edge { from, to },
                Err(_) => return Ok(()),
            }
        } else {
            Content::Event {
                cause: Id {
                    stamp: *cause,
                    // CAST: the lower half.
                    node: *third as u32,
                },
                kind,
                subject,
            }
        };
        self.append(net, stamp, taken.module, content)?;
        if let (Some(count), Some(since), Some(lost)) = (
            self.gathered.get_mut(index),
            self.since.get_mut(index),
            self.lost.get_mut(index),
        ) {
            if *count == 0 {
                *since = (stamp, after);
            }
            *count = count.saturating_add(1);
            lost.last = stamp;
        }
        Ok(())
    }

    /// An event that could not even be gathered.
    fn not_gathered(&mut self, net: &Net, taken: &Taken) {
        let [stamp, ..] = taken.words;
        let index = usize::from(taken.module);
        let after = self.lost.get(index).map_or(0, |lost| lost.last);
        self.keep_loss(index, 1, stamp, after);
        net.counts.lost.add(1);
    }

    /// A message: whether it is a vertex's.
    fn message(&mut self, net: &Net, stamp: u64, text: &[u8]) -> Result<bool> {
        match parse(text).map_err(|_| EINVAL)? {
            Message::Vertex {
                id,
                partakers,
                conversation,
            } => {
                if !self.render.names.takes(id) {
                    return Err(ENOSPC);
                }
                let content = Content::Vertex {
                    id,
                    partakers,
                    conversation,
                };
                self.append(net, stamp, OWN, content)?;
                Ok(true)
            }
            Message::Edge { from, to } => {
                self.append(net, stamp, OWN, Content::Edge { from, to })?;
                Ok(false)
            }
        }
    }

    /// Takes and writes; whether there is more, and whether something went wrong.
    fn round(&mut self, net: &Net) -> (bool, bool) {
        net.node.store(cluster::me().number(), Relaxed);
        // Full: who finds it 0 after this fills a ring that is looked at below, or arms anew.
        net.armed.xchg(0, Full);
        let waiting = net.pending.lock().take();
        let more = self.drain(net);
        let mut failed = false;
        let taken = take(&mut self.taken);
        for event in taken.iter() {
            if self.event(net, event).is_err() {
                self.not_gathered(net, event);
                failed = true;
            }
        }
        self.taken = taken;
        for module in 0..RINGS {
            failed |= self.trailing(net, module).is_err();
        }
        for message in waiting {
            match self.message(net, message.stamp, &message.text) {
                Ok(vertex) => {
                    // Without memory its sender is not told, and may send it again.
                    let _ = self.answers.push((message.answer, vertex), GFP_KERNEL);
                }
                Err(error) => {
                    net.counts.refused.add(1);
                    message.answer.tell(Err(error));
                }
            }
        }
        failed |= self.commit(net).is_err();
        (more, failed)
    }

    /// Losses that no event has come after.
    fn trailing(&mut self, net: &Net, index: usize) -> Result {
        // CAST: below `RINGS`.
        let module = index as u8;
        self.unwritten(net, module, 0)?;
        let Some(ring) = net.rings.get(index) else {
            return Ok(());
        };
        let head = self.heads.get(index).copied().unwrap_or(0);
        // With records in the ring the loss is told with the next that is written.
        if ring.ring.written() != head {
            return Ok(());
        }
        let (count, first) = ring.ring.trailing();
        net.counts.lost.add(count);
        if let Some(lost) = self.lost.get_mut(index) {
            if lost.behind == 0 {
                lost.behind_first = first;
            }
            lost.behind = lost.behind.saturating_add(count);
        }
        // The ring may have been filled since it was found empty, and these were dropped only then.
        if ring.ring.written() != head {
            return Ok(());
        }
        self.behind(net, module, 0)
    }

    /// Losses behind what was in the ring, once that is written; `before`: the stamp of the next
    /// event, 0 if there is none.
    fn behind(&mut self, net: &Net, module: u8, before: u64) -> Result {
        let index = usize::from(module);
        let Some(lost) = self.lost.get_mut(index) else {
            return Ok(());
        };
        let (first, after) = (lost.behind_first, lost.last);
        if lost.behind == 0 || (before != 0 && before < first) {
            return Ok(());
        }
        let count = take(&mut lost.behind);
        self.lose(net, module, count, (first, after, before))
    }

    /// Tells a loss; if that cannot be written, it is told later.
    fn lose(&mut self, net: &Net, module: u8, count: u64, place: (u64, u64, u64)) -> Result {
        let told = self.loss(net, module, count, place);
        if told.is_err() {
            let (first, after, _) = place;
            self.keep_loss(usize::from(module), count, first, after);
        }
        told
    }

    /// A loss that is to be told later.
    fn keep_loss(&mut self, index: usize, count: u64, first: u64, after: u64) {
        if let Some(lost) = self.lost.get_mut(index) {
            if lost.unwritten == 0 {
                (lost.first, lost.after) = (first, after);
            }
            lost.unwritten = lost.unwritten.saturating_add(count);
        }
    }

    /// Makes the text files, one part or until `until` (0: one part, if its time has come); when it
    /// is to be done again, `None` if all is in them.
    fn render(&mut self, net: &Net, until: u64) -> Option<u64> {
        let begin = monotonic_ns();
        if until == 0 && begin < self.render_at {
            let behind = self.render.position() < self.journal.end();
            return behind.then_some(self.render_at);
        }
        let file = self.journal.file();
        loop {
            let result = self.render.advance(&file, self.journal.end());
            net.counts.rendered.set(self.render.position());
            let error = result
                .err()
                .map_or(0, |error| error.to_errno().unsigned_abs());
            net.counts.render_error.set(error.into());
            let now = monotonic_ns();
            match result {
                Err(_) => {
                    self.render_at = now.saturating_add(RETRY_NS);
                    return Some(self.render_at);
                }
                Ok(done) => {
                    let took = now.saturating_sub(begin);
                    self.render_at = now.saturating_add(took.saturating_mul(RENDER_PAUSE));
                    if done {
                        return None;
                    }
                    // What waits to be written comes first.
                    if now >= until {
                        return Some(now);
                    }
                }
            }
        }
    }
}

impl DeadlineHandler for Collector {
    fn run(&self, work: &DeadlineWork<Self>) {
        let mut files = self.files.lock();
        let (more, failed) = files.round(&self.net);
        let render = files.render(&self.net, 0);
        drop(files);
        if self.net.collector.load(Relaxed) != 0 {
            self.forward.run_soon();
        }
        if more && !failed {
            work.run_soon();
            return;
        }
        let retry = failed.then(|| monotonic_ns().saturating_add(RETRY_NS));
        let next = [render, retry].into_iter().flatten().min();
        if let Some(at) = next {
            // An earlier moment that somebody has set is not put off.
            work.arm(at);
        }
        // Somebody armed it while this ran, and was put off above.
        if next.is_some() && self.net.armed.load(Relaxed) != 0 {
            work.run_soon();
        }
    }
}

/// The collector and its timer. Every door holds this.
#[pin_data]
pub(crate) struct Core {
    #[pin]
    work: DeadlineWork<Collector>,
    pub(crate) net: Arc<Net>,
}

impl Core {
    /// Has this collector run.
    pub(crate) fn new(net: Arc<Net>, collector: Arc<Collector>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            work <- DeadlineWork::new(
                c"virgo_eventnet",
                kernel::static_lock_class!(),
                collector,
            ),
            net,
        }? Error)
    }

    /// Which node collects from now on; 0: none.
    pub(crate) fn set_collector(&self, node: u32) {
        self.net.collector.store(node, Relaxed);
        self.work.handler().forward.run_soon();
    }

    /// Takes another node's records; the answer. May sleep.
    pub(crate) fn receive(&self, from: NodeId, input: &[u8]) -> Result<[u8; HEAD]> {
        let answer = self.work.handler().receive(from, input)?;
        // For the text files.
        self.work.run_soon();
        Ok(answer)
    }

    /// Has a message written, and `answer` told; its stamp. See [`Net::enqueue`].
    pub(crate) fn message(
        &self,
        text: &[u8],
        answer: Answering,
    ) -> Result<u64, (Error, Answering)> {
        let stamp = self.net.enqueue(text, answer)?;
        self.work.run_soon();
        Ok(stamp)
    }
}

impl Sink for Core {
    fn log(&self, event: &Event<'_>) -> u64 {
        let net = &*self.net;
        let Some((stamp, position)) = net.put(event) else {
            return 0;
        };
        // Relaxed first: most find it set, and a word that all write is dear.
        if net.armed.load(Relaxed) == 0 && net.armed.xchg(1, Full) == 0 {
            let due = monotonic_ns().saturating_add(net.flush_ns.load(Relaxed));
            self.work.arm(due);
        }
        // Half a ring is full: no waiting.
        // CAST: usize fits u64.
        let half = (net.ring_size as u64 / 2).saturating_sub(1);
        if position & half == half {
            self.work.run_soon();
        }
        stamp
    }
}

/// Drop writes what is left: the last thing before the module goes.
pub(crate) struct Finish(Arc<Core>);

impl Finish {
    /// For this.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Finish(core)
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let core = &self.0;
        core.net.close();
        let mut files = core.work.handler().files.lock();
        loop {
            let (more, failed) = files.round(&core.net);
            if failed || !more {
                break;
            }
        }
        // What is not in the text files by then is put there at the next load: after a storm of events
        // making them takes minutes, which nobody who unloads a module waits for.
        let _ = files.render(&core.net, monotonic_ns().saturating_add(FINISH_NS));
    }
}
