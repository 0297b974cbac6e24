// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Settings of the whole cluster on three guests: pushes while nodes die, are cut off and return.

#[allow(dead_code, reason = "shared with tests/cluster")]
#[path = "../cluster/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use virgo_tests::wait_until;

use world::{wait_state, Cluster, ADDRESSES};

/// A node's return, and all that follows from it.
const PATIENCE: Duration = Duration::from_secs(60);

fn sh(cluster: &Cluster, node: usize, script: &str) -> String {
    cluster.on(node, &["sh", "-c", script])
}

/// virgo-analytics on a node, with nothing set. It has the number that virgo-nodetest has taken.
fn start(cluster: &Cluster, node: usize) {
    sh(
        cluster,
        node,
        "for m in nodetest analytics; do \
         [ ! -e /sys/module/virgo_$m ] || rmmod virgo_$m || exit 1; done; \
         insmod /virgo/ko/virgo-analytics.ko",
    );
}

/// Three nodes with virgo-analytics; nothing of an earlier test's comes back from another node, as
/// none has it while the first is loaded.
fn loaded() -> Cluster {
    let cluster = Cluster::new();
    for node in 1..=3 {
        sh(
            &cluster,
            node,
            "[ ! -e /sys/module/virgo_analytics ] || rmmod virgo_analytics",
        );
    }
    drop(cluster);
    let cluster = Cluster::up();
    for node in 1..=3 {
        start(&cluster, node);
    }
    cluster
}

fn ended(cluster: &Cluster) {
    for node in 1..=3 {
        sh(cluster, node, "rmmod virgo_analytics");
    }
}

fn push(cluster: &Cluster, node: usize, key: &str, value: &str) {
    cluster.virgo(
        node,
        &["analytics", "set", "--cluster", "--new", key, value],
    );
}

/// Value, version and origin of each setting that the cluster has set, on a node.
fn shared(cluster: &Cluster, node: usize) -> BTreeMap<String, (String, u64, String, String)> {
    let text = cluster.virgo(node, &["--json", "analytics", "ls"]);
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let word = |value: &Value| value.as_str().expect("a text").to_owned();
    all.as_array()
        .expect("a list")
        .iter()
        .filter(|setting| !setting["cluster"].is_null())
        .map(|setting| {
            let cluster = &setting["cluster"];
            let version = cluster["version"].as_u64().expect("a version");
            let (origin, state) = (word(&cluster["origin"]), word(&cluster["state"]));
            (
                word(&setting["key"]),
                (word(&setting["value"]), version, origin, state),
            )
        })
        .collect()
}

/// Waits until all nodes have the same; what it is.
fn agreed(cluster: &Cluster) -> BTreeMap<String, (String, u64, String, String)> {
    let mut seen = [const { BTreeMap::new() }; 3];
    let same = wait_until(PATIENCE, || {
        for node in 1..=3 {
            seen[node - 1] = shared(cluster, node);
        }
        seen[0] == seen[1] && seen[1] == seen[2]
    });
    assert!(same, "{seen:#?}");
    let [first, ..] = seen;
    first
}

fn value(cluster: &Cluster, node: usize, key: &str) -> String {
    let text = cluster.virgo(node, &["analytics", "get", key]);
    text.trim().to_owned()
}

#[test]
fn what_is_pushed_is_the_same_on_all_nodes() {
    let cluster = loaded();
    let nodes = cluster.nodes();
    let done = cluster.virgo(
        2,
        &[
            "--json",
            "analytics",
            "set",
            "--cluster",
            "cpupool.policy",
            "random",
        ],
    );
    let done: Value = serde_json::from_str(&done).expect("JSON");
    assert_eq!((&done["reached"], &done["nodes"]), (&3.into(), &3.into()));
    // At once: it was told to all before the command ended.
    let seen: Vec<_> = (1..=3).map(|node| shared(&cluster, node)).collect();
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[1], seen[2]);
    let (value_here, version, origin, state) = &seen[0]["cpupool.policy"];
    assert_eq!(
        (value_here.as_str(), state.as_str()),
        ("random", "in force")
    );
    assert_eq!(*origin, nodes[1].id);
    let list = cluster.virgo(3, &["analytics", "ls"]);
    let line = list.lines().find(|line| line.starts_with("cpupool.policy"));
    let line = line.expect("it is listed");
    assert!(line.contains(&format!("{version:016x}")), "{list}");
    assert!(line.contains(origin.as_str()), "{list}");
    // It acts there.
    let policy = cluster.virgo(3, &["nodes", "policy"]);
    assert!(policy.contains("random"), "{policy}");

    // A node alone can't change it, and all can.
    let refused = cluster.virgo_error(1, &["analytics", "set", "cpupool.policy", "two-choices"]);
    assert!(refused.contains("--cluster"), "{refused}");
    push(&cluster, 1, "cpupool.policy", "two-choices");
    let after = agreed(&cluster);
    let (_, newer, by, _) = &after["cpupool.policy"];
    assert!(newer > version);
    assert_eq!(*by, nodes[0].id);
    // What was set here stands under it, and is there again when the cluster's is taken back.
    cluster.virgo(1, &["analytics", "set", "--new", "level", "mine"]);
    push(&cluster, 2, "level", "ours");
    assert_eq!(value(&cluster, 1, "level"), "ours");
    cluster.virgo(3, &["analytics", "unset", "--cluster", "level"]);
    assert_eq!(value(&cluster, 1, "level"), "mine");
    assert_eq!(value(&cluster, 2, "level"), "");
    cluster.virgo(3, &["analytics", "unset", "--cluster", "cpupool.policy"]);
    for node in 1..=3 {
        assert_eq!(value(&cluster, node, "cpupool.policy"), "least-loaded");
        assert_eq!(shared(&cluster, node)["level"].3, "taken back");
    }
    let log = cluster.virgo(2, &["analytics", "log"]);
    assert!(log.contains("cluster"), "{log}");
    ended(&cluster);
}

