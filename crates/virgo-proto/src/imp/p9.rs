// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! 9P2000.L, the protocol by which Linux mounts files of other machines: both directions, for the
//! server in the kernel and the client library.
//!
//! A message is `size[4] type[1] tag[2]` and fields in little-endian; `size` counts itself. A
//! string is `length[2]` and bytes. Nothing is copied or allocated here: what is read borrows the
//! message, what is written goes into the buffer of a [`Writer`]. Every function is total: any
//! bytes are a message or an [`Malformed`] one.

/// Bytes of `size[4] type[1] tag[2]`.
pub const HEADER: usize = 7;
/// Bytes of a Twrite's head and of an Rread's: what `msize` leaves of a message for data.
pub const IO_HEADER: usize = 23;
/// Bytes of a folder's entry in front of its name.
pub const ENTRY_HEAD: usize = QID + 8 + 1 + 2;
/// No tag: that of Tversion.
pub const NOTAG: u16 = u16::MAX;
/// No fid: `afid` where no authentication is done.
pub const NOFID: u32 = u32::MAX;
/// No number for the user: `n_uname`.
pub const NOUID: u32 = u32::MAX;
/// Most names in one walk.
pub const MAX_WALK: usize = 16;
/// Bytes of a qid.
pub const QID: usize = 13;
/// The version that is spoken.
pub const VERSION: &[u8] = b"9P2000.L";
/// What a server answers to a version that it does not speak.
pub const UNKNOWN: &[u8] = b"unknown";
/// The smallest message size that all answers but data fit in, two longest names and a qid.
pub const MIN_MSIZE: u32 = 1024;

/// Type bytes of requests; an answer's is one more.
pub mod kind {
    #![allow(missing_docs, reason = "the protocol's own names")]
    pub const LERROR: u8 = 6;
    pub const STATFS: u8 = 8;
    pub const LOPEN: u8 = 12;
    pub const LCREATE: u8 = 14;
    pub const SYMLINK: u8 = 16;
    pub const MKNOD: u8 = 18;
    pub const RENAME: u8 = 20;
    pub const READLINK: u8 = 22;
    pub const GETATTR: u8 = 24;
    pub const SETATTR: u8 = 26;
    pub const XATTRWALK: u8 = 30;
    pub const XATTRCREATE: u8 = 32;
    pub const READDIR: u8 = 40;
    pub const FSYNC: u8 = 50;
    pub const LOCK: u8 = 52;
    pub const GETLOCK: u8 = 54;
    pub const LINK: u8 = 70;
    pub const MKDIR: u8 = 72;
    pub const RENAMEAT: u8 = 74;
    pub const UNLINKAT: u8 = 76;
    pub const VERSION: u8 = 100;
    pub const AUTH: u8 = 102;
    pub const ATTACH: u8 = 104;
    pub const FLUSH: u8 = 108;
    pub const WALK: u8 = 110;
    pub const READ: u8 = 116;
    pub const WRITE: u8 = 118;
    pub const CLUNK: u8 = 120;
    pub const REMOVE: u8 = 122;
}

/// A qid's type bit of a folder.
pub const QT_DIR: u8 = 0x80;
/// A qid's type bit of a symbolic link.
pub const QT_SYMLINK: u8 = 0x02;

/// [`Request::UnlinkAt`]: the name is a folder's.
pub const AT_REMOVEDIR: u32 = 0x200;

/// [`Attr::valid`]: everything but generation and data version.
pub const GETATTR_BASIC: u64 = 0x7ff;
/// [`Attr::valid`]: the time of birth.
pub const GETATTR_BTIME: u64 = 0x800;

/// A lock that is given up.
pub const LOCK_UNLCK: u8 = 2;
/// A lock that may be held by several.
pub const LOCK_RDLCK: u8 = 0;
/// A lock that is held by one.
pub const LOCK_WRLCK: u8 = 1;
/// [`Lock::flags`]: wait for it.
pub const LOCK_BLOCK: u32 = 1;
/// A lock's status: granted.
pub const LOCK_SUCCESS: u8 = 0;
/// A lock's status: someone else has it.
pub const LOCK_BLOCKED: u8 = 1;
/// A lock's status: it could not be tried.
pub const LOCK_ERROR: u8 = 2;

