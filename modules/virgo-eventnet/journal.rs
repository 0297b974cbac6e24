// SPDX-License-Identifier: GPL-2.0-only

//! The journal: what all else is made from. Append only; one file.
//!
//! What is in it when the module is loaded is read once, to find its end, the names that are
//! known, and what is known of other nodes' journals.

use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

use crate::{
    lib::{
        cluster,
        crc::crc32c_after,
        event,
        file::{
            Access,
            OwnedFile, //
        },
        random::random_u64,
        vfs::Place,
        zeroed::zeroed, //
    },
    proto::eventlog::{
        encode,
        Content,
        Reader,
        Record,
        HEAD,
        MAX_CONTENT, //
    },
    render::Render,
};

/// Its name in the folder.
pub(crate) const NAME: &CStr = c"EventNet.journal";

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;
/// The longest record.
pub(crate) const RECORD_MAX: usize = HEAD + MAX_CONTENT + 8;
/// How far the numbers jump behind a write that failed: over all that it can have left.
const JUMP: u64 = 1 << 32;
/// Bytes that are read at a time.
pub(crate) const PIECE: usize = 256 << 10;

/// When a message is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// When it is written; the file system brings it to the disk when it likes.
    Never,
    /// When it is on the disk.
    Always,
}

/// What is known of another node's journal.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) node: u32,
    pub(crate) incarnation: u64,
    /// The number of its last record that is here.
    pub(crate) last: u64,
}

/// The journal.
pub(crate) struct Journal {
    file: Arc<OwnedFile>,
    policy: Policy,
    limit: u64,
    /// Where the next record goes.
    end: u64,
    /// The last record's number.
    number: u64,
    /// Tells this journal from another of this node.
    pub(crate) incarnation: u64,
    buffer: KVVec<u8>,
    /// The number of the last record in the buffer.
    buffered: u64,
    pub(crate) peers: KVVec<Peer>,
    pub(crate) damaged: u64,
}

