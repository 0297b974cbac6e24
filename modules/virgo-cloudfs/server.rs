// SPDX-License-Identifier: GPL-2.0-only

//! The port: tells 9P and text apart, cuts messages out of the stream, has them worked on.
//!
//! In the listener's own worker only that is done which waits for nothing: what the dentry and page
//! caches know, and work on a tmpfs (`ops::at_once`). Each other request is a work item on a per-CPU
//! queue: on an idle machine it runs in the same thread, right after the listener's turn; if it
//! sleeps, the kernel lets the next one begin, so a request that blocks holds up nobody. Answers go
//! out as they come, in any order; 9P has tags for that, and a line of text is
//! only looked at when the one before it is answered.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    errno,
    export::{
        Export,
        RoomTicket,
        User, //
    },
    lib::{
        listener::{
            Addr,
            Closed,
            Consumed,
            Refusal,
            Reply,
            Responder,
            Service,
            Turn, //
        },
        workqueue::OwnedQueue, //
    },
    ops::{
        self,
        Answer,
        Job, //
    },
    proto::p9::{
        self,
        is_9p,
        kind,
        Request, //
    },
    session::Session,
    text::Text,
};

/// Longest message before there is a version: nothing but a Tversion is taken then.
const FIRST_MAX: usize = 256;

/// A message that is longer than this gets a buffer of its own as soon as it begins.
const WHOLE_MAX: usize = 4096;

/// The port's service.
pub(crate) struct Door {
    export: Arc<Export>,
    jobs: Arc<OwnedQueue>,
}

impl Door {
    /// Serves `export`; `jobs` must outlive the listener.
    pub(crate) fn new(export: Arc<Export>, jobs: Arc<OwnedQueue>) -> Self {
        Door { export, jobs }
    }
}

/// A message of which the rest is still to come.
struct Part {
    frame: KVVec<u8>,
    size: usize,
    room: RoomTicket,
}

/// A client that speaks 9P.
struct Nine {
    session: Arc<Session>,
    part: Option<Part>,
    /// Bytes of a message there was no room for.
    skip: usize,
}

/// What a connection speaks.
enum Speech {
    Unknown,
    Nine(Nine),
    Text(Text),
}

/// A connection.
pub(crate) struct Client {
    user: User,
    speech: Speech,
}

impl Service for Door {
    type Conn = Client;

    fn connected(&self, peer: &Addr, _: &mut Reply) -> Result<Client> {
        let user = self.export.admit(peer)?;
        let speech = Speech::Unknown;
        Ok(Client { user, speech })
    }

    fn input(
        &self,
        client: &mut Client,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        loop {
            match &mut client.speech {
                Speech::Nine(nine) => return self.nine(nine, data, out, turn),
                Speech::Text(text) => return text.input(&self.jobs, data, out, turn),
                Speech::Unknown => {}
            }
            let user = client.user.clone();
            client.speech = match is_9p(data) {
                None => return Consumed::more(),
                Some(true) => match Session::new(self.export.clone(), user) {
                    Ok(session) => Speech::Nine(Nine {
                        session,
                        part: None,
                        skip: 0,
                    }),
                    Err(_) => return Consumed::close(data.len()),
                },
                Some(false) => match Text::new(self.export.clone(), user) {
                    Ok(text) => Speech::Text(text),
                    Err(_) => return Consumed::close(data.len()),
                },
            };
        }
    }

    fn sink<'a>(&self, client: &'a mut Client) -> Option<(&'a mut KVVec<u8>, usize)> {
        match &mut client.speech {
            Speech::Nine(Nine {
                part: Some(part), ..
            }) => {
                let missing = part.size.saturating_sub(part.frame.len());
                Some((&mut part.frame, missing))
            }
            _ => None,
        }
    }

    fn poured(&self, client: &mut Client, out: &mut Reply, turn: &Turn<'_, Self>) -> Consumed {
        if let Speech::Nine(nine) = &mut client.speech {
            let done = nine.part.take_if(|part| part.frame.len() >= part.size);
            if let Some(part) = done {
                self.whole(&nine.session, part.frame, part.room, out, turn);
            }
        }
        Consumed::done(0)
    }

    fn refused(&self, why: Refusal, out: &mut Reply) {
        use core::fmt::Write;
        // Read by people; a 9P client sees the connection end. A full reply ends it anyway.
        let _ = match why {
            Refusal::Connections(n) => write!(out, "ERR EUSERS {n} connections are the limit\r\n"),
            Refusal::Frame(n) => write!(out, "ERR EMSGSIZE a request has {n} bytes at most\r\n"),
            Refusal::Reply(n) => write!(out, "ERR ENOBUFS {n} bytes of answers wait\r\n"),
            Refusal::Idle(ms) => write!(out, "ERR ETIME idle for {ms} ms\r\n"),
        };
    }

    fn closed(&self, client: Client, _: Closed) {
        match client.speech {
            Speech::Nine(nine) => self.later(nine.session.reset(0, true)),
            Speech::Text(text) => self.later(text),
            Speech::Unknown => {}
        }
    }
}

