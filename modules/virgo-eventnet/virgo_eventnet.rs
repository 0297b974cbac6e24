// SPDX-License-Identifier: GPL-2.0-only

//! virgo-eventnet: what happened and what led to what, from all modules, from the port and from
//! programs, kept in a journal and in the original's two text files.

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

mod collector;
mod control;
mod door;
mod forward;
mod journal;
mod net;
mod render;

use collector::{
    Collector,
    Core,
    Finish, //
};
use control::{
    Control,
    EventFile, //
};
use door::Door;
use journal::{
    Journal,
    Policy, //
};
use lib::{
    chardev::Device,
    compat::{
        eaddrinuse,
        param, //
    },
    event::Attached,
    listener::{
        Config,
        Listener, //
    },
    procfs::ProcEntry,
    service::{
        Module,
        Registration, //
    }, //
};
use net::{
    Net,
    Status, //
};
use proto::node;

module! {
    type: VirgoEventnet,
    name: "virgo_eventnet",
    authors: ["The VIRGO authors"],
    description: "VIRGO: a journal of events and of what led to them",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        listen: u8 {
            default: 1,
            description: "1: serve the port; 0: only this machine's modules and programs (default 1)",
        },
        port: u16 {
            default: 20000,
            description: "port on 127.0.0.1 (1-65535, default 20000)",
        },
        max_connections: u32 {
            default: 256,
            description: "most connections at once (1-65536, default 256)",
        },
        ring: u32 {
            default: 1024,
            description: "events of each module that wait to be written (64-65536, rounded up to a power of two, default 1024)",
        },
        flush_ms: u32 {
            default: 10,
            description: "milliseconds that a module's event waits for others before it is written (1-60000, default 10)",
        },
        max_mb: u32 {
            default: 4096,
            description: "most bytes of the journal, in MiB (1-1048576, default 4096)",
        },
        max_names: u32 {
            default: 1000000,
            description: "most events that have names of their own (1-16777216, default 1000000)",
        },
    },
}
virgo_module_version!();
virgo_string_param!(
    FOLDER,
    "folder",
    "where the journal and the text files are, an absolute path (default /var/log/eventnet)"
);
virgo_string_param!(
    MODULES,
    "modules",
    "whose events are taken: names with commas between, all, or none (default core,analytics)"
);
virgo_string_param!(
    FSYNC,
    "fsync",
    "when a message is acknowledged: always (it is on the disk) or never (default always)"
);

virgo_string_param!(
    COLLECTOR,
    "collector",
    "the node that this one's events are sent to: ADDRESS, ADDRESS:PORT, or its number as \"virgo nodes\" shows it (default: none)"
);

/// Where the files are if nothing is said.
const DEFAULT_FOLDER: &[u8] = b"/var/log/eventnet";
/// Whose events are taken if nothing is said: those of a few a second.
const DEFAULT_MODULES: u32 = 1 << Module::Core as u32 | 1 << Module::Analytics as u32;

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

/// The modules in a list of names: bits.
fn modules_of(text: &[u8]) -> Result<u32> {
    match text {
        b"" => return Ok(DEFAULT_MODULES),
        b"all" => return Ok((1 << Module::ALL.len()) - 1),
        b"none" => return Ok(0),
        _ => {}
    }
    let mut mask = 0;
    for word in text.split(|byte| *byte == b',') {
        let word = word.trim_ascii();
        let module = Module::ALL
            .into_iter()
            .find(|module| module.name().as_bytes().strip_prefix(b"virgo-") == Some(word));
        let Some(module) = module else {
            pr_err!("parameter modules has a name that no module has; names are core, cpupool, mempool, cloudfs, queue, eventnet, analytics, profiler\n");
            return Err(EINVAL);
        };
        mask |= 1_u32 << module as u32;
    }
    Ok(mask)
}

