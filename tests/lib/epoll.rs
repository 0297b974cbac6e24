// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! epoll(7), for what serves or loads many connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// What the listening socket's events carry: no connection has this number.
const DOOR: usize = usize::MAX;

/// Serves `port` of the loopback for ever, on one thread and without work: `answer` for each line
/// that comes. Prints `ready` once it listens. The server that benchmarks compare with.
pub fn serve_lines(port: u16, answer: &[u8]) -> ! {
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
    let (epoll, mut peers) = (Epoll::new(), Vec::<Option<TcpStream>>::new());
    epoll.add(door.as_raw_fd(), DOOR);
    println!("ready");
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let (mut input, mut out) = (vec![0; 65536], Vec::new());
    loop {
        let n = epoll.wait(&mut events);
        for event in &events[..n] {
            let id = event.u64 as usize;
            if id == DOOR {
                let (peer, _) = door.accept().expect("accept");
                peer.set_nodelay(true).expect("nodelay");
                epoll.add(peer.as_raw_fd(), peers.len());
                peers.push(Some(peer));
                continue;
            }
            let Some(peer) = peers[id].as_mut() else {
                continue;
            };
            match peer.read(&mut input) {
                Ok(n @ 1..) => {
                    out.clear();
                    for _ in input[..n].iter().filter(|byte| **byte == b'\n') {
                        out.extend_from_slice(answer);
                    }
                    peer.write_all(&out).expect("send");
                }
                _ => peers[id] = None,
            }
        }
    }
}

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
