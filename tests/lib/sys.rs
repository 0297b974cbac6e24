// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! System calls behind safe functions.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

use virgo_proto::uapi;

/// A page, on the only architecture that the tests run on.
pub const PAGE: usize = 4096;

/// An error number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.0))
    }
}

macro_rules! errnos {
    ($($name:ident),+) => { $(
        #[doc = concat!("The error number ", stringify!($name), ".")]
        pub const $name: Errno = Errno(libc::$name);
    )+ };
}
errnos!(
    E2BIG, EACCES, EAGAIN, EBADF, EBUSY, EEXIST, EFAULT, EINVAL, EIO, ENODEV, ENOENT, ENOEXEC,
    ENOMEM, ENOSPC, ENOTTY, EPERM, ERANGE, ESRCH
);

/// A result of a system call.
pub type Res<T> = Result<T, Errno>;

/// The error number of the call that failed last.
#[must_use]
pub fn last_errno() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn check(value: libc::c_int) -> Res<libc::c_int> {
    if value < 0 {
        Err(last_errno())
    } else {
        Ok(value)
    }
}

fn check_long(value: libc::c_long) -> Res<libc::c_long> {
    if value < 0 {
        Err(last_errno())
    } else {
        Ok(value)
    }
}

/// The error number of an I/O error.
#[must_use]
pub fn errno_of(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(0))
}

/// A structure of integers without padding.
///
/// # Safety
///
/// Every bit pattern is a value, and there is no padding.
pub unsafe trait Plain: Copy + Default {}

