// SPDX-License-Identifier: GPL-2.0-only

//! Declarations of the C functions in `modules/shim` (include/virgo/shim.h) and of virgo-core's
//! exports. Nothing outside `modules/lib` sees them.

#![allow(
    improper_ctypes,
    reason = "without lockdep the bindings' lock_class_key has no fields, as in C; all is passed by pointer"
)]

use kernel::{
    bindings,
    ffi::{
        c_char,
        c_int,
        c_long,
        c_uint,
        c_ulong,
        c_void, //
    }, //
};

use super::{
    analytics::{
        RawNotice,
        RawValue, //
    },
    cluster::RawNode,
    event::{
        RawEvent,
        SinkOps, //
    },
    functions::{
        FunctionOps,
        FunctionSlot, //
    },
    service::{
        RawBuffer,
        ServiceOps,
        Slot, //
    },
    setting::{
        RawSetting,
        RawTold, //
    },
};

/// Mirror of `struct virgo_shim_counters`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) min_flt: u64,
    pub(super) maj_flt: u64,
    pub(super) exact_ns: u64,
    pub(super) utime_ns: u64,
    pub(super) stime_ns: u64,
    pub(super) rss_pages: u64,
    pub(super) state: u32,
    pub(super) exited: u32,
    pub(super) comm: [u8; 16],
}

/// Mirror of `struct virgo_shim_proc_ops`.
#[repr(C)]
pub(super) struct ProcOps {
    pub(super) show: unsafe extern "C" fn(*mut bindings::seq_file, *mut c_void) -> c_int,
    pub(super) write: Option<
        unsafe extern "C" fn(*const bindings::file, *const c_char, usize, *mut c_void) -> c_int,
    >,
}

/// `struct virgo_shim_proc`, of which C alone knows the inside.
#[repr(C)]
pub(super) struct Proc {
    _opaque: [u8; 0],
}

/// `struct proc_dir_entry`, likewise.
#[repr(C)]
pub(super) struct ProcDirEntry {
    _opaque: [u8; 0],
}

/// Mirror of `struct virgo_shim_fault`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fault {
    /// CLOCK_MONOTONIC when it began.
    pub start_ns: u64,
    /// CLOCK_MONOTONIC when it was done.
    pub end_ns: u64,
    /// What was accessed.
    pub address: u64,
    /// Where the program was.
    pub ip: u64,
    /// The address space, as a number.
    pub mm: u64,
    /// Thread, in the initial pid namespace.
    pub tid: u32,
    /// Bits of `trace::FAULT_`.
    pub flags: u32,
}

/// Mirror of `struct virgo_shim_area`.
#[repr(C)]
pub(super) struct Area {
    pub(super) id: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) inode: u64,
    pub(super) device: u32,
    pub(super) flags: u32,
    pub(super) name: *const c_char,
    pub(super) name_len: u64,
}

/// Mirror of `struct virgo_shim_trace_ops`.
#[repr(C)]
pub(super) struct TraceOps {
    pub(super) fault: unsafe extern "C" fn(*mut c_void, *const Fault),
    pub(super) area_write: unsafe extern "C" fn(*mut c_void, *const Area),
    pub(super) map_unlock: unsafe extern "C" fn(*mut c_void, *mut bindings::mm_struct),
    pub(super) map: unsafe extern "C" fn(*mut c_void, *mut bindings::mm_struct, *const c_char),
    pub(super) fork: unsafe extern "C" fn(*mut c_void, *mut bindings::task_struct),
    pub(super) exit: unsafe extern "C" fn(*mut c_void),
}

/// `struct virgo_shim_tracee`, of which C alone knows the inside.
#[repr(C)]
pub(super) struct ShimTracee {
    _opaque: [u8; 0],
}

