// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What nodes send one another about programs.

use proptest::prelude::*;
use virgo_proto::program::{
    are_arguments, counter, first, is_path, is_program_name, number, parse_ran, ran, Follow,
    Limits, Progress, Start, ARGUMENTS_MAX, MAX_ARGUMENTS, PATH_MAX,
};

fn started(limits: Limits, arguments: &[u8], input: &[u8]) -> Vec<u8> {
    let length = u32::try_from(arguments.len()).expect("a few bytes");
    [&Start::header(&limits, length)[..], arguments, input].concat()
}

#[test]
fn a_start_comes_apart_as_it_was_put_together() {
    let limits = Limits {
        time_ms: 1,
        processes: 2,
        memory: 3,
        output: 4,
    };
    let bytes = started(limits, b"sort\0-n\0\0", b"2\n1\n");
    let start = Start::parse(&bytes).expect("a request");
    assert_eq!(start.limits, limits);
    assert_eq!(start.arguments, b"sort\0-n\0\0");
    assert_eq!(first(start.arguments), b"sort");
    assert_eq!(start.input, b"2\n1\n");
    for length in 0..32 + 9 {
        assert_eq!(Start::parse(&bytes[..length]), None, "{length} bytes");
    }
    let mut reserved = bytes;
    reserved[28] = 1;
    assert_eq!(Start::parse(&reserved), None);
}

#[test]
fn what_the_queue_keeps_is_as_the_header_has_it() {
    use std::mem::{offset_of, size_of};
    use virgo_proto::uapi::QueueProgram;
    let end = Progress {
        state: 2,
        status: 0x300,
        reason: 1,
        out_length: 3,
        err_length: 2,
        more: 0,
        elapsed_ns: 6,
        user_ns: 7,
        system_ns: 8,
        peak_bytes: 9,
    };
    let head = ran(0x0a4d_0002, &end);
    assert_eq!(head.len(), size_of::<QueueProgram>());
    for (at, length, value) in [
        (offset_of!(QueueProgram, state), 4, 2_u64),
        (offset_of!(QueueProgram, status), 4, 0x300),
        (offset_of!(QueueProgram, reason), 4, 1),
        (offset_of!(QueueProgram, out_length), 4, 3),
        (offset_of!(QueueProgram, err_length), 4, 2),
        (offset_of!(QueueProgram, node), 4, 0x0a4d_0002),
        (offset_of!(QueueProgram, elapsed_ns), 8, 6),
        (offset_of!(QueueProgram, user_ns), 8, 7),
        (offset_of!(QueueProgram, system_ns), 8, 8),
        (offset_of!(QueueProgram, peak_bytes), 8, 9),
    ] {
        assert_eq!(
            &head[at..at + length],
            &value.to_le_bytes()[..length],
            "{at}"
        );
    }
    let kept = [&head[..], b"outer"].concat();
    assert_eq!(
        parse_ran(&kept),
        Some((0x0a4d_0002, end, &b"out"[..], &b"er"[..]))
    );
    for length in 0..kept.len() {
        assert_eq!(parse_ran(&kept[..length]), None, "{length} bytes");
    }
}

#[test]
fn arguments_are_words_with_a_nul() {
    assert!(are_arguments(b"a\0"));
    assert!(are_arguments(b"a\0\0\0"));
    for bad in [&b""[..], b"\0", b"\0a\0", b"a", b"a\0b"] {
        assert!(!are_arguments(bad), "{bad:?}");
    }
    let many = b"a\0".repeat(MAX_ARGUMENTS);
    assert!(are_arguments(&many));
    assert!(!are_arguments(&[&many[..], b"\0"].concat()));
    let mut long = vec![b'a'; ARGUMENTS_MAX];
    assert!(!are_arguments(&long));
    long[ARGUMENTS_MAX - 1] = 0;
    assert!(are_arguments(&long));
    long.insert(0, b'a');
    assert!(!are_arguments(&long));
}

