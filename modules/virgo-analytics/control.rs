// SPDX-License-Identifier: GPL-2.0-only

//! What is asked of the settings, whichever door the request comes through: their own device, or
//! /dev/virgo; and what virgo-core tells.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    analytics_exports::Watchers,
    lib::{
        cluster::NodeId,
        compat::{
            eopnotsupp,
            eremote, //
        },
        service::{
            Module,
            RemoteReply,
            Service, //
        },
        setting::{
            OP_CAME,
            OP_NODE,
            OP_WENT, //
        },
        task::may_set_up,
        time::monotonic_ns,
        uapi::{
            copied,
            copy_out,
            write_entry,
            Arg,
            Command, //
        },
    },
    proto::{
        analytics::{
            parse_value,
            valid_key,
            BadValue,
            Kind, //
        },
        uapi::{
            self,
            AnalyticsDefine,
            AnalyticsGet,
            AnalyticsInfo,
            AnalyticsLog,
            AnalyticsSet,
            AnalyticsUndo, //
        },
    },
    remote::Nodes,
    settings::{
        put_text,
        Engine,
        Form,
        Refusal,
        Settings,
        Wish, //
    },
    state::Who,
};

/// What all doors share.
pub(crate) struct Control {
    engine: Arc<Engine>,
    nodes: Arc<Nodes>,
}

/// The text in a field, up to its NUL; `EINVAL` without one.
fn text_of(field: &[u8]) -> Result<&[u8]> {
    let end = field.iter().position(|byte| *byte == 0).ok_or(EINVAL)?;
    field.get(..end).ok_or(EINVAL)
}

/// The same, for people: no control characters.
fn shown_of(field: &[u8]) -> Result<&[u8]> {
    let text = text_of(field)?;
    if text.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err(EINVAL);
    }
    Ok(text)
}

/// The text that user space gave. `E2BIG`.
fn value_of(address: u64, length: u32) -> Result<KVVec<u8>> {
    if length > uapi::ANALYTICS_VALUE_MAX {
        return Err(E2BIG);
    }
    // CAST: u32 fits usize on 64-bit.
    copied(address, length as usize, GFP_KERNEL)
}

