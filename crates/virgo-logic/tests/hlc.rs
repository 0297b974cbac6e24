// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The clock against Lamport's condition, with nodes whose clocks are wrong and go back.

use proptest::prelude::*;
use virgo_logic::hlc::{merge, tick, too_far, wall_ns, COUNTER};

/// What a node does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Something happens on it.
    Event(usize),
    /// It sends to another, which receives.
    Send(usize, usize),
    /// Its clock is set.
    Set(usize, u64),
}

const NODES: usize = 4;
const MINUTE: u64 = 60_000_000_000;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..NODES).prop_map(Step::Event),
        4 => (0..NODES, 0..NODES).prop_map(|(a, b)| Step::Send(a, b)),
        1 => (0..NODES, 0..20 * MINUTE).prop_map(|(a, t)| Step::Set(a, t)),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// If one event can have caused another, its stamp is the smaller: on a node in order, and from
    /// each message's sending to its receipt; whatever the nodes' own clocks say.
    #[test]
    fn cause_is_before_effect(steps in steps()) {
        let mut clock = [0_u64; NODES];
        let mut last = [0_u64; NODES];
        // The greatest stamp in each event's past, which must be smaller than the event's own.
        let mut past = [0_u64; NODES];
        for (index, step) in steps.iter().enumerate() {
            for node in &mut clock {
                *node += 1000 * (index as u64 % 7);
            }
            match *step {
                Step::Set(node, time) => clock[node] = time,
                Step::Event(node) => {
                    let stamp = tick(last[node], clock[node]);
                    prop_assert!(stamp > past[node]);
                    past[node] = stamp;
                    last[node] = stamp;
                }
                Step::Send(from, to) => {
                    let sent = tick(last[from], clock[from]);
                    prop_assert!(sent > past[from]);
                    past[from] = sent;
                    last[from] = sent;
                    let got = merge(last[to], sent, clock[to]);
                    past[to] = past[to].max(sent);
                    prop_assert!(got > past[to]);
                    past[to] = got;
                    last[to] = got;
                }
            }
        }
    }

    /// Where all clocks agree, stamps are the time of day, to the clock's unit and a step for each
    /// event within one.
    #[test]
    fn close_to_the_time_of_day(steps in proptest::collection::vec((0..NODES, 0..NODES), 1..200)) {
        let mut last = [0_u64; NODES];
        for (index, (from, to)) in steps.iter().enumerate() {
            let now = 1_700_000_000_000_000_000 + index as u64 * 1_000_000;
            last[*from] = tick(last[*from], now);
            last[*to] = merge(last[*to], last[*from], now);
            prop_assert!(now.abs_diff(wall_ns(last[*to])) <= COUNTER + 1);
        }
    }
}

#[test]
fn at_the_ends_of_the_numbers() {
    assert_eq!(tick(u64::MAX, 0), u64::MAX);
    assert_eq!(merge(0, u64::MAX, 5), u64::MAX);
    assert_eq!(tick(0, 0), 1);
    assert!(too_far(u64::MAX, 0, MINUTE));
    assert!(!too_far(0, u64::MAX, 0));
    assert!(!too_far(MINUTE, 0, MINUTE));
}
