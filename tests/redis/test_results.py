"""Results: kept with the settlement, waited for without polling, gone after their time."""

import threading
import time
from collections.abc import Callable

import pytest
from support.holder import HANDLER, QUEUE, Holder, put
from support.waiting import wait_for

from qslots import NoResult, Queue, ResultTimeout, Task, TaskFailed, TaskState, results, task
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer
from qslots.results import kept

queue = Queue(QUEUE)
FAIL = Outcome("fail", "why", limit=9, base=1e9, cap=1e9)
BURY = Outcome("bury", 'Traceback:\n  File "photos.py", line 3\nValueError: no such photo')


@pytest.fixture
def slot(app: QueueServer) -> Holder:
    """It has the task ``a``."""
    put(app, "a")
    holder = Holder(app, "web/1/i")
    assert holder.work() == ["a"]
    return holder


@pytest.fixture
def made() -> Task:
    return Task("a", QUEUE, HANDLER)


def done(slot: Holder, value: object, seconds: float = 60.0) -> None:
    assert slot.settle({1: Outcome("done")}, results={1: kept("a", HANDLER, slot.name, value, seconds)})


def result_key(server: QueueServer) -> str:
    return server.keys_of(QUEUE).result("a")


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes", 1.5, [1, [2]], {"a": {"b": None}}, "x" * 100_000])
def test_result_is_what_the_handler_returned(slot: Holder, made: Task, value: object) -> None:
    done(slot, value)
    assert made.result(timeout=0) == value
    assert made.result() == value
    info = queue.get("a")
    assert info is not None
    assert (info.state, info.result, info.handler) == (TaskState.SUCCESS, value, HANDLER)


def test_result_lives_as_long_as_its_handler_says(app: QueueServer, slot: Holder, made: Task) -> None:
    done(slot, "value", seconds=60.0)
    assert 55_000 < app.redis.pttl(result_key(app)) <= 60_000
    app.redis.pexpire(result_key(app), 0)
    with pytest.raises(
        NoResult, match=r"task a of queue q is gone and nothing .* or its handler keeps none, see keep_result$"
    ):
        made.result()
    assert queue.get("a") is None


def test_what_is_gone_is_not_blamed_on_a_handler_that_keeps_results(app: QueueServer) -> None:  # noqa: ARG001
    @task(queue=QUEUE, keep_result="10m")
    def add(a: int) -> int:
        return a

    made = add.enqueue(1)
    queue.delete(made)
    with pytest.raises(NoResult, match=r"nothing is kept of it: it was deleted, or its result has expired$"):
        made.result(timeout="5s")


def test_settlement_repeated_keeps_the_first_result(slot: Holder, made: Task) -> None:
    done(slot, "first")
    done(slot, "second")
    assert made.result() == "first"


def test_no_result_is_kept_when_the_lock_is_gone(app: QueueServer, slot: Holder) -> None:
    slot.release()
    assert not slot.settle({1: Outcome("done")}, results={1: kept("a", HANDLER, slot.name, "late", 60.0)})
    assert not app.redis.exists(result_key(app))


NESTED: list[object] = []
NESTED.append(NESTED)
UNKEPT = {
    "object": object(), "set": {1, object()}, "int": 1 << 70, "text": "\udc80", "deep": NESTED,
    "large": b"x" * results.LARGEST,
}  # fmt: skip


@pytest.mark.parametrize("value", UNKEPT.values(), ids=UNKEPT)
def test_result_that_cannot_be_stored_says_why_and_the_task_is_done(slot: Holder, made: Task, value: object) -> None:
    done(slot, value)
    with pytest.raises(NoResult, match=f"task a of queue q is done, but its result, {type(value).__name__}, cannot be"):
        made.result()
    info = queue.get("a")
    assert info is not None
    assert (info.state, info.result) == (TaskState.SUCCESS, None)
    assert "cannot be stored" in info.last_error
    assert (queue.stats().done, queue.stats().unkept) == (1, 1)


def test_buried_task_has_failed_with_its_reason(slot: Holder, made: Task) -> None:
    slot.settle({1: BURY})
    with pytest.raises(TaskFailed) as caught:
        made.result()
    assert str(caught.value) == "task a of queue q is buried: ValueError: no such photo"
    assert caught.value.error == BURY.why


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_wait_that_is_over_raises_and_the_task_goes_on(slot: Holder, made: Task, timeout: float) -> None:
    with pytest.raises(ResultTimeout, match=f"task a of queue q is not finished after {timeout:g} s"):
        made.result(timeout=timeout)
    slot.settle({1: FAIL})
    with pytest.raises(TimeoutError):
        made.result(timeout=timeout)


