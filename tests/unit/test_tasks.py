"""``@task``: what it makes of a function, how a pack of tasks is run, and what is told of their ends."""

import datetime
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from support.runs import Runs, body

from qslots import tasks
from qslots.errors import ArgumentsError, Error, HandlerError
from qslots.handlers import Registry
from qslots.outcomes import Bury, Outcome, Retry
from qslots.queries import Owner
from qslots.records import Fate
from qslots.running import RUNNING
from qslots.scoreboard import WHOLE_PACK, Field, Record, Scoreboard
from qslots.tasks import Task, current_task, task
from qslots.work import happened


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr(tasks, "REGISTRY", Registry())
    yield tasks.REGISTRY
    RUNNING.begin(None)


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Iterator[Record]:
    board = Scoreboard.create(str(tmp_path / "board"))
    yield board.record(0)
    os.close(board.descriptor)


def resize(photo: str, size: int = 128) -> str:
    """Makes a small one."""
    return f"{photo}@{size}"


def test_plain_call_runs_here_and_now_and_keeps_its_name() -> None:
    made = task(resize)
    assert made("a", size=5) == "a@5"
    assert (made.__name__, made.__doc__) == ("resize", "Makes a small one.")
    assert repr(made) == "<task resize of queue resize>"
    with pytest.raises(TypeError):
        made(1, 2, 3)  # type: ignore[call-arg]


def test_both_forms_of_the_decorator_register(registry: Registry) -> None:
    task(resize)
    task(queue="p", name="small", priority=70, batch=3)(resize)
    assert set(registry.handlers) == {"resize", "small"}
    assert registry.handlers["small"].options.batch == 3
    assert registry.declared({}).queues[0].priority == 70


def test_declaration_that_cannot_be_served_is_refused_at_import(registry: Registry) -> None:
    with pytest.raises(HandlerError, match="does not know the option 'prority'"):
        task(prority=5)(resize)
    assert registry.handlers == {}


@pytest.mark.parametrize(("how", "message"), [
    ({"delay": "1m", "at": 5}, "task resize: give delay or at, not both"),
    ({"delay": "soon"}, "task resize: delay is 'soon'"),
    ({"at": "soon"}, "task resize: at is 'soon'"),
    ({"at": float("inf")}, "task resize: at is inf"),
    ({"at": datetime.datetime(2030, 1, 1)}, "task resize: at is .* without a time zone"),
    ({"id": ""}, "task resize: an id has 1 to 128 bytes, not 0"),
    ({"id": "\ud800"}, "it has halves of characters"),
    ({"collection": "\ud800"}, "it has halves of characters"),
    ({"id": "ä" * 65}, "task resize: an id has 1 to 128 bytes, not 130"),
    ({"collection": "c" * 65}, "task resize: the name of a collection has at most 64 bytes"),
    ({"on_duplicate": "explode"}, "task resize: on_duplicate is 'explode'"),
])  # fmt: skip
def test_way_of_enqueueing_that_makes_no_sense_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(Error, match=message):
        task(resize).using(**how)


def test_misfit_is_refused_before_any_queue_server_is_looked_for() -> None:
    made = task(queue="pictures")(resize)
    with pytest.raises(ArgumentsError, match=r"task resize \(queue pictures, .*: argument size: Expected `int`"):
        made.enqueue("a", "large")  # type: ignore[arg-type]
    with pytest.raises(Error, match="one id cannot name 2 tasks"):
        made.using(id="x").enqueue_many([("a",), ("b",)])
    assert made.enqueue_many([]) == []


def test_children_have_the_ids_that_they_would_have_again() -> None:
    RUNNING.begin("0123456789abcdef0123456")
    first = RUNNING.child_ids("0123456789abcdef0123456", [b"a", b"b"]) + RUNNING.child_ids("0" * 23, [b"a"])
    RUNNING.begin("0123456789abcdef0123456")
    assert RUNNING.child_ids("0123456789abcdef0123456", [b"a", b"b"]) + RUNNING.child_ids("0" * 23, [b"a"]) == first
    assert len(set(first)) == 3
    assert first[0].startswith("0123456789abc")
    assert first[:2] == sorted(first[:2]), "they are due at the same time, and run in the order of their ids"
    RUNNING.begin("p")
    assert RUNNING.child_ids("p", [b"b", b"a"]) != RUNNING.child_ids("p", [b"a", b"b"])


