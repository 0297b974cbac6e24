// SPDX-License-Identifier: GPL-2.0-only

//! What the pool is asked for by ioctl and by other nodes.

use kernel::prelude::*;

use crate::{
    function_table,
    lib::{
        cluster::{
            self,
            NodeId,
            Policy,
            MAX_PAYLOAD, //
        },
        compat::{
            ehostdown,
            emsgsize,
            eopnotsupp, //
        },
        service::{
            Module,
            RemoteReply,
            Service, //
        },
        time::monotonic_ns,
        uapi::{
            bytes_of,
            copy_in,
            copy_out,
            Arg,
            Command, //
        },
    },
    proto::{
        call::{
            is_name,
            parse_remote,
            Call,
            NAME_MAX, //
        },
        uapi::{
            self,
            CpupoolCall,
            CpupoolFunction,
            CpupoolList, //
        },
    },
};

/// Call a function here: its time in milliseconds (4 bytes), then as `parse_remote` has it.
const OP_CALL: u32 = 1;
/// The functions here, as an array of `CpupoolFunction`.
const OP_LIST: u32 = 2;
/// How long a call may take where nothing is said, and at most.
const TIMEOUT_MS: u32 = 30_000;
const MAX_TIMEOUT_MS: u32 = 3_600_000;
/// What a call to another node may take longer than its function: the way, and the queue there.
const WAY_MS: u32 = 1_000;
/// How long the list of another node is waited for.
const LIST_MS: u32 = 5_000;
/// How often a call that may be repeated is made.
const TRIES: u32 = 3;

/// The service.
pub(crate) struct Pool;

fn deadline(timeout_ms: u32) -> u64 {
    monotonic_ns().saturating_add(u64::from(timeout_ms).saturating_mul(1_000_000))
}

/// The functions here, as the uAPI has them.
fn listed() -> Result<KVVec<u8>> {
    let mut all: KVVec<u8> = KVVec::new();
    for function in function_table::list()?.iter() {
        let mut entry = CpupoolFunction {
            flags: if function.slow { uapi::CPUPOOL_SLOW } else { 0 },
            running: function.running,
            calls: function.calls,
            failed: function.failed,
            busy_ns: function.busy_ns,
            ..Default::default()
        };
        for (to, from) in entry.name.iter_mut().zip(function.name) {
            *to = from;
        }
        all.extend_from_slice(bytes_of(&entry), GFP_KERNEL)?;
    }
    Ok(all)
}

impl Pool {
    /// A call, here or on a node that is chosen; the node that was, whatever came of it.
    fn call_on(
        policy: Policy,
        call: &Call<'_>,
        limit: usize,
        timeout_ms: u32,
        again: bool,
        chosen: &mut NodeId,
    ) -> Result<KVVec<u8>> {
        let mut tries = if again { TRIES } else { 1 };
        loop {
            tries = tries.saturating_sub(1);
            *chosen = cluster::pick(policy)?;
            let result = Self::call_at(*chosen, call, limit, timeout_ms);
            match result {
                Err(error) if error == ehostdown() && tries > 0 => {}
                result => return result,
            }
        }
    }

    fn call_at(node: NodeId, call: &Call<'_>, limit: usize, timeout_ms: u32) -> Result<KVVec<u8>> {
        if node == cluster::me() {
            return function_table::call(call.name, call.input, limit, deadline(timeout_ms));
        }
        let mut request =
            KVVec::with_capacity(call.input.len().saturating_add(NAME_MAX + 5), GFP_KERNEL)?;
        request.extend_from_slice(&timeout_ms.to_le_bytes(), GFP_KERNEL)?;
        // At most 63, checked by the callers.
        let length = u8::try_from(call.name.len()).map_err(|_| EINVAL)?;
        request.push(length, GFP_KERNEL)?;
        request.extend_from_slice(call.name, GFP_KERNEL)?;
        request.extend_from_slice(call.input, GFP_KERNEL)?;
        let wait_ms = timeout_ms.saturating_add(WAY_MS);
        cluster::call(node, Module::Cpupool, OP_CALL, &request, limit, wait_ms)
    }

