// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `/dev/virgo-analytics`: settings for the whole kernel.

use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use virgo_proto::analytics::{valid_key, words, Kind};
use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::sys;
use crate::Result;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// Nobody has set it.
    Default,
    /// A person.
    Person,
    /// A file of settings, which a person loaded.
    File,
    /// A stream of settings.
    Stream,
    /// A program that learns.
    Learner,
}

impl Source {
    fn from_number(number: u32) -> Source {
        match number {
            uapi::ANALYTICS_BY_PERSON => Source::Person,
            uapi::ANALYTICS_BY_FILE => Source::File,
            uapi::ANALYTICS_BY_STREAM => Source::Stream,
            uapi::ANALYTICS_BY_LEARNER => Source::Learner,
            _ => Source::Default,
        }
    }

    fn number(self) -> u32 {
        match self {
            Source::Default => uapi::ANALYTICS_BY_DEFAULT,
            Source::Person => uapi::ANALYTICS_BY_PERSON,
            Source::File => uapi::ANALYTICS_BY_FILE,
            Source::Stream => uapi::ANALYTICS_BY_STREAM,
            Source::Learner => uapi::ANALYTICS_BY_LEARNER,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::Person => "person",
            Source::File => "file",
            Source::Stream => "stream",
            Source::Learner => "learner",
        }
    }

    /// Whether a stream or a learner can't change what it set.
    pub fn is_person(self) -> bool {
        matches!(self, Source::Person | Source::File)
    }
}

/// Who did something: a process; `None` where it was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The user.
    pub uid: u32,
    /// The process.
    pub pid: u32,
    /// The process's name.
    pub comm: String,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The value as a number: of a truth 0 or 1, of a choice the word's place, of a text 0.
    pub number: i64,
    /// What it may be.
    pub kind: Kind,
    /// A number's least and greatest value.
    pub range: (i64, i64),
    /// A choice's words.
    pub words: Vec<String>,
    /// The value it has where nobody has set it; cut after 63 bytes.
    pub initial: String,
    /// Who reads it.
    pub reader: String,
    /// Whether a module that is loaded reads it.
    pub read: bool,
    /// Whether it was declared, or is there because somebody set it.
    pub declared: bool,
    /// Where the value comes from.
    pub source: Source,
    /// Who set it.
    pub who: Option<Who>,
    /// When.
    pub when: Option<SystemTime>,
    /// Why.
    pub why: String,
    /// How long a learnt value stands; `None`: for good.
    pub left: Option<Duration>,
    /// The number of the change that made it so; 0: none has.
    pub version: u64,
    /// What the cluster has set.
    pub cluster: Option<Cluster>,
}

/// What the cluster has set of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Cluster {
    /// The version: the stamp of the setting node's hybrid clock. The same on all nodes that know the
    /// same.
    pub stamp: u64,
    /// The node that set it, as `virgo nodes` numbers it.
    pub node: u32,
    /// What is made of it here.
    pub state: Here,
}

/// What a node makes of what the cluster has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Here {
    /// It is in force.
    InForce,
    /// It was taken back.
    TakenBack,
    /// It is not allowed here, by the setting's range or by the module that reads it.
    Refused,
}

impl Here {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Here::InForce => "in force",
            Here::TakenBack => "taken back",
            Here::Refused => "refused",
        }
    }
}

/// What became of a value that was set for the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The number of the change on this node.
    pub version: u64,
    /// How many nodes have it, this one among them. The others get it when they answer again.
    pub reached: u32,
    /// How many nodes there are.
    pub nodes: u32,
}

impl Setting {
    /// What it may be, in words: `1..1000`, `on|off`.
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Int => format!("{}..{}", self.range.0, self.range.1),
            Kind::Bool => "true|false".into(),
            Kind::Choice => self.words.join("|"),
            Kind::Text => String::new(),
        }
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its number.
    pub version: u64,
    /// When.
    pub when: Option<SystemTime>,
    /// Where the value in force comes from.
    pub source: Source,
    /// Who made it.
    pub who: Option<Who>,
    /// The setting.
    pub key: String,
    /// Its value before; cut after 63 bytes.
    pub before: String,
    /// Its value after; cut after 63 bytes.
    pub after: String,
    /// Why.
    pub why: String,
    /// What was set was taken back.
    pub unset: bool,
    /// It took a change back.
    pub undo: bool,
    /// A learnt value's time was over.
    pub expired: bool,
    /// It was made for the whole cluster.
    pub cluster: bool,
}

