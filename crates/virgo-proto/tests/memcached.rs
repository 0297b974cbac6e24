// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! memcached's requests.

use proptest::prelude::*;
use virgo_proto::memcached::{
    base64_len, decode_base64, encode_base64, number, quick_get, step, MetaVerb, Request, Step,
    Verb, Words, BAD_FORMAT, ERROR, KEYS_LINE_MAX, KEY_MAX, LINE_MAX,
};

fn request(text: &[u8]) -> Request<'_> {
    match step(text) {
        Step::Whole(request, taken) => {
            assert_eq!(taken, text.len());
            request
        }
        other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
    }
}

#[track_caller]
fn wrong(text: &[u8], expected: &[u8], skipped: usize, silent: bool) {
    match step(text) {
        Step::Wrong {
            answer,
            taken,
            swallow,
            quiet,
        } => {
            assert_eq!(
                (answer, swallow, quiet),
                (expected, skipped, silent),
                "{}",
                String::from_utf8_lossy(text)
            );
            assert_eq!(taken, text.len());
        }
        other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
    }
}

#[test]
fn classic_requests() {
    assert_eq!(
        request(b"set k 4294967295 -1 1048576 noreply\r\n"),
        Request::Store {
            verb: Verb::Set,
            key: b"k",
            flags: u32::MAX,
            exptime: -1,
            length: 1048576,
            cas: None,
            quiet: true,
        }
    );
    assert_eq!(
        request(b"cas k 0 0 3 18446744073709551615\n"),
        Request::Store {
            verb: Verb::Set,
            key: b"k",
            flags: 0,
            exptime: 0,
            length: 3,
            cas: Some(u64::MAX),
            quiet: false,
        }
    );
    let Request::Get { keys, cas, touch } = request(b"gats 60  a bb  \r\n") else {
        panic!("not a get");
    };
    assert!(cas);
    assert_eq!(touch, Some(60));
    assert!(keys.eq([&b"a"[..], b"bb"]));
    assert_eq!(
        request(b"decr k 5 noreply\r\n"),
        Request::Count {
            key: b"k",
            delta: 5,
            decrement: true,
            quiet: true
        }
    );
    assert_eq!(request(b"mn\r\n"), Request::MetaNothing);
    assert_eq!(request(b"stats\r\n"), Request::Stats(b""));
    assert_eq!(request(b"stats items\r\n"), Request::Stats(b"items"));
}

#[test]
fn wrong_requests() {
    wrong(b"\r\n", ERROR, 0, false);
    wrong(b"GET a\r\n", ERROR, 0, false);
    wrong(b"get\r\n", ERROR, 0, false);
    wrong(b"set k 0 0\r\n", ERROR, 0, false);
    wrong(b"set k 0 0 -1\r\n", BAD_FORMAT, 0, false);
    wrong(b"set k 0 0 2147483646\r\n", BAD_FORMAT, 0, false);
    // The block that was announced is passed over, with its end.
    wrong(b"set k x 0 10\r\n", BAD_FORMAT, 12, false);
    wrong(b"set k x 0 10 noreply\r\n", BAD_FORMAT, 12, true);
    let mut long = b"set ".to_vec();
    long.resize(4 + KEY_MAX + 1, b'k');
    long.extend_from_slice(b" 0 0 7\r\n");
    wrong(&long, BAD_FORMAT, 9, false);
    wrong(
        b"ms k 5 S S\r\n",
        b"CLIENT_ERROR invalid flag\r\n",
        7,
        false,
    );
    wrong(b"ms k x\r\n", BAD_FORMAT, 0, false);
    wrong(b"ms\r\n", ERROR, 0, false);
    wrong(b"ms k\r\n", BAD_FORMAT, 0, false);
    assert_eq!(step(b"\x80\x01"), Step::Binary);
    assert_eq!(step(b"get a"), Step::Part);
    assert_eq!(step(&vec![b'x'; LINE_MAX + 3]), Step::TooLong);
    let mut long = b"mg ".to_vec();
    long.resize(LINE_MAX + 50, b'k');
    assert_eq!(step(&long), Step::TooLong);
    long.push(b'\n');
    wrong(&long, BAD_FORMAT, 0, false);
    let mut many = b"get".to_vec();
    many.extend_from_slice(&b" key".repeat(10_000));
    assert_eq!(step(&many), Step::Part);
    many.extend_from_slice(b"\r\n");
    assert!(
        matches!(step(&many), Step::Whole(Request::Get { keys, .. }, _) if keys.count() == 10_000)
    );
    let mut many = b"get".to_vec();
    many.extend_from_slice(&vec![b' '; KEYS_LINE_MAX]);
    assert_eq!(step(&many), Step::TooLong);
}

