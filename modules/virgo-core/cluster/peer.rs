// SPDX-License-Identifier: GPL-2.0-only

//! The connection to another node: made, kept alive and made again by a thread of its own.
//!
//! # Locking
//!
//! `life`, `out`, `calls` and a call's `done` are never taken under one another. Nobody waits for the
//! network under any of them: what a socket does not take at once goes to `Out::waiting`, which the
//! second thread sends.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex, //
    },
    time::msecs_to_jiffies, //
};

use super::{
    session::{
        sessions,
        text,
        Session,
        Text, //
    },
    source::Source,
};
use crate::{
    crypto::{
        checksum,
        nonce,
        Key, //
    },
    event_exports::requests_wanted,
    lib::{
        cluster::{
            NodeId,
            State,
            MAX_IN_FLIGHT,
            MAX_PAYLOAD, //
        },
        compat::{
            ehostdown,
            emsgsize,
            enobufs, //
        },
        event::{
            self,
            EventId, //
        },
        kthread::{
            KThread,
            Stop, //
        },
        listener::{
            Addr,
            Half,
            TcpStream, //
        },
        service::Module,
        time::monotonic_ns,
    },
    proto::frame::{
        self,
        Frame,
        Header,
        Hello,
        Kind,
        Load,
        Parsed,
        HEADER,
        TAG, //
    },
    setting_table,
};

/// Between two signs of life that are asked for.
const HEARTBEAT_NS: u64 = 500_000_000;
/// Silent for longer: suspect.
const SUSPECT_NS: u64 = 1_000_000_000;
/// No segment of its came for longer: down, as its machine is gone.
const GONE_NS: u64 = 2_000_000_000;
/// Its machine acknowledges what it is sent, and there was no answer for longer: down too.
const SILENT_NS: u64 = 10_000_000_000;
/// How long a connection may take to come about.
const CONNECT_MS: u32 = 2000;
/// The longest wait of a send or a receive: then the clock is looked at.
const TICK_MS: u32 = 250;
/// The most that one such wait counts for. One that took longer did so because this thread was kept
/// from running: what the other did meanwhile was not listened to.
const TICK_NS: u64 = 500_000_000;
/// Between two attempts to connect.
const RETRY_MS: u32 = 400;
/// The most bytes that wait for the socket to take them.
const MAX_WAITING: usize = 16 << 20;
/// What is asked of the socket at once.
const CHUNK: usize = 64 << 10;
/// The ids of heartbeats have this bit, those of calls do not.
const HEARTBEAT: u64 = 1 << 63;

/// Whom to connect to, and as whom.
pub(crate) struct Target {
    pub(crate) id: NodeId,
    pub(crate) addr: Addr,
    pub(crate) me: NodeId,
    /// Our own address, which the other knows us by.
    pub(crate) from: Addr,
    pub(crate) key: Arc<Key>,
}

/// What is known of the node.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) state: State,
    /// Since when it is in that state.
    pub(crate) since_ns: u64,
    pub(crate) load: Load,
    /// Requests that were under way to it when it told its load.
    pub(crate) under_way: usize,
    pub(crate) rtt_ns: u64,
    /// Why it was last not up.
    pub(crate) error: Text,
}

/// What is to be sent.
struct Out {
    /// The connection, once both have proved themselves.
    link: Option<Arc<TcpStream>>,
    session: Option<Session>,
    /// What the socket did not take.
    waiting: KVVec<u8>,
    /// The second thread is sending, or will.
    busy: bool,
}

/// A call that waits for its answer.
#[pin_data]
struct Call {
    limit: usize,
    #[pin]
    done: Mutex<Option<Result<KVVec<u8>>>>,
    #[pin]
    answered: CondVar,
}

impl Call {
    fn finish(&self, result: Result<KVVec<u8>>) {
        *self.done.lock() = Some(result);
        self.answered.notify_all();
    }
}

/// The calls under way. A call's id is its place, and above that a number that grows.
struct Calls {
    open: bool,
    next: u64,
    places: KVec<Option<(u64, Arc<Call>)>>,
    count: usize,
}

