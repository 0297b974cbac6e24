// SPDX-License-Identifier: GPL-2.0-only

//! Answers to requests: which are expected, who is told of them, and those that can be fetched.
//!
//! An exchange of KingCobra's begins with its request and is found by its moment, which no two
//! have; every answer is found by its request's number. The oldest go first when there are too many.

use core::fmt::Write;

use kernel::prelude::*;

use crate::{
    lib::compat::emsgsize,
    logic::treap::{
        Links,
        Nodes,
        Treap,
        NIL, //
    },
    proto::kingcobra::{
        self,
        Exchange,
        Kind, //
    },
    slab::{
        Item,
        Slab, //
    },
    state::{
        first_line,
        State, //
    },
    text::Text,
};

/// The most exchanges and answers that are remembered.
const MOST: usize = 65536;

/// What an answer is.
#[derive(Clone, Copy, Default)]
pub(crate) enum Meaning {
    /// Bytes.
    #[default]
    Bytes,
    /// A program that the queue had run has ended: `proto::program::ran`, and its output.
    Program,
    /// The queue had another module serve the request, and that failed with this errno; words.
    Failed(u32),
}

/// An exchange, or an answer alone.
pub(crate) struct Entry {
    id: u64,
    /// Of KingCobra's kind: who asked, and when.
    exchange: Option<Exchange>,
    /// Who waits for a line: its place, and which of those that had it.
    asked: Option<(u32, u64)>,
    body: Option<KVVec<u8>>,
    meaning: Meaning,
    by_id: Links,
    by_moment: Links,
    free: u32,
}

impl Default for Entry {
    fn default() -> Self {
        Entry {
            id: 0,
            exchange: None,
            asked: None,
            body: None,
            meaning: Meaning::Bytes,
            by_id: Links::NONE,
            by_moment: Links::NONE,
            free: NIL,
        }
    }
}

impl Item for Entry {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.free
    }
}

struct ById<'a>(&'a mut Slab<Entry>);

impl Nodes for ById<'_> {
    type Key = u64;

    fn key(&self, node: u32) -> u64 {
        self.0.get(node).map_or(0, |entry| entry.id)
    }
    fn links(&self, node: u32) -> Links {
        self.0.get(node).map_or(Links::NONE, |entry| entry.by_id)
    }
    fn set_links(&mut self, node: u32, links: Links) {
        if let Some(entry) = self.0.get_mut(node) {
            entry.by_id = links;
        }
    }
}

struct ByMoment<'a>(&'a mut Slab<Entry>);

fn moment(exchange: &Exchange) -> (u64, u32) {
    (exchange.seconds, exchange.nanoseconds)
}

impl Nodes for ByMoment<'_> {
    type Key = (u64, u32);

    fn key(&self, node: u32) -> (u64, u32) {
        let exchange = self.0.get(node).and_then(|entry| entry.exchange.as_ref());
        exchange.map_or((0, 0), moment)
    }
    fn links(&self, node: u32) -> Links {
        self.0
            .get(node)
            .map_or(Links::NONE, |entry| entry.by_moment)
    }
    fn set_links(&mut self, node: u32, links: Links) {
        if let Some(entry) = self.0.get_mut(node) {
            entry.by_moment = links;
        }
    }
}

/// All of them.
pub(crate) struct Replies {
    entries: Slab<Entry>,
    by_id: Treap,
    by_moment: Treap,
    /// Bytes of answers.
    bytes: u64,
}

impl Replies {
    pub(crate) const fn new(seed: u32) -> Self {
        Replies {
            entries: Slab::new(),
            by_id: Treap::new(seed),
            by_moment: Treap::new(seed),
            bytes: 0,
        }
    }

    fn find(&mut self, id: u64) -> Option<u32> {
        self.by_id.find(&ById(&mut self.entries), id)
    }

    fn find_exchange(&mut self, exchange: &Exchange) -> Option<u32> {
        let nodes = ByMoment(&mut self.entries);
        let index = self.by_moment.find(&nodes, moment(exchange))?;
        let found = self.entries.get(index)?.exchange;
        (found == Some(*exchange)).then_some(index)
    }