// SAFETY: The uAPI's structures consist of integers and have no padding: tests/uapi checks their
// sizes and offsets.
unsafe impl Plain for uapi::Query {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerHeader {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerSample {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerTask {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerEntry {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerList {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerRate {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerInfo {}
// SAFETY: As above.
unsafe impl Plain for uapi::ProfilerSeen {}
// SAFETY: As above.
unsafe impl Plain for uapi::FsOpen {}
// SAFETY: As above.
unsafe impl Plain for uapi::FsIo {}
// SAFETY: As above.
unsafe impl Plain for uapi::FsHandle {}
// SAFETY: As above.
unsafe impl Plain for uapi::FsStat {}
// SAFETY: As above.
unsafe impl Plain for uapi::AnalyticsGet {}
// SAFETY: As above.
unsafe impl Plain for uapi::AnalyticsSet {}
// SAFETY: As above.
unsafe impl Plain for uapi::AnalyticsDefine {}
// SAFETY: As above.
unsafe impl Plain for uapi::AnalyticsLog {}
// SAFETY: As above.
unsafe impl Plain for uapi::AnalyticsUndo {}
// SAFETY: As above.
unsafe impl Plain for uapi::AnalyticsInfo {}
// SAFETY: As above.
unsafe impl Plain for uapi::AnalyticsSeen {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueuePut {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueueResult {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueueTake {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueueDone {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueuePeek {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueueStat {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueueList {}
// SAFETY: As above.
unsafe impl Plain for uapi::QueueDrain {}
// SAFETY: As above.
unsafe impl Plain for uapi::TraceStart {}
// SAFETY: As above.
unsafe impl Plain for uapi::TraceStop {}
// SAFETY: As above.
unsafe impl Plain for uapi::TraceInfo {}

macro_rules! plain {
    ($($type:ident),+ $(,)?) => { $(
        // SAFETY: As above.
        unsafe impl Plain for uapi::$type {}
    )+ };
}
plain!(
    CpupoolList,
    CpupoolSet,
    CpupoolStart,
    CpupoolFollow,
    CpupoolKill,
    CpupoolLend,
    MemMalloc,
    MemIo,
    MemFree,
    MemBlock,
    MemList,
    MemStat,
    MemPut,
    MemTake,
    MemDrop,
    MemCount,
    MemScan,
    MemFlush,
    MemSettings,
    MemShare,
    MemSeen,
    EventnetLog,
    EventnetRead,
    EventnetStat,
    EventnetSettings,
);

/// The bytes of a structure.
#[must_use]
pub fn bytes_of<T: Plain>(value: &T) -> Vec<u8> {
    // SAFETY: All bytes of a `Plain` type are initialised.
    unsafe { std::slice::from_raw_parts((&raw const *value).cast::<u8>(), size_of::<T>()) }.to_vec()
}

/// A structure from its bytes. Panics if there are too few.
#[must_use]
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> T {
    assert!(bytes.len() >= size_of::<T>());
    // SAFETY: There are enough bytes, and each bit pattern is a value.
    unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) }
}

/// An ioctl with these bytes, which are what they are afterwards. Behind them are zeros, 8 KiB in
/// all, so a size which is more than there are bytes is harmless.
pub fn ioctl_bytes(fd: impl AsFd, command: u32, bytes: &mut [u8]) -> Res<i32> {
    let mut room = Area::new(2);
    room.write(0, bytes);
    let result = ioctl_at(fd, command, room.address(0));
    bytes.copy_from_slice(&room.read(0, bytes.len()));
    result
}

/// An ioctl with a structure, where it lies: nothing is copied.
pub fn ioctl_in_place<T: Plain>(fd: impl AsFd, command: u32, value: &mut T) -> Res<i32> {
    ioctl_at(fd, command, ptr::from_mut(value) as usize)
}

/// An ioctl with a structure.
pub fn ioctl<T: Plain>(fd: impl AsFd, command: u32, value: &mut T) -> Res<i32> {
    let mut bytes = bytes_of(value);
    let result = ioctl_bytes(fd, command, &mut bytes);
    *value = from_bytes(&bytes);
    result
}

/// An ioctl with any number as the address. The structure it points to must be in an [`Area`], or
/// nowhere.
pub fn ioctl_at(fd: impl AsFd, command: u32, address: usize) -> Res<i32> {
    // SAFETY: The tests pass addresses of areas, which no reference points into, or of nothing
    // that is mapped.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command.into(), address) })
}

/// An ioctl as a 32-bit program makes it, by `int $0x80`. The address must be below 4 GiB.
#[cfg(target_arch = "x86_64")]
pub fn ioctl_32bit(fd: impl AsFd, command: u32, address: usize) -> Res<i32> {
    const NR_IOCTL_32: u64 = 54;
    let address = u32::try_from(address).expect("the address has 32 bits");
    let result: u64;
    // SAFETY: As in `ioctl_at`; rbx, which the compiler keeps for itself, is put back, and what
    // the kernel does not keep (r8 to r11) is named.
    unsafe {
        std::arch::asm!(
            "xchg {fd}, rbx",
            "int 0x80",
            "xchg {fd}, rbx",
            fd = inout(reg) u64::from(fd.as_fd().as_raw_fd().unsigned_abs()) => _,
            inlateout("rax") NR_IOCTL_32 => result,
            in("rcx") u64::from(command),
            in("rdx") u64::from(address),
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    // A 32-bit program looks at eax alone.
    let value = (result & 0xffff_ffff) as u32 as i32;
    if (-4095..0).contains(&value) {
        Err(Errno(-value))
    } else {
        Ok(value)
    }
}

/// Memory of its own, read and written by address alone, so that the kernel may be given it whatever
/// it does with it.
pub struct Area {
    start: *mut u8,
    pages: usize,
}

impl Area {
    /// Zeroed pages.
    #[must_use]
    pub fn new(pages: usize) -> Area {
        Self::with_flags(pages, 0)
    }

    /// Zeroed pages below 2 GiB.
    #[must_use]
    pub fn low(pages: usize) -> Area {
        Self::with_flags(pages, libc::MAP_32BIT)
    }

    fn with_flags(pages: usize, flags: i32) -> Area {
        // SAFETY: A new anonymous mapping.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                pages * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "mmap: {:?}", last_errno());
        // A fault a page.
        //
        // SAFETY: The mapping is ours.
        unsafe { libc::madvise(start, pages * PAGE, libc::MADV_NOHUGEPAGE) };
        Area {
            start: start.cast(),
            pages,
        }
    }

    /// The address of byte `offset`.
    #[must_use]
    pub fn address(&self, offset: usize) -> usize {
        self.start as usize + offset
    }

    /// Writes bytes. Panics past the end.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.pages * PAGE);
        // SAFETY: It is inside the area, which nothing refers to.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), bytes.len()) };
    }

    /// Reads bytes. Panics past the end.
    #[must_use]
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.pages * PAGE);
        let mut bytes = vec![0; length];
        // SAFETY: It is inside the area, which nothing refers to.
        unsafe { ptr::copy_nonoverlapping(self.start.add(offset), bytes.as_mut_ptr(), length) };
        bytes
    }

