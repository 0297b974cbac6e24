// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! epoll(7), for what serves or loads many connections.

use std::io;
use std::os::fd::RawFd;

/// What watches many sockets for input. Closed when it goes.
#[derive(Debug)]
pub struct Epoll(RawFd);

impl Epoll {
    /// Watches nothing yet.
    #[must_use]
    #[allow(
        clippy::new_without_default,
        reason = "it asks the kernel for a descriptor"
    )]
    pub fn new() -> Self {
        // SAFETY: Takes no pointer.
        let fd = unsafe { libc::epoll_create1(0) };
        assert!(fd >= 0, "epoll_create1: {}", io::Error::last_os_error());
        Self(fd)
    }

    /// Watches `fd` from now on, whose events carry `id`.
    pub fn add(&self, fd: RawFd, id: usize) {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: id as u64,
        };
        // SAFETY: Both descriptors are open, `event` outlives the call.
        let done = unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &mut event) };
        assert_eq!(done, 0, "epoll_ctl: {}", io::Error::last_os_error());
    }

    /// Waits for events; how many there are.
    pub fn wait(&self, events: &mut [libc::epoll_event]) -> usize {
        // SAFETY: `events` is as long as said.
        let n = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, -1) };
        usize::try_from(n).expect("epoll_wait")
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: Ours, and not used again.
        unsafe { libc::close(self.0) };
    }
}
