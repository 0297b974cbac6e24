// SPDX-License-Identifier: GPL-2.0-only

//! Ready lists: who has something to do, and the one worker a CPU that does it.
//!
//! A [`Hook`] is the part of a connection (or of the acceptor) which a socket's
//! callbacks know. Its state decides who may touch the rest of it:
//!
//! ```text
//!            event                worker takes it
//!   IDLE ───────────▶ QUEUED ───────────────────────▶ RUNNING ──▶ DEAD
//!    ▲                  ▲                              │   │ event
//!    │                  │ Verdict::Again / Slow        │   ▼
//!    │                  └──────────────────────────────┤ RERUN
//!    └─────────────────────── Verdict::Idle ───────────┘   │
//!                       ▲──────────────────────────────────┘ (queued again)
//! ```
//!
//! So a hook is on one list at most, and runs on one CPU at a time, with no
//! lock: whoever moved it to RUNNING has the connection to itself. An event
//! goes on the list of the CPU it happens on, where the data is in the cache.

use super::sock::RawHook;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::cpu::CpuId;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed, Release};
use kernel::types::Opaque;

const IDLE: u32 = 0;
const QUEUED: u32 = 1;
const RUNNING: u32 = 2;
const RERUN: u32 = 3;
const DEAD: u32 = 4;

/// What a run leaves behind.
pub(super) enum Verdict {
    /// Nothing to do until the next event.
    Idle,
    /// More to do; let others go first.
    Again,
    /// More to do, in process context.
    Slow,
    /// Never to run again. The hook's memory may be gone already.
    Dead,
}

/// Where a run happens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// A work item of its own queue: may sleep.
    Process,
    /// Softirq: may not.
    Softirq,
}

type RunFn = unsafe fn(NonNull<Hook>, &mut Scratch, Context) -> Verdict;

/// The first field of whatever gets events.
///
/// # Invariants
///
/// - `next` belongs to the list the hook is on while `state` is QUEUED, and to
///   nobody else.
/// - `drains` outlives every state but DEAD.
#[repr(C)]
pub(super) struct Hook {
    /// First: `struct virgo_sock_hook` is what C sees.
    raw: RawHook,
    state: Atomic<u32>,
    next: Atomic<*mut Hook>,
    run: RunFn,
    drains: NonNull<Drains>,
    /// May run in softirq.
    atomic: bool,
}

// SAFETY: The atomics are for sharing; the other fields never change.
unsafe impl Send for Hook {}
// SAFETY: As above.
unsafe impl Sync for Hook {}

impl Hook {
    /// A hook which counts as RUNNING until [`open`](Self::open): what happens
    /// before that is not lost, and not acted on.
    ///
    /// # Safety
    ///
    /// - `run` may be called with a pointer to this hook, from the worker or
    ///   (with `atomic`) in softirq, until it has answered [`Verdict::Dead`].
    /// - `drains` stays valid until then.
    pub(super) unsafe fn new(drains: NonNull<Drains>, run: RunFn, atomic: bool) -> Self {
        // INVARIANT: On no list; `drains` by the caller's word.
        Self {
            raw: RawHook { event: Self::event },
            state: Atomic::new(RUNNING),
            next: Atomic::new(core::ptr::null_mut()),
            run,
            drains,
            atomic,
        }
    }

    /// All is in place: the first run, in process context, happens now.
    pub(super) fn open(&self) {
        self.state.store(QUEUED, Release);
        self.queue(false);
    }

