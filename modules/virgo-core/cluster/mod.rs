// SPDX-License-Identifier: GPL-2.0-only

//! The cluster: which nodes there are, how they do, and requests among them.
//!
//! The table of nodes is given by user space, checked, and put in place of the one before at once:
//! whoever uses the old one keeps it until done. A [`peer::Link`] to each other node lives on where
//! the node, its address and the key are the same as before. Without a table there is this node
//! alone, no port is open and no thread runs.
//!
//! # Locking
//!
//! `setup` is held while the table is changed, over everything else. `view` is taken for a moment
//! and with nothing under it.

mod door;
mod peer;
mod session;
mod source;

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion,
        Mutex, //
    }, //
};

pub(crate) use self::session::Text;
use self::{
    door::Door,
    peer::{
        Life,
        Link,
        Peer,
        Target, //
    },
    source::Source,
};
use crate::{
    crypto::Key,
    lib::{
        cluster::{
            NodeId,
            Policy,
            RawNode,
            State,
            MAX_NODES,
            MAX_PAYLOAD,
            WORKERS, //
        },
        compat::{
            ehostdown,
            emsgsize,
            enokey,
            enotconn,
            param, //
        },
        listener::{
            Addr,
            Config,
            Listener, //
        },
        random::random_u32,
        service::Module,
        workqueue::OwnedQueue,
    },
    logic::{
        balance::{
            self,
            Candidate, //
        },
        load,
        rendezvous, //
    },
    module_parameters,
    proto::{
        frame::{
            HEADER,
            TAG, //
        },
        node::{
            is_loopback,
            mapped,
            node_id, //
        },
        uapi, //
    },
    registry,
};

/// The greatest weight of a node.
const MAX_WEIGHT: u32 = uapi::NODE_WEIGHT_MAX;
/// Connections of other nodes: each has one, and a new one while its old one is not seen to be gone.
const MAX_CONNECTIONS: u32 = 4 * MAX_NODES as u32; // CAST: 64.
/// Bytes of answers that wait for one node.
const MAX_ANSWERS: usize = 64 << 20;
/// A node that says nothing for so long is not there: heartbeats come twice a second.
const IDLE_MS: u32 = 10_000;

/// The port of the nodes among themselves, as the module was told.
pub(crate) fn port() -> u16 {
    // Checked when the module is loaded.
    u16::try_from(param::<u32>(module_parameters::cluster_port.value())).unwrap_or(40000)
}

/// Checks the module's parameters; tells what is wrong with them.
pub(crate) fn check_parameters() -> Result {
    let port = param::<u32>(module_parameters::cluster_port.value());
    if port == 0 || port > 65535 {
        pr_err!(
            "parameter cluster_port is {}: it must be 1 to 65535\n",
            port
        );
        return Err(EINVAL);
    }
    let policy = param::<u32>(module_parameters::policy.value());
    if setting(policy).is_none() {
        pr_err!(
            "parameter policy is {}: it must be 1 (least loaded), 2 (random) or 3 (two choices)\n",
            policy
        );
        return Err(EINVAL);
    }
    Ok(())
}

/// A policy that can be the default one.
fn setting(policy: u32) -> Option<balance::Policy> {
    Some(match policy {
        uapi::POLICY_LEAST_LOADED => balance::Policy::LeastLoaded,
        uapi::POLICY_RANDOM => balance::Policy::Random,
        uapi::POLICY_TWO_CHOICES => balance::Policy::TwoChoices,
        _ => return None,
    })
}

/// An address as the sixteen bytes of an IPv6 one.
pub(crate) fn octets(addr: &Addr) -> [u8; 16] {
    match (addr.ipv4(), addr.ipv6()) {
        (Some(ip), _) => mapped(ip),
        (None, Some(ip)) => ip,
        (None, None) => [0; 16],
    }
}

