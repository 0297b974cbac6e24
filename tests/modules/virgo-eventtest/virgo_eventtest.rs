// SPDX-License-Identifier: GPL-2.0-only

//! A module for tests alone: tells events, as many and as fast as it is told to.
//!
//! What is written to /proc/virgo/eventtest is done in the writer's context: `log COUNT` tells so
//! many events of virgo-queue, numbered, with a lock held that forbids sleeping; `chain COUNT` has
//! each be the cause of the next; `seen STAMP` shows the clock a stamp; `message TEXT` sends one by
//! the original's function. What is read is a line for
//! each number of the last: how long it took, how many had a stamp.

#[path = "../../../modules/lib/mod.rs"]
mod lib;
#[path = "../../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

use kernel::{
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    str::CString,
    sync::Arc, //
};

use lib::{
    event::{
        self,
        EventId, //
    },
    procfs::{
        ProcEntry,
        ProcFile, //
    },
    service::Module,
    spinlock::BhSpinLock,
    time::monotonic_ns, //
};

module! {
    type: Eventtest,
    name: "virgo_eventtest",
    authors: ["The VIRGO developers"],
    description: "VIRGO: tells events, for the tests of virgo-eventnet",
    license: "GPL",
    imports_ns: ["VIRGO"],
}
virgo_module_version!();

/// What the last command came to.
#[derive(Clone, Copy, Default)]
struct Numbers {
    ns: u64,
    stamped: u64,
    first: u64,
    last: u64,
}

/// Does it.
#[pin_data]
struct Teller {
    #[pin]
    numbers: BhSpinLock<Numbers>,
}

/// Eight decimal digits.
fn digits(mut number: u64) -> [u8; 8] {
    let mut text = [b'0'; 8];
    for place in text.iter_mut().rev() {
        // CAST: below 10.
        *place = b'0' + (number % 10) as u8; // OVERFLOW: at most '9'.
        number /= 10;
    }
    text
}

impl Teller {
    fn log(&self, count: u64, chain: bool) {
        // Softirqs are off, nothing may sleep.
        let mut numbers = self.numbers.lock();
        *numbers = Numbers::default();
        let mut cause = EventId::NONE;
        let begin = monotonic_ns();
        for number in 0..count {
            let subject = digits(number);
            let id = event::log(Module::Queue, b"test", &subject, cause);
            if id.stamp != 0 {
                numbers.stamped = numbers.stamped.saturating_add(1);
                numbers.last = id.stamp;
                if numbers.first == 0 {
                    numbers.first = id.stamp;
                }
            }
            if chain {
                cause = id;
            }
        }
        numbers.ns = monotonic_ns().saturating_sub(begin);
    }
}

impl ProcFile for Teller {
    const WRITABLE: bool = true;

    fn show(&self, out: &SeqFile) -> Result {
        let numbers = *self.numbers.lock();
        seq_print!(out, "ns {}\n", numbers.ns);
        seq_print!(out, "stamped {}\n", numbers.stamped);
        seq_print!(out, "first {}\n", numbers.first);
        seq_print!(out, "last {}\n", numbers.last);
        Ok(())
    }

    fn write(&self, _file: &File, text: &[u8]) -> Result {
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        let (word, number) = text.trim().split_once(' ').ok_or(EINVAL)?;
        if word == "message" {
            let message = CString::try_from_fmt(fmt!("{}", number))?;
            let _atomic = self.numbers.lock();
            return event::message(&message);
        }
        let number: u64 = number.parse().map_err(|_| EINVAL)?;
        match word {
            "log" => self.log(number.min(10_000_000), false),
            "chain" => self.log(number.min(10_000_000), true),
            "seen" => {
                let stamp = event::seen(number);
                *self.numbers.lock() = Numbers {
                    first: stamp,
                    last: event::stamp(),
                    ..Numbers::default()
                };
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}

struct Eventtest {
    _file: ProcEntry<Teller>,
}

impl kernel::Module for Eventtest {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let teller = Arc::pin_init(
            pin_init!(Teller {
                numbers <- new_bh_spinlock!(Numbers::default(), c"virgo_eventtest"),
            }),
            GFP_KERNEL,
        )?;
        Ok(Eventtest {
            _file: ProcEntry::new(c"virgo/eventtest", 0o600, teller)?,
        })
    }
}
