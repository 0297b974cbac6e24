// SPDX-License-Identifier: GPL-2.0-only

//! What keeps jobs over a power cut: an append-only log in files of one folder.
//!
//! Whoever changes a job appends a record to a buffer, under the queue's mutex, and gets the
//! record's number. One work item, [`Writer`], takes what has been gathered, writes it, brings it
//! to the disk if the policy says so, and only then answers those who wait for a number up to the
//! last one written: however many clients there are, they share one fsync.
//!
//! The log is a row of segments of equal length. A segment's jobs are counted; when the oldest
//! segment has none it goes. So that one old job does not keep all that came after it, the jobs
//! of the oldest segment are written anew at the end once less than half of the log is alive.
//! Only the oldest may go: a record that says that a job is gone must outlive the job's own.
//!
//! A segment's file is `queue.N`, a small number which is used again; its first record says which
//! segment it is. Files are emptied, not removed. See doc/queue.md for the whole story.

use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

use crate::{
    lib::{
        crc::crc32c_after,
        file::{
            Access,
            OwnedFile, //
        },
        listener::Responder,
        time::monotonic_ns,
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        },
        zeroed::zeroed, //
    },
    proto::qlog::{
        encode,
        encoded_size,
        Found,
        Reader,
        Record,
        Sink, //
    },
    queue::Queue,
    server::Server,
    state::{
        State,
        SECOND, //
    },
};

/// When an answer may go out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    /// At once; the file system brings it to the disk when it likes.
    Never,
    /// At once; the log is brought to the disk at intervals.
    Interval,
    /// When it is on the disk.
    Always,
}

impl Policy {
    /// From the setting's word.
    pub(crate) fn from_word(word: &[u8]) -> Option<Policy> {
        Some(match word {
            b"never" => Policy::Never,
            b"interval" => Policy::Interval,
            b"always" => Policy::Always,
            _ => return None,
        })
    }
}

/// The settings.
pub(crate) struct Settings {
    pub(crate) folder: CString,
    pub(crate) policy: Policy,
    pub(crate) interval_ns: u64,
    pub(crate) segment_bytes: u64,
}

/// What is said once a record is on the disk.
pub(crate) enum Answer {
    /// These words.
    Words(&'static [u8]),
    /// This text, about a job that was put; where it cannot be kept, the job is taken back.
    Put(u64, KVVec<u8>),
    /// This text, which hands a job to a worker; where that cannot be kept, it is ready again.
    Reserved(u64, KVVec<u8>),
}

struct Waiter {
    number: u64,
    responder: Responder<Server>,
    answer: Answer,
}

/// A file's worth of jobs.
struct Segment {
    number: u64,
    /// Which file.
    file: u32,
    /// Bytes appended.
    bytes: u64,
    /// Jobs whose record is in it.
    jobs: u64,
    /// It may go when this record is on the disk.
    barrier: u64,
}

/// Records on their way to one file.
struct Chunk {
    file: u32,
    /// The file is new: to be made, or emptied.
    fresh: bool,
    offset: u64,
    data: KVVec<u8>,
}

impl Sink for Chunk {
    type Error = Error;

