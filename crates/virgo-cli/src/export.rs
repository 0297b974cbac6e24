// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo export`: every module's counters for Prometheus.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, Context};
use prometheus::core::{AtomicU64, GenericCounter, GenericGauge};
use prometheus::{Encoder, Opts, Registry, TextEncoder};
use virgo::eventnet::Eventnet;
use virgo::mempool::Mempool;
use virgo::queue::Queue;
use virgo::uapi::Module;
use virgo::{Control, NodeState, Profiler};

use crate::stop::Stop;

/// The counters of a moment.
struct Page(Registry);

impl Page {
    /// A number that only grows, until the module is loaded anew.
    fn counter(&self, name: &str, help: &str, value: u64) -> anyhow::Result<()> {
        let counter = GenericCounter::<AtomicU64>::new(format!("virgo_{name}_total"), help)?;
        counter.inc_by(value);
        Ok(self.0.register(Box::new(counter))?)
    }

    fn gauge(&self, name: &str, help: &str, value: u64) -> anyhow::Result<()> {
        self.labelled(name, help, &[], value)
    }

    fn labelled(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: u64,
    ) -> anyhow::Result<()> {
        let mut opts = Opts::new(format!("virgo_{name}"), help);
        for (label, text) in labels {
            opts = opts.const_label(*label, *text);
        }
        let gauge = GenericGauge::<AtomicU64>::with_opts(opts)?;
        gauge.set(value);
        Ok(self.0.register(Box::new(gauge))?)
    }
}

fn queue(page: &Page) -> anyhow::Result<()> {
    let s = Queue::open()?.stat(None)?;
    page.gauge("queue_ready", "Requests that can be taken.", s.ready)?;
    page.gauge(
        "queue_delayed",
        "Requests that will be ready later.",
        s.delayed,
    )?;
    page.gauge("queue_buried", "Requests that were put aside.", s.buried)?;
    page.gauge(
        "queue_reserved",
        "Requests that somebody has taken.",
        s.reserved,
    )?;
    page.gauge("queue_waiting", "Who waits for a request.", s.waiting)?;
    page.gauge("queue_tubes", "Tubes.", s.tubes)?;
    page.gauge("queue_bytes", "Memory for requests.", s.bytes)?;
    page.gauge("queue_log_bytes", "Bytes of the log.", s.log_bytes)?;
    page.counter("queue_requests", "Requests that were put.", s.total)?;
    page.counter("queue_deletes", "Requests that were done with.", s.deletes)?;
    page.counter(
        "queue_timeouts",
        "Requests whose time was over.",
        s.timeouts,
    )?;
    page.counter(
        "queue_log_records",
        "Records written to the log.",
        s.log_records,
    )
}

fn mempool(page: &Page) -> anyhow::Result<()> {
    let s = Mempool::open()?.stat()?;
    page.gauge("mempool_blocks", "Blocks of memory.", s.blocks)?;
    page.gauge("mempool_block_bytes", "Bytes in blocks.", s.block_bytes)?;
    page.gauge("mempool_items", "Named values.", s.items)?;
    page.gauge(
        "mempool_item_bytes",
        "Bytes of names and values.",
        s.item_bytes,
    )?;
    page.gauge(
        "mempool_memory_limit_bytes",
        "The most memory.",
        s.memory_limit,
    )?;
    page.counter("mempool_gets", "Reads of named values.", s.gets)?;
    page.counter("mempool_hits", "Reads that found one.", s.hits)?;
    page.counter("mempool_sets", "Writes of named values.", s.sets)?;
    page.counter("mempool_deletes", "Deletions of named values.", s.deletes)?;
    page.counter(
        "mempool_evicted",
        "Values that made room for others.",
        s.evicted,
    )?;
    page.counter("mempool_expired", "Values whose time was over.", s.expired)
}

