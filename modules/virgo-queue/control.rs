// SPDX-License-Identifier: GPL-2.0-only

//! The doors of this machine: ioctls on /dev/virgo-queue and /dev/virgo, and other modules' calls.

use kernel::{
    fs::File,
    prelude::*,
    sync::Arc, //
};

use crate::{
    lib::{
        chardev::{
            CharDevice,
            Waiter,
            POLLIN, //
        },
        compat::emsgsize,
        service::{
            Module,
            Service, //
        },
        task::may_administer,
        uapi::{
            copied,
            copy_out,
            Arg,
            Command,
            Room,
            UserStruct, //
        },
    },
    log::Policy,
    proto::{
        beanstalk::valid_name,
        uapi::{
            self,
            QueueDone,
            QueueDrain,
            QueueList,
            QueueName,
            QueuePeek,
            QueuePut,
            QueueReply,
            QueueResult,
            QueueStat,
            QueueTake,
            QueueTube, //
        }, //
    },
    queue::{
        Core,
        Held, //
    },
    replies::Meaning,
    state::{
        Full,
        New,
        Phase,
        TubeSettings,
        Waiting, //
    },
    text::Text,
};

/// Put a request: [`crate::lib::service::Service::call`]'s operation.
///
/// In: u32 priority, u32 delay, u32 time, u32 length of the tube's name (all little-endian), the
/// name, the request. Out: u64 number.
pub(crate) const OP_PUSH: u32 = 1;
/// Take a request, and be done with it.
///
/// In: the tube's name. Out: u64 number, the request. `EAGAIN` without one, `EMSGSIZE` for one that
/// is longer than the room there is.
pub(crate) const OP_POP: u32 = 2;

/// The most bytes of names that a tube's setting has; more than 16 of the longest.
const MAX_COPIES_LENGTH: u32 = 4096;

/// What all doors share.
pub(crate) struct Control {
    core: Arc<Core>,
    /// Who takes through /dev/virgo, and for other modules.
    worker: u32,
}

impl Drop for Control {
    fn drop(&mut self) {
        let mut held = self.core.hold();
        let now = held.now();
        held.leave(self.worker, now);
    }
}

/// The errno for a request that is not taken in.
fn errno_of(why: Full) -> Error {
    match why {
        Full::Draining => EBUSY,
        Full::Tube(_) | Full::Bytes(_) | Full::Slow => ENOSPC,
        Full::Job(_) => E2BIG,
        Full::Log(error) => error,
        Full::Memory => ENOMEM,
    }
}

/// The name in an argument; "default" for an empty one. `EINVAL`.
fn name_of(name: &QueueName) -> Result<&[u8]> {
    let name = name.name().ok_or(EINVAL)?;
    if name.is_empty() {
        return Ok(b"default");
    }
    valid_name(name).then_some(name).ok_or(EINVAL)
}

/// What is told of a request that was taken.
#[derive(Default)]
struct Taken {
    id: u64,
    length: u32,
    pri: u32,
    ttr: u32,
    reserves: u32,
}

/// The bytes of a request on their way to user space, which cannot be written with the mutex held.
struct Body {
    small: Room<SMALL>,
    large: Option<KVVec<u8>>,
}

/// So many bytes need no memory of their own.
const SMALL: usize = 512;

impl Body {
    fn new() -> Self {
        Body {
            small: Room::new(),
            large: None,
        }
    }

    /// `ENOMEM`. May sleep.
    fn fill(&mut self, bytes: &[u8]) -> Result {
        if !self.small.fill(bytes) {
            let mut large = KVVec::with_capacity(bytes.len(), GFP_KERNEL)?;
            large.extend_from_slice(bytes, GFP_KERNEL)?;
            self.large = Some(large);
        }
        Ok(())
    }

    /// `EFAULT`. May sleep.
    fn copy_out(&self, address: u64) -> Result {
        match &self.large {
            Some(large) => copy_out(address, large),
            None => self.small.copy_out(address),
        }
    }
}

impl Control {
    /// The doors of a queue. `ENOMEM`.
    pub(crate) fn new(core: Arc<Core>) -> Result<Self> {
        let worker = core.hold().join_quietly()?;
        Ok(Control { core, worker })
    }

