# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""A run: boots the guests, runs the command, judges.

It is also the switch between the nodes: what virgo-node asks for on one node comes here as frames
on that node's port, and goes on to the agent of the other.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import struct
import sys
import termios
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import GuestLost, Interrupted, SetupError, TimeLimit
from .loop import Loop, OutputStream
from .node import Machine, Node, State
from .protocol import (
    CHUNK,
    FRAME_MAX,
    WINDOW,
    Frame,
    OpenFlag,
    OpenRequest,
    ProtocolError,
    Type,
    word,
)
from .report import (
    clean_lines,
    ended_orderly,
    find_reports,
    is_patching_fault,
    is_stall,
)

STATUS_TIME_LIMIT = 124
STATUS_NO_RESULT = 125
BOOT_RETRIES = 3


@dataclass
class Limits:
    """Times in seconds. Generous, as the host may be busy; only a fault reaches them."""

    command: float | None
    boot: float
    sync: float


@dataclass
class Channel:
    """A command on a node, and who asked for it."""

    node: Node
    number: int
    receive: Callable[[Frame], None]
    owner: tuple[int, int] | None = None  # node and its channel, for virgo-node's

    def send(self, kind: Type, data: bytes = b"") -> None:
        """To the command."""
        self.node.send(kind, self.number, data)


@dataclass
class Captured:
    """A command of the runner's own: its output is kept."""

    status: int | None = None
    output: bytearray = field(default_factory=bytearray)


