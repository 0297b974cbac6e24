// SPDX-License-Identifier: GPL-2.0-only

//! virgo-core: the control device and the service registry that the other modules stand on.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/bandwidth_bucket.rs"]
mod bandwidth_bucket;
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
#[path = "../lib/setting_table.rs"]
mod setting_table;

mod cluster;
mod control;

use bandwidth_bucket::Bandwidth;
use cluster::Cluster;
use cluster_exports::Opened;
use control::{
    ControlFile,
    Shared, //
};
use lib::{
    chardev::Device,
    procfs::ProcDir,
    setting::{
        Kind,
        Setting,
        Spec, //
    }, //
};
use registry::{
    Changes,
    Registry, //
};
use setting_table::Settings;

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

/// How nodes are chosen, as virgo-analytics may set it.
const POLICY: Spec = Spec {
    name: "cpupool.policy",
    reader: "virgo-core: how nodes are chosen for calls that don't say",
    kind: Kind::Choice("least-loaded|random|two-choices"),
};

/// The words' places are the policies' numbers but one.
fn set_policy(cluster: &Cluster, word: i64) -> Result {
    let policy = word.checked_add(1).ok_or(EINVAL)?;
    cluster.set_policy(u32::try_from(policy).map_err(|_| EINVAL)?)
}

#[pin_data]
struct VirgoCore {
    policy: Setting<Cluster>,
    bandwidth: Bandwidth,
    /// Dropped first: from then on nobody opens the device.
    #[pin]
    device: Device<ControlFile>,
    /// Then the port is closed, and what other nodes asked for is waited for.
    cluster: Opened,
    /// The folder that the other modules put theirs into.
    proc: ProcDir,
    settings: Settings,
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
            let (policy, _) = cluster.policy();
            let settings = Settings::new();
            let policy = i64::from(policy).saturating_sub(1);
            let policy = Setting::new(&POLICY, policy, cluster.clone(), set_policy)?;
            let bandwidth = Bandwidth::new()?;
            let shared = Shared {
                registry,
                changes,
                cluster: cluster.clone(),
            };
            let shared = Arc::new(shared, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                returns: Returns,
                settings,
                bandwidth,
                policy,
                proc: ProcDir::new(c"virgo")?,
                cluster: Opened::new(cluster),
                // Last: the device can be opened from here on.
                device <- Device::new(shared),
            }? Error))
        })
    }
}
