// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The most frequent source addresses in a kernel firewall's log.

use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasherDefault;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use memchr::{memchr, memmem, memrchr};
use rustc_hash::FxHasher;
use serde_json::{json, Value as Json};

use super::Advice;
use crate::text;

/// What is set.
const KEY: &str = "firewall.frequent_sources";
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;
/// The most addresses that are told apart; a log with more is a flood of forged ones.
const MOST: usize = 20_000_000;

type Counts<K> = HashMap<K, u64, BuildHasherDefault<FxHasher>>;

/// Counts, exact.
#[derive(Default)]
pub(super) struct Sources {
    v4: Counts<u32>,
    v6: Counts<u128>,
    /// Lines of the firewall.
    lines: u64,
    /// Lines whose address is none.
    bad: u64,
    /// Lines past the most addresses.
    over: u64,
    bytes: u64,
}

/// A dotted address, as the kernel prints it.
fn ipv4(text: &[u8]) -> Option<u32> {
    let (mut address, mut part, mut digits, mut dots) = (0_u32, 0_u32, 0, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                part = part * 10 + u32::from(byte - b'0');
                digits += 1;
                if digits > 3 || part > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && dots < 3 => {
                address = (address << 8) | part;
                (part, digits) = (0, 0);
                dots += 1;
            }
            _ => return None,
        }
    }
    (digits > 0 && dots == 3).then_some((address << 8) | part)
}

impl Sources {
    fn count(&mut self, text: &[u8]) {
        self.lines += 1;
        if let Some(address) = ipv4(text) {
            if self.v4.len() < MOST || self.v4.contains_key(&address) {
                *self.v4.entry(address).or_default() += 1;
            } else {
                self.over += 1;
            }
            return;
        }
        match std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            Some(IpAddr::V6(address)) => {
                let address = u128::from(address);
                if self.v6.len() < MOST || self.v6.contains_key(&address) {
                    *self.v6.entry(address).or_default() += 1;
                } else {
                    self.over += 1;
                }
            }
            _ => self.bad += 1,
        }
    }

    /// Counts in whole lines. netfilter's LOG writes ` SRC=… DST=…` into each of its own, once; a
    /// packet inside an ICMP error follows in brackets, and is not counted.
    fn take(&mut self, text: &[u8]) {
        let finder = memmem::Finder::new(b" SRC=");
        let mut rest = text;
        while let Some(at) = finder.find(rest) {
            let after = rest.get(at + 5..).unwrap_or(&[]);
            let end = memchr(b'\n', after).unwrap_or(after.len());
            let (line, below) = after.split_at(end);
            if let Some(end) = memchr(b' ', line) {
                let (address, tail) = line.split_at(end);
                if tail.starts_with(b" DST=") {
                    self.count(address);
                }
            }
            rest = below;
        }
    }

    /// Reads to the end.
    pub(super) fn read(&mut self, mut from: impl Read) -> io::Result<()> {
        let mut room = vec![0; CHUNK];
        let mut held = 0;
        loop {
            let place = room.get_mut(held..).unwrap_or(&mut []);
            let count = match from.read(place) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.bytes += count as u64;
            let filled = held + count;
            if count == 0 {
                self.take(&room[..filled]);
                return Ok(());
            }
            let whole = match memrchr(b'\n', &room[..filled]) {
                Some(end) => end + 1,
                // A line of a MiB is none of the firewall's.
                None if filled == room.len() => filled,
                None => 0,
            };
            self.take(&room[..whole]);
            room.copy_within(whole..filled, 0);
            held = filled - whole;
        }
    }

    /// The most frequent, with their counts; of two as frequent the lower address first.
    fn top(&self, count: usize) -> Vec<(IpAddr, u64)> {
        let v4 = self
            .v4
            .iter()
            .map(|(a, n)| (IpAddr::V4(Ipv4Addr::from(*a)), *n));
        let v6 = self.v6.iter().map(|(a, n)| (IpAddr::V6((*a).into()), *n));
        let mut all: Vec<_> = v4.chain(v6).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(count);
        all
    }
}

pub(super) fn learn(files: &[PathBuf], count: usize) -> anyhow::Result<Advice> {
    let mut sources = Sources::default();
    if files.is_empty() {
        sources.read(io::stdin().lock())?;
    }
    for path in files {
        let fail = |error: io::Error| {
            text::file_error("read", path, &error, "Name a log that can be read.")
        };
        sources
            .read(File::open(path).map_err(fail)?)
            .map_err(fail)?;
    }
    Ok(advise(&sources, count))
}

