// SPDX-License-Identifier: GPL-2.0-only

//! What 9P requests do. Runs in a worker, with the client's credentials in force.

use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};

use crate::{
    errno,
    export::RoomTicket,
    files::{
        self,
        Folder, //
    },
    lib::{
        listener::Bytes,
        vfs::{
            Change,
            LockKind,
            LockOwner,
            OpenFile,
            Place,
            Range,
            Stat,
            Swift,
            SWIFT_OPEN, //
        },
        zeroed::zeroed, //
    },
    proto::p9::{
        self,
        is_entry_name,
        kind,
        Attr,
        Entry,
        Lock,
        Names,
        Qid,
        Request,
        SetAttr,
        Time,
        Writer, //
    },
    session::{
        Fid,
        NewValue,
        Session,
        Use, //
    },
};

/// Room for every answer but data, links and folders: a walk of sixteen names, a stat.
const SMALL: usize = 256;

/// Longest text of a symbolic link, as PATH_MAX has it.
const LINK_MAX: usize = 4095;

/// Longest value of an extended attribute, as XATTR_SIZE_MAX has it.
const VALUE_MAX: usize = 65536;

/// Most bytes of a folder that one answer holds.
const FOLDER_MAX: usize = 64 << 10;

/// How long a request for a lock waits before it looks whether it is still wanted.
const LOCK_STEP_MS: u32 = 500;

/// And how often.
const LOCK_STEPS: u32 = 120;

/// setxattr(2)'s flag.
const XATTR_REPLACE: i32 = 2;

/// Flags of open(2) that a client's mean something to: LCREATE is a request of its own.
const OPEN_FLAGS: u32 = files::OPEN_FLAGS & !p9::open::CREATE;

/// A request on its way to its answer.
pub(crate) struct Job {
    /// The message.
    pub(crate) frame: KVVec<u8>,
    /// By which the session knows it.
    pub(crate) number: u64,
    /// For the message.
    pub(crate) room: RoomTicket,
}

/// What a client is told.
pub(crate) enum Answer {
    /// Something short.
    Short(KVVec<u8>),
    /// Data of a file, in pages of its own.
    Long(Arc<dyn Bytes>),
    /// That a lock was given, which is taken back if nobody hears of it.
    Granted(KVVec<u8>, Granted),
}

/// A lock that was given.
pub(crate) struct Granted {
    file: Arc<OpenFile>,
    owner: Arc<LockOwner>,
    range: Range,
}

impl Granted {
    /// Takes it back.
    pub(crate) fn take_back(&self) {
        // Giving up needs no memory but where it makes two of one; then closing the file does it.
        let _ = self.file.lock(&self.owner, &self.range, 0);
    }
}

impl Answer {
    fn bytes(&self) -> &[u8] {
        match self {
            Answer::Short(bytes) | Answer::Granted(bytes, _) => bytes,
            Answer::Long(bytes) => bytes.bytes(),
        }
    }
}

/// The answer to a message.
pub(crate) fn answer(session: &Arc<Session>, job: &Job) -> Answer {
    let tag = p9::header(&job.frame).map_or(p9::NOTAG, |header| header.tag);
    let result = match p9::parse(&job.frame) {
        Ok((tag, request)) => {
            let call = Call {
                session,
                number: job.number,
                tag,
                swift: false,
            };
            session.user.credentials.run(|| call.run(&request))
        }
        Err(p9::Malformed::UnknownType(_)) => Err(errno::eopnotsupp()),
        Err(_) => Err(EINVAL),
    };
    told(session, tag, result)
}

/// The answer to a message that is worked on without waiting for a disk, a lock or anybody; `None`
/// where that can't be, and then nothing has been done.
pub(crate) fn at_once(session: &Arc<Session>, frame: &[u8]) -> Option<Answer> {
    let (tag, request) = p9::parse(frame).ok()?;
    let call = Call {
        session,
        number: 0,
        tag,
        swift: true,
    };
    if !call.is_swift(&request) {
        return None;
    }
    match session.user.credentials.run(|| call.run(&request)) {
        Err(error) if error == EAGAIN => None,
        result => Some(told(session, tag, result)),
    }
}

