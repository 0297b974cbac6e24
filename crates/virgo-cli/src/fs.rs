// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo fs`: files on other nodes, by virgo-cloudfs.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context};
use serde_json::json;
use virgo::files::{open, Metadata, Tree};

use crate::cli;
use crate::text::{self, Align, Table, Usage};

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// A file here or on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Here(PathBuf),
    There { node: String, path: OsString },
}

/// `NODE:/PATH` is a file on a node; anything else is one of this machine. The path must begin
/// with a slash, so a colon in a local name does no harm.
fn name(text: &OsStr) -> Name {
    let bytes = text.as_bytes();
    let split = bytes.windows(2).position(|pair| pair == b":/");
    match split {
        // A slash before it makes it a local path.
        Some(at) if at > 0 && !bytes[..at].contains(&b'/') => {
            match std::str::from_utf8(&bytes[..at]) {
                Ok(node) => Name::There {
                    node: node.to_string(),
                    path: OsStr::from_bytes(&bytes[at + 1..]).to_os_string(),
                },
                Err(_) => Name::Here(text.into()),
            }
        }
        _ => Name::Here(text.into()),
    }
}

/// A name that must be a node's.
fn remote(text: &OsStr) -> anyhow::Result<(String, OsString)> {
    match name(text) {
        Name::There { node, path } => Ok((node, path)),
        Name::Here(path) => Err(Usage(format!(
            "{} names no node: write NODE:/PATH, as in 10.77.0.2:/notes.txt",
            path.display()
        ))
        .into()),
    }
}

/// Connections, one a node.
#[derive(Default)]
struct Nodes(HashMap<String, Tree>);

impl Nodes {
    fn get(&mut self, node: &str) -> anyhow::Result<Tree> {
        if let Some(tree) = self.0.get(node) {
            return Ok(tree.clone());
        }
        let tree = Tree::connect(node).map_err(|error| {
            anyhow!(
                "cannot reach virgo-cloudfs on {node}: {}. Is the module loaded there with root=, \
                 and does its bind= and allow= let this machine in?",
                text::reason(&error)
            )
        })?;
        self.0.insert(node.to_string(), tree.clone());
        Ok(tree)
    }
}

fn failed(verb: &str, text: &OsStr) -> impl Fn(io::Error) -> anyhow::Error {
    let what = format!("cannot {verb} {}", text.to_string_lossy());
    move |error| anyhow!("{what}: {}", text::reason(&error))
}

/// Tells how far a copy is, where someone looks, and not for short ones.
struct Progress {
    what: String,
    total: Option<u64>,
    done: u64,
    begun: Instant,
    told: Option<Instant>,
    shown: bool,
}

impl Progress {
    fn new(what: &OsStr, total: Option<u64>, quiet: bool) -> Self {
        Progress {
            what: what.to_string_lossy().into_owned(),
            total,
            done: 0,
            begun: Instant::now(),
            told: None,
            shown: !quiet && io::stderr().is_terminal(),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let now = Instant::now();
        let last = self.told.unwrap_or(self.begun);
        if !self.shown || now.duration_since(last) < Duration::from_millis(500) {
            return;
        }
        self.told = Some(now);
        let rate = self.done as f64 / now.duration_since(self.begun).as_secs_f64();
        let share = match self.total {
            Some(total) if total > 0 => format!(" {:3} %", self.done.min(total) * 100 / total),
            _ => String::new(),
        };
        let line = format!(
            "\r{}: {}{share}, {}/s \x1b[K",
            self.what,
            text::bytes(self.done),
            text::bytes(rate as u64)
        );
        // Nothing is left to be done if it is closed.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, progress: &mut Progress) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..count])?;
        progress.add(count);
    }
}

/// `drwxr-xr-x`
fn mode_words(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o140_000 => 's',
        _ => '-',
    };
    let mut words = String::from(kind);
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        let bit = 0o400 >> index;
        words.push(if mode & bit != 0 { letter } else { '-' });
    }
    words
}

fn facts(path: &str, meta: &Metadata) -> serde_json::Value {
    let attr = meta.attr();
    json!({
        "name": path,
        "mode": format!("{:06o}", attr.mode),
        "size": attr.size,
        "uid": attr.uid,
        "gid": attr.gid,
        "nlink": attr.nlink,
        "inode": attr.qid.path,
        "atime": attr.atime.sec,
        "mtime": attr.mtime.sec,
        "ctime": attr.ctime.sec,
    })
}

