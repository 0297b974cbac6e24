// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page faults and changes of the memory map of chosen processes.
 *
 * Faults are taken from handle_mm_fault(): its result is what
 * mm_account_fault() (mm/memory.c) counts min_flt and maj_flt by, and nothing
 * else counts them. A trampoline on ftrace's direct call is on both ends of
 * the function for a fraction of what fprobes and kretprobes cost.
 *
 * Changes of the map: every change of an area is announced by
 * vma_start_write(), and becomes visible to others when the mmap lock is
 * released or downgraded, where there are tracepoints. So what was announced
 * is collected, and compared with the map just before the lock is let go.
 *
 * In C because ftrace's and the tracepoints' structures, the walk over page
 * tables and areas, and asm linkage are not in the kernel crate.
 */
#include <linux/binfmts.h>
#include <linux/dcache.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/hash.h>
#include <linux/hugetlb.h>
#include <linux/kdev_t.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/module.h>
#include <linux/once.h>
#include <linux/percpu.h>
#include <linux/pgtable.h>
#include <linux/random.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/workqueue.h>
#include <asm/cpufeature.h>
#include <asm/tsc.h>
#include <trace/events/mmap_lock.h>

#include <virgo/shim.h>

#define TRACE_BITS	8

/* A traced process, found by its signal structure, which execve() keeps. */
struct virgo_shim_tracee {
	struct hlist_node node;
	/* Holds the signal structure, so that no other can be at its address. */
	struct task_struct *task;
	struct signal_struct *signal;
	void *context;
	/* The address space of now, or NULL; written under trace_lock. */
	struct traced_map *map;
};

/* Its address space, found by its structure, which is held as well. */
struct traced_map {
	struct hlist_node node;
	struct mm_struct *mm;
	struct virgo_shim_tracee *tracee;
	/* Something was announced since the lock was taken; under mmap lock. */
	bool dirty;
	struct rcu_work work;
};

static struct hlist_head tracees[1 << TRACE_BITS];
static struct hlist_head maps[1 << TRACE_BITS];
/* Guards changes of both; they are read under RCU. */
static DEFINE_SPINLOCK(trace_lock);
/* One registration at a time. */
static DEFINE_MUTEX(trace_mutex);
static const struct virgo_shim_trace_ops *trace_ops;
static struct workqueue_struct *trace_queue;
static siphash_key_t trace_key;
/* Faults that are between the two ends of the trampoline. */
static DEFINE_PER_CPU(long, inflight);
/* This module is held for faults that did not end in time. */
static bool pinned;

static struct virgo_shim_tracee *find_tracee(const struct signal_struct *signal)
{
	struct virgo_shim_tracee *t;

	hlist_for_each_entry_rcu(t, &tracees[hash_ptr(signal, TRACE_BITS)], node,
				 lockdep_is_held(&trace_lock))
		if (t->signal == signal)
			return t;
	return NULL;
}

static struct traced_map *find_map(const struct mm_struct *mm)
{
	struct traced_map *m;

	hlist_for_each_entry_rcu(m, &maps[hash_ptr(mm, TRACE_BITS)], node,
				 lockdep_is_held(&trace_lock))
		if (m->mm == mm)
			return m;
	return NULL;
}

/* ---------------------------------------------------------------- faults */

/* On the trampoline's stack: no larger than FRAME in fault_entry.S. */
struct virgo_fault_frame {
	/* Until the end, start_ns is in cycles where mult is not 0. */
	struct virgo_shim_fault fault;
	u32 mm_flags;
	u32 mult;
};
static_assert(sizeof(struct virgo_fault_frame) <= 64);

/*
 * How long a fault takes is counted in cycles of the time stamp counter, where
 * that can be relied on: reading it costs a tenth of ktime_get_ns(), which is
 * called once a fault then, for two times. Nanoseconds are cycles times
 * cycles_mult >> CYCLES_SHIFT, as in clocksource_cyc2ns(); 0: do without.
 */
static u32 cycles_mult;
#define CYCLES_SHIFT	22

static void cycles_init(void)
{
	u64 mult = 0;

	if (boot_cpu_has(X86_FEATURE_TSC) && tsc_khz && !check_tsc_unstable())
		mult = div_u64((u64)NSEC_PER_MSEC << CYCLES_SHIFT, tsc_khz);
	WRITE_ONCE(cycles_mult, mult <= U32_MAX ? mult : 0);
}