    /// Forgets the oldest; whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some(index) = self.by_id.first(&ById(&mut self.entries)) else {
            return false;
        };
        self.by_id.remove(&mut ById(&mut self.entries), index);
        if self
            .entries
            .get(index)
            .is_some_and(|e| e.exchange.is_some())
        {
            self.by_moment
                .remove(&mut ByMoment(&mut self.entries), index);
        }
        if let Some(body) = self.entries.remove(index).and_then(|entry| entry.body) {
            // CAST: usize fits u64.
            self.bytes = self.bytes.saturating_sub(body.len() as u64);
        }
        true
    }

    fn add(&mut self, entry: Entry) -> Result<u32> {
        while self.entries.len() >= MOST && self.forget_oldest() {}
        let exchange = entry.exchange.is_some();
        let index = self.entries.insert(entry)?;
        self.by_id.insert(&mut ById(&mut self.entries), index);
        if exchange {
            self.by_moment
                .insert(&mut ByMoment(&mut self.entries), index);
        }
        Ok(index)
    }

    /// The answer to a request.
    pub(crate) fn answer(&mut self, id: u64) -> Option<(&[u8], Meaning)> {
        let index = self.find(id)?;
        let entry = self.entries.get(index)?;
        Some((entry.body.as_deref()?, entry.meaning))
    }
}

impl State {
    /// A request of KingCobra's kind was put, by this worker.
    pub(crate) fn exchange_begins(&mut self, id: u64, exchange: Exchange, worker: u32) {
        let serial = self.workers.get(worker).map(|worker| worker.serial);
        let entry = Entry {
            id,
            exchange: Some(exchange),
            asked: serial.map(|serial| (worker, serial)),
            ..Entry::default()
        };
        // Without memory its answer cannot be told by a line; it can be fetched.
        let _ = self.replies.add(entry);
    }

    /// Keeps the answer to a request, and tells it. `EMSGSIZE` for one that is too long, `ENOMEM`.
    pub(crate) fn answered(&mut self, id: u64, body: KVVec<u8>, meaning: Meaning) -> Result {
        // CAST: usize fits u64.
        let length = body.len() as u64;
        let most = self.limits.bytes / 4;
        if length > most {
            return Err(emsgsize());
        }
        let replies = &mut self.replies;
        let index = match replies.find(id) {
            Some(index) => index,
            None => replies.add(Entry {
                id,
                ..Entry::default()
            })?,
        };
        let Some(entry) = replies.entries.get_mut(index) else {
            return Err(ENOENT);
        };
        let (exchange, asked) = (entry.exchange, entry.asked.take());
        entry.meaning = meaning;
        let line = exchange.map(|exchange| reply_line(&exchange, &body));
        if let Some(before) = entry.body.replace(body) {
            // CAST: usize fits u64.
            replies.bytes = replies.bytes.saturating_sub(before.len() as u64);
        }
        replies.bytes = replies.bytes.saturating_add(length);
        // Not the new one: it alone fits.
        while replies.bytes > most
            && replies.by_id.first(&ById(&mut replies.entries)) != Some(index)
        {
            replies.forget_oldest();
        }
        if let (Some(Ok(line)), Some((worker, serial))) = (line, asked) {
            let worker = self.workers.get(worker);
            let notifier = worker
                .filter(|worker| worker.serial == serial)
                .and_then(|worker| worker.notifier.as_ref());
            if let Some(notifier) = notifier {
                // One that does not read what it is told can fetch it.
                let _ = notifier.send(line.take());
            }
        }
        Ok(())
    }

    /// The same, for an exchange; nothing for one that nobody waits for, or that was answered.
    pub(crate) fn exchange_answered(&mut self, exchange: &Exchange, payload: &[u8]) -> Result {
        let Some(index) = self.replies.find_exchange(exchange) else {
            return Ok(());
        };
        let id = match self.replies.entries.get(index) {
            Some(entry) if entry.body.is_none() => entry.id,
            _ => return Ok(()),
        };
        let mut body = KVVec::with_capacity(payload.len(), GFP_KERNEL)?;
        body.extend_from_slice(payload, GFP_KERNEL)?;
        self.answered(id, body, Meaning::Bytes)
    }
}

/// `REPLY#address#time#` and the answer up to its first line's end.
fn reply_line(exchange: &Exchange, body: &[u8]) -> Result<Text> {
    let shown = first_line(body);
    let size = shown.len().saturating_add(kingcobra::MAX_HEAD + 2); // OVERFLOW: constants.
    let mut text = Text::with_capacity(size)?;
    kingcobra::write_head(&mut text, Kind::Reply, exchange).map_err(|_| ENOMEM)?;
    text.push(shown)?;
    text.write_str("\r\n").map_err(|_| ENOMEM)?;
    Ok(text)
}