/// Mirror of `struct virgo_shim_stream_ops`.
#[repr(C)]
pub(super) struct StreamOps {
    pub(super) open: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int,
    pub(super) read:
        unsafe extern "C" fn(*mut c_void, *const bindings::file, *mut c_char, usize) -> c_long,
    pub(super) write:
        unsafe extern "C" fn(*mut c_void, *const bindings::file, *const c_char, usize) -> c_int,
    pub(super) ioctl:
        unsafe extern "C" fn(*mut c_void, *const bindings::file, c_uint, c_ulong) -> c_long,
    pub(super) poll: unsafe extern "C" fn(
        *mut c_void,
        *mut bindings::file,
        *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t,
    pub(super) release: unsafe extern "C" fn(*mut c_void),
}

extern "C" {
    pub(super) fn virgo_shim_trace_register(ops: *const TraceOps) -> c_int;
    pub(super) fn virgo_shim_trace_unregister();
    pub(super) fn virgo_shim_trace_unpin();
    pub(super) fn virgo_shim_trace_exit();
    pub(super) fn virgo_shim_trace_sync();
    pub(super) fn virgo_shim_trace_walk(
        mm: *mut bindings::mm_struct,
        start: usize,
        end: usize,
        each: unsafe extern "C" fn(*mut c_void, *const Area) -> c_int,
        arg: *mut c_void,
    );
    pub(super) fn virgo_shim_tracee_add(
        task: *mut bindings::task_struct,
        context: *mut c_void,
    ) -> *mut ShimTracee;
    pub(super) fn virgo_shim_tracee_map(tracee: *mut ShimTracee) -> c_int;
    pub(super) fn virgo_shim_tracee_child(tracee: *mut ShimTracee);
    pub(super) fn virgo_shim_tracee_remove(tracee: *mut ShimTracee);
    pub(super) fn virgo_shim_tracee_free(tracee: *mut ShimTracee);
    pub(super) fn virgo_shim_trace_threads(
        task: *mut bindings::task_struct,
        each: unsafe extern "C" fn(*mut c_void, *mut bindings::task_struct),
        arg: *mut c_void,
        gone: *mut [u64; 2],
    ) -> c_int;
    pub(super) fn virgo_shim_trace_counted(
        thread: *const bindings::task_struct,
        counted: *mut [u64; 2],
    );
    pub(super) fn virgo_shim_trace_is_quiet(thread: *const bindings::task_struct) -> c_int;
    pub(super) fn virgo_shim_trace_settle();

    pub(super) fn virgo_shim_stream_create(
        path: *const c_char,
        mode: u16,
        ops: *const StreamOps,
        context: *mut c_void,
    ) -> *mut Proc;

    pub(super) fn virgo_shim_task_by_pid(nr: c_int, thread: c_int) -> *mut bindings::task_struct;
    pub(super) fn virgo_shim_task_by_pidfd(fd: c_int) -> *mut bindings::task_struct;
    pub(super) fn virgo_shim_task_counters(
        task: *mut bindings::task_struct,
        thread: c_int,
        cached: *mut *mut bindings::mm_struct,
        out: *mut Counters,
    ) -> c_int;
    pub(super) fn virgo_shim_mm_put(mm: *mut bindings::mm_struct);
    pub(super) fn virgo_shim_may_observe(
        task: *mut bindings::task_struct,
        opener: *const bindings::file,
    ) -> c_int;
    pub(super) fn virgo_shim_may_administer(opener: *const bindings::file) -> c_int;
    pub(super) fn virgo_shim_observer(opener: *const bindings::file, uid: *mut u32) -> c_int;
    pub(super) fn virgo_shim_owned_by(uid: u32) -> c_int;
    pub(super) fn virgo_shim_task_ids(
        task: *mut bindings::task_struct,
        vpid: *mut [c_int; 2],
        pid: *mut [c_int; 2],
    );

    pub(super) fn virgo_shim_wait_for_stop();
    pub(super) fn virgo_shim_from_user(to: *mut c_void, src: *const c_void, len: usize) -> c_int;
    pub(super) fn virgo_shim_to_user(dst: *mut c_void, from: *const c_void, len: usize) -> c_int;
    pub(super) fn virgo_shim_in_task() -> c_int;
    pub(super) fn virgo_shim_open_in(
        root: *const c_char,
        name: *const c_char,
        flags: c_int,
        mode: u16,
    ) -> *mut bindings::file;

    pub(super) fn virgo_shim_proc_create(
        path: *const c_char,
        mode: u16,
        ops: *const ProcOps,
        context: *mut c_void,
    ) -> *mut Proc;
    pub(super) fn virgo_shim_proc_remove(proc: *mut Proc);
    pub(super) fn virgo_shim_proc_mkdir(path: *const c_char) -> *mut ProcDirEntry;
    pub(super) fn virgo_shim_proc_rmdir(dir: *mut ProcDirEntry);

    // The kernel's own, which the bindings leave out (include/linux/shrinker.h).
    pub(super) fn shrinker_alloc(
        flags: kernel::ffi::c_uint,
        format: *const c_char,
        ...
    ) -> *mut bindings::shrinker;
    pub(super) fn shrinker_register(shrinker: *mut bindings::shrinker);
    pub(super) fn shrinker_free(shrinker: *mut bindings::shrinker);

    // Exported by virgo-core itself, modules/virgo-core/registry.rs.
    pub(super) fn virgo_core_register_service(
        ops: *const ServiceOps,
        abi: u32,
        size: u32,
    ) -> *mut Slot;
    pub(super) fn virgo_core_unregister_service(slot: *mut Slot);
    pub(super) fn virgo_core_service_get(id: u32, abi: u32) -> *mut Slot;
    pub(super) fn virgo_core_service_ops(slot: *const Slot) -> *const ServiceOps;
    pub(super) fn virgo_core_service_put(slot: *mut Slot);

    // Exported by virgo-cpupool, modules/lib/function_table.rs.
    pub(super) fn virgo_cpupool_register_function(
        ops: *const FunctionOps,
        abi: u32,
        size: u32,
    ) -> *mut FunctionSlot;
    pub(super) fn virgo_cpupool_unregister_function(slot: *mut FunctionSlot);

    // Exported by virgo-core, modules/lib/cluster_exports.rs.
    pub(super) fn virgo_core_cluster_me() -> u32;
    pub(super) fn virgo_core_cluster_alone() -> c_int;
    pub(super) fn virgo_core_cluster_nodes(
        out: *mut RawNode,
        capacity: usize,
        size: usize,
    ) -> isize;
    pub(super) fn virgo_core_cluster_pick(policy: u32, node: u32, chosen: *mut u32) -> i32;
    pub(super) fn virgo_core_cluster_here(begins: i32);
    pub(super) fn virgo_core_cluster_owner(key: *const u8, length: usize) -> u32;
    pub(super) fn virgo_core_cluster_call(
        node: u32,
        module: u32,
        operation: u32,
        input: *const u8,
        input_len: usize,
        reply_limit: usize,
        timeout_ms: u32,
        output: *mut RawBuffer,
    ) -> i32;

    // Likewise, modules/lib/event_exports.rs.
    pub(super) static virgo_core_event_mask: kernel::sync::atomic::Atomic<u32>;
    pub(super) fn virgo_core_event_log(event: *const RawEvent) -> u64;
    pub(super) fn virgo_core_event_attach(ops: *const SinkOps, abi: u32, size: u32) -> i32;
    pub(super) fn virgo_core_event_detach();
    pub(super) fn virgo_eventnet_log(message: *const c_char) -> i32;
    pub(super) fn virgo_core_clock_tick() -> u64;
    pub(super) fn virgo_core_clock_seen(stamp: u64) -> u64;

    // Likewise, modules/lib/setting_table.rs.
    pub(super) fn virgo_core_setting_add(raw: *const RawSetting) -> i64;
    pub(super) fn virgo_core_setting_remove(id: i64);
    pub(super) fn virgo_core_setting_at(place: usize, out: *mut RawTold) -> i32;
    pub(super) fn virgo_core_setting_find(name: *const u8, length: usize, out: *mut RawTold)
        -> i32;
    pub(super) fn virgo_core_setting_apply(name: *const u8, length: usize, value: i64) -> i32;

    // Likewise, modules/lib/bandwidth_bucket.rs.
    pub(super) fn virgo_core_bandwidth_take(bytes: usize) -> u64;

    // Exported by virgo-analytics, modules/lib/analytics_exports.rs.
    pub(super) fn virgo_analytics_get(
        key: *const u8,
        key_len: usize,
        value: *mut RawValue,
        text: *mut u8,
        capacity: usize,
    ) -> i32;
    pub(super) fn virgo_analytics_watch(
        key: *const u8,
        key_len: usize,
        changed: unsafe extern "C" fn(context: *mut c_void, notice: *const RawNotice),
        context: *mut c_void,
    ) -> i64;
    pub(super) fn virgo_analytics_unwatch(id: i64);
}
