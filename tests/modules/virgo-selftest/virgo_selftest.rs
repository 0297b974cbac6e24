// SPDX-License-Identifier: GPL-2.0-only

//! A module for tests alone: services on the listener that all VIRGO ports share.
//!
//! | port | what |
//! |---|---|
//! | `port` | echo, in process context: each line comes back; see [`Echo`] |
//! | `port` + 1 | a constant for each line, in softirq: the floor of a request |
//! | `port` + 2 | the same in process context |
//! | `port` + 3 | `stats`: the numbers of the three |
//! | `port` + 4 | echo on `::1` |

#[path = "../../../modules/lib/mod.rs"]
mod lib;

#[path = "../../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

use core::fmt::Write;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use lib::{
    compat::param,
    listener::{
        Addr,
        Bytes,
        Closed,
        Config,
        Consumed,
        Listener,
        Reply,
        Service,
        Stats,
        Turn, //
    },
    workqueue::OwnedQueue, //
};

module! {
    type: Selftest,
    name: "virgo_selftest",
    authors: ["The VIRGO developers"],
    description: "VIRGO: services for the tests of the shared listener",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        port: u16 {
            default: 17000,
            description: "First of five ports on the loopback address",
        },
        max_connections: u32 {
            default: 2000,
            description: "Connections that each port serves at once",
        },
        max_frame: u32 {
            default: 65536,
            description: "Longest line in bytes",
        },
        idle_ms: u32 {
            default: 0,
            description: "Milliseconds without a request after which a connection is closed; 0: never",
        },
        send_ms: u32 {
            default: 30000,
            description: "Milliseconds a peer may take no answers before it is closed; 0: never",
        },
        send_buffer: u32 {
            default: 65536,
            description: "Bytes on the way to a peer",
        },
        highpri: u8 {
            default: 0,
            description: "1: workers of high priority",
        },
        softirq: u8 {
            default: 1,
            description: "1: serve in softirq where the service allows it",
        },
    },
}

/// A block of bytes that answers share.
struct Block(KVVec<u8>);

impl Bytes for Block {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn line(data: &[u8]) -> Option<(&[u8], usize)> {
    let end = proto::lines::find_lf(data)?;
    let text = data.get(..end)?;
    Some((
        text.strip_suffix(b"\r").unwrap_or(text),
        end.checked_add(1)?,
    ))
}

fn number(text: &[u8]) -> usize {
    let digits = text.iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0usize, |n, b| {
        n.saturating_mul(10).saturating_add(usize::from(b - b'0'))
    })
}

/// Each line comes back, but for a few which are commands:
///
/// - `!quit`: close
/// - `!big N`: N bytes and a line end, in an owned buffer
/// - `!shared N`: N (at most 1 MiB) bytes of a shared block and a line end
/// - `!later TEXT`: TEXT, from another thread, while the rest waits
/// - `!lost`: a promise of an answer that is dropped
struct Echo {
    block: Arc<Block>,
    /// Where late answers come from. The module's own reference is the last, so it is never dropped
    /// from inside one of its own closures.
    later: Arc<OwnedQueue>,
}

impl Echo {
    fn new(later: Arc<OwnedQueue>) -> Result<Arc<Self>> {
        let block = Block(KVVec::from_elem(b's', 1 << 20, GFP_KERNEL)?);
        let block = Arc::new(block, GFP_KERNEL)?;
        Ok(Arc::new(Self { block, later }, GFP_KERNEL)?)
    }
}

/// A slice of the block.
struct Part(Arc<Block>, usize);

impl Bytes for Part {
    fn bytes(&self) -> &[u8] {
        self.0.bytes().get(..self.1).unwrap_or(&[])
    }
}

impl Service for Echo {
    type Conn = ();

    fn connected(&self, _: &Addr, _: &mut Reply) -> Result {
        Ok(())
    }

    fn input(&self, _: &mut (), data: &[u8], out: &mut Reply, turn: &Turn<'_, Self>) -> Consumed {
        let Some((text, n)) = line(data) else {
            return Consumed::more();
        };
        if text == b"!quit" {
            return Consumed::close(n);
        }
        if let Some(size) = text.strip_prefix(b"!big ") {
            match KVVec::from_elem(b'b', number(size), GFP_KERNEL) {
                Ok(bytes) => out.push_owned(bytes),
                Err(_) => out.push(b"ERR no memory"),
            }
        } else if let Some(size) = text.strip_prefix(b"!shared ") {
            match Arc::new(Part(self.block.clone(), number(size)), GFP_KERNEL) {
                Ok(part) => out.push_shared(part),
                Err(_) => out.push(b"ERR no memory"),
            }
        } else if let Some(text) = text.strip_prefix(b"!later ") {
            let responder = turn.responder();
            let mut answer = KVVec::new();
            let filled = answer
                .extend_from_slice(text, GFP_KERNEL)
                .and_then(|()| answer.extend_from_slice(b"\n", GFP_KERNEL));
            let queued = filled.is_ok()
                && self
                    .later
                    .spawn(move || {
                        // The connection is closed where there is no memory.
                        let _ = responder.answer(answer);
                    })
                    .is_ok();
            if queued {
                return Consumed::pause(n);
            }
            out.push(b"ERR no memory");
        } else if text == b"!lost" {
            drop(turn.responder());
            return Consumed::pause(n);
        } else {
            out.push(text);
        }
        out.push(b"\n");
        Consumed::done(n)
    }

    fn ended(&self, _: &mut (), rest: &[u8], out: &mut Reply) {
        if !rest.is_empty() {
            out.push(b"rest ");
            out.push(rest);
            out.push(b"\n");
        }
    }

