// SPDX-License-Identifier: GPL-2.0-only

//! What is kept of the settings, behind the mutex.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    lib::task,
    proto::{
        analytics::Kind,
        shared::Entry,
        uapi::{
            self,
            AnalyticsChange, //
        }, //
    },
};

/// The bounds.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) settings: u32,
    pub(crate) bytes: u64,
}

/// How many changes can be undone.
pub(crate) const UNDO_MAX: usize = uapi::ANALYTICS_UNDO_MAX as usize;
/// How many changes are kept to be looked at.
pub(crate) const LOG_MAX: usize = 512;
/// What a setting is taken to need beside its name and its values.
const OVERHEAD: u64 = 512;

/// Who changes a setting.
#[derive(Clone, Copy)]
pub(crate) struct Who {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    pub(crate) comm: [u8; 16],
}

impl Who {
    /// The calling process.
    pub(crate) fn caller() -> Self {
        let (uid, pid) = task::caller();
        Who {
            uid,
            pid,
            comm: task::comm(),
        }
    }

    /// A process of another node's.
    pub(crate) fn remote(entry: &Entry<'_>) -> Self {
        Who {
            uid: entry.uid,
            pid: entry.pid,
            comm: entry.comm,
        }
    }

    /// No process.
    pub(crate) fn kernel() -> Self {
        let mut comm = [0; 16];
        comm[..6].copy_from_slice(b"kernel");
        Who {
            uid: u32::MAX,
            pid: 0,
            comm,
        }
    }
}

/// A value, and where it comes from. Never changed, but replaced.
pub(crate) struct Held {
    pub(crate) text: KVec<u8>,
    pub(crate) number: i64,
    pub(crate) source: u32,
    pub(crate) who: Who,
    pub(crate) when_ns: u64,
    pub(crate) why: KVec<u8>,
    /// When it runs out, by CLOCK_MONOTONIC; 0: never.
    pub(crate) until_ns: u64,
}

/// A copy of bytes. `ENOMEM`.
pub(crate) fn copied(bytes: &[u8]) -> Result<KVec<u8>> {
    let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL)?;
    copy.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(copy)
}

impl Held {
    /// A value that nobody has set.
    pub(crate) fn initial(text: &[u8], number: i64) -> Result<Arc<Held>> {
        let held = Held {
            text: copied(text)?,
            number,
            source: uapi::ANALYTICS_BY_DEFAULT,
            who: Who::kernel(),
            when_ns: 0,
            why: KVec::new(),
            until_ns: 0,
        };
        Ok(Arc::new(held, GFP_KERNEL)?)
    }

    /// The same value with another number, where what it may be has changed.
    pub(crate) fn with_number(&self, number: i64) -> Result<Arc<Held>> {
        let held = Held {
            text: copied(&self.text)?,
            number,
            source: self.source,
            who: self.who,
            when_ns: self.when_ns,
            why: copied(&self.why)?,
            until_ns: self.until_ns,
        };
        Ok(Arc::new(held, GFP_KERNEL)?)
    }
}

/// What was set of a setting: for the whole cluster, by a person, and by a program. The first that
/// is there is in force. Where a person has set something a program can set nothing, so both are
/// there only after an undo; where the cluster has, nobody can on this node.
#[derive(Clone, Default)]
pub(crate) struct Layers {
    pub(crate) cluster: Option<Arc<Held>>,
    pub(crate) set: Option<Arc<Held>>,
    pub(crate) learnt: Option<Arc<Held>>,
}

impl Layers {
    /// What is in force, if anything was set.
    pub(crate) fn top(&self) -> Option<&Arc<Held>> {
        self.cluster
            .as_ref()
            .or(self.set.as_ref())
            .or(self.learnt.as_ref())
    }
}

/// What the cluster has set of a setting, or taken back: the latest that this node knows of,
/// whether it is allowed here or not.
pub(crate) struct Shared {
    pub(crate) stamp: u64,
    pub(crate) node: u32,
    pub(crate) gone: bool,
    pub(crate) held: Arc<Held>,
    /// Its share of [`State::digest`].
    pub(crate) mark: u64,
}

impl Shared {
    /// As it is told to other nodes.
    pub(crate) fn entry<'a>(&'a self, key: &'a [u8]) -> Entry<'a> {
        let held = &*self.held;
        Entry {
            stamp: self.stamp,
            node: self.node,
            when_ns: held.when_ns,
            uid: held.who.uid,
            pid: held.who.pid,
            comm: held.who.comm,
            gone: self.gone,
            // CAST: a small number.
            source: held.source as u8,
            key,
            why: &held.why,
            text: &held.text,
        }
    }
}

/// A setting.
pub(crate) struct Setting {
    pub(crate) kind: Kind,
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) words: KVec<u8>,
    pub(crate) reader: KVec<u8>,
    pub(crate) initial: Arc<Held>,
    pub(crate) layers: Layers,
    pub(crate) shared: Option<Shared>,
    /// By a module or a command; else it is a text because somebody set it.
    pub(crate) declared: bool,
    /// A loaded module reads it.
    pub(crate) present: bool,
    /// The number of the change that made it as it is.
    pub(crate) version: u64,
}

