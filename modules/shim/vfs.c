// SPDX-License-Identifier: GPL-2.0-only
/*
 * Work on files by place. See include/virgo/shim-vfs.h.
 *
 * A name given here is one component, looked up in a dentry that the caller
 * holds: no symbolic link is followed, no mount point crossed (what lies under
 * a mount point is what is seen), and '.' and '..' are refused by the kernel's
 * own lookup_one(). So nothing but a place that is held decides where an
 * operation happens, whatever is renamed or replaced meanwhile.
 */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/jiffies.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/sched/task.h>
#include <linux/security.h>
#include <linux/stat.h>
#include <linux/statfs.h>
#include <linux/uidgid.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <linux/xattr.h>

#include <virgo/shim.h>
#include <virgo/shim-vfs.h>

static_assert(sizeof(struct path) == 2 * sizeof(void *));

/* The umask of kernel threads, which they share with init's own fs_struct. */
#define KTHREAD_UMASK 0022

/**
 * virgo_cred_make - the credentials of a user without any privilege.
 * @uid: a user id of the initial user namespace.
 * @gid: its group; there are no others.
 *
 * Return: the credentials with a reference, or ERR_PTR(): -EINVAL for ids that
 * do not exist. May sleep.
 */
const struct cred *virgo_cred_make(u32 uid, u32 gid)
{
	kuid_t kuid = make_kuid(&init_user_ns, uid);
	kgid_t kgid = make_kgid(&init_user_ns, gid);
	struct group_info *groups;
	struct cred *cred;

	if (!uid_valid(kuid) || !gid_valid(kgid))
		return ERR_PTR(-EINVAL);
	cred = prepare_kernel_cred(&init_task);
	if (!cred)
		return ERR_PTR(-ENOMEM);
	groups = groups_alloc(0);
	if (!groups) {
		abort_creds(cred);
		return ERR_PTR(-ENOMEM);
	}
	set_groups(cred, groups);
	put_group_info(groups);
	cred->uid = cred->euid = cred->suid = cred->fsuid = kuid;
	cred->gid = cred->egid = cred->sgid = cred->fsgid = kgid;
	cap_clear(cred->cap_inheritable);
	cap_clear(cred->cap_permitted);
	cap_clear(cred->cap_effective);
	cap_clear(cred->cap_ambient);
	cap_clear(cred->cap_bset);
	return cred;
}
EXPORT_SYMBOL_NS_GPL(virgo_cred_make, "VIRGO");

void virgo_cred_put(const struct cred *cred)
{
	put_cred(cred);
}
EXPORT_SYMBOL_NS_GPL(virgo_cred_put, "VIRGO");

/**
 * virgo_cred_enter - act with other credentials until virgo_cred_leave().
 *
 * Return: what was in force, for virgo_cred_leave(). Does not sleep.
 */
const struct cred *virgo_cred_enter(const struct cred *cred)
{
	return override_creds(cred);
}
EXPORT_SYMBOL_NS_GPL(virgo_cred_enter, "VIRGO");

void virgo_cred_leave(const struct cred *old)
{
	revert_creds(old);
}
EXPORT_SYMBOL_NS_GPL(virgo_cred_leave, "VIRGO");

/** virgo_vfs_umask - the calling process's umask. Does not sleep. */
u32 virgo_vfs_umask(void)
{
	return current_umask();
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_umask, "VIRGO");

/**
 * virgo_vfs_root - find a folder by its name, with the caller's own rights.
 */
int virgo_vfs_root(const char *name, struct path *out)
{
	return virgo_shim_folder(name, out);
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_root, "VIRGO");

static int within(const struct path *root, const struct path *at)
{
	if (at->mnt != root->mnt || !is_subdir(at->dentry, root->dentry))
		return -ESTALE;
	return 0;
}

static int folder_within(const struct path *root, const struct path *at)
{
	if (!d_is_dir(at->dentry))
		return -ENOTDIR;
	return within(root, at);
}

/**
 * virgo_vfs_walk - the entry @name of the folder @at.
 */
int virgo_vfs_walk(const struct path *root, const struct path *at,
		   const char *name, size_t len, struct path *out)
{
	struct qstr q = QSTR_LEN(name, len);
	struct dentry *dentry;
	int ret;

	ret = folder_within(root, at);
	if (ret)
		return ret;
	dentry = lookup_one_unlocked(mnt_idmap(at->mnt), &q, at->dentry);
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	if (d_is_negative(dentry)) {
		dput(dentry);
		return -ENOENT;
	}
	out->mnt = mntget(at->mnt);
	out->dentry = dentry;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_walk, "VIRGO");

/* All that it holds is in memory: nothing is waited for but that. */
static bool in_memory(const struct super_block *sb)
{
	return sb->s_magic == TMPFS_MAGIC;
}

/**
 * virgo_vfs_swift - whether work at a place is done without waiting for a disk,
 * another machine or a program.
 * @what: VIRGO_SWIFT_*.
 *
 * An estimate: what it says yes to may still wait, but only for what is seldom
 * and short. Does not sleep.
 */
