// SPDX-License-Identifier: GPL-2.0-only

//! The registered tasks and the sampling of them.
//!
//! # Locking
//!
//! One mutex, `virgo_profiler_state`, over the set of tasks and the place in the buffer. It is held
//! for a round of sampling, so registering waits for that; user memory is never touched under it.
//!
//! # Lifetime
//!
//! An entry holds a reference on its `task_struct` until its last record is written, so the
//! record's counters are those of the task that was registered, whatever becomes of its pid.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    rbtree::RBTree,
    sync::{
        aref::ARef,
        new_mutex,
        poll::PollCondVar,
        Mutex, //
    },
    task::Task, //
};

use crate::{
    lib::{
        event,
        service::Module,
        task::{
            self,
            Identity,
            Reading,
            Scope,
            Watched, //
        },
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        },
    },
    logic::{
        cputime::CpuTime,
        schedule::Schedule, //
    },
    proto::uapi,
    ring::{
        pair,
        Cursor,
        Ring,
        Status,
        BODY_WORDS, //
    },
};

/// Tasks sampled in one RCU section.
const PART: usize = 64;

/// Who a registration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody: it stays until the task exits or somebody unregisters it.
    Everybody,
    /// An open file, by its number: it ends when the file is closed.
    File(u64),
}

/// A registered task.
struct Entry {
    id: u64,
    task: Watched,
    owner: Owner,
    /// `SAMPLE_THREAD` or nothing.
    flags: u32,
    cpu: CpuTime,
    samples: u64,
    /// The words of `struct virgo_profiler_sample` after `seq`, in order, as last written: id,
    /// time, faults (2), CPU time (2), resident bytes, ids, state and flags, name (2).
    body: [u64; BODY_WORDS],
    /// Found exited in the round under way.
    gone: bool,
}

/// A registration as the list tells it.
pub(crate) struct Listed {
    pub(crate) id: u64,
    pub(crate) samples: u64,
    pub(crate) ids: task::Ids,
    pub(crate) scope: Scope,
    pub(crate) owner: Owner,
    pub(crate) comm: [u8; uapi::COMM_LEN],
}

struct State {
    entries: KVVec<Entry>,
    /// Where in `entries` a task is.
    index: RBTree<Identity, usize>,
    next_id: u64,
    status: Status,
    cursor: Cursor,
    schedule: Schedule,
    /// When the next round is due; `None` while nothing is registered.
    due_ns: Option<u64>,
}

/// The profiler's heart.
#[pin_data]
pub(crate) struct Sampler {
    ring: Ring,
    max_tasks: usize,
    #[pin]
    state: Mutex<State>,
    /// Wakes pollers after each round that wrote records.
    #[pin]
    written: PollCondVar,
}

/// The work item that samples.
pub(crate) type Ticker = DeadlineWork<Sampler>;

impl Entry {
    /// Reads the task's counters and writes a record.
    #[inline]
    fn sample(
        &mut self,
        ring: &Ring,
        cursor: &mut Cursor,
        now_ns: u64,
        mut flags: u32,
        reading: &Reading,
    ) -> bool {
        let changed = self.task.refresh(reading) || self.samples == 0;
        let counters = self.task.counters();
        if changed {
            self.cpu = self.cpu.advance(
                counters.exact_ns(),
                counters.utime_ns(),
                counters.stime_ns(),
            );
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = counters.comm();
            self.body[2] = counters.min_flt();
            self.body[3] = counters.maj_flt();
            self.body[4] = self.cpu.user_ns;
            self.body[5] = self.cpu.system_ns;
            self.body[9] = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
            self.body[10] = u64::from_ne_bytes([i, j, k, l, m, n, o, p]);
        }
        if self.samples == 0 {
            flags |= uapi::SAMPLE_FIRST;
        }
        let exited = counters.exited();
        if exited {
            flags |= uapi::SAMPLE_EXIT;
        }
        self.body[1] = now_ns;
        // CAST: 4096, a constant.
        self.body[6] = counters.rss_pages().wrapping_mul(PAGE_SIZE as u64);
        self.body[8] = pair(counters.state(), flags | self.flags);
        ring.write(cursor, &self.body);
        self.samples = self.samples.wrapping_add(1);
        exited
    }
}

impl State {
    /// Takes entry `position` out.
    fn remove(&mut self, position: usize) {
        let Some(last) = self.entries.len().checked_sub(1) else {
            return;
        };
        if let Some(entry) = self.entries.get(position) {
            self.index.remove(&entry.task.identity());
        }
        // The last entry takes the place.
        if position < last {
            self.entries.swap(position, last);
            if let Some(moved) = self.entries.get(position) {
                if let Some(at) = self.index.get_mut(&moved.task.identity()) {
                    *at = position;
                }
            }
        }
        self.entries.pop();
    }

