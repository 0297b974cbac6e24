// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Files with named values: what `virgo mem save` writes and `virgo mem load` reads.
//!
//! doc/mempool.md specifies the format. All numbers are little-endian:
//!
//! | part | bytes |
//! |---|---|
//! | head | `VIRGOMEM`, version (u32) 1, reserved (u32) 0, seconds of Unix time when it was written (u64), CRC-32 of the 24 bytes before (u32), reserved (u32) 0 |
//! | a record each | length of the key (u32, 1 to 250), length of the value (u32), flags (u32), CRC-32 of the 12 bytes before, of the 16 behind, of key and value (u32), seconds of Unix time when it is over (i64, 0: never), number (u64), key, value |
//! | tail | 0 (u32), 0xffffffff (u32), CRC-32 of all 24 bytes of the tail but this field (u32), CRC-32 of all bytes before the tail (u32), records (u64) |
//!
//! A length of 0 where a key's is expected begins the tail. CRC-32 is that of IEEE 802.3.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Read, Write};

use crc32fast::Hasher;
use virgo_proto::uapi;

const MAGIC: &[u8; 8] = b"VIRGOMEM";
const VERSION: u32 = 1;
const HEAD: usize = 32;
const RECORD: usize = 32;
const TAIL: usize = 24;
/// No value is longer, whatever a damaged file says: the largest `item_max`.
const VALUE_MAX: u32 = 64 << 20;

/// One named value in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Its key, 1 to 250 bytes.
    pub key: Vec<u8>,
    /// Its bytes.
    pub value: Vec<u8>,
    /// The user's own flags.
    pub flags: u32,
    /// Until which second of Unix time it stays; `None`: for ever.
    pub expires: Option<i64>,
    /// Its number when it was saved; it gets another one when it is loaded.
    pub cas: u64,
}

/// Writes a file. It is whole only after [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    whole: Hasher,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file that was made at this second of Unix time.
    pub fn new(mut out: W, written: u64) -> io::Result<Self> {
        let mut head = [0; HEAD];
        put(&mut head, 0, MAGIC);
        put(&mut head, 8, &VERSION.to_le_bytes());
        put(&mut head, 16, &written.to_le_bytes());
        let sum = crc32fast::hash(&head[..24]);
        put(&mut head, 24, &sum.to_le_bytes());
        out.write_all(&head)?;
        let mut whole = Hasher::new();
        whole.update(&head);
        Ok(Writer {
            out,
            whole,
            records: 0,
        })
    }

    /// Adds a value. A key that is empty or too long, or a value over 64 MiB, is an error.
    pub fn add(&mut self, saved: &Saved) -> io::Result<()> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let key_len = u32::try_from(saved.key.len())
            .ok()
            .filter(|length| (1..=uapi::MEM_KEY_MAX).contains(length))
            .ok_or_else(|| invalid("a key has 1 to 250 bytes"))?;
        let value_len = u32::try_from(saved.value.len())
            .ok()
            .filter(|length| *length <= VALUE_MAX)
            .ok_or_else(|| invalid("a value has at most 64 MiB"))?;
        let mut head = [0; RECORD];
        put(&mut head, 0, &key_len.to_le_bytes());
        put(&mut head, 4, &value_len.to_le_bytes());
        put(&mut head, 8, &saved.flags.to_le_bytes());
        put(&mut head, 16, &saved.expires.unwrap_or(0).to_le_bytes());
        put(&mut head, 24, &saved.cas.to_le_bytes());
        let sum = record_sum(&head, &saved.key, &saved.value);
        put(&mut head, 12, &sum.to_le_bytes());
        for part in [&head[..], &saved.key, &saved.value] {
            self.out.write_all(part)?;
            self.whole.update(part);
        }
        self.records += 1;
        Ok(())
    }

    /// Writes the tail; gives back what was written to, and the count of records.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let mut tail = [0; TAIL];
        put(&mut tail, 4, &u32::MAX.to_le_bytes());
        put(&mut tail, 12, &self.whole.finalize().to_le_bytes());
        put(&mut tail, 16, &self.records.to_le_bytes());
        let sum = tail_sum(&tail);
        put(&mut tail, 8, &sum.to_le_bytes());
        self.out.write_all(&tail)?;
        self.out.flush()?;
        Ok((self.out, self.records))
    }
}