/// Reads a journal from `from` to `to`, record by record. `each` gets a record and where it ends;
/// false ends the reading. Returns where the last good record ended, its number, and how many bytes
/// were passed over. May sleep.
pub(crate) fn scan(
    file: &OwnedFile,
    from: u64,
    to: u64,
    last: u64,
    mut each: impl FnMut(&Record<'_>, u64) -> Result<bool>,
) -> Result<(u64, u64, u64)> {
    let mut piece: KVVec<u8> = zeroed(PIECE, GFP_KERNEL)?;
    let (mut at, mut good, mut last, mut damaged) = (from, from, last, 0_u64);
    while at < to {
        // CAST: at most `PIECE`.
        let want = to.saturating_sub(at).min(PIECE as u64) as usize;
        let got = file.read_at(piece.get_mut(..want).ok_or(EINVAL)?, at)?;
        if got == 0 {
            break;
        }
        let bytes = piece.get(..got).ok_or(EINVAL)?;
        let mut reader = Reader::new(bytes, last, crc32c_after);
        let mut go_on = true;
        while let Some(record) = reader.next() {
            // CAST: usize fits u64.
            good = at.saturating_add(reader.position() as u64);
            last = record.number;
            go_on = each(&record, good)?;
            if !go_on {
                break;
            }
        }
        if !go_on {
            damaged = damaged.saturating_add(reader.damaged);
            break;
        }
        // What looks like the beginning of a record, with all of the room that one can take behind
        // it, is none; and at the end of the file it is what a power cut left.
        if reader.position() == 0 {
            reader.skip();
        }
        damaged = damaged.saturating_add(reader.damaged);
        at = at.saturating_add(reader.position() as u64);
    }
    Ok((good, last, damaged))
}

impl Journal {
    /// Opens the folder's journal, or begins one; and the text files. May sleep.
    pub(crate) fn open(
        folder: &[u8],
        policy: Policy,
        limit: u64,
        names: u32,
    ) -> Result<(Journal, Render)> {
        let path = core::str::from_utf8(folder).map_err(|_| EINVAL)?;
        let path = CString::try_from_fmt(fmt!("{}", path))?;
        let place = match Place::folder(&path) {
            Err(error) if error == ENOENT => {
                make_folder(folder).and_then(|()| Place::folder(&path))
            }
            other => other,
        };
        let place = place.inspect_err(|error| {
            pr_err!(
                "parameter folder: {:?} cannot be used ({:?})\n",
                path,
                error
            );
        })?;
        let file = OwnedFile::open_in(&path, NAME, Access::ReadWrite, 0o640)?;
        let file = Arc::new(file, GFP_KERNEL)?;
        let size = file.size()?;
        let mut journal = Journal {
            file,
            policy,
            limit,
            end: 0,
            number: 0,
            incarnation: 0,
            buffer: KVVec::with_capacity(BUFFER, GFP_KERNEL)?,
            buffered: 0,
            peers: KVVec::new(),
            damaged: 0,
        };
        if size > 0 {
            journal.load(size)?;
        }
        if journal.incarnation == 0 {
            if journal.end == 0 {
                Render::refuse_strange_files(&place)?;
            }
            journal.incarnation = random_u64().max(1);
            let content = Content::Open {
                incarnation: journal.incarnation,
            };
            let node = cluster::me().number();
            journal.append(event::stamp(), node, 0, 0, content)?;
            journal.commit()?;
        }
        let render = Render::open(path, place, policy, names, &journal)?;
        Ok((journal, render))
    }

    fn load(&mut self, size: u64) -> Result {
        let file = self.file.clone();
        let mut newest = 0;
        let mut incarnation = 0;
        let mut peers = KVVec::new();
        let (end, last, damaged) = scan(&file, 0, size, 0, |record, _| {
            newest = newest.max(record.stamp);
            match record.content {
                Content::Open { incarnation: own } => incarnation = own,
                Content::Peer { incarnation } => {
                    set_peer(&mut peers, record.node, incarnation, record.origin)?
                }
                _ => {}
            }
            if record.origin != 0 {
                if let Some(peer) = find_peer(&mut peers, record.node) {
                    peer.last = peer.last.max(record.origin);
                }
            }
            Ok(true)
        })?;
        if damaged > 0 {
            pr_warn!(
                "{} bytes of the journal are damaged and were passed over\n",
                damaged
            );
        }
        self.end = end;
        // Behind a torn end there may be whole records of the write that was torn.
        self.number = if end < size {
            last.saturating_add(JUMP)
        } else {
            last
        };
        self.incarnation = incarnation;
        self.peers = peers;
        self.damaged = damaged;
        // A clock that was set back does not give stamps anew.
        let _ = event::seen(newest);
        Ok(())
    }

    /// For reading, by others too.
    pub(crate) fn file(&self) -> Arc<OwnedFile> {
        self.file.clone()
    }

    /// Bytes that are written.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether there is something to be written.
    pub(crate) fn is_gathered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The number of the last record that is written or gathered.
    pub(crate) fn last(&self) -> u64 {
        self.buffered.max(self.number)
    }

    /// Gathers a record; `origin` is its number on its own node, 0 for this one. False where
    /// there is no room: [`Journal::commit`] first. `EFBIG`: the journal has reached its limit.
    pub(crate) fn append(
        &mut self,
        stamp: u64,
        node: u32,
        module: u8,
        origin: u64,
        content: Content<'_>,
    ) -> Result<bool> {
        let number = self.last().saturating_add(1);
        let record = Record {
            number,
            stamp,
            origin,
            node,
            module,
            content,
        };
        let used = self.buffer.len();
        if used.saturating_add(RECORD_MAX) > self.buffer.capacity() {
            return Ok(false);
        }
        // CAST: usize fits u64.
        let after = self.end.saturating_add(used as u64);
        if after.saturating_add(RECORD_MAX as u64) > self.limit {
            return Err(EFBIG);
        }
        let mut room = [0_u8; 256];
        let mut long = KVVec::new();
        let written = match encode(&record, crc32c_after, &mut room) {
            Some(size) => room.get(..size),
            None => {
                long = zeroed(RECORD_MAX, GFP_KERNEL)?;
                let size = encode(&record, crc32c_after, &mut long).ok_or(EINVAL)?;
                long.get(..size)
            }
        };
        self.buffer
            .extend_from_slice(written.ok_or(EINVAL)?, GFP_KERNEL)?;
        drop(long);
        self.buffered = number;
        Ok(true)
    }

    /// Writes what is gathered. With an error nothing of it counts: it is gone. May sleep.
    pub(crate) fn commit(&mut self) -> Result {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.write_at(&self.buffer, self.end).and_then(|()| {
            if self.policy == Policy::Always {
                self.file.sync_data()?;
            }
            Ok(())
        });
        // CAST: usize fits u64.
        let length = self.buffer.len() as u64;
        self.buffer.clear();
        match written {
            Ok(()) => {
                self.end = self.end.saturating_add(length);
                self.number = self.buffered;
                Ok(())
            }
            Err(error) => {
                // Parts of it may be in the file, with the numbers that they had.
                self.number = self.number.saturating_add(JUMP);
                self.buffered = 0;
                Err(error)
            }
        }
    }
}

/// What is known of a node's journal.
pub(crate) fn find_peer(peers: &mut KVVec<Peer>, node: u32) -> Option<&mut Peer> {
    peers.iter_mut().find(|peer| peer.node == node)
}

/// From here on, records of this node are of that journal. `ENOMEM`.
pub(crate) fn set_peer(peers: &mut KVVec<Peer>, node: u32, incarnation: u64, last: u64) -> Result {
    let peer = Peer {
        node,
        incarnation,
        last,
    };
    match find_peer(peers, node) {
        Some(there) if there.incarnation == incarnation => there.last = there.last.max(last),
        Some(there) => *there = peer,
        None => peers.push(peer, GFP_KERNEL)?,
    }
    Ok(())
}

/// Makes a folder, in one that is there.
fn make_folder(folder: &[u8]) -> Result {
    let at = folder
        .iter()
        .rposition(|byte| *byte == b'/')
        .ok_or(EINVAL)?;
    let (parent, name) = folder.split_at_checked(at).ok_or(EINVAL)?;
    let name = name.strip_prefix(b"/").ok_or(EINVAL)?;
    let parent = if parent.is_empty() { b"/" } else { parent };
    let parent = core::str::from_utf8(parent).map_err(|_| EINVAL)?;
    let parent = CString::try_from_fmt(fmt!("{}", parent))?;
    let parent = Place::folder(&parent)?;
    match parent.mkdir(&parent, name, 0o750) {
        Ok(_) => Ok(()),
        Err(error) if error == EEXIST => Ok(()),
        Err(error) => Err(error),
    }
}
