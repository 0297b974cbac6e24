// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The same conversations with both servers; the answers are compared byte by byte, but for what
//! no two servers have in common: the unique numbers of items (compared by where each appears), the
//! version, and seconds that pass.

use std::collections::{BTreeSet, HashMap};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;

use virgo_tests::{long, wait_until, SOON};

use crate::servers::{Both, Memcached, OURS};
use crate::sessions::{session, Kind, Random, Step, KINDS};

/// What a server said, and how it ended.
#[derive(Debug, Default)]
struct Said {
    bytes: Vec<u8>,
    /// The connection was reset: the end of the answers may be lost.
    reset: bool,
    /// It did not end within the time given.
    hung: bool,
    /// All answers are to be expected: memcached drops those that wait when a client ends in the
    /// middle of a request.
    whole: bool,
}

/// One conversation under way.
struct Talk {
    stream: TcpStream,
    said: Said,
    /// How much of `said` was looked at by `unique_number`.
    syncs: u32,
}

impl Talk {
    fn begin(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(SOON)).expect("a time limit");
        Talk {
            stream,
            said: Said::default(),
            syncs: 0,
        }
    }

    /// Reads what there is; `false` at the end.
    fn read(&mut self) -> bool {
        let mut room = [0; 65536];
        match self.stream.read(&mut room) {
            Ok(0) => false,
            Ok(count) => {
                self.said.bytes.extend_from_slice(&room[..count]);
                true
            }
            Err(error) => {
                match error.kind() {
                    ErrorKind::Interrupted => return true,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => self.said.hung = true,
                    _ => self.said.reset = true,
                }
                false
            }
        }
    }

    /// Sends bytes, in several segments where `cuts` says, while another thread may read.
    fn send(stream: &mut TcpStream, bytes: &[u8], cuts: &mut Random) {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Four conversations in five go out in one piece.
            let length = if cuts.once_in(5) {
                1 + cuts.below(rest.len().min(200))
            } else {
                rest.len()
            };
            let (piece, later) = rest.split_at(length);
            // It may have been closed: then what was said until then counts.
            if stream.write_all(piece).is_err() {
                return;
            }
            rest = later;
        }
    }

    /// Sends bytes and an own mark, and reads up to the answer to it.
    fn sync(&mut self, bytes: &[u8], cuts: &mut Random) {
        self.syncs += 1;
        let mark = format!("Osync{}\r\n", self.syncs);
        let mut all = bytes.to_vec();
        all.extend_from_slice(format!("md nothing-has-this-name {mark}").as_bytes());
        let mut stream = self.stream.try_clone().expect("another descriptor");
        let mut cuts = Random::new(cuts.next());
        let sender = thread::spawn(move || Talk::send(&mut stream, &all, &mut cuts));
        let end = format!("NF {mark}");
        while !self.said.bytes.ends_with(end.as_bytes()) {
            if !self.read() {
                break;
            }
        }
        sender.join().expect("sent");
    }

    /// The unique number of an item, 0 if there is none.
    fn unique_number(&mut self, key: &str, cuts: &mut Random) -> u64 {
        let before = self.said.bytes.len();
        self.sync(format!("gets {key}\r\n").as_bytes(), cuts);
        let answer = &self.said.bytes[before..];
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or(b"");
        let line = String::from_utf8_lossy(line);
        line.strip_prefix("VALUE ")
            .and_then(|rest| rest.split(' ').nth(3))
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    }

    fn finish(mut self, bytes: Vec<u8>, mut cuts: Random) -> Said {
        let mut stream = self.stream.try_clone().expect("another descriptor");
        let sender = thread::spawn(move || {
            Talk::send(&mut stream, &bytes, &mut cuts);
            let _ = stream.shutdown(Shutdown::Write);
        });
        while self.read() {}
        sender.join().expect("sent");
        self.said
    }
}

