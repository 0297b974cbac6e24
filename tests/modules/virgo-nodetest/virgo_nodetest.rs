// SPDX-License-Identifier: GPL-2.0-only

//! A module for tests alone: requests between nodes, made and served.
//!
//! It serves, under analytics' number: 1 echo; 2 sleep so many milliseconds, then echo; 3 fail with
//! the error number that is asked for; 4 answer so many bytes; 5 who asks; 6 the calls so far. Where
//! a number is asked for it is the input's first four bytes, little-endian.
//!
//! Writing `call NODE OPERATION NUMBER SIZE LIMIT TIMEOUT COUNT` to /proc/virgo/nodetest makes that
//! many requests one after the other (NODE in hexadecimal, or `me`), with an input of SIZE bytes that
//! begins with NUMBER, and checks each answer; the write fails as the first request that does.

use kernel::{
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

#[path = "../../../modules/lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

use lib::{
    cluster::{
        self,
        NodeId, //
    },
    procfs::{
        ProcEntry,
        ProcFile, //
    },
    service::{
        Module,
        Registration,
        RemoteReply,
        Service, //
    },
};

module! {
    type: Nodetest,
    name: "virgo_nodetest",
    authors: ["The VIRGO authors"],
    description: "VIRGO: requests between nodes, for tests",
    license: "GPL",
    imports_ns: ["VIRGO"],
}

const MODULE: Module = Module::Analytics;

/// Bytes that tell where they were and in which request.
fn pattern(index: usize, number: u32) -> u8 {
    // CAST: the low byte is wanted.
    (index.wrapping_mul(31) as u8).wrapping_add(number as u8)
}

struct Server {
    served: Atomic<u64>,
}

impl Service for Server {
    const MODULE: Module = MODULE;

    fn ioctl(&self, _command: u32, _argument: usize) -> Result<isize> {
        Err(ENOTTY)
    }

    fn remote(
        &self,
        from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        self.served.fetch_add(1_u64, Relaxed);
        let number = input.first_chunk::<4>().copied().map(u32::from_le_bytes);
        match (operation, number) {
            (1, _) => output.push(input),
            (2, Some(number)) => {
                fsleep(Delta::from_millis(number.min(10_000).into()));
                output.push(input)
            }
            (3, Some(number)) => Err(match number {
                2 => ENOENT,
                28 => ENOSPC,
                _ => EDOM,
            }),
            (4, Some(number)) => {
                let mut answer = KVVec::new();
                // CAST: u32 fits usize on 64-bit.
                answer.resize(number as usize, 0x5a, GFP_KERNEL)?;
                output.set(answer)
            }
            (5, _) => output.push(&from.number().to_le_bytes()),
            (6, _) => output.push(&self.served.load(Relaxed).to_le_bytes()),
            (2..=4, None) => Err(EINVAL),
            _ => Err(lib::compat::eopnotsupp()),
        }
    }
}

struct Client {
    server: Arc<Server>,
}

fn number<T: core::str::FromStr>(word: Option<&str>) -> Result<T> {
    word.and_then(|word| word.parse().ok()).ok_or(EINVAL)
}

impl ProcFile for Client {
    const WRITABLE: bool = true;

    fn show(&self, out: &SeqFile) -> Result {
        seq_print!(out, "served {}\n", self.server.served.load(Relaxed));
        Ok(())
    }

    fn write(&self, _file: &File, text: &[u8]) -> Result {
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some("call") {
            return Err(EINVAL);
        }
        let node = match words.next().ok_or(EINVAL)? {
            "me" => cluster::me(),
            node => NodeId::from_number(u32::from_str_radix(node, 16).map_err(|_| EINVAL)?),
        };
        let operation: u32 = number(words.next())?;
        let first: u32 = number(words.next())?;
        let size: usize = number(words.next())?;
        let limit: usize = number(words.next())?;
        let timeout_ms: u32 = number(words.next())?;
        let count: u32 = number(words.next())?;
        let mut input: KVVec<u8> = KVVec::new();
        input.resize(size, 0, GFP_KERNEL)?;
        for round in 0..count {
            for (index, byte) in input.iter_mut().enumerate() {
                *byte = pattern(index, round);
            }
            for (to, from) in input.iter_mut().zip(first.to_le_bytes()) {
                *to = from;
            }
            let answer = cluster::call(node, MODULE, operation, &input, limit, timeout_ms)?;
            let right = match operation {
                1 | 2 => answer.as_slice() == input.as_slice(),
                // CAST: u32 fits usize on 64-bit.
                4 => answer.len() == first as usize && answer.iter().all(|byte| *byte == 0x5a),
                5 => *answer == cluster::me().number().to_le_bytes(),
                _ => true,
            };
            if !right {
                return Err(ERANGE);
            }
        }
        Ok(())
    }
}

struct Nodetest {
    _client: ProcEntry<Client>,
    _server: Registration<Server>,
}

impl kernel::Module for Nodetest {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let server = Arc::new(
            Server {
                served: Atomic::new(0),
            },
            GFP_KERNEL,
        )?;
        let client = Client {
            server: server.clone(),
        };
        Ok(Nodetest {
            _server: Registration::new(server)?,
            _client: ProcEntry::new(c"virgo/nodetest", 0o600, Arc::new(client, GFP_KERNEL)?)?,
        })
    }
}
