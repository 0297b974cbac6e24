// SPDX-License-Identifier: GPL-2.0-only

//! The one TCP listener that all VIRGO ports share.
//!
//! A [`Service`] is what a port does; [`Listener::new`] puts it on an address.
//! Dropping the [`Listener`] closes the port and every connection and waits
//! until nothing of it runs any more: `rmmod` under load is a normal operation.
//!
//! How it works, and what it costs, is told in doc/listener.md; in short:
//! socket callbacks put a connection on the ready list of the CPU they run on,
//! one worker a CPU takes from it in turn, at most [`BUDGET`] requests a turn,
//! and all answers of a turn leave in one send. A service that never sleeps
//! says [`Service::ATOMIC`], and is then run in the softirq that brought the
//! request, without waking any thread.
//!
//! ```ignore
//! struct Echo;
//! impl Service for Echo {
//!     type Conn = ();
//!     fn connected(&self, _: &Addr, _: &mut Reply) -> Result { Ok(()) }
//!     fn input(&self, _: &mut (), data: &[u8], out: &mut Reply, _: &Turn<'_, Self>) -> Consumed {
//!         match data.iter().position(|b| *b == b'\n') {
//!             Some(end) => { out.push(&data[..=end]); Consumed::done(end + 1) }
//!             None => Consumed::more(),
//!         }
//!     }
//! }
//! let listener = Listener::new(Config::new(c"virgo-echo", 7777), Arc::new(Echo, GFP_KERNEL)?)?;
//! ```

mod inbox;
mod ready;
mod reply;
mod sock;

pub use self::reply::{Bytes, Reply};
#[allow(unused_imports, reason = "each module uses a part")]
pub use self::sock::{Addr, Half, TcpStream};

use self::inbox::Inbox;
use self::ready::{bury, jiffies, Context, Drains, Hook, Scratch, Verdict, CHUNK};
use self::reply::{Batch, Piece};
use self::sock::{errno, Saved, Socket, ENDING};
use super::bandwidth;
use super::compat::emsgsize;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr::NonNull;
use kernel::alloc::flags::GFP_ATOMIC;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{Arc, Completion, Mutex};
use kernel::time::{delay::fsleep, msecs_to_jiffies, Delta};
use kernel::types::Opaque;

/// The most requests one connection is served before the others' turn.
pub const BUDGET: usize = 64;

/// Connections taken from the accept queue before the others' turn.
const ACCEPT_BUDGET: usize = 64;

/// How long a connection that we closed is kept to hear the peer's end, so that
/// what it had under way does not reset the connection under our last answer.
const LINGER_MS: u32 = 2000;

/// How long a turn waits at most for `MaxNetworkBandwidth` before it looks about.
const METER_NS: u64 = 5_000_000;

/// The most bytes such a connection is listened to.
const LINGER_BYTES: usize = 4 << 20;

/// Limits and timeouts; each has a bound of its own.
#[derive(Clone)]
pub struct Config {
    /// What `ps` and the kernel's messages call the workers. At most 15 bytes show.
    pub name: &'static CStr,
    /// Where to listen: 127.0.0.1 unless told.
    pub addr: Addr,
    /// Connections waiting to be accepted.
    pub backlog: u16,
    /// More connections than this get [`Refusal::Connections`].
    pub max_connections: u32,
    /// A request which is longer than this, and which the service can't take
    /// in part, gets [`Refusal::Frame`].
    pub max_frame: usize,
    /// Answers not yet taken by the socket; past it the connection closes.
    pub reply_cap: usize,
    /// Bytes the kernel keeps on the way to the peer; 0: the system's tuning.
    pub send_buffer: u32,
    /// No request for this long: [`Refusal::Idle`]. 0: never.
    pub idle_ms: u32,
    /// The peer takes nothing for this long: closed. 0: never.
    pub send_ms: u32,
    /// Workers of high priority: an answer sooner where one client waits for it,
    /// and dearer where many do (each request then takes the CPU from whoever
    /// sends the next). See doc/listener.md for the figures.
    pub highpri: bool,
    /// Serve in softirq what [`Service::ATOMIC`] allows.
    pub softirq: bool,
    /// What is heard and said counts for `MaxNetworkBandwidth`, and waits for it.
    pub metered: bool,
}

impl Config {
    /// The defaults, on 127.0.0.1.
    pub const fn new(name: &'static CStr, port: u16) -> Self {
        Self {
            name,
            addr: Addr::loopback(port),
            backlog: 1024,
            max_connections: 1024,
            max_frame: 64 << 10,
            reply_cap: 4 << 20,
            send_buffer: 256 << 10,
            idle_ms: 300_000,
            send_ms: 30_000,
            highpri: false,
            softirq: true,
            metered: true,
        }
    }
}

/// Why a connection is turned away, for the service to word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are this many connections already.
    Connections(u32),
    /// A request longer than this many bytes.
    Frame(usize),
    /// More bytes of answers than this wait for the peer.
    Reply(usize),
    /// No request for this many milliseconds.
    Idle(u32),
}

/// Why a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The peer closed, or the connection broke.
    Peer,
    /// The service said so.
    Service,
    /// Turned away.
    Refused(Refusal),
    /// The peer took no answers for too long.
    SendTimeout,
    /// The listener is going.
    Stopped,
}

/// What [`Service::input`] did with the bytes it saw.
#[must_use]
pub struct Consumed {
    bytes: usize,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    More(usize),
    Close,
    Pause,
    Sleep,
}

impl Consumed {
    /// One request of `bytes` bytes is done with; go on with what follows it.
    pub const fn done(bytes: usize) -> Self {
        let then = Then::Next;
        Self { bytes, then }
    }

    /// The request is not complete; nothing was taken.
    pub const fn more() -> Self {
        Self::take(0, 0)
    }

    /// As [`more`](Self::more), and it will be `total` bytes in all.
    pub const fn need(total: usize) -> Self {
        Self::take(0, total)
    }

    /// The first `bytes` are taken, though the request is not complete; of the
    /// rest `total` bytes are wanted at once (0: whatever comes).
    pub const fn take(bytes: usize, total: usize) -> Self {
        let then = Then::More(total);
        Self { bytes, then }
    }