    fn append(&mut self, bytes: &[u8]) -> Result {
        Ok(self.data.extend_from_slice(bytes, GFP_KERNEL)?)
    }
}

/// Numbers for people.
#[derive(Clone, Copy, Default)]
pub(crate) struct Numbers {
    pub(crate) written: u64,
    pub(crate) migrated: u64,
    pub(crate) syncs: u64,
    pub(crate) damaged: u64,
    pub(crate) torn_bytes: u64,
    pub(crate) replayed: u64,
}

/// The log as the queue's mutex guards it.
pub(crate) struct Log {
    pub(crate) policy: Policy,
    interval_ns: u64,
    segment_bytes: u64,
    /// The next record's number.
    next: u64,
    /// All records before this one are in the files, and on the disk if the policy says so.
    kept: u64,
    chunks: KVVec<Chunk>,
    /// Bytes in them.
    gathered: usize,
    waiters: KVVec<Waiter>,
    /// The oldest first; the last is being written.
    segments: KVVec<Segment>,
    /// Files that are not ours.
    foreign: KVec<u32>,
    /// Why the last write failed; what is to be kept is refused meanwhile.
    pub(crate) failed: Option<Error>,
    /// The writer has been told.
    called: bool,
    /// Somebody waits although the policy is not `always`: their tube's setting is.
    urgent: bool,
    /// The writer has been told of that.
    called_now: bool,
    /// Bytes of the records of living jobs.
    live_bytes: u64,
    /// Where the search for the oldest segment's jobs goes on.
    cursor: u64,
    pub(crate) numbers: Numbers,
}

impl Log {
    /// The oldest and the newest segment, for `stats`.
    pub(crate) fn range(&self) -> (u64, u64) {
        let first = self.segments.first().map_or(0, |s| s.number);
        (first, self.segments.last().map_or(0, |s| s.number))
    }

    /// Bytes in all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .fold(0, |sum: u64, s| sum.saturating_add(s.bytes))
    }

    /// How long a segment is.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// A file that no segment has.
    fn free_file(&self) -> u32 {
        let mut file = 0;
        while self.segments.iter().any(|s| s.file == file) || self.foreign.contains(&file) {
            file = file.saturating_add(1);
        }
        file
    }

    /// Begins a segment. `ENOMEM`.
    fn begin(&mut self, next_id: u64) -> Result {
        let number = self
            .segments
            .last()
            .map_or(1, |s| s.number.saturating_add(1));
        let file = self.free_file();
        self.segments.reserve(1, GFP_KERNEL)?;
        self.chunks.push(
            Chunk {
                file,
                fresh: true,
                offset: 0,
                data: KVVec::new(),
            },
            GFP_KERNEL,
        )?;
        self.segments.push(
            Segment {
                number,
                file,
                bytes: 0,
                jobs: 0,
                barrier: 0,
            },
            GFP_KERNEL,
        )?;
        let open = Record::Open {
            segment: number,
            next_id,
        };
        self.write(&open)?;
        Ok(())
    }

    fn write(&mut self, record: &Record<'_>) -> Result<u64> {
        let segment = self.segments.last_mut().ok_or(EIO)?;
        let same = self.chunks.last().is_some_and(|c| c.file == segment.file);
        if !same {
            let chunk = Chunk {
                file: segment.file,
                fresh: false,
                offset: segment.bytes,
                data: KVVec::new(),
            };
            self.chunks.push(chunk, GFP_KERNEL)?;
        }
        let chunk = self.chunks.last_mut().ok_or(EIO)?;
        let size = encoded_size(record);
        // All of it or nothing.
        chunk.data.reserve(size, GFP_KERNEL)?;
        let number = self.next;
        encode(record, number, crc32c_after, chunk)?;
        // CAST: usize fits u64.
        segment.bytes = segment.bytes.saturating_add(size as u64);
        self.gathered = self.gathered.saturating_add(size);
        self.next = number.saturating_add(1);
        self.numbers.written = self.numbers.written.saturating_add(1);
        Ok(number)
    }

