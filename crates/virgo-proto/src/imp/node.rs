// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What a node of a cluster is called.

use core::net::{IpAddr, SocketAddr};
use core::str;

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

/// The port of the nodes among themselves where nothing is said.
pub const PORT: u16 = 40_000;

/// The number of the node that a text names: an address (`10.0.0.2`, `fd00::2`), one with a port
/// (`10.0.0.2:40000`, `[fd00::2]:40000`), or the number itself in eight hexadecimal digits.
///
/// ```
/// use virgo_proto::node::{mapped, named, node_id};
/// assert_eq!(named(b"10.0.0.2"), Some(node_id(&mapped([10, 0, 0, 2]), 40_000)));
/// assert_eq!(named(b"00c0ffee"), Some(0xc0_ffee));
/// assert_eq!(named(b"somewhere"), None);
/// ```
pub fn named(text: &[u8]) -> Option<u32> {
    if text.len() == 8 && text.iter().all(u8::is_ascii_hexdigit) {
        let number = u32::from_str_radix(str::from_utf8(text).ok()?, 16).ok()?;
        return (number != 0).then_some(number);
    }
    let text = str::from_utf8(text).ok()?;
    let (ip, port) = match text.parse::<SocketAddr>() {
        Ok(whole) => (whole.ip(), whole.port()),
        Err(_) => (text.parse::<IpAddr>().ok()?, PORT),
    };
    if port == 0 {
        return None;
    }
    let octets = match ip {
        IpAddr::V4(ip) => mapped(ip.octets()),
        IpAddr::V6(ip) => ip.octets(),
    };
    Some(node_id(&octets, port))
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
