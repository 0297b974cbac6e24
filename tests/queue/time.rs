// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What happens by itself: delays, times to run, pauses, waits; and what closes.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use virgo_tests::{wait_until, SOON};

use crate::client::{beanstalkd, ours, Client, PORT, REFERENCE};

/// Runs the same on both servers.
fn on_both(run: impl Fn(u16)) {
    {
        let _ours = ours("");
        run(PORT);
    }
    let _reference = beanstalkd();
    run(REFERENCE);
}

fn about(start: Instant, seconds: u64) {
    let took = start.elapsed();
    let least = Duration::from_secs(seconds);
    assert!(
        took >= least - Duration::from_millis(5),
        "after {took:?}, not {seconds} s"
    );
    assert!(
        took < least + Duration::from_secs(3),
        "after {took:?}, not {seconds} s"
    );
}

#[test]
fn a_delayed_job_comes_when_it_is_due() {
    on_both(|port| {
        let mut client = Client::connect(port);
        let start = Instant::now();
        let _ = client.put("0 2 10", b"later");
        let id = client.put("0 1 10", b"sooner");
        assert_eq!(
            client.ask("reserve"),
            format!("RESERVED {id} 6\r\nsooner\r\n")
        );
        about(start, 1);
        assert_eq!(
            client.ask("reserve-with-timeout 10"),
            "RESERVED 1 5\r\nlater\r\n"
        );
        about(start, 2);
    });
}

#[test]
fn a_job_whose_time_is_over_is_ready_again() {
    on_both(|port| {
        let mut client = Client::connect(port);
        let mut other = Client::connect(port);
        let id = client.put("0 0 2", b"x");
        let start = Instant::now();
        assert_eq!(client.ask("reserve"), format!("RESERVED {id} 1\r\nx\r\n"));
        // It is told a second before.
        assert_eq!(client.ask("reserve"), "DEADLINE_SOON\r\n");
        about(start, 1);
        assert_eq!(other.ask("reserve"), format!("RESERVED {id} 1\r\nx\r\n"));
        about(start, 2);
        assert_eq!(client.ask(&format!("delete {id}")), "NOT_FOUND\r\n");
        assert_eq!(other.number(&format!("stats-job {id}"), "timeouts"), 1);
        assert_eq!(other.number("stats", "job-timeouts"), 1);
        assert_eq!(other.ask(&format!("touch {id}")), "TOUCHED\r\n");
        assert_eq!(other.ask(&format!("delete {id}")), "DELETED\r\n");
    });
}

#[test]
fn a_touch_gives_more_time() {
    on_both(|port| {
        let mut client = Client::connect(port);
        let id = client.put("0 0 2", b"x");
        let start = Instant::now();
        let _ = client.ask("reserve");
        assert_eq!(client.ask("reserve"), "DEADLINE_SOON\r\n");
        assert_eq!(client.ask(&format!("touch {id}")), "TOUCHED\r\n");
        assert_eq!(client.ask("reserve"), "DEADLINE_SOON\r\n");
        about(start, 2);
        assert_eq!(client.ask(&format!("release {id} 0 0")), "RELEASED\r\n");
    });
}

#[test]
fn a_wait_ends_when_it_is_told_to() {
    on_both(|port| {
        let mut client = Client::connect(port);
        let start = Instant::now();
        assert_eq!(client.ask("reserve-with-timeout 1"), "TIMED_OUT\r\n");
        about(start, 1);
        assert_eq!(client.ask("reserve-with-timeout 0"), "TIMED_OUT\r\n");
    });
}

#[test]
fn a_paused_tube_gives_nothing_out_until_its_pause_is_over() {
    on_both(|port| {
        let mut client = Client::connect(port);
        let _ = client.put("0 0 10", b"x");
        let start = Instant::now();
        assert_eq!(client.ask("pause-tube default 1"), "PAUSED\r\n");
        assert_eq!(client.ask("reserve-with-timeout 0"), "TIMED_OUT\r\n");
        assert!(client.ask("reserve").starts_with("RESERVED "));
        about(start, 1);
        assert_eq!(client.number("stats-tube default", "pause"), 0);
    });
}

#[test]
fn jobs_of_a_worker_that_goes_are_ready_again() {
    on_both(|port| {
        let mut client = Client::connect(port);
        let id = client.put("7 0 100", b"x");
        let mut worker = Client::connect(port);
        assert_eq!(worker.ask("reserve"), format!("RESERVED {id} 1\r\nx\r\n"));
        drop(worker);
        assert_eq!(client.ask("reserve"), format!("RESERVED {id} 1\r\nx\r\n"));
        assert_eq!(client.number(&format!("stats-job {id}"), "reserves"), 2);
    });
}

#[test]
fn a_worker_that_goes_while_it_waits_gets_nothing() {
    on_both(|port| {
        let mut client = Client::connect(port);
        for half in [false, true] {
            let mut worker = Client::connect(port);
            worker.send(b"reserve\r\n");
            assert!(wait_until(SOON, || client
                .number("stats", "current-waiting")
                == 1));
            if half {
                worker.stream().shutdown(Shutdown::Write).expect("shutdown");
                // Not a job: it has said that it goes.
                assert_eq!(worker.answer(), b"TIMED_OUT\r\n");
            }
            drop(worker);
            assert!(wait_until(SOON, || client
                .number("stats", "current-waiting")
                == 0));
            let id = client.put("0 0 100", b"x");
            assert_eq!(client.number(&format!("stats-job {id}"), "reserves"), 0);
            assert_eq!(client.ask(&format!("delete {id}")), "DELETED\r\n");
        }
    });
}

#[test]
fn quit_closes_after_what_was_asked_before() {
    on_both(|port| {
        let mut client = Client::connect(port);
        client.send(b"use a\r\nlist-tube-used\r\nquit\r\nlist-tubes\r\n");
        assert_eq!(client.rest(), b"USING a\r\nUSING a\r\n");
    });
}

#[test]
fn a_pipeline_is_answered_in_order() {
    on_both(|port| {
        let mut client = Client::connect(port);
        let mut all = Vec::new();
        for n in 0..200 {
            all.extend_from_slice(format!("put {n} 0 60 3\r\n{n:03}\r\n").as_bytes());
        }
        for _ in 0..200 {
            all.extend_from_slice(b"reserve\r\n");
        }
        for n in 1..=200 {
            all.extend_from_slice(format!("delete {n}\r\n").as_bytes());
        }
        client.send(&all);
        for n in 1..=200 {
            assert_eq!(client.answer(), format!("INSERTED {n}\r\n").as_bytes());
        }
        for n in 0..200 {
            let text = format!("RESERVED {} 3\r\n{n:03}\r\n", n + 1);
            assert_eq!(client.answer(), text.as_bytes());
        }
        for _ in 0..200 {
            assert_eq!(client.answer(), b"DELETED\r\n");
        }
    });
}
