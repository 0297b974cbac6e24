// SPDX-License-Identifier: GPL-2.0-only

//! /dev/virgo-cloudfs: the served folder for programs of this machine, with their own rights.

use kernel::{
    fs::File,
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    errno,
    export::Export,
    handles::Handles,
    lib::{
        chardev::{
            CharDevice,
            Waiter, //
        },
        service::{
            Module,
            Service, //
        },
        uapi::{
            Arg,
            Command, //
        },
        vfs::Change, //
    },
    proto::{
        p9,
        uapi::{
            self,
            FsHandle,
            FsIo,
            FsOpen,
            FsStat, //
        }, //
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

/// What all open files of the device share.
pub(crate) struct Shared {
    export: Option<Arc<Export>>,
}

impl Shared {
    /// Of what is served, if anything is.
    pub(crate) fn new(export: Option<Arc<Export>>) -> Self {
        Shared { export }
    }
}

impl Service for Shared {
    const MODULE: Module = Module::Cloudfs;

    /// Handles belong to an open file of the device, so there are no commands on /dev/virgo.
    fn ioctl(&self, _command: u32, _argument: usize) -> Result<isize> {
        Err(ENOTTY)
    }
}

/// An open file of the device.
#[pin_data]
pub(crate) struct FsFile {
    export: Arc<Export>,
    #[pin]
    handles: Handles,
}

/// User memory of `length` bytes, if that is not too many.
fn user(address: u64, length: u64) -> Result<(UserSlice, usize)> {
    let address = usize::try_from(address).map_err(|_| EFAULT)?;
    let length = usize::try_from(length).map_err(|_| errno::emsgsize())?;
    // CAST: a small constant.
    if length > uapi::FS_IO_MAX as usize {
        return Err(errno::emsgsize());
    }
    Ok((UserSlice::new(UserPtr::from_addr(address), length), length))
}

impl FsFile {
    fn open_file(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<FsOpen>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.open_flags & !OPEN_FLAGS != 0 || value.mode & !0o7777 != 0 {
            return Err(EINVAL);
        }
        if value.node != 0 {
            return Err(errno::ehostunreach());
        }
        if value.path_len > uapi::FS_PATH_MAX {
            return Err(errno::enametoolong());
        }
        let (path_user, _) = user(value.path, value.path_len.into())?;
        let mut path: KVVec<u8> = KVVec::new();
        path_user.read_all(&mut path, GFP_KERNEL)?;
        let export = &self.export;
        let writable = value.open_flags & p9::open::ACCMODE != p9::open::RDONLY;
        let changes = writable || value.open_flags & (p9::open::TRUNC | p9::open::CREATE) != 0;
        if changes && export.read_only {
            return Err(EROFS);
        }
        // CAST: small flags, twelve bits.
        let (flags, mode) = (
            (value.open_flags & !p9::open::CREATE) as i32,
            value.mode as u16,
        );
        let (place, file) = if value.open_flags & p9::open::CREATE != 0 {
            let (folder, name) = export.find_parent(&path)?;
            folder.create(&export.root, name, flags, mode)?
        } else {
            let place = export.find(&path)?;
            let file = place.open(&export.root, flags)?;
            (place, file)
        };
        value.handle = self.handles.insert(place, file, writable)?;
        if let Err(error) = request.write_back() {
            // The caller does not learn of it, so there is none.
            self.handles.close(request.value.handle)?;
            return Err(error);
        }
        Ok(0)
    }

    fn read(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<FsIo>()?;
        let value = &mut request.value;
        if value.flags != 0 {
            return Err(EINVAL);
        }
        let (to, length) = user(value.data, value.length)?;
        let opened = self.handles.get(value.handle)?;
        let _room = self.export.room(length)?;
        let mut data = KVVec::with_capacity(length, GFP_KERNEL)?;
        let read = opened.file.read_to(&mut data, length, value.offset)?;
        to.writer().write_slice(&data)?;
        value.length = read as u64; // CAST: usize fits u64.
        request.write_back()?;
        Ok(0)
    }

    fn write(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<FsIo>()?;
        let value = &mut request.value;
        if value.flags != 0 {
            return Err(EINVAL);
        }
        let (from, length) = user(value.data, value.length)?;
        let opened = self.handles.get(value.handle)?;
        let _room = self.export.room(length)?;
        let mut data: KVVec<u8> = KVVec::new();
        from.read_all(&mut data, GFP_KERNEL)?;
        // CAST: usize fits u64.
        value.length = opened.file.write_at(&data, value.offset)? as u64;
        request.write_back()?;
        Ok(0)
    }

    fn truncate(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<FsIo>()?;
        let value = &request.value;
        if value.flags != 0 || value.data != 0 || value.length != 0 {
            return Err(EINVAL);
        }
        let opened = self.handles.get(value.handle)?;
        if !opened.writable {
            return Err(EBADF);
        }
        let change = Change {
            valid: p9::SET_SIZE,
            size: value.offset,
            ..Change::default()
        };
        opened.place.change(Some(&opened.file), &change)?;
        Ok(0)
    }

    fn stat(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<FsStat>()?;
        let value = &mut request.value;
        if value.flags != 0 {
            return Err(EINVAL);
        }
        let stat = self.handles.get(value.handle)?.place.stat()?;
        value.ino = stat.ino;
        value.nlink = stat.nlink;
        value.bytes = stat.size;
        value.blocks = stat.blocks;
        value.mtime_sec = stat.mtime_sec;
        value.mtime_nsec = stat.mtime_nsec;
        value.mode = stat.mode;
        value.uid = stat.uid;
        value.gid = stat.gid;
        request.write_back()?;
        Ok(0)
    }

    fn close(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<FsHandle>()?;
        if request.value.flags != 0 {
            return Err(EINVAL);
        }
        self.handles.close(request.value.handle)?;
        Ok(0)
    }

    fn sync(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<FsHandle>()?;
        let value = &request.value;
        if value.flags & !uapi::FS_SYNC_DATA != 0 {
            return Err(EINVAL);
        }
        let opened = self.handles.get(value.handle)?;
        opened.file.sync(value.flags & uapi::FS_SYNC_DATA != 0)?;
        Ok(0)
    }

    fn readdir(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<FsIo>()?;
        let value = &mut request.value;
        if value.flags != 0 {
            return Err(EINVAL);
        }
        let (to, length) = user(value.data, value.length)?;
        let opened = self.handles.get(value.handle)?;
        let _room = self.export.room(length)?;
        let mut all: KVVec<u8> = KVVec::new();
        // As in a Treaddir: where the next one is goes with the one before.
        let mut held: Option<usize> = None;
        let mut failed = Ok(());
        let mut whole = true;
        let next = opened.file.read_dir(value.offset, |found| {
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
        to.writer().write_slice(&all)?;
        value.length = all.len() as u64; // CAST: usize fits u64.
        request.write_back()?;
        Ok(0)
    }
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

impl CharDevice for FsFile {
    type Shared = Shared;

    const NAME: &'static CStr = c"virgo-cloudfs";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = false;

    fn open(shared: Arc<Shared>) -> Result<Pin<KBox<Self>>> {
        let export = shared.export.clone().ok_or(ENODEV)?;
        let table = export.clone();
        KBox::pin_init(
            pin_init!(FsFile {
                export,
                handles <- Handles::new(table),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        let arg = Arg::new(argument);
        let command = Command::new(command).ok_or(ENOTTY)?;
        let is = |number: u32| Command::new(number) == Some(command);
        if is(uapi::FS_IOC_OPEN) {
            self.open_file(arg)
        } else if is(uapi::FS_IOC_READ) {
            self.read(arg)
        } else if is(uapi::FS_IOC_WRITE) {
            self.write(arg)
        } else if is(uapi::FS_IOC_CLOSE) {
            self.close(arg)
        } else if is(uapi::FS_IOC_SYNC) {
            self.sync(arg)
        } else if is(uapi::FS_IOC_STAT) {
            self.stat(arg)
        } else if is(uapi::FS_IOC_TRUNCATE) {
            self.truncate(arg)
        } else if is(uapi::FS_IOC_READDIR) {
            self.readdir(arg)
        } else {
            Err(ENOTTY)
        }
    }

    fn poll(&self, _waiter: &Waiter<'_>) -> u32 {
        0
    }
}
