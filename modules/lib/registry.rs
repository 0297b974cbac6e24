// SPDX-License-Identifier: GPL-2.0-only

//! The service registry: the functions that virgo-core exports.
//!
//! Beside [`super::service`], which every module has, this file is compiled into virgo-core alone.
//!
//! # Locking
//!
//! One mutex over all places. A provider's own functions are never called under it: a user takes
//! a place (which pins the provider's module), lets go of the mutex, calls, and gives it back.

use core::ptr;

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVar,
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
struct Place {
    ops: ServiceOps,
    users: usize,
}

/// # Invariants
///
/// A place's box is freed only when it is out of the table and has no users.
struct Table {
    places: [Option<KBox<Place>>; Module::ALL.len()],
    changes: Option<Arc<Changes>>,
}

// SAFETY: The raw pointers in a place are the provider's, which vouched that they may be used from
// any thread by implementing `Service: Send + Sync`.
unsafe impl Send for Table {}

kernel::sync::global_lock! {
    // SAFETY: Initialised in `Registry::new`, before the module's init is over and thus before
    // any other module can call an exported function.
    unsafe(uninit) static TABLE: Mutex<Table> = Table {
        places: [const { None }; Module::ALL.len()],
        changes: None,
    };
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

    /// The modules that are loaded, a bit each; virgo-core itself included. May sleep.
    pub(crate) fn loaded(&self) -> u64 {
        let table = TABLE.lock();
        let mut bits = 1 << (Module::Core as u32);
        for (number, place) in table.places.iter().enumerate() {
            if place.is_some() {
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
    let Ok(mut place) = KBox::new(Place { ops, users: 0 }, GFP_KERNEL) else {
        return failed(ENOMEM);
    };
    let mut table = TABLE.lock();
    let slot: *mut Place = &mut *place;
    match table.places.get_mut(index) {
        Some(free @ None) => *free = Some(place),
        _ => return failed(EEXIST),
    }
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
    let mut table = TABLE.lock();
    let Some(entry) = table
        .places
        .iter_mut()
        .find(|entry| entry.as_deref().is_some_and(|place| ptr::eq(place, slot)))
    else {
        return;
    };
    let Some(place) = entry.take() else {
        return;
    };
    // Users by `virgo_core_service_get` hold a reference on the provider's module, so when it is
    // unloaded there are none of them, but if the provider's init fails after it registered.
    // Requests of other nodes hold none. Wait here for both, with the box out of the table, so that
    // no new user comes.
    let raw = KBox::into_raw(place);
    loop {
        // SAFETY: `raw` is freed below only; users change the count under the mutex, held here.
        if unsafe { (*raw).users } == 0 {
            break;
        }
        drop(table);
        fsleep(Delta::from_millis(1));
        table = TABLE.lock();
    }
    let changes = table.changes.clone();
    drop(table);
    // SAFETY: From `into_raw` above; there are no users and there can be no new ones.
    drop(unsafe { KBox::from_raw(raw) });
    if let Some(changes) = changes {
        changes.announce();
    }
}
crate::virgo_export!(virgo_core_unregister_service);

/// Takes a use of a module's service and pins the module. Null if it is not there, is being
/// unloaded, or `abi` is another version. May sleep.
#[no_mangle]
pub(crate) extern "C" fn virgo_core_service_get(id: u32, abi: u32) -> *mut Slot {
    let Some(index) = place_index(id).filter(|_| abi == ABI) else {
        return ptr::null_mut();
    };
    let mut table = TABLE.lock();
    let Some(place) = table.places.get_mut(index).and_then(Option::as_deref_mut) else {
        return ptr::null_mut();
    };
    // SAFETY: The owner is not freed before it has unregistered, for which it needs the mutex.
    let Some(pin) = (unsafe { ModuleRef::try_get(place.ops.owner) }) else {
        return ptr::null_mut();
    };
    // Given up in `virgo_core_service_put`.
    core::mem::forget(pin);
    place.users = place.users.saturating_add(1);
    ptr::from_mut(place).cast()
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
    let place: *mut Place = {
        let mut table = TABLE.lock();
        let place = table.places.get_mut(index).and_then(Option::as_deref_mut);
        let place = place.ok_or(ENODEV)?;
        place.users = place.users.saturating_add(1);
        place
    };
    // SAFETY: A place with users is not freed; its table does not change, and the service is not
    // gone before `virgo_core_unregister_service` has seen that there are none.
    let result = unsafe { run_remote(&(*place).ops, from, operation, input, limit) };
    let _table = TABLE.lock();
    // SAFETY: As above; the count changes under the mutex only.
    unsafe { (*place).users = (*place).users.saturating_sub(1) };
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

/// Gives back a use. May sleep.
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
    let _table = TABLE.lock();
    // SAFETY: Not freed, as above; the count changes under the mutex only.
    unsafe { (*place).users = (*place).users.saturating_sub(1) };
}
crate::virgo_export!(virgo_core_service_put);
