// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The two servers of a comparison.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use virgo_tests::module::{self, Machine};
use virgo_tests::{wait_until, SOON};

/// Where virgo-mempool listens.
pub(crate) const OURS: u16 = 30000;

/// Debian's memcached, on a port of its own. It ends with this value.
pub(crate) struct Memcached {
    process: Child,
    pub(crate) port: u16,
}

impl Memcached {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with options of its own.
    pub(crate) fn with(options: &[&str]) -> Self {
        // A port that an earlier one had may still be in use.
        static NEXT: AtomicU16 = AtomicU16::new(22_122);
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = Command::new("memcached")
            .args(["-u", "root", "-l", "127.0.0.1", "-t", "2", "-p"])
            .arg(port.to_string())
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("memcached is there (tests/memclients/vm.args)");
        await_port(port);
        Memcached { process, port }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The memory pool, freshly loaded.
pub(crate) struct Ours {
    _machine: Machine,
}

impl Ours {
    pub(crate) fn start() -> Self {
        let machine = module::core_only();
        module::load("virgo-mempool", "").expect("virgo-mempool loads");
        await_port(OURS);
        Ours { _machine: machine }
    }
}

/// The memory pool and memcached.
pub(crate) struct Both {
    pub(crate) theirs: Memcached,
    pub(crate) ours: u16,
    _own: Ours,
}

impl Both {
    pub(crate) fn start() -> Self {
        Both {
            theirs: Memcached::start(),
            ours: OURS,
            _own: Ours::start(),
        }
    }
}

fn await_port(port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert!(
        wait_until(SOON, || TcpStream::connect(address).is_ok()),
        "port {port} does not answer"
    );
}
