// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-mempool as memcached's clients see it: Debian's memcached is asked the same, and answers
//! the same. Besides, the command and the library, which are the other doors to the same values.

mod clients;
mod command;
mod differ;
mod servers;
mod sessions;
