// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The records of the queue's log.
//!
//! A log is a row of files, each a row of records, little-endian, each on a multiple of eight
//! bytes. A record that does not check out is passed over: the next one is looked for at the
//! multiples of eight behind it, so that a flipped bit costs one record and no more.
//!
//! ```text
//!  0  u32  "VQR1"                 12  u8  kind      16  u64  number, one more than the last one's
//!  4  u32  bytes of the content   13  zeros         24  the content, and zeros up to a multiple
//!  8  u32  CRC-32C of what follows, the content's length and the first word
//! ```

/// First word of a record.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VQR1");
/// Bytes in front of a record's content.
pub const HEAD: usize = 24;
/// The most bytes of a record's content.
pub const MAX_CONTENT: usize = 17 << 20;
/// Version of the contents.
pub const VERSION: u32 = 1;

/// What a job is doing, as the log has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Waits to be taken.
    #[default]
    Ready = 0,
    /// Waits to be ready.
    Delayed = 1,
    /// Put aside.
    Buried = 2,
    /// With a worker.
    Reserved = 3,
}

impl Phase {
    const fn from_byte(byte: u8) -> Option<Phase> {
        Some(match byte {
            0 => Phase::Ready,
            1 => Phase::Delayed,
            2 => Phase::Buried,
            3 => Phase::Reserved,
            _ => return None,
        })
    }
}

/// What can change of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Which job.
    pub id: u64,
    /// When its delay is over, in nanoseconds since 1970.
    pub deadline: u64,
    /// Its priority.
    pub pri: u32,
    /// Its delay, in seconds.
    pub delay: u32,
    /// How often it was reserved, timed out, released, buried, kicked.
    pub counts: [u32; 5],
    /// What it is doing.
    pub phase: Phase,
}

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put<'a> {
    /// All that can change.
    pub change: Change,
    /// When it was put, in nanoseconds since 1970.
    pub created: u64,
    /// Its time, in seconds.
    pub ttr: u32,
    /// Its tube.
    pub tube: &'a [u8],
    /// What was put.
    pub body: &'a [u8],
}

/// A tube's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tube<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The most jobs it holds; 0: the module's limit.
    pub limit: u32,
    /// Tries after which a job is put into the tube for dead ones; 0: never.
    pub tries: u32,
    /// How it is kept: see `VIRGO_QUEUE_KEEP_`.
    pub keep: u32,
    /// The tubes that get a copy of each job: names, each with a NUL behind it.
    pub copies: &'a [u8],
}

