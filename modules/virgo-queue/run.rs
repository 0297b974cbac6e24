// SPDX-License-Identifier: GPL-2.0-only

//! Requests for other modules: the queue takes them itself, has the module serve them, and keeps
//! the answer.
//!
//! What stands in the tube `virgo.cpupool` or `virgo.mempool` is a request in the words of that
//! module's port ([`errand`] has what may go before it). It is served on a work queue of our own,
//! a bounded number at once, and is then done with.

use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use crate::{
    control::Control,
    lib::{
        cluster::{
            self,
            NodeId,
            Policy,
            MAX_PAYLOAD, //
        },
        compat::{
            ehostdown,
            emsgsize,
            enobufs,
            eopnotsupp, //
        },
        service::{
            Module,
            WORDS, //
        },
        time::monotonic_ns,
        workqueue::OwnedQueue, //
    },
    proto::{
        errand::{
            self,
            Errand,
            Place, //
        },
        program::{
            ran,
            Follow,
            Limits,
            Progress,
            Start,
            OP_FOLLOW,
            OP_KILL,
            OP_START,
            PROGRESS,
            RUNNING, //
        }, //
    },
    queue::Core,
    replies::Meaning,
    state::State,
    text::Text,
};

/// The tubes, and who serves them.
const TUBES: [(&[u8], Module); 2] = [
    (b"virgo.cpupool", Module::Cpupool),
    (b"virgo.mempool", Module::Mempool),
];
/// How often one that may be served twice is tried.
const TRIES: u32 = 3;
/// What another node's answer may take longer than its work.
const WAY_MS: u32 = 1000;
/// What is left of a request's time when its work must have ended, so that it is still ours then.
const MARGIN_MS: u32 = 500;
/// Seconds until one is tried again for which there was no memory, or no log.
const LATER: u32 = 1;

/// The most output of a program that is kept, and as much error output.
const OUTPUT: u64 = 1 << 20;
/// How long another node is waited for in what it does at once.
const AT_ONCE_MS: u32 = 5000;
/// How long a program's first news are waited for in virgo-cpupool. It is looked at now and then after
/// that: a module in which somebody always waits could not be unloaded.
const FIRST_MS: u32 = 100;
const LOOK_MS: i64 = 20;
/// How soon a place for a program is asked for again where there was none.
const PLACE_MS: i64 = 100;
/// How long the end of a program whose time is over is waited for.
const ENDING_NS: u64 = 15_000_000_000;

/// Who serves the tube of this name.
pub(crate) fn module_of(name: &[u8]) -> Option<Module> {
    TUBES
        .iter()
        .find(|(tube, _)| *tube == name)
        .map(|(_, module)| *module)
}

/// What the state knows of it.
pub(crate) struct Run {
    /// None while the module goes.
    pool: Option<OwnedQueue>,
    core: Arc<Core>,
    /// Who has reserved what is being served.
    worker: u32,
    running: u16,
    most: u16,
    /// The most milliseconds that a request takes.
    time_ms: u32,
}

/// Serves requests until it is dropped, which waits for those that are being served. Sleeps.
pub(crate) struct Runner(Arc<Core>);

impl Runner {
    /// Begins with what waits already. `ENOMEM`. May sleep.
    pub(crate) fn new(core: Arc<Core>, most: u16, time_ms: u32) -> Result<Self> {
        let pool = OwnedQueue::pool(c"virgo_queue_run", most)?;
        {
            let mut held = core.hold();
            let now = held.now();
            let worker = held.join_quietly()?;
            held.run = Some(Run {
                pool: Some(pool),
                core: core.clone(),
                worker,
                running: 0,
                most,
                time_ms,
            });
            held.run_more(now);
        }
        Ok(Runner(core))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let pool = self.0.hold().run.as_mut().and_then(|run| run.pool.take());
        // Without the mutex, which each of them takes at its end.
        drop(pool);
        let mut held = self.0.hold();
        let now = held.now();
        let run = held.run.take();
        if let Some(run) = &run {
            held.leave(run.worker, now);
        }
        drop(held);
        drop(run);
    }
}

impl State {
    /// Whether the queue itself takes what is in this tube.
    pub(crate) fn is_run(&self, tube: u32) -> bool {
        self.run.is_some()
            && self
                .tubes
                .get(tube)
                .is_some_and(|tube| module_of(&tube.name).is_some())
    }

    /// Whether one more request can be served.
    pub(crate) fn can_run(&self) -> bool {
        self.run
            .as_ref()
            .is_some_and(|run| run.pool.is_some() && run.running < run.most)
    }

