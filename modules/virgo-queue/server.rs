// SPDX-License-Identifier: GPL-2.0-only

//! The port: the beanstalkd protocol, and the original's lines.
//!
//! A connection whose first line is one of beanstalkd's commands speaks that protocol alone:
//! anything else on it is `UNKNOWN_COMMAND`, since a client that is out of step must not make
//! requests of what it sends. On any other connection every line that is no command is a request.

use core::fmt::Write;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    lib::{
        listener::{
            Addr,
            Closed,
            Consumed,
            Reply,
            Service,
            Turn, //
        },
        time::{
            monotonic_ns,
            wall_clock, //
        },
    },
    log::{
        reason,
        Answer, //
    },
    proto::{
        beanstalk::{
            self,
            Command,
            Refused, //
        },
        kingcobra::{
            self,
            Kind,
            TopicOrder, //
        },
        lines::find_lf, //
    },
    queue::{
        Core,
        Held, //
    },
    state::{
        Full,
        New,
        State,
        Waiting,
        SECOND, //
    },
    stats,
    text::{
        line,
        Text, //
    },
};

/// Where the requests of the original's lines go.
pub(crate) const KINGCOBRA: &[u8] = b"kingcobra";
/// Their priority: above a client's own that cares, below one that hurries.
const REQUEST_PRI: u32 = 1024;
/// Their time, in seconds.
const REQUEST_TTR: u32 = 60;

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// It has said nothing yet.
    Unknown,
    /// beanstalkd's commands alone.
    Beanstalk,
    /// Requests, a line each, and commands.
    Lines,
}

/// What the next bytes are.
enum Phase {
    /// A line.
    Line,
    /// The rest of a body, and CR LF.
    Body { new: New, size: usize },
    /// So many bytes to throw away, before this is answered.
    Skip { left: u64, words: &'static [u8] },
    /// The rest of a line that is too long.
    SkipLine,
}

/// A connection.
pub(crate) struct Session {
    worker: u32,
    dialect: Dialect,
    phase: Phase,
    address: u32,
}

/// What is told of the bytes that were looked at.
struct Answering<'a, 'b> {
    out: &'a mut Reply,
    turn: &'a Turn<'b, Server>,
    taken: usize,
}

impl Answering<'_, '_> {
    /// These words, once what was done is kept as the policy says.
    fn words(self, held: &mut Held<'_>, words: &'static [u8]) -> Consumed {
        let Some(number) = held.must_wait() else {
            self.out.push(words);
            return Consumed::done(self.taken);
        };
        self.later(held, number, Answer::Words(words))
    }

    fn later(self, held: &mut Held<'_>, number: u64, answer: Answer) -> Consumed {
        let responder = self.turn.responder();
        let waits = match held.log.as_mut() {
            Some(log) => log.answer_when(number, responder, answer),
            None => Err(ENOENT),
        };
        match waits {
            Ok(()) => Consumed::pause(self.taken),
            Err(_) => Consumed::close(self.taken),
        }
    }

    /// That a job was put.
    fn put(self, held: &mut Held<'_>, id: u64, text: Result<Text>) -> Consumed {
        let Ok(text) = text else {
            return Consumed::close(self.taken);
        };
        match held.must_wait() {
            Some(number) => self.later(held, number, Answer::Put(id, text.take())),
            None => {
                self.out.push(text.bytes());
                Consumed::done(self.taken)
            }
        }
    }
}

/// The port.
pub(crate) struct Server {
    core: Arc<Core>,
}

/// A line's end, CR LF or LF: its text, and how many bytes it takes with it.
fn split_line(data: &[u8]) -> Option<(&[u8], usize)> {
    let end = find_lf(data)?;
    let text = data.get(..end)?;
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Some((text, end.checked_add(1)?))
}

/// beanstalkd's words for a job that is not taken in.
const fn full_words(why: Full) -> &'static [u8] {
    match why {
        Full::Draining | Full::Tube(_) => b"DRAINING\r\n",
        Full::Job(_) => b"JOB_TOO_BIG\r\n",
        Full::Bytes(_) | Full::Memory | Full::Log(_) | Full::Slow => b"OUT_OF_MEMORY\r\n",
    }
}

