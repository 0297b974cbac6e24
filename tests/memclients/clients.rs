// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Clients that others have written, unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::servers::{Both, Ours, OURS};

/// What a program did, all it said in one.
struct Ran {
    code: i32,
    out: String,
}

fn run(command: &mut Command) -> Ran {
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut out = String::from_utf8_lossy(&output.stdout).into_owned();
    out.push_str(&String::from_utf8_lossy(&output.stderr));
    Ran {
        code: output.status.code().unwrap_or(-1),
        out,
    }
}

fn shell(script: &str, port: u16) -> Ran {
    run(Command::new("sh")
        .args(["-euc", script, "sh"])
        .arg(format!("127.0.0.1:{port}"))
        .arg(port.to_string()))
}

/// The same script says the same with both servers, and ends well.
fn alike(both: &Both, run: impl Fn(u16) -> Ran) -> String {
    let (theirs, ours) = (run(both.theirs.port), run(both.ours));
    assert_eq!(theirs.code, 0, "with memcached itself:\n{}", theirs.out);
    assert_eq!(
        ours.code, 0,
        "{}\nwith memcached:\n{}",
        ours.out, theirs.out
    );
    assert_eq!(ours.out, theirs.out);
    assert!(!ours.out.is_empty());
    ours.out
}

/// A script of ours, as a file for its interpreter.
fn script(name: &str, text: &str) -> PathBuf {
    let path = Path::new("/tmp").join(name);
    fs::write(&path, text).expect("write a script");
    path
}

#[test]
fn memccapable_passes_27_of_27() {
    let both = Both::start();
    let out = alike(&both, |port| {
        shell("exec memccapable -h 127.0.0.1 -p \"$2\" -a 2>&1", port)
    });
    assert_eq!(out.matches("[pass]").count(), 27, "{out}");
    assert!(out.contains("All tests passed"), "{out}");
}