/// Open flags: Linux's own numbers on most machines, which the protocol fixes.
pub mod open {
    #![allow(missing_docs, reason = "open(2)'s own names")]
    pub const RDONLY: u32 = 0;
    pub const WRONLY: u32 = 1;
    pub const RDWR: u32 = 2;
    pub const ACCMODE: u32 = 3;
    pub const CREATE: u32 = 0o100;
    pub const EXCL: u32 = 0o200;
    pub const TRUNC: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const DSYNC: u32 = 0o10000;
    pub const DIRECTORY: u32 = 0o200_000;
    pub const NOATIME: u32 = 0o1_000_000;
    pub const SYNC: u32 = 0o4_000_000;
}

/// The message is not what its size and type say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends before its fields do.
    Truncated,
    /// Bytes are left behind the last field.
    Trailing,
    /// More names than a walk may have.
    TooManyNames,
    /// A type of message that 9P2000.L does not have, or not as a request.
    UnknownType(u8),
}

/// What is at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole message, these among them.
    pub size: u32,
    /// See [`kind`].
    pub kind: u8,
    /// What the answer will carry too.
    pub tag: u16,
}

/// The header, once it is all there. Its size is as it came: it may be smaller than [`HEADER`].
pub fn header(data: &[u8]) -> Option<Header> {
    let mut reader = Reader(data);
    Some(Header {
        size: reader.u32().ok()?,
        kind: reader.u8().ok()?,
        tag: reader.u16().ok()?,
    })
}

/// Whether a stream that begins so is 9P (the first message is a Tversion without a tag) and not
/// text; `None` as long as it can be either.
///
/// ```
/// use virgo_proto::p9::is_9p;
/// assert_eq!(is_9p(b"\x15\0\0\0\x64\xff\xff"), Some(true));
/// assert_eq!(is_9p(b"virgo_cloud_open(a)\r\n"), Some(false));
/// assert_eq!(is_9p(b"quit\n"), Some(false));
/// assert_eq!(is_9p(b"vir"), None);
/// ```
pub fn is_9p(data: &[u8]) -> Option<bool> {
    match header(data) {
        Some(header) => Some(header.kind == kind::VERSION && header.tag == NOTAG),
        // A Tversion has 13 bytes or more, so an early line feed is a text's.
        None if data.contains(&b'\n') => Some(false),
        None => None,
    }
}

/// What identifies a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Qid {
    /// `QT_` bits.
    pub kind: u8,
    /// Changes when the file does.
    pub version: u32,
    /// Its number.
    pub path: u64,
}

/// A moment, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Whole seconds.
    pub sec: u64,
    /// And nanoseconds.
    pub nsec: u64,
}

/// The answer to Tgetattr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "stat(2)'s own names")]
pub struct Attr {
    /// `GETATTR_` bits of what follows.
    pub valid: u64,
    pub qid: Qid,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u64,
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    pub generation: u64,
    pub data_version: u64,
}

/// Tsetattr's changes; `valid` says which, by bits: mode, uid, gid, size, atime, mtime, ctime,
/// atime and mtime as given rather than now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Attr")]
pub struct SetAttr {
    pub valid: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub atime: Time,
    pub mtime: Time,
}

/// [`SetAttr::valid`]: the permission bits.
pub const SET_MODE: u32 = 1;
/// [`SetAttr::valid`]: the size.
pub const SET_SIZE: u32 = 8;
/// [`SetAttr::valid`]: all that is known.
pub const SET_ALL: u32 = 0x1ff;

/// The answer to Tstatfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "statfs(2)'s own names")]
pub struct StatFs {
    pub kind: u32,
    pub bsize: u32,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: u64,
    pub namelen: u32,
}

