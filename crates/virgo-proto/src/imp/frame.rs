// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Frames: what VIRGO's nodes send one another. doc/protocol.md has every byte.
//!
//! A frame is a header of [`HEADER`] bytes, a payload, and where both nodes hold a key a tag of
//! [`TAG`] bytes. Header and payload have a CRC-32C each, so a damaged length is told before it is
//! believed; the tag is an HMAC-SHA-256 over the frame's number on its connection and direction, the
//! header and the payload. This file knows the form alone: tags are made and compared elsewhere.

/// Bytes of a header.
pub const HEADER: usize = 56;
/// Bytes of a tag.
pub const TAG: usize = 32;
/// Version of the form.
pub const VERSION: u8 = 2;
/// The most bytes of a payload.
pub const MAX_PAYLOAD: usize = 2 << 20;
/// Bytes of a nonce, of a tag, and of a session's key.
pub const SECRET: usize = 32;

const MAGIC: [u8; 4] = *b"VRGO";
/// Flag: a tag follows the payload.
const TAGGED: u8 = 1;
/// Flag: the stamp is that of an event.
const EVENT: u8 = 2;
/// Where the header's checksum is.
const SUM: usize = HEADER - 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first of a connection, from who made it: a [`Hello`].
    Hello = 1,
    /// The answer to it: a [`Hello`].
    Challenge = 2,
    /// The first with a tag: who made the connection holds the key.
    Proof = 3,
    /// The answer to it: so does the other. From here on requests may be sent.
    Welcome = 4,
    /// Are you there? With a [`Load`].
    Ping = 5,
    /// Yes. With a [`Load`].
    Pong = 6,
    /// A request: `words` are module, operation, the most bytes of the answer, and how many
    /// milliseconds the caller waits.
    Request = 7,
    /// Its answer, by its id: `words` begin with the error's number, 0 for none.
    Reply = 8,
    /// Why the connection is closed now, in words.
    Refused = 9,
}

impl Kind {
    const fn from_number(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::Hello,
            2 => Kind::Challenge,
            3 => Kind::Proof,
            4 => Kind::Welcome,
            5 => Kind::Ping,
            6 => Kind::Pong,
            7 => Kind::Request,
            8 => Kind::Reply,
            9 => Kind::Refused,
            _ => return None,
        })
    }
}

/// A header, without what the form itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// A request's number, chosen by who makes it; a reply has its request's; else 0.
    pub id: u64,
    /// Depends on the kind; else 0.
    pub words: [u32; 4],
    /// The sender's hybrid logical clock when it sent this; 0 in frames without a tag.
    pub stamp: u64,
    /// The stamp is that of an event which led to this frame.
    pub event: bool,
}

impl Header {
    /// One with nothing but its kind.
    pub const fn plain(kind: Kind) -> Header {
        Header {
            kind,
            id: 0,
            words: [0; 4],
            stamp: 0,
            event: false,
        }
    }
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header.
    pub header: Header,
    /// The header's bytes and the payload's, one run: what a tag is of.
    pub signed: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// The tag, if there is one.
    pub tag: Option<&'a [u8; TAG]>,
    /// Bytes of the buffer that the frame takes.
    pub taken: usize,
}

/// What the front of a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A frame.
    Whole(Frame<'a>),
    /// The beginning of one that takes so many bytes in all, as far as is known.
    Part(usize),
    /// No frame, whatever comes: close the connection.
    Bad(Bad),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It does not begin as a frame does.
    Magic,
    /// Another version; this one.
    Version(u8),
    /// The header's checksum is wrong.
    Header,
    /// A kind, a flag or a reserved field that this version does not have.
    Unknown,
    /// The payload is longer than allowed; this long.
    Length(u32),
    /// The payload's checksum is wrong.
    Payload,
}

impl Bad {
    /// The reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Bad::Magic => "this is the port of VIRGO's nodes, and these bytes are none of theirs",
            Bad::Version(_) => "the nodes' protocol has another version here",
            Bad::Header => "the header's checksum is wrong",
            Bad::Unknown => "the header has a kind, flag or reserved field that is not known here",
            Bad::Length(_) => "the payload is longer than allowed",
            Bad::Payload => "the payload's checksum is wrong",
        }
    }
}

