// SPDX-License-Identifier: GPL-2.0-only

//! A module for tests alone: checks of modules/lib from the inside.
//!
//! Reading /proc/virgo/libtest runs the checks and tells each on a line, `ok NAME` or
//! `FAIL NAME: what`. Writing `hold` to it pins this module's own service until `release`; writing
//! `queue` pushes requests to virgo-queue and pops them.
//! On /dev/virgo it answers command 0x10 (cpupool's first) with 42.

use core::sync::atomic::{
    AtomicU32,
    AtomicU64,
    Ordering, //
};

use kernel::{
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        new_mutex,
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

#[path = "../../../modules/lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

use lib::{
    compat::eloop,
    file::{
        Access,
        OwnedFile, //
    },
    kthread::{
        KThread,
        Stop, //
    },
    procfs::{
        ProcEntry,
        ProcFile, //
    },
    service::{
        self,
        Module,
        Provider,
        Registration,
        Service, //
    },
    time::monotonic_ns,
    workqueue::{
        DeadlineHandler,
        DeadlineWork,
        OwnedQueue, //
    },
};

module! {
    type: Libtest,
    name: "virgo_libtest",
    authors: ["The VIRGO authors"],
    description: "VIRGO: tests of modules/lib",
    license: "GPL",
    imports_ns: ["VIRGO"],
}

type Check = core::result::Result<(), &'static CStr>;

fn ensure(condition: bool, otherwise: &'static CStr) -> Check {
    if condition {
        Ok(())
    } else {
        Err(otherwise)
    }
}

/// Waits until `condition` holds, at most two seconds.
fn eventually(mut condition: impl FnMut() -> bool, otherwise: &'static CStr) -> Check {
    let deadline = monotonic_ns().saturating_add(2_000_000_000);
    while !condition() {
        if monotonic_ns() > deadline {
            return Err(otherwise);
        }
        fsleep(Delta::from_micros(200));
    }
    Ok(())
}

fn no_memory<E>(_: E) -> &'static CStr {
    c"no memory"
}

