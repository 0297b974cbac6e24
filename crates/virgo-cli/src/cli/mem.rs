// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command line of `virgo mem`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum, ValueHint};
use virgo::mempool::Vuid;

/// Shown by `virgo mem --help`.
pub(crate) const EXAMPLES: &str = "Examples:\n\n\
  virgo mem put greeting 'hello, world'       store a named value\n\
  virgo mem take greeting                     and fetch it\n\
  printf 'get greeting\\r\\nquit\\r\\n' | nc localhost 30000\n\
  \u{20}                                           the same value, as any memcached client sees it\n\
  block=$(virgo mem malloc 64K)               a block of memory\n\
  virgo mem set $block < picture.png          write it\n\
  virgo mem get $block --length 24K > copy    read it\n\
  virgo mem free $block\n\
  virgo mem save values.virgomem              all named values into a file\n\
  sudo virgo mem share session:               let programs map the values named session:...\n\
  virgo mem watch session:                    and tell what changes there\n\n\
doc/mempool.md is the guide.";

#[derive(Debug, Subcommand)]
pub(crate) enum Mem {
    /// Make a block of memory; prints its handle
    ///
    /// The block reads as zeros until it is set. It stays until it is freed, whoever made it.
    #[command(after_long_help = "Examples:\n\n\
      virgo mem malloc 100\n\
      virgo mem malloc 16M --stripe           in chunks of 64 KiB over all nodes in turn\n\
      virgo mem malloc 1M --policy p2c        on the lesser loaded of two nodes")]
    Malloc(Malloc),
    /// Write a block
    ///
    /// The data are DATA, or the file, or else standard input.
    #[command(after_long_help = "Examples:\n\n\
      virgo mem set $block setdata\n\
      virgo mem set $block --file picture.png\n\
      date | virgo mem set $block --offset 4096")]
    Set(Set),
    /// Read a block
    #[command(after_long_help = "Examples:\n\n\
      virgo mem get $block > copy\n\
      virgo mem get $block --offset 4096 --length 100\n\
      virgo mem get $block --text             what \"set\" wrote, up to the first NUL byte")]
    Get(Get),
    /// Give blocks back
    #[command(after_long_help = "Example:\n\n  virgo mem free $block")]
    Free {
        /// The blocks' handles
        #[arg(required = true, value_name = "BLOCK")]
        blocks: Vec<Vuid>,
    },
    /// List this node's blocks
    #[command(after_long_help = "Example:\n\n  virgo mem list --json | jq -r '.[].block'")]
    List,
    /// Show what this node holds and did
    #[command(after_long_help = "Example:\n\n  virgo mem stat --json | jq .hits")]
    Stat,
    /// Store a named value
    ///
    /// The value is VALUE, or the file, or else standard input.
    #[command(
        group(ArgGroup::new("mode").args(["add", "replace", "append", "prepend", "cas"])),
        after_long_help = "Examples:\n\n\
          virgo mem put greeting 'hello, world'\n\
          virgo mem put page:/ --ttl 60 --file index.html\n\
          virgo mem put lock:db $$ --add --ttl 30      exits with 1 if it is there already\n\
          dmesg | virgo mem put log --append"
    )]
    Put(Put),
    /// Fetch a named value; it stays
    #[command(after_long_help = "Examples:\n\n\
      virgo mem take greeting\n\
      virgo mem take page:/ --output index.html\n\
      virgo mem take greeting --json\n\
      virgo mem take session:7 --touch 600    and let it stay ten minutes more")]
    Take(Take),
    /// Delete named values
    #[command(after_long_help = "Example:\n\n  virgo mem delete greeting page:/")]
    Delete {
        /// Their keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        owner: Owner,
    },
    /// Add to a named number, and print it
    #[command(after_long_help = "Examples:\n\n\
      virgo mem count visits                  one more\n\
      virgo mem count visits 10 --initial 0   ten more; made if it is not there\n\
      virgo mem count stock 3 --down          three less, not below 0")]
    Count(Count),
    /// List the keys of this node's named values
    #[command(after_long_help = "Examples:\n\n\
      virgo mem keys session:\n\
      virgo mem keys --long")]
    Keys(Keys),
    /// Forget all named values of this node
    #[command(after_long_help = "Example:\n\n  virgo mem flush --after 60")]
    Flush {
        /// In so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        after: u32,
    },
    /// Tell what changes in a shared namespace, as it does
    ///
    /// A line for each value that was stored or is gone. What changes several times between two
    /// looks is told once.
    #[command(after_long_help = "Examples:\n\n\
      virgo mem watch session:\n\
      virgo mem watch session: --count 1      wait for one change")]
    Watch(Watch),
    /// Save this node's named values into a file
    ///
    /// The file is there as a whole or not at all. Values that change meanwhile are saved as they
    /// were or as they are.
    #[command(after_long_help = "Examples:\n\n\
      virgo mem save values.virgomem\n\
      virgo mem save - | ssh other virgo mem load -")]
    Save(Save),
    /// Store what \"save\" has saved
    ///
    /// The whole file is checked first; a damaged one is refused, or with --salvage what is whole
    /// in it is stored. Values whose time is over are left out. Each gets a new number.
    #[command(after_long_help = "Examples:\n\n\
      virgo mem load values.virgomem\n\
      virgo mem load values.virgomem --check  only look whether it is whole\n\
      virgo mem load values.virgomem --keep   leave values alone that are there")]
    Load(Load),
    /// Let programs map all named values whose keys begin with PREFIX
    ///
    /// They then read them without a system call. Where the namespace is shared already, its shape
    /// is shown.
    #[command(after_long_help = "Examples:\n\n\
      sudo virgo mem share session:\n\
      sudo virgo mem share page: --slots 64K --slot-size 4K\n\
      sudo virgo mem share --remove session:")]
    Share(Share),
    /// Show the bounds, or change them
    #[command(after_long_help = "Examples:\n\n\
      virgo mem settings\n\
      sudo virgo mem settings --memory-limit 1G --item-max 8M")]
    Settings(Settings),
}

