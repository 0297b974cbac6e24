// SPDX-License-Identifier: GPL-2.0-only

//! The settings: how they change.
//!
//! # Locking
//!
//! One mutex over everything but what is read without a lock. Under it a module's function that
//! applies a setting is called (virgo-core's list of settings has its own mutex, taken inside), and
//! those who watch are told.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVar,
        Arc,
        LockClassKey,
        Mutex,
        MutexGuard, //
    }, //
};

use crate::{
    analytics_exports::{
        Fresh,
        Kept,
        Notice,
        Watchers, //
    },
    lib::{
        cluster,
        compat::estale,
        event,
        rcu::Directory,
        service::Module,
        setting::{
            self,
            Told, //
        },
        time::{
            monotonic_ns,
            realtime_ns, //
        },
        workqueue::{
            DeadlineHandler,
            DeadlineWork, //
        },
    },
    logic::siphash::{
        siphash13,
        SipKey, //
    },
    proto::{
        analytics::{
            parse_value,
            valid_key,
            valid_words,
            words,
            BadValue,
            Kind, //
        },
        shared::Entry,
        uapi::{
            self,
            AnalyticsChange, //
        },
    },
    state::{
        copied,
        Held,
        Layers,
        Limits,
        Setting,
        Shared,
        State,
        Undo,
        Who, //
    },
};

/// The marks' key is no secret, but all nodes have the same.
const MARKS: SipKey = SipKey {
    k0: 0x7669_7267_6f2d_616e,
    k1: 0x616c_7974_6963_7331,
};

/// When what could not be taken back is tried again.
const RETRY_NS: u64 = 1_000_000_000;

/// All settings.
#[pin_data]
pub(crate) struct Settings {
    #[pin]
    state: Mutex<State>,
    /// Names and values, for readers without a lock. The numbers are the places in the state.
    directory: Arc<Directory<Kept>>,
    #[pin]
    changed: PollCondVar,
    /// The state's version, for pollers.
    version: Atomic<u64>,
    limits: Limits,
}

/// The settings and the timer that takes back what has run out.
#[pin_data]
pub(crate) struct Engine {
    #[pin]
    ticker: DeadlineWork<Settings>,
}

/// A value that is to be set.
pub(crate) struct Wish<'a> {
    pub(crate) key: &'a [u8],
    /// `None`: take back what was set.
    pub(crate) text: Option<&'a [u8]>,
    pub(crate) source: u32,
    pub(crate) why: &'a [u8],
    pub(crate) ttl_ms: u32,
    /// Make a setting that is not there.
    pub(crate) create: bool,
    /// Only if the setting's version is this.
    pub(crate) version: Option<u64>,
}

/// Why a value was not set.
pub(crate) enum Refusal {
    /// It is not what the setting may be: why, and the setting's number.
    Value(BadValue, u32),
    /// A person's value stands, of the user with this id.
    Stands(u32),
    /// The cluster's value stands.
    Cluster,
    /// So many settings there can be.
    Settings(u32),
    /// So many bytes there can be.
    Bytes(u64),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Other(error)
    }
}

/// Copies what there is room for, with a NUL behind it.
pub(crate) fn put_text(text: &[u8], place: &mut [u8]) {
    let room = place.len().saturating_sub(1);
    let length = text.len().min(room);
    for (to, from) in place.iter_mut().zip(text.iter().take(length)) {
        *to = *from;
    }
}

fn in_force(setting: &Setting, held: &Held, version: u64) -> Result<Fresh> {
    // CAST: at most VALUE_MAX, and a small number; back by the readers.
    let form = (held.text.len() as u64) << 32 | setting.kind as u64;
    // CAST: back by the readers.
    Fresh::new([held.number as u64, version, form], &held.text)
}

/// What a change says of itself.
struct About<'a> {
    who: Who,
    why: &'a [u8],
    flags: u32,
    undoable: bool,
}

