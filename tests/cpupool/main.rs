// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Kernel functions by name, over three guests: this one is node 1.

#[allow(dead_code, reason = "shared with tests/cluster")]
#[path = "../cluster/world.rs"]
mod world;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use virgo_tests::script::{self, Outcome};

use world::{eventually, wait_state, Cluster, ADDRESSES};

const SENTENCE: &str = "virgo_cloudexec_sendto(): cloudclonethread executed for clone_func(), \
                        sending message to virgo_clone() remote syscall client";

/// The pool and the example on all three nodes.
fn pool() -> Cluster {
    let cluster = Cluster::up();
    for node in 1..=3 {
        load(&cluster, node);
    }
    cluster
}

fn load(cluster: &Cluster, node: usize) {
    let script = "for m in cpupool example; do \
                  [ -e /sys/module/virgo_$m ] || insmod /virgo/ko/virgo-$m.ko || exit 1; done";
    cluster.on(node, &["sh", "-c", script]);
}

fn virgo(arguments: &[&str]) -> Outcome {
    script::run("virgo", arguments)
}

fn call(arguments: &[&str]) -> String {
    let outcome = virgo(&[&["call"], arguments].concat());
    assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
    outcome.out
}

fn refused(arguments: &[&str]) -> String {
    let outcome = virgo(&[&["call"], arguments].concat());
    assert_eq!(outcome.code, 1, "{arguments:?}: {}", outcome.out);
    outcome.err
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect("127.0.0.1:10000").expect("the port is open");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a time limit");
    stream
}

/// Sends all, ends, and reads all.
fn telnet(words: &[u8]) -> String {
    let mut stream = connect();
    stream.write_all(words).expect("send");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn functions_are_called_here_and_there() {
    let cluster = pool();
    assert_eq!(call(&["primes", "1000000"]), "78498\n");
    assert_eq!(call(&["example_sum", "1", "2", "-4"]), "-1\n");
    assert_eq!(call(&["--", "echo", "a", "b"]), "a b\n");
    for (index, address) in ADDRESSES.iter().enumerate() {
        assert_eq!(call(&["--node", address, "primes", "100"]), "25\n");
        let name = call(&["--node", address, "uname"]);
        assert!(
            name.starts_with(&format!("node{} Linux version", index + 1)),
            "{name}"
        );
        assert_eq!(call(&["--node", address, "loadavg"]).split(' ').count(), 5);
        assert!(call(&["--node", address, "meminfo"]).contains("MemTotal:"));
        assert_eq!(
            call(&["--node", address, "virgo_cloud_test_kernelspace"]).trim(),
            SENTENCE
        );
        assert_eq!(call(&["--node", address, "example_sum", "7", "8"]), "15\n");
    }
    let text = call(&["--json", "--node", ADDRESSES[1], "primes", "10"]);
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["output"], "4");
    assert_eq!(value["address"], "10.77.0.2:40000");

    // Large ones, through a pipe.
    let script = "head -c 1900000 /dev/zero | virgo call --node 10.77.0.3 --stdin echo | cmp - \
                  <(head -c 1900000 /dev/zero)";
    cluster.on(1, &["bash", "-c", script]);

    // The list, with each node's counts.
    let list = cluster.virgo(1, &["functions", "--json"]);
    for address in ADDRESSES {
        let here = list
            .lines()
            .filter(|line| line.contains(&format!("{address}:")))
            .count();
        assert_eq!(here, 8, "{list}");
    }
    let list = cluster.virgo(1, &["functions", "--node", ADDRESSES[2]]);
    assert!(
        list.contains("example_sum") && !list.contains(ADDRESSES[1]),
        "{list}"
    );
}

#[test]
fn what_this_node_does_itself_counts_when_one_is_chosen() {
    let cluster = pool();
    let mut sleepers = Vec::new();
    for started in 1..=6 {
        sleepers.push(thread::spawn(|| {
            let words = ["--json", "--policy", "least-loaded", "sleep", "10000"];
            let value: Value = serde_json::from_str(&call(&words)).expect("JSON");
            value["address"].as_str().expect("an address").to_owned()
        }));
        let under_way = || {
            let nodes = cluster.nodes();
            nodes.iter().map(|node| node.in_flight).sum::<u64>() >= started
        };
        assert!(eventually(under_way), "{:?}", cluster.nodes());
    }
    let chosen: Vec<String> = sleepers
        .into_iter()
        .map(|sleeper| sleeper.join().expect("an answer"))
        .collect();
    let here = |address: &&String| address.starts_with(ADDRESSES[0]);
    assert!(chosen.iter().filter(here).count() <= 3, "{chosen:?}");
}

