// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo learn`: advice, and what becomes of it when it is applied.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use virgo::analytics::{Options, Source};
use virgo_tests::{long, module, wait_until, SOON};

use crate::{open, ours, virgo};

const KEY: &str = "firewall.frequent_sources";
const LOG: &str = "/tmp/kern.log";

/// Lines as netfilter's LOG writes them: `first` 3 times, others once.
fn log(first: &str) {
    let line = |source: &str, n: usize| {
        format!(
            "Nov 21 06:25:{:02} gate kernel: [  812.3319{n:02}] [UFW BLOCK] IN=eth0 OUT= \
             MAC=52:54:00:12:34:56:52:55:0a:00:02:02:08:00 SRC={source} DST=10.0.2.15 LEN=44 \
             TOS=0x00 PREC=0x00 TTL=64 ID={n} PROTO=TCP SPT=41000 DPT=23 WINDOW=65535 RES=0x00 \
             SYN URGP=0 \n",
            n % 60
        )
    };
    let sources = [first, "198.51.100.7", first, "2001:db8::1", first];
    let text: String = sources
        .iter()
        .enumerate()
        .map(|(n, s)| line(s, n))
        .collect();
    std::fs::write(LOG, text).expect("a file");
}

#[test]
fn advice_sets_nothing_and_what_is_applied_runs_out() {
    let _ours = ours("");
    let settings = open();
    log("203.0.113.9");
    let advice = virgo(&["learn", "sources", LOG]);
    assert_eq!(advice.code, 0, "{}", advice.err);
    for part in [
        "5 lines",
        "203.0.113.9",
        "would set",
        "confidence 100 %",
        "--apply",
    ] {
        assert!(advice.out.contains(part), "{part}: {}", advice.out);
    }
    assert!(settings.get(KEY).is_err(), "it is advice");
    let applied = virgo(&[
        "learn",
        "sources",
        LOG,
        "--top",
        "1",
        "--apply",
        "--expires",
        "2",
    ]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    let setting = settings.get(KEY).expect("it is set");
    assert_eq!(setting.value, "{203.0.113.9=3}");
    assert_eq!(setting.source, Source::Learner);
    assert!(
        setting.why.starts_with("virgo learn, 100 %: "),
        "{}",
        setting.why
    );
    assert!(setting.left.is_some() && setting.who.is_some());
    // Nobody has to do anything.
    assert!(wait_until(SOON, || settings
        .get(KEY)
        .is_ok_and(|setting| setting.source == Source::Default)));
    // A person's stands.
    settings.set(KEY, "mine", &Options::default()).expect("set");
    let refused = virgo(&["learn", "sources", LOG, "--apply"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("what a person has set stands"),
        "{}",
        refused.err
    );
    assert_eq!(settings.get(KEY).expect("it").value, "mine");
}

#[test]
fn one_node_needs_no_policy() {
    let _ours = ours("");
    let outcome = virgo(&["--json", "learn", "load", "--seconds", "11"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let advice: serde_json::Value = serde_json::from_str(&outcome.out).expect("JSON");
    assert!(advice["set"].is_null(), "{advice}");
}

#[test]
fn what_makes_things_worse_is_taken_back() {
    let _ours = ours("");
    let settings = open();
    log("203.0.113.9");
    let guard = |seconds: &str| {
        Command::new("virgo")
            .args([
                "learn",
                "sources",
                LOG,
                "--apply",
                "--guard",
                "cpu",
                "--expires",
                seconds,
            ])
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts")
    };
    let is_set = || {
        settings
            .get(KEY)
            .is_ok_and(|setting| setting.source == Source::Learner)
    };
    let minute = Duration::from_secs(60);
    // Nothing happens in the meantime: the pressure before is that of a quiet machine.
    let mut child = guard("300");
    assert!(wait_until(minute, is_set));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let status = child.wait().expect("it ends");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(status.code(), Some(1));
    });
    assert!(!is_set());
    let (changes, _) = settings.changes(0).expect("changes");
    let last = changes.last().expect("a change");
    assert!(last.unset && last.why.contains("got worse"), "{}", last.why);
    if long() {
        // Killed, it says nothing more; the kernel takes the value back.
        let mut child = guard("300");
        assert!(wait_until(minute, is_set));
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert!(wait_until(minute, || !is_set()));
    }
}

/// An odd fault rate that is found is an event too, where events are kept.
#[test]
fn an_odd_fault_rate_is_an_event() {
    const FOLDER: &str = "/tmp/learn-eventnet";
    let _ours = ours("");
    let _ = std::fs::remove_dir_all(FOLDER);
    std::fs::create_dir(FOLDER).expect("a folder");
    module::load("virgo-eventnet", &format!("folder={FOLDER} listen=0")).expect("it loads");
    let mut text = String::from(
        "time_s,id,pid,tid,comm,state,min_flt,maj_flt,utime_ms,stime_ms,cpu_pct,rss_kib\n",
    );
    let mut faults = 0;
    for second in 0..100_u64 {
        // Steady with some noise, and a burst.
        faults += if second == 95 {
            90_000
        } else {
            1000 + second * 37 % 50
        };
        text += &format!("{second}.0,1,77,77,my (odd) task,R,{faults},0,0,0,,100\n");
    }
    std::fs::write("/tmp/samples.csv", text).expect("a file");
    let arguments = ["learn", "faults", "/tmp/samples.csv"];
    let advice = virgo(&arguments);
    assert_eq!(advice.code, 0, "{}", advice.err);
    assert!(!virgo(&["events", "ls"]).out.contains("anomaly"), "advice");
    let applied = virgo(&[&arguments[..], &["--apply"]].concat());
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    assert!(applied.err.contains("1 event"), "{}", applied.err);
    let events = virgo(&["events", "ls"]).out;
    assert!(events.contains("anomaly_77_"), "{events}");
    assert!(events.contains("my__odd__task,pid_77"), "{events}");
    module::unload("virgo-eventnet").expect("it unloads");
}
