// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo doctor`: does VIRGO work here, and if not, what is to be done?

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use virgo::{uapi, Control, Modules, Profiler, Ring, Version};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Ok,
    Note,
    Fail,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    grade: Grade,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

fn ok(name: &'static str, finding: impl Into<String>) -> Check {
    Check {
        name,
        grade: Grade::Ok,
        finding: finding.into(),
        next: None,
    }
}

fn fail(name: &'static str, finding: impl Into<String>, next: impl Into<String>) -> Check {
    Check {
        name,
        grade: Grade::Fail,
        finding: finding.into(),
        next: Some(next.into()),
    }
}

fn note(name: &'static str, finding: impl Into<String>, next: impl Into<String>) -> Check {
    Check {
        grade: Grade::Note,
        ..fail(name, finding, next)
    }
}

fn failed(name: &'static str, error: &virgo::Error) -> Check {
    fail(
        name,
        format!("cannot {}: {}", error.action(), error.why()),
        error.next(),
    )
}

pub(crate) fn run(json: bool) -> anyhow::Result<ExitCode> {
    let checks = all();
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&checks)?)?;
    } else {
        for check in &checks {
            let grade = match check.grade {
                Grade::Ok => "ok",
                Grade::Note => "note",
                Grade::Fail => "FAIL",
            };
            writeln!(out, "{grade:<5} {:<9} {}", check.name, check.finding)?;
            if let Some(next) = &check.next {
                writeln!(out, "{:<15} {next}", "")?;
            }
        }
    }
    let bad = checks.iter().any(|check| check.grade == Grade::Fail);
    Ok(if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn all() -> Vec<Check> {
    let mut checks = vec![kernel()];
    let core = module("core", "virgo_core");
    let profiler = module("profiler", "virgo_profiler");
    let (core_there, profiler_there) = (core.grade == Grade::Ok, profiler.grade == Grade::Ok);
    checks.push(core);
    checks.push(profiler);
    // Without the device, what is asked through it can only fail for the same reason.
    if core_there {
        let device = device("device", uapi::DEVICE);
        let usable = device.grade != Grade::Fail;
        checks.push(device);
        if usable {
            match Control::open().and_then(|control| control.query()) {
                Ok(modules) => checks.extend(query(&modules)),
                Err(error) => checks.push(failed("query", &error)),
            }
        }
    }
    if profiler_there {
        let device = device("device", uapi::PROFILER_DEVICE);
        let usable = device.grade != Grade::Fail;
        checks.push(device);
        if usable {
            match buffer() {
                Ok(check) => checks.push(check),
                Err(error) => checks.push(failed("buffer", &error)),
            }
        }
        checks.push(proc_file());
    }
    checks
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let machine = uname.machine().to_string_lossy();
    let finding = format!("{release} {machine}");
    if machine == "x86_64" {
        ok("kernel", finding)
    } else {
        note("kernel", finding, "VIRGO is tested on x86_64 alone.")
    }
}

/// Whether /sys knows the module.
fn module(name: &'static str, module: &str) -> Check {
    let directory = Path::new("/sys/module").join(module);
    let file = module.replace('_', "-");
    if !directory.exists() {
        let next = format!(
            "Try \"sudo modprobe {file}\", or \"sudo insmod-scripts/load\" in the source tree; \
             \"insmod-scripts/preflight\" says whether this kernel can have it."
        );
        return fail(name, format!("{file} is not loaded"), next);
    }
    // A module without a version has no such file.
    match fs::read_to_string(directory.join("version")) {
        Ok(version) => ok(name, format!("{file} {} is loaded", version.trim())),
        Err(_) => ok(name, format!("{file} is loaded")),
    }
}

/// Whether this user may open the device.
fn device(name: &'static str, path: &str) -> Check {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            return fail(
                name,
                format!("{path}: {}", crate::text::reason(&error)),
                "The module is loaded, but its device is missing: is devtmpfs mounted on /dev?",
            )
        }
    };
    let mode = metadata.permissions().mode() & 0o7777;
    let finding = format!(
        "{path} mode {mode:04o} uid {} gid {}",
        metadata.uid(),
        metadata.gid()
    );
    if !metadata.file_type().is_char_device() {
        return fail(
            name,
            format!("{path} is no device"),
            "Remove it, and load the module again.",
        );
    }
    if let Err(error) = fs::File::options().read(true).write(true).open(path) {
        return fail(
            name,
            format!("{finding}: {}", crate::text::reason(&error)),
            "Run it with sudo, or join the group that owns the device.",
        );
    }
    if mode & 0o007 != 0 {
        return note(
            name,
            finding,
            "Every user may open it. Unless that is meant, look for a udev rule that says so.",
        );
    }
    ok(name, finding)
}

