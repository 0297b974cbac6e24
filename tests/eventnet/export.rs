// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo events` and `virgo export` with the module there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use virgo_tests::script;
use virgo_tests::{module, wait_until, SOON};

use crate::world::{ours, tell, Client, Folder};

fn virgo(arguments: &[&str]) -> String {
    let outcome = script::run("virgo", arguments);
    assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
    outcome.out
}

#[test]
fn events_by_the_command() {
    let folder = Folder::new("command");
    let _ours = ours(&folder, "");
    virgo(&["events", "log", "vertex", "sale", "alice,bob", "shop"]);
    virgo(&["events", "log", "edge", "sale", "invoice"]);
    Client::connect().update("eventnet_edgemsg#invoice#payment#");
    assert_eq!(
        virgo(&["events", "order", "--original"]),
        "0 - sale \n1 - invoice \n2 - payment \n"
    );
    assert_eq!(
        virgo(&["events", "order"]),
        "0 - sale (alice,bob,shop)\n1 - invoice\n2 - payment\n"
    );
    assert_eq!(
        virgo(&["events", "path", "sale", "payment"])
            .lines()
            .count(),
        3
    );
    assert_eq!(
        virgo(&["events", "ancestors", "payment"]).lines().count(),
        2
    );
    let refused = script::run("virgo", &["events", "log", "edge", "a,b", "c"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("a name has no ,"), "{}", refused.err);
    assert!(virgo(&["events", "set", "--modules", "queue"]).contains("modules queue"));
    tell("log 3");
    assert!(wait_until(SOON, || virgo(&["events", "ls"])
        .contains("queue test 00000002")));
    // What comes is printed as it comes.
    let mut tail = Command::new("virgo")
        .args(["events", "tail", "-n", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("virgo");
    let mut n = 0;
    let ended = wait_until(SOON, || {
        n += 1;
        virgo(&["events", "log", "edge", "tail", &format!("n{n}")]);
        tail.try_wait().expect("wait").is_some()
    });
    assert!(ended, "it saw nothing");
    let mut text = String::new();
    tail.stdout
        .take()
        .expect("its output")
        .read_to_string(&mut text)
        .expect("text");
    assert!(text.starts_with("tail -> n"), "{text}");
}

/// Prometheus's own checker has nothing to say.
#[test]
fn promtool_finds_no_fault() {
    let folder = Folder::new("export");
    let _ours = ours(&folder, "");
    for name in ["virgo-queue", "virgo-mempool", "virgo-profiler"] {
        module::load(name, "").expect("it loads");
    }
    let text = virgo(&["export"]);
    assert!(text.contains("virgo_eventnet_edges_total 0"), "{text}");
    assert!(text.contains("virgo_module_loaded{module=\"queue\"} 1"));
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, from Debian's prometheus");
    let mut input = check.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("write");
    drop(input);
    let output = check.wait_with_output().expect("promtool");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );

    let mut server = Command::new("virgo")
        .args(["export", "--listen", "127.0.0.1:9634"])
        .stderr(Stdio::null())
        .spawn()
        .expect("virgo");
    let mut page = String::new();
    let served = wait_until(SOON, || ask().map(|answer| page = answer).is_ok());
    server.kill().expect("kill");
    server.wait().expect("wait");
    assert!(served && page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("virgo_module_loaded{module=\"eventnet\"} 1"));
    for name in ["virgo-queue", "virgo-mempool", "virgo-profiler"] {
        module::unload(name).expect("it unloads");
    }
}

/// A page of the exporter's, headers and all.
fn ask() -> std::io::Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:9634")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}
