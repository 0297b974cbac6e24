// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The page-fault trace: its records, and what `/proc/virgo/trace/history` takes as text.
//!
//! The format is described in doc/trace.md. A stream is a row of records, each a length (a varint)
//! and so many bytes. Times, addresses and instruction pointers are differences to the record before,
//! kept by [`Encoder`] and [`Decoder`], so that a fault takes 8 to 16 bytes.

use super::command::parse_pid;

/// What the first record holds: tells the format.
pub const MAGIC: [u8; 8] = *b"VIRGOTRC";
/// Version of the format.
pub const VERSION: u64 = 2;
/// Longest name of an area in a record, as PATH_MAX.
pub const NAME_MAX: usize = 4096;
/// No record but those with a name is longer than this, its length included.
pub const SMALL_MAX: usize = 120;
/// No record is longer than this, its length included.
pub const RECORD_MAX: usize = NAME_MAX + SMALL_MAX;

/// In [`Fault::flags`]: for writing.
pub const FAULT_WRITE: u32 = 1 << 0;
/// In [`Fault::flags`]: for an instruction.
pub const FAULT_EXEC: u32 = 1 << 1;
/// In [`Fault::flags`]: met by the program itself, not by the kernel on its behalf.
pub const FAULT_USER: u32 = 1 << 2;
/// In [`Fault::flags`]: counted as major.
pub const FAULT_MAJOR: u32 = 1 << 3;
/// In [`Fault::flags`]: the first touch: there was nothing in the page table.
pub const FAULT_FIRST: u32 = 1 << 4;
/// In [`Fault::flags`]: there was an entry of a page that is elsewhere, as in swap.
pub const FAULT_SWAPPED: u32 = 1 << 5;
/// In [`Fault::flags`]: met while the kernel got hold of pages, not by an access.
pub const FAULT_INDIRECT: u32 = 1 << 6;
/// In [`Fault::flags`]: in another address space than the map's: that of a program which is being
/// loaded by `execve()`, or of another process.
pub const FAULT_OTHER: u32 = 1 << 7;
/// In [`Fault::flags`]: took more than one attempt.
pub const FAULT_RETRIED: u32 = 1 << 8;
/// All of them.
pub const FAULT_ALL: u32 = (1 << 9) - 1;

/// In [`Area::flags`]: readable.
pub const AREA_READ: u32 = 1 << 0;
/// In [`Area::flags`]: writable.
pub const AREA_WRITE: u32 = 1 << 1;
/// In [`Area::flags`]: executable.
pub const AREA_EXEC: u32 = 1 << 2;
/// In [`Area::flags`]: shared.
pub const AREA_SHARED: u32 = 1 << 3;
/// All of them.
pub const AREA_ALL: u32 = (1 << 4) - 1;

/// In [`Begin::flags`]: children are traced as well.
pub const BEGIN_FOLLOW: u32 = 1 << 0;

/// The first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// [`VERSION`].
    pub version: u64,
    /// Bytes in a page.
    pub page_size: u64,
    /// CLOCK_MONOTONIC at the start of the trace.
    pub monotonic_ns: u64,
    /// CLOCK_REALTIME at that moment.
    pub realtime_ns: u64,
    /// The process, in the initial pid namespace.
    pub pid: u32,
    /// `BEGIN_` bits.
    pub flags: u32,
}

/// A process is traced from here on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Its number in the initial pid namespace.
    pub pid: u32,
    /// The process that forked it; 0 for the one that the trace began with.
    pub parent: u32,
    /// It shares its parent's map (vfork), until it calls `execve()`.
    pub shares_map: bool,
    /// Minor faults before.
    pub min_flt: u64,
    /// Major faults before.
    pub maj_flt: u64,
}

/// Why a map is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// The whole map, at the start of the trace or of a child.
    Start = 0,
    /// The whole map, after `execve()`.
    Exec = 1,
    /// A part changed.
    Change = 2,
    /// The whole map, after records of changes were dropped.
    Again = 3,
}

impl Cause {
    fn from_number(number: u8) -> Option<Cause> {
        Some(match number {
            0 => Cause::Start,
            1 => Cause::Exec,
            2 => Cause::Change,
            3 => Cause::Again,
            _ => return None,
        })
    }
}

/// What the areas that touch `start..end` are from now on: the [`Area`]s that follow, up to the
/// [`Record::MapEnd`] of the same process. Those that were there are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Process.
    pub pid: u32,
    /// Why.
    pub cause: Cause,
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
}

