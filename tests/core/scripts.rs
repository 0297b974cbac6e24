// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! insmod-scripts: load, unload, status.

use std::fs;
use std::path::Path;

use virgo_tests::child::Child;
use virgo_tests::device::Device;
use virgo_tests::module::{self, CORE, PROFILER};
use virgo_tests::script::{self, Outcome};
use virgo_tests::sys::NOBODY;

const CONF: &str = "/etc/virgo/virgo-profiler.conf";

fn quiet(code: i32) -> Outcome {
    Outcome {
        code,
        out: String::new(),
        err: String::new(),
    }
}

/// A configuration file, removed with this value.
struct Conf;

impl Conf {
    fn new(text: &str) -> Conf {
        fs::create_dir_all(Path::new(CONF).parent().unwrap()).unwrap();
        fs::write(CONF, text).unwrap();
        Conf
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        let _ = fs::remove_file(CONF);
    }
}

/// How many modules there are to load, by name.
fn both_loaded() -> (bool, bool) {
    (module::is_loaded(CORE), module::is_loaded(PROFILER))
}

#[test]
fn load_and_unload_are_idempotent() {
    let _machine = module::none();
    for _ in 0..2 {
        for _ in 0..2 {
            assert_eq!(script::run("load", &[]), quiet(0));
            assert_eq!(both_loaded(), (true, true));
        }
        for _ in 0..2 {
            assert_eq!(script::run("unload", &[]), quiet(0));
            assert_eq!(both_loaded(), (false, false));
        }
    }
}

#[test]
fn load_takes_the_core_before_what_is_named() {
    let _machine = module::none();
    assert_eq!(script::run("load", &["virgo-core"]), quiet(0));
    assert_eq!(both_loaded(), (true, false));
    assert_eq!(script::run("unload", &["virgo-profiler"]), quiet(0));
    assert_eq!(both_loaded(), (true, false));
    assert_eq!(script::run("unload", &[]), quiet(0));
    assert_eq!(script::run("load", &["virgo-profiler"]), quiet(0));
    assert_eq!(both_loaded(), (true, true));
    assert_eq!(script::run("unload", &["virgo-profiler"]), quiet(0));
    assert_eq!(both_loaded(), (true, false));
}

#[test]
fn dry_runs_say_the_order_and_do_nothing() {
    let _machine = module::none();
    let _conf = Conf::new("rate_hz=25\n");
    let load = script::run("load", &["-n", "virgo-profiler"]);
    assert_eq!(
        load.out,
        "insmod /virgo/ko/virgo-core.ko\ninsmod /virgo/ko/virgo-profiler.ko rate_hz=25\n"
    );
    assert_eq!((load.code, both_loaded()), (0, (false, false)));
    assert_eq!(
        script::run_as(NOBODY, "load", &["-n", "virgo-profiler"]),
        load
    );
    assert_eq!(script::run("load", &["virgo-profiler"]), quiet(0));
    let unload = script::run("unload", &["-n"]);
    assert_eq!(unload.out, "rmmod virgo-profiler\nrmmod virgo-core\n");
    assert_eq!((unload.code, both_loaded()), (0, (true, true)));
    assert_eq!(script::run("load", &["-n", "virgo-profiler"]), quiet(0));
}

#[test]
fn status_tells_what_is_loaded() {
    let _machine = module::none();
    let status = script::run("status", &[]);
    assert_eq!(status.code, 1);
    for name in [CORE, PROFILER] {
        let line = status.out.lines().find(|line| line.starts_with(name));
        assert!(line.unwrap().ends_with("not loaded"), "{}", status.out);
    }
    assert_eq!(script::run("status", &["-q"]), quiet(1));
    module::load(CORE, "").unwrap();
    let device = Device::control();
    let status = script::run_as(NOBODY, "status", &[]);
    assert_eq!((status.code, status.err.as_str()), (0, ""));
    let words = |name: &str| -> Vec<String> {
        let line = status.out.lines().find(|line| line.starts_with(name));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        words(CORE),
        [CORE, "loaded", version, "users", "1", "/dev/virgo"]
    );
    assert_eq!(words(PROFILER), [PROFILER, "not", "loaded"]);
    drop(device);
    assert_eq!(script::run("status", &["-q"]), quiet(0));
}

#[test]
fn parameters_come_from_the_configuration() {
    let _machine = module::none();
    let _conf = Conf::new(
        "# how often\n\n  rate_hz = 50   # times a second\nbuffer_pages=3\n\tmax_tasks=77",
    );
    assert_eq!(script::run("load", &[]), quiet(0));
    let device = Device::control();
    assert_eq!(device.rate(), Ok(50));
    let info = device.info().unwrap();
    assert_eq!((info.map_bytes, info.max_tasks), (4 * 4096, 77));
}

#[test]
fn a_bad_line_of_the_configuration_is_told() {
    let _machine = module::none();
    for (text, line) in [
        ("rate_hz=50\nbuffer_pages 3\n", 2),
        ("rate_hz\n", 1),
        ("rate_hz=\n", 1),
        ("=3\n", 1),
        ("# fine\n\nrate_hz=50 buffer_pages=3\n", 3),
        ("rate-hz=50\n", 1),
        ("rate_hz=*\n", 1),
    ] {
        let _conf = Conf::new(text);
        let arguments: &[&str] = if line == 2 { &[] } else { &["-n"] };
        let outcome = script::run("load", arguments);
        assert_eq!(outcome.code, 1, "{text:?}");
        let place = format!("{CONF}, line {line}: ");
        assert!(outcome.err.contains(&place), "{text:?}: {}", outcome.err);
        assert_eq!(outcome.err.lines().count(), 1, "{}", outcome.err);
        assert_eq!(both_loaded(), (true, false), "{text:?}");
    }
}

