// SPDX-License-Identifier: GPL-2.0-only

//! The numbers as beanstalkd shows them: YAML, key by key the same.

use core::fmt::Write;

use kernel::prelude::*;

use crate::{
    log::Log,
    state::{
        Phase,
        State,
        SECOND, //
    },
    text::{
        Ascii,
        Text, //
    },
};

/// How often each command came; beanstalkd's counters.
#[derive(Clone, Copy, Default)]
pub(crate) struct Commands {
    pub(crate) put: u64,
    pub(crate) peek: u64,
    pub(crate) peek_ready: u64,
    pub(crate) peek_delayed: u64,
    pub(crate) peek_buried: u64,
    pub(crate) reserve: u64,
    pub(crate) reserve_timeout: u64,
    pub(crate) delete: u64,
    pub(crate) release: u64,
    pub(crate) use_tube: u64,
    pub(crate) watch: u64,
    pub(crate) ignore: u64,
    pub(crate) bury: u64,
    pub(crate) kick: u64,
    pub(crate) touch: u64,
    pub(crate) stats: u64,
    pub(crate) stats_job: u64,
    pub(crate) stats_tube: u64,
    pub(crate) list_tubes: u64,
    pub(crate) list_tube_used: u64,
    pub(crate) list_tubes_watched: u64,
    pub(crate) pause_tube: u64,
}

fn no_memory(_: core::fmt::Error) -> Error {
    ENOMEM
}

/// `OK length`, and the text.
pub(crate) fn framed(body: &Text) -> Result<Text> {
    let mut all = Text::with_capacity(body.bytes().len().saturating_add(32))?;
    all.push(b"OK ")?;
    // CAST: usize fits u64.
    all.number(body.bytes().len() as u64)?;
    all.push(b"\r\n")?;
    all.push(body.bytes())?;
    all.push(b"\r\n")?;
    Ok(all)
}

/// The numbers of all.
pub(crate) fn all(state: &State, now: u64) -> Result<Text> {
    let mut out = Text::with_capacity(1500)?;
    let t = &state.totals;
    let c = &state.commands;
    let connections = t.connected;
    let log = state.log.as_ref();
    let (oldest, newest) = log.map_or((0, 0), Log::range);
    let numbers = log.map_or_else(Default::default, |log| log.numbers);
    let segment = log.map_or(0, Log::segment_bytes);
    let (uptime, size) = (
        now.saturating_sub(state.started) / SECOND,
        state.limits.job_size,
    );
    write!(
        out,
        "---\n\
         current-jobs-urgent: {}\n\
         current-jobs-ready: {}\n\
         current-jobs-reserved: {}\n\
         current-jobs-delayed: {}\n\
         current-jobs-buried: {}\n\
         cmd-put: {}\n\
         cmd-peek: {}\n\
         cmd-peek-ready: {}\n\
         cmd-peek-delayed: {}\n\
         cmd-peek-buried: {}\n\
         cmd-reserve: {}\n\
         cmd-reserve-with-timeout: {}\n\
         cmd-delete: {}\n\
         cmd-release: {}\n\
         cmd-use: {}\n\
         cmd-watch: {}\n\
         cmd-ignore: {}\n\
         cmd-bury: {}\n\
         cmd-kick: {}\n\
         cmd-touch: {}\n\
         cmd-stats: {}\n\
         cmd-stats-job: {}\n\
         cmd-stats-tube: {}\n",
        t.urgent,
        t.ready,
        t.reserved,
        t.delayed,
        t.buried,
        c.put,
        c.peek,
        c.peek_ready,
        c.peek_delayed,
        c.peek_buried,
        c.reserve,
        c.reserve_timeout,
        c.delete,
        c.release,
        c.use_tube,
        c.watch,
        c.ignore,
        c.bury,
        c.kick,
        c.touch,
        c.stats,
        c.stats_job,
        c.stats_tube,
    )
    .map_err(no_memory)?;
    write!(
        out,
        "cmd-list-tubes: {}\n\
         cmd-list-tube-used: {}\n\
         cmd-list-tubes-watched: {}\n\
         cmd-pause-tube: {}\n\
         job-timeouts: {}\n\
         total-jobs: {}\n\
         max-job-size: {size}\n\
         current-tubes: {}\n\
         current-connections: {}\n\
         current-producers: {}\n\
         current-workers: {}\n\
         current-waiting: {}\n\
         total-connections: {connections}\n\
         pid: 0\n\
         version: \"virgo {}.{}.{}\"\n\
         rusage-utime: 0.000000\n\
         rusage-stime: 0.000000\n\
         uptime: {uptime}\n\
         binlog-oldest-index: {}\n\
         binlog-current-index: {}\n\
         binlog-records-migrated: {}\n\
         binlog-records-written: {}\n\
         binlog-max-size: {}\n\
         draining: {}\n\
         id: {:016x}\n\
         hostname: \"virgo\"\n\
         os: \"Linux\"\n\
         platform: \"x86_64\"\n",
        c.list_tubes,
        c.list_tube_used,
        c.list_tubes_watched,
        c.pause_tube,
        t.timeouts,
        t.jobs,
        state.listed.len(),
        t.connections,
        t.producers,
        t.takers,
        t.waiting,
        crate::lib::module::VERSION.0,
        crate::lib::module::VERSION.1,
        crate::lib::module::VERSION.2,
        oldest,
        newest,
        numbers.migrated,
        numbers.written,
        segment,
        state.draining,
        state.started,
    )
    .map_err(no_memory)?;
    framed(&out)
}

