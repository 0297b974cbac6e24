// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Programs of user space, over three guests: this one is node 1.

mod raw;
#[allow(dead_code, reason = "shared with tests/cluster")]
#[path = "../cluster/world.rs"]
mod world;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{symlink, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use virgo_tests::script::{self, Outcome, MOUNT_GROUPS};
use virgo_tests::wait_until;

use world::{eventually, wait_state, Cluster, ADDRESSES};

/// What may be run in these tests. Bash is there for what no simpler program does; nobody should list
/// it who means to allow some programs only.
const TABLE: &str = r#"
user = "65534:65534"
at_once = 6
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
path = "/usr/bin/sort"
[[program]]
path = "/usr/bin/yes"
[[program]]
path = "/usr/bin/env"
[[program]]
path = "/usr/bin/cat"
name = "own"
"#;

/// A program of these tests' own, which they change.
const OWN: &str = "/virgo-own";

/// Also where something else than control groups is mounted there.
fn mount_groups() -> String {
    format!(
        "{MOUNT_GROUPS}; \
         [ -e /sys/fs/cgroup/cgroup.procs ] || {{ umount /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; }}; "
    )
}

fn table() -> String {
    TABLE.replace(
        "path = \"/usr/bin/cat\"\nname = \"own\"",
        &format!("path = \"{OWN}\"\nname = \"own\""),
    )
}

fn allow(cluster: &Cluster, node: usize) {
    let script = format!(
        "{} [ -e /sys/module/virgo_cpupool ] || insmod /virgo/ko/virgo-cpupool.ko || exit 1; \
         rm -f {OWN}; cp /usr/bin/printf {OWN}; chmod 755 {OWN}; \
         cat > /tmp/programs <<'EOF'\n{}\nEOF\n virgo programs load /tmp/programs",
        mount_groups(),
        table()
    );
    cluster.on(node, &["sh", "-c", &script]);
}

/// The nodes, with the programs on all three.
fn ready() -> Cluster {
    let cluster = Cluster::up();
    for node in 1..=3 {
        allow(&cluster, node);
    }
    cluster
}

fn exec(arguments: &[&str]) -> Outcome {
    script::run("virgo", &[&["exec"], arguments].concat())
}

/// Here, and without words of its own.
fn here(arguments: &[&str]) -> Outcome {
    exec(&[&["--node", ADDRESSES[0], "--"], arguments].concat())
}

fn output(arguments: &[&str]) -> String {
    let outcome = here(arguments);
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (0, ""),
        "{arguments:?}: {}",
        outcome.out
    );
    outcome.out
}

fn runs(cluster: &Cluster, node: usize) -> usize {
    let list = cluster.virgo(1, &["--json", "runs", "--node", ADDRESSES[node - 1]]);
    list.lines()
        .filter(|line| line.contains("\"running\":true"))
        .count()
}

/// Processes of the programs' user on a node.
fn processes(cluster: &Cluster, node: usize) -> usize {
    let script = "n=0; for p in /proc/[0-9]*; do \
                  [ \"$(stat -c %u $p 2>/dev/null)\" = 65534 ] && n=$((n+1)); done; echo $n";
    let text = cluster.on(node, &["sh", "-c", script]);
    text.trim().parse().expect("a number")
}

