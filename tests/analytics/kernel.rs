// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The functions for other modules, by the module virgo-settest.

use std::fs;
use std::thread;

use virgo::analytics::Options;
use virgo_tests::module;
use virgo_tests::sys;

use crate::{define_level, open, ours, person};

const SETTEST: &str = "virgo-settest";
const FILE: &str = "/proc/virgo/settest";

fn tell(words: &str) -> Result<(), i32> {
    fs::write(FILE, words).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// What the file says of a name.
fn said(name: &str) -> String {
    let text = fs::read_to_string(FILE).expect("the file");
    let start = format!("{name}=");
    text.lines()
        .find_map(|line| line.strip_prefix(&start))
        .unwrap_or_else(|| panic!("{name}: {text}"))
        .to_owned()
}

struct Tester;

impl Tester {
    fn load() -> Tester {
        module::load(SETTEST, "").expect("virgo-settest loads");
        Tester
    }
}

impl Drop for Tester {
    fn drop(&mut self) {
        if !thread::panicking() {
            module::unload(SETTEST).expect("virgo-settest unloads");
        }
    }
}

#[test]
fn modules_read_settings() {
    let _ours = ours("");
    let _tester = Tester::load();
    let settings = open();
    define_level(&settings);
    assert_eq!(tell("get nothing 1"), Err(libc::ENOENT));
    tell("get level 1").expect("read");
    assert_eq!(
        (said("number"), said("text"), said("version")),
        ("5".into(), "5".into(), "0".into())
    );
    for (key, value) in [
        ("short", ""),
        ("a", "x"),
        ("key-of-8", "12345678"),
        (
            "a-name-of-some-length/and.more",
            "a text that is more than one word",
        ),
    ] {
        let version = settings.set(key, value, &person()).expect("set");
        tell(&format!("get {key} 3")).expect("read");
        assert_eq!(
            (said("text"), said("length")),
            (value.into(), value.len().to_string())
        );
        if !value.is_empty() {
            assert_eq!(said("version"), version.to_string());
        }
    }
    // Many readers, while it changes: what is read is always whole.
    thread::scope(|scope| {
        let reads = scope.spawn(|| {
            for _ in 0..200 {
                tell("get level 1000").expect("read");
            }
        });
        let mut round = 0_u64;
        while !reads.is_finished() {
            let value = (1 + round % 9).to_string();
            settings
                .set("level", &value, &Options::default())
                .expect("set");
            round += 1;
        }
    });
    tell("get level 1").expect("read");
    assert_eq!(said("text"), settings.get("level").expect("level").value);
    // A module that reads pins the settings.
    drop(settings);
    assert_eq!(module::unload(crate::MODULE), Err(sys::EAGAIN));
}

#[test]
fn modules_are_told_of_changes_in_their_order() {
    let _ours = ours("");
    let _tester = Tester::load();
    let settings = open();
    define_level(&settings);
    tell("watch level").expect("watched");
    settings.set("other", "1", &person()).expect("set");
    assert_eq!(said("notices"), "0");
    settings
        .set("level", "7", &Options::default())
        .expect("set");
    assert_eq!(
        (said("notices"), said("last")),
        ("1".into(), "level=7".into())
    );
    tell("watch -").expect("watched");
    settings.set("other", "2", &person()).expect("set");
    assert_eq!(said("last"), "other=2");
    // From several threads, while watching stops and begins.
    thread::scope(|scope| {
        for worker in 0..3 {
            scope.spawn(move || {
                let settings = open();
                for round in 0..200 {
                    let value = (1 + (worker + round) % 9).to_string();
                    settings
                        .set("level", &value, &Options::default())
                        .expect("set");
                }
            });
        }
        for _ in 0..50 {
            tell("unwatch").expect("unwatched");
            tell("watch -").expect("watched");
        }
    });
    assert_eq!(said("out_of_order"), "0");
    assert_eq!(settings.numbers().expect("numbers").watchers, 1);
    tell("unwatch").expect("unwatched");
    let before = said("notices");
    settings.set("other", "3", &person()).expect("set");
    assert_eq!(said("notices"), before);
}

#[test]
fn what_a_module_refuses_is_not_set() {
    let _ours = ours("");
    let settings = open();
    // Set before its reader is there: as a text.
    settings.set("settest.level", "42", &person()).expect("set");
    let tester = Tester::load();
    assert_eq!((said("level"), said("applied")), ("42".into(), "1".into()));
    let level = || settings.get("settest.level").expect("it is there");
    assert!(level().read && level().declared);
    assert_eq!((level().range, level().initial.as_str()), ((0, 100), "5"));
    let refused = settings.set("settest.level", "77", &Options::default());
    assert_eq!(crate::errno(refused), libc::EIO);
    assert_eq!((level().number, said("level")), (42, "42".into()));
    assert_eq!(
        crate::errno(settings.set("settest.level", "101", &Options::default())),
        libc::ERANGE
    );
    settings.undo(1).expect("undone");
    assert_eq!((level().value.as_str(), said("level")), ("5", "5".into()));
    settings
        .set("settest.level", "43", &Options::default())
        .expect("set");
    // Gone and back: the value stands meanwhile, and is applied again.
    drop(tester);
    assert!(!level().read);
    assert_eq!(level().number, 43);
    settings
        .set("settest.level", "44", &Options::default())
        .expect("set");
    {
        let _tester = Tester::load();
        assert_eq!(said("level"), "44");
    }
    // What its reader can't take is forgotten when that comes.
    settings
        .set("settest.level", "77", &Options::default())
        .expect("set");
    let _tester = Tester::load();
    assert_eq!((said("level"), level().value.as_str()), ("5".into(), "5"));
}
