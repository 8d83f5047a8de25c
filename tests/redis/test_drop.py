"""Dropping a queue or a collection: what was put before goes, in pages, whoever is at work meanwhile."""

import contextlib
import random
from collections.abc import Iterator

import pytest
from support.holder import HANDLER, QUEUE, Holder, put, stats

from qslots import Queue, TaskState
from qslots.errors import UnknownTask
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer

queue = Queue(QUEUE)
FAIL = Outcome("fail", "why", limit=9, base=0.0, cap=0.0)


def names(count: int, first: int = 0) -> list[str]:
    return [f"{n:05}" for n in range(first, first + count)]


def everything(slot: Holder) -> list[str]:
    taken: list[str] = []
    while (answer := slot.take(100)).pack is not None or not answer.wait:
        taken += slot.keep(answer)
    return taken


@pytest.fixture
def pages(app: QueueServer) -> Iterator[tuple[int, int]]:
    """A drop of 3,000 tasks in a paused collection and out of it, going on page by page as the test asks."""
    for first in range(0, 3000, 1000):
        put(app, *names(1000, first), collection="c" if first == 1000 else "")
    return Inspector(app, QUEUE).drop("")


def test_drop_discards_every_kind_of_task_but_those_that_run(app: QueueServer) -> None:
    put(app, "parked", collection="c")
    queue.pause("c")
    assert everything(Holder(app, "p")) == []
    put(app, "first")
    put(app, "second", "set aside")
    put(app, "inactive", when="+9000000000")
    put(app, "other", handler="x")
    slot = Holder(app, "s")
    assert slot.work(2) == ["first", "second"]
    queue.bury("set aside")
    seen: list[tuple[int, int]] = []
    put(app, "active")
    assert queue.drop(progress=lambda done, total: seen.append((done, total))) == 7
    assert seen[-1] == (7, 7)
    assert (stats(app).tasks, stats(app).locked, stats(app).dropped) == (2, 2, 5)  # these two when they end
    slot.settle({1: FAIL, 2: Outcome("retry", delay=0.0)})
    assert (stats(app).tasks, everything(Holder(app, "t"))) == (0, [])
    assert [gate for gate in stats(app).gates if gate.startswith("drop")] == []
    keys = app.keys_of(QUEUE)
    assert not app.redis.exists(keys.part("tasks"), keys.part("fate"), keys.part("again"), keys.part("buried"))


def test_only_the_collection_that_is_named_is_dropped(app: QueueServer) -> None:
    put(app, *names(300), collection="c")
    put(app, *names(300, 300), collection="d")
    put(app, *names(300, 600))
    assert queue.drop("c") == 300
    assert {each.id for each in queue.find()} == set(names(600, 300))
    assert queue.drop("never") == 0


def test_what_is_put_after_the_drop_began_survives_it(app: QueueServer, pages: Iterator[tuple[int, int]]) -> None:
    next(pages)
    put(app, *names(500, 9000))
    list(pages)
    assert {each.id for each in queue.find()} == set(names(500, 9000))
    assert everything(Holder(app, "s")) == names(500, 9000)


def test_slots_that_take_meanwhile_discard_what_they_meet(app: QueueServer, pages: Iterator[tuple[int, int]]) -> None:
    running = Holder(app, "r")
    assert running.work(10) == names(10)
    slot = Holder(app, "s")
    for _ in pages:
        put(app, *names(1, 9000 + stats(app).put))
        answer = slot.take(5)
        assert not set(slot.keep(answer)) & set(names(3000))
    running.settle(dict.fromkeys(range(1, 6), FAIL))
    running.work()
    left = {each.id for each in queue.find(state=TaskState.ENQUEUED)}
    assert not left & set(names(3000))
    assert stats(app).locked == len(running.ids) + len(slot.ids)


def test_drop_that_was_interrupted_is_finished_by_takes(app: QueueServer, pages: Iterator[tuple[int, int]]) -> None:
    slot = Holder(app, "s")
    assert slot.work(3) == names(3)
    slot.settle({1: Outcome("fail", "why", limit=9, base=1e9, cap=1e9)})
    next(pages)
    put(app, "new")
    assert stats(app).gates == ("drop:",)
    slot.release()
    assert everything(Holder(app, "t")) == ["new"]
    with contextlib.suppress(UnknownTask):  # the page may have met the one that failed
        queue.kick(names(1)[0])
    assert everything(Holder(app, "u")) == []
    assert stats(app).tasks == 0
    assert list(Inspector(app, QUEUE).drop("")) == [(0, 0)]
    assert stats(app).gates == ()


def test_task_replaced_in_a_slot_after_the_drop_began_survives_it(app: QueueServer) -> None:
    put(app, *names(600))
    slot = Holder(app, "s")
    assert slot.work(600) == names(600)
    pages = Inspector(app, QUEUE).drop("")
    next(pages)
    assert put(app, *names(600), own_ids=True, on_duplicate="replace", body=b"\x81\xa1v\x01") == 600
    list(pages)
    slot.take(0)
    found = list(queue.find())
    assert {each.id for each in found} == set(names(600))
    assert {each.kwargs["v"] for each in found} == {1}


def test_task_rearmed_after_it_was_dropped_from_a_slot_is_the_new_one(app: QueueServer) -> None:
    put(app, "a")
    slot = Holder(app, "s")
    slot.work()
    assert queue.drop() == 1
    put(app, "a", own_ids=True, on_duplicate="rearm", body=b"\x81\xa1v\x02", when="")
    assert slot.work() == ["a"]
    assert (queue.get("a") or pytest.fail("gone")).kwargs == {"v": 2}


def test_each_page_of_large_tasks_is_small(app: QueueServer) -> None:
    large = random.Random(1).randbytes(1 << 16)  # not to be compressed
    for first in range(0, 600, 100):
        put(app, *names(100, first), body=large)
    looked = [seen for seen, _ in Inspector(app, QUEUE).drop("")]
    assert sum(looked) == 600
    assert max(looked[1:]) < 150


def test_many_tasks_are_dropped_in_larger_pages(app: QueueServer) -> None:
    for first in range(0, 10_000, 1000):
        put(app, *names(1000, first))
    pages = list(Inspector(app, QUEUE).drop(""))
    assert sum(gone for _, gone in pages) == 10_000
    assert len(pages) < 40
    assert max(gone for _, gone in pages) <= 2000
    assert not app.redis.exists(app.keys_of(QUEUE).schedule(HANDLER))
