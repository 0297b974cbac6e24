// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The words of port 30000 for blocks of memory: the original's, each with more arguments where
//! its grammar could not carry the data.
//!
//! | request | answer |
//! |---|---|
//! | `virgo_cloud_malloc(LENGTH)` | the block's handle, 32 hexadecimal digits |
//! | `virgo_cloud_set(VUID,TEXT)` | the handle; TEXT and a NUL (if there is room) are in the block |
//! | `virgo_cloud_set(VUID,OFFSET,LENGTH)`, then LENGTH bytes and CR LF | the handle |
//! | `virgo_cloud_get(VUID)` | the bytes up to the first NUL or the block's end |
//! | `virgo_cloud_get(VUID,OFFSET,LENGTH)` | `DATA N`, then N bytes and CR LF |
//! | `virgo_cloud_free(VUID)` | `kernel memory freed` |
//!
//! A request ends with LF, CR LF or NUL; NULs between requests are skipped, since the original's
//! clients fill up with them. White space around an argument, quotes around a handle or a number,
//! and what follows the closing bracket do not count. TEXT has no `,`, `)` or end of line in it
//! and keeps its quotes.

use super::lines::{line, Line};
use super::uapi::Vuid;

/// The longest request, without the bytes that follow some.
pub const LINE_MAX: usize = 65536;

/// What every request begins with.
pub const PREFIX: &[u8] = b"virgo_cloud_";

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Make a block of this many bytes.
    Malloc(u64),
    /// Write a text and a NUL at the front.
    Set(Vuid, &'a [u8]),
    /// Write the bytes that follow the line: where, and how many.
    SetAt(Vuid, u64, u64),
    /// Read a text.
    Get(Vuid),
    /// Read bytes: from where, and how many at most.
    GetAt(Vuid, u64, u64),
    /// Give it back.
    Free(Vuid),
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No such word.
    Word,
    /// No brackets, or not as many arguments as the word takes.
    Arguments,
    /// Not a handle.
    Handle,
    /// Not a number from 0 to 2^64 - 1.
    Number,
}

impl Wrong {
    /// The answer, its end included.
    pub const fn answer(self) -> &'static [u8] {
        match self {
            Wrong::Word => b"ERR word unknown: there are virgo_cloud_malloc, _set, _get, _free\r\n",
            Wrong::Arguments => {
                b"ERR arguments malloc(LENGTH), set(VUID,TEXT), set(VUID,OFFSET,LENGTH), get(VUID), get(VUID,OFFSET,LENGTH), free(VUID)\r\n"
            }
            Wrong::Handle => b"ERR vuid not a handle: up to 32 hexadecimal digits\r\n",
            Wrong::Number => b"ERR number not a number from 0 to 18446744073709551615\r\n",
        }
    }
}

/// The front of a stream of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A request, or what is wrong with it, and how many bytes it takes; the bytes that follow a
    /// [`Request::SetAt`] are not among them.
    Whole(Result<Request<'a>, Wrong>, usize),
    /// Not complete.
    Part,
    /// Longer than [`LINE_MAX`].
    TooLong,
}

/// Looks at the front of `data`.
pub fn step(data: &[u8]) -> Step<'_> {
    // A NUL ends a request as well, if it comes before the end of the line.
    let seen = data.get(..LINE_MAX.saturating_add(2)).unwrap_or(data);
    let nul = seen.iter().position(|byte| *byte == 0 || *byte == b'\n');
    if let Some(end) = nul.filter(|end| seen.get(*end) == Some(&0)) {
        let text = seen.get(..end).unwrap_or(&[]);
        return Step::Whole(parse(text), end.saturating_add(1));
    }
    match line(data, LINE_MAX) {
        Line::Whole { text, taken } => Step::Whole(parse(text), taken),
        Line::Part => Step::Part,
        Line::TooLong => Step::TooLong,
    }
}

/// Understands a request, without its end.
pub fn parse(text: &[u8]) -> Result<Request<'_>, Wrong> {
    let rest = text.strip_prefix(PREFIX).ok_or(Wrong::Word)?;
    let open = rest.iter().position(|byte| *byte == b'(');
    let (word, rest) = rest
        .split_at_checked(open.unwrap_or(rest.len()))
        .ok_or(Wrong::Word)?;
    let word = word.trim_ascii();
    if !matches!(word, b"malloc" | b"set" | b"get" | b"free") {
        return Err(Wrong::Word);
    }
    let rest = rest.get(1..).ok_or(Wrong::Arguments)?;
    let close = rest
        .iter()
        .position(|byte| *byte == b')')
        .ok_or(Wrong::Arguments)?;
    let mut arguments = rest.get(..close).unwrap_or(&[]).split(|byte| *byte == b',');
    let list = [arguments.next(), arguments.next(), arguments.next()];
    if arguments.next().is_some() {
        return Err(Wrong::Arguments);
    }
    match (word, list) {
        (b"malloc", [Some(length), None, None]) => Ok(Request::Malloc(number(length)?)),
        (b"set", [Some(vuid), Some(text), None]) => Ok(Request::Set(handle(vuid)?, text)),
        (b"set", [Some(vuid), Some(offset), Some(length)]) => Ok(Request::SetAt(
            handle(vuid)?,
            number(offset)?,
            number(length)?,
        )),
        (b"get", [Some(vuid), None, None]) => Ok(Request::Get(handle(vuid)?)),
        (b"get", [Some(vuid), Some(offset), Some(length)]) => Ok(Request::GetAt(
            handle(vuid)?,
            number(offset)?,
            number(length)?,
        )),
        (b"free", [Some(vuid), None, None]) => Ok(Request::Free(handle(vuid)?)),
        _ => Err(Wrong::Arguments),
    }
}

/// Without white space and quotes around it.
fn bare(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    text.strip_suffix(b"\"").unwrap_or(text).trim_ascii()
}

fn number(text: &[u8]) -> Result<u64, Wrong> {
    let text = bare(text);
    if text.is_empty() {
        return Err(Wrong::Number);
    }
    let mut value = 0u64;
    for byte in text {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10);
        value = digit
            .and_then(|digit| value.checked_mul(10)?.checked_add(digit.into()))
            .ok_or(Wrong::Number)?;
    }
    Ok(value)
}

/// Reads a handle: one to 32 hexadecimal digits.
pub fn handle(text: &[u8]) -> Result<Vuid, Wrong> {
    let text = bare(text);
    if text.is_empty() || text.len() > 32 {
        return Err(Wrong::Handle);
    }
    let mut value = 0u128;
    for byte in text {
        let digit = char::from(*byte).to_digit(16).ok_or(Wrong::Handle)?;
        value = (value << 4) | u128::from(digit);
    }
    // CAST: the two halves.
    let word = [(value >> 64) as u64, value as u64];
    Ok(Vuid { word })
}

/// Writes a handle: 32 hexadecimal digits.
pub fn handle_text(vuid: &Vuid) -> [u8; 32] {
    let mut text = [b'0'; 32];
    let mut value = (u128::from(vuid.word[0]) << 64) | u128::from(vuid.word[1]);
    for place in text.iter_mut().rev() {
        // CAST: four bits.
        let digit = (value & 15) as u8;
        *place = match digit {
            0..=9 => b'0'.wrapping_add(digit),
            _ => b'a'.wrapping_add(digit.wrapping_sub(10)),
        };
        value >>= 4;
    }
    text
}
