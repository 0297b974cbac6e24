// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo call` and `virgo functions`.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use virgo::{Call, Control, Node, NodeId, NodeState};

use crate::cli;
use crate::nodes::{find, policy_of};
use crate::queue;
use crate::text::{self, Align, Table};

pub(crate) fn address(nodes: &[Node], id: NodeId) -> String {
    nodes
        .iter()
        .find(|node| node.id == id)
        .map_or_else(|| id.to_string(), |node| node.addr.to_string())
}

pub(crate) fn call(options: &cli::Call, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let input = if options.stdin {
        let mut input = Vec::new();
        io::stdin().lock().read_to_end(&mut input)?;
        input
    } else {
        options.arguments.join(" ").into_bytes()
    };
    let policy = policy_of(&control, options.policy, options.node.as_deref())?;
    if options.later {
        let mut request = policy.words().into_bytes();
        if options.idempotent {
            request.extend_from_slice(b"@again ");
        }
        request.extend_from_slice(options.name.as_bytes());
        request.push(b'(');
        request.extend_from_slice(&input);
        request.push(b')');
        return queue::put_for("virgo.cpupool", &request, options.timeout, json);
    }
    let called = control.call(&Call {
        policy,
        timeout: Duration::from_secs_f64(options.timeout),
        idempotent: options.idempotent,
        ..Call::new(&options.name, &input)
    })?;
    let mut out = io::stdout().lock();
    if json {
        let value = json!({
            "function": options.name,
            "node": called.node.to_string(),
            "address": address(&control.nodes()?.nodes, called.node),
            "elapsed_ms": called.elapsed.as_secs_f64() * 1e3,
            "output": String::from_utf8_lossy(&called.output),
        });
        writeln!(out, "{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    out.write_all(&called.output)?;
    // A text for people ends with an end of line; what comes of bytes for a program is left alone.
    if !options.stdin && !called.output.is_empty() && !called.output.ends_with(b"\n") {
        writeln!(out)?;
    }
    out.flush()?;
    if options.verbose {
        text::remark(&format!(
            "{} ran on {} for {:.3} ms",
            options.name,
            address(&control.nodes()?.nodes, called.node),
            called.elapsed.as_secs_f64() * 1e3
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The node that words name, or all that are up.
fn wanted<'a>(nodes: &'a [Node], words: Option<&str>) -> anyhow::Result<Vec<&'a Node>> {
    Ok(match words {
        Some(words) => vec![find(nodes, words)?],
        None => nodes
            .iter()
            .filter(|node| node.state != NodeState::Down)
            .collect(),
    })
}

/// Asks each node that `words` name, or each that is up, with `ask` (by nothing for this one), and
/// gives what it has to `show`. A node that does not answer is told of, and the others go on.
pub(crate) fn each_node<T>(
    nodes: &[Node],
    words: Option<&str>,
    ask: impl Fn(Option<NodeId>) -> virgo::Result<Vec<T>>,
    mut show: impl FnMut(&Node, T) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for node in wanted(nodes, words)? {
        match ask((!node.me).then_some(node.id)) {
            Ok(entries) => {
                for entry in entries {
                    show(node, entry)?;
                }
            }
            Err(error) => {
                text::remark(&format!("node {}: {error}", node.addr));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

pub(crate) fn functions(options: &cli::Functions, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let nodes = control.nodes()?.nodes;
    let mut table = Table::new(&[
        ("FUNCTION", Align::Left),
        ("NODE", Align::Left),
        ("RUNNING", Align::Right),
        ("CALLS", Align::Right),
        ("FAILED", Align::Right),
        ("MEAN", Align::Right),
    ]);
    let mut out = io::stdout().lock();
    let code = each_node(
        &nodes,
        options.node.as_deref(),
        |node| control.functions(node),
        |node, function| {
            let mean = function.busy.as_secs_f64() * 1e3 / function.calls.max(1) as f64;
            if json {
                let value = json!({
                    "function": function.name,
                    "node": node.id.to_string(),
                    "address": node.addr.to_string(),
                    "slow": function.slow,
                    "running": function.running,
                    "calls": function.calls,
                    "failed": function.failed,
                    "mean_ms": mean,
                });
                writeln!(out, "{value}")?;
                return Ok(());
            }
            table.row(vec![
                function.name,
                node.addr.to_string(),
                text::count(function.running.into()),
                text::count(function.calls),
                text::count(function.failed),
                format!("{mean:.3} ms"),
            ]);
            Ok(())
        },
    )?;
    if !json {
        write!(out, "{table}")?;
    }
    Ok(code)
}