/// Tells when it is dropped.
struct Witness(Arc<AtomicU32>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn kthread_runs_and_stops_while_it_waits() -> Check {
    let dropped = Arc::new(AtomicU32::new(0), GFP_KERNEL).map_err(no_memory)?;
    let ran = Arc::new(AtomicU32::new(0), GFP_KERNEL).map_err(no_memory)?;
    let (witness, told) = (Witness(dropped.clone()), ran.clone());
    let thread = KThread::spawn(c"virgo_libtest", move |stop: &Stop| {
        told.store(1, Ordering::SeqCst);
        stop.wait();
        told.store(2, Ordering::SeqCst);
        drop(witness);
    })
    .map_err(no_memory)?;
    eventually(|| ran.load(Ordering::SeqCst) == 1, c"it did not run")?;
    ensure(dropped.load(Ordering::SeqCst) == 0, c"it did not wait")?;
    drop(thread);
    ensure(
        ran.load(Ordering::SeqCst) == 2,
        c"drop did not wait for its end",
    )?;
    ensure(
        dropped.load(Ordering::SeqCst) == 1,
        c"its closure was not dropped once",
    )
}

fn kthread_stopped_at_once_frees_its_closure() -> Check {
    let dropped = Arc::new(AtomicU32::new(0), GFP_KERNEL).map_err(no_memory)?;
    for round in 0..200 {
        let witness = Witness(dropped.clone());
        let thread = KThread::spawn(c"virgo_libtest", move |stop: &Stop| {
            stop.wait();
            drop(witness);
        })
        .map_err(no_memory)?;
        drop(thread);
        // Whether it ran or was stopped before it could.
        ensure(
            dropped.load(Ordering::SeqCst) == round + 1,
            c"a closure was not dropped once",
        )?;
    }
    Ok(())
}

fn kthread_may_end_by_itself() -> Check {
    let ran = Arc::new(AtomicU32::new(0), GFP_KERNEL).map_err(no_memory)?;
    let told = ran.clone();
    let thread = KThread::spawn(c"virgo_libtest", move |_: &Stop| {
        told.fetch_add(1, Ordering::SeqCst);
    })
    .map_err(no_memory)?;
    eventually(|| ran.load(Ordering::SeqCst) == 1, c"it did not run")?;
    drop(thread);
    Ok(())
}

fn queue_runs_closures_and_drop_waits() -> Check {
    let ran = Arc::new(AtomicU32::new(0), GFP_KERNEL).map_err(no_memory)?;
    let queue = OwnedQueue::new(c"virgo_libtest", 2).map_err(no_memory)?;
    for _ in 0..100 {
        let told = ran.clone();
        queue
            .spawn(move || {
                fsleep(Delta::from_micros(100));
                told.fetch_add(1, Ordering::SeqCst);
            })
            .map_err(no_memory)?;
    }
    drop(queue);
    ensure(
        ran.load(Ordering::SeqCst) == 100,
        c"drop did not wait for all",
    )
}

/// Runs `left` times, a millisecond apart; notes when.
struct Beats {
    left: AtomicU32,
    ran: AtomicU32,
    early: AtomicU32,
    due_ns: AtomicU64,
}

impl DeadlineHandler for Beats {
    fn run(&self, work: &DeadlineWork<Self>) {
        let due = self.due_ns.load(Ordering::SeqCst);
        if monotonic_ns() < due {
            self.early.fetch_add(1, Ordering::SeqCst);
        }
        self.ran.fetch_add(1, Ordering::SeqCst);
        if self.left.load(Ordering::SeqCst) > 0 {
            self.left.fetch_sub(1, Ordering::SeqCst);
            let next = due.saturating_add(1_000_000);
            self.due_ns.store(next, Ordering::SeqCst);
            work.arm(next);
        }
    }
}

fn beats(
    left: u32,
) -> core::result::Result<(Arc<Beats>, Pin<KBox<DeadlineWork<Beats>>>), &'static CStr> {
    let beats = Arc::new(
        Beats {
            left: AtomicU32::new(left),
            ran: AtomicU32::new(0),
            early: AtomicU32::new(0),
            due_ns: AtomicU64::new(0),
        },
        GFP_KERNEL,
    )
    .map_err(no_memory)?;
    let work = KBox::pin_init(
        DeadlineWork::new(
            c"virgo_libtest",
            kernel::static_lock_class!(),
            beats.clone(),
        ),
        GFP_KERNEL,
    )
    .map_err(no_memory)?;
    Ok((beats, work))
}

fn deadline_work_runs_when_due_and_not_before() -> Check {
    let (beats, work) = beats(49)?;
    let first = monotonic_ns().saturating_add(3_000_000);
    beats.due_ns.store(first, Ordering::SeqCst);
    work.arm(first);
    eventually(
        || beats.ran.load(Ordering::SeqCst) == 50,
        c"it did not run as often as it was armed",
    )?;
    ensure(
        beats.early.load(Ordering::SeqCst) == 0,
        c"it ran before it was due",
    )?;
    let elapsed = monotonic_ns().saturating_sub(first);
    ensure(elapsed >= 49_000_000, c"the deadlines were not kept")
}

fn deadline_work_dropped_never_runs_again() -> Check {
    for _ in 0..100 {
        let (beats, work) = beats(u32::MAX)?;
        let now = monotonic_ns();
        beats.due_ns.store(now, Ordering::SeqCst);
        work.arm(now);
        drop(work);
        let ran = beats.ran.load(Ordering::SeqCst);
        fsleep(Delta::from_micros(50));
        ensure(
            beats.ran.load(Ordering::SeqCst) == ran,
            c"it ran after it was dropped",
        )?;
    }
    // One that is due in an hour.
    let (beats, work) = beats(0)?;
    work.arm(monotonic_ns().saturating_add(3_600_000_000_000));
    drop(work);
    ensure(
        beats.ran.load(Ordering::SeqCst) == 0,
        c"it ran before it was due",
    )
}

