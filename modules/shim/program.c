// SPDX-License-Identifier: GPL-2.0-only
/*
 * Running a program by the usermode helper. See include/virgo/shim-program.h.
 *
 * The child is made by a worker of the kernel's, so it starts with root's
 * credentials, an empty table of files, and the file system as the first
 * process sees it. child() runs in it, before the program is loaded.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/securebits.h>
#include <linux/shmem_fs.h>
#include <linux/stat.h>
#include <linux/uidgid.h>
#include <linux/umh.h>

#include <virgo/shim-program.h>

/**
 * virgo_program_lend - the credentials of the caller, a process of user space.
 * @uid: where to store its user id.
 *
 * The kernel has no exported way to find a user's counters (struct user_struct
 * and struct ucounts), and a process of that user without them would be counted
 * wrongly when it ends; so a process of the user lends them.
 *
 * Return: the credentials with a reference, or ERR_PTR(-EINVAL) for a process
 * of another user namespace. Does not sleep.
 */
const struct cred *virgo_program_lend(u32 *uid)
{
	const struct cred *cred = current_cred();

	if (cred->user_ns != &init_user_ns)
		return ERR_PTR(-EINVAL);
	*uid = from_kuid(&init_user_ns, cred->uid);
	return get_cred(cred);
}
EXPORT_SYMBOL_NS_GPL(virgo_program_lend, "VIRGO");

/**
 * virgo_program_memory - a file in memory that has no name.
 *
 * Its pages are charged to who writes them. Return: the file with a reference,
 * open for reading and writing, or ERR_PTR(). May sleep.
 */
struct file *virgo_program_memory(void)
{
	return shmem_kernel_file_setup("virgo-program", 0,
				       mk_vma_flags(VMA_NORESERVE_BIT));
}
EXPORT_SYMBOL_NS_GPL(virgo_program_memory, "VIRGO");

/**
 * virgo_program_available - does this kernel run the programs it is asked for?
 */
int virgo_program_available(void)
{
	return !IS_ENABLED(CONFIG_STATIC_USERMODEHELPER);
}
EXPORT_SYMBOL_NS_GPL(virgo_program_available, "VIRGO");

/*
 * Since Linux 7.3 kernel threads, which work for other nodes, have a root of
 * their own in which there is nothing: see modules/shim/file.c.
 */
static int find(const char *name, struct path *path)
{
#ifdef scoped_with_init_fs
	int ret = -ENOENT;

	if (current->flags & PF_KTHREAD) {
		scoped_with_init_fs()
			ret = kern_path(name, LOOKUP_NO_SYMLINKS, path);
		return ret;
	}
#endif
	return kern_path(name, LOOKUP_NO_SYMLINKS, path);
}

/**
 * virgo_program_check - may this file be run?
 *
 * Return: 0; -ELOOP if a part of the path is a symbolic link; -EACCES if it is
 * no regular file, does not belong to root, can be written by others, gives
 * its user other rights (set-user-ID, set-group-ID), or is not executable; or
 * why it is not found. May sleep.
 */
int virgo_program_check(const char *name)
{
	struct inode *inode;
	struct path path;
	umode_t mode;
	int ret;

	ret = find(name, &path);
	if (ret)
		return ret;
	inode = d_inode(path.dentry);
	mode = READ_ONCE(inode->i_mode);
	if (d_is_symlink(path.dentry))
		ret = -ELOOP;
	else if (!S_ISREG(mode) || !uid_eq(inode->i_uid, GLOBAL_ROOT_UID) ||
		 (mode & (S_IWGRP | S_IWOTH | S_ISUID | S_ISGID)) ||
		 !(mode & 0111))
		ret = -EACCES;
	path_put(&path);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_program_check, "VIRGO");

static void limit(unsigned int which, u64 value)
{
	struct rlimit *rlimit = current->signal->rlim + which;

	task_lock(current->group_leader);
	rlimit->rlim_cur = value;
	rlimit->rlim_max = value;
	task_unlock(current->group_leader);
}

/* Has what @new does counted for the user of @of. */
static int count_for(struct cred *new, const struct cred *of)
{
	const struct cred *old = override_creds(of);
	struct cred *copy = prepare_creds();

	revert_creds(old);
	if (!copy)
		return -ENOMEM;
	swap(new->user, copy->user);
	swap(new->ucounts, copy->ucounts);
	abort_creds(copy);
	return 0;
}

/* In the child. The new credentials are not in force yet. */
static int child(struct subprocess_info *info, struct cred *new)
{
	const struct virgo_shim_program *program = info->data;
	struct group_info *groups;
	loff_t pos = 0;
	ssize_t written;
	int i, ret;

	/* As it is now: what was right when the run was asked for may be gone. */
	ret = virgo_program_check(program->path);
	if (ret)
		return ret;
	/* "0" is who writes it. */
	written = kernel_write(program->procs, "0", 1, &pos);
	if (written < 0)
		return written;
	for (i = 0; i < 3; i++) {
		ret = get_unused_fd_flags(0);
		if (ret < 0)
			return ret;
		fd_install(ret, get_file(program->streams[i]));
		if (ret != i)
			return -EBADF;
	}
	ret = count_for(new, program->of);
	if (ret)
		return ret;
	groups = groups_alloc(0);
	if (!groups)
		return -ENOMEM;
	set_groups(new, groups);
	put_group_info(groups);
	new->uid = new->euid = new->suid = new->fsuid =
		make_kuid(&init_user_ns, program->uid);
	new->gid = new->egid = new->sgid = new->fsgid =
		make_kgid(&init_user_ns, program->gid);
	cap_clear(new->cap_inheritable);
	cap_clear(new->cap_permitted);
	cap_clear(new->cap_effective);
	cap_clear(new->cap_ambient);
	cap_clear(new->cap_bset);
	new->securebits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
			  SECBIT_NO_CAP_AMBIENT_RAISE |
			  SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
	task_set_no_new_privs(current);
	limit(RLIMIT_FSIZE, program->file_bytes);
	limit(RLIMIT_CORE, 0);
	return 0;
}

/**
 * virgo_program_run - run a program and wait until it has ended.
 *
 * Return: its status as wait(2) has it, or an errno, negative, if it did not
 * begin; -EOPNOTSUPP where the kernel is built to run another program in place
 * of every one. Sleeps in a way that a signal would end: call it in a kernel
 * thread, which gets none, since @program must live until the end.
 */
int virgo_program_run(const struct virgo_shim_program *program)
{
	struct subprocess_info *info;

	if (IS_ENABLED(CONFIG_STATIC_USERMODEHELPER))
		return -EOPNOTSUPP;
	if (!(current->flags & PF_KTHREAD))
		return -EINVAL;
	info = call_usermodehelper_setup(program->path, program->argv,
					 program->envp, GFP_KERNEL, child, NULL,
					 (void *)program);
	if (!info)
		return -ENOMEM;
	/* Killable, so that a long run is not taken for a task that hangs. */
	return call_usermodehelper_exec(info, UMH_WAIT_PROC | UMH_KILLABLE);
}
EXPORT_SYMBOL_NS_GPL(virgo_program_run, "VIRGO");