    fn call(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<CpupoolCall>()?;
        let value = &mut request.value;
        if value.flags & !uapi::CPUPOOL_IDEMPOTENT != 0
            || value.reserved0 != 0
            || value.reserved != [0; 2]
        {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize on 64-bit.
        let (name_len, input_len) = (value.name_length as usize, value.input_length as usize);
        if name_len > NAME_MAX {
            return Err(EINVAL);
        }
        // With room for the name and the time in a node's request.
        if input_len > MAX_PAYLOAD.saturating_sub(NAME_MAX + 5) {
            return Err(emsgsize());
        }
        let mut name = [0_u8; NAME_MAX];
        let name = name.get_mut(..name_len).ok_or(EINVAL)?;
        copy_in(value.name, name)?;
        if !is_name(name) {
            return Err(EINVAL);
        }
        let mut input: KVVec<u8> = KVVec::from_elem(0, input_len, GFP_KERNEL)?;
        copy_in(value.input, &mut input)?;
        let timeout_ms = match value.timeout_ms {
            0 => TIMEOUT_MS,
            ms => ms.min(MAX_TIMEOUT_MS),
        };
        let policy = Policy::from_numbers(value.policy, value.node).ok_or(EINVAL)?;
        let limit = (value.output_capacity as usize).min(MAX_PAYLOAD);
        let begin = monotonic_ns();
        let mut chosen = NodeId::from_number(0);
        let call = Call {
            name,
            input: &input,
        };
        let again = value.flags & uapi::CPUPOOL_IDEMPOTENT != 0;
        let result = Self::call_on(policy, &call, limit, timeout_ms, again, &mut chosen);
        value.node = chosen.number();
        value.elapsed_ns = monotonic_ns().saturating_sub(begin);
        value.output_length = 0;
        let result = result.and_then(|output| {
            copy_out(value.output, &output)?;
            value.output_length = u32::try_from(output.len()).unwrap_or(u32::MAX);
            Ok(0)
        });
        // The node is told with an error too.
        request.write_back()?;
        result
    }

    fn list(&self, arg: Arg) -> Result<isize> {
        const SIZE: usize = size_of::<CpupoolFunction>();
        let mut request = arg.read::<CpupoolList>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let node = NodeId::from_number(value.node);
        let entries = if value.node == 0 || node == cluster::me() {
            value.node = cluster::me().number();
            listed()?
        } else {
            cluster::call(node, Module::Cpupool, OP_LIST, &[], MAX_PAYLOAD, LIST_MS)?
        };
        let count = entries.len().checked_div(SIZE).unwrap_or(0);
        // CAST: u32 fits usize on 64-bit.
        let stored = count.min(value.capacity as usize).saturating_mul(SIZE);
        copy_out(value.entries, entries.get(..stored).unwrap_or(&[]))?;
        value.count = u32::try_from(count).unwrap_or(u32::MAX);
        request.write_back()?;
        Ok(0)
    }
}

impl Service for Pool {
    const MODULE: Module = Module::Cpupool;

    fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        let arg = Arg::new(argument);
        let command = Command::new(command).ok_or(ENOTTY)?;
        let is = |number: u32| Command::new(number) == Some(command);
        if is(uapi::CPUPOOL_IOC_CALL) {
            self.call(arg)
        } else if is(uapi::CPUPOOL_IOC_LIST) {
            self.list(arg)
        } else {
            Err(ENOTTY)
        }
    }

    fn remote(
        &self,
        _from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        match operation {
            OP_CALL => {
                let (timeout_ms, rest) = input.split_first_chunk::<4>().ok_or(EINVAL)?;
                let timeout_ms = u32::from_le_bytes(*timeout_ms).min(MAX_TIMEOUT_MS);
                let Call { name, input } = parse_remote(rest).ok_or(EINVAL)?;
                let limit = output.limit();
                output.set(function_table::call(
                    name,
                    input,
                    limit,
                    deadline(timeout_ms),
                )?)
            }
            OP_LIST => output.set(listed()?),
            _ => Err(eopnotsupp()),
        }
    }
}
