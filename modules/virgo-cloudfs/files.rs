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
        DirEntry,
        OpenFile,
        Place, //
    },
    proto::{
        p9,
        uapi::FsStat, //
    },
};

/// Flags of open(2) that mean something here.
pub(crate) const OPEN_FLAGS: u32 = p9::open::ACCMODE
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

/// Where in that the next entry's place is.
const NEXT: usize = 8;

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

/// Entries of a folder from `offset` on, in `length` bytes at most; none at its end. `EINVAL` if not
/// even one fits.
pub(crate) fn list(
    export: &Export,
    opened: &Local,
    offset: u64,
    length: usize,
) -> Result<KVVec<u8>> {
    let mut all = KVVec::new();
    let folder = Folder::new(&opened.place, &opened.file, &export.root)?;
    folder.entries(offset, &mut all, length, NEXT, |found| {
        let mut head = [0; ENTRY_HEAD];
        // CAST: a byte's worth; a name has 255 bytes at most.
        let (kind, name_len) = (found.kind as u8, found.name.len() as u16);
        let parts: [&[u8]; 4] = [
            &found.ino.to_le_bytes(),
            &[0; 8],
            &[kind],
            &name_len.to_le_bytes(),
        ];
        let bytes = parts.into_iter().flatten();
        for (place, byte) in Iterator::zip(head.iter_mut(), bytes) {
            *place = *byte;
        }
        Some(head)
    })?;
    Ok(all)
}

/// A folder whose entries are to be told.
pub(crate) struct Folder<'a> {
    file: &'a OpenFile,
    /// Its own number, if it is the served root: what is above that is nobody's business.
    root: Option<u64>,
}

impl<'a> Folder<'a> {
    /// The folder at `place`, open as `file`.
    pub(crate) fn new(place: &Place, file: &'a OpenFile, root: &Place) -> Result<Self> {
        let root = if place.is(root) {
            Some(place.stat()?.ino)
        } else {
            None
        };
        Ok(Folder { file, root })
    }

    /// Appends entries from `offset` on to `all`, until it would be longer than `end`: what `head`
    /// makes of each, if anything, and its name. An entry goes with where the next one is, which the
    /// folder says with that one: eight bytes at `next_at` of a head are filled in later.
    ///
    /// `EINVAL` if not even one fits: nothing would be the folder's end.
    pub(crate) fn entries<const HEAD: usize>(
        &self,
        offset: u64,
        all: &mut KVVec<u8>,
        end: usize,
        next_at: usize,
        head: impl Fn(&DirEntry<'_>) -> Option<[u8; HEAD]>,
    ) -> Result {
        let start = all.len();
        let mut held: Option<usize> = None;
        let mut failed = Ok(());
        let mut whole = true;
        let next = self.file.read_dir(offset, |mut found| {
            patch(all, held.take(), found.offset);
            if let Some(own) = self.root.filter(|_| found.name == b"..") {
                found.ino = own;
            }
            let Some(head) = head(&found) else {
                return true;
            };
            let at = all.len().saturating_add(next_at);
            let length = HEAD.saturating_add(found.name.len());
            if all.len().saturating_add(length) > end {
                whole = false;
                return false;
            }
            let pushed = all
                .extend_from_slice(&head, GFP_KERNEL)
                .and_then(|()| all.extend_from_slice(found.name, GFP_KERNEL));
            if let Err(error) = pushed {
                failed = Err(Error::from(error));
                return false;
            }
            held = Some(at);
            true
        })?;
        failed?;
        patch(all, held, next);
        if !whole && all.len() == start {
            return Err(EINVAL);
        }
        Ok(())
    }
}

/// Writes where the next entry is to the place `held`, if there is one.
fn patch(all: &mut KVVec<u8>, held: Option<usize>, next: u64) {
    let Some(at) = held else { return };
    let place = all.as_mut_slice().get_mut(at..at.saturating_add(8));
    if let Some(place) = place {
        place.copy_from_slice(&next.to_le_bytes());
    }
}
