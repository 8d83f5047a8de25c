"""Situations that have broken queues like this one, each by its number: what is promised then, in one short test.

Those that only real processes can show are in the process tier. Number 5, what a refused script leaves behind, is
test_bad_arguments.py.
"""

import itertools
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from support.deaf import DeafLine
from support.holder import HANDLER, QUEUE, Holder, ids, micros_now, put, resume_long_ago, stats
from support.servers import RedisServer
from support.waiting import wait_for

from qslots import keys
from qslots.errors import HolderDead, QueueServerDown
from qslots.handlers import REGISTRY
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queues import Queue
from qslots.queueserver import Kept, QueueServer
from qslots.records import decode_fate, formed, header
from qslots.servers import QueueServers
from qslots.tasks import task

FAIL = Outcome("fail", "why", limit=9, delay=0.0)
MINUTE = 60_000_000


@pytest.fixture
def slot(server: QueueServer) -> Holder:
    return Holder(server, "s")


@pytest.fixture
def deaf(folder: pathlib.Path, redis_server: RedisServer) -> Iterator[DeafLine]:
    line = DeafLine(folder, str(redis_server.socket))
    yield line
    line.close()


def part(server: QueueServer, name: str) -> str:
    return server.keys_of(QUEUE).part(name)


def expire(server: QueueServer, *locks: str) -> None:
    resume_long_ago(server)
    server.redis.zadd(part(server, "locks"), dict.fromkeys(locks, 1), xx=True)


def losses(server: QueueServer) -> list[int]:
    return [decode_fate(raw).losses for raw in server.redis.hvals(part(server, "fate"))]