    /// `bytes` are done with; close after the answers are sent.
    pub const fn close(bytes: usize) -> Self {
        let then = Then::Close;
        Self { bytes, then }
    }

    /// `bytes` are done with; show nothing more until the [`Responder`] taken
    /// from this turn has answered or is gone. Keeps answers in order.
    pub const fn pause(bytes: usize) -> Self {
        let then = Then::Pause;
        Self { bytes, then }
    }

    /// `bytes` are done with; show the rest again where sleeping is allowed.
    /// Only in a turn that may not sleep.
    pub const fn sleep(bytes: usize) -> Self {
        let then = Then::Sleep;
        Self { bytes, then }
    }
}

/// Has `text` served as if a connection had sent it and ended, for requests that come by another
/// door: `input` is [`Service::input`] in process context. What is answered, at most `limit`
/// bytes.
///
/// `EMSGSIZE` past the limit, also where there is no memory; `EINVAL` where a part of `text` is
/// left over, or closes the connection.
pub fn answer_to(
    text: &[u8],
    limit: usize,
    mut input: impl FnMut(&[u8], &mut Reply) -> Consumed,
) -> Result<KVVec<u8>> {
    let mut out = Reply::new(limit);
    let mut rest = text;
    while !rest.is_empty() {
        let Consumed { bytes, then } = input(rest, &mut out);
        rest = rest.get(bytes..).ok_or(EINVAL)?;
        if out.is_void() {
            return Err(emsgsize());
        }
        let goes_on = match then {
            Then::Next => true,
            Then::More(_) => bytes > 0,
            Then::Close | Then::Pause | Then::Sleep => false,
        };
        if !goes_on {
            break;
        }
    }
    if !rest.is_empty() {
        return Err(EINVAL);
    }
    out.into_vec()
}

/// What a port does.
///
/// The listener calls `input` for one connection never twice at once, so the
/// connection's state needs no lock; `self` is shared by all of them.
pub trait Service: Send + Sync + Sized + 'static {
    /// What is kept for each connection.
    type Conn: Send + 'static;

    /// `input` never sleeps: no mutex, no `GFP_KERNEL`, no file, no user memory.
    /// Where one request must, it answers [`Consumed::sleep`] to a turn that
    /// [may not](Turn::may_sleep). What it shares with process context it must
    /// guard with locks that keep softirqs out.
    const ATOMIC: bool = false;

    /// A connection came. What is put in `out` greets it. An error closes it.
    ///
    /// Process context; may sleep.
    fn connected(&self, peer: &Addr, out: &mut Reply) -> Result<Self::Conn>;

    /// Bytes came: take at most one request from the front of `data`, which
    /// is never empty. Which protocol it is, the service sees for itself.
    ///
    /// Process context and may sleep, unless [`ATOMIC`](Self::ATOMIC) and
    /// [`Turn::may_sleep`] says no. To sleep for long here holds up the other
    /// connections of this CPU: use a [`Responder`].
    fn input(
        &self,
        conn: &mut Self::Conn,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed;

    /// Where the next bytes go, and how many at most, if not to [`input`](Self::input): the rest of
    /// a long request, which is then not copied. Asked only when `input` has left nothing.
    ///
    /// Process context; may sleep.
    fn sink<'a>(&self, _conn: &'a mut Self::Conn) -> Option<(&'a mut KVVec<u8>, usize)> {
        None
    }

    /// Bytes went where [`sink`](Self::sink) said. As `input`, which it replaces for these.
    fn poured(&self, _conn: &mut Self::Conn, _out: &mut Reply, _turn: &Turn<'_, Self>) -> Consumed {
        Consumed::done(0)
    }

    /// The peer has sent its last; `rest` is what `input` did not take.
    ///
    /// Process context; may sleep.
    fn ended(&self, _conn: &mut Self::Conn, _rest: &[u8], _out: &mut Reply) {}

    /// The peer has ended its half, or the connection broke, while it was paused: whoever holds the
    /// [`Responder`] may give up. An answer still goes out where it can.
    ///
    /// Process context; may sleep.
    fn hangup(&self, _conn: &mut Self::Conn) {}

    /// The words a connection is turned away with; names the bound.
    ///
    /// Any context `input` is called in.
    fn refused(&self, why: Refusal, out: &mut Reply) {
        use core::fmt::Write;
        // A reply out of room closes the connection: nothing else to do.
        let _ = match why {
            Refusal::Connections(n) => write!(out, "ERR connections limit of {n} reached\r\n"),
            Refusal::Frame(n) => write!(out, "ERR request longer than {n} bytes\r\n"),
            Refusal::Reply(n) => write!(out, "ERR reply longer than {n} bytes\r\n"),
            Refusal::Idle(ms) => write!(out, "ERR idle for {ms} ms\r\n"),
        };
    }

    /// The connection is gone.
    ///
    /// Process context; may sleep.
    fn closed(&self, _conn: Self::Conn, _why: Closed) {}
}

/// What a call of [`Service::input`] may know and do.
pub struct Turn<'a, S: Service> {
    conn: &'a Arc<Conn<S>>,
    context: Context,
}

impl<S: Service> Turn<'_, S> {
    /// False in softirq; see [`Service::ATOMIC`].
    pub fn may_sleep(&self) -> bool {
        self.context == Context::Process
    }

    /// For the answer to a request which takes long; see [`Consumed::pause`].
    pub fn responder(&self) -> Responder<S> {
        Responder(self.conn.clone())
    }

    /// For telling the peer things it did not ask for.
    pub fn notifier(&self) -> Notifier<S> {
        Notifier(self.conn.clone())
    }
}

/// The answer that is still to come.
///
/// Keeps the connection's memory, not the connection: that may close, or the
/// listener go, at any time, and answering is then nothing. Dropped without an
/// answer, the connection goes on without one.
pub struct Responder<S: Service>(Arc<Conn<S>>);

impl<S: Service> Responder<S> {
    /// Answers. From any thread; sleeps for memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the connection is closed then, as answers would be out of step.
    pub fn answer(self, data: KVVec<u8>) -> Result {
        self.post(Piece::Owned(data))
    }

    /// As [`answer`](Self::answer), with bytes someone else holds too.
    pub fn answer_shared(self, data: Arc<dyn Bytes>) -> Result {
        self.post(Piece::Shared(data))
    }

