// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Connections to a server that speaks beanstalkd's protocol, and the two servers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use virgo_tests::module::{self, Machine};
use virgo_tests::{wait_until, SOON};

/// The module.
pub(crate) const MODULE: &str = "virgo-queue";
/// Its port.
pub(crate) const PORT: u16 = 60000;
/// beanstalkd's.
pub(crate) const REFERENCE: u16 = 11300;

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Client {
    pub(crate) fn try_connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            seen: Vec::new(),
        })
    }

    pub(crate) fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|error| panic!("connect to {port}: {error}"))
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// The length of the answer at the front, if it is whole.
    fn whole(&self) -> Option<usize> {
        let end = self.seen.iter().position(|b| *b == b'\n')? + 1;
        let line = std::str::from_utf8(&self.seen[..end]).unwrap_or("");
        let mut words = line.trim_end().split(' ');
        let body = match words.next() {
            Some("OK" | "RESERVED" | "FOUND") => words.last().and_then(|n| n.parse::<usize>().ok()),
            _ => None,
        };
        let total = end + body.map_or(0, |n| n + 2);
        (self.seen.len() >= total).then_some(total)
    }

    /// One answer: its line, and the body if it has one.
    pub(crate) fn answer(&mut self) -> Vec<u8> {
        self.try_answer().unwrap_or_else(|| {
            let peer = self.stream.peer_addr();
            panic!(
                "no answer of {peer:?} within {SOON:?}, after {:?}",
                self.seen
            )
        })
    }

    fn try_answer(&mut self) -> Option<Vec<u8>> {
        let mut part = [0; 65536];
        loop {
            if let Some(total) = self.whole() {
                return Some(self.seen.drain(..total).collect());
            }
            match self.stream.read(&mut part) {
                Ok(0) => panic!(
                    "the server closed, after {:?}",
                    String::from_utf8_lossy(&self.seen)
                ),
                Ok(n) => self.seen.extend_from_slice(&part[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("receive: {error}"),
            }
        }
    }

    /// An answer that may not be there yet.
    pub(crate) fn poll(&mut self) -> Option<Vec<u8>> {
        self.stream.set_nonblocking(true).expect("nonblocking");
        let answer = self.try_answer();
        self.stream.set_nonblocking(false).expect("blocking");
        answer
    }

    /// Reads a little, whatever it is.
    pub(crate) fn poll_quietly(&mut self) -> bool {
        let short = std::time::Duration::from_millis(20);
        let _ = self.stream.set_read_timeout(Some(short));
        matches!(self.stream.read(&mut [0; 4096]), Ok(1..))
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(line.as_bytes());
        self.send(b"\r\n");
        String::from_utf8_lossy(&self.answer()).into_owned()
    }

    /// Puts a job; its number.
    pub(crate) fn put(&mut self, numbers: &str, body: &[u8]) -> u64 {
        let answer = self.try_put(numbers, body);
        let id = answer
            .strip_prefix("INSERTED ")
            .and_then(|n| n.trim_end().parse().ok());
        id.unwrap_or_else(|| panic!("put: {answer}"))
    }

    pub(crate) fn try_put(&mut self, numbers: &str, body: &[u8]) -> String {
        let mut all = format!("put {numbers} {}\r\n", body.len()).into_bytes();
        all.extend_from_slice(body);
        all.extend_from_slice(b"\r\n");
        self.send(&all);
        String::from_utf8_lossy(&self.answer()).into_owned()
    }

    /// A number of `stats`, `stats-tube X` or `stats-job N`.
    pub(crate) fn number(&mut self, command: &str, name: &str) -> u64 {
        let text = self.ask(command);
        let prefix = format!("{name}: ");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        found
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// What comes until the server closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.seen);
        let mut part = [0; 65536];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return all,
                Ok(n) => all.extend_from_slice(&part[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("receive: {error}"),
            }
        }
    }
}

/// The module, freshly loaded; that it unloads is a part of every test.
pub(crate) struct Ours(#[allow(dead_code)] Machine);

pub(crate) fn ours(parameters: &str) -> Ours {
    let machine = module::core_only();
    module::load(MODULE, parameters).expect("virgo-queue loads");
    Ours(machine)
}

impl Drop for Ours {
    fn drop(&mut self) {
        if !thread::panicking() {
            let start = Instant::now();
            module::unload(MODULE).expect("virgo-queue unloads");
            let took = start.elapsed();
            assert!(took < SOON, "unloading took {took:?}");
        }
    }
}

/// Debian's beanstalkd.
pub(crate) struct Beanstalkd(Child);

pub(crate) fn beanstalkd() -> Beanstalkd {
    let child = Command::new("beanstalkd")
        .args(["-l", "127.0.0.1", "-p", &REFERENCE.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("beanstalkd, from Debian");
    let this = Beanstalkd(child);
    assert!(
        wait_until(SOON, || Client::try_connect(REFERENCE).is_ok()),
        "beanstalkd does not listen"
    );
    this
}

impl Drop for Beanstalkd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
