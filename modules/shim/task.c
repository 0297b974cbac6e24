// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tasks: finding them, reading their counters, and who may look.
 *
 * In C because for_each_thread(), task_lock(), the signal structure's
 * sequence lock and get_mm_rss() are macros and inline functions.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/user_namespace.h>

#include <virgo/shim.h>

/**
 * virgo_shim_task_by_pid - find a task by its number in the caller's namespace.
 * @nr: process id, or with @thread a thread id.
 * @thread: 0 to find only the leader of a process.
 *
 * Return: the task with a reference, or NULL. Does not sleep.
 */
struct task_struct *virgo_shim_task_by_pid(int nr, int thread)
{
	struct pid *pid = find_get_pid(nr);
	struct task_struct *task;

	task = get_pid_task(pid, thread ? PIDTYPE_PID : PIDTYPE_TGID);
	put_pid(pid);
	return task;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_task_by_pid, "VIRGO");

/**
 * virgo_shim_task_by_pidfd - find the process behind a pidfd of the caller.
 * @fd: the descriptor.
 *
 * pidfd_pid() is not exported. A pidfd is a file of pidfs, whose inodes hold
 * their struct pid for as long as they live (fs/pidfs.c).
 *
 * Return: the leader with a reference; ERR_PTR(-EBADF) for what is no pidfd;
 * ERR_PTR(-ESRCH) if the process is gone.
 */
struct task_struct *virgo_shim_task_by_pidfd(int fd)
{
	struct task_struct *task;
	struct inode *inode;
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	inode = file_inode(file);
	if (inode->i_sb->s_magic != PID_FS_MAGIC) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	task = get_pid_task(inode->i_private, PIDTYPE_TGID);
	fput(file);
	return task ?: ERR_PTR(-ESRCH);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_task_by_pidfd, "VIRGO");

static void add_thread(struct task_struct *task, struct virgo_shim_counters *out)
{
	/*
	 * Looked at before the counters: once a thread is seen dead here, the
	 * counters read afterwards are its last. exit_notify() sets exit_state
	 * when the address space is gone.
	 */
	if (!smp_load_acquire(&task->exit_state))
		out->exited = 0;
	out->min_flt += READ_ONCE(task->min_flt);
	out->maj_flt += READ_ONCE(task->maj_flt);
	out->exact_ns += READ_ONCE(task->se.sum_exec_runtime);
	out->utime_ns += READ_ONCE(task->utime);
	out->stime_ns += READ_ONCE(task->stime);
}

/*
 * The same sum as thread_group_cputime() takes, and under the same lock.
 * Returns the leader of now: when a thread calls execve() it takes the
 * leader's place. The caller is in an RCU section.
 */
static struct task_struct *add_process(struct task_struct *task,
				       struct virgo_shim_counters *out)
{
	struct signal_struct *sig = task->signal;
	struct task_struct *thread, *leader;
	unsigned int seq;

	do {
		seq = read_seqbegin(&sig->stats_lock);
		leader = task;
		out->exited = 1;
		out->min_flt = sig->min_flt;
		out->maj_flt = sig->maj_flt;
		out->exact_ns = sig->sum_sched_runtime;
		out->utime_ns = sig->utime;
		out->stime_ns = sig->stime;
		__for_each_thread(sig, thread) {
			leader = READ_ONCE(thread->group_leader);
			add_thread(thread, out);
		}
	} while (read_seqretry(&sig->stats_lock, seq));
	return leader;
}

/*
 * The address space of now, kept in *@cached with a reference on its structure
 * (not on its pages), so that its counters can be read without task_lock(),
 * which is what keeps exit_mm() from letting go of it.
 */
static struct mm_struct *current_mm(struct task_struct *task, struct mm_struct **cached)
{
	struct mm_struct *mm = READ_ONCE(task->mm);

	if (likely(mm == *cached))
		return mm;
	task_lock(task);
	mm = task->mm;
	if (mm)
		mmgrab(mm);
	task_unlock(task);
	if (*cached)
		mmdrop(*cached);
	*cached = mm;
	return mm;
}

/*
 * Has the process not run since @out was filled? Then its counters are what
 * they were: they grow with what its threads do, and a thread that has run and
 * is off the CPU has a greater run time. True only for processes of one
 * thread, which most are.
 */
static bool has_not_run(struct task_struct *task, const struct virgo_shim_counters *out)
{
	struct signal_struct *sig = task->signal;

	if (READ_ONCE(sig->thread_head.next) != &task->thread_node ||
	    READ_ONCE(task->thread_node.next) != &sig->thread_head)
		return false;
	/* Pairs with finish_task(): off the CPU, so the run time is brought up to date. */
	if (smp_load_acquire(&task->on_cpu))
		return false;
	return READ_ONCE(task->se.sum_exec_runtime) + READ_ONCE(sig->sum_sched_runtime) ==
	       out->exact_ns;
}

/**
 * virgo_shim_task_counters - read what a task has used so far.
 * @task: the task; for a process its leader. The caller holds a reference and
 *	is in an RCU section.
 * @thread: 1 for this thread alone, 0 for the whole process.
 * @cached: the address space that was seen last, or NULL; belongs to the
 *	caller, who gives it up with virgo_shim_mm_put().
 * @out: what this function stored for this task the last time, or, the first
 *	time, a run time of all ones; brought up to date.
 *
 * Changes nothing in the task. Context: does not sleep; may take task_lock().
 *
 * Return: 0 if nothing but the state and the resident pages can have changed
 * since the last time, else 1.
 */
