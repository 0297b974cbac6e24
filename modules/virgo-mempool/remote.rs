// SPDX-License-Identifier: GPL-2.0-only

//! Blocks and named values of other nodes: what goes to them, and what comes from them.
//!
//! Requests and answers are numbers, little-endian, and then bytes; doc/mempool.md has the table.

use kernel::{
    alloc::Flags,
    prelude::*,
    sync::Arc, //
};

use crate::{
    blocks::{
        Block,
        Maker, //
    },
    control::Pool,
    door::serve_words,
    lib::{
        cluster::{
            self,
            NodeId,
            Policy,
            State, //
        },
        compat,
        service::{
            Module,
            RemoteReply,
            WORDS, //
        },
        zeroed::zeroed, //
    },
    logic::kv::{
        Large,
        Mode, //
    },
    proto::{
        pool::{
            self as wire,
            Request,
            Sink,
            Wrong, //
        },
        uapi::{
            self,
            Vuid, //
        }, //
    },
    store::{
        Context,
        CountRequest,
        Failure,
        Got,
        PutRequest, //
    },
};

/// How long a request to another node may take; one to a node that is down takes no time.
const TIMEOUT_MS: u32 = 3000;
/// The most bytes of a block in one request.
const PART: usize = 1 << 20;
/// The most bytes of a block of this node that are copied at once.
const HERE_STEP: usize = 65536;
/// The most bytes of a value in one request: what a request can have, less its head and key.
pub(crate) const VALUE_MAX: usize = cluster::MAX_PAYLOAD - 512;

/// Bytes of a chunk, if nothing is said.
const CHUNK: u32 = 65536;

/// The most bytes of an answer to LOCATE and FREE: length, chunk, and the parts.
const MAP_MAX: usize = 16 + 16 * cluster::MAX_NODES;

/// A request that is put together.
struct Writer(KVVec<u8>);

impl Sink for Writer {
    type Error = Error;

    fn bytes(&mut self, bytes: &[u8]) -> Result {
        Ok(self.0.extend_from_slice(bytes, GFP_KERNEL)?)
    }
}

/// An answer that is put together.
struct Answer<'a>(&'a mut RemoteReply);

impl Sink for Answer<'_> {
    type Error = Error;

    fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.0.push(bytes)
    }
}

/// Asks a node. May sleep.
fn ask(node: NodeId, request: &Request<'_>, reply_limit: usize) -> Result<KVVec<u8>> {
    let mut bytes = Writer(KVVec::with_capacity(request.size(), GFP_KERNEL)?);
    request.write(&mut bytes)?;
    let (module, operation) = (Module::Mempool, request.operation());
    cluster::call(node, module, operation, &bytes.0, reply_limit, TIMEOUT_MS)
}

/// An answer as it was understood; `EPROTO` for one that was not.
fn understood<T>(answer: Option<T>) -> Result<T> {
    answer.ok_or(compat::eproto())
}

/// A value that was fetched from another node.
pub(crate) struct Fetched {
    pub(crate) length: u32,
    pub(crate) flags: u32,
    pub(crate) cas: u64,
    pub(crate) left: i64,
    /// Empty if it is longer than was asked for.
    pub(crate) value: KVVec<u8>,
}

/// Numbers of a mode, as the uAPI has them.
pub(crate) fn mode_of(number: u32) -> Option<(Mode, bool)> {
    Some(match number {
        uapi::MEM_PUT_SET => (Mode::Set, false),
        uapi::MEM_PUT_ADD => (Mode::Add, false),
        uapi::MEM_PUT_REPLACE => (Mode::Replace, false),
        uapi::MEM_PUT_APPEND => (Mode::Append, false),
        uapi::MEM_PUT_PREPEND => (Mode::Prepend, false),
        uapi::MEM_PUT_CAS => (Mode::Set, true),
        _ => return None,
    })
}

