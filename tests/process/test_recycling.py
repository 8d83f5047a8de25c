"""Memory of real slots: who is recycled for growth and who is not, hard limits inside a task, the plateau."""

import json

from process.fleet import START, Fleet, Program, lives
from support.waiting import wait_for

APP = """\
import gc

TABLE = bytes(range(256)) * (200 << 12)  # 200 MB, loaded once
OBJECTS = [str(n) for n in range(300_000)]  # some 20 MB that reference counts are written into
KEPT: list[bytearray] = []


@task(batch=1, max_crashes=2, backoff="100ms..100ms")
def work(megabytes: int) -> None:
    KEPT.append(bytearray(os.urandom(1024)) * (megabytes << 10))
    note("leaked", megabytes)


@task(batch=8)
def reads() -> None:
    assert TABLE.count(7) > 0
    note("read", sum(len(each) for each in OBJECTS))


@task(batch=1)
def litters() -> None:
    gc.disable()
    for _ in range(8):
        cycle: list[object] = [bytearray(os.urandom(1024)) * (10 << 10)]
        cycle.append(cycle)
    note("littered")


@task(max_crashes=2, backoff="100ms..100ms")
def devours() -> None:
    note("devours")
    while True:
        KEPT.append(bytearray(b"x") * (4 << 20))
        time.sleep(0.02)
"""


def said(master: Program, text: str, count: int = 1) -> None:
    wait_for(lambda: master.said().count(text) >= count, lambda: f"{count} x {text!r}: {master.said()}", START)


def test_leak_is_recycled_between_tasks_and_no_task_is_lost(fleet: Fleet) -> None:
    master = fleet.launch(APP, ("work",), ("reads",))
    leaking, bystander = fleet.pid_of(0), fleet.pid_of(1)
    fleet.app.work.enqueue_many([(10,) for _ in range(7)])
    fleet.wait_run("leaked", count=7)
    said(master, "slot 0 is recycled: it has grown by")
    wait_for(lambda: not lives(leaking), "the slot that has leaked to leave")
    fleet.app.work.enqueue(1)
    [run] = fleet.wait_run("leaked", 1)
    assert run.pid != leaking
    fleet.wait_empty()
    assert fleet.fates() == {}
    assert "over its" in master.said()
    assert "work: +" in master.said()
    status = fleet.status()
    assert status["recycled"] == {"growth": 1, "tasks": 0, "age": 0}
    assert 5 << 20 < status["growth"]["work"]["bytes_a_task"] < 15 << 20
    assert fleet.pid_of(1) == bystander
