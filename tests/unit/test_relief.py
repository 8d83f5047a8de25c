"""Packs behind a task that runs long: what the master sees, writes and settles. Tables over scoreboard records."""

import os
import pathlib
from collections.abc import Iterator

import pytest

from qmaster import relief, watch
from qmaster.relief import Standing
from qslots.alerts import alert_after
from qslots.outcomes import Outcome
from qslots.scoreboard import LOOK_UP, RUNS, WHOLE_PACK, Field, Record, Scoreboard

BEGAN = 1_000_000_000
LONG = BEGAN + LOOK_UP + 1
AT = Standing(7, 3, BEGAN)


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Iterator[Record]:
    """The record of slot 5, which holds pack 7 of five tasks and runs the third since BEGAN."""
    board = Scoreboard.create(str(tmp_path / "board"))
    record = board.record(5)
    record.clear(holder="web/5/x.1", generation=1)
    record.hold(7, b"mail@b", b"send", 5)
    record.marks[0] = record.marks[1] = 1
    record.begin(3, BEGAN, 0, b"t")
    yield record
    os.close(board.descriptor)


@pytest.mark.parametrize(("now", "changes", "stands"), [
    (LONG, {}, True),
    (LONG - 1, {}, False),  # a slot that has not run for so long may not look up behind it
    (LONG, {Field.SIZE: 1}, False),  # nothing before it, nothing behind it
    (LONG, {Field.SIZE: 3}, True),  # the last one: those before it are settled
    (LONG, {Field.TASK: 0}, False),
    (LONG, {Field.TASK: WHOLE_PACK}, False),
    (LONG, {Field.HELD: 0}, False),
])  # fmt: skip
def test_a_slot_stands_at_one_of_several_tasks_that_runs_longer_than_it_looks_up(
    record: Record, now: int, changes: dict[Field, int], stands: bool
) -> None:
    for field, value in changes.items():
        record.words[field] = value
    assert relief.standing([record], now, {}) == ({5: AT} if stands else {})


def test_a_slot_that_runs_tasks_beside_each_other_does_not_stand(record: Record) -> None:
    record.marks[2] = record.marks[3] = RUNS
    assert relief.standing([record], LONG, {}) == {}


def test_what_was_relieved_is_left_alone_until_it_moves(record: Record) -> None:
    assert relief.standing([record], LONG, {5: AT}) == {}
    record.begin(4, LONG, 0, b"u")
    assert relief.standing([record], LONG + LOOK_UP + 1, {5: AT}) == {5: Standing(7, 4, LONG)}


def test_the_marked_are_settled_the_untouched_go_back_the_one_that_runs_stays(record: Record) -> None:
    letter = relief.settlement(record, AT, {"mail": 60.0, "other": 5.0})
    assert letter is not None
    assert (letter.source, letter.holder, letter.seq, letter.window) == ("mail@b", "web/5/x.1", 7, 60.0)
    assert letter.marks == b"\1\1"
    assert letter.back == {4: Outcome("back"), 5: Outcome("back")}


@pytest.mark.parametrize("at", [Standing(7, 2, BEGAN), Standing(6, 3, BEGAN), Standing(7, 3, BEGAN - 1)])
def test_a_slot_that_has_moved_keeps_its_pack(record: Record, at: Standing) -> None:
    assert relief.settlement(record, at, {}) is None


def test_a_pack_ends_after_the_position_that_the_master_has_written_and_after_no_other(record: Record) -> None:
    assert not any(record.stops_after(position) for position in range(6))
    record.stop_after(7, 3)
    assert [position for position in range(6) if record.stops_after(position)] == [3]
    record.hold(8, b"mail@b", b"send", 5)
    assert not any(record.stops_after(position) for position in range(6)), "the next pack is not meant"


@pytest.mark.parametrize(("said", "usual", "after"), [
    (30.0, None, 30.0), (30.0, 60.0, 30.0), (None, None, None), (None, 0.001, 10.0), (None, 7.0, 70.0),
])  # fmt: skip
def test_an_alert_comes_when_the_handler_says_or_after_ten_times_what_is_usual(
    said: float | None, usual: float | None, after: float | None
) -> None:
    assert alert_after(said, usual) == after


def test_a_slow_task_is_told_of_once(record: Record) -> None:
    assert watch.slow([record], BEGAN + 10**12, {}) == {}  # no alert is set
    record.words[Field.ALERT_AFTER], record.words[Field.USUAL] = 2 * 10**9, 10**8
    assert watch.slow([record], BEGAN + 2 * 10**9, {}) == {}
    found = watch.slow([record], BEGAN + 3 * 10**9, {})
    assert found == {5: watch.Slow("t", "send", BEGAN, 3.0, 0.1)}
    assert watch.slow([record], BEGAN + 4 * 10**9, {5: BEGAN}) == {}
    record.begin(4, BEGAN + 1, 0, b"u")
    assert list(watch.slow([record], BEGAN + 4 * 10**9, {5: BEGAN})) == [5]
