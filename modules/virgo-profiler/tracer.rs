// SPDX-License-Identifier: GPL-2.0-only

//! Traces: which processes are recorded, and what the probes report on them.

use core::mem;

use kernel::{
    alloc::flags::GFP_ATOMIC,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        new_condvar,
        new_mutex,
        new_spinlock,
        poll::PollCondVar,
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex,
        SpinLock, //
    },
    task::Task,
    time::Jiffies,
    uaccess::UserSliceWriter, //
};

use crate::{
    edges::Bounds,
    lib::{
        task::{
            self,
            Observer,
            Reading,
            Scope,
            Watched, //
        },
        time::{
            monotonic_ns,
            realtime_ns, //
        },
        trace::{
            self,
            Area,
            Counted,
            Fault,
            LockedMap,
            Probes,
            Tracee,
            Tracing, //
        },
        word::Word,
    },
    proto::trace as wire,
    stream::{
        Lent,
        Put,
        Queue, //
    },
};

/// Most processes of one trace that live at once, when children are traced.
const MAX_PROCESSES: usize = 4096;
/// Most announced areas between two releases of a map's lock that are looked at one by one.
const MAX_DIRTY: usize = 4096;
/// Most changed areas that are told one by one; more are told as one range.
const MAX_APART: usize = 64;
/// Most attempts at faults that are remembered for a process.
const MAX_PENDING: usize = 256;
/// After so long a reader that waits looks by itself, as it is not woken for each record.
const LOOK_JIFFIES: Jiffies = 5;
/// Past every address of user space.
const ALL: u64 = u64::MAX >> 1;

/// All traces: how many there are, and the probes, which are in place while there is one.
#[pin_data]
pub(crate) struct Tracer {
    #[pin]
    shared: Mutex<Shared>,
    max_traces: usize,
    limit_bytes: usize,
    /// The module is being unloaded: who waits must go.
    closing: Atomic<bool>,
    /// What wakes those who wait in a read. One for all traces, so that unloading reaches them.
    #[pin]
    readers: CondVar,
    #[pin]
    pollers: PollCondVar,
}

struct Shared {
    traces: usize,
    probes: Option<Arc<Probes<Process>>>,
}

impl Tracer {
    /// Without a trace.
    pub(crate) fn new(max_traces: u32, limit_bytes: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            shared <- new_mutex!(
                Shared {
                    traces: 0,
                    probes: None,
                },
                "virgo_tracer"
            ),
            // CAST: u32 fits usize on 64-bit.
            max_traces: max_traces as usize,
            limit_bytes,
            closing: Atomic::new(false),
            readers <- new_condvar!("virgo_trace_readers"),
            pollers <- kernel::new_poll_condvar!("virgo_trace_pollers"),
        })
    }

    /// The limit of a trace's memory where its caller names none.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// From here on nobody waits in a read.
    pub(crate) fn close(&self) {
        self.closing.store(true, Release);
        self.wake();
    }

    fn wake(&self) {
        self.readers.notify_all();
        self.pollers.notify_all();
    }

    /// What wakes pollers.
    pub(crate) fn pollers(&self) -> &PollCondVar {
        &self.pollers
    }
}

/// One trace's part in the probes. Drop takes them away if it was the last.
struct Lease {
    tracer: Arc<Tracer>,
    probes: Option<Arc<Probes<Process>>>,
}