/// The `N` bytes at `offset`; zeros past the end.
fn field<const N: usize>(data: &[u8], offset: usize) -> [u8; N] {
    data.get(offset..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

fn word(data: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(data, offset))
}

fn put(to: &mut [u8], offset: usize, bytes: &[u8]) {
    let places = to.iter_mut().skip(offset);
    for (place, byte) in places.zip(bytes) {
        *place = *byte;
    }
}

/// The header of a frame with this payload. `None` for a payload that is too long. `crc` is
/// CRC-32C.
pub fn header(
    header: &Header,
    payload: &[u8],
    tagged: bool,
    crc: impl Fn(&[u8]) -> u32,
) -> Option<[u8; HEADER]> {
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?;
    let mut bytes = [0; HEADER];
    put(&mut bytes, 0, &MAGIC);
    // CAST: `repr(u8)`.
    let kind = header.kind as u8;
    let event = if header.event { EVENT } else { 0 };
    let flags = event | if tagged { TAGGED } else { 0 };
    put(&mut bytes, 4, &[VERSION, kind, flags, 0]);
    put(&mut bytes, 8, &length.to_le_bytes());
    put(&mut bytes, 12, &crc(payload).to_le_bytes());
    put(&mut bytes, 16, &header.id.to_le_bytes());
    for (word, offset) in header.words.iter().zip([24, 28, 32, 36]) {
        put(&mut bytes, offset, &word.to_le_bytes());
    }
    put(&mut bytes, 40, &header.stamp.to_le_bytes());
    let sum = crc(bytes.get(..SUM)?);
    put(&mut bytes, SUM, &sum.to_le_bytes());
    Some(bytes)
}

/// Looks for a frame with at most `max` bytes of payload at the front of `data`. `crc` is CRC-32C.
pub fn parse(data: &[u8], max: usize, crc: impl Fn(&[u8]) -> u32) -> Parsed<'_> {
    // What does not begin like a frame is told at the first byte.
    if data.iter().zip(&MAGIC).any(|(byte, magic)| byte != magic) {
        return Parsed::Bad(Bad::Magic);
    }
    if let Some(version) = data.get(4).copied().filter(|version| *version != VERSION) {
        return Parsed::Bad(Bad::Version(version));
    }
    let Some(bytes) = data.first_chunk::<HEADER>() else {
        return Parsed::Part(HEADER);
    };
    if bytes.get(..SUM).map(&crc) != Some(word(bytes, SUM)) {
        return Parsed::Bad(Bad::Header);
    }
    let [kind, flags, reserved] = field(bytes, 5);
    let length = word(bytes, 8);
    let kind = match Kind::from_number(kind) {
        Some(kind) if flags & !(TAGGED | EVENT) == 0 && reserved == 0 && word(bytes, 48) == 0 => {
            kind
        }
        _ => return Parsed::Bad(Bad::Unknown),
    };
    let size = match usize::try_from(length) {
        Ok(size) if size <= max.min(MAX_PAYLOAD) => size,
        _ => return Parsed::Bad(Bad::Length(length)),
    };
    let tagged = flags & TAGGED != 0;
    let signed = HEADER.saturating_add(size);
    let taken = signed.saturating_add(if tagged { TAG } else { 0 });
    let (Some(signed), Some(_)) = (data.get(..signed), data.get(..taken)) else {
        return Parsed::Part(taken);
    };
    let payload = signed.get(HEADER..).unwrap_or(&[]);
    if crc(payload) != word(bytes, 12) {
        return Parsed::Bad(Bad::Payload);
    }
    let tag = if tagged {
        data.get(signed.len()..).and_then(|rest| rest.first_chunk())
    } else {
        None
    };
    let header = Header {
        kind,
        id: u64::from_le_bytes(field(bytes, 16)),
        words: [24, 28, 32, 36].map(|offset| word(bytes, offset)),
        stamp: u64::from_le_bytes(field(bytes, 40)),
        event: flags & EVENT != 0,
    };
    Parsed::Whole(Frame {
        header,
        signed,
        payload,
        tag,
        taken,
    })
}

/// Bytes of a [`Hello`].
pub const HELLO: usize = 44;

/// The payload of a Hello and of a Challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's number.
    pub from: u32,
    /// The number of the node that it means to speak to.
    pub to: u32,
    /// The sender holds a key and wants tags.
    pub keyed: bool,
    /// Random.
    pub nonce: [u8; SECRET],
}

impl Hello {
    /// As bytes.
    pub fn to_bytes(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        put(&mut bytes, 0, &self.from.to_le_bytes());
        put(&mut bytes, 4, &self.to.to_le_bytes());
        put(&mut bytes, 8, &u32::from(self.keyed).to_le_bytes());
        put(&mut bytes, 12, &self.nonce);
        bytes
    }

    /// From bytes; `None` for another length or a flag that is not known.
    pub fn parse(payload: &[u8]) -> Option<Hello> {
        let bytes: &[u8; HELLO] = payload.try_into().ok()?;
        let keyed = match word(bytes, 8) {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Hello {
            from: word(bytes, 0),
            to: word(bytes, 4),
            keyed,
            nonce: field(bytes, 12),
        })
    }
}

/// Bytes of a [`Load`].
pub const LOAD: usize = 32;

/// How busy a node is: the payload of a Ping and of a Pong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Tasks that run or want to.
    pub runnable: u32,
    /// Processors.
    pub cpus: u32,
    /// How much of the time some task waited for a processor in the last ten seconds, in
    /// thousandths; [`Load::UNKNOWN`] where the kernel does not tell.
    pub pressure: u32,
    /// The sum of it, as `virgo_logic::load` computes it.
    pub load: u32,
    /// Memory that could be used without swapping, in KiB.
    pub free_kib: u64,
    /// All memory, in KiB.
    pub total_kib: u64,
}

impl Load {
    /// In place of a figure that is not there.
    pub const UNKNOWN: u32 = u32::MAX;

    /// As bytes.
    pub fn to_bytes(&self) -> [u8; LOAD] {
        let mut bytes = [0; LOAD];
        put(&mut bytes, 0, &self.runnable.to_le_bytes());
        put(&mut bytes, 4, &self.cpus.to_le_bytes());
        put(&mut bytes, 8, &self.pressure.to_le_bytes());
        put(&mut bytes, 12, &self.load.to_le_bytes());
        put(&mut bytes, 16, &self.free_kib.to_le_bytes());
        put(&mut bytes, 24, &self.total_kib.to_le_bytes());
        bytes
    }

    /// From bytes; `None` for another length.
    pub fn parse(payload: &[u8]) -> Option<Load> {
        let bytes: &[u8; LOAD] = payload.try_into().ok()?;
        Some(Load {
            runnable: word(bytes, 0),
            cpus: word(bytes, 4),
            pressure: word(bytes, 8),
            load: word(bytes, 12),
            free_kib: u64::from_le_bytes(field(bytes, 16)),
            total_kib: u64::from_le_bytes(field(bytes, 24)),
        })
    }
}
