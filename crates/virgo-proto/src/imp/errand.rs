// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Requests that virgo-queue passes on to other modules.
//!
//! ```text
//! [@WORD ]…REQUEST
//! ```
//!
//! | word | |
//! |---|---|
//! | `@here` | this node serves it |
//! | `@least-loaded`, `@random`, `@p2c` | a node that is chosen so |
//! | `@` and eight hexadecimal digits | the node of this number |
//! | `@again` | it may be served twice |
//! | `@program` | the request is a program to be run, as [`Start`](super::program::Start) has it |
//!
//! The request is all that follows, in the words of the module's port. `@program` is the last of the words:
//! what comes behind it are bytes.

use super::lines::find_lf;
use super::memcached::Words;

/// Where a request goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing is said: the module's own way.
    #[default]
    Unsaid,
    /// This node.
    Here,
    /// The node with the least load.
    LeastLoaded,
    /// Any node.
    Random,
    /// The less loaded of two.
    TwoChoices,
    /// The node of this number.
    Node(u32),
}

/// A request for another module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand<'a> {
    /// Where it goes.
    pub place: Place,
    /// It may be served twice.
    pub again: bool,
    /// It is a program to be run.
    pub program: bool,
    /// What is asked.
    pub request: &'a [u8],
}

fn place(word: &[u8]) -> Option<Place> {
    Some(match word {
        b"here" => Place::Here,
        b"least-loaded" => Place::LeastLoaded,
        b"random" => Place::Random,
        b"p2c" => Place::TwoChoices,
        digits if digits.len() == 8 => {
            Place::Node(digits.iter().try_fold(0_u32, |number, byte| {
                let digit = char::from(*byte).to_digit(16)?;
                number.checked_mul(16)?.checked_add(digit)
            })?)
        }
        _ => return None,
    })
}

/// The key that a request in memcached's words is about, where there is just one such place.
pub fn key(request: &[u8]) -> Option<&[u8]> {
    let line = find_lf(request).and_then(|end| request.get(..end));
    let line = line.unwrap_or(request);
    let mut words = Words::new(line.strip_suffix(b"\r").unwrap_or(line));
    let verb = words.next()?;
    let before = match verb {
        b"get" | b"gets" | b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas"
        | b"delete" | b"incr" | b"decr" | b"touch" | b"mg" | b"ms" | b"md" | b"ma" => 0,
        b"gat" | b"gats" => 1,
        _ => return None,
    };
    words.nth(before)
}

/// Takes it apart. `None`: a word that is not known, the place said twice, or no request.
pub fn parse(text: &[u8]) -> Option<Errand<'_>> {
    let mut errand = Errand {
        place: Place::Unsaid,
        again: false,
        program: false,
        request: text,
    };
    while !errand.program {
        let Some(rest) = errand.request.strip_prefix(b"@") else {
            break;
        };
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let (word, rest) = rest.split_at_checked(end)?;
        errand.request = rest.strip_prefix(b" ")?;
        if word == b"again" {
            errand.again = true;
        } else if word == b"program" {
            errand.program = true;
        } else if errand.place == Place::Unsaid {
            errand.place = place(word)?;
        } else {
            return None;
        }
    }
    (!errand.request.is_empty()).then_some(errand)
}