const PLACES: u64 = MAX_IN_FLIGHT as u64; // CAST: 256.

impl Calls {
    fn add(&mut self, call: Arc<Call>) -> Result<u64> {
        if !self.open {
            return Err(ehostdown());
        }
        let mut places = self.places.iter_mut().enumerate();
        let (index, place) = places.find(|(_, place)| place.is_none()).ok_or(EBUSY)?;
        // 2^55 calls until it begins anew.
        self.next = self.next.wrapping_add(PLACES) & !HEARTBEAT;
        // CAST: below 256.
        let id = self.next | index as u64;
        *place = Some((id, call));
        self.count = self.count.saturating_add(1);
        Ok(id)
    }

    fn take(&mut self, id: u64) -> Option<Arc<Call>> {
        let index = usize::try_from(id % PLACES).ok()?;
        let place = self.places.get_mut(index)?;
        let (_, call) = place.take_if(|(there, _)| *there == id)?;
        self.count = self.count.saturating_sub(1);
        Some(call)
    }
}

/// Another node.
#[pin_data]
pub(crate) struct Peer {
    target: Target,
    source: Arc<Source>,
    stopping: Atomic<bool>,
    sent: Atomic<u64>,
    failed: Atomic<u64>,
    #[pin]
    life: Mutex<Life>,
    #[pin]
    retry: CondVar,
    #[pin]
    out: Mutex<Out>,
    #[pin]
    writable: CondVar,
    #[pin]
    calls: Mutex<Calls>,
}

/// How long the other has been silent, by a clock that stands while this thread is kept from running.
///
/// A busy machine is none that is gone: its programs may keep its workers from answering, but not
/// its network stack from acknowledging. So there are two kinds of silence, and the second is
/// forgiven for longer. That a node that is slow itself must not take others for dead is after
/// A. Dadgar, J. Phillips and J. Currey, Lifeguard (2018).
struct Silence {
    /// When it was last looked at, by the machine's clock.
    looked: u64,
    clock: u64,
    heard: u64,
    acknowledged: u64,
}

impl Silence {
    fn new() -> Self {
        Silence {
            looked: monotonic_ns(),
            clock: 0,
            heard: 0,
            acknowledged: 0,
        }
    }

    /// Nanoseconds without a byte, unless it is `heard` now; what else to say where it has been too
    /// long.
    fn look(&mut self, link: &TcpStream, heard: bool) -> core::result::Result<u64, Text> {
        let now = monotonic_ns();
        let passed = now.saturating_sub(self.looked);
        self.looked = now;
        self.clock = self.clock.saturating_add(passed.min(TICK_NS));
        if heard {
            self.heard = self.clock;
        }
        if link.since_segment_ns() <= passed {
            self.acknowledged = self.clock;
        }
        let silent = self.clock.saturating_sub(self.heard);
        if self.clock.saturating_sub(self.acknowledged) > GONE_NS {
            return Err(text!("silent for {} ms", silent / 1_000_000));
        }
        if silent > SILENT_NS {
            return Err(text!(
                "its machine is there, but did not answer for {} ms",
                silent / 1_000_000
            ));
        }
        Ok(silent)
    }
}

/// Bytes that have come and are not used yet.
struct Inbox {
    data: KVVec<u8>,
    used: usize,
    /// Bytes that the next frame takes, as far as is known.
    wanted: usize,
}

impl Inbox {
    fn unused(&self) -> &[u8] {
        self.data.get(self.used..).unwrap_or(&[])
    }

    /// Receives more; `false` where nothing came for a tick.
    fn receive(&mut self, link: &TcpStream) -> core::result::Result<bool, Text> {
        let rest = self.unused().len();
        if self.used > 0 {
            if rest == 0 && self.data.capacity() > 4 * CHUNK {
                self.data = KVVec::new();
            } else {
                let used = self.used;
                self.data.as_mut_slice().copy_within(used.., 0);
                self.data.truncate(rest);
            }
            self.used = 0;
        }
        let want = self.wanted.saturating_sub(rest).max(CHUNK);
        match link.recv(&mut self.data, want) {
            Ok(0) => Err(text!("it closed the connection")),
            Ok(_) => Ok(true),
            Err(error) if error == ETIMEDOUT => Ok(false),
            Err(error) => Err(text!("connection lost: {:?}", error)),
        }
    }

