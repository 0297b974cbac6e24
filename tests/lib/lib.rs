// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What the tests that run in guests share.
