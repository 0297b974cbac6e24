// SPDX-License-Identifier: GPL-2.0-only

//! Work on files for others: by place, below a root, with somebody's credentials.
//!
//! A [`Place`] is a mount and a dentry that are held, so it stays what it is whatever is renamed,
//! replaced or mounted over meanwhile. From one place only single names lead on, no symbolic link
//! is followed and no mount point crossed; a place that has been moved out of the root is refused
//! with `ESTALE` (see modules/shim/vfs.c, which does the work).
//!
//! Everything here may sleep, and everything that looks at rights does so with the credentials in
//! force: run it inside [`Credentials::run`]. What closes files and lets go of places does not care.
//!
//! ```ignore
//! let nobody = Credentials::user(65534, 65534)?;
//! let root = Place::folder(c"/srv/files")?;
//! nobody.run(|| {
//!     let place = root.walk(&root, b"hello.txt")?;
//!     let file = place.open(&root, 0)?;
//!     let mut text = KVVec::with_capacity(4096, GFP_KERNEL)?;
//!     file.read_to(&mut text, 4096, 0)
//! })?;
//! ```

use core::ptr::{
    self,
    NonNull, //
};

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use super::message::Message;

/// `struct cred`, never looked into.
#[repr(C)]
struct RawCred {
    _opaque: [u8; 0],
}

/// `struct file`, never looked into.
#[repr(C)]
struct RawFile {
    _opaque: [u8; 0],
}

/// Mirror of `struct path`; never looked into.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawPath {
    mnt: *mut c_void,
    dentry: *mut c_void,
}

impl RawPath {
    const fn none() -> Self {
        RawPath {
            mnt: ptr::null_mut(),
            dentry: ptr::null_mut(),
        }
    }
}

/// What stat(2) tells; `struct virgo_vfs_stat`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "stat(2)'s own names")]
pub struct Stat {
    pub ino: u64,
    pub nlink: u64,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u64,
    pub blocks: u64,
    pub atime_sec: i64,
    pub mtime_sec: i64,
    pub ctime_sec: i64,
    pub btime_sec: i64,
    pub atime_nsec: u32,
    pub mtime_nsec: u32,
    pub ctime_nsec: u32,
    pub btime_nsec: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub has_btime: u32,
}

static_assert!(size_of::<Stat>() == 112);

/// What statfs(2) tells; `struct virgo_vfs_statfs`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "statfs(2)'s own names")]
pub struct StatFs {
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: u64,
    pub kind: u32,
    pub bsize: u32,
    pub namelen: u32,
    reserved: u32,
}

static_assert!(size_of::<StatFs>() == 64);

/// What to change of a file; `struct virgo_vfs_change`. `valid` has 9P2000.L's bits.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "as in Stat")]
pub struct Change {
    pub valid: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub atime_sec: i64,
    pub mtime_sec: i64,
    pub atime_nsec: u32,
    pub mtime_nsec: u32,
}

static_assert!(size_of::<Change>() == 48);

/// A POSIX lock; `struct virgo_vfs_range`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// How many; 0: to the end of the file.
    pub length: u64,
    kind: i32,
    /// Whose it is; negative, as of another machine.
    pub pid: i32,
}

static_assert!(size_of::<Range>() == 24);

/// What a lock is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Several may have it.
    Read,
    /// One has it.
    Write,
    /// Nobody: it is given up.
    None,
}

impl Range {
    /// A range with a lock.
    pub fn new(kind: LockKind, start: u64, length: u64, pid: i32) -> Self {
        // CAST: small constants.
        let kind = (match kind {
            LockKind::Read => bindings::F_RDLCK,
            LockKind::Write => bindings::F_WRLCK,
            LockKind::None => bindings::F_UNLCK,
        }) as i32;
        Range {
            start,
            length,
            kind,
            pid,
        }
    }

    /// What lock it is.
    pub fn kind(&self) -> LockKind {
        // CAST: small constants.
        if self.kind == bindings::F_RDLCK as i32 {
            LockKind::Read
        } else if self.kind == bindings::F_WRLCK as i32 {
            LockKind::Write
        } else {
            LockKind::None
        }
    }
}

