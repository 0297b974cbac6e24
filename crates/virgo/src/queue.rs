// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `/dev/virgo-queue`: requests that wait their turn.

use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::programs::Ran;
use crate::sys;
use crate::Result;

/// The most bytes of a request that any module takes.
const LARGEST: usize = 16 << 20;

/// Room for what is mostly short; clearing more would cost as much as the call. Where it is not
/// enough the kernel says how much is, and nothing is taken.
const SHORT: usize = 4096;

/// How a request is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The smaller, the sooner.
    pub pri: u32,
    /// Until it is ready; whole seconds.
    pub delay: Duration,
    /// What who takes it has; whole seconds, at least one.
    pub ttr: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            pri: 1024,
            delay: Duration::ZERO,
            ttr: Duration::from_secs(60),
        }
    }
}

/// A request that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// Its number.
    pub id: u64,
    /// What was put.
    pub body: Vec<u8>,
    /// Its priority.
    pub pri: u32,
    /// How often it has been taken, this time counted: with more than 1, somebody may have dealt
    /// with it before.
    pub reserves: u32,
}

/// What a request is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It can be taken.
    Ready,
    /// It will be ready later.
    Delayed,
    /// It was put aside.
    Buried,
    /// Somebody has taken it.
    Reserved,
}

impl State {
    /// The protocol's word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Delayed => "delayed",
            State::Buried => "buried",
            State::Reserved => "reserved",
        }
    }
}

/// A request, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// Its number.
    pub id: u64,
    /// Its tube.
    pub tube: String,
    /// What it is doing.
    pub state: State,
    /// Its priority.
    pub pri: u32,
    /// How long it has been there.
    pub age: Duration,
    /// How often it was taken.
    pub reserves: u32,
    /// What was put.
    pub body: Vec<u8>,
}

/// How a tube's requests are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// As the module's setting says.
    #[default]
    Default,
    /// Not at all.
    None,
    /// In the log, but nobody waits for the disk.
    Later,
    /// On the disk before they are acknowledged.
    Always,
}

/// What is set for one tube.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The most requests it holds; 0: the module's limit.
    pub limit: u32,
    /// A request that was taken so often and comes back goes to `NAME.dead`; 0: never.
    pub tries: u32,
    /// How its requests are kept.
    pub keep: Keep,
    /// The tubes that get a copy of each request; 16 at most.
    pub copies: Vec<String>,
}

/// An answer, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Here it is.
    Here(Vec<u8>),
    /// The queue had a program run, and it has ended, or could not be run.
    Program(Box<Ran>),
    /// The queue had another module serve it, and that failed: the errno, and what there is to say.
    Failed(Errno, Vec<u8>),
    /// The request waits, or is being dealt with.
    NotYet,
    /// There is none, and there will be none.
    Never,
}

/// The queue, or a tube, in numbers; the header says what each is.
pub type Stat = uapi::QueueStat;

fn action(what: impl Into<String>) -> Action {
    Action::Queue(what.into())
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn tube_name(tube: &str, what: impl FnOnce() -> Action) -> Result<uapi::QueueName> {
    uapi::QueueName::new(tube.as_bytes()).ok_or_else(|| Error::new(what(), Errno::INVAL))
}

/// `/dev/virgo-queue`, opened. What is taken through it goes back when it is dropped.
///
/// ```no_run
/// use virgo::queue::{Options, Queue};
///
/// # fn main() -> Result<(), virgo::Error> {
/// let queue = Queue::open()?;
/// queue.put("mail", b"to: somebody", Options::default())?;
/// while let Some(request) = queue.take("mail", None)? {
///     println!("{}: {} bytes", request.id, request.body.len());
///     queue.ack(request.id)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Queue {
    fd: OwnedFd,
}

