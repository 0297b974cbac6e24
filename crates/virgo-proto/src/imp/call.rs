// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The words of port 10000, and what nodes ask one another's pools for.
//!
//! | request | what |
//! |---|---|
//! | `NAME` | call the function without an input |
//! | `NAME(INPUT)` | with one: everything up to the last `)` |
//! | `NAME INPUT` | likewise: everything after the space |
//! | `virgo_clone("NAME")` | as the original's system call put it: `NAME` |
//!
//! A request ends with LF, CR LF or NUL; NULs between requests are skipped, since the original's
//! clients fill up with them.
//!
//! The answer is the function's output and CR LF. Where that would not be one line that can be told
//! from others (it has an end of line or a NUL in it, is longer than [`ANSWER_MAX`], or begins like
//! one of these two) it is `DATA N` and CR LF, then N bytes and CR LF. An error is `ERR NAME TEXT`.

use super::lines::{line, Line};

/// The longest request.
pub const LINE_MAX: usize = 65536;
/// The longest answer that is a line.
pub const ANSWER_MAX: usize = 4096;
/// The longest name of a function.
pub const NAME_MAX: usize = 63;

/// A call: a function's name, and its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The input.
    pub input: &'a [u8],
}

/// What is at the front of the bytes that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front<'a> {
    /// So many bytes that mean nothing.
    Skip(usize),
    /// A request, and the bytes that it takes.
    Request(&'a [u8], usize),
    /// More must come.
    Part,
    /// No request is as long.
    TooLong,
}

/// Looks at the front.
pub fn front(data: &[u8]) -> Front<'_> {
    let blank = data
        .iter()
        .take_while(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        .count();
    if blank > 0 {
        return Front::Skip(blank);
    }
    // A NUL ends a request as an end of line does, whichever comes first.
    let whole = match line(data, LINE_MAX) {
        Line::Whole { text, taken } => Some((text, taken)),
        Line::Part => None,
        Line::TooLong => Some((data.get(..LINE_MAX.saturating_add(1)).unwrap_or(data), 0)),
    };
    let text = whole.map_or(data, |(text, _)| text);
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        return match text.get(..end) {
            Some(text) if text.len() <= LINE_MAX => Front::Request(text, end.saturating_add(1)),
            _ => Front::TooLong,
        };
    }
    match whole {
        Some((_, 0)) => Front::TooLong,
        Some((text, taken)) => Front::Request(text, taken),
        None => Front::Part,
    }
}

/// Whether a function may be called this: letters, digits and `_`, not a digit first, at most
/// [`NAME_MAX`].
pub fn is_name(name: &[u8]) -> bool {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.len() <= NAME_MAX
        && name.iter().all(good)
        && name.first().is_some_and(|first| !first.is_ascii_digit())
}

/// Understands a request. `None` if it begins with no name.
pub fn parse(request: &[u8]) -> Option<Call<'_>> {
    let request = request.trim_ascii();
    let end = request
        .iter()
        .position(|byte| matches!(byte, b'(' | b' ' | b'\t'))
        .unwrap_or(request.len());
    let (name, rest) = request.split_at_checked(end)?;
    let input = match rest.split_first() {
        None => &[],
        Some((b'(', inside)) => {
            let close = inside.iter().rposition(|byte| *byte == b')')?;
            inside.get(..close)?
        }
        Some((_, input)) => input.trim_ascii(),
    };
    if name == b"virgo_clone" {
        let name = input.trim_ascii();
        let name = name.strip_prefix(b"\"").unwrap_or(name);
        let name = name.strip_suffix(b"\"").unwrap_or(name);
        return is_name(name).then_some(Call { name, input: &[] });
    }
    is_name(name).then_some(Call { name, input })
}

/// Whether an output can be an answer of one line.
pub fn is_line(output: &[u8]) -> bool {
    output.len() <= ANSWER_MAX
        && !output.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        && !output.starts_with(b"DATA ")
        && !output.starts_with(b"ERR ")
}

/// Takes a node's request apart: the name's length in one byte, the name, the input.
pub fn parse_remote(data: &[u8]) -> Option<Call<'_>> {
    let (length, rest) = data.split_first()?;
    let (name, input) = rest.split_at_checked(usize::from(*length))?;
    is_name(name).then_some(Call { name, input })
}
