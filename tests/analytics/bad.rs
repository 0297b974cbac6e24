// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What is refused: bad arguments, too much, and those who may not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use virgo::analytics::Options;
use virgo_proto::uapi::{
    self, AnalyticsDefine, AnalyticsGet, AnalyticsInfo, AnalyticsLog, AnalyticsSeen, AnalyticsSet,
    AnalyticsUndo,
};
use virgo_tests::device::Device;
use virgo_tests::module;
use virgo_tests::sys::{self, E2BIG, EFAULT, EINVAL, ENODEV, ENOENT, ENOTTY, EPERM};

use crate::{define_level, errno, open, ours, person, virgo, MODULE};

fn field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}

fn good_set(value: &str) -> AnalyticsSet {
    AnalyticsSet {
        size: size_of::<AnalyticsSet>() as u32,
        text: value.as_ptr() as u64,
        length: value.len() as u32,
        source: uapi::ANALYTICS_BY_PERSON,
        key: field("level"),
        ..AnalyticsSet::default()
    }
}

#[test]
fn each_bad_field_is_refused() {
    let _ours = ours("");
    define_level(&open());
    let file = Device::open(uapi::ANALYTICS_DEVICE).expect("the device");
    let set = |set: AnalyticsSet| {
        let mut set = set;
        sys::ioctl(&file, uapi::ANALYTICS_IOC_SET, &mut set).map(drop)
    };
    let good = good_set("7");
    assert_eq!(set(good), Ok(()));
    let bad: &[(&str, AnalyticsSet, _)] = &[
        ("size", AnalyticsSet { size: 8, ..good }, EINVAL),
        (
            "flags",
            AnalyticsSet {
                flags: 1 << 31,
                ..good
            },
            EINVAL,
        ),
        (
            "reserved",
            AnalyticsSet {
                reserved: 1,
                ..good
            },
            EINVAL,
        ),
        ("source 0", AnalyticsSet { source: 0, ..good }, EINVAL),
        ("source 5", AnalyticsSet { source: 5, ..good }, EINVAL),
        (
            "time for a person",
            AnalyticsSet { ttl_ms: 1, ..good },
            EINVAL,
        ),
        (
            "unset with a value",
            AnalyticsSet {
                flags: uapi::ANALYTICS_SET_UNSET,
                ..good
            },
            EINVAL,
        ),
        (
            "no NUL",
            AnalyticsSet {
                key: [b'a'; 128],
                ..good
            },
            EINVAL,
        ),
        (
            "no name",
            AnalyticsSet {
                key: [0; 128],
                ..good
            },
            EINVAL,
        ),
        (
            "a blank",
            AnalyticsSet {
                key: field("a b"),
                ..good
            },
            EINVAL,
        ),
        (
            "why",
            AnalyticsSet {
                why: field("a\nb"),
                ..good
            },
            EINVAL,
        ),
        ("pointer", AnalyticsSet { text: 8, ..good }, EFAULT),
        (
            "length",
            AnalyticsSet {
                length: 4097,
                ..good
            },
            E2BIG,
        ),
        (
            "unknown",
            AnalyticsSet {
                key: field("other"),
                ..good
            },
            ENOENT,
        ),
    ];
    for (what, request, wanted) in bad {
        assert_eq!(set(*request), Err(*wanted), "{what}");
    }
    macro_rules! refused {
        ($type:ident, $command:ident, $wanted:expr, { $($field:ident: $value:expr),* }) => {
            let mut request = $type {
                size: size_of::<$type>() as u32,
                $($field: $value,)*
                ..$type::default()
            };
            assert_eq!(
                sys::ioctl(&file, uapi::$command, &mut request).map(drop),
                Err($wanted),
                "{} {}", stringify!($type), stringify!($($field)*)
            );
        };
    }
    refused!(AnalyticsGet, ANALYTICS_IOC_GET, EINVAL, { flags: 2 });
    refused!(AnalyticsGet, ANALYTICS_IOC_GET, EINVAL, { reserved: 1 });
    refused!(AnalyticsGet, ANALYTICS_IOC_GET, ENOENT, { key: field("other") });
    refused!(AnalyticsGet, ANALYTICS_IOC_GET, EINVAL, { key: [b'a'; 128] });
    refused!(AnalyticsGet, ANALYTICS_IOC_GET, ENOENT, { flags: 1, index: 99 });
    refused!(AnalyticsGet, ANALYTICS_IOC_GET, EFAULT, { key: field("level"), text: 8, capacity: 9 });
    refused!(AnalyticsDefine, ANALYTICS_IOC_DEFINE, EINVAL, { flags: 1 });
    refused!(AnalyticsDefine, ANALYTICS_IOC_DEFINE, EINVAL, { kind: 4, key: field("x") });
    refused!(AnalyticsDefine, ANALYTICS_IOC_DEFINE, EINVAL, { kind: 1, low: 2, high: 1, key: field("x") });
    refused!(AnalyticsDefine, ANALYTICS_IOC_DEFINE, EINVAL, { kind: 3, words: field("one"), key: field("x") });
    refused!(AnalyticsDefine, ANALYTICS_IOC_DEFINE, EINVAL, { kind: 1, low: 1, high: 2, key: field("x") });
    refused!(AnalyticsLog, ANALYTICS_IOC_LOG, EINVAL, { flags: 1 });
    refused!(AnalyticsLog, ANALYTICS_IOC_LOG, EFAULT, { capacity: 1, entries: 8 });
    refused!(AnalyticsUndo, ANALYTICS_IOC_UNDO, EINVAL, { count: 0 });
    refused!(AnalyticsUndo, ANALYTICS_IOC_UNDO, EINVAL, { count: 11 });
    refused!(AnalyticsInfo, ANALYTICS_IOC_INFO, EINVAL, { flags: 1 });
    refused!(AnalyticsSeen, ANALYTICS_IOC_SEEN, EINVAL, { version: 2 });
    assert_eq!(sys::ioctl_at(&file, 0xc000_eb6f, 0).map(drop), Err(ENOTTY));
    // The same through /dev/virgo, but for what belongs to a file.
    let control = Device::control();
    let mut again = good_set("8");
    assert_eq!(
        sys::ioctl(&control, uapi::ANALYTICS_IOC_SET, &mut again).map(drop),
        Ok(())
    );
    let mut seen = AnalyticsSeen {
        size: size_of::<AnalyticsSeen>() as u32,
        ..AnalyticsSeen::default()
    };
    assert_eq!(
        sys::ioctl(&control, uapi::ANALYTICS_IOC_SEEN, &mut seen).map(drop),
        Err(EINVAL)
    );
}

