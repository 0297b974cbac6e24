// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The Rust mirror of `include/uapi/linux/virgo.h`, which is the truth and says what each field
//! means in full. A test compares every size, offset and number of the two.

use core::mem::size_of;

/// The control device.
pub const DEVICE: &str = "/dev/virgo";
/// The profiler's own device.
pub const PROFILER_DEVICE: &str = "/dev/virgo-profiler";
/// The type byte of every ioctl.
pub const IOC_MAGIC: u32 = 0xEB;

/// The modules of the suite: the bit in [`Query::modules`] and, times 16, the module's first
/// ioctl number (`enum virgo_module`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Module {
    /// virgo-core.
    Core = 0,
    /// virgo-cpupool.
    Cpupool = 1,
    /// virgo-mempool.
    Mempool = 2,
    /// virgo-cloudfs.
    Cloudfs = 3,
    /// virgo-queue.
    Queue = 4,
    /// virgo-eventnet.
    Eventnet = 5,
    /// virgo-analytics.
    Analytics = 6,
    /// virgo-profiler.
    Profiler = 7,
}

impl Module {
    /// Every module, in the order of its number.
    pub const ALL: [Module; 8] = [
        Module::Core,
        Module::Cpupool,
        Module::Mempool,
        Module::Cloudfs,
        Module::Queue,
        Module::Eventnet,
        Module::Analytics,
        Module::Profiler,
    ];

    /// The module's name, as insmod's file has it without `.ko`.
    pub const fn name(self) -> &'static str {
        match self {
            Module::Core => "virgo-core",
            Module::Cpupool => "virgo-cpupool",
            Module::Mempool => "virgo-mempool",
            Module::Cloudfs => "virgo-cloudfs",
            Module::Queue => "virgo-queue",
            Module::Eventnet => "virgo-eventnet",
            Module::Analytics => "virgo-analytics",
            Module::Profiler => "virgo-profiler",
        }
    }

    /// The module with this number.
    pub fn from_number(number: u32) -> Option<Module> {
        usize::try_from(number)
            .ok()
            .and_then(|index| Module::ALL.get(index).copied())
    }
}

/// Length of a thread's name with its terminating NUL.
pub const COMM_LEN: usize = 16;

/// The kernel serves `IOC_QUERY` and the service registry.
pub const FEATURE_QUERY: u64 = 1 << 0;
/// `/dev/virgo` becomes readable when a module comes or goes.
pub const FEATURE_POLL_MODULES: u64 = 1 << 1;

// The nodes.

/// The kernel serves the commands of the nodes.
pub const FEATURE_NODES: u64 = 1 << 2;
/// The most nodes of a cluster, this one among them.
pub const NODES_MAX: u32 = 64;
/// The greatest weight of a node.
pub const NODE_WEIGHT_MAX: u32 = 1000;
/// A cluster's key has at least so many bytes.
pub const NODES_KEY_MIN: u32 = 16;
/// A cluster's key has at most so many bytes.
pub const NODES_KEY_MAX: u32 = 1024;
/// Length of a node's last error, padded with NULs.
pub const NODE_ERROR_LEN: usize = 96;
/// As the cluster is set to.
pub const POLICY_DEFAULT: u32 = 0;
/// The node with the least load for its weight.
pub const POLICY_LEAST_LOADED: u32 = 1;
/// Any node, as likely as its weight.
pub const POLICY_RANDOM: u32 = 2;
/// The less loaded of two drawn at random.
pub const POLICY_TWO_CHOICES: u32 = 3;
/// The node that is named.
pub const POLICY_NODE: u32 = 4;
/// It answers.
pub const NODE_UP: u32 = 1;
/// Silent for more than a second.
pub const NODE_SUSPECT: u32 = 2;
/// Requests to it fail at once.
pub const NODE_DOWN: u32 = 3;
/// In a node's flags: it is this one.
pub const NODE_SELF: u32 = 1 << 0;
/// Set the policy.
pub const NODES_SET_POLICY: u32 = 1 << 0;
/// Set the seed.
pub const NODES_SET_SEED: u32 = 1 << 1;
/// The node that the key belongs to.
pub const PICK_OWNER: u32 = 1 << 0;

// The settings.

/// The settings' device: the same commands, plus poll.
pub const ANALYTICS_DEVICE: &str = "/dev/virgo-analytics";
/// Room for a setting's name, NUL behind it.
pub const ANALYTICS_KEY_LEN: usize = 128;
/// Room for why a value was set, NUL behind it.
pub const ANALYTICS_WHY_LEN: usize = 128;
/// Room for who reads a setting, NUL behind it.
pub const ANALYTICS_READER_LEN: usize = 64;
/// Room for a choice's words with | between, NUL behind them.
pub const ANALYTICS_WORDS_LEN: usize = 256;
/// Room for a value, cut, in a list of changes, NUL behind it.
pub const ANALYTICS_CUT_LEN: usize = 64;
/// The longest value, in bytes.
pub const ANALYTICS_VALUE_MAX: u32 = 4096;
/// How many changes can be undone.
pub const ANALYTICS_UNDO_MAX: u32 = 10;
/// In get's flags: the setting numbered index; ENOENT past the last.
pub const ANALYTICS_GET_INDEX: u32 = 1 << 0;
/// In a setting's state: a loaded module reads it.
pub const ANALYTICS_READ: u32 = 1 << 0;
/// In a setting's state: it was declared, by a module or by a command.
pub const ANALYTICS_DECLARED: u32 = 1 << 1;
/// In a setting's state: the cluster's value is in force.
pub const ANALYTICS_CLUSTER: u32 = 1 << 2;
/// In a setting's state: the cluster's value is not allowed here.
pub const ANALYTICS_CLUSTER_REFUSED: u32 = 1 << 3;
/// In set's flags: a setting that is not there is made, as a text.
pub const ANALYTICS_SET_CREATE: u32 = 1 << 0;
/// In set's flags: take back what was set; the value below it is in force.
pub const ANALYTICS_SET_UNSET: u32 = 1 << 1;
/// In set's flags: only if the setting's version is version, else ESTALE.
pub const ANALYTICS_SET_IF: u32 = 1 << 2;
/// In set's flags: on all nodes of the cluster.
pub const ANALYTICS_SET_CLUSTER: u32 = 1 << 3;
/// In a change's flags: what was set was taken back.
pub const ANALYTICS_CHANGE_UNSET: u32 = 1 << 0;
/// In a change's flags: it took a change back.
pub const ANALYTICS_CHANGE_UNDO: u32 = 1 << 1;
/// In a change's flags: a learnt value's time was over.
pub const ANALYTICS_CHANGE_EXPIRED: u32 = 1 << 2;
/// In a change's flags: it was made for the whole cluster.
pub const ANALYTICS_CHANGE_CLUSTER: u32 = 1 << 3;
/// Any text.
pub const ANALYTICS_TEXT: u32 = 0;
/// A whole number; K, M, G, T are powers of 1024.
pub const ANALYTICS_INT: u32 = 1;
/// Yes or no.
pub const ANALYTICS_BOOL: u32 = 2;
/// One of some words.
pub const ANALYTICS_CHOICE: u32 = 3;
/// Nobody has set it.
pub const ANALYTICS_BY_DEFAULT: u32 = 0;
/// A person.
pub const ANALYTICS_BY_PERSON: u32 = 1;
/// A file of settings, which a person loaded.
pub const ANALYTICS_BY_FILE: u32 = 2;
/// A stream of settings.
pub const ANALYTICS_BY_STREAM: u32 = 3;
/// A program that learns.
pub const ANALYTICS_BY_LEARNER: u32 = 4;

/// The queue's own device.
pub const QUEUE_DEVICE: &str = "/dev/virgo-queue";
/// Room for a tube's name.
pub const QUEUE_NAME_LEN: usize = 208;
/// In `timeout_ms`: wait until there is one.
pub const QUEUE_FOREVER: u32 = u32::MAX;
/// In `flags` of a take: the request numbered `id`.
pub const QUEUE_TAKE_ID: u32 = 1 << 0;
/// It is done with, and goes.
pub const QUEUE_ACK: u32 = 0;
/// It goes back.
pub const QUEUE_RELEASE: u32 = 1;
/// It is put aside.
pub const QUEUE_BURY: u32 = 2;
/// All of the time again.
pub const QUEUE_TOUCH: u32 = 3;
/// A buried or delayed one becomes ready.
pub const QUEUE_KICK: u32 = 4;
/// In `flags` of a peek: the request with the next number after `id`.
pub const QUEUE_PEEK_NEXT: u32 = 1 << 0;
/// It can be taken.
pub const QUEUE_READY: u32 = 0;
/// It will be ready later.
pub const QUEUE_DELAYED: u32 = 1;
/// It was put aside.
pub const QUEUE_BURIED: u32 = 2;
/// Somebody has taken it.
pub const QUEUE_RESERVED: u32 = 3;
/// Requests are not kept over a power cut.
pub const QUEUE_LOG_NONE: u32 = 0;
/// Kept, by the file system's own time.
pub const QUEUE_LOG_NEVER: u32 = 1;
/// Kept, brought to the disk at intervals.
pub const QUEUE_LOG_INTERVAL: u32 = 2;
/// Kept, on the disk before it is acknowledged.
pub const QUEUE_LOG_ALWAYS: u32 = 3;
/// In `flags` of a drain: set it.
pub const QUEUE_DRAIN_SET: u32 = 1 << 0;
/// A tube's requests are kept as the module's setting says.
pub const QUEUE_KEEP_DEFAULT: u32 = 0;
/// They are not kept.
pub const QUEUE_KEEP_NONE: u32 = 1;
/// They are kept, and acknowledged before they are on the disk.
pub const QUEUE_KEEP_LATER: u32 = 2;
/// They are acknowledged once they are on the disk.
pub const QUEUE_KEEP_ALWAYS: u32 = 3;
/// In `kind`: the answer is bytes.
pub const QUEUE_ANSWER_BYTES: u32 = 0;
/// In `kind`: the answer is a `QueueProgram`, with output behind it.
pub const QUEUE_ANSWER_PROGRAM: u32 = 1;
/// In a tube's flags: set it.
pub const QUEUE_TUBE_SET: u32 = 1 << 0;

/// A tube's name with a NUL behind it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueName(pub [u8; QUEUE_NAME_LEN]);

impl Default for QueueName {
    fn default() -> Self {
        QueueName([0; QUEUE_NAME_LEN])
    }
}

impl QueueName {
    /// From a name; `None` if it is too long or has a NUL in it.
    pub fn new(name: &[u8]) -> Option<QueueName> {
        let mut bytes = [0; QUEUE_NAME_LEN];
        if name.len() >= QUEUE_NAME_LEN || name.contains(&0) {
            return None;
        }
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(QueueName(bytes))
    }

    /// The name; `None` without a NUL behind it.
    pub fn name(&self) -> Option<&[u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        self.0.get(..end)
    }
}

// The pool of functions.