    /// Brings the header up to date after a registration, a removal or a change of rate.
    fn changed(&mut self, ring: &Ring) {
        self.status.generation = self.status.generation.wrapping_add(1);
        // At most max_tasks, a u32.
        self.status.registered = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        if self.entries.is_empty() {
            self.due_ns = None;
            self.status.start_ns = 0;
        }
        ring.publish(&self.cursor);
        ring.set_status(&self.status);
    }

    /// Writes the last record of entry `position` and takes it out.
    fn finish(&mut self, ring: &Ring, position: usize, now_ns: u64) {
        if let Some(entry) = self.entries.get_mut(position) {
            let reading = Reading::begin();
            entry.sample(ring, &mut self.cursor, now_ns, uapi::SAMPLE_LAST, &reading);
        }
        self.remove(position);
    }

    /// Starts the rounds anew, the first at once.
    fn restart(&mut self, now_ns: u64) {
        self.schedule = Schedule::new(now_ns, self.status.rate_hz);
        self.status.start_ns = now_ns;
        self.due_ns = Some(now_ns);
    }
}

impl Sampler {
    /// A sampler without tasks. `rate_hz` has been checked.
    pub(crate) fn new(pages: u32, rate_hz: u32, max_tasks: u32) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let ring = Ring::new(pages)?;
            let status = Status {
                rate_hz,
                ..Status::default()
            };
            ring.set_status(&status);
            Ok(try_pin_init!(Self {
                ring,
                // CAST: u32 fits usize on 64-bit.
                max_tasks: max_tasks as usize,
                state <- new_mutex!(
                    State {
                        entries: KVVec::new(),
                        index: RBTree::new(),
                        next_id: 1,
                        status,
                        cursor: Cursor::new(),
                        schedule: Schedule::new(0, rate_hz),
                        due_ns: None,
                    },
                    "virgo_profiler_state"
                ),
                written <- kernel::new_poll_condvar!("virgo_profiler_written"),
            }? Error))
        })
    }

    /// The buffer.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The limit on registered tasks.
    pub(crate) fn max_tasks(&self) -> usize {
        self.max_tasks
    }

    /// How many tasks are registered. May sleep.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Whether the task with this identity is registered. May sleep.
    pub(crate) fn is_registered(&self, identity: &task::Identity) -> bool {
        self.state.lock().index.get(identity).is_some()
    }

    /// What wakes pollers.
    pub(crate) fn written(&self) -> &PollCondVar {
        &self.written
    }

    /// Registers `task`; the identity of the registration. `EEXIST`, `ENOSPC`, `ESRCH` if the task
    /// has exited already, `ENOMEM`. May sleep.
    pub(crate) fn register(
        &self,
        ticker: &Ticker,
        task: ARef<Task>,
        scope: Scope,
        owner: Owner,
    ) -> Result<u64> {
        let (_, ids) = task::ids(&task);
        let mut task = Watched::new(task, scope);
        task.refresh(&Reading::begin());
        if task.counters().exited() {
            return Err(ESRCH);
        }
        let key = task.identity();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.index.get(&key).is_some() {
            return Err(EEXIST);
        }
        let position = state.entries.len();
        if position >= self.max_tasks {
            return Err(ENOSPC);
        }
        state.entries.reserve(1, GFP_KERNEL)?;
        state
            .index
            .try_create_and_insert(key, position, GFP_KERNEL)?;
        let id = state.next_id;
        let ids = pair(ids.pid, ids.tid);
        let entry = Entry {
            id,
            task,
            owner,
            flags: match scope {
                Scope::Process => 0,
                Scope::Thread => uapi::SAMPLE_THREAD,
            },
            cpu: CpuTime::default(),
            samples: 0,
            body: [id, 0, 0, 0, 0, 0, 0, ids, 0, 0, 0],
            gone: false,
        };
        if let Err(error) = state.entries.push(entry, GFP_KERNEL) {
            state.index.remove(&key);
            return Err(error.into());
        }
        state.next_id = id.wrapping_add(1);
        if state.due_ns.is_none() {
            let now_ns = monotonic_ns();
            state.restart(now_ns);
            ticker.arm(now_ns);
        }
        state.changed(&self.ring);
        drop(guard);
        event::tell(Module::Profiler, b"register", format_args!("{id}"));
        Ok(id)
    }

    /// Unregisters `task` after a last record; the identity of the registration. `ESRCH` if it is
    /// not registered. May sleep.
    pub(crate) fn unregister(&self, task: &Task, scope: Scope) -> Result<u64> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let position = *state.index.get(&task::identity(task, scope)).ok_or(ESRCH)?;
        let id = state.entries.get(position).ok_or(ESRCH)?.id;
        state.finish(&self.ring, position, monotonic_ns());
        state.changed(&self.ring);
        drop(guard);
        self.written.notify_all();
        event::tell(Module::Profiler, b"unregister", format_args!("{id}"));
        Ok(id)
    }

    /// Unregisters what belongs to a file that is being closed. May sleep.
    pub(crate) fn close(&self, owner: Owner) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now_ns = monotonic_ns();
        let mut any = false;
        let mut position = 0;
        while let Some(entry) = state.entries.get(position) {
            if entry.owner == owner {
                state.finish(&self.ring, position, now_ns);
                any = true;
            } else {
                position = position.saturating_add(1);
            }
        }
        if !any {
            return;
        }
        state.changed(&self.ring);
        drop(guard);
        self.written.notify_all();
    }

    /// Sampling rounds a second.
    pub(crate) fn rate_hz(&self) -> u32 {
        self.state.lock().status.rate_hz
    }

    /// Sets the rate; a round follows at once. `ERANGE`. May sleep.
    pub(crate) fn set_rate(&self, ticker: &Ticker, rate_hz: u32) -> Result {
        if !(uapi::PROFILER_RATE_MIN..=uapi::PROFILER_RATE_MAX).contains(&rate_hz) {
            return Err(ERANGE);
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.status.rate_hz = rate_hz;
        if state.due_ns.is_some() {
            let now_ns = monotonic_ns();
            state.restart(now_ns);
            ticker.arm(now_ns);
        }
        state.changed(&self.ring);
        Ok(())
    }

    /// How many tasks are registered, and the first `capacity` of them. May sleep.
    pub(crate) fn list(&self, capacity: usize) -> Result<(usize, KVVec<Listed>)> {
        // Room is made before the list is taken, for a few that may come in between.
        let room = self.state.lock().entries.len().saturating_add(16);
        let mut listed = KVVec::with_capacity(capacity.min(room), GFP_KERNEL)?;
        let state = self.state.lock();
        for entry in state.entries.iter().take(listed.capacity()) {
            let (ids, _) = task::ids(entry.task.task());
            listed.push(
                Listed {
                    id: entry.id,
                    samples: entry.samples,
                    ids,
                    scope: entry.task.scope(),
                    owner: entry.owner,
                    comm: entry.task.counters().comm(),
                },
                GFP_KERNEL,
            )?;
        }
        Ok((state.entries.len(), listed))
    }
}