impl Door {
    /// Drops something, which may take long, in a worker.
    fn later<T: Send + 'static>(&self, what: T) {
        // Without memory it is dropped here and now, with the closure.
        let _ = self.jobs.spawn(move || drop(what));
    }

    fn nine(
        &self,
        nine: &mut Nine,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        if nine.skip > 0 {
            let taken = nine.skip.min(data.len());
            nine.skip = nine.skip.saturating_sub(taken);
            return if nine.skip == 0 {
                Consumed::done(taken)
            } else {
                Consumed::take(taken, 0)
            };
        }
        if nine.part.is_some() {
            // Its rest goes where `sink` says.
            return Consumed::close(data.len());
        }
        if nine.session.park(|| turn.responder()) {
            return Consumed::pause(0);
        }
        let Some(header) = p9::header(data) else {
            return Consumed::more();
        };
        // CAST: u32 fits usize on 64-bit.
        let size = header.size as usize;
        let msize = nine.session.msize() as usize;
        if msize == 0 {
            // Nothing is agreed on: a stranger may say little.
            if header.kind != kind::VERSION || !(p9::HEADER..=FIRST_MAX).contains(&size) {
                return Consumed::close(data.len());
            }
        } else if size < p9::HEADER || size > msize {
            // Where the next message begins is not known any more.
            out.push(&ops::failure(header.tag, errno::told(errno::emsgsize())));
            return Consumed::close(data.len());
        }
        let whole = data.get(..size);
        if whole.is_none() && size <= WHOLE_MAX {
            return Consumed::more();
        }
        if whole.is_some_and(|whole| self.now(&nine.session, whole, out)) {
            return Consumed::done(size);
        }
        let made = self.export.room(size).and_then(|room| {
            let frame = self.export.frames.take(size)?;
            Ok((room, frame))
        });
        let (room, mut frame) = match made {
            Ok(made) => made,
            Err(error) => {
                out.push(&ops::failure(header.tag, errno::told(error)));
                nine.skip = size;
                return self.nine(nine, data, out, turn);
            }
        };
        let front = whole.unwrap_or(data);
        if frame.extend_from_slice(front, GFP_KERNEL).is_err() {
            return Consumed::close(data.len());
        }
        if whole.is_none() {
            nine.part = Some(Part { frame, size, room });
            return Consumed::take(front.len(), 0);
        }
        self.dispatch(&nine.session, frame, room, turn);
        Consumed::done(size)
    }

    /// Answers a message now, if that is sure not to wait. Otherwise it is still to be worked on.
    fn now(&self, session: &Arc<Session>, frame: &[u8], out: &mut Reply) -> bool {
        // Of two with one tag the second is refused.
        let tag = p9::header(frame).map_or(p9::NOTAG, |header| header.tag);
        if session.msize() == 0 || session.is_flying(tag) {
            return false;
        }
        match ops::at_once(session, frame) {
            None => return false,
            Some(Answer::Short(bytes) | Answer::Granted(bytes, _)) => out.push(&bytes),
            Some(Answer::Long(bytes)) => out.push_shared(bytes),
        }
        true
    }

    /// A message that came in parts is whole.
    fn whole(
        &self,
        session: &Arc<Session>,
        frame: KVVec<u8>,
        room: RoomTicket,
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) {
        if self.now(session, &frame, out) {
            self.export.frames.give(frame);
        } else {
            self.dispatch(session, frame, room, turn);
        }
    }

    /// Has a message worked on.
    fn dispatch(
        &self,
        session: &Arc<Session>,
        frame: KVVec<u8>,
        room: RoomTicket,
        turn: &Turn<'_, Self>,
    ) {
        let Some(header) = p9::header(&frame) else {
            return;
        };
        let tag = header.tag;
        if matches!(header.kind, kind::VERSION | kind::FLUSH) {
            return self.at_once(session, &frame, turn.responder());
        }
        let number = match session.begin(tag, header.kind == kind::LOCK) {
            Ok(number) => number,
            Err(error) => {
                // Two with one tag: the second is told, and nothing else.
                let answer = ops::failure(tag, errno::told(error));
                let _ = turn.responder().answer(answer);
                return;
            }
        };
        let job = Job {
            frame,
            number,
            room,
        };
        let (worker, responder) = (session.clone(), turn.responder());
        let spawned = self.jobs.spawn(move || {
            let answer = ops::answer(&worker, &job);
            // Given back before the client can ask for the next.
            let Job {
                frame,
                number,
                room,
            } = job;
            drop(room);
            worker.export.frames.give(frame);
            worker.finish(number, responder, answer);
        });
        if let Err(error) = spawned {
            let answer = ops::failure(tag, errno::told(error));
            session.finish(number, turn.responder(), Answer::Short(answer));
        }
    }

    /// Tversion and Tflush, which are about what is under way.
    fn at_once(&self, session: &Arc<Session>, frame: &[u8], responder: Responder<Self>) {
        let tag = p9::header(frame).map_or(p9::NOTAG, |header| header.tag);
        match p9::parse(frame) {
            Ok((_, Request::Version { msize, version })) => {
                let msize = msize.min(self.export.limits.msize);
                // "9P2000.L" alone, and messages that hold something.
                let spoken = version == p9::VERSION && msize >= p9::MIN_MSIZE;
                self.later(session.reset(if spoken { msize } else { 0 }, false));
                let answer = ops::small(kind::VERSION, tag, |w| {
                    w.u32(msize);
                    w.string(if spoken { p9::VERSION } else { p9::UNKNOWN });
                });
                let _ = answer.and_then(|answer| responder.answer(answer));
            }
            Ok((_, Request::Flush { oldtag })) => {
                if let Ok(answer) = ops::small(kind::FLUSH, tag, |_| ()) {
                    session.flush(oldtag, responder, answer);
                }
            }
            _ => {
                let _ = responder.answer(ops::failure(tag, errno::told(errno::eproto())));
            }
        }
    }
}
