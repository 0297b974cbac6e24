// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! EventNet's messages, and the two files that it keeps.
//!
//! ```text
//! eventnet_vertexmsg#ID#PARTAKERS#CONVERSATION#       or  eventnet_vertextmsg#ID-PARTAKERS-CONVERSATION
//! eventnet_edgemsg#FROM#TO#                           or  eventnet_edgemsg#ID#FROM#TO
//!
//! EventNetVertices.txt   ID - PARTAKERS - (CONVERSATION)#(CONVERSATION)
//! EventNetEdges.txt      FROM,TO
//! ```
//!
//! Partakers and conversations are lists with commas between. The files' readers split at `-`,
//! at `,` and at `#`, so a name has none of these; nor a parenthesis, white space or a control
//! character.

use core::fmt;

/// The most bytes of an event's name.
pub const ID_MAX: usize = 120;
/// The most bytes of a list.
pub const LIST_MAX: usize = 4096;
/// The most bytes of a message.
pub const MESSAGE_MAX: usize = 8704;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// An event, or more of one that is known.
    Vertex {
        /// Its name.
        id: &'a [u8],
        /// Who partakes: names, with commas between.
        partakers: &'a [u8],
        /// Who else has a part in this conversation, likewise.
        conversation: &'a [u8],
    },
    /// One event led to another.
    Edge {
        /// The cause.
        from: &'a [u8],
        /// The effect.
        to: &'a [u8],
    },
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It begins with neither word.
    Unknown,
    /// It has so many fields.
    Fields(usize),
    /// A field is empty, or an element of a list is.
    Empty,
    /// A name or a list has a character that separates names.
    Character(u8),
    /// A name is longer than [`ID_MAX`].
    LongName(usize),
    /// A list is longer than [`LIST_MAX`].
    LongList(usize),
}

impl Fault {
    /// The errno's name that goes with it.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Unknown => "ENOSYS",
            Fault::LongName(_) | Fault::LongList(_) => "EMSGSIZE",
            _ => "EINVAL",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unknown => {
                f.write_str("a message begins with eventnet_vertexmsg# or eventnet_edgemsg#")
            }
            Fault::Fields(n) => write!(
                f,
                "{n} fields: a vertex has 3 (event, partakers, conversation), an edge 2 (from, to) or 3 (event, from, to)"
            ),
            Fault::Empty => f.write_str("a name is empty"),
            Fault::Character(byte) if byte.is_ascii_graphic() => {
                write!(f, "a name has no {}", char::from(*byte))
            }
            Fault::Character(byte) => write!(f, "a name has no byte {byte}"),
            Fault::LongName(n) => write!(f, "a name has {ID_MAX} bytes at most, not {n}"),
            Fault::LongList(n) => write!(f, "a list has {LIST_MAX} bytes at most, not {n}"),
        }
    }
}

/// Whether a byte can be in a name. Bytes from 128 on are the parts of UTF-8.
const fn in_name(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !matches!(byte, b'-' | b'#' | b',' | b'(' | b')')
}

/// Checks an event's name.
pub fn check_name(id: &[u8]) -> Result<(), Fault> {
    if id.is_empty() {
        return Err(Fault::Empty);
    }
    if id.len() > ID_MAX {
        return Err(Fault::LongName(id.len()));
    }
    match id.iter().find(|byte| !in_name(**byte)) {
        Some(byte) => Err(Fault::Character(*byte)),
        None => Ok(()),
    }
}

/// Checks a list: names with commas between, and perhaps spaces behind these.
pub fn check_list(list: &[u8]) -> Result<(), Fault> {
    if list.len() > LIST_MAX {
        return Err(Fault::LongList(list.len()));
    }
    for name in list.split(|byte| *byte == b',') {
        let name = name.trim_ascii();
        if name.is_empty() {
            return Err(Fault::Empty);
        }
        if let Some(byte) = name.iter().find(|byte| !in_name(**byte)) {
            return Err(Fault::Character(*byte));
        }
    }
    Ok(())
}

/// The fields of a message: the first three, and how many there are.
fn fields(text: &[u8], separator: u8) -> ([&[u8]; 3], usize) {
    let text = text.strip_suffix(&[separator]).unwrap_or(text);
    let mut found: [&[u8]; 3] = [&[]; 3];
    let mut count = 0_usize;
    for field in text.split(|byte| *byte == separator) {
        if let Some(place) = found.get_mut(count) {
            *place = field.trim_ascii();
        }
        count = count.saturating_add(1);
    }
    (found, count)
}

/// Reads a message: a line without its end.
///
/// ```
/// use virgo_proto::eventnet::{parse, Message};
/// let edge = Message::Edge { from: b"5", to: b"8" };
/// assert_eq!(parse(b"eventnet_edgemsg#5#8#"), Ok(edge));
/// assert_eq!(parse(b"eventnet_edgemsg#1#5#8"), Ok(edge));
/// ```
pub fn parse(line: &[u8]) -> Result<Message<'_>, Fault> {
    let line = line.trim_ascii();
    let after = |word: &[u8]| line.strip_prefix(word);
    if let Some(rest) = after(b"eventnet_edgemsg#") {
        let (found, count) = fields(rest, b'#');
        let (from, to) = match (found, count) {
            ([from, to, _], 2) => (from, to),
            // The first is the edge's own, which nothing is made of.
            ([id, from, to], 3) => {
                check_name(id)?;
                (from, to)
            }
            _ => return Err(Fault::Fields(count)),
        };
        check_name(from)?;
        check_name(to)?;
        return Ok(Message::Edge { from, to });
    }
    if let Some(rest) = after(b"eventnet_vertexmsg#").or_else(|| after(b"eventnet_vertextmsg#")) {
        let separator = if rest.contains(&b'#') { b'#' } else { b'-' };
        let (found, count) = fields(rest, separator);
        let [id, partakers, conversation] = found;
        if count != 3 {
            return Err(Fault::Fields(count));
        }
        check_name(id)?;
        check_list(partakers)?;
        check_list(conversation)?;
        return Ok(Message::Vertex {
            id,
            partakers,
            conversation,
        });
    }
    Err(Fault::Unknown)
}

