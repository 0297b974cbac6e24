// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Events of three guests, collected by the second; this one is the first.

#[allow(dead_code, reason = "shared with tests/cluster")]
#[path = "../cluster/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use virgo_tests::wait_until;

use world::{wait_state, Cluster, ADDRESSES};

const FOLDER: &str = "/var/tmp/virgo-eventnodes";
/// The node that collects.
const COLLECTOR: usize = 2;
/// How long the collecting node is cut off; thirty times that with VIRGO_LONG=1.
const PARTITION: Duration = Duration::from_secs(2);
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
    // Of one by the parameter, of the other while it runs.
    let address = ADDRESSES[COLLECTOR - 1];
    let collector = if node == 3 {
        format!("collector={address}")
    } else {
        String::new()
    };
    sh(
        cluster,
        node,
        &format!(
            "insmod /virgo/ko/virgo-eventnet.ko folder={FOLDER} modules=queue flush_ms=1 \
                 {collector} && \
             insmod /virgo/ko/virgo-eventtest.ko"
        ),
    );
    if node == 1 {
        let collector = format!("{address}:40000");
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

/// Memory, calls, files and requests on three nodes whose clocks are minutes apart: one graph
/// without a cycle, in which what was done for another node has come of that node's request, and
/// whose order is each node's own.
#[test]
fn a_mixed_run_makes_one_graph() {
    let cluster = Cluster::up();
    sh(&cluster, 3, "date -s '+7 minutes'");
    sh(&cluster, 1, "date -s '-5 minutes'");
    for node in 1..=3 {
        sh(
            &cluster,
            node,
            &format!(
                "[ ! -e /sys/module/virgo_eventnet ] || rmmod virgo_eventnet; \
                 rm -rf {FOLDER}; mkdir -p {FOLDER} /srv/files; \
                 chown 65534:65534 /srv/files; \
                 insmod /virgo/ko/virgo-eventnet.ko folder={FOLDER} flush_ms=1 \
                     modules=core,mempool,cpupool,queue,cloudfs && \
                 insmod /virgo/ko/virgo-mempool.ko && \
                 insmod /virgo/ko/virgo-cpupool.ko && insmod /virgo/ko/virgo-example.ko && \
                 insmod /virgo/ko/virgo-queue.ko && \
                 insmod /virgo/ko/virgo-cloudfs.ko root=/srv/files"
            ),
        );
        if node != COLLECTOR {
            let collector = format!("{}:40000", ADDRESSES[COLLECTOR - 1]);
            cluster.virgo(node, &["events", "set", "--collector", &collector]);
        }
    }
    std::thread::scope(|scope| {
        for node in 1..=3 {
            let (cluster, next) = (&cluster, ADDRESSES[node % 3]);
            scope.spawn(move || {
                let script = format!(
                    "set -e; for i in 1 2 3 4 5; do \
                     block=$(virgo mem malloc 4K --node {next}:40000); \
                     virgo mem set $block hello; virgo mem free $block; \
                     virgo mem put key{node}$i value; virgo mem take key{node}$i >/dev/null; \
                     virgo call --node {next} example_sum 1 2 >/dev/null; \
                     virgo queue put mail request$i >/dev/null; \
                     printf 'virgo_cloud_open(/f%s)\\r\\n' $i | nc -w 5 127.0.0.1 50000 >/dev/null; \
                     done"
                );
                sh(cluster, node, &script);
            });
        }
    });
    // All that two of them have said is with the third.
    for node in [1, 3] {
        assert!(wait_until(PATIENCE, || stat(&cluster, node, "behind") == 0
            && stat(&cluster, node, "events")
                == arrived_events(&cluster, COLLECTOR, &cluster.id(node))));
    }
    cluster.virgo(COLLECTOR, &["events", "cycles"]);
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    for line in cluster
        .virgo(COLLECTOR, &["events", "ls", "--json"])
        .lines()
    {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["what"], "event", "{event}");
        all.insert(event["event"].as_str().expect("a name").into(), event);
    }
    let order: Vec<String> = cluster
        .virgo(COLLECTOR, &["events", "order", "--original"])
        .lines()
        .map(|line| line.split(" - ").nth(1).expect("a name").trim().to_owned())
        .collect();
    assert_eq!(order.len(), all.len());
    let place: BTreeMap<&str, usize> = order
        .iter()
        .enumerate()
        .map(|(index, name)| (name.as_str(), index))
        .collect();
    // Of each module and node there is something, and causes are before what they led to.
    let mut kinds: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut between = BTreeMap::new();
    for (name, event) in &all {
        let word = |key: &str| event[key].as_str().expect("a word").to_owned();
        kinds.insert((word("node"), word("module"), word("kind")));
        for cause in event["causes"].as_array().into_iter().flatten() {
            let cause = cause.as_str().expect("a name");
            assert!(place[cause] < place[name.as_str()], "{cause} led to {name}");
            let cause = &all[cause];
            assert!(cause["stamp"].as_u64() < event["stamp"].as_u64());
            assert_eq!(cause["module"], event["module"]);
            let step = (word("module"), word("kind"), cause["kind"].to_string());
            *between.entry(step).or_insert(0) += 1;
            if word("kind") == "serve" {
                assert_ne!(cause["node"], event["node"]);
            }
        }
        // What is served has a cause, and it is there.
        if word("kind") == "serve" {
            assert_eq!(event["causes"].as_array().map(Vec::len), Some(1), "{event}");
        }
    }
    let count = |module: &str, kind: &str, cause: &str| {
        let step = (module.to_owned(), kind.to_owned(), format!("\"{cause}\""));
        between.get(&step).copied().unwrap_or(0)
    };
    // Fifteen blocks were made, set and freed on another node.
    assert_eq!(count("mempool", "malloc", "serve"), 15, "{between:?}");
    assert_eq!(count("mempool", "free", "serve"), 15, "{between:?}");
    assert!(count("mempool", "serve", "call") >= 45, "{between:?}");
    assert!(count("cpupool", "serve", "call") >= 15, "{between:?}");
    for node in 1..=3 {
        let node_word = format!("n{}", cluster.id(node));
        for (module, kind) in [
            ("mempool", "call"),
            ("mempool", "malloc"),
            ("cpupool", "serve"),
            ("queue", "put"),
            ("cloudfs", "open"),
        ] {
            let wanted = (node_word.clone(), module.to_owned(), kind.to_owned());
            assert!(kinds.contains(&wanted), "{wanted:?}: {kinds:?}");
        }
        // Its own journal, in the order in which it was written, and the collector's order.
        let own: Vec<String> = cluster
            .virgo(node, &["events", "order", "--json"])
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .filter(|event| event["node"] == node_word.as_str())
            .map(|event| event["event"].as_str().expect("a name").to_owned())
            .collect();
        let here: Vec<&String> = order
            .iter()
            .filter(|name| all[*name]["node"] == node_word.as_str())
            .collect();
        assert_eq!(own.iter().collect::<Vec<_>>(), here);
    }
    sh(&cluster, 3, "date -s '-7 minutes'");
    sh(&cluster, 1, "date -s '+5 minutes'");
    for node in 1..=3 {
        sh(
            &cluster,
            node,
            "for m in cloudfs queue example cpupool mempool eventnet; do \
             rmmod virgo_$m || exit 1; done",
        );
    }
}

