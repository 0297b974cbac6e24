// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module for tests alone: virgo_mem_get() as another module calls it, from C.
 *
 * Writing "ROOM KEY" to /sys/module/virgo_memtest/parameters/get asks for the
 * value of KEY, with ROOM bytes of room; reading tells what it returned, and
 * behind a space what is in the room, which was filled with dots before: at
 * most 3000 bytes of it. "ROOM -" passes a null pointer as the key.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <virgo/mempool.h>

#define SHOWN 3000

/* The parameter's lock guards them. */
static ssize_t result;
static size_t shown;
static char answer[SHOWN];

static int get_set(const char *val, const struct kernel_param *kp)
{
	size_t room, length;
	int skip = 0;
	const char *key;
	u8 *value;

	if (sscanf(val, "%zu %n", &room, &skip) < 1 || !skip || room > 16 << 20)
		return -EINVAL;
	key = val + skip;
	length = strcspn(key, "\n");
	value = kvmalloc(max(room, 1UL), GFP_KERNEL);
	if (!value)
		return -ENOMEM;
	memset(value, '.', room);
	if (length == 1 && *key == '-')
		key = NULL;
	result = virgo_mem_get((const u8 *)key, length, room ? value : NULL, room);
	shown = min_t(size_t, room, SHOWN);
	memcpy(answer, value, shown);
	kvfree(value);
	return 0;
}

static int get_show(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%zd %.*s\n", result, (int)shown, answer);
}

static const struct kernel_param_ops get_ops = {
	.set = get_set,
	.get = get_show,
};
module_param_cb(get, &get_ops, NULL, 0600);
MODULE_PARM_DESC(get, "ask for a value: ROOM KEY");

MODULE_AUTHOR("The VIRGO authors");
MODULE_DESCRIPTION("VIRGO: virgo_mem_get() from another module, for tests");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("VIRGO");
