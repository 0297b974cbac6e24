// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The records of EventNet's journal, which its text files are made from.
//!
//! A journal is a row of records, little-endian, each on a multiple of eight bytes. Their numbers
//! grow: a record with a number that is not greater than the last one's is left over from a write
//! that failed, and is passed over, as is one that does not check out.
//!
//! ```text
//!  0  u32  "VEV1"                                   16  u64  number, greater than the last one's
//!  4  u32  bytes of the content                     24  u64  stamp of the hybrid logical clock
//!  8  u32  CRC-32C of the first two words and       32  u64  number in the journal that it was
//!          of bytes 12 on                                    copied from; 0: it is this node's own
//! 40  u32  node
//! 12  u8   kind, u8 module, u16 zero                44  u32  zero
//!                                                   48  the content, zeros up to a multiple of 8
//! ```

use core::fmt;

/// First word of a record.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VEV1");
/// Bytes in front of a record's content.
pub const HEAD: usize = 48;
/// The most bytes of a record's content.
pub const MAX_CONTENT: usize = 16384;
/// Version of the contents.
pub const VERSION: u32 = 1;

/// Which event: its stamp and its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Stamp; 0: none.
    pub stamp: u64,
    /// The node's number.
    pub node: u32,
}

/// As it is named in the text files.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{:016x}.{:08x}", self.stamp, self.node)
    }
}

impl Id {
    /// From a name as it is in the text files.
    pub fn parse(name: &[u8]) -> Option<Id> {
        let rest = name.strip_prefix(b"e")?;
        let (stamp, node) = rest.split_at_checked(16)?;
        let node = node.strip_prefix(b".")?;
        if node.len() != 8 {
            return None;
        }
        let hex = |text: &[u8]| {
            text.iter().try_fold(0_u64, |sum, byte| {
                let digit = match byte {
                    b'0'..=b'9' => byte.wrapping_sub(b'0'),
                    b'a'..=b'f' => byte.wrapping_sub(b'a').wrapping_add(10),
                    _ => return None,
                };
                Some(sum.wrapping_shl(4) | u64::from(digit))
            })
        };
        Some(Id {
            stamp: hex(stamp)?,
            node: u32::try_from(hex(node)?).ok()?,
        })
    }
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// The first of a journal.
    Open {
        /// A number at random: another journal of the same node has another.
        incarnation: u64,
    },
    /// A module told of something.
    Event {
        /// What led to it.
        cause: Id,
        /// What happened: a word.
        kind: &'a [u8],
        /// To what.
        subject: &'a [u8],
    },
    /// Somebody named an event, or more of one that is known.
    Vertex {
        /// Its name.
        id: &'a [u8],
        /// Names, with commas between.
        partakers: &'a [u8],
        /// Likewise.
        conversation: &'a [u8],
    },
    /// Somebody said that one event led to another.
    Edge {
        /// The cause's name.
        from: &'a [u8],
        /// The effect's.
        to: &'a [u8],
    },
    /// Events of a module that nobody will know.
    Loss {
        /// How many.
        count: u64,
        /// The module's last event before them; none: stamp 0.
        after: Id,
        /// The first behind them, likewise.
        before: Id,
    },
    /// From here on records of this node are of this journal of it.
    Peer {
        /// See [`Content::Open`].
        incarnation: u64,
    },
}

const OPEN: u8 = 1;
const EVENT: u8 = 2;
const VERTEX: u8 = 3;
const EDGE: u8 = 4;
const LOSS: u8 = 5;
const PEER: u8 = 6;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in this journal.
    pub number: u64,
    /// When: the hybrid logical clock of its node.
    pub stamp: u64,
    /// Its place in the journal of another node that it was copied from; 0: it was not.
    pub origin: u64,
    /// Its node.
    pub node: u32,
    /// The module, as the uAPI numbers them.
    pub module: u8,
    /// What it is about.
    pub content: Content<'a>,
}

impl Record<'_> {
    /// Which event it is.
    pub const fn id(&self) -> Id {
        Id {
            stamp: self.stamp,
            node: self.node,
        }
    }
}