bool virgo_vfs_swift(const struct path *at, int what)
{
	const struct super_block *sb = at->dentry->d_sb;
	struct inode *inode = d_inode(at->dentry);

	/* A virus scanner may have to be asked. */
	if (fsnotify_sb_has_priority_watchers((struct super_block *)sb,
					      FSNOTIFY_PRIO_CONTENT))
		return false;
	switch (sb->s_magic) {
	case TMPFS_MAGIC:
		break;
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
		if (what == VIRGO_SWIFT_CHANGE)
			return false;
		break;
	default:
		return false;
	}
	if (what == VIRGO_SWIFT_CHANGE || what == VIRGO_SWIFT_OPEN)
		/* A lease would have to be given back first. */
		return !READ_ONCE(inode->i_flctx) && !IS_ENCRYPTED(inode) &&
		       !IS_VERITY(inode);
	if (what == VIRGO_SWIFT_DROP)
		/* Whoever lets the last go frees what it was of. */
		return inode->i_nlink && !d_unhashed(at->dentry);
	return true;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_swift, "VIRGO");

/**
 * virgo_vfs_walk_swift - as virgo_vfs_walk(), from memory alone: -EAGAIN where
 * that does not know.
 */
int virgo_vfs_walk_swift(const struct path *root, const struct path *at,
			 const char *name, size_t len, struct path *out)
{
	struct qstr q = QSTR_LEN(name, len);
	struct dentry *dentry;
	int ret;

	if (in_memory(at->dentry->d_sb))
		return virgo_vfs_walk(root, at, name, len, out);
	ret = folder_within(root, at);
	if (ret)
		return ret;
	rcu_read_lock();
	ret = inode_permission(mnt_idmap(at->mnt), d_inode(at->dentry),
			       MAY_EXEC | MAY_NOT_BLOCK);
	rcu_read_unlock();
	if (ret)
		return ret == -ECHILD ? -EAGAIN : ret;
	dentry = try_lookup_noperm(&q, at->dentry);
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	if (!dentry)
		return -EAGAIN;
	if (d_is_negative(dentry) || (dentry->d_flags & DCACHE_OP_REVALIDATE)) {
		dput(dentry);
		return -EAGAIN;
	}
	out->mnt = mntget(at->mnt);
	out->dentry = dentry;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_walk_swift, "VIRGO");

/**
 * virgo_vfs_parent - the folder that @at is in; @root is its own.
 */
int virgo_vfs_parent(const struct path *root, const struct path *at,
		     struct path *out)
{
	struct path up = { .mnt = at->mnt };
	int ret;

	if (at->mnt == root->mnt && at->dentry == root->dentry) {
		path_get(root);
		*out = *root;
		return 0;
	}
	up.dentry = dget_parent(at->dentry);
	ret = within(root, &up);
	if (!ret)
		ret = path_permission(&up, MAY_EXEC);
	if (ret) {
		dput(up.dentry);
		return ret;
	}
	mntget(up.mnt);
	*out = up;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_parent, "VIRGO");

/**
 * virgo_vfs_stat - what stat(2) tells.
 */
int virgo_vfs_stat(const struct path *at, struct virgo_vfs_stat *out)
{
	struct kstat stat;
	int ret;

	ret = vfs_getattr(at, &stat, STATX_BASIC_STATS | STATX_BTIME,
			  AT_STATX_SYNC_AS_STAT);
	if (ret)
		return ret;
	out->ino = stat.ino;
	out->nlink = stat.nlink;
	out->rdev = new_encode_dev(stat.rdev);
	out->size = stat.size;
	out->blksize = stat.blksize;
	out->blocks = stat.blocks;
	out->atime_sec = stat.atime.tv_sec;
	out->mtime_sec = stat.mtime.tv_sec;
	out->ctime_sec = stat.ctime.tv_sec;
	out->atime_nsec = stat.atime.tv_nsec;
	out->mtime_nsec = stat.mtime.tv_nsec;
	out->ctime_nsec = stat.ctime.tv_nsec;
	out->has_btime = !!(stat.result_mask & STATX_BTIME);
	out->btime_sec = out->has_btime ? stat.btime.tv_sec : 0;
	out->btime_nsec = out->has_btime ? stat.btime.tv_nsec : 0;
	out->mode = stat.mode;
	out->uid = from_kuid_munged(&init_user_ns, stat.uid);
	out->gid = from_kgid_munged(&init_user_ns, stat.gid);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_stat, "VIRGO");

/**
 * virgo_vfs_statfs - what statfs(2) tells.
 */
int virgo_vfs_statfs(const struct path *at, struct virgo_vfs_statfs *out)
{
	struct kstatfs stat;
	int ret;

	ret = vfs_statfs(at, &stat);
	if (ret)
		return ret;
	out->type = stat.f_type;
	out->bsize = stat.f_bsize;
	out->blocks = stat.f_blocks;
	out->bfree = stat.f_bfree;
	out->bavail = stat.f_bavail;
	out->files = stat.f_files;
	out->ffree = stat.f_ffree;
	out->fsid = (u32)stat.f_fsid.val[0] | (u64)(u32)stat.f_fsid.val[1] << 32;
	out->namelen = stat.f_namelen;
	out->reserved = 0;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_statfs, "VIRGO");

