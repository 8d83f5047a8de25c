"""Whatever a caller of the library gets wrong is refused at the call: an error of qslots, on one line, nothing sent."""

import datetime
import functools
from collections.abc import Callable
from typing import Any

import pytest

import qslots
from qslots import Error, Postpone, Queue, Retry, Task, TaskInfo, TaskState, UsageError, client, given
from qslots.handlers import REGISTRY

later: Any = Queue("later")
one: Any = Task("t", "later", "h")
Calls = dict[str, tuple[Callable[[], object], str]]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No queue server answers: what is refused here is refused before anything is sent."""
    monkeypatch.setattr(client, "_current", None)
    monkeypatch.setattr(client, "_overrides", {})
    for name in ("handlers", "_said", "_queues"):
        monkeypatch.setattr(REGISTRY, name, {})
    qslots.connect("unix:///nowhere/redis.sock")


def resize() -> Any:
    """A handler of this process."""

    @qslots.task
    def resize(photo: str, size: int = 128) -> None:
        """Nothing."""

    return resize


def raising(error: Any, *args: Any, **kwargs: Any) -> Callable[[], object]:
    return lambda: error(*args, **kwargs)


CALLS: Calls = {
    "find state": (lambda: later.find(state="enqueue"), "queue later: find: state is 'enqueue': .* new, enqueued, "),
    "find state 5": (lambda: later.find(state=5), "queue later: find: state is 5: write a TaskState"),
    "find done": (lambda: later.find(state=TaskState.SUCCESS), "state success are not listed: what is done is deleted"),
    "find limit": (lambda: later.find(limit="3"), "find: limit is '3': write a whole number, 0 or more"),
    "find text": (lambda: later.find(text=3), "find: text is 3: write a text"),
    "find collection": (lambda: later.find(collection=3), "find: collection is 3: write its name"),
    "get None": (lambda: later.get(None), "queue later: id is None: write the task's id as text, or give a Task"),
    "get list": (lambda: later.get(["a"]), r"queue later: id is \['a'\]"),
    "get other": (lambda: Queue("x").get(one), r"queue x: task t is of queue later: use Queue\('later'\)"),
    "move": (lambda: later.move(5, 1), "queue later: id is 5"),
    "move at": (lambda: later.move("a", "1h"), r"queue later: at is '1h': write a point in time"),
    "update": (lambda: later.update(5, a=1), "queue later: id is 5"),
    "delete": (lambda: later.delete(b"a"), "queue later: id is b'a'"),
    "half": (lambda: later.delete("\ud800"), "halves of characters"),
    "bury": (lambda: later.bury("a", why=3), "queue later: bury: why is 3: write a text"),
    "kick id": (lambda: later.kick(3), "queue later: id is 3"),
    "kick -1": (lambda: later.kick(count=-1), "queue later: kick: count is -1: write a whole number, 0 or more"),
    "kick x": (lambda: later.kick(count="x"), "queue later: kick: count is 'x'"),
    "take": (lambda: later.take("3"), "queue later: take: count is '3': write a whole number, 1 to 1,000"),
    "take timeout": (lambda: later.take(timeout="soon"), "queue later: take: timeout is 'soon'"),
    "pause": (lambda: later.pause(3), "queue later: collection is 3"),
    "pause handler": (lambda: later.pause(handler=3), "queue later: the handler 3"),
    "drop": (lambda: later.drop(3), "queue later: collection is 3"),
    "drop nothing": (lambda: later.drop(""), "the name of a collection has 1 to 64 bytes"),
    "drop progress": (lambda: later.drop(progress=3), "drop: progress is 3"),
    "Queue": (lambda: Queue(3), "queue 3: use 1 to 64 letters"),  # type: ignore[arg-type]
    "put_many": (lambda: later.put_many([1]), r"task later: each of many calls is a tuple .*: write \(1,\) instead"),
    "put_many ids": (lambda: later.put_many([{}], ids="a"), "task later: ids is 'a': write a list of texts"),
    "put_many id": (lambda: later.put_many([{}], ids=[1]), "task later: id is 1: write a text"),
    "put_many names": (lambda: later.put_many([{1: 2}]), "task later: the name of an argument is 1"),
    "put_many 5": (lambda: later.put_many(5), "task later: enqueue a list of calls, each a tuple or a mapping, not 5"),
    "using": (lambda: resize().using(collection=3), "task resize: collection is 3: write its name as text"),
    "using id": (lambda: resize().using(id=3), "task resize: id is 3: write a text"),
    "using at": (lambda: resize().using(at="1h"), "task resize: at is '1h': .*; for a time from now write delay='1h'"),
    "using other": (
        lambda: resize().using(countdown=5), "task resize: using does not know 'countdown': did you mean delay?"
    ),
    "using colection": (lambda: resize().using(colection="a"), "using does not know 'colection': did you mean collect"),
    "using yes": (
        lambda: resize().using(with_settlement="yes"), "task resize: with_settlement is 'yes': write True or False"
    ),
    "using duplicate": (lambda: resize().using(on_duplicate=["x"]), "task resize: on_duplicate is"),
    "many": (lambda: resize().enqueue_many([1, 2]), r"task resize: each of many calls is a tuple .* write \(1,\)"),
    "many mapping": (lambda: resize().enqueue_many({"a": 1}), "task resize: enqueue a list of calls"),
    "result": (lambda: one.result(timeout="soon"), "task t: result: timeout is 'soon'"),
    "retry": (lambda: one.retry("soon"), "task t: retry: delay is 'soon'"),
    "retry why": (lambda: one.retry(why=3), "task t: retry: why is 3"),
    "postpone": (lambda: one.postpone("1h"), r"task t: postpone: at is '1h': .*a time from now write postpone\(delay="),
    "postpone both": (lambda: one.postpone(5, delay="1h"), "task t: postpone: give a point in time, or delay='1h'"),
    "bury task": (lambda: one.bury(3), "task t: bury: why is 3"),
    "Retry": (raising(Retry, "soon"), "Retry: delay is 'soon'"),
    "Postpone": (raising(Postpone, "1h"), r"Postpone: at is '1h': .* from now write raise Postpone\(delay='1h'\)"),
    "Postpone both": (raising(Postpone, 5, delay="1h"), "Postpone: give at or delay, not both"),
    "task": (raising(qslots.task, "mail"), r"@task\('mail'\): it takes a function; .* @task\(queue='NAME'\)"),
    "connect http": (raising(qslots.connect, "http://host"), "queue server 'http://host': write redis://, rediss://"),
    "connect path": (raising(qslots.connect, "/tmp/x.sock"), "queue server '/tmp/x.sock': write unix:///tmp/x.sock"),
    "connect None": (raising(qslots.connect, None), "queue server None: write a URL as text, such as redis://host"),
    "connect line": (raising(qslots.connect, "redis://h\n"), "'redis://h.n': it has a line break"),
    "connect unix": (raising(qslots.connect, "unix://"), "'unix://': write the path of the socket"),
    "task partial": (raising(qslots.task, functools.partial(print)), "the handler name None: use 1 to 64 letters"),
    "task class": (raising(qslots.task, int), "the parameters of int cannot be checked"),
    "connect 0": (raising(qslots.connect, "redis://h", timeout=0), "connect: timeout is 0: at least 0.001 s"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_wrong_argument_is_refused_at_the_call(call: Callable[[], object], message: str) -> None:
    with pytest.raises(Error, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert not isinstance(refused.value, qslots.QueueServerError)


def test_url_that_is_refused_leaves_the_one_before() -> None:
    before = client.current()
    with pytest.raises(Error):
        qslots.connect("http://host")
    assert client.current() is before


@pytest.mark.parametrize("option", [
    "priority", "min_slots", "target_delay", "lock", "memory", "rate", "durability", "dedupe_window", "max_size",
    "batch", "time_limit", "max_failures", "max_crashes", "backoff", "never_retry", "keep_result",
])  # fmt: skip
@pytest.mark.parametrize("value", ["x", [], {}, -1, 1e400, "9" * 400, object()], ids=lambda value: str(value)[:9])
def test_option_that_cannot_be_is_refused_by_its_name(option: str, value: object) -> None:
    with pytest.raises(qslots.HandlerError, match=rf"test_given\.py:\d+: {option} "):
        qslots.task(name="made", **{option: value})(lambda: None)


def test_state_is_taken_by_itself_its_value_and_its_name() -> None:
    assert given.state(None, "") is None
    for value in (TaskState.FATAL_FAILURE, "fatal_failure", "FATAL_FAILURE"):
        assert given.state(value, "") is TaskState.FATAL_FAILURE


def test_task_stands_for_its_id() -> None:
    info = TaskInfo("i", "later", "h", "", TaskState.NEW, None, None)
    assert [later._id(each) for each in ("a", one, info)] == ["a", "t", "i"]


def test_task_of_a_pack_is_postponed_by_a_point_in_time_or_a_delay() -> None:
    one.postpone(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
    assert one.outcome.at == 4102444800e6
    one.postpone(delay="1h")
    assert (one.outcome.at, one.outcome.delay) == (None, 3600e6)


def test_usage_error_is_a_value_error_too() -> None:
    assert issubclass(UsageError, ValueError)
