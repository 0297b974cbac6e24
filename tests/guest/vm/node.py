# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""One guest: its QEMU, its agent's port, its kernel log."""

from __future__ import annotations

import enum
import json
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import SetupError
from .kernels import Kernel
from .loop import Callback, Loop, SocketEnd
from .protocol import Decoder, Frame, ProtocolError, Type
from .qcow2 import make_overlay

QEMU = "qemu-system-x86_64"
# Four levels of page tables. With five, an interrupt early in the boot, while the kernel looks at
# its CPU, can find the bit that says so cleared, and KASAN takes its stack for a wild address; and
# under TCG each level costs time.
TCG_CPU = "max,la57=off"


@dataclass(frozen=True)
class Machine:
    """What all guests of a run have in common."""

    kernel: Kernel
    initramfs: Path
    disk: Path
    directory: Path  # of the run; QEMU's working directory
    nodes: int
    memory: str
    cpus: int
    icount: bool
    accel: str  # tcg or kvm
    virgo: Path  # /virgo
    share: Path | None  # /share
    append: str = ""  # to the kernel's command line
    gdb: Path | None = None  # a socket at which node 1's QEMU serves a debugger

    def qemu(self, node: int, console: Path, agent_fd: int, monitor_fd: int) -> list[str]:
        """The command line of a guest's QEMU. No device leads out of the run's directory."""
        command = [
            QEMU, "-name", f"virgo-node{node}",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-m", self.memory, "-smp", str(1 if self.icount else self.cpus),
            "-kernel", str(self.kernel.image), "-initrd", str(self.initramfs),
            "-append", self.command_line(node),
            "-chardev", f"file,id=console,path={console.name}", "-serial", "chardev:console",
            "-chardev", f"socket,id=monitor,fd={monitor_fd}", "-mon", "chardev=monitor,mode=control",
            "-device", "virtio-serial-pci,max_ports=2",
            "-chardev", f"socket,id=agent,fd={agent_fd}",
            "-device", "virtserialport,chardev=agent,name=virgo.agent",
            "-drive", f"if=none,id=disk,file=disk{node}.qcow2,format=qcow2,cache=unsafe",
            "-device", "virtio-blk-pci,drive=disk",
        ]  # fmt: skip
        if self.accel == "kvm":
            command += ["-accel", "kvm", "-cpu", "host"]
        elif self.icount:
            command += ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]
            command += ["-cpu", TCG_CPU]
        else:
            command += ["-accel", "tcg,thread=multi", "-cpu", TCG_CPU]
        if self.gdb and node == 1:
            # A comma in an option's value is doubled.
            path = str(self.gdb).replace(",", ",,")
            command += ["-chardev", f"socket,id=gdb,path={path},server=on,wait=off"]
            command += ["-gdb", "chardev:gdb"]
        command += self._folder("virgo", self.virgo, readonly=True)
        if self.kernel.modules.parent.is_dir():
            command += self._folder("modules", self.kernel.modules.parent, readonly=True)
        if self.share:
            command += self._folder("share", self.share, readonly=False)
        command += self._network(node)
        return command

    def command_line(self, node: int) -> str:
        """The kernel's command line."""
        words = [
            "console=ttyS0", "ignore_loglevel", "printk.devkmsg=on",
            # The end of a kernel is the end of its QEMU (-no-reboot).
            "panic=-1", "oops=panic",
            "net.ifnames=0",
            # QEMU keeps the CPUs' counters in step; a busy host would make the watchdog doubt it.
            "tsc=reliable",
            # A busy host can keep a guest from running for a while; that is no fault of its kernel.
            "watchdog_thresh=30", "rcupdate.rcu_cpu_stall_timeout=60", "workqueue.watchdog_thresh=90",
            f"virgo.node={node}", f"virgo.nodes={self.nodes}",
        ]  # fmt: skip
        if self.icount:
            # Figures that repeat: the same code at the same place, without the mitigations that
            # depend on the CPU that QEMU makes.
            words += ["mitigations=off", "nokaslr"]
        else:
            # Waiting for grace periods was four fifths of the time that a module takes to load or go
            # on the debug kernel, a third of it on a stock one; shorter ones hide no use after free.
            words += ["rcupdate.rcu_expedited=1"]
        if self.kernel.debug:
            words += ["kmemleak=on"]
        return " ".join([*words, self.append]).strip()

    @staticmethod
    def _folder(tag: str, path: Path, readonly: bool) -> list[str]:
        # A comma in an option's value is doubled.
        name = str(path).replace(",", ",,")
        mode = ",readonly=on" if readonly else ""
        return [
            "-fsdev", f"local,id={tag},path={name},security_model=none,multidevs=remap{mode}",
            "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
        ]  # fmt: skip

    def _network(self, node: int) -> list[str]:
        """eth0, on a segment that the QEMU of node 1 makes: a hub with a socket for each other.

        The sockets are files in the run's directory: unlike ports of the host's loopback they
        can't be taken by another run, and nothing else on the host reaches them.
        """
        if self.nodes == 1:
            # A segment with nobody else on it.
            backend = ["-netdev", "stream,id=eth0,server=on,addr.type=unix,addr.path=net1"]
        elif node == 1:
            backend = ["-netdev", "hubport,id=eth0,hubid=0"]
            for k in range(2, self.nodes + 1):
                backend += [
                    "-netdev", f"stream,id=to{k},server=on,addr.type=unix,addr.path=net{k}",
                    "-netdev", f"hubport,id=port{k},hubid=0,netdev=to{k}",
                ]  # fmt: skip
        else:
            backend = [
                "-netdev",
                f"stream,id=eth0,server=off,addr.type=unix,addr.path=net{node},reconnect-ms=100",
            ]
        return [
            *backend,
            "-device",
            f"virtio-net-pci,netdev=eth0,romfile=,mac=52:54:00:77:00:{node:02x}",
        ]


