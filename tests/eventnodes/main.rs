// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Events of three guests, collected by the second; this one is the first.

#[allow(dead_code, reason = "shared with tests/cluster")]
#[path = "../cluster/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use virgo_tests::wait_until;

use world::{wait_state, Cluster, ADDRESSES};

const FOLDER: &str = "/var/tmp/virgo-eventnodes";
/// The node that collects.
const COLLECTOR: usize = 2;
/// A partition's end, and all that follows from it.
const PATIENCE: Duration = Duration::from_secs(60);

fn sh(cluster: &Cluster, node: usize, script: &str) -> String {
    cluster.on(node, &["sh", "-c", script])
}

/// virgo-eventnet and the module that tells events, on a node; nothing is there from before.
fn fresh(cluster: &Cluster, node: usize) {
    sh(
        cluster,
        node,
        "rmmod virgo_eventtest 2>/dev/null; rmmod virgo_eventnet 2>/dev/null; \
         rm -rf /var/tmp/virgo-eventnodes; mkdir -p /var/tmp/virgo-eventnodes",
    );
    start(cluster, node);
}

fn start(cluster: &Cluster, node: usize) {
    sh(
        cluster,
        node,
        &format!(
            "insmod /virgo/ko/virgo-eventnet.ko folder={FOLDER} modules=queue flush_ms=1 && \
             insmod /virgo/ko/virgo-eventtest.ko"
        ),
    );
    if node != COLLECTOR {
        let collector = format!("{}:40000", ADDRESSES[COLLECTOR - 1]);
        cluster.virgo(node, &["events", "set", "--collector", &collector]);
    }
}

/// Three nodes, of which the first and the third send to the second.
fn collected() -> Cluster {
    let cluster = Cluster::up();
    for node in 1..=3 {
        fresh(&cluster, node);
    }
    cluster
}

fn ended(cluster: &Cluster) {
    for node in 1..=3 {
        sh(cluster, node, "rmmod virgo_eventtest; rmmod virgo_eventnet");
    }
}

/// Logs so many edges on a node, each acknowledged.
fn edges(cluster: &Cluster, node: usize, from: usize, count: usize) {
    sh(
        cluster,
        node,
        &format!(
            "for n in $(seq {from} {}); do virgo events log edge node{node} e$n || exit 1; done",
            from + count - 1
        ),
    );
}

fn stat(cluster: &Cluster, node: usize, name: &str) -> u64 {
    let text = cluster.virgo(node, &["events", "stat", "--json"]);
    let value: Value = serde_json::from_str(&text).expect("JSON");
    value[name].as_u64().expect("a number")
}

/// How often each edge of a node is in the collector's file.
fn arrived(cluster: &Cluster, node: usize) -> BTreeMap<String, usize> {
    let text = sh(
        cluster,
        COLLECTOR,
        &format!("cat {FOLDER}/EventNetEdges.txt"),
    );
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        if let Some(to) = line.strip_prefix(&format!("node{node},")) {
            *counts.entry(to.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Waits until a node's edges 1 to `count` are at the collector; each is there once.
fn expect(cluster: &Cluster, node: usize, count: usize) {
    let all: BTreeMap<String, usize> = (1..=count).map(|n| (format!("e{n}"), 1)).collect();
    if !wait_until(PATIENCE, || arrived(cluster, node) == all) {
        assert_eq!(arrived(cluster, node), all, "of node {node}");
    }
}

#[test]
fn events_of_all_nodes_make_one_graph() {
    let cluster = collected();
    for node in 1..=3 {
        sh(&cluster, node, "echo chain 200 > /proc/virgo/eventtest");
        edges(&cluster, node, 1, 5);
    }
    for node in 1..=3 {
        expect(&cluster, node, 5);
    }
    assert!(wait_until(PATIENCE, || stat(
        &cluster, COLLECTOR, "received"
    ) >= 410));
    let text = cluster.virgo(COLLECTOR, &["events", "order", "--json"]);
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        if event["what"] != "event" {
            continue;
        }
        let node = event["node"].as_str().expect("a node").to_owned();
        let stamp = event["stamp"].as_u64().expect("a stamp");
        let number: u64 = event["subject"]
            .as_str()
            .and_then(|s| s.parse().ok())
            .expect("a number");
        let (before, count) = last.entry(node).or_default();
        assert!(stamp > *before);
        // As the node itself numbered them.
        assert_eq!(number, *count);
        (*before, *count) = (stamp, *count + 1);
    }
    let counts: Vec<u64> = last.values().map(|(_, count)| *count).collect();
    assert_eq!(counts, [200; 3]);
    cluster.virgo(COLLECTOR, &["events", "cycles"]);
    // What came from one node is not sent on, and not sent back.
    assert_eq!(stat(&cluster, 1, "received"), 0);
    ended(&cluster);
}

/// The collecting node does not answer for a while, then dies and comes back: what was
/// acknowledged meanwhile is there, once.
#[test]
fn a_partition_loses_nothing_that_was_acknowledged() {
    let cluster = collected();
    edges(&cluster, 1, 1, 10);
    edges(&cluster, 3, 1, 10);
    expect(&cluster, 1, 10);
    expect(&cluster, 3, 10);
    cluster.power(COLLECTOR, "--stop");
    wait_state(&cluster, COLLECTOR, "down");
    edges(&cluster, 1, 11, 10);
    edges(&cluster, 3, 11, 10);
    assert!(stat(&cluster, 1, "behind") > 0);
    cluster.power(COLLECTOR, "--cont");
    expect(&cluster, 1, 20);
    expect(&cluster, 3, 20);
    cluster.power(COLLECTOR, "--kill");
    edges(&cluster, 1, 21, 10);
    cluster.power(COLLECTOR, "--start");
    cluster.configure(COLLECTOR);
    start(&cluster, COLLECTOR);
    edges(&cluster, 3, 21, 10);
    expect(&cluster, 1, 30);
    expect(&cluster, 3, 30);
    // A node that is loaded anew goes on where it was, and sends nothing twice.
    sh(&cluster, 3, "rmmod virgo_eventtest; rmmod virgo_eventnet");
    start(&cluster, 3);
    edges(&cluster, 3, 31, 5);
    expect(&cluster, 3, 35);
    ended(&cluster);
}

/// Clocks minutes apart: a stamp that was sent along is before all that comes after its receipt.
#[test]
fn clocks_that_are_minutes_apart() {
    let cluster = collected();
    sh(&cluster, 3, "date -s '+7 minutes'");
    sh(&cluster, 1, "date -s '-5 minutes'");
    edges(&cluster, 3, 1, 3);
    expect(&cluster, 3, 3);
    let newest = |node: usize| -> u64 {
        let text = sh(
            &cluster,
            node,
            "echo log 1 > /proc/virgo/eventtest; cat /proc/virgo/eventtest",
        );
        let line = text.lines().find(|line| line.starts_with("last "));
        line.and_then(|line| line[5..].parse().ok())
            .expect("a stamp")
    };
    // The third's records came to the second, so what happens there now is after them.
    let third = newest(3);
    assert!(wait_until(PATIENCE, || newest(2) > third));
    // And the second answers the first.
    edges(&cluster, 1, 1, 1);
    expect(&cluster, 1, 1);
    assert!(newest(1) > third);
    sh(&cluster, 3, "date -s '-7 minutes'");
    sh(&cluster, 1, "date -s '+5 minutes'");
    ended(&cluster);
}
