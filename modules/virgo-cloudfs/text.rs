// SPDX-License-Identifier: GPL-2.0-only

//! The telnet door: the original's four words, and two that carry any bytes. doc/cloudfs.md has
//! the grammar.

use core::fmt::Write;

use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};

use crate::{
    errno,
    export::{
        Export,
        RoomTicket,
        User, //
    },
    handles::{
        Handles,
        Local, //
    },
    lib::{
        event::{
            self,
            EventId, //
        },
        listener::{
            Consumed,
            Reply,
            Turn, //
        },
        service::Module,
        workqueue::OwnedQueue, //
    },
    proto::{
        files::{
            parse_order,
            Order,
            OrderError, //
        },
        lines::{
            line,
            Line, //
        },
        p9::open, //
    },
    server::Door,
};

/// Longest line.
const LINE_MAX: usize = 8192;

/// Most bytes that one request reads or writes.
const DATA_MAX: usize = 1 << 20;

const HELP: &[u8] =
    b"virgo_cloud_open(PATH)                     a handle; made if it is not there\r\n\
virgo_cloud_read(HANDLE,x,COUNT,POSITION)  the bytes, and a line's end\r\n\
virgo_cloud_write(HANDLE,DATA,COUNT,0)     appends; how many bytes\r\n\
virgo_cloud_close(HANDLE)                  0\r\n\
virgo_cloud_get(HANDLE,COUNT,POSITION)     DATA and the count, the bytes, and a line's end\r\n\
virgo_cloud_put(HANDLE,COUNT)              then so many bytes and a line's end: appends them\r\n\
quit\r\n";

/// A client's own.
#[pin_data]
struct Shared {
    export: Arc<Export>,
    user: User,
    #[pin]
    handles: Handles<Local>,
}

/// Bytes that a client has announced.
struct Put {
    handle: u64,
    count: usize,
    data: KVVec<u8>,
    _room: RoomTicket,
}

/// A client that speaks in lines.
pub(crate) struct Text {
    shared: Arc<Shared>,
    put: Option<Put>,
}

/// What a worker does.
enum Work {
    Line(KVVec<u8>),
    Put(Put),
}

impl Text {
    /// A client that has said nothing yet.
    pub(crate) fn new(export: Arc<Export>, user: User) -> Result<Self> {
        let table = export.clone();
        let shared = Arc::pin_init(
            pin_init!(Shared {
                export,
                user,
                handles <- Handles::new(table),
            }),
            GFP_KERNEL,
        )?;
        Ok(Text { shared, put: None })
    }

    /// Takes a line, or bytes that were announced.
    pub(crate) fn input(
        &mut self,
        jobs: &Arc<OwnedQueue>,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Door>,
    ) -> Consumed {
        if let Some(put) = self.put.as_mut() {
            let missing = put.count.saturating_sub(put.data.len());
            if missing > 0 {
                let (front, _) = data.split_at_checked(missing).unwrap_or((data, &[]));
                // Within what was reserved.
                if put.data.extend_from_slice(front, GFP_KERNEL).is_err() {
                    return Consumed::close(data.len());
                }
                // `done` goes on with what follows, `take` waits for more.
                return if front.len() < data.len() {
                    Consumed::done(front.len())
                } else {
                    Consumed::take(front.len(), 0)
                };
            }
            let taken = match data {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [b'\r'] => return Consumed::more(),
                _ => {
                    tell(out, "EPROTO", "no line's end where the bytes end");
                    return Consumed::close(data.len());
                }
            };
            return match self.put.take() {
                Some(put) => self.start(jobs, Work::Put(put), taken, out, turn),
                None => Consumed::done(taken),
            };
        }
        let (text, taken) = match line(data, LINE_MAX) {
            Line::Whole { text, taken } => (text, taken),
            Line::Part => return Consumed::more(),
            Line::TooLong => {
                tell(out, "EMSGSIZE", "a line has 8192 bytes at most");
                return Consumed::close(data.len());
            }
        };
        // Relaxed: a statistic.
        self.shared.export.counters.lines.fetch_add(1, Relaxed);
        if text.trim_ascii().is_empty() {
            return Consumed::done(taken);
        }
        match parse_order(text) {
            Ok(Order::Quit) => Consumed::close(taken),
            Ok(Order::Help) => {
                out.push(HELP);
                Consumed::done(taken)
            }
            Ok(Order::Put { handle, count }) => {
                match self.announce(handle, count) {
                    Ok(put) => self.put = Some(put),
                    Err(error) => {
                        // The bytes that follow would be taken for lines.
                        fail(out, error);
                        return Consumed::close(data.len());
                    }
                }
                Consumed::done(taken)
            }
            Ok(_) => {
                let mut own = KVVec::new();
                match own.extend_from_slice(text, GFP_KERNEL) {
                    Ok(()) => self.start(jobs, Work::Line(own), taken, out, turn),
                    Err(_) => {
                        fail(out, ENOMEM);
                        Consumed::done(taken)
                    }
                }
            }
            Err(why) => {
                let (name, words) = match why {
                    OrderError::Unknown => ("ENOSYS", "no such command; try help"),
                    OrderError::Arguments => ("EINVAL", "not the command's arguments; try help"),
                    OrderError::Number => ("EINVAL", "an argument is no number; try help"),
                };
                tell(out, name, words);
                Consumed::done(taken)
            }
        }
    }

