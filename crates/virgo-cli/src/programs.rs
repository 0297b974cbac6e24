// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo programs`: which programs may be run here, as whom and with how much.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{anyhow, bail, Context as _};
use serde::Deserialize;
use serde_json::json;
use virgo::programs::{Limits, ProgramEntry};
use virgo::Control;

use crate::cli;
use crate::cpupool::each_node;
use crate::text::{self, file_error, reason, Align, Table};

/// Where the control groups are, where the file does not say it.
const GROUP: &str = "/sys/fs/cgroup/virgo";
/// The most runs at once, likewise.
const AT_ONCE: u32 = 16;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    user: String,
    #[serde(default = "group")]
    cgroup: PathBuf,
    #[serde(default = "at_once")]
    at_once: u32,
    #[serde(default)]
    limits: Amounts,
    #[serde(default)]
    program: Vec<Listed>,
}

fn group() -> PathBuf {
    GROUP.into()
}

fn at_once() -> u32 {
    AT_ONCE
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amounts {
    time: Option<f64>,
    memory: Option<String>,
    output: Option<String>,
    processes: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    path: PathBuf,
    name: Option<String>,
    user: Option<String>,
    #[serde(default)]
    limits: Amounts,
}

fn size(text: &str) -> anyhow::Result<u64> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .ok()
        .filter(|size| *size > 0)
        .with_context(|| format!("\"{text}\" is not a number of bytes, such as 100, 64K or 16M"))
}

impl Amounts {
    /// With what is not said taken from `others`.
    fn limits(&self, others: &Limits) -> anyhow::Result<Limits> {
        let time = match self.time {
            None => others.time,
            Some(time) if (0.001..=4_000_000.0).contains(&time) => Duration::from_secs_f64(time),
            Some(time) => bail!("{time} is not a time: it is 0.001 to 4000000 seconds"),
        };
        let bytes = |text: &Option<String>, other| text.as_deref().map_or(Ok(other), size);
        let processes = self.processes.unwrap_or(others.processes);
        if processes == 0 {
            bail!("a program needs one process at least");
        }
        Ok(Limits {
            time,
            processes,
            memory: bytes(&self.memory, others.memory)?,
            output: bytes(&self.output, others.output)?,
        })
    }
}

/// User and group of a name of /etc/passwd, or of two numbers with a colon between.
fn user(name: &str) -> anyhow::Result<(u32, u32)> {
    let numbers = name
        .split_once(':')
        .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    let found = match numbers {
        Some(numbers) => numbers,
        None => {
            let path = Path::new("/etc/passwd");
            let text = fs::read_to_string(path)
                .map_err(|error| file_error("read", path, &error, "Name the user UID:GID."))?;
            text.lines()
                .find_map(|line| {
                    let mut fields = line.split(':');
                    (fields.next()? == name).then_some(())?;
                    let mut numbers = fields.skip(1).map(str::parse);
                    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
                })
                .with_context(|| format!("/etc/passwd has no user \"{name}\""))?
        }
    };
    if found.0 == 0 || found.1 == 0 {
        bail!("programs are not run as root: name a user without rights");
    }
    Ok(found)
}

/// A program's path without symbolic links, if nobody but root can change what is there.
fn checked(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.is_absolute() {
        bail!("{} is not an absolute path", path.display());
    }
    let real = fs::canonicalize(path)
        .map_err(|error| file_error("find", path, &error, "Correct the path or install it."))?;
    for place in real.ancestors() {
        let found = fs::symlink_metadata(place)
            .map_err(|error| file_error("look at", place, &error, ""))?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            bail!(
                "{} can be changed by others than root, so {} may not be run",
                place.display(),
                path.display()
            );
        }
    }
    let file = fs::metadata(&real).map_err(|error| file_error("look at", &real, &error, ""))?;
    if !file.is_file() || file.mode() & 0o111 == 0 {
        bail!("{} is no program", path.display());
    }
    if file.mode() & 0o6000 != 0 {
        bail!(
            "{} gives its user other rights (set-user-ID)",
            path.display()
        );
    }
    Ok(real)
}

