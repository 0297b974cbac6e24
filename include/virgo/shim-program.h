/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Running a program of user space for somebody else, for modules/lib/program.rs.
 * In C because what the child does before it becomes the program is inline
 * functions and macros: credentials, capabilities, limits, file descriptors.
 */
#ifndef _VIRGO_SHIM_PROGRAM_H
#define _VIRGO_SHIM_PROGRAM_H

#include <linux/types.h>

struct cred;
struct file;

/**
 * struct virgo_shim_program - a program to be run.
 * @path: absolute.
 * @argv: its arguments, the last NULL.
 * @envp: its environment, the last NULL.
 * @streams: its standard input, output and error output.
 * @procs: cgroup.procs of the group that it runs in, open for writing.
 * @of: credentials of a process of the user's: what the kernel counts by user
 *	is counted there.
 * @uid: user id of the initial user namespace, that of @of.
 * @gid: its group; there are no others.
 * @file_bytes: the most bytes of a file that it writes (RLIMIT_FSIZE).
 */
struct virgo_shim_program {
	const char *path;
	char **argv;
	char **envp;
	struct file *streams[3];
	struct file *procs;
	const struct cred *of;
	u32 uid;
	u32 gid;
	u64 file_bytes;
};

const struct cred *virgo_program_lend(u32 *uid);
struct file *virgo_program_memory(void);
int virgo_program_available(void);
int virgo_program_check(const char *path);
int virgo_program_run(const struct virgo_shim_program *program);

#endif /* _VIRGO_SHIM_PROGRAM_H */
