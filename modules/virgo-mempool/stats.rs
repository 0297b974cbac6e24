// SPDX-License-Identifier: GPL-2.0-only

//! memcached's `stats`.

use core::fmt::Write;

use kernel::cpu;

use crate::{
    control::Pool,
    lib::{
        listener::Reply,
        time::unix_s, //
    },
    logic::kv::SEGMENT,
    proto::memcached::ERROR,
    store::ITEM_OVERHEAD,
};

/// What `version` says: the protocol's version, then ours.
pub(crate) const VERSION: &str = "1.6.0-virgo-0.1.0";

struct Lines<'a>(&'a mut Reply);

impl Lines<'_> {
    fn line(&mut self, name: &str, value: impl core::fmt::Display) {
        // A reply out of room closes the connection: nothing else to do.
        let _ = write!(self.0, "STAT {name} {value}\r\n");
    }

    fn end(self) {
        self.0.push(b"END\r\n");
    }
}

/// Answers `stats WHAT`. Process context.
pub(crate) fn answer(pool: &Pool, what: &[u8], out: &mut Reply) {
    match what {
        b"" => general(pool, out),
        b"items" => items(pool, out),
        b"slabs" => slabs(pool, out),
        b"settings" => settings(pool, out),
        b"sizes" | b"conns" | b"cachedump" => out.push(b"END\r\n"),
        b"reset" => {
            pool.store.reset_figures();
            out.push(b"RESET\r\n");
        }
        _ => out.push(ERROR),
    }
}

fn general(pool: &Pool, out: &mut Reply) {
    let (store, port) = (&pool.store, pool.port.figures());
    let figures = store.figures();
    let (tally, counts) = (&figures.tally, &figures.counts);
    let blocks = pool.blocks.figures();
    let (shares, share_bytes) = store.shares().figures();
    let mut out = Lines(out);
    out.line("pid", 0);
    out.line("uptime", store.uptime());
    out.line("time", unix_s());
    out.line("version", VERSION);
    out.line("pointer_size", usize::BITS);
    out.line("max_connections", pool.port.settings().max_connections);
    out.line("curr_connections", port.active);
    out.line("total_connections", port.accepted);
    out.line("rejected_connections", port.refused);
    out.line("connection_structures", port.active);
    out.line("idle_kicks", port.idle_timeouts);
    out.line("cmd_get", tally.get_hits.saturating_add(tally.get_misses));
    out.line("cmd_set", tally.sets);
    out.line("cmd_flush", store.flushes());
    let touches = tally.touch_hits.saturating_add(tally.touch_misses);
    out.line("cmd_touch", touches);
    out.line("get_hits", tally.get_hits);
    out.line("get_misses", tally.get_misses);
    out.line("delete_hits", tally.delete_hits);
    out.line("delete_misses", tally.delete_misses);
    out.line("incr_hits", tally.incr_hits);
    out.line("incr_misses", tally.incr_misses);
    out.line("decr_hits", tally.decr_hits);
    out.line("decr_misses", tally.decr_misses);
    out.line("cas_hits", tally.cas_hits);
    out.line("cas_misses", tally.cas_misses);
    out.line("cas_badval", tally.cas_badval);
    out.line("touch_hits", tally.touch_hits);
    out.line("touch_misses", tally.touch_misses);
    out.line("bytes_read", port.bytes_in);
    out.line("bytes_written", port.bytes_out);
    out.line("limit_maxbytes", store.memory_limit());
    out.line("accepting_conns", 1);
    out.line("threads", cpu::nr_cpu_ids());
    out.line("hash_buckets", figures.buckets);
    out.line("hash_bytes", figures.buckets.saturating_mul(4));
    out.line("bytes", figures.bytes);
    out.line("held_bytes", store.held());
    out.line("curr_items", figures.items);
    out.line("total_items", counts.stored);
    out.line("evictions", counts.evicted);
    out.line("evicted_unfetched", counts.evicted_unfetched);
    out.line("reclaimed", counts.expired);
    out.line("shrunk", tally.shrunk);
    out.line("segments_reclaimed", counts.reclaimed);
    out.line("items_moved", counts.moved);
    out.line("virgo_blocks", blocks.blocks);
    out.line("virgo_block_bytes", blocks.bytes);
    out.line("virgo_shares", shares);
    out.line("virgo_share_bytes", share_bytes);
    out.end();
}

fn items(pool: &Pool, out: &mut Reply) {
    let figures = pool.store.figures();
    let counts = &figures.counts;
    let mut out = Lines(out);
    if figures.items > 0 {
        out.line("items:1:number", figures.items);
        out.line("items:1:mem_requested", figures.bytes);
        out.line("items:1:evicted", counts.evicted);
        out.line("items:1:evicted_unfetched", counts.evicted_unfetched);
        out.line("items:1:reclaimed", counts.expired);
        out.line("items:1:outofmemory", 0);
    }
    out.end();
}

fn slabs(pool: &Pool, out: &mut Reply) {
    let figures = pool.store.figures();
    let inline = figures.bytes.saturating_sub(figures.large);
    let mut out = Lines(out);
    if figures.segments > 0 {
        // CAST: small.
        let steps = SEGMENT as u64 / 8;
        out.line("1:chunk_size", 8);
        out.line("1:chunks_per_page", steps);
        out.line("1:total_pages", figures.segments);
        out.line("1:total_chunks", figures.segments.saturating_mul(steps));
        out.line("1:used_chunks", inline / 8);
        out.line("1:mem_requested", inline);
        out.line("1:get_hits", figures.tally.get_hits);
        out.line("1:cmd_set", figures.tally.sets);
    }
    out.line("active_slabs", u32::from(figures.segments > 0));
    out.line("total_malloced", pool.store.held());
    out.end();
}

fn settings(pool: &Pool, out: &mut Reply) {
    let (store, port) = (&pool.store, pool.port.settings());
    let mut out = Lines(out);
    out.line("maxbytes", store.memory_limit());
    out.line("maxconns", port.max_connections);
    out.line("tcpport", port.port);
    out.line("udpport", 0);
    out.line("verbosity", store.verbosity());
    out.line("evictions", if store.evicts() { "on" } else { "off" });
    out.line("cas_enabled", "yes");
    out.line("flush_enabled", "yes");
    out.line("binding_protocol", "ascii");
    out.line("item_size_max", store.item_max());
    out.line("item_overhead", ITEM_OVERHEAD);
    out.line("num_threads", cpu::nr_cpu_ids());
    out.line("idle_timeout", port.idle_ms / 1000);
    out.line("hash_algorithm", "siphash13");
    out.line("slab_page_size", SEGMENT);
    out.line("virgo_block_limit", pool.blocks.limit());
    out.line("virgo_max_blocks", pool.blocks.most());
    out.end();
}