#[test]
fn meta_requests() {
    let Request::Meta(MetaVerb::Set(5), meta) =
        request(b"ms Zm9v 5 b T60 F7 C1 E2 I MA N30 q k Oxy\r\n")
    else {
        panic!("not ms");
    };
    assert_eq!(meta.plain_key(&mut [0; KEY_MAX]), b"foo");
    assert_eq!(
        (meta.ttl, meta.vivify, meta.recache),
        (Some(60), Some(30), None)
    );
    assert_eq!(
        (meta.cas, meta.new_cas, meta.user_flags),
        (Some(1), Some(2), 7)
    );
    assert_eq!(
        (meta.mode, meta.quiet, meta.invalidate),
        (Some(b'A'), true, true)
    );
    let last: Vec<&[u8]> = meta.flags.collect();
    assert_eq!(last.len(), 11);
    assert_eq!(last.last(), Some(&&b"Oxy"[..]));
    let Request::Meta(MetaVerb::Count, meta) = request(b"ma n\r\n") else {
        panic!("not ma");
    };
    assert_eq!((meta.delta, meta.initial, meta.mode), (1, 0, None));
    wrong(
        b"mg k b\r\n",
        b"CLIENT_ERROR error decoding key\r\n",
        0,
        false,
    );
    wrong(
        b"mg k v v\r\n",
        b"CLIENT_ERROR duplicate flag\r\n",
        0,
        false,
    );
    wrong(
        b"mg k \xff\r\n",
        b"CLIENT_ERROR duplicate flag\r\n",
        0,
        false,
    );
    let many = b"mg k c f h k l q s t u v O P L I x E1 C2 T1\r\n";
    wrong(
        many,
        b"CLIENT_ERROR options flags are too long\r\n",
        0,
        false,
    );
}

/// As memcached 1.6.38 tells them.
#[test]
fn wrong_flags() {
    let bad_token = b"CLIENT_ERROR bad token in command line format\r\n";
    let bad_flag = b"CLIENT_ERROR invalid or duplicate flag\r\n";
    for (text, answer) in [
        ("mg k T", &bad_token[..]),
        ("mg k F-1", BAD_FORMAT),
        ("mg k Tx F-1", bad_token),
        ("mg k Tx Z", b"CLIENT_ERROR invalid flag\r\n"),
        ("mg k M", b"CLIENT_ERROR incorrect length for M token\r\n"),
        ("mg k Jx", b"CLIENT_ERROR invalid numeric initial value\r\n"),
        ("md k Jx", bad_flag),
        ("md k q q", bad_flag),
        ("ma k F-1", bad_flag),
        ("ma k Zz", bad_flag),
        ("ma k MX", b"CLIENT_ERROR invalid mode for ma M token\r\n"),
        ("ma k Mi", b"CLIENT_ERROR invalid mode for ma M token\r\n"),
        ("mg", ERROR),
        ("me", BAD_FORMAT),
        ("me k b", BAD_FORMAT),
    ] {
        wrong(format!("{text}\r\n").as_bytes(), answer, 0, false);
    }
    let mode = b"CLIENT_ERROR invalid mode for ms M token\r\n";
    wrong(b"ms k 3 Me\r\n", mode, 5, false);
    wrong(b"ms k 3 MQ\r\n", mode, 5, false);
}

#[test]
fn words_too_many() {
    for text in [
        "set k 0 0 3 noreply extra",
        "add k 0 0 3 a b",
        "cas k 0 0 3 1 noreply extra",
        "incr k 1 noreply x",
        "decr k 1 a b",
        "touch k 1 a b",
        "delete k 0 noreply x",
        "flush_all 1 noreply x",
        "verbosity 1 a b",
        "cache_memlimit 8 a b",
    ] {
        wrong(format!("{text}\r\n").as_bytes(), ERROR, 0, false);
    }
    // One too many is only no wish for silence.
    assert!(matches!(
        request(b"set k 0 0 3 nonsense\r\n"),
        Request::Store { quiet: false, .. }
    ));
}

/// As C's strtoull has them, with which memcached reads them.
#[test]
fn numbers() {
    for (text, value) in [
        ("0", Some(0)),
        ("+1", Some(1)),
        ("-0", Some(0)),
        ("-1", None),
        ("00000000000000000000000000007", Some(7)),
        ("\t5", Some(5)),
        ("5\tx", Some(5)),
        ("5\0x", Some(5)),
        ("5x", None),
        ("", None),
        ("+", None),
        ("+-1", None),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("-18446744073709551615", Some(1)),
        ("99999999999999999999999999", None),
    ] {
        assert_eq!(number(text.as_bytes()), value, "{text:?}");
    }
    for (text, time) in [
        ("-9223372036854775808", i64::MIN),
        ("9223372036854775807", i64::MAX),
        ("+5", 5),
        ("-5", -5),
    ] {
        let line = format!("touch k {text}\r\n");
        assert!(
            matches!(request(line.as_bytes()), Request::Touch { exptime, .. } if exptime == time)
        );
    }
    for text in ["9223372036854775808", "-9223372036854775809", "x"] {
        let line = format!("touch k {text}\r\n");
        let answer = b"CLIENT_ERROR invalid exptime argument\r\n";
        wrong(line.as_bytes(), answer, 0, false);
    }
    // What memcached would take the low half of is refused.
    wrong(b"set k 4294967296 0 1\r\n", BAD_FORMAT, 3, false);
    wrong(b"set k 0 0 4294967297\r\n", BAD_FORMAT, 0, false);
}