/// The bound, in words.
fn full_text(why: Full, out: &mut Reply) {
    // A reply out of room closes the connection: nothing else to do.
    let _ = match why {
        Full::Draining => write!(out, "ERR draining no more requests are taken in\r\n"),
        Full::Tube(most) => write!(
            out,
            "ERR full the tube holds {most} requests, its limit\r\n"
        ),
        Full::Job(most) => write!(out, "ERR long a request has {most} bytes at most\r\n"),
        Full::Bytes(most) => write!(out, "ERR full requests take {most} bytes, the limit\r\n"),
        Full::Log(error) => write!(out, "ERR log it cannot be written: {}\r\n", reason(error)),
        Full::Slow => write!(
            out,
            "ERR log it is written more slowly than requests come\r\n"
        ),
        Full::Memory => write!(out, "ERR memory the system has none left\r\n"),
    };
}

fn text_or(out: &mut Reply, text: Result<Text>) {
    match text {
        Ok(text) => out.push(text.bytes()),
        Err(_) => out.push(b"OUT_OF_MEMORY\r\n"),
    }
}

fn job(state: &State, out: &mut Reply, word: &[u8], index: u32) {
    let Some(job) = state.jobs.get(index) else {
        return out.push(b"NOT_FOUND\r\n");
    };
    let mut buffer = [0; 20];
    out.push(word);
    out.push(crate::text::digits(job.id, &mut buffer));
    // CAST: usize fits u64.
    line(out, b" ", job.body.len() as u64);
    out.push(&job.body);
    out.push(b"\r\n");
}

fn job_or(state: &State, out: &mut Reply, index: Option<u32>) {
    match index {
        Some(index) => job(state, out, b"FOUND ", index),
        None => out.push(b"NOT_FOUND\r\n"),
    }
}

fn yes_or(out: &mut Reply, yes: bool, words: &[u8]) {
    out.push(if yes { words } else { b"NOT_FOUND\r\n" });
}

