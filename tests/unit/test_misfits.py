"""A slot that meets nothing but misfits stops, before it has buried or failed all that waits."""

from collections.abc import Callable, Iterator

import pytest
from support.runs import Runs, body

import qslots.tasks
from qslots import Task, task
from qslots.handlers import Registry
from qslots.misfits import PARK_AFTER, MisfitRow
from qslots.scoreboard import Record, Scoreboard
from qslots.tasks import TaskFunction

MISFIT = b"\x81\xa1n\xa5seven"


@pytest.fixture
def record(tmp_path: object) -> Iterator[Record]:
    yield Scoreboard.create(f"{tmp_path}/board").record(0)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qslots.tasks, "REGISTRY", Registry())


def one_by_one(ran: list[object]) -> TaskFunction[..., None]:
    @task
    def work(n: int) -> None:
        ran.append(n)

    return work


def beside(ran: list[object]) -> TaskFunction[..., object]:
    @task
    async def work(n: int) -> None:
        ran.append(n)

    return work


def together(ran: list[object]) -> TaskFunction[..., None]:
    @task
    def work(pack: list[Task]) -> None:
        ran.extend(each.kwargs["n"] for each in pack)

    return work


def met(row: MisfitRow, *positions: int, size: int) -> int:
    for position in positions:
        row.met(position, "why")
    row.pack_over(size)
    return row.length


def test_row_goes_on_from_pack_to_pack_and_ends_with_whatever_fits() -> None:
    row = MisfitRow()
    assert met(row, 1, 2, size=2) == 2
    assert met(row, size=0) == 2  # a pack of which nothing began says nothing
    assert met(row, 1, size=2) == 0  # the second one fitted
    assert met(row, 2, 3, size=3) == 2
    assert met(row, 1, 2, 4, size=4) == 1


def test_row_that_is_too_long_says_why_on_one_line_and_begins_anew() -> None:
    row = MisfitRow()
    for position in range(1, PARK_AFTER):
        row.met(position, "early")
    assert not row.is_too_long
    row.met(PARK_AFTER, "argument n:\n bad" + "!" * 1000)
    assert row.is_too_long
    said = row.reason()
    assert said.startswith(f"{PARK_AFTER} tasks in a row did not fit, the last one: argument n: bad!!!")
    assert len(said) < 400
    assert not row.is_too_long


@pytest.mark.parametrize("signature", [-1, 5], ids=["this code", "other code"])
@pytest.mark.parametrize("made", [one_by_one, beside])
def test_hundred_misfits_in_a_row_stop_the_pack_and_the_rest_is_not_touched(
    record: Record, made: Callable[[list[object]], TaskFunction[..., object]], signature: int
) -> None:
    ran: list[object] = []
    work = made(ran)
    runs = Runs(record, work, body(work, 1), *[MISFIT] * 150, body(work, 2), signature=signature)
    assert runs.run() == (1 + PARK_AFTER, False)
    assert ran == [1]
    assert {outcome.kind for outcome in runs.told.values()} == {"bury" if signature < 0 else "fail"}
    assert len(runs.told) == PARK_AFTER
    assert runs.marks() == [1] * (1 + PARK_AFTER) + [0] * 51
    assert "argument n: Expected `int`, got `str`" in runs.why_park


def test_hundred_unreadable_tasks_in_a_row_stop_a_pack_handler_and_the_rest_goes_back(record: Record) -> None:
    ran: list[object] = []
    work = together(ran)
    fits = work.handler.arguments.body((), {"n": 1})
    runs = Runs(record, work, fits, *[b"\xc1"] * 150, fits)
    runs.run()
    assert ran == [1]
    kinds = [runs.told[position].kind for position in sorted(runs.told)]
    assert kinds == ["bury"] * PARK_AFTER + ["back"] * 51
    assert runs.why_park


@pytest.mark.parametrize("made", [one_by_one, beside])
def test_one_that_fits_among_them_lets_the_pack_go_on(
    record: Record, made: Callable[[list[object]], TaskFunction[..., object]]
) -> None:
    ran: list[object] = []
    work = made(ran)
    runs = Runs(record, work, *[MISFIT] * 99, body(work, 1), *[MISFIT] * 99, body(work, 2))
    assert runs.run() == (200, True)
    assert ran == [1, 2]
    assert runs.why_park == ""
