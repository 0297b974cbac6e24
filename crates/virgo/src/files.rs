// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Files on other nodes: a client of virgo-cloudfs, or of any server of 9P2000.L, in user space.
//!
//! Errors are [`io::Error`]s that keep the server's errno. A [`Tree`] is one connection; it can be
//! cloned and shared between threads, which then take turns.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use virgo::files::{open, Tree};
//!
//! # fn main() -> std::io::Result<()> {
//! let tree = Tree::connect("10.77.0.2")?;
//! let mut file = tree.open("/notes.txt", open::RDWR | open::CREATE, 0o644)?;
//! file.write_all(b"written on another machine\n")?;
//! for entry in tree.read_dir("/")? {
//!     println!("{}", entry.name.to_string_lossy());
//! }
//! # Ok(())
//! # }
//! ```

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use virgo_proto::p9::{self, kind, Attr, Qid, Reader, Request, SetAttr, StatFs};

pub use virgo_proto::p9::open;

/// The port that virgo-cloudfs listens on.
pub const PORT: u16 = 50000;

/// The message length that is asked for.
const MSIZE: u32 = 1 << 20;

/// What begins every walk.
const ROOT: u32 = 0;

/// How long to wait for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn errno(error: Errno) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error())
}

fn protocol(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the server does not speak 9P2000.L rightly: {what}"),
    )
}

impl From<p9::Malformed> for Broken {
    fn from(_: p9::Malformed) -> Self {
        Broken
    }
}

/// An answer that ends before its fields do.
struct Broken;

impl From<Broken> for io::Error {
    fn from(_: Broken) -> Self {
        protocol("an answer is too short")
    }
}

/// One connection, message by message, for those who want to see the protocol itself.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    msize: u32,
    next_tag: u16,
    next_fid: u32,
    free: Vec<u32>,
}

impl Connection {
    /// Connects and agrees on the version. `host` is a name or an address, `host:port` too.
    pub fn connect(host: &str, msize: u32) -> io::Result<Self> {
        let mut connection = Self::open(host)?;
        connection.version(msize)?;
        Ok(connection)
    }

    /// Connects, and says nothing.
    pub fn open(host: &str) -> io::Result<Self> {
        let mut last = io::Error::new(ErrorKind::NotFound, format!("{host} has no address"));
        for address in addresses(host)? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(Connection {
                        stream,
                        buffer: Vec::new(),
                        msize: 8192,
                        next_tag: 0,
                        next_fid: ROOT + 1,
                        free: Vec::new(),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Agrees on the version; the length of messages.
    pub fn version(&mut self, msize: u32) -> io::Result<u32> {
        let request = Request::Version {
            msize,
            version: p9::VERSION,
        };
        let mut bytes = vec![0; 64];
        let length = request
            .write(p9::NOTAG, &mut bytes)
            .map_err(|_| protocol("too long"))?;
        self.send(&bytes[..length])?;
        let answer = self.receive()?;
        let mut r = Reader(body(&answer, kind::VERSION + 1)?);
        let (msize, version) = (
            r.u32().map_err(Broken::from)?,
            r.string().map_err(Broken::from)?,
        );
        if version != p9::VERSION {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "the server does not speak 9P2000.L",
            ));
        }
        if msize < p9::MIN_MSIZE {
            return Err(protocol("its messages are too short"));
        }
        self.msize = msize;
        Ok(msize)
    }

    /// The stream itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives a message, whole.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; p9::HEADER];
        self.stream.read_exact(&mut head)?;
        let size = p9::header(&head).map_or(0, |header| header.size) as usize;
        if !(p9::HEADER..=(MSIZE as usize).max(self.msize as usize)).contains(&size) {
            return Err(protocol("an answer has no sensible length"));
        }
        let mut message = head.to_vec();
        message.resize(size, 0);
        self.stream.read_exact(&mut message[p9::HEADER..])?;
        Ok(message)
    }

