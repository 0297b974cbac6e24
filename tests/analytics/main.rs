// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-analytics: settings, who may set what, who is told, and what they do.

mod act;
mod bad;
mod files;
mod kernel;
mod learn;

use std::thread;
use std::time::{Duration, Instant};

use virgo::analytics::{Analytics, Declaration, Options, Source};
use virgo_proto::analytics::Kind;
use virgo_tests::module::{self, Machine};
use virgo_tests::script::{self, Outcome};
use virgo_tests::{wait_until, SOON};

/// The module under test.
pub(crate) const MODULE: &str = "virgo-analytics";

/// How many settings virgo-core itself has.
pub(crate) const CORE: u64 = 2;

/// virgo-core and virgo-analytics, loaded for one test.
pub(crate) struct Ours(#[allow(dead_code)] Machine);

pub(crate) fn ours(parameters: &str) -> Ours {
    let machine = module::core_only();
    module::load(MODULE, parameters).expect("virgo-analytics loads");
    Ours(machine)
}

impl Drop for Ours {
    fn drop(&mut self) {
        if !thread::panicking() {
            let start = Instant::now();
            module::unload(MODULE).expect("virgo-analytics unloads");
            let took = start.elapsed();
            assert!(took < SOON, "unloading took {took:?}");
        }
    }
}

pub(crate) fn open() -> Analytics {
    Analytics::open().expect("the device")
}

pub(crate) fn person() -> Options<'static> {
    Options {
        create: true,
        ..Options::default()
    }
}

pub(crate) fn learner(ttl_ms: u64) -> Options<'static> {
    Options {
        source: Source::Learner,
        why: "a test",
        ttl: (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms)),
        ..Options::default()
    }
}

pub(crate) fn errno<T: std::fmt::Debug>(result: virgo::Result<T>) -> i32 {
    result.expect_err("it is refused").errno().unwrap_or(0)
}

pub(crate) fn virgo(arguments: &[&str]) -> Outcome {
    script::run("virgo", arguments)
}

/// Declares `level`, a number of 1 to 10, at first 5.
pub(crate) fn define_level(settings: &Analytics) {
    settings
        .define(&Declaration {
            key: "level",
            kind: Kind::Int,
            range: (1, 10),
            words: &[],
            initial: "5",
            reader: "the tests",
        })
        .expect("declared");
}

#[test]
fn values_are_typed_and_bad_ones_refused_with_their_range() {
    let _ours = ours("");
    let settings = open();
    define_level(&settings);
    let level = settings.get("level").expect("it is there");
    assert_eq!(
        (level.value.as_str(), level.number, level.range, level.kind),
        ("5", 5, (1, 10), Kind::Int)
    );
    assert_eq!((level.source, level.version), (Source::Default, 0));
    assert_eq!(level.reader, "the tests");
    let first = settings
        .set("level", "10", &Options::default())
        .expect("set");
    assert_eq!(first, 1);
    // Setting it to what it is changes nothing.
    assert_eq!(
        settings.set("level", "10", &Options::default()).ok(),
        Some(1)
    );
    for (value, wanted) in [
        ("11", libc::ERANGE),
        ("0", libc::ERANGE),
        ("-1", libc::ERANGE),
        ("ten", libc::EINVAL),
        ("", libc::EINVAL),
        ("1.5", libc::EINVAL),
        ("99999999999999999999", libc::EINVAL),
        ("5\n", libc::EINVAL),
    ] {
        let error = settings
            .set("level", value, &Options::default())
            .expect_err(value);
        assert_eq!(error.errno(), Some(wanted), "{value:?}: {error}");
        assert!(error.to_string().contains("from 1 to 10"), "{error}");
    }
    let words: Vec<String> = ["fast", "safe"].map(String::from).into();
    let mode = Declaration {
        key: "mode",
        kind: Kind::Choice,
        range: (0, 0),
        words: &words,
        initial: "safe",
        reader: "",
    };
    settings.define(&mode).expect("declared");
    assert_eq!(settings.get("mode").expect("mode").number, 1);
    settings
        .set("mode", "fast", &Options::default())
        .expect("set");
    assert_eq!(settings.get("mode").expect("mode").number, 0);
    let error = settings
        .set("mode", "slow", &Options::default())
        .expect_err("no such word");
    assert!(error.to_string().contains("fast, safe"), "{error}");
    let numbers = settings.numbers().expect("numbers");
    assert_eq!(
        (numbers.settings, numbers.version, numbers.refused),
        (2 + CORE, 2, 9)
    );
    assert_eq!(settings.get("level").expect("level").value, "10");
    // A declaration that the value in force would break is refused; another is taken.
    let narrow = Declaration {
        key: "level",
        kind: Kind::Int,
        range: (1, 9),
        words: &[],
        initial: "1",
        reader: "",
    };
    assert_eq!(errno(settings.define(&narrow)), libc::ERANGE);
    let wide = Declaration {
        range: (1, 1000),
        ..narrow
    };
    settings.define(&wide).expect("declared anew");
    settings
        .set("level", "1000", &Options::default())
        .expect("set");
}

