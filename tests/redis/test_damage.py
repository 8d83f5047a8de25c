"""Whatever is damaged in one queue, or said by one server or of it, the manager goes on planning all others."""

import contextlib
import itertools
import json
import math
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from support.plans import report
from support.properties import examples

from qmanager.admin.cli import main as admin
from qmanager.cli import main as commands_of_manager
from qmanager.loop import Manager
from qmanager.place import Place
from qmanager.published import newest_plan
from qslots import client, keys
from qslots.control import Control
from qslots.queueserver import QueueServer
from qslots.records import formed, header
from qslots.reports import Declared, HandlerDeclared, QueueDeclared
from qslots.settings import ManagerSettings, Settings

SOUND = QueueDeclared("sound", 50, 2, handlers=(HandlerDeclared("do"),))
SICK = QueueDeclared("sick", 60, 1, handlers=(HandlerDeclared("do", batch=50),))
DECLARED = Declared((SOUND, SICK))
KEYS = keys.QueueKeys("sick")
COUNTERS_KEY = KEYS.part("counters")

NUMBERS = st.sampled_from([
    *(0, 1, -1, 2, 4096, 4097, 1e6, 10**15, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 0.5, -0.5),
    *(1e308, math.inf, -math.inf, math.nan),
])  # fmt: skip
TEXTS = st.sampled_from(["", "x", "sick", "\0", "é" * 40, "../x", "{q}", "-", ".", "leaving", "busy"])
JUNK = st.recursive(
    NUMBERS | TEXTS | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
COUNTERS = st.sampled_from([
    *("done", "busy", "taken", "packs", "empty", "failed", "crashed", "put:do", "took:3", "took:-1", "took:x"),
    *("took:99999999", "pack:n", "pack:k", "pack:kk", "pack:t", "pack:kt", "pack:tt"),
])  # fmt: skip
GATES = st.sampled_from(["queue:", "version", "rate", "tokens", "filled", "handler:do", "collection:c", b"\xff:"])
SCORES = st.sampled_from([0.5, 1.0, -1.0, 1e18, -1e18, 1e300, math.inf, -math.inf])
PARTS = st.sampled_from([*KEYS.PARTS, *KEYS.SLOTS_PARTS, "schedule:do", "ticks"])
WRONG = st.sampled_from([
    ("SET", ("x",)), ("RPUSH", ("x",)), ("SADD", ("x", b"\xff")), ("ZADD", ("1", "x")), ("HSET", ("x", "y")),
])  # fmt: skip
FIXTURES = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}
PLACES = st.lists(st.tuples(st.integers(0, 30), JUNK), min_size=1, max_size=4)


def spoilt(document: Any, places: list[tuple[int, Any]]) -> Any:
    """The document with other values at some places, counted as they are met."""
    left = dict(places)
    met = iter(range(1_000_000))

    def copy(part: Any) -> Any:
        if (place := next(met)) in left:
            return left[place]
        if isinstance(part, dict):
            return {name: copy(value) for name, value in part.items()}
        return [copy(value) for value in part] if isinstance(part, list) else part

    return copy(document)


def packed(document: Any) -> bytes:
    """What msgpack can hold of it."""
    with contextlib.suppress(OverflowError):
        return msgspec.msgpack.encode(document)
    return b"\xc1"


def plain(struct: msgspec.Struct) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(struct))


# What may happen: a command each

DAMAGES = st.one_of(
    st.tuples(st.just("HSET"), st.just(COUNTERS_KEY), COUNTERS, NUMBERS.map(str)),
    st.tuples(st.just("HSET"), st.just(KEYS.part("gates")), GATES, JUNK.map(str)),
    st.tuples(st.just("ZADD"), st.just(KEYS.schedule("do")), SCORES, st.just("t1")),
    st.tuples(st.just("ZADD"), st.just(KEYS.part("locks")), SCORES, st.sampled_from(["x", "b/0/x.1:3"])),
    st.tuples(st.just("ZADD"), st.just(keys.SEEN), SCORES, st.sampled_from(["b", "ghost", b"\xff"])),
    st.tuples(st.just("HSET"), st.just(keys.ORDERS), st.just("b"), JUNK.map(json.dumps)),
    st.tuples(st.just("HSET"), st.just(keys.PINS), st.just("sick"), st.sampled_from(["x", "-5", "1.5", "null", "[1]"])),
    st.tuples(st.just("HSET"), st.just(keys.MAP), st.just("b"), JUNK.map(packed)),
    st.tuples(st.just("SET"), st.just(keys.PLAN), JUNK.map(packed)),
    st.builds(lambda part, wrong: (wrong[0], KEYS.base + part, *wrong[1]), PARTS, WRONG),
    st.builds(
        lambda places: ("HSET", keys.REPORTS, "b", packed(spoilt(plain(report("b", DECLARED.digest(), 8)), places))),
        PLACES,
    ),
    st.builds(lambda places: ("HSET", keys.DECLARED, "of b", packed(spoilt(plain(Declared((SICK,))), places))), PLACES),
)