/* What open(2) checks before it opens; only files and folders are opened here. */
static int may_open_it(const struct path *at, int flags)
{
	struct inode *inode = d_inode(at->dentry);
	int mode = flags & O_ACCMODE;
	int acc = mode == O_RDONLY ? MAY_READ :
		  mode == O_WRONLY ? MAY_WRITE : MAY_READ | MAY_WRITE;
	int ret;

	if (mode == O_ACCMODE)
		return -EINVAL;
	if (flags & O_TRUNC)
		acc |= MAY_WRITE;
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		if (flags & O_DIRECTORY)
			return -ENOTDIR;
		break;
	case S_IFDIR:
		if (acc & MAY_WRITE)
			return -EISDIR;
		break;
	case S_IFLNK:
		return -ELOOP;
	default:
		/* A device or a pipe is the client's own, not this machine's. */
		return -ENXIO;
	}
	ret = inode_permission(mnt_idmap(at->mnt), inode, MAY_OPEN | acc);
	if (ret)
		return ret;
	if (IS_APPEND(inode) && (acc & MAY_WRITE) &&
	    (!(flags & O_APPEND) || (flags & O_TRUNC)))
		return -EPERM;
	if ((flags & O_NOATIME) && !inode_owner_or_capable(mnt_idmap(at->mnt), inode))
		return -EPERM;
	return 0;
}

/* Flags that mean something to a file that is found already. */
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC | O_NOATIME)

static int open_it(const struct path *at, int flags, struct file **out)
{
	struct file *file;

	/* With O_NONBLOCK a lease that would be waited for is -EAGAIN. */
	file = dentry_open(at, (flags & (OPEN_FLAGS | O_NONBLOCK)) | O_LARGEFILE,
			   current_cred());
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (flags & O_NONBLOCK) {
		spin_lock(&file->f_lock);
		file->f_flags &= ~O_NONBLOCK;
		spin_unlock(&file->f_lock);
	}
	*out = file;
	return 0;
}

/**
 * virgo_vfs_open - open a file or a folder.
 */
int virgo_vfs_open(const struct path *root, const struct path *at, int flags,
		   struct file **out)
{
	int ret;

	ret = within(root, at);
	if (!ret)
		ret = may_open_it(at, flags);
	if (!ret && (flags & O_TRUNC) && d_is_reg(at->dentry))
		ret = vfs_truncate(at, 0);
	if (ret)
		return ret;
	return open_it(at, flags, out);
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_open, "VIRGO");

/*
 * The kernel takes the umask of the worker's fs_struct, which is init's, from
 * the mode of what is made (but not where the folder has a default ACL). The
 * client's umask has been applied by the client: give back what was taken.
 * The caller holds the folder's lock.
 */
static void without_umask(const struct path *dir, struct dentry *made, umode_t mode)
{
	struct inode *inode = d_inode(made);
	struct posix_acl *acl;
	struct iattr attr = {
		.ia_valid = ATTR_MODE | ATTR_CTIME,
	};

	/* A process that calls in has an umask of its own, which counts. */
	if (!(current->flags & PF_KTHREAD))
		return;
	if (!(mode & KTHREAD_UMASK) || !inode ||
	    (inode->i_mode & KTHREAD_UMASK) == (mode & KTHREAD_UMASK))
		return;
	acl = get_inode_acl(d_inode(dir->dentry), ACL_TYPE_DEFAULT);
	if (!IS_ERR_OR_NULL(acl)) {
		posix_acl_release(acl);
		return;
	}
	attr.ia_mode = inode->i_mode | (mode & KTHREAD_UMASK);
	inode_lock(inode);
	/* It stays as it is where it can't be. */
	notify_change(mnt_idmap(dir->mnt), made, &attr, NULL);
	inode_unlock(inode);
}

/**
 * virgo_vfs_create - make and open a regular file.
 * @place: set to where it is, with a reference.
 *
 * One that is there already is opened, unless O_EXCL says no.
 */
int virgo_vfs_create(const struct path *root, const struct path *dir,
		     const char *name, size_t len, int flags, umode_t mode,
		     struct path *place, struct file **out)
{
	struct mnt_idmap *idmap = mnt_idmap(dir->mnt);
	struct qstr q = QSTR_LEN(name, len);
	struct path new = { .mnt = dir->mnt };
	bool made = false;
	int ret;

	ret = folder_within(root, dir);
	if (ret)
		return ret;
	ret = mnt_want_write(dir->mnt);
	if (ret)
		return ret;
	new.dentry = start_creating(idmap, dir->dentry, &q);
	if (IS_ERR(new.dentry)) {
		ret = PTR_ERR(new.dentry);
		goto out_write;
	}
	if (d_is_positive(new.dentry)) {
		ret = flags & O_EXCL ? -EEXIST : 0;
		/* To empty what is there may take long. */
		if (!ret && (flags & O_NONBLOCK) && (flags & O_TRUNC))
			ret = -EAGAIN;
	} else {
		ret = vfs_create(idmap, new.dentry, mode & S_IALLUGO, NULL);
		made = !ret;
		if (made)
			without_umask(dir, new.dentry, mode);
	}
	if (ret) {
		end_creating(new.dentry);
		goto out_write;
	}
	end_creating_keep(new.dentry);
	if (made) {
		/* Whoever makes a file may use it, whatever its mode. */
		ret = open_it(&new, flags, out);
	} else {
		ret = virgo_vfs_open(root, &new, flags, out);
	}
	if (ret) {
		dput(new.dentry);
	} else {
		mntget(new.mnt);
		*place = new;
	}
out_write:
	mnt_drop_write(dir->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_create, "VIRGO");

/**
 * virgo_vfs_mkdir - make a folder.
 */
int virgo_vfs_mkdir(const struct path *root, const struct path *dir,
		    const char *name, size_t len, umode_t mode,
		    struct path *place)
{
	struct mnt_idmap *idmap = mnt_idmap(dir->mnt);
	struct qstr q = QSTR_LEN(name, len);
	struct dentry *dentry;
	int ret;

