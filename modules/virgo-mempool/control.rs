// SPDX-License-Identifier: GPL-2.0-only

//! The memory pool's ioctls, by /dev/virgo and by its own device.

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    prelude::*,
    sync::Arc, //
};

use crate::{
    blocks::{
        self,
        Blocks,
        Maker, //
    },
    door::Port,
    lib::{
        cluster::{
            self,
            NodeId, //
        },
        compat,
        service::{
            Module,
            RemoteReply,
            Service, //
        },
        task,
        time::monotonic_ns,
        uapi::{
            bytes_of,
            copied,
            copy_in,
            copy_out,
            write_entry,
            Arg,
            Command,
            Room,
            UserStruct, //
        },
        workqueue::DeadlineWork,
        zeroed::zeroed, //
    },
    logic::kv::{
        Mode,
        KEY_MAX, //
    },
    proto::uapi::{
        self,
        MemCount,
        MemDrop,
        MemFlush,
        MemFree,
        MemIo,
        MemList,
        MemMalloc,
        MemPut,
        MemRecord,
        MemScan,
        MemSettings,
        MemShare,
        MemStat,
        MemTake, //
    },
    remote::{
        self,
        Place,
        Target, //
    },
    share::Share,
    store::{
        Context,
        CountRequest,
        Failure,
        PutRequest,
        Store,
        SHARDS, //
    },
    work::{
        self,
        Clockwork, //
    },
};

/// Values up to this many bytes are copied on the stack.
const SMALL: usize = 512;
/// The most room for the records of one scan.
const SCAN_MAX: usize = 80 << 20;

/// The memory pool.
#[pin_data]
pub(crate) struct Pool {
    /// Dropped first: stops.
    #[pin]
    clockwork: DeadlineWork<Clockwork>,
    pub(crate) store: Arc<Store>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) port: Arc<Port>,
    start_ns: u64,
}

impl Failure {
    /// As an ioctl that stores tells it.
    pub(crate) fn put_errno(self, mode: Mode) -> Error {
        match (self, mode) {
            (Failure::NotStored, Mode::Add) => EEXIST,
            (failure, _) => failure.errno(),
        }
    }

    /// As an ioctl tells it.
    pub(crate) fn errno(self) -> Error {
        match self {
            Failure::Exists => compat::estale(),
            Failure::NotFound => ENOENT,
            Failure::NotStored => ENOENT,
            Failure::NotNumber => EDOM,
            Failure::TooLarge => EFBIG,
            Failure::NoMemory | Failure::WouldSleep => ENOMEM,
        }
    }
}

/// A key, copied from user space.
struct Key(Room<KEY_MAX>);

impl Key {
    /// For [`fetch`](Self::fetch): where it is to stay.
    #[inline(always)]
    fn empty() -> Key {
        Key(Room::new())
    }

    #[inline(always)]
    fn fetch(&mut self, address: u64, length: u32) -> Result {
        // CAST: u32 fits usize.
        let length = length as usize;
        if length == 0 {
            return Err(EINVAL);
        }
        if length > KEY_MAX {
            return Err(compat::enametoolong());
        }
        self.0.copy_in(address, length)
    }

    fn read(address: u64, length: u32) -> Result<Key> {
        let mut key = Key::empty();
        key.fetch(address, length)?;
        Ok(key)
    }

    #[inline]
    fn get(&self) -> &[u8] {
        self.0.get()
    }
}

/// On which other node a named value is to be sought; `None`: here.
fn route(flags: u32, allowed: u32, node: u32, key: &Key) -> Result<Option<NodeId>> {
    if flags & !(allowed | uapi::MEM_F_LOCAL) != 0 {
        return Err(EINVAL);
    }
    if flags & uapi::MEM_F_LOCAL != 0 {
        return Ok(None);
    }
    if node == uapi::MEM_NODE_ANY {
        return Ok(remote::owner(key.get()));
    }
    let node = NodeId::from_number(node);
    Ok((node != cluster::me()).then_some(node))
}

impl Pool {
    pub(crate) fn new(
        store: Arc<Store>,
        blocks: Arc<Blocks>,
        port: Arc<Port>,
    ) -> impl PinInit<Self, Error> {
        let handler = Arc::new(Clockwork::new(store.clone()), GFP_KERNEL);
        try_pin_init!(Self {
            clockwork <- DeadlineWork::new(
                c"virgo_mempool",
                kernel::static_lock_class!(),
                handler?,
            ),
            store,
            blocks,
            port,
            start_ns: monotonic_ns(),
        }? Error)
    }

