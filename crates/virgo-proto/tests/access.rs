// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Allow lists.

use std::net::IpAddr;

use proptest::prelude::*;
use virgo_proto::access::{address, number, rules, Rule, RuleError};

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn one(text: &str) -> Result<Rule, RuleError> {
    let all: Vec<_> = rules(text.as_bytes()).collect();
    assert_eq!(all.len(), 1, "{text}");
    all[0]
}

#[test]
fn rules_are_understood() {
    let rule = |network, bits, user, read_only| Rule {
        network: ip(network),
        bits,
        user,
        read_only,
    };
    for (text, expected) in [
        ("10.0.0.1", rule("10.0.0.1", 32, None, false)),
        ("10.0.0.0/8", rule("10.0.0.0", 8, None, false)),
        ("0.0.0.0/0+ro", rule("0.0.0.0", 0, None, true)),
        (
            " 10.0.0.0/8=1000:1001 ",
            rule("10.0.0.0", 8, Some((1000, 1001)), false),
        ),
        ("::1", rule("::1", 128, None, false)),
        (
            "2001:db8::/32=5:6+ro",
            rule("2001:db8::", 32, Some((5, 6)), true),
        ),
        // An IPv4 address in IPv6's clothes is the IPv4 one.
        ("::ffff:10.0.0.1", rule("10.0.0.1", 32, None, false)),
    ] {
        assert_eq!(one(text), Ok(expected), "{text}");
    }
    assert_eq!(rules(b"").count(), 0);
    assert_eq!(rules(b" , ,").count(), 0);
    assert_eq!(rules(b"10.0.0.1,::1/64,").filter(Result::is_ok).count(), 2);
}

#[test]
fn and_what_is_none() {
    for (text, expected) in [
        ("10.0.0", RuleError::Address),
        ("here", RuleError::Address),
        ("10.0.0.0/33", RuleError::Bits),
        ("10.0.0.0/", RuleError::Bits),
        ("10.0.0.0/-1", RuleError::Bits),
        ("::/129", RuleError::Bits),
        ("10.0.0.0/8=1000", RuleError::User),
        ("10.0.0.0/8=:", RuleError::User),
        ("10.0.0.0/8=a:b", RuleError::User),
        ("10.0.0.0/8=4294967295:1", RuleError::User),
        ("10.0.0.0/8=4294967296:1", RuleError::User),
        ("10.0.0.0/8=0:1", RuleError::Root),
        ("10.0.0.0/8=1:0", RuleError::Root),
        ("10.0.0.0/8+rw", RuleError::Bits),
    ] {
        assert_eq!(one(text), Err(expected), "{text}");
    }
}

#[test]
fn addresses_fit() {
    for (rule, inside, outside) in [
        (
            "10.77.0.0/24",
            &["10.77.0.0", "10.77.0.255", "::ffff:10.77.0.9"][..],
            &["10.77.1.0", "10.76.0.1", "::1"][..],
        ),
        ("10.77.0.9", &["10.77.0.9"], &["10.77.0.8"]),
        ("0.0.0.0/0", &["1.2.3.4"], &["::2"]),
        ("::/0", &["::2", "ff::1"], &["1.2.3.4"]),
        (
            "2001:db8::/33",
            &["2001:db8:7fff::1"],
            &["2001:db8:8000::1"],
        ),
        ("::1", &["::1"], &["::2"]),
    ] {
        let rule = one(rule).expect("a rule");
        assert!(inside.iter().all(|a| rule.fits(ip(a))), "{rule:?}");
        assert!(!outside.iter().any(|a| rule.fits(ip(a))), "{rule:?}");
    }
}

#[test]
fn numbers() {
    assert_eq!(number(b"0"), Some(0));
    assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
    for bad in [
        &b""[..],
        b"18446744073709551616",
        b"-1",
        b"+1",
        b" 1",
        b"1a",
        b"0x1",
    ] {
        assert_eq!(number(bad), None, "{bad:?}");
    }
    assert_eq!(address(b"127.0.0.1"), Some(ip("127.0.0.1")));
    assert_eq!(address(b"\xff"), None);
}

proptest! {
    #[test]
    fn any_bytes(list in proptest::collection::vec(any::<u8>(), 0..100), a: u32) {
        for rule in rules(&list).flatten() {
            let _ = rule.fits(IpAddr::from(a.to_be_bytes()));
        }
    }

    #[test]
    fn masks(network: u32, bits in 0..=32_u8, other: u32) {
        let rule = Rule {
            network: IpAddr::from(network.to_be_bytes()), bits, user: None, read_only: false,
        };
        let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
        let fits = rule.fits(IpAddr::from(other.to_be_bytes()));
        prop_assert_eq!(fits, network & mask == other & mask);
    }
}