impl Server {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Server { core }
    }

    /// A line, or a part of one.
    fn line(
        &self,
        session: &mut Session,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        // Text that ends with a NUL: the original's clients send 3000 bytes, most of them zero.
        if session.dialect != Dialect::Beanstalk && data.first() == Some(&0) {
            let zeros = data.iter().take_while(|byte| **byte == 0).count();
            return Consumed::done(zeros);
        }
        let Some((text, taken)) = split_line(data) else {
            let lines = session.dialect == Dialect::Lines
                || session.dialect == Dialect::Unknown && !beanstalk::may_be_command(data);
            if lines {
                if let Some(end) = data.iter().position(|byte| *byte == 0) {
                    session.dialect = Dialect::Lines;
                    let text = data.get(..end).unwrap_or(&[]);
                    let taken = end;
                    return self.request(session, text, Answering { out, turn, taken });
                }
                return Consumed::more();
            }
            if data.len() >= beanstalk::MAX_LINE {
                session.phase = Phase::SkipLine;
                return self.skip_line(session, data, out);
            }
            return Consumed::more();
        };
        if session.dialect == Dialect::Unknown {
            session.dialect = if beanstalk::is_command(text) {
                Dialect::Beanstalk
            } else {
                Dialect::Lines
            };
        }
        match beanstalk::parse(text) {
            Ok(command) => self.command(session, command, data, taken, out, turn),
            Err(Refused::Unknown | Refused::Format)
                if session.dialect == Dialect::Lines && !beanstalk::is_command(text) =>
            {
                let text = text.split(|byte| *byte == 0).next().unwrap_or(&[]);
                self.request(session, text, Answering { out, turn, taken })
            }
            Err(Refused::Unknown) => {
                out.push(b"UNKNOWN_COMMAND\r\n");
                Consumed::done(taken)
            }
            Err(Refused::Format) => {
                out.push(b"BAD_FORMAT\r\n");
                Consumed::done(taken)
            }
        }
    }

    /// The rest of a line that was too long.
    fn skip_line(&self, session: &mut Session, data: &[u8], out: &mut Reply) -> Consumed {
        match split_line(data) {
            Some((_, taken)) => {
                session.phase = Phase::Line;
                out.push(b"BAD_FORMAT\r\n");
                Consumed::done(taken)
            }
            None => Consumed::take(data.len(), 0),
        }
    }

    /// A line of the original's: it becomes a request.
    fn request(&self, session: &Session, text: &[u8], answering: Answering<'_, '_>) -> Consumed {
        let payload = match line_of(text) {
            Line::Request(payload) => payload,
            Line::Reply(exchange, payload) => {
                // Nobody is told that it could not be kept: a reply is never answered.
                let _ = self.core.hold().exchange_answered(&exchange, payload);
                return Consumed::done(answering.taken);
            }
            Line::Topic(order) => {
                let taken = answering.taken;
                self.topic(session, &order, answering);
                return Consumed::done(taken);
            }
            Line::Nothing => return Consumed::done(answering.taken),
        };
        let mut held = self.core.hold();
        match put_request(&mut held, session.address, payload) {
            Ok((id, exchange)) => {
                if let Some(worker) = held.workers.get_mut(session.worker) {
                    let notifier = || answering.turn.notifier();
                    worker.notifier.get_or_insert_with(notifier);
                }
                held.exchange_begins(id, exchange, session.worker);
                answering.put(&mut held, id, queued(id, &exchange))
            }
            Err(why) => {
                full_text(why, answering.out);
                Consumed::done(answering.taken)
            }
        }
    }

    /// A line about a topic, which is a tube that is listened to.
    fn topic(&self, session: &Session, order: &TopicOrder<'_>, answering: Answering<'_, '_>) {
        let out = answering.out;
        let mut held = self.core.hold();
        let (name, done) = match *order {
            TopicOrder::Publish(name, text) => {
                let told = held.tube(name).map_or(0, |tube| held.tell(tube, text));
                // CAST: usize fits u64.
                return line(out, b"PUBLISHED ", told as u64);
            }
            TopicOrder::Subscribe(name) => {
                let turn = answering.turn;
                let done = held.tube_made(name).and_then(|tube| {
                    if let Some(worker) = held.workers.get_mut(session.worker) {
                        worker.notifier.get_or_insert_with(|| turn.notifier());
                    }
                    let done = held.subscribe(session.worker, tube);
                    held.tube_dropped(tube);
                    done
                });
                (name, done.map(|()| &b"SUBSCRIBED "[..]))
            }
            TopicOrder::Unsubscribe(name) => {
                if let Some(tube) = held.tube(name) {
                    held.unsubscribe(session.worker, tube);
                }
                (name, Ok(&b"UNSUBSCRIBED "[..]))
            }
        };
        match done {
            Ok(word) => {
                for part in [word, name, b"\r\n"] {
                    out.push(part);
                }
            }
            Err(error) if error == ENOSPC => {
                out.push(b"ERR full a connection subscribes to 256 topics at most, and there are max_tubes tubes\r\n");
            }
            Err(_) => out.push(b"ERR memory the system has none left\r\n"),
        }
    }

    /// A job's body is there: `new` with it.
    fn put(held: &mut Held<'_>, new: New, end: &[u8], answering: Answering<'_, '_>) -> Consumed {
        let now = held.now();
        let id = new.id;
        let words: &[u8] = if end == b"\r\n" {
            match held.put(new, now) {
                Ok(_) if held.log.is_some() => {
                    return answering.put(held, id, inserted(id));
                }
                Ok(_) => {
                    line(answering.out, b"INSERTED ", id);
                    return Consumed::done(answering.taken);
                }
                Err(why) => full_words(why),
            }
        } else {
            b"EXPECTED_CRLF\r\n"
        };
        answering.out.push(words);
        Consumed::done(answering.taken)
    }

    /// More of a job's body.
    fn body(
        &self,
        session: &mut Session,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        let Phase::Body { new, size } = &mut session.phase else {
            return Consumed::more();
        };
        let n = size.saturating_sub(new.body.len()).min(data.len());
        let (part, rest) = data.split_at_checked(n).unwrap_or((data, &[]));
        if new.body.extend_from_slice(part, GFP_KERNEL).is_err() {
            // There was room for all of it.
            return Consumed::close(n);
        }
        if new.body.len() < *size {
            return Consumed::take(n, 0);
        }
        let Some(end) = rest.get(..2) else {
            return Consumed::take(n, 2);
        };
        let taken = n.saturating_add(2);
        match core::mem::replace(&mut session.phase, Phase::Line) {
            Phase::Body { new, .. } => {
                let answering = Answering { out, turn, taken };
                Self::put(&mut self.core.hold(), new, end, answering)
            }
            _ => Consumed::done(taken),
        }
    }

    fn begin_put(
        held: &mut Held<'_>,
        session: &mut Session,
        command: (u32, u32, u32, u32),
        rest: &[u8],
        mut answering: Answering<'_, '_>,
    ) -> Consumed {
        let taken = answering.taken;
        let (pri, delay, ttr, size) = command;
        held.is_producer(session.worker);
        let Some(tube) = held.workers.get(session.worker).map(|worker| worker.using) else {
            return Consumed::close(taken);
        };
        // CAST: u32 fits usize on 64-bit.
        let size = size as usize;
        let id = held.new_id();
        // What will not be taken in needs no memory.
        // CAST: usize fits u64.
        let room = if held.is_run(tube) {
            // Whoever can connect could have other nodes serve what only /dev/virgo may ask for.
            Err(Full::Draining)
        } else {
            held.room(tube, size as u64)
        };
        let memory = room.and_then(|()| Ok(KVVec::with_capacity(size, GFP_KERNEL)?));
        let mut body = match memory {
            Ok(body) => body,
            Err(why) => {
                session.phase = Phase::Skip {
                    left: (size as u64).saturating_add(2),
                    words: full_words(why),
                };
                return Consumed::done(taken);
            }
        };
        let mut new = New {
            id,
            tube,
            pri,
            delay,
            ttr,
            body: KVVec::new(),
        };
        let all = rest.split_at_checked(size);
        if let Some((content, Some(end))) = all.map(|(content, rest)| (content, rest.get(..2))) {
            if body.extend_from_slice(content, GFP_KERNEL).is_err() {
                return Consumed::close(taken);
            }
            new.body = body;
            answering.taken = taken.saturating_add(size).saturating_add(2);
            return Self::put(held, new, end, answering);
        }
        new.body = body;
        session.phase = Phase::Body { new, size };
        Consumed::done(taken)
    }

    fn reserve(
        held: &mut Held<'_>,
        session: &Session,
        timeout: Option<u32>,
        taken: usize,
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        let (worker, now) = (session.worker, held.now());
        held.is_taker(worker);
        if held.deadline_soon(worker, now) {
            out.push(b"DEADLINE_SOON\r\n");
            return Consumed::done(taken);
        }
        if let Some(index) = held.best(worker, now) {
            return Self::give(held, worker, index, true, Answering { out, turn, taken });
        }
        let until = match timeout {
            Some(0) => {
                out.push(b"TIMED_OUT\r\n");
                return Consumed::done(taken);
            }
            Some(seconds) => now.saturating_add(u64::from(seconds).saturating_mul(SECOND)),
            None => u64::MAX,
        };
        match held.wait(worker, Waiting::Line(turn.responder()), until) {
            Ok(()) => Consumed::pause(taken),
            Err(_) => {
                out.push(b"OUT_OF_MEMORY\r\n");
                Consumed::done(taken)
            }
        }
    }

    /// Gives a job to who asked for it.
    fn give(
        held: &mut Held<'_>,
        worker: u32,
        index: u32,
        best: bool,
        answering: Answering<'_, '_>,
    ) -> Consumed {
        let now = held.now();
        if best {
            held.reserve_best(index, worker, now);
        } else {
            held.reserve(index, worker, now);
        }
        let Some(number) = held.must_wait() else {
            job(held, answering.out, b"RESERVED ", index);
            return Consumed::done(answering.taken);
        };
        let id = held.jobs.get(index).map_or(0, |job| job.id);
        match held.job_text(b"RESERVED", index) {
            Ok(text) => answering.later(held, number, Answer::Reserved(id, text.take())),
            Err(_) => {
                held.give_back(id, now);
                answering.out.push(b"OUT_OF_MEMORY\r\n");
                Consumed::done(answering.taken)
            }
        }
    }

    fn command(
        &self,
        session: &mut Session,
        command: Command<'_>,
        data: &[u8],
        taken: usize,
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        let worker = session.worker;
        let mut held = self.core.hold();
        let now = held.now();
        let count = &mut held.commands;
        let add = |n: &mut u64| *n = n.saturating_add(1);
        match command {
            Command::Put {
                pri,
                delay,
                ttr,
                size,
                trailing,
            } => {
                add(&mut count.put);
                if size > held.limits.job_size {
                    session.phase = Phase::Skip {
                        left: u64::from(size).saturating_add(2),
                        words: b"JOB_TOO_BIG\r\n",
                    };
                } else if trailing {
                    out.push(b"BAD_FORMAT\r\n");
                } else {
                    let rest = data.get(taken..).unwrap_or(&[]);
                    let numbers = (pri, delay, ttr, size);
                    let answering = Answering { out, turn, taken };
                    return Self::begin_put(&mut held, session, numbers, rest, answering);
                }
            }
            Command::Peek(id) => {
                add(&mut count.peek);
                let index = held.job(id);
                job_or(&held, out, index);
            }
            Command::PeekReady => {
                add(&mut count.peek_ready);
                let index = held.using(worker).and_then(|tube| held.first_ready(tube));
                job_or(&held, out, index);
            }
            Command::PeekDelayed => {
                add(&mut count.peek_delayed);
                let index = held.using(worker).and_then(|tube| held.first_delayed(tube));
                job_or(&held, out, index);
            }
            Command::PeekBuried => {
                add(&mut count.peek_buried);
                let index = held.using(worker).and_then(|tube| held.first_buried(tube));
                job_or(&held, out, index);
            }
            Command::Reserve => {
                add(&mut count.reserve);
                return Self::reserve(&mut held, session, None, taken, out, turn);
            }
            Command::ReserveTimeout(seconds) => {
                add(&mut count.reserve_timeout);
                return Self::reserve(&mut held, session, Some(seconds), taken, out, turn);
            }
            Command::ReserveJob(id) => match held.free_job(id) {
                Some(index) => {
                    held.is_taker(worker);
                    let answering = Answering { out, turn, taken };
                    return Self::give(&mut held, worker, index, false, answering);
                }
                None => out.push(b"NOT_FOUND\r\n"),
            },
            Command::Delete(id) => {
                add(&mut count.delete);
                if held.delete(worker, id) {
                    return Answering { out, turn, taken }.words(&mut held, b"DELETED\r\n");
                }
                out.push(b"NOT_FOUND\r\n");
            }
            Command::Release { id, pri, delay } => {
                add(&mut count.release);
                if let Some(index) = held.own(worker, id) {
                    held.release(index, pri, delay, now);
                    return Answering { out, turn, taken }.words(&mut held, b"RELEASED\r\n");
                }
                out.push(b"NOT_FOUND\r\n");
            }
            Command::Bury { id, pri } => {
                add(&mut count.bury);
                if let Some(index) = held.own(worker, id) {
                    held.bury(index, pri);
                    return Answering { out, turn, taken }.words(&mut held, b"BURIED\r\n");
                }
                out.push(b"NOT_FOUND\r\n");
            }
            Command::Kick(most) => {
                add(&mut count.kick);
                let n = match held.using(worker) {
                    Some(tube) => held.kick(tube, most, now),
                    None => 0,
                };
                line(out, b"KICKED ", u64::from(n));
            }
            Command::KickJob(id) => {
                let done = match held.job(id) {
                    Some(index) => held.kick_job(index, now),
                    None => false,
                };
                yes_or(out, done, b"KICKED\r\n");
            }
            Command::Touch(id) => {
                add(&mut count.touch);
                let own = held.own(worker, id);
                if let Some(index) = own {
                    held.touch(index, now);
                }
                yes_or(out, own.is_some(), b"TOUCHED\r\n");
            }
            Command::Stats => {
                add(&mut count.stats);
                text_or(out, stats::all(&held, now));
            }
            Command::StatsJob(id) => {
                add(&mut count.stats_job);
                match held.job(id) {
                    Some(index) => text_or(out, stats::job(&held, index, now)),
                    None => out.push(b"NOT_FOUND\r\n"),
                }
            }
            Command::StatsTube(name) => {
                add(&mut count.stats_tube);
                match held.tube(name) {
                    Some(tube) => text_or(out, stats::tube(&held, tube, now)),
                    None => out.push(b"NOT_FOUND\r\n"),
                }
            }
            Command::Use(name) => {
                add(&mut count.use_tube);
                match held.tube_made(name) {
                    Ok(tube) => {
                        held.use_tube(worker, tube);
                        out.push(b"USING ");
                        out.push(name);
                        out.push(b"\r\n");
                    }
                    Err(_) => out.push(b"OUT_OF_MEMORY\r\n"),
                }
            }
            Command::Watch(name) => {
                add(&mut count.watch);
                let watched = held.tube_made(name).and_then(|tube| {
                    let watched = held.watch(worker, tube);
                    held.tube_dropped(tube);
                    watched
                });
                match watched {
                    // CAST: usize fits u64.
                    Ok(n) => line(out, b"WATCHING ", n as u64),
                    Err(_) => out.push(b"OUT_OF_MEMORY\r\n"),
                }
            }
            Command::Ignore(name) => {
                add(&mut count.ignore);
                match held.ignore(worker, name) {
                    // CAST: usize fits u64.
                    Some(n) => line(out, b"WATCHING ", n as u64),
                    None => out.push(b"NOT_IGNORED\r\n"),
                }
            }
            Command::ListTubes => {
                add(&mut count.list_tubes);
                text_or(out, stats::names(&held, held.listed.as_slice()));
            }
            Command::ListTubeUsed => {
                add(&mut count.list_tube_used);
                let used = held.using(worker).and_then(|tube| held.tubes.get(tube));
                if let Some(tube) = used {
                    out.push(b"USING ");
                    out.push(&tube.name);
                    out.push(b"\r\n");
                }
            }
            Command::ListTubesWatched => {
                add(&mut count.list_tubes_watched);
                if let Some(worker) = held.workers.get(worker) {
                    text_or(out, stats::names(&held, worker.watch.as_slice()));
                }
            }
            Command::Quit => return Consumed::close(taken),
            Command::PauseTube { name, delay } => {
                add(&mut count.pause_tube);
                if !beanstalk::valid_name(name) {
                    out.push(b"BAD_FORMAT\r\n");
                } else if let Some(tube) = held.tube(name) {
                    held.pause(tube, delay, now);
                    out.push(b"PAUSED\r\n");
                } else {
                    out.push(b"NOT_FOUND\r\n");
                }
            }
        }
        Consumed::done(taken)
    }
}

