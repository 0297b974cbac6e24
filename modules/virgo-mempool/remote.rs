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
    },
    logic::kv::{
        Large,
        Mode,
        KEY_MAX, //
    },
    proto::uapi::{
        self,
        Vuid, //
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

const MALLOC: u32 = 1;
const SET: u32 = 2;
const GET: u32 = 3;
const FREE: u32 = 4;
const PUT: u32 = 5;
const TAKE: u32 = 6;
const DROP: u32 = 7;
const COUNT: u32 = 8;
const LOCATE: u32 = 9;

/// The most bytes of an answer to LOCATE and FREE: length, chunk, and the parts.
const MAP_MAX: usize = 16 + 16 * cluster::MAX_NODES;

/// A request that is put together.
struct Writer(KVVec<u8>);

impl Writer {
    fn new() -> Self {
        Writer(KVVec::new())
    }

    fn bytes(mut self, bytes: &[u8]) -> Result<Self> {
        self.0.extend_from_slice(bytes, GFP_KERNEL)?;
        Ok(self)
    }

    fn number(self, value: u64) -> Result<Self> {
        self.bytes(&value.to_le_bytes())
    }

    fn vuid(self, vuid: &Vuid) -> Result<Self> {
        self.number(vuid.word[0])?.number(vuid.word[1])
    }

    fn call(self, node: NodeId, operation: u32, reply_limit: usize) -> Result<KVVec<u8>> {
        let module = Module::Mempool;
        cluster::call(node, module, operation, &self.0, reply_limit, TIMEOUT_MS)
    }
}

/// A request or an answer that is taken apart. What is missing is `EPROTO`.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>().ok_or(compat::eproto())?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| compat::eproto())
    }

    fn vuid(&mut self) -> Result<Vuid> {
        let word = [self.number()?, self.number()?];
        Ok(Vuid { word })
    }

    fn key(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.number()?).map_err(|_| compat::eproto())?;
        if length == 0 || length > KEY_MAX {
            return Err(compat::eproto());
        }
        let (key, rest) = self.0.split_at_checked(length).ok_or(compat::eproto())?;
        self.0 = rest;
        Ok(key)
    }
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
    let answer = Writer::new().number(length)?.call(node, MALLOC, 16)?;
    Reader(&answer).vuid()
}

fn set(node: NodeId, vuid: &Vuid, offset: u64, bytes: &[u8]) -> Result {
    let mut request = Writer::new();
    request
        .0
        .reserve(bytes.len().saturating_add(24), GFP_KERNEL)?;
    request
        .vuid(vuid)?
        .number(offset)?
        .bytes(bytes)?
        .call(node, SET, 0)
        .map(drop)
        .map_err(told)
}

/// Reads bytes into `to`; how many they were.
fn get(node: NodeId, vuid: &Vuid, offset: u64, to: &mut [u8]) -> Result<usize> {
    // CAST: usize fits u64.
    let bytes = Writer::new()
        .vuid(vuid)?
        .number(offset)?
        .number(to.len() as u64)?
        .call(node, GET, to.len())
        .map_err(told)?;
    to.get_mut(..bytes.len())
        .ok_or(compat::eproto())?
        .copy_from_slice(&bytes);
    Ok(bytes.len())
}

/// Asks for a block's length and its parts, if it has any; or gives it back and asks for those.
fn map(node: NodeId, operation: u32, vuid: &Vuid) -> Result<(usize, Option<Stripes>)> {
    let answer = Writer::new()
        .vuid(vuid)?
        .call(node, operation, MAP_MAX)
        .map_err(told)?;
    let mut reader = Reader(&answer);
    let (length, chunk) = (reader.number()?, reader.small()?);
    let length = usize::try_from(length).map_err(|_| compat::eproto())?;
    if chunk == 0 {
        return Ok((length, None));
    }
    let mut parts = KVec::new();
    while !reader.0.is_empty() {
        parts.push(reader.vuid()?, GFP_KERNEL)?;
    }
    // CAST: u32 fits usize.
    let chunk = chunk as usize;
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
    // CAST: the bits of the time; usize fits u64.
    let answer = Writer::new()
        .number(mode.into())?
        .number(flags.into())?
        .number(exptime as u64)?
        .number(cas)?
        .number(key.len() as u64)?
        .bytes(key)?
        .bytes(value)?
        .call(node, PUT, 8)?;
    Reader(&answer).number()
}

