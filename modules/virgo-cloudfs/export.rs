// SPDX-License-Identifier: GPL-2.0-only

//! What is served, to whom, and within which bounds.

use core::net::{
    IpAddr,
    Ipv4Addr,
    Ipv6Addr, //
};

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

use crate::{
    errno,
    lib::{
        listener::Addr,
        message::Messages,
        vfs::{
            Credentials,
            Place, //
        }, //
    },
    proto::{
        access::{
            rules,
            Rule, //
        },
        files::components, //
    },
};

/// Bounds, each with a parameter of its own.
pub(crate) struct Limits {
    /// Places and files that all clients together hold.
    pub(crate) handles: u32,
    /// And that one of them holds.
    pub(crate) client_handles: u32,
    /// Bytes of requests and answers under way, of all clients.
    pub(crate) bytes: usize,
    /// Bytes of the longest 9P message.
    pub(crate) msize: u32,
}

/// Whose rights a client has.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) read_only: bool,
}

/// A rule of the allow list, ready for use.
struct Guest {
    rule: Rule,
    user: User,
}

/// Numbers since the start.
pub(crate) struct Counters {
    /// 9P requests answered.
    pub(crate) requests: Atomic<u64>,
    /// Of these, with an error.
    pub(crate) errors: Atomic<u64>,
    /// Lines of the telnet door.
    pub(crate) lines: Atomic<u64>,
    /// Bytes read from files.
    pub(crate) read: Atomic<u64>,
    /// Bytes written to files.
    pub(crate) written: Atomic<u64>,
}

/// The most buffers that are kept of each kind.
const KEPT: usize = 16;

/// Buffers of this many bytes are kept.
const KEPT_SIZES: core::ops::RangeInclusive<usize> = 4097..=(128 << 10);

/// Buffers of long requests that are used again: the kernel zeroes each new one, which is as dear
/// as filling it.
#[pin_data]
pub(crate) struct Frames {
    #[pin]
    free: Mutex<KVec<KVVec<u8>>>,
}

impl Frames {
    fn new() -> Result<Arc<Self>> {
        let free = KVec::with_capacity(KEPT, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Frames {
                free <- kernel::new_mutex!(free),
            }),
            GFP_KERNEL,
        )
    }

    /// An empty buffer with room for `size` bytes. `ENOMEM`. May sleep.
    pub(crate) fn take(&self, size: usize) -> Result<KVVec<u8>> {
        if KEPT_SIZES.contains(&size) {
            let mut free = self.free.lock();
            let found = free.iter().rposition(|frame| frame.capacity() >= size);
            if let Some(frame) = found.and_then(|at| free.remove(at).ok()) {
                return Ok(frame);
            }
        }
        Ok(KVVec::with_capacity(size, GFP_KERNEL)?)
    }

    /// Keeps a buffer for the next request.
    pub(crate) fn give(&self, mut frame: KVVec<u8>) {
        if !KEPT_SIZES.contains(&frame.capacity()) {
            return;
        }
        frame.clear();
        let mut free = self.free.lock();
        let old = if free.len() >= KEPT {
            free.remove(0).ok()
        } else {
            None
        };
        // There is room for it, made at the start.
        let _ = free.push(frame, GFP_KERNEL);
        drop(free);
        drop(old);
    }
}

/// The served folder.
pub(crate) struct Export {
    pub(crate) root: Place,
    /// As it was named.
    pub(crate) name: KVec<u8>,
    pub(crate) limits: Limits,
    pub(crate) read_only: bool,
    guests: KVec<Guest>,
    /// The loopback addresses', where no rule is about them.
    local: User,
    handles: Atomic<u32>,
    bytes: Atomic<usize>,
    waiting: Atomic<u32>,
    pub(crate) counters: Counters,
    /// For long requests.
    pub(crate) frames: Arc<Frames>,
    /// For the data of files.
    pub(crate) messages: Arc<Messages>,
}

/// The address that a peer has.
fn ip_of(addr: &Addr) -> Option<IpAddr> {
    let four = addr
        .ipv4()
        .map(|[a, b, c, d]| IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    four.or_else(|| addr.ipv6().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))))
}

