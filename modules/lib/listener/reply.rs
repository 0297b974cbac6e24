// SPDX-License-Identifier: GPL-2.0-only

//! What a service answers, until the socket has taken it.

use super::super::copy::copy_short;
use super::super::message::Message;
use super::ready::CHUNK;
use super::sock::MAX_PIECES;
use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bytes that can be sent from where they are.
///
/// `bytes` must answer the same bytes for as long as a [`Reply`] holds the
/// value. Shared, because the owner keeps its own hold.
pub trait Bytes: Send + Sync {
    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// The same bytes, where they are in pages that a socket can have without copying them.
    fn message(&self) -> Option<&Message> {
        None
    }
}

/// What is sent at once.
pub(super) enum Batch<'a> {
    /// Pieces, which are copied.
    Pieces(&'a [&'a [u8]]),
    /// A message from this byte on, which is not.
    Message(&'a Message, usize),
}

/// A piece which is not copied into the tail.
pub(super) enum Piece {
    Owned(KVVec<u8>),
    Shared(Arc<dyn Bytes>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Owned(v) => v.as_slice(),
            Piece::Shared(s) => s.bytes(),
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    fn message(&self) -> Option<&Message> {
        match self {
            Piece::Owned(_) => None,
            Piece::Shared(s) => s.message(),
        }
    }
}

/// An append-only, bounded queue of answers.
///
/// Small answers are copied one behind the other and leave in one send; big
/// ones are handed over whole. Past the bound, or out of memory, the reply is
/// void: what is appended is dropped, and the connection closes after what
/// went before.
///
/// Never sleeps when it is filled in softirq (it allocates atomically there).
pub struct Reply {
    /// In order; the first one `skip` bytes in.
    pieces: KVec<Piece>,
    /// After the pieces.
    tail: KVVec<u8>,
    /// Bytes of the first piece (or of the tail, if there is none) already sent.
    skip: usize,
    /// Bytes not sent.
    len: usize,
    cap: usize,
    flags: Flags,
    overflow: bool,
}

impl Reply {
    pub(super) const fn new(cap: usize) -> Self {
        Self {
            pieces: KVec::new(),
            tail: KVVec::new(),
            skip: 0,
            len: 0,
            cap,
            flags: kernel::alloc::flags::GFP_KERNEL,
            overflow: false,
        }
    }

    /// Bytes appended and not yet sent.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bound was passed or memory ran out; the connection will close.
    pub fn is_void(&self) -> bool {
        self.overflow
    }

    /// Bytes that [`push`](Self::push) takes without asking for memory, so that it can be called
    /// with a lock held.
    pub fn room(&self) -> usize {
        let room = self.tail.capacity().saturating_sub(self.tail.len());
        room.min(self.cap.saturating_sub(self.len))
    }

    /// Makes room for `n` bytes. False: there is none, and the connection will close. May sleep,
    /// but in softirq.
    pub fn reserve(&mut self, n: usize) -> bool {
        if self.room() < n {
            let fits = self.len.checked_add(n).is_some_and(|len| len <= self.cap);
            if !fits || self.overflow || self.grow(n).is_err() {
                self.overflow = true;
            }
        }
        !self.overflow
    }

    fn admit(&mut self, n: usize) -> bool {
        match self.len.checked_add(n) {
            Some(len) if len <= self.cap && !self.overflow => true,
            _ => {
                self.overflow = true;
                false
            }
        }
    }

    /// Appends a copy.
    pub fn push(&mut self, data: &[u8]) {
        if !self.admit(data.len()) {
            return;
        }
        let room = self.tail.capacity().saturating_sub(self.tail.len());
        if room < data.len() && self.grow(data.len()).is_err() {
            self.overflow = true;
            return;
        }
        if self.tail.extend_from_slice(data, self.flags).is_err() {
            self.overflow = true;
            return;
        }
        self.len += data.len(); // OVERFLOW: `admit` has added it.
    }