impl Settings {
    /// No settings.
    pub(crate) fn new(
        limits: Limits,
        directory: Arc<Directory<Kept>>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            state <- kernel::new_mutex!(State::new(), "virgo_analytics"),
            directory,
            changed <- kernel::new_poll_condvar!("virgo_analytics_changed"),
            version: Atomic::new(0),
            limits,
        })
    }

    /// Takes the mutex. Sleeps.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Names and values.
    pub(crate) fn directory(&self) -> &Directory<Kept> {
        &self.directory
    }

    /// What wakes pollers.
    pub(crate) fn changed(&self) -> &PollCondVar {
        &self.changed
    }

    /// The number of the last change.
    pub(crate) fn version(&self) -> u64 {
        // Relaxed: the number is all there is to know; a poller is woken after it has grown.
        self.version.load(Relaxed)
    }

    /// The bounds.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Makes a setting that is not there; its number.
    fn create(&self, state: &mut State, key: &[u8], setting: Setting) -> Result<u32, Refusal> {
        if state.all.len() >= self.limits.settings as usize {
            return Err(Refusal::Settings(self.limits.settings));
        }
        let bytes = state.bytes.saturating_add(setting.bytes(key.len()));
        if bytes > self.limits.bytes {
            return Err(Refusal::Bytes(self.limits.bytes));
        }
        state.all.reserve(1, GFP_KERNEL).map_err(Error::from)?;
        let first = in_force(&setting, setting.effective(), 0)?;
        let index = self.directory.insert(key, Kept::new(first))?;
        // There is room; the numbers go along with the directory's, as nothing else fills either.
        state.all.push(setting, GFP_KERNEL).map_err(Error::from)?;
        state.bytes = bytes;
        Ok(index)
    }

    /// Puts other layers in force; the number of the change. Nothing has changed where it fails.
    fn commit(
        &self,
        state: &mut State,
        index: u32,
        layers: Layers,
        about: &About<'_>,
    ) -> Result<u64, Refusal> {
        let version = state.version.saturating_add(1);
        let (key, kept) = self.directory.at(index).ok_or(EINVAL)?;
        state.prepare()?;
        let bytes = state.bytes;
        let setting = state.get_mut(index).ok_or(EINVAL)?;
        let before = setting.effective().clone();
        let after = layers.top().unwrap_or(&setting.initial).clone();
        let fresh = in_force(setting, &after, version)?;
        let was = setting.bytes(key.len());
        let old = core::mem::replace(&mut setting.layers, layers);
        let bytes = bytes
            .saturating_sub(was)
            .saturating_add(setting.bytes(key.len()));
        let mut result = Ok(());
        // What makes it smaller is never refused.
        if bytes > self.limits.bytes && setting.bytes(key.len()) > was {
            result = Err(Refusal::Bytes(self.limits.bytes));
        } else if setting.present && after.number != before.number {
            // One whose module went just now is not there.
            result = match setting::apply(key, after.number) {
                Err(error) if error != ENOENT => Err(Refusal::Other(error)),
                _ => Ok(()),
            };
        }
        if let Err(refusal) = result {
            setting.layers = old;
            return Err(refusal);
        }
        setting.version = version;
        state.bytes = bytes;
        state.version = version;
        kept.replace(fresh);
        let mut change = AnalyticsChange {
            version,
            when_ns: realtime_ns(),
            source: after.source,
            flags: about.flags,
            uid: about.who.uid,
            pid: about.who.pid,
            comm: about.who.comm,
            ..AnalyticsChange::default()
        };
        put_text(key, &mut change.key);
        put_text(&before.text, &mut change.before);
        put_text(&after.text, &mut change.after);
        put_text(about.why, &mut change.why);
        // Who first: what does not fit is left out.
        event::tell(
            Module::Analytics,
            b"set",
            format_args!(
                "{} uid {} pid {} {}={}",
                version,
                change.uid,
                change.pid,
                shown(key),
                shown(&after.text)
            ),
        );
        state.record(change);
        if about.undoable {
            state.can_undo(Undo { index, before: old });
        }
        // Relaxed: see `version`.
        self.version.store(version, Relaxed);
        Watchers::tell(&Notice {
            key,
            text: &after.text,
            number: after.number,
            version,
            source: after.source,
        });
        self.changed.notify_all();
        Ok(version)
    }

    /// The number of a value of a setting.
    fn number(setting: &Setting, text: &[u8]) -> Result<i64, BadValue> {
        parse_value(
            setting.kind,
            (setting.low, setting.high),
            &setting.words,
            text,
        )
    }

    /// The number of a setting that is to be set; it is made where that was asked for.
    fn index_of(&self, state: &mut State, wish: &Wish<'_>) -> Result<u32, Refusal> {
        Ok(match (self.directory.find(wish.key), wish.create) {
            (Some((index, _)), _) => index,
            (None, true) => {
                let text = wish.text.unwrap_or(&[]);
                parse_value(Kind::Text, (0, 0), &[], text)
                    .map_err(|bad| Refusal::Value(bad, u32::MAX))?;
                let setting = Setting {
                    kind: Kind::Text,
                    low: 0,
                    high: 0,
                    words: KVec::new(),
                    reader: KVec::new(),
                    initial: Held::initial(&[], 0)?,
                    layers: Layers::default(),
                    shared: None,
                    declared: false,
                    present: false,
                    version: 0,
                };
                self.create(state, wish.key, setting)?
            }
            (None, false) => return Err(ENOENT.into()),
        })
    }

    fn set_in(&self, state: &mut State, wish: &Wish<'_>, who: Who) -> Result<u64, Refusal> {
        let index = self.index_of(state, wish)?;
        let setting = state.get(index).ok_or(EINVAL)?;
        if wish.version.is_some_and(|wanted| wanted != setting.version) {
            return Err(estale().into());
        }
        let person = matches!(
            wish.source,
            uapi::ANALYTICS_BY_PERSON | uapi::ANALYTICS_BY_FILE
        );
        let mut layers = setting.layers.clone();
        let unchanged = Ok(state.version);
        let mut flags = 0;
        match wish.text {
            Some(text) => {
                let number =
                    Self::number(setting, text).map_err(|bad| Refusal::Value(bad, index))?;
                if layers.cluster.is_some() {
                    return Err(Refusal::Cluster);
                }
                if let (false, Some(held)) = (person, &layers.set) {
                    return Err(Refusal::Stands(held.who.uid));
                }
                let until_ns = match wish.ttl_ms {
                    0 => 0,
                    ms => monotonic_ns().saturating_add(u64::from(ms).saturating_mul(1_000_000)),
                };
                let held = Held {
                    text: copied(text)?,
                    number,
                    source: wish.source,
                    who,
                    when_ns: realtime_ns(),
                    why: copied(wish.why)?,
                    until_ns,
                };
                let held = Some(Arc::new(held, GFP_KERNEL).map_err(Error::from)?);
                let same = |old: &Option<Arc<Held>>| {
                    old.as_ref()
                        .is_some_and(|old| *old.text == *text && old.source == wish.source)
                };
                if person {
                    if same(&layers.set) && layers.learnt.is_none() {
                        return unchanged;
                    }
                    layers = Layers {
                        set: held,
                        ..Layers::default()
                    };
                } else {
                    let again = same(&layers.learnt);
                    layers.learnt = held;
                    if again {
                        // The same for longer is no change.
                        if let Some(setting) = state.get_mut(index) {
                            setting.layers = layers;
                        }
                        return unchanged;
                    }
                }
            }
            None => {
                let layer = if person {
                    &mut layers.set
                } else {
                    &mut layers.learnt
                };
                if layer.take().is_none() {
                    return unchanged;
                }
                flags = uapi::ANALYTICS_CHANGE_UNSET;
            }
        }
        let about = About {
            who,
            why: wish.why,
            flags,
            undoable: true,
        };
        self.commit(state, index, layers, &about)
    }

    /// Sets a value, or takes it back; the number of the change, or of the last one where nothing
    /// had to be changed. What is refused is counted.
    fn set(&self, wish: &Wish<'_>, who: Who) -> Result<u64, Refusal> {
        let mut state = self.lock();
        let result = self.set_in(&mut state, wish, who);
        if result.is_err() {
            state.refused = state.refused.saturating_add(1);
        }
        result
    }

    /// Takes the last change back. `ENOENT` if there is none.
    pub(crate) fn undo(&self, who: Who) -> Result<u64, Refusal> {
        let mut state = self.lock();
        let last = state.undo.len().checked_sub(1).ok_or(ENOENT)?;
        let undo = state.undo.get(last).ok_or(ENOENT)?;
        let (index, mut layers) = (undo.index, undo.before.clone());
        let now = monotonic_ns();
        if let Some(learnt) = &layers.learnt {
            if learnt.until_ns != 0 && learnt.until_ns <= now {
                layers.learnt = None;
            }
        }
        // What it may be can have changed since.
        let setting = state.get(index).ok_or(EINVAL)?;
        // The cluster's is not this node's to take back.
        layers.cluster = setting.layers.cluster.clone();
        for layer in [&mut layers.set, &mut layers.learnt] {
            if let Some(held) = layer {
                let number =
                    Self::number(setting, &held.text).map_err(|bad| Refusal::Value(bad, index))?;
                if number != held.number {
                    *layer = Some(held.with_number(number)?);
                }
            }
        }
        let about = About {
            who,
            why: b"undo",
            flags: uapi::ANALYTICS_CHANGE_UNDO,
            undoable: false,
        };
        let version = self.commit(&mut state, index, layers, &about)?;
        // It is still the last: the mutex was held.
        let _ = state.undo.pop();
        Ok(version)
    }

    /// Sets what a setting may be. What was set and is not allowed any more is taken back if
    /// `force`, else `ERANGE`.
    fn redefine(
        &self,
        state: &mut State,
        index: u32,
        form: Form<'_>,
        force: bool,
    ) -> Result<(), Refusal> {
        let initial = Held::initial(form.initial.0, form.initial.1)?;
        let (words, reader) = (copied(form.words)?, copied(form.reader)?);
        let (key, place) = self.directory.at(index).ok_or(EINVAL)?;
        let setting = state.get_mut(index).ok_or(EINVAL)?;
        let mut layers = setting.layers.clone();
        let mut dropped = false;
        for layer in [&mut layers.cluster, &mut layers.set, &mut layers.learnt] {
            if let Some(held) = layer {
                let parsed = parse_value(form.kind, form.range, form.words, &held.text);
                *layer = match parsed {
                    Ok(number) => Some(held.with_number(number)?),
                    Err(bad) if !force => return Err(Refusal::Value(bad, index)),
                    Err(_) => {
                        dropped = true;
                        None
                    }
                };
            }
        }
        let was = setting.bytes(key.len());
        let fresh = Setting {
            kind: form.kind,
            low: form.range.0,
            high: form.range.1,
            words,
            reader,
            initial,
            layers,
            shared: None,
            declared: true,
            present: form.present,
            version: setting.version,
        };
        let value = in_force(&fresh, fresh.effective(), fresh.version)?;
        if dropped {
            pr_warn!(
                "what was set of {} is not allowed by who reads it, and was forgotten\n",
                shown(key)
            );
        }
        let mut fresh = fresh;
        fresh.shared = setting.shared.take();
        let now = fresh.bytes(key.len());
        *setting = fresh;
        state.bytes = state.bytes.saturating_sub(was).saturating_add(now);
        place.replace(value);
        Ok(())
    }

    /// Declares a setting.
    pub(crate) fn define(&self, key: &[u8], form: Form<'_>) -> Result<(), Refusal> {
        let mut state = self.lock();
        if let Some((index, _)) = self.directory.find(key) {
            if state.get(index).is_some_and(|setting| setting.present) {
                return Err(EEXIST.into());
            }
            self.redefine(&mut state, index, form, false)?;
            return self.settle(&mut state, index);
        }
        let setting = Setting {
            kind: form.kind,
            low: form.range.0,
            high: form.range.1,
            words: copied(form.words)?,
            reader: copied(form.reader)?,
            initial: Held::initial(form.initial.0, form.initial.1)?,
            layers: Layers::default(),
            shared: None,
            declared: true,
            present: form.present,
            version: 0,
        };
        self.create(&mut state, key, setting).map(|_| ())
    }

    /// A module has registered a setting: it gets the value that is in force.
    pub(crate) fn came(&self, name: &[u8]) -> Result<(), Refusal> {
        let mut state = self.lock();
        // One that has gone meanwhile is not there.
        let told = Told::find(name)?;
        let mut digits = Digits::default();
        let text = digits.text(&told);
        let form = Form {
            kind: told.kind(),
            range: told.range(),
            words: told.words(),
            reader: told.reader(),
            initial: (text, told.initial()),
            present: true,
        };
        let index = match self.directory.find(name) {
            Some((index, _)) => {
                self.redefine(&mut state, index, form, true)?;
                index
            }
            None => {
                let setting = Setting {
                    kind: form.kind,
                    low: form.range.0,
                    high: form.range.1,
                    words: copied(form.words)?,
                    reader: copied(form.reader)?,
                    initial: Held::initial(text, told.initial())?,
                    layers: Layers::default(),
                    shared: None,
                    declared: true,
                    present: true,
                    version: 0,
                };
                self.create(&mut state, name, setting)?
            }
        };
        let setting = state.get(index).ok_or(EINVAL)?;
        let wanted = setting.effective().number;
        if wanted == told.initial() {
            return self.settle(&mut state, index);
        }
        if let Err(error) = setting::apply(name, wanted) {
            pr_warn!(
                "{} can't be set to {}: error {}; what was set is forgotten\n",
                shown(name),
                wanted,
                error.to_errno()
            );
            let about = About {
                who: Who::kernel(),
                why: b"its reader refused it",
                flags: uapi::ANALYTICS_CHANGE_UNSET,
                undoable: false,
            };
            // The reader has what it had, which is the initial value: nothing is to be applied.
            if let Some(setting) = state.get_mut(index) {
                setting.present = false;
            }
            let forgotten = self.commit(&mut state, index, Layers::default(), &about);
            if let Some(setting) = state.get_mut(index) {
                setting.present = true;
            }
            forgotten?;
            return Ok(());
        }
        self.settle(&mut state, index)
    }

    /// A module's setting has gone.
    pub(crate) fn went(&self, name: &[u8]) {
        let mut state = self.lock();
        // Or has come back already.
        if Told::find(name).is_ok() {
            return;
        }
        if let Some((index, _)) = self.directory.find(name) {
            if let Some(setting) = state.get_mut(index) {
                setting.present = false;
            }
        }
    }

    /// Takes back what has run out; when to look again.
    fn expire(&self) -> Option<u64> {
        let mut state = self.lock();
        let now = monotonic_ns();
        let mut next: Option<u64> = None;
        let count = u32::try_from(state.all.len()).unwrap_or(u32::MAX);
        for index in 0..count {
            let Some(setting) = state.get(index) else {
                break;
            };
            let Some(until) = setting.layers.learnt.as_ref().map(|held| held.until_ns) else {
                continue;
            };
            if until == 0 {
                continue;
            }
            let mut again = until;
            if until <= now {
                let layers = Layers {
                    learnt: None,
                    ..setting.layers.clone()
                };
                let about = About {
                    who: Who::kernel(),
                    why: b"its time was over",
                    flags: uapi::ANALYTICS_CHANGE_EXPIRED,
                    undoable: false,
                };
                if self.commit(&mut state, index, layers, &about).is_ok() {
                    state.expired = state.expired.saturating_add(1);
                    continue;
                }
                again = now.saturating_add(RETRY_NS);
            }
            next = Some(next.map_or(again, |next| next.min(again)));
        }
        next
    }
}