/// Where a block is to be.
pub(crate) enum Place {
    Here,
    On(NodeId),
}

/// Where a block's handle says that it is: `None` for here.
pub(crate) fn node_of(vuid: &Vuid) -> Option<NodeId> {
    let node = crate::blocks::node_of(vuid);
    let me = node == 0 || NodeId::from_number(node) == cluster::me();
    (!me).then_some(NodeId::from_number(node))
}

/// Where a named value is: `None` for here.
pub(crate) fn owner(key: &[u8]) -> Option<NodeId> {
    if cluster::alone() {
        return None;
    }
    let node = cluster::owner(key);
    (node != cluster::me()).then_some(node)
}

/// Chooses where to lay a block.
pub(crate) fn place(node: u32, policy: Option<u32>) -> Result<Place> {
    let node = if node != uapi::MEM_NODE_ANY {
        NodeId::from_number(node)
    } else if let Some(policy) = policy {
        let policy = Policy::from_numbers(policy, 0).ok_or(EINVAL)?;
        cluster::pick(policy)?
    } else {
        return Ok(Place::Here);
    };
    Ok(if node == cluster::me() {
        Place::Here
    } else {
        Place::On(node)
    })
}

/// An error of another node's table of nodes, or of ours, as one who has a handle is told it.
fn told(error: Error) -> Error {
    // No such node, or no cluster: the handle is of one that this node is not in.
    if error == ENOENT || error == compat::enotconn() {
        compat::estale()
    } else {
        error
    }
}

pub(crate) fn malloc(node: NodeId, length: u64) -> Result<Vuid> {
    understood(wire::handle(&ask(node, &Request::Malloc(length), 16)?))
}

fn set(node: NodeId, vuid: &Vuid, offset: u64, bytes: &[u8]) -> Result {
    let request = Request::Set {
        vuid: *vuid,
        offset,
        bytes,
    };
    ask(node, &request, 0).map(drop).map_err(told)
}

/// Reads bytes into `to`; how many they were.
fn get(node: NodeId, vuid: &Vuid, offset: u64, to: &mut [u8]) -> Result<usize> {
    let request = Request::Get {
        vuid: *vuid,
        offset,
        // CAST: usize fits u64.
        length: to.len() as u64,
    };
    let bytes = ask(node, &request, to.len()).map_err(told)?;
    to.get_mut(..bytes.len())
        .ok_or(compat::eproto())?
        .copy_from_slice(&bytes);
    Ok(bytes.len())
}

/// Asks for a block's length and its parts, if it has any; or gives it back and asks for those.
fn map(node: NodeId, request: &Request<'_>) -> Result<(usize, Option<Stripes>)> {
    let answer = ask(node, request, MAP_MAX).map_err(told)?;
    let map = understood(wire::Map::parse(&answer))?;
    let length = usize::try_from(map.length).map_err(|_| compat::eproto())?;
    if map.chunk == 0 {
        return Ok((length, None));
    }
    let mut parts = KVec::new();
    for part in map.parts() {
        parts.push(part, GFP_KERNEL)?;
    }
    // CAST: u32 fits usize.
    let chunk = map.chunk as usize;
    Ok((length, Some(Stripes { chunk, parts })))
}

/// Stores; the value's number.
pub(crate) fn put(
    node: NodeId,
    mode: u32,
    flags: u32,
    exptime: i64,
    cas: u64,
    key: &[u8],
    value: &[u8],
) -> Result<u64> {
    if value.len() > VALUE_MAX {
        return Err(EFBIG);
    }
    let request = Request::Put {
        mode,
        flags,
        exptime,
        cas,
        key,
        value,
    };
    understood(wire::number(&ask(node, &request, 8)?))
}

