// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! memcached's text protocol, with its meta commands: requests, word by word, and the words of the
//! answers. Limits and messages are those of memcached 1.6.
//!
//! Nothing is copied. A request that stores is its line; the data block follows, of the length that
//! the line says and with CR LF behind it.

use super::lines::{line, Line};

/// The longest key.
pub const KEY_MAX: usize = 250;
/// The longest line, but for requests that take many keys.
pub const LINE_MAX: usize = 2048;
/// The longest line of a request that takes many keys.
pub const KEYS_LINE_MAX: usize = 65536;
/// The most words of a meta command behind its key.
const META_WORDS_MAX: usize = 17;
/// The longest opaque token, its letter included.
const OPAQUE_MAX: usize = 32;
/// The longest data block that a line may announce; longer ones are not even swallowed.
const LENGTH_MAX: i64 = i32::MAX as i64 - 2;

/// The line is not understood.
pub const BAD_FORMAT: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
/// The data block has no CR LF behind it, or no length that can be.
pub const BAD_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
/// No such command.
pub const ERROR: &[u8] = b"ERROR\r\n";
const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
const BAD_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
const BAD_TOKEN: &[u8] = b"CLIENT_ERROR bad token in command line format\r\n";
const BAD_FLAG: &[u8] = b"CLIENT_ERROR invalid or duplicate flag\r\n";
const BAD_SET_MODE: &[u8] = b"CLIENT_ERROR invalid mode for ms M token\r\n";
const BAD_COUNT_MODE: &[u8] = b"CLIENT_ERROR invalid mode for ma M token\r\n";
const TOO_MANY_FLAGS: &[u8] = b"CLIENT_ERROR options flags are too long\r\n";
const TOO_MANY_WORDS: &[u8] = b"CLIENT_ERROR options flags too long\r\n";
const OPAQUE_TOO_LONG: &[u8] = b"CLIENT_ERROR opaque token too long\r\n";
/// The value is no number.
pub const NOT_NUMBER: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
/// Larger than the limit.
pub const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
/// No room.
pub const NO_MEMORY: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";

/// How to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// In any case.
    Set,
    /// If it is not there.
    Add,
    /// If it is there.
    Replace,
    /// Behind what is there.
    Append,
    /// Before what is there.
    Prepend,
}

/// Which meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVerb {
    /// `mg`
    Get,
    /// `ms`; the length of the data block.
    Set(usize),
    /// `md`
    Delete,
    /// `ma`
    Count,
    /// `me`
    Debug,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request<'a> {
    /// get, gets, gat, gats.
    Get {
        /// The keys; each is 1 to [`KEY_MAX`] bytes.
        keys: Words<'a>,
        /// Answer with the values' numbers.
        cas: bool,
        /// Give them this time.
        touch: Option<i64>,
    },
    /// set, add, replace, append, prepend, cas. The data block follows.
    Store {
        /// How.
        verb: Verb,
        /// The key.
        key: &'a [u8],
        /// The user's own flags.
        flags: u32,
        /// Seconds, as the client says.
        exptime: i64,
        /// Bytes of the data block, without its CR LF.
        length: usize,
        /// Only if this is the value's number.
        cas: Option<u64>,
        /// No answer.
        quiet: bool,
    },
    /// delete.
    Delete {
        /// The key.
        key: &'a [u8],
        /// No answer.
        quiet: bool,
    },
    /// incr, decr.
    Count {
        /// The key.
        key: &'a [u8],
        /// How much.
        delta: u64,
        /// Take away.
        decrement: bool,
        /// No answer.
        quiet: bool,
    },
    /// touch.
    Touch {
        /// The key.
        key: &'a [u8],
        /// Seconds, as the client says.
        exptime: i64,
        /// No answer.
        quiet: bool,
    },
    /// mg, ms, md, ma, me.
    Meta(MetaVerb, Meta<'a>),
    /// mn.
    MetaNothing,
    /// stats: of what; empty for the general ones.
    Stats(&'a [u8]),
    /// flush_all, after this many seconds.
    FlushAll {
        /// Seconds, as the client says.
        delay: i64,
        /// No answer.
        quiet: bool,
    },
    /// version.
    Version,
    /// verbosity: the level.
    Verbosity {
        /// How much to tell.
        level: u32,
        /// No answer.
        quiet: bool,
    },
    /// cache_memlimit: MiB.
    MemoryLimit {
        /// In MiB.
        megabytes: u64,
        /// No answer.
        quiet: bool,
    },
    /// quit.
    Quit,
}

/// The front of a stream of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// A request, and the bytes of its line.
    Whole(Request<'a>, usize),
    /// Not a request.
    Wrong {
        /// The answer.
        answer: &'static [u8],
        /// Bytes of the line.
        taken: usize,
        /// Bytes of a data block behind it to pass over.
        swallow: usize,
        /// No answer.
        quiet: bool,
    },
    /// Not complete.
    Part,
    /// Longer than a line may be.
    TooLong,
    /// The binary protocol.
    Binary,
}

/// Where the first byte `what` is, eight bytes at a time.
#[inline(always)]
fn find(data: &[u8], what: u8) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let pattern = ONES.wrapping_mul(what.into());
    let mut chunks = data.chunks_exact(8);
    let mut at = 0usize;
    for chunk in chunks.by_ref() {
        if let Ok(bytes) = <[u8; 8]>::try_from(chunk) {
            let x = u64::from_le_bytes(bytes) ^ pattern;
            let found = x.wrapping_sub(ONES) & !x & HIGH;
            if found != 0 {
                // CAST: less than 8.
                return Some(at.saturating_add((found.trailing_zeros() / 8) as usize));
            }
        }
        at = at.saturating_add(8);
    }
    let rest = chunks.remainder().iter().position(|byte| *byte == what)?;
    Some(at.saturating_add(rest))
}

