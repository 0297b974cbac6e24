# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""The frames that the runner and the guests' agents (../agent.c) speak.

A frame is a header of three little-endian words (payload's length, channel, type) and the payload.
A channel is one command. Its data may be sent ahead of its acknowledgement by WINDOW bytes.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

WINDOW = 64 << 10
CHUNK = 16 << 10
FRAME_MAX = 256 << 10

HEADER = struct.Struct("<III")
WORD = struct.Struct("<I")
OPEN = struct.Struct("<IIII")


class Type(enum.IntEnum):
    """What a frame is; agent.c has the meaning of each."""

    HELLO = 1
    OPEN = 2
    STDIN = 3
    SIGNAL = 4
    WINCH = 5
    ACK = 6
    STDOUT = 7
    STDERR = 8
    EXIT = 9
    STDIN_ACK = 10
    SYNC = 11


class OpenFlag(enum.IntFlag):
    """How a command is to be run."""

    TTY = 1
    STDIN = 2
    CONTROL = 4


@dataclass(frozen=True)
class Frame:
    """One frame, decoded."""

    type: Type
    channel: int
    data: bytes = b""

    def encode(self) -> bytes:
        """The frame as it is sent."""
        return HEADER.pack(len(self.data), self.channel, self.type) + self.data

    def word(self, index: int = 0) -> int:
        """A word of the payload; 0 if it is too short."""
        at = index * WORD.size
        return WORD.unpack_from(self.data, at)[0] if len(self.data) >= at + WORD.size else 0


class ProtocolError(Exception):
    """The guest sent what is no frame."""


@dataclass(frozen=True)
class OpenRequest:
    """Payload of OPEN."""

    node: int
    flags: OpenFlag
    rows: int
    columns: int
    argv: tuple[str, ...]

    def encode(self) -> bytes:
        """The payload as it is sent."""
        head = OPEN.pack(self.node, self.flags, self.rows, self.columns)
        return head + b"".join(a.encode("utf-8", "surrogateescape") + b"\0" for a in self.argv)

    @classmethod
    def decode(cls, data: bytes) -> OpenRequest:
        """The other way round; raises ProtocolError."""
        if len(data) < OPEN.size:
            raise ProtocolError("a short request")
        node, flags, rows, columns = OPEN.unpack_from(data)
        words = data[OPEN.size :].split(b"\0")[:-1]
        argv = tuple(w.decode("utf-8", "surrogateescape") for w in words)
        return cls(node, OpenFlag(flags & 7), rows, columns, argv)


class Decoder:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now; raises ProtocolError."""
        self._data += data
        while len(self._data) >= HEADER.size:
            length, channel, kind = HEADER.unpack_from(self._data)
            if length > FRAME_MAX:
                raise ProtocolError(f"a frame of {length} bytes")
            end = HEADER.size + length
            if len(self._data) < end:
                return
            payload = bytes(self._data[HEADER.size : end])
            del self._data[:end]
            try:
                yield Frame(Type(kind), channel, payload)
            except ValueError as error:
                raise ProtocolError(f"a frame of type {kind}") from error


def word(value: int) -> bytes:
    """A payload of one word."""
    return WORD.pack(value)
