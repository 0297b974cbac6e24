// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Made-up conversations with a memcached: valid ones, odd ones, and broken ones. A seed gives the
//! same conversation everywhere.

/// xorshift64*: the same numbers on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// What a conversation consists of.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Bytes to send as they are.
    Send(Vec<u8>),
    /// A `cas` of an item with the unique number that it has, or (false) with another.
    Cas(String, bool, Vec<u8>),
    /// The same with `ms KEY LENGTH C(NUMBER)`.
    MetaCas(String, bool, Vec<u8>),
}

/// How wild a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What a well-made client sends.
    Valid,
    /// Commands whose arguments are at or past their bounds; each still ends where it says.
    Odd,
    /// Bytes are changed, lost, doubled.
    Broken,
    /// The meta commands with their flags, wrong ones among them.
    Meta,
    /// Conversations in which the answers are waited for.
    Cas,
}

pub(crate) const KINDS: [Kind; 5] = [Kind::Valid, Kind::Odd, Kind::Broken, Kind::Meta, Kind::Cas];

const KEYS: [&str; 6] = ["a", "b", "key1", "K:7/%", "counter", "long"];

fn key(random: &mut Random) -> String {
    match random.below(12) {
        0 => "x".repeat(250),
        at => KEYS[at % KEYS.len()].into(),
    }
}

/// A key that is wrong, or looks so.
fn odd_key(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => Vec::new(),
        1 => vec![b'y'; 251],
        2 => vec![b'y'; 300],
        3 => b"with\ttab".to_vec(),
        4 => "schlüssel".as_bytes().to_vec(),
        _ => b"\x01\x02\x7f".to_vec(),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(10) {
        0 => 0,
        1 => 1,
        2 => random.below(3000),
        3 => 16_000 + random.below(1000),
        _ => random.below(40),
    };
    match random.below(4) {
        // Never white space in front: memcached's incr reads on behind a value that is nothing else.
        0 => (0..length)
            .map(|at| random.next() as u8 | if at == 0 { 0x80 } else { 0 })
            .collect(),
        1 => b"END\r\nVALUE a 0 1\r\n\r\n"
            .iter()
            .copied()
            .cycle()
            .take(length)
            .collect(),
        2 => format!("{}", random.next() % 1_000_000).into_bytes(),
        _ => (0..length).map(|at| b'a' + (at % 26) as u8).collect(),
    }
}

fn number(random: &mut Random) -> &'static str {
    random.pick(&[
        "0",
        "1",
        "7",
        "-1",
        "+1",
        "007",
        "4294967295",
        "4294967296",
        "2147483647",
        "2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "abc",
        "1a",
        "0x10",
        "1.5",
        "-",
        "",
    ])
}

/// A time that is odd. memcached keeps times in 32 bits, and takes those past 2038 for over.
fn odd_time(random: &mut Random) -> &'static str {
    random.pick(&[
        "1000",
        "-1",
        "+1000",
        "0001000",
        "2147483647",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999",
        "abc",
        "1a",
        "0x10",
        "1.5",
        "-",
        "",
    ])
}

/// Seconds that no test lasts, or that are over.
fn time(random: &mut Random) -> &'static str {
    random.pick(&["0", "0", "0", "1000", "2592000", "-1", "2000000000"])
}

fn noreply(random: &mut Random) -> &'static str {
    if random.once_in(6) {
        " noreply"
    } else {
        ""
    }
}

fn storage(random: &mut Random) -> Vec<u8> {
    let verb = random.pick(&["set", "set", "set", "add", "replace", "append", "prepend"]);
    let data = value(random);
    let flags = random.pick(&["0", "0", "1", "42", "65535", "4294967295"]);
    let mut line = format!(
        "{verb} {} {flags} {} {}{}\r\n",
        key(random),
        time(random),
        data.len(),
        noreply(random)
    )
    .into_bytes();
    line.extend_from_slice(&data);
    line.extend_from_slice(b"\r\n");
    line
}

