// SPDX-License-Identifier: GPL-2.0-only

//! virgo-cloudfs: a folder of this machine, served to others: by 9P2000.L, which a stock Linux
//! mounts, and by lines of text.

use core::net::IpAddr;

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

mod device;
mod errno;
mod export;
mod files;
mod handles;
mod nodes;
mod ops;
mod server;
mod session;
mod status;
mod text;

use device::{
    FsFile,
    Shared, //
};
use export::{
    Export,
    Limits, //
};
use lib::{
    chardev::Device,
    compat::param,
    listener::{
        Addr,
        Config,
        Listener, //
    },
    module::checked,
    procfs::ProcEntry,
    service::Registration,
    time::monotonic_ns,
    vfs::Place,
    workqueue::{
        DeadlineWork,
        OwnedQueue, //
    },
};
use nodes::Guests;
use proto::access::address;
use server::Door;
use status::Status;

module! {
    type: VirgoCloudfs,
    name: "virgo_cloudfs",
    authors: ["The VIRGO authors"],
    description: "VIRGO: a folder served by 9P2000.L and by lines of text",
    license: "GPL",
    imports_ns: ["VIRGO"],
    params: {
        port: u16 {
            default: 50000,
            description: "TCP port (default 50000)",
        },
        uid: u32 {
            default: 65534,
            description: "user whose rights clients have, unless the allow list says otherwise (not 0, default 65534)",
        },
        gid: u32 {
            default: 65534,
            description: "and that user's group (not 0, default 65534)",
        },
        read_only: u8 {
            default: 0,
            description: "1: nothing may be changed",
        },
        max_connections: u32 {
            default: 256,
            description: "connections at once (1-65536, default 256)",
        },
        max_handles: u32 {
            default: 65536,
            description: "places and open files that all clients together hold (16-4194304, default 65536)",
        },
        max_client_handles: u32 {
            default: 32768,
            description: "and that one client holds (16-4194304, default 32768)",
        },
        max_bytes: u32 {
            default: 67108864,
            description: "bytes of requests and answers under way (1048576-4294967295, default 67108864)",
        },
        msize: u32 {
            default: 1048576,
            description: "bytes of the longest 9P message (4096-1048576, default 1048576)",
        },
    },
}
virgo_module_version!();
virgo_string_param!(
    ROOT,
    "root",
    "the folder that is served, an absolute path; without it nothing is served"
);
virgo_string_param!(
    BIND,
    "bind",
    "address to listen on (default 127.0.0.1); another than the loopback ones needs an allow list"
);
virgo_string_param!(
    ALLOW,
    "allow",
    "who may connect: ADDRESS[/BITS][=UID:GID][+ro], with commas between; the first that fits decides"
);

/// Most items at work on one CPU; more wait for those that sleep.
const WORKERS: u16 = 512;

/// Bytes on the way to a client: some long messages.
const SEND_BUFFER: u32 = 4 << 20;

/// A port that serves. Dropped in this order: the connections end, then what they had under way.
struct Serving {
    _listener: Listener<Door>,
    _jobs: Arc<OwnedQueue>,
}

/// Fields are dropped in this order: the doors of this machine, then the port closes.
#[pin_data]
struct VirgoCloudfs {
    #[pin]
    device: Device<FsFile>,
    service: Registration<Shared>,
    status: ProcEntry<Status>,
    serving: Option<Serving>,
    _watch: Option<Pin<KBox<DeadlineWork<Guests>>>>,
}

/// Where to listen, and whether only this machine can reach that.
fn bind_address() -> Result<(Addr, bool)> {
    let port = param::<u16>(module_parameters::port.value());
    let text = BIND.get();
    if text.is_empty() {
        return Ok((Addr::loopback(port), true));
    }
    let ip = address(text).ok_or_else(|| {
        pr_err!("parameter bind is no IPv4 or IPv6 address\n");
        EINVAL
    })?;
    let addr = match ip {
        IpAddr::V4(ip) => Addr::v4(ip.octets(), port),
        IpAddr::V6(ip) => Addr::v6(ip.octets(), port, 0),
    };
    Ok((addr, ip.is_loopback()))
}

