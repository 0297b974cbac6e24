// SPDX-License-Identifier: GPL-2.0-only

//! The queue itself: jobs, tubes, and who takes from them.
//!
//! Everything here is guarded by one mutex, [`crate::queue::Queue`]'s; nothing here waits for
//! anybody. A job lies in the set of all jobs by its number, and in one more, by what it is doing:
//!
//! | state | set | order |
//! |---|---|---|
//! | ready | its tube's | priority, number |
//! | delayed | its tube's | when it becomes ready |
//! | buried | its tube's | when it was buried |
//! | reserved | its worker's | when its time is over |
//!
//! Tubes and workers that something is due for lie in two more sets, so that the one timer knows
//! the next moment without looking at jobs.
//!
//! Between two calls no tube that is not paused has both ready jobs and workers that wait for
//! them: whoever adds one of the two calls [`State::dispatch`].

use kernel::prelude::*;

use crate::{
    lib::{
        event,
        listener::{
            Notifier,
            Responder, //
        },
        random::random_u32,
        service::Module,
        time::{
            monotonic_ns,
            wall_clock, //
        }, //
    },
    log::{
        Answer,
        Log,
        Policy, //
    },
    logic::treap::{
        Links,
        Nodes,
        Treap,
        NIL, //
    },
    proto::{
        beanstalk::{
            valid_name,
            MAX_NAME,
            URGENT, //
        },
        kingcobra::Exchange,
        qlog::{
            self,
            encoded_size,
            Record, //
        },
        uapi::{
            QUEUE_KEEP_ALWAYS,
            QUEUE_KEEP_DEFAULT,
            QUEUE_KEEP_NONE, //
        }, //
    },
    replies::Replies,
    run::Run,
    server::Server,
    slab::{
        Item,
        Slab, //
    },
    stats::Commands,
    text::Text,
};

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// A worker that waits is told so long before its own job's time is over.
const MARGIN: u64 = SECOND;

/// What the name of a tube for another's dead requests ends with.
const DEAD: &[u8] = b".dead";
/// The most tubes that get copies of another's requests.
const MAX_COPIES: usize = 16;

/// What a job is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Ready,
    Delayed,
    Buried,
    Reserved,
}

impl Phase {
    /// The protocol's word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Phase::Ready => "ready",
            Phase::Delayed => "delayed",
            Phase::Buried => "buried",
            Phase::Reserved => "reserved",
        }
    }
}

/// How often something happened to a job.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) reserves: u32,
    pub(crate) timeouts: u32,
    pub(crate) releases: u32,
    pub(crate) buries: u32,
    pub(crate) kicks: u32,
}

/// What somebody put in.
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) body: KVVec<u8>,
    /// When its delay or its time is over; for a buried one its place in the line.
    pub(crate) deadline: u64,
    /// When it was put, in nanoseconds since 1970 as of when the module was loaded.
    pub(crate) created: u64,
    pub(crate) pri: u32,
    /// Seconds.
    pub(crate) ttr: u32,
    /// Seconds.
    pub(crate) delay: u32,
    pub(crate) tube: u32,
    /// Who has reserved it.
    pub(crate) owner: u32,
    order: Links,
    by_id: Links,
    pub(crate) counts: Counts,
    /// The log's segment that its record is in; 0: it is not kept.
    pub(crate) segment: u64,
    pub(crate) phase: Phase,
}

impl Job {
    /// A job that is in no set. All fields are named: a default's body would have to be dropped.
    fn new(id: u64, tube: u32, ttr: u32, created: u64, body: KVVec<u8>) -> Self {
        Job {
            id,
            body,
            deadline: 0,
            created,
            pri: 0,
            ttr,
            delay: 0,
            tube,
            owner: NIL,
            order: Links::NONE,
            by_id: Links::NONE,
            counts: Counts::default(),
            segment: 0,
            phase: Phase::Buried,
        }
    }
}

impl Default for Job {
    fn default() -> Self {
        Job::new(0, NIL, 0, 0, KVVec::new())
    }
}

impl Item for Job {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.tube
    }
}

/// A set of jobs in the order of what they are doing.
struct ByOrder<'a>(&'a mut Slab<Job>);

impl Nodes for ByOrder<'_> {
    type Key = (u64, u64);

    fn key(&self, node: u32) -> (u64, u64) {
        self.0.get(node).map_or((0, 0), |job| match job.phase {
            Phase::Ready => (u64::from(job.pri), job.id),
            _ => (job.deadline, job.id),
        })
    }
    fn links(&self, node: u32) -> Links {
        self.0.get(node).map_or(Links::NONE, |job| job.order)
    }
    fn set_links(&mut self, node: u32, links: Links) {
        if let Some(job) = self.0.get_mut(node) {
            job.order = links;
        }
    }
}

/// The set of all jobs.
struct ById<'a>(&'a mut Slab<Job>);

impl Nodes for ById<'_> {
    type Key = u64;

    fn key(&self, node: u32) -> u64 {
        self.0.get(node).map_or(0, |job| job.id)
    }
    fn links(&self, node: u32) -> Links {
        self.0.get(node).map_or(Links::NONE, |job| job.by_id)
    }
    fn set_links(&mut self, node: u32, links: Links) {
        if let Some(job) = self.0.get_mut(node) {
            job.by_id = links;
        }
    }
}

/// A bag of indexes in beanstalkd's order: what leaves is replaced by the last, and taking goes
/// round. So workers that wait are served in the same order, and tubes are listed in the same.
#[derive(Default)]
pub(crate) struct Bag {
    items: KVec<u32>,
    last: usize,
}

impl Bag {
    /// Adds one. `ENOMEM`.
    fn push(&mut self, item: u32) -> Result {
        Ok(self.items.push(item, GFP_KERNEL)?)
    }

    fn remove_at(&mut self, at: usize) -> Option<u32> {
        let last = self.items.pop()?;
        match self.items.get_mut(at) {
            Some(place) => Some(core::mem::replace(place, last)),
            None => Some(last),
        }
    }

    /// Takes this one out; whether it was there.
    fn remove(&mut self, item: u32) -> bool {
        let Some(at) = self.items.iter().position(|i| *i == item) else {
            return false;
        };
        self.remove_at(at);
        true
    }

    /// Takes the one whose turn it is.
    fn take(&mut self) -> Option<u32> {
        self.last = self.last.checked_rem(self.items.len())?;
        let item = self.remove_at(self.last);
        self.last = self.last.saturating_add(1);
        item
    }

    /// Somebody came, was the only one, and was taken at once.
    fn taken_alone(&mut self) {
        self.last = 1;
    }

    pub(crate) fn contains(&self, item: u32) -> bool {
        self.items.contains(&item)
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.items
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

/// What is set for one tube.
#[derive(Default)]
pub(crate) struct TubeSettings {
    /// The most jobs; 0: what the module allows.
    pub(crate) limit: u32,
    /// A job that was taken so often does not come back; 0: it always does.
    pub(crate) tries: u32,
    /// `QUEUE_KEEP_DEFAULT` and so on.
    pub(crate) keep: u32,
    /// The tubes that get copies: names, each with a NUL behind it.
    pub(crate) copies: KVec<u8>,
}

impl TubeSettings {
    /// Nothing is.
    fn is_none(&self) -> bool {
        self.limit == 0
            && self.tries == 0
            && self.keep == QUEUE_KEEP_DEFAULT
            && self.copies.is_empty()
    }

    /// The names of the tubes that get copies.
    fn copies(&self) -> impl Iterator<Item = &[u8]> {
        self.copies
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
    }

    /// Whether the tube `name` can have these. `EINVAL`.
    pub(crate) fn check(&self, name: &[u8]) -> Result {
        let whole = self.copies.is_empty() || self.copies.last() == Some(&0);
        let good = |copy: &[u8]| valid_name(copy) && copy != name;
        let dead = name.len().saturating_add(DEAD.len()) <= MAX_NAME;
        let all = self.copies().count() <= MAX_COPIES && self.copies().all(good);
        let fits = whole && all && (self.tries == 0 || dead);
        (fits && self.keep <= QUEUE_KEEP_ALWAYS)
            .then_some(())
            .ok_or(EINVAL)
    }
}

/// A line of jobs, by name.
pub(crate) struct Tube {
    pub(crate) name: KVec<u8>,
    pub(crate) settings: TubeSettings,
    /// The log's segment that the settings are in, and how many bytes they take; 0: none.
    segment: u64,
    record: u64,
    ready: Treap,
    delayed: Treap,
    buried: Treap,
    pub(crate) ready_ct: u64,
    pub(crate) delayed_ct: u64,
    pub(crate) buried_ct: u64,
    pub(crate) reserved_ct: u64,
    pub(crate) urgent_ct: u64,
    pub(crate) total_jobs: u64,
    pub(crate) deletes: u64,
    pub(crate) pauses: u64,
    /// The length of the pause; 0: not paused.
    pub(crate) pause: u64,
    pub(crate) unpause_at: u64,
    pub(crate) using: u32,
    pub(crate) watching: u32,
    /// Stays without jobs and users.
    pub(crate) kept: bool,
    pub(crate) waiting: Bag,
    /// Who is told of each job.
    subscribers: Bag,
    hash: u32,
    by_name: Links,
    due: u64,
    by_due: Links,
    free: u32,
}

impl Default for Tube {
    fn default() -> Self {
        Tube {
            name: KVec::new(),
            settings: TubeSettings::default(),
            segment: 0,
            record: 0,
            ready: Treap::new(0),
            delayed: Treap::new(0),
            buried: Treap::new(0),
            ready_ct: 0,
            delayed_ct: 0,
            buried_ct: 0,
            reserved_ct: 0,
            urgent_ct: 0,
            total_jobs: 0,
            deletes: 0,
            pauses: 0,
            pause: 0,
            unpause_at: 0,
            using: 0,
            watching: 0,
            kept: false,
            waiting: Bag::default(),
            subscribers: Bag::default(),
            hash: 0,
            by_name: Links::NONE,
            due: u64::MAX,
            by_due: Links::NONE,
            free: NIL,
        }
    }
}

impl Item for Tube {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.free
    }
}

impl Tube {
    /// All its jobs.
    pub(crate) fn jobs(&self) -> u64 {
        self.ready_ct
            .saturating_add(self.delayed_ct)
            .saturating_add(self.buried_ct)
            .saturating_add(self.reserved_ct)
    }
}

/// How a worker waits.
pub(crate) enum Waiting {
    No,
    /// On a connection, which gets its answer through this.
    Line(Responder<Server>),
    /// In an ioctl; the job that it got.
    File(Option<u32>),
}

/// Who puts and takes: a connection or an open file.
pub(crate) struct Worker {
    pub(crate) using: u32,
    pub(crate) watch: Bag,
    reserved: Treap,
    pub(crate) reserved_ct: u32,
    waiting: Waiting,
    /// When it has waited long enough.
    until: u64,
    /// What it got in an ioctl is its own when this record is kept.
    pub(crate) kept_at: Option<u64>,
    producer: bool,
    taker: bool,
    /// Which of those that had this place it is.
    pub(crate) serial: u64,
    /// How it is told of answers, if it asked for any.
    pub(crate) notifier: Option<Notifier<Server>>,
    /// The tubes of whose jobs it is told.
    topics: Bag,
    due: u64,
    by_due: Links,
    free: u32,
}

impl Default for Worker {
    fn default() -> Self {
        Worker {
            using: NIL,
            watch: Bag::default(),
            reserved: Treap::new(0),
            reserved_ct: 0,
            waiting: Waiting::No,
            until: u64::MAX,
            kept_at: None,
            producer: false,
            taker: false,
            serial: 0,
            notifier: None,
            topics: Bag::default(),
            due: u64::MAX,
            by_due: Links::NONE,
            free: NIL,
        }
    }
}

impl Item for Worker {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.free
    }
}