impl Control {
    /// The doors of the settings.
    pub(crate) fn new(engine: Arc<Engine>, nodes: Arc<Nodes>) -> Self {
        Control { engine, nodes }
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &Settings {
        self.engine.settings()
    }

    fn get(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<AnalyticsGet>()?;
        let value = &mut request.value;
        if value.flags & !uapi::ANALYTICS_GET_INDEX != 0 || value.reserved != 0 {
            return Err(EINVAL);
        }
        let settings = self.settings();
        let directory = settings.directory();
        let index = if value.flags & uapi::ANALYTICS_GET_INDEX != 0 {
            value.index
        } else {
            directory.find(text_of(&value.key)?).ok_or(ENOENT)?.0
        };
        let (key, _) = directory.at(index).ok_or(ENOENT)?;
        let mut told = AnalyticsGet {
            size: value.size,
            flags: value.flags,
            text: value.text,
            capacity: value.capacity,
            index,
            ..AnalyticsGet::default()
        };
        put_text(key, &mut told.key);
        // CAST: u32 fits usize on 64-bit.
        let room = (value.capacity as usize).min(uapi::ANALYTICS_VALUE_MAX as usize);
        let mut text: KVVec<u8> = KVVec::with_capacity(room, GFP_KERNEL)?;
        {
            let state = settings.lock();
            // One that is being made is not there yet.
            let setting = state.get(index).ok_or(ENOENT)?;
            let held = setting.effective();
            // At most VALUE_MAX.
            told.length = u32::try_from(held.text.len()).unwrap_or(u32::MAX);
            // CAST: `repr(u32)`.
            told.kind = setting.kind as u32;
            told.number = held.number;
            (told.low, told.high) = (setting.low, setting.high);
            told.version = setting.version;
            told.changed_ns = held.when_ns;
            if held.until_ns != 0 {
                let left = held.until_ns.saturating_sub(monotonic_ns());
                told.left_ms = left.div_ceil(1_000_000).max(1);
            }
            told.source = held.source;
            told.uid = held.who.uid;
            told.pid = held.who.pid;
            told.comm = held.who.comm;
            let cluster = setting.layers.cluster.is_some();
            let mut refused = false;
            if let Some(shared) = &setting.shared {
                (told.cluster_stamp, told.cluster_node) = (shared.stamp, shared.node);
                refused = !cluster && !shared.gone;
            }
            for (bit, there) in [
                (uapi::ANALYTICS_READ, setting.present),
                (uapi::ANALYTICS_DECLARED, setting.declared),
                (uapi::ANALYTICS_CLUSTER, cluster),
                (uapi::ANALYTICS_CLUSTER_REFUSED, refused),
            ] {
                if there {
                    told.state |= bit;
                }
            }
            put_text(&setting.reader, &mut told.reader);
            put_text(&setting.words, &mut told.words);
            put_text(&setting.initial.text, &mut told.initial);
            put_text(&held.why, &mut told.why);
            let shown = held.text.get(..held.text.len().min(room)).unwrap_or(&[]);
            text.extend_from_slice(shown, GFP_KERNEL)?;
        }
        copy_out(told.text, &text)?;
        request.value = told;
        request.write_back()?;
        Ok(0)
    }

    fn set(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<AnalyticsSet>()?;
        let value = &mut request.value;
        let known = uapi::ANALYTICS_SET_CREATE
            | uapi::ANALYTICS_SET_UNSET
            | uapi::ANALYTICS_SET_IF
            | uapi::ANALYTICS_SET_CLUSTER;
        let cluster = value.flags & uapi::ANALYTICS_SET_CLUSTER != 0;
        let person = value.source <= uapi::ANALYTICS_BY_FILE;
        let unset = value.flags & uapi::ANALYTICS_SET_UNSET != 0;
        let learner = value.source == uapi::ANALYTICS_BY_LEARNER;
        if value.flags & !known != 0
            || value.reserved != 0
            || (cluster && !person)
            || !(uapi::ANALYTICS_BY_PERSON..=uapi::ANALYTICS_BY_LEARNER).contains(&value.source)
            || (value.ttl_ms != 0 && (!learner || unset))
            || (unset && (value.length != 0 || value.flags & uapi::ANALYTICS_SET_CREATE != 0))
        {
            return Err(EINVAL);
        }
        if !may_set_up() {
            return Err(EPERM);
        }
        let (key, why) = (value.key, value.why);
        let (key, why) = (text_of(&key)?, shown_of(&why)?);
        if !valid_key(key) {
            return Err(EINVAL);
        }
        let text = value_of(value.text, value.length)?;
        let wish = Wish {
            key,
            text: (!unset).then_some(&*text),
            source: value.source,
            why,
            ttl_ms: value.ttl_ms,
            create: value.flags & uapi::ANALYTICS_SET_CREATE != 0,
            version: (value.flags & uapi::ANALYTICS_SET_IF != 0).then_some(value.version),
        };
        let who = Who::caller();
        let set = if cluster {
            self.nodes.set(&wish, who)
        } else {
            self.engine.set(&wish, who).map(|version| (version, 0, 0))
        };
        let error = match set {
            Ok(done) => {
                (value.version, value.reached, value.nodes) = done;
                request.write_back()?;
                return Ok(0);
            }
            Err(refusal) => self.explain(refusal, value),
        };
        request.write_back()?;
        Err(error)
    }

    /// The errno of a refusal, whose bound goes into the request.
    fn explain(&self, refusal: Refusal, value: &mut AnalyticsSet) -> Error {
        match refusal {
            Refusal::Value(bad, index) => {
                if let Some(setting) = self.settings().lock().get(index) {
                    // CAST: `repr(u32)`.
                    value.kind = setting.kind as u32;
                    (value.low, value.high) = (setting.low, setting.high);
                    put_text(&setting.words, &mut value.words);
                }
                errno_of(bad)
            }
            Refusal::Stands(uid) => {
                value.limit = uid.into();
                EBUSY
            }
            Refusal::Cluster => eremote(),
            Refusal::Settings(limit) => {
                value.limit = limit.into();
                ENOSPC
            }
            Refusal::Bytes(limit) => {
                value.limit = limit;
                ENOSPC
            }
            Refusal::Other(error) => error,
        }
    }

    fn define(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<AnalyticsDefine>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        if !may_set_up() {
            return Err(EPERM);
        }
        let copy = *value;
        let (key, reader) = (text_of(&copy.key)?, shown_of(&copy.reader)?);
        let words = text_of(&copy.words)?;
        let kind = Kind::from_number(value.kind).ok_or(EINVAL)?;
        let range = (value.low, value.high);
        if !Form::is_sound(key, kind, range, words) {
            return Err(EINVAL);
        }
        let text = value_of(value.text, value.length)?;
        let number = parse_value(kind, range, words, &text).map_err(errno_of)?;
        let form = Form {
            kind,
            range,
            words,
            reader,
            initial: (&text, number),
            present: false,
        };
        let error = match self.settings().define(key, form) {
            Ok(()) => {
                request.write_back()?;
                return Ok(0);
            }
            Err(Refusal::Value(..)) => ERANGE,
            Err(Refusal::Settings(limit)) => {
                value.limit = limit.into();
                ENOSPC
            }
            Err(Refusal::Bytes(limit)) => {
                value.limit = limit;
                ENOSPC
            }
            Err(Refusal::Stands(_) | Refusal::Cluster) => EBUSY,
            Err(Refusal::Other(error)) => error,
        };
        request.write_back()?;
        Err(error)
    }

    fn log(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<AnalyticsLog>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 2] {
            return Err(EINVAL);
        }
        // CAST: u32 fits usize on 64-bit.
        let room = value.capacity as usize;
        let (changes, lost) = self.settings().lock().changes_after(value.after, room)?;
        for (place, change) in changes.iter().enumerate() {
            write_entry(value.entries, place, change)?;
        }
        value.count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        value.lost = lost;
        request.write_back()?;
        Ok(0)
    }

