// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What goes before a request that virgo-queue passes on.

use proptest::prelude::*;
use virgo_proto::errand::{key, parse, Errand, Place};

#[test]
fn words_before_a_request() {
    for (text, place, again, request) in [
        ("primes 100", Place::Unsaid, false, "primes 100"),
        ("@here get a\r\n", Place::Here, false, "get a\r\n"),
        ("@again primes 1", Place::Unsaid, true, "primes 1"),
        ("@p2c @again primes 1", Place::TwoChoices, true, "primes 1"),
        ("@again @random echo @x", Place::Random, true, "echo @x"),
        ("@least-loaded  a", Place::LeastLoaded, false, " a"),
        ("@0a4D0002 uname", Place::Node(0x0a4d_0002), false, "uname"),
    ] {
        let errand = Errand {
            place,
            again,
            program: false,
            request: request.as_bytes(),
        };
        assert_eq!(parse(text.as_bytes()), Some(errand), "{text}");
    }
}

#[test]
fn a_program_is_bytes() {
    for (text, place, again, request) in [
        (
            &b"@program \0@here "[..],
            Place::Unsaid,
            false,
            &b"\0@here "[..],
        ),
        (
            b"@here @again @program @p2c x",
            Place::Here,
            true,
            b"@p2c x",
        ),
        (b"@again @program  ", Place::Unsaid, true, b" "),
    ] {
        let errand = Errand {
            place,
            again,
            program: true,
            request,
        };
        assert_eq!(parse(text), Some(errand), "{}", text.escape_ascii());
    }
    for text in ["@program", "@program ", "@programs a", "@here @program "] {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn what_is_refused() {
    for text in [
        "",
        "@",
        "@ a",
        "@here",
        "@here ",
        "@here @p2c a",
        "@0a4d000g a",
        "@0a4d00022 a",
        "@a a",
        "@+a4d0002 a",
        "@again",
        "@@here a",
    ] {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn the_key_of_a_request() {
    for (request, wanted) in [
        ("get a b", Some("a")),
        ("gets a\r\n", Some("a")),
        ("set key 0 0 3\r\nget\r\n", Some("key")),
        ("gat 10 key\n", Some("key")),
        ("ma n N0 J5 D1 v\r\n", Some("n")),
        ("incr n", Some("n")),
        ("stats", None),
        ("get", None),
        ("\r\n", None),
        ("virgo_cloud_malloc(10)", None),
        ("flush_all 10", None),
    ] {
        assert_eq!(
            key(request.as_bytes()),
            wanted.map(str::as_bytes),
            "{request}"
        );
    }
}

proptest! {
    /// Whatever comes, what is taken for the request is the text's own end.
    #[test]
    fn the_request_is_the_rest(text in "(@[a-z0-9 -]{0,12} ?){0,3}[ -~]{0,20}") {
        if let Some(errand) = parse(text.as_bytes()) {
            prop_assert!(text.as_bytes().ends_with(errand.request));
            prop_assert!(!errand.request.is_empty());
        }
    }

    /// What has no words before it is left alone.
    #[test]
    fn nothing_before(text in prop::collection::vec(any::<u8>(), 1..64)) {
        prop_assume!(text[0] != b'@');
        prop_assert_eq!(parse(&text).map(|errand| errand.request), Some(&text[..]));
    }
}