    fn announce(&self, handle: u64, count: u64) -> Result<Put> {
        let count = usize::try_from(count).map_err(|_| errno::emsgsize())?;
        if count > DATA_MAX {
            return Err(errno::emsgsize());
        }
        let room = self.shared.export.room(count)?;
        Ok(Put {
            handle,
            count,
            data: KVVec::with_capacity(count, GFP_KERNEL)?,
            _room: room,
        })
    }

    /// Has it done in a worker; the next line is looked at when it is answered.
    fn start(
        &self,
        jobs: &Arc<OwnedQueue>,
        work: Work,
        taken: usize,
        out: &mut Reply,
        turn: &Turn<'_, Door>,
    ) -> Consumed {
        let (shared, responder) = (self.shared.clone(), turn.responder());
        let spawned = jobs.spawn(move || {
            let answer = shared.user.credentials.run(|| shared.run(&work));
            let answer = answer.or_else(|error| {
                let mut text = Answer::new();
                text.fail(error);
                text.finish()
            });
            drop(work);
            // Without memory for an answer there is none, and the connection goes on.
            let _ = answer.and_then(|answer| responder.answer(answer));
        });
        match spawned {
            Ok(()) => Consumed::pause(taken),
            Err(error) => {
                fail(out, error);
                Consumed::done(taken)
            }
        }
    }
}

impl Shared {
    fn run(&self, work: &Work) -> Result<KVVec<u8>> {
        let mut answer = Answer::new();
        match work {
            Work::Put(put) => answer.number(self.append(put.handle, &put.data)?),
            Work::Line(text) => match parse_order(text) {
                Ok(Order::Open { path }) => answer.number(self.open(path)?),
                Ok(Order::Close { handle }) => {
                    self.handles.close(handle)?;
                    answer.number(0);
                }
                Ok(Order::Write {
                    handle,
                    data,
                    count,
                }) => {
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    let data = data.get(..count).unwrap_or(data);
                    answer.number(self.append(handle, data)?);
                }
                Ok(Order::Read {
                    handle,
                    count,
                    position,
                }) => {
                    let data = self.read(handle, count, position)?;
                    answer.bytes(&data);
                    answer.bytes(b"\r\n");
                }
                Ok(Order::Get {
                    handle,
                    count,
                    position,
                }) => {
                    let data = self.read(handle, count, position)?;
                    answer.bytes(b"DATA ");
                    answer.number(data.len() as u64); // CAST: usize fits u64.
                    answer.bytes(&data);
                    answer.bytes(b"\r\n");
                }
                // The others need no worker.
                _ => return Err(EINVAL),
            },
        }
        answer.finish()
    }

