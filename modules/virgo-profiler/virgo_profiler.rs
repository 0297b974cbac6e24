// SPDX-License-Identifier: GPL-2.0-only

//! virgo-profiler: page faults, CPU time and memory of processes, sampled at a steady rate into a
//! buffer that programs map; and the history of chosen processes' page faults.

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
mod edges;
mod history;
mod ring;
mod sampler;
mod stream;
mod tracer;

use control::Profiler;
use device::{
    ProfilerFile,
    Shared, //
};
use history::HistoryFile;
use lib::{
    chardev::Device,
    compat::param,
    module::checked,
    procfs::{
        ProcDir,
        ProcEntry,
        StreamEntry, //
    },
    service::Registration,
    setting::{
        self,
        Setting, //
    }, //
};
use proto::uapi;
use sampler::Sampler;
use tracer::Tracer;

module! {
    type: VirgoProfiler,
    name: "virgo_profiler",
    authors: ["The VIRGO authors"],
    description: "VIRGO: page faults, CPU time and memory of processes, sampled and traced",
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
        max_traces: u32 {
            default: 64,
            description: "most page-fault traces at a time (1-4096, default 64)",
        },
        trace_kb: u32 {
            default: 8192,
            description: "most memory of one trace's unread records, in KiB (8-1048576, default 8192)",
        },
    },
}
virgo_module_version!();

/// The rate, as virgo-analytics may set it.
const RATE: setting::Spec = setting::Spec {
    name: "profiler.rate",
    reader: "virgo-profiler: sampling rounds a second",
    kind: setting::Kind::Int {
        // CAST: 1 and 1000.
        low: uapi::PROFILER_RATE_MIN as i64,
        high: uapi::PROFILER_RATE_MAX as i64,
    },
};

fn set_rate(profiler: &Profiler, rate_hz: i64) -> Result {
    profiler.set_rate(u32::try_from(rate_hz).map_err(|_| ERANGE)?)
}

/// The traces' file. Drop sends those away who wait in it before it is removed.
struct History {
    _file: StreamEntry<HistoryFile>,
    tracer: Arc<Tracer>,
}

impl Drop for History {
    fn drop(&mut self) {
        self.tracer.close();
    }
}

/// Fields are dropped in this order: first the doors close, then the sampling stops.
#[pin_data]
struct VirgoProfiler {
    rate: Setting<Profiler>,
    history: History,
    trace_dir: ProcDir,
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

            let traces = param::<u32>(module_parameters::max_traces.value());
            let trace_kb = param::<u32>(module_parameters::trace_kb.value());
            let traces = checked("max_traces", traces, 1, 4096)?;
            let trace_kb = checked("trace_kb", trace_kb, 8, 1 << 20)?;
            // CAST: u32 fits usize on 64-bit; at most a GiB.
            let tracer = Tracer::new(traces, (trace_kb as usize).saturating_mul(1024));
            let tracer = Arc::pin_init(tracer, GFP_KERNEL)?;

            let sampler = Arc::pin_init(Sampler::new(pages, rate, tasks), GFP_KERNEL)?;
            let key = kernel::static_lock_class!();
            let profiler = Arc::pin_init(Profiler::new(key, sampler), GFP_KERNEL)?;
            let shared = Arc::new(Shared::new(profiler.clone()), GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                proc: ProcDir::new(c"virgo/profiler")?,
                // From here on requests come in, each door as it opens.
                status: ProcEntry::new(c"virgo/profiler/status", 0o666, profiler.clone())?,
                service: Registration::new(profiler.clone())?,
                device <- Device::new(shared),
                trace_dir: ProcDir::new(c"virgo/trace")?,
                history: History {
                    _file: StreamEntry::new(c"virgo/trace/history", 0o666, tracer.clone())?,
                    tracer,
                },
                rate: Setting::new(&RATE, rate.into(), profiler, set_rate)?,
            }? Error))
        })
    }
}