    /// A pen for at most `most` bytes, which asks for no memory. `None`: there is no such
    /// [`room`](Self::room).
    #[inline(always)]
    pub fn pen(&mut self, most: usize) -> Option<Pen<'_>> {
        if self.overflow || self.room() < most {
            return None;
        }
        let to = self.tail.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // INVARIANT: `room` is that of the tail at most.
        Some(Pen {
            reply: self,
            to,
            left: most,
            written: 0,
        })
    }

    /// Makes room for `n` bytes in the tail without copying a full one.
    fn grow(&mut self, n: usize) -> Result {
        if self.tail.is_empty() {
            self.tail.reserve(n.max(CHUNK), self.flags)?;
            return Ok(());
        }
        let new = KVVec::with_capacity(n.max(CHUNK), self.flags)?;
        let full = core::mem::replace(&mut self.tail, new);
        self.pieces.push(Piece::Owned(full), self.flags)?;
        Ok(())
    }

    pub(super) fn push_piece(&mut self, piece: Piece) {
        let n = piece.bytes().len();
        if n == 0 || !self.admit(n) {
            return;
        }
        if !self.tail.is_empty() {
            let full = core::mem::take(&mut self.tail);
            if self.pieces.push(Piece::Owned(full), self.flags).is_err() {
                self.overflow = true;
                return;
            }
        }
        match self.pieces.push(piece, self.flags) {
            Ok(()) => self.len += n, // OVERFLOW: `admit` has added it.
            Err(_) => self.overflow = true,
        }
    }

    /// Appends a buffer, which is not copied.
    pub fn push_owned(&mut self, data: KVVec<u8>) {
        self.push_piece(Piece::Owned(data));
    }

    /// Appends bytes someone else holds too; they are not copied.
    pub fn push_shared(&mut self, data: Arc<dyn Bytes>) {
        self.push_piece(Piece::Shared(data));
    }

    /// All that waits, in one piece. `ENOMEM`. May sleep.
    pub(super) fn into_vec(self) -> Result<KVVec<u8>> {
        if self.pieces.is_empty() && self.skip == 0 {
            return Ok(self.tail);
        }
        let mut all = KVVec::with_capacity(self.len, GFP_KERNEL)?;
        let pieces = self.pieces.iter().map(Piece::bytes);
        let mut skip = self.skip;
        for bytes in Iterator::chain(pieces, core::iter::once(self.tail.as_slice())) {
            all.extend_from_slice(bytes.get(skip..).unwrap_or(&[]), GFP_KERNEL)?;
            skip = 0;
        }
        Ok(all)
    }

    /// How new memory is asked for from here on.
    pub(super) fn set_flags(&mut self, flags: Flags) {
        self.flags = flags;
    }

    /// Lends an empty buffer for the tail, if there is none.
    pub(super) fn lend(&mut self, buf: &mut KVVec<u8>) {
        if self.len == 0 && self.tail.capacity() == 0 {
            core::mem::swap(&mut self.tail, buf);
        }
    }

    /// Gives a lent buffer back, once all is sent.
    pub(super) fn give_back(&mut self, buf: &mut KVVec<u8>) {
        if self.len == 0 {
            let mut tail = core::mem::take(&mut self.tail);
            if buf.capacity() == 0 && tail.capacity() == CHUNK {
                tail.clear();
                *buf = tail;
            }
        }
    }

