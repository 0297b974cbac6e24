// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
//! `tests/run` and `.ci/run` themselves: what they count, and what they make of programs that crash,
//! hang, or lie. They run in a copy of the repository whose guests are made up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A repository with the drivers and nothing else that is real; it goes with this value.
struct Repository(PathBuf);

impl Repository {
    /// One whose host tests pass 7 of 7, without guest suites.
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("virgo-driver-{}-{count}", std::process::id());
        let repository = Self(std::env::temp_dir().join(name));
        let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in ["scripts/lib.sh", "tests/run", ".ci/run"] {
            let text = fs::read_to_string(real.join(file)).expect("a driver");
            repository.program(file, &text);
        }
        repository.program("scripts/setup", "#!/bin/sh\n");
        repository.program("scripts/stage", "#!/bin/sh\n");
        repository.host("test result: ok. 3 passed; 0 failed; 0 ignored;\ntest result: ok. 4 passed; 0 failed; 1 ignored;", 0);
        // A guest runs the suite's own script, as the test program that the suite is.
        repository.program(
            "tests/vm",
            "#!/bin/bash\necho \"$@\" >>\"$CALLS\"\nwhile [ \"$1\" != -- ]; do shift; done\nexec \"$STAGED/${2##*/}\"\n",
        );
        for (name, release) in [
            ("stock", "7.2.1"),
            ("next", "7.3.1"),
            ("debug", "7.2.1-debug"),
        ] {
            repository.write(&format!("cache/virgo/kernel/names/{name}"), release);
        }
        repository
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    fn program(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.0.join(path), fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn host(&self, says: &str, status: i32) {
        self.program(
            "scripts/in-root",
            &format!("#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {status}\n"),
        );
    }

    /// A suite that says so and ends so, on every kernel.
    fn suite(&self, name: &str, says: &str, status: i32) {
        for release in ["7.2.1", "7.3.1", "7.2.1-debug"] {
            let script = format!("#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {status}\n");
            self.program(&format!("build/{release}/guest/bin/tests/{name}"), &script);
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        let calls = self.0.join("calls");
        fs::write(&calls, "").expect("a file");
        let path = format!(
            "{}:{}",
            self.0.join("bin").display(),
            std::env::var("PATH").expect("PATH")
        );
        let output = Command::new(self.0.join(program))
            .args(arguments)
            .env("XDG_CACHE_HOME", self.0.join("cache"))
            .env("CALLS", &calls)
            .env("STAGED", self.0.join("build/7.2.1/guest/bin/tests"))
            .env("PATH", path)
            .env("VIRGO_JOBS", "2")
            .env_remove("VIRGO_VERBOSE")
            .output()
            .expect("the driver runs");
        Outcome {
            text: String::from_utf8(output.stdout).expect("UTF-8"),
            status: output.status.code().expect("an exit status"),
            calls: fs::read_to_string(&calls).expect("a file"),
        }
    }

    fn tests(&self, arguments: &[&str]) -> Outcome {
        self.run("tests/run", arguments)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Outcome {
    text: String,
    status: i32,
    calls: String,
}

impl Outcome {
    #[track_caller]
    fn is(&self, last_line: &str, status: i32) {
        assert_eq!(self.text.lines().last(), Some(last_line), "{}", self.text);
        assert_eq!(self.status, status, "{}", self.text);
    }

    #[track_caller]
    fn says(&self, words: &str) {
        assert!(
            self.text.contains(words),
            "no \"{words}\" in: {}",
            self.text
        );
    }
}

const GOOD: &str = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured;";

#[test]
fn host_and_both_kernels_are_added_up() {
    let repository = Repository::new();
    repository.suite("core", GOOD, 0);
    repository.suite("queue", GOOD, 0);
    repository.write("tests/core/each", "");
    let suites = |outcome: &Outcome, kernel: &str| {
        let kernel = format!("--kernel {kernel} ");
        let calls = outcome.calls.lines().filter(|call| call.contains(&kernel));
        let mut suites: Vec<_> = calls
            .filter_map(|call| call.rsplit('/').next()?.split(' ').next())
            .collect();
        suites.sort_unstable();
        suites.join(" ")
    };
    // The next kernel gets what is for each, and all where it is asked for by name.
    let outcome = repository.tests(&[]);
    outcome.is("22 passed, 0 failed", 0);
    outcome.says("1 ignored");
    assert_eq!(suites(&outcome, "stock"), "core queue");
    assert_eq!(suites(&outcome, "next"), "core");
    let outcome = repository.tests(&["--kernel", "next"]);
    outcome.is("17 passed, 0 failed", 0);
    assert_eq!(suites(&outcome, "next"), "core queue");
    let outcome = repository.tests(&["--rest"]);
    outcome.is("5 passed, 0 failed", 0);
    assert_eq!(suites(&outcome, "next"), "queue");
    let outcome = repository.tests(&["--guests", "--only", "queue"]);
    outcome.is("10 passed, 0 failed", 0);
    assert_eq!(suites(&outcome, "next"), "queue");
}

#[test]
fn what_is_for_each_kernel_comes_first() {
    let repository = Repository::new();
    for name in ["a", "core", "trace"] {
        repository.suite(name, GOOD, 0);
    }
    repository.write("tests/trace/each", "");
    let outcome = repository.tests(&["--debug"]);
    let begun: Vec<_> = outcome
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("  …  debug/"))
        .collect();
    assert_eq!(begun, ["trace", "a", "core"]);
}

#[test]
fn failed_tests_are_counted_and_shown() {
    let repository = Repository::new();
    repository.suite(
        "core",
        "thread panicked at oh dear\ntest result: FAILED. 5 passed; 2 failed; 0 ignored;",
        101,
    );
    let outcome = repository.tests(&["--kernel", "stock", "--only", "core"]);
    outcome.is("5 passed, 2 failed", 1);
    outcome.says("oh dear");
}

#[test]
fn what_ends_without_a_result_has_failed() {
    for (says, status, note) in [
        ("", 0, "it told no result"),
        ("test one ... ok", 0, "it told no result"),
        ("", 124, "out of time"),
        ("", 139, "ended with status 139"),
        ("", 125, "the guest's kernel complained"),
    ] {
        let repository = Repository::new();
        repository.suite("core", says, status);
        let outcome = repository.tests(&["--kernel", "stock", "--only", "core"]);
        outcome.is("0 passed, 1 failed", 1);
        outcome.says(note);
    }
}

#[test]
fn passed_tests_do_not_make_up_for_a_bad_end() {
    for status in [1, 3, 124, 125, 137] {
        let repository = Repository::new();
        repository.suite("core", GOOD, status);
        let outcome = repository.tests(&["--kernel", "stock", "--only", "core"]);
        outcome.is("5 passed, 1 failed", 1);
    }
}

#[test]
fn time_that_is_over_is_told_and_is_no_failure() {
    let repository = Repository::new();
    repository.suite("core", GOOD, 0);
    repository.write("tests/core/vm.args", "--timeout 5");
    repository.suite("profiler", GOOD, 0);
    for (within, last_line) in [
        ("60", "0 passed, 0 failed"),
        ("100000", "10 passed, 0 failed"),
    ] {
        let output = Command::new(repository.0.join("tests/run"))
            .args(["--kernel", "stock", "--only", "core", "--only", "profiler"])
            .env("XDG_CACHE_HOME", repository.0.join("cache"))
            .env("CALLS", repository.0.join("calls"))
            .env("STAGED", repository.0.join("build/7.2.1/guest/bin/tests"))
            .env("VIRGO_WITHIN", within)
            .output()
            .expect("the driver runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(text.lines().last(), Some(last_line), "{text}");
        assert_eq!(
            text.contains("not run: the time given is over"),
            within == "60",
            "{text}"
        );
    }
}

#[test]
fn nothing_run_is_no_success() {
    let repository = Repository::new();
    repository.suite("core", GOOD, 0);
    repository
        .tests(&["--only", "nonsense"])
        .is("0 passed, 0 failed", 1);
}

#[test]
fn failing_host_tests_fail_the_run() {
    let repository = Repository::new();
    repository.host("error: could not compile", 101);
    repository.suite("core", GOOD, 0);
    repository
        .tests(&["--kernel", "stock"])
        .is("5 passed, 1 failed", 1);
}

#[test]
fn kernel_that_can_not_be_prepared_is_a_failure() {
    let repository = Repository::new();
    repository.suite("core", GOOD, 0);
    repository.program("scripts/stage", "#!/bin/sh\n[ \"$2\" = 7.2.1 ]\n");
    let outcome = repository.tests(&["--only", "core"]);
    outcome.is("5 passed, 1 failed", 1);
    outcome.says("could not be prepared");
}

#[test]
fn suites_say_how_they_want_to_be_run() {
    let repository = Repository::new();
    repository.suite("core", GOOD, 0);
    repository.suite("faults", GOOD, 0);
    repository.suite("bench-core", GOOD, 0);
    repository.write("tests/core/vm.args", "--nodes 2\n--timeout 77\n");
    repository.write("tests/faults/kernels", "debug\n");
    let outcome = repository.tests(&["--kernel", "stock", "--", "part_of_a_name"]);
    outcome.is("12 passed, 0 failed", 0);
    assert_eq!(outcome.calls.lines().count(), 1, "{}", outcome.calls);
    let call = "run --no-build --kernel stock --nodes 2 --timeout 77 -- /virgo/bin/tests/core --test-threads=1 part_of_a_name";
    assert_eq!(outcome.calls.trim_end(), call);

    let outcome = repository.tests(&["--debug"]);
    outcome.is("10 passed, 0 failed", 0);
    assert!(
        outcome.calls.contains("--kmemleak --timeout 308"),
        "{}",
        outcome.calls
    );
    assert!(
        outcome.calls.contains("/virgo/bin/tests/faults"),
        "{}",
        outcome.calls
    );
}

#[test]
fn a_runner_that_counts_in_words_is_counted() {
    let repository = Repository::new();
    repository.program(
        "tests/vm-selftest",
        "#!/bin/sh\necho '21 passed, 1 failed'\nexit 1\n",
    );
    repository.suite("core", GOOD, 0);
    repository
        .tests(&["--only", "vm"])
        .is("21 passed, 1 failed", 1);
}

#[test]
fn wrong_arguments() {
    let repository = Repository::new();
    for arguments in [&["--nonsense"][..], &["--only"], &["--kernel"]] {
        assert_eq!(repository.tests(arguments).status, 2, "{arguments:?}");
    }
}

/// A `make` that says and ends so for each target, and whether the debug kernel is cached.
fn ci(targets: &[(&str, &str, i32)], debug_cached: bool) -> Outcome {
    let repository = Repository::new();
    let mut make = String::from("#!/bin/sh\ncase $1 in\n");
    for (target, says, status) in targets {
        make += &format!("{target}) echo '{says}'; exit {status} ;;\n");
    }
    make += "*) echo \"no target $1\"; exit 2 ;;\nesac\n";
    repository.program("bin/make", &make);
    repository.program(
        "scripts/build-debug-kernel",
        if debug_cached {
            "#!/bin/sh\n"
        } else {
            "#!/bin/sh\nexit 1\n"
        },
    );
    repository.run(".ci/run", &[])
}

#[test]
fn ci_adds_up_what_it_did_and_says_so() {
    let targets = [
        ("check", "ok", 0),
        ("test", "40 passed, 0 failed", 0),
        ("test-rest", "20 passed, 0 failed", 0),
        ("test-debug", "30 passed, 0 failed", 0),
    ];
    let outcome = ci(&targets, true);
    outcome.is("90 passed, 0 failed", 0);
    outcome.says("did: make check, make test, make test-rest, make test-debug; in");
    let outcome = ci(&targets, false);
    // Nor does it build that kernel where building and testing would not fit into its time.
    outcome.is("60 passed, 0 failed", 0);
    outcome.says("not make test-debug: its kernel is not cached");
}

#[test]
fn ci_fails_with_any_part() {
    for (broken, last_line) in [
        ("check", "90 passed, 1 failed"),
        ("test", "90 passed, 1 failed"),
        ("test-rest", "90 passed, 1 failed"),
        ("test-debug", "90 passed, 1 failed"),
    ] {
        let status = |target| i32::from(broken == target) * 2;
        let targets = [
            ("check", "ok", status("check")),
            ("test", "40 passed, 0 failed", status("test")),
            ("test-rest", "20 passed, 0 failed", status("test-rest")),
            ("test-debug", "30 passed, 0 failed", status("test-debug")),
        ];
        ci(&targets, true).is(last_line, 1);
    }
    let outcome = ci(
        &[
            ("check", "ok", 0),
            ("test", "setup died", 2),
            ("test-rest", "20 passed, 0 failed", 0),
            ("test-debug", "30 passed, 0 failed", 0),
        ],
        true,
    );
    outcome.is("50 passed, 1 failed", 1);
}

#[test]
fn ci_wants_make_test_whole_and_tells_of_the_rest() {
    const CUT: &str = "next/queue   not run: the time given is over\n10 passed, 0 failed";
    for (cut, last_line, status) in [
        ("test", "40 passed, 1 failed", 1),
        ("test-rest", "40 passed, 0 failed", 0),
    ] {
        let says = |target| {
            if cut == target {
                CUT
            } else {
                "30 passed, 0 failed"
            }
        };
        let outcome = ci(
            &[
                ("check", "ok", 0),
                ("test", says("test"), 0),
                ("test-rest", says("test-rest"), 0),
            ],
            false,
        );
        outcome.is(last_line, status);
        outcome.says(if cut == "test" {
            "make test did not get to its end in time"
        } else {
            "(not all of test-rest: 1 suites did not fit into the time)"
        });
    }
}

#[test]
fn suites_run_beside_each_other_unless_alone() {
    let repository = Repository::new();
    // Each says it is there, and passes only if it meets the other within a few seconds.
    for (name, other) in [("a", "b"), ("b", "a")] {
        let meet = format!(
            "#!/bin/bash\ntouch \"$CALLS.{name}\"\nfor ((i = 0; i < 500; i++)); do\n\
             [ ! -e \"$CALLS.{other}\" ] || {{ echo '{GOOD}'; exit 0; }}\nsleep 0.01\ndone\n\
             echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored;'\nexit 101\n"
        );
        repository.program(&format!("build/7.2.1/guest/bin/tests/{name}"), &meet);
    }
    // By its name it would be the first; it passes only if both have been there, and are gone.
    let alone = format!(
        "#!/bin/bash\n[ -e \"$CALLS.a\" ] && [ -e \"$CALLS.b\" ] && ! pgrep -f \"$STAGED/[ab]$\" &&\n\
         echo '{GOOD}'\n"
    );
    repository.program("build/7.2.1/guest/bin/tests/0alone", &alone);
    repository.write("tests/0alone/alone", "");
    let arguments = ["--guests", "--kernel", "stock"];
    let outcome = repository.tests(&arguments);
    outcome.is("15 passed, 0 failed", 0);
}
