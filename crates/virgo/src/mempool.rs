// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `/dev/virgo-mempool`: blocks of memory, named values, and namespaces that are read without a
//! system call.

mod scan;
mod types;

use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::sys;
use crate::Result;

pub use crate::mapped::{Counts, Hit, Look, MappedCache, Shown, Table, Unsure};
pub use scan::{Record, Scan};
pub use types::{
    Block, Change, Expiry, Mode, NotAVuid, Owner, Place, Policy, Put, Settings, Stat, Stored,
    Taken, Value, Vuid,
};

/// A key for an error's words: what can be printed of it, and its length if it is long.
fn named(key: &[u8]) -> String {
    const SHOWN: usize = 40;
    let shown = key.get(..SHOWN).unwrap_or(key);
    let dots = if key.len() > SHOWN { "..." } else { "" };
    format!("\"{}{dots}\"", shown.escape_ascii())
}

/// A kernel's count of seconds left.
fn ttl(exptime: i64) -> Option<u64> {
    u64::try_from(exptime).ok()
}

/// `/dev/virgo-mempool`, opened.
///
/// Blocks are [`malloc`](Mempool::malloc)ed and have handles; named values are
/// [`put`](Mempool::put) and have keys. They are the same blocks and values that the network sees
/// at the memory pool's port.
///
/// ```no_run
/// use virgo::mempool::{Mempool, Place, Put};
///
/// # fn main() -> Result<(), virgo::Error> {
/// let pool = Mempool::open()?;
/// let block = pool.malloc(100, Place::Here)?;
/// pool.set(block, 0, b"setdata")?;
/// assert_eq!(&pool.read(block)?[..7], b"setdata");
/// pool.free(block)?;
///
/// pool.put(b"greeting", b"hello", Put::default())?;
/// let value = pool.take(b"greeting")?.expect("it was just stored");
/// assert_eq!(value.data, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Mempool {
    fd: OwnedFd,
    owner: Owner,
}

