# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Finds in a kernel log what no test may cause: warnings, oopses, hung tasks, and the reports of
lockdep, KASAN, kmemleak, UBSAN, KFENCE, KCSAN and RCU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Case matters: "kasan: KernelAddressSanitizer initialized" is no report, "BUG: KASAN: …" is.
REPORT = re.compile(
    r"""
      \bWARNING:                       # WARN_ON, lockdep's circular locking and the like
    | \bBUG:                           # also KASAN, KFENCE, KCSAN, soft lockup, bad page state
    | \bBUG\ [a-z][\w-]*\              # SLUB: BUG kmalloc-64 (Tainted: …): Poison overwritten
    | \bkernel\ BUG\ at\b
    | \bOops\b
    | \bKernel\ panic\b
    | \bInternal\ error:
    | \bgeneral\ protection\ fault\b
    | \bunable\ to\ handle\b
    | \bdouble\ fault\b
    | \bstack\ guard\ page\ was\ hit\b
    | \bINFO:\ task\ .*\ blocked\ for\ more\ than\b
    | \bINFO:\ rcu\w*\ .*\bstall
    | \brcu:\ INFO:
    | \bINFO:\ (?:trying\ to\ register|possible\ |suspicious\ |lockdep\ is\ turned\ off)
    | \bsuspicious\ RCU\ usage\b
    | \bpossible\ (?:circular|recursive|irq)\b.*\block
    | \bbad\ unlock\ balance\b
    | \bheld\ lock\ freed\b
    | \bUBSAN:
    | \bkmemleak:\ .*\bsuspected\ memory\ leak
    | \bkmemleak:\ .*\b(?:disabled|[Cc]annot)\b
    | \brefcount_t:
    | \blist_(?:add|del)\ corruption\b
    | \bpanicked\ at\b                 # Rust
    | \b(?:page\ allocation|SLUB:\ Unable\ to\ allocate).*\bfailure\b
    | \bCall\ Trace:
    | \bOut\ of\ memory:\ Killed       # not "Memory cgroup out of memory", which is a limit that holds
    | \bvirgo-vm:\ init:               # a guest that did not come up
    """,
    re.VERBOSE,
)

# What matches above and is no report. Each with its reason; keep this list short.
ALLOWED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"\bRETBleed: WARNING: |\bSpectre V2 : WARNING: |\bMDS: WARNING: "),
        "the CPU that QEMU makes has no microcode to mitigate with; said at boot",
    ),
)

# Stack traces that were asked for, by what comes before each: fault injection shows where it made
# an allocation fail, SysRq-T and -W show tasks, the OOM killer shows who asked for memory (it has a
# line of its own above where it was not a control group's limit). A report among them has lines of its own.
TRACE = re.compile(r"\bCall Trace:|\bpage allocation failure|\bSLUB: Unable to allocate")
TRACE_ASKED_FOR = re.compile(
    r"\bFAULT_INJECTION: forcing a failure|\btask:\S+\s+state:|\bsysrq: Show "
    r"|\binvoked oom-killer: "
)
TRACE_WITHIN = 60  # lines

# Under TCG with more than one CPU a kernel that patches its own text (a static key is flipped) now
# and then takes the breakpoint that had been there a moment before, and finds none: a fault of
# QEMU's (LKML, July 2023, "qemu-x86_64 booting with 8.0.0 stil see int3"), not of the kernel. Most
# keys are flipped while it boots.
PATCHING_FAULT = re.compile(r"\bOops: int3: ")

# A CPU that did not get on: what a guest's kernel says whose timer QEMU lost.
STALL = re.compile(r"\brcu: INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stall")

# A guest that restarts or powers off because it was told to ends with one of these.
ORDERLY_END = re.compile(
    r"\breboot: (?:Restarting system|Power down|machine restart)|\bsysrq: (?:Resetting|Power Off)"
)


@dataclass(frozen=True)
class Report:
    """A line of a kernel log that is a report."""

    line: int
    text: str


def clean_lines(log: bytes) -> list[str]:
    """The log as text; the serial console ends lines with CR LF."""
    return log.decode("utf-8", "replace").replace("\r", "").split("\n")


def find_reports(lines: list[str]) -> Iterator[Report]:
    """The reports in a log, in their order."""
    asked_for = -TRACE_WITHIN
    for number, text in enumerate(lines):
        if TRACE_ASKED_FOR.search(text):
            asked_for = number
        if not REPORT.search(text) or any(pattern.search(text) for pattern, _ in ALLOWED):
            continue
        if TRACE.search(text) and number - asked_for < TRACE_WITHIN:
            continue
        yield Report(number + 1, text)


def ended_orderly(lines: list[str]) -> bool:
    """Whether the guest that wrote this log restarted or powered off by its own will."""
    return any(ORDERLY_END.search(text) for text in lines[-20:])


def first_report_is(lines: list[str], pattern: re.Pattern[str]) -> bool:
    """Whether a log has a report, and the first is like this."""
    first = next(find_reports(lines), None)
    return first is not None and bool(pattern.search(first.text))


def is_stall(lines: list[str]) -> bool:
    """Whether the first report of a log is one of RCU's on a CPU that does not get on."""
    return first_report_is(lines, STALL)


def is_patching_fault(lines: list[str]) -> bool:
    """Whether the first report of a log is QEMU's fault with patched text."""
    return first_report_is(lines, PATCHING_FAULT)
