// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Choices are fair, and the clever policies are better than chance.

use proptest::prelude::*;
use virgo_logic::balance::{below, choose, Candidate, Policy};
use virgo_logic::load::{expected, load};

/// SplitMix64 (G. Steele, D. Lea, C. Flood, 2014), so that the tests repeat.
fn numbers(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

fn node(load: u32, weight: u32) -> Candidate {
    Candidate {
        usable: true,
        load,
        weight,
    }
}

fn chi_square(counts: &[u32], expected: &[f64]) -> f64 {
    counts
        .iter()
        .zip(expected)
        .map(|(count, expected)| (f64::from(*count) - expected).powi(2) / expected)
        .sum()
}

/// Each of k requests goes to one of N nodes: k/N each. The 99.9th percentile of chi-square with
/// 9 degrees of freedom is 27.88.
#[test]
fn random_is_uniform() {
    let nodes = [node(7, 1); 10];
    let mut random = numbers(1);
    let mut counts = [0; 10];
    for _ in 0..100_000 {
        counts[choose(Policy::Random, &nodes, &mut random).expect("a node")] += 1;
    }
    let statistic = chi_square(&counts, &[10_000.0; 10]);
    assert!(statistic < 27.88, "chi-square {statistic}: {counts:?}");
    // And not too even either, as a round robin would be (the 0.1st percentile).
    assert!(statistic > 1.15, "chi-square {statistic}: {counts:?}");
}

#[test]
fn random_follows_the_weights() {
    let nodes = [node(0, 1), node(0, 2), node(0, 0), node(0, 4)];
    let mut random = numbers(2);
    let mut counts = [0; 4];
    for _ in 0..80_000 {
        counts[choose(Policy::Random, &nodes, &mut random).expect("a node")] += 1;
    }
    // A weight of 0 counts as 1. 99.9th percentile for 3 degrees of freedom: 16.27.
    let statistic = chi_square(&counts, &[10_000.0, 20_000.0, 10_000.0, 40_000.0]);
    assert!(statistic < 16.27, "chi-square {statistic}: {counts:?}");
}

/// Ten requests arrive for each report of the loads; every request adds one to its node's queue,
/// and a node serves one of its requests in each step. How much longer the longest queue was than
/// the mean one.
fn imbalance(policy: Policy, seed: u64) -> f64 {
    const NODES: usize = 10;
    let mut random = numbers(seed);
    let mut queues = [0_u32; NODES];
    let mut sum = 0.0;
    const STEPS: u32 = 20_000;
    for _ in 0..STEPS {
        let known: Vec<Candidate> = queues.iter().map(|load| node(*load, 1)).collect();
        for _ in 0..9 {
            queues[choose(policy, &known, &mut random).expect("a node")] += 1;
        }
        for queue in &mut queues {
            *queue = queue.saturating_sub(1);
        }
        let longest = *queues.iter().max().expect("queues");
        let mean = f64::from(queues.iter().sum::<u32>()) / NODES as f64;
        sum += f64::from(longest) - mean;
    }
    sum / f64::from(STEPS)
}

#[test]
fn least_loaded_and_two_choices_beat_chance() {
    let chance = imbalance(Policy::Random, 3);
    let two = imbalance(Policy::TwoChoices, 3);
    let least = imbalance(Policy::LeastLoaded, 3);
    assert!(two < chance / 2.0, "two choices {two}, chance {chance}");
    assert!(
        least < chance / 2.0,
        "least loaded {least}, chance {chance}"
    );
}

/// Two hundred tasks, four fifths of them of a second and a half on average, the rest of three to
/// ten seconds, `jobs` at a time by the least loaded of three nodes with two processors each, which
/// share them evenly. How long it took, compared to the best there can be: all processors busy to
/// the end, or the longest task.
fn placement(jobs: usize, seed: u64) -> f64 {
    const NODES: usize = 3;
    const CPUS: u32 = 2;
    const STEP: f64 = 0.01;
    #[derive(Default)]
    struct Node {
        /// What is left to do of each of its tasks, in seconds.
        tasks: Vec<f64>,
        pressure: f64,
        /// When it tells its load next.
        due: f64,
        told: u32,
        then: usize,
    }
    let mut random = numbers(seed);
    let mut uniform = move || (f64::from(random()) + 0.5) / 4_294_967_296.0;
    let mut waiting: Vec<f64> = (0..200)
        .map(|_| match uniform() {
            chance if chance < 0.8 => 0.1 - 1.5 * uniform().ln(),
            _ => 3.0 + 7.0 * uniform(),
        })
        .collect();
    let total: f64 = waiting.iter().sum();
    let longest = waiting.iter().copied().fold(0.0, f64::max);
    let mut nodes: [Node; NODES] = Default::default();
    for node in &mut nodes {
        node.due = uniform() / 2.0;
    }
    let mut ties = numbers(seed + 1000);
    let mut time = 0.0;
    while !waiting.is_empty() || nodes.iter().any(|node| !node.tasks.is_empty()) {
        while nodes.iter().map(|node| node.tasks.len()).sum::<usize>() < jobs {
            let Some(task) = waiting.pop() else { break };
            let known = nodes.each_ref().map(|node| Candidate {
                usable: true,
                load: expected(node.told, CPUS, node.then, node.tasks.len()),
                weight: 1,
            });
            let chosen = choose(Policy::LeastLoaded, &known, &mut ties).expect("a node");
            nodes[chosen].tasks.push(task);
        }
        for node in &mut nodes {
            let count = node.tasks.len() as f64;
            let share = STEP * (f64::from(CPUS) / count).min(1.0);
            for task in &mut node.tasks {
                *task -= share;
            }
            node.tasks.retain(|left| *left > 0.0);
            let waits = if count > f64::from(CPUS) { 1000.0 } else { 0.0 };
            node.pressure += (waits - node.pressure) * STEP / 10.0;
            if time >= node.due {
                node.due += 0.5;
                node.then = node.tasks.len();
                let runnable = node.then as u32;
                node.told = load(runnable, CPUS, node.pressure as u32, 1 << 20, 1 << 20);
            }
        }
        time += STEP;
    }
    time / (total / (NODES as f64 * f64::from(CPUS))).max(longest)
}

#[test]
fn tasks_are_placed_within_a_twentieth_of_the_best() {
    // One for each processor, and up to four.
    for jobs in [6, 9, 12, 24] {
        let runs: Vec<f64> = (0..20).map(|seed| placement(jobs, seed)).collect();
        let mean = runs.iter().sum::<f64>() / runs.len() as f64;
        println!("{jobs} at a time: {mean:.3} of the best on average, {runs:.3?}");
        assert!(mean < 1.05, "{jobs} at a time: {mean}, {runs:?}");
    }
}

#[test]
fn least_loaded_takes_the_least_for_its_weight_and_breaks_ties_evenly() {
    let mut random = numbers(4);
    let nodes = [node(10, 1), node(18, 2), node(30, 3)];
    assert_eq!(choose(Policy::LeastLoaded, &nodes, &mut random), Some(1));
    let nodes = [node(9, 1), node(5, 1), node(5, 1), node(5, 1)];
    let mut counts = [0; 4];
    for _ in 0..30_000 {
        counts[choose(Policy::LeastLoaded, &nodes, &mut random).expect("a node")] += 1;
    }
    assert_eq!(counts[0], 0);
    // 99.9th percentile for 2 degrees of freedom: 13.82.
    let statistic = chi_square(&counts[1..], &[10_000.0; 3]);
    assert!(statistic < 13.82, "chi-square {statistic}: {counts:?}");
}

#[test]
fn below_is_uniform_where_the_bound_does_not_divide() {
    let mut random = numbers(5);
    // Three quarters of 2^32: without rejection the first half would come up twice as often.
    let bound = 3 << 30;
    let mut counts = [0; 3];
    for _ in 0..30_000 {
        counts[(below(bound, &mut random) >> 30) as usize] += 1;
    }
    let statistic = chi_square(&counts, &[10_000.0; 3]);
    assert!(statistic < 13.82, "chi-square {statistic}: {counts:?}");
}

proptest! {
    #[test]
    fn only_usable_nodes_are_chosen_and_some_is_if_there_is_one(
        nodes in proptest::collection::vec((any::<bool>(), any::<u32>(), any::<u32>()), 0..20),
        seed in any::<u64>(),
    ) {
        let nodes: Vec<Candidate> = nodes
            .into_iter()
            .map(|(usable, load, weight)| Candidate { usable, load, weight })
            .collect();
        let mut random = numbers(seed);
        for policy in [Policy::Random, Policy::TwoChoices, Policy::LeastLoaded] {
            let choice = choose(policy, &nodes, &mut random);
            match choice {
                Some(index) => prop_assert!(nodes[index].usable),
                None => prop_assert!(nodes.iter().all(|node| !node.usable)),
            }
        }
    }

    #[test]
    fn a_broken_source_of_numbers_ends_too(bound in any::<u32>(), value in any::<u32>()) {
        let mut stuck = || value;
        let number = below(bound, &mut stuck);
        prop_assert!(number < bound.max(1));
    }
}
