// SPDX-License-Identifier: GPL-2.0-only

//! The doors of this machine: ioctls on /dev/virgo-eventnet and /dev/virgo, other modules' calls,
//! and the original's function.

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    collector::Core,
    door::{
        Answering,
        Outcome, //
    },
    forward::OP_TAKE,
    lib::{
        chardev::{
            CharDevice,
            Waiter,
            POLLIN, //
        },
        cluster::{
            self,
            NodeId, //
        },
        compat::{
            emsgsize,
            eopnotsupp, //
        },
        event::Attached,
        service::{
            Module,
            RemoteReply,
            Service, //
        },
        task::may_administer,
        uapi::{
            copied,
            copy_out,
            Arg,
            Command, //
        },
        zeroed::zeroed, //
    },
    proto::{
        eventnet::{
            parse,
            MESSAGE_MAX, //
        },
        uapi::{
            self,
            EventnetLog,
            EventnetRead,
            EventnetSettings,
            EventnetStat, //
        }, //
    },
};

/// The most bytes that one read gives.
const READ_MAX: usize = 1 << 20;

/// What all doors share.
pub(crate) struct Control {
    core: Arc<Core>,
    attached: Arc<Attached<Core>>,
}

impl Control {
    /// The doors of this.
    pub(crate) fn new(core: Arc<Core>, attached: Arc<Attached<Core>>) -> Self {
        Control { core, attached }
    }

    fn log(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<EventnetLog>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize on 64-bit.
        let length = value.length as usize;
        if length > MESSAGE_MAX {
            return Err(emsgsize());
        }
        let text: KVVec<u8> = copied(value.message, length, GFP_KERNEL)?;
        if parse(&text).is_err() {
            self.core.net.counts.refused.add(1);
            return Err(EINVAL);
        }
        let outcome = Outcome::new()?;
        let answer = Answering::Caller(outcome.clone());
        let stamp = self
            .core
            .message(&text, answer)
            .map_err(|(error, _)| error)?;
        outcome.wait()?;
        let value = &mut request.value;
        value.stamp = stamp;
        value.node = self.core.net.node.load(Relaxed);
        request.write_back()?;
        Ok(0)
    }

    /// Reads the journal; where the reader is then.
    fn read(&self, arg: Arg) -> Result<u64> {
        let mut request = arg.read::<EventnetRead>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let end = self.core.net.committed.get();
        let left = end.saturating_sub(value.position);
        // CAST: u32 fits usize on 64-bit, and what is not more than a usize fits one.
        let room = (value.capacity as usize).min(READ_MAX);
        let length = left.min(room as u64) as usize;
        let mut bytes: KVVec<u8> = zeroed(length, GFP_KERNEL)?;
        let got = self.core.net.file.read_at(&mut bytes, value.position)?;
        copy_out(value.buffer, bytes.get(..got).ok_or(EINVAL)?)?;
        // CAST: at most `READ_MAX`.
        value.length = got as u32;
        value.next = value.position.saturating_add(got as u64);
        value.end = end;
        let next = value.next;
        request.write_back()?;
        Ok(next)
    }

