// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Child processes that a test drives step by step.

use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, IntoRawFd as _};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::sys::{self, Errno, Res};
use crate::SOON;

/// A child process. It is killed and reaped when this value goes.
pub struct Child {
    /// Its process id.
    pub pid: i32,
    stream: UnixStream,
    reaped: bool,
}

/// How a child ended.
#[derive(Clone, Copy)]
pub struct Ended {
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it used.
    pub usage: libc::rusage,
}

/// The child's end of the line to its parent.
pub struct Parent(UnixStream);

/// What the parent's death or goodbye does to a child that listens.
const GOODBYE: i32 = 0;
const PANICKED: i32 = 101;

impl Parent {
    /// Tells the parent a number.
    pub fn say(&mut self, number: u64) {
        if self.0.write_all(&number.to_ne_bytes()).is_err() {
            sys::exit_now(GOODBYE);
        }
    }

    /// Another end of the same line, for another thread.
    #[must_use]
    pub fn take(&self) -> Parent {
        Parent(self.0.try_clone().expect("a second descriptor"))
    }

    /// Waits, asleep, for a number from the parent. When the parent has gone, or drops its end,
    /// the child ends with status 0.
    pub fn hear(&mut self) -> u64 {
        let mut bytes = [0; 8];
        if self.0.read_exact(&mut bytes).is_err() {
            sys::exit_now(GOODBYE);
        }
        u64::from_ne_bytes(bytes)
    }
}

impl Child {
    /// Forks a child named `name`, with none of this process's descriptors but the first three, which
    /// runs `body` and ends with the status it returns, or with 101 if it panics.
    pub fn spawn(name: &str, body: impl FnOnce(&mut Parent) -> i32) -> Child {
        Self::fork(name, false, body)
    }

    /// The same, with this process's descriptors.
    pub fn spawn_with_files(name: &str, body: impl FnOnce(&mut Parent) -> i32) -> Child {
        Self::fork(name, true, body)
    }

    fn fork(name: &str, keep: bool, body: impl FnOnce(&mut Parent) -> i32) -> Child {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        // SAFETY: The tests run in one thread, so the child's memory is in order.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {:?}", sys::last_errno());
        if pid == 0 {
            drop(ours);
            let mut fd = theirs.into_raw_fd();
            if !keep {
                // SAFETY: Descriptors that no value of the child's uses any more; it never drops
                // what it has of the parent's.
                unsafe {
                    libc::dup2(fd, 3);
                    libc::close_range(4, u32::MAX, 0);
                }
                fd = 3;
            }
            sys::set_name(name);
            // SAFETY: The descriptor is open and used by nobody else.
            let stream = unsafe { UnixStream::from_raw_fd(fd) };
            let mut parent = Parent(stream);
            let status = catch_unwind(AssertUnwindSafe(|| body(&mut parent)));
            sys::exit_now(status.unwrap_or_else(|problem| {
                let text = problem
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| problem.downcast_ref::<&str>().copied())
                    .unwrap_or("?");
                // The test program's own output is collected in the parent.
                let text = format!("child {name}: {text}\n");
                // SAFETY: Bytes of ours.
                unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
                PANICKED
            }));
        }
        Child {
            pid,
            stream: ours,
            reaped: false,
        }
    }

    /// A child that sleeps until it is let go or killed.
    #[must_use]
    pub fn idle(name: &str) -> Child {
        let mut child = Self::spawn(name, |parent| {
            parent.say(0);
            parent.hear();
            0
        });
        child.hear();
        child
    }

    /// A child that keeps a processor busy until it is killed.
    #[must_use]
    pub fn busy(name: &str) -> Child {
        let mut child = Self::spawn(name, |parent| {
            parent.say(0);
            loop {
                std::hint::spin_loop();
            }
        });
        child.hear();
        child
    }

    /// Tells the child a number.
    pub fn say(&mut self, number: u64) {
        self.stream
            .write_all(&number.to_ne_bytes())
            .expect("the child listens");
    }

    /// Waits for a number from the child. Panics if there is none in good time.
    pub fn hear(&mut self) -> u64 {
        self.stream
            .set_read_timeout(Some(SOON))
            .expect("a time limit");
        let mut bytes = [0; 8];
        if let Err(error) = self.stream.read_exact(&mut bytes) {
            panic!("child {} said nothing: {error}", self.pid);
        }
        u64::from_ne_bytes(bytes)
    }

    /// Hangs up: a child that listens, or listens later, ends with status 0.
    pub fn let_go(&self) {
        self.stream
            .shutdown(std::net::Shutdown::Both)
            .expect("hanging up");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        sys::kill(self.pid, signal).expect("the child is there");
    }

    /// Whether the child has ended; it is not reaped.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        crate::procfs::stat(self.pid).is_ok_and(|stat| stat.state == 'Z')
    }

    /// Waits for the child's end and reaps it.
    pub fn wait(&mut self) -> Ended {
        assert!(!self.reaped);
        let mut found = None;
        let done = crate::wait_until(SOON, || {
            found = sys::wait4(self.pid, libc::WNOHANG).expect("it is our child");
            found.is_some()
        });
        assert!(done, "child {} does not end", self.pid);
        self.reaped = true;
        let (status, usage) = found.expect("it was found");
        Ended {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            usage,
        }
    }

    /// Waits for the child's end, which must be with status 0.
    pub fn wait_ok(&mut self) {
        let ended = self.wait();
        assert_eq!(
            (ended.code, ended.signal),
            (Some(0), None),
            "child {}",
            self.pid
        );
    }

    /// Hangs up and waits for the child's end, which must be with status 0.
    pub fn finish(&mut self) {
        self.let_go();
        self.wait_ok();
    }

    /// Kills and reaps the child.
    pub fn kill(&mut self) -> Ended {
        self.signal(libc::SIGKILL);
        self.wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = sys::kill(self.pid, libc::SIGKILL);
            let _ = sys::wait4(self.pid, 0);
        }
    }
}