/// A POSIX lock on a range of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock<'a> {
    /// `LOCK_` numbers of kinds.
    pub kind: u8,
    /// [`LOCK_BLOCK`]; not on the wire of a getlock.
    pub flags: u32,
    /// The first byte.
    pub start: u64,
    /// How many; 0: to the end of the file.
    pub length: u64,
    /// Whose it is on that machine.
    pub proc_id: u32,
    /// Which machine.
    pub client_id: &'a [u8],
}

/// Names of a walk, which have been looked through once.
///
/// # Invariants
///
/// `raw` is `count` strings as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'a> {
    raw: &'a [u8],
    count: u16,
}

impl<'a> Names<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = r.u16()?;
        if usize::from(count) > MAX_WALK {
            return Err(Malformed::TooManyNames);
        }
        let all = r.0;
        for _ in 0..count {
            r.string()?;
        }
        let length = all.len().saturating_sub(r.0.len());
        let raw = all.get(..length).ok_or(Malformed::Truncated)?;
        Ok(Names { raw, count })
    }

    /// How many there are, [`MAX_WALK`] at most.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The names in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut r = Reader(self.raw);
        core::iter::from_fn(move || r.string().ok())
    }
}

/// Writes a Twalk; its length.
pub fn write_walk(
    buffer: &mut [u8],
    tag: u16,
    fid: u32,
    newfid: u32,
    names: &[&[u8]],
) -> Result<usize, Full> {
    let mut w = Writer::new(buffer, kind::WALK, tag);
    w.u32(fid);
    w.u32(newfid);
    w.u16(u16::try_from(names.len()).map_err(|_| Full)?);
    for name in names {
        w.string(name);
    }
    w.finish()
}

/// A request, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the protocol's own names")]
pub enum Request<'a> {
    Version {
        msize: u32,
        version: &'a [u8],
    },
    Auth {
        afid: u32,
        uname: &'a [u8],
        aname: &'a [u8],
        n_uname: u32,
    },
    Attach {
        fid: u32,
        afid: u32,
        uname: &'a [u8],
        aname: &'a [u8],
        n_uname: u32,
    },
    Flush {
        oldtag: u16,
    },
    Walk {
        fid: u32,
        newfid: u32,
        names: Names<'a>,
    },
    Read {
        fid: u32,
        offset: u64,
        count: u32,
    },
    Write {
        fid: u32,
        offset: u64,
        data: &'a [u8],
    },
    Clunk {
        fid: u32,
    },
    Remove {
        fid: u32,
    },
    StatFs {
        fid: u32,
    },
    Lopen {
        fid: u32,
        flags: u32,
    },
    Lcreate {
        fid: u32,
        name: &'a [u8],
        flags: u32,
        mode: u32,
        gid: u32,
    },
    Symlink {
        dfid: u32,
        name: &'a [u8],
        target: &'a [u8],
        gid: u32,
    },
    Mknod {
        dfid: u32,
        name: &'a [u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    },
    Rename {
        fid: u32,
        dfid: u32,
        name: &'a [u8],
    },
    Readlink {
        fid: u32,
    },
    GetAttr {
        fid: u32,
        mask: u64,
    },
    SetAttr {
        fid: u32,
        change: SetAttr,
    },
    XattrWalk {
        fid: u32,
        newfid: u32,
        name: &'a [u8],
    },
    XattrCreate {
        fid: u32,
        name: &'a [u8],
        size: u64,
        flags: u32,
    },
    Readdir {
        fid: u32,
        offset: u64,
        count: u32,
    },
    Fsync {
        fid: u32,
        datasync: u32,
    },
    Lock {
        fid: u32,
        lock: Lock<'a>,
    },
    GetLock {
        fid: u32,
        lock: Lock<'a>,
    },
    Link {
        dfid: u32,
        fid: u32,
        name: &'a [u8],
    },
    Mkdir {
        dfid: u32,
        name: &'a [u8],
        mode: u32,
        gid: u32,
    },
    RenameAt {
        old_dfid: u32,
        old_name: &'a [u8],
        new_dfid: u32,
        new_name: &'a [u8],
    },
    UnlinkAt {
        dfid: u32,
        name: &'a [u8],
        flags: u32,
    },
}

