"""Log lines know where they come from, whoever writes them, and whatever the application does with its logging."""

import asyncio
import copy
import io
import logging
import os
import pathlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.runs import Runs, body

from qslots import Task, logcontext, task, tasks
from qslots.handlers import Registry
from qslots.logs import _Formatter
from qslots.scoreboard import Record, Scoreboard

log = logging.getLogger("shop")
ALL = "%(task_id)s %(queue)s %(handler)s %(server)s %(slot)s %(message)s"


@pytest.fixture
def record(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Record]:
    monkeypatch.setattr(tasks, "REGISTRY", Registry())
    board = Scoreboard.create(str(tmp_path / "board"))
    yield board.record(0)
    os.close(board.descriptor)


@pytest.fixture
def carried() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    logcontext.carry()
    logcontext.carry("web-7", 3)
    yield
    logging.setLogRecordFactory(before)
    logcontext._PLACE[:] = ["-", "-"]


@pytest.fixture
def lines(carried: None) -> Iterator[Callable[[], list[str]]]:  # noqa: ARG001
    """What the application's own handler has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(ALL))
    log.addHandler(handler)
    yield lambda: stream.getvalue().splitlines()
    log.removeHandler(handler)


def single(n: int) -> None:
    log.warning("at %d", n)


async def alone(n: int) -> None:
    await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(log.warning, "at %d", n))


def several(pack: list[Task]) -> None:
    log.warning("at %s", pack[0].args[0])


@pytest.mark.parametrize(("function", "names"), [(single, ["t1", "t2"]), (alone, ["t1", "t2"]), (several, ["-"])])
def test_every_line_has_its_task_and_place(
    record: Record, lines: Callable[[], list[str]], function: Callable[..., Any], names: list[str]
) -> None:
    made = task(queue="photos")(function)
    Runs(record, made, body(made, 1), body(made, 2)).run()
    log.warning("idle")
    at = [f"{name} photos {function.__name__} web-7 3 at {n}" for n, name in enumerate(names, 1)]
    assert sorted(lines()) == sorted([*at, "- - - web-7 3 idle"])


def test_what_the_application_says_under_these_names_goes_before_ours(lines: Callable[[], list[str]]) -> None:
    log.warning("mine", extra={"queue": "of its own", "task_id": 7})
    assert lines() == ["7 of its own - web-7 3 mine"]


@pytest.mark.usefixtures("carried")
def test_line_that_is_formatted_later_knows_where_it_was_logged(record: Record) -> None:
    kept: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    handler = Kept()
    log.addHandler(handler)
    made = task(queue="photos")(single)
    Runs(record, made, body(made, 1)).run()
    log.removeHandler(handler)
    [one] = kept
    assert (one.task_id, one.queue, one.slot) == ("t1", "photos", "3")  # type: ignore[attr-defined]
    for each in (copy.copy(one), pickle.loads(pickle.dumps(one)), one, one):
        assert logging.Formatter(ALL).format(each) == "t1 photos single web-7 3 at 1"
    assert not hasattr(one, "nothing")
    assert "_place" not in vars(one)


def test_record_factory_of_the_application_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shouting(logging.LogRecord):
        def getMessage(self) -> str:  # noqa: N802 - logging's name
            return super().getMessage().upper()

    monkeypatch.setattr(logging, "_logRecordFactory", Shouting)
    logcontext.carry("web-7", 3)
    made = log.makeRecord("shop", logging.INFO, "", 0, "hello", (), None)
    assert isinstance(made, Shouting)
    assert logging.Formatter("%(server)s %(message)s").format(made) == "web-7 HELLO"


@pytest.mark.usefixtures("carried")
def test_our_own_lines_name_slot_and_task_once(record: Record) -> None:
    said: list[str] = []
    formatter = _Formatter("slot 3 of web-7")

    @task(queue="photos")
    def work(n: int) -> None:
        for text in ("at %d", "t1 is at %d"):
            made = log.makeRecord("qslots.slot", logging.INFO, "", 0, text, (n,), None)
            said.append(formatter.format(made).partition(",")[2].partition(" ")[2])

    Runs(record, work, body(work, 1)).run()
    assert said == ["INFO slot 3 of web-7 [photos t1]: at 1", "INFO slot 3 of web-7: t1 is at 1"]
