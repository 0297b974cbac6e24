/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * VIRGO: the contract between the kernel modules and user space.
 *
 * This header is the single source of truth. The Rust mirror in
 * crates/virgo-proto/src/imp/uapi.rs is compared with it, size by size and
 * offset by offset, by the test tests/uapi.
 *
 * Rules, the same for every command:
 *
 *  - Every structure begins with @size: the caller stores sizeof(struct).
 *    A size smaller than the first version of the structure, or larger than
 *    a page, is EINVAL. Bytes past what this kernel knows must be zero, else
 *    E2BIG. Bytes that the caller's version lacks are taken as zero.
 *  - Unknown bits in @flags, and reserved fields that are not zero: EINVAL.
 *  - An unknown command: ENOTTY. A command of a module which is not loaded:
 *    ENODEV. A bad pointer: EFAULT.
 *  - Integers are native-endian, of fixed width, and naturally aligned, so
 *    32-bit callers on a 64-bit kernel use the same layout.
 *  - Pointers travel as __u64. Times are nanoseconds of CLOCK_MONOTONIC.
 *  - A process or thread id is understood in the caller's pid namespace.
 */
#ifndef _UAPI_LINUX_VIRGO_H
#define _UAPI_LINUX_VIRGO_H

#include <linux/ioctl.h>
#include <linux/types.h>

/** The control device, provided by virgo-core. */
#define VIRGO_DEVICE		"/dev/virgo"
/** The profiler's own device: the same commands, plus mmap and poll. */
#define VIRGO_PROFILER_DEVICE	"/dev/virgo-profiler"

/** The ioctl type byte of every VIRGO command. */
#define VIRGO_IOC_MAGIC		0xEB

/*
 * Command numbers: sixteen for each module, from VIRGO_MODULE_x * 16.
 */
/**
 * enum virgo_module - the modules of the suite.
 *
 * The value is the bit in &virgo_query.modules and, times 16, the module's
 * first ioctl number.
 */
enum virgo_module {
	VIRGO_MODULE_CORE	= 0,
	VIRGO_MODULE_CPUPOOL	= 1,
	VIRGO_MODULE_MEMPOOL	= 2,
	VIRGO_MODULE_CLOUDFS	= 3,
	VIRGO_MODULE_QUEUE	= 4,
	VIRGO_MODULE_EVENTNET	= 5,
	VIRGO_MODULE_ANALYTICS	= 6,
	VIRGO_MODULE_PROFILER	= 7,
	VIRGO_MODULE_COUNT	= 8,
};

/* ------------------------------------------------------------------ core */

/** The kernel serves VIRGO_IOC_QUERY and the service registry. */
#define VIRGO_FEATURE_QUERY		(1ULL << 0)
/** /dev/virgo can be polled: it becomes readable when a module comes or goes. */
#define VIRGO_FEATURE_POLL_MODULES	(1ULL << 1)

/**
 * struct virgo_query - what is loaded here (VIRGO_IOC_QUERY).
 * @size: in: sizeof(struct virgo_query).
 * @flags: in: must be zero.
 * @version: out: version of the suite, major << 16 | minor << 8 | patch.
 * @abi: out: version of the table that the modules share among themselves.
 * @features: out: VIRGO_FEATURE_ bits.
 * @modules: out: bit (1 << VIRGO_MODULE_x) for each module which is loaded.
 * @generation: out: grows by one each time that a module comes or goes; a
 *	poll() on /dev/virgo reports POLLIN until VIRGO_IOC_QUERY has returned
 *	the newest value through this descriptor.
 * @reserved: in: must be zero.
 */
struct virgo_query {
	__u32 size;
	__u32 flags;
	__u32 version;
	__u32 abi;
	__u64 features;
	__u64 modules;
	__u64 generation;
	__u64 reserved[3];
};

#define VIRGO_IOC_QUERY		_IOWR(VIRGO_IOC_MAGIC, 0x00, struct virgo_query)

/* ----------------------------------------------------------------- nodes */

/** The kernel serves the commands of the nodes. */
#define VIRGO_FEATURE_NODES		(1ULL << 2)

/** The most nodes of a cluster, this one among them. */
#define VIRGO_NODES_MAX			64
/** The greatest weight of a node. */
#define VIRGO_NODE_WEIGHT_MAX		1000
/** A cluster's key has at least so many bytes. */
#define VIRGO_NODES_KEY_MIN		16
/** A cluster's key has at most so many bytes. */
#define VIRGO_NODES_KEY_MAX		1024
/** Length of a node's last error, padded with NULs. */
#define VIRGO_NODE_ERROR_LEN		96

/** As the cluster is set to (VIRGO_IOC_NODES_POLICY). */
#define VIRGO_POLICY_DEFAULT		0
/** The node with the least load for its weight. */
#define VIRGO_POLICY_LEAST_LOADED	1
/** Any node, as likely as its weight. */
#define VIRGO_POLICY_RANDOM		2
/** The less loaded of two drawn at random. */
#define VIRGO_POLICY_TWO_CHOICES	3
/** The node that is named. */
#define VIRGO_POLICY_NODE		4

/** It answers. */
#define VIRGO_NODE_UP			1
/** Silent for more than a second. */
#define VIRGO_NODE_SUSPECT		2
/** Requests to it fail at once. */
#define VIRGO_NODE_DOWN			3

/**
 * struct virgo_node_address - a node of a table that is loaded.
 * @ip: the address in network order; an IPv4 one as ::ffff:a.b.c.d.
 * @scope: the interface of a link-local address, else 0.
 * @port: 1 to 65535.
 * @weight: how much it takes compared to others, up to VIRGO_NODE_WEIGHT_MAX;
 *	0 counts as 1.
 * @reserved: must be zero.
 */
struct virgo_node_address {
	__u8 ip[16];
	__u32 scope;
	__u32 port;
	__u32 weight;
	__u32 reserved;
};

/**
 * struct virgo_nodes_load - put a table of nodes in place of the one before.
 * @size: in: sizeof(struct virgo_nodes_load).
 * @flags: in: must be zero.
 * @nodes: in: address of an array of struct virgo_node_address.
 * @count: in: entries in the array. 0 forgets the table: this node alone.
 * @self_index: in: which of them is this node, from 0.
 * @bind_ip: in: the address to listen on, as in struct virgo_node_address;
 *	all zero: every one.
 * @bind_port: in: the port to listen on.
 * @bind_scope: in: as in struct virgo_node_address.
 * @key: in: address of the cluster's key; may be zero if @key_length is.
 * @key_length: in: its bytes, VIRGO_NODES_KEY_MIN to VIRGO_NODES_KEY_MAX; or
 *	0 for none, and then there is no other node and no port is open.
 * @reserved0: in: must be zero.
 * @generation: out: grows by one with each table.
 * @reserved: in: must be zero.
 *
 * All of it happens or nothing. Needs CAP_SYS_ADMIN. Errors: ENOSPC more than
 * VIRGO_NODES_MAX nodes; EEXIST two entries are one node; ENOKEY without a key
 * only this node can be in the table, and only a loopback address be bound;
 * EKEYREJECTED the key is too short or too long; EADDRINUSE, EADDRNOTAVAIL and
 * the like as bind(2) has them.
 */
struct virgo_nodes_load {
	__u32 size;
	__u32 flags;
	__u64 nodes;
	__u32 count;
	__u32 self_index;
	__u8 bind_ip[16];
	__u32 bind_port;
	__u32 bind_scope;
	__u64 key;
	__u32 key_length;
	__u32 reserved0;
	__u64 generation;
	__u64 reserved[2];
};

/** In @flags of a node: it is this one. */
#define VIRGO_NODE_SELF		(1U << 0)

/**
 * struct virgo_node - a node, in a list.
 * @id: its number, the same on all nodes.
 * @state: VIRGO_NODE_UP, VIRGO_NODE_SUSPECT or VIRGO_NODE_DOWN.
 * @ip: as in struct virgo_node_address.
 * @scope: likewise.
 * @port: likewise.
 * @weight: likewise, from 1.
 * @flags: VIRGO_NODE_SELF.
 * @load: how busy it said to be last: 1000 for each runnable task a processor,
 *	and more for pressure and for scarce memory.
 * @runnable: tasks that run or want to.
 * @cpus: processors; 0 while nothing is known of the node.
 * @pressure: the share of the last ten seconds in which some task waited for a
 *	processor, in thousandths; 0xffffffff where it does not tell.
 * @free_kib: memory that could be used without swapping.
 * @total_kib: all memory.
 * @rtt_ns: how long the last heartbeat took, there and back.
 * @since_ns: since when it is in this state.
 * @calls: requests made of it from here.
 * @failed: of those, how many had no answer: it was down, or the time was over.
 * @in_flight: requests under way.
 * @reserved0: zero.
 * @error: why it was last not up, in words.
 */
struct virgo_node {
	__u32 id;
	__u32 state;
	__u8 ip[16];
	__u32 scope;
	__u32 port;
	__u32 weight;
	__u32 flags;
	__u32 load;
	__u32 runnable;
	__u32 cpus;
	__u32 pressure;
	__u64 free_kib;
	__u64 total_kib;
	__u64 rtt_ns;
	__u64 since_ns;
	__u64 calls;
	__u64 failed;
	__u32 in_flight;
	__u32 reserved0;
	char error[VIRGO_NODE_ERROR_LEN];
};

/**
 * struct virgo_nodes_list - the nodes.
 * @size: in: sizeof(struct virgo_nodes_list).
 * @flags: in: must be zero.
 * @entries: in: address of an array of struct virgo_node; may be zero if
 *	@capacity is.
 * @capacity: in: entries in the array.
 * @count: out: how many nodes there are. At most @capacity are stored, ordered
 *	by number.
 * @generation: out: which table; 0 while none was ever loaded.
 * @bind_ip: out: the address that the nodes' port is open on.
 * @bind_port: out: the port; 0 while it is not open.
 * @keyed: out: 1 if there is a key.
 * @connections: out: connections of other nodes now.
 * @strangers: out: connections from addresses that are not in the table.
 * @refused: out: connections that were closed for what came on them.
 * @reserved: in: must be zero.
 */
struct virgo_nodes_list {
	__u32 size;
	__u32 flags;
	__u64 entries;
	__u32 capacity;
	__u32 count;
	__u64 generation;
	__u8 bind_ip[16];
	__u32 bind_port;
	__u32 keyed;
	__u64 connections;
	__u64 strangers;
	__u64 refused;
	__u64 reserved[2];
};

/** Set @policy. */
#define VIRGO_NODES_SET_POLICY	(1U << 0)
/** Set @seed. */
#define VIRGO_NODES_SET_SEED	(1U << 1)

/**
 * struct virgo_nodes_policy - read or set how nodes are chosen.
 * @size: in: sizeof(struct virgo_nodes_policy).
 * @flags: in: VIRGO_NODES_SET_ bits; setting needs CAP_SYS_ADMIN.
 * @policy: in, out: VIRGO_POLICY_LEAST_LOADED, _RANDOM or _TWO_CHOICES.
 * @reserved0: in: must be zero.
 * @seed: in, out: choices at random begin anew from it; 0: from the kernel's
 *	random numbers.
 * @reserved: in: must be zero.
 */
struct virgo_nodes_policy {
	__u32 size;
	__u32 flags;
	__u32 policy;
	__u32 reserved0;
	__u64 seed;
	__u64 reserved[2];
};

/**
 * struct virgo_node_ping - ask a node for a sign of life.
 * @size: in: sizeof(struct virgo_node_ping).
 * @flags: in: must be zero.
 * @node: in: its number.
 * @timeout_ms: in: how long to wait; 0 counts as 1000.
 * @rtt_ns: out: how long it took.
 * @reserved: in: must be zero.
 *
 * Errors: ENOENT no such node; EHOSTDOWN it is down; ETIMEDOUT.
 */
struct virgo_node_ping {
	__u32 size;
	__u32 flags;
	__u32 node;
	__u32 timeout_ms;
	__u64 rtt_ns;
	__u64 reserved;
};

/** Not by @policy: the node that the key belongs to, up or not. */
#define VIRGO_PICK_OWNER	(1U << 0)

/**
 * struct virgo_node_pick - choose a node as a request would.
 * @size: in: sizeof(struct virgo_node_pick).
 * @flags: in: 0 or VIRGO_PICK_OWNER.
 * @policy: in: VIRGO_POLICY_; 0 with VIRGO_PICK_OWNER.
 * @node: in: for VIRGO_POLICY_NODE; out: the node.
 * @key: in: with VIRGO_PICK_OWNER, address of the key.
 * @key_length: in: its bytes, at most 4096.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 *
 * Errors: EHOSTDOWN the node is down, or none is up; ENOENT no such node.
 */
struct virgo_node_pick {
	__u32 size;
	__u32 flags;
	__u32 policy;
	__u32 node;
	__u64 key;
	__u32 key_length;
	__u32 reserved0;
	__u64 reserved;
};

#define VIRGO_IOC_NODES_LOAD	_IOWR(VIRGO_IOC_MAGIC, 0x01, struct virgo_nodes_load)
#define VIRGO_IOC_NODES_LIST	_IOWR(VIRGO_IOC_MAGIC, 0x02, struct virgo_nodes_list)
#define VIRGO_IOC_NODES_POLICY	_IOWR(VIRGO_IOC_MAGIC, 0x03, struct virgo_nodes_policy)
#define VIRGO_IOC_NODE_PING	_IOWR(VIRGO_IOC_MAGIC, 0x04, struct virgo_node_ping)
#define VIRGO_IOC_NODE_PICK	_IOWR(VIRGO_IOC_MAGIC, 0x05, struct virgo_node_pick)

/* --------------------------------------------------------------- cpupool */

/** Length of a function's name with its terminating NUL. */
#define VIRGO_CPUPOOL_NAME_LEN		64

/** The call may be made again elsewhere if its node goes down meanwhile. */
#define VIRGO_CPUPOOL_IDEMPOTENT	(1U << 0)