/// Length of a function's name with its terminating NUL.
pub const CPUPOOL_NAME_LEN: usize = 64;
/// The call may be made again elsewhere if its node goes down meanwhile.
pub const CPUPOOL_IDEMPOTENT: u32 = 1 << 0;
/// In a function's flags: it may sleep or compute for long.
pub const CPUPOOL_SLOW: u32 = 1 << 0;

/// Room for a program's name.
pub const CPUPOOL_PROGRAM_LEN: usize = 32;
/// Room for a program's path.
pub const CPUPOOL_PATH_LEN: usize = 224;

/// First word of the profiler's buffer: "VPRF", little-endian.
pub const PROFILER_MAGIC: u32 = 0x4652_5056;
/// Version of the buffer's layout.
pub const PROFILER_LAYOUT: u32 = 1;
/// Bytes in front of the first record.
pub const PROFILER_HEADER_SIZE: u32 = 4096;
/// Lowest rate, in rounds a second.
pub const PROFILER_RATE_MIN: u32 = 1;
/// Highest rate, in rounds a second.
pub const PROFILER_RATE_MAX: u32 = 1000;
/// Rate at load, in rounds a second.
pub const PROFILER_RATE_DEFAULT: u32 = 20;

/// In a sample: the registration is of one thread.
pub const SAMPLE_THREAD: u32 = 1 << 0;
/// In a sample: the task has exited; its last record.
pub const SAMPLE_EXIT: u32 = 1 << 1;
/// In a sample: the first record of a registration.
pub const SAMPLE_FIRST: u32 = 1 << 2;
/// In a sample: unregistered while alive; its last record.
pub const SAMPLE_LAST: u32 = 1 << 3;

/// Register one thread.
pub const PROFILER_F_THREAD: u32 = 1 << 0;
/// The pid given is a pidfd.
pub const PROFILER_F_PIDFD: u32 = 1 << 1;
/// The registration ends with this file.
pub const PROFILER_F_BIND: u32 = 1 << 2;
/// Set the rate.
pub const PROFILER_RATE_SET: u32 = 1 << 0;

// The memory pool.

/// The memory pool's own device: the same commands, plus mmap and poll of shared namespaces.
pub const MEMPOOL_DEVICE: &str = "/dev/virgo-mempool";
/// Longest key, in bytes. A key has at least one byte; any byte may be in it.
pub const MEM_KEY_MAX: u32 = 250;
/// Longest block, in bytes.
pub const MEM_BLOCK_MAX: u64 = 64 << 20;
/// In `node` of a request: the node is left to us. A block is then laid on this node, or where
/// `policy` says; a named value on the node that owns its key.
pub const MEM_NODE_ANY: u32 = 0;
/// In `flags` of [`MemMalloc`]: lay the block in chunks over the nodes in turn.
pub const MEM_F_STRIPE: u32 = 1 << 0;
/// In `flags` of [`MemMalloc`]: by `policy`, not on this node.
pub const MEM_F_POLICY: u32 = 1 << 1;
/// `policy`: as the balancer's setting says.
pub const MEM_POLICY_DEFAULT: u32 = 0;
/// `policy`: the node with the least load.
pub const MEM_POLICY_LEAST_LOADED: u32 = 1;
/// `policy`: any node, by chance.
pub const MEM_POLICY_RANDOM: u32 = 2;
/// `policy`: the lesser loaded of two by chance.
pub const MEM_POLICY_TWO_CHOICES: u32 = 3;
/// `mode`: store it, whether the key is there or not.
pub const MEM_PUT_SET: u32 = 0;
/// `mode`: only if the key is not there, else EEXIST.
pub const MEM_PUT_ADD: u32 = 1;
/// `mode`: only if the key is there, else ENOENT.
pub const MEM_PUT_REPLACE: u32 = 2;
/// `mode`: behind what is there; ENOENT if nothing is. Keeps flags and time.
pub const MEM_PUT_APPEND: u32 = 3;
/// `mode`: before what is there; ENOENT if nothing is. Keeps flags and time.
pub const MEM_PUT_PREPEND: u32 = 4;
/// `mode`: only if the value's number is still `cas`, else ESTALE; ENOENT if the key is not there.
pub const MEM_PUT_CAS: u32 = 5;
/// In `flags` of a request on a named value: here, whichever node owns the key.
pub const MEM_F_LOCAL: u32 = 1 << 2;
/// In `flags` of [`MemTake`]: give the value the new time `exptime` as well.
pub const MEM_F_TOUCH: u32 = 1 << 3;
/// In `flags` of [`MemCount`]: take away instead of add; not below 0.
pub const MEM_F_DECREMENT: u32 = 1 << 4;
/// In `flags` of [`MemCount`]: a key that is not there is made with `initial`.
pub const MEM_F_CREATE: u32 = 1 << 5;
/// In `flags` of [`MemScan`]: records without their values.
pub const MEM_F_KEYS_ONLY: u32 = 1 << 6;
/// In `flags` of [`MemSettings`]: set `memory_limit`.
pub const MEM_SET_MEMORY_LIMIT: u32 = 1 << 0;
/// In `flags` of [`MemSettings`]: set `item_max`.
pub const MEM_SET_ITEM_MAX: u32 = 1 << 1;
/// In `flags` of [`MemSettings`]: set `block_limit`.
pub const MEM_SET_BLOCK_LIMIT: u32 = 1 << 2;
/// In `flags` of [`MemSettings`]: set `evict`.
pub const MEM_SET_EVICT: u32 = 1 << 3;
/// In `flags` of [`MemSettings`]: set `max_blocks`.
pub const MEM_SET_MAX_BLOCKS: u32 = 1 << 4;
/// "VMEM" as a little-endian number.
pub const MEM_TABLE_MAGIC: u32 = 0x4d45_4d56;
/// Version of the table's layout.
pub const MEM_TABLE_LAYOUT: u32 = 1;
/// Bytes in front of the first slot.
pub const MEM_TABLE_HEADER_SIZE: u32 = 4096;
/// Slots in which a key can be.
pub const MEM_WINDOW: u32 = 8;
/// First number of the hash.
pub const MEM_HASH_1: u64 = 0x9e37_79b9_7f4a_7c15;
/// Second number of the hash.
pub const MEM_HASH_2: u64 = 0xd6e8_feb8_6659_fd93;
/// Least bytes of a slot, which are a power of two.
pub const MEM_SLOT_MIN: u32 = 64;
/// Most bytes of a slot.
pub const MEM_SLOT_MAX: u32 = 65536;
/// Fewest slots of a table, which are a power of two.
pub const MEM_SLOTS_MIN: u32 = 8;
/// Most slots of a table.
pub const MEM_SLOTS_MAX: u32 = 4_194_304;
/// In `flags` of [`MemShare`]: make the namespace if it is not there.
pub const MEM_SHARE_CREATE: u32 = 1 << 0;
/// In `flags` of [`MemShare`]: take the namespace down; mappings stay, closed.
pub const MEM_SHARE_REMOVE: u32 = 1 << 1;

/// The device of virgo-cloudfs.
pub const FS_DEVICE: &str = "/dev/virgo-cloudfs";
/// Most bytes that one READ or WRITE moves.
pub const FS_IO_MAX: u32 = 1 << 20;
/// Longest path.
pub const FS_PATH_MAX: u32 = 4096;
/// For SYNC: the data alone.
pub const FS_SYNC_DATA: u32 = 1 << 0;

/// An ioctl number as Linux's `_IOWR` makes it on the architectures of the generic layout.
const fn iowr<T>(nr: u32) -> u32 {
    let size = size_of::<T>();
    // The size field has 14 bits. This runs at compile time only.
    assert!(size < (1 << 14));
    // CAST: checked just above.
    (3 << 30) | ((size as u32) << 16) | (IOC_MAGIC << 8) | nr
}