pub(crate) fn take(
    node: NodeId,
    key: &[u8],
    capacity: usize,
    exptime: Option<i64>,
) -> Result<Fetched> {
    let capacity = capacity.min(VALUE_MAX);
    let request = Request::Take {
        // CAST: usize fits u64.
        capacity: capacity as u64,
        touch: exptime,
        key,
    };
    let answer = ask(node, &request, capacity.saturating_add(32))?;
    let taken = understood(wire::Taken::parse(&answer, capacity))?;
    // CAST: u32 fits usize.
    if taken.length as usize > VALUE_MAX {
        return Err(EFBIG);
    }
    let mut value = KVVec::new();
    value.extend_from_slice(taken.value.unwrap_or(&[]), GFP_KERNEL)?;
    Ok(Fetched {
        length: taken.length,
        flags: taken.flags,
        cas: taken.cas,
        left: taken.left,
        value,
    })
}

pub(crate) fn delete(node: NodeId, key: &[u8], cas: u64) -> Result {
    ask(node, &Request::Drop { cas, key }, 0).map(drop)
}

/// Adds to a number: the number, and the value's own.
pub(crate) fn count(
    node: NodeId,
    key: &[u8],
    delta: u64,
    decrement: bool,
    initial: Option<(u64, i64)>,
) -> Result<(u64, u64)> {
    let request = Request::Count {
        down: decrement,
        delta,
        initial,
        key,
    };
    understood(wire::counted(&ask(node, &request, 16)?))
}

/// Answers with a value, and with its bytes, if they are not more than were asked for.
fn push_got(got: &Got, bytes: &[u8], capacity: usize, output: &mut RemoteReply) -> Result {
    // CAST: u32 fits usize.
    let length = got.length as usize;
    let bytes = match &got.large {
        Some(big) => Some(big.bytes()),
        None => bytes.get(..length),
    };
    let value = if length > capacity {
        None
    } else {
        Some(bytes.ok_or(EINVAL)?)
    };
    let taken = wire::Taken {
        length: got.length,
        flags: got.flags,
        left: got.left,
        cas: got.cas,
        value,
    };
    taken.write(&mut Answer(output))
}

/// A block in chunks on several nodes.
pub(crate) struct Stripes {
    chunk: usize,
    parts: KVec<Vuid>,
}

impl Stripes {
    /// Where byte `at` is: the part, the byte in it, and how many there are to the chunk's end.
    fn locate(&self, at: usize) -> Option<(&Vuid, usize, usize)> {
        let (number, inside) = (at.checked_div(self.chunk)?, at.checked_rem(self.chunk)?);
        let part = number.checked_rem(self.parts.len())?;
        let row = number.checked_div(self.parts.len())?;
        let offset = row.checked_mul(self.chunk)?.checked_add(inside)?;
        let room = self.chunk.saturating_sub(inside);
        self.parts.get(part).map(|vuid| (vuid, offset, room))
    }
}

/// An error, and the node that it is about; 0: this one.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) node: u32,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error, node: 0 }
    }
}

impl Failed {
    fn of(node: NodeId) -> impl FnOnce(Error) -> Failed {
        move |error| Failed {
            error,
            node: node.number(),
        }
    }
}

/// A block, wherever it is.
pub(crate) enum Target {
    Here(Arc<Block>),
    On {
        node: NodeId,
        vuid: Vuid,
        length: usize,
    },
    /// In chunks, and its list is on another node.
    Striped {
        stripes: Stripes,
        length: usize,
    },
}

impl Target {
    /// Finds a block; another node is asked for its length. May sleep.
    pub(crate) fn find(pool: &Pool, vuid: &Vuid) -> Result<Target, Failed> {
        let Some(node) = node_of(vuid) else {
            return Ok(Target::Here(pool.blocks.find(vuid)?));
        };
        let (length, stripes) = map(node, &Request::Locate(*vuid)).map_err(Failed::of(node))?;
        Ok(match stripes {
            Some(stripes) => Target::Striped { stripes, length },
            None => Target::On {
                node,
                vuid: *vuid,
                length,
            },
        })
    }

