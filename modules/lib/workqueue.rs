// SPDX-License-Identifier: GPL-2.0-only

//! Work queues that a module owns, and work which is due at a moment.
//!
//! `kernel::workqueue` has the system's queues only, and no way to cancel: an item that is still
//! queued when its module is unloaded runs freed code. Here the value's Drop cancels and waits.

use core::ptr::NonNull;

use kernel::{
    bindings,
    prelude::*,
    sync::{
        Arc,
        LockClassKey, //
    },
    types::Opaque, //
};

use super::compat::hrtimer_norestart;

/// A work queue. Drop waits for what runs on it and destroys it; it sleeps.
///
/// # Invariants
///
/// The pointer is a work queue which exists.
pub struct OwnedQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: Work queues may be used from any thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: As above.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Makes a queue whose items run on any CPU, soon after they are queued, at most `at_once` at
    /// a time. May sleep.
    pub fn new(name: &'static CStr, at_once: u16) -> Result<Self> {
        let flags = bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_HIGHPRI;
        Self::with_flags(name, at_once, flags)
    }

    /// As [`OwnedQueue::new`], for work that may take long: at ordinary priority. May sleep.
    pub fn pool(name: &'static CStr, at_once: u16) -> Result<Self> {
        Self::with_flags(name, at_once, bindings::wq_flags_WQ_UNBOUND)
    }

    /// Makes a queue whose items run on the CPU they are queued on, one after the other; but when
    /// one sleeps the next begins, up to `at_once` on each CPU. An item that is queued by another
    /// follows it without a switch of threads. May sleep.
    pub fn per_cpu(name: &'static CStr, at_once: u16) -> Result<Self> {
        Self::with_flags(name, at_once, bindings::wq_flags_WQ_PERCPU)
    }

    fn with_flags(name: &'static CStr, at_once: u16, flags: u32) -> Result<Self> {
        // SAFETY: The format takes one string, which is a C string.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                flags,
                c_int::from(at_once),
                name.as_char_ptr(),
            )
        };
        // INVARIANT: The function returned a queue.
        NonNull::new(queue).map(OwnedQueue).ok_or(ENOMEM)
    }
}

impl OwnedQueue {
    /// Changes how many items run at a time; those that run go on. May sleep.
    pub fn set_at_once(&self, at_once: u16) {
        // SAFETY: The queue exists by the invariant.
        unsafe { bindings::workqueue_set_max_active(self.0.as_ptr(), c_int::from(at_once)) };
    }
}

/// A closure on its way to a queue.
#[pin_data]
struct Spawned<F: FnOnce() + Send + 'static> {
    #[pin]
    work: Opaque<bindings::work_struct>,
    function: Option<F>,
}

impl<F: FnOnce() + Send + 'static> Spawned<F> {
    /// # Safety
    ///
    /// Called once, by a work queue, with the work item of a boxed `Self` that nobody else owns.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        let work = Opaque::cast_from(work).cast_mut();
        // SAFETY: The item is the field of a box that `spawn` gave up. A work item may be freed by
        // its own function.
        let mut this = unsafe { KBox::from_raw(kernel::container_of!(work, Self, work)) };
        if let Some(function) = this.function.take() {
            function();
        }
        // Only now: an item that is allocated where a running one was is taken for the same one by
        // the queue, and waits until that has ended.
        drop(this);
    }
}