impl Lease {
    /// `ENOSPC` if there are as many traces as may be; errors of [`Probes::new`]. May sleep.
    fn new(tracer: Arc<Tracer>) -> Result<Self> {
        let mut shared = tracer.shared.lock();
        if shared.traces >= tracer.max_traces {
            return Err(ENOSPC);
        }
        let probes = match &shared.probes {
            Some(probes) => probes.clone(),
            None => {
                let probes = Arc::new(Probes::new()?, GFP_KERNEL)?;
                shared.probes = Some(probes.clone());
                probes
            }
        };
        shared.traces = shared.traces.saturating_add(1);
        drop(shared);
        Ok(Lease {
            tracer,
            probes: Some(probes),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut shared = self.tracer.shared.lock();
        self.probes = None;
        shared.traces = shared.traces.saturating_sub(1);
        if shared.traces == 0 {
            // The last reference: what traced processes held is gone, or this is not the last.
            shared.probes = None;
        }
    }
}

/// An area as it was before it was changed.
struct Dirty {
    id: u64,
    start: u64,
    end: u64,
    offset: u64,
    flags: u32,
}

#[derive(Default)]
struct MapState {
    /// What was announced since the lock was taken.
    dirty: KVec<Dirty>,
    /// Not all that was announced is in `dirty`, or a record was dropped: all must be told.
    all: bool,
}

/// What areas in the order of their addresses cover, those joined that overlap or touch.
fn ranges(dirty: &[Dirty]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut rest = dirty.iter().peekable();
    core::iter::from_fn(move || {
        let first = rest.next()?;
        let mut end = first.end;
        while let Some(next) = rest.next_if(|next| next.start <= end) {
            end = end.max(next.end);
        }
        Some((first.start, end))
    })
}

/// A fault that will be tried again.
struct Pending {
    tid: u32,
    address: u64,
    start_ns: u64,
    flags: u32,
}

/// A process that is traced.
#[pin_data]
pub(crate) struct Process {
    trace: Arc<Trace>,
    probes: Arc<Probes<Process>>,
    /// In the initial pid namespace.
    pid: u32,
    /// The address space that the map's records are about.
    mm: Word,
    /// Written under the queue's lock.
    recorded: Word,
    dropped: Word,
    /// The last thread is exiting, or it is mute.
    dying: Atomic<bool>,
    /// It has become another user's, and is none of the reader's business any more.
    mute: Atomic<bool>,
    /// How many are in `pending`.
    tries: Word,
    #[pin]
    map: SpinLock<MapState>,
    #[pin]
    pending: SpinLock<KVec<Pending>>,
    /// Which of its faults are the trace's.
    #[pin]
    bounds: Bounds,
    #[pin]
    watched: Mutex<Watched>,
}

impl Process {
    fn new<B: PinInit<Bounds>>(
        trace: Arc<Trace>,
        probes: Arc<Probes<Process>>,
        pid: u32,
        bounds: B,
        watched: Watched,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            trace,
            probes,
            pid,
            mm: Word::new(0),
            recorded: Word::new(0),
            dropped: Word::new(0),
            dying: Atomic::new(false),
            mute: Atomic::new(false),
            tries: Word::new(0),
            map <- new_spinlock!(MapState::default(), "virgo_trace_map"),
            pending <- new_spinlock!(KVec::new(), "virgo_trace_pending"),
            bounds <- bounds,
            watched <- new_mutex!(watched, "virgo_trace_watched"),
        })
    }

    /// Refuses reports from here on, unless it has exited; whether it had not. May sleep.
    fn close(&self) -> bool {
        if self.used().1 {
            return false;
        }
        // Without memory the reports end a moment later, and what was counted is a bit less exact.
        let _ = self.bounds.end(self.watched.lock().task());
        true
    }

    /// What the kernel counted in all, and whether that is final. May sleep.
    fn used(&self) -> (Counted, bool) {
        let mut watched = self.watched.lock();
        watched.refresh(&Reading::begin());
        let now = watched.counters();
        let counted = Counted {
            minor: now.min_flt(),
            major: now.maj_flt(),
        };
        (counted, now.exited())
    }

    /// Remembers an attempt, or finds the first one of a fault that is done now.
    fn attempt(&self, fault: &Fault, again: bool) -> Option<(u64, u32)> {
        let mut pending = self.pending.lock();
        let found = pending
            .iter()
            .position(|attempt| attempt.tid == fault.tid && attempt.address == fault.address);
        match (again, found) {
            // Told once: the first attempt is what counts.
            (true, Some(_)) => None,
            (true, None) => {
                // A thread has one fault at a time: another of its was given up.
                pending.retain(|attempt| attempt.tid != fault.tid);
                let attempt = Pending {
                    tid: fault.tid,
                    address: fault.address,
                    start_ns: fault.start_ns,
                    flags: fault.flags,
                };
                if pending.len() < MAX_PENDING {
                    // Without memory the latency is that of the last attempt.
                    let _ = pending.push(attempt, GFP_ATOMIC);
                }
                self.count_tries(&pending);
                None
            }
            (false, Some(index)) => {
                let first = pending.remove(index).ok()?;
                self.count_tries(&pending);
                Some((first.start_ns, first.flags))
            }
            (false, None) => None,
        }
    }