fn query(modules: &Modules) -> Vec<Check> {
    let names: Vec<&str> = modules.loaded().map(uapi::Module::name).collect();
    let own = own_version();
    let finding = format!("modules {}, this program {own}", modules.version);
    let same = modules.version.major == own.major && modules.version.minor == own.minor;
    let next = "Install the modules and the program from the same build, and load them again.";
    let mut checks = vec![if same {
        ok("version", finding)
    } else if modules.version.major == own.major {
        note("version", finding, next)
    } else {
        fail("version", finding, next)
    }];
    let known = [
        (uapi::FEATURE_QUERY, "query"),
        (uapi::FEATURE_POLL_MODULES, "poll-modules"),
    ];
    let features: Vec<&str> = known
        .into_iter()
        .filter_map(|(bit, name)| (modules.features & bit != 0).then_some(name))
        .collect();
    checks.push(ok(
        "query",
        format!(
            "ABI {}, features {}, {} loaded",
            modules.abi,
            features.join(" "),
            names.join(" ")
        ),
    ));
    checks
}

fn own_version() -> Version {
    let mut numbers = env!("CARGO_PKG_VERSION")
        .split(['.', '-', '+'])
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0) & 0xff;
    Version::from((next() << 16) | (next() << 8) | next())
}

fn buffer() -> virgo::Result<Check> {
    let info = Profiler::open()?.info()?;
    let header = Ring::open()?.header();
    let finding = format!(
        "{} for {}, {} Hz, {} registered (at most {})",
        crate::text::bytes(info.map_bytes),
        crate::text::plural(info.capacity, "record"),
        header.rate_hz,
        header.registered,
        info.max_tasks
    );
    if header.missed_ticks > 0 {
        let next = format!(
            "{} skipped since the module was loaded: lower the rate, or register fewer tasks.",
            crate::text::plural(header.missed_ticks, "sampling round")
        );
        return Ok(note("buffer", finding, next));
    }
    Ok(ok("buffer", finding))
}

fn proc_file() -> Check {
    const PATH: &str = "/proc/virgo/profiler/status";
    match fs::read_to_string(PATH) {
        Ok(_) => ok("proc", PATH),
        Err(error) => fail(
            "proc",
            format!("{PATH}: {}", crate::text::reason(&error)),
            "Run it with sudo. If it is missing, is proc mounted on /proc?",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_version_is_that_of_the_package() {
        assert_eq!(own_version().to_string(), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_module_that_cannot_be_there_fails_with_a_next_step() {
        let check = module("core", "virgo_no_such_module");
        assert_eq!(check.grade, Grade::Fail);
        assert!(check.finding.contains("virgo-no-such-module is not loaded"));
        assert!(check
            .next
            .is_some_and(|next| next.contains("modprobe virgo-no-such-module")));
    }

    #[test]
    fn a_file_is_no_device() {
        assert_eq!(device("device", "/proc/self/exe").grade, Grade::Fail);
        assert_eq!(device("device", "/nonexistent").grade, Grade::Fail);
    }
}
