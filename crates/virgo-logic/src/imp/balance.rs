// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Choosing the node that a request goes to.
//!
//! Random numbers come from the caller, so the same choice can be made again in a test.

/// A node as the registry of loads knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Requests may go to it: it is up, and not excluded by the caller.
    pub usable: bool,
    /// How busy it was when it last said so; any unit, the same for all.
    pub load: u32,
    /// How much it can take compared to others, from its `;weight`; 0 counts as 1.
    pub weight: u32,
}

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The node with the least load for its weight; among equals one at random, so that a herd of
    /// requests between two reports does not all go to the first.
    LeastLoaded,
    /// Any node, each as likely as its weight has it. With equal weights the original's
    /// `get_random_int() % nodes`.
    Random,
    /// The less loaded of two nodes drawn at random (power of two choices: M. Mitzenmacher, "The
    /// Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001). Nearly as even
    /// as the least loaded, and no herd when the loads are stale.
    TwoChoices,
}

/// Which of two nodes is busier for its weight: `load / weight` compared without division.
fn busier(left: &Candidate, right: &Candidate) -> core::cmp::Ordering {
    let scaled = |load: u32, weight: u32| u64::from(load).saturating_mul(u64::from(weight.max(1)));
    scaled(left.load, right.weight).cmp(&scaled(right.load, left.weight))
}

/// A number below `bound`, each as likely: the multiply-and-shift method with rejection of D.
/// Lemire, "Fast Random Integer Generation in an Interval", ACM TOMACS 29(1), 2019. 0 for a bound
/// of 0. `random` gives 32 uniform bits.
pub fn below(bound: u32, random: &mut impl FnMut() -> u32) -> u32 {
    if bound == 0 {
        return 0;
    }
    // How many of the 2^32 values must be rejected so that the rest is a multiple of the bound.
    let reject = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
    // The chance of a rejection is below 1/2 each time; the limit is there so that a broken source
    // of numbers cannot hold up the kernel.
    let mut product = 0;
    for _ in 0..64 {
        product = u64::from(random()).wrapping_mul(u64::from(bound));
        // CAST: the low half is wanted.
        if product as u32 >= reject {
            break;
        }
    }
    // CAST: the high half of a product of two 32-bit numbers.
    (product >> 32) as u32
}

/// The `wanted`-th usable candidate, counted by weight.
fn by_weight(candidates: &[Candidate], wanted: u32) -> Option<usize> {
    let mut left = wanted;
    for (index, candidate) in candidates.iter().enumerate() {
        if !candidate.usable {
            continue;
        }
        match left.checked_sub(candidate.weight.max(1)) {
            Some(rest) => left = rest,
            None => return Some(index),
        }
    }
    None
}

/// The sum of the usable candidates' weights.
fn total_weight(candidates: &[Candidate]) -> u32 {
    candidates
        .iter()
        .filter(|candidate| candidate.usable)
        .fold(0, |sum: u32, candidate| {
            sum.saturating_add(candidate.weight.max(1))
        })
}

fn draw(candidates: &[Candidate], random: &mut impl FnMut() -> u32) -> Option<usize> {
    by_weight(candidates, below(total_weight(candidates), random))
}

/// Chooses a node: its place in `candidates`, or `None` if none is usable.
///
/// Linear in the number of nodes; no allocation.
pub fn choose(
    policy: Policy,
    candidates: &[Candidate],
    random: &mut impl FnMut() -> u32,
) -> Option<usize> {
    match policy {
        Policy::Random => draw(candidates, random),
        Policy::TwoChoices => {
            let first = draw(candidates, random)?;
            let second = draw(candidates, random)?;
            match busier(candidates.get(first)?, candidates.get(second)?) {
                core::cmp::Ordering::Greater => Some(second),
                _ => Some(first),
            }
        }
        Policy::LeastLoaded => {
            let mut best: Option<(usize, &Candidate)> = None;
            let mut equals: u32 = 0;
            for (index, candidate) in candidates.iter().enumerate() {
                if !candidate.usable {
                    continue;
                }
                let order = best.map_or(core::cmp::Ordering::Less, |(_, least)| {
                    busier(candidate, least)
                });
                match order {
                    core::cmp::Ordering::Less => {
                        best = Some((index, candidate));
                        equals = 1;
                    }
                    core::cmp::Ordering::Equal => {
                        // The n-th of the equals takes the place with a chance of 1/n, which
                        // makes all as likely in one pass (reservoir sampling).
                        equals = equals.saturating_add(1);
                        if below(equals, random) == 0 {
                            best = Some((index, candidate));
                        }
                    }
                    core::cmp::Ordering::Greater => {}
                }
            }
            best.map(|(index, _)| index)
        }
    }
}
