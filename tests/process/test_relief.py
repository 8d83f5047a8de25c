"""Case 18: tasks that wait in a pack behind one that runs long go to other slots, at once and exactly once."""

import os
import pathlib
import random
import signal
import time

import pytest
from process.fleet import Fleet, stands_in_a_pack
from support.waiting import wait_for

import qslots.tasks
from qmaster import relief
from qslots import task, work_each
from qslots.handlers import Registry
from qslots.queueserver import Pack
from qslots.records import formed, header
from qslots.scoreboard import Field, Record, Scoreboard
from qslots.worker import Worker

SHORT = 300_000  # ns: stands for LOOK_UP, so that the race is run thousands of times
PACKS, SIZE = 250, 8


def runs_packs(record: Record, log: int) -> None:
    """A slot that runs packs whose tasks take about as long as LOOK_UP, and writes down what has begun."""
    seq = 0

    def some(n: int) -> None:
        os.write(log, seq.to_bytes(4, "little") + n.to_bytes(4, "little"))
        until = time.monotonic() + random.random() * 2e-9 * SHORT
        while time.monotonic() < until:
            pass

    handler = task(name="some", queue="q")(some).handler
    bodies = [formed(b"\x81\xa1n" + bytes([n])) for n in range(1, SIZE + 1)]
    stored = [bytes(8) + header("some", handler.arguments.signature) + body for body in bodies]
    worker = Worker(record, lambda outcomes, kept: False, lambda now: True)  # noqa: ARG005 - nothing ends badly
    for number in range(1, PACKS + 1):
        seq = number
        record.hold(number, b"q@main", b"some", SIZE)
        record.words[Field.LOCK_UNTIL] = 1 << 62
        worker.run(handler, Pack("some", [b"t"] * SIZE, stored, [None] * SIZE, 0.0, 0.0))
        record.drop()


def test_what_went_back_never_begins_in_the_slot_and_what_stayed_does(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # case 18
    monkeypatch.setattr(qslots.tasks, "REGISTRY", Registry())
    monkeypatch.setattr(work_each, "LOOK_UP", SHORT)
    monkeypatch.setattr(relief, "LOOK_UP", SHORT)
    board = Scoreboard.create(str(tmp_path / "board"))
    record = board.record(0)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    pid = os.fork()
    if pid == 0:
        try:
            runs_packs(record, log)
        finally:
            os._exit(0)
    back: dict[int, int] = {}  # seq -> the last position that stayed
    relieved: dict[int, relief.Standing] = {}
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for at in relief.standing([record], now, relieved).values():
            record.stop_after(at.seq, at.position)
            if relief.settlement(record, at, {}) is not None:
                relieved[0] = at
                back[at.seq] = at.position
    ran = os.pread(log, 1 << 20, 0)
    begun: dict[int, list[int]] = {}
    for place in range(0, len(ran), 8):
        seq, position = (int.from_bytes(ran[at : at + 4], "little") for at in (place, place + 4))
        begun.setdefault(seq, []).append(position)
    assert len(begun) == PACKS
    for seq, positions in begun.items():
        assert positions == list(range(1, len(positions) + 1))
        assert len(positions) <= back.get(seq, SIZE), f"pack {seq}: {positions}, stopped after {back.get(seq)}"
    assert len(back) > PACKS // 10
    os.close(log)
    os.close(board.descriptor)


def stands_beside_an_idle_one(fleet: Fleet) -> int:
    """Slot 0 stands in task 5 of the pack 3, 4, 5, 6, and there is slot 1; returns the pid of slot 0."""
    pid = stands_in_a_pack(fleet)
    fleet.publish(("work",), ("work",))
    fleet.slots(2)
    return pid


def test_tasks_behind_one_that_runs_long_run_elsewhere_while_it_goes_on(fleet: Fleet) -> None:  # case 18
    victim = stands_beside_an_idle_one(fleet)
    [rest] = fleet.wait_run("end", 6, within=5.0)
    assert rest.pid != victim
    wait_for(lambda: fleet.stats().done == 6, lambda: f"all but one to be done: {fleet.stats()}", 5.0)
    assert (fleet.stats().returned, fleet.stats().locked, fleet.runs("end", 5)) == (1, 1, [])
    fleet.open()
    fleet.wait_empty()
    assert [len(fleet.runs("begin", n)) for n in range(7)] == [1] * 7
    assert fleet.runs("end", 5)[0].pid == victim
    stats = fleet.stats()
    assert (stats.done, stats.taken - stats.returned, stats.locked) == (7, 7, 0)
    assert fleet.fates() == {}
    assert "may run again" not in fleet.all_said()


def test_a_slot_killed_after_its_tail_went_back_costs_its_task_only(fleet: Fleet) -> None:  # cases 1, 18
    victim = stands_beside_an_idle_one(fleet)
    fleet.wait_run("end", 6, within=5.0)
    wait_for(lambda: fleet.stats().done == 6, "all but one to be done", 5.0)
    os.kill(victim, signal.SIGKILL)
    fleet.wait_run("begin", 5, count=2)
    [fate] = fleet.fates().values()
    assert fate.crashes == 1
    fleet.open()
    fleet.wait_empty()
    assert [len(fleet.runs("end", n)) for n in range(7)] == [1] * 7
    assert fleet.stats().done == 7
