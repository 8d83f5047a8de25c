"""Putting an id that is there already: refuse, ignore, replace, rearm, wherever the task is; and ids just finished."""

from collections.abc import Callable

import msgspec
import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, resume_long_ago

from qslots import DuplicateTask, Queue, TaskState
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queries import TaskInfo
from qslots.queueserver import QueueServer

queue = Queue(QUEUE)
FAIL = Outcome("fail", "why", limit=9, base=1e9, cap=1e9)
OLD, NEW, NEWER = (msgspec.msgpack.encode({"v": version}) for version in ("old", "new", "newer"))
LATER = "7000000000000000"
DAY = 86_400.0


def again(server: QueueServer, how: str, body: bytes = NEW, when: str = LATER, **more: object) -> int:
    return put(server, "a", own_ids=True, on_duplicate=how, body=body, when=when, **more)


def shown() -> TaskInfo:
    info = queue.get("a")
    assert info is not None
    return info


def places(server: QueueServer) -> int:
    keys = server.keys_of(QUEUE)
    named = [keys.schedule(HANDLER), keys.parked("c"), keys.part("buried")]
    return sum(server.redis.zscore(key, "a") is not None for key in named)


def inactive(server: QueueServer) -> None:
    put(server, "a", when="+9000000", body=OLD, collection="c")


def active(server: QueueServer) -> None:
    put(server, "a", body=OLD, collection="c")


def failed(server: QueueServer) -> None:
    active(server)
    slot = Holder(server, "f")
    slot.work()
    slot.settle({1: FAIL})


def buried(server: QueueServer) -> None:
    failed(server)
    queue.bury("a", "by hand")


def parked(server: QueueServer) -> None:
    active(server)
    queue.pause("c")
    assert Holder(server, "p").take().pack is None


def locked(server: QueueServer) -> Holder:
    active(server)
    slot = Holder(server, "l")
    assert slot.work() == ["a"]
    return slot


Arrange = Callable[[QueueServer], object]
every_place = pytest.mark.parametrize(
    "arrange", [inactive, active, failed, buried, parked], ids=lambda each: each.__name__
)


@pytest.mark.parametrize("arrange", [inactive, active, failed, buried, parked, locked], ids=lambda each: each.__name__)
def test_refused_or_ignored_put_changes_nothing(app: QueueServer, arrange: Arrange) -> None:
    arrange(app)
    before = shown()
    with pytest.raises(DuplicateTask, match=r"^a$"):
        again(app, "refuse")
    assert again(app, "ignore") == 0
    assert shown() == before
    assert places(app) == (0 if arrange is locked else 1)


@every_place
def test_replaced_task_has_the_new_record_and_time_and_begins_anew(app: QueueServer, arrange: Arrange) -> None:
    arrange(app)
    assert again(app, "replace", collection="d") == 1
    info = shown()
    assert (info.state, info.kwargs, info.collection, info.due_at) == (TaskState.NEW, {"v": "new"}, "d", 7e9)
    assert (info.retries, info.failures, info.last_error, places(app)) == (0, 0, "", 1)
    assert abs((info.put_at or 0) - micros_now(app) / 1e6) < 5


@every_place
def test_rearmed_task_keeps_its_record_and_has_the_new_time(app: QueueServer, arrange: Arrange) -> None:
    arrange(app)
    put_at = shown().put_at
    assert again(app, "rearm") == 1
    info = shown()
    assert (info.kwargs, info.collection, info.due_at, info.put_at) == ({"v": "old"}, "c", 7e9, put_at)
    assert (info.failures, places(app)) == (1 if arrange is failed else 0, 1)  # a buried one begins anew


def expire(slot: Holder) -> None:
    resume_long_ago(slot.server)
    slot.server.redis.zadd(slot.server.keys_of(QUEUE).part("locks"), {f"{slot.name}:{slot.seq}": 1})
    slot.server.reclaim(QUEUE, 60.0)