/// A checksum: starts with 0, goes on with what it gave.
pub type Checksum = fn(u32, &[u8]) -> u32;

fn put<'o>(out: &'o mut [u8], bytes: &[u8]) -> Option<&'o mut [u8]> {
    let (place, rest) = out.split_at_mut_checked(bytes.len())?;
    place.copy_from_slice(bytes);
    Some(rest)
}

fn put_text<'o>(out: &'o mut [u8], bytes: &[u8]) -> Option<&'o mut [u8]> {
    let length = u16::try_from(bytes.len()).ok()?;
    let out = put(out, &length.to_le_bytes())?;
    put(out, bytes)
}

fn put_id(out: &mut [u8], id: Id) -> Option<&mut [u8]> {
    let out = put(out, &id.stamp.to_le_bytes())?;
    put(out, &id.node.to_le_bytes())
}

/// Writes a record at the front of `out`: how many bytes it takes. `None` where it does not fit, or
/// a text is too long.
pub fn encode(record: &Record<'_>, checksum: Checksum, out: &mut [u8]) -> Option<usize> {
    let room = out.len();
    let (head, content) = out.split_at_mut_checked(HEAD)?;
    let before = content.len();
    let (kind, rest) = match record.content {
        Content::Open { incarnation } => {
            let rest = put(content, &VERSION.to_le_bytes())?;
            (OPEN, put(put(rest, &[0; 4])?, &incarnation.to_le_bytes())?)
        }
        Content::Event {
            cause,
            kind,
            subject,
        } => {
            let rest = put_text(put_id(content, cause)?, kind)?;
            (EVENT, put_text(rest, subject)?)
        }
        Content::Vertex {
            id,
            partakers,
            conversation,
        } => {
            let rest = put_text(put_text(content, id)?, partakers)?;
            (VERTEX, put_text(rest, conversation)?)
        }
        Content::Edge { from, to } => (EDGE, put_text(put_text(content, from)?, to)?),
        Content::Loss {
            count,
            after,
            before,
        } => {
            let rest = put(content, &count.to_le_bytes())?;
            (LOSS, put_id(put_id(rest, after)?, before)?)
        }
        Content::Peer { incarnation } => (PEER, put(content, &incarnation.to_le_bytes())?),
    };
    let length = before.saturating_sub(rest.len());
    if length > MAX_CONTENT {
        return None;
    }
    let size = size_of_record(length);
    if size > room {
        return None;
    }
    let padding = size.saturating_sub(HEAD).saturating_sub(length);
    rest.get_mut(..padding)?.fill(0);
    let head: &mut [u8] = put(head, &MAGIC.to_le_bytes())?;
    let head = put(head, &u32::try_from(length).ok()?.to_le_bytes())?;
    let head = put(head, &[0; 4])?;
    let head = put(head, &[kind, record.module, 0, 0])?;
    let head = put(head, &record.number.to_le_bytes())?;
    let head = put(head, &record.stamp.to_le_bytes())?;
    let head = put(head, &record.origin.to_le_bytes())?;
    let head = put(head, &record.node.to_le_bytes())?;
    put(head, &[0; 4])?;
    let sum = sum_of(out.get(..size)?, checksum)?;
    put(out.get_mut(8..)?, &sum.to_le_bytes())?;
    Some(size)
}

/// Bytes that a record with this many bytes of content takes.
pub const fn size_of_record(content: usize) -> usize {
    HEAD.saturating_add(content).saturating_add(7) & !7
}

fn sum_of(record: &[u8], checksum: Checksum) -> Option<u32> {
    let sum = checksum(0, record.get(..8)?);
    Some(checksum(sum, record.get(12..)?))
}

/// Reads from the front of bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        self.take(usize::from(length))
    }
    fn id(&mut self) -> Option<Id> {
        Some(Id {
            stamp: self.u64()?,
            node: self.u32()?,
        })
    }
}

/// What is at the front of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A record, and how many bytes it takes.
    Record(Record<'a>, usize),
    /// The beginning of one: so many bytes are needed.
    Part(usize),
    /// None.
    Bad,
}

