// SPDX-License-Identifier: GPL-2.0-only

//! What the cluster has set: told to the other nodes when it is set, and compared with what they
//! know, so that all come to know the same.
//!
//! Who sets a value sends it to all nodes that are up. Each node asks each other one that is up, once
//! a second and when it has come up, for the digest of all that it knows; where that is another than
//! its own it asks for the entries themselves. Two nodes whose digests differ and which have asked
//! each other since do so again only when one of the digests has changed.
//!
//! | operation | request | answer |
//! |---|---|---|
//! | 1 put | entries | nothing |
//! | 2 digest | nothing | u64 how many there are, u64 digest |
//! | 3 get | u32 where to begin | u32 where to go on, 0xffffffff: that was all; entries |
//!
//! All numbers are little-endian; entries are those of `virgo_proto::shared`.

use kernel::{
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::{
    lib::{
        cluster::{
            self,
            NodeId,
            State, //
        },
        compat::{
            eopnotsupp,
            eproto, //
        },
        service::{
            Module,
            RemoteReply, //
        },
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        },
        zeroed::zeroed, //
    },
    proto::shared::{
        Entry,
        ENTRY_MAX, //
    },
    settings::{
        Engine,
        Refusal,
        Wish, //
    },
    state::Who,
};

const PUT: u32 = 1;
const DIGEST: u32 = 2;
const GET: u32 = 3;

/// How long a node's answer is waited for; unloading waits as long at most, twice.
const TIMEOUT_MS: u32 = 1000;
/// The nodes are asked so often.
const PERIOD_NS: u64 = 1_000_000_000;
/// The most bytes of entries in an answer.
const PAGE: usize = 256 << 10;
/// Where to go on after the last.
const END: u32 = u32::MAX;

/// The digests of another node and of this one when it was last asked for all entries.
struct Asked {
    node: NodeId,
    theirs: (u64, u64),
    ours: (u64, u64),
}

/// A round through the nodes.
struct Round {
    /// Who is still to be asked.
    left: KVec<NodeId>,
    asked: KVec<Asked>,
    /// A clock that is too far ahead, or too little room, was told of.
    warned: bool,
}

/// What the work item does.
#[pin_data]
pub(crate) struct Asking {
    engine: Arc<Engine>,
    #[pin]
    round: Mutex<Round>,
}

/// The other nodes.
#[pin_data]
pub(crate) struct Nodes {
    #[pin]
    work: DeadlineWork<Asking>,
}

/// Two numbers of eight bytes each.
fn pair(bytes: &[u8]) -> Result<(u64, u64)> {
    let (first, rest) = bytes.split_first_chunk::<8>().ok_or(eproto())?;
    let second = rest.first_chunk::<8>().ok_or(eproto())?;
    Ok((u64::from_le_bytes(*first), u64::from_le_bytes(*second)))
}

fn ask(node: NodeId, operation: u32, input: &[u8], limit: usize) -> Result<KVVec<u8>> {
    cluster::call(node, Module::Analytics, operation, input, limit, TIMEOUT_MS)
}

/// The other nodes that may answer.
fn others() -> Result<KVec<NodeId>> {
    let mut ids = KVec::new();
    for node in cluster::nodes()? {
        if !node.me && node.state != State::Down {
            ids.push(node.id, GFP_KERNEL)?;
        }
    }
    Ok(ids)
}

fn errno(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Other(error) => *error,
        _ => ENOSPC,
    }
}

/// Takes all entries of some bytes; the first error there was. `EPROTO` for what is none, and then
/// what is behind it is not looked at.
fn merge(engine: &Engine, mut bytes: &[u8]) -> Result {
    let mut result = Ok(());
    while !bytes.is_empty() {
        let (entry, rest) = Entry::parse(bytes).ok_or(eproto())?;
        let length = bytes.len().saturating_sub(rest.len());
        let whole = bytes.get(..length).ok_or(EINVAL)?;
        if let Err(refusal) = engine.settings().merge(&entry, whole) {
            if result.is_ok() {
                result = Err(errno(&refusal));
            }
        }
        bytes = rest;
    }
    result
}

impl Asking {
    /// Asks a node, and for all that it knows if that is not what is known here.
    fn compare(&self, round: &mut Round, node: NodeId) -> Result {
        let settings = self.engine.settings();
        let theirs = pair(&ask(node, DIGEST, &[], 16)?)?;
        let ours = settings.digest();
        if theirs == ours {
            return Ok(());
        }
        let place = round.asked.iter().position(|asked| asked.node == node);
        let known = place.and_then(|place| round.asked.get(place));
        if known.is_some_and(|asked| asked.theirs == theirs && asked.ours == ours) {
            return Ok(());
        }
        let mut result = Ok(());
        let mut next = 0;
        while next != END {
            let answer = ask(node, GET, &u32::to_le_bytes(next), PAGE)?;
            let (head, entries) = answer.split_first_chunk::<4>().ok_or(eproto())?;
            let merged = merge(&self.engine, entries);
            if result.is_ok() {
                result = merged;
            }
            let after = u32::from_le_bytes(*head);
            // Else it would have this node ask for ever.
            if after <= next {
                return Err(eproto());
            }
            next = after;
        }
        // What was not taken is not asked for again before something changes.
        let asked = Asked {
            node,
            theirs,
            ours: settings.digest(),
        };
        match place.and_then(|place| round.asked.get_mut(place)) {
            Some(place) => *place = asked,
            None => round.asked.push(asked, GFP_KERNEL)?,
        }
        result
    }
}

