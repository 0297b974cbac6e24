// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A hybrid logical clock (Kulkarni, Demirbas and others, 2014): close to the time of day where
//! clocks agree, and in the order of cause and effect where they do not.
//!
//! A stamp is one number: nanoseconds since 1970, of which the lowest sixteen bits (65 µs) are
//! given up to a counter. A node's next stamp is greater than all that it has given and all that
//! it has seen; so if one event can have caused another, its stamp is the smaller.
//!
//! These are the steps; the node's last stamp is kept by the caller, who puts the step into a
//! compare-and-exchange.

/// The bits of a stamp that count what happens within the clock's unit.
pub const COUNTER: u64 = 0xffff;

/// The next stamp of a node whose last was `last`, at `now_ns` of its own clock.
///
/// ```
/// use virgo_logic::hlc::tick;
/// let first = tick(0, 5_000_000_000);
/// // The clock stands still, or goes back: the order stays.
/// assert!(tick(first, 5_000_000_000) > first);
/// assert!(tick(first, 1_000_000_000) > first);
/// ```
#[inline]
pub const fn tick(last: u64, now_ns: u64) -> u64 {
    let now = now_ns & !COUNTER;
    let next = last.saturating_add(1);
    if now > next {
        now
    } else {
        next
    }
}

/// The stamp of having received `seen` from another node.
#[inline]
pub const fn merge(last: u64, seen: u64, now_ns: u64) -> u64 {
    tick(if seen > last { seen } else { last }, now_ns)
}

/// Whether `seen` is more than `bound_ns` ahead of the clock: taken in, it would lead this node's
/// stamps that far away from the time of day, and every node's that hears from it.
#[inline]
pub const fn too_far(seen: u64, now_ns: u64, bound_ns: u64) -> bool {
    seen.saturating_sub(now_ns) > bound_ns
}

/// The time of day in a stamp, in nanoseconds since 1970.
#[inline]
pub const fn wall_ns(stamp: u64) -> u64 {
    stamp & !COUNTER
}
