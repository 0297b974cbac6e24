// SPDX-License-Identifier: GPL-2.0-only

//! virgo-profiler: page faults, CPU time and memory of processes, sampled at a steady rate into a
//! buffer that programs map.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-logic/src/imp/mod.rs"]
mod logic;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

mod control;
mod device;
mod ring;
mod sampler;

use control::Profiler;
use device::{
    ProfilerFile,
    Shared, //
};
use lib::{
    chardev::Device,
    compat::param,
    procfs::{
        ProcDir,
        ProcEntry, //
    },
    service::Registration, //
};
use proto::uapi;
use sampler::Sampler;

module! {
    type: VirgoProfiler,
    name: "virgo_profiler",
    authors: ["The VIRGO authors"],
    description: "VIRGO: page faults, CPU time and memory of processes, sampled",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        buffer_pages: u32 {
            default: 128,
            description: "size of the record buffer, in pages (1-65536, default 128)",
        },
        rate_hz: u32 {
            default: 20,
            description: "sampling rounds a second (1-1000, default 20)",
        },
        max_tasks: u32 {
            default: 16384,
            description: "most tasks that can be registered (1-1048576, default 16384)",
        },
    },
}
virgo_module_version!();

/// Checks a parameter; tells what is wrong with it.
fn checked(name: &str, value: u32, low: u32, high: u32) -> Result<u32> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    pr_err!(
        "parameter {} is {}: it must be {} to {}\n",
        name,
        value,
        low,
        high
    );
    Err(EINVAL)
}

/// Fields are dropped in this order: first the doors close, then the sampling stops.
#[pin_data]
struct VirgoProfiler {
    #[pin]
    device: Device<ProfilerFile>,
    service: Registration<Profiler>,
    status: ProcEntry<Profiler>,
    proc: ProcDir,
}

impl kernel::InPlaceModule for VirgoProfiler {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let pages = param::<u32>(module_parameters::buffer_pages.value());
            let rate = param::<u32>(module_parameters::rate_hz.value());
            let tasks = param::<u32>(module_parameters::max_tasks.value());
            let pages = checked("buffer_pages", pages, 1, 65536)?;
            let rate = checked(
                "rate_hz",
                rate,
                uapi::PROFILER_RATE_MIN,
                uapi::PROFILER_RATE_MAX,
            )?;
            let tasks = checked("max_tasks", tasks, 1, 1 << 20)?;

            let sampler = Arc::pin_init(Sampler::new(pages, rate, tasks), GFP_KERNEL)?;
            let key = kernel::static_lock_class!();
            let profiler = Arc::pin_init(Profiler::new(key, sampler), GFP_KERNEL)?;
            let shared = Arc::new(Shared::new(profiler.clone()), GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                proc: ProcDir::new(c"virgo/profiler")?,
                // From here on requests come in, each door as it opens.
                status: ProcEntry::new(c"virgo/profiler/status", 0o666, profiler.clone())?,
                service: Registration::new(profiler)?,
                device <- Device::new(shared),
            }? Error))
        })
    }
}
