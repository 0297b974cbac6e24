/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The C functions that modules/lib calls: only what cannot be said in Rust,
 * that is inline functions and macros of the kernel, and structures that
 * bindgen does not see. Linked into virgo-core, exported in namespace VIRGO.
 * The Rust declarations are in modules/lib/ffi.rs.
 */
#ifndef _VIRGO_SHIM_H
#define _VIRGO_SHIM_H

#include <linux/types.h>

struct file;
struct kvec;
struct mm_struct;
struct path;
struct poll_table_struct;
struct proc_dir_entry;
struct seq_file;
struct task_struct;

/**
 * struct virgo_shim_counters - what a task has used so far.
 * @min_flt: minor faults.
 * @maj_flt: major faults.
 * @exact_ns: run time by the scheduler's clock, nanoseconds.
 * @utime_ns: user time by the tick's samples, nanoseconds.
 * @stime_ns: system time by the tick's samples, nanoseconds.
 * @rss_pages: resident pages; 0 once the address space is gone.
 * @state: letter of the state, as in /proc/PID/stat.
 * @exited: 1 when the task (for a process: every thread) has exited and no
 *	figure will change any more.
 * @comm: name of the thread, NUL-padded.
 */
struct virgo_shim_counters {
	u64 min_flt;
	u64 maj_flt;
	u64 exact_ns;
	u64 utime_ns;
	u64 stime_ns;
	u64 rss_pages;
	u32 state;
	u32 exited;
	char comm[16];
};

struct task_struct *virgo_shim_task_by_pid(int nr, int thread);
struct task_struct *virgo_shim_task_by_pidfd(int fd);
int virgo_shim_task_counters(struct task_struct *task, int thread,
			     struct mm_struct **cached,
			     struct virgo_shim_counters *out);
void virgo_shim_mm_put(struct mm_struct *mm);
int virgo_shim_may_observe(struct task_struct *task, const struct file *opener);
int virgo_shim_may_administer(const struct file *opener);
int virgo_shim_observer(const struct file *opener, u32 *uid);
int virgo_shim_owned_by(u32 uid);
void virgo_shim_task_ids(struct task_struct *task, int vpid[2], int pid[2]);
int virgo_shim_in_task(void);

void virgo_shim_wait_for_stop(void);

int virgo_shim_from_user(void *to, const void __user *src, unsigned long len);
int virgo_shim_to_user(void __user *dst, const void *from, unsigned long len);

int virgo_shim_folder(const char *name, struct path *path);
struct file *virgo_shim_open_in(const char *root, const char *name, int flags,
				umode_t mode);

/**
 * struct virgo_shim_proc_ops - what a file under /proc does.
 * @show: writes the text into @m; 0 or -errno. May sleep.
 * @write: takes @len bytes at @text (kernel memory), written through @file;
 *	0 or -errno. May sleep. NULL if the file cannot be written.
 */
struct virgo_shim_proc_ops {
	int (*show)(struct seq_file *m, void *context);
	int (*write)(const struct file *file, const char *text, size_t len,
		     void *context);
};

struct virgo_shim_proc;
struct virgo_shim_proc *virgo_shim_proc_create(const char *path, umode_t mode,
					       const struct virgo_shim_proc_ops *ops,
					       void *context);
void virgo_shim_proc_remove(struct virgo_shim_proc *proc);
struct proc_dir_entry *virgo_shim_proc_mkdir(const char *path);
void virgo_shim_proc_rmdir(struct proc_dir_entry *dir);

/* Of virgo-core alone; not exported. */
void virgo_shim_hmac_sha256(const u8 *key, size_t key_len,
			    const struct kvec *pieces, size_t count, u8 *out);
int virgo_shim_differ(const u8 *left, const u8 *right, size_t len);
void virgo_shim_wipe(void *memory, size_t len);

/** The fault was for writing. */
#define VIRGO_SHIM_FAULT_WRITE		(1U << 0)
/** It was for an instruction. */
#define VIRGO_SHIM_FAULT_EXEC		(1U << 1)
/** The program itself met it, not the kernel on its behalf. */
#define VIRGO_SHIM_FAULT_USER		(1U << 2)
/** Counted as major. */
#define VIRGO_SHIM_FAULT_MAJOR		(1U << 3)
/** There was nothing in the page table. */
#define VIRGO_SHIM_FAULT_EMPTY		(1U << 4)
/** There was an entry of a page that is elsewhere. */
#define VIRGO_SHIM_FAULT_SWAPPED	(1U << 5)
/** Met while the kernel got hold of pages, not by an access. */
#define VIRGO_SHIM_FAULT_INDIRECT	(1U << 6)
/** Not done, and not counted: the same thread will try again. */
#define VIRGO_SHIM_FAULT_RETRY		(1U << 16)

