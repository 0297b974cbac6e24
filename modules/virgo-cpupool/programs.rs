// SPDX-License-Identifier: GPL-2.0-only

//! Programs: which may be run, as whom and with how much, and those that run.
//!
//! A run has a slot: a control group that user space made, whose files are held open. The program's
//! process goes into it before it becomes the program, so all of its children are there too, and
//! cgroup.kill ends them all, whatever they do about signals. A slot is free again when its run has
//! ended and the group is empty.
//!
//! # Lifetime
//!
//! Each run has a worker that waits for its end. Dropping [`Programs`] kills all runs and waits for
//! them.
//!
//! # Locking
//!
//! `Shared::setup`, then a slot's `run`, then a run's `state`; `Shared::next` is taken alone. Files are
//! read and written under none of them but `Slot::limits`, which is the worker's and the starter's own.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        CondVar,
        Mutex, //
    },
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta, //
    }, //
};

use crate::{
    builtin::decimal,
    lib::{
        compat::{
            emsgsize,
            enokey,
            eopnotsupp, //
        },
        file::OwnedFile,
        program::{
            self,
            Lent,
            Program, //
        },
        random::random_u64,
        service::RemoteReply,
        time::monotonic_ns,
        uapi::bytes_of,
        vfs::{
            OpenFile,
            Place, //
        },
        workqueue::{
            DeadlineHandler,
            DeadlineWork,
            OwnedQueue, //
        },
        zeroed::zeroed, //
    },
    proto::{
        program::{
            are_arguments,
            counter,
            first,
            is_path,
            is_program_name,
            number,
            Follow,
            Limits,
            Progress,
            Start,
            ENDED,
            FAILED,
            GROUP_MAX,
            PROGRESS,
            REASON_ALONE,
            REASON_KILL,
            REASON_NONE,
            REASON_TIME,
            REASON_UNLOAD,
            RUNNING, //
        },
        uapi::{
            CpupoolProgram,
            CpupoolRun, //
        },
    },
};

/// The most programs in the table.
pub(crate) const MAX_PROGRAMS: usize = 256;
/// The most users that programs run as.
const MAX_USERS: usize = 64;
/// The most runs at once.
pub(crate) const MAX_SLOTS: usize = 256;
/// A run that nobody has asked about for so long is killed, and then forgotten.
const LEASE_NS: u64 = 10_000_000_000;
/// How often a run that is to end is killed again.
const AGAIN_NS: u64 = 50_000_000;
/// How long the processes of a run that were killed are waited for.
const EMPTY_MS: u32 = 10_000;
/// How soon output is looked for again, at most, in milliseconds.
const LOOK_MS: u32 = 20;
/// All that programs find in their environment.
const ENVIRONMENT: &[u8] = b"PATH=/usr/local/bin:/usr/bin:/bin\0HOME=/\0LANG=C.UTF-8\0";
/// open(2)'s flags.
const READ: i32 = 0;
const WRITE: i32 = 1;
const READ_WRITE: i32 = 2;
/// The file system of control groups (include/uapi/linux/magic.h, CGROUP2_SUPER_MAGIC).
const CGROUP2: u32 = 0x6367_7270;

/// A program that may be run.
struct Entry {
    name: KVec<u8>,
    /// With a NUL behind it.
    path: KVec<u8>,
    user: Arc<Lent>,
    gid: u32,
    limits: Limits,
    runs: Atomic<u64>,
}

/// The bytes before the first NUL; `EINVAL` if there is none.
fn text(bytes: &[u8]) -> Result<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(EINVAL)?;
    bytes.get(..end).ok_or(EINVAL)
}

fn copied(bytes: &[u8]) -> Result<KVec<u8>> {
    let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL)?;
    copy.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(copy)
}

impl Entry {
    /// From the uAPI's. `EINVAL` for what cannot be, `ENOKEY` for a user who has lent no credentials.
    fn new(raw: &CpupoolProgram, lent: &[Arc<Lent>]) -> Result<Self> {
        let (name, path) = (text(&raw.name)?, text(&raw.path)?);
        let limits = Limits {
            time_ms: raw.time_ms,
            processes: raw.processes,
            memory: raw.memory,
            output: raw.output,
        };
        if !is_program_name(name)
            || !is_path(path)
            || matches!(raw.uid, 0 | u32::MAX)
            || matches!(raw.gid, 0 | u32::MAX)
            || limits.time_ms == 0
            || limits.processes == 0
            || limits.memory == 0
            || limits.output == 0
        {
            return Err(EINVAL);
        }
        let user = lent.iter().find(|lent| lent.uid() == raw.uid);
        let user = user.ok_or_else(enokey)?.clone();
        let mut path = copied(path)?;
        path.push(0, GFP_KERNEL)?;
        Ok(Entry {
            name: copied(name)?,
            path,
            user,
            gid: raw.gid,
            limits,
            runs: Atomic::new(0),
        })
    }