    /// Waits until the record is kept; `Err` if it cannot be.
    pub(crate) fn keep(held: &mut Held<'_>, number: Option<u64>) -> Result {
        let Some(number) = number else {
            return Ok(());
        };
        loop {
            match &held.log {
                Some(log) if !log.is_kept(number) => {
                    if let Some(error) = log.failed {
                        return Err(error);
                    }
                }
                _ => return Ok(()),
            }
            held.sleep();
        }
    }

    /// Puts a request. Its number.
    fn put_body(&self, tube: &[u8], numbers: (u32, u32, u32), body: KVVec<u8>) -> Result<u64> {
        let (pri, delay, ttr) = numbers;
        let mut held = self.core.hold();
        let now = held.now();
        let tube = held.tube_made(tube)?;
        let new = New {
            id: held.new_id(),
            tube,
            pri,
            delay,
            ttr,
            body,
        };
        let id = match held.put(new, now) {
            Ok(id) => id,
            Err(why) => {
                held.tube_dropped(tube);
                return Err(errno_of(why));
            }
        };
        let number = held.must_wait();
        if let Err(error) = Self::keep(&mut held, number) {
            held.take_back(id);
            return Err(error);
        }
        Ok(id)
    }

    fn put(&self, arg: Arg) -> Result<isize> {
        let mut request = UserStruct::<QueuePut>::new(arg);
        let value = request.fetch()?;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let name = name_of(&value.tube)?;
        if value.length > self.core.limits().job_size {
            return Err(E2BIG);
        }
        // CAST: u32 fits usize on 64-bit.
        let body = copied(value.body, value.length as usize, GFP_KERNEL)?;
        value.id = self.put_body(name, (value.pri, value.delay, value.ttr), body)?;
        request.write_back()?;
        Ok(0)
    }

    /// Takes a request: its bytes, and what there is to tell of it. With `EMSGSIZE` its length.
    fn take_into(
        &self,
        worker: u32,
        value: &QueueTake,
        name: &[u8],
        taken: &mut Taken,
        body: &mut Body,
    ) -> Result {
        let mut held = self.core.hold();
        if held.file_waits(worker).is_some() {
            return Err(EBUSY);
        }
        // CAST: u32 fits usize on 64-bit.
        let capacity = value.capacity as usize;
        let found = if value.flags & uapi::QUEUE_TAKE_ID != 0 {
            Some(held.free_job(value.id).ok_or(ENOENT)?)
        } else {
            let tube = held.tube_made(name)?;
            if let Err(error) = held.watch_only(worker, tube) {
                held.tube_dropped(tube);
                return Err(error);
            }
            let now = held.now();
            held.best(worker, now)
        };
        let (index, kept) = match found {
            Some(index) => {
                let length = held.jobs.get(index).map_or(0, |job| job.body.len());
                if length > capacity {
                    taken.length = u32::try_from(length).unwrap_or(u32::MAX);
                    return Err(emsgsize());
                }
                let now = held.now();
                held.reserve(index, worker, now);
                (index, held.must_wait())
            }
            None => {
                if value.timeout_ms == 0 {
                    return Err(EAGAIN);
                }
                let until = match value.timeout_ms {
                    uapi::QUEUE_FOREVER => u64::MAX,
                    ms => held
                        .now()
                        .saturating_add(u64::from(ms).saturating_mul(1_000_000)),
                };
                held.wait(worker, Waiting::File(None), until)?;
                loop {
                    match held.file_waits(worker) {
                        Some(Some(index)) => {
                            held.wait_ends(worker);
                            break (index, held.kept_at(worker));
                        }
                        Some(None) => {}
                        None => return Err(EAGAIN),
                    }
                    if held.sleep_interruptible() {
                        if let Waiting::File(Some(index)) = held.wait_ends(worker) {
                            held.back(index);
                        }
                        return Err(ERESTARTSYS);
                    }
                }
            }
        };
        let id = held.jobs.get(index).map_or(0, |job| job.id);
        if let Err(error) = Self::keep(&mut held, kept) {
            held.back_by_id(id);
            return Err(error);
        }
        // The mutex was let go of: its time may be over, or somebody else's by now.
        let index = held.own(worker, id).ok_or(EAGAIN)?;
        let length = held.jobs.get(index).map_or(0, |job| job.body.len());
        if length > capacity {
            taken.length = u32::try_from(length).unwrap_or(u32::MAX);
            held.back(index);
            return Err(emsgsize());
        }
        if let Some(job) = held.jobs.get(index) {
            taken.id = job.id;
            taken.pri = job.pri;
            taken.ttr = job.ttr;
            taken.reserves = job.counts.reserves;
            taken.length = u32::try_from(length).unwrap_or(u32::MAX);
            if let Err(error) = body.fill(&job.body) {
                held.back(index);
                return Err(error);
            }
        }
        Ok(())
    }

