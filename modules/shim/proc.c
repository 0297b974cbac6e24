// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files under /proc. In C because struct proc_ops and the single_open()
 * family are not in the kernel crate's bindings.
 *
 * proc_remove() waits until no call is inside the file and closes it for
 * those who have it open (fs/proc/inode.c, proc_entry_rundown()), so removing
 * before unloading is safe.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <virgo/shim.h>

struct virgo_shim_proc {
	struct proc_dir_entry *entry;
	const struct virgo_shim_proc_ops *ops;
	void *context;
};

static int proc_show(struct seq_file *m, void *v)
{
	struct virgo_shim_proc *proc = m->private;

	return proc->ops->show(m, proc->context);
}

static int proc_open(struct inode *inode, struct file *file)
{
	return single_open(file, proc_show, pde_data(inode));
}

static ssize_t proc_write(struct file *file, const char __user *buf,
			  size_t count, loff_t *ppos)
{
	struct virgo_shim_proc *proc = pde_data(file_inode(file));
	char *text;
	int ret;

	if (!proc->ops->write)
		return -EPERM;
	/* A command is a short line; a page holds hundreds. */
	if (count > PAGE_SIZE)
		return -E2BIG;
	text = memdup_user_nul(buf, count);
	if (IS_ERR(text))
		return PTR_ERR(text);
	ret = proc->ops->write(file, text, count, proc->context);
	kfree(text);
	return ret ?: count;
}

static const struct proc_ops proc_ops = {
	.proc_open	= proc_open,
	.proc_read	= seq_read,
	.proc_lseek	= seq_lseek,
	.proc_write	= proc_write,
	.proc_release	= single_release,
};

/**
 * virgo_shim_proc_create - make a file under /proc.
 * @path: its path below /proc; the folder must be there.
 * @mode: permission bits.
 * @ops: what it does; must outlive the file.
 * @context: handed to @ops; must outlive the file.
 *
 * Return: the file, or ERR_PTR(). May sleep.
 */
struct virgo_shim_proc *virgo_shim_proc_create(const char *path, umode_t mode,
					       const struct virgo_shim_proc_ops *ops,
					       void *context)
{
	struct virgo_shim_proc *proc = kzalloc(sizeof(*proc), GFP_KERNEL);

	if (!proc)
		return ERR_PTR(-ENOMEM);
	proc->ops = ops;
	proc->context = context;
	proc->entry = proc_create_data(path, mode, NULL, &proc_ops, proc);
	if (!proc->entry) {
		kfree(proc);
		return ERR_PTR(-ENOMEM);
	}
	return proc;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_proc_create, "VIRGO");

/**
 * virgo_shim_proc_remove - remove a file; waits for calls inside it. Sleeps.
 * @proc: the file.
 */
void virgo_shim_proc_remove(struct virgo_shim_proc *proc)
{
	proc_remove(proc->entry);
	kfree(proc);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_proc_remove, "VIRGO");

/**
 * virgo_shim_proc_mkdir - make a folder under /proc.
 * @path: its path below /proc.
 *
 * Return: the folder, or NULL. May sleep.
 */
struct proc_dir_entry *virgo_shim_proc_mkdir(const char *path)
{
	return proc_mkdir(path, NULL);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_proc_mkdir, "VIRGO");

/**
 * virgo_shim_proc_rmdir - remove a folder and what is in it. Sleeps.
 * @dir: the folder.
 */
void virgo_shim_proc_rmdir(struct proc_dir_entry *dir)
{
	proc_remove(dir);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_proc_rmdir, "VIRGO");
