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

/// The last up to seven bytes, behind the last whole eight, as a little-endian number.
#[inline(always)]
fn tail(data: &[u8]) -> u64 {
    // CAST: below eight.
    let count = (data.len() % 8) as u32;
    if count == 0 {
        return 0;
    }
    if let Some(last) = data.last_chunk::<8>() {
        return u64::from_le_bytes(*last) >> 64u32.wrapping_sub(count.wrapping_mul(8));
    }
    let bytes = data.iter().rev();
    bytes.fold(0, |word, byte| (word << 8) | u64::from(*byte))
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
    for chunk in data.chunks_exact(8) {
        let word = <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
        s.v3 ^= word;
        for _ in 0..C {
            s.round();
        }
        s.v0 ^= word;
    }
    // CAST: the length modulo 256, as the hash is defined.
    let last = ((data.len() as u64) << 56) | tail(data);
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