/// What a cluster's change is: one of this node's, or of another's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Here,
    Elsewhere,
}

/// What the cluster has set.
impl Settings {
    /// Sets a value for the whole cluster, or takes it back: here, and as an entry for the others
    /// into `place`. The number of the change, and the entry's length.
    pub(crate) fn share(
        &self,
        wish: &Wish<'_>,
        who: Who,
        place: &mut [u8],
    ) -> Result<(u64, usize), Refusal> {
        let node = cluster::me().number();
        let mut state = self.lock();
        let result = self.share_in(&mut state, wish, (who, node), place);
        if result.is_err() {
            state.refused = state.refused.saturating_add(1);
        }
        result
    }

    fn share_in(
        &self,
        state: &mut State,
        wish: &Wish<'_>,
        (who, node): (Who, u32),
        place: &mut [u8],
    ) -> Result<(u64, usize), Refusal> {
        let index = self.index_of(state, wish)?;
        let setting = state.get(index).ok_or(EINVAL)?;
        if wish.version.is_some_and(|wanted| wanted != setting.version) {
            return Err(estale().into());
        }
        let text = wish.text.unwrap_or(&[]);
        if wish.text.is_some() {
            Self::number(setting, text).map_err(|bad| Refusal::Value(bad, index))?;
        }
        // Greater than that of what is there, which was shown to the clock.
        let entry = Entry {
            stamp: event::stamp(),
            node,
            when_ns: realtime_ns(),
            uid: who.uid,
            pid: who.pid,
            comm: who.comm,
            gone: wish.text.is_none(),
            // CAST: a small number.
            source: wish.source as u8,
            key: wish.key,
            why: wish.why,
            text,
        };
        let length = entry.encode(place).ok_or(EINVAL)?;
        let bytes = place.get(..length).ok_or(EINVAL)?;
        let version = self.put(state, index, &entry, bytes, Origin::Here)?;
        Ok((version, length))
    }

