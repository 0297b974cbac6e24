// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the memory pools of a cluster's nodes ask one another for: doc/mempool.md has the table.
//!
//! Numbers have 64 bits and are little-endian, a handle is two of them; a value, a key or bytes are
//! the rest. Nothing is copied.

use super::uapi::{Vuid, MEM_PUT_CAS};

/// The longest key.
pub const KEY_MAX: usize = 250;

const MALLOC: u32 = 1;
const SET: u32 = 2;
const GET: u32 = 3;
const FREE: u32 = 4;
const PUT: u32 = 5;
const TAKE: u32 = 6;
const DROP: u32 = 7;
const COUNT: u32 = 8;
const LOCATE: u32 = 9;

const DOWN: u64 = 1;
const MAKE: u64 = 2;

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// There is no such operation.
    Operation,
    /// They are not of its form.
    Form,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Make a block of this length.
    Malloc(u64),
    /// Write into a block.
    Set {
        /// The block.
        vuid: Vuid,
        /// Where.
        offset: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// Read from a block.
    Get {
        /// The block.
        vuid: Vuid,
        /// Where.
        offset: u64,
        /// How much at most.
        length: u64,
    },
    /// Give a block back, and say what its parts were.
    Free(Vuid),
    /// Store a value.
    Put {
        /// A number of `MEM_PUT_*`.
        mode: u32,
        /// The user's own flags.
        flags: u32,
        /// Seconds, as the client says.
        exptime: i64,
        /// With `MEM_PUT_CAS`: only if this is the value's number.
        cas: u64,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Fetch a value.
    Take {
        /// Not more of it than this.
        capacity: u64,
        /// Give it this time.
        touch: Option<i64>,
        /// The key.
        key: &'a [u8],
    },
    /// Delete a value.
    Drop {
        /// Only if this is its number; 0: whichever.
        cas: u64,
        /// The key.
        key: &'a [u8],
    },
    /// Add to a number.
    Count {
        /// Take away instead.
        down: bool,
        /// How much.
        delta: u64,
        /// If it is not there: make it of this, with this time.
        initial: Option<(u64, i64)>,
        /// The key.
        key: &'a [u8],
    },
    /// Say a block's length and parts.
    Locate(Vuid),
}

/// Takes bytes apart from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A time: a number with a sign.
    fn time(&mut self) -> Option<i64> {
        // CAST: the bits of the time.
        Some(self.number()? as i64)
    }

    fn vuid(&mut self) -> Option<Vuid> {
        let word = [self.number()?, self.number()?];
        Some(Vuid { word })
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        if length == 0 || length > KEY_MAX {
            return None;
        }
        let (key, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(key)
    }

    /// `value`, if nothing is left.
    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// Understands the request of an operation.
pub fn parse(operation: u32, input: &[u8]) -> Result<Request<'_>, Wrong> {
    if !(MALLOC..=LOCATE).contains(&operation) {
        return Err(Wrong::Operation);
    }
    form(operation, input).ok_or(Wrong::Form)
}

fn form(operation: u32, input: &[u8]) -> Option<Request<'_>> {
    let mut reader = Reader(input);
    let request = match operation {
        MALLOC => Request::Malloc(reader.number()?),
        SET => {
            let (vuid, offset) = (reader.vuid()?, reader.number()?);
            let bytes = reader.0;
            return Some(Request::Set {
                vuid,
                offset,
                bytes,
            });
        }
        GET => Request::Get {
            vuid: reader.vuid()?,
            offset: reader.number()?,
            length: reader.number()?,
        },
        FREE => Request::Free(reader.vuid()?),
        PUT => {
            let (mode, flags) = (reader.small()?, reader.small()?);
            let (exptime, cas) = (reader.time()?, reader.number()?);
            let key = reader.key()?;
            let value = reader.0;
            return (mode <= MEM_PUT_CAS).then_some(Request::Put {
                mode,
                flags,
                exptime,
                cas,
                key,
                value,
            });
        }
        TAKE => {
            let (capacity, touch, exptime) = (reader.number()?, reader.number()?, reader.time()?);
            if touch > 1 || (touch == 0 && exptime != 0) {
                return None;
            }
            Request::Take {
                capacity,
                touch: (touch == 1).then_some(exptime),
                key: reader.key()?,
            }
        }
        DROP => Request::Drop {
            cas: reader.number()?,
            key: reader.key()?,
        },
        COUNT => {
            let (flags, delta) = (reader.number()?, reader.number()?);
            let (first, exptime) = (reader.number()?, reader.time()?);
            let make = flags & MAKE != 0;
            if flags & !(DOWN | MAKE) != 0 || (!make && (first, exptime) != (0, 0)) {
                return None;
            }
            Request::Count {
                down: flags & DOWN != 0,
                delta,
                initial: make.then_some((first, exptime)),
                key: reader.key()?,
            }
        }
        LOCATE => Request::Locate(reader.vuid()?),
        _ => return None,
    };
    reader.end(request)
}

/// What takes the parts of a request or an answer, in their order.
pub trait Sink {
    /// Why it does not take one.
    type Error;

    /// Appends these bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Appends a number.
    fn number(&mut self, value: u64) -> Result<(), Self::Error> {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a time.
    fn time(&mut self, value: i64) -> Result<(), Self::Error> {
        // CAST: the bits of the time.
        self.number(value as u64)
    }

    /// Appends a handle.
    fn vuid(&mut self, vuid: &Vuid) -> Result<(), Self::Error> {
        self.number(vuid.word[0])?;
        self.number(vuid.word[1])
    }

    /// Appends a key.
    fn key(&mut self, key: &[u8]) -> Result<(), Self::Error> {
        // CAST: usize fits u64.
        self.number(key.len() as u64)?;
        self.bytes(key)
    }
}

impl Request<'_> {
    /// The operation.
    pub fn operation(&self) -> u32 {
        match self {
            Request::Malloc(_) => MALLOC,
            Request::Set { .. } => SET,
            Request::Get { .. } => GET,
            Request::Free(_) => FREE,
            Request::Put { .. } => PUT,
            Request::Take { .. } => TAKE,
            Request::Drop { .. } => DROP,
            Request::Count { .. } => COUNT,
            Request::Locate(_) => LOCATE,
        }
    }

