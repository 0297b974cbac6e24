// SPDX-License-Identifier: GPL-2.0-only

//! virgo-cpupool: kernel functions and programs by name, on this node or on the one with the least to
//! do.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/function_table.rs"]
mod function_table;
#[path = "../lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-logic/src/imp/mod.rs"]
mod logic;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

mod builtin;
mod door;
mod pool;
mod programs;

use builtin::Builtin;
use door::Door;
use lib::{
    compat::param,
    listener::{
        Addr,
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
use pool::Pool;

module! {
    type: VirgoCpupool,
    name: "virgo_cpupool",
    authors: ["The VIRGO authors"],
    description: "VIRGO: kernel functions and programs, on any node",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        port: u32 {
            default: 10000,
            description: "TCP port (1-65535, default 10000; 0: none)",
        },
        bind: u32 {
            default: 0x7f000001,
            description: "IPv4 address to listen on, as a number (default 0x7f000001, which is 127.0.0.1; 0: all)",
        },
        max_connections: u32 {
            default: 1024,
            description: "most connections at once (1-1048576, default 1024)",
        },
        workers: u32 {
            default: 64,
            description: "most slow functions of the port that run at once (1-512, default 64); more wait",
        },
        timeout_ms: u32 {
            default: 30000,
            description: "how long a function of the port may take (1-3600000, default 30000)",
        },
    },
}
crate::virgo_module_version!();

/// How many slow functions run at once, as virgo-analytics may set it.
const RUNNING: setting::Spec = setting::Spec {
    name: "cpupool.max_running",
    reader: "virgo-cpupool: slow functions of the port that run at once",
    kind: setting::Kind::Int { low: 1, high: 512 },
};

fn set_running(door: &Door, count: i64) -> Result {
    door.set_workers(u16::try_from(count).map_err(|_| ERANGE)?);
    Ok(())
}

/// Fields are dropped in this order. First the functions go, which tells their calls to end: the doors
/// wait for those that are inside. A door whose functions are gone says that there is none.
struct VirgoCpupool {
    _running: Option<Setting<Door>>,
    _builtin: Builtin,
    _listener: Option<Listener<Door>>,
    _service: Registration<Pool>,
    _table: function_table::Opened,
}

impl kernel::Module for VirgoCpupool {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let port = param::<u32>(module_parameters::port.value());
        let port = checked("port", port, 0, 65535)?;
        let connections = param::<u32>(module_parameters::max_connections.value());
        let connections = checked("max_connections", connections, 1, 1 << 20)?;
        let workers = param::<u32>(module_parameters::workers.value());
        let workers = checked("workers", workers, 1, 512)?;
        let timeout_ms = param::<u32>(module_parameters::timeout_ms.value());
        let timeout_ms = checked("timeout_ms", timeout_ms, 1, 3_600_000)?;
        let bind = param::<u32>(module_parameters::bind.value());

        let table = function_table::Opened::new()?;
        let builtin = Builtin::new()?;
        let service = Registration::new(Arc::new(Pool::new()?, GFP_KERNEL)?)?;
        // Both fit their types, checked above.
        let (port, workers) = (
            u16::try_from(port).map_err(|_| EINVAL)?,
            u16::try_from(workers).map_err(|_| EINVAL)?,
        );
        let (listener, running) = if port == 0 {
            (None, None)
        } else {
            let config = Config {
                addr: Addr::v4(bind.to_be_bytes(), port),
                max_connections: connections,
                max_frame: proto::call::LINE_MAX + 2,
                ..Config::new(c"virgo_cpupool", port)
            };
            let door = Arc::new(Door::new(workers, timeout_ms)?, GFP_KERNEL)?;
            let listener = Listener::new(config, door.clone()).inspect_err(|error| {
                pr_err!("port {} cannot be opened: {:?}\n", port, error);
            })?;
            let running = Setting::new(&RUNNING, workers.into(), door, set_running)?;
            (Some(listener), Some(running))
        };
        Ok(VirgoCpupool {
            _running: running,
            _builtin: builtin,
            _listener: listener,
            _service: service,
            _table: table,
        })
    }
}
