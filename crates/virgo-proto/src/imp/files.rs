// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-cloudfs: handles of open files, and the lines of its telnet door.

use super::access::number;

/// An open file, as ioctls and lines name it: where it is, and a place in a table there that
/// counts how often it has been used, so that an old handle is told from a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handle {
    /// The node, as its cluster numbers it; 0: the one that is asked.
    pub node: u16,
    /// How often the place had been used before.
    pub generation: u16,
    /// The place.
    pub slot: u32,
}

impl From<u64> for Handle {
    fn from(number: u64) -> Self {
        let [n1, n0, g1, g0, s3, s2, s1, s0] = number.to_be_bytes();
        Handle {
            node: u16::from_be_bytes([n1, n0]),
            generation: u16::from_be_bytes([g1, g0]),
            slot: u32::from_be_bytes([s3, s2, s1, s0]),
        }
    }
}

impl From<Handle> for u64 {
    fn from(handle: Handle) -> Self {
        let [n1, n0] = handle.node.to_be_bytes();
        let [g1, g0] = handle.generation.to_be_bytes();
        let [s3, s2, s1, s0] = handle.slot.to_be_bytes();
        u64::from_be_bytes([n1, n0, g1, g0, s3, s2, s1, s0])
    }
}

/// A line of the telnet door. The first four are the original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// `virgo_cloud_open(PATH)`: for reading and for appending; made if it is not there.
    Open {
        /// Below the served folder.
        path: &'a [u8],
    },
    /// `virgo_cloud_read(HANDLE,anything,COUNT,POSITION)`.
    Read {
        /// From `open`.
        handle: u64,
        /// At most so many bytes.
        count: u64,
        /// From this one on.
        position: u64,
    },
    /// `virgo_cloud_write(HANDLE,DATA,COUNT,POSITION)`: at the end, whatever the position.
    Write {
        /// From `open`.
        handle: u64,
        /// Not more than `count` of it.
        data: &'a [u8],
        /// At most so many bytes.
        count: u64,
    },
    /// `virgo_cloud_close(HANDLE)`.
    Close {
        /// From `open`.
        handle: u64,
    },
    /// `virgo_cloud_get(HANDLE,COUNT,POSITION)`: as `read`, but the answer says its length.
    Get {
        /// From `open`.
        handle: u64,
        /// At most so many bytes.
        count: u64,
        /// From this one on.
        position: u64,
    },
    /// `virgo_cloud_put(HANDLE,COUNT)`, and after the line so many bytes and a line's end.
    Put {
        /// From `open`.
        handle: u64,
        /// How many bytes follow.
        count: u64,
    },
    /// `help`.
    Help,
    /// `quit`.
    Quit,
}

/// Why a line was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// No such word.
    Unknown,
    /// Not as many arguments as the word takes, or no parenthesis at the end.
    Arguments,
    /// An argument should be a number.
    Number,
}

/// A number, in double quotes or not.
fn quoted(text: &[u8]) -> Result<u64, OrderError> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    number(text).ok_or(OrderError::Number)
}

/// What is before the last comma, and after it.
fn last(text: &[u8]) -> Result<(&[u8], &[u8]), OrderError> {
    let at = text
        .iter()
        .rposition(|byte| *byte == b',')
        .ok_or(OrderError::Arguments)?;
    let (front, rest) = text.split_at_checked(at).ok_or(OrderError::Arguments)?;
    Ok((front, rest.get(1..).unwrap_or(&[])))
}

/// What is before the first comma, and after it.
fn first(text: &[u8]) -> Result<(&[u8], &[u8]), OrderError> {
    let at = text
        .iter()
        .position(|byte| *byte == b',')
        .ok_or(OrderError::Arguments)?;
    let (front, rest) = text.split_at_checked(at).ok_or(OrderError::Arguments)?;
    Ok((front, rest.get(1..).unwrap_or(&[])))
}

/// Understands a line, without its end.
///
/// The original split at every comma, so its data could hold neither `,` nor `)`. Here the data
/// is what is between the first comma and the last two, which is the same for all that it took.
pub fn parse_order(line: &[u8]) -> Result<Order<'_>, OrderError> {
    let line = line.trim_ascii();
    match line {
        b"help" => return Ok(Order::Help),
        b"quit" => return Ok(Order::Quit),
        _ => {}
    }
    let open = line
        .iter()
        .position(|byte| *byte == b'(')
        .ok_or(OrderError::Unknown)?;
    let (word, rest) = line.split_at_checked(open).ok_or(OrderError::Unknown)?;
    let inside = rest
        .get(1..)
        .and_then(|rest| rest.strip_suffix(b")"))
        .ok_or(OrderError::Arguments);
    match word {
        b"virgo_cloud_open" => match inside? {
            b"" => Err(OrderError::Arguments),
            path => Ok(Order::Open { path }),
        },
        b"virgo_cloud_close" => Ok(Order::Close {
            handle: quoted(inside?)?,
        }),
        b"virgo_cloud_read" => {
            let (rest, position) = last(inside?)?;
            let (rest, count) = last(rest)?;
            let (handle, _) = first(rest)?;
            Ok(Order::Read {
                handle: quoted(handle)?,
                count: quoted(count)?,
                position: quoted(position)?,
            })
        }
        b"virgo_cloud_write" => {
            let (rest, position) = last(inside?)?;
            let (rest, count) = last(rest)?;
            let (handle, data) = first(rest)?;
            // It has no effect, but it must be a number.
            quoted(position)?;
            Ok(Order::Write {
                handle: quoted(handle)?,
                data,
                count: quoted(count)?,
            })
        }
        b"virgo_cloud_get" => {
            let (rest, position) = last(inside?)?;
            let (handle, count) = last(rest)?;
            Ok(Order::Get {
                handle: quoted(handle)?,
                count: quoted(count)?,
                position: quoted(position)?,
            })
        }
        b"virgo_cloud_put" => {
            let (handle, count) = last(inside?)?;
            Ok(Order::Put {
                handle: quoted(handle)?,
                count: quoted(count)?,
            })
        }
        _ => Err(OrderError::Unknown),
    }
}

/// The components of a path below a root, in their order; empty ones and `.` are left out, `..`
/// is for who walks. `None` if it has a NUL.
pub fn components(path: &[u8]) -> Option<impl Iterator<Item = &[u8]> + Clone> {
    if path.contains(&0) {
        return None;
    }
    Some(
        path.split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty() && *part != b"."),
    )
}