    fn undo(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<AnalyticsUndo>()?;
        let value = &mut request.value;
        if value.flags != 0
            || value.reserved != [0; 2]
            || !(1..=uapi::ANALYTICS_UNDO_MAX).contains(&value.count)
        {
            return Err(EINVAL);
        }
        if !may_set_up() {
            return Err(EPERM);
        }
        let who = Who::caller();
        value.done = 0;
        let mut result = Ok(0);
        while value.done < value.count {
            match self.settings().undo(who) {
                Ok(version) => {
                    value.done = value.done.saturating_add(1);
                    value.version = version;
                }
                Err(refusal) => {
                    let mut unused = AnalyticsSet::default();
                    result = Err(self.explain(refusal, &mut unused));
                    break;
                }
            }
        }
        request.write_back()?;
        result
    }

    fn info(&self, arg: Arg) -> Result<isize> {
        let mut request = arg.read::<AnalyticsInfo>()?;
        let value = &mut request.value;
        if value.flags != 0 || value.reserved != [0; 7] {
            return Err(EINVAL);
        }
        let limits = self.settings().limits();
        let state = self.settings().lock();
        value.version = state.version;
        // CAST: usize fits u64.
        value.settings = state.all.len() as u64;
        value.max_settings = limits.settings.into();
        value.bytes = state.bytes;
        value.max_bytes = limits.bytes;
        value.refused = state.refused;
        value.expired = state.expired;
        // At most ten.
        value.undoable = u32::try_from(state.undo.len()).unwrap_or(u32::MAX);
        drop(state);
        value.watchers = Watchers::count();
        request.write_back()?;
        Ok(0)
    }

    /// A command.
    pub(crate) fn command(&self, command: u32, argument: usize) -> Result<isize> {
        let arg = Arg::new(argument);
        let command = Command::new(command).ok_or(ENOTTY)?;
        let is = |number: u32| Command::new(number) == Some(command);
        if is(uapi::ANALYTICS_IOC_GET) {
            self.get(arg)
        } else if is(uapi::ANALYTICS_IOC_SET) {
            self.set(arg)
        } else if is(uapi::ANALYTICS_IOC_DEFINE) {
            self.define(arg)
        } else if is(uapi::ANALYTICS_IOC_LOG) {
            self.log(arg)
        } else if is(uapi::ANALYTICS_IOC_UNDO) {
            self.undo(arg)
        } else if is(uapi::ANALYTICS_IOC_INFO) {
            self.info(arg)
        } else if is(uapi::ANALYTICS_IOC_SEEN) {
            // It says what the reader of one file of the settings' knows.
            Err(EINVAL)
        } else {
            Err(ENOTTY)
        }
    }
}

fn errno_of(bad: BadValue) -> Error {
    match bad {
        BadValue::Form => EINVAL,
        BadValue::Range => ERANGE,
        BadValue::Long => E2BIG,
    }
}

impl Service for Control {
    const MODULE: Module = Module::Analytics;

    fn ioctl(&self, command: u32, argument: usize) -> Result<isize> {
        self.command(command, argument)
    }

    fn call(&self, operation: u32, input: &[u8], _output: &mut [u8]) -> Result<usize> {
        match operation {
            OP_CAME => match self.settings().came(input) {
                Ok(()) => Ok(0),
                Err(Refusal::Other(error)) => Err(error),
                Err(Refusal::Settings(limit)) => {
                    pr_warn!(
                        "no room for a module's setting: there are {} already\n",
                        limit
                    );
                    Err(ENOSPC)
                }
                Err(_) => Err(ENOSPC),
            },
            OP_WENT => {
                self.settings().went(input);
                Ok(0)
            }
            OP_NODE => {
                self.nodes.look();
                Ok(0)
            }
            _ => Err(eopnotsupp()),
        }
    }

    fn remote(
        &self,
        _from: NodeId,
        operation: u32,
        input: &[u8],
        output: &mut RemoteReply,
    ) -> Result {
        self.nodes.serve(operation, input, output)
    }
}
