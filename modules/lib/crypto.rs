// SPDX-License-Identifier: GPL-2.0-only

//! Tags, nonces and checksums, by the kernel's own code. For virgo-core, which beside
//! [`super::cluster_exports`] is the only module that has it.

use kernel::{
    bindings,
    prelude::*, //
};

/// Bytes of a key made here, of a tag and of a nonce.
pub(crate) const SIZE: usize = 32;

extern "C" {
    // modules/shim/crypto.c, linked into virgo-core.
    fn virgo_shim_hmac_sha256(
        key: *const u8,
        key_len: usize,
        pieces: *const bindings::kvec,
        count: usize,
        out: *mut u8,
    );
    fn virgo_shim_differ(left: *const u8, right: *const u8, len: usize) -> c_int;
    fn virgo_shim_wipe(memory: *mut c_void, len: usize);
    // include/linux/crc32.h.
    fn crc32c(crc: u32, data: *const c_void, len: usize) -> u32;
}

/// A key for HMAC-SHA-256, of at most so many bytes. Wiped when it is dropped.
pub(crate) struct Key {
    bytes: KVec<u8>,
}

impl Key {
    /// A copy of `bytes`. `ENOMEM`. May sleep.
    pub(crate) fn new(bytes: &[u8]) -> Result<Key> {
        let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL)?;
        copy.extend_from_slice(bytes, GFP_KERNEL)?;
        Ok(Key { bytes: copy })
    }

    /// A key from this one, for one use. `ENOMEM`. May sleep.
    pub(crate) fn derive(&self, pieces: &[&[u8]]) -> Result<Key> {
        Key::new(&self.tag(pieces))
    }

    /// The tag of a message in at most four pieces; more are left out. Does not sleep.
    pub(crate) fn tag(&self, pieces: &[&[u8]]) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        let vec: [bindings::kvec; 4] = core::array::from_fn(|index| {
            let piece: &[u8] = pieces.get(index).copied().unwrap_or(&[]);
            bindings::kvec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            }
        });
        // SAFETY: Key and pieces are readable for their lengths, and `out` has a tag's bytes.
        unsafe {
            virgo_shim_hmac_sha256(
                self.bytes.as_ptr(),
                self.bytes.len(),
                vec.as_ptr(),
                vec.len(),
                out.as_mut_ptr(),
            )
        };
        out
    }

    /// Whether two keys are the same.
    pub(crate) fn same(&self, other: &Key) -> bool {
        self.bytes.len() == other.bytes.len() && !differ(&self.bytes, &other.bytes)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

/// Zeros memory that held a secret.
pub(crate) fn wipe(bytes: &mut [u8]) {
    // SAFETY: The slice is writable for its length.
    unsafe { virgo_shim_wipe(bytes.as_mut_ptr().cast(), bytes.len()) };
}

/// Whether two secrets differ; how long it takes does not tell where.
pub(crate) fn differ(left: &[u8], right: &[u8]) -> bool {
    left.len() != right.len()
        // SAFETY: Both are readable for the length.
        || unsafe { virgo_shim_differ(left.as_ptr(), right.as_ptr(), left.len()) } != 0
}

/// Random bytes.
pub(crate) fn nonce() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    // SAFETY: Writable for the length.
    unsafe { bindings::get_random_bytes(bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes
}

/// CRC-32C, as `proto::crc::crc32c`, by the processor's instruction where it has one.
pub(crate) fn checksum(data: &[u8]) -> u32 {
    // SAFETY: Readable for the length.
    !unsafe { crc32c(u32::MAX, data.as_ptr().cast(), data.len()) }
}