#[test]
fn an_unknown_setting_is_told_and_made_when_asked_for() {
    let _ours = ours("");
    let settings = open();
    assert_eq!(errno(settings.get("nothing")), libc::ENOENT);
    assert_eq!(
        errno(settings.set("nothing", "1", &Options::default())),
        libc::ENOENT
    );
    assert_eq!(
        errno(settings.set("not a name", "1", &person())),
        libc::EILSEQ
    );
    settings
        .set("something", "any text", &person())
        .expect("made");
    let setting = settings.get("something").expect("it is there");
    assert_eq!(
        (setting.value.as_str(), setting.declared),
        ("any text", false)
    );
    let outcome = virgo(&["analytics", "set", "typo", "1"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("virgo analytics ls"),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("--new"), "{}", outcome.err);
    // A value of the greatest length, and one more byte.
    let long = "x".repeat(4096);
    settings
        .set("something", &long, &Options::default())
        .expect("set");
    assert_eq!(settings.get("something").expect("it").value, long);
    assert_eq!(
        errno(settings.set("something", &(long + "x"), &Options::default())),
        libc::E2BIG
    );
}

#[test]
fn who_when_and_why_are_kept_and_the_last_ten_changes_can_be_taken_back() {
    let _ours = ours("");
    let settings = open();
    define_level(&settings);
    assert_eq!(errno(settings.undo(1)), libc::ENOENT);
    for round in 0..12_u64 {
        let why = format!("round {round}");
        let how = Options {
            why: &why,
            ..Options::default()
        };
        let value = (1 + round % 9).to_string();
        assert_eq!(settings.set("level", &value, &how).ok(), Some(round + 1));
    }
    let (changes, lost) = settings.changes(0).expect("changes");
    assert_eq!((changes.len(), lost), (12, 0));
    for (round, change) in changes.iter().enumerate() {
        assert_eq!(change.version, round as u64 + 1);
        assert_eq!(
            (change.key.as_str(), change.source),
            ("level", Source::Person)
        );
        assert_eq!(change.why, format!("round {round}"));
        let who = change.who.as_ref().expect("a process");
        assert_eq!((who.uid, who.pid), (0, std::process::id()));
        assert!(change.when.is_some_and(|when| when.elapsed().is_ok()));
    }
    assert_eq!(
        (changes[11].before.as_str(), changes[11].after.as_str()),
        ("2", "3")
    );
    let level = || settings.get("level").expect("level").value;
    assert_eq!(level(), "3");
    assert_eq!(settings.undo(1).ok(), Some(1));
    assert_eq!(level(), "2");
    assert_eq!(settings.undo(10).ok(), Some(9), "ten in all are kept");
    assert_eq!(level(), "2", "as the second left it");
    assert_eq!(errno(settings.undo(1)), libc::ENOENT);
    let (changes, _) = settings.changes(12).expect("changes");
    assert_eq!(changes.len(), 10);
    assert!(changes.iter().all(|change| change.undo));
    // Unset, and that undone.
    settings.unset("level", Source::Person, "").expect("unset");
    assert_eq!(level(), "5");
    settings.undo(1).expect("undone");
    assert_eq!(level(), "2");
    let outcome = virgo(&["analytics", "undo", "11"]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
}

#[test]
fn watchers_are_woken_by_each_change() {
    let _ours = ours("");
    let settings = open();
    define_level(&settings);
    assert!(!settings.wait(Duration::from_millis(20)).expect("poll"));
    // Opened before the first change: the thread may come to it when the last has been made.
    let mine = open();
    thread::scope(|scope| {
        let waits = scope.spawn(move || {
            let mut seen = 0;
            while seen < 50 {
                assert!(mine.wait(SOON).expect("poll"), "woken after {seen}");
                let (changes, lost) = mine.changes(seen).expect("changes");
                assert_eq!(lost, 0);
                seen = changes.last().map_or(seen, |change| change.version);
                mine.seen(seen).expect("seen");
            }
            seen
        });
        for round in 0..50 {
            let value = (1 + round % 9).to_string();
            settings
                .set("level", &value, &Options::default())
                .expect("set");
        }
        assert_eq!(waits.join().expect("thread"), 50);
    });
    assert!(
        settings.wait(SOON).expect("poll"),
        "this one has not looked"
    );
    assert_eq!(errno(settings.seen(51)), libc::EINVAL);
    settings.seen(50).expect("seen");
    assert!(!settings.wait(Duration::from_millis(20)).expect("poll"));
}

#[test]
fn a_persons_value_stands_and_a_learnt_one_runs_out() {
    let _ours = ours("");
    let settings = open();
    define_level(&settings);
    let level = || settings.get("level").expect("level");
    settings.set("level", "7", &learner(400)).expect("learnt");
    let learnt = level();
    assert_eq!((learnt.number, learnt.source), (7, Source::Learner));
    assert_eq!(learnt.why, "a test");
    let left = learnt.left.expect("it runs out");
    assert!(left <= Duration::from_millis(400), "{left:?}");
    // Said again, it stands for longer, and that is no change.
    let before = settings.numbers().expect("numbers").version;
    settings
        .set("level", "7", &learner(60_000))
        .expect("for longer");
    assert!(level().left.expect("it runs out") > Duration::from_secs(50));
    assert_eq!(settings.numbers().expect("numbers").version, before);
    settings.set("level", "8", &learner(100)).expect("learnt");
    assert!(wait_until(SOON, || level().source == Source::Default));
    assert_eq!(level().number, 5);
    let (changes, _) = settings.changes(before).expect("changes");
    assert!(changes
        .last()
        .is_some_and(|change| change.expired && change.who.is_none()));
    assert_eq!(settings.numbers().expect("numbers").expired, 1);
    // A person's.
    settings
        .set("level", "3", &Options::default())
        .expect("set");
    assert_eq!(errno(settings.set("level", "7", &learner(0))), libc::EBUSY);
    assert_eq!(level().number, 3);
    settings.unset("level", Source::Person, "").expect("unset");
    settings.set("level", "7", &learner(0)).expect("learnt");
    assert_eq!(level().number, 7);
    // A person's takes its place, and what was learnt does not come back.
    settings
        .set("level", "3", &Options::default())
        .expect("set");
    settings.unset("level", Source::Person, "").expect("unset");
    assert_eq!(level().number, 5);
    // Only if nobody else was faster.
    let seen = level().version;
    settings
        .set("level", "4", &Options::default())
        .expect("set");
    let late = Options {
        version: Some(seen),
        ..Options::default()
    };
    assert_eq!(errno(settings.set("level", "6", &late)), libc::ESTALE);
}