extern "C" {
    fn path_get(path: *const RawPath);
    fn path_put(path: *const RawPath);
    fn virgo_cred_make(uid: u32, gid: u32) -> *const RawCred;
    fn virgo_cred_put(cred: *const RawCred);
    fn virgo_cred_enter(cred: *const RawCred) -> *const RawCred;
    fn virgo_cred_leave(old: *const RawCred);
    fn virgo_vfs_umask() -> u32;
    fn virgo_vfs_root(name: *const c_char, out: *mut RawPath) -> c_int;
    fn virgo_vfs_walk(
        root: *const RawPath,
        at: *const RawPath,
        name: *const u8,
        len: usize,
        out: *mut RawPath,
    ) -> c_int;
    fn virgo_vfs_walk_swift(
        root: *const RawPath,
        at: *const RawPath,
        name: *const u8,
        len: usize,
        out: *mut RawPath,
    ) -> c_int;
    fn virgo_vfs_swift(at: *const RawPath, what: c_int) -> bool;
    fn virgo_vfs_parent(root: *const RawPath, at: *const RawPath, out: *mut RawPath) -> c_int;
    fn virgo_vfs_stat(at: *const RawPath, out: *mut Stat) -> c_int;
    fn virgo_vfs_statfs(at: *const RawPath, out: *mut StatFs) -> c_int;
    fn virgo_vfs_open(
        root: *const RawPath,
        at: *const RawPath,
        flags: c_int,
        out: *mut *mut RawFile,
    ) -> c_int;
    fn virgo_vfs_create(
        root: *const RawPath,
        dir: *const RawPath,
        name: *const u8,
        len: usize,
        flags: c_int,
        mode: u16,
        place: *mut RawPath,
        out: *mut *mut RawFile,
    ) -> c_int;
    fn virgo_vfs_mkdir(
        root: *const RawPath,
        dir: *const RawPath,
        name: *const u8,
        len: usize,
        mode: u16,
        place: *mut RawPath,
    ) -> c_int;
    fn virgo_vfs_symlink(
        root: *const RawPath,
        dir: *const RawPath,
        name: *const u8,
        len: usize,
        target: *const c_char,
        place: *mut RawPath,
    ) -> c_int;
    fn virgo_vfs_link(
        root: *const RawPath,
        dir: *const RawPath,
        old: *const RawPath,
        name: *const u8,
        len: usize,
    ) -> c_int;
    fn virgo_vfs_unlink(
        root: *const RawPath,
        dir: *const RawPath,
        name: *const u8,
        len: usize,
        how: c_int,
    ) -> c_int;
    fn virgo_vfs_remove(root: *const RawPath, at: *const RawPath) -> c_int;
    fn virgo_vfs_rename(
        root: *const RawPath,
        old_dir: *const RawPath,
        old: *const u8,
        old_len: usize,
        new_dir: *const RawPath,
        name: *const u8,
        len: usize,
    ) -> c_int;
    fn virgo_vfs_move(
        root: *const RawPath,
        at: *const RawPath,
        new_dir: *const RawPath,
        name: *const u8,
        len: usize,
    ) -> c_int;
    fn virgo_vfs_readlink(at: *const RawPath, buffer: *mut u8, size: usize) -> isize;
    fn virgo_vfs_change(at: *const RawPath, file: *mut RawFile, change: *const Change) -> c_int;
    fn virgo_vfs_read(file: *mut RawFile, buffer: *mut c_void, count: usize, at: u64) -> isize;
    fn virgo_vfs_read_swift(
        file: *mut RawFile,
        buffer: *mut c_void,
        count: usize,
        at: u64,
    ) -> isize;
    fn virgo_vfs_write(file: *mut RawFile, data: *const c_void, count: usize, at: u64) -> isize;
    fn virgo_vfs_readdir(
        file: *mut RawFile,
        from: u64,
        next: *mut u64,
        emit: unsafe extern "C" fn(*mut c_void, *const u8, c_int, u64, u64, u32) -> bool,
        context: *mut c_void,
    ) -> c_int;
    fn virgo_vfs_close(file: *mut RawFile);
    fn virgo_vfs_lock(
        file: *mut RawFile,
        owner: *const c_void,
        range: *const Range,
        wait_ms: u32,
    ) -> c_int;
    fn virgo_vfs_getlock(file: *mut RawFile, owner: *const c_void, range: *mut Range) -> c_int;
    fn virgo_vfs_unlock_all(file: *mut RawFile, owner: *const c_void);
    fn virgo_vfs_getxattr(
        at: *const RawPath,
        name: *const c_char,
        buffer: *mut u8,
        size: usize,
    ) -> isize;
    fn virgo_vfs_listxattr(at: *const RawPath, buffer: *mut u8, size: usize) -> isize;
    fn virgo_vfs_setxattr(
        at: *const RawPath,
        name: *const c_char,
        value: *const u8,
        size: usize,
        flags: c_int,
    ) -> c_int;
    fn virgo_vfs_removexattr(at: *const RawPath, name: *const c_char) -> c_int;
}