    fn post(self, piece: Piece) -> Result {
        self.0.post(piece, true).inspect_err(|_| {
            self.0.set(CLOSE);
        })
    }
}

impl<S: Service> Drop for Responder<S> {
    fn drop(&mut self) {
        self.0.set(RESUME);
        self.0.hook.kick();
    }
}

/// A way to a connection, for as long as it is there.
pub struct Notifier<S: Service>(Arc<Conn<S>>);

impl<S: Service> Notifier<S> {
    /// Sends without being asked, between two answers. Any thread; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOBUFS`: [`Config::reply_cap`] bytes wait already. `ENOMEM`.
    pub fn send(&self, data: KVVec<u8>) -> Result {
        self.0.post(Piece::Owned(data), false)
    }

    /// Closes the connection, after what is on its way.
    pub fn close(&self) {
        self.0.set(CLOSE);
        self.0.hook.kick();
    }
}

impl<S: Service> Clone for Notifier<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A responder is done.
const RESUME: u32 = 1;
/// The deadline is over.
const OVERDUE: u32 = 2;
/// Someone wants it closed.
const CLOSE: u32 = 4;

/// One connection.
///
/// # Invariants
///
/// - `inner` is touched only by the run of `hook`, or before the hook is opened.
/// - While the hook is not DEAD the slab holds a reference.
#[repr(C)]
struct Conn<S: Service> {
    /// First: a pointer to the hook is one to the connection.
    hook: Hook,
    flags: Atomic<u32>,
    /// In jiffies; 0: none.
    deadline: Atomic<usize>,
    late: Inbox<Piece>,
    late_bytes: Atomic<usize>,
    cap: usize,
    inner: UnsafeCell<Inner<S>>,
}

// SAFETY: By the first invariant `inner` has one user at a time, and what it
// holds is `Send`; the other fields are for sharing.
unsafe impl<S: Service> Send for Conn<S> {}
// SAFETY: As above.
unsafe impl<S: Service> Sync for Conn<S> {}

struct Inner<S: Service> {
    /// `None` once closed.
    live: Option<Live<S>>,
    /// What came and was not taken, from `pos` on.
    input: KVVec<u8>,
    pos: usize,
    /// What the service wants to see at once.
    want: usize,
    out: Reply,
    paused: bool,
    /// The service has been told that the peer went during this pause.
    hung: bool,
    ended: bool,
    closing: Option<Closed>,
    /// We have sent our last, and wait for the peer's; bytes heard so far.
    lingering: Option<usize>,
}

struct Live<S: Service> {
    shared: Arc<Shared<S>>,
    slot: usize,
    sock: Socket,
    saved: Saved,
    state: S::Conn,
}

/// Why [`parse`] stopped.
#[derive(PartialEq, Eq)]
enum Stop {
    Starved,
    Budget,
    Blocked,
    Broken,
    Pause,
    Close,
    Sleep,
}

impl<S: Service> Conn<S> {
    fn set(&self, flag: u32) {
        let mut seen = self.flags.load(Relaxed);
        // Full: what was posted before the flag is seen with it.
        while let Err(now) = self.flags.cmpxchg(seen, seen | flag, Full) {
            seen = now;
        }
    }

    fn post(&self, data: Piece, answer: bool) -> Result {
        let n = data.len();
        let waiting = self.late_bytes.fetch_add(n, Relaxed);
        let full = !answer && waiting.saturating_add(n) > self.cap;
        let posted = if full {
            Err(errno(bindings::ENOBUFS))
        } else {
            self.late.push(data, GFP_KERNEL)
        };
        match posted {
            Ok(()) => self.hook.kick(),
            Err(_) => {
                self.late_bytes.fetch_sub(n, Relaxed);
            }
        }
        posted
    }

    /// # Safety
    ///
    /// Called by the ready list's worker, which owns the run; `ptr` is the hook
    /// of a `Conn<S>` that the slab holds.
    unsafe fn run(ptr: NonNull<Hook>, scratch: &mut Scratch, context: Context) -> Verdict {
        let raw = ptr.as_ptr().cast::<Conn<S>>();
        // SAFETY: The slab's reference keeps it (the hook is not DEAD); this is one
        // more, which is not given up here.
        let conn = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(raw.cast_const()) });
        // SAFETY: The run is ours: by the invariant nobody else touches it.
        let inner = unsafe { &mut *conn.inner.get() };
        match inner.turn(&conn, scratch, context) {
            Ok(verdict) => {
                inner.out.give_back(&mut scratch.reply);
                verdict
            }
            Err(why) => {
                inner.out.give_back(&mut scratch.reply);
                inner.finish(&conn, why)
            }
        }
    }
}

/// Shows `data` to the service, request by request, until something stops it.
fn parse<S: Service>(
    live: &mut Live<S>,
    data: &[u8],
    out: &mut Reply,
    want: &mut usize,
    turn: &Turn<'_, S>,
    budget: &mut usize,
    sent: &mut usize,
) -> (usize, Stop) {
    let mut pos = 0;
    loop {
        let rest = match data.get(pos..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => return (pos, Stop::Starved),
        };
        if *budget == 0 {
            return (pos, Stop::Budget);
        }
        if out.len() >= CHUNK {
            match flush(&live.sock, out, turn.context, sent) {
                Ok(true) => {}
                Ok(false) => return (pos, Stop::Blocked),
                Err(_) => return (pos, Stop::Broken),
            }
        }
        *budget -= 1; // OVERFLOW: not zero, see above.
        let did = live.shared.service.input(&mut live.state, rest, out, turn);
        let bytes = did.bytes.min(rest.len());
        pos += bytes; // OVERFLOW: within `data`.
        let stop = match did.then {
            _ if out.is_void() => Stop::Close,
            // Nothing taken is nothing done.
            Then::Next if bytes > 0 => continue,
            Then::Next => Stop::Starved,
            Then::More(total) => {
                *want = total;
                Stop::Starved
            }
            Then::Close => Stop::Close,
            Then::Pause => Stop::Pause,
            // Where it can sleep already, it just goes to the end of the line.
            Then::Sleep if turn.may_sleep() => Stop::Budget,
            Then::Sleep => Stop::Sleep,
        };
        return (pos, stop);
    }
}