/// The port, served.
fn serve(core: Arc<Core>, port: u16, connections: u32) -> Result<Listener<Door>> {
    let mut config = Config::new(c"virgo_eventnet", port);
    config.max_connections = connections;
    config.max_frame = 64 << 10;
    // Who watches a line for days.
    config.idle_ms = 0;
    Listener::new(config, Arc::new(Door::new(core), GFP_KERNEL)?).inspect_err(|error| {
        if *error == eaddrinuse() {
            pr_err!(
                "port {} of 127.0.0.1 is in use: stop who has it (ss -ltnp), or load with another port=\n",
                port
            );
        }
    })
}

/// Fields are dropped in this order: first the doors close, then what is left is written.
#[pin_data]
struct VirgoEventnet {
    #[pin]
    device: Device<EventFile>,
    service: Registration<Control>,
    status: ProcEntry<Status>,
    listener: Option<Listener<Door>>,
    attached: Arc<Attached<Core>>,
    finish: Finish,
}

impl kernel::InPlaceModule for VirgoEventnet {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let listen = param::<u8>(module_parameters::listen.value());
            let listen = checked("listen", listen.into(), 0, 1)?;
            let port = param::<u16>(module_parameters::port.value());
            checked("port", port.into(), 1, 65535)?;
            let connections = param::<u32>(module_parameters::max_connections.value());
            let connections = checked("max_connections", connections, 1, 65536)?;
            let ring = param::<u32>(module_parameters::ring.value());
            let ring = checked("ring", ring, 64, 65536)?.next_power_of_two();
            let flush_ms = param::<u32>(module_parameters::flush_ms.value());
            let flush_ms = checked("flush_ms", flush_ms, 1, 60_000)?;
            let max_mb = param::<u32>(module_parameters::max_mb.value());
            let max_mb = checked("max_mb", max_mb, 1, 1 << 20)?;
            let names = param::<u32>(module_parameters::max_names.value());
            let names = checked("max_names", names, 1, 1 << 24)?;
            let mask = modules_of(MODULES.get())?;
            let policy = match FSYNC.get() {
                b"" | b"always" => Policy::Always,
                b"never" => Policy::Never,
                _ => {
                    pr_err!("parameter fsync must be always or never\n");
                    return Err(EINVAL);
                }
            };
            let to = match COLLECTOR.get() {
                b"" => 0,
                text => node::named(text).ok_or(EINVAL).inspect_err(|_| {
                    pr_err!("parameter collector must be an address, one with a port, or a node's number in eight hexadecimal digits\n");
                })?,
            };
            let folder = match FOLDER.get() {
                b"" => DEFAULT_FOLDER,
                other if other.starts_with(b"/") => other,
                _ => {
                    pr_err!("parameter folder must be an absolute path\n");
                    return Err(EINVAL);
                }
            };
            let (journal, render) = Journal::open(folder, policy, u64::from(max_mb) << 20, names)?;
            // CAST: u32 fits usize on 64-bit.
            let net = Arc::pin_init(
                Net::new(ring as usize, flush_ms, mask, &journal),
                GFP_KERNEL,
            )?;
            let collector = Collector::new(net.clone(), journal, render)?;
            let core = Arc::pin_init(Core::new(net.clone(), collector), GFP_KERNEL)?;
            let finish = Finish::new(core.clone());
            // Its node need not be in the table yet: it is tried again.
            if to != 0 {
                core.set_collector(to);
            }
            let attached = Arc::new(Attached::new(core.clone(), mask)?, GFP_KERNEL)?;
            let control = Arc::new(Control::new(core.clone(), attached.clone()), GFP_KERNEL)?;
            let listener = if listen == 1 {
                Some(serve(core, port, connections)?)
            } else {
                None
            };
            let status = Arc::new(Status::new(net), GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                finish,
                attached,
                // From here on messages come in, each door as it opens.
                listener,
                status: ProcEntry::new(c"virgo/eventnet", 0o444, status)?,
                service: Registration::new(control.clone())?,
                device <- Device::new(control),
            }? Error))
        })
    }
}
