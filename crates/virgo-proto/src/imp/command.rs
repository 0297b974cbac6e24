// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The lines that `/proc/virgo/profiler/status` takes: `R <pid>` and `U <pid>`.
//!
//! The form is that of the original's `/proc/mp3/status` (a letter, then an unsigned number).

/// One line, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `R <pid>`: register the process.
    Register(i32),
    /// `U <pid>`: unregister it.
    Unregister(i32),
}

/// Why a line was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The line does not begin with `R` or `U`.
    UnknownVerb,
    /// What follows is not a number from 1 to 2^31 - 1.
    BadPid,
}

/// Parses a decimal process id.
///
/// Takes digits alone: no sign, no spaces. Returns `None` for 0 and from 2^31 on.
pub fn parse_pid(text: &[u8]) -> Option<i32> {
    if text.is_empty() {
        return None;
    }
    let mut value: i32 = 0;
    for &byte in text {
        let digit = i32::from(byte.checked_sub(b'0').filter(|d| *d < 10)?);
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    (value > 0).then_some(value)
}

/// Parses one line, without its newline. Spaces and tabs around the number are allowed, as
/// `echo` and C programs write them; anything else is an error.
pub fn parse_command(line: &[u8]) -> Result<Command, CommandError> {
    let (verb, rest) = line.split_first().ok_or(CommandError::UnknownVerb)?;
    let make = match verb {
        b'R' => Command::Register,
        b'U' => Command::Unregister,
        _ => return Err(CommandError::UnknownVerb),
    };
    let digits = rest.trim_ascii();
    parse_pid(digits).map(make).ok_or(CommandError::BadPid)
}

/// Splits `text` at newlines and parses every line that is not empty. A NUL at the end of the
/// text, as C programs send it, is dropped.
pub fn parse_commands(text: &[u8]) -> impl Iterator<Item = Result<Command, CommandError>> + '_ {
    text.strip_suffix(b"\0")
        .unwrap_or(text)
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(parse_command)
}
