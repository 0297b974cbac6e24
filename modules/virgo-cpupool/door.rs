// SPDX-License-Identifier: GPL-2.0-only

//! Port 10000: calls by name, in the original's words and answers that carry the result.

use core::fmt::Write;

use kernel::prelude::*;

use crate::{
    builtin::decimal,
    function_table,
    lib::{
        listener::{
            Addr,
            Consumed,
            Refusal,
            Reply,
            Service,
            Turn, //
        },
        time::monotonic_ns,
        workqueue::OwnedQueue,
    },
    proto::{
        call::{
            front,
            is_line,
            parse,
            Call,
            Front,
            LINE_MAX, //
        },
        frame::MAX_PAYLOAD, //
    },
};

/// What the port does.
pub(crate) struct Door {
    workers: OwnedQueue,
    timeout_ms: u32,
}

impl Door {
    /// A door with so many workers for slow functions. May sleep.
    pub(crate) fn new(workers: u16, timeout_ms: u32) -> Result<Self> {
        Ok(Door {
            workers: OwnedQueue::pool(c"virgo_cpupool", workers)?,
            timeout_ms,
        })
    }

    /// Changes how many slow functions run at once. May sleep.
    pub(crate) fn set_workers(&self, workers: u16) {
        self.workers.set_at_once(workers);
    }

    fn deadline(&self) -> u64 {
        monotonic_ns().saturating_add(u64::from(self.timeout_ms).saturating_mul(1_000_000))
    }
}

/// The answer to a call, piece by piece.
fn tell(result: Result<KVVec<u8>>, mut push: impl FnMut(&[u8]) -> Result) -> Result {
    match result {
        Ok(output) if is_line(&output) => push(&output)?,
        Ok(output) => {
            let mut digits = [0; 20];
            push(b"DATA ")?;
            // CAST: usize fits u64.
            push(decimal(output.len() as u64, &mut digits))?;
            push(b"\r\n")?;
            push(&output)?;
        }
        Err(error) => {
            push(b"ERR ")?;
            push(words(error).as_bytes())?;
        }
    }
    push(b"\r\n")
}

/// The same, for a reply: out of room or memory, that closes the connection by itself.
fn put(result: Result<KVVec<u8>>, out: &mut Reply) {
    let _ = tell(result, |bytes| {
        out.push(bytes);
        Ok(())
    });
}

/// An error's name and text.
fn words(error: Error) -> &'static str {
    match error {
        e if e == ENOENT => "ENOENT no function of that name",
        e if e == EINVAL => "EINVAL the function does not take this input",
        e if e == ERANGE => "ERANGE the number is too large",
        e if e == ETIMEDOUT => "ETIMEDOUT the function took longer than allowed",
        e if e == ENODEV => "ENODEV the function's module is going",
        e if e == ENOMEM => "ENOMEM no memory",
        e if e == EINTR => "EINTR interrupted",
        e if e == crate::lib::compat::emsgsize() => "EMSGSIZE the output is longer than 2 MiB",
        _ => "EIO the function failed",
    }
}

impl Service for Door {
    type Conn = ();

    /// What is not atomic itself is left for process context.
    const ATOMIC: bool = true;

    fn connected(&self, _peer: &Addr, _out: &mut Reply) -> Result {
        Ok(())
    }

    fn input(&self, _: &mut (), data: &[u8], out: &mut Reply, turn: &Turn<'_, Self>) -> Consumed {
        let (request, taken) = match front(data) {
            Front::Skip(count) => return Consumed::done(count),
            Front::Request(request, taken) => (request, taken),
            Front::Part => return Consumed::more(),
            Front::TooLong => {
                self.refused(Refusal::Frame(LINE_MAX), out);
                return Consumed::close(data.len());
            }
        };
        let Some(Call { name, input }) = parse(request) else {
            out.push(b"ERR EINVAL a request is NAME, NAME(INPUT) or NAME INPUT\r\n");
            return Consumed::done(taken);
        };
        if !turn.may_sleep() {
            let Some(result) = function_table::call_atomic(name, input, MAX_PAYLOAD) else {
                return Consumed::sleep(0);
            };
            put(result, out);
            return Consumed::done(taken);
        }
        match function_table::is_slow(name) {
            None => out.push(b"ERR ENOENT no function of that name\r\n"),
            Some(false) => {
                let result = function_table::call(name, input, MAX_PAYLOAD, self.deadline());
                put(result, out);
            }
            Some(true) => {
                let copy = |bytes: &[u8]| {
                    let mut copy: KVVec<u8> = KVVec::with_capacity(bytes.len(), GFP_KERNEL)?;
                    copy.extend_from_slice(bytes, GFP_KERNEL)?;
                    Ok::<_, Error>(copy)
                };
                let (responder, deadline) = (turn.responder(), self.deadline());
                let spawned = copy(name).and_then(|name| {
                    let input = copy(input)?;
                    self.workers.spawn(move || {
                        let result = function_table::call(&name, &input, MAX_PAYLOAD, deadline);
                        let mut text = KVVec::new();
                        let told = tell(result, |bytes| {
                            Ok(text.extend_from_slice(bytes, GFP_KERNEL)?)
                        });
                        // Without memory for the answer the connection goes on without one, which
                        // the client's time limit is for; a connection that is gone needs none.
                        if told.is_ok() {
                            let _ = responder.answer(text);
                        }
                    })
                });
                if spawned.is_ok() {
                    return Consumed::pause(taken);
                }
                out.push(b"ERR ENOMEM no memory\r\n");
            }
        }
        Consumed::done(taken)
    }

    fn ended(&self, _: &mut (), rest: &[u8], out: &mut Reply) {
        // The original's clients end without an end of line, and wait.
        if let Some(Call { name, input }) = parse(rest) {
            // Here it would hold up the other connections.
            if function_table::is_slow(name) == Some(true) {
                out.push(b"ERR EINVAL the request has no end of line\r\n");
                return;
            }
            let result = function_table::call(name, input, MAX_PAYLOAD, self.deadline());
            put(result, out);
        }
    }

    fn refused(&self, why: Refusal, out: &mut Reply) {
        // A reply out of room closes the connection: nothing else to do.
        let _ = match why {
            Refusal::Connections(n) => {
                write!(out, "ERR EBUSY limit of {n} connections reached\r\n")
            }
            Refusal::Frame(_) => write!(
                out,
                "ERR EMSGSIZE a request longer than {LINE_MAX} bytes\r\n"
            ),
            Refusal::Reply(n) => write!(out, "ERR ENOBUFS more than {n} bytes of answers wait\r\n"),
            Refusal::Idle(ms) => write!(out, "ERR ETIMEDOUT idle for {ms} ms\r\n"),
        };
    }
}
