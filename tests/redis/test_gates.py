"""Pausing and resuming queues, handlers and collections: what is held back, what it costs, what comes back."""

import itertools
import os
from collections.abc import Iterator

import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, stats

from qslots import Queue, TaskState, gates
from qslots.errors import Error, QueueServerError
from qslots.inspector import Inspector
from qslots.queueserver import QueueServer

queue = Queue(QUEUE)
SIFTED = 200  # heads that one call looks at: gating.lua


def rung(server: QueueServer) -> int:
    return int(server.redis.llen(server.keys_of(QUEUE).wake))


def slept(server: QueueServer, name: str = "idle") -> Holder:
    """A slot that found nothing and waits."""
    slot = Holder(server, name)
    answer = slot.take({HANDLER: 9, "x": 9})
    assert answer.pack is None
    assert answer.wait > 0
    server.redis.delete(server.keys_of(QUEUE).wake)
    return slot


def until_empty(slot: Holder, most: int = 100) -> tuple[list[str], int]:
    """What a slot takes until there is nothing more, and how often it asked."""
    taken: list[str] = []
    for asked in range(1, 1000):
        answer = slot.take(most)
        taken += slot.keep(answer)
        if answer.pack is None and answer.wait > 0:
            return taken, asked
    raise AssertionError("it never comes to an end")


@pytest.fixture
def other(app: QueueServer) -> Iterator[QueueServer]:
    """Another process, which remembers the queue as it was."""
    client = QueueServer(app.url, name="other")
    client.known(QUEUE)
    yield client
    client.close()


@pytest.mark.parametrize(
    "gate", [{}, {"handler": HANDLER}, {"collection": "c"}], ids=["queue", "handler", "collection"]
)
def test_nothing_of_what_is_paused_begins_and_all_of_it_after_resume(app: QueueServer, gate: dict[str, str]) -> None:
    put(app, *"dcba", collection="c")
    running = Holder(app, "r")
    assert running.work(1) == ["a"]
    queue.pause(**gate)
    slot = Holder(app, "s")
    assert until_empty(slot)[0] == []
    assert running.work() == []
    assert (queue.stats().done, queue.stats().takeable) == (1, 0)
    queue.resume(**gate)
    assert until_empty(slot)[0] == ["b", "c", "d"]
    assert queue.stats().gates == ()


def test_others_go_on_beside_what_is_paused(app: QueueServer) -> None:
    put(app, "a", handler="x")
    put(app, "b", collection="c")
    put(app, "d", collection="e")
    put(app, "f")
    queue.pause("c")
    queue.pause(handler="x")
    slot = Holder(app, "s")
    assert slot.work({HANDLER: 9, "x": 9}) == ["d", "f"]
    assert slot.work({HANDLER: 9, "x": 9}) == []
    now = stats(app)
    assert (now.parked, now.active, now.takeable, now.paused) == (1, 1, 0, False)
    assert now.gates == ("collection:c", "handler:x")


def test_stats_say_that_a_queue_is_paused(app: QueueServer) -> None:
    put(app, *"abc")
    assert (stats(app).takeable, stats(app).paused, stats(app).gates) == (3, False, ())
    queue.pause()
    assert (stats(app).takeable, stats(app).paused, stats(app).gates) == (0, True, ("queue:",))
    assert (stats(app).active, stats(app).tasks) == (3, 3)
    queue.resume()
    assert (stats(app).takeable, stats(app).paused, stats(app).gates) == (3, False, ())


def test_both_names_at_once_and_names_that_cannot_be_are_refused(app: QueueServer) -> None:  # noqa: ARG001
    with pytest.raises(Error, match="a collection or a handler, not both"):
        queue.pause("c", handler="x")
    for name in ("", "c" * 65):
        with pytest.raises(Error, match="has 1 to 64 bytes"):
            queue.pause(name)


@pytest.mark.parametrize("name", ["c", "}:schedule:h", "ü ß", "with:colon", "a b\n"])
def test_collection_may_have_any_name(app: QueueServer, name: str) -> None:
    put(app, "a", collection=name)
    queue.pause(name)
    slot = Holder(app, "s")
    assert until_empty(slot)[0] == []
    assert [each.id for each in queue.find(collection=name)] == ["a"]
    assert (stats(app).parked, queue.resume(name)) == (1, 1)
    assert slot.work() == ["a"]


