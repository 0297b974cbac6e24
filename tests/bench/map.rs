// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A job for a processor, spread over three guests: `virgo map` beside GNU parallel over ssh.
//!
//! For `tests/vm run --nodes 3`; the same lines and the same program, by turns, wall clock. What all
//! print must be the same. GNU parallel runs as many at once, and is measured with and without
//! `--controlmaster`, which keeps a connection of ssh's open.

#[allow(dead_code, reason = "shared with tests/cluster")]
#[path = "../cluster/world.rs"]
mod world;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use virgo_tests::script::MOUNT_GROUPS;
use world::{Cluster, ADDRESSES};

/// How many pieces the job has.
const PIECES: u64 = 48;
/// How many run at once: two a node, so that one can come while another runs.
const AT_ONCE: &str = "6";
const ROUNDS: usize = 3;
/// Adds up numbers below the line's.
const SUM: &str = "BEGIN { for (i = 0; i < {}; i++) s += i; print s }";
const LINES: &str = "/tmp/lines";
/// The module, and what may be run.
const ALLOW: &str = r#"
[ -e /sys/module/virgo_cpupool ] || insmod /virgo/ko/virgo-cpupool.ko || exit 1
printf 'user = "65534:65534"\nat_once = 8\n[[program]]\npath = "/usr/bin/mawk"\n' > /tmp/programs
virgo programs load /tmp/programs"#;
/// A server of ssh, as a distribution sets it up.
const SSHD: &str = r#"
mkdir -p /run/sshd /root/.ssh && chmod 700 /root/.ssh
ssh-keygen -q -A
/usr/sbin/sshd -o PermitRootLogin=yes"#;
/// Who may log in, and to whom.
const KEY: &str = r#"
mkdir -p /root/.ssh
[ -e /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
printf 'StrictHostKeyChecking accept-new\nLogLevel ERROR\n' > /root/.ssh/config
cat /root/.ssh/id_ed25519.pub"#;

struct Way<'a> {
    name: &'static str,
    /// What runs the program for each line, and the program.
    command: Vec<&'a str>,
    took: Vec<Duration>,
}

impl<'a> Way<'a> {
    fn new(name: &'static str, spread: &[&'a str]) -> Self {
        Way {
            name,
            command: [spread, &["mawk", SUM]].concat(),
            took: Vec::new(),
        }
    }
}

fn main() {
    let cluster = Cluster::up();
    let key = cluster.on(1, &["sh", "-ec", KEY]);
    let welcome = format!("echo '{}' > /root/.ssh/authorized_keys", key.trim());
    for node in 1..=3 {
        cluster.on(node, &["sh", "-ec", &format!("{MOUNT_GROUPS}\n{ALLOW}")]);
        cluster.on(node, &["sh", "-ec", &format!("{SSHD}\n{welcome}")]);
        // The other's key is taken over now, and not in a round.
        cluster.on(1, &["ssh", ADDRESSES[node - 1], "true"]);
    }
    // Pieces of all sizes, as ours and theirs get them in the same order.
    let mut state = 1_u64;
    let mut lines = String::new();
    for _ in 0..PIECES {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        lines += &(200_000 + (state >> 33) % 1_800_000).to_string();
        lines.push('\n');
    }
    std::fs::write(LINES, lines).expect("write the lines");

    let hosts = ADDRESSES.map(|address| format!("2/{address}")).join(",");
    let parallel = ["parallel", "--will-cite", "-k", "-q", "-S", &hosts];
    let kept = [&parallel[..], &["--controlmaster"]].concat();
    let mut ways = [
        Way::new("one node, one at a time (xargs)", &["xargs", "-I{}"]),
        Way::new("virgo map", &["virgo", "map", "-i", "-j", AT_ONCE, "--"]),
        Way::new("GNU parallel over ssh", &parallel),
        Way::new("GNU parallel --controlmaster", &kept),
    ];
    let mut expected = None;
    for _ in 0..ROUNDS {
        for way in &mut ways {
            let input = std::fs::File::open(LINES).expect("the lines");
            let begin = Instant::now();
            let output = Command::new(way.command[0])
                .args(&way.command[1..])
                .stdin(input)
                .stderr(Stdio::inherit())
                .output()
                .expect("it runs");
            let took = begin.elapsed();
            eprintln!("{}: {:.1} s", way.name, took.as_secs_f64());
            way.took.push(took);
            assert!(output.status.success(), "{}: {}", way.name, output.status);
            let expected = expected.get_or_insert_with(|| output.stdout.clone());
            assert!(*expected == output.stdout, "{} prints otherwise", way.name);
        }
    }
    println!("| {PIECES} pieces, seconds | least | median | of xargs |");
    println!("|---|---|---|---|");
    let mut alone = f64::NAN;
    for way in &mut ways {
        way.took.sort();
        let seconds = |index: usize| way.took[index].as_secs_f64();
        let (least, median) = (seconds(0), seconds(ROUNDS / 2));
        if alone.is_nan() {
            alone = median;
        }
        println!(
            "| {} | {least:.1} | {median:.1} | {:.2} |",
            way.name,
            median / alone
        );
    }
}
