# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Makes the memory pool's table in doc/benchmarks.md of what bench-mempool printed. What was not run is
said to be not measured.

usage: mempool-table.py FOLDER KERNEL QEMU FILE
"""
import datetime
import math
import pathlib
import sys

BEGIN = "<!-- bench-mempool: written by scripts/bench-mempool -->"
END = "<!-- bench-mempool: end -->"

# What was aimed at: the row, the most that is allowed (as a ratio, or of ours itself), the words.
TARGETS = [
    ("TCP get, 16 connections, pipeline 1", "ratio", 0.90),
    ("TCP get, 16 connections, pipeline 16", "ratio", 0.62),
    ("wall clock, TCP get, 16 connections, pipeline 1", "more", 1.75),
    ("get by ioctl (memcached: Unix socket)", "most", 1300),
    ("mapped get (memcached: Unix socket)", "most", 150),
    ("memory an item, by MemAvailable", "most", 72),
]


def figures(path):
    rows, version = {}, ""
    for line in path.read_text().splitlines():
        if line.startswith("row|"):
            _, name, theirs, ours, unit = line.rstrip().split("|")
            rows[name] = (float(theirs), float(ours), unit)
        elif line.startswith("version|"):
            version = line.split("|", 1)[1].strip()
    return rows, version


def number(value):
    if math.isnan(value):
        return ""
    return f"{value:,.1f}" if value < 200 else f"{value:,.0f}"


def ratio(theirs, ours):
    if math.isnan(theirs) or theirs == 0:
        return ""
    value = ours / theirs
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def table(rows):
    lines = []
    for name, (theirs, ours, unit) in rows.items():
        if name.endswith((", p50", ", p99")):
            continue
        shown = [name.strip(), number(theirs), number(ours), ratio(theirs, ours)]
        p50, p99 = rows.get(name + ", p50"), rows.get(name + ", p99")
        for percentile in (p50, p99):
            shown.append(f"{percentile[0] / 1000:,.0f} / {percentile[1] / 1000:,.0f}" if percentile else "")
        shown.append(unit)
        lines.append("| " + " | ".join(shown) + " |")
    return lines


def verdicts(rows):
    lines = []
    for name, kind, limit in TARGETS:
        if name not in rows:
            lines.append(f"| {name} | | | not measured this time |")
            continue
        theirs, ours, _ = rows[name]
        if kind == "ratio":
            got, met, words = ours / theirs, ours / theirs <= limit, f"{limit:.2f} or less"
        elif kind == "more":
            got, met, words = ours / theirs, ours / theirs >= limit, f"{limit:.2f} or more"
        else:
            got, met, words = ours, ours <= limit, f"{limit} or less"
        shown = f"{got:.2f}" if kind != "most" else number(got)
        lines.append(f"| {name} | {words} | {shown} | {'met' if met else '**missed**'} |")
    return lines


def main():
    folder, kernel, qemu, target = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])
    rows, version = {}, ""
    for part in ("icount", "memory", "wall"):
        if not (folder / f"{part}.log").exists():
            continue
        own, own_version = figures(folder / f"{part}.log")
        rows.update(own)
        version = version or own_version
    day = datetime.datetime.now(datetime.timezone.utc).date()
    text = [
        BEGIN,
        f"Linux {kernel}, {qemu}, {version} of Debian 13 (`-t 1`, with the wall clock `-t 2`). Instructions: one",
        "guest with one CPU and `-icount shift=0,sleep=off`, the whole round (client, both ways, server), both",
        "servers by turns in one boot, medians of three. Values of 100 bytes, keys of 11, but 32 bytes where items",
        f"are counted. Wall clock: two CPUs, the pair in the middle of seven. {day}.",
        "",
        "| | memcached | virgo-mempool | ours / theirs | p50, µs | p99, µs | |",
        "|---|---|---|---|---|---|---|",
        *table(rows),
        "",
        "| what was aimed at | | reached | |",
        "|---|---|---|---|",
        *verdicts(rows),
        END,
    ]
    old = target.read_text()
    if BEGIN in old:
        before, rest = old.split(BEGIN, 1)
        _, after = rest.split(END, 1)
    else:
        before = old.rstrip("\n") + "\n\n## The memory pool beside memcached: `make bench-mempool`\n\n"
        after = "\n"
    target.write_text(before + "\n".join(text) + after)


main()
