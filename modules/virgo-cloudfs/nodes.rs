// SPDX-License-Identifier: GPL-2.0-only

//! Files of other nodes: what goes to them, and what comes from them.
//!
//! A request is numbers, little-endian, of 8 bytes each, and then bytes: first the number of the
//! module's life (`epoch`) and of the program's open device (`client`) on the node that asks, which
//! together own the handles, then what the operation takes:
//!
//! | operation | takes | answers |
//! |---|---|---|
//! | 1 OPEN | flags, mode, path | handle |
//! | 2 READ | handle, offset, length | bytes |
//! | 3 WRITE | handle, offset, bytes | count |
//! | 4 CLOSE | handle | |
//! | 5 SYNC | handle, flags | |
//! | 6 STAT | handle | nine numbers, in the order of `struct virgo_fs_stat` |
//! | 7 TRUNCATE | handle, length | |
//! | 8 READDIR | handle, offset, length | entries, as the ioctl has them |
//! | 9 LEAVE | | |

use kernel::{
    prelude::*,
    rbtree::RBTree,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

use crate::{
    errno,
    export::Export,
    files,
    handles::{
        Handles,
        Local, //
    },
    lib::{
        cluster::{
            self,
            NodeId,
            Policy,
            State, //
        },
        compat,
        random::random_u64,
        service::{
            Module,
            RemoteReply, //
        },
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        },
    },
    proto::uapi::{
        self,
        FsStat, //
    },
};

/// How long a request may take; one to a node that is down takes no time.
const TIMEOUT_MS: u32 = 10_000;

/// How long it may take to tell a node that a program is gone.
const LEAVE_MS: u32 = 1000;

/// The most programs of other nodes that have files open here.
const MAX_GUESTS: usize = 4096;

/// How often nodes that are down are looked for.
const WATCH_NS: u64 = 10_000_000_000;

const OPEN: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 3;
const CLOSE: u32 = 4;
const SYNC: u32 = 5;
const STAT: u32 = 6;
const TRUNCATE: u32 = 7;
const READDIR: u32 = 8;
const LEAVE: u32 = 9;

/// A file that is open on another node.
#[derive(Clone, Copy)]
pub(crate) struct There {
    node: NodeId,
    number: u64,
}

/// Numbers of this life of the module: a node that begins anew has none of its old handles.
pub(crate) struct Life {
    epoch: u64,
    next: Atomic<u64>,
}

impl Life {
    /// A new one.
    pub(crate) fn new() -> Self {
        Life {
            epoch: random_u64(),
            next: Atomic::new(1),
        }
    }
}

/// A program's open device, as other nodes know it. Drop closes what it has open there.
#[pin_data(PinnedDrop)]
pub(crate) struct Ways {
    epoch: u64,
    client: u64,
    /// Where it has opened anything.
    #[pin]
    nodes: Mutex<KVec<NodeId>>,
}

/// A node's number in a handle: never 0, which is here.
fn mark(node: NodeId) -> u16 {
    let number = node.number();
    // CAST: sixteen bits each, folded.
    ((number >> 16) as u16 ^ number as u16).max(1)
}

/// A node's error as one who has a handle of it is told it.
fn told(error: Error) -> Error {
    // No such node, or no cluster: it is not in the table any more.
    if error == ENOENT || error == compat::enotconn() {
        errno::ehostunreach()
    } else {
        error
    }
}

impl Ways {
    /// Of a program that has nothing open yet.
    pub(crate) fn new(life: &Life) -> impl PinInit<Self> {
        let epoch = life.epoch;
        // Relaxed: it must differ from others, no more.
        let client = life.next.fetch_add(1, Relaxed);
        pin_init!(Ways {
            epoch,
            client,
            nodes <- kernel::new_mutex!(KVec::new()),
        })
    }

    fn call(
        &self,
        node: NodeId,
        operation: u32,
        numbers: &[u64],
        bytes: &[u8],
        limit: usize,
        timeout_ms: u32,
    ) -> Result<KVVec<u8>> {
        let length = numbers.len().saturating_add(2).saturating_mul(8);
        let mut request = KVVec::with_capacity(length.saturating_add(bytes.len()), GFP_KERNEL)?;
        for number in Iterator::chain([self.epoch, self.client].iter(), numbers) {
            request.extend_from_slice(&number.to_le_bytes(), GFP_KERNEL)?;
        }
        request.extend_from_slice(bytes, GFP_KERNEL)?;
        cluster::call(
            node,
            Module::Cloudfs,
            operation,
            &request,
            limit,
            timeout_ms,
        )
    }

    /// Opens a file of another node. `EHOSTUNREACH`: no such node; `EHOSTDOWN`; what it says.
    pub(crate) fn open(
        &self,
        node: NodeId,
        path: &[u8],
        flags: u32,
        mode: u32,
    ) -> Result<(u16, There)> {
        cluster::pick(Policy::Node(node)).map_err(told)?;
        {
            // Before it is asked: whatever comes of that, it is told when we leave.
            let mut nodes = self.nodes.lock();
            if !nodes.contains(&node) {
                nodes.push(node, GFP_KERNEL)?;
            }
        }
        let numbers = [flags.into(), mode.into()];
        let answer = self.call(node, OPEN, &numbers, path, 8, TIMEOUT_MS)?;
        let number = Reader(&answer).number()?;
        Ok((mark(node), There { node, number }))
    }