    /// The most bytes to read or write at once.
    pub(crate) fn step(&self) -> usize {
        match self.split() {
            Err(_) => HERE_STEP,
            Ok(_) => PART,
        }
    }

    pub(crate) fn length(&self) -> usize {
        match self {
            Target::Here(block) => block.length(),
            Target::On { length, .. } | Target::Striped { length, .. } => *length,
        }
    }

    /// Where the bytes of a block are that is not here; `Err`: its bytes.
    fn split(&self) -> Result<Split<'_>, &Block> {
        match self {
            Target::On { node, vuid, .. } => Ok(Split::Node(*node, vuid)),
            Target::Striped { stripes, .. } => Ok(Split::Stripes(stripes)),
            Target::Here(block) => match block.stripes() {
                Some(stripes) => Ok(Split::Stripes(stripes)),
                None => Err(block),
            },
        }
    }

    /// Reads bytes, all of which are within the block. May sleep.
    pub(crate) fn read(&self, pool: &Pool, at: usize, to: &mut [u8]) -> Result<(), Failed> {
        match self.split() {
            Err(block) => {
                block.read(at, to)?;
            }
            Ok(Split::Node(node, vuid)) => {
                for (number, part) in to.chunks_mut(PART).enumerate() {
                    // CAST: usize fits u64.
                    let at = at.saturating_add(number.saturating_mul(PART)) as u64;
                    let got = get(node, vuid, at, part);
                    if got.map_err(Failed::of(node))? < part.len() {
                        return Err(compat::eproto().into());
                    }
                }
            }
            Ok(Split::Stripes(stripes)) => {
                let mut done = 0usize;
                while done < to.len() {
                    let place = stripes.locate(at.saturating_add(done));
                    let (vuid, offset, room) = place.ok_or(EINVAL)?;
                    let end = done.saturating_add(room).min(to.len());
                    let part = to.get_mut(done..end).ok_or(EINVAL)?;
                    Target::part(pool, vuid)?.read(pool, offset, part)?;
                    done = end;
                }
            }
        }
        Ok(())
    }

    /// Writes bytes, all of which are within the block. May sleep.
    pub(crate) fn write(&self, pool: &Pool, at: usize, from: &[u8]) -> Result<(), Failed> {
        match self.split() {
            Err(block) => block.write(at, from)?,
            Ok(Split::Node(node, vuid)) => {
                for (number, part) in from.chunks(PART).enumerate() {
                    // CAST: usize fits u64.
                    let at = at.saturating_add(number.saturating_mul(PART)) as u64;
                    set(node, vuid, at, part).map_err(Failed::of(node))?;
                }
            }
            Ok(Split::Stripes(stripes)) => {
                let mut done = 0usize;
                while done < from.len() {
                    let place = stripes.locate(at.saturating_add(done));
                    let (vuid, offset, room) = place.ok_or(EINVAL)?;
                    let end = done.saturating_add(room).min(from.len());
                    let part = from.get(done..end).ok_or(EINVAL)?;
                    Target::part(pool, vuid)?.write(pool, offset, part)?;
                    done = end;
                }
            }
        }
        Ok(())
    }

    /// A part of a block in chunks. Its length was checked with the block's.
    fn part(pool: &Pool, vuid: &Vuid) -> Result<Target, Failed> {
        Ok(match node_of(vuid) {
            None => Target::Here(pool.blocks.find(vuid)?),
            Some(node) => Target::On {
                node,
                vuid: *vuid,
                length: 0,
            },
        })
    }
}