    fn take(&self, arg: Arg, worker: u32) -> Result<isize> {
        let mut request = UserStruct::<QueueTake>::new(arg);
        let value = request.fetch()?;
        if value.flags & !uapi::QUEUE_TAKE_ID != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        if worker == self.worker && value.timeout_ms != 0 {
            return Err(EINVAL);
        }
        let name = name_of(&value.tube)?;
        let mut body = Body::new();
        let mut taken = Taken {
            length: value.length,
            ..Taken::default()
        };
        let result = self.take_into(worker, value, name, &mut taken, &mut body);
        value.length = taken.length;
        if let Err(error) = result {
            if error == emsgsize() {
                request.write_back()?;
            }
            return Err(error);
        }
        value.id = taken.id;
        value.pri = taken.pri;
        value.ttr = taken.ttr;
        value.reserves = taken.reserves;
        let told = body
            .copy_out(value.body)
            .and_then(|()| request.write_back());
        if let Err(error) = told {
            // The caller does not learn of it, so it is not the caller's.
            self.core.hold().back_by_id(taken.id);
            return Err(error);
        }
        Ok(0)
    }

    fn done(&self, arg: Arg, worker: u32) -> Result<isize> {
        let mut request = UserStruct::<QueueDone>::new(arg);
        let value = request.fetch()?;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let mut held = self.core.hold();
        let now = held.now();
        match value.action {
            uapi::QUEUE_ACK => {
                if !held.delete(worker, value.id) {
                    return Err(ENOENT);
                }
            }
            uapi::QUEUE_RELEASE => {
                let index = held.own(worker, value.id).ok_or(ENOENT)?;
                held.release(index, value.pri, value.delay, now);
            }
            uapi::QUEUE_BURY => {
                let index = held.own(worker, value.id).ok_or(ENOENT)?;
                held.bury(index, value.pri);
            }
            uapi::QUEUE_TOUCH => {
                let index = held.own(worker, value.id).ok_or(ENOENT)?;
                held.touch(index, now);
            }
            uapi::QUEUE_KICK => {
                let index = held.job(value.id).ok_or(ENOENT)?;
                if !held.kick_job(index, now) {
                    return Err(ENOENT);
                }
            }
            _ => return Err(EINVAL),
        }
        let number = held.must_wait();
        Self::keep(&mut held, number)?;
        Ok(0)
    }

    fn peek(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<QueuePeek>()?;
        let value = &mut request.value;
        if value.flags & !uapi::QUEUE_PEEK_NEXT != 0
            || value.reserved != [0; 2]
            || value.reserved0 != 0
        {
            return Err(EINVAL);
        }
        let wanted = value.tube;
        let wanted = wanted.name().ok_or(EINVAL)?;
        let mut body = Text::default();
        {
            let mut held = self.core.hold();
            let now = held.now();
            let mut index = if value.flags & uapi::QUEUE_PEEK_NEXT != 0 {
                held.job_after(value.id)
            } else {
                held.job(value.id)
            };
            if value.flags & uapi::QUEUE_PEEK_NEXT != 0 && !wanted.is_empty() {
                let tube = held.tube(wanted).ok_or(ENOENT)?;
                while let Some(job) = index.and_then(|index| held.jobs.get(index)) {
                    if job.tube == tube {
                        break;
                    }
                    let id = job.id;
                    index = held.job_after(id);
                }
            }
            let job = index.and_then(|index| held.jobs.get(index)).ok_or(ENOENT)?;
            let tube = held.tubes.get(job.tube).ok_or(ENOENT)?;
            value.id = job.id;
            value.length = u32::try_from(job.body.len()).unwrap_or(u32::MAX);
            value.pri = job.pri;
            value.ttr = job.ttr;
            value.delay = job.delay;
            value.state = match job.phase {
                Phase::Ready => uapi::QUEUE_READY,
                Phase::Delayed => uapi::QUEUE_DELAYED,
                Phase::Buried => uapi::QUEUE_BURIED,
                Phase::Reserved => uapi::QUEUE_RESERVED,
            };
            value.reserves = job.counts.reserves;
            value.timeouts = job.counts.timeouts;
            value.releases = job.counts.releases;
            value.buries = job.counts.buries;
            value.kicks = job.counts.kicks;
            value.age_ns = held.age(job, now);
            value.left_ns = match job.phase {
                Phase::Delayed | Phase::Reserved => job.deadline.saturating_sub(now),
                Phase::Ready | Phase::Buried => 0,
            };
            value.tube = QueueName::new(&tube.name).ok_or(EINVAL)?;
            // CAST: u32 fits usize on 64-bit.
            let shown = job.body.len().min(value.capacity as usize);
            body.push(job.body.get(..shown).unwrap_or(&[]))?;
        }
        copy_out(value.body, body.bytes())?;
        request.write_back()?;
        Ok(0)
    }

