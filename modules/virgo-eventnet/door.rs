// SPDX-License-Identifier: GPL-2.0-only

//! The port: the original's two messages, a line each. doc/eventnet.md has the grammar.

use core::fmt::Write;

use kernel::{
    prelude::*,
    sync::{
        Arc,
        CondVar,
        Mutex, //
    }, //
};

use crate::{
    collector::Core,
    lib::{
        compat::enobufs,
        listener::{
            Addr,
            Consumed,
            Refusal,
            Reply,
            Responder,
            Service,
            Turn, //
        }, //
    },
    net::PENDING_MAX,
    proto::{
        eventnet::{
            parse,
            MESSAGE_MAX, //
        },
        lines::{
            line,
            Line, //
        }, //
    },
};

/// What the original answers to everything.
const UPDATED: &[u8] = b"EventNet updated\r\n";

/// What a caller of this machine waits for.
#[pin_data]
pub(crate) struct Outcome {
    #[pin]
    result: Mutex<Option<Result>>,
    #[pin]
    done: CondVar,
}

impl Outcome {
    /// Nothing has come out yet. `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Outcome {
                result <- kernel::new_mutex!(None, "virgo_eventnet_outcome"),
                done <- kernel::new_condvar!("virgo_eventnet_done"),
            }),
            GFP_KERNEL,
        )
    }

    /// Waits. `EINTR` if a signal comes first: whether it will be written is not known then.
    pub(crate) fn wait(&self) -> Result {
        let mut result = self.result.lock();
        loop {
            if let Some(result) = *result {
                return result;
            }
            if self.done.wait_interruptible(&mut result) {
                return Err(EINTR);
            }
        }
    }
}

/// Who is told what became of a message.
pub(crate) enum Answering {
    /// A connection.
    Port(Responder<Door>),
    /// A caller who waits.
    Caller(Arc<Outcome>),
}

/// The name of the errno of a write that failed, for people.
fn name(error: Error) -> &'static str {
    match error {
        error if error == ENOSPC => "ENOSPC",
        error if error == EFBIG => "EFBIG",
        error if error == ENOMEM => "ENOMEM",
        error if error == EROFS => "EROFS",
        error if error == ENODEV => "ENODEV",
        error if error == enobufs() => "ENOBUFS",
        _ => "EIO",
    }
}

fn words(error: Error) -> &'static str {
    match error {
        error if error == ENOSPC => "the disk is full, or the most names are known (max_names=)",
        error if error == EFBIG => "the journal has reached its limit (max_mb=)",
        error if error == ENOMEM => "the system has no memory left",
        error if error == ENODEV => "the module is being unloaded",
        error if error == enobufs() => "too many messages wait to be written",
        _ => "the journal cannot be written",
    }
}

impl Answering {
    /// Tells it. May sleep.
    pub(crate) fn tell(self, result: Result) {
        match self {
            Answering::Port(responder) => {
                let mut text = KVVec::new();
                let said = match result {
                    Ok(()) => text.extend_from_slice(UPDATED, GFP_KERNEL),
                    Err(error) => ["ERR ", name(error), " ", words(error), "\r\n"]
                        .iter()
                        .try_for_each(|part| text.extend_from_slice(part.as_bytes(), GFP_KERNEL)),
                };
                if said.is_ok() {
                    // The connection may be gone.
                    let _ = responder.answer(text);
                }
            }
            Answering::Caller(outcome) => {
                *outcome.result.lock() = Some(result);
                outcome.done.notify_all();
            }
        }
    }
}

/// The port's service.
pub(crate) struct Door {
    core: Arc<Core>,
}

impl Door {
    /// Messages go there.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Door { core }
    }

    fn message(
        &self,
        text: &[u8],
        taken: usize,
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Consumed::done(taken);
        }
        if text == b"quit" {
            return Consumed::close(taken);
        }
        if let Err(fault) = parse(text) {
            self.core.net.counts.refused.add(1);
            // A reply out of room closes the connection: nothing else to do.
            let _ = write!(out, "ERR {} {}\r\n", fault.name(), fault);
            return Consumed::done(taken);
        }
        match self.core.message(text, Answering::Port(turn.responder())) {
            Ok(_) => Consumed::pause(taken),
            Err((error, answer)) => {
                drop(answer);
                self.core.net.counts.refused.add(1);
                let _ = if error == enobufs() {
                    write!(out, "ERR ENOBUFS {PENDING_MAX} bytes of messages wait\r\n")
                } else {
                    write!(out, "ERR {} {}\r\n", name(error), words(error))
                };
                // The responder is gone, so nothing is waited for.
                Consumed::done(taken)
            }
        }
    }
}

/// A connection has no state of its own.
pub(crate) struct Client;

impl Service for Door {
    type Conn = Client;

    fn connected(&self, _: &Addr, _: &mut Reply) -> Result<Client> {
        Ok(Client)
    }

    fn input(
        &self,
        _: &mut Client,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        // The original's clients pad what they send with zeros.
        let zeros = data.iter().take_while(|byte| **byte == 0).count();
        if zeros > 0 {
            return Consumed::done(zeros);
        }
        match line(data, MESSAGE_MAX) {
            Line::Whole { text, taken } => {
                let end = text.iter().position(|byte| *byte == 0);
                let text = end.and_then(|end| text.get(..end)).unwrap_or(text);
                self.message(text, taken, out, turn)
            }
            Line::Part => match data.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    let text = data.get(..end).unwrap_or(&[]);
                    self.message(text, end, out, turn)
                }
                None => Consumed::more(),
            },
            Line::TooLong => {
                self.core.net.counts.refused.add(1);
                let _ = write!(
                    out,
                    "ERR EMSGSIZE a message has {MESSAGE_MAX} bytes at most\r\n"
                );
                Consumed::close(data.len())
            }
        }
    }

    fn ended(&self, _: &mut Client, rest: &[u8], out: &mut Reply) {
        // A message without an end, as the original's clients send it.
        let text = rest.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let text = text.trim_ascii();
        if text.is_empty() {
            return;
        }
        if let Err(fault) = parse(text) {
            self.core.net.counts.refused.add(1);
            let _ = write!(out, "ERR {} {}\r\n", fault.name(), fault);
            return;
        }
        // The connection ends with this turn, so it is waited for here.
        let written = Outcome::new().and_then(|outcome| {
            let answer = Answering::Caller(outcome.clone());
            self.core
                .message(text, answer)
                .map_err(|(error, _)| error)?;
            outcome.wait()
        });
        match written {
            Ok(()) => out.push(UPDATED),
            Err(error) => {
                let _ = write!(out, "ERR {} {}\r\n", name(error), words(error));
            }
        }
    }

    fn refused(&self, why: Refusal, out: &mut Reply) {
        // Read by people; a full reply ends the connection anyway.
        let _ = match why {
            Refusal::Connections(n) => write!(out, "ERR EUSERS {n} connections are the limit\r\n"),
            Refusal::Frame(n) => write!(out, "ERR EMSGSIZE a request has {n} bytes at most\r\n"),
            Refusal::Reply(n) => write!(out, "ERR ENOBUFS {n} bytes of answers wait\r\n"),
            Refusal::Idle(ms) => write!(out, "ERR ETIME idle for {ms} ms\r\n"),
        };
    }
}