    /// Appends a record; its number, and the segment it is in. `ENOMEM`.
    pub(crate) fn append(&mut self, record: &Record<'_>, next_id: u64) -> Result<(u64, u64)> {
        let size = encoded_size(record) as u64;
        let full = self
            .segments
            .last()
            .is_none_or(|s| s.bytes > 0 && s.bytes.saturating_add(size) > self.segment_bytes);
        if full {
            self.begin(next_id)?;
        }
        let number = self.write(record)?;
        Ok((number, self.segments.last().map_or(0, |s| s.number)))
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|s| s.number == number)
    }

    /// A job's record of `bytes` bytes lies in this segment from here on.
    pub(crate) fn job_in(&mut self, segment: u64, bytes: u64) {
        self.live_bytes = self.live_bytes.saturating_add(bytes);
        if let Some(segment) = self.segment(segment) {
            segment.jobs = segment.jobs.saturating_add(1);
        }
    }

    /// And no more. The record numbered `barrier` says so.
    pub(crate) fn job_out(&mut self, segment: u64, bytes: u64, barrier: u64) {
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
        if let Some(segment) = self.segment(segment) {
            segment.jobs = segment.jobs.saturating_sub(1);
            segment.barrier = segment.barrier.max(barrier);
        }
    }

    /// Whether all that has been appended is kept as the policy says.
    pub(crate) fn is_kept(&self, number: u64) -> bool {
        number < self.kept
    }

    /// Answers when the record `number` is on the disk. `ENOMEM`: never.
    pub(crate) fn answer_when(
        &mut self,
        number: u64,
        responder: Responder<Server>,
        answer: Answer,
    ) -> Result {
        let waiter = Waiter {
            number,
            responder,
            answer,
        };
        Ok(self.waiters.push(waiter, GFP_KERNEL)?)
    }

    /// When the writer must run, if it must be told: 0 is at once.
    pub(crate) fn call(&mut self) -> Option<u64> {
        if self.chunks.is_empty() {
            return None;
        }
        let now = self.urgent || self.policy == Policy::Always || self.gathered > 1 << 20;
        if now && !self.called_now {
            self.called_now = true;
            self.called = true;
            return Some(0);
        }
        if self.called {
            return None;
        }
        self.called = true;
        Some(self.interval_ns)
    }

    /// What has just been appended must come to the disk now, whatever the policy.
    pub(crate) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Bytes that wait to be written.
    pub(crate) fn gathered(&self) -> usize {
        self.gathered
    }

    /// Whether the oldest segment's jobs should be written anew.
    fn wants_migration(&self) -> bool {
        self.failed.is_none()
            && self.segments.len() > 2
            && self.bytes()
                > self
                    .live_bytes
                    .saturating_add(self.segment_bytes)
                    .saturating_mul(2)
    }

    fn oldest(&self) -> Option<u64> {
        self.segments.first().map(|s| s.number)
    }

    /// Takes the segments off the books that nobody needs; their files.
    fn retire(&mut self) -> KVec<u32> {
        let mut files = KVec::new();
        while self.segments.len() > 1 {
            let Some(oldest) = self.segments.first() else {
                break;
            };
            if oldest.jobs > 0 || oldest.barrier >= self.kept {
                break;
            }
            if files.push(oldest.file, GFP_KERNEL).is_err() {
                break;
            }
            let _ = self.segments.remove(0);
        }
        files
    }
}

fn name_of(file: u32) -> Result<CString> {
    CString::try_from_fmt(fmt!("queue.{}", file))
}

/// Writes the log.
pub(crate) struct Writer {
    queue: Arc<Queue>,
    settings: Settings,
    open: Arc<OpenFiles>,
}

/// The files that are being written; the writer's alone, but for the lock that says so.
#[pin_data]
pub(crate) struct OpenFiles {
    #[pin]
    files: kernel::sync::Mutex<KVec<(u32, OwnedFile)>>,
}

impl Writer {
    /// Writes the log of this queue.
    pub(crate) fn new(queue: Arc<Queue>, settings: Settings) -> Result<Self> {
        let open = Arc::pin_init(
            pin_init!(OpenFiles {
                files <- kernel::new_mutex!(KVec::new(), "virgo_queue_log"),
            }),
            GFP_KERNEL,
        )?;
        Ok(Writer {
            queue,
            settings,
            open,
        })
    }

