"""What a task has enqueued with its settlement: put by the script that settles it, both or neither, once."""

import contextlib
from collections.abc import Iterator

import pytest
from support.holder import HANDLER, QUEUE, Holder, put, stats

from qslots.cascades import Cascade, Children, done
from qslots.debts import Owed, pay
from qslots.errors import QueueServerDown
from qslots.inspector import Inspector
from qslots.outcomes import Backoff, Outcome
from qslots.queueserver import Kept, QueueServer
from qslots.records import Fate, body, decode_fate, formed, header

DONE = done(5, Backoff(60.0, 60.0), 1.0)
OTHER = "children"


def children(*ids: str, queue: str = OTHER, handler: str = "c", when: str = "", size: int = 1) -> Children:
    stored = [formed(b"\x80" * size)] * len(ids)
    return Children(queue, handler, header(handler, 9), list(ids), stored, when)


@pytest.fixture
def slot(server: QueueServer) -> Holder:
    put(server, "a", "b", "d")
    holder = Holder(server, "s")
    assert holder.work() == ["a", "b", "d"]
    return holder


def living(server: QueueServer, queue: str = OTHER) -> set[str]:
    return {name.decode() for name in server.redis.hkeys(server.keys_of(queue).part("tasks"))}


def fate(server: QueueServer, task: str) -> Fate:
    return decode_fate(server.redis.hget(server.keys_of(QUEUE).part("fate"), task) or b"")


@contextlib.contextmanager
def full(server: QueueServer) -> Iterator[None]:
    server.redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        server.redis.config_set("maxmemory", 0)


def test_children_are_put_when_their_parent_is_done(server: QueueServer, slot: Holder) -> None:
    two = {1: [children("x", "y"), children("z", handler="other", when="+60000000")], 2: [children("w", queue=QUEUE)]}
    kept = {1: Kept("a", b"42", 60.0)}
    assert slot.settle({1: DONE, 2: DONE, 3: Outcome("retry", delay=6e7)}, cascade=two, results=kept)
    there, here = stats(server, OTHER), stats(server)
    assert (there.active, there.inactive, there.put) == (2, 1, 3)
    assert (here.done, here.active, here.inactive, here.put) == (2, 1, 1, 4)
    assert server.handlers(OTHER) == ["c", "other"]
    assert OTHER in server.queue_names()
    assert server.redis.get(server.keys_of(QUEUE).result("a")) == b"42"
    answer = Holder(server, "t", OTHER).take({"c": 9})
    assert answer.pack is not None
    assert (answer.pack.ids, [body(each) for each in answer.pack.records]) == ([b"x", b"y"], [b"\x80"] * 2)


def test_every_position_of_a_pack_has_its_own_children(server: QueueServer, slot: Holder) -> None:
    assert slot.settle({1: DONE}, cascade={1: [children("x")]})
    assert slot.settle({2: Outcome("bury", "no"), 3: DONE}, cascade={3: [children("y"), children("z")]})
    assert living(server) == {"x", "y", "z"}


def test_settlement_repeated_puts_children_once_however_soon_they_ran(server: QueueServer, slot: Holder) -> None:
    cascade: Cascade = {1: [children("x")]}
    assert slot.settle({1: DONE}, cascade=cascade)
    child = Holder(server, "t", OTHER)
    assert child.work({"c": 1}) == ["x"]
    assert child.work({"c": 1}) == []
    assert slot.settle({1: DONE}, cascade=cascade)
    assert (stats(server, OTHER).put, stats(server).done, living(server)) == (1, 1, set())


def test_of_a_pack_that_was_taken_away_no_children_are_put(server: QueueServer, slot: Holder) -> None:
    slot.die()
    assert not slot.settle({1: DONE}, cascade={1: [children("x")]})
    assert (living(server), stats(server).active) == (set(), 3)


def test_children_that_are_there_or_were_a_moment_ago_are_not_put_again(server: QueueServer, slot: Holder) -> None:
    put(server, "there", "was", queue=OTHER, handler="c")
    run = Holder(server, "t", OTHER)
    run.take({"c": 1})
    run.held = run.seq
    run.take({"c": 0}, window=60.0)
    [left] = living(server)
    cascade: Cascade = {1: [children("there", "was", "new", "new")]}
    assert slot.settle({1: DONE}, cascade=cascade)
    assert (living(server), stats(server, OTHER).put) == ({left, "new"}, 3)


