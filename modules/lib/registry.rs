// SPDX-License-Identifier: GPL-2.0-only

//! The service registry: the functions that virgo-core exports.
//!
//! Beside [`super::service`], which every module has, this file is compiled into virgo-core alone.
//!
//! # Locking
//!
//! A mutex for those who come and go. Who uses a place takes no lock, as each ioctl on /dev/virgo
//! does that on all processors: it is found and counted as used under RCU, which pins the provider's
//! module, and given back by the count alone. A provider's own functions are called outside RCU.

use core::{
    ptr,
    sync::atomic::{
        AtomicPtr,
        AtomicUsize,
        Ordering, //
    }, //
};

use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVar,
        rcu,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use crate::{
    lib::{
        cluster::NodeId,
        compat::eopnotsupp,
        module::ModuleRef,
        service::{
            run_remote,
            ServiceOps,
            Slot,
            ABI, //
        },
    },
    proto::uapi::Module,
};

/// Tells that a module came or went.
#[pin_data]
pub(crate) struct Changes {
    #[pin]
    changed: PollCondVar,
    generation: Atomic<u64>,
}

impl Changes {
    /// Nothing has happened yet.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            changed <- kernel::new_poll_condvar!("virgo_core_changed"),
            generation: Atomic::new(1),
        })
    }

    /// Grows by one with each change.
    pub(crate) fn generation(&self) -> u64 {
        // Relaxed: the number is all there is to know; a poller is woken after it has grown.
        self.generation.load(Relaxed)
    }

    /// What wakes pollers after a change.
    pub(crate) fn condition(&self) -> &PollCondVar {
        &self.changed
    }

    fn announce(&self) {
        self.generation.fetch_add(1, Relaxed);
        self.changed.notify_all();
    }
}

/// A place in the registry.
///
/// The pointers in it are the provider's, which vouched that they may be used from any thread by
/// implementing `Service: Send + Sync`.
struct Place {
    ops: ServiceOps,
    users: AtomicUsize,
}

/// The places that are taken. A place is a box of its own, which is freed when it is not here any
/// more, a grace period has gone by, and it has no users.
static PLACES: [AtomicPtr<Place>; Module::ALL.len()] =
    [const { AtomicPtr::new(ptr::null_mut()) }; Module::ALL.len()];

/// Counts a use of the place, if somebody has it. Without sleeping.
///
/// `also` is what has to be got for the use as well; without it there is none. It is called under
/// RCU: the place's owner has not been unloaded meanwhile, since it waits for that.
fn enter(index: usize, also: impl FnOnce(&Place) -> bool) -> Option<*mut Place> {
    let _guard = rcu::read_lock();
    // Acquire: the place is seen as it was made.
    let place = PLACES.get(index)?.load(Ordering::Acquire);
    // SAFETY: Null, or a place, which is not freed while the guard lives.
    let seen = unsafe { place.as_ref() }?;
    if !also(seen) {
        return None;
    }
    // Relaxed: who waits for the users to go has waited for the guard before.
    seen.users.fetch_add(1, Ordering::Relaxed);
    Some(place)
}

/// Ends a use.
///
/// # Safety
///
/// The use was begun by [`enter`], and is ended here.
unsafe fn leave(place: *mut Place) {
    // Release: whatever was done with the place is over for who frees it.
    //
    // SAFETY: A place with users is not freed.
    unsafe { (*place).users.fetch_sub(1, Ordering::Release) };
}

/// What is told when a module comes or goes.
struct Table {
    changes: Option<Arc<Changes>>,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised in `Registry::new`, before the module's init is over and thus before
    // any other module can call an exported function.
    unsafe(uninit) static TABLE: Mutex<Table> = Table { changes: None };
}

/// The registry, open as long as this value lives. There is one, made by virgo-core's init.
pub(crate) struct Registry(());

impl Registry {
    /// Opens the registry. Call it once, in the module's init.
    pub(crate) fn new(changes: Arc<Changes>) -> Self {
        // SAFETY: Called once, by the contract of this function.
        unsafe { TABLE.init() };
        TABLE.lock().changes = Some(changes);
        Registry(())
    }

    /// The modules that are loaded, a bit each; virgo-core itself included.
    pub(crate) fn loaded(&self) -> u64 {
        let mut bits = 1 << (Module::Core as u32);
        for (number, place) in PLACES.iter().enumerate() {
            if !place.load(Ordering::Relaxed).is_null() {
                bits |= 1_u64 << number;
            }
        }
        bits
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Statics are not dropped. No place can be taken: each importing module pins this one.
        TABLE.lock().changes = None;
    }
}

fn place_index(id: u32) -> Option<usize> {
    let module = Module::from_number(id)?;
    // CAST: small constants.
    (module != Module::Core).then_some(module as usize)
}