    fn path(&self) -> Result<&CStr> {
        CStr::from_bytes_with_nul(&self.path).map_err(|_| EINVAL)
    }

    fn is(&self, words: &[u8]) -> bool {
        *self.name == *words || self.path.strip_suffix(b"\0") == Some(words)
    }
}

/// What a group's processes used together so far.
#[derive(Clone, Copy, Default)]
struct Used {
    user_us: u64,
    system_us: u64,
}

/// A control group for one run at a time.
#[pin_data]
struct Slot {
    procs: Arc<OpenFile>,
    kill: Arc<OpenFile>,
    events: Arc<OpenFile>,
    memory: Arc<OpenFile>,
    pids: Arc<OpenFile>,
    stat: Arc<OpenFile>,
    peak: Option<Arc<OpenFile>>,
    #[pin]
    limits: Mutex<(u64, u32)>,
    #[pin]
    place: Mutex<Placed>,
}

/// What is in a slot.
enum Placed {
    Nothing,
    Run(Arc<Run>),
    /// Its processes did not go away.
    Broken,
}

/// The text of a small file of the kernel's.
fn read(file: &OpenFile) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::with_capacity(4096, GFP_KERNEL)?;
    file.read_to(&mut bytes, 4096, 0)?;
    Ok(bytes)
}

fn write_number(file: &OpenFile, value: u64) -> Result {
    let mut digits = [0; 20];
    file.write_at(decimal(value, &mut digits), 0)?;
    Ok(())
}

impl Slot {
    /// Opens the files of the group `name` below `root`.
    fn open(root: &Place, name: &[u8]) -> Result<Arc<Slot>> {
        let group = root.walk(root, name)?;
        let file = |name: &[u8], flags| group.walk(root, name)?.open(root, flags);
        let (procs, kill) = (file(b"cgroup.procs", WRITE)?, file(b"cgroup.kill", WRITE)?);
        let (events, stat) = (file(b"cgroup.events", READ)?, file(b"cpu.stat", READ)?);
        let memory = file(b"memory.max", WRITE)?;
        let pids = file(b"pids.max", WRITE)?;
        let peak = file(b"memory.peak", READ_WRITE).ok();
        Arc::pin_init(
            pin_init!(Slot {
                procs,
                kill,
                events,
                memory,
                pids,
                stat,
                peak,
                limits <- kernel::new_mutex!((0, 0), "virgo_program_limits"),
                place <- kernel::new_mutex!(Placed::Nothing, "virgo_program_slot"),
            }),
            GFP_KERNEL,
        )
    }

    fn run(&self) -> Option<Arc<Run>> {
        match &*self.place.lock() {
            Placed::Run(run) => Some(run.clone()),
            _ => None,
        }
    }

    /// Sets the limits, and begins to measure the memory anew.
    fn prepare(&self, limits: &Limits) -> Result {
        let mut set = self.limits.lock();
        if *set != (limits.memory, limits.processes) {
            write_number(&self.memory, limits.memory)?;
            write_number(&self.pids, limits.processes.into())?;
            *set = (limits.memory, limits.processes);
        }
        drop(set);
        if let Some(peak) = &self.peak {
            peak.write_at(b"0", 0)?;
        }
        Ok(())
    }

    fn used(&self) -> Result<Used> {
        let text = read(&self.stat)?;
        let of = |key: &[u8]| counter(&text, key).ok_or(EIO);
        Ok(Used {
            user_us: of(b"user_usec")?,
            system_us: of(b"system_usec")?,
        })
    }

    fn peak(&self) -> u64 {
        let text = self.peak.as_ref().and_then(|peak| read(peak).ok());
        text.and_then(|text| number(&text)).unwrap_or(0)
    }

    fn populated(&self) -> Result<bool> {
        let text = read(&self.events)?;
        Ok(counter(&text, b"populated") != Some(0))
    }