/// What is wrong with a file, or with reading it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// It could not be read.
    Io(io::Error),
    /// It does not begin as such a file does.
    NotASnapshot,
    /// It is of a version that this program does not know.
    Version(u32),
    /// Its head is damaged.
    Head,
    /// It ends at this byte, before its tail: it was cut off, or never finished.
    Short(u64),
    /// The record at this byte is damaged. If its lengths can be believed, reading may go on behind
    /// it.
    Record {
        /// Where it begins.
        at: u64,
        /// Its key if that seems whole.
        key: Vec<u8>,
        /// There may be more records behind it.
        more: bool,
    },
    /// The tail at this byte is damaged.
    Tail(u64),
    /// Each record is right, but not all of them together: some are missing, doubled, or in another
    /// order.
    Whole {
        /// How many there ought to be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// There is something behind the tail, from this byte on.
    Behind(u64),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => error.fmt(f),
            ReadError::NotASnapshot => write!(f, "it does not begin with VIRGOMEM"),
            ReadError::Version(version) => write!(
                f,
                "it is of version {version}, this program knows version {VERSION}"
            ),
            ReadError::Head => write!(f, "its head is damaged"),
            ReadError::Short(at) => write!(f, "it is cut off at byte {at}"),
            ReadError::Record { at, .. } => write!(f, "the record at byte {at} is damaged"),
            ReadError::Tail(at) => write!(f, "its tail at byte {at} is damaged"),
            ReadError::Whole { expected, found } => write!(
                f,
                "its records are not those that were written ({found} of {expected})"
            ),
            ReadError::Behind(at) => write!(f, "something follows its end at byte {at}"),
        }
    }
}

impl StdError for ReadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            ReadError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Reads a file, record by record.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    whole: Hasher,
    at: u64,
    found: u64,
    written: u64,
    /// The tail was reached, or nothing more can be read.
    ended: bool,
    /// A record was damaged: the whole's sum will not be right.
    damaged: bool,
}