    /// Touches pages, a fault each the first time.
    pub fn touch(&mut self, first: usize, count: usize) {
        for page in first..first + count {
            self.write(page * PAGE, &[1]);
        }
    }

    /// Changes a page's protection (`libc::PROT_`).
    pub fn protect(&mut self, page: usize, protection: i32) {
        assert!(page < self.pages);
        // SAFETY: The page is inside the area.
        let result =
            unsafe { libc::mprotect(self.start.add(page * PAGE).cast(), PAGE, protection) };
        assert_eq!(result, 0, "mprotect: {:?}", last_errno());
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: The area is ours and not used any more.
        unsafe { libc::munmap(self.start.cast(), self.pages * PAGE) };
    }
}

/// A mapping that is read through raw pointers, or not at all.
pub struct Mapping {
    start: *mut u8,
    length: usize,
}

// SAFETY: A mapping is the process's, not a thread's, and its words are only read, each at once.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// mmap() of a file.
    pub fn new(fd: impl AsFd, length: usize, prot: i32, flags: i32, offset: usize) -> Res<Mapping> {
        // SAFETY: A new mapping where the kernel likes.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                prot,
                flags,
                fd.as_fd().as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(last_errno());
        }
        Ok(Mapping {
            start: start.cast(),
            length,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> usize {
        self.start as usize
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Reads the 64-bit word at a byte offset. Panics past the end.
    #[must_use]
    pub fn word(&self, offset: usize) -> u64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.length);
        // SAFETY: The word is in the mapping, aligned, and nothing but the kernel writes it.
        unsafe { self.start.add(offset).cast::<u64>().read_volatile() }
    }

    /// mprotect() of all of it.
    pub fn protect(&self, protection: i32) -> Res<()> {
        // SAFETY: If it succeeds where it should not, nothing but the test is wrong.
        check(unsafe { libc::mprotect(self.start.cast(), self.length, protection) }).map(drop)
    }

    /// madvise() of all of it.
    pub fn advise(&self, advice: i32) -> Res<()> {
        // SAFETY: The contents belong to the kernel; nothing refers to them.
        check(unsafe { libc::madvise(self.start.cast(), self.length, advice) }).map(drop)
    }

    /// mremap() to another length, which may move it.
    pub fn resize(&mut self, length: usize) -> Res<()> {
        // SAFETY: The mapping is ours, and no reference points into it.
        let start =
            unsafe { libc::mremap(self.start.cast(), self.length, length, libc::MREMAP_MAYMOVE) };
        if start == libc::MAP_FAILED {
            return Err(last_errno());
        }
        self.start = start.cast();
        self.length = length;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours and not used any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// Waits for a descriptor; what poll() reports, 0 for nothing within the time.
pub fn poll(fd: impl AsFd, events: i16, timeout_ms: i32) -> i16 {
    let mut entry = libc::pollfd {
        fd: fd.as_fd().as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: One entry, which is ours.
    let result = unsafe { libc::poll(&mut entry, 1, timeout_ms) };
    assert!(result >= 0, "poll: {:?}", last_errno());
    entry.revents
}

/// Gives the processor away for a moment.
pub(crate) fn pause_ms(timeout_ms: i32) {
    // SAFETY: No entries.
    unsafe { libc::poll(ptr::null_mut(), 0, timeout_ms) };
}

/// CLOCK_MONOTONIC in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).expect("the clock is there")
}

fn clock_ns(clock: libc::clockid_t) -> Res<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The result is ours.
    check(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// What a process's own CPU clock shows: the run time of all its threads, dead ones too.
pub fn process_cpu_ns(pid: i32) -> Res<u64> {
    let mut clock = 0;
    // SAFETY: The result is ours.
    let error = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    if error != 0 {
        return Err(Errno(error));
    }
    clock_ns(clock)
}

/// Waits until a moment of CLOCK_MONOTONIC, as a periodic program does.
pub fn wait_till_ns(moment: u64) {
    let time = libc::timespec {
        tv_sec: (moment / 1_000_000_000) as libc::time_t,
        tv_nsec: (moment % 1_000_000_000) as libc::c_long,
    };
    loop {
        // SAFETY: The time is ours.
        let error = unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &time,
                ptr::null_mut(),
            )
        };
        if error != libc::EINTR {
            assert_eq!(error, 0, "clock_nanosleep");
            return;
        }
    }
}

/// A pidfd of a process.
pub fn pidfd(pid: i32) -> Res<OwnedFd> {
    // SAFETY: Two numbers.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: A new descriptor, owned by nobody.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Loads a module from a file with parameters.
pub fn finit_module(file: &File, parameters: &str) -> Res<()> {
    let parameters = std::ffi::CString::new(parameters).expect("no NUL");
    // SAFETY: A descriptor, a C string, no flags.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            parameters.as_ptr(),
            0,
        )
    })
    .map(drop)
}

/// Unloads a module; `EAGAIN` if it is in use.
pub fn delete_module(name: &str) -> Res<()> {
    let name = std::ffi::CString::new(name).expect("no NUL");
    // SAFETY: A C string and flags.
    check_long(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })
        .map(drop)
}

/// Sends a signal.
pub fn kill(pid: i32, signal: i32) -> Res<()> {
    assert!(pid > 0);
    // SAFETY: Two numbers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Reaps a child; its wait status and what it used.
pub fn wait4(pid: i32, options: i32) -> Res<Option<(i32, libc::rusage)>> {
    let mut status = 0;
    // SAFETY: The structure is plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: Both results are ours.
    let found = check(unsafe { libc::wait4(pid, &mut status, options, &mut usage) })?;
    Ok((found != 0).then_some((status, usage)))
}

/// getrusage() of this process.
#[must_use]
pub fn own_usage() -> libc::rusage {
    // SAFETY: The structure is plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: The result is ours.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    usage
}

/// The id of this thread.
#[must_use]
pub fn gettid() -> i32 {
    // SAFETY: No arguments.
    unsafe { libc::gettid() }
}

/// Becomes another user for good, without any capability.
pub fn become_user(id: u32) {
    // SAFETY: Numbers, and an empty list.
    unsafe {
        assert_eq!(libc::setgroups(0, ptr::null()), 0);
        assert_eq!(libc::setresgid(id, id, id), 0);
        assert_eq!(libc::setresuid(id, id, id), 0);
    }
}

/// Does something as another user, then is root again.
pub fn as_user<T>(id: u32, action: impl FnOnce() -> T) -> T {
    // SAFETY: Numbers, and an empty list.
    unsafe {
        assert_eq!(libc::setgroups(0, ptr::null()), 0);
        assert_eq!(libc::setresgid(u32::MAX, id, u32::MAX), 0);
        assert_eq!(libc::setresuid(u32::MAX, id, u32::MAX), 0);
    }
    let value = action();
    // SAFETY: Numbers.
    unsafe {
        assert_eq!(libc::setresuid(u32::MAX, 0, u32::MAX), 0);
        assert_eq!(libc::setresgid(u32::MAX, 0, u32::MAX), 0);
    }
    value
}

/// The user nobody.
pub const NOBODY: u32 = 65534;

/// Keeps one of capabilities' `bits`, as an ordinary user: sets them permitted and effective after
/// the change of user.
pub fn become_user_with_capability(id: u32, capability: u32) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    let place = &mut data[(capability / 32) as usize];
    place.effective = 1 << (capability % 32);
    place.permitted = place.effective;
    // SAFETY: Numbers; the structures are as capset(2) has them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
        assert_eq!(libc::setgroups(0, ptr::null()), 0);
        assert_eq!(libc::setresgid(id, id, id), 0);
        assert_eq!(libc::setresuid(id, id, id), 0);
        assert_eq!(libc::syscall(libc::SYS_capset, &mut header, &mut data), 0);
    }
}

/// Stops a process as a debugger does: its state becomes `t`.
pub fn trace_stop(pid: i32) -> Res<()> {
    // SAFETY: Numbers.
    unsafe {
        check_long(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0))?;
        check_long(libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0)).map(drop)
    }
}

/// Detaches from a process that [`trace_stop`] stopped.
pub fn trace_end(pid: i32) -> Res<()> {
    // SAFETY: Numbers.
    check_long(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) }).map(drop)
}

/// A child whose parent waits in the kernel, uninterruptibly, until the child is gone, as vfork()'s
/// does. Returns in both; 0 in the child.
pub fn fork_and_wait() -> i32 {
    // SAFETY: The child has a copy of the memory, and one thread, like the parent.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_VFORK | libc::SIGCHLD,
            0,
            0,
            0,
            0,
        )
    };
    assert!(pid >= 0, "clone: {:?}", last_errno());
    pid as i32
}

/// Ends this thread alone, at once.
pub fn exit_thread() -> ! {
    // SAFETY: The thread's stack stays; nobody waits for its values.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!()
}

/// Ends this process at once.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: A number.
    unsafe { libc::_exit(status) }
}

/// Moves this process into new namespaces (`libc::CLONE_NEW`).
pub fn unshare(flags: i32) -> Res<()> {
    // SAFETY: A number.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Names this thread.
pub fn set_name(name: &str) {
    let name = std::ffi::CString::new(name).expect("no NUL");
    // SAFETY: A C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Keeps the processor busy for that many nanoseconds of this thread's CPU time.
pub fn burn(ns: u64) {
    let now = || clock_ns(libc::CLOCK_THREAD_CPUTIME_ID).expect("the clock is there");
    let end = now() + ns;
    while now() < end {
        for _ in 0..1000 {
            std::hint::spin_loop();
        }
    }
}

/// Writes to another process's memory, as a debugger does; or to one's own.
pub fn write_memory(pid: i32, address: usize, bytes: &[u8]) -> Res<usize> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: bytes.len(),
    };
    // SAFETY: The tests name addresses of the profiler's buffer, which nothing refers to.
    let written = unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) };
    if written < 0 {
        return Err(last_errno());
    }
    Ok(written.unsigned_abs())
}