/**
 * struct virgo_cpupool_call - call a kernel function by name.
 * @size: in: sizeof(struct virgo_cpupool_call).
 * @flags: in: 0 or VIRGO_CPUPOOL_IDEMPOTENT.
 * @policy: in: VIRGO_POLICY_, how the node is chosen.
 * @node: in: for VIRGO_POLICY_NODE; out: the node that was chosen, with an error
 *	too; 0 where none was.
 * @name: in: address of the name.
 * @input: in: address of the input; may be zero if @input_length is.
 * @output: in: address of room for the output.
 * @name_length: in: bytes of the name, without a NUL.
 * @input_length: in: bytes of the input, up to almost 2 MiB.
 * @output_capacity: in: bytes of room.
 * @output_length: out: bytes of the output.
 * @timeout_ms: in: how long the function may take; 0 counts as 30000.
 * @reserved0: in: must be zero.
 * @elapsed_ns: out: how long it took, the way included; with an error too.
 * @reserved: in: must be zero.
 *
 * Errors: ENOENT no function of that name there; ENODEV no virgo-cpupool there;
 * EHOSTDOWN the node is down, or went down meanwhile; ETIMEDOUT; EMSGSIZE the
 * output is longer than its room; EINTR a signal came; and the function's own.
 */
struct virgo_cpupool_call {
	__u32 size;
	__u32 flags;
	__u32 policy;
	__u32 node;
	__u64 name;
	__u64 input;
	__u64 output;
	__u32 name_length;
	__u32 input_length;
	__u32 output_capacity;
	__u32 output_length;
	__u32 timeout_ms;
	__u32 reserved0;
	__u64 elapsed_ns;
	__u64 reserved[2];
};

/** In @flags of a function: it may sleep or compute for long. */
#define VIRGO_CPUPOOL_SLOW		(1U << 0)

/**
 * struct virgo_cpupool_function - a function, in a list.
 * @name: its name, padded with NULs.
 * @flags: VIRGO_CPUPOOL_SLOW.
 * @running: calls of it that are under way.
 * @calls: calls that have ended.
 * @failed: of those, with an error.
 * @busy_ns: how long they took together.
 */
struct virgo_cpupool_function {
	char name[VIRGO_CPUPOOL_NAME_LEN];
	__u32 flags;
	__u32 running;
	__u64 calls;
	__u64 failed;
	__u64 busy_ns;
};

/**
 * struct virgo_cpupool_list - the functions, programs or runs of a node.
 * @size: in: sizeof(struct virgo_cpupool_list).
 * @flags: in: must be zero.
 * @node: in: its number, or 0 for this one; out: its number.
 * @capacity: in: entries in the array.
 * @entries: in: address of an array of struct virgo_cpupool_function, or what the
 *	command says.
 * @count: out: how many there are. At most @capacity are stored.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 */
struct virgo_cpupool_list {
	__u32 size;
	__u32 flags;
	__u32 node;
	__u32 capacity;
	__u64 entries;
	__u32 count;
	__u32 reserved0;
	__u64 reserved[2];
};

/** Room for a program's name, padded with NULs, one at least. */
#define VIRGO_CPUPOOL_PROGRAM_LEN	32
/** Room for a program's path, likewise. */
#define VIRGO_CPUPOOL_PATH_LEN		224

/**
 * struct virgo_cpupool_program - a program that may be run.
 * @name: what callers name it by, beside its path.
 * @path: where it is: absolute, without symbolic links.
 * @uid: as which user; not 0.
 * @gid: as which group; not 0.
 * @time_ms: how long a run takes at most.
 * @processes: the most processes and threads of a run.
 * @memory: the most bytes of memory of a run.
 * @output: the most bytes of a run's output, and as many of error output.
 * @runs: out: how often it was started.
 * @reserved: must be zero.
 */
struct virgo_cpupool_program {
	char name[VIRGO_CPUPOOL_PROGRAM_LEN];
	char path[VIRGO_CPUPOOL_PATH_LEN];
	__u32 uid;
	__u32 gid;
	__u32 time_ms;
	__u32 processes;
	__u64 memory;
	__u64 output;
	__u64 runs;
	__u64 reserved;
};

/**
 * struct virgo_cpupool_set - say which programs may be run on this node.
 * @size: in: sizeof(struct virgo_cpupool_set).
 * @flags: in: must be zero.
 * @count: in: how many programs, 256 at most; 0: none any more.
 * @at_once: in: the most runs at once, 1 to 256.
 * @entries: in: address of an array of struct virgo_cpupool_program.
 * @group: in: address of the path of a folder of control groups (version 2), in
 *	which there are groups called 0, 1 and so on to @at_once - 1, with memory
 *	and pids controllers.
 * @group_length: in: its length in bytes, without a NUL; 255 at most.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 *
 * For CAP_SYS_ADMIN. Errors: EPERM; EINVAL an entry that cannot be, or two with
 * the same name or path; ENOKEY a user who has not lent credentials
 * (VIRGO_CPUPOOL_IOC_LEND); ENOENT, ENOTDIR or EACCES the groups or their files;
 * EOPNOTSUPP no control group, or the kernel runs no programs
 * (CONFIG_STATIC_USERMODEHELPER); EBUSY another group, while programs run.
 */