/// How a value is set.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// By whom.
    pub source: Source,
    /// Why, for those who look at it later; cut after 127 bytes.
    pub why: &'a str,
    /// From a learner: how long it stands.
    pub ttl: Option<Duration>,
    /// Make a setting that is not there.
    pub create: bool,
    /// Only if the setting's version is this.
    pub version: Option<u64>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            source: Source::Person,
            why: "",
            ttl: None,
            create: false,
            version: None,
        }
    }
}

/// What is declared of a setting.
#[derive(Clone, Debug)]
pub struct Declaration<'a> {
    /// Its name.
    pub key: &'a str,
    /// What it may be.
    pub kind: Kind,
    /// A number's least and greatest value.
    pub range: (i64, i64),
    /// A choice's words.
    pub words: &'a [String],
    /// The value it has where nobody has set it.
    pub initial: &'a str,
    /// Who reads it.
    pub reader: &'a str,
}

/// The settings in numbers; the header says what each is.
pub type Numbers = uapi::AnalyticsInfo;

/// `/dev/virgo-analytics`, opened.
///
/// ```no_run
/// use virgo::analytics::{Analytics, Options};
///
/// # fn main() -> Result<(), virgo::Error> {
/// let settings = Analytics::open()?;
/// settings.set("profiler.rate", "50", &Options::default())?;
/// println!("{} Hz", settings.get("profiler.rate")?.number);
/// settings.undo(1)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Analytics {
    fd: OwnedFd,
}

fn action(what: impl Into<String>) -> Action {
    Action::Analytics(what.into())
}

/// The text of a field, up to its NUL.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&field[..end.unwrap_or(field.len())]).into_owned()
}