/// An area of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area<'a> {
    /// Process.
    pub pid: u32,
    /// Tells it from the others of the process; stays when it is resized.
    pub id: u64,
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// `AREA_` bits.
    pub flags: u32,
    /// Where in its file.
    pub offset: u64,
    /// The file's device, major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// The file's inode number; 0 without a file.
    pub inode: u64,
    /// Its name as /proc/PID/maps has it; empty without one.
    pub name: &'a [u8],
}

/// A page fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// CLOCK_MONOTONIC when it began.
    pub time_ns: u64,
    /// How long it took.
    pub latency_ns: u64,
    /// What was accessed.
    pub address: u64,
    /// Where the program was.
    pub ip: u64,
    /// Process, in the initial pid namespace.
    pub pid: u32,
    /// Thread, likewise.
    pub tid: u32,
    /// `FAULT_` bits.
    pub flags: u32,
}

/// Why a process is traced no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// It exited.
    Exited = 0,
    /// It was asked for.
    Stopped = 1,
    /// It has become another user's, by `execve()` of a set-user-id program, and whoever traces it
    /// has no right to that. Faults that the kernel counted since are not in the trace.
    Forbidden = 2,
}

/// A process is traced no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Process.
    pub pid: u32,
    /// Why.
    pub why: Why,
    /// Minor faults that the kernel counted since [`Process`].
    pub min_flt: u64,
    /// Major faults that the kernel counted since.
    pub maj_flt: u64,
    /// Faults in the trace.
    pub recorded: u64,
    /// Faults that did not fit.
    pub dropped: u64,
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The first one.
    Begin(Begin),
    /// A process is traced from here on.
    Process(Process),
    /// Areas of a map follow.
    Map(Map),
    /// An area.
    Area(Area<'a>),
    /// No more areas of this process's map follow.
    MapEnd {
        /// Process.
        pid: u32,
    },
    /// A process executes another program; its map follows.
    Exec {
        /// CLOCK_MONOTONIC.
        time_ns: u64,
        /// Process.
        pid: u32,
        /// The program's path, as it was given.
        path: &'a [u8],
    },
    /// A fault.
    Fault(Fault),
    /// This many faults and map records did not fit since the record before.
    Dropped {
        /// Faults.
        faults: u64,
        /// Records of maps.
        maps: u64,
    },
    /// A process is traced no more.
    End(End),
}

const KIND_BEGIN: u8 = 1;
const KIND_PROCESS: u8 = 2;
const KIND_MAP: u8 = 3;
const KIND_AREA: u8 = 4;
const KIND_MAP_END: u8 = 5;
const KIND_EXEC: u8 = 6;
const KIND_DROPPED: u8 = 7;
const KIND_END: u8 = 8;
/// A fault: the lower bits are flags 0 to 5, then "a byte with the rest follows".
const SHORT_FAULT: u8 = 0x80;
const SHORT_MORE: u8 = 0x40;
const SHORT_FLAGS: u32 = 0x3f;
/// That byte: flags 6 to 8, then "the process follows", then the size of the thread's field.
const MORE_FLAGS: u8 = 0x07;
const MORE_PID: u8 = 0x08;
const MORE_TID_SHIFT: u32 = 4;
const MORE_ALL: u8 = 0x3f;
/// No fault is longer than this: 4 bytes, 4 and five fields of 8. A power of two.
const SHORT_MAX: usize = 64;
const _: () = assert!(4 + 4 + 5 * 8 <= SHORT_MAX && SHORT_MAX + 8 <= SMALL_MAX);

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A length of 0 or over [`RECORD_MAX`].
    Length,
    /// A kind that this version does not know.
    Kind,
    /// Fields that do not fit the record's length, or are out of their range.
    Fields,
    /// The first record is not one of a trace.
    Magic,
    /// A trace of another version.
    Version,
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    full: bool,
}

