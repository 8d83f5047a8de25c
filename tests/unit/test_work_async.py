"""Async handlers: how the tasks of a pack run beside each other, and what is known of each at any moment."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.runs import Runs, body

import qslots
from qslots import Bury, Postpone, Retry, Task, current_task, task, work_async
from qslots.cascades import NO_CASCADE, Cascade
from qslots.outcomes import Outcome
from qslots.queueserver import Kept
from qslots.reach import Leave
from qslots.running import here
from qslots.scoreboard import DONE, RUNS, WHOLE_PACK, Field, Record
from qslots.worker import Worker

pytestmark = pytest.mark.usefixtures("own_registry")


def kinds(runs: Runs) -> dict[int, str]:
    return {at: outcome.kind for at, outcome in sorted(runs.told.items())}


def test_every_end_in_one_pack_is_told_together_and_only_then_marked(record: Record) -> None:
    @task(never_retry=(KeyError,))
    async def push(n: int) -> None:
        await asyncio.sleep(0)
        ends = {2: Retry("7s"), 3: Postpone(delay="1h"), 4: Bury("no"), 5: OSError("bad"), 6: KeyError("never")}
        if n in ends:
            raise ends[n]

    runs = Runs(record, push, *(body(push, n) for n in range(1, 8)), b"\x81\xa1n\xa1x")
    assert runs.run() == (8, True)
    assert kinds(runs) == {2: "retry", 3: "postpone", 4: "bury", 5: "fail", 6: "bury", 8: "bury"}
    assert runs.told[5].why.count("\n  File") == 1  # the handler's frame, none of ours
    assert runs.marks() == [DONE] * 8
    assert runs.reports <= 2  # the misfit ends a turn before the others
    assert (record.words[Field.TASK], record.words[Field.DEADLINE], record.words[Field.DONE]) == (0, 0, 8)


def test_marks_say_which_tasks_run_and_which_have_not_begun(record: Record) -> None:
    seen: dict[int, list[int]] = {}
    third = asyncio.Event()

    @task(concurrency=2)
    async def push(n: int) -> None:
        seen[n] = list(record.marks[:4])
        if n == 3:
            third.set()
        await (third.wait() if n == 1 else asyncio.sleep(0))

    runs = Runs(record, push, *(body(push, n) for n in range(1, 5)))
    assert runs.run() == (4, True)
    assert seen[1] == [RUNS, 0, 0, 0]
    assert seen[2] == [RUNS, RUNS, 0, 0]
    assert seen[3] == [RUNS, DONE, RUNS, 0]
    assert runs.marks() == [DONE] * 4


def test_success_is_marked_before_another_task_goes_on(record: Record) -> None:
    seen: list[list[int]] = []

    @task
    async def push(n: int) -> None:
        await asyncio.sleep(0)
        seen.append(list(record.marks[:n]))

    runs = Runs(record, push, *(body(push, n) for n in range(1, 4)))
    assert runs.run() == (3, True)
    assert seen == [[RUNS], [DONE, RUNS], [DONE, DONE, RUNS]]
    assert record.words[Field.DONE] == 3


def test_what_ends_well_in_a_whole_pack_is_marked_before_the_others_are_told(record: Record) -> None:
    @task
    def index(tasks: list[Task]) -> None:
        tasks[1].retry(delay=1)

    runs = Runs(record, index, *(body(index, n) for n in range(3)))
    runs.lock_is_gone = True
    assert runs.run() == (0, False)
    assert (runs.marks(), list(runs.told)) == ([DONE, RUNS, DONE], [2])


def test_what_is_done_is_settled_while_others_run_long(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_async, "LOOK_UP", 1_000_000)
    settled = asyncio.Event()

    @task(time_limit="5m")
    async def push(n: int) -> None:
        await (settled.wait() if n == 2 else asyncio.sleep(0))

    runs = Runs(record, push, *(body(push, n) for n in (1, 2)))

    def may_go_on(_: int) -> bool:  # what the slot settles on this occasion
        if runs.marks() == [DONE, RUNS]:
            assert record.words[Field.DEADLINE] == 0, "no deadline runs while the loop stands still"
            settled.set()
        return True

    assert runs.run(may_go_on) == (2, True)


@pytest.mark.parametrize(("concurrency", "most"), [(None, 20), (1, 1), (7, 7), (1000, 20)])
def test_no_more_run_at_a_time_than_the_limit_says(record: Record, concurrency: int | None, most: int) -> None:
    alive, peak = 0, 0

    @task(concurrency=concurrency)
    async def push(n: int) -> None:
        nonlocal alive, peak
        alive += 1
        peak = max(peak, alive)
        for _ in range(n % 3 + 1):
            await asyncio.sleep(0)
        alive -= 1

    runs = Runs(record, push, *(body(push, n) for n in range(20)))
    assert runs.run() == (20, True)
    assert peak == most


def test_told_to_leave_no_more_begin_and_those_that_run_end_first(record: Record) -> None:
    ended = []
    leave = False

    @task(concurrency=2)
    async def push(n: int) -> None:
        nonlocal leave
        leave = leave or n == 2
        await asyncio.sleep(0.001)
        ended.append(n)

    record.words[Field.LOCK_UNTIL] = 0  # asked before each
    runs = Runs(record, push, *(body(push, n) for n in range(1, 6)))
    assert runs.run(lambda _: not leave) == (2, False)
    assert sorted(ended) == [1, 2]
    assert runs.marks() == [DONE, DONE, 0, 0, 0]


def test_server_that_cannot_be_told_stops_the_pack_and_is_told_of_the_rest_at_the_end(record: Record) -> None:
    refused = asyncio.Event()

    class Refused(Runs):
        def report(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
            refused.set()
            return super().report(outcomes, kept, cascade)

    @task(concurrency=3)
    async def push(n: int) -> None:
        if n == 1:
            raise Retry("1s")
        await refused.wait()
        if n == 2:
            raise Bury("no")

    runs = Refused(record, push, *(body(push, n) for n in range(1, 6)))
    runs.lock_is_gone = True
    assert runs.run() == (2, False)  # the fourth had begun before it was known
    assert kinds(runs) == {1: "retry", 2: "bury"}
    assert runs.reports == 2
    assert runs.marks() == [RUNS, RUNS, DONE, DONE, 0]


def test_slot_that_is_to_leave_at_once_leaves_its_running_tasks(record: Record) -> None:
    class Left(Runs):
        def report(self, outcomes: dict[int, Outcome], kept: dict[int, Kept], cascade: Cascade = NO_CASCADE) -> bool:
            super().report(outcomes, kept, cascade)
            raise Leave

    @task
    async def push(n: int) -> None:
        if n == 1:
            raise ValueError
        await asyncio.Event().wait()

    runs = Left(record, push, body(push, 1), body(push, 2))
    with pytest.raises(Leave):
        runs.run()
    assert runs.marks() == [RUNS, RUNS]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_exit_or_cancellation_is_the_failure_of_its_own_task_alone(record: Record, error: BaseException) -> None:
    async def part() -> None:
        raise error

    @task(max_failures=5)
    async def push(n: int) -> None:
        await asyncio.sleep(0)
        if n == 1:
            raise error
        if n == 2:
            await asyncio.create_task(part())  # goes through the loop to whoever runs it
        await asyncio.sleep(0.001)

    runs = Runs(record, push, *(body(push, n) for n in range(1, 6)))
    assert runs.run() == (5, True)
    assert kinds(runs) == {1: "fail", 2: "fail"}
    assert runs.marks() == [DONE] * 5


def test_handler_that_cancels_what_it_finds_or_stops_the_loop_harms_itself_only(record: Record) -> None:
    @task
    async def push(n: int) -> None:
        if n == 1:
            asyncio.get_running_loop().stop()
            asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)

    runs = Runs(record, push, *(body(push, n) for n in range(1, 4)))
    assert runs.run() == (3, True)
    assert kinds(runs) == {1: "fail"}

    @task
    async def rude(n: int) -> None:
        for each in asyncio.all_tasks():
            each.cancel()
        await asyncio.sleep(n)

    runs = Runs(record, rude, body(rude, 1), body(rude, 2))
    assert runs.run() == (1, False)  # the other had not begun, and goes back
    assert (kinds(runs), runs.marks()) == ({1: "fail"}, [DONE, 0])


def test_tasks_left_behind_are_cancelled_and_that_is_said_once(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = []
    left: dict[int, asyncio.Task[None]] = {}

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @task
    async def push(n: int) -> None:
        left[n] = asyncio.create_task(endless())
        await asyncio.sleep(0)

    runs = Runs(record, push, body(push, 1), body(push, 2))
    worker = Worker(record, runs.report, lambda _: True)
    for _ in range(2):
        record.hold(1, b"q", b"push", 2)
        assert worker.run(runs.handler, runs.pack) == (2, True)
    worker.close()
    assert len(cancelled) == 4
    said = [each.getMessage() for each in caplog.records]
    assert said == [
        "push left 2 asyncio task(s) behind after its pack (of t1 and 1 more); they are cancelled: await what it starts"
    ]


def test_the_loop_lives_from_pack_to_pack_and_closes_its_generators_at_the_end(record: Record) -> None:
    loops, closed = set(), []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append(1)

    open_ones: list[AsyncIterator[int]] = []

    @task
    async def push(n: int) -> None:
        loops.add(asyncio.get_running_loop())
        open_ones.append(numbers())
        await anext(open_ones[-n])

    runs = Runs(record, push, body(push, 1))
    worker = Worker(record, runs.report, lambda _: True)
    for _ in range(2):
        record.hold(1, b"q", b"push", 1)
        worker.run(runs.handler, runs.pack)
    assert (len(loops), closed) == (1, [])
    worker.close()
    assert closed == [1, 1]
    assert loops.pop().is_closed()


def test_results_are_kept_before_their_tasks_are_marked(record: Record) -> None:
    @task(keep_result="1m")
    async def push(n: int) -> int:
        await asyncio.sleep(0)
        return n * n

    runs = Runs(record, push, body(push, 3), body(push, 4))
    assert runs.run() == (2, True)
    assert (kinds(runs), sorted(runs.kept), runs.reports) == ({1: "done", 2: "done"}, [1, 2], 1)
    runs = Runs(record, push, body(push, 3))
    runs.lock_is_gone = True
    assert (runs.run(), runs.marks()) == ((0, False), [RUNS])


def test_coroutine_of_a_handler_that_does_not_look_async_is_a_failure_and_no_success(record: Record) -> None:
    async def push(n: int) -> int:
        return n

    made = task(name="push")(lambda n: push(n))
    runs = Runs(record, made, body(made, 1))
    runs.run()
    assert kinds(runs) == {1: "fail"}
    assert "push gave a coroutine, which runs nowhere" in runs.told[1].why


def test_async_pack_handler_gets_all_tasks(record: Record) -> None:
    @task
    async def index(pack: list[Task]) -> None:
        await asyncio.sleep(0)
        assert (record.words[Field.TASK], list(record.marks[:3])) == (WHOLE_PACK, [RUNS] * 3)
        assert current_task() is None
        pack[0].retry("9s")
        if pack[1].args == ("raise",):
            raise SystemExit(4)

    runs = Runs(record, index, *(body(index, n) for n in (1, 2, 3)))
    assert runs.run() == (3, True)
    assert (kinds(runs), runs.marks()) == ({1: "retry"}, [DONE] * 3)
    runs = Runs(record, index, *(body(index, n) for n in (1, "raise", 3)))
    assert runs.run() == (3, True)
    assert kinds(runs) == {1: "retry", 2: "loss", 3: "loss"}
    assert runs.told[2].why.count("\n  File") == 1


def test_current_task_is_known_in_all_that_asyncio_starts_from_a_handler(record: Record) -> None:
    found: dict[int, list[Any]] = {}

    async def look() -> Task | None:
        await asyncio.sleep(0)
        return current_task()

    @task
    async def push(n: int) -> None:
        found[n] = [current_task(), *await asyncio.gather(look(), asyncio.create_task(look()))]
        found[n].append(await asyncio.to_thread(current_task))

    runs = Runs(record, push, *(body(push, n) for n in (1, 2, 3)))
    runs.run()
    assert {n: [(each.id, each.args) for each in several] for n, several in found.items()} == {
        n: [(f"t{n}", (n,))] * 4 for n in (1, 2, 3)
    }
    assert current_task() is None


def test_children_have_the_same_ids_in_whatever_order_their_branches_come(record: Record) -> None:
    runs_of_ids: list[list[str]] = []

    @task
    async def push(n: int) -> None:
        async def branch(content: bytes, turns: int) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            running = here()
            assert running.parent == f"t{n}"
            return running.child_ids(str(running.parent), [content])[0]

        turns = (1, 2, 3) if not runs_of_ids else (3, 2, 1)
        runs_of_ids.append(
            await asyncio.gather(*(branch(c, t) for c, t in zip((b"a", b"b", b"a"), turns, strict=True)))
        )

    for _ in range(2):
        Runs(record, push, body(push, 1)).run()
    assert set(runs_of_ids[0]) == set(runs_of_ids[1])
    assert len(set(runs_of_ids[0])) == 3


def test_nothing_of_a_pack_that_has_ended_is_held(record: Record) -> None:
    @task
    async def push(n: int) -> None: ...

    Runs(record, push, body(push, 1)).run()
    assert (here().parent, here().work) == (None, None)
    assert qslots.current_task() is None
    assert logging.getLogger("asyncio").level == logging.NOTSET
