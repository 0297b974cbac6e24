# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Uses a memcached by way of pymemcache, and says what it answers."""
import sys

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

address = ("127.0.0.1", int(sys.argv[1]))


def show(*what):
    print(*what, flush=True)


for kind in (Client, PooledClient):
    client = kind(address, default_noreply=False, timeout=60)
    client.flush_all()
    show(kind.__name__)
    show("set", client.set("text", "hello"), client.get("text"))
    show("bytes", client.set("bytes", bytes(range(256))), client.get("bytes"))
    show("add", client.add("text", "no"), client.add("new", "yes"), client.get("new"))
    show("replace", client.replace("new", "again"), client.replace("absent", "no"))
    show("append", client.append("new", "!"), client.prepend("new", "-"), client.get("new"))
    show("many", client.set_many({"m%d" % n: str(n) for n in range(200)}))
    show("many", client.get_many(["m%d" % n for n in range(210)]))
    show("number", client.set("n", "41"), client.incr("n", 1), client.decr("n", 2), client.decr("n", 99))
    show("nothing", client.incr("absent", 1), client.decr("absent", 1), client.get("absent"))
    show("touch", client.touch("new", 1000), client.touch("absent", 1000))
    value, unique = client.gets("new")
    show("cas", client.cas("new", "by cas", unique), client.cas("new", "late", unique))
    show("cas of nothing", client.cas("absent", "x", "1"), client.get("new"))
    show("delete", client.delete("text"), client.delete("text"))
    for what, call in {
        "text": lambda: client.incr("new", 1),
        "too big": lambda: client.set("huge", b"x" * 2_000_000),
        "wrong": lambda: client.raw_command("nonsense"),
    }.items():
        try:
            show(what, call())
        except (MemcacheClientError, MemcacheServerError) as error:
            show(what, type(error).__name__, error)
    show("after that", client.set("still", "here"), client.get("still"))
    show("raw", client.raw_command("mg still v f t", end_tokens="here\r\n"))
    show("noreply", client.set("quiet", "1", noreply=True), client.get("quiet"))
    client.flush_all()
    show("flushed", client.get("quiet"))
    client.close()
show("done")