/// Parses a count of bytes: `100`, `64K`, `16MiB`. K, M and G are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|_| "a number of bytes is needed, such as 100, 64K or 16M".into())
}

fn small_size(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| "that is too large".into())
}

#[derive(Debug, Args)]
pub(crate) struct Malloc {
    /// Bytes, 1 to 64M; K and M are powers of 1024
    #[arg(value_parser = size)]
    pub(crate) size: u64,
    /// On this node: an address or a number, as "virgo nodes" shows them; else where it is made
    #[arg(long, value_name = "NODE", conflicts_with_all = ["policy", "stripe"])]
    pub(crate) node: Option<String>,
    /// On the node that is chosen so
    #[arg(long, value_enum, conflicts_with = "stripe")]
    pub(crate) policy: Option<Policy>,
    /// In chunks over the nodes in turn; bytes of a chunk
    #[arg(long, value_name = "BYTES", num_args = 0..=1, require_equals = true, default_missing_value = "64K", value_parser = small_size)]
    pub(crate) stripe: Option<u32>,
}

/// How a node is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// As the balancer is set
    Default,
    /// The node with the least load
    LeastLoaded,
    /// Any, by chance
    Random,
    /// The lesser loaded of two by chance
    P2c,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The block's handle
    pub(crate) block: Vuid,
    /// What to write
    pub(crate) data: Option<String>,
    /// Where to begin, in bytes
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size)]
    pub(crate) offset: u64,
    /// Write what is in this file
    #[arg(long, value_name = "FILE", conflicts_with = "data", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The block's handle
    pub(crate) block: Vuid,
    /// Where to begin, in bytes
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size)]
    pub(crate) offset: u64,
    /// How much; else to the block's end
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) length: Option<u64>,
    /// End before the first NUL byte, and begin a new line
    #[arg(short, long)]
    pub(crate) text: bool,
    /// Into this file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// Which node keeps a value: the one that owns the key, if nothing is said.