fn flush(sock: &Socket, out: &mut Reply, context: Context, sent: &mut usize) -> Result<bool> {
    out.flush(|batch| {
        let n = match (batch, context) {
            (Batch::Pieces(pieces), Context::Process) => sock.send(pieces, false),
            (Batch::Pieces(pieces), Context::Softirq) => sock.send_bh(pieces),
            (Batch::Message(message, from), Context::Process) => sock.send_message(message, from),
            (Batch::Message(message, from), Context::Softirq) => {
                sock.send_bh(&[message.bytes().get(from..).unwrap_or(&[])])
            }
        }?;
        *sent = sent.saturating_add(n);
        Ok(n)
    })
}

impl<S: Service> Inner<S> {
    fn unread(&self) -> usize {
        self.input.len().saturating_sub(self.pos)
    }

    /// Keeps what of `data` was not taken.
    fn stash(&mut self, data: &[u8], context: Context) -> Result {
        if data.is_empty() {
            return Ok(());
        }
        let flags = match context {
            Context::Process => GFP_KERNEL,
            Context::Softirq => GFP_ATOMIC,
        };
        self.pos = 0;
        Ok(self.input.extend_from_slice(data, flags)?)
    }

    /// Makes room behind what is kept, for at least one byte more.
    fn room(&mut self, max: usize) -> Result<usize> {
        if self.pos > 0 {
            let pos = self.pos;
            let rest = self.unread();
            self.input.as_mut_slice().copy_within(pos.., 0);
            self.input.truncate(rest);
            self.pos = 0;
        }
        let len = self.input.len();
        let most = max.max(len.saturating_add(1));
        let goal = self.want.max(len.saturating_mul(2)).max(4096).min(most);
        let room = goal.saturating_sub(len).max(1);
        self.input.reserve(room, GFP_KERNEL)?;
        Ok(room)
    }