    fn count_tries(&self, pending: &KVec<Pending>) {
        // CAST: usize fits u64.
        self.tries.store(pending.len() as u64);
    }

    /// Tells that what touches `start..end` is replaced.
    fn begin_range(&self, cause: wire::Cause, start: u64, end: u64) -> bool {
        self.trace.put(&wire::Record::Map(wire::Map {
            time_ns: monotonic_ns(),
            pid: self.pid,
            cause,
            start,
            end,
        }))
    }

    /// Tells the areas that touch `start..end`.
    fn tell_range(&self, map: &LockedMap<'_>, start: u64, end: u64) -> bool {
        let mut whole = true;
        map.walk(start, end, |area| {
            let (major, minor) = area.device();
            whole &= self.trace.put(&wire::Record::Area(wire::Area {
                pid: self.pid,
                id: area.id(),
                start: area.start(),
                end: area.end(),
                flags: area.flags() & wire::AREA_ALL,
                offset: area.offset(),
                major,
                minor,
                inode: area.inode(),
                name: area.name(),
            }));
            whole
        });
        whole
    }

    fn end_map(&self) -> bool {
        self.trace.put(&wire::Record::MapEnd { pid: self.pid })
    }

    /// Tells the areas that touch `start..end`; whether all of it fitted.
    fn tell_map(&self, map: &LockedMap<'_>, cause: wire::Cause, start: u64, end: u64) -> bool {
        self.begin_range(cause, start, end) & self.tell_range(map, start, end) & self.end_map()
    }

    /// Tells what is where areas were announced; whether all of it fitted.
    fn tell_changes(&self, map: &LockedMap<'_>, dirty: &mut [Dirty]) -> bool {
        let count = dirty.len();
        if count > MAX_APART {
            let start = dirty.iter().map(|before| before.start).min();
            let end = dirty.iter().map(|before| before.end).max();
            let (start, end) = (start.unwrap_or(0), end.unwrap_or(ALL));
            return self.tell_map(map, wire::Cause::Change, start, end);
        }
        // By insertion: there are few, most often in order.
        for last in 1..count {
            let mut at = last;
            while let Some(before) = at.checked_sub(1) {
                match (dirty.get(before), dirty.get(at)) {
                    (Some(left), Some(right)) if left.start > right.start => {}
                    _ => break,
                }
                dirty.swap(before, at);
                at = before;
            }
        }
        // All that goes, then all that comes: an area may have grown from one range into another.
        let mut whole = true;
        for (start, end) in ranges(dirty) {
            whole &= self.begin_range(wire::Cause::Change, start, end);
        }
        for (start, end) in ranges(dirty) {
            whole &= self.tell_range(map, start, end);
        }
        if count > 0 {
            whole &= self.end_map();
        }
        whole
    }

    /// Whether an area that was announced is as it was.
    fn unchanged(map: &LockedMap<'_>, before: &Dirty) -> bool {
        if before.flags & trace::AREA_NEW != 0 {
            return false;
        }
        let mut same = false;
        map.walk(before.start, before.end, |now| {
            same = now.id() == before.id
                && now.start() == before.start
                && now.end() == before.end
                && now.offset() == before.offset
                && now.flags() == before.flags;
            false
        });
        same
    }
}

impl Tracee for Process {
    #[inline]
    fn fault(&self, fault: &Fault) {
        let mut flags = fault.flags & wire::FAULT_ALL;
        let mut start_ns = fault.start_ns;
        let again = fault.flags & trace::FAULT_RETRY != 0;
        if !self.bounds.takes(flags & wire::FAULT_MAJOR != 0, again) {
            return;
        }
        if again || self.tries.load() != 0 {
            if let Some((first_ns, first_flags)) = self.attempt(fault, again) {
                start_ns = first_ns;
                // What was in the page table at first.
                let entry = wire::FAULT_FIRST | wire::FAULT_SWAPPED;
                flags = (flags & !entry) | (first_flags & entry) | wire::FAULT_RETRIED;
            }
            if again {
                return;
            }
        }
        let mut address = fault.address;
        if fault.mm != self.mm.load() {
            flags |= wire::FAULT_OTHER;
            // It may be a set-user-id program's that is being loaded.
            if !self.trace.observer.may_all() {
                address = 0;
            }
        }
        let record = wire::Fault {
            time_ns: start_ns,
            latency_ns: fault.end_ns.wrapping_sub(start_ns),
            address,
            ip: fault.ip,
            pid: self.pid,
            tid: fault.tid,
            flags,
        };
        let mut queue = self.trace.queue.lock();
        let put = queue.fault(&record);
        let count = if put == Put::Dropped {
            &self.dropped
        } else {
            &self.recorded
        };
        count.store(count.load().wrapping_add(1));
        drop(queue);
        self.trace.tell(put);
    }

