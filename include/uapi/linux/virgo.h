/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * VIRGO: the contract between the kernel modules and user space.
 *
 * This header is the single source of truth. The Rust mirror in
 * crates/virgo-proto/src/imp/uapi.rs is compared with it, size by size and
 * offset by offset, by the test tests/uapi.
 *
 * Rules, the same for every command:
 *
 *  - Every structure begins with @size: the caller stores sizeof(struct).
 *    A size smaller than the first version of the structure, or larger than
 *    a page, is EINVAL. Bytes past what this kernel knows must be zero, else
 *    E2BIG. Bytes that the caller's version lacks are taken as zero.
 *  - Unknown bits in @flags, and reserved fields that are not zero: EINVAL.
 *  - An unknown command: ENOTTY. A command of a module which is not loaded:
 *    ENODEV. A bad pointer: EFAULT.
 *  - Integers are native-endian, of fixed width, and naturally aligned, so
 *    32-bit callers on a 64-bit kernel use the same layout.
 *  - Pointers travel as __u64. Times are nanoseconds of CLOCK_MONOTONIC.
 *  - A process or thread id is understood in the caller's pid namespace.
 */
#ifndef _UAPI_LINUX_VIRGO_H
#define _UAPI_LINUX_VIRGO_H

#include <linux/ioctl.h>
#include <linux/types.h>

/** The control device, provided by virgo-core. */
#define VIRGO_DEVICE		"/dev/virgo"
/** The profiler's own device: the same commands, plus mmap and poll. */
#define VIRGO_PROFILER_DEVICE	"/dev/virgo-profiler"

/** The ioctl type byte of every VIRGO command. */
#define VIRGO_IOC_MAGIC		0xEB

/*
 * Command numbers: sixteen for each module, from VIRGO_MODULE_x * 16.
 */
/**
 * enum virgo_module - the modules of the suite.
 *
 * The value is the bit in &virgo_query.modules and, times 16, the module's
 * first ioctl number.
 */
enum virgo_module {
	VIRGO_MODULE_CORE	= 0,
	VIRGO_MODULE_CPUPOOL	= 1,
	VIRGO_MODULE_MEMPOOL	= 2,
	VIRGO_MODULE_CLOUDFS	= 3,
	VIRGO_MODULE_QUEUE	= 4,
	VIRGO_MODULE_EVENTNET	= 5,
	VIRGO_MODULE_ANALYTICS	= 6,
	VIRGO_MODULE_PROFILER	= 7,
	VIRGO_MODULE_COUNT	= 8,
};

/* ------------------------------------------------------------------ core */

/** The kernel serves VIRGO_IOC_QUERY and the service registry. */
#define VIRGO_FEATURE_QUERY		(1ULL << 0)
/** /dev/virgo can be polled: it becomes readable when a module comes or goes. */
#define VIRGO_FEATURE_POLL_MODULES	(1ULL << 1)

/**
 * struct virgo_query - what is loaded here (VIRGO_IOC_QUERY).
 * @size: in: sizeof(struct virgo_query).
 * @flags: in: must be zero.
 * @version: out: version of the suite, major << 16 | minor << 8 | patch.
 * @abi: out: version of the table that the modules share among themselves.
 * @features: out: VIRGO_FEATURE_ bits.
 * @modules: out: bit (1 << VIRGO_MODULE_x) for each module which is loaded.
 * @generation: out: grows by one each time that a module comes or goes; a
 *	poll() on /dev/virgo reports POLLIN until VIRGO_IOC_QUERY has returned
 *	the newest value through this descriptor.
 * @reserved: in: must be zero.
 */
struct virgo_query {
	__u32 size;
	__u32 flags;
	__u32 version;
	__u32 abi;
	__u64 features;
	__u64 modules;
	__u64 generation;
	__u64 reserved[3];
};

#define VIRGO_IOC_QUERY		_IOWR(VIRGO_IOC_MAGIC, 0x00, struct virgo_query)

/* -------------------------------------------------------------- profiler */

/** Length of a thread's name with its terminating NUL, as TASK_COMM_LEN. */
#define VIRGO_COMM_LEN			16

/** "VPRF" as a little-endian number: the first word of the buffer. */
#define VIRGO_PROFILER_MAGIC		0x46525056
/** Version of the buffer's layout. */
#define VIRGO_PROFILER_LAYOUT		1
/** Bytes in front of the first record; one page. */
#define VIRGO_PROFILER_HEADER_SIZE	4096

#define VIRGO_PROFILER_RATE_MIN		1
#define VIRGO_PROFILER_RATE_MAX		1000
#define VIRGO_PROFILER_RATE_DEFAULT	20

