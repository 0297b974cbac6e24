// SPDX-License-Identifier: GPL-2.0-only

//! The queue behind its mutex, and the timer that does what is due.

use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::{
    prelude::*,
    sync::{
        poll::PollCondVar,
        Arc,
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
    log::{
        replay,
        Log,
        Settings,
        Writer, //
    },
    state::{
        Limits,
        State, //
    },
};

/// The most things that are done at a time before others get the mutex.
const BATCH: usize = 256;

/// What the mutex guards.
pub(crate) struct Guarded {
    pub(crate) state: State,
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
    files: PollCondVar,
}

/// The queue and its timer. What asks something of the queue holds this.
#[pin_data]
pub(crate) struct Core {
    #[pin]
    ticker: DeadlineWork<Queue>,
    limits: Limits,
    /// Writes the log, if there is one.
    writer: Option<Pin<KBox<DeadlineWork<Writer>>>>,
}

impl Queue {
    /// Takes the mutex, for the log's writer. Sleeps.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock()
    }

    /// Has ioctls that wait look again.
    pub(crate) fn wake_files(&self) {
        self.files.notify_all();
    }
}

/// The queue, held. When it is let go, the timer is set for what is due next.
pub(crate) struct Held<'a> {
    guard: MutexGuard<'a, Guarded>,
    queue: &'a Queue,
    ticker: &'a DeadlineWork<Queue>,
    writer: Option<&'a DeadlineWork<Writer>>,
    now: u64,
}

impl Core {
    /// An empty queue.
    pub(crate) fn new(
        key: Pin<&'static LockClassKey>,
        limits: Limits,
        log: Option<Settings>,
    ) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let mut state = State::new(limits, monotonic_ns())?;
            if let Some(settings) = &log {
                replay(&mut state, settings)?;
            }
            let guarded = Guarded {
                state,
                armed: u64::MAX,
            };
            let queue = Arc::pin_init(
                pin_init!(Queue {
                    guarded <- kernel::new_mutex!(guarded, "virgo_queue"),
                    files <- kernel::new_poll_condvar!("virgo_queue_files"),
                }),
                GFP_KERNEL,
            )?;
            let writer = match log {
                Some(settings) => {
                    let writer = Arc::new(Writer::new(queue.clone(), settings)?, GFP_KERNEL)?;
                    let key = kernel::static_lock_class!();
                    Some(KBox::pin_init(
                        DeadlineWork::new(c"virgo_queue_log", key, writer),
                        GFP_KERNEL,
                    )?)
                }
                None => None,
            };
            Ok(try_pin_init!(Self {
                writer,
                limits,
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
            writer: self.writer.as_deref(),
            now: monotonic_ns(),
        }
    }

    /// What wakes ioctls and pollers.
    pub(crate) fn files(&self) -> &PollCondVar {
        &self.ticker.handler().files
    }

    /// The bounds.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Writes what has not been written: the last thing before the module goes. Sleeps.
    pub(crate) fn finish(&self) {
        if let Some(writer) = &self.writer {
            writer.handler().finish();
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

impl Held<'_> {
    /// Lets go of the mutex until something has happened to a file or the log; and takes it again.
    pub(crate) fn sleep(&mut self) {
        self.settle();
        self.queue.files.wait(&mut self.guard);
        self.now = monotonic_ns();
    }

    /// The same; true if a signal came.
    pub(crate) fn sleep_interruptible(&mut self) -> bool {
        self.settle();
        let signal = self.queue.files.wait_interruptible(&mut self.guard);
        self.now = monotonic_ns();
        signal
    }

    fn settle(&mut self) {
        settle(&mut self.guard, self.queue, self.ticker);
        let call = self.guard.state.log.as_mut().and_then(Log::call);
        match (call, self.writer) {
            (Some(0), Some(writer)) => writer.run_soon(),
            (Some(wait), Some(writer)) => writer.arm(self.now.saturating_add(wait)),
            _ => {}
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.settle();
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
