// SPDX-License-Identifier: GPL-2.0-only
/*
 * HMAC-SHA-256 by the kernel's library, and comparing secrets. In C because
 * the contexts' layout and crypto_memneq() are C's: inline functions.
 */
#include <crypto/sha2.h>
#include <crypto/utils.h>
#include <linux/export.h>
#include <linux/string.h>
#include <linux/uio.h>

#include <virgo/shim.h>

/**
 * virgo_shim_hmac_sha256 - the tag of a message in pieces.
 * @key: @key_len bytes.
 * @pieces: @count pieces, one after the other.
 * @out: 32 bytes.
 *
 * Context: any but hard interrupt; does not sleep.
 */
void virgo_shim_hmac_sha256(const u8 *key, size_t key_len,
			    const struct kvec *pieces, size_t count, u8 *out)
{
	struct hmac_sha256_ctx ctx;
	size_t i;

	hmac_sha256_init_usingrawkey(&ctx, key, key_len);
	for (i = 0; i < count; i++)
		hmac_sha256_update(&ctx, pieces[i].iov_base, pieces[i].iov_len);
	/* It wipes the context. */
	hmac_sha256_final(&ctx, out);
}

/**
 * virgo_shim_differ - whether two secrets differ, in a time that does not
 * tell where.
 */
int virgo_shim_differ(const u8 *left, const u8 *right, size_t len)
{
	return crypto_memneq(left, right, len);
}

/** virgo_shim_wipe - zero memory that held a secret. */
void virgo_shim_wipe(void *memory, size_t len)
{
	memzero_explicit(memory, len);
}