    fn area_write(&self, area: &Area<'_>) {
        if self.mute.load(Relaxed) {
            return;
        }
        let mut state = self.map.lock();
        let before = Dirty {
            id: area.id(),
            start: area.start(),
            end: area.end(),
            offset: area.offset(),
            flags: area.flags(),
        };
        if state.dirty.len() >= MAX_DIRTY || state.dirty.push(before, GFP_ATOMIC).is_err() {
            state.all = true;
        }
    }

    fn map_unlock(&self, map: &LockedMap<'_>) {
        if self.mute.load(Relaxed) {
            return;
        }
        let mut state = self.map.lock();
        let mut dirty = mem::take(&mut state.dirty);
        let all = mem::replace(&mut state.all, false);
        drop(state);
        let whole = if all {
            self.tell_map(map, wire::Cause::Again, 0, ALL)
        } else {
            dirty.retain(|before| !Self::unchanged(map, before));
            self.tell_changes(map, &mut dirty)
        };
        let mut state = self.map.lock();
        state.all |= !whole;
        // Keep the memory for the next time, unless it is much.
        if dirty.capacity() <= 64 && state.dirty.is_empty() {
            dirty.clear();
            state.dirty = dirty;
        }
    }

    fn map(&self, map: Option<&LockedMap<'_>>, exec: Option<&[u8]>) {
        if exec.is_some() && !self.trace.observer.may_current() {
            self.bounds.mute();
            self.mute.store(true, Release);
            self.exit();
        }
        if self.mute.load(Relaxed) {
            return;
        }
        let mut whole = true;
        if let Some(path) = exec {
            whole = self.trace.put(&wire::Record::Exec {
                time_ns: monotonic_ns(),
                pid: self.pid,
                path,
            });
        }
        if let Some(map) = map {
            self.mm.store(map.number());
            let cause = if exec.is_some() {
                wire::Cause::Exec
            } else {
                wire::Cause::Start
            };
            whole &= self.tell_map(map, cause, 0, ALL);
        }
        let mut state = self.map.lock();
        state.dirty.clear();
        state.all = !whole || map.is_none();
    }

    fn fork(&self, child: &Task) {
        if self.trace.follow && !self.mute.load(Relaxed) {
            self.trace.born(self, child);
        }
    }

    fn exit(&self) {
        self.dying.store(true, Release);
        self.trace.dying.store(true, Release);
        self.trace.tracer.wake();
    }
}

/// How a trace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Processes are traced.
    Running,
    /// It was stopped while its process lived.
    Stopped,
    /// The last process is gone.
    Over,
}

/// A trace.
#[pin_data]
pub(crate) struct Trace {
    tracer: Arc<Tracer>,
    observer: Observer,
    follow: bool,
    /// Some process is about to go.
    dying: Atomic<bool>,
    /// No child is to be taken up any more.
    stopping: Atomic<bool>,
    /// Processes that are traced.
    living: Atomic<usize>,
    #[pin]
    queue: SpinLock<Queue>,
    /// Children that were forked since `running` was last looked at.
    #[pin]
    born: SpinLock<KVec<Tracing<Process>>>,
    #[pin]
    running: Mutex<Running>,
    #[pin]
    lent: Mutex<Lent>,
}

struct Running {
    all: KVec<Tracing<Process>>,
    standing: Standing,
    /// Counts of processes that are gone.
    recorded: u64,
    dropped: u64,
    lease: Option<Lease>,
}

/// What a trace has come to.
pub(crate) struct Figures {
    pub(crate) standing: Standing,
    pub(crate) processes: usize,
    pub(crate) recorded: u64,
    pub(crate) dropped: u64,
    pub(crate) waiting_bytes: usize,
    pub(crate) limit_bytes: usize,
}