    fn closed(&self, _: (), _: Closed) {}
}

/// Answers every line with the same item of 100 bytes, as memcached would.
struct Null<const ATOMIC: bool>(KVVec<u8>);

impl<const ATOMIC: bool> Null<ATOMIC> {
    fn new() -> Result<Arc<Self>> {
        let mut answer = KVVec::new();
        answer.extend_from_slice(b"VALUE key00000000 0 100\r\n", GFP_KERNEL)?;
        answer.extend_with(100, b'x', GFP_KERNEL)?;
        answer.extend_from_slice(b"\r\nEND\r\n", GFP_KERNEL)?;
        Ok(Arc::new(Self(answer), GFP_KERNEL)?)
    }
}

impl<const ATOMIC: bool> Service for Null<ATOMIC> {
    type Conn = ();

    const ATOMIC: bool = ATOMIC;

    fn connected(&self, _: &Addr, _: &mut Reply) -> Result {
        Ok(())
    }

    fn input(&self, _: &mut (), data: &[u8], out: &mut Reply, turn: &Turn<'_, Self>) -> Consumed {
        match line(data) {
            // Shows the tests the way from softirq to process context.
            Some((b"!sleep", _)) if !turn.may_sleep() => Consumed::sleep(0),
            Some((b"!sleep", n)) => {
                out.push(b"slept\r\n");
                Consumed::done(n)
            }
            Some((b"!quit", n)) => Consumed::close(n),
            Some((_, n)) => {
                out.push(&self.0);
                Consumed::done(n)
            }
            None => Consumed::more(),
        }
    }
}

struct Ports {
    echo: Listener<Echo>,
    atomic: Listener<Null<true>>,
    process: Listener<Null<false>>,
    six: Option<Listener<Echo>>,
}

struct Status(Arc<Ports>);

fn show(out: &mut Reply, name: &str, s: &Stats) {
    // Out of room: the listener closes the connection.
    let _ = writeln!(
        out,
        "{name} active={} accepted={} refused={} frames={} idle_timeouts={} send_timeouts={} \
         requests={} bytes_in={} bytes_out={} wakeups={} sweeps={}",
        s.active,
        s.accepted,
        s.refused,
        s.frames,
        s.idle_timeouts,
        s.send_timeouts,
        s.requests,
        s.bytes_in,
        s.bytes_out,
        s.wakeups,
        s.sweeps,
    );
}

impl Service for Status {
    type Conn = ();

    fn connected(&self, _: &Addr, _: &mut Reply) -> Result {
        Ok(())
    }

    fn input(&self, _: &mut (), data: &[u8], out: &mut Reply, _: &Turn<'_, Self>) -> Consumed {
        let Some((text, n)) = line(data) else {
            return Consumed::more();
        };
        if text != b"stats" {
            out.push(b"ERR the command is: stats\n");
            return Consumed::done(n);
        }
        show(out, "echo", &self.0.echo.stats());
        show(out, "atomic", &self.0.atomic.stats());
        show(out, "process", &self.0.process.stats());
        if let Some(six) = &self.0.six {
            show(out, "six", &six.stats());
        }
        out.push(b"END\n");
        Consumed::done(n)
    }
}

struct Selftest {
    /// Dropped first: it looks at the others.
    _status: Listener<Status>,
    _ports: Arc<Ports>,
    /// Dropped last: waits for the late answers.
    _later: Arc<OwnedQueue>,
}

impl kernel::Module for Selftest {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        use module_parameters as p;
        let port = param::<u16>(p::port.value());
        let config = |name: &'static CStr, offset: u16| -> Result<Config> {
            let mut config = Config::new(name, port.checked_add(offset).ok_or(EINVAL)?);
            config.max_connections = param::<u32>(p::max_connections.value());
            config.max_frame = usize::try_from(param::<u32>(p::max_frame.value()))?;
            config.idle_ms = param::<u32>(p::idle_ms.value());
            config.send_ms = param::<u32>(p::send_ms.value());
            config.send_buffer = param::<u32>(p::send_buffer.value());
            config.highpri = param::<u8>(p::highpri.value()) != 0;
            config.softirq = param::<u8>(p::softirq.value()) != 0;
            config.reply_cap = 16 << 20;
            Ok(config)
        };
        let mut six = config(c"virgo-echo6", 4)?;
        let one = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        six.addr = Addr::v6(one, six.addr.port(), 0);
        let later = Arc::new(OwnedQueue::new(c"virgo-later", 4)?, GFP_KERNEL)?;
        let ports = Arc::new(
            Ports {
                echo: Listener::new(config(c"virgo-echo", 0)?, Echo::new(later.clone())?)?,
                atomic: Listener::new(config(c"virgo-null-bh", 1)?, Null::new()?)?,
                process: Listener::new(config(c"virgo-null", 2)?, Null::new()?)?,
                // A kernel may have IPv6 off.
                six: match Listener::new(six, Echo::new(later.clone())?) {
                    Ok(six) => Some(six),
                    Err(e) if e == Error::from_errno(-97) || e == Error::from_errno(-99) => None,
                    Err(e) => return Err(e),
                },
            },
            GFP_KERNEL,
        )?;
        let mut status = config(c"virgo-status", 3)?;
        status.idle_ms = 0;
        Ok(Self {
            _status: Listener::new(status, Arc::new(Status(ports.clone()), GFP_KERNEL)?)?,
            _ports: ports,
            _later: later,
        })
    }
}