fn told(session: &Session, tag: u16, result: Result<Answer>) -> Answer {
    let counters = &session.export.counters;
    // Relaxed: statistics.
    counters.requests.fetch_add(1, Relaxed);
    result.unwrap_or_else(|error| {
        counters.errors.fetch_add(1, Relaxed);
        Answer::Short(failure(tag, errno::told(error)))
    })
}

/// The answer that tells an error; empty where there is no memory for it, and then the client waits
/// until it flushes the request.
pub(crate) fn failure(tag: u16, number: u32) -> KVVec<u8> {
    small(kind::LERROR, tag, |w| w.u32(number)).unwrap_or_default()
}

/// A small answer to a request of type `kind`.
pub(crate) fn small(kind: u8, tag: u16, fill: impl FnOnce(&mut Writer<'_>)) -> Result<KVVec<u8>> {
    let mut buffer = [0; SMALL];
    let mut w = Writer::new(&mut buffer, kind.saturating_add(1), tag);
    fill(&mut w);
    let length = w.finish().map_err(|_| errno::emsgsize())?;
    let bytes = buffer.get(..length).ok_or(EINVAL)?;
    let mut all = KVVec::with_capacity(length, GFP_KERNEL)?;
    all.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(all)
}

/// A qid's type bits for a file's mode.
fn qid_kind(mode: u32) -> u8 {
    match mode & 0o170_000 {
        0o040_000 => p9::QT_DIR,
        0o120_000 => p9::QT_SYMLINK,
        _ => 0,
    }
}

fn qid_of(stat: &Stat) -> Qid {
    // CAST: bits of a time, of which the lowest are wanted.
    let version = (stat.mtime_sec as u32).rotate_left(16) ^ stat.mtime_nsec ^ (stat.size as u32);
    Qid {
        kind: qid_kind(stat.mode),
        version,
        path: stat.ino,
    }
}

fn qid_at(place: &Place) -> Result<Qid> {
    Ok(qid_of(&place.stat()?))
}

fn time(sec: i64, nsec: u32) -> Time {
    Time {
        // CAST: the protocol has times before 1970 wrap around, as Linux reads them.
        sec: sec as u64,
        nsec: u64::from(nsec),
    }
}

fn attr_of(stat: &Stat) -> Attr {
    let valid = if stat.has_btime != 0 {
        p9::GETATTR_BASIC | p9::GETATTR_BTIME
    } else {
        p9::GETATTR_BASIC
    };
    Attr {
        valid,
        qid: qid_of(stat),
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        nlink: stat.nlink,
        rdev: stat.rdev,
        size: stat.size,
        blksize: stat.blksize,
        blocks: stat.blocks,
        atime: time(stat.atime_sec, stat.atime_nsec),
        mtime: time(stat.mtime_sec, stat.mtime_nsec),
        ctime: time(stat.ctime_sec, stat.ctime_nsec),
        btime: time(stat.btime_sec, stat.btime_nsec),
        generation: 0,
        data_version: 0,
    }
}

fn change_of(change: &SetAttr) -> Result<Change> {
    // Nanoseconds that are none become too many, which the shim refuses.
    let nsec = |time: &Time| u32::try_from(time.nsec).unwrap_or(u32::MAX);
    if change.valid & !p9::SET_ALL != 0 {
        return Err(EINVAL);
    }
    Ok(Change {
        valid: change.valid,
        mode: change.mode,
        uid: change.uid,
        gid: change.gid,
        size: change.size,
        // CAST: see `time`.
        atime_sec: change.atime.sec as i64,
        mtime_sec: change.mtime.sec as i64,
        atime_nsec: nsec(&change.atime),
        mtime_nsec: nsec(&change.mtime),
    })
}

/// A name that something new gets, or that is removed.
fn entry(name: &[u8]) -> Result<&[u8]> {
    if is_entry_name(name) {
        Ok(name)
    } else {
        Err(EINVAL)
    }
}

/// A C string of bytes without NUL.
fn c_string(bytes: &[u8]) -> Result<CString> {
    if bytes.contains(&0) {
        return Err(EINVAL);
    }
    let mut text = KVec::with_capacity(bytes.len().saturating_add(1), GFP_KERNEL)?;
    text.extend_from_slice(bytes, GFP_KERNEL)?;
    text.push(0, GFP_KERNEL)?;
    let text = CStr::from_bytes_with_nul(&text).map_err(|_| EINVAL)?;
    Ok(CString::try_from(text)?)
}

/// Permission bits; others of the mode are the kind of file, which the request says already.
fn permissions(mode: u32) -> u16 {
    // CAST: twelve bits.
    (mode & 0o7777) as u16
}

struct Call<'a> {
    session: &'a Arc<Session>,
    /// By which the session knows the request.
    number: u64,
    tag: u16,
    /// In the listener's own worker: nothing is waited for, `EAGAIN` instead.
    swift: bool,
}