#[test]
fn errors_name_the_function_and_the_node() {
    let _cluster = pool();
    for (arguments, words) in [
        (&["nothing"][..], "no function of that name (ENOENT)"),
        (&["--node", "10.77.0.2", "nothing"], "on node"),
        (&["/bin/sh"], "EINVAL"),
        (&["primes", "many"], "does not take this input"),
        (&["primes", ""], "does not take this input"),
        (&["primes", "-1"], "does not take this input"),
        (&["primes", "1000000000001"], "too large"),
        (
            &["primes", "18446744073709551616"],
            "does not take this input",
        ),
        (&["uname", "x"], "does not take this input"),
        (&["--node", "10.77.0.9", "uname"], "no node 10.77.0.9"),
    ] {
        let error = refused(arguments);
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    // Longer than the limit for inputs.
    let outcome = script::run(
        "bash",
        &["-c", "head -c 2097152 /dev/zero | virgo call --stdin echo"],
    );
    assert!(
        outcome.code == 1 && outcome.err.contains("2 MiB"),
        "{}",
        outcome.err
    );
}

#[test]
fn what_takes_too_long_is_told_to_end() {
    let _cluster = pool();
    for node in [ADDRESSES[0], ADDRESSES[1]] {
        for function in [&["primes", "1000000000000"], &["sleep", "3600000"]] {
            let begin = Instant::now();
            let error = refused(&[&["--node", node, "--timeout", "0.5"], &function[..]].concat());
            assert!(error.contains("ETIMEDOUT"), "{error}");
            assert!(
                begin.elapsed() < Duration::from_secs(8),
                "{:?}",
                begin.elapsed()
            );
        }
    }
    // A signal ends the wait, here and for a function that runs here.
    for node in [ADDRESSES[0], ADDRESSES[1]] {
        let begin = Instant::now();
        let words = format!("timeout -s INT 1 virgo call --node {node} sleep 3600000");
        let _ = script::run("sh", &["-c", &words]);
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "{:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn the_originals_words_by_telnet() {
    let _cluster = pool();
    assert_eq!(
        telnet(b"virgo_cloud_test_kernelspace\r\n"),
        format!("{SENTENCE}\r\n")
    );
    // As the original's clients send it: no end of line, or 3000 bytes filled up with NULs.
    assert_eq!(
        telnet(b"virgo_cloud_test_kernelspace "),
        format!("{SENTENCE}\r\n")
    );
    let mut padded = b"virgo_cloud_test_kernelspace".to_vec();
    padded.resize(3000, 0);
    assert_eq!(telnet(&padded), format!("{SENTENCE}\r\n"));
    assert_eq!(
        telnet(b"virgo_clone(\"virgo_cloud_test_kernelspace\")\n"),
        format!("{SENTENCE}\r\n")
    );
    // Several in one connection, in order, quick ones and slow ones.
    assert_eq!(
        telnet(b"primes(100)\nsleep 300\necho(x)\r\nprimes 10\nexample_sum 1 2\n"),
        "25\r\n\r\nx\r\n4\r\n3\r\n"
    );
    // What is served without a thread, between others that need one, on a connection that stays.
    let mut stream = connect();
    for round in 0..100 {
        let requests = format!(
            "echo {round}\nexample_sum {round} 1\necho b\nprimes 10\necho c\necho d\nuname 1\necho e\n"
        );
        stream.write_all(requests.as_bytes()).expect("send");
        let refusal = "ERR EINVAL the function does not take this input";
        let expected = format!(
            "{round}\r\n{}\r\nb\r\n4\r\nc\r\nd\r\n{refusal}\r\ne\r\n",
            round + 1
        );
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).expect("answers");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
    // As long as a request may be: more than there is memory for at any moment.
    let long = "x".repeat(65_000);
    let said = telnet(format!("echo {long}\necho y\necho {long}\n").as_bytes());
    assert!(
        said == format!("DATA 65000\r\n{long}\r\ny\r\nDATA 65000\r\n{long}\r\n"),
        "{} bytes: {:.100}",
        said.len(),
        said
    );
    assert_eq!(telnet(b"echo(DATA 1)\n"), "DATA 6\r\nDATA 1\r\n");
    assert!(telnet(b"meminfo\n").starts_with("DATA "));
    for (words, answer) in [
        (&b"clone_func\n"[..], "ERR ENOENT "),
        (b"int clone_func(void* args)\n", "ERR ENOENT "),
        (b"/bin/sh -c reboot\n", "ERR EINVAL "),
        (b"primes(x)\n", "ERR EINVAL "),
        (b"primes(1000000000001)\n", "ERR ERANGE "),
        (b"(\n", "ERR EINVAL "),
        (b"sleep 60000", "ERR EINVAL the request has no end of line"),
        (&[b'a'; 70_000], "ERR EMSGSIZE "),
    ] {
        let said = telnet(words);
        assert!(said.starts_with(answer) && said.ends_with("\r\n"), "{said}");
    }
    // Bytes of all kinds, and pieces of requests.
    let mut state = 1_u64;
    for _ in 0..300 {
        let mut noise = [0_u8; 64];
        for byte in &mut noise {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let mut stream = connect();
        let _ = stream.write_all(&noise);
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(telnet(b"primes(10)\n"), "4\r\n");
}

#[test]
fn modules_go_under_load() {
    let cluster = pool();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for node in ADDRESSES {
            scope.spawn({
                let stop = &stop;
                move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        virgo(&["call", "--node", node, "example_sum", "1", "2"]);
                        virgo(&["call", "--node", node, "sleep", "50"]);
                        let mut stream = match TcpStream::connect("127.0.0.1:10000") {
                            Ok(stream) => stream,
                            Err(_) => continue,
                        };
                        let _ = stream.write_all(
                            b"echo x\nsleep 30\nexample_sum 1 2\nprimes 100000\necho y\n",
                        );
                        let _ = stream.shutdown(Shutdown::Write);
                        let mut rest = Vec::new();
                        let _ = stream.read_to_end(&mut rest);
                    }
                }
            });
        }
        for round in 0..10 {
            let node = 1 + round % 2;
            let gone =
                world::eventually(|| cluster.try_on(node, &["rmmod", "virgo-example"]).code == 0);
            assert!(gone, "virgo-example stays on node {node}");
            let gone =
                world::eventually(|| cluster.try_on(node, &["rmmod", "virgo-cpupool"]).code == 0);
            assert!(gone, "virgo-cpupool stays on node {node}");
            load(&cluster, node);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // A function that runs for an hour does not hold its module up.
    let sleeper = thread::spawn(|| telnet(b"sleep 3600000\n"));
    let running = world::eventually(|| {
        cluster
            .virgo(1, &["functions", "--json", "--node", ADDRESSES[0]])
            .lines()
            .any(|line| line.contains("\"sleep\"") && !line.contains("\"running\":0"))
    });
    assert!(running);
    let begin = Instant::now();
    cluster.on(1, &["rmmod", "virgo-example", "virgo-cpupool"]);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    sleeper.join().expect("a thread");
    load(&cluster, 1);
    assert_eq!(
        call(&["--node", ADDRESSES[0], "example_sum", "1", "2"]),
        "3\n"
    );
}

#[test]
fn a_node_that_dies_is_named_and_another_takes_what_may_run_twice() {
    let cluster = pool();
    // Without --idempotent: an error that names the node.
    let under_way = thread::spawn(|| virgo(&["call", "--node", "10.77.0.2", "sleep", "60000"]));
    cluster.wait_in_flight(2, 1);
    let begin = Instant::now();
    cluster.power(2, "--kill");
    let outcome = under_way.join().expect("a thread");
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    let id = cluster.id(2);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains(&id) && outcome.err.contains("EHOSTDOWN"),
        "{}",
        outcome.err
    );
    cluster.power(2, "--start");
    cluster.configure(2);
    load(&cluster, 2);
    wait_state(&cluster, 2, "up");

    // With it, and a policy that may choose any: whoever it is that dies, the answer comes.
    cluster.virgo(1, &["nodes", "policy", "random", "--seed", "7"]);
    let calls: Vec<_> = (0..12)
        .map(|_| {
            thread::spawn(|| {
                let arguments = [
                    "call",
                    "--idempotent",
                    "--policy",
                    "random",
                    "sleep",
                    "3000",
                ];
                virgo(&arguments)
            })
        })
        .collect();
    cluster.wait_in_flight(3, 1);
    cluster.power(3, "--stop");
    for call in calls {
        let outcome = call.join().expect("a thread");
        assert_eq!(outcome.code, 0, "{}", outcome.err);
    }
    cluster.power(3, "--cont");
    wait_state(&cluster, 3, "up");
    cluster.virgo(1, &["nodes", "policy", "least-loaded", "--seed", "0"]);
}
