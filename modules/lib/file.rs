// SPDX-License-Identifier: GPL-2.0-only

//! Files that the kernel itself reads and writes: logs, snapshots.
//!
//! Files are opened below a folder that a setting names, and no name leads out of it. They are
//! opened with the caller's credentials, which in a kernel thread are root's: names that come from
//! a user or a peer must be opened in that user's own context or with its credentials.

use core::ptr::NonNull;

use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*, //
};

use super::ffi;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// To read and write; made if it is not there.
    ReadWrite,
    /// To read and write; made if it is not there, emptied if it is.
    Fresh,
    /// To write at its end, whatever the position says; made if it is not there.
    Append,
}

impl Access {
    const fn flags(self) -> i32 {
        // CAST: small constants.
        (match self {
            Access::Read => bindings::O_RDONLY,
            Access::ReadWrite => bindings::O_RDWR | bindings::O_CREAT,
            Access::Fresh => bindings::O_RDWR | bindings::O_CREAT | bindings::O_TRUNC,
            Access::Append => bindings::O_WRONLY | bindings::O_CREAT | bindings::O_APPEND,
        }) as i32
    }
}

/// An open file. Drop closes it.
///
/// # Invariants
///
/// `file` is an open file, of which one reference is owned, opened for `access`.
pub struct OwnedFile {
    file: NonNull<bindings::file>,
    access: Access,
}

// SAFETY: Files are not tied to a thread.
unsafe impl Send for OwnedFile {}
// SAFETY: Reading and writing at positions that the caller gives shares no state but the file's
// own, which the file system locks.
unsafe impl Sync for OwnedFile {}

impl OwnedFile {
    /// Takes a file over.
    ///
    /// # Safety
    ///
    /// `file` is an open file, to be read and written, of which the caller gives a reference up.
    pub(super) unsafe fn adopt(file: *mut bindings::file) -> Result<Self> {
        // INVARIANT: By the safety requirements.
        Ok(OwnedFile {
            file: NonNull::new(file).ok_or(ENOMEM)?,
            access: Access::ReadWrite,
        })
    }

    /// The file, as long as `self` lives.
    pub(super) fn as_ptr(&self) -> *mut bindings::file {
        self.file.as_ptr()
    }

    /// Opens `name` below the folder `root`; a new file gets permission bits `mode`. `ELOOP` if the
    /// name is a symbolic link; else the file system's errors. May sleep.
    pub fn open_in(root: &CStr, name: &CStr, access: Access, mode: u16) -> Result<Self> {
        // SAFETY: Both are C strings.
        let file = from_err_ptr(unsafe {
            ffi::virgo_shim_open_in(root.as_char_ptr(), name.as_char_ptr(), access.flags(), mode)
        })?;
        // INVARIANT: The function returned an open file with a reference for us.
        let file = NonNull::new(file).ok_or(ENOENT)?;
        Ok(OwnedFile { file, access })
    }

    /// Reads at `position` until `buffer` is full or the file ends; how much was read. `EBADF` for
    /// a file opened to append. May sleep.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize> {
        // kernel_read() warns in the log of a file that is not open for reading.
        if self.access == Access::Append {
            return Err(EBADF);
        }
        let mut position = i64::try_from(position).map_err(|_| EOVERFLOW)?;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // SAFETY: The file is open by the invariant, `rest` is writable for its length, and
            // `position` is writable.
            let count = unsafe {
                bindings::kernel_read(
                    self.file.as_ptr(),
                    rest.as_mut_ptr().cast(),
                    rest.len(),
                    &mut position,
                )
            };
            match usize::try_from(count) {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(count),
                Err(_) => return Err(errno(count)),
            }
        }
        Ok(done)
    }

    /// Writes all of `data` at `position` (at the end, for a file opened to append). On an error a
    /// part may have been written. `EBADF` for a file opened to read. May sleep.
    pub fn write_at(&self, data: &[u8], position: u64) -> Result {
        // As in `read_at`.
        if self.access == Access::Read {
            return Err(EBADF);
        }
        let mut position = i64::try_from(position).map_err(|_| EOVERFLOW)?;
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            // SAFETY: As in `read_at`, with `rest` readable.
            let count = unsafe {
                bindings::kernel_write(
                    self.file.as_ptr(),
                    rest.as_ptr().cast(),
                    rest.len(),
                    &mut position,
                )
            };
            match usize::try_from(count) {
                Ok(0) => return Err(EIO),
                Ok(count) => done = done.saturating_add(count),
                Err(_) => return Err(errno(count)),
            }
        }
        Ok(())
    }

    /// How long the file is. May sleep.
    pub fn size(&self) -> Result<u64> {
        // CAST: 2, a constant.
        let end = bindings::SEEK_END as i32;
        // SAFETY: The file is open by the invariant. Its position, which this sets, is used by
        // nobody: reads and writes say where.
        let size = unsafe { bindings::vfs_llseek(self.file.as_ptr(), 0, end) };
        u64::try_from(size).map_err(|_| errno(isize::try_from(size).unwrap_or(isize::MIN)))
    }

    /// Has the file system keep room for the first `bytes`, which become the file's length if it
    /// is shorter: writes there cannot fail for want of it. `EOPNOTSUPP` where the file system has
    /// no such thing; `ENOSPC`. May sleep.
    pub fn preallocate(&self, bytes: u64) -> Result {
        let bytes = i64::try_from(bytes).map_err(|_| EFBIG)?;
        // SAFETY: The file is open by the invariant. A file opened to read is refused by the call.
        kernel::error::to_result(unsafe {
            bindings::vfs_fallocate(self.file.as_ptr(), 0, 0, bytes)
        })
    }

    /// Brings the file's content and all about it to the disk; of a folder, its entries. May sleep.
    pub fn sync(&self) -> Result {
        // SAFETY: The file is open by the invariant.
        kernel::error::to_result(unsafe { bindings::vfs_fsync(self.file.as_ptr(), 0) })
    }

    /// Brings the file's content to the disk. An error is told once, as fsync() has it. May sleep.
    pub fn sync_data(&self) -> Result {
        // SAFETY: The file is open by the invariant.
        kernel::error::to_result(unsafe { bindings::vfs_fsync(self.file.as_ptr(), 1) })
    }
}

/// The error in a negative count.
fn errno(count: isize) -> Error {
    i32::try_from(count).map_or(EIO, Error::from_errno)
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        // SAFETY: We own a reference by the invariant.
        unsafe { bindings::fput(self.file.as_ptr()) };
    }
}