    fn stat(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<QueueStat>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved1 != [0; 3] {
            return Err(EINVAL);
        }
        let wanted = value.tube;
        let wanted = wanted.name().ok_or(EINVAL)?;
        let mut held = self.core.hold();
        if wanted.is_empty() {
            let t = &held.totals;
            value.ready = t.ready;
            value.delayed = t.delayed;
            value.buried = t.buried;
            value.reserved = t.reserved;
            value.urgent = t.urgent;
            value.waiting = t.waiting;
            value.total = t.jobs;
            value.timeouts = t.timeouts;
            // CAST: usize fits u64.
            value.bytes = held.bytes.saturating_add(held.jobs.bytes() as u64);
        } else {
            let tube = held.tube(wanted).and_then(|tube| held.tubes.get(tube));
            let tube = tube.ok_or(ENOENT)?;
            value.ready = tube.ready_ct;
            value.delayed = tube.delayed_ct;
            value.buried = tube.buried_ct;
            value.reserved = tube.reserved_ct;
            value.urgent = tube.urgent_ct;
            // CAST: usize fits u64.
            value.waiting = tube.waiting.len() as u64;
            value.total = tube.total_jobs;
            value.deletes = tube.deletes;
            if tube.pause > 0 {
                value.pause_left_ns = tube.unpause_at.saturating_sub(held.now());
            }
        }
        value.max_bytes = held.limits.bytes;
        // CAST: usize fits u64.
        value.tubes = held.listed.len() as u64;
        // One of them is this door itself.
        value.workers = (held.workers.len() as u64).saturating_sub(1);
        value.draining = u32::from(held.draining);
        if let Some(log) = &held.log {
            value.log = match log.policy {
                Policy::Never => uapi::QUEUE_LOG_NEVER,
                Policy::Interval => uapi::QUEUE_LOG_INTERVAL,
                Policy::Always => uapi::QUEUE_LOG_ALWAYS,
            };
            value.log_error = log
                .failed
                .map_or(0, |error| error.to_errno().unsigned_abs());
            value.log_bytes = log.bytes();
            value.log_records = log.numbers.written;
            value.log_damaged = log.numbers.damaged;
        }
        drop(held);
        request.write_back()?;
        Ok(0)
    }

    fn list(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<QueueList>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let mut names = Text::default();
        // CAST: u32 fits usize on 64-bit.
        let capacity = value.capacity as usize;
        {
            let held = self.core.hold();
            let mut all = 0_usize;
            for tube in held.listed.as_slice() {
                let Some(tube) = held.tubes.get(*tube) else {
                    continue;
                };
                all = all.saturating_add(tube.name.len()).saturating_add(1);
                if all <= capacity {
                    names.push(&tube.name)?;
                    names.push(b"\0")?;
                }
            }
            value.length = u32::try_from(all).unwrap_or(u32::MAX);
            value.count = u32::try_from(held.listed.len()).unwrap_or(u32::MAX);
        }
        copy_out(value.names, names.bytes())?;
        request.write_back()?;
        Ok(0)
    }

    fn drain(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<QueueDrain>()?;
        let value = &mut request.value;
        if value.flags & !uapi::QUEUE_DRAIN_SET != 0 || value.reserved0 != 0 || value.draining > 1 {
            return Err(EINVAL);
        }
        let mut held = self.core.hold();
        if value.flags & uapi::QUEUE_DRAIN_SET != 0 {
            if !may_administer(None) {
                return Err(EPERM);
            }
            held.draining = value.draining == 1;
        }
        value.draining = u32::from(held.draining);
        drop(held);
        request.write_back()?;
        Ok(0)
    }