    /// Sends a request with a tag of its own; the tag.
    pub fn submit(&mut self, request: &Request<'_>) -> io::Result<u16> {
        let tag = self.next_tag;
        // NOTAG is not a tag.
        self.next_tag = if tag >= p9::NOTAG - 1 { 0 } else { tag + 1 };
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.resize(self.msize as usize, 0);
        let sent = match request.write(tag, &mut bytes) {
            Ok(length) => self.stream.write_all(&bytes[..length]),
            Err(_) => Err(errno(Errno::NAMETOOLONG)),
        };
        self.buffer = bytes;
        sent.map(|()| tag)
    }

    /// Makes a request and waits for its answer, a whole message.
    pub fn call(&mut self, request: &Request<'_>) -> io::Result<Vec<u8>> {
        let tag = self.submit(request)?;
        self.answer(tag, request.kind())
    }

    fn answer(&mut self, tag: u16, kind: u8) -> io::Result<Vec<u8>> {
        let answer = self.receive()?;
        if p9::header(&answer).map(|header| header.tag) != Some(tag) {
            return Err(protocol("an answer to what was not asked"));
        }
        body(&answer, kind + 1)?;
        Ok(answer)
    }

    /// Walks from one fid to another by names. Where that fails there is no new fid.
    pub fn walk(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> io::Result<()> {
        if self.walk_some(fid, newfid, names)? == names.len() {
            return Ok(());
        }
        // Only of the first name is an answer told why it can't be walked: one after the other.
        let mut from = fid;
        for name in names {
            let error = match self.walk_some(from, newfid, &[name]) {
                Ok(1) => {
                    from = newfid;
                    continue;
                }
                Ok(_) => errno(Errno::NOENT),
                Err(error) => error,
            };
            if from != fid {
                let _ = self.call(&Request::Clunk { fid: newfid });
            }
            return Err(error);
        }
        Ok(())
    }

    /// One message of it; how many of the names led on. There is a new fid if all did.
    fn walk_some(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> io::Result<usize> {
        let mut bytes = vec![0; 64 + names.iter().map(|name| name.len() + 2).sum::<usize>()];
        let tag = self.next_tag;
        self.next_tag = if tag >= p9::NOTAG - 1 { 0 } else { tag + 1 };
        let length = p9::write_walk(&mut bytes, tag, fid, newfid, names)
            .map_err(|_| errno(Errno::NAMETOOLONG))?;
        self.stream.write_all(&bytes[..length])?;
        let answer = self.answer(tag, kind::WALK)?;
        let mut r = Reader(&answer[p9::HEADER..]);
        Ok(r.u16().map_err(Broken::from)?.into())
    }

    /// A number for a new fid.
    pub fn new_fid(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let fid = self.next_fid;
            self.next_fid += 1;
            fid
        })
    }

    /// Lets a fid go.
    pub fn clunk(&mut self, fid: u32) -> io::Result<()> {
        // Whatever the server says, the number is free.
        let done = self.call(&Request::Clunk { fid });
        self.free.push(fid);
        done.map(drop)
    }
}

/// The body of an answer of a type, or the error that came instead.
fn body(message: &[u8], wanted: u8) -> io::Result<&[u8]> {
    let header = p9::header(message).ok_or_else(|| protocol("no header"))?;
    let body = &message[p9::HEADER..];
    if header.kind == wanted {
        return Ok(body);
    }
    if header.kind == kind::LERROR + 1 {
        let number = Reader(body).u32().map_err(Broken::from)?;
        return Err(io::Error::from_raw_os_error(
            i32::try_from(number).unwrap_or(libc_eio()),
        ));
    }
    Err(protocol("an answer of another type"))
}

fn libc_eio() -> i32 {
    Errno::IO.raw_os_error()
}

/// The addresses of `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn addresses(host: &str) -> io::Result<Vec<std::net::SocketAddr>> {
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        return Ok(vec![(address, PORT).into()]);
    }
    let named = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => {
            host.to_socket_addrs().map_err(|e| (e, name))
        }
        _ => (host, PORT).to_socket_addrs().map_err(|e| (e, host)),
    };
    named
        .map(Iterator::collect)
        .map_err(|(error, name)| io::Error::new(error.kind(), format!("{name}: {error}")))
}

