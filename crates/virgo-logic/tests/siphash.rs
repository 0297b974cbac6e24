// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! SipHash against the vectors of its authors.

use virgo_logic::siphash::{siphash, SipKey};

#[test]
fn the_published_vectors() {
    let key = SipKey {
        k0: 0x0706_0504_0302_0100,
        k1: 0x0f0e_0d0c_0b0a_0908,
    };
    let data: Vec<u8> = (0..64).collect();
    let expected: [(usize, u64); 5] = [
        (0, 0x726f_db47_dd0e_0e31),
        (1, 0x74f8_39c5_93dc_67fd),
        (7, 0xab02_00f5_8b01_d137),
        (8, 0x93f5_f579_9a93_2462),
        (15, 0xa129_ca61_49be_45e5),
    ];
    for (length, hash) in expected {
        assert_eq!(siphash::<2, 4>(&key, &data[..length]), hash, "{length}");
    }
}
