"""Changing single tasks: where they may be, what stays as it was, what is refused and how."""

import datetime
from collections.abc import Callable

import pytest
from support.holder import HANDLER, QUEUE, Holder, micros_now, put, resume_long_ago

from qslots import ArgumentsError, Queue, Task, TaskLocked, TaskState, TaskTooLarge, UnknownTask, UsageError, task
from qslots.errors import Error, QueueServerError
from qslots.handlers import REGISTRY
from qslots.inspector import Inspector
from qslots.outcomes import Outcome
from qslots.queries import TaskInfo
from qslots.queueserver import QueueServer
from qslots.records import DEFLATED, header
from qslots.tasks import TaskFunction

queue = Queue(QUEUE)
FAIL = Outcome("fail", "why", limit=9, base=1e9, cap=1e9)


def inactive(server: QueueServer) -> None:
    put(server, "a", when="+9000000000", collection="c")


def active(server: QueueServer) -> None:
    put(server, "a", collection="c")


def failed(server: QueueServer) -> None:
    put(server, "a", collection="c")
    slot = Holder(server, "f")
    slot.work()
    slot.settle({1: FAIL})


def buried(server: QueueServer) -> None:
    failed(server)
    queue.bury("a", "by hand")


def parked(server: QueueServer) -> None:
    put(server, "a", collection="c")
    queue.pause("c")
    assert Holder(server, "p").take().pack is None


def locked(server: QueueServer) -> None:
    put(server, "a", "b", collection="c")
    assert Holder(server, "l").work() == ["a", "b"]


UNLOCKED = [inactive, active, failed, buried, parked]
Arrange = Callable[[QueueServer], None]
every_place = pytest.mark.parametrize("arrange", UNLOCKED, ids=lambda each: each.__name__)


def shown(name: str = "a") -> TaskInfo:
    info = queue.get(name)
    assert info is not None
    return info


def places(server: QueueServer) -> int:
    """In how many places the task is, its pack not counted."""
    keys = server.keys_of(QUEUE)
    named = [keys.schedule(HANDLER), keys.parked("c"), keys.part("buried")]
    return sum(server.redis.zscore(key, "a") is not None for key in named)


@every_place
@pytest.mark.parametrize(("at", "state"), [(1.5, TaskState.ENQUEUED), (7e9, TaskState.NEW)], ids=["past", "future"])
def test_task_moves_to_its_new_time_wherever_it_was(
    app: QueueServer, arrange: Arrange, at: float, state: TaskState
) -> None:
    arrange(app)
    queue.move("a", at)
    info = shown()
    assert info.due_at == at
    assert info.state is (TaskState.RETRIABLE_FAILURE if arrange is failed and at > 2 else state)
    assert (places(app), queue.stats().tasks, info.collection) == (1, 1, "c")
    assert info.retries == (1 if arrange is failed else 0)  # a buried one begins anew


@every_place
def test_kicked_task_is_due_now(app: QueueServer, arrange: Arrange) -> None:
    arrange(app)
    assert queue.kick("a") == 1
    assert abs((shown().due_at or 0) - micros_now(app) / 1e6) < 5
    assert places(app) == 1


@every_place
def test_buried_task_keeps_its_reason_and_its_record(app: QueueServer, arrange: Arrange) -> None:
    arrange(app)
    before = shown()
    queue.bury("a", "broken")
    info = shown()
    assert (info.state, info.last_error, info.due_at) == (TaskState.FATAL_FAILURE, "broken", None)
    assert (info.put_at, info.collection, places(app)) == (before.put_at, "c", 1)
    assert Holder(app, "s").work() == []


@every_place
def test_deleted_task_leaves_nothing(app: QueueServer, arrange: Arrange) -> None:
    arrange(app)
    queue.delete("a")
    keys = app.keys_of(QUEUE)
    assert (queue.get("a"), places(app), queue.stats().tasks, queue.stats().deleted) == (None, 0, 0, 1)
    assert not app.redis.exists(keys.part("tasks"), keys.part("fate"), keys.part("again"))