    /// Kills what is in the group.
    fn kill(&self) {
        // It can fail only where the group is gone, and then nothing is in it.
        let _ = self.kill.write_at(b"1", 0);
    }

    /// Kills what a program has left behind, and waits for its end. `ETIMEDOUT`.
    fn clear(&self) -> Result {
        let mut left = EMPTY_MS;
        while self.populated()? {
            self.kill();
            if left == 0 {
                return Err(ETIMEDOUT);
            }
            left = left.saturating_sub(1);
            fsleep(Delta::from_millis(1));
        }
        Ok(())
    }
}

/// How far a run is.
#[derive(Clone, Copy)]
struct State {
    phase: u32,
    status: u32,
    ended_ns: u64,
    used: Used,
    peak: u64,
    /// Somebody has been told all of it.
    told: bool,
}

/// A program that runs or ran.
#[pin_data]
struct Run {
    id: u64,
    name: KVec<u8>,
    uid: u32,
    started_ns: u64,
    deadline_ns: u64,
    limits: Limits,
    /// Until when somebody is known to care.
    lease_ns: Atomic<u64>,
    /// Why it is to end.
    reason: Atomic<u32>,
    out: OwnedFile,
    err: OwnedFile,
    #[pin]
    state: Mutex<State>,
    #[pin]
    ended: CondVar,
}

impl Run {
    fn state(&self) -> State {
        *self.state.lock()
    }

    /// Says why it is to end, unless that has been said. Relaxed: a number that is looked at again.
    fn to_end(&self, reason: u32) {
        let _ = self.reason.cmpxchg(REASON_NONE, reason, Relaxed);
    }

    /// Bytes of output and error output that are there to be read.
    fn lengths(&self) -> Result<(u64, u64)> {
        let limit = self.limits.output;
        Ok((self.out.size()?.min(limit), self.err.size()?.min(limit)))
    }

    fn finish(&self, phase: u32, status: u32, used: Used, peak: u64) {
        let mut state = self.state.lock();
        *state = State {
            phase,
            status,
            ended_ns: monotonic_ns(),
            used,
            peak,
            told: false,
        };
        drop(state);
        self.ended.notify_all();
    }
}

/// What is set up.
struct Setup {
    entries: Option<Arc<KVec<Entry>>>,
    lent: KVec<Arc<Lent>>,
    group: KVec<u8>,
    slots: KVec<Arc<Slot>>,
    at_once: usize,
}

/// What the watch looks after.
#[pin_data]
pub(crate) struct Shared {
    #[pin]
    setup: Mutex<Setup>,
    /// When the watch looks next; `u64::MAX`: not.
    #[pin]
    next: Mutex<u64>,
}

impl Shared {
    fn slots(&self) -> Result<KVec<Arc<Slot>>> {
        let setup = self.setup.lock();
        let mut slots = KVec::with_capacity(setup.slots.len(), GFP_KERNEL)?;
        for slot in setup.slots.iter() {
            slots.push(slot.clone(), GFP_KERNEL)?;
        }
        Ok(slots)
    }
}

impl DeadlineHandler for Shared {
    /// Kills runs whose time is over or that nobody asks about, and forgets those that have ended.
    fn run(&self, work: &DeadlineWork<Self>) {
        let now = monotonic_ns();
        *self.next.lock() = u64::MAX;
        let mut next = u64::MAX;
        // Without memory to look, soon again.
        let slots = self.slots();
        if slots.is_err() {
            next = now.saturating_add(AGAIN_NS);
        }
        for slot in slots.iter().flatten() {
            let Some(run) = slot.run() else { continue };
            // Relaxed: as they are written.
            let lease = run.lease_ns.load(Relaxed);
            if run.state().phase != RUNNING {
                if lease <= now {
                    *slot.place.lock() = Placed::Nothing;
                } else {
                    next = next.min(lease);
                }
                continue;
            }
            if run.deadline_ns <= now {
                run.to_end(REASON_TIME);
            } else if lease <= now {
                run.to_end(REASON_ALONE);
            }
            if run.reason.load(Relaxed) == REASON_NONE {
                next = next.min(run.deadline_ns).min(lease);
            } else {
                // Once is not enough: its process may not have been in the group yet.
                slot.kill();
                next = next.min(now.saturating_add(AGAIN_NS));
            }
        }
        if next != u64::MAX {
            let mut at = self.next.lock();
            if next < *at {
                *at = next;
                work.arm(next);
            }
        }
    }
}

