// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-mempool: blocks and named values, by port, ioctl and mapping.

mod blocks;
mod hostile;
mod local;
mod net;
mod protocol;
mod store;