fn plain(random: &mut Random) -> Vec<u8> {
    let first = key(random);
    match random.below(16) {
        0..=4 => storage(random),
        5 | 6 => format!("get {first}\r\n").into_bytes(),
        7 => {
            let mut line = String::from(random.pick(&["get", "get", "gat 500", "gat 0"]));
            for _ in 0..1 + random.below(30) {
                line += " ";
                line += &key(random);
            }
            (line + "\r\n").into_bytes()
        }
        8 => format!("gets {first} {}\r\n", key(random)).into_bytes(),
        9 => format!("delete {first}{}\r\n", noreply(random)).into_bytes(),
        10 | 11 => {
            let delta = random.pick(&["1", "10", "0", "99", "18446744073709551615", "4294967296"]);
            let verb = random.pick(&["incr", "decr"]);
            let name = if random.once_in(3) { &first } else { "counter" };
            format!("{verb} {name} {delta}{}\r\n", noreply(random)).into_bytes()
        }
        12 => {
            let start = random.pick(&["0", "5", "9", "99", "18446744073709551615", "10 ", "x"]);
            format!("set counter 0 0 {}\r\n{start}\r\n", start.len()).into_bytes()
        }
        13 => format!("touch {first} {}{}\r\n", time(random), noreply(random)).into_bytes(),
        14 => format!("gats {} {first}\r\n", random.pick(&["0", "77", "-1"])).into_bytes(),
        _ => random
            .pick(&[
                "version\r\n",
                "verbosity 1\r\n",
                "verbosity 0 noreply\r\n",
                "flush_all\r\n",
                "flush_all 0\r\n",
                "flush_all noreply\r\n",
                "mn\r\n",
            ])
            .as_bytes()
            .to_vec(),
    }
}

/// A command with one thing about it that is out of order, but complete.
fn odd(random: &mut Random) -> Vec<u8> {
    let (first, some, time) = (key(random), number(random), odd_time(random));
    let bad = odd_key(random);
    let with_bad = |before: &str, after: &str| {
        let mut line = before.as_bytes().to_vec();
        line.extend_from_slice(&bad);
        line.extend_from_slice(after.as_bytes());
        line
    };
    match random.below(26) {
        0 => format!("set {first} {some} 0 3\r\nabc\r\n").into_bytes(),
        1 => format!("set {first} 0 {time} 3\r\nabc\r\n").into_bytes(),
        2 => with_bad("set ", " 0 0 3\r\nabc\r\n"),
        3 => with_bad("get ", "\r\n"),
        4 => with_bad("get a b ", " key1\r\n"),
        5 => with_bad("delete ", "\r\n"),
        6 => format!("incr {first} {some}\r\n").into_bytes(),
        7 => format!("decr counter {some}\r\n").into_bytes(),
        8 => format!("touch {first} {time}\r\n").into_bytes(),
        9 => format!("gat {time} {first}\r\n").into_bytes(),
        10 => format!("delete {first} {some}\r\n").into_bytes(),
        11 => {
            let when = random.pick(&["0", "-1", "-", "abc", "0x", "-99999999999999999999"]);
            format!("flush_all {when}\r\n").into_bytes()
        }
        12 => format!("verbosity {some}\r\n").into_bytes(),
        13 => format!("set {first} 0 0 5\r\nabc\r\n\r\n").into_bytes(),
        14 => format!("set {first} 0 0 2\r\nabc\r\n").into_bytes(),
        15 => format!("set {first} 0 0 3\nabc\n").into_bytes(),
        16 => format!("get {first}\n").into_bytes(),
        17 => format!("  get   {first}  \r\n").into_bytes(),
        18 => format!("GET {first}\r\n").into_bytes(),
        19 => b"\r\n".to_vec(),
        20 => random
            .pick(&[
                "get\r\n",
                "gets\r\n",
                "gat\r\n",
                "gat 0\r\n",
                "set\r\n",
                "set a\r\n",
                "set a 0\r\n",
                "set a 0 0\r\n",
                "delete\r\n",
                "incr\r\n",
                "incr a\r\n",
                "touch\r\n",
                "touch a\r\n",
                "cas a 0 0 1\r\n",
                "cas\r\n",
                "verbosity\r\n",
                "nonsense\r\n",
                "get_\r\n",
                "se\r\n",
                "version x\r\n",
                "flush_all x\r\n",
                "flush_all 0 noreply\r\n",
                "mn x\r\n",
                "stats nonsense\r\n",
                "delete a 0\r\n",
                "delete a 0 noreply\r\n",
                "delete a 5 noreply\r\n",
                "delete a b c\r\n",
                "delete a 0 noreply x\r\n",
                "incr a 1 2 3\r\n",
                "decr a 1 noreply x\r\n",
                "touch a 1 noreply x\r\n",
                "gat x noreply\r\n",
                "flush_all noreply 0\r\n",
                "flush_all 0 0 0\r\n",
                "verbosity 1 2 3\r\n",
                "mg\r\n",
                "me\r\n",
            ])
            .as_bytes()
            .to_vec(),
        21 => format!("set {first} 0 0 3 nonsense\r\nabc\r\n").into_bytes(),
        22 => format!("set {first} 0 0 3 noreply extra\r\nabc\r\n").into_bytes(),
        23 => format!("cas {first} 0 0 3 {some}\r\nabc\r\n").into_bytes(),
        24 => {
            let mut line = format!("set {first} 0 0 1048577\r\n").into_bytes();
            line.extend_from_slice(&vec![b'z'; 1_048_577]);
            line.extend_from_slice(b"\r\n");
            line
        }
        // Its value is a line of its own.
        _ => format!("set {first} 0 0 {some}\r\nabc\r\n").into_bytes(),
    }
}

