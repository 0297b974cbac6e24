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
void virgo_shim_task_ids(struct task_struct *task, int vpid[2], int pid[2]);

void virgo_shim_wait_for_stop(void);

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

#endif /* _VIRGO_SHIM_H */
