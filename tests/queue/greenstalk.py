# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""A worker's day with PyPI's greenstalk, on the port that is given. Run by tests/queue."""

import sys
import threading

import greenstalk

ADDRESS = ("127.0.0.1", int(sys.argv[1]))


def fails(kind, call, *arguments, **named):
    """The call must raise this."""
    try:
        call(*arguments, **named)
    except kind:
        return
    raise AssertionError(f"{call} did not raise {kind}")


with greenstalk.Client(ADDRESS, use="mail", watch=["mail", "news"]) as c:
    assert c.using() == "mail"
    assert sorted(c.watching()) == ["mail", "news"]
    assert set(c.tubes()) == {"default", "mail", "news"}
    first = c.put("2", priority=2)
    second = c.put("1", priority=1)
    job = c.reserve()
    assert (job.id, job.body) == (second, "1")
    c.release(job, priority=3)
    assert c.reserve(timeout=0).id == first
    assert c.peek(first).body == "2"
    assert c.peek_ready().id == second
    fails(greenstalk.NotFoundError, c.peek_delayed)
    fails(greenstalk.NotFoundError, c.peek_buried)
    c.bury(greenstalk.Job(first, "2"))
    assert c.stats_job(first)["state"] == "buried"
    assert c.kick(5) == 1
    c.kick_job(c.put("later", delay=1000))
    taken = [c.reserve(timeout=1) for _ in range(3)]
    fails(greenstalk.TimedOutError, c.reserve, timeout=0)
    for job in taken:
        c.touch(job)
        c.delete(job)
    fails(greenstalk.NotFoundError, c.delete, first)
    c.ignore("news")
    fails(greenstalk.NotIgnoredError, c.ignore, "mail")
    c.put("soon", ttr=2)
    job = c.reserve()
    fails(greenstalk.DeadlineSoonError, c.reserve)
    assert c.reserve_job(c.put("by number")).body == "by number"
    c.pause_tube("mail", 1)
    stats = c.stats_tube("mail")
    assert (stats["name"], stats["pause"]) == ("mail", 1)
    assert c.stats()["total-jobs"] >= 5

with greenstalk.Client(ADDRESS, encoding=None, watch="binary", use="binary") as c:
    data = bytes(range(256)) * 200
    worker = []

    def work():
        """Waits before there is anything."""
        with greenstalk.Client(ADDRESS, encoding=None, watch="binary") as w:
            job = w.reserve()
            w.delete(job)
            worker.append(job.body)

    thread = threading.Thread(target=work)
    thread.start()
    while c.stats()["current-waiting"] == 0:
        pass
    c.put(data)
    thread.join(60)
    assert worker == [data]
    fails(greenstalk.JobTooBigError, c.put, bytes(1 << 16))

print("all as it should be")
