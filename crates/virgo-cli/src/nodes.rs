// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo nodes`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use virgo::{
    parse_nodes, Control, Node, NodeAddress, NodeId, NodePolicy, NodeTable, Nodes, DEFAULT_PORT,
};

use crate::cli;
use crate::stop;
use crate::text::{self, Align, Table, Usage};

/// Where the original's servers and clients look for their nodes.
const FILES: [&str; 2] = ["/etc/virgo_cloud.conf", "/etc/virgo_client.conf"];
/// Where the key is, if it is there.
const KEY: &str = "/etc/virgo/key";

pub(crate) fn run(options: &cli::Nodes, json: bool) -> anyhow::Result<ExitCode> {
    match &options.command {
        None => show(options, json),
        Some(cli::NodesCommand::Load(load)) => self::load(load, json),
        Some(cli::NodesCommand::Clear) => {
            Control::open()?.clear_nodes()?;
            Ok(ExitCode::SUCCESS)
        }
        Some(cli::NodesCommand::Ping(ping)) => self::ping(ping, json),
        Some(cli::NodesCommand::Policy(policy)) => self::policy(policy, json),
        Some(cli::NodesCommand::Pick(pick)) => self::pick(pick, json),
        Some(cli::NodesCommand::NewKey { file }) => new_key(file),
    }
}

/// Pauses; whether a signal came.
fn interrupted(stop: &stop::Stop, pause: Duration) -> bool {
    let end = Instant::now() + pause;
    while !stop.is_set() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    true
}

/// Milliseconds, as many decimals as mean something.
fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

