#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Tests of the runner's parts that need no guest; tests/vm-selftest runs them with the rest."""

from __future__ import annotations

import io
import signal
import struct
import sys
import tempfile
import time
import unittest
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from steps import Symbols, table
from vm.errors import GuestLost, Interrupted, SetupError
from vm.kernels import Kernel, driver_closure, module_name
from vm.loop import Loop
from vm.node import Machine
from vm.protocol import (
    FRAME_MAX,
    HEADER,
    Decoder,
    Frame,
    OpenFlag,
    OpenRequest,
    ProtocolError,
    Type,
    word,
)
from vm.qcow2 import CLUSTER, make_overlay
from vm.report import (
    clean_lines,
    ended_orderly,
    find_reports,
    is_patching_fault,
    is_stall,
)
from vm.session import BOOT_RETRIES, Limits, Session

# Lines of real kernel logs, one for each kind of report.
REPORTS = (
    "[   12.345678] WARNING: mm/slub.c:1234 at kfree+0x1a/0x20, CPU#1: insmod/123",
    "[   12.345678] WARNING: CPU: 0 PID: 1 at kernel/foo.c:1 foo+0x1/0x2",
    "[   12.345678] ------------[ cut here ]------------\n[   12.3] kernel BUG at mm/slub.c:1!",
    "[   12.345678] BUG: unable to handle page fault for address: ffffc90000000000",
    "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "[   12.345678] Oops: Oops: 0000 [#1] SMP NOPTI",
    "[   12.345678] Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
    "[   12.345678] Kernel panic - not syncing: sysrq triggered crash",
    "[   12.345678] INFO: task touch:123 blocked for more than 120 seconds.",
    "[   12.345678] WARNING: possible circular locking dependency detected",
    "[   12.345678] WARNING: possible recursive locking detected",
    "[   12.345678] INFO: trying to register non-static key.",
    "[   12.345678] WARNING: suspicious RCU usage",
    "[   12.345678] BUG: sleeping function called from invalid context at mm/slab.h:1",
    "[   12.345678] BUG: scheduling while atomic: insmod/1/0x00000002",
    "[   12.345678] BUG: KASAN: slab-use-after-free in foo+0x1/0x2",
    "[   12.345678] BUG: KFENCE: out-of-bounds read in foo+0x1/0x2",
    "[   12.345678] BUG: KCSAN: data-race in a / b",
    "[   12.345678] BUG kmalloc-64 (Tainted: G    B   O      ): Poison overwritten",
    "[   12.345678] UBSAN: array-index-out-of-bounds in foo.c:1:2",
    "[   12.345678] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "[   12.345678] kmemleak: Kernel memory leak detector disabled",
    "[   12.345678] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "[   12.345678] rcu: INFO: rcu_preempt self-detected stall on CPU",
    "[   12.345678] watchdog: BUG: soft lockup - CPU#0 stuck for 63s! [cat:1]",
    "[   12.345678] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 91s!",
    "[   12.345678] refcount_t: underflow; use-after-free.",
    "[   12.345678] list_add corruption. prev->next should be next",
    "[   12.345678] BUG: Bad page state in process cat  pfn:1",
    "[   12.345678] rust_kernel: panicked at modules/core/main.rs:1:2:",
    "[   12.345678] insmod: page allocation failure: order:10, mode:0xcc0(GFP_KERNEL), nodemask=(null)",
    "[   12.345678] Call Trace:",
    "[   12.345678] virgo-vm: init: no disk",
)

NO_REPORTS = (
    "[    1.0] virgo_core: loading out-of-tree module taints kernel.",
    "[    1.0] virgo_core: module verification failed: signature and/or required key missing - tainting kernel",
    "[    0.1] rcu: Hierarchical SRCU implementation.",
    "[    0.1] rcu: RCU CPU stall warnings timeout set to 60 (rcu_cpu_stall_timeout).",
    "[    0.1] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
    "[    0.1] kasan: KernelAddressSanitizer initialized (generic)",
    "[    0.1] kmemleak: Kernel memory leak detector initialized (mem pool available: 15676)",
    "[    0.1] kmemleak: Automatic memory scanning thread started",
    "[    0.1] kfence: initialized - using 2097152 bytes for 255 objects",
    "[    0.1] NMI watchdog: Perf NMI watchdog permanently disabled",
    '[    0.1] PCI: Using host bridge windows from ACPI; if necessary, use "pci=nocrs" and report a bug',
    "[    0.1] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
    "[    0.1] ima: No TPM chip found, activating TPM-bypass!",
    "[    5.0] virgo-vm: end of the run, 0123456789abcdef",
)


class ReportTest(unittest.TestCase):
    """What counts as a report."""

    def test_each_kind_is_found(self) -> None:
        for text in REPORTS:
            with self.subTest(text):
                self.assertEqual(len(list(find_reports(clean_lines(text.encode())))), 1)

    def test_harmless_lines_are_not(self) -> None:
        for text in NO_REPORTS:
            with self.subTest(text):
                self.assertEqual(list(find_reports([text])), [])

    def test_line_numbers_and_line_ends(self) -> None:
        log = b"[ 1.0] a\r\n[ 1.1] b\r\n[ 1.2] Oops: 0000\r\n"
        (report,) = find_reports(clean_lines(log))
        self.assertEqual((report.line, report.text), (3, "[ 1.2] Oops: 0000"))

    def test_traces_that_were_asked_for(self) -> None:
        fault = ["FAULT_INJECTION: forcing a failure.", "CPU: 0", "Call Trace:", " <TASK>"]
        self.assertEqual(list(find_reports(fault)), [])
        self.assertEqual(
            list(find_reports(["task:touch   state:D stack:0 pid:1", "Call Trace:"])), []
        )
        # A report after one is still found, and so is a trace far from it.
        self.assertEqual(len(list(find_reports([*fault, "BUG: KASAN: x"]))), 1)
        self.assertEqual(len(list(find_reports([*fault, *["x"] * 60, "Call Trace:"]))), 1)

    def test_bytes_that_are_no_text(self) -> None:
        self.assertEqual(len(list(find_reports(clean_lines(b"\xff\xfe BUG: \x80")))), 1)

    def test_patching_fault(self) -> None:
        self.assertTrue(
            is_patching_fault(["x", "[ 2.3] Oops: int3: 0000 [#1] SMP NOPTI", "Call Trace:"])
        )
        self.assertFalse(
            is_patching_fault(["WARNING: x", "[ 2.3] Oops: int3: 0000 [#1] SMP NOPTI"])
        )
        self.assertFalse(is_patching_fault(["Oops: 0000"]))
        self.assertFalse(is_patching_fault([]))

    def test_stall(self) -> None:
        for text in (
            "[ 63.3] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[ 63.3] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[ 63.3] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-...D }",
        ):
            self.assertTrue(is_stall(["x", text, "Call Trace:"]))
            self.assertFalse(is_stall(["[ 2.3] WARNING: x", text]))
        self.assertFalse(is_stall(["[ 2.3] Oops: 0000"]))
        self.assertFalse(is_stall([]))

    def test_orderly_end(self) -> None:
        self.assertTrue(ended_orderly(["x", "[ 9.9] reboot: Restarting system"]))
        self.assertTrue(ended_orderly(["[ 9.9] reboot: Power down", ""]))
        self.assertFalse(ended_orderly(["x"]))
        self.assertFalse(ended_orderly(["[ 9.9] reboot: Restarting system", *["x"] * 20]))


class ProtocolTest(unittest.TestCase):
    """Frames."""

    def test_round_trip_at_any_cut(self) -> None:
        frames = [
            Frame(Type.STDOUT, 7, b"abc"),
            Frame(Type.EXIT, 7, word(42)),
            Frame(Type.HELLO, 0),
        ]
        data = b"".join(f.encode() for f in frames)
        for step in (1, 2, 3, 11, 12, 13, len(data)):
            decoder = Decoder()
            got = [
                f for at in range(0, len(data), step) for f in decoder.feed(data[at : at + step])
            ]
            self.assertEqual(got, frames)

    def test_not_a_frame(self) -> None:
        for data in (HEADER.pack(FRAME_MAX + 1, 0, Type.STDOUT), HEADER.pack(0, 0, 99)):
            with self.assertRaises(ProtocolError):
                list(Decoder().feed(data))

    def test_request_round_trip(self) -> None:
        request = OpenRequest(3, OpenFlag.TTY, 25, 80, ("sh", "-c", "", "ü\udcff"))
        self.assertEqual(OpenRequest.decode(request.encode()), request)
        with self.assertRaises(ProtocolError):
            OpenRequest.decode(b"short")

    def test_missing_word_is_zero(self) -> None:
        self.assertEqual(Frame(Type.EXIT, 0, b"\1\2\3").word(), 0)
        self.assertEqual(Frame(Type.WINCH, 0, word(1) + word(2)).word(1), 2)


class Qcow2Test(unittest.TestCase):
    """The overlay's layout; that QEMU takes it is seen by every run."""

    def test_layout(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            raw, overlay = Path(name, "raw"), Path(name, "overlay")
            size = (3 << 29) + 512
            with raw.open("wb") as f:
                f.truncate(size)
            make_overlay(overlay, raw)
            data = overlay.read_bytes()
            self.assertEqual(len(data), 4 * CLUSTER)
            magic, version, name_at, name_len, bits, disk = struct.unpack_from(">4sIQIIQ", data)
            self.assertEqual((magic, version, 1 << bits, disk), (b"QFI\xfb", 3, CLUSTER, size))
            self.assertEqual(data[name_at : name_at + name_len].decode(), str(raw))
            self.assertEqual(
                struct.unpack_from(">I", data, 36), (4,)
            )  # entries for 1.5 GiB and a bit


class KernelTest(unittest.TestCase):
    """The drivers' closure."""

    DEP = """\
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/virtio/virtio_ring.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/virtio/virtio.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/fs/netfs/netfs.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz
kernel/drivers/net/unrelated.ko.xz:
"""
    BUILTIN = "kernel/drivers/char/virtio_console.ko\nkernel/drivers/net/virtio_net.ko\nkernel/fs/ext4/ext4.ko\n"

    def closure(self, dep: str, builtin: str) -> list[str]:
        with tempfile.TemporaryDirectory() as name:
            Path(name, "modules.dep").write_text(dep)
            Path(name, "modules.builtin").write_text(builtin)
            return [module_name(str(path)) for path in driver_closure(Path(name))]

    def test_needed_first(self) -> None:
        order = self.closure(self.DEP, self.BUILTIN)
        self.assertEqual(sorted(order), sorted(set(order)))
        self.assertNotIn("unrelated", order)
        for first, then in (
            ("virtio", "virtio_ring"),
            ("virtio_ring", "virtio_pci"),
            ("netfs", "9p"),
        ):
            self.assertLess(order.index(first), order.index(then))

    def test_missing_driver(self) -> None:
        with self.assertRaises(SetupError):
            self.closure(self.DEP, "")

    def test_all_built_in(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            self.assertEqual(driver_closure(Path(name)), [])


# In place of a QEMU: what its N-th start does is the N-th word of the plan, then the last. It writes
# the kernel's log, says HELLO on the agent's port unless it is to hang, and lives until it is killed.
GUEST = """
import os, signal, sys
plan, console, agent = sys.argv[1].split(), sys.argv[2], int(sys.argv[3])
boot = int(console.split(".")[-2])
what = plan[min(boot, len(plan)) - 1]
with open(console, "w") as log:
    log.write("[ 5.9] Run /init as init process\\n")
    if what == "stall":
        log.write("[ 63.3] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\\n")
    if what == "int3":
        log.write("[ 2.3] Oops: int3: 0000 [#1] SMP NOPTI\\n")
        sys.exit()
    if what == "panic":
        log.write("[ 9.9] virgo-vm: init: no disk\\n")
        sys.exit()
if what == "abort":
    os.abort()
if what != "hang":
    os.write(agent, bytes.fromhex("%s"))
signal.pause()
""" % Frame(Type.HELLO, 0).encode().hex()


@dataclass(frozen=True)
class Actor(Machine):
    """A machine whose guests only act."""

    plan: str = ""

    def qemu(self, node: int, console: Path, agent_fd: int, monitor_fd: int) -> list[str]:
        return [sys.executable, "-c", GUEST, self.plan, str(console), str(agent_fd)]


class BootTest(unittest.TestCase):
    """Which boots count."""

    def boot(self, plan: str, limit: float) -> tuple[str, str]:
        """Boots a guest that acts to the plan; what went wrong, and what was said."""
        with tempfile.TemporaryDirectory() as name, redirect_stderr(io.StringIO()) as said:
            disk = Path(name, "raw")
            disk.write_bytes(bytes(512))
            kernel = Kernel("0", Path(name), False)
            machine = Actor(
                kernel, disk, disk, Path(name), 1, "1M", 1, False, "tcg", Path(name), None, plan=plan
            )
            session = Session(Loop(), machine, Limits(None, limit, 1), load=False, verbose=False)
            try:
                session.boot()
                why = ""
            except (SetupError, GuestLost) as error:
                why = str(error)
            finally:
                session.power_off()
            left = list(find_reports(clean_lines(session.nodes[0].log())))
        return why or " ".join(r.text for r in left), said.getvalue()

    def test_one_that_counts(self) -> None:
        self.assertEqual(self.boot("up", 60), ("", ""))

    def test_boots_again(self) -> None:
        for plan, how in (
            ("hang up", "lost timer"),
            ("stall up", "lost timer"),
            ("int3 up", "fault with patched text"),
            ("abort up", "own end"),
        ):
            why, said = self.boot(plan, 4)
            self.assertEqual(why, "", plan)
            self.assertEqual(said.count("it boots again"), 1, plan)
            self.assertIn(f"QEMU's {how} ", said)

    def test_not_for_ever(self) -> None:
        why, said = self.boot("hang", 0.4)
        self.assertIn("not up within", why)
        self.assertEqual(said.count("it boots again"), BOOT_RETRIES)
        # It came up, but its kernel's report stands.
        why, said = self.boot("stall", 60)
        self.assertIn("detected stalls", why)
        self.assertEqual(said.count("it boots again"), BOOT_RETRIES)

    def test_a_failure_of_ours_counts(self) -> None:
        why, said = self.boot("panic", 60)
        self.assertIn("ended by itself", why)
        self.assertEqual(said, "")


class StepsTest(unittest.TestCase):
    """Addresses, and the functions that they are in."""

    KALLSYMS = """\
0000000000000000 A nothing
ffffffff81000000 T first
ffffffff81000100 t second
ffffffff81000180 t __pfx_third_ioctl
ffffffff81000190 t third_ioctl\t[module]
ffffffff81000200 d data
ffffffff81000300 t twice
ffffffff81000400 t twice
"""

    def test_functions(self) -> None:
        symbols = Symbols.read(self.KALLSYMS)
        for address, name in (
            (0x401000, "(the program)"),
            (0xFFFFFFFF80FFFFFF, "?"),
            (0xFFFFFFFF81000000, "first"),
            (0xFFFFFFFF810000FF, "first"),
            (0xFFFFFFFF81000100, "second"),
            # Data is no function.
            (0xFFFFFFFF81000200, "third_ioctl [module]"),
        ):
            self.assertEqual(symbols.at(address), name)
        self.assertEqual(symbols.find("first"), 0xFFFFFFFF81000000)
        self.assertEqual(symbols.find("ird_io"), 0xFFFFFFFF81000190)
        for none in ("fourth", "twice", "st|nd"):
            with self.assertRaises(SystemExit):
                symbols.find(none)

    def test_table(self) -> None:
        symbols = Symbols.read(self.KALLSYMS)
        first, second = 0xFFFFFFFF81000000, 0xFFFFFFFF81000100
        path = [first, second, second, second, second + 1, 0x401000]
        self.assertEqual(
            [line.split() for line in table(path, symbols, 2).splitlines()],
            [
                "6 instructions, 2 of them repetitions of a string's".split(),
                ["4", "2", "second"],
                ["1", "first"],
                ["1", "in", "1", "others"],
            ],
        )


class LoopTest(unittest.TestCase):
    """Timers and signals."""

    def test_timers_and_deadline(self) -> None:
        loop = Loop()
        calls: list[int] = []
        loop.call_later(0.02, lambda: calls.append(2))
        loop.call_later(0.01, lambda: calls.append(1))
        loop.call_later(0.01, lambda: calls.append(9)).cancel()
        self.assertTrue(loop.run_until(lambda: len(calls) == 2, time.monotonic() + 10))
        self.assertEqual(calls, [1, 2])
        self.assertFalse(loop.run_until(lambda: False, time.monotonic() + 0.01))

    def test_signal_interrupts(self) -> None:
        loop = Loop()
        loop.call_later(0, lambda: signal.raise_signal(signal.SIGTERM))
        with self.assertRaises(Interrupted) as raised:
            loop.run_until(lambda: False, time.monotonic() + 10)
        self.assertEqual(raised.exception.signum, signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