    /// One turn. An error is why the connection ends here and now.
    fn turn(
        &mut self,
        conn: &Arc<Conn<S>>,
        scratch: &mut Scratch,
        context: Context,
    ) -> Result<Verdict, Closed> {
        let Some(live) = self.live.as_mut() else {
            return Ok(Verdict::Idle);
        };
        let shared = live.shared.clone();
        let softirq = context == Context::Softirq;
        // Acquire: with `stopping` comes all that led to it.
        let stopping = shared.stopping.load(Acquire);
        let odd = conn.flags.load(Relaxed) != 0 || self.closing.is_some() || self.ended || stopping;
        if softirq && (odd || !self.input.is_empty()) {
            return Ok(Verdict::Slow);
        }
        if stopping {
            return Err(Closed::Stopped);
        }
        if shared.config.metered {
            let debt = bandwidth::take(0);
            if debt > 0 {
                // Whoever asks meanwhile would have to wait as well.
                if softirq {
                    return Ok(Verdict::Slow);
                }
                let wait = i64::try_from(debt.min(METER_NS)).unwrap_or(0);
                fsleep(Delta::from_nanos(wait));
                return Ok(Verdict::Again);
            }
        }
        let now = jiffies();
        if odd {
            // Full: with a flag comes what was posted before it.
            let flags = conn.flags.xchg(0, Full);
            if flags & RESUME != 0 {
                self.paused = false;
                self.hung = false;
            }
            if flags & CLOSE != 0 && self.closing.is_none() {
                self.closing = Some(Closed::Service);
            }
            if flags & OVERDUE != 0 {
                self.overdue(&shared, conn, now)?;
            }
        }
        if self.lingering.is_some() {
            return self.linger(scratch);
        }
        self.out
            .set_flags(if softirq { GFP_ATOMIC } else { GFP_KERNEL });
        self.out.lend(&mut scratch.reply);
        if !conn.late.is_empty() {
            conn.late.take(|data| {
                conn.late_bytes.fetch_sub(data.len(), Relaxed);
                self.out.push_piece(data);
            });
        }

        let turn = Turn { conn, context };
        let mut budget = BUDGET;
        let mut sent = 0;
        let mut heard = 0usize;
        let mut ending = false;
        // Answers that wait go first, and nothing is read before they are gone.
        let mut stop = Stop::Starved;
        if !self.out.is_empty() && (self.out.len() >= CHUNK || self.closing.is_some()) {
            let Some(live) = self.live.as_ref() else {
                return Ok(Verdict::Idle);
            };
            stop = match flush(&live.sock, &mut self.out, context, &mut sent) {
                Ok(true) => Stop::Starved,
                Ok(false) => Stop::Blocked,
                Err(_) => return Err(Closed::Peer),
            };
        }
        let mut dry = self.ended || self.closing.is_some();
        if self.paused && stop == Stop::Starved {
            stop = Stop::Pause;
            if let Some(live) = self.live.as_mut().filter(|_| !self.hung) {
                if live.sock.ending() {
                    if softirq {
                        return Ok(Verdict::Slow);
                    }
                    self.hung = true;
                    shared.service.hangup(&mut live.state);
                }
            }
        }
        if self.closing.is_some() && stop == Stop::Starved {
            stop = Stop::Close;
        }
        while stop == Stop::Starved {
            let Some(live) = self.live.as_mut() else {
                return Ok(Verdict::Idle);
            };
            // What was kept from the last turn, or else what the worker's buffer holds.
            if !self.input.is_empty() {
                let data = self.input.get(self.pos..).unwrap_or(&[]);
                let (out, want) = (&mut self.out, &mut self.want);
                let (n, why) = parse(live, data, out, want, &turn, &mut budget, &mut sent);
                self.pos = self.pos.saturating_add(n);
                stop = why;
                if self.unread() == 0 {
                    self.input = KVVec::new();
                    self.pos = 0;
                }
            } else if !scratch.input.is_empty() {
                let (out, want) = (&mut self.out, &mut self.want);
                let data = scratch.input.as_slice();
                let (n, why) = parse(live, data, out, want, &turn, &mut budget, &mut sent);
                stop = why;
                let kept = self.stash(data.get(n..).unwrap_or(&[]), context);
                scratch.input.clear();
                if kept.is_err() {
                    stop = Stop::Broken;
                }
            }
            if stop != Stop::Starved {
                break;
            }
            if self.unread() >= shared.config.max_frame {
                shared.stats.frames.fetch_add(1, Relaxed);
                let why = Refusal::Frame(shared.config.max_frame);
                shared.service.refused(why, &mut self.out);
                self.closing = Some(Closed::Refused(why));
                break;
            }
            if dry {
                break;
            }
            let Some(live) = self.live.as_mut() else {
                return Ok(Verdict::Idle);
            };
            if !softirq && self.input.is_empty() {
                if let Some((buffer, want)) = shared.service.sink(&mut live.state) {
                    match live.sock.recv(buffer, want, false) {
                        Ok((0, status)) => {
                            dry = true;
                            ending = status & ENDING != 0;
                            self.ended = true;
                        }
                        Ok((n, status)) => {
                            heard = heard.saturating_add(n);
                            ending = status & ENDING != 0;
                            dry = n < want && !ending;
                            let did = shared.service.poured(&mut live.state, &mut self.out, &turn);
                            budget = budget.saturating_sub(1);
                            stop = match did.then {
                                _ if self.out.is_void() => Stop::Close,
                                Then::Close => Stop::Close,
                                Then::Pause => Stop::Pause,
                                _ if budget == 0 => Stop::Budget,
                                _ => Stop::Starved,
                            };
                        }
                        Err(e) if e == EAGAIN => dry = true,
                        Err(_) => return Err(Closed::Peer),
                    }
                    if dry {
                        break;
                    }
                    continue;
                }
            }
            let Some(live) = self.live.as_ref() else {
                return Ok(Verdict::Idle);
            };
            let (got, asked) = match context {
                Context::Softirq if !self.input.is_empty() => {
                    // A request in parts: process context can wait for memory.
                    stop = Stop::Sleep;
                    break;
                }
                Context::Softirq => (live.sock.recv_bh(&mut scratch.input, CHUNK), CHUNK),
                Context::Process if self.input.is_empty() => {
                    let room = scratch.input.reserve(CHUNK, GFP_KERNEL);
                    let got = room
                        .map_err(Error::from)
                        .and_then(|()| live.sock.recv(&mut scratch.input, CHUNK, false));
                    (got, CHUNK)
                }
                Context::Process => match self.room(shared.config.max_frame) {
                    Err(_) => return Err(Closed::Peer),
                    Ok(room) => match self.live.as_ref() {
                        Some(live) => (live.sock.recv(&mut self.input, room, false), room),
                        None => return Ok(Verdict::Idle),
                    },
                },
            };
            match got {
                Ok((0, status)) => {
                    dry = true;
                    ending = status & ENDING != 0;
                    self.ended = !softirq;
                }
                Ok((n, status)) => {
                    heard = heard.saturating_add(n);
                    ending = status & ENDING != 0;
                    // Fewer than asked for: more will make a new event.
                    dry = n < asked && (softirq || !ending);
                }
                Err(e) if e == EAGAIN => dry = true,
                Err(_) => return Err(Closed::Peer),
            }
            if softirq && got == Err(EAGAIN) {
                stop = Stop::Sleep;
            }
        }
        scratch.input.clear();
        let counts = &scratch.counts;
        counts.requests.add(BUDGET - budget); // OVERFLOW: the budget only shrinks.
        counts.bytes_in.add(heard);

        if stop == Stop::Broken {
            return Err(Closed::Peer);
        }
        if stop == Stop::Close && self.closing.is_none() {
            self.closing = Some(if self.out.is_void() {
                Closed::Refused(Refusal::Reply(shared.config.reply_cap))
            } else {
                Closed::Service
            });
        }
        self.paused |= stop == Stop::Pause;
        // The peer has said all, and so have we: the last word is the service's.
        let over = self.ended && stop == Stop::Starved && self.closing.is_none();
        if over {
            if let Some(live) = self.live.as_mut() {
                let rest = self.input.get(self.pos..).unwrap_or(&[]);
                shared.service.ended(&mut live.state, rest, &mut self.out);
            }
            self.closing = Some(Closed::Peer);
        }

        let Some(live) = self.live.as_ref() else {
            return Ok(Verdict::Idle);
        };
        let all = if self.out.is_empty() {
            true
        } else {
            match flush(&live.sock, &mut self.out, context, &mut sent) {
                Ok(all) => all,
                Err(e) if softirq && e == EBUSY => false,
                Err(_) => return Err(Closed::Peer),
            }
        };
        counts.bytes_out.add(sent);
        if shared.config.metered {
            bandwidth::take(heard.saturating_add(sent));
        }

        // How long may this state last?
        let config = &shared.jiffies;
        let wait = if !all {
            config.send
        } else if self.paused {
            0
        } else {
            config.idle
        };
        if heard > 0 || sent > 0 || !all {
            // A peer that takes something is not stuck.
            let stuck = !all && sent == 0 && heard == 0;
            if !(stuck && conn.deadline.load(Relaxed) != 0) {
                shared.deadline(conn, now, wait);
            }
        }
        if !all {
            // write_space tells when to go on.
            return Ok(Verdict::Idle);
        }
        if self.closing.is_some() {
            return if softirq {
                Ok(Verdict::Slow)
            } else {
                self.goodbye(&shared, conn, now)
            };
        }
        Ok(match stop {
            Stop::Budget | Stop::Blocked => Verdict::Again,
            Stop::Sleep => Verdict::Slow,
            _ if softirq && ending => Verdict::Slow,
            _ => Verdict::Idle,
        })
    }

    /// The deadline has passed, if nothing happened since it was looked at.
    fn overdue(
        &mut self,
        shared: &Arc<Shared<S>>,
        conn: &Arc<Conn<S>>,
        now: usize,
    ) -> Result<(), Closed> {
        let deadline = conn.deadline.load(Relaxed);
        if deadline == 0 || now < deadline {
            return Ok(());
        }
        if let (Some(why), Some(_)) = (self.closing, self.lingering) {
            return Err(why);
        }
        if !self.out.is_empty() {
            shared.stats.send_timeouts.fetch_add(1, Relaxed);
            return Err(Closed::SendTimeout);
        }
        if self.closing.is_none() && !self.paused {
            shared.stats.idle_timeouts.fetch_add(1, Relaxed);
            let why = Refusal::Idle(shared.config.idle_ms);
            shared.service.refused(why, &mut self.out);
            self.closing = Some(Closed::Refused(why));
        }
        Ok(())
    }

