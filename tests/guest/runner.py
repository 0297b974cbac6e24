#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Runs a command in guests. Started by tests/vm, inside the build root; see doc/testing.md."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vm.errors import Interrupted, SetupError
from vm.kernels import find_kernel, make_initramfs
from vm.loop import Loop
from vm.node import Machine
from vm.protocol import OpenFlag, OpenRequest
from vm.session import STATUS_NO_RESULT, Limits, Session, terminal_size

REPO = Path(__file__).resolve().parents[2]
MAX_NODES = 16
DEFAULT_TIMEOUT = 900.0

EPILOG = """\
exit status: COMMAND's own; 124 if it ran past its time limit; 125 if there is no result, or none
that counts: a guest's kernel printed a warning, an oops, a hung task, a report of lockdep, KASAN,
kmemleak or the like (its log is then on stderr), a guest was lost or could not be made ready;
2 for a usage error.

In the guests: the project's modules loaded, /virgo (build/RELEASE/guest, read-only) with its bin
on PATH, DIR at /share, node1 … nodeN as 10.77.0.1 … N on eth0 and nothing beyond; on any node,
virgo-node K COMMAND runs COMMAND on node K (see virgo-node --help, also for power cuts)."""


def positive(text: str) -> int:
    """An argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def node_count(text: str) -> int:
    """How many guests."""
    value = positive(text)
    if value > MAX_NODES:
        raise argparse.ArgumentTypeError(f"at most {MAX_NODES}")
    return value


def seconds(text: str) -> float:
    """A time limit."""
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no time limit")
    return value


def memory(text: str) -> str:
    """QEMU's -m."""
    if not re.fullmatch(r"[1-9][0-9]*[MG]", text):
        raise argparse.ArgumentTypeError(f'"{text}" is no size like 512M or 2G')
    return text


def folder(text: str) -> Path:
    """A folder to share."""
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tests/vm",
        usage="tests/vm run [OPTION…] -- COMMAND [ARG…]\n       tests/vm shell [OPTION…] [-- COMMAND [ARG…]]",
        description="Runs a command as root in a guest with one of Debian's kernels, or a shell.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=("run", "shell"))
    add = parser.add_argument
    add("--nodes", type=node_count, default=1, metavar="N", help="guests to boot (1)")
    add(
        "--kernel",
        default=os.environ.get("KERNEL") or "stock",
        help="stock, next, debug or a release (stock)",
    )
    add(
        "--icount", action="store_true", help="one CPU, a nanosecond an instruction: figures repeat"
    )
    add("--no-load", action="store_true", help="do not load the modules")
    add("--no-build", action="store_true", help="take build/RELEASE/guest as it is")
    add("--packages", default="", metavar='"A B"',
        help="Debian packages to have installed, or pypi:NAME==VERSION; A,B is the same")
    add("--share", type=folder, metavar="DIR", help="a folder to have at /share")
    add(
        "--timeout",
        type=seconds,
        metavar="S",
        help=f"limit for COMMAND in seconds ({DEFAULT_TIMEOUT:.0f})",
    )
    add("--memory", type=memory, metavar="M", help="of each guest (1G; debug kernel: 2G)")
    add(
        "--smp",
        type=positive,
        default=2,
        metavar="N",
        help="CPUs of each guest (2; 1 with --icount)",
    )
    add("--kmemleak", action="store_true", help="scan for leaks after COMMAND (debug kernel)")
    add("--append", default="", metavar="WORDS", help="more of the kernel's command line")
    add("--gdb", type=Path, metavar="SOCKET", help="serve a debugger of node 1 there (scripts/steps)")
    add("--log-dir", type=Path, metavar="DIR", help="keep the kernel logs there")
    add("-i", "--stdin", action="store_true", help="pass stdin to COMMAND (else it has none)")
    add("-v", "--verbose", action="store_true", help="say what happens, with times")
    # argparse has no way to say "all after --".
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.command = arguments[end + 1 :]
    if options.action == "run" and not options.command:
        parser.error("no command given")
    return options