/// Reads the record at the front of `bytes`.
pub fn decode(bytes: &[u8], checksum: Checksum) -> Found<'_> {
    let Some(head) = bytes.get(..HEAD) else {
        return Found::Part(HEAD);
    };
    let mut cursor = Cursor(head);
    if cursor.u32() != Some(MAGIC) {
        return Found::Bad;
    }
    let length = cursor.u32().and_then(|length| usize::try_from(length).ok());
    let Some(length) = length.filter(|length| *length <= MAX_CONTENT) else {
        return Found::Bad;
    };
    let size = size_of_record(length);
    let Some(whole) = bytes.get(..size) else {
        return Found::Part(size);
    };
    match checked(whole, length, checksum) {
        Some(record) => Found::Record(record, size),
        None => Found::Bad,
    }
}

fn checked(whole: &[u8], length: usize, checksum: Checksum) -> Option<Record<'_>> {
    let mut cursor = Cursor(whole.get(8..)?);
    if cursor.u32()? != sum_of(whole, checksum)? {
        return None;
    }
    let (kind, module) = match *cursor.take(4)? {
        [kind, module, 0, 0] => (kind, module),
        _ => return None,
    };
    let number = cursor.u64()?;
    let stamp = cursor.u64()?;
    let origin = cursor.u64()?;
    let node = cursor.u32()?;
    if cursor.u32()? != 0 {
        return None;
    }
    let mut c = Cursor(cursor.take(length)?);
    let content = match kind {
        OPEN => {
            if c.u32()? != VERSION || c.u32()? != 0 {
                return None;
            }
            Content::Open {
                incarnation: c.u64()?,
            }
        }
        EVENT => Content::Event {
            cause: c.id()?,
            kind: c.text()?,
            subject: c.text()?,
        },
        VERTEX => Content::Vertex {
            id: c.text()?,
            partakers: c.text()?,
            conversation: c.text()?,
        },
        EDGE => Content::Edge {
            from: c.text()?,
            to: c.text()?,
        },
        LOSS => Content::Loss {
            count: c.u64()?,
            after: c.id()?,
            before: c.id()?,
        },
        PEER => Content::Peer {
            incarnation: c.u64()?,
        },
        _ => return None,
    };
    if !c.0.is_empty() {
        return None;
    }
    Some(Record {
        number,
        stamp,
        origin,
        node,
        module,
        content,
    })
}

/// Reads a piece of a journal, record by record, past what is damaged.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    last: u64,
    checksum: Checksum,
    /// Bytes that were passed over.
    pub damaged: u64,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; `last` is the number of the record before them, 0 at the start.
    pub const fn new(bytes: &'a [u8], last: u64, checksum: Checksum) -> Self {
        Reader {
            bytes,
            at: 0,
            last,
            checksum,
            damaged: 0,
        }
    }

    /// Where the next record is looked for; what is behind it has not been read.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The number of the last record.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The next record; `None` where there is none, or only a part of one. A part that is damaged
    /// can look like the beginning of a long record: at the end of a file it is passed over by
    /// [`Reader::skip`].
    #[allow(clippy::should_implement_trait, reason = "it is read on after a None")]
    pub fn next(&mut self) -> Option<Record<'a>> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            match decode(rest, self.checksum) {
                Found::Record(record, size) if record.number > self.last => {
                    self.at = self.at.saturating_add(size);
                    self.last = record.number;
                    return Some(record);
                }
                Found::Part(_) => return None,
                Found::Record(..) | Found::Bad => self.skip(),
            }
        }
    }

    /// Passes over eight bytes.
    pub fn skip(&mut self) {
        self.at = self.at.saturating_add(8);
        self.damaged = self.damaged.saturating_add(8);
    }
}

/// The bytes of a kind or a subject as they are in a name of the text files: what separates names
/// there becomes `_`.
pub fn plain(byte: u8) -> u8 {
    match byte {
        b'-' | b'#' | b',' | b'(' | b')' | 0x7f | 0..=b' ' => b'_',
        _ => byte,
    }
}
