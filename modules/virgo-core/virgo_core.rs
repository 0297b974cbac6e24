// SPDX-License-Identifier: GPL-2.0-only

//! virgo-core: the control device and the service registry that the other modules stand on.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/cluster_exports.rs"]
mod cluster_exports;
#[path = "../lib/crypto.rs"]
mod crypto;
#[path = "../lib/event_exports.rs"]
mod event_exports;
#[path = "../lib/mod.rs"]
mod lib;
#[path = "../lib/load.rs"]
mod load;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-logic/src/imp/mod.rs"]
mod logic;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;
#[path = "../lib/registry.rs"]
mod registry;

mod cluster;
mod control;

use cluster::Cluster;
use cluster_exports::Opened;
use control::{
    ControlFile,
    Shared, //
};
use lib::{
    chardev::Device,
    procfs::ProcDir, //
};
use registry::{
    Changes,
    Registry, //
};

module! {
    type: VirgoCore,
    name: "virgo_core",
    authors: ["The VIRGO authors"],
    description: "VIRGO: control device and service registry",
    license: "GPL",
    params: {
        cluster_port: u32 {
            default: 40000,
            description: "TCP port of the nodes among themselves (1-65535, default 40000)",
        },
        policy: u32 {
            default: 1,
            description: "how nodes are chosen: 1 the least loaded, 2 random, 3 the better of two (default 1)",
        },
        seed: u64 {
            default: 0,
            description: "choices at random begin from it; 0: from the kernel's random numbers (default 0)",
        },
    },
}
virgo_module_version!();

#[pin_data]
struct VirgoCore {
    /// Dropped first: from then on nobody opens the device.
    #[pin]
    device: Device<ControlFile>,
    /// Then the port is closed, and what other nodes asked for is waited for.
    cluster: Opened,
    /// The folder that the other modules put theirs into.
    proc: ProcDir,
    returns: Returns,
}

/// Drop waits until no task is on its way out of a probe, whose code is in this module.
struct Returns;

impl Drop for Returns {
    fn drop(&mut self) {
        lib::trace::wait_for_returns();
    }
}

impl kernel::InPlaceModule for VirgoCore {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            cluster::check_parameters()?;
            let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
            let registry = Registry::new(changes.clone());
            let cluster = Cluster::new()?;
            let shared = Shared {
                registry,
                changes,
                cluster: cluster.clone(),
            };
            let shared = Arc::new(shared, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                returns: Returns,
                proc: ProcDir::new(c"virgo")?,
                cluster: Opened::new(cluster),
                // Last: the device can be opened from here on.
                device <- Device::new(shared),
            }? Error))
        })
    }
}