    /// Has as many requests served as can be.
    fn run_more(&mut self, now: u64) {
        for (name, _) in TUBES {
            if let Some(tube) = self.tube(name) {
                self.dispatch(tube, now);
            }
        }
    }

    /// Has a ready job served. False: there was no memory, and it is tried again later.
    pub(crate) fn run_job(&mut self, index: u32, now: u64) -> bool {
        let Some((core, worker)) = self.run.as_ref().map(|run| (run.core.clone(), run.worker))
        else {
            return false;
        };
        let before = self.must_wait();
        self.reserve(index, worker, now);
        let kept = self.must_wait();
        self.was_logged(before);
        let id = self.jobs.get(index).map_or(0, |job| job.id);
        let spawned = self.run.as_mut().and_then(|run| {
            run.pool
                .as_ref()?
                .spawn(move || serve(&core, id, kept))
                .ok()?;
            run.running = run.running.saturating_add(1);
            Some(())
        });
        if spawned.is_none() {
            self.later(index, now);
        }
        spawned.is_some()
    }

    /// Nothing has been done for it: it is ready again in a while, and was not begun.
    fn later(&mut self, index: u32, now: u64) {
        let pri = self.jobs.get_mut(index).map_or(0, |job| {
            job.counts.reserves = job.counts.reserves.saturating_sub(1);
            job.pri
        });
        self.release(index, pri, LATER, now);
    }
}

/// A request to be served.
struct Order {
    module: Module,
    text: KVVec<u8>,
    /// Somebody had it before.
    begun: bool,
    time_ms: u32,
}

/// The request, once the log knows that it was taken. `None`: it is not ours any more, or was put
/// off.
fn fetch(core: &Core, id: u64, kept: Option<u64>) -> Option<Order> {
    let mut held = core.hold();
    let worker = held.run.as_ref()?.worker;
    let most = held.run.as_ref()?.time_ms;
    let known = Control::keep(&mut held, kept);
    let index = held.own(worker, id)?;
    let order = known.and_then(|()| {
        let job = held.jobs.get(index).ok_or(ENOENT)?;
        let tube = held.tubes.get(job.tube).ok_or(ENOENT)?;
        let mut text = KVVec::with_capacity(job.body.len().saturating_add(2), GFP_KERNEL)?;
        text.extend_from_slice(&job.body, GFP_KERNEL)?;
        let time_ms = job.ttr.saturating_mul(1000).saturating_sub(MARGIN_MS);
        Ok(Order {
            module: module_of(&tube.name).ok_or(ENOENT)?,
            text,
            begun: job.counts.reserves > 1,
            time_ms: time_ms.min(most),
        })
    });
    if order.is_err() {
        let now = held.now();
        held.later(index, now);
    }
    order.ok()
}

/// What came of it: the answer, or what there is to say of the error.
type Outcome = (Meaning, KVVec<u8>);

fn failed(error: Error, what: core::fmt::Arguments<'_>) -> Result<Outcome> {
    use core::fmt::Write;
    let mut text = Text::default();
    text.write_fmt(what).map_err(|_| ENOMEM)?;
    Ok((
        Meaning::Failed(error.to_errno().unsigned_abs()),
        text.take(),
    ))
}

/// The node for one try.
fn choose(policy: Policy, here: NodeId) -> Result<NodeId> {
    match policy {
        // Its number is none of the table's where there is no cluster.
        Policy::Node(node) if node == here => Ok(here),
        policy => cluster::pick(policy),
    }
}

/// What is asked for, and no more than that.
fn within<T: Copy + Ord + Default>(asked: T, most: T) -> T {
    if asked == T::default() {
        most
    } else {
        asked.min(most)
    }
}

/// A program to be run.
struct Job<'a> {
    core: &'a Core,
    id: u64,
    start: Start<'a>,
    policy: Policy,
    again: bool,
    time_ms: u32,
}