/// Words with spaces between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b' ', rest @ ..] = self.0 {
            self.0 = rest;
        }
        if self.0.is_empty() {
            return None;
        }
        let end = find(self.0, b' ').unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(word)
    }
}

impl<'a> Words<'a> {
    /// The words of a text.
    pub fn new(text: &'a [u8]) -> Self {
        Words(text)
    }

    /// What is left of the text.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// A decimal number as C's strtoull reads it, which memcached does: white space in front, a sign,
/// digits, and then the end, white space or a NUL. True: it had a minus.
fn integer(word: &[u8]) -> Option<(bool, u64)> {
    let blank = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let mut rest = word;
    while let [first, behind @ ..] = rest {
        if !blank(first) {
            break;
        }
        rest = behind;
    }
    let (negative, digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let (mut value, mut rest, mut any) = (0u64, digits, false);
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        let digit = digit.wrapping_sub(b'0');
        value = value.checked_mul(10)?.checked_add(digit.into())?;
        (rest, any) = (behind, true);
    }
    let ends = rest.first().is_none_or(|byte| blank(byte) || *byte == 0);
    (any && ends).then_some((negative, value))
}

/// A number of 64 bits without a sign, or with one that it can bear.
pub fn number(word: &[u8]) -> Option<u64> {
    match integer(word)? {
        (false, value) => Some(value),
        // As in C; but what comes out must not look like a number below 0.
        (true, value) => Some(value.wrapping_neg()).filter(|value| *value < 1 << 63),
    }
}

fn number32(word: &[u8]) -> Option<u32> {
    u32::try_from(number(word)?).ok()
}

fn signed(word: &[u8]) -> Option<i64> {
    match integer(word)? {
        (false, value) => i64::try_from(value).ok(),
        (true, value) if value == 1 << 63 => Some(i64::MIN),
        (true, value) => i64::try_from(value).ok()?.checked_neg(),
    }
}

fn key(word: Option<&[u8]>) -> Option<&[u8]> {
    word.filter(|word| !word.is_empty() && word.len() <= KEY_MAX)
}

/// The keys of a plain `get` in a short line at the front of `data`, and the bytes of that line: what
/// most requests are, without a look at what else there is. `None` says nothing: [`step`] knows.
#[inline]
pub fn quick_get(data: &[u8]) -> Option<(Words<'_>, usize)> {
    let rest = data.strip_prefix(b"get ")?;
    // No key of so short a line is too long.
    let seen = rest.get(..KEY_MAX).unwrap_or(rest);
    let end = find(seen, b'\n')?;
    let text = seen.get(..end)?;
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if matches!(text.first(), None | Some(b' ')) {
        return None;
    }
    Some((Words(text), end.saturating_add(5)))
}

/// Looks at the front of `data`, which is not empty.
pub fn step(data: &[u8]) -> Step<'_> {
    if data.first() == Some(&0x80) {
        return Step::Binary;
    }
    match line(data, LINE_MAX) {
        Line::Whole { text, taken } => parse(text, taken),
        Line::Part => Step::Part,
        Line::TooLong => match line(data, KEYS_LINE_MAX) {
            // All of it is there: what it is can be told.
            Line::Whole { text, taken } => parse(text, taken),
            rest => match Words(data.get(..LINE_MAX).unwrap_or(data)).next() {
                Some(b"get" | b"gets" | b"gat" | b"gats") if rest == Line::Part => Step::Part,
                _ => Step::TooLong,
            },
        },
    }
}