/// An address from the uAPI's fields: an IPv4 one is written as IPv6.
fn address(ip: [u8; 16], port: u16, scope: u32) -> Addr {
    let addr = Addr::v6(ip, port, scope);
    addr.ipv4().map_or(addr, |ip| Addr::v4(ip, port))
}

/// An address, for the kernel's log, whose macros know another `Display`.
struct Shown<'a>(&'a Addr);

impl kernel::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self.0, f)
    }
}

/// A node of a table.
struct Entry {
    id: NodeId,
    addr: Addr,
    weight: u32,
    /// `None` for this node.
    link: Option<Arc<Link>>,
}

/// A table of nodes, which does not change.
pub(crate) struct View {
    /// Ordered by number.
    nodes: KVec<Entry>,
    me: NodeId,
    bind: Addr,
    key: Option<Arc<Key>>,
    generation: u64,
    /// A table was loaded.
    configured: bool,
}

impl View {
    /// This node alone.
    fn alone(port: u16, generation: u64) -> Result<Arc<View>> {
        let addr = Addr::loopback(port);
        let me = NodeId::from_number(node_id(&octets(&addr), port));
        let mut nodes = KVec::with_capacity(1, GFP_KERNEL)?;
        let entry = Entry {
            id: me,
            addr,
            weight: 1,
            link: None,
        };
        nodes.push(entry, GFP_KERNEL)?;
        let view = View {
            nodes,
            me,
            bind: Addr::none(),
            key: None,
            generation,
            configured: false,
        };
        Ok(Arc::new(view, GFP_KERNEL)?)
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    /// The cluster's key.
    pub(crate) fn key(&self) -> Option<&Arc<Key>> {
        self.key.as_ref()
    }

    fn find(&self, id: NodeId) -> Option<&Entry> {
        self.nodes.iter().find(|entry| entry.id == id)
    }

    /// Whether another node of this number has this address, whatever its port.
    pub(crate) fn has(&self, id: NodeId, addr: &Addr) -> bool {
        self.find(id)
            .is_some_and(|entry| entry.link.is_some() && octets(&entry.addr) == octets(addr))
    }

    /// Whether any other node has this address.
    pub(crate) fn has_address(&self, addr: &Addr) -> bool {
        let ip = octets(addr);
        self.nodes
            .iter()
            .any(|entry| entry.link.is_some() && octets(&entry.addr) == ip)
    }

    fn peer(&self, id: NodeId) -> Result<&Arc<Peer>> {
        match self.find(id) {
            Some(Entry {
                link: Some(link), ..
            }) => Ok(link.peer()),
            // This node is no peer.
            Some(_) => Err(EINVAL),
            None if self.configured => Err(ENOENT),
            None => Err(enotconn()),
        }
    }
}

/// What a node is like: for lists.
pub(crate) struct Seen {
    pub(crate) id: NodeId,
    pub(crate) addr: Addr,
    pub(crate) octets: [u8; 16],
    pub(crate) weight: u32,
    pub(crate) me: bool,
    pub(crate) life: Life,
    pub(crate) in_flight: usize,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
}

/// What the port has seen.
#[derive(Clone, Copy)]
pub(crate) struct DoorCounts {
    pub(crate) connections: u64,
    pub(crate) strangers: u64,
    pub(crate) refused: u64,
}

/// What is changed together.
struct Setup {
    listener: Option<Listener<Door>>,
    generation: u64,
}

/// A new table, as user space gives it.
pub(crate) struct Plan {
    pub(crate) nodes: KVec<uapi::NodeAddress>,
    /// Which of them is this one.
    pub(crate) me: usize,
    pub(crate) bind_ip: [u8; 16],
    pub(crate) bind_port: u16,
    pub(crate) bind_scope: u32,
    pub(crate) key: Option<Key>,
}

/// All of it; one, made by the module's init.
#[pin_data]
pub(crate) struct Cluster {
    #[pin]
    setup: Mutex<Setup>,
    #[pin]
    view: Mutex<Arc<View>>,
    source: Arc<Source>,
    /// One for each module, so that a slow one stops none but itself.
    pools: KVec<OwnedQueue>,
    /// The policy in use, and the state of the seeded numbers (`None`: not seeded).
    policy: Atomic<u32>,
    #[pin]
    seeded: Mutex<(u64, Option<u64>)>,
    /// The table has no node but this one; for those who ask often.
    alone: Atomic<bool>,
    strangers: Atomic<u64>,
    refused: Atomic<u64>,
}

impl Cluster {
    /// This node alone. May sleep.
    pub(crate) fn new() -> Result<Arc<Cluster>> {
        let mut pools = KVec::with_capacity(Module::ALL.len(), GFP_KERNEL)?;
        for _ in Module::ALL {
            pools.push(OwnedQueue::pool(c"virgo_cluster", WORKERS)?, GFP_KERNEL)?;
        }
        let seed = param::<u64>(module_parameters::seed.value());
        let view = View::alone(port(), 0)?;
        let source = Arc::pin_init(Source::new(), GFP_KERNEL)?;
        let setup = Setup {
            listener: None,
            generation: 0,
        };
        Arc::pin_init(
            pin_init!(Cluster {
                setup <- kernel::new_mutex!(setup, "virgo_cluster_setup"),
                view <- kernel::new_mutex!(view, "virgo_cluster_view"),
                source,
                pools,
                policy: Atomic::new(param::<u32>(module_parameters::policy.value())),
                seeded <- kernel::new_mutex!((seed, (seed != 0).then_some(seed)), "virgo_cluster_seed"),
                alone: Atomic::new(true),
                strangers: Atomic::new(0),
                refused: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// The table of now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.lock().clone()
    }

    /// How busy this node is.
    pub(crate) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Where requests of other nodes to this module run.
    pub(crate) fn pool(&self, module: Module) -> Option<&OwnedQueue> {
        // CAST: a small number.
        self.pools.get(module as usize)
    }

    /// Someone who is in no line of the table wanted in.
    pub(crate) fn count_stranger(&self, addr: &Addr) {
        if self.strangers.fetch_add(1_u64, Relaxed) == 0 {
            pr_warn!(
                "{} is not a node of this cluster, and was not let in; further ones are counted only\n",
                Shown(addr)
            );
        }
    }

    /// A connection was closed for what came on it.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1_u64, Relaxed);
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.view.lock().me
    }

    /// Whether there is no node but this one.
    pub(crate) fn alone(&self) -> bool {
        // Relaxed: whoever asks while the table changes may get either answer.
        self.alone.load(Relaxed)
    }

    /// Checks a plan, and makes a table of it with the links of the old one that stay.
    fn build(&self, plan: Plan, old: &View, generation: u64) -> Result<View> {
        if plan.nodes.len() > MAX_NODES {
            return Err(ENOSPC);
        }
        let bind = address(plan.bind_ip, plan.bind_port, plan.bind_scope);
        let key = match plan.key {
            Some(key) => Some(match &old.key {
                Some(same) if same.same(&key) => same.clone(),
                _ => Arc::new(key, GFP_KERNEL)?,
            }),
            None => None,
        };
        if key.is_none() && !is_loopback(&octets(&bind)) {
            pr_err!(
                "the nodes' port was not opened on {}: without a key it is opened on loopback only; make a key and give it to \"virgo nodes load --key FILE\"\n",
                Shown(&bind)
            );
            return Err(enokey());
        }
        let mut nodes: KVec<Entry> = KVec::with_capacity(plan.nodes.len(), GFP_KERNEL)?;
        let mut me = None;
        for (index, node) in plan.nodes.iter().enumerate() {
            let port = u16::try_from(node.port).ok().filter(|port| *port != 0);
            let addr = address(node.ip, port.ok_or(EINVAL)?, node.scope);
            if node.weight > MAX_WEIGHT || node.reserved != 0 {
                return Err(EINVAL);
            }
            let id = NodeId::from_number(node_id(&octets(&addr), addr.port()));
            if nodes.iter().any(|entry| entry.id == id) {
                return Err(EEXIST);
            }
            if index == plan.me {
                me = Some((id, addr));
            }
            let entry = Entry {
                id,
                addr,
                weight: node.weight.max(1),
                link: None,
            };
            let place = nodes.partition_point(|there| there.id < id);
            // There is room for all.
            nodes
                .insert_within_capacity(place, entry)
                .map_err(|_| ENOMEM)?;
        }
        let (me, from) = me.ok_or(EINVAL)?;
        if let Some(key) = &key {
            for entry in nodes.iter_mut().filter(|entry| entry.id != me) {
                let stays = old.find(entry.id).and_then(|old| old.link.as_ref());
                let stays = stays.filter(|link| {
                    let target = link.peer().target();
                    target.me == me && Arc::ptr_eq(&target.key, key)
                });
                entry.link = Some(match stays {
                    Some(link) => link.clone(),
                    None => Link::start(
                        Target {
                            id: entry.id,
                            addr: entry.addr,
                            me,
                            from,
                            key: key.clone(),
                        },
                        self.source.clone(),
                    )?,
                });
            }
        } else if nodes.len() > 1 {
            pr_err!("other nodes cannot be reached without a key; make one and give it to \"virgo nodes load --key FILE\"\n");
            return Err(enokey());
        }
        Ok(View {
            nodes,
            me,
            bind,
            key,
            generation,
            configured: true,
        })
    }

    /// Puts a new table in place of the old one.
    ///
    /// `ENOSPC` for more than [`MAX_NODES`], `EEXIST` for two nodes of one address or number,
    /// `ENOKEY` without a key where one is needed, `EINVAL`, `ENOMEM`, and bind(2)'s. On an error
    /// the old table stays. May sleep.
    pub(crate) fn load(self: &Arc<Self>, plan: Plan) -> Result<u64> {
        let mut setup = self.setup.lock();
        let old = self.view();
        let generation = setup.generation.wrapping_add(1);
        let view = self.build(plan, &old, generation)?;
        let same_door = setup.listener.is_some() && view.key.is_some() && view.bind == old.bind;
        if !same_door {
            // Both cannot be open at once where only the address's width differs.
            let before = setup.listener.take();
            let again = before.is_some();
            drop(before);
            if view.key.is_some() {
                match self.open(&view.bind) {
                    Ok(listener) => setup.listener = Some(listener),
                    Err(error) => {
                        pr_err!(
                            "the nodes' port cannot be opened on {}: {:?}\n",
                            Shown(&view.bind),
                            error
                        );
                        if again {
                            setup.listener = self.open(&old.bind).ok();
                        }
                        Self::stop_links(&view, Some(&old));
                        return Err(error);
                    }
                }
            }
        }
        let view = Arc::new(view, GFP_KERNEL)?;
        setup.generation = generation;
        self.alone.store(view.nodes.len() == 1, Relaxed);
        *self.view.lock() = view.clone();
        Self::stop_links(&old, Some(&view));
        Ok(generation)
    }

    /// Forgets the table: this node alone. May sleep.
    pub(crate) fn clear(&self) -> Result<u64> {
        let mut setup = self.setup.lock();
        let generation = setup.generation.wrapping_add(1);
        let view = View::alone(port(), generation)?;
        setup.generation = generation;
        let old = core::mem::replace(&mut *self.view.lock(), view);
        self.alone.store(true, Relaxed);
        drop(setup.listener.take());
        Self::stop_links(&old, None);
        Ok(generation)
    }

    /// Before the module goes: closes the port, ends all threads, waits for all requests. Sleeps.
    pub(crate) fn close(&self) {
        let mut setup = self.setup.lock();
        drop(setup.listener.take());
        let old = self.view();
        Self::stop_links(&old, None);
    }

    /// Stops the links of a table that are not in another; all at once, then waits for each.
    fn stop_links(view: &View, but: Option<&View>) {
        let stays = |link: &Arc<Link>| {
            but.is_some_and(|but| {
                but.nodes
                    .iter()
                    .filter_map(|entry| entry.link.as_ref())
                    .any(|other| Arc::ptr_eq(link, other))
            })
        };
        let gone = || {
            view.nodes
                .iter()
                .filter_map(|entry| entry.link.as_ref())
                .filter(|link| !stays(link))
        };
        for link in gone() {
            link.stop();
        }
        for link in gone() {
            link.join();
        }
    }

    fn open(self: &Arc<Self>, bind: &Addr) -> Result<Listener<Door>> {
        let config = Config {
            addr: *bind,
            max_connections: MAX_CONNECTIONS,
            max_frame: MAX_PAYLOAD + HEADER + TAG,
            reply_cap: MAX_ANSWERS,
            send_buffer: 0,
            idle_ms: IDLE_MS,
            send_ms: IDLE_MS,
            // A sign of life that comes late is none. What is asked for is done at ordinary priority.
            metered: false,
            highpri: true,
            ..Config::new(c"virgo_cluster", bind.port())
        };
        let door = Door {
            cluster: self.clone(),
        };
        Listener::new(config, Arc::new(door, GFP_KERNEL)?)
    }

    /// The state and the load of a node, and its calls under way.
    fn life(&self, entry: &Entry) -> (Life, (usize, u64, u64)) {
        match &entry.link {
            Some(link) => (link.peer().life(), link.peer().counts()),
            None => {
                let (load, under_way) = self.source.seen();
                let life = Life {
                    state: State::Up,
                    since_ns: 0,
                    load,
                    under_way,
                    rtt_ns: 0,
                    error: Text::new(),
                };
                (life, (self.source.under_way(), 0, 0))
            }
        }
    }

    /// Tells all nodes, ordered by number.
    pub(crate) fn each_node(&self, mut tell: impl FnMut(RawNode)) {
        let view = self.view();
        for entry in view.nodes.iter() {
            let (life, _) = self.life(entry);
            tell(RawNode {
                id: entry.id.number(),
                // CAST: `repr(u32)`.
                state: life.state as u32,
                weight: entry.weight,
                load: life.load.load,
                me: u32::from(entry.link.is_none()),
                reserved: 0,
            });
        }
    }

    /// All of the nodes, and which table it is.
    pub(crate) fn seen(&self) -> Result<(u64, bool, Addr, KVec<Seen>)> {
        self.refresh();
        let view = self.view();
        let mut seen = KVec::with_capacity(view.nodes.len(), GFP_KERNEL)?;
        for entry in view.nodes.iter() {
            let (life, (in_flight, calls, failed)) = self.life(entry);
            let one = Seen {
                id: entry.id,
                addr: entry.addr,
                octets: octets(&entry.addr),
                weight: entry.weight,
                me: entry.id == view.me,
                life,
                in_flight,
                calls,
                failed,
            };
            seen.push(one, GFP_KERNEL)?;
        }
        Ok((view.generation, view.key.is_some(), view.bind, seen))
    }

    /// What the port has seen.
    pub(crate) fn door_counts(&self) -> DoorCounts {
        let setup = self.setup.lock();
        DoorCounts {
            connections: setup
                .listener
                .as_ref()
                .map_or(0, |listener| listener.stats().active),
            strangers: self.strangers.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// Looks at this node's own load, in the context that it must be looked at in. May sleep.
    fn refresh(&self) {
        let Some(pool) = self.pool(Module::Core) else {
            return;
        };
        let Ok(done) = Arc::pin_init(Completion::new(), GFP_KERNEL) else {
            return;
        };
        let (source, told) = (self.source.clone(), done.clone());
        let spawned = pool.spawn(move || {
            source.now();
            told.complete_all();
        });
        // Without memory, the figures of a while ago.
        if spawned.is_ok() {
            done.wait_for_completion();
        }
    }

    /// The policy in use (a `POLICY_` number) and the seed (0: none).
    pub(crate) fn policy(&self) -> (u32, u64) {
        (self.policy.load(Relaxed), self.seeded.lock().0)
    }

    /// Sets the policy. `EINVAL`.
    pub(crate) fn set_policy(&self, policy: u32) -> Result {
        setting(policy).ok_or(EINVAL)?;
        self.policy.store(policy, Relaxed);
        Ok(())
    }

    /// Has choices begin anew from a seed; 0: from the kernel's random numbers.
    pub(crate) fn set_seed(&self, seed: u64) {
        *self.seeded.lock() = (seed, (seed != 0).then_some(seed));
    }

    /// Chooses a node among those that are up.
    pub(crate) fn pick(&self, policy: Policy) -> Result<NodeId> {
        let view = self.view();
        let policy = match policy {
            Policy::Node(id) => {
                let entry = view.find(id).ok_or(ENOENT)?;
                let (life, _) = self.life(entry);
                return if life.state == State::Down {
                    Err(ehostdown())
                } else {
                    Ok(id)
                };
            }
            Policy::Default => self.policy.load(Relaxed),
            Policy::LeastLoaded => uapi::POLICY_LEAST_LOADED,
            Policy::Random => uapi::POLICY_RANDOM,
            Policy::TwoChoices => uapi::POLICY_TWO_CHOICES,
        };
        if view.nodes.len() == 1 {
            return Ok(view.me);
        }
        let policy = setting(policy).ok_or(EINVAL)?;
        let mut candidates = [Candidate {
            usable: false,
            load: 0,
            weight: 1,
        }; MAX_NODES];
        for (candidate, entry) in candidates.iter_mut().zip(&view.nodes) {
            let (life, (in_flight, ..)) = self.life(entry);
            candidate.usable = life.state == State::Up;
            candidate.weight = entry.weight;
            candidate.load =
                load::expected(life.load.load, life.load.cpus, life.under_way, in_flight);
        }
        let candidates = candidates.get(..view.nodes.len()).unwrap_or(&[]);
        let chosen = {
            let mut seeded = self.seeded.lock();
            let state = &mut seeded.1;
            balance::choose(policy, candidates, &mut || match state {
                Some(state) => rendezvous::next_number(state),
                None => random_u32(),
            })
        };
        chosen
            .and_then(|index| view.nodes.get(index))
            .map(|entry| entry.id)
            .ok_or(ehostdown())
    }

    /// The node that a key belongs to.
    pub(crate) fn owner(&self, key: &[u8]) -> NodeId {
        let view = self.view();
        let nodes = view.nodes.iter();
        let nodes = nodes.map(|entry| (entry.id.number(), entry.weight));
        rendezvous::owner(rendezvous::key_hash(key), nodes).map_or(view.me, NodeId::from_number)
    }

    /// Makes a request of a node.
    pub(crate) fn call(
        &self,
        node: NodeId,
        module: Module,
        operation: u32,
        input: &[u8],
        reply_limit: usize,
        timeout_ms: u32,
    ) -> Result<KVVec<u8>> {
        if input.len() > MAX_PAYLOAD {
            return Err(emsgsize());
        }
        let limit = reply_limit.min(MAX_PAYLOAD);
        let view = self.view();
        if node == view.me {
            drop(view);
            self.source.begin();
            let answer = registry::serve(module, node, operation, input, limit);
            self.source.end();
            return answer;
        }
        // The peer alone: a table that is replaced meanwhile can go.
        let peer = view.peer(node)?.clone();
        drop(view);
        peer.call(module, operation, input, limit, timeout_ms)
    }

    /// Asks a node for a sign of life; how long it took. `me` answers at once.
    pub(crate) fn ping(&self, node: NodeId, timeout_ms: u32) -> Result<u64> {
        let view = self.view();
        if node == view.me {
            return Ok(0);
        }
        let peer = view.peer(node)?.clone();
        drop(view);
        peer.ping(timeout_ms)
    }
}
