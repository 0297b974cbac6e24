// SPDX-License-Identifier: GPL-2.0-only

//! Answers in the making.

use core::fmt;

use kernel::prelude::*;

use crate::lib::listener::Reply;

/// Decimal digits of a number, at the end of the buffer; where they begin.
pub(crate) fn digits(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    for place in buffer.iter_mut().rev() {
        // CAST: below 10.
        *place = b'0' + (number % 10) as u8; // OVERFLOW: at most '9'.
        start = start.saturating_sub(1);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    buffer.get(start..).unwrap_or(&[])
}

/// `WORD number`, and the end of the line, into a reply. The formatter of `core` would cost ten
/// times as much.
pub(crate) fn line(out: &mut Reply, word: &[u8], number: u64) {
    let mut buffer = [0; 20];
    out.push(word);
    out.push(digits(number, &mut buffer));
    out.push(b"\r\n");
}

/// Text that grows. May sleep, for memory.
#[derive(Default)]
pub(crate) struct Text(KVVec<u8>);

impl Text {
    /// With room for so many bytes. `ENOMEM`.
    pub(crate) fn with_capacity(bytes: usize) -> Result<Self> {
        Ok(Text(KVVec::with_capacity(bytes, GFP_KERNEL)?))
    }

    /// Appends bytes. `ENOMEM`.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result {
        Ok(self.0.extend_from_slice(bytes, GFP_KERNEL)?)
    }

    /// Appends a decimal number. `ENOMEM`.
    pub(crate) fn number(&mut self, number: u64) -> Result {
        self.push(digits(number, &mut [0; 20]))
    }

    /// What there is.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Hands it over.
    pub(crate) fn take(self) -> KVVec<u8> {
        self.0
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Bytes that are shown as text: tubes' names, which are ASCII, and no more.
pub(crate) struct Ascii<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Ascii<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            let shown = if (0x20..0x7f).contains(byte) {
                char::from(*byte)
            } else {
                '?'
            };
            fmt::Write::write_char(f, shown)?;
        }
        Ok(())
    }
}