/// The count in a result that is negative for an error.
fn length(count: isize) -> Result<usize> {
    usize::try_from(count).map_err(|_| i32::try_from(count).map_or(EIO, Error::from_errno))
}

/// The longest name of a folder's entry.
const NAME_MAX: usize = 255;

/// A name is handed on as it is: the kernel refuses `.`, `..` and what has a `/` or NUL in it.
fn name(name: &[u8]) -> Result<(*const u8, usize)> {
    if name.is_empty() {
        return Err(ENOENT);
    }
    if name.len() > NAME_MAX {
        // CAST: 36, a constant.
        return Err(Error::from_errno(-(bindings::ENAMETOOLONG as i32)));
    }
    Ok((name.as_ptr(), name.len()))
}

/// Credentials of a user without privileges.
///
/// # Invariants
///
/// The pointer is a `struct cred` of which a reference is owned.
pub struct Credentials(NonNull<RawCred>);

// SAFETY: Credentials do not change and belong to no thread; the reference count is atomic.
unsafe impl Send for Credentials {}
// SAFETY: As above.
unsafe impl Sync for Credentials {}

impl Credentials {
    /// A user and a group of the initial user namespace: no other groups, no capabilities.
    /// `EINVAL` for numbers that are none. May sleep.
    pub fn user(uid: u32, gid: u32) -> Result<Self> {
        // SAFETY: The function takes any numbers.
        let cred = from_err_ptr(unsafe { virgo_cred_make(uid, gid) }.cast_mut())?;
        // INVARIANT: The function returned a reference for us.
        NonNull::new(cred).map(Credentials).ok_or(ENOMEM)
    }

    /// Runs `work` with these credentials in force.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: The credentials are alive by the invariant until after they have been left.
        let old = unsafe { virgo_cred_enter(self.0.as_ptr()) };
        let result = work();
        // SAFETY: What was in force is still alive: the task holds it.
        unsafe { virgo_cred_leave(old) };
        result
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        // SAFETY: A reference is owned by the invariant.
        unsafe { virgo_cred_put(self.0.as_ptr()) };
    }
}

/// A file, folder or link, held where it is.
///
/// # Invariants
///
/// A mount and a dentry of it which is not negative, of each of which a reference is owned.
pub struct Place(RawPath);

// SAFETY: Places belong to no thread; the reference counts are atomic.
unsafe impl Send for Place {}
// SAFETY: As above; the kernel locks what it changes.
unsafe impl Sync for Place {}

