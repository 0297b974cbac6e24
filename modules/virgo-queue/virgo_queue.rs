// SPDX-License-Identifier: GPL-2.0-only

//! virgo-queue: requests that wait their turn, in tubes, by the beanstalkd protocol, by the
//! original's lines, and by ioctl.

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

mod queue;
mod server;
mod slab;
mod state;
mod stats;
mod text;

use lib::{
    compat::{
        eaddrinuse,
        param, //
    },
    listener::{
        Config,
        Listener, //
    },
};
use queue::Core;
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
        max_tube_jobs: u32 {
            default: 10000000,
            description: "most requests in a tube (1-100000000, default 10000000)",
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

/// Fields are dropped in this order: first the door closes, then the timer stops.
struct VirgoQueue {
    _listener: Option<Listener<Server>>,
    _core: Arc<Core>,
}

impl kernel::Module for VirgoQueue {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let listen = checked(
            "listen",
            param::<u8>(module_parameters::listen.value()).into(),
            0,
            1,
        )?;
        let port = param::<u16>(module_parameters::port.value());
        checked("port", port.into(), 1, 65535)?;
        let connections = param::<u32>(module_parameters::max_connections.value());
        let connections = checked("max_connections", connections, 1, 1_000_000)?;
        let job_size = param::<u32>(module_parameters::max_job_size.value());
        let job_size = checked("max_job_size", job_size, 1, 16 << 20)?;
        let mb = checked(
            "max_mb",
            param::<u32>(module_parameters::max_mb.value()),
            1,
            1 << 20,
        )?;
        let tubes = param::<u32>(module_parameters::max_tubes.value());
        let tubes = checked("max_tubes", tubes, 1, 1_000_000)?;
        let tube_jobs = param::<u32>(module_parameters::max_tube_jobs.value());
        let tube_jobs = checked("max_tube_jobs", tube_jobs, 1, 100_000_000)?;

        let limits = Limits {
            job_size,
            bytes: u64::from(mb) << 20,
            tubes,
            tube_jobs: u64::from(tube_jobs),
        };
        let core = Arc::pin_init(Core::new(kernel::static_lock_class!(), limits), GFP_KERNEL)?;
        // CAST: u32 fits usize on 64-bit.
        let frame = (job_size as usize).saturating_add(4096);
        let listener = if listen == 1 {
            Some(serve(core.clone(), port, connections, frame)?)
        } else {
            None
        };
        Ok(VirgoQueue {
            _listener: listener,
            _core: core,
        })
    }
}
