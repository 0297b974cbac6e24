// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What is written to `/proc/virgo/profiler/status`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::command::{parse_command, parse_commands, Command};

fuzz_target!(|data: &[u8]| {
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut found = 0;
    for command in parse_commands(data) {
        found += 1;
        if let Ok(command) = command {
            let (verb, pid) = match command {
                Command::Register(pid) => ('R', pid),
                Command::Unregister(pid) => ('U', pid),
            };
            assert!(pid > 0);
            // What was understood, written plainly, is understood the same.
            assert_eq!(parse_command(format!("{verb} {pid}").as_bytes()), Ok(command));
        }
    }
    assert!(found <= lines);
});
