// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The text of virgo-analytics: settings' names and typed values, and the file of settings in all
//! the forms that `/etc/virgo_kernel_analytics.conf` has had.
//!
//! A file holds `key=value` items, separated by commas or the ends of lines (or NULs, as a stream
//! pads with). Inside `[]`, `{}`, `()` and quotes a comma or a line's end belongs to the value. An
//! item that begins with `#` is a comment up to the end of its line.
//!
//! ```
//! use virgo_proto::analytics::{Conf, Item};
//!
//! let text = b"match=True\n,fds={'22', '20'}\n";
//! let items: Vec<_> = Conf::new(text).map(|item| item.map(|i| (i.key, i.value))).collect();
//! assert_eq!(items, [Ok((&b"match"[..], &b"True"[..])), Ok((b"fds", b"{'22', '20'}"))]);
//! ```

/// What a client of a stream of settings says first, padded with NULs to [`STREAM_RECORD`].
pub const STREAM_START: &[u8] = b"KERNEL_ANALYTICS_STREAMING_START";
/// The most bytes of a stream's message, and the length of what a client says first.
pub const STREAM_RECORD: usize = 1000;
/// The longest name of a setting.
pub const KEY_MAX: usize = 127;
/// The longest value.
pub const VALUE_MAX: usize = 4096;
/// The deepest nesting of brackets in a value.
pub const DEPTH_MAX: usize = 64;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Any text.
    Text = 0,
    /// A whole number; K, M, G and T behind it are the powers of 1024.
    Int = 1,
    /// Yes or no.
    Bool = 2,
    /// One of some words; its number is the word's place.
    Choice = 3,
}

impl Kind {
    /// From its number.
    pub const fn from_number(number: u32) -> Option<Kind> {
        Some(match number {
            0 => Kind::Text,
            1 => Kind::Int,
            2 => Kind::Bool,
            3 => Kind::Choice,
            _ => return None,
        })
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Int => "int",
            Kind::Bool => "bool",
            Kind::Choice => "choice",
        }
    }
}

/// Why a value is not one of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadValue {
    /// It is not a number, not yes or no, not one of the words, or no text to show.
    Form,
    /// It is below the least or above the greatest.
    Range,
    /// It is longer than [`VALUE_MAX`].
    Long,
}

/// Whether this can be the name of a setting: 1 to [`KEY_MAX`] letters, digits and `_.-:/@`.
pub fn valid_key(key: &[u8]) -> bool {
    (1..=KEY_MAX).contains(&key.len())
        && key
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-:/@".contains(byte))
}

/// A whole number, with a sign, in decimal, perhaps with K, M, G or T behind it. `None` for what is
/// none, or is too large.
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (digits, shift) = match digits {
        [rest @ .., b'k' | b'K'] => (rest, 10),
        [rest @ .., b'm' | b'M'] => (rest, 20),
        [rest @ .., b'g' | b'G'] => (rest, 30),
        [rest @ .., b't' | b'T'] => (rest, 40),
        rest => (rest, 0),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_i64;
    for digit in digits {
        let value = digit.checked_sub(b'0').filter(|value| *value < 10)?;
        // Downwards, as there is one more below zero than above.
        number = number.checked_mul(10)?.checked_sub(i64::from(value))?;
    }
    number = number.checked_mul(1_i64.checked_shl(shift)?)?;
    if negative {
        Some(number)
    } else {
        number.checked_neg()
    }
}

/// Yes or no.
pub fn parse_bool(text: &[u8]) -> Option<bool> {
    let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
    if is(b"true") || is(b"yes") || is(b"on") || is(b"1") {
        Some(true)
    } else if is(b"false") || is(b"no") || is(b"off") || is(b"0") {
        Some(false)
    } else {
        None
    }
}

/// The words of a choice, which are stored with `|` between.
pub fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b'|')
}