/// How many events of a node are in another's journal.
fn arrived_events(cluster: &Cluster, at: usize, of: &str) -> u64 {
    let node = format!("n{of}");
    let text = cluster.virgo(at, &["events", "ls", "--json"]);
    let events = text.lines().filter(|line| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        event["node"] == node.as_str()
    });
    events.count() as u64
}

/// The collecting node does not answer for a while (a minute with VIRGO_LONG=1), then dies and comes
/// back: what was acknowledged meanwhile is there, once.
#[test]
fn a_partition_loses_nothing_that_was_acknowledged() {
    let cluster = collected();
    edges(&cluster, 1, 1, 10);
    edges(&cluster, 3, 1, 10);
    expect(&cluster, 1, 10);
    expect(&cluster, 3, 10);
    cluster.power(COLLECTOR, "--stop");
    wait_state(&cluster, COLLECTOR, "down");
    let cut = Instant::now();
    let mut count = 10;
    while count < 20 || cut.elapsed() < PARTITION * if virgo_tests::long() { 30 } else { 1 } {
        edges(&cluster, 1, count + 1, 5);
        edges(&cluster, 3, count + 1, 5);
        count += 5;
    }
    assert!(stat(&cluster, 1, "behind") > 0);
    cluster.power(COLLECTOR, "--cont");
    expect(&cluster, 1, count);
    expect(&cluster, 3, count);
    cluster.power(COLLECTOR, "--kill");
    edges(&cluster, 1, count + 1, 10);
    cluster.power(COLLECTOR, "--start");
    cluster.configure(COLLECTOR);
    start(&cluster, COLLECTOR);
    edges(&cluster, 3, count + 1, 10);
    count += 10;
    expect(&cluster, 1, count);
    expect(&cluster, 3, count);
    // A node that is loaded anew goes on where it was, and sends nothing twice.
    sh(&cluster, 3, "rmmod virgo_eventtest; rmmod virgo_eventnet");
    start(&cluster, 3);
    edges(&cluster, 3, count + 1, 5);
    expect(&cluster, 3, count + 5);
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
