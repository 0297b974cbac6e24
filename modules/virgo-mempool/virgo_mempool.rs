// SPDX-License-Identifier: GPL-2.0-only

//! virgo-mempool: blocks of memory and named values, by TCP (the original's words and memcached's
//! protocol), by ioctl, and by mapping.

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

#[path = "../lib/mem_get.rs"]
mod mem_get;

mod blocks;
mod control;
mod device;
mod door;
mod memory;
mod meta;
mod remote;
mod share;
mod stats;
mod store;
mod text;
mod work;

use blocks::Blocks;
use control::Pool;
use device::MempoolFile;
use door::{
    OpenPort,
    Port,
    PortSettings, //
};
use lib::{
    chardev::Device,
    compat::param,
    listener::{
        Addr,
        Config, //
    },
    module::checked,
    service::Registration,
    setting::{
        self,
        Setting, //
    },
    shrinker::Shrinker,
};
use share::Shares;
use store::Store;

module! {
    type: VirgoMempool,
    name: "virgo_mempool",
    authors: ["The VIRGO authors"],
    description: "VIRGO: blocks of memory and named values, in the kernel",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        port: u32 {
            default: 30000,
            description: "TCP port on 127.0.0.1 (0-65535, default 30000; 0: none)",
        },
        memory_mb: u32 {
            default: 64,
            description: "most memory for named values, in MiB (1-16777216, default 64)",
        },
        item_max: u32 {
            default: 1048576,
            description: "most bytes of an item (1024-67108864, default 1048576)",
        },
        block_mb: u32 {
            default: 256,
            description: "most memory for blocks, in MiB (1-16777216, default 256)",
        },
        max_blocks: u32 {
            default: 65536,
            description: "most blocks (1-16777216, default 65536)",
        },
        share_mb: u32 {
            default: 64,
            description: "most memory for tables of shared namespaces, in MiB (0-65536, default 64)",
        },
        max_connections: u32 {
            default: 1024,
            description: "most connections (1-1000000, default 1024)",
        },
        idle_s: u32 {
            default: 0,
            description: "a connection without a request for so many seconds is closed (0-1000000, default 0: never)",
        },
        evict: u32 {
            default: 1,
            description: "give up values that are not used when there is no room (0 or 1, default 1)",
        },
        softirq: u32 {
            default: 1,
            description: "serve requests in softirq where possible (0 or 1, default 1)",
        },
    },
}
virgo_module_version!();

const MIB: u64 = 1 << 20;

/// The bound on values, as virgo-analytics may set it.
const MEMORY: setting::Spec = setting::Spec {
    name: "mempool.memory_limit",
    reader: "virgo-mempool: most memory of values, in bytes",
    kind: setting::Kind::Int {
        // CAST: a MiB and 16 TiB.
        low: store::MEMORY_MIN as i64,
        high: store::MEMORY_MAX as i64,
    },
};

fn set_memory(store: &Store, bytes: i64) -> Result {
    store.set_memory_limit(u64::try_from(bytes).map_err(|_| ERANGE)?)
}

/// Fields are dropped in this order: first the doors close, then the rest goes.
#[pin_data(PinnedDrop)]
struct VirgoMempool {
    memory: Setting<Store>,
    port: OpenPort,
    #[pin]
    device: Device<MempoolFile>,
    service: Registration<Pool>,
    shrinker: Shrinker<Store>,
    pool: Arc<Pool>,
}

#[pinned_drop]
impl PinnedDrop for VirgoMempool {
    fn drop(self: Pin<&mut Self>) {
        // Whoever has a table mapped, or polls it, hears that nothing more comes.
        let store = &self.pool.store;
        store.shares().close_all(store.now());
    }
}

impl kernel::InPlaceModule for VirgoMempool {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let port = param::<u32>(module_parameters::port.value());
            let memory = param::<u32>(module_parameters::memory_mb.value());
            let item_max = param::<u32>(module_parameters::item_max.value());
            let block = param::<u32>(module_parameters::block_mb.value());
            let max_blocks = param::<u32>(module_parameters::max_blocks.value());
            let share = param::<u32>(module_parameters::share_mb.value());
            let connections = param::<u32>(module_parameters::max_connections.value());
            let idle = param::<u32>(module_parameters::idle_s.value());
            let evict = param::<u32>(module_parameters::evict.value());
            let softirq = param::<u32>(module_parameters::softirq.value());
            let port = checked("port", port, 0, 65535)?;
            let memory = checked("memory_mb", memory, 1, 1 << 24)?;
            let item_max = checked("item_max", item_max, store::ITEM_MIN, store::ITEM_MAX)?;
            let block = checked("block_mb", block, 1, 1 << 24)?;
            let max_blocks = checked(
                "max_blocks",
                max_blocks,
                blocks::BLOCKS_MIN,
                blocks::BLOCKS_MAX,
            )?;
            let share = checked("share_mb", share, 0, 65536)?;
            let connections = checked("max_connections", connections, 1, 1_000_000)?;
            let idle = checked("idle_s", idle, 0, 1_000_000)?;
            let evict = checked("evict", evict, 0, 1)?;
            let softirq = checked("softirq", softirq, 0, 1)?;

            let shares = Arc::pin_init(Shares::new(u64::from(share) * MIB), GFP_KERNEL)?;
            let memory = u64::from(memory) * MIB;
            let limit = i64::try_from(memory).map_err(|_| EINVAL)?;
            let store = Arc::new(Store::new(memory, item_max, shares)?, GFP_KERNEL)?;
            store.set_evicts(evict == 1);
            let blocks = Blocks::new(u64::from(block) * MIB, max_blocks);
            let blocks = Arc::pin_init(blocks, GFP_KERNEL)?;
            let settings = PortSettings {
                port,
                max_connections: connections,
                idle_ms: idle * 1000,
            };
            let open = Arc::pin_init(Port::new(settings), GFP_KERNEL)?;
            let pool = Arc::pin_init(Pool::new(store.clone(), blocks, open), GFP_KERNEL)?;

            let config = Config {
                addr: Addr::loopback(u16::try_from(port).map_err(|_| EINVAL)?),
                max_connections: connections,
                // The longest item, its line, and what else may be in the way.
                max_frame: store::ITEM_MAX as usize + (128 << 10), // CAST: u32 fits usize.
                reply_cap: store::ITEM_MAX as usize + (8 << 20),   // CAST: likewise.
                idle_ms: settings.idle_ms,
                softirq: softirq == 1,
                ..Config::new(c"virgo_mempool", 0)
            };
            pool.wind();
            Ok(try_pin_init!(Self {
                pool: pool.clone(),
                shrinker: Shrinker::new(c"virgo-mempool", 256, store.clone())?,
                // From here on requests come in, each door as it opens.
                service: Registration::new(pool.clone())?,
                device <- Device::new(pool.clone()),
                port: OpenPort::new(config, pool.clone())?,
                memory: Setting::new(&MEMORY, limit, store, set_memory)?,
            }? Error))
        })
    }
}
