// SPDX-License-Identifier: GPL-2.0-only

//! Tasks: lookup, counters, permission.

use core::ptr::{
    self,
    NonNull, //
};

use kernel::{
    bindings,
    error::from_err_ptr,
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        rcu, //
    },
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

/// A section in which counters can be read: RCU holds back the freeing of threads and address
/// spaces. Nothing sleeps while it lives, so let it be short.
pub struct Reading(rcu::Guard);

impl Reading {
    /// Begins a section.
    pub fn begin() -> Self {
        Reading(rcu::read_lock())
    }
}

/// A task whose counters are read again and again.
///
/// # Invariants
///
/// `mm` is null or an address space's structure, of which one reference is owned.
pub struct Watched {
    task: ARef<Task>,
    scope: Scope,
    mm: *mut bindings::mm_struct,
    counters: Counters,
}

// SAFETY: The references may be given up on any thread.
unsafe impl Send for Watched {}
// SAFETY: `mm` is touched through `&mut self` only; the rest is `Sync`.
unsafe impl Sync for Watched {}

impl Watched {
    /// Of a process, or of a thread alone.
    pub fn new(task: ARef<Task>, scope: Scope) -> Self {
        // INVARIANT: No address space yet.
        Watched {
            task,
            scope,
            mm: ptr::null_mut(),
            // A run time that no task has, so that the first reading takes all.
            counters: Counters(ffi::Counters {
                exact_ns: u64::MAX,
                ..ffi::Counters::default()
            }),
        }
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Whether it is a process or a thread alone.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// What tells it from every other task and scope as long as this value lives. For a process it
    /// stays the same when one of its threads calls execve() and becomes the leader.
    pub fn identity(&self) -> Identity {
        identity(&self.task, self.scope)
    }

    /// Reads what the task has used so far; changes nothing in it. `false` if nothing but the state
    /// and the resident pages can have changed since the last time.
    #[inline]
    pub fn refresh(&mut self, _reading: &Reading) -> bool {
        let thread = c_int::from(self.scope == Scope::Thread);
        // SAFETY: The task is alive by its type, and we are in an RCU section. `mm` is ours by the
        // invariant, which the function keeps. The counters are those of this task, and writable.
        unsafe {
            ffi::virgo_shim_task_counters(
                self.task.as_ptr(),
                thread,
                &mut self.mm,
                &mut self.counters.0,
            ) != 0
        }
    }

    /// What the task had used when it was last read.
    #[inline]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: Ours by the invariant.
        unsafe { ffi::virgo_shim_mm_put(self.mm) };
    }
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

/// Scope and identity of a task: see [`Watched::identity`].
pub type Identity = (bool, usize);

/// Whether `task` is a thread of the kernel's, without an address space of its own.
pub fn is_kernel_thread(task: &Task) -> bool {
    // SAFETY: `task` is alive by its type. The flag does not change once a task runs.
    let flags = unsafe { (&raw const (*task.as_ptr()).flags).read_volatile() };
    flags & bindings::PF_KTHREAD != 0
}

/// The address space of a task that was just forked and has not run yet, as a number; 0 without.
pub fn new_mm(task: &Task) -> u64 {
    // SAFETY: `task` is alive by its type, and changes its address space only when it runs.
    let mm = unsafe { (&raw const (*task.as_ptr()).mm).read_volatile() };
    // CAST: usize fits u64.
    mm.addr() as u64
}

/// What tells a task from every other as long as somebody holds a reference on it.
pub fn identity(task: &Task, scope: Scope) -> Identity {
    let address = match scope {
        // SAFETY: `task` is alive by its type, and its `signal` does not change.
        Scope::Process => unsafe { (*task.as_ptr()).signal }.addr(),
        Scope::Thread => task.as_ptr().addr(),
    };
    (scope == Scope::Thread, address)
}

/// Whether `task` has exited, so that its figures change no more. Does not sleep.
pub fn has_exited(task: &Task, scope: Scope) -> bool {
    let mut watched = Watched::new(task.into(), scope);
    watched.refresh(&Reading::begin());
    watched.counters().exited()
}

fn opener_ptr(opener: Option<&File>) -> *const bindings::file {
    opener.map_or(ptr::null(), |file| file.as_ptr().cast_const())
}

/// May the caller watch `task`? It must be its user's, or the caller holds CAP_SYS_PTRACE or
/// CAP_PERFMON. Where the request came as text through a file, `opener` is that file, and who
/// opened it must be allowed as well.
pub fn may_observe(task: &Task, opener: Option<&File>) -> bool {
    // SAFETY: `task` and the file are alive by their types.
    unsafe { ffi::virgo_shim_may_observe(task.as_ptr(), opener_ptr(opener)) != 0 }
}

/// May the caller change how the machine is set up (CAP_SYS_ADMIN)? Does not sleep.
pub fn may_set_up() -> bool {
    // SAFETY: The function takes any number of a capability; this is one.
    // CAST: 21, a constant.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) }
}

/// May the caller change what concerns everybody (CAP_PERFMON, CAP_SYS_PTRACE or CAP_SYS_ADMIN)?
pub fn may_administer(opener: Option<&File>) -> bool {
    // SAFETY: The file is alive by its type.
    unsafe { ffi::virgo_shim_may_administer(opener_ptr(opener)) != 0 }
}

/// Whether the caller runs for its own thread, and not in an interrupt. Any context.
pub fn in_task() -> bool {
    // SAFETY: The function has no preconditions.
    unsafe { ffi::virgo_shim_in_task() != 0 }
}

/// Has the caller CAP_SYS_ADMIN?
pub fn is_admin() -> bool {
    // SAFETY: Takes any capability's number. CAST: 21, a constant.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) }
}

/// The caller: user id in its own user namespace, process id in the initial pid namespace. Process
/// context.
pub fn caller() -> (u32, u32) {
    let current = kernel::current!();
    let uid = current.uid().into_uid_in_current_ns();
    // Not negative.
    (uid, current.group_leader().pid().unsigned_abs())
}

/// The name of the calling thread, padded with NULs. Process context.
pub fn comm() -> [u8; 16] {
    let current = kernel::current!();
    // SAFETY: The task is the caller's own, so it lives. Its name can be changed meanwhile, which
    // tears it at worst; its last byte is always a NUL. The array is copied, not borrowed.
    let name = unsafe { (&raw const (*current.as_ptr()).comm).read_volatile() };
    // CAST: bytes, whatever C's char is.
    name.map(|byte| byte as u8)
}

/// In whose name a process is watched for longer than a moment.
#[derive(Clone, Copy, Debug)]
pub struct Observer {
    uid: u32,
    all: bool,
}

impl Observer {
    /// The caller, and who opened the file that the request came through.
    pub fn caller(opener: &File) -> Self {
        let mut uid = 0;
        // SAFETY: The file is alive by its type, the number is writable.
        let all = unsafe { ffi::virgo_shim_observer(opener_ptr(Some(opener)), &mut uid) != 0 };
        Observer { uid, all }
    }

    /// May it watch any process, whoever's?
    pub fn may_all(&self) -> bool {
        self.all
    }

    /// May it go on to watch the current process, which may have become another user's by
    /// `execve()` of a set-user-id program?
    pub fn may_current(&self) -> bool {
        // SAFETY: The function takes any number.
        self.all || unsafe { ffi::virgo_shim_owned_by(self.uid) != 0 }
    }
}