/// Flags for a meta command, most of them right.
fn meta_flags(random: &mut Random, good: &[&'static str]) -> String {
    let mut flags = String::new();
    for _ in 0..random.below(5) {
        flags += " ";
        flags += if random.once_in(12) {
            random.pick(&[
                "T",
                "Tx",
                "T-1",
                "Z",
                "!",
                "C",
                "Cx",
                "N",
                "E",
                "D",
                "J",
                "M",
                "MQ",
                "O",
                "b",
                "0",
                "F-1",
                "F4294967296",
                "t",
                "I",
                "MEE",
                "Me",
                "Jx",
                "D-1",
                "F+7",
                "v",
            ])
        } else {
            random.pick(good)
        };
    }
    flags
}

fn meta(random: &mut Random) -> Vec<u8> {
    let first = match random.below(20) {
        0 => "x".repeat(251),
        // base64 of "foo" and of nothing that base64 knows.
        1 => "Zm9v".into(),
        2 => "Zm9".into(),
        _ => key(random),
    };
    match random.below(12) {
        0..=3 => {
            let flags = meta_flags(
                random,
                &[
                    "v", "v", "f", "s", "k", "t", "c", "h", "l", "q", "Oopaque", "O1", "T100",
                    "T0", "N30", "R20", "b", "E1000",
                ],
            );
            format!("mg {first}{flags}\r\n").into_bytes()
        }
        4..=6 => {
            let mut data = value(random);
            if first.len() > 250 {
                // memcached takes it for commands, and closes where it is too long for one.
                data.truncate(100);
            }
            let flags = meta_flags(
                random,
                &[
                    "F7", "F0", "T0", "T1000", "k", "Oabc", "q", "c", "ME", "MA", "MP", "MR", "MS",
                    "Me", "Ma", "Mp", "I", "C1", "b", "E77", "N90", "s",
                ],
            );
            let mut line = format!("ms {first} {}{flags}\r\n", data.len()).into_bytes();
            line.extend_from_slice(&data);
            line.extend_from_slice(b"\r\n");
            line
        }
        7 => {
            let flags = meta_flags(random, &["q", "k", "Oq1", "I", "T30", "C1", "x", "b", "E9"]);
            format!("md {first}{flags}\r\n").into_bytes()
        }
        8 | 9 => {
            let flags = meta_flags(
                random,
                &[
                    "N0", "N60", "J13", "D5", "D1", "MI", "MD", "M+", "M-", "Mi", "Md", "v", "t",
                    "c", "k", "q", "O7", "T60", "C1", "E12",
                ],
            );
            let name = if random.once_in(3) { &first } else { "counter" };
            format!("ma {name}{flags}\r\n").into_bytes()
        }
        10 => random
            .pick(&[
                "mn\r\n",
                "mg\r\n",
                "ms\r\n",
                "ms a\r\n",
                "ms a x\r\nabc\r\n",
                "ms a -1\r\nabc\r\n",
                "ms a 3 T\r\nabc\r\n",
                "md\r\n",
                "ma\r\n",
                "mg a v v\r\n",
                "mg a k k k\r\n",
                "ms a 3\r\nabcd\r\n",
                "ms a 2\r\nabcd\r\n",
                "me nothing-here\r\n",
                "mx a\r\n",
                "mg a O0123456789012345678901234567890123 v\r\n",
            ])
            .as_bytes()
            .to_vec(),
        _ => plain(random),
    }
}

/// Changes a few bytes of something that was right.
fn broken(random: &mut Random, mut text: Vec<u8>) -> Vec<u8> {
    for _ in 0..1 + random.below(3) {
        if text.is_empty() {
            break;
        }
        let at = random.below(text.len());
        match random.below(6) {
            0 => {
                text.remove(at);
            }
            1 => text.insert(at, random.next() as u8),
            2 => text[at] ^= 1 << random.below(8),
            3 => text.truncate(at),
            4 => text.insert(at, b' '),
            _ => {
                let end = (at + random.below(20)).min(text.len());
                let doubled = text[at..end].to_vec();
                text.splice(at..at, doubled);
            }
        }
    }
    text
}

/// Whether a memcached would take commands from it which are not about items: they would change what
/// the server does for all conversations after it, or stop it.
fn meddles(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 10] = [
        b"slabs",
        b"lru",
        b"lru_crawler",
        b"watch",
        b"cache_memlimit",
        b"shutdown",
        b"extstore",
        b"refresh_certs",
        b"misbehave",
        b"debugtime",
    ];
    text.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii_start();
        WORDS.iter().any(|word| line.starts_with(word)) || line.starts_with(b"stats")
    })
}