/// Takes fields off the front of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| Malformed::Truncated)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// `count[4]` and so many bytes.
    pub fn data(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u32()?;
        self.bytes(usize::try_from(count).map_err(|_| Malformed::Truncated)?)
    }

    /// A qid.
    pub fn qid(&mut self) -> Result<Qid, Malformed> {
        Ok(Qid {
            kind: self.u8()?,
            version: self.u32()?,
            path: self.u64()?,
        })
    }

    fn time(&mut self) -> Result<Time, Malformed> {
        Ok(Time {
            sec: self.u64()?,
            nsec: self.u64()?,
        })
    }

    /// The answer to a Tgetattr.
    pub fn attr(&mut self) -> Result<Attr, Malformed> {
        Ok(Attr {
            valid: self.u64()?,
            qid: self.qid()?,
            mode: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            nlink: self.u64()?,
            rdev: self.u64()?,
            size: self.u64()?,
            blksize: self.u64()?,
            blocks: self.u64()?,
            atime: self.time()?,
            mtime: self.time()?,
            ctime: self.time()?,
            btime: self.time()?,
            generation: self.u64()?,
            data_version: self.u64()?,
        })
    }

    /// The answer to a Tstatfs.
    pub fn statfs(&mut self) -> Result<StatFs, Malformed> {
        Ok(StatFs {
            kind: self.u32()?,
            bsize: self.u32()?,
            blocks: self.u64()?,
            bfree: self.u64()?,
            bavail: self.u64()?,
            files: self.u64()?,
            ffree: self.u64()?,
            fsid: self.u64()?,
            namelen: self.u32()?,
        })
    }

    /// An entry of the answer to a Treaddir.
    pub fn entry(&mut self) -> Result<Entry<'a>, Malformed> {
        Ok(Entry {
            qid: self.qid()?,
            offset: self.u64()?,
            kind: self.u8()?,
            name: self.string()?,
        })
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }
}

/// An entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its type bits and number; no version.
    pub qid: Qid,
    /// Where to go on behind it.
    pub offset: u64,
    /// As `d_type` has it.
    pub kind: u8,
    /// Its name.
    pub name: &'a [u8],
}

impl Entry<'_> {
    /// Bytes that an entry with this name takes.
    pub const fn size(name: usize) -> usize {
        name.saturating_add(ENTRY_HEAD)
    }

    /// What is in front of the name; `None` for a name that no message can hold.
    pub fn head(&self) -> Option<[u8; ENTRY_HEAD]> {
        let mut head = [0; ENTRY_HEAD];
        let length = u16::try_from(self.name.len()).ok()?;
        let parts: [&[u8]; 6] = [
            &[self.qid.kind],
            &self.qid.version.to_le_bytes(),
            &self.qid.path.to_le_bytes(),
            &self.offset.to_le_bytes(),
            &[self.kind],
            &length.to_le_bytes(),
        ];
        let mut places = head.iter_mut();
        for byte in parts.into_iter().flatten() {
            *places.next()? = *byte;
        }
        Some(head)
    }
}

