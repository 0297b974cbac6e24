// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Who may connect, and as whom: the allow list of a port.
//!
//! A list is rules with commas between them, the first that fits decides:
//! `ADDRESS[/BITS][=UID:GID][+ro]`, as in `10.77.0.0/24=1000:1000,10.77.0.9+ro,::1`.

use core::net::IpAddr;
use core::str::{from_utf8, FromStr};

/// A rule of an allow list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The network, or the single address.
    pub network: IpAddr,
    /// How many bits of it count.
    pub bits: u8,
    /// Whose rights the client has: user and group; the default's if not said.
    pub user: Option<(u32, u32)>,
    /// It may not change anything.
    pub read_only: bool,
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// No IPv4 or IPv6 address.
    Address,
    /// More bits than the address has, or no number.
    Bits,
    /// Not `UID:GID`, two numbers below 2^32 - 1.
    User,
    /// User 0 is never given away.
    Root,
}

/// A decimal number of digits alone.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// `text` at the first `separator`: before it, and what follows if it is there.
fn split(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == separator) {
        Some(at) => {
            let (front, rest) = text.split_at_checked(at).unwrap_or((text, &[]));
            (front, rest.get(1..))
        }
        None => (text, None),
    }
}

/// An address in its usual spelling.
pub fn address(text: &[u8]) -> Option<IpAddr> {
    let address = IpAddr::from_str(from_utf8(text).ok()?).ok()?;
    Some(address.to_canonical())
}

fn rule(text: &[u8]) -> Result<Rule, RuleError> {
    let (text, read_only) = match text.strip_suffix(b"+ro") {
        Some(front) => (front, true),
        None => (text, false),
    };
    let (place, user) = split(text, b'=');
    let (network, bits) = split(place, b'/');
    let network = address(network).ok_or(RuleError::Address)?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(text) => number(text)
            .and_then(|bits| u8::try_from(bits).ok())
            .filter(|bits| *bits <= most)
            .ok_or(RuleError::Bits)?,
    };
    let user = match user {
        None => None,
        Some(text) => {
            let (uid, gid) = split(text, b':');
            let id = |text: &[u8]| {
                number(text)
                    .and_then(|id| u32::try_from(id).ok())
                    .filter(|id| *id != u32::MAX)
                    .ok_or(RuleError::User)
            };
            let (uid, gid) = (id(uid)?, id(gid.ok_or(RuleError::User)?)?);
            if uid == 0 || gid == 0 {
                return Err(RuleError::Root);
            }
            Some((uid, gid))
        }
    };
    Ok(Rule {
        network,
        bits,
        user,
        read_only,
    })
}

/// The rules of a list; empty ones are left out.
pub fn rules(list: &[u8]) -> impl Iterator<Item = Result<Rule, RuleError>> + '_ {
    list.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|text| !text.is_empty())
        .map(rule)
}

impl Rule {
    /// Whether the rule is about this address. An IPv4 address mapped into IPv6 is the IPv4 one.
    pub fn fits(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let host = u32::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0);
                (a.to_bits() | host) == (b.to_bits() | host)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let host = u128::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0);
                (a.to_bits() | host) == (b.to_bits() | host)
            }
            _ => false,
        }
    }
}