/**
 * struct virgo_shim_fault - one page fault, at its end.
 * @start_ns: CLOCK_MONOTONIC when it began.
 * @end_ns: CLOCK_MONOTONIC when it was done.
 * @address: what was accessed.
 * @ip: where the program was.
 * @mm: the address space, as a number.
 * @tid: the thread, in the initial pid namespace.
 * @flags: VIRGO_SHIM_FAULT_ bits; all but RETRY as in a trace's records.
 */
struct virgo_shim_fault {
	u64 start_ns;
	u64 end_ns;
	u64 address;
	u64 ip;
	u64 mm;
	u32 tid;
	u32 flags;
};

#define VIRGO_SHIM_AREA_READ	(1U << 0)
#define VIRGO_SHIM_AREA_WRITE	(1U << 1)
#define VIRGO_SHIM_AREA_EXEC	(1U << 2)
#define VIRGO_SHIM_AREA_SHARED	(1U << 3)
/** Not in the map yet. */
#define VIRGO_SHIM_AREA_NEW	(1U << 4)

/**
 * struct virgo_shim_area - one area of a memory map.
 * @id: tells it from the others; stays when it is resized.
 * @start: first address.
 * @end: the address behind the last.
 * @offset: where in its file, in bytes.
 * @inode: the file's number; 0 without a file.
 * @device: the file's device.
 * @flags: VIRGO_SHIM_AREA_ bits.
 * @name: its name as /proc/PID/maps has it, or NULL; valid during the call.
 * @name_len: bytes of it.
 */
struct virgo_shim_area {
	u64 id;
	u64 start;
	u64 end;
	u64 offset;
	u64 inode;
	u32 device;
	u32 flags;
	const char *name;
	u64 name_len;
};

/**
 * struct virgo_shim_trace_ops - what the probes call, with a tracee's context.
 * @fault: a fault is done, or will be tried again.
 * @area_write: an area will be changed; the map is locked for writing.
 * @map_unlock: the map's lock will be let go; it is still held for writing.
 * @map: the whole map is new: at the start, after fork(), and after execve()
 *	(of the program @exec). Locked, or NULL if it could not be.
 * @fork: a child was made, which has not run yet.
 * @exit: the last thread is exiting; it may meet more faults.
 *
 * All are called under RCU and must not sleep.
 */
struct virgo_shim_trace_ops {
	void (*fault)(void *context, const struct virgo_shim_fault *fault);
	void (*area_write)(void *context, const struct virgo_shim_area *area);
	void (*map_unlock)(void *context, struct mm_struct *mm);
	void (*map)(void *context, struct mm_struct *mm, const char *exec);
	void (*fork)(void *context, struct task_struct *child);
	void (*exit)(void *context);
};

struct virgo_shim_tracee;
int virgo_shim_trace_register(const struct virgo_shim_trace_ops *ops);
void virgo_shim_trace_unregister(void);
void virgo_shim_trace_unpin(void);
void virgo_shim_trace_exit(void);
void virgo_shim_trace_sync(void);
void virgo_shim_trace_walk(struct mm_struct *mm, unsigned long start,
			   unsigned long end,
			   int (*each)(void *arg, const struct virgo_shim_area *area),
			   void *arg);
struct virgo_shim_tracee *virgo_shim_tracee_add(struct task_struct *task, void *context);
int virgo_shim_tracee_map(struct virgo_shim_tracee *t);
void virgo_shim_tracee_child(struct virgo_shim_tracee *t);
void virgo_shim_tracee_remove(struct virgo_shim_tracee *t);
void virgo_shim_tracee_free(struct virgo_shim_tracee *t);
int virgo_shim_trace_threads(struct task_struct *task,
			     void (*each)(void *arg, struct task_struct *thread),
			     void *arg, u64 gone[2]);
void virgo_shim_trace_counted(const struct task_struct *thread, u64 counted[2]);
int virgo_shim_trace_is_quiet(const struct task_struct *thread);
void virgo_shim_trace_settle(void);

/**
 * struct virgo_shim_stream_ops - what a file under /proc that is a stream does.
 * @open: makes the state of an open file; 0 or -errno. May sleep.
 * @read: fills @count bytes at @buf of user space; how many, or -errno.
 * @write: takes @len bytes at @text (kernel memory); 0 or -errno.
 * @ioctl: a command; a value or -errno.
 * @poll: registers with @table and tells what is ready.
 * @release: the open file is closed, or the file was removed.
 */
struct virgo_shim_stream_ops {
	int (*open)(void *context, void **state);
	long (*read)(void *state, const struct file *file, char __user *buf, size_t count);
	int (*write)(void *state, const struct file *file, const char *text, size_t len);
	long (*ioctl)(void *state, const struct file *file, unsigned int cmd,
		      unsigned long arg);
	__poll_t (*poll)(void *state, struct file *file, struct poll_table_struct *table);
	void (*release)(void *state);
};

struct virgo_shim_proc *virgo_shim_stream_create(const char *path, umode_t mode,
						 const struct virgo_shim_stream_ops *ops,
						 void *context);

#endif /* _VIRGO_SHIM_H */
