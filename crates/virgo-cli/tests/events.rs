// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo events` on journals and text files: no module is needed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use assert_cmd::Command;
use proptest::prelude::*;
use serde_json::Value as Json;
use virgo_proto::crc::crc32c_after;
use virgo_proto::eventlog::{encode, Content, Id, Record};

fn virgo(arguments: &[&str]) -> Output {
    Command::cargo_bin("virgo")
        .expect("the command")
        .arg("events")
        .args(arguments)
        .output()
        .expect("it runs")
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A journal in the making.
#[derive(Default)]
struct Maker {
    bytes: Vec<u8>,
    number: u64,
}

impl Maker {
    fn add(&mut self, stamp: u64, node: u32, module: u8, content: Content<'_>) -> Id {
        self.number += 1;
        let record = Record {
            number: self.number,
            stamp,
            origin: 0,
            node,
            module,
            content,
        };
        let mut room = [0; 512];
        let size = encode(&record, crc32c_after, &mut room).expect("it fits");
        self.bytes.extend_from_slice(&room[..size]);
        record.id()
    }

    fn event(&mut self, stamp: u64, node: u32, kind: &str, cause: Id) -> Id {
        let content = Content::Event {
            cause,
            kind: kind.as_bytes(),
            subject: b"thing",
        };
        self.add(stamp, node, 4, content)
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("EventNet.journal");
        fs::write(&path, &self.bytes).expect("write");
        path
    }
}

const NONE: Id = Id { stamp: 0, node: 0 };

/// Two nodes; a message from the first's second event to the second's second.
fn two_nodes() -> (Maker, [Id; 6]) {
    let mut maker = Maker::default();
    let a1 = maker.event(1 << 20, 1, "a1", NONE);
    let a2 = maker.event(2 << 20, 1, "a2", NONE);
    let b1 = maker.event(3 << 20, 2, "b1", NONE);
    let b2 = maker.event(4 << 20, 2, "b2", a2);
    let a3 = maker.event(5 << 20, 1, "a3", NONE);
    let content = Content::Loss {
        count: 7,
        after: Id { node: 0, ..b2 },
        before: NONE,
    };
    let lost = maker.add(6 << 20, 2, 4, content);
    (maker, [a1, a2, b1, b2, a3, lost])
}

fn names(output: &str) -> Vec<String> {
    output
        .lines()
        .map(|line| line.split(' ').next().expect("a name").to_owned())
        .collect()
}

#[test]
fn questions() {
    let folder = tempfile::tempdir().expect("a folder");
    let (maker, [a1, a2, b1, b2, a3, lost]) = two_nodes();
    let path = maker.write(folder.path());
    let ask = |arguments: &[&str]| {
        let mut all = vec!["--journal", path.to_str().expect("text")];
        all.extend(arguments);
        virgo(&all)
    };
    let all = |ids: &[Id]| ids.iter().map(Id::to_string).collect::<Vec<_>>();
    let of = |arguments: &[&str]| names(&text(&ask(arguments)));
    assert_eq!(of(&["ls"]), all(&[a1, a2, b1, b2, a3, lost]));
    assert_eq!(of(&["ancestors", &b2.to_string()]), all(&[a1, a2, b1]));
    assert_eq!(of(&["concurrent", &b2.to_string()]), all(&[a3]));
    assert_eq!(
        of(&["cut", &b1.to_string(), &a2.to_string()]),
        all(&[a1, a2, b1])
    );
    assert_eq!(
        of(&["path", &a2.to_string(), &lost.to_string()]),
        all(&[a2, b2, lost])
    );
    // Without an edge that was told there is no path.
    let none = ask(&["path", &a1.to_string(), &a2.to_string()]);
    assert_eq!(none.status.code(), Some(1));
    let unknown = ask(&["ancestors", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no event nobody"));
    let json: Vec<Json> = text(&ask(&["ls", "--json"]))
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(json[5]["what"], "loss");
    assert_eq!(json[5]["lost"], 7);
    assert_eq!(json[3]["kind"], "b2");
    assert_eq!(json[3]["node"], "n00000002");
}

#[test]
fn other_programs_forms() {
    let folder = tempfile::tempdir().expect("a folder");
    let (maker, [_, a2, _, b2, ..]) = two_nodes();
    let path = maker.write(folder.path());
    let ask = |form: &str| text(&virgo(&["--journal", path.to_str().expect("text"), form]));
    let dot = ask("dot");
    assert!(dot.contains(&format!("\"{a2}\" -> \"{b2}\";")), "{dot}");
    assert!(dot.contains("queue lost 7"));
    let svg = ask("svg");
    let parsed = roxmltree::Document::parse(&svg).expect("XML");
    assert_eq!(parsed.root_element().tag_name().name(), "svg");
    assert!(svg.contains("queue b2 thing"));

    let trace: Json = serde_json::from_str(&ask("chrome")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list");
    let with = |ph: &str| events.iter().filter(|e| e["ph"] == ph).count();
    assert_eq!((with("X"), with("s"), with("f")), (6, 2, 2));
    let nodes: Vec<&str> = events
        .iter()
        .filter(|e| e["name"] == "process_name")
        .filter_map(|e| e["args"]["name"].as_str())
        .collect();
    assert_eq!(nodes, ["n00000001", "n00000002"]);

    // ShiViz's own rule: each host's clock grows by one each line; a cause's clock is contained.
    let log = ask("shiviz");
    let lines: Vec<&str> = log.lines().collect();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut clocks = HashMap::new();
    for pair in lines.chunks(2) {
        let (host, clock) = pair[0].split_once(' ').expect("a host");
        let clock: BTreeMap<String, u64> = serde_json::from_str(clock).expect("a clock");
        let own = last.entry(host.to_owned()).or_default();
        *own += 1;
        assert_eq!(clock[host], *own);
        clocks.insert(pair[1].to_owned(), clock);
    }
    assert_eq!(clocks["queue b2 thing"]["n00000001"], 2);
    assert_eq!(clocks["queue b1 thing"].get("n00000001"), None);
}

#[test]
fn the_originals_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("write");
    write(
        "EventNetVertices.txt",
        "e1 - p11, p12, p13 - (p11,p12)#(p12,p13)\ne2 - p21 - (p21,p22)\ne3 - p31 - (p31,p32)\n",
    );
    // As the C version wrote it.
    write("EventNetEdges.txt", "e1,e2\n\0e3,e1\n\0");
    let path = folder.path().to_str().expect("text");
    assert_eq!(
        text(&virgo(&["--text", path, "order", "--original"])),
        "0 - e3 \n1 - e1 \n2 - e2 \n"
    );
    assert_eq!(
        text(&virgo(&["--text", path, "order"])),
        "0 - e3 (p31,p32)\n1 - e1 (p11,p12)#(p12,p13)\n2 - e2 (p21,p22)\n"
    );
    let out = folder.path().join("EventNetOrdering.txt");
    text(&virgo(&[
        "--text",
        path,
        "order",
        "-o",
        out.to_str().expect("text"),
    ]));
    assert_eq!(
        fs::read_to_string(&out).expect("it"),
        "0 - e3 \n1 - e1 \n2 - e2 \n"
    );
    assert!(text(&virgo(&["--text", path, "cycles"])).is_empty());

    write("EventNetEdges.txt", "e1,e2\ne2,e3\ne3,e1\ne4,e4\n");
    let order = virgo(&["--text", path, "order"]);
    assert_eq!(order.status.code(), Some(1));
    let said = String::from_utf8_lossy(&order.stderr).into_owned();
    assert!(said.contains("2 cycles"), "{said}");
    let cycles = virgo(&["--text", path, "cycles"]);
    assert_eq!(cycles.status.code(), Some(1));
    let mut lines: Vec<String> = String::from_utf8_lossy(&cycles.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["e1 -> e2 -> e3 -> e1", "e4 -> e4"]);

    write("EventNetVertices.txt", "e1 - a - b - c\n");
    let bad = virgo(&["--text", path, "ls"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("line 1: 4 fields"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any edges: either an order that agrees with all of them, or a cycle that is one.
    #[test]
    fn order_or_cycle(edges in proptest::collection::vec((0_u8..12, 0_u8..12), 0..24)) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut lines = String::new();
        for (from, to) in &edges {
            lines += &format!("v{from},v{to}\n");
        }
        fs::write(folder.path().join("EventNetVertices.txt"), "").expect("write");
        fs::write(folder.path().join("EventNetEdges.txt"), &lines).expect("write");
        let path = folder.path().to_str().expect("text");
        let order = virgo(&["--text", path, "order"]);
        let cycles = virgo(&["--text", path, "cycles"]);
        prop_assert_eq!(order.status.success(), cycles.status.success());
        if order.status.success() {
            let place: HashMap<String, usize> = String::from_utf8_lossy(&order.stdout)
                .lines()
                .map(|line| {
                    let (index, name) = line.split_once(" - ").expect("a line");
                    (name.trim().to_owned(), index.parse().expect("a number"))
                })
                .collect();
            for (from, to) in edges {
                let of = |number: u8| place[&format!("v{number}")];
                prop_assert!(of(from) < of(to));
            }
        } else {
            for line in String::from_utf8_lossy(&cycles.stdout).lines() {
                let way: Vec<&str> = line.split(" -> ").collect();
                prop_assert_eq!(way.first(), way.last());
                for pair in way.windows(2) {
                    let edge = format!("{},{}\n", pair[0], pair[1]);
                    prop_assert!(lines.contains(&edge), "{}", edge);
                }
            }
        }
    }
}

/// A million events are put in order within ten seconds and a GiB. Run it with the command that
/// `make user` builds: CARGO_BIN_EXE_virgo=$PWD/target/release/virgo cargo test … -- --ignored
#[test]
#[ignore = "takes a while without optimisation"]
fn a_million_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut maker = Maker::default();
    let mut last = [NONE; 3];
    for n in 0..1_000_000_u64 {
        let node = n.wrapping_mul(2_654_435_761) / 7 % 3;
        let cause = last[(n % 3) as usize];
        last[node as usize] = maker.event((n + 1) << 16, node as u32 + 1, "step", cause);
    }
    let path = maker.write(folder.path());
    let out = folder.path().join("order");
    // What the process takes of memory is limited, so that more fails.
    let script = format!(
        "ulimit -v 1048576; exec {} events --journal {} order -o {}",
        assert_cmd::cargo::cargo_bin("virgo").display(),
        path.display(),
        out.display()
    );
    let start = Instant::now();
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("it runs");
    let took = start.elapsed();
    eprintln!("{} bytes, {took:?}", maker.bytes.len());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = fs::read_to_string(&out).expect("it").lines().count();
    assert_eq!(lines, 1_000_000);
    assert!(took.as_secs() < 10, "{took:?}");
}