/// Whether this can be the list of a choice's words: 2 or more, none empty, none twice.
pub fn valid_words(list: &[u8]) -> bool {
    let mut count = 0_usize;
    for word in words(list) {
        let good = !word.is_empty() && word.iter().all(|byte| (0x21..0x7f).contains(byte));
        if !good || words(list).take(count).any(|before| before == word) {
            return false;
        }
        count = count.saturating_add(1);
    }
    count >= 2
}

/// The number of a value: an integer itself, a truth 0 or 1, a word its place, a text 0.
///
/// `list` has a choice's words; `low` and `high` bound an integer.
pub fn parse_value(
    kind: Kind,
    (low, high): (i64, i64),
    list: &[u8],
    text: &[u8],
) -> Result<i64, BadValue> {
    if text.len() > VALUE_MAX {
        return Err(BadValue::Long);
    }
    if text.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err(BadValue::Form);
    }
    match kind {
        Kind::Text => Ok(0),
        Kind::Int => {
            let number = parse_int(text).ok_or(BadValue::Form)?;
            if (low..=high).contains(&number) {
                Ok(number)
            } else {
                Err(BadValue::Range)
            }
        }
        Kind::Bool => parse_bool(text).map(i64::from).ok_or(BadValue::Form),
        Kind::Choice => words(list)
            .position(|word| word == text)
            .and_then(|place| i64::try_from(place).ok())
            .ok_or(BadValue::Range),
    }
}

/// An item of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The setting's name.
    pub key: &'a [u8],
    /// Its value, with brackets and quotes as they are. One over several lines has their ends in
    /// it.
    pub value: &'a [u8],
    /// The line it begins on, from 1.
    pub line: u32,
}

/// What is wrong with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfFault {
    /// There is no `=`.
    NoEquals,
    /// The name is empty, longer than [`KEY_MAX`], or has a byte that a name can't have.
    Key,
    /// The value is longer than [`VALUE_MAX`].
    Long,
    /// A bracket is closed that is not the one that is open.
    Mismatch,
    /// A bracket or a quote is never closed.
    Unclosed,
    /// Brackets are nested deeper than [`DEPTH_MAX`].
    Deep,
}

impl ConfFault {
    /// What is wrong, in words.
    pub const fn text(self) -> &'static str {
        match self {
            ConfFault::NoEquals => "there is no '=' in it",
            ConfFault::Key => "its name is not 1 to 127 letters, digits and _.-:/@",
            ConfFault::Long => "its value is longer than 4096 bytes",
            ConfFault::Mismatch => "it closes a bracket that is not the one that is open",
            ConfFault::Unclosed => "a bracket or quote in it is never closed",
            ConfFault::Deep => "its brackets are nested deeper than 64",
        }
    }
}

/// A fault in a file, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfError<'a> {
    /// What is wrong.
    pub fault: ConfFault,
    /// The item.
    pub text: &'a [u8],
    /// The line it begins on, from 1.
    pub line: u32,
}

/// The items of a file, in order. After one with a fault it goes on behind its line.
#[derive(Clone, Debug)]
pub struct Conf<'a> {
    rest: &'a [u8],
    line: u32,
}

impl<'a> Conf<'a> {
    /// The items of this text.
    pub fn new(text: &'a [u8]) -> Self {
        Conf {
            rest: text,
            line: 1,
        }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b'\n' | b'\r' | 0)
}

