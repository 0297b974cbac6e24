// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files under /proc. In C because struct proc_ops and the single_open()
 * family are not in the kernel crate's bindings.
 *
 * proc_remove() waits until no call is inside the file and closes it for
 * those who have it open (fs/proc/inode.c, proc_entry_rundown()), so removing
 * before unloading is safe.
 */
#include <linux/compat.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <virgo/shim.h>

struct virgo_shim_proc {
	struct proc_dir_entry *entry;
	const struct virgo_shim_proc_ops *ops;
	const struct virgo_shim_stream_ops *stream;
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

/* A file that is a stream: each open file of it has its own state. */

static int proc_stream_open(struct inode *inode, struct file *file)
{
	struct virgo_shim_proc *proc = pde_data(inode);

	nonseekable_open(inode, file);
	return proc->stream->open(proc->context, &file->private_data);
}

static struct virgo_shim_proc *stream_of(const struct file *file)
{
	return pde_data(file_inode(file));
}

static ssize_t stream_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	return stream_of(file)->stream->read(file->private_data, file, buf,
					     min_t(size_t, count, MAX_RW_COUNT));
}

static ssize_t stream_write(struct file *file, const char __user *buf,
			    size_t count, loff_t *ppos)
{
	char *text;
	int ret;

	if (count > PAGE_SIZE)
		return -E2BIG;
	text = memdup_user_nul(buf, count);
	if (IS_ERR(text))
		return PTR_ERR(text);
	ret = stream_of(file)->stream->write(file->private_data, file, text, count);
	kfree(text);
	return ret ?: count;
}

static long stream_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return stream_of(file)->stream->ioctl(file->private_data, file, cmd, arg);
}

#ifdef CONFIG_COMPAT
static long stream_compat_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return stream_ioctl(file, cmd, (unsigned long)compat_ptr(arg));
}
#endif

static __poll_t stream_poll(struct file *file, struct poll_table_struct *table)
{
	return stream_of(file)->stream->poll(file->private_data, file, table);
}

static int stream_release(struct inode *inode, struct file *file)
{
	struct virgo_shim_proc *proc = pde_data(inode);

	proc->stream->release(file->private_data);
	return 0;
}

static const struct proc_ops stream_proc_ops = {
	.proc_open		= proc_stream_open,
	.proc_read		= stream_read,
	.proc_write		= stream_write,
	.proc_ioctl		= stream_ioctl,
#ifdef CONFIG_COMPAT
	.proc_compat_ioctl	= stream_compat_ioctl,
#endif
	.proc_poll		= stream_poll,
	.proc_release		= stream_release,
};

/**
 * virgo_shim_stream_create - make a file under /proc that is a stream.
 * @path: its path below /proc; the folder must be there.
 * @mode: permission bits.
 * @ops: what it does; must outlive the file.
 * @context: handed to @ops; must outlive the file.
 *
 * virgo_shim_proc_remove() removes it, waits for calls inside it, and closes
 * it for those who have it open.
 *
 * Return: the file, or ERR_PTR(). May sleep.
 */
struct virgo_shim_proc *virgo_shim_stream_create(const char *path, umode_t mode,
						 const struct virgo_shim_stream_ops *ops,
						 void *context)
{
	struct virgo_shim_proc *proc = kzalloc(sizeof(*proc), GFP_KERNEL);

	if (!proc)
		return ERR_PTR(-ENOMEM);
	proc->stream = ops;
	proc->context = context;
	proc->entry = proc_create_data(path, mode, NULL, &stream_proc_ops, proc);
	if (!proc->entry) {
		kfree(proc);
		return ERR_PTR(-ENOMEM);
	}
	return proc;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_stream_create, "VIRGO");
