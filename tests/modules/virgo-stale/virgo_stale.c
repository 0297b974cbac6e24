// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the tests alone: puts a service into virgo-core's registry as a module
 * of another build would, with whatever table version, size and number the
 * parameters say, and answers commands with whatever they say. It has its own
 * copy of the table's layout, as another build has.
 */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <linux/wait.h>

struct service_ops {
	u32 size;
	u32 abi;
	u32 id;
	u32 version;
	struct module *owner;
	void *context;
	long (*ioctl)(void *context, u32 cmd, unsigned long arg);
	long (*call)(void *context, u32 operation, const u8 *input,
		     size_t input_len, u8 *output, size_t output_len);
	int (*remote)(void *context, u32 from, u32 operation, const u8 *input,
		      size_t input_len, size_t limit, void *output);
};

void *virgo_core_register_service(const struct service_ops *ops, u32 abi, u32 size);
void virgo_core_unregister_service(void *slot);

static uint abi = 2;
module_param(abi, uint, 0);
MODULE_PARM_DESC(abi, "version of the table");

static uint size = sizeof(struct service_ops);
module_param(size, uint, 0);
MODULE_PARM_DESC(size, "size of the table");

static uint id = 4;
module_param(id, uint, 0);
MODULE_PARM_DESC(id, "number of the module, of the uAPI");

static long answer;
module_param(answer, long, 0);
MODULE_PARM_DESC(answer, "what commands return");

static bool block;
module_param(block, bool, 0);
MODULE_PARM_DESC(block, "commands sleep until a signal comes");

static DECLARE_WAIT_QUEUE_HEAD(never);
static void *slot;

static long stale_ioctl(void *context, u32 cmd, unsigned long arg)
{
	if (block)
		wait_event_interruptible(never, false);
	return answer;
}

static long stale_call(void *context, u32 operation, const u8 *input,
		       size_t input_len, u8 *output, size_t output_len)
{
	return answer;
}

static int stale_remote(void *context, u32 from, u32 operation,
			const u8 *input, size_t input_len, size_t limit,
			void *output)
{
	return answer;
}

static int __init stale_init(void)
{
	struct service_ops ops = {
		.size = size,
		.abi = abi,
		.id = id,
		.owner = THIS_MODULE,
		.ioctl = stale_ioctl,
		.call = stale_call,
		.remote = stale_remote,
	};

	slot = virgo_core_register_service(&ops, abi, size);
	return PTR_ERR_OR_ZERO(slot);
}
module_init(stale_init);

static void __exit stale_exit(void)
{
	virgo_core_unregister_service(slot);
}
module_exit(stale_exit);

MODULE_DESCRIPTION("VIRGO: a module of another build, for tests");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("VIRGO");