fn converse(port: u16, steps: &[Step], seed: u64) -> Said {
    let mut cuts = Random::new(seed);
    let mut talk = Talk::begin(port);
    let mut pending = Vec::new();
    for step in steps {
        let (key, right, data, meta) = match step {
            Step::Send(bytes) => {
                pending.extend_from_slice(bytes);
                continue;
            }
            Step::Cas(key, right, data) => (key, right, data, false),
            Step::MetaCas(key, right, data) => (key, right, data, true),
        };
        talk.sync(&std::mem::take(&mut pending), &mut cuts);
        let number = talk.unique_number(key, &mut cuts) + u64::from(!right);
        let line = if meta {
            format!("ms {key} {} C{number}\r\n", data.len())
        } else {
            format!("cas {key} 0 0 {} {number}\r\n", data.len())
        };
        pending.extend_from_slice(line.as_bytes());
        pending.extend_from_slice(data);
        pending.extend_from_slice(b"\r\n");
    }
    talk.finish(pending, cuts)
}

/// Answers line by line, values with the line before them. Unique numbers are replaced by where
/// they were first seen.
fn lines(said: &[u8]) -> Vec<Vec<u8>> {
    let mut numbers = HashMap::new();
    let mut label = |number: &str| {
        let next = numbers.len();
        let which = *numbers.entry(number.to_owned()).or_insert(next);
        format!("#{which}")
    };
    let mut all = Vec::new();
    let mut rest = said;
    while !rest.is_empty() {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            all.push(rest.to_vec());
            break;
        };
        let (line, behind) = rest.split_at(end);
        rest = &behind[2..];
        let text = String::from_utf8_lossy(line).into_owned();
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let mut value_len = None;
        match words[0].as_str() {
            "VALUE" if words.len() >= 4 => {
                value_len = words[3].parse::<usize>().ok();
                if let Some(number) = words.get_mut(4) {
                    *number = label(number);
                }
            }
            "VA" | "HD" | "NS" | "EX" | "NF" | "EN" => {
                if words[0] == "VA" {
                    value_len = words.get(1).and_then(|word| word.parse::<usize>().ok());
                }
                for word in &mut words[1..] {
                    let number = word.strip_prefix('c').map(str::to_owned);
                    if let Some(number) = number.filter(|rest| rest.parse::<u64>().is_ok()) {
                        *word = format!("c{}", label(&number));
                    }
                }
            }
            "VERSION" => words.truncate(1),
            _ => {}
        }
        // A line that is not text stays as it is.
        let mut whole = if std::str::from_utf8(line).is_ok() {
            words.join(" ").into_bytes()
        } else {
            line.to_vec()
        };
        if let Some(length) = value_len.filter(|length| length + 2 <= rest.len()) {
            whole.push(b'\n');
            whole.extend_from_slice(&rest[..length + 2]);
            rest = &rest[length + 2..];
        }
        all.push(whole);
    }
    all
}