int virgo_shim_task_counters(struct task_struct *task, int thread,
			     struct mm_struct **cached,
			     struct virgo_shim_counters *out)
{
	struct mm_struct *mm;
	int changed = 1;

	if (thread) {
		out->exited = 1;
		out->min_flt = 0;
		out->maj_flt = 0;
		out->exact_ns = 0;
		out->utime_ns = 0;
		out->stime_ns = 0;
		add_thread(task, out);
		memcpy(out->comm, task->comm, sizeof(out->comm));
	} else if (likely(has_not_run(task, out))) {
		changed = 0;
	} else {
		task = add_process(task, out);
		memcpy(out->comm, task->comm, sizeof(out->comm));
	}
	out->state = task_state_to_char(task);
	mm = current_mm(task, cached);
	out->rss_pages = mm ? get_mm_rss(mm) : 0;
	return changed;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_task_counters, "VIRGO");

/**
 * virgo_shim_mm_put - give up an address space that counters kept.
 * @mm: it, or NULL.
 */
void virgo_shim_mm_put(struct mm_struct *mm)
{
	if (mm)
		mmdrop(mm);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_mm_put, "VIRGO");

/* The capability, held by the caller or, through a file, by its opener too. */
static bool has_capability(const struct file *opener, int cap)
{
	if (opener && !file_ns_capable(opener, &init_user_ns, cap))
		return false;
	return capable(cap);
}

/**
 * virgo_shim_may_administer - may the caller change what concerns everybody?
 * @opener: a file that the request came through, whose opener must be allowed
 *	as well (so that a privileged program cannot be tricked into writing to
 *	a descriptor that somebody else opened), or NULL.
 *
 * Return: 1 with CAP_PERFMON, CAP_SYS_PTRACE or CAP_SYS_ADMIN, else 0.
 */
int virgo_shim_may_administer(const struct file *opener)
{
	return has_capability(opener, CAP_PERFMON) ||
	       has_capability(opener, CAP_SYS_PTRACE) ||
	       has_capability(opener, CAP_SYS_ADMIN);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_may_administer, "VIRGO");

static bool owns(const struct cred *cred, const struct cred *target)
{
	/* As ptrace has it: a set-user-id program is not its user's own. */
	return uid_eq(cred->euid, target->uid) &&
	       uid_eq(cred->euid, target->euid) &&
	       uid_eq(cred->euid, target->suid);
}

/**
 * virgo_shim_may_observe - may the caller watch this task?
 * @task: the task; the caller holds a reference.
 * @opener: as for virgo_shim_may_administer().
 *
 * ptrace_may_access() is not exported. This is its rule for users, or
 * CAP_SYS_PTRACE, or CAP_PERFMON.
 *
 * Return: 1 or 0. Does not sleep.
 */
int virgo_shim_may_observe(struct task_struct *task, const struct file *opener)
{
	const struct cred *target;
	bool caller, other;

	rcu_read_lock();
	target = __task_cred(task);
	caller = owns(current_cred(), target);
	other = !opener || owns(opener->f_cred, target);
	rcu_read_unlock();
	/* Each of the two by whichever right it has. */
	if (!other)
		other = file_ns_capable(opener, &init_user_ns, CAP_PERFMON) ||
			file_ns_capable(opener, &init_user_ns, CAP_SYS_PTRACE);
	return other && (caller || capable(CAP_PERFMON) || capable(CAP_SYS_PTRACE));
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_may_observe, "VIRGO");

/**
 * virgo_shim_observer - in whose name a process is watched for longer.
 * @opener: as for virgo_shim_may_administer().
 * @uid: out: the caller's effective user id, in the initial user namespace.
 *
 * Return: 1 if the caller may watch any process, whoever it becomes, else 0.
 */
int virgo_shim_observer(const struct file *opener, u32 *uid)
{
	*uid = from_kuid(&init_user_ns, current_euid());
	return has_capability(opener, CAP_PERFMON) ||
	       has_capability(opener, CAP_SYS_PTRACE);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_observer, "VIRGO");

/**
 * virgo_shim_owned_by - is the current task still this user's, and nobody else's?
 * @uid: a user id in the initial user namespace.
 */
int virgo_shim_owned_by(u32 uid)
{
	const struct cred *cred = current_cred();
	kuid_t kuid = make_kuid(&init_user_ns, uid);

	return uid_eq(kuid, cred->uid) && uid_eq(kuid, cred->euid) &&
	       uid_eq(kuid, cred->suid);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_owned_by, "VIRGO");

/**
 * virgo_shim_task_ids - the numbers of a task.
 * @task: the task; the caller holds a reference.
 * @vpid: out: process and thread id in the caller's namespace, 0 where it has none.
 * @pid: out: the same in the initial namespace.
 */
void virgo_shim_task_ids(struct task_struct *task, int vpid[2], int pid[2])
{
	vpid[0] = task_tgid_vnr(task);
	vpid[1] = task_pid_vnr(task);
	pid[0] = task->tgid;
	pid[1] = task->pid;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_task_ids, "VIRGO");

/**
 * virgo_shim_in_task - does the caller run for its own thread?
 *
 * Returns 0 in an interrupt, also in a soft one. In C because in_task() is a
 * macro. Context: any.
 */
int virgo_shim_in_task(void)
{
	return in_task();
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_in_task, "VIRGO");