impl Writer<'_> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        match self.out.get_mut(self.len) {
            Some(slot) => {
                *slot = byte;
                self.len = self.len.wrapping_add(1);
            }
            None => self.full = true,
        }
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // CAST: the low seven bits.
            self.byte((value as u8) | 0x80);
            value >>= 7;
        }
        // CAST: below 0x80.
        self.byte(value as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self
            .len
            .checked_add(bytes.len())
            .and_then(|end| self.out.get_mut(self.len..end))
        {
            Some(slot) => {
                slot.copy_from_slice(bytes);
                self.len = self.len.wrapping_add(bytes.len());
            }
            None => self.full = true,
        }
    }

    fn name(&mut self, name: &[u8]) {
        let name = name.get(..NAME_MAX).unwrap_or(name);
        // CAST: usize fits u64.
        self.varint(name.len() as u64);
        self.bytes(name);
    }

    #[inline]
    fn difference(&mut self, before: u64, now: u64) {
        self.varint(zigzag(now.wrapping_sub(before)));
    }
}

/// Writes a fault, for which there is always room.
struct Short<'a> {
    out: &'a mut [u8; SMALL_MAX],
    len: usize,
}

impl Short<'_> {
    /// Eight bytes, of which the first `length` stay.
    #[inline(always)]
    fn put(&mut self, value: u64, length: usize) {
        // No fault is longer than SHORT_MAX; masked so that the compiler knows it as well.
        let at = self.len & (SHORT_MAX - 1);
        if let Some(place) = self.out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = value.to_le_bytes();
        }
        self.len = at.wrapping_add(length);
    }

    /// In 1, 2, 4 or 8 bytes; which of them, as a number of two bits.
    #[inline(always)]
    fn field(&mut self, value: u64) -> u8 {
        if value < 1 << 8 {
            self.put(value, 1);
            0
        } else if value < 1 << 16 {
            self.put(value, 2);
            1
        } else if value < 1 << 32 {
            self.put(value, 4);
            2
        } else {
            self.put(value, 8);
            3
        }
    }

    #[inline(always)]
    fn difference(&mut self, before: u64, now: u64) -> u8 {
        self.field(zigzag(now.wrapping_sub(before)))
    }
}

/// Maps small differences of either sign to small numbers.
#[inline]
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ if difference >> 63 == 0 { 0 } else { u64::MAX }
}

#[inline]
fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ if value & 1 == 0 { 0 } else { u64::MAX }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let mut value: u64 = 0;
        let mut shift: u32 = 0;
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits.checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift = shift.checked_add(7).filter(|shift| *shift <= 63)?;
        }
    }

    fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    #[inline]
    fn difference(&mut self, before: u64) -> Option<u64> {
        Some(before.wrapping_add(unzigzag(self.varint()?)))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*first)
    }

    /// A number in 1, 2, 4 or 8 bytes, as the lowest two bits of `size` tell.
    #[inline]
    fn field(&mut self, size: u8) -> Option<u64> {
        Some(match size & 3 {
            0 => u64::from(self.byte()?),
            1 => u64::from(u16::from_le_bytes(self.array()?)),
            2 => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        })
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        if length > NAME_MAX {
            return None;
        }
        let (name, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(name)
    }
}

/// What differences are taken to: the same in writer and reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    time_ns: u64,
    address: u64,
    ip: u64,
    pid: u32,
    tid: u32,
}

/// Turns records into bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    state: State,
}

impl Encoder {
    /// For a new stream.
    pub const fn new() -> Self {
        Encoder {
            state: State {
                time_ns: 0,
                address: 0,
                ip: 0,
                pid: 0,
                tid: 0,
            },
        }
    }

    /// Writes a fault to `out`; how many bytes it took. `None`, and nothing changed, where there is
    /// less room than [`SMALL_MAX`].
    #[inline(always)]
    pub fn fault(&mut self, fault: &Fault, out: &mut [u8]) -> Option<usize> {
        let mut w = Short {
            out: out.first_chunk_mut()?,
            // Behind the record's length, its kind and the sizes of its fields.
            len: 3,
        };
        let state = &mut self.state;
        let other_thread = fault.tid != state.tid || fault.pid != state.pid;
        // CAST: masked to six bits.
        let mut kind = SHORT_FAULT | (fault.flags & SHORT_FLAGS) as u8;
        if other_thread || fault.flags & !SHORT_FLAGS != 0 {
            kind |= SHORT_MORE;
            w.len = 4;
            // CAST: masked to three bits.
            let mut more = (fault.flags >> SHORT_FLAGS.count_ones()) as u8 & MORE_FLAGS;
            if fault.pid != state.pid {
                more |= MORE_PID;
                w.put(u64::from(fault.pid), 4);
            }
            // Threads' numbers are near their process's.
            more |= w.difference(u64::from(fault.pid), u64::from(fault.tid)) << MORE_TID_SHIFT;
            w.out[3] = more;
            state.pid = fault.pid;
            state.tid = fault.tid;
        }
        let mut sizes = w.difference(state.time_ns, fault.time_ns);
        sizes |= w.difference(state.address, fault.address) << 2;
        sizes |= w.difference(state.ip, fault.ip) << 4;
        sizes |= w.field(fault.latency_ns) << 6;
        state.time_ns = fault.time_ns;
        state.address = fault.address;
        state.ip = fault.ip;
        // CAST: at most SHORT_MAX; a length of one byte.
        w.out[0] = w.len.wrapping_sub(1) as u8;
        w.out[1] = kind;
        w.out[2] = sizes;
        Some(w.len)
    }