/*
 * What the page table held for the address. Tables above the last level stay
 * while the area does, which the caller has locked; tables of the last level
 * are freed after an RCU grace period, so preemption is off.
 */
static u32 entry_of(struct mm_struct *mm, unsigned long address)
{
	pgd_t *pgd = pgd_offset(mm, address);
	p4d_t *p4d;
	pud_t *pud, pudval;
	pmd_t pmdval;
	pte_t pte;

	if (pgd_none(READ_ONCE(*pgd)))
		return VIRGO_SHIM_FAULT_EMPTY;
	p4d = p4d_offset(pgd, address);
	if (p4d_none(READ_ONCE(*p4d)))
		return VIRGO_SHIM_FAULT_EMPTY;
	pud = pud_offset(p4d, address);
	pudval = READ_ONCE(*pud);
	if (pud_none(pudval))
		return VIRGO_SHIM_FAULT_EMPTY;
	if (!pud_present(pudval))
		return VIRGO_SHIM_FAULT_SWAPPED;
	if (pud_leaf(pudval))
		return 0;
	pmdval = READ_ONCE(*pmd_offset(pud, address));
	if (pmd_none(pmdval))
		return VIRGO_SHIM_FAULT_EMPTY;
	if (!pmd_present(pmdval))
		return VIRGO_SHIM_FAULT_SWAPPED;
	if (pmd_leaf(pmdval))
		return 0;
	pte = READ_ONCE(*pte_offset_kernel(&pmdval, address));
	if (pte_none(pte))
		return VIRGO_SHIM_FAULT_EMPTY;
	return pte_present(pte) ? 0 : VIRGO_SHIM_FAULT_SWAPPED;
}

/* Called by virgo_fault_entry. Returns whether virgo_fault_end() shall be. */
asmlinkage notrace int virgo_fault_begin(struct vm_area_struct *vma,
					 unsigned long address,
					 unsigned int flags,
					 struct pt_regs *regs,
					 struct virgo_fault_frame *frame);
asmlinkage notrace void virgo_fault_end(struct virgo_fault_frame *frame,
					vm_fault_t ret);
void virgo_fault_entry(void);

asmlinkage notrace int virgo_fault_begin(struct vm_area_struct *vma,
					 unsigned long address,
					 unsigned int flags,
					 struct pt_regs *regs,
					 struct virgo_fault_frame *frame)
{
	struct virgo_shim_fault *fault = &frame->fault;
	struct mm_struct *mm;
	u32 f;

	/* Which process of this place in the table it is, is seen at the end. */
	if (likely(hlist_empty(&tracees[hash_ptr(current->signal, TRACE_BITS)])))
		return 0;
	this_cpu_inc(inflight);
	mm = vma->vm_mm;
	preempt_disable();
	f = entry_of(mm, address);
	preempt_enable();
	if (flags & FAULT_FLAG_WRITE)
		f |= VIRGO_SHIM_FAULT_WRITE;
	if (flags & FAULT_FLAG_INSTRUCTION)
		f |= VIRGO_SHIM_FAULT_EXEC;
	if (flags & FAULT_FLAG_USER)
		f |= VIRGO_SHIM_FAULT_USER;
	if (unlikely(!regs))
		f |= VIRGO_SHIM_FAULT_INDIRECT;
	/* Where in the program, also for what the kernel does on its behalf. */
	fault->ip = instruction_pointer(likely(flags & FAULT_FLAG_USER) && regs ?
					regs : task_pt_regs(current));
	fault->mm = (unsigned long)mm;
	fault->address = address;
	fault->flags = f;
	frame->mm_flags = flags;
	frame->mult = READ_ONCE(cycles_mult);
	fault->start_ns = likely(frame->mult) ? rdtsc() : ktime_get_ns();
	return 1;
}