/// Puts a service into the registry.
///
/// Returns its place, or an error pointer: `ENOEXEC` where `abi` or `size` is not this module's,
/// `EINVAL` for an unknown module, `EEXIST`, `ENOMEM`. May sleep.
///
/// # Safety
///
/// `ops` points to at least `size` bytes of a table whose functions and context stay valid until
/// the service is taken out again.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_register_service(
    ops: *const ServiceOps,
    abi: u32,
    size: u32,
) -> *mut Slot {
    let failed = |error: Error| ptr::without_provenance_mut(error.to_errno() as isize as usize);
    if abi != ABI || size as usize != size_of::<ServiceOps>() {
        pr_err!(
            "a module of another build was refused: its table has version {} and {} bytes, ours {} and {}; load modules of one build\n",
            abi,
            size,
            ABI,
            size_of::<ServiceOps>()
        );
        return failed(ENOEXEC);
    }
    // SAFETY: By the safety requirements, and the size is the table's.
    let ops = unsafe { *ops };
    let Some(index) = place_index(ops.id) else {
        return failed(EINVAL);
    };
    let users = AtomicUsize::new(0);
    let Ok(place) = KBox::new(Place { ops, users }, GFP_KERNEL) else {
        return failed(ENOMEM);
    };
    let table = TABLE.lock();
    let free = |entry: &&AtomicPtr<Place>| entry.load(Ordering::Relaxed).is_null();
    let Some(entry) = PLACES.get(index).filter(free) else {
        return failed(EEXIST);
    };
    let slot = KBox::into_raw(place);
    // Release: pairs with `enter`.
    entry.store(slot, Ordering::Release);
    let changes = table.changes.clone();
    drop(table);
    if let Some(changes) = changes {
        changes.announce();
    }
    slot.cast()
}
crate::virgo_export!(virgo_core_register_service);

/// Takes a service out of the registry and waits until nobody is inside it. Sleeps.
///
/// # Safety
///
/// `slot` came from [`virgo_core_register_service`] and is given up here.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_unregister_service(slot: *mut Slot) {
    let slot = slot.cast::<Place>();
    let table = TABLE.lock();
    let is = |entry: &&AtomicPtr<Place>| ptr::eq(entry.load(Ordering::Relaxed), slot);
    let Some(entry) = PLACES.iter().find(is) else {
        return;
    };
    entry.store(ptr::null_mut(), Ordering::Relaxed);
    let changes = table.changes.clone();
    drop(table);
    // Whoever found the place is counted as a user when this is over.
    //
    // SAFETY: This may sleep.
    unsafe { bindings::synchronize_rcu() };
    // Users by `virgo_core_service_get` hold a reference on the provider's module, so when it is
    // unloaded there are none of them, but if the provider's init fails after it registered.
    // Requests of other nodes hold none. Wait here for both; there are no new ones.
    //
    // SAFETY: The place is freed below only. Acquire: pairs with `leave`.
    while unsafe { (*slot).users.load(Ordering::Acquire) } != 0 {
        fsleep(Delta::from_millis(1));
    }
    // SAFETY: From `into_raw` when it was registered; there are no users and there can be no new ones.
    drop(unsafe { KBox::from_raw(slot) });
    if let Some(changes) = changes {
        changes.announce();
    }
}
crate::virgo_export!(virgo_core_unregister_service);

/// Takes a use of a module's service and pins the module. Null if it is not there, is being
/// unloaded, or `abi` is another version. Does not sleep.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_service_get(id: u32, abi: u32) -> *mut Slot {
    let Some(index) = place_index(id).filter(|_| abi == ABI) else {
        return ptr::null_mut();
    };
    let place = enter(index, |place| {
        // SAFETY: The owner is not freed before it has unregistered, which waits for RCU.
        let pin = unsafe { ModuleRef::try_get(place.ops.owner) };
        // Given up in `virgo_core_service_put`.
        pin.map(core::mem::forget).is_some()
    });
    place.unwrap_or(ptr::null_mut()).cast()
}
crate::virgo_export!(virgo_core_service_get);

/// Runs a module's `remote` for a request of another node, or of this one.
///
/// Unlike a use by [`virgo_core_service_get`] this does not pin the module, so that one under steady
/// traffic can be unloaded: taking the service out waits for the requests that are inside, and new
/// ones are `ENODEV`. Also `EOPNOTSUPP`, `EMSGSIZE`, or the handler's own error. Sleeps.
pub(crate) fn serve(
    module: Module,
    from: NodeId,
    operation: u32,
    input: &[u8],
    limit: usize,
) -> Result<KVVec<u8>> {
    // CAST: `repr(u32)`.
    let index = place_index(module as u32).ok_or(eopnotsupp())?;
    let place = enter(index, |_| true).ok_or(ENODEV)?;
    // SAFETY: A place with users is not freed; its table does not change, and the service is not
    // gone before `virgo_core_unregister_service` has seen that there are none.
    let result = unsafe { run_remote(&(*place).ops, from, operation, input, limit) };
    // SAFETY: Begun above.
    unsafe { leave(place) };
    result
}

/// The table of a service that is held.
///
/// # Safety
///
/// `slot` came from [`virgo_core_service_get`] and has not been given back.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_service_ops(slot: *const Slot) -> *const ServiceOps {
    // SAFETY: A place that is held is not freed. Its table does not change.
    unsafe { &raw const (*slot.cast::<Place>()).ops }
}
crate::virgo_export!(virgo_core_service_ops);

/// Gives back a use. Does not sleep.
///
/// # Safety
///
/// `slot` came from [`virgo_core_service_get`] and is given up here.
#[no_mangle]
pub(crate) unsafe extern "C" fn virgo_core_service_put(slot: *mut Slot) {
    let place = slot.cast::<Place>();
    // The module's reference first: as long as the use is counted, taking the service out waits,
    // so the provider cannot go away under either step.
    //
    // SAFETY: A place that is held is not freed; `get` took the reference for us.
    drop(unsafe { ModuleRef::adopt((*place).ops.owner) });
    // SAFETY: Begun by `get`.
    unsafe { leave(place) };
}
crate::virgo_export!(virgo_core_service_put);