impl OwnedQueue {
    /// Runs `function` on the queue, soon, in process context; it may sleep. Dropping the queue
    /// waits for it. `ENOMEM`. May sleep.
    pub fn spawn<F: FnOnce() + Send + 'static>(&self, function: F) -> Result {
        let spawned = KBox::pin_init(
            pin_init!(Spawned {
                work <- Opaque::ffi_init(|slot| {
                    // SAFETY: The slot is for a work item, in a box which is freed by the item's
                    // own function.
                    unsafe {
                        bindings::init_work_with_key(
                            slot,
                            Some(Spawned::<F>::run),
                            false,
                            c"virgo_spawned".as_char_ptr(),
                            kernel::static_lock_class!().as_ptr(),
                        )
                    }
                }),
                function: Some(function),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The box is not moved from here on: `run` takes it over.
        let spawned = KBox::into_raw(unsafe { Pin::into_inner_unchecked(spawned) });
        // CAST: a small constant.
        let any_cpu = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;
        // SAFETY: The queue exists by the invariant. The item is new, so it is queued, and its
        // function owns the box.
        unsafe {
            let work = (*spawned).work.get();
            bindings::queue_work_on(any_cpu, self.0.as_ptr(), work);
        }
        Ok(())
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: The queue exists by the invariant and is not used again: who queues on it holds
        // a reference to `self`.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// What runs when a [`DeadlineWork`] is due.
pub trait DeadlineHandler: Send + Sync + Sized + 'static {
    /// Runs on the work's own queue; may sleep. To run again, it arms `work` anew.
    fn run(&self, work: &DeadlineWork<Self>);
}

/// A delayed work item with the resolution of the high-resolution timers.
///
/// The kernel's `delayed_work` counts in jiffies: at CONFIG_HZ=250 fifty milliseconds become 52,
/// and nothing can be shorter than four. Here the delay is an absolute moment in nanoseconds, so
/// that a series of deadlines has no drift.
///
/// Drop cancels the timer, waits for the handler if it runs, and sees to it that it does not run
/// again.
#[pin_data(PinnedDrop)]
pub struct DeadlineWork<T: DeadlineHandler> {
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    #[pin]
    work: Opaque<bindings::work_struct>,
    queue: OwnedQueue,
    handler: Arc<T>,
}

// SAFETY: Timers and work items may be armed and cancelled from any thread; the rest is `Send`.
unsafe impl<T: DeadlineHandler> Send for DeadlineWork<T> {}
// SAFETY: `arm` is safe to call from several threads at once: `hrtimer_start_range_ns()` locks.
unsafe impl<T: DeadlineHandler> Sync for DeadlineWork<T> {}

impl<T: DeadlineHandler> DeadlineWork<T> {
    /// Makes the item, not armed, with a queue of its own by this name. May sleep.
    pub fn new(
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
        handler: Arc<T>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            timer <- Opaque::ffi_init(|slot| {
                // SAFETY: The slot is for a timer, pinned, and cancelled before it is freed.
                unsafe {
                    bindings::hrtimer_setup(
                        slot,
                        Some(Self::expired),
                        // CAST: 1, a constant.
                        bindings::CLOCK_MONOTONIC as bindings::clockid_t,
                        bindings::hrtimer_mode_HRTIMER_MODE_ABS,
                    )
                }
            }),
            work <- Opaque::ffi_init(|slot| {
                // SAFETY: The slot is for a work item, pinned, and cancelled before it is freed.
                unsafe {
                    bindings::init_work_with_key(
                        slot,
                        Some(Self::work),
                        false,
                        name.as_char_ptr(),
                        key.as_ptr(),
                    )
                }
            }),
            queue: OwnedQueue::new(name, 1)?,
            handler,
        }? Error)
    }

    /// What runs.
    pub fn handler(&self) -> &Arc<T> {
        &self.handler
    }

    /// Runs the handler at `due_ns` of CLOCK_MONOTONIC, or at once if that has passed. An earlier
    /// arming that has not come due is replaced. Does not sleep.
    pub fn arm(&self, due_ns: u64) {
        let due = i64::try_from(due_ns).unwrap_or(i64::MAX);
        // SAFETY: The timer was set up in `new`.
        unsafe {
            bindings::hrtimer_start_range_ns(
                self.timer.get(),
                due,
                0,
                bindings::hrtimer_mode_HRTIMER_MODE_ABS,
            )
        };
    }

    /// Runs the handler as soon as its queue can; if it runs already, once more. Does not sleep.
    pub fn run_soon(&self) {
        // CAST: a small constant.
        let any_cpu = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;
        // SAFETY: Queue and item live as long as `self`; queueing a disabled item does nothing.
        unsafe { bindings::queue_work_on(any_cpu, self.queue.0.as_ptr(), self.work.get()) };
    }

    /// # Safety
    ///
    /// Called by the timer of a `Self`.
    unsafe extern "C" fn expired(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        let timer = Opaque::cast_from(timer);
        // SAFETY: The timer is the field of a `Self`, which Drop does not free before the timer is
        // cancelled.
        let this = unsafe { &*kernel::container_of!(timer, Self, timer) };
        // CAST: a small constant.
        let any_cpu = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;
        // SAFETY: Queue and item live as long as `this`. Queueing is allowed in interrupts.
        unsafe { bindings::queue_work_on(any_cpu, this.queue.0.as_ptr(), this.work.get()) };
        hrtimer_norestart()
    }

    /// # Safety
    ///
    /// Called by the work queue with the work item of a `Self`.
    unsafe extern "C" fn work(work: *mut bindings::work_struct) {
        let work = Opaque::cast_from(work);
        // SAFETY: The item is the field of a `Self`, which Drop does not free before the item has
        // run to its end.
        let this = unsafe { &*kernel::container_of!(work, Self, work) };
        this.handler.run(this);
    }
}

#[pinned_drop]
impl<T: DeadlineHandler> PinnedDrop for DeadlineWork<T> {
    fn drop(self: Pin<&mut Self>) {
        // Nobody but the handler can arm it any more, since this is the last reference.
        //
        // SAFETY: Timer and item were set up in `new`. After the item is disabled the handler does
        // not run again, so the second cancel meets a timer that nobody arms.
        unsafe {
            bindings::hrtimer_cancel(self.timer.get());
            bindings::disable_work_sync(self.work.get());
            bindings::hrtimer_cancel(self.timer.get());
        }
    }
}
