// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Requests for other modules, which the queue has them serve.

use std::process::Command;
use std::time::Duration;

use virgo::queue::{Answer, Options, Queue};
use virgo_tests::module;
use virgo_tests::{wait_until, SOON};

use crate::client::{ours, Client, Ours, PORT};

const CPUPOOL: &str = "virgo.cpupool";
const MEMPOOL: &str = "virgo.mempool";

/// The module, with another one that it passes requests to.
fn with(other: &str, parameters: &str) -> Ours {
    let machine = ours(parameters);
    module::load(other, "").unwrap_or_else(|error| panic!("{other}: {error:?}"));
    machine
}

fn queue() -> Queue {
    Queue::open().expect("the device")
}

fn seconds(count: u64) -> Options {
    Options {
        ttr: Duration::from_secs(count),
        ..Options::default()
    }
}

fn answer(queue: &Queue, id: u64) -> Answer {
    let mut last = Answer::NotYet;
    let there = wait_until(SOON, || {
        last = queue.result(id).expect("the answer");
        last != Answer::NotYet
    });
    assert!(there, "no answer to {id}");
    last
}

fn ask(queue: &Queue, tube: &str, request: &str) -> Answer {
    let id = queue.put(tube, request.as_bytes(), seconds(30));
    answer(queue, id.expect("put"))
}

fn here(text: &str) -> Answer {
    Answer::Here(text.into())
}