impl Clone for Place {
    fn clone(&self) -> Self {
        // SAFETY: Alive by the invariant.
        unsafe { path_get(&self.0) };
        // INVARIANT: The references just taken.
        Place(self.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: References are owned by the invariant.
        unsafe { path_put(&self.0) };
    }
}

/// The calling process's umask.
pub fn umask() -> u32 {
    // SAFETY: No preconditions.
    unsafe { virgo_vfs_umask() }
}

/// What [`Place::is_swift`] is asked about; the shim's numbers.
#[derive(Clone, Copy)]
pub enum Swift {
    /// Walking on, stat, reading.
    Look = 0,
    /// Opening for reading.
    Open = 1,
    /// Letting go, and closing what was only read.
    Drop = 2,
    /// Anything.
    Change = 3,
}

/// Flag of [`Place::open`] and [`Place::create`]; open(2)'s O_NONBLOCK.
pub const SWIFT_OPEN: i32 = 0o4000;

/// Makes a place of what a function has stored in its last argument.
///
/// # Safety
///
/// When it answers 0, `call` has stored a path with references for us.
unsafe fn place_from(call: impl FnOnce(*mut RawPath) -> c_int) -> Result<Place> {
    let mut raw = RawPath::none();
    to_result(call(&mut raw))?;
    // INVARIANT: By the safety requirements.
    Ok(Place(raw))
}

impl Place {
    /// A folder by its name, which is looked up as the caller: where it is, and whether one may
    /// see it, is the caller's own affair. It holds the mount it is on.
    pub fn folder(name: &CStr) -> Result<Self> {
        // SAFETY: A C string; the function stores a path with references at 0.
        unsafe { place_from(|out| virgo_vfs_root(name.as_char_ptr(), out)) }
    }

    /// The entry `entry` of this folder.
    pub fn walk(&self, root: &Place, entry: &[u8]) -> Result<Self> {
        let (text, len) = name(entry)?;
        // SAFETY: Both places are alive, the name is readable for its length; the function stores
        // a path with references at 0.
        unsafe { place_from(|out| virgo_vfs_walk(&root.0, &self.0, text, len, out)) }
    }

    /// Whether work of this kind is done here without waiting for a disk, another machine or a
    /// program; an estimate, see modules/shim/vfs.c. Does not sleep.
    pub fn is_swift(&self, what: Swift) -> bool {
        // SAFETY: The place is alive. CAST: a small number.
        unsafe { virgo_vfs_swift(&self.0, what as c_int) }
    }

    /// As [`Place::walk`], by what is in memory: `EAGAIN` where that does not know. Does not wait.
    pub fn walk_swift(&self, root: &Place, entry: &[u8]) -> Result<Self> {
        let (text, len) = name(entry)?;
        // SAFETY: As in `walk`.
        unsafe { place_from(|out| virgo_vfs_walk_swift(&root.0, &self.0, text, len, out)) }
    }

    /// The folder this is in; the root's own is the root.
    pub fn parent(&self, root: &Place) -> Result<Self> {
        // SAFETY: As in `walk`.
        unsafe { place_from(|out| virgo_vfs_parent(&root.0, &self.0, out)) }
    }

    /// Whether two places are the same.
    pub fn is(&self, other: &Place) -> bool {
        self.0.mnt == other.0.mnt && self.0.dentry == other.0.dentry
    }

    /// What stat(2) tells.
    pub fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::default();
        // SAFETY: The place is alive, `stat` writable.
        to_result(unsafe { virgo_vfs_stat(&self.0, &mut stat) })?;
        Ok(stat)
    }

    /// What statfs(2) tells.
    pub fn statfs(&self) -> Result<StatFs> {
        let mut stat = StatFs::default();
        // SAFETY: The place is alive, `stat` writable.
        to_result(unsafe { virgo_vfs_statfs(&self.0, &mut stat) })?;
        Ok(stat)
    }

    /// Opens a file or a folder; `flags` are open(2)'s. `ENXIO` for anything else, `ELOOP` for a
    /// symbolic link. With [`SWIFT_OPEN`] a lease is not waited for: `EAGAIN`.
    pub fn open(&self, root: &Place, flags: i32) -> Result<Arc<OpenFile>> {
        let mut file = ptr::null_mut();
        // SAFETY: Both places are alive, `file` writable.
        to_result(unsafe { virgo_vfs_open(&root.0, &self.0, flags, &mut file) })?;
        // SAFETY: The function stored an open file with a reference for us.
        unsafe { OpenFile::adopt(file) }
    }

    /// Makes a regular file in this folder and opens it; one that is there is opened, unless the
    /// flags have O_EXCL.
    pub fn create(
        &self,
        root: &Place,
        entry: &[u8],
        flags: i32,
        mode: u16,
    ) -> Result<(Place, Arc<OpenFile>)> {
        let (text, len) = name(entry)?;
        let mut file = ptr::null_mut();
        // SAFETY: As in `walk` and `open`.
        let place = unsafe {
            place_from(|out| {
                virgo_vfs_create(&root.0, &self.0, text, len, flags, mode, out, &mut file)
            })
        }?;
        // SAFETY: The function stored an open file with a reference for us.
        let file = unsafe { OpenFile::adopt(file) }?;
        Ok((place, file))
    }