/// What a read found.
pub(crate) enum Found {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will come.
    End(Standing),
}

impl Trace {
    /// Begins to trace a process. Whether the caller may is for them to check.
    ///
    /// `EINVAL` for a thread of the kernel's; `ESRCH` if the process has exited; `EBUSY` if another
    /// trace has it, or the probes cannot be had; `ENOSPC` with too many traces; `ENOENT`,
    /// `ENOMEM`. May sleep.
    pub(crate) fn start(
        tracer: Arc<Tracer>,
        task: &Task,
        observer: Observer,
        follow: bool,
        limit_bytes: usize,
    ) -> Result<Arc<Trace>> {
        if task::is_kernel_thread(task) {
            return Err(EINVAL);
        }
        let lease = Lease::new(tracer.clone())?;
        let probes = lease.probes.clone().ok_or(EINVAL)?;
        let queue = Queue::new(limit_bytes)?;
        let trace = Arc::pin_init(
            pin_init!(Trace {
                tracer,
                observer,
                follow,
                dying: Atomic::new(false),
                stopping: Atomic::new(false),
                living: Atomic::new(1),
                queue <- new_spinlock!(queue, "virgo_trace_queue"),
                born <- new_spinlock!(KVec::new(), "virgo_trace_born"),
                running <- new_mutex!(
                    Running {
                        all: KVec::new(),
                        standing: Standing::Running,
                        recorded: 0,
                        dropped: 0,
                        lease: Some(lease),
                    },
                    "virgo_trace_running"
                ),
                lent <- new_mutex!(Lent::new(), "virgo_trace_lent"),
            }),
            GFP_KERNEL,
        )?;
        let (_, ids) = task::ids(task);
        let now_ns = monotonic_ns();
        let mut flags = 0;
        if follow {
            flags |= wire::BEGIN_FOLLOW;
        }
        trace.put(&wire::Record::Begin(wire::Begin {
            version: wire::VERSION,
            // CAST: 4096, a constant.
            page_size: kernel::page::PAGE_SIZE as u64,
            monotonic_ns: now_ns,
            realtime_ns: realtime_ns(),
            pid: ids.pid,
            flags,
        }));
        let mut watched = Watched::new(task.into(), Scope::Process);
        watched.refresh(&Reading::begin());
        let counters = watched.counters();
        if counters.exited() {
            trace.stop();
            return Err(ESRCH);
        }
        let before = (counters.min_flt(), counters.maj_flt());
        trace.put(&wire::Record::Process(wire::Process {
            time_ns: now_ns,
            pid: ids.pid,
            parent: 0,
            shares_map: false,
            min_flt: before.0,
            maj_flt: before.1,
        }));
        let process = Arc::pin_init(
            Process::new(
                trace.clone(),
                probes.clone(),
                ids.pid,
                Bounds::opening(),
                watched,
            ),
            GFP_KERNEL,
        )?;
        let begun = trace.begin(probes, task, process);
        if let Err(error) = begun {
            trace.stop();
            return Err(error);
        }
        Ok(trace)
    }

    fn begin(&self, probes: Arc<Probes<Process>>, task: &Task, process: Arc<Process>) -> Result {
        let mut running = self.running.lock();
        running.all.reserve(1, GFP_KERNEL)?;
        let tracing = Tracing::new(probes, task, process).map_err(|error| {
            if error == EEXIST {
                EBUSY
            } else {
                error
            }
        })?;
        // First the map, then what happens in it.
        let begun = tracing
            .start_map()
            .and_then(|()| tracing.tracee().bounds.begin(task));
        running.all.push(tracing, GFP_KERNEL)?;
        begun
    }

    /// Takes up a child. Does not sleep.
    fn born(&self, parent: &Process, child: &Task) {
        if self.stopping.load(Acquire) || self.try_born(parent, child).is_err() {
            self.queue.lock().lose_map();
        }
    }

