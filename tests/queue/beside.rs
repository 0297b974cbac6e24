// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The same generated script is given to both servers, and each answer compared.

use virgo_tests::{long, wait_until, SOON};

use crate::client::{beanstalkd, ours, Client, PORT, REFERENCE};

/// SplitMix64 (G. Steele, D. Lea, C. Flood, 2014), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Lines that are nearly right; what they are answered must be the same too.
const ODD: &[&str] = &[
    "put",
    "put 1 2 3",
    "put 1 2 3 x",
    "put -1 0 1 1",
    "put 4294967296 0 1 1",
    "put 0 0 1 99999999999999999999999",
    "peek",
    "peek x",
    "peek 1 ",
    "peek-readyx",
    "peek-buried 1",
    "reserve ",
    "reserve-with-timeout",
    "reserve-with-timeout 0x",
    "reserve-with-timeout 99999999999999999999",
    "reserve-with-timeout ",
    "reserve-job",
    "reserve-job -1",
    "delete",
    "delete 1x",
    "delete  1",
    "delete 18446744073709551616",
    "release 1",
    "release 1 2",
    "release 1 2 3 4",
    "release 1 4294967296 0",
    "bury 1",
    "bury x 1",
    "kick",
    "kick ",
    "kick x",
    "kick 1 2",
    "kick -1",
    "kick 99999999999999999999999",
    "kick-job",
    "kick-job x",
    "touch",
    "touch 1 1",
    "stats 1",
    "stats-job",
    "stats-job x",
    "stats-tube",
    "stats-tube ",
    "stats-tube -a",
    "stats-tube a b",
    "use",
    "use ",
    "use -a",
    "use a:b",
    "use  a",
    "watch ",
    "watch -",
    "ignore",
    "ignore -x",
    "list-tubes ",
    "list-tube",
    "list-tube-usedx",
    "list-tubes-watched 1",
    "pause-tube",
    "pause-tube a",
    "pause-tube a x",
    "pause-tube a 1 1",
    "pause-tube -a 1",
    "pause-tube nobody 1",
    "PUT 1 2 3 4",
    "hello",
    "",
    " ",
    "\t",
    "stats\0",
];

