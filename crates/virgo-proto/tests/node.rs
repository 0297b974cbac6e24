// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Numbers of nodes, and the checksum that they come from.

use proptest::prelude::*;
use virgo_proto::crc::crc32c;
use virgo_proto::node::{is_loopback, mapped, named, node_id};

/// RFC 3720, appendix B.4.
#[test]
fn known_checksums() {
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    let up: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c(&up), 0x46dd_794e);
    assert_eq!(crc32c(b""), 0);
}

#[test]
fn loopback() {
    assert!(is_loopback(&mapped([127, 0, 0, 1])));
    assert!(is_loopback(&mapped([127, 255, 0, 1])));
    assert!(!is_loopback(&mapped([10, 77, 0, 1])));
    assert!(!is_loopback(&[0; 16]));
    assert!(is_loopback(&std::net::Ipv6Addr::LOCALHOST.octets()));
}

#[test]
fn names_of_nodes() {
    let v6 = std::net::Ipv6Addr::LOCALHOST.octets();
    for (text, wanted) in [
        ("10.77.0.2", Some(node_id(&mapped([10, 77, 0, 2]), 40_000))),
        ("10.77.0.2:7", Some(node_id(&mapped([10, 77, 0, 2]), 7))),
        ("::1", Some(node_id(&v6, 40_000))),
        ("[::1]:7", Some(node_id(&v6, 7))),
        ("::ffff:10.77.0.2", named(b"10.77.0.2")),
        ("deadbeef", Some(0xdead_beef)),
        ("00000000", None),
        ("10.77.0.2:0", None),
        ("10.77.0.2:65536", None),
        ("10.77.0", None),
        ("", None),
    ] {
        assert_eq!(named(text.as_bytes()), wanted, "{text}");
    }
    assert_eq!(named(b"\xff"), None);
}

proptest! {
    #[test]
    fn ipv4_nodes_never_share_a_number(left: [u8; 4], right: [u8; 4], port: u16) {
        prop_assume!(left != right);
        prop_assert_ne!(node_id(&mapped(left), port), node_id(&mapped(right), port));
    }
}
