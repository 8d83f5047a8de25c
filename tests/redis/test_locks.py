"""How locks age: only while the server serves, never for a slot that is vouched for, and nobody is charged a crash."""

import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, resume_long_ago, stats
from support.waiting import wait_for

from qslots import keys
from qslots.control import Control
from qslots.errors import HolderDead
from qslots.queueserver import QueueServer
from qslots.records import Fate, decode_fate
from qslots.reports import Report


@pytest.fixture
def slot(server: QueueServer) -> Holder:
    return Holder(server, "s", ttl=60.0)


def expire(server: QueueServer, *locks: str) -> None:
    """As if the ttl of these locks had passed."""
    server.redis.zadd(server.keys_of(QUEUE).part("locks"), dict.fromkeys(locks, 1), xx=True)


def test_expired_lock_is_reaped_by_whoever_comes_and_its_holder_is_dead(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b")
    assert slot.work() == ["a", "b"]
    resume_long_ago(server)
    expire(server, "s:1")
    other = Holder(server, "t")
    assert other.work() == ["a", "b"]
    fates = [decode_fate(raw) for raw in server.redis.hmget(server.keys_of(QUEUE).part("fate"), "a", "b")]
    assert {fate.losses for fate in fates} == {1}
    assert {fate.crashes + fate.failures + fate.retries for fate in fates} == {0}
    with pytest.raises(HolderDead):
        slot.take()
    assert stats(server).done == 0


def test_lock_expires_after_its_ttl_on_the_servers_clock(server: QueueServer) -> None:
    put(server, "a")
    slot, other = Holder(server, "s", ttl=0.15), Holder(server, "t", ttl=0.15)
    begin = micros_now(server)
    assert slot.work() == ["a"]
    assert wait_for(other.work, "the task of the silent slot", within=3.0) == ["a"]
    assert micros_now(server) - begin >= 150_000


def test_lock_from_before_the_clock_went_back_lives_no_longer_than_any_other(server: QueueServer) -> None:
    put(server, "a")
    slot, other = Holder(server, "s"), Holder(server, "t")
    assert slot.work() == ["a"]
    locks = server.keys_of(QUEUE).part("locks")
    server.redis.zincrby(locks, 3_600_000_000, "s:1")  # as if it had been taken an hour later than now
    server.redis.delete(keys.PULSE)
    assert other.work() == []
    assert server.redis.zscore(locks, "s:1") <= micros_now(server) + 60_000_000


def test_own_expired_lock_is_settled_and_not_reaped(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    resume_long_ago(server)
    expire(server, "s:1")
    assert not slot.take().gone
    assert stats(server).done == 1


@pytest.mark.parametrize("pulse", [
    {"last": -6_000_000, "resumed": -3_600_000_000},  # a gap in the service: a restart, a long load (case 6)
    {"last": +9_000_000, "resumed": -3_600_000_000},  # the clock went back
    {"last": -1_000, "resumed": -59_000_000},  # serves again, but not for a ttl yet
    {},
])  # fmt: skip
def test_nothing_is_reaped_until_the_server_has_served_for_a_ttl(
    server: QueueServer, slot: Holder, pulse: dict[str, int]
) -> None:
    put(server, "a")
    slot.work()
    expire(server, "s:1")
    now = micros_now(server)
    server.redis.delete(keys.PULSE)
    if pulse:
        server.redis.hset(keys.PULSE, mapping={name: now + by for name, by in pulse.items()})
    assert Holder(server, "t").work() == []
    slot.take()
    assert stats(server).done == 1


def test_gap_is_noticed_by_whoever_comes_first(server: QueueServer) -> None:
    gap = {"last": micros_now(server) - 6_000_000, "resumed": 1}
    visits = [
        lambda: server.extend(QUEUE, 60.0, []),
        lambda: Holder(server, "t").take(),
        lambda: Control(server).report(_report(), None),
    ]
    Control(server).take_over("web", "", "i", gone_after=1.0)
    for visit in visits:
        server.redis.hset(keys.PULSE, mapping=gap)
        now = micros_now(server)
        visit()
        assert int(server.redis.hget(keys.PULSE, "resumed") or 0) >= now


def _report() -> Report:
    return Report(
        server="web", incarnation="i", host="h", pid=1, generation=1, declared="", budget=1, max_slots=1, pss=1,
        free_memory=1, slot_size=1, slot_sizes={}, epoch=1, seq=1,
    )  # fmt: skip


def test_continuous_service_is_not_a_gap(server: QueueServer) -> None:
    resume_long_ago(server)
    before = server.redis.hget(keys.PULSE, "resumed")
    for _ in range(3):
        Holder(server, "t").take()
    assert server.redis.hget(keys.PULSE, "resumed") == before


def test_extended_lock_lives_on_and_those_gone_are_named(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    resume_long_ago(server)
    expire(server, "s:1")
    now = micros_now(server)
    assert server.extend(QUEUE, 60.0, ["s:1", "s:2", "u:1"]) == ["s:2", "u:1"]
    expiry = server.redis.zscore(server.keys_of(QUEUE).part("locks"), "s:1")
    assert now + 60e6 <= (expiry or 0) <= micros_now(server) + 60e6
    assert Holder(server, "t").work() == []
    assert server.redis.zcard(server.keys_of(QUEUE).part("locks")) == 1


def test_repeated_request_gets_its_pack_for_a_full_ttl(server: QueueServer, slot: Holder) -> None:
    """Its first answer was lost long ago, and the slot counts its trust from the request that was answered."""
    put(server, "a")
    slot.take()
    resume_long_ago(server)
    expire(server, "s:1")
    now = micros_now(server) / 1e6
    pack = slot.again().pack
    assert pack is not None
    assert now + 60 <= pack.expiry <= micros_now(server) / 1e6 + 60
    assert Holder(server, "t").work() == []


def test_one_call_reaps_a_bounded_number_of_tasks(server: QueueServer) -> None:  # case 19
    resume_long_ago(server)
    for n in range(8):
        put(server, *(f"{n}-{i:03}" for i in range(900)), when="1")
        Holder(server, f"s{n}").work({HANDLER: 300})
    locked = stats(server).locked
    assert locked == 8 * 300
    expire(server, *(f"s{n}:1" for n in range(8)))
    Holder(server, "t").take(1)
    assert 0 < locked - stats(server).locked <= 1300
    for n in range(8):
        resume_long_ago(server)
        Holder(server, f"t{n}").take(1)
    assert stats(server).locked <= 9


def test_lock_of_a_handler_that_nobody_here_knows_waits_for_one_who_does(server: QueueServer) -> None:
    put(server, "x", handler="x")
    old = Holder(server, "s")
    assert old.keep(old.take({"x": 1})) == ["x"]
    resume_long_ago(server)
    expire(server, "s:1")
    assert Holder(server, "t").work() == []
    assert stats(server).locked == 1
    knows = Holder(server, "u")
    assert knows.keep(knows.take({"x": 1})) == ["x"]


def test_locks_that_nobody_here_can_settle_do_not_hide_the_others(server: QueueServer) -> None:
    resume_long_ago(server)
    for n in range(25):
        put(server, f"x{n}", handler="x")
        Holder(server, f"s{n}").take({"x": 1})
    put(server, "a")
    Holder(server, "z").take()
    expire(server, *(f"s{n}:1" for n in range(25)), "z:1")
    server.redis.zadd(server.keys_of(QUEUE).part("locks"), {"z:1": 2})
    assert Holder(server, "t").work() == ["a"]


def test_lock_without_a_pack_is_removed(server: QueueServer, slot: Holder) -> None:
    resume_long_ago(server)
    server.redis.zadd(server.keys_of(QUEUE).part("locks"), {"ghost:1": 1})
    slot.take()
    assert server.redis.zcard(server.keys_of(QUEUE).part("locks")) == 0


def test_reaped_task_has_its_reason(server: QueueServer, slot: Holder) -> None:
    put(server, "a")
    slot.work()
    resume_long_ago(server)
    expire(server, "s:1")
    pack = Holder(server, "t").take().pack
    assert pack is not None
    assert pack.fates == [Fate(losses=1, error="its lock expired: the server that held it was lost")]