@contextmanager
def run_directory(cache: Path) -> Iterator[Path]:
    """A folder for the run's files. The wrapper made it, and removes it whatever happens here."""
    given = os.environ.get("VIRGO_VM_DIR")
    if given:
        yield Path(given)
        return
    (cache / "vm").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run.", dir=cache / "vm") as name:
        yield Path(name)


def watch_wrapper(loop: Loop, directory: Path) -> None:
    """Ends the run when the wrapper does: it holds the other end of a FIFO."""
    fifo = directory / "life"
    if fifo.exists():
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

        def gone() -> None:
            loop.watch(fd)
            loop.stop(signal.SIGTERM)

        loop.watch(fd, read=gone)


def guest_disk(packages: list[str]) -> Path:
    """The disk that the guests start from, made if need be."""
    result = subprocess.run(
        [REPO / "scripts" / "guest-image", *packages],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SetupError("the guests' disk could not be made (scripts/guest-image)")
    return Path(result.stdout.strip())


def run(options: argparse.Namespace) -> int:
    """The run, from the cache's state to the exit status."""
    cache = Path(os.environ["CACHE"])
    loop = Loop()
    with run_directory(cache) as directory:
        watch_wrapper(loop, directory)
        kernel = find_kernel(cache, options.kernel)
        virgo = REPO / "build" / kernel.release / "guest"
        if not virgo.is_dir():
            if not options.no_load:
                raise SetupError(f"{virgo} is not there: run scripts/stage, or use --no-load")
            virgo = directory / "virgo"
            virgo.mkdir()
        accel = os.environ.get("VIRGO_ACCEL") or "tcg"
        if accel not in ("tcg", "kvm"):
            raise SetupError(f"VIRGO_ACCEL={accel} is neither tcg nor kvm")
        if options.icount and accel == "kvm":
            raise SetupError("--icount needs TCG, not VIRGO_ACCEL=kvm")
        machine = Machine(
            kernel=kernel,
            initramfs=make_initramfs(cache, kernel),
            disk=guest_disk(options.packages.replace(",", " ").split()),
            directory=directory,
            nodes=options.nodes,
            memory=options.memory or ("2G" if kernel.debug else "1G"),
            cpus=options.smp,
            icount=options.icount,
            accel=accel,
            virgo=virgo,
            share=options.share,
            append=options.append,
            gdb=options.gdb.absolute() if options.gdb else None,
        )
        shell = options.action == "shell"
        # A debug kernel takes 45 s to boot where a stock one takes 5.
        slow = (6 if kernel.debug else 1) * (2 if options.icount else 1)
        limits = Limits(
            command=options.timeout or (None if shell else DEFAULT_TIMEOUT * slow),
            boot=(120 + 30 * options.nodes) * slow,
            sync=20 * slow,
        )
        argv = tuple(options.command)
        if shell:
            # The caller's TERM, since what it draws on is the caller's terminal.
            argv = ("env", f"TERM={os.environ.get('TERM') or 'linux'}", *(argv or ("bash", "-l")))
        rows, columns = terminal_size() if shell else (0, 0)
        flags = OpenFlag.TTY if shell else OpenFlag.STDIN if options.stdin else OpenFlag(0)
        session = Session(loop, machine, limits, load=not options.no_load, verbose=options.verbose)
        try:
            return session.run(
                OpenRequest(1, flags, rows, columns, argv), options.stdin, options.kmemleak
            )
        finally:
            if options.log_dir:
                options.log_dir.mkdir(parents=True, exist_ok=True)
                for node in session.nodes:
                    (options.log_dir / f"{node}.log").write_bytes(node.log())


def main() -> int:
    """Runs, and turns what went wrong into a line and a status."""
    options = parse(sys.argv[1:])
    try:
        return run(options)
    except SetupError as error:
        sys.stderr.write(f"tests/vm: {error}\n")
        return STATUS_NO_RESULT
    except Interrupted as stop:
        return 128 + stop.signum
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