/// The errno of a request that failed.
fn failed(answer: Answer) -> i32 {
    match answer {
        Answer::Failed(errno, words) => {
            assert!(!words.is_empty(), "{errno} without words");
            errno.raw_os_error()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn kernel_functions_are_called() {
    let _modules = with("virgo-cpupool", "");
    let queue = queue();
    assert_eq!(ask(&queue, CPUPOOL, "primes 1000"), here("168"));
    assert_eq!(ask(&queue, CPUPOOL, "@here echo(a (b)\n)"), here("a (b)\n"));
    assert_eq!(ask(&queue, CPUPOOL, "@p2c @again primes(10)"), here("4"));
    let stat = queue.stat(None).expect("numbers");
    assert_eq!(stat.ready + stat.reserved, 0, "all are done with");
}

#[test]
fn named_values_and_blocks_are_served() {
    let _modules = with("virgo-mempool", "");
    let queue = queue();
    let ask = |request| ask(&queue, MEMPOOL, request);
    assert_eq!(ask("set k 7 0 5\r\nhello\r\n"), here("STORED\r\n"));
    assert_eq!(ask("get k"), here("VALUE k 7 5\r\nhello\r\nEND\r\n"));
    assert_eq!(
        ask("incr k 1\r\n"),
        here("CLIENT_ERROR cannot increment or decrement non-numeric value\r\n")
    );
    // Several, as on a connection; and what is not whole.
    assert_eq!(ask("delete k\r\nget k\r\n"), here("DELETED\r\nEND\r\n"));
    assert_eq!(failed(ask("set k 0 0 5\r\nhel")), libc::EINVAL);
    let Answer::Here(block) = ask("virgo_cloud_malloc(100)") else {
        panic!("no block");
    };
    assert!(
        !block.starts_with(b"ERR"),
        "{:?}",
        String::from_utf8_lossy(&block)
    );
}

#[test]
fn what_cannot_be_served_says_why() {
    let _modules = with("virgo-cpupool", "");
    let queue = queue();
    for (request, errno) in [
        ("no_such_function", libc::ENOENT),
        ("primes many", libc::EINVAL),
        ("7up", libc::EINVAL),
        ("@nowhere primes 10", libc::EINVAL),
        ("@here ", libc::EINVAL),
        ("@0a4d0063 primes 10", libc::ENOENT),
    ] {
        assert_eq!(failed(ask(&queue, CPUPOOL, request)), errno, "{request}");
    }
    assert_eq!(
        failed(ask(&queue, MEMPOOL, "get k")),
        libc::ENODEV,
        "not loaded"
    );
    // Its time is over before it is.
    let slow = queue.put(CPUPOOL, b"sleep 60000", seconds(1)).expect("put");
    assert_eq!(failed(answer(&queue, slow)), libc::ETIMEDOUT);
}

#[test]
fn a_bounded_number_runs_at_once() {
    let _modules = with("virgo-cpupool", "run=2");
    let queue = queue();
    let ids: Vec<u64> = (0..6)
        .map(|_| queue.put(CPUPOOL, b"sleep 200", seconds(30)).expect("put"))
        .collect();
    let mut most = 0;
    let done = wait_until(SOON, || {
        let stat = queue.stat(None).expect("numbers");
        most = most.max(stat.reserved);
        stat.reserved + stat.ready == 0
    });
    assert!(done, "they do not end");
    assert_eq!(most, 2);
    for id in ids {
        assert_eq!(queue.result(id), Ok(here("")));
    }
}

#[test]
fn what_was_begun_before_is_not_begun_again() {
    let _modules = with("virgo-cpupool", "");
    let queue = queue();
    let mut client = Client::connect(PORT);
    let later = Options {
        delay: Duration::from_secs(600),
        ..Options::default()
    };
    for (request, wanted) in [("primes 10", None), ("@again primes 10", Some(here("4")))] {
        let id = queue.put(CPUPOOL, request.as_bytes(), later).expect("put");
        assert!(client
            .ask(&format!("reserve-job {id}"))
            .starts_with("RESERVED"));
        assert_eq!(client.ask(&format!("release {id} 0 0")), "RELEASED\r\n");
        let got = answer(&queue, id);
        match wanted {
            Some(wanted) => assert_eq!(got, wanted),
            None => assert_eq!(failed(got), libc::EINTR),
        }
    }
}

#[test]
fn the_port_passes_nothing_on() {
    let _modules = with("virgo-cpupool", "");
    let mut client = Client::connect(PORT);
    assert_eq!(
        client.ask(&format!("use {CPUPOOL}")),
        format!("USING {CPUPOOL}\r\n")
    );
    assert_eq!(client.try_put("0 0 60", b"primes 10"), "DRAINING\r\n");
    assert_eq!(client.ask("use default"), "USING default\r\n");
    assert_eq!(client.put("0 0 60", b"primes 10"), 2);
}

#[test]
fn with_run_0_they_wait_like_any_other() {
    let _modules = with("virgo-cpupool", "run=0");
    let queue = queue();
    let id = queue.put(CPUPOOL, b"primes 10", seconds(30)).expect("put");
    let taken = queue.take(CPUPOOL, None).expect("taken").expect("one");
    assert_eq!((taken.id, &taken.body[..]), (id, &b"primes 10"[..]));
}

#[test]
fn unloading_waits_for_what_runs() {
    let modules = with("virgo-cpupool", "");
    let queue = queue();
    for _ in 0..20 {
        queue.put(CPUPOOL, b"sleep 100", seconds(30)).expect("put");
    }
    drop(queue);
    // The rest is still there then; its unloading is looked at by the guard.
    drop(modules);
}

fn virgo(arguments: &[&str]) -> (String, String, bool) {
    let output = Command::new("virgo")
        .args(arguments)
        .output()
        .expect("virgo");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        text(output.stdout),
        text(output.stderr),
        output.status.success(),
    )
}

#[test]
fn by_command() {
    let _modules = with("virgo-cpupool", "");
    module::load("virgo-mempool", "").expect("it loads");
    let result = |id: &str| virgo(&["queue", "result", id.trim(), "--wait", "30"]);
    let (id, _, good) = virgo(&["call", "--async", "primes", "1000"]);
    assert!(good);
    assert_eq!(result(&id), ("168".into(), String::new(), true));
    let (id, ..) = virgo(&[
        "call",
        "--async",
        "--policy",
        "p2c",
        "--idempotent",
        "nothing",
    ]);
    let (out, error, good) = result(&id);
    assert!(
        !good && out.is_empty() && error.contains("No such file"),
        "{error}"
    );
    let (id, ..) = virgo(&["mem", "put", "--async", "greeting", "hello"]);
    assert_eq!(result(&id).0, "STORED\r\n");
    let (id, ..) = virgo(&["mem", "take", "--async", "greeting"]);
    assert!(result(&id).0.starts_with("VALUE greeting 0 5 "));
    let (id, ..) = virgo(&["mem", "count", "--async", "n", "5", "--initial", "37"]);
    assert_eq!(result(&id).0, "VA 2\r\n37\r\n");
    let (_, error, good) = virgo(&["mem", "put", "--async", "two words", "x"]);
    assert!(!good && error.contains("no spaces"), "{error}");
}