#[test]
fn nothing_runs_unless_it_was_allowed() {
    let cluster = ready();
    cluster.virgo(1, &["programs", "clear"]);
    let outcome = here(&["id"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("no programs are set up") && outcome.err.contains("EOPNOTSUPP"),
        "{}",
        outcome.err
    );
    // Nobody but root says what may be run.
    let error = cluster.run_as_nobody(&["programs", "load", "/tmp/programs"]);
    assert!(error.contains("permission"), "{error}");
    allow(&cluster, 1);
    let list = cluster.virgo(1, &["programs", "--node", ADDRESSES[0]]);
    assert!(list.contains("sort") && list.contains("65534"), "{list}");

    for words in [
        "reboot",
        "/sbin/reboot",
        "/bin/id",
        "./id",
        "../usr/bin/id",
        "/usr/bin/../bin/id",
        "/usr//bin/id",
        "/usr/bin/id/",
        "/usr/bin/id ",
        "id;reboot",
        "i",
        "idd",
        "/",
        ".",
    ] {
        let outcome = here(&[words]);
        assert_eq!(outcome.code, 1, "{words}");
        assert!(
            outcome.err.contains("not among the programs"),
            "{words}: {}",
            outcome.err
        );
    }
    assert!(output(&["/usr/bin/id"]).contains("65534"));

    // What becomes of a program after it was allowed.
    assert_eq!(output(&["own", "good"]), "good");
    let changed = |change: &dyn Fn(), words: &str| {
        allow(&cluster, 1);
        change();
        let outcome = here(&["own", "bad"]);
        assert_eq!(outcome.code, 1, "{words}: {}", outcome.out);
        assert!(outcome.err.contains(words), "{words}: {}", outcome.err);
    };
    let mode = |mode| fs::set_permissions(OWN, fs::Permissions::from_mode(mode)).expect("chmod");
    changed(&|| mode(0o775), "only root can change");
    changed(&|| mode(0o757), "only root can change");
    changed(&|| mode(0o4755), "only root can change");
    changed(&|| mode(0o2755), "only root can change");
    changed(&|| mode(0o644), "only root can change");
    changed(
        &|| std::os::unix::fs::chown(OWN, Some(65534), None).expect("chown"),
        "only root can change",
    );
    changed(&|| fs::remove_file(OWN).expect("remove"), "not there");
    changed(
        &|| {
            fs::remove_file(OWN).expect("remove");
            symlink("/usr/bin/id", OWN).expect("a link");
        },
        "symbolic link",
    );
    changed(
        &|| {
            fs::remove_file(OWN).expect("remove");
            fs::create_dir(OWN).expect("a folder");
        },
        "only root can change",
    );
    fs::remove_dir(OWN).expect("remove");
    allow(&cluster, 1);

    // What no table may hold.
    let refused = |text: &str, words: &str| {
        fs::write("/tmp/bad-programs", text).expect("write");
        let error = cluster.virgo_error(1, &["programs", "load", "/tmp/bad-programs"]);
        assert!(error.contains(words), "{text}: {error}");
    };
    let one = |more: &str| {
        format!("user = \"65534:65534\"\n{more}\n[[program]]\npath = \"/usr/bin/id\"\n")
    };
    refused(&one("").replace("65534:", "0:"), "as root");
    refused(&one("cgroup = \"/tmp/none\""), "control group");
    refused(&one("").replace("/usr/bin/id", "/tmp/x"), "cannot find");
    fs::write("/tmp/x", "#!/bin/sh\n").expect("write");
    refused(
        &one("").replace("/usr/bin/id", "/tmp/x"),
        "others than root",
    );
    // As it was before.
    assert!(output(&["id"]).contains("65534"));
    raw::wrong_fields_are_refused();
}

#[test]
fn a_program_is_nobody_and_nothing_is_given_to_a_shell() {
    let _cluster = ready();
    let words = [
        "a b",
        "$(reboot)",
        "`id`",
        ";id",
        "|id",
        "*",
        "",
        "\\n",
        "-e",
        "ü",
        "{}",
    ];
    let mut command = vec!["printf", "[%s]"];
    command.extend(words);
    let expected: String = words
        .iter()
        .fold(String::new(), |all, word| all + "[" + word + "]");
    assert_eq!(output(&command), expected);
    assert_eq!(
        output(&["env"]),
        "PATH=/usr/local/bin:/usr/bin:/bin\nHOME=/\nLANG=C.UTF-8\n"
    );
    assert_eq!(
        output(&["id"])
            .trim()
            .replace("(nobody)", "")
            .replace("(nogroup)", ""),
        "uid=65534 gid=65534 groups=65534"
    );
    let status = output(&["cat", "/proc/self/status"]);
    for line in [
        "NoNewPrivs:\t1",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "Groups:\t ",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let group = output(&["cat", "/proc/self/cgroup"]);
    assert!(group.starts_with("0::/virgo/"), "{group}");
    // Nothing of the kernel's is open but the three.
    assert_eq!(
        output(&["bash", "-c", "cd /proc/self/fd; echo *"]).trim(),
        "0 1 2 3"
    );
    assert_eq!(
        output(&["bash", "-c", "pwd; umask; ulimit -c"]),
        "/\n0022\n0\n"
    );
    // A set-user-ID program gives it nothing.
    fs::copy("/usr/bin/id", "/tmp/suid-id").expect("copy");
    fs::set_permissions("/tmp/suid-id", fs::Permissions::from_mode(0o4755)).expect("chmod");
    let text = output(&["bash", "-c", "/tmp/suid-id -u"]);
    assert_eq!(text.trim(), "65534");
    // What root alone may read.
    fs::write("/tmp/secret", "x").expect("write");
    fs::set_permissions("/tmp/secret", fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(here(&["cat", "/tmp/secret"]).code, 1);
}

#[test]
fn output_status_and_signals_come_back() {
    let _cluster = ready();
    for (index, node) in ADDRESSES.iter().enumerate() {
        let at = |words: &[&str]| exec(&[&["--node", node, "--"], words].concat());
        let outcome = at(&["bash", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!(
            (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
            (7, "out\n", "err\n"),
            "node {index}"
        );
        let outcome = at(&["bash", "-c", "kill -TERM $$"]);
        assert_eq!(outcome.code, 128 + 15);
        assert!(outcome.err.contains("signal 15"), "{}", outcome.err);
        for status in [0, 1, 126, 255] {
            assert_eq!(at(&["bash", "-c", &format!("exit {status}")]).code, status);
        }
    }
    // Its input, of all sizes.
    for size in [0, 1, 4096, 200_000] {
        let script = format!(
            "head -c {size} /dev/urandom > /tmp/in; \
             virgo exec --node {} --stdin -- cat < /tmp/in | cmp - /tmp/in",
            ADDRESSES[1]
        );
        assert_eq!(
            script::run("bash", &["-c", &script]).code,
            0,
            "{size} bytes"
        );
    }
    assert_eq!(output(&["cat"]), "");
    // Output while it runs.
    let begin = Instant::now();
    let mut child = Command::new("virgo")
        .args([
            "exec",
            "--node",
            ADDRESSES[1],
            "--",
            "bash",
            "-c",
            "echo now; sleep 8",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("virgo");
    let mut first = [0; 4];
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut first).expect("output");
    assert_eq!(&first, b"now\n");
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    assert!(child.wait().expect("its end").success());

    // What it used.
    let outcome = exec(&[
        "--json",
        "--",
        "bash",
        "-c",
        "for ((i = 0; i < 5000; i++)); do :; done; \
         dd if=/dev/zero of=/dev/null bs=11M count=1 2>/dev/null; exit 3",
    ]);
    // The switch stands before the command as well as behind it.
    let value: Value = serde_json::from_str(&outcome.out)
        .unwrap_or_else(|error| panic!("{error}: {}{}", outcome.out, outcome.err));
    assert_eq!((value["exit"].as_i64(), outcome.code), (Some(3), 3));
    assert!(value["user_ms"].as_f64().expect("a time") > 1.0, "{value}");
    assert!(
        value["peak_bytes"].as_u64().expect("a size") > 10_000_000,
        "{value}"
    );
    assert!(
        value["elapsed_ms"].as_f64().expect("a time") > 1.0,
        "{value}"
    );
}

#[test]
fn limits_hold() {
    let cluster = ready();
    // Time, whatever it does about signals.
    let begin = Instant::now();
    let outcome = exec(&[
        "--node",
        ADDRESSES[1],
        "--time",
        "1",
        "--",
        "bash",
        "-c",
        "trap '' TERM INT HUP; (trap '' TERM; sleep 1000) & while :; do sleep 1; done",
    ]);
    assert_eq!(outcome.code, 124, "{}", outcome.err);
    assert!(outcome.err.contains("time was over"), "{}", outcome.err);
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert!(eventually(|| processes(&cluster, 2) == 0));

    // Output: all that is allowed comes, and no more.
    let outcome = here(&["yes"]);
    assert_eq!(outcome.code, 128 + 25, "{}", outcome.err);
    assert_eq!(outcome.out.len(), 256 << 10);
    assert!(outcome.err.contains("--output"), "{}", outcome.err);
    let outcome = exec(&["--output", "5000", "--", "bash", "-c", "yes >&2"]);
    assert_eq!(outcome.err.matches("y\n").count(), 2500);
    // A wish for more than the table says is no more.
    let outcome = exec(&["--output", "1G", "--", "yes"]);
    assert_eq!(outcome.out.len(), 256 << 10);

    // Memory.
    let outcome = exec(&[
        "--memory",
        "20M",
        "--",
        "bash",
        "-c",
        "dd if=/dev/zero of=/dev/null bs=30M count=1 2>/dev/null; echo $?",
    ]);
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (137, ""),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("--memory"), "{}", outcome.err);

    // Processes, with a bomb of them; and what is left behind when it ends.
    let outcome = exec(&[
        "--processes",
        "5",
        "--time",
        "3",
        "--",
        "bash",
        "-c",
        "b() { b & b & wait; }; b 2>/dev/null",
    ]);
    assert!(outcome.code != 0, "{}", outcome.err);
    assert_eq!(
        output(&[
            "bash",
            "-c",
            "sleep 1000 & setsid sleep 1000 & echo started"
        ]),
        "started\n"
    );
    assert!(eventually(|| processes(&cluster, 1) == 0));

    // As many at once as the table says.
    let many: Vec<_> = (0..6)
        .map(|_| thread::spawn(|| here(&["sleep", "4"])))
        .collect();
    assert!(eventually(|| runs(&cluster, 1) == 6));
    let outcome = here(&["id"]);
    assert!(
        outcome.code == 1 && outcome.err.contains("as many programs"),
        "{}",
        outcome.err
    );
    for run in many {
        assert_eq!(run.join().expect("a thread").code, 0);
    }
    assert_eq!(here(&["id"]).code, 0);
    // Too many words.
    let words = vec!["x"; 1024];
    let outcome = here(&[&["printf"], &words[..]].concat());
    assert!(outcome.err.contains("1024 arguments"), "{}", outcome.err);
    let long = "x".repeat(120_000);
    assert_eq!(output(&["printf", "%.2s", &long]), "xx");
}

#[test]
fn what_nobody_wants_any_more_is_killed() {
    let cluster = ready();
    for node in [1, 2] {
        // Ctrl-C.
        let begin = Instant::now();
        let mut child = Command::new("virgo")
            .args(["exec", "--node", ADDRESSES[node - 1], "--", "sleep", "18"])
            .stderr(Stdio::null())
            .spawn()
            .expect("virgo");
        assert!(eventually(|| runs(&cluster, node) == 1));
        let killed = script::run("kill", &["-INT", &child.id().to_string()]);
        assert_eq!(killed.code, 0, "{}", killed.err);
        assert_eq!(child.wait().expect("its end").code(), Some(130));
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?}",
            begin.elapsed()
        );
        assert!(eventually(|| processes(&cluster, node) == 0));

        // By its number.
        let sleeper = thread::spawn(move || {
            exec(&[
                "--node",
                ADDRESSES[node - 1],
                "--",
                "bash",
                "-c",
                "trap '' TERM; sleep 18",
            ])
        });
        assert!(eventually(|| runs(&cluster, node) == 1));
        let list = cluster.virgo(1, &["--json", "runs", "--node", ADDRESSES[node - 1]]);
        let value: Value = serde_json::from_str(list.lines().next().expect("a run")).expect("JSON");
        let id = value["id"].as_str().expect("a number");
        cluster.virgo(1, &["runs", "kill", ADDRESSES[node - 1], id]);
        let outcome = sleeper.join().expect("a thread");
        assert_eq!(outcome.code, 137);
        assert!(outcome.err.contains("killed as asked"), "{}", outcome.err);
        let error = cluster.virgo_error(1, &["runs", "kill", ADDRESSES[node - 1], "1234500"]);
        assert!(error.contains("no such run"), "{error}");
    }
    // Who started it is gone without a word: its time for that is ten seconds.
    let mut child = Command::new("virgo")
        .args(["exec", "--node", ADDRESSES[1], "--", "sleep", "19"])
        .spawn()
        .expect("virgo");
    assert!(eventually(|| runs(&cluster, 2) == 1));
    child.kill().expect("kill");
    child.wait().expect("its end");
    let begin = Instant::now();
    assert!(wait_until(Duration::from_secs(16), || processes(
        &cluster, 2
    ) == 0));
    assert!(
        begin.elapsed() > Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn lines_are_spread_and_stay_in_order() {
    let cluster = ready();
    let map = |arguments: &[&str], lines: &str| -> Outcome {
        let mut child = Command::new("virgo")
            .arg("map")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("virgo");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(lines.as_bytes())
            .expect("write");
        let output = child.wait_with_output().expect("its end");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    };
    let numbers: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let lines = numbers.join("\n") + "\n";
    let outcome = map(
        &[
            "-j", "8", "--policy", "random", "--", "printf", "<%s>\\n", "{}",
        ],
        &lines,
    );
    let expected = format!("<{}>\n", numbers.join(">\n<"));
    assert_eq!(
        (outcome.code, outcome.out),
        (0, expected),
        "{}",
        outcome.err
    );
    for node in ADDRESSES {
        let list = cluster.virgo(1, &["--json", "programs", "--node", node]);
        let count: u64 = list
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .filter(|value| value["program"] == "printf")
            .map(|value| value["runs"].as_u64().expect("a count"))
            .sum();
        assert!(count > 0, "{node}: {list}");
    }
    // Words that a shell would take apart, and lines that fail.
    let outcome = map(
        &[
            "-j",
            "3",
            "--",
            "bash",
            "-c",
            "[ \"$0\" != bad ] || exit 3; echo \"$0\"",
            "{}",
        ],
        "$(reboot)\nbad\n; id\n\n",
    );
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (1, "$(reboot)\n; id\n\n")
    );
    assert!(
        outcome.err.contains("line 2 (bad)") && outcome.err.contains("exit status 3"),
        "{}",
        outcome.err
    );
    // More at once than there are places: they wait.
    let outcome = map(
        &["-j", "16", "--node", ADDRESSES[2], "--", "sleep", "0.{}"],
        "1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n",
    );
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_eq!(map(&["--", "id"], "").code, 0);
    // A program that is not there is told for each line, and ends soon.
    let outcome = map(&["--", "nothing"], "a\nb\n");
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("2 of 2 lines failed") || outcome.err.contains("2 of"),
        "{}",
        outcome.err
    );
}

#[test]
fn modules_and_nodes_go_while_programs_run() {
    let cluster = ready();
    for _ in 0..4 {
        let sleepers: Vec<_> = (0..4)
            .map(|_| thread::spawn(|| here(&["bash", "-c", "trap '' TERM; sleep 18 & sleep 18"])))
            .collect();
        assert!(eventually(|| runs(&cluster, 1) == 4));
        let begin = Instant::now();
        // While somebody looks at a run it is refused.
        let gone = eventually(|| cluster.try_on(1, &["rmmod", "virgo-cpupool"]).code == 0);
        assert!(gone, "virgo-cpupool stays");
        assert!(
            begin.elapsed() < Duration::from_secs(15),
            "{:?}",
            begin.elapsed()
        );
        for sleeper in sleepers {
            let outcome = sleeper.join().expect("a thread");
            assert!(
                outcome.code != 0 && !outcome.err.is_empty(),
                "{}",
                outcome.err
            );
        }
        assert_eq!(processes(&cluster, 1), 0);
        allow(&cluster, 1);
    }
    // A node that dies is named; what may run twice runs elsewhere.
    let under_way = thread::spawn(|| exec(&["--node", ADDRESSES[1], "--", "sleep", "18"]));
    assert!(eventually(|| runs(&cluster, 2) == 1));
    cluster.power(2, "--kill");
    let outcome = under_way.join().expect("a thread");
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains(&cluster.id(2)) && outcome.err.contains("EHOSTDOWN"),
        "{}",
        outcome.err
    );
    cluster.power(2, "--start");
    cluster.configure(2);
    wait_state(&cluster, 2, "up");
    allow(&cluster, 2);
    let calls: Vec<_> = (0..6)
        .map(|_| {
            thread::spawn(|| {
                exec(&[
                    "--idempotent",
                    "--policy",
                    "random",
                    "--",
                    "bash",
                    "-c",
                    "echo once; sleep 4",
                ])
            })
        })
        .collect();
    assert!(eventually(|| (1..=3)
        .map(|node| runs(&cluster, node))
        .sum::<usize>()
        == 6));
    cluster.power(3, "--kill");
    for call in calls {
        let outcome = call.join().expect("a thread");
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (0, "once\n"),
            "{}",
            outcome.err
        );
    }
    cluster.power(3, "--start");
    cluster.configure(3);
    wait_state(&cluster, 3, "up");
}

#[test]
fn the_queue_has_programs_run_on_other_nodes() {
    let cluster = ready();
    let loaded = script::run(
        "sh",
        &[
            "-c",
            "insmod /virgo/ko/virgo-queue.ko listen=0 run_ms=90000",
        ],
    );
    assert_eq!(loaded.code, 0, "{}", loaded.err);
    let put = |words: &[&str]| -> String {
        let outcome = exec(&[&["--async"], words].concat());
        assert_eq!(outcome.code, 0, "{words:?}: {}", outcome.err);
        outcome.out.trim().into()
    };
    let result = |id: &str| script::run("virgo", &["queue", "result", id, "--wait", "120"]);
    for node in ADDRESSES {
        let id = put(&[
            "--node",
            node,
            "--",
            "bash",
            "-c",
            "echo out; echo err >&2; exit 7",
        ]);
        let outcome = result(&id);
        assert_eq!(
            (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
            (7, "out\n", "err\n"),
            "{node}"
        );
        let json = script::run("virgo", &["--json", "queue", "result", &id]);
        let value: Value = serde_json::from_str(&json.out).expect("JSON");
        assert_eq!(value["address"], format!("{node}:40000"), "{value}");
    }
    // Its time, by that node's own clock, and all of its output.
    let id = put(&["--node", ADDRESSES[1], "--time", "4", "--", "sleep", "18"]);
    assert_eq!(result(&id).code, 124);
    let outcome = result(&put(&["--node", ADDRESSES[2], "--", "yes"]));
    assert_eq!((outcome.code, outcome.out.len()), (128 + 25, 256 << 10));
    // A node that dies is named; what may run twice runs elsewhere.
    let once = put(&["--node", ADDRESSES[1], "--", "sleep", "50"]);
    let again: Vec<String> = (0..6)
        .map(|_| {
            put(&[
                "--idempotent",
                "--policy",
                "random",
                "--",
                "bash",
                "-c",
                "echo once; sleep 12",
            ])
        })
        .collect();
    assert!(eventually(|| (1..=3)
        .map(|node| runs(&cluster, node))
        .sum::<usize>()
        == 7));
    cluster.power(2, "--kill");
    let outcome = result(&once);
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(
        outcome.err.contains(&cluster.id(2)) && outcome.err.contains("not known"),
        "{}",
        outcome.err
    );
    for id in again {
        let outcome = result(&id);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (0, "once\n"),
            "{}",
            outcome.err
        );
    }
    let gone = script::run("rmmod", &["virgo-queue"]);
    assert_eq!(gone.code, 0, "{}", gone.err);
    cluster.power(2, "--start");
    cluster.configure(2);
    wait_state(&cluster, 2, "up");
}