/// A record's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The first of each file.
    Open {
        /// The file's place in the log.
        segment: u64,
        /// The number that the next job gets.
        next_id: u64,
    },
    /// A job, whole.
    Put(Put<'a>),
    /// Something about it is different.
    Change(Change),
    /// It is gone.
    Delete(u64),
    /// The last one, if the module was unloaded in good order.
    Close {
        /// The number that the next job gets.
        next_id: u64,
    },
    /// A tube's settings.
    Tube(Tube<'a>),
}

const OPEN: u8 = 1;
const PUT: u8 = 2;
const CHANGE: u8 = 3;
const DELETE: u8 = 4;
const CLOSE: u8 = 5;
const TUBE: u8 = 6;

/// Where a record is written to.
pub trait Sink {
    /// What can go wrong.
    type Error;
    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// A checksum: starts with 0, goes on with what it gave.
pub type Checksum = fn(u32, &[u8]) -> u32;

/// Bytes that a record with this many bytes of content takes.
pub fn size_of_record(content: usize) -> usize {
    HEAD.saturating_add(content).saturating_add(7) & !7
}

fn content_size(record: &Record<'_>) -> usize {
    match record {
        Record::Open { .. } => 24,
        Record::Put(put) => 64_usize
            .saturating_add(put.tube.len())
            .saturating_add(put.body.len()),
        Record::Change(_) => 48,
        Record::Delete(_) | Record::Close { .. } => 8,
        Record::Tube(tube) => 16_usize
            .saturating_add(tube.name.len())
            .saturating_add(tube.copies.len()),
    }
}

/// Bytes that a record takes.
pub fn encoded_size(record: &Record<'_>) -> usize {
    size_of_record(content_size(record))
}

/// A few fields, next to one another.
struct Fields {
    bytes: [u8; 64],
    len: usize,
}

impl Fields {
    const fn new() -> Self {
        Fields {
            bytes: [0; 64],
            len: 0,
        }
    }

    fn add(&mut self, field: &[u8]) -> &mut Self {
        let end = self.len.saturating_add(field.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(field);
            self.len = end;
        }
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.add(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.add(&value.to_le_bytes())
    }

    fn change(&mut self, change: &Change) -> &mut Self {
        self.u64(change.id).u64(change.deadline);
        self.u32(change.pri).u32(change.delay);
        for count in change.counts {
            self.u32(count);
        }
        // CAST: `repr(u8)`.
        self.add(&[change.phase as u8, 0, 0, 0])
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// Writes a record. `number` is the record's own.
pub fn encode<S: Sink>(
    record: &Record<'_>,
    number: u64,
    checksum: Checksum,
    out: &mut S,
) -> Result<(), S::Error> {
    let mut fields = Fields::new();
    let (kind, tail, last): (u8, &[u8], &[u8]) = match record {
        Record::Open { segment, next_id } => {
            fields.u64(*segment).u64(*next_id).u32(VERSION).u32(0);
            (OPEN, &[], &[])
        }
        Record::Put(put) => {
            fields.change(&put.change).u64(put.created).u32(put.ttr);
            // CAST: a tube's name has 200 bytes at most, see `beanstalk::MAX_NAME`.
            fields.u32(put.tube.len() as u32);
            (PUT, put.tube, put.body)
        }
        Record::Change(change) => {
            fields.change(change);
            (CHANGE, &[], &[])
        }
        Record::Delete(id) => {
            fields.u64(*id);
            (DELETE, &[], &[])
        }
        Record::Close { next_id } => {
            fields.u64(*next_id);
            (CLOSE, &[], &[])
        }
        Record::Tube(tube) => {
            fields.u32(tube.limit).u32(tube.tries).u32(tube.keep);
            // CAST: as above.
            fields.u32(tube.name.len() as u32);
            (TUBE, tube.name, tube.copies)
        }
    };
    let content = content_size(record);
    let mut head = Fields::new();
    // CAST: bounded by the module's limit on a job's size, far below 4 GiB.
    let length = content as u32;
    head.add(&[kind, 0, 0, 0]).u64(number);
    let mut sum = checksum(0, &MAGIC.to_le_bytes());
    sum = checksum(sum, &length.to_le_bytes());
    sum = checksum(sum, head.bytes());
    for part in [fields.bytes(), tail, last] {
        sum = checksum(sum, part);
    }
    let mut front = Fields::new();
    front.u32(MAGIC).u32(length).u32(sum).add(head.bytes());
    out.append(front.bytes())?;
    for part in [fields.bytes(), tail, last] {
        out.append(part)?;
    }
    let written = HEAD.saturating_add(content);
    let padding = size_of_record(content).saturating_sub(written);
    out.append([0; 8].get(..padding).unwrap_or(&[]))
}

/// Takes fields off the front.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(field)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn change(&mut self) -> Option<Change> {
        let mut change = Change {
            id: self.u64()?,
            deadline: self.u64()?,
            pri: self.u32()?,
            delay: self.u32()?,
            ..Change::default()
        };
        for count in &mut change.counts {
            *count = self.u32()?;
        }
        change.phase = Phase::from_byte(*self.take(4)?.first()?)?;
        Some(change)
    }
}

fn content_of(kind: u8, content: &[u8]) -> Option<Record<'_>> {
    let mut from = Source(content);
    let record = match kind {
        OPEN => {
            let record = Record::Open {
                segment: from.u64()?,
                next_id: from.u64()?,
            };
            let version = from.u32()?;
            from.u32()?;
            if version != VERSION {
                return None;
            }
            record
        }
        PUT => {
            let change = from.change()?;
            let created = from.u64()?;
            let ttr = from.u32()?;
            // CAST: u32 fits usize where this runs.
            let name = from.u32()? as usize;
            let tube = from.take(name)?;
            Record::Put(Put {
                change,
                created,
                ttr,
                tube,
                body: from.take(from.0.len())?,
            })
        }
        CHANGE => Record::Change(from.change()?),
        DELETE => Record::Delete(from.u64()?),
        CLOSE => Record::Close {
            next_id: from.u64()?,
        },
        TUBE => {
            let (limit, tries, keep) = (from.u32()?, from.u32()?, from.u32()?);
            // CAST: as above.
            let name = from.u32()? as usize;
            let name = from.take(name)?;
            Record::Tube(Tube {
                name,
                limit,
                tries,
                keep,
                copies: from.take(from.0.len())?,
            })
        }
        _ => return None,
    };
    from.0.is_empty().then_some(record)
}

/// What the reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A record.
    Record {
        /// Its number.
        number: u64,
        /// Where it begins.
        at: usize,
        /// What it says.
        record: Record<'a>,
    },
    /// Bytes that are no record, and a record behind them.
    Damage {
        /// Where they begin.
        at: usize,
        /// How many.
        bytes: usize,
    },
    /// Bytes that are no record, up to the end: one that was being written.
    Torn {
        /// Where they begin.
        at: usize,
        /// How many, without the zeros at the end.
        bytes: usize,
    },
}

/// Reads the records of a file.
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    checksum: Checksum,
}

