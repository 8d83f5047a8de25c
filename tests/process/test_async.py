"""Async handlers in real slots: each task of a pack has an end of its own, also when its slot dies or is to leave."""

import os
import signal

import pytest
from process.fleet import Fleet
from support.waiting import wait_for

ASYNC = """\
import asyncio

from qslots import current_task


async def wait_for(name: str) -> None:
    while not (HERE / name).exists():
        await asyncio.sleep(0.005)


@task(batch=8, concurrency=4, backoff="50ms..50ms")
async def work(n: int) -> None:
    note("begin", n)
    if n == 7 and not current_task().retries:
        raise Retry("50ms")
    if n == 9:
        await asyncio.to_thread(child.enqueue, n)
    if 10 <= n <= 13 and times("begin", n) < 2:
        await wait_for("open")
    note("end", n)


@task
def child(n: int) -> None:
    note("child", n)


@task(batch=8, backoff="50ms..50ms")
async def several(tasks: list[Task]) -> None:
    for each in tasks:
        note("begin", *each.args)
    if any(each.args[0] >= 3 for each in tasks):
        await wait_for("open")
    for each in tasks:
        note("end", *each.args)


@task(batch=8, backoff="50ms..50ms")
def pack(tasks: list[Task]) -> None:
    for each in tasks:
        note("begin", *each.args)
    if any(each.args[0] >= 3 for each in tasks):
        gate("open")
    for each in tasks:
        note("end", *each.args)
"""
ENDS = """\
import asyncio
import sys


@task(batch=16, max_failures=2, backoff="50ms..50ms", never_retry=(KeyError,))
async def work(what: str) -> None:
    note(what)
    await asyncio.sleep(0.001)
    match what:
        case "retry" if times(what) < 2:
            raise Retry("50ms")
        case "postpone" if times(what) < 2:
            raise Postpone(delay="50ms")
        case "bury":
            raise Bury("it can never be")
        case "never":
            raise KeyError("gone")
        case "fail":
            raise ValueError("no such luck")
        case "exit":
            sys.exit(3)
        case "cancel":
            raise asyncio.CancelledError
"""
HANGS = """\
import asyncio
import ctypes


@task(batch=8, time_limit="500ms", max_crashes=1, backoff="50ms..50ms")
async def work(n: int) -> None:
    note("begin", n)
    await asyncio.sleep(0.05)
    if n == 3:
        ctypes.PyDLL(None).sleep(600)  # holds up its loop, in C
    await asyncio.sleep(0.05)
    note("end", n)
"""


def stopped_in_a_pack(fleet: Fleet) -> int:
    """Tasks 0 to 14 in packs of 1, 2, 4 and 8: of the last 7 is to be retried, 8 and 9 are done, 10 to 13 run."""
    fleet.write_app(ASYNC)
    fleet.app.work.enqueue_many([(n,) for n in range(15)])
    fleet.publish(("work",))
    fleet.start_master()
    [run] = fleet.wait_run("begin", 13)
    fleet.wait_run("end", 9)
    assert fleet.locked() == [8]
    return run.pid


def test_case_01_kill_in_an_async_pack_repeats_what_ran_and_charges_nobody(fleet: Fleet) -> None:
    victim = stopped_in_a_pack(fleet)
    fleet.publish(("work",), ("work", "child"))
    fleet.slots(2)
    fleet.wait_run("end", 7)  # its retry
    os.kill(victim, signal.SIGKILL)
    fleet.wait_empty()
    begun = {n: len(fleet.runs("begin", n)) for n in range(15)}
    assert begun == {n: 2 if n == 7 or 10 <= n <= 13 else 1 for n in range(15)}
    assert [len(fleet.runs("end", n)) for n in range(15)] == [1] * 15
    fleet.wait_empty("child")
    assert len(fleet.runs("child", 9)) == 1
    assert fleet.fates() == {}, "success clears the fate"
    stats = fleet.stats()
    assert (stats.done, stats.lost, stats.crashed, stats.failed) == (15, 4, 0, 0)


@pytest.mark.parametrize("handler", ["several", "pack"])
def test_case_01_kill_in_a_pack_that_a_handler_has_as_a_whole_charges_nobody(fleet: Fleet, handler: str) -> None:
    fleet.write_app(ASYNC)
    getattr(fleet.app, handler).enqueue_many([(n,) for n in range(7)])
    fleet.publish((handler,))
    fleet.start_master()
    [run] = fleet.wait_run("begin", 6)
    os.kill(run.pid, signal.SIGKILL)
    wait_for(lambda: len(fleet.fates(handler)) == 4, lambda: f"four that had trouble; {fleet.fates(handler)}")
    assert {(fate.losses, fate.crashes) for fate in fleet.fates(handler).values()} == {(1, 0)}
    fleet.open()
    fleet.wait_empty(handler)
    assert [len(fleet.runs("end", n)) for n in range(7)] == [1] * 7
    assert fleet.stats(handler).done == 7


def test_every_end_of_an_async_task_is_its_own(fleet: Fleet) -> None:
    fleet.write_app(ENDS)
    ends = ("good", "retry", "postpone", "bury", "never", "fail", "exit", "cancel")
    ids = {what: fleet.app.work.enqueue(what).id for what in ends}
    fleet.publish(("work",))
    fleet.start_master()
    fleet.wait_empty()
    assert {what: len(fleet.runs(what)) for what in ends} == {
        "good": 1, "retry": 2, "postpone": 2, "bury": 1, "never": 1, "fail": 2, "exit": 2, "cancel": 2,
    }  # fmt: skip
    assert fleet.buried() == {ids[what] for what in ("bury", "never", "fail", "exit", "cancel")}
    assert fleet.fates()[ids["exit"]].failures == 2
    assert "SystemExit: 3" in fleet.fates()[ids["exit"]].error
    assert fleet.stats().crashed == 0
    assert len({run.pid for run in fleet.runs()}) == 1, "one slot has done it all"


def test_told_to_leave_a_slot_ends_what_runs_and_hands_back_the_rest(fleet: Fleet) -> None:
    victim = stopped_in_a_pack(fleet)
    fleet.publish(("work",), ("work", "child"))
    fleet.slots(2)
    os.kill(victim, signal.SIGTERM)
    fleet.open()
    fleet.wait_empty()
    assert [len(fleet.runs("end", n)) for n in range(15)] == [1] * 15
    [last] = fleet.runs("begin", 14)
    assert last.pid != victim
    assert (fleet.stats().lost, fleet.stats().crashed, fleet.fates()) == (0, 0, {})


def test_task_that_holds_up_its_loop_is_found_by_narrower_packs_and_buried_alone(fleet: Fleet) -> None:
    fleet.write_app(HANGS)
    tasks = fleet.app.work.enqueue_many([(n,) for n in range(7)])
    fleet.publish(("work",))
    fleet.start_master()
    fleet.wait_empty()
    assert fleet.buried() == {tasks[3].id}
    assert "ran longer than its time limit" in fleet.fates()[tasks[3].id].error
    assert {n for n in range(7) if fleet.runs("end", n)} == {0, 1, 2, 4, 5, 6}
    assert fleet.stats().crashed == 1
