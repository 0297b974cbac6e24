// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! How busy a node is, as one number.

/// What a free processor's worth of work is counted as.
pub const TASK: u32 = 1000;

/// What a node with hardly any memory left is counted as more.
const STARVED: u32 = 4 * TASK;

/// A node's load: [`TASK`] for each runnable task a processor, more by up to as much for time that
/// tasks waited (`pressure`, thousandths; more than 1000 counts as not known, which is 0), and more
/// where less than a sixteenth of the memory is free, up to four times as much.
///
/// It grows with each of the three, and is the same for nodes of any size that are as busy.
pub fn load(runnable: u32, cpus: u32, pressure: u32, free_kib: u64, total_kib: u64) -> u32 {
    let tasks = u64::from(runnable)
        .saturating_mul(u64::from(TASK))
        .checked_div(u64::from(cpus.max(1)))
        .and_then(|tasks| u32::try_from(tasks).ok())
        .unwrap_or(u32::MAX);
    let waited = if pressure <= 1000 { pressure } else { 0 };
    let low = total_kib / 16;
    let starved = match low.checked_sub(free_kib) {
        Some(short) if low > 0 => u64::from(STARVED)
            .saturating_mul(short)
            .checked_div(low)
            .and_then(|starved| u32::try_from(starved).ok())
            .unwrap_or(STARVED),
        _ => 0,
    };
    tasks.saturating_add(waited).saturating_add(starved)
}

/// What a node's load is now. It was `told` when `then` requests of ours were under way to it, which
/// it counted; `now` are. So a herd of requests between two reports does not all go to one node, and
/// nothing is counted twice.
pub fn expected(told: u32, cpus: u32, then: usize, now: usize) -> u32 {
    let tasks = |requests: usize| {
        u32::try_from(requests)
            .unwrap_or(u32::MAX)
            .saturating_mul(TASK)
            .checked_div(cpus.max(1))
            .unwrap_or(0)
    };
    told.saturating_add(tasks(now)).saturating_sub(tasks(then))
}

/// The tasks that run or want to, from the text of `/proc/loadavg`: the number before the slash.
pub fn runnable(loadavg: &[u8]) -> Option<u32> {
    let word = loadavg.split(|byte| *byte == b' ').nth(3)?;
    number(word.split(|byte| *byte == b'/').next()?)
}

/// The share of the last ten seconds in which some task waited, in thousandths, from the text of a
/// pressure file: `some avg10=1.23 …`.
pub fn pressure(text: &[u8]) -> Option<u32> {
    let line = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"some avg10="))?;
    let value = line.split(|byte| *byte == b' ').next()?;
    let mut parts = value.split(|byte| *byte == b'.');
    let (whole, fraction) = (number(parts.next()?)?, parts.next().unwrap_or(b"0"));
    let tenths = fraction
        .first()
        .copied()
        .and_then(|byte| byte.checked_sub(b'0'))
        .filter(|digit| *digit < 10)?;
    // Percent with one decimal are thousandths.
    whole.checked_mul(10)?.checked_add(u32::from(tenths))
}

fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u32::from(digit))
    })
}