    fn tube(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<QueueTube>()?;
        let value = &mut request.value;
        let set = value.flags == uapi::QUEUE_TUBE_SET;
        if value.flags & !uapi::QUEUE_TUBE_SET != 0
            || value.reserved0 != 0
            || value.reserved != [0; 2]
        {
            return Err(EINVAL);
        }
        let wanted = value.tube;
        let name = name_of(&wanted)?;
        if set {
            if !may_administer(None) {
                return Err(EPERM);
            }
            if value.length > MAX_COPIES_LENGTH {
                return Err(EINVAL);
            }
            // CAST: u32 fits usize on 64-bit.
            let length = value.length as usize;
            let settings = TubeSettings {
                limit: value.limit,
                tries: value.tries,
                keep: value.keep,
                copies: copied(value.copies, length, GFP_KERNEL)?,
            };
            settings.check(name)?;
            let mut held = self.core.hold();
            if settings.keep != uapi::QUEUE_KEEP_DEFAULT && held.log.is_none() {
                return Err(EINVAL);
            }
            let tube = held.tube_made(name)?;
            let done = held.set_tube(tube, settings);
            held.tube_dropped(tube);
            done?;
            let number = held.must_wait();
            Self::keep(&mut held, number)?;
            return Ok(0);
        }
        let mut copies = Text::default();
        {
            let mut held = self.core.hold();
            let tube = held.tube(name).and_then(|tube| held.tubes.get(tube));
            let settings = &tube.ok_or(ENOENT)?.settings;
            value.limit = settings.limit;
            value.tries = settings.tries;
            value.keep = settings.keep;
            value.length = u32::try_from(settings.copies.len()).unwrap_or(u32::MAX);
            // CAST: u32 fits usize on 64-bit.
            let shown = settings.copies.len().min(value.capacity as usize);
            copies.push(settings.copies.get(..shown).unwrap_or(&[]))?;
        }
        copy_out(value.copies, copies.bytes())?;
        request.write_back()?;
        Ok(0)
    }

    fn reply(&self, arg: Arg, worker: u32) -> Result<isize> {
        let request = arg.read::<QueueReply>()?;
        let value = &request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        if value.length > self.core.limits().job_size {
            return Err(E2BIG);
        }
        // CAST: u32 fits usize on 64-bit.
        let body = copied(value.body, value.length as usize, GFP_KERNEL)?;
        let mut held = self.core.hold();
        held.own(worker, value.id).ok_or(ENOENT)?;
        held.answered(value.id, body, Meaning::Bytes)?;
        held.delete(worker, value.id);
        let number = held.must_wait();
        Self::keep(&mut held, number)?;
        Ok(0)
    }

    fn result(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<QueueResult>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.error != 0 || value.kind != 0 || value.reserved != 0 {
            return Err(EINVAL);
        }
        let mut body = Text::default();
        {
            let mut held = self.core.hold();
            let waits = held.job(value.id).is_some();
            match held.replies.answer(value.id) {
                Some((answer, what)) => {
                    (value.error, value.kind) = match what {
                        Meaning::Bytes => (0, uapi::QUEUE_ANSWER_BYTES),
                        Meaning::Program => (0, uapi::QUEUE_ANSWER_PROGRAM),
                        Meaning::Failed(error) => (error, uapi::QUEUE_ANSWER_BYTES),
                    };
                    value.length = u32::try_from(answer.len()).unwrap_or(u32::MAX);
                    // CAST: u32 fits usize on 64-bit.
                    let shown = answer.len().min(value.capacity as usize);
                    body.push(answer.get(..shown).unwrap_or(&[]))?;
                }
                None if waits => return Err(EAGAIN),
                None => return Err(ENOENT),
            }
        }
        copy_out(value.body, body.bytes())?;
        request.write_back()?;
        Ok(0)
    }