#[derive(Clone, Debug, Args)]
pub(crate) struct Owner {
    /// On this node, whichever owns the key
    #[arg(long, conflicts_with = "node")]
    pub(crate) here: bool,
    /// On this node: an address or a number, as "virgo nodes" shows them
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Leave it to virgo-queue and print its number there; "virgo queue result" has the answer, in
    /// memcached's words
    #[arg(long = "async")]
    pub(crate) later: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key, 1 to 250 bytes
    pub(crate) key: String,
    /// The value
    pub(crate) value: Option<String>,
    /// Store what is in this file
    #[arg(long, value_name = "FILE", conflicts_with = "value", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Let it stay so many seconds; else for ever
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u32>,
    /// A number of your own to keep with it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) flags: u32,
    /// Only if it is not there
    #[arg(long)]
    pub(crate) add: bool,
    /// Only if it is there
    #[arg(long)]
    pub(crate) replace: bool,
    /// Behind what is there
    #[arg(long)]
    pub(crate) append: bool,
    /// Before what is there
    #[arg(long)]
    pub(crate) prepend: bool,
    /// Only if its number is still this, as "take --json" has told
    #[arg(long, value_name = "N")]
    pub(crate) cas: Option<u64>,
    #[command(flatten)]
    pub(crate) owner: Owner,
}

#[derive(Debug, Args)]
pub(crate) struct Take {
    /// Its key
    pub(crate) key: String,
    /// Into this file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Let it stay so many seconds from now
    #[arg(long, value_name = "SECONDS")]
    pub(crate) touch: Option<u32>,
    #[command(flatten)]
    pub(crate) owner: Owner,
}

#[derive(Debug, Args)]
pub(crate) struct Count {
    /// Its key
    pub(crate) key: String,
    /// How much
    #[arg(default_value_t = 1)]
    pub(crate) delta: u64,
    /// Take away, not below 0
    #[arg(long)]
    pub(crate) down: bool,
    /// What to begin with if it is not there
    #[arg(long, value_name = "N")]
    pub(crate) initial: Option<u64>,
    #[command(flatten)]
    pub(crate) owner: Owner,
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Only those that begin so
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// With length, time, flags and number
    #[arg(short, long)]
    pub(crate) long: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The namespace's prefix
    pub(crate) prefix: String,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = super::seconds)]
    pub(crate) duration: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct Save {
    /// The file; - for standard output
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Only those whose keys begin so
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) prefix: String,
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The file; - for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Store what is whole in a damaged file
    #[arg(long)]
    pub(crate) salvage: bool,
    /// Leave values alone that are there
    #[arg(long)]
    pub(crate) keep: bool,
    /// Look whether the file is whole, and store nothing
    #[arg(long, conflicts_with_all = ["salvage", "keep"])]
    pub(crate) check: bool,
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) owner: Owner,
}

#[derive(Debug, Args)]
pub(crate) struct Share {
    /// What the keys begin with, 1 to 250 bytes
    pub(crate) prefix: String,
    /// Values that the table has place for, a power of two; else 4096
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = size)]
    pub(crate) slots: u64,
    /// Bytes for each, with its key and 40 of its own, a power of two; else 256
    #[arg(long, value_name = "BYTES", default_value = "0", hide_default_value = true, value_parser = small_size)]
    pub(crate) slot_size: u32,
    /// Take it down
    #[arg(long, conflicts_with_all = ["slots", "slot_size"])]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Most memory for named values
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) memory_limit: Option<u64>,
    /// Most bytes of an item: key, value, and 50 of its own; 1K to 64M
    #[arg(long, value_name = "BYTES", value_parser = small_size)]
    pub(crate) item_max: Option<u32>,
    /// What to do when the memory is full: give up what was not used for longest, or refuse
    #[arg(long, value_name = "WHETHER", value_enum)]
    pub(crate) evict: Option<OnOff>,
    /// Most memory for blocks
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) block_limit: Option<u64>,
    /// Most blocks
    #[arg(long, value_name = "N")]
    pub(crate) max_blocks: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    /// Give values up
    On,
    /// Refuse new ones
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("64K", 65_536),
            ("64k", 65_536),
            ("16MiB", 16 << 20),
            ("1G", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "-1", "x", "1Q", "99999999999999999999"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
        assert!(small_size("4G").is_err());
    }
}