    /// Gives the next frame, if it has come whole, to `handle`.
    fn frame<R>(
        &mut self,
        handle: impl FnOnce(&Frame<'_>) -> core::result::Result<R, Text>,
    ) -> core::result::Result<Option<R>, Text> {
        let unused = self.data.get(self.used..).unwrap_or(&[]);
        match frame::parse(unused, MAX_PAYLOAD, checksum) {
            Parsed::Whole(frame) => {
                let result = handle(&frame);
                self.used = self.used.saturating_add(frame.taken);
                self.wanted = 0;
                result.map(Some)
            }
            Parsed::Part(size) => {
                self.wanted = size;
                Ok(None)
            }
            Parsed::Bad(why) => Err(text!("it sent what is no frame: {}", why.words())),
        }
    }

    /// As [`Inbox::frame`], and waits for it, unless the silence has been too long.
    fn wait_frame<R>(
        &mut self,
        link: &TcpStream,
        silence: &mut Silence,
        mut handle: impl FnMut(&Frame<'_>) -> core::result::Result<R, Text>,
    ) -> core::result::Result<R, Text> {
        loop {
            if let Some(result) = self.frame(&mut handle)? {
                return Ok(result);
            }
            self.receive(link)?;
            // A few bytes now and then are no frame.
            silence
                .look(link, false)
                .map_err(|_| text!("it does not answer as a node"))?;
        }
    }
}

/// The frame, if it is of this kind; what the other says instead, as an error.
fn expect(frame: &Frame<'_>, kind: Kind) -> core::result::Result<(), Text> {
    if frame.header.kind == kind {
        return Ok(());
    }
    Err(refusal(frame).unwrap_or_else(|| text!("it sent a frame out of turn")))
}

fn refusal(frame: &Frame<'_>) -> Option<Text> {
    (frame.header.kind == Kind::Refused).then(|| Text::printable(frame.payload))
}

fn no_memory(_: impl Sized) -> Text {
    text!("no memory here")
}

/// A connection, open for requests.
struct Connected {
    link: Arc<TcpStream>,
    outbound: Option<Session>,
    inbound: Session,
    inbox: Inbox,
}

impl Peer {
    /// A node that is not connected yet. `ENOMEM`.
    pub(crate) fn new(target: Target, source: Arc<Source>) -> Result<Arc<Peer>> {
        let mut places = KVec::with_capacity(MAX_IN_FLIGHT, GFP_KERNEL)?;
        for _ in 0..MAX_IN_FLIGHT {
            places.push(None, GFP_KERNEL)?;
        }
        let life = Life {
            state: State::Down,
            since_ns: monotonic_ns(),
            load: Load::default(),
            under_way: 0,
            rtt_ns: 0,
            error: text!("not connected yet"),
        };
        let out = Out {
            link: None,
            session: None,
            waiting: KVVec::new(),
            busy: false,
        };
        let calls = Calls {
            open: false,
            next: 0,
            places,
            count: 0,
        };
        Arc::pin_init(
            pin_init!(Peer {
                target,
                source,
                stopping: Atomic::new(false),
                sent: Atomic::new(0),
                failed: Atomic::new(0),
                life <- kernel::new_mutex!(life, "virgo_cluster_life"),
                retry <- kernel::new_condvar!("virgo_cluster_retry"),
                out <- kernel::new_mutex!(out, "virgo_cluster_out"),
                writable <- kernel::new_condvar!("virgo_cluster_writable"),
                calls <- kernel::new_mutex!(calls, "virgo_cluster_calls"),
            }),
            GFP_KERNEL,
        )
    }

    /// Whom it is connected to.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// What is known of it.
    pub(crate) fn life(&self) -> Life {
        *self.life.lock()
    }

    /// Calls under way, made, and failed for want of an answer.
    pub(crate) fn counts(&self) -> (usize, u64, u64) {
        let under_way = self.calls.lock().count;
        (
            under_way,
            self.sent.load(Relaxed),
            self.failed.load(Relaxed),
        )
    }

    fn stopping(&self) -> bool {
        // Acquire: pairs with `stop`. Little depends on it, as the sockets are shut down too.
        self.stopping.load(Acquire)
    }

    /// Tells both threads to end, and fails the calls under way. Does not wait for the threads.
    fn stop(&self) {
        self.stopping.store(true, Release);
        // Under each lock once, so that who has looked before it waits already.
        drop(self.life.lock());
        self.retry.notify_all();
        let link = self.out.lock().link.clone();
        self.writable.notify_all();
        if let Some(link) = link {
            // It is gone already otherwise.
            let _ = link.shutdown(Half::Both);
        }
        self.fail_calls();
    }

    fn fail_calls(&self) {
        loop {
            let call = {
                let mut calls = self.calls.lock();
                calls.open = false;
                let place = calls.places.iter_mut().find_map(Option::take);
                if place.is_some() {
                    calls.count = calls.count.saturating_sub(1);
                }
                place
            };
            match call {
                Some((_, call)) => call.finish(Err(ehostdown())),
                None => return,
            }
        }
    }

    fn set_state(&self, state: State, error: Option<Text>) {
        let mut life = self.life.lock();
        let came = life.state == State::Down && state == State::Up;
        if life.state != state {
            let (id, word) = (self.target.id, state.word());
            event::tell(Module::Core, b"node", format_args!("{id} {word}"));
            life.state = state;
            life.since_ns = monotonic_ns();
        }
        if let Some(error) = error {
            life.error = error;
        }
        drop(life);
        if came {
            setting_table::node_up();
        }
    }

    /// Connects, and proves to one another who both are.
    fn connect(&self) -> core::result::Result<Connected, Text> {
        let target = &self.target;
        let link = TcpStream::connect_from(&target.from, &target.addr, CONNECT_MS, TICK_MS)
            .map_err(|error| text!("cannot connect: {:?}", error))?;
        let link = Arc::new(link, GFP_KERNEL).map_err(no_memory)?;
        let hello = Hello {
            from: target.me.number(),
            to: target.id.number(),
            keyed: true,
            nonce: nonce(),
        }
        .to_bytes();
        let head = frame::header(&Header::plain(Kind::Hello), &hello, false, checksum);
        let head = head.ok_or_else(|| no_memory(()))?;
        let send = |bytes: &[u8]| {
            link.send_all(bytes)
                .map_err(|error| text!("cannot send: {:?}", error))
        };
        send(&head)?;
        send(&hello)?;

        let mut inbox = Inbox {
            data: KVVec::new(),
            used: 0,
            wanted: 0,
        };
        // One for both answers: so long is the handshake's time.
        let mut silence = Silence::new();
        let (mut outbound, mut inbound) = inbox.wait_frame(&link, &mut silence, |frame| {
            expect(frame, Kind::Challenge)?;
            let answer = Hello::parse(frame.payload);
            let answer = answer.ok_or_else(|| text!("it sent a wrong challenge"))?;
            if answer.from != target.id.number() || answer.to != target.me.number() {
                return Err(text!(
                    "it is node {:08x}, not {}: the nodes' tables differ",
                    answer.from,
                    target.id
                ));
            }
            sessions(&target.key, &hello, frame.payload).map_err(no_memory)
        })?;

        let proof = outbound
            .seal(&Header::plain(Kind::Proof), &[])
            .map_err(no_memory)?;
        send(&proof.head)?;
        send(&proof.tag)?;
        inbox.wait_frame(&link, &mut silence, |frame| {
            expect(frame, Kind::Welcome)?;
            inbound.open(frame)
        })?;
        Ok(Connected {
            link,
            outbound: Some(outbound),
            inbound,
            inbox,
        })
    }

    /// Seals a frame and hands it to the socket, or has the second thread do it. Does not wait for
    /// the network.
    fn send(&self, header: &Header, payload: &[u8]) -> Result {
        let mut guard = self.out.lock();
        let out = &mut *guard;
        let link = out.link.clone().ok_or(ehostdown())?;
        let total = payload.len().saturating_add(HEADER + TAG);
        let direct = !out.busy && out.waiting.is_empty();
        if !direct {
            if out.waiting.len().saturating_add(total) > MAX_WAITING {
                return Err(enobufs());
            }
            // Before it is sealed: a sealed frame must go out.
            out.waiting.reserve(total, GFP_KERNEL)?;
        }
        let session = out.session.as_mut().ok_or(ehostdown())?;
        let sealed = session.seal(header, payload)?;
        let pieces: [&[u8]; 3] = [&sealed.head, payload, &sealed.tag];
        let mut taken = 0;
        let mut result = Ok(());
        if direct {
            match link.send_now(&pieces) {
                Ok(count) => taken = count,
                Err(error) => result = Err(error),
            }
        }
        for piece in pieces {
            let rest = piece.get(taken.min(piece.len())..).unwrap_or(&[]);
            taken = taken.saturating_sub(piece.len());
            if result.is_ok() {
                result = out
                    .waiting
                    .extend_from_slice(rest, GFP_KERNEL)
                    .map_err(Error::from);
            }
        }
        if result.is_err() {
            // Part of a frame may be out. The first thread sees the end of it.
            let _ = link.shutdown(Half::Both);
            return Err(ehostdown());
        }
        if !out.waiting.is_empty() && !out.busy {
            out.busy = true;
            drop(guard);
            self.writable.notify_all();
        }
        Ok(())
    }

    /// Makes a request and waits for the answer.
    pub(crate) fn call(
        &self,
        module: Module,
        operation: u32,
        input: &[u8],
        limit: usize,
        timeout_ms: u32,
    ) -> Result<KVVec<u8>> {
        let (to, mut told) = (self.target.id, EventId::NONE);
        if requests_wanted(module) {
            // What it leads to there is told to have come of this.
            told = event::tell(module, b"call", format_args!("{operation} to {to}"));
        }
        let header = Header {
            stamp: told.stamp,
            event: told != EventId::NONE,
            words: [
                // CAST: `repr(u32)`.
                module as u32,
                operation,
                u32::try_from(limit).unwrap_or(u32::MAX),
                timeout_ms,
            ],
            ..Header::plain(Kind::Request)
        };
        self.sent.fetch_add(1_u64, Relaxed);
        let result = self.exchange(header, input, limit, timeout_ms);
        if matches!(&result, Err(error) if *error == ETIMEDOUT || *error == ehostdown()) {
            self.failed.fetch_add(1_u64, Relaxed);
        }
        result
    }

    /// Asks for a sign of life and waits for it; how long it took.
    pub(crate) fn ping(&self, timeout_ms: u32) -> Result<u64> {
        let begin = monotonic_ns();
        // Not this node's load: a caller's context is none to look at it.
        let load = self.source.seen().0.to_bytes();
        self.exchange(Header::plain(Kind::Ping), &load, 0, timeout_ms)?;
        Ok(monotonic_ns().saturating_sub(begin))
    }

    fn exchange(
        &self,
        mut header: Header,
        input: &[u8],
        limit: usize,
        timeout_ms: u32,
    ) -> Result<KVVec<u8>> {
        let call = Arc::pin_init(
            pin_init!(Call {
                limit,
                done <- kernel::new_mutex!(None, "virgo_cluster_call"),
                answered <- kernel::new_condvar!("virgo_cluster_answered"),
            }),
            GFP_KERNEL,
        )?;
        let id = self.calls.lock().add(call.clone())?;
        header.id = id;
        if let Err(error) = self.send(&header, input) {
            drop(self.calls.lock().take(id));
            return Err(error);
        }
        let mut left = msecs_to_jiffies(timeout_ms);
        let mut done = call.done.lock();
        let why = loop {
            if let Some(result) = done.take() {
                return result;
            }
            match call.answered.wait_interruptible_timeout(&mut done, left) {
                CondVarTimeoutResult::Woken { jiffies } => left = jiffies,
                CondVarTimeoutResult::Timeout => break ETIMEDOUT,
                // Not ERESTARTSYS: the request would be made twice.
                CondVarTimeoutResult::Signal { .. } => break EINTR,
            }
        };
        // The answer may have come between the two.
        let late = done.take();
        drop(done);
        drop(self.calls.lock().take(id));
        late.unwrap_or(Err(why))
    }

    /// What the other sends, until the connection is over; why it is.
    fn converse(&self, connected: &mut Connected) -> Text {
        let Connected {
            link,
            inbound,
            inbox,
            ..
        } = connected;
        let mut silence = Silence::new();
        let mut silent = 0;
        let mut asked: (u64, u64) = (0, 0);
        let mut round: u64 = 0;
        loop {
            if self.stopping() {
                return text!("taken out of the table");
            }
            loop {
                let handled = inbox.frame(|frame| {
                    inbound.open(frame)?;
                    self.handle(frame, asked)
                });
                match handled {
                    Ok(Some(())) => {}
                    Ok(None) => break,
                    Err(why) => return why,
                }
            }
            let now = monotonic_ns();
            if now.saturating_sub(asked.1) >= HEARTBEAT_NS {
                round = round.wrapping_add(1);
                asked = (HEARTBEAT | round, now);
                let ping = Header {
                    id: asked.0,
                    ..Header::plain(Kind::Ping)
                };
                // Where there is no room the silence will tell.
                let _ = self.send(&ping, &self.source.now().to_bytes());
            }
            let state = if silent > SUSPECT_NS {
                State::Suspect
            } else {
                State::Up
            };
            self.set_state(state, None);
            let looked = inbox
                .receive(link)
                .and_then(|heard| silence.look(link, heard));
            match looked {
                Ok(ns) => silent = ns,
                Err(why) => return why,
            }
        }
    }

    /// One frame of the other's.
    fn handle(&self, frame: &Frame<'_>, asked: (u64, u64)) -> core::result::Result<(), Text> {
        let header = &frame.header;
        match header.kind {
            Kind::Pong => {
                let load = Load::parse(frame.payload);
                let load = load.ok_or_else(|| text!("it sent a wrong pong"))?;
                let (under_way, ..) = self.counts();
                let mut life = self.life.lock();
                life.load = load;
                life.under_way = under_way;
                if header.id == asked.0 {
                    life.rtt_ns = monotonic_ns().saturating_sub(asked.1);
                }
                drop(life);
                if header.id & HEARTBEAT == 0 {
                    if let Some(call) = self.calls.lock().take(header.id) {
                        call.finish(Ok(KVVec::new()));
                    }
                }
                Ok(())
            }
            Kind::Reply => {
                // Nobody waits for it any more, otherwise.
                let call = self.calls.lock().take(header.id);
                if let Some(call) = call {
                    let [status, ..] = header.words;
                    call.finish(answer(status, frame.payload, call.limit));
                }
                Ok(())
            }
            _ => Err(refusal(frame).unwrap_or_else(|| text!("it sent a frame out of turn"))),
        }
    }

    /// The first thread: connects, listens, and begins again.
    fn run(&self) {
        while !self.stopping() {
            let why = match self.connect() {
                Ok(mut connected) => {
                    {
                        let mut out = self.out.lock();
                        out.link = Some(connected.link.clone());
                        out.session = connected.outbound.take();
                        out.waiting = KVVec::new();
                    }
                    self.calls.lock().open = true;
                    self.set_state(State::Up, None);
                    let why = self.converse(&mut connected);
                    // No new calls, then no link, then none of the calls under way.
                    self.calls.lock().open = false;
                    {
                        let mut out = self.out.lock();
                        out.link = None;
                        out.session = None;
                        out.waiting = KVVec::new();
                    }
                    let _ = connected.link.shutdown(Half::Both);
                    why
                }
                Err(why) => why,
            };
            self.set_state(State::Down, Some(why));
            self.fail_calls();
            let mut life = self.life.lock();
            if !self.stopping() {
                // Sooner, if it is told to end.
                let _ = self
                    .retry
                    .wait_interruptible_timeout(&mut life, msecs_to_jiffies(RETRY_MS));
            }
        }
    }

    /// The second thread: sends what the socket did not take at once.
    fn drain(&self) {
        loop {
            let (link, data) = {
                let mut out = self.out.lock();
                loop {
                    if self.stopping() {
                        return;
                    }
                    match out.link.clone() {
                        Some(link) if !out.waiting.is_empty() => {
                            out.busy = true;
                            break (link, core::mem::take(&mut out.waiting));
                        }
                        _ => out.busy = false,
                    }
                    let _ = self.writable.wait_interruptible(&mut out);
                }
            };
            let mut rest = data.as_slice();
            while !rest.is_empty() && !self.stopping() {
                match link.send_some(rest) {
                    Ok(count) => rest = rest.get(count..).unwrap_or(&[]),
                    Err(error) if error == ETIMEDOUT => {}
                    Err(_) => {
                        let _ = link.shutdown(Half::Both);
                        break;
                    }
                }
            }
        }
    }
}

/// A reply, understood.
fn answer(status: u32, payload: &[u8], limit: usize) -> Result<KVVec<u8>> {
    if status != 0 {
        // What is no errno is told as EIO.
        return Err(i32::try_from(status)
            .ok()
            .filter(|status| (1..=4095).contains(status))
            .map_or(EIO, |status| Error::from_errno(status.wrapping_neg())));
    }
    if payload.len() > limit {
        return Err(emsgsize());
    }
    let mut data = KVVec::with_capacity(payload.len(), GFP_KERNEL)?;
    data.extend_from_slice(payload, GFP_KERNEL)?;
    Ok(data)
}

/// A running thread, whatever it runs.
trait Running: Send + Sync {}

impl<F: FnOnce(&Stop) + Send + 'static> Running for KThread<F> {}

/// A peer and its threads.
#[pin_data(PinnedDrop)]
pub(crate) struct Link {
    peer: Arc<Peer>,
    #[pin]
    threads: Mutex<[Option<Arc<dyn Running>>; 2]>,
}

impl Link {
    /// Starts the threads. `ENOMEM`, `EINTR`. May sleep.
    pub(crate) fn start(target: Target, source: Arc<Source>) -> Result<Arc<Link>> {
        let peer = Peer::new(target, source)?;
        let (first, second) = (peer.clone(), peer.clone());
        // Dropped, it stops what has been started.
        let link = Arc::pin_init(
            pin_init!(Link {
                peer,
                threads <- kernel::new_mutex!([const { None }; 2], "virgo_cluster_threads"),
            }),
            GFP_KERNEL,
        )?;
        {
            let mut threads = link.threads.lock();
            let run = KThread::spawn(c"virgo_node", move |_: &Stop| first.run())?;
            // Who listens late hears of nobody in time. What it does is little.
            run.set_high_priority();
            let running: Arc<dyn Running> = Arc::new(run, GFP_KERNEL)?;
            let drain = KThread::spawn(c"virgo_node_send", move |_: &Stop| second.drain());
            // Whatever came of the second, the first is to be stopped.
            *threads = [Some(running), None];
            let running: Arc<dyn Running> = Arc::new(drain?, GFP_KERNEL)?;
            let [_, place] = &mut *threads;
            *place = Some(running);
        }
        Ok(link)
    }

    /// The peer.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Tells the threads to end and fails the calls under way, without waiting.
    pub(crate) fn stop(&self) {
        self.peer.stop();
    }

    /// The same, and waits until they have ended. Sleeps.
    pub(crate) fn join(&self) {
        self.peer.stop();
        let threads = core::mem::replace(&mut *self.threads.lock(), [const { None }; 2]);
        drop(threads);
    }
}

#[pinned_drop]
impl PinnedDrop for Link {
    fn drop(self: Pin<&mut Self>) {
        self.join();
    }
}