    fn ask(
        &self,
        there: &There,
        operation: u32,
        numbers: [u64; 2],
        bytes: &[u8],
        limit: usize,
    ) -> Result<KVVec<u8>> {
        let [first, second] = numbers;
        let numbers = [there.number, first, second];
        let count = match operation {
            CLOSE | STAT => 1,
            SYNC | TRUNCATE | WRITE => 2,
            _ => 3,
        };
        let numbers = numbers.get(..count).unwrap_or(&[]);
        self.call(there.node, operation, numbers, bytes, limit, TIMEOUT_MS)
            .map_err(told)
    }

    /// Reads.
    pub(crate) fn read(&self, there: &There, offset: u64, length: usize) -> Result<KVVec<u8>> {
        // CAST: usize fits u64.
        self.ask(there, READ, [offset, length as u64], &[], length)
    }

    /// Writes; how much.
    pub(crate) fn write(&self, there: &There, offset: u64, data: &[u8]) -> Result<u64> {
        let answer = self.ask(there, WRITE, [offset, 0], data, 8)?;
        Reader(&answer).number()
    }

    /// Closes.
    pub(crate) fn close(&self, there: &There) -> Result {
        self.ask(there, CLOSE, [0, 0], &[], 0).map(drop)
    }

    /// Brings it to the disk.
    pub(crate) fn sync(&self, there: &There, flags: u32) -> Result {
        self.ask(there, SYNC, [flags.into(), 0], &[], 0).map(drop)
    }

    /// Makes it so long.
    pub(crate) fn truncate(&self, there: &There, length: u64) -> Result {
        self.ask(there, TRUNCATE, [length, 0], &[], 0).map(drop)
    }

    /// Entries of a folder.
    pub(crate) fn list(&self, there: &There, offset: u64, length: usize) -> Result<KVVec<u8>> {
        // CAST: usize fits u64.
        self.ask(there, READDIR, [offset, length as u64], &[], length)
    }

    /// What stat(2) tells.
    pub(crate) fn stat(&self, there: &There, value: &mut FsStat) -> Result {
        let answer = self.ask(there, STAT, [0, 0], &[], 72)?;
        let mut reader = Reader(&answer);
        value.ino = reader.number()?;
        value.nlink = reader.number()?;
        value.bytes = reader.number()?;
        value.blocks = reader.number()?;
        // CAST: the bits of the time.
        value.mtime_sec = reader.number()? as i64;
        value.mtime_nsec = reader.small()?;
        value.mode = reader.small()?;
        value.uid = reader.small()?;
        value.gid = reader.small()?;
        Ok(())
    }
}

#[pinned_drop]
impl PinnedDrop for Ways {
    fn drop(self: Pin<&mut Self>) {
        for node in self.nodes.lock().iter() {
            // A node that does not hear it finds out when this one is down or begins anew.
            let _ = self.call(*node, LEAVE, &[], &[], 0, LEAVE_MS);
        }
    }
}

/// A request or an answer that is taken apart. What is missing is `EPROTO`.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>().ok_or(compat::eproto())?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| compat::eproto())
    }

    /// A number of bytes that are wanted.
    fn length(&mut self, reply: &RemoteReply) -> Result<usize> {
        let length = usize::try_from(self.number()?).map_err(|_| errno::emsgsize())?;
        // CAST: a small constant.
        if length > uapi::FS_IO_MAX as usize || length > reply.limit() {
            return Err(errno::emsgsize());
        }
        Ok(length)
    }
}

/// A program of another node with files open here.
struct Guest {
    epoch: u64,
    handles: Arc<Handles<Local>>,
}

struct All {
    /// By node, and its client's number.
    guests: RBTree<(u32, u64), Guest>,
    count: usize,
}

/// The programs of other nodes that have files open here.
#[pin_data]
pub(crate) struct Guests {
    export: Arc<Export>,
    #[pin]
    all: Mutex<All>,
}