fn table(nodes: &Nodes) -> Table {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("WEIGHT", Align::Right),
        ("LOAD", Align::Right),
        ("TASKS", Align::Right),
        ("CPUS", Align::Right),
        ("WAIT", Align::Right),
        ("FREE", Align::Right),
        ("RTT", Align::Right),
        ("CALLS", Align::Right),
        ("FAILED", Align::Right),
        ("LAST ERROR", Align::Left),
    ]);
    for node in &nodes.nodes {
        let of_load = |tell: &dyn Fn(&virgo::NodeLoad) -> String| {
            node.load.as_ref().map_or_else(|| "-".into(), tell)
        };
        table.row(vec![
            node.id.to_string(),
            node.addr.to_string(),
            if node.me {
                "up, here".into()
            } else {
                node.state.to_string()
            },
            node.weight.to_string(),
            of_load(&|load| format!("{:.2}", f64::from(load.load) / 1000.0)),
            of_load(&|load| load.runnable.to_string()),
            of_load(&|load| load.cpus.to_string()),
            of_load(&|load| match load.pressure {
                Some(pressure) => format!("{:.1} %", f64::from(pressure) / 10.0),
                None => "-".into(),
            }),
            of_load(&|load| text::bytes(load.free_kib.saturating_mul(1024))),
            if node.me || node.rtt.is_zero() {
                "-".into()
            } else {
                milliseconds(node.rtt)
            },
            text::count(node.calls),
            text::count(node.failed),
            node.error.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn node_json(node: &Node) -> Value {
    json!({
        "id": node.id.to_string(),
        "address": node.addr.to_string(),
        "self": node.me,
        "state": node.state.to_string(),
        "since_s": node.since_ns as f64 / 1e9,
        "weight": node.weight,
        "load": node.load.map(|load| json!({
            "load": load.load,
            "runnable": load.runnable,
            "cpus": load.cpus,
            "pressure_permille": load.pressure,
            "free_kib": load.free_kib,
            "total_kib": load.total_kib,
        })),
        "rtt_ms": node.rtt.as_secs_f64() * 1e3,
        "calls": node.calls,
        "failed": node.failed,
        "in_flight": node.in_flight,
        "error": node.error,
    })
}

fn show(options: &cli::Nodes, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let stop = stop::Stop::on_signals()?;
    let mut left = match (options.watch, options.count) {
        (None, _) => Some(1),
        (Some(_), count) => count,
    };
    let mut out = io::stdout().lock();
    while left != Some(0) {
        let nodes = control.nodes()?;
        if json {
            let value = json!({
                "generation": nodes.generation,
                "bind": nodes.bind.map(|bind| bind.to_string()),
                "connections": nodes.connections,
                "strangers": nodes.strangers,
                "refused": nodes.refused,
                "nodes": nodes.nodes.iter().map(node_json).collect::<Vec<_>>(),
            });
            writeln!(out, "{value}")?;
        } else {
            write!(out, "{}", table(&nodes))?;
            match nodes.bind {
                Some(bind) => writeln!(
                    out,
                    "listening on {bind}: {}, {} from elsewhere turned away, {} closed for what came",
                    text::plural(nodes.connections, "connection"),
                    text::count(nodes.strangers),
                    text::count(nodes.refused)
                )?,
                None => writeln!(out, "no port is open for other nodes")?,
            }
        }
        out.flush()?;
        left = left.map(|left| left.saturating_sub(1));
        let pause = Duration::from_secs_f64(options.watch.unwrap_or(0.0));
        if left != Some(0) && interrupted(&stop, pause) {
            break;
        }
        if left != Some(0) && !json {
            writeln!(out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The nodes of the files that were named, or of those that are there.
fn read_nodes(files: &[PathBuf]) -> anyhow::Result<Vec<NodeAddress>> {
    let mut paths: Vec<PathBuf> = files.to_vec();
    if paths.is_empty() {
        paths = FILES
            .iter()
            .map(PathBuf::from)
            .filter(|path| path.exists())
            .collect();
    }
    if paths.is_empty() {
        return Err(anyhow::anyhow!(
            "there is neither {} nor {}. Write the nodes' addresses into one, separated by commas, \
             or name another file.",
            FILES[0],
            FILES[1]
        ));
    }
    let mut nodes: Vec<NodeAddress> = Vec::new();
    for path in &paths {
        let next = "Name a file that can be read.";
        let words = fs::read_to_string(path)
            .map_err(|error| text::file_error("read", path, &error, next))?;
        let more = parse_nodes(&words).map_err(|error| {
            anyhow::anyhow!(
                "cannot load {}: {error}. An entry is ADDRESS[:PORT][;WEIGHT].",
                path.display()
            )
        })?;
        for node in more {
            if !nodes.iter().any(|there| there.addr == node.addr) {
                nodes.push(node);
            }
        }
    }
    if nodes.is_empty() {
        return Err(anyhow::anyhow!(
            "{} names no node. Write addresses into it, or use \"virgo nodes clear\".",
            paths[0].display()
        ));
    }
    Ok(nodes)
}

/// Which of the nodes is this machine.
fn find_self(nodes: &[NodeAddress], wanted: Option<&str>) -> anyhow::Result<usize> {
    if let Some(wanted) = wanted {
        let node: NodeAddress = wanted.parse().map_err(|error| Usage(format!("{error}")))?;
        return nodes
            .iter()
            .position(|there| there.addr == node.addr)
            .ok_or_else(|| {
                anyhow::anyhow!("{} is not among the nodes. Add it to the file.", node.addr)
            });
    }
    let local: Vec<usize> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.is_local())
        .map(|(index, _)| index)
        .collect();
    match local[..] {
        [only] => Ok(only),
        [] => Err(anyhow::anyhow!(
            "none of the {} is an address of this machine. Add one to the file: every node is in \
             every node's file.",
            text::plural(nodes.len() as u64, "node")
        )),
        [first, second, ..] => Err(anyhow::anyhow!(
            "both {} and {} are addresses of this machine. Say with --self which of them it is.",
            nodes[first].addr,
            nodes[second].addr
        )),
    }
}

/// Reads a key, if its file is safe.
fn read_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let next = "Make one with \"virgo nodes new-key FILE\", and copy it to every node.";
    let fail = |error: io::Error| text::file_error("read the key", path, &error, next);
    let mut file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() || meta.mode() & 0o077 != 0 {
        return Err(anyhow::anyhow!(
            "the key {} was not used: others than its owner may read or change it, or it is no \
             file. Run \"chmod 600 {0}\".",
            path.display()
        ));
    }
    let mut key = Vec::new();
    // One byte more than allowed, so that the kernel refuses what is too long.
    Read::by_ref(&mut file)
        .take(1026)
        .read_to_end(&mut key)
        .map_err(fail)?;
    while matches!(key.last(), Some(b'\n' | b'\r')) {
        key.pop();
    }
    Ok(key)
}

fn load(options: &cli::NodesLoad, json: bool) -> anyhow::Result<ExitCode> {
    let nodes = read_nodes(&options.files)?;
    let me = find_self(&nodes, options.me.as_deref())?;
    let own = nodes[me].addr;
    let bind = match &options.bind {
        None => own,
        Some(bind) => {
            let unspecified = bind.parse::<std::net::IpAddr>();
            match unspecified {
                Ok(ip) => SocketAddr::new(ip, own.port()),
                Err(_) => bind
                    .parse::<SocketAddr>()
                    .map_err(|_| Usage(format!("{bind:?} is no address with or without a port")))?,
            }
        }
    };
    let key = match &options.key {
        Some(path) => Some(read_key(path)?),
        None if Path::new(KEY).exists() => Some(read_key(Path::new(KEY))?),
        None => None,
    };
    let table = NodeTable {
        nodes,
        me,
        bind,
        key: key.as_deref(),
    };
    let control = Control::open()?;
    let generation = control.load_nodes(&table)?;
    let mut out = io::stdout().lock();
    if json {
        let value = json!({
            "generation": generation,
            "nodes": table.nodes.len(),
            "self": own.to_string(),
            "bind": key.is_some().then(|| bind.to_string()),
        });
        writeln!(out, "{value}")?;
    } else {
        writeln!(
            out,
            "{} loaded; this is {own}{}",
            text::plural(table.nodes.len() as u64, "node"),
            if key.is_some() {
                format!(", listening on {bind}")
            } else {
                ", and without a key no port is open".into()
            }
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The node that words name: its number, or its address.
pub(crate) fn find<'a>(nodes: &'a [Node], words: &str) -> anyhow::Result<&'a Node> {
    let number = u32::from_str_radix(words, 16)
        .ok()
        .filter(|_| words.len() == 8);
    let addr = words.parse::<NodeAddress>().ok().map(|node| node.addr);
    nodes
        .iter()
        .find(|node| {
            Some(node.id) == number.map(NodeId)
                || Some(node.addr) == addr
                // Without a port: whatever port it has, if only one node has the address.
                || addr.is_some_and(|addr| {
                    addr.port() == DEFAULT_PORT
                        && nodes.iter().filter(|other| other.addr.ip() == addr.ip()).count() == 1
                        && addr.ip() == node.addr.ip()
                })
        })
        .ok_or_else(|| {
            anyhow::anyhow!("there is no node {words}. \"virgo nodes\" shows which there are.")
        })
}

/// The policy, and the node that goes with it, of an argument such as `least-loaded` or an address.
pub(crate) fn policy_of(
    control: &Control,
    policy: Option<cli::NodePolicy>,
    node: Option<&str>,
) -> anyhow::Result<NodePolicy> {
    if let Some(node) = node {
        return Ok(NodePolicy::Node(find(&control.nodes()?.nodes, node)?.id));
    }
    Ok(policy.map_or(NodePolicy::Default, cli::NodePolicy::of_library))
}

fn ping(options: &cli::NodesPing, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let nodes = control.nodes()?.nodes;
    let wanted: Vec<&Node> = if options.nodes.is_empty() {
        nodes.iter().filter(|node| !node.me).collect()
    } else {
        options
            .nodes
            .iter()
            .map(|words| find(&nodes, words))
            .collect::<anyhow::Result<_>>()?
    };
    let timeout = Duration::from_secs_f64(options.timeout);
    let stop = stop::Stop::on_signals()?;
    let mut failed = false;
    let mut out = io::stdout().lock();
    for round in 0..options.count {
        let began = Instant::now();
        for node in &wanted {
            let name = format!("{} ({})", node.addr, node.id);
            let answer = control.ping_node(node.id, &name, timeout);
            failed |= answer.is_err();
            if json {
                let value = json!({
                    "id": node.id.to_string(),
                    "address": node.addr.to_string(),
                    "rtt_ms": answer.as_ref().ok().map(|rtt| rtt.as_secs_f64() * 1e3),
                    "error": answer.as_ref().err().map(ToString::to_string),
                });
                writeln!(out, "{value}")?;
            } else {
                match answer {
                    Ok(rtt) => writeln!(out, "{name}: {}", milliseconds(rtt))?,
                    Err(error) => text::remark(&error.to_string()),
                }
            }
        }
        out.flush()?;
        let pause = Duration::from_secs(1).saturating_sub(began.elapsed());
        if round + 1 < options.count && interrupted(&stop, pause) {
            break;
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn policy(options: &cli::NodesPolicy, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    if let Some(policy) = options.policy {
        control.set_node_policy(policy.of_library())?;
    }
    if let Some(seed) = options.seed {
        control.set_node_seed(seed)?;
    }
    let (policy, seed) = control.node_policy()?;
    let name = match policy {
        Some(NodePolicy::LeastLoaded) => "least-loaded",
        Some(NodePolicy::Random) => "random",
        Some(NodePolicy::TwoChoices) => "p2c",
        _ => "unknown",
    };
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "policy": name, "seed": seed }))?;
    } else if seed == 0 {
        writeln!(out, "{name}")?;
    } else {
        writeln!(out, "{name}, seed {seed}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn pick(options: &cli::NodesPick, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let nodes = control.nodes()?.nodes;
    let policy = policy_of(&control, options.policy, options.node.as_deref())?;
    let mut counts: BTreeMap<NodeId, u64> = BTreeMap::new();
    let rounds = if options.key.is_some() {
        1
    } else {
        options.count
    };
    for _ in 0..rounds {
        let node = match &options.key {
            Some(key) => control.owner_node(key.as_bytes())?,
            None => control.pick_node(policy)?,
        };
        *counts.entry(node).or_default() += 1;
    }
    let mut out = io::stdout().lock();
    for (id, count) in counts {
        let addr = nodes
            .iter()
            .find(|node| node.id == id)
            .map(|node| node.addr);
        let addr = addr.map(|addr| addr.to_string()).unwrap_or_default();
        if json {
            let value = json!({ "id": id.to_string(), "address": addr, "count": count });
            writeln!(out, "{value}")?;
        } else if rounds == 1 {
            writeln!(out, "{id} {addr}")?;
        } else {
            writeln!(out, "{id} {addr} {}", text::count(count))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new_key(path: &Path) -> anyhow::Result<ExitCode> {
    let next = "Name a file that is not there yet, in a folder that is.";
    let fail = |error: io::Error| text::file_error("make the key", path, &error, next);
    let mut random = [0_u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(fail)?;
    let mut digits = String::new();
    for byte in random {
        digits.push_str(&format!("{byte:02x}"));
    }
    // Never over another key, and never readable by others, not even for a moment.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    file.write_all(format!("{digits}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    Ok(ExitCode::SUCCESS)
}
