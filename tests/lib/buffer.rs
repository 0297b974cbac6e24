// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The profiler's buffer, as a careful reader reads it.

use std::mem::offset_of;
use std::sync::atomic::{fence, Ordering};
use std::time::{Duration, Instant};

use virgo_proto::uapi::{self, ProfilerHeader, ProfilerSample};

use crate::device::Device;
use crate::sys::{self, Mapping, Res};
use crate::SOON;

const HEADER: usize = uapi::PROFILER_HEADER_SIZE as usize;
const RECORD: usize = size_of::<ProfilerSample>();

/// The buffer, mapped.
pub struct Buffer {
    mapping: Mapping,
    capacity: u64,
}

impl Buffer {
    /// Maps the whole of it.
    pub fn map(device: &Device) -> Res<Buffer> {
        let info = device.info()?;
        let mapping = Mapping::new(
            device,
            info.map_bytes as usize,
            libc::PROT_READ,
            libc::MAP_SHARED,
            0,
        )?;
        Ok(Buffer {
            mapping,
            capacity: info.capacity,
        })
    }

    /// The mapping itself.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// How many records fit.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The header. Its fields are whole each, not all of one moment.
    #[must_use]
    pub fn header(&self) -> ProfilerHeader {
        let bytes: Vec<u8> = (0..size_of::<ProfilerHeader>())
            .step_by(8)
            .flat_map(|offset| self.mapping.word(offset).to_ne_bytes())
            .collect();
        sys::from_bytes(&bytes)
    }

    /// Records written so far.
    #[must_use]
    pub fn head(&self) -> u64 {
        let head = self.mapping.word(offset_of!(ProfilerHeader, head));
        fence(Ordering::Acquire);
        head
    }

    /// Record number `number`; `None` if it has been overwritten, or is being written.
    #[must_use]
    pub fn record(&self, number: u64) -> Option<ProfilerSample> {
        let start = HEADER + (number % self.capacity) as usize * RECORD;
        if self.mapping.word(start) != number + 1 {
            return None;
        }
        fence(Ordering::Acquire);
        let bytes: Vec<u8> = (0..RECORD)
            .step_by(8)
            .flat_map(|offset| self.mapping.word(start + offset).to_ne_bytes())
            .collect();
        fence(Ordering::Acquire);
        if self.mapping.word(start) != number + 1 {
            return None;
        }
        Some(sys::from_bytes(&bytes))
    }
}

/// Reads one record after the other.
pub struct Reader<'a> {
    device: &'a Device,
    buffer: Buffer,
    next: u64,
    /// Records that were overwritten before they were read.
    pub lost: u64,
}

impl<'a> Reader<'a> {
    /// Begins with the next record that is written.
    #[must_use]
    pub fn new(device: &'a Device) -> Reader<'a> {
        let buffer = device.buffer();
        let next = buffer.head();
        Reader {
            device,
            buffer,
            next,
            lost: 0,
        }
    }

    /// The buffer.
    #[must_use]
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The next record; `None` if there is none yet.
    pub fn next_record(&mut self) -> Option<ProfilerSample> {
        loop {
            let head = self.buffer.head();
            assert!(head >= self.next, "the head went back");
            let oldest = head.saturating_sub(self.buffer.capacity());
            if oldest > self.next {
                self.lost += oldest - self.next;
                self.next = oldest;
            }
            if self.next == head {
                return None;
            }
            let record = self.buffer.record(self.next);
            self.next += 1;
            match record {
                Some(record) => return Some(record),
                None => self.lost += 1,
            }
        }
    }

    /// What has been written since the last time.
    pub fn drain(&mut self) -> Vec<ProfilerSample> {
        let mut records = Vec::new();
        // Not for ever, should records come faster than they are read.
        let head = self.buffer.head();
        while self.next < head {
            records.extend(self.next_record());
        }
        records
    }

    /// Waits for records and calls `each` with one after the other until it says that it has enough.
    /// False if that takes longer than `limit`.
    #[must_use]
    pub fn follow(
        &mut self,
        limit: Duration,
        mut each: impl FnMut(&ProfilerSample) -> bool,
    ) -> bool {
        let start = Instant::now();
        loop {
            while let Some(record) = self.next_record() {
                if each(&record) {
                    return true;
                }
                if start.elapsed() > limit {
                    return false;
                }
            }
            if start.elapsed() > limit {
                return false;
            }
            self.device.seen(self.next).expect("SEEN");
            let _ = self.device.readable(100);
        }
    }

    /// Waits for a record that `wanted` holds for.
    pub fn find(&mut self, wanted: impl Fn(&ProfilerSample) -> bool) -> ProfilerSample {
        let mut found = None;
        let done = self.follow(SOON, |record| {
            if wanted(record) {
                found = Some(*record);
            }
            found.is_some()
        });
        assert!(done, "no such record comes");
        found.expect("it was found")
    }

    /// The next record of registration `id` that is taken from now on.
    pub fn fresh(&mut self, id: u64) -> ProfilerSample {
        let now = sys::monotonic_ns();
        self.find(|record| record.id == id && record.time_ns >= now)
    }

    /// The exit record of registration `id`.
    pub fn exit_of(&mut self, id: u64) -> ProfilerSample {
        self.find(|record| record.id == id && record.flags & uapi::SAMPLE_EXIT != 0)
    }
}

/// The name in a record, without its padding.
#[must_use]
pub fn name_of(comm: &[u8; uapi::COMM_LEN]) -> String {
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .expect("the name ends with NUL");
    String::from_utf8_lossy(&comm[..end]).into_owned()
}