/// The numbers of a tube.
pub(crate) fn tube(state: &State, index: u32, now: u64) -> Result<Text> {
    let tube = state.tubes.get(index).ok_or(ENOENT)?;
    let left = if tube.pause > 0 {
        tube.unpause_at.saturating_sub(now) / SECOND
    } else {
        0
    };
    let mut out = Text::with_capacity(512)?;
    write!(
        out,
        "---\n\
         name: \"{}\"\n\
         current-jobs-urgent: {}\n\
         current-jobs-ready: {}\n\
         current-jobs-reserved: {}\n\
         current-jobs-delayed: {}\n\
         current-jobs-buried: {}\n\
         total-jobs: {}\n\
         current-using: {}\n\
         current-watching: {}\n\
         current-waiting: {}\n\
         cmd-delete: {}\n\
         cmd-pause-tube: {}\n\
         pause: {}\n\
         pause-time-left: {left}\n",
        Ascii(&tube.name),
        tube.urgent_ct,
        tube.ready_ct,
        tube.reserved_ct,
        tube.delayed_ct,
        tube.buried_ct,
        tube.total_jobs,
        tube.using,
        tube.watching,
        tube.waiting.len(),
        tube.deletes,
        tube.pauses,
        tube.pause / SECOND,
    )
    .map_err(no_memory)?;
    framed(&out)
}

/// The numbers of a job.
pub(crate) fn job(state: &State, index: u32, now: u64) -> Result<Text> {
    let job = state.jobs.get(index).ok_or(ENOENT)?;
    let tube = state.tubes.get(job.tube).ok_or(ENOENT)?;
    let left = if matches!(job.phase, Phase::Reserved | Phase::Delayed) {
        job.deadline.saturating_sub(now) / SECOND
    } else {
        0
    };
    let n = &job.counts;
    let mut out = Text::with_capacity(512)?;
    write!(
        out,
        "---\n\
         id: {}\n\
         tube: \"{}\"\n\
         state: {}\n\
         pri: {}\n\
         age: {}\n\
         delay: {}\n\
         ttr: {}\n\
         time-left: {left}\n\
         file: {}\n\
         reserves: {}\n\
         timeouts: {}\n\
         releases: {}\n\
         buries: {}\n\
         kicks: {}\n",
        job.id,
        Ascii(&tube.name),
        job.phase.word(),
        job.pri,
        state.age(job, now) / SECOND,
        job.delay,
        job.ttr,
        job.segment,
        n.reserves,
        n.timeouts,
        n.releases,
        n.buries,
        n.kicks,
    )
    .map_err(no_memory)?;
    framed(&out)
}

/// A list of tubes.
pub(crate) fn names(state: &State, tubes: &[u32]) -> Result<Text> {
    let mut out = Text::with_capacity(256)?;
    out.push(b"---\n")?;
    for tube in tubes {
        if let Some(tube) = state.tubes.get(*tube) {
            out.push(b"- ")?;
            out.push(&tube.name)?;
            out.push(b"\n")?;
        }
    }
    framed(&out)
}
