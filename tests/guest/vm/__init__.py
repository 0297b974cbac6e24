# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Guests for the tests: see doc/testing.md, section "tests/vm"."""