	ret = folder_within(root, dir);
	if (ret)
		return ret;
	ret = mnt_want_write(dir->mnt);
	if (ret)
		return ret;
	dentry = start_creating(idmap, dir->dentry, &q);
	if (IS_ERR(dentry)) {
		ret = PTR_ERR(dentry);
		goto out_write;
	}
	if (d_is_positive(dentry)) {
		end_creating(dentry);
		ret = -EEXIST;
		goto out_write;
	}
	/* Consumes the dentry, and its parent's lock, when it fails. */
	dentry = vfs_mkdir(idmap, d_inode(dir->dentry), dentry,
			   mode & (S_IRWXUGO | S_ISVTX), NULL);
	if (IS_ERR(dentry)) {
		ret = PTR_ERR(dentry);
		goto out_write;
	}
	if (d_is_negative(dentry)) {
		end_creating(dentry);
		ret = -ENOENT;
		goto out_write;
	}
	without_umask(dir, dentry, mode);
	end_creating_keep(dentry);
	place->mnt = mntget(dir->mnt);
	place->dentry = dentry;
out_write:
	mnt_drop_write(dir->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_mkdir, "VIRGO");

/**
 * virgo_vfs_symlink - make a symbolic link.
 */
int virgo_vfs_symlink(const struct path *root, const struct path *dir,
		      const char *name, size_t len, const char *target,
		      struct path *place)
{
	struct mnt_idmap *idmap = mnt_idmap(dir->mnt);
	struct qstr q = QSTR_LEN(name, len);
	struct dentry *dentry;
	int ret;