/// Why a line is not a request: the answer, and how much of a data block to pass over.
struct Wrong(&'static [u8], usize);

impl From<&'static [u8]> for Wrong {
    fn from(answer: &'static [u8]) -> Self {
        Wrong(answer, 0)
    }
}

fn parse(text: &[u8], taken: usize) -> Step<'_> {
    match understand(text) {
        Ok(request) => Step::Whole(request, taken),
        // A browser that was made to send this must not get further requests through.
        Err(_) if is_http(text) => Step::Binary,
        Err(Wrong(answer, swallow)) => {
            // As memcached: the wish for no answer covers errors, but not those of meta commands.
            let mut words = Words(text);
            let classic = words
                .next()
                .is_some_and(|word| word.len() > 2 && !word.starts_with(b"g"));
            let quiet = classic && answer != ERROR && words.last() == Some(b"noreply");
            Step::Wrong {
                answer,
                taken,
                swallow,
                quiet,
            }
        }
    }
}

/// Whether a line is one of HTTP.
fn is_http(text: &[u8]) -> bool {
    let word = Words(text).next().unwrap_or(&[]);
    // Requests of ours, of which only the arguments are wrong.
    let ours = matches!(
        word.first(),
        None | Some(b'a' | b'c' | b'd' | b'g' | b'i' | b's' | b't')
    ) || word.len() < 2
        || (word.len() == 2 && word.starts_with(b"m"))
        || matches!(word, b"replace" | b"prepend" | b"flush_all" | b"verbosity");
    !ours
        && Words(text)
            .last()
            .is_some_and(|word| word.starts_with(b"HTTP/"))
}

/// Whether the words that are left are at most so many.
fn at_most(words: Words<'_>, count: usize) -> Result<(), Wrong> {
    match { words }.nth(count) {
        None => Ok(()),
        Some(_) => Err(ERROR.into()),
    }
}

