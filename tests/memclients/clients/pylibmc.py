# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
"""Uses a memcached by way of pylibmc, and says what it answers."""
import sys

import pylibmc

client = pylibmc.Client(
    ["127.0.0.1:" + sys.argv[1]],
    behaviors={"cas": True, "tcp_nodelay": True, "verify_keys": True},
)


def show(*what):
    print(*what, flush=True)


client.flush_all()
show("set", client.set("text", "grüße"), client.get("text"))
show("bytes", client.set("bytes", bytes(range(256))), client.get("bytes") == bytes(range(256)))
show("number", client.set("number", 41), client.incr("number"), client.decr("number", 2))
show("object", client.set("object", {"a": [1, 2.5, None]}), client.get("object"))
show("add", client.add("text", "no"), client.add("new", "yes"), client.get("new"))
show("replace", client.replace("new", "again"), client.replace("absent", "no"), client.get("new"))
show("append", client.append("new", "!"), client.prepend("new", "-"), client.get("new"))
show("many", client.set_multi({"m%d" % n: n for n in range(200)}))
show("many", sorted(client.get_multi(["m%d" % n for n in range(210)]).items()))
show("delete", client.delete("text"), client.delete("text"), client.get("text"))
show("delete many", client.delete_multi(["m%d" % n for n in range(200)]))
show("touch", client.touch("new", 1000), client.touch("absent", 1000))

value, unique = client.gets("new")
show("gets", value, unique is not None)
show("cas", client.cas("new", "by cas", unique), client.get("new"))
show("cas", client.cas("new", "too late", unique), client.get("new"))

big = "x" * 900_000
show("big", client.set("big", big), client.get("big") == big)
try:
    show("too big", client.set("huge", bytes(2_000_000)))
except pylibmc.Error as error:
    show("too big", type(error).__name__)
try:
    show("long key", client.set("k" * 251, "v"))
except Exception as error:  # whatever it is, it is the same with both
    show("long key", type(error).__name__)
show("key of 250", client.set("k" * 250, "v"), client.get("k" * 250))
try:
    show("incr of a text", client.set("word", "abc"), client.incr("word"))
except pylibmc.Error as error:
    show("incr of a text", type(error).__name__)
try:
    show("incr of nothing", client.incr("absent"))
except pylibmc.Error as error:
    show("incr of nothing", type(error).__name__)
show("expired", client.set("mortal", "v", time=1), client.get("mortal"))
show("packed", client.set("packed", "abc" * 10_000, min_compress_len=100))
show("packed", client.get("packed") == "abc" * 10_000)
names = {name for _, figures in client.get_stats() for name in figures}
show("stats", sorted(names & {"curr_items", "cmd_get", "get_hits", "bytes", "limit_maxbytes"}))
client.flush_all()
show("flushed", client.get("new"))
show("done")
