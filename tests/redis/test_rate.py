"""The rate of a queue: a token bucket on the server's clock, which the tests set back instead of waiting."""

import random

import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, stats

from qslots import Queue, task
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer

queue = Queue(QUEUE)
SLOW = 0.001  # tasks a second: nothing is added to its bucket while a test runs


def gates_key(server: QueueServer) -> str:
    return server.keys_of(QUEUE).part("gates")


def passed(server: QueueServer, seconds: float) -> None:
    """As if the bucket had last been looked at so much earlier."""
    server.redis.hincrby(gates_key(server), "filled", -round(seconds * 1e6))


def tokens(server: QueueServer) -> float:
    return float(server.redis.hget(gates_key(server), "tokens") or "nan")


def drained(server: QueueServer, rate: float) -> None:
    """A bucket of this rate without a token."""
    server.redis.hset(gates_key(server), mapping={"rate": rate, "tokens": 0, "filled": micros_now(server)})


@pytest.fixture
def many(server: QueueServer) -> Holder:
    put(server, *(f"{n:04}" for n in range(1000)))
    return Holder(server, "s")


def test_pack_of_hundreds_is_no_burst(many: Holder) -> None:
    """Case 21."""
    assert len(many.keep(many.take(500, rate=10.0))) == 10
    assert many.keep(many.take(500, rate=10.0)) == []


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.3, 40.0])
def test_over_any_time_no_more_begin_than_the_rate_and_one_second_of_burst(many: Holder, rate: float) -> None:
    chance, begun = random.Random(rate), 0
    many.keep(many.take(0, rate=rate))
    begin, skipped = micros_now(many.server), 0.0
    for _ in range(40):
        begun += len(many.keep(many.take(chance.choice([1, 3, 500]), rate=rate)))
        pause = chance.expovariate(1.0)
        passed(many.server, pause)
        skipped += pause
        elapsed = skipped + (micros_now(many.server) - begin) / 1e6
        assert begun <= rate * elapsed + max(1.0, rate)
    assert begun > 0.2 * rate * skipped


def test_bucket_holds_no_more_than_one_second(many: Holder) -> None:
    assert len(many.keep(many.take(500, rate=20.0))) == 20
    passed(many.server, 3600)
    assert len(many.keep(many.take(500, rate=20.0))) == 20


def test_untouched_tasks_give_their_tokens_back_and_ended_ones_do_not(many: Holder) -> None:
    assert len(many.keep(many.take(500, rate=10 + SLOW))) == 10
    many.settle({1: Outcome("retry", delay=1.0), 2: Outcome("fail", "why", limit=9)})
    many.release([3, 4])
    many.held = None
    assert round(tokens(many.server)) == 6
    assert 6 <= len(many.keep(many.take(500, rate=10 + SLOW))) <= 7


def test_tail_that_goes_back_while_its_pack_runs_gives_its_tokens_back(many: Holder) -> None:  # case 18
    assert len(many.keep(many.take(500, rate=10 + SLOW))) == 10
    many.settle({position: Outcome("back") for position in range(3, 11)}, marks=b"\1")
    assert round(tokens(many.server)) == 8


def test_slot_that_waits_wakes_when_the_next_token_comes(many: Holder) -> None:
    drained(many.server, 0.4)
    answer = many.take(10, rate=0.4, wait=3.0)
    assert answer.pack is None
    assert 0.5 < answer.wait <= 2.5
    assert Holder(many.server, "t").take(10, rate=0.4, wait=3.0).wait == 3.0  # one is enough


def test_slot_that_waits_for_longer_is_rung_so_that_it_learns_the_tokens_time(server: QueueServer) -> None:
    drained(server, 0.4)
    assert Holder(server, "s").take(10, rate=0.4, wait=3.0).wait == 3.0
    put(server, "a")
    assert server.redis.llen(server.keys_of(QUEUE).wake) == 1
    assert Holder(server, "t").take(10, rate=0.4, wait=3.0).wait <= 2.5


def test_no_more_slots_are_rung_than_there_are_tokens(server: QueueServer) -> None:
    server.redis.hset(gates_key(server), mapping={"rate": SLOW, "tokens": 1, "filled": micros_now(server)})
    for n in range(5):
        assert Holder(server, f"s{n}").take(10, rate=SLOW, wait=3.0).wait == 3.0
    put(server, *"abcdef")
    assert server.redis.llen(server.keys_of(QUEUE).wake) == 1


def test_only_what_the_rate_allows_counts_as_takeable(many: Holder) -> None:
    assert stats(many.server).takeable == 1000
    many.take(0, rate=10.0)
    assert len(many.keep(many.take(500, rate=10.0))) == 10
    assert (stats(many.server).takeable, stats(many.server).active) == (0, 990)
    passed(many.server, 0.5)
    assert 5 <= stats(many.server).takeable <= 7


def test_rate_that_is_removed_limits_nobody_any_more(many: Holder) -> None:
    many.keep(many.take(500, rate=10.0))
    assert many.keep(many.take(500, rate=10.0)) == []
    assert len(many.keep(many.take(500))) > 100
    assert not many.server.redis.hexists(gates_key(many.server), "rate")


@pytest.mark.parametrize(("before", "after"), [(10.0, 20.0), (20.0, 10.0)])
def test_rate_that_changes_brings_no_second_burst(many: Holder, before: float, after: float) -> None:
    begin = micros_now(many.server)
    begun = len(many.keep(many.take(500, rate=before)))
    for n in range(40):  # two generations that disagree, by turns
        begun += len(many.keep(many.take(500, rate=(after, before)[n % 2])))
    assert begun <= 20 * (1 + (micros_now(many.server) - begin) / 1e6) + 1


def test_lower_rate_begins_with_no_more_than_its_own_burst(many: Holder) -> None:
    many.take(0, rate=500.0)
    many.keep(many.take(1, rate=500.0))
    assert len(many.keep(many.take(500, rate=10.0))) == 10


def test_rate_below_one_a_second_lets_one_begin_at_a_time(many: Holder) -> None:
    assert len(many.keep(many.take(500, rate=1 / 60))) == 1
    assert many.keep(many.take(500, rate=1 / 60)) == []
    passed(many.server, 60)
    assert len(many.keep(many.take(500, rate=1 / 60))) == 1


def test_ad_hoc_consumer_that_knows_no_rate_keeps_to_that_of_the_slots(app: QueueServer, many: Holder) -> None:
    begin = micros_now(app)
    assert len(many.keep(many.take(500, rate=10.0))) == 10
    with queue.take(500) as tasks:
        pass
    assert len(tasks) <= 10 * (micros_now(app) - begin) / 1e6
    assert float(app.redis.hget(gates_key(app), "rate") or 0) == 10.0


def test_declared_rate_holds_for_an_ad_hoc_consumer_too(app: QueueServer, many: Holder) -> None:
    @task(queue=QUEUE, name=HANDLER, rate="5/s")
    def anything() -> None:
        """Nothing."""

    with queue.take(500) as tasks:
        assert len(tasks) == 5
    assert stats(app).done == 5
    assert many.keep(many.take(500, rate=SLOW)) == []


def test_queue_goes_on_when_the_clock_has_gone_back(many: Holder) -> None:
    many.keep(many.take(500, rate=10.0))
    passed(many.server, -3600)
    assert stats(many.server).takeable == 10
    assert len(many.keep(many.take(500, rate=10.0))) == 10
    assert many.keep(many.take(500, rate=10.0)) == []
