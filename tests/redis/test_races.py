"""Orders of events in which tasks were once lost, brought back wrongly or overlooked; the model found most of them."""

import pytest
from support.holder import HANDLER, QUEUE, Holder, put, stats
from support.waiting import wait_for

from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer
from qslots.records import body


@pytest.fixture
def inspector(server: QueueServer) -> Inspector:
    return Inspector(server, QUEUE)


def bodies(slot: Holder) -> list[bytes]:
    """The arguments of what it takes next."""
    pack = slot.take().pack
    return [body(record) for record in pack.records] if pack else []


@pytest.mark.parametrize("how", ["rearm", "replace"])
def test_task_put_anew_after_its_deletion_runs_with_its_new_arguments(
    server: QueueServer, inspector: Inspector, how: str
) -> None:
    """The deleted one is still in a slot: it must not come back in the place of the new one."""
    put(server, "a", body=b"old")
    slot = Holder(server, "s")
    slot.work()
    inspector.delete("a")
    assert put(server, "a", body=b"new", on_duplicate=how, own_ids=True) == 1
    assert bodies(slot) == [b"new"]
    assert (stats(server).done, stats(server).deleted) == (1, 0)


def test_drop_spares_what_replaced_a_locked_task_after_it_began(server: QueueServer) -> None:
    put(server, "a", body=b"old")
    slot = Holder(server, "s")
    slot.work()
    instant = server.inside(QUEUE, "drop", ["another", "", "", 10])[0]
    put(server, "a", body=b"new", on_duplicate="replace", own_ids=True)
    server.inside(QUEUE, "drop", ["", instant, "", 10])
    assert bodies(slot) == [b"new"]


def test_drop_takes_what_replaced_a_locked_task_before_it_began(server: QueueServer, inspector: Inspector) -> None:
    put(server, "a", body=b"old")
    slot = Holder(server, "s")
    slot.work()
    put(server, "a", body=b"new", on_duplicate="replace", own_ids=True)
    assert [gone for _, gone in inspector.drop("")] == [1]
    assert bodies(slot) == []


@pytest.mark.parametrize("kind", ["done", "fail"])
def test_locked_task_that_is_dropped_counts_once_and_as_dropped(
    server: QueueServer, inspector: Inspector, kind: str
) -> None:
    put(server, "a")
    slot = Holder(server, "s")
    slot.work()
    for _ in range(2):  # a drop that is interrupted and begun anew meets it twice
        list(inspector.drop(""))
    slot.settle({1: Outcome(kind, limit=9, delay=0.0)})
    assert (stats(server).dropped, stats(server).deleted, stats(server).tasks) == (1, 0, 0)


def test_who_waits_for_a_result_is_told_when_a_slot_discards_the_task(server: QueueServer) -> None:
    put(server, "a")
    server.redis.hset(server.keys_of(QUEUE).part("gates"), "drop:", "9" * 16)  # a drop whose caller died
    with server.redis.pubsub(ignore_subscribe_messages=True) as ears:
        ears.subscribe(server.keys_of(QUEUE).result("a"))
        ears.get_message(timeout=1.0)
        assert Holder(server, "s").work() == []
        wait_for(lambda: ears.get_message(timeout=0.1), "the end of the task to be published")


def test_resume_by_a_client_that_saw_the_queue_long_ago_brings_back_and_rings(server: QueueServer) -> None:
    """Its handler came after the client's last look."""
    operator = QueueServer(server.url, name="operator")
    assert operator.handlers(QUEUE) == []
    put(server, "a", collection="c")
    Inspector(server, QUEUE).pause("collection:c")
    idle = Holder(server, "idle")
    idle.take()
    assert [idle.take().pack, stats(server).parked] == [None, 1]
    assert Inspector(operator, QUEUE).resume("collection:c") == 1
    assert (stats(server).parked, stats(server).gates) == (0, ())
    assert server.redis.llen(server.keys_of(QUEUE).wake) == 1
    operator.close()


def test_what_waits_is_listed_also_of_handlers_that_came_later(server: QueueServer) -> None:
    operator = QueueServer(server.url, name="operator")
    assert list(Inspector(operator, QUEUE).scheduled()) == []
    put(server, "a", handler=HANDLER)
    assert list(Inspector(operator, QUEUE).scheduled()) == [["a"]]
    operator.close()