    fn stat(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<EventnetStat>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 4] {
            return Err(EINVAL);
        }
        let net = &self.core.net;
        let counts = &net.counts;
        value.events = counts.events.get();
        value.vertices = counts.vertices.get();
        value.edges = counts.edges.get();
        value.lost = counts.lost.get();
        value.losses = counts.losses.get();
        value.refused = counts.refused.get();
        value.received = counts.received.get();
        value.forwarded = counts.forwarded.get();
        value.behind = counts.behind.get();
        value.journal_bytes = net.committed.get();
        value.rendered_bytes = counts.rendered.get();
        // CAST: errnos.
        value.journal_errno = counts.error.get() as u32;
        value.render_errno = counts.render_error.get() as u32;
        value.node = net.node.load(Relaxed);
        value.modules = net.mask.load(Relaxed);
        request.write_back()?;
        Ok(0)
    }

    fn settings(&self, arg: Arg) -> Result<isize> {
        const SET: u32 =
            uapi::EVENTNET_SET_MODULES | uapi::EVENTNET_SET_FLUSH | uapi::EVENTNET_SET_COLLECTOR;
        let mut request = arg.read::<EventnetSettings>()?;
        let value = &mut request.value;
        if value.flags & !SET != 0 || value.reserved != [0; 3] {
            return Err(EINVAL);
        }
        if value.flags != 0 && !may_administer(None) {
            return Err(EPERM);
        }
        let net = &self.core.net;
        if value.flags & uapi::EVENTNET_SET_MODULES != 0 {
            if value.modules >> Module::ALL.len() != 0 {
                return Err(EINVAL);
            }
            net.mask.store(value.modules, Relaxed);
            self.attached.set(value.modules);
        }
        if value.flags & uapi::EVENTNET_SET_FLUSH != 0 {
            if !(1..=60_000).contains(&value.flush_ms) {
                return Err(EINVAL);
            }
            net.flush_ns
                .store(u64::from(value.flush_ms).saturating_mul(1_000_000), Relaxed);
        }
        if value.flags & uapi::EVENTNET_SET_COLLECTOR != 0 {
            let known = |node: &cluster::Node| node.id.number() == value.collector;
            if value.collector != 0 && !cluster::nodes()?.iter().any(known) {
                return Err(ENOENT);
            }
            self.core.set_collector(value.collector);
        }
        value.collector = net.collector.load(Relaxed);
        value.modules = net.mask.load(Relaxed);
        // CAST: at most 60,000.
        value.flush_ms = (net.flush_ns.load(Relaxed) / 1_000_000) as u32;
        // CAST: at most 65,536.
        value.ring = net.ring_size as u32;
        request.write_back()?;
        Ok(0)
    }

    fn command(&self, command: u32, argument: usize) -> Result<isize> {
        let known = Command::new(command).ok_or(ENOTTY)?;
        let arg = Arg::new(argument);
        let is = |one| Some(known) == Command::new(one);
        if is(uapi::EVENTNET_IOC_LOG) {
            self.log(arg)
        } else if is(uapi::EVENTNET_IOC_READ) {
            self.read(arg).map(|_| 0)
        } else if is(uapi::EVENTNET_IOC_STAT) {
            self.stat(arg)
        } else if is(uapi::EVENTNET_IOC_SETTINGS) {
            self.settings(arg)
        } else {
            Err(ENOTTY)
        }
    }
}

impl Service for Control {
    const MODULE: Module = Module::Eventnet;

    fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        self.command(command, argument)
    }

    fn remote(
        &self,
        from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        match operation {
            OP_TAKE => output.push(&self.core.receive(from, input)?),
            _ => Err(eopnotsupp()),
        }
    }
}

/// An open file.
pub(crate) struct EventFile {
    control: Arc<Control>,
    /// How far its reader has come.
    seen: Atomic<u64>,
}

impl CharDevice for EventFile {
    type Shared = Control;

    const NAME: &'static CStr = c"virgo-eventnet";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = false;

    fn open(control: Arc<Control>) -> Result<Pin<KBox<Self>>> {
        let file = EventFile {
            control,
            seen: Atomic::new(0),
        };
        Ok(KBox::pin(file, GFP_KERNEL)?)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        let known = Command::new(command).ok_or(ENOTTY)?;
        if Some(known) == Command::new(uapi::EVENTNET_IOC_READ) {
            let next = self.control.read(Arg::new(argument))?;
            // Relaxed: one number, and the file's users see to their own order.
            self.seen.store(next, Relaxed);
            return Ok(0);
        }
        self.control.command(command, argument)
    }

    /// Readable while the journal has more than was last read.
    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        let net = &self.control.core.net;
        waiter.wait_for(&net.grown);
        if net.committed.get() > self.seen.load(Relaxed) {
            POLLIN
        } else {
            0
        }
    }
}