    /// Opens to read and append, as the original did.
    fn open(&self, path: &[u8]) -> Result<u64> {
        let export = &self.export;
        // The original's names were absolute: those of files below the root still work.
        let path = path
            .strip_prefix(export.name.as_slice())
            .filter(|rest| rest.first() == Some(&b'/'))
            .unwrap_or(path);
        let (folder, name) = export.find_parent(path)?;
        let root = &export.root;
        let (place, file) = if self.user.read_only {
            let place = folder.walk(root, name)?;
            let file = place.open(root, 0)?;
            (place, file)
        } else {
            // CAST: small flags.
            let flags = (open::RDWR | open::APPEND) as i32;
            folder.create(root, name, flags, 0o644)?
        };
        event::log(Module::Cloudfs, b"open", path, EventId::NONE);
        let opened = Local {
            place,
            file,
            writable: !self.user.read_only,
        };
        self.handles.insert(0, opened)
    }

    fn append(&self, handle: u64, data: &[u8]) -> Result<u64> {
        let opened = self.handles.get(handle)?;
        if !opened.writable {
            return Err(EROFS);
        }
        let written = opened.file.write_at(data, 0)? as u64; // CAST: usize fits u64.
        let counter = &self.export.counters.written;
        counter.fetch_add(written, Relaxed);
        Ok(written)
    }

    fn read(&self, handle: u64, count: u64, position: u64) -> Result<KVVec<u8>> {
        let count = usize::try_from(count).map_err(|_| errno::emsgsize())?;
        if count > DATA_MAX {
            return Err(errno::emsgsize());
        }
        let opened = self.handles.get(handle)?;
        let _room = self.export.room(count)?;
        let mut data = KVVec::with_capacity(count, GFP_KERNEL)?;
        let read = opened.file.read_to(&mut data, count, position)?;
        let counter = &self.export.counters.read;
        counter.fetch_add(read as u64, Relaxed); // CAST: usize fits u64.
        Ok(data)
    }
}

/// What an error is told with, beside its name.
fn words(name: &str) -> &'static str {
    match name {
        "EPERM" | "EACCES" => "the client's user may not",
        "ENOENT" => "there is no such file",
        "EBADF" => "there is no such handle",
        "ESTALE" => "the handle's file has been closed, or has left the served folder",
        "EROFS" => "nothing may be changed here",
        "ENFILE" => "all clients together have too many handles (max_handles)",
        "EMFILE" => "this client has too many handles (max_client_handles)",
        "ENOBUFS" => "too many bytes are under way (max_bytes)",
        "EMSGSIZE" => "1048576 bytes at most",
        "ELOOP" => "symbolic links are not followed",
        "ENXIO" | "EISDIR" => "it is no regular file",
        "ENOSPC" | "EDQUOT" => "the disk is full",
        "ENOTDIR" => "a part of the path is no folder",
        _ => "it failed",
    }
}

/// Appends an error's line.
fn tell(out: &mut Reply, name: &str, words: &str) {
    // A full reply ends the connection anyway.
    let _ = write!(out, "ERR {name} {words}\r\n");
}

fn fail(out: &mut Reply, error: Error) {
    let name = errno::name(error);
    tell(out, name, words(name));
}

/// An answer as it grows.
struct Answer {
    bytes: KVVec<u8>,
    failed: Result,
}

impl Answer {
    fn new() -> Self {
        Answer {
            bytes: KVVec::new(),
            failed: Ok(()),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.bytes.extend_from_slice(bytes, GFP_KERNEL) {
            self.failed = Err(error.into());
        }
    }

    /// A number and a line's end.
    fn number(&mut self, number: u64) {
        // `failed` tells.
        let _ = write!(self, "{number}\r\n");
    }

    fn fail(&mut self, error: Error) {
        let name = errno::name(error);
        // As above.
        let _ = write!(self, "ERR {name} {}\r\n", words(name));
    }

    fn finish(self) -> Result<KVVec<u8>> {
        self.failed.map(|()| self.bytes)
    }
}

impl Write for Answer {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
