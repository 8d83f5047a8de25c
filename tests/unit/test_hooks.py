"""Hooks: when each is called, with what, and what becomes of a task when one raises."""

import asyncio
import inspect
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from support.runs import OURS, Runs, body

from qslots import Bury, Error, HandlerError, Postpone, Retry, Task, current_task, hooks, task, tasks
from qslots.handlers import Registry
from qslots.hooks import HOOKS, Hooks
from qslots.outcomes import Outcome
from qslots.records import Fate
from qslots.scoreboard import Record

ME = hooks.Slot("web-7", 3, 1)


@pytest.fixture(autouse=True)
def none_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "REGISTRY", Registry())
    for name in vars(Hooks()):
        monkeypatch.setattr(HOOKS, name, [])


@pytest.fixture
def seen() -> list[Any]:
    """What hooks and handlers were called with, all hooks of tasks being registered."""
    found: list[Any] = []
    hooks.before_task(lambda task: found.append(("before", task.id)))
    hooks.after_task(lambda task, outcome: found.append(("after", task.id, outcome)))
    hooks.on_failure(lambda task, error, outcome: found.append(("failure", task.id, type(error).__name__, outcome)))
    return found


def ends(n: int) -> None:
    if n > 1:
        raise {2: Retry("1s"), 3: Postpone(delay="1s"), 4: Bury("no"), 5: ValueError("bad")}[n]


def single(n: int) -> None:
    ends(n)


async def alone(n: int) -> None:
    await asyncio.sleep(0)
    ends(n)


ENDED = {
    "t1": [("after", "t1", "done")],
    "t2": [("after", "t2", "retry")],
    "t3": [("after", "t3", "postponed")],
    "t4": [("failure", "t4", "Bury", "buried"), ("after", "t4", "buried")],
    "t5": [("failure", "t5", "ValueError", "failed"), ("after", "t5", "failed")],
    "t6": [("failure", "t6", "ValueError", "buried"), ("after", "t6", "buried")],
}


@pytest.mark.parametrize("function", [single, alone])
def test_hooks_are_called_around_each_task_in_order(
    record: Record, seen: list[Any], function: Callable[..., Any]
) -> None:
    made = task(function)
    runs = Runs(record, made, *(body(made, n) for n in (1, 2, 3, 4, 5, 5)))
    runs.pack.fates[5] = Fate(failures=4)
    assert runs.run() == (6, True)
    for name, after in ENDED.items():
        assert [each for each in seen if each[1] == name] == [("before", name), *after]


def test_hooks_of_a_pack_handler_are_called_for_each_task(record: Record, seen: list[Any]) -> None:
    @task
    def index(pack: list[Task]) -> None:
        seen.append(("handler", len(pack)))
        pack[0].bury("no")
        if len(pack) == 3:
            raise ValueError

    Runs(record, index, *(body(index, n) for n in (1, 2))).run()
    assert seen == [
        ("before", "t1"), ("before", "t2"), ("handler", 2), ("failure", "t1", "Bury", "buried"),
        ("after", "t1", "buried"), ("after", "t2", "done"),
    ]  # fmt: skip
    seen.clear()
    Runs(record, index, *(body(index, n) for n in (1, 2, 3))).run()
    assert seen[4:] == [("after", "t1", "buried"), ("after", "t2", "lost"), ("after", "t3", "lost")]


async def several_async(pack: list[Task]) -> None:
    assert [each.id for each in pack] == ["t2"]


def several(pack: list[Task]) -> None:
    assert [each.id for each in pack] == ["t2"]


@pytest.mark.parametrize("function", [single, alone, several, several_async])
def test_what_a_hook_raises_before_a_task_ends_it_as_if_the_handler_had(
    record: Record, function: Callable[..., Any]
) -> None:
    @hooks.before_task
    def maintenance(task: Task) -> None:
        if task.id == "t1":
            raise Postpone(delay="5m")
        if task.id == "t3":
            raise SystemExit(3)

    made = task(function)
    runs = Runs(record, made, *(body(made, 1) for _ in range(3)))
    assert runs.run() == (3, True)
    assert {at: outcome.kind for at, outcome in runs.told.items()} == {1: "postpone", 3: "fail"}
    assert OURS not in runs.told[3].why
    assert "in maintenance" in runs.told[3].why