    fn file(&self, files: &mut KVec<(u32, OwnedFile)>, chunk: &Chunk) -> Result {
        let there = files.iter().any(|(file, _)| *file == chunk.file);
        if there && !chunk.fresh {
            return Ok(());
        }
        files.retain(|(file, _)| *file != chunk.file);
        let name = name_of(chunk.file)?;
        let access = if chunk.fresh {
            Access::Fresh
        } else {
            Access::ReadWrite
        };
        let file = OwnedFile::open_in(&self.settings.folder, &name, access, 0o600)?;
        if chunk.fresh {
            // Room for all of it now, or none: what is put later then has its place for sure.
            match file.preallocate(self.settings.segment_bytes) {
                Err(error) if error != crate::lib::compat::eopnotsupp() => return Err(error),
                _ => {}
            }
            file.sync()?;
            sync_folder(&self.settings.folder)?;
        }
        // The one before is full, and has been brought to the disk.
        if files.len() > 1 {
            let _ = files.remove(0);
        }
        Ok(files.push((chunk.file, file), GFP_KERNEL)?)
    }

    /// Writes and syncs. How many chunks are written, and what went wrong then.
    fn write(
        &self,
        files: &mut KVec<(u32, OwnedFile)>,
        chunks: &mut KVVec<Chunk>,
        policy: Policy,
    ) -> (usize, Result) {
        let mut done = 0;
        for chunk in chunks.iter_mut() {
            let written = self.file(files, chunk).and_then(|()| {
                let file = files.iter().find(|(file, _)| *file == chunk.file);
                let (_, file) = file.ok_or(EIO)?;
                chunk.fresh = false;
                file.write_at(&chunk.data, chunk.offset)?;
                if policy >= Policy::Interval {
                    file.sync_data()?;
                }
                Ok(())
            });
            if let Err(error) = written {
                return (done, Err(error));
            }
            done = done.saturating_add(1);
        }
        (done, Ok(()))
    }

    /// Empties files.
    fn empty(&self, open: &mut KVec<(u32, OwnedFile)>, files: &[u32]) {
        for number in files {
            open.retain(|(file, _)| file != number);
            let emptied = name_of(*number).and_then(|name| {
                OwnedFile::open_in(&self.settings.folder, &name, Access::Fresh, 0o600)
            });
            if let Err(error) = emptied {
                // It is read again at the next load, and its records change nothing.
                pr_warn!(
                    "queue.{} is not needed any more and could not be emptied: {:?}\n",
                    number,
                    error
                );
            }
        }
    }

    /// Writes all there is, and says so to those who wait. When it has to run again.
    fn round(&self) -> Option<u64> {
        let mut files = self.open.files.lock();
        let (mut chunks, upto, policy) = {
            let mut guard = self.queue.lock();
            let log = guard.state.log.as_mut()?;
            log.called = false;
            log.called_now = false;
            log.gathered = 0;
            let chunks = core::mem::replace(&mut log.chunks, KVVec::new());
            let policy = if core::mem::take(&mut log.urgent) {
                Policy::Always
            } else {
                log.policy
            };
            (chunks, log.next, policy)
        };
        let (done, result) = self.write(&mut files, &mut chunks, policy);
        let mut again = None;
        let retired = {
            let mut guard = self.queue.lock();
            let state = &mut guard.state;
            let log = state.log.as_mut()?;
            match result {
                Ok(()) => {
                    if log.failed.take().is_some() {
                        pr_info!("the log can be written again\n");
                    }
                    log.numbers.syncs = log.numbers.syncs.saturating_add(1);
                    log.kept = upto;
                }
                Err(error) => {
                    if log.failed != Some(error) {
                        pr_err!(
                            "the log in {} cannot be written: {}; requests that are to be kept are refused until it can\n",
                            self.settings.folder.to_str().unwrap_or("its folder"),
                            reason(error),
                        );
                    }
                    log.failed = Some(error);
                    log.gathered = 0;
                    // What is not written stays, in front of what came meanwhile.
                    let mut rest = KVVec::new();
                    let newer = core::mem::replace(&mut log.chunks, KVVec::new());
                    for chunk in Iterator::chain(chunks.into_iter().skip(done), newer) {
                        log.gathered = log.gathered.saturating_add(chunk.data.len());
                        if rest.push(chunk, GFP_KERNEL).is_err() {
                            pr_err!("no memory is left for what the log could not write\n");
                        }
                    }
                    log.chunks = rest;
                    log.called = true;
                    log.urgent |= policy == Policy::Always;
                    log.called_now = true;
                    again = Some(monotonic_ns().saturating_add(SECOND));
                }
            }
            state.answer_kept(upto, result.is_ok());
            self.queue.wake_files();
            match state.log.as_mut() {
                Some(log) if log.failed.is_none() => log.retire(),
                _ => KVec::new(),
            }
        };
        if !retired.is_empty() {
            self.empty(&mut files, &retired);
        }
        if again.is_none() {
            let mut guard = self.queue.lock();
            guard.state.migrate();
            if let Some(wait) = guard.state.log.as_mut().and_then(Log::call) {
                again = Some(monotonic_ns().saturating_add(wait));
            }
        }
        again
    }

