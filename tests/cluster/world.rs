// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The three guests: what is loaded there, and what their commands say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use virgo_proto::frame::MAX_PAYLOAD;
use virgo_proto::node::{mapped, node_id};
use virgo_tests::nodes::{self, KEY, SECRET};
use virgo_tests::script::{self, Outcome};
use virgo_tests::{wait_until, SOON};

/// The nodes' addresses.
pub(crate) const ADDRESSES: [&str; 3] = ["10.77.0.1", "10.77.0.2", "10.77.0.3"];
/// The number that virgo-nodetest serves under.
pub(crate) const MODULE: u32 = 6;
/// The key, as bytes.
pub(crate) fn key() -> Vec<u8> {
    SECRET.into()
}

/// Sets a file's permissions.
pub(crate) fn mode(path: &str, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Waits for a condition.
pub(crate) fn eventually(condition: impl FnMut() -> bool) -> bool {
    wait_until(SOON, condition)
}

/// A request by virgo-nodetest.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    node: String,
    operation: u32,
    number: u32,
    size: usize,
    limit: usize,
    timeout: u32,
    count: u32,
}

impl Call {
    pub(crate) fn new(node: &str, operation: u32) -> Call {
        Call {
            node: node.into(),
            operation,
            number: 0,
            size: 4,
            limit: MAX_PAYLOAD,
            timeout: 20_000,
            count: 1,
        }
    }

    pub(crate) fn echo(node: &str) -> Call {
        Call::new(node, 1)
    }

    pub(crate) fn number(self, number: u32) -> Call {
        Call { number, ..self }
    }

    pub(crate) fn size(self, size: usize) -> Call {
        Call { size, ..self }
    }

    pub(crate) fn limit(self, limit: usize) -> Call {
        Call { limit, ..self }
    }

    pub(crate) fn timeout(self, timeout: u32) -> Call {
        Call { timeout, ..self }
    }

    pub(crate) fn count(self, count: u32) -> Call {
        Call { count, ..self }
    }
}

/// Makes it; the error's number.
pub(crate) fn call(call: &Call) -> Result<(), i32> {
    let line = format!(
        "call {} {} {} {} {} {} {}",
        call.node, call.operation, call.number, call.size, call.limit, call.timeout, call.count
    );
    fs::write("/proc/virgo/nodetest", line)
        .map_err(|error| error.raw_os_error().unwrap_or_else(|| panic!("{error}")))
}

/// A node, as `virgo nodes --json` has it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) me: bool,
    pub(crate) state: String,
    pub(crate) cpus: u64,
    pub(crate) load: u64,
    /// Permille of the last ten seconds in which a task waited for a processor.
    pub(crate) pressure: Option<u64>,
    pub(crate) rtt_ms: f64,
    pub(crate) in_flight: u64,
    pub(crate) error: String,
}