/// Runs `body` in a child and expects it to end well: for what cannot be undone in a process, such as
/// becoming another user. The child has this process's descriptors.
pub fn in_child(name: &str, body: impl FnOnce()) {
    Child::spawn_with_files(name, |_| {
        body();
        0
    })
    .wait_ok();
}

/// Many processes, cheaply: each has its own id and signals, but all share this process's memory, and
/// sleep until they are killed.
pub struct Crowd {
    /// The ids of those that have not been reaped.
    pub pids: Vec<i32>,
    _stacks: Vec<sys::Area>,
}

extern "C" fn sleep_forever(_: *mut libc::c_void) -> libc::c_int {
    loop {
        // SAFETY: No arguments. Only a signal that is handled would make it return, and none is.
        unsafe { libc::syscall(libc::SYS_pause) };
    }
}

impl Crowd {
    /// Makes `count` processes. They use no memory but a page of stack.
    #[must_use]
    pub fn new(count: usize) -> Crowd {
        const PER_AREA: usize = 500;
        let mut crowd = Crowd {
            pids: Vec::with_capacity(count),
            _stacks: Vec::new(),
        };
        while crowd.pids.len() < count {
            let area = sys::Area::new(PER_AREA);
            for page in 1..=PER_AREA.min(count - crowd.pids.len()) {
                let flags =
                    libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SIGHAND;
                let top = area.address(page * sys::PAGE) as *mut libc::c_void;
                // SAFETY: The child has a stack of its own, which outlives it, and does nothing
                // but a system call that has no result.
                let pid = unsafe {
                    libc::clone(
                        sleep_forever,
                        top,
                        flags | libc::SIGCHLD,
                        std::ptr::null_mut(),
                    )
                };
                assert!(
                    pid > 0,
                    "process {}: {:?}",
                    crowd.pids.len(),
                    sys::last_errno()
                );
                crowd.pids.push(pid);
            }
            crowd._stacks.push(area);
        }
        crowd
    }

    /// Kills and reaps all of them.
    pub fn kill(&mut self) -> Res<()> {
        for pid in &self.pids {
            sys::kill(*pid, libc::SIGKILL)?;
        }
        for pid in std::mem::take(&mut self.pids) {
            sys::wait4(pid, 0)?.ok_or(Errno(libc::ECHILD))?;
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