fn understand(text: &[u8]) -> Result<Request<'_>, Wrong> {
    let mut words = Words(text);
    let first = words.next().unwrap_or(&[]);
    match first {
        b"get" => keys(words, false, None),
        b"gets" => keys(words, true, None),
        b"gat" | b"gats" => {
            let time = words.next().ok_or(ERROR)?;
            let time = signed(time).ok_or(BAD_EXPTIME)?;
            if { words }.next().is_none() {
                // memcached finds none of no keys.
                return Ok(Request::Get {
                    keys: words,
                    cas: false,
                    touch: None,
                });
            }
            keys(words, first == b"gats", Some(time))
        }
        b"set" => store(Verb::Set, words, false),
        b"add" => store(Verb::Add, words, false),
        b"replace" => store(Verb::Replace, words, false),
        b"append" => store(Verb::Append, words, false),
        b"prepend" => store(Verb::Prepend, words, false),
        b"cas" => store(Verb::Set, words, true),
        b"delete" => {
            let word = words.next().ok_or(ERROR)?;
            at_most(words, 2)?;
            // A time of 0, which old clients send, does no harm.
            let quiet =
                match (words.next(), words.next()) {
                    (None, _) => false,
                    (Some(b"0"), None) => false,
                    (Some(b"noreply"), None) => true,
                    (Some(b"0"), Some(b"noreply")) => true,
                    _ => return Err(
                        b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
                            .as_slice()
                            .into(),
                    ),
                };
            let key = key(Some(word)).ok_or(BAD_FORMAT)?;
            Ok(Request::Delete { key, quiet })
        }
        b"incr" | b"decr" => {
            let (word, delta) = (words.next(), words.next());
            let delta = delta.ok_or(ERROR)?;
            at_most(words, 1)?;
            let key = key(word).ok_or(BAD_FORMAT)?;
            Ok(Request::Count {
                key,
                delta: number(delta).ok_or(BAD_DELTA)?,
                decrement: first == b"decr",
                quiet: words.next() == Some(b"noreply"),
            })
        }
        b"touch" => {
            let (word, time) = (words.next(), words.next());
            let time = time.ok_or(ERROR)?;
            at_most(words, 1)?;
            let key = key(word).ok_or(BAD_FORMAT)?;
            Ok(Request::Touch {
                key,
                exptime: signed(time).ok_or(BAD_EXPTIME)?,
                quiet: words.next() == Some(b"noreply"),
            })
        }
        b"mg" => Ok(Request::Meta(MetaVerb::Get, Meta::parse(words, b'g')?)),
        b"md" => {
            let meta = Meta::parse(words, b'd')?;
            Ok(Request::Meta(MetaVerb::Delete, meta))
        }
        b"ma" => {
            let meta = Meta::parse(words, b'a')?;
            match meta.mode {
                None | Some(b'I' | b'+' | b'D' | b'-') => {}
                _ => return Err(BAD_COUNT_MODE.into()),
            }
            Ok(Request::Meta(MetaVerb::Count, meta))
        }
        b"me" => Ok(Request::Meta(MetaVerb::Debug, Meta::only_key(words)?)),
        b"ms" => {
            let mut rest = words;
            rest.next().ok_or(ERROR)?;
            let length = rest.next().ok_or(BAD_FORMAT)?;
            let length = length_of(length).ok_or(BAD_FORMAT)?;
            let meta =
                Meta::parse(words, b's').map_err(|Wrong(answer, _)| swallow(answer, length))?;
            match meta.mode {
                None | Some(b'S' | b'E' | b'A' | b'P' | b'R') => {}
                _ => return Err(swallow(BAD_SET_MODE, length)),
            }
            Ok(Request::Meta(MetaVerb::Set(length), meta))
        }
        b"mn" => Ok(Request::MetaNothing),
        b"stats" => Ok(Request::Stats(words.next().unwrap_or(&[]))),
        b"flush_all" => {
            at_most(words, 2)?;
            let (delay, quiet) = match words.next() {
                None => (0, false),
                Some(b"noreply") if { words }.next().is_none() => (0, true),
                Some(delay) => (
                    signed(delay).ok_or(BAD_EXPTIME)?,
                    words.next() == Some(b"noreply"),
                ),
            };
            Ok(Request::FlushAll { delay, quiet })
        }
        b"version" => Ok(Request::Version),
        b"verbosity" => {
            let level = words.next().ok_or(ERROR)?;
            at_most(words, 1)?;
            Ok(Request::Verbosity {
                level: u32::try_from(number(level).ok_or(BAD_FORMAT)?).unwrap_or(u32::MAX),
                quiet: words.next() == Some(b"noreply"),
            })
        }
        b"cache_memlimit" => {
            let limit = words.next().ok_or(ERROR)?;
            at_most(words, 1)?;
            Ok(Request::MemoryLimit {
                megabytes: number(limit).ok_or(ERROR)?,
                quiet: words.next() == Some(b"noreply"),
            })
        }
        b"quit" => Ok(Request::Quit),
        _ => Err(ERROR.into()),
    }
}

