// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The beanstalkd protocol's lines. What the real program answers is compared in the guest
//! (tests/queue); here is what can be said without it.

use proptest::prelude::*;
use virgo_proto::beanstalk::{is_command, may_be_command, parse, valid_name, Command, Refused};

#[test]
fn every_command_is_understood() {
    let table: &[(&str, Command<'_>)] = &[
        (
            "put 1 2 3 4",
            Command::Put {
                pri: 1,
                delay: 2,
                ttr: 3,
                size: 4,
                trailing: false,
            },
        ),
        (
            "put  1   2 3 4 x",
            Command::Put {
                pri: 1,
                delay: 2,
                ttr: 3,
                size: 4,
                trailing: true,
            },
        ),
        ("peek 7", Command::Peek(7)),
        ("peek-ready", Command::PeekReady),
        ("peek-delayed", Command::PeekDelayed),
        ("peek-buried", Command::PeekBuried),
        ("reserve", Command::Reserve),
        ("reserve-with-timeout 5", Command::ReserveTimeout(5)),
        ("reserve-with-timeout 5x", Command::ReserveTimeout(5)),
        (
            "reserve-with-timeout 2147483647",
            Command::ReserveTimeout(i32::MAX as u32),
        ),
        (
            "reserve-job 18446744073709551615",
            Command::ReserveJob(u64::MAX),
        ),
        ("delete 1", Command::Delete(1)),
        (
            "release 1 2 3",
            Command::Release {
                id: 1,
                pri: 2,
                delay: 3,
            },
        ),
        ("bury 1 2", Command::Bury { id: 1, pri: 2 }),
        ("kick 3 apples", Command::Kick(3)),
        ("kick -1", Command::Kick(u32::MAX)),
        ("kick-job 9", Command::KickJob(9)),
        ("touch 9", Command::Touch(9)),
        ("stats", Command::Stats),
        ("stats-job 1", Command::StatsJob(1)),
        ("stats-tube a", Command::StatsTube(b"a")),
        ("use a-b", Command::Use(b"a-b")),
        ("watch $", Command::Watch(b"$")),
        ("ignore ()", Command::Ignore(b"()")),
        ("list-tubes", Command::ListTubes),
        ("list-tube-used", Command::ListTubeUsed),
        ("list-tubes-watched", Command::ListTubesWatched),
        ("quit", Command::Quit),
        ("quitting", Command::Quit),
        (
            "pause-tube a 3",
            Command::PauseTube {
                name: b"a",
                delay: 3,
            },
        ),
        (
            "pause-tubea 3",
            Command::PauseTube {
                name: b"a",
                delay: 3,
            },
        ),
    ];
    for (line, command) in table {
        assert_eq!(parse(line.as_bytes()), Ok(*command), "{line}");
        for end in 0..line.len() {
            assert!(may_be_command(&line.as_bytes()[..end]), "{line} at {end}");
        }
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let table: &[(&[u8], Refused)] = &[
        (b"", Refused::Unknown),
        (b"put", Refused::Unknown),
        (b"PUT 1 2 3 4", Refused::Unknown),
        (b"KingCobra_17August2015", Refused::Unknown),
        (b"put 1 2 3", Refused::Format),
        (b"put 1 2 3 -4", Refused::Format),
        (b"put 4294967296 0 1 1", Refused::Format),
        (b"put 0 99999999999999999999 1 1", Refused::Format),
        (b"peek-readyx", Refused::Format),
        (b"reserve ", Refused::Format),
        (b"reserve-with-timeout", Refused::Format),
        (b"reserve-with-timeout ", Refused::Format),
        (b"reserve-with-timeout -1", Refused::Format),
        (b"reserve-with-timeout 2147483648", Refused::Format),
        (b"delete 1 ", Refused::Format),
        (b"delete x", Refused::Format),
        (b"delete 18446744073709551616", Refused::Format),
        (b"kick ", Refused::Format),
        (b"use -a", Refused::Format),
        (b"use a b", Refused::Format),
        (b"use ", Refused::Format),
        (b"stats\0", Refused::Format),
        (b"pause-tube", Refused::Format),
        (b"pause-tube a", Refused::Format),
    ];
    for (line, why) in table {
        assert_eq!(parse(line), Err(*why), "{}", String::from_utf8_lossy(line));
    }
    let long = vec![b'a'; 201];
    assert!(!valid_name(&long));
    assert!(valid_name(&long[..200]));
    assert!(!may_be_command(b"KingCobra"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_looked_at_without_harm(line: Vec<u8>) {
        let understood = parse(&line);
        if !is_command(&line) && !line.contains(&0) && line.len() < 200 {
            prop_assert_eq!(understood, Err(Refused::Unknown));
        }
    }

    #[test]
    fn numbers_come_back(pri: u32, delay: u32, ttr: u32, size: u32, id: u64) {
        let line = format!("put {pri} {delay} {ttr} {size}");
        prop_assert_eq!(parse(line.as_bytes()), Ok(Command::Put { pri, delay, ttr, size, trailing: false }));
        let line = format!("release {id} {pri} {delay}");
        prop_assert_eq!(parse(line.as_bytes()), Ok(Command::Release { id, pri, delay }));
    }

    #[test]
    fn near_misses_are_refused_in_words(line in "(put|peek|reserve|kick|use|pause-tube|stats)[- a-z0-9]{0,30}") {
        let _ = parse(line.as_bytes());
    }
}