impl Job<'_> {
    /// Keeps the request ours for as long again; whether it is ours.
    fn touch(&self) -> bool {
        let mut held = self.core.hold();
        let now = held.now();
        let worker = held.run.as_ref().map(|run| run.worker);
        let index = worker.and_then(|worker| held.own(worker, self.id));
        if let Some(index) = index {
            held.touch(index, now);
        }
        index.is_some()
    }

    /// Has it begun; its number there. `EBUSY`: there was no place for it.
    fn begin(&self, node: NodeId, limits: &Limits) -> Result<u64> {
        let arguments = u32::try_from(self.start.arguments.len()).map_err(|_| EINVAL)?;
        let mut message: KVVec<u8> = KVVec::new();
        for part in [
            &Start::header(limits, arguments)[..],
            self.start.arguments,
            self.start.input,
        ] {
            message.extend_from_slice(part, GFP_KERNEL)?;
        }
        let answer = cluster::call(node, Module::Cpupool, OP_START, &message, 8, AT_ONCE_MS)?;
        Ok(u64::from_le_bytes(*answer.first_chunk().ok_or(EIO)?))
    }

    /// Follows a run to its end: what is kept of it. Sleeps.
    fn follow(&self, node: NodeId, run: u64, most: u64, over_ns: u64) -> Result<KVVec<u8>> {
        let mut out: KVVec<u8> = KVVec::new();
        let mut err: KVVec<u8> = KVVec::new();
        let mut wait_ms = FIRST_MS;
        loop {
            let follow = Follow {
                id: run,
                // CAST: usize fits u64.
                out_at: out.len() as u64,
                err_at: err.len() as u64,
                limit: u32::MAX,
                wait_ms,
            };
            let request = follow.encode();
            let operation = OP_FOLLOW;
            match cluster::call(
                node,
                Module::Cpupool,
                operation,
                &request,
                MAX_PAYLOAD,
                AT_ONCE_MS,
            ) {
                Ok(answer) => {
                    let (progress, more, errors) = Progress::parse(&answer).ok_or(EIO)?;
                    out.extend_from_slice(more, GFP_KERNEL)?;
                    err.extend_from_slice(errors, GFP_KERNEL)?;
                    // The node bounds it; one that does not is not believed. CAST: usize fits u64.
                    if out.len().max(err.len()) as u64 > most {
                        return Err(emsgsize());
                    }
                    let news = !more.is_empty() || !errors.is_empty();
                    if progress.state != RUNNING && progress.more == 0 {
                        let end = Progress {
                            out_length: u32::try_from(out.len()).map_err(|_| EIO)?,
                            err_length: u32::try_from(err.len()).map_err(|_| EIO)?,
                            ..progress
                        };
                        let size = PROGRESS.saturating_add(out.len()).saturating_add(err.len());
                        let mut kept = KVVec::with_capacity(size, GFP_KERNEL)?;
                        for part in [&ran(node.number(), &end)[..], &out, &err] {
                            kept.extend_from_slice(part, GFP_KERNEL)?;
                        }
                        return Ok(kept);
                    }
                    if news {
                        continue;
                    }
                }
                // Others ask much of that node just now.
                Err(error) if error == EBUSY || error == enobufs() => {}
                Err(error) => return Err(error),
            }
            let now = monotonic_ns();
            // virgo-cpupool kills it when its time is over. The request stays ours until it has.
            if now >= over_ns && (!self.touch() || now >= over_ns.saturating_add(ENDING_NS)) {
                return Err(ETIMEDOUT);
            }
            wait_ms = 0;
            fsleep(Delta::from_millis(LOOK_MS));
        }
    }

    /// Has it run. Sleeps.
    fn run(&self) -> Result<Outcome> {
        // CAST: usize fits u64.
        let room = (self.core.limits().bytes / 4).saturating_sub(PROGRESS as u64) / 2;
        let most = OUTPUT.min(room).max(1);
        let over_ns =
            monotonic_ns().saturating_add(u64::from(self.time_ms).saturating_mul(1_000_000));
        let here = cluster::me();
        let mut tries = if self.again { TRIES } else { 1 };
        loop {
            let node = match choose(self.policy, here) {
                Ok(node) => node,
                Err(error) => return failed(error, fmt!("no node can be chosen")),
            };
            let left_ms = over_ns.saturating_sub(monotonic_ns()) / 1_000_000;
            let left_ms = u32::try_from(left_ms).unwrap_or(u32::MAX).max(1);
            let asked = self.start.limits;
            let limits = Limits {
                time_ms: within(asked.time_ms, left_ms),
                output: within(asked.output, most),
                ..asked
            };
            let begun = self.begin(node, &limits);
            if let Err(error) = begun {
                // Nothing has been begun there.
                if error == EBUSY && monotonic_ns() < over_ns {
                    fsleep(Delta::from_millis(PLACE_MS));
                    continue;
                }
            }
            tries = tries.saturating_sub(1);
            let ended = begun.and_then(|run| {
                self.follow(node, run, most, over_ns).inspect_err(|_| {
                    // One that nobody asks about is killed anyway, ten seconds later.
                    let run = run.to_le_bytes();
                    let _ = cluster::call(node, Module::Cpupool, OP_KILL, &run, 0, AT_ONCE_MS);
                })
            });
            let error = match ended {
                Ok(kept) => return Ok((Meaning::Program, kept)),
                Err(error) => error,
            };
            let lost = error == ehostdown() || error == ETIMEDOUT;
            if lost && tries > 0 && monotonic_ns() < over_ns {
                continue;
            }
            let words = match error {
                _ if begun.is_ok() || lost => "whether it ran to its end is not known",
                error if error == EACCES => "it is not among the programs that may be run there",
                error if error == EBUSY => "as many programs run there as may",
                error if error == eopnotsupp() => "no programs are set up there",
                error if error == ENODEV => "virgo-cpupool is not loaded there",
                _ => "it could not be started",
            };
            return failed(error, fmt!("node {:08x}: {}", node.number(), words));
        }
    }
}