/// What a line of the original's is.
enum Line<'a> {
    /// A request.
    Request(&'a [u8]),
    /// The answer to one, which is never answered.
    Reply(kingcobra::Exchange, &'a [u8]),
    /// About a topic.
    Topic(TopicOrder<'a>),
    /// Empty, or a reply to nothing.
    Nothing,
}

fn line_of(text: &[u8]) -> Line<'_> {
    let text = text.trim_ascii();
    match kingcobra::parse(text) {
        Some(message) if message.kind == Kind::Reply => match message.exchange {
            Some(exchange) => Line::Reply(exchange, message.payload),
            None => Line::Nothing,
        },
        // Whose request it is, the connection tells, not the text.
        Some(message) if message.exchange.is_some() => Line::Request(message.payload),
        _ if text.is_empty() => Line::Nothing,
        _ => kingcobra::parse_topic(text).map_or(Line::Request(text), Line::Topic),
    }
}

fn queued(id: u64, exchange: &kingcobra::Exchange) -> Result<Text> {
    let mut text = Text::with_capacity(80)?;
    write!(text, "QUEUED {id} {exchange}\r\n").map_err(|_| ENOMEM)?;
    Ok(text)
}

fn inserted(id: u64) -> Result<Text> {
    let mut text = Text::with_capacity(32)?;
    text.push(b"INSERTED ")?;
    text.number(id)?;
    text.push(b"\r\n")?;
    Ok(text)
}

/// Puts a request of the original's kind: `REQUEST#address#time#payload`.
pub(crate) fn put_request(
    held: &mut Held<'_>,
    address: u32,
    payload: &[u8],
) -> Result<(u64, kingcobra::Exchange), Full> {
    let tube = held.tube_made(KINGCOBRA)?;
    let exchange = held.new_exchange(address, wall_clock());
    let size = payload.len().saturating_add(kingcobra::MAX_HEAD);
    let mut text = Text::with_capacity(size)?;
    kingcobra::write_head(&mut text, Kind::Request, &exchange).map_err(|_| Full::Memory)?;
    text.push(payload)?;
    // CAST: u32 fits usize on 64-bit.
    if text.bytes().len() > held.limits.job_size as usize {
        held.tube_dropped(tube);
        return Err(Full::Job(held.limits.job_size));
    }
    let new = New {
        id: held.new_id(),
        tube,
        pri: REQUEST_PRI,
        delay: 0,
        ttr: REQUEST_TTR,
        body: text.take(),
    };
    let now = held.now();
    let put = held.put(new, now);
    held.tube_dropped(tube);
    put.map(|id| (id, exchange))
}

impl Service for Server {
    type Conn = Session;

    fn connected(&self, peer: &Addr, _: &mut Reply) -> Result<Session> {
        Ok(Session {
            worker: self.core.hold().join()?,
            dialect: Dialect::Unknown,
            phase: Phase::Line,
            address: peer.ipv4().map_or(0, u32::from_be_bytes),
        })
    }

    fn input(
        &self,
        session: &mut Session,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        match &mut session.phase {
            Phase::Line => self.line(session, data, out, turn),
            Phase::Body { .. } => self.body(session, data, out, turn),
            Phase::Skip { left, words } => {
                // CAST: usize fits u64, and what is not more than a usize fits one.
                let n = (*left).min(data.len() as u64);
                *left = left.saturating_sub(n);
                let n = n as usize;
                if *left > 0 {
                    return Consumed::take(n, 0);
                }
                out.push(words);
                session.phase = Phase::Line;
                Consumed::done(n)
            }
            Phase::SkipLine => self.skip_line(session, data, out),
        }
    }

    fn ended(&self, session: &mut Session, rest: &[u8], out: &mut Reply) {
        // A line without an end, as the original's clients send it.
        let line = matches!(session.phase, Phase::Line);
        if line && session.dialect != Dialect::Beanstalk && !beanstalk::is_command(rest) {
            let text = rest.split(|byte| *byte == 0).next().unwrap_or(&[]);
            let payload = match line_of(text) {
                Line::Request(payload) => payload,
                Line::Reply(exchange, payload) => {
                    // As above.
                    let _ = self.core.hold().exchange_answered(&exchange, payload);
                    return;
                }
                Line::Topic(TopicOrder::Publish(name, text)) => {
                    let mut held = self.core.hold();
                    let told = held.tube(name).map_or(0, |tube| held.tell(tube, text));
                    // CAST: usize fits u64.
                    return crate::text::line(out, b"PUBLISHED ", told as u64);
                }
                // For the connection that ends with it.
                Line::Topic(_) | Line::Nothing => return,
            };
            // The connection ends with this: that it is kept cannot be waited for.
            match put_request(&mut self.core.hold(), session.address, payload) {
                Ok((id, exchange)) => text_or(out, queued(id, &exchange)),
                Err(why) => full_text(why, out),
            }
        }
    }

    fn hangup(&self, session: &mut Session) {
        self.core.hold().wake(session.worker, b"TIMED_OUT\r\n");
    }

    fn closed(&self, session: Session, _: Closed) {
        let mut held = self.core.hold();
        held.leave(session.worker, monotonic_ns());
    }
}