/// Reads the file.
fn parse(text: &str) -> anyhow::Result<(File, Vec<ProgramEntry>)> {
    let file: File = toml::from_str(text).map_err(|error| anyhow!("{error}"))?;
    let usual = Limits {
        time: Duration::from_secs(60),
        processes: 64,
        memory: 256 << 20,
        output: 1 << 20,
    };
    let usual = file.limits.limits(&usual)?;
    let default_user = user(&file.user)?;
    let (mut entries, mut names) = (Vec::new(), HashSet::new());
    for listed in &file.program {
        let path = checked(&listed.path)?;
        let name = match &listed.name {
            Some(name) => name.clone(),
            None => listed
                .path
                .file_name()
                .and_then(|name| name.to_str())
                .with_context(|| format!("{} needs a name", listed.path.display()))?
                .into(),
        };
        if !virgo_name(&name) {
            bail!(
                "\"{name}\" is no name for a program: letters, digits, '.', '_', '+' and '-', at \
                 most 31, not '.' or '-' first"
            );
        }
        if !names.insert(name.clone()) || entries.iter().any(|e: &ProgramEntry| e.path == path) {
            bail!("{} is there twice", listed.path.display());
        }
        let (uid, gid) = listed.user.as_deref().map_or(Ok(default_user), user)?;
        entries.push(ProgramEntry {
            name,
            path,
            uid,
            gid,
            limits: listed.limits.limits(&usual)?,
            runs: 0,
        });
    }
    if entries.is_empty() {
        bail!("it lists no program");
    }
    if entries.len() > 256 {
        bail!("it lists more than 256 programs");
    }
    if !(1..=256).contains(&file.at_once) {
        bail!("at_once must be 1 to 256");
    }
    Ok((file, entries))
}

fn virgo_name(name: &str) -> bool {
    virgo::programs::is_program_name(name)
}

/// Writes into a file of a control group.
fn write(path: &Path, words: &str) -> anyhow::Result<()> {
    fs::write(path, words).map_err(|error| {
        anyhow!(
            "cannot write \"{words}\" into {}: {}. A control group of version 2 is needed whose \
             parent offers the memory and pids controllers; name another with cgroup = \"…\"",
            path.display(),
            reason(&error)
        )
    })
}

/// Makes the control groups that are not there yet.
fn make_groups(group: &Path, count: u32) -> anyhow::Result<()> {
    const CONTROLLERS: &str = "+memory +pids";
    let parent = group
        .parent()
        .context("cgroup must be below a control group")?;
    write(&parent.join("cgroup.subtree_control"), CONTROLLERS)?;
    let make = |path: &Path| match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(file_error("make", path, &error, "Is it a control group?"))
        }
        _ => Ok(()),
    };
    make(group)?;
    write(&group.join("cgroup.subtree_control"), CONTROLLERS)?;
    for index in 0..count {
        let slot = group.join(index.to_string());
        make(&slot)?;
        write(&slot.join("memory.oom.group"), "1")?;
        // Where the kernel has no swap there is no such file.
        let _ = fs::write(slot.join("memory.swap.max"), "0");
    }
    Ok(())
}

/// Has a process of each user lend its credentials, through our descriptor.
fn have_lent(control: &Control, entries: &[ProgramEntry]) -> anyhow::Result<()> {
    let own = std::env::current_exe().map_err(|error| anyhow!("{}", reason(&error)))?;
    let users: HashSet<(u32, u32)> = entries.iter().map(|entry| (entry.uid, entry.gid)).collect();
    for (uid, gid) in users {
        let device = control
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| anyhow!("{}", reason(&error)))?;
        let output = Command::new(&own)
            .args(["programs", "lend"])
            .uid(uid)
            .gid(gid)
            .stdin(device)
            .output()
            .map_err(|error| {
                anyhow!(
                    "cannot run {} as user {uid}: {}. Can it be read by that user?",
                    own.display(),
                    reason(&error)
                )
            })?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}