@every_place
def test_updated_task_stays_where_it_is_with_its_collection_and_put_time(app: QueueServer, arrange: Arrange) -> None:
    arrange(app)
    before = shown()
    queue.update("a", size=5)
    info = shown()
    assert info.kwargs == {"size": 5}
    for name in ("state", "put_at", "due_at", "collection", "handler", "retries", "last_error", "parked"):
        assert getattr(info, name) == getattr(before, name)
    assert places(app) == 1


CHANGES: dict[str, Callable[[str], object]] = {
    "move": lambda name: queue.move(name, 1.0), "kick": lambda name: queue.kick(name),
    "bury": lambda name: queue.bury(name), "update": lambda name: queue.update(name, size=1),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_locked_task_is_not_changed_behind_the_slots_back(app: QueueServer, change: Callable[[str], object]) -> None:
    locked(app)
    with pytest.raises(TaskLocked, match=r"task a of queue q is in a slot just now.*rearm"):
        change("a")
    assert (shown().state, shown().kwargs, places(app)) == (TaskState.CLAIMED, {}, 0)


@pytest.mark.parametrize("change", [*CHANGES.values(), lambda name: queue.delete(name)], ids=[*CHANGES, "delete"])
def test_unknown_task_is_said_to_be_unknown(app: QueueServer, change: Callable[[str], object]) -> None:
    put(app, "other")
    for name in ("never", "", "a" * 200):
        with pytest.raises(UnknownTask, match=r"is in queue q: it is done, deleted, or never was"):
            change(name)
    assert queue.stats().active == 1


ENDS: dict[str, Callable[[Holder], object]] = {
    "done with the next take": lambda slot: slot.take(0),
    "done": lambda slot: slot.settle({1: Outcome("done")}),
    "failed": lambda slot: slot.settle({1: FAIL}),
    "retried": lambda slot: slot.settle({1: Outcome("retry", delay=0.0)}),
    "postponed": lambda slot: slot.settle({1: Outcome("postpone", at=1.0)}),
    "buried": lambda slot: slot.settle({1: Outcome("bury", "bad")}),
    "crashed": lambda slot: slot.die({1: Outcome("crash", "killed", limit=9, base=1e6, cap=1e6)}),
    "lost": lambda slot: slot.die(rest="loss", why="lost"),
    "handed back": lambda slot: slot.release(leave=True),
    "expired": lambda slot: expire(slot),
}


def expire(slot: Holder) -> None:
    resume_long_ago(slot.server)
    slot.server.redis.zadd(slot.server.keys_of(QUEUE).part("locks"), {f"{slot.name}:{slot.seq}": 1})
    slot.server.reclaim(QUEUE, 60.0)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_nothing_brings_a_deleted_task_back(app: QueueServer, end: Callable[[Holder], object]) -> None:
    put(app, "a")
    slot = Holder(app, "s")
    assert slot.work() == ["a"]
    queue.delete("a")
    assert shown().afterwards == "gone"
    end(slot)
    slot.release()
    keys = app.keys_of(QUEUE)
    assert (queue.get("a"), places(app), queue.stats().tasks, queue.stats().deleted) == (None, 0, 0, 1)
    assert not app.redis.exists(keys.part("tasks"), keys.part("fate"), keys.part("again"))


def test_thousands_of_buried_tasks_are_kicked_by_count_the_longest_buried_first(app: QueueServer) -> None:
    names = [f"{n:04}" for n in range(2500)]
    for first in range(0, 2500, 1000):
        put(app, *names[first : first + 1000])
    slot = Holder(app, "s")
    for _ in range(3):
        assert slot.work(1000)
        slot.settle(dict.fromkeys(range(1, len(slot.ids) + 1), FAIL))
    for first in range(0, 2500, 500):
        app.redis.zadd(app.keys_of(QUEUE).part("buried"), dict.fromkeys(names[first : first + 500], 5000 - first))
        app.redis.zrem(app.keys_of(QUEUE).schedule(HANDLER), *names[first : first + 500])
    assert queue.kick(count=1200) == 1200
    kicked = {each.id for each in queue.find(state=TaskState.ENQUEUED)}
    assert kicked == {*names[1500:], *names[1000:1200]}
    assert app.redis.hlen(app.keys_of(QUEUE).part("fate")) == 1300
    assert queue.kick(count=10_000) == 1300
    assert (queue.stats().buried, queue.stats().active, queue.kick(count=5), queue.kick(count=0)) == (0, 2500, 0, 0)


def test_kick_wants_an_id_or_a_count(app: QueueServer) -> None:  # noqa: ARG001
    with pytest.raises(Error, match="either one task by its id or a count"):
        queue.kick()
    with pytest.raises(Error, match="either one task by its id or a count"):
        queue.kick("a", count=1)


def test_kicked_and_moved_tasks_ring_a_slot_that_waits(app: QueueServer) -> None:
    buried(app)
    put(app, "b", when="+9000000000")
    for change in (lambda: queue.kick("a"), lambda: queue.move("b", 1.0)):
        Holder(app, f"w{change}").take(wait=3.0)
        app.redis.delete(app.keys_of(QUEUE).wake)
        change()
        assert app.redis.llen(app.keys_of(QUEUE).wake) >= 1


@pytest.fixture
def resize() -> TaskFunction[..., None]:
    @task(queue=QUEUE, max_size="100K")
    def resize(photo: str, size: int = 128) -> None:
        """Nothing."""

    return resize


def test_new_arguments_are_checked_as_at_enqueue(app: QueueServer, resize: TaskFunction[..., None]) -> None:
    made = resize.using(id="a", collection="c").enqueue("a.jpg")
    with pytest.raises(ArgumentsError, match=r"task resize \(queue q, .*argument size: Expected `int`, got `str`"):
        queue.update("a", "b.jpg", size="large")
    with pytest.raises(TaskTooLarge, match="102,400 are allowed"):
        queue.update("a", "x" * 200_000)
    assert shown().kwargs == {"photo": "a.jpg"}
    queue.update("a", "b.jpg", size=7)
    assert (shown().kwargs, shown().collection) == ({"photo": "b.jpg", "size": 7}, "c")
    queue.update(made, "long" * 20_000)
    record = app.redis.hget(app.keys_of(QUEUE).part("tasks"), "a")
    assert record is not None
    assert record[8 + len(header("resize", 0, "c"))] == DEFLATED[0]
    assert shown().kwargs == {"photo": "long" * 20_000, "size": 7}
    pack = Holder(app, "s").take({"resize": 1}).pack
    assert pack is not None
    assert made.id == "a"


def test_task_of_a_handler_that_is_unknown_here_takes_named_arguments(app: QueueServer) -> None:
    put(app, "a")
    with pytest.raises(ArgumentsError, match="name the arguments"):
        queue.update("a", 1)
    queue.update("a", deep={"x": [1, None]})
    assert shown().kwargs == {"deep": {"x": [1, None]}}


def test_arguments_that_are_not_given_stay_as_they_were(app: QueueServer, resize: TaskFunction[..., None]) -> None:  # noqa: ARG001
    made = resize.enqueue("a.jpg", size=7)
    queue.update(made, photo="b.jpg")
    assert shown(made.id).kwargs == {"photo": "b.jpg", "size": 7}
    queue.update(shown(made.id), size=9)
    assert shown(made.id).kwargs == {"photo": "b.jpg", "size": 9}
    with pytest.raises(ArgumentsError, match="takes 2 positional arguments, 3 were given"):
        queue.update(made.id, 1, 2, 3)
    with pytest.raises(ArgumentsError, match="argument photo is given twice"):
        queue.update(made.id, "c.jpg", photo="d.jpg")
    with pytest.raises(ArgumentsError, match="unknown field `colour`"):
        queue.update(made.id, colour="red")
    with pytest.raises(UsageError, match="queue q: update: nothing is given to change"):
        queue.update(made.id)
    assert shown(made.id).kwargs == {"photo": "b.jpg", "size": 9}


def test_name_that_the_task_of_an_unknown_handler_does_not_have_is_refused(app: QueueServer) -> None:  # noqa: ARG001
    made = queue.put_many([{"n": 1, "x": 2}], handler="elsewhere")[0]
    with pytest.raises(ArgumentsError, match=r"task elsewhere .*has no argument y: it has n, x;"):
        queue.update(made, y=3)
    queue.update(made, x=3)
    assert shown(made.id).kwargs == {"n": 1, "x": 3}


@pytest.mark.parametrize("known", [True, False])
def test_arguments_of_a_pack_are_free_and_those_not_given_stay(app: QueueServer, known: bool) -> None:  # noqa: ARG001
    @task(queue=QUEUE)
    def index(tasks: list[Task]) -> None:
        """Nothing."""

    made = index.enqueue("a", 2, deep=True)
    if not known:
        REGISTRY.handlers.clear()
    queue.update(made, deep=False, new=[1])
    assert (shown(made.id).args, shown(made.id).kwargs) == (("a", 2), {"deep": False, "new": [1]})
    if known:
        queue.update(made, "b")
        assert shown(made.id).args == ("b", 2)


def test_an_argument_may_be_called_id(app: QueueServer) -> None:  # noqa: ARG001
    made = queue.put_many([{"id": 1}], handler="elsewhere")[0]
    queue.update(made, id=5)
    assert shown(made.id).kwargs == {"id": 5}


def test_task_replaced_by_one_of_another_collection_meanwhile_is_read_again(
    app: QueueServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(app, "a", collection="old")
    update = Inspector.update
    seen = []

    def late(self: Inspector, name: str, record: bytes, read: bytes) -> None:
        seen.append(record)
        if len(seen) == 1:
            put(app, "a", collection="new", own_ids=True, on_duplicate="replace")
        update(self, name, record, read)

    monkeypatch.setattr(Inspector, "update", late)
    queue.update("a", size=1)
    assert (shown().collection, shown().kwargs, len(seen)) == ("new", {"size": 1}, 2)


def test_change_that_another_has_made_meanwhile_is_not_lost(
    app: QueueServer,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    resize: TaskFunction[..., None],
) -> None:
    made, update = resize.enqueue("a.jpg", size=7), Inspector.update
    seen = []

    def late(self: Inspector, name: str, record: bytes, read: bytes) -> None:
        seen.append(record)
        if len(seen) == 1:
            queue.update(made, size=9)
        update(self, name, record, read)

    monkeypatch.setattr(Inspector, "update", late)
    queue.update(made, photo="b.jpg")
    assert (shown(made.id).kwargs, len(seen)) == ({"photo": "b.jpg", "size": 9}, 3)


def test_time_that_cannot_be_is_refused(app: QueueServer) -> None:
    put(app, "a")
    for when in ("soon", "-1", "+", "1e9"):
        with pytest.raises(QueueServerError, match="BADTIME"):
            Inspector(app, QUEUE).move("a", when)
    for at in (-1.0, 9e9, datetime.datetime(2030, 1, 1)):
        with pytest.raises(Error, match="queue q: at is"):
            queue.move("a", at)
    assert shown().state is TaskState.ENQUEUED


def test_full_server_refuses_an_update_and_allows_what_frees(app: QueueServer) -> None:
    put(app, *"abc")
    app.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueServerError, match=r"OOM|maxmemory"):
            queue.update("a", size=1)
        queue.delete("a")
        queue.bury("b")
        assert queue.kick(count=1) == 1
        queue.move("c", 1.0)
        queue.pause()
        assert queue.resume() == 0
        assert queue.drop() == 2
    finally:
        app.redis.config_set("maxmemory", 0)
    assert queue.stats().tasks == 0