    /// Takes an entry of another node's, as bytes too; whether it was news.
    ///
    /// An error: there is no room for it, or its clock is more than a day ahead (`ERANGE`).
    pub(crate) fn merge(&self, entry: &Entry<'_>, bytes: &[u8]) -> Result<bool, Refusal> {
        let source = u32::from(entry.source);
        if !matches!(source, uapi::ANALYTICS_BY_PERSON | uapi::ANALYTICS_BY_FILE) {
            return Err(EINVAL.into());
        }
        if event::seen(entry.stamp) == 0 {
            return Err(ERANGE.into());
        }
        let mut state = self.lock();
        let wish = Wish {
            key: entry.key,
            text: None,
            source,
            why: entry.why,
            ttl_ms: 0,
            create: true,
            version: None,
        };
        let index = self.index_of(&mut state, &wish)?;
        let setting = state.get(index).ok_or(EINVAL)?;
        let known = setting
            .shared
            .as_ref()
            .map(|shared| shared.entry(entry.key));
        if known.is_some_and(|known| known.rank() >= entry.rank()) {
            return Ok(false);
        }
        self.put(&mut state, index, entry, bytes, Origin::Elsewhere)?;
        Ok(true)
    }

    /// Keeps an entry, and puts its value in force. What is not allowed here is kept all the same,
    /// for other nodes and other times, if it comes from elsewhere.
    fn put(
        &self,
        state: &mut State,
        index: u32,
        entry: &Entry<'_>,
        bytes: &[u8],
        origin: Origin,
    ) -> Result<u64, Refusal> {
        let who = Who::remote(entry);
        let held = Held {
            text: copied(entry.text)?,
            number: 0,
            source: entry.source.into(),
            who,
            when_ns: entry.when_ns,
            why: copied(entry.why)?,
            until_ns: 0,
        };
        let fresh = Shared {
            stamp: entry.stamp,
            node: entry.node,
            gone: entry.gone,
            held: Arc::new(held, GFP_KERNEL).map_err(Error::from)?,
            mark: siphash13(&MARKS, bytes),
        };
        let (used, digest) = (state.bytes, state.digest);
        let setting = state.get_mut(index).ok_or(EINVAL)?;
        let was = setting.bytes(entry.key.len());
        let mark = fresh.mark;
        let old = setting.shared.replace(fresh);
        let now = setting.bytes(entry.key.len());
        let old_mark = old.as_ref().map(|old| old.mark);
        let used = used.saturating_sub(was).saturating_add(now);
        let full = used > self.limits.bytes && now > was;
        let result = if full {
            Err(Refusal::Bytes(self.limits.bytes))
        } else {
            state.bytes = used;
            self.enforce(state, index, (who, entry.why), origin)
        };
        let kept = match &result {
            Ok(_) => true,
            Err(Refusal::Bytes(_)) => false,
            Err(Refusal::Other(error)) if *error == ENOMEM => false,
            Err(_) => origin == Origin::Elsewhere,
        };
        let Some(setting) = state.get_mut(index) else {
            return Err(EINVAL.into());
        };
        if !kept {
            let now = setting.bytes(entry.key.len());
            setting.shared = old;
            let back = setting.bytes(entry.key.len());
            if !full {
                state.bytes = state.bytes.saturating_sub(now).saturating_add(back);
            }
            return result;
        }
        state.digest = digest ^ old_mark.unwrap_or(0) ^ mark;
        if old_mark.is_none() {
            state.shared = state.shared.saturating_add(1);
        }
        match result {
            Err(refusal) => {
                if let Refusal::Other(error) = refusal {
                    pr_warn!(
                        "{} can't be set to what the cluster has: error {}\n",
                        shown(entry.key),
                        error.to_errno()
                    );
                } else {
                    pr_warn!(
                        "what the cluster has set of {} is not allowed here\n",
                        shown(entry.key)
                    );
                }
                Ok(state.version)
            }
            done => done,
        }
    }

