// SPDX-License-Identifier: GPL-2.0-only

//! Programs of user space that the kernel runs for somebody else.
//!
//! A program is run by the kernel's usermode helper, as a user without privileges and with no way to
//! them (modules/shim/program.c): no capabilities, no-new-privileges, in a control group that was
//! opened before, with three files in memory as its standard input, output and error output.

use core::ptr::{
    self,
    NonNull, //
};

use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*, //
};

use super::{
    file::OwnedFile,
    vfs::OpenFile, //
};

/// `struct cred`, never looked into.
#[repr(C)]
struct RawCred {
    _opaque: [u8; 0],
}

/// Mirror of `struct virgo_shim_program`.
#[repr(C)]
struct Raw {
    path: *const c_char,
    argv: *mut *mut c_char,
    envp: *mut *mut c_char,
    streams: [*mut bindings::file; 3],
    procs: *mut bindings::file,
    of: *const RawCred,
    uid: u32,
    gid: u32,
    file_bytes: u64,
}

static_assert!(size_of::<Raw>() == 80);

#[allow(
    improper_ctypes,
    reason = "as in ffi.rs: without lockdep the bindings' lock_class_key has no fields"
)]
extern "C" {
    fn virgo_program_lend(uid: *mut u32) -> *const RawCred;
    fn virgo_cred_put(cred: *const RawCred);
    fn virgo_program_memory() -> *mut bindings::file;
    fn virgo_program_available() -> c_int;
    fn virgo_program_check(path: *const c_char) -> c_int;
    fn virgo_program_run(program: *const Raw) -> c_int;
}

/// Credentials that a process has lent: the kernel counts what runs with them for its user.
///
/// # Invariants
///
/// The pointer is a `struct cred` of which a reference is owned.
pub struct Lent {
    cred: NonNull<RawCred>,
    uid: u32,
}

// SAFETY: Credentials do not change and belong to no thread; the reference count is atomic.
unsafe impl Send for Lent {}
// SAFETY: As above.
unsafe impl Sync for Lent {}

impl Lent {
    /// Those of the caller, a process of user space. `EINVAL` in another user namespace than the
    /// first. Does not sleep.
    pub fn by_caller() -> Result<Self> {
        let mut uid = 0;
        // SAFETY: The number can be written.
        let cred = from_err_ptr(unsafe { virgo_program_lend(&mut uid) }.cast_mut())?;
        // INVARIANT: The function returned a reference for us.
        Ok(Lent {
            cred: NonNull::new(cred).ok_or(EINVAL)?,
            uid,
        })
    }

    /// The user.
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: A reference is owned by the invariant.
        unsafe { virgo_cred_put(self.cred.as_ptr()) };
    }
}

/// A file in memory, empty, to be read and written. May sleep. `ENOMEM`.
pub fn memory_file() -> Result<OwnedFile> {
    // SAFETY: The function has no preconditions.
    let file = from_err_ptr(unsafe { virgo_program_memory() })?;
    // SAFETY: An open file with a reference for us, to be read and written.
    unsafe { OwnedFile::adopt(file) }
}

/// Whether this kernel runs programs: not where it is built to run one helper in place of all
/// (CONFIG_STATIC_USERMODEHELPER). Does not sleep.
pub fn available() -> bool {
    // SAFETY: The function has no preconditions.
    unsafe { virgo_program_available() != 0 }
}

/// Whether a program may be run at all: a regular file, reached without symbolic links, that belongs
/// to root, that nobody else may write, and that gives its user no other rights. `ELOOP`, `EACCES`,
/// or why it is not found. May sleep.
pub fn check(path: &CStr) -> Result {
    // SAFETY: A C string.
    kernel::error::to_result(unsafe { virgo_program_check(path.as_char_ptr()) })
}

/// What is run, and how.
pub struct Program<'a> {
    /// Where it is.
    pub path: &'a CStr,
    /// Its arguments, itself the first, each with a NUL behind it.
    pub arguments: &'a [u8],
    /// Its environment, likewise.
    pub environment: &'a [u8],
    /// Standard input, output and error output.
    pub streams: [&'a OwnedFile; 3],
    /// cgroup.procs of the group that it runs in.
    pub group: &'a OpenFile,
    /// The user, who is not root.
    pub user: &'a Lent,
    /// The user's group; there are no others.
    pub gid: u32,
    /// The most bytes of a file that it writes, its output's too.
    pub file_bytes: u64,
}

/// Pointers to the words, and null.
fn words(bytes: &[u8]) -> Result<KVec<*mut c_char>> {
    let mut all = KVec::new();
    if bytes.last().is_some_and(|last| *last != 0) {
        return Err(EINVAL);
    }
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        all.push(rest.as_ptr().cast::<c_char>().cast_mut(), GFP_KERNEL)?;
        rest = rest.get(end.saturating_add(1)..).unwrap_or(&[]);
    }
    all.push(ptr::null_mut(), GFP_KERNEL)?;
    Ok(all)
}

impl Program<'_> {
    /// Runs it and waits until it has ended; its status, as wait(2) has it.
    ///
    /// An error means that it did not begin: those of [`check`], of execve(2), `EOPNOTSUPP` where
    /// the kernel runs one helper in place of all programs. Sleeps as long as the program runs: call it
    /// in a work queue's thread.
    pub fn run(&self) -> Result<u32> {
        let mut arguments = words(self.arguments)?;
        let mut environment = words(self.environment)?;
        let raw = Raw {
            path: self.path.as_char_ptr(),
            argv: arguments.as_mut_ptr(),
            envp: environment.as_mut_ptr(),
            streams: self.streams.map(OwnedFile::as_ptr),
            procs: self.group.as_ptr(),
            of: self.user.cred.as_ptr(),
            uid: self.user.uid,
            gid: self.gid,
            file_bytes: self.file_bytes,
        };
        // SAFETY: Strings and files live until the call returns. In a kernel thread, which alone it
        // accepts, that is after the program's end, so nothing looks at them later.
        let status = unsafe { virgo_program_run(&raw) };
        kernel::error::to_result(status)?;
        // Not negative.
        Ok(status.unsigned_abs())
    }
}
