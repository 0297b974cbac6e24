// SPDX-License-Identifier: GPL-2.0-only

//! /proc/virgo/cloudfs: what is held and what was done, a name and a number a line.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};

use crate::{
    export::Export,
    lib::procfs::ProcFile, //
};

/// What the file shows.
pub(crate) struct Status {
    export: Option<Arc<Export>>,
}

impl Status {
    /// Of what is served, if anything is.
    pub(crate) fn new(export: Option<Arc<Export>>) -> Self {
        Status { export }
    }
}

impl ProcFile for Status {
    const WRITABLE: bool = false;

    fn show(&self, out: &SeqFile) -> Result {
        let Some(export) = &self.export else {
            seq_print!(out, "serving 0\n");
            return Ok(());
        };
        let counters = &export.counters;
        let (handles, bytes) = export.held();
        seq_print!(out, "serving 1\n");
        seq_print!(out, "read_only {}\n", u8::from(export.read_only));
        seq_print!(out, "handles {}\n", handles);
        seq_print!(out, "bytes_under_way {}\n", bytes);
        // Relaxed: statistics.
        seq_print!(out, "requests {}\n", counters.requests.load(Relaxed));
        seq_print!(out, "errors {}\n", counters.errors.load(Relaxed));
        seq_print!(out, "lines {}\n", counters.lines.load(Relaxed));
        seq_print!(out, "bytes_read {}\n", counters.read.load(Relaxed));
        seq_print!(out, "bytes_written {}\n", counters.written.load(Relaxed));
        Ok(())
    }
}
