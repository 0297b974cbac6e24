// SPDX-License-Identifier: GPL-2.0-only

//! virgo-core: the control device and the service registry that the other modules stand on.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/cluster_exports.rs"]
mod cluster_exports;
#[path = "../lib/mod.rs"]
mod lib;
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
    },
}
virgo_module_version!();

#[pin_data]
struct VirgoCore {
    /// Dropped first: from then on nobody opens the device.
    #[pin]
    device: Device<ControlFile>,
    /// The folder that the other modules put theirs into.
    proc: ProcDir,
}

impl kernel::InPlaceModule for VirgoCore {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            cluster::check_parameters()?;
            let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
            let registry = Registry::new(changes.clone());
            let shared = Arc::new(Shared { registry, changes }, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                proc: ProcDir::new(c"virgo")?,
                // Last: the device can be opened from here on.
                device <- Device::new(shared),
            }? Error))
        })
    }
}
