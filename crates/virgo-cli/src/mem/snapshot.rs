// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo mem save` and `virgo mem load`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use tempfile::NamedTempFile;
use virgo::mempool::{Expiry, Mempool, Mode, Put};
use virgo::snapshot::{ReadError, Reader, Saved, Writer};

use super::{now, open, progress};
use crate::cli::mem as cli;
use crate::text;

fn cannot_write(path: &Path, error: &io::Error) -> anyhow::Error {
    text::file_error("write", path, error, "Is there room, and a right to write?")
}

pub(super) fn save(options: &cli::Save, json: bool) -> anyhow::Result<ExitCode> {
    let pool = Mempool::open()?;
    let path = &options.file;
    let (values, bytes) = if path.as_os_str() == "-" {
        write(&pool, options, io::stdout().lock()).map_err(|error| unpath(error, "-".as_ref()))?
    } else {
        // Beside the file, so that it can take its place at once. It goes if this fails.
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let new = NamedTempFile::with_prefix_in(".virgomem-", folder)
            .map_err(|error| cannot_write(path, &error))?;
        let counts = write(&pool, options, new.as_file()).map_err(|error| unpath(error, path))?;
        new.as_file()
            .sync_all()
            .map_err(|error| cannot_write(path, &error))?;
        new.persist(path)
            .map_err(|error| cannot_write(path, &error.error))?;
        // The name itself, too. Not all file systems can; then the next sync does.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        counts
    };
    tell(
        json && path.as_os_str() != "-",
        options.quiet,
        &json!({ "values": values, "bytes": bytes }),
        &format!(
            "{} saved, {}",
            text::plural(values, "value"),
            text::bytes(bytes)
        ),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// What was done: on standard output for programs, else on standard error.
fn tell(json: bool, quiet: bool, value: &serde_json::Value, words: &str) -> anyhow::Result<()> {
    if json {
        writeln!(io::stdout().lock(), "{value}")?;
    } else if !quiet {
        text::remark(words);
    }
    Ok(())
}

/// An error that is a file's gets its name.
fn unpath(error: anyhow::Error, path: &Path) -> anyhow::Error {
    match error.downcast::<io::Error>() {
        // Standard output's reader has seen enough: main() takes it as it is.
        Ok(error) if error.kind() == io::ErrorKind::BrokenPipe => error.into(),
        Ok(error) => cannot_write(path, &error),
        Err(error) => error,
    }
}

/// Counts what goes through.
struct Counted<W>(W, u64);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.0.write(data)?;
        self.1 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn write(pool: &Mempool, options: &cli::Save, out: impl Write) -> anyhow::Result<(u64, u64)> {
    let bar = progress(Some(pool.stat()?.items), false, options.quiet);
    let out = BufWriter::with_capacity(1 << 20, Counted(out, 0));
    let mut writer = Writer::new(out, u64::try_from(now()).unwrap_or(0))?;
    for record in pool.scan() {
        let record = record?;
        if !record.key.starts_with(options.prefix.as_bytes()) {
            continue;
        }
        writer.add(&Saved {
            key: record.key,
            value: record.value,
            flags: record.flags,
            expires: record.expires,
            cas: record.cas,
        })?;
        bar.inc(1);
    }
    let (out, values) = writer.finish()?;
    let counted = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    bar.finish_and_clear();
    Ok((values, counted.1))
}

/// What became of the values of a file.
#[derive(Default)]
struct Loaded {
    stored: u64,
    over: u64,
    kept: u64,
    damaged: u64,
}

pub(super) fn load(options: &cli::Load, json: bool) -> anyhow::Result<ExitCode> {
    let path = &options.file;
    let mut file = if path.as_os_str() == "-" {
        spooled()?
    } else {
        File::open(path).map_err(|error| {
            text::file_error("read", path, &error, "Look at its name and rights.")
        })?
    };
    let length = file.metadata().map_or(0, |about| about.len());
    if options.check || !options.salvage {
        let values = check(options, &file, length)?;
        if options.check {
            tell(
                json,
                options.quiet,
                &json!({ "values": values, "bytes": length }),
                &format!(
                    "{} is whole: {}",
                    path.display(),
                    text::plural(values, "value")
                ),
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        file.seek(SeekFrom::Start(0))
            .map_err(|error| cannot_read(path, &error))?;
    }
    let loaded = store(options, &file, length)?;
    let mut words = format!("{} stored", text::plural(loaded.stored, "value"));
    for (count, what) in [
        (loaded.over, "whose time is over"),
        (loaded.kept, "that were there"),
        (loaded.damaged, "damaged"),
    ] {
        if count > 0 {
            words.push_str(&format!(", {} {what} left out", text::count(count)));
        }
    }
    tell(
        json,
        options.quiet,
        &json!({
            "stored": loaded.stored,
            "expired": loaded.over,
            "kept": loaded.kept,
            "damaged": loaded.damaged,
        }),
        &words,
    )?;
    Ok(if loaded.damaged > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Standard input in a file without a name, since it is read twice.
fn spooled() -> anyhow::Result<File> {
    let fail = |error: &io::Error| {
        text::file_error(
            "keep standard input in",
            &std::env::temp_dir(),
            error,
            "Set TMPDIR to a folder with room.",
        )
    };
    let mut file = tempfile::tempfile().map_err(|error| fail(&error))?;
    io::copy(&mut io::stdin().lock(), &mut file).map_err(|error| fail(&error))?;
    file.seek(SeekFrom::Start(0))
        .map_err(|error| fail(&error))?;
    Ok(file)
}

fn cannot_read(path: &Path, error: &io::Error) -> anyhow::Error {
    text::file_error("read", path, error, "Try again.")
}

fn cannot_load(path: &Path, error: &ReadError) -> anyhow::Error {
    let next = match error {
        ReadError::Io(error) => return cannot_read(path, error),
        ReadError::NotASnapshot | ReadError::Head => "Is it a file that \"virgo mem save\" wrote?",
        ReadError::Version(_) => "Use a newer virgo.",
        _ => "Nothing was stored; --salvage stores what is whole in it.",
    };
    anyhow::anyhow!("cannot load {}: {error}. {next}", path.display())
}

/// Reads the whole file; how many values are in it.
fn check(options: &cli::Load, file: impl Read, length: u64) -> anyhow::Result<u64> {
    let fail = |error| cannot_load(&options.file, &error);
    let bar = progress(Some(length), true, options.quiet);
    let mut reader = Reader::new(BufReader::with_capacity(1 << 20, file)).map_err(fail)?;
    let mut values = 0;
    while reader.next_record().map_err(fail)?.is_some() {
        values += 1;
        bar.set_position(reader.position());
    }
    bar.finish_and_clear();
    Ok(values)
}

fn store(options: &cli::Load, file: impl Read, length: u64) -> anyhow::Result<Loaded> {
    let path = &options.file;
    let pool = open(&options.owner)?;
    let bar = progress(Some(length), true, options.quiet);
    let mut reader = Reader::new(BufReader::with_capacity(1 << 20, file))
        .map_err(|error| cannot_load(path, &error))?;
    let mut loaded = Loaded::default();
    loop {
        let saved = match reader.next_record() {
            Ok(Some(saved)) => saved,
            Ok(None) => break,
            Err(ReadError::Io(error)) => return Err(cannot_read(path, &error)),
            Err(error) if options.salvage => {
                text::remark(&format!("{}: {error}", path.display()));
                loaded.damaged += 1;
                continue;
            }
            Err(error) => return Err(cannot_load(path, &error)),
        };
        bar.set_position(reader.position());
        if saved.expires.is_some_and(|second| second <= now()) {
            loaded.over += 1;
            continue;
        }
        let how = Put {
            mode: if options.keep { Mode::Add } else { Mode::Set },
            expiry: saved.expires.map_or(Expiry::Never, Expiry::At),
            flags: saved.flags,
        };
        let stored = if options.keep {
            pool.add(&saved.key, &saved.value, how)?
        } else {
            Some(pool.put(&saved.key, &saved.value, how)?)
        };
        match stored {
            Some(_) => loaded.stored += 1,
            None => loaded.kept += 1,
        }
    }
    bar.finish_and_clear();
    Ok(loaded)
}
