// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Ending in good order when SIGINT, SIGTERM or SIGHUP comes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Becomes true with the first signal. The second one ends the process at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn on_signals() -> io::Result<Self> {
        let stop = Stop::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag clear, and sets it.
            flag::register_conditional_default(signal, Arc::clone(&stop.0))?;
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// As if a signal had come.
    pub(crate) fn set(&self) {
        // Relaxed: nothing else is handed over with the flag.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a signal came.
    pub(crate) fn is_set(&self) -> bool {
        // Relaxed: nothing else is handed over with the flag.
        self.0.load(Ordering::Relaxed)
    }
}