fn list(target: &OsStr, json: bool) -> anyhow::Result<()> {
    let (node, path) = remote(target)?;
    let tree = Nodes::default().get(&node)?;
    let error = failed("list", target);
    let meta = tree.metadata(&path).map_err(&error)?;
    let mut all = Vec::new();
    if meta.is_dir() {
        for entry in tree.read_dir(&path).map_err(&error)? {
            let mut inner = path.clone();
            inner.push("/");
            inner.push(&entry.name);
            // Gone since the list was made: left out.
            if let Ok(meta) = tree.metadata(&inner) {
                all.push((entry.name.to_string_lossy().into_owned(), meta));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
    } else {
        all.push((path.to_string_lossy().into_owned(), meta));
    }
    let mut out = io::stdout().lock();
    if json {
        let list: Vec<_> = all.iter().map(|(name, meta)| facts(name, meta)).collect();
        writeln!(out, "{}", serde_json::Value::from(list))?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("MODE", Align::Left),
        ("UID", Align::Right),
        ("SIZE", Align::Right),
        ("NAME", Align::Left),
    ]);
    for (name, meta) in &all {
        table.row(vec![
            mode_words(meta.mode()),
            meta.attr().uid.to_string(),
            text::count(meta.size()),
            name.clone(),
        ]);
    }
    if !table.is_empty() {
        write!(out, "{table}")?;
    }
    Ok(())
}

fn cat(targets: &[OsString]) -> anyhow::Result<()> {
    let mut nodes = Nodes::default();
    let mut out = io::stdout().lock();
    for target in targets {
        let (node, path) = remote(target)?;
        let error = failed("read", target);
        let mut file = nodes
            .get(&node)?
            .open(&path, open::RDONLY, 0)
            .map_err(&error)?;
        let mut progress = Progress::new(target, None, true);
        copy(&mut file, &mut out, &mut progress)?;
    }
    out.flush()?;
    Ok(())
}

/// Where a copy goes: into a folder it keeps its name.
fn target_of(nodes: &mut Nodes, from: &Name, to: &Name) -> anyhow::Result<Name> {
    let last = match from {
        Name::Here(path) => path.file_name().map(OsStr::to_os_string),
        Name::There { path, .. } => PathBuf::from(path).file_name().map(OsStr::to_os_string),
    };
    let last = last.ok_or_else(|| Usage("the source has no name".into()))?;
    Ok(match to {
        Name::Here(path) if path.is_dir() => Name::Here(path.join(last)),
        Name::There { node, path } => {
            let folder = nodes
                .get(node)?
                .metadata(path)
                .is_ok_and(|meta| meta.is_dir());
            if folder {
                let mut path = path.clone();
                if !path.as_bytes().ends_with(b"/") {
                    path.push("/");
                }
                path.push(last);
                Name::There {
                    node: node.clone(),
                    path,
                }
            } else {
                to.clone()
            }
        }
        Name::Here(_) => to.clone(),
    })
}

fn copy_file(from: &OsStr, to: &OsStr, quiet: bool) -> anyhow::Result<()> {
    let mut nodes = Nodes::default();
    let source = name(from);
    let target = target_of(&mut nodes, &source, &name(to))?;
    let (mut reader, size, mode): (Box<dyn Read>, u64, u32) = match &source {
        Name::Here(path) => {
            let file = File::open(path).map_err(failed("read", from))?;
            let meta = file.metadata().map_err(failed("read", from))?;
            if meta.is_dir() {
                return Err(anyhow!("cannot copy {}: it is a folder", path.display()));
            }
            (Box::new(file), meta.len(), meta.permissions().mode())
        }
        Name::There { node, path } => {
            let tree = nodes.get(node)?;
            let file = tree
                .open(path, open::RDONLY, 0)
                .map_err(failed("read", from))?;
            let meta = file.metadata().map_err(failed("read", from))?;
            if meta.is_dir() {
                return Err(anyhow!(
                    "cannot copy {}: it is a folder",
                    from.to_string_lossy()
                ));
            }
            (Box::new(file), meta.size(), meta.mode())
        }
    };
    let mut progress = Progress::new(from, Some(size), quiet);
    let error = failed("write", to);
    match &target {
        Name::Here(path) => {
            let mut file = File::create(path).map_err(&error)?;
            copy(&mut *reader, &mut file, &mut progress).map_err(&error)?;
            let mode = fs::Permissions::from_mode(mode & 0o777);
            file.set_permissions(mode).map_err(&error)?;
        }
        Name::There { node, path } => {
            let flags = open::WRONLY | open::CREATE | open::TRUNC;
            let tree = nodes.get(node)?;
            let mut file = tree.open(path, flags, mode & 0o777).map_err(&error)?;
            copy(&mut *reader, &mut file, &mut progress).map_err(&error)?;
            // Full disks of some file systems are told now, and not later to nobody.
            file.sync().map_err(&error)?;
        }
    }
    Ok(())
}

fn remove(tree: &Tree, path: &OsStr, recursive: bool) -> io::Result<()> {
    let meta = tree.metadata(path)?;
    if !meta.is_dir() {
        return tree.remove_file(path);
    }
    if recursive {
        for entry in tree.read_dir(path)? {
            let mut inner = path.to_os_string();
            inner.push("/");
            inner.push(&entry.name);
            remove(tree, &inner, true)?;
        }
    }
    tree.remove_dir(path)
}

fn make_folder(tree: &Tree, path: &OsStr, parents: bool) -> io::Result<()> {
    if parents {
        let mut so_far = OsString::new();
        let parts: Vec<_> = path.as_bytes().split(|byte| *byte == b'/').collect();
        for part in parts.iter().filter(|part| !part.is_empty()) {
            so_far.push("/");
            so_far.push(OsStr::from_bytes(part));
            match tree.mkdir(&so_far, 0o777) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        return Ok(());
    }
    tree.mkdir(path, 0o777)
}

fn stat(target: &OsStr, json: bool) -> anyhow::Result<()> {
    let (node, path) = remote(target)?;
    let tree = Nodes::default().get(&node)?;
    let meta = tree.metadata(&path).map_err(failed("look at", target))?;
    let mut out = io::stdout().lock();
    let path_text = path.to_string_lossy();
    if json {
        writeln!(out, "{}", facts(&path_text, &meta))?;
        return Ok(());
    }
    let attr = meta.attr();
    writeln!(out, "name   {node}:{path_text}")?;
    if meta.is_symlink() {
        let link = tree.read_link(&path).map_err(failed("read", target))?;
        writeln!(out, "link   {}", link.to_string_lossy())?;
    }
    writeln!(
        out,
        "mode   {} ({:o})",
        mode_words(attr.mode),
        attr.mode & 0o7777
    )?;
    writeln!(out, "owner  {}:{}", attr.uid, attr.gid)?;
    writeln!(out, "size   {}", text::count(attr.size))?;
    writeln!(out, "inode  {}, {} names", attr.qid.path, attr.nlink)?;
    writeln!(out, "mtime  {}.{:09}", attr.mtime.sec, attr.mtime.nsec)?;
    Ok(())
}

fn disk(target: &OsStr, json: bool) -> anyhow::Result<()> {
    let (node, path) = remote(target)?;
    let tree = Nodes::default().get(&node)?;
    let stat = tree.statfs(&path).map_err(failed("look at", target))?;
    let unit = u64::from(stat.bsize);
    let (size, free, usable) = (
        stat.blocks.saturating_mul(unit),
        stat.bfree.saturating_mul(unit),
        stat.bavail.saturating_mul(unit),
    );
    let mut out = io::stdout().lock();
    if json {
        let value = json!({
            "node": node, "bytes": size, "free": free, "available": usable,
            "files": stat.files, "files_free": stat.ffree,
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("SIZE", Align::Right),
        ("USED", Align::Right),
        ("AVAILABLE", Align::Right),
    ]);
    table.row(vec![
        node,
        text::bytes(size),
        text::bytes(size.saturating_sub(free)),
        text::bytes(usable),
    ]);
    write!(out, "{table}")?;
    Ok(())
}

pub(crate) fn run(command: cli::Fs, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        cli::Fs::Ls { target } => list(&target, json)?,
        cli::Fs::Cat { targets } => cat(&targets)?,
        cli::Fs::Put { from, to, quiet } => {
            remote(&to)?;
            copy_file(&from, &to, quiet)?;
        }
        cli::Fs::Get { from, to, quiet } => {
            remote(&from)?;
            let to = to.unwrap_or_else(|| ".".into());
            copy_file(&from, &to, quiet)?;
        }
        cli::Fs::Cp { from, to, quiet } => copy_file(&from, &to, quiet)?,
        cli::Fs::Rm { targets, recursive } => {
            let mut nodes = Nodes::default();
            for target in &targets {
                let (node, path) = remote(target)?;
                remove(&nodes.get(&node)?, &path, recursive).map_err(failed("remove", target))?;
            }
        }
        cli::Fs::Mkdir { targets, parents } => {
            let mut nodes = Nodes::default();
            for target in &targets {
                let (node, path) = remote(target)?;
                make_folder(&nodes.get(&node)?, &path, parents)
                    .map_err(failed("make the folder", target))?;
            }
        }
        cli::Fs::Mv { from, to } => {
            let ((node, old), (other, new)) = (remote(&from)?, remote(&to)?);
            if node != other {
                return Err(Usage("both names must be on one node; use cp and rm".into()).into());
            }
            let tree = Nodes::default().get(&node)?;
            tree.rename(&old, &new).map_err(failed("rename", &from))?;
        }
        cli::Fs::Stat { target } => stat(&target, json)?,
        cli::Fs::Df { target } => disk(&target, json)?,
    }
    io::stdout().flush().context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_node_are_told_from_local_ones() {
        let there = |node: &str, path: &str| Name::There {
            node: node.into(),
            path: path.into(),
        };
        for (text, expected) in [
            ("node2:/a", there("node2", "/a")),
            ("10.77.0.2:/", there("10.77.0.2", "/")),
            ("10.77.0.2:50001:/a:/b", there("10.77.0.2:50001", "/a:/b")),
            ("[::1]:/a", there("[::1]", "/a")),
            ("a:b", Name::Here("a:b".into())),
            ("./a:/b", Name::Here("./a:/b".into())),
            (":/a", Name::Here(":/a".into())),
            ("/a", Name::Here("/a".into())),
        ] {
            assert_eq!(name(OsStr::new(text)), expected, "{text}");
        }
    }

    #[test]
    fn modes_are_spelled_as_ls_does() {
        assert_eq!(mode_words(0o40755), "drwxr-xr-x");
        assert_eq!(mode_words(0o100_640), "-rw-r-----");
        assert_eq!(mode_words(0o120_777), "lrwxrwxrwx");
    }
}
