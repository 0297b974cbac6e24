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
    files,
    handles::{
        Handles,
        Local, //
    },
    lib::{
        chardev::{
            CharDevice,
            Waiter, //
        },
        cluster::{
            self,
            NodeId, //
        },
        service::{
            Module,
            RemoteReply,
            Service, //
        },
        uapi::{
            Arg,
            Command, //
        },
        vfs::umask, //
    },
    nodes::{
        Guests,
        Life,
        There,
        Ways, //
    },
    proto::uapi::{
        self,
        FsHandle,
        FsIo,
        FsOpen,
        FsStat, //
    },
};

/// What all open files of the device share.
pub(crate) struct Shared {
    export: Option<Arc<Export>>,
    life: Life,
    guests: Option<Arc<Guests>>,
}

impl Shared {
    /// Of what is served, if anything is, and to whom on other nodes.
    pub(crate) fn new(export: Option<Arc<Export>>, guests: Option<Arc<Guests>>) -> Self {
        let life = Life::new();
        Shared {
            export,
            life,
            guests,
        }
    }
}

impl Service for Shared {
    const MODULE: Module = Module::Cloudfs;

    /// Handles belong to an open file of the device, so there are no commands on /dev/virgo.
    fn ioctl(&self, _command: u32, _argument: usize) -> Result<isize> {
        Err(ENOTTY)
    }

    fn remote(
        &self,
        from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        let guests = self.guests.as_ref().ok_or(ENODEV)?;
        guests.serve(from, operation, input, output)
    }
}

/// An open file, here or on another node.
enum Held {
    Here(Local),
    There(There),
}

/// An open file of the device.
#[pin_data]
pub(crate) struct FsFile {
    export: Arc<Export>,
    #[pin]
    handles: Handles<Held>,
    #[pin]
    ways: Ways,
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
        let (flags, mode) = (value.open_flags, value.mode);
        if value.flags != 0 || !files::is_known(flags, mode) {
            return Err(EINVAL);
        }
        if value.path_len > uapi::FS_PATH_MAX {
            return Err(errno::enametoolong());
        }
        let (path_user, _) = user(value.path, value.path_len.into())?;
        let mut path: KVVec<u8> = KVVec::new();
        path_user.read_all(&mut path, GFP_KERNEL)?;
        let export = &self.export;
        let node = NodeId::from_number(value.node);
        value.handle = if value.node == 0 || node == cluster::me() {
            let opened = files::open(export, &path, flags, mode, export.read_only)?;
            self.handles.insert(0, Held::Here(opened))?
        } else {
            // The other node's thread has no umask of the caller.
            let mode = mode & !umask();
            let (mark, there) = self.ways.open(node, &path, flags, mode)?;
            self.handles
                .insert(mark, Held::There(there))
                .inspect_err(|_| {
                    // Where the node does not hear it, it closes it with the rest.
                    let _ = self.ways.close(&there);
                })?
        };
        if let Err(error) = request.write_back() {
            // The caller does not learn of it, so there is none.
            self.close_it(request.value.handle)?;
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
        let data = match &**opened {
            Held::Here(local) => {
                let mut data = KVVec::with_capacity(length, GFP_KERNEL)?;
                local.file.read_to(&mut data, length, value.offset)?;
                data
            }
            Held::There(there) => self.ways.read(there, value.offset, length)?,
        };
        to.writer().write_slice(&data)?;
        value.length = data.len() as u64; // CAST: usize fits u64.
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
        value.length = match &**opened {
            // CAST: usize fits u64.
            Held::Here(local) => local.file.write_at(&data, value.offset)? as u64,
            Held::There(there) => self.ways.write(there, value.offset, &data)?,
        };
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
        match &**opened {
            Held::Here(local) => files::truncate(local, value.offset)?,
            Held::There(there) => self.ways.truncate(there, value.offset)?,
        }
        Ok(0)
    }

    fn stat(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<FsStat>()?;
        let value = &mut request.value;
        if value.flags != 0 {
            return Err(EINVAL);
        }
        match &**self.handles.get(value.handle)? {
            Held::Here(local) => files::stat(local, value)?,
            Held::There(there) => self.ways.stat(there, value)?,
        }
        request.write_back()?;
        Ok(0)
    }

    fn close(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<FsHandle>()?;
        if request.value.flags != 0 {
            return Err(EINVAL);
        }
        self.close_it(request.value.handle)?;
        Ok(0)
    }

    fn close_it(&self, handle: u64) -> Result {
        match &**self.handles.close(handle)? {
            Held::Here(_) => Ok(()),
            // The handle is gone, whatever comes of it.
            Held::There(there) => self.ways.close(there),
        }
    }

    fn sync(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<FsHandle>()?;
        let value = &request.value;
        if value.flags & !uapi::FS_SYNC_DATA != 0 {
            return Err(EINVAL);
        }
        let opened = self.handles.get(value.handle)?;
        match &**opened {
            Held::Here(local) => local.file.sync(value.flags & uapi::FS_SYNC_DATA != 0)?,
            Held::There(there) => self.ways.sync(there, value.flags)?,
        }
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
        let all = match &**opened {
            Held::Here(local) => files::list(&self.export, local, value.offset, length)?,
            Held::There(there) => self.ways.list(there, value.offset, length)?,
        };
        to.writer().write_slice(&all)?;
        value.length = all.len() as u64; // CAST: usize fits u64.
        request.write_back()?;
        Ok(0)
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
                ways <- Ways::new(&shared.life),
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