    /// Puts in force what is shared of a setting. Where that can't be and it comes from elsewhere,
    /// what was in force of the cluster's is so no longer.
    fn enforce(
        &self,
        state: &mut State,
        index: u32,
        (who, why): (Who, &[u8]),
        origin: Origin,
    ) -> Result<u64, Refusal> {
        let setting = state.get(index).ok_or(EINVAL)?;
        let shared = setting.shared.as_ref().ok_or(EINVAL)?;
        let mut layers = setting.layers.clone();
        let mut flags = uapi::ANALYTICS_CHANGE_CLUSTER;
        let mut refused = None;
        layers.cluster = if shared.gone {
            flags |= uapi::ANALYTICS_CHANGE_UNSET;
            None
        } else {
            match Self::number(setting, &shared.held.text) {
                Ok(number) => Some(shared.held.with_number(number)?),
                Err(bad) => {
                    refused = Some(Refusal::Value(bad, index));
                    None
                }
            }
        };
        let nothing = layers.cluster.is_none() && setting.layers.cluster.is_none();
        if nothing {
            return refused.map_or(Ok(state.version), Err);
        }
        let about = About {
            who,
            why,
            flags,
            undoable: false,
        };
        let rest = Layers {
            cluster: None,
            ..layers.clone()
        };
        let was = setting.layers.cluster.is_some();
        match self.commit(state, index, layers, &about) {
            Ok(version) => refused.map_or(Ok(version), Err),
            Err(Refusal::Bytes(limit)) => Err(Refusal::Bytes(limit)),
            Err(refusal) => {
                if was && origin == Origin::Elsewhere {
                    // The older one of the cluster's is nobody's wish any more.
                    let _ = self.commit(state, index, rest, &about);
                }
                Err(refusal)
            }
        }
    }