fn file_holds_what_was_written() -> Check {
    let root = c"/tmp";
    let name = c"virgo-libtest";
    let failed = |_: Error| c"an operation failed";
    let file = OwnedFile::open_in(root, name, Access::ReadWrite, 0o600).map_err(failed)?;
    file.write_at(b"hello, world", 0).map_err(failed)?;
    file.write_at(b"HELLO", 0).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    drop(file);
    let file = OwnedFile::open_in(root, name, Access::Append, 0o600).map_err(failed)?;
    file.write_at(b"!", 0).map_err(failed)?;
    drop(file);
    let file = OwnedFile::open_in(root, name, Access::Read, 0).map_err(failed)?;
    let mut text = [0_u8; 32];
    let count = file.read_at(&mut text, 0).map_err(failed)?;
    ensure(
        text.get(..count) == Some(b"HELLO, world!"),
        c"the content differs",
    )?;
    let count = file.read_at(&mut text, 7).map_err(failed)?;
    ensure(
        text.get(..count) == Some(b"world!"),
        c"the content at an offset differs",
    )?;
    ensure(
        file.write_at(b"x", 0) == Err(EBADF),
        c"a file opened to read was written",
    )
}

/// The guest test makes /tmp/libtest-root with a link `out` to /etc/passwd, a folder link `etc` to
/// /etc, and a file `in`.
fn file_names_stay_in_their_folder() -> Check {
    let root = c"/tmp/libtest-root";
    let open = |name| OwnedFile::open_in(root, name, Access::Read, 0).err();
    ensure(open(c"in").is_none(), c"the file inside cannot be opened")?;
    ensure(open(c"out") == Some(eloop()), c"a link was followed")?;
    ensure(open(c"../../etc/passwd").is_some(), c"'..' led out")?;
    ensure(open(c"/etc/passwd").is_some(), c"an absolute name led out")?;
    ensure(
        open(c"etc/passwd").is_some(),
        c"an absolute link to a folder led out",
    )
}

fn registry_refuses_tables_of_other_builds() -> Check {
    ensure(
        service::refusal(service::ABI.wrapping_add(1), 0) == Some(ENOEXEC),
        c"another version was not refused",
    )?;
    ensure(
        service::refusal(service::ABI, 8) == Some(ENOEXEC),
        c"another size was not refused",
    )
}

fn registry_finds_calls_and_is_unique(tests: &Tests) -> Check {
    ensure(
        Provider::find(Module::Mempool).is_none(),
        c"what is not loaded was found",
    )?;
    let provider = Provider::find(Module::Cpupool).ok_or(c"the service was not found")?;
    let mut output = [0_u8; 8];
    let count = provider
        .call(1, b"abc", &mut output)
        .map_err(|_| c"the call failed")?;
    ensure(output.get(..count) == Some(b"cba"), c"the answer differs")?;
    ensure(
        provider.call(2, b"", &mut output) == Err(EDOM),
        c"the provider's error was not told",
    )?;
    let again = Registration::new(tests.reverse.clone());
    ensure(
        again.err() == Some(EEXIST),
        c"a second service of one name was not refused",
    )
}

/// The service: turns bytes round.
struct Reverse;

impl Service for Reverse {
    const MODULE: Module = Module::Cpupool;

    fn ioctl(&self, command: u32, _argument: usize) -> Result<isize> {
        if command & 0xff == 0x10 {
            Ok(42)
        } else {
            Err(ENOTTY)
        }
    }

    fn call(&self, operation: u32, input: &[u8], output: &mut [u8]) -> Result<usize> {
        if operation != 1 {
            return Err(EDOM);
        }
        let mut count = 0;
        for (to, from) in output.iter_mut().zip(input.iter().rev()) {
            *to = *from;
            count += 1;
        }
        Ok(count)
    }
}

#[pin_data]
struct Tests {
    reverse: Arc<Reverse>,
    #[pin]
    held: Mutex<Option<Provider>>,
}

impl ProcFile for Tests {
    const WRITABLE: bool = true;