    fn try_born(&self, parent: &Process, child: &Task) -> Result {
        let (_, ids) = task::ids(child);
        let mm = task::new_mm(child);
        let shares_map = mm == parent.mm.load();
        let process = Process::new(
            parent.trace.clone(),
            parent.probes.clone(),
            ids.pid,
            Bounds::open(),
            Watched::new(child.into(), Scope::Process),
        );
        let process = Arc::pin_init(process, GFP_ATOMIC)?;
        process.mm.store(mm);
        let mut born = self.born.lock();
        if self.living.load(Relaxed) >= MAX_PROCESSES {
            return Err(ENOSPC);
        }
        born.reserve(1, GFP_ATOMIC)?;
        let told = self.put(&wire::Record::Process(wire::Process {
            time_ns: monotonic_ns(),
            pid: ids.pid,
            parent: parent.pid,
            shares_map,
            min_flt: 0,
            maj_flt: 0,
        }));
        if !told {
            return Err(ENOSPC);
        }
        let tracing = Tracing::new(parent.probes.clone(), child, process)?;
        if !shares_map {
            tracing.child_map();
        }
        // Room was made above.
        if let Err(error) = born.push(tracing, GFP_ATOMIC) {
            return Err(error.into());
        }
        self.living.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Adds a record; whether it fitted. Does not sleep.
    fn put(&self, record: &wire::Record<'_>) -> bool {
        let put = self.queue.lock().put(record);
        self.tell(put);
        put != Put::Dropped
    }

    #[inline]
    fn tell(&self, put: Put) {
        match put {
            Put::Done | Put::Dropped => {}
            // A reader in a read looks by itself from time to time, so that it does not run for each
            // record.
            Put::First => self.tracer.pollers.notify_all(),
            Put::Chunk => self.tracer.readers.notify_all(),
        }
    }

    /// Takes the children that were born into the list.
    fn adopt(&self, running: &mut Running) -> Result {
        loop {
            let count = self.born.lock().len();
            if count == 0 {
                return Ok(());
            }
            running.all.reserve(count, GFP_KERNEL)?;
            let mut born = self.born.lock();
            for _ in 0..count {
                if let Some(child) = born.pop() {
                    // Room was made above.
                    running.all.push(child, GFP_ATOMIC)?;
                }
            }
        }
    }

    /// Writes the last record of a process that no report comes from any more.
    fn finish(&self, running: &mut Running, process: &Process, why: wire::Why) {
        let (used, _) = process.used();
        let counted = process.bounds.counted(used);
        let (recorded, dropped) = (process.recorded.load(), process.dropped.load());
        running.recorded = running.recorded.wrapping_add(recorded);
        running.dropped = running.dropped.wrapping_add(dropped);
        self.put(&wire::Record::End(wire::End {
            time_ns: monotonic_ns(),
            pid: process.pid,
            why,
            min_flt: counted.minor,
            maj_flt: counted.major,
            recorded,
            dropped,
        }));
    }

    /// Looks for processes that are gone. May sleep.
    fn reap(&self) -> Result {
        let mut running = self.running.lock();
        if running.standing != Standing::Running {
            return Ok(());
        }
        // Before they are looked at: who dies meanwhile sets it again.
        self.dying.store(false, Relaxed);
        self.adopt(&mut running)?;
        let mut waiting = false;
        let mut gone: KVec<Tracing<Process>> = KVec::new();
        let mut index = 0;
        while let Some(tracing) = running.all.get(index) {
            let process = tracing.tracee();
            if process.dying.load(Acquire) {
                if process.mute.load(Acquire) || process.used().1 {
                    gone.reserve(1, GFP_KERNEL)?;
                    if let Ok(tracing) = running.all.remove(index) {
                        gone.push(tracing, GFP_KERNEL)?;
                    }
                    continue;
                }
                waiting = true;
            }
            index = index.saturating_add(1);
        }
        if waiting {
            self.dying.store(true, Relaxed);
        }
        if gone.is_empty() {
            return Ok(());
        }
        trace::silence(&mut gone);
        for tracing in gone.iter() {
            let why = if tracing.tracee().mute.load(Acquire) {
                wire::Why::Forbidden
            } else {
                wire::Why::Exited
            };
            self.finish(&mut running, tracing.tracee(), why);
        }
        let living = self.living.load(Relaxed).saturating_sub(gone.len());
        self.living.store(living, Relaxed);
        drop(gone);
        self.adopt(&mut running)?;
        if running.all.is_empty() {
            running.standing = Standing::Over;
            running.lease = None;
        }
        Ok(())
    }

    /// Finds out where the threads of processes that were closed ended. May sleep.
    fn settle(some: &[Tracing<Process>]) {
        let quiet = || {
            some.iter()
                .all(|tracing| tracing.tracee().bounds.is_quiet())
        };
        if !quiet() {
            trace::wait_for_reports();
        }
        for tracing in some {
            tracing.tracee().bounds.read_end();
        }
        // Threads that fault end the next one soon, and most others sleep soon.
        for _ in 0..50 {
            if quiet() {
                return;
            }
            trace::wait_for_reports();
        }
        if !quiet() {
            trace::settle();
        }
    }

    /// Stops the trace; what was recorded can still be read. May sleep.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Release);
        let mut running = self.running.lock();
        if running.standing != Standing::Running {
            return;
        }
        let mut alive = false;
        loop {
            let mut some = mem::take(&mut running.all);
            if some.is_empty() {
                // Children that were taken up just before.
                some = mem::take(&mut *self.born.lock());
            }
            if some.is_empty() {
                break;
            }
            for tracing in some.iter() {
                alive |= tracing.tracee().close();
            }
            Self::settle(&some);
            trace::silence(&mut some);
            for tracing in some.iter() {
                let process = tracing.tracee();
                let why = if process.used().1 && !process.bounds.has_ended() {
                    wire::Why::Exited
                } else {
                    wire::Why::Stopped
                };
                self.finish(&mut running, process, why);
            }
        }
        running.standing = if alive {
            Standing::Stopped
        } else {
            Standing::Over
        };
        running.lease = None;
        drop(running);
        self.tracer.wake();
    }

