// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Page replacement, simulated: how many of a row of references miss with so many frames.

use std::collections::{BTreeSet, VecDeque};

/// Which page gives way to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The one that was not used for the longest time.
    Lru,
    /// The one that came first.
    Fifo,
    /// The next one round, which was not used since the hand passed it.
    Clock,
    /// The one that will not be used for the longest time: no policy misses less often.
    Opt,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 4] = [Policy::Lru, Policy::Fifo, Policy::Clock, Policy::Opt];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Lru => "lru",
            Policy::Fifo => "fifo",
            Policy::Clock => "clock",
            Policy::Opt => "opt",
        }
    }
}

/// How many of `references` miss, for each number of frames. Pages are numbered from 0 without
/// gaps, as [`History::references`](super::History::references) does. Without frames all miss.
pub fn misses(policy: Policy, references: &[u32], frames: &[usize]) -> Vec<u64> {
    let pages = references.iter().max().map_or(0, |page| *page as usize + 1);
    match policy {
        Policy::Lru => lru(references, pages, frames),
        Policy::Fifo => each(references, frames, |n| fifo(references, pages, n)),
        Policy::Clock => each(references, frames, |n| clock(references, pages, n)),
        Policy::Opt => {
            let next = next_uses(references, pages);
            each(references, frames, |n| opt(references, pages, &next, n))
        }
    }
}

fn each(references: &[u32], frames: &[usize], simulate: impl Fn(usize) -> u64) -> Vec<u64> {
    frames
        .iter()
        .map(|frames| match frames {
            0 => references.len() as u64,
            frames => simulate(*frames),
        })
        .collect()
}

/// All numbers of frames at once: a reference hits if fewer than so many other pages were used
/// since the last one to its page (Mattson's stack distance, counted with a Fenwick tree).
fn lru(references: &[u32], pages: usize, frames: &[usize]) -> Vec<u64> {
    let mut tree = vec![0_u32; references.len() + 1];
    let add = |tree: &mut [u32], mut at: usize, value: u32| {
        while at < tree.len() {
            tree[at] = tree[at].wrapping_add(value);
            at += at & at.wrapping_neg();
        }
    };
    let sum = |tree: &[u32], mut at: usize| {
        let mut sum = 0_u32;
        while at > 0 {
            sum = sum.wrapping_add(tree[at]);
            at &= at - 1;
        }
        sum
    };
    let mut last = vec![0_usize; pages];
    // How many references have this distance; the first ones to a page have none.
    let mut distances = vec![0_u64; pages + 1];
    for (index, page) in references.iter().enumerate() {
        let now = index + 1;
        let before = std::mem::replace(&mut last[*page as usize], now);
        if before > 0 {
            let since = sum(&tree, now - 1).wrapping_sub(sum(&tree, before));
            distances[since as usize] += 1;
            add(&mut tree, before, 1_u32.wrapping_neg());
        }
        add(&mut tree, now, 1);
    }
    let mut hits = vec![0_u64; pages + 2];
    for (distance, count) in distances.iter().enumerate() {
        hits[distance + 1] = hits[distance] + count;
    }
    frames
        .iter()
        .map(|frames| references.len() as u64 - hits[(*frames).min(pages + 1)])
        .collect()
}

fn fifo(references: &[u32], pages: usize, frames: usize) -> u64 {
    let mut present = vec![false; pages];
    let mut queue = VecDeque::new();
    let mut misses = 0;
    for page in references {
        if present[*page as usize] {
            continue;
        }
        misses += 1;
        if queue.len() == frames {
            if let Some(old) = queue.pop_front() {
                present[old as usize] = false;
            }
        }
        queue.push_back(*page);
        present[*page as usize] = true;
    }
    misses
}

fn clock(references: &[u32], pages: usize, frames: usize) -> u64 {
    // Where each page is, plus one.
    let mut place = vec![0_usize; pages];
    let mut ring: Vec<(u32, bool)> = Vec::new();
    let mut hand = 0;
    let mut misses = 0;
    for page in references {
        if let Some((_, used)) = place[*page as usize]
            .checked_sub(1)
            .and_then(|index| ring.get_mut(index))
        {
            *used = true;
            continue;
        }
        misses += 1;
        if ring.len() < frames {
            ring.push((*page, true));
            place[*page as usize] = ring.len();
            continue;
        }
        while ring[hand].1 {
            ring[hand].1 = false;
            hand = (hand + 1) % frames;
        }
        place[ring[hand].0 as usize] = 0;
        ring[hand] = (*page, true);
        place[*page as usize] = hand + 1;
        hand = (hand + 1) % frames;
    }
    misses
}