/// All tubes by their names' hashes.
struct ByName<'a>(&'a mut Slab<Tube>);

impl Nodes for ByName<'_> {
    type Key = u64;

    fn key(&self, node: u32) -> u64 {
        let hash = self.0.get(node).map_or(0, |tube| tube.hash);
        // One more than the index, so that something is before the first of a hash.
        before_hash(hash)
            .saturating_add(u64::from(node))
            .saturating_add(1)
    }
    fn links(&self, node: u32) -> Links {
        self.0.get(node).map_or(Links::NONE, |tube| tube.by_name)
    }
    fn set_links(&mut self, node: u32, links: Links) {
        if let Some(tube) = self.0.get_mut(node) {
            tube.by_name = links;
        }
    }
}

/// The key before those of the tubes whose names have this hash.
fn before_hash(hash: u32) -> u64 {
    u64::from(hash) << 32
}

/// Tubes and workers by what is due.
struct ByDue<'a, T>(&'a mut Slab<T>);

macro_rules! by_due {
    ($type:ty) => {
        impl Nodes for ByDue<'_, $type> {
            type Key = (u64, u32);

            fn key(&self, node: u32) -> (u64, u32) {
                self.0.get(node).map_or((0, 0), |item| (item.due, node))
            }
            fn links(&self, node: u32) -> Links {
                self.0.get(node).map_or(Links::NONE, |item| item.by_due)
            }
            fn set_links(&mut self, node: u32, links: Links) {
                if let Some(item) = self.0.get_mut(node) {
                    item.by_due = links;
                }
            }
        }
    };
}
by_due!(Tube);
by_due!(Worker);

/// The sum over all tubes and workers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) buried: u64,
    pub(crate) reserved: u64,
    pub(crate) urgent: u64,
    pub(crate) waiting: u64,
    pub(crate) producers: u64,
    pub(crate) takers: u64,
    pub(crate) timeouts: u64,
    pub(crate) jobs: u64,
    /// Connections now.
    pub(crate) connections: u64,
    /// Connections so far.
    pub(crate) connected: u64,
}

/// Bounds, set when the module is loaded.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a job's body.
    pub(crate) job_size: u32,
    /// Bytes of memory for jobs.
    pub(crate) bytes: u64,
    pub(crate) tubes: u32,
    /// Jobs in one tube.
    pub(crate) tube_jobs: u64,
}

/// Why a job is not taken in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// No more jobs are taken at all.
    Draining,
    /// So many bytes is the most.
    Bytes(u64),
    /// So many jobs is the most for its tube.
    Tube(u64),
    /// So many bytes is the most for one.
    Job(u32),
    /// The system has no memory.
    Memory,
    /// The log cannot be written.
    Log(Error),
    /// The log is written more slowly than requests come.
    Slow,
}

impl From<Error> for Full {
    fn from(_: Error) -> Self {
        Full::Memory
    }
}

impl From<kernel::alloc::AllocError> for Full {
    fn from(_: kernel::alloc::AllocError) -> Self {
        Full::Memory
    }
}

/// What a job is to be.
pub(crate) struct New {
    pub(crate) id: u64,
    pub(crate) tube: u32,
    pub(crate) pri: u32,
    pub(crate) delay: u32,
    pub(crate) ttr: u32,
    pub(crate) body: KVVec<u8>,
}

/// The queue.
pub(crate) struct State {
    pub(crate) limits: Limits,
    pub(crate) jobs: Slab<Job>,
    pub(crate) tubes: Slab<Tube>,
    pub(crate) workers: Slab<Worker>,
    /// The tubes in the order they are listed in.
    pub(crate) listed: Bag,
    all: Treap,
    names: Treap,
    tubes_due: Treap,
    workers_due: Treap,
    pub(crate) default_tube: u32,
    /// The one that was last looked up by its name; mostly it is the next one as well.
    last_tube: u32,
    next_id: u64,
    bury_seq: u64,
    seed: u32,
    pub(crate) totals: Totals,
    pub(crate) commands: Commands,
    /// The last exchange's moment.
    exchange: (u64, u32),
    /// Bytes of jobs' bodies, as the allocator has them.
    pub(crate) bytes: u64,
    pub(crate) draining: bool,
    pub(crate) started: u64,
    /// Some file got its job or its time is over: who waits for one looks.
    pub(crate) files_changed: bool,
    /// Somebody polls: whatever becomes ready is told.
    pub(crate) polled: bool,
    /// What keeps jobs over a power cut.
    pub(crate) log: Option<Log>,
    /// Answers to requests.
    pub(crate) replies: Replies,
    /// Serves requests for other modules, if that is set.
    pub(crate) run: Option<Run>,
    /// The last record that was appended since somebody looked.
    logged: Option<u64>,
    /// From CLOCK_MONOTONIC to nanoseconds since 1970, as of when the module was loaded.
    wall: u64,
}

/// The most tubes that one connection subscribes to.
const MAX_TOPICS: usize = 256;

/// A text up to its first line's end.
pub(crate) fn first_line(text: &[u8]) -> &[u8] {
    text.split(|byte| matches!(byte, b'\r' | b'\n' | 0))
        .next()
        .unwrap_or(&[])
}

/// The most bytes that wait to be written into the log.
const MAX_GATHERED: usize = 64 << 20;

/// What a job's body takes.
fn weight_of(body: &KVVec<u8>) -> u64 {
    // CAST: usize fits u64.
    body.capacity() as u64
}

/// When a delay that begins now is over.
const fn delayed_until(delay: u32, now: u64) -> u64 {
    // CAST: u32 fits u64.
    now.saturating_add((delay as u64).saturating_mul(SECOND))
}

