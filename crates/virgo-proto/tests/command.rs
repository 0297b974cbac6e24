// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The lines of `/proc/virgo/profiler/status`.

use proptest::prelude::*;
use virgo_proto::command::{parse_command, parse_commands, parse_pid, Command, CommandError};

#[test]
fn understands_what_shells_and_c_programs_write() {
    let cases: &[(&[u8], Result<Command, CommandError>)] = &[
        (b"R 1", Ok(Command::Register(1))),
        (b"U 4711", Ok(Command::Unregister(4711))),
        (b"R1", Ok(Command::Register(1))),
        (b"R\t 7 \r", Ok(Command::Register(7))),
        (b"R 2147483647", Ok(Command::Register(i32::MAX))),
        (b"R 2147483648", Err(CommandError::BadPid)),
        (b"R 99999999999999999999", Err(CommandError::BadPid)),
        (b"R 0", Err(CommandError::BadPid)),
        (b"R -1", Err(CommandError::BadPid)),
        (b"R +1", Err(CommandError::BadPid)),
        (b"R 1 2", Err(CommandError::BadPid)),
        (b"R 0x10", Err(CommandError::BadPid)),
        (b"R", Err(CommandError::BadPid)),
        (b"R ", Err(CommandError::BadPid)),
        (b"r 1", Err(CommandError::UnknownVerb)),
        (b" R 1", Err(CommandError::UnknownVerb)),
        (b"", Err(CommandError::UnknownVerb)),
        (b"\xff\xfe", Err(CommandError::UnknownVerb)),
        (b"R 1\0", Err(CommandError::BadPid)),
    ];
    for (line, expected) in cases {
        assert_eq!(parse_command(line), *expected, "line {line:?}");
    }
}

#[test]
fn takes_several_lines_and_a_trailing_nul() {
    let parsed: Result<Vec<_>, _> = parse_commands(b"R 3\n\nU 5\r\nR 7\n\0").collect();
    assert_eq!(
        parsed,
        Ok(vec![
            Command::Register(3),
            Command::Unregister(5),
            Command::Register(7)
        ])
    );
    assert_eq!(parse_commands(b"\n \n").count(), 0);
}

proptest! {
    #[test]
    fn never_panics_and_never_invents_a_pid(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        for command in parse_commands(&text).flatten() {
            let (Command::Register(pid) | Command::Unregister(pid)) = command;
            prop_assert!(pid > 0);
        }
    }

    #[test]
    fn every_pid_round_trips(pid in 1..i32::MAX) {
        prop_assert_eq!(parse_pid(pid.to_string().as_bytes()), Some(pid));
    }
}
