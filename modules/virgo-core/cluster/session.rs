// SPDX-License-Identifier: GPL-2.0-only

//! One direction of a connection: frames numbered and tagged.

use core::fmt;

use kernel::prelude::*;

use crate::{
    crypto::{
        self,
        checksum,
        Key, //
    },
    lib::{
        compat::emsgsize,
        event, //
    },
    proto::frame::{
        self,
        Frame,
        Header,
        HEADER,
        TAG, //
    },
};

/// A short text: why a node is not up, or a connection was closed.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    bytes: [u8; Text::SIZE],
    length: usize,
}

impl Text {
    /// The most bytes it holds; what is longer is cut.
    pub(crate) const SIZE: usize = 96;

    /// Nothing.
    pub(crate) const fn new() -> Text {
        Text {
            bytes: [0; Text::SIZE],
            length: 0,
        }
    }

    /// From format arguments.
    pub(crate) fn from_args(arguments: fmt::Arguments<'_>) -> Text {
        let mut text = Text::new();
        // It is cut where it is too long.
        let _ = fmt::Write::write_fmt(&mut text, arguments);
        text
    }

    /// Words that came over the network: printable ASCII of them.
    pub(crate) fn printable(words: &[u8]) -> Text {
        let mut text = Text::new();
        for byte in words {
            if byte.is_ascii_graphic() || *byte == b' ' {
                text.push(*byte);
            }
        }
        text
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length = self.length.saturating_add(1);
        }
    }

    /// The bytes, padded with NULs.
    pub(crate) fn padded(&self) -> &[u8; Text::SIZE] {
        &self.bytes
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // All the kernel's words are ASCII; what is not would be cut in the middle.
        for byte in text.bytes().filter(u8::is_ascii) {
            self.push(byte);
        }
        Ok(())
    }
}

/// `format!` of a [`Text`].
macro_rules! text {
    ($($arguments:tt)*) => {
        $crate::cluster::session::Text::from_args(::core::format_args!($($arguments)*))
    };
}
pub(crate) use text;

/// One direction: the key of it and the number of its next frame.
pub(crate) struct Session {
    key: Key,
    next: u64,
}

/// What goes around a payload.
pub(crate) struct Sealed {
    pub(crate) head: [u8; HEADER],
    pub(crate) tag: [u8; TAG],
}

impl Session {
    /// Seals the next frame to be sent. From here on it must be sent, before any other. `EMSGSIZE`.
    pub(crate) fn seal(&mut self, header: &Header, payload: &[u8]) -> Result<Sealed> {
        let mut header = *header;
        if !header.event {
            header.stamp = event::stamp();
        }
        let head = frame::header(&header, payload, true, checksum).ok_or(emsgsize())?;
        let tag = self.key.tag(&[&self.next.to_le_bytes(), &head, payload]);
        self.next = self.next.checked_add(1).ok_or(EOVERFLOW)?;
        Ok(Sealed { head, tag })
    }

    /// Whether this is the next frame of who holds the key.
    pub(crate) fn open(&mut self, frame: &Frame<'_>) -> core::result::Result<(), Text> {
        let Some(tag) = frame.tag else {
            return Err(text!("a frame without a tag"));
        };
        let expected = self.key.tag(&[&self.next.to_le_bytes(), frame.signed]);
        if crypto::differ(&expected, tag) {
            return Err(text!(
                "wrong tag: another key, or a frame changed, repeated or out of turn"
            ));
        }
        self.next = self
            .next
            .checked_add(1)
            .ok_or_else(|| text!("too many frames"))?;
        // From here on this node's clock is later. One that is days ahead is not believed.
        let _ = event::seen(frame.header.stamp);
        Ok(())
    }
}

/// Both directions of a connection: from who made it, and to it. `hello` and `challenge` are the
/// payloads that were exchanged. `ENOMEM`. May sleep.
pub(crate) fn sessions(key: &Key, hello: &[u8], challenge: &[u8]) -> Result<(Session, Session)> {
    let one = |label: &[u8]| {
        Ok::<_, Error>(Session {
            key: key.derive(&[label, hello, challenge])?,
            next: 0,
        })
    };
    Ok((one(b"VIRGO 2 connector")?, one(b"VIRGO 2 acceptor.")?))
}
