"""How tasks end: outcomes of a living slot, what a leaving one hands back, what a dead one leaves."""

from dataclasses import dataclass

import pytest
from support.holder import HANDLER, QUEUE, Holder, ids, marks, micros_now, put, resume_long_ago, stats

from qslots.errors import HolderDead
from qslots.outcomes import Outcome
from qslots.packtimes import PackTimes
from qslots.queueserver import QueueServer
from qslots.records import Fate, decode_fate

FAIL = Outcome("fail", "why", limit=3, base=1e6, cap=10e6)
CRASH = Outcome("crash", "killed", limit=2, base=1e6, cap=10e6)


@pytest.fixture
def slot(server: QueueServer) -> Holder:
    return Holder(server, "s")


def score(server: QueueServer, task: str) -> float | None:
    found = server.redis.zscore(server.keys_of(QUEUE).schedule(HANDLER), task)
    return None if found is None else float(found)


def fate(server: QueueServer, task: str) -> Fate | None:
    packed = server.redis.hget(server.keys_of(QUEUE).part("fate"), task)
    return decode_fate(packed) if packed else None


def due_now(server: QueueServer, task: str) -> None:
    server.redis.zadd(server.keys_of(QUEUE).schedule(HANDLER), {task: 1}, xx=True)


@dataclass(frozen=True)
class Delay:
    """µs, known no better than between two readings of a clock: "in" tells whether it may be this one."""

    least: float
    most: float

    def __contains__(self, delay: object) -> bool:
        return isinstance(delay, float) and self.least <= delay <= self.most


def ended(server: QueueServer, slot: Holder, outcome: Outcome) -> Delay:
    """Lets the one due task end so; returns after how many µs it is due again."""
    slot.held = None
    (task,) = slot.work(1)
    before = micros_now(server)
    assert slot.settle({1: outcome})
    after = micros_now(server)
    at = score(server, task)
    due_now(server, task)
    return Delay(at - after, at - before) if at else Delay(0.0, 0.0)