/// Whether an answer depends on when it is given: a flush that is put off for some seconds.
fn waits(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| {
        let mut words = line.split(|byte| byte.is_ascii_whitespace() || *byte == 0);
        words.any(|word| word.ends_with(b"flush_all"))
            && words
                .any(|word| word.iter().any(|byte| (b'1'..=b'9').contains(byte)) && word[0] != b'-')
    })
}

/// Whether memcached forgets answers to earlier commands that it has not sent yet: it does when a
/// key of a get is too long. `long_keys` in differ.rs asks for those one by one.
fn forgets(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii_start();
        (line.starts_with(b"ge") || line.starts_with(b"ga"))
            && line
                .split(|byte| *byte == b' ')
                .any(|word| word.trim_ascii_end().len() > 250)
    })
}

/// Whether a first byte of the binary protocol stands in front.
fn is_binary(text: &[u8]) -> bool {
    text.first() == Some(&0x80)
}

/// Whether a time is given that memcached has no room for.
fn far(text: &[u8]) -> bool {
    let large = |word: &[u8]| {
        let number = std::str::from_utf8(word)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        number.is_some_and(|number| i32::try_from(number).is_err())
    };
    text.split(|byte| *byte == b'\n').any(|line| {
        let words: Vec<&[u8]> = line
            .trim_ascii()
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
            .collect();
        words
            .iter()
            .enumerate()
            .any(|(at, word)| match word.split_first() {
                Some((b'T' | b'N' | b'R', rest)) => large(rest),
                // After the flags, which have 32 bits without a sign.
                _ => at != 2 && at <= 3 && large(word) && words.first() != Some(&&b"incr"[..]),
            })
            || (words.len() == 3 && words[0] == b"touch" && large(words[2]))
    })
}

