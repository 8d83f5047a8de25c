"""The limits of async handlers: whose deadline stands on the scoreboard, and where a soft limit is raised."""

import asyncio
import threading

import pytest
from support.runs import OURS, Runs, body

from qslots import SoftTimeLimit, Task, extend, task
from qslots.cascades import NO_CASCADE, Cascade
from qslots.outcomes import Outcome
from qslots.queueserver import Kept
from qslots.scoreboard import Field, Record

pytestmark = pytest.mark.usefixtures("own_registry")


def kinds(runs: Runs) -> dict[int, str]:
    return {at: outcome.kind for at, outcome in sorted(runs.told.items())}


def test_the_deadline_on_the_scoreboard_is_that_of_the_oldest_that_runs(record: Record) -> None:
    shown: list[tuple[int, str, int]] = []
    ended = [asyncio.Event() for _ in range(4)]

    @task(time_limit="5m")
    async def push(n: int) -> None:
        if n < 3:
            await ended[n].wait()  # the third ends first, then the second, then the first
        await asyncio.sleep(0)
        words = record.words
        shown.append((words[Field.TASK], record.text("task"), words[Field.DEADLINE] - words[Field.START]))
        ended[n - 1].set()

    runs = Runs(record, push, *(body(push, n) for n in (1, 2, 3)))
    runs.run()
    assert shown == [(1, "t1", 300 * 10**9)] * 3


def test_time_that_the_loop_stands_still_to_tell_counts_for_no_task(record: Record) -> None:
    told = asyncio.Event()
    deadlines: list[int] = []

    @task(time_limit="5m")
    async def push(n: int) -> None:
        if n == 2:
            raise ValueError
        deadlines.append(record.words[Field.DEADLINE])
        await told.wait()
        deadlines.append(record.words[Field.DEADLINE])

    class Slow(Runs):
        def report(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
            threading.Event().wait(0.02)
            told.set()
            return super().report(outcomes, kept, cascade)

    runs = Slow(record, push, body(push, 1), body(push, 2))
    runs.run()
    assert runs.deadline_when_told == 0
    assert deadlines[1] - deadlines[0] >= 20_000_000


def test_soft_limit_does_not_pass_while_the_loop_stands_still_to_tell(record: Record) -> None:
    @task(soft_time_limit="100ms")
    async def push(n: int) -> None:
        if n == 2:
            raise ValueError
        await asyncio.sleep(0.01 if n == 1 else 60)

    class Slow(Runs):
        def report(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
            threading.Event().wait(0.2)  # its queue server hangs for longer than the limit
            return super().report(outcomes, kept, cascade)

    runs = Slow(record, push, *(body(push, n) for n in (1, 2, 3)))
    assert runs.run() == (3, True)
    assert kinds(runs) == {2: "fail", 3: "fail"}
    assert "SoftTimeLimit" in runs.told[3].why


def test_deadline_that_a_task_has_moved_gives_way_to_the_next_one(record: Record) -> None:
    shown: list[tuple[int, float]] = []

    @task(time_limit="5m")
    async def push(n: int) -> None:
        if n == 1:
            extend("1h")
            await asyncio.to_thread(extend, "2h")
        await asyncio.sleep(0.01 * (3 - n))
        words = record.words
        shown.append((words[Field.TASK], round((words[Field.DEADLINE] - words[Field.START]) / 60e9)))

    runs = Runs(record, push, body(push, 1), body(push, 2))
    assert runs.run() == (2, True)
    assert shown == [(2, 5), (1, 120)]


def test_soft_limit_is_raised_where_a_coroutine_awaits_and_may_be_caught(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    ended: dict[int, str] = {}

    async def part() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended[9] = "cancelled"
            raise

    @task(soft_time_limit="20ms")
    async def push(n: int) -> None:
        if n == 3:
            return
        try:
            async with asyncio.timeout(60):
                await (asyncio.gather(part(), part()) if n == 1 else asyncio.Event().wait())
        except SoftTimeLimit as error:
            ended[n] = str(error)
            if n == 2:
                raise
            await asyncio.sleep(0)  # it can tidy up, and is not hit again

    runs = Runs(record, push, *(body(push, n) for n in (1, 2, 3)))
    assert runs.run() == (3, True)
    assert ended == dict.fromkeys((1, 2), "ran longer than its soft limit of 0.02 s") | {9: "cancelled"}
    assert kinds(runs) == {2: "fail"}
    assert "SoftTimeLimit" in runs.told[2].why
    assert OURS not in runs.told[2].why
    [one, two] = [each.getMessage() for each in caplog.records if "ran into its soft limit" in each.getMessage()]
    assert one.startswith("push t1 ran into its soft limit of 0.02 s here:")
    assert "in push" in one and "asyncio.gather" in one
    assert "in push" in two


def test_soft_limit_of_an_async_pack_and_extend_and_alert(record: Record) -> None:
    alerts: list[tuple[str, float]] = []
    record.words[Field.ALERT_AFTER] = 1_000_000

    def on_alert(task_id: str, seconds: float) -> None:
        alerts.append((task_id, seconds))
        raise ValueError("a fault of the hook harms nobody")

    @task(soft_time_limit="10ms", on_alert=on_alert)
    async def index(pack: list[Task]) -> None:
        if pack[0].args == (1,):
            extend("1h")
            await asyncio.sleep(0.02)
            return
        await asyncio.Event().wait()

    runs = Runs(record, index, body(index, 1))
    runs.run()
    assert (runs.told, alerts[0][0]) == ({}, "t1")
    runs = Runs(record, index, body(index, 2))
    runs.run()
    assert kinds(runs) == {1: "fail"}