def test_failures_back_off_and_end_in_burial(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    first, second = ended(server, slot, FAIL), ended(server, slot, FAIL)
    assert 1e6 in first and 2e6 in second
    ended(server, slot, FAIL)
    assert score(server, "a") is None
    assert fate(server, "a") == Fate(3, 3, 0, 0, "why")
    assert (stats(server).buried, stats(server).failed, stats(server).locked) == (1, 3, 0)


def test_backoff_ends_at_its_cap_and_bears_the_jitter(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    endless = Outcome("fail", limit=100, base=1e6, cap=10e6, jitter=0.5)
    delays = [ended(server, slot, endless) for _ in range(8)]
    assert all(half in delay for half, delay in zip([0.5e6, 1e6, 2e6, 4e6, 5e6, 5e6, 5e6, 5e6], delays, strict=True))


def test_retry_counts_no_failure_and_backs_off(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    ended(server, slot, Outcome("retry", "later", base=1e6, cap=10e6))
    assert 2e6 in ended(server, slot, Outcome("retry", "later", base=1e6, cap=10e6))
    assert 7e6 in ended(server, slot, Outcome("retry", "later", delay=7e6))
    assert fate(server, "a") == Fate(3, 0, 0, 0, "later")
    assert stats(server).failed == 0


def test_retries_drive_the_delay_and_failures_the_burial(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    for _ in range(3):
        ended(server, slot, Outcome("retry", base=1e6, cap=1e9))
    assert 8e6 in ended(server, slot, Outcome("fail", limit=2, base=1e6, cap=1e9))
    assert fate(server, "a") == Fate(4, 1, 0, 0, "")


def test_crash_backs_off_like_a_failure(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    first, second = (ended(server, slot, Outcome("crash", "killed", limit=9, base=1e6, cap=1.5e6)) for _ in range(2))
    assert 1e6 in first and 1.5e6 in second


def test_crashes_are_counted_apart_and_bury_at_their_own_limit(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    ended(server, slot, FAIL)
    assert 2e6 in ended(server, slot, CRASH)
    assert fate(server, "a") == Fate(2, 1, 1, 1, "killed")
    ended(server, slot, CRASH)
    assert (stats(server).buried, stats(server).crashed) == (1, 2)


def test_success_clears_the_fate(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    assert slot.work() == ["a", "b"]
    slot.settle({1: FAIL, 2: FAIL})
    slot.held = None
    due_now(server, "a")
    assert slot.work() == ["a"]
    slot.take(0)
    assert (fate(server, "a"), stats(server).done) == (None, 1)
    assert fate(server, "b") is not None


@pytest.mark.parametrize(("outcome", "after"), [
    (Outcome("postpone", at=4e15), None), (Outcome("postpone", delay=5e6), 5e6),
    (Outcome("postpone", base=5e6, jitter=1.1), 5.5e6), (Outcome("postpone", delay=0.0), 0),
])  # fmt: skip
def test_postponed_task_counts_nothing(
    server: QueueServer, slot: Holder, outcome: Outcome, after: float | None
) -> None:
    put(server, "a")
    assert slot.work() == ["a"]
    before = micros_now(server)
    slot.settle({1: outcome})
    at = score(server, "a") or 0.0
    assert at == 4e15 if after is None else 0 <= at - before - after < 5e5
    assert fate(server, "a") is None


def test_buried_task_keeps_its_record_and_its_reason(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    slot.settle({1: Outcome("bury", "hopeless")})
    assert fate(server, "a") == Fate(error="hopeless")
    assert server.redis.hexists(server.keys_of(QUEUE).part("tasks"), "a")
    assert (stats(server).buried, stats(server).locked) == (1, 0)


def test_repeated_settlement_charges_once(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work()
    assert slot.settle({1: FAIL})
    assert slot.settle({1: FAIL})
    assert fate(server, "a") == Fate(1, 1, 0, 0, "why")
    assert (stats(server).locked, stats(server).failed) == (1, 1)


def test_settled_task_is_not_settled_again_by_the_exchange(server: QueueServer, slot: Holder) -> None:
    """Case 1: the retry of one task in a pack outlives the rest of it."""
    put(server, "a", "b", "c")
    slot.work()
    slot.settle({2: Outcome("retry", delay=0.0)})
    assert slot.work() == ["b"]
    assert (stats(server).done, stats(server).locked) == (2, 1)


def test_settlement_of_a_lock_that_is_gone_says_so_and_changes_nothing(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    slot.release()
    assert not slot.settle({1: FAIL})
    assert (fate(server, "a"), stats(server).active) == (None, 1)


def test_pack_all_settled_singly_is_still_the_slots_own(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    slot.settle({1: FAIL})
    assert server.extend(QUEUE, 60.0, ["s:1"]) == []
    assert slot.take().gone is False
    assert stats(server).done == 0


def test_tail_of_a_pack_goes_back_to_its_place_while_its_head_goes_on(server: QueueServer, slot: Holder) -> None:
    # case 18
    for name in "abcde":
        put(server, name)
    slot.work(5)
    tail = {4: Outcome("back"), 5: Outcome("back")}
    for _ in range(2):  # repeated, it changes nothing
        assert slot.settle(tail, marks=marks([1, 2]), busy=1.5)
        assert (stats(server).done, stats(server).returned, stats(server).locked, stats(server).active) == (2, 2, 1, 2)
        assert stats(server).busy == 1.5
    other = Holder(server, "other")
    assert [*other.work(5), *other.work(5)] == ["d", "e"], "in their old order"
    assert [fate(server, task) for task in "de"] == [None, None]
    assert slot.release([1, 2, 3]), "the slot comes back, ends its pack and finds it its own"
    other.take()
    after = stats(server)
    assert (after.done, after.returned, after.taken, after.locked, after.lost) == (5, 2, 7, 0, 0)


def test_dead_slot_whose_tail_went_back_is_charged_for_what_ran_only(server: QueueServer, slot: Holder) -> None:
    put(server, *"abcde")
    slot.work(5)
    slot.settle({4: Outcome("back"), 5: Outcome("back")}, marks=marks([1, 2]))
    other = Holder(server, "other")
    assert other.work(1) == ["d"]
    assert slot.die({3: CRASH}, done=[1, 2])
    after = stats(server)
    assert (after.done, after.crashed, after.returned, after.locked, after.active) == (2, 1, 2, 1, 1)
    assert fate(server, "c") == Fate(1, 0, 1, 1, "killed")


def test_release_hands_back_in_the_old_order_without_a_charge(server: QueueServer, slot: Holder) -> None:
    put(server, *"abcdef")
    assert slot.work() == list("abcdef")
    assert slot.release([1, 3], busy=0.5)
    assert (stats(server).done, stats(server).active, stats(server).busy) == (2, 4, 0.5)
    assert not slot.release([1, 3], busy=0.5)
    assert (stats(server).done, stats(server).busy) == (2, 0.5)
    assert fate(server, "b") is None
    assert Holder(server, "t").work() == list("bdef")


def test_slot_that_released_may_go_on_and_one_that_left_may_not(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    slot.release()
    slot.held = None
    assert slot.work() == ["a"]
    slot.release(leave=True)
    with pytest.raises(HolderDead):
        slot.take()
    assert stats(server).active == 1


def test_dead_slot_is_settled_exactly_by_its_marks(server: QueueServer, slot: Holder) -> None:
    put(server, *"abcdefgh")
    slot.work()
    slot.settle({3: Outcome("retry", delay=9e9)})
    assert slot.die({5: CRASH}, done=[1, 2, 3, 4])
    assert (stats(server).done, stats(server).crashed) == (3, 1)
    assert (stats(server).active, stats(server).inactive, stats(server).locked) == (3, 2, 0)
    assert fate(server, "e") == Fate(1, 0, 1, 1, "killed")
    assert fate(server, "f") is None
    assert Holder(server, "t").work() == list("fgh")


def test_settlement_of_a_dead_slot_repeated_changes_nothing(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work()
    assert slot.die({1: CRASH})
    other = Holder(server, "t")
    assert other.work() == ["b"]
    assert not slot.die({1: CRASH})
    assert (stats(server).crashed, stats(server).locked) == (1, 1)


def test_time_of_a_dead_slot_is_booked_once_beside_what_was_booked_before(server: QueueServer, slot: Holder) -> None:
    put(server, *"abcd")
    slot.work()
    slot.settle({}, marks=marks([1]), busy=1.5)
    for _ in range(2):
        slot.die({3: CRASH}, done=[1, 2], busy=20.0)
        after = stats(server)
        assert (after.done, after.crashed, after.returned, after.busy) == (2, 1, 1, 21.5)
    runs, longest = after.packing.quantile(1.0, PackTimes())
    assert runs == 2 and longest and longest > 20, "so long a slot was away"
    assert after.packing.n == 0, "it says nothing of what a pack costs"


def test_time_of_a_dead_slot_is_booked_though_the_end_of_its_tasks_was_told(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    slot.settle({1: FAIL})
    assert slot.die(busy=2.0)
    assert (stats(server).failed, stats(server).busy) == (1, 2.0)


def test_of_a_server_that_is_lost_no_time_is_booked_and_no_crash_counted(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work()
    resume_long_ago(server)
    server.redis.zadd(server.keys_of(QUEUE).part("locks"), {"s:1": 1})
    assert server.reclaim(QUEUE, 60.0) == 2
    assert not slot.die({1: CRASH}, busy=20.0), "its master is back, too late"
    assert (stats(server).lost, stats(server).crashed, stats(server).busy) == (2, 0, 0.0)


def test_pack_that_was_asked_for_and_never_seen_goes_back(server: QueueServer, slot: Holder) -> None:
    put(server, *"abcd")
    assert slot.work(2) == ["a", "b"]
    assert ids(slot.take(2)) == ["c", "d"]  # the slot died before it read this
    slot.die(done=[1, 2])
    assert (stats(server).done, stats(server).active, stats(server).locked) == (2, 2, 0)
    assert fate(server, "c") is None


def test_first_pack_never_seen_goes_back(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.take()
    assert not slot.die()
    assert stats(server).active == 1


def test_pack_of_a_list_handler_is_lost_without_a_charge(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work()
    slot.die(rest="loss", why="killed by SIGKILL")
    assert fate(server, "a") == fate(server, "b") == Fate(0, 0, 0, 1, "killed by SIGKILL")
    assert stats(server).active == 2


def test_raised_pack_comes_back_after_its_delay(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    assert 3e6 in ended(server, slot, Outcome("loss", "raised", delay=3e6))
    assert fate(server, "a") == Fate(0, 0, 0, 1, "raised")


def test_tasks_of_several_handlers_go_back_each_to_its_own_schedule(server: QueueServer, slot: Holder) -> None:
    put(server, "x", handler="x")
    put(server, "y", handler="y", when="1")
    assert slot.keep(slot.take({"x": 1, "y": 1})) == ["y"]
    assert ids(slot.take({"x": 1, "y": 1})) == ["x"]
    slot.die(done=[])
    assert server.redis.zrange(server.keys_of(QUEUE).schedule("x"), 0, -1) == [b"x"]
    assert stats(server).done == 1  # y: its exchange had settled it before


def test_settlement_finds_a_handler_that_its_client_had_not_seen(server: QueueServer, slot: Holder) -> None:
    assert server.known(QUEUE).handlers == ()
    put(QueueServer(server.url, name="other"), "a")
    assert slot.work() == ["a"]
    assert slot.settle({1: FAIL})
    assert fate(server, "a") is not None


def test_holders_that_died_long_ago_are_forgotten(server: QueueServer) -> None:
    holders = server.keys_of(QUEUE).part("holders")
    server.redis.hset(holders, mapping={f"old-{n}": "dead:1" for n in range(20)})
    for _ in range(80):  # each death looks at four of them by chance
        Holder(server, "s").die()
    assert server.redis.hkeys(holders) == [b"s"]


def test_holders_of_lost_servers_are_forgotten_where_no_slot_comes_by(server: QueueServer) -> None:
    holders = server.keys_of(QUEUE).part("holders")
    server.redis.hset(holders, mapping={f"lost-{n}": "7:1" for n in range(90)})
    server.reclaim(QUEUE, 60.0)  # as the manager does in turn for each queue
    assert server.redis.hlen(holders) == 0


def test_holders_that_asked_for_the_last_time_long_ago_are_forgotten_unless_they_hold_something(
    server: QueueServer,
) -> None:
    """A slot that was moved to other queues dies there."""
    holders = server.keys_of(QUEUE).part("holders")
    put(server, "a")
    assert Holder(server, "works").work() == ["a"]
    server.redis.hset(holders, mapping={"works": "1:1"} | {f"moved-{n}": "7:1" for n in range(20)})
    for n in range(80):  # each that is new looks at four of them by chance
        Holder(server, f"new-{n}").take()
    known = {name.decode() for name in server.redis.hkeys(holders)}
    assert known == {"works"} | {f"new-{n}" for n in range(80)}
