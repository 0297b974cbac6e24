// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command lines of the beanstalkd protocol, as beanstalkd 1.13 understands them.
//!
//! A line is looked at whole, without its end. What follows a `put` line is not looked at here:
//! that is the body, [`Command::Put`]'s `size` bytes and CR LF.
//!
//! Where the protocol's text and the program differ, this follows the program: `quitting` is
//! `quit`, and `kick 3 apples` kicks three.

/// The most bytes of a command line, its CR LF counted.
pub const MAX_LINE: usize = 224;
/// The most bytes of a tube's name.
pub const MAX_NAME: usize = 200;
/// Jobs with a smaller priority number are counted as urgent.
pub const URGENT: u32 = 1024;

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// A job follows.
    Put {
        /// The smaller, the sooner.
        pri: u32,
        /// Seconds until it is ready.
        delay: u32,
        /// Seconds a worker may take.
        ttr: u32,
        /// Bytes of the body, without its CR LF.
        size: u32,
        /// There is something behind the numbers: refused, but counted, and after the size.
        trailing: bool,
    },
    /// Show a job.
    Peek(u64),
    /// Show the next ready job of the tube in use.
    PeekReady,
    /// Show the next delayed one.
    PeekDelayed,
    /// Show the first buried one.
    PeekBuried,
    /// Take a job; wait for one.
    Reserve,
    /// Take a job; wait for so many seconds.
    ReserveTimeout(u32),
    /// Take this job.
    ReserveJob(u64),
    /// Done with it.
    Delete(u64),
    /// Give it back.
    Release {
        /// Which.
        id: u64,
        /// Its new priority.
        pri: u32,
        /// Seconds until it is ready.
        delay: u32,
    },
    /// Put it aside.
    Bury {
        /// Which.
        id: u64,
        /// Its new priority.
        pri: u32,
    },
    /// Make so many buried (or else delayed) jobs ready.
    Kick(u32),
    /// Make this one ready.
    KickJob(u64),
    /// More time for it.
    Touch(u64),
    /// Numbers of all.
    Stats,
    /// Numbers of a job.
    StatsJob(u64),
    /// Numbers of a tube.
    StatsTube(&'a [u8]),
    /// Put into this tube from here on.
    Use(&'a [u8]),
    /// Take from this tube too.
    Watch(&'a [u8]),
    /// Take from this tube no more.
    Ignore(&'a [u8]),
    /// The tubes there are.
    ListTubes,
    /// The tube in use.
    ListTubeUsed,
    /// The tubes watched.
    ListTubesWatched,
    /// Close.
    Quit,
    /// Give no jobs of this tube out for so many seconds.
    PauseTube {
        /// Which; to be checked by [`valid_name`].
        name: &'a [u8],
        /// Seconds.
        delay: u32,
    },
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A command's word with something else behind it than belongs there.
    Format,
    /// No command's word.
    Unknown,
}

/// The words, in the order in which they are tried; each is a line's beginning.
#[derive(Clone, Copy)]
enum Word {
    Put,
    Peek,
    PeekReady,
    PeekDelayed,
    PeekBuried,
    ReserveTimeout,
    ReserveJob,
    Reserve,
    Delete,
    Release,
    Bury,
    Kick,
    KickJob,
    Touch,
    StatsJob,
    StatsTube,
    Stats,
    Use,
    Watch,
    Ignore,
    ListTubesWatched,
    ListTubeUsed,
    ListTubes,
    Quit,
    PauseTube,
}

const WORDS: [(&[u8], Word); 25] = [
    (b"put ", Word::Put),
    (b"peek ", Word::Peek),
    (b"peek-ready", Word::PeekReady),
    (b"peek-delayed", Word::PeekDelayed),
    (b"peek-buried", Word::PeekBuried),
    (b"reserve-with-timeout ", Word::ReserveTimeout),
    (b"reserve-job ", Word::ReserveJob),
    (b"reserve", Word::Reserve),
    (b"delete ", Word::Delete),
    (b"release ", Word::Release),
    (b"bury ", Word::Bury),
    (b"kick ", Word::Kick),
    (b"kick-job ", Word::KickJob),
    (b"touch ", Word::Touch),
    (b"stats-job ", Word::StatsJob),
    (b"stats-tube ", Word::StatsTube),
    (b"stats", Word::Stats),
    (b"use ", Word::Use),
    (b"watch ", Word::Watch),
    (b"ignore ", Word::Ignore),
    (b"list-tubes-watched", Word::ListTubesWatched),
    (b"list-tube-used", Word::ListTubeUsed),
    (b"list-tubes", Word::ListTubes),
    (b"quit", Word::Quit),
    (b"pause-tube", Word::PauseTube),
];

fn word_of(line: &[u8]) -> Option<(Word, &[u8])> {
    // Two of three lines of a busy connection begin with one of these.
    let first = line.first()?;
    WORDS
        .iter()
        .filter(|(word, _)| word.first() == Some(first))
        .find_map(|(word, kind)| line.strip_prefix(*word).map(|rest| (*kind, rest)))
}

/// Whether a line is one of the protocol's, by its beginning.
pub fn is_command(line: &[u8]) -> bool {
    word_of(line).is_some()
}

/// Whether a line that has come in part can still become one of the protocol's.
pub fn may_be_command(part: &[u8]) -> bool {
    is_command(part) || WORDS.iter().any(|(word, _)| word.starts_with(part))
}

/// Whether a tube may have this name.
pub fn valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.first() != Some(&b'-')
        && name.iter().all(|byte| name_byte(*byte))
}

fn name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-+/;.$_()".contains(&byte)
}

/// A decimal number at the front, after any spaces, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = text;
    while let Some(after) = rest.strip_prefix(b" ") {
        rest = after;
    }
    let mut value = 0_u64;
    let mut digits = 0_usize;
    while let Some((byte, after)) = rest.split_first() {
        let Some(digit) = byte.checked_sub(b'0').filter(|digit| *digit < 10) else {
            break;
        };
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        digits = digits.saturating_add(1);
        rest = after;
    }
    (digits > 0).then_some((value, rest))
}