/// Has a request served, here or on another node. Sleeps.
fn carry_out(core: &Core, id: u64, order: &mut Order, limit: usize) -> Result<Outcome> {
    // A request of the port ends with an end of line; who puts one here need not say it.
    if order.module == Module::Mempool && !order.text.ends_with(b"\n") {
        order.text.extend_from_slice(b"\r\n", GFP_KERNEL)?;
    }
    let Some(Errand {
        place,
        again,
        program,
        request,
    }) = errand::parse(&order.text)
    else {
        return failed(
            EINVAL,
            fmt!("no request, or a word with @ that is not known"),
        );
    };
    if order.begun && !again {
        return failed(
            EINTR,
            fmt!("it was begun before and did not end; whether it was served is not known"),
        );
    }
    let here = cluster::me();
    let policy = match (place, order.module) {
        (Place::Unsaid, Module::Cpupool) => Policy::Default,
        // A named value is where its key says, as by ioctl.
        (Place::Unsaid, Module::Mempool) => {
            Policy::Node(errand::key(request).map_or(here, cluster::owner))
        }
        (Place::Unsaid | Place::Here, _) => Policy::Node(here),
        (Place::LeastLoaded, _) => Policy::LeastLoaded,
        (Place::Random, _) => Policy::Random,
        (Place::TwoChoices, _) => Policy::TwoChoices,
        (Place::Node(number), _) => Policy::Node(cluster::NodeId::from_number(number)),
    };
    if program {
        let start = Start::parse(request).filter(|_| order.module == Module::Cpupool);
        let Some(start) = start else {
            return failed(EINVAL, fmt!("no program as it must be put"));
        };
        let job = Job {
            core,
            id,
            start,
            policy,
            again,
            time_ms: order.time_ms,
        };
        return job.run();
    }
    let mut input = KVVec::with_capacity(request.len().saturating_add(4), GFP_KERNEL)?;
    input.extend_from_slice(&order.time_ms.to_le_bytes(), GFP_KERNEL)?;
    input.extend_from_slice(request, GFP_KERNEL)?;
    let wait_ms = order.time_ms.saturating_add(WAY_MS);
    let mut tries = if again { TRIES } else { 1 };
    loop {
        tries = tries.saturating_sub(1);
        let node = match choose(policy, here) {
            Ok(node) => node,
            Err(error) => return failed(error, fmt!("no node can be chosen")),
        };
        match cluster::call(node, order.module, WORDS, &input, limit, wait_ms) {
            Ok(answer) => return Ok((Meaning::Bytes, answer)),
            Err(error) if error == ehostdown() && tries > 0 => {}
            Err(error) => return failed(error, fmt!("node {:08x}", node.number())),
        }
    }
}

/// Serves one, on the work queue.
fn serve(core: &Core, id: u64, kept: Option<u64>) {
    let limit =
        usize::try_from(core.limits().bytes / 4).map_or(MAX_PAYLOAD, |n| n.min(MAX_PAYLOAD));
    let outcome = fetch(core, id, kept).map(|mut order| {
        // Without memory for an answer there is none.
        carry_out(core, id, &mut order, limit).unwrap_or_else(|error| {
            (
                Meaning::Failed(error.to_errno().unsigned_abs()),
                KVVec::new(),
            )
        })
    });
    let mut held = core.hold();
    let now = held.now();
    let Some(run) = held.run.as_mut() else {
        return;
    };
    run.running = run.running.saturating_sub(1);
    let worker = run.worker;
    if let Some((meaning, body)) = outcome {
        // If its time was over it went back, and whoever has it now answers.
        if held.own(worker, id).is_some() {
            if held.answered(id, body, meaning).is_err() {
                let nothing = Meaning::Failed(ENOMEM.to_errno().unsigned_abs());
                let _ = held.answered(id, KVVec::new(), nothing);
            }
            held.delete(worker, id);
        }
    }
    // Nobody waits for these records.
    let _ = held.must_wait();
    held.run_more(now);
}
