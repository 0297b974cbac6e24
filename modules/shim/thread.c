// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sleeping until a kernel thread is stopped. In C because
 * set_current_state() is a macro.
 */
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>

#include <virgo/shim.h>

/**
 * virgo_shim_wait_for_stop - sleep once, unless the thread is told to stop.
 *
 * Returns when woken, by kthread_stop() or by chance. Context: a kernel
 * thread, may sleep.
 */
void virgo_shim_wait_for_stop(void)
{
	set_current_state(TASK_IDLE);
	if (!kthread_should_stop())
		schedule();
	__set_current_state(TASK_RUNNING);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_wait_for_stop, "VIRGO");