/// What is loaded here.
pub const IOC_QUERY: u32 = iowr::<Query>(0x00);
/// A setting.
pub const ANALYTICS_IOC_GET: u32 = iowr::<AnalyticsGet>(0x60);
/// Set a value.
pub const ANALYTICS_IOC_SET: u32 = iowr::<AnalyticsSet>(0x61);
/// Declare a setting.
pub const ANALYTICS_IOC_DEFINE: u32 = iowr::<AnalyticsDefine>(0x62);
/// The changes.
pub const ANALYTICS_IOC_LOG: u32 = iowr::<AnalyticsLog>(0x63);
/// Take changes back.
pub const ANALYTICS_IOC_UNDO: u32 = iowr::<AnalyticsUndo>(0x64);
/// Numbers.
pub const ANALYTICS_IOC_INFO: u32 = iowr::<AnalyticsInfo>(0x65);
/// What the reader knows.
pub const ANALYTICS_IOC_SEEN: u32 = iowr::<AnalyticsSeen>(0x66);
/// Put a request.
pub const QUEUE_IOC_PUT: u32 = iowr::<QueuePut>(0x40);
/// Take one.
pub const QUEUE_IOC_TAKE: u32 = iowr::<QueueTake>(0x41);
/// Say what becomes of it.
pub const QUEUE_IOC_DONE: u32 = iowr::<QueueDone>(0x42);
/// Look at one.
pub const QUEUE_IOC_PEEK: u32 = iowr::<QueuePeek>(0x43);
/// Numbers.
pub const QUEUE_IOC_STAT: u32 = iowr::<QueueStat>(0x44);
/// The tubes.
pub const QUEUE_IOC_LIST: u32 = iowr::<QueueList>(0x45);
/// Take in no more.
pub const QUEUE_IOC_DRAIN: u32 = iowr::<QueueDrain>(0x46);
/// A tube's settings.
pub const QUEUE_IOC_TUBE: u32 = iowr::<QueueTube>(0x47);
/// Answer a request.
pub const QUEUE_IOC_REPLY: u32 = iowr::<QueueReply>(0x48);
/// Fetch an answer.
pub const QUEUE_IOC_RESULT: u32 = iowr::<QueueResult>(0x49);
/// Put a table of nodes in place of the one before.
pub const IOC_NODES_LOAD: u32 = iowr::<NodesLoad>(0x01);
/// The nodes.
pub const IOC_NODES_LIST: u32 = iowr::<NodesList>(0x02);
/// Read or set how nodes are chosen.
pub const IOC_NODES_POLICY: u32 = iowr::<NodesPolicy>(0x03);
/// Ask a node for a sign of life.
pub const IOC_NODE_PING: u32 = iowr::<NodePing>(0x04);
/// Choose a node.
pub const IOC_NODE_PICK: u32 = iowr::<NodePick>(0x05);
/// Call a kernel function by name.
pub const CPUPOOL_IOC_CALL: u32 = iowr::<CpupoolCall>(0x10);
/// The functions of a node.
pub const CPUPOOL_IOC_LIST: u32 = iowr::<CpupoolList>(0x11);
/// Say which programs may be run.
pub const CPUPOOL_IOC_SET: u32 = iowr::<CpupoolSet>(0x12);
/// The programs of a node, as an array of [`CpupoolProgram`].
pub const CPUPOOL_IOC_PROGRAMS: u32 = iowr::<CpupoolList>(0x13);
/// Start a program.
pub const CPUPOOL_IOC_START: u32 = iowr::<CpupoolStart>(0x14);
/// See how a run goes on.
pub const CPUPOOL_IOC_FOLLOW: u32 = iowr::<CpupoolFollow>(0x15);
/// Kill a run.
pub const CPUPOOL_IOC_KILL: u32 = iowr::<CpupoolKill>(0x16);
/// The runs of a node, as an array of [`CpupoolRun`].
pub const CPUPOOL_IOC_RUNS: u32 = iowr::<CpupoolList>(0x17);
/// Lend one's credentials, for programs that are to run as this user.
pub const CPUPOOL_IOC_LEND: u32 = iowr::<CpupoolLend>(0x18);
/// Make a block.
pub const MEM_IOC_MALLOC: u32 = iowr::<MemMalloc>(0x20);
/// Write a block.
pub const MEM_IOC_SET: u32 = iowr::<MemIo>(0x21);
/// Read a block.
pub const MEM_IOC_GET: u32 = iowr::<MemIo>(0x22);
/// Give a block back.
pub const MEM_IOC_FREE: u32 = iowr::<MemFree>(0x23);
/// This node's blocks.
pub const MEM_IOC_LIST: u32 = iowr::<MemList>(0x24);
/// What this node holds and did.
pub const MEM_IOC_STAT: u32 = iowr::<MemStat>(0x25);
/// Store a named value.
pub const MEM_IOC_PUT: u32 = iowr::<MemPut>(0x26);
/// Fetch a named value.
pub const MEM_IOC_TAKE: u32 = iowr::<MemTake>(0x27);
/// Delete a named value.
pub const MEM_IOC_DROP: u32 = iowr::<MemDrop>(0x28);
/// Add to a named number.
pub const MEM_IOC_COUNT: u32 = iowr::<MemCount>(0x29);
/// This node's named values.
pub const MEM_IOC_SCAN: u32 = iowr::<MemScan>(0x2a);
/// Forget all named values here.
pub const MEM_IOC_FLUSH: u32 = iowr::<MemFlush>(0x2b);
/// Read and set bounds.
pub const MEM_IOC_SETTINGS: u32 = iowr::<MemSettings>(0x2c);
/// Bind a descriptor to a namespace.
pub const MEM_IOC_SHARE: u32 = iowr::<MemShare>(0x2d);
/// How far this reader has come.
pub const MEM_IOC_SEEN: u32 = iowr::<MemSeen>(0x2e);
/// Open a file below the served folder.
pub const FS_IOC_OPEN: u32 = iowr::<FsOpen>(0x30);
/// Read.
pub const FS_IOC_READ: u32 = iowr::<FsIo>(0x31);
/// Write.
pub const FS_IOC_WRITE: u32 = iowr::<FsIo>(0x32);
/// Close.
pub const FS_IOC_CLOSE: u32 = iowr::<FsHandle>(0x33);
/// Bring to the disk.
pub const FS_IOC_SYNC: u32 = iowr::<FsHandle>(0x34);
/// What stat(2) tells.
pub const FS_IOC_STAT: u32 = iowr::<FsStat>(0x35);
/// Make it so long.
pub const FS_IOC_TRUNCATE: u32 = iowr::<FsIo>(0x36);
/// The entries of a folder.
pub const FS_IOC_READDIR: u32 = iowr::<FsIo>(0x37);
/// Register a task.
pub const PROFILER_IOC_REGISTER: u32 = iowr::<ProfilerTask>(0x70);
/// Unregister a task.
pub const PROFILER_IOC_UNREGISTER: u32 = iowr::<ProfilerTask>(0x71);
/// What is registered.
pub const PROFILER_IOC_LIST: u32 = iowr::<ProfilerList>(0x72);
/// Read or set the rate.
pub const PROFILER_IOC_RATE: u32 = iowr::<ProfilerRate>(0x73);
/// The shape of the buffer.
pub const PROFILER_IOC_INFO: u32 = iowr::<ProfilerInfo>(0x74);
/// How far this reader has come.
pub const PROFILER_IOC_SEEN: u32 = iowr::<ProfilerSeen>(0x75);

/// The file of the page-fault traces.
pub const TRACE_FILE: &str = "/proc/virgo/trace/history";
/// The pid given is a pidfd.
pub const TRACE_F_PIDFD: u32 = 1 << 0;
/// Trace children as well.
pub const TRACE_F_FOLLOW: u32 = 1 << 1;
/// In [`TraceInfo::state`]: processes are traced.
pub const TRACE_RUNNING: u32 = 1;
/// In [`TraceInfo::state`]: stopped while a process lived.
pub const TRACE_STOPPED: u32 = 2;
/// In [`TraceInfo::state`]: the last process is gone.
pub const TRACE_OVER: u32 = 3;
/// Start a trace.
pub const TRACE_IOC_START: u32 = iowr::<TraceStart>(0x76);
/// Stop it.
pub const TRACE_IOC_STOP: u32 = iowr::<TraceStop>(0x77);
/// How it stands.
pub const TRACE_IOC_INFO: u32 = iowr::<TraceInfo>(0x78);

/// What is loaded here (`struct virgo_query`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// In: `sizeof(struct virgo_query)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: version of the suite, `major << 16 | minor << 8 | patch`.
    pub version: u32,
    /// Out: version of the table that the modules share among themselves.
    pub abi: u32,
    /// Out: `VIRGO_FEATURE_` bits.
    pub features: u64,
    /// Out: bit (1 << `VIRGO_MODULE_x`) for each module which is loaded.
    pub modules: u64,
    /// Out: grows by one each time that a module comes or goes; a `poll()` on /dev/virgo reports
    /// POLLIN until `VIRGO_IOC_QUERY` has returned the newest value through this descriptor.
    pub generation: u64,
    /// In: must be zero.
    pub reserved: [u64; 3],
}

/// The handle of a block (`struct virgo_vuid`).
///
/// As text: 32 hexadecimal digits, `word[0]` first, most significant digit first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vuid {
    /// Opaque: which node, slot, generation, and a random tag. A handle that was made up, or whose
    /// block was freed, is ESTALE, never other memory.
    pub word: [u64; 2],
}

/// Make a block (`struct virgo_mem_malloc`).
///
/// Errors: EFBIG longer than `VIRGO_MEM_BLOCK_MAX`; ENOSPC the limit on memory of blocks
/// (`block_limit`), or on their number (`max_blocks`), is reached; ENOMEM; EHOSTDOWN, ETIMEDOUT,
/// ENOTCONN the other node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemMalloc {
    /// In: `sizeof(struct virgo_mem_malloc)`.
    pub size: u32,
    /// In: `VIRGO_MEM_F_STRIPE`, `VIRGO_MEM_F_POLICY`.
    pub flags: u32,
    /// In: bytes, 1 to `VIRGO_MEM_BLOCK_MAX`; they read as zeros.
    pub length: u64,
    /// In: the node to lay it on, or `VIRGO_MEM_NODE_ANY`; out: where it is.
    pub node: u32,
    /// In: `VIRGO_MEM_POLICY_x`, if `F_POLICY` is given and `node` is ANY.
    pub policy: u32,
    /// In: bytes of a chunk with `F_STRIPE`, a multiple of 4096; 0: 65536.
    pub chunk: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// Out: the handle.
    pub vuid: Vuid,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Write or read a block (`struct virgo_mem_io`).
///
/// GET copies up to the block's end and says in `length` how much it was. SET past the end is
/// ERANGE and writes nothing; GET with `offset` past the end is ERANGE. Errors: ESTALE no such
/// block; EHOSTDOWN, ETIMEDOUT, ENOTCONN its node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemIo {
    /// In: `sizeof(struct virgo_mem_io)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the block.
    pub vuid: Vuid,
    /// In: first byte.
    pub offset: u64,
    /// In: bytes to copy; out: bytes copied.
    pub length: u64,
    /// In: the caller's memory.
    pub address: u64,
    /// Out: bytes of the block.
    pub block_length: u64,
    /// In: must be zero; out: with an error of another node, which one.
    pub node: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: u64,
}

/// Give a block back (`struct virgo_mem_free`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemFree {
    /// In: `sizeof(struct virgo_mem_free)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the block. ESTALE if it is none.
    pub vuid: Vuid,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// One block, in a list (`struct virgo_mem_block`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemBlock {
    /// Its handle.
    pub vuid: Vuid,
    /// Its bytes.
    pub length: u64,
    /// `CLOCK_MONOTONIC` when it was made.
    pub created_ns: u64,
    /// `VIRGO_MEM_F_STRIPE`.
    pub flags: u32,
    /// Who made it, in the caller's user namespace; over the network 0xffffffff.
    pub uid: u32,
    /// The process that made it, in the initial pid namespace; over the network 0.
    pub pid: u32,
    /// Where it is.
    pub node: u32,
}

/// This node's blocks (`struct virgo_mem_list`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemList {
    /// In: `sizeof(struct virgo_mem_list)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of an array of `struct virgo_mem_block`; may be zero if `capacity` is.
    pub entries: u64,
    /// In: entries in the array.
    pub capacity: u32,
    /// Out: how many blocks there are. At most `capacity` are stored.
    pub count: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// What this node holds and did (`struct virgo_mem_stat`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemStat {
    /// In: `sizeof(struct virgo_mem_stat)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: this node's number; 0 without a cluster.
    pub node: u32,
    /// Out: connections now.
    pub connections: u32,
    /// Out: blocks now.
    pub blocks: u64,
    /// Out: memory that they take, everything included.
    pub block_bytes: u64,
    /// Out: bound of `block_bytes`.
    pub block_limit: u64,
    /// Out: blocks made so far.
    pub blocks_made: u64,
    /// Out: named values now.
    pub items: u64,
    /// Out: memory in use for them, everything included.
    pub item_bytes: u64,
    /// Out: memory taken from the system for named values: `item_bytes` and what is free in
    /// between.
    pub held_bytes: u64,
    /// Out: bound of `held_bytes`.
    pub memory_limit: u64,
    /// Out: named values stored so far.
    pub items_made: u64,
    /// Out: look-ups.
    pub gets: u64,
    /// Out: look-ups that found the value.
    pub hits: u64,
    /// Out: requests to store.
    pub sets: u64,
    /// Out: values deleted on request.
    pub deletes: u64,
    /// Out: values whose time ran out.
    pub expired: u64,
    /// Out: values given up for the room they took.
    pub evicted: u64,
    /// Out: values given up since the host needed memory.
    pub shrunk: u64,
    /// Out: shared namespaces.
    pub shares: u64,
    /// Out: memory of their tables.
    pub share_bytes: u64,
    /// Out: connections so far.
    pub connections_made: u64,
    /// Out: connections turned away.
    pub connections_refused: u64,
    /// Out: `CLOCK_MONOTONIC` when the module was loaded.
    pub start_ns: u64,
    /// In: must be zero.
    pub reserved: [u64; 4],
}

