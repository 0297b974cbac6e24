// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The Rust mirror of `include/uapi/linux/virgo.h`, which is the truth and says what each field
//! means in full. A test compares every size, offset and number of the two.

use core::mem::size_of;

/// The control device.
pub const DEVICE: &str = "/dev/virgo";
/// The profiler's own device.
pub const PROFILER_DEVICE: &str = "/dev/virgo-profiler";
/// The type byte of every ioctl.
pub const IOC_MAGIC: u32 = 0xEB;

/// The modules of the suite: the bit in [`Query::modules`] and, times 16, the module's first
/// ioctl number (`enum virgo_module`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Module {
    /// virgo-core.
    Core = 0,
    /// virgo-cpupool.
    Cpupool = 1,
    /// virgo-mempool.
    Mempool = 2,
    /// virgo-cloudfs.
    Cloudfs = 3,
    /// virgo-queue.
    Queue = 4,
    /// virgo-eventnet.
    Eventnet = 5,
    /// virgo-analytics.
    Analytics = 6,
    /// virgo-profiler.
    Profiler = 7,
}

impl Module {
    /// Every module, in the order of its number.
    pub const ALL: [Module; 8] = [
        Module::Core,
        Module::Cpupool,
        Module::Mempool,
        Module::Cloudfs,
        Module::Queue,
        Module::Eventnet,
        Module::Analytics,
        Module::Profiler,
    ];

    /// The module's name, as insmod's file has it without `.ko`.
    pub const fn name(self) -> &'static str {
        match self {
            Module::Core => "virgo-core",
            Module::Cpupool => "virgo-cpupool",
            Module::Mempool => "virgo-mempool",
            Module::Cloudfs => "virgo-cloudfs",
            Module::Queue => "virgo-queue",
            Module::Eventnet => "virgo-eventnet",
            Module::Analytics => "virgo-analytics",
            Module::Profiler => "virgo-profiler",
        }
    }

    /// The module with this number.
    pub fn from_number(number: u32) -> Option<Module> {
        usize::try_from(number)
            .ok()
            .and_then(|index| Module::ALL.get(index).copied())
    }
}

/// Length of a thread's name with its terminating NUL.
pub const COMM_LEN: usize = 16;

/// The kernel serves `IOC_QUERY` and the service registry.
pub const FEATURE_QUERY: u64 = 1 << 0;
/// `/dev/virgo` becomes readable when a module comes or goes.
pub const FEATURE_POLL_MODULES: u64 = 1 << 1;

/// First word of the profiler's buffer: "VPRF", little-endian.
pub const PROFILER_MAGIC: u32 = 0x4652_5056;
/// Version of the buffer's layout.
pub const PROFILER_LAYOUT: u32 = 1;
/// Bytes in front of the first record.
pub const PROFILER_HEADER_SIZE: u32 = 4096;
/// Lowest rate, in rounds a second.
pub const PROFILER_RATE_MIN: u32 = 1;
/// Highest rate, in rounds a second.
pub const PROFILER_RATE_MAX: u32 = 1000;
/// Rate at load, in rounds a second.
pub const PROFILER_RATE_DEFAULT: u32 = 20;

/// In a sample: the registration is of one thread.
pub const SAMPLE_THREAD: u32 = 1 << 0;
/// In a sample: the task has exited; its last record.
pub const SAMPLE_EXIT: u32 = 1 << 1;
/// In a sample: the first record of a registration.
pub const SAMPLE_FIRST: u32 = 1 << 2;
/// In a sample: unregistered while alive; its last record.
pub const SAMPLE_LAST: u32 = 1 << 3;

/// Register one thread.
pub const PROFILER_F_THREAD: u32 = 1 << 0;
/// The pid given is a pidfd.
pub const PROFILER_F_PIDFD: u32 = 1 << 1;
/// The registration ends with this file.
pub const PROFILER_F_BIND: u32 = 1 << 2;
/// Set the rate.
pub const PROFILER_RATE_SET: u32 = 1 << 0;

/// An ioctl number as Linux's `_IOWR` makes it on the architectures of the generic layout.
const fn iowr<T>(nr: u32) -> u32 {
    let size = size_of::<T>();
    // The size field has 14 bits. This runs at compile time only.
    assert!(size < (1 << 14));
    // CAST: checked just above.
    (3 << 30) | ((size as u32) << 16) | (IOC_MAGIC << 8) | nr
}

/// What is loaded here.
pub const IOC_QUERY: u32 = iowr::<Query>(0x00);
/// Register a task.
pub const PROFILER_IOC_REGISTER: u32 = iowr::<ProfilerTask>(0x70);
/// Unregister a task.
pub const PROFILER_IOC_UNREGISTER: u32 = iowr::<ProfilerTask>(0x71);
/// What is registered.
pub const PROFILER_IOC_LIST: u32 = iowr::<ProfilerList>(0x72);
/// Read or set the rate.
pub const PROFILER_IOC_RATE: u32 = iowr::<ProfilerRate>(0x73);
/// The shape of the buffer.
pub const PROFILER_IOC_INFO: u32 = iowr::<ProfilerInfo>(0x74);
/// How far this reader has come.
pub const PROFILER_IOC_SEEN: u32 = iowr::<ProfilerSeen>(0x75);

