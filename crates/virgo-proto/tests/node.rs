// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Numbers of nodes, and the checksum that they come from.

use proptest::prelude::*;
use virgo_proto::crc::crc32c;
use virgo_proto::node::{is_loopback, mapped, node_id};

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

proptest! {
    #[test]
    fn ipv4_nodes_never_share_a_number(left: [u8; 4], right: [u8; 4], port: u16) {
        prop_assume!(left != right);
        prop_assert_ne!(node_id(&mapped(left), port), node_id(&mapped(right), port));
    }
}