    /// Makes a folder in this one.
    pub fn mkdir(&self, root: &Place, entry: &[u8], mode: u16) -> Result<Place> {
        let (text, len) = name(entry)?;
        // SAFETY: As in `walk`.
        unsafe { place_from(|out| virgo_vfs_mkdir(&root.0, &self.0, text, len, mode, out)) }
    }

    /// Makes a symbolic link in this folder.
    pub fn symlink(&self, root: &Place, entry: &[u8], target: &CStr) -> Result<Place> {
        let (text, len) = name(entry)?;
        let target = target.as_char_ptr();
        // SAFETY: As in `walk`; the target is a C string.
        unsafe { place_from(|out| virgo_vfs_symlink(&root.0, &self.0, text, len, target, out)) }
    }

    /// Gives `old` another name in this folder.
    pub fn link(&self, root: &Place, old: &Place, entry: &[u8]) -> Result {
        let (text, len) = name(entry)?;
        // SAFETY: All places are alive, the name is readable for its length.
        to_result(unsafe { virgo_vfs_link(&root.0, &self.0, &old.0, text, len) })
    }

    /// Removes an entry of this folder: a folder, or anything but a folder. With `swift` a file
    /// whose end takes long is `EAGAIN`.
    pub fn unlink(&self, root: &Place, entry: &[u8], is_dir: bool, swift: bool) -> Result {
        let (text, len) = name(entry)?;
        let how = c_int::from(is_dir) | (c_int::from(swift) << 1);
        // SAFETY: As in `link`.
        to_result(unsafe { virgo_vfs_unlink(&root.0, &self.0, text, len, how) })
    }

    /// Removes what is here, by the name it has now.
    pub fn remove(&self, root: &Place) -> Result {
        // SAFETY: Both places are alive.
        to_result(unsafe { virgo_vfs_remove(&root.0, &self.0) })
    }

    /// Renames the entry `old` of this folder to `new` of `folder`.
    pub fn rename(&self, root: &Place, old: &[u8], folder: &Place, new: &[u8]) -> Result {
        let ((old, old_len), (new, len)) = (name(old)?, name(new)?);
        // SAFETY: As in `link`.
        to_result(unsafe { virgo_vfs_rename(&root.0, &self.0, old, old_len, &folder.0, new, len) })
    }

    /// Renames what is here, whatever its name is now, to `new` of `folder`.
    pub fn move_to(&self, root: &Place, folder: &Place, new: &[u8]) -> Result {
        let (text, len) = name(new)?;
        // SAFETY: As in `link`.
        to_result(unsafe { virgo_vfs_move(&root.0, &self.0, &folder.0, text, len) })
    }

    /// What a symbolic link says; its length. `EINVAL` for what is none, `ENAMETOOLONG` where it
    /// does not fit.
    pub fn readlink(&self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: The place is alive, the buffer writable for its length.
        length(unsafe { virgo_vfs_readlink(&self.0, buffer.as_mut_ptr(), buffer.len()) })
    }

    /// Changes mode, owner, size or times. With `file`, open for writing, the size may change
    /// though the mode would not allow it, as by ftruncate(2).
    pub fn change(&self, file: Option<&OpenFile>, change: &Change) -> Result {
        let file = file.map_or(ptr::null_mut(), |file| file.file.as_ptr());
        // SAFETY: Place and file are alive.
        to_result(unsafe { virgo_vfs_change(&self.0, file, change) })
    }