fn load(options: &cli::ProgramsLoad) -> anyhow::Result<ExitCode> {
    let path = &options.file;
    let text = fs::read_to_string(path)
        .map_err(|error| file_error("read", path, &error, "doc/cpupool.md has an example."))?;
    let (file, entries) = parse(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    if options.check {
        return Ok(ExitCode::SUCCESS);
    }
    let control = Control::open()?;
    make_groups(&file.cgroup, file.at_once)?;
    have_lent(&control, &entries)?;
    control.set_programs(&entries, &file.cgroup, file.at_once)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run(options: &cli::Programs, json: bool) -> anyhow::Result<ExitCode> {
    match &options.command {
        Some(cli::ProgramsCommand::Load(options)) => load(options),
        Some(cli::ProgramsCommand::Lend) => {
            virgo::programs::lend(io::stdin())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(cli::ProgramsCommand::Clear) => {
            Control::open()?.set_programs(&[], Path::new("/"), 1)?;
            Ok(ExitCode::SUCCESS)
        }
        None => list(options.node.as_deref(), json),
    }
}

fn list(node: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let control = Control::open()?;
    let nodes = control.nodes()?.nodes;
    let mut table = Table::new(&[
        ("PROGRAM", Align::Left),
        ("NODE", Align::Left),
        ("USER", Align::Right),
        ("TIME", Align::Right),
        ("MEMORY", Align::Right),
        ("OUTPUT", Align::Right),
        ("PROCESSES", Align::Right),
        ("RUNS", Align::Right),
        ("PATH", Align::Left),
    ]);
    let mut out = io::stdout().lock();
    let code = each_node(
        &nodes,
        node,
        |node| control.programs(node),
        |node, program| {
            let limits = program.limits;
            if json {
                let value = json!({
                    "program": program.name,
                    "node": node.id.to_string(),
                    "address": node.addr.to_string(),
                    "path": program.path,
                    "uid": program.uid,
                    "gid": program.gid,
                    "time_ms": limits.time.as_millis() as u64,
                    "memory": limits.memory,
                    "output": limits.output,
                    "processes": limits.processes,
                    "runs": program.runs,
                });
                writeln!(out, "{value}")?;
                return Ok(());
            }
            table.row(vec![
                program.name,
                node.addr.to_string(),
                program.uid.to_string(),
                format!("{} s", limits.time.as_secs_f64()),
                text::bytes(limits.memory),
                text::bytes(limits.output),
                text::count(limits.processes.into()),
                text::count(program.runs),
                program.path.display().to_string(),
            ]);
            Ok(())
        },
    )?;
    if !json {
        write!(out, "{table}")?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::{parse, size, user};

    #[test]
    fn root_runs_nothing() {
        for name in ["root", "0:0", "0:65534", "65534:0"] {
            assert!(user(name).is_err(), "{name}");
        }
        assert_eq!(user("65534:65533").expect("numbers"), (65534, 65533));
        assert!(user("no such user").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64K").expect("a size"), 65536);
        for bad in ["", "0", "-1", "many"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        for (text, words) in [
            ("", "user"),
            ("user = \"root\"\n", "root"),
            ("user = \"1:1\"\n", "lists no program"),
            ("user = \"1:1\"\nuzer = 1\n[[program]]\npath = \"/bin/ls\"\n", "uzer"),
            ("user = \"1:1\"\n[[program]]\npath = \"ls\"\n", "absolute"),
            ("user = \"1:1\"\n[[program]]\npath = \"/no/such\"\n", "cannot find"),
            ("user = \"1:1\"\n[[program]]\npath = \"/etc/passwd\"\n", "no program"),
            ("user = \"1:1\"\n[[program]]\npath = \"/bin/ls\"\nname = \"a/b\"\n", "no name"),
            ("user = \"1:1\"\n[limits]\ntime = 0\n[[program]]\npath = \"/bin/ls\"\n", "not a time"),
            ("user = \"1:1\"\n[limits]\nmemory = \"x\"\n[[program]]\npath = \"/bin/ls\"\n", "bytes"),
            ("user = \"1:1\"\nat_once = 0\n[[program]]\npath = \"/bin/ls\"\n", "at_once"),
            (
                "user = \"1:1\"\n[[program]]\npath = \"/bin/ls\"\n[[program]]\npath = \"/usr/bin/ls\"\n",
                "twice",
            ),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