/// FNV-1a.
fn hash_of(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

impl State {
    /// An empty queue with the tube "default". `ENOMEM`.
    pub(crate) fn new(limits: Limits, now: u64) -> Result<Self> {
        let seed = random_u32();
        let mut state = State {
            limits,
            jobs: Slab::new(),
            tubes: Slab::new(),
            workers: Slab::new(),
            listed: Bag::default(),
            all: Treap::new(seed),
            names: Treap::new(seed),
            tubes_due: Treap::new(seed),
            workers_due: Treap::new(seed),
            default_tube: NIL,
            last_tube: NIL,
            next_id: 1,
            bury_seq: 0,
            seed,
            totals: Totals::default(),
            commands: Commands::default(),
            exchange: (0, 0),
            bytes: 0,
            draining: false,
            started: now,
            files_changed: false,
            polled: false,
            log: None,
            replies: Replies::new(seed),
            run: None,
            logged: None,
            wall: {
                let (seconds, nanoseconds) = wall_clock();
                seconds
                    .saturating_mul(SECOND)
                    .saturating_add(u64::from(nanoseconds))
                    .saturating_sub(now)
            },
        };
        let tube = state.tube_made(b"default")?;
        state.default_tube = tube;
        if let Some(tube) = state.tubes.get_mut(tube) {
            tube.kept = true;
        }
        Ok(state)
    }

    // --- tubes

    /// The tube of this name.
    pub(crate) fn tube(&mut self, name: &[u8]) -> Option<u32> {
        let is = |tube: &Tube| tube.name.as_slice() == name;
        if self.tubes.get(self.last_tube).is_some_and(is) {
            return Some(self.last_tube);
        }
        let hash = hash_of(name);
        let nodes = ByName(&mut self.tubes);
        let mut next = self.names.after(&nodes, before_hash(hash));
        while let Some(index) = next {
            let tube = nodes.0.get(index)?;
            if tube.hash != hash {
                return None;
            }
            if is(tube) {
                self.last_tube = index;
                return next;
            }
            next = self.names.after(&nodes, nodes.key(index));
        }
        None
    }

    /// The tube of this name, made if it is not there. `ENOSPC` at the limit; `ENOMEM`.
    pub(crate) fn tube_made(&mut self, name: &[u8]) -> Result<u32> {
        if let Some(tube) = self.tube(name) {
            return Ok(tube);
        }
        // CAST: u32 fits usize on 64-bit.
        if self.listed.len() >= self.limits.tubes as usize {
            return Err(ENOSPC);
        }
        let mut own = KVec::with_capacity(name.len(), GFP_KERNEL)?;
        own.extend_from_slice(name, GFP_KERNEL)?;
        let tube = self.tubes.insert(Tube {
            name: own,
            hash: hash_of(name),
            ready: Treap::new(self.seed),
            delayed: Treap::new(self.seed),
            buried: Treap::new(self.seed),
            ..Tube::default()
        })?;
        if let Err(error) = self.listed.push(tube) {
            self.tubes.remove(tube);
            return Err(error);
        }
        self.names.insert(&mut ByName(&mut self.tubes), tube);
        Ok(tube)
    }

    /// Removes a tube that nobody needs.
    pub(crate) fn tube_dropped(&mut self, index: u32) {
        let Some(tube) = self.tubes.get(index) else {
            return;
        };
        let needed = !tube.settings.is_none() || tube.subscribers.len() > 0;
        if tube.kept || needed || tube.using > 0 || tube.watching > 0 || tube.jobs() > 0 {
            return;
        }
        self.set_tube_due(index, u64::MAX);
        // One that has gone already is in no list; its place must not be given back twice.
        if self.listed.remove(index) {
            if self.last_tube == index {
                self.last_tube = NIL;
            }
            self.names.remove(&mut ByName(&mut self.tubes), index);
            self.tubes.remove(index);
        }
    }

    fn set_tube_due(&mut self, index: u32, due: u64) {
        let Some(old) = self.tubes.get(index).map(|tube| tube.due) else {
            return;
        };
        if old == due {
            return;
        }
        let mut nodes = ByDue(&mut self.tubes);
        if old != u64::MAX {
            self.tubes_due.remove(&mut nodes, index);
        }
        if let Some(tube) = nodes.0.get_mut(index) {
            tube.due = due;
        }
        if due != u64::MAX {
            self.tubes_due.insert(&mut nodes, index);
        }
    }

    fn reckon_tube(&mut self, index: u32) {
        let Some(tube) = self.tubes.get(index) else {
            return;
        };
        let mut due = u64::MAX;
        if tube.pause > 0 {
            due = tube.unpause_at;
        }
        if tube.delayed_ct > 0 {
            let delayed = tube.delayed;
            if let Some(job) = delayed.first(&ByOrder(&mut self.jobs)) {
                due = due.min(self.jobs.get(job).map_or(u64::MAX, |job| job.deadline));
            }
        }
        self.set_tube_due(index, due);
    }

    /// Whether jobs of the tube may be given out; a pause that is over ends here.
    fn open(&mut self, index: u32, now: u64) -> bool {
        let Some(tube) = self.tubes.get_mut(index) else {
            return false;
        };
        if tube.pause == 0 {
            return true;
        }
        if tube.unpause_at > now {
            return false;
        }
        tube.pause = 0;
        self.reckon_tube(index);
        true
    }

    /// Gives no jobs of a tube out for so many seconds.
    pub(crate) fn pause(&mut self, index: u32, seconds: u32, now: u64) {
        if let Some(tube) = self.tubes.get_mut(index) {
            // At least something, so that who waits is woken.
            tube.pause = u64::from(seconds).saturating_mul(SECOND).max(1);
            tube.unpause_at = now.saturating_add(tube.pause);
            tube.pauses = tube.pauses.saturating_add(1);
        }
        self.reckon_tube(index);
    }

    // --- workers

    /// A file or a module comes, which says with each command which tube it means. `ENOMEM`.
    pub(crate) fn join_quietly(&mut self) -> Result<u32> {
        self.workers.insert(Worker {
            reserved: Treap::new(self.seed),
            ..Worker::default()
        })
    }

    /// A connection comes. `ENOMEM`.
    pub(crate) fn join(&mut self) -> Result<u32> {
        let mut watch = Bag::default();
        watch.push(self.default_tube)?;
        let worker = self.workers.insert(Worker {
            using: self.default_tube,
            watch,
            serial: self.totals.connected,
            reserved: Treap::new(self.seed),
            ..Worker::default()
        })?;
        if let Some(tube) = self.tubes.get_mut(self.default_tube) {
            tube.using = tube.using.saturating_add(1);
            tube.watching = tube.watching.saturating_add(1);
        }
        self.totals.connections = self.totals.connections.saturating_add(1);
        self.totals.connected = self.totals.connected.saturating_add(1);
        Ok(worker)
    }

    /// Somebody goes; what is still reserved is ready again.
    pub(crate) fn leave(&mut self, index: u32, now: u64) {
        self.wait_ends(index);
        while let Some(job) = self.soonest(index) {
            self.unlink(job);
            self.comes_back(job, now);
        }
        self.set_worker_due(index, u64::MAX);
        let Some(worker) = self.workers.remove(index) else {
            return;
        };
        if worker.using != NIL {
            self.totals.connections = self.totals.connections.saturating_sub(1);
        }
        if worker.producer {
            self.totals.producers = self.totals.producers.saturating_sub(1);
        }
        if worker.taker {
            self.totals.takers = self.totals.takers.saturating_sub(1);
        }
        for tube in worker.watch.as_slice() {
            if let Some(tube) = self.tubes.get_mut(*tube) {
                tube.watching = tube.watching.saturating_sub(1);
            }
            self.tube_dropped(*tube);
        }
        for tube in worker.topics.as_slice() {
            if let Some(tube) = self.tubes.get_mut(*tube) {
                tube.subscribers.remove(index);
            }
            self.tube_dropped(*tube);
        }
        if let Some(tube) = self.tubes.get_mut(worker.using) {
            tube.using = tube.using.saturating_sub(1);
        }
        self.tube_dropped(worker.using);
    }

    fn set_worker_due(&mut self, index: u32, due: u64) {
        let Some(old) = self.workers.get(index).map(|worker| worker.due) else {
            return;
        };
        if old == due {
            return;
        }
        let mut nodes = ByDue(&mut self.workers);
        if old != u64::MAX {
            self.workers_due.remove(&mut nodes, index);
        }
        if let Some(worker) = nodes.0.get_mut(index) {
            worker.due = due;
        }
        if due != u64::MAX {
            self.workers_due.insert(&mut nodes, index);
        }
    }

    /// The worker's job whose time is over first.
    fn soonest(&mut self, index: u32) -> Option<u32> {
        let reserved = self.workers.get(index)?.reserved;
        reserved.first(&ByOrder(&mut self.jobs))
    }

    fn soonest_deadline(&mut self, index: u32) -> u64 {
        self.soonest(index)
            .and_then(|job| self.jobs.get(job))
            .map_or(u64::MAX, |job| job.deadline)
    }

    /// When the timer is to look at a worker.
    fn due_of(&mut self, index: u32) -> u64 {
        let deadline = self.soonest_deadline(index);
        let Some(worker) = self.workers.get(index) else {
            return u64::MAX;
        };
        match (&worker.waiting, deadline) {
            (Waiting::No | Waiting::File(Some(_)), u64::MAX) => u64::MAX,
            // A job is late when its time has passed, not when it comes.
            (Waiting::No | Waiting::File(Some(_)), _) => deadline.saturating_add(1),
            (_, u64::MAX) => worker.until,
            _ => worker.until.min(deadline.saturating_sub(MARGIN)),
        }
    }

    /// Sees to it that the timer looks at a worker in time. That may be too early, as what is due
    /// later than it was is left where it is: a job is mostly done with long before its time is
    /// over, and another taken; [`State::worker_is_due`] puts it right once.
    fn reckon_worker(&mut self, index: u32) {
        let due = self.due_of(index);
        if self.workers.get(index).is_some_and(|w| due < w.due) {
            self.set_worker_due(index, due);
        }
    }

    /// Marks a worker as one that puts.
    pub(crate) fn is_producer(&mut self, index: u32) {
        if let Some(worker) = self.workers.get_mut(index) {
            if !worker.producer {
                worker.producer = true;
                self.totals.producers = self.totals.producers.saturating_add(1);
            }
        }
    }

    /// Marks a worker as one that takes.
    pub(crate) fn is_taker(&mut self, index: u32) {
        if let Some(worker) = self.workers.get_mut(index) {
            if !worker.taker {
                worker.taker = true;
                self.totals.takers = self.totals.takers.saturating_add(1);
            }
        }
    }

    /// Puts go into this tube from here on.
    pub(crate) fn use_tube(&mut self, index: u32, tube: u32) {
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let old = core::mem::replace(&mut worker.using, tube);
        if let Some(tube) = self.tubes.get_mut(tube) {
            tube.using = tube.using.saturating_add(1);
        }
        if let Some(tube) = self.tubes.get_mut(old) {
            tube.using = tube.using.saturating_sub(1);
        }
        self.tube_dropped(old);
    }

    /// Takes come from this tube too. How many there are now. `ENOMEM`.
    pub(crate) fn watch(&mut self, index: u32, tube: u32) -> Result<usize> {
        let worker = self.workers.get_mut(index).ok_or(ENOENT)?;
        if !worker.watch.contains(tube) {
            worker.watch.push(tube)?;
            if let Some(tube) = self.tubes.get_mut(tube) {
                tube.watching = tube.watching.saturating_add(1);
            }
        }
        Ok(worker.watch.len())
    }

    /// Takes come from this tube alone. `ENOMEM`.
    pub(crate) fn watch_only(&mut self, index: u32, tube: u32) -> Result {
        let worker = self.workers.get(index).ok_or(ENOENT)?;
        if worker.watch.as_slice() == [tube] {
            return Ok(());
        }
        self.watch(index, tube)?;
        while let Some(other) = self.workers.get(index).and_then(|w| {
            w.watch
                .as_slice()
                .iter()
                .copied()
                .find(|other| *other != tube)
        }) {
            self.unwatch(index, other);
        }
        Ok(())
    }

    fn unwatch(&mut self, index: u32, tube: u32) {
        if let Some(worker) = self.workers.get_mut(index) {
            worker.watch.remove(tube);
        }
        if let Some(tube) = self.tubes.get_mut(tube) {
            tube.watching = tube.watching.saturating_sub(1);
        }
        self.tube_dropped(tube);
    }

    /// Takes come from this tube no more. How many there are now; `None`: it is the last one.
    pub(crate) fn ignore(&mut self, index: u32, name: &[u8]) -> Option<usize> {
        let tube = self.tube(name);
        let worker = self.workers.get_mut(index)?;
        let Some(tube) = tube.filter(|tube| worker.watch.contains(*tube)) else {
            return Some(worker.watch.len());
        };
        if worker.watch.len() < 2 {
            return None;
        }
        let left = worker.watch.len().saturating_sub(1);
        self.unwatch(index, tube);
        Some(left)
    }

    /// The worker is told of each job of this tube from here on. `ENOSPC` at the limit, `ENOMEM`.
    pub(crate) fn subscribe(&mut self, index: u32, tube: u32) -> Result {
        let (Some(worker), Some(tube_of)) = (self.workers.get_mut(index), self.tubes.get_mut(tube))
        else {
            return Err(ENOENT);
        };
        if worker.topics.contains(tube) {
            return Ok(());
        }
        if worker.topics.len() >= MAX_TOPICS {
            return Err(ENOSPC);
        }
        worker.topics.push(tube)?;
        if let Err(error) = tube_of.subscribers.push(index) {
            worker.topics.remove(tube);
            return Err(error);
        }
        Ok(())
    }

    /// And no more.
    pub(crate) fn unsubscribe(&mut self, index: u32, tube: u32) {
        if let Some(worker) = self.workers.get_mut(index) {
            worker.topics.remove(tube);
        }
        if let Some(tube) = self.tubes.get_mut(tube) {
            tube.subscribers.remove(index);
        }
        self.tube_dropped(tube);
    }

    /// Tells those who subscribed to a tube of a text: `MESSAGE#tube#text`. How many were told; one
    /// that does not read what it is told misses it.
    pub(crate) fn tell(&self, tube: u32, text: &[u8]) -> usize {
        let Some(tube) = self.tubes.get(tube) else {
            return 0;
        };
        let shown = first_line(text);
        let told = |worker: &&u32| {
            let worker = self.workers.get(**worker);
            let Some(notifier) = worker.and_then(|worker| worker.notifier.as_ref()) else {
                return false;
            };
            let size = tube.name.len().saturating_add(shown.len());
            let message = || -> Result {
                let mut message = Text::with_capacity(size.saturating_add(16))?;
                let parts: [&[u8]; 5] = [b"MESSAGE#", &tube.name, b"#", shown, b"\r\n"];
                for part in parts {
                    message.push(part)?;
                }
                notifier.send(message.take())
            };
            message().is_ok()
        };
        tube.subscribers.as_slice().iter().filter(told).count()
    }

    /// The worker waits no more; how it did.
    pub(crate) fn wait_ends(&mut self, index: u32) -> Waiting {
        let Some(worker) = self.workers.get_mut(index) else {
            return Waiting::No;
        };
        let was = core::mem::replace(&mut worker.waiting, Waiting::No);
        worker.until = u64::MAX;
        if matches!(was, Waiting::No | Waiting::File(Some(_))) {
            return was;
        }
        self.totals.waiting = self.totals.waiting.saturating_sub(1);
        for tube in worker.watch.as_slice() {
            if let Some(tube) = self.tubes.get_mut(*tube) {
                tube.waiting.remove(index);
            }
        }
        self.reckon_worker(index);
        was
    }

    /// The worker waits until a job comes or it is `until`. `ENOMEM`.
    pub(crate) fn wait(&mut self, index: u32, how: Waiting, until: u64) -> Result {
        let Some(worker) = self.workers.get_mut(index) else {
            return Err(ENOENT);
        };
        for (done, tube) in worker.watch.as_slice().iter().enumerate() {
            let Some(tube) = self.tubes.get_mut(*tube) else {
                continue;
            };
            if let Err(error) = tube.waiting.push(index) {
                for tube in worker.watch.as_slice().iter().take(done) {
                    if let Some(tube) = self.tubes.get_mut(*tube) {
                        tube.waiting.remove(index);
                    }
                }
                return Err(error);
            }
        }
        worker.waiting = how;
        worker.until = until;
        self.totals.waiting = self.totals.waiting.saturating_add(1);
        self.reckon_worker(index);
        Ok(())
    }

    /// Whether a job of the worker's own is about to be late while nothing else is ready: a wait
    /// would be told so at once.
    pub(crate) fn deadline_soon(&mut self, index: u32, now: u64) -> bool {
        let soon = self.soonest_deadline(index).saturating_sub(MARGIN) <= now;
        soon && !self.workers.get(index).is_some_and(|worker| {
            let ready = |tube: &u32| self.tubes.get(*tube).is_some_and(|tube| tube.ready_ct > 0);
            worker.watch.as_slice().iter().any(ready)
        })
    }

    /// The best ready job of the tubes that the worker watches.
    pub(crate) fn best(&mut self, index: u32, now: u64) -> Option<u32> {
        let mut best: Option<(u32, u64, u32)> = None;
        let mut place = 0;
        while let Some(tube) = self
            .workers
            .get(index)
            .and_then(|worker| worker.watch.as_slice().get(place).copied())
        {
            place = place.saturating_add(1);
            if !self.open(tube, now) {
                continue;
            }
            let Some(job) = self.first_ready(tube) else {
                continue;
            };
            let Some((pri, id)) = self.jobs.get(job).map(|job| (job.pri, job.id)) else {
                continue;
            };
            if best.is_none_or(|(p, i, _)| (pri, id) < (p, i)) {
                best = Some((pri, id, job));
            }
        }
        best.map(|(_, _, job)| job)
    }

    /// Gives the best job of a worker's tubes to it: its turn, as if it had waited.
    pub(crate) fn reserve_best(&mut self, index: u32, worker: u32, now: u64) {
        let tube = self.jobs.get(index).map(|job| job.tube);
        if let Some(tube) = tube.and_then(|tube| self.tubes.get_mut(tube)) {
            tube.waiting.taken_alone();
        }
        self.reserve(index, worker, now);
    }

    // --- jobs

    /// The next number.
    pub(crate) fn new_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = id.saturating_add(1);
        id
    }

    /// An exchange that begins now, at a moment that no other has.
    pub(crate) fn new_exchange(&mut self, address: u32, now: (u64, u32)) -> Exchange {
        let (seconds, nanoseconds) = self.exchange;
        let next = if nanoseconds < 999_999_999 {
            (seconds, nanoseconds.saturating_add(1))
        } else {
            (seconds.saturating_add(1), 0)
        };
        self.exchange = now.max(next);
        Exchange {
            address,
            seconds: self.exchange.0,
            nanoseconds: self.exchange.1,
        }
    }

    /// The tube that the worker puts into.
    pub(crate) fn using(&self, worker: u32) -> Option<u32> {
        self.workers.get(worker).map(|worker| worker.using)
    }

    /// The job with this number, if nobody has reserved it.
    pub(crate) fn free_job(&mut self, id: u64) -> Option<u32> {
        let free = |job: &Job| job.phase != Phase::Reserved;
        self.job(id)
            .filter(|index| self.jobs.get(*index).is_some_and(free))
    }

    /// The job with this number.
    pub(crate) fn job(&mut self, id: u64) -> Option<u32> {
        self.all.find(&ById(&mut self.jobs), id)
    }

    /// The next ready job of a tube.
    pub(crate) fn first_ready(&mut self, tube: u32) -> Option<u32> {
        let set = self.tubes.get(tube)?.ready;
        set.first(&ByOrder(&mut self.jobs))
    }

    /// The next delayed job of a tube.
    pub(crate) fn first_delayed(&mut self, tube: u32) -> Option<u32> {
        let set = self.tubes.get(tube)?.delayed;
        set.first(&ByOrder(&mut self.jobs))
    }

    /// The first buried job of a tube.
    pub(crate) fn first_buried(&mut self, tube: u32) -> Option<u32> {
        let set = self.tubes.get(tube)?.buried;
        set.first(&ByOrder(&mut self.jobs))
    }

    /// Whether a job of `size` bytes may come into a tube.
    pub(crate) fn room(&self, tube: u32, size: u64) -> Result<(), Full> {
        if self.draining {
            return Err(Full::Draining);
        }
        let settings = self.tubes.get(tube).map(|tube| &tube.settings);
        let kept = settings.is_none_or(|settings| settings.keep != QUEUE_KEEP_NONE);
        if let Some(log) = self.log.as_ref().filter(|_| kept) {
            if let Some(error) = log.failed {
                return Err(Full::Log(error));
            }
            if log.gathered() > MAX_GATHERED {
                return Err(Full::Slow);
            }
        }
        // CAST: usize fits u64.
        let fixed = size_of::<Job>() as u64;
        let jobs = (self.jobs.len() as u64).saturating_add(1);
        let after = self
            .bytes
            .saturating_add(size)
            .saturating_add(fixed.saturating_mul(jobs));
        if after > self.limits.bytes {
            return Err(Full::Bytes(self.limits.bytes));
        }
        let most = match settings.map_or(0, |settings| settings.limit) {
            0 => self.limits.tube_jobs,
            own => self.limits.tube_jobs.min(own.into()),
        };
        if self.tubes.get(tube).is_some_and(|tube| tube.jobs() >= most) {
            return Err(Full::Tube(most));
        }
        Ok(())
    }

    /// Takes a job in, and a copy of it into each tube that gets one; all of them or none.
    pub(crate) fn put(&mut self, new: New, now: u64) -> Result<u64, Full> {
        let Some(tube) = self.tubes.get_mut(new.tube) else {
            return Err(Full::Memory);
        };
        if tube.settings.copies.is_empty() {
            return self.put_one(new, now);
        }
        let settings = core::mem::take(&mut tube.settings);
        let mut copies = KVec::new();
        let made = self.copies_of(&new, &settings, &mut copies);
        if let Some(tube) = self.tubes.get_mut(new.tube) {
            tube.settings = settings;
        }
        let mut tubes = [NIL; MAX_COPIES];
        for (place, copy) in tubes.iter_mut().zip(&copies) {
            *place = copy.tube;
        }
        let done = made.and_then(|()| self.put_with(new, copies, now));
        if done.is_err() {
            for tube in tubes {
                self.tube_dropped(tube);
            }
        }
        done
    }

    fn copies_of(
        &mut self,
        new: &New,
        settings: &TubeSettings,
        copies: &mut KVec<New>,
    ) -> Result<(), Full> {
        // CAST: usize fits u64; there are few copies.
        let all = (new.body.len() as u64).saturating_mul(settings.copies().count() as u64 + 1); // OVERFLOW: at most 17.
        for name in settings.copies() {
            let tube = self.tube_made(name)?;
            if let Err(why) = self.room(tube, all) {
                self.tube_dropped(tube);
                return Err(why);
            }
            let mut body = KVVec::with_capacity(new.body.len(), GFP_KERNEL)?;
            body.extend_from_slice(&new.body, GFP_KERNEL)?;
            let copy = New {
                id: self.new_id(),
                tube,
                body,
                ..*new
            };
            copies.push(copy, GFP_KERNEL)?;
        }
        Ok(())
    }

    fn put_with(&mut self, new: New, copies: KVec<New>, now: u64) -> Result<u64, Full> {
        // CAST: usize fits u64.
        self.room(new.tube, new.body.len() as u64)?;
        let mut done = [0; MAX_COPIES];
        let mut result = Ok(0);
        for (place, copy) in done.iter_mut().zip(copies) {
            match self.put_one(copy, now) {
                Ok(id) => *place = id,
                Err(why) => {
                    result = Err(why);
                    break;
                }
            }
        }
        let result = result.and_then(|_| self.put_one(new, now));
        if result.is_err() {
            for id in done {
                self.take_back(id);
            }
        }
        result
    }

    fn put_one(&mut self, new: New, now: u64) -> Result<u64, Full> {
        // CAST: usize fits u64.
        self.room(new.tube, new.body.len() as u64)?;
        let weight = weight_of(&new.body);
        let id = new.id;
        let created = now.saturating_add(self.wall);
        let mut job = Job::new(id, new.tube, new.ttr.max(1), created, new.body);
        job.pri = new.pri;
        job.delay = new.delay;
        // So that the log has it as it is going to be.
        (job.phase, job.deadline) = match new.delay {
            0 => (Phase::Ready, 0),
            delay => (Phase::Delayed, delayed_until(delay, now)),
        };
        let job = self.jobs.insert(job)?;
        self.bytes = self.bytes.saturating_add(weight);
        self.all.insert(&mut ById(&mut self.jobs), job);
        if self.log_put(job).is_err() {
            self.forget(job);
            return Err(Full::Memory);
        }
        let heard = self.tubes.get(new.tube).map_or(0, |t| t.subscribers.len());
        if let Some(job) = self.jobs.get(job).filter(|_| heard > 0) {
            self.tell(new.tube, &job.body);
        }
        self.totals.jobs = self.totals.jobs.saturating_add(1);
        event::tell(Module::Queue, b"put", format_args!("{id}"));
        if let Some(tube) = self.tubes.get_mut(new.tube) {
            tube.total_jobs = tube.total_jobs.saturating_add(1);
        }
        self.enqueue(job, new.delay, now);
        Ok(id)
    }

    /// Makes a job that lies in no set ready, or lets it wait.
    fn enqueue(&mut self, job: u32, delay: u32, now: u64) {
        if delay == 0 {
            self.make_ready(job, now);
        } else {
            self.link(job, Phase::Delayed, delayed_until(delay, now), NIL);
        }
    }

    /// Makes a job that lies in no set ready, and gives it to who waits for it.
    fn make_ready(&mut self, job: u32, now: u64) {
        self.link(job, Phase::Ready, 0, NIL);
        self.files_changed |= self.polled;
        if let Some(tube) = self.jobs.get(job).map(|job| job.tube) {
            self.dispatch(tube, now);
        }
    }

    /// The same for one that was taken before, or put aside.
    fn ready_again(&mut self, index: u32, now: u64) {
        if let Some(job) = self.jobs.get_mut(index) {
            job.phase = Phase::Ready;
        }
        self.log_change(index);
        self.make_ready(index, now);
    }

    /// A job that somebody had, and lies in no set, is ready again; or dead, if that was its last
    /// try.
    fn comes_back(&mut self, index: u32, now: u64) {
        if !self.dies(index, now) {
            self.ready_again(index, now);
        }
    }

    /// Puts a job that lies in no set among the dead ones, if it has been taken as often as its
    /// tube allows. Without memory or a place for another tube it is put aside where it is.
    fn dies(&mut self, index: u32, now: u64) -> bool {
        let Some(job) = self.jobs.get(index) else {
            return false;
        };
        let (old, reserves) = (job.tube, job.counts.reserves);
        let Some(tube) = self.tubes.get(old) else {
            return false;
        };
        if tube.settings.tries == 0 || reserves < tube.settings.tries {
            return false;
        }
        let mut name = [0; MAX_NAME];
        let length = tube.name.len().saturating_add(DEAD.len());
        let parts = Iterator::chain(tube.name.iter(), DEAD);
        for (place, byte) in name.iter_mut().zip(parts) {
            *place = *byte;
        }
        let dead = self.tube_made(name.get(..length).unwrap_or(&[]));
        let Ok(dead) = dead else {
            self.bury_seq = self.bury_seq.saturating_add(1);
            self.link(index, Phase::Buried, self.bury_seq, NIL);
            self.log_change(index);
            return true;
        };
        let size = self.record_size(index);
        if let Some(job) = self.jobs.get_mut(index) {
            job.tube = dead;
            job.phase = Phase::Ready;
        }
        if let Some(tube) = self.tubes.get_mut(dead) {
            tube.total_jobs = tube.total_jobs.saturating_add(1);
        }
        if let Err(error) = self.log_put_again(index, size) {
            if let Some(log) = self.log.as_mut() {
                log.failed = Some(error);
            }
        }
        self.tube_dropped(old);
        self.make_ready(index, now);
        true
    }

    /// Puts a job into the set of what it is doing from here on.
    fn link(&mut self, index: u32, phase: Phase, deadline: u64, owner: u32) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        job.phase = phase;
        job.deadline = deadline;
        job.owner = owner;
        let (tube_index, urgent) = (job.tube, job.pri < URGENT);
        let Some(tube) = self.tubes.get_mut(tube_index) else {
            return;
        };
        let mut nodes = ByOrder(&mut self.jobs);
        match phase {
            Phase::Ready => {
                tube.ready.insert(&mut nodes, index);
                tube.ready_ct = tube.ready_ct.saturating_add(1);
                self.totals.ready = self.totals.ready.saturating_add(1);
                if urgent {
                    tube.urgent_ct = tube.urgent_ct.saturating_add(1);
                    self.totals.urgent = self.totals.urgent.saturating_add(1);
                }
            }
            Phase::Delayed => {
                tube.delayed.insert(&mut nodes, index);
                tube.delayed_ct = tube.delayed_ct.saturating_add(1);
                self.totals.delayed = self.totals.delayed.saturating_add(1);
                self.reckon_tube(tube_index);
            }
            Phase::Buried => {
                tube.buried.insert(&mut nodes, index);
                tube.buried_ct = tube.buried_ct.saturating_add(1);
                self.totals.buried = self.totals.buried.saturating_add(1);
            }
            Phase::Reserved => {
                tube.reserved_ct = tube.reserved_ct.saturating_add(1);
                self.totals.reserved = self.totals.reserved.saturating_add(1);
                if let Some(worker) = self.workers.get_mut(owner) {
                    worker.reserved.insert(&mut nodes, index);
                    worker.reserved_ct = worker.reserved_ct.saturating_add(1);
                }
                self.reckon_worker(owner);
            }
        }
    }

    /// Takes a job out of the set of what it was doing.
    fn unlink(&mut self, index: u32) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        let (phase, owner, tube_index) = (job.phase, job.owner, job.tube);
        let urgent = job.pri < URGENT;
        let Some(tube) = self.tubes.get_mut(tube_index) else {
            return;
        };
        let mut nodes = ByOrder(&mut self.jobs);
        match phase {
            Phase::Ready => {
                tube.ready.remove(&mut nodes, index);
                tube.ready_ct = tube.ready_ct.saturating_sub(1);
                self.totals.ready = self.totals.ready.saturating_sub(1);
                if urgent {
                    tube.urgent_ct = tube.urgent_ct.saturating_sub(1);
                    self.totals.urgent = self.totals.urgent.saturating_sub(1);
                }
            }
            Phase::Delayed => {
                tube.delayed.remove(&mut nodes, index);
                tube.delayed_ct = tube.delayed_ct.saturating_sub(1);
                self.totals.delayed = self.totals.delayed.saturating_sub(1);
                self.reckon_tube(tube_index);
            }
            Phase::Buried => {
                tube.buried.remove(&mut nodes, index);
                tube.buried_ct = tube.buried_ct.saturating_sub(1);
                self.totals.buried = self.totals.buried.saturating_sub(1);
            }
            Phase::Reserved => {
                tube.reserved_ct = tube.reserved_ct.saturating_sub(1);
                self.totals.reserved = self.totals.reserved.saturating_sub(1);
                if let Some(worker) = self.workers.get_mut(owner) {
                    worker.reserved.remove(&mut nodes, index);
                    worker.reserved_ct = worker.reserved_ct.saturating_sub(1);
                }
                if let Some(job) = self.jobs.get_mut(index) {
                    job.owner = NIL;
                }
                // The worker's next moment is none the sooner for it.
            }
        }
    }

    /// Gives a job, ready, delayed or buried, to a worker.
    pub(crate) fn reserve(&mut self, index: u32, worker: u32, now: u64) {
        self.unlink(index);
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        job.counts.reserves = job.counts.reserves.saturating_add(1);
        let until = now.saturating_add(u64::from(job.ttr).saturating_mul(SECOND));
        self.link(index, Phase::Reserved, until, worker);
        self.log_change(index);
    }

    /// Gives ready jobs of a tube to those who wait for them.
    pub(crate) fn dispatch(&mut self, tube: u32, now: u64) {
        loop {
            let Some((ready, waiting)) = self
                .tubes
                .get(tube)
                .map(|tube| (tube.ready_ct > 0, tube.waiting.len() > 0))
            else {
                return;
            };
            let wanted = ready && (waiting || (self.can_run() && self.is_run(tube)));
            if !wanted || !self.open(tube, now) {
                return;
            }
            let Some(job) = self.first_ready(tube) else {
                return;
            };
            let Some(worker) = self.tubes.get_mut(tube).and_then(|t| t.waiting.take()) else {
                if self.run_job(job, now) {
                    continue;
                }
                return;
            };
            // It has been taken out of this tube's line already; out of the others' now.
            match self.wait_ends(worker) {
                Waiting::Line(responder) => {
                    // Without memory for the answer the job stays, and the worker is told.
                    match self.job_text(b"RESERVED", job) {
                        Ok(text) => {
                            let before = self.logged.take();
                            self.reserve(job, worker, now);
                            self.hand_over(job, responder, text);
                            self.logged = before.max(self.logged);
                        }
                        Err(_) => answer(responder, b"OUT_OF_MEMORY\r\n"),
                    }
                }
                Waiting::File(_) => {
                    let before = self.logged.take();
                    self.reserve(job, worker, now);
                    let kept = self.must_wait();
                    if let Some(worker) = self.workers.get_mut(worker) {
                        worker.waiting = Waiting::File(Some(job));
                        worker.kept_at = kept;
                    }
                    self.logged = before.max(self.logged);
                    self.files_changed = true;
                }
                Waiting::No => {}
            }
        }
    }

    /// `WORD id length`, and the body.
    pub(crate) fn job_text(&self, word: &[u8], index: u32) -> Result<Text> {
        let job = self.jobs.get(index).ok_or(ENOENT)?;
        let mut text = Text::with_capacity(job.body.len().saturating_add(64))?;
        text.push(word)?;
        text.push(b" ")?;
        text.number(job.id)?;
        text.push(b" ")?;
        // CAST: usize fits u64.
        text.number(job.body.len() as u64)?;
        text.push(b"\r\n")?;
        text.push(&job.body)?;
        text.push(b"\r\n")?;
        Ok(text)
    }

    /// Whether the worker has reserved the job.
    fn has(&self, worker: u32, index: u32) -> bool {
        self.jobs
            .get(index)
            .is_some_and(|job| job.phase == Phase::Reserved && job.owner == worker)
    }

    /// The worker's own reserved job of this number.
    pub(crate) fn own(&mut self, worker: u32, id: u64) -> Option<u32> {
        self.job(id).filter(|job| self.has(worker, *job))
    }

    /// Takes a job away; whether there was one which the worker may take away.
    pub(crate) fn delete(&mut self, worker: u32, id: u64) -> bool {
        let Some(index) = self.job(id) else {
            return false;
        };
        let foreign = self
            .jobs
            .get(index)
            .is_some_and(|job| job.phase == Phase::Reserved && job.owner != worker);
        if foreign {
            return false;
        }
        self.unlink(index);
        self.forget(index);
        event::tell(Module::Queue, b"done", format_args!("{id}"));
        true
    }

    /// Frees a job that lies in no set but that of all.
    fn forget(&mut self, index: u32) {
        self.all.remove(&mut ById(&mut self.jobs), index);
        self.log_delete(index);
        let freed = self.jobs.remove_with(index, |job| {
            // Nobody is to take it for a job any more.
            (job.id, job.phase, job.owner) = (0, Phase::Buried, NIL);
            (core::mem::replace(&mut job.body, KVVec::new()), job.tube)
        });
        let Some((body, tube_index)) = freed else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(weight_of(&body));
        if let Some(tube) = self.tubes.get_mut(tube_index) {
            tube.deletes = tube.deletes.saturating_add(1);
        }
        self.tube_dropped(tube_index);
    }

    /// Gives a worker's job back.
    pub(crate) fn release(&mut self, index: u32, pri: u32, delay: u32, now: u64) {
        self.unlink(index);
        if let Some(job) = self.jobs.get_mut(index) {
            job.pri = pri;
            job.delay = delay;
            job.counts.releases = job.counts.releases.saturating_add(1);
            job.phase = if delay > 0 {
                Phase::Delayed
            } else {
                Phase::Ready
            };
            job.deadline = delayed_until(delay, now);
        }
        if !self.dies(index, now) {
            self.log_change(index);
            self.enqueue(index, delay, now);
        }
    }

    /// Puts a worker's job aside.
    pub(crate) fn bury(&mut self, index: u32, pri: u32) {
        self.unlink(index);
        if let Some(job) = self.jobs.get_mut(index) {
            job.pri = pri;
            job.counts.buries = job.counts.buries.saturating_add(1);
        }
        self.bury_seq = self.bury_seq.saturating_add(1);
        self.link(index, Phase::Buried, self.bury_seq, NIL);
        self.log_change(index);
    }

    /// Makes a buried or delayed job ready; whether it was one.
    pub(crate) fn kick_job(&mut self, index: u32, now: u64) -> bool {
        let Some(job) = self.jobs.get_mut(index) else {
            return false;
        };
        if !matches!(job.phase, Phase::Buried | Phase::Delayed) {
            return false;
        }
        job.counts.kicks = job.counts.kicks.saturating_add(1);
        self.unlink(index);
        self.ready_again(index, now);
        true
    }

    /// Makes up to `most` of the tube's buried jobs ready, or, if there are none, of its delayed.
    /// How many.
    pub(crate) fn kick(&mut self, tube: u32, most: u32, now: u64) -> u32 {
        let buried = self.tubes.get(tube).is_some_and(|tube| tube.buried_ct > 0);
        let mut count = 0_u32;
        while count < most {
            let next = if buried {
                self.first_buried(tube)
            } else {
                self.first_delayed(tube)
            };
            match next {
                Some(job) if self.kick_job(job, now) => count = count.saturating_add(1),
                _ => break,
            }
        }
        count
    }

    /// Gives the job's worker all of its time again.
    pub(crate) fn touch(&mut self, index: u32, now: u64) {
        let Some((owner, ttr)) = self.jobs.get(index).map(|job| (job.owner, job.ttr)) else {
            return;
        };
        self.unlink(index);
        let until = now.saturating_add(u64::from(ttr).saturating_mul(SECOND));
        self.link(index, Phase::Reserved, until, owner);
    }

    // --- the log

    /// The number that the next job gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// How long a job has been there.
    pub(crate) fn age(&self, job: &Job, now: u64) -> u64 {
        now.saturating_add(self.wall).saturating_sub(job.created)
    }

    /// The job with the next greater number.
    pub(crate) fn job_after(&mut self, id: u64) -> Option<u32> {
        self.all.after(&ById(&mut self.jobs), id)
    }

    fn change_of(job: &Job, wall: u64) -> qlog::Change {
        let n = &job.counts;
        qlog::Change {
            id: job.id,
            deadline: match job.phase {
                Phase::Delayed => job.deadline.saturating_add(wall),
                Phase::Buried => job.deadline,
                Phase::Ready | Phase::Reserved => 0,
            },
            pri: job.pri,
            delay: job.delay,
            counts: [n.reserves, n.timeouts, n.releases, n.buries, n.kicks],
            phase: match job.phase {
                Phase::Ready => qlog::Phase::Ready,
                Phase::Delayed => qlog::Phase::Delayed,
                Phase::Buried => qlog::Phase::Buried,
                Phase::Reserved => qlog::Phase::Reserved,
            },
        }
    }

    fn put_record<'a>(job: &'a Job, tube: &'a Tube, wall: u64) -> Record<'a> {
        Record::Put(qlog::Put {
            change: Self::change_of(job, wall),
            created: job.created,
            ttr: job.ttr,
            tube: &tube.name,
            body: &job.body,
        })
    }

    /// Bytes that a job's record takes.
    fn record_size(&self, index: u32) -> u64 {
        let job = self.jobs.get(index);
        let tube = job.and_then(|job| self.tubes.get(job.tube));
        job.zip(tube).map_or(0, |(job, tube)| {
            // CAST: usize fits u64.
            encoded_size(&Self::put_record(job, tube, self.wall)) as u64
        })
    }

    /// Appends a job, whole. `ENOMEM`.
    pub(crate) fn log_put(&mut self, index: u32) -> Result {
        if self.log.is_none() {
            return Ok(());
        }
        let size = self.record_size(index);
        self.log_put_again(index, size)
    }

    /// The same for one whose record, if it has one, takes `before` bytes. `ENOMEM`.
    fn log_put_again(&mut self, index: u32, before: u64) -> Result {
        let (Some(log), Some(job)) = (self.log.as_mut(), self.jobs.get(index)) else {
            return Ok(());
        };
        let Some(tube) = self.tubes.get(job.tube) else {
            return Ok(());
        };
        let keep = tube.settings.keep;
        if keep == QUEUE_KEEP_NONE && job.segment == 0 {
            return Ok(());
        }
        let record = Self::put_record(job, tube, self.wall);
        // CAST: usize fits u64.
        let size = encoded_size(&record) as u64;
        let (number, segment) = log.append(&record, self.next_id)?;
        if job.segment != 0 {
            log.job_out(job.segment, before, number);
        }
        log.job_in(segment, size);
        if let Some(job) = self.jobs.get_mut(index) {
            job.segment = segment;
        }
        self.is_logged(number, keep);
        Ok(())
    }

    /// A record was appended about a job of a tube with this setting.
    fn is_logged(&mut self, number: u64, keep: u32) {
        let Some(log) = self.log.as_mut() else {
            return;
        };
        let waits = match keep {
            QUEUE_KEEP_DEFAULT => log.policy == Policy::Always,
            _ => keep == QUEUE_KEEP_ALWAYS,
        };
        if waits {
            if log.policy != Policy::Always {
                log.hurry();
            }
            self.logged = Some(number);
        }
    }

    /// The setting of a job's tube.
    fn keep_of(&self, index: u32) -> u32 {
        let tube = self.jobs.get(index).map_or(NIL, |job| job.tube);
        self.tubes
            .get(tube)
            .map_or(QUEUE_KEEP_DEFAULT, |tube| tube.settings.keep)
    }

    /// Sets what is set for a tube, which stays then, and writes it into the log. `ENOMEM`.
    pub(crate) fn set_tube(&mut self, index: u32, settings: TubeSettings) -> Result {
        let Some(tube) = self.tubes.get_mut(index) else {
            return Err(ENOENT);
        };
        let before = core::mem::replace(&mut tube.settings, settings);
        if let Err(error) = self.log_tube(index) {
            if let Some(tube) = self.tubes.get_mut(index) {
                tube.settings = before;
            }
            return Err(error);
        }
        self.tube_dropped(index);
        Ok(())
    }

    /// Appends a tube's settings. `ENOMEM`.
    fn log_tube(&mut self, index: u32) -> Result {
        let (Some(log), Some(tube)) = (self.log.as_mut(), self.tubes.get_mut(index)) else {
            return Ok(());
        };
        let record = Record::Tube(qlog::Tube {
            name: &tube.name,
            limit: tube.settings.limit,
            tries: tube.settings.tries,
            keep: tube.settings.keep,
            copies: &tube.settings.copies,
        });
        // CAST: usize fits u64.
        let size = encoded_size(&record) as u64;
        let (number, segment) = log.append(&record, self.next_id)?;
        if tube.segment != 0 {
            log.job_out(tube.segment, tube.record, number);
        }
        (tube.segment, tube.record) = (0, 0);
        if !tube.settings.is_none() {
            log.job_in(segment, size);
            (tube.segment, tube.record) = (segment, size);
        }
        self.is_logged(number, QUEUE_KEEP_DEFAULT);
        Ok(())
    }

    /// Appends the settings that lie in this segment of the log anew.
    pub(crate) fn log_tubes_of(&mut self, segment: u64) {
        let mut place = 0;
        while let Some(index) = self.listed.as_slice().get(place).copied() {
            place = place.saturating_add(1);
            let there = self.tubes.get(index).is_some_and(|t| t.segment == segment);
            if there && self.log_tube(index).is_err() {
                return;
            }
        }
    }

    fn replay_tube(&mut self, tube: &qlog::Tube<'_>, segment: u64, size: u64) -> Result {
        let mut settings = TubeSettings {
            limit: tube.limit,
            tries: tube.tries,
            keep: tube.keep,
            copies: KVec::with_capacity(tube.copies.len(), GFP_KERNEL)?,
        };
        settings.copies.extend_from_slice(tube.copies, GFP_KERNEL)?;
        let index = self.tube_made(tube.name)?;
        if let (Some(log), Some(tube)) = (self.log.as_mut(), self.tubes.get_mut(index)) {
            if tube.segment != 0 {
                log.job_out(tube.segment, tube.record, 0);
            }
            (tube.segment, tube.record) = (0, 0);
            if !settings.is_none() {
                log.job_in(segment, size);
                (tube.segment, tube.record) = (segment, size);
            }
            tube.settings = settings;
        }
        self.tube_dropped(index);
        Ok(())
    }

    fn log_change(&mut self, index: u32) {
        let (Some(log), Some(job)) = (self.log.as_mut(), self.jobs.get(index)) else {
            return;
        };
        if job.segment == 0 {
            return;
        }
        let record = Record::Change(Self::change_of(job, self.wall));
        match log.append(&record, self.next_id) {
            Ok((number, _)) => self.is_logged(number, self.keep_of(index)),
            Err(error) => log.failed = Some(error),
        }
    }

    fn log_delete(&mut self, index: u32) {
        let (Some(log), Some(job)) = (self.log.as_mut(), self.jobs.get(index)) else {
            return;
        };
        let Some(tube) = self.tubes.get(job.tube).filter(|_| job.segment != 0) else {
            return;
        };
        // CAST: usize fits u64.
        let size = encoded_size(&Self::put_record(job, tube, self.wall)) as u64;
        let (segment, keep) = (job.segment, tube.settings.keep);
        let appended = log.append(&Record::Delete(job.id), self.next_id);
        log.job_out(segment, size, 0);
        match appended {
            Ok((number, _)) => self.is_logged(number, keep),
            Err(error) => log.failed = Some(error),
        }
    }

    /// The record that must be kept before what was just done is answered, if the policy says so.
    pub(crate) fn must_wait(&mut self) -> Option<u64> {
        self.logged.take()
    }

    /// Puts back what [`State::must_wait`] told, where somebody else is to hear of it.
    pub(crate) fn was_logged(&mut self, before: Option<u64>) {
        self.logged = before.max(self.logged);
    }

    /// Gives a worker the job that has just been reserved for it.
    fn hand_over(&mut self, index: u32, responder: Responder<Server>, text: Text) {
        let id = self.jobs.get(index).map_or(0, |job| job.id);
        match (self.must_wait(), self.log.as_mut()) {
            (Some(number), Some(log)) => {
                let answer = Answer::Reserved(id, text.take());
                if log.answer_when(number, responder, answer).is_err() {
                    pr_err!("no memory is left for an answer that waits for the log\n");
                }
            }
            _ => {
                // The connection is closed where there is no memory.
                let _ = responder.answer(text.take());
            }
        }
    }

    /// A job that could not be kept is no job.
    pub(crate) fn take_back(&mut self, id: u64) {
        if let Some(index) = self.job(id) {
            self.unlink(index);
            self.forget(index);
        }
    }

    /// A job that could not be handed over is ready again.
    pub(crate) fn give_back(&mut self, id: u64, now: u64) {
        let Some(index) = self.job(id) else {
            return;
        };
        if self
            .jobs
            .get(index)
            .is_some_and(|job| job.phase == Phase::Reserved)
        {
            self.unlink(index);
            self.ready_again(index, now);
        }
    }

    /// A job that its taker never learned of is ready again.
    pub(crate) fn back(&mut self, index: u32) {
        if let Some(id) = self.jobs.get(index).map(|job| job.id) {
            self.back_by_id(id);
        }
    }

    /// The same, by its number.
    pub(crate) fn back_by_id(&mut self, id: u64) {
        self.give_back(id, monotonic_ns());
    }

    /// The record that a file's worker waits for, with the job that it got.
    pub(crate) fn kept_at(&mut self, worker: u32) -> Option<u64> {
        self.workers.get_mut(worker)?.kept_at.take()
    }

    /// Does again what a record says, from segment `segment`. `ENOMEM`.
    pub(crate) fn replay_record(&mut self, record: &Record<'_>, segment: u64, now: u64) -> Result {
        match record {
            Record::Open { next_id, .. } | Record::Close { next_id } => {
                self.next_id = self.next_id.max(*next_id);
            }
            Record::Put(put) => {
                // CAST: usize fits u64.
                let size = encoded_size(record) as u64;
                let (index, before) = match self.job(put.change.id) {
                    // Written anew, perhaps for another tube.
                    Some(index) => {
                        let before = self.record_size(index);
                        let tube = self.tube_made(put.tube)?;
                        let old = self.jobs.get(index).map_or(tube, |job| job.tube);
                        if old != tube {
                            self.unlink(index);
                            if let Some(job) = self.jobs.get_mut(index) {
                                job.tube = tube;
                            }
                            self.link(index, Phase::Buried, 0, NIL);
                            self.tube_dropped(old);
                        }
                        (index, before)
                    }
                    None => (self.replay_put(put)?, size),
                };
                if let (Some(job), Some(log)) = (self.jobs.get_mut(index), self.log.as_mut()) {
                    if job.segment != 0 {
                        log.job_out(job.segment, before, 0);
                    }
                    log.job_in(segment, size);
                    job.segment = segment;
                }
                self.replay_change(index, &put.change, now);
            }
            Record::Change(change) => {
                if let Some(index) = self.job(change.id) {
                    self.replay_change(index, change, now);
                }
            }
            Record::Delete(id) => {
                if let Some(index) = self.job(*id) {
                    self.unlink(index);
                    // The record is there already.
                    self.log_gone(index);
                    self.forget(index);
                }
            }
            Record::Tube(tube) => {
                // CAST: usize fits u64.
                self.replay_tube(tube, segment, encoded_size(record) as u64)?;
            }
        }
        Ok(())
    }

    /// The log's books without a job.
    fn log_gone(&mut self, index: u32) {
        let (Some(log), Some(job)) = (self.log.as_mut(), self.jobs.get_mut(index)) else {
            return;
        };
        if let Some(tube) = self.tubes.get(job.tube) {
            // CAST: usize fits u64.
            let size = encoded_size(&Self::put_record(job, tube, self.wall)) as u64;
            log.job_out(job.segment, size, 0);
        }
        job.segment = 0;
    }

    fn replay_put(&mut self, put: &qlog::Put<'_>) -> Result<u32> {
        let tube = self.tube_made(put.tube)?;
        let mut body = KVVec::with_capacity(put.body.len(), GFP_KERNEL)?;
        body.extend_from_slice(put.body, GFP_KERNEL)?;
        self.bytes = self.bytes.saturating_add(weight_of(&body));
        let job = Job::new(put.change.id, tube, put.ttr, put.created, body);
        let index = self.jobs.insert(job)?;
        self.all.insert(&mut ById(&mut self.jobs), index);
        self.next_id = self.next_id.max(put.change.id.saturating_add(1));
        self.link(index, Phase::Buried, 0, NIL);
        Ok(index)
    }

    fn replay_change(&mut self, index: u32, change: &qlog::Change, now: u64) {
        self.unlink(index);
        let wall = self.wall;
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        job.pri = change.pri;
        job.delay = change.delay;
        let [reserves, timeouts, releases, buries, kicks] = change.counts;
        job.counts = Counts {
            reserves,
            timeouts,
            releases,
            buries,
            kicks,
        };
        let deadline = change.deadline;
        match change.phase {
            qlog::Phase::Delayed => {
                self.link(index, Phase::Delayed, deadline.saturating_sub(wall), NIL);
            }
            qlog::Phase::Buried => {
                self.bury_seq = self.bury_seq.max(deadline);
                self.link(index, Phase::Buried, deadline, NIL);
            }
            // Whoever had it has gone.
            qlog::Phase::Ready | qlog::Phase::Reserved => {
                self.make_ready(index, now);
            }
        }
    }

    // --- time

    /// When something is due next; `u64::MAX`: never.
    pub(crate) fn next_due(&mut self) -> u64 {
        let tube = self.tubes_due.first(&ByDue(&mut self.tubes));
        let worker = self.workers_due.first(&ByDue(&mut self.workers));
        let tube = tube.and_then(|tube| self.tubes.get(tube)).map(|t| t.due);
        let worker = worker
            .and_then(|worker| self.workers.get(worker))
            .map(|w| w.due);
        tube.unwrap_or(u64::MAX).min(worker.unwrap_or(u64::MAX))
    }

    /// Does what is due, at most `most` things of it; whether that was all.
    pub(crate) fn tick(&mut self, now: u64, most: usize) -> bool {
        for _ in 0..most {
            let tube = self.tubes_due.first(&ByDue(&mut self.tubes));
            if let Some(tube) =
                tube.filter(|tube| self.tubes.get(*tube).is_some_and(|tube| tube.due <= now))
            {
                self.tube_is_due(tube, now);
                continue;
            }
            let worker = self.workers_due.first(&ByDue(&mut self.workers));
            if let Some(worker) =
                worker.filter(|worker| self.workers.get(*worker).is_some_and(|w| w.due <= now))
            {
                self.worker_is_due(worker, now);
                continue;
            }
            return true;
        }
        false
    }

    fn tube_is_due(&mut self, tube: u32, now: u64) {
        if self.open(tube, now) {
            self.dispatch(tube, now);
        }
        let due = |job: &Job| job.deadline <= now;
        match self.first_delayed(tube) {
            Some(job) if self.jobs.get(job).is_some_and(due) => {
                self.unlink(job);
                self.make_ready(job, now);
            }
            _ => self.reckon_tube(tube),
        }
    }

    fn worker_is_due(&mut self, index: u32, now: u64) {
        let Some(worker) = self.workers.get(index) else {
            return;
        };
        let waits = !matches!(worker.waiting, Waiting::No | Waiting::File(Some(_)));
        let waited = waits && worker.until <= now;
        let deadline = self.soonest_deadline(index);
        let soon = waits && deadline.saturating_sub(MARGIN) <= now;
        if deadline < now {
            if let Some(job) = self.soonest(index) {
                self.time_is_over(job, now);
            }
        }
        if soon {
            self.wake(index, b"DEADLINE_SOON\r\n");
        } else if waited {
            self.wake(index, b"TIMED_OUT\r\n");
        }
        let due = self.due_of(index);
        self.set_worker_due(index, due);
    }

    fn time_is_over(&mut self, index: u32, now: u64) {
        self.totals.timeouts = self.totals.timeouts.saturating_add(1);
        if let Some(job) = self.jobs.get_mut(index) {
            job.counts.timeouts = job.counts.timeouts.saturating_add(1);
        }
        self.unlink(index);
        self.comes_back(index, now);
    }

    /// Ends a wait without a job.
    pub(crate) fn wake(&mut self, index: u32, words: &[u8]) {
        match self.wait_ends(index) {
            Waiting::Line(responder) => answer(responder, words),
            Waiting::File(_) => self.files_changed = true,
            Waiting::No => {}
        }
    }

    /// Whether an ioctl still waits, and the job that it got.
    pub(crate) fn file_waits(&mut self, index: u32) -> Option<Option<u32>> {
        match self.workers.get(index).map(|worker| &worker.waiting) {
            Some(Waiting::File(job)) => Some(*job),
            _ => None,
        }
    }
}

/// Answers with these words.
fn answer(responder: Responder<Server>, words: &[u8]) {
    let mut data = KVVec::new();
    // So few bytes are always to be had by who may sleep for them.
    if data.extend_from_slice(words, GFP_KERNEL).is_ok() {
        // The connection is closed where there is no memory.
        let _ = responder.answer(data);
    }
}