/// Drops what cannot be the same: times, and who the server is.
fn comparable(answer: &[u8]) -> String {
    const OWN: &[&str] = &[
        "age:",
        "time-left:",
        "pause-time-left:",
        "pid:",
        "version:",
        "rusage-utime:",
        "rusage-stime:",
        "uptime:",
        "binlog-",
        "id: ",
        "hostname:",
        "os:",
        "platform:",
        "total-connections:",
        "file:",
        // The tests' own waits ask for it, the one more often than the other.
        "cmd-stats:",
    ];
    let text = String::from_utf8_lossy(answer);
    if !text.starts_with("OK ") {
        return text.into_owned();
    }
    // The length depends on what is dropped.
    let job = text.contains("\nreserves: ");
    text.lines()
        .skip(1)
        .filter(|line| {
            let dropped = OWN.iter().any(|own| line.starts_with(own));
            !dropped || (job && line.starts_with("id: "))
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

struct Pair {
    both: [Client; 2],
    waiting: bool,
}

fn pair() -> Pair {
    let mut both = [Client::connect(PORT), Client::connect(REFERENCE)];
    for client in &mut both {
        assert_eq!(client.ask("list-tube-used"), "USING default\r\n");
    }
    Pair {
        both,
        waiting: false,
    }
}

/// A command, and a body for those that have one.
fn step(numbers: &mut Numbers, jobs: u64) -> Vec<u8> {
    let tubes = ["default", "a", "b", "c-d", "e/f;g.$_()", "nobody"];
    let tube = numbers.one(&tubes);
    let id = 1 + numbers.below(jobs + 2);
    let pri = numbers.one(&["0", "1", "1", "1000", "1024", "4294967295"]);
    // Either at once or not before the test has ended.
    let delay = numbers.one(&["0", "0", "0", "10000"]);
    let line = match numbers.below(60) {
        0..=13 => {
            let size = [0, 1, 5, 100, 4000, 65535][numbers.below(6) as usize];
            let body: Vec<u8> = (0..size).map(|_| numbers.next() as u8).collect();
            let mut all = format!("put {pri} {delay} 10000 {size}\r\n").into_bytes();
            all.extend_from_slice(&body);
            all.extend_from_slice(b"\r\n");
            return all;
        }
        14 => return b"put 0 0 100 3\r\nabcdef\r\n".to_vec(),
        15 => {
            let mut all = b"put 0 0 100 65536\r\n".to_vec();
            all.extend_from_slice(&vec![b'x'; 65538]);
            return all;
        }
        16..=24 => "reserve-with-timeout 0".into(),
        25..=26 => format!("reserve-job {id}"),
        27..=32 => format!("delete {id}"),
        33..=36 => format!("release {id} {pri} {delay}"),
        37..=39 => format!("bury {id} {pri}"),
        40 => format!("kick {}", numbers.below(4)),
        41 => format!("kick-job {id}"),
        42 => format!("touch {id}"),
        43 => numbers
            .one(&["peek-ready", "peek-delayed", "peek-buried"])
            .into(),
        44 => format!("peek {id}"),
        45 => format!("stats-job {id}"),
        46 => format!("stats-tube {tube}"),
        47 => "stats".into(),
        48..=49 => format!("use {tube}"),
        50..=51 => format!("watch {tube}"),
        52 => format!("ignore {tube}"),
        53 => numbers
            .one(&["list-tubes", "list-tube-used", "list-tubes-watched"])
            .into(),
        54 => {
            let seconds = numbers.one(&["0", "10000"]);
            format!("pause-tube {tube} {seconds}")
        }
        55 => {
            // Where its CR is the last byte of a buffer of 224, beanstalkd misses the line's end.
            let length = numbers.below(600) as usize;
            let length = if (length + 1) % 224 == 0 {
                length + 1
            } else {
                length
            };
            return [&vec![b'x'; length][..], b"\r\n"].concat();
        }
        56 => format!("use {}", "n".repeat(195 + numbers.below(12) as usize)),
        _ => numbers.one(ODD).into(),
    };
    [line.as_bytes(), b"\r\n"].concat()
}

fn compare(seed: u64, steps: usize) {
    let _ours = ours("");
    let _reference = beanstalkd();
    let mut numbers = Numbers(seed);
    let mut pairs: Vec<Pair> = (0..4).map(|_| pair()).collect();
    let mut control = pair();
    let mut jobs = 0;
    let mut log: Vec<String> = Vec::new();
    for n in 0..steps {
        let which = numbers.below(4) as usize;
        if pairs[which].waiting {
            continue;
        }
        if numbers.below(150) == 0 {
            // It goes, and another comes in its place: its jobs are ready again.
            pairs[which] = pair();
            log.push(format!("{which}: closes"));
            for client in &mut control.both {
                let back = wait_until(SOON, || client.number("stats", "current-connections") == 5);
                assert!(back, "seed {seed}: a connection stays");
            }
        } else {
            // A wait for a job, now and then; in the long form several at a time.
            let wait = numbers.below(25) == 0;
            let wait = wait && (long() || pairs.iter().all(|pair| !pair.waiting));
            let bytes = if wait {
                b"reserve\r\n".to_vec()
            } else {
                step(&mut numbers, jobs)
            };
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            log.push(format!("{which}: {shown:?}"));
            for client in &mut pairs[which].both {
                client.send(&bytes);
            }
            if wait {
                pairs[which].waiting = true;
            } else {
                let [ours, theirs] = &mut pairs[which].both;
                // The body that was no body is a line of its own.
                let answers = if bytes.starts_with(b"put 0 0 100 3\r\n") {
                    2
                } else {
                    1
                };
                for _ in 0..answers {
                    let (mine, reference) = (ours.answer(), theirs.answer());
                    if reference.starts_with(b"INSERTED ") || reference.starts_with(b"EXPECTED") {
                        jobs += 1;
                    }
                    assert_eq!(
                        comparable(&mine),
                        comparable(&reference),
                        "seed {seed}, step {n}, after\n{}",
                        log[log.len().saturating_sub(40)..].join("\n")
                    );
                }
            }
        }
        // Who waits is served the same.
        let waits = pairs.iter().filter(|pair| pair.waiting).count();
        if waits > 0 {
            let [ours, theirs] = &mut control.both;
            let left = theirs.number("stats", "current-waiting");
            // Connections are served side by side: the one that waits may not have been heard yet.
            let same = wait_until(SOON, || ours.number("stats", "current-waiting") == left);
            assert!(same, "seed {seed}, step {n}: {left} wait for a job there");
            let mut answered = waits as u64 - left;
            let done = wait_until(SOON, || {
                for (which, pair) in pairs.iter_mut().enumerate().filter(|(_, p)| p.waiting) {
                    let [ours, theirs] = &mut pair.both;
                    if let Some(reference) = theirs.poll() {
                        let mine = ours.answer();
                        pair.waiting = false;
                        answered -= 1;
                        log.push(format!("{which}: was served"));
                        assert_eq!(
                            comparable(&mine),
                            comparable(&reference),
                            "seed {seed}, step {n}, a wait, after\n{}",
                            log[log.len().saturating_sub(40)..].join("\n")
                        );
                    }
                }
                answered == 0
            });
            assert!(done, "seed {seed}, step {n}: who waited got no answer");
            // Not all of them, for ever.
            if waits == 4 {
                let [ours, theirs] = &mut control.both;
                for client in [ours, theirs] {
                    for tube in ["default", "a", "b", "c-d"] {
                        let _ = client.ask(&format!("use {tube}"));
                        let _ = client.try_put("0 0 10000", b"for who waits");
                    }
                }
                jobs += 4;
                log.push("control: put into all".into());
            }
        }
    }
    let [ours, theirs] = &mut control.both;
    assert_eq!(
        comparable(ours.ask("stats").as_bytes()),
        comparable(theirs.ask("stats").as_bytes())
    );
}

#[test]
fn a_generated_script_gets_the_same_answers() {
    let rounds = if long() { 40 } else { 2 };
    for seed in 1..=rounds {
        compare(seed, 1500);
    }
}

#[test]
fn every_odd_line_gets_the_same_answer() {
    let _ours = ours("");
    let _reference = beanstalkd();
    let mut pair = pair();
    for line in ODD {
        let [ours, theirs] = &mut pair.both;
        assert_eq!(ours.ask(line), theirs.ask(line), "{line:?}");
    }
    // Cut anywhere.
    let script = b"put 1 0 10 5\r\nhello\r\nreserve\r\nstats-tube default\r\ndelete 1\r\n";
    for cut in 1..script.len() {
        let mut answers = Vec::new();
        for port in [PORT, REFERENCE] {
            let mut client = Client::connect(port);
            let text = String::from_utf8_lossy(script).replace("delete 1\r", "delete 999\r");
            client.send(&text.as_bytes()[..cut]);
            client.send(&text.as_bytes()[cut..]);
            let all: Vec<String> = (0..4).map(|_| comparable(&client.answer())).collect();
            answers.push(all.join(""));
            // So that the next round finds the same.
            let id = answers[answers.len() - 1]
                .split_whitespace()
                .nth(1)
                .expect("INSERTED id")
                .to_owned();
            assert_eq!(client.ask(&format!("delete {id}")), "DELETED\r\n");
        }
        assert_eq!(answers[0], answers[1], "cut at {cut}");
    }
}

/// PyPI's client against both.
#[test]
fn greenstalk_sees_no_difference() {
    let _ours = ours("");
    let _reference = beanstalkd();
    for port in [REFERENCE, PORT] {
        let mut python = std::process::Command::new("python3")
            .args(["-", &port.to_string()])
            .env("PYTHONPATH", "/opt/pypi")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("python3");
        use std::io::Write;
        let mut input = python.stdin.take().expect("its input");
        input
            .write_all(include_bytes!("greenstalk.py"))
            .expect("write");
        drop(input);
        let output = python.wait_with_output().expect("its end");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "all as it should be\n",
            "port {port}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