impl<R: Read> Reader<R> {
    /// Checks the head.
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let mut head = [0; HEAD];
        let got = read_up_to(&mut input, &mut head)?;
        if got < MAGIC.len() || !head.starts_with(MAGIC) {
            return Err(ReadError::NotASnapshot);
        }
        if got < HEAD {
            return Err(ReadError::Short(got as u64));
        }
        let sum = crc32fast::hash(&head[..24]);
        if u32_at(&head, 24) != sum {
            return Err(ReadError::Head);
        }
        // Only now, so that damage is not taken for a version to come.
        let version = u32_at(&head, 8);
        if version != VERSION {
            return Err(ReadError::Version(version));
        }
        if u32_at(&head, 12) != 0 || u32_at(&head, 28) != 0 {
            return Err(ReadError::Head);
        }
        let mut whole = Hasher::new();
        whole.update(&head);
        Ok(Reader {
            input,
            whole,
            at: HEAD as u64,
            found: 0,
            written: u64_at(&head, 16),
            ended: false,
            damaged: false,
        })
    }

    /// When the file was written, in seconds of Unix time.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes were read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next record; `None` at a good end. After an error with `more` it may be called again.
    pub fn next_record(&mut self) -> Result<Option<Saved>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let result = self.read_record();
        if !matches!(
            result,
            Ok(Some(_)) | Err(ReadError::Record { more: true, .. })
        ) {
            self.ended = true;
        }
        result
    }

    fn read_record(&mut self) -> Result<Option<Saved>, ReadError> {
        let start = self.at;
        let mut head = [0; RECORD];
        self.fill(&mut head[..TAIL])?;
        let (key_len, value_len) = (u32_at(&head, 0), u32_at(&head, 4));
        if key_len == 0 {
            let tail = head.first_chunk().unwrap_or(&[0; TAIL]);
            return self.read_tail(start, tail).map(|()| None);
        }
        if key_len > uapi::MEM_KEY_MAX || value_len > VALUE_MAX {
            return Err(ReadError::Record {
                at: start,
                key: Vec::new(),
                more: false,
            });
        }
        self.fill(&mut head[TAIL..])?;
        let mut key = vec![0; key_len as usize];
        self.fill(&mut key)?;
        // Grown as it is read, so that a wrong length takes no memory.
        let mut value = Vec::new();
        let wanted = u64::from(value_len);
        let got = (&mut self.input)
            .take(wanted)
            .read_to_end(&mut value)
            .map_err(ReadError::Io)?;
        self.at += got as u64;
        if (got as u64) < wanted {
            return Err(ReadError::Short(self.at));
        }
        for part in [&head[..], &key, &value] {
            self.whole.update(part);
        }
        if record_sum(&head, &key, &value) != u32_at(&head, 12) {
            self.damaged = true;
            return Err(ReadError::Record {
                at: start,
                key,
                more: true,
            });
        }
        self.found += 1;
        // CAST: the bits of an i64.
        let expires = u64_at(&head, 16) as i64;
        Ok(Some(Saved {
            key,
            value,
            flags: u32_at(&head, 8),
            expires: (expires != 0).then_some(expires),
            cas: u64_at(&head, 24),
        }))
    }

    fn read_tail(&mut self, start: u64, tail: &[u8; TAIL]) -> Result<(), ReadError> {
        if u32_at(tail, 4) != u32::MAX || u32_at(tail, 8) != tail_sum(tail) {
            return Err(ReadError::Tail(start));
        }
        let expected = u64_at(tail, 16);
        let same = u32_at(tail, 12) == self.whole.clone().finalize();
        // After a damaged record that was told, the count is all that can be asked for.
        if !self.damaged && (!same || expected != self.found) {
            return Err(ReadError::Whole {
                expected,
                found: self.found,
            });
        }
        let mut one = [0];
        if read_up_to(&mut self.input, &mut one)? != 0 {
            return Err(ReadError::Behind(self.at));
        }
        Ok(())
    }

    fn fill(&mut self, room: &mut [u8]) -> Result<(), ReadError> {
        let got = read_up_to(&mut self.input, room)?;
        self.at += got as u64;
        if got < room.len() {
            return Err(ReadError::Short(self.at));
        }
        Ok(())
    }
}

