"""Case 5: a script that refuses has written nothing, whatever it was told: Redis takes nothing back."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from support.holder import HANDLER, QUEUE, Holder, put

from qslots import keys
from qslots.errors import Error
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer
from qslots.records import formed, header

encode = msgspec.msgpack.encode
OUTCOMES = {1: Outcome("fail", "why", limit=3, base=1.0, cap=9.0), 2: Outcome("postpone", delay=5.0)}
ATTEMPTS = 60  # a script and server; thousands were tried once
RECORD = header(HANDLER, 7, "") + formed(b"\x80")
SLOTS = ("cascade", "exchange", "settle", "release", "reclaim", "extend", "stats")
GOOD: dict[str, list[Any]] = {
    "put": [
        QUEUE, HANDLER, 9, "replace", 1, "", header(HANDLER, 7), encode(["a", "e", "z"]), encode([2, 2, 2]),
        b"\1\x80" * 3,
    ],
    "exchange": ["slot", 3, 2, 60_000_000, 5, 3_000_000, 4 << 20, 1, "", 60_000_000, 5, 5],
    "settle": ["slot", 2, encode(OUTCOMES), b"\0\0\1", "keep", "why", "", 60_000_000, encode({}), 0],
    "cascade": [
        "slot", 2, encode(OUTCOMES | {3: Outcome("done")}), b"", "keep", "", "", 60_000_000, encode({}), 0,
        encode([["child", 16, 26, 27]]), encode([[3, 1, "c", "+5", ["i", "j"], [2, 2], 13]]),
        header("c", 7), b"\1\x80" * 2,
    ],
    "release": ["slot", 2, b"\1\0\1", 5, 1, 60_000_000],
    "extend": [60_000_000, "slot:2", "nobody:1"],
    "reclaim": [60_000_000],
    "move": ["e", "+5"],
    "update": ["e", RECORD, ""],
    "delete": ["e"],
    "bury": ["e", "why"],
    "kick": [2],
    "gate": ["resume", "collection:c", 0],
    "drop": ["", "", "", 10],
    "unwait": ["idle"],
    "get": ["a", "e", "z"],
    "stats": [],
    "due": [],
}  # fmt: skip
BAD: tuple[Any, ...] = (
    "", "x", "-1", "0", "1e300", "9" * 40, "nan", "inf", "1.5", "+", ":", b"\xff\xfe\x00", b"\xc1", b"\x93\1",
    b"\x81\1", b"\xdd\xff\xff\xff\xff", encode({1: {"kind": "nonsense"}}), encode({1: "text"}), encode([1, 2]),
    encode(["a", None]), encode({"x": [1]}), encode(7), encode([-5, 10**15, 1]), "x" * 5000, header("y" * 60, 7, "c"),
)  # fmt: skip


def prepare(server: QueueServer) -> dict[bytes, bytes]:
    """A little of everything; returns it as the server stores it."""
    server.redis.flushall()
    put(server, *"abcdefgh")
    put(server, "p", collection="c", when="1")
    put(server, "x", handler="x", when="+90000000")
    Inspector(server, QUEUE).pause("collection:c")
    Holder(server, "idle").take({"none": 1})
    slot = Holder(server, "slot")
    slot.take(0)
    slot.work(4)
    slot.settle({4: Outcome("bury", "bad")})
    return stored(server)


def stored(server: QueueServer) -> dict[bytes, bytes]:
    """Every key, as DUMP gives it."""
    names = sorted(server.redis.keys("*"))
    return {name: server.redis.dump(name) or b"" for name in names}


def names_for(server: QueueServer, script: str) -> list[str]:
    vector = server.keys_of(QUEUE)
    places = [vector.schedule(HANDLER), vector.schedule("x"), vector.parked("c")]
    if script == "put":
        return [*vector.vector, vector.producer("p"), keys.QUEUES, *places]
    if script == "cascade":
        child = server.keys_of("child")
        more = [*child.vector, child.schedule("c"), child.schedule("d"), keys.QUEUES]
        return [*vector.slots_vector, vector.schedule(HANDLER), *more]
    return [*(vector.slots_vector if script in SLOTS else vector.vector), *places]


def spoiled(good: Sequence[Any], dice: random.Random) -> list[Any]:
    """One argument replaced, left out, or one too many; sometimes two."""
    args = list(good)
    for _ in range(dice.choice((1, 1, 2))):
        place = dice.randrange(len(args) + 1)
        match dice.randrange(4):
            case 0 if args:
                del args[place:]
            case 1:
                args.insert(place, dice.choice(BAD))
            case _ if place < len(args):
                args[place] = dice.choice(BAD)
    return args


@pytest.mark.parametrize("script", sorted(GOOD))
def test_case_05_script_that_refuses_has_written_nothing(server: QueueServer, script: str) -> None:
    names, dice = names_for(server, script), random.Random(5)
    before = prepare(server)
    server.run("queue", script, names, GOOD[script])
    before = prepare(server)
    half_done = set()
    for _ in range(ATTEMPTS):
        args = spoiled(GOOD[script], dice)
        try:
            server.run("queue", script, names, args)
            fault = ""
        except Error as error:
            fault = str(error).replace(server.url, "")
        after = stored(server)
        if fault and after != before:
            changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
            half_done.add((repr(args)[:300], fault[:200], *changed))
        if after != before:
            before = prepare(server)
    assert not half_done