/**
 * struct virgo_profiler_header - the first page of the mapped buffer.
 * @magic: VIRGO_PROFILER_MAGIC.
 * @layout: VIRGO_PROFILER_LAYOUT.
 * @header_size: where record slot 0 begins, in bytes.
 * @record_size: bytes from one record slot to the next.
 * @capacity: how many record slots there are.
 * @head: records written so far. Record number n (from 0) is, or was, in slot
 *	n % @capacity. Load with acquire ordering.
 * @generation: grows by one at each registration, removal and change of rate.
 * @dropped: samples that were due and were not taken, because the one before
 *	was still under way (one for each registered task and missed tick).
 * @ticks: sampling rounds so far.
 * @missed_ticks: sampling rounds that were skipped for that reason.
 * @rate_hz: sampling rounds a second.
 * @registered: registered tasks now.
 * @start_ns: when sampling last started; 0 while no task is registered.
 * @reserved: zero.
 *
 * The page is written by the kernel alone; no reader can make it wrong.
 */
struct virgo_profiler_header {
	__u32 magic;
	__u32 layout;
	__u32 header_size;
	__u32 record_size;
	__u64 capacity;
	__u64 head;
	__u64 generation;
	__u64 dropped;
	__u64 ticks;
	__u64 missed_ticks;
	__u32 rate_hz;
	__u32 registered;
	__u64 start_ns;
	__u64 reserved[6];
};

/** In @flags of a sample: the registration is of one thread, not a process. */
#define VIRGO_SAMPLE_THREAD	(1U << 0)
/** In @flags of a sample: the task has exited; its last record. */
#define VIRGO_SAMPLE_EXIT	(1U << 1)
/** In @flags of a sample: the first record of a registration. */
#define VIRGO_SAMPLE_FIRST	(1U << 2)
/** In @flags of a sample: unregistered while alive; its last record. */
#define VIRGO_SAMPLE_LAST	(1U << 3)

/**
 * struct virgo_profiler_sample - one task at one moment.
 * @seq: record number plus one; 0 while the record is being written. A reader
 *	loads it with acquire ordering, copies the record, loads it again, and
 *	has lost the record if either load is not the number it expects.
 * @id: identity of the registration. Never used twice while the module is
 *	loaded, so a reused pid is never mixed in.
 * @time_ns: CLOCK_MONOTONIC.
 * @min_flt: minor faults of the task since it began.
 * @maj_flt: major faults of the task since it began.
 * @utime_ns: user CPU time since it began.
 * @stime_ns: system CPU time since it began. The sum of both is the
 *	scheduler's exact run time; the split is by the tick's samples.
 * @rss_bytes: resident memory.
 * @pid: process id (thread group id) in the initial pid namespace.
 * @tid: thread id in the initial pid namespace; equals @pid for a process.
 * @state: a letter as in /proc/PID/stat: R S D T t X Z I.
 * @flags: VIRGO_SAMPLE_ bits.
 * @comm: name of the thread (of the main thread, for a process); NUL-padded.
 *
 * A process's figures are the sum over its threads, dead ones too. Figures
 * only ever grow; the reader takes the differences.
 */
struct virgo_profiler_sample {
	__u64 seq;
	__u64 id;
	__u64 time_ns;
	__u64 min_flt;
	__u64 maj_flt;
	__u64 utime_ns;
	__u64 stime_ns;
	__u64 rss_bytes;
	__u32 pid;
	__u32 tid;
	__u32 state;
	__u32 flags;
	char comm[VIRGO_COMM_LEN];
};

/** Register or unregister one thread (@pid is its thread id). */
#define VIRGO_PROFILER_F_THREAD		(1U << 0)
/** @pid is a pidfd, not a process id. Not with VIRGO_PROFILER_F_THREAD. */
#define VIRGO_PROFILER_F_PIDFD		(1U << 1)
/**
 * The registration ends when this file is closed. Only on
 * VIRGO_PROFILER_DEVICE; EINVAL on VIRGO_DEVICE.
 */
#define VIRGO_PROFILER_F_BIND		(1U << 2)

/**
 * struct virgo_profiler_task - argument of REGISTER and UNREGISTER.
 * @size: in: sizeof(struct virgo_profiler_task).
 * @flags: in: VIRGO_PROFILER_F_ bits; UNREGISTER takes no F_BIND.
 * @pid: in: which task.
 * @reserved0: in: must be zero.
 * @id: out: identity of the registration, as in the samples.
 * @reserved: in: must be zero.
 *
 * Errors: ESRCH no such task, or (UNREGISTER) not registered; EEXIST already
 * registered; EPERM the caller neither owns the task nor holds CAP_SYS_PTRACE
 * or CAP_PERFMON; ENOSPC the limit on registered tasks (module parameter
 * max_tasks) is reached; EBADF not a pidfd.
 */