#[test]
fn only_who_sets_the_machine_up_may_set_settings() {
    let _ours = ours("");
    let settings = open();
    define_level(&settings);
    let file = Device::open(uapi::ANALYTICS_DEVICE).expect("the device");
    sys::as_user(sys::NOBODY, || {
        // Through a file that root opened.
        let mut set = good_set("7");
        assert_eq!(
            sys::ioctl(&file, uapi::ANALYTICS_IOC_SET, &mut set).map(drop),
            Err(EPERM)
        );
        assert_eq!(errno(settings.undo(1)), libc::EPERM);
        assert_eq!(settings.get("level").expect("reading is allowed").number, 5);
    });
}

/// Names are looked up by words of theirs, which overlap, and the longer ones by a hash of the middle:
/// each byte of each length counts.
#[test]
fn names_that_differ_in_one_byte_are_told_apart() {
    let _ours = ours("");
    let settings = open();
    let mut names = Vec::new();
    for length in [
        1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 41, 63, 127,
    ] {
        let name = vec![b'a'; length];
        names.push(name.clone());
        for place in 0..length {
            let mut other = name.clone();
            other[place] = b'b';
            names.push(other);
        }
    }
    let names: Vec<String> = names
        .into_iter()
        .map(|name| String::from_utf8(name).expect("ASCII"))
        .collect();
    let lines: Vec<String> = { names.iter().enumerate() }
        .map(|(number, name)| format!("{name}=v{number}\n"))
        .collect();
    std::fs::write("/tmp/names.conf", lines.concat()).expect("a file");
    let outcome = virgo(&["analytics", "load", "/tmp/names.conf"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    for (number, name) in names.iter().enumerate() {
        let setting = settings.get(name).expect("it is there");
        assert_eq!(setting.value, format!("v{number}"), "{name}");
    }
    for name in [
        "c",
        "aac",
        "aaaaaaac",
        "aaaaaaaaaaaaaaac",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac",
    ] {
        assert_eq!(errno(settings.get(name)), libc::ENOENT, "{name}");
    }
}

#[test]
fn a_hundred_thousand_settings_fit_where_they_may_and_the_limit_is_named_where_not() {
    let lines: Vec<String> = (0..100_000).map(|n| format!("key{n}=v{n}\n")).collect();
    std::fs::write("/tmp/many.conf", lines.concat()).expect("a file");
    {
        let _ours = ours("");
        let settings = open();
        let outcome = virgo(&["analytics", "load", "/tmp/many.conf"]);
        assert_eq!(outcome.code, 1);
        assert!(
            outcome.err.contains("the limit is 16384"),
            "{}",
            outcome.err
        );
        assert_eq!(settings.numbers().expect("numbers").settings, 16384);
        // What is there can still be changed.
        settings
            .set("key7", "new", &Options::default())
            .expect("set");
    }
    {
        let _ours = ours("max_settings=100003 max_mb=4096");
        let settings = open();
        let outcome = virgo(&["analytics", "load", "/tmp/many.conf"]);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        assert!(outcome.out.contains("0 faults"), "{}", outcome.out);
        for n in [0, 1, 50_000, 99_999] {
            let setting = settings.get(&format!("key{n}")).expect("it is there");
            assert_eq!(setting.value, format!("v{n}"));
        }
        settings.set("one-more", "", &person()).expect("the last");
        assert_eq!(errno(settings.set("too-many", "", &person())), libc::ENOSPC);
        assert_eq!(settings.list().expect("list").len(), 100_003);
    }
    let _ours = ours("max_mb=1");
    let settings = open();
    let big = "x".repeat(4096);
    let mut refused = None;
    for n in 0..1000 {
        if let Err(error) = settings.set(&format!("key{n}"), &big, &person()) {
            refused = Some(error.to_string());
            break;
        }
    }
    let refused = refused.expect("a MiB is full");
    assert!(refused.contains("the limit is 1048576"), "{refused}");
    assert!(settings.numbers().expect("numbers").bytes <= 1 << 20);
}

#[test]
fn unloading_under_load_is_ordinary() {
    let _machine = module::core_only();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..3_u32 {
            let stop = &stop;
            scope.spawn(move || {
                let control = Device::control();
                let mut key = [0; 128];
                key[..5].copy_from_slice(b"level");
                while !stop.load(Ordering::Relaxed) {
                    let mut set = good_set("7");
                    set.flags = uapi::ANALYTICS_SET_CREATE;
                    set.source = 1 + worker % 4;
                    let result = sys::ioctl(&control, uapi::ANALYTICS_IOC_SET, &mut set).map(drop);
                    assert!(
                        matches!(result, Ok(()) | Err(ENODEV) | Err(sys::EBUSY)),
                        "{result:?}"
                    );
                    let mut get = AnalyticsGet {
                        size: size_of::<AnalyticsGet>() as u32,
                        key,
                        ..AnalyticsGet::default()
                    };
                    let result = sys::ioctl(&control, uapi::ANALYTICS_IOC_GET, &mut get).map(drop);
                    assert!(
                        matches!(result, Ok(()) | Err(ENODEV) | Err(ENOENT)),
                        "{result:?}"
                    );
                }
            });
        }
        for _ in 0..30 {
            module::load(MODULE, "").expect("it loads");
            let file = open();
            file.set("level", "9", &person()).ok();
            // Open: refused.
            assert_eq!(module::unload(MODULE), Err(sys::EAGAIN));
            drop(file);
            assert!(virgo_tests::wait_until(virgo_tests::SOON, || {
                module::unload(MODULE).is_ok()
            }));
        }
        stop.store(true, Ordering::Relaxed);
    });
}