/// For each reference where its page is used next; past the end: never.
fn next_uses(references: &[u32], pages: usize) -> Vec<u32> {
    let mut next = vec![u32::MAX; references.len()];
    let mut seen = vec![u32::MAX; pages];
    for (index, page) in references.iter().enumerate().rev() {
        next[index] = seen[*page as usize];
        seen[*page as usize] = index as u32;
    }
    next
}

fn opt(references: &[u32], pages: usize, next: &[u32], frames: usize) -> u64 {
    let mut present: Vec<Option<u32>> = vec![None; pages];
    // By next use, the farthest last.
    let mut order: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut misses = 0;
    for (page, next) in references.iter().zip(next) {
        match present[*page as usize].take() {
            Some(use_now) => {
                order.remove(&(use_now, *page));
            }
            None => {
                misses += 1;
                if order.len() == frames {
                    if let Some((_, old)) = order.pop_last() {
                        present[old as usize] = None;
                    }
                }
            }
        }
        present[*page as usize] = Some(*next);
        order.insert((*next, *page));
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The policies as a textbook has them: slow, and plain.
    fn plain(policy: Policy, references: &[u32], frames: usize) -> u64 {
        let mut memory: Vec<(u32, bool)> = Vec::new();
        let mut hand = 0;
        let mut misses = 0;
        for (now, page) in references.iter().enumerate() {
            if let Some(at) = memory.iter().position(|(there, _)| there == page) {
                match policy {
                    // The one used last is at the end.
                    Policy::Lru => {
                        let entry = memory.remove(at);
                        memory.push(entry);
                    }
                    Policy::Clock => memory[at].1 = true,
                    Policy::Fifo | Policy::Opt => {}
                }
                continue;
            }
            misses += 1;
            if frames == 0 {
                continue;
            }
            if memory.len() < frames {
                memory.push((*page, true));
                continue;
            }
            match policy {
                Policy::Lru | Policy::Fifo => {
                    memory.remove(0);
                    memory.push((*page, true));
                }
                Policy::Clock => {
                    while memory[hand].1 {
                        memory[hand].1 = false;
                        hand = (hand + 1) % frames;
                    }
                    memory[hand] = (*page, true);
                    hand = (hand + 1) % frames;
                }
                Policy::Opt => {
                    let next = |page: u32| {
                        references[now..]
                            .iter()
                            .position(|later| *later == page)
                            .unwrap_or(usize::MAX)
                    };
                    let victim = (0..frames).max_by_key(|at| next(memory[*at].0)).unwrap();
                    memory[victim] = (*page, true);
                }
            }
        }
        misses
    }

    proptest! {
        #[test]
        fn as_the_textbook_has_it(
            references in proptest::collection::vec(0..12_u32, 0..120),
            policy in prop::sample::select(Policy::ALL.to_vec()),
        ) {
            let frames: Vec<usize> = (0..16).collect();
            let counted = misses(policy, &references, &frames);
            for (frames, counted) in frames.iter().zip(counted) {
                prop_assert_eq!(counted, plain(policy, &references, *frames), "{} frames", frames);
            }
        }

        #[test]
        fn nothing_beats_opt(references in proptest::collection::vec(0..30_u32, 0..300)) {
            let frames: Vec<usize> = (0..32).collect();
            let best = misses(Policy::Opt, &references, &frames);
            for policy in Policy::ALL {
                for (count, best) in misses(policy, &references, &frames).iter().zip(&best) {
                    prop_assert!(count >= best);
                }
            }
        }

        #[test]
        fn more_frames_never_hurt_a_stack_policy(references in proptest::collection::vec(0..30_u32, 0..300)) {
            let frames: Vec<usize> = (0..32).collect();
            for policy in [Policy::Lru, Policy::Opt] {
                let counts = misses(policy, &references, &frames);
                prop_assert!(counts.windows(2).all(|pair| pair[0] >= pair[1]));
            }
        }
    }

    #[test]
    fn beladys_anomaly() {
        let references = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
        assert_eq!(misses(Policy::Fifo, &references, &[3, 4]), [9, 10]);
        assert_eq!(misses(Policy::Lru, &references, &[3, 4]), [10, 8]);
        assert_eq!(misses(Policy::Opt, &references, &[3, 4]), [7, 6]);
    }

    #[test]
    fn nothing_to_simulate() {
        for policy in Policy::ALL {
            assert_eq!(misses(policy, &[], &[0, 1, 5]), [0, 0, 0]);
            assert_eq!(misses(policy, &[0, 0], &[0, 1]), [2, 1]);
        }
    }
}