impl<'a> Reader<'a> {
    /// Reads what a file holds.
    pub fn new(data: &'a [u8], checksum: Checksum) -> Self {
        Reader {
            data,
            at: 0,
            checksum,
        }
    }

    /// The record at `at`, if there is one: its number, its content, and how long it is.
    fn record_at(&self, at: usize) -> Option<(u64, Record<'a>, usize)> {
        let mut from = Source(self.data.get(at..)?);
        if from.u32()? != MAGIC {
            return None;
        }
        let length = from.u32()?;
        // CAST: u32 fits usize where this runs.
        let content = length as usize;
        if content > MAX_CONTENT {
            return None;
        }
        let sum = from.u32()?;
        let head = from.take(12)?;
        let content = from.take(content)?;
        let mut own = (self.checksum)(0, &MAGIC.to_le_bytes());
        own = (self.checksum)(own, &length.to_le_bytes());
        own = (self.checksum)(own, head);
        own = (self.checksum)(own, content);
        if own != sum {
            return None;
        }
        let mut head = Source(head);
        let kind = *head.take(4)?.first()?;
        let number = head.u64()?;
        let record = content_of(kind, content)?;
        Some((number, record, size_of_record(content.len())))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let start = self.at;
        if start >= self.data.len() {
            return None;
        }
        if let Some((number, record, size)) = self.record_at(start) {
            self.at = start.saturating_add(size);
            return Some(Found::Record {
                number,
                at: start,
                record,
            });
        }
        // Zeros up to the end are room that was not used.
        let rest = self.data.get(start..).unwrap_or(&[]);
        let used = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last.saturating_add(1));
        if used == 0 {
            self.at = self.data.len();
            return None;
        }
        let end = start.saturating_add(used);
        let mut at = start;
        loop {
            at = at.saturating_add(8);
            if at >= end {
                self.at = self.data.len();
                return Some(Found::Torn {
                    at: start,
                    bytes: used,
                });
            }
            if self.record_at(at).is_some() {
                self.at = at;
                return Some(Found::Damage {
                    at: start,
                    bytes: at.saturating_sub(start),
                });
            }
        }
    }
}
