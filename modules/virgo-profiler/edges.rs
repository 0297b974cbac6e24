// SPDX-License-Identifier: GPL-2.0-only

//! Where the trace of a process begins and ends, while its threads go on.
//!
//! What is recorded and what the kernel counted shall be the same to the fault, though nobody can
//! look at all threads at one moment. So each thread has a beginning and an end of its own, which
//! are put between two of its faults, by the kernel's counters of that thread alone:
//!
//! - it begins with the first fault that is reported once the trace is in place: what its thread had
//!   counted before that is what it began with. A fault that was under way when the trace came is
//!   not reported, and is before that.
//! - it ends with the last one that is reported before the trace ends. After that reports are
//!   refused, and the first that is shows what its thread had counted before it.
//!
//! Threads that report nothing stand where their counters are, once it is certain that no fault
//! which was counted is still to be reported. All that is between a thread's beginning and its end
//! must have been reported, and is recorded or was dropped.

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        new_spinlock,
        SpinLock, //
    },
    task::Task, //
};

use crate::lib::{
    trace::{
        self,
        Counted, //
    },
    word::Word, //
};

/// The trace is not in place: reports are refused.
const OPENING: u64 = 0;
/// Some threads have not begun yet.
const SETTLING: u64 = 1;
/// Each report is taken as it is.
const OPEN: u64 = 2;
/// Reports are refused; they may tell where a thread ended.
const ENDING: u64 = 3;
/// Nothing is told any more.
const MUTE: u64 = 4;

/// A thread's beginning or end.
struct Edge {
    thread: ARef<Task>,
    counted: Counted,
    /// A report has shown it.
    settled: bool,
}

impl Edge {
    fn address(&self) -> usize {
        address(&self.thread)
    }
}

fn address(thread: &Task) -> usize {
    thread.as_ptr().addr()
}

/// Threads, in a table by their address.
#[derive(Default)]
struct Edges {
    /// A power of two, more than half of them empty.
    slots: KVVec<Option<Edge>>,
    threads: usize,
    /// What those had that were gone already.
    gone: Counted,
}

impl Edges {
    /// With room for `threads`. May sleep.
    fn with_room(threads: usize) -> Result<Self> {
        let length = threads
            .checked_mul(2)
            .and_then(usize::checked_next_power_of_two)
            .ok_or(EINVAL)?;
        let mut slots = KVVec::with_capacity(length, GFP_KERNEL)?;
        for _ in 0..length {
            slots.push(None, GFP_KERNEL)?;
        }
        Ok(Edges {
            slots,
            threads: 0,
            gone: Counted::default(),
        })
    }

    /// All threads of `task`'s process as they are; `first` is called when none is made or goes any
    /// more. Whether there were any; `Err` with how many there were if there is no room for them.
    fn take(&mut self, task: &Task, mut first: impl FnMut()) -> Result<bool, usize> {
        let room = self.slots.len() / 2;
        let mut count: usize = 0;
        let (gone, some) = trace::threads(task, |thread| {
            if count == 0 {
                first();
            }
            count = count.saturating_add(1);
            if count <= room {
                if let Some(slot) = self.slot(address(thread)) {
                    if let Some(slot) = self.slots.get_mut(slot) {
                        *slot = Some(Edge {
                            thread: thread.into(),
                            counted: trace::counted(thread),
                            settled: false,
                        });
                    }
                }
            }
        });
        if count > room {
            return Err(count);
        }
        self.threads = count;
        self.gone = gone;
        Ok(some)
    }

    /// Where a thread is, or would be.
    fn slot(&self, thread: usize) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        // Tasks are hundreds of bytes apart.
        let mut at = (thread >> 6).wrapping_mul(0x9e37_79b9) >> 4;
        loop {
            at &= mask;
            match self.slots.get(at)? {
                Some(edge) if edge.address() != thread => at = at.wrapping_add(1),
                _ => return Some(at),
            }
        }
    }

    fn find(&self, thread: usize) -> Option<&Edge> {
        self.slots.get(self.slot(thread)?)?.as_ref()
    }

    fn find_mut(&mut self, thread: usize) -> Option<&mut Edge> {
        let slot = self.slot(thread)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    fn iter(&self) -> impl Iterator<Item = &Edge> {
        self.slots.iter().flatten()
    }

    fn sum(&self) -> Counted {
        self.iter()
            .fold(self.gone, |sum, edge| sum.plus(edge.counted))
    }
}

#[derive(Default)]
struct State {
    begin: Edges,
    /// How many of them no report has shown yet.
    unsettled: usize,
    end: Edges,
    /// The end, where it is no moment of each thread's own.
    total: Option<Counted>,
}

/// The beginning and the end of a process's trace.
#[pin_data]
pub(crate) struct Bounds {
    /// Read with each fault.
    gate: Word,
    #[pin]
    state: SpinLock<State>,
}

impl Bounds {
    /// Of a process that runs already: refuses reports until [`Self::begin`].
    pub(crate) fn opening() -> impl PinInit<Self> {
        Self::new(OPENING)
    }

    /// Of a process that was just forked, which has met no fault.
    pub(crate) fn open() -> impl PinInit<Self> {
        Self::new(OPEN)
    }

    fn new(gate: u64) -> impl PinInit<Self> {
        pin_init!(Self {
            gate: Word::new(gate),
            state <- new_spinlock!(State::default(), "virgo_trace_bounds"),
        })
    }