#[test]
fn http_gets_nothing() {
    assert_eq!(step(b"POST / HTTP/1.1\r\n"), Step::Binary);
    assert_eq!(step(b"GET /x HTTP/1.0\n"), Step::Binary);
    wrong(b"GET /\r\n", ERROR, 0, false);
    assert!(matches!(step(b"get HTTP/1.1\r\n"), Step::Whole(..)));
}

#[test]
fn words() {
    assert!(Words::new(b"  a  bc d ").eq([&b"a"[..], b"bc", b"d"]));
    assert_eq!(Words::new(b"   ").next(), None);
    let mut words = Words::new(b"a b c");
    words.next();
    assert_eq!(words.rest(), b" b c");
}

#[test]
fn the_quick_way_takes_plain_gets() {
    for (text, keys, taken) in [
        (&b"get a\r\nget b\r\n"[..], &b"a"[..], 7),
        (b"get a b  c\n", b"a b  c", 11),
    ] {
        let (words, bytes) = quick_get(text).expect("a plain get");
        assert_eq!((words.rest(), bytes), (keys, taken));
    }
    for text in [
        &b"get \r\n"[..],
        b"get  a\r\n",
        b"get a",
        b"gets a\r\n",
        b"GET a\r\n",
        b"get\r\n",
        b"",
    ] {
        assert_eq!(quick_get(text), None, "{text:?}");
    }
    let long = format!("get {}\r\n", "k".repeat(KEY_MAX));
    assert_eq!(quick_get(long.as_bytes()), None);
}

proptest! {
    /// The quick way says nothing, or what the other says.
    #[test]
    fn the_quick_way_is_the_same(
        keys in proptest::collection::vec(prop_oneof![
            4 => Just(b'k'), 2 => Just(b' '), 1 => Just(b'\r'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..300),
        front in prop_oneof![4 => Just(&b"get "[..]), 1 => Just(&b"get"[..]), 1 => Just(&b""[..])],
    ) {
        let data = [front, &keys].concat();
        if let Some((keys, taken)) = quick_get(&data) {
            let Step::Whole(Request::Get { keys: own, cas: false, touch: None }, bytes) = step(&data) else {
                return Err(TestCaseError::fail("it is no plain get"));
            };
            prop_assert_eq!(bytes, taken);
            prop_assert!(keys.eq(own));
        }
    }

    #[test]
    fn base64_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..250)) {
        let mut text = [0; 400];
        let text = encode_base64(&bytes, &mut text).expect("room");
        prop_assert_eq!(text.len(), base64_len(bytes.len()));
        let mut room = [0; 250];
        prop_assert_eq!(decode_base64(text, &mut room), Some(&bytes[..]));
    }

    #[test]
    fn anything_decodes_or_does_not(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut room = [0; 250];
        let _ = decode_base64(&text, &mut room);
    }

    #[test]
    fn total_and_within_the_input(text in proptest::collection::vec(any::<u8>(), 1..300)) {
        match step(&text) {
            Step::Whole(_, taken) | Step::Wrong { taken, .. } => {
                prop_assert!(taken > 0 && taken <= text.len());
            }
            _ => {}
        }
    }

    #[test]
    fn total_near_requests(
        which in 0usize..8,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        const REQUESTS: [&[u8]; 8] = [
            b"set key 1 2 3 noreply\r\n",
            b"cas key 1 2 3 4 noreply\r\n",
            b"gats 100 a b c\r\n",
            b"incr n 18446744073709551615\r\n",
            b"ms Zm9v 5 b T60 F7 C1 E2 I MA N30 q k Oxy\r\n",
            b"mg key s v t f k h l c O1 N30 R30 T30\r\n",
            b"ma n N0 J13 D5 MD v t c\r\n",
            b"flush_all 10 noreply\r\n",
        ];
        let mut text = REQUESTS[which].to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text.truncate(cut.index(text.len()) + 1);
        match step(&text) {
            Step::Whole(_, taken) | Step::Wrong { taken, .. } => {
                prop_assert!(taken > 0 && taken <= text.len());
            }
            _ => {}
        }
    }
}