def test_child_that_was_deleted_while_it_runs_comes_after_that_run(server: QueueServer, slot: Holder) -> None:
    put(server, "x", queue=OTHER, handler="c")
    run = Holder(server, "t", OTHER)
    assert run.work({"c": 1}) == ["x"]
    assert not Inspector(server, OTHER).delete("x")
    assert slot.settle({1: DONE}, cascade={1: [children("x")]})
    assert run.work({"c": 1}) == ["x"]


def test_children_belong_only_to_a_parent_that_is_done(server: QueueServer, slot: Holder) -> None:
    ends = [Outcome("retry", delay=0.0), Outcome("fail", "why", 3, base=1.0, cap=1.0), Outcome("bury", "no")]
    for position, outcome in enumerate(ends, 1):
        slot.settle({position: outcome}, cascade={position: [children("x")]})
    assert living(server) == set()
    assert (stats(server).locked, stats(server).done) == (0, 0)


def test_slot_that_waits_for_the_childrens_queue_is_woken(server: QueueServer, slot: Holder) -> None:
    Holder(server, "t", OTHER).take({"c": 1})
    assert slot.settle({1: DONE}, cascade={1: [children("x")]})
    assert server.redis.llen(server.keys_of(OTHER).wake) == 1


def test_task_said_anew_while_it_ran_has_its_children_and_runs_again(server: QueueServer, slot: Holder) -> None:
    put(server, "a", on_duplicate="rearm", own_ids=True)
    assert slot.settle({1: DONE}, cascade={1: [children("x")]})
    assert (living(server), stats(server).active) == ({"x"}, 1)


def test_full_server_takes_no_children_so_their_parent_is_tried_again(server: QueueServer, slot: Holder) -> None:
    with full(server):
        assert slot.settle({1: DONE, 2: Outcome("done")}, cascade={1: [children("x")]})
    assert living(server) == set()
    assert (fate(server, "a").retries, fate(server, "a").failures) == (1, 0)
    assert "refused" in fate(server, "a").error and "maxmemory" in fate(server, "a").error
    assert (stats(server).inactive, stats(server).done, stats(server).locked) == (1, 1, 1)


def test_damaged_queue_of_the_children_fails_their_parent(server: QueueServer, slot: Holder) -> None:
    server.redis.set(server.keys_of(OTHER).schedule("c"), "text")
    assert slot.settle({1: DONE}, cascade={1: [children("w", queue=QUEUE), children("x")]})
    assert (fate(server, "a").failures, living(server)) == (1, set())
    assert "WRONGTYPE" in fate(server, "a").error
    assert living(server, QUEUE) == {"a", "b", "d"}


@pytest.mark.parametrize("part", ["tasks", "finished", "counters", "handlers"])
def test_no_damaged_key_leaves_half_a_cascade(server: QueueServer, slot: Holder, part: str) -> None:
    server.redis.set(server.keys_of(OTHER).part(part), "text")
    assert slot.settle({1: DONE}, cascade={1: [children("w", queue=QUEUE), children("x")]})
    assert living(server, QUEUE) == {"a", "b", "d"}


def test_read_only_server_settles_nothing_and_is_asked_again(server: QueueServer, slot: Holder) -> None:
    server.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(QueueServerDown, match="refuses for now"):
            slot.settle({1: DONE}, cascade={1: [children("x")]})
    finally:
        server.redis.execute_command("REPLICAOF", "NO", "ONE")
    assert (living(server), stats(server).locked) == (set(), 3)
    assert slot.settle({1: DONE}, cascade={1: [children("x")]})
    assert (living(server), stats(server).done) == ({"x"}, 1)


def test_debt_is_paid_with_its_children_once(server: QueueServer, slot: Holder) -> None:
    owed = Owed(f"{QUEUE}@b", 1, {2: DONE}, marks=b"\1\0\0", cascade={2: [children("x", "y")]})
    assert pay(server, "s", owed)
    assert not pay(server, "s", owed)
    assert (living(server), stats(server, OTHER).put) == ({"x", "y"}, 2)
    assert (stats(server).done, stats(server).active) == (2, 1)
    assert slot.work({HANDLER: 9}) == ["d"]


def test_thousand_children_of_many_calls_go_together(server: QueueServer, slot: Holder) -> None:
    cascade: Cascade = {1: [children(f"x{n:03}", queue=f"q{n % 7}", handler=f"h{n % 3}") for n in range(1000)]}
    assert slot.settle({1: DONE}, cascade=cascade)
    assert sum(stats(server, f"q{n}").active for n in range(7)) == 1000