/// What stat(2) tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata(Attr);

impl Metadata {
    /// Type and permission bits.
    pub fn mode(&self) -> u32 {
        self.0.mode
    }

    /// It is a folder.
    pub fn is_dir(&self) -> bool {
        self.0.mode & 0o170_000 == 0o040_000
    }

    /// It is a regular file.
    pub fn is_file(&self) -> bool {
        self.0.mode & 0o170_000 == 0o100_000
    }

    /// It is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.0.mode & 0o170_000 == 0o120_000
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// All that the server said.
    pub fn attr(&self) -> &Attr {
        &self.0
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: OsString,
    /// As `d_type` has it.
    pub kind: u8,
    /// What identifies it.
    pub qid: Qid,
}

/// A served folder, over one connection.
#[derive(Clone, Debug)]
pub struct Tree {
    connection: Arc<Mutex<Connection>>,
}

/// A place in the tree, let go of when dropped.
#[derive(Debug)]
struct Place {
    tree: Tree,
    fid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.tree.lock().clunk(self.fid);
    }
}

/// The names of a path, without empty ones and `.`.
fn names(path: &OsStr) -> Vec<&[u8]> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect()
}

impl Tree {
    /// Connects to a node's virgo-cloudfs: a name or an address, with `:port` if it is not 50000.
    pub fn connect(host: &str) -> io::Result<Self> {
        Self::connect_to(host, "/")
    }

    /// Connects, with the folder `aname` of what is served as the root.
    pub fn connect_to(host: &str, aname: &str) -> io::Result<Self> {
        let mut connection = Connection::connect(host, MSIZE)?;
        connection.call(&Request::Attach {
            fid: ROOT,
            afid: p9::NOFID,
            uname: b"virgo",
            aname: aname.as_bytes(),
            n_uname: p9::NOUID,
        })?;
        Ok(Tree {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, fid: u32) -> Place {
        Place {
            tree: self.clone(),
            fid,
        }
    }

    fn walk(&self, path: impl AsRef<OsStr>) -> io::Result<Place> {
        let names = names(path.as_ref());
        let mut connection = self.lock();
        let fid = connection.new_fid();
        let mut from = ROOT;
        let mut rest = names.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(p9::MAX_WALK));
            if let Err(error) = connection.walk(from, fid, now) {
                if from == ROOT {
                    connection.free.push(fid);
                } else {
                    let _ = connection.clunk(fid);
                }
                return Err(error);
            }
            if later.is_empty() {
                drop(connection);
                return Ok(self.place(fid));
            }
            from = fid;
            rest = later;
        }
    }

