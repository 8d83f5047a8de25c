"""Garbage in the place of records: nobody stumbles over it, what cannot be read is buried with its reason."""

import contextlib
import itertools
import random
import struct
import zlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from support.holder import HANDLER, QUEUE, Holder, put, stats
from support.properties import examples

from qslots import records
from qslots.errors import Error
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queues import Queue
from qslots.queueserver import QueueServer
from qslots.records import body, formed, header
from qslots.tasks import Task, task

GOOD = struct.pack(">d", 1e15) + header(HANDLER, 7, "c") + formed(msgspec.msgpack.encode({"photo": "a.jpg"}))
GARBAGE = st.one_of(
    st.binary(max_size=60),
    st.integers(0, len(GOOD)).map(lambda size: GOOD[:size]),
    st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)).map(lambda at: spoiled(*at)),
    st.binary(max_size=40).map(lambda tail: struct.pack(">d", 1e15) + header(HANDLER, 7) + tail),
    st.sampled_from([
        b"", struct.pack(">d", float("nan")) + GOOD[8:], struct.pack(">d", float("inf")) + GOOD[8:],
        struct.pack(">d", 1e15) + header("unknown", 7) + formed(b"\x80"),
    ]),
)  # fmt: skip
MANY = examples(40, suppress_health_check=list(HealthCheck))


def spoiled(place: int, value: int) -> bytes:
    """A good record with one byte changed."""
    return GOOD[:place] + bytes([value]) + GOOD[place + 1 :]


def smuggle(server: QueueServer, garbage: list[bytes]) -> list[str]:
    """An empty queue gets these records past every check, then a good one; returns their ids."""
    server.redis.flushall()
    vector, names = server.keys_of(QUEUE), [f"g{n}" for n in range(len(garbage))]
    server.redis.hset(vector.part("tasks"), mapping=dict(zip(names, garbage, strict=True)))
    server.redis.zadd(vector.schedule(HANDLER), {name: n + 1 for n, name in enumerate(names)})
    put(server, "good", body=msgspec.msgpack.encode({"photo": "a.jpg"}))
    return names


@MANY
@given(garbage=st.lists(GARBAGE, min_size=1, max_size=6))
def test_no_operation_stops_at_garbage(server: QueueServer, garbage: list[bytes]) -> None:
    names = smuggle(server, garbage)
    inspector, slot = Inspector(server, QUEUE), Holder(server, "s")
    dice = random.Random(len(garbage))
    changes: list[Callable[[str], object]] = [
        lambda name: inspector.move(name, "1"),
        lambda name: inspector.bury(name, "garbage"),
        inspector.delete,
        lambda name: inspector.update(name, GOOD[8:]),
    ]
    _, found = inspector.get(names)
    assert [each.record for each in found if each] == garbage
    assert {*names, "good"} == set(itertools.chain(*inspector.every_id()))
    inspector.pause("collection:c")
    for name in names:
        with contextlib.suppress(Error):  # a refusal of one line is an answer, too
            dice.choice(changes)(name)
    inspector.kick(10)
    inspector.resume("collection:c")
    taken: list[str] = []
    for _ in range(20):
        taken += slot.work(3)
    assert "good" in taken
    for page in inspector.drop("c"):
        assert page
    list(inspector.drop(""))
    left = set(itertools.chain(*inspector.every_id()))
    assert stats(server).tasks == len(left)
    for name in left:
        inspector.delete(name)
    assert stats(server).tasks == 0


@MANY
@given(
    garbage=st.lists(GARBAGE, min_size=1, max_size=6), kind=st.sampled_from(["done", "fail", "back", "bury", "loss"])
)
def test_garbage_ends_as_any_task_does(server: QueueServer, garbage: list[bytes], kind: str) -> None:
    smuggle(server, garbage)
    slot = Holder(server, "s")
    taken = slot.work(100)
    assert len(taken) == len(garbage) + 1
    said = {position: Outcome(kind, "why", limit=1, delay=0.0) for position in range(1, len(taken) + 1)}
    assert slot.settle(said)
    assert stats(server).tasks == (0 if kind == "done" else len(taken))
    assert stats(server).buried == (len(taken) if kind in ("fail", "bury") else 0)


def declared() -> None:
    @task(queue=QUEUE, name=HANDLER)
    def handler(photo: str) -> None: ...


def consume() -> list[Task]:
    """What a process gets that takes all, pack by pack."""
    given_out: list[Task] = []
    for _ in range(30):
        with Queue(QUEUE).take(10) as tasks:
            given_out += tasks
    return given_out


@pytest.mark.usefixtures("app")
@MANY
@given(garbage=st.lists(GARBAGE, min_size=1, max_size=4))
def test_what_cannot_be_read_is_buried_with_its_reason_and_the_rest_is_worked(
    server: QueueServer, garbage: list[bytes]
) -> None:
    smuggle(server, garbage)
    with contextlib.suppress(Error):
        declared()
    given_out = consume()
    assert "good" in {each.id for each in given_out}
    assert all(list(each.kwargs) == ["photo"] or each.args for each in given_out)
    inspector = Inspector(server, QUEUE)
    _, found = inspector.get([name for page in inspector.buried() for name in page])
    assert all(each.fate.error for each in found if each)
    assert stats(server).buried + stats(server).inactive + len(given_out) >= len(garbage) + 1
    assert (stats(server).locked, stats(server).active) == (0, 0)


def test_bomb_is_refused_before_it_fills_the_memory(app: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGEST", 1 << 20)
    declared()
    bomb = records.DEFLATED + zlib.compress(b"\0" * (32 << 20), 9)
    smuggle(app, [GOOD[:8] + header(HANDLER, 7) + bomb])
    assert [each.id for each in consume()] == ["good"]
    info = Queue(QUEUE).get("g0")
    assert info is not None
    assert "the record cannot be read: " in info.last_error
    assert "too large" in info.last_error


@pytest.mark.parametrize("known", [True, False])
def test_arguments_nested_beyond_all_depth_are_buried(app: QueueServer, known: bool) -> None:
    if known:
        declared()
    deep = formed(b"\x81\xa5photo" + b"\x91" * 100_000 + b"\xc0")
    smuggle(app, [GOOD[:8] + header(HANDLER, 7) + deep])
    assert [each.id for each in consume()] == ["good"]
    info = Queue(QUEUE).get("g0")
    assert info is not None
    assert info.last_error or info.failures
    assert next(Queue(QUEUE).find(text="nothing has it"), None) is None


@pytest.mark.parametrize("missing", [1, 3, 8])
def test_compressed_arguments_that_are_cut_off_are_no_record(missing: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        body(GOOD[:8] + header(HANDLER, 7) + records.DEFLATED + zlib.compress(b"a" * 100)[:-missing])
