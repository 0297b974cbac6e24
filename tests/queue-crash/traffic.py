# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Puts, takes and deletes for ever, and says what was acknowledged. Run by tests/queue-crash.

A n: put n was acknowledged    R n: n was handed out
d n: its deletion is next      D n: it was acknowledged

What this machine has said need not have arrived when its power goes, but a deletion may be on its
disk by then. So n is deleted only when a line with n comes back: `d n` has been heard.
"""

import os
import socket
import sys
import threading

heard = set()
to_hear = threading.Condition()


def connect():
    """A connection, line by line."""
    sock = socket.create_connection(("127.0.0.1", 60000))
    return sock, sock.makefile("rb")


def say(text):
    """All of a line at once."""
    os.write(1, (text + "\n").encode())


def put():
    """A producer."""
    sock, lines = connect()
    while True:
        sock.sendall(b"put 0 0 600 100\r\n" + b"x" * 100 + b"\r\n")
        word, number = lines.readline().split()
        assert word == b"INSERTED", word
        say("A " + number.decode())


def take():
    """A worker, somewhat slower than those who put."""
    sock, lines = connect()
    while True:
        sock.sendall(b"reserve\r\n")
        number = lines.readline().split()[1].decode()
        lines.readline()
        say("R " + number)
        if int(number) % 3 == 0:
            continue
        say("d " + number)
        with to_hear:
            to_hear.wait_for(lambda: number in heard)
            heard.remove(number)
        sock.sendall(f"delete {number}\r\n".encode())
        assert lines.readline() == b"DELETED\r\n"
        say("D " + number)


for work in (put, put, put, take, take):
    threading.Thread(target=work).start()
for line in sys.stdin:
    with to_hear:
        heard.add(line.strip())
        to_hear.notify_all()