struct virgo_cpupool_set {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 at_once;
	__u64 entries;
	__u64 group;
	__u32 group_length;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct virgo_cpupool_lend - lend one's credentials.
 * @size: in: sizeof(struct virgo_cpupool_lend).
 * @flags: in: must be zero.
 * @reserved: in: must be zero.
 *
 * Programs can be run as a user only once a process of that user has done this:
 * what they use is counted for it. Errors: EINVAL root, or another user
 * namespace than the first; ENOSPC more than 64 users.
 */
struct virgo_cpupool_lend {
	__u32 size;
	__u32 flags;
	__u64 reserved;
};

/**
 * struct virgo_cpupool_start - start a program.
 * @size: in: sizeof(struct virgo_cpupool_start).
 * @flags: in: must be zero.
 * @policy: in: VIRGO_POLICY_, how the node is chosen.
 * @node: in: for VIRGO_POLICY_NODE; out: the node that was chosen, with an error
 *	too; 0 where none was.
 * @arguments: in: address of the arguments, each with a NUL behind it; the first
 *	is the program, by its name in the node's table or by its path.
 * @input: in: address of its standard input; may be zero if @input_length is.
 * @arguments_length: in: bytes of the arguments, 131072 at most; 1024 arguments.
 * @input_length: in: bytes of the input.
 * @time_ms: in: how long it may run; 0: as the table says, which is never
 *	exceeded, as with the next three.
 * @processes: in: the most processes and threads.
 * @memory: in: the most bytes of memory.
 * @output: in: the most bytes of output, and as many of error output.
 * @id: out: the run's number, for VIRGO_CPUPOOL_IOC_FOLLOW.
 * @reserved: in: must be zero.
 *
 * A run that nobody has followed for ten seconds is killed.
 *
 * Errors: EOPNOTSUPP no programs are set up there; EACCES it is not in the table;
 * EPERM, ELOOP, ENOENT what is there is not what may be run; EBUSY as many run as
 * may; EMSGSIZE the input and the arguments are too long; ENODEV no virgo-cpupool
 * there; EHOSTDOWN, ETIMEDOUT the node.
 */
struct virgo_cpupool_start {
	__u32 size;
	__u32 flags;
	__u32 policy;
	__u32 node;
	__u64 arguments;
	__u64 input;
	__u32 arguments_length;
	__u32 input_length;
	__u32 time_ms;
	__u32 processes;
	__u64 memory;
	__u64 output;
	__u64 id;
	__u64 reserved[2];
};

/**
 * struct virgo_cpupool_follow - see how a run goes on.
 * @size: in: sizeof(struct virgo_cpupool_follow).
 * @flags: in: must be zero.
 * @node: in: the node that it runs on, or 0 for this one.
 * @wait_ms: in: how long to wait for something new; never longer than a second.
 * @id: in: the run's number.
 * @out_at: in: how much of its output is known.
 * @err_at: in: how much of its error output is known.
 * @out: in: address of room for output.
 * @err: in: address of room for error output.
 * @capacity: in: bytes of room there, in each.
 * @reserved0: in: must be zero.
 * @out_length: out: bytes of output.
 * @err_length: out: bytes of error output.
 * @state: out: 1 it runs, 2 it has ended, 3 it could not be run.
 * @status: out: as wait(2) has it; where it could not be run, the errno.
 * @reason: out: why it was killed: 0 it was not, 1 its time was over, 2 somebody
 *	asked for it, 3 nobody asked about it, 4 the module was unloaded.
 * @more: out: there was not room for all of the output; ask again.
 * @elapsed_ns: out: how long it runs or ran.
 * @user_ns: out: once it has ended, processor time in user mode of all its
 *	processes.
 * @system_ns: out: likewise in the kernel.
 * @peak_bytes: out: likewise the most memory that they took together.
 * @reserved: in: must be zero.
 *
 * Errors: ESRCH no such run (any more); EINTR a signal came; those of the node.
 */
struct virgo_cpupool_follow {
	__u32 size;
	__u32 flags;
	__u32 node;
	__u32 wait_ms;
	__u64 id;
	__u64 out_at;
	__u64 err_at;
	__u64 out;
	__u64 err;
	__u32 capacity;
	__u32 reserved0;
	__u32 out_length;
	__u32 err_length;
	__u32 state;
	__u32 status;
	__u32 reason;
	__u32 more;
	__u64 elapsed_ns;
	__u64 user_ns;
	__u64 system_ns;
	__u64 peak_bytes;
	__u64 reserved[2];
};

/**
 * struct virgo_cpupool_kill - kill a run, with all its processes.
 * @size: in: sizeof(struct virgo_cpupool_kill).
 * @flags: in: must be zero.
 * @node: in: the node that it runs on, or 0 for this one.
 * @reserved0: in: must be zero.
 * @id: in: the run's number.
 * @reserved: in: must be zero.
 */
struct virgo_cpupool_kill {
	__u32 size;
	__u32 flags;
	__u32 node;
	__u32 reserved0;
	__u64 id;
	__u64 reserved;
};

/**
 * struct virgo_cpupool_run - a run, in a list.
 * @id: its number.
 * @elapsed_ns: how long it runs or ran.
 * @out_bytes: bytes of output so far.
 * @err_bytes: bytes of error output so far.
 * @uid: as which user.
 * @state: as in struct virgo_cpupool_follow.
 * @reason: likewise.
 * @reserved: zero.
 * @name: the program's name.
 */
struct virgo_cpupool_run {
	__u64 id;
	__u64 elapsed_ns;
	__u64 out_bytes;
	__u64 err_bytes;
	__u32 uid;
	__u32 state;
	__u32 reason;
	__u32 reserved;
	char name[VIRGO_CPUPOOL_PROGRAM_LEN];
};

#define VIRGO_CPUPOOL_IOC_CALL	_IOWR(VIRGO_IOC_MAGIC, 0x10, struct virgo_cpupool_call)
#define VIRGO_CPUPOOL_IOC_LIST	_IOWR(VIRGO_IOC_MAGIC, 0x11, struct virgo_cpupool_list)
#define VIRGO_CPUPOOL_IOC_SET	_IOWR(VIRGO_IOC_MAGIC, 0x12, struct virgo_cpupool_set)
/** The programs of a node, as an array of struct virgo_cpupool_program. */
#define VIRGO_CPUPOOL_IOC_PROGRAMS	_IOWR(VIRGO_IOC_MAGIC, 0x13, struct virgo_cpupool_list)
#define VIRGO_CPUPOOL_IOC_START	_IOWR(VIRGO_IOC_MAGIC, 0x14, struct virgo_cpupool_start)
#define VIRGO_CPUPOOL_IOC_FOLLOW	_IOWR(VIRGO_IOC_MAGIC, 0x15, struct virgo_cpupool_follow)
#define VIRGO_CPUPOOL_IOC_KILL	_IOWR(VIRGO_IOC_MAGIC, 0x16, struct virgo_cpupool_kill)
/** The runs of a node, as an array of struct virgo_cpupool_run. */
#define VIRGO_CPUPOOL_IOC_RUNS	_IOWR(VIRGO_IOC_MAGIC, 0x17, struct virgo_cpupool_list)
#define VIRGO_CPUPOOL_IOC_LEND	_IOWR(VIRGO_IOC_MAGIC, 0x18, struct virgo_cpupool_lend)

/* --------------------------------------------------------------- mempool */

/** The memory pool's own device: the same commands, plus mmap and poll of shared namespaces. */
#define VIRGO_MEMPOOL_DEVICE	"/dev/virgo-mempool"

/** Longest key, in bytes. A key has at least one byte; any byte may be in it. */
#define VIRGO_MEM_KEY_MAX		250
/** Longest block, in bytes. */
#define VIRGO_MEM_BLOCK_MAX		(64ULL << 20)

/**
 * In @node of a request: the node is left to us. A block is then laid on this
 * node, or where @policy says; a named value on the node that owns its key.
 */
#define VIRGO_MEM_NODE_ANY		0

/**
 * struct virgo_vuid - the handle of a block.
 * @word: opaque: which node, slot, generation, and a random tag. A handle that
 *	was made up, or whose block was freed, is ESTALE, never other memory.
 *
 * As text: 32 hexadecimal digits, @word[0] first, most significant digit first.
 */
struct virgo_vuid {
	__u64 word[2];
};

/** In @flags of virgo_mem_malloc: lay the block in chunks over the nodes in turn. */
#define VIRGO_MEM_F_STRIPE		(1U << 0)
/** In @flags of virgo_mem_malloc: by @policy, not on this node. */
#define VIRGO_MEM_F_POLICY		(1U << 1)

/** @policy: as the balancer's setting says. */
#define VIRGO_MEM_POLICY_DEFAULT	0
/** @policy: the node with the least load. */
#define VIRGO_MEM_POLICY_LEAST_LOADED	1
/** @policy: any node, by chance. */
#define VIRGO_MEM_POLICY_RANDOM		2
/** @policy: the lesser loaded of two by chance. */
#define VIRGO_MEM_POLICY_TWO_CHOICES	3

/**
 * struct virgo_mem_malloc - make a block (VIRGO_MEM_IOC_MALLOC).
 * @size: in: sizeof(struct virgo_mem_malloc).
 * @flags: in: VIRGO_MEM_F_STRIPE, VIRGO_MEM_F_POLICY.
 * @length: in: bytes, 1 to VIRGO_MEM_BLOCK_MAX; they read as zeros.
 * @node: in: the node to lay it on, or VIRGO_MEM_NODE_ANY; out: where it is.
 * @policy: in: VIRGO_MEM_POLICY_x, if F_POLICY is given and @node is ANY.
 * @chunk: in: bytes of a chunk with F_STRIPE, a multiple of 4096; 0: 65536.
 * @reserved0: in: must be zero.
 * @vuid: out: the handle.
 * @reserved: in: must be zero.
 *
 * Errors: EFBIG longer than VIRGO_MEM_BLOCK_MAX; ENOSPC the limit on memory of
 * blocks (block_limit), or on their number (max_blocks), is reached; ENOMEM;
 * ENOENT there is no such node; EHOSTDOWN, ETIMEDOUT, ENOTCONN the other node.
 */
struct virgo_mem_malloc {
	__u32 size;
	__u32 flags;
	__u64 length;
	__u32 node;
	__u32 policy;
	__u32 chunk;
	__u32 reserved0;
	struct virgo_vuid vuid;
	__u64 reserved[2];
};

/**
 * struct virgo_mem_io - write or read a block (VIRGO_MEM_IOC_SET, _GET).
 * @size: in: sizeof(struct virgo_mem_io).
 * @flags: in: must be zero.
 * @vuid: in: the block.
 * @offset: in: first byte.
 * @length: in: bytes to copy; out: bytes copied.
 * @address: in: the caller's memory.
 * @block_length: out: bytes of the block.
 * @node: in: must be zero; out: with an error of another node, which one.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 *
 * GET copies up to the block's end and says in @length how much it was. SET past
 * the end is ERANGE and writes nothing; GET with @offset past the end is ERANGE.
 * Errors: ESTALE no such block, or no such node; EHOSTDOWN, ETIMEDOUT its node.
 */
struct virgo_mem_io {
	__u32 size;
	__u32 flags;
	struct virgo_vuid vuid;
	__u64 offset;
	__u64 length;
	__u64 address;
	__u64 block_length;
	__u32 node;
	__u32 reserved0;
	__u64 reserved;
};

/**
 * struct virgo_mem_free - give a block back (VIRGO_MEM_IOC_FREE).
 * @size: in: sizeof(struct virgo_mem_free).
 * @flags: in: must be zero.
 * @vuid: in: the block. ESTALE if it is none.
 * @reserved: in: must be zero.
 *
 * Errors: EHOSTDOWN, ETIMEDOUT its node; from a block in chunks, which is gone
 * then, the node of a part that could not be freed.
 */
struct virgo_mem_free {
	__u32 size;
	__u32 flags;
	struct virgo_vuid vuid;
	__u64 reserved[2];
};

/**
 * struct virgo_mem_block - one block, in a list.
 * @vuid: its handle.
 * @length: its bytes.
 * @created_ns: CLOCK_MONOTONIC when it was made.
 * @flags: VIRGO_MEM_F_STRIPE.
 * @uid: who made it, in the caller's user namespace; over the network 0xffffffff.
 * @pid: the process that made it, in the initial pid namespace; over the network 0.
 * @node: where it is.
 */
struct virgo_mem_block {
	struct virgo_vuid vuid;
	__u64 length;
	__u64 created_ns;
	__u32 flags;
	__u32 uid;
	__u32 pid;
	__u32 node;
};

/**
 * struct virgo_mem_list - this node's blocks (VIRGO_MEM_IOC_LIST).
 * @size: in: sizeof(struct virgo_mem_list).
 * @flags: in: must be zero.
 * @entries: in: address of an array of struct virgo_mem_block; may be zero if
 *	@capacity is.
 * @capacity: in: entries in the array.
 * @count: out: how many blocks there are. At most @capacity are stored.
 * @reserved: in: must be zero.
 */
struct virgo_mem_list {
	__u32 size;
	__u32 flags;
	__u64 entries;
	__u32 capacity;
	__u32 count;
	__u64 reserved[2];
};

/**
 * struct virgo_mem_stat - what this node holds and did (VIRGO_MEM_IOC_STAT).
 * @size: in: sizeof(struct virgo_mem_stat).
 * @flags: in: must be zero.
 * @node: out: this node's number; 0 without a cluster.
 * @connections: out: connections now.
 * @blocks: out: blocks now.
 * @block_bytes: out: memory that they take, everything included.
 * @block_limit: out: bound of @block_bytes.
 * @blocks_made: out: blocks made so far.
 * @items: out: named values now.
 * @item_bytes: out: memory in use for them, everything included.
 * @held_bytes: out: memory taken from the system for named values: @item_bytes
 *	and what is free in between.
 * @memory_limit: out: bound of @held_bytes.
 * @items_made: out: named values stored so far.
 * @gets: out: look-ups.
 * @hits: out: look-ups that found the value.
 * @sets: out: requests to store.
 * @deletes: out: values deleted on request.
 * @expired: out: values whose time ran out.
 * @evicted: out: values given up for the room they took.
 * @shrunk: out: values given up since the host needed memory.
 * @shares: out: shared namespaces.
 * @share_bytes: out: memory of their tables.
 * @connections_made: out: connections so far.
 * @connections_refused: out: connections turned away.
 * @start_ns: out: CLOCK_MONOTONIC when the module was loaded.
 * @reserved: in: must be zero.
 */
struct virgo_mem_stat {
	__u32 size;
	__u32 flags;
	__u32 node;
	__u32 connections;
	__u64 blocks;
	__u64 block_bytes;
	__u64 block_limit;
	__u64 blocks_made;
	__u64 items;
	__u64 item_bytes;
	__u64 held_bytes;
	__u64 memory_limit;
	__u64 items_made;
	__u64 gets;
	__u64 hits;
	__u64 sets;
	__u64 deletes;
	__u64 expired;
	__u64 evicted;
	__u64 shrunk;
	__u64 shares;
	__u64 share_bytes;
	__u64 connections_made;
	__u64 connections_refused;
	__u64 start_ns;
	__u64 reserved[4];
};

/** @mode: store it, whether the key is there or not. */
#define VIRGO_MEM_PUT_SET		0
/** @mode: only if the key is not there, else EEXIST. */
#define VIRGO_MEM_PUT_ADD		1
/** @mode: only if the key is there, else ENOENT. */
#define VIRGO_MEM_PUT_REPLACE		2
/** @mode: behind what is there; ENOENT if nothing is. Keeps flags and time. */
#define VIRGO_MEM_PUT_APPEND		3
/** @mode: before what is there; ENOENT if nothing is. Keeps flags and time. */
#define VIRGO_MEM_PUT_PREPEND		4
/**
 * @mode: only if the value's number is still @cas, else ESTALE; ENOENT if the
 * key is not there.
 */
#define VIRGO_MEM_PUT_CAS		5

/** In @flags of a request on a named value: here, whichever node owns the key. */
#define VIRGO_MEM_F_LOCAL		(1U << 2)

/**
 * struct virgo_mem_put - store a named value (VIRGO_MEM_IOC_PUT).
 * @size: in: sizeof(struct virgo_mem_put).
 * @flags: in: 0 or VIRGO_MEM_F_LOCAL.
 * @key: in: address of the key.
 * @value: in: address of the value; may be zero if @value_len is.
 * @key_len: in: bytes of the key, 1 to VIRGO_MEM_KEY_MAX.
 * @value_len: in: bytes of the value.
 * @item_flags: in: the user's own flags, kept with the value.
 * @mode: in: VIRGO_MEM_PUT_x.
 * @exptime: in: as memcached's: 0 never; up to 2592000 (30 days) seconds from
 *	now; greater, seconds of Unix time; negative, at once.
 * @cas: in: with PUT_CAS the number to compare with, else zero; out: the value's
 *	number, unique on its node, changed by each change of the value.
 * @node: in: the node, or VIRGO_MEM_NODE_ANY; out: who keeps it.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 *
 * Errors: EINVAL no key; ENAMETOOLONG key over VIRGO_MEM_KEY_MAX; EFBIG the item
 * is larger than item_max; ENOMEM memory_limit is reached and nothing can be
 * given up; by @mode EEXIST, ENOENT, ESTALE; EHOSTDOWN, ETIMEDOUT, ENOTCONN.
 */
struct virgo_mem_put {
	__u32 size;
	__u32 flags;
	__u64 key;
	__u64 value;
	__u32 key_len;
	__u32 value_len;
	__u32 item_flags;
	__u32 mode;
	__s64 exptime;
	__u64 cas;
	__u32 node;
	__u32 reserved0;
	__u64 reserved[2];
};

/** In @flags of virgo_mem_take: give the value the new time @exptime as well. */
#define VIRGO_MEM_F_TOUCH		(1U << 3)

/**
 * struct virgo_mem_take - fetch a named value (VIRGO_MEM_IOC_TAKE). It stays.
 * @size: in: sizeof(struct virgo_mem_take).
 * @flags: in: VIRGO_MEM_F_LOCAL, VIRGO_MEM_F_TOUCH.
 * @key: in: address of the key.
 * @value: in: address of room for the value; may be zero if @capacity is.
 * @key_len: in: bytes of the key.
 * @capacity: in: bytes of room.
 * @value_len: out: bytes of the value.
 * @item_flags: out: the user's own flags.
 * @exptime: in: with F_TOUCH as in &virgo_mem_put.exptime, else zero; out:
 *	seconds left, -1 if it stays for ever.
 * @cas: out: the value's number.
 * @node: in: the node, or VIRGO_MEM_NODE_ANY; out: who keeps it.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 *
 * Errors: ENOENT; EMSGSIZE the value is longer than @capacity (the out fields
 * are filled in, nothing is stored at @value); else as VIRGO_MEM_IOC_PUT.
 */
struct virgo_mem_take {
	__u32 size;
	__u32 flags;
	__u64 key;
	__u64 value;
	__u32 key_len;
	__u32 capacity;
	__u32 value_len;
	__u32 item_flags;
	__s64 exptime;
	__u64 cas;
	__u32 node;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct virgo_mem_drop - delete a named value (VIRGO_MEM_IOC_DROP).
 * @size: in: sizeof(struct virgo_mem_drop).
 * @flags: in: 0 or VIRGO_MEM_F_LOCAL.
 * @key: in: address of the key.
 * @key_len: in: bytes of the key.
 * @node: in: the node, or VIRGO_MEM_NODE_ANY; out: who kept it.
 * @cas: in: only if this is the value's number, else ESTALE; 0: any.
 * @reserved: in: must be zero.
 */
struct virgo_mem_drop {
	__u32 size;
	__u32 flags;
	__u64 key;
	__u32 key_len;
	__u32 node;
	__u64 cas;
	__u64 reserved[2];
};

/** In @flags of virgo_mem_count: take away instead of add; not below 0. */
#define VIRGO_MEM_F_DECREMENT		(1U << 4)
/** In @flags of virgo_mem_count: a key that is not there is made with @initial. */
#define VIRGO_MEM_F_CREATE		(1U << 5)

/**
 * struct virgo_mem_count - add to a named number (VIRGO_MEM_IOC_COUNT).
 * @size: in: sizeof(struct virgo_mem_count).
 * @flags: in: VIRGO_MEM_F_LOCAL, VIRGO_MEM_F_DECREMENT, VIRGO_MEM_F_CREATE.
 * @key: in: address of the key.
 * @key_len: in: bytes of the key.
 * @node: in: the node, or VIRGO_MEM_NODE_ANY; out: who keeps it.
 * @delta: in: how much. Past 2^64-1 it starts again from 0.
 * @initial: in: with F_CREATE the first value, else zero.
 * @exptime: in: with F_CREATE as in &virgo_mem_put.exptime, else zero.
 * @value: out: the number now.
 * @cas: out: the value's number.
 * @reserved: in: must be zero.
 *
 * Errors: ENOENT; EDOM the value is not a decimal number of 64 bits; else as PUT.
 */
struct virgo_mem_count {
	__u32 size;
	__u32 flags;
	__u64 key;
	__u32 key_len;
	__u32 node;
	__u64 delta;
	__u64 initial;
	__s64 exptime;
	__u64 value;
	__u64 cas;
	__u64 reserved[2];
};

/** In @flags of virgo_mem_scan: records without their values. */
#define VIRGO_MEM_F_KEYS_ONLY		(1U << 6)

/**
 * struct virgo_mem_record - head of one named value, in a scan.
 * @length: bytes to the next record, a multiple of eight.
 * @key_len: bytes of the key, which follow this head.
 * @value_len: bytes of the value, which follow the key (not with F_KEYS_ONLY).
 * @item_flags: the user's own flags.
 * @expires: seconds of Unix time; 0: never.
 * @cas: the value's number.
 */
struct virgo_mem_record {
	__u32 length;
	__u32 key_len;
	__u32 value_len;
	__u32 item_flags;
	__s64 expires;
	__u64 cas;
};

/**
 * struct virgo_mem_scan - this node's named values (VIRGO_MEM_IOC_SCAN).
 * @size: in: sizeof(struct virgo_mem_scan).
 * @flags: in: 0 or VIRGO_MEM_F_KEYS_ONLY.
 * @buffer: in: address of room for records, aligned to eight.
 * @capacity: in: bytes of room.
 * @used: out: bytes stored.
 * @cursor: in: 0 to begin, else what the call before returned; out: where to go
 *	on, 0 at the end.
 * @count: out: records stored.
 * @needed: out: with EMSGSIZE, the room that the next record takes.
 * @reserved: in: must be zero.
 *
 * A value that stays during the scan is told at least once; more often only where
 * the table grows or shrinks meanwhile. One that comes or goes may be told or not.
 * Errors: EMSGSIZE not even one record fits.
 */
struct virgo_mem_scan {
	__u32 size;
	__u32 flags;
	__u64 buffer;
	__u32 capacity;
	__u32 used;
	__u64 cursor;
	__u32 count;
	__u32 needed;
	__u64 reserved[2];
};

/**
 * struct virgo_mem_flush - forget all named values here (VIRGO_MEM_IOC_FLUSH).
 * @size: in: sizeof(struct virgo_mem_flush).
 * @flags: in: must be zero.
 * @delay_s: in: seconds from now; what is stored before that is then forgotten.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 */
struct virgo_mem_flush {
	__u32 size;
	__u32 flags;
	__u32 delay_s;
	__u32 reserved0;
	__u64 reserved[2];
};

/** In @flags of virgo_mem_settings: set @memory_limit. */
#define VIRGO_MEM_SET_MEMORY_LIMIT	(1U << 0)
/** In @flags of virgo_mem_settings: set @item_max. */
#define VIRGO_MEM_SET_ITEM_MAX		(1U << 1)
/** In @flags of virgo_mem_settings: set @block_limit. */
#define VIRGO_MEM_SET_BLOCK_LIMIT	(1U << 2)
/** In @flags of virgo_mem_settings: set @evict. */
#define VIRGO_MEM_SET_EVICT		(1U << 3)
/** In @flags of virgo_mem_settings: set @max_blocks. */
#define VIRGO_MEM_SET_MAX_BLOCKS	(1U << 4)

/**
 * struct virgo_mem_settings - read and set bounds (VIRGO_MEM_IOC_SETTINGS).
 * @size: in: sizeof(struct virgo_mem_settings).
 * @flags: in: VIRGO_MEM_SET_x for each field to set; 0: only read.
 * @memory_limit: in, out: most memory for named values. Lowering it gives
 *	values up at once.
 * @item_max: in, out: most bytes of an item: key, value and 50 bytes of its own.
 *	1024 to 67108864.
 * @evict: in, out: 1: give up the values that were not used for longest when
 *	there is no room; 0: ENOMEM ("out of memory storing object").
 * @block_limit: in, out: most memory for blocks.
 * @max_blocks: in, out: most blocks.
 * @idle_ms: out: a connection without a request for this long is closed; 0: none.
 * @max_connections: out: most connections.
 * @port: out: the TCP port; 0: none.
 * @reserved: in: must be zero.
 *
 * Setting needs CAP_SYS_ADMIN, else EPERM. ERANGE for a value out of bounds.
 */
struct virgo_mem_settings {
	__u32 size;
	__u32 flags;
	__u64 memory_limit;
	__u64 block_limit;
	__u32 item_max;
	__u32 evict;
	__u32 max_blocks;
	__u32 idle_ms;
	__u32 max_connections;
	__u32 port;
	__u64 reserved[2];
};

/*
 * A shared namespace: all named values whose key begins with a prefix, shown as
 * a table that programs map and read without a system call.
 *
 * open(VIRGO_MEMPOOL_DEVICE), VIRGO_MEM_IOC_SHARE on that descriptor, then
 * mmap(map_bytes, PROT_READ, MAP_SHARED, offset 0). One descriptor, one namespace.
 *
 * The table is a page of struct virgo_mem_table, then @slots slots of @slot_size
 * bytes. To look up a key k of n bytes:
 *
 *   h = @seed ^ (n * VIRGO_MEM_HASH_1)
 *   for each eight bytes w of k as a little-endian number, the last ones padded
 *   with zeros:
 *       h = (h ^ w) * VIRGO_MEM_HASH_2;  h = h ^ (h >> 32)
 *   if h is 0, h = 1                     (all modulo 2^64)
 *
 * The value can only be in the slots (h + i) % @slots, i from 0 to
 * VIRGO_MEM_WINDOW - 1. For each of these:
 *
 *   1. load @seq (acquire); odd: it is being written, begin with 1 again.
 *   2. if @hash is not h, it is another slot's turn.
 *   3. copy what is wanted: cas, flags, expire, lengths, key, value.
 *   4. fence (acquire), load @seq again; changed: begin with 1 again.
 *   5. if the key is another, it is another slot's turn; if @expire is not 0 and
 *      not greater than the header's @clock_s, the value is gone: a miss.
 *
 * Lengths are only to be trusted after step 4; bound them by @slot_size before.
 * The key is behind the slot's head, padded with zeros to a multiple of eight;
 * the value is behind the key, if it fits in the slot. If it does not,
 * VIRGO_MEM_IOC_TAKE has it.
 * A key that was found in no slot is not there, if the header's @hidden is 0; else
 * the table had no room for some values, and VIRGO_MEM_IOC_TAKE knows. A reader
 * that had to begin again too often may ask there as well: writers never wait.
 */

/** "VMEM" as a little-endian number. */
#define VIRGO_MEM_TABLE_MAGIC		0x4d454d56
/** Version of the table's layout. */
#define VIRGO_MEM_TABLE_LAYOUT		1
/** Bytes in front of the first slot. */
#define VIRGO_MEM_TABLE_HEADER_SIZE	4096
/** Slots in which a key can be. */
#define VIRGO_MEM_WINDOW		8
/** First number of the hash. */
#define VIRGO_MEM_HASH_1		0x9e3779b97f4a7c15ULL
/** Second number of the hash. */
#define VIRGO_MEM_HASH_2		0xd6e8feb86659fd93ULL
/** Least bytes of a slot, which are a power of two. */
#define VIRGO_MEM_SLOT_MIN		64
/** Most bytes of a slot. */
#define VIRGO_MEM_SLOT_MAX		65536
/** Fewest slots of a table, which are a power of two. */
#define VIRGO_MEM_SLOTS_MIN		8
/** Most slots of a table. */
#define VIRGO_MEM_SLOTS_MAX		4194304

/**
 * struct virgo_mem_table - the first page of a mapped namespace.
 * @magic: VIRGO_MEM_TABLE_MAGIC.
 * @layout: VIRGO_MEM_TABLE_LAYOUT.
 * @header_size: where slot 0 begins, in bytes.
 * @slot_size: bytes of a slot.
 * @slots: how many there are.
 * @seed: for the hash.
 * @changes: grows by one with each change of a value in the namespace.
 * @items: values in the table.
 * @hidden: values of the namespace that had no place in the table.
 * @clock_s: the store's clock, in seconds, for @expire of a slot.
 * @closed: 1 once the table is not kept up to date any more: the namespace was
 *	taken down, or the module is going.
 * @prefix_len: bytes of the prefix.
 * @reserved0: zero.
 * @prefix: the bytes of the prefix in the order of memory; the rest is zero.
 */
struct virgo_mem_table {
	__u32 magic;
	__u32 layout;
	__u32 header_size;
	__u32 slot_size;
	__u64 slots;
	__u64 seed;
	__u64 changes;
	__u64 items;
	__u64 hidden;
	__u32 clock_s;
	__u32 closed;
	__u32 prefix_len;
	__u32 reserved0;
	__u64 prefix[32];
};

/**
 * struct virgo_mem_slot - head of a slot.
 * @seq: odd while the slot is being written; else even, and grown by two or
 *	more since another content.
 * @hash: of the key; 0: the slot is empty.
 * @cas: the value's number.
 * @item_flags: the user's own flags.
 * @expire: when the value is gone, by the header's @clock_s; 0: never.
 * @key_len: bytes of the key.
 * @value_len: bytes of the value.
 */
struct virgo_mem_slot {
	__u64 seq;
	__u64 hash;
	__u64 cas;
	__u32 item_flags;
	__u32 expire;
	__u32 key_len;
	__u32 value_len;
};

/** In @flags of virgo_mem_share: make the namespace if it is not there. */
#define VIRGO_MEM_SHARE_CREATE		(1U << 0)
/** In @flags of virgo_mem_share: take the namespace down; mappings stay, closed. */
#define VIRGO_MEM_SHARE_REMOVE		(1U << 1)

/**
 * struct virgo_mem_share - bind this descriptor to a namespace (VIRGO_MEM_IOC_SHARE).
 * @size: in: sizeof(struct virgo_mem_share).
 * @flags: in: VIRGO_MEM_SHARE_CREATE or _REMOVE; 0: it must be there.
 * @prefix: in: address of the prefix of the keys.
 * @prefix_len: in: its bytes, 1 to VIRGO_MEM_KEY_MAX.
 * @slot_size: in: with CREATE bytes of a slot, 0: 256; out: as it is.
 * @slots: in: with CREATE slots of the table, 0: 4096; out: as it is.
 * @map_bytes: out: length to give to mmap().
 * @changes: out: as in the table; this descriptor has seen these.
 * @reserved: in: must be zero.
 *
 * Making and taking down need CAP_SYS_ADMIN, else EPERM. Errors: ENOENT; EEXIST
 * with CREATE if it is there with another slot_size or slots (0 agrees with any),
 * or if its prefix begins with another namespace's or that with it; ENOSPC the
 * limit on memory for tables (share_limit) or on namespaces (64) is reached;
 * EINVAL on VIRGO_DEVICE without REMOVE.
 */
struct virgo_mem_share {
	__u32 size;
	__u32 flags;
	__u64 prefix;
	__u32 prefix_len;
	__u32 slot_size;
	__u64 slots;
	__u64 map_bytes;
	__u64 changes;
	__u64 reserved[2];
};

/**
 * struct virgo_mem_seen - tell poll() how far this reader has come (VIRGO_MEM_IOC_SEEN).
 * @size: in: sizeof(struct virgo_mem_seen).
 * @flags: in: must be zero.
 * @changes: in: the table's @changes; poll() on this descriptor reports POLLIN while
 *	the table's is greater. Greater than the table's: EINVAL.
 *
 * Only on VIRGO_MEMPOOL_DEVICE after VIRGO_MEM_IOC_SHARE; EINVAL else.
 */
struct virgo_mem_seen {
	__u32 size;
	__u32 flags;
	__u64 changes;
};

#define VIRGO_MEM_IOC_MALLOC	_IOWR(VIRGO_IOC_MAGIC, 0x20, struct virgo_mem_malloc)
#define VIRGO_MEM_IOC_SET	_IOWR(VIRGO_IOC_MAGIC, 0x21, struct virgo_mem_io)
#define VIRGO_MEM_IOC_GET	_IOWR(VIRGO_IOC_MAGIC, 0x22, struct virgo_mem_io)
#define VIRGO_MEM_IOC_FREE	_IOWR(VIRGO_IOC_MAGIC, 0x23, struct virgo_mem_free)
#define VIRGO_MEM_IOC_LIST	_IOWR(VIRGO_IOC_MAGIC, 0x24, struct virgo_mem_list)
#define VIRGO_MEM_IOC_STAT	_IOWR(VIRGO_IOC_MAGIC, 0x25, struct virgo_mem_stat)
#define VIRGO_MEM_IOC_PUT	_IOWR(VIRGO_IOC_MAGIC, 0x26, struct virgo_mem_put)
#define VIRGO_MEM_IOC_TAKE	_IOWR(VIRGO_IOC_MAGIC, 0x27, struct virgo_mem_take)
#define VIRGO_MEM_IOC_DROP	_IOWR(VIRGO_IOC_MAGIC, 0x28, struct virgo_mem_drop)
#define VIRGO_MEM_IOC_COUNT	_IOWR(VIRGO_IOC_MAGIC, 0x29, struct virgo_mem_count)
#define VIRGO_MEM_IOC_SCAN	_IOWR(VIRGO_IOC_MAGIC, 0x2a, struct virgo_mem_scan)
#define VIRGO_MEM_IOC_FLUSH	_IOWR(VIRGO_IOC_MAGIC, 0x2b, struct virgo_mem_flush)
#define VIRGO_MEM_IOC_SETTINGS	_IOWR(VIRGO_IOC_MAGIC, 0x2c, struct virgo_mem_settings)
#define VIRGO_MEM_IOC_SHARE	_IOWR(VIRGO_IOC_MAGIC, 0x2d, struct virgo_mem_share)
#define VIRGO_MEM_IOC_SEEN	_IOWR(VIRGO_IOC_MAGIC, 0x2e, struct virgo_mem_seen)

/* --------------------------------------------------------------- cloudfs */

/** The device of virgo-cloudfs: handles belong to an open file of it. */
#define VIRGO_FS_DEVICE		"/dev/virgo-cloudfs"

/** Most bytes that one READ or WRITE moves. */
#define VIRGO_FS_IO_MAX		(1U << 20)

/** Longest path, in bytes. */
#define VIRGO_FS_PATH_MAX	4096

/**
 * struct virgo_fs_open - open a file below the served folder.
 * @size: in: sizeof(struct virgo_fs_open).
 * @flags: in: must be zero.
 * @path: in: address of the path; no NUL is needed. It is below the served
 *	folder, '..' does not lead out of that, and a symbolic link is ELOOP or
 *	ENOTDIR.
 * @path_len: in: its length, at most VIRGO_FS_PATH_MAX (ENAMETOOLONG).
 * @open_flags: in: as of open(2): the access mode, O_CREAT, O_EXCL, O_TRUNC,
 *	O_APPEND, O_SYNC, O_DSYNC, O_DIRECTORY, O_NOATIME. EINVAL for others.
 * @mode: in: permission bits of a new file, to which the umask applies.
 * @node: in: 0 or this node's number, this node; else another's number.
 * @handle: out: the open file, for this descriptor of VIRGO_FS_DEVICE alone; it
 *	carries its node, and is used there.
 *
 * With the caller's own rights; on another node with those of the user that
 * virgo-cloudfs has there for clients. ENODEV if nothing is served; EROFS if it
 * may not be changed; EMFILE, ENFILE past the limits. EHOSTUNREACH no such
 * node; then and at any later use of the handle EHOSTDOWN the node is down,
 * ETIMEDOUT it does not answer, ESTALE it has begun anew.
 */
struct virgo_fs_open {
	__u32 size;
	__u32 flags;
	__u64 path;
	__u32 path_len;
	__u32 open_flags;
	__u32 mode;
	__u32 node;
	__u64 handle;
};

/**
 * struct virgo_fs_io - read or write.
 * @size: in: sizeof(struct virgo_fs_io).
 * @flags: in: must be zero.
 * @handle: in: from OPEN. ESTALE if it has been closed, EBADF if it never was.
 * @data: in: address of the bytes.
 * @length: in: how many, at most VIRGO_FS_IO_MAX (EMSGSIZE); out: how many
 *	were read (fewer only where the file ends) or written.
 * @offset: in: where in the file; without effect when writing with O_APPEND.
 *	For TRUNCATE the new length, with @data and @length zero.
 */
struct virgo_fs_io {
	__u32 size;
	__u32 flags;
	__u64 handle;
	__u64 data;
	__u64 length;
	__u64 offset;
};

/** In @flags of virgo_fs_handle, for SYNC: the data alone, as fdatasync(2). */
#define VIRGO_FS_SYNC_DATA	(1U << 0)

/**
 * struct virgo_fs_handle - close, or bring to the disk.
 * @size: in: sizeof(struct virgo_fs_handle).
 * @flags: in: zero; for SYNC also VIRGO_FS_SYNC_DATA.
 * @handle: in: as in virgo_fs_io.
 */
struct virgo_fs_handle {
	__u32 size;
	__u32 flags;
	__u64 handle;
};

/**
 * struct virgo_fs_stat - what stat(2) tells of an open file.
 * @size: in: sizeof(struct virgo_fs_stat).
 * @flags: in: must be zero.
 * @handle: in: as in virgo_fs_io.
 * @ino: out: its number.
 * @nlink: out: names it has.
 * @bytes: out: its length.
 * @blocks: out: 512-byte blocks it takes.
 * @mtime_sec: out: when it was last written, seconds since 1970.
 * @mtime_nsec: out: and nanoseconds.
 * @mode: out: type and permission bits.
 * @uid: out: its owner, in the initial user namespace.
 * @gid: out: its group.
 */
struct virgo_fs_stat {
	__u32 size;
	__u32 flags;
	__u64 handle;
	__u64 ino;
	__u64 nlink;
	__u64 bytes;
	__u64 blocks;
	__s64 mtime_sec;
	__u32 mtime_nsec;
	__u32 mode;
	__u32 uid;
	__u32 gid;
};

#define VIRGO_FS_IOC_OPEN	_IOWR(VIRGO_IOC_MAGIC, 0x30, struct virgo_fs_open)
#define VIRGO_FS_IOC_READ	_IOWR(VIRGO_IOC_MAGIC, 0x31, struct virgo_fs_io)
#define VIRGO_FS_IOC_WRITE	_IOWR(VIRGO_IOC_MAGIC, 0x32, struct virgo_fs_io)
#define VIRGO_FS_IOC_CLOSE	_IOWR(VIRGO_IOC_MAGIC, 0x33, struct virgo_fs_handle)
#define VIRGO_FS_IOC_SYNC	_IOWR(VIRGO_IOC_MAGIC, 0x34, struct virgo_fs_handle)
#define VIRGO_FS_IOC_STAT	_IOWR(VIRGO_IOC_MAGIC, 0x35, struct virgo_fs_stat)
#define VIRGO_FS_IOC_TRUNCATE	_IOWR(VIRGO_IOC_MAGIC, 0x36, struct virgo_fs_io)
/*
 * READDIR fills the bytes with entries, each ino[8] offset[8] type[1] length[2]
 * and the name, little-endian; the offset of the last one is where to go on,
 * and 0 begins. No bytes: the end.
 */
#define VIRGO_FS_IOC_READDIR	_IOWR(VIRGO_IOC_MAGIC, 0x37, struct virgo_fs_io)

/* ----------------------------------------------------------------- queue */

/** The queue's device: the same commands; what a file takes is its own. */
#define VIRGO_QUEUE_DEVICE		"/dev/virgo-queue"
/** Room for a tube's name: 200 bytes, a NUL, and what keeps the layout even. */
#define VIRGO_QUEUE_NAME_LEN		208
/** In @timeout_ms: wait until there is one. */
#define VIRGO_QUEUE_FOREVER		0xffffffffU

/**
 * struct virgo_queue_put - put a request (VIRGO_QUEUE_IOC_PUT).
 * @size: in: sizeof(struct virgo_queue_put).
 * @flags: in: must be zero.
 * @body: in: address of the request.
 * @length: in: its length in bytes.
 * @pri: in: the smaller, the sooner; equal ones in the order of their numbers.
 * @delay: in: seconds until it is ready.
 * @ttr: in: seconds that who takes it has; 0 is taken as 1.
 * @id: out: its number.
 * @reserved: in: must be zero.
 * @tube: in: the tube's name, NUL behind it; empty is "default".
 *
 * With fsync=always it returns when the request is on the disk.
 *
 * Errors: E2BIG longer than the module's max_job_size; ENOSPC the tube or the
 * queue is full, or the log's disk; EBUSY the queue is draining; EINVAL no
 * name of a tube; EIO the log cannot be written; ENOMEM.
 */
struct virgo_queue_put {
	__u32 size;
	__u32 flags;
	__u64 body;
	__u32 length;
	__u32 pri;
	__u32 delay;
	__u32 ttr;
	__u64 id;
	__u64 reserved[2];
	char tube[VIRGO_QUEUE_NAME_LEN];
};

/** In @flags of a take: the request numbered @id, not the next of the tube. */
#define VIRGO_QUEUE_TAKE_ID		(1U << 0)

/**
 * struct virgo_queue_take - take a request (VIRGO_QUEUE_IOC_TAKE).
 * @size: in: sizeof(struct virgo_queue_take).
 * @flags: in: VIRGO_QUEUE_TAKE_ bits.
 * @body: in: address to store the request at.
 * @capacity: in: room there, in bytes.
 * @length: out: the request's length; with EMSGSIZE too.
 * @timeout_ms: in: how long to wait for one; 0: not at all. On VIRGO_DEVICE
 *	only 0, else EINVAL.
 * @pri: out: its priority.
 * @ttr: out: the seconds that the caller has.
 * @reserves: out: how often it has been taken, this time counted: with more
 *	than 1, somebody may have dealt with it before.
 * @id: in with VIRGO_QUEUE_TAKE_ID; out: its number.
 * @reserved: in: must be zero.
 * @tube: in: the tube to take from; empty is "default".
 *
 * A request that was taken through VIRGO_QUEUE_DEVICE goes back when the file
 * is closed; one taken through VIRGO_DEVICE, when its time is over.
 *
 * Errors: EAGAIN there is none (within the time); EMSGSIZE it is longer than
 * @capacity, and not taken; ENOENT none of that number that is not taken;
 * EBUSY another thread waits through this file; EIO the log cannot be written.
 */
struct virgo_queue_take {
	__u32 size;
	__u32 flags;
	__u64 body;
	__u32 capacity;
	__u32 length;
	__u32 timeout_ms;
	__u32 pri;
	__u32 ttr;
	__u32 reserves;
	__u64 id;
	__u64 reserved[2];
	char tube[VIRGO_QUEUE_NAME_LEN];
};

/**
 * enum virgo_queue_action - what becomes of a request.
 * @VIRGO_QUEUE_ACK: it is done with, and goes. One that nobody has taken too.
 * @VIRGO_QUEUE_RELEASE: it goes back, with this priority and delay.
 * @VIRGO_QUEUE_BURY: it is put aside, with this priority.
 * @VIRGO_QUEUE_TOUCH: the caller has all of its time again.
 * @VIRGO_QUEUE_KICK: a buried or delayed one becomes ready.
 */
enum virgo_queue_action {
	VIRGO_QUEUE_ACK		= 0,
	VIRGO_QUEUE_RELEASE	= 1,
	VIRGO_QUEUE_BURY	= 2,
	VIRGO_QUEUE_TOUCH	= 3,
	VIRGO_QUEUE_KICK	= 4,
};

/**
 * struct virgo_queue_done - say what becomes of a request (VIRGO_QUEUE_IOC_DONE).
 * @size: in: sizeof(struct virgo_queue_done).
 * @flags: in: must be zero.
 * @id: in: its number.
 * @action: in: enum virgo_queue_action.
 * @pri: in: its new priority, with RELEASE and BURY.
 * @delay: in: seconds until it is ready, with RELEASE.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 *
 * Errors: ENOENT there is none, or it is not the caller's; EINVAL an unknown
 * action; EIO the log cannot be written.
 */
struct virgo_queue_done {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u32 action;
	__u32 pri;
	__u32 delay;
	__u32 reserved0;
	__u64 reserved[2];
};

/** In @flags of a peek: the request with the next number after @id. */
#define VIRGO_QUEUE_PEEK_NEXT		(1U << 0)

/** In @state: it can be taken. */
#define VIRGO_QUEUE_READY		0
/** In @state: it will be ready later. */
#define VIRGO_QUEUE_DELAYED		1
/** In @state: it was put aside. */
#define VIRGO_QUEUE_BURIED		2
/** In @state: somebody has taken it. */
#define VIRGO_QUEUE_RESERVED		3

/**
 * struct virgo_queue_peek - look at a request (VIRGO_QUEUE_IOC_PEEK).
 * @size: in: sizeof(struct virgo_queue_peek).
 * @flags: in: VIRGO_QUEUE_PEEK_ bits.
 * @id: in: which; out: its number.
 * @body: in: address to store the request at.
 * @capacity: in: room there; what does not fit is left out.
 * @length: out: the request's length.
 * @pri: out: its priority.
 * @ttr: out: seconds that who takes it has.
 * @delay: out: the delay that it was put or given back with, in seconds.
 * @state: out: VIRGO_QUEUE_READY and so on.
 * @reserves: out: how often it was taken.
 * @timeouts: out: how often the time of who took it was over.
 * @releases: out: how often it was given back.
 * @buries: out: how often it was put aside.
 * @kicks: out: how often it was made ready again.
 * @reserved0: zero.
 * @age_ns: out: how long it has been there.
 * @left_ns: out: until its delay, or the time of who took it, is over.
 * @reserved: in: must be zero.
 * @tube: in: with PEEK_NEXT, of this tube only, if not empty; out: its tube.
 *
 * Errors: ENOENT there is none.
 */
struct virgo_queue_peek {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 body;
	__u32 capacity;
	__u32 length;
	__u32 pri;
	__u32 ttr;
	__u32 delay;
	__u32 state;
	__u32 reserves;
	__u32 timeouts;
	__u32 releases;
	__u32 buries;
	__u32 kicks;
	__u32 reserved0;
	__u64 age_ns;
	__u64 left_ns;
	__u64 reserved[2];
	char tube[VIRGO_QUEUE_NAME_LEN];
};

/** In @log: requests are not kept over a power cut. */
#define VIRGO_QUEUE_LOG_NONE		0
/** In @log: kept, by the file system's own time. */
#define VIRGO_QUEUE_LOG_NEVER		1
/** In @log: kept, brought to the disk at intervals. */
#define VIRGO_QUEUE_LOG_INTERVAL	2
/** In @log: kept, on the disk before it is acknowledged. */
#define VIRGO_QUEUE_LOG_ALWAYS		3

/**
 * struct virgo_queue_stat - numbers (VIRGO_QUEUE_IOC_STAT).
 * @size: in: sizeof(struct virgo_queue_stat).
 * @flags: in: must be zero.
 * @ready: out: requests that can be taken.
 * @delayed: out: requests that will be ready later.
 * @buried: out: requests put aside.
 * @reserved: out: requests that somebody has taken.
 * @urgent: out: ready ones with a priority below 1024.
 * @waiting: out: who waits for one.
 * @total: out: requests put so far.
 * @deletes: out: of a tube: requests that are done with.
 * @timeouts: out: requests whose taker's time was over.
 * @bytes: out: memory that requests take; of a tube, zero.
 * @max_bytes: out: the limit on it.
 * @tubes: out: how many tubes there are.
 * @workers: out: connections and open files.
 * @log_bytes: out: bytes in the log.
 * @log_records: out: records written into it since the module was loaded.
 * @log_damaged: out: places in it that could not be read at load.
 * @draining: out: 1 if no more requests are taken in.
 * @log: out: VIRGO_QUEUE_LOG_NONE and so on.
 * @log_error: out: the errno why it cannot be written; 0: it can.
 * @reserved0: zero.
 * @pause_left_ns: out: of a tube: until its pause is over; 0: it has none.
 * @reserved1: in: must be zero.
 * @tube: in: of this tube; empty: of all.
 *
 * Errors: ENOENT no such tube.
 */
struct virgo_queue_stat {
	__u32 size;
	__u32 flags;
	__u64 ready;
	__u64 delayed;
	__u64 buried;
	__u64 reserved;
	__u64 urgent;
	__u64 waiting;
	__u64 total;
	__u64 deletes;
	__u64 timeouts;
	__u64 bytes;
	__u64 max_bytes;
	__u64 tubes;
	__u64 workers;
	__u64 log_bytes;
	__u64 log_records;
	__u64 log_damaged;
	__u32 draining;
	__u32 log;
	__u32 log_error;
	__u32 reserved0;
	__u64 pause_left_ns;
	__u64 reserved1[3];
	char tube[VIRGO_QUEUE_NAME_LEN];
};

/**
 * struct virgo_queue_list - the tubes (VIRGO_QUEUE_IOC_LIST).
 * @size: in: sizeof(struct virgo_queue_list).
 * @flags: in: must be zero.
 * @names: in: address to store the names at, each with a NUL behind it.
 * @capacity: in: room there, in bytes.
 * @length: out: bytes that all names take. Those that fit are stored.
 * @count: out: how many tubes there are.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 */
struct virgo_queue_list {
	__u32 size;
	__u32 flags;
	__u64 names;
	__u32 capacity;
	__u32 length;
	__u32 count;
	__u32 reserved0;
	__u64 reserved[2];
};

/** In @flags of a drain: set it; without it, only read it. */
#define VIRGO_QUEUE_DRAIN_SET		(1U << 0)

/**
 * struct virgo_queue_drain - take in no more requests (VIRGO_QUEUE_IOC_DRAIN).
 * @size: in: sizeof(struct virgo_queue_drain).
 * @flags: in: 0 or VIRGO_QUEUE_DRAIN_SET.
 * @draining: in: 1 to begin, 0 to end; out: how it is now.
 * @reserved0: in: must be zero.
 *
 * Setting needs CAP_SYS_ADMIN, CAP_SYS_PTRACE or CAP_PERFMON, else EPERM.
 */
struct virgo_queue_drain {
	__u32 size;
	__u32 flags;
	__u32 draining;
	__u32 reserved0;
};

/** A tube's requests are kept as the module's setting says. */
#define VIRGO_QUEUE_KEEP_DEFAULT	0
/** They are not written into the log: gone when the module is unloaded. */
#define VIRGO_QUEUE_KEEP_NONE		1
/** They are written into the log, and acknowledged before they are on the disk. */
#define VIRGO_QUEUE_KEEP_LATER		2
/** They are acknowledged once they are on the disk. */
#define VIRGO_QUEUE_KEEP_ALWAYS		3

/** In @flags of a tube: set it; without it, only read it. */
#define VIRGO_QUEUE_TUBE_SET		(1U << 0)

/**
 * struct virgo_queue_tube - a tube's settings (VIRGO_QUEUE_IOC_TUBE).
 * @size: in: sizeof(struct virgo_queue_tube).
 * @flags: in: 0 or VIRGO_QUEUE_TUBE_SET.
 * @limit: the most requests it holds; 0: the module's limit.
 * @tries: a request that was taken so often and comes back (its time was over,
 *         its taker went or gave it back) is put into the tube NAME.dead
 *         instead; 0: never.
 * @keep: VIRGO_QUEUE_KEEP_DEFAULT and so on.
 * @length: in with VIRGO_QUEUE_TUBE_SET: bytes at @copies; out: bytes that
 *          all their names take. Those that fit are stored.
 * @copies: in: address of the names of the tubes that get a copy of each
 *          request which is put into this one, each with a NUL behind it;
 *          16 at most.
 * @capacity: in: room there, in bytes.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 * @tube: in: its name, a NUL behind it.
 *
 * A tube with settings stays when it is empty. All of them 0 is none. With a
 * log the settings are kept over unloading.
 * Setting needs CAP_SYS_ADMIN, CAP_SYS_PTRACE or CAP_PERFMON, else EPERM.
 * ENOENT: there is no such tube (read). EINVAL: a name that is none, @keep
 * without a log, a tube that copies to itself, more copies than that, or a
 * name that leaves no room for .dead. ENOSPC: too many tubes.
 */
struct virgo_queue_tube {
	__u32 size;
	__u32 flags;
	__u32 limit;
	__u32 tries;
	__u32 keep;
	__u32 length;
	__u64 copies;
	__u32 capacity;
	__u32 reserved0;
	__u64 reserved[2];
	char tube[VIRGO_QUEUE_NAME_LEN];
};

/**
 * struct virgo_queue_reply - answer a request (VIRGO_QUEUE_IOC_REPLY).
 * @size: in: sizeof(struct virgo_queue_reply).
 * @flags: in: must be zero.
 * @id: in: the request's number.
 * @body: in: address of the answer.
 * @length: in: how many bytes.
 * @reserved0: in: must be zero.
 * @reserved: in: must be zero.
 *
 * The caller must have taken the request, else ENOENT; it is done with then, as
 * by VIRGO_QUEUE_ACK. Whoever asked gets the answer by VIRGO_QUEUE_IOC_RESULT,
 * and one that asked by a line on the port and is still connected, as a line
 * REPLY#. E2BIG: longer than max_job_size. EMSGSIZE: all answers together have
 * a quarter of max_mb at most.
 */
struct virgo_queue_reply {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 body;
	__u32 length;
	__u32 reserved0;
	__u64 reserved[2];
};

/** In @kind: the answer is bytes. */
#define VIRGO_QUEUE_ANSWER_BYTES	0
/** In @kind: the answer is a struct virgo_queue_program, and output behind it. */
#define VIRGO_QUEUE_ANSWER_PROGRAM	1

/**
 * struct virgo_queue_result - fetch an answer (VIRGO_QUEUE_IOC_RESULT).
 * @size: in: sizeof(struct virgo_queue_result).
 * @flags: in: must be zero.
 * @id: in: the request's number.
 * @body: in: address to store the answer at.
 * @capacity: in: room there, in bytes.
 * @length: out: bytes of the answer; more than @capacity: what fits is stored.
 * @error: in: must be zero; out: an errno where the queue had another module
 *         serve the request and that failed (the answer has more words), else 0.
 * @kind: in: must be zero; out: what the answer is: VIRGO_QUEUE_ANSWER_BYTES, or
 *        VIRGO_QUEUE_ANSWER_PROGRAM, struct virgo_queue_program with output.
 * @reserved: in: must be zero.
 *
 * The last 65536 answers can be fetched, as long as they have no more than a
 * quarter of max_mb together; they are not in the log.
 * EAGAIN: there is none yet. ENOENT: there is none, and no such request waits.
 */
struct virgo_queue_result {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 body;
	__u32 capacity;
	__u32 length;
	__u32 error;
	__u32 kind;
	__u64 reserved;
};

/**
 * struct virgo_queue_program - an answer: a program that the queue had run.
 * @state: 2 it has ended, 3 it could not be run.
 * @status: as wait(2) has it; where it could not be run, the errno.
 * @reason: why it was killed, as in struct virgo_cpupool_follow; 0 it was not.
 * @out_length: bytes of output.
 * @err_length: bytes of error output.
 * @node: where it ran.
 * @elapsed_ns: how long it ran.
 * @user_ns: processor time in user mode, of all its processes.
 * @system_ns: likewise in the kernel.
 * @peak_bytes: the most memory that it took; 0 where the kernel does not say.
 *
 * The output follows, then the error output. The request is "@program ", which
 * words with @ may go before, then 32 bytes and the arguments, each with a NUL
 * behind it, then the standard input. The 32 bytes are little-endian: what it may
 * use (time in milliseconds and processes, 4 bytes each, memory and output, 8
 * bytes each; 0: as the node's table says), the bytes of the arguments, and 0,
 * 4 bytes each.
 */
struct virgo_queue_program {
	__u32 state;
	__u32 status;
	__u32 reason;
	__u32 out_length;
	__u32 err_length;
	__u32 node;
	__u64 elapsed_ns;
	__u64 user_ns;
	__u64 system_ns;
	__u64 peak_bytes;
};

#define VIRGO_QUEUE_IOC_PUT	_IOWR(VIRGO_IOC_MAGIC, 0x40, struct virgo_queue_put)
#define VIRGO_QUEUE_IOC_TAKE	_IOWR(VIRGO_IOC_MAGIC, 0x41, struct virgo_queue_take)
#define VIRGO_QUEUE_IOC_DONE	_IOWR(VIRGO_IOC_MAGIC, 0x42, struct virgo_queue_done)
#define VIRGO_QUEUE_IOC_PEEK	_IOWR(VIRGO_IOC_MAGIC, 0x43, struct virgo_queue_peek)
#define VIRGO_QUEUE_IOC_STAT	_IOWR(VIRGO_IOC_MAGIC, 0x44, struct virgo_queue_stat)
#define VIRGO_QUEUE_IOC_LIST	_IOWR(VIRGO_IOC_MAGIC, 0x45, struct virgo_queue_list)
#define VIRGO_QUEUE_IOC_DRAIN	_IOWR(VIRGO_IOC_MAGIC, 0x46, struct virgo_queue_drain)
#define VIRGO_QUEUE_IOC_TUBE	_IOWR(VIRGO_IOC_MAGIC, 0x47, struct virgo_queue_tube)
#define VIRGO_QUEUE_IOC_REPLY	_IOWR(VIRGO_IOC_MAGIC, 0x48, struct virgo_queue_reply)
#define VIRGO_QUEUE_IOC_RESULT	_IOWR(VIRGO_IOC_MAGIC, 0x49, struct virgo_queue_result)

/* -------------------------------------------------------------- eventnet */

/** EventNet's own device: the same commands, plus poll. */
#define VIRGO_EVENTNET_DEVICE		"/dev/virgo-eventnet"

/**
 * struct virgo_eventnet_log - write a message (VIRGO_EVENTNET_IOC_LOG).
 * @size: in: sizeof(struct virgo_eventnet_log).
 * @flags: in: must be zero.
 * @message: in: address of the message: a line as on the port, without its end.
 * @length: in: its length in bytes.
 * @node: out: this node's number.
 * @stamp: out: its stamp of the node's hybrid logical clock.
 * @reserved: in: must be zero.
 *
 * Returns when the message is in the journal, and on the disk if the module's
 * parameter fsync says so.
 *
 * Errors: EINVAL it is no message; EMSGSIZE it is too long; ENOSPC the disk is
 * full, or too many names are known; EFBIG the journal has reached its limit;
 * ENOBUFS too many messages wait; EIO; EINTR a signal came: whether it will be
 * written is not known.
 */
struct virgo_eventnet_log {
	__u32 size;
	__u32 flags;
	__u64 message;
	__u32 length;
	__u32 node;
	__u64 stamp;
	__u64 reserved[2];
};

/**
 * struct virgo_eventnet_read - read the journal (VIRGO_EVENTNET_IOC_READ).
 * @size: in: sizeof(struct virgo_eventnet_read).
 * @flags: in: must be zero.
 * @buffer: in: address to store the bytes at.
 * @position: in: where in the journal to begin.
 * @capacity: in: room there, in bytes; a MiB at most is used.
 * @length: out: bytes that were stored. They can end within a record.
 * @next: out: where to go on.
 * @end: out: the journal's length.
 * @reserved: in: must be zero.
 *
 * The records are described in doc/eventnet.md. A poll() on
 * VIRGO_EVENTNET_DEVICE reports POLLIN while the journal is longer than what
 * was read last through that descriptor.
 */
struct virgo_eventnet_read {
	__u32 size;
	__u32 flags;
	__u64 buffer;
	__u64 position;
	__u32 capacity;
	__u32 length;
	__u64 next;
	__u64 end;
	__u64 reserved[2];
};

/**
 * struct virgo_eventnet_stat - numbers (VIRGO_EVENTNET_IOC_STAT).
 * @size: in: sizeof(struct virgo_eventnet_stat).
 * @flags: in: must be zero.
 * @events: out: events of modules that were written, since the load.
 * @vertices: out: messages about events, likewise.
 * @edges: out: messages about causes, likewise.
 * @lost: out: events of modules that nobody will know.
 * @losses: out: records that tell of these.
 * @refused: out: messages that were refused.
 * @received: out: records of other nodes that were written.
 * @forwarded: out: own records that the collecting node has taken.
 * @behind: out: bytes of the journal that it has not been sent.
 * @journal_bytes: out: the journal's length.
 * @rendered_bytes: out: as much of it is in the text files.
 * @journal_errno: out: why the journal cannot be written; 0: it can.
 * @render_errno: out: why the text files cannot be written; 0: they can.
 * @node: out: this node's number.
 * @modules: out: whose events are taken: bit (1 << VIRGO_MODULE_x).
 * @reserved: in: must be zero.
 */
struct virgo_eventnet_stat {
	__u32 size;
	__u32 flags;
	__u64 events;
	__u64 vertices;
	__u64 edges;
	__u64 lost;
	__u64 losses;
	__u64 refused;
	__u64 received;
	__u64 forwarded;
	__u64 behind;
	__u64 journal_bytes;
	__u64 rendered_bytes;
	__u32 journal_errno;
	__u32 render_errno;
	__u32 node;
	__u32 modules;
	__u64 reserved[4];
};

/** In @flags of the settings: set whose events are taken. */
#define VIRGO_EVENTNET_SET_MODULES	(1U << 0)
/** In @flags of the settings: set how long an event waits for others. */
#define VIRGO_EVENTNET_SET_FLUSH	(1U << 1)
/** In @flags of the settings: set the node that collects. */
#define VIRGO_EVENTNET_SET_COLLECTOR	(1U << 2)

/**
 * struct virgo_eventnet_settings - settings (VIRGO_EVENTNET_IOC_SETTINGS).
 * @size: in: sizeof(struct virgo_eventnet_settings).
 * @flags: in: VIRGO_EVENTNET_SET_ bits; without any the settings are told.
 * @modules: in, out: whose events are taken: bit (1 << VIRGO_MODULE_x).
 * @flush_ms: in, out: milliseconds that a module's event waits for others
 *	before it is written, 1 to 60000.
 * @ring: out: how many events of each module can wait to be written.
 * @collector: in, out: the number of the node that gets a copy of this node's
 *	records; 0: none does.
 * @reserved: in: must be zero.
 *
 * Errors: EPERM to set needs CAP_PERFMON, CAP_SYS_PTRACE or CAP_SYS_ADMIN;
 * ENOENT there is no such node; EINVAL.
 */
struct virgo_eventnet_settings {
	__u32 size;
	__u32 flags;
	__u32 modules;
	__u32 flush_ms;
	__u32 ring;
	__u32 collector;
	__u64 reserved[3];
};

#define VIRGO_EVENTNET_IOC_LOG		_IOWR(VIRGO_IOC_MAGIC, 0x50, struct virgo_eventnet_log)
#define VIRGO_EVENTNET_IOC_READ		_IOWR(VIRGO_IOC_MAGIC, 0x51, struct virgo_eventnet_read)
#define VIRGO_EVENTNET_IOC_STAT		_IOWR(VIRGO_IOC_MAGIC, 0x52, struct virgo_eventnet_stat)
#define VIRGO_EVENTNET_IOC_SETTINGS	_IOWR(VIRGO_IOC_MAGIC, 0x53, struct virgo_eventnet_settings)

/* ------------------------------------------------------------- analytics */

/** The settings' device: the same commands, plus poll. */
#define VIRGO_ANALYTICS_DEVICE		"/dev/virgo-analytics"
/** Room for a setting's name, NUL behind it. */
#define VIRGO_ANALYTICS_KEY_LEN		128
/** Room for why a value was set, NUL behind it. */
#define VIRGO_ANALYTICS_WHY_LEN		128
/** Room for who reads a setting, NUL behind it. */
#define VIRGO_ANALYTICS_READER_LEN	64
/** Room for a choice's words with | between, NUL behind them. */
#define VIRGO_ANALYTICS_WORDS_LEN	256
/** Room for a value, cut, in a list of changes, NUL behind it. */
#define VIRGO_ANALYTICS_CUT_LEN		64
/** The longest value, in bytes. */
#define VIRGO_ANALYTICS_VALUE_MAX	4096
/** How many changes can be undone. */
#define VIRGO_ANALYTICS_UNDO_MAX	10

/**
 * enum virgo_analytics_kind - what a value may be.
 * @VIRGO_ANALYTICS_TEXT: any text.
 * @VIRGO_ANALYTICS_INT: a whole number; K, M, G, T are powers of 1024.
 * @VIRGO_ANALYTICS_BOOL: yes or no.
 * @VIRGO_ANALYTICS_CHOICE: one of some words.
 */
enum virgo_analytics_kind {
	VIRGO_ANALYTICS_TEXT	= 0,
	VIRGO_ANALYTICS_INT	= 1,
	VIRGO_ANALYTICS_BOOL	= 2,
	VIRGO_ANALYTICS_CHOICE	= 3,
};

/**
 * enum virgo_analytics_source - where a value comes from.
 * @VIRGO_ANALYTICS_BY_DEFAULT: nobody has set it.
 * @VIRGO_ANALYTICS_BY_PERSON: a person.
 * @VIRGO_ANALYTICS_BY_FILE: a file of settings, which a person loaded.
 * @VIRGO_ANALYTICS_BY_STREAM: a stream of settings.
 * @VIRGO_ANALYTICS_BY_LEARNER: a program that learns.
 *
 * What a person or a file has set, a stream or a learner can't change: EBUSY.
 */
enum virgo_analytics_source {
	VIRGO_ANALYTICS_BY_DEFAULT	= 0,
	VIRGO_ANALYTICS_BY_PERSON	= 1,
	VIRGO_ANALYTICS_BY_FILE		= 2,
	VIRGO_ANALYTICS_BY_STREAM	= 3,
	VIRGO_ANALYTICS_BY_LEARNER	= 4,
};

/** In get's flags: the setting numbered @index; ENOENT past the last. */
#define VIRGO_ANALYTICS_GET_INDEX	(1U << 0)

/** In a setting's state: a loaded module reads it. */
#define VIRGO_ANALYTICS_READ		(1U << 0)
/** In a setting's state: it was declared, by a module or by a command. */
#define VIRGO_ANALYTICS_DECLARED	(1U << 1)
/** In a setting's state: the cluster's value is in force. */
#define VIRGO_ANALYTICS_CLUSTER		(1U << 2)
/** In a setting's state: the cluster's value is not allowed here. */
#define VIRGO_ANALYTICS_CLUSTER_REFUSED	(1U << 3)

/**
 * struct virgo_analytics_get - a setting (VIRGO_ANALYTICS_IOC_GET).
 * @size: in: sizeof(struct virgo_analytics_get).
 * @flags: in: 0 or VIRGO_ANALYTICS_GET_INDEX.
 * @text: in: where to store the value, which has no NUL behind it.
 * @capacity: in: room there, in bytes.
 * @length: out: the value's length, even if that is more than @capacity; as
 *	much as there is room for is stored.
 * @index: in with VIRGO_ANALYTICS_GET_INDEX; out: the setting's number. A
 *	number is never given to another setting.
 * @kind: out: enum virgo_analytics_kind.
 * @number: out: the value as a number; of a choice the word's place, of a
 *	text 0.
 * @low: out: the least value of a number.
 * @high: out: its greatest.
 * @version: out: the number of the change that made it so; 0: none has.
 * @changed_ns: out: when, in nanoseconds of CLOCK_REALTIME.
 * @left_ms: out: how long a learnt value stands, in ms; 0: for good.
 * @source: out: enum virgo_analytics_source.
 * @uid: out: who set it; 0xffffffff: no process.
 * @pid: out: that process.
 * @state: out: VIRGO_ANALYTICS_READ and so on.
 * @cluster_stamp: out: the stamp of the cluster's value; 0: there is none.
 * @cluster_node: out: the node that set it.
 * @reserved: in: must be zero.
 * @comm: out: that process's name.
 * @key: in without VIRGO_ANALYTICS_GET_INDEX; out: the setting's name.
 * @reader: out: who reads it.
 * @words: out: a choice's words.
 * @initial: out: the value that it has where nobody has set it, cut.
 * @why: out: why it was set.
 *
 * ENOENT: no such setting.
 */
struct virgo_analytics_get {
	__u32 size;
	__u32 flags;
	__u64 text;
	__u32 capacity;
	__u32 length;
	__u32 index;
	__u32 kind;
	__s64 number;
	__s64 low;
	__s64 high;
	__u64 version;
	__u64 changed_ns;
	__u64 left_ms;
	__u32 source;
	__u32 uid;
	__u32 pid;
	__u32 state;
	__u64 cluster_stamp;
	__u32 cluster_node;
	__u32 reserved;
	char comm[16];
	char key[VIRGO_ANALYTICS_KEY_LEN];
	char reader[VIRGO_ANALYTICS_READER_LEN];
	char words[VIRGO_ANALYTICS_WORDS_LEN];
	char initial[VIRGO_ANALYTICS_CUT_LEN];
	char why[VIRGO_ANALYTICS_WHY_LEN];
};

/** In set's flags: a setting that is not there is made, as a text. */
#define VIRGO_ANALYTICS_SET_CREATE	(1U << 0)
/** In set's flags: take back what was set; the value below it is in force. */
#define VIRGO_ANALYTICS_SET_UNSET	(1U << 1)
/** In set's flags: only if the setting's version is @version, else ESTALE. */
#define VIRGO_ANALYTICS_SET_IF		(1U << 2)
/** In set's flags: on all nodes of the cluster. */
#define VIRGO_ANALYTICS_SET_CLUSTER	(1U << 3)

/**
 * struct virgo_analytics_set - set a value (VIRGO_ANALYTICS_IOC_SET).
 * @size: in: sizeof(struct virgo_analytics_set).
 * @flags: in: VIRGO_ANALYTICS_SET_ bits.
 * @text: in: address of the value.
 * @length: in: its length, at most VIRGO_ANALYTICS_VALUE_MAX.
 * @source: in: VIRGO_ANALYTICS_BY_PERSON to VIRGO_ANALYTICS_BY_LEARNER; for
 *	the cluster a person or a file.
 * @ttl_ms: in: from a learner: how long it stands; 0: for good.
 * @kind: out with EINVAL and ERANGE: the setting's kind.
 * @version: in with VIRGO_ANALYTICS_SET_IF; out: the number of this change,
 *	or of the last one if this changed nothing.
 * @low: out with ERANGE: the least value.
 * @high: out with ERANGE: the greatest.
 * @limit: out with ENOSPC: how many settings there can be, or how many bytes
 *	for all of them; out with EBUSY: the uid of whose value stands.
 * @reached: out with VIRGO_ANALYTICS_SET_CLUSTER: how many nodes have the
 *	value, this one among them.
 * @nodes: out with VIRGO_ANALYTICS_SET_CLUSTER: how many nodes there are.
 * @reserved: in: must be zero.
 * @key: in: the setting's name.
 * @words: out with ERANGE: a choice's words.
 * @why: in: why it is set, for those who look at it later.
 *
 * EPERM without CAP_SYS_ADMIN; ENOENT: no such setting; EINVAL: the value is
 * not of the setting's kind, or has a control character in it; ERANGE: it is
 * out of its range; E2BIG: it is too long; EBUSY: a person's value stands
 * against a stream's or a learner's; ESTALE: another change came before;
 * EREMOTE: a value of the cluster stands, which is changed for the cluster
 * alone; ENOSPC: a limit is reached. An error of the module that reads the setting
 * is told as it is, and nothing has changed.
 */
struct virgo_analytics_set {
	__u32 size;
	__u32 flags;
	__u64 text;
	__u32 length;
	__u32 source;
	__u32 ttl_ms;
	__u32 kind;
	__u64 version;
	__s64 low;
	__s64 high;
	__u64 limit;
	__u32 reached;
	__u32 nodes;
	__u64 reserved;
	char key[VIRGO_ANALYTICS_KEY_LEN];
	char words[VIRGO_ANALYTICS_WORDS_LEN];
	char why[VIRGO_ANALYTICS_WHY_LEN];
};

/**
 * struct virgo_analytics_define - declare a setting (VIRGO_ANALYTICS_IOC_DEFINE).
 * @size: in: sizeof(struct virgo_analytics_define).
 * @flags: in: must be zero.
 * @kind: in: enum virgo_analytics_kind.
 * @length: in: the length of @text.
 * @text: in: address of the value it has where nobody has set it.
 * @low: in: the least value of a number, else 0.
 * @high: in: its greatest, else 0.
 * @limit: out with ENOSPC: as for VIRGO_ANALYTICS_IOC_SET.
 * @reserved: in: must be zero.
 * @key: in: the setting's name.
 * @reader: in: who reads it.
 * @words: in: a choice's words with | between, else empty.
 *
 * EPERM without CAP_SYS_ADMIN; EINVAL: what is declared contradicts itself;
 * EEXIST: a loaded module has declared it; ERANGE: it has a value that would
 * not be allowed; ENOSPC: a limit is reached.
 */
struct virgo_analytics_define {
	__u32 size;
	__u32 flags;
	__u32 kind;
	__u32 length;
	__u64 text;
	__s64 low;
	__s64 high;
	__u64 limit;
	__u64 reserved[2];
	char key[VIRGO_ANALYTICS_KEY_LEN];
	char reader[VIRGO_ANALYTICS_READER_LEN];
	char words[VIRGO_ANALYTICS_WORDS_LEN];
};

/** In a change's flags: what was set was taken back. */
#define VIRGO_ANALYTICS_CHANGE_UNSET	(1U << 0)
/** In a change's flags: it took a change back. */
#define VIRGO_ANALYTICS_CHANGE_UNDO	(1U << 1)
/** In a change's flags: a learnt value's time was over. */
#define VIRGO_ANALYTICS_CHANGE_EXPIRED	(1U << 2)
/** In a change's flags: it was made for the whole cluster. */
#define VIRGO_ANALYTICS_CHANGE_CLUSTER	(1U << 3)

/**
 * struct virgo_analytics_change - a change that was made.
 * @version: its number, from 1 on.
 * @when_ns: when, in nanoseconds of CLOCK_REALTIME.
 * @source: enum virgo_analytics_source of the value that is in force.
 * @flags: VIRGO_ANALYTICS_CHANGE_ bits.
 * @uid: who; 0xffffffff: no process.
 * @pid: that process.
 * @comm: its name.
 * @key: the setting.
 * @before: its value before, cut.
 * @after: its value after, cut.
 * @why: why.
 */
struct virgo_analytics_change {
	__u64 version;
	__u64 when_ns;
	__u32 source;
	__u32 flags;
	__u32 uid;
	__u32 pid;
	char comm[16];
	char key[VIRGO_ANALYTICS_KEY_LEN];
	char before[VIRGO_ANALYTICS_CUT_LEN];
	char after[VIRGO_ANALYTICS_CUT_LEN];
	char why[VIRGO_ANALYTICS_WHY_LEN];
};

/**
 * struct virgo_analytics_log - the changes (VIRGO_ANALYTICS_IOC_LOG).
 * @size: in: sizeof(struct virgo_analytics_log).
 * @flags: in: must be zero.
 * @entries: in: address of an array of struct virgo_analytics_change.
 * @capacity: in: entries that there is room for.
 * @count: out: entries that were stored, the oldest first.
 * @after: in: changes with a greater number than this.
 * @lost: out: how many of those are no longer kept.
 * @reserved: in: must be zero.
 */
struct virgo_analytics_log {
	__u32 size;
	__u32 flags;
	__u64 entries;
	__u32 capacity;
	__u32 count;
	__u64 after;
	__u64 lost;
	__u64 reserved[2];
};

/**
 * struct virgo_analytics_undo - take changes back (VIRGO_ANALYTICS_IOC_UNDO).
 * @size: in: sizeof(struct virgo_analytics_undo).
 * @flags: in: must be zero.
 * @count: in: how many, from the last one on; up to VIRGO_ANALYTICS_UNDO_MAX.
 * @done: out: how many were taken back; with an error too.
 * @version: out: the number of the last change.
 * @reserved: in: must be zero.
 *
 * EPERM without CAP_SYS_ADMIN; ENOENT: there is none to be taken back.
 */
struct virgo_analytics_undo {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 done;
	__u64 version;
	__u64 reserved[2];
};

/**
 * struct virgo_analytics_info - numbers (VIRGO_ANALYTICS_IOC_INFO).
 * @size: in: sizeof(struct virgo_analytics_info).
 * @flags: in: must be zero.
 * @version: out: the number of the last change.
 * @settings: out: how many settings there are.
 * @max_settings: out: how many there can be.
 * @bytes: out: the memory of their names, values and declarations.
 * @max_bytes: out: how much that can be.
 * @refused: out: how many changes were refused, for whatever reason.
 * @expired: out: how many learnt values have run out.
 * @undoable: out: how many changes can be taken back.
 * @watchers: out: how many functions of modules are told of changes.
 * @reserved: in: must be zero.
 */
struct virgo_analytics_info {
	__u32 size;
	__u32 flags;
	__u64 version;
	__u64 settings;
	__u64 max_settings;
	__u64 bytes;
	__u64 max_bytes;
	__u64 refused;
	__u64 expired;
	__u32 undoable;
	__u32 watchers;
	__u64 reserved[7];
};

/**
 * struct virgo_analytics_seen - what the reader knows (VIRGO_ANALYTICS_IOC_SEEN).
 * @size: in: sizeof(struct virgo_analytics_seen).
 * @flags: in: must be zero.
 * @version: in: the number of the last change that it knows of.
 *
 * On VIRGO_ANALYTICS_DEVICE alone, which can be read (POLLIN) while there are
 * changes after that one; after open, after the last there was then. EINVAL
 * for a number that no change has had, and on VIRGO_DEVICE.
 */
struct virgo_analytics_seen {
	__u32 size;
	__u32 flags;
	__u64 version;
};

#define VIRGO_ANALYTICS_IOC_GET		_IOWR(VIRGO_IOC_MAGIC, 0x60, struct virgo_analytics_get)
#define VIRGO_ANALYTICS_IOC_SET		_IOWR(VIRGO_IOC_MAGIC, 0x61, struct virgo_analytics_set)
#define VIRGO_ANALYTICS_IOC_DEFINE	_IOWR(VIRGO_IOC_MAGIC, 0x62, struct virgo_analytics_define)
#define VIRGO_ANALYTICS_IOC_LOG		_IOWR(VIRGO_IOC_MAGIC, 0x63, struct virgo_analytics_log)
#define VIRGO_ANALYTICS_IOC_UNDO	_IOWR(VIRGO_IOC_MAGIC, 0x64, struct virgo_analytics_undo)
#define VIRGO_ANALYTICS_IOC_INFO	_IOWR(VIRGO_IOC_MAGIC, 0x65, struct virgo_analytics_info)
#define VIRGO_ANALYTICS_IOC_SEEN	_IOWR(VIRGO_IOC_MAGIC, 0x66, struct virgo_analytics_seen)

/* -------------------------------------------------------------- profiler */

/** Length of a thread's name with its terminating NUL, as TASK_COMM_LEN. */
#define VIRGO_COMM_LEN			16

/** "VPRF" as a little-endian number: the first word of the buffer. */
#define VIRGO_PROFILER_MAGIC		0x46525056
/** Version of the buffer's layout. */
#define VIRGO_PROFILER_LAYOUT		1
/** Bytes in front of the first record; one page. */
#define VIRGO_PROFILER_HEADER_SIZE	4096

#define VIRGO_PROFILER_RATE_MIN		1
#define VIRGO_PROFILER_RATE_MAX		1000
#define VIRGO_PROFILER_RATE_DEFAULT	20

/**
 * struct virgo_profiler_header - the first page of the mapped buffer.
 * @magic: VIRGO_PROFILER_MAGIC.
 * @layout: VIRGO_PROFILER_LAYOUT.
 * @header_size: where record slot 0 begins, in bytes.
 * @record_size: bytes from one record slot to the next.
 * @capacity: how many record slots there are.
 * @head: records written so far. Record number n (from 0) is, or was, in slot
 *	n % @capacity. Load with acquire ordering.
 * @generation: grows by one at each registration, removal and change of rate.
 * @dropped: samples that were due and were not taken, because the one before
 *	was still under way (one for each registered task and missed tick).
 * @ticks: sampling rounds so far.
 * @missed_ticks: sampling rounds that were skipped for that reason.
 * @rate_hz: sampling rounds a second.
 * @registered: registered tasks now.
 * @start_ns: when sampling last started; 0 while no task is registered.
 * @reserved: zero.
 *
 * The page is written by the kernel alone; no reader can make it wrong.
 */
struct virgo_profiler_header {
	__u32 magic;
	__u32 layout;
	__u32 header_size;
	__u32 record_size;
	__u64 capacity;
	__u64 head;
	__u64 generation;
	__u64 dropped;
	__u64 ticks;
	__u64 missed_ticks;
	__u32 rate_hz;
	__u32 registered;
	__u64 start_ns;
	__u64 reserved[6];
};

/** In @flags of a sample: the registration is of one thread, not a process. */
#define VIRGO_SAMPLE_THREAD	(1U << 0)
/** In @flags of a sample: the task has exited; its last record. */
#define VIRGO_SAMPLE_EXIT	(1U << 1)
/** In @flags of a sample: the first record of a registration. */
#define VIRGO_SAMPLE_FIRST	(1U << 2)
/** In @flags of a sample: unregistered while alive; its last record. */
#define VIRGO_SAMPLE_LAST	(1U << 3)

/**
 * struct virgo_profiler_sample - one task at one moment.
 * @seq: record number plus one; 0 while the record is being written. A reader
 *	loads it with acquire ordering, copies the record, loads it again, and
 *	has lost the record if either load is not the number it expects.
 * @id: identity of the registration. Never used twice while the module is
 *	loaded, so a reused pid is never mixed in.
 * @time_ns: CLOCK_MONOTONIC.
 * @min_flt: minor faults of the task since it began.
 * @maj_flt: major faults of the task since it began.
 * @utime_ns: user CPU time since it began.
 * @stime_ns: system CPU time since it began. The sum of both is the
 *	scheduler's exact run time; the split is by the tick's samples.
 * @rss_bytes: resident memory.
 * @pid: process id (thread group id) in the initial pid namespace.
 * @tid: thread id in the initial pid namespace; equals @pid for a process.
 * @state: a letter as in /proc/PID/stat: R S D T t X Z I.
 * @flags: VIRGO_SAMPLE_ bits.
 * @comm: name of the thread (of the main thread, for a process); NUL-padded.
 *
 * A process's figures are the sum over its threads, dead ones too. Figures
 * only ever grow; the reader takes the differences.
 */
struct virgo_profiler_sample {
	__u64 seq;
	__u64 id;
	__u64 time_ns;
	__u64 min_flt;
	__u64 maj_flt;
	__u64 utime_ns;
	__u64 stime_ns;
	__u64 rss_bytes;
	__u32 pid;
	__u32 tid;
	__u32 state;
	__u32 flags;
	char comm[VIRGO_COMM_LEN];
};

/** Register or unregister one thread (@pid is its thread id). */
#define VIRGO_PROFILER_F_THREAD		(1U << 0)
/** @pid is a pidfd, not a process id. Not with VIRGO_PROFILER_F_THREAD. */
#define VIRGO_PROFILER_F_PIDFD		(1U << 1)
/**
 * The registration ends when this file is closed. Only on
 * VIRGO_PROFILER_DEVICE; EINVAL on VIRGO_DEVICE.
 */
#define VIRGO_PROFILER_F_BIND		(1U << 2)

/**
 * struct virgo_profiler_task - argument of REGISTER and UNREGISTER.
 * @size: in: sizeof(struct virgo_profiler_task).
 * @flags: in: VIRGO_PROFILER_F_ bits; UNREGISTER takes no F_BIND.
 * @pid: in: which task.
 * @reserved0: in: must be zero.
 * @id: out: identity of the registration, as in the samples.
 * @reserved: in: must be zero.
 *
 * Errors: ESRCH no such task, or (UNREGISTER) not registered; EEXIST already
 * registered; EPERM the caller neither owns the task nor holds CAP_SYS_PTRACE
 * or CAP_PERFMON; ENOSPC the limit on registered tasks (module parameter
 * max_tasks) is reached; EBADF not a pidfd.
 */
struct virgo_profiler_task {
	__u32 size;
	__u32 flags;
	__s32 pid;
	__u32 reserved0;
	__u64 id;
	__u64 reserved[2];
};

/**
 * struct virgo_profiler_entry - one registration, in a list.
 * @id: identity of the registration.
 * @samples: records written for it so far.
 * @pid: process id in the caller's pid namespace; 0 if it has none there.
 * @tid: thread id in the caller's pid namespace; 0 if it has none there.
 * @flags: VIRGO_PROFILER_F_THREAD, VIRGO_PROFILER_F_BIND.
 * @reserved0: zero.
 * @comm: name of the thread.
 */
struct virgo_profiler_entry {
	__u64 id;
	__u64 samples;
	__u32 pid;
	__u32 tid;
	__u32 flags;
	__u32 reserved0;
	char comm[VIRGO_COMM_LEN];
};

/**
 * struct virgo_profiler_list - what is registered.
 * @size: in: sizeof(struct virgo_profiler_list).
 * @flags: in: must be zero.
 * @entries: in: address of an array of struct virgo_profiler_entry; may be
 *	zero if @capacity is.
 * @capacity: in: entries in the array.
 * @count: out: how many tasks are registered. At most @capacity are stored.
 * @reserved: in: must be zero.
 */
struct virgo_profiler_list {
	__u32 size;
	__u32 flags;
	__u64 entries;
	__u32 capacity;
	__u32 count;
	__u64 reserved[2];
};

/** In @flags of virgo_profiler_rate: set the rate; without it, only read it. */
#define VIRGO_PROFILER_RATE_SET		(1U << 0)

/**
 * struct virgo_profiler_rate - sampling rounds a second.
 * @size: in: sizeof(struct virgo_profiler_rate).
 * @flags: in: 0 or VIRGO_PROFILER_RATE_SET.
 * @rate_hz: in: the new rate (ERANGE outside 1 to 1000); out: the rate now.
 * @reserved0: in: must be zero.
 *
 * Setting needs CAP_SYS_ADMIN, CAP_SYS_PTRACE or CAP_PERFMON, else EPERM: it
 * is one rate for all.
 */
struct virgo_profiler_rate {
	__u32 size;
	__u32 flags;
	__u32 rate_hz;
	__u32 reserved0;
};

/**
 * struct virgo_profiler_info - the shape of the buffer, to map it.
 * @size: in: sizeof(struct virgo_profiler_info).
 * @flags: in: must be zero.
 * @map_bytes: out: length to give to mmap(), at offset 0, PROT_READ and
 *	MAP_SHARED. Any other protection is EACCES or EPERM, a longer length or another
 *	offset EINVAL; a shorter one is served.
 * @capacity: out: as in the header.
 * @record_size: out: as in the header.
 * @header_size: out: as in the header.
 * @max_tasks: out: the limit on registered tasks.
 * @reserved0: zero.
 * @reserved: in: must be zero.
 */
struct virgo_profiler_info {
	__u32 size;
	__u32 flags;
	__u64 map_bytes;
	__u64 capacity;
	__u32 record_size;
	__u32 header_size;
	__u32 max_tasks;
	__u32 reserved0;
	__u64 reserved[2];
};

/**
 * struct virgo_profiler_seen - tell poll() how far this reader has come.
 * @size: in: sizeof(struct virgo_profiler_seen).
 * @flags: in: must be zero.
 * @head: in: records read so far; poll() on this descriptor reports POLLIN
 *	while the header's head is greater. Greater than the head now: EINVAL.
 *
 * Only on VIRGO_PROFILER_DEVICE; EINVAL on VIRGO_DEVICE.
 */
struct virgo_profiler_seen {
	__u32 size;
	__u32 flags;
	__u64 head;
};

#define VIRGO_PROFILER_IOC_REGISTER	_IOWR(VIRGO_IOC_MAGIC, 0x70, struct virgo_profiler_task)
#define VIRGO_PROFILER_IOC_UNREGISTER	_IOWR(VIRGO_IOC_MAGIC, 0x71, struct virgo_profiler_task)
#define VIRGO_PROFILER_IOC_LIST		_IOWR(VIRGO_IOC_MAGIC, 0x72, struct virgo_profiler_list)
#define VIRGO_PROFILER_IOC_RATE		_IOWR(VIRGO_IOC_MAGIC, 0x73, struct virgo_profiler_rate)
#define VIRGO_PROFILER_IOC_INFO		_IOWR(VIRGO_IOC_MAGIC, 0x74, struct virgo_profiler_info)
#define VIRGO_PROFILER_IOC_SEEN		_IOWR(VIRGO_IOC_MAGIC, 0x75, struct virgo_profiler_seen)

/* ------------------------------------------------- traces of page faults */

/**
 * The file of the page-fault traces. Each open file of it is a trace of its
 * own: "1" written to it traces the writer's process, "1 PID" another one,
 * either with " follow" what it forks as well; "0" stops. read() returns whole
 * records (doc/trace.md) and takes them out; it waits while there are none and
 * a process is traced, and returns 0 when the last one is gone and all is
 * read. Closing the file ends the trace.
 *
 * Errors of write(): EINVAL what is written is none of these, or the process
 * is a thread of the kernel's; ESRCH no such process, or (0) no trace runs;
 * EPERM the writer or who opened the file neither owns the process nor holds
 * CAP_SYS_PTRACE or CAP_PERFMON; EBUSY this file's trace runs, another one has
 * the process, or a BPF program is attached to the kernel's handle_mm_fault();
 * ENOSPC there are as many traces as the module parameter max_traces allows.
 * Of read(): ESRCH no trace was started, or it was stopped and all is read;
 * EINVAL the first record is longer than the buffer; EAGAIN with O_NONBLOCK;
 * ENODEV the module is being unloaded.
 */
#define VIRGO_TRACE_FILE		"/proc/virgo/trace/history"

/** @pid is a pidfd, not a process id. */
#define VIRGO_TRACE_F_PIDFD		(1U << 0)
/** Trace the process's children as well, and theirs. */
#define VIRGO_TRACE_F_FOLLOW		(1U << 1)

/**
 * struct virgo_trace_start - start a trace (VIRGO_TRACE_IOC_START).
 * @size: in: sizeof(struct virgo_trace_start).
 * @flags: in: VIRGO_TRACE_F_ bits.
 * @pid: in: which process; 0 (without F_PIDFD) the caller's own.
 * @reserved0: in: must be zero.
 * @limit_bytes: in: most memory for records that wait to be read; 0: as the
 *	module parameter trace_kb says. ERANGE below 8192 or above that.
 * @reserved: in: must be zero.
 *
 * Other errors: as for "1" written to the file; EBADF not a pidfd.
 */
struct virgo_trace_start {
	__u32 size;
	__u32 flags;
	__s32 pid;
	__u32 reserved0;
	__u64 limit_bytes;
	__u64 reserved[2];
};

/**
 * struct virgo_trace_stop - stop the trace (VIRGO_TRACE_IOC_STOP).
 * @size: in: sizeof(struct virgo_trace_stop).
 * @flags: in: must be zero.
 *
 * ESRCH: none runs. What was recorded can still be read.
 */
struct virgo_trace_stop {
	__u32 size;
	__u32 flags;
};

/** In @state of virgo_trace_info: processes are traced. */
#define VIRGO_TRACE_RUNNING		1
/** In @state of virgo_trace_info: stopped while a process lived. */
#define VIRGO_TRACE_STOPPED		2
/** In @state of virgo_trace_info: the last process is gone. */
#define VIRGO_TRACE_OVER		3

/**
 * struct virgo_trace_info - how the trace stands (VIRGO_TRACE_IOC_INFO).
 * @size: in: sizeof(struct virgo_trace_info).
 * @flags: in: must be zero.
 * @state: out: VIRGO_TRACE_RUNNING, _STOPPED or _OVER.
 * @processes: out: processes that are traced.
 * @recorded: out: faults recorded so far.
 * @dropped: out: faults that did not fit, as the reader was too slow.
 * @waiting_bytes: out: bytes of records that wait for the reader.
 * @limit_bytes: out: most that may wait.
 * @reserved: in: must be zero.
 *
 * ESRCH: no trace was started.
 */
struct virgo_trace_info {
	__u32 size;
	__u32 flags;
	__u32 state;
	__u32 processes;
	__u64 recorded;
	__u64 dropped;
	__u64 waiting_bytes;
	__u64 limit_bytes;
	__u64 reserved[2];
};

#define VIRGO_TRACE_IOC_START	_IOWR(VIRGO_IOC_MAGIC, 0x76, struct virgo_trace_start)
#define VIRGO_TRACE_IOC_STOP	_IOWR(VIRGO_IOC_MAGIC, 0x77, struct virgo_trace_stop)
#define VIRGO_TRACE_IOC_INFO	_IOWR(VIRGO_IOC_MAGIC, 0x78, struct virgo_trace_info)

#endif /* _UAPI_LINUX_VIRGO_H */