    /// The folder that a path's last name is in, and the name. `EINVAL` where there is none.
    fn walk_parent<'a>(&self, path: &'a OsStr) -> io::Result<(Place, &'a [u8])> {
        let mut all = names(path);
        let last = all.pop().ok_or_else(|| errno(Errno::INVAL))?;
        let parent: Vec<u8> = all.join(&b'/');
        Ok((self.walk(OsStr::from_bytes(&parent))?, last))
    }

    fn call(&self, request: &Request<'_>) -> io::Result<Vec<u8>> {
        self.lock().call(request)
    }

    fn attr(&self, fid: u32) -> io::Result<Metadata> {
        let answer = self.call(&Request::GetAttr {
            fid,
            mask: p9::GETATTR_BASIC | p9::GETATTR_BTIME,
        })?;
        let attr = Reader(&answer[p9::HEADER..]).attr().map_err(Broken::from)?;
        Ok(Metadata(attr))
    }

    /// What stat(2) tells; symbolic links are not followed.
    pub fn metadata(&self, path: impl AsRef<OsStr>) -> io::Result<Metadata> {
        let place = self.walk(path)?;
        self.attr(place.fid)
    }

    /// What statfs(2) tells of the file system.
    pub fn statfs(&self, path: impl AsRef<OsStr>) -> io::Result<StatFs> {
        let place = self.walk(path)?;
        let answer = self.call(&Request::StatFs { fid: place.fid })?;
        Ok(Reader(&answer[p9::HEADER..])
            .statfs()
            .map_err(Broken::from)?)
    }

    /// Opens a file; `flags` are of [`open`], `mode` is a new one's. Symbolic links are not
    /// followed.
    pub fn open(&self, path: impl AsRef<OsStr>, flags: u32, mode: u32) -> io::Result<RemoteFile> {
        let path = path.as_ref();
        if flags & open::CREATE != 0 {
            let (place, name) = self.walk_parent(path)?;
            self.call(&Request::Lcreate {
                fid: place.fid,
                name,
                flags: flags & !open::CREATE,
                mode,
                gid: 0,
            })?;
            return Ok(RemoteFile { place, position: 0 });
        }
        let place = self.walk(path)?;
        self.call(&Request::Lopen {
            fid: place.fid,
            flags,
        })?;
        Ok(RemoteFile { place, position: 0 })
    }

    /// The entries of a folder, without `.` and `..`.
    pub fn read_dir(&self, path: impl AsRef<OsStr>) -> io::Result<Vec<DirEntry>> {
        let place = self.walk(path)?;
        self.call(&Request::Lopen {
            fid: place.fid,
            flags: open::RDONLY | open::DIRECTORY,
        })?;
        let count = self.lock().msize - p9::IO_HEADER as u32;
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let answer = self.call(&Request::Readdir {
                fid: place.fid,
                offset,
                count,
            })?;
            let mut r = Reader(&answer[p9::HEADER..]);
            let mut r = Reader(r.data().map_err(Broken::from)?);
            if r.0.is_empty() {
                return Ok(all);
            }
            while !r.0.is_empty() {
                let entry = r.entry().map_err(Broken::from)?;
                offset = entry.offset;
                if entry.name != b"." && entry.name != b".." {
                    all.push(DirEntry {
                        name: OsString::from_vec(entry.name.to_vec()),
                        kind: entry.kind,
                        qid: entry.qid,
                    });
                }
            }
        }
    }

    /// Makes a folder.
    pub fn mkdir(&self, path: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        let (place, name) = self.walk_parent(path.as_ref())?;
        self.call(&Request::Mkdir {
            dfid: place.fid,
            name,
            mode,
            gid: 0,
        })
        .map(drop)
    }

    /// Removes a file, or a link.
    pub fn remove_file(&self, path: impl AsRef<OsStr>) -> io::Result<()> {
        self.unlink(path.as_ref(), 0)
    }

    /// Removes an empty folder.
    pub fn remove_dir(&self, path: impl AsRef<OsStr>) -> io::Result<()> {
        self.unlink(path.as_ref(), p9::AT_REMOVEDIR)
    }

    fn unlink(&self, path: &OsStr, flags: u32) -> io::Result<()> {
        let (place, name) = self.walk_parent(path)?;
        self.call(&Request::UnlinkAt {
            dfid: place.fid,
            name,
            flags,
        })
        .map(drop)
    }

    /// Renames; what is at `new` is replaced as by rename(2).
    pub fn rename(&self, old: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, old_name) = self.walk_parent(old.as_ref())?;
        let (to, new_name) = self.walk_parent(new.as_ref())?;
        self.call(&Request::RenameAt {
            old_dfid: from.fid,
            old_name,
            new_dfid: to.fid,
            new_name,
        })
        .map(drop)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, target: impl AsRef<OsStr>, path: impl AsRef<OsStr>) -> io::Result<()> {
        let (place, name) = self.walk_parent(path.as_ref())?;
        self.call(&Request::Symlink {
            dfid: place.fid,
            name,
            target: target.as_ref().as_bytes(),
            gid: 0,
        })
        .map(drop)
    }

    /// What a symbolic link says.
    pub fn read_link(&self, path: impl AsRef<OsStr>) -> io::Result<OsString> {
        let place = self.walk(path)?;
        let answer = self.call(&Request::Readlink { fid: place.fid })?;
        let mut r = Reader(&answer[p9::HEADER..]);
        Ok(OsString::from_vec(
            r.string().map_err(Broken::from)?.to_vec(),
        ))
    }

    /// Gives a file another name.
    pub fn hard_link(&self, old: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> io::Result<()> {
        let from = self.walk(old)?;
        let (place, name) = self.walk_parent(new.as_ref())?;
        self.call(&Request::Link {
            dfid: place.fid,
            fid: from.fid,
            name,
        })
        .map(drop)
    }

    /// Changes what `change` says.
    pub fn change(&self, path: impl AsRef<OsStr>, change: &SetAttr) -> io::Result<()> {
        let place = self.walk(path)?;
        self.call(&Request::SetAttr {
            fid: place.fid,
            change: *change,
        })
        .map(drop)
    }

    /// Sets the permission bits.
    pub fn set_mode(&self, path: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        let change = SetAttr {
            valid: p9::SET_MODE,
            mode,
            ..SetAttr::default()
        };
        self.change(path, &change)
    }
}

