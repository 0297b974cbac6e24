// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Settings of the whole cluster, as nodes send them to one another: a value, or that it was taken
//! back, with its version.
//!
//! A version is a stamp of the setting node's hybrid logical clock and that node's number. Of two
//! entries of one name the one with the later version is in force on every node, whichever came
//! first; [`Entry::rank`] is that order, and says which of two is later in every case.
//!
//! All numbers are little-endian:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | stamp, not 0 |
//! | 8 | 8 | when, in nanoseconds since 1970 |
//! | 16 | 4 | the node that set it, not 0 |
//! | 20 | 4 | user |
//! | 24 | 4 | process |
//! | 28 | 1 | 1: taken back; else 0 |
//! | 29 | 1 | where the value comes from, as in the uAPI |
//! | 30 | 1 | bytes of the name |
//! | 31 | 1 | bytes of why |
//! | 32 | 2 | bytes of the value |
//! | 34 | 2 | 0 |
//! | 36 | 16 | the process's name |
//! | 52 | … | name, why, value |

use super::analytics::{parse_value, valid_key, Kind, KEY_MAX, VALUE_MAX};

/// Bytes before the name.
pub const HEAD: usize = 52;
/// The longest reason.
pub const WHY_MAX: usize = 127;
/// The most bytes of an entry.
pub const ENTRY_MAX: usize = HEAD + KEY_MAX + WHY_MAX + VALUE_MAX;

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was set, by the hybrid clock of the node that set it.
    pub stamp: u64,
    /// That node.
    pub node: u32,
    /// When, by the time of day.
    pub when_ns: u64,
    /// Who.
    pub uid: u32,
    /// Who's process.
    pub pid: u32,
    /// Its name.
    pub comm: [u8; 16],
    /// What was set is taken back.
    pub gone: bool,
    /// Where the value comes from.
    pub source: u8,
    /// The setting's name.
    pub key: &'a [u8],
    /// Why it was set.
    pub why: &'a [u8],
    /// The value.
    pub text: &'a [u8],
}

/// Writes bytes at the beginning of a place; what is behind them.
fn put<'a>(place: &'a mut [u8], bytes: &[u8]) -> Option<&'a mut [u8]> {
    let (head, rest) = place.split_at_mut_checked(bytes.len())?;
    head.copy_from_slice(bytes);
    Some(rest)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn text<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

impl<'a> Entry<'a> {
    /// What decides between two entries of one name: the greater is in force. Two that are not the
    /// same have different ranks, if their names are the same.
    pub fn rank(&self) -> (u64, u32, bool, &'a [u8]) {
        (self.stamp, self.node, self.gone, self.text)
    }

    /// Whether it is what [`Entry::parse`] returns.
    pub fn is_sound(&self) -> bool {
        let shown = |byte: &u8| *byte >= 0x20 && *byte != 0x7f;
        self.stamp != 0
            && self.node != 0
            && valid_key(self.key)
            && self.why.len() <= WHY_MAX
            && self.why.iter().all(shown)
            && parse_value(Kind::Text, (0, 0), &[], self.text).is_ok()
            && (!self.gone || self.text.is_empty())
    }

    /// Writes it; how many bytes that were. `None` where there is too little room ([`ENTRY_MAX`] is
    /// enough), or it is not sound.
    pub fn encode(&self, place: &mut [u8]) -> Option<usize> {
        if !self.is_sound() {
            return None;
        }
        let room = place.len();
        let rest = put(place, &self.stamp.to_le_bytes())?;
        let rest = put(rest, &self.when_ns.to_le_bytes())?;
        let rest = put(rest, &self.node.to_le_bytes())?;
        let rest = put(rest, &self.uid.to_le_bytes())?;
        let rest = put(rest, &self.pid.to_le_bytes())?;
        let (key, why) = (
            u8::try_from(self.key.len()).ok()?,
            u8::try_from(self.why.len()).ok()?,
        );
        let rest = put(rest, &[u8::from(self.gone), self.source, key, why])?;
        let length = u16::try_from(self.text.len()).ok()?;
        let rest = put(rest, &length.to_le_bytes())?;
        let rest = put(rest, &[0; 2])?;
        let rest = put(rest, &self.comm)?;
        let rest = put(rest, self.key)?;
        let rest = put(rest, self.why)?;
        let rest = put(rest, self.text)?;
        room.checked_sub(rest.len())
    }

    /// The first entry of some bytes, and what is behind it. `None` for what is no entry.
    pub fn parse(mut bytes: &'a [u8]) -> Option<(Entry<'a>, &'a [u8])> {
        let bytes = &mut bytes;
        let stamp = u64::from_le_bytes(take(bytes)?);
        let when_ns = u64::from_le_bytes(take(bytes)?);
        let node = u32::from_le_bytes(take(bytes)?);
        let uid = u32::from_le_bytes(take(bytes)?);
        let pid = u32::from_le_bytes(take(bytes)?);
        let [gone, source, key, why] = take(bytes)?;
        let length = u16::from_le_bytes(take(bytes)?);
        let zero: [u8; 2] = take(bytes)?;
        let comm = take(bytes)?;
        let key = text(bytes, key.into())?;
        let why = text(bytes, why.into())?;
        let text = text(bytes, length.into())?;
        let entry = Entry {
            stamp,
            node,
            when_ns,
            uid,
            pid,
            comm,
            gone: gone == 1,
            source,
            key,
            why,
            text,
        };
        (gone <= 1 && zero == [0; 2] && entry.is_sound()).then_some((entry, *bytes))
    }
}

/// The entries of some bytes, one after the other. Ends with `Some(None)` at what is none.
#[derive(Clone, Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// Of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Entries(bytes)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Option<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match Entry::parse(self.0) {
            Some((entry, rest)) => {
                self.0 = rest;
                Some(Some(entry))
            }
            None => {
                self.0 = &[];
                Some(None)
            }
        }
    }
}
