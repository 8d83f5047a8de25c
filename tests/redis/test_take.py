"""``with queue.take(n)``: an ad hoc consumer settles what it took, whatever happens in the block."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, resume_long_ago, stats
from support.waiting import wait_for

from qslots import Bury, LockLost, Postpone, Queue, Retry, Task, TaskState, task
from qslots.errors import Error, QueueServerDown
from qslots.handlers import REGISTRY
from qslots.queries import TaskInfo
from qslots.queueserver import QueueServer
from qslots.records import formed, header

queue = Queue(QUEUE)


def shown(name: str) -> TaskInfo:
    info = queue.get(name)
    assert info is not None
    return info


def nobody_holds(server: QueueServer) -> bool:
    """No lock is left, nobody counts as waiting, and no consumer is remembered as alive."""
    keys = server.keys_of(QUEUE)
    holders = server.redis.hvals(keys.part("holders"))
    left = server.redis.exists(keys.part("locks"), keys.part("packs"), keys.part("waiters"))
    return not left and all(each.startswith(b"dead") for each in holders)


def expire(server: QueueServer) -> None:
    """The server that holds what is locked just now is lost."""
    resume_long_ago(server)
    locks = server.keys_of(QUEUE).part("locks")
    for lock in server.redis.zrange(locks, 0, -1):
        server.redis.zadd(locks, {lock: 1})
    assert server.reclaim(QUEUE, 60.0)


def test_tasks_are_done_when_the_block_ends(app: QueueServer) -> None:
    put(app, *"abc", body=b"\x81\xa1x\x01")
    with queue.take(2) as tasks:
        assert [(each.id, each.kwargs, each.handler) for each in tasks] == [
            ("a", {"x": 1}, HANDLER),
            ("b", {"x": 1}, HANDLER),
        ]
        assert (stats(app).locked, stats(app).done) == (2, 0)
    assert (stats(app).done, stats(app).tasks, stats(app).taken) == (2, 1, 2)
    assert nobody_holds(app)


def test_each_task_can_end_in_its_own_way(app: QueueServer) -> None:
    put(app, *"abcd")
    with queue.take(9) as tasks:
        for each, say in zip(tasks, (None, Task.retry, Task.postpone, Task.bury), strict=True):
            if say is Task.retry:
                each.retry(delay="1h", why="later")
            if say is Task.postpone:
                each.postpone(at=7e9)
            if say is Task.bury:
                each.bury("broken")
    assert queue.get("a") is None
    b, c, d = shown("b"), shown("c"), shown("d")
    assert (b.state, b.retries, b.failures, b.last_error) == (TaskState.RETRIABLE_FAILURE, 1, 0, "later")
    assert abs((b.due_at or 0) - micros_now(app) / 1e6 - 3600) < 5
    assert (c.state, c.due_at, c.retries) == (TaskState.NEW, 7e9, 0)
    assert (d.state, d.last_error) == (TaskState.FATAL_FAILURE, "broken")
    assert nobody_holds(app)


def test_exception_fails_the_task_that_was_alone(app: QueueServer) -> None:
    put(app, "a")
    with pytest.raises(KeyError), queue.take() as [each]:
        raise KeyError(each.id)
    info = shown("a")
    assert (info.state, info.failures, info.retries) == (TaskState.RETRIABLE_FAILURE, 1, 1)
    assert "KeyError: 'a'" in info.last_error
    assert nobody_holds(app)


def test_exception_ends_as_the_handlers_options_say(app: QueueServer) -> None:  # noqa: ARG001
    @task(queue=QUEUE, max_failures=1)
    def once() -> None:
        """Nothing."""

    made = once.enqueue()
    with pytest.raises(KeyError), queue.take():
        raise KeyError
    assert shown(made.id).state is TaskState.FATAL_FAILURE


@pytest.mark.parametrize(("error", "state"), [
    (Retry("1h"), TaskState.RETRIABLE_FAILURE), (Postpone(7e9), TaskState.NEW), (Bury("bad"), TaskState.FATAL_FAILURE),
], ids=["retry", "postpone", "bury"])  # fmt: skip
def test_wish_that_is_raised_is_a_wish_and_no_error(app: QueueServer, error: Error, state: TaskState) -> None:
    put(app, "a")
    with queue.take():
        raise error
    assert (shown("a").state, shown("a").failures) == (state, 0)


def test_exception_with_several_charges_none_and_they_come_narrower(app: QueueServer) -> None:
    put(app, *(f"{n:02}" for n in range(16)))
    with pytest.raises(ZeroDivisionError), queue.take(16) as tasks:
        tasks[3].bury("it was this one")
        raise ZeroDivisionError
    infos = list(queue.find())
    assert [each.state for each in infos].count(TaskState.FATAL_FAILURE) == 1
    others = [each for each in infos if each.id != "03"]
    assert {(each.failures, each.crashes, each.losses) for each in others} == {(0, 0, 1)}
    for each in others:
        queue.move(each.id, 1.0)
    with queue.take(16) as tasks:
        assert len(tasks) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_hands_back_without_a_charge(app: QueueServer, error: type[BaseException]) -> None:
    put(app, *"abc")
    with pytest.raises(error), queue.take(2) as tasks:
        tasks[0].bury("done with this one")
        raise error
    assert (stats(app).active, stats(app).buried, stats(app).returned, stats(app).lost) == (2, 1, 1, 0)
    assert (shown("b").losses, shown("b").failures) == (0, 0)
    assert Holder(app, "s").work() == ["b", "c"]


@pytest.mark.parametrize("error", [None, KeyError], ids=["done", "error"])
def test_lock_that_was_lost_is_told(app: QueueServer, error: type[Exception] | None) -> None:
    put(app, *"ab")
    with pytest.raises(LockLost, match="taken from queue q were taken away: they may run again"):  # noqa: SIM117
        with queue.take(2):
            expire(app)
            if error:
                raise error
    assert (stats(app).active, stats(app).lost, stats(app).done) == (2, 2, 0)
    assert shown("a").failures == 0


def test_lock_is_extended_while_the_block_runs(app: QueueServer) -> None:
    @task(queue=QUEUE, name=HANDLER, lock="3s")
    def short() -> None:
        """Nothing."""

    short.enqueue()
    locks = app.keys_of(QUEUE).part("locks")
    with queue.take() as tasks:
        assert len(tasks) == 1
        [(lock, expiry)] = app.redis.zrange(locks, 0, -1, withscores=True)
        assert 2e6 < expiry - micros_now(app) <= 3e6
        wait_for(lambda: app.redis.zscore(locks, lock) > expiry, "the lock to be extended")
    assert stats(app).done == 1


def test_consumer_that_waits_is_woken_by_a_put(app: QueueServer) -> None:
    def puts() -> None:
        wait_for(lambda: app.redis.zcard(app.keys_of(QUEUE).part("waiters")), "somebody waits")
        put(app, "a", handler="newcomer")

    thread = threading.Thread(target=puts)
    thread.start()
    began = time.monotonic()
    with queue.take(timeout=20) as tasks:
        assert [each.id for each in tasks] == ["a"]
    thread.join()
    assert time.monotonic() - began < 1.5  # it looks again by itself after 2 s


def test_consumer_wakes_for_a_task_whose_time_comes(app: QueueServer) -> None:
    put(app, "a", when="+50000")
    with queue.take(timeout=20) as tasks:
        assert [each.id for each in tasks] == ["a"]


def test_interrupt_before_the_answer_was_read_hands_back_what_it_has_given(
    app: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(app, *"abc")
    exchange = QueueServer.exchange

    def interrupted(self: QueueServer, *args: Any, **how: Any) -> None:
        assert exchange(self, *args, **how).pack is not None
        raise KeyboardInterrupt

    monkeypatch.setattr(QueueServer, "exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.take(2).__enter__()
    assert (stats(app).active, stats(app).locked, shown("a").losses) == (3, 0, 0)
    assert nobody_holds(app)


def test_consumer_whose_connection_is_lost_while_it_waits_goes_on(app: QueueServer) -> None:
    def cuts() -> None:
        def waiters() -> list[str]:
            return [each["id"] for each in app.redis.client_list() if each["cmd"] == "blpop"]

        (number,) = wait_for(waiters, "somebody blocks")
        app.redis.client_kill_filter(_id=number)
        put(app, "a")

    thread = threading.Thread(target=cuts)
    thread.start()
    with queue.take(timeout=20) as tasks:
        assert [each.id for each in tasks] == ["a"]
    thread.join()
    assert nobody_holds(app)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_nothing_to_take_is_an_empty_list(app: QueueServer, timeout: float) -> None:
    with queue.take(5, timeout=timeout) as tasks:
        assert tasks == []
    put(app, "later", when="+9000000000")
    with queue.take(5, timeout=timeout) as tasks:
        assert tasks == []
    assert nobody_holds(app)


@pytest.mark.parametrize("gate", [{}, {"handler": HANDLER}, {"collection": "c"}], ids=["queue", "handler", "group"])
def test_what_is_paused_is_not_taken(app: QueueServer, gate: dict[str, str]) -> None:
    put(app, *(f"{n:03}" for n in range(500)), collection="c")
    queue.pause(**gate)
    with queue.take(5) as tasks:
        assert tasks == []
    queue.resume(**gate)
    with queue.take(5) as tasks:
        assert len(tasks) == 5


@pytest.mark.parametrize("count", [0, -1, 1001, "3", True, None])
def test_count_that_cannot_be_is_refused(app: QueueServer, count: int) -> None:  # noqa: ARG001
    with pytest.raises(Error, match=r"queue q: take: count is .*: write a whole number, 1 to 1,000"):
        queue.take(count)


def test_thousand_tasks_are_taken_in_one_go(app: QueueServer) -> None:
    put(app, *(f"{n:04}" for n in range(1000)))
    with queue.take(1000) as tasks:
        assert len(tasks) == 1000
    assert stats(app).done == 1000


BAD_RECORDS = {
    "no record": b"x", "not msgpack": b"\0" * 8 + header(HANDLER, 0) + b"\1\xc1",
    "bottomless": b"\0" * 8 + header(HANDLER, 0) + formed(b"\x81\xa1x" + b"\x91" * 5000),
    "no text in its header": b"\0" * 12 + b"\1\xff\0" + formed(b"\x91\x01"),
    "not by name": b"\0" * 8 + header(HANDLER, 0) + formed(b"\x91\x01"),
}  # fmt: skip


@pytest.mark.parametrize("record", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_record_that_cannot_be_read_is_buried_and_the_others_are_given(app: QueueServer, record: bytes) -> None:
    put(app, *"abc")
    app.redis.hset(app.keys_of(QUEUE).part("tasks"), "b", record)
    with queue.take(3) as tasks:
        assert [each.id for each in tasks] == ["a", "c"]
    assert (stats(app).done, stats(app).buried) == (2, 1)
    assert "cannot be read" in shown("b").last_error


@pytest.mark.parametrize("known", [True, False], ids=["known here", "known elsewhere"])
def test_tasks_of_a_handler_that_takes_whole_packs_come_with_their_arguments(
    app: QueueServer, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    @task(queue=QUEUE)
    def index(tasks: list[Task]) -> None:
        """Nothing."""

    index.enqueue("a", 1, deep={"b": [2]})
    index.enqueue()
    if not known:
        monkeypatch.setattr(REGISTRY, "handlers", {})
    with queue.take(2) as tasks:
        assert [(each.args, each.kwargs) for each in tasks] == [(("a", 1), {"deep": {"b": [2]}}), ((), {})]
    assert (stats(app).done, stats(app).tasks) == (2, 0)


def test_task_put_by_who_does_not_know_its_handler_takes_whole_packs_is_readable_there(
    app: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(queue=QUEUE)
    def index(tasks: list[Task]) -> None:
        """Nothing."""

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(REGISTRY, "handlers", {})
        queue.put_many([{"doc": 1}], handler="index")
        queue.put_many([{"doc": 2}], handler="index", ids=["z"])
        queue.update("z", doc=3)
    with queue.take(2) as tasks:
        assert [(each.args, each.kwargs) for each in tasks] == [((), {"doc": 1}), ((), {"doc": 3})]
    assert stats(app).done == 2


def test_two_consumers_never_share_a_task(app: QueueServer) -> None:
    put(app, *(f"{n:03}" for n in range(300)))
    taken: list[list[str]] = [[] for _ in range(4)]

    def consume(mine: list[str]) -> None:
        while True:
            with queue.take(7) as tasks:
                if not tasks:
                    return
                mine += [each.id for each in tasks]

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = [name for mine in taken for name in mine]
    assert sorted(together) == [f"{n:03}" for n in range(300)]
    assert (stats(app).done, nobody_holds(app)) == (300, True)


@pytest.mark.parametrize("end", [
    lambda: queue.delete("a"), lambda: queue.drop(), lambda: put_again("rearm"), lambda: put_again("replace"),
], ids=["delete", "drop", "rearm", "replace"])  # fmt: skip
def test_what_is_said_meanwhile_stands_above_the_consumers_outcome(app: QueueServer, end: Callable[[], object]) -> None:
    put(app, "a")
    with queue.take() as [each]:
        end()
        each.bury("hopeless")
    assert stats(app).buried == 0
    assert stats(app).tasks == stats(app).active


def put_again(how: str) -> None:
    queue.put_many([{"x": 2}], handler=HANDLER, ids=["a"], on_duplicate=how)


def test_finished_ids_are_remembered_where_the_queue_asks_for_it(app: QueueServer) -> None:
    @task(queue=QUEUE, name=HANDLER, dedupe_window="1h")
    def once() -> None:
        """Nothing."""

    once.using(id="a").enqueue()
    with queue.take():
        pass
    once.using(id="a", on_duplicate="ignore").enqueue()
    assert stats(app).tasks == 0


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("name", ["settle", "release"])
def test_end_of_a_block_is_told_again_when_its_request_or_its_answer_was_lost(
    app: QueueServer, monkeypatch: pytest.MonkeyPatch, name: str, served: bool
) -> None:
    def cut_once(there: QueueServer, *args: Any, **how: Any) -> bool:
        monkeypatch.setattr(QueueServer, name, say)
        if served:
            say(there, *args, **how)
        raise QueueServerDown("the wire is cut", sent=served)

    say = getattr(QueueServer, name)
    put(app, "a", "b")
    with queue.take(2) as tasks:
        tasks[0].bury("no good")
        monkeypatch.setattr(QueueServer, name, cut_once)
    assert (stats(app).done, stats(app).buried, stats(app).locked) == (1, 1, 0)
    assert nobody_holds(app)