ENDS: dict[str, Callable[[Holder], object]] = {
    "done with the next take": lambda slot: slot.take(0),
    "done": lambda slot: slot.settle({1: Outcome("done")}),
    "failed": lambda slot: slot.settle({1: FAIL}),
    "buried": lambda slot: slot.settle({1: Outcome("bury", "bad")}),
    "crashed": lambda slot: slot.die({1: Outcome("crash", "killed", limit=1, base=1e6, cap=1e6)}),
    "lost": lambda slot: slot.die(rest="loss", why="lost"),
    "handed back": lambda slot: slot.release(leave=True),
    "expired": expire,
}
WISHES: dict[tuple[str, ...], str] = {  # said of a locked task one after the other -> the arguments it comes back with
    ("rearm",): "old",
    ("rearm", "rearm"): "old",
    ("replace",): "new",
    ("replace", "rearm"): "new",
    ("rearm", "replace"): "new",
    ("replace", "ignore"): "new",
    ("gone",): "",
    ("rearm", "gone"): "",
    ("replace", "gone"): "",
    ("gone", "replace"): "new",
    ("gone", "rearm"): "new",
    ("gone", "ignore"): "new",
    ("gone", "replace", "rearm"): "new",
    ("gone", "rearm", "gone"): "",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize(("wishes", "left"), WISHES.items(), ids=map("-".join, WISHES))
def test_what_was_said_of_a_locked_task_stands_above_any_end(
    app: QueueServer, wishes: tuple[str, ...], left: str, end: Callable[[Holder], object]
) -> None:
    slot = locked(app)
    for n, wish in enumerate(wishes):
        if wish == "gone":
            queue.delete("a")
        else:
            again(app, wish, when=str(7_000_000_000_000_000 - len(wishes) + n + 1))
        assert (shown().locked, places(app)) == (True, 0)
    end(slot)
    slot.release()
    keys = app.keys_of(QUEUE)
    assert not app.redis.exists(keys.part("again"))
    if not left:
        assert (queue.get("a"), queue.stats().tasks, app.redis.exists(keys.part("fate"))) == (None, 0, 0)
        return
    info = shown()
    assert (info.state, info.kwargs["v"], places(app)) == (TaskState.NEW, left, 1)
    last = len(wishes) - (wishes[-1] == "ignore" and wishes[0] != "gone")
    assert info.due_at == (7e15 - len(wishes) + last) / 1e6
    assert (info.retries, info.last_error) == (0, "")


def test_rearmed_task_runs_once_more_and_is_done(app: QueueServer) -> None:
    slot = locked(app)
    again(app, "rearm", when="")
    assert slot.work() == ["a"]
    assert slot.work() == []
    assert (queue.stats().done, queue.stats().tasks) == (2, 0)


def test_rearm_of_a_task_that_had_failed_keeps_what_befell_it_until_it_is_done(app: QueueServer) -> None:
    failed(app)
    queue.kick("a")
    slot = Holder(app, "s")
    slot.work()
    again(app, "rearm", when="")
    slot.settle({1: FAIL})
    assert shown().failures == 1
    slot = Holder(app, "t")
    assert slot.work() == ["a"]
    again(app, "rearm", when="")
    slot.take(0)
    assert shown().failures == 0


@pytest.mark.parametrize("how", ["refuse", "replace", "rearm"])
def test_id_of_another_handlers_task_is_refused(app: QueueServer, how: str) -> None:
    for arrange in (active, lambda server: Holder(server, "l").work()):
        arrange(app)
        with pytest.raises(DuplicateTask):
            again(app, how, handler="x")
    assert again(app, "ignore", handler="x") == 0
    assert (shown().handler, shown().afterwards) == (HANDLER, "")


@pytest.mark.parametrize("how", ["replace", "rearm", "ignore"])
def test_id_that_is_twice_in_a_call_counts_once(app: QueueServer, how: str) -> None:
    assert put(app, "a", "b", "a", own_ids=True, on_duplicate=how) == 2
    assert put(app, "a", "a", own_ids=True, on_duplicate=how) == (0 if how == "ignore" else 1)
    assert queue.stats().tasks == 2


def test_call_with_one_known_id_among_new_ones_is_refused_whole(app: QueueServer) -> None:
    slot = locked(app)
    with pytest.raises(DuplicateTask, match=r"^a$"):
        put(app, "n1", "a", "n2", own_ids=True)
    with pytest.raises(DuplicateTask, match=r"^a$"):
        put(app, "n1", "a", "n2", handler="x", own_ids=True, on_duplicate="replace")
    assert (queue.stats().tasks, queue.stats().put) == (1, 1)
    assert put(app, "n1", "a", "n2", own_ids=True, on_duplicate="replace") == 3
    assert slot.work() == ["a", "n1", "n2"]


def test_repeated_request_gets_the_first_answer_and_changes_nothing_more(app: QueueServer) -> None:
    slot = locked(app)
    assert again(app, "replace", when="") == 1
    assert slot.work() == ["a"]
    app._producer.request -= 1
    assert again(app, "replace", when="") == 1
    assert shown().afterwards == ""
    slot.take(0)
    assert queue.stats().tasks == 0


def done_by_settle(slot: Holder) -> None:
    slot.settle({1: Outcome("done")}, window=DAY)


def done_by_exchange(slot: Holder) -> None:
    slot.take(0, window=DAY)


def done_by_release(slot: Holder) -> None:
    slot.server.release(QUEUE, slot.name, held=slot.held, marks=b"\1", window=DAY)


@pytest.mark.parametrize("end", [done_by_settle, done_by_exchange, done_by_release], ids=lambda each: each.__name__)
def test_finished_id_stays_known_for_the_window(app: QueueServer, end: Callable[[Holder], None]) -> None:
    end(locked(app))
    with pytest.raises(DuplicateTask):
        again(app, "refuse")
    assert again(app, "ignore") == 0
    assert queue.get("a") is None
    app.redis.zadd(app.keys_of(QUEUE).part("finished"), {"a": 1})
    assert again(app, "refuse") == 1


@pytest.mark.parametrize("how", ["replace", "rearm"])
def test_finished_task_is_put_anew_where_that_is_what_is_asked_for(app: QueueServer, how: str) -> None:
    done_by_exchange(locked(app))
    assert again(app, how) == 1
    assert shown().kwargs == {"v": "new"}


@pytest.mark.parametrize("outcome", [FAIL, Outcome("bury", "bad"), Outcome("retry", delay=1.0)], ids=lambda o: o.kind)
def test_only_what_is_done_is_remembered_as_finished(app: QueueServer, outcome: Outcome) -> None:
    locked(app).settle({1: outcome}, window=DAY)
    queue.delete("a")
    assert not app.redis.exists(app.keys_of(QUEUE).part("finished"))
    assert again(app, "refuse") == 1


def test_ids_whose_window_is_over_are_forgotten_twice_as_fast_as_new_ones_come(app: QueueServer) -> None:
    key = app.keys_of(QUEUE).part("finished")
    app.redis.zadd(key, {f"old{n}": n + 1 for n in range(5000)})
    slot = Holder(app, "s")
    for _ in range(3):
        put(app, *(f"new{n}" for n in range(600)))
        slot.work(600)
        before = app.redis.zcard(key)
        slot.keep(slot.take(0, window=DAY))
    assert app.redis.zcount(key, 0, 1e6) == 5000 - 3 * 1200
    assert before == 5000 - 2 * 1200 + 600  # the same ids again take no more room


def test_deleted_task_that_is_put_once_more_keeps_the_newest_record(app: QueueServer) -> None:
    slot = locked(app)
    Inspector(app, QUEUE).delete("a")
    again(app, "replace", body=NEW)
    again(app, "replace", body=NEWER, when="")
    assert slot.work() == ["a"]
    assert shown().kwargs == {"v": "newer"}
