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
            Service,
            WORDS, //
        },
        task::may_set_up,
        time::monotonic_ns,
        uapi::{
            bytes_of,
            copied,
            copy_in,
            copy_out,
            read_entry,
            Arg,
            Command, //
        },
        zeroed::zeroed, //
    },
    programs::{
        Programs,
        MAX_PROGRAMS, //
    },
    proto::{
        call::{
            is_name,
            parse,
            parse_remote,
            Call,
            NAME_MAX, //
        },
        program::{
            are_arguments,
            Follow,
            Limits,
            Progress,
            Start,
            ARGUMENTS_MAX,
            GROUP_MAX,
            OP_FOLLOW,
            OP_KILL,
            OP_START,
            START_HEADER, //
        },
        uapi::{
            self,
            CpupoolCall,
            CpupoolFollow,
            CpupoolFunction,
            CpupoolKill,
            CpupoolLend,
            CpupoolList,
            CpupoolProgram,
            CpupoolRun,
            CpupoolSet,
            CpupoolStart, //
        },
    },
};

/// Call a function here: its time in milliseconds (4 bytes), then as `parse_remote` has it.
const OP_CALL: u32 = 1;
/// The functions here, as an array of `CpupoolFunction`.
const OP_LIST: u32 = 2;
// 3 to 5 are `proto::program`'s, which virgo-queue uses too.
/// The programs here, as an array of `CpupoolProgram`.
const OP_PROGRAMS: u32 = 6;
/// The runs here, as an array of `CpupoolRun`.
const OP_RUNS: u32 = 7;
/// How long news of a run are waited for: here, and on another node, where it takes one of the
/// places for requests meanwhile.
const WAIT_HERE_MS: u32 = 1_000;
const WAIT_THERE_MS: u32 = 250;
/// How long a call may take where nothing is said, and at most.
const TIMEOUT_MS: u32 = 30_000;
const MAX_TIMEOUT_MS: u32 = 3_600_000;
/// What a call to another node may take longer than its function: the way, and the queue there.
const WAY_MS: u32 = 1_000;
/// How long another node is waited for in what it does at once.
const LIST_MS: u32 = 5_000;
/// How often a call that may be repeated is made.
const TRIES: u32 = 3;

/// The service.
pub(crate) struct Pool {
    programs: Programs,
}

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
    /// May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Pool {
            programs: Programs::new()?,
        })
    }

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
            let _here = cluster::here();
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
        let input: KVVec<u8> = copied(value.input, input_len, GFP_KERNEL)?;
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

    /// A list with entries of `size` bytes, here or of another node.
    fn list(&self, arg: Arg, operation: u32, size: usize) -> Result<isize> {
        let mut request = arg.read::<CpupoolList>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let node = here_or(value.node);
        let entries = cluster::call(node, Module::Cpupool, operation, &[], MAX_PAYLOAD, LIST_MS)?;
        value.node = node.number();
        let count = entries.len().checked_div(size).unwrap_or(0);
        // CAST: u32 fits usize on 64-bit.
        let stored = count.min(value.capacity as usize).saturating_mul(size);
        copy_out(value.entries, entries.get(..stored).unwrap_or(&[]))?;
        value.count = u32::try_from(count).unwrap_or(u32::MAX);
        request.write_back()?;
        Ok(0)
    }

    fn set(&self, arg: Arg) -> Result<isize> {
        if !may_set_up() {
            return Err(EPERM);
        }
        let request = arg.read::<CpupoolSet>()?.value;
        if request.flags != 0 || request.reserved0 != 0 || request.reserved != [0; 2] {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize on 64-bit.
        let (count, at_once) = (request.count as usize, request.at_once as usize);
        let group_length = request.group_length as usize;
        if count > MAX_PROGRAMS || group_length > GROUP_MAX {
            return Err(EINVAL);
        }
        let mut group = [0; GROUP_MAX];
        let group = group.get_mut(..group_length).ok_or(EINVAL)?;
        copy_in(request.group, group)?;
        let mut entries = KVec::with_capacity(count, GFP_KERNEL)?;
        for index in 0..count {
            let entry: CpupoolProgram = read_entry(request.entries, index)?;
            if entry.reserved != 0 || entry.runs != 0 {
                return Err(EINVAL);
            }
            entries.push(entry, GFP_KERNEL)?;
        }
        self.programs.set(&entries, group, at_once)?;
        Ok(0)
    }

    fn start(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<CpupoolStart>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize on 64-bit.
        let arguments = value.arguments_length as usize;
        let input = value.input_length as usize;
        if arguments > ARGUMENTS_MAX {
            return Err(EINVAL);
        }
        let length = START_HEADER.saturating_add(arguments).saturating_add(input);
        if length > MAX_PAYLOAD {
            return Err(emsgsize());
        }
        let limits = Limits {
            time_ms: value.time_ms,
            processes: value.processes,
            memory: value.memory,
            output: value.output,
        };
        let mut message: KVVec<u8> = zeroed(length, GFP_KERNEL)?;
        let (header, rest) = message
            .split_first_chunk_mut::<START_HEADER>()
            .ok_or(EINVAL)?;
        *header = Start::header(&limits, value.arguments_length);
        let (words, data) = rest.split_at_mut_checked(arguments).ok_or(EINVAL)?;
        copy_in(value.arguments, words)?;
        copy_in(value.input, data)?;
        if !are_arguments(words) {
            return Err(EINVAL);
        }
        let policy = Policy::from_numbers(value.policy, value.node).ok_or(EINVAL)?;
        value.node = 0;
        let result = cluster::pick(policy).and_then(|node| {
            value.node = node.number();
            let answer = cluster::call(node, Module::Cpupool, OP_START, &message, 8, LIST_MS)?;
            let id = answer.first_chunk::<8>().ok_or(EIO)?;
            value.id = u64::from_le_bytes(*id);
            Ok(0)
        });
        // The node is told with an error too.
        request.write_back()?;
        result
    }

    fn follow(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<CpupoolFollow>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let node = here_or(value.node);
        let wait_ms = value.wait_ms.min(if node == cluster::me() {
            WAIT_HERE_MS
        } else {
            WAIT_THERE_MS
        });
        let follow = Follow {
            id: value.id,
            out_at: value.out_at,
            err_at: value.err_at,
            limit: value.capacity,
            wait_ms,
        };
        let answer = cluster::call(
            node,
            Module::Cpupool,
            OP_FOLLOW,
            &follow.encode(),
            MAX_PAYLOAD,
            LIST_MS,
        )?;
        let (progress, out, err) = Progress::parse(&answer).ok_or(EIO)?;
        // CAST: u32 fits usize on 64-bit.
        if out.len().max(err.len()) > value.capacity as usize {
            return Err(EIO);
        }
        copy_out(value.out, out)?;
        copy_out(value.err, err)?;
        value.out_length = progress.out_length;
        value.err_length = progress.err_length;
        value.state = progress.state;
        value.status = progress.status;
        value.reason = progress.reason;
        value.more = progress.more;
        value.elapsed_ns = progress.elapsed_ns;
        value.user_ns = progress.user_ns;
        value.system_ns = progress.system_ns;
        value.peak_bytes = progress.peak_bytes;
        request.write_back()?;
        Ok(0)
    }

    fn kill(&self, arg: Arg) -> Result<isize> {
        let value = arg.read::<CpupoolKill>()?.value;
        if value.flags != 0 || value.reserved0 != 0 || value.reserved != 0 {
            return Err(EINVAL);
        }
        let (node, id) = (here_or(value.node), value.id.to_le_bytes());
        cluster::call(node, Module::Cpupool, OP_KILL, &id, 0, LIST_MS)?;
        Ok(0)
    }
}

