#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Where the instructions go: steps a guest from one call of a function of its kernel to the next.

The other end of QEMU's server for gdb (tests/vm run --gdb), of which this speaks the little that it needs:
GDB manual, appendix E, "GDB Remote Serial Protocol". QEMU holds interrupts and timers back while it
steps. See scripts/steps.
"""

from __future__ import annotations

import argparse
import bisect
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# Lower ones are the program's (x86-64).
KERNEL = 1 << 63
# Instructions of a call, after which something has gone wrong.
MOST = 2_000_000
# Seconds until the function is to be called for the first time.
FIRST = 120


class Debugger:
    """A connection to it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def ask(self, text: str) -> str:
        """Sends a packet; the answer's payload."""
        data = text.encode()
        self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
        payload = bytearray()
        while (byte := self._file.read(1)) != b"$":
            if not byte:
                raise ConnectionError("the guest is gone")
        while (byte := self._file.read(1)) != b"#":
            if not byte:
                raise ConnectionError("the guest is gone")
            payload += byte
        self._file.read(2)
        self._socket.sendall(b"+")
        return payload.decode()

    def counter(self) -> int:
        """Where the CPU is: the program counter, register 16."""
        return int.from_bytes(bytes.fromhex(self.ask("p10")), "little")

    def run_to(self, address: int) -> None:
        """Lets the guest run until it comes to an address; TimeoutError, and it runs on."""
        if self.ask(f"Z1,{address:x},1") != "OK":
            raise ConnectionError("no breakpoint to be had")
        self._socket.settimeout(FIRST)
        self.ask("c")
        self._socket.settimeout(None)
        self.ask(f"z1,{address:x},1")

    def step(self) -> None:
        """One instruction; of a repeated one, one repetition."""
        self.ask("s")

    def detach(self) -> None:
        """Lets the guest run on."""
        self.ask("D")


@dataclass(frozen=True)
class Symbols:
    """The functions of a kernel and its modules, by address."""

    addresses: list[int]
    names: list[str]

    @classmethod
    def read(cls, kallsyms: str) -> Symbols:
        """From the text of /proc/kallsyms."""
        found = {}
        for line in kallsyms.splitlines():
            address, kind, name, *module = line.split()
            if kind in "tTwW" and int(address, 16):
                found[int(address, 16)] = " ".join([name, *module])
        return cls(sorted(found), [found[a] for a in sorted(found)])

    def at(self, address: int) -> str:
        """The function that an address is in."""
        if address < KERNEL:
            return "(the program)"
        index = bisect.bisect_right(self.addresses, address) - 1
        return self.names[index] if index >= 0 else "?"

    def find(self, pattern: str) -> int:
        """The address of the one function whose name is `pattern`, or has it in it."""
        exact = [a for a, n in zip(self.addresses, self.names) if n.split()[0] == pattern]
        like = [
            a
            for a, n in zip(self.addresses, self.names)
            if re.search(pattern, n) and not n.startswith("__pfx_")
        ]
        found = exact or like
        if len(found) == 1:
            return found[0]
        names = ", ".join(sorted(self.at(a) for a in found)[:8])
        raise SystemExit(f"steps: {len(found)} functions are like {pattern}: {names}")


def call(debugger: Debugger, entry: int) -> list[int]:
    """The addresses from here, where `entry` is, to the next time."""
    path = []
    at = entry
    while True:
        path.append(at)
        debugger.step()
        at = debugger.counter()
        if at == entry:
            return path
        if len(path) > MOST:
            raise SystemExit(f"steps: {MOST} instructions, and no second call")


def readable(names: list[str]) -> list[str]:
    """Names as the source has them, where c++filt knows how."""
    try:
        done = subprocess.run(
            ["c++filt", "-s", "rust"], input="\n".join(names), text=True, capture_output=True
        )
    except OSError:
        return names
    lines = done.stdout.splitlines()
    return lines if done.returncode == 0 and len(lines) == len(names) else names


def table(path: list[int], symbols: Symbols, top: int) -> str:
    """Instructions by function, most first."""
    inside = [symbols.at(address) for address in path]
    counts = Counter(inside)
    again = Counter(n for n, a, b in zip(inside[1:], path[1:], path) if a == b)
    rows = counts.most_common(top)
    names = readable([name for name, _ in rows])
    lines = [f"{len(path)} instructions, {sum(again.values())} of them repetitions of a string's"]
    for (name, count), shown in zip(rows, names):
        lines.append(f"{count:8} {again[name] or '':>6}  {shown}")
    if len(counts) > top:
        rest = len(path) - sum(count for _, count in rows)
        lines.append(f"{rest:8} {'':>6}  in {len(counts) - top} others")
    return "\n".join(lines)


def wait_for(path: Path, limit: float) -> None:
    """Until a file is there."""
    end = time.monotonic() + limit
    while not path.exists():
        if time.monotonic() > end:
            raise SystemExit(f"steps: nothing came from the guest within {limit:.0f} s")
        time.sleep(0.05)


def main() -> None:
    """Steps, and prints a table a call."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--top", type=int, required=True)
    options = parser.parse_args()
    wait_for(options.folder / "kallsyms", 300)
    symbols = Symbols.read((options.folder / "kallsyms").read_text())
    try:
        entry = symbols.find(options.entry)
        debugger = Debugger(options.folder / "gdb")
        debugger.ask("?")
        try:
            debugger.run_to(entry)
        except TimeoutError:
            raise SystemExit(f"steps: no call of {options.entry} within {FIRST} s") from None
        try:
            paths = [call(debugger, entry) for _ in range(options.calls)]
        finally:
            debugger.detach()
        for path in paths:
            print(table(path, symbols, options.top), end="\n\n")
    finally:
        (options.folder / "stop").touch()


if __name__ == "__main__":
    sys.exit(main())