pub(crate) fn take(
    node: NodeId,
    key: &[u8],
    capacity: usize,
    exptime: Option<i64>,
) -> Result<Fetched> {
    let capacity = capacity.min(VALUE_MAX);
    // CAST: the bits of the time; usize fits u64.
    let answer = Writer::new()
        .number(capacity as u64)?
        .number(exptime.is_some().into())?
        .number(exptime.unwrap_or(0) as u64)?
        .number(key.len() as u64)?
        .bytes(key)?
        .call(node, TAKE, capacity.saturating_add(32))?;
    let mut reader = Reader(&answer);
    let (length, flags) = (reader.small()?, reader.small()?);
    // CAST: the bits of the time.
    let (left, cas) = (reader.number()? as i64, reader.number()?);
    // CAST: u32 fits usize.
    if length as usize > VALUE_MAX {
        return Err(EFBIG);
    }
    let mut value = KVVec::new();
    value.extend_from_slice(reader.0, GFP_KERNEL)?;
    Ok(Fetched {
        length,
        flags,
        cas,
        left,
        value,
    })
}

pub(crate) fn delete(node: NodeId, key: &[u8], cas: u64) -> Result {
    // CAST: usize fits u64.
    Writer::new()
        .number(cas)?
        .number(key.len() as u64)?
        .bytes(key)?
        .call(node, DROP, 0)
        .map(drop)
}

/// Adds to a number: the number, and the value's own.
pub(crate) fn count(
    node: NodeId,
    key: &[u8],
    delta: u64,
    decrement: bool,
    initial: Option<(u64, i64)>,
) -> Result<(u64, u64)> {
    let flags = u64::from(decrement) | u64::from(initial.is_some()) << 1;
    let (first, exptime) = initial.unwrap_or((0, 0));
    // CAST: the bits of the time; usize fits u64.
    let answer = Writer::new()
        .number(flags)?
        .number(delta)?
        .number(first)?
        .number(exptime as u64)?
        .number(key.len() as u64)?
        .bytes(key)?
        .call(node, COUNT, 16)?;
    let mut reader = Reader(&answer);
    Ok((reader.number()?, reader.number()?))
}

/// Answers with a value, and with its bytes, if they are not more than were asked for.
fn push_got(got: &Got, bytes: &[u8], capacity: usize, output: &mut RemoteReply) -> Result {
    // CAST: the bits of the time; u32 fits usize.
    output.push(&u64::from(got.length).to_le_bytes())?;
    output.push(&u64::from(got.flags).to_le_bytes())?;
    output.push(&(got.left as u64).to_le_bytes())?;
    output.push(&got.cas.to_le_bytes())?;
    let length = got.length as usize;
    if length > capacity {
        return Ok(());
    }
    match &got.large {
        Some(big) => output.push(big.bytes()),
        None => output.push(bytes.get(..length).ok_or(EINVAL)?),
    }
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
        let (length, stripes) = map(node, LOCATE, vuid).map_err(Failed::of(node))?;
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
        let (_, stripes) = map(node, FREE, vuid).map_err(Failed::of(node))?;
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
            Some(node) => map(node, FREE, part).map(drop).map_err(Failed::of(node)),
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
    // CAST: usize fits u64.
    output.push(&(block.length() as u64).to_le_bytes())?;
    let Some(stripes) = block.stripes() else {
        return output.push(&0_u64.to_le_bytes());
    };
    output.push(&(stripes.chunk as u64).to_le_bytes())?;
    let me = cluster::me().number();
    for part in &stripes.parts {
        // Of a time when this node was alone.
        let part = crate::blocks::on_node(part, me);
        output.push(&part.word[0].to_le_bytes())?;
        output.push(&part.word[1].to_le_bytes())?;
    }
    Ok(())
}