    /// All is said: end our half, and stay for the peer's end.
    fn goodbye(
        &mut self,
        shared: &Arc<Shared<S>>,
        conn: &Arc<Conn<S>>,
        now: usize,
    ) -> Result<Verdict, Closed> {
        let why = self.closing.unwrap_or(Closed::Service);
        let Some(live) = self.live.as_ref() else {
            return Ok(Verdict::Idle);
        };
        if self.ended || live.sock.shutdown(Half::Send).is_err() {
            return Err(why);
        }
        self.lingering = Some(0);
        self.input = KVVec::new();
        self.pos = 0;
        shared.deadline(conn, now, msecs_to_jiffies(LINGER_MS) as usize); // CAST: same width.
        Ok(Verdict::Again)
    }

    /// Hears the peer out, up to a bound.
    fn linger(&mut self, scratch: &mut Scratch) -> Result<Verdict, Closed> {
        let why = self.closing.unwrap_or(Closed::Service);
        let heard = self.lingering.unwrap_or(0);
        let Some(live) = self.live.as_ref() else {
            return Ok(Verdict::Idle);
        };
        scratch.input.clear();
        if scratch.input.reserve(CHUNK, GFP_KERNEL).is_err() {
            return Err(why);
        }
        let got = live.sock.recv(&mut scratch.input, CHUNK, false);
        scratch.input.clear();
        match got {
            Ok((n, _)) if n > 0 && heard < LINGER_BYTES => {
                self.lingering = Some(heard.saturating_add(n));
                Ok(Verdict::Again)
            }
            Err(e) if e == EAGAIN => Ok(Verdict::Idle),
            _ => Err(why),
        }
    }

    /// Takes the connection down: callbacks first, memory last.
    fn finish(&mut self, conn: &Arc<Conn<S>>, why: Closed) -> Verdict {
        let Some(live) = self.live.take() else {
            return Verdict::Dead;
        };
        let Live {
            shared,
            slot,
            sock,
            saved,
            state,
        } = live;
        // SAFETY: `saved` is of this socket's own attach.
        unsafe { sock.detach(&saved) };
        shared.service.closed(state, why);
        drop(sock);
        self.input = KVVec::new();
        self.out = Reply::new(0);
        bury(&conn.hook);
        // Its reference may be the last: `conn` and `self` are gone after this.
        let last = shared.remove(slot);
        drop(last);
        Verdict::Dead
    }
}

/// All connections, by slot.
struct Slab<S: Service> {
    conns: KVVec<Option<Arc<Conn<S>>>>,
    free: KVVec<usize>,
    live: u32,
    /// Nobody new comes; the last to go says so.
    draining: bool,
}

/// Numbers since the start, but `active`.
#[derive(Clone, Copy, Default)]
pub struct Stats {
    /// Connections now.
    pub active: u64,
    /// Connections taken.
    pub accepted: u64,
    /// Connections turned away, as there were too many or the service said so.
    pub refused: u64,
    /// Requests longer than allowed.
    pub frames: u64,
    /// Connections closed for asking nothing.
    pub idle_timeouts: u64,
    /// Connections closed for taking nothing.
    pub send_timeouts: u64,
    /// Calls of [`Service::input`].
    pub requests: u64,
    /// Bytes from peers.
    pub bytes_in: u64,
    /// Bytes to peers.
    pub bytes_out: u64,
    /// Times a worker was woken.
    pub wakeups: u64,
    /// Times the timer looked for what is overdue.
    pub sweeps: u64,
}

#[derive(Default)]
struct Counters {
    accepted: Num,
    refused: Num,
    frames: Num,
    idle_timeouts: Num,
    send_timeouts: Num,
    sweeps: Num,
}

/// An atomic counter that starts at nothing.
struct Num(Atomic<i64>);

impl Default for Num {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl core::ops::Deref for Num {
    type Target = Atomic<i64>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Num {
    fn get(&self) -> u64 {
        self.0.load(Relaxed).unsigned_abs()
    }
}

/// Timeouts in jiffies.
struct Jiffies {
    idle: usize,
    send: usize,
}

/// What the listener, its acceptor, its timer and its connections share.
///
/// # Invariants
///
/// `door` is touched only by the run of `hook`, or before the hook is opened.
#[pin_data]
#[repr(C)]
struct Shared<S: Service> {
    /// The acceptor's. First: a pointer to the hook is one to all this.
    hook: Hook,
    service: Arc<S>,
    config: Config,
    jiffies: Jiffies,
    stopping: Atomic<bool>,
    /// `accept` ran out of memory: the timer tries again.
    retry: Atomic<bool>,
    next_sweep: Atomic<usize>,
    stats: Counters,
    door: UnsafeCell<Option<(Socket, Saved)>>,
    #[pin]
    slab: Mutex<Slab<S>>,
    #[pin]
    closed: Completion,
    #[pin]
    empty: Completion,
    #[pin]
    sweep: Opaque<bindings::delayed_work>,
    /// Boxed, so that hooks can point at it before all this is in place.
    drains: KBox<Drains>,
}

// SAFETY: By the invariant `door` has one user at a time; the service is
// `Send + Sync`, the connections are, and the rest is for sharing.
unsafe impl<S: Service> Send for Shared<S> {}
// SAFETY: As above.
unsafe impl<S: Service> Sync for Shared<S> {}

impl<S: Service> Shared<S> {
    /// Sets a connection's deadline `wait` jiffies from `now` (0: none).
    fn deadline(&self, conn: &Conn<S>, now: usize, wait: usize) {
        let old = conn.deadline.load(Relaxed);
        let new = if wait == 0 {
            0
        } else {
            now.saturating_add(wait)
        };
        if new == old {
            return;
        }
        // Relaxed: the timer looks again, and the run that it kicks compares anew.
        conn.deadline.store(new, Relaxed);
        // A later one needs nothing: the timer that is set for the earlier looks again.
        if new != 0 && (old == 0 || new < old) {
            self.sweep_by(now, new);
        }
    }

