"""The keys in the server are those that keys.py documents, and no others; stats counts what is there."""

import importlib.resources
import itertools
import re

from support.holder import QUEUE, Holder, put, stats

from qslots import keys, ticks
from qslots.control import Control
from qslots.keys import QueueKeys
from qslots.outcomes import Outcome
from qslots.periodic import Step
from qslots.queueserver import Kept, QueueServer
from qslots.reports import Declared, MapRow, Periodic, Plan, QueueDeclared, Report

LUA = importlib.resources.files("qslots") / "lua" / "queue"
KINDS = {
    keys.PULSE: b"hash", keys.QUEUES: b"set", keys.DECLARED: b"hash", keys.MASTERS: b"hash", keys.REPORTS: b"hash",
    keys.SEEN: b"zset", keys.EPOCH: b"hash", keys.MAP: b"hash", keys.PLAN: b"string",
}  # fmt: skip
QUEUE_KINDS = {
    "tasks": b"hash", "packs": b"hash", "locks": b"zset", "holders": b"hash", "buried": b"zset", "fate": b"hash",
    "counters": b"hash", "waiters": b"zset", "wake": b"list", "handlers": b"set", "again": b"hash", "gates": b"hash",
    "finished": b"zset",
}  # fmt: skip
BESIDE = {"ticks": b"hash"}  # named to the one script that needs it


def busy(server: QueueServer) -> None:
    """A little of everything, in two queues."""
    for queue in (QUEUE, "other.queue-2"):
        idle, slot = Holder(server, "idle", queue), Holder(server, "slot", queue)
        idle.take()
        put(server, *"abcdef", queue=queue)
        put(server, "later", when="+90000000", queue=queue)
        put(server, "x", handler="x", queue=queue)
        slot.work(4)
        slot.settle({1: Outcome("fail", "why", limit=9, base=1e6, cap=1e6), 2: Outcome("bury", "bad")})
    control = Control(server)
    declared = Declared((QueueDeclared("q"),))
    control.take_over("web", "", "i", gone_after=9)
    control.report(
        Report(
            server="web", incarnation="i", host="h", pid=1, generation=1, declared=declared.digest(), budget=1,
            max_slots=1, pss=1, free_memory=1, slot_size=1, slot_sizes={}, epoch=0, seq=0,
        ),
        declared,
    )  # fmt: skip
    epoch = control.take_epoch("m", 0, respect=1, take_over=False)
    control.publish(Plan(epoch, 1, "m", 0.0, ()), {"web": MapRow(epoch, 1, "m", ())}, [])


def said_from_outside(server: QueueServer) -> None:
    """A result kept, a locked task rearmed, a paused collection, a rate, a tick."""
    ticks.store(server, (QUEUE, "tick"), Periodic(every=60), ticks.Seen(b"", None), Step(0, 60, (60,)))
    slot = Holder(server, "said", QUEUE)
    put(server, *"uvwxyz123", handler="y", collection="c")
    assert slot.work({"y": 9})
    server.settle(QUEUE, "said", 1, {1: Outcome("done")}, window=99.0, results={1: Kept(slot.ids[0], b"r", 99.0)})
    put(server, slot.ids[1], handler="y", own_ids=True, on_duplicate="rearm")
    server.inside(QUEUE, "gate", ["pause", "collection:c", 0], extra="c")
    assert Holder(server, "late").take({"y": 1}, rate=100.0).pack is None


def kind_documented(key: str) -> bytes | None:
    if key in KINDS:
        return KINDS[key]
    match = re.fullmatch(r"qs:\{(.+?)\}:(\w+)(:.+)?", key)
    if match is None or QueueKeys(match[1]).base + match[2] + (match[3] or "") != key:
        return None
    if match[3]:
        return {"schedule": b"zset", "parked": b"zset", "producer": b"string", "result": b"string"}.get(match[2])
    return (QUEUE_KINDS | BESIDE).get(match[2])


def test_every_key_found_after_a_busy_time_is_documented_and_of_its_kind(server: QueueServer) -> None:
    busy(server)
    said_from_outside(server)
    found = {key.decode(): server.redis.type(key) for key in server.redis.keys("*")}
    assert {key: kind_documented(key) for key in found} == found
    assert set(KINDS) <= set(found)
    parts = {key.rpartition(":")[2] for key in found if key.startswith(QueueKeys(QUEUE).base)}
    assert {*QUEUE_KINDS, *BESIDE} <= parts


def test_documented_parts_are_those_of_the_vector_in_the_order_that_the_scripts_read() -> None:
    assert {*QueueKeys.PARTS, *QueueKeys.SLOTS_PARTS} == set(QUEUE_KINDS)
    one = QueueKeys("q")
    assert one.slots_vector == [*one.vector, *(f"qs:{{q}}:{part}" for part in QueueKeys.SLOTS_PARTS), keys.PULSE]
    for room, parts, first in (("prelude", QueueKeys.PARTS, 1), ("locks", (*QueueKeys.SLOTS_PARTS, "pulse"), 11)):
        text = (LUA / f"{room}.lua").read_text()
        named = f"local {', '.join(parts).upper()} = unpack(KEYS, {first}, {first + len(parts) - 1})"
        assert named in text


def test_stats_counts_each_task_in_its_place(server: QueueServer) -> None:
    busy(server)
    now = stats(server)
    assert (now.active, now.inactive, now.locked, now.buried) == (1 + 3, 1 + 1, 2, 1) or now.locked + now.active == 5
    assert now.active + now.inactive + now.locked + now.buried == 8
    assert (now.put, now.failed) == (8, 1)
    assert 0 <= now.oldest < 5


def test_stats_of_queues_that_do_not_exist_are_zeros_also_after_the_scripts_are_forgotten(server: QueueServer) -> None:
    server.redis.script_flush()
    for name, found in zip("ab", server.stats(["a", "b"]), strict=True):
        assert (found.name, found.active, found.put, found.oldest) == (name, 0, 0, 0.0)
    assert server.stats([]) == []


def test_oldest_is_the_age_of_the_head(server: QueueServer) -> None:
    put(server, "a")
    put(server, "b", when=str(int((stats(server).now - 100) * 1e6)), handler="x")
    assert 100 <= stats(server).oldest < 105


def test_counters_only_rise(server: QueueServer) -> None:
    readings = []
    slot = Holder(server, "s")
    for n in range(4):
        put(server, f"{n}")
        slot.take(busy=0.25)
        slot.keep(slot.again())
        readings.append(stats(server))
    for before, after in itertools.pairwise(readings):
        assert after.put > before.put
        assert after.taken > before.taken
        assert after.busy > before.busy