/// Takes a whole message apart: its tag and what it asks for. Its size must be `message.len()`,
/// which who cut it out of the stream has seen to.
pub fn parse(message: &[u8]) -> Result<(u16, Request<'_>), Malformed> {
    let mut r = Reader(message);
    let _size = r.u32()?;
    let kind = r.u8()?;
    let tag = r.u16()?;
    let request = match kind {
        kind::VERSION => Request::Version {
            msize: r.u32()?,
            version: r.string()?,
        },
        kind::AUTH => Request::Auth {
            afid: r.u32()?,
            uname: r.string()?,
            aname: r.string()?,
            n_uname: r.u32()?,
        },
        kind::ATTACH => Request::Attach {
            fid: r.u32()?,
            afid: r.u32()?,
            uname: r.string()?,
            aname: r.string()?,
            n_uname: r.u32()?,
        },
        kind::FLUSH => Request::Flush { oldtag: r.u16()? },
        kind::WALK => {
            let (fid, newfid) = (r.u32()?, r.u32()?);
            let names = Names::read(&mut r)?;
            Request::Walk { fid, newfid, names }
        }
        kind::READ => Request::Read {
            fid: r.u32()?,
            offset: r.u64()?,
            count: r.u32()?,
        },
        kind::WRITE => Request::Write {
            fid: r.u32()?,
            offset: r.u64()?,
            data: r.data()?,
        },
        kind::CLUNK => Request::Clunk { fid: r.u32()? },
        kind::REMOVE => Request::Remove { fid: r.u32()? },
        kind::STATFS => Request::StatFs { fid: r.u32()? },
        kind::LOPEN => Request::Lopen {
            fid: r.u32()?,
            flags: r.u32()?,
        },
        kind::LCREATE => Request::Lcreate {
            fid: r.u32()?,
            name: r.string()?,
            flags: r.u32()?,
            mode: r.u32()?,
            gid: r.u32()?,
        },
        kind::SYMLINK => Request::Symlink {
            dfid: r.u32()?,
            name: r.string()?,
            target: r.string()?,
            gid: r.u32()?,
        },
        kind::MKNOD => Request::Mknod {
            dfid: r.u32()?,
            name: r.string()?,
            mode: r.u32()?,
            major: r.u32()?,
            minor: r.u32()?,
            gid: r.u32()?,
        },
        kind::RENAME => Request::Rename {
            fid: r.u32()?,
            dfid: r.u32()?,
            name: r.string()?,
        },
        kind::READLINK => Request::Readlink { fid: r.u32()? },
        kind::GETATTR => Request::GetAttr {
            fid: r.u32()?,
            mask: r.u64()?,
        },
        kind::SETATTR => Request::SetAttr {
            fid: r.u32()?,
            change: SetAttr {
                valid: r.u32()?,
                mode: r.u32()?,
                uid: r.u32()?,
                gid: r.u32()?,
                size: r.u64()?,
                atime: r.time()?,
                mtime: r.time()?,
            },
        },
        kind::XATTRWALK => Request::XattrWalk {
            fid: r.u32()?,
            newfid: r.u32()?,
            name: r.string()?,
        },
        kind::XATTRCREATE => Request::XattrCreate {
            fid: r.u32()?,
            name: r.string()?,
            size: r.u64()?,
            flags: r.u32()?,
        },
        kind::READDIR => Request::Readdir {
            fid: r.u32()?,
            offset: r.u64()?,
            count: r.u32()?,
        },
        kind::FSYNC => {
            let fid = r.u32()?;
            // Linux sends a word that the protocol's text leaves out; others may not.
            let datasync = if r.0.is_empty() { 0 } else { r.u32()? };
            Request::Fsync { fid, datasync }
        }
        kind::LOCK => {
            let fid = r.u32()?;
            let (kind, flags) = (r.u8()?, r.u32()?);
            let lock = lock(&mut r, kind, flags)?;
            Request::Lock { fid, lock }
        }
        kind::GETLOCK => {
            let fid = r.u32()?;
            let kind = r.u8()?;
            let lock = lock(&mut r, kind, 0)?;
            Request::GetLock { fid, lock }
        }
        kind::LINK => Request::Link {
            dfid: r.u32()?,
            fid: r.u32()?,
            name: r.string()?,
        },
        kind::MKDIR => Request::Mkdir {
            dfid: r.u32()?,
            name: r.string()?,
            mode: r.u32()?,
            gid: r.u32()?,
        },
        kind::RENAMEAT => Request::RenameAt {
            old_dfid: r.u32()?,
            old_name: r.string()?,
            new_dfid: r.u32()?,
            new_name: r.string()?,
        },
        kind::UNLINKAT => Request::UnlinkAt {
            dfid: r.u32()?,
            name: r.string()?,
            flags: r.u32()?,
        },
        other => return Err(Malformed::UnknownType(other)),
    };
    r.end()?;
    Ok((tag, request))
}

