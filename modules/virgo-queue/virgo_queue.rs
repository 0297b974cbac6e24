// SPDX-License-Identifier: GPL-2.0-only

//! virgo-queue: requests that wait their turn, in tubes, by the beanstalkd protocol, by the
//! original's lines, and by ioctl.

use kernel::{
    prelude::*,
    str::CString,
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
mod log;
mod queue;
mod replies;
mod run;
mod server;
mod slab;
mod state;
mod stats;
mod text;

use control::{
    Control,
    QueueFile, //
};
use lib::{
    chardev::Device,
    compat::{
        eaddrinuse,
        param, //
    },
    listener::{
        Config,
        Listener, //
    },
    module::checked,
    service::Registration,
    setting::{
        self,
        Setting, //
    }, //
};
use log::{
    Policy,
    Settings, //
};
use queue::Core;
use run::Runner;
use server::Server;
use state::Limits;

module! {
    type: VirgoQueue,
    name: "virgo_queue",
    authors: ["The VIRGO authors"],
    description: "VIRGO: a queue of requests, by the beanstalkd protocol and by ioctl",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        listen: u8 {
            default: 1,
            description: "1: serve the port; 0: only push and pop from this machine (default 1)",
        },
        port: u16 {
            default: 60000,
            description: "port on 127.0.0.1 (1-65535, default 60000)",
        },
        max_connections: u32 {
            default: 1024,
            description: "most connections at once (1-1000000, default 1024)",
        },
        max_job_size: u32 {
            default: 65535,
            description: "most bytes of a request (1-16777216, default 65535)",
        },
        max_mb: u32 {
            default: 256,
            description: "most memory for requests, in MiB (1-1048576, default 256)",
        },
        max_tubes: u32 {
            default: 10000,
            description: "most tubes (1-1000000, default 10000)",
        },
        fsync_ms: u32 {
            default: 50,
            description: "with fsync=interval: milliseconds between two (1-3600000, default 50)",
        },
        log_segment_mb: u32 {
            default: 8,
            description: "size of a file of the log, in MiB (1-1024, default 8)",
        },
        run: u16 {
            default: 8,
            description: "requests for other modules that are served at once; 0: none (0-256, default 8)",
        },
        run_ms: u32 {
            default: 30000,
            description: "most milliseconds that such a request takes (1-3600000, default 30000)",
        },
        max_tube_jobs: u32 {
            default: 10000000,
            description: "most requests in a tube (1-100000000, default 10000000)",
        },
    },
}
virgo_module_version!();
virgo_string_param!(
    LOG,
    "log",
    "folder for the log that keeps requests over a power cut (none: they are not kept)"
);
virgo_string_param!(
    FSYNC,
    "fsync",
    "when a request is acknowledged: always (it is on the disk), interval, never (default always)"
);

/// The bound on a tube, as virgo-analytics may set it.
const DEPTH: setting::Spec = setting::Spec {
    name: "queue.max_depth",
    reader: "virgo-queue: most requests in a tube",
    kind: setting::Kind::Int {
        low: 1,
        high: 100_000_000,
    },
};

fn set_depth(core: &Core, jobs: i64) -> Result {
    core.hold().limits.tube_jobs = u64::try_from(jobs).map_err(|_| ERANGE)?;
    Ok(())
}

/// The port, served.
fn serve(core: Arc<Core>, port: u16, connections: u32, frame: usize) -> Result<Listener<Server>> {
    let mut config = Config::new(c"virgo_queue", port);
    config.max_connections = connections;
    config.max_frame = frame;
    // A worker may wait for as long as it likes, as with beanstalkd.
    config.idle_ms = 0;
    let server = Arc::new(Server::new(core), GFP_KERNEL)?;
    Listener::new(config, server).inspect_err(|error| {
        if *error == eaddrinuse() {
            pr_err!(
                "port {} of 127.0.0.1 is in use: stop who has it (ss -ltnp), or load with another port=\n",
                port
            );
        }
    })
}