/// Store a named value (`struct virgo_mem_put`).
///
/// Errors: EINVAL no key; ENAMETOOLONG key over `VIRGO_MEM_KEY_MAX`; EFBIG the item is larger than
/// `item_max`; ENOMEM `memory_limit` is reached and nothing can be given up; by `mode` EEXIST,
/// ENOENT, ESTALE; EHOSTDOWN, ETIMEDOUT, ENOTCONN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemPut {
    /// In: `sizeof(struct virgo_mem_put)`.
    pub size: u32,
    /// In: 0 or `VIRGO_MEM_F_LOCAL`.
    pub flags: u32,
    /// In: address of the key.
    pub key: u64,
    /// In: address of the value; may be zero if `value_len` is.
    pub value: u64,
    /// In: bytes of the key, 1 to `VIRGO_MEM_KEY_MAX`.
    pub key_len: u32,
    /// In: bytes of the value.
    pub value_len: u32,
    /// In: the user's own flags, kept with the value.
    pub item_flags: u32,
    /// In: `VIRGO_MEM_PUT_x`.
    pub mode: u32,
    /// In: as memcached's: 0 never; up to 2592000 (30 days) seconds from now; greater, seconds of
    /// Unix time; negative, at once.
    pub exptime: i64,
    /// In: with `PUT_CAS` the number to compare with, else zero; out: the value's number, unique on
    /// its node, changed by each change of the value.
    pub cas: u64,
    /// In: the node, or `VIRGO_MEM_NODE_ANY`; out: who keeps it.
    pub node: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Fetch a named value. It stays (`struct virgo_mem_take`).
///
/// Errors: ENOENT; EMSGSIZE the value is longer than `capacity` (the out fields are filled in,
/// nothing is stored at `value`); else as `VIRGO_MEM_IOC_PUT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemTake {
    /// In: `sizeof(struct virgo_mem_take)`.
    pub size: u32,
    /// In: `VIRGO_MEM_F_LOCAL`, `VIRGO_MEM_F_TOUCH`.
    pub flags: u32,
    /// In: address of the key.
    pub key: u64,
    /// In: address of room for the value; may be zero if `capacity` is.
    pub value: u64,
    /// In: bytes of the key.
    pub key_len: u32,
    /// In: bytes of room.
    pub capacity: u32,
    /// Out: bytes of the value.
    pub value_len: u32,
    /// Out: the user's own flags.
    pub item_flags: u32,
    /// In: with `F_TOUCH` as in [`MemPut::exptime`], else zero; out: seconds left, -1 if it stays
    /// for ever.
    pub exptime: i64,
    /// Out: the value's number.
    pub cas: u64,
    /// In: the node, or `VIRGO_MEM_NODE_ANY`; out: who keeps it.
    pub node: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Delete a named value (`struct virgo_mem_drop`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemDrop {
    /// In: `sizeof(struct virgo_mem_drop)`.
    pub size: u32,
    /// In: 0 or `VIRGO_MEM_F_LOCAL`.
    pub flags: u32,
    /// In: address of the key.
    pub key: u64,
    /// In: bytes of the key.
    pub key_len: u32,
    /// In: the node, or `VIRGO_MEM_NODE_ANY`; out: who kept it.
    pub node: u32,
    /// In: only if this is the value's number, else ESTALE; 0: any.
    pub cas: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Add to a named number (`struct virgo_mem_count`).
///
/// Errors: ENOENT; EDOM the value is not a decimal number of 64 bits; else as PUT.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemCount {
    /// In: `sizeof(struct virgo_mem_count)`.
    pub size: u32,
    /// In: `VIRGO_MEM_F_LOCAL`, `VIRGO_MEM_F_DECREMENT`, `VIRGO_MEM_F_CREATE`.
    pub flags: u32,
    /// In: address of the key.
    pub key: u64,
    /// In: bytes of the key.
    pub key_len: u32,
    /// In: the node, or `VIRGO_MEM_NODE_ANY`; out: who keeps it.
    pub node: u32,
    /// In: how much. Past 2^64-1 it starts again from 0.
    pub delta: u64,
    /// In: with `F_CREATE` the first value, else zero.
    pub initial: u64,
    /// In: with `F_CREATE` as in [`MemPut::exptime`], else zero.
    pub exptime: i64,
    /// Out: the number now.
    pub value: u64,
    /// Out: the value's number.
    pub cas: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Head of one named value, in a scan (`struct virgo_mem_record`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemRecord {
    /// Bytes to the next record, a multiple of eight.
    pub length: u32,
    /// Bytes of the key, which follow this head.
    pub key_len: u32,
    /// Bytes of the value, which follow the key (not with `F_KEYS_ONLY`).
    pub value_len: u32,
    /// The user's own flags.
    pub item_flags: u32,
    /// Seconds of Unix time; 0: never.
    pub expires: i64,
    /// The value's number.
    pub cas: u64,
}

/// This node's named values (`struct virgo_mem_scan`).
///
/// A value that stays during the scan is told at least once; more often only where the table grows
/// or shrinks meanwhile. One that comes or goes may be told or not. Errors: EMSGSIZE not even one
/// record fits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemScan {
    /// In: `sizeof(struct virgo_mem_scan)`.
    pub size: u32,
    /// In: 0 or `VIRGO_MEM_F_KEYS_ONLY`.
    pub flags: u32,
    /// In: address of room for records, aligned to eight.
    pub buffer: u64,
    /// In: bytes of room.
    pub capacity: u32,
    /// Out: bytes stored.
    pub used: u32,
    /// In: 0 to begin, else what the call before returned; out: where to go on, 0 at the end.
    pub cursor: u64,
    /// Out: records stored.
    pub count: u32,
    /// Out: with EMSGSIZE, the room that the next record takes.
    pub needed: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Forget all named values here (`struct virgo_mem_flush`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemFlush {
    /// In: `sizeof(struct virgo_mem_flush)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: seconds from now; what is stored before that is then forgotten.
    pub delay_s: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Read and set bounds (`struct virgo_mem_settings`).
///
/// Setting needs `CAP_SYS_ADMIN`, else EPERM. ERANGE for a value out of bounds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemSettings {
    /// In: `sizeof(struct virgo_mem_settings)`.
    pub size: u32,
    /// In: `VIRGO_MEM_SET_x` for each field to set; 0: only read.
    pub flags: u32,
    /// In, out: most memory for named values. Lowering it gives values up at once.
    pub memory_limit: u64,
    /// In, out: most memory for blocks.
    pub block_limit: u64,
    /// In, out: most bytes of an item: key, value and 50 bytes of its own. 1024 to 67108864.
    pub item_max: u32,
    /// In, out: 1: give up the values that were not used for longest when there is no room; 0:
    /// ENOMEM ("out of memory storing object").
    pub evict: u32,
    /// In, out: most blocks.
    pub max_blocks: u32,
    /// Out: a connection without a request for this long is closed; 0: none.
    pub idle_ms: u32,
    /// Out: most connections.
    pub max_connections: u32,
    /// Out: the TCP port; 0: none.
    pub port: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// The first page of a mapped namespace (`struct virgo_mem_table`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemTable {
    /// `VIRGO_MEM_TABLE_MAGIC`.
    pub magic: u32,
    /// `VIRGO_MEM_TABLE_LAYOUT`.
    pub layout: u32,
    /// Where slot 0 begins, in bytes.
    pub header_size: u32,
    /// Bytes of a slot.
    pub slot_size: u32,
    /// How many there are.
    pub slots: u64,
    /// For the hash.
    pub seed: u64,
    /// Grows by one with each change of a value in the namespace.
    pub changes: u64,
    /// Values in the table.
    pub items: u64,
    /// Values of the namespace that had no place in the table.
    pub hidden: u64,
    /// The store's clock, in seconds, for `expire` of a slot.
    pub clock_s: u32,
    /// 1 once the table is not kept up to date any more: the namespace was taken down, or the
    /// module is going.
    pub closed: u32,
    /// Bytes of the prefix.
    pub prefix_len: u32,
    /// Zero.
    pub reserved0: u32,
    /// The bytes of the prefix in the order of memory; the rest is zero.
    pub prefix: [u64; 32],
}

/// Head of a slot (`struct virgo_mem_slot`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemSlot {
    /// Odd while the slot is being written; else even, and grown by two or more since another
    /// content.
    pub seq: u64,
    /// Of the key; 0: the slot is empty.
    pub hash: u64,
    /// The value's number.
    pub cas: u64,
    /// The user's own flags.
    pub item_flags: u32,
    /// When the value is gone, by the header's `clock_s`; 0: never.
    pub expire: u32,
    /// Bytes of the key.
    pub key_len: u32,
    /// Bytes of the value.
    pub value_len: u32,
}

/// Bind this descriptor to a namespace (`struct virgo_mem_share`).
///
/// Making and taking down need `CAP_SYS_ADMIN`, else EPERM. Errors: ENOENT; EEXIST with CREATE if
/// it is there with another slot_size or slots (0 agrees with any), or if its prefix begins with
/// another namespace's or that with it; ENOSPC the limit on memory for tables (`share_limit`) or on
/// namespaces (64) is reached; EINVAL on `VIRGO_DEVICE` without REMOVE.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemShare {
    /// In: `sizeof(struct virgo_mem_share)`.
    pub size: u32,
    /// In: `VIRGO_MEM_SHARE_CREATE` or _REMOVE; 0: it must be there.
    pub flags: u32,
    /// In: address of the prefix of the keys.
    pub prefix: u64,
    /// In: its bytes, 1 to `VIRGO_MEM_KEY_MAX`.
    pub prefix_len: u32,
    /// In: with CREATE bytes of a slot, 0: 256; out: as it is.
    pub slot_size: u32,
    /// In: with CREATE slots of the table, 0: 4096; out: as it is.
    pub slots: u64,
    /// Out: length to give to `mmap()`.
    pub map_bytes: u64,
    /// Out: as in the table; this descriptor has seen these.
    pub changes: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Tell `poll()` how far this reader has come (`struct virgo_mem_seen`).
///
/// Only on `VIRGO_MEMPOOL_DEVICE` after `VIRGO_MEM_IOC_SHARE`; EINVAL else.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemSeen {
    /// In: `sizeof(struct virgo_mem_seen)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the table's `changes`; `poll()` on this descriptor reports POLLIN while the table's is
    /// greater. Greater than the table's: EINVAL.
    pub changes: u64,
}

/// Open a file below the served folder (`struct virgo_fs_open`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsOpen {
    /// In: `sizeof(struct virgo_fs_open)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of the path.
    pub path: u64,
    /// In: its length.
    pub path_len: u32,
    /// In: as of open(2).
    pub open_flags: u32,
    /// In: permission bits of a new file.
    pub mode: u32,
    /// In: 0 or this node's number: this node; else another's.
    pub node: u32,
    /// Out: the open file.
    pub handle: u64,
}

/// Read or write (`struct virgo_fs_io`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsIo {
    /// In: `sizeof(struct virgo_fs_io)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the open file.
    pub handle: u64,
    /// In: address of the bytes.
    pub data: u64,
    /// In: how many; out: how many were moved.
    pub length: u64,
    /// In: where in the file.
    pub offset: u64,
}

