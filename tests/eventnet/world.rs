// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The module with a folder of its own, its port, its journal.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use virgo_proto::crc::crc32c_after;
use virgo_proto::eventlog::{Content, Id, Reader};
use virgo_proto::uapi::{self, EventnetStat};
use virgo_tests::device::Device;
use virgo_tests::module::{self, Machine};
use virgo_tests::sys;
use virgo_tests::{wait_until, SOON};

/// The module.
pub(crate) const MODULE: &str = "virgo-eventnet";
/// The one that tells events.
pub(crate) const TELLER: &str = "virgo-eventtest";
/// Its port.
pub(crate) const PORT: u16 = 20000;
/// What the original answers to everything.
pub(crate) const UPDATED: &str = "EventNet updated\r\n";

/// A folder of its own, empty, on the guest's disk; or a file system of so many bytes.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    mounted: bool,
}

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = Path::new("/var/tmp").join(format!("virgo-eventnet-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder {
            path,
            mounted: false,
        }
    }

    pub(crate) fn of_size(name: &str, bytes: u64) -> Folder {
        let mut folder = Folder::new(name);
        folder.mount(&format!("size={bytes}"));
        folder.mounted = true;
        folder
    }

    pub(crate) fn mount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "virgo-eventnet"])
            .arg(&self.path)
            .status()
            .expect("mount");
        assert!(status.success());
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }

    /// Waits until a file has this text.
    pub(crate) fn expect(&self, name: &str, text: &str) {
        if !wait_until(SOON, || self.text(name) == text) {
            assert_eq!(self.text(name), text, "{name}");
        }
    }

    pub(crate) fn journal(&self) -> Vec<Told> {
        let bytes = fs::read(self.path.join("EventNet.journal")).expect("the journal");
        told(&bytes)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        if self.mounted {
            let _ = Command::new("umount").arg(&self.path).status();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Open,
    Event {
        kind: String,
        subject: String,
        cause: Id,
    },
    Vertex(String),
    Edge(String, String),
    Loss {
        count: u64,
        after: Id,
        before: Id,
    },
    Peer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: Id,
    pub(crate) what: What,
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The records in these bytes, all of them.
pub(crate) fn told(bytes: &[u8]) -> Vec<Told> {
    let mut reader = Reader::new(bytes, 0, crc32c_after);
    let mut all = Vec::new();
    while let Some(record) = reader.next() {
        let what = match record.content {
            Content::Open { .. } => What::Open,
            Content::Peer { .. } => What::Peer,
            Content::Event {
                cause,
                kind,
                subject,
            } => What::Event {
                kind: string(kind),
                subject: string(subject),
                cause,
            },
            Content::Vertex { id, .. } => What::Vertex(string(id)),
            Content::Edge { from, to } => What::Edge(string(from), string(to)),
            Content::Loss {
                count,
                after,
                before,
            } => What::Loss {
                count,
                after,
                before,
            },
        };
        all.push(Told {
            id: record.id(),
            what,
        });
    }
    all
}

/// The module, freshly loaded; that it unloads is a part of every test.
pub(crate) struct Ours(#[allow(dead_code)] Option<Machine>);

pub(crate) fn ours(folder: &Folder, parameters: &str) -> Ours {
    let machine = module::core_only();
    load(folder, parameters);
    Ours(Some(machine))
}

pub(crate) fn load(folder: &Folder, parameters: &str) {
    let parameters = format!("folder={} {parameters}", folder.path.display());
    module::load(MODULE, &parameters).expect("virgo-eventnet loads");
}

pub(crate) fn unload() {
    let start = Instant::now();
    // A file of the device that was just closed may hold it for a moment.
    let gone = wait_until(SOON, || module::unload(MODULE).is_ok());
    assert!(gone, "virgo-eventnet does not unload");
    let took = start.elapsed();
    assert!(took < SOON, "unloading took {took:?}");
}

impl Drop for Ours {
    fn drop(&mut self) {
        if !thread::panicking() {
            if module::is_loaded(TELLER) {
                module::unload(TELLER).expect("virgo-eventtest unloads");
            }
            if module::is_loaded(MODULE) {
                unload();
            }
        }
    }
}

/// A connection.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn try_connect() -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, PORT).into(), SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        Ok(Client(stream))
    }

    pub(crate) fn connect() -> Client {
        Client::try_connect().unwrap_or_else(|error| panic!("connect: {error}"))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("send");
    }

    /// Where the server may have gone.
    pub(crate) fn send_quietly(&mut self, line: &str) {
        let _ = self.0.write_all(line.as_bytes());
    }

    pub(crate) fn end(&mut self) {
        self.0
            .shutdown(std::net::Shutdown::Write)
            .expect("shutdown");
    }

    /// A line; `None` if the server closed.
    pub(crate) fn try_answer(&mut self) -> std::io::Result<Option<String>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            if self.0.read(&mut byte)? == 0 {
                return Ok(None);
            }
            line.push(byte[0]);
        }
        Ok(Some(string(&line)))
    }

    pub(crate) fn answer(&mut self) -> String {
        self.try_answer()
            .unwrap_or_else(|error| panic!("no answer: {error}"))
            .expect("the server closed")
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.answer()
    }

    pub(crate) fn update(&mut self, line: &str) {
        assert_eq!(self.ask(line), UPDATED, "{line}");
    }
}

pub(crate) fn device() -> Device {
    Device::open(uapi::EVENTNET_DEVICE).expect("the device")
}

pub(crate) fn stat() -> EventnetStat {
    let mut stat = EventnetStat {
        size: size_of::<EventnetStat>() as u32,
        ..Default::default()
    };
    sys::ioctl(device(), uapi::EVENTNET_IOC_STAT, &mut stat).expect("stat");
    stat
}

/// Has virgo-eventtest do something; its numbers.
pub(crate) fn tell(command: &str) -> Vec<u64> {
    const FILE: &str = "/proc/virgo/eventtest";
    // By name: a line of /proc/modules, which is read in pieces, can be missed while another module
    // goes.
    if !fs::exists(FILE).expect("/proc") {
        module::load(TELLER, "").expect("virgo-eventtest loads");
    }
    fs::write(FILE, command).unwrap_or_else(|error| panic!("{command}: {error}"));
    fs::read_to_string(FILE)
        .expect("its numbers")
        .lines()
        .map(|line| {
            let (_, number) = line.split_once(' ').expect("a number");
            number.parse().expect("a number")
        })
        .collect()
}