/// Serves a request of another node. May sleep.
pub(crate) fn serve(pool: &Pool, operation: u32, input: &[u8], output: &mut RemoteReply) -> Result {
    let mut reader = Reader(input);
    let (store, blocks) = (&pool.store, &pool.blocks);
    match operation {
        WORDS => {
            // Whatever may be said on the port takes no time to speak of.
            let (_timeout_ms, text) = input.split_first_chunk::<4>().ok_or(compat::eproto())?;
            output.set(serve_words(pool, text, output.limit())?)
        }
        MALLOC => {
            let length = reader.number()?;
            let vuid = blocks.malloc(pool.node(), length, Maker::NETWORK, GFP_KERNEL)?;
            output.push(&vuid.word[0].to_le_bytes())?;
            output.push(&vuid.word[1].to_le_bytes())
        }
        SET => {
            let (vuid, offset) = (reader.vuid()?, reader.number()?);
            let offset = usize::try_from(offset).map_err(|_| ERANGE)?;
            plain(pool, &vuid)?.write(offset, reader.0)
        }
        GET => {
            let (vuid, offset, length) = (reader.vuid()?, reader.number()?, reader.number()?);
            let block = plain(pool, &vuid)?;
            let offset = usize::try_from(offset).map_err(|_| ERANGE)?;
            let left = block.length().checked_sub(offset).ok_or(ERANGE)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(left);
            // Not more memory than the answer may have.
            if length > output.limit() {
                return Err(compat::emsgsize());
            }
            let mut bytes = KVVec::from_elem(0, length, GFP_KERNEL | __GFP_NOWARN)?;
            block.read(offset, &mut bytes)?;
            output.set(bytes)
        }
        LOCATE => push_map(&*blocks.find(&reader.vuid()?)?, output),
        FREE => push_map(&*blocks.free(&reader.vuid()?)?, output),
        PUT => {
            let (mode, flags) = (reader.small()?, reader.small()?);
            // CAST: the bits of the time.
            let (exptime, cas) = (reader.number()? as i64, reader.number()?);
            let key = reader.key()?;
            let (mode, with_cas) = mode_of(mode).ok_or(compat::eproto())?;
            let put = PutRequest {
                flags,
                exp: store.expiry(exptime),
                mode,
                cas: with_cas.then_some(cas),
                ..PutRequest::new(key, reader.0)
            };
            if !store.fits(key.len(), reader.0.len()) {
                return Err(EFBIG);
            }
            let stored = store.put(&put, Context::Network);
            let stored = stored.map_err(|failure| failure.put_errno(mode))?;
            output.push(&stored.cas.to_le_bytes())
        }
        TAKE => {
            let (capacity, touch) = (reader.number()?, reader.number()?);
            // CAST: the bits of the time.
            let exptime = reader.number()? as i64;
            let key = reader.key()?;
            let capacity = usize::try_from(capacity).map_err(|_| compat::eproto())?;
            let exp = (touch != 0).then(|| store.expiry(exptime));
            let mut small = [0; 512];
            let got = store.get_into(key, exp, &mut small, capacity);
            let got = got.ok_or(ENOENT)?;
            // CAST: u32 fits usize.
            let length = got.length as usize;
            if length <= small.len() || length > capacity || got.large.is_some() {
                return push_got(&got, &small, capacity, output);
            }
            // Longer than a small one, shorter than a big one; it may have changed since.
            let mut room = KVVec::from_elem(0, 8192, GFP_KERNEL)?;
            let got = store.get_into(key, None, &mut room, capacity);
            push_got(&got.ok_or(ENOENT)?, &room, capacity, output)
        }
        DROP => {
            let cas = reader.number()?;
            let key = reader.key()?;
            store
                .delete(key, (cas != 0).then_some(cas))
                .map_err(Failure::errno)
        }
        COUNT => {
            let (flags, delta) = (reader.number()?, reader.number()?);
            // CAST: the bits of the time.
            let (first, exptime) = (reader.number()?, reader.number()? as i64);
            let count = CountRequest {
                key: reader.key()?,
                delta,
                decrement: flags & 1 != 0,
                initial: (flags & 2 != 0).then(|| (first, store.expiry(exptime))),
                cas: None,
                new_cas: None,
            };
            let counted = store.count(&count, Context::Network);
            let (number, stored) = counted.map_err(Failure::errno)?;
            output.push(&number.to_le_bytes())?;
            output.push(&stored.cas.to_le_bytes())
        }
        _ => Err(compat::eopnotsupp()),
    }
}