    /// Has the timer look at `at` or before, give or take a sixteenth.
    fn sweep_by(&self, now: usize, at: usize) {
        let wait = at.saturating_sub(now);
        let at = at.saturating_add(wait / 16).saturating_add(1);
        let mut next = self.next_sweep.load(Relaxed);
        while at < next {
            match self.next_sweep.cmpxchg(next, at, Full) {
                Ok(_) => {
                    let delay = at.saturating_sub(now);
                    // SAFETY: Queue and work item are live until `Listener::drop` has
                    // disabled the work item; queueing a disabled one does nothing.
                    unsafe {
                        bindings::mod_delayed_work_on(
                            bindings::wq_misc_consts_WORK_CPU_UNBOUND as i32, // CAST: a small constant.
                            self.drains.queue().as_ptr(),
                            self.sweep.get(),
                            delay,
                        )
                    };
                    return;
                }
                Err(now) => next = now,
            }
        }
    }

    unsafe extern "C" fn sweep(work: *mut bindings::work_struct) {
        let offset = offset_of!(Self, sweep) + offset_of!(bindings::delayed_work, work);
        // SAFETY: Only `Listener::new` sets this function, for the `sweep` of a
        // `Shared<S>`, which lives until `Listener::drop` has waited for us.
        let this = unsafe { &*work.cast::<u8>().sub(offset).cast::<Self>() };
        this.stats.sweeps.fetch_add(1, Relaxed);
        // Full, before the look: who sets a deadline from here on sets the timer too.
        this.next_sweep.xchg(usize::MAX, Full);
        let now = jiffies();
        let mut next = 0;
        let slab = this.slab.lock();
        for conn in slab.conns.iter().flatten() {
            let deadline = conn.deadline.load(Relaxed);
            if deadline == 0 {
                continue;
            }
            if deadline <= now {
                conn.set(OVERDUE);
                conn.hook.kick();
            } else if next == 0 || deadline < next {
                next = deadline;
            }
        }
        drop(slab);
        if next != 0 {
            this.sweep_by(now, next);
        }
        if this.retry.xchg(false, Full) {
            this.hook.kick();
        }
    }

    /// # Safety
    ///
    /// Called by the ready list's worker, which owns the run; `ptr` is the hook
    /// of a `Shared<S>` whose listener still waits for `closed`.
    unsafe fn run(ptr: NonNull<Hook>, _: &mut Scratch, _: Context) -> Verdict {
        // SAFETY: `Listener` keeps a reference until `closed` is complete, which
        // only happens here.
        let this = core::mem::ManuallyDrop::new(unsafe {
            Arc::from_raw(ptr.as_ptr().cast::<Self>().cast_const())
        });
        // SAFETY: The run is ours: by the invariant nobody else touches it.
        let door = unsafe { &mut *this.door.get() };
        // Acquire: see `Inner::turn`.
        if this.stopping.load(Acquire) {
            if let Some((sock, saved)) = door.take() {
                // SAFETY: `saved` is of this socket's own attach.
                unsafe { sock.detach(&saved) };
            }
            bury(&this.hook);
            // From here on nothing of `this` may be touched.
            this.closed.complete_all();
            return Verdict::Dead;
        }
        let Some((sock, saved)) = door.as_ref() else {
            return Verdict::Idle;
        };
        for _ in 0..ACCEPT_BUDGET {
            match sock.accept(this.config.send_buffer) {
                Ok((conn, peer)) => {
                    if this.admit(conn, saved, &peer).is_err() {
                        this.stats.refused.fetch_add(1, Relaxed);
                    }
                }
                Err(e) if e == EAGAIN => return Verdict::Idle,
                Err(e) if e == ENOMEM || e == errno(bindings::ENOBUFS) || e == ENFILE => {
                    this.retry.store(true, Release);
                    let now = jiffies();
                    this.sweep_by(now, now.saturating_add(msecs_to_jiffies(100) as usize)); // CAST: same width.
                    return Verdict::Idle;
                }
                // Gone before it was taken: the next.
                Err(_) => {}
            }
        }
        Verdict::Again
    }

    /// Makes a connection of an accepted socket. An error: it is turned away.
    fn admit(self: &ManuallyArc<Self>, sock: Socket, listener: &Saved, peer: &Addr) -> Result {
        let mut out = Reply::new(self.config.reply_cap);
        if self.slab.lock().live >= self.config.max_connections {
            let why = Refusal::Connections(self.config.max_connections);
            self.service.refused(why, &mut out);
            // What fits; then our end, so that the peer hears it and not a reset.
            let mut sent = 0;
            let _ = flush(&sock, &mut out, Context::Process, &mut sent);
            let _ = sock.shutdown(Half::Send);
            let mut waste = KVVec::with_capacity(4096, GFP_KERNEL)?;
            let _ = sock.recv(&mut waste, 4096, false);
            return Err(EBUSY);
        }
        let state = self.service.connected(peer, &mut out)?;
        // SAFETY: `Conn::run` may be called while the hook is not dead: the slab
        // holds the connection till then. The drains live as long as `Shared`.
        let hook = unsafe {
            Hook::new(
                NonNull::from(&*self.drains),
                Conn::<S>::run,
                S::ATOMIC && self.config.softirq,
            )
        };
        // INVARIANT: The hook is not opened.
        let conn = Arc::new(
            Conn {
                hook,
                flags: Atomic::new(0),
                deadline: Atomic::new(0),
                late: Inbox::new(),
                late_bytes: Atomic::new(0),
                cap: self.config.reply_cap,
                inner: UnsafeCell::new(Inner {
                    live: None,
                    input: KVVec::new(),
                    pos: 0,
                    want: 0,
                    out,
                    paused: false,
                    hung: false,
                    ended: false,
                    closing: None,
                    lingering: None,
                }),
            },
            GFP_KERNEL,
        )?;
        let slot = {
            let mut slab = self.slab.lock();
            let slot = match slab.free.pop() {
                Some(slot) => slot,
                None => {
                    let slot = slab.conns.len();
                    // Room for its return, so that going never needs memory.
                    slab.free.reserve(slot.saturating_add(1), GFP_KERNEL)?;
                    slab.conns.push(None, GFP_KERNEL)?;
                    slot
                }
            };
            if let Some(place) = slab.conns.get_mut(slot) {
                *place = Some(conn.clone());
            }
            slab.live = slab.live.saturating_add(1);
            slot
        };
        // SAFETY: The connection is in the slab until `finish`, which detaches first.
        let saved = unsafe { sock.attach(conn.hook.as_raw(), listener) };
        // SAFETY: The hook is not opened, so `inner` is still ours.
        unsafe { &mut *conn.inner.get() }.live = Some(Live {
            shared: (**self).clone(),
            slot,
            sock,
            saved,
            state,
        });
        self.stats.accepted.fetch_add(1, Relaxed);
        self.deadline(&conn, jiffies(), self.jiffies.idle);
        conn.hook.open();
        Ok(())
    }