@pytest.mark.parametrize("function", [single, alone])
def test_what_other_hooks_raise_is_logged_and_changes_nothing(
    record: Record, function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    @hooks.after_task
    def after(task: Task, outcome: str) -> None:
        raise SystemExit(f"{task} {outcome}")

    @hooks.on_failure
    def failure(task: Task, error: BaseException, outcome: str) -> None:
        raise ValueError(task, error, outcome)

    made = task(function)
    runs = Runs(record, made, body(made, 1), body(made, 5), b"garbage")
    assert runs.run() == (3, True)
    assert {at: outcome.kind for at, outcome in runs.told.items()} == {2: "fail", 3: "bury"}
    said = [each.getMessage() for each in caplog.records]
    assert sum("after raised; nothing is changed by it" in line for line in said) == 3
    assert sum("failure raised; nothing is changed by it" in line for line in said) == 2


@pytest.mark.parametrize("function", [single, alone])
def test_hooks_know_the_task_that_runs(record: Record, function: Callable[..., Any]) -> None:
    found: list[Task | None] = []
    hooks.before_task(lambda _: found.append(current_task()))
    hooks.after_task(lambda *_: found.append(current_task()))
    hooks.on_failure(lambda *_: found.append(current_task()))
    made = task(function)
    Runs(record, made, body(made, 5)).run()
    assert [(each.id, each.args) for each in found if each] == [("t1", (5,))] * 3


def test_slot_that_a_hook_refuses_to_begin_says_why() -> None:
    called: list[hooks.Slot] = []
    hooks.after_fork(called.append)

    @hooks.after_fork
    def connect(slot: hooks.Slot) -> None:
        raise ConnectionError(f"no database\nfor {slot.index}")

    hooks.after_fork(called.append)
    with pytest.raises(Error, match=r"^hook after_fork: .*connect raised ConnectionError: no database for 3$"):
        HOOKS.born(ME)
    assert called == [ME]


def test_hook_that_could_not_be_called_is_refused_where_it_is_declared() -> None:
    async def later(_: Task) -> None: ...

    for wrong in (later, "text"):
        with pytest.raises(HandlerError, match=r"the hook before_task is .*: write a plain function \(task\)"):
            hooks.before_task(wrong)  # type: ignore[type-var]


def two(task: Task, outcome: str) -> None: ...
def one(task: Task) -> None: ...
def none() -> None: ...


@pytest.mark.parametrize(("register", "function", "message"), [
    (hooks.before_task, none, "none() -> None: too many positional arguments; write a plain function (task)"),
    (hooks.before_task, two, "missing a required argument: 'outcome'; write a plain function (task)"),
    (hooks.after_task, one, "write a plain function (task, outcome)"),
    (hooks.on_failure, two, "write a plain function (task, error, outcome)"),
    (hooks.after_fork, none, "write a plain function (slot)"),
    (hooks.before_exit, none, "write a plain function (slot)"),
    (hooks.warm_up, one, "write a plain function ()"),
])  # fmt: skip
def test_hook_of_other_parameters_is_refused_where_it_is_declared(register: Any, function: Any, message: str) -> None:
    with pytest.raises(HandlerError) as error:
        register(function)
    assert str(error.value).startswith(f"{__file__}:{function.__code__.co_firstlineno}: the hook ")
    assert str(error.value).endswith(message)


def test_ends_have_a_word_each() -> None:
    fail = Outcome("fail", limit=3)
    assert [hooks.word(fail, Fate(failures=n)) for n in (0, 1, 2, 3)] == ["failed", "failed", "buried", "buried"]
    assert [hooks.word(each, Fate()) for each in (None, Outcome("done"), Outcome("loss"))] == ["done", "done", "lost"]


def test_the_page_of_hooks_has_every_hook_with_its_parameters() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
    for name in vars(Hooks()):
        said = inspect.getdoc(getattr(hooks, name)) or ""
        assert said.endswith(f"``function({page.partition(f'| `{name}(')[2].partition('`')[0]}``.")
