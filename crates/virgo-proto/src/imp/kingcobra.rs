// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The lines that KingCobra's peers exchange.
//!
//! ```text
//! REQUEST#<address, hex>#<seconds>:<nanoseconds>#<payload>
//! REPLY#<address, hex>#<seconds>:<nanoseconds>#<payload>
//! ```
//!
//! Address and time are the exchange's identity: the address is the publisher's (an IPv4 address
//! in host order, `7f000001` for 127.0.0.1), the time is the moment at which the request came,
//! moved on where two would be the same. A reply has those of its request.

use core::fmt;

use super::beanstalk::valid_name;

/// Which of the two a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody asks.
    Request,
    /// The answer; never answered itself.
    Reply,
}

/// An exchange: who asked, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchange {
    /// The publisher's IPv4 address; 0 for one that has none.
    pub address: u32,
    /// Whole seconds since 1970.
    pub seconds: u64,
    /// And the rest, less than 10^9.
    pub nanoseconds: u32,
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:x}#{}:{}",
            self.address, self.seconds, self.nanoseconds
        )
    }
}

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind,
    /// Which exchange it belongs to; `None` where address or time cannot be read.
    pub exchange: Option<Exchange>,
    /// The rest.
    pub payload: &'a [u8],
}

/// The most bytes that go before a payload: the word, eight digits, two numbers, the marks.
pub const MAX_HEAD: usize = 8 + 8 + 1 + 20 + 1 + 10 + 1;

fn digits(text: &[u8], base: u32, most: usize) -> Option<u64> {
    if text.is_empty() || text.len() > most {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(base)?;
        value
            .checked_mul(u64::from(base))?
            .checked_add(u64::from(digit))
    })
}

/// The part before the first `mark`, and what follows it.
fn cut(text: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == mark)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(1..)?))
}

/// Reads `<address>#<seconds>:<nanoseconds>`, all of `text`.
pub fn parse_exchange(text: &[u8]) -> Option<Exchange> {
    let (address, time) = cut(text, b'#')?;
    let (seconds, nanoseconds) = cut(time, b':')?;
    let nanoseconds = u32::try_from(digits(nanoseconds, 10, 9)?).ok()?;
    Some(Exchange {
        address: u32::try_from(digits(address, 16, 8)?).ok()?,
        seconds: digits(seconds, 10, 20)?,
        nanoseconds,
    })
}

/// Looks whether a line, without its end, is KingCobra's.
pub fn parse(line: &[u8]) -> Option<Message<'_>> {
    let (kind, rest) = if let Some(rest) = line.strip_prefix(b"REQUEST#") {
        (Kind::Request, rest)
    } else {
        (Kind::Reply, line.strip_prefix(b"REPLY#")?)
    };
    let whole = || {
        let (address, behind) = cut(rest, b'#')?;
        let (time, payload) = cut(behind, b'#')?;
        let end = address.len().checked_add(1)?.checked_add(time.len())?;
        Some((parse_exchange(rest.get(..end)?)?, payload))
    };
    Some(match whole() {
        Some((exchange, payload)) => Message {
            kind,
            exchange: Some(exchange),
            payload,
        },
        None => Message {
            kind,
            exchange: None,
            payload: rest,
        },
    })
}

/// A line about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicOrder<'a> {
    /// `SUBSCRIBE#topic`: tell me of what comes.
    Subscribe(&'a [u8]),
    /// `UNSUBSCRIBE#topic`: no more.
    Unsubscribe(&'a [u8]),
    /// `PUBLISH#topic#text`: tell all who subscribed.
    Publish(&'a [u8], &'a [u8]),
}

/// Looks whether a line, without its end, is about a topic whose name a tube can have.
pub fn parse_topic(line: &[u8]) -> Option<TopicOrder<'_>> {
    let (name, order) = if let Some(name) = line.strip_prefix(b"SUBSCRIBE#") {
        (name, TopicOrder::Subscribe(name))
    } else if let Some(name) = line.strip_prefix(b"UNSUBSCRIBE#") {
        (name, TopicOrder::Unsubscribe(name))
    } else {
        let (name, text) = cut(line.strip_prefix(b"PUBLISH#")?, b'#')?;
        (name, TopicOrder::Publish(name, text))
    };
    valid_name(name).then_some(order)
}

/// The head of a line: all but its payload.
pub fn write_head(out: &mut impl fmt::Write, kind: Kind, exchange: &Exchange) -> fmt::Result {
    let word = match kind {
        Kind::Request => "REQUEST",
        Kind::Reply => "REPLY",
    };
    write!(out, "{word}#{exchange}#")
}