class Session:
    """One run."""

    def __init__(
        self, loop: Loop, machine: Machine, limits: Limits, load: bool, verbose: bool
    ) -> None:
        self._loop = loop
        self._machine = machine
        self._limits = limits
        self._load = load
        self._verbose = verbose
        self._started = time.monotonic()
        self.nodes = [
            Node(loop, machine, k, self._on_frame, self._on_end)
            for k in range(1, machine.nodes + 1)
        ]
        self._channels: dict[tuple[int, int], Channel] = {}
        self._by_owner: dict[tuple[int, int], Channel] = {}
        self._next_channel = 1
        # Who waits for a node: told True once it is up, False if it goes down instead.
        self._starting: dict[int, Callable[[bool], None]] = {}
        # Who cut a node's power, and waits for its end.
        self._killing: dict[int, list[Callable[[], None]]] = {}
        self._failure: Exception | None = None
        self._finished = False
        self._retries = 0
        # Nodes whose power was cut because QEMU spoiled their boot, and how.
        self._spoiled: dict[int, str] = {}

    # --- what is said

    def say(self, text: str) -> None:
        """A line on stderr."""
        sys.stderr.write(f"tests/vm: {text}\n")
        sys.stderr.flush()

    def _progress(self, text: str) -> None:
        if self._verbose:
            self.say(f"{time.monotonic() - self._started:6.2f} s: {text}")

    # --- the run

    def run(self, request: OpenRequest, stdin: bool, kmemleak: bool) -> int:
        """Runs a command on node 1 and gives the runner's exit status."""
        status: int | None = None
        why = ""
        interrupted = 0
        timed_out = False
        try:
            self.boot()
            if kmemleak:
                self._kmemleak("clear")
            status = self._command(request, stdin)
            if kmemleak:
                self._kmemleak("scan")
            self._drain_logs()
        except TimeLimit as limit:
            timed_out, why = True, str(limit)
            self._show_blocked()
        except (SetupError, GuestLost) as error:
            why = str(error)
        except Interrupted as stop:
            interrupted = stop.signum
        finally:
            self.power_off()
        if interrupted:
            return 128 + interrupted
        if self._judge(why if not timed_out else "", status):
            return STATUS_NO_RESULT
        if timed_out:
            self.say(why)
            return STATUS_TIME_LIMIT
        return STATUS_NO_RESULT if why or status is None else status

    def _wait(self, done: Callable[[], object], deadline: float | None) -> bool:
        """Runs the loop until done; raises what went wrong meanwhile."""
        ended = self._loop.run_until(lambda: self._failure or done(), deadline)
        if self._failure:
            raise self._failure
        return ended

    def boot(self) -> None:
        """Boots the guests; returns once all are up, and raises SetupError or GuestLost."""
        for node in self.nodes:
            self._start(node)
        self._wait(lambda: all(n.state is State.RUNNING for n in self.nodes), None)

    def _start(self, node: Node) -> None:
        """Starts a node. Its agent is to be there in half of the time for booting.

        That is many times what it takes. A guest without one by then has lost a timer of QEMU's and
        sleeps for ever (doc/testing.md); nothing of the project is there before the agent. A node that
        is not up when all of the time is over ends the run.
        """
        node.start()
        boot = node.boots
        limit = self._limits.boot

        def boots() -> bool:
            return node.boots == boot and node.state is State.BOOTING

        def check() -> None:
            if boots() and not node.greeted:
                self._spoil(node, "lost timer")

        def late() -> None:
            if boots():
                self._fail(SetupError(f"{node} was not up within {limit:.0f} s"))

        self._loop.call_later(limit / 2, check)
        self._loop.call_later(limit, late)

    def _spoil(self, node: Node, how: str) -> bool:
        """Cuts the power of a node whose boot is not to count, as long as there are tries."""
        if self._retries >= BOOT_RETRIES:
            return False
        self._spoiled[node.number] = how
        node.kill()
        return True

    def _command(self, request: OpenRequest, stdin: bool) -> int:
        streams = {
            Type.STDOUT: OutputStream(self._loop, 1),
            Type.STDERR: OutputStream(self._loop, 2),
        }
        status: int | None = None

        def receive(frame: Frame) -> None:
            nonlocal status
            if frame.type in streams:
                streams[frame.type].write(frame.data, lambda n: channel.send(Type.ACK, word(n)))
            elif frame.type is Type.EXIT:
                status = frame.word()
            elif frame.type is Type.STDIN_ACK and feed:
                feed.acknowledged(frame.word())

        sys.stdout.flush()
        sys.stderr.flush()
        limit = self._limits.command
        deadline = time.monotonic() + limit if limit is not None else None
        self._progress("the command starts")
        if len(request.encode()) > FRAME_MAX:
            raise SetupError("the command's arguments are too long")
        terminal = bool(request.flags & OpenFlag.TTY)
        channel = self._open(self.nodes[0], request, receive)
        feed = InputStream(self._loop, channel) if stdin or terminal else None
        raw = RawTerminal(self._loop, channel) if terminal and os.isatty(0) else None
        try:
            if not self._wait(
                lambda: status is not None and all(s.empty for s in streams.values()), deadline
            ):
                raise TimeLimit(f"the command ran past its limit of {limit:g} s")
        finally:
            if raw:
                raw.restore()
            if feed:
                feed.close()
            for fd in (1, 2):
                self._loop.watch(fd)
        self._progress(f"the command ended with status {status}")
        assert status is not None
        return status

    def _kmemleak(self, action: str) -> None:
        self._progress(f"kmemleak: {action}")
        runs = {n: self._capture(n, ("/run/virgo/kmemleak-scan", action)) for n in self._alive()}
        deadline = time.monotonic() + self._limits.boot
        if not self._wait(lambda: all(r.status is not None for r in runs.values()), deadline):
            raise GuestLost("kmemleak's scan did not end")
        for node, run in runs.items():
            if run.status:
                sys.stderr.write(run.output.decode(errors="replace"))
                raise GuestLost(f"{node}: kmemleak-scan {action} failed with status {run.status}")

    def _alive(self) -> list[Node]:
        return [n for n in self.nodes if n.state is State.RUNNING]

    def _drain_logs(self) -> None:
        """Waits until all that the guests' kernels had to say up to now is in their logs."""
        token = f"end of the run, {secrets.token_hex(8)}"
        nodes = self._alive()
        for node in nodes:
            node.send(Type.SYNC, data=token.encode())

        def poll() -> None:
            missing[:] = [
                n for n in missing if n.state is State.RUNNING and not n.log_has(token.encode())
            ]
            if missing:
                self._loop.call_later(0.01, poll)

        missing = list(nodes)
        poll()
        if not self._wait(lambda: not missing, time.monotonic() + self._limits.sync):
            raise GuestLost(
                f"{', '.join(map(str, missing))}: no answer within {self._limits.sync:.0f} s"
            )
        self._progress("the kernel logs are complete")

    def _show_blocked(self) -> None:
        """For a run past its limit: shows the tasks that wait, from the kernel's view."""
        try:
            nodes = self._alive()
            before = {n: len(n.log()) for n in nodes}
            runs = [self._capture(n, ("sh", "-c", "echo w >/proc/sysrq-trigger")) for n in nodes]
            self._loop.run_until(
                lambda: all(r.status is not None for r in runs), time.monotonic() + 3
            )
            for node in nodes:
                text = "\n".join(clean_lines(node.log()[before[node] :])).strip()
                if text:
                    self.say(f"{node}, tasks that wait (SysRq-W):\n{text}")
        except Interrupted:
            pass

    def power_off(self) -> None:
        """Cuts the power of all, and waits for their ends."""
        self._finished = True
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.reap()

    def _judge(self, why: str, status: int | None) -> bool:
        """Shows each log with a report in it, and all if a guest was lost; whether there were any."""
        found = []
        for node in self.nodes:
            lines = clean_lines(node.log())
            reports = list(find_reports(lines))
            if not reports and not why:
                continue
            self.say(f"kernel log of {node}:")
            sys.stderr.write("\n".join(lines) + "\n")
            if node.qemu_output():
                self.say(f"{node}'s QEMU said: {node.qemu_output()}")
            found += [(node, report) for report in reports]
        if why:
            self.say(why)
        if found:
            own = "never came" if status is None else f"was {status}"
            self.say(f"reports of the guests' kernels (the command's own status {own}):")
            for node, report in found[:20]:
                self.say(f"  {node}, line {report.line}: {report.text.strip()}")
            if len(found) > 20:
                self.say(f"  and {len(found) - 20} more")
            if all(is_patching_fault(clean_lines(n.log())) for n in {node for node, _ in found}):
                self.say(
                    "int3: most likely QEMU's fault with patched text (doc/testing.md); run it again"
                )
        return bool(found)

    # --- nodes

    def _on_end(self, node: Node) -> None:
        """A QEMU is gone."""
        for channel in [c for c in self._channels.values() if c.node is node]:
            message = f"virgo-node: {node} went down\n".encode()
            channel.receive(Frame(Type.STDERR, channel.number, message))
            channel.receive(Frame(Type.EXIT, channel.number, word(STATUS_NO_RESULT)))
            self._close(channel)
        for channel in [
            c for c in self._channels.values() if c.owner and c.owner[0] == node.number
        ]:
            channel.send(Type.SIGNAL, word(signal.SIGKILL))
            channel.send(Type.ACK, word(WINDOW))
        killers = self._killing.pop(node.number, [])
        if not killers and not self._finished and self._boots_again(node):
            return
        starter = self._starting.pop(node.number, None)
        if starter:
            starter(False)
        for killer in killers:
            killer()
        lost = node.number == 1 or not ended_orderly(clean_lines(node.log()))
        if not killers and not self._finished and lost:
            self._fail(GuestLost(f"{node} ended by itself"))

    def _fail(self, failure: Exception) -> None:
        """Ends the run; the first cause is the one that is told."""
        self._failure = self._failure or failure

    def _boots_again(self, node: Node) -> bool:
        """Starts a node again whose boot QEMU spoiled, before anything of the project was there."""
        how = self._spoiled.pop(node.number, "")
        if node.greeted or self._retries >= BOOT_RETRIES:
            return False
        if not how and is_patching_fault(clean_lines(node.log_of_boot())):
            how = "fault with patched text"
        if not how and node.crashed:
            how = "own end"
            self.say(f"{node}'s QEMU said: {node.qemu_output()}")
        if not how:
            return False
        self._retries += 1
        self.say(f"{node}: its boot met QEMU's {how} (doc/testing.md); it boots again")
        node.forget_boot()
        self._start(node)
        return True

    def _hello(self, node: Node) -> None:
        def loaded(run: Captured) -> None:
            if run.status == 0:
                self._up(node)
                return
            if node.state is State.DOWN:
                return  # _on_end has its say
            text = run.output.decode(errors="replace").rstrip()
            self._fail(
                SetupError(f"{node}: the modules did not load (status {run.status}):\n{text}")
            )

        # It slept until something else woke it, so that the kernel complained; and may do so again.
        if is_stall(clean_lines(node.log_of_boot())) and self._spoil(node, "lost timer"):
            return
        self._progress(f"{node} has booted")
        node.greeted = True
        if self._load:
            self._capture(node, ("/run/virgo/node-load",), loaded)
        else:
            self._up(node)

    def _up(self, node: Node) -> None:
        node.state = State.RUNNING
        self._progress(f"{node} is up")
        starter = self._starting.pop(node.number, None)
        if starter:
            starter(True)

    # --- commands

    def _open(
        self,
        node: Node,
        request: OpenRequest,
        receive: Callable[[Frame], None],
        owner: tuple[int, int] | None = None,
    ) -> Channel:
        channel = Channel(node, self._next_channel, receive, owner)
        self._next_channel += 1
        self._channels[node.number, channel.number] = channel
        if owner:
            self._by_owner[owner] = channel
        channel.send(Type.OPEN, request.encode())
        return channel

    def _close(self, channel: Channel) -> None:
        self._channels.pop((channel.node.number, channel.number), None)
        if channel.owner:
            self._by_owner.pop(channel.owner, None)

    def _capture(
        self, node: Node, argv: tuple[str, ...], done: Callable[[Captured], None] | None = None
    ) -> Captured:
        run = Captured()

        def receive(frame: Frame) -> None:
            if frame.type in (Type.STDOUT, Type.STDERR):
                run.output += frame.data
                channel.send(Type.ACK, word(len(frame.data)))
            elif frame.type is Type.EXIT:
                run.status = frame.word()
                if done:
                    done(run)

        channel = self._open(node, OpenRequest(0, OpenFlag(0), 0, 0, argv), receive)
        return run

    def _on_frame(self, node: Node, frame: Frame) -> None:
        match frame.type:
            case Type.HELLO:
                self._hello(node)
            case Type.STDOUT | Type.STDERR | Type.EXIT | Type.STDIN_ACK:
                channel = self._channels.get((node.number, frame.channel))
                if channel:
                    channel.receive(frame)
                    if frame.type is Type.EXIT:
                        self._close(channel)
            case Type.OPEN:
                self._open_for(node, frame)
            case Type.STDIN | Type.SIGNAL | Type.WINCH | Type.ACK:
                channel = self._by_owner.get((node.number, frame.channel))
                if channel:
                    channel.send(frame.type, frame.data)
            case _:
                raise ProtocolError(f"an unexpected {frame.type.name}")

    def _open_for(self, node: Node, frame: Frame) -> None:
        """A virgo-node on `node` asks."""
        request = OpenRequest.decode(frame.data)

        def answer(kind: Type, data: bytes) -> None:
            node.send(kind, frame.channel, data)

        def end(status: int, stderr: str = "", stdout: str = "") -> None:
            if stdout:
                answer(Type.STDOUT, stdout.encode())
            if stderr:
                answer(Type.STDERR, f"virgo-node: {stderr}\n".encode())
            answer(Type.EXIT, word(status))

        if request.flags & OpenFlag.CONTROL and request.argv == ("--list",):
            end(0, stdout="".join(f"{n.number} {n.state.value}\n" for n in self.nodes))
            return
        if request.node > len(self.nodes):
            end(2, f"there is no node {request.node}; there are {len(self.nodes)}")
            return
        target = self.nodes[request.node - 1]
        if request.flags & OpenFlag.CONTROL:
            self._control(target, request.argv, end)
        elif target.state is State.DOWN or target.state is State.BOOTING:
            end(STATUS_NO_RESULT, f"{target} is {target.state.value}")
        else:
            self._open(
                target, request, lambda f: answer(f.type, f.data), (node.number, frame.channel)
            )

    def _control(self, target: Node, argv: tuple[str, ...], end: Callable[..., None]) -> None:
        verb = argv[0] if len(argv) == 1 else " ".join(argv)
        if verb == "--status":
            end(0, stdout=f"{target.state.value}\n")
            return
        wanted = {
            "--kill": (State.RUNNING, State.STOPPED, State.BOOTING),
            "--start": (State.DOWN,),
            "--stop": (State.RUNNING,),
            "--cont": (State.STOPPED,),
        }
        if verb not in wanted:
            end(2, f"what is {verb}? (virgo-node --help)")
        elif target.number == 1:
            end(2, "node1 runs the command; it stays")
        elif target.state not in wanted[verb]:
            end(STATUS_NO_RESULT, f"{target} is {target.state.value}")
        elif verb == "--kill":
            self._killing.setdefault(target.number, []).append(lambda: end(0))
            target.kill()
        elif verb == "--stop":
            target.freeze(lambda: end(0))
        elif verb == "--cont":
            target.go_on(lambda: end(0))
        else:
            self._restart(target, end)

    def _restart(self, target: Node, end: Callable[..., None]) -> None:
        def done(up: bool) -> None:
            if up:
                end(0)
            else:
                end(STATUS_NO_RESULT, f"{target} went down while it started")

        self._starting[target.number] = done
        try:
            self._start(target)
        except SetupError as error:
            del self._starting[target.number]
            end(STATUS_NO_RESULT, str(error))