fn keys(words: Words<'_>, cas: bool, touch: Option<i64>) -> Result<Request<'_>, Wrong> {
    let keys = words;
    // A key that is too long can only be in a line that is.
    if keys.0.len() > KEY_MAX && { words }.any(|word| word.len() > KEY_MAX) {
        return Err(BAD_FORMAT.into());
    }
    if keys.0.iter().all(|byte| *byte == b' ') {
        return Err(ERROR.into());
    }
    Ok(Request::Get { keys, cas, touch })
}

fn length_of(word: &[u8]) -> Option<usize> {
    let length = signed(word).filter(|length| (0..=LENGTH_MAX).contains(length))?;
    usize::try_from(length).ok()
}

/// An error of a request that announced a data block, which is passed over with its CR LF.
fn swallow(answer: &'static [u8], length: usize) -> Wrong {
    Wrong(answer, length.saturating_add(2))
}

fn store(verb: Verb, mut words: Words<'_>, with_cas: bool) -> Result<Request<'_>, Wrong> {
    let list = [words.next(), words.next(), words.next(), words.next()];
    let [Some(name), Some(flags), Some(time), Some(length)] = list else {
        return Err(ERROR.into());
    };
    let cas = match (with_cas, words.next()) {
        (true, None) => return Err(ERROR.into()),
        (true, Some(cas)) => (Some(cas), words.next()),
        (false, next) => (None, next),
    };
    at_most(words, 0)?;
    let length = length_of(length).ok_or(BAD_FORMAT)?;
    let bad = || swallow(BAD_FORMAT, length);
    Ok(Request::Store {
        verb,
        key: key(Some(name)).ok_or_else(bad)?,
        flags: number32(flags).ok_or_else(bad)?,
        exptime: signed(time).ok_or_else(bad)?,
        length,
        cas: match cas.0 {
            Some(cas) => Some(number(cas).ok_or_else(bad)?),
            None => None,
        },
        quiet: cas.1 == Some(b"noreply"),
    })
}

/// A meta command's key and flags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meta<'a> {
    /// The key, as it was sent.
    pub key: &'a [u8],
    /// The flags, in their order, each with its token.
    pub flags: Words<'a>,
    /// `b`: the key is base64.
    pub base64: bool,
    /// `q`: no answer where nothing special happened.
    pub quiet: bool,
    /// `v`: answer with the value.
    pub value: bool,
    /// `u`: the item does not count as used.
    pub untouched: bool,
    /// `x`: remove the value, keep the item.
    pub empty: bool,
    /// `I`: mark as stale, or store if older.
    pub invalidate: bool,
    /// `C`: compare the number.
    pub cas: Option<u64>,
    /// `E`: the new number.
    pub new_cas: Option<u64>,
    /// `T`: seconds, as the client says.
    pub ttl: Option<i64>,
    /// `N`: make it if it is not there, for so many seconds.
    pub vivify: Option<i64>,
    /// `R`: tell who may bring a newer value, if less than so many seconds are left.
    pub recache: Option<i64>,
    /// `F`: the user's own flags.
    pub user_flags: u32,
    /// `M`: the mode's letter.
    pub mode: Option<u8>,
    /// `J`: the first value of a number.
    pub initial: u64,
    /// `D`: how much to add.
    pub delta: u64,
}

impl<'a> Meta<'a> {
    fn new(key: &'a [u8], flags: Words<'a>) -> Self {
        Meta {
            key,
            flags,
            base64: false,
            quiet: false,
            value: false,
            untouched: false,
            empty: false,
            invalidate: false,
            cas: None,
            new_cas: None,
            ttl: None,
            vivify: None,
            recache: None,
            user_flags: 0,
            mode: None,
            initial: 0,
            delta: 1,
        }
    }

    /// Of `me`, which takes but one flag.
    fn only_key(mut words: Words<'a>) -> Result<Self, Wrong> {
        let key = key(words.next()).ok_or(BAD_FORMAT)?;
        let mut meta = Meta::new(key, words);
        meta.base64 = words.next() == Some(b"b");
        if !meta.is_plain_key() {
            return Err(BAD_FORMAT.into());
        }
        Ok(meta)
    }

    /// What is behind `m` and `verb`. What is said of several flags that are wrong is what memcached
    /// says: of one that is not known or there twice at once, else of the last one; and of those of
    /// `md` and `ma` always the same.
    fn parse(mut words: Words<'a>, verb: u8) -> Result<Self, Wrong> {
        let name = words.next().ok_or(ERROR)?;
        let key = key(Some(name)).ok_or(BAD_FORMAT)?;
        if { words }.nth(META_WORDS_MAX).is_some() {
            return Err(match verb {
                b'g' => TOO_MANY_FLAGS.into(),
                _ => TOO_MANY_WORDS.into(),
            });
        }
        if verb == b's' {
            // The length.
            words.next();
        }
        let mut meta = Meta::new(key, words);
        let tell = |answer: &'static [u8]| match verb {
            b'g' | b's' => answer.into(),
            _ => BAD_FLAG.into(),
        };
        let mut seen = 0u128;
        let (mut wrong, mut answer) = (false, BAD_FORMAT);
        let mut opaque = 0usize;
        for word in words {
            let (letter, token) = word.split_first().ok_or(BAD_FORMAT)?;
            let bit = 1u128.checked_shl(u32::from(*letter)).unwrap_or(0);
            if *letter >= 127 || seen & bit != 0 {
                return Err(tell(b"CLIENT_ERROR duplicate flag\r\n"));
            }
            seen |= bit;
            let mut bad = |text: &'static [u8]| (wrong, answer) = (true, text);
            match letter {
                b'b' => {
                    meta.base64 = true;
                    if !meta.is_plain_key() {
                        bad(b"CLIENT_ERROR error decoding key\r\n");
                    }
                }
                b'q' => meta.quiet = true,
                b'v' => meta.value = true,
                b'u' => meta.untouched = true,
                b'x' => meta.empty = true,
                b'I' => meta.invalidate = true,
                b'C' | b'E' => match number(token) {
                    None => bad(BAD_TOKEN),
                    id if *letter == b'C' => meta.cas = id,
                    id => meta.new_cas = id,
                },
                b'T' | b'N' | b'R' => match (signed(token), letter) {
                    (None, _) => bad(BAD_TOKEN),
                    (time, b'T') => meta.ttl = time,
                    (time, b'N') => meta.vivify = time,
                    (time, _) => meta.recache = time,
                },
                b'F' => match number32(token) {
                    Some(flags) => meta.user_flags = flags,
                    // It has no words of its own.
                    None => wrong = true,
                },
                b'M' => match token {
                    [mode] => meta.mode = Some(*mode),
                    _ => bad(b"CLIENT_ERROR incorrect length for M token\r\n"),
                },
                b'J' => match number(token) {
                    Some(value) => meta.initial = value,
                    None => bad(b"CLIENT_ERROR invalid numeric initial value\r\n"),
                },
                b'D' => match number(token) {
                    Some(value) => meta.delta = value,
                    None => bad(b"CLIENT_ERROR invalid numeric delta value\r\n"),
                },
                b'O' => opaque = word.len(),
                b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => {}
                _ => return Err(tell(b"CLIENT_ERROR invalid flag\r\n")),
            }
        }
        if wrong {
            return Err(tell(answer));
        }
        if opaque > OPAQUE_MAX {
            return Err(OPAQUE_TOO_LONG.into());
        }
        Ok(meta)
    }

    /// Whether the key is what the flags say of it.
    fn is_plain_key(&self) -> bool {
        !self.base64
            || decode_base64(self.key, &mut [0; KEY_MAX]).is_some_and(|key| !key.is_empty())
    }

    /// The key's own bytes.
    pub fn plain_key<'b>(&self, room: &'b mut [u8; KEY_MAX]) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.base64 {
            decode_base64(self.key, room).unwrap_or(&[])
        } else {
            self.key
        }
    }
}

