# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Makes an empty qcow2 overlay on a raw image, so that QEMU's tools need not be there.

Unlike QEMU's snapshot=on the overlay outlives the process: a node whose power was cut comes back
with its disk as it was left.
"""

from __future__ import annotations

import struct
from pathlib import Path

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
# Version 3 of the format: docs/interop/qcow2 of QEMU.
HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
BACKING_FORMAT = 0xE2792ACA


def make_overlay(path: Path, backing: Path) -> None:
    """An overlay at `path` of the raw image `backing`."""
    size = backing.stat().st_size
    name = str(backing).encode()
    entries = -(-size // (CLUSTER * (CLUSTER // 8)))  # of the L1 table: one a table of clusters
    if entries > CLUSTER // 8:
        raise ValueError(f"{backing} is too large")
    extensions = struct.pack(">II", BACKING_FORMAT, 3) + b"raw\0\0\0\0\0" + struct.pack(">II", 0, 0)
    refcount_table, refcount_block, l1_table, end = (CLUSTER * n for n in (1, 2, 3, 4))
    header = HEADER.pack(
        b"QFI\xfb", 3,
        HEADER.size + len(extensions), len(name),  # the backing file's name
        CLUSTER_BITS, size,
        0,  # no encryption
        entries, l1_table,
        refcount_table, 1,
        0, 0,  # no snapshots
        0, 0, 0,  # no feature bits
        4,  # refcounts of 16 bits
        HEADER.size,
    )  # fmt: skip
    with path.open("wb") as f:
        f.write(header + extensions + name)
        f.seek(refcount_table)
        f.write(struct.pack(">Q", refcount_block))
        f.seek(refcount_block)
        f.write(struct.pack(">4H", 1, 1, 1, 1))
        f.truncate(end)
