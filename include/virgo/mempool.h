/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What virgo-mempool exports for other modules, in namespace VIRGO:
 * MODULE_IMPORT_NS("VIRGO"). A module that uses it pins virgo-mempool.
 */
#ifndef _VIRGO_MEMPOOL_H
#define _VIRGO_MEMPOOL_H

#include <linux/types.h>

/**
 * virgo_mem_get() - fetch a named value of this node.
 * @key: the key, 1 to 250 bytes.
 * @key_len: bytes of the key.
 * @value: where the value goes; may be NULL with a @capacity of 0.
 * @capacity: room there, in bytes.
 *
 * The value counts as used, as with any get. Whatever door it was stored by, it
 * is the same value.
 *
 * Context: may sleep.
 * Return: the value's length, even where that is more than @capacity, and then
 * nothing is copied; -ENOENT if there is none, -EINVAL for a null pointer,
 * -ENODEV while virgo-mempool comes or goes.
 */
ssize_t virgo_mem_get(const u8 *key, size_t key_len, u8 *value, size_t capacity);

#endif /* _VIRGO_MEMPOOL_H */