impl Call<'_> {
    /// Whether the request can be worked on without waiting, as far as one can tell.
    fn is_swift(&self, request: &Request<'_>) -> bool {
        let at = |fid: u32, what: Swift| {
            let fid = self.session.fid(fid);
            fid.is_ok_and(|fid| fid.place.is_swift(what))
        };
        match *request {
            Request::GetAttr { fid, .. } => at(fid, Swift::Look),
            Request::Walk { fid, newfid, names } => {
                fid != newfid && at(fid, Swift::Look) && names.iter().all(|name| name != b"..")
            }
            Request::Lopen { fid, flags } => {
                let reads = flags & p9::open::ACCMODE == p9::open::RDONLY;
                let what = if reads { Swift::Open } else { Swift::Change };
                flags & p9::open::TRUNC == 0 && at(fid, what)
            }
            Request::Read { fid, .. } => at(fid, Swift::Look),
            Request::Clunk { fid } => self.session.fid(fid).is_ok_and(|fid| {
                let idle = match &fid.used {
                    Use::Idle | Use::Value(_) => true,
                    Use::Open(_) => !fid.writable || fid.place.is_swift(Swift::Change),
                    Use::NewValue(_) => false,
                };
                idle && fid.place.is_swift(Swift::Drop)
            }),
            Request::Write { fid, .. }
            | Request::Lcreate { fid, .. }
            | Request::StatFs { fid }
            | Request::Readdir { fid, .. } => at(fid, Swift::Change),
            Request::SetAttr { fid, ref change } => {
                change.valid & p9::SET_SIZE == 0 && at(fid, Swift::Change)
            }
            Request::Mkdir { dfid, .. }
            | Request::Symlink { dfid, .. }
            | Request::UnlinkAt { dfid, .. } => at(dfid, Swift::Change),
            _ => false,
        }
    }

    fn small(&self, kind: u8, fill: impl FnOnce(&mut Writer<'_>)) -> Result<Answer> {
        small(kind, self.tag, fill).map(Answer::Short)
    }

    /// Open flags for a call that waits or does not.
    fn open_flags(&self, flags: u32) -> i32 {
        // CAST: small flags.
        let flags = (flags & OPEN_FLAGS) as i32;
        if self.swift {
            flags | SWIFT_OPEN
        } else {
            flags
        }
    }

    fn done(&self, kind: u8) -> Result<Answer> {
        self.small(kind, |_| ())
    }

    fn root(&self) -> &Place {
        &self.session.export.root
    }

    fn may_change(&self) -> Result {
        if self.session.read_only() {
            return Err(EROFS);
        }
        Ok(())
    }

    fn new_fid(&self, place: Place, used: Use, writable: bool) -> Result<Arc<Fid>> {
        Fid::new(&self.session.export, place, used, writable)
    }

    fn run(&self, request: &Request<'_>) -> Result<Answer> {
        let session = self.session;
        let kind = request.kind();
        match *request {
            // These two are seen to before there is a call.
            Request::Version { .. } | Request::Flush { .. } => Err(EINVAL),
            // There is nothing to prove: see doc/cloudfs.md.
            Request::Auth { .. } => Err(errno::eopnotsupp()),
            Request::Attach {
                fid, afid, aname, ..
            } => self.attach(fid, afid, aname),
            Request::Walk { fid, newfid, names } => self.walk(fid, newfid, &names),
            Request::Read { fid, offset, count } => self.read(fid, offset, count),
            Request::Write { fid, offset, data } => self.write(fid, offset, data),
            Request::Clunk { fid } => self.clunk(fid),
            Request::Remove { fid } => {
                // The fid goes, whatever comes of it.
                let fid = session.remove(fid)?;
                self.may_change()?;
                fid.place.remove(self.root())?;
                self.done(kind)
            }
            Request::StatFs { fid } => {
                let stat = session.fid(fid)?.place.statfs()?;
                self.small(kind, |w| {
                    w.statfs(&p9::StatFs {
                        kind: stat.kind,
                        bsize: stat.bsize,
                        blocks: stat.blocks,
                        bfree: stat.bfree,
                        bavail: stat.bavail,
                        files: stat.files,
                        ffree: stat.ffree,
                        fsid: stat.fsid,
                        namelen: stat.namelen,
                    });
                })
            }
            Request::Lopen { fid, flags } => self.open(fid, flags),
            Request::Lcreate {
                fid,
                name,
                flags,
                mode,
                ..
            } => self.create(fid, name, flags, mode),
            Request::Symlink {
                dfid, name, target, ..
            } => {
                let dir = session.fid(dfid)?;
                self.may_change()?;
                if target.is_empty() || target.len() > LINK_MAX {
                    return Err(EINVAL);
                }
                let target = c_string(target)?;
                let place = dir.place.symlink(self.root(), entry(name)?, &target)?;
                let qid = qid_at(&place)?;
                self.small(kind, |w| w.qid(&qid))
            }
            // A device or a pipe would be this machine's, not the client's.
            Request::Mknod { .. } => Err(EPERM),
            Request::Rename { fid, dfid, name } => {
                let (fid, dir) = (session.fid(fid)?, session.fid(dfid)?);
                self.may_change()?;
                fid.place.move_to(self.root(), &dir.place, entry(name)?)?;
                self.done(kind)
            }
            Request::Readlink { fid } => self.readlink(fid),
            Request::GetAttr { fid, .. } => {
                let stat = session.fid(fid)?.place.stat()?;
                self.small(kind, |w| w.attr(&attr_of(&stat)))
            }
            Request::SetAttr { fid, change } => {
                let fid = session.fid(fid)?;
                self.may_change()?;
                let file = fid.file().ok().filter(|_| fid.writable);
                fid.place
                    .change(file.map(|file| &**file), &change_of(&change)?)?;
                self.done(kind)
            }
            Request::XattrWalk { fid, newfid, name } => self.xattr_walk(fid, newfid, name),
            Request::XattrCreate {
                fid,
                name,
                size,
                flags,
            } => self.xattr_create(fid, name, size, flags),
            Request::Readdir { fid, offset, count } => self.readdir(fid, offset, count),
            Request::Fsync { fid, datasync } => {
                session.fid(fid)?.file()?.sync(datasync != 0)?;
                self.done(kind)
            }
            Request::Lock { fid, lock } => self.lock(fid, &lock),
            Request::GetLock { fid, lock } => self.get_lock(fid, &lock),
            Request::Link { dfid, fid, name } => {
                let (dir, fid) = (session.fid(dfid)?, session.fid(fid)?);
                self.may_change()?;
                dir.place.link(self.root(), &fid.place, entry(name)?)?;
                self.done(kind)
            }
            Request::Mkdir {
                dfid, name, mode, ..
            } => {
                let dir = session.fid(dfid)?;
                self.may_change()?;
                let name = entry(name)?;
                let place = dir.place.mkdir(self.root(), name, permissions(mode))?;
                let qid = qid_at(&place)?;
                self.small(kind, |w| w.qid(&qid))
            }
            Request::RenameAt {
                old_dfid,
                old_name,
                new_dfid,
                new_name,
            } => {
                let (from, to) = (session.fid(old_dfid)?, session.fid(new_dfid)?);
                self.may_change()?;
                let (old, new) = (entry(old_name)?, entry(new_name)?);
                from.place.rename(self.root(), old, &to.place, new)?;
                self.done(kind)
            }
            Request::UnlinkAt { dfid, name, flags } => {
                let dir = session.fid(dfid)?;
                self.may_change()?;
                if flags & !p9::AT_REMOVEDIR != 0 {
                    return Err(EINVAL);
                }
                let is_dir = flags & p9::AT_REMOVEDIR != 0;
                let name = entry(name)?;
                dir.place.unlink(self.root(), name, is_dir, self.swift)?;
                self.done(kind)
            }
        }
    }

    fn attach(&self, fid: u32, afid: u32, aname: &[u8]) -> Result<Answer> {
        if afid != p9::NOFID {
            return Err(EINVAL);
        }
        let place = self.session.export.find(aname)?;
        let stat = place.stat()?;
        let new = self.new_fid(place, Use::Idle, false)?;
        self.session.insert(fid, new)?;
        self.small(kind::ATTACH, |w| w.qid(&qid_of(&stat)))
    }

    fn walk(&self, fid: u32, newfid: u32, names: &Names<'_>) -> Result<Answer> {
        let from = self.session.fid(fid)?;
        let mut place = from.place.clone();
        let mut qids = [Qid::default(); p9::MAX_WALK];
        let mut walked = 0_usize;
        for (name, slot) in names.iter().zip(qids.iter_mut()) {
            let step = match name {
                b".." => place.parent(self.root()),
                name => entry(name).and_then(|name| {
                    if self.swift {
                        place.walk_swift(self.root(), name)
                    } else {
                        place.walk(self.root(), name)
                    }
                }),
            };
            let step = step.and_then(|place| Ok((qid_at(&place)?, place)));
            match step {
                Ok((qid, next)) => {
                    *slot = qid;
                    place = next;
                    walked = walked.saturating_add(1);
                }
                Err(error) if self.swift && error == EAGAIN => return Err(EAGAIN),
                // What was reached is told; only where that is nothing is it an error.
                Err(error) if walked == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if walked == names.count() {
            let new = self.new_fid(place, Use::Idle, false)?;
            if newfid == fid {
                self.session.replace(fid, &from, new)?;
            } else {
                self.session.insert(newfid, new)?;
            }
        }
        self.small(kind::WALK, |w| {
            // At most sixteen.
            w.u16(u16::try_from(walked).unwrap_or(0));
            for qid in qids.iter().take(walked) {
                w.qid(qid);
            }
        })
    }

    fn open(&self, fid: u32, flags: u32) -> Result<Answer> {
        let old = self.session.fid(fid)?;
        if !matches!(old.used, Use::Idle) {
            return Err(EBADF);
        }
        let writable = flags & p9::open::ACCMODE != p9::open::RDONLY;
        if writable || flags & p9::open::TRUNC != 0 {
            self.may_change()?;
        }
        let file = old.place.open(self.root(), self.open_flags(flags))?;
        let qid = qid_at(&old.place)?;
        let new = self.new_fid(old.place.clone(), Use::Open(file), writable)?;
        self.session.replace(fid, &old, new)?;
        self.small(kind::LOPEN, |w| {
            w.qid(&qid);
            // As much as a message holds.
            w.u32(0);
        })
    }

    fn create(&self, fid: u32, name: &[u8], flags: u32, mode: u32) -> Result<Answer> {
        let old = self.session.fid(fid)?;
        if !matches!(old.used, Use::Idle) {
            return Err(EBADF);
        }
        self.may_change()?;
        let writable = flags & p9::open::ACCMODE != p9::open::RDONLY;
        let (place, file) = old.place.create(
            self.root(),
            entry(name)?,
            self.open_flags(flags),
            permissions(mode),
        )?;
        let qid = qid_at(&place)?;
        let new = self.new_fid(place, Use::Open(file), writable)?;
        self.session.replace(fid, &old, new)?;
        self.small(kind::LCREATE, |w| {
            w.qid(&qid);
            w.u32(0);
        })
    }

    /// Bytes of data that an answer of this session can hold, `count` at most.
    fn bounded(&self, count: u32) -> Result<usize> {
        let msize = self.session.msize() as usize; // CAST: u32 fits usize on 64-bit.
        let most = msize.checked_sub(p9::IO_HEADER).ok_or(EINVAL)?;
        Ok(most.min(count as usize)) // CAST: as above.
    }

    /// An answer that ends with data, which `fill` appends, `count` bytes at most.
    fn data(
        &self,
        kind: u8,
        count: usize,
        fill: impl FnOnce(&mut KVVec<u8>) -> Result,
    ) -> Result<Answer> {
        let length = count.checked_add(p9::DATA_HEAD).ok_or(EINVAL)?;
        let _room = self.session.export.room(length)?;
        let mut buffer = KVVec::with_capacity(length, GFP_KERNEL)?;
        let kind = kind.saturating_add(1);
        buffer.extend_from_slice(&[0; p9::DATA_HEAD], GFP_KERNEL)?;
        fill(&mut buffer)?;
        let filled = buffer.len().saturating_sub(p9::DATA_HEAD);
        let head = p9::data_head(kind, self.tag, filled).ok_or(EINVAL)?;
        let place = buffer.as_mut_slice().get_mut(..p9::DATA_HEAD);
        place.ok_or(EINVAL)?.copy_from_slice(&head);
        Ok(Answer::Short(buffer))
    }

    /// An answer with a file's data, which is read to where the socket sends it from.
    fn file_data(&self, file: &OpenFile, count: usize, offset: u64) -> Result<Answer> {
        let length = count.checked_add(p9::DATA_HEAD).ok_or(EINVAL)?;
        let _room = self.session.export.room(length)?;
        let mut lent = self.session.export.messages.take(length)?;
        let message = lent.fill().ok_or(ENOMEM)?;
        message.grow(p9::DATA_HEAD);
        let read = file.read_message(message, count, offset, self.swift)?;
        let kind = kind::READ.saturating_add(1);
        let head = p9::data_head(kind, self.tag, read).ok_or(EINVAL)?;
        let place = message.bytes_mut().get_mut(..p9::DATA_HEAD);
        place.ok_or(EINVAL)?.copy_from_slice(&head);
        Ok(Answer::Long(Arc::new(lent, GFP_KERNEL)?))
    }

    fn read(&self, fid: u32, offset: u64, count: u32) -> Result<Answer> {
        let fid = self.session.fid(fid)?;
        let count = self.bounded(count)?;
        match &fid.used {
            Use::Open(file) => {
                let answer = match self.file_data(file, count, offset) {
                    // Longer than one run of pages, or there is none.
                    Err(error) if error == ENOMEM && self.swift => Err(EAGAIN),
                    Err(error) if error == ENOMEM => self.data(kind::READ, count, |buffer| {
                        file.read_to(buffer, count, offset).map(drop)
                    }),
                    other => other,
                }?;
                let counter = &self.session.export.counters.read;
                let read = answer.bytes().len().saturating_sub(p9::DATA_HEAD);
                counter.fetch_add(read as u64, Relaxed); // CAST: usize fits u64.
                Ok(answer)
            }
            Use::Value(value) => {
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|offset| value.get(offset..))
                    .unwrap_or(&[]);
                let part = rest.get(..count).unwrap_or(rest);
                self.data(kind::READ, part.len(), |buffer| {
                    Ok(buffer.extend_from_slice(part, GFP_KERNEL)?)
                })
            }
            Use::Idle | Use::NewValue(_) => Err(EBADF),
        }
    }

    fn write(&self, fid: u32, offset: u64, data: &[u8]) -> Result<Answer> {
        let fid = self.session.fid(fid)?;
        let written = match &fid.used {
            Use::Open(file) => {
                let written = file.write_at(data, offset)?;
                let counter = &self.session.export.counters.written;
                counter.fetch_add(written as u64, Relaxed); // CAST: usize fits u64.
                written
            }
            Use::NewValue(value) => {
                let mut all = value.data.lock();
                let end = all.len().checked_add(data.len()).ok_or(EINVAL)?;
                // In order, and not more than was said. CAST: usize fits u64.
                if offset != all.len() as u64 || end > value.size {
                    return Err(EINVAL);
                }
                all.extend_from_slice(data, GFP_KERNEL)?;
                data.len()
            }
            Use::Idle | Use::Value(_) => return Err(EBADF),
        };
        // Not more than the message held.
        let written = u32::try_from(written).map_err(|_| EINVAL)?;
        self.small(kind::WRITE, |w| w.u32(written))
    }

    fn clunk(&self, fid: u32) -> Result<Answer> {
        let fid = self.session.remove(fid)?;
        if let Use::NewValue(value) = &fid.used {
            self.may_change()?;
            let data = value.data.lock();
            if data.len() != value.size {
                return Err(EINVAL);
            }
            // setxattr() with flags XATTR_REPLACE and nothing is how Linux removes one.
            if data.is_empty() && value.flags & XATTR_REPLACE != 0 {
                fid.place.removexattr(&value.name)?;
            } else {
                fid.place.setxattr(&value.name, &data, value.flags)?;
            }
        }
        drop(fid);
        self.done(kind::CLUNK)
    }

    fn readlink(&self, fid: u32) -> Result<Answer> {
        let fid = self.session.fid(fid)?;
        let mut text: KVVec<u8> = zeroed(LINK_MAX, GFP_KERNEL)?;
        let length = fid.place.readlink(&mut text)?;
        let text = text.get(..length).ok_or(EINVAL)?;
        let whole = length.saturating_add(p9::HEADER + 2);
        if whole > self.session.msize() as usize {
            return Err(errno::emsgsize());
        }
        let mut buffer: KVVec<u8> = zeroed(whole, GFP_KERNEL)?;
        let kind = kind::READLINK.saturating_add(1);
        let mut w = Writer::new(&mut buffer, kind, self.tag);
        w.string(text);
        w.finish().map_err(|_| errno::emsgsize())?;
        Ok(Answer::Short(buffer))
    }

    fn readdir(&self, fid: u32, offset: u64, count: u32) -> Result<Answer> {
        let fid = self.session.fid(fid)?;
        let file = fid.file()?;
        let count = self.bounded(count)?.min(FOLDER_MAX);
        let folder = Folder::new(&fid.place, file, self.root())?;
        self.data(kind::READDIR, count, |buffer| {
            let end = count.saturating_add(p9::DATA_HEAD);
            folder.entries(offset, buffer, end, p9::QID, |found| {
                let kind = match found.kind {
                    4 => p9::QT_DIR,
                    10 => p9::QT_SYMLINK,
                    _ => 0,
                };
                let entry = Entry {
                    qid: Qid {
                        kind,
                        version: 0,
                        path: found.ino,
                    },
                    offset: 0,
                    kind: found.kind as u8, // CAST: a byte's worth.
                    name: found.name,
                };
                entry.head()
            })
        })
    }

    fn xattr_walk(&self, fid: u32, newfid: u32, name: &[u8]) -> Result<Answer> {
        let from = self.session.fid(fid)?;
        let name = c_string(name)?;
        let get = |buffer: &mut [u8]| {
            if name.is_empty() {
                from.place.listxattr(buffer)
            } else {
                from.place.getxattr(&name, buffer)
            }
        };
        let size = get(&mut [])?;
        let mut value: KVVec<u8> = zeroed(size, GFP_KERNEL)?;
        if size > 0 {
            // It may have become shorter; longer is ERANGE.
            let length = get(&mut value)?;
            value.truncate(length);
        }
        let size = value.len();
        let new = self.new_fid(from.place.clone(), Use::Value(value), false)?;
        if newfid == fid {
            self.session.replace(fid, &from, new)?;
        } else {
            self.session.insert(newfid, new)?;
        }
        // CAST: usize fits u64.
        self.small(kind::XATTRWALK, |w| w.u64(size as u64))
    }

    fn xattr_create(&self, fid: u32, name: &[u8], size: u64, flags: u32) -> Result<Answer> {
        let old = self.session.fid(fid)?;
        self.may_change()?;
        let size = usize::try_from(size).map_err(|_| E2BIG)?;
        if size > VALUE_MAX {
            return Err(E2BIG);
        }
        if name.is_empty() || flags > 2 || !matches!(old.used, Use::Idle) {
            return Err(EINVAL);
        }
        let room = self.session.export.room(size)?;
        // CAST: at most 2.
        let value = NewValue::new(c_string(name)?, size, flags as i32, room)?;
        let new = self.new_fid(old.place.clone(), Use::NewValue(value), false)?;
        self.session.replace(fid, &old, new)?;
        self.done(kind::XATTRCREATE)
    }

    fn range(lock: &Lock<'_>) -> Result<Range> {
        let kind = match lock.kind {
            p9::LOCK_RDLCK => LockKind::Read,
            p9::LOCK_WRLCK => LockKind::Write,
            p9::LOCK_UNLCK => LockKind::None,
            _ => return Err(EINVAL),
        };
        // Processes of another machine have negative numbers here.
        let process = i32::try_from(lock.proc_id & 0x7fff_ffff).unwrap_or(i32::MAX);
        let pid = process.max(1).saturating_neg();
        Ok(Range::new(kind, lock.start, lock.length, pid))
    }

    fn lock(&self, fid: u32, lock: &Lock<'_>) -> Result<Answer> {
        let fid = self.session.fid(fid)?;
        let file = fid.file()?;
        let range = Self::range(lock)?;
        let owner = self.session.owner(lock.proc_id)?;
        let wait = lock.flags & p9::LOCK_BLOCK != 0 && range.kind() != LockKind::None;
        // One that is flushed before it has begun does not begin.
        let mut result = if self.session.is_wanted(self.number) {
            file.lock(&owner, &range, 0)
        } else {
            Err(EAGAIN)
        };
        if wait && result == Err(EAGAIN) {
            if let Some(_waiting) = self.session.export.wait() {
                let mut steps = 0_u32;
                while result == Err(EAGAIN)
                    && steps < LOCK_STEPS
                    && self.session.is_wanted(self.number)
                {
                    result = file.lock(&owner, &range, LOCK_STEP_MS);
                    steps = steps.saturating_add(1);
                }
            }
        }
        let status = match result {
            Ok(()) => p9::LOCK_SUCCESS,
            Err(error) if error == EAGAIN => p9::LOCK_BLOCKED,
            Err(error) => return Err(error),
        };
        let answer = small(kind::LOCK, self.tag, |w| w.u8(status));
        if result.is_err() || range.kind() == LockKind::None {
            return answer.map(Answer::Short);
        }
        let granted = Granted {
            file: file.clone(),
            owner,
            range: Range::new(LockKind::None, lock.start, lock.length, range.pid),
        };
        match answer {
            Ok(bytes) => Ok(Answer::Granted(bytes, granted)),
            Err(error) => {
                granted.take_back();
                Err(error)
            }
        }
    }

    fn get_lock(&self, fid: u32, lock: &Lock<'_>) -> Result<Answer> {
        let fid = self.session.fid(fid)?;
        let mut range = Self::range(lock)?;
        // Linux's client asks with this kind, whatever it wants to set: then any lock is in the way.
        if range.kind() == LockKind::None {
            range = Range::new(LockKind::Write, lock.start, lock.length, range.pid);
        }
        let owner = self.session.owner(lock.proc_id)?;
        let found = fid.file()?.conflict(&owner, &range)?;
        let kind = match found.kind() {
            LockKind::Read => p9::LOCK_RDLCK,
            LockKind::Write => p9::LOCK_WRLCK,
            LockKind::None => p9::LOCK_UNLCK,
        };
        let client = lock.client_id.get(..64).unwrap_or(lock.client_id);
        self.small(kind::GETLOCK, |w| {
            w.u8(kind);
            w.u64(found.start);
            w.u64(found.length);
            w.u32(found.pid.unsigned_abs());
            w.string(client);
        })
    }
}