/// Where bytes are that are not here.
enum Split<'a> {
    Node(NodeId, &'a Vuid),
    Stripes(&'a Stripes),
}

/// Makes a block in chunks over all nodes that are up. May sleep.
pub(crate) fn malloc_striped(
    pool: &Pool,
    length: u64,
    chunk: u32,
    maker: Maker,
    flags: Flags,
) -> Result<Vuid> {
    if length == 0 {
        return Err(EINVAL);
    }
    if length > uapi::MEM_BLOCK_MAX {
        return Err(EFBIG);
    }
    let chunk = u64::from(if chunk == 0 { CHUNK } else { chunk });
    let nodes = cluster::nodes()?;
    let up = || nodes.iter().filter(|node| node.state != State::Down);
    // CAST: usize fits u64.
    let count = (up().count() as u64).min(length.div_ceil(chunk)).max(1);
    let rows = length.div_ceil(chunk).div_ceil(count);
    let each = rows.saturating_mul(chunk).min(length);
    let mut parts = KVec::new();
    let mut result = Ok(());
    // CAST: at most the number of nodes.
    for node in up().take(count as usize) {
        let made = if node.me {
            pool.blocks.malloc(pool.node(), each, maker, flags)
        } else {
            malloc(node.id, each)
        };
        result = made.and_then(|vuid| Ok(parts.push(vuid, GFP_KERNEL)?));
        if result.is_err() {
            break;
        }
    }
    let made = result.and_then(|()| {
        let mut kept = KVec::new();
        kept.extend_from_slice(&parts, GFP_KERNEL)?;
        let stripes = Stripes {
            chunk: usize::try_from(chunk).map_err(|_| EINVAL)?,
            parts: kept,
        };
        let length = usize::try_from(length).map_err(|_| EFBIG)?;
        pool.blocks
            .adopt(pool.node(), length, stripes, maker, flags)
    });
    if made.is_err() {
        for part in &parts {
            // What cannot be freed is on a node that is gone.
            let _ = free_any(pool, part);
        }
    }
    made
}

/// Frees a block, wherever it is, and its parts. An error tells of a part that could not be freed,
/// since its node is gone; the block is none any more. May sleep.
pub(crate) fn free_any(pool: &Pool, vuid: &Vuid) -> Result<(), Failed> {
    if let Some(node) = node_of(vuid) {
        let (_, stripes) = map(node, &Request::Free(*vuid)).map_err(Failed::of(node))?;
        return stripes.map_or(Ok(()), |stripes| free_parts(pool, &stripes));
    }
    let block = pool.blocks.free(vuid)?;
    block
        .stripes()
        .map_or(Ok(()), |stripes| free_parts(pool, stripes))
}

fn free_parts(pool: &Pool, stripes: &Stripes) -> Result<(), Failed> {
    let mut result = Ok(());
    for part in &stripes.parts {
        let freed = match node_of(part) {
            Some(node) => map(node, &Request::Free(*part))
                .map(drop)
                .map_err(Failed::of(node)),
            None => pool.blocks.free(part).map(drop).map_err(Failed::from),
        };
        if result.is_ok() {
            result = freed;
        }
    }
    result
}

/// A block whose bytes are here. Those of one in chunks are asked for where they are: `EREMOTE`, so
/// that no request goes on to a third node.
fn plain(pool: &Pool, vuid: &Vuid) -> Result<Arc<Block>> {
    let block = pool.blocks.find(vuid)?;
    if block.stripes().is_some() {
        return Err(compat::eremote());
    }
    Ok(block)
}

/// Answers with a block's length and its parts.
fn push_map(block: &Block, output: &mut RemoteReply) -> Result {
    let mut answer = Answer(output);
    // CAST: usize fits u64, here and below.
    answer.number(block.length() as u64)?;
    let Some(stripes) = block.stripes() else {
        return answer.number(0);
    };
    answer.number(stripes.chunk as u64)?;
    let me = cluster::me().number();
    for part in &stripes.parts {
        // Of a time when this node was alone.
        answer.vuid(&crate::blocks::on_node(part, me))?;
    }
    Ok(())
}

/// Serves a request of another node. May sleep.
pub(crate) fn serve(pool: &Pool, operation: u32, input: &[u8], output: &mut RemoteReply) -> Result {
    if operation == WORDS {
        // Whatever may be said on the port takes no time to speak of.
        let (_timeout_ms, text) = input.split_first_chunk::<4>().ok_or(compat::eproto())?;
        return output.set(serve_words(pool, text, output.limit())?);
    }
    let request = wire::parse(operation, input).map_err(|wrong| match wrong {
        Wrong::Operation => compat::eopnotsupp(),
        Wrong::Form => compat::eproto(),
    })?;
    let (store, blocks) = (&pool.store, &pool.blocks);
    match request {
        Request::Malloc(length) => {
            let vuid = blocks.malloc(pool.node(), length, Maker::NETWORK, GFP_KERNEL)?;
            Answer(output).vuid(&vuid)
        }
        Request::Set {
            vuid,
            offset,
            bytes,
        } => {
            let offset = usize::try_from(offset).map_err(|_| ERANGE)?;
            plain(pool, &vuid)?.write(offset, bytes)
        }
        Request::Get {
            vuid,
            offset,
            length,
        } => {
            let block = plain(pool, &vuid)?;
            let offset = usize::try_from(offset).map_err(|_| ERANGE)?;
            let left = block.length().checked_sub(offset).ok_or(ERANGE)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(left);
            // Not more memory than the answer may have.
            if length > output.limit() {
                return Err(compat::emsgsize());
            }
            let mut bytes: KVVec<u8> = zeroed(length, GFP_KERNEL | __GFP_NOWARN)?;
            block.read(offset, &mut bytes)?;
            output.set(bytes)
        }
        Request::Locate(vuid) => push_map(&*blocks.find(&vuid)?, output),
        Request::Free(vuid) => push_map(&*blocks.free(&vuid)?, output),
        Request::Put {
            mode,
            flags,
            exptime,
            cas,
            key,
            value,
        } => {
            let (mode, with_cas) = mode_of(mode).ok_or(compat::eproto())?;
            let put = PutRequest {
                flags,
                exp: store.expiry(exptime),
                mode,
                cas: with_cas.then_some(cas),
                ..PutRequest::new(key, value)
            };
            if !store.fits(key.len(), value.len()) {
                return Err(EFBIG);
            }
            let stored = store.put(&put, Context::Network);
            let stored = stored.map_err(|failure| failure.put_errno(mode))?;
            Answer(output).number(stored.cas)
        }
        Request::Take {
            capacity,
            touch,
            key,
        } => {
            let capacity = usize::try_from(capacity).map_err(|_| compat::eproto())?;
            let exp = touch.map(|exptime| store.expiry(exptime));
            let mut small = [0; 512];
            let got = store.get_into(key, exp, &mut small, capacity);
            let got = got.ok_or(ENOENT)?;
            // CAST: u32 fits usize.
            let length = got.length as usize;
            if length <= small.len() || length > capacity || got.large.is_some() {
                return push_got(&got, &small, capacity, output);
            }
            // Longer than a small one, shorter than a big one; it may have changed since.
            let mut room: KVVec<u8> = zeroed(8192, GFP_KERNEL)?;
            let got = store.get_into(key, None, &mut room, capacity);
            push_got(&got.ok_or(ENOENT)?, &room, capacity, output)
        }
        Request::Drop { cas, key } => store
            .delete(key, (cas != 0).then_some(cas))
            .map_err(Failure::errno),
        Request::Count {
            down,
            delta,
            initial,
            key,
        } => {
            let count = CountRequest {
                key,
                delta,
                decrement: down,
                initial: initial.map(|(first, exptime)| (first, store.expiry(exptime))),
                cas: None,
                new_cas: None,
            };
            let counted = store.count(&count, Context::Network);
            let (number, stored) = counted.map_err(Failure::errno)?;
            let mut answer = Answer(output);
            answer.number(number)?;
            answer.number(stored.cas)
        }
    }
}