    /// Writes all there is now. In a good order of unloading, the last thing.
    pub(crate) fn finish(&self) {
        {
            let mut guard = self.queue.lock();
            let state = &mut guard.state;
            let next_id = state.next_id();
            if let Some(log) = state.log.as_mut() {
                if log.append(&Record::Close { next_id }, next_id).is_err() {
                    pr_err!("no memory is left for the log's last record\n");
                }
                log.policy = log.policy.max(Policy::Interval);
            }
        }
        self.round();
    }
}

impl DeadlineHandler for Writer {
    fn run(&self, work: &DeadlineWork<Self>) {
        if let Some(at) = self.round() {
            work.arm(at);
        }
    }
}

/// Brings a folder's entries to the disk.
fn sync_folder(folder: &CStr) -> Result {
    OwnedFile::open_in(folder, c".", Access::Read, 0)?.sync()
}

/// An error in words.
pub(crate) fn reason(error: Error) -> &'static str {
    match error {
        e if e == ENOSPC => "no space is left on its disk",
        e if e == EROFS => "its disk is read-only",
        e if e == EIO => "its disk has an error",
        e if e == ENOENT => "the folder is not there",
        e if e == ENOTDIR => "the folder is a file",
        e if e == EACCES || e == EPERM => "access is denied",
        e if e == ENOMEM => "no memory is left",
        e if e == EFBIG => "a file is too large",
        _ => "the file system refused it",
    }
}

impl State {
    /// Says to those who wait for a record before `upto` that it is kept, or that it cannot be.
    fn answer_kept(&mut self, upto: u64, kept: bool) {
        let Some(log) = self.log.as_mut() else {
            return;
        };
        if log.waiters.is_empty() {
            return;
        }
        let waiters = core::mem::replace(&mut log.waiters, KVVec::new());
        let now = monotonic_ns();
        for waiter in waiters {
            if waiter.number >= upto {
                if let Some(log) = self.log.as_mut() {
                    // There was room for all of them.
                    let _ = log.waiters.push(waiter, GFP_KERNEL);
                }
                continue;
            }
            let mut data = KVVec::new();
            let words: &[u8] = match (waiter.answer, kept) {
                (Answer::Words(words), true) => words,
                (Answer::Words(_), false) => b"INTERNAL_ERROR\r\n",
                (Answer::Put(_, text) | Answer::Reserved(_, text), true) => {
                    data = text;
                    b""
                }
                (Answer::Put(id, _), false) => {
                    self.take_back(id);
                    b"OUT_OF_MEMORY\r\n"
                }
                (Answer::Reserved(id, _), false) => {
                    self.give_back(id, now);
                    b"OUT_OF_MEMORY\r\n"
                }
            };
            // The connection is closed where there is no memory.
            if data.extend_from_slice(words, GFP_KERNEL).is_ok() {
                let _ = waiter.responder.answer(data);
            }
        }
        self.files_changed = true;
    }

