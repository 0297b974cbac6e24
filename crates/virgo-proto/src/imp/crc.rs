// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! CRC-32C (Castagnoli; RFC 3720 appendix B.4), the checksum of what VIRGO's nodes send one another.

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const fn table() -> [u32; 256] {
    let mut table = [0_u32; 256];
    let mut index = 0;
    #[allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "at compile time"
    )]
    while index < 256 {
        // CAST: below 256.
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 {
                (value >> 1) ^ POLYNOMIAL
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

static TABLE: [u32; 256] = table();

/// The checksum of `data`. In a kernel module the kernel's own, which uses the processor's
/// instruction for it, gives the same numbers.
///
/// ```
/// assert_eq!(virgo_proto::crc::crc32c(b"123456789"), 0xe306_9283);
/// ```
pub fn crc32c(data: &[u8]) -> u32 {
    crc32c_after(0, data)
}

/// The checksum of `data` behind bytes whose own is `before` (0: none).
pub fn crc32c_after(before: u32, data: &[u8]) -> u32 {
    let mut crc = !before;
    for byte in data {
        // CAST: the low byte is wanted.
        let index = usize::from((crc as u8) ^ byte);
        crc = (crc >> 8) ^ TABLE.get(index).copied().unwrap_or(0);
    }
    !crc
}