/// Copies as much as there is room for, whole characters, with a NUL behind it.
fn put(text: &str, field: &mut [u8]) {
    let mut end = text.len().min(field.len() - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
}

fn key_field(key: &str, what: &Action) -> Result<[u8; uapi::ANALYTICS_KEY_LEN]> {
    if !valid_key(key.as_bytes()) {
        return Err(Error::new(what.clone(), Errno::ILSEQ));
    }
    let mut field = [0; uapi::ANALYTICS_KEY_LEN];
    put(key, &mut field);
    Ok(field)
}

fn who(uid: u32, pid: u32, comm: &[u8]) -> Option<Who> {
    (uid != u32::MAX).then(|| Who {
        uid,
        pid,
        comm: text(comm),
    })
}

fn moment(ns: u64) -> Option<SystemTime> {
    (ns != 0).then(|| UNIX_EPOCH + Duration::from_nanos(ns))
}

fn setting_of(get: &uapi::AnalyticsGet, value: Vec<u8>) -> Setting {
    let kind = Kind::from_number(get.kind).unwrap_or(Kind::Text);
    let list = text(&get.words);
    Setting {
        key: text(&get.key),
        value: String::from_utf8_lossy(&value).into_owned(),
        number: get.number,
        kind,
        range: (get.low, get.high),
        words: if kind == Kind::Choice {
            words(list.as_bytes())
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect()
        } else {
            Vec::new()
        },
        initial: text(&get.initial),
        reader: text(&get.reader),
        read: get.state & uapi::ANALYTICS_READ != 0,
        declared: get.state & uapi::ANALYTICS_DECLARED != 0,
        source: Source::from_number(get.source),
        who: who(get.uid, get.pid, &get.comm),
        when: moment(get.changed_ns),
        why: text(&get.why),
        left: (get.left_ms != 0).then(|| Duration::from_millis(get.left_ms)),
        version: get.version,
        cluster: (get.cluster_stamp != 0).then_some(Cluster {
            stamp: get.cluster_stamp,
            node: get.cluster_node,
            state: if get.state & uapi::ANALYTICS_CLUSTER != 0 {
                Here::InForce
            } else if get.state & uapi::ANALYTICS_CLUSTER_REFUSED != 0 {
                Here::Refused
            } else {
                Here::TakenBack
            },
        }),
    }
}

fn change_of(change: &uapi::AnalyticsChange) -> Change {
    let has = |bit| change.flags & bit != 0;
    Change {
        version: change.version,
        when: moment(change.when_ns),
        source: Source::from_number(change.source),
        who: who(change.uid, change.pid, &change.comm),
        key: text(&change.key),
        before: text(&change.before),
        after: text(&change.after),
        why: text(&change.why),
        unset: has(uapi::ANALYTICS_CHANGE_UNSET),
        undo: has(uapi::ANALYTICS_CHANGE_UNDO),
        expired: has(uapi::ANALYTICS_CHANGE_EXPIRED),
        cluster: has(uapi::ANALYTICS_CHANGE_CLUSTER),
    }
}

impl Analytics {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        let path = uapi::ANALYTICS_DEVICE;
        let fd = sys::open_device(path).map_err(|errno| Error::new(Action::Open(path), errno))?;
        Ok(Analytics { fd })
    }

    fn get_by(&self, mut get: uapi::AnalyticsGet, what: Action) -> Result<Setting> {
        let mut room = vec![0; uapi::ANALYTICS_VALUE_MAX as usize];
        get.size = size_of::<uapi::AnalyticsGet>() as u32;
        sys::analytics_get(&self.fd, &mut get, &mut room)
            .map_err(|errno| Error::new(what, errno))?;
        room.truncate(get.length as usize);
        Ok(setting_of(&get, room))
    }

    /// A setting.
    pub fn get(&self, key: &str) -> Result<Setting> {
        let what = action(format!("read the setting {key}"));
        let get = uapi::AnalyticsGet {
            key: key_field(key, &what)?,
            ..Default::default()
        };
        self.get_by(get, what)
    }

    /// All settings, by name.
    pub fn list(&self) -> Result<Vec<Setting>> {
        let mut all = Vec::new();
        for index in 0.. {
            let get = uapi::AnalyticsGet {
                flags: uapi::ANALYTICS_GET_INDEX,
                index,
                ..Default::default()
            };
            match self.get_by(get, action("list the settings")) {
                Ok(setting) => all.push(setting),
                Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => break,
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    fn change(&self, mut set: uapi::AnalyticsSet, text: &str, what: String) -> Result<Pushed> {
        set.size = size_of::<uapi::AnalyticsSet>() as u32;
        match sys::analytics_set(&self.fd, &mut set, text.as_bytes()) {
            Ok(()) => Ok(Pushed {
                version: set.version,
                reached: set.reached,
                nodes: set.nodes,
            }),
            Err(errno) => {
                let allowed = match (errno, Kind::from_number(set.kind)) {
                    (Errno::RANGE | Errno::INVAL, Some(Kind::Int)) => {
                        format!(" (a whole number from {} to {})", set.low, set.high)
                    }
                    (Errno::RANGE | Errno::INVAL, Some(Kind::Bool)) => " (true or false)".into(),
                    (Errno::RANGE | Errno::INVAL, Some(Kind::Choice)) => {
                        format!(" (one of {})", text_of_words(&set.words))
                    }
                    (Errno::NOSPC, _) => format!(" (the limit is {})", set.limit),
                    (Errno::BUSY, _) => format!(" (set by user {})", set.limit),
                    _ => String::new(),
                };
                Err(Error::new(action(format!("{what}{allowed}")), errno))
            }
        }
    }

    /// Sets a value; the number of the change, or of the last one if it was so already.
    pub fn set(&self, key: &str, value: &str, options: &Options<'_>) -> Result<u64> {
        self.set_with(key, value, options, 0)
            .map(|done| done.version)
    }

    /// Sets a value on all nodes of the cluster; a person or a file does. Those that do not answer
    /// get it when they do.
    pub fn set_cluster(&self, key: &str, value: &str, options: &Options<'_>) -> Result<Pushed> {
        self.set_with(key, value, options, uapi::ANALYTICS_SET_CLUSTER)
    }

    fn set_with(
        &self,
        key: &str,
        value: &str,
        options: &Options<'_>,
        mut flags: u32,
    ) -> Result<Pushed> {
        let what = format!("set {key} to {value:?}");
        if options.create {
            flags |= uapi::ANALYTICS_SET_CREATE;
        }
        if options.version.is_some() {
            flags |= uapi::ANALYTICS_SET_IF;
        }
        let mut set = uapi::AnalyticsSet {
            flags,
            source: options.source.number(),
            ttl_ms: options.ttl.map_or(0, |ttl| {
                u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX).max(1)
            }),
            version: options.version.unwrap_or(0),
            key: key_field(key, &action(&*what))?,
            ..Default::default()
        };
        put(options.why, &mut set.why);
        self.change(set, value, what)
    }

    /// Takes back what a person (or a learner) has set; the number of the change, or of the last
    /// one if nothing was.
    pub fn unset(&self, key: &str, source: Source, why: &str) -> Result<u64> {
        self.unset_with(key, source, why, 0)
            .map(|done| done.version)
    }

    /// Takes back what the cluster has set, on all its nodes.
    pub fn unset_cluster(&self, key: &str, why: &str) -> Result<Pushed> {
        self.unset_with(key, Source::Person, why, uapi::ANALYTICS_SET_CLUSTER)
    }

    fn unset_with(&self, key: &str, source: Source, why: &str, flags: u32) -> Result<Pushed> {
        let what = format!("take back what was set of {key}");
        let mut set = uapi::AnalyticsSet {
            flags: uapi::ANALYTICS_SET_UNSET | flags,
            source: source.number(),
            key: key_field(key, &action(&*what))?,
            ..Default::default()
        };
        put(why, &mut set.why);
        self.change(set, "", what)
    }

    /// Declares a setting.
    pub fn define(&self, declaration: &Declaration<'_>) -> Result<()> {
        let what = action(format!("declare the setting {}", declaration.key));
        let list = declaration.words.join("|");
        let mut define = uapi::AnalyticsDefine {
            size: size_of::<uapi::AnalyticsDefine>() as u32,
            kind: declaration.kind as u32,
            low: declaration.range.0,
            high: declaration.range.1,
            key: key_field(declaration.key, &what)?,
            ..Default::default()
        };
        if list.len() >= define.words.len() {
            return Err(Error::new(what, Errno::TOOBIG));
        }
        put(declaration.reader, &mut define.reader);
        put(&list, &mut define.words);
        sys::analytics_define(&self.fd, &mut define, declaration.initial.as_bytes())
            .map_err(|errno| Error::new(what, errno))
    }

    /// The changes with greater numbers than `after`, the oldest first; and how many of them are
    /// no longer kept.
    pub fn changes(&self, after: u64) -> Result<(Vec<Change>, u64)> {
        let mut log = uapi::AnalyticsLog {
            size: size_of::<uapi::AnalyticsLog>() as u32,
            after,
            ..Default::default()
        };
        // More than are kept.
        let mut entries = vec![uapi::AnalyticsChange::default(); 512];
        sys::analytics_log(&self.fd, &mut log, &mut entries)
            .map_err(|errno| Error::new(action("read the changes"), errno))?;
        entries.truncate(log.count as usize);
        Ok((entries.iter().map(change_of).collect(), log.lost))
    }

    /// Takes so many changes back, from the last one on; how many were.
    pub fn undo(&self, count: u32) -> Result<u32> {
        let mut undo = uapi::AnalyticsUndo {
            size: size_of::<uapi::AnalyticsUndo>() as u32,
            count,
            ..Default::default()
        };
        let result = sys::call::<{ uapi::ANALYTICS_IOC_UNDO }, _>(&self.fd, &mut undo);
        match result {
            Err(errno) if undo.done == 0 => {
                Err(Error::new(action("take the last change back"), errno))
            }
            _ => Ok(undo.done),
        }
    }

    /// The settings in numbers.
    pub fn numbers(&self) -> Result<Numbers> {
        let mut info = uapi::AnalyticsInfo {
            size: size_of::<uapi::AnalyticsInfo>() as u32,
            ..Default::default()
        };
        sys::call::<{ uapi::ANALYTICS_IOC_INFO }, _>(&self.fd, &mut info)
            .map_err(|errno| Error::new(action("ask how the settings stand"), errno))?;
        Ok(info)
    }

    /// Tells that the changes up to this one are known; [`Analytics::wait`] ends at the next.
    pub fn seen(&self, version: u64) -> Result<()> {
        let mut seen = uapi::AnalyticsSeen {
            size: size_of::<uapi::AnalyticsSeen>() as u32,
            version,
            ..Default::default()
        };
        sys::call::<{ uapi::ANALYTICS_IOC_SEEN }, _>(&self.fd, &mut seen)
            .map_err(|errno| Error::new(action("tell which changes were seen"), errno))
    }

    /// Waits until there are changes that were not seen; false if there are none for so long, or a
    /// signal came.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        sys::wait_readable(&self.fd, timeout).map_err(|errno| Error::new(Action::Poll, errno))
    }
}

fn text_of_words(field: &[u8]) -> String {
    text(field).replace('|', ", ")
}

impl AsFd for Analytics {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