    /// Writes a record to `out`; how many bytes it took. `None`, and nothing changed, where they
    /// do not fit; [`RECORD_MAX`] are always enough, and [`SMALL_MAX`] where there is no name. A
    /// longer name than [`NAME_MAX`] is cut.
    pub fn encode(&mut self, record: &Record<'_>, out: &mut [u8]) -> Option<usize> {
        if let Record::Fault(fault) = record {
            return self.fault(fault, out);
        }
        // Room for a length of two bytes; a short one is moved.
        let mut time_ns = self.state.time_ns;
        let mut w = Writer {
            out: out.get_mut(2..)?,
            len: 0,
            full: false,
        };
        let mut at = |w: &mut Writer<'_>, now_ns: u64| {
            w.difference(time_ns, now_ns);
            time_ns = now_ns;
        };
        match record {
            Record::Begin(begin) => {
                w.byte(KIND_BEGIN);
                w.bytes(&MAGIC);
                w.varint(begin.version);
                w.varint(begin.page_size);
                at(&mut w, begin.monotonic_ns);
                w.varint(begin.realtime_ns);
                w.varint(u64::from(begin.pid));
                w.varint(u64::from(begin.flags));
            }
            Record::Process(process) => {
                w.byte(KIND_PROCESS);
                at(&mut w, process.time_ns);
                w.varint(u64::from(process.pid));
                w.varint(u64::from(process.parent));
                w.byte(u8::from(process.shares_map));
                w.varint(process.min_flt);
                w.varint(process.maj_flt);
            }
            Record::Map(map) => {
                w.byte(KIND_MAP);
                at(&mut w, map.time_ns);
                w.varint(u64::from(map.pid));
                // CAST: `repr(u8)`.
                w.byte(map.cause as u8);
                w.varint(map.start);
                w.varint(map.end);
            }
            Record::Area(area) => {
                w.byte(KIND_AREA);
                w.varint(u64::from(area.pid));
                w.varint(area.id);
                w.varint(area.start);
                w.varint(area.end);
                w.varint(u64::from(area.flags & AREA_ALL));
                w.varint(area.offset);
                w.varint(u64::from(area.major));
                w.varint(u64::from(area.minor));
                w.varint(area.inode);
                w.name(area.name);
            }
            Record::MapEnd { pid } => {
                w.byte(KIND_MAP_END);
                w.varint(u64::from(*pid));
            }
            Record::Exec { time_ns, pid, path } => {
                w.byte(KIND_EXEC);
                at(&mut w, *time_ns);
                w.varint(u64::from(*pid));
                w.name(path);
            }
            Record::Dropped { faults, maps } => {
                w.byte(KIND_DROPPED);
                w.varint(*faults);
                w.varint(*maps);
            }
            Record::End(end) => {
                w.byte(KIND_END);
                at(&mut w, end.time_ns);
                w.varint(u64::from(end.pid));
                // CAST: `repr(u8)`.
                w.byte(end.why as u8);
                w.varint(end.min_flt);
                w.varint(end.maj_flt);
                w.varint(end.recorded);
                w.varint(end.dropped);
            }
            Record::Fault(_) => return None,
        }
        if w.full {
            return None;
        }
        let length = w.len;
        let total = if let Some(short) = u8::try_from(length).ok().filter(|len| *len < 0x80) {
            out.copy_within(2..length.wrapping_add(2), 1);
            *out.first_mut()? = short;
            length.wrapping_add(1)
        } else {
            // CAST: the low seven bits, then those above, of a length below RECORD_MAX.
            *out.first_mut()? = (length as u8) | 0x80;
            *out.get_mut(1)? = (length >> 7) as u8;
            length.wrapping_add(2)
        };
        self.state.time_ns = time_ns;
        Some(total)
    }
}

