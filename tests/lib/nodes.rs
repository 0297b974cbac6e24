// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The guests of a run as the nodes of a cluster. Node 1 is this one; the others' power can be cut.

use serde_json::Value;

use crate::script::{self, Outcome};
use crate::{wait_until, SOON};

/// The key's file, on each node.
pub const KEY: &str = "/tmp/key";
/// Its content.
pub const SECRET: &str = "the key of these tests, which is long enough";

/// Runs a command on a node.
#[must_use]
pub fn try_on(node: usize, command: &[&str]) -> Outcome {
    if node == 1 {
        return script::run(command[0], &command[1..]);
    }
    let number = node.to_string();
    script::run("virgo-node", &[&[number.as_str()], command].concat())
}

/// Runs a command on a node, which must succeed; what it says.
pub fn on(node: usize, command: &[&str]) -> String {
    succeeded(command, try_on(node, command))
}

/// Runs a script on a node, which must succeed; what it says.
pub fn sh(node: usize, script: &str) -> String {
    on(node, &["sh", "-c", script])
}

/// Cuts a node's power (`--kill`), boots it again (`--start`), and what else virgo-node can do to it.
pub fn power(node: usize, verb: &str) {
    let outcome = script::run("virgo-node", &[&node.to_string(), verb]);
    let _ = succeeded(&[verb], outcome);
}

fn succeeded(command: &[&str], outcome: Outcome) -> String {
    assert_eq!(
        outcome.code, 0,
        "{command:?}: {}{}",
        outcome.out, outcome.err
    );
    outcome.out
}

/// Loads the table of these nodes and their key on a node that has virgo-core.
pub fn load_table(node: usize, addresses: &[&str]) {
    let script = format!(
        "umask 077; echo '{SECRET}' > {KEY}; echo '{}' > /tmp/nodes; \
         virgo nodes load /tmp/nodes --key {KEY}",
        addresses.join(",")
    );
    sh(node, &script);
}

/// Waits until this node sees all of so many nodes up; their numbers, in the order of their addresses.
#[must_use]
pub fn wait_up(count: usize) -> Vec<u32> {
    let mut nodes = Vec::new();
    let up = wait_until(SOON, || {
        let text = on(1, &["virgo", "nodes", "--json"]);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        nodes = value["nodes"].as_array().expect("a list").clone();
        nodes.len() == count && nodes.iter().all(|node| node["state"] == "up")
    });
    assert!(up, "the nodes do not come up: {nodes:?}");
    let word = |node: &Value, name: &str| node[name].as_str().expect("a word").to_owned();
    nodes.sort_by_key(|node| word(node, "address"));
    nodes
        .iter()
        .map(|node| u32::from_str_radix(&word(node, "id"), 16).expect("a number"))
        .collect()
}