    fn show(&self, out: &SeqFile) -> Result {
        macro_rules! run {
            ($($check:ident $(($argument:expr))?),+ $(,)?) => { $(
                match $check($($argument)?) {
                    Ok(()) => seq_print!(out, "ok {}\n", stringify!($check)),
                    Err(what) => {
                        let what = what.to_str().unwrap_or("?");
                        seq_print!(out, "FAIL {}: {}\n", stringify!($check), what)
                    }
                }
            )+ };
        }
        run!(
            kthread_runs_and_stops_while_it_waits,
            kthread_stopped_at_once_frees_its_closure,
            kthread_may_end_by_itself,
            queue_runs_closures_and_drop_waits,
            deadline_work_runs_when_due_and_not_before,
            deadline_work_dropped_never_runs_again,
            file_holds_what_was_written,
            file_names_stay_in_their_folder,
            registry_refuses_tables_of_other_builds,
            registry_finds_calls_and_is_unique(self),
        );
        Ok(())
    }

    fn write(&self, _file: &File, text: &[u8]) -> Result {
        match text.trim_ascii() {
            b"hold" => {
                let provider = Provider::find(Module::Cpupool).ok_or(ENODEV)?;
                *self.held.lock() = Some(provider);
                Ok(())
            }
            b"queue" => push_and_pop(),
            b"release" => {
                let held = self.held.lock().take();
                drop(held);
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }
}

/// Pushes requests to virgo-queue as any module can, and pops them. `EILSEQ` where an answer is not
/// what it should be.
fn push_and_pop() -> Result {
    let wrong = || Error::from_errno(-84);
    let queue = Provider::find(Module::Queue).ok_or(ENODEV)?;
    let push = |pri: u32, body: &[u8]| -> Result<u64> {
        let mut input = KVec::new();
        for number in [pri, 0, 60, 7] {
            input.extend_from_slice(&number.to_le_bytes(), GFP_KERNEL)?;
        }
        input.extend_from_slice(b"libtest", GFP_KERNEL)?;
        input.extend_from_slice(body, GFP_KERNEL)?;
        let mut id = [0; 8];
        if queue.call(1, &input, &mut id)? != 8 {
            return Err(wrong());
        }
        Ok(u64::from_le_bytes(id))
    };
    let mut output = [0; 64];
    if queue.call(2, b"libtest", &mut output) != Err(EAGAIN) {
        return Err(wrong());
    }
    let later = push(5, b"later")?;
    let sooner = push(1, b"sooner")?;
    // There is no room for it: it stays.
    let mut small = [0; 10];
    if queue.call(2, b"libtest", &mut small) != Err(lib::compat::emsgsize()) {
        return Err(wrong());
    }
    for (id, body) in [(sooner, &b"sooner"[..]), (later, b"later")] {
        let length = queue.call(2, b"libtest", &mut output)?;
        let told = output.get(..length).unwrap_or(&[]);
        if told.get(..8) != Some(&id.to_le_bytes()) || told.get(8..) != Some(body) {
            return Err(wrong());
        }
    }
    if queue.call(2, b"libtest", &mut output) != Err(EAGAIN) {
        return Err(wrong());
    }
    for bad in [&b""[..], b"\0\0\0\0", &[0xff; 16]] {
        if queue.call(1, bad, &mut output) != Err(EINVAL) {
            return Err(wrong());
        }
    }
    match queue.call(3, b"", &mut output) {
        Err(error) if error == lib::compat::eopnotsupp() => Ok(()),
        _ => Err(wrong()),
    }
}

struct Libtest {
    _entry: ProcEntry<Tests>,
    _service: Registration<Reverse>,
}

impl kernel::Module for Libtest {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let reverse = Arc::new(Reverse, GFP_KERNEL)?;
        let shared = reverse.clone();
        let tests = Arc::pin_init(
            pin_init!(Tests {
                reverse: shared,
                held <- new_mutex!(None, "virgo_libtest_held"),
            }),
            GFP_KERNEL,
        )?;
        Ok(Libtest {
            _service: Registration::new(reverse)?,
            _entry: ProcEntry::new(c"virgo/libtest", 0o600, tests)?,
        })
    }
}