/// read() of a file to any address.
pub fn read_to_address(fd: impl AsFd, address: usize, length: usize) -> Res<usize> {
    // SAFETY: As in `write_memory`.
    let count = unsafe { libc::read(fd.as_fd().as_raw_fd(), address as *mut libc::c_void, length) };
    if count < 0 {
        return Err(last_errno());
    }
    Ok(count.unsigned_abs())
}

/// Takes a file's clean pages out of memory.
pub fn drop_cached(file: &File) {
    // SAFETY: Numbers.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(error, 0, "posix_fadvise");
}

/// Becomes another program, with one argument.
pub fn execute(program: &str, argument: &str) -> ! {
    let program = std::ffi::CString::new(program).expect("no NUL");
    let argument = std::ffi::CString::new(argument).expect("no NUL");
    let arguments = [program.as_ptr(), argument.as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    // SAFETY: C strings, and arrays that end with null.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    panic!("execve: {:?}", last_errno())
}

/// Mounts tracefs at /sys/kernel/tracing, if it is not.
pub fn mount_tracefs() {
    let point = c"/sys/kernel/tracing".as_ptr();
    // SAFETY: C strings; a second mount is refused or covers the first with the same.
    unsafe {
        libc::mount(
            c"tracefs".as_ptr(),
            point,
            c"tracefs".as_ptr(),
            0,
            ptr::null(),
        )
    };
}