class State(enum.Enum):
    """Where a node is in its life."""

    DOWN = "down"
    BOOTING = "booting"
    RUNNING = "running"
    STOPPED = "stopped"


class Node:
    """A guest."""

    def __init__(
        self,
        loop: Loop,
        machine: Machine,
        number: int,
        on_frame: Callable[[Node, Frame], None],
        on_end: Callable[[Node], None],
    ) -> None:
        self.number = number
        self.state = State.DOWN
        self.greeted = False  # the agent of this boot was heard
        self._logs: list[Path] = []  # the kernel's, one of each boot
        self.boots = 0  # so often was it started
        self.crashed = False  # the last QEMU ended by a fault of its own
        self._loop = loop
        self._machine = machine
        self._on_frame = on_frame
        self._on_end = on_end
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: SocketEnd | None = None
        self._monitor: SocketEnd | None = None
        self._monitor_replies: deque[Callback] = deque()
        self._monitor_text = bytearray()
        self._decoder = Decoder()
        self._stderr = machine.directory / f"qemu{number}.log"
        self._disk = machine.directory / f"disk{number}.qcow2"

    def __str__(self) -> str:
        return f"node{self.number}"

    def start(self) -> None:
        """Starts the guest; HELLO comes when its agent is there. The disk is as it was left."""
        self.boots += 1
        self._logs.append(self._machine.directory / f"console{self.number}.{self.boots}.log")
        self.greeted = False
        if not self._disk.exists():
            make_overlay(self._disk, self._machine.disk)
        agent, agent_qemu = socket.socketpair()
        monitor, monitor_qemu = socket.socketpair()
        fds = (agent_qemu.fileno(), monitor_qemu.fileno())
        try:
            with self._stderr.open("wb") as stderr:
                self._process = subprocess.Popen(
                    self._machine.qemu(self.number, self._logs[-1], *fds),
                    cwd=self._machine.directory,
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    # Ctrl-C is for the runner.
                    start_new_session=True,
                )
        except OSError as error:
            raise SetupError(f"cannot run {QEMU}: {error}") from error
        finally:
            agent_qemu.close()
            monitor_qemu.close()
        self.state = State.BOOTING
        self._decoder = Decoder()
        self._agent = SocketEnd(self._loop, agent, self._agent_data, self._ended)
        self._monitor_text.clear()
        self._monitor_replies.clear()
        self._monitor = SocketEnd(self._loop, monitor, self._monitor_data, lambda: None)
        self._ask_monitor("qmp_capabilities", lambda: None)

    @property
    def pid(self) -> int | None:
        """QEMU's process."""
        return self._process.pid if self._process else None

    def send(self, kind: Type, channel: int = 0, data: bytes = b"") -> None:
        """Sends a frame to the agent."""
        if self._agent:
            self._agent.send(Frame(kind, channel, data).encode())

    def _agent_data(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._on_frame(self, frame)
        except ProtocolError as error:
            # What a guest in a bad state may do: its log will tell more.
            with self._stderr.open("a") as stderr:
                stderr.write(f"the agent sent {error}\n")
            self.kill()

    def _ended(self) -> None:
        self.reap()
        self._on_end(self)

    def kill(self) -> None:
        """Cuts the power."""
        if self._process and self._process.poll() is None:
            self._process.kill()

    def reap(self) -> None:
        """Waits for a QEMU that has been killed, or has closed its end of the port."""
        if self._process:
            try:
                status = self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                status = self._process.wait()
            self.crashed = -status in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
            self._process = None
        for end in (self._agent, self._monitor):
            if end:
                end.close()
        self._agent = self._monitor = None
        self.state = State.DOWN

    def freeze(self, done: Callback) -> None:
        """Stops the guest with its clock."""
        self.state = State.STOPPED
        self._ask_monitor("stop", done)

    def go_on(self, done: Callback) -> None:
        """Undoes freeze."""
        self.state = State.RUNNING
        self._ask_monitor("cont", done)

    def _ask_monitor(self, command: str, done: Callback) -> None:
        if self._monitor:
            self._monitor_replies.append(done)
            self._monitor.send(json.dumps({"execute": command}).encode() + b"\n")

    def _monitor_data(self, data: bytes) -> None:
        self._monitor_text += data
        *lines, rest = self._monitor_text.split(b"\n")
        self._monitor_text = bytearray(rest)
        for line in lines:
            message = json.loads(line) if line.strip() else {}
            # The rest are the greeting and events.
            if ("return" in message or "error" in message) and self._monitor_replies:
                self._monitor_replies.popleft()()

    def log(self) -> bytes:
        """The kernel log so far, of all boots."""
        return b"".join(_contents(path) for path in self._logs)

    def log_of_boot(self) -> bytes:
        """The kernel log of the last boot."""
        return _contents(self._logs[-1]) if self._logs else b""

    def forget_boot(self) -> None:
        """For a boot that does not count."""
        self._logs.pop()

    def log_has(self, text: bytes) -> bool:
        """Whether the end of the last boot's kernel log holds a text."""
        return text in _contents(self._logs[-1], 1 << 20)

    def qemu_output(self) -> str:
        """What QEMU itself said."""
        return _contents(self._stderr).decode(errors="replace").strip()


def _contents(path: Path, last: int | None = None) -> bytes:
    """A file's contents, or the last bytes of it; nothing, if there is none."""
    try:
        with path.open("rb") as f:
            if last is not None:
                f.seek(max(0, os.fstat(f.fileno()).st_size - last))
            return f.read()
    except FileNotFoundError:
        return b""
