// SPDX-License-Identifier: GPL-2.0-only

//! The original's two text files, made from the journal.
//!
//! EventNetEdges.txt only grows. So does EventNetVertices.txt, as long as events are new; where one
//! is extended the file is copied, with the lines that grow, and the copy takes its place: who has
//! it open sees the old one whole.
//!
//! EventNet.cursor says which part of the journal is in them, and how long they are. If they are
//! not as long as that (the machine went down between two steps, somebody wrote into them), they
//! are made anew from the journal's beginning.

use core::{
    cell::Cell,
    fmt, //
};

use kernel::{
    prelude::*,
    str::CString, //
};

use crate::{
    journal::{
        scan,
        Journal,
        Policy, //
    },
    lib::{
        crc::crc32c_after,
        file::{
            Access,
            OwnedFile, //
        },
        random::random_u64,
        vfs::Place,
        zeroed::zeroed, //
    },
    logic::siphash::{
        siphash13,
        SipKey, //
    },
    proto::{
        eventlog::{
            plain,
            Content,
            Id,
            Record, //
        },
        eventnet::{
            write_vertex,
            Extender,
            More,
            Out, //
        },
        uapi::Module, //
    },
};

const VERTICES: &CStr = c"EventNetVertices.txt";
const EDGES: &CStr = c"EventNetEdges.txt";
const COPY: &CStr = c"EventNetVertices.new";
const CURSOR: &CStr = c"EventNet.cursor";

/// First word of the cursor's file.
const MAGIC: u32 = u32::from_le_bytes(*b"VEC1");
/// Its length.
const CURSOR_SIZE: usize = 56;

/// The most events that are put into the files at a time.
const BATCH: usize = 4096;
/// The most bytes of their texts.
const BYTES: usize = 1 << 20;
/// Places of the table of these; a power of two.
const TABLE: usize = 16384;
/// Bytes that are written at a time.
const BLOCK: usize = 64 << 10;

/// Which part of the journal is in the text files.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    /// Bytes of the journal.
    position: u64,
    /// The last record's number.
    number: u64,
    /// Length of the vertices' file.
    vertices: u64,
    /// Length of the edges' file.
    edges: u64,
    /// Which journal.
    incarnation: u64,
}

impl Cursor {
    fn to_bytes(self) -> [u8; CURSOR_SIZE] {
        let mut bytes = [0; CURSOR_SIZE];
        let words = [
            self.position,
            self.number,
            self.vertices,
            self.edges,
            self.incarnation,
        ];
        for (place, word) in bytes.chunks_exact_mut(8).skip(1).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        if let Some(place) = bytes.first_chunk_mut::<4>() {
            *place = MAGIC.to_le_bytes();
        }
        let sum = crc32c_after(0, bytes.get(..48).unwrap_or(&[]));
        if let Some(place) = bytes.last_chunk_mut::<8>() {
            *place = u64::from(sum).to_le_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; CURSOR_SIZE]) -> Option<Cursor> {
        let word = |at: usize| {
            let bytes = bytes.get(at..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let cursor = Cursor {
            position: word(8)?,
            number: word(16)?,
            vertices: word(24)?,
            edges: word(32)?,
            incarnation: word(40)?,
        };
        (cursor.to_bytes() == *bytes).then_some(cursor)
    }
}

/// The names that are in the vertices' file: a set of their hashes. That one is not in it is certain.
/// Those of modules' events, which are never given twice, are left out.
pub(crate) struct Names {
    key: SipKey,
    table: KVVec<u64>,
    count: usize,
    most: usize,
}

impl Names {
    fn new(most: u32) -> Result<Self> {
        Ok(Names {
            key: SipKey {
                k0: random_u64(),
                k1: random_u64(),
            },
            table: zeroed(1024, GFP_KERNEL)?,
            count: 0,
            // CAST: u32 fits usize on 64-bit.
            most: most as usize,
        })
    }

    /// A name's hash; never 0.
    fn hash(&self, name: &[u8]) -> u64 {
        siphash13(&self.key, name).max(1)
    }

    /// Where a hash is, or would be.
    fn place(table: &[u64], hash: u64) -> usize {
        // CAST: below the number of places, a power of two.
        let mask = table.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while table
            .get(at)
            .is_some_and(|there| *there != 0 && *there != hash)
        {
            at = at.wrapping_add(1) & mask;
        }
        at
    }

    /// Whether a name may be known.
    fn has(&self, hash: u64) -> bool {
        self.table.get(Self::place(&self.table, hash)) == Some(&hash)
    }

    /// Whether there is room for a name, or it is known.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.count < self.most || self.has(self.hash(name))
    }

    /// Adds a name. `ENOMEM`.
    fn add(&mut self, hash: u64) -> Result {
        if self.has(hash) {
            return Ok(());
        }
        if self.count.saturating_mul(2) >= self.table.len() {
            let size = self.table.len().saturating_mul(2);
            let mut table: KVVec<u64> = zeroed(size, GFP_KERNEL)?;
            for hash in self.table.iter().filter(|hash| **hash != 0) {
                let at = Self::place(&table, *hash);
                if let Some(place) = table.get_mut(at) {
                    *place = *hash;
                }
            }
            self.table = table;
        }
        let at = Self::place(&self.table, hash);
        if let Some(place) = self.table.get_mut(at) {
            *place = hash;
            self.count = self.count.saturating_add(1);
        }
        Ok(())
    }
}

/// An event's line, or what it grows by.
struct Entry {
    hash: u64,
    id: KVVec<u8>,
    partakers: KVVec<u8>,
    conversations: KVVec<u8>,
    /// It was found there.
    found: Cell<bool>,
}

impl Entry {
    fn more(&self) -> More<'_> {
        More {
            partakers: &self.partakers,
            conversations: &self.conversations,
        }
    }
}

