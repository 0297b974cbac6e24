// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Kernel functions by name.

use std::mem::size_of;
use std::time::Duration;

use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::{room, sys, Control, NodeId, NodePolicy, Result};

/// The longest output.
const MAX_OUTPUT: usize = 2 << 20;

/// A call to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The function's name.
    pub name: &'a str,
    /// Its input, of almost 2 MiB at most.
    pub input: &'a [u8],
    /// Where it is to run.
    pub policy: NodePolicy,
    /// How long it may take.
    pub timeout: Duration,
    /// It may run twice: if its node goes down meanwhile, it is called on another.
    pub idempotent: bool,
}

impl<'a> Call<'a> {
    /// A call on the node that the cluster's policy chooses, for half a minute, once.
    pub fn new(name: &'a str, input: &'a [u8]) -> Self {
        Call {
            name,
            input,
            policy: NodePolicy::Default,
            timeout: Duration::from_secs(30),
            idempotent: false,
        }
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Called {
    /// The function's output.
    pub output: Vec<u8>,
    /// Where it ran.
    pub node: NodeId,
    /// How long it took, the way included.
    pub elapsed: Duration,
}

/// A function that can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// Its name.
    pub name: String,
    /// It may sleep or compute for long.
    pub slow: bool,
    /// Calls under way.
    pub running: u32,
    /// Calls that have ended.
    pub calls: u64,
    /// Of those, with an error.
    pub failed: u64,
    /// How long they took together.
    pub busy: Duration,
}

impl Control {
    /// Calls a kernel function by name.
    pub fn call(&self, call: &Call<'_>) -> Result<Called> {
        let (policy, node) = call.policy.to_numbers();
        let mut argument = uapi::CpupoolCall {
            size: size_of::<uapi::CpupoolCall>() as u32,
            flags: if call.idempotent {
                uapi::CPUPOOL_IDEMPOTENT
            } else {
                0
            },
            policy,
            node,
            timeout_ms: u32::try_from(call.timeout.as_millis())
                .unwrap_or(u32::MAX)
                .max(1),
            ..Default::default()
        };
        let result = room::with(MAX_OUTPUT, |room| {
            let name = call.name.as_bytes();
            let result = sys::cpupool_call(self, &mut argument, name, call.input, room);
            let output = room.get(..argument.output_length as usize);
            result.map(|()| output.unwrap_or_default().to_vec())
        });
        let node = NodeId(argument.node);
        let output = result.map_err(|errno| {
            let node = (node.0 != 0).then_some(node);
            Error::new(Action::CallFunction(call.name.into(), node), errno)
        })?;
        Ok(Called {
            output,
            node,
            elapsed: Duration::from_nanos(argument.elapsed_ns),
        })
    }

    /// The functions of a node, or of this one, ordered by name.
    pub fn functions(&self, node: Option<NodeId>) -> Result<Vec<Function>> {
        let mut entries = vec![uapi::CpupoolFunction::default(); 256];
        let count = sys::cpupool_list(self, node.map_or(0, |node| node.0), &mut entries)
            .map_err(|errno| Error::new(Action::ListFunctions, errno))?;
        entries.truncate(count as usize);
        Ok(entries
            .iter()
            .map(|entry| {
                let name: Vec<u8> = entry
                    .name
                    .iter()
                    .copied()
                    .take_while(|byte| *byte != 0)
                    .collect();
                Function {
                    name: String::from_utf8_lossy(&name).into_owned(),
                    slow: entry.flags & uapi::CPUPOOL_SLOW != 0,
                    running: entry.running,
                    calls: entry.calls,
                    failed: entry.failed,
                    busy: Duration::from_nanos(entry.busy_ns),
                }
            })
            .collect())
    }
}