fn advise(sources: &Sources, count: usize) -> Advice {
    let top = sources.top(count);
    let distinct = sources.v4.len() + sources.v6.len();
    let mut saw = vec![format!(
        "{} of the firewall in {} bytes, from {}",
        text::plural(sources.lines, "line"),
        text::count(sources.bytes),
        text::plural(distinct as u64, "address")
    )];
    let share = |n: u64| n as f64 / sources.lines.max(1) as f64;
    for (address, n) in &top {
        saw.push(format!("{:>12}  {:5.1} %  {address}", n, share(*n) * 100.0));
    }
    let seen: Vec<Json> = top
        .iter()
        .map(|(address, n)| json!({ "address": address, "count": n, "share": share(*n) }))
        .collect();
    let value: Vec<String> = top.iter().map(|(a, n)| format!("{a}={n}")).collect();
    // Lines whose address is not known could belong to any of them.
    let known = sources.lines - sources.bad - sources.over;
    Advice {
        saw,
        seen: json!({
            "lines": sources.lines, "bytes": sources.bytes, "addresses": distinct,
            "unreadable": sources.bad, "over": sources.over, "top": seen,
        }),
        set: (!top.is_empty()).then(|| {
            let named: u64 = top.iter().map(|(_, n)| n).sum();
            let why = format!("{:.0} % of {} lines", share(named) * 100.0, sources.lines);
            (KEY.to_owned(), format!("{{{}}}", value.join(", ")), why)
        }),
        create: true,
        confidence: if sources.lines == 0 {
            0.0
        } else {
            known as f64 / sources.lines as f64
        },
        basis: "every line was counted; the rest are lines whose address could not be read".into(),
        events: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's kernel and UFW write them.
    const LOG: &str = "\
Nov 21 06:25:01 gate kernel: [  812.331940] [UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:12:34:56:52:55:0a:00:02:02:08:00 SRC=203.0.113.9 DST=10.0.2.15 LEN=44 TOS=0x00 PREC=0x00 TTL=64 ID=3 PROTO=TCP SPT=41000 DPT=23 WINDOW=65535 RES=0x00 SYN URGP=0 \n\
Nov 21 06:25:02 gate systemd[1]: Started something. SRC=nothing\n\
2026-11-21T06:25:02.100000+00:00 gate kernel: [UFW AUDIT] IN=eth0 OUT= MAC=52:54 SRC=2001:0db8:0000:0000:0000:0000:0000:0007 DST=2001:0db8:0000:0000:0000:0000:0000:0001 LEN=72 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=TCP SPT=1 DPT=22\n\
Nov 21 06:25:03 gate kernel: [  814.0] IN=eth0 OUT= SRC=198.51.100.1 DST=10.0.2.15 LEN=56 PROTO=ICMP TYPE=3 CODE=3 [SRC=10.0.2.15 DST=203.0.113.9 LEN=60 PROTO=UDP SPT=1 DPT=2 ]\n\
Nov 21 06:25:04 gate kernel: [  815.0] IN=eth0 OUT= SRC=203.0.113.9 DST=10.0.2.15 LEN=44 PROTO=TCP SPT=2 DPT=3\n\
Nov 21 06:25:05 gate kernel: IN=eth0 OUT= SRC=999.1.1.1 DST=10.0.2.15 LEN=44\n\
Nov 21 06:25:06 gate kernel: IN=eth0 OUT= SRC=198.51.100.1 DST=10.0.2.15 LEN=44";

    /// Gives a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(room.len());
            room[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn lines_of_the_firewall_are_counted_and_no_others() {
        for step in [1, 7, 100, 1 << 20] {
            let mut sources = Sources::default();
            sources.read(Drops(LOG.as_bytes(), step)).expect("read");
            let top: Vec<String> = sources
                .top(9)
                .iter()
                .map(|(a, n)| format!("{a} {n}"))
                .collect();
            assert_eq!(
                top,
                ["198.51.100.1 2", "203.0.113.9 2", "2001:db8::7 1"],
                "{step}"
            );
            assert_eq!((sources.lines, sources.bad), (6, 1));
            assert_eq!(sources.bytes, LOG.len() as u64);
        }
    }

    #[test]
    fn advice_names_the_first_and_how_sure_it_is() {
        let mut sources = Sources::default();
        sources.read(LOG.as_bytes()).expect("read");
        let advice = advise(&sources, 1);
        let (key, value, why) = advice.set.expect("advice");
        assert_eq!((key.as_str(), value.as_str()), (KEY, "{198.51.100.1=2}"));
        assert_eq!(why, "33 % of 6 lines");
        assert!((advice.confidence - 5.0 / 6.0).abs() < 1e-9);
        let nothing = advise(&Sources::default(), 5);
        assert!(nothing.set.is_none() && nothing.confidence == 0.0);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        for (text, wanted) in [
            ("0.0.0.0", Some(0)),
            ("255.255.255.255", Some(u32::MAX)),
            ("1.2.3.4", Some(0x0102_0304)),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("1..3.4", None),
            ("256.1.1.1", None),
            ("1.2.3.", None),
            ("1.2.3.1000", None),
            ("", None),
        ] {
            assert_eq!(ipv4(text.as_bytes()), wanted, "{text}");
        }
    }
}