def test_handler_that_keeps_no_results_is_told_at_once(app: QueueServer) -> None:  # noqa: ARG001
    @task(queue=QUEUE)
    def forgets() -> int:
        return 1

    with pytest.raises(NoResult, match=r"handler forgets keeps no results: @task\(keep_result='10m'\)"):
        forgets.enqueue().result()


class Waiter:
    """Somebody who waits for the result in a thread of its own, until it is heard to listen."""

    def __init__(self, server: QueueServer, made: Task) -> None:
        self.server = server
        self.made = made
        self.got: object = None
        self.at = 0.0
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()
        wait_for(self._listens, "nobody listens")

    def _wait(self) -> None:
        try:
            self.got = self.made.result(timeout=20)
        except (NoResult, TaskFailed) as error:
            self.got = error
        self.at = time.monotonic()

    def _listens(self) -> bool:
        return bool(self.server.redis.pubsub_numsub(result_key(self.server))[0][1])

    def after(self, end: Callable[[], object]) -> object:
        """What it has got after this, which must have woken it."""
        ended = time.monotonic()
        end()
        self.thread.join(10)
        assert self.at - ended < 2.0  # it would look again by itself after 3 s
        return self.got


@pytest.mark.parametrize(("end", "got"), [
    (lambda slot: done(slot, 42), 42),
    (lambda slot: slot.settle({1: BURY}), TaskFailed),
    (lambda slot: queue.delete("a") or slot.release(), NoResult),
    (lambda slot: slot.release() and queue.delete("a"), NoResult),
    (lambda slot: slot.release() and queue.bury("a", "by hand"), TaskFailed),
    (lambda slot: slot.release() and queue.drop(), NoResult),
], ids=["done", "buried", "deleted while it runs", "deleted", "buried by hand", "dropped"])  # fmt: skip
def test_who_waits_is_woken_by_the_end(
    app: QueueServer, slot: Holder, made: Task, end: Callable[[Holder], object], got: object
) -> None:
    found = Waiter(app, made).after(lambda: end(slot))
    assert isinstance(found, got) if isinstance(got, type) else found == got


def test_who_waits_for_a_task_that_a_slot_discards_is_woken(app: QueueServer, slot: Holder, made: Task) -> None:
    waiter = Waiter(app, made)
    app.redis.hset(app.keys_of(QUEUE).part("gates"), "drop:", 9_000_000_000_000_000)
    slot.release()
    assert isinstance(waiter.after(lambda: Holder(app, "t").take()), NoResult)


def test_who_waits_asks_nothing_until_it_is_told(
    app: QueueServer, slot: Holder, made: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_LOOK_AGAIN", 60.0)
    app.redis.config_resetstat()

    def looks() -> int:
        return int(app.redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])

    waiter = Waiter(app, made)
    wait_for(lambda: looks() == 2, "it looks before and after it is heard")
    put(app, *(f"other{n}" for n in range(20)))
    assert waiter.after(lambda: done(slot, "at last")) == "at last"
    assert looks() == 2 + 2 + 1  # put and settlement are ours


def test_result_of_an_earlier_run_is_not_taken_for_that_of_the_next(slot: Holder, made: Task) -> None:
    put(slot.server, "a", own_ids=True, on_duplicate="rearm")
    done(slot, "first run")
    with pytest.raises(ResultTimeout):
        made.result(timeout=0)
    slot.held = None
    assert slot.work() == ["a"]
    done(slot, "second run")
    assert made.result() == "second run"


def test_each_task_of_a_pack_has_its_own_result(app: QueueServer) -> None:
    put(app, *"abcd")
    slot = Holder(app, "s")
    slot.work()
    slot.settle(
        {n: Outcome("done") for n in (1, 3)},
        results={n: kept(slot.ids[n - 1], HANDLER, "s", slot.ids[n - 1] * 2, 60.0) for n in (1, 3)},
    )
    slot.settle({2: FAIL, 4: BURY})
    assert [Task(name, QUEUE, HANDLER).result() for name in "ac"] == ["aa", "cc"]
    with pytest.raises(ResultTimeout):
        Task("b", QUEUE, HANDLER).result(timeout=0)
