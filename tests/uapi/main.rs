// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The Rust mirror of the uAPI against the C header, size by size and offset by offset.
//!
//! A C program is generated, compiled against `include/uapi/linux/virgo.h` by the system's `cc`,
//! and what it prints is compared with what Rust says; for 32-bit callers the compiler checks the
//! same by static assertions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use virgo_proto::uapi;

/// Each row: the C expression and Rust's value for it.
type Rows = BTreeMap<String, u64>;

macro_rules! layout {
    ($rows:ident, $rust:ty, $c:literal, [$($field:ident),+ $(,)?]) => {
        $rows.insert(format!("sizeof(struct {})", $c), size_of::<$rust>() as u64);
        let mut fields = 0;
        $(
            $rows.insert(
                format!("offsetof(struct {}, {})", $c, stringify!($field)),
                offset_of!($rust, $field) as u64,
            );
            let _ = |value: $rust| value.$field;
            fields += 1;
        )+
        // A pattern without `..` makes the compiler insist that every field is in the list.
        let _ = |value: $rust| { let _all = value; };
        $rows.insert(format!("fields of {}", $c), fields);
    };
}

/// What belongs to the pool of functions.
fn cpupool_rows(rows: &mut Rows) {
    layout!(
        rows,
        uapi::CpupoolCall,
        "virgo_cpupool_call",
        [
            size,
            flags,
            policy,
            node,
            name,
            input,
            output,
            name_length,
            input_length,
            output_capacity,
            output_length,
            timeout_ms,
            reserved0,
            elapsed_ns,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::CpupoolFunction,
        "virgo_cpupool_function",
        [name, flags, running, calls, failed, busy_ns]
    );
    layout!(
        rows,
        uapi::CpupoolList,
        "virgo_cpupool_list",
        [size, flags, node, capacity, entries, count, reserved0, reserved]
    );
    layout!(
        rows,
        uapi::CpupoolProgram,
        "virgo_cpupool_program",
        [name, path, uid, gid, time_ms, processes, memory, output, runs, reserved]
    );
    layout!(
        rows,
        uapi::CpupoolSet,
        "virgo_cpupool_set",
        [
            size,
            flags,
            count,
            at_once,
            entries,
            group,
            group_length,
            reserved0,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::CpupoolStart,
        "virgo_cpupool_start",
        [
            size,
            flags,
            policy,
            node,
            arguments,
            input,
            arguments_length,
            input_length,
            time_ms,
            processes,
            memory,
            output,
            id,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::CpupoolFollow,
        "virgo_cpupool_follow",
        [
            size, flags, node, wait_ms, id, out_at, err_at, out, err, capacity, reserved0,
            out_length, err_length, state, status, reason, more, elapsed_ns, user_ns, system_ns,
            peak_bytes, reserved
        ]
    );
    layout!(
        rows,
        uapi::CpupoolKill,
        "virgo_cpupool_kill",
        [size, flags, node, reserved0, id, reserved]
    );
    layout!(
        rows,
        uapi::CpupoolLend,
        "virgo_cpupool_lend",
        [size, flags, reserved]
    );
    layout!(
        rows,
        uapi::CpupoolRun,
        "virgo_cpupool_run",
        [id, elapsed_ns, out_bytes, err_bytes, uid, state, reason, reserved, name]
    );
    let numbers: [(&str, u64); 14] = [
        (
            "VIRGO_CPUPOOL_PROGRAM_LEN",
            uapi::CPUPOOL_PROGRAM_LEN as u64,
        ),
        ("VIRGO_CPUPOOL_PATH_LEN", uapi::CPUPOOL_PATH_LEN as u64),
        ("VIRGO_CPUPOOL_IOC_SET", uapi::CPUPOOL_IOC_SET.into()),
        (
            "VIRGO_CPUPOOL_IOC_PROGRAMS",
            uapi::CPUPOOL_IOC_PROGRAMS.into(),
        ),
        ("VIRGO_CPUPOOL_IOC_START", uapi::CPUPOOL_IOC_START.into()),
        ("VIRGO_CPUPOOL_IOC_FOLLOW", uapi::CPUPOOL_IOC_FOLLOW.into()),
        ("VIRGO_CPUPOOL_IOC_KILL", uapi::CPUPOOL_IOC_KILL.into()),
        ("VIRGO_CPUPOOL_IOC_LEND", uapi::CPUPOOL_IOC_LEND.into()),
        ("VIRGO_CPUPOOL_IOC_RUNS", uapi::CPUPOOL_IOC_RUNS.into()),
        ("VIRGO_CPUPOOL_NAME_LEN", uapi::CPUPOOL_NAME_LEN as u64),
        ("VIRGO_CPUPOOL_IDEMPOTENT", uapi::CPUPOOL_IDEMPOTENT.into()),
        ("VIRGO_CPUPOOL_SLOW", uapi::CPUPOOL_SLOW.into()),
        ("VIRGO_CPUPOOL_IOC_CALL", uapi::CPUPOOL_IOC_CALL.into()),
        ("VIRGO_CPUPOOL_IOC_LIST", uapi::CPUPOOL_IOC_LIST.into()),
    ];
    for (name, value) in numbers {
        rows.insert(name.into(), value);
    }
}

/// What belongs to EventNet.
fn eventnet_rows(rows: &mut Rows) {
    layout!(
        rows,
        uapi::EventnetLog,
        "virgo_eventnet_log",
        [size, flags, message, length, node, stamp, reserved]
    );
    layout!(
        rows,
        uapi::EventnetRead,
        "virgo_eventnet_read",
        [size, flags, buffer, position, capacity, length, next, end, reserved]
    );
    layout!(
        rows,
        uapi::EventnetStat,
        "virgo_eventnet_stat",
        [
            size,
            flags,
            events,
            vertices,
            edges,
            lost,
            losses,
            refused,
            received,
            forwarded,
            behind,
            journal_bytes,
            rendered_bytes,
            journal_errno,
            render_errno,
            node,
            modules,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::EventnetSettings,
        "virgo_eventnet_settings",
        [size, flags, modules, flush_ms, ring, collector, reserved]
    );
    let constants: &[(&str, u32)] = &[
        ("VIRGO_EVENTNET_SET_MODULES", uapi::EVENTNET_SET_MODULES),
        ("VIRGO_EVENTNET_SET_FLUSH", uapi::EVENTNET_SET_FLUSH),
        ("VIRGO_EVENTNET_SET_COLLECTOR", uapi::EVENTNET_SET_COLLECTOR),
        ("VIRGO_EVENTNET_IOC_LOG", uapi::EVENTNET_IOC_LOG),
        ("VIRGO_EVENTNET_IOC_READ", uapi::EVENTNET_IOC_READ),
        ("VIRGO_EVENTNET_IOC_STAT", uapi::EVENTNET_IOC_STAT),
        ("VIRGO_EVENTNET_IOC_SETTINGS", uapi::EVENTNET_IOC_SETTINGS),
    ];
    for (name, value) in constants {
        rows.insert((*name).to_string(), (*value).into());
    }
}

/// What belongs to the nodes.
fn nodes_rows(rows: &mut Rows) {
    layout!(
        rows,
        uapi::NodeAddress,
        "virgo_node_address",
        [ip, scope, port, weight, reserved]
    );
    layout!(
        rows,
        uapi::NodesLoad,
        "virgo_nodes_load",
        [
            size, flags, nodes, count, self_index, bind_ip, bind_port, bind_scope, key, key_length,
            reserved0, generation, reserved
        ]
    );
    layout!(
        rows,
        uapi::Node,
        "virgo_node",
        [
            id, state, ip, scope, port, weight, flags, load, runnable, cpus, pressure, free_kib,
            total_kib, rtt_ns, since_ns, calls, failed, in_flight, reserved0, error
        ]
    );
    layout!(
        rows,
        uapi::NodesList,
        "virgo_nodes_list",
        [
            size,
            flags,
            entries,
            capacity,
            count,
            generation,
            bind_ip,
            bind_port,
            keyed,
            connections,
            strangers,
            refused,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::NodesPolicy,
        "virgo_nodes_policy",
        [size, flags, policy, reserved0, seed, reserved]
    );
    layout!(
        rows,
        uapi::NodePing,
        "virgo_node_ping",
        [size, flags, node, timeout_ms, rtt_ns, reserved]
    );
    layout!(
        rows,
        uapi::NodePick,
        "virgo_node_pick",
        [size, flags, policy, node, key, key_length, reserved0, reserved]
    );
    let numbers: [(&str, u64); 23] = [
        ("VIRGO_FEATURE_NODES", uapi::FEATURE_NODES),
        ("VIRGO_NODES_MAX", uapi::NODES_MAX.into()),
        ("VIRGO_NODE_WEIGHT_MAX", uapi::NODE_WEIGHT_MAX.into()),
        ("VIRGO_NODES_KEY_MIN", uapi::NODES_KEY_MIN.into()),
        ("VIRGO_NODES_KEY_MAX", uapi::NODES_KEY_MAX.into()),
        ("VIRGO_NODE_ERROR_LEN", uapi::NODE_ERROR_LEN as u64),
        ("VIRGO_POLICY_DEFAULT", uapi::POLICY_DEFAULT.into()),
        (
            "VIRGO_POLICY_LEAST_LOADED",
            uapi::POLICY_LEAST_LOADED.into(),
        ),
        ("VIRGO_POLICY_RANDOM", uapi::POLICY_RANDOM.into()),
        ("VIRGO_POLICY_TWO_CHOICES", uapi::POLICY_TWO_CHOICES.into()),
        ("VIRGO_POLICY_NODE", uapi::POLICY_NODE.into()),
        ("VIRGO_NODE_UP", uapi::NODE_UP.into()),
        ("VIRGO_NODE_SUSPECT", uapi::NODE_SUSPECT.into()),
        ("VIRGO_NODE_DOWN", uapi::NODE_DOWN.into()),
        ("VIRGO_NODE_SELF", uapi::NODE_SELF.into()),
        ("VIRGO_NODES_SET_POLICY", uapi::NODES_SET_POLICY.into()),
        ("VIRGO_NODES_SET_SEED", uapi::NODES_SET_SEED.into()),
        ("VIRGO_PICK_OWNER", uapi::PICK_OWNER.into()),
        ("VIRGO_IOC_NODES_LOAD", uapi::IOC_NODES_LOAD.into()),
        ("VIRGO_IOC_NODES_LIST", uapi::IOC_NODES_LIST.into()),
        ("VIRGO_IOC_NODES_POLICY", uapi::IOC_NODES_POLICY.into()),
        ("VIRGO_IOC_NODE_PING", uapi::IOC_NODE_PING.into()),
        ("VIRGO_IOC_NODE_PICK", uapi::IOC_NODE_PICK.into()),
    ];
    for (name, value) in numbers {
        rows.insert(name.into(), value);
    }
}

/// What belongs to the queue.
fn queue_rows(rows: &mut Rows) {
    layout!(
        rows,
        uapi::QueuePut,
        "virgo_queue_put",
        [size, flags, body, length, pri, delay, ttr, id, reserved, tube]
    );
    layout!(
        rows,
        uapi::QueueTake,
        "virgo_queue_take",
        [size, flags, body, capacity, length, timeout_ms, pri, ttr, reserves, id, reserved, tube]
    );
    layout!(
        rows,
        uapi::QueueDone,
        "virgo_queue_done",
        [size, flags, id, action, pri, delay, reserved0, reserved]
    );
    layout!(
        rows,
        uapi::QueuePeek,
        "virgo_queue_peek",
        [
            size, flags, id, body, capacity, length, pri, ttr, delay, state, reserves, timeouts,
            releases, buries, kicks, reserved0, age_ns, left_ns, reserved, tube
        ]
    );
    layout!(
        rows,
        uapi::QueueStat,
        "virgo_queue_stat",
        [
            size,
            flags,
            ready,
            delayed,
            buried,
            reserved,
            urgent,
            waiting,
            total,
            deletes,
            timeouts,
            bytes,
            max_bytes,
            tubes,
            workers,
            log_bytes,
            log_records,
            log_damaged,
            draining,
            log,
            log_error,
            reserved0,
            pause_left_ns,
            reserved1,
            tube
        ]
    );
    layout!(
        rows,
        uapi::QueueList,
        "virgo_queue_list",
        [size, flags, names, capacity, length, count, reserved0, reserved]
    );
    layout!(
        rows,
        uapi::QueueDrain,
        "virgo_queue_drain",
        [size, flags, draining, reserved0]
    );
    layout!(
        rows,
        uapi::QueueTube,
        "virgo_queue_tube",
        [size, flags, limit, tries, keep, length, copies, capacity, reserved0, reserved, tube]
    );
    layout!(
        rows,
        uapi::QueueReply,
        "virgo_queue_reply",
        [size, flags, id, body, length, reserved0, reserved]
    );
    layout!(
        rows,
        uapi::QueueResult,
        "virgo_queue_result",
        [size, flags, id, body, capacity, length, error, kind, reserved]
    );
    layout!(
        rows,
        uapi::QueueProgram,
        "virgo_queue_program",
        [
            state, status, reason, out_length, err_length, node, elapsed_ns, user_ns, system_ns,
            peak_bytes
        ]
    );
    let constants: &[(&str, u64)] = &[
        ("VIRGO_QUEUE_KEEP_DEFAULT", uapi::QUEUE_KEEP_DEFAULT.into()),
        ("VIRGO_QUEUE_KEEP_NONE", uapi::QUEUE_KEEP_NONE.into()),
        ("VIRGO_QUEUE_KEEP_LATER", uapi::QUEUE_KEEP_LATER.into()),
        ("VIRGO_QUEUE_KEEP_ALWAYS", uapi::QUEUE_KEEP_ALWAYS.into()),
        ("VIRGO_QUEUE_ANSWER_BYTES", uapi::QUEUE_ANSWER_BYTES.into()),
        (
            "VIRGO_QUEUE_ANSWER_PROGRAM",
            uapi::QUEUE_ANSWER_PROGRAM.into(),
        ),
        ("VIRGO_QUEUE_TUBE_SET", uapi::QUEUE_TUBE_SET.into()),
        ("VIRGO_QUEUE_IOC_TUBE", uapi::QUEUE_IOC_TUBE.into()),
        ("VIRGO_QUEUE_IOC_REPLY", uapi::QUEUE_IOC_REPLY.into()),
        ("VIRGO_QUEUE_IOC_RESULT", uapi::QUEUE_IOC_RESULT.into()),
        ("VIRGO_QUEUE_FOREVER", uapi::QUEUE_FOREVER.into()),
        ("VIRGO_QUEUE_TAKE_ID", uapi::QUEUE_TAKE_ID.into()),
        ("VIRGO_QUEUE_ACK", uapi::QUEUE_ACK.into()),
        ("VIRGO_QUEUE_RELEASE", uapi::QUEUE_RELEASE.into()),
        ("VIRGO_QUEUE_BURY", uapi::QUEUE_BURY.into()),
        ("VIRGO_QUEUE_TOUCH", uapi::QUEUE_TOUCH.into()),
        ("VIRGO_QUEUE_KICK", uapi::QUEUE_KICK.into()),
        ("VIRGO_QUEUE_PEEK_NEXT", uapi::QUEUE_PEEK_NEXT.into()),
        ("VIRGO_QUEUE_READY", uapi::QUEUE_READY.into()),
        ("VIRGO_QUEUE_DELAYED", uapi::QUEUE_DELAYED.into()),
        ("VIRGO_QUEUE_BURIED", uapi::QUEUE_BURIED.into()),
        ("VIRGO_QUEUE_RESERVED", uapi::QUEUE_RESERVED.into()),
        ("VIRGO_QUEUE_LOG_NONE", uapi::QUEUE_LOG_NONE.into()),
        ("VIRGO_QUEUE_LOG_NEVER", uapi::QUEUE_LOG_NEVER.into()),
        ("VIRGO_QUEUE_LOG_INTERVAL", uapi::QUEUE_LOG_INTERVAL.into()),
        ("VIRGO_QUEUE_LOG_ALWAYS", uapi::QUEUE_LOG_ALWAYS.into()),
        ("VIRGO_QUEUE_DRAIN_SET", uapi::QUEUE_DRAIN_SET.into()),
        ("VIRGO_QUEUE_IOC_PUT", uapi::QUEUE_IOC_PUT.into()),
        ("VIRGO_QUEUE_IOC_TAKE", uapi::QUEUE_IOC_TAKE.into()),
        ("VIRGO_QUEUE_IOC_DONE", uapi::QUEUE_IOC_DONE.into()),
        ("VIRGO_QUEUE_IOC_PEEK", uapi::QUEUE_IOC_PEEK.into()),
        ("VIRGO_QUEUE_IOC_STAT", uapi::QUEUE_IOC_STAT.into()),
        ("VIRGO_QUEUE_IOC_LIST", uapi::QUEUE_IOC_LIST.into()),
        ("VIRGO_QUEUE_IOC_DRAIN", uapi::QUEUE_IOC_DRAIN.into()),
        ("VIRGO_QUEUE_NAME_LEN", uapi::QUEUE_NAME_LEN as u64),
    ];
    for (name, value) in constants {
        rows.insert((*name).into(), *value);
    }
}

/// What belongs to the settings.
fn analytics_rows(rows: &mut Rows) {
    layout!(
        rows,
        uapi::AnalyticsGet,
        "virgo_analytics_get",
        [
            size,
            flags,
            text,
            capacity,
            length,
            index,
            kind,
            number,
            low,
            high,
            version,
            changed_ns,
            left_ms,
            source,
            uid,
            pid,
            state,
            cluster_stamp,
            cluster_node,
            reserved,
            comm,
            key,
            reader,
            words,
            initial,
            why
        ]
    );
    layout!(
        rows,
        uapi::AnalyticsSet,
        "virgo_analytics_set",
        [
            size, flags, text, length, source, ttl_ms, kind, version, low, high, limit, reached,
            nodes, reserved, key, words, why
        ]
    );
    layout!(
        rows,
        uapi::AnalyticsDefine,
        "virgo_analytics_define",
        [size, flags, kind, length, text, low, high, limit, reserved, key, reader, words]
    );
    layout!(
        rows,
        uapi::AnalyticsChange,
        "virgo_analytics_change",
        [version, when_ns, source, flags, uid, pid, comm, key, before, after, why]
    );
    layout!(
        rows,
        uapi::AnalyticsLog,
        "virgo_analytics_log",
        [size, flags, entries, capacity, count, after, lost, reserved]
    );
    layout!(
        rows,
        uapi::AnalyticsUndo,
        "virgo_analytics_undo",
        [size, flags, count, done, version, reserved]
    );
    layout!(
        rows,
        uapi::AnalyticsInfo,
        "virgo_analytics_info",
        [
            size,
            flags,
            version,
            settings,
            max_settings,
            bytes,
            max_bytes,
            refused,
            expired,
            undoable,
            watchers,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::AnalyticsSeen,
        "virgo_analytics_seen",
        [size, flags, version]
    );
    let constants: &[(&str, u64)] = &[
        ("VIRGO_ANALYTICS_KEY_LEN", uapi::ANALYTICS_KEY_LEN as u64),
        ("VIRGO_ANALYTICS_WHY_LEN", uapi::ANALYTICS_WHY_LEN as u64),
        (
            "VIRGO_ANALYTICS_READER_LEN",
            uapi::ANALYTICS_READER_LEN as u64,
        ),
        (
            "VIRGO_ANALYTICS_WORDS_LEN",
            uapi::ANALYTICS_WORDS_LEN as u64,
        ),
        ("VIRGO_ANALYTICS_CUT_LEN", uapi::ANALYTICS_CUT_LEN as u64),
        (
            "VIRGO_ANALYTICS_VALUE_MAX",
            uapi::ANALYTICS_VALUE_MAX.into(),
        ),
        ("VIRGO_ANALYTICS_UNDO_MAX", uapi::ANALYTICS_UNDO_MAX.into()),
        (
            "VIRGO_ANALYTICS_GET_INDEX",
            uapi::ANALYTICS_GET_INDEX.into(),
        ),
        ("VIRGO_ANALYTICS_READ", uapi::ANALYTICS_READ.into()),
        ("VIRGO_ANALYTICS_DECLARED", uapi::ANALYTICS_DECLARED.into()),
        (
            "VIRGO_ANALYTICS_SET_CREATE",
            uapi::ANALYTICS_SET_CREATE.into(),
        ),
        (
            "VIRGO_ANALYTICS_SET_UNSET",
            uapi::ANALYTICS_SET_UNSET.into(),
        ),
        ("VIRGO_ANALYTICS_SET_IF", uapi::ANALYTICS_SET_IF.into()),
        (
            "VIRGO_ANALYTICS_SET_CLUSTER",
            uapi::ANALYTICS_SET_CLUSTER.into(),
        ),
        ("VIRGO_ANALYTICS_CLUSTER", uapi::ANALYTICS_CLUSTER.into()),
        (
            "VIRGO_ANALYTICS_CLUSTER_REFUSED",
            uapi::ANALYTICS_CLUSTER_REFUSED.into(),
        ),
        (
            "VIRGO_ANALYTICS_CHANGE_CLUSTER",
            uapi::ANALYTICS_CHANGE_CLUSTER.into(),
        ),
        (
            "VIRGO_ANALYTICS_CHANGE_UNSET",
            uapi::ANALYTICS_CHANGE_UNSET.into(),
        ),
        (
            "VIRGO_ANALYTICS_CHANGE_UNDO",
            uapi::ANALYTICS_CHANGE_UNDO.into(),
        ),
        (
            "VIRGO_ANALYTICS_CHANGE_EXPIRED",
            uapi::ANALYTICS_CHANGE_EXPIRED.into(),
        ),
        ("VIRGO_ANALYTICS_TEXT", uapi::ANALYTICS_TEXT.into()),
        ("VIRGO_ANALYTICS_INT", uapi::ANALYTICS_INT.into()),
        ("VIRGO_ANALYTICS_BOOL", uapi::ANALYTICS_BOOL.into()),
        ("VIRGO_ANALYTICS_CHOICE", uapi::ANALYTICS_CHOICE.into()),
        (
            "VIRGO_ANALYTICS_BY_DEFAULT",
            uapi::ANALYTICS_BY_DEFAULT.into(),
        ),
        (
            "VIRGO_ANALYTICS_BY_PERSON",
            uapi::ANALYTICS_BY_PERSON.into(),
        ),
        ("VIRGO_ANALYTICS_BY_FILE", uapi::ANALYTICS_BY_FILE.into()),
        (
            "VIRGO_ANALYTICS_BY_STREAM",
            uapi::ANALYTICS_BY_STREAM.into(),
        ),
        (
            "VIRGO_ANALYTICS_BY_LEARNER",
            uapi::ANALYTICS_BY_LEARNER.into(),
        ),
        ("VIRGO_ANALYTICS_IOC_GET", uapi::ANALYTICS_IOC_GET.into()),
        ("VIRGO_ANALYTICS_IOC_SET", uapi::ANALYTICS_IOC_SET.into()),
        (
            "VIRGO_ANALYTICS_IOC_DEFINE",
            uapi::ANALYTICS_IOC_DEFINE.into(),
        ),
        ("VIRGO_ANALYTICS_IOC_LOG", uapi::ANALYTICS_IOC_LOG.into()),
        ("VIRGO_ANALYTICS_IOC_UNDO", uapi::ANALYTICS_IOC_UNDO.into()),
        ("VIRGO_ANALYTICS_IOC_INFO", uapi::ANALYTICS_IOC_INFO.into()),
        ("VIRGO_ANALYTICS_IOC_SEEN", uapi::ANALYTICS_IOC_SEEN.into()),
    ];
    for (name, value) in constants {
        rows.insert((*name).into(), *value);
    }
}

/// What belongs to the memory pool.
fn mempool_rows(rows: &mut Rows) {
    layout!(rows, uapi::Vuid, "virgo_vuid", [word]);
    layout!(
        rows,
        uapi::MemMalloc,
        "virgo_mem_malloc",
        [size, flags, length, node, policy, chunk, reserved0, vuid, reserved]
    );
    layout!(
        rows,
        uapi::MemIo,
        "virgo_mem_io",
        [
            size,
            flags,
            vuid,
            offset,
            length,
            address,
            block_length,
            node,
            reserved0,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::MemFree,
        "virgo_mem_free",
        [size, flags, vuid, reserved]
    );
    layout!(
        rows,
        uapi::MemBlock,
        "virgo_mem_block",
        [vuid, length, created_ns, flags, uid, pid, node]
    );
    layout!(
        rows,
        uapi::MemList,
        "virgo_mem_list",
        [size, flags, entries, capacity, count, reserved]
    );
    layout!(
        rows,
        uapi::MemStat,
        "virgo_mem_stat",
        [
            size,
            flags,
            node,
            connections,
            blocks,
            block_bytes,
            block_limit,
            blocks_made,
            items,
            item_bytes,
            held_bytes,
            memory_limit,
            items_made,
            gets,
            hits,
            sets,
            deletes,
            expired,
            evicted,
            shrunk,
            shares,
            share_bytes,
            connections_made,
            connections_refused,
            start_ns,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::MemPut,
        "virgo_mem_put",
        [
            size, flags, key, value, key_len, value_len, item_flags, mode, exptime, cas, node,
            reserved0, reserved
        ]
    );
    layout!(
        rows,
        uapi::MemTake,
        "virgo_mem_take",
        [
            size, flags, key, value, key_len, capacity, value_len, item_flags, exptime, cas, node,
            reserved0, reserved
        ]
    );
    layout!(
        rows,
        uapi::MemDrop,
        "virgo_mem_drop",
        [size, flags, key, key_len, node, cas, reserved]
    );
    layout!(
        rows,
        uapi::MemCount,
        "virgo_mem_count",
        [size, flags, key, key_len, node, delta, initial, exptime, value, cas, reserved]
    );
    layout!(
        rows,
        uapi::MemRecord,
        "virgo_mem_record",
        [length, key_len, value_len, item_flags, expires, cas]
    );
    layout!(
        rows,
        uapi::MemScan,
        "virgo_mem_scan",
        [size, flags, buffer, capacity, used, cursor, count, needed, reserved]
    );
    layout!(
        rows,
        uapi::MemFlush,
        "virgo_mem_flush",
        [size, flags, delay_s, reserved0, reserved]
    );
    layout!(
        rows,
        uapi::MemSettings,
        "virgo_mem_settings",
        [
            size,
            flags,
            memory_limit,
            block_limit,
            item_max,
            evict,
            max_blocks,
            idle_ms,
            max_connections,
            port,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::MemTable,
        "virgo_mem_table",
        [
            magic,
            layout,
            header_size,
            slot_size,
            slots,
            seed,
            changes,
            items,
            hidden,
            clock_s,
            closed,
            prefix_len,
            reserved0,
            prefix
        ]
    );
    layout!(
        rows,
        uapi::MemSlot,
        "virgo_mem_slot",
        [seq, hash, cas, item_flags, expire, key_len, value_len]
    );
    layout!(
        rows,
        uapi::MemShare,
        "virgo_mem_share",
        [size, flags, prefix, prefix_len, slot_size, slots, map_bytes, changes, reserved]
    );
    layout!(
        rows,
        uapi::FsOpen,
        "virgo_fs_open",
        [size, flags, path, path_len, open_flags, mode, node, handle]
    );
    layout!(
        rows,
        uapi::FsIo,
        "virgo_fs_io",
        [size, flags, handle, data, length, offset]
    );
    layout!(
        rows,
        uapi::FsHandle,
        "virgo_fs_handle",
        [size, flags, handle]
    );
    layout!(
        rows,
        uapi::FsStat,
        "virgo_fs_stat",
        [size, flags, handle, ino, nlink, bytes, blocks, mtime_sec, mtime_nsec, mode, uid, gid]
    );
    layout!(
        rows,
        uapi::MemSeen,
        "virgo_mem_seen",
        [size, flags, changes]
    );
    let constants: &[(&str, u64)] = &[
        ("VIRGO_MEM_KEY_MAX", uapi::MEM_KEY_MAX.into()),
        ("VIRGO_MEM_BLOCK_MAX", uapi::MEM_BLOCK_MAX),
        ("VIRGO_MEM_NODE_ANY", uapi::MEM_NODE_ANY.into()),
        ("VIRGO_MEM_F_STRIPE", uapi::MEM_F_STRIPE.into()),
        ("VIRGO_MEM_F_POLICY", uapi::MEM_F_POLICY.into()),
        ("VIRGO_MEM_POLICY_DEFAULT", uapi::MEM_POLICY_DEFAULT.into()),
        (
            "VIRGO_MEM_POLICY_LEAST_LOADED",
            uapi::MEM_POLICY_LEAST_LOADED.into(),
        ),
        ("VIRGO_MEM_POLICY_RANDOM", uapi::MEM_POLICY_RANDOM.into()),
        (
            "VIRGO_MEM_POLICY_TWO_CHOICES",
            uapi::MEM_POLICY_TWO_CHOICES.into(),
        ),
        ("VIRGO_MEM_PUT_SET", uapi::MEM_PUT_SET.into()),
        ("VIRGO_MEM_PUT_ADD", uapi::MEM_PUT_ADD.into()),
        ("VIRGO_MEM_PUT_REPLACE", uapi::MEM_PUT_REPLACE.into()),
        ("VIRGO_MEM_PUT_APPEND", uapi::MEM_PUT_APPEND.into()),
        ("VIRGO_MEM_PUT_PREPEND", uapi::MEM_PUT_PREPEND.into()),
        ("VIRGO_MEM_PUT_CAS", uapi::MEM_PUT_CAS.into()),
        ("VIRGO_MEM_F_LOCAL", uapi::MEM_F_LOCAL.into()),
        ("VIRGO_MEM_F_TOUCH", uapi::MEM_F_TOUCH.into()),
        ("VIRGO_MEM_F_DECREMENT", uapi::MEM_F_DECREMENT.into()),
        ("VIRGO_MEM_F_CREATE", uapi::MEM_F_CREATE.into()),
        ("VIRGO_MEM_F_KEYS_ONLY", uapi::MEM_F_KEYS_ONLY.into()),
        (
            "VIRGO_MEM_SET_MEMORY_LIMIT",
            uapi::MEM_SET_MEMORY_LIMIT.into(),
        ),
        ("VIRGO_MEM_SET_ITEM_MAX", uapi::MEM_SET_ITEM_MAX.into()),
        (
            "VIRGO_MEM_SET_BLOCK_LIMIT",
            uapi::MEM_SET_BLOCK_LIMIT.into(),
        ),
        ("VIRGO_MEM_SET_EVICT", uapi::MEM_SET_EVICT.into()),
        ("VIRGO_MEM_SET_MAX_BLOCKS", uapi::MEM_SET_MAX_BLOCKS.into()),
        ("VIRGO_MEM_TABLE_MAGIC", uapi::MEM_TABLE_MAGIC.into()),
        ("VIRGO_MEM_TABLE_LAYOUT", uapi::MEM_TABLE_LAYOUT.into()),
        (
            "VIRGO_MEM_TABLE_HEADER_SIZE",
            uapi::MEM_TABLE_HEADER_SIZE.into(),
        ),
        ("VIRGO_MEM_WINDOW", uapi::MEM_WINDOW.into()),
        ("VIRGO_MEM_HASH_1", uapi::MEM_HASH_1),
        ("VIRGO_MEM_HASH_2", uapi::MEM_HASH_2),
        ("VIRGO_MEM_SLOT_MIN", uapi::MEM_SLOT_MIN.into()),
        ("VIRGO_MEM_SLOT_MAX", uapi::MEM_SLOT_MAX.into()),
        ("VIRGO_MEM_SLOTS_MIN", uapi::MEM_SLOTS_MIN.into()),
        ("VIRGO_MEM_SLOTS_MAX", uapi::MEM_SLOTS_MAX.into()),
        ("VIRGO_MEM_SHARE_CREATE", uapi::MEM_SHARE_CREATE.into()),
        ("VIRGO_MEM_SHARE_REMOVE", uapi::MEM_SHARE_REMOVE.into()),
        ("VIRGO_MEM_IOC_MALLOC", uapi::MEM_IOC_MALLOC.into()),
        ("VIRGO_MEM_IOC_SET", uapi::MEM_IOC_SET.into()),
        ("VIRGO_MEM_IOC_GET", uapi::MEM_IOC_GET.into()),
        ("VIRGO_MEM_IOC_FREE", uapi::MEM_IOC_FREE.into()),
        ("VIRGO_MEM_IOC_LIST", uapi::MEM_IOC_LIST.into()),
        ("VIRGO_MEM_IOC_STAT", uapi::MEM_IOC_STAT.into()),
        ("VIRGO_MEM_IOC_PUT", uapi::MEM_IOC_PUT.into()),
        ("VIRGO_MEM_IOC_TAKE", uapi::MEM_IOC_TAKE.into()),
        ("VIRGO_MEM_IOC_DROP", uapi::MEM_IOC_DROP.into()),
        ("VIRGO_MEM_IOC_COUNT", uapi::MEM_IOC_COUNT.into()),
        ("VIRGO_MEM_IOC_SCAN", uapi::MEM_IOC_SCAN.into()),
        ("VIRGO_MEM_IOC_FLUSH", uapi::MEM_IOC_FLUSH.into()),
        ("VIRGO_MEM_IOC_SETTINGS", uapi::MEM_IOC_SETTINGS.into()),
        ("VIRGO_MEM_IOC_SHARE", uapi::MEM_IOC_SHARE.into()),
        ("VIRGO_MEM_IOC_SEEN", uapi::MEM_IOC_SEEN.into()),
        ("VIRGO_FS_IO_MAX", uapi::FS_IO_MAX.into()),
        ("VIRGO_FS_PATH_MAX", uapi::FS_PATH_MAX.into()),
        ("VIRGO_FS_SYNC_DATA", uapi::FS_SYNC_DATA.into()),
        ("VIRGO_FS_IOC_OPEN", uapi::FS_IOC_OPEN.into()),
        ("VIRGO_FS_IOC_READ", uapi::FS_IOC_READ.into()),
        ("VIRGO_FS_IOC_WRITE", uapi::FS_IOC_WRITE.into()),
        ("VIRGO_FS_IOC_CLOSE", uapi::FS_IOC_CLOSE.into()),
        ("VIRGO_FS_IOC_SYNC", uapi::FS_IOC_SYNC.into()),
        ("VIRGO_FS_IOC_STAT", uapi::FS_IOC_STAT.into()),
        ("VIRGO_FS_IOC_TRUNCATE", uapi::FS_IOC_TRUNCATE.into()),
        ("VIRGO_FS_IOC_READDIR", uapi::FS_IOC_READDIR.into()),
    ];
    for (name, value) in constants {
        rows.insert((*name).to_string(), *value);
    }
}

fn rust_rows() -> Rows {
    let mut rows = Rows::new();
    layout!(
        rows,
        uapi::Query,
        "virgo_query",
        [size, flags, version, abi, features, modules, generation, reserved]
    );
    layout!(
        rows,
        uapi::ProfilerHeader,
        "virgo_profiler_header",
        [
            magic,
            layout,
            header_size,
            record_size,
            capacity,
            head,
            generation,
            dropped,
            ticks,
            missed_ticks,
            rate_hz,
            registered,
            start_ns,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::ProfilerSample,
        "virgo_profiler_sample",
        [
            seq, id, time_ns, min_flt, maj_flt, utime_ns, stime_ns, rss_bytes, pid, tid, state,
            flags, comm
        ]
    );
    layout!(
        rows,
        uapi::ProfilerTask,
        "virgo_profiler_task",
        [size, flags, pid, reserved0, id, reserved]
    );
    layout!(
        rows,
        uapi::ProfilerEntry,
        "virgo_profiler_entry",
        [id, samples, pid, tid, flags, reserved0, comm]
    );
    layout!(
        rows,
        uapi::ProfilerList,
        "virgo_profiler_list",
        [size, flags, entries, capacity, count, reserved]
    );
    layout!(
        rows,
        uapi::ProfilerRate,
        "virgo_profiler_rate",
        [size, flags, rate_hz, reserved0]
    );
    layout!(
        rows,
        uapi::ProfilerInfo,
        "virgo_profiler_info",
        [
            size,
            flags,
            map_bytes,
            capacity,
            record_size,
            header_size,
            max_tasks,
            reserved0,
            reserved
        ]
    );
    layout!(
        rows,
        uapi::ProfilerSeen,
        "virgo_profiler_seen",
        [size, flags, head]
    );
    layout!(
        rows,
        uapi::TraceStart,
        "virgo_trace_start",
        [size, flags, pid, reserved0, limit_bytes, reserved]
    );
    layout!(rows, uapi::TraceStop, "virgo_trace_stop", [size, flags]);
    layout!(
        rows,
        uapi::TraceInfo,
        "virgo_trace_info",
        [
            size,
            flags,
            state,
            processes,
            recorded,
            dropped,
            waiting_bytes,
            limit_bytes,
            reserved
        ]
    );

    eventnet_rows(&mut rows);
    queue_rows(&mut rows);
    analytics_rows(&mut rows);
    mempool_rows(&mut rows);
    nodes_rows(&mut rows);
    cpupool_rows(&mut rows);

    let constants: &[(&str, u64)] = &[
        ("VIRGO_IOC_MAGIC", uapi::IOC_MAGIC.into()),
        ("VIRGO_FEATURE_QUERY", uapi::FEATURE_QUERY),
        ("VIRGO_FEATURE_POLL_MODULES", uapi::FEATURE_POLL_MODULES),
        ("VIRGO_COMM_LEN", uapi::COMM_LEN as u64),
        ("VIRGO_PROFILER_MAGIC", uapi::PROFILER_MAGIC.into()),
        ("VIRGO_PROFILER_LAYOUT", uapi::PROFILER_LAYOUT.into()),
        (
            "VIRGO_PROFILER_HEADER_SIZE",
            uapi::PROFILER_HEADER_SIZE.into(),
        ),
        ("VIRGO_PROFILER_RATE_MIN", uapi::PROFILER_RATE_MIN.into()),
        ("VIRGO_PROFILER_RATE_MAX", uapi::PROFILER_RATE_MAX.into()),
        (
            "VIRGO_PROFILER_RATE_DEFAULT",
            uapi::PROFILER_RATE_DEFAULT.into(),
        ),
        ("VIRGO_SAMPLE_THREAD", uapi::SAMPLE_THREAD.into()),
        ("VIRGO_SAMPLE_EXIT", uapi::SAMPLE_EXIT.into()),
        ("VIRGO_SAMPLE_FIRST", uapi::SAMPLE_FIRST.into()),
        ("VIRGO_SAMPLE_LAST", uapi::SAMPLE_LAST.into()),
        ("VIRGO_PROFILER_F_THREAD", uapi::PROFILER_F_THREAD.into()),
        ("VIRGO_PROFILER_F_PIDFD", uapi::PROFILER_F_PIDFD.into()),
        ("VIRGO_PROFILER_F_BIND", uapi::PROFILER_F_BIND.into()),
        ("VIRGO_PROFILER_RATE_SET", uapi::PROFILER_RATE_SET.into()),
        ("VIRGO_IOC_QUERY", uapi::IOC_QUERY.into()),
        (
            "VIRGO_PROFILER_IOC_REGISTER",
            uapi::PROFILER_IOC_REGISTER.into(),
        ),
        (
            "VIRGO_PROFILER_IOC_UNREGISTER",
            uapi::PROFILER_IOC_UNREGISTER.into(),
        ),
        ("VIRGO_PROFILER_IOC_LIST", uapi::PROFILER_IOC_LIST.into()),
        ("VIRGO_PROFILER_IOC_RATE", uapi::PROFILER_IOC_RATE.into()),
        ("VIRGO_PROFILER_IOC_INFO", uapi::PROFILER_IOC_INFO.into()),
        ("VIRGO_PROFILER_IOC_SEEN", uapi::PROFILER_IOC_SEEN.into()),
        ("VIRGO_TRACE_F_PIDFD", uapi::TRACE_F_PIDFD.into()),
        ("VIRGO_TRACE_F_FOLLOW", uapi::TRACE_F_FOLLOW.into()),
        ("VIRGO_TRACE_RUNNING", uapi::TRACE_RUNNING.into()),
        ("VIRGO_TRACE_STOPPED", uapi::TRACE_STOPPED.into()),
        ("VIRGO_TRACE_OVER", uapi::TRACE_OVER.into()),
        ("VIRGO_TRACE_IOC_START", uapi::TRACE_IOC_START.into()),
        ("VIRGO_TRACE_IOC_STOP", uapi::TRACE_IOC_STOP.into()),
        ("VIRGO_TRACE_IOC_INFO", uapi::TRACE_IOC_INFO.into()),
        ("VIRGO_MODULE_COUNT", uapi::Module::ALL.len() as u64),
    ];
    for (name, value) in constants {
        rows.insert((*name).to_string(), *value);
    }
    for module in uapi::Module::ALL {
        let name = module
            .name()
            .strip_prefix("virgo-")
            .expect("a module's name");
        rows.insert(
            format!("VIRGO_MODULE_{}", name.to_uppercase()),
            module as u64,
        );
    }
    rows
}

/// What the header holds, by its own text: structures with their number of fields, and the names
/// of all numbers.
fn header_names(header: &str) -> (BTreeMap<String, u64>, Vec<String>) {
    let mut structs = BTreeMap::new();
    let mut names = Vec::new();
    let mut current: Option<(String, u64)> = None;
    let mut in_comment = false;
    for line in header.lines() {
        let trimmed = line.trim();
        in_comment |= trimmed.starts_with("/*");
        if in_comment {
            in_comment = !trimmed.ends_with("*/");
            continue;
        }
        if let Some(name) = trimmed
            .strip_prefix("struct ")
            .and_then(|t| t.strip_suffix(" {"))
        {
            current = Some((name.to_string(), 0));
        } else if trimmed == "};" {
            if let Some((name, fields)) = current.take() {
                structs.insert(name, fields);
            }
        } else if let Some((_, fields)) = current.as_mut() {
            *fields += u64::from(trimmed.ends_with(';'));
        } else if let Some(rest) = trimmed.strip_prefix("#define ") {
            let mut words = rest.split_whitespace();
            let name = words.next().expect("a name");
            let value = words.next().unwrap_or("");
            if !value.is_empty() && !value.starts_with('"') {
                names.push(name.to_string());
            }
        } else if trimmed.starts_with("VIRGO_MODULE_") {
            names.push(
                trimmed
                    .split_whitespace()
                    .next()
                    .expect("a name")
                    .to_string(),
            );
        }
    }
    (structs, names)
}

fn compile_and_run(rows: &Rows, directory: &Path) -> Rows {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository");
    let mut source = String::from(
        "#include <stdio.h>\n#include <stddef.h>\n#include <linux/virgo.h>\nint main(void)\n{\n",
    );
    for name in rows.keys().filter(|name| !name.starts_with("fields of ")) {
        writeln!(
            source,
            "\tprintf(\"%s=%llu\\n\", \"{name}\", (unsigned long long)({name}));"
        )
        .expect("write to a string");
    }
    source.push_str("\treturn 0;\n}\n");
    let file = directory.join("layout.c");
    let program = directory.join("layout");
    std::fs::write(&file, source).expect("write the program");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-std=gnu99", "-I"])
        .arg(root.join("include/uapi"))
        .arg("-o")
        .arg(&program)
        .arg(&file)
        .output()
        .expect("cc is there");
    assert!(
        compiled.status.success(),
        "the header does not compile:\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let printed = Command::new(&program).output().expect("the program runs");
    String::from_utf8(printed.stdout)
        .expect("text")
        .lines()
        .map(|line| {
            let (name, value) = line.rsplit_once('=').expect("name=value");
            (name.to_string(), value.parse().expect("a number"))
        })
        .collect()
}

fn scratch(name: &str) -> std::path::PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("make a folder");
    directory
}

fn assert_same(rust: &Rows, c: &Rows) {
    for (name, value) in rust {
        if let Some(fields) = name.strip_prefix("fields of ") {
            assert!(c.contains_key(&format!("sizeof(struct {fields})")));
            continue;
        }
        assert_eq!(
            c.get(name),
            Some(value),
            "{name}: C on the left, Rust on the right"
        );
    }
}

#[test]
fn mirror_and_header_agree_on_every_size_offset_and_number() {
    let rust = rust_rows();
    let c = compile_and_run(&rust, &scratch("uapi64"));
    assert_same(&rust, &c);
}

#[test]
fn layout_is_the_same_for_32_bit_callers() {
    let rust = rust_rows();
    // There need be no 32-bit libc to run a program with: static assertions say the same.
    let mut source = String::from("#include <stddef.h>\n#include <linux/virgo.h>\n");
    for (name, value) in rust.iter().filter(|(name, _)| {
        name.starts_with("sizeof") || name.starts_with("offsetof") || name.contains("_IOC_")
    }) {
        writeln!(
            source,
            "_Static_assert(({name}) == {value}ULL, \"{name}\");"
        )
        .expect("write");
    }
    let file = scratch("uapi32").join("layout32.c");
    std::fs::write(&file, source).expect("write the program");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository");
    // Debian keeps asm/ where a 32-bit compiler does not look by itself.
    let multiarch = Command::new("cc")
        .arg("-print-multiarch")
        .output()
        .expect("cc is there");
    let multiarch = String::from_utf8(multiarch.stdout).expect("text");
    let output = Command::new("cc")
        .arg("-isystem")
        .arg(Path::new("/usr/include").join(multiarch.trim()))
        .args(["-m32", "-fsyntax-only", "-ffreestanding", "-I"])
        .arg(root.join("include/uapi"))
        .arg(&file)
        .output()
        .expect("cc is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn nothing_in_the_header_is_missing_from_the_mirror() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository");
    let header = std::fs::read_to_string(root.join("include/uapi/linux/virgo.h")).expect("header");
    let (structs, names) = header_names(&header);
    let rust = rust_rows();
    assert!(
        structs.len() > 5 && names.len() > 20,
        "the header was not understood"
    );
    for (name, fields) in structs {
        assert_eq!(
            rust.get(&format!("fields of {name}")),
            Some(&fields),
            "fields of struct {name}: Rust on the left, C on the right"
        );
    }
    for name in names {
        assert!(rust.contains_key(&name), "{name} is not in the mirror");
    }
}