fn lock<'a>(r: &mut Reader<'a>, kind: u8, flags: u32) -> Result<Lock<'a>, Malformed> {
    Ok(Lock {
        kind,
        flags,
        start: r.u64()?,
        length: r.u64()?,
        proc_id: r.u32()?,
        client_id: r.string()?,
    })
}

/// What of a Twrite is in front of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteHead {
    /// The file.
    pub fid: u32,
    /// Where in it.
    pub offset: u64,
    /// Bytes of data that follow.
    pub count: u32,
}

/// The front of a Twrite, [`IO_HEADER`] bytes; `None` if it is none, or if its data would not
/// fill the message exactly.
pub fn write_head(data: &[u8]) -> Option<WriteHead> {
    let header = header(data)?;
    let mut r = Reader(data.get(HEADER..)?);
    let head = WriteHead {
        fid: r.u32().ok()?,
        offset: r.u64().ok()?,
        count: r.u32().ok()?,
    };
    let whole = usize::try_from(head.count).ok()?.checked_add(IO_HEADER)?;
    (header.kind == kind::WRITE && usize::try_from(header.size) == Ok(whole)).then_some(head)
}

/// The buffer is too small for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Writes one message into a buffer.
///
/// Errors are kept to the end: [`Writer::finish`] tells.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
    full: bool,
}

impl<'a> Writer<'a> {
    /// Begins a message.
    pub fn new(buffer: &'a mut [u8], kind: u8, tag: u16) -> Self {
        let mut writer = Writer {
            buffer,
            at: 0,
            full: false,
        };
        writer.u32(0);
        writer.u8(kind);
        writer.u16(tag);
        writer
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        match self.buffer.get_mut(self.at..end) {
            Some(place) if !self.full => {
                place.copy_from_slice(bytes);
                self.at = end;
            }
            _ => self.full = true,
        }
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends a string.
    pub fn string(&mut self, text: &[u8]) {
        match u16::try_from(text.len()) {
            Ok(length) => {
                self.u16(length);
                self.bytes(text);
            }
            Err(_) => self.full = true,
        }
    }

    /// Appends a qid.
    pub fn qid(&mut self, qid: &Qid) {
        self.u8(qid.kind);
        self.u32(qid.version);
        self.u64(qid.path);
    }

    fn time(&mut self, time: &Time) {
        self.u64(time.sec);
        self.u64(time.nsec);
    }

    /// Appends the answer to a Tgetattr.
    pub fn attr(&mut self, attr: &Attr) {
        self.u64(attr.valid);
        self.qid(&attr.qid);
        self.u32(attr.mode);
        self.u32(attr.uid);
        self.u32(attr.gid);
        self.u64(attr.nlink);
        self.u64(attr.rdev);
        self.u64(attr.size);
        self.u64(attr.blksize);
        self.u64(attr.blocks);
        self.time(&attr.atime);
        self.time(&attr.mtime);
        self.time(&attr.ctime);
        self.time(&attr.btime);
        self.u64(attr.generation);
        self.u64(attr.data_version);
    }

    /// Appends the answer to a Tstatfs.
    pub fn statfs(&mut self, stat: &StatFs) {
        self.u32(stat.kind);
        self.u32(stat.bsize);
        self.u64(stat.blocks);
        self.u64(stat.bfree);
        self.u64(stat.bavail);
        self.u64(stat.files);
        self.u64(stat.ffree);
        self.u64(stat.fsid);
        self.u32(stat.namelen);
    }

    /// Fills the size in; the message's length.
    pub fn finish(self) -> Result<usize, Full> {
        let size = u32::try_from(self.at).map_err(|_| Full)?;
        match self.buffer.get_mut(..4) {
            Some(place) if !self.full => place.copy_from_slice(&size.to_le_bytes()),
            _ => return Err(Full),
        }
        Ok(self.at)
    }
}

impl Request<'_> {
    /// The type byte.
    pub fn kind(&self) -> u8 {
        match self {
            Request::Version { .. } => kind::VERSION,
            Request::Auth { .. } => kind::AUTH,
            Request::Attach { .. } => kind::ATTACH,
            Request::Flush { .. } => kind::FLUSH,
            Request::Walk { .. } => kind::WALK,
            Request::Read { .. } => kind::READ,
            Request::Write { .. } => kind::WRITE,
            Request::Clunk { .. } => kind::CLUNK,
            Request::Remove { .. } => kind::REMOVE,
            Request::StatFs { .. } => kind::STATFS,
            Request::Lopen { .. } => kind::LOPEN,
            Request::Lcreate { .. } => kind::LCREATE,
            Request::Symlink { .. } => kind::SYMLINK,
            Request::Mknod { .. } => kind::MKNOD,
            Request::Rename { .. } => kind::RENAME,
            Request::Readlink { .. } => kind::READLINK,
            Request::GetAttr { .. } => kind::GETATTR,
            Request::SetAttr { .. } => kind::SETATTR,
            Request::XattrWalk { .. } => kind::XATTRWALK,
            Request::XattrCreate { .. } => kind::XATTRCREATE,
            Request::Readdir { .. } => kind::READDIR,
            Request::Fsync { .. } => kind::FSYNC,
            Request::Lock { .. } => kind::LOCK,
            Request::GetLock { .. } => kind::GETLOCK,
            Request::Link { .. } => kind::LINK,
            Request::Mkdir { .. } => kind::MKDIR,
            Request::RenameAt { .. } => kind::RENAMEAT,
            Request::UnlinkAt { .. } => kind::UNLINKAT,
        }
    }