struct virgo_profiler_task {
	__u32 size;
	__u32 flags;
	__s32 pid;
	__u32 reserved0;
	__u64 id;
	__u64 reserved[2];
};

/**
 * struct virgo_profiler_entry - one registration, in a list.
 * @id: identity of the registration.
 * @samples: records written for it so far.
 * @pid: process id in the caller's pid namespace; 0 if it has none there.
 * @tid: thread id in the caller's pid namespace; 0 if it has none there.
 * @flags: VIRGO_PROFILER_F_THREAD, VIRGO_PROFILER_F_BIND.
 * @reserved0: zero.
 * @comm: name of the thread.
 */
struct virgo_profiler_entry {
	__u64 id;
	__u64 samples;
	__u32 pid;
	__u32 tid;
	__u32 flags;
	__u32 reserved0;
	char comm[VIRGO_COMM_LEN];
};

/**
 * struct virgo_profiler_list - what is registered.
 * @size: in: sizeof(struct virgo_profiler_list).
 * @flags: in: must be zero.
 * @entries: in: address of an array of struct virgo_profiler_entry; may be
 *	zero if @capacity is.
 * @capacity: in: entries in the array.
 * @count: out: how many tasks are registered. At most @capacity are stored.
 * @reserved: in: must be zero.
 */
struct virgo_profiler_list {
	__u32 size;
	__u32 flags;
	__u64 entries;
	__u32 capacity;
	__u32 count;
	__u64 reserved[2];
};

/** In @flags of virgo_profiler_rate: set the rate; without it, only read it. */
#define VIRGO_PROFILER_RATE_SET		(1U << 0)

/**
 * struct virgo_profiler_rate - sampling rounds a second.
 * @size: in: sizeof(struct virgo_profiler_rate).
 * @flags: in: 0 or VIRGO_PROFILER_RATE_SET.
 * @rate_hz: in: the new rate (ERANGE outside 1 to 1000); out: the rate now.
 * @reserved0: in: must be zero.
 *
 * Setting needs CAP_SYS_ADMIN, CAP_SYS_PTRACE or CAP_PERFMON, else EPERM: it
 * is one rate for all.
 */
struct virgo_profiler_rate {
	__u32 size;
	__u32 flags;
	__u32 rate_hz;
	__u32 reserved0;
};

/**
 * struct virgo_profiler_info - the shape of the buffer, to map it.
 * @size: in: sizeof(struct virgo_profiler_info).
 * @flags: in: must be zero.
 * @map_bytes: out: length to give to mmap(), at offset 0, PROT_READ and
 *	MAP_SHARED. Any other protection is EACCES or EPERM, a longer length or another
 *	offset EINVAL; a shorter one is served.
 * @capacity: out: as in the header.
 * @record_size: out: as in the header.
 * @header_size: out: as in the header.
 * @max_tasks: out: the limit on registered tasks.
 * @reserved0: zero.
 * @reserved: in: must be zero.
 */
struct virgo_profiler_info {
	__u32 size;
	__u32 flags;
	__u64 map_bytes;
	__u64 capacity;
	__u32 record_size;
	__u32 header_size;
	__u32 max_tasks;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct virgo_profiler_seen - tell poll() how far this reader has come.
 * @size: in: sizeof(struct virgo_profiler_seen).
 * @flags: in: must be zero.
 * @head: in: records read so far; poll() on this descriptor reports POLLIN
 *	while the header's head is greater. Greater than the head now: EINVAL.
 *
 * Only on VIRGO_PROFILER_DEVICE; EINVAL on VIRGO_DEVICE.
 */
struct virgo_profiler_seen {
	__u32 size;
	__u32 flags;
	__u64 head;
};

#define VIRGO_PROFILER_IOC_REGISTER	_IOWR(VIRGO_IOC_MAGIC, 0x70, struct virgo_profiler_task)
#define VIRGO_PROFILER_IOC_UNREGISTER	_IOWR(VIRGO_IOC_MAGIC, 0x71, struct virgo_profiler_task)
#define VIRGO_PROFILER_IOC_LIST		_IOWR(VIRGO_IOC_MAGIC, 0x72, struct virgo_profiler_list)
#define VIRGO_PROFILER_IOC_RATE		_IOWR(VIRGO_IOC_MAGIC, 0x73, struct virgo_profiler_rate)
#define VIRGO_PROFILER_IOC_INFO		_IOWR(VIRGO_IOC_MAGIC, 0x74, struct virgo_profiler_info)
#define VIRGO_PROFILER_IOC_SEEN		_IOWR(VIRGO_IOC_MAGIC, 0x75, struct virgo_profiler_seen)

#endif /* _UAPI_LINUX_VIRGO_H */