    /// What a socket is to be given.
    pub(super) fn as_raw(&self) -> *mut RawHook {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    unsafe extern "C" fn event(raw: *mut RawHook) {
        // SAFETY: `as_raw` made the pointer from a `&Hook`, of which `raw` is the
        // first field; attach's contract keeps it valid during callbacks.
        unsafe { &*raw.cast::<Hook>() }.kick();
    }

    /// Something happened: run soon. Does nothing where that is settled
    /// already, or the hook is dead. Any context but hard interrupt.
    ///
    /// What the caller wrote before this call is seen by that run.
    pub(super) fn kick(&self) {
        // Full, and an exchange for that: orders what happened before our look at
        // the state. The runner does the reverse: state first, then it looks.
        let mut seen = self.state.fetch_add(0, Full);
        loop {
            let new = match seen {
                IDLE => QUEUED,
                RUNNING => RERUN,
                _ => return,
            };
            match self.state.cmpxchg(seen, new, Full) {
                Ok(_) if new == QUEUED => break self.queue(self.atomic),
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
    }

    /// Puts the hook on this CPU's list.
    ///
    /// The caller moved the state to QUEUED, so it is on no other.
    fn queue(&self, softirq: bool) {
        // SAFETY: `drains` is valid by the invariant: the state is QUEUED.
        let drains = unsafe { self.drains.as_ref() };
        if let Some(drain) = drains.here(softirq) {
            drain.push(self);
        }
    }
}

/// What a worker lends to whoever it runs.
pub(super) struct Scratch {
    /// Room for input; empty between runs.
    pub(super) input: KVVec<u8>,
    /// Room for replies; taken and, mostly, given back.
    pub(super) reply: KVVec<u8>,
    /// Counters of this worker alone, so that no two CPUs share a line.
    pub(super) counts: Counts,
}

/// Counters with one writer and any number of readers.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) runs: Count,
    pub(super) requests: Count,
    pub(super) bytes_in: Count,
    pub(super) bytes_out: Count,
}

/// One counter with one writer.
pub(super) struct Count(Atomic<i64>);

impl Default for Count {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Count {
    /// Adds; only by the worker that owns it, so no locked instruction.
    pub(super) fn add(&self, n: usize) {
        // Relaxed: a statistic. CAST: wraps after 2^63, which is never.
        self.0
            .store(self.0.load(Relaxed).wrapping_add(n as i64), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed).unsigned_abs()
    }
}

/// Bytes a worker reads at a time, and gathers before it sends.
pub(super) const CHUNK: usize = 16 << 10;

/// One CPU's list and its worker.
///
/// # Invariants
///
/// `scratch` is touched by the work function alone, and one work item never
/// runs twice at once (workqueue's promise).
#[repr(align(64))]
struct Drain {
    work: Opaque<bindings::work_struct>,
    /// A stack: pushed by anyone, taken whole by the worker.
    head: Atomic<*mut Hook>,
    /// The worker is at it and will look at the list again.
    active: Atomic<u32>,
    queue: *mut bindings::workqueue_struct,
    cpu: i32,
    context: Context,
    scratch: UnsafeCell<Scratch>,
}

// SAFETY: `head` and `active` are atomics, `scratch` is the worker's alone, the
// others never change; workqueues and work items belong to no thread.
unsafe impl Send for Drain {}
// SAFETY: As above.
unsafe impl Sync for Drain {}

/// A run of the softirq worker ends after this many hooks.
const SOFTIRQ_RUNS: usize = 32;

impl Drain {
    fn push(&self, hook: &Hook) {
        let new = core::ptr::from_ref(hook).cast_mut();
        let mut head = self.head.load(Relaxed);
        loop {
            hook.next.store(head, Relaxed);
            // Full: publishes `next`, and orders the push before the look at `active`.
            match self.head.cmpxchg(head, new, Full) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        // The first on the list wakes the worker, unless that is looking anyway.
        if head.is_null() && self.active.load(Relaxed) == 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        // SAFETY: The queue and the work item live until `Drains::drop`, which
        // waits for both.
        unsafe { bindings::queue_work_on(self.cpu, self.queue, self.work.get()) };
    }

    /// Takes the whole list, oldest first.
    fn take(&self) -> *mut Hook {
        if self.head.load(Relaxed).is_null() {
            return core::ptr::null_mut();
        }
        // Full: the hooks' `next` are seen as pushed.
        let mut rest = self.head.xchg(core::ptr::null_mut(), Full);
        let mut first: *mut Hook = core::ptr::null_mut();
        while let Some(hook) = NonNull::new(rest) {
            // SAFETY: A hook on a list is QUEUED, hence alive, and its `next` is ours.
            let hook = unsafe { hook.as_ref() };
            rest = hook.next.load(Relaxed);
            hook.next.store(first, Relaxed);
            first = core::ptr::from_ref(hook).cast_mut();
        }
        first
    }

    unsafe extern "C" fn work(work: *mut bindings::work_struct) {
        // SAFETY: The work item is the first field of a `Drain`, which lives until
        // `Drains::drop` has waited for us; `Opaque` is transparent.
        let drain = unsafe { &*work.cast::<Drain>() };
        // SAFETY: We are the work function, by the invariant the only user.
        let scratch = unsafe { &mut *drain.scratch.get() };
        scratch.counts.runs.add(1);
        drain.active.store(1, Relaxed);
        let start = jiffies();
        let mut left = SOFTIRQ_RUNS;
        loop {
            let mut next = drain.take();
            if next.is_null() {
                // Full: pairs with the cmpxchg in `push`. Either we see the hook, or
                // its pusher sees us inactive and queues the work.
                drain.active.xchg(0, Full);
                if drain.head.load(Relaxed).is_null() {
                    return;
                }
                drain.active.store(1, Relaxed);
                continue;
            }
            while let Some(hook) = NonNull::new(next) {
                // SAFETY: On our list, so QUEUED, so alive.
                next = unsafe { hook.as_ref() }.next.load(Relaxed);
                left = left.saturating_sub(1);
                // SAFETY: Taken from the list, and on no other.
                unsafe { drain.run(hook, scratch) };
            }
            // Enough for one go: whoever else wants this CPU is next.
            let enough = match drain.context {
                Context::Softirq => left == 0,
                Context::Process => jiffies().wrapping_sub(start) >= 2,
            };
            if enough {
                // As above; a work item that runs may be queued.
                drain.active.xchg(0, Full);
                if !drain.head.load(Relaxed).is_null() {
                    drain.wake();
                }
                return;
            }
        }
    }

    /// # Safety
    ///
    /// The hook was taken from this list, by its worker, which is the caller.
    unsafe fn run(&self, ptr: NonNull<Hook>, scratch: &mut Scratch) {
        // SAFETY: QUEUED, hence alive, until its run answers `Dead`.
        let hook = unsafe { ptr.as_ref() };
        // Full: the other half of `kick`.
        hook.state.xchg(RUNNING, Full);
        // SAFETY: `Hook::new`'s caller promised this call; RUNNING is ours.
        match unsafe { (hook.run)(ptr, scratch, self.context) } {
            Verdict::Dead => {}
            Verdict::Idle => {
                // Full: whatever the run did is before IDLE.
                if hook.state.cmpxchg(RUNNING, IDLE, Full).is_err() {
                    hook.state.store(QUEUED, Release);
                    hook.queue(hook.atomic);
                }
            }
            Verdict::Again => {
                hook.state.store(QUEUED, Release);
                hook.queue(self.context == Context::Softirq);
            }
            Verdict::Slow => {
                hook.state.store(QUEUED, Release);
                hook.queue(false);
            }
        }
    }
}

/// Marks a hook dead: kicks are nothing from now on.
///
/// Only by its own run, which then answers [`Verdict::Dead`].
pub(super) fn bury(hook: &Hook) {
    hook.state.store(DEAD, Release);
}

/// The kernel's tick counter.
pub(super) fn jiffies() -> usize {
    // SAFETY: `jiffies` is a word which the tick writes and anyone may read.
    unsafe { core::ptr::read_volatile(&raw const bindings::jiffies) as usize } // CAST: same width.
}

/// A workqueue of ours.
///
/// # Invariants
///
/// The pointer came from `alloc_workqueue` and is ours to destroy.
pub(super) struct Queue(NonNull<bindings::workqueue_struct>);

// SAFETY: Workqueues belong to no thread.
unsafe impl Send for Queue {}
// SAFETY: As above.
unsafe impl Sync for Queue {}

impl Queue {
    fn new(name: &CStr, flags: u32) -> Result<Self> {
        // SAFETY: The format takes one string, which outlives the call.
        let wq = unsafe {
            bindings::alloc_workqueue_noprof(c"%s".as_char_ptr(), flags, 0, name.as_char_ptr())
        };
        // INVARIANT: Just allocated.
        NonNull::new(wq).map(Self).ok_or(ENOMEM)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::workqueue_struct {
        self.0.as_ptr()
    }
}

impl Drop for Queue {
    /// Waits for what is queued. Sleeps.
    fn drop(&mut self) {
        // SAFETY: Ours by the invariant.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) }
    }
}

/// The lists of all CPUs, for process context and, if asked for, softirq.
///
/// Dropping it waits for the workers; the hooks must be dead by then. Sleeps.
pub(super) struct Drains {
    process: KVVec<Drain>,
    softirq: KVVec<Drain>,
    queue: Queue,
    _softirq_queue: Option<Queue>,
}

fn drains(queue: &Queue, context: Context) -> Result<KVVec<Drain>> {
    let cpus = kernel::cpu::nr_cpu_ids();
    // CAST: a small count.
    let mut all = KVVec::with_capacity(cpus as usize, GFP_KERNEL)?;
    for cpu in 0..cpus {
        let (input, reply) = match context {
            // Lent in process context, where the first user can allocate.
            Context::Process => (KVVec::new(), KVVec::new()),
            Context::Softirq => (
                KVVec::with_capacity(CHUNK, GFP_KERNEL)?,
                KVVec::with_capacity(CHUNK, GFP_KERNEL)?,
            ),
        };
        // INVARIANT: The work item is not queued yet.
        all.push(
            Drain {
                work: Opaque::zeroed(),
                head: Atomic::new(core::ptr::null_mut()),
                active: Atomic::new(0),
                queue: queue.as_ptr(),
                cpu: i32::try_from(cpu)?,
                context,
                scratch: UnsafeCell::new(Scratch {
                    input,
                    reply,
                    counts: Counts::default(),
                }),
            },
            GFP_KERNEL,
        )?;
    }
    // Lockdep takes running a work item for holding a lock. Those of softirq and those of process
    // context never meet, and are told apart; with one key it would see one lock in both.
    let key = match context {
        Context::Process => kernel::static_lock_class!(),
        Context::Softirq => kernel::static_lock_class!(),
    };
    // The vector is full and never grows: the work items stay where they are.
    for drain in &all {
        // SAFETY: The work item is at its final place, and nobody knows it yet.
        unsafe {
            bindings::init_work_with_key(
                drain.work.get(),
                Some(Drain::work),
                false,
                c"virgo_drain".as_char_ptr(),
                key.as_ptr(),
            )
        };
    }
    Ok(all)
}

impl Drains {
    /// `name` is what `ps` and the kernel's messages show.
    pub(super) fn new(name: &CStr, highpri: bool, softirq: bool) -> Result<Self> {
        let mut flags = bindings::wq_flags_WQ_PERCPU | bindings::wq_flags_WQ_MEM_RECLAIM;
        if highpri {
            flags |= bindings::wq_flags_WQ_HIGHPRI;
        }
        let queue = Queue::new(name, flags)?;
        let process = drains(&queue, Context::Process)?;
        let (softirq, softirq_queue) = if softirq {
            let bh = Queue::new(
                name,
                bindings::wq_flags_WQ_BH | bindings::wq_flags_WQ_PERCPU,
            )?;
            (drains(&bh, Context::Softirq)?, Some(bh))
        } else {
            (KVVec::new(), None)
        };
        Ok(Self {
            process,
            softirq,
            queue,
            _softirq_queue: softirq_queue,
        })
    }

    /// This CPU's. A caller that moves on meanwhile picks a neighbour's: no harm.
    fn here(&self, softirq: bool) -> Option<&Drain> {
        let cpu = CpuId::current().as_u32() as usize; // CAST: a small number.
        if softirq {
            self.softirq.get(cpu)
        } else {
            self.process.get(cpu)
        }
    }

    /// The queue of the process-context workers.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Sums a counter over all workers.
    pub(super) fn sum(&self, pick: impl Fn(&Counts) -> &Count) -> u64 {
        let both = Iterator::chain(self.process.iter(), self.softirq.iter());
        both.fold(0u64, |sum, drain| {
            // SAFETY: Only the counters are looked at, which are atomics.
            let counts = unsafe { &*(&raw const (*drain.scratch.get()).counts) };
            sum.saturating_add(pick(counts).get())
        })
    }
}

impl Drains {
    /// Waits for the workers, and takes what they have not begun out of the
    /// queues. Process context; sleeps.
    pub(super) fn quiesce(&self) {
        for drain in Iterator::chain(self.process.iter(), self.softirq.iter()) {
            // SAFETY: The work item was initialised in `drains`; this sleeps, and
            // Drop runs in process context.
            unsafe { bindings::cancel_work_sync(drain.work.get()) };
        }
    }
}

impl Drop for Drains {
    fn drop(&mut self) {
        self.quiesce();
    }
}