def test_each_task_is_marked_when_it_has_ended_and_other_ends_are_told_first(record: Record) -> None:
    seen: list[tuple[int, list[int]]] = []

    @task(time_limit="5m")
    def work(n: int) -> None:
        seen.append((record.words[Field.TASK], list(record.marks[:4])))
        assert record.words[Field.DEADLINE] - record.words[Field.START] == 300 * 10**9
        if n == 2:
            raise Retry("7s")
        if n == 3:
            raise OSError("bad")

    runs = Runs(record, work, *(body(work, n) for n in range(1, 5)))
    assert runs.run() == (4, True)
    assert seen == [(1, [0, 0, 0, 0]), (2, [1, 0, 0, 0]), (3, [1, 1, 0, 0]), (4, [1, 1, 1, 0])]
    assert {at: outcome.kind for at, outcome in runs.told.items()} == {2: "retry", 3: "fail"}
    assert runs.marks() == [1, 1, 1, 1]
    assert (record.words[Field.TASK], record.words[Field.DEADLINE], record.words[Field.DONE]) == (0, 0, 4)


def test_current_task_is_the_one_that_runs_with_all_that_is_known_of_it(record: Record) -> None:
    found: list[Task | None] = []
    record.put_text("holder", b"web-7/3/x.1")

    @task(queue="photos")
    def work(n: int, size: int = 7) -> None:
        found.append(current_task())
        if n * size == 7:
            raise ValueError

    @task
    def several(pack: list[Task]) -> None:
        found.extend([current_task(), *pack])

    runs = Runs(record, work, body(work, 1), body(work, 2))
    runs.pack.fates[1] = Fate(retries=4, failures=3, crashes=2)
    runs.run()
    Runs(record, several, body(several, 1)).run()
    one, two, none, of_pack = found
    assert one is not None and two is not None and of_pack is not None
    assert (one.id, one.queue, one.handler, one.args, one.kwargs) == ("t1", "photos", "work", (1, 7), {})
    assert (two.id, two.retries, two.failures, two.crashes, two.put_at) == ("t2", 4, 3, 2, 0.0)
    assert (none, of_pack.id) == (None, "t1")
    assert one.owner == two.owner == of_pack.owner == Owner("web-7", 3)
    assert current_task() is None


def test_no_deadline_counts_while_the_end_of_a_task_is_told(record: Record) -> None:
    @task(time_limit="5m")
    def single(n: int) -> None:
        raise ValueError(n)

    @task(time_limit="5m")
    def several(pack: list[Task]) -> None:
        raise ValueError(pack)

    for function in (single, several):
        runs = Runs(record, function, body(function, 1))
        runs.run()
        assert (runs.told[1].kind, runs.deadline_when_told) == ("fail", 0)


def test_pack_stops_where_it_may_not_go_on_and_where_its_lock_is_gone(record: Record) -> None:
    @task
    def work(n: int) -> None:
        if n == 2:
            raise ValueError

    answers = iter([True, False])
    runs = Runs(record, work, body(work, 1), body(work, 1), body(work, 1))
    assert runs.run(lambda _: next(answers)) == (1, False)
    assert runs.marks() == [1, 0, 0]
    runs = Runs(record, work, body(work, 1), body(work, 2), body(work, 1))
    runs.lock_is_gone = True
    assert runs.run() == (1, False)
    assert runs.marks() == [1, 0, 0]