impl DeadlineHandler for Asking {
    fn run(&self, work: &DeadlineWork<Self>) {
        if cluster::alone() {
            // A node that comes up begins it.
            return;
        }
        let mut round = self.round.lock();
        if round.left.is_empty() {
            if let Ok(ids) = others() {
                round.left = ids;
            }
        }
        // One at a time, so that unloading does not wait for all of them.
        if let Some(node) = round.left.pop() {
            if let Err(error) = self.compare(&mut round, node) {
                let ours = error == ENOSPC || error == ERANGE;
                if ours && !round.warned {
                    round.warned = true;
                    pr_warn!(
                        "not all settings of node {:08x} can be taken: error {} (ENOSPC: load with larger max_settings or max_mb; ERANGE: its clock is more than a day ahead); further ones are not told\n",
                        node.number(),
                        error.to_errno()
                    );
                }
            }
        }
        if round.left.is_empty() {
            work.arm(monotonic_ns().saturating_add(PERIOD_NS));
        } else {
            work.run_soon();
        }
    }
}

impl Nodes {
    /// Nobody is asked yet. `ENOMEM`.
    pub(crate) fn new(engine: Arc<Engine>) -> Result<Arc<Nodes>> {
        let asking = Arc::pin_init(
            pin_init!(Asking {
                engine,
                round <- kernel::new_mutex!(Round {
                    left: KVec::new(),
                    asked: KVec::new(),
                    warned: false,
                }, "virgo_analytics_nodes"),
            }),
            GFP_KERNEL,
        )?;
        Arc::pin_init(
            try_pin_init!(Nodes {
                work <- DeadlineWork::new(
                    c"virgo_analytics_nodes",
                    kernel::static_lock_class!(),
                    asking,
                ),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Asks the nodes soon, if there are any. Does not sleep.
    pub(crate) fn look(&self) {
        self.work.run_soon();
    }

    /// Sets a value on all nodes, or takes it back; the number of the change here, how many nodes have
    /// it, and how many there are. Those that do not answer get it later. Sleeps.
    pub(crate) fn set(&self, wish: &Wish<'_>, who: Who) -> Result<(u64, u32, u32), Refusal> {
        let mut place: KVVec<u8> = zeroed(ENTRY_MAX, GFP_KERNEL).map_err(Error::from)?;
        let settings = self.work.handler().engine.settings();
        let (version, length) = settings.share(wish, who, &mut place)?;
        let entry = place.get(..length).unwrap_or(&[]);
        let (mut reached, mut count) = (1_u32, 1_u32);
        let mut waits = true;
        // It is set; who can't be told now is told when it asks.
        for node in cluster::nodes().unwrap_or_default() {
            if node.me {
                continue;
            }
            count = count.saturating_add(1);
            if node.state == State::Down || !waits {
                continue;
            }
            match ask(node.id, PUT, entry, 0) {
                Ok(_) => reached = reached.saturating_add(1),
                Err(error) if error == EINTR => waits = false,
                Err(_) => {}
            }
        }
        Ok((version, reached, count))
    }

    /// Serves a request of another node. Sleeps.
    pub(crate) fn serve(&self, operation: u32, input: &[u8], output: &mut RemoteReply) -> Result {
        let engine = &self.work.handler().engine;
        match operation {
            PUT => merge(engine, input),
            DIGEST => {
                let (count, digest) = engine.settings().digest();
                output.push(&count.to_le_bytes())?;
                output.push(&digest.to_le_bytes())
            }
            GET => {
                let first: [u8; 4] = input.try_into().map_err(|_| eproto())?;
                let limit = output.limit().min(PAGE).saturating_sub(4);
                let mut entries: KVVec<u8> = KVVec::new();
                let mut place: KVVec<u8> = zeroed(ENTRY_MAX, GFP_KERNEL)?;
                let first = u32::from_le_bytes(first);
                let next = engine.settings().each_shared(first, &mut place, |entry| {
                    if entries.len().saturating_add(entry.len()) > limit {
                        return Ok(false);
                    }
                    entries.extend_from_slice(entry, GFP_KERNEL)?;
                    Ok(true)
                })?;
                output.push(&next.unwrap_or(END).to_le_bytes())?;
                output.push(&entries)
            }
            _ => Err(eopnotsupp()),
        }
    }
}