    /// Hands what waits to `send`, a bounded number of pieces at a time, until
    /// it takes no more. True: all is sent.
    pub(super) fn flush(
        &mut self,
        mut send: impl FnMut(Batch<'_>) -> Result<usize>,
    ) -> Result<bool> {
        while self.len > 0 {
            if let Some(message) = self.pieces.first().and_then(Piece::message) {
                let rest = message.bytes().len().saturating_sub(self.skip);
                let sent = match send(Batch::Message(message, self.skip)) {
                    Ok(sent) => sent.min(rest),
                    Err(e) if e == EAGAIN => return Ok(false),
                    Err(e) => return Err(e),
                };
                self.sent(sent);
                if sent < rest {
                    return Ok(false);
                }
                continue;
            }
            let mut list: [&[u8]; MAX_PIECES] = [&[]; MAX_PIECES];
            // Up to the next message, which goes by itself.
            let copied = self.pieces.iter().take_while(|p| p.message().is_none());
            let tail = self.pieces.iter().all(|p| p.message().is_none());
            let tail = tail.then_some(self.tail.as_slice());
            let all = Iterator::chain(copied.map(Piece::bytes), tail);
            let mut n = 0;
            let mut total = 0usize;
            for (i, (slot, bytes)) in list.iter_mut().zip(all).enumerate() {
                let from = if i == 0 { self.skip } else { 0 };
                *slot = bytes.get(from..).unwrap_or(&[]);
                total = total.saturating_add(slot.len());
                n = i + 1;
            }
            let Some(list) = list.get(..n) else { break };
            let sent = match send(Batch::Pieces(list)) {
                Ok(sent) => sent.min(total),
                Err(e) if e == EAGAIN => return Ok(false),
                Err(e) => return Err(e),
            };
            self.sent(sent);
            if sent < total {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn sent(&mut self, n: usize) {
        self.len = self.len.saturating_sub(n);
        if self.len == 0 {
            self.pieces.clear();
            self.tail.clear();
            self.skip = 0;
            return;
        }
        self.skip = self.skip.saturating_add(n);
        let mut done = 0;
        for piece in self.pieces.iter() {
            let size = piece.bytes().len();
            if self.skip < size {
                break;
            }
            self.skip -= size; // OVERFLOW: just compared.
            done += 1;
        }
        for _ in 0..done {
            // Frees them; few, as a flush takes all but a partial rest.
            let _ = self.pieces.remove(0);
        }
    }
}

/// Writes small pieces behind one another at the end of a [`Reply`]: see [`Reply::pen`]. What is
/// written counts when it is put [`down`](Self::down).
///
/// # Invariants
///
/// `left` bytes at `to` are spare room of the reply's tail, behind `written` bytes of it that are
/// initialised.
pub struct Pen<'a> {
    reply: &'a mut Reply,
    to: *mut u8,
    left: usize,
    written: usize,
}

impl Pen<'_> {
    /// Writes bytes. More than there is room for are left out.
    #[inline(always)]
    pub fn push(&mut self, bytes: &[u8]) {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return;
        };
        // SAFETY: There is room for as many by the invariant; nothing else points there.
        unsafe { copy_short(bytes, self.to) };
        // INVARIANT: As many bytes were written, and are left the less.
        self.to = self.to.wrapping_add(bytes.len());
        self.left = left;
        self.written = self.written.wrapping_add(bytes.len());
    }

    /// Writes a number in decimal.
    #[inline(always)]
    pub fn number(&mut self, value: u64) {
        // CAST: each a digit.
        let digit = |value: u64| b'0' | (value % 10) as u8;
        match value {
            0..=9 => self.push(&[digit(value)]),
            10..=99 => self.push(&[digit(value / 10), digit(value)]),
            100..=999 => self.push(&[digit(value / 100), digit(value / 10), digit(value)]),
            _ => self.long_number(value),
        }
    }

    #[inline(never)]
    fn long_number(&mut self, value: u64) {
        let (mut digits, mut rest) = ([0u8; 20], value);
        let mut from = digits.len();
        while rest > 0 {
            from = from.saturating_sub(1);
            if let Some(place) = digits.get_mut(from) {
                // CAST: a digit.
                *place = b'0' | (rest % 10) as u8;
            }
            rest /= 10;
        }
        self.push(digits.get(from..).unwrap_or(&[]));
    }

    /// What was written is part of the reply.
    #[inline(always)]
    pub fn down(self) {
        // SAFETY: So many bytes of the spare room are initialised by the invariant.
        unsafe { self.reply.tail.inc_len(self.written) };
        // OVERFLOW: `pen` saw that they are within the bound.
        self.reply.len = self.reply.len.wrapping_add(self.written);
    }
}

impl core::fmt::Write for Reply {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.push(s.as_bytes());
        if self.overflow {
            Err(core::fmt::Error)
        } else {
            Ok(())
        }
    }
}