    /// Bytes of the request; a little more for some.
    pub fn size(&self) -> usize {
        const HEAD: usize = 48;
        let (key, bytes): (&[u8], &[u8]) = match self {
            Request::Set { bytes, .. } => (&[], bytes),
            Request::Put { key, value, .. } => (key, value),
            Request::Take { key, .. } | Request::Drop { key, .. } | Request::Count { key, .. } => {
                (key, &[])
            }
            _ => (&[], &[]),
        };
        HEAD.saturating_add(key.len()).saturating_add(bytes.len())
    }

    /// Writes it.
    pub fn write<S: Sink>(&self, to: &mut S) -> Result<(), S::Error> {
        match self {
            Request::Malloc(length) => to.number(*length),
            Request::Set {
                vuid,
                offset,
                bytes,
            } => {
                to.vuid(vuid)?;
                to.number(*offset)?;
                to.bytes(bytes)
            }
            Request::Get {
                vuid,
                offset,
                length,
            } => {
                to.vuid(vuid)?;
                to.number(*offset)?;
                to.number(*length)
            }
            Request::Free(vuid) | Request::Locate(vuid) => to.vuid(vuid),
            Request::Put {
                mode,
                flags,
                exptime,
                cas,
                key,
                value,
            } => {
                to.number(u64::from(*mode))?;
                to.number(u64::from(*flags))?;
                to.time(*exptime)?;
                to.number(*cas)?;
                to.key(key)?;
                to.bytes(value)
            }
            Request::Take {
                capacity,
                touch,
                key,
            } => {
                to.number(*capacity)?;
                to.number(u64::from(touch.is_some()))?;
                to.time(touch.unwrap_or(0))?;
                to.key(key)
            }
            Request::Drop { cas, key } => {
                to.number(*cas)?;
                to.key(key)
            }
            Request::Count {
                down,
                delta,
                initial,
                key,
            } => {
                let make = if initial.is_some() { MAKE } else { 0 };
                let (first, exptime) = initial.unwrap_or((0, 0));
                to.number(u64::from(*down) | make)?;
                to.number(*delta)?;
                to.number(first)?;
                to.time(exptime)?;
                to.key(key)
            }
        }
    }
}

/// The answer to [`Request::Malloc`].
pub fn handle(answer: &[u8]) -> Option<Vuid> {
    let mut reader = Reader(answer);
    let vuid = reader.vuid()?;
    reader.end(vuid)
}

/// The answer to [`Request::Put`]: the value's number.
pub fn number(answer: &[u8]) -> Option<u64> {
    let mut reader = Reader(answer);
    let number = reader.number()?;
    reader.end(number)
}

/// The answer to [`Request::Count`]: what it counts now, and the value's number.
pub fn counted(answer: &[u8]) -> Option<(u64, u64)> {
    let mut reader = Reader(answer);
    let both = (reader.number()?, reader.number()?);
    reader.end(both)
}

/// The answer to [`Request::Locate`] and [`Request::Free`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map<'a> {
    /// Bytes of the block.
    pub length: u64,
    /// Bytes of a chunk; 0: the block is one piece.
    pub chunk: u32,
    /// Its parts, if it has chunks: their handles.
    parts: &'a [u8],
}

impl<'a> Map<'a> {
    /// Understands the answer. A block in chunks has parts, another none.
    pub fn parse(answer: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(answer);
        let (length, chunk) = (reader.number()?, reader.small()?);
        let parts = reader.0;
        let fits = parts.len() % 16 == 0 && parts.is_empty() == (chunk == 0);
        fits.then_some(Map {
            length,
            chunk,
            parts,
        })
    }

    /// The handles of the parts.
    pub fn parts(&self) -> impl Iterator<Item = Vuid> + 'a {
        let mut reader = Reader(self.parts);
        core::iter::from_fn(move || reader.vuid())
    }
}

/// The answer to [`Request::Take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken<'a> {
    /// Bytes of the value.
    pub length: u32,
    /// The user's own flags.
    pub flags: u32,
    /// Seconds that it has left; -1: for ever.
    pub left: i64,
    /// Its number.
    pub cas: u64,
    /// The value; `None` where it is longer than was asked for.
    pub value: Option<&'a [u8]>,
}

impl<'a> Taken<'a> {
    /// Understands the answer to a request for at most `capacity` bytes.
    pub fn parse(answer: &'a [u8], capacity: usize) -> Option<Self> {
        let mut reader = Reader(answer);
        let (length, flags) = (reader.small()?, reader.small()?);
        let (left, cas) = (reader.time()?, reader.number()?);
        // CAST: u32 fits usize.
        let fits = length as usize <= capacity;
        let value = reader.0;
        let whole = if fits {
            value.len() == length as usize
        } else {
            value.is_empty()
        };
        whole.then_some(Taken {
            length,
            flags,
            left,
            cas,
            value: fits.then_some(value),
        })
    }

    /// Writes the answer.
    pub fn write<S: Sink>(&self, to: &mut S) -> Result<(), S::Error> {
        to.number(u64::from(self.length))?;
        to.number(u64::from(self.flags))?;
        to.time(self.left)?;
        to.number(self.cas)?;
        to.bytes(self.value.unwrap_or(&[]))
    }
}
