// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Programs that are run for another node: what nodes send one another, and the text of a control
//! group's files.
//!
//! All numbers are little-endian. A request to start a program is a [`Start`], and the answer the
//! run's number in 8 bytes; a [`Follow`] asks how it goes on, and the answer is a [`Progress`] with
//! what the program has written behind it.

/// The most arguments, the program's own name counted.
pub const MAX_ARGUMENTS: usize = 1024;
/// The most bytes of all arguments, each with a NUL behind it.
pub const ARGUMENTS_MAX: usize = 128 << 10;
/// The longest name that a program is given in the table.
pub const PROGRAM_NAME_MAX: usize = 31;
/// The longest path of a program.
pub const PATH_MAX: usize = 223;
/// The longest path of the control group.
pub const GROUP_MAX: usize = 255;

/// What virgo-cpupool is asked by its own kind on other nodes, and by virgo-queue: start a program
/// ([`Start`]); the answer is the run's number, 8 bytes.
pub const OP_START: u32 = 3;
/// How it goes on ([`Follow`]); the answer is a [`Progress`] and output.
pub const OP_FOLLOW: u32 = 4;
/// Kill the run whose number is in 8 bytes.
pub const OP_KILL: u32 = 5;

/// It waits or runs.
pub const RUNNING: u32 = 1;
/// It has ended, and its status is known.
pub const ENDED: u32 = 2;
/// It could not be run at all.
pub const FAILED: u32 = 3;

/// It ended by itself.
pub const REASON_NONE: u32 = 0;
/// Its time was over.
pub const REASON_TIME: u32 = 1;
/// Somebody asked for it.
pub const REASON_KILL: u32 = 2;
/// Nobody asked how it goes on any more.
pub const REASON_ALONE: u32 = 3;
/// The module goes.
pub const REASON_UNLOAD: u32 = 4;

/// What a run may use; 0 is as much as the table says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Milliseconds until it is killed.
    pub time_ms: u32,
    /// Processes and threads at once.
    pub processes: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of standard output, and as many of error output.
    pub output: u64,
}

impl Limits {
    /// The smaller of each.
    pub fn within(&self, table: &Limits) -> Limits {
        fn least<T: Copy + Ord + Default>(asked: T, table: T) -> T {
            if asked == T::default() {
                table
            } else {
                asked.min(table)
            }
        }
        Limits {
            time_ms: least(self.time_ms, table.time_ms),
            processes: least(self.processes, table.processes),
            memory: least(self.memory, table.memory),
            output: least(self.output, table.output),
        }
    }
}

/// A request to start a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// What it may use.
    pub limits: Limits,
    /// Its arguments, each with a NUL behind it; the first is the program, by name or path.
    pub arguments: &'a [u8],
    /// Its standard input.
    pub input: &'a [u8],
}

/// Bytes before the arguments.
pub const START_HEADER: usize = 32;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// Whether these are arguments: 1 to [`MAX_ARGUMENTS`] of them, each with a NUL behind it, the first
/// not empty, [`ARGUMENTS_MAX`] bytes at most.
pub fn are_arguments(bytes: &[u8]) -> bool {
    bytes.len() <= ARGUMENTS_MAX
        && bytes.last() == Some(&0)
        && bytes.first() != Some(&0)
        && bytes.iter().filter(|byte| **byte == 0).count() <= MAX_ARGUMENTS
}

/// The first argument.
pub fn first(arguments: &[u8]) -> &[u8] {
    arguments.split(|byte| *byte == 0).next().unwrap_or(&[])
}

impl<'a> Start<'a> {
    /// What is sent before the arguments, which the input follows.
    pub fn header(limits: &Limits, arguments: u32) -> [u8; START_HEADER] {
        let mut bytes = [0; START_HEADER];
        put(&mut bytes, 0, &limits.time_ms.to_le_bytes());
        put(&mut bytes, 4, &limits.processes.to_le_bytes());
        put(&mut bytes, 8, &limits.memory.to_le_bytes());
        put(&mut bytes, 16, &limits.output.to_le_bytes());
        put(&mut bytes, 24, &arguments.to_le_bytes());
        bytes
    }

    /// Takes a request apart. `None` if it is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Start<'a>> {
        let limits = Limits {
            time_ms: u32_at(bytes, 0)?,
            processes: u32_at(bytes, 4)?,
            memory: u64_at(bytes, 8)?,
            output: u64_at(bytes, 16)?,
        };
        let length = usize::try_from(u32_at(bytes, 24)?).ok()?;
        if u32_at(bytes, 28)? != 0 {
            return None;
        }
        let (arguments, input) = bytes.get(START_HEADER..)?.split_at_checked(length)?;
        are_arguments(arguments).then_some(Start {
            limits,
            arguments,
            input,
        })
    }
}

/// Asks how a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Its number.
    pub id: u64,
    /// How much of its output is known.
    pub out_at: u64,
    /// How much of its error output is.
    pub err_at: u64,
    /// The most bytes of each to be sent.
    pub limit: u32,
    /// How long to wait until there is something new.
    pub wait_ms: u32,
}

/// Bytes of a [`Follow`].
pub const FOLLOW: usize = 32;