#[test]
fn libmemcached_tools_copy_list_and_delete() {
    let both = Both::start();
    let out = alike(&both, |port| {
        shell(
            r#"
            mkdir -p /tmp/memc && cd /tmp/memc && rm -f *
            printf 'hello, world' >one
            head -c 300000 /dev/zero | tr '\0' 'x' >two
            : >three
            memccp --servers="$1" one two three
            memccat --servers="$1" one
            memccat --servers="$1" two | sha256sum
            memccat --servers="$1" --file=copy two && cmp two copy && echo same
            memcexist --servers="$1" one && echo there
            memcexist --servers="$1" nothing || echo "not there: $?"
            memctouch --servers="$1" --expire=1000 one && echo touched
            memcrm --servers="$1" one && echo removed
            memcexist --servers="$1" one || echo "gone: $?"
            memcping --servers="$1" && echo up
            memcflush --servers="$1" && echo flushed
            memccat --servers="$1" two || echo "flushed: $?"
            memcstat --servers="$1" | sed -n 's/^ *\(cmd_get\|curr_items\|get_hits\): /\1 /p' | cut -d' ' -f1
            "#,
            port,
        )
    });
    for word in [
        "hello, world",
        "same",
        "there",
        "touched",
        "removed",
        "up",
        "flushed",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
}

#[test]
fn memcstat_finds_memcacheds_figures() {
    let both = Both::start();
    let names = |port| {
        let ran = shell("memcstat --servers=\"$1\"", port);
        assert_eq!(ran.code, 0, "{}", ran.out);
        let mut names: Vec<String> = ran
            .out
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .map(|(name, _)| name.to_owned())
            .collect();
        names.sort();
        names
    };
    let (theirs, ours) = (names(both.theirs.port), names(both.ours));
    // What tools look at. The rest of memcached's are figures of its own insides.
    for name in [
        "pid",
        "uptime",
        "time",
        "version",
        "curr_connections",
        "total_connections",
        "cmd_get",
        "cmd_set",
        "cmd_flush",
        "cmd_touch",
        "get_hits",
        "get_misses",
        "delete_hits",
        "delete_misses",
        "incr_hits",
        "incr_misses",
        "decr_hits",
        "decr_misses",
        "cas_hits",
        "cas_misses",
        "cas_badval",
        "touch_hits",
        "touch_misses",
        "bytes",
        "curr_items",
        "total_items",
        "limit_maxbytes",
        "evictions",
        "bytes_read",
        "bytes_written",
        "threads",
    ] {
        assert!(
            theirs.iter().any(|own| own == name),
            "memcached has no {name}"
        );
        assert!(ours.iter().any(|own| own == name), "no {name} in {ours:?}");
    }
}

#[test]
fn memcslap_and_memcaslap_find_no_fault() {
    let both = Both::start();
    for test in ["get", "set", "mget"] {
        let ran = run(Command::new("memcslap").args([
            &format!("--servers=127.0.0.1:{}", both.ours),
            "--concurrency=8",
            "--execute-number=500",
            "--initial-load=500",
            &format!("--test={test}"),
        ]));
        assert_eq!(ran.code, 0, "memcslap {test}: {}", ran.out);
    }
    // Eight threads' worth of connections for two seconds; each value that is read is compared.
    let ran = shell(
        "exec memcaslap -s \"$1\" -T 2 -c 32 -t 2s -v 1.0 -X 400 2>&1",
        both.ours,
    );
    assert_eq!(ran.code, 0, "memcaslap: {}", ran.out);
    let figure = |name: &str| -> u64 {
        ran.out
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {}", ran.out))
    };
    assert!(
        figure("cmd_get:") > 0 && figure("cmd_set:") > 0,
        "{}",
        ran.out
    );
    for name in ["get_misses:", "verify_misses:", "verify_failed:"] {
        assert_eq!(figure(name), 0, "{name} {}", ran.out);
    }
}

#[test]
fn pylibmc_says_the_same_as_with_memcached() {
    let both = Both::start();
    let path = script("use-pylibmc.py", include_str!("clients/pylibmc.py"));
    let out = alike(&both, |port| {
        run(Command::new("python3").arg(&path).arg(port.to_string()))
    });
    assert!(out.ends_with("done\n"), "{out}");
}

#[test]
fn pymemcache_of_debian_says_the_same_as_with_memcached() {
    let both = Both::start();
    let path = script("use-pymemcache.py", include_str!("clients/pymemcache.py"));
    let out = alike(&both, |port| {
        run(Command::new("python3").arg(&path).arg(port.to_string()))
    });
    assert!(out.ends_with("done\n"), "{out}");
}

#[test]
fn perls_client_says_the_same_as_with_memcached() {
    let both = Both::start();
    let path = script("use-memcached.pl", include_str!("clients/memcached.pl"));
    let out = alike(&both, |port| {
        run(Command::new("perl").arg(&path).arg(port.to_string()))
    });
    assert!(out.ends_with("done\n"), "{out}");
}

#[test]
fn phps_client_says_the_same_as_with_memcached() {
    let both = Both::start();
    let path = script("use-memcached.php", include_str!("clients/memcached.php"));
    let out = alike(&both, |port| {
        run(Command::new("php").arg(&path).arg(port.to_string()))
    });
    assert!(out.ends_with("done\n"), "{out}");
}

/// The suite that pymemcache's own authors test it with, as it is on PyPI.
#[test]
fn pymemcaches_own_suite_passes() {
    let _ours = Ours::start();
    let suite = |port: u16| {
        run(Command::new("python3")
            .env("PYTHONPATH", "/opt/pypi")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir("/tmp")
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
            // TLS and speed are not what is asked.
            .args(["-m", "not tls and not benchmark"])
            .args(["/opt/pypi/pymemcache/test", "--server", "127.0.0.1"])
            // It wants zstd's module of PyPI, which is no matter of the server's.
            .args(["--ignore", "/opt/pypi/pymemcache/test/test_compression.py"])
            .args(["--port", &port.to_string()]))
    };
    let passed = |ran: &Ran| -> u32 {
        let words: Vec<&str> = ran.out.split_whitespace().collect();
        words
            .windows(2)
            .rev()
            .find(|two| two[1].starts_with("passed"))
            .and_then(|two| two[0].parse().ok())
            .unwrap_or(0)
    };
    let ours = suite(OURS);
    assert_eq!(ours.code, 0, "{}", ours.out);
    assert!(passed(&ours) > 500, "{}", ours.out);
}