asmlinkage notrace void virgo_fault_end(struct virgo_fault_frame *frame,
					vm_fault_t ret)
{
	struct virgo_shim_fault *fault = &frame->fault;
	const struct virgo_shim_trace_ops *ops;
	struct virgo_shim_tracee *t;
	s64 cycles = 0;

	if (likely(frame->mult))
		cycles = rdtsc() - fault->start_ns;
	/* The rules of mm_account_fault(). */
	if (ret & VM_FAULT_RETRY)
		fault->flags |= VIRGO_SHIM_FAULT_RETRY;
	else if (ret & VM_FAULT_ERROR)
		goto out;
	else if ((ret & VM_FAULT_MAJOR) || (frame->mm_flags & FAULT_FLAG_TRIED))
		fault->flags |= VIRGO_SHIM_FAULT_MAJOR;
	fault->end_ns = ktime_get_ns();
	/* Not below 0, should the counter have been found unreliable since. */
	if (likely(frame->mult))
		fault->start_ns = fault->end_ns -
			mul_u64_u32_shr(max_t(s64, cycles, 0), frame->mult, CYCLES_SHIFT);
	fault->tid = current->pid;
	/* Holds back RCU as well, for less than rcu_read_lock(). */
	preempt_disable();
	/* It may have been taken out while the fault slept. */
	t = find_tracee(current->signal);
	ops = READ_ONCE(trace_ops);
	if (likely(t && ops))
		ops->fault(t->context, fault);
	preempt_enable();
out:
	this_cpu_dec(inflight);
}

static struct ftrace_ops fault_ops;

/* ------------------------------------------------------------------ maps */

static void fill_area(struct virgo_shim_area *out, const struct vm_area_struct *vma)
{
	vm_flags_t flags = vma->vm_flags;

	/* No address of the kernel's leaves it. */
	out->id = siphash_1u64((unsigned long)vma, &trace_key);
	out->start = vma->vm_start;
	out->end = vma->vm_end;
	out->offset = vma->vm_file ? (u64)vma->vm_pgoff << PAGE_SHIFT : 0;
	out->inode = 0;
	out->device = 0;
	out->flags = (flags & VM_READ ? VIRGO_SHIM_AREA_READ : 0) |
		     (flags & VM_WRITE ? VIRGO_SHIM_AREA_WRITE : 0) |
		     (flags & VM_EXEC ? VIRGO_SHIM_AREA_EXEC : 0) |
		     (flags & VM_MAYSHARE ? VIRGO_SHIM_AREA_SHARED : 0);
	out->name = NULL;
	out->name_len = 0;
}

/* As get_vma_name() of fs/proc/task_mmu.c has it, less what is not exported. */
static void name_area(struct virgo_shim_area *out, struct vm_area_struct *vma,
		      char *buffer)
{
	const char *name = NULL;

	if (vma->vm_file) {
		const struct inode *inode = file_user_inode(vma->vm_file);

		out->inode = inode->i_ino;
		out->device = inode->i_sb->s_dev;
		if (buffer)
			name = d_path(file_user_path(vma->vm_file), buffer, PATH_MAX);
		if (IS_ERR(name))
			name = NULL;
	} else {
		if (vma->vm_ops && vma->vm_ops->name)
			name = vma->vm_ops->name(vma);
		if (!name && vma_is_initial_heap(vma))
			name = "[heap]";
		if (!name && vma_is_initial_stack(vma))
			name = "[stack]";
	}
	if (name) {
		out->name = name;
		out->name_len = strlen(name);
	}
}

/*
 * Room for a path, kept for the next change of a map: where the kernel clears
 * what it allocates, another allocation costs more than all else of a change.
 */
static char *spare_path;

static char *take_path(void)
{
	char *path = xchg(&spare_path, NULL);

	return path ?: kmalloc(PATH_MAX, GFP_NOWAIT | __GFP_NOWARN);
}

static void give_path(char *path)
{
	kfree(xchg(&spare_path, path));
}

/**
 * virgo_shim_trace_walk - tell the areas of a map that touch a range.
 * @mm: the address space; the caller holds its mmap lock.
 * @start: first address.
 * @end: the address behind the last.
 * @each: called for each area, in order, until it does not return 0.
 * @arg: handed to @each.
 *
 * Context: does not sleep.
 */
void virgo_shim_trace_walk(struct mm_struct *mm, unsigned long start,
			   unsigned long end,
			   int (*each)(void *arg, const struct virgo_shim_area *area),
			   void *arg)
{
	struct virgo_shim_area area;
	struct vm_area_struct *vma;
	char *buffer = NULL;
	bool tried = false;
	VMA_ITERATOR(vmi, mm, start);

	for_each_vma_range(vmi, vma, end) {
		if (vma->vm_file && !tried) {
			tried = true;
			buffer = take_path();
		}
		fill_area(&area, vma);
		name_area(&area, vma, buffer);
		if (each(arg, &area))
			break;
	}
	if (buffer)
		give_path(buffer);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_walk, "VIRGO");