/// Reads until `room` is full or the input ends; how much it was.
fn read_up_to(input: &mut impl Read, room: &mut [u8]) -> Result<usize, ReadError> {
    let mut got = 0;
    while got < room.len() {
        match input.read(&mut room[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
    Ok(got)
}

fn record_sum(head: &[u8; RECORD], key: &[u8], value: &[u8]) -> u32 {
    let mut sum = Hasher::new();
    sum.update(&head[..12]);
    sum.update(&head[16..]);
    sum.update(key);
    sum.update(value);
    sum.finalize()
}

fn tail_sum(tail: &[u8; TAIL]) -> u32 {
    let mut sum = Hasher::new();
    sum.update(&tail[..8]);
    sum.update(&tail[12..]);
    sum.finalize()
}

/// The offsets are constants within the arrays.
fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u32_at(from: &[u8], at: usize) -> u32 {
    from.get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_at(from: &[u8], at: usize) -> u64 {
    from.get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(all: &[Saved]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 1_800_000_000).unwrap();
        for saved in all {
            writer.add(saved).unwrap();
        }
        let (bytes, count) = writer.finish().unwrap();
        assert_eq!(count, all.len() as u64);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Saved>, ReadError> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(saved) = reader.next_record()? {
            all.push(saved);
        }
        Ok(all)
    }

    fn saved(key: &str, value: &[u8]) -> Saved {
        Saved {
            key: key.into(),
            value: value.to_vec(),
            flags: 0x0102_0304,
            expires: Some(4_102_444_800),
            cas: 9,
        }
    }

    #[test]
    fn the_format_is_the_one_that_is_written_down() {
        let bytes = file(&[saved("ab", b"xyz")]);
        assert_eq!(bytes.len(), 32 + 32 + 5 + 24);
        assert_eq!(&bytes[..16], b"VIRGOMEM\x01\0\0\0\0\0\0\0");
        assert_eq!(u64_at(&bytes, 16), 1_800_000_000);
        assert_eq!(&bytes[32..44], b"\x02\0\0\0\x03\0\0\0\x04\x03\x02\x01");
        assert_eq!(&bytes[64..69], b"abxyz");
        assert_eq!(&bytes[69..77], b"\0\0\0\0\xff\xff\xff\xff");
        assert_eq!(u64_at(&bytes, 85), 1);
        // CRC-32 of IEEE 802.3, by its well-known check value.
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(u32_at(&bytes, 81), crc32fast::hash(&bytes[..69]));
    }

    #[test]
    fn an_empty_file_is_one() {
        assert_eq!(read(&file(&[])).unwrap(), []);
    }

    #[test]
    fn every_cut_and_every_bit_is_noticed() {
        let all = [saved("one", b"1"), saved("two", b""), saved("three", b"33")];
        let bytes = file(&all);
        assert_eq!(read(&bytes).unwrap(), all);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                assert!(read(&wrong).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(read(&longer), Err(ReadError::Behind(_))));
        // A record that is missing, and the sum of each of the others right.
        let one = 32 + 32 + 4;
        let mut shorter = bytes[..32].to_vec();
        shorter.extend_from_slice(&bytes[one..]);
        assert!(matches!(
            read(&shorter),
            Err(ReadError::Whole {
                expected: 3,
                found: 2
            })
        ));
    }

    #[test]
    fn what_is_whole_can_be_saved_from_a_damaged_file() {
        let all = [saved("one", b"1"), saved("two", b"22"), saved("three", b"")];
        let mut bytes = file(&all);
        // The value of the second record.
        let at = 32 + (32 + 4) + 32 + 3;
        bytes[at] ^= 1;
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert_eq!(reader.next_record().unwrap().as_ref(), Some(&all[0]));
        match reader.next_record() {
            Err(ReadError::Record { key, more, .. }) => {
                assert_eq!((&key[..], more), (&b"two"[..], true));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(reader.next_record().unwrap().as_ref(), Some(&all[2]));
        assert_eq!(reader.next_record().unwrap(), None);
    }

    #[test]
    fn a_version_to_come_is_told() {
        let mut bytes = file(&[]);
        bytes[8] = 2;
        let sum = crc32fast::hash(&bytes[..24]);
        put(&mut bytes, 24, &sum.to_le_bytes());
        assert!(matches!(read(&bytes), Err(ReadError::Version(2))));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut writer = Writer::new(Vec::new(), 0).unwrap();
        assert!(writer.add(&saved("", b"")).is_err());
        assert!(writer.add(&saved(&"x".repeat(251), b"")).is_err());
        assert!(writer.add(&saved(&"x".repeat(250), b"")).is_ok());
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_was_written(
            all in proptest::collection::vec(
                (
                    proptest::collection::vec(any::<u8>(), 1..=250),
                    proptest::collection::vec(any::<u8>(), 0..100),
                    any::<u32>(),
                    proptest::option::of(1_i64..),
                    any::<u64>(),
                )
                    .prop_map(|(key, value, flags, expires, cas)| Saved { key, value, flags, expires, cas }),
                0..8,
            ),
        ) {
            prop_assert_eq!(read(&file(&all)).unwrap(), all);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut whole = file(&[]);
            let _ = read(&bytes);
            whole.truncate(32);
            whole.extend_from_slice(&bytes);
            let mut reader = Reader::new(&whole[..]).unwrap();
            for _ in 0..10 {
                if matches!(reader.next_record(), Ok(None)) {
                    break;
                }
            }
        }
    }
}
