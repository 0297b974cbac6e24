// SPDX-License-Identifier: GPL-2.0-only

//! /dev/virgo: an open file of it.
//!
//! A command of another module's range is handed to that module through the registry.

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use core::mem::offset_of;

use crate::{
    cluster::{
        self,
        Cluster,
        Plan, //
    },
    crypto::{
        wipe,
        Key, //
    },
    lib::{
        chardev::{
            CharDevice,
            Waiter,
            POLLIN, //
        },
        cluster::{
            NodeId,
            Policy, //
        },
        compat::ekeyrejected,
        module::VERSION_NUMBER,
        service::{
            Provider,
            ABI, //
        },
        task::may_set_up,
        uapi::{
            copied,
            copy_in,
            write_entry,
            Arg,
            Command, //
        },
        zeroed::zeroed, //
    },
    proto::uapi::{
        self,
        Module, //
    },
    registry::{
        Changes,
        Registry, //
    },
};

const FEATURES: u64 = uapi::FEATURE_QUERY | uapi::FEATURE_POLL_MODULES | uapi::FEATURE_NODES;

/// The longest key that an owner is asked for.
const MAX_KEY: u32 = 4096;
/// How long a sign of life is waited for where nothing is said.
const PING_MS: u32 = 1000;

/// What all open files share.
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    pub(crate) changes: Arc<Changes>,
    pub(crate) cluster: Arc<Cluster>,
}

/// The `N` bytes at `offset` of a structure that user space gave.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

fn node_address(bytes: &[u8; size_of::<uapi::NodeAddress>()]) -> uapi::NodeAddress {
    let word = |offset| u32::from_ne_bytes(field(bytes, offset));
    uapi::NodeAddress {
        ip: field(bytes, 0),
        scope: word(offset_of!(uapi::NodeAddress, scope)),
        port: word(offset_of!(uapi::NodeAddress, port)),
        weight: word(offset_of!(uapi::NodeAddress, weight)),
        reserved: word(offset_of!(uapi::NodeAddress, reserved)),
    }
}

/// The key that user space gave; its copy here is wiped.
fn key_of(request: &uapi::NodesLoad) -> Result<Option<Key>> {
    if request.key_length == 0 {
        return Ok(None);
    }
    if !(uapi::NODES_KEY_MIN..=uapi::NODES_KEY_MAX).contains(&request.key_length) {
        return Err(ekeyrejected());
    }
    // CAST: u32 fits usize on 64-bit.
    let mut bytes: KVVec<u8> = zeroed(request.key_length as usize, GFP_KERNEL)?;
    let key = copy_in(request.key, &mut bytes).and_then(|()| Key::new(&bytes));
    wipe(&mut bytes);
    key.map(Some)
}

/// An open file.
pub(crate) struct ControlFile {
    shared: Arc<Shared>,
    /// The newest generation that a query through this file has returned.
    seen: Atomic<u64>,
}

impl ControlFile {
    fn query(&self, arg: Arg) -> Result<isize> {
        let mut query = arg.read::<uapi::Query>()?;
        let value = &mut query.value;
        if value.flags != 0 || value.reserved != [0; 3] {
            return Err(EINVAL);
        }
        // Before the modules: a change in between makes the file readable once more.
        let generation = self.shared.changes.generation();
        value.version = VERSION_NUMBER;
        value.abi = ABI;
        value.features = FEATURES;
        value.modules = self.shared.registry.loaded();
        value.generation = generation;
        query.write_back()?;
        // Relaxed: of two queries at once on one file either may be the last.
        self.seen.store(generation, Relaxed);
        Ok(0)
    }

    fn nodes_load(&self, arg: Arg) -> Result<isize> {
        if !may_set_up() {
            return Err(EPERM);
        }
        let mut request = arg.read::<uapi::NodesLoad>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        if value.count == 0 {
            value.generation = self.shared.cluster.clear()?;
        } else {
            if value.count > uapi::NODES_MAX {
                return Err(ENOSPC);
            }
            // CAST: u32 fits usize on 64-bit.
            let count = value.count as usize;
            const SIZE: usize = size_of::<uapi::NodeAddress>();
            let size = count.saturating_mul(SIZE);
            let bytes: KVVec<u8> = copied(value.nodes, size, GFP_KERNEL)?;
            let mut nodes = KVec::with_capacity(count, GFP_KERNEL)?;
            for entry in bytes.chunks_exact(SIZE) {
                nodes.push(
                    node_address(entry.try_into().map_err(|_| EINVAL)?),
                    GFP_KERNEL,
                )?;
            }
            value.generation = self.shared.cluster.load(Plan {
                nodes,
                me: value.self_index as usize, // CAST: as above.
                bind_ip: value.bind_ip,
                bind_port: u16::try_from(value.bind_port)
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or(EINVAL)?,
                bind_scope: value.bind_scope,
                key: key_of(value)?,
            })?;
        }
        request.write_back()?;
        Ok(0)
    }

