// SPDX-License-Identifier: GPL-2.0-only

//! A module for tests alone: reads settings by virgo-analytics' functions, is told of changes, and
//! has a setting of its own, `settest.level` (0 to 100, at first 5; it refuses 77 with EIO).
//!
//! Writing `get KEY COUNT` to /proc/virgo/settest reads a setting so many times; `watch KEY` asks
//! to be told of its changes (`watch -`: of all), `unwatch` stops that. Reading the file tells what
//! came of it.

use kernel::{
    fs::File,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        Arc,
        Mutex, //
    }, //
};

#[path = "../../../modules/lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

use lib::{
    analytics::{
        self,
        Change,
        RawValue,
        Watch,
        Watching, //
    },
    procfs::{
        ProcEntry,
        ProcFile, //
    },
    setting::{
        self,
        Setting, //
    },
    time::monotonic_ns,
};

module! {
    type: Settest,
    name: "virgo_settest",
    authors: ["The VIRGO authors"],
    description: "VIRGO: reads and watches settings, for tests",
    license: "GPL",
    imports_ns: ["VIRGO"],
}

const LEVEL: setting::Spec = setting::Spec {
    name: "settest.level",
    reader: "virgo-settest: nothing",
    kind: setting::Kind::Int { low: 0, high: 100 },
};

#[derive(Default)]
struct Seen {
    value: RawValue,
    text: KVec<u8>,
    took_ns: u64,
    notices: u64,
    last: KVec<u8>,
    last_version: u64,
    out_of_order: u64,
    level: i64,
    applied: u64,
}

#[pin_data]
struct Told {
    #[pin]
    seen: Mutex<Seen>,
}

impl Watch for Told {
    fn changed(&self, change: &Change<'_>) {
        let mut seen = self.seen.lock();
        seen.notices = seen.notices.saturating_add(1);
        if change.version <= seen.last_version {
            seen.out_of_order = seen.out_of_order.saturating_add(1);
        }
        seen.last_version = change.version;
        // A reader without a lock sees what was told.
        let mut text = [0; 64];
        let read = analytics::get(change.key, &mut text);
        if read.is_ok_and(|value| value.version != change.version) {
            seen.out_of_order = seen.out_of_order.saturating_add(1000);
        }
        seen.last = KVec::new();
        for part in [change.key, b"=", change.text] {
            // Without memory the test fails.
            let _ = seen.last.extend_from_slice(part, GFP_KERNEL);
        }
    }
}

#[pin_data]
struct Tester {
    told: Arc<Told>,
    #[pin]
    watching: Mutex<Option<Watching<Told>>>,
}

fn shown(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("?")
}

impl ProcFile for Tester {
    const WRITABLE: bool = true;

    fn show(&self, out: &SeqFile) -> Result {
        let seen = self.told.seen.lock();
        seq_print!(
            out,
            "number={}\nversion={}\nkind={}\nlength={}\ntext={}\ntook_ns={}\n",
            seen.value.number,
            seen.value.version,
            seen.value.kind,
            seen.value.length,
            shown(&seen.text),
            seen.took_ns
        );
        seq_print!(
            out,
            "notices={}\nlast={}\nout_of_order={}\nlevel={}\napplied={}\n",
            seen.notices,
            shown(&seen.last),
            seen.out_of_order,
            seen.level,
            seen.applied
        );
        Ok(())
    }

    fn write(&self, _file: &File, text: &[u8]) -> Result {
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("get"), Some(key), Some(count)) => {
                let count: u64 = count.parse().map_err(|_| EINVAL)?;
                let mut value = RawValue::default();
                let start = monotonic_ns();
                for _ in 0..count {
                    value = analytics::get(key.as_bytes(), &mut [])?;
                }
                let took_ns = monotonic_ns().saturating_sub(start);
                let mut room = [0; 64];
                value = analytics::get(key.as_bytes(), &mut room).unwrap_or(value);
                // CAST: u32 fits usize on 64-bit.
                let length = (value.length as usize).min(room.len());
                let mut copy = KVec::new();
                copy.extend_from_slice(room.get(..length).unwrap_or(&[]), GFP_KERNEL)?;
                let mut seen = self.told.seen.lock();
                seen.value = value;
                seen.text = copy;
                seen.took_ns = took_ns;
                Ok(())
            }
            (Some("watch"), Some(key), None) => {
                let key = if key == "-" { "" } else { key };
                let watching = Watching::new(key.as_bytes(), self.told.clone())?;
                let old = self.watching.lock().replace(watching);
                drop(old);
                Ok(())
            }
            (Some("unwatch"), None, None) => {
                let old = self.watching.lock().take();
                drop(old);
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }
}

fn set_level(told: &Told, level: i64) -> Result {
    if level == 77 {
        return Err(EIO);
    }
    let mut seen = told.seen.lock();
    seen.level = level;
    seen.applied = seen.applied.saturating_add(1);
    Ok(())
}

/// Fields are dropped in this order.
struct Settest {
    _file: ProcEntry<Tester>,
    _level: Setting<Told>,
}

impl kernel::Module for Settest {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let told = Arc::pin_init(
            pin_init!(Told {
                seen <- kernel::new_mutex!(Seen { level: 5, ..Seen::default() }, "virgo_settest"),
            }),
            GFP_KERNEL,
        )?;
        let level = told.clone();
        let tester = Arc::pin_init(
            pin_init!(Tester {
                told,
                watching <- kernel::new_mutex!(None, "virgo_settest_watching"),
            }),
            GFP_KERNEL,
        )?;
        Ok(Settest {
            _level: Setting::new(&LEVEL, 5, level, set_level)?,
            _file: ProcEntry::new(c"virgo/settest", 0o600, tester)?,
        })
    }
}
