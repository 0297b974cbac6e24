// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! One record of the profiler's buffer.

use std::fmt;

use virgo_proto::uapi;

/// A thread's name as the kernel has it: at most 15 bytes, of any encoding.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Comm(pub [u8; uapi::COMM_LEN]);

impl Comm {
    /// The name's bytes, without the padding.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

impl fmt::Display for Comm {
    /// Writes the name; bytes that are not UTF-8, and control characters, which could move a
    /// terminal's cursor, become U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = String::from_utf8_lossy(self.as_bytes())
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// One task at one moment. The figures count from the task's beginning and only ever grow; see
/// [`Tracker`](crate::Tracker) for the differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Identity of the registration; never used twice.
    pub id: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Minor faults.
    pub min_flt: u64,
    /// Major faults.
    pub maj_flt: u64,
    /// User CPU time, in nanoseconds.
    pub utime_ns: u64,
    /// System CPU time, in nanoseconds.
    pub stime_ns: u64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Process id, in the initial pid namespace.
    pub pid: u32,
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// A letter as in `/proc/PID/stat`.
    pub state: u8,
    /// `VIRGO_SAMPLE_` bits.
    pub flags: u32,
    /// The thread's name.
    pub comm: Comm,
}

/// A record's length in 64-bit words.
pub(crate) const WORDS: usize = size_of::<uapi::ProfilerSample>() / 8;

impl Sample {
    /// Takes a record apart. `words[0]` is the sequence number, which the reader has checked.
    pub(crate) fn from_words(words: &[u64; WORDS]) -> Self {
        let [_, id, time_ns, min_flt, maj_flt, utime_ns, stime_ns, rss_bytes, ids, marks, name @ ..] =
            *words;
        let (pid, tid) = halves(ids);
        let (state, flags) = halves(marks);
        let mut comm = [0; uapi::COMM_LEN];
        for (to, word) in comm.chunks_exact_mut(8).zip(name) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        Sample {
            id,
            time_ns,
            min_flt,
            maj_flt,
            utime_ns,
            stime_ns,
            rss_bytes,
            pid,
            tid,
            state: u8::try_from(state)
                .ok()
                .filter(u8::is_ascii_graphic)
                .unwrap_or(b'?'),
            flags,
            comm: Comm(comm),
        }
    }

    /// The inverse of [`Sample::from_words`], for tests and for programs that make their own ring.
    pub fn to_words(&self, seq: u64) -> [u64; WORDS] {
        let mut words = [
            seq,
            self.id,
            self.time_ns,
            self.min_flt,
            self.maj_flt,
            self.utime_ns,
            self.stime_ns,
            self.rss_bytes,
            whole(self.pid, self.tid),
            whole(u32::from(self.state), self.flags),
            0,
            0,
        ];
        for (word, bytes) in words[10..].iter_mut().zip(self.comm.0.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        words
    }

    /// User and system CPU time together, in nanoseconds: the scheduler's exact run time.
    pub fn cpu_ns(&self) -> u64 {
        self.utime_ns.saturating_add(self.stime_ns)
    }

    /// Minor and major faults together.
    pub fn faults(&self) -> u64 {
        self.min_flt.saturating_add(self.maj_flt)
    }

    /// The registration is of one thread, not of a process.
    pub fn is_thread(&self) -> bool {
        self.flags & uapi::SAMPLE_THREAD != 0
    }

    /// The first record of its registration.
    pub fn is_first(&self) -> bool {
        self.flags & uapi::SAMPLE_FIRST != 0
    }

    /// The task has exited; its last record.
    pub fn is_exit(&self) -> bool {
        self.flags & uapi::SAMPLE_EXIT != 0
    }

    /// The last record of its registration, whether the task exited or was unregistered.
    pub fn is_last(&self) -> bool {
        self.flags & (uapi::SAMPLE_EXIT | uapi::SAMPLE_LAST) != 0
    }
}

/// Two 32-bit fields that lie one behind the other.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    )
}

/// The inverse of [`halves`].
fn whole(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_the_nul_and_made_harmless() {
        assert_eq!(Comm(*b"work\0old-name!!!").to_string(), "work");
        assert_eq!(Comm(*b"sixteen bytes!!!").to_string(), "sixteen bytes!!!");
        assert_eq!(
            Comm(*b"\x1b[2J\xff\0\0\0\0\0\0\0\0\0\0\0").to_string(),
            "\u{fffd}[2J\u{fffd}"
        );
        assert_eq!(format!("{:>6}", Comm::default()), "      ");
    }

    #[test]
    fn a_state_that_is_no_letter_is_a_question_mark() {
        for state in [0, 7, 0x80, 0x1_0041] {
            let mut words = Sample::default().to_words(1);
            words[9] = whole(state, 0);
            assert_eq!(Sample::from_words(&words).state, b'?');
        }
    }
}