def calls(server: QueueServer, command: str) -> int:
    """How often the server has run a command."""
    return int(server.redis.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def fastest(operation: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of several runs."""

    def once() -> float:
        start = time.perf_counter()
        operation()
        return time.perf_counter() - start

    return min(once() for _ in range(times))


def test_case_01_dead_slot_is_settled_by_marks_and_not_by_a_count(server: QueueServer, slot: Holder) -> None:
    """The third of a pack asked for a retry, the fourth left a result, both told at once; it dies at the ninth."""
    names = [f"t{n:02}" for n in range(1, 13)]
    put(server, *names)
    slot.work(12)
    slot.settle({3: Outcome("retry", delay=0.0)})
    slot.settle({4: Outcome("done")}, results={4: Kept("t04", b"result", 60.0)})
    slot.die({9: Outcome("crash", "killed", limit=9)}, done=range(1, 9))
    assert server.redis.get(server.keys_of(QUEUE).result("t04")) == b"result"
    waiting = itertools.chain(*Inspector(server, QUEUE).scheduled())
    assert sorted(waiting) == ["t03", *names[8:]]
    assert (stats(server).done, stats(server).crashed) == (7, 1)


@pytest.mark.parametrize("late", [False, True])
def test_case_02_pack_that_was_never_read_comes_back(server: QueueServer, slot: Holder, late: bool) -> None:
    """The exchange is served before the master settles for the dead slot, or reaches the server after that."""
    put(server, "a", "b")
    if not late:
        slot.take()
    else:
        slot.seq += 1
    slot.die()
    if late:
        with pytest.raises(HolderDead):
            slot.again()
    assert Holder(server, "t").work() == ["a", "b"]
    assert losses(server) == []


def test_case_03_client_sends_a_script_once_and_leaves_repetition_to_us(server: QueueServer, deaf: DeafLine) -> None:
    """The reply is lost: one call on the server; asked again under the same number, the same pack."""
    client = QueueServer(deaf.url, name="t", timeout=1.0)
    slot = Holder(client, "s")
    put(server, *"abcdefghij")
    slot.take(0)
    before, deaf.loses = calls(server, "evalsha"), True
    with pytest.raises(QueueServerDown):
        slot.take(5)
    assert calls(server, "evalsha") == before + 1
    deaf.loses = False
    client.close()
    assert slot.keep(slot.again(5)) == list("abcde")
    assert stats(server).locked == 5
    client.close()


@pytest.mark.parametrize("end", ["done", "fail", "back", "expiry", "death"])
def test_case_04_what_was_put_anew_while_it_ran_outlives_the_old_run(
    server: QueueServer, slot: Holder, end: str
) -> None:
    put(server, "a", body=b"old")
    slot.work()
    put(server, "a", body=b"new", on_duplicate="replace", own_ids=True)
    if end == "expiry":
        expire(server, "s:1")
    elif end == "death":
        slot.die()
    else:
        slot.settle({1: Outcome(end, "why", limit=1, delay=0.0)})
    pack = Holder(server, "t").take().pack
    assert pack is not None
    assert [record[-4:] for record in pack.records] == [formed(b"new")]


def test_case_05_calls_of_thousands_keep_count_and_every_digit_of_a_time(server: QueueServer, slot: Holder) -> None:
    """More than Lua's unpack can bear, and a time whose last digit would be lost as a Lua number made text."""
    instant = micros_now(server) - 1
    names = [f"{n:05}" for n in range(20_000)]
    put(server, *names, when=str(instant))
    schedule = server.redis.zrange(server.keys_of(QUEUE).schedule(HANDLER), 0, -1, withscores=True)
    assert {int(at) for _, at in schedule} == {instant}
    assert slot.work(20_000) == names[:1_000]
    slot.die()
    assert stats(server).active == 20_000


@pytest.mark.parametrize("pulse", [-60 * MINUTE, +60 * MINUTE])
def test_case_06_after_a_gap_or_a_step_of_the_clock_every_lock_has_a_full_ttl(
    server: QueueServer, slot: Holder, pulse: int
) -> None:
    """A server that loaded for an hour, or whose clock went back: nothing expires, nobody is charged."""
    put(server, "a")
    slot.work()
    expire(server, "s:1")
    server.redis.hset(keys.PULSE, "last", micros_now(server) + pulse)
    assert Holder(server, "t").work() == []
    assert server.reclaim(QUEUE, 60.0) == 0
    assert (slot.take().gone, stats(server).done, losses(server)) == (False, 1, [])


def test_case_07_full_server_lets_locks_be_extended_and_the_queue_be_drained(server: QueueServer, slot: Holder) -> None:
    put(server, "a", "b", "c", "d")
    slot.work(1)
    server.redis.config_set("maxmemory", 1)
    try:
        assert server.extend(QUEUE, 60.0, ["s:1"]) == []
        assert slot.settle({1: FAIL})
        assert sum(len(slot.work(1)) for _ in range(6)) == 4
        assert stats(server).tasks == 0
        with pytest.raises(QueueServerDown, match="maxmemory"):
            put(server, "e")
    finally:
        server.redis.config_set("maxmemory", 0)


def test_case_08_gone_is_only_this_lock_and_says_nothing_of_its_slot(server: QueueServer, slot: Holder) -> None:
    """The master read a lock, the slot has exchanged it for its next: it lives on, and nothing of it is touched."""
    put(server, "a", "b")
    slot.work(1)
    slot.work(1)
    assert server.extend(QUEUE, 60.0, ["s:1", "s:2"]) == ["s:1"]
    assert not slot.take().gone
    assert stats(server).done == 2


def test_case_09_server_lost_three_times_buries_nothing_and_narrows_the_packs(server: QueueServer) -> None:
    put(server, *(f"{n:03}" for n in range(500)))
    sizes = []
    for n in range(3):
        sizes.append(len(Holder(server, f"s{n}").work(500)))
        expire(server, f"s{n}:1")
        server.reclaim(QUEUE, 60.0)
    assert sizes == [500, 63, 8]
    assert (stats(server).buried, stats(server).crashed, stats(server).active) == (0, 0, 500)


def test_case_10_machine_that_was_asleep_is_refused_when_it_comes_back(server: QueueServer, slot: Holder) -> None:
    """Its locks expired meanwhile and its tasks are elsewhere: no word of it changes them, nor is it given any."""
    put(server, "a", "b")
    slot.work()
    expire(server, "s:1")
    other = Holder(server, "t")
    assert other.work() == ["a", "b"]
    assert server.extend(QUEUE, 60.0, ["s:1"]) == ["s:1"]
    assert not slot.settle({1: Outcome("bury", "late")})
    assert not slot.release([1, 2])
    with pytest.raises(HolderDead):
        slot.take()
    assert (stats(server).locked, stats(server).done, stats(server).buried) == (2, 0, 0)


def test_case_12_lost_reply_to_a_put_inserts_nothing_twice_though_the_task_is_done(
    server: QueueServer, slot: Holder, deaf: DeafLine
) -> None:
    client = QueueServer(deaf.url, name="t", timeout=1.0)
    put(client, "first")
    deaf.loses = True
    with pytest.raises(QueueServerDown):  # the first try and its repetition, both without an answer
        put(client, "a")
    assert slot.work() == ["first", "a"]
    slot.take()
    deaf.loses = False
    client.close()
    client._producer.request -= 1  # its third try
    assert put(client, "a", own_ids=True) == 1
    assert (stats(server).put, stats(server).done, stats(server).tasks) == (2, 2, 0)
    client.close()


def test_case_13_task_of_a_spread_queue_is_not_put_elsewhere_once_it_was_sent(
    server: QueueServer, deaf: DeafLine
) -> None:
    """One of two servers answers no more. What was sent there may be there; only what was not goes to the other."""
    servers = QueueServers({"a": deaf.url, "b": server.url}, {QUEUE: ("a", "b")}, name="t", timeout=1.0)
    head, body = header(HANDLER, 7), [formed(b"\x80")]
    for n in range(2):  # both connections are open
        servers.put(QUEUE, HANDLER, head, [f"open-{n}"], body)
    servers["a"].version()
    deaf.loses = True
    answers = []
    for n in range(2):
        try:
            answers.append(servers.put(QUEUE, HANDLER, head, [f"t{n}"], body))
        except QueueServerDown as error:
            answers.append(0)
            assert error.sent
    assert sorted(answers) == [0, 1]
    assert stats(server).put == 4  # both names lead to one server here: each task is there once
    servers.close()


def test_case_14_waiters_of_a_dead_machine_swallow_no_wake_up_for_long(server: QueueServer) -> None:
    """Ten half-open connections stand first in the queue for tokens; what they get, the next call makes good."""
    living = Holder(server, "living")
    for n in range(10):
        Holder(server, f"dead-{n}").take()
    living.take()
    put(server, "a", "b")
    server.redis.delete(part(server, "wake"))  # the dead have had all tokens
    put(server, "c")
    assert server.redis.llen(part(server, "wake")) > 0
    server.redis.zadd(part(server, "waiters"), {f"dead-{n}": 1 for n in range(10)})  # their 3 s are over
    server.redis.delete(part(server, "wake"))
    put(server, "d")
    assert server.redis.llen(part(server, "wake")) == 1


@pytest.mark.parametrize("what", ["due task", "expired lock"])
def test_case_15_in_a_quiet_queue_somebody_finds_the_lone_one_in_time(server: QueueServer, what: str) -> None:
    """Everybody sleeps: one of them wakes for the due task; the manager's look takes back the lock and rings."""
    if what == "expired lock":
        put(server, "a")
        Holder(server, "lost").work()
    else:
        put(server, "a", when="+2500000")
    waits = [Holder(server, f"idle-{n}").take(wait=3.0).wait for n in range(3)]
    if what == "expired lock":
        expire(server, "lost:1")
        assert stats(server).expired == 1  # what the manager sees, and acts upon
        assert server.reclaim(QUEUE, 60.0) == 1
        assert server.redis.llen(part(server, "wake")) == 1
    else:
        assert min(waits) <= 2.5 < sorted(waits)[1]


def test_case_16_paused_tasks_at_the_head_are_passed_over_in_portions(server: QueueServer, slot: Holder) -> None:
    """20,000 of them: each take moves a bounded number, in the time that any take needs, and only once."""
    names = [f"{n:05}" for n in range(20_000)]
    put(server, *names, collection="c", when="1")
    put(server, "free", when="2")
    Inspector(server, QUEUE).pause("collection:c")
    moved, spans = [0], []
    while True:
        start = time.perf_counter()
        answer = slot.take(1)
        spans.append(time.perf_counter() - start)
        moved.append(stats(server).parked)
        if answer.pack or answer.wait:
            break
    assert ids(answer) == ["free"]
    assert max(after - before for before, after in itertools.pairwise(moved)) <= 200
    assert moved[-1] == 20_000
    assert statistics.quantiles(spans, n=10)[8] < 0.1
    assert fastest(lambda: slot.take(1)) < 0.01


def test_case_17_drop_goes_in_portions_and_spares_what_is_put_afterwards(server: QueueServer, slot: Holder) -> None:
    put(server, *(f"{n:05}" for n in range(5_000)))
    running = slot.work(3)
    pages = Inspector(server, QUEUE).drop("")
    looked = [next(pages)]
    put(server, "after")
    looked += pages
    assert max(page for page, _ in looked) <= 1_100
    assert sum(gone for _, gone in looked) == 5_000
    assert slot.settle({1: FAIL})  # the slot is told nothing of it; and nothing comes back
    assert not slot.take(0).gone
    assert (len(running), stats(server).tasks) == (3, 1)
    assert slot.work() == ["after"]


def test_case_19_reaping_is_bounded_for_whoever_comes_by(server: QueueServer) -> None:
    """Twenty locks of up to 300 tasks: an innocent exchange takes back a part, the next ones the rest."""
    put(server, *(f"{n:05}" for n in range(6_000)))
    for n in range(20):
        Holder(server, f"s{n}").take(300)
    locked = [stats(server).locked]
    expire(server, *(f"s{n}:1" for n in range(20)))
    innocent = Holder(server, "innocent")
    while stats(server).expired:
        innocent.work(1)
        locked.append(stats(server).locked)
    assert locked[0] > 2_000
    assert max(before - after for before, after in itertools.pairwise(locked)) <= 1_300
    assert locked[-1] == 1


def test_case_21_rate_holds_also_for_large_packs(server: QueueServer, slot: Holder) -> None:
    put(server, *(f"{n:03}" for n in range(500)))
    begin = time.monotonic()
    taken = sum(len(ids(slot.take(500, rate=10.0))) for _ in range(20))
    assert 10 <= taken <= 10 + 10 * (time.monotonic() - begin) + 1


@pytest.mark.usefixtures("app")
def test_case_23_tasks_of_other_code_fail_with_backoff_and_are_not_buried(server: QueueServer) -> None:
    """What fits nobody's parameters here was put by another version of the code: a later attempt may fit."""

    @task(queue=QUEUE, name=HANDLER)
    def handler(photo: str) -> None: ...

    other_code = REGISTRY.handlers[HANDLER].arguments.signature ^ 1
    for name, signature in (("other", other_code), ("this", other_code ^ 1)):
        server.put(QUEUE, HANDLER, header(HANDLER, signature), [name], [formed(b"\x81\xa1x\1")])
    with Queue(QUEUE).take(10) as tasks:
        assert tasks == []
    settled = wait_for(lambda: stats(server) if stats(server).buried else None, "the misfits to be settled")
    assert (settled.buried, settled.inactive, settled.failed) == (1, 1, 1)