/// Whether flags or a length are given that have no room in 32 bits: memcached takes the low half.
fn wide(text: &[u8]) -> bool {
    let large = |word: Option<&&[u8]>, most: i128| {
        let text = word.and_then(|word| std::str::from_utf8(word).ok());
        let number = text.and_then(|text| text.trim_ascii().parse::<i128>().ok());
        number.is_some_and(|number| !(-(1 << 31)..=most).contains(&number))
    };
    text.split(|byte| *byte == b'\n').any(|line| {
        let words: Vec<&[u8]> = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
            .collect();
        if words.first() == Some(&&b"ms"[..]) && large(words.get(2), i32::MAX.into()) {
            return true;
        }
        words.iter().any(|word| {
            let flags = word.strip_prefix(b"F").map(<[u8]>::trim_ascii);
            large(flags.as_ref(), u32::MAX.into())
        }) || (words.len() >= 5
            && (large(words.get(2), u32::MAX.into()) || large(words.get(4), i32::MAX.into())))
    })
}

/// Whether a NUL ends a word or a line for memcached, which reads them as C's strings, or a key is
/// to be base64, of which memcached passes over what is none.
fn ends_early(text: &[u8]) -> bool {
    text.contains(&0)
        || text
            .split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"m") && line.windows(2).any(|two| two == b" b"))
}

/// Whether two servers that are alike could answer differently.
fn unfit(text: &[u8]) -> bool {
    meddles(text) || is_binary(text) || waits(text) || forgets(text) || far(text) || wide(text)
}

/// The conversation with this number.
pub(crate) fn session(number: u64, kind: Kind) -> Vec<Step> {
    let random = &mut Random::new(number.wrapping_mul(8) + kind as u64 + 1);
    let mut steps = vec![Step::Send(b"flush_all\r\n".to_vec())];
    for _ in 0..4 + random.below(30) {
        let step = match kind {
            Kind::Valid => Step::Send(plain(random)),
            Kind::Meta => Step::Send(meta(random)),
            Kind::Odd => {
                if random.once_in(3) {
                    Step::Send(odd(random))
                } else {
                    Step::Send(plain(random))
                }
            }
            Kind::Broken => {
                let whole = if random.once_in(3) {
                    meta(random)
                } else {
                    plain(random)
                };
                if random.once_in(4) {
                    let whole = broken(random, whole);
                    if ends_early(&whole) {
                        continue;
                    }
                    Step::Send(whole)
                } else {
                    Step::Send(whole)
                }
            }
            Kind::Cas => match random.below(3) {
                0 => Step::Cas(key(random), !random.once_in(3), value(random)),
                1 => Step::MetaCas(key(random), !random.once_in(3), value(random)),
                _ => Step::Send(plain(random)),
            },
        };
        if matches!(&step, Step::Send(text) if unfit(text)) {
            continue;
        }
        steps.push(step);
    }
    // Bytes of two steps may make a command that neither has.
    let whole: Vec<u8> = steps
        .iter()
        .flat_map(|step| match step {
            Step::Send(text) => text.clone(),
            Step::Cas(..) | Step::MetaCas(..) => Vec::new(),
        })
        .collect();
    if unfit(&whole) {
        return vec![Step::Send(b"version\r\n".to_vec())];
    }
    steps
}
