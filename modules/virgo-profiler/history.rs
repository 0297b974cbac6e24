// SPDX-License-Identifier: GPL-2.0-only

//! /proc/virgo/trace/history: each open file of it is a trace of its own.

use kernel::{
    fs::{
        file::flags::O_NONBLOCK,
        File, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        new_mutex,
        Arc,
        Mutex, //
    },
    task::Task,
    uaccess::UserSliceWriter, //
};

use crate::{
    lib::{
        chardev::{
            Waiter,
            POLLIN, //
        },
        procfs::ProcStream,
        task::{
            self,
            Observer,
            Scope, //
        },
        trace,
        uapi::{
            Arg,
            Command, //
        },
    },
    proto::{
        trace::{
            parse_trace_command,
            TraceCommand, //
        },
        uapi::{
            self,
            TraceInfo,
            TraceStart,
            TraceStop, //
        },
    },
    tracer::{
        Found,
        Standing,
        Trace,
        Tracer, //
    },
};

/// Least memory of a trace.
const LIMIT_MIN: u64 = 8192;

/// An open file.
#[pin_data(PinnedDrop)]
pub(crate) struct HistoryFile {
    tracer: Arc<Tracer>,
    #[pin]
    trace: Mutex<Option<Arc<Trace>>>,
}

impl HistoryFile {
    fn trace(&self) -> Result<Arc<Trace>> {
        self.trace.lock().clone().ok_or(ESRCH)
    }

    /// Starts a trace in place of one that is over. `EBUSY` while one runs.
    fn start(&self, task: ARef<Task>, opener: &File, follow: bool, limit_bytes: usize) -> Result {
        if !task::may_observe(&task, Some(opener)) {
            return Err(EPERM);
        }
        let mut slot = self.trace.lock();
        if let Some(trace) = slot.as_ref() {
            if trace.figures().standing == Standing::Running {
                return Err(EBUSY);
            }
        }
        *slot = Some(Trace::start(
            self.tracer.clone(),
            &task,
            Observer::caller(opener),
            follow,
            limit_bytes,
        )?);
        Ok(())
    }

    fn stop(&self) -> Result {
        let trace = self.trace()?;
        if trace.figures().standing != Standing::Running {
            return Err(ESRCH);
        }
        trace.stop();
        Ok(())
    }

    fn start_ioctl(&self, file: &File, arg: Arg) -> Result<isize> {
        let request = arg.read::<TraceStart>()?.value;
        let known = uapi::TRACE_F_PIDFD | uapi::TRACE_F_FOLLOW;
        if request.flags & !known != 0 || request.reserved0 != 0 || request.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let limit_bytes = match request.limit_bytes {
            0 => self.tracer.limit_bytes(),
            limit if limit < LIMIT_MIN => return Err(ERANGE),
            // CAST: u64 is usize on 64-bit; below another usize.
            limit if limit <= self.tracer.limit_bytes() as u64 => limit as usize,
            _ => return Err(ERANGE),
        };
        let task = if request.flags & uapi::TRACE_F_PIDFD != 0 {
            task::find_by_pidfd(request.pid)?
        } else if request.pid == 0 {
            own_process()?
        } else {
            task::find(request.pid, Scope::Process)?
        };
        let follow = request.flags & uapi::TRACE_F_FOLLOW != 0;
        self.start(task, file, follow, limit_bytes)?;
        Ok(0)
    }

    fn stop_ioctl(&self, arg: Arg) -> Result<isize> {
        if arg.read::<TraceStop>()?.value.flags != 0 {
            return Err(EINVAL);
        }
        self.stop()?;
        Ok(0)
    }

    fn info_ioctl(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<TraceInfo>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let figures = self.trace()?.figures();
        value.state = match figures.standing {
            Standing::Running => uapi::TRACE_RUNNING,
            Standing::Stopped => uapi::TRACE_STOPPED,
            Standing::Over => uapi::TRACE_OVER,
        };
        // At most MAX_PROCESSES.
        value.processes = u32::try_from(figures.processes).unwrap_or(u32::MAX);
        value.recorded = figures.recorded;
        value.dropped = figures.dropped;
        // CAST: usize fits u64.
        value.waiting_bytes = figures.waiting_bytes as u64;
        value.limit_bytes = figures.limit_bytes as u64;
        request.write_back()?;
        Ok(0)
    }
}

fn own_process() -> Result<ARef<Task>> {
    let (here, _) = task::ids(kernel::current!());
    task::find(i32::try_from(here.pid).map_err(|_| ESRCH)?, Scope::Process)
}

impl ProcStream for HistoryFile {
    type Shared = Tracer;

    fn open(tracer: Arc<Tracer>) -> Result<Pin<KBox<Self>>> {
        trace::unpin();
        KBox::pin_init(
            pin_init!(Self {
                tracer,
                trace <- new_mutex!(None, "virgo_trace_file"),
            }),
            GFP_KERNEL,
        )
    }

    fn read(&self, file: &File, out: &mut UserSliceWriter) -> Result<usize> {
        let trace = self.trace()?;
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match trace.read(out)? {
                Found::Bytes(length) => return Ok(length),
                Found::End(Standing::Stopped) => return Err(ESRCH),
                Found::End(_) => return Ok(0),
                Found::Nothing if file.flags() & O_NONBLOCK != 0 => return Err(EAGAIN),
                Found::Nothing => trace.wait()?,
            }
        }
    }

    fn write(&self, file: &File, text: &[u8]) -> Result {
        match parse_trace_command(text).ok_or(EINVAL)? {
            TraceCommand::Stop => self.stop(),
            TraceCommand::Start { pid, follow } => {
                let task = match pid {
                    Some(pid) => task::find(pid, Scope::Process)?,
                    None => own_process()?,
                };
                self.start(task, file, follow, self.tracer.limit_bytes())
            }
        }
    }

    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<isize> {
        let arg = Arg::new(argument);
        let command = Command::new(command).ok_or(ENOTTY)?;
        let is = |number: u32| Command::new(number) == Some(command);
        if is(uapi::TRACE_IOC_START) {
            self.start_ioctl(file, arg)
        } else if is(uapi::TRACE_IOC_STOP) {
            self.stop_ioctl(arg)
        } else if is(uapi::TRACE_IOC_INFO) {
            self.info_ioctl(arg)
        } else {
            Err(ENOTTY)
        }
    }

    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        waiter.wait_for(self.tracer.pollers());
        // Without a trace a read does not wait: it is an error.
        let waits = self.trace.lock().as_ref().is_some_and(|t| !t.is_readable());
        if !waits {
            POLLIN
        } else {
            0
        }
    }
}

#[pinned_drop]
impl PinnedDrop for HistoryFile {
    fn drop(self: Pin<&mut Self>) {
        // A trace and its processes hold each other until it is stopped.
        if let Some(trace) = self.trace.lock().take() {
            trace.stop();
        }
    }
}