	ret = folder_within(root, dir);
	if (ret)
		return ret;
	ret = mnt_want_write(dir->mnt);
	if (ret)
		return ret;
	dentry = start_creating(idmap, dir->dentry, &q);
	if (IS_ERR(dentry)) {
		ret = PTR_ERR(dentry);
		goto out_write;
	}
	if (d_is_positive(dentry))
		ret = -EEXIST;
	else
		ret = vfs_symlink(idmap, d_inode(dir->dentry), dentry, target, NULL);
	/* Not every file system fills the dentry in. */
	if (!ret && d_is_negative(dentry))
		ret = -ESTALE;
	if (ret) {
		end_creating(dentry);
		goto out_write;
	}
	end_creating_keep(dentry);
	place->mnt = mntget(dir->mnt);
	place->dentry = dentry;
out_write:
	mnt_drop_write(dir->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_symlink, "VIRGO");

/* As fs.protected_hardlinks=1: one's own, or a plain file that one can write. */
static int may_link_it(const struct path *old)
{
	struct mnt_idmap *idmap = mnt_idmap(old->mnt);
	struct inode *inode = d_inode(old->dentry);

	if (inode_owner_or_capable(idmap, inode))
		return 0;
	if (!S_ISREG(inode->i_mode) || (inode->i_mode & S_ISUID) ||
	    (inode->i_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) ||
	    inode_permission(idmap, inode, MAY_READ | MAY_WRITE))
		return -EPERM;
	return 0;
}

/**
 * virgo_vfs_link - give a file another name.
 */
int virgo_vfs_link(const struct path *root, const struct path *dir,
		   const struct path *old, const char *name, size_t len)
{
	struct mnt_idmap *idmap = mnt_idmap(dir->mnt);
	struct qstr q = QSTR_LEN(name, len);
	struct dentry *dentry;
	int ret;

	ret = folder_within(root, dir);
	if (!ret)
		ret = within(root, old);
	if (!ret)
		ret = may_link_it(old);
	if (ret)
		return ret;
	ret = mnt_want_write(dir->mnt);
	if (ret)
		return ret;
	dentry = start_creating(idmap, dir->dentry, &q);
	if (IS_ERR(dentry)) {
		ret = PTR_ERR(dentry);
	} else {
		if (d_is_positive(dentry))
			ret = -EEXIST;
		else
			ret = vfs_link(old->dentry, idmap, d_inode(dir->dentry),
				       dentry, NULL);
		end_creating(dentry);
	}
	mnt_drop_write(dir->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_link, "VIRGO");

static int remove_entry(const struct path *dir, struct dentry *dentry, int is_dir)
{
	struct mnt_idmap *idmap = mnt_idmap(dir->mnt);

	if (is_dir)
		return vfs_rmdir(idmap, d_inode(dir->dentry), dentry, NULL);
	return vfs_unlink(idmap, d_inode(dir->dentry), dentry, NULL);
}

/* The end of a file as long as this takes some time. */
#define LONG_FILE (1 << 20)

/**
 * virgo_vfs_unlink - remove a name of a folder: with VIRGO_UNLINK_FOLDER in
 * @how of a folder, else of anything else; with VIRGO_UNLINK_SWIFT a long file
 * is -EAGAIN.
 */
int virgo_vfs_unlink(const struct path *root, const struct path *dir,
		     const char *name, size_t len, int how)
{
	struct qstr q = QSTR_LEN(name, len);
	struct dentry *dentry;
	struct inode *inode = NULL;
	int ret;

	ret = folder_within(root, dir);
	if (ret)
		return ret;
	ret = mnt_want_write(dir->mnt);
	if (ret)
		return ret;
	dentry = start_removing(mnt_idmap(dir->mnt), dir->dentry, &q);
	if (IS_ERR(dentry)) {
		ret = PTR_ERR(dentry);
	} else {
		/* The file's end, which may take long, comes after the unlock. */
		inode = igrab(d_inode(dentry));
		if ((how & VIRGO_UNLINK_SWIFT) && inode &&
		    i_size_read(inode) > LONG_FILE)
			ret = -EAGAIN;
		else
			ret = remove_entry(dir, dentry, how & VIRGO_UNLINK_FOLDER);
		end_removing(dentry);
		iput(inode);
	}
	mnt_drop_write(dir->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_unlink, "VIRGO");

/**
 * virgo_vfs_remove - remove what is at a place, by the name it has now.
 */
int virgo_vfs_remove(const struct path *root, const struct path *at)
{
	struct path dir;
	struct dentry *dentry;
	int ret;

	if (at->dentry == root->dentry)
		return -EBUSY;
	ret = within(root, at);
	if (!ret)
		ret = virgo_vfs_parent(root, at, &dir);
	if (ret)
		return ret;
	ret = mnt_want_write(dir.mnt);
	if (ret)
		goto out_path;
	dentry = start_removing_dentry(dir.dentry, at->dentry);
	if (IS_ERR(dentry)) {
		ret = PTR_ERR(dentry);
	} else {
		ret = remove_entry(&dir, dentry, d_is_dir(dentry));
		end_removing(dentry);
	}
	mnt_drop_write(dir.mnt);
out_path:
	path_put(&dir);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_remove, "VIRGO");

/**
 * virgo_vfs_rename - rename(2) within the root.
 */
int virgo_vfs_rename(const struct path *root, const struct path *old_dir,
		     const char *old, size_t old_len, const struct path *new_dir,
		     const char *name, size_t len)
{
	struct qstr old_q = QSTR_LEN(old, old_len), new_q = QSTR_LEN(name, len);
	struct renamedata rd = {
		.mnt_idmap = mnt_idmap(old_dir->mnt),
		.old_parent = old_dir->dentry,
		.new_parent = new_dir->dentry,
	};
	int ret;

	ret = folder_within(root, old_dir);
	if (!ret)
		ret = folder_within(root, new_dir);
	if (ret)
		return ret;
	ret = mnt_want_write(old_dir->mnt);
	if (ret)
		return ret;
	ret = start_renaming(&rd, 0, &old_q, &new_q);
	if (!ret) {
		ret = vfs_rename(&rd);
		end_renaming(&rd);
	}
	mnt_drop_write(old_dir->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_rename, "VIRGO");

/**
 * virgo_vfs_move - rename what is at a place, by the name it has now.
 */
int virgo_vfs_move(const struct path *root, const struct path *at,
		   const struct path *new_dir, const char *name, size_t len)
{
	struct qstr q = QSTR_LEN(name, len);
	struct path dir;
	struct renamedata rd = {
		.mnt_idmap = mnt_idmap(at->mnt),
		.new_parent = new_dir->dentry,
	};
	int ret;

	if (at->dentry == root->dentry)
		return -EBUSY;
	ret = within(root, at);
	if (!ret)
		ret = folder_within(root, new_dir);
	if (!ret)
		ret = virgo_vfs_parent(root, at, &dir);
	if (ret)
		return ret;
	ret = mnt_want_write(at->mnt);
	if (ret)
		goto out_path;
	rd.old_parent = dir.dentry;
	ret = start_renaming_dentry(&rd, 0, at->dentry, &q);
	if (!ret) {
		ret = vfs_rename(&rd);
		end_renaming(&rd);
	}
	mnt_drop_write(at->mnt);
out_path:
	path_put(&dir);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_move, "VIRGO");

/**
 * virgo_vfs_readlink - what a symbolic link says, without a NUL.
 *
 * Return: its length, or -ENAMETOOLONG where it does not fit.
 */
ssize_t virgo_vfs_readlink(const struct path *at, char *buffer, size_t size)
{
	DEFINE_DELAYED_CALL(done);
	const char *target;
	size_t len;
	ssize_t ret;

	if (!d_is_symlink(at->dentry))
		return -EINVAL;
	target = vfs_get_link(at->dentry, &done);
	if (IS_ERR(target))
		return PTR_ERR(target);
	len = strlen(target);
	if (len <= size) {
		memcpy(buffer, target, len);
		ret = len;
	} else {
		ret = -ENAMETOOLONG;
	}
	do_delayed_call(&done);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_readlink, "VIRGO");

/**
 * virgo_vfs_change - chmod(2), chown(2), truncate(2), utimensat(2).
 * @file: open for writing, what ftruncate() would have been given; or NULL.
 */
int virgo_vfs_change(const struct path *at, struct file *file,
		     const struct virgo_vfs_change *change)
{
	struct inode *inode = d_inode(at->dentry);
	u32 valid = change->valid;
	struct iattr attr = {};
	int ret;

	if ((valid & VIRGO_SET_SIZE) && change->size > LLONG_MAX)
		return -EINVAL;
	/* Without an open file truncate(2) has rules of its own. */
	if ((valid & VIRGO_SET_SIZE) && !file) {
		ret = vfs_truncate(at, change->size);
		valid &= ~VIRGO_SET_SIZE;
		/* It has set the times as well. */
		if (!(valid & (VIRGO_SET_ATIME_SET | VIRGO_SET_MTIME_SET)))
			valid &= ~(VIRGO_SET_MTIME | VIRGO_SET_CTIME);
		if (ret || !valid)
			return ret;
	}
	if (valid & VIRGO_SET_MODE) {
		attr.ia_valid |= ATTR_MODE;
		attr.ia_mode = (change->mode & S_IALLUGO) | (inode->i_mode & ~S_IALLUGO);
	}
	if (valid & VIRGO_SET_UID) {
		attr.ia_valid |= ATTR_UID;
		attr.ia_vfsuid = VFSUIDT_INIT(make_kuid(&init_user_ns, change->uid));
		if (!vfsuid_valid(attr.ia_vfsuid))
			return -EINVAL;
	}
	if (valid & VIRGO_SET_GID) {
		attr.ia_valid |= ATTR_GID;
		attr.ia_vfsgid = VFSGIDT_INIT(make_kgid(&init_user_ns, change->gid));
		if (!vfsgid_valid(attr.ia_vfsgid))
			return -EINVAL;
	}
	if (valid & VIRGO_SET_SIZE) {
		attr.ia_valid |= ATTR_SIZE | ATTR_FILE | ATTR_MTIME | ATTR_KILL_PRIV;
		attr.ia_size = change->size;
		attr.ia_file = file;
	}
	/* A chown or a truncate takes the set-id bits away, as for any user. */
	if ((valid & (VIRGO_SET_UID | VIRGO_SET_GID | VIRGO_SET_SIZE)) &&
	    !(valid & VIRGO_SET_MODE) && !S_ISDIR(inode->i_mode)) {
		attr.ia_valid |= ATTR_KILL_SUID | ATTR_KILL_PRIV;
		if ((inode->i_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
			attr.ia_valid |= ATTR_KILL_SGID;
	}
	if (valid & VIRGO_SET_ATIME) {
		attr.ia_valid |= ATTR_ATIME;
		if (valid & VIRGO_SET_ATIME_SET) {
			attr.ia_valid |= ATTR_ATIME_SET;
			attr.ia_atime.tv_sec = change->atime_sec;
			attr.ia_atime.tv_nsec = change->atime_nsec;
		}
	}
	if (valid & VIRGO_SET_MTIME) {
		attr.ia_valid |= ATTR_MTIME;
		if (valid & VIRGO_SET_MTIME_SET) {
			attr.ia_valid |= ATTR_MTIME_SET;
			attr.ia_mtime.tv_sec = change->mtime_sec;
			attr.ia_mtime.tv_nsec = change->mtime_nsec;
		}
	}
	if (((valid & VIRGO_SET_ATIME_SET) && change->atime_nsec >= NSEC_PER_SEC) ||
	    ((valid & VIRGO_SET_MTIME_SET) && change->mtime_nsec >= NSEC_PER_SEC))
		return -EINVAL;
	if ((attr.ia_valid & (ATTR_ATIME | ATTR_MTIME)) &&
	    !(attr.ia_valid & (ATTR_ATIME_SET | ATTR_MTIME_SET | ATTR_SIZE)))
		attr.ia_valid |= ATTR_TOUCH;
	attr.ia_valid |= ATTR_CTIME;

	ret = mnt_want_write(at->mnt);
	if (ret)
		return ret;
	inode_lock(inode);
	ret = notify_change(mnt_idmap(at->mnt), at->dentry, &attr, NULL);
	inode_unlock(inode);
	mnt_drop_write(at->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_change, "VIRGO");

/**
 * virgo_vfs_read - pread(2) into kernel memory.
 */
ssize_t virgo_vfs_read(struct file *file, void *buffer, size_t count, u64 at)
{
	loff_t pos = at;

	if (at > LLONG_MAX)
		return -EINVAL;
	if (!(file->f_mode & FMODE_READ))
		return -EBADF;
	/* The kernel reads by read_iter() only, and warns of others. */
	if (S_ISDIR(file_inode(file)->i_mode))
		return -EISDIR;
	if (!file->f_op->read_iter || file->f_op->read)
		return -EINVAL;
	return kernel_read(file, buffer, count, &pos);
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_read, "VIRGO");

/**
 * virgo_vfs_read_swift - as virgo_vfs_read(), of what is in memory already:
 * -EAGAIN where that is not all.
 */
ssize_t virgo_vfs_read_swift(struct file *file, void *buffer, size_t count, u64 at)
{
	struct kvec vec = { .iov_base = buffer, .iov_len = count };
	struct inode *inode = file_inode(file);
	struct iov_iter iter;
	struct kiocb kiocb;
	ssize_t ret;

	if (in_memory(inode->i_sb))
		return virgo_vfs_read(file, buffer, count, at);
	if (at > LLONG_MAX || !(file->f_mode & FMODE_READ) ||
	    !(file->f_mode & FMODE_NOWAIT) || !S_ISREG(inode->i_mode) ||
	    !file->f_op->read_iter || count > MAX_RW_COUNT)
		return -EAGAIN;
	init_sync_kiocb(&kiocb, file);
	kiocb.ki_pos = at;
	kiocb.ki_flags |= IOCB_NOWAIT;
	iov_iter_kvec(&iter, ITER_DEST, &vec, 1, count);
	ret = vfs_iocb_iter_read(file, &kiocb, &iter);
	if (ret < 0)
		return ret == -EOPNOTSUPP ? -EAGAIN : ret;
	if (ret < count && at + ret < i_size_read(inode))
		return -EAGAIN;
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_read_swift, "VIRGO");

/**
 * virgo_vfs_write - pwrite(2) from kernel memory.
 */
ssize_t virgo_vfs_write(struct file *file, const void *data, size_t count, u64 at)
{
	loff_t pos = at;

	if (at > LLONG_MAX)
		return -EINVAL;
	if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (!file->f_op->write_iter || file->f_op->write)
		return -EINVAL;
	return kernel_write(file, data, count, &pos);
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_write, "VIRGO");

struct reader {
	struct dir_context ctx;
	bool (*emit)(void *context, const char *name, int len, u64 offset,
		     u64 ino, unsigned int type);
	void *context;
};

static bool take_entry(struct dir_context *ctx, const char *name, int len,
		       loff_t offset, u64 ino, unsigned int type)
{
	struct reader *reader = container_of(ctx, struct reader, ctx);

	return reader->emit(reader->context, name, len, offset, ino, type);
}

/**
 * virgo_vfs_readdir - hand the entries from @from on to @emit, until it says
 * no; @next is where to go on.
 *
 * One call at a time for a file.
 */
int virgo_vfs_readdir(struct file *file, u64 from, u64 *next,
		      bool (*emit)(void *context, const char *name, int len,
				   u64 offset, u64 ino, unsigned int type),
		      void *context)
{
	struct reader reader = {
		.ctx.actor = take_entry,
		.ctx.count = INT_MAX,
		.emit = emit,
		.context = context,
	};
	loff_t pos;
	int ret;

	if (!S_ISDIR(file_inode(file)->i_mode))
		return -ENOTDIR;
	if (from > LLONG_MAX)
		return -EINVAL;
	if (file->f_pos != from) {
		pos = vfs_llseek(file, from, SEEK_SET);
		if (pos < 0)
			return pos;
	}
	ret = iterate_dir(file, &reader.ctx);
	*next = reader.ctx.pos;
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_readdir, "VIRGO");

/**
 * virgo_vfs_close - give an open file back, now.
 *
 * fput() in a kernel thread would leave it to a later moment, and the mount in
 * use till then.
 */
void virgo_vfs_close(struct file *file)
{
	if (file->f_op->flush)
		file->f_op->flush(file, NULL);
	__fput_sync(file);
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_close, "VIRGO");

static int to_lock(struct file *file, void *owner,
		   const struct virgo_vfs_range *range, struct file_lock *lock)
{
	locks_init_lock(lock);
	if (range->start > OFFSET_MAX || range->length > OFFSET_MAX)
		return -EINVAL;
	lock->fl_start = range->start;
	if (!range->length)
		lock->fl_end = OFFSET_MAX;
	else if (check_add_overflow(lock->fl_start, (loff_t)range->length - 1,
				    &lock->fl_end))
		return -EOVERFLOW;
	if ((range->type == F_RDLCK && !(file->f_mode & FMODE_READ)) ||
	    (range->type == F_WRLCK && !(file->f_mode & FMODE_WRITE)))
		return -EBADF;
	lock->c.flc_owner = owner;
	lock->c.flc_pid = range->pid;
	lock->c.flc_file = file;
	lock->c.flc_flags = FL_POSIX;
	lock->c.flc_type = range->type;
	return 0;
}

/**
 * virgo_vfs_lock - set or give up a POSIX lock.
 * @wait_ms: how long to wait for one that is taken; 0: not at all.
 *
 * Whoever sets one must call virgo_vfs_unlock_all() before the file is closed.
 * Return: 0; -EAGAIN where it is taken (still); another error.
 */
int virgo_vfs_lock(struct file *file, void *owner,
		   const struct virgo_vfs_range *range, unsigned int wait_ms)
{
	struct file_lock *lock;
	int ret;

	/* It is too big for the stack of a deep file system. */
	lock = locks_alloc_lock();
	if (!lock)
		return -ENOMEM;
	ret = to_lock(file, owner, range, lock);
	if (ret)
		goto out;
	/* A file system with locks of its own is asked without waiting. */
	if (!wait_ms || file->f_op->lock) {
		ret = vfs_lock_file(file, F_SETLK, lock, NULL);
		goto out;
	}
	lock->c.flc_flags |= FL_SLEEP;
	ret = posix_lock_file(file, lock, NULL);
	if (ret == FILE_LOCK_DEFERRED) {
		/* Whoever wakes us leaves it to us to ask again. */
		wait_event_timeout(lock->c.flc_wait,
				   list_empty(&lock->c.flc_blocked_member),
				   msecs_to_jiffies(wait_ms));
		locks_delete_block(lock);
		lock->c.flc_flags &= ~FL_SLEEP;
		ret = posix_lock_file(file, lock, NULL);
	}
out:
	locks_free_lock(lock);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_lock, "VIRGO");

/**
 * virgo_vfs_getlock - the first lock that is in the way of @range, into it;
 * F_UNLCK where there is none.
 */
int virgo_vfs_getlock(struct file *file, void *owner,
		      struct virgo_vfs_range *range)
{
	struct file_lock *lock;
	int ret;

	lock = locks_alloc_lock();
	if (!lock)
		return -ENOMEM;
	/* Asking needs no mode. */
	locks_init_lock(lock);
	ret = -EINVAL;
	if (range->start > OFFSET_MAX || range->length > OFFSET_MAX)
		goto out;
	lock->fl_start = range->start;
	lock->fl_end = OFFSET_MAX;
	if (range->length && check_add_overflow(lock->fl_start,
						(loff_t)range->length - 1,
						&lock->fl_end))
		goto out;
	lock->c.flc_owner = owner;
	lock->c.flc_pid = range->pid;
	lock->c.flc_file = file;
	lock->c.flc_flags = FL_POSIX;
	lock->c.flc_type = range->type;
	ret = vfs_test_lock(file, lock);
	if (ret)
		goto out;
	range->type = lock->c.flc_type;
	if (range->type != F_UNLCK) {
		range->start = lock->fl_start;
		range->length = lock->fl_end == OFFSET_MAX ? 0 :
				lock->fl_end - lock->fl_start + 1;
		range->pid = lock->c.flc_pid;
	}
out:
	locks_free_lock(lock);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_getlock, "VIRGO");

/**
 * virgo_vfs_unlock_all - give up all locks that @owner has on the file.
 */
void virgo_vfs_unlock_all(struct file *file, void *owner)
{
	locks_remove_posix(file, owner);
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_unlock_all, "VIRGO");

/**
 * virgo_vfs_getxattr - getxattr(2); with @size 0 the length alone.
 */
ssize_t virgo_vfs_getxattr(const struct path *at, const char *name,
			   void *buffer, size_t size)
{
	struct mnt_idmap *idmap = mnt_idmap(at->mnt);
	struct posix_acl *acl;
	size_t len;
	void *value;

	if (!is_posix_acl_xattr(name))
		return vfs_getxattr(idmap, at->dentry, name, size ? buffer : NULL, size);
	acl = vfs_get_acl(idmap, at->dentry, name);
	if (IS_ERR(acl))
		return PTR_ERR(acl);
	if (!acl)
		return -ENODATA;
	value = posix_acl_to_xattr(&init_user_ns, acl, &len, GFP_KERNEL);
	posix_acl_release(acl);
	if (!value)
		return -ENOMEM;
	if (size && len > size)
		len = -ERANGE;
	else if (size)
		memcpy(buffer, value, len);
	kfree(value);
	return len;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_getxattr, "VIRGO");

/**
 * virgo_vfs_listxattr - listxattr(2); with @size 0 the length alone.
 */
ssize_t virgo_vfs_listxattr(const struct path *at, char *buffer, size_t size)
{
	return vfs_listxattr(at->dentry, size ? buffer : NULL, size);
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_listxattr, "VIRGO");

/**
 * virgo_vfs_setxattr - setxattr(2).
 */
int virgo_vfs_setxattr(const struct path *at, const char *name,
		       const void *value, size_t size, int flags)
{
	struct mnt_idmap *idmap = mnt_idmap(at->mnt);
	struct posix_acl *acl;
	int ret;

	ret = mnt_want_write(at->mnt);
	if (ret)
		return ret;
	if (is_posix_acl_xattr(name)) {
		acl = posix_acl_from_xattr(&init_user_ns, value, size);
		if (IS_ERR(acl)) {
			ret = PTR_ERR(acl);
		} else {
			ret = vfs_set_acl(idmap, at->dentry, name, acl);
			posix_acl_release(acl);
		}
	} else {
		ret = vfs_setxattr(idmap, at->dentry, name, value, size, flags);
	}
	mnt_drop_write(at->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_setxattr, "VIRGO");

/**
 * virgo_vfs_removexattr - removexattr(2).
 */
int virgo_vfs_removexattr(const struct path *at, const char *name)
{
	struct mnt_idmap *idmap = mnt_idmap(at->mnt);
	int ret;

	ret = mnt_want_write(at->mnt);
	if (ret)
		return ret;
	if (is_posix_acl_xattr(name))
		ret = vfs_remove_acl(idmap, at->dentry, name);
	else
		ret = vfs_removexattr(idmap, at->dentry, name);
	mnt_drop_write(at->mnt);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_vfs_removexattr, "VIRGO");