    /// Has the clockwork run at the next second.
    pub(crate) fn wind(&self) {
        self.clockwork.arm(work::next(1));
    }

    /// This node's number; 0 without a cluster.
    pub(crate) fn node(&self) -> u32 {
        if cluster::alone() {
            return 0;
        }
        cluster::me().number()
    }

    // ----------------------------------------------------------- blocks

    fn malloc(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<MemMalloc>()?;
        let value = &mut request.value;
        let known = uapi::MEM_F_STRIPE | uapi::MEM_F_POLICY;
        if value.flags & !known != 0
            || value.reserved0 != 0
            || value.reserved != [0; 2]
            || value.policy > uapi::MEM_POLICY_TWO_CHOICES
            || (value.policy != 0 && value.flags & uapi::MEM_F_POLICY == 0)
            || value.chunk % 4096 != 0
            || (value.chunk != 0 && value.flags & uapi::MEM_F_STRIPE == 0)
        {
            return Err(EINVAL);
        }
        let (uid, pid) = task::caller();
        let maker = Maker { uid, pid };
        let policy = (value.flags & uapi::MEM_F_POLICY != 0).then_some(value.policy);
        let vuid = if value.flags & uapi::MEM_F_STRIPE != 0 {
            if policy.is_some() || value.node != uapi::MEM_NODE_ANY {
                return Err(EINVAL);
            }
            remote::malloc_striped(self, value.length, value.chunk, maker, GFP_KERNEL_ACCOUNT)?
        } else {
            match remote::place(value.node, policy)? {
                Place::Here => {
                    let node = self.node();
                    self.blocks
                        .malloc(node, value.length, maker, GFP_KERNEL_ACCOUNT)?
                }
                Place::On(node) => remote::malloc(node, value.length)?,
            }
        };
        value.vuid = vuid;
        value.node = blocks::node_of(&vuid);
        if let Err(error) = request.write_back() {
            // The caller does not learn of it.
            let _ = remote::free_any(self, &vuid);
            return Err(error);
        }
        Ok(0)
    }

    fn io(&self, arg: Arg, set: bool) -> Result<isize> {
        let mut request = arg.read::<MemIo>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.node != 0 || value.reserved0 != 0 || value.reserved != 0 {
            return Err(EINVAL);
        }
        let target = match Target::find(self, &value.vuid) {
            Ok(target) => target,
            Err(failed) => {
                value.node = failed.node;
                request.write_back()?;
                return Err(failed.error);
            }
        };
        let block_length = target.length();
        let offset = usize::try_from(value.offset).map_err(|_| ERANGE)?;
        let length = usize::try_from(value.length).map_err(|_| ERANGE)?;
        // CAST: usize fits u64.
        value.block_length = block_length as u64;
        let left = block_length.checked_sub(offset).ok_or(ERANGE)?;
        if set && length > left {
            return Err(ERANGE);
        }
        let total = length.min(left);
        let mut small = [0; 256];
        let mut large: KVVec<u8>;
        let bounce: &mut [u8] = if total <= small.len() {
            &mut small
        } else {
            large = zeroed(total.min(target.step()), GFP_KERNEL)?;
            &mut large
        };
        let mut done = 0usize;
        while done < total {
            let part = total.saturating_sub(done).min(bounce.len());
            let bytes = bounce.get_mut(..part).ok_or(EINVAL)?;
            let at = offset.saturating_add(done);
            // CAST: usize fits u64.
            let address = value.address.checked_add(done as u64).ok_or(EFAULT)?;
            let result = if set {
                copy_in(address, bytes)?;
                target.write(self, at, bytes)
            } else {
                target.read(self, at, bytes)
            };
            if let Err(failed) = result {
                value.node = failed.node;
                // CAST: usize fits u64.
                value.length = done as u64;
                request.write_back()?;
                return Err(failed.error);
            }
            if !set {
                copy_out(address, bytes)?;
            }
            done = done.saturating_add(part);
        }
        // CAST: usize fits u64.
        value.length = total as u64;
        request.write_back()?;
        Ok(0)
    }

    fn free(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<MemFree>()?;
        if request.value.flags != 0 || request.value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        remote::free_any(self, &request.value.vuid).map_err(|failed| failed.error)?;
        Ok(0)
    }