fn number32(text: &[u8]) -> Option<(u32, &[u8])> {
    let (value, rest) = number(text)?;
    Some((u32::try_from(value).ok()?, rest))
}

/// The number that is all there is.
fn last_number(text: &[u8]) -> Option<u64> {
    number(text).and_then(|(value, rest)| rest.is_empty().then_some(value))
}

fn last_number32(text: &[u8]) -> Option<u32> {
    last_number(text).and_then(|value| u32::try_from(value).ok())
}

/// A number as C's strtoul() reads it: spaces of any kind, a sign, digits, and no matter what
/// behind. `None` without digits; `Err` for one outside an i64.
fn c_number(text: &[u8]) -> Result<Option<i64>, Refused> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0x09..=0x0d);
    let start = text.iter().take_while(|byte| blank(byte)).count();
    let rest = text.get(start..).unwrap_or(&[]);
    let (negative, rest) = match rest.split_first() {
        Some((b'-', after)) => (true, after),
        Some((b'+', after)) => (false, after),
        _ => (false, rest),
    };
    let mut value = 0_i64;
    let mut any = false;
    for byte in rest {
        let Some(digit) = byte.checked_sub(b'0').filter(|digit| *digit < 10) else {
            break;
        };
        any = true;
        let digit = i64::from(digit);
        let digit = if negative {
            digit.wrapping_neg()
        } else {
            digit
        };
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(digit))
            .ok_or(Refused::Format)?;
    }
    Ok(any.then_some(value))
}

/// The tube's name at the front, after any spaces, and what follows it.
fn name_at_front(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().take_while(|byte| **byte == b' ').count();
    let text = text.get(start..)?;
    let end = text.iter().take_while(|byte| name_byte(**byte)).count();
    if end == 0 {
        return None;
    }
    text.split_at_checked(end)
}

/// Understands a line, without its end.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Refused> {
    if line.contains(&0) || line.len().saturating_add(2) > MAX_LINE {
        return Err(Refused::Format);
    }
    let (word, rest) = word_of(line).ok_or(Refused::Unknown)?;
    let id = || last_number(rest).ok_or(Refused::Format);
    let bare = |command| {
        if rest.is_empty() {
            Ok(command)
        } else {
            Err(Refused::Format)
        }
    };
    let name = || {
        if valid_name(rest) {
            Ok(rest)
        } else {
            Err(Refused::Format)
        }
    };
    Ok(match word {
        Word::Put => {
            let (pri, rest) = number32(rest).ok_or(Refused::Format)?;
            let (delay, rest) = number32(rest).ok_or(Refused::Format)?;
            let (ttr, rest) = number32(rest).ok_or(Refused::Format)?;
            let (size, rest) = number32(rest).ok_or(Refused::Format)?;
            Command::Put {
                pri,
                delay,
                ttr,
                size,
                trailing: !rest.is_empty(),
            }
        }
        Word::Peek => Command::Peek(id()?),
        Word::PeekReady => bare(Command::PeekReady)?,
        Word::PeekDelayed => bare(Command::PeekDelayed)?,
        Word::PeekBuried => bare(Command::PeekBuried)?,
        // No matter what is behind the number.
        Word::ReserveTimeout => match number32(rest) {
            Some((seconds, _)) if i32::try_from(seconds).is_ok() => {
                Command::ReserveTimeout(seconds)
            }
            _ => return Err(Refused::Format),
        },
        Word::ReserveJob => Command::ReserveJob(id()?),
        Word::Reserve => bare(Command::Reserve)?,
        Word::Delete => Command::Delete(id()?),
        Word::Release => {
            let (id, rest) = number(rest).ok_or(Refused::Format)?;
            let (pri, rest) = number32(rest).ok_or(Refused::Format)?;
            let delay = last_number32(rest).ok_or(Refused::Format)?;
            Command::Release { id, pri, delay }
        }
        Word::Bury => {
            let (id, rest) = number(rest).ok_or(Refused::Format)?;
            let pri = last_number32(rest).ok_or(Refused::Format)?;
            Command::Bury { id, pri }
        }
        // CAST: beanstalkd keeps the low half of what strtoul() gave, which takes a minus too.
        Word::Kick => Command::Kick(c_number(rest)?.ok_or(Refused::Format)? as u32),
        Word::KickJob => Command::KickJob(id()?),
        Word::Touch => Command::Touch(id()?),
        Word::StatsJob => Command::StatsJob(id()?),
        Word::StatsTube => Command::StatsTube(name()?),
        Word::Stats => bare(Command::Stats)?,
        Word::Use => Command::Use(name()?),
        Word::Watch => Command::Watch(name()?),
        Word::Ignore => Command::Ignore(name()?),
        Word::ListTubesWatched => bare(Command::ListTubesWatched)?,
        Word::ListTubeUsed => bare(Command::ListTubeUsed)?,
        Word::ListTubes => bare(Command::ListTubes)?,
        Word::Quit => Command::Quit,
        Word::PauseTube => {
            let (name, rest) = name_at_front(rest).ok_or(Refused::Format)?;
            let delay = last_number32(rest).ok_or(Refused::Format)?;
            Command::PauseTube { name, delay }
        }
    })
}
