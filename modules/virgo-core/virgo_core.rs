// SPDX-License-Identifier: GPL-2.0-only

//! virgo-core: the control device and the service registry that the other modules stand on.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;
#[path = "../lib/registry.rs"]
mod registry;

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