/// What is loaded here (`struct virgo_query`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// In: `sizeof(struct virgo_query)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: version of the suite, `major << 16 | minor << 8 | patch`.
    pub version: u32,
    /// Out: version of the table that the modules share among themselves.
    pub abi: u32,
    /// Out: `VIRGO_FEATURE_` bits.
    pub features: u64,
    /// Out: bit (1 << `VIRGO_MODULE_x`) for each module which is loaded.
    pub modules: u64,
    /// Out: grows by one each time that a module comes or goes; a `poll()` on /dev/virgo reports
    /// POLLIN until `VIRGO_IOC_QUERY` has returned the newest value through this descriptor.
    pub generation: u64,
    /// In: must be zero.
    pub reserved: [u64; 3],
}

/// The first page of the mapped buffer (`struct virgo_profiler_header`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerHeader {
    /// `VIRGO_PROFILER_MAGIC`.
    pub magic: u32,
    /// `VIRGO_PROFILER_LAYOUT`.
    pub layout: u32,
    /// Where record slot 0 begins, in bytes.
    pub header_size: u32,
    /// Bytes from one record slot to the next.
    pub record_size: u32,
    /// How many record slots there are.
    pub capacity: u64,
    /// Records written so far. Record number n (from 0) is, or was, in slot `n % capacity`. Load
    /// with acquire ordering.
    pub head: u64,
    /// Grows by one at each registration, removal and change of rate.
    pub generation: u64,
    /// Samples that were due and were not taken, because the one before was still under way (one
    /// for each registered task and missed tick).
    pub dropped: u64,
    /// Sampling rounds so far.
    pub ticks: u64,
    /// Sampling rounds that were skipped for that reason.
    pub missed_ticks: u64,
    /// Sampling rounds a second.
    pub rate_hz: u32,
    /// Registered tasks now.
    pub registered: u32,
    /// When sampling last started; 0 while no task is registered.
    pub start_ns: u64,
    /// Zero.
    pub reserved: [u64; 6],
}

/// One task at one moment (`struct virgo_profiler_sample`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerSample {
    /// Record number plus one; 0 while the record is being written. A reader loads it with
    /// acquire ordering, copies the record, loads it again, and has lost the record if either
    /// load is not the number it expects.
    pub seq: u64,
    /// Identity of the registration. Never used twice while the module is loaded, so a reused pid
    /// is never mixed in.
    pub id: u64,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Minor faults of the task since it began.
    pub min_flt: u64,
    /// Major faults of the task since it began.
    pub maj_flt: u64,
    /// User CPU time since it began.
    pub utime_ns: u64,
    /// System CPU time since it began. The sum of both is the scheduler's exact run time; the
    /// split is by the tick's samples.
    pub stime_ns: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Process id (thread group id) in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace; equals `pid` for a process.
    pub tid: u32,
    /// A letter as in /proc/PID/stat: R S D T t X Z I.
    pub state: u32,
    /// `VIRGO_SAMPLE_` bits.
    pub flags: u32,
    /// Name of the thread (of the main thread, for a process); NUL-padded.
    pub comm: [u8; COMM_LEN],
}

/// Argument of REGISTER and UNREGISTER (`struct virgo_profiler_task`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerTask {
    /// In: `sizeof(struct virgo_profiler_task)`.
    pub size: u32,
    /// In: `VIRGO_PROFILER_F_` bits; UNREGISTER takes no F_BIND.
    pub flags: u32,
    /// In: which task.
    pub pid: i32,
    /// In: must be zero.
    pub reserved0: u32,
    /// Out: identity of the registration, as in the samples.
    pub id: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// One registration, in a list (`struct virgo_profiler_entry`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerEntry {
    /// Identity of the registration.
    pub id: u64,
    /// Records written for it so far.
    pub samples: u64,
    /// Process id in the caller's pid namespace; 0 if it has none there.
    pub pid: u32,
    /// Thread id in the caller's pid namespace; 0 if it has none there.
    pub tid: u32,
    /// `VIRGO_PROFILER_F_THREAD`, `VIRGO_PROFILER_F_BIND`.
    pub flags: u32,
    /// Zero.
    pub reserved0: u32,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
}

/// What is registered (`struct virgo_profiler_list`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerList {
    /// In: `sizeof(struct virgo_profiler_list)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of an array of struct virgo_profiler_entry; may be zero if `capacity` is.
    pub entries: u64,
    /// In: entries in the array.
    pub capacity: u32,
    /// Out: how many tasks are registered. At most `capacity` are stored.
    pub count: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Sampling rounds a second (`struct virgo_profiler_rate`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerRate {
    /// In: `sizeof(struct virgo_profiler_rate)`.
    pub size: u32,
    /// In: 0 or `VIRGO_PROFILER_RATE_SET`.
    pub flags: u32,
    /// In: the new rate (ERANGE outside 1 to 1000); out: the rate now.
    pub rate_hz: u32,
    /// In: must be zero.
    pub reserved0: u32,
}

/// The shape of the buffer, to map it (`struct virgo_profiler_info`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerInfo {
    /// In: `sizeof(struct virgo_profiler_info)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: length to give to `mmap()`, at offset 0, `PROT_READ` and `MAP_SHARED`. Any other
    /// protection is EACCES or EPERM, a longer length or another offset EINVAL; a shorter one is
    /// served.
    pub map_bytes: u64,
    /// Out: as in the header.
    pub capacity: u64,
    /// Out: as in the header.
    pub record_size: u32,
    /// Out: as in the header.
    pub header_size: u32,
    /// Out: the limit on registered tasks.
    pub max_tasks: u32,
    /// Zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Tell `poll()` how far this reader has come (`struct virgo_profiler_seen`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerSeen {
    /// In: `sizeof(struct virgo_profiler_seen)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: records read so far; `poll()` on this descriptor reports POLLIN while the header's
    /// head is greater. Greater than the head now: EINVAL.
    pub head: u64,
}