impl DeadlineHandler for Sampler {
    /// A round: a record of each registered task.
    fn run(&self, ticker: &Ticker) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now_ns = monotonic_ns();
        match state.due_ns {
            // The last task was unregistered meanwhile.
            None => return,
            // The rounds were started anew meanwhile; the timer is armed for that.
            Some(due_ns) if now_ns < due_ns => return ticker.arm(due_ns),
            Some(_) => {}
        }
        let mut exits = false;
        // RCU is held back for a part of the round at a time.
        for part in state.entries.chunks_mut(PART) {
            let reading = Reading::begin();
            for entry in part {
                entry.gone = entry.sample(&self.ring, &mut state.cursor, now_ns, 0, &reading);
                exits |= entry.gone;
            }
        }
        state.status.ticks = state.status.ticks.wrapping_add(1);
        let next = state.schedule.next(monotonic_ns());
        if next.missed > 0 {
            // CAST: usize fits u64.
            let lost = next.missed.saturating_mul(state.entries.len() as u64);
            state.status.missed_ticks = state.status.missed_ticks.wrapping_add(next.missed);
            state.status.dropped = state.status.dropped.wrapping_add(lost);
        }
        state.due_ns = Some(next.due_ns);
        if exits {
            let mut position = 0;
            while let Some(entry) = state.entries.get(position) {
                if entry.gone {
                    state.remove(position);
                } else {
                    position = position.saturating_add(1);
                }
            }
            state.changed(&self.ring);
        } else {
            self.ring.publish(&state.cursor);
            self.ring.set_status(&state.status);
        }
        if let Some(due_ns) = state.due_ns {
            ticker.arm(due_ns);
        }
        drop(guard);
        self.written.notify_all();
    }
}
