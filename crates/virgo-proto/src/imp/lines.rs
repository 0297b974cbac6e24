// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Lines at the front of a stream of bytes.
//!
//! A line ends with LF or CR LF; its text is any bytes but LF. Nothing is copied, and nothing but
//! the line is taken, so what follows it may be binary.

/// What the front of a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line.
    Whole {
        /// Without its end.
        text: &'a [u8],
        /// Bytes of the buffer that it takes, its end among them. Never 0.
        taken: usize,
    },
    /// The beginning of one: ask again with more bytes.
    Part,
    /// Already longer than allowed, whatever comes.
    TooLong,
}

/// Looks for a line of at most `max` bytes, its end not counted, at the front of `data`.
///
/// A CR right before the LF belongs to the end; any other is text. A CR that comes last is
/// not counted yet.
///
/// ```
/// use virgo_proto::lines::{line, Line};
/// assert_eq!(line(b"get a\r\nrest", 100), Line::Whole { text: b"get a", taken: 7 });
/// assert_eq!(line(b"get", 100), Line::Part);
/// assert_eq!(line(b"get", 2), Line::TooLong);
/// ```
pub fn line(data: &[u8], max: usize) -> Line<'_> {
    // The longest that can still be: text, CR, LF.
    let window = max.saturating_add(2).min(data.len());
    let seen = data.get(..window).unwrap_or(data);
    let (text, taken) = match find_lf(seen) {
        Some(end) => (seen.get(..end).unwrap_or(&[]), end.saturating_add(1)),
        None => (seen, 0),
    };
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() > max {
        Line::TooLong
    } else if taken > 0 {
        Line::Whole { text, taken }
    } else if window < data.len() {
        // More bytes than text, CR and LF could be, and no LF among them.
        Line::TooLong
    } else {
        Line::Part
    }
}

/// Where the first LF is, eight bytes at a time.
pub fn find_lf(data: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    const LF: u64 = ONES.wrapping_mul(b'\n' as u64);
    let mut chunks = data.chunks_exact(8);
    let mut at = 0usize;
    for chunk in chunks.by_ref() {
        if let Ok(bytes) = <[u8; 8]>::try_from(chunk) {
            // Zero where there was an LF; the lowest high bit that this leaves is the first
            // zero byte (those above it may be borrowed).
            let x = u64::from_le_bytes(bytes) ^ LF;
            let found = x.wrapping_sub(ONES) & !x & HIGH;
            if found != 0 {
                // CAST: less than 8.
                return Some(at.saturating_add((found.trailing_zeros() / 8) as usize));
            }
        }
        at = at.saturating_add(8);
    }
    let rest = chunks.remainder().iter().position(|b| *b == b'\n')?;
    Some(at.saturating_add(rest))
}