    fn nodes_list(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<uapi::NodesList>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let cluster = &self.shared.cluster;
        let (generation, keyed, bind, nodes) = cluster.seen()?;
        // CAST: u32 fits usize on 64-bit.
        for (index, seen) in nodes.iter().take(value.capacity as usize).enumerate() {
            let (life, load) = (&seen.life, &seen.life.load);
            let entry = uapi::Node {
                id: seen.id.number(),
                // CAST: `repr(u32)`.
                state: life.state as u32,
                ip: seen.octets,
                scope: seen.addr.scope(),
                port: seen.addr.port().into(),
                weight: seen.weight,
                flags: if seen.me { uapi::NODE_SELF } else { 0 },
                load: load.load,
                runnable: load.runnable,
                cpus: load.cpus,
                pressure: load.pressure,
                free_kib: load.free_kib,
                total_kib: load.total_kib,
                rtt_ns: life.rtt_ns,
                since_ns: life.since_ns,
                calls: seen.calls,
                failed: seen.failed,
                in_flight: u32::try_from(seen.in_flight).unwrap_or(u32::MAX),
                reserved0: 0,
                error: *life.error.padded(),
            };
            write_entry(value.entries, index, &entry)?;
        }
        // At most 64.
        value.count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        value.generation = generation;
        value.keyed = keyed.into();
        let counts = cluster.door_counts();
        if keyed {
            (value.bind_ip, value.bind_port) = (cluster::octets(&bind), bind.port().into());
        }
        value.connections = counts.connections;
        value.strangers = counts.strangers;
        value.refused = counts.refused;
        request.write_back()?;
        Ok(0)
    }

    fn nodes_policy(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<uapi::NodesPolicy>()?;
        let value = &mut request.value;
        let known = uapi::NODES_SET_POLICY | uapi::NODES_SET_SEED;
        if value.flags & !known != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        if value.flags != 0 && !may_set_up() {
            return Err(EPERM);
        }
        let cluster = &self.shared.cluster;
        if value.flags & uapi::NODES_SET_POLICY != 0 {
            cluster.set_policy(value.policy)?;
        }
        if value.flags & uapi::NODES_SET_SEED != 0 {
            cluster.set_seed(value.seed);
        }
        (value.policy, value.seed) = cluster.policy();
        request.write_back()?;
        Ok(0)
    }

    fn node_ping(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<uapi::NodePing>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != 0 {
            return Err(EINVAL);
        }
        let timeout_ms = match value.timeout_ms {
            0 => PING_MS,
            timeout_ms => timeout_ms,
        };
        let node = NodeId::from_number(value.node);
        value.rtt_ns = self.shared.cluster.ping(node, timeout_ms)?;
        request.write_back()?;
        Ok(0)
    }

    fn node_pick(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<uapi::NodePick>()?;
        let value = &mut request.value;
        if value.flags & !uapi::PICK_OWNER != 0
            || value.reserved0 != 0
            || value.reserved != 0
            || value.key_length > MAX_KEY
        {
            return Err(EINVAL);
        }
        let cluster = &self.shared.cluster;
        let node = if value.flags & uapi::PICK_OWNER != 0 {
            if value.policy != 0 {
                return Err(EINVAL);
            }
            // CAST: u32 fits usize on 64-bit.
            let key: KVVec<u8> = copied(value.key, value.key_length as usize, GFP_KERNEL)?;
            cluster.owner(&key)
        } else {
            let policy = Policy::from_numbers(value.policy, value.node).ok_or(EINVAL)?;
            cluster.pick(policy)?
        };
        value.node = node.number();
        request.write_back()?;
        Ok(0)
    }
}

impl CharDevice for ControlFile {
    type Shared = Shared;

    const NAME: &'static CStr = c"virgo";
    const MODE: u16 = 0o660;
    const HAS_MMAP: bool = false;

    fn open(shared: Arc<Shared>) -> Result<Pin<KBox<Self>>> {
        let seen = Atomic::new(shared.changes.generation());
        Ok(KBox::pin(ControlFile { shared, seen }, GFP_KERNEL)?)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<isize> {
        let module = Command::new(command)
            .and_then(Command::module)
            .ok_or(ENOTTY)?;
        if module != Module::Core {
            let provider = Provider::find(module).ok_or(ENODEV)?;
            return provider.ioctl(command, argument);
        }
        let arg = Arg::new(argument);
        let is = |number: u32| Command::new(command) == Command::new(number);
        if is(uapi::IOC_QUERY) {
            self.query(arg)
        } else if is(uapi::IOC_NODES_LOAD) {
            self.nodes_load(arg)
        } else if is(uapi::IOC_NODES_LIST) {
            self.nodes_list(arg)
        } else if is(uapi::IOC_NODES_POLICY) {
            self.nodes_policy(arg)
        } else if is(uapi::IOC_NODE_PING) {
            self.node_ping(arg)
        } else if is(uapi::IOC_NODE_PICK) {
            self.node_pick(arg)
        } else {
            Err(ENOTTY)
        }
    }

    fn poll(&self, waiter: &Waiter<'_>) -> u32 {
        waiter.wait_for(self.shared.changes.condition());
        if self.shared.changes.generation() != self.seen.load(Relaxed) {
            POLLIN
        } else {
            0
        }
    }
}
