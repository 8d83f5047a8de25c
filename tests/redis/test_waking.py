"""Who is woken, by what: as many tokens as tasks and waiters, one waiter for the next due time, nobody for nothing."""

import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, resume_long_ago

from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer


@pytest.fixture
def slot(server: QueueServer) -> Holder:
    return Holder(server, "s")


def idle(server: QueueServer, count: int, wait: float = 3.0) -> list[Holder]:
    """Slots that have found nothing and wait."""
    holders = [Holder(server, f"idle-{n}") for n in range(count)]
    assert [holder.take(wait=wait).pack for holder in holders] == [None] * count
    return holders


def tokens(server: QueueServer) -> int:
    return int(server.redis.llen(server.keys_of(QUEUE).wake))


def waiters(server: QueueServer) -> dict[bytes, float]:
    return dict(server.redis.zrange(server.keys_of(QUEUE).part("waiters"), 0, -1, withscores=True))


@pytest.mark.parametrize(("tasks", "waiting", "rung"), [(1, 3, 1), (3, 3, 3), (9, 3, 3), (5, 0, 0)])
def test_put_rings_for_as_many_waiters_as_there_are_tasks(
    server: QueueServer, tasks: int, waiting: int, rung: int
) -> None:
    idle(server, waiting)
    put(server, *(f"{n}" for n in range(tasks)))
    assert tokens(server) == rung
    put(server, "one-more")
    assert tokens(server) <= waiting


def test_token_swallowed_by_a_dead_slot_is_made_good_by_the_next_call(server: QueueServer, slot: Holder) -> None:
    idle(server, 2)
    put(server, "a", "b", "c")
    server.redis.lpop(server.keys_of(QUEUE).wake, 2)
    slot.work(1)
    assert tokens(server) == 2


def test_dead_waiters_get_no_tokens_for_ever(server: QueueServer, slot: Holder) -> None:  # case 14
    past = micros_now(server) - 60_000_000
    server.redis.zadd(server.keys_of(QUEUE).part("waiters"), {f"dead-{n}": past + n for n in range(50)})
    put(server, "a", "b")
    assert tokens(server) == 0
    slot.work()
    slot.take()
    assert set(waiters(server)) == {b"s"}


def test_slot_that_takes_waits_no_more(server: QueueServer) -> None:
    (one,) = idle(server, 1)
    put(server, "a")
    assert one.work() == ["a"]
    assert waiters(server) == {}


