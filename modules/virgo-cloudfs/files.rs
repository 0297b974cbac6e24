// SPDX-License-Identifier: GPL-2.0-only

//! Opening files by their paths and listing folders, for programs of this machine and of other
//! nodes: what their ioctls and requests come to.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    export::Export,
    handles::Local,
    lib::vfs::{
        Change,
        OpenFile,
        Place, //
    },
    proto::{
        p9,
        uapi::FsStat, //
    },
};

/// Flags of open(2) that mean something here.
const OPEN_FLAGS: u32 = p9::open::ACCMODE
    | p9::open::CREATE
    | p9::open::EXCL
    | p9::open::TRUNC
    | p9::open::APPEND
    | p9::open::DSYNC
    | p9::open::SYNC
    | p9::open::DIRECTORY
    | p9::open::NOATIME;

/// Bytes of a READDIR's entry in front of its name.
const ENTRY_HEAD: usize = 19;

/// Whether flags and mode are some that [`open`] knows.
pub(crate) fn is_known(open_flags: u32, mode: u32) -> bool {
    open_flags & !OPEN_FLAGS == 0 && mode & !0o7777 == 0
}

/// Opens a file below the root, with the credentials in force.
pub(crate) fn open(
    export: &Export,
    path: &[u8],
    open_flags: u32,
    mode: u32,
    read_only: bool,
) -> Result<Local> {
    if !is_known(open_flags, mode) {
        return Err(EINVAL);
    }
    let writable = open_flags & p9::open::ACCMODE != p9::open::RDONLY;
    let changes = writable || open_flags & (p9::open::TRUNC | p9::open::CREATE) != 0;
    if changes && read_only {
        return Err(EROFS);
    }
    // CAST: small flags, twelve bits.
    let (flags, mode) = ((open_flags & !p9::open::CREATE) as i32, mode as u16);
    let (place, file): (Place, Arc<OpenFile>) = if open_flags & p9::open::CREATE != 0 {
        let (folder, name) = export.find_parent(path)?;
        folder.create(&export.root, name, flags, mode)?
    } else {
        let place = export.find(path)?;
        let file = place.open(&export.root, flags)?;
        (place, file)
    };
    Ok(Local {
        place,
        file,
        writable,
    })
}

/// Makes a file so long. `EBADF` if it is not open for writing.
pub(crate) fn truncate(opened: &Local, length: u64) -> Result {
    if !opened.writable {
        return Err(EBADF);
    }
    let change = Change {
        valid: p9::SET_SIZE,
        size: length,
        ..Change::default()
    };
    opened.place.change(Some(&opened.file), &change)
}

/// Fills in what stat(2) tells.
pub(crate) fn stat(opened: &Local, value: &mut FsStat) -> Result {
    let stat = opened.place.stat()?;
    value.ino = stat.ino;
    value.nlink = stat.nlink;
    value.bytes = stat.size;
    value.blocks = stat.blocks;
    value.mtime_sec = stat.mtime_sec;
    value.mtime_nsec = stat.mtime_nsec;
    value.mode = stat.mode;
    value.uid = stat.uid;
    value.gid = stat.gid;
    Ok(())
}

/// Entries of a folder from `offset` on, in `length` bytes at most; none at its end.
pub(crate) fn list(opened: &Local, offset: u64, length: usize) -> Result<KVVec<u8>> {
    let mut all: KVVec<u8> = KVVec::new();
    // As in a Treaddir: where the next one is goes with the one before.
    let mut held: Option<usize> = None;
    let mut failed = Ok(());
    let mut whole = true;
    let next = opened.file.read_dir(offset, |found| {
        patch(&mut all, held.take(), found.offset);
        let at = all.len();
        let end = at
            .saturating_add(ENTRY_HEAD)
            .saturating_add(found.name.len());
        if end > length {
            whole = false;
            return false;
        }
        // CAST: a byte's worth; a name has 255 bytes at most.
        let (kind, name_len) = (found.kind as u8, found.name.len() as u16);
        let parts: [&[u8]; 5] = [
            &found.ino.to_le_bytes(),
            &[0; 8],
            &[kind],
            &name_len.to_le_bytes(),
            found.name,
        ];
        for part in parts {
            if let Err(error) = all.extend_from_slice(part, GFP_KERNEL) {
                failed = Err(Error::from(error));
                return false;
            }
        }
        held = Some(at);
        true
    })?;
    failed?;
    patch(&mut all, held, next);
    // Not even one fits: no bytes would be the folder's end.
    if !whole && all.is_empty() {
        return Err(EINVAL);
    }
    Ok(all)
}

/// Writes where an entry's successor is into the entry at `held`.
fn patch(all: &mut KVVec<u8>, held: Option<usize>, next: u64) {
    let Some(at) = held else { return };
    let from = at.saturating_add(8);
    let place = all.as_mut_slice().get_mut(from..from.saturating_add(8));
    if let Some(place) = place {
        place.copy_from_slice(&next.to_le_bytes());
    }
}
