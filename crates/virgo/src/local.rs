// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The folder that this machine serves, by `/dev/virgo-cloudfs`: no network, and the caller's own
//! rights; those of other nodes, over the cluster; and the original's calls under their own names.
//!
//! Errors are [`io::Error`]s that keep the kernel's errno.

use std::ffi::OsStr;
use std::io;
use std::mem::size_of;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use rustix::io::Errno;
use virgo_proto::uapi;

use crate::files::open;
use crate::sys;

fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// `/dev/virgo-cloudfs`, opened. Its handles end with it.
#[derive(Debug)]
pub struct Local {
    fd: OwnedFd,
}

impl Local {
    /// Opens the device. `ENODEV` if nothing is served.
    pub fn open() -> io::Result<Self> {
        let fd = sys::open_device(uapi::FS_DEVICE).map_err(io_error)?;
        Ok(Local { fd })
    }

    /// Opens a file below the served folder; `flags` are of [`open`]. Its handle.
    pub fn open_file(&self, path: impl AsRef<OsStr>, flags: u32, mode: u32) -> io::Result<u64> {
        self.open_file_on(0, path, flags, mode)
    }

    /// As [`Local::open_file`], of another node of the cluster by its number (`virgo nodes`), which
    /// the handle then carries. There it is opened as the user that virgo-cloudfs has for clients.
    /// `EHOSTUNREACH` for a node that is not in the table, `EHOSTDOWN` for one that is down: then
    /// or at any later call.
    pub fn open_file_on(
        &self,
        node: u32,
        path: impl AsRef<OsStr>,
        flags: u32,
        mode: u32,
    ) -> io::Result<u64> {
        let path = path.as_ref().as_bytes();
        sys::fs_open(&self.fd, node, path, flags, mode).map_err(io_error)
    }

    /// Reads; fewer bytes than asked for only where the file ends, or over a mebibyte.
    pub fn read(&self, handle: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let most = buffer.len().min(uapi::FS_IO_MAX as usize);
        let buffer = &mut buffer[..most];
        sys::fs_read::<{ uapi::FS_IOC_READ }>(&self.fd, handle, buffer, offset).map_err(io_error)
    }

    /// Writes; how much, a mebibyte at most.
    pub fn write(&self, handle: u64, data: &[u8], offset: u64) -> io::Result<usize> {
        let data = &data[..data.len().min(uapi::FS_IO_MAX as usize)];
        sys::fs_write(&self.fd, handle, data, offset).map_err(io_error)
    }

    /// The entries of a folder: number, `d_type`, name.
    pub fn read_dir(&self, handle: u64) -> io::Result<Vec<(u64, u8, Vec<u8>)>> {
        let mut buffer = vec![0; 65536];
        let (mut offset, mut all) = (0, Vec::new());
        loop {
            let count =
                sys::fs_read::<{ uapi::FS_IOC_READDIR }>(&self.fd, handle, &mut buffer, offset)
                    .map_err(io_error)?;
            if count == 0 {
                return Ok(all);
            }
            let mut r = virgo_proto::p9::Reader(&buffer[..count]);
            while !r.0.is_empty() {
                let entry = (|| Ok((r.u64()?, r.u64()?, r.u8()?, r.string()?)))();
                let (ino, next, kind, name) =
                    entry.map_err(|_: virgo_proto::p9::Malformed| io_error(Errno::IO))?;
                offset = next;
                all.push((ino, kind, name.to_vec()));
            }
        }
    }

    /// What stat(2) tells.
    pub fn stat(&self, handle: u64) -> io::Result<uapi::FsStat> {
        let mut argument = uapi::FsStat {
            size: size_of::<uapi::FsStat>() as u32,
            handle,
            ..Default::default()
        };
        sys::call::<{ uapi::FS_IOC_STAT }, _>(&self.fd, &mut argument).map_err(io_error)?;
        Ok(argument)
    }

    /// Makes it so long.
    pub fn truncate(&self, handle: u64, length: u64) -> io::Result<()> {
        sys::fs_truncate(&self.fd, handle, length).map_err(io_error)
    }

    /// Brings it to the disk.
    pub fn sync(&self, handle: u64) -> io::Result<()> {
        let mut argument = uapi::FsHandle {
            size: size_of::<uapi::FsHandle>() as u32,
            handle,
            ..Default::default()
        };
        sys::call::<{ uapi::FS_IOC_SYNC }, _>(&self.fd, &mut argument).map_err(io_error)
    }

    /// Closes it.
    pub fn close(&self, handle: u64) -> io::Result<()> {
        let mut argument = uapi::FsHandle {
            size: size_of::<uapi::FsHandle>() as u32,
            handle,
            ..Default::default()
        };
        sys::call::<{ uapi::FS_IOC_CLOSE }, _>(&self.fd, &mut argument).map_err(io_error)
    }
}

/// The device that the original's calls share, as the original's had one table for all.
fn shared() -> io::Result<&'static Local> {
    static SHARED: OnceLock<Local> = OnceLock::new();
    if SHARED.get().is_none() {
        let local = Local::open()?;
        // Another thread may have been first; then this one is closed again.
        let _ = SHARED.set(local);
    }
    SHARED.get().ok_or_else(|| io_error(Errno::IO))
}

/// The original's `virgo_open`: to read and append, made if it is not there. The descriptor.
pub fn virgo_open(path: &str) -> io::Result<i64> {
    let flags = open::RDWR | open::CREATE | open::APPEND;
    let handle = shared()?.open_file(path, flags, 0o644)?;
    i64::try_from(handle).map_err(|_| io_error(Errno::OVERFLOW))
}

/// The original's `virgo_read`: how many bytes were read (the original returned 0).
pub fn virgo_read(vfsdesc: i64, data_out: &mut [u8], pos: u64) -> io::Result<usize> {
    shared()?.read(vfsdesc as u64, data_out, pos)
}

/// The original's `virgo_write`: appends; how many bytes were written (the original returned 0).
pub fn virgo_write(vfsdesc: i64, data_in: &[u8], pos: u64) -> io::Result<usize> {
    shared()?.write(vfsdesc as u64, data_in, pos)
}

/// The original's `virgo_close`.
pub fn virgo_close(vfsdesc: i64) -> io::Result<()> {
    shared()?.close(vfsdesc as u64)
}
