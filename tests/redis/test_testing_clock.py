"""The clock of ``qslots.testing``: what moves with it, and what does not."""

import pytest

import qslots
from qslots import Queue
from qslots.testing import Queues


def test_moments_that_a_caller_gives_come_due_by_the_moved_clock(q: Queues) -> None:
    @qslots.task
    def work(n: int) -> None: ...

    work.using(at=q.now + 3600).enqueue(1)
    q.advance("59m")
    assert q.drain() == []
    q.advance(90)
    t = work.using(delay="1m").enqueue(2)
    assert [ran.args for ran in q.drain()] == [(1,)]
    found = Queue("work").get(t)
    assert found is not None
    assert found.due_at == pytest.approx(q.now + 60, abs=2)
    assert found.put_at == pytest.approx(q.now, abs=2)


def test_a_frozen_clock_stands_and_keeps_the_order_of_what_is_put(q: Queues) -> None:
    @qslots.task
    def work(n: int) -> None: ...

    q.freeze(1_000_000_000)
    for n, name in enumerate(["c", "b", "a"]):
        work.using(id=name).enqueue(n)
    assert [ran.args for ran in q.drain()] == [(0,), (1,), (2,)]
    assert q.now == pytest.approx(1_000_000_000, abs=0.001)
    work.enqueue(3)
    Queue("work").drop()
    work.enqueue(4)
    assert [ran.args for ran in q.drain()] == [(4,)]
    q.advance("1d")
    assert q.now == pytest.approx(1_000_086_400, abs=0.001)


def test_the_window_of_known_ids_and_the_rate_move_with_the_clock(q: Queues) -> None:
    @qslots.task(dedupe_window="1h", rate="2/s")
    def work() -> None: ...

    q.freeze()
    for name in "abc":
        work.using(id=name).enqueue()
    assert len(q.drain()) == 2
    with pytest.raises(qslots.DuplicateTask):
        work.using(id="a").enqueue()
    q.advance("1s")
    assert [ran.id for ran in q.drain()] == ["c"]
    q.advance("1h")
    work.using(id="a").enqueue()
    assert len(q.drain()) == 1


def test_who_takes_from_a_queue_goes_by_the_moved_clock(q: Queues) -> None:
    @qslots.task
    def work() -> None: ...

    work.using(delay="1h").enqueue()
    with Queue("work").take() as tasks:
        assert tasks == []
    q.advance("1h")
    with Queue("work").take() as [task]:
        assert q.enqueued() == []
        assert q.drain() == []
        task.retry("1m")
    q.assert_enqueued(work.using(delay="1m"))


def test_a_lock_outlives_a_jump_of_the_clock(q: Queues) -> None:
    @qslots.task(lock="5s")
    def work() -> None:
        q.advance("1h")

    work.enqueue()
    work.enqueue()
    assert [ran.outcome for ran in q.drain(raises=False)] == ["done", "done"]
    assert Queue("work").stats().expired == 0


# Claims