    /// What is shared may be allowed now that it was told what a setting may be.
    fn settle(&self, state: &mut State, index: u32) -> Result<(), Refusal> {
        let setting = state.get(index).ok_or(EINVAL)?;
        let Some(shared) = &setting.shared else {
            return Ok(());
        };
        if shared.gone || setting.layers.cluster.is_some() {
            return Ok(());
        }
        let held = shared.held.clone();
        if Self::number(setting, &held.text).is_ok() {
            // Else it stays as it is, and "ls" says so.
            let about = (held.who, &*held.why);
            let _ = self.enforce(state, index, about, Origin::Elsewhere);
        }
        Ok(())
    }

    /// What nodes that know the same agree in.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let state = self.lock();
        (state.shared, state.digest)
    }

    /// Gives the entries from the setting numbered `first` on to `take`, as bytes, until that has no
    /// room; the number of the first setting that was not looked at, `None` if that was all.
    pub(crate) fn each_shared(
        &self,
        first: u32,
        place: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<Option<u32>> {
        let state = self.lock();
        let count = u32::try_from(state.all.len()).unwrap_or(u32::MAX);
        for index in first..count {
            let Some((key, _)) = self.directory.at(index) else {
                continue;
            };
            let Some(shared) = state.get(index).and_then(|it| it.shared.as_ref()) else {
                continue;
            };
            let length = shared.entry(key).encode(place).ok_or(EINVAL)?;
            if !take(place.get(..length).ok_or(EINVAL)?)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

impl DeadlineHandler for Settings {
    fn run(&self, work: &DeadlineWork<Self>) {
        if let Some(due) = self.expire() {
            work.arm(due);
        }
    }
}

/// A name, for the kernel's log: names are ASCII.
fn shown(name: &[u8]) -> &str {
    core::str::from_utf8(name).unwrap_or("?")
}

/// What a setting may be, and what it is where nobody has set it.
pub(crate) struct Form<'a> {
    pub(crate) kind: Kind,
    pub(crate) range: (i64, i64),
    pub(crate) words: &'a [u8],
    pub(crate) reader: &'a [u8],
    pub(crate) initial: (&'a [u8], i64),
    pub(crate) present: bool,
}

impl Form<'_> {
    /// Whether it does not contradict itself.
    pub(crate) fn is_sound(key: &[u8], kind: Kind, range: (i64, i64), list: &[u8]) -> bool {
        valid_key(key)
            && match kind {
                Kind::Int => range.0 <= range.1 && list.is_empty(),
                Kind::Text | Kind::Bool => range == (0, 0) && list.is_empty(),
                Kind::Choice => range == (0, 0) && valid_words(list),
            }
    }
}

/// Room for a number's digits.
#[derive(Default)]
struct Digits([u8; 24]);

impl Digits {
    /// The text of a registered setting's first value.
    fn text<'a>(&'a mut self, told: &'a Told) -> &'a [u8] {
        match told.kind() {
            Kind::Choice => usize::try_from(told.initial())
                .ok()
                .and_then(|place| words(told.words()).nth(place))
                .unwrap_or(&[]),
            Kind::Bool if told.initial() != 0 => b"true",
            Kind::Bool => b"false",
            Kind::Int | Kind::Text => self.number(told.initial()),
        }
    }

    fn number(&mut self, number: i64) -> &[u8] {
        let mut rest = number.unsigned_abs();
        let mut start = self.0.len();
        for place in self.0.iter_mut().rev() {
            // CAST: below 10.
            *place = b'0' + (rest % 10) as u8; // OVERFLOW: at most '9'.
            start = start.saturating_sub(1);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            start = start.saturating_sub(1);
            if let Some(place) = self.0.get_mut(start) {
                *place = b'-';
            }
        }
        self.0.get(start..).unwrap_or(&[])
    }
}

impl Engine {
    /// With the timer not set.
    pub(crate) fn new(
        key: Pin<&'static LockClassKey>,
        settings: Arc<Settings>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            ticker <- DeadlineWork::new(c"virgo_analytics", key, settings),
        })
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &Settings {
        self.ticker.handler()
    }

    /// Sets a value, or takes it back; see [`Settings::set`]. What runs out is seen to.
    pub(crate) fn set(&self, wish: &Wish<'_>, who: Who) -> Result<u64, Refusal> {
        let version = self.settings().set(wish, who)?;
        if wish.ttl_ms != 0 {
            // Looks when the next one is due, and sets the timer for that.
            self.ticker.run_soon();
        }
        Ok(version)
    }

    /// Takes in what modules have registered before. `ENOMEM`.
    pub(crate) fn adopt_all(&self) -> Result {
        for place in 0.. {
            let told = match Told::at(place) {
                Ok(told) => told,
                Err(error) if error == ENOENT => break,
                Err(error) => return Err(error),
            };
            match self.settings().came(told.name()) {
                // One may have gone meanwhile.
                Ok(()) => {}
                Err(Refusal::Other(error)) if error == ENOENT => {}
                Err(Refusal::Other(error)) => return Err(error),
                Err(_) => return Err(ENOSPC),
            }
        }
        Ok(())
    }
}
