// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The queue's log and power cuts: node 2 is cut off at random moments while clients put, take and
//! delete, and started again; what was acknowledged must be there.
//!
//! `VIRGO_LONG=1` cuts it off two hundred times.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use virgo_tests::nodes::power;
use virgo_tests::{long, sys};

/// Runs a command on node 2, with this as its input; what it said.
fn on_node(input: &str, command: &[&str]) -> String {
    let mut child = Command::new("virgo-node")
        .args(["-i", "2"])
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("virgo-node");
    let mut pipe = child.stdin.take().expect("its input");
    pipe.write_all(input.as_bytes()).expect("write");
    drop(pipe);
    let mut out = String::new();
    let mut stdout = child.stdout.take().expect("its output");
    stdout.read_to_string(&mut out).expect("text");
    let status = child.wait().expect("its end");
    assert!(status.success(), "{command:?}: {status}, {out}");
    out
}

/// What was seen before the power went.
#[derive(Default)]
struct Seen {
    acknowledged: BTreeSet<u64>,
    handed_out: BTreeSet<u64>,
    delete_sent: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
}

impl Seen {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        let set = match words.next() {
            Some("A") => &mut self.acknowledged,
            Some("R") => &mut self.handed_out,
            Some("d") => &mut self.delete_sent,
            Some("D") => &mut self.deleted,
            _ => return,
        };
        // The last line may have been cut.
        if let Some(number) = words.next().and_then(|n| n.parse().ok()) {
            set.insert(number);
        }
    }
}

fn number(line: &str, name: &str) -> u64 {
    let mark = format!("\"{name}\":");
    let at = line
        .find(&mark)
        .unwrap_or_else(|| panic!("no {name} in {line}"));
    let digits = line[at + mark.len()..].split(|c: char| !c.is_ascii_digit());
    digits
        .into_iter()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let cuts = if long() { 200 } else { 4 };
    let _ = on_node(
        "log=/var/lib/virgo-queue\nfsync=always\nlog_segment_mb=1\nmax_mb=200\n",
        &[
            "sh",
            "-ec",
            "mkdir -p /var/lib/virgo-queue /etc/virgo; cat > /etc/virgo/virgo-queue.conf; sync",
        ],
    );
    let _ = on_node("", &["sh", "-ec", "unload virgo-queue; load virgo-queue"]);
    let mut seen = Seen::default();
    let mut seed = sys::monotonic_ns();
    for cut in 1..=cuts {
        let before = seen.acknowledged.len();
        let mut traffic = Command::new("virgo-node")
            .args(["-i", "2", "python3", "-c", include_str!("traffic.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("virgo-node");
        let mut pipe = traffic.stdin.take().expect("its input");
        let stdout = BufReader::new(traffic.stdout.take().expect("its output"));
        let (tell, heard) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let heard = line.strip_prefix("d ").map(|number| format!("{number}\n"));
                if tell.send(line).is_err() {
                    break;
                }
                // Once the power is off nobody is there to hear it.
                if let Some(number) = heard {
                    let _ = pipe.write_all(number.as_bytes());
                }
            }
        });
        // Some traffic, and then a random moment of it.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let enough = 20 + (seed >> 33) % 200;
        let start = Instant::now();
        while ((seen.acknowledged.len() - before) as u64) < enough {
            let line = heard
                .recv_timeout(Duration::from_secs(120))
                .unwrap_or_else(|error| {
                    panic!("cut {cut}: no traffic: {error}, {:?}", start.elapsed())
                });
            seen.line(&line);
        }
        power(2, "--kill");
        let _ = traffic.wait();
        reader.join().expect("the reader");
        for line in heard.try_iter() {
            seen.line(&line);
        }
        power(2, "--start");

        let exported = on_node("", &["virgo", "queue", "export"]);
        let mut there = BTreeSet::new();
        for line in exported.lines() {
            let id = number(line, "id");
            there.insert(id);
            assert!(
                !seen.deleted.contains(&id),
                "cut {cut}: {id} was deleted and is back"
            );
            if seen.handed_out.contains(&id) {
                assert!(
                    number(line, "reserves") > 0,
                    "cut {cut}: {id} was handed out, and not marked"
                );
            }
        }
        for id in &seen.acknowledged {
            // A deletion that was under way may have happened. Each of them was heard of here
            // before it was sent (traffic.py): else one of the last instant would look like a loss.
            let gone = seen.deleted.contains(id) || seen.delete_sent.contains(id);
            assert!(
                gone || there.contains(id),
                "cut {cut}: {id} was acknowledged and is lost"
            );
        }
        println!(
            "cut {cut}: {} acknowledged, {} deleted, {} there",
            seen.acknowledged.len(),
            seen.deleted.len(),
            there.len()
        );
    }
}
