# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""The runner's event loop: file descriptors, timers, signals, in one thread."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from .errors import Interrupted

Callback = Callable[[], None]


class Timer:
    """A call to come."""

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """It does not come."""
        self.callback = None


class Loop:
    """Watches descriptors. PollSelector, as epoll refuses files, and stdout may be one."""

    def __init__(self) -> None:
        self._selector = selectors.PollSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._signum = 0
        self._handlers: dict[int, Callback] = {}
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        self.watch(self._wake_in.fileno(), read=self._drain_wakeups)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._stop_by_signal)

    def _drain_wakeups(self) -> None:
        for signum in self._wake_in.recv(4096):
            if signum in self._handlers:
                self._handlers[signum]()

    def _stop_by_signal(self, signum: int, _frame: FrameType | None) -> None:
        self._signum = self._signum or signum

    def stop(self, signum: int) -> None:
        """As if the signal had come."""
        self._signum = self._signum or signum

    def on_signal(self, signum: int, callback: Callback) -> None:
        """Calls back, in the loop, for a signal."""
        self._handlers[signum] = callback
        signal.signal(signum, lambda _signum, _frame: None)

    def watch(self, fd: int, read: Callback | None = None, write: Callback | None = None) -> None:
        """Sets what is called when `fd` can be read or written; neither: it is forgotten."""
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        known = fd in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(fd)
        elif known:
            self._selector.modify(fd, events, (read, write))
        else:
            self._selector.register(fd, events, (read, write))

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Calls back after a time."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.when, next(self._count), timer))
        return timer

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.callback:
                timer.callback()

    def run_until(self, done: Callable[[], Any], deadline: float | None = None) -> bool:
        """Runs until `done()` is true; false past the deadline. Raises Interrupted."""
        while True:
            if self._signum:
                raise Interrupted(self._signum)
            if done():
                return True
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            wake = [
                t for t in (deadline, self._timers[0][0] if self._timers else None) if t is not None
            ]
            timeout = max(0.0, min(wake) - now) if wake else None
            for key, events in self._selector.select(timeout):
                # An earlier callback of this round may have let go of it.
                if self._selector.get_map().get(key.fd) is None:
                    continue
                read, write = self._selector.get_map()[key.fd].data
                if events & selectors.EVENT_READ and read:
                    read()
                if events & selectors.EVENT_WRITE and write and key.fd in self._selector.get_map():
                    write()
            self._run_timers()


class SocketEnd:
    """Our end of a stream socket: written without blocking, read by a callback."""

    def __init__(
        self, loop: Loop, sock: socket.socket, data: Callable[[bytes], None], closed: Callback
    ) -> None:
        self._loop = loop
        self._socket: socket.socket | None = sock
        self._out = bytearray()
        self._data = data
        self._closed = closed
        sock.setblocking(False)
        loop.watch(sock.fileno(), read=self._read)

    def send(self, data: bytes) -> None:
        """Sends, now or when there is room."""
        if self._socket is None:
            return
        self._out += data
        self._write()

    def _write(self) -> None:
        if self._socket is None:
            return
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()  # the reading side is told
        self._loop.watch(self._socket.fileno(), self._read, self._write if self._out else None)

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._data(data)
        else:
            self.close()
            self._closed()

    def close(self) -> None:
        """Lets go of it."""
        if self._socket is not None:
            self._loop.watch(self._socket.fileno())
            self._socket.close()
            self._socket = None


class OutputStream:
    """stdout or stderr: what is written is queued, and acknowledged once it is out."""

    # A pipe that poll says can be written takes this much without blocking.
    CHUNK = 4096

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._queue: list[tuple[memoryview, Callable[[int], None]]] = []

    @property
    def empty(self) -> bool:
        """Whether all is out."""
        return not self._queue

    def write(self, data: bytes, written: Callable[[int], None]) -> None:
        """Queues data; `written` is called with the number of bytes as they go out."""
        self._queue.append((memoryview(data), written))
        self._loop.watch(self._fd, write=self._write)

    def _write(self) -> None:
        data, written = self._queue[0]
        try:
            n = os.write(self._fd, data[: self.CHUNK])
        except BlockingIOError:
            return
        except OSError:
            # Nobody reads: as for any program in a pipe.
            self._queue.clear()
            self._loop.watch(self._fd)
            self._loop.stop(signal.SIGPIPE)
            return
        if n == len(data):
            self._queue.pop(0)
        else:
            self._queue[0] = (data[n:], written)
        if not self._queue:
            self._loop.watch(self._fd)
        written(n)
