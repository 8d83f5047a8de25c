"""What a slot of several queues asks and says between two packs: what is due elsewhere, where it waits no more."""

from support.holder import HANDLER, QUEUE, Holder, put

from qslots import gates
from qslots.inspector import Inspector
from qslots.queueserver import QueueServer


def wake_tokens(server: QueueServer) -> int:
    return int(server.redis.llen(server.keys_of(QUEUE).wake))


def test_due_names_the_queues_with_a_task_whose_time_has_come(server: QueueServer) -> None:
    put(server, "now", queue="a")
    put(server, "later", queue="b", when="+60000000")
    put(server, "other", queue="c", handler="unknown-here")
    asked = {queue: [HANDLER] for queue in ("a", "b", "c", "d")}
    assert server.due(asked) == {"a"}
    assert server.due({"c": [HANDLER, "unknown-here"]}) == {"c"}


def test_what_may_not_be_taken_is_not_due(server: QueueServer) -> None:
    for queue in ("paused", "parked", "limited"):
        put(server, "a", "b", queue=queue)
    Inspector(server, "paused").pause("queue:")
    gates.park(server, "parked", HANDLER, "nothing fits")
    limited = Holder(server, "s", queue="limited")
    assert limited.keep(limited.take(1, rate=0.01)) == ["a"]
    asked = {queue: [HANDLER] for queue in ("paused", "parked", "limited")}
    assert server.due(asked) == set()
    Inspector(server, "paused").resume("queue:")
    assert server.due(asked) == {"paused"}


def test_who_waits_no_more_hands_the_watch_for_the_next_due_task_to_another(server: QueueServer) -> None:
    put(server, "later", when="+2000000")
    first, second = Holder(server, "first"), Holder(server, "second")
    assert first.take().wait <= 2.0  # it wakes for the task
    assert second.take(wait=3.0).wait > 2.0  # so the other one sleeps on
    server.unwait(first.name, {QUEUE: [HANDLER]})
    assert wake_tokens(server) == 1


def test_a_token_that_a_busy_slot_has_swallowed_goes_to_another(server: QueueServer) -> None:
    first, second = Holder(server, "first"), Holder(server, "second")
    first.take()
    second.take()
    put(server, "a")
    server.redis.lpop(server.keys_of(QUEUE).wake)
    server.unwait(first.name, {QUEUE: [HANDLER]})
    assert wake_tokens(server) == 1


def test_nobody_is_rung_when_there_is_nothing(server: QueueServer) -> None:
    first, second = Holder(server, "first"), Holder(server, "second")
    first.take()
    second.take()
    server.unwait(first.name, {QUEUE: [HANDLER]})
    server.unwait(first.name, {QUEUE: [HANDLER]})
    assert wake_tokens(server) == 0