    /// Writes some of the oldest segment's jobs anew, if it is time.
    fn migrate(&mut self) {
        let Some(log) = self.log.as_mut().filter(|log| log.wants_migration()) else {
            return;
        };
        let (Some(oldest), mut cursor) = (log.oldest(), log.cursor) else {
            return;
        };
        for _ in 0..512 {
            let Some(index) = self.job_after(cursor) else {
                cursor = 0;
                break;
            };
            cursor = self.jobs.get(index).map_or(0, |job| job.id);
            if self
                .jobs
                .get(index)
                .is_some_and(|job| job.segment == oldest)
            {
                if self.log_put(index).is_err() {
                    break;
                }
                if let Some(log) = self.log.as_mut() {
                    log.numbers.migrated = log.numbers.migrated.saturating_add(1);
                }
            }
        }
        if let Some(log) = self.log.as_mut() {
            log.cursor = cursor;
        }
        self.log_tubes_of(oldest);
    }
}

/// A file found at load.
struct Old {
    data: KVVec<u8>,
    length: u64,
}

/// Reads the log of a folder into an empty queue, and begins a new segment.
///
/// # Errors
///
/// The file system's, with a line in the kernel's log.
pub(crate) fn replay(state: &mut State, settings: &Settings) -> Result {
    let told = settings.folder.to_str().unwrap_or("its folder");
    let failed = |error: Error| {
        pr_err!("the log in {} cannot be read: {}\n", told, reason(error));
        error
    };
    let start = monotonic_ns();
    let mut numbers = Numbers::default();
    // By the number of the first record.
    let mut order: KVec<(u64, u32)> = KVec::new();
    let mut foreign = KVec::new();
    let mut missing = 0;
    let mut file = 0;
    // Files are never removed, so the first gap is the end; some may have been by hand.
    while missing < 64 {
        match Old::head(settings, file) {
            Ok(Head::Records(number)) => {
                // Few, and mostly in order already.
                order.push((number, file), GFP_KERNEL)?;
                let mut at = order.len().saturating_sub(1);
                while at > 0 && order.get(at) < order.get(at.saturating_sub(1)) {
                    order.swap(at, at.saturating_sub(1));
                    at = at.saturating_sub(1);
                }
            }
            Ok(Head::Empty) => {}
            Ok(Head::Foreign) => {
                pr_warn!(
                    "queue.{}: nothing in it can be read; it is left as it is\n",
                    file
                );
                foreign.push(file, GFP_KERNEL)?;
            }
            Err(error) if error == ENOENT && file > 0 => missing += 1,
            Err(error) if error == ENOENT => {
                // The folder is not there either?
                OwnedFile::open_in(&settings.folder, c".", Access::Read, 0).map_err(failed)?;
                missing += 1;
            }
            Err(error) => return Err(failed(error)),
        }
        file += 1; // OVERFLOW: ends long before, as no folder has that many files.
    }
    let mut clean = true;
    let mut log = Log {
        policy: settings.policy,
        interval_ns: settings.interval_ns,
        segment_bytes: settings.segment_bytes,
        next: 1,
        kept: 1,
        chunks: KVVec::new(),
        gathered: 0,
        waiters: KVVec::new(),
        segments: KVVec::new(),
        foreign,
        failed: None,
        called: false,
        urgent: false,
        called_now: false,
        live_bytes: 0,
        cursor: 0,
        numbers: Numbers::default(),
    };
    // Numbered anew: only their order counts.
    for (place, (_, file)) in order.iter().enumerate() {
        // CAST: usize fits u64.
        let number = (place as u64).saturating_add(1);
        log.segments.push(
            Segment {
                number,
                file: *file,
                bytes: 0,
                jobs: 0,
                barrier: 0,
            },
            GFP_KERNEL,
        )?;
    }
    state.log = Some(log);
    for (place, (_, file)) in order.iter().copied().enumerate() {
        // CAST: usize fits u64.
        let number = (place as u64).saturating_add(1);
        let old = Old::read(settings, file).map_err(failed)?;
        if let Some(segment) = state.log.as_mut().and_then(|log| log.segment(number)) {
            segment.bytes = old.length;
        }
        for found in Reader::new(&old.data, crc32c_after) {
            match found {
                Found::Record {
                    number: record_number,
                    record,
                    ..
                } => {
                    clean = matches!(record, Record::Close { .. });
                    numbers.replayed = numbers.replayed.saturating_add(1);
                    if let Some(log) = state.log.as_mut() {
                        log.next = log.next.max(record_number.saturating_add(1));
                        log.kept = log.next;
                    }
                    state.replay_record(&record, number, start)?;
                }
                Found::Damage { at, bytes } => {
                    numbers.damaged = numbers.damaged.saturating_add(1);
                    pr_warn!(
                        "queue.{}: {} bytes at {} are damaged (a checksum is wrong) and left out; what follows is read\n",
                        file, bytes, at
                    );
                }
                Found::Torn { at, bytes } => {
                    // CAST: usize fits u64.
                    numbers.torn_bytes = numbers.torn_bytes.saturating_add(bytes as u64);
                    clean = false;
                    pr_warn!(
                        "queue.{}: the last {} bytes, at {}, are no whole record and left out: it was being written when the machine stopped\n",
                        file, bytes, at
                    );
                }
            }
        }
    }
    if !order.is_empty() {
        pr_info!(
            "{} records of {} files in {} read in {} ms: {} requests{}\n",
            numbers.replayed,
            order.len(),
            told,
            monotonic_ns().saturating_sub(start) / 1_000_000,
            state.jobs.len(),
            if clean {
                ""
            } else {
                "; the module was not unloaded before the machine stopped"
            }
        );
    }
    let next_id = state.next_id();
    if let Some(log) = state.log.as_mut() {
        log.numbers = numbers;
        log.begin(next_id)?;
    }
    Ok(())
}