/// What is put into the files at a time.
struct Batch {
    entries: KVVec<Entry>,
    /// The entries' numbers and one, by hash; 0: none.
    table: KVVec<u32>,
    edges: KVVec<u8>,
    extends: bool,
    /// Of all texts.
    bytes: usize,
}

impl Batch {
    fn new() -> Result<Self> {
        Ok(Batch {
            entries: KVVec::with_capacity(BATCH, GFP_KERNEL)?,
            table: zeroed(TABLE, GFP_KERNEL)?,
            edges: KVVec::new(),
            extends: false,
            bytes: 0,
        })
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.table.iter_mut().for_each(|place| *place = 0);
        self.edges.clear();
        self.extends = false;
        self.bytes = 0;
    }

    /// The place of an event in the table, and its entry if there is one.
    fn find(&self, hash: u64, id: &[u8]) -> (usize, Option<usize>) {
        // CAST: below the number of places.
        let mut at = hash as usize & (TABLE - 1);
        loop {
            // CAST: u32 fits usize on 64-bit.
            let number = self.table.get(at).map_or(0, |number| *number as usize);
            let Some(index) = number.checked_sub(1) else {
                return (at, None);
            };
            let same = |entry: &Entry| entry.hash == hash && &*entry.id == id;
            if self.entries.get(index).is_some_and(same) {
                return (at, Some(index));
            }
            at = at.wrapping_add(1) & (TABLE - 1);
        }
    }

    /// The entry of an event, made if it is not there.
    fn entry(&mut self, hash: u64, id: &[u8], old: bool) -> Result<&mut Entry> {
        let (place, found) = self.find(hash, id);
        let index = match found {
            Some(index) => index,
            None => {
                let mut entry = Entry {
                    hash,
                    id: KVVec::new(),
                    partakers: KVVec::new(),
                    conversations: KVVec::new(),
                    found: Cell::new(false),
                };
                entry.id.extend_from_slice(id, GFP_KERNEL)?;
                let index = self.entries.len();
                self.entries.push(entry, GFP_KERNEL)?;
                if let Some(place) = self.table.get_mut(place) {
                    *place = u32::try_from(index.saturating_add(1)).map_err(|_| EOVERFLOW)?;
                }
                self.extends |= old;
                index
            }
        };
        self.entries.get_mut(index).ok_or(EINVAL)
    }

