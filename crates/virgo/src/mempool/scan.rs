// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Walking over the named values.

use std::mem::{size_of, size_of_val};

use rustix::io::Errno;
use virgo_proto::uapi;

use super::Mempool;
use crate::error::{Action, Error};
use crate::sys;
use crate::Result;

/// One named value, in a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its key.
    pub key: Vec<u8>,
    /// Its bytes; empty in a scan for keys alone.
    pub value: Vec<u8>,
    /// Bytes of the value.
    pub value_len: u32,
    /// The user's own flags.
    pub flags: u32,
    /// Until which second of Unix time it stays; `None`: for ever.
    pub expires: Option<i64>,
    /// Its number.
    pub cas: u64,
}

/// Walks over this node's named values. Ends after the first error.
#[derive(Debug)]
pub struct Scan<'pool> {
    pool: &'pool Mempool,
    flags: u32,
    room: Vec<u64>,
    /// Where the next record begins in `room`, and where they end, in words.
    at: usize,
    end: usize,
    cursor: u64,
    /// No more are to be asked for.
    last: bool,
}

impl<'pool> Scan<'pool> {
    /// What is asked for at a time.
    const ROOM: usize = 256 << 10;

    pub(super) fn new(pool: &'pool Mempool, flags: u32) -> Self {
        Scan {
            pool,
            flags,
            room: vec![0; Self::ROOM / size_of::<u64>()],
            at: 0,
            end: 0,
            cursor: 0,
            last: false,
        }
    }

    fn fill(&mut self) -> Result<()> {
        loop {
            let mut argument = uapi::MemScan {
                size: size_of::<uapi::MemScan>() as u32,
                flags: self.flags,
                cursor: self.cursor,
                ..Default::default()
            };
            match sys::mem_scan(&self.pool.fd, &mut argument, &mut self.room) {
                Ok(()) => {
                    self.at = 0;
                    let used = argument.used as usize / size_of::<u64>();
                    self.end = used.min(self.room.len());
                    self.cursor = argument.cursor;
                    self.last = argument.cursor == 0;
                    return Ok(());
                }
                // A larger one than any before.
                Err(Errno::MSGSIZE)
                    if argument.needed as usize > self.room.len() * size_of::<u64>() =>
                {
                    let needed = argument.needed as usize / size_of::<u64>() + 1;
                    self.room.resize(needed, 0);
                }
                Err(errno) => return Err(Error::new(Action::Scan, errno)),
            }
        }
    }

    /// The record at `at`; `None` if the words there make none, which the kernel never writes.
    fn parse(&mut self) -> Option<Record> {
        let words = self.room.get(self.at..self.end)?;
        let (record, words_used) = parse_record(words, self.flags & uapi::MEM_F_KEYS_ONLY == 0)?;
        self.at += words_used;
        Some(record)
    }
}

/// Takes a record from the front of `words`; with it how many words it takes.
fn parse_record(words: &[u64], with_value: bool) -> Option<(Record, usize)> {
    const HEAD: usize = size_of::<uapi::MemRecord>() / size_of::<u64>();
    let head: &[u64; HEAD] = words.get(..HEAD)?.try_into().ok()?;
    let half = |word: usize, high: usize| {
        let bytes = head[word].to_ne_bytes();
        let at = high * 4;
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let (length, key_len) = (half(0, 0) as usize, half(0, 1) as usize);
    let (value_len, flags) = (half(1, 0), half(1, 1));
    let expires = i64::from_ne_bytes(head[2].to_ne_bytes());
    let kept = if with_value { value_len as usize } else { 0 };
    let all = length / size_of::<u64>();
    let payload = words.get(HEAD..all)?;
    let needed = key_len.checked_add(kept)?;
    if length % size_of::<u64>() != 0 || size_of_val(payload) < needed {
        return None;
    }
    let mut bytes = Vec::with_capacity(size_of_val(payload));
    for word in payload {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.truncate(needed);
    let value = bytes.split_off(key_len);
    let record = Record {
        key: bytes,
        value,
        value_len,
        flags,
        expires: (expires != 0).then_some(expires),
        cas: head[3],
    };
    Some((record, all))
}

impl Iterator for Scan<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        loop {
            if self.at < self.end {
                if let Some(record) = self.parse() {
                    return Some(Ok(record));
                }
                (self.at, self.end, self.last) = (0, 0, true);
                return Some(Err(Error::new(Action::Scan, Errno::IO)));
            }
            if self.last {
                return None;
            }
            if let Err(error) = self.fill() {
                self.last = true;
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record as the kernel writes it.
    fn words(record: &Record, with_value: bool) -> Vec<u64> {
        let mut payload = record.key.clone();
        if with_value {
            payload.extend_from_slice(&record.value);
        }
        payload.resize(payload.len().next_multiple_of(8), 0);
        let length = 32 + payload.len() as u32;
        let pair = |low: u32, high: u32| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&low.to_ne_bytes());
            bytes[4..].copy_from_slice(&high.to_ne_bytes());
            u64::from_ne_bytes(bytes)
        };
        let mut words = vec![
            pair(length, record.key.len() as u32),
            pair(record.value_len, record.flags),
            u64::from_ne_bytes(record.expires.unwrap_or(0).to_ne_bytes()),
            record.cas,
        ];
        words.extend(
            payload
                .chunks_exact(8)
                .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap())),
        );
        words
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            key in proptest::collection::vec(any::<u8>(), 1..=250),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            flags: u32,
            cas: u64,
            expires in proptest::option::of(1_i64..),
            with_value: bool,
            behind in proptest::collection::vec(any::<u64>(), 0..3),
        ) {
            let value_len = value.len() as u32;
            let record = Record { key, value, value_len, flags, expires, cas };
            let mut memory = words(&record, with_value);
            let length = memory.len();
            memory.extend(behind);
            let (read, used) = parse_record(&memory, with_value).unwrap();
            prop_assert_eq!(used, length);
            let expected = if with_value { record } else { Record { value: Vec::new(), ..record } };
            prop_assert_eq!(read, expected);
            for cut in 0..length {
                prop_assert!(parse_record(&memory[..cut], with_value).is_none());
            }
        }

        #[test]
        fn any_words_are_a_record_or_none(memory in proptest::collection::vec(any::<u64>(), 0..80)) {
            if let Some((_, used)) = parse_record(&memory, true) {
                prop_assert!(used >= 4 && used <= memory.len());
            }
        }
    }
}
