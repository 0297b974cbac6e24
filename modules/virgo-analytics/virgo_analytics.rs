// SPDX-License-Identifier: GPL-2.0-only

//! virgo-analytics: settings for the whole kernel, typed, watched, undoable, and applied to the
//! modules that read them.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/analytics_exports.rs"]
mod analytics_exports;
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
mod remote;
mod settings;
mod state;

use analytics_exports::{
    Opened,
    Watchers, //
};
use control::Control;
use device::AnalyticsFile;
use lib::{
    chardev::Device,
    compat::param,
    module::checked,
    rcu::Directory,
    service::Registration, //
};
use remote::Nodes;
use settings::{
    Engine,
    Settings, //
};
use state::Limits;

module! {
    type: VirgoAnalytics,
    name: "virgo_analytics",
    authors: ["The VIRGO authors"],
    description: "VIRGO: settings for the whole kernel, which modules and programs read and learn",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        max_settings: u32 {
            default: 16384,
            description: "most settings (16-1000000, default 16384)",
        },
        max_mb: u32 {
            default: 64,
            description: "most memory for settings, in MiB (1-4096, default 64)",
        },
    },
}
virgo_module_version!();

/// Fields are dropped in this order: first the doors close, then the timers stop.
#[pin_data]
struct VirgoAnalytics {
    #[pin]
    device: Device<AnalyticsFile>,
    service: Registration<Control>,
    _nodes: Arc<Nodes>,
    _watchers: Watchers,
    _opened: Opened,
    _engine: Arc<Engine>,
}

impl kernel::InPlaceModule for VirgoAnalytics {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let settings = param::<u32>(module_parameters::max_settings.value());
            let settings = checked("max_settings", settings, 16, 1_000_000)?;
            let mb = param::<u32>(module_parameters::max_mb.value());
            let mb = checked("max_mb", mb, 1, 4096)?;
            let limits = Limits {
                settings,
                bytes: u64::from(mb) << 20,
            };
            let directory = Arc::new(Directory::new(settings)?, GFP_KERNEL)?;
            let watchers = Watchers::new();
            let settings = Settings::new(limits, directory.clone());
            let settings = Arc::pin_init(settings, GFP_KERNEL)?;
            let key = kernel::static_lock_class!();
            let engine = Arc::pin_init(Engine::new(key, settings), GFP_KERNEL)?;
            let nodes = Nodes::new(engine.clone())?;
            let control = Arc::new(Control::new(engine.clone(), nodes.clone()), GFP_KERNEL)?;
            let service = Registration::new(control.clone())?;
            // After the registration: what comes from now on is told, what was there is looked at.
            engine.adopt_all()?;
            nodes.look();
            Ok(try_pin_init!(Self {
                _opened: Opened::new(directory),
                _watchers: watchers,
                _engine: engine,
                _nodes: nodes,
                service,
                device <- Device::new(control),
            }? Error))
        })
    }
}