impl Guests {
    /// None yet.
    pub(crate) fn new(export: Arc<Export>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Guests {
                export,
                all <- kernel::new_mutex!(All {
                    guests: RBTree::new(),
                    count: 0,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Forgets those that `is_gone` says so of: closes their files.
    fn forget(&self, is_gone: impl Fn(u32, u64, u64) -> bool) {
        loop {
            let mut all = self.all.lock();
            let mut found = all
                .guests
                .iter()
                .filter(|((node, client), guest)| is_gone(*node, *client, guest.epoch));
            let Some(key) = found.next().map(|(key, _)| *key) else {
                return;
            };
            let gone = all.guests.remove(&key);
            all.count = all.count.saturating_sub(1);
            drop(all);
            drop(gone);
        }
    }

    /// The handles of a client. `ESTALE` where it has none, but for an OPEN. `ENFILE` past the
    /// bound.
    fn handles(&self, key: (u32, u64), epoch: u64, open: bool) -> Result<Arc<Handles<Local>>> {
        if let Some(guest) = self.all.lock().guests.get(&key) {
            if guest.epoch == epoch {
                return Ok(guest.handles.clone());
            }
        }
        if !open {
            return Err(errno::estale());
        }
        let (from, _) = key;
        // The node has begun anew.
        self.forget(|node, _, was| node == from && was != epoch);
        let handles = Arc::pin_init(Handles::new(self.export.clone()), GFP_KERNEL)?;
        let mut all = self.all.lock();
        // Another request of it may have been first.
        if let Some(guest) = all.guests.get(&key) {
            return Ok(guest.handles.clone());
        }
        if all.count >= MAX_GUESTS {
            return Err(ENFILE);
        }
        let guest = Guest {
            epoch,
            handles: handles.clone(),
        };
        all.guests.try_create_and_insert(key, guest, GFP_KERNEL)?;
        all.count = all.count.saturating_add(1);
        Ok(handles)
    }

    /// Does what another node asks for, with the rights of clients that no rule is about: it has
    /// proved that it has the cluster's key.
    pub(crate) fn serve(
        &self,
        from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        let mut reader = Reader(input);
        let (epoch, client) = (reader.number()?, reader.number()?);
        let key = (from.number(), client);
        if operation == LEAVE {
            self.forget(|node, one, _| (node, one) == key);
            return Ok(());
        }
        if !(OPEN..=READDIR).contains(&operation) {
            return Err(compat::eopnotsupp());
        }
        let handles = self.handles(key, epoch, operation == OPEN)?;
        let user = self.export.user();
        user.credentials
            .run(|| self.work(&handles, operation, reader, output))
    }

    fn work(
        &self,
        handles: &Handles<Local>,
        operation: u32,
        mut reader: Reader<'_>,
        output: &mut RemoteReply,
    ) -> Result {
        let export = &self.export;
        if operation == OPEN {
            let (flags, mode) = (reader.small()?, reader.small()?);
            // CAST: a small constant.
            if reader.0.len() > uapi::FS_PATH_MAX as usize {
                return Err(errno::enametoolong());
            }
            let read_only = export.user().read_only;
            let opened = files::open(export, reader.0, flags, mode, read_only)?;
            let handle = handles.insert(0, opened)?;
            return output.push(&handle.to_le_bytes());
        }
        let number = reader.number()?;
        if operation == CLOSE {
            return handles.close(number).map(drop);
        }
        let opened = handles.get(number)?;
        match operation {
            READ => {
                let offset = reader.number()?;
                let length = reader.length(output)?;
                let _room = export.room(length)?;
                let mut data = KVVec::with_capacity(length, GFP_KERNEL)?;
                let read = opened.file.read_to(&mut data, length, offset)?;
                // Relaxed: a statistic. CAST: usize fits u64.
                export.counters.read.fetch_add(read as u64, Relaxed);
                output.set(data)
            }
            WRITE => {
                let offset = reader.number()?;
                // CAST: usize fits u64.
                let written = opened.file.write_at(reader.0, offset)? as u64;
                export.counters.written.fetch_add(written, Relaxed);
                output.push(&written.to_le_bytes())
            }
            SYNC => {
                let flags = reader.small()?;
                opened.file.sync(flags & uapi::FS_SYNC_DATA != 0)
            }
            STAT => {
                let mut value = FsStat::default();
                files::stat(&opened, &mut value)?;
                let numbers = [
                    value.ino,
                    value.nlink,
                    value.bytes,
                    value.blocks,
                    value.mtime_sec as u64, // CAST: the bits of the time.
                    value.mtime_nsec.into(),
                    value.mode.into(),
                    value.uid.into(),
                    value.gid.into(),
                ];
                numbers
                    .iter()
                    .try_for_each(|number| output.push(&number.to_le_bytes()))
            }
            TRUNCATE => files::truncate(&opened, reader.number()?),
            READDIR => {
                let offset = reader.number()?;
                let length = reader.length(output)?;
                let _room = export.room(length)?;
                output.set(files::list(export, &opened, offset, length)?)
            }
            _ => Err(compat::eopnotsupp()),
        }
    }
}

impl DeadlineHandler for Guests {
    /// Closes what nodes that are down had open.
    fn run(&self, work: &DeadlineWork<Self>) {
        if let Ok(nodes) = cluster::nodes() {
            let down = |number: u32| {
                let node = nodes.iter().find(|node| node.id.number() == number);
                // One that is not in the table any more can't say that it leaves.
                node.is_none_or(|node| node.state == State::Down)
            };
            self.forget(|node, _, _| down(node));
        }
        work.arm(monotonic_ns().saturating_add(WATCH_NS));
    }
}