/// An open file of a [`Tree`], closed when dropped.
#[derive(Debug)]
pub struct RemoteFile {
    place: Place,
    position: u64,
}

impl RemoteFile {
    /// What stat(2) tells.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.place.tree.attr(self.place.fid)
    }

    /// Reads at `position`; fewer bytes than asked for are no sign of the end, none are.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut connection = self.place.tree.lock();
        let most = connection.msize as usize - p9::IO_HEADER;
        let answer = connection.call(&Request::Read {
            fid: self.place.fid,
            offset: position,
            count: buffer.len().min(most) as u32,
        })?;
        drop(connection);
        let data = Reader(&answer[p9::HEADER..]).data().map_err(Broken::from)?;
        let place = buffer
            .get_mut(..data.len())
            .ok_or_else(|| protocol("more data than was asked for"))?;
        place.copy_from_slice(data);
        Ok(data.len())
    }

    /// Writes at `position`; how much.
    pub fn write_at(&self, data: &[u8], position: u64) -> io::Result<usize> {
        let mut connection = self.place.tree.lock();
        let most = connection.msize as usize - p9::IO_HEADER;
        let data = &data[..data.len().min(most)];
        let answer = connection.call(&Request::Write {
            fid: self.place.fid,
            offset: position,
            data,
        })?;
        drop(connection);
        let written = Reader(&answer[p9::HEADER..]).u32().map_err(Broken::from)?;
        Ok((written as usize).min(data.len()))
    }

    /// Brings it to the server's disk.
    pub fn sync(&self) -> io::Result<()> {
        let request = Request::Fsync {
            fid: self.place.fid,
            datasync: 0,
        };
        self.place.tree.call(&request).map(drop)
    }

    /// Makes it so long.
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        let request = Request::SetAttr {
            fid: self.place.fid,
            change: SetAttr {
                valid: p9::SET_SIZE,
                size,
                ..SetAttr::default()
            },
        };
        self.place.tree.call(&request).map(drop)
    }
}

impl Read for RemoteFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for RemoteFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.write_at(data, self.position)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nothing is kept here.
        Ok(())
    }
}

impl Seek for RemoteFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.metadata()?.size().checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| errno(Errno::INVAL))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let all = |path: &str| {
            names(OsStr::new(path))
                .into_iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("/a//b/./c/"), ["a", "b", "c"]);
        assert_eq!(all("a/../b"), ["a", "..", "b"]);
        assert!(all("/").is_empty());
    }

    #[test]
    fn addresses_may_have_a_port() {
        let port = |host: &str| addresses(host).expect(host)[0].port();
        assert_eq!(port("127.0.0.1"), PORT);
        assert_eq!(port("127.0.0.1:7"), 7);
        assert_eq!(port("::1"), PORT);
        assert_eq!(port("[::1]:7"), 7);
    }

    #[test]
    fn errors_keep_the_errno() {
        let mut bytes = [0; 32];
        let length = p9::write_error(&mut bytes, 1, 28).expect("room");
        let error = body(&bytes[..length], kind::READ + 1).expect_err("an error");
        assert_eq!(error.raw_os_error(), Some(28));
        assert!(body(&bytes[..3], kind::READ + 1).is_err());
    }
}