    /// Takes a dead connection off the books.
    fn remove(&self, slot: usize) -> Option<Arc<Conn<S>>> {
        let mut slab = self.slab.lock();
        let conn = slab.conns.get_mut(slot).and_then(Option::take);
        // `admit` made the room.
        let _ = slab.free.push(slot, GFP_KERNEL);
        slab.live = slab.live.saturating_sub(1);
        if slab.draining && slab.live == 0 {
            self.empty.complete_all();
        }
        conn
    }
}

/// An `Arc` which someone else owns.
type ManuallyArc<T> = core::mem::ManuallyDrop<Arc<T>>;

/// A service on a port.
///
/// Dropping it closes the port and all connections, and waits until no part
/// of it runs. It sleeps, and must not be dropped by the service itself.
pub struct Listener<S: Service> {
    shared: Arc<Shared<S>>,
    addr: Addr,
}

impl<S: Service> Listener<S> {
    /// Binds, listens, serves. Process context; sleeps.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` as bind(2); `ENOMEM`; `EINVAL`
    /// for a configuration that could serve nothing.
    pub fn new(config: Config, service: Arc<S>) -> Result<Self> {
        if config.max_connections == 0 || config.max_frame == 0 || config.reply_cap == 0 {
            return Err(EINVAL);
        }
        let softirq = S::ATOMIC && config.softirq;
        let sock = Socket::listen(&config.addr, i32::from(config.backlog))?;
        let addr = sock.local()?;
        let drains = KBox::new(
            Drains::new(config.name, config.highpri, softirq)?,
            GFP_KERNEL,
        )?;
        // SAFETY: `Shared::run` may be called while the hook is not dead: `drop`
        // waits for that. The drains live as long as `Shared`.
        let hook = unsafe { Hook::new(NonNull::from(&*drains), Shared::<S>::run, false) };
        let jiffies = Jiffies {
            idle: msecs_to_jiffies(config.idle_ms) as usize, // CAST: same width.
            send: msecs_to_jiffies(config.send_ms) as usize, // CAST: same width.
        };
        let shared = Arc::pin_init(
            // INVARIANT: The hook is not opened.
            pin_init!(Shared::<S> {
                hook,
                service,
                config,
                jiffies,
                stopping: Atomic::new(false),
                retry: Atomic::new(false),
                next_sweep: Atomic::new(usize::MAX),
                stats: Counters::default(),
                door: UnsafeCell::new(None),
                slab <- kernel::new_mutex!(Slab {
                    conns: KVVec::new(),
                    free: KVVec::new(),
                    live: 0,
                    draining: false,
                }),
                closed <- Completion::new(),
                empty <- Completion::new(),
                sweep <- Opaque::ffi_init(|slot: *mut bindings::delayed_work| {
                    // SAFETY: `slot` is where the work item stays, and nobody's yet.
                    unsafe {
                        bindings::init_work_with_key(
                            &raw mut (*slot).work,
                            Some(Shared::<S>::sweep),
                            false,
                            c"virgo_sweep".as_char_ptr(),
                            kernel::static_lock_class!().as_ptr(),
                        );
                        bindings::timer_init_key(
                            &raw mut (*slot).timer,
                            Some(bindings::delayed_work_timer_fn),
                            bindings::TIMER_IRQSAFE,
                            c"virgo_sweep".as_char_ptr(),
                            kernel::static_lock_class!().as_ptr(),
                        );
                    }
                }),
                drains,
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: `shared` stays until `drop` has seen the acceptor detach.
        let saved = unsafe { sock.attach_listener(shared.hook.as_raw()) };
        // SAFETY: The hook is not opened, so `door` is still ours.
        unsafe { *shared.door.get() = Some((sock, saved)) };
        shared.hook.open();
        Ok(Self { shared, addr })
    }

    /// Where it listens; the port the system chose, if it was asked for any.
    pub fn addr(&self) -> &Addr {
        &self.addr
    }

    /// The numbers; each is exact, together they are of slightly different times.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (drains, n) = (&shared.drains, &shared.stats);
        Stats {
            active: u64::from(shared.slab.lock().live),
            accepted: n.accepted.get(),
            refused: n.refused.get(),
            frames: n.frames.get(),
            idle_timeouts: n.idle_timeouts.get(),
            send_timeouts: n.send_timeouts.get(),
            sweeps: n.sweeps.get(),
            requests: drains.sum(|c| &c.requests),
            bytes_in: drains.sum(|c| &c.bytes_in),
            bytes_out: drains.sum(|c| &c.bytes_out),
            wakeups: drains.sum(|c| &c.runs),
        }
    }
}

impl<S: Service> Drop for Listener<S> {
    fn drop(&mut self) {
        let shared = &self.shared;
        // Release: pairs with the looks of the runs. Each hook is kicked after it,
        // so each has a run that sees it.
        shared.stopping.store(true, Release);
        // 1. Nobody new.
        shared.hook.kick();
        shared.closed.wait_for_completion();
        // 2. Nobody left: each closes itself in its own run.
        {
            let mut slab = shared.slab.lock();
            slab.draining = true;
            for conn in slab.conns.iter().flatten() {
                conn.hook.kick();
            }
            if slab.live == 0 {
                shared.empty.complete_all();
            }
        }
        shared.empty.wait_for_completion();
        // 3. No timer.
        // SAFETY: Initialised in `new`; process context.
        unsafe { bindings::disable_delayed_work_sync(shared.sweep.get()) };
        // 4. The workers have let go of what they held: after this only
        // responders hold anything, and that is memory.
        shared.drains.quiesce();
    }
}
