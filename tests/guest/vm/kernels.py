# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""The kernels in the cache, and an initramfs that brings a guest from each to its disk."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import SetupError

GUEST_DIR = Path(__file__).resolve().parent.parent

# What stands between the kernel and its disk, the host's folders, the port and the network. Each
# may be built in.
DRIVERS = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "ext4", "9p", "9pnet_virtio")
BUSYBOX = Path("/bin/busybox")
# Files of this folder that travel in the initramfs.
SCRIPTS = ("init", "node-load", "kmemleak-scan")
CFLAGS = ("-static", "-O2", "-Wall", "-Wextra")


@dataclass(frozen=True)
class Kernel:
    """A kernel in the cache."""

    release: str
    directory: Path
    debug: bool

    @property
    def image(self) -> Path:
        """The bzImage."""
        return self.directory / "vmlinuz"

    @property
    def modules(self) -> Path:
        """Its modules; may not be there, if all is built in."""
        return self.directory / "lib" / "modules" / self.release


def find_kernel(cache: Path, name: str) -> Kernel:
    """The kernel that `name` (stock, next, debug, or a release) stands for."""
    pointer = cache / "kernel" / "names" / name
    release = pointer.read_text().strip() if pointer.is_file() else name
    kernel = Kernel(
        release, cache / "kernel" / release, name == "debug" or "debug" in release
    )
    if not kernel.image.is_file():
        raise SetupError(
            f"no kernel {name} in {cache}/kernel (scripts/setup --kernel {name} gets it)"
        )
    return kernel


def module_name(path: str) -> str:
    """The name that modprobe knows a module file by."""
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def driver_closure(modules: Path) -> list[Path]:
    """The module files of DRIVERS and of what they need, in the order to load them."""
    listing = modules / "modules.dep"
    if not listing.is_file():
        return []
    needs: dict[str, list[str]] = {}
    for line in listing.read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {module_name(path): path for path in needs}
    builtin_list = modules / "modules.builtin"
    builtin: set[str] = set()
    if builtin_list.is_file():
        builtin = {module_name(line) for line in builtin_list.read_text().splitlines()}
    order: list[str] = []

    def visit(path: str) -> None:
        if path in order:
            return
        # modules.dep lists what is needed first last.
        for need in reversed(needs[path]):
            visit(need)
        order.append(path)

    for driver in DRIVERS:
        if driver in by_name:
            visit(by_name[driver])
        elif driver not in builtin:
            raise SetupError(f"the kernel of {modules} has no driver {driver}")
    return [modules / path for path in order]


def decompressed(path: Path) -> bytes:
    """A module as busybox's insmod can load it."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(
            ["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True
        ).stdout
    return data


@dataclass(frozen=True)
class _Entry:
    """A file or folder of an initramfs."""

    name: str
    mode: int
    data: bytes = b""


def cpio(entries: Iterable[_Entry]) -> Iterator[bytes]:
    """The entries as a cpio archive of the "newc" format."""

    def record(inode: int, entry: _Entry) -> bytes:
        name = entry.name.encode() + b"\0"
        fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        return pad(head) + pad(entry.data)

    def pad(data: bytes) -> bytes:
        return data + b"\0" * (-len(data) % 4)

    for inode, entry in enumerate(entries, start=1):
        yield record(inode, entry)
    yield record(0, _Entry("TRAILER!!!", 0))


def _build_agent(directory: Path, source: Path) -> Path:
    """The agent, compiled once for each version of its source."""
    key = hashlib.sha256(source.read_bytes() + repr(CFLAGS).encode()).hexdigest()[:16]
    agent = directory / f"agent-{key}"
    if not agent.exists():
        new = agent.with_suffix(".new")
        result = subprocess.run(
            ["gcc", *CFLAGS, "-o", str(new), str(source)],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if result.returncode:
            raise SetupError(f"{source.name} does not compile:\n{result.stderr}")
        new.rename(agent)
    return agent


def make_initramfs(cache: Path, kernel: Kernel) -> Path:
    """The initramfs for a kernel, from the cache if it is there."""
    directory = cache / "guest"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        agent = _build_agent(directory, GUEST_DIR / "agent.c")
        scripts = [_Entry(name, 0o100755, (GUEST_DIR / name).read_bytes()) for name in SCRIPTS]
        listing = kernel.modules / "modules.dep"
        busybox = BUSYBOX.stat()

        key = hashlib.sha256()
        for part in (
            Path(__file__).read_bytes(),
            agent.name.encode(),
            kernel.release.encode(),
            f"{busybox.st_size} {busybox.st_mtime_ns}".encode(),
            listing.read_bytes() if listing.is_file() else b"",
            f"{kernel.image.stat().st_mtime_ns}".encode(),
            *(script.data for script in scripts),
        ):
            key.update(hashlib.sha256(part).digest())
        path = directory / f"initramfs-{kernel.release}-{key.hexdigest()[:16]}.cpio"
        if path.exists():
            return path

        drivers = driver_closure(kernel.modules)
        names = [module_name(driver.name) + ".ko" for driver in drivers]
        folders = ("bin", "lib", "dev", "proc", "sys", "root")
        entries = [_Entry(name, 0o040755) for name in folders]
        entries += scripts
        entries.append(_Entry("agent", 0o100755, agent.read_bytes()))
        entries.append(_Entry("bin/busybox", 0o100755, BUSYBOX.read_bytes()))
        entries.append(_Entry("drivers", 0o100644, "".join(f"{n}\n" for n in names).encode()))
        entries += [
            _Entry(f"lib/{name}", 0o100644, decompressed(driver))
            for name, driver in zip(names, drivers, strict=True)
        ]
        new = path.with_suffix(f".{os.getpid()}.new")
        with new.open("wb") as f:
            f.writelines(cpio(entries))
        # Those made from what is no more; another working tree may use a recent one.
        for old in directory.glob("initramfs-*.cpio"):
            if time.time() - old.stat().st_mtime > 7 * 86400:
                old.unlink()
        new.rename(path)
        return path