#[test]
fn a_value_that_one_node_does_not_allow() {
    let cluster = loaded();
    let define = [
        "analytics",
        "define",
        "level",
        "--kind",
        "int",
        "--range",
        "1..10",
        "--initial",
        "5",
    ];
    cluster.virgo(2, &define);
    push(&cluster, 1, "level", "50");
    assert_eq!(value(&cluster, 2, "level"), "5");
    assert_eq!(shared(&cluster, 2)["level"].3, "refused");
    assert_eq!(value(&cluster, 3, "level"), "50");
    // Who may not have it may not push it either.
    let refused = cluster.virgo_error(2, &["analytics", "set", "--cluster", "level", "11"]);
    assert!(refused.contains("from 1 to 10"), "{refused}");
    // A wider range lets it in, without another push.
    let wider = [
        "analytics",
        "define",
        "level",
        "--kind",
        "int",
        "--range",
        "1..100",
        "--initial",
        "5",
    ];
    cluster.virgo(2, &wider);
    assert_eq!(value(&cluster, 2, "level"), "50");
    push(&cluster, 2, "level", "7");
    let all = agreed(&cluster);
    assert_eq!(all["level"].0, "7");
    ended(&cluster);
}

#[test]
fn pushes_at_the_same_time_have_one_winner_on_all_nodes() {
    let cluster = loaded();
    const EACH: usize = 40;
    thread::scope(|scope| {
        for node in 1..=3 {
            let cluster = &cluster;
            scope.spawn(move || {
                let script = format!(
                    "for i in $(seq {EACH}); do \
                     virgo analytics set --cluster --new contested n{node}i$i || exit 1; done"
                );
                sh(cluster, node, &script);
            });
        }
    });
    let all = agreed(&cluster);
    let (winner, ..) = &all["contested"];
    // A node's earlier push never wins over its later one.
    let last: Vec<String> = (1..=3).map(|node| format!("n{node}i{EACH}")).collect();
    assert!(last.contains(winner), "{winner}");
    ended(&cluster);
}

/// Nodes die and come back with nothing, and are cut off, while the others and they themselves
/// push.
#[test]
fn pushes_while_nodes_die_and_return_converge() {
    let cluster = loaded();
    for round in 0..2 {
        push(&cluster, 1, "a", &format!("a{round}"));
        push(&cluster, 3, "b", &format!("b{round}"));
        cluster.power(2, "--kill");
        push(&cluster, 1, "a", &format!("a{round}, without 2"));
        wait_state(&cluster, 2, "down");
        let script = format!("virgo analytics set --cluster --new c 'c{round}' 2>&1");
        let told = sh(&cluster, 3, &script);
        assert!(told.contains("2 of 3 nodes"), "{told}");
        cluster.power(2, "--start");
        cluster.configure(2);
        // What it pushes before it has heard of the others' wins where it is later.
        start(&cluster, 2);
        push(&cluster, 2, "d", &format!("d{round}"));
        let all = agreed(&cluster);
        assert_eq!(all["a"].0, format!("a{round}, without 2"));
        assert_eq!(all["b"].0, format!("b{round}"));
        assert_eq!(all["c"].0, format!("c{round}"));
        assert_eq!(all["d"].0, format!("d{round}"));
    }
    // A node that is frozen, and goes on where it was.
    cluster.power(3, "--stop");
    wait_state(&cluster, 3, "down");
    push(&cluster, 1, "a", "frozen");
    cluster.virgo(2, &["analytics", "unset", "--cluster", "b"]);
    cluster.power(3, "--cont");
    let all = agreed(&cluster);
    assert_eq!(all["a"].0, "frozen");
    assert_eq!(all["b"].3, "taken back");
    // One that stands alone for a while, and pushes as the others do, with a clock that is wrong.
    cluster.virgo(3, &["nodes", "clear"]);
    wait_state(&cluster, 3, "down");
    sh(&cluster, 3, "date -s '+7 minutes'");
    push(&cluster, 3, "a", "of the third");
    push(&cluster, 3, "c", "of the third");
    push(&cluster, 1, "a", "of the first");
    let apart = [shared(&cluster, 3), shared(&cluster, 1)];
    cluster.load(3, &ADDRESSES);
    let all = agreed(&cluster);
    let later = apart.iter().max_by_key(|side| side["a"].1).expect("two");
    assert_eq!(all["a"].0, later["a"].0);
    assert_eq!(all["c"].0, "of the third");
    // From then on the first's clock is not behind any more, whatever its time of day is.
    push(&cluster, 1, "a", "at last");
    let all = agreed(&cluster);
    assert_eq!(all["a"].0, "at last");
    sh(&cluster, 3, "date -s '-7 minutes'");
    ended(&cluster);
}

#[test]
fn more_settings_than_fit_one_answer() {
    let cluster = loaded();
    sh(&cluster, 3, "rmmod virgo_analytics");
    // 100 of 4096 bytes are more than a page of 256 KiB.
    sh(
        &cluster,
        1,
        "v=$(head -c 4096 /dev/zero | tr '\\0' x); for i in $(seq 100); do \
         virgo analytics set --cluster --new many.$i $v 2>/dev/null || exit 1; done",
    );
    start(&cluster, 3);
    let all = agreed(&cluster);
    assert_eq!(all.len(), 100);
    assert!(all.values().all(|(value, ..)| value.len() == 4096));
    ended(&cluster);
}
