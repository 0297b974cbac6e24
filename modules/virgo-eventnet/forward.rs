// SPDX-License-Identifier: GPL-2.0-only

//! Sends this node's records to the node that collects, over the cluster.
//!
//! A work item of its own: while the other node does not answer, nothing else waits. It reads the
//! journal, so what was acknowledged here goes there, however long the other is away. The other
//! answers with the number of the last record that it has of this journal; what comes twice it
//! passes over, so a request whose answer was lost is simply made again.
//!
//! A request: u64 incarnation of the journal, u64 stamp, records as in the journal. The answer: u64
//! number of the last record, u64 stamp. All little-endian.

use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc,
        Mutex, //
    }, //
};

use crate::{
    journal::{
        scan,
        RECORD_MAX, //
    },
    lib::{
        cluster::{
            self,
            NodeId, //
        },
        crc::crc32c_after,
        event,
        service::Module,
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        },
        zeroed::zeroed, //
    },
    net::Net,
    proto::eventlog::{
        encode,
        Content, //
    },
};

/// Take these records: [`crate::lib::service::Service::remote`]'s operation.
pub(crate) const OP_TAKE: u32 = 1;
/// Bytes in front of the records, and of an answer.
pub(crate) const HEAD: usize = 16;

/// The most bytes of a request.
const REQUEST: usize = 512 << 10;
/// How long an answer is waited for; unloading waits as long at most.
const TIMEOUT_MS: u32 = 2000;
/// How long after a failure it is tried again.
const RETRY_NS: u64 = 500_000_000;

/// How far it has come.
struct Place {
    /// To which node; 0: none.
    node: u32,
    /// Bytes of the journal that it has, or that are not for it.
    position: u64,
    /// The number of the last record in these.
    number: u64,
    /// The number of the last record that it has; `None` if that is to be asked.
    has: Option<u64>,
    /// Gathered for a request.
    buffer: KVVec<u8>,
}

/// The sender.
#[pin_data]
pub(crate) struct Forward {
    net: Arc<Net>,
    incarnation: u64,
    #[pin]
    place: Mutex<Place>,
}

/// Two numbers of eight bytes each.
pub(crate) fn pair(first: u64, second: u64) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    for (place, number) in bytes.chunks_exact_mut(8).zip([first, second]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// These, and what is behind them. `EINVAL` where there are fewer bytes.
pub(crate) fn split(bytes: &[u8]) -> Result<(u64, u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<8>().ok_or(EINVAL)?;
    let (second, rest) = rest.split_first_chunk::<8>().ok_or(EINVAL)?;
    Ok((
        u64::from_le_bytes(*first),
        u64::from_le_bytes(*second),
        rest,
    ))
}

impl Forward {
    /// Of the journal with this incarnation. `ENOMEM`.
    pub(crate) fn new(net: Arc<Net>, incarnation: u64) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Forward {
                net,
                incarnation,
                place <- kernel::new_mutex!(Place {
                    node: 0,
                    position: 0,
                    number: 0,
                    has: None,
                    buffer: KVVec::new(),
                }, "virgo_eventnet_forward"),
            }),
            GFP_KERNEL,
        )
    }

    /// One request, if there is something to send; whether there is more.
    fn step(&self, place: &mut Place, node: NodeId) -> Result<bool> {
        let end = self.net.committed.get();
        place.buffer.clear();
        let head = pair(self.incarnation, event::stamp());
        place.buffer.extend_from_slice(&head, GFP_KERNEL)?;
        let (mut position, mut number, mut count) = (place.position, place.number, 0_u64);
        if let Some(has) = place.has {
            let buffer = &mut place.buffer;
            let mut record_bytes: KVVec<u8> = zeroed(RECORD_MAX, GFP_KERNEL)?;
            let (_, last, _) = scan(&self.net.file, position, end, number, |record, at| {
                position = at;
                let own = record.origin == 0 && !matches!(record.content, Content::Open { .. });
                if own && record.number > has {
                    let size = encode(record, crc32c_after, &mut record_bytes).ok_or(EINVAL)?;
                    let bytes = record_bytes.get(..size).ok_or(EINVAL)?;
                    buffer.extend_from_slice(bytes, GFP_KERNEL)?;
                    count = count.saturating_add(1);
                }
                Ok(buffer.len().saturating_add(RECORD_MAX) < REQUEST)
            })?;
            number = last;
            if count == 0 {
                place.position = end;
                place.number = number;
                return Ok(false);
            }
        }
        let input = &place.buffer;
        let answer = cluster::call(node, Module::Eventnet, OP_TAKE, input, HEAD, TIMEOUT_MS)?;
        let (has, stamp, _) = split(&answer)?;
        let _ = event::seen(stamp);
        if place.has.is_some() && has >= number {
            self.net.counts.forwarded.add(count);
            place.position = position;
            place.number = number;
        } else {
            // It knows less than it said before, or nothing was asked yet: from the beginning.
            place.position = 0;
            place.number = 0;
        }
        place.has = Some(has);
        Ok(true)
    }
}

impl DeadlineHandler for Forward {
    fn run(&self, work: &DeadlineWork<Self>) {
        let mut place = self.place.lock();
        let node = self.net.collector.load(Relaxed);
        if node != place.node {
            place.node = node;
            place.has = None;
        }
        if node == 0 || node == cluster::me().number() {
            self.net.counts.behind.set(0);
            return;
        }
        let result = self.step(&mut place, NodeId::from_number(node));
        let behind = self.net.committed.get().saturating_sub(place.position);
        self.net.counts.behind.set(behind);
        match result {
            Ok(true) => work.run_soon(),
            Ok(false) => {}
            Err(_) => {
                place.has = None;
                work.arm(monotonic_ns().saturating_add(RETRY_NS));
            }
        }
    }
}