impl Setting {
    /// What is in force.
    pub(crate) fn effective(&self) -> &Arc<Held> {
        self.layers.top().unwrap_or(&self.initial)
    }

    /// The memory it is taken to need, with a name of so many bytes.
    pub(crate) fn bytes(&self, key: usize) -> u64 {
        let held = |held: &Arc<Held>| held.text.len().saturating_add(held.why.len());
        let layers = [&self.layers.set, &self.layers.learnt];
        // The cluster's value is the very one that is shared, but for its number.
        let shared = self.shared.as_ref().map(|shared| held(&shared.held));
        let set = layers.into_iter().flatten().map(held);
        let all = [
            key,
            self.words.len(),
            self.reader.len(),
            held(&self.initial),
            shared.unwrap_or(0),
        ]
        .into_iter()
        .fold(
            set.fold(0_usize, usize::saturating_add),
            usize::saturating_add,
        );
        // CAST: usize fits u64. The value in force is there once more, for readers.
        OVERHEAD
            .saturating_add(all as u64)
            .saturating_add(self.effective().text.len() as u64)
    }
}

/// A change that can be taken back.
pub(crate) struct Undo {
    pub(crate) index: u32,
    pub(crate) before: Layers,
}

/// What the mutex guards.
pub(crate) struct State {
    pub(crate) all: KVVec<Setting>,
    pub(crate) version: u64,
    pub(crate) bytes: u64,
    pub(crate) refused: u64,
    pub(crate) expired: u64,
    /// The marks of all that is shared, XOR: nodes with the same know the same.
    pub(crate) digest: u64,
    /// How many settings are shared.
    pub(crate) shared: u64,
    /// The newest last.
    pub(crate) undo: KVec<Undo>,
    /// The changes with the numbers up to `version`, without gaps; a ring when it is full.
    log: KVVec<AnalyticsChange>,
}

impl State {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        State {
            all: KVVec::new(),
            version: 0,
            bytes: 0,
            refused: 0,
            expired: 0,
            digest: 0,
            shared: 0,
            undo: KVec::new(),
            log: KVVec::new(),
        }
    }

    /// The setting with this number.
    pub(crate) fn get(&self, index: u32) -> Option<&Setting> {
        // CAST: u32 fits usize on 64-bit.
        self.all.get(index as usize)
    }

    /// Likewise, to be changed.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Setting> {
        // CAST: u32 fits usize on 64-bit.
        self.all.get_mut(index as usize)
    }

    /// Makes room for one more change, so that [`State::record`] can't fail. `ENOMEM`.
    pub(crate) fn prepare(&mut self) -> Result {
        if self.log.len() < LOG_MAX {
            self.log.reserve(1, GFP_KERNEL)?;
        }
        if self.undo.len() < UNDO_MAX {
            self.undo.reserve(1, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Keeps the change numbered `version`. Only after [`State::prepare`].
    pub(crate) fn record(&mut self, change: AnalyticsChange) {
        if self.log.len() < LOG_MAX {
            // There is room.
            let _ = self.log.push(change, GFP_KERNEL);
            return;
        }
        // CAST: what is below LOG_MAX fits. Numbers begin with 1.
        let place = (change.version.wrapping_sub(1) % LOG_MAX as u64) as usize;
        if let Some(old) = self.log.get_mut(place) {
            *old = change;
        }
    }

    /// Keeps what can be taken back. Only after [`State::prepare`].
    pub(crate) fn can_undo(&mut self, undo: Undo) {
        if self.undo.len() >= UNDO_MAX {
            // There is a first.
            let _ = self.undo.remove(0);
        }
        // There is room.
        let _ = self.undo.push(undo, GFP_KERNEL);
    }

    /// The changes with greater numbers, the oldest first, at most `room`; and how many of them are
    /// no longer kept. `ENOMEM`.
    pub(crate) fn changes_after(
        &self,
        after: u64,
        room: usize,
    ) -> Result<(KVVec<AnalyticsChange>, u64)> {
        // CAST: usize fits u64.
        let kept = self.log.len() as u64;
        let first = self.version.saturating_sub(kept);
        let begin = after.max(first);
        let wanted = self.version.saturating_sub(begin);
        // CAST: at most LOG_MAX.
        let count = (wanted as usize).min(room);
        let mut changes = KVVec::with_capacity(count, GFP_KERNEL)?;
        for number in (begin..self.version).take(count) {
            // CAST: below LOG_MAX.
            let place = (number % LOG_MAX as u64) as usize;
            let change = self.log.get(place).ok_or(EINVAL)?;
            changes.push(*change, GFP_KERNEL)?;
        }
        Ok((changes, first.saturating_sub(after.min(first))))
    }
}