/// Close, or bring to the disk (`struct virgo_fs_handle`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsHandle {
    /// In: `sizeof(struct virgo_fs_handle)`.
    pub size: u32,
    /// In: for SYNC `VIRGO_FS_SYNC_DATA` or zero.
    pub flags: u32,
    /// In: the open file.
    pub handle: u64,
}

/// What stat(2) tells of an open file (`struct virgo_fs_stat`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStat {
    /// In: `sizeof(struct virgo_fs_stat)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the open file.
    pub handle: u64,
    /// Out: its number.
    pub ino: u64,
    /// Out: names it has.
    pub nlink: u64,
    /// Out: its length.
    pub bytes: u64,
    /// Out: 512-byte blocks it takes.
    pub blocks: u64,
    /// Out: when it was last written.
    pub mtime_sec: i64,
    /// Out: and nanoseconds.
    pub mtime_nsec: u32,
    /// Out: type and permission bits.
    pub mode: u32,
    /// Out: its owner.
    pub uid: u32,
    /// Out: its group.
    pub gid: u32,
}

/// The first page of the mapped buffer (`struct virgo_profiler_header`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerHeader {
    /// `VIRGO_PROFILER_MAGIC`.
    pub magic: u32,
    /// `VIRGO_PROFILER_LAYOUT`.
    pub layout: u32,
    /// Where record slot 0 begins, in bytes.
    pub header_size: u32,
    /// Bytes from one record slot to the next.
    pub record_size: u32,
    /// How many record slots there are.
    pub capacity: u64,
    /// Records written so far. Record number n (from 0) is, or was, in slot `n % capacity`. Load
    /// with acquire ordering.
    pub head: u64,
    /// Grows by one at each registration, removal and change of rate.
    pub generation: u64,
    /// Samples that were due and were not taken, because the one before was still under way (one
    /// for each registered task and missed tick).
    pub dropped: u64,
    /// Sampling rounds so far.
    pub ticks: u64,
    /// Sampling rounds that were skipped for that reason.
    pub missed_ticks: u64,
    /// Sampling rounds a second.
    pub rate_hz: u32,
    /// Registered tasks now.
    pub registered: u32,
    /// When sampling last started; 0 while no task is registered.
    pub start_ns: u64,
    /// Zero.
    pub reserved: [u64; 6],
}

/// One task at one moment (`struct virgo_profiler_sample`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerSample {
    /// Record number plus one; 0 while the record is being written. A reader loads it with
    /// acquire ordering, copies the record, loads it again, and has lost the record if either
    /// load is not the number it expects.
    pub seq: u64,
    /// Identity of the registration. Never used twice while the module is loaded, so a reused pid
    /// is never mixed in.
    pub id: u64,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Minor faults of the task since it began.
    pub min_flt: u64,
    /// Major faults of the task since it began.
    pub maj_flt: u64,
    /// User CPU time since it began.
    pub utime_ns: u64,
    /// System CPU time since it began. The sum of both is the scheduler's exact run time; the
    /// split is by the tick's samples.
    pub stime_ns: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Process id (thread group id) in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace; equals `pid` for a process.
    pub tid: u32,
    /// A letter as in /proc/PID/stat: R S D T t X Z I.
    pub state: u32,
    /// `VIRGO_SAMPLE_` bits.
    pub flags: u32,
    /// Name of the thread (of the main thread, for a process); NUL-padded.
    pub comm: [u8; COMM_LEN],
}

/// Argument of REGISTER and UNREGISTER (`struct virgo_profiler_task`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerTask {
    /// In: `sizeof(struct virgo_profiler_task)`.
    pub size: u32,
    /// In: `VIRGO_PROFILER_F_` bits; UNREGISTER takes no F_BIND.
    pub flags: u32,
    /// In: which task.
    pub pid: i32,
    /// In: must be zero.
    pub reserved0: u32,
    /// Out: identity of the registration, as in the samples.
    pub id: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// One registration, in a list (`struct virgo_profiler_entry`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerEntry {
    /// Identity of the registration.
    pub id: u64,
    /// Records written for it so far.
    pub samples: u64,
    /// Process id in the caller's pid namespace; 0 if it has none there.
    pub pid: u32,
    /// Thread id in the caller's pid namespace; 0 if it has none there.
    pub tid: u32,
    /// `VIRGO_PROFILER_F_THREAD`, `VIRGO_PROFILER_F_BIND`.
    pub flags: u32,
    /// Zero.
    pub reserved0: u32,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
}

/// What is registered (`struct virgo_profiler_list`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerList {
    /// In: `sizeof(struct virgo_profiler_list)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of an array of struct virgo_profiler_entry; may be zero if `capacity` is.
    pub entries: u64,
    /// In: entries in the array.
    pub capacity: u32,
    /// Out: how many tasks are registered. At most `capacity` are stored.
    pub count: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Sampling rounds a second (`struct virgo_profiler_rate`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerRate {
    /// In: `sizeof(struct virgo_profiler_rate)`.
    pub size: u32,
    /// In: 0 or `VIRGO_PROFILER_RATE_SET`.
    pub flags: u32,
    /// In: the new rate (ERANGE outside 1 to 1000); out: the rate now.
    pub rate_hz: u32,
    /// In: must be zero.
    pub reserved0: u32,
}

/// The shape of the buffer, to map it (`struct virgo_profiler_info`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerInfo {
    /// In: `sizeof(struct virgo_profiler_info)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: length to give to `mmap()`, at offset 0, `PROT_READ` and `MAP_SHARED`. Any other
    /// protection is EACCES or EPERM, a longer length or another offset EINVAL; a shorter one is
    /// served.
    pub map_bytes: u64,
    /// Out: as in the header.
    pub capacity: u64,
    /// Out: as in the header.
    pub record_size: u32,
    /// Out: as in the header.
    pub header_size: u32,
    /// Out: the limit on registered tasks.
    pub max_tasks: u32,
    /// Zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Tell `poll()` how far this reader has come (`struct virgo_profiler_seen`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilerSeen {
    /// In: `sizeof(struct virgo_profiler_seen)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: records read so far; `poll()` on this descriptor reports POLLIN while the header's
    /// head is greater. Greater than the head now: EINVAL.
    pub head: u64,
}

/// Argument of START (`struct virgo_trace_start`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceStart {
    /// In: `sizeof(struct virgo_trace_start)`.
    pub size: u32,
    /// In: `VIRGO_TRACE_F_` bits.
    pub flags: u32,
    /// In: which process, or a pidfd; 0: the caller's.
    pub pid: i32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: most memory of unread records, in bytes; 0: as the module's parameter says.
    pub limit_bytes: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Argument of STOP (`struct virgo_trace_stop`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceStop {
    /// In: `sizeof(struct virgo_trace_stop)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
}

/// Argument of INFO (`struct virgo_trace_info`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceInfo {
    /// In: `sizeof(struct virgo_trace_info)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: `VIRGO_TRACE_RUNNING`, `_STOPPED` or `_OVER`.
    pub state: u32,
    /// Out: processes that are traced.
    pub processes: u32,
    /// Out: faults recorded so far.
    pub recorded: u64,
    /// Out: faults that did not fit.
    pub dropped: u64,
    /// Out: bytes of records that wait for the reader.
    pub waiting_bytes: u64,
    /// Out: most that may wait.
    pub limit_bytes: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// A node of a table that is loaded (`struct virgo_node_address`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeAddress {
    /// The address in network order; an IPv4 one as ::ffff:a.b.c.d.
    pub ip: [u8; 16],
    /// The interface of a link-local address, else 0.
    pub scope: u32,
    /// 1 to 65535.
    pub port: u32,
    /// How much it takes compared to others, up to `VIRGO_NODE_WEIGHT_MAX`; 0 counts as 1.
    pub weight: u32,
    /// Must be zero.
    pub reserved: u32,
}

/// Put a table of nodes in place of the one before (`struct virgo_nodes_load`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodesLoad {
    /// In: `size_of::<NodesLoad>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of an array of [`NodeAddress`].
    pub nodes: u64,
    /// In: entries in the array. 0 forgets the table: this node alone.
    pub count: u32,
    /// In: which of them is this node, from 0.
    pub self_index: u32,
    /// In: the address to listen on, as in [`NodeAddress`]; all zero: every one.
    pub bind_ip: [u8; 16],
    /// In: the port to listen on.
    pub bind_port: u32,
    /// In: as in [`NodeAddress`].
    pub bind_scope: u32,
    /// In: address of the cluster's key; may be zero if `key_length` is.
    pub key: u64,
    /// In: its bytes, `VIRGO_NODES_KEY_MIN` to `VIRGO_NODES_KEY_MAX`; or 0 for none, and then
    /// there is no other node and no port is open.
    pub key_length: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// Out: grows by one with each table.
    pub generation: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// A node, in a list (`struct virgo_node`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number, the same on all nodes.
    pub id: u32,
    /// `VIRGO_NODE_UP`, `VIRGO_NODE_SUSPECT` or `VIRGO_NODE_DOWN`.
    pub state: u32,
    /// As in [`NodeAddress`].
    pub ip: [u8; 16],
    /// Likewise.
    pub scope: u32,
    /// Likewise.
    pub port: u32,
    /// Likewise, from 1.
    pub weight: u32,
    /// `VIRGO_NODE_SELF`.
    pub flags: u32,
    /// How busy it said to be last: 1000 for each runnable task a processor, and more for pressure
    /// and for scarce memory.
    pub load: u32,
    /// Tasks that run or want to.
    pub runnable: u32,
    /// Processors; 0 while nothing is known of the node.
    pub cpus: u32,
    /// The share of the last ten seconds in which some task waited for a processor, in
    /// thousandths; 0xffffffff where it does not tell.
    pub pressure: u32,
    /// Memory that could be used without swapping.
    pub free_kib: u64,
    /// All memory.
    pub total_kib: u64,
    /// How long the last heartbeat took, there and back.
    pub rtt_ns: u64,
    /// Since when it is in this state.
    pub since_ns: u64,
    /// Requests made of it from here.
    pub calls: u64,
    /// Of those, how many had no answer: it was down, or the time was over.
    pub failed: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// Zero.
    pub reserved0: u32,
    /// Why it was last not up, in words.
    pub error: [u8; NODE_ERROR_LEN],
}