fn eventnet(page: &Page) -> anyhow::Result<()> {
    let s = Eventnet::open()?.stat()?;
    page.counter(
        "eventnet_events",
        "Events of modules in the journal.",
        s.events,
    )?;
    page.counter(
        "eventnet_vertices",
        "Messages about events in the journal.",
        s.vertices,
    )?;
    page.counter(
        "eventnet_edges",
        "Messages about causes in the journal.",
        s.edges,
    )?;
    page.counter(
        "eventnet_lost",
        "Events of modules that nobody will know.",
        s.lost,
    )?;
    page.counter("eventnet_refused", "Messages that were refused.", s.refused)?;
    page.counter("eventnet_received", "Records of other nodes.", s.received)?;
    page.counter(
        "eventnet_forwarded",
        "Own records that the collecting node has.",
        s.forwarded,
    )?;
    page.gauge(
        "eventnet_behind_bytes",
        "Bytes of the journal that it has not been sent.",
        s.behind,
    )?;
    page.gauge(
        "eventnet_journal_bytes",
        "Bytes of the journal.",
        s.journal_bytes,
    )
}

/// A file of /proc with a name and a number a line. Which of them only grow is said by `grow`.
fn proc_file(page: &Page, module: &str, grow: &[&str]) -> anyhow::Result<()> {
    let path = format!("/proc/virgo/{module}");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
    };
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else {
            continue;
        };
        let Ok(value) = value.trim().parse() else {
            continue;
        };
        let help = format!("{name} in {path}.");
        if grow.contains(&name) {
            page.counter(&format!("{module}_{name}"), &help, value)?;
        } else {
            page.gauge(&format!("{module}_{name}"), &help, value)?;
        }
    }
    Ok(())
}

fn core(page: &Page, control: &Control) -> anyhow::Result<()> {
    let nodes = control.nodes()?;
    for node in &nodes.nodes {
        let up = u64::from(matches!(node.state, NodeState::Up));
        let name = format!("{:08x}", node.id.0);
        page.labelled("node_up", "Whether a node answers.", &[("node", &name)], up)?;
    }
    Ok(())
}

fn page() -> anyhow::Result<Vec<u8>> {
    let control = Control::open()?;
    let loaded = control.query()?;
    let page = Page(Registry::new());
    for module in Module::ALL {
        let word = module.name();
        let word = word.strip_prefix("virgo-").unwrap_or(word);
        let there = u64::from(loaded.has(module));
        page.labelled(
            "module_loaded",
            "Whether a module is loaded.",
            &[("module", word)],
            there,
        )?;
    }
    core(&page, &control)?;
    if loaded.has(Module::Queue) {
        queue(&page)?;
    }
    if loaded.has(Module::Mempool) {
        mempool(&page)?;
    }
    if loaded.has(Module::Eventnet) {
        eventnet(&page)?;
    }
    if loaded.has(Module::Profiler) {
        let profiler = Profiler::open()?;
        page.gauge(
            "profiler_rate_hertz",
            "Samples a second.",
            profiler.rate()?.into(),
        )?;
        let tasks = profiler.list()?.len() as u64;
        page.gauge(
            "profiler_tasks",
            "Processes and threads that are sampled.",
            tasks,
        )?;
    }
    let grow = ["requests", "errors", "lines", "bytes_read", "bytes_written"];
    proc_file(&page, "cloudfs", &grow)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&page.0.gather(), &mut text)?;
    Ok(text)
}

pub(crate) fn run(listen: Option<SocketAddr>, _json: bool) -> anyhow::Result<ExitCode> {
    let Some(address) = listen else {
        io::stdout().lock().write_all(&page()?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let stop = Stop::on_signals()?;
    let server = tiny_http::Server::http(address)
        .map_err(|error| anyhow!("cannot listen on {address}: {error}"))?;
    eprintln!("virgo: serving http://{}/metrics", server.server_addr());
    while !stop.is_set() {
        let Some(request) = server.recv_timeout(Duration::from_millis(200))? else {
            continue;
        };
        let answered = if request.url() == "/metrics" {
            match page() {
                Ok(text) => {
                    let kind = "Content-Type: text/plain; version=0.0.4";
                    let header = kind.parse::<tiny_http::Header>();
                    let mut response = tiny_http::Response::from_data(text);
                    if let Ok(header) = header {
                        response = response.with_header(header);
                    }
                    request.respond(response)
                }
                Err(error) => {
                    let text = format!("{error:#}\n");
                    request.respond(tiny_http::Response::from_string(text).with_status_code(500))
                }
            }
        } else {
            let text = "the counters are at /metrics\n";
            request.respond(tiny_http::Response::from_string(text).with_status_code(404))
        };
        // A client that went away is no fault.
        drop(answered);
    }
    Ok(ExitCode::SUCCESS)
}
