"""``using(with_settlement=True)`` and traces, from the handler's side: what waits for success, what is refused."""

import asyncio
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.holder import Holder, stats

from qslots import Bury, Postpone, Queue, ResultTimeout, Retry, Task, client, current_task, task
from qslots.cascades import NO_CASCADE, Cascade
from qslots.errors import ArgumentsError, TaskTooLarge, UsageError
from qslots.outcomes import Outcome
from qslots.queueserver import Kept, QueueServer
from qslots.scoreboard import Scoreboard
from qslots.servers import QueueServers
from qslots.tasks import TaskFunction
from qslots.worker import Worker

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def child(app: QueueServer) -> TaskFunction[..., Any]:  # noqa: ARG001
    @task(queue="children", max_size="1K")
    def child(n: int, text: str = "") -> None: ...

    return child


@pytest.fixture
def board(tmp_path: pathlib.Path) -> Iterator[Scoreboard]:
    made = Scoreboard.create(str(tmp_path / "board"))
    yield made


@pytest.fixture
def run(app: QueueServer, board: Scoreboard) -> Callable[..., None]:
    """Runs what waits of a handler as a slot does."""
    record, slots = board.record(0), itertools.count()

    def run(function: TaskFunction[..., Any]) -> None:
        holder = Holder(app, f"s{next(slots)}", "parents")
        taken = holder.take({function.handler.name: 100}).pack
        assert taken is not None
        holder.held = holder.seq
        record.hold(holder.seq, b"parents@main", function.handler.name.encode(), len(taken.ids))

        def report(outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
            return holder.settle(outcomes, results=kept, cascade=cascade)

        worker = Worker(record, report, lambda _: True)
        worker.run(function.handler, taken, app.url)
        worker.close()
        holder.release(range(1, len(taken.ids) + 1))

    return run


def waiting() -> int:
    return Queue("children").stats().tasks


def test_child_is_put_when_its_parent_has_succeeded(run: Callable[..., None], child: TaskFunction[..., Any]) -> None:
    seen = []

    @task(queue="parents")
    def parent() -> None:
        made = child.using(with_settlement=True, delay="1h").enqueue(1)
        child.using(with_settlement=True).enqueue_many([(n,) for n in range(2, 5)])
        seen.append((waiting(), made.queue))

    parent.enqueue()
    run(parent)
    assert seen == [(0, "children")]
    assert (Queue("children").stats().active, Queue("children").stats().inactive) == (3, 1)
    assert Queue("parents").stats().done == 1


ENDS = [Retry("1h"), Postpone(delay="1h"), Bury("no"), ValueError("x"), SystemExit(1)]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_nothing_is_sent_by_a_parent_that_ends_otherwise(
    run: Callable[..., None], child: TaskFunction[..., Any], end: BaseException
) -> None:
    @task(queue="parents")
    def parent(good: bool) -> None:
        child.using(with_settlement=True).enqueue(int(good))
        if not good:
            raise end

    parent.enqueue_many([(False,), (True,), (False,)])
    run(parent)
    assert [info.kwargs["n"] for info in Queue("children").find()] == [1]
    assert Queue("parents").stats().done == 1


def test_children_of_a_pack_handler_belong_to_the_whole_pack(
    run: Callable[..., None], child: TaskFunction[..., Any]
) -> None:
    @task(queue="parents", backoff="1h..1h")
    def together(tasks: list[Task]) -> None:
        child.using(with_settlement=True).enqueue(len(tasks))
        for each in tasks:
            if each.args[0] != "good":
                each.retry("1h")
        if tasks[0].args[0] == "raises":
            raise ValueError

    for words, done, sent in ((["bad", "good", "good"], 2, 1), (["bad", "bad"], 2, 1), (["raises", "good"], 2, 1)):
        together.enqueue_many([(word,) for word in words])
        run(together)
        assert (Queue("parents").stats().done, waiting()) == (done, sent), words


def test_children_of_coroutines_belong_each_to_its_own_task(
    run: Callable[..., None], child: TaskFunction[..., Any]
) -> None:
    @task(queue="parents")
    async def push(number: int) -> None:
        child.using(with_settlement=True).enqueue(number)
        await asyncio.sleep(0)
        await asyncio.to_thread(child.using(with_settlement=True).enqueue, number + 100)
        if number % 2:
            raise ValueError

    @task(queue="parents", name="all")
    async def together(tasks: list[Task]) -> None:
        await asyncio.gather(asyncio.to_thread(child.using(with_settlement=True).enqueue, len(tasks) + 1000))

    push.enqueue_many([(number,) for number in range(6)])
    together.enqueue()
    run(push)
    run(together)
    assert {info.kwargs["n"] for info in Queue("children").find()} == {0, 2, 4, 100, 102, 104, 1001}


def test_result_of_what_has_not_been_sent_yet_is_not_waited_for(run: Callable[..., None]) -> None:
    found: list[str] = []

    @task(queue="children", keep_result="10m")
    def add(a: int) -> int: ...

    @task(queue="parents")
    def ask() -> None:
        kept = add.using(with_settlement=True).enqueue(1)
        with pytest.raises(UsageError) as error:
            kept.result()
        found.append(str(error.value))
        with pytest.raises(ResultTimeout):
            add.enqueue(2).result(0)

    ask.enqueue()
    run(ask)
    assert len(found) == 1
    assert "it has not been sent yet: with_settlement sends it when the task that runs has succeeded" in found[0]


def test_outside_of_a_task_it_is_sent_at_once(child: TaskFunction[..., Any]) -> None:
    child.using(with_settlement=True).enqueue(1)
    assert waiting() == 1


def test_second_run_of_a_parent_puts_the_same_children(run: Callable[..., None], child: TaskFunction[..., Any]) -> None:
    made = []

    @task(queue="parents")
    def parent() -> None:
        made.append(child.using(with_settlement=True, traceparent=f"00-{len(made):032x}-{1:016x}-01").enqueue(1).id)

    made.append("x")
    for _ in range(2):
        parent.using(id="p", on_duplicate="rearm").enqueue()
        run(parent)
    assert made[1] == made[2]
    assert waiting() == 1


@pytest.mark.parametrize("on_duplicate", ["refuse", "replace", "rearm"])
def test_own_ids_of_which_nobody_could_be_told_are_refused(child: TaskFunction[..., Any], on_duplicate: str) -> None:
    with pytest.raises(UsageError, match="takes on_duplicate='ignore'"):
        child.using(id="a", on_duplicate=on_duplicate, with_settlement=True)
    with pytest.raises(UsageError, match="takes on_duplicate='ignore'"):
        child.using(on_duplicate=on_duplicate, with_settlement=True).enqueue_many([(1,)], ids=["a"])


def test_own_id_that_is_there_is_left_alone(run: Callable[..., None], child: TaskFunction[..., Any]) -> None:
    @task(queue="parents")
    def parent(n: int) -> None:
        child.using(id="one", on_duplicate="ignore", with_settlement=True).enqueue(n)

    parent.enqueue_many([(1,), (2,)])
    run(parent)
    assert [(info.id, info.kwargs) for info in Queue("children").find()] == [("one", {"n": 1})]


def test_what_is_wrong_is_refused_in_the_handler_at_once(
    run: Callable[..., None], child: TaskFunction[..., Any]
) -> None:
    caught: list[str] = []

    @task(queue="parents")
    def parent() -> None:
        later = child.using(with_settlement=True)
        for kind, call in (
            (ArgumentsError, lambda: later.enqueue("no number")),
            (TaskTooLarge, lambda: later.enqueue(1, text="x" * 2000)),
            (UsageError, lambda: later.enqueue_many([(n,) for n in range(1001)])),
        ):
            with pytest.raises(kind) as error:
                call()
            caught.append(str(error.value))

    parent.enqueue()
    run(parent)
    assert len(caught) == 3
    assert "one task keeps at most 1,000 tasks of 4 MB" in caught[2]
    assert waiting() == 1000, "what fitted was kept"


def test_queues_that_do_not_share_a_server_are_named(
    run: Callable[..., None], child: TaskFunction[..., Any], app: QueueServer, second: QueueServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    @task(queue="parents", max_failures=1)
    def parent() -> None:
        child.using(with_settlement=True).enqueue(1)

    places: dict[str, tuple[str, ...]] = {"children": ("b",)}
    servers = QueueServers({"main": app.url, "b": second.url}, places, name="app")
    monkeypatch.setattr(client, "_current", servers)
    parent.enqueue()
    run(parent)
    [info] = Queue("parents").find()
    assert "one queue server for both: queue parents is settled on main, children is on b" in info.last_error
    monkeypatch.setattr(servers, "_places", {"children": ("b", "main")})
    parent.enqueue()
    run(parent)
    assert (stats(app, "children").tasks, stats(second, "children").tasks) == (1, 0)


def test_trace_is_carried_to_the_handler_and_on_to_its_children(
    run: Callable[..., None], child: TaskFunction[..., Any]
) -> None:
    seen = []

    @task(queue="parents")
    def parent() -> None:
        running = current_task()
        assert running is not None
        seen.append(running.traceparent)
        child.enqueue(1)
        child.using(with_settlement=True).enqueue(2)
        child.using(traceparent=TRACE.replace("b7ad", "0000")).enqueue(3)

    assert parent.using(traceparent=TRACE).enqueue().traceparent == TRACE
    run(parent)
    assert seen == [TRACE]
    traces = {info.kwargs["n"]: info.traceparent for info in Queue("children").find()}
    assert traces == {1: TRACE, 2: TRACE, 3: TRACE.replace("b7ad", "0000")}
    parent.enqueue()
    run(parent)
    assert seen == [TRACE, None]


def test_pack_handlers_see_the_trace_of_each_task(run: Callable[..., None], child: TaskFunction[..., Any]) -> None:
    seen: list[str | None] = []

    @task(queue="parents")
    def together(tasks: list[Task]) -> None:
        seen.extend(each.traceparent for each in tasks)
        child.enqueue(len(tasks))

    together.using(traceparent=TRACE).enqueue_many([("a",), ("b",)])
    run(together)
    together.using(traceparent=TRACE).enqueue()
    together.enqueue()
    run(together)
    assert (seen[:2], set(seen[2:])) == ([TRACE] * 2, {TRACE, None})
    assert {info.traceparent for info in Queue("children").find()} == {TRACE, None}


def test_trace_stays_when_arguments_are_changed(child: TaskFunction[..., Any]) -> None:
    made = child.using(traceparent=TRACE).enqueue(1, text="a")
    Queue("children").update(made.id, text="b")
    info = Queue("children").get(made.id)
    assert info is not None
    assert (info.traceparent, info.kwargs) == (TRACE, {"n": 1, "text": "b"})


@pytest.mark.parametrize("text", [
    "", 7, TRACE.upper(), TRACE[:-1], TRACE + "-more", TRACE.replace("00-", "ff-", 1), "00-" + "0" * 32 + TRACE[35:],
    TRACE[:36] + "0" * 16 + "-01",
])  # fmt: skip
def test_what_is_no_traceparent_is_refused(child: TaskFunction[..., Any], text: Any) -> None:
    with pytest.raises(UsageError, match=r"task child: traceparent is .*: write 00-TRACE-SPAN-FLAGS"):
        child.using(traceparent=text)