    fn vertex(&mut self, hash: u64, id: &[u8], old: bool, partakers: &[&[u8]]) -> Result {
        let entry = self.entry(hash, id, old)?;
        entry.conversations.extend_from_slice(b"#(", GFP_KERNEL)?;
        let mut bytes = id.len().saturating_add(8);
        for (index, name) in partakers.iter().enumerate() {
            bytes = bytes.saturating_add(name.len()).saturating_add(name.len());
            entry.partakers.extend_from_slice(b",", GFP_KERNEL)?;
            entry.partakers.extend_from_slice(name, GFP_KERNEL)?;
            if index > 0 {
                entry.conversations.extend_from_slice(b",", GFP_KERNEL)?;
            }
            entry.conversations.extend_from_slice(name, GFP_KERNEL)?;
        }
        entry.conversations.extend_from_slice(b")", GFP_KERNEL)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    fn edge(&mut self, from: &[u8], to: &[u8]) -> Result {
        for part in [from, b",", to, b"\n"] {
            self.bytes = self.bytes.saturating_add(part.len());
            self.edges.extend_from_slice(part, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Takes in a record.
    fn add(&mut self, record: &Record<'_>, names: &Names) -> Result {
        match record.content {
            Content::Open { .. } | Content::Peer { .. } => Ok(()),
            Content::Edge { from, to } => self.edge(from, to),
            Content::Vertex {
                id,
                partakers,
                conversation,
            } => {
                let hash = names.hash(id);
                let event = Id::parse(id).is_some();
                self.vertex(
                    hash,
                    id,
                    event || names.has(hash),
                    &[partakers, conversation],
                )
            }
            Content::Event {
                cause,
                kind,
                subject,
            } => {
                let id = name_of(record.id())?;
                let node = text(fmt!("n{:08x}", record.node))?;
                let module = module_word(record.module);
                let kind = plain_text(kind)?;
                let subject = plain_text(subject)?;
                let hash = names.hash(id.to_bytes());
                let all = [node.to_bytes(), module, &*kind, &*subject];
                let used = if subject.is_empty() { 3 } else { 4 };
                self.vertex(hash, id.to_bytes(), false, all.get(..used).unwrap_or(&all))?;
                if cause.stamp != 0 {
                    let cause = name_of(of_node(cause, record.node))?;
                    self.edge(cause.to_bytes(), id.to_bytes())?;
                }
                Ok(())
            }
            Content::Loss {
                count,
                after,
                before,
            } => {
                let id = name_of(record.id())?;
                let node = text(fmt!("n{:08x}", record.node))?;
                let module = module_word(record.module);
                let count = text(fmt!("{}", count))?;
                let hash = names.hash(id.to_bytes());
                let all = [node.to_bytes(), module, b"lost", count.to_bytes()];
                self.vertex(hash, id.to_bytes(), false, &all)?;
                if after.stamp != 0 {
                    let after = name_of(of_node(after, record.node))?;
                    self.edge(after.to_bytes(), id.to_bytes())?;
                }
                if before.stamp != 0 {
                    let before = name_of(of_node(before, record.node))?;
                    self.edge(id.to_bytes(), before.to_bytes())?;
                }
                Ok(())
            }
        }
    }
}

/// An event that names no node is of the same one.
fn of_node(id: Id, node: u32) -> Id {
    let node = if id.node == 0 { node } else { id.node };
    Id { node, ..id }
}

fn text(arguments: fmt::Arguments<'_>) -> Result<CString> {
    CString::try_from_fmt(arguments)
}

fn name_of(id: Id) -> Result<CString> {
    CString::try_from_fmt(fmt!("e{:016x}.{:08x}", id.stamp, id.node))
}

/// A module's name without what all have in common.
fn module_word(number: u8) -> &'static [u8] {
    let module = Module::from_number(number.into());
    let name = module.map_or("virgo-unknown", Module::name).as_bytes();
    name.strip_prefix(b"virgo-").unwrap_or(name)
}

fn plain_text(bytes: &[u8]) -> Result<KVVec<u8>> {
    let mut text = KVVec::with_capacity(bytes.len(), GFP_KERNEL)?;
    for byte in bytes {
        text.push(plain(*byte), GFP_KERNEL)?;
    }
    Ok(text)
}

/// A file that is written in blocks, from a position on.
struct Blocks<'a> {
    file: &'a OwnedFile,
    position: u64,
    buffer: KVVec<u8>,
}

impl<'a> Blocks<'a> {
    fn new(file: &'a OwnedFile, position: u64) -> Result<Self> {
        Ok(Blocks {
            file,
            position,
            buffer: KVVec::with_capacity(BLOCK, GFP_KERNEL)?,
        })
    }

    fn flush(&mut self) -> Result {
        self.file.write_at(&self.buffer, self.position)?;
        // CAST: usize fits u64.
        self.position = self.position.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }
}

impl Out for Blocks<'_> {
    type Error = Error;

    fn put(&mut self, bytes: &[u8]) -> Result {
        for part in bytes.chunks(BLOCK) {
            if self.buffer.len().saturating_add(part.len()) > BLOCK {
                self.flush()?;
            }
            self.buffer.extend_from_slice(part, GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// The text files.
pub(crate) struct Render {
    folder: CString,
    place: Place,
    vertices: OwnedFile,
    edges: OwnedFile,
    cursor_file: OwnedFile,
    cursor: Cursor,
    policy: Policy,
    batch: Batch,
    pub(crate) names: Names,
}

impl Render {
    /// Text files without a journal are another EventNet's: they are not made anew, so that nothing
    /// is lost. `EEXIST`. May sleep.
    pub(crate) fn refuse_strange_files(place: &Place) -> Result {
        for name in [VERTICES, EDGES] {
            let strange = match place.walk(place, name.to_bytes()) {
                Ok(file) => file.stat()?.size > 0,
                Err(error) if error == ENOENT => false,
                Err(error) => return Err(error),
            };
            if strange {
                pr_err!(
                    "the folder has a {:?} and no journal: move it away, or name another folder\n",
                    name
                );
                return Err(EEXIST);
            }
        }
        Ok(())
    }

    /// Opens the text files, and makes them anew if they are not the journal's. May sleep.
    pub(crate) fn open(
        folder: CString,
        place: Place,
        policy: Policy,
        names: u32,
        journal: &Journal,
    ) -> Result<Self> {
        let open = |name| OwnedFile::open_in(&folder, name, Access::ReadWrite, 0o640);
        let (vertices, edges, cursor_file) = (open(VERTICES)?, open(EDGES)?, open(CURSOR)?);
        let mut bytes = [0; CURSOR_SIZE];
        let cursor = match cursor_file.read_at(&mut bytes, 0)? {
            CURSOR_SIZE => Cursor::from_bytes(&bytes),
            _ => None,
        };
        let fits = |cursor: &Cursor| -> Result<bool> {
            Ok(cursor.incarnation == journal.incarnation
                && cursor.position <= journal.end()
                && cursor.vertices == vertices.size()?
                && cursor.edges == edges.size()?)
        };
        let good = match cursor {
            Some(cursor) if fits(&cursor)? => Some(cursor),
            _ => None,
        };
        let mut render = Render {
            folder,
            place,
            vertices,
            edges,
            cursor_file,
            cursor: Cursor {
                incarnation: journal.incarnation,
                ..Cursor::default()
            },
            policy,
            batch: Batch::new()?,
            names: Names::new(names)?,
        };
        match good {
            Some(cursor) => {
                let names = &mut render.names;
                scan(&journal.file(), 0, cursor.position, 0, |record, _| {
                    if let Content::Vertex { id, .. } = record.content {
                        let hash = names.hash(id);
                        names.add(hash)?;
                    }
                    Ok(true)
                })?;
                render.cursor = cursor;
            }
            None => {
                let empty = |name| OwnedFile::open_in(&render.folder, name, Access::Fresh, 0o640);
                let (vertices, edges) = (empty(VERTICES)?, empty(EDGES)?);
                render.vertices = vertices;
                render.edges = edges;
            }
        }
        Ok(render)
    }

    /// How much of the journal is in the files.
    pub(crate) fn position(&self) -> u64 {
        self.cursor.position
    }

    /// Puts the next part of the journal into the files, up to `end`; whether that was all. May
    /// sleep.
    pub(crate) fn advance(&mut self, journal: &OwnedFile, end: u64) -> Result<bool> {
        if self.cursor.position >= end {
            return Ok(true);
        }
        self.batch.clear();
        let mut next = self.cursor;
        next.position = end;
        let (batch, names) = (&mut self.batch, &self.names);
        let (good, number, _) = scan(
            journal,
            self.cursor.position,
            end,
            self.cursor.number,
            |record, at| {
                batch.add(record, names)?;
                let full = batch.entries.len() >= BATCH || batch.bytes >= BYTES;
                next.position = if full { at } else { end };
                Ok(!full)
            },
        )?;
        next.number = number;
        let _ = good;
        self.write(&mut next)?;
        Ok(next.position >= end)
    }

    /// Writes the batch.
    fn write(&mut self, next: &mut Cursor) -> Result {
        // What fails is tried again from here: names that are known already may be in the file,
        // and the edges are written to the same place. The vertices come last, as a copy that has
        // taken the file's place cannot be made again.
        for entry in self.batch.entries.iter() {
            if Id::parse(&entry.id).is_none() {
                self.names.add(entry.hash)?;
            }
        }
        self.edges.write_at(&self.batch.edges, self.cursor.edges)?;
        // CAST: usize fits u64.
        next.edges = self
            .cursor
            .edges
            .saturating_add(self.batch.edges.len() as u64);
        if self.policy == Policy::Always {
            self.edges.sync_data()?;
        }
        if self.batch.extends {
            self.copy(next)?;
        } else {
            let mut out = Blocks::new(&self.vertices, self.cursor.vertices)?;
            for entry in self.batch.entries.iter() {
                write_vertex(&entry.id, &entry.more(), &mut out)?;
            }
            out.flush()?;
            next.vertices = out.position;
        }
        if self.policy == Policy::Always {
            self.vertices.sync_data()?;
        }
        self.cursor = *next;
        // Without this the files are made anew at the next load, as they have another length.
        self.cursor_file.write_at(&next.to_bytes(), 0)
    }

    /// Copies the vertices' file, with the lines that grow.
    fn copy(&mut self, next: &mut Cursor) -> Result {
        let copy = OwnedFile::open_in(&self.folder, COPY, Access::Fresh, 0o640)?;
        let mut out = Blocks::new(&copy, 0)?;
        let mut extender = Extender::new();
        let (batch, names) = (&self.batch, &self.names);
        let mut more = |id: &[u8]| {
            let (_, index) = batch.find(names.hash(id), id);
            let entry = index.and_then(|index| batch.entries.get(index))?;
            entry.found.set(true);
            Some(entry.more())
        };
        let mut block: KVVec<u8> = zeroed(BLOCK, GFP_KERNEL)?;
        let mut at = 0;
        while at < self.cursor.vertices {
            let left = self.cursor.vertices.saturating_sub(at);
            // CAST: at most `BLOCK`.
            let want = left.min(BLOCK as u64) as usize;
            let place = block.get_mut(..want).ok_or(EINVAL)?;
            let got = self.vertices.read_at(place, at)?;
            if got == 0 {
                return Err(EIO);
            }
            extender.copy(block.get(..got).ok_or(EINVAL)?, &mut more, &mut out)?;
            at = at.saturating_add(got as u64);
        }
        for entry in self.batch.entries.iter().filter(|entry| !entry.found.get()) {
            write_vertex(&entry.id, &entry.more(), &mut out)?;
        }
        out.flush()?;
        let length = out.position;
        drop(out);
        if self.policy == Policy::Always {
            copy.sync_data()?;
        }
        let (place, from, to) = (&self.place, COPY.to_bytes(), VERTICES.to_bytes());
        place.rename(place, from, place, to)?;
        self.vertices = copy;
        next.vertices = length;
        Ok(())
    }
}
