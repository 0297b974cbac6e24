// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the other files share: the module, and conversations with its port.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use virgo_tests::module::{self, Machine};
use virgo_tests::SOON;

/// The module.
pub(crate) const MODULE: &str = "virgo-mempool";
/// Its port.
pub(crate) const PORT: u16 = 30000;

/// The module, freshly loaded. Unloading it again is part of every test.
pub(crate) struct Pool(#[allow(dead_code)] Machine);

/// Loads the module.
pub(crate) fn pool(parameters: &str) -> Pool {
    let machine = module::core_only();
    module::load(MODULE, parameters).expect("virgo-mempool loads");
    Pool(machine)
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            module::unload(MODULE).expect("virgo-mempool unloads");
        }
    }
}

/// Lets this process have so many files open.
pub(crate) fn allow_files(count: u64) {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    // SAFETY: The structure is readable; the call changes a limit alone.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0, "a limit of {count} files");
}

/// A connection.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn new() -> Client {
        let stream =
            TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, PORT).into(), SOON).expect("connect");
        stream.set_read_timeout(Some(SOON)).expect("set a timeout");
        stream.set_write_timeout(Some(SOON)).expect("set a timeout");
        stream.set_nodelay(true).expect("nodelay");
        Client(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("send");
    }

    /// Reads just so many bytes.
    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("receive");
        bytes
    }

    /// Sends, and compares what comes back.
    #[track_caller]
    pub(crate) fn expect(&mut self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        let (request, answer) = (request.as_ref(), answer.as_ref());
        self.send(request);
        self.hear(request, answer);
    }

    /// Compares what comes.
    #[track_caller]
    pub(crate) fn hear_only(&mut self, answer: impl AsRef<[u8]>) {
        self.hear(b"what was sent before", answer.as_ref());
    }

    #[track_caller]
    fn hear(&mut self, request: &[u8], answer: &[u8]) {
        let mut got = Vec::new();
        let mut part = [0; 65536];
        // Byte by byte as far as it agrees, so that a wrong answer is shown and not waited for.
        while got.len() < answer.len() && answer.starts_with(&got) {
            let want = (answer.len() - got.len()).min(part.len());
            match self.0.read(&mut part[..want]) {
                Ok(0) => break,
                Ok(n) => got.extend_from_slice(&part[..n]),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&got)),
            }
        }
        assert!(
            got == answer,
            "to {:?}\n got {:?}\nwant {:?}",
            shown(request),
            shown(&got),
            shown(answer)
        );
    }

    /// Sends, and reads a line.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.send(request);
        self.line()
    }

    /// Reads a line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let byte = self.read(1);
            line.extend_from_slice(&byte);
        }
        let text = String::from_utf8(line).expect("text");
        text.strip_suffix("\r\n").expect("CR LF").to_string()
    }

    /// What comes until the other end closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut part = [0; 65536];
        loop {
            match self.0.read(&mut part) {
                Ok(0) => return all,
                Ok(n) => all.extend_from_slice(&part[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("receive: {error}, after {} bytes", all.len()),
            }
        }
    }

    /// A number of `stats`.
    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        self.send("stats\r\n");
        let mut value = None;
        loop {
            let line = self.line();
            if line == "END" {
                return value.unwrap_or_else(|| panic!("no {name} in stats"));
            }
            if let Some(text) = line.strip_prefix(&format!("STAT {name} ")) {
                value = text.parse().ok();
            }
        }
    }

    /// That nothing else comes: the next request gets its own answer.
    #[track_caller]
    pub(crate) fn in_step(&mut self) {
        self.expect("mn\r\n", "MN\r\n");
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    if bytes.len() > 300 {
        format!("{text}… ({} bytes)", bytes.len())
    } else {
        text
    }
}