#[test]
fn paths_are_absolute_and_straight() {
    assert!(is_path(b"/usr/bin/sort"));
    assert!(is_path(b"/a"));
    assert!(is_path(b"/.a/..b/c..."));
    let long = [&b"/"[..], &vec![b'a'; PATH_MAX - 1]].concat();
    assert!(is_path(&long));
    for bad in [
        &b""[..],
        b"/",
        b"sort",
        b"./sort",
        b"/usr//bin",
        b"/usr/bin/",
        b"/usr/./sort",
        b"/usr/../sort",
        b"/..",
        b"/a\0",
        &[&long[..], b"a"].concat(),
    ] {
        assert!(!is_path(bad), "{bad:?}");
    }
}

#[test]
fn names_have_no_path_in_them() {
    for good in [&b"sort"[..], b"g++", b"x86_64-gcc", b"a.b"] {
        assert!(is_program_name(good));
    }
    for bad in [
        &b""[..],
        b".",
        b"..",
        b"-n",
        b"a/b",
        b"a b",
        b"a\0",
        &[b'a'; 32],
    ] {
        assert!(!is_program_name(bad), "{bad:?}");
    }
}

#[test]
fn limits_are_never_above_the_tables() {
    let table = Limits {
        time_ms: 1000,
        processes: 10,
        memory: 1 << 20,
        output: 100,
    };
    assert_eq!(Limits::default().within(&table), table);
    let less = Limits {
        time_ms: 1,
        processes: 1,
        memory: 1,
        output: 1,
    };
    assert_eq!(less.within(&table), less);
    let more = Limits {
        time_ms: u32::MAX,
        processes: u32::MAX,
        memory: u64::MAX,
        output: u64::MAX,
    };
    assert_eq!(more.within(&table), table);
}

#[test]
fn counters_are_found_by_their_whole_name() {
    let text = b"usage_usec 1234\nuser_usec 1000\nuser_usec_x 7\nsystem_usec 234\n";
    assert_eq!(counter(text, b"usage_usec"), Some(1234));
    assert_eq!(counter(text, b"user_usec"), Some(1000));
    assert_eq!(counter(text, b"system_usec"), Some(234));
    assert_eq!(counter(text, b"user"), None);
    assert_eq!(counter(b"populated x\n", b"populated"), None);
    assert_eq!(number(b" 12\n"), Some(12));
    for bad in [
        &b""[..],
        b"\n",
        b"max",
        b"-1",
        b"1 2",
        b"18446744073709551616",
    ] {
        assert_eq!(number(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Start::parse(&bytes);
        let _ = Follow::parse(&bytes);
        let _ = Progress::parse(&bytes);
        let _ = counter(&bytes, b"x");
        let _ = (is_path(&bytes), is_program_name(&bytes), are_arguments(&bytes));
    }

    #[test]
    fn follow_and_progress_come_apart(
        words in any::<[u64; 8]>(), out in any::<Vec<u8>>(), err in any::<Vec<u8>>()
    ) {
        let follow = Follow {
            id: words[0],
            out_at: words[1],
            err_at: words[2],
            limit: words[3] as u32,
            wait_ms: (words[3] >> 32) as u32,
        };
        prop_assert_eq!(Follow::parse(&follow.encode()), Some(follow));
        let progress = Progress {
            state: words[4] as u32,
            status: (words[4] >> 32) as u32,
            reason: words[5] as u32,
            out_length: out.len() as u32,
            err_length: err.len() as u32,
            more: (words[5] >> 32) as u32,
            elapsed_ns: words[6],
            user_ns: words[7],
            system_ns: words[0],
            peak_bytes: words[1],
        };
        let bytes = [&progress.encode()[..], &out, &err].concat();
        prop_assert_eq!(Progress::parse(&bytes), Some((progress, &out[..], &err[..])));
        let longer = [&bytes[..], b"x"].concat();
        prop_assert_eq!(Progress::parse(&longer), None);
    }
}
