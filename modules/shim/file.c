// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opening files below a folder. In C because struct path travels by value
 * and kern_path() is not in the kernel crate's bindings.
 */
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/module.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/sched.h>

#include <virgo/shim.h>

/**
 * virgo_shim_folder - find a folder by its absolute path.
 * @name: the path; symbolic links are followed.
 * @path: out: the folder, with references.
 *
 * Since Linux 7.3 kernel threads have a root of their own, in which there is
 * nothing; what they look up is to be what the first process sees.
 * Return: 0 or an errno. May sleep. For the other shims; not exported.
 */
int virgo_shim_folder(const char *name, struct path *path)
{
#ifdef scoped_with_init_fs
	int ret = -ENOENT;

	if (current->flags & PF_KTHREAD) {
		scoped_with_init_fs()
			ret = kern_path(name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, path);
		return ret;
	}
#endif
	return kern_path(name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, path);
}

/**
 * virgo_shim_open_in - open a file below a folder.
 * @root: the folder, an absolute path.
 * @name: the file's name below it. '..' and absolute symbolic links stay
 *	within the folder, as after chroot() (LOOKUP_IN_ROOT semantics of
 *	file_open_root(), fs/namei.c); a symbolic link as the last part of the
 *	name is refused with -ELOOP.
 * @flags: O_ flags.
 * @mode: permission bits of a new file.
 *
 * Opens with the caller's credentials: a kernel thread's are root's.
 * Return: the file with a reference, or ERR_PTR(). May sleep.
 */
struct file *virgo_shim_open_in(const char *root, const char *name, int flags,
				umode_t mode)
{
	struct path path;
	struct file *file;
	int ret;

	ret = virgo_shim_folder(root, &path);
	if (ret)
		return ERR_PTR(ret);
	file = file_open_root(&path, name, flags | O_NOFOLLOW | O_LARGEFILE, mode);
	path_put(&path);
	return file;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_open_in, "VIRGO");
