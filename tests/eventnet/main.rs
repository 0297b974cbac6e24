// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-eventnet.

mod bounds;
mod events;
mod export;
mod messages;
mod world;