/// Whether two lines are the same, but for a second that passed between them.
fn same(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let split = |line: &[u8]| -> Vec<Vec<u8>> {
        line.split(|byte| *byte == b' ')
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (one, other) = (split(one), split(other));
    let seconds = |word: &[u8]| -> Option<(u8, i64)> {
        let text = std::str::from_utf8(word).ok()?.trim_end();
        let (kind, number) = text.split_at_checked(1)?;
        matches!(kind, "t" | "l").then_some(())?;
        Some((kind.as_bytes()[0], number.parse().ok()?))
    };
    let won = one.iter().any(|word| word == b"W");
    one.len() == other.len()
        && one.iter().zip(&other).all(|(one, other)| {
            one == other
                || match (seconds(one), seconds(other)) {
                    // memcached tells the time of a value that mg has just made (W) as it was before,
                    // if t stands before N.
                    (Some((b't', -1)), Some((b't', _))) => won,
                    (Some((kind, one)), Some((other_kind, other))) => {
                        kind == other_kind && (one - other).abs() <= 2
                    }
                    _ => false,
                }
        })
}

/// A difference that is meant, and in doc/mempool.md: with memcached, a value whose line is refused
/// is taken for commands.
const MEANT_DATA: &str = "the data behind a refused line are passed over";
/// The same, of answers that are lost.
const MEANT_END: &str = "the answers before an end in the middle of a request are sent";

/// Whether a line says that a request is wrong.
fn refusal(line: Option<&Vec<u8>>) -> bool {
    line.is_some_and(|line| line.starts_with(b"CLIENT_ERROR ") || line == b"ERROR")
}

/// Compare what comes after a refusal, too, and its words (VIRGO_EXACT=1).
fn exact() -> bool {
    std::env::var_os("VIRGO_EXACT").is_some_and(|value| value == "1")
}

/// The first line in which two answers differ, if they do. Differences that are meant are added to
/// `meant`.
fn difference(theirs: &Said, ours: &Said, meant: &mut BTreeSet<&'static str>) -> Option<String> {
    if theirs.hung || ours.hung {
        return Some(format!(
            "no end came: theirs {}, ours {}",
            theirs.hung, ours.hung
        ));
    }
    let (their_lines, our_lines) = (lines(&theirs.bytes), lines(&ours.bytes));
    let show = |line: Option<&Vec<u8>>| match line {
        None => "nothing more".to_owned(),
        Some(line) => line[..line.len().min(300)].escape_ascii().to_string(),
    };
    let (mut at, mut their_at) = (0, 0);
    // Both have refused a line.
    let mut refused = false;
    loop {
        let (one, other) = (their_lines.get(their_at), our_lines.get(at));
        match (one, other) {
            (None, None) => return None,
            (Some(one), Some(other)) if same(one, other) => {
                refused |= refusal(Some(one));
                at += 1;
                their_at += 1;
                continue;
            }
            // What was lost on the way cannot be compared.
            (None, _) if theirs.reset => return None,
            (_, None) if ours.reset => return None,
            (None, _) | (_, None)
                if !exact() && !if one.is_none() { theirs } else { ours }.whole =>
            {
                meant.insert(MEANT_END);
                return None;
            }
            (Some(one), _) if refused && one == b"ERROR" => {
                meant.insert(MEANT_DATA);
                their_at += 1;
                continue;
            }
            // Where the data are too long for a line it closes; or they were a command.
            _ if refused && !exact() => {
                meant.insert(MEANT_DATA);
                return None;
            }
            _ => {}
        }
        return Some(format!(
            "line {at}:\n    memcached: {}\n    ours:      {}",
            show(one),
            show(other)
        ));
    }
}

/// A conversation for people, without what is long about it.
fn shown(steps: &[Step]) -> String {
    let mut all = String::new();
    for step in steps {
        let text = match step {
            Step::Send(bytes) => {
                let text = bytes[..bytes.len().min(160)].escape_ascii().to_string();
                format!("{text}{}", if bytes.len() > 160 { "..." } else { "" })
            }
            Step::Cas(key, right, data) => format!("cas {key}, right: {right}, {}", data.len()),
            Step::MetaCas(key, right, data) => {
                format!("ms {key} C, right: {right}, {}", data.len())
            }
        };
        all.push_str("    ");
        all.push_str(&text);
        all.push('\n');
    }
    all
}

/// The shortest front of a conversation in which the servers still differ.
fn shortest(theirs: u16, ours: u16, steps: &[Step], seed: u64) -> Vec<Step> {
    let differs = |steps: &[Step]| {
        let (theirs, ours) = (converse(theirs, steps, seed), converse(ours, steps, seed));
        difference(&theirs, &ours, &mut BTreeSet::new()).is_some()
    };
    let mut steps = steps.to_vec();
    // From the end, then one by one.
    while steps.len() > 1 && differs(&steps[..steps.len() - 1]) {
        steps.pop();
    }
    let mut at = steps.len().saturating_sub(1);
    while at > 0 {
        at -= 1;
        let mut fewer = steps.clone();
        fewer.remove(at);
        if differs(&fewer) {
            steps = fewer;
        }
    }
    steps
}

/// How often a conversation has to go differently once more before that counts.
const AGAIN: u32 = 3;

/// Waits for the turn of the second by which a server tells what is over. Both have seconds of their
/// own: a value that has one second left goes with one of them, in the midst of a conversation,
/// before it does with the other. What is said right behind the turn is said within one second.
fn next_second(port: u16) {
    let mut talk = Talk::begin(port);
    let mut uptime = || {
        talk.said.bytes.clear();
        talk.sync(b"stats\r\n", &mut Random::new(1));
        let text = String::from_utf8_lossy(&talk.said.bytes).into_owned();
        let second = text
            .lines()
            .find_map(|line| line.strip_prefix("STAT uptime "))
            .map(str::to_owned);
        second.expect("stats tell the uptime")
    };
    let first = uptime();
    assert!(
        wait_until(SOON, || uptime() != first),
        "port {port}: a second has no end"
    );
}

/// Holds a conversation with both; the first line in which they differ.
fn hold(
    theirs: u16,
    ours: u16,
    kind: Kind,
    (number, steps): (u64, &[Step]),
    turn: bool,
    meant: &mut BTreeSet<&'static str>,
) -> Option<String> {
    let converse = |port| {
        if turn {
            next_second(port);
        }
        converse(port, steps, number)
    };
    let (mut their, mut our) = (converse(theirs), converse(ours));
    their.whole = matches!(kind, Kind::Valid | Kind::Cas);
    our.whole = their.whole || ours == OURS;
    difference(&their, &our, meant)
}

/// Holds a conversation with both, and says how they differ if they do so whenever it is held.
fn differ(
    theirs: u16,
    ours: u16,
    kind: Kind,
    number: u64,
    meant: &mut BTreeSet<&'static str>,
) -> Option<(Vec<Step>, String)> {
    let steps = session(number, kind);
    let mut found = hold(theirs, ours, kind, (number, &steps), false, meant)?;
    for _ in 0..AGAIN {
        let Some(again) = hold(theirs, ours, kind, (number, &steps), true, meant) else {
            println!("{kind:?} {number}: differed once, and not again: {found}");
            return None;
        };
        found = again;
    }
    Some((steps, found))
}

/// Holds all the conversations of a kind with both; panics with those that went differently.
fn compare(theirs: u16, ours: u16, kind: Kind) {
    const SHOWN: usize = 6;
    let count = if long() { 2000 } else { 40 };
    let mut different = Vec::new();
    let mut meant = BTreeSet::new();
    for number in 0..count {
        if let Some((steps, difference)) = differ(theirs, ours, kind, number, &mut meant) {
            different.push((number, steps, difference));
            if different.len() == SHOWN {
                break;
            }
        }
    }
    for why in meant {
        println!("{kind:?}: some differ, as they are meant to: {why}");
    }
    if different.is_empty() {
        return;
    }
    let mut report = format!(
        "{} of {count} conversations differ, if not more\n",
        different.len()
    );
    for (number, steps, difference) in &different {
        let short = shortest(theirs, ours, steps, *number);
        report.push_str(&format!(
            "  {kind:?} {number}, {difference}\n  shortened:\n{}",
            shown(&short)
        ));
        let (their, our) = (
            converse(theirs, &short, *number),
            converse(ours, &short, *number),
        );
        for (who, said) in [("memcached", their), ("ours", our)] {
            let text = said.bytes[..said.bytes.len().min(400)].escape_ascii();
            report.push_str(&format!("    {who}: {text}\n"));
        }
    }
    panic!("{report}");
}

/// Without this nothing that the others find would mean anything.
#[test]
fn two_memcacheds_answer_alike() {
    let (one, other) = (Memcached::start(), Memcached::start());
    for kind in KINDS {
        compare(one.port, other.port, kind);
    }
}

/// Nor would it if one that does differ, since its values have no numbers, went for alike.
#[test]
fn two_that_differ_are_told_apart() {
    let (usual, other) = (Memcached::start(), Memcached::with(&["-C"]));
    let mut told = (0..40).filter_map(|number| {
        differ(
            usual.port,
            other.port,
            Kind::Cas,
            number,
            &mut BTreeSet::new(),
        )
    });
    assert!(told.next().is_some(), "no difference found");
}

#[test]
fn valid_conversations_go_as_with_memcached() {
    let both = Both::start();
    compare(both.theirs.port, both.ours, Kind::Valid);
}

#[test]
fn odd_conversations_go_as_with_memcached() {
    let both = Both::start();
    compare(both.theirs.port, both.ours, Kind::Odd);
}

#[test]
fn broken_conversations_go_as_with_memcached() {
    let both = Both::start();
    compare(both.theirs.port, both.ours, Kind::Broken);
}

#[test]
fn meta_conversations_go_as_with_memcached() {
    let both = Both::start();
    compare(both.theirs.port, both.ours, Kind::Meta);
}

#[test]
fn cas_conversations_go_as_with_memcached() {
    let both = Both::start();
    compare(both.theirs.port, both.ours, Kind::Cas);
}

/// Each by itself: memcached forgets earlier answers that wait when a get has such a key.
#[test]
fn keys_that_are_too_long_are_refused_as_with_memcached() {
    let both = Both::start();
    for length in [249, 250, 251, 300, 1900, 2100, 70_000] {
        let key = "k".repeat(length);
        for text in [
            format!("get {key}\r\n"),
            format!("get a {key} b\r\n"),
            format!("gets {key}\r\n"),
            format!("gat 0 {key}\r\n"),
            format!("gats 100 a {key}\r\n"),
            format!("mg {key} v\r\n"),
            format!("delete {key}\r\n"),
            format!("set {key} 0 0 1\r\n1\r\n"),
        ] {
            let steps = [Step::Send(text.into_bytes())];
            let (theirs, ours) = (
                converse(both.theirs.port, &steps, 1),
                converse(both.ours, &steps, 1),
            );
            if length > 65_536 {
                // Longer than a line of ours may be (doc/mempool.md); with memcached only the key is
                // too long, or it closes.
                let refused = ours.bytes.starts_with(b"CLIENT_ERROR ") || ours.reset;
                assert!(refused && !ours.hung, "{}", shown(&steps));
                continue;
            }
            let different = difference(&theirs, &ours, &mut BTreeSet::new());
            assert_eq!(different, None, "{}", shown(&steps));
        }
    }
}

/// What has an end in time, on both at once.
#[test]
fn items_expire_as_with_memcached() {
    let both = Both::start();
    let ask = |text: &str| {
        let steps = [Step::Send(text.as_bytes().to_vec())];
        (
            converse(both.theirs.port, &steps, 1),
            converse(both.ours, &steps, 1),
        )
    };
    let (theirs, ours) = ask(
        "set a 0 1 1\r\n1\r\nset b 0 -1 1\r\n2\r\nset c 0 1000 1\r\n3\r\nset d 0 0 1\r\n4\r\n\
         touch d 1\r\nget b c\r\nms e 1 T1\r\n5\r\nset f 0 2592001 1\r\n6\r\nget f\r\n",
    );
    assert_eq!(difference(&theirs, &ours, &mut BTreeSet::new()), None);
    let gone = |said: &Said| !said.bytes.starts_with(b"VALUE a");
    let over = wait_until(SOON, || {
        let (theirs, ours) = ask("get a\r\n");
        gone(&theirs) && gone(&ours)
    });
    assert!(over, "an item that has a second does not expire");
    // The others of a second each, a moment later.
    let same = wait_until(SOON, || {
        let (theirs, ours) = ask("get a b c d e\r\nmg e v\r\n");
        difference(&theirs, &ours, &mut BTreeSet::new()).is_none()
            && ours.bytes.starts_with(b"VALUE c 0 1\r\n3\r\nEND")
    });
    assert!(same, "the others do not expire as with memcached");
}