class InputStream:
    """The runner's stdin, for the command."""

    def __init__(self, loop: Loop, channel: Channel) -> None:
        self._loop = loop
        self._channel = channel
        self._unacknowledged = 0
        self._open = True
        loop.watch(0, read=self._read)

    def _read(self) -> None:
        try:
            data = os.read(0, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._channel.send(Type.STDIN, data)
        self._unacknowledged += len(data)
        if not data:
            self.close()
        elif self._unacknowledged >= WINDOW:
            self._loop.watch(0)

    def acknowledged(self, count: int) -> None:
        """The command took so much."""
        self._unacknowledged -= count
        if self._open and self._unacknowledged < WINDOW:
            self._loop.watch(0, read=self._read)

    def close(self) -> None:
        """No more of it."""
        self._open = False
        self._loop.watch(0)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the terminal on stdin; zeros if it is none."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 0, 0
    return rows, columns


class RawTerminal:
    """The host's terminal, raw while the guest's shell has it."""

    def __init__(self, loop: Loop, channel: Channel) -> None:
        self._channel = channel
        self._saved = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSADRAIN)  # keep what was typed ahead
        loop.on_signal(signal.SIGWINCH, self._resized)

    def _resized(self) -> None:
        rows, columns = terminal_size()
        self._channel.send(Type.WINCH, word(rows) + word(columns))

    def restore(self) -> None:
        """As it was."""
        termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