/// The length of the first record in `bytes`, its own length included. `None` where not even the
/// length is whole.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let low = usize::from(*first & 0x7f);
    let (length, prefix) = if first & 0x80 == 0 {
        (low, 1)
    } else {
        match bytes.get(1) {
            None => return Ok(None),
            Some(second) if second & 0x80 == 0 => (low | (usize::from(*second) << 7), 2),
            Some(_) => return Err(Malformed::Length),
        }
    };
    let total = length.wrapping_add(prefix);
    if length == 0 || total > RECORD_MAX {
        return Err(Malformed::Length);
    }
    Ok(Some(total))
}

/// How many of `bytes` are whole records, at most `room`. `bytes` begins with a record.
pub fn whole(bytes: &[u8], room: usize) -> usize {
    if bytes.len() <= room {
        // What the ring holds is whole.
        return bytes.len();
    }
    let mut used: usize = 0;
    while let Some(rest) = bytes.get(used..) {
        match frame(rest) {
            Ok(Some(total)) => match used.checked_add(total) {
                Some(end) if end <= room && end <= bytes.len() => used = end,
                _ => break,
            },
            _ => break,
        }
    }
    used
}

/// Turns bytes into records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    state: State,
    begun: bool,
}

impl Decoder {
    /// For the start of a stream.
    pub fn new() -> Self {
        Decoder::default()
    }

    /// The first record of `bytes`, and how many bytes it takes; `None` where it is not whole.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Record<'a>, usize)>, Malformed> {
        let Some(total) = frame(bytes)? else {
            return Ok(None);
        };
        let Some(record) = bytes.get(..total) else {
            return Ok(None);
        };
        let prefix = if total > 0x80 { 2 } else { 1 };
        // A short length in two bytes is not what an encoder writes.
        let body = record.get(prefix..).ok_or(Malformed::Length)?;
        if record.first().is_some_and(|first| first & 0x80 != 0) != (prefix == 2) {
            return Err(Malformed::Length);
        }
        let mut state = self.state;
        let mut reader = Reader { rest: body };
        let record = match reader.byte() {
            Some(KIND_BEGIN) => begin(&mut reader, &mut state)?,
            _ if !self.begun => return Err(Malformed::Magic),
            Some(kind) => body_of(kind, &mut reader, &mut state)?,
            None => return Err(Malformed::Fields),
        };
        if !reader.rest.is_empty() {
            return Err(Malformed::Fields);
        }
        self.begun = true;
        self.state = state;
        Ok(Some((record, total)))
    }
}

fn begin<'a>(reader: &mut Reader<'_>, state: &mut State) -> Result<Record<'a>, Malformed> {
    let (magic, rest) = reader
        .rest
        .split_at_checked(MAGIC.len())
        .ok_or(Malformed::Magic)?;
    if magic != MAGIC {
        return Err(Malformed::Magic);
    }
    reader.rest = rest;
    let version = reader.varint().ok_or(Malformed::Fields)?;
    if version != VERSION {
        return Err(Malformed::Version);
    }
    let mut fields = || {
        let page_size = reader.varint()?;
        // A trace can be followed by another: each begins anew.
        *state = State::default();
        let monotonic_ns = reader.difference(0)?;
        state.time_ns = monotonic_ns;
        Some(Begin {
            version,
            page_size,
            monotonic_ns,
            realtime_ns: reader.varint()?,
            pid: reader.u32()?,
            flags: reader.u32()?,
        })
    };
    let begin = fields().ok_or(Malformed::Fields)?;
    if !begin.page_size.is_power_of_two() || begin.page_size < 512 {
        return Err(Malformed::Fields);
    }
    Ok(Record::Begin(begin))
}

