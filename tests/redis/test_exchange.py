"""What `exchange` promises: settle the last pack, take the next, in one step that may be repeated."""

import os

import pytest
from support.holder import QUEUE, Holder, ids, micros_now, put, stats

from qslots.errors import HolderDead, QueueServerError
from qslots.outcomes import Outcome
from qslots.packtimes import PackTimes
from qslots.queueserver import PACK_BYTES, QueueServer


@pytest.fixture
def slot(server: QueueServer) -> Holder:
    return Holder(server, "s")


def lost(server: QueueServer, id_: str, times: int) -> None:
    """Puts a task that was lost so many times already, due before all others."""
    put(server, id_, when="1")
    for n in range(times):
        victim = Holder(server, f"victim-{id_}-{n}")
        assert victim.work(1) == [id_]
        victim.die(rest="loss")


def test_same_request_gets_the_same_pack_again(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b", "c")
    first = slot.take(2, busy=1.0)
    for most in (2, 1):
        again = slot.again(most, busy=1.0)
        assert first.pack is not None
        assert again.pack is not None
        assert (again.pack.ids, again.pack.records) == (first.pack.ids, first.pack.records)
        assert again.pack.first_due == first.pack.first_due
    assert ids(first) == ["a", "b"]
    assert (stats(server).active, stats(server).locked) == (1, 2)
    assert (stats(server).taken, stats(server).packs, stats(server).busy) == (2, 1, 1.0)


def test_repeated_request_that_found_nothing_takes_nothing(server: QueueServer, slot: Holder) -> None:
    assert slot.take().pack is None
    put(server, "a")
    assert slot.again().pack is None
    assert slot.work() == ["a"]


def test_request_after_a_later_one_is_refused(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work(1)
    slot.work(1)
    slot.seq = 1
    with pytest.raises(HolderDead):
        slot.again()
    assert stats(server).locked == 1


@pytest.mark.parametrize("dues", [["5", "5", "5", "5"], ["2", "3", "5", "7"], ["5", "5", "5", "7"]])
def test_a_pack_handed_back_is_due_when_it_was(server: QueueServer, slot: Holder, dues: list[str]) -> None:
    for name, due in zip("abcd", dues, strict=True):
        put(server, name, when=due)
    before = server.redis.zrange(server.keys_of(QUEUE).schedule("h"), 0, -1, withscores=True)
    assert slot.work() == ["a", "b", "c", "d"]
    slot.release([1])
    after = server.redis.zrange(server.keys_of(QUEUE).schedule("h"), 0, -1, withscores=True)
    assert after == before[1:]


def test_next_request_settles_the_pack_before(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b", "c")
    assert slot.work(2) == ["a", "b"]
    assert slot.work(2) == ["c"]
    answer = slot.take()
    assert (answer.pack, answer.gone) == (None, False)
    now = stats(server)
    assert (now.put, now.taken, now.done, now.packs, now.empty, now.active, now.locked) == (3, 3, 3, 2, 1, 0, 0)
    assert not server.redis.exists(*map(server.keys_of(QUEUE).part, ("tasks", "packs", "locks")))


def test_repeated_settlement_counts_once(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    slot.take(busy=2.0)
    slot.again(busy=2.0)
    assert (stats(server).done, stats(server).busy) == (1, 2.0)


def test_pack_that_was_taken_away_is_reported_gone(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    server.redis.delete(server.keys_of(QUEUE).part("packs"), server.keys_of(QUEUE).part("locks"))
    assert slot.take().gone


def test_settling_only_takes_nothing_and_does_not_wait(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work(1)
    answer = slot.take(0)
    assert (answer.pack, answer.wait, answer.gone) == (None, 0.0, False)
    assert (stats(server).done, stats(server).active) == (1, 1)
    assert server.redis.zcard(server.keys_of(QUEUE).part("waiters")) == 0


def test_dead_holder_is_refused_and_gets_nothing(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.take(0)
    slot.die()
    for _ in range(2):
        with pytest.raises(HolderDead):
            slot.take()
    assert stats(server).active == 1


def test_request_that_arrives_after_its_slot_was_settled_is_refused(server: QueueServer, slot: Holder) -> None:
    """Case 2: over a network it can run even after the master has settled."""
    put(server, "a")
    slot.seq = 1  # asked, not yet arrived
    slot.die()
    with pytest.raises(HolderDead):
        slot.again()
    assert stats(server).active == 1


def test_pack_is_shared_among_those_who_wait(server: QueueServer, slot: Holder) -> None:
    for n in range(3):
        Holder(server, f"idle-{n}").take()
    put(server, *(f"{n:02}" for n in range(20)))
    assert len(slot.work(100)) == 5


def test_slots_at_work_count_among_the_sharers(server: QueueServer, slot: Holder) -> None:
    put(server, *(f"{n:02}" for n in range(21)))
    assert len(Holder(server, "busy").work(1)) == 1
    assert len(slot.work(100)) == 10


def test_wanted_size_bounds_the_pack(server: QueueServer, slot: Holder) -> None:
    put(server, *(f"{n:02}" for n in range(20)))
    assert len(slot.work(7)) == 7


def test_pack_of_a_thousand_comes_whole_and_in_order(server: QueueServer, slot: Holder) -> None:
    names = [f"{n:05}" for n in range(1500)]
    put(server, *names)
    assert slot.work(1000) == names[:1000]
    assert slot.work(1000) == names[1000:]
    slot.take(0)
    assert stats(server).done == 1500


def test_pack_ends_before_it_exceeds_its_bytes(server: QueueServer, slot: Holder) -> None:
    body = b"\xc6" + (PACK_BYTES // 3).to_bytes(4, "big") + os.urandom(PACK_BYTES // 3)
    put(server, *"01234", body=body)
    assert slot.work() == ["0", "1"]
    assert slot.work() == ["2", "3"]


def test_single_task_beyond_the_bytes_comes_alone(server: QueueServer, slot: Holder) -> None:
    big = b"\xc6" + (PACK_BYTES + 9).to_bytes(4, "big") + os.urandom(PACK_BYTES + 9)
    put(server, "a", body=big)
    put(server, "b")
    assert slot.work() == ["a"]
    assert slot.work() == ["b"]


@pytest.mark.parametrize(("times", "size"), [(0, 64), (1, 8), (2, 1), (3, 1)])
def test_pack_narrows_to_an_eighth_with_each_loss(server: QueueServer, slot: Holder, times: int, size: int) -> None:
    lost(server, "x", times)
    put(server, *(f"{n:03}" for n in range(100)))
    pack = slot.work(64)
    assert (pack[0], len(pack)) == ("x", size)


def test_pack_ends_before_a_lost_task_that_would_make_it_too_wide(server: QueueServer, slot: Holder) -> None:
    lost(server, "x", 1)
    put(server, *(f"{n:03}" for n in range(10)), when="0")
    put(server, *(f"z{n:03}" for n in range(50)))
    assert slot.work(64) == [f"{n:03}" for n in range(10)]
    assert slot.work(64) == ["x", *(f"z{n:03}" for n in range(7))]


def test_lost_task_keeps_its_turn(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b", "c")
    assert slot.work(1) == ["a"]
    slot.die(rest="loss")
    assert Holder(server, "next").work(1) == ["a"]


def test_handler_due_longest_comes_first_and_a_pack_is_of_one_handler(server: QueueServer, slot: Holder) -> None:
    now = micros_now(server)
    put(server, "x1", handler="x", when=str(now - 10))
    put(server, "y1", handler="y", when=str(now - 30))
    put(server, "x2", handler="x", when=str(now - 20))
    both = {"x": 10, "y": 10}
    answers = [slot.keep(slot.take(both)) for _ in range(3)]
    assert answers == [["y1"], ["x2", "x1"], []]


def test_each_handler_has_its_own_size(server: QueueServer, slot: Holder) -> None:
    for name in ("x", "y"):
        put(server, *(f"{name}{n}" for n in range(9)), handler=name)
    sizes = {}
    for _ in range(2):
        answer = slot.take({"x": 2, "y": 5})
        assert answer.pack is not None
        sizes[answer.pack.handler] = len(slot.keep(answer))
        slot.release([1, 2, 3, 4, 5])
        slot.held = None
        server.redis.delete(server.keys_of(QUEUE).schedule(answer.pack.handler))
    assert sizes == {"x": 2, "y": 5}


def test_tasks_of_a_handler_that_the_slot_does_not_know_stay(server: QueueServer, slot: Holder) -> None:
    put(server, "new", handler="new")
    put(server, "old")
    assert slot.work() == ["old"]
    assert slot.work() == []
    assert stats(server).active == 1


def test_pack_of_an_unnamed_handler_is_refused_before_anything_is_written(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    with pytest.raises(QueueServerError, match="UNNAMED"):
        slot.take({"other": 1})
    assert (stats(server).locked, stats(server).done) == (1, 0)
    assert slot.again() is not None


def test_ids_without_a_record_are_passed_over(server: QueueServer, slot: Holder) -> None:
    put(server, *(f"{n}" for n in range(9)))
    server.redis.hdel(server.keys_of(QUEUE).part("tasks"), "0", "1", "5")
    assert slot.work(4) == ["2", "3"]
    assert slot.work(4) == ["4", "6", "7"]


def test_slot_asks_again_at_once_when_only_ids_without_a_record_stood_at_the_head(
    server: QueueServer, slot: Holder
) -> None:
    put(server, "0", "1", "2")
    server.redis.hdel(server.keys_of(QUEUE).part("tasks"), "0", "1")
    answer = slot.take(2)
    assert (answer.pack, answer.wait) == (None, 0.0)
    assert slot.work(2) == ["2"]


def test_future_tasks_are_not_taken(server: QueueServer, slot: Holder) -> None:
    put(server, "a", when="+60000000")
    assert slot.work() == []


def test_pack_tells_its_expiry_and_the_first_activation_time(server: QueueServer, slot: Holder) -> None:
    put(server, "a", when="1500000")
    slot.ttl = 30.0
    before = micros_now(server) / 1e6
    pack = slot.take().pack
    assert pack is not None
    assert pack.first_due == 1.5
    assert before + 30 <= pack.expiry <= micros_now(server) / 1e6 + 30


def test_fate_of_each_task_comes_with_the_pack(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    slot.work()
    slot.settle({1: Outcome("retry", "later", delay=0.0)})
    slot.take(0)
    slot.held = None
    put(server, "c")
    pack = slot.take().pack
    assert pack is not None
    assert [(fate.retries, fate.failures, fate.error) if fate else None for fate in pack.fates] == [
        (1, 0, "later"),
        None,
    ]


def test_records_far_beyond_the_bytes_of_a_pack_are_not_read(server: QueueServer, slot: Holder) -> None:
    slot.take(1)
    large = b"\xc6" + (1 << 18).to_bytes(4, "big") + os.urandom(1 << 18)
    for n in range(200):
        put(server, f"{n:03}", body=large)
    server.redis.config_resetstat()
    before = server.redis.info("memory")["used_memory"]
    assert len(slot.keep(slot.take(1000))) == PACK_BYTES // len(large)
    assert server.redis.info("memory")["used_memory_peak"] - before < 30 << 20  # of 52 MB


def test_packs_are_counted_by_size_and_time(server: QueueServer, slot: Holder) -> None:
    put(server, *"abcdefg")
    slot.work(4)
    slot.keep(slot.take(2, busy=0.5))
    slot.keep(slot.take(1, busy=0.25))
    slot.keep(slot.take(1, busy=0.125))
    packing = stats(server).packing
    assert (packing.n, packing.k, packing.kk) == (2, 6, 20)  # what a handler takes one at a time is not counted
    assert (packing.t, packing.kt, packing.tt) == (0.75, 2.5, 0.3125)
    assert packing.quantile(0.95, PackTimes()) == (3, pytest.approx(0.5, rel=0.2))


def test_of_packs_of_one_task_every_fourth_request_counts_one(server: QueueServer, slot: Holder) -> None:
    for number in range(13):
        put(server, f"{number}")
        slot.keep(slot.take(100, busy=0.25 if slot.held else 0.0))
    assert (stats(server).packing.n, stats(server).packing.k) == (3, 3)


def test_a_pack_of_which_some_was_settled_before_is_counted_only_as_time(server: QueueServer, slot: Holder) -> None:
    put(server, *"abc")
    slot.work(2)
    slot.settle({1: Outcome("retry", delay=0)})
    slot.keep(slot.take(2, busy=0.5))
    packing = stats(server).packing
    assert packing.n == 0
    assert packing.quantile(0.95, PackTimes())[0] == 1


def test_a_request_that_is_repeated_counts_its_pack_once(server: QueueServer, slot: Holder) -> None:
    put(server, *"abcd")
    slot.work(2)
    slot.take(2, busy=0.5)
    slot.again(2, busy=0.5)
    assert (stats(server).packing.n, stats(server).packing.t) == (1, 0.5)