/// What is to be served, by the parameters; `None` without a root.
fn export() -> Result<Option<Arc<Export>>> {
    let uid = param::<u32>(module_parameters::uid.value());
    let gid = param::<u32>(module_parameters::gid.value());
    // Files are never touched as root, whatever is asked for.
    let uid = checked("uid", uid, 1, u32::MAX - 1)?;
    let gid = checked("gid", gid, 1, u32::MAX - 1)?;
    let handles = param::<u32>(module_parameters::max_handles.value());
    let client_handles = param::<u32>(module_parameters::max_client_handles.value());
    let bytes = param::<u32>(module_parameters::max_bytes.value());
    let msize = param::<u32>(module_parameters::msize.value());
    let limits = Limits {
        handles: checked("max_handles", handles, 16, 1 << 22)?,
        client_handles: checked("max_client_handles", client_handles, 16, 1 << 22)?,
        // CAST: u32 fits usize on 64-bit.
        bytes: checked("max_bytes", bytes, 1 << 20, u32::MAX)? as usize,
        msize: checked("msize", msize, 4096, 1 << 20)?,
    };
    let read_only = param::<u8>(module_parameters::read_only.value());
    let read_only = checked("read_only", u32::from(read_only), 0, 1)? == 1;
    let name = ROOT.get();
    if name.is_empty() {
        pr_info!("no root is set: nothing is served\n");
        return Ok(None);
    }
    if !name.starts_with(b"/") {
        pr_err!("parameter root must be an absolute path\n");
        return Err(EINVAL);
    }
    let mut path = KVec::with_capacity(name.len().saturating_add(1), GFP_KERNEL)?;
    path.extend_from_slice(name, GFP_KERNEL)?;
    path.push(0, GFP_KERNEL)?;
    let path = CStr::from_bytes_with_nul(&path).map_err(|_| EINVAL)?;
    let root = Place::folder(path).inspect_err(|error| {
        pr_err!(
            "parameter root: {:?} is no folder that can be served ({:?})\n",
            path,
            error
        );
    })?;
    // The name is for the telnet door, which compares it with what it is given.
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let export = Export::new(root, name, limits, (uid, gid), read_only, ALLOW.get())?;
    Ok(Some(Arc::new(export, GFP_KERNEL)?))
}

/// Opens the port.
fn serve(export: &Arc<Export>, addr: Addr, own: bool, max_connections: u32) -> Result<Serving> {
    if !own && !export.has_guests() {
        pr_err!("parameter bind lets other machines in: say which with allow=\n");
        return Err(EINVAL);
    }
    let jobs = Arc::new(OwnedQueue::per_cpu(c"virgo-cloudfs", WORKERS)?, GFP_KERNEL)?;
    let door = Arc::new(Door::new(export.clone(), jobs.clone()), GFP_KERNEL)?;
    let mut config = Config::new(c"virgo-cloudfs", addr.port());
    config.addr = addr;
    config.max_connections = max_connections;
    // A mount may be idle for days.
    config.idle_ms = 0;
    config.max_frame = 64 << 10;
    config.reply_cap = 64 << 20;
    config.send_buffer = SEND_BUFFER;
    Ok(Serving {
        _listener: Listener::new(config, door)?,
        _jobs: jobs,
    })
}

/// Has an eye on nodes that have files open here.
fn watch(guests: Arc<Guests>) -> Result<Pin<KBox<DeadlineWork<Guests>>>> {
    let watch = KBox::pin_init(
        DeadlineWork::new(c"virgo-cloudfs-n", kernel::static_lock_class!(), guests),
        GFP_KERNEL,
    )?;
    watch.arm(monotonic_ns());
    Ok(watch)
}

impl kernel::InPlaceModule for VirgoCloudfs {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let max_connections = param::<u32>(module_parameters::max_connections.value());
            let max_connections = checked("max_connections", max_connections, 1, 65536)?;
            let (addr, own) = bind_address()?;
            let export = export()?;
            let serving = match &export {
                None => None,
                Some(export) => Some(serve(export, addr, own, max_connections)?),
            };
            let status = Arc::new(Status::new(export.clone()), GFP_KERNEL)?;
            let guests = export.clone().map(Guests::new).transpose()?;
            let watch = guests.clone().map(watch).transpose()?;
            let shared = Arc::new(Shared::new(export, guests), GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                _watch: watch,
                serving,
                status: ProcEntry::new(c"virgo/cloudfs", 0o444, status)?,
                service: Registration::new(shared.clone())?,
                // Last: the device can be opened from here on.
                device <- Device::new(shared),
            }? Error))
        })
    }
}