def damage(to: redis.Redis, command: tuple[Any, ...]) -> None:
    """Carries it out, also where the key holds something else by now."""
    try:
        to.execute_command(*command)
    except redis.ResponseError:
        to.delete(command[1])
        to.execute_command(*command)
    if command[2] == "of b":
        to.hset(keys.REPORTS, "b", packed(plain(report("b", "of b", 8))))


@contextlib.contextmanager
def manager(server: QueueServer, folder: pathlib.Path) -> Iterator[Manager]:
    """One in this process, which gets its signals back."""
    settings = Settings(queue_servers={"main": server.url}, manager=ManagerSettings(runtime_dir=str(folder)))
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with contextlib.closing(Place(settings)) as place:
        made = Manager(settings, place, take_over=True)
        try:
            with contextlib.closing(made._desk), contextlib.closing(made._servers):
                yield made
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in usual.items():
                signal.signal(number, handler)


def fill(server: QueueServer) -> Control:
    """Two queues with tasks, two servers that have reported."""
    server.redis.flushall()
    control = Control(server)
    for queue in ("sound", "sick"):
        server.put(queue, "do", header("do", 7), [f"t{n}" for n in range(30)], [formed(b"\x80")] * 30)
    for name in ("a", "b"):
        control.take_over(name, "", "i", gone_after=10)
        control.report(report(name, DECLARED.digest(), 8), DECLARED)
    return control


@examples(100, **FIXTURES)
@given(st.lists(st.lists(DAMAGES, min_size=1, max_size=3), min_size=1, max_size=4))
@example([[("HSET", COUNTERS_KEY, "taken", "-5", "done", "-5", "busy", "-5", "put:do", "-5")]] * 3)
@example([[("HSET", COUNTERS_KEY, "took:99999999", "1")], [("HSET", COUNTERS_KEY, "took:99999999", "2")]])
def test_no_damage_stops_the_plan_for_others(
    server: QueueServer, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, cycles: list[list[Any]]
) -> None:
    caplog.clear()
    control = fill(server)
    with manager(server, tmp_path) as made:
        for seq, commands in enumerate([[], *cycles], 1):
            for command in commands:
                damage(server.redis, command)
            control.report(report("a", DECLARED.digest(), 8), None)
            assert made._turn(), caplog.text
            found, _ = newest_plan(server.redis)
            assert found is not None and found.seq == seq, caplog.text
            assert "sound" in {queue.name for queue in found.queues}


SHOWN = [
    "queues", "queue show sick", "queue show sound", "servers", "slots", "map", "explain sick", "explain sound",
    "periodic", "task find --queue sick",
]  # fmt: skip
LOOKED_AT = ["check", "plan", "plan --without b"]


@examples(12, **FIXTURES)
@given(commands=st.lists(DAMAGES, min_size=1, max_size=4))
@example(commands=[("ZADD", keys.SEEN, -math.inf, "b")])
def test_no_damage_ends_a_command_without_a_word(
    server: QueueServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, commands: list[Any]
) -> None:
    monkeypatch.setattr(client, "_current", None)
    fill(server)
    with manager(server, tmp_path) as made:
        made._turn()
        for command in commands:
            damage(server.redis, command)
        made._turn()
    for group, lines in ((admin, SHOWN), (commands_of_manager, LOOKED_AT)):
        for words, more in itertools.product(lines, ([], ["--json"])):
            result = CliRunner().invoke(group, [*words.split(), *more, "--redis", server.url])
            assert isinstance(result.exception, SystemExit | None), (words, result.exception)
            assert result.exit_code == 0 or (result.exit_code == 1 and result.stderr), (words, result.output)
            if more and result.exit_code == 0:
                json.loads(result.stdout, parse_constant=pytest.fail)