impl Mempool {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        let path = uapi::MEMPOOL_DEVICE;
        let fd = sys::open_device(path).map_err(|errno| Error::new(Action::Open(path), errno))?;
        Ok(Mempool {
            fd,
            owner: Owner::default(),
        })
    }

    /// From now on named values are those of this node or these nodes.
    #[must_use]
    pub fn on(self, owner: Owner) -> Self {
        Mempool { owner, ..self }
    }

    // Blocks.

    /// `MALLOC`: a block of `length` bytes, 1 to 64 MiB, which read as zeros.
    pub fn malloc(&self, length: u64, place: Place) -> Result<Vuid> {
        let mut argument = uapi::MemMalloc {
            size: size_of::<uapi::MemMalloc>() as u32,
            length,
            ..Default::default()
        };
        match place {
            Place::Here => {}
            Place::Node(node) => argument.node = node,
            Place::Chosen(policy) => {
                argument.flags = uapi::MEM_F_POLICY;
                argument.policy = match policy {
                    Policy::Default => uapi::MEM_POLICY_DEFAULT,
                    Policy::LeastLoaded => uapi::MEM_POLICY_LEAST_LOADED,
                    Policy::Random => uapi::MEM_POLICY_RANDOM,
                    Policy::TwoChoices => uapi::MEM_POLICY_TWO_CHOICES,
                };
            }
            Place::Striped(chunk) => {
                argument.flags = uapi::MEM_F_STRIPE;
                argument.chunk = chunk;
            }
        }
        sys::call::<{ uapi::MEM_IOC_MALLOC }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Malloc(length), errno))?;
        Ok(argument.vuid.into())
    }

    /// `SET`: writes `data` from `offset` on, all of it or (past the block's end) nothing.
    pub fn set(&self, vuid: Vuid, offset: u64, data: &[u8]) -> Result<()> {
        let mut argument = io(vuid, offset);
        sys::mem_set(&self.fd, &mut argument, data).map_err(|errno| {
            Error::new(Action::SetBlock(vuid.to_string()), errno).at(argument.node)
        })
    }

    /// `GET`: reads from `offset` up to the block's end or the end of `room`; how much it was, and
    /// the block's length.
    pub fn get(&self, vuid: Vuid, offset: u64, room: &mut [u8]) -> Result<(usize, u64)> {
        let mut argument = io(vuid, offset);
        sys::mem_get(&self.fd, &mut argument, room).map_err(|errno| {
            Error::new(Action::GetBlock(vuid.to_string()), errno).at(argument.node)
        })?;
        let length = usize::try_from(argument.length).unwrap_or(room.len());
        Ok((length.min(room.len()), argument.block_length))
    }

    /// Reads a whole block.
    pub fn read(&self, vuid: Vuid) -> Result<Vec<u8>> {
        let (_, length) = self.get(vuid, 0, &mut [])?;
        let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
        let (length, _) = self.get(vuid, 0, &mut data)?;
        data.truncate(length);
        Ok(data)
    }

    /// `FREE`: gives a block back. Its handle is then nothing's, for ever.
    pub fn free(&self, vuid: Vuid) -> Result<()> {
        let mut argument = uapi::MemFree {
            size: size_of::<uapi::MemFree>() as u32,
            vuid: vuid.into(),
            ..Default::default()
        };
        sys::call::<{ uapi::MEM_IOC_FREE }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::FreeBlock(vuid.to_string()), errno))
    }

    /// `LIST`: this node's blocks.
    pub fn list(&self) -> Result<Vec<Block>> {
        let fail = |errno| Error::new(Action::ListBlocks, errno);
        let mut entries = Vec::new();
        loop {
            let count = sys::mem_list(&self.fd, &mut entries).map_err(fail)?;
            let count = usize::try_from(count).map_err(|_| fail(Errno::NOMEM))?;
            if count <= entries.len() {
                entries.truncate(count);
                return Ok(entries.into_iter().map(Block::from).collect());
            }
            // Some room for those that come meanwhile, so that this ends.
            let room = count.saturating_add(count / 8).saturating_add(16);
            entries.resize(room, uapi::MemBlock::default());
        }
    }

    /// `STAT`: what this node holds and did.
    pub fn stat(&self) -> Result<Stat> {
        let mut argument = uapi::MemStat {
            size: size_of::<uapi::MemStat>() as u32,
            ..Default::default()
        };
        sys::call::<{ uapi::MEM_IOC_STAT }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Stat, errno))?;
        Ok(argument.into())
    }

    // Named values.

    /// `PUT`: stores a value.
    ///
    /// Not made again after a signal (`EINTR`): an append would be made twice.
    pub fn put(&self, key: &[u8], value: &[u8], how: Put) -> Result<Stored> {
        let (mode, cas) = match how.mode {
            Mode::Set => (uapi::MEM_PUT_SET, 0),
            Mode::Add => (uapi::MEM_PUT_ADD, 0),
            Mode::Replace => (uapi::MEM_PUT_REPLACE, 0),
            Mode::Append => (uapi::MEM_PUT_APPEND, 0),
            Mode::Prepend => (uapi::MEM_PUT_PREPEND, 0),
            Mode::Cas(cas) => (uapi::MEM_PUT_CAS, cas),
        };
        let mut argument = uapi::MemPut {
            size: size_of::<uapi::MemPut>() as u32,
            flags: self.owner.flags(),
            item_flags: how.flags,
            mode,
            exptime: how.expiry.exptime(),
            cas,
            node: self.owner.node(),
            ..Default::default()
        };
        sys::mem_put(&self.fd, &mut argument, key, value)
            .map_err(|errno| Error::new(Action::Put(named(key)), errno).at(argument.node))?;
        Ok(Stored {
            cas: argument.cas,
            node: argument.node,
        })
    }

    /// Stores a value only if its number is still `cas`; `None` if it has changed, or is gone.
    pub fn cas(&self, key: &[u8], value: &[u8], cas: u64, how: Put) -> Result<Option<Stored>> {
        let how = Put {
            mode: Mode::Cas(cas),
            ..how
        };
        absent(self.put(key, value, how), &[Errno::STALE, Errno::NOENT])
    }

    /// Stores a value only if the key is not there; `None` if it is.
    pub fn add(&self, key: &[u8], value: &[u8], how: Put) -> Result<Option<Stored>> {
        let how = Put {
            mode: Mode::Add,
            ..how
        };
        absent(self.put(key, value, how), &[Errno::EXIST])
    }

    /// Stores a value only if the key is there; `None` if it is not.
    pub fn replace(&self, key: &[u8], value: &[u8], how: Put) -> Result<Option<Stored>> {
        let how = Put {
            mode: Mode::Replace,
            ..how
        };
        absent(self.put(key, value, how), &[Errno::NOENT])
    }

    /// `TAKE`: fetches a value, which stays; `None` if there is none.
    pub fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        self.take_and(key, None)
    }

    /// Fetches a value and gives it a new time.
    pub fn take_touch(&self, key: &[u8], expiry: Expiry) -> Result<Option<Value>> {
        self.take_and(key, Some(expiry))
    }

    fn take_and(&self, key: &[u8], touch: Option<Expiry>) -> Result<Option<Value>> {
        // Most values fit at once; a longer one tells its length.
        let mut data = vec![0; 1024];
        loop {
            match self.take_raw(key, &mut data, touch) {
                Ok((argument, true)) => {
                    let taken = Taken::from(&argument);
                    data.truncate(taken.length);
                    return Ok(Some(Value {
                        data,
                        flags: taken.flags,
                        cas: taken.cas,
                        ttl: taken.ttl,
                        node: taken.node,
                    }));
                }
                Ok((argument, false)) => data.resize(room_for(&argument), 0),
                Err((Errno::NOENT, _)) => return Ok(None),
                Err((errno, node)) => {
                    return Err(Error::new(Action::Take(named(key)), errno).at(node));
                }
            }
        }
    }

    /// Fetches a value into `room`; `None` if there is none. If it is longer than `room`, then
    /// [`Taken::length`] is larger than `room.len()`, and nothing was copied.
    ///
    /// This is one system call and no allocation.
    pub fn take_into(&self, key: &[u8], room: &mut [u8]) -> Result<Option<Taken>> {
        match self.take_raw(key, room, None) {
            Ok((argument, _)) => Ok(Some(Taken::from(&argument))),
            Err((Errno::NOENT, _)) => Ok(None),
            Err((errno, node)) => Err(Error::new(Action::Take(named(key)), errno).at(node)),
        }
    }

    /// The kernel's answer, and whether the value fitted; or the error, and the node that was asked.
    fn take_raw(
        &self,
        key: &[u8],
        room: &mut [u8],
        touch: Option<Expiry>,
    ) -> std::result::Result<(uapi::MemTake, bool), (Errno, u32)> {
        let mut argument = uapi::MemTake {
            size: size_of::<uapi::MemTake>() as u32,
            flags: self.owner.flags(),
            node: self.owner.node(),
            ..Default::default()
        };
        if let Some(expiry) = touch {
            argument.flags |= uapi::MEM_F_TOUCH;
            argument.exptime = expiry.exptime();
        }
        match sys::mem_take(&self.fd, &mut argument, key, room) {
            Ok(()) => Ok((argument, true)),
            Err(Errno::MSGSIZE) => Ok((argument, false)),
            Err(errno) => Err((errno, argument.node)),
        }
    }

    /// Gives a value a new time; `false` if there is none.
    pub fn touch(&self, key: &[u8], expiry: Expiry) -> Result<bool> {
        match self.take_raw(key, &mut [], Some(expiry)) {
            Ok(_) => Ok(true),
            Err((Errno::NOENT, _)) => Ok(false),
            Err((errno, node)) => Err(Error::new(Action::Take(named(key)), errno).at(node)),
        }
    }

    /// `DROP`: deletes a value; `false` if there was none.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        self.delete_if(key, 0)
    }

    /// Deletes a value only if its number is still `cas` (0: whatever it is); `false` if it has
    /// changed, or there was none.
    pub fn delete_if(&self, key: &[u8], cas: u64) -> Result<bool> {
        let mut argument = uapi::MemDrop {
            size: size_of::<uapi::MemDrop>() as u32,
            flags: self.owner.flags(),
            node: self.owner.node(),
            cas,
            ..Default::default()
        };
        match sys::mem_drop(&self.fd, &mut argument, key) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::STALE) => Ok(false),
            Err(errno) => Err(Error::new(Action::Delete(named(key)), errno).at(argument.node)),
        }
    }

    /// `COUNT`: adds to a number, which starts again from 0 past 2^64 - 1; `None` if there is none
    /// and no `initial` one is given.
    pub fn increment(&self, key: &[u8], delta: u64, initial: Option<u64>) -> Result<Option<u64>> {
        self.count(key, delta, initial, 0)
    }

    /// `COUNT`: takes away from a number, down to 0.
    pub fn decrement(&self, key: &[u8], delta: u64, initial: Option<u64>) -> Result<Option<u64>> {
        self.count(key, delta, initial, uapi::MEM_F_DECREMENT)
    }

    fn count(
        &self,
        key: &[u8],
        delta: u64,
        initial: Option<u64>,
        flags: u32,
    ) -> Result<Option<u64>> {
        let create = if initial.is_some() {
            uapi::MEM_F_CREATE
        } else {
            0
        };
        let mut argument = uapi::MemCount {
            size: size_of::<uapi::MemCount>() as u32,
            flags: self.owner.flags() | flags | create,
            node: self.owner.node(),
            delta,
            initial: initial.unwrap_or(0),
            ..Default::default()
        };
        match sys::mem_count(&self.fd, &mut argument, key) {
            Ok(()) => Ok(Some(argument.value)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::new(Action::Count(named(key)), errno).at(argument.node)),
        }
    }

    /// `SCAN`: this node's named values, with their bytes.
    ///
    /// One that stays unchanged meanwhile is given exactly once; one that comes, goes or changes
    /// may be given or not, or twice.
    pub fn scan(&self) -> Scan<'_> {
        Scan::new(self, 0)
    }

    /// `SCAN`: this node's named values, without their bytes.
    pub fn keys(&self) -> Scan<'_> {
        Scan::new(self, uapi::MEM_F_KEYS_ONLY)
    }

    /// `FLUSH`: forgets all named values of this node, now or after a while.
    pub fn flush(&self, delay: Duration) -> Result<()> {
        let mut argument = uapi::MemFlush {
            size: size_of::<uapi::MemFlush>() as u32,
            delay_s: u32::try_from(delay.as_secs()).unwrap_or(u32::MAX),
            ..Default::default()
        };
        sys::call::<{ uapi::MEM_IOC_FLUSH }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Flush, errno))
    }

    /// `SETTINGS`: the bounds.
    pub fn settings(&self) -> Result<Settings> {
        let mut argument = uapi::MemSettings {
            size: size_of::<uapi::MemSettings>() as u32,
            ..Default::default()
        };
        sys::call::<{ uapi::MEM_IOC_SETTINGS }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Settings, errno))?;
        Ok(argument.into())
    }

    /// `SETTINGS`: changes bounds; all of them as they are then.
    pub fn change(&self, change: Change) -> Result<Settings> {
        let mut argument = uapi::MemSettings {
            size: size_of::<uapi::MemSettings>() as u32,
            ..Default::default()
        };
        if let Some(bytes) = change.memory_limit {
            argument.flags |= uapi::MEM_SET_MEMORY_LIMIT;
            argument.memory_limit = bytes;
        }
        if let Some(bytes) = change.block_limit {
            argument.flags |= uapi::MEM_SET_BLOCK_LIMIT;
            argument.block_limit = bytes;
        }
        if let Some(bytes) = change.item_max {
            argument.flags |= uapi::MEM_SET_ITEM_MAX;
            argument.item_max = bytes;
        }
        if let Some(evict) = change.evict {
            argument.flags |= uapi::MEM_SET_EVICT;
            argument.evict = evict.into();
        }
        if let Some(count) = change.max_blocks {
            argument.flags |= uapi::MEM_SET_MAX_BLOCKS;
            argument.max_blocks = count;
        }
        sys::call::<{ uapi::MEM_IOC_SETTINGS }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::SetSettings, errno))?;
        Ok(argument.into())
    }

    /// Takes a shared namespace down. Its mappings stay, closed.
    pub fn unshare(&self, prefix: &[u8]) -> Result<()> {
        let mut argument = uapi::MemShare {
            size: size_of::<uapi::MemShare>() as u32,
            flags: uapi::MEM_SHARE_REMOVE,
            ..Default::default()
        };
        sys::mem_share(&self.fd, &mut argument, prefix)
            .map_err(|errno| Error::new(Action::Unshare(named(prefix)), errno))
    }

    /// `SHARE` on this descriptor.
    pub(crate) fn share(
        &self,
        prefix: &[u8],
        flags: u32,
        slots: u64,
        slot_size: u32,
    ) -> Result<uapi::MemShare> {
        let mut argument = uapi::MemShare {
            size: size_of::<uapi::MemShare>() as u32,
            flags,
            slots,
            slot_size,
            ..Default::default()
        };
        sys::mem_share(&self.fd, &mut argument, prefix)
            .map_err(|errno| Error::new(Action::Share(named(prefix)), errno))?;
        Ok(argument)
    }

    /// Maps the namespace that this descriptor is bound to.
    pub(crate) fn map(&self, prefix: &[u8], bytes: u64) -> Result<sys::Map> {
        let fail = |errno| Error::new(Action::MapShare(named(prefix)), errno);
        let bytes = usize::try_from(bytes).map_err(|_| fail(Errno::NOMEM))?;
        sys::Map::new(&self.fd, bytes).map_err(fail)
    }

    /// `SEEN` on this descriptor.
    pub(crate) fn seen(&self, changes: u64) -> Result<()> {
        let mut argument = uapi::MemSeen {
            size: size_of::<uapi::MemSeen>() as u32,
            changes,
            ..Default::default()
        };
        sys::call::<{ uapi::MEM_IOC_SEEN }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::SeenChanges(changes), errno))
    }
}