    /// An extended attribute into `buffer`; its length. With an empty buffer the length alone.
    pub fn getxattr(&self, attribute: &CStr, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: The place is alive, the name a C string, the buffer writable for its length.
        length(unsafe {
            virgo_vfs_getxattr(
                &self.0,
                attribute.as_char_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        })
    }

    /// The names of the extended attributes, each with a NUL, into `buffer`; their length. With an
    /// empty buffer the length alone.
    pub fn listxattr(&self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: As in `getxattr`.
        length(unsafe { virgo_vfs_listxattr(&self.0, buffer.as_mut_ptr(), buffer.len()) })
    }

    /// Sets an extended attribute; `flags` are setxattr(2)'s.
    pub fn setxattr(&self, attribute: &CStr, value: &[u8], flags: i32) -> Result {
        // SAFETY: As in `getxattr`, the value readable for its length.
        to_result(unsafe {
            virgo_vfs_setxattr(
                &self.0,
                attribute.as_char_ptr(),
                value.as_ptr(),
                value.len(),
                flags,
            )
        })
    }

    /// Removes an extended attribute.
    pub fn removexattr(&self, attribute: &CStr) -> Result {
        // SAFETY: The place is alive, the name a C string.
        to_result(unsafe { virgo_vfs_removexattr(&self.0, attribute.as_char_ptr()) })
    }
}

/// Who holds locks: two are the same if they are one value.
pub struct LockOwner(#[allow(dead_code, reason = "gives it an address of its own")] u8);

impl LockOwner {
    /// Someone new.
    pub fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(LockOwner(0), GFP_KERNEL)?)
    }
}

/// An entry of a folder.
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Where it is in the folder.
    pub offset: u64,
    /// Its number.
    pub ino: u64,
    /// `DT_` of dirent(3).
    pub kind: u32,
}

/// An open file or folder. Drop gives its locks up and closes it, at once.
///
/// # Invariants
///
/// `file` is an open file of which a reference is owned; `owners` are all who may have locks by it.
#[pin_data(PinnedDrop)]
pub struct OpenFile {
    file: NonNull<RawFile>,
    #[pin]
    owners: Mutex<KVec<Arc<LockOwner>>>,
    /// Held while a folder is read: its position is the file's own.
    #[pin]
    position: Mutex<()>,
}

// SAFETY: Files belong to no thread.
unsafe impl Send for OpenFile {}
// SAFETY: Reading and writing at given positions shares no state but the file system's own, which
// it locks; a folder's position is guarded by `position`.
unsafe impl Sync for OpenFile {}

impl OpenFile {
    /// # Safety
    ///
    /// `file` is an open file of which the caller gives a reference up.
    unsafe fn adopt(file: *mut RawFile) -> Result<Arc<Self>> {
        let file = NonNull::new(file).ok_or(EIO)?;
        Arc::pin_init(
            // INVARIANT: By the safety requirements; there are no locks yet.
            pin_init!(OpenFile {
                file,
                owners <- kernel::new_mutex!(KVec::new()),
                position <- kernel::new_mutex!(()),
            }),
            GFP_KERNEL,
        )
        .inspect_err(|_| {
            // SAFETY: The reference is ours.
            unsafe { virgo_vfs_close(file.as_ptr()) };
        })
    }

    /// The file, as long as `self` lives.
    pub(super) fn as_ptr(&self) -> *mut bindings::file {
        self.file.as_ptr().cast()
    }

    /// Reads at most `count` bytes at `offset` to the end of `buffer`; how many: fewer only where
    /// the file ends. The buffer must have room for them.
    pub fn read_to(&self, buffer: &mut KVVec<u8>, count: usize, offset: u64) -> Result<usize> {
        let room = buffer.spare_capacity_mut();
        let count = count.min(room.len());
        let to = room.as_mut_ptr().cast();
        // SAFETY: The file is open by the invariant; `count` bytes are writable.
        let read = length(unsafe { virgo_vfs_read(self.file.as_ptr(), to, count, offset) })?;
        let read = read.min(count);
        // SAFETY: Within the room, and the kernel has written so many.
        unsafe { buffer.inc_len(read) };
        Ok(read)
    }

    /// Reads at most `count` bytes at `offset` into a message that is sent later, behind what it
    /// holds; as [`OpenFile::read_to`]. With `swift` only what is in memory, or `EAGAIN`.
    pub fn read_message(
        &self,
        message: &mut Message,
        count: usize,
        offset: u64,
        swift: bool,
    ) -> Result<usize> {
        let room = message.room();
        let count = count.min(room.len());
        let to = room.as_mut_ptr().cast();
        let file = self.file.as_ptr();
        // SAFETY: The file is open by the invariant; `count` bytes are writable.
        let read = length(unsafe {
            if swift {
                virgo_vfs_read_swift(file, to, count, offset)
            } else {
                virgo_vfs_read(file, to, count, offset)
            }
        })?;
        let read = read.min(count);
        message.grow(read);
        Ok(read)
    }