impl Follow {
    /// As it is sent.
    pub fn encode(&self) -> [u8; FOLLOW] {
        let mut bytes = [0; FOLLOW];
        put(&mut bytes, 0, &self.id.to_le_bytes());
        put(&mut bytes, 8, &self.out_at.to_le_bytes());
        put(&mut bytes, 16, &self.err_at.to_le_bytes());
        put(&mut bytes, 24, &self.limit.to_le_bytes());
        put(&mut bytes, 28, &self.wait_ms.to_le_bytes());
        bytes
    }

    /// From what was sent. `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Follow> {
        if bytes.len() != FOLLOW {
            return None;
        }
        Some(Follow {
            id: u64_at(bytes, 0)?,
            out_at: u64_at(bytes, 8)?,
            err_at: u64_at(bytes, 16)?,
            limit: u32_at(bytes, 24)?,
            wait_ms: u32_at(bytes, 28)?,
        })
    }
}

/// How a run is going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// [`RUNNING`], [`ENDED`] or [`FAILED`].
    pub state: u32,
    /// Once it has ended, as wait(2) has it; where it failed, the errno.
    pub status: u32,
    /// Why it was killed: `REASON_`.
    pub reason: u32,
    /// Bytes of output that follow.
    pub out_length: u32,
    /// Bytes of error output that follow those.
    pub err_length: u32,
    /// There is more output than the limit let through; ask again.
    pub more: u32,
    /// How long it runs or ran.
    pub elapsed_ns: u64,
    /// Processor time in user mode, of all its processes.
    pub user_ns: u64,
    /// Likewise in the kernel.
    pub system_ns: u64,
    /// The most memory that it took, its output's pages counted.
    pub peak_bytes: u64,
}

/// What virgo-queue keeps of a program that has ended (`struct virgo_queue_program`): a [`Progress`] with
/// the node's number in the place of [`Progress::more`]. The output follows.
pub fn ran(node: u32, end: &Progress) -> [u8; PROGRESS] {
    Progress { more: node, ..*end }.encode()
}

/// Takes that apart: the node, how the program ended, its output and its error output. `None` if it is
/// none.
pub fn parse_ran(bytes: &[u8]) -> Option<(u32, Progress, &[u8], &[u8])> {
    let (end, out, err) = Progress::parse(bytes)?;
    Some((end.more, Progress { more: 0, ..end }, out, err))
}

/// Bytes of a [`Progress`], without the output.
pub const PROGRESS: usize = 56;

impl Progress {
    /// As it is sent.
    pub fn encode(&self) -> [u8; PROGRESS] {
        let mut bytes = [0; PROGRESS];
        put(&mut bytes, 0, &self.state.to_le_bytes());
        put(&mut bytes, 4, &self.status.to_le_bytes());
        put(&mut bytes, 8, &self.reason.to_le_bytes());
        put(&mut bytes, 12, &self.out_length.to_le_bytes());
        put(&mut bytes, 16, &self.err_length.to_le_bytes());
        put(&mut bytes, 20, &self.more.to_le_bytes());
        put(&mut bytes, 24, &self.elapsed_ns.to_le_bytes());
        put(&mut bytes, 32, &self.user_ns.to_le_bytes());
        put(&mut bytes, 40, &self.system_ns.to_le_bytes());
        put(&mut bytes, 48, &self.peak_bytes.to_le_bytes());
        bytes
    }

    /// From what was sent, with output and error output. `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<(Progress, &[u8], &[u8])> {
        let progress = Progress {
            state: u32_at(bytes, 0)?,
            status: u32_at(bytes, 4)?,
            reason: u32_at(bytes, 8)?,
            out_length: u32_at(bytes, 12)?,
            err_length: u32_at(bytes, 16)?,
            more: u32_at(bytes, 20)?,
            elapsed_ns: u64_at(bytes, 24)?,
            user_ns: u64_at(bytes, 32)?,
            system_ns: u64_at(bytes, 40)?,
            peak_bytes: u64_at(bytes, 48)?,
        };
        let out = usize::try_from(progress.out_length).ok()?;
        let err = usize::try_from(progress.err_length).ok()?;
        let (out, rest) = bytes.get(PROGRESS..)?.split_at_checked(out)?;
        (rest.len() == err).then_some((progress, out, rest))
    }
}

/// Whether this can be a program's path: absolute, with no part that is empty, `.` or `..`.
pub fn is_path(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else {
        return false;
    };
    path.len() <= PATH_MAX
        && !path.contains(&0)
        && rest
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
}

/// Whether a program may be called this: letters, digits, `.`, `_`, `+` and `-`, not `.` or `-` first.
pub fn is_program_name(name: &[u8]) -> bool {
    let good =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-');
    name.len() <= PROGRAM_NAME_MAX
        && name.iter().all(good)
        && name
            .first()
            .is_some_and(|first| !matches!(first, b'.' | b'-'))
}

/// The number behind a key in a text of lines `KEY NUMBER`, such as cpu.stat.
pub fn counter(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(key)?.strip_prefix(b" ")?;
        number(rest)
    })
}

/// A number, with white space around it.
pub fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(digit.into())
    })
}