/* At each start of __vma_start_write(): an area will be changed or is new. */
static void notrace on_area_write(unsigned long ip, unsigned long parent_ip,
				  struct ftrace_ops *op, struct ftrace_regs *fregs)
{
	struct vm_area_struct *vma = (void *)ftrace_regs_get_argument(fregs, 0);
	const struct virgo_shim_trace_ops *ops;
	struct virgo_shim_area area;
	struct traced_map *m;

	rcu_read_lock();
	m = find_map(vma->vm_mm);
	ops = READ_ONCE(trace_ops);
	if (m && ops) {
		fill_area(&area, vma);
#ifdef CONFIG_PER_VMA_LOCK
		if (!refcount_read(&vma->vm_refcnt))
			area.flags |= VIRGO_SHIM_AREA_NEW;
#endif
		m->dirty = true;
		ops->area_write(m->tracee->context, &area);
	}
	rcu_read_unlock();
}

static struct ftrace_ops area_ops = {
	.func = on_area_write,
};

static void map_unlock(struct mm_struct *mm)
{
	const struct virgo_shim_trace_ops *ops;
	struct traced_map *m;

	rcu_read_lock();
	m = find_map(mm);
	ops = READ_ONCE(trace_ops);
	if (m && m->dirty && ops) {
		m->dirty = false;
		ops->map_unlock(m->tracee->context, mm);
	}
	rcu_read_unlock();
}

static void on_released(void *data, struct mm_struct *mm, bool write)
{
	if (write)
		map_unlock(mm);
}

/* A downgrade is told as a read lock taken; for others nothing is announced. */
static void on_acquired(void *data, struct mm_struct *mm, bool write, bool success)
{
	if (!write && success)
		map_unlock(mm);
}

static void map_free(struct work_struct *work)
{
	struct traced_map *m = container_of(to_rcu_work(work), struct traced_map, work);

	mmdrop(m->mm);
	kfree(m);
}

/* Makes @mm the tracee's map instead of the one before; NULL: none. */
static int set_map(struct virgo_shim_tracee *t, struct mm_struct *mm)
{
	struct traced_map *new = NULL, *old;
	int ret = 0;

	if (mm) {
		new = kzalloc(sizeof(*new), GFP_ATOMIC | __GFP_NOWARN);
		if (!new)
			ret = -ENOMEM;
	}
	spin_lock(&trace_lock);
	old = t->map;
	/* A child of vfork() shares its parent's map, which has its tracee. */
	if (new && find_map(mm)) {
		kfree(new);
		new = NULL;
		ret = -EEXIST;
	}
	if (new) {
		mmgrab(mm);
		new->mm = mm;
		new->tracee = t;
		hlist_add_head_rcu(&new->node, &maps[hash_ptr(mm, TRACE_BITS)]);
	}
	t->map = new;
	if (old)
		hlist_del_rcu(&old->node);
	spin_unlock(&trace_lock);
	if (old) {
		/* mmdrop() is for process context: see free_signal_struct(). */
		INIT_RCU_WORK(&old->work, map_free);
		queue_rcu_work(trace_queue, &old->work);
	}
	return ret;
}

/* --------------------------------------------------------------- tracees */

/**
 * virgo_shim_tracee_add - begin to trace a process.
 * @task: a thread of it; the caller holds a reference.
 * @context: handed to the operations; must stay until virgo_shim_tracee_free().
 *
 * Something must be registered with virgo_shim_trace_register() until the
 * tracee is freed. Context: does not sleep.
 *
 * Return: the tracee; ERR_PTR(-EEXIST) if it is traced already, -ENOMEM.
 */
struct virgo_shim_tracee *virgo_shim_tracee_add(struct task_struct *task, void *context)
{
	struct virgo_shim_tracee *t = kzalloc(sizeof(*t), GFP_ATOMIC | __GFP_NOWARN);

	if (!t)
		return ERR_PTR(-ENOMEM);
	t->task = get_task_struct(task);
	t->signal = task->signal;
	t->context = context;
	spin_lock(&trace_lock);
	if (find_tracee(t->signal)) {
		spin_unlock(&trace_lock);
		put_task_struct(t->task);
		kfree(t);
		return ERR_PTR(-EEXIST);
	}
	hlist_add_head_rcu(&t->node, &tracees[hash_ptr(t->signal, TRACE_BITS)]);
	spin_unlock(&trace_lock);
	return t;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_tracee_add, "VIRGO");