def test_paused_head_of_thousands_is_parked_in_portions_and_each_exchange_stays_cheap(app: QueueServer) -> None:
    """Case 16: a million of them at the head must not block the server."""
    for first in range(0, 3000, 1000):
        put(app, *(f"{n:04}" for n in range(first, first + 1000)), collection="c")
    put(app, "z")
    queue.pause("c")
    slot = Holder(app, "s")
    parked = [0]
    while not slot.keep(answer := slot.take()):
        assert answer.wait == 0  # it is to ask again at once
        parked.append(stats(app).parked)
    assert slot.ids == ["z"]
    assert {after - before for before, after in itertools.pairwise(parked)} == {SIFTED}
    app.redis.config_resetstat()
    slot.take()
    commands = app.redis.info("commandstats")
    assert sum(each["calls"] for each in commands.values() if isinstance(each, dict)) < 40  # they are passed once
    assert stats(app).parked == 3000


def test_order_is_the_old_one_after_resume(app: QueueServer) -> None:
    now = micros_now(app)
    times = {f"{n:03}": now - (n * 379 % 500) * 1000 for n in range(500)}
    put(app, *times, when=[str(at) for at in times.values()], own_ids=True, collection="c")
    put(app, "middle", when=str(now - 250_500))
    queue.pause("c")
    slot = Holder(app, "s")
    assert until_empty(slot)[0] == ["middle"]
    assert queue.resume("c") == 500
    assert until_empty(slot)[0] == sorted(times, key=lambda name: (times[name], name))


def test_resume_that_was_interrupted_is_finished_by_takes(app: QueueServer) -> None:
    put(app, *(f"{n:04}" for n in range(1000)), collection="c")
    queue.pause("c")
    slot = Holder(app, "s")
    assert until_empty(slot)[0] == []
    moved, left = app.inside(QUEUE, "gate", ["resume", "collection:c", 0], extra="c")
    assert (moved, left, moved + stats(app).parked) == (SIFTED, 1000 - SIFTED, 1000)
    assert stats(app).gates == ("collection:c",)
    assert until_empty(slot)[0] == [f"{n:04}" for n in range(1000)]
    assert (stats(app).parked, stats(app).gates) == (0, ())


def test_collection_paused_again_while_it_is_being_resumed_stays_paused(app: QueueServer) -> None:
    put(app, *(f"{n:04}" for n in range(500)), collection="c")
    queue.pause("c")
    slot = Holder(app, "s")
    until_empty(slot)
    app.inside(QUEUE, "gate", ["resume", "collection:c", 0], extra="c")
    queue.pause("c")
    assert until_empty(slot)[0] == []
    assert (stats(app).parked, stats(app).tasks) == (500, 500)


def test_resume_brings_back_tasks_of_handlers_that_are_new_to_us(app: QueueServer, other: QueueServer) -> None:
    queue.pause("c")
    put(other, *(f"{n:03}" for n in range(300)), handler="x", collection="c")
    slot = Holder(other, "s")
    while (answer := slot.take({"x": 9})).pack is None and not answer.wait:
        pass
    assert stats(other).parked == 300
    assert Inspector(app, QUEUE).resume("collection:c") == 300
    assert stats(app).parked == 0


def test_put_into_a_paused_queue_or_handler_rings_nobody(app: QueueServer) -> None:
    queue.pause()
    slept(app)
    put(app, "a")
    assert rung(app) == 0
    queue.resume()
    assert rung(app) == 1  # now it does
    queue.pause(handler="x")
    assert Holder(app, "s").work() == ["a"]
    slept(app, "another")
    put(app, "b", handler="x")
    assert rung(app) == 0
    put(app, "c")
    assert rung(app) == 1


def test_slots_that_wait_are_not_woken_for_the_time_of_paused_tasks(app: QueueServer) -> None:
    put(app, "a", when="+8000000")
    queue.pause()
    assert Holder(app, "s").take(wait=9.0).wait == pytest.approx(9.0)
    queue.resume()
    assert Holder(app, "t").take(wait=9.0).wait <= 8.0


def test_parked_tasks_ring_nobody_until_they_are_resumed(app: QueueServer) -> None:
    put(app, *"ab", collection="c")
    queue.pause("c")
    assert until_empty(Holder(app, "s"))[0] == []
    slept(app)
    put(app, "later", when="+9000000000")
    assert rung(app) == 0
    queue.resume("c")
    assert rung(app) >= 1


def test_client_that_remembers_the_queue_without_its_gate_acts_rightly(app: QueueServer, other: QueueServer) -> None:
    put(app, *"abcd", collection="c", body=b"\x80")
    other.known(QUEUE)
    queue.pause("c")
    assert until_empty(Holder(other, "s"))[0] == []
    assert stats(app).parked == 4
    stale = QueueServer(app.url, name="stale")
    inspector = Inspector(stale, QUEUE)
    stale._known[QUEUE] = type(other.known(QUEUE))((HANDLER,), ())
    now, [found] = inspector.get(["a"])
    assert found is not None
    assert (found.place, now > found.at) == ("parked", True)
    for change in (lambda: inspector.move("a", "1"), lambda: inspector.bury("b", "x"), lambda: inspector.delete("c")):
        stale._known[QUEUE] = type(other.known(QUEUE))((HANDLER,), ())
        change()
    stale._known[QUEUE] = type(other.known(QUEUE))((), ())
    put(stale, "d", own_ids=True, on_duplicate="rearm", when="2")
    assert (stats(app).parked, stats(app).active, stats(app).buried) == (0, 2, 1)
    stale.close()


