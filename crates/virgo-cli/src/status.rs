// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo status` and `virgo version`.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use virgo::{uapi, Control, Profiler, Ring};

use crate::text;

pub(crate) fn run(json: bool) -> anyhow::Result<ExitCode> {
    let modules = Control::open()?.query()?;
    let names: Vec<&str> = modules.loaded().map(uapi::Module::name).collect();
    let mut out = io::stdout().lock();
    let profiler = if modules.has(uapi::Module::Profiler) {
        let info = Profiler::open()?.info()?;
        Some((info, Ring::open()?.header()))
    } else {
        None
    };
    if json {
        let profiler = profiler.map(|(info, header)| {
            json!({
                "rate_hz": header.rate_hz,
                "registered": header.registered,
                "max_tasks": info.max_tasks,
                "capacity": info.capacity,
                "buffer_bytes": info.map_bytes,
                "records": header.head,
                "rounds": header.ticks,
                "missed_rounds": header.missed_ticks,
                "dropped": header.dropped,
            })
        });
        let value = json!({
            "version": modules.version.to_string(),
            "abi": modules.abi,
            "features": modules.features,
            "modules": names,
            "profiler": profiler,
        });
        writeln!(out, "{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "modules   {} {}", modules.version, names.join(" "))?;
    if let Some((info, header)) = profiler {
        writeln!(
            out,
            "profiler  {} of at most {}, {} Hz",
            text::plural(u64::from(header.registered), "task"),
            text::count(u64::from(info.max_tasks)),
            header.rate_hz
        )?;
        writeln!(
            out,
            "rounds    {}, {} skipped, {} not taken",
            text::count(header.ticks),
            text::count(header.missed_ticks),
            text::plural(header.dropped, "sample")
        )?;
        writeln!(
            out,
            "buffer    {} for {}; {} written",
            text::bytes(info.map_bytes),
            text::plural(info.capacity, "record"),
            text::count(header.head)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Never fails for want of modules: this is what bug reports begin with.
pub(crate) fn version(json: bool) -> anyhow::Result<ExitCode> {
    let own = env!("CARGO_PKG_VERSION");
    let modules = Control::open().and_then(|control| control.query());
    let mut out = io::stdout().lock();
    if json {
        let modules = modules
            .ok()
            .map(|modules| json!({ "version": modules.version.to_string(), "abi": modules.abi }));
        writeln!(out, "{}", json!({ "virgo": own, "modules": modules }))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "virgo {own}")?;
    match modules {
        Ok(modules) => writeln!(out, "modules {}, ABI {}", modules.version, modules.abi)?,
        Err(error) => writeln!(out, "modules not reached: {}", error.why())?,
    }
    Ok(ExitCode::SUCCESS)
}
