// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Programs that the queue has run.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use virgo::queue::{Answer, Options, Queue};
use virgo_tests::script::{self, Outcome, MOUNT_GROUPS};
use virgo_tests::{module, wait_until, SOON};

use crate::client::{ours, Client, Ours, MODULE, PORT};

const CPUPOOL: &str = "virgo-cpupool";
const TUBE: &str = "virgo.cpupool";
/// Bash is there for what no simpler program does; nobody should list it who means to allow some
/// programs only.
const TABLE: &str = r#"
user = "65534:65534"
at_once = 2
[limits]
time = 60
memory = "64M"
output = "256K"
processes = 20
[[program]]
path = "/usr/bin/bash"
[[program]]
path = "/usr/bin/cat"
[[program]]
path = "/usr/bin/id"
[[program]]
path = "/usr/bin/printf"
[[program]]
path = "/usr/bin/sleep"
[[program]]
path = "/usr/bin/yes"
"#;

fn allow() {
    fs::write("/tmp/queue-programs", TABLE).expect("write");
    let script = format!("{MOUNT_GROUPS}; exec virgo programs load /tmp/queue-programs");
    let outcome = script::run("sh", &["-c", &script]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
}

/// Both modules, and programs that may be run, two at once.
fn ready(parameters: &str) -> Ours {
    let machine = ours(parameters);
    module::load(CPUPOOL, "").expect("virgo-cpupool loads");
    allow();
    machine
}

/// Leaves a program to the queue; its number there.
fn put(words: &[&str]) -> u64 {
    let outcome = script::run("virgo", &[&["exec", "--async"], words].concat());
    assert_eq!(outcome.code, 0, "{words:?}: {}", outcome.err);
    outcome.out.trim().parse().expect("a number")
}

fn result(id: u64) -> Outcome {
    let id = id.to_string();
    script::run("virgo", &["queue", "result", &id, "--wait", "60"])
}

fn ask(words: &[&str]) -> Outcome {
    result(put(words))
}

/// A request as bytes; the errno that it failed with.
fn errno(queue: &Queue, tube: &str, request: &[u8]) -> i32 {
    let options = Options {
        ttr: Duration::from_secs(30),
        ..Options::default()
    };
    let id = queue.put(tube, request, options).expect("put");
    let mut last = Answer::NotYet;
    assert!(wait_until(SOON, || {
        last = queue.result(id).expect("the answer");
        last != Answer::NotYet
    }));
    match last {
        Answer::Failed(errno, words) => {
            assert!(!words.is_empty(), "{errno} without words");
            errno.raw_os_error()
        }
        other => panic!("{}: {other:?}", request.escape_ascii()),
    }
}

/// Processes of the programs' user.
fn processes() -> usize {
    let script = "n=0; for p in /proc/[0-9]*; do \
                  [ \"$(stat -c %u $p 2>/dev/null)\" = 65534 ] && n=$((n+1)); done; echo $n";
    let outcome = script::run("sh", &["-c", script]);
    outcome.out.trim().parse().expect("a number")
}

fn runs() -> usize {
    let outcome = script::run("virgo", &["--json", "runs"]);
    outcome.out.matches("\"running\":true").count()
}

#[test]
fn output_and_status_are_kept() {
    let _modules = ready("");
    let outcome = ask(&["--", "bash", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
        (7, "out\n", "err\n")
    );
    // As often as one asks.
    let id = put(&["--", "bash", "-c", "kill -TERM $$"]);
    for _ in 0..2 {
        let outcome = result(id);
        assert_eq!(outcome.code, 128 + 15);
        assert!(outcome.err.contains("signal 15"), "{}", outcome.err);
    }
    // Nothing is given to a shell, and it is nobody.
    let words = ["a b", "$(reboot)", ";id", "*", "", "@here", "ü", "{}"];
    let outcome = ask(&[&["--", "printf", "[%s]"], &words[..]].concat());
    assert_eq!(outcome.out, format!("[{}]", words.join("][")));
    assert!(ask(&["--", "id"]).out.starts_with("uid=65534"));
    let status = ask(&["--", "cat", "/proc/self/status"]).out;
    for line in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    // Its input, as long as a request may be; bytes.
    for size in [0, 1, 60_000] {
        let script = format!(
            "head -c {size} /dev/urandom > /tmp/in; \
             virgo queue result --wait 60 $(virgo exec --async --stdin -- cat < /tmp/in) | cmp - /tmp/in"
        );
        let outcome = script::run("bash", &["-c", &script]);
        assert_eq!(outcome.code, 0, "{size} bytes: {}", outcome.err);
    }
    let outcome = script::run(
        "bash",
        &[
            "-c",
            "head -c 70000 /dev/zero | virgo exec --async --stdin -- cat",
        ],
    );
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.contains("E2BIG"), "{}", outcome.err);

    let id = put(&["--", "bash", "-c", "echo out; exit 3"]).to_string();
    let outcome = script::run("virgo", &["--json", "queue", "result", &id, "--wait", "60"]);
    let value: Value = serde_json::from_str(&outcome.out).expect("JSON");
    assert_eq!(outcome.code, 3);
    assert_eq!(value["exit"].as_i64(), Some(3), "{value}");
    assert_eq!(value["output"], "out\n", "{value}");
    assert!(value["elapsed_ms"].as_f64().expect("a time") > 0.0);
    assert!(value["peak_bytes"].as_u64().expect("a size") > 0);
}

#[test]
fn what_may_not_run_does_not() {
    let _modules = ready("");
    for program in [
        "reboot",
        "/sbin/reboot",
        "../usr/bin/id",
        "/usr/bin/../bin/id",
        "id;reboot",
    ] {
        let outcome = ask(&["--", program]);
        assert_eq!((outcome.code, outcome.out.as_str()), (1, ""), "{program}");
        assert!(
            outcome.err.contains("not among the programs"),
            "{program}: {}",
            outcome.err
        );
    }
    let queue = Queue::open().expect("the device");
    let start = |length: u32, rest: &[u8]| {
        let mut request = b"@program ".to_vec();
        request.extend_from_slice(&[0; 24]);
        request.extend_from_slice(&length.to_le_bytes());
        request.extend_from_slice(&[0; 4]);
        request.extend_from_slice(rest);
        request
    };
    for request in [
        b"@program ".to_vec(),
        b"@program id".to_vec(),
        b"@nowhere @program id".to_vec(),
        start(3, b"id"),
        start(2, b"id"),
        start(0, b""),
        start(1, b"\0"),
        start(4, b"\0id\0"),
        start(u32::MAX, b"id\0"),
        start(2000, &[b"id\0".to_vec(), vec![0; 1997]].concat()),
    ] {
        assert_eq!(errno(&queue, TUBE, &request), libc::EINVAL);
    }
    let mut reserved = start(3, b"id\0");
    reserved[9 + 28] = 1;
    assert_eq!(errno(&queue, TUBE, &reserved), libc::EINVAL);
    assert_eq!(
        errno(&queue, "virgo.mempool", &start(3, b"id\0")),
        libc::EINVAL
    );
    // No node of this number.
    let elsewhere = [&b"@0a4d0063 "[..], &start(3, b"id\0")].concat();
    assert_eq!(errno(&queue, TUBE, &elsewhere), libc::ENOENT);
    // Not by the port, where anybody can connect.
    let mut client = Client::connect(PORT);
    client.ask(&format!("use {TUBE}"));
    assert_eq!(client.try_put("0 0 60", &start(3, b"id\0")), "DRAINING\r\n");

    let cleared = script::run("virgo", &["programs", "clear"]);
    assert_eq!(cleared.code, 0, "{}", cleared.err);
    let outcome = ask(&["--", "id"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("no programs are set up"),
        "{}",
        outcome.err
    );
    module::unload(CPUPOOL).expect("it unloads");
    let outcome = ask(&["--", "id"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("is not loaded there"),
        "{}",
        outcome.err
    );
    assert_eq!(errno(&queue, TUBE, &start(3, b"id\0")), libc::ENODEV);
}

#[test]
fn limits_hold() {
    let modules = ready("run_ms=8000");
    // Time, whatever it does about signals; what it had written is kept.
    let deaf =
        "echo before; trap '' TERM INT; (trap '' TERM; sleep 1000) & while :; do sleep 1; done";
    for words in [
        &["--time", "4", "--", "bash", "-c", deaf][..],
        &["--", "bash", "-c", deaf],
    ] {
        let outcome = ask(words);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (124, "before\n"),
            "{}",
            outcome.err
        );
        assert!(outcome.err.contains("time was over"), "{}", outcome.err);
        assert!(wait_until(SOON, || processes() == 0));
    }
    // Output: all that is allowed is kept, and no more.
    let outcome = ask(&["--", "yes"]);
    assert_eq!((outcome.code, outcome.out.len()), (128 + 25, 256 << 10));
    let outcome = ask(&["--output", "5000", "--", "bash", "-c", "yes >&2"]);
    assert_eq!(outcome.err.matches("y\n").count(), 2500);
    // A wish for more is none.
    assert_eq!(ask(&["--output", "1G", "--", "yes"]).out.len(), 256 << 10);
    // Memory.
    let big = "dd if=/dev/zero of=/dev/null bs=30M count=1 2>/dev/null; echo $?";
    let outcome = ask(&["--memory", "20M", "--", "bash", "-c", big]);
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (137, ""),
        "{}",
        outcome.err
    );
    // What is left behind by one that ends goes too.
    let outcome = ask(&[
        "--",
        "bash",
        "-c",
        "sleep 1000 & setsid sleep 1000 & echo started",
    ]);
    assert_eq!(outcome.out, "started\n");
    assert!(wait_until(SOON, || processes() == 0));
    drop(modules);

    // The queue's own bound is less than the table's: an answer has a quarter of its memory.
    let _modules = ready("max_mb=1");
    let outcome = ask(&["--", "yes"]);
    assert_eq!(
        (outcome.code, outcome.out.len()),
        (128 + 25, ((256 << 10) - 56) / 2)
    );
}

#[test]
fn a_program_waits_for_a_place() {
    let _modules = ready("");
    // Two at once, and the queue would serve eight.
    let ids: Vec<u64> = (0..8)
        .map(|n| put(&["--", "bash", "-c", &format!("sleep 0.3; echo {n}")]))
        .collect();
    for (n, id) in ids.into_iter().enumerate() {
        let outcome = result(id);
        assert_eq!(
            (outcome.code, outcome.out),
            (0, format!("{n}\n")),
            "{}",
            outcome.err
        );
    }
    // No longer than it may take, though.
    let long = [put(&["--", "sleep", "50"]), put(&["--", "sleep", "50"])];
    assert!(wait_until(SOON, || runs() == 2));
    let outcome = ask(&["--time", "1", "--", "id"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("as many programs"), "{}", outcome.err);
    // Those are killed as any run is.
    let list = script::run("virgo", &["--json", "runs"]).out;
    for line in list.lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let (node, id) = (value["address"].as_str(), value["id"].as_str());
        let (node, id) = (node.expect("a node"), id.expect("a number"));
        let killed = script::run("virgo", &["runs", "kill", node, id]);
        assert_eq!(killed.code, 0, "{}", killed.err);
    }
    for id in long {
        let outcome = result(id);
        assert_eq!(outcome.code, 137);
        assert!(outcome.err.contains("killed as asked"), "{}", outcome.err);
    }
}

#[test]
fn what_was_begun_before_is_not_begun_again() {
    let _modules = ready("");
    let queue = Queue::open().expect("the device");
    let mut client = Client::connect(PORT);
    let later = Options {
        delay: Duration::from_secs(600),
        ..Options::default()
    };
    for again in [false, true] {
        let mut request = if again {
            b"@again ".to_vec()
        } else {
            Vec::new()
        };
        request.extend_from_slice(b"@program ");
        request.extend_from_slice(&[0; 24]);
        request.extend_from_slice(&10_u64.to_le_bytes());
        request.extend_from_slice(b"printf\0x\0\0");
        let id = queue.put(TUBE, &request, later).expect("put");
        let reserved = client.ask(&format!("reserve-job {id}"));
        assert!(reserved.starts_with("RESERVED"), "{reserved}");
        assert_eq!(client.ask(&format!("release {id} 0 0")), "RELEASED\r\n");
        let outcome = result(id);
        if again {
            assert_eq!(
                (outcome.code, outcome.out.as_str()),
                (0, "x"),
                "{}",
                outcome.err
            );
        } else {
            assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
            assert!(outcome.err.contains("not known"), "{}", outcome.err);
        }
    }
}

#[test]
fn modules_go_while_programs_run() {
    let modules = ready("");
    for _ in 0..3 {
        let ids = [put(&["--", "sleep", "50"]), put(&["--", "sleep", "50"])];
        assert!(wait_until(SOON, || runs() == 2));
        // While it is asked about a run it stays.
        let gone = wait_until(SOON, || script::run("rmmod", &[CPUPOOL]).code == 0);
        assert!(gone, "virgo-cpupool stays");
        assert_eq!(processes(), 0);
        for id in ids {
            let outcome = result(id);
            assert!(
                outcome.code != 0 && outcome.out.is_empty(),
                "{}",
                outcome.out
            );
            assert!(!outcome.err.is_empty());
        }
        module::load(CPUPOOL, "").expect("it loads");
        allow();
    }
    // The queue waits for what it has begun.
    let mark = "/tmp/queue-mark";
    let _ = fs::remove_file(mark);
    let script = format!("umask 0; sleep 1; echo done > {mark}");
    put(&["--", "bash", "-c", &script]);
    assert!(wait_until(SOON, || runs() == 1));
    module::unload(MODULE).expect("virgo-queue unloads");
    assert_eq!(fs::read_to_string(mark).expect("the mark"), "done\n");
    module::load(MODULE, "").expect("virgo-queue loads");
    drop(modules);
}
