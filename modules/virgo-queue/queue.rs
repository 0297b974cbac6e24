// SPDX-License-Identifier: GPL-2.0-only

//! The queue behind its mutex, and the timer that does what is due.

use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::{
    prelude::*,
    sync::{
        Arc,
        CondVar,
        LockClassKey,
        Mutex,
        MutexGuard, //
    }, //
};

use crate::{
    lib::{
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        }, //
    },
    state::{
        Limits,
        State, //
    },
};

/// The most things that are done at a time before others get the mutex.
const BATCH: usize = 256;

/// What the mutex guards.
struct Guarded {
    state: State,
    /// When the timer will look; `u64::MAX`: it is not set.
    armed: u64,
}

/// The queue.
#[pin_data]
pub(crate) struct Queue {
    #[pin]
    guarded: Mutex<Guarded>,
    /// Wakes ioctls that wait for a job.
    #[pin]
    files: CondVar,
}

/// The queue and its timer. What asks something of the queue holds this.
#[pin_data]
pub(crate) struct Core {
    #[pin]
    ticker: DeadlineWork<Queue>,
}

/// The queue, held. When it is let go, the timer is set for what is due next.
pub(crate) struct Held<'a> {
    guard: MutexGuard<'a, Guarded>,
    queue: &'a Queue,
    ticker: &'a DeadlineWork<Queue>,
    now: u64,
}

impl Core {
    /// An empty queue.
    pub(crate) fn new(
        key: Pin<&'static LockClassKey>,
        limits: Limits,
    ) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let state = State::new(limits, monotonic_ns())?;
            let guarded = Guarded {
                state,
                armed: u64::MAX,
            };
            let queue = Arc::pin_init(
                pin_init!(Queue {
                    guarded <- kernel::new_mutex!(guarded, "virgo_queue"),
                    files <- kernel::new_condvar!("virgo_queue_files"),
                }),
                GFP_KERNEL,
            )?;
            Ok(try_pin_init!(Self {
                ticker <- DeadlineWork::new(c"virgo_queue", key, queue),
            }? Error))
        })
    }

    /// Takes the mutex. Sleeps.
    pub(crate) fn hold(&self) -> Held<'_> {
        let queue = &**self.ticker.handler();
        Held {
            guard: queue.guarded.lock(),
            queue,
            ticker: &self.ticker,
            now: monotonic_ns(),
        }
    }
}

impl Held<'_> {
    /// The moment at which the mutex was taken.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }
}

impl Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.guard.state
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.guard.state
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        settle(&mut self.guard, self.queue, self.ticker);
    }
}

/// Sets the timer if something is due before it would look, and wakes ioctls.
fn settle(guarded: &mut Guarded, queue: &Queue, ticker: &DeadlineWork<Queue>) {
    let due = guarded.state.next_due();
    if due < guarded.armed {
        guarded.armed = due;
        ticker.arm(due);
    }
    if core::mem::take(&mut guarded.state.files_changed) {
        queue.files.notify_all();
    }
}

impl DeadlineHandler for Queue {
    fn run(&self, work: &DeadlineWork<Self>) {
        loop {
            let mut guarded = self.guarded.lock();
            guarded.armed = u64::MAX;
            let done = guarded.state.tick(monotonic_ns(), BATCH);
            if done {
                settle(&mut guarded, self, work);
                return;
            }
            if core::mem::take(&mut guarded.state.files_changed) {
                self.files.notify_all();
            }
        }
    }
}