/// What a file is.
enum Head {
    /// A segment; the number of its first record that can be read.
    Records(u64),
    /// Free.
    Empty,
    /// Something that is not ours.
    Foreign,
}

impl Old {
    /// What a file begins with.
    fn head(settings: &Settings, file: u32) -> Result<Head> {
        let open = OwnedFile::open_in(&settings.folder, &name_of(file)?, Access::Read, 0)?;
        let mut head = [0; 64];
        let n = open.read_at(&mut head, 0)?;
        let head = head.get(..n).unwrap_or(&[]);
        let first = |data: &[u8]| {
            Reader::new(data, crc32c_after).find_map(|found| match found {
                Found::Record { number, .. } => Some(number),
                _ => None,
            })
        };
        if let Some(number) = first(head) {
            return Ok(Head::Records(number));
        }
        // A damaged beginning is no reason to give up the rest.
        let old = Old::read(settings, file)?;
        Ok(match first(&old.data) {
            Some(number) => Head::Records(number),
            None if old.length == 0 => Head::Empty,
            None => Head::Foreign,
        })
    }

    fn read(settings: &Settings, file: u32) -> Result<Old> {
        let open = OwnedFile::open_in(&settings.folder, &name_of(file)?, Access::Read, 0)?;
        let size = usize::try_from(open.size()?.min(1 << 30))?;
        let mut data: KVVec<u8> = zeroed(size, GFP_KERNEL)?;
        let n = open.read_at(&mut data, 0)?;
        data.truncate(n);
        // Zeros at the end are room that was not used.
        let used = data
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |last| last.saturating_add(1));
        Ok(Old {
            data,
            // CAST: usize fits u64.
            length: used as u64,
        })
    }
}