    /// From here on reports are taken. `ENOMEM`. May sleep.
    pub(crate) fn begin(&self, task: &Task) -> Result {
        let mut room: usize = 8;
        loop {
            let mut edges = Edges::with_room(room)?;
            let mut state = self.state.lock();
            // Who is forked after the others were looked at begins with nothing, and is let in.
            let taken = edges.take(task, || self.gate.store_release(SETTLING));
            match taken {
                Ok(some) => {
                    state.unsettled = edges.threads;
                    if !some {
                        self.gate.store_release(OPEN);
                    }
                    state.begin = edges;
                    return Ok(());
                }
                Err(count) => {
                    self.gate.store_release(OPENING);
                    drop(state);
                    room = count.saturating_add(count / 4);
                }
            }
        }
    }

    /// Whether a report by the current thread is to be taken: `major` or not; `again` if it was not
    /// counted, as it will be tried again.
    #[inline]
    pub(crate) fn takes(&self, major: bool, again: bool) -> bool {
        self.gate.load() == OPEN || self.takes_at_edge(major, again)
    }

    #[cold]
    fn takes_at_edge(&self, major: bool, again: bool) -> bool {
        let gate = self.gate.load();
        if again || (gate != SETTLING && gate != ENDING) {
            return gate == SETTLING || gate == OPEN;
        }
        let current = kernel::current!();
        let before = trace::counted(current).since(Counted {
            minor: u64::from(!major),
            major: u64::from(major),
        });
        let current = address(current);
        let mut state = self.state.lock();
        // Under the lock it stays.
        match self.gate.load() {
            OPEN => true,
            SETTLING => {
                let Some(edge) = state.begin.find_mut(current) else {
                    // Made since.
                    return true;
                };
                if edge.settled {
                    return true;
                }
                if before.sum() < edge.counted.sum() {
                    // It was counted when the thread was looked at.
                    return false;
                }
                edge.counted = before;
                edge.settled = true;
                state.unsettled = state.unsettled.saturating_sub(1);
                if state.unsettled == 0 {
                    self.gate.store_release(OPEN);
                }
                true
            }
            ENDING => {
                if let Some(edge) = state.end.find_mut(current) {
                    if !edge.settled {
                        edge.counted = before;
                        edge.settled = true;
                    }
                }
                false
            }
            _ => false,
        }
    }

    /// Refuses reports from here on, if the process has threads; else its end is when it went.
    /// `ENOMEM`. May sleep. [`Self::read_end`] comes next.
    pub(crate) fn end(&self, task: &Task) -> Result {
        let mut room: usize = 8;
        loop {
            let mut edges = Edges::with_room(room)?;
            let mut state = self.state.lock();
            let before = self.gate.load();
            if before == MUTE {
                return Ok(());
            }
            match edges.take(task, || self.gate.store_release(ENDING)) {
                Ok(some) => {
                    if some {
                        state.end = edges;
                    }
                    return Ok(());
                }
                Err(count) => {
                    // Whoever was refused meanwhile is none of those whose end was shown.
                    self.gate.store_release(before);
                    drop(state);
                    room = count.saturating_add(count / 4);
                }
            }
        }
    }

    /// Reads where the threads are that were not shown. All reports have ended that began before
    /// [`Self::end`]. Does not sleep.
    pub(crate) fn read_end(&self) {
        let mut state = self.state.lock();
        for edge in state
            .end
            .slots
            .iter_mut()
            .flatten()
            .filter(|edge| !edge.settled)
        {
            edge.counted = trace::counted(&edge.thread);
        }
    }

    /// Whether each thread has reported all faults that were counted before this call, or has shown
    /// where it ended. `false`: that is not known. Does not sleep.
    pub(crate) fn is_quiet(&self) -> bool {
        let current = address(kernel::current!());
        let state = self.state.lock();
        // Who calls this is not in the midst of a fault.
        let quiet = |edge: &Edge| {
            edge.settled || edge.address() == current || trace::is_quiet(&edge.thread)
        };
        let all = state.end.iter().all(quiet);
        all
    }

    /// Whether [`Self::end`] found threads.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().end.threads > 0
    }

    /// Nothing is told any more: the current process, which has one thread, has become another
    /// user's. Does not sleep.
    pub(crate) fn mute(&self) {
        let mut state = self.state.lock();
        let mut sum = Counted::default();
        let (gone, _) = trace::threads(kernel::current!(), |thread| {
            sum = sum.plus(trace::counted(thread));
        });
        state.total = Some(gone.plus(sum));
        self.gate.store_release(MUTE);
    }

    /// What the kernel counted between the beginning and the end, of which `exited` is the one if
    /// the process went by itself. No report comes any more. Does not sleep.
    pub(crate) fn counted(&self, exited: Counted) -> Counted {
        let state = self.state.lock();
        let end = if let Some(total) = state.total {
            total
        } else if state.end.threads == 0 {
            exited
        } else {
            state.end.sum()
        };
        // Who has reported nothing since the beginning begins where it ended.
        let begin = state.begin.iter().fold(state.begin.gone, |sum, edge| {
            sum.plus(if edge.settled {
                edge.counted
            } else {
                match state.end.find(edge.address()) {
                    Some(end) => end.counted,
                    None => trace::counted(&edge.thread),
                }
            })
        });
        end.since(begin)
    }
}