/// The programs. Drop kills what runs, and waits for it.
pub(crate) struct Programs {
    watch: Pin<KBox<DeadlineWork<Shared>>>,
    workers: OwnedQueue,
}

/// What a worker does: one run, from its beginning to its end.
fn work(run: &Run, slot: &Slot, entry: &Entry, arguments: &[u8], input: &OwnedFile) {
    let before = slot.used().unwrap_or_default();
    let result = entry.path().and_then(|path| {
        let program = Program {
            path,
            arguments,
            environment: ENVIRONMENT,
            streams: [input, &run.out, &run.err],
            group: &slot.procs,
            user: &entry.user,
            gid: entry.gid,
            file_bytes: run.limits.output,
        };
        program.run()
    });
    let cleared = slot.clear();
    let used = slot.used().unwrap_or(before);
    let used = Used {
        user_us: used.user_us.saturating_sub(before.user_us),
        system_us: used.system_us.saturating_sub(before.system_us),
    };
    match result {
        Ok(status) => run.finish(ENDED, status, used, slot.peak()),
        Err(error) => run.finish(FAILED, error.to_errno().unsigned_abs(), used, slot.peak()),
    }
    if cleared.is_err() {
        pr_err!("the processes of a program did not end; its control group is not used any more\n");
        *slot.place.lock() = Placed::Broken;
    }
}