/// Where text goes.
pub trait Out {
    /// What can go wrong.
    type Error;
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// What a line of the vertices' file is to be extended by: partakers with a comma before each,
/// conversations with a `#` before each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct More<'a> {
    /// Of the second field.
    pub partakers: &'a [u8],
    /// Of the third.
    pub conversations: &'a [u8],
}

/// Writes the line of an event that is new.
pub fn write_vertex<O: Out>(id: &[u8], more: &More<'_>, out: &mut O) -> Result<(), O::Error> {
    out.put(id)?;
    out.put(b" - ")?;
    out.put(more.partakers.strip_prefix(b",").unwrap_or(more.partakers))?;
    out.put(b" - ")?;
    out.put(
        more.conversations
            .strip_prefix(b"#")
            .unwrap_or(more.conversations),
    )?;
    out.put(b"\n")
}

/// Where in a line the copying is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Id,
    Partakers,
    Conversations,
    /// Not a line of this format: copied as it is.
    Strange,
}

/// Copies the vertices' file, however it is cut into pieces, and extends lines on the way.
#[derive(Debug)]
pub struct Extender {
    place: Place,
    id: [u8; ID_MAX + 1],
    length: usize,
    /// Spaces that may belong to the separator.
    spaces: usize,
}

impl Default for Extender {
    fn default() -> Self {
        Self::new()
    }
}

impl Extender {
    /// At the start of a file.
    pub const fn new() -> Self {
        Extender {
            place: Place::Id,
            id: [0; ID_MAX + 1],
            length: 0,
            spaces: 0,
        }
    }

    fn id(&self) -> &[u8] {
        self.id.get(..self.length).unwrap_or(&[]).trim_ascii()
    }

    fn spaces<O: Out>(&mut self, out: &mut O) -> Result<(), O::Error> {
        while self.spaces > 0 {
            out.put(b" ")?;
            self.spaces = self.spaces.saturating_sub(1);
        }
        Ok(())
    }

    /// Copies a piece. `more` says by what the line of an event is extended; it is asked up to
    /// twice for each line.
    pub fn copy<'a, O: Out>(
        &mut self,
        piece: &[u8],
        more: &mut dyn FnMut(&[u8]) -> Option<More<'a>>,
        out: &mut O,
    ) -> Result<(), O::Error> {
        let mut rest = piece;
        while let Some(byte) = rest.first().copied() {
            match self.place {
                Place::Id => {
                    rest = rest.get(1..).unwrap_or(&[]);
                    out.put(&[byte])?;
                    match byte {
                        b'\n' => self.length = 0,
                        b'-' => self.place = Place::Partakers,
                        _ => match self.id.get_mut(self.length) {
                            Some(place) => {
                                *place = byte;
                                self.length = self.length.saturating_add(1);
                            }
                            None => self.place = Place::Strange,
                        },
                    }
                }
                Place::Partakers => {
                    let end = rest.iter().position(|b| matches!(*b, b' ' | b'-' | b'\n'));
                    let (plain, tail) = rest.split_at(end.unwrap_or(rest.len()));
                    if !plain.is_empty() {
                        self.spaces(out)?;
                        out.put(plain)?;
                    }
                    rest = tail.get(1..).unwrap_or(&[]);
                    match tail.first() {
                        Some(b' ') => self.spaces = self.spaces.saturating_add(1),
                        Some(b'-') => {
                            if let Some(more) = more(self.id()) {
                                out.put(more.partakers)?;
                            }
                            self.spaces(out)?;
                            out.put(b"-")?;
                            self.place = Place::Conversations;
                        }
                        Some(_) => {
                            self.spaces(out)?;
                            out.put(b"\n")?;
                            self.length = 0;
                            self.place = Place::Id;
                        }
                        None => {}
                    }
                }
                Place::Conversations | Place::Strange => {
                    let end = rest.iter().position(|b| *b == b'\n');
                    let (plain, tail) = rest.split_at(end.unwrap_or(rest.len()));
                    out.put(plain)?;
                    rest = tail.get(1..).unwrap_or(&[]);
                    if !tail.is_empty() {
                        if self.place == Place::Conversations {
                            if let Some(more) = more(self.id()) {
                                out.put(more.conversations)?;
                            }
                        }
                        out.put(b"\n")?;
                        self.length = 0;
                        self.place = Place::Id;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The name of the event at the start of a line of the vertices' file; `None` for another line.
pub fn id_of_line(line: &[u8]) -> Option<&[u8]> {
    let end = line.iter().position(|byte| *byte == b'-')?;
    let id = line.get(..end)?.trim_ascii();
    check_name(id).ok()?;
    Some(id)
}
