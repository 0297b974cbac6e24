// SPDX-License-Identifier: GPL-2.0-only

//! Kernel threads that stop when their value is dropped.

use core::ptr::{
    self,
    NonNull, //
};

use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*, //
};

use super::ffi;

/// The niceness of workers of high priority: kernel/workqueue.c has it as MIN_NICE.
const HIGHPRI_NICE: i8 = -20;

/// What a thread asks whether it should end.
///
/// Blocking calls that can be interrupted return when the thread is told to stop, and return at
/// once from then on; ask after each.
pub struct Stop(());

impl Stop {
    /// The thread has been told to stop. Does not sleep.
    pub fn requested(&self) -> bool {
        // SAFETY: A `Stop` is handed to the functions of kernel threads only, and cannot be copied
        // or sent out of them since they get it by reference.
        unsafe { bindings::kthread_should_stop() }
    }

    /// Sleeps until the thread is told to stop.
    pub fn wait(&self) {
        while !self.requested() {
            // SAFETY: This is a kernel thread, which may sleep; `kthread_stop()` wakes it.
            unsafe { ffi::virgo_shim_wait_for_stop() };
        }
    }
}

/// A running kernel thread. Drop tells it to stop and waits for its end; it sleeps.
///
/// # Invariants
///
/// `task` is a kernel thread made by `spawn`, of which one reference is owned; `work` is what it
/// was given to run, which it takes over when it first runs.
pub struct KThread<F: FnOnce(&Stop) + Send + 'static> {
    task: NonNull<bindings::task_struct>,
    work: *mut F,
}

// SAFETY: A thread may be stopped from any other; `work` is only touched if the thread never ran.
unsafe impl<F: FnOnce(&Stop) + Send + 'static> Send for KThread<F> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<F: FnOnce(&Stop) + Send + 'static> Sync for KThread<F> {}

impl<F: FnOnce(&Stop) + Send + 'static> KThread<F> {
    /// Starts a thread called `name` that runs `work`. It may return before it is told to stop.
    /// May sleep. `ENOMEM`, `EINTR`.
    pub fn spawn(name: &'static CStr, work: F) -> Result<Self> {
        let work = KBox::into_raw(KBox::new(work, GFP_KERNEL)?);
        // SAFETY: The format takes one string, which is a C string. `run` gets `work`, which is
        // given up only if the thread does not come to be or never runs.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(Self::run),
                work.cast(),
                bindings::NUMA_NO_NODE,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })
        .and_then(|task| NonNull::new(task).ok_or(ENOMEM));
        match task {
            Ok(task) => {
                // SAFETY: The thread does not run before it is woken, so it is there. The
                // reference keeps its structure when it ends by itself.
                // INVARIANT: One reference is owned.
                unsafe {
                    bindings::get_task_struct(task.as_ptr());
                    bindings::wake_up_process(task.as_ptr());
                }
                Ok(KThread { task, work })
            }
            Err(error) => {
                // SAFETY: From `into_raw` above; there is no thread that could take it.
                drop(unsafe { KBox::from_raw(work) });
                Err(error)
            }
        }
    }

    /// Has the thread run before what is of ordinary priority, as the workers of a queue with
    /// `WQ_HIGHPRI` do. Does not sleep.
    pub fn set_high_priority(&self) {
        // SAFETY: The thread is there by the invariant, be it ended.
        unsafe { bindings::set_user_nice(self.task.as_ptr(), HIGHPRI_NICE.into()) };
    }

    /// # Safety
    ///
    /// Called once, as a thread's function, with what `spawn` was given.
    unsafe extern "C" fn run(work: *mut c_void) -> c_int {
        // SAFETY: By the safety requirements.
        let work = unsafe { KBox::from_raw(work.cast::<F>()) };
        KBox::into_inner(work)(&Stop(()));
        0
    }
}

impl<F: FnOnce(&Stop) + Send + 'static> Drop for KThread<F> {
    fn drop(&mut self) {
        // SAFETY: We own a reference by the invariant, which this gives up. It waits for the end.
        let result = unsafe { bindings::kthread_stop_put(self.task.as_ptr()) };
        // `run` returns 0. A thread that was stopped before it first ran does not call it.
        if result != 0 {
            // SAFETY: Given to `spawn`, and `run` did not take it.
            drop(unsafe { KBox::from_raw(self.work) });
        }
        self.work = ptr::null_mut();
    }
}