    /// How it stands, and figures. May sleep.
    pub(crate) fn figures(&self) -> Figures {
        let running = self.running.lock();
        let (mut recorded, mut dropped) = (running.recorded, running.dropped);
        for tracing in running.all.iter() {
            let process = tracing.tracee();
            recorded = recorded.wrapping_add(process.recorded.load());
            dropped = dropped.wrapping_add(process.dropped.load());
        }
        let (standing, processes) = (running.standing, running.all.len());
        drop(running);
        let queue = self.queue.lock();
        Figures {
            standing,
            processes,
            recorded,
            dropped,
            waiting_bytes: queue.waiting_bytes(),
            limit_bytes: queue.limit_bytes(),
        }
    }

    /// Whether a reader would find something.
    pub(crate) fn is_readable(&self) -> bool {
        self.dying.load(Acquire)
            || !self.queue.lock().is_empty()
            || !self.lent.lock().is_done()
            || self.running.lock().standing != Standing::Running
    }

    /// Reads what there is, whole records. `EINVAL` if not even the first fits; `EFAULT`. May
    /// sleep, but does not wait for records.
    pub(crate) fn read(&self, out: &mut UserSliceWriter) -> Result<Found> {
        if self.dying.load(Acquire) {
            self.reap()?;
        }
        // Before the queue is looked at: what is written after it is not missed.
        let standing = self.running.lock().standing;
        let mut lent = self.lent.lock();
        let room = out.len();
        loop {
            if lent.is_done() {
                lent.refill(&mut self.queue.lock());
                if lent.is_done() {
                    break;
                }
            }
            let records = lent.fitting(out.len());
            if records.is_empty() {
                if out.len() == room {
                    return Err(EINVAL);
                }
                break;
            }
            let length = records.len();
            match out.write_slice(records) {
                Ok(()) => lent.advance(length),
                Err(error) if out.len() == room => return Err(error),
                Err(_) => break,
            }
        }
        let length = room.saturating_sub(out.len());
        if length > 0 {
            return Ok(Found::Bytes(length));
        }
        Ok(if standing == Standing::Running {
            Found::Nothing
        } else {
            Found::End(standing)
        })
    }

    /// Waits until there may be something to read, some 20 milliseconds at most. `ERESTARTSYS` if a
    /// signal came, `ENODEV` if the module is being unloaded.
    pub(crate) fn wait(&self) -> Result {
        if self.tracer.closing.load(Acquire) {
            return Err(ENODEV);
        }
        let mut queue = self.queue.lock();
        if !queue.is_empty() {
            return Ok(());
        }
        match self
            .tracer
            .readers
            .wait_interruptible_timeout(&mut queue, LOOK_JIFFIES)
        {
            CondVarTimeoutResult::Signal { .. } => Err(ERESTARTSYS),
            _ => Ok(()),
        }
    }
}