def test_arguments_that_do_not_fit_are_buried_if_this_code_stored_them_and_else_tried_again(record: Record) -> None:
    work = task(resize)
    misfit = b"\x81\xa5photo\x05"
    for signature, kind in ((-1, "bury"), (12345, "fail")):
        runs = Runs(record, work, misfit, signature=signature)
        assert runs.run() == (1, True)
        assert runs.told[1].kind == kind
        assert "argument photo: Expected `str`, got `int`" in runs.told[1].why


@pytest.mark.parametrize("garbage", [b"", b"\x07" * 40, b"\1" * 12, b"\1" + bytes(12) + b"\xff"])
def test_garbage_is_buried_with_its_reason_and_the_pack_goes_on(record: Record, garbage: bytes) -> None:
    def single(n: int) -> None:
        ran.append(n)

    def several(pack: list[Task]) -> None:
        ran.extend(each.args[0] for each in pack)

    for function in (single, several):
        ran: list[int] = []
        made = task(function)
        runs = Runs(record, made, body(made, 1), body(made, 2), body(made, 3))
        runs.pack.records[1] = garbage
        assert runs.run() == (3, True)
        assert ran == [1, 3]
        assert {at: outcome.kind for at, outcome in runs.told.items()} == {2: "bury"}
        assert "cannot be read" in runs.told[2].why


def test_pack_handler_gets_all_tasks_and_says_of_each_how_it_ends(record: Record) -> None:
    @task
    def index(pack: list[Task]) -> None:
        assert record.words[Field.TASK] == WHOLE_PACK
        assert [(each.id, each.args, each.failures) for each in pack] == [
            ("t1", (1,), 0),
            ("t2", (2,), 3),
            ("t3", (3,), 0),
        ]
        pack[0].retry("9s", why="later")
        pack[1].bury("never")

    runs = Runs(record, index, *(body(index, n) for n in (1, 2, 3)))
    runs.pack.fates[1] = Fate(failures=3)
    assert runs.run() == (3, True)
    assert runs.told == {1: Outcome("retry", "later", delay=9e6), 2: Outcome("bury", "never")}
    assert runs.marks() == [1, 1, 1]


def test_pack_handler_that_raises_is_charged_only_to_a_task_that_was_alone(record: Record) -> None:
    @task(backoff="4s..1m")
    def index(pack: list[Task]) -> None:
        pack[0].bury("known")
        if len(pack) > 1:
            raise ValueError("one of you")
        pack[0].outcome = None
        raise Bury("you")

    runs = Runs(record, index, body(index, 1), body(index, 2))
    runs.run()
    assert {at: outcome.kind for at, outcome in runs.told.items()} == {1: "bury", 2: "loss"}
    assert 3.4e6 <= (runs.told[2].delay or 0) <= 4.6e6
    runs = Runs(record, index, body(index, 1))
    runs.run()
    assert runs.told == {1: Outcome("bury", "you")}


def test_not_now_of_one_task_of_a_pack_waits_for_the_first_backoff(record: Record) -> None:
    @task(backoff="4s..1m")
    def index(pack: list[Task]) -> None:
        pack[0].postpone()
        pack[1].postpone(delay=0)

    runs = Runs(record, index, body(index, 1), body(index, 2))
    runs.run()
    assert (runs.told[1].base, runs.told[1].delay) == (4e6, None)
    assert 0.85 <= runs.told[1].jitter <= 1.15
    assert runs.told[2] == Outcome("postpone", delay=0.0)


def test_what_became_of_a_task_is_told_in_words() -> None:
    fail = Outcome("fail", limit=1)
    assert happened(fail, Fate()) == "is buried after 1 failure"
    assert happened(fail, Fate(failures=1)) == "is buried after 2 failures"


def test_task_of_a_pack_refuses_ends_that_make_no_sense() -> None:
    one = Task("t", "q", "h")
    for ask in (lambda: one.retry("soon"), lambda: one.postpone(-1), lambda: one.postpone(float("nan"))):
        with pytest.raises(ValueError, match=" is "):
            ask()
    one.postpone(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
    assert one.outcome == Outcome("postpone", at=4102444800e6)