impl Programs {
    /// No programs, for the time being. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let empty = Setup {
            entries: None,
            lent: KVec::new(),
            group: KVec::new(),
            slots: KVec::new(),
            at_once: 0,
        };
        let shared = Arc::pin_init(
            pin_init!(Shared {
                setup <- kernel::new_mutex!(empty, "virgo_programs"),
                next <- kernel::new_mutex!(u64::MAX, "virgo_programs_next"),
            }),
            GFP_KERNEL,
        )?;
        let watch = KBox::pin_init(
            DeadlineWork::new(c"virgo_programs", kernel::static_lock_class!(), shared),
            GFP_KERNEL,
        )?;
        // Each run has a worker while it lasts.
        let workers = OwnedQueue::pool(c"virgo_programs", 512)?;
        Ok(Programs { watch, workers })
    }

    fn shared(&self) -> &Shared {
        self.watch.handler()
    }

    /// Keeps the caller's credentials, for programs that are to run as its user: a process of each
    /// such user lends them before the table is set. `EINVAL` for root or another user namespace,
    /// `ENOSPC`. May sleep.
    pub(crate) fn lend(&self) -> Result {
        let lent = Arc::new(Lent::by_caller()?, GFP_KERNEL)?;
        if matches!(lent.uid(), 0 | u32::MAX) {
            return Err(EINVAL);
        }
        let mut setup = self.shared().setup.lock();
        if let Some(known) = setup
            .lent
            .iter_mut()
            .find(|known| known.uid() == lent.uid())
        {
            *known = lent;
            return Ok(());
        }
        if setup.lent.len() >= MAX_USERS {
            return Err(ENOSPC);
        }
        Ok(setup.lent.push(lent, GFP_KERNEL)?)
    }

    fn lent(&self) -> Result<KVec<Arc<Lent>>> {
        let setup = self.shared().setup.lock();
        let mut lent = KVec::with_capacity(setup.lent.len(), GFP_KERNEL)?;
        for one in setup.lent.iter() {
            lent.push(one.clone(), GFP_KERNEL)?;
        }
        Ok(lent)
    }

    /// Sets the table up, or with no entries takes it away; runs go on. `EINVAL` for an entry that
    /// cannot be or two of one name, `EBUSY` for another group while programs run, `EOPNOTSUPP`
    /// where this kernel runs no programs or the group is none of version 2, or why the group's files
    /// cannot be opened. Called by who may set the machine up. Sleeps.
    pub(crate) fn set(&self, raw: &[CpupoolProgram], group: &[u8], at_once: usize) -> Result {
        if raw.is_empty() {
            self.shared().setup.lock().entries = None;
            return Ok(());
        }
        if !program::available() {
            return Err(eopnotsupp());
        }
        if raw.len() > MAX_PROGRAMS
            || !(1..=MAX_SLOTS).contains(&at_once)
            || group.is_empty()
            || group.len() > GROUP_MAX
        {
            return Err(EINVAL);
        }
        let lent = self.lent()?;
        let mut entries: KVec<Entry> = KVec::with_capacity(raw.len(), GFP_KERNEL)?;
        for raw in raw {
            let entry = Entry::new(raw, &lent)?;
            let again = |other: &Entry| other.name == entry.name || other.path == entry.path;
            if entries.iter().any(again) {
                return Err(EINVAL);
            }
            entries.push(entry, GFP_KERNEL)?;
        }
        let entries = Arc::new(entries, GFP_KERNEL)?;
        let mut group_z = copied(group)?;
        group_z.push(0, GFP_KERNEL)?;
        let name = CStr::from_bytes_with_nul(&group_z).map_err(|_| EINVAL)?;
        let root = Place::folder(name)?;
        if root.statfs()?.kind != CGROUP2 {
            return Err(eopnotsupp());
        }
        let mut fresh = KVec::with_capacity(at_once, GFP_KERNEL)?;
        for index in 0..at_once {
            let mut digits = [0; 20];
            // CAST: usize fits u64.
            fresh.push(
                Slot::open(&root, decimal(index as u64, &mut digits))?,
                GFP_KERNEL,
            )?;
        }
        let shared = self.shared();
        let mut setup = shared.setup.lock();
        if *setup.group == *group {
            // Those that are there stay what they are; more may come behind.
            let known = setup.slots.len();
            if at_once > known {
                setup
                    .slots
                    .reserve(at_once.saturating_sub(known), GFP_KERNEL)?;
                for slot in fresh.into_iter().skip(known) {
                    setup.slots.push(slot, GFP_KERNEL)?;
                }
            }
        } else {
            let runs =
                |slot: &Arc<Slot>| slot.run().is_some_and(|run| run.state().phase == RUNNING);
            if setup.slots.iter().any(runs) {
                return Err(EBUSY);
            }
            setup.group = copied(group)?;
            setup.slots = fresh;
        }
        setup.at_once = at_once;
        setup.entries = Some(entries);
        Ok(())
    }

    /// The table, as the uAPI has it.
    pub(crate) fn list(&self, output: &mut RemoteReply) -> Result {
        let entries = self.shared().setup.lock().entries.clone();
        for entry in entries.iter().flat_map(|entries| entries.iter()) {
            let mut raw = CpupoolProgram {
                uid: entry.user.uid(),
                gid: entry.gid,
                time_ms: entry.limits.time_ms,
                processes: entry.limits.processes,
                memory: entry.limits.memory,
                output: entry.limits.output,
                runs: entry.runs.load(Relaxed),
                ..Default::default()
            };
            for (to, from) in raw.name.iter_mut().zip(entry.name.iter()) {
                *to = *from;
            }
            for (to, from) in raw.path.iter_mut().zip(entry.path.iter()) {
                *to = *from;
            }
            output.push(bytes_of(&raw))?;
        }
        Ok(())
    }

    /// Those that run, and that have ended and not been told all.
    pub(crate) fn runs(&self, output: &mut RemoteReply) -> Result {
        for slot in self.shared().slots()?.iter() {
            let Some(run) = slot.run() else { continue };
            let state = run.state();
            if state.told {
                continue;
            }
            let (out, err) = run.lengths()?;
            let end = if state.phase == RUNNING {
                monotonic_ns()
            } else {
                state.ended_ns
            };
            let mut raw = CpupoolRun {
                id: run.id,
                elapsed_ns: end.saturating_sub(run.started_ns),
                out_bytes: out,
                err_bytes: err,
                uid: run.uid,
                state: state.phase,
                reason: run.reason.load(Relaxed),
                ..Default::default()
            };
            for (to, from) in raw.name.iter_mut().zip(run.name.iter()) {
                *to = *from;
            }
            output.push(bytes_of(&raw))?;
        }
        Ok(())
    }

    /// Starts a program; the run's number.
    ///
    /// `EOPNOTSUPP`: no programs are set up; `EACCES`: it is not in the table; `EPERM`, `ELOOP`,
    /// `ENOENT`: what is there is not what may be run; `EBUSY`: as many run as may; `EMSGSIZE`: the
    /// input is longer than memory allows. Sleeps.
    pub(crate) fn start(&self, start: &Start<'_>) -> Result<u64> {
        if !are_arguments(start.arguments) {
            return Err(EINVAL);
        }
        let shared = self.shared();
        let (entries, at_once) = {
            let setup = shared.setup.lock();
            (setup.entries.clone().ok_or(eopnotsupp())?, setup.at_once)
        };
        let wanted = first(start.arguments);
        let (which, entry) = entries
            .iter()
            .enumerate()
            .find(|(_, entry)| entry.is(wanted))
            .ok_or(EACCES)?;
        program::check(entry.path()?).map_err(|error| match error {
            // Not to be taken for a program that is not in the table.
            error if error == EACCES => EPERM,
            error => error,
        })?;
        let limits = start.limits.within(&entry.limits);
        // CAST: usize fits u64.
        if start.input.len() as u64 > limits.memory {
            return Err(emsgsize());
        }
        let input = program::memory_file()?;
        if !start.input.is_empty() {
            input.write_at(start.input, 0)?;
        }
        let mut arguments: KVVec<u8> = KVVec::with_capacity(start.arguments.len(), GFP_KERNEL)?;
        arguments.extend_from_slice(start.arguments, GFP_KERNEL)?;
        let (out, err) = (program::memory_file()?, program::memory_file()?);
        let now = monotonic_ns();
        let deadline_ns = now.saturating_add(u64::from(limits.time_ms).saturating_mul(1_000_000));
        let lease_ns = now.saturating_add(LEASE_NS);
        // The slot's place is the number's last byte.
        let random = random_u64() & 0x7fff_ffff_ffff_ff00;
        let name = copied(&entry.name)?;
        let uid = entry.user.uid();
        let new = |index: usize| {
            Arc::pin_init(
                pin_init!(Run {
                    // CAST: usize fits u64.
                    id: random | index as u64,
                    name,
                    uid,
                    started_ns: now,
                    deadline_ns,
                    limits,
                    lease_ns: Atomic::new(lease_ns),
                    reason: Atomic::new(REASON_NONE),
                    out,
                    err,
                    state <- kernel::new_mutex!(
                        State {
                            phase: RUNNING,
                            status: 0,
                            ended_ns: 0,
                            used: Used::default(),
                            peak: 0,
                            told: false,
                        },
                        "virgo_program_run"
                    ),
                    ended <- kernel::new_condvar!("virgo_program_ended"),
                }),
                GFP_KERNEL,
            )
        };
        let (slot, run) = self.claim(at_once, new)?;
        let id = run.id;
        let begun = slot.prepare(&limits).and_then(|()| {
            let (run, slot, entries) = (run.clone(), slot.clone(), entries.clone());
            self.workers.spawn(move || {
                if let Some(entry) = entries.get(which) {
                    work(&run, &slot, entry, &arguments, &input);
                }
            })
        });
        if let Err(error) = begun {
            *slot.place.lock() = Placed::Nothing;
            return Err(error);
        }
        // Relaxed: a statistic.
        entry.runs.fetch_add(1, Relaxed);
        self.look_at(deadline_ns.min(lease_ns));
        Ok(id)
    }

    /// Takes a slot: one that is free, or whose run has been told of.
    fn claim(
        &self,
        at_once: usize,
        new: impl FnOnce(usize) -> Result<Arc<Run>>,
    ) -> Result<(Arc<Slot>, Arc<Run>)> {
        let slots = self.shared().slots()?;
        for (index, slot) in slots.iter().take(at_once).enumerate() {
            let mut place = slot.place.lock();
            let free = match &*place {
                Placed::Nothing => true,
                Placed::Run(run) => run.state().told,
                Placed::Broken => false,
            };
            if free {
                let run = new(index)?;
                *place = Placed::Run(run.clone());
                drop(place);
                return Ok((slot.clone(), run));
            }
        }
        Err(EBUSY)
    }

    /// Has the watch look at this time at the latest.
    fn look_at(&self, due_ns: u64) {
        let mut next = self.shared().next.lock();
        if due_ns < *next {
            *next = due_ns;
            self.watch.arm(due_ns);
        }
    }

    fn find(&self, id: u64) -> Result<(Arc<Slot>, Arc<Run>)> {
        // CAST: a byte.
        let index = (id & 0xff) as usize;
        let slot = self.shared().setup.lock().slots.get(index).cloned();
        let slot = slot.ok_or(ESRCH)?;
        let run = slot.run().filter(|run| run.id == id).ok_or(ESRCH)?;
        Ok((slot, run))
    }

    /// How a run goes on: waits until it has written something new, has ended, or the time is over.
    /// `ESRCH`: no such run (any more); `EINTR`. Sleeps.
    pub(crate) fn follow(&self, follow: &Follow, output: &mut RemoteReply) -> Result {
        let (_, run) = self.find(follow.id)?;
        let wait_ns = u64::from(follow.wait_ms).saturating_mul(1_000_000);
        let until = monotonic_ns().saturating_add(wait_ns);
        // Relaxed: the watch looks again.
        run.lease_ns.store(until.saturating_add(LEASE_NS), Relaxed);
        let mut nap = 1;
        let (state, (out, err)) = loop {
            let mut state = run.state.lock();
            let now = monotonic_ns();
            let copy = *state;
            // What a program that has ended has written is all there.
            let lengths = run.lengths()?;
            let news = lengths.0 > follow.out_at || lengths.1 > follow.err_at;
            if copy.phase != RUNNING || news || now >= until {
                break (copy, lengths);
            }
            let left = until.saturating_sub(now).div_ceil(1_000_000).min(nap);
            nap = nap.saturating_mul(2).min(LOOK_MS.into());
            // CAST: at most LOOK_MS.
            let jiffies = msecs_to_jiffies(left as u32).max(1);
            let woken = run.ended.wait_interruptible_timeout(&mut state, jiffies);
            if matches!(woken, kernel::sync::CondVarTimeoutResult::Signal { .. }) {
                return Err(EINTR);
            }
        };
        // CAST: u32 fits u64.
        let room = output
            .limit()
            .saturating_sub(PROGRESS)
            .checked_div(2)
            .unwrap_or(0);
        let limit = u64::from(follow.limit).min(room as u64);
        let new = |length: u64, at: u64| length.saturating_sub(at).min(limit);
        let (out_new, err_new) = (new(out, follow.out_at), new(err, follow.err_at));
        let more = out.saturating_sub(follow.out_at) > out_new
            || err.saturating_sub(follow.err_at) > err_new;
        let end = if state.phase == RUNNING {
            monotonic_ns()
        } else {
            state.ended_ns
        };
        let progress = Progress {
            state: state.phase,
            status: state.status,
            reason: run.reason.load(Relaxed),
            // Both at most the limit, a u32.
            out_length: u32::try_from(out_new).unwrap_or(0),
            err_length: u32::try_from(err_new).unwrap_or(0),
            more: more.into(),
            elapsed_ns: end.saturating_sub(run.started_ns),
            user_ns: state.used.user_us.saturating_mul(1000),
            system_ns: state.used.system_us.saturating_mul(1000),
            peak_bytes: state.peak,
        };
        output.push(&progress.encode())?;
        for (file, at, length) in [
            (&run.out, follow.out_at, out_new),
            (&run.err, follow.err_at, err_new),
        ] {
            // CAST: at most a u32.
            let length = length as usize;
            if length == 0 {
                continue;
            }
            let mut piece: KVVec<u8> = zeroed(length, GFP_KERNEL)?;
            // A program that makes its own output shorter gets zeros in it.
            file.read_at(&mut piece, at)?;
            output.push(&piece)?;
        }
        if state.phase != RUNNING && !more {
            run.state.lock().told = true;
        }
        Ok(())
    }

    /// Kills a run. `ESRCH`: no such run (any more). May sleep.
    pub(crate) fn kill(&self, id: u64) -> Result {
        let (slot, run) = self.find(id)?;
        if run.state().phase == RUNNING {
            run.to_end(REASON_KILL);
            slot.kill();
            self.look_at(monotonic_ns().saturating_add(AGAIN_NS));
        }
        Ok(())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // Nobody starts any more: the doors are closed. The watch kills again what has to be.
        let setup = self.shared().setup.lock();
        for slot in setup.slots.iter() {
            if let Some(run) = slot.run() {
                run.to_end(REASON_UNLOAD);
                slot.kill();
            }
        }
        drop(setup);
        self.look_at(monotonic_ns().saturating_add(AGAIN_NS));
        // While the watch still looks.
        loop {
            let busy = self
                .shared()
                .setup
                .lock()
                .slots
                .iter()
                .any(|slot| slot.run().is_some_and(|run| run.state().phase == RUNNING));
            if !busy {
                return;
            }
            fsleep(Delta::from_millis(5));
        }
    }
}