/// The nodes (`struct virgo_nodes_list`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodesList {
    /// In: `size_of::<NodesList>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of an array of [`Node`]; may be zero if `capacity` is.
    pub entries: u64,
    /// In: entries in the array.
    pub capacity: u32,
    /// Out: how many nodes there are. At most `capacity` are stored, ordered by number.
    pub count: u32,
    /// Out: which table; 0 while none was ever loaded.
    pub generation: u64,
    /// Out: the address that the nodes' port is open on.
    pub bind_ip: [u8; 16],
    /// Out: the port; 0 while it is not open.
    pub bind_port: u32,
    /// Out: 1 if there is a key.
    pub keyed: u32,
    /// Out: connections of other nodes now.
    pub connections: u64,
    /// Out: connections from addresses that are not in the table.
    pub strangers: u64,
    /// Out: connections that were closed for what came on them.
    pub refused: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Read or set how nodes are chosen (`struct virgo_nodes_policy`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodesPolicy {
    /// In: `size_of::<NodesPolicy>()`.
    pub size: u32,
    /// In: `VIRGO_NODES_SET_` bits; setting needs CAP_SYS_ADMIN.
    pub flags: u32,
    /// In, out: `VIRGO_POLICY_LEAST_LOADED`, `_RANDOM` or `_TWO_CHOICES`.
    pub policy: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In, out: choices at random begin anew from it; 0: from the kernel's random numbers.
    pub seed: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Ask a node for a sign of life (`struct virgo_node_ping`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePing {
    /// In: `size_of::<NodePing>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: its number.
    pub node: u32,
    /// In: how long to wait; 0 counts as 1000.
    pub timeout_ms: u32,
    /// Out: how long it took.
    pub rtt_ns: u64,
    /// In: must be zero.
    pub reserved: u64,
}

/// Choose a node as a request would (`struct virgo_node_pick`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePick {
    /// In: `size_of::<NodePick>()`.
    pub size: u32,
    /// In: 0 or `VIRGO_PICK_OWNER`.
    pub flags: u32,
    /// In: `VIRGO_POLICY_`; 0 with `VIRGO_PICK_OWNER`.
    pub policy: u32,
    /// In: for `VIRGO_POLICY_NODE`; out: the node.
    pub node: u32,
    /// In: with `VIRGO_PICK_OWNER`, address of the key.
    pub key: u64,
    /// In: its bytes, at most 4096.
    pub key_length: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: u64,
}

impl Default for Node {
    fn default() -> Self {
        Node {
            id: 0,
            state: 0,
            ip: [0; 16],
            scope: 0,
            port: 0,
            weight: 0,
            flags: 0,
            load: 0,
            runnable: 0,
            cpus: 0,
            pressure: 0,
            free_kib: 0,
            total_kib: 0,
            rtt_ns: 0,
            since_ns: 0,
            calls: 0,
            failed: 0,
            in_flight: 0,
            reserved0: 0,
            error: [0; NODE_ERROR_LEN],
        }
    }
}

/// A setting (`struct virgo_analytics_get`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnalyticsGet {
    /// In: `sizeof(struct virgo_analytics_get)`.
    pub size: u32,
    /// In: 0 or `VIRGO_ANALYTICS_GET_INDEX`.
    pub flags: u32,
    /// In: where to store the value, which has no NUL behind it.
    pub text: u64,
    /// In: room there, in bytes.
    pub capacity: u32,
    /// Out: the value's length, even if that is more than capacity; as much as there is room for
    /// is stored.
    pub length: u32,
    /// In with `VIRGO_ANALYTICS_GET_INDEX`; out: the setting's number. A number is never given to
    /// another setting.
    pub index: u32,
    /// Out: `enum virgo_analytics_kind`.
    pub kind: u32,
    /// Out: the value as a number; of a choice the word's place, of a text 0.
    pub number: i64,
    /// Out: the least value of a number.
    pub low: i64,
    /// Out: its greatest.
    pub high: i64,
    /// Out: the number of the change that made it so; 0: none has.
    pub version: u64,
    /// Out: when, in nanoseconds of CLOCK_REALTIME.
    pub changed_ns: u64,
    /// Out: how long a learnt value stands, in ms; 0: for good.
    pub left_ms: u64,
    /// Out: `enum virgo_analytics_source`.
    pub source: u32,
    /// Out: who set it; 0xffffffff: no process.
    pub uid: u32,
    /// Out: that process.
    pub pid: u32,
    /// Out: `VIRGO_ANALYTICS_READ` and so on.
    pub state: u32,
    /// Out: the stamp of the cluster's value; 0: there is none.
    pub cluster_stamp: u64,
    /// Out: the node that set it.
    pub cluster_node: u32,
    /// In: must be zero.
    pub reserved: u32,
    /// Out: that process's name.
    pub comm: [u8; 16],
    /// In without `VIRGO_ANALYTICS_GET_INDEX`; out: the setting's name.
    pub key: [u8; ANALYTICS_KEY_LEN],
    /// Out: who reads it.
    pub reader: [u8; ANALYTICS_READER_LEN],
    /// Out: a choice's words.
    pub words: [u8; ANALYTICS_WORDS_LEN],
    /// Out: the value that it has where nobody has set it, cut.
    pub initial: [u8; ANALYTICS_CUT_LEN],
    /// Out: why it was set.
    pub why: [u8; ANALYTICS_WHY_LEN],
}

impl Default for AnalyticsGet {
    fn default() -> Self {
        AnalyticsGet {
            size: 0,
            flags: 0,
            text: 0,
            capacity: 0,
            length: 0,
            index: 0,
            kind: 0,
            number: 0,
            low: 0,
            high: 0,
            version: 0,
            changed_ns: 0,
            left_ms: 0,
            source: 0,
            uid: 0,
            pid: 0,
            state: 0,
            cluster_stamp: 0,
            cluster_node: 0,
            reserved: 0,
            comm: [0; 16],
            key: [0; ANALYTICS_KEY_LEN],
            reader: [0; ANALYTICS_READER_LEN],
            words: [0; ANALYTICS_WORDS_LEN],
            initial: [0; ANALYTICS_CUT_LEN],
            why: [0; ANALYTICS_WHY_LEN],
        }
    }
}

/// Set a value (`struct virgo_analytics_set`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnalyticsSet {
    /// In: `sizeof(struct virgo_analytics_set)`.
    pub size: u32,
    /// In: `VIRGO_ANALYTICS_SET_` bits.
    pub flags: u32,
    /// In: address of the value.
    pub text: u64,
    /// In: its length, at most `VIRGO_ANALYTICS_VALUE_MAX`.
    pub length: u32,
    /// In: `VIRGO_ANALYTICS_BY_PERSON` to `VIRGO_ANALYTICS_BY_LEARNER`; for the cluster a person or a
    /// file.
    pub source: u32,
    /// In: from a learner: how long it stands; 0: for good.
    pub ttl_ms: u32,
    /// Out with EINVAL and ERANGE: the setting's kind.
    pub kind: u32,
    /// In with `VIRGO_ANALYTICS_SET_IF`; out: the number of this change, or of the last one if
    /// this changed nothing.
    pub version: u64,
    /// Out with ERANGE: the least value.
    pub low: i64,
    /// Out with ERANGE: the greatest.
    pub high: i64,
    /// Out with ENOSPC: how many settings there can be, or how many bytes for all of them; out
    /// with EBUSY: the uid of whose value stands.
    pub limit: u64,
    /// Out with `VIRGO_ANALYTICS_SET_CLUSTER`: how many nodes have the value, this one among them.
    pub reached: u32,
    /// Out with `VIRGO_ANALYTICS_SET_CLUSTER`: how many nodes there are.
    pub nodes: u32,
    /// In: must be zero.
    pub reserved: u64,
    /// In: the setting's name.
    pub key: [u8; ANALYTICS_KEY_LEN],
    /// Out with ERANGE: a choice's words.
    pub words: [u8; ANALYTICS_WORDS_LEN],
    /// In: why it is set, for those who look at it later.
    pub why: [u8; ANALYTICS_WHY_LEN],
}

impl Default for AnalyticsSet {
    fn default() -> Self {
        AnalyticsSet {
            size: 0,
            flags: 0,
            text: 0,
            length: 0,
            source: 0,
            ttl_ms: 0,
            kind: 0,
            version: 0,
            low: 0,
            high: 0,
            limit: 0,
            reached: 0,
            nodes: 0,
            reserved: 0,
            key: [0; ANALYTICS_KEY_LEN],
            words: [0; ANALYTICS_WORDS_LEN],
            why: [0; ANALYTICS_WHY_LEN],
        }
    }
}

/// Declare a setting (`struct virgo_analytics_define`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnalyticsDefine {
    /// In: `sizeof(struct virgo_analytics_define)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: `enum virgo_analytics_kind`.
    pub kind: u32,
    /// In: the length of text.
    pub length: u32,
    /// In: address of the value it has where nobody has set it.
    pub text: u64,
    /// In: the least value of a number, else 0.
    pub low: i64,
    /// In: its greatest, else 0.
    pub high: i64,
    /// Out with ENOSPC: as for `VIRGO_ANALYTICS_IOC_SET`.
    pub limit: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
    /// In: the setting's name.
    pub key: [u8; ANALYTICS_KEY_LEN],
    /// In: who reads it.
    pub reader: [u8; ANALYTICS_READER_LEN],
    /// In: a choice's words with | between, else empty.
    pub words: [u8; ANALYTICS_WORDS_LEN],
}

impl Default for AnalyticsDefine {
    fn default() -> Self {
        AnalyticsDefine {
            size: 0,
            flags: 0,
            kind: 0,
            length: 0,
            text: 0,
            low: 0,
            high: 0,
            limit: 0,
            reserved: [0; 2],
            key: [0; ANALYTICS_KEY_LEN],
            reader: [0; ANALYTICS_READER_LEN],
            words: [0; ANALYTICS_WORDS_LEN],
        }
    }
}

/// A change that was made (`struct virgo_analytics_change`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnalyticsChange {
    /// Its number, from 1 on.
    pub version: u64,
    /// When, in nanoseconds of CLOCK_REALTIME.
    pub when_ns: u64,
    /// `enum virgo_analytics_source` of the value that is in force.
    pub source: u32,
    /// `VIRGO_ANALYTICS_CHANGE_` bits.
    pub flags: u32,
    /// Who; 0xffffffff: no process.
    pub uid: u32,
    /// That process.
    pub pid: u32,
    /// Its name.
    pub comm: [u8; 16],
    /// The setting.
    pub key: [u8; ANALYTICS_KEY_LEN],
    /// Its value before, cut.
    pub before: [u8; ANALYTICS_CUT_LEN],
    /// Its value after, cut.
    pub after: [u8; ANALYTICS_CUT_LEN],
    /// Why.
    pub why: [u8; ANALYTICS_WHY_LEN],
}

impl Default for AnalyticsChange {
    fn default() -> Self {
        AnalyticsChange {
            version: 0,
            when_ns: 0,
            source: 0,
            flags: 0,
            uid: 0,
            pid: 0,
            comm: [0; 16],
            key: [0; ANALYTICS_KEY_LEN],
            before: [0; ANALYTICS_CUT_LEN],
            after: [0; ANALYTICS_CUT_LEN],
            why: [0; ANALYTICS_WHY_LEN],
        }
    }
}

