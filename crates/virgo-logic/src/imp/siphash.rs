// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! SipHash, the keyed hash of Aumasson and Bernstein: who does not know the key cannot choose
//! inputs that collide.

/// A secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipKey {
    /// First half.
    pub k0: u64,
    /// Second half.
    pub k1: u64,
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

/// The last up to seven bytes as a little-endian number.
#[inline(always)]
fn tail(rest: &[u8]) -> u64 {
    let mut word = 0u64;
    for (at, byte) in (0u32..).zip(rest.iter().take(7)) {
        word |= u64::from(*byte) << at.saturating_mul(8);
    }
    word
}

/// The hash of `data`, with `C` rounds for eight bytes and `D` at the end.
#[inline]
pub fn siphash<const C: usize, const D: usize>(key: &SipKey, data: &[u8]) -> u64 {
    let mut s = State {
        v0: key.k0 ^ 0x736f_6d65_7073_6575,
        v1: key.k1 ^ 0x646f_7261_6e64_6f6d,
        v2: key.k0 ^ 0x6c79_6765_6e65_7261,
        v3: key.k1 ^ 0x7465_6462_7974_6573,
    };
    let mut chunks = data.chunks_exact(8);
    for chunk in chunks.by_ref() {
        let word = <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
        s.v3 ^= word;
        for _ in 0..C {
            s.round();
        }
        s.v0 ^= word;
    }
    // CAST: the length modulo 256, as the hash is defined.
    let last = ((data.len() as u64) << 56) | tail(chunks.remainder());
    s.v3 ^= last;
    for _ in 0..C {
        s.round();
    }
    s.v0 ^= last;
    s.v2 ^= 0xff;
    for _ in 0..D {
        s.round();
    }
    s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

/// SipHash-1-3, which hash tables use.
#[inline]
pub fn siphash13(key: &SipKey, data: &[u8]) -> u64 {
    siphash::<1, 3>(key, data)
}
