"""Tasks as applications put them: ids, times, duplicates, children of a running task."""

import datetime
from collections.abc import Iterator

import msgspec
import pytest
from support.holder import Holder, ids, micros_now

from qslots import client, tasks
from qslots.errors import ArgumentsError, DuplicateTask
from qslots.handlers import Registry
from qslots.queues import Queue
from qslots.queueserver import QueueServer
from qslots.records import body
from qslots.running import RUNNING
from qslots.tasks import TaskFunction


@pytest.fixture(autouse=True)
def connected(server: QueueServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(client, "_current", client.connect(server.url))
    monkeypatch.setattr(tasks, "REGISTRY", Registry())
    yield
    RUNNING.begin(None)


@pytest.fixture
def resize() -> TaskFunction[..., None]:
    @tasks.task(queue="pictures")
    def resize(photo: str, size: int = 128) -> None:
        """Nothing."""

    return resize


def waiting(server: QueueServer) -> list[str]:
    answer = Holder(server, "reader", "pictures").take({"resize": 1000})
    return ids(answer)


def test_enqueued_task_is_in_the_queue_with_its_arguments(server: QueueServer, resize: TaskFunction[..., None]) -> None:
    made = resize.enqueue("a.jpg", size=64)
    assert (made.queue, made.handler, made.args, made.kwargs) == ("pictures", "resize", ("a.jpg",), {"size": 64})
    pack = Holder(server, "s", "pictures").take({"resize": 9}).pack
    assert pack is not None
    assert [each.decode() for each in pack.ids] == [made.id]
    assert msgspec.msgpack.decode(body(pack.records[0])) == {"photo": "a.jpg", "size": 64}


def test_many_are_put_a_thousand_at_a_time_in_order(server: QueueServer, resize: TaskFunction[..., None]) -> None:
    made = resize.enqueue_many([(f"{n}.jpg",) if n % 2 else {"photo": f"{n}.jpg"} for n in range(2500)])
    assert len(made) == 2500
    assert Queue("pictures").stats().active == 2500
    assert waiting(server) == [task.id for task in made[:1000]]


def test_nothing_of_a_trip_is_stored_when_one_call_does_not_fit(resize: TaskFunction[..., None]) -> None:
    with pytest.raises(ArgumentsError, match="argument size"):
        resize.enqueue_many([("a.jpg",), ("b.jpg", "large")])
    assert Queue("pictures").stats().put == 0


def test_delay_and_time_are_on_the_schedule(server: QueueServer, resize: TaskFunction[..., None]) -> None:
    moment = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    later, then = resize.using(delay="10m").enqueue("a"), resize.using(at=moment).enqueue("b")
    past = resize.using(at=1.5).enqueue("c")
    schedule = server.keys_of("pictures").schedule("resize")
    scores = {name.decode(): score for name, score in server.redis.zrange(schedule, 0, -1, withscores=True)}
    assert scores[then.id] == moment.timestamp() * 1e6
    assert scores[past.id] == 1.5e6
    assert abs(scores[later.id] - micros_now(server) - 600e6) < 5e6


def test_own_id_used_twice_is_refused_with_the_remedy_or_ignored(resize: TaskFunction[..., None]) -> None:
    assert resize.using(id="photo-1").enqueue("a").id == "photo-1"
    with pytest.raises(DuplicateTask, match=r"photo-1 is in queue pictures already.*on_duplicate='ignore'"):
        resize.using(id="photo-1").enqueue("b")
    resize.using(id="photo-1", on_duplicate="ignore").enqueue("b")
    assert Queue("pictures").stats().active == 1


def test_children_of_a_task_that_runs_again_are_not_doubled(resize: TaskFunction[..., None]) -> None:
    made = []
    for _ in range(2):
        RUNNING.begin("parent-1")
        made.append([resize.enqueue("a").id, resize.enqueue("a").id, resize.enqueue_many([("b",), ("c",)])[1].id])
    assert made[0] == made[1]
    assert Queue("pictures").stats().active == 4
    RUNNING.begin("parent-2")
    resize.enqueue("a")
    assert Queue("pictures").stats().active == 5


def test_children_that_differ_from_those_of_the_first_run_are_all_there(resize: TaskFunction[..., None]) -> None:
    for page in range(3):  # a task that goes on where it left off, while its earlier children still wait
        RUNNING.begin("parent-1")
        resize.enqueue(f"page-{page}")
    assert Queue("pictures").stats().active == 3


def test_pack_handlers_tasks_take_any_arguments(server: QueueServer) -> None:
    @tasks.task(queue="pictures", name="resize")
    def index(pack: list[tasks.Task]) -> None:
        """Nothing."""

    index.enqueue("a", 1, deep={"b": [2]})
    assert len(waiting(server)) == 1
