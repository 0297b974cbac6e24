/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Work on files by place (mount and dentry) rather than by name, for
 * modules/lib/vfs.rs. In C because idmaps, credentials' override, qstr and
 * file locks are inline functions, macros and unions that bindgen leaves out.
 *
 * Every function may sleep and acts with the credentials that are in force
 * (see virgo_cred_enter()). "root" is the place nothing may lead out of: a
 * place that is not at or below it any more gives -ESTALE.
 */
#ifndef _VIRGO_SHIM_VFS_H
#define _VIRGO_SHIM_VFS_H

#include <linux/types.h>

struct cred;
struct file;
struct path;

/**
 * struct virgo_vfs_stat - what stat(2) tells.
 */
struct virgo_vfs_stat {
	u64 ino;
	u64 nlink;
	u64 rdev;
	u64 size;
	u64 blksize;
	u64 blocks;
	s64 atime_sec;
	s64 mtime_sec;
	s64 ctime_sec;
	s64 btime_sec;
	u32 atime_nsec;
	u32 mtime_nsec;
	u32 ctime_nsec;
	u32 btime_nsec;
	u32 mode;
	u32 uid;
	u32 gid;
	u32 has_btime;
};

/**
 * struct virgo_vfs_statfs - what statfs(2) tells.
 */
struct virgo_vfs_statfs {
	u64 blocks;
	u64 bfree;
	u64 bavail;
	u64 files;
	u64 ffree;
	u64 fsid;
	u32 type;
	u32 bsize;
	u32 namelen;
	u32 reserved;
};

#define VIRGO_SET_MODE		(1 << 0)
#define VIRGO_SET_UID		(1 << 1)
#define VIRGO_SET_GID		(1 << 2)
#define VIRGO_SET_SIZE		(1 << 3)
#define VIRGO_SET_ATIME		(1 << 4)
#define VIRGO_SET_MTIME		(1 << 5)
#define VIRGO_SET_CTIME		(1 << 6)
#define VIRGO_SET_ATIME_SET	(1 << 7)
#define VIRGO_SET_MTIME_SET	(1 << 8)

/**
 * struct virgo_vfs_change - what to change of an inode; @valid has
 * VIRGO_SET_ bits, which are 9P2000.L's.
 */
struct virgo_vfs_change {
	u32 valid;
	u32 mode;
	u32 uid;
	u32 gid;
	u64 size;
	s64 atime_sec;
	s64 mtime_sec;
	u32 atime_nsec;
	u32 mtime_nsec;
};

/**
 * struct virgo_vfs_range - a POSIX lock. @type: F_RDLCK, F_WRLCK, F_UNLCK;
 * @length: 0 is to the end of the file; @pid: negative, as of another machine.
 */
struct virgo_vfs_range {
	u64 start;
	u64 length;
	s32 type;
	s32 pid;
};

const struct cred *virgo_cred_make(u32 uid, u32 gid);
void virgo_cred_put(const struct cred *cred);
const struct cred *virgo_cred_enter(const struct cred *cred);
void virgo_cred_leave(const struct cred *old);

/* What virgo_vfs_swift() is asked about. */
#define VIRGO_SWIFT_LOOK	0	/* walk, stat, read */
#define VIRGO_SWIFT_OPEN	1	/* open for reading */
#define VIRGO_SWIFT_DROP	2	/* let go, close what was read */
#define VIRGO_SWIFT_CHANGE	3	/* anything */

#define VIRGO_UNLINK_FOLDER	1
#define VIRGO_UNLINK_SWIFT	2

u32 virgo_vfs_umask(void);
int virgo_vfs_root(const char *name, struct path *out);
bool virgo_vfs_swift(const struct path *at, int what);
int virgo_vfs_walk_swift(const struct path *root, const struct path *at,
			 const char *name, size_t len, struct path *out);
int virgo_vfs_walk(const struct path *root, const struct path *at,
		   const char *name, size_t len, struct path *out);
int virgo_vfs_parent(const struct path *root, const struct path *at,
		     struct path *out);
int virgo_vfs_stat(const struct path *at, struct virgo_vfs_stat *out);
int virgo_vfs_statfs(const struct path *at, struct virgo_vfs_statfs *out);
int virgo_vfs_open(const struct path *root, const struct path *at, int flags,
		   struct file **out);
int virgo_vfs_create(const struct path *root, const struct path *dir,
		     const char *name, size_t len, int flags, umode_t mode,
		     struct path *place, struct file **out);
int virgo_vfs_mkdir(const struct path *root, const struct path *dir,
		    const char *name, size_t len, umode_t mode,
		    struct path *place);
int virgo_vfs_symlink(const struct path *root, const struct path *dir,
		      const char *name, size_t len, const char *target,
		      struct path *place);
int virgo_vfs_link(const struct path *root, const struct path *dir,
		   const struct path *old, const char *name, size_t len);
int virgo_vfs_unlink(const struct path *root, const struct path *dir,
		     const char *name, size_t len, int how);
int virgo_vfs_remove(const struct path *root, const struct path *at);
int virgo_vfs_rename(const struct path *root, const struct path *old_dir,
		     const char *old, size_t old_len, const struct path *new_dir,
		     const char *name, size_t len);
int virgo_vfs_move(const struct path *root, const struct path *at,
		   const struct path *new_dir, const char *name, size_t len);
ssize_t virgo_vfs_readlink(const struct path *at, char *buffer, size_t size);
int virgo_vfs_change(const struct path *at, struct file *file,
		     const struct virgo_vfs_change *change);

ssize_t virgo_vfs_read(struct file *file, void *buffer, size_t count, u64 at);
ssize_t virgo_vfs_read_swift(struct file *file, void *buffer, size_t count,
			     u64 at);
ssize_t virgo_vfs_write(struct file *file, const void *data, size_t count,
			u64 at);
int virgo_vfs_readdir(struct file *file, u64 from, u64 *next,
		      bool (*emit)(void *context, const char *name, int len,
				   u64 offset, u64 ino, unsigned int type),
		      void *context);
void virgo_vfs_close(struct file *file);
int virgo_vfs_lock(struct file *file, void *owner,
		   const struct virgo_vfs_range *range, unsigned int wait_ms);
int virgo_vfs_getlock(struct file *file, void *owner,
		      struct virgo_vfs_range *range);
void virgo_vfs_unlock_all(struct file *file, void *owner);

ssize_t virgo_vfs_getxattr(const struct path *at, const char *name,
			   void *buffer, size_t size);
ssize_t virgo_vfs_listxattr(const struct path *at, char *buffer, size_t size);
int virgo_vfs_setxattr(const struct path *at, const char *name,
		       const void *value, size_t size, int flags);
int virgo_vfs_removexattr(const struct path *at, const char *name);

#endif /* _VIRGO_SHIM_VFS_H */