impl Queue {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        let path = uapi::QUEUE_DEVICE;
        let fd = sys::open_device(path).map_err(|errno| Error::new(Action::Open(path), errno))?;
        Ok(Queue { fd })
    }

    /// Puts a request; its number. With fsync=always it is on the disk then.
    pub fn put(&self, tube: &str, body: &[u8], options: Options) -> Result<u64> {
        let what = || action(format!("put a request into {tube}"));
        let mut put = uapi::QueuePut {
            size: size_of::<uapi::QueuePut>() as u32,
            pri: options.pri,
            delay: seconds(options.delay),
            ttr: seconds(options.ttr),
            tube: tube_name(tube, what)?,
            ..Default::default()
        };
        sys::queue_put(&self.fd, &mut put, body).map_err(|errno| Error::new(what(), errno))?;
        Ok(put.id)
    }

    /// Takes the next request of a tube. `None` if there is none within `wait` (no `wait`: at
    /// once).
    pub fn take(&self, tube: &str, wait: Option<Duration>) -> Result<Option<Taken>> {
        let what = || action(format!("take a request from {tube}"));
        let mut room = vec![0; SHORT];
        loop {
            let wait_ms = wait.map_or(0, |wait| {
                u32::try_from(wait.as_millis()).unwrap_or(uapi::QUEUE_FOREVER)
            });
            let mut take = uapi::QueueTake {
                size: size_of::<uapi::QueueTake>() as u32,
                timeout_ms: wait_ms,
                tube: tube_name(tube, what)?,
                ..Default::default()
            };
            match sys::queue_take(&self.fd, &mut take, &mut room) {
                Ok(()) => {
                    room.truncate(take.length as usize);
                    return Ok(Some(Taken {
                        id: take.id,
                        body: room,
                        pri: take.pri,
                        reserves: take.reserves,
                    }));
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::MSGSIZE) if (take.length as usize) <= LARGEST => {
                    room.resize(take.length as usize, 0);
                }
                Err(errno) => return Err(Error::new(what(), errno)),
            }
        }
    }

    fn done(&self, id: u64, verb: &str, done: uapi::QueueDone) -> Result<()> {
        let mut done = uapi::QueueDone {
            size: size_of::<uapi::QueueDone>() as u32,
            id,
            ..done
        };
        sys::call::<{ uapi::QUEUE_IOC_DONE }, _>(&self.fd, &mut done)
            .map_err(|errno| Error::new(action(format!("{verb} request {id}")), errno))
    }

    /// It is done with. Also for one that nobody has taken.
    pub fn ack(&self, id: u64) -> Result<()> {
        let action = uapi::QUEUE_ACK;
        let done = uapi::QueueDone {
            action,
            ..Default::default()
        };
        self.done(id, "acknowledge", done)
    }

    /// It goes back.
    pub fn release(&self, id: u64, pri: u32, delay: Duration) -> Result<()> {
        let done = uapi::QueueDone {
            action: uapi::QUEUE_RELEASE,
            pri,
            delay: seconds(delay),
            ..Default::default()
        };
        self.done(id, "release", done)
    }

    /// It is put aside, until it is kicked.
    pub fn bury(&self, id: u64, pri: u32) -> Result<()> {
        let done = uapi::QueueDone {
            action: uapi::QUEUE_BURY,
            pri,
            ..Default::default()
        };
        self.done(id, "bury", done)
    }

    /// All of its time again.
    pub fn touch(&self, id: u64) -> Result<()> {
        let done = uapi::QueueDone {
            action: uapi::QUEUE_TOUCH,
            ..Default::default()
        };
        self.done(id, "touch", done)
    }

    /// A buried or delayed one becomes ready.
    pub fn kick(&self, id: u64) -> Result<()> {
        let done = uapi::QueueDone {
            action: uapi::QUEUE_KICK,
            ..Default::default()
        };
        self.done(id, "kick", done)
    }

    /// The request with the next number after `id`, of this tube or of any. `None`: there is none.
    pub fn next(&self, id: u64, tube: Option<&str>) -> Result<Option<Request>> {
        let what = || action("look at the requests");
        let mut room = vec![0; SHORT];
        loop {
            let mut peek = uapi::QueuePeek {
                size: size_of::<uapi::QueuePeek>() as u32,
                flags: uapi::QUEUE_PEEK_NEXT,
                id,
                tube: tube_name(tube.unwrap_or(""), what)?,
                ..Default::default()
            };
            match sys::queue_peek(&self.fd, &mut peek, &mut room) {
                Ok(()) if (peek.length as usize) > room.len() => {
                    room.resize((peek.length as usize).min(LARGEST), 0);
                }
                Ok(()) => {
                    room.truncate(peek.length as usize);
                    let name = peek.tube.name().unwrap_or(b"");
                    return Ok(Some(Request {
                        id: peek.id,
                        tube: String::from_utf8_lossy(name).into_owned(),
                        state: match peek.state {
                            uapi::QUEUE_DELAYED => State::Delayed,
                            uapi::QUEUE_BURIED => State::Buried,
                            uapi::QUEUE_RESERVED => State::Reserved,
                            _ => State::Ready,
                        },
                        pri: peek.pri,
                        age: Duration::from_nanos(peek.age_ns),
                        reserves: peek.reserves,
                        body: room,
                    }));
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(Error::new(what(), errno)),
            }
        }
    }

    /// Numbers of a tube, or of all.
    pub fn stat(&self, tube: Option<&str>) -> Result<Stat> {
        let what = || action("ask for the queue's numbers");
        let mut stat = uapi::QueueStat {
            size: size_of::<uapi::QueueStat>() as u32,
            tube: tube_name(tube.unwrap_or(""), what)?,
            ..Default::default()
        };
        sys::call::<{ uapi::QUEUE_IOC_STAT }, _>(&self.fd, &mut stat)
            .map_err(|errno| Error::new(what(), errno))?;
        Ok(stat)
    }

    /// The tubes' names.
    pub fn tubes(&self) -> Result<Vec<String>> {
        let mut room = vec![0; SHORT];
        loop {
            let mut list = uapi::QueueList {
                size: size_of::<uapi::QueueList>() as u32,
                ..Default::default()
            };
            sys::queue_list(&self.fd, &mut list, &mut room)
                .map_err(|errno| Error::new(action("list the tubes"), errno))?;
            let length = list.length as usize;
            if length <= room.len() {
                room.truncate(length);
                let names = room
                    .split(|byte| *byte == 0)
                    .filter(|name| !name.is_empty());
                return Ok(names
                    .map(|name| String::from_utf8_lossy(name).into_owned())
                    .collect());
            }
            room.resize(length, 0);
        }
    }

    /// What is set for a tube; `None` if it is not there.
    pub fn settings(&self, tube: &str) -> Result<Option<Settings>> {
        let what = || action(format!("ask for the settings of {tube}"));
        let mut room = vec![0; SHORT];
        let mut asked = uapi::QueueTube {
            size: size_of::<uapi::QueueTube>() as u32,
            tube: tube_name(tube, what)?,
            ..Default::default()
        };
        match sys::queue_tube(&self.fd, &mut asked, &mut room) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::new(what(), errno)),
        }
        room.truncate(asked.length as usize);
        let names = room
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        Ok(Some(Settings {
            limit: asked.limit,
            tries: asked.tries,
            keep: match asked.keep {
                uapi::QUEUE_KEEP_NONE => Keep::None,
                uapi::QUEUE_KEEP_LATER => Keep::Later,
                uapi::QUEUE_KEEP_ALWAYS => Keep::Always,
                _ => Keep::Default,
            },
            copies: names
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
        }))
    }

    /// Sets what is set for a tube. The default of [`Settings`] is nothing.
    pub fn set(&self, tube: &str, settings: &Settings) -> Result<()> {
        let what = || action(format!("change the settings of {tube}"));
        let mut copies = Vec::new();
        for name in &settings.copies {
            copies.extend_from_slice(name.as_bytes());
            copies.push(0);
        }
        let mut given = uapi::QueueTube {
            size: size_of::<uapi::QueueTube>() as u32,
            limit: settings.limit,
            tries: settings.tries,
            keep: match settings.keep {
                Keep::Default => uapi::QUEUE_KEEP_DEFAULT,
                Keep::None => uapi::QUEUE_KEEP_NONE,
                Keep::Later => uapi::QUEUE_KEEP_LATER,
                Keep::Always => uapi::QUEUE_KEEP_ALWAYS,
            },
            tube: tube_name(tube, what)?,
            ..Default::default()
        };
        sys::queue_tube_set(&self.fd, &mut given, &copies)
            .map_err(|errno| Error::new(what(), errno))
    }

    /// Answers a request that was taken through this, and is done with it.
    pub fn reply(&self, id: u64, body: &[u8]) -> Result<()> {
        let mut reply = uapi::QueueReply {
            size: size_of::<uapi::QueueReply>() as u32,
            id,
            ..Default::default()
        };
        sys::queue_reply(&self.fd, &mut reply, body)
            .map_err(|errno| Error::new(action(format!("answer request {id}")), errno))
    }

    /// The answer to a request.
    pub fn result(&self, id: u64) -> Result<Answer> {
        let what = || action(format!("fetch the answer to request {id}"));
        let mut room = vec![0; SHORT];
        loop {
            let mut result = uapi::QueueResult {
                size: size_of::<uapi::QueueResult>() as u32,
                id,
                ..Default::default()
            };
            match sys::queue_result(&self.fd, &mut result, &mut room) {
                Ok(()) if (result.length as usize) > room.len() => {
                    room.resize((result.length as usize).min(LARGEST), 0);
                }
                Ok(()) => {
                    room.truncate(result.length as usize);
                    return Ok(match i32::try_from(result.error) {
                        Ok(errno @ 1..) => Answer::Failed(Errno::from_raw_os_error(errno), room),
                        _ if result.kind == uapi::QUEUE_ANSWER_PROGRAM => {
                            let ran = Ran::parse(&room);
                            Answer::Program(Box::new(
                                ran.ok_or_else(|| Error::new(what(), Errno::PROTO))?,
                            ))
                        }
                        _ => Answer::Here(room),
                    });
                }
                Err(Errno::AGAIN) => return Ok(Answer::NotYet),
                Err(Errno::NOENT) => return Ok(Answer::Never),
                Err(errno) => return Err(Error::new(what(), errno)),
            }
        }
    }

    /// Takes in no more requests, or does again; `None` only asks. How it is now.
    pub fn drain(&self, draining: Option<bool>) -> Result<bool> {
        let mut drain = uapi::QueueDrain {
            size: size_of::<uapi::QueueDrain>() as u32,
            flags: draining.map_or(0, |_| uapi::QUEUE_DRAIN_SET),
            draining: u32::from(draining.unwrap_or(false)),
            ..Default::default()
        };
        sys::call::<{ uapi::QUEUE_IOC_DRAIN }, _>(&self.fd, &mut drain)
            .map_err(|errno| Error::new(action("drain the queue"), errno))?;
        Ok(drain.draining == 1)
    }
}

impl AsFd for Queue {
    /// To wait on with other descriptors: readable while the tube that was last taken from has a
    /// ready request.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