def test_slot_of_a_generation_that_does_not_know_a_handler_takes_around_its_parked_tasks(app: QueueServer) -> None:
    put(app, *(f"{n:03}" for n in range(50)), handler="x", collection="c")
    put(app, "mine", collection="c")
    queue.pause("c")
    both = Holder(app, "both")
    while (answer := both.take({HANDLER: 9, "x": 9})).pack is None and not answer.wait:
        pass
    app.inside(QUEUE, "gate", ["resume", "collection:c", 0], extra="c")
    assert Holder(app, "s").work() == ["mine"]
    assert stats(app).active == 50


def test_gate_survives_a_restart_of_everybody(app: QueueServer) -> None:
    queue.pause()
    again = QueueServer(app.url, name="new")
    put(again, "a")
    assert Holder(again, "s").work() == []
    assert [each.state for each in queue.find()] == [TaskState.ENQUEUED]
    again.close()


def test_large_records_at_the_head_are_parked_a_few_at_once_and_come_back_so(app: QueueServer) -> None:
    large = b"\xc6" + (1 << 18).to_bytes(4, "big") + os.urandom(1 << 18)
    for n in range(80):
        put(app, f"{n:03}", collection="c", body=large)
    put(app, "other")
    queue.pause("c")
    slot = Holder(app, "s")
    assert slot.work() == []
    assert 10 < stats(app).parked < 50
    assert until_empty(slot)[0] == ["other"]
    moved, left = app.inside(QUEUE, "gate", ["resume", "collection:c", 0], extra="c")
    assert 10 < moved < 50 and moved + left == 80
    assert queue.resume("c") == left


def test_one_take_brings_back_a_bounded_number_however_many_collections_are_being_resumed(app: QueueServer) -> None:
    slot, names = Holder(app, "s"), [f"c{n}" for n in range(10)]
    for name in names:
        put(app, *(f"{name}-{n:03}" for n in range(SIFTED)), collection=name)
        queue.pause(name)
    assert until_empty(slot)[0] == []
    app.redis.hset(app.keys_of(QUEUE).part("gates"), mapping={f"collection:{name}": "resuming" for name in names})
    slot.keep(slot.take(1))
    assert stats(app).parked == 5 * SIFTED
    assert len(until_empty(slot)[0]) == 10 * SIFTED - 1


def test_parked_handler_is_held_back_with_its_reason_until_somebody_resumes_it(app: QueueServer) -> None:
    put(app, "a")
    put(app, "x", handler="x")
    assert gates.park(app, QUEUE, HANDLER, "nothing fits")
    assert not gates.park(app, QUEUE, HANDLER, "nothing fits here either")
    [(gate, why)] = queue.stats().reasons.items()
    assert (gate, queue.stats().gates) == (f"handler:{HANDLER}", (gate,))
    assert why == f"nothing fits; once the code fits: qslots queue resume {QUEUE} --handler {HANDLER}"
    slot = Holder(app, "s")
    assert slot.work({HANDLER: 9, "x": 9}) == ["x"]
    assert slot.work({HANDLER: 9, "x": 9}) == []
    queue.resume(handler=HANDLER)
    assert (queue.stats().gates, queue.stats().reasons) == ((), {})
    assert slot.work() == ["a"]


def test_gate_that_was_closed_by_hand_is_not_parked_over_and_a_parked_one_can_be_made_so(app: QueueServer) -> None:
    queue.pause(handler=HANDLER)
    assert not gates.park(app, QUEUE, HANDLER, "nothing fits")
    assert queue.stats().reasons == {}
    queue.resume(handler=HANDLER)
    assert gates.park(app, QUEUE, HANDLER, "nothing fits")
    queue.pause(handler=HANDLER)
    assert (queue.stats().gates, queue.stats().reasons) == ((f"handler:{HANDLER}",), {})


@pytest.mark.parametrize("args", [
    ["pause", "queue:", 0, "why"], ["pause", "collection:c", 0, "why"], ["resume", "handler:h", 0, "why"],
])  # fmt: skip
def test_only_a_handler_is_parked(app: QueueServer, args: list[str | int]) -> None:
    with pytest.raises(QueueServerError, match="argument"):
        app.inside(QUEUE, "gate", args, extra="c")
    assert queue.stats().gates == ()