/// All three, with the same modules and tables. One test at a time has it.
pub(crate) struct Cluster(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Cluster {
    /// Nothing is loaded, or looked at.
    pub(crate) fn new() -> Cluster {
        static ONE: Mutex<()> = Mutex::new(());
        Cluster(ONE.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The modules on node 1, and no table.
    pub(crate) fn none() -> Cluster {
        let cluster = Cluster::new();
        cluster.modules(1);
        cluster.virgo(1, &["nodes", "clear"]);
        cluster
    }

    /// Modules and tables on all three, and all up for all.
    pub(crate) fn up() -> Cluster {
        let cluster = Cluster::new();
        for node in 1..=3 {
            cluster.configure(node);
        }
        cluster.wait_all_up();
        cluster
    }

    /// Waits until all are up for all.
    pub(crate) fn wait_all_up(&self) {
        for from in 1..=3 {
            let up = eventually(|| self.nodes_of(from).iter().all(|node| node.state == "up"));
            assert!(up, "from node {from}: {:?}", self.nodes_of(from));
        }
    }

    /// Runs a command on a node.
    pub(crate) fn try_on(&self, node: usize, command: &[&str]) -> Outcome {
        nodes::try_on(node, command)
    }

    /// Runs a command on a node, which must succeed; what it says.
    pub(crate) fn on(&self, node: usize, command: &[&str]) -> String {
        nodes::on(node, command)
    }

    fn modules(&self, node: usize) {
        self.on(
            node,
            &[
                "sh",
                "-c",
                "for m in core nodetest; do \
                 [ -e /sys/module/virgo_$m ] || insmod /virgo/ko/virgo-$m.ko || exit 1; done",
            ],
        );
    }

    /// Loads modules, key and table, where they are not there yet.
    pub(crate) fn configure(&self, node: usize) {
        self.modules(node);
        self.load(node, &ADDRESSES);
    }

    /// Loads a table.
    pub(crate) fn load(&self, node: usize, addresses: &[&str]) {
        nodes::load_table(node, addresses);
    }

    /// Has node 1 take this test for another node: numbers of node 1 and of the other.
    pub(crate) fn pose(&self) -> (u32, u32) {
        fs::write("/tmp/nodes", "10.77.0.1,10.77.0.1:40009").expect("write the file");
        let arguments = [
            "nodes",
            "load",
            "/tmp/nodes",
            "--key",
            KEY,
            "--self",
            ADDRESSES[0],
        ];
        self.virgo(1, &arguments);
        let ip = mapped([10, 77, 0, 1]);
        (node_id(&ip, 40_000), node_id(&ip, 40_009))
    }

    /// Runs virgo on a node.
    pub(crate) fn virgo(&self, node: usize, arguments: &[&str]) -> String {
        self.on(node, &[&["virgo"], arguments].concat())
    }

    /// Runs virgo on a node, which must fail; what it says.
    pub(crate) fn virgo_error(&self, node: usize, arguments: &[&str]) -> String {
        let outcome = self.try_on(node, &[&["virgo"], arguments].concat());
        assert_eq!(
            outcome.code, 1,
            "{arguments:?}: {}{}",
            outcome.out, outcome.err
        );
        outcome.err
    }

    /// Runs virgo as a user without rights, which must fail; what it says.
    pub(crate) fn run_as_nobody(&self, arguments: &[&str]) -> String {
        let outcome = script::run_as(65534, "/virgo/bin/virgo", arguments);
        assert_eq!(outcome.code, 1, "{}", outcome.out);
        outcome.err
    }

    fn json(&self, from: usize) -> Value {
        let text = self.virgo(from, &["nodes", "--json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The nodes, in the order of their addresses, as a node sees them.
    pub(crate) fn nodes_of(&self, from: usize) -> Vec<Node> {
        let value = self.json(from);
        let mut nodes: Vec<Node> = value["nodes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|node| Node {
                id: node["id"].as_str().expect("a number").into(),
                address: node["address"].as_str().expect("an address").into(),
                me: node["self"].as_bool().expect("yes or no"),
                state: node["state"].as_str().expect("a state").into(),
                cpus: node["load"]["cpus"].as_u64().unwrap_or(0),
                load: node["load"]["load"].as_u64().unwrap_or(0),
                pressure: node["load"]["pressure_permille"].as_u64(),
                rtt_ms: node["rtt_ms"].as_f64().expect("a time"),
                in_flight: node["in_flight"].as_u64().expect("a count"),
                error: node["error"].as_str().unwrap_or("").into(),
            })
            .collect();
        nodes.sort_by(|left, right| left.address.cmp(&right.address));
        nodes
    }

    /// The nodes, as this one sees them.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.nodes_of(1)
    }

    /// A node's number, as words.
    pub(crate) fn id(&self, node: usize) -> String {
        self.nodes()[node - 1].id.clone()
    }

    /// Waits until so many requests are under way to a node.
    pub(crate) fn wait_in_flight(&self, node: usize, count: u64) {
        let there = eventually(|| self.nodes()[node - 1].in_flight >= count);
        assert!(there, "{:?}", self.nodes());
    }

    fn served(&self, node: usize) -> u64 {
        let text = self.on(node, &["cat", "/proc/virgo/nodetest"]);
        text.trim()
            .strip_prefix("served ")
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("{text}"))
    }

    /// How many requests this node has served.
    pub(crate) fn served_here(&self) -> u64 {
        self.served(1)
    }

    /// Waits until a node has served so many requests more.
    pub(crate) fn wait_served(&self, node: usize, more: u64) {
        let before = self.served(node);
        assert!(eventually(|| self.served(node) >= before + more));
    }

    /// Connections of other nodes to this one.
    pub(crate) fn connections(&self) -> u64 {
        self.json(1)["connections"].as_u64().expect("a count")
    }

    /// Connections from elsewhere.
    pub(crate) fn strangers(&self) -> u64 {
        self.json(1)["strangers"].as_u64().expect("a count")
    }

    /// Cuts a node's power, freezes it, and so on.
    pub(crate) fn power(&self, node: usize, verb: &str) {
        nodes::power(node, verb);
    }

    /// How often each node was chosen, in the order of the addresses.
    pub(crate) fn pick(&self, arguments: &[&str]) -> [u64; 3] {
        let text = self.virgo(1, &[&["nodes", "pick", "--json"], arguments].concat());
        let mut counts = [0; 3];
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("JSON");
            let address = value["address"].as_str().expect("an address");
            let place = ADDRESSES
                .iter()
                .position(|known| address.starts_with(known));
            counts[place.expect("a node of ours")] = value["count"].as_u64().expect("a count");
        }
        counts
    }

    /// Requests to a node from so many threads, until they are told to stop.
    pub(crate) fn traffic(&self, node: &str, threads: usize) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..threads)
            .map(|index| {
                let (stop, request) = (stop.clone(), Call::echo(node).size(100 + 900 * index));
                std::thread::spawn(move || {
                    let mut errors = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(error) = call(&request) {
                            errors.push(error);
                        }
                    }
                    errors
                })
            })
            .collect();
        Traffic { stop, threads }
    }

    /// Keeps a node's processors busy, until it is dropped.
    pub(crate) fn burn(&self, node: usize, tasks: usize) -> Burner<'_> {
        let script = format!(
            "for i in $(seq {tasks}); do \
             sh -c 'while :; do :; done' </dev/null >/dev/null 2>&1 & echo $!; done > /tmp/burners"
        );
        self.on(node, &["sh", "-c", &script]);
        Burner {
            cluster: self,
            node,
        }
    }
}

/// Waits until a node is in a state, as this one sees it.
pub(crate) fn wait_state(cluster: &Cluster, node: usize, state: &str) {
    // A node's whole life is seconds; whoever wants to know how long it took has the time.
    let there = wait_until(Duration::from_secs(30), || {
        cluster.nodes()[node - 1].state == state
    });
    assert!(there, "node {node} is not {state}: {:?}", cluster.nodes());
}

/// Requests that are being made.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<i32>>>,
}

impl Traffic {
    /// Ends them; the errors that there were, each once.
    pub(crate) fn stop(self) -> Vec<i32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors: Vec<i32> = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a thread"))
            .collect();
        errors.sort_unstable();
        errors.dedup();
        errors
    }
}

/// Tasks that keep a node busy.
pub(crate) struct Burner<'a> {
    cluster: &'a Cluster,
    node: usize,
}

impl Drop for Burner<'_> {
    fn drop(&mut self) {
        let kill = ["sh", "-c", "kill $(cat /tmp/burners)"];
        let _ = self.cluster.try_on(self.node, &kill);
    }
}