/**
 * virgo_shim_tracee_map - tell a process's map, and its changes from now on.
 * @t: the tracee.
 *
 * Calls the operation @map with the map locked, unless execve() has done so.
 * Context: sleeps.
 *
 * Return: 0; -ESRCH if the process has no address space (any more).
 */
int virgo_shim_tracee_map(struct virgo_shim_tracee *t)
{
	struct mm_struct *mm = get_task_mm(t->task);
	const struct virgo_shim_trace_ops *ops;
	int ret = 0;

	if (!mm)
		return -ESRCH;
	mmap_read_lock(mm);
	if (!READ_ONCE(t->map)) {
		ret = set_map(t, mm);
		ops = READ_ONCE(trace_ops);
		if (!ret && ops)
			ops->map(t->context, mm, NULL);
	}
	mmap_read_unlock(mm);
	mmput(mm);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_tracee_map, "VIRGO");

/* The same where nothing may sleep, for a map that nobody else uses yet. */
static void take_map(struct virgo_shim_tracee *t, struct mm_struct *mm,
		     const struct virgo_shim_trace_ops *ops, const char *exec)
{
	int ret = set_map(t, mm);

	if (!ret && mmap_read_trylock(mm)) {
		ops->map(t->context, mm, exec);
		mmap_read_unlock(mm);
		return;
	}
	ops->map(t->context, NULL, exec);
	/* The next change brings all of it. */
	if (!ret)
		t->map->dirty = true;
}

/**
 * virgo_shim_tracee_child - tell the map of a process that was just forked.
 * @t: the tracee; its task has not run yet.
 *
 * Context: does not sleep; only within the operation @fork.
 */
void virgo_shim_tracee_child(struct virgo_shim_tracee *t)
{
	const struct virgo_shim_trace_ops *ops = READ_ONCE(trace_ops);

	if (ops && t->task->mm)
		take_map(t, t->task->mm, ops, NULL);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_tracee_child, "VIRGO");

/**
 * virgo_shim_tracee_remove - end the tracing of a process.
 * @t: the tracee, which is not freed: callbacks may still run.
 *
 * Context: does not sleep. May be called again.
 */
void virgo_shim_tracee_remove(struct virgo_shim_tracee *t)
{
	spin_lock(&trace_lock);
	if (!hlist_unhashed(&t->node))
		hlist_del_init_rcu(&t->node);
	spin_unlock(&trace_lock);
	set_map(t, NULL);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_tracee_remove, "VIRGO");

/**
 * virgo_shim_tracee_free - free a tracee.
 * @t: it; virgo_shim_tracee_remove() was called, and virgo_shim_trace_sync()
 *	since.
 */
void virgo_shim_tracee_free(struct virgo_shim_tracee *t)
{
	put_task_struct(t->task);
	kfree(t);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_tracee_free, "VIRGO");

/** virgo_shim_trace_sync - wait until no callback runs that began before. Sleeps. */
void virgo_shim_trace_sync(void)
{
	synchronize_rcu();
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_sync, "VIRGO");

/* --------------------------------------------------------------- threads */

/**
 * virgo_shim_trace_threads - call a function for each thread of a process.
 * @task: a thread of it, or one that it had; the caller holds a reference.
 * @each: called for each thread that is not gone.
 * @arg: handed to @each.
 * @gone: out: minor and major faults of the threads that are.
 *
 * Meanwhile no thread is made and none goes, but they run on. Context: does
 * not sleep; @each is called with interrupts off.
 *
 * Return: 0; -ESRCH if all are gone.
 */
