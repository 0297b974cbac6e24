// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Settings' names, values and files.

use proptest::prelude::*;
use virgo_proto::analytics::{
    parse_bool, parse_int, parse_value, valid_key, valid_words, whole_items, BadValue, Conf,
    ConfFault, Kind, DEPTH_MAX, KEY_MAX, VALUE_MAX,
};

type Pair = (String, String);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn items(conf: &str) -> Vec<Pair> {
    Conf::new(conf.as_bytes())
        .map(|item| {
            let item = item.unwrap_or_else(|error| panic!("{conf:?}: {error:?}"));
            (text(item.key), text(item.value))
        })
        .collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<Pair> {
    wanted
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

#[test]
fn every_form_that_the_file_has_had() {
    let table: &[(&str, &[(&str, &str)])] = &[
        (
            "kernel_analytics1=v1,kernel_analytics2=v2,kernel_analytics3=v3\n",
            &[
                ("kernel_analytics1", "v1"),
                ("kernel_analytics2", "v2"),
                ("kernel_analytics3", "v3"),
            ],
        ),
        (
            "match=True,kernel_analytics1=v1,kernel_analytics2=v2,kernel_analytics3=v3\n\
             ,frequently_read_filedescriptors={'22', '20', '48', '3'}\n\
             ,localhost_load=[1.31 3.68 4.47 2/935 7677]",
            &[
                ("match", "True"),
                ("kernel_analytics1", "v1"),
                ("kernel_analytics2", "v2"),
                ("kernel_analytics3", "v3"),
                ("frequently_read_filedescriptors", "{'22', '20', '48', '3'}"),
                ("localhost_load", "[1.31 3.68 4.47 2/935 7677]"),
            ],
        ),
        // The script appends what is in /proc/loadavg, with the end of its line.
        (
            "a=1,localhost_load=[0.1 0.2 0.3 1/2 3\n]\n,b=2",
            &[
                ("a", "1"),
                ("localhost_load", "[0.1 0.2 0.3 1/2 3\n]"),
                ("b", "2"),
            ],
        ),
        ("MaxNetworkBandwidth=255", &[("MaxNetworkBandwidth", "255")]),
        (
            "key1=value1\nkey2=value2\r\n",
            &[("key1", "value1"), ("key2", "value2")],
        ),
        ("", &[]),
        ("\n\n,,\n", &[]),
        ("# a=1, b=2\n  c = 3 # 4\n", &[("c", "3 # 4")]),
        ("a=\nb=", &[("a", ""), ("b", "")]),
        ("a=b=c", &[("a", "b=c")]),
        ("q='x,y\nz',r=\"],\"", &[("q", "'x,y\nz'"), ("r", "\"],\"")]),
        ("it=isn't,so=fine", &[("it", "isn't"), ("so", "fine")]),
        (
            "k1=v1,k2=v2\0\0\0k3=v3\0",
            &[("k1", "v1"), ("k2", "v2"), ("k3", "v3")],
        ),
        (
            "n=[{(1,2),[3]},\"]\"],m=2",
            &[("n", "[{(1,2),[3]},\"]\"]"), ("m", "2")],
        ),
    ];
    for (conf, wanted) in table {
        assert_eq!(items(conf), pairs(wanted), "{conf:?}");
    }
}

#[test]
fn faults_are_told_with_their_lines_and_the_rest_is_read() {
    let long_key = "k".repeat(KEY_MAX + 1);
    let long_value = "v".repeat(VALUE_MAX + 1);
    let deep = "[".repeat(DEPTH_MAX + 1);
    let table = [
        ("\nnothing\nb=2".to_string(), ConfFault::NoEquals, 2, true),
        ("=1\nb=2".into(), ConfFault::Key, 1, true),
        ("a b=1,b=2".into(), ConfFault::Key, 1, true),
        (format!("{long_key}=1\nb=2"), ConfFault::Key, 1, true),
        (format!("a={long_value}\nb=2"), ConfFault::Long, 1, true),
        ("a=[1}\nb=2".into(), ConfFault::Mismatch, 1, true),
        ("a=1]\nb=2".into(), ConfFault::Mismatch, 1, true),
        ("a=[1,2\nb=2".into(), ConfFault::Unclosed, 1, true),
        ("x=1\n\na='1\nb=2".into(), ConfFault::Unclosed, 3, true),
        (format!("a={deep}\nb=2"), ConfFault::Deep, 1, true),
        ("a=[".into(), ConfFault::Unclosed, 1, false),
    ];
    for (conf, fault, line, more) in table {
        let all: Vec<_> = Conf::new(conf.as_bytes()).collect();
        let first = all.iter().find_map(|item| item.err()).expect(&conf);
        assert_eq!((first.fault, first.line), (fault, line), "{conf:?}");
        assert!(!first.fault.text().is_empty());
        let last = all.last().and_then(|item| item.ok());
        assert_eq!(last.is_some_and(|item| item.key == b"b"), more, "{conf:?}");
    }
    // Just short enough.
    assert!(valid_key(&long_key.as_bytes()[1..]) && !valid_key(b""));
    let deepest = format!("a={}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    assert_eq!(items(&deepest).len(), 1);
}

#[test]
fn numbers_truths_and_words() {
    for (text, wanted) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("+7", Some(7)),
        ("64M", Some(64 << 20)),
        ("2k", Some(2048)),
        ("-1G", Some(-(1 << 30))),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("8388608T", None),
        ("-8388608T", Some(i64::MIN)),
        ("", None),
        ("-", None),
        ("K", None),
        ("1.5", None),
        (" 1", None),
        ("0x10", None),
    ] {
        assert_eq!(parse_int(text.as_bytes()), wanted, "{text}");
    }
    for (text, wanted) in [
        ("True", Some(true)),
        ("yes", Some(true)),
        ("ON", Some(true)),
        ("1", Some(true)),
        ("False", Some(false)),
        ("2", None),
        ("", None),
    ] {
        assert_eq!(parse_bool(text.as_bytes()), wanted, "{text}");
    }
    for (list, good) in [
        ("a|b", true),
        ("one|two|three", true),
        ("a", false),
        ("a|a", false),
        ("a||b", false),
        ("a b|c", false),
        ("", false),
    ] {
        assert_eq!(valid_words(list.as_bytes()), good, "{list}");
    }
    let int = |text: &[u8]| parse_value(Kind::Int, (1, 10), b"", text);
    assert_eq!(int(b"10"), Ok(10));
    assert_eq!(int(b"11"), Err(BadValue::Range));
    assert_eq!(int(b"0"), Err(BadValue::Range));
    assert_eq!(int(b"x"), Err(BadValue::Form));
    let choice = |text: &[u8]| parse_value(Kind::Choice, (0, 0), b"a|b|c", text);
    assert_eq!(choice(b"c"), Ok(2));
    assert_eq!(choice(b"d"), Err(BadValue::Range));
    let any = |text: &[u8]| parse_value(Kind::Text, (0, 0), b"", text);
    assert_eq!(any(&[b'x'; VALUE_MAX]), Ok(0));
    assert_eq!(any(&[b'x'; VALUE_MAX + 1]), Err(BadValue::Long));
    assert_eq!(any(b"a\nb"), Err(BadValue::Form));
    for number in 0..5 {
        assert_eq!(Kind::from_number(number).is_some(), number < 4);
    }
}

fn a_value() -> impl Strategy<Value = String> {
    let leaf = "[a-z0-9./ ]{0,8}".prop_map(|text| text.trim().to_string());
    leaf.prop_recursive(4, 16, 4, |inside| {
        (prop::collection::vec(inside, 0..4), 0..4_usize).prop_map(|(parts, form)| {
            let joined = parts.join([", ", ",", "\n", " , "][form]);
            match form {
                0 => format!("[{joined}]"),
                1 => format!("{{{joined}}}"),
                2 => format!("({joined})"),
                _ => format!("[\"{}\"]", joined.replace('"', "")),
            }
        })
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        pairs in prop::collection::vec(("[A-Za-z0-9_.:/@-]{1,20}", a_value()), 0..8),
        separators in prop::collection::vec(prop::sample::select(vec![",", "\n", "\n,", "\r\n", "\0"]), 8),
    ) {
        let mut conf = String::new();
        for ((key, value), separator) in pairs.iter().zip(&separators) {
            conf += &format!("{key}={value}{separator}");
        }
        prop_assert_eq!(items(&conf), pairs);
        prop_assert_eq!(whole_items(conf.as_bytes()), conf.len());
    }

    #[test]
    fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut line = 0;
        for item in Conf::new(&bytes) {
            let at = match item {
                Ok(item) => {
                    prop_assert!(valid_key(item.key) && item.value.len() <= VALUE_MAX);
                    item.line
                }
                Err(error) => error.line,
            };
            prop_assert!(at >= line);
            line = at;
        }
        prop_assert!(whole_items(&bytes) <= bytes.len());
    }

    #[test]
    fn a_stream_in_any_pieces_gives_the_same(
        pairs in prop::collection::vec(("[a-z]{1,9}", a_value()), 0..8),
        cuts in prop::collection::vec(1..40_usize, 1..60),
    ) {
        // Comments are no items, wherever they are cut.
        let lines: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("# a, b=[\n{key}={value}\n"))
            .collect();
        let conf = lines.concat();
        let (mut held, mut seen, mut rest) = (Vec::new(), Vec::new(), conf.as_bytes());
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cuts.next().unwrap_or(&1)).min(rest.len()));
            held.extend_from_slice(piece);
            rest = after;
            let whole = whole_items(&held);
            for item in Conf::new(&held[..whole]) {
                let item = item.expect("good");
                seen.push((text(item.key), text(item.value)));
            }
            held.drain(..whole);
        }
        prop_assert!(held.is_empty());
        prop_assert_eq!(seen, pairs);
    }

    #[test]
    fn numbers_are_read_as_they_are_printed(number in any::<i64>()) {
        prop_assert_eq!(parse_int(number.to_string().as_bytes()), Some(number));
    }
}