/// Decodes base64 with its padding; `None` if it is not that, or too long for `room`.
pub fn decode_base64<'a>(text: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    if text.len() % 4 != 0 {
        return None;
    }
    let mut length = 0usize;
    let mut quads = text.chunks_exact(4).peekable();
    while let Some(quad) = quads.next() {
        let padding = quad.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && quads.peek().is_some()) {
            return None;
        }
        let mut bits = 0u32;
        for (at, byte) in quad.iter().enumerate() {
            let digit = match byte {
                b'A'..=b'Z' => byte.wrapping_sub(b'A'),
                b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
                b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
                b'+' => 62,
                b'/' => 63,
                b'=' if at >= 4usize.saturating_sub(padding) => 0,
                _ => return None,
            };
            bits = (bits << 6) | u32::from(digit);
        }
        let [_, a, b, c] = bits.to_be_bytes();
        let count = 3usize.saturating_sub(padding);
        let target = room.get_mut(length..length.checked_add(count)?)?;
        for (place, byte) in target.iter_mut().zip([a, b, c]) {
            *place = byte;
        }
        length = length.saturating_add(count);
    }
    room.get(..length)
}

/// Bytes a base64 text takes.
pub const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

/// Encodes base64, with padding; `None` if it does not fit.
pub fn encode_base64<'a>(bytes: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let length = base64_len(bytes.len());
    let target = room.get_mut(..length)?;
    for (quad, triple) in target.chunks_exact_mut(4).zip(bytes.chunks(3)) {
        let mut bits = 0u32;
        for at in 0..3usize {
            bits = (bits << 8) | u32::from(triple.get(at).copied().unwrap_or(0));
        }
        for (at, place) in quad.iter_mut().enumerate() {
            // CAST: six bits.
            let digit = ((bits >> 18) & 63) as usize;
            bits <<= 6;
            *place = if at > triple.len() {
                b'='
            } else {
                DIGITS.get(digit).copied().unwrap_or(b'=')
            };
        }
    }
    room.get(..length)
}