int virgo_shim_trace_threads(struct task_struct *task,
			     void (*each)(void *arg, struct task_struct *thread),
			     void *arg, u64 gone[2])
{
	struct signal_struct *sig = task->signal;
	struct sighand_struct *sighand;
	struct task_struct *t;
	unsigned long flags;
	int ret = -ESRCH;

	rcu_read_lock();
again:
	sighand = NULL;
	__for_each_thread(sig, t) {
		sighand = rcu_dereference(t->sighand);
		if (sighand)
			break;
	}
	if (sighand) {
		/* As lock_task_sighand() does, which is not exported. */
		spin_lock_irqsave(&sighand->siglock, flags);
		if (sighand != rcu_access_pointer(t->sighand)) {
			spin_unlock_irqrestore(&sighand->siglock, flags);
			goto again;
		}
		__for_each_thread(sig, t)
			each(arg, t);
		gone[0] = sig->min_flt;
		gone[1] = sig->maj_flt;
		spin_unlock_irqrestore(&sighand->siglock, flags);
		ret = 0;
	} else {
		gone[0] = READ_ONCE(sig->min_flt);
		gone[1] = READ_ONCE(sig->maj_flt);
	}
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_threads, "VIRGO");

/**
 * virgo_shim_trace_counted - what the kernel counted for a thread.
 * @thread: it; the caller holds a reference.
 * @counted: out: minor and major faults.
 */
void virgo_shim_trace_counted(const struct task_struct *thread, u64 counted[2])
{
	counted[0] = READ_ONCE(thread->min_flt);
	counted[1] = READ_ONCE(thread->maj_flt);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_counted, "VIRGO");

/**
 * virgo_shim_trace_is_quiet - is a thread somewhere else than at the end of a fault?
 * @thread: it; the caller holds a reference.
 *
 * Between mm_account_fault() and the end of virgo_fault_end() nothing sleeps.
 *
 * Return: 1 if it sleeps or has exited, so that each fault which was counted
 * before this call has been reported; 0 if that is not known.
 */
int virgo_shim_trace_is_quiet(const struct task_struct *thread)
{
	/*
	 * What the caller stored before is seen by the thread when it is woken,
	 * and what it did before it was taken off the run queue is seen here.
	 */
	smp_mb();
	return smp_load_acquire(&thread->exit_state) || !smp_load_acquire(&thread->on_rq);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_is_quiet, "VIRGO");

/**
 * virgo_shim_trace_settle - wait until every fault that was counted is reported.
 *
 * Each task is waited for until it has slept or run its program, neither of
 * which it does at the end of a fault. Context: sleeps, a tenth of a second
 * and more.
 */
void virgo_shim_trace_settle(void)
{
	synchronize_rcu_tasks();
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_settle, "VIRGO");

static void on_exec(void *data, struct task_struct *task, pid_t old_pid,
		    struct linux_binprm *bprm)
{
	const struct virgo_shim_trace_ops *ops;
	struct virgo_shim_tracee *t;

	rcu_read_lock();
	t = find_tracee(task->signal);
	ops = READ_ONCE(trace_ops);
	if (t && ops)
		take_map(t, task->mm, ops, bprm->filename);
	rcu_read_unlock();
}

static void on_fork(void *data, struct task_struct *parent, struct task_struct *child)
{
	const struct virgo_shim_trace_ops *ops;
	struct virgo_shim_tracee *t;

	if (parent->signal == child->signal)
		return;
	rcu_read_lock();
	t = find_tracee(parent->signal);
	ops = READ_ONCE(trace_ops);
	if (t && ops)
		ops->fork(t->context, child);
	rcu_read_unlock();
}

static void on_exit(void *data, struct task_struct *task, bool group_dead)
{
	const struct virgo_shim_trace_ops *ops;
	struct virgo_shim_tracee *t;

	if (!group_dead)
		return;
	rcu_read_lock();
	t = find_tracee(task->signal);
	ops = READ_ONCE(trace_ops);
	if (t && ops)
		ops->exit(t->context);
	rcu_read_unlock();
}

/* ---------------------------------------------------------- registration */

/* Tracepoints that are not exported. */
static struct {
	const char *name;
	void *probe;
	struct tracepoint *tp;
	bool on;
} points[] = {
	{ "mmap_lock_released", on_released },
	{ "mmap_lock_acquire_returned", on_acquired },
	{ "sched_process_exec", on_exec },
	{ "sched_process_fork", on_fork },
	{ "sched_process_exit", on_exit },
};

static void match_point(struct tracepoint *tp, void *unused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(points); i++)
		if (!strcmp(tp->name, points[i].name))
			points[i].tp = tp;
}

static long faults_inflight(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(inflight, cpu);
	return sum;
}