/// Fields are dropped in this order: first the doors close, then the log is ended.
#[pin_data]
struct VirgoQueue {
    depth: Setting<Core>,
    #[pin]
    device: Device<QueueFile>,
    service: Registration<Control>,
    listener: Option<Listener<Server>>,
    runner: Option<Runner>,
    finish: Finish,
}

/// Writes what is left when nobody can ask for anything any more.
struct Finish(Arc<Core>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The log's settings; none without a folder.
fn log_settings() -> Result<Option<Settings>> {
    let folder = LOG.get();
    if folder.is_empty() {
        return Ok(None);
    }
    if folder.first() != Some(&b'/') {
        pr_err!("parameter log must be an absolute path\n");
        return Err(EINVAL);
    }
    let word = FSYNC.get();
    let policy = if word.is_empty() {
        Policy::Always
    } else {
        Policy::from_word(word).ok_or_else(|| {
            pr_err!("parameter fsync must be always, interval or never\n");
            EINVAL
        })?
    };
    let ms = param::<u32>(module_parameters::fsync_ms.value());
    let ms = checked("fsync_ms", ms, 1, 3_600_000)?;
    let mb = param::<u32>(module_parameters::log_segment_mb.value());
    let mb = checked("log_segment_mb", mb, 1, 1024)?;
    let folder = core::str::from_utf8(folder).map_err(|_| EINVAL)?;
    Ok(Some(Settings {
        folder: CString::try_from_fmt(fmt!("{}", folder))?,
        policy,
        interval_ns: u64::from(ms).saturating_mul(1_000_000),
        segment_bytes: u64::from(mb) << 20,
    }))
}

/// The bounds that were given.
fn limits() -> Result<Limits> {
    let job_size = param::<u32>(module_parameters::max_job_size.value());
    let mb = param::<u32>(module_parameters::max_mb.value());
    let tubes = param::<u32>(module_parameters::max_tubes.value());
    let tube_jobs = param::<u32>(module_parameters::max_tube_jobs.value());
    Ok(Limits {
        job_size: checked("max_job_size", job_size, 1, 16 << 20)?,
        bytes: u64::from(checked("max_mb", mb, 1, 1 << 20)?) << 20,
        tubes: checked("max_tubes", tubes, 1, 1_000_000)?,
        tube_jobs: checked("max_tube_jobs", tube_jobs, 1, 100_000_000)?.into(),
    })
}

impl kernel::InPlaceModule for VirgoQueue {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let listen = param::<u8>(module_parameters::listen.value());
            let listen = checked("listen", listen.into(), 0, 1)?;
            let port = param::<u16>(module_parameters::port.value());
            checked("port", port.into(), 1, 65535)?;
            let connections = param::<u32>(module_parameters::max_connections.value());
            let connections = checked("max_connections", connections, 1, 1_000_000)?;
            let limits = limits()?;
            let log = log_settings()?;
            let key = kernel::static_lock_class!();
            let core = Arc::pin_init(Core::new(key, limits, log), GFP_KERNEL)?;
            let finish = Finish(core.clone());
            let depth = i64::try_from(limits.tube_jobs).map_err(|_| EINVAL)?;
            let control = Arc::new(Control::new(core.clone())?, GFP_KERNEL)?;
            // CAST: u32 fits usize on 64-bit.
            let frame = (limits.job_size as usize).saturating_add(4096);
            let listener = if listen == 1 {
                Some(serve(core.clone(), port, connections, frame)?)
            } else {
                None
            };
            let run = param::<u16>(module_parameters::run.value());
            let run = checked("run", run.into(), 0, 256)?;
            let run_ms = param::<u32>(module_parameters::run_ms.value());
            let run_ms = checked("run_ms", run_ms, 1, 3_600_000)?;
            let runner = match u16::try_from(run).map_err(|_| EINVAL)? {
                0 => None,
                most => Some(Runner::new(core.clone(), most, run_ms)?),
            };
            Ok(try_pin_init!(Self {
                finish,
                runner,
                // From here on requests come in, each door as it opens.
                listener,
                service: Registration::new(control.clone())?,
                device <- Device::new(control),
                depth: Setting::new(&DEPTH, depth, core, set_depth)?,
            }? Error))
        })
    }
}
