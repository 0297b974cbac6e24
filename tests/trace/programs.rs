// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Programs of Debian's that nobody here wrote, by the tool.

use std::path::PathBuf;
use std::process::Command;

use virgo::trace::{History, FAULT_OTHER};

use crate::check_counts;

/// Runs a command under `virgo trace run`.
fn trace(name: &str, follow: bool, command: &[&str]) -> History {
    let out: PathBuf = std::env::temp_dir().join("virgo-programs.trace");
    let mut run = Command::new("/virgo/bin/virgo");
    run.args(["trace", "run"]);
    if follow {
        run.arg("--follow");
    }
    let output = run
        .arg(&out)
        .arg("--")
        .args(command)
        .output()
        .expect("virgo runs");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = std::fs::File::open(&out).expect("the trace");
    let history = History::read(file).expect("a trace");
    let _ = std::fs::remove_file(out);
    check_counts(&history);
    let lost = history
        .faults
        .iter()
        .filter(|fault| fault.region == u32::MAX && !fault.is(FAULT_OTHER))
        .count();
    assert_eq!(lost, 0, "{command:?}: every fault is in a region");
    println!(
        "{name}: {} faults of {} processes, {} dropped, {} changes of maps",
        history.faults.len(),
        history.processes.len(),
        history.dropped,
        history.map_changes
    );
    history
}

#[test]
fn a_shell_that_forks() {
    let history = trace(
        "sh",
        true,
        &["sh", "-c", "ls / >/dev/null; cat /etc/passwd | wc -l"],
    );
    assert!(history.processes.len() >= 4);
    assert!(history.execs.len() >= 3);
}

#[test]
fn programs_alone() {
    trace("true", false, &["true"]);
    trace("ls", false, &["ls", "-lR", "/etc"]);
    trace(
        "dd",
        false,
        &["dd", "if=/dev/zero", "of=/dev/null", "bs=4M", "count=2"],
    );
    trace(
        "sort",
        false,
        &["sh", "-c", "seq 20000 | sort -R | sort -n | tail -n 1"],
    );
}

#[test]
fn python() {
    trace(
        "python",
        false,
        &[
            "python3",
            "-c",
            "import json, re, decimal; print(len(json.dumps(list(range(9999)))))",
        ],
    );
}

#[test]
fn gcc() {
    std::fs::write(
        "/tmp/virgo.c",
        "#include <stdio.h>\nint main(void) { puts(\"x\"); }\n",
    )
    .expect("a source file");
    let history = trace(
        "gcc",
        true,
        &["gcc", "-O2", "-o", "/tmp/virgo.out", "/tmp/virgo.c"],
    );
    assert!(history.processes.len() >= 4);
}

#[test]
fn sqlite() {
    trace(
        "sqlite",
        false,
        &[
            "sqlite3",
            "/tmp/virgo.db",
            "drop table if exists t; create table t(a, b); with recursive n(i) as (select 1 \
             union all select i + 1 from n where i < 5000) insert into t select i, \
             hex(randomblob(50)) from n; create index x on t(b); select count(*) from t;",
        ],
    );
}

#[test]
fn stress_ng() {
    for words in [
        "--fault 1 --fault-ops 200",
        "--mmap 1 --mmap-ops 2 --mmap-bytes 256K",
        "--vm 1 --vm-ops 200 --vm-bytes 4M",
        "--brk 1 --brk-ops 100",
        "--mremap 1 --mremap-ops 5 --mremap-bytes 1M",
        "--stack 1 --stack-ops 5",
    ] {
        let mut command = vec!["stress-ng", "--temp-path", "/tmp", "--quiet"];
        command.extend(words.split(' '));
        trace(words, true, &command);
    }
}
