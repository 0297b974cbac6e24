// SPDX-License-Identifier: GPL-2.0-only

//! Tasks: lookup, counters, permission.

use core::{
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    },
};

use kernel::{
    error::from_err_ptr,
    fs::File,
    prelude::*,
    sync::aref::ARef,
    task::Task, //
};

use super::ffi;

/// What a registration or a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A whole process, by its leader.
    Process,
    /// One thread.
    Thread,
}

/// A task's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
}

/// What a task has used so far. Times are nanoseconds.
#[derive(Clone, Copy)]
pub struct Counters(ffi::Counters);

impl Counters {
    /// Minor faults.
    pub fn min_flt(&self) -> u64 {
        self.0.min_flt
    }
    /// Major faults.
    pub fn maj_flt(&self) -> u64 {
        self.0.maj_flt
    }
    /// Run time by the scheduler's clock.
    pub fn exact_ns(&self) -> u64 {
        self.0.exact_ns
    }
    /// User time by the tick's samples: only its ratio to [`Self::stime_ns`] is good.
    pub fn utime_ns(&self) -> u64 {
        self.0.utime_ns
    }
    /// System time by the tick's samples.
    pub fn stime_ns(&self) -> u64 {
        self.0.stime_ns
    }
    /// Resident pages.
    pub fn rss_pages(&self) -> u64 {
        self.0.rss_pages
    }
    /// Letter of the state, as in /proc/PID/stat.
    pub fn state(&self) -> u32 {
        self.0.state
    }
    /// The task has exited and no figure will change any more.
    pub fn exited(&self) -> bool {
        self.0.exited != 0
    }
    /// Name, NUL-padded.
    pub fn comm(&self) -> [u8; 16] {
        self.0.comm
    }
}

/// Finds a task by its number in the caller's pid namespace. A thread that is not its process's
/// leader is found with [`Scope::Thread`] only. `ESRCH` if there is none. Does not sleep.
pub fn find(nr: i32, scope: Scope) -> Result<ARef<Task>> {
    let thread = c_int::from(scope == Scope::Thread);
    // SAFETY: The function takes any numbers.
    let task = unsafe { ffi::virgo_shim_task_by_pid(nr, thread) };
    let task = NonNull::new(task).ok_or(ESRCH)?;
    // SAFETY: The function returned a task with a reference for us, which the `ARef` takes over.
    // `Task` is `repr(transparent)` over `task_struct`.
    Ok(unsafe { ARef::from_raw(task.cast()) })
}

/// Finds the process of one of the caller's pidfds. `EBADF` if it is no pidfd, `ESRCH` if the
/// process is gone. Does not sleep.
pub fn find_by_pidfd(fd: i32) -> Result<ARef<Task>> {
    // SAFETY: The function takes any number.
    let task = from_err_ptr(unsafe { ffi::virgo_shim_task_by_pidfd(fd) })?;
    let task = NonNull::new(task).ok_or(ESRCH)?;
    // SAFETY: As in `find`.
    Ok(unsafe { ARef::from_raw(task.cast()) })
}

/// Reads what `task` has used so far; changes nothing in it. Does not sleep.
pub fn counters(task: &Task, scope: Scope) -> Counters {
    let mut out = MaybeUninit::uninit();
    let thread = c_int::from(scope == Scope::Thread);
    // SAFETY: `task` is alive by its type; `out` is writable and the function fills all of it.
    let raw = unsafe {
        ffi::virgo_shim_task_counters(task.as_ptr(), thread, out.as_mut_ptr());
        out.assume_init()
    };
    Counters(raw)
}

/// The numbers of `task`, first in the caller's pid namespace (0 where it has none), then in the
/// initial one.
pub fn ids(task: &Task) -> (Ids, Ids) {
    let (mut here, mut initial) = ([0; 2], [0; 2]);
    // SAFETY: `task` is alive by its type; both arrays are writable.
    unsafe { ffi::virgo_shim_task_ids(task.as_ptr(), &mut here, &mut initial) };
    let convert = |[pid, tid]: [c_int; 2]| Ids {
        // Numbers of tasks are not negative.
        pid: pid.unsigned_abs(),
        tid: tid.unsigned_abs(),
    };
    (convert(here), convert(initial))
}

/// What tells `task` from every other task as long as somebody holds a reference on it. For a
/// process it stays the same when one of its threads calls execve() and becomes the leader.
pub fn identity(task: &Task, scope: Scope) -> usize {
    match scope {
        // SAFETY: `task` is alive by its type, and its `signal` does not change.
        Scope::Process => unsafe { (*task.as_ptr()).signal }.addr(),
        Scope::Thread => task.as_ptr().addr(),
    }
}

fn opener_ptr(opener: Option<&File>) -> *const kernel::bindings::file {
    opener.map_or(ptr::null(), |file| file.as_ptr().cast_const())
}

/// May the caller watch `task`? It must be its user's, or the caller holds CAP_SYS_PTRACE or
/// CAP_PERFMON. Where the request came as text through a file, `opener` is that file, and who
/// opened it must be allowed as well.
pub fn may_observe(task: &Task, opener: Option<&File>) -> bool {
    // SAFETY: `task` and the file are alive by their types.
    unsafe { ffi::virgo_shim_may_observe(task.as_ptr(), opener_ptr(opener)) != 0 }
}

/// May the caller change what concerns everybody (CAP_PERFMON, CAP_SYS_PTRACE or CAP_SYS_ADMIN)?
pub fn may_administer(opener: Option<&File>) -> bool {
    // SAFETY: The file is alive by its type.
    unsafe { ffi::virgo_shim_may_administer(opener_ptr(opener)) != 0 }
}
