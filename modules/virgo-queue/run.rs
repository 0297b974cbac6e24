// SPDX-License-Identifier: GPL-2.0-only

//! Requests for other modules: the queue takes them itself, has the module serve them, and keeps
//! the answer.
//!
//! What stands in the tube `virgo.cpupool` or `virgo.mempool` is a request in the words of that
//! module's port ([`errand`] has what may go before it). It is served on a work queue of our own,
//! a bounded number at once, and is then done with.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    control::Control,
    lib::{
        cluster::{
            self,
            Policy,
            MAX_PAYLOAD, //
        },
        compat::ehostdown,
        service::{
            Module,
            WORDS, //
        },
        workqueue::OwnedQueue, //
    },
    proto::errand::{
        self,
        Errand,
        Place, //
    },
    queue::Core,
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
            run.pool.as_ref()?.spawn(move || serve(&core, id, kept)).ok()?;
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

/// What came of it: an errno, 0 for none, and the answer or what there is to say of the error.
type Outcome = (u32, KVVec<u8>);

fn failed(error: Error, what: core::fmt::Arguments<'_>) -> Result<Outcome> {
    use core::fmt::Write;
    let mut text = Text::default();
    text.write_fmt(what).map_err(|_| ENOMEM)?;
    Ok((error.to_errno().unsigned_abs(), text.take()))
}

/// Has a request served, here or on another node. Sleeps.
fn carry_out(order: &mut Order, limit: usize) -> Result<Outcome> {
    // A request of the port ends with an end of line; who puts one here need not say it.
    if order.module == Module::Mempool && !order.text.ends_with(b"\n") {
        order.text.extend_from_slice(b"\r\n", GFP_KERNEL)?;
    }
    let Some(Errand {
        place,
        again,
        request,
    }) = errand::parse(&order.text)
    else {
        return failed(EINVAL, fmt!("no request, or a word with @ that is not known"));
    };
    if order.begun && !again {
        return failed(
            EINTR,
            fmt!("it was begun before and did not end; whether it was served is not known"),
        );
    }
    let mut input = KVVec::with_capacity(request.len().saturating_add(4), GFP_KERNEL)?;
    input.extend_from_slice(&order.time_ms.to_le_bytes(), GFP_KERNEL)?;
    input.extend_from_slice(request, GFP_KERNEL)?;
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
    let wait_ms = order.time_ms.saturating_add(WAY_MS);
    let mut tries = if again { TRIES } else { 1 };
    loop {
        tries = tries.saturating_sub(1);
        let node = match policy {
            // Its number is none of the table's where there is no cluster.
            Policy::Node(node) if node == here => here,
            policy => match cluster::pick(policy) {
                Ok(node) => node,
                Err(error) => return failed(error, fmt!("no node can be chosen")),
            },
        };
        match cluster::call(node, order.module, WORDS, &input, limit, wait_ms) {
            Ok(answer) => return Ok((0, answer)),
            Err(error) if error == ehostdown() && tries > 0 => {}
            Err(error) => return failed(error, fmt!("node {:08x}", node.number())),
        }
    }
}

/// Serves one, on the work queue.
fn serve(core: &Core, id: u64, kept: Option<u64>) {
    let limit = usize::try_from(core.limits().bytes / 4).map_or(MAX_PAYLOAD, |n| n.min(MAX_PAYLOAD));
    let outcome = fetch(core, id, kept).map(|mut order| {
        // Without memory for an answer there is none.
        carry_out(&mut order, limit)
            .unwrap_or_else(|error| (error.to_errno().unsigned_abs(), KVVec::new()))
    });
    let mut held = core.hold();
    let now = held.now();
    let Some(run) = held.run.as_mut() else {
        return;
    };
    run.running = run.running.saturating_sub(1);
    let worker = run.worker;
    if let Some((error, body)) = outcome {
        // If its time was over it went back, and whoever has it now answers.
        if held.own(worker, id).is_some() {
            if held.answered(id, body, error).is_err() {
                let _ = held.answered(id, KVVec::new(), ENOMEM.to_errno().unsigned_abs());
            }
            held.delete(worker, id);
        }
    }
    // Nobody waits for these records.
    let _ = held.must_wait();
    held.run_more(now);
}
