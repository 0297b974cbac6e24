// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the memory pool's calls take and give.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use virgo_proto::uapi;

/// The handle of a block. Opaque; as text 32 hexadecimal digits. The default is no block's.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vuid(pub(crate) [u64; 2]);

impl fmt::Display for Vuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

impl fmt::Debug for Vuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no handle of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAVuid;

impl fmt::Display for NotAVuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block's handle is 32 hexadecimal digits")
    }
}

impl std::error::Error for NotAVuid {}

impl FromStr for Vuid {
    type Err = NotAVuid;

    /// 32 hexadecimal digits of either case, nothing else.
    fn from_str(text: &str) -> std::result::Result<Self, NotAVuid> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAVuid);
        }
        let whole = u128::from_str_radix(text, 16).map_err(|_| NotAVuid)?;
        // CAST: the halves of 128 bits.
        Ok(Vuid([(whole >> 64) as u64, whole as u64]))
    }
}

impl From<uapi::Vuid> for Vuid {
    fn from(vuid: uapi::Vuid) -> Self {
        Vuid(vuid.word)
    }
}

impl From<Vuid> for uapi::Vuid {
    fn from(vuid: Vuid) -> Self {
        uapi::Vuid { word: vuid.0 }
    }
}

/// How a node is chosen for a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// As the balancer is set.
    #[default]
    Default,
    /// The node with the least load.
    LeastLoaded,
    /// Any, by chance.
    Random,
    /// The lesser loaded of two by chance.
    TwoChoices,
}

/// Where a block is laid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On this node.
    #[default]
    Here,
    /// On the node with this number.
    Node(u32),
    /// On the node that the balancer chooses.
    Chosen(Policy),
    /// In chunks over the nodes in turn: bytes of a chunk, a multiple of 4096; 0: 65536.
    Striped(u32),
}

/// One block, in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// Its handle.
    pub vuid: Vuid,
    /// Its bytes.
    pub length: u64,
    /// When it was made, in nanoseconds of `CLOCK_MONOTONIC`.
    pub created_ns: u64,
    /// Whether it is laid over several nodes.
    pub striped: bool,
    /// Who made it; `None` over the network.
    pub uid: Option<u32>,
    /// The process that made it; `None` over the network.
    pub pid: Option<u32>,
    /// Where it is; 0 without a cluster.
    pub node: u32,
}

impl From<uapi::MemBlock> for Block {
    fn from(block: uapi::MemBlock) -> Self {
        Block {
            vuid: block.vuid.into(),
            length: block.length,
            created_ns: block.created_ns,
            striped: block.flags & uapi::MEM_F_STRIPE != 0,
            uid: (block.uid != u32::MAX).then_some(block.uid),
            pid: (block.pid != 0).then_some(block.pid),
            node: block.node,
        }
    }
}

macro_rules! copied {
    ($(#[$doc:meta])* $name:ident from $from:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl From<uapi::$from> for $name {
            fn from(from: uapi::$from) -> Self {
                $name { $($field: from.$field,)* }
            }
        }
    };
}

copied! {
    /// What this node holds and did.
    Stat from MemStat {
        /// This node's number; 0 without a cluster.
        node: u32,
        /// Connections now.
        connections: u32,
        /// Blocks now.
        blocks: u64,
        /// Memory that they take, everything included.
        block_bytes: u64,
        /// Bound of `block_bytes`.
        block_limit: u64,
        /// Blocks made so far.
        blocks_made: u64,
        /// Named values now.
        items: u64,
        /// Memory in use for them, everything included.
        item_bytes: u64,
        /// Memory taken from the system for them.
        held_bytes: u64,
        /// Bound of `held_bytes`.
        memory_limit: u64,
        /// Named values stored so far.
        items_made: u64,
        /// Look-ups.
        gets: u64,
        /// Look-ups that found the value.
        hits: u64,
        /// Requests to store.
        sets: u64,
        /// Values deleted on request.
        deletes: u64,
        /// Values whose time ran out.
        expired: u64,
        /// Values given up for the room they took.
        evicted: u64,
        /// Values given up since the host needed memory.
        shrunk: u64,
        /// Shared namespaces.
        shares: u64,
        /// Memory of their tables.
        share_bytes: u64,
        /// Connections so far.
        connections_made: u64,
        /// Connections turned away.
        connections_refused: u64,
        /// When the module was loaded, in nanoseconds of `CLOCK_MONOTONIC`.
        start_ns: u64,
    }
}

copied! {
    /// The memory pool's bounds.
    Settings from MemSettings {
        /// Most memory for named values.
        memory_limit: u64,
        /// Most memory for blocks.
        block_limit: u64,
        /// Most bytes of an item: key, value, and 50 of its own.
        item_max: u32,
        /// 1: values not used for longest are given up for new ones; 0: new ones are refused.
        evict: u32,
        /// Most blocks.
        max_blocks: u32,
        /// A connection without a request for so many milliseconds is closed; 0: none is.
        idle_ms: u32,
        /// Most connections.
        max_connections: u32,
        /// The TCP port; 0: none.
        port: u32,
    }
}