    /// A command, for who takes as `worker`.
    fn command(&self, command: u32, argument: usize, worker: u32) -> Result<isize> {
        let arg = Arg::new(argument);
        let command = Command::new(command).ok_or(ENOTTY)?;
        let is = |number: u32| Command::new(number) == Some(command);
        if is(uapi::QUEUE_IOC_PUT) {
            self.put(arg)
        } else if is(uapi::QUEUE_IOC_TAKE) {
            self.take(arg, worker)
        } else if is(uapi::QUEUE_IOC_DONE) {
            self.done(arg, worker)
        } else if is(uapi::QUEUE_IOC_PEEK) {
            self.peek(arg)
        } else if is(uapi::QUEUE_IOC_STAT) {
            self.stat(arg)
        } else if is(uapi::QUEUE_IOC_LIST) {
            self.list(arg)
        } else if is(uapi::QUEUE_IOC_DRAIN) {
            self.drain(arg)
        } else if is(uapi::QUEUE_IOC_TUBE) {
            self.tube(arg)
        } else if is(uapi::QUEUE_IOC_REPLY) {
            self.reply(arg, worker)
        } else if is(uapi::QUEUE_IOC_RESULT) {
            self.result(arg)
        } else {
            Err(ENOTTY)
        }
    }

    fn push(&self, input: &[u8], output: &mut [u8]) -> Result<usize> {
        let mut rest = input;
        let mut numbers = [0_u32; 4];
        for number in &mut numbers {
            let (bytes, after) = rest.split_at_checked(4).ok_or(EINVAL)?;
            *number = u32::from_le_bytes(bytes.try_into().map_err(|_| EINVAL)?);
            rest = after;
        }
        let [pri, delay, ttr, name] = numbers;
        // CAST: u32 fits usize on 64-bit.
        let (name, content) = rest.split_at_checked(name as usize).ok_or(EINVAL)?;
        if !valid_name(name) {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize on 64-bit.
        if content.len() > self.core.limits().job_size as usize {
            return Err(E2BIG);
        }
        let place = output.get_mut(..8).ok_or(EINVAL)?;
        let mut body = KVVec::with_capacity(content.len(), GFP_KERNEL)?;
        body.extend_from_slice(content, GFP_KERNEL)?;
        let id = self.put_body(name, (pri, delay, ttr), body)?;
        place.copy_from_slice(&id.to_le_bytes());
        Ok(8)
    }

    fn pop(&self, name: &[u8], output: &mut [u8]) -> Result<usize> {
        if !valid_name(name) {
            return Err(EINVAL);
        }
        let (place, room) = output.split_at_mut_checked(8).ok_or(EINVAL)?;
        let mut held = self.core.hold();
        let tube = held.tube(name).ok_or(EAGAIN)?;
        let index = held.first_ready(tube).ok_or(EAGAIN)?;
        let job = held.jobs.get(index).ok_or(EAGAIN)?;
        let (id, length) = (job.id, job.body.len());
        let room = room.get_mut(..length).ok_or_else(emsgsize)?;
        room.copy_from_slice(&job.body);
        place.copy_from_slice(&id.to_le_bytes());
        held.delete(self.worker, id);
        let number = held.must_wait();
        Self::keep(&mut held, number)?;
        Ok(length.saturating_add(8))
    }
}

impl Service for Control {
    const MODULE: Module = Module::Queue;

    fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        self.command(command, argument, self.worker)
    }

    fn call(&self, operation: u32, input: &[u8], output: &mut [u8]) -> Result<usize> {
        match operation {
            OP_PUSH => self.push(input, output),
            OP_POP => self.pop(input, output),
            _ => Err(crate::lib::compat::eopnotsupp()),
        }
    }
}

/// An open file.
pub(crate) struct QueueFile {
    control: Arc<Control>,
    worker: u32,
}

impl CharDevice for QueueFile {
    type Shared = Control;

    const NAME: &'static CStr = c"virgo-queue";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = false;

    fn open(shared: Arc<Control>) -> Result<Pin<KBox<Self>>> {
        let worker = shared.core.hold().join_quietly()?;
        let file = QueueFile {
            control: shared,
            worker,
        };
        // Without memory the drop takes the worker back.
        Ok(KBox::pin(file, GFP_KERNEL)?)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        self.control.command(command, argument, self.worker)
    }

    /// Readable while there is something to take from the tube that was last taken from.
    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        waiter.wait_for(self.control.core.files());
        let mut held = self.control.core.hold();
        held.polled = true;
        let now = held.now();
        if held.best(self.worker, now).is_some() {
            POLLIN
        } else {
            0
        }
    }
}

impl Drop for QueueFile {
    fn drop(&mut self) {
        let mut held = self.control.core.hold();
        let now = held.now();
        held.leave(self.worker, now);
    }
}
