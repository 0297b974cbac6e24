// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What a node of a cluster is called.

use super::crc::crc32c;

/// The number of the node at this address: the same wherever it is computed, and never 0.
///
/// It is the CRC-32C of the sixteen bytes of the address (IPv4 as `::ffff:a.b.c.d`) and the port in
/// network order. Two IPv4 addresses with one port never have the same number, since they differ in
/// a run of at most 32 bits, which a CRC of 32 bits tells always; for others it is checked when a
/// table is loaded.
pub fn node_id(ip: &[u8; 16], port: u16) -> u32 {
    let mut bytes = [0_u8; 18];
    for (to, from) in bytes.iter_mut().zip(ip.iter().chain(&port.to_be_bytes())) {
        *to = *from;
    }
    crc32c(&bytes).max(1)
}

/// An IPv4 address as an IPv6 one.
pub const fn mapped(ip: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = ip;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Whether the address is one of this machine alone: 127.0.0.0/8 or ::1.
pub fn is_loopback(ip: &[u8; 16]) -> bool {
    matches!(ip, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, _, _, _])
        || matches!(ip, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
}