impl Export {
    /// Serves `root`. `user` and `read_only` are for clients that no rule says otherwise of.
    /// `EINVAL` for a list that is wrong, which the log tells.
    pub(crate) fn new(
        root: Place,
        name: &[u8],
        limits: Limits,
        (uid, gid): (u32, u32),
        read_only: bool,
        allow: &[u8],
    ) -> Result<Self> {
        let credentials = Arc::new(Credentials::user(uid, gid)?, GFP_KERNEL)?;
        let local = User {
            credentials,
            read_only,
        };
        let mut guests = KVec::new();
        for (index, rule) in rules(allow).enumerate() {
            let rule = rule.map_err(|why| {
                let number = index.saturating_add(1);
                pr_err!(
                    "parameter allow, rule {}: {:?} is wrong; a rule is \
                     ADDRESS[/BITS][=UID:GID][+ro], and no id is 0\n",
                    number,
                    why
                );
                EINVAL
            })?;
            let credentials = match rule.user {
                Some((uid, gid)) => Arc::new(Credentials::user(uid, gid)?, GFP_KERNEL)?,
                None => local.credentials.clone(),
            };
            let user = User {
                credentials,
                read_only: read_only || rule.read_only,
            };
            guests.push(Guest { rule, user }, GFP_KERNEL)?;
        }
        let mut own_name = KVec::new();
        own_name.extend_from_slice(name, GFP_KERNEL)?;
        Ok(Export {
            root,
            name: own_name,
            limits,
            read_only,
            guests,
            local,
            handles: Atomic::new(0),
            bytes: Atomic::new(0),
            waiting: Atomic::new(0),
            frames: Frames::new()?,
            messages: Messages::new(KEPT)?,
            counters: Counters {
                requests: Atomic::new(0),
                errors: Atomic::new(0),
                lines: Atomic::new(0),
                read: Atomic::new(0),
                written: Atomic::new(0),
            },
        })
    }

    /// Whether anybody but this machine is let in.
    pub(crate) fn has_guests(&self) -> bool {
        !self.guests.is_empty()
    }

    /// Whose rights a peer has: the first rule's that fits, or on a loopback address the default's.
    /// `EACCES` for anybody else.
    pub(crate) fn admit(&self, peer: &Addr) -> Result<User> {
        let ip = ip_of(peer).ok_or(EACCES)?;
        let guest = self.guests.iter().find(|guest| guest.rule.fits(ip));
        match guest {
            Some(guest) => Ok(guest.user.clone()),
            None if ip.is_loopback() => Ok(self.local.clone()),
            None => Err(EACCES),
        }
    }

    /// Whose rights those have that no rule is about: this machine's clients, and the cluster's nodes.
    pub(crate) fn user(&self) -> &User {
        &self.local
    }

    /// The place that a path below the root names. No symbolic link is followed.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Place> {
        let mut place = self.root.clone();
        for part in components(path).ok_or(EINVAL)? {
            place = self.step(&place, part)?;
        }
        Ok(place)
    }

    fn step(&self, place: &Place, name: &[u8]) -> Result<Place> {
        if name == b".." {
            place.parent(&self.root)
        } else {
            place.walk(&self.root, name)
        }
    }

    /// The folder that a path's last name is in, and that name. `EINVAL` where there is none, or it
    /// is `..`.
    pub(crate) fn find_parent<'a>(&self, path: &'a [u8]) -> Result<(Place, &'a [u8])> {
        let mut parts = components(path).ok_or(EINVAL)?;
        let mut last = parts.next().ok_or(EINVAL)?;
        let mut place = self.root.clone();
        for part in parts {
            place = self.step(&place, last)?;
            last = part;
        }
        if last == b".." {
            return Err(EINVAL);
        }
        Ok((place, last))
    }

    /// One more handle; given back when the ticket is dropped. `ENFILE` past the bound.
    pub(crate) fn handle(self: &Arc<Self>) -> Result<HandleTicket> {
        // Relaxed, here and below: these are counts, nothing is handed over with them.
        if self.handles.fetch_add(1, Relaxed) >= self.limits.handles {
            self.handles.fetch_sub(1, Relaxed);
            return Err(ENFILE);
        }
        Ok(HandleTicket(self.clone()))
    }

    /// Room for so many bytes; given back when the ticket is dropped. `ENOBUFS` past the bound.
    pub(crate) fn room(self: &Arc<Self>, bytes: usize) -> Result<RoomTicket> {
        let held = self.bytes.fetch_add(bytes, Relaxed);
        if held.saturating_add(bytes) > self.limits.bytes {
            self.bytes.fetch_sub(bytes, Relaxed);
            return Err(errno::enobufs());
        }
        Ok(RoomTicket {
            export: self.clone(),
            bytes,
        })
    }

    /// One of the few that may wait for a lock; `None` where there are enough.
    pub(crate) fn wait(self: &Arc<Self>) -> Option<WaitTicket> {
        if self.waiting.fetch_add(1, Relaxed) >= MAX_WAITERS {
            self.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        Some(WaitTicket(self.clone()))
    }

    /// Handles and bytes that are held now.
    pub(crate) fn held(&self) -> (u32, usize) {
        (self.handles.load(Relaxed), self.bytes.load(Relaxed))
    }
}

/// Requests that wait for locks at one time, each with a thread; more are told to ask again.
const MAX_WAITERS: u32 = 64;

/// A handle that is held.
pub(crate) struct HandleTicket(Arc<Export>);

impl Drop for HandleTicket {
    fn drop(&mut self) {
        self.0.handles.fetch_sub(1, Relaxed);
    }
}

/// Bytes that are held.
pub(crate) struct RoomTicket {
    export: Arc<Export>,
    bytes: usize,
}

impl Drop for RoomTicket {
    fn drop(&mut self) {
        self.export.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// A request that waits for a lock.
pub(crate) struct WaitTicket(Arc<Export>);

impl Drop for WaitTicket {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