/// The node of that number; 0 is this one.
fn here_or(node: u32) -> NodeId {
    if node == 0 {
        cluster::me()
    } else {
        NodeId::from_number(node)
    }
}

/// A run's number.
fn run_id(input: &[u8]) -> Result<u64> {
    let bytes: [u8; 8] = input.try_into().map_err(|_| EINVAL)?;
    Ok(u64::from_le_bytes(bytes))
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
            self.list(arg, OP_LIST, size_of::<CpupoolFunction>())
        } else if is(uapi::CPUPOOL_IOC_SET) {
            self.set(arg)
        } else if is(uapi::CPUPOOL_IOC_PROGRAMS) {
            self.list(arg, OP_PROGRAMS, size_of::<CpupoolProgram>())
        } else if is(uapi::CPUPOOL_IOC_START) {
            self.start(arg)
        } else if is(uapi::CPUPOOL_IOC_FOLLOW) {
            self.follow(arg)
        } else if is(uapi::CPUPOOL_IOC_KILL) {
            self.kill(arg)
        } else if is(uapi::CPUPOOL_IOC_LEND) {
            let value = arg.read::<CpupoolLend>()?.value;
            if value.flags != 0 || value.reserved != 0 {
                return Err(EINVAL);
            }
            self.programs.lend()?;
            Ok(0)
        } else if is(uapi::CPUPOOL_IOC_RUNS) {
            self.list(arg, OP_RUNS, size_of::<CpupoolRun>())
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
            WORDS => {
                let (timeout_ms, text) = input.split_first_chunk::<4>().ok_or(EINVAL)?;
                let timeout_ms = u32::from_le_bytes(*timeout_ms).min(MAX_TIMEOUT_MS);
                let Call { name, input } = parse(text).ok_or(EINVAL)?;
                let limit = output.limit();
                output.set(function_table::call(
                    name,
                    input,
                    limit,
                    deadline(timeout_ms),
                )?)
            }
            OP_LIST => output.set(listed()?),
            OP_START => {
                let start = Start::parse(input).ok_or(EINVAL)?;
                let id = self.programs.start(&start)?;
                output.push(&id.to_le_bytes())
            }
            OP_FOLLOW => {
                let mut follow = Follow::parse(input).ok_or(EINVAL)?;
                follow.wait_ms = follow.wait_ms.min(WAIT_HERE_MS);
                self.programs.follow(&follow, output)
            }
            OP_KILL => self.programs.kill(run_id(input)?),
            OP_PROGRAMS => self.programs.list(output),
            OP_RUNS => self.programs.runs(output),
            _ => Err(eopnotsupp()),
        }
    }
}