def test_release_failure_and_death_ring_for_what_they_give_back(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b", "c")
    assert slot.work() == ["a", "b", "c"]
    idle(server, 3)
    slot.settle({1: Outcome("retry", delay=0.0)})
    assert tokens(server) == 1
    slot.release([2])
    assert tokens(server) == 2


def test_death_rings_and_takes_the_dead_off_the_waiters(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work()
    others = idle(server, 2)
    others[0].die()
    assert set(waiters(server)) == {b"idle-1"}
    slot.die()
    assert tokens(server) == 1


def test_slot_that_leaves_waits_no_more(server: QueueServer) -> None:
    for holder, leave in zip(idle(server, 2), (True, False), strict=True):
        holder.release(leave=leave)
    assert waiters(server) == {}
    put(server, "a")
    assert tokens(server) == 0


def test_expiry_rings_for_the_rest(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b", "c")
    slot.work()
    idle(server, 2)
    resume_long_ago(server)
    server.redis.zadd(server.keys_of(QUEUE).part("locks"), {"s:1": 1})
    assert Holder(server, "t").work(1) == ["a"]
    assert tokens(server) == 2


def test_one_waiter_wakes_for_the_next_due_time_and_the_others_sleep_on(server: QueueServer) -> None:
    put(server, "a", when="+2500000")
    waits = [Holder(server, f"s{n}").take().wait for n in range(4)]
    assert 0.5 < waits[0] <= 2.5
    assert waits[1:] == [3.0, 3.0, 3.0]


def test_waiter_with_nothing_due_sleeps_as_long_as_it_asked(server: QueueServer, slot: Holder) -> None:
    assert slot.take(wait=2.5).wait == 2.5
    put(server, "a", when="+60000000")
    assert slot.take(wait=2.5).wait == 2.5


@pytest.mark.parametrize("before", [0.1, 0.3, 0.5, 2.0])
def test_delayed_put_rings_for_one_waiter_where_nobody_would_wake_in_time(server: QueueServer, before: float) -> None:
    holders = idle(server, 3, wait=3.45)
    due = min(waiters(server).values()) - before * 1e6  # before the first of them looks again
    put(server, "a", when=f"{due:.0f}")
    assert tokens(server) == 1
    server.redis.delete(server.keys_of(QUEUE).wake)
    latest = due - micros_now(server)
    wait = holders[0].take(wait=3.45).wait
    assert due - micros_now(server) <= 1e6 * wait <= latest  # it looks, and sleeps until then
    put(server, "b", when=f"{due + 50_000:.0f}")
    assert tokens(server) == 0  # somebody does wake in time


def test_delayed_put_beyond_all_sleep_rings_for_nobody(server: QueueServer) -> None:
    idle(server, 3)
    put(server, "a", when="+60000000")
    assert tokens(server) == 0


def test_waiter_for_the_due_time_that_is_gone_is_replaced(server: QueueServer) -> None:
    put(server, "a", when="+2500000")
    first, second = Holder(server, "s0"), Holder(server, "s1")
    first.take()
    assert second.take().wait == 3.0
    first.die()
    assert tokens(server) == 1
    assert second.take().wait <= 2.5


def test_waiter_that_takes_something_else_leaves_the_due_time_to_another(server: QueueServer) -> None:
    put(server, "later", when="+2500000")
    first, second = Holder(server, "s0"), Holder(server, "s1")
    first.take()
    second.take()
    put(server, "now")
    assert tokens(server) == 1
    server.redis.delete(server.keys_of(QUEUE).wake)
    assert first.work() == ["now"]
    assert tokens(server) == 1  # for the second one: the first has work now
    assert second.take().wait <= 2.5


def test_task_that_fails_rings_in_time_for_its_new_time(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    idle(server, 2)
    slot.settle({1: Outcome("fail", limit=9, base=4e5, cap=1e9)})
    assert tokens(server) == 1


def asleep(server: QueueServer, *names: str) -> dict[str, float]:
    """How long each of these slots, one after the other, is told to sleep at most."""
    return {name: Holder(server, name).take().wait for name in names}


def test_one_slot_of_each_server_looks_soon_and_the_others_sleep_the_longer_the_more_wait(server: QueueServer) -> None:
    names = [f"web-7/{n}/x.{n}" for n in range(14)]
    assert list(asleep(server, *names).values()) == [3.0, *(3.0 * n for n in range(1, 10)), *[30.0] * 4]
    assert asleep(server, "web-8/0/y.1", "web-8/1/y.2") == {"web-8/0/y.1": 3.0, "web-8/1/y.2": 30.0}


def test_one_that_looked_soon_and_has_gone_is_replaced_at_once(server: QueueServer) -> None:
    slots = [Holder(server, f"web-7/{n}/x.{n}") for n in range(5)]
    assert [slot.take().wait for slot in slots] == [3.0, 3.0, 6.0, 9.0, 12.0]
    slots[0].release()
    assert tokens(server) == 0
    slots[1].die()
    assert tokens(server) == 1
    server.redis.delete(server.keys_of(QUEUE).wake)
    assert slots[4].take().wait == 3.0
    slots[3].release()
    assert tokens(server) == 0


def test_sleepers_wake_for_the_next_due_task_like_any_other(server: QueueServer) -> None:
    slots = [Holder(server, f"web-7/{n}/x.{n}") for n in range(5)]
    assert [slot.take().wait for slot in slots] == [3.0, 3.0, 6.0, 9.0, 12.0]
    put(server, "a", when="+20000000")
    assert tokens(server) == 0
    slots[0].release()
    slots[1].release()
    put(server, "b", when="+3700000")
    server.redis.delete(server.keys_of(QUEUE).wake)
    assert slots[4].take().wait == 3.0
    put(server, "c", when="+2000000")
    assert tokens(server) == 1
    assert slots[3].take().wait <= 2.0
    put(server, "d")
    assert slots[2].work() == ["d"]


def test_queue_that_is_empty_rings_for_nobody(server: QueueServer, slot: Holder) -> None:
    idle(server, 3)
    slot.take()
    slot.release()
    assert tokens(server) == 0
    assert not server.redis.exists(server.keys_of(QUEUE).schedule(HANDLER))