#[test]
fn a_bad_value_is_told_with_what_the_kernel_said() {
    let _machine = module::none();
    for (text, said) in [
        ("rate_hz=0", "parameter rate_hz is 0: it must be 1 to 1000"),
        (
            "buffer_pages=65537",
            "parameter buffer_pages is 65537: it must be 1 to 65536",
        ),
    ] {
        let _conf = Conf::new(text);
        let outcome = script::run("load", &[]);
        assert_eq!(outcome.code, 1);
        assert!(
            outcome.err.contains("a parameter is not right"),
            "{}",
            outcome.err
        );
        assert!(outcome.err.contains(said), "{}", outcome.err);
        assert!(outcome.err.contains(CONF), "{}", outcome.err);
        assert_eq!(both_loaded(), (true, false));
    }
}

#[test]
fn wrong_usage_is_told() {
    let _machine = module::none();
    for program in ["load", "unload"] {
        let outcome = script::run(program, &["virgo-nothing"]);
        assert_eq!(outcome.code, 2, "{program}");
        assert!(outcome.err.contains("no module is called 'virgo-nothing'"));
        assert!(
            outcome.err.contains("virgo-core"),
            "it names those there are"
        );
        assert_eq!(script::run(program, &["-x"]).code, 2, "{program}");
        assert_eq!(script::run(program, &["-h"]).code, 0, "{program}");
    }
    assert_eq!(script::run("status", &["virgo-core"]).code, 2);
    assert_eq!(both_loaded(), (false, false));
}

#[test]
fn modules_for_another_kernel_are_told_in_words() {
    let _machine = module::none();
    let folder = crate::modules::scripts_folder("scripts");
    let outcome = script::run("load", &["-d", folder.to_str().unwrap()]);
    assert_eq!(outcome.code, 1);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = release.trim();
    let told = format!(
        "it was built for kernel 9{}, this is {release}",
        &release[1..]
    );
    assert!(
        outcome.err.contains("Invalid module format"),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains(&told), "{}", outcome.err);
    assert_eq!(both_loaded(), (false, false));
}

#[test]
fn modules_of_another_build_are_told_in_words() {
    let _machine = module::none();
    let folder = std::env::temp_dir().join("virgo-core-other-build");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(module::file_of(CORE), folder.join("virgo-core.ko")).unwrap();
    fs::copy(
        module::file_of("virgo-stale"),
        folder.join("virgo-profiler.ko"),
    )
    .unwrap();
    let _conf = Conf::new("abi=99\n");
    let outcome = script::run("load", &["-d", folder.to_str().unwrap()]);
    assert_eq!(outcome.code, 1);
    let told = "it is of another build than the loaded virgo-core";
    assert!(outcome.err.contains(told), "{}", outcome.err);
    assert!(!outcome.err.contains("built for kernel"), "{}", outcome.err);
    assert_eq!(both_loaded(), (true, false));
}

#[test]
fn a_folder_without_modules_is_told() {
    let _machine = module::none();
    let outcome = script::run("load", &["-d", "/etc"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("/etc has no virgo-core.ko"),
        "{}",
        outcome.err
    );
}

#[test]
fn ordinary_users_are_told_that_it_needs_root() {
    let _machine = module::none();
    let outcome = script::run_as(NOBODY, "load", &[]);
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.contains("needs root"), "{}", outcome.err);
    assert_eq!(both_loaded(), (false, false));
    module::load(CORE, "").unwrap();
    let outcome = script::run_as(NOBODY, "unload", &[]);
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.contains("needs root"), "{}", outcome.err);
    assert_eq!(both_loaded(), (true, false));
}

#[test]
fn unload_names_who_uses_the_module() {
    let _machine = module::profiler("");
    let mut holder = Child::spawn("the holder", |parent| {
        let _device = Device::control();
        parent.say(0);
        parent.hear();
        0
    });
    holder.hear();
    let outcome = script::run("unload", &[]);
    assert_eq!(outcome.code, 1);
    let told = format!("virgo-core is in use by: the holder ({})\n", holder.pid);
    assert!(outcome.err.ends_with(&told), "{}", outcome.err);
    assert_eq!(
        both_loaded(),
        (true, false),
        "what is not in use is unloaded"
    );
    holder.kill();

    // A mapping without a descriptor.
    assert_eq!(script::run("load", &[]), quiet(0));
    let mut mapper = Child::spawn("mapper", |parent| {
        let device = Device::profiler();
        let buffer = device.buffer();
        drop(device);
        parent.say(buffer.head());
        parent.hear();
        0
    });
    mapper.hear();
    let outcome = script::run("unload", &[]);
    assert_eq!(outcome.code, 1);
    let told = format!("virgo-profiler is in use by: mapper ({})\n", mapper.pid);
    assert!(outcome.err.contains(&told), "{}", outcome.err);
    assert!(
        outcome
            .err
            .contains("virgo-core is in use by the modules: virgo_profiler"),
        "{}",
        outcome.err
    );
    assert_eq!(both_loaded(), (true, true));
    mapper.kill();
    assert_eq!(script::run("unload", &[]), quiet(0));
    assert_eq!(both_loaded(), (false, false));
}