static void hooks_off(void)
{
	size_t i;

	if (fault_ops.flags & FTRACE_OPS_FL_ENABLED)
		unregister_ftrace_direct(&fault_ops, (unsigned long)virgo_fault_entry, true);
	if (area_ops.flags & FTRACE_OPS_FL_ENABLED)
		unregister_ftrace_function(&area_ops);
	ftrace_free_filter(&area_ops);
	for (i = 0; i < ARRAY_SIZE(points); i++) {
		if (points[i].on)
			tracepoint_probe_unregister(points[i].tp, points[i].probe, NULL);
		points[i].on = false;
	}
	tracepoint_synchronize_unregister();
}

static int hooks_on(void)
{
	size_t i;
	int ret;

	for_each_kernel_tracepoint(match_point, NULL);
	for (i = 0; i < ARRAY_SIZE(points); i++) {
		ret = -ENOENT;
		if (points[i].tp)
			ret = tracepoint_probe_register(points[i].tp, points[i].probe, NULL);
		if (ret)
			return ret;
		points[i].on = true;
	}
	ret = ftrace_set_filter_ip(&area_ops, (unsigned long)__vma_start_write, 0, 1);
	if (!ret)
		ret = register_ftrace_function(&area_ops);
	if (ret)
		return ret;
	memset(&fault_ops, 0, sizeof(fault_ops));
	ret = ftrace_set_filter_ip(&fault_ops, (unsigned long)handle_mm_fault, 0, 1);
	if (ret)
		return ret;
	return register_ftrace_direct(&fault_ops, (unsigned long)virgo_fault_entry);
}

static void unpin(void)
{
	if (pinned && !faults_inflight()) {
		pinned = false;
		module_put(THIS_MODULE);
	}
}

/**
 * virgo_shim_trace_register - put the probes in place.
 * @ops: what they call; must stay until virgo_shim_trace_unregister().
 *
 * Context: sleeps.
 *
 * Return: 0; -EBUSY if they are in place already, or another user of ftrace's
 * direct calls, as BPF's fentry programs are, is on handle_mm_fault();
 * -ENOENT if the kernel has no such probe; -ENOMEM.
 */
int virgo_shim_trace_register(const struct virgo_shim_trace_ops *ops)
{
	int ret = -EBUSY;

	mutex_lock(&trace_mutex);
	unpin();
	if (trace_ops)
		goto out;
	ret = -ENOMEM;
	trace_queue = alloc_workqueue("virgo_trace", WQ_UNBOUND, 0);
	if (!trace_queue)
		goto out;
	get_random_once(&trace_key, sizeof(trace_key));
	cycles_init();
	WRITE_ONCE(trace_ops, ops);
	ret = hooks_on();
	if (ret) {
		WRITE_ONCE(trace_ops, NULL);
		hooks_off();
		synchronize_rcu();
		destroy_workqueue(trace_queue);
	}
out:
	mutex_unlock(&trace_mutex);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_register, "VIRGO");

/**
 * virgo_shim_trace_unregister - take the probes away. No tracee is left.
 *
 * Context: sleeps until no operation runs any more. A fault that is under way
 * returns through this file: where one takes long (a page that a program
 * serves), the module stays in use until the next time that somebody asks.
 */
void virgo_shim_trace_unregister(void)
{
	int tries;

	mutex_lock(&trace_mutex);
	hooks_off();
	WRITE_ONCE(trace_ops, NULL);
	synchronize_rcu();
	rcu_barrier();
	destroy_workqueue(trace_queue);
	give_path(NULL);
	for (tries = 0; faults_inflight() && tries < 20; tries++)
		msleep(1);
	if (faults_inflight() && !pinned) {
		pinned = true;
		__module_get(THIS_MODULE);
	}
	mutex_unlock(&trace_mutex);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_unregister, "VIRGO");

/**
 * virgo_shim_trace_unpin - give up the hold of a fault that has ended since.
 */
void virgo_shim_trace_unpin(void)
{
	mutex_lock(&trace_mutex);
	unpin();
	mutex_unlock(&trace_mutex);
}
EXPORT_SYMBOL_NS_GPL(virgo_shim_trace_unpin, "VIRGO");

/**
 * virgo_shim_trace_exit - before this module is unloaded. Sleeps.
 *
 * The last fault may have counted itself out and not have returned yet: wait
 * until every task has been seen elsewhere.
 */
void virgo_shim_trace_exit(void)
{
	synchronize_rcu_tasks();
}
