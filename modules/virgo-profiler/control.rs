// SPDX-License-Identifier: GPL-2.0-only

//! What the profiler is asked to do, whichever door the request comes through: its own device,
//! /dev/virgo, or /proc/virgo/profiler/status.

use kernel::{
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        aref::ARef,
        Arc,
        LockClassKey, //
    },
    task::Task, //
};

use crate::{
    lib::{
        procfs::ProcFile,
        service::{
            Module,
            Service, //
        },
        task::{
            self,
            Scope, //
        },
        uapi::{
            write_entry,
            Arg,
            Command, //
        },
    },
    proto::{
        command::{
            parse_commands,
            Command as Line, //
        },
        uapi::{
            self,
            ProfilerEntry,
            ProfilerInfo,
            ProfilerList,
            ProfilerRate,
            ProfilerTask, //
        },
    },
    sampler::{
        Owner,
        Sampler,
        Ticker, //
    },
};

/// The profiler: the tasks and the work item that samples them.
#[pin_data]
pub(crate) struct Profiler {
    /// Dropped first: stops the sampling.
    #[pin]
    ticker: Ticker,
}

/// A line written to the status file, looked at.
struct Step {
    register: bool,
    task: ARef<Task>,
    identity: task::Identity,
}

const TASK_FLAGS: u32 = uapi::PROFILER_F_THREAD | uapi::PROFILER_F_PIDFD | uapi::PROFILER_F_BIND;

fn scope_of(flags: u32) -> Scope {
    if flags & uapi::PROFILER_F_THREAD != 0 {
        Scope::Thread
    } else {
        Scope::Process
    }
}

impl Profiler {
    /// A profiler without tasks.
    pub(crate) fn new(
        key: Pin<&'static LockClassKey>,
        sampler: Arc<Sampler>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            ticker <- Ticker::new(c"virgo_profiler", key, sampler),
        })
    }

    /// The tasks and the buffer.
    pub(crate) fn sampler(&self) -> &Sampler {
        self.ticker.handler()
    }

    /// Sets the rate of sampling. `ERANGE`. May sleep.
    pub(crate) fn set_rate(&self, rate_hz: u32) -> Result {
        self.sampler().set_rate(&self.ticker, rate_hz)
    }

    fn register_task(&self, task: ARef<Task>, scope: Scope, owner: Owner) -> Result<u64> {
        if !task::may_observe(&task, None) {
            return Err(EPERM);
        }
        self.sampler().register(&self.ticker, task, scope, owner)
    }

    fn unregister_task(&self, task: &Task, scope: Scope) -> Result<u64> {
        if !task::may_observe(task, None) {
            return Err(EPERM);
        }
        self.sampler().unregister(task, scope)
    }

    /// Checks the request's flags and finds its task.
    fn find(request: &ProfilerTask, allowed: u32) -> Result<(ARef<Task>, Scope)> {
        let flags = request.flags;
        let both = uapi::PROFILER_F_THREAD | uapi::PROFILER_F_PIDFD;
        if flags & !allowed != 0
            || flags & both == both
            || request.reserved0 != 0
            || request.reserved != [0; 2]
        {
            return Err(EINVAL);
        }
        let scope = scope_of(flags);
        let task = if flags & uapi::PROFILER_F_PIDFD != 0 {
            task::find_by_pidfd(request.pid)?
        } else {
            task::find(request.pid, scope)?
        };
        Ok((task, scope))
    }

    fn register(&self, arg: Arg, file: Option<u64>) -> Result<isize> {
        let mut request = arg.read::<ProfilerTask>()?;
        let bind = request.value.flags & uapi::PROFILER_F_BIND != 0;
        let owner = match (bind, file) {
            (false, _) => Owner::Everybody,
            (true, Some(file)) => Owner::File(file),
            (true, None) => return Err(EINVAL),
        };
        let (task, scope) = Self::find(&request.value, TASK_FLAGS)?;
        request.value.id = self.register_task(task.clone(), scope, owner)?;
        if let Err(error) = request.write_back() {
            // The caller does not learn of the registration, so there is none. It may have ended
            // by itself in between.
            let _ = self.sampler().unregister(&task, scope);
            return Err(error);
        }
        Ok(0)
    }

    fn unregister(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<ProfilerTask>()?;
        let (task, scope) = Self::find(&request.value, TASK_FLAGS & !uapi::PROFILER_F_BIND)?;
        request.value.id = self.unregister_task(&task, scope)?;
        request.write_back()?;
        Ok(0)
    }

    fn list(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<ProfilerList>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize on 64-bit.
        let (count, listed) = self.sampler().list(value.capacity as usize)?;
        for (index, entry) in listed.iter().enumerate() {
            let mut flags = 0;
            if entry.scope == Scope::Thread {
                flags |= uapi::PROFILER_F_THREAD;
            }
            if entry.owner != Owner::Everybody {
                flags |= uapi::PROFILER_F_BIND;
            }
            let entry = ProfilerEntry {
                id: entry.id,
                samples: entry.samples,
                pid: entry.ids.pid,
                tid: entry.ids.tid,
                flags,
                reserved0: 0,
                comm: entry.comm,
            };
            write_entry(value.entries, index, &entry)?;
        }
        // At most max_tasks, a u32.
        value.count = u32::try_from(count).unwrap_or(u32::MAX);
        request.write_back()?;
        Ok(0)
    }

    fn rate(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<ProfilerRate>()?;
        let value = &mut request.value;
        if value.flags & !uapi::PROFILER_RATE_SET != 0 || value.reserved0 != 0 {
            return Err(EINVAL);
        }
        if value.flags & uapi::PROFILER_RATE_SET != 0 {
            if !task::may_administer(None) {
                return Err(EPERM);
            }
            self.set_rate(value.rate_hz)?;
        }
        value.rate_hz = self.sampler().rate_hz();
        request.write_back()?;
        Ok(0)
    }

    fn info(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<ProfilerInfo>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let ring = self.sampler().ring();
        // CAST: usize fits u64.
        value.map_bytes = ring.bytes() as u64;
        value.capacity = ring.capacity();
        // CAST: 96, a constant.
        value.record_size = size_of::<uapi::ProfilerSample>() as u32;
        value.header_size = uapi::PROFILER_HEADER_SIZE;
        // From a u32 parameter.
        value.max_tasks = u32::try_from(self.sampler().max_tasks()).unwrap_or(u32::MAX);
        request.write_back()?;
        Ok(0)
    }

    /// A command. `file` is the number of the profiler's own open file that it came through.
    pub(crate) fn command(
        &self,
        command: u32,
        argument: usize,
        file: Option<u64>,
    ) -> Result<isize> {
        let arg = Arg::new(argument);
        let command = Command::new(command).ok_or(ENOTTY)?;
        let is = |number: u32| Command::new(number) == Some(command);
        if is(uapi::PROFILER_IOC_REGISTER) {
            self.register(arg, file)
        } else if is(uapi::PROFILER_IOC_UNREGISTER) {
            self.unregister(arg)
        } else if is(uapi::PROFILER_IOC_LIST) {
            self.list(arg)
        } else if is(uapi::PROFILER_IOC_RATE) {
            self.rate(arg)
        } else if is(uapi::PROFILER_IOC_INFO) {
            self.info(arg)
        } else if is(uapi::PROFILER_IOC_SEEN) {
            // It says how far the reader of one file of the profiler's has come.
            Err(EINVAL)
        } else {
            Err(ENOTTY)
        }
    }
}