    /// Writes at `offset` (at the end, for a file opened with O_APPEND); how much.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        let (from, count) = (data.as_ptr().cast(), data.len());
        // SAFETY: The file is open by the invariant, `data` readable.
        length(unsafe { virgo_vfs_write(self.file.as_ptr(), from, count, offset) })
    }

    /// Hands a folder's entries from `offset` on to `each`, until it says no; where the folder's
    /// position is then.
    pub fn read_dir<F: FnMut(DirEntry<'_>) -> bool>(
        &self,
        offset: u64,
        mut each: F,
    ) -> Result<u64> {
        /// # Safety
        ///
        /// Called during `read_dir`, with its closure.
        unsafe extern "C" fn emit<F: FnMut(DirEntry<'_>) -> bool>(
            context: *mut c_void,
            name: *const u8,
            len: c_int,
            offset: u64,
            ino: u64,
            kind: u32,
        ) -> bool {
            // SAFETY: The closure is borrowed mutably for this alone.
            let each = unsafe { &mut *context.cast::<F>() };
            let len = usize::try_from(len).unwrap_or(0);
            // SAFETY: The file system gives a name of that length.
            let name = unsafe { core::slice::from_raw_parts(name, len) };
            each(DirEntry {
                name,
                offset,
                ino,
                kind,
            })
        }
        let mut next = offset;
        let _alone = self.position.lock();
        // SAFETY: The file is open by the invariant, `emit` fits the closure, which outlives the
        // call; one call at a time by the lock.
        to_result(unsafe {
            virgo_vfs_readdir(
                self.file.as_ptr(),
                offset,
                &mut next,
                emit::<F>,
                (&raw mut each).cast(),
            )
        })?;
        Ok(next)
    }

    /// Brings it to the disk: with `data_only` no more than is needed to read it again.
    pub fn sync(&self, data_only: bool) -> Result {
        let file = self.file.as_ptr().cast();
        // SAFETY: The file is open by the invariant.
        to_result(unsafe { bindings::vfs_fsync(file, c_int::from(data_only)) })
    }

    /// Sets a lock or gives it up. One that is taken is waited for, `wait_ms` at most (0: not at
    /// all), then it is `EAGAIN`.
    pub fn lock(&self, owner: &Arc<LockOwner>, range: &Range, wait_ms: u32) -> Result {
        if range.kind() != LockKind::None {
            let mut owners = self.owners.lock();
            if !owners.iter().any(|known| Arc::ptr_eq(known, owner)) {
                owners.push(owner.clone(), GFP_KERNEL)?;
            }
        }
        let address = Arc::as_ptr(owner).cast();
        // SAFETY: The file is open by the invariant. The owner is kept until its locks are gone:
        // it is in `owners`.
        to_result(unsafe { virgo_vfs_lock(self.file.as_ptr(), address, range, wait_ms) })
    }

    /// The first lock in the way of `range`, or the range with no lock.
    pub fn conflict(&self, owner: &Arc<LockOwner>, range: &Range) -> Result<Range> {
        let mut found = *range;
        let address = Arc::as_ptr(owner).cast();
        // SAFETY: The file is open by the invariant, `found` writable.
        to_result(unsafe { virgo_vfs_getlock(self.file.as_ptr(), address, &mut found) })?;
        Ok(found)
    }
}

#[pinned_drop]
impl PinnedDrop for OpenFile {
    fn drop(self: Pin<&mut Self>) {
        let file = self.file.as_ptr();
        for owner in self.owners.lock().iter() {
            // SAFETY: The file is open by the invariant.
            unsafe { virgo_vfs_unlock_all(file, Arc::as_ptr(owner).cast()) };
        }
        // SAFETY: The reference is ours by the invariant; no lock by it is left.
        unsafe { virgo_vfs_close(file) };
    }
}
