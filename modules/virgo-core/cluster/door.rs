// SPDX-License-Identifier: GPL-2.0-only

//! What other nodes' connections are answered by: a service on the shared listener.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

use super::{
    session::{
        sessions,
        text,
        Session,
        Text, //
    },
    Cluster, //
};
use crate::{
    crypto::{
        checksum,
        nonce,
        Key, //
    },
    event_exports::{
        requests_wanted,
        Leading, //
    },
    lib::{
        cluster::{
            NodeId,
            MAX_IN_FLIGHT,
            MAX_PAYLOAD, //
        },
        event::{
            self,
            EventId, //
        },
        listener::{
            Addr,
            Consumed,
            Notifier,
            Refusal,
            Reply,
            Service,
            Turn, //
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
        HELLO, //
    },
    registry,
};

/// The most bytes of requests that one node has waiting or being served here.
const MAX_BYTES: usize = 32 << 20;

/// The port of the nodes among themselves.
pub(crate) struct Door {
    pub(crate) cluster: Arc<Cluster>,
}

/// How far a connection has come.
enum Stage {
    /// The other is to say hello.
    Hello,
    /// The other is to prove itself; then answers are sealed with the second.
    Proof(Session, Session),
    /// Requests are served.
    Open(Session, Arc<Sender>),
}

/// A connection of another node's.
pub(crate) struct Visit {
    addr: Addr,
    from: NodeId,
    key: Option<Arc<Key>>,
    stage: Stage,
}

/// The way back: what is sent is sealed and put on its way in one order.
#[pin_data]
pub(crate) struct Sender {
    #[pin]
    session: Mutex<Session>,
    way: Notifier<Door>,
    serving: Atomic<usize>,
    bytes: Atomic<usize>,
}

impl Sender {
    /// Sends a frame, or closes the connection: who waits for it must not wait in vain.
    fn send(&self, header: &Header, payload: &[u8]) -> Result {
        let result = self.try_send(header, payload);
        if result.is_err() {
            self.way.close();
        }
        result
    }

    fn try_send(&self, header: &Header, payload: &[u8]) -> Result {
        let mut data = KVVec::with_capacity(
            payload.len().saturating_add(frame::HEADER + frame::TAG),
            GFP_KERNEL,
        )?;
        // Held until it is on its way, which does not wait for the network.
        let mut session = self.session.lock();
        let sealed = session.seal(header, payload)?;
        data.extend_from_slice(&sealed.head, GFP_KERNEL)?;
        data.extend_from_slice(payload, GFP_KERNEL)?;
        data.extend_from_slice(&sealed.tag, GFP_KERNEL)?;
        self.way.send(data)
    }

    fn reply(&self, id: u64, result: Result<KVVec<u8>>) {
        let (status, payload) = match result {
            Ok(payload) => (0, payload),
            Err(error) => (error.to_errno().unsigned_abs(), KVVec::new()),
        };
        let header = Header {
            id,
            words: [status, 0, 0, 0],
            ..Header::plain(Kind::Reply)
        };
        // A connection that is gone needs no answers.
        let _ = self.send(&header, &payload);
    }

    /// Takes a place for a request of so many bytes; `EBUSY`.
    fn enter(&self, bytes: usize) -> Result {
        let serving = self.serving.fetch_add(1_usize, Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Relaxed);
        if serving >= MAX_IN_FLIGHT || waiting.saturating_add(bytes) > MAX_BYTES {
            self.leave(bytes);
            return Err(EBUSY);
        }
        Ok(())
    }

    fn leave(&self, bytes: usize) {
        self.serving.fetch_sub(1_usize, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

/// Says why the connection is closed, which it is then. Without a tag: there may be no key yet, or
/// the wrong one; nothing but words for the log depends on it.
fn refuse(why: &Text, out: &mut Reply) -> Consumed {
    if let Some(head) = frame::header(&Header::plain(Kind::Refused), why.bytes(), false, checksum) {
        out.push(&head);
        out.push(why.bytes());
    }
    Consumed::close(0)
}

impl Door {
    /// May this node, at this address, and with this key if it has one already, speak to us?
    fn admit(&self, visit: &Visit) -> core::result::Result<(), Text> {
        let view = self.cluster.view();
        if !view.has(visit.from, &visit.addr) {
            return Err(text!(
                "node {} at {} is not in the table here",
                visit.from,
                visit.addr
            ));
        }
        match (&visit.key, view.key()) {
            (None, Some(_)) => Ok(()),
            (Some(used), Some(key)) if Arc::ptr_eq(used, key) => Ok(()),
            _ => Err(text!("the key has changed")),
        }
    }

    fn hello(
        &self,
        visit: &mut Visit,
        frame: &Frame<'_>,
        out: &mut Reply,
    ) -> core::result::Result<(), Text> {
        if frame.header.kind != Kind::Hello {
            return Err(text!("a connection begins with a hello"));
        }
        let hello = Hello::parse(frame.payload).ok_or_else(|| text!("a wrong hello"))?;
        if !hello.keyed {
            return Err(text!("a key is needed"));
        }
        visit.from = NodeId::from_number(hello.from);
        self.admit(visit)?;
        let view = self.cluster.view();
        if hello.to != view.me().number() {
            return Err(text!(
                "this is node {}, not {:08x}: the nodes' tables differ",
                view.me(),
                hello.to
            ));
        }
        let key = view.key().cloned().ok_or_else(|| text!("no key here"))?;
        let challenge = Hello {
            from: view.me().number(),
            to: hello.from,
            keyed: true,
            nonce: nonce(),
        }
        .to_bytes();
        let (inbound, outbound) =
            sessions(&key, frame.payload, &challenge).map_err(|_| text!("no memory here"))?;
        let head = frame::header(&Header::plain(Kind::Challenge), &challenge, false, checksum)
            .ok_or_else(|| text!("no memory here"))?;
        out.push(&head);
        out.push(&challenge);
        visit.key = Some(key);
        visit.stage = Stage::Proof(inbound, outbound);
        Ok(())
    }

    fn proof(
        visit: &mut Visit,
        frame: &Frame<'_>,
        out: &mut Reply,
        turn: &Turn<'_, Door>,
    ) -> core::result::Result<(), Text> {
        let Stage::Proof(mut inbound, mut outbound) =
            core::mem::replace(&mut visit.stage, Stage::Hello)
        else {
            return Err(text!("a frame out of turn"));
        };
        if frame.header.kind != Kind::Proof {
            return Err(text!("a frame out of turn"));
        }
        inbound.open(frame)?;
        let sealed = outbound
            .seal(&Header::plain(Kind::Welcome), &[])
            .map_err(|_| text!("no memory here"))?;
        out.push(&sealed.head);
        out.push(&sealed.tag);
        let sender = Arc::pin_init(
            pin_init!(Sender {
                session <- kernel::new_mutex!(outbound, "virgo_cluster_sender"),
                way: turn.notifier(),
                serving: Atomic::new(0),
                bytes: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
        .map_err(|_| text!("no memory here"))?;
        visit.stage = Stage::Open(inbound, sender);
        Ok(())
    }

    /// A frame of an open connection.
    fn serve(
        &self,
        from: NodeId,
        sender: &Arc<Sender>,
        frame: &Frame<'_>,
    ) -> core::result::Result<(), Text> {
        let header = &frame.header;
        match header.kind {
            Kind::Ping => {
                if Load::parse(frame.payload).is_none() {
                    return Err(text!("a wrong ping"));
                }
                let pong = Header {
                    id: header.id,
                    words: header.words,
                    ..Header::plain(Kind::Pong)
                };
                let load = self.cluster.source().now();
                // Where it cannot be sent the connection is closed.
                let _ = sender.send(&pong, &load.to_bytes());
                Ok(())
            }
            Kind::Request => {
                self.request(from, sender, header, frame.payload)
                    .unwrap_or_else(|error| sender.reply(header.id, Err(error)));
                Ok(())
            }
            _ => Err(text!("a frame out of turn")),
        }
    }

    fn request(
        &self,
        from: NodeId,
        sender: &Arc<Sender>,
        header: &Header,
        payload: &[u8],
    ) -> Result {
        let [module, operation, limit, timeout_ms] = header.words;
        let module = Module::from_number(module).ok_or(ENODEV)?;
        let pool = self.cluster.pool(module).ok_or(ENODEV)?;
        let mut input = KVVec::with_capacity(payload.len(), GFP_KERNEL)?;
        input.extend_from_slice(payload, GFP_KERNEL)?;
        // CAST: u32 fits usize on 64-bit.
        let limit = (limit as usize).min(MAX_PAYLOAD);
        let bytes = payload.len();
        sender.enter(bytes)?;
        let (id, way) = (header.id, sender.clone());
        let cause = EventId {
            stamp: if header.event { header.stamp } else { 0 },
            node: from.number(),
        };
        let wait_ns = u64::from(timeout_ms).saturating_mul(1_000_000);
        let deadline = monotonic_ns().saturating_add(wait_ns);
        let spawned = pool.spawn(move || {
            // Nobody waits any more for what has waited here too long.
            let result = if monotonic_ns() > deadline {
                Err(ETIMEDOUT)
            } else {
                let _led = begin(module, from, operation, cause);
                registry::serve(module, from, operation, &input, limit)
            };
            drop(input);
            way.reply(id, result);
            way.leave(bytes);
        });
        if spawned.is_err() {
            sender.leave(bytes);
        }
        spawned
    }
}

/// Tells that a request of another node is served, if somebody wants to know: until the value is
/// dropped, what happens in this thread has come of that.
fn begin(module: Module, from: NodeId, operation: u32, cause: EventId) -> Option<Leading> {
    if !requests_wanted(module) {
        return None;
    }
    let told = event::tell_of(
        module,
        b"serve",
        format_args!("{operation} for {from}"),
        cause,
    );
    (told != EventId::NONE)
        .then(|| Leading::new(told))
        .flatten()
}

impl Service for Door {
    type Conn = Visit;

    fn connected(&self, peer: &Addr, _out: &mut Reply) -> Result<Visit> {
        let view = self.cluster.view();
        // Whoever is in no line of the table is not listened to at all.
        if !view.has_address(peer) {
            self.cluster.count_stranger(peer);
            return Err(EACCES);
        }
        Ok(Visit {
            addr: *peer,
            from: NodeId::from_number(0),
            key: None,
            stage: Stage::Hello,
        })
    }

    fn input(
        &self,
        visit: &mut Visit,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        // Who has not proved itself has no memory to spend.
        let max = match visit.stage {
            Stage::Hello | Stage::Proof(..) => HELLO,
            Stage::Open(..) => MAX_PAYLOAD,
        };
        let frame = match frame::parse(data, max, checksum) {
            Parsed::Whole(frame) => frame,
            Parsed::Part(size) => return Consumed::need(size),
            Parsed::Bad(why) => {
                self.cluster.count_refused();
                return refuse(&text!("{}", why.words()), out);
            }
        };
        let result = match &mut visit.stage {
            Stage::Hello => self.hello(visit, &frame, out),
            Stage::Proof(..) => Self::proof(visit, &frame, out, turn),
            Stage::Open(inbound, sender) => match inbound.open(&frame) {
                Ok(()) => {
                    let sender = sender.clone();
                    self.admit(visit)
                        .and_then(|()| self.serve(visit.from, &sender, &frame))
                }
                Err(why) => Err(why),
            },
        };
        match result {
            Ok(()) => Consumed::done(frame.taken),
            Err(why) => {
                self.cluster.count_refused();
                refuse(&why, out)
            }
        }
    }

    fn refused(&self, why: Refusal, out: &mut Reply) {
        let why = match why {
            Refusal::Connections(limit) => text!("limit of {} connections reached", limit),
            Refusal::Frame(limit) => text!("a frame longer than {} bytes", limit),
            Refusal::Reply(limit) => text!("more than {} bytes of answers wait", limit),
            Refusal::Idle(limit) => text!("idle for {} ms", limit),
        };
        let _ = refuse(&why, out);
    }
}