fn count_lines(text: &[u8]) -> u32 {
    let count = text.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Where an item at the front of a text ends: at its separator, or at the end of the text.
///
/// `Ok(None)` if the text ends inside a bracket or a quote.
fn item_end(text: &[u8]) -> Result<Option<usize>, ConfFault> {
    let mut open = [0_u8; DEPTH_MAX];
    let mut depth = 0_usize;
    let mut quote = None;
    let mut before = b' ';
    for (at, byte) in text.iter().copied().enumerate() {
        if let Some(mark) = quote {
            if byte == mark {
                quote = None;
            }
            before = byte;
            continue;
        }
        match byte {
            _ if depth == 0 && is_separator(byte) => return Ok(Some(at)),
            b'\'' | b'"' if b" \t\n=,[{(:".contains(&before) => quote = Some(byte),
            b'[' | b'{' | b'(' => {
                let closes = match byte {
                    b'[' => b']',
                    b'{' => b'}',
                    _ => b')',
                };
                *open.get_mut(depth).ok_or(ConfFault::Deep)? = closes;
                depth = depth.saturating_add(1);
            }
            b']' | b'}' | b')' => {
                depth = depth.checked_sub(1).ok_or(ConfFault::Mismatch)?;
                if open.get(depth) != Some(&byte) {
                    return Err(ConfFault::Mismatch);
                }
            }
            _ => {}
        }
        before = byte;
    }
    Ok((depth == 0 && quote.is_none()).then_some(text.len()))
}

fn line_end(text: &[u8]) -> usize {
    text.iter()
        .position(|byte| *byte == b'\n' || *byte == 0)
        .unwrap_or(text.len())
}

impl<'a> Conf<'a> {
    /// Takes `length` bytes off the front.
    fn cut(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, &[]));
        self.rest = rest;
        self.line = self.line.saturating_add(count_lines(taken));
        taken
    }

    /// Past separators and blanks. False at the end.
    fn skip_blank(&mut self) -> bool {
        let blank = self
            .rest
            .iter()
            .position(|byte| !is_separator(*byte) && !byte.is_ascii_whitespace())
            .unwrap_or(self.rest.len());
        self.cut(blank);
        !self.rest.is_empty()
    }

    /// Up to the next item: past separators, blanks and comments. False at the end.
    fn skip(&mut self) -> bool {
        while self.skip_blank() {
            if self.rest.first() != Some(&b'#') {
                return true;
            }
            self.cut(line_end(self.rest));
        }
        false
    }
}

fn parse_item(text: &[u8], line: u32) -> Result<Item<'_>, ConfError<'_>> {
    let wrong = |fault| ConfError { fault, text, line };
    let at = text
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or(wrong(ConfFault::NoEquals))?;
    let (key, value) = text.split_at_checked(at).unwrap_or((text, &[]));
    let (key, value) = (key.trim_ascii(), value.get(1..).unwrap_or(&[]).trim_ascii());
    if !valid_key(key) {
        return Err(wrong(ConfFault::Key));
    }
    if value.len() > VALUE_MAX {
        return Err(wrong(ConfFault::Long));
    }
    Ok(Item { key, value, line })
}

impl<'a> Iterator for Conf<'a> {
    type Item = Result<Item<'a>, ConfError<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.skip() {
            return None;
        }
        let line = self.line;
        let fault = match item_end(self.rest) {
            Ok(Some(end)) => {
                let text = self.cut(end);
                return Some(parse_item(text.trim_ascii(), line));
            }
            Ok(None) => ConfFault::Unclosed,
            Err(fault) => fault,
        };
        let text = self.cut(line_end(self.rest));
        Some(Err(ConfError { fault, text, line }))
    }
}

/// How many bytes at the front of a stream are whole items: up to and with the last separator that
/// is in no bracket or quote. What follows is to be shown again when more has come.
pub fn whole_items(text: &[u8]) -> usize {
    let mut conf = Conf::new(text);
    loop {
        let more = conf.skip_blank();
        let whole = text.len().saturating_sub(conf.rest.len());
        if !more {
            return whole;
        }
        let line = line_end(conf.rest);
        let end = match item_end(conf.rest) {
            _ if conf.rest.first() == Some(&b'#') => line,
            Ok(Some(end)) => end,
            // Wrong already: its line will be told of when that has come.
            Err(_) => line,
            Ok(None) => return whole,
        };
        if end >= conf.rest.len() {
            return whole;
        }
        conf.cut(end.saturating_add(1));
    }
}
