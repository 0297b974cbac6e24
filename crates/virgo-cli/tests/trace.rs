// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace` on traces that are made here, without the modules.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use virgo_proto::trace::{
    Area, Begin, Cause, Encoder, End, Fault, Map, Process, Record, Why, AREA_EXEC, AREA_READ,
    AREA_WRITE, FAULT_EXEC, FAULT_FIRST, FAULT_MAJOR, FAULT_USER, FAULT_WRITE, RECORD_MAX, VERSION,
};

const PID: u32 = 4711;
const PAGE: u64 = 4096;

/// A trace of one process with a stack of 22 pages and a program of 4.
fn example(extra: &[u64]) -> Vec<u8> {
    let mut records = vec![
        Record::Begin(Begin {
            version: VERSION,
            page_size: PAGE,
            monotonic_ns: 1_000_000_000,
            realtime_ns: 1,
            pid: PID,
            flags: 0,
        }),
        Record::Process(Process {
            time_ns: 1_000_000_000,
            pid: PID,
            parent: 0,
            shares_map: false,
            min_flt: 0,
            maj_flt: 0,
        }),
        Record::Map(Map {
            time_ns: 1_000_000_000,
            pid: PID,
            cause: Cause::Start,
            start: 0,
            end: u64::MAX >> 1,
        }),
        Record::Area(Area {
            pid: PID,
            id: 1,
            start: 0x0804_8000,
            end: 0x0804_c000,
            flags: AREA_READ | AREA_EXEC,
            offset: 0,
            major: 8,
            minor: 1,
            inode: 99,
            name: b"/bin/example",
        }),
        Record::Area(Area {
            pid: PID,
            id: 2,
            start: 0xbfb9_9000,
            end: 0xbfba_f000,
            flags: AREA_READ | AREA_WRITE,
            offset: 0,
            major: 0,
            minor: 0,
            inode: 0,
            name: b"[stack]",
        }),
        Record::MapEnd { pid: PID },
    ];
    let stack = 0xbfb9_9000_u64;
    let mut pages: Vec<u64> = [4, 5, 18, 19, 20, 21]
        .map(|page| stack + page * PAGE)
        .to_vec();
    pages.extend(extra);
    for (index, address) in pages.iter().enumerate() {
        records.push(Record::Fault(Fault {
            time_ns: 1_000_000_000 + 1_000_000 * (index as u64 + 1),
            latency_ns: 1500,
            address: *address,
            ip: 0x0804_9000,
            pid: PID,
            tid: PID,
            flags: FAULT_USER | FAULT_WRITE | FAULT_FIRST,
        }));
    }
    records.push(Record::Fault(Fault {
        time_ns: 1_100_000_000,
        latency_ns: 9_000_000,
        address: 0x0804_a123,
        ip: 0x0804_a123,
        pid: PID,
        tid: PID,
        flags: FAULT_USER | FAULT_EXEC | FAULT_MAJOR,
    }));
    records.push(Record::End(End {
        time_ns: 1_200_000_000,
        pid: PID,
        why: Why::Exited,
        min_flt: pages.len() as u64,
        maj_flt: 1,
        recorded: pages.len() as u64 + 1,
        dropped: 0,
    }));
    let mut encoder = Encoder::new();
    let mut bytes = Vec::new();
    for record in &records {
        let mut room = [0; RECORD_MAX];
        let length = encoder.encode(record, &mut room).expect("it fits");
        bytes.extend_from_slice(&room[..length]);
    }
    bytes
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

fn virgo(words: &[&str]) -> (String, String, bool) {
    let output = Command::cargo_bin("virgo")
        .expect("the program")
        .args(words)
        .output()
        .expect("it runs");
    (
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
        output.status.success(),
    )
}

#[test]
fn regions_are_shown_to_the_letter() {
    let path = file("letter.trace", &example(&[]));
    let (out, err, ok) = virgo(&["trace", "show", path.to_str().unwrap()]);
    assert!(ok, "{err}");
    assert_eq!(
        out,
        "Region: 08048000 - 0804c000 (   4 pages): |..X.|\n\
         Region: bfb99000 - bfbaf000 (  22 pages): |....XX............XXXX|\n"
    );
    let (out, _, _) = virgo(&["trace", "show", "--color", "always", path.to_str().unwrap()]);
    assert!(out.contains("|..\u{1b}[1;31mX\u{1b}[0m.|"), "{out}");
}

#[test]
fn every_fault_for_programs() {
    let path = file("faults.trace", &example(&[]));
    let path = path.to_str().unwrap();
    let (out, _, _) = virgo(&["trace", "show", "--format", "csv", path]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(
        lines[1],
        "1.001,4711,4711,0xbfb9d000,0x8049000,minor,write,true,user,1.5,bfb99000-bfbaf000,rw-p,[stack]"
    );
    let (out, _, _) = virgo(&["--json", "trace", "show", path]);
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "major");
    assert_eq!(last["access"], "execute");
    assert_eq!(last["name"], "/bin/example");
    let (out, _, _) = virgo(&["trace", "show", "--format", "chrome", path]);
    let chrome: serde_json::Value = serde_json::from_str(&out).unwrap();
    let events = chrome["traceEvents"].as_array().unwrap();
    assert_eq!(events.len(), 7);
    assert_eq!(events[6]["dur"], 9000.0);
}

/// Draws a trace into these files, which must succeed.
fn plot(trace: &Path, outputs: &[&Path]) {
    let mut words = vec!["trace", "plot", trace.to_str().unwrap()];
    for output in outputs {
        words.extend(["-o", output.to_str().unwrap()]);
    }
    let (_, err, ok) = virgo(&words);
    assert!(ok, "{err}");
}

#[test]
fn drawings() {
    // A great many faults make no great file.
    let many: Vec<u64> = (0..100_000).map(|n| 0xbfb9_9000 + n % 22 * PAGE).collect();
    let path = file("draw.trace", &example(&many));
    let (svg, png) = (file("draw.svg", b""), file("draw.png", b""));
    plot(&path, &[&svg, &png]);
    let text = std::fs::read_to_string(svg).unwrap();
    let document = roxmltree::Document::parse(&text).expect("it is XML");
    let texts: Vec<&str> = document
        .descendants()
        .filter_map(|node| node.text())
        .collect();
    assert!(
        texts.iter().any(|text| text.contains("major: 1")),
        "{texts:?}"
    );
    assert!(texts.iter().any(|text| text.contains("[stack]")));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
    let (_, err, ok) = virgo(&["trace", "plot", path.to_str().unwrap(), "-o", "x.gif"]);
    assert!(!ok && err.contains(".svg"), "{err}");
}

#[test]
fn a_fault_outside_of_the_map_is_no_part_of_a_band() {
    // Below and above all regions, as the stack of a program that is being loaded.
    let path = file("outside.trace", &example(&[0x1000, 0x7fff_0000_0000]));
    let svg = file("outside.svg", b"");
    plot(&path, &[&svg]);
    let text = std::fs::read_to_string(svg).unwrap();
    for name in [
        "[stack] bfb9d000",
        "[not in the map] 1000",
        "[not in the map] 7fff00000000",
    ] {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn studies() {
    let stack = 0xbfb9_9000_u64;
    let again: Vec<u64> = [4, 5, 4, 5, 6].map(|page| stack + page * PAGE).to_vec();
    let path = file("study.trace", &example(&again));
    let path = path.to_str().unwrap();
    let (out, _, _) = virgo(&["trace", "simulate", "--frames", "1..3", path]);
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["FRAMES", "LRU", "FIFO", "CLOCK", "OPT"]);
    assert_eq!(rows[1], ["1", "12", "12", "12", "12"]);
    assert_eq!(rows.len(), 4);
    let (out, _, _) = virgo(&[
        "--json", "trace", "simulate", "--policy", "opt", "--frames", "8", path,
    ]);
    let row: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(row["misses"], 8, "every page once: {row}");
    let (out, _, _) = virgo(&["--json", "trace", "wss", path]);
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["total_pages"], 8);
    let (out, _, ok) = virgo(&["trace", "diff", path, path]);
    assert!(
        ok && out.contains("[stack]") && !out.contains("+1"),
        "{out}"
    );
    let (out, _, ok) = virgo(&["trace", "heat", path]);
    assert!(ok && out.contains("/bin/example"), "{out}");
}

#[test]
fn damage_is_told() {
    let whole = example(&[]);
    for (name, bytes, what) in [
        ("empty.trace", &b""[..], "it is empty"),
        (
            "other.trace",
            b"\x7fELF, and so on, longer than a record",
            "not a page-fault trace",
        ),
    ] {
        let path = file(name, bytes);
        let (_, err, ok) = virgo(&["trace", "show", path.to_str().unwrap()]);
        assert!(!ok && err.contains(what), "{name}: {err}");
    }
    let mut damaged = whole.clone();
    let at = damaged.len() - 20;
    damaged[at..].fill(0xff);
    let path = file("damaged.trace", &damaged);
    let (_, err, ok) = virgo(&["trace", "show", path.to_str().unwrap()]);
    assert!(!ok && err.contains("damaged at byte"), "{err}");
    let path = file("cut.trace", &whole[..whole.len() - 3]);
    let (out, err, ok) = virgo(&["trace", "show", path.to_str().unwrap()]);
    assert!(
        ok && err.contains("midst of a record") && out.contains("XXXX|"),
        "{err}"
    );
    let (_, err, ok) = virgo(&["trace", "show", "/nowhere"]);
    assert!(!ok && err.contains("/nowhere"), "{err}");
    for frames in ["0..x", "9..3", ""] {
        let (_, _, ok) = virgo(&["trace", "simulate", "--frames", frames, "/nowhere"]);
        assert!(!ok);
    }
}