/// Bounds to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// See [`Settings::memory_limit`].
    pub memory_limit: Option<u64>,
    /// See [`Settings::block_limit`].
    pub block_limit: Option<u64>,
    /// See [`Settings::item_max`]: 1024 to 67108864.
    pub item_max: Option<u32>,
    /// See [`Settings::evict`].
    pub evict: Option<bool>,
    /// See [`Settings::max_blocks`].
    pub max_blocks: Option<u32>,
}

/// Which node keeps a named value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The node that owns the key; this one where there is no cluster.
    #[default]
    ByKey,
    /// This node, whoever owns the key.
    Here,
    /// The node with this number.
    Node(u32),
}

impl Owner {
    pub(super) fn flags(self) -> u32 {
        match self {
            Owner::Here => uapi::MEM_F_LOCAL,
            Owner::ByKey | Owner::Node(_) => 0,
        }
    }

    pub(super) fn node(self) -> u32 {
        match self {
            Owner::Node(node) => node,
            Owner::ByKey | Owner::Here => uapi::MEM_NODE_ANY,
        }
    }
}

/// How long a named value stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Until it is deleted, or given up for room.
    #[default]
    Never,
    /// So many seconds from now; 0 is over at once.
    In(u32),
    /// Until this second of Unix time.
    At(i64),
}

impl Expiry {
    /// As the kernel takes it: seconds from now up to 30 days, Unix time above.
    pub(super) fn exptime(self) -> i64 {
        const MONTH: u32 = 60 * 60 * 24 * 30;
        match self {
            Expiry::Never => 0,
            Expiry::In(0) => -1,
            Expiry::In(seconds) if seconds <= MONTH => seconds.into(),
            Expiry::In(seconds) => now().saturating_add(seconds.into()),
            // Times in the first 30 days of 1970, as those before, are over.
            Expiry::At(second) if second <= i64::from(MONTH) => -1,
            Expiry::At(second) => second,
        }
    }
}

/// Seconds of Unix time.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// When a value is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whether the key is there or not.
    #[default]
    Set,
    /// Only if the key is not there: else `EEXIST`.
    Add,
    /// Only if the key is there: else `ENOENT`.
    Replace,
    /// Behind what is there; flags and time stay. `ENOENT` if nothing is.
    Append,
    /// Before what is there; flags and time stay. `ENOENT` if nothing is.
    Prepend,
    /// Only if the value's number is still this: else `ESTALE`; `ENOENT` if nothing is there.
    Cas(u64),
}

/// How a value is stored. `Put::default()` is the plain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// When.
    pub mode: Mode,
    /// How long it stays.
    pub expiry: Expiry,
    /// The user's own flags, kept with the value.
    pub flags: u32,
}

/// Where and as what a value was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The value's number: unique on its node, changed by each change of the value.
    pub cas: u64,
    /// The node that keeps it; 0 without a cluster.
    pub node: u32,
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// Its bytes.
    pub data: Vec<u8>,
    /// The user's own flags.
    pub flags: u32,
    /// Its number, for [`Mode::Cas`].
    pub cas: u64,
    /// Seconds that it stays; `None`: for ever.
    pub ttl: Option<u64>,
    /// The node that keeps it; 0 without a cluster.
    pub node: u32,
}

/// A named value without its bytes, as [`Mempool::take_into`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// Bytes of the value.
    pub length: usize,
    /// The user's own flags.
    pub flags: u32,
    /// Its number.
    pub cas: u64,
    /// Seconds that it stays; `None`: for ever.
    pub ttl: Option<u64>,
    /// The node that keeps it.
    pub node: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_reads_as_it_is_written() {
        let vuid = Vuid([0x0123_4567_89ab_cdef, 0x10]);
        assert_eq!(vuid.to_string(), "0123456789abcdef0000000000000010");
        assert_eq!(vuid.to_string().parse(), Ok(vuid));
        assert_eq!(vuid.to_string().to_uppercase().parse(), Ok(vuid));
        for wrong in [
            "",
            "0123456789abcdef000000000000001",
            "0123456789abcdef00000000000000100",
            "+123456789abcdef0000000000000010",
            "0123456789abcdefg000000000000010",
            "0x23456789abcdef0000000000000010",
        ] {
            assert_eq!(wrong.parse::<Vuid>(), Err(NotAVuid), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_as_memcached_takes_them() {
        let month = 2_592_000;
        for (expiry, exptime) in [
            (Expiry::Never, 0),
            (Expiry::In(0), -1),
            (Expiry::In(1), 1),
            (Expiry::In(month), i64::from(month)),
            (Expiry::At(0), -1),
            (Expiry::At(-5), -1),
            (Expiry::At(i64::from(month)), -1),
            (Expiry::At(4_102_444_800), 4_102_444_800),
        ] {
            assert_eq!(expiry.exptime(), exptime, "{expiry:?}");
        }
        // Longer than a month is told as a moment.
        let soon = Expiry::In(month + 1).exptime() - now();
        assert!((i64::from(month)..=i64::from(month) + 1).contains(&soon));
    }
}
