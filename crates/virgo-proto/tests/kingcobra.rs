// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! KingCobra's lines, there and back.

use proptest::prelude::*;
use virgo_proto::kingcobra::{parse, parse_exchange, write_head, Exchange, Kind, MAX_HEAD};

#[test]
fn the_originals_lines_are_understood() {
    // As in the original's logs, where the address is that of a socket.
    let line = b"REQUEST#1006172#1439827527:3717956#KingCobra_17August2015";
    let message = parse(line).expect("a request");
    assert_eq!(message.kind, Kind::Request);
    assert_eq!(message.payload, b"KingCobra_17August2015");
    let exchange = message.exchange.expect("an exchange");
    assert_eq!(exchange.address, 0x0100_6172);
    assert_eq!(
        (exchange.seconds, exchange.nanoseconds),
        (1_439_827_527, 3_717_956)
    );

    // Its 64-bit version lost the mark behind the time.
    let line = b"REQUEST#1005a5a#4972754480880:4972754479763VIRGO64QueueToKingCobra64";
    let message = parse(line).expect("a request");
    assert_eq!(message.exchange, None);

    let line = b"REPLY#7f000001#12:34 :--- from kingcobra to client";
    let message = parse(line).expect("a reply");
    assert_eq!((message.kind, message.exchange), (Kind::Reply, None));

    assert_eq!(parse(b"REQUEST"), None);
    assert_eq!(parse(b"request#1#1:1#x"), None);
    assert_eq!(parse_exchange(b"7f000001#1:1000000000"), None);
    assert_eq!(parse_exchange(b"17f000001#1:1"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heads_come_back(address: u32, seconds: u64, nanoseconds in 0_u32..1_000_000_000, payload: Vec<u8>, reply: bool) {
        let exchange = Exchange { address, seconds, nanoseconds };
        let kind = if reply { Kind::Reply } else { Kind::Request };
        let mut head = String::new();
        write_head(&mut head, kind, &exchange).expect("text");
        prop_assert!(head.len() <= MAX_HEAD);
        let mut line = head.into_bytes();
        line.extend_from_slice(&payload);
        let message = parse(&line).expect("a message");
        prop_assert_eq!(message.kind, kind);
        prop_assert_eq!(message.exchange, Some(exchange));
        prop_assert_eq!(message.payload, &payload[..]);
    }

    #[test]
    fn any_bytes_are_looked_at_without_harm(line: Vec<u8>) {
        let _ = parse(&line);
        let _ = parse_exchange(&line);
    }
}

#[test]
fn topics_have_names_that_tubes_can_have() {
    use virgo_proto::kingcobra::{parse_topic, TopicOrder};
    let parse = |line: &'static str| parse_topic(line.as_bytes());
    assert_eq!(
        parse("SUBSCRIBE#news"),
        Some(TopicOrder::Subscribe(b"news"))
    );
    assert_eq!(
        parse("UNSUBSCRIBE#news"),
        Some(TopicOrder::Unsubscribe(b"news"))
    );
    assert_eq!(
        parse("PUBLISH#news#a#b"),
        Some(TopicOrder::Publish(b"news", b"a#b"))
    );
    assert_eq!(
        parse("PUBLISH#news#"),
        Some(TopicOrder::Publish(b"news", b""))
    );
    for other in [
        "SUBSCRIBE",
        "SUBSCRIBE#",
        "SUBSCRIBE#a b",
        "SUBSCRIBE#-a",
        "subscribe#a",
        "PUBLISH#news",
        "PUBLISH##text",
        "",
    ] {
        assert_eq!(parse(other), None, "{other}");
    }
}