impl Service for Profiler {
    const MODULE: Module = Module::Profiler;

    fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        self.command(command, argument, None)
    }
}

impl ProcFile for Profiler {
    const WRITABLE: bool = true;

    fn show(&self, out: &SeqFile) -> Result {
        let (_, listed) = self.sampler().list(usize::MAX)?;
        for entry in listed.iter() {
            match entry.scope {
                Scope::Process => seq_print!(out, "PID: {}\n", entry.ids.pid),
                Scope::Thread => seq_print!(out, "TID: {}\n", entry.ids.tid),
            }
        }
        Ok(())
    }

    /// `R <pid>` and `U <pid>`, one a line. Every line is looked at first, as if those before it had
    /// been carried out already; where one cannot be, nothing is. A task that is registered already
    /// is EINVAL, as in the original.
    fn write(&self, file: &File, text: &[u8]) -> Result {
        if parse_commands(text).next().is_none() || parse_commands(text).any(|line| line.is_err()) {
            return Err(EINVAL);
        }
        let sampler = self.sampler();
        let mut steps: KVVec<Step> = KVVec::new();
        let mut count = sampler.count();
        for line in parse_commands(text).flatten() {
            let (Line::Register(pid) | Line::Unregister(pid)) = line;
            let register = matches!(line, Line::Register(_));
            let task = task::find(pid, Scope::Process)?;
            if !task::may_observe(&task, Some(file)) {
                return Err(EPERM);
            }
            let identity = task::identity(&task, Scope::Process);
            let registered = steps
                .iter()
                .rev()
                .find(|step| step.identity == identity)
                .map_or_else(|| sampler.is_registered(&identity), |step| step.register);
            match (register, registered) {
                (true, true) => return Err(EINVAL),
                (true, false) if task::has_exited(&task, Scope::Process) => return Err(ESRCH),
                (true, false) if count >= sampler.max_tasks() => return Err(ENOSPC),
                (true, false) => count = count.saturating_add(1),
                (false, true) => count = count.saturating_sub(1),
                (false, false) => return Err(ESRCH),
            }
            let step = Step {
                register,
                task,
                identity,
            };
            steps.push(step, GFP_KERNEL)?;
        }
        for step in steps {
            if step.register {
                sampler
                    .register(&self.ticker, step.task, Scope::Process, Owner::Everybody)
                    .map_err(|error| if error == EEXIST { EINVAL } else { error })?;
            } else {
                sampler.unregister(&step.task, Scope::Process)?;
            }
        }
        Ok(())
    }
}
