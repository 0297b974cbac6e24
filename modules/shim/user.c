// SPDX-License-Identifier: GPL-2.0-only
/*
 * Short copies to and from user space, by words.
 *
 * copy_from_user() and copy_to_user() are a string instruction on most
 * processors, which takes a while to get going; an ioctl's structure, a key or
 * a small value is over before that. In C because unsafe_get_user() and
 * unsafe_put_user() are macros.
 */
#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/uaccess.h>

#include <virgo/shim.h>

/* From so many bytes on the string instruction is as fast, or faster. */
#define SHORT 512

#define GET(type, i) \
	unsafe_get_user(*(type *)(to + (i)), (const type __user *)(src + (i)), fault)
#define PUT(type, i) \
	unsafe_put_user(*(const type *)(from + (i)), (type __user *)(dst + (i)), fault)

/**
 * virgo_shim_from_user - copy from user space.
 * @to: @len bytes of memory, in any state after an error.
 * @src: @len bytes of user space; need not lie where words do.
 *
 * Unlike copy_from_user() it has no check of the object that @to is in: the
 * callers have slices. Return: 0 or -EFAULT. May sleep.
 */
int virgo_shim_from_user(void *to, const void __user *src, unsigned long len)
{
	unsigned long at = 0;

	if (len > SHORT)
		return _copy_from_user(to, src, len) ? -EFAULT : 0;
	if (!len)
		return 0;
	might_fault();
	scoped_user_read_access_size(src, len, fault) {
		for (; len - at >= 32; at += 32) {
			GET(u64, at);
			GET(u64, at + 8);
			GET(u64, at + 16);
			GET(u64, at + 24);
		}
		for (; len - at >= 8; at += 8)
			GET(u64, at);
		if (len & 4) {
			GET(u32, at);
			at += 4;
		}
		if (len & 2) {
			GET(u16, at);
			at += 2;
		}
		if (len & 1)
			GET(u8, at);
	}
	return 0;
fault:
	return -EFAULT;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_from_user, "VIRGO");

/**
 * virgo_shim_to_user - copy to user space.
 * @dst: @len bytes of user space; need not lie where words do.
 * @from: @len bytes of memory.
 *
 * As virgo_shim_from_user(). After an error a part may have been copied.
 */
int virgo_shim_to_user(void __user *dst, const void *from, unsigned long len)
{
	unsigned long at = 0;

	if (len > SHORT)
		return _copy_to_user(dst, from, len) ? -EFAULT : 0;
	if (!len)
		return 0;
	might_fault();
	scoped_user_write_access_size(dst, len, fault) {
		for (; len - at >= 32; at += 32) {
			PUT(u64, at);
			PUT(u64, at + 8);
			PUT(u64, at + 16);
			PUT(u64, at + 24);
		}
		for (; len - at >= 8; at += 8)
			PUT(u64, at);
		if (len & 4) {
			PUT(u32, at);
			at += 4;
		}
		if (len & 2) {
			PUT(u16, at);
			at += 2;
		}
		if (len & 1)
			PUT(u8, at);
	}
	return 0;
fault:
	return -EFAULT;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_to_user, "VIRGO");