/// The changes (`struct virgo_analytics_log`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnalyticsLog {
    /// In: `sizeof(struct virgo_analytics_log)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of an array of struct virgo_analytics_change.
    pub entries: u64,
    /// In: entries that there is room for.
    pub capacity: u32,
    /// Out: entries that were stored, the oldest first.
    pub count: u32,
    /// In: changes with a greater number than this.
    pub after: u64,
    /// Out: how many of those are no longer kept.
    pub lost: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Take changes back (`struct virgo_analytics_undo`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnalyticsUndo {
    /// In: `sizeof(struct virgo_analytics_undo)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: how many, from the last one on; up to `VIRGO_ANALYTICS_UNDO_MAX`.
    pub count: u32,
    /// Out: how many were taken back; with an error too.
    pub done: u32,
    /// Out: the number of the last change.
    pub version: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Numbers (`struct virgo_analytics_info`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnalyticsInfo {
    /// In: `sizeof(struct virgo_analytics_info)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: the number of the last change.
    pub version: u64,
    /// Out: how many settings there are.
    pub settings: u64,
    /// Out: how many there can be.
    pub max_settings: u64,
    /// Out: the memory of their names, values and declarations.
    pub bytes: u64,
    /// Out: how much that can be.
    pub max_bytes: u64,
    /// Out: how many changes were refused, for whatever reason.
    pub refused: u64,
    /// Out: how many learnt values have run out.
    pub expired: u64,
    /// Out: how many changes can be taken back.
    pub undoable: u32,
    /// Out: how many functions of modules are told of changes.
    pub watchers: u32,
    /// In: must be zero.
    pub reserved: [u64; 7],
}

/// What the reader knows (`struct virgo_analytics_seen`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnalyticsSeen {
    /// In: `sizeof(struct virgo_analytics_seen)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the number of the last change that it knows of.
    pub version: u64,
}

/// Put a request (`struct virgo_queue_put`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePut {
    /// In: `sizeof(struct virgo_queue_put)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of the request.
    pub body: u64,
    /// In: its length in bytes.
    pub length: u32,
    /// In: the smaller, the sooner; equal ones in the order of their numbers.
    pub pri: u32,
    /// In: seconds until it is ready.
    pub delay: u32,
    /// In: seconds that who takes it has; 0 is taken as 1.
    pub ttr: u32,
    /// Out: its number.
    pub id: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
    /// In: the tube's name, NUL behind it; empty is "default".
    pub tube: QueueName,
}

/// Take a request (`struct virgo_queue_take`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTake {
    /// In: `sizeof(struct virgo_queue_take)`.
    pub size: u32,
    /// In: `VIRGO_QUEUE_TAKE_` bits.
    pub flags: u32,
    /// In: address to store the request at.
    pub body: u64,
    /// In: room there, in bytes.
    pub capacity: u32,
    /// Out: the request's length; with EMSGSIZE too.
    pub length: u32,
    /// In: how long to wait for one; 0: not at all. On VIRGO_DEVICE only 0, else EINVAL.
    pub timeout_ms: u32,
    /// Out: its priority.
    pub pri: u32,
    /// Out: the seconds that the caller has.
    pub ttr: u32,
    /// Out: how often it has been taken, this time counted: with more than 1, somebody may have
    /// dealt with it before.
    pub reserves: u32,
    /// In with `VIRGO_QUEUE_TAKE_ID`; out: its number.
    pub id: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
    /// In: the tube to take from; empty is "default".
    pub tube: QueueName,
}

/// Say what becomes of a request (`struct virgo_queue_done`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDone {
    /// In: `sizeof(struct virgo_queue_done)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: its number.
    pub id: u64,
    /// In: enum virgo_queue_action.
    pub action: u32,
    /// In: its new priority, with RELEASE and BURY.
    pub pri: u32,
    /// In: seconds until it is ready, with RELEASE.
    pub delay: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Look at a request (`struct virgo_queue_peek`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePeek {
    /// In: `sizeof(struct virgo_queue_peek)`.
    pub size: u32,
    /// In: `VIRGO_QUEUE_PEEK_` bits.
    pub flags: u32,
    /// In: which; out: its number.
    pub id: u64,
    /// In: address to store the request at.
    pub body: u64,
    /// In: room there; what does not fit is left out.
    pub capacity: u32,
    /// Out: the request's length.
    pub length: u32,
    /// Out: its priority.
    pub pri: u32,
    /// Out: seconds that who takes it has.
    pub ttr: u32,
    /// Out: the delay that it was put or given back with, in seconds.
    pub delay: u32,
    /// Out: `VIRGO_QUEUE_READY` and so on.
    pub state: u32,
    /// Out: how often it was taken.
    pub reserves: u32,
    /// Out: how often the time of who took it was over.
    pub timeouts: u32,
    /// Out: how often it was given back.
    pub releases: u32,
    /// Out: how often it was put aside.
    pub buries: u32,
    /// Out: how often it was made ready again.
    pub kicks: u32,
    /// Zero.
    pub reserved0: u32,
    /// Out: how long it has been there.
    pub age_ns: u64,
    /// Out: until its delay, or the time of who took it, is over.
    pub left_ns: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
    /// In: with PEEK_NEXT, of this tube only, if not empty; out: its tube.
    pub tube: QueueName,
}

/// Numbers (`struct virgo_queue_stat`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStat {
    /// In: `sizeof(struct virgo_queue_stat)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: requests that can be taken.
    pub ready: u64,
    /// Out: requests that will be ready later.
    pub delayed: u64,
    /// Out: requests put aside.
    pub buried: u64,
    /// Out: requests that somebody has taken.
    pub reserved: u64,
    /// Out: ready ones with a priority below 1024.
    pub urgent: u64,
    /// Out: who waits for one.
    pub waiting: u64,
    /// Out: requests put so far.
    pub total: u64,
    /// Out: of a tube: requests that are done with.
    pub deletes: u64,
    /// Out: requests whose taker's time was over.
    pub timeouts: u64,
    /// Out: memory that requests take; of a tube, zero.
    pub bytes: u64,
    /// Out: the limit on it.
    pub max_bytes: u64,
    /// Out: how many tubes there are.
    pub tubes: u64,
    /// Out: connections and open files.
    pub workers: u64,
    /// Out: bytes in the log.
    pub log_bytes: u64,
    /// Out: records written into it since the module was loaded.
    pub log_records: u64,
    /// Out: places in it that could not be read at load.
    pub log_damaged: u64,
    /// Out: 1 if no more requests are taken in.
    pub draining: u32,
    /// Out: `VIRGO_QUEUE_LOG_NONE` and so on.
    pub log: u32,
    /// Out: the errno why it cannot be written; 0: it can.
    pub log_error: u32,
    /// Zero.
    pub reserved0: u32,
    /// Out: of a tube: until its pause is over; 0: it has none.
    pub pause_left_ns: u64,
    /// In: must be zero.
    pub reserved1: [u64; 3],
    /// In: of this tube; empty: of all.
    pub tube: QueueName,
}

/// The tubes (`struct virgo_queue_list`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueList {
    /// In: `sizeof(struct virgo_queue_list)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address to store the names at, each with a NUL behind it.
    pub names: u64,
    /// In: room there, in bytes.
    pub capacity: u32,
    /// Out: bytes that all names take. Those that fit are stored.
    pub length: u32,
    /// Out: how many tubes there are.
    pub count: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Take in no more requests (`struct virgo_queue_drain`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDrain {
    /// In: `sizeof(struct virgo_queue_drain)`.
    pub size: u32,
    /// In: 0 or `VIRGO_QUEUE_DRAIN_SET`.
    pub flags: u32,
    /// In: 1 to begin, 0 to end; out: how it is now.
    pub draining: u32,
    /// In: must be zero.
    pub reserved0: u32,
}

/// A tube's settings (`struct virgo_queue_tube`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTube {
    /// In: `sizeof(struct virgo_queue_tube)`.
    pub size: u32,
    /// In: 0 or `VIRGO_QUEUE_TUBE_SET`.
    pub flags: u32,
    /// The most requests it holds; 0: the module's limit.
    pub limit: u32,
    /// How often a request may be taken before it is put into `NAME.dead`; 0: always.
    pub tries: u32,
    /// `VIRGO_QUEUE_KEEP_DEFAULT` and so on.
    pub keep: u32,
    /// In, to set: bytes at `copies`; out: bytes that all names take.
    pub length: u32,
    /// In: address of the names of the tubes that get a copy, each with a NUL behind it.
    pub copies: u64,
    /// In: room there, in bytes.
    pub capacity: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
    /// In: its name.
    pub tube: QueueName,
}

/// Answer a request (`struct virgo_queue_reply`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueReply {
    /// In: `sizeof(struct virgo_queue_reply)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the request's number.
    pub id: u64,
    /// In: address of the answer.
    pub body: u64,
    /// In: how many bytes.
    pub length: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Fetch an answer (`struct virgo_queue_result`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueResult {
    /// In: `sizeof(struct virgo_queue_result)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the request's number.
    pub id: u64,
    /// In: address to store the answer at.
    pub body: u64,
    /// In: room there, in bytes.
    pub capacity: u32,
    /// Out: bytes of the answer.
    pub length: u32,
    /// In: must be zero. Out: the errno that the answer stands for, or 0.
    pub error: u32,
    /// In: must be zero. Out: `VIRGO_QUEUE_ANSWER_`, what the answer is.
    pub kind: u32,
    /// In: must be zero.
    pub reserved: u64,
}

/// A program that virgo-queue had run (`struct virgo_queue_program`); its output follows, then its error
/// output.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueProgram {
    /// `VIRGO_CPUPOOL_ENDED` or `VIRGO_CPUPOOL_FAILED`.
    pub state: u32,
    /// As wait(2) has it; where it could not be run, the errno.
    pub status: u32,
    /// Why it was killed.
    pub reason: u32,
    /// Bytes of output.
    pub out_length: u32,
    /// Bytes of error output.
    pub err_length: u32,
    /// Where it ran.
    pub node: u32,
    /// How long it ran.
    pub elapsed_ns: u64,
    /// Processor time in user mode, of all its processes.
    pub user_ns: u64,
    /// Likewise in the kernel.
    pub system_ns: u64,
    /// The most memory that it took.
    pub peak_bytes: u64,
}