impl AsFd for Mempool {
    /// To wait on with other descriptors.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<&uapi::MemTake> for Taken {
    fn from(argument: &uapi::MemTake) -> Self {
        Taken {
            length: argument.value_len as usize,
            flags: argument.item_flags,
            cas: argument.cas,
            ttl: ttl(argument.exptime),
            node: argument.node,
        }
    }
}

/// Room for a value that did not fit, and some for one that grows meanwhile.
fn room_for(argument: &uapi::MemTake) -> usize {
    let length = argument.value_len as usize;
    length.saturating_add(length / 8).saturating_add(64)
}

fn io(vuid: Vuid, offset: u64) -> uapi::MemIo {
    uapi::MemIo {
        size: size_of::<uapi::MemIo>() as u32,
        vuid: vuid.into(),
        offset,
        ..Default::default()
    }
}

/// Makes answers of some errors.
fn absent<T>(result: Result<T>, errnos: &[Errno]) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if errnos
                .iter()
                .any(|errno| error.errno() == Some(errno.raw_os_error())) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_so_that_they_can_be_read() {
        assert_eq!(named(b"a"), "\"a\"");
        assert_eq!(named(b"a\r\n\xff"), "\"a\\r\\n\\xff\"");
        assert_eq!(named(&[b'x'; 100]), format!("\"{}...\"", "x".repeat(40)));
    }
}