    /// Writes the request; its length.
    pub fn write(&self, tag: u16, buffer: &mut [u8]) -> Result<usize, Full> {
        let mut w = Writer::new(buffer, self.kind(), tag);
        match *self {
            Request::Version { msize, version } => {
                w.u32(msize);
                w.string(version);
            }
            Request::Auth {
                afid,
                uname,
                aname,
                n_uname,
            } => {
                w.u32(afid);
                w.string(uname);
                w.string(aname);
                w.u32(n_uname);
            }
            Request::Attach {
                fid,
                afid,
                uname,
                aname,
                n_uname,
            } => {
                w.u32(fid);
                w.u32(afid);
                w.string(uname);
                w.string(aname);
                w.u32(n_uname);
            }
            Request::Flush { oldtag } => w.u16(oldtag),
            Request::Walk { fid, newfid, names } => {
                w.u32(fid);
                w.u32(newfid);
                w.u16(names.count);
                w.bytes(names.raw);
            }
            Request::Read { fid, offset, count } | Request::Readdir { fid, offset, count } => {
                w.u32(fid);
                w.u64(offset);
                w.u32(count);
            }
            Request::Write { fid, offset, data } => {
                w.u32(fid);
                w.u64(offset);
                match u32::try_from(data.len()) {
                    Ok(count) => {
                        w.u32(count);
                        w.bytes(data);
                    }
                    Err(_) => return Err(Full),
                }
            }
            Request::Clunk { fid }
            | Request::Remove { fid }
            | Request::StatFs { fid }
            | Request::Readlink { fid } => w.u32(fid),
            Request::Lopen { fid, flags } => {
                w.u32(fid);
                w.u32(flags);
            }
            Request::Lcreate {
                fid,
                name,
                flags,
                mode,
                gid,
            } => {
                w.u32(fid);
                w.string(name);
                w.u32(flags);
                w.u32(mode);
                w.u32(gid);
            }
            Request::Symlink {
                dfid,
                name,
                target,
                gid,
            } => {
                w.u32(dfid);
                w.string(name);
                w.string(target);
                w.u32(gid);
            }
            Request::Mknod {
                dfid,
                name,
                mode,
                major,
                minor,
                gid,
            } => {
                w.u32(dfid);
                w.string(name);
                w.u32(mode);
                w.u32(major);
                w.u32(minor);
                w.u32(gid);
            }
            Request::Rename { fid, dfid, name } => {
                w.u32(fid);
                w.u32(dfid);
                w.string(name);
            }
            Request::GetAttr { fid, mask } => {
                w.u32(fid);
                w.u64(mask);
            }
            Request::SetAttr { fid, change } => {
                w.u32(fid);
                w.u32(change.valid);
                w.u32(change.mode);
                w.u32(change.uid);
                w.u32(change.gid);
                w.u64(change.size);
                w.time(&change.atime);
                w.time(&change.mtime);
            }
            Request::XattrWalk { fid, newfid, name } => {
                w.u32(fid);
                w.u32(newfid);
                w.string(name);
            }
            Request::XattrCreate {
                fid,
                name,
                size,
                flags,
            } => {
                w.u32(fid);
                w.string(name);
                w.u64(size);
                w.u32(flags);
            }
            Request::Fsync { fid, datasync } => {
                w.u32(fid);
                w.u32(datasync);
            }
            Request::Lock { fid, lock } => {
                w.u32(fid);
                w.u8(lock.kind);
                w.u32(lock.flags);
                w.u64(lock.start);
                w.u64(lock.length);
                w.u32(lock.proc_id);
                w.string(lock.client_id);
            }
            Request::GetLock { fid, lock } => {
                w.u32(fid);
                w.u8(lock.kind);
                w.u64(lock.start);
                w.u64(lock.length);
                w.u32(lock.proc_id);
                w.string(lock.client_id);
            }
            Request::Link { dfid, fid, name } => {
                w.u32(dfid);
                w.u32(fid);
                w.string(name);
            }
            Request::Mkdir {
                dfid,
                name,
                mode,
                gid,
            } => {
                w.u32(dfid);
                w.string(name);
                w.u32(mode);
                w.u32(gid);
            }
            Request::RenameAt {
                old_dfid,
                old_name,
                new_dfid,
                new_name,
            } => {
                w.u32(old_dfid);
                w.string(old_name);
                w.u32(new_dfid);
                w.string(new_name);
            }
            Request::UnlinkAt { dfid, name, flags } => {
                w.u32(dfid);
                w.string(name);
                w.u32(flags);
            }
        }
        w.finish()
    }
}

/// Whether a name can be an entry of a folder: not empty, no `/`, no NUL, neither `.` nor `..`.
pub fn is_entry_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| *byte == b'/' || *byte == 0)
}

/// The head of an answer that ends with `count[4]` and so many bytes, Rread or Rreaddir; `None` if
/// it would be too long.
pub fn data_head(kind: u8, tag: u16, count: usize) -> Option<[u8; DATA_HEAD]> {
    let size = u32::try_from(count.checked_add(DATA_HEAD)?).ok()?;
    let count = u32::try_from(count).ok()?;
    let mut head = [0; DATA_HEAD];
    let mut w = Writer::new(&mut head, kind, tag);
    w.u32(count);
    w.finish().ok()?;
    head.get_mut(..4)?.copy_from_slice(&size.to_le_bytes());
    Some(head)
}

/// Bytes of [`data_head`].
pub const DATA_HEAD: usize = HEADER + 4;

/// The answer `Rlerror`.
pub fn write_error(buffer: &mut [u8], tag: u16, errno: u32) -> Result<usize, Full> {
    let mut w = Writer::new(buffer, kind::LERROR.saturating_add(1), tag);
    w.u32(errno);
    w.finish()
}