/// Call a kernel function by name (`struct virgo_cpupool_call`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolCall {
    /// In: `size_of::<CpupoolCall>()`.
    pub size: u32,
    /// In: 0 or `VIRGO_CPUPOOL_IDEMPOTENT`.
    pub flags: u32,
    /// In: `VIRGO_POLICY_`, how the node is chosen.
    pub policy: u32,
    /// In: for `VIRGO_POLICY_NODE`; out: the node that was chosen, with an error too; 0 where none
    /// was.
    pub node: u32,
    /// In: address of the name.
    pub name: u64,
    /// In: address of the input; may be zero if `input_length` is.
    pub input: u64,
    /// In: address of room for the output.
    pub output: u64,
    /// In: bytes of the name, without a NUL.
    pub name_length: u32,
    /// In: bytes of the input, up to almost 2 MiB.
    pub input_length: u32,
    /// In: bytes of room.
    pub output_capacity: u32,
    /// Out: bytes of the output.
    pub output_length: u32,
    /// In: how long the function may take; 0 counts as 30000.
    pub timeout_ms: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// Out: how long it took, the way included; with an error too.
    pub elapsed_ns: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// A function, in a list (`struct virgo_cpupool_function`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpupoolFunction {
    /// Its name, padded with NULs.
    pub name: [u8; CPUPOOL_NAME_LEN],
    /// `VIRGO_CPUPOOL_SLOW`.
    pub flags: u32,
    /// Calls of it that are under way.
    pub running: u32,
    /// Calls that have ended.
    pub calls: u64,
    /// Of those, with an error.
    pub failed: u64,
    /// How long they took together.
    pub busy_ns: u64,
}

/// The functions of a node (`struct virgo_cpupool_list`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolList {
    /// In: `size_of::<CpupoolList>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: its number, or 0 for this one; out: its number.
    pub node: u32,
    /// In: entries in the array.
    pub capacity: u32,
    /// In: address of an array of [`CpupoolFunction`], or what the command says.
    pub entries: u64,
    /// Out: how many there are. At most `capacity` are stored.
    pub count: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

impl Default for CpupoolFunction {
    fn default() -> Self {
        CpupoolFunction {
            name: [0; CPUPOOL_NAME_LEN],
            flags: 0,
            running: 0,
            calls: 0,
            failed: 0,
            busy_ns: 0,
        }
    }
}

// EventNet.

/// EventNet's own device.
pub const EVENTNET_DEVICE: &str = "/dev/virgo-eventnet";
/// Set whose events are taken.
pub const EVENTNET_SET_MODULES: u32 = 1 << 0;
/// Set how long an event waits for others.
pub const EVENTNET_SET_FLUSH: u32 = 1 << 1;
/// Set the node that collects.
pub const EVENTNET_SET_COLLECTOR: u32 = 1 << 2;
/// Write a message ([`EventnetLog`]).
pub const EVENTNET_IOC_LOG: u32 = iowr::<EventnetLog>(0x50);
/// Read the journal ([`EventnetRead`]).
pub const EVENTNET_IOC_READ: u32 = iowr::<EventnetRead>(0x51);
/// Numbers ([`EventnetStat`]).
pub const EVENTNET_IOC_STAT: u32 = iowr::<EventnetStat>(0x52);
/// Settings ([`EventnetSettings`]).
pub const EVENTNET_IOC_SETTINGS: u32 = iowr::<EventnetSettings>(0x53);

/// Write a message, as on the port (`struct virgo_eventnet_log`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventnetLog {
    /// In: `sizeof(struct virgo_eventnet_log)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address of the message.
    pub message: u64,
    /// In: its length in bytes.
    pub length: u32,
    /// Out: this node.
    pub node: u32,
    /// Out: its stamp.
    pub stamp: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Read the journal (`struct virgo_eventnet_read`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventnetRead {
    /// In: `sizeof(struct virgo_eventnet_read)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: address to store the bytes at.
    pub buffer: u64,
    /// In: where in the journal to begin.
    pub position: u64,
    /// In: room, in bytes.
    pub capacity: u32,
    /// Out: bytes that were stored.
    pub length: u32,
    /// Out: where to go on.
    pub next: u64,
    /// Out: the journal's length.
    pub end: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Numbers (`struct virgo_eventnet_stat`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventnetStat {
    /// In: `sizeof(struct virgo_eventnet_stat)`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// Out: events of modules in the journal, since it was loaded.
    pub events: u64,
    /// Out: messages about events.
    pub vertices: u64,
    /// Out: messages about causes.
    pub edges: u64,
    /// Out: events of modules that nobody will know.
    pub lost: u64,
    /// Out: records of these losses.
    pub losses: u64,
    /// Out: messages that were refused.
    pub refused: u64,
    /// Out: records of other nodes.
    pub received: u64,
    /// Out: own records that the collecting node has.
    pub forwarded: u64,
    /// Out: bytes of the journal that it has not been sent.
    pub behind: u64,
    /// Out: the journal's length.
    pub journal_bytes: u64,
    /// Out: as much of it is in the text files.
    pub rendered_bytes: u64,
    /// Out: why the journal cannot be written; 0: it can.
    pub journal_errno: u32,
    /// Out: why the text files cannot be written; 0: they can.
    pub render_errno: u32,
    /// Out: this node.
    pub node: u32,
    /// Out: whose events are taken.
    pub modules: u32,
    /// In: must be zero.
    pub reserved: [u64; 4],
}

/// Settings (`struct virgo_eventnet_settings`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventnetSettings {
    /// In: `sizeof(struct virgo_eventnet_settings)`.
    pub size: u32,
    /// In: `VIRGO_EVENTNET_SET_` bits.
    pub flags: u32,
    /// Whose events are taken: bit `1 << VIRGO_MODULE_x`.
    pub modules: u32,
    /// Milliseconds that an event waits for others.
    pub flush_ms: u32,
    /// Out: events of each module that wait to be written.
    pub ring: u32,
    /// The node that collects; 0: none.
    pub collector: u32,
    /// In: must be zero.
    pub reserved: [u64; 3],
}

/// A program that may be run (`struct virgo_cpupool_program`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpupoolProgram {
    /// Its name, padded with NULs.
    pub name: [u8; CPUPOOL_PROGRAM_LEN],
    /// Its path, padded with NULs.
    pub path: [u8; CPUPOOL_PATH_LEN],
    /// As which user; not 0.
    pub uid: u32,
    /// As which group; not 0.
    pub gid: u32,
    /// How long a run takes at most.
    pub time_ms: u32,
    /// The most processes and threads of a run.
    pub processes: u32,
    /// The most bytes of memory of a run.
    pub memory: u64,
    /// The most bytes of a run's output, and as many of error output.
    pub output: u64,
    /// Out: how often it was started.
    pub runs: u64,
    /// Must be zero.
    pub reserved: u64,
}

impl Default for CpupoolProgram {
    fn default() -> Self {
        CpupoolProgram {
            name: [0; CPUPOOL_PROGRAM_LEN],
            path: [0; CPUPOOL_PATH_LEN],
            uid: 0,
            gid: 0,
            time_ms: 0,
            processes: 0,
            memory: 0,
            output: 0,
            runs: 0,
            reserved: 0,
        }
    }
}

/// Say which programs may be run (`struct virgo_cpupool_set`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolSet {
    /// In: `size_of::<CpupoolSet>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: how many programs, 256 at most; 0: none any more.
    pub count: u32,
    /// In: the most runs at once, 1 to 256.
    pub at_once: u32,
    /// In: address of an array of [`CpupoolProgram`].
    pub entries: u64,
    /// In: address of the control groups' folder.
    pub group: u64,
    /// In: its length in bytes, without a NUL.
    pub group_length: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Lend one's credentials (`struct virgo_cpupool_lend`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolLend {
    /// In: `size_of::<CpupoolLend>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: must be zero.
    pub reserved: u64,
}

/// Start a program (`struct virgo_cpupool_start`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolStart {
    /// In: `size_of::<CpupoolStart>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: `VIRGO_POLICY_`, how the node is chosen.
    pub policy: u32,
    /// In: for `VIRGO_POLICY_NODE`; out: the node that was chosen, with an error too.
    pub node: u32,
    /// In: address of the arguments, each with a NUL behind it; the first is the program.
    pub arguments: u64,
    /// In: address of its standard input.
    pub input: u64,
    /// In: bytes of the arguments.
    pub arguments_length: u32,
    /// In: bytes of the input.
    pub input_length: u32,
    /// In: how long it may run; 0: as the table says, as with the next three.
    pub time_ms: u32,
    /// In: the most processes and threads.
    pub processes: u32,
    /// In: the most bytes of memory.
    pub memory: u64,
    /// In: the most bytes of output, and as many of error output.
    pub output: u64,
    /// Out: the run's number.
    pub id: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// See how a run goes on (`struct virgo_cpupool_follow`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolFollow {
    /// In: `size_of::<CpupoolFollow>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the node, or 0 for this one.
    pub node: u32,
    /// In: how long to wait for something new; less is waited than a second.
    pub wait_ms: u32,
    /// In: the run's number.
    pub id: u64,
    /// In: how much of its output is known.
    pub out_at: u64,
    /// In: how much of its error output is known.
    pub err_at: u64,
    /// In: address of room for output.
    pub out: u64,
    /// In: address of room for error output.
    pub err: u64,
    /// In: bytes of room there, in each.
    pub capacity: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// Out: bytes of output.
    pub out_length: u32,
    /// Out: bytes of error output.
    pub err_length: u32,
    /// Out: 1 it runs, 2 it has ended, 3 it could not be run.
    pub state: u32,
    /// Out: as wait(2) has it; where it could not be run, the errno.
    pub status: u32,
    /// Out: why it was killed: 1 its time was over, 2 asked for, 3 nobody asked about it, 4 unload.
    pub reason: u32,
    /// Out: there was not room for all of the output.
    pub more: u32,
    /// Out: how long it runs or ran.
    pub elapsed_ns: u64,
    /// Out: once it has ended: processor time in user mode.
    pub user_ns: u64,
    /// Out: likewise in the kernel.
    pub system_ns: u64,
    /// Out: likewise the most memory that it took.
    pub peak_bytes: u64,
    /// In: must be zero.
    pub reserved: [u64; 2],
}

/// Kill a run (`struct virgo_cpupool_kill`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolKill {
    /// In: `size_of::<CpupoolKill>()`.
    pub size: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: the node, or 0 for this one.
    pub node: u32,
    /// In: must be zero.
    pub reserved0: u32,
    /// In: the run's number.
    pub id: u64,
    /// In: must be zero.
    pub reserved: u64,
}

/// A run, in a list (`struct virgo_cpupool_run`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpupoolRun {
    /// Its number.
    pub id: u64,
    /// How long it runs or ran.
    pub elapsed_ns: u64,
    /// Bytes of output so far.
    pub out_bytes: u64,
    /// Bytes of error output so far.
    pub err_bytes: u64,
    /// As which user.
    pub uid: u32,
    /// 1 it runs, 2 it has ended, 3 it could not be run.
    pub state: u32,
    /// Why it is to end, as in `struct virgo_cpupool_follow`.
    pub reason: u32,
    /// Zero.
    pub reserved: u32,
    /// The program's name, padded with NULs.
    pub name: [u8; CPUPOOL_PROGRAM_LEN],
}