fn fault<'a>(kind: u8, reader: &mut Reader<'_>, state: &mut State) -> Option<Record<'a>> {
    let add = |before: u64, difference: u64| before.wrapping_add(unzigzag(difference));
    let sizes = reader.byte()?;
    let mut flags = u32::from(kind) & SHORT_FLAGS;
    if kind & SHORT_MORE != 0 {
        let more = reader.byte()?;
        if more & !MORE_ALL != 0 {
            return None;
        }
        flags |= u32::from(more & MORE_FLAGS) << SHORT_FLAGS.count_ones();
        if more & MORE_PID != 0 {
            state.pid = u32::from_le_bytes(reader.array()?);
        }
        let tid = add(u64::from(state.pid), reader.field(more >> MORE_TID_SHIFT)?);
        state.tid = u32::try_from(tid).ok()?;
    }
    state.time_ns = add(state.time_ns, reader.field(sizes)?);
    state.address = add(state.address, reader.field(sizes >> 2)?);
    state.ip = add(state.ip, reader.field(sizes >> 4)?);
    Some(Record::Fault(Fault {
        time_ns: state.time_ns,
        latency_ns: reader.field(sizes >> 6)?,
        address: state.address,
        ip: state.ip,
        pid: state.pid,
        tid: state.tid,
        flags,
    }))
}

fn body_of<'a>(
    kind: u8,
    reader: &mut Reader<'a>,
    state: &mut State,
) -> Result<Record<'a>, Malformed> {
    let time = |reader: &mut Reader<'a>, state: &mut State| {
        state.time_ns = reader.difference(state.time_ns)?;
        Some(state.time_ns)
    };
    if kind & SHORT_FAULT != 0 {
        return fault(kind, reader, state).ok_or(Malformed::Fields);
    }
    let mut fields = || {
        Some(match kind {
            KIND_PROCESS => Record::Process(Process {
                time_ns: time(reader, state)?,
                pid: reader.u32()?,
                parent: reader.u32()?,
                shares_map: match reader.byte()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
                min_flt: reader.varint()?,
                maj_flt: reader.varint()?,
            }),
            KIND_MAP => Record::Map(Map {
                time_ns: time(reader, state)?,
                pid: reader.u32()?,
                cause: Cause::from_number(reader.byte()?)?,
                start: reader.varint()?,
                end: reader.varint()?,
            }),
            KIND_AREA => {
                let area = Area {
                    pid: reader.u32()?,
                    id: reader.varint()?,
                    start: reader.varint()?,
                    end: reader.varint()?,
                    flags: reader.u32()?,
                    offset: reader.varint()?,
                    major: reader.u32()?,
                    minor: reader.u32()?,
                    inode: reader.varint()?,
                    name: reader.name()?,
                };
                if area.start >= area.end || area.flags & !AREA_ALL != 0 {
                    return None;
                }
                Record::Area(area)
            }
            KIND_MAP_END => Record::MapEnd { pid: reader.u32()? },
            KIND_EXEC => Record::Exec {
                time_ns: time(reader, state)?,
                pid: reader.u32()?,
                path: reader.name()?,
            },
            KIND_DROPPED => Record::Dropped {
                faults: reader.varint()?,
                maps: reader.varint()?,
            },
            KIND_END => Record::End(End {
                time_ns: time(reader, state)?,
                pid: reader.u32()?,
                why: match reader.byte()? {
                    0 => Why::Exited,
                    1 => Why::Stopped,
                    2 => Why::Forbidden,
                    _ => return None,
                },
                min_flt: reader.varint()?,
                maj_flt: reader.varint()?,
                recorded: reader.varint()?,
                dropped: reader.varint()?,
            }),
            _ => return None,
        })
    };
    match kind {
        KIND_PROCESS..=KIND_END => fields().ok_or(Malformed::Fields),
        _ => Err(Malformed::Kind),
    }
}

/// What is written to `/proc/virgo/trace/history`, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceCommand {
    /// `1`, `1 PID`, `1 PID follow`, `1 follow`: trace the process; without PID, the writer's.
    Start {
        /// The process.
        pid: Option<i32>,
        /// And what it forks.
        follow: bool,
    },
    /// `0`: stop.
    Stop,
}

/// Parses what is written. Newlines, spaces and a NUL at the end are dropped. `None` for anything
/// else.
pub fn parse_trace_command(text: &[u8]) -> Option<TraceCommand> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let mut words = text
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let command = match words.next()? {
        b"0" => TraceCommand::Stop,
        b"1" => {
            let (mut pid, mut follow) = (None, false);
            for word in words.by_ref() {
                match word {
                    b"follow" if !follow => follow = true,
                    _ if pid.is_none() && !follow => pid = Some(parse_pid(word)?),
                    _ => return None,
                }
            }
            TraceCommand::Start { pid, follow }
        }
        _ => return None,
    };
    words.next().is_none().then_some(command)
}
