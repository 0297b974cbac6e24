// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The queue's lines: beanstalkd's commands, and KingCobra's records.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virgo_proto::beanstalk::{is_command, may_be_command, parse, valid_name, Command, Refused};
use virgo_proto::kingcobra::{self, TopicOrder, MAX_HEAD};

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Ok(command) => {
            assert!(is_command(data));
            assert!(may_be_command(data));
            match command {
                Command::Use(name)
                | Command::Watch(name)
                | Command::Ignore(name)
                | Command::StatsTube(name) => assert!(valid_name(name)),
                _ => {}
            }
        }
        Err(Refused::Unknown) => assert!(!is_command(data)),
        Err(Refused::Format) => {}
    }
    // The beginning of a command may become one.
    if is_command(data) {
        for end in 0..data.len() {
            assert!(may_be_command(&data[..end]));
        }
    }
    if let Some(order) = kingcobra::parse_topic(data) {
        let (TopicOrder::Subscribe(name)
        | TopicOrder::Unsubscribe(name)
        | TopicOrder::Publish(name, _)) = order;
        assert!(valid_name(name));
    }
    if let Some(message) = kingcobra::parse(data) {
        if let Some(exchange) = message.exchange {
            let mut head = String::new();
            kingcobra::write_head(&mut head, message.kind, &exchange).expect("it has room");
            assert!(head.len() <= MAX_HEAD);
            let whole = [head.as_bytes(), message.payload].concat();
            assert_eq!(kingcobra::parse(&whole), Some(message));
        }
    }
});