    fn list(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<MemList>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize.
        let (count, list) = self.blocks.list(self.node(), value.capacity as usize)?;
        for (index, entry) in list.iter().enumerate() {
            write_entry(value.entries, index, entry)?;
        }
        value.count = u32::try_from(count).unwrap_or(u32::MAX);
        request.write_back()?;
        Ok(0)
    }

    fn stat(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<MemStat>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 4] {
            return Err(EINVAL);
        }
        let blocks = self.blocks.figures();
        let items = self.store.figures();
        let (shares, share_bytes) = self.store.shares().figures();
        let port = self.port.figures();
        let tally = &items.tally;
        *value = MemStat {
            size: value.size,
            flags: 0,
            node: self.node(),
            connections: u32::try_from(port.active).unwrap_or(u32::MAX),
            blocks: blocks.blocks,
            block_bytes: blocks.bytes,
            block_limit: self.blocks.limit(),
            blocks_made: blocks.made,
            items: items.items,
            item_bytes: items.bytes.saturating_add(items.buckets.saturating_mul(4)),
            held_bytes: self.store.held(),
            memory_limit: self.store.memory_limit(),
            items_made: items.counts.stored,
            gets: tally.get_hits.saturating_add(tally.get_misses),
            hits: tally.get_hits,
            sets: tally.sets,
            deletes: tally.delete_hits,
            expired: items.counts.expired,
            evicted: items.counts.evicted,
            shrunk: tally.shrunk,
            shares,
            share_bytes,
            connections_made: port.accepted,
            connections_refused: port.refused,
            start_ns: self.start_ns,
            reserved: [0; 4],
        };
        request.write_back()?;
        Ok(0)
    }

    // ----------------------------------------------------- named values

    fn put(&self, arg: Arg) -> Result<isize> {
        let mut request = UserStruct::<MemPut>::new(arg);
        let value = request.fetch()?;
        if value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let (mode, with_cas) = remote::mode_of(value.mode).ok_or(EINVAL)?;
        if !with_cas && value.cas != 0 {
            return Err(EINVAL);
        }
        let mut key = Key::empty();
        key.fetch(value.key, value.key_len)?;
        let route = route(value.flags, 0, value.node, &key)?;
        // CAST: u32 fits usize.
        let length = value.value_len as usize;
        if !self.store.fits(key.get().len(), length) {
            return Err(EFBIG);
        }
        let mut small = Room::<SMALL>::new();
        let large: KVVec<u8>;
        let bytes: &[u8] = if length <= SMALL {
            small.copy_in(value.value, length)?;
            small.get()
        } else {
            large = copied(value.value, length, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
            &large
        };
        if let Some(node) = route {
            value.node = node.number();
            let (mode, flags, exptime) = (value.mode, value.item_flags, value.exptime);
            let stored = remote::put(node, mode, flags, exptime, value.cas, key.get(), bytes);
            if let Ok(cas) = &stored {
                value.cas = *cas;
            }
            request.write_back()?;
            return stored.map(|_| 0);
        }
        let put = PutRequest {
            flags: value.item_flags,
            exp: self.store.expiry(value.exptime),
            mode,
            cas: with_cas.then_some(value.cas),
            ..PutRequest::new(key.get(), bytes)
        };
        let stored = self.store.put(&put, Context::Caller);
        let stored = stored.map_err(|failure| failure.put_errno(mode))?;
        value.cas = stored.cas;
        value.node = self.node();
        request.write_back()?;
        Ok(0)
    }

    fn take(&self, arg: Arg) -> Result<isize> {
        let mut request = UserStruct::<MemTake>::new(arg);
        let value = request.fetch()?;
        let touch = value.flags & uapi::MEM_F_TOUCH != 0;
        if value.reserved0 != 0 || value.reserved != [0; 2] || (!touch && value.exptime != 0) {
            return Err(EINVAL);
        }
        let mut key = Key::empty();
        key.fetch(value.key, value.key_len)?;
        let route = route(value.flags, uapi::MEM_F_TOUCH, value.node, &key)?;
        let exp = touch.then(|| self.store.expiry(value.exptime));
        // CAST: u32 fits usize.
        let capacity = value.capacity as usize;
        if let Some(node) = route {
            value.node = node.number();
            let exptime = touch.then_some(value.exptime);
            let got = match remote::take(node, key.get(), capacity, exptime) {
                Ok(got) => got,
                Err(error) => {
                    request.write_back()?;
                    return Err(error);
                }
            };
            value.value_len = got.length;
            value.item_flags = got.flags;
            value.cas = got.cas;
            value.exptime = got.left;
            // CAST: u32 fits usize.
            if got.length as usize > capacity || got.value.len() < got.length as usize {
                request.write_back()?;
                return Err(compat::emsgsize());
            }
            copy_out(value.value, &got.value)?;
            request.write_back()?;
            return Ok(0);
        }
        value.node = self.node();
        let mut small = Room::<SMALL>::new();
        // Not a vector without memory: to drop one costs a call of the allocator.
        let mut large: Option<KVVec<u8>> = None;
        loop {
            let mut whole = true;
            let got = self.store.get_with(key.get(), exp, capacity, |bytes| {
                whole = match &mut large {
                    None => small.fill(bytes),
                    Some(large) => {
                        // There is room for the length that it had; there may be more now.
                        large.truncate(bytes.len());
                        large.len() == bytes.len() && {
                            large.copy_from_slice(bytes);
                            true
                        }
                    }
                };
            });
            let got = got.ok_or(ENOENT)?;
            value.value_len = got.length;
            value.item_flags = got.flags;
            value.cas = got.cas;
            value.exptime = got.left;
            // CAST: u32 fits usize.
            let length = got.length as usize;
            if length > capacity {
                request.write_back()?;
                return Err(compat::emsgsize());
            }
            if let Some(big) = got.large {
                copy_out(value.value, crate::logic::kv::Large::bytes(&big))?;
            } else if !whole {
                large = Some(zeroed(length, GFP_KERNEL)?);
                continue;
            } else if let Some(large) = &large {
                copy_out(value.value, large)?;
            } else {
                small.copy_out(value.value)?;
            }
            request.write_back()?;
            return Ok(0);
        }
    }

    fn delete(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<MemDrop>()?;
        let value = &mut request.value;
        if value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let key = Key::read(value.key, value.key_len)?;
        if let Some(node) = route(value.flags, 0, value.node, &key)? {
            value.node = node.number();
            let gone = remote::delete(node, key.get(), value.cas);
            request.write_back()?;
            return gone.map(|()| 0);
        }
        let cas = (value.cas != 0).then_some(value.cas);
        self.store.delete(key.get(), cas).map_err(Failure::errno)?;
        value.node = self.node();
        request.write_back()?;
        Ok(0)
    }

    fn count(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<MemCount>()?;
        let value = &mut request.value;
        let create = value.flags & uapi::MEM_F_CREATE != 0;
        if value.reserved != [0; 2] || (!create && (value.initial != 0 || value.exptime != 0)) {
            return Err(EINVAL);
        }
        let known = uapi::MEM_F_CREATE | uapi::MEM_F_DECREMENT;
        let key = Key::read(value.key, value.key_len)?;
        if let Some(node) = route(value.flags, known, value.node, &key)? {
            value.node = node.number();
            let decrement = value.flags & uapi::MEM_F_DECREMENT != 0;
            let initial = create.then_some((value.initial, value.exptime));
            let counted = remote::count(node, key.get(), value.delta, decrement, initial);
            if let Ok((number, cas)) = &counted {
                value.value = *number;
                value.cas = *cas;
            }
            request.write_back()?;
            return counted.map(|_| 0);
        }
        let count = CountRequest {
            key: key.get(),
            delta: value.delta,
            decrement: value.flags & uapi::MEM_F_DECREMENT != 0,
            initial: create.then(|| (value.initial, self.store.expiry(value.exptime))),
            cas: None,
            new_cas: None,
        };
        let counted = self.store.count(&count, Context::Caller);
        let (number, stored) = counted.map_err(Failure::errno)?;
        value.value = number;
        value.cas = stored.cas;
        value.node = self.node();
        request.write_back()?;
        Ok(0)
    }

    fn scan(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<MemScan>()?;
        let value = &mut request.value;
        let keys_only = value.flags & uapi::MEM_F_KEYS_ONLY != 0;
        if value.flags & !uapi::MEM_F_KEYS_ONLY != 0
            || value.reserved != [0; 2]
            || value.buffer % 8 != 0
        {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize.
        let capacity = (value.capacity as usize).min(SCAN_MAX);
        let mut records = KVVec::with_capacity(capacity, GFP_KERNEL | __GFP_NOWARN)?;
        // The shard in the high half, where it is in the low one.
        let mut index = usize::try_from(value.cursor >> 32).map_err(|_| EINVAL)?;
        // CAST: the low half.
        let mut cursor = value.cursor as u32;
        let (mut count, mut needed) = (0_u32, 0_usize);
        while index < SHARDS {
            let whole = records.len();
            let mut found = 0_u32;
            let next = {
                let Some(bank) = self.store.lock_index(index) else {
                    break;
                };
                needed = 0;
                let now = self.store.now();
                bank.shard.scan(cursor, |item| {
                    if item.exp != 0 && item.exp <= now {
                        return;
                    }
                    let value: &[u8] = if keys_only { &[] } else { item.value };
                    let length = size_of::<MemRecord>()
                        .saturating_add(item.key.len())
                        .saturating_add(value.len())
                        .next_multiple_of(8);
                    needed = needed.saturating_add(length);
                    if records.len().saturating_add(length) > capacity {
                        return;
                    }
                    let head = MemRecord {
                        // CAST: items are far below 4 GiB.
                        length: length as u32,
                        key_len: item.key.len() as u32,
                        value_len: item.value.len() as u32,
                        item_flags: item.flags,
                        expires: self.store.unix_expiry(item.exp),
                        cas: item.cas,
                    };
                    let end = records.len().saturating_add(length);
                    let mut push = |bytes: &[u8]| {
                        // There is room, as was just seen.
                        let _ = records.extend_from_slice(bytes, GFP_ATOMIC);
                    };
                    push(bytes_of(&head));
                    push(item.key);
                    push(value);
                    let rest = end.saturating_sub(records.len());
                    let _ =
                        records.extend_from_slice([0_u8; 8].get(..rest).unwrap_or(&[]), GFP_ATOMIC);
                    found = found.saturating_add(1);
                })
            };
            if records.len() < whole.saturating_add(needed) {
                // A step which does not fit is for the next call, as a whole.
                records.truncate(whole);
                break;
            }
            count = count.saturating_add(found);
            cursor = next;
            needed = 0;
            if next == 0 {
                index = index.saturating_add(1);
            }
        }
        value.needed = u32::try_from(needed).unwrap_or(u32::MAX);
        if needed > 0 && records.is_empty() {
            request.write_back()?;
            return Err(compat::emsgsize());
        }
        copy_out(value.buffer, &records)?;
        value.needed = 0;
        // CAST: within the capacity.
        value.used = records.len() as u32;
        value.count = count;
        // CAST: usize fits u64.
        value.cursor = if index >= SHARDS {
            0
        } else {
            (index as u64) << 32 | u64::from(cursor)
        };
        request.write_back()?;
        Ok(0)
    }

    fn flush(&self, arg: Arg) -> Result<isize> {
        let request = arg.read::<MemFlush>()?;
        let value = &request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        self.flush_all(value.delay_s);
        Ok(0)
    }

    /// Forgets all named values, now or later. May sleep.
    pub(crate) fn flush_all(&self, delay: u32) {
        self.store.flush(delay);
        if delay > 0 {
            self.wind();
        }
    }

    fn settings(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<MemSettings>()?;
        let value = &mut request.value;
        let flags = value.flags;
        let known = uapi::MEM_SET_MEMORY_LIMIT
            | uapi::MEM_SET_ITEM_MAX
            | uapi::MEM_SET_BLOCK_LIMIT
            | uapi::MEM_SET_EVICT
            | uapi::MEM_SET_MAX_BLOCKS;
        if flags & !known != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        if flags != 0 && !task::is_admin() {
            return Err(EPERM);
        }
        let has = |flag: u32| flags & flag != 0;
        if has(uapi::MEM_SET_EVICT) && value.evict > 1 {
            return Err(ERANGE);
        }
        if has(uapi::MEM_SET_ITEM_MAX) {
            self.store.set_item_max(value.item_max)?;
        }
        if has(uapi::MEM_SET_MAX_BLOCKS) {
            self.blocks.set_most(value.max_blocks)?;
        }
        if has(uapi::MEM_SET_EVICT) {
            self.store.set_evicts(value.evict == 1);
        }
        if has(uapi::MEM_SET_BLOCK_LIMIT) {
            self.blocks.set_limit(value.block_limit);
        }
        if has(uapi::MEM_SET_MEMORY_LIMIT) {
            self.store.set_memory_limit(value.memory_limit)?;
        }
        let port = self.port.settings();
        value.memory_limit = self.store.memory_limit();
        value.item_max = self.store.item_max();
        value.evict = self.store.evicts().into();
        value.block_limit = self.blocks.limit();
        value.max_blocks = self.blocks.most();
        value.idle_ms = port.idle_ms;
        value.max_connections = port.max_connections;
        value.port = port.port;
        request.write_back()?;
        Ok(0)
    }

    /// SHARE; the namespace that the file is bound to from then on. Only REMOVE without a file.
    pub(crate) fn share(&self, arg: Arg, file: bool) -> Result<Option<Arc<Share>>> {
        let mut request = arg.read::<MemShare>()?;
        let value = &mut request.value;
        let known = uapi::MEM_SHARE_CREATE | uapi::MEM_SHARE_REMOVE;
        if value.flags & !known != 0 || value.flags == known || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let (create, remove) = (
            value.flags & uapi::MEM_SHARE_CREATE != 0,
            value.flags & uapi::MEM_SHARE_REMOVE != 0,
        );
        if !file && !remove || !create && (value.slot_size != 0 || value.slots != 0) {
            return Err(EINVAL);
        }
        let prefix = Key::read(value.prefix, value.prefix_len)?;
        let (shares, now) = (self.store.shares(), self.store.now());
        if remove {
            if !task::is_admin() {
                return Err(EPERM);
            }
            shares.remove(prefix.get(), now)?;
            return Ok(None);
        }
        let share = match shares.find(prefix.get()) {
            Ok(share) if !create => share,
            Err(error) if !create => return Err(error),
            found => {
                if found.is_err() && !task::is_admin() {
                    return Err(EPERM);
                }
                let (share, new) =
                    shares.create(prefix.get(), value.slots, value.slot_size, now)?;
                if new {
                    self.store.show_all();
                    self.wind();
                }
                share
            }
        };
        value.slots = share.slots();
        value.slot_size = share.slot_size();
        // CAST: usize fits u64.
        value.map_bytes = share.bytes() as u64;
        value.changes = share.changes();
        request.write_back()?;
        Ok(Some(share))
    }

    /// A command. `ENOTTY` for one that is not the memory pool's.
    pub(crate) fn command(&self, command: u32, argument: usize) -> Result<isize> {
        let arg = Arg::new(argument);
        let command = Command::new(command).ok_or(ENOTTY)?;
        let is = |number: u32| Command::new(number) == Some(command);
        if is(uapi::MEM_IOC_TAKE) {
            self.take(arg)
        } else if is(uapi::MEM_IOC_PUT) {
            self.put(arg)
        } else if is(uapi::MEM_IOC_GET) {
            self.io(arg, false)
        } else if is(uapi::MEM_IOC_SET) {
            self.io(arg, true)
        } else if is(uapi::MEM_IOC_MALLOC) {
            self.malloc(arg)
        } else if is(uapi::MEM_IOC_FREE) {
            self.free(arg)
        } else if is(uapi::MEM_IOC_LIST) {
            self.list(arg)
        } else if is(uapi::MEM_IOC_STAT) {
            self.stat(arg)
        } else if is(uapi::MEM_IOC_DROP) {
            self.delete(arg)
        } else if is(uapi::MEM_IOC_COUNT) {
            self.count(arg)
        } else if is(uapi::MEM_IOC_SCAN) {
            self.scan(arg)
        } else if is(uapi::MEM_IOC_FLUSH) {
            self.flush(arg)
        } else if is(uapi::MEM_IOC_SETTINGS) {
            self.settings(arg)
        } else if is(uapi::MEM_IOC_SHARE) {
            self.share(arg, false).map(|_| 0)
        } else if is(uapi::MEM_IOC_SEEN) {
            Err(EINVAL)
        } else {
            Err(ENOTTY)
        }
    }
}

impl Service for Pool {
    const MODULE: Module = Module::Mempool;

    fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        self.command(command, argument)
    }

    fn remote(
        &self,
        _from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        remote::serve(self, operation, input, output)
    }

    /// Operation 0: the value of the key `input`, into `output`; its length, even where that is
    /// more than the room, and then nothing is copied. `ENOENT`. Does not sleep.
    fn call(&self, operation: u32, input: &[u8], output: &mut [u8]) -> Result<usize> {
        if operation != 0 {
            return Err(compat::eopnotsupp());
        }
        let capacity = output.len();
        let got = self.store.get_into(input, None, output, capacity);
        let got = got.ok_or(ENOENT)?;
        // CAST: u32 fits usize.
        let length = got.length as usize;
        if let (Some(big), Some(room)) = (&got.large, output.get_mut(..length)) {
            room.copy_from_slice(crate::logic::kv::Large::bytes(big));
        }
        Ok(length)
    }
}
