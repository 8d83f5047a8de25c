"""A server whose memory shrinks: slots leave between their tasks before the kernel kills, and come back."""

import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from process.fleet import START, Fleet, Program
from support.groups import memory_group
from support.waiting import wait_for

M = 1 << 20
LIMIT = 400 * M
SLOTS = 4  # what is allowed on two processors however busy they are
JOIN = """\
import pathlib
import runpy
import sys

pathlib.Path(sys.argv.pop(1), "cgroup.procs").write_text("0")
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
GROWS = """\
KEPT = []


@task(memory="8M")
def work(n: int, size: int, most: int) -> None:
    note("begin", n)
    if size and len(KEPT) < most:
        KEPT.append(bytearray(b"x") * (size << 20))
        time.sleep(0.2)
    note("end", n)


@task(memory="8M")
def stand(n: int) -> None:
    note("begin", n)
    gate("open")
    note("end", n)
"""
EATER = """\
import pathlib
import sys

group, limit, left = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
(group / "cgroup.procs").write_text("0")
used = next(group / name for name in ("memory.usage_in_bytes", "memory.current") if (group / name).exists())
eaten = []
while int(used.read_text()) < limit - left:
    eaten.append(bytearray(b"x") * (1 << 20))
print("full", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def group() -> Iterator[pathlib.Path]:
    with memory_group(LIMIT) as made:
        yield made


def killed(group: pathlib.Path) -> int:
    """How many processes the kernel has killed in this group for want of memory."""
    file = next(group / name for name in ("memory.events", "memory.oom_control") if (group / name).exists())
    counts = dict(line.split() for line in file.read_text().splitlines())
    return int(counts["oom_kill"])


def launch_in(group: pathlib.Path, fleet: Fleet, *slots: tuple[str, ...], reserve: str) -> Program:
    fleet.write_app(GROWS)
    (fleet.folder / "join.py").write_text(JOIN)
    fleet.publish(*slots)
    more = {"QSLOTS_PRIVATE_LIMIT": "400M", "QSLOTS_RESERVE_MEMORY": reserve}
    master = fleet.start("join", str(group), "qmaster", "run", "--app", "shop", environ=more)

    def all_live() -> bool:
        if not fleet.stats().tasks:
            fleet.app.work.enqueue_many([(-1, 0, 0)] * SLOTS)  # who has done a task has shown its size
        return len(fleet.live()) == SLOTS

    wait_for(all_live, lambda: f"{SLOTS} slots; {fleet.all_said()}", START)
    fleet.wait_empty()
    return master


def test_slots_that_grow_leave_before_the_kernel_kills_and_no_task_is_cut_off(
    group: pathlib.Path, fleet: Fleet
) -> None:
    master = launch_in(group, fleet, *[("work",)] * SLOTS, reserve="25%")
    tasks = 240
    fleet.app.work.enqueue_many([(n, 1, 90) for n in range(tasks)])
    wait_for(lambda: "to leave, after the task" in master.said(), lambda: f"slots to leave; {fleet.all_said()}", 60.0)
    assert "memory: " in master.said() and " MB for slots, 4 slots need " in master.said()
    wait_for(lambda: len(fleet.live()) < SLOTS, fleet.all_said, START)
    assert fleet.live(), "somebody goes on"
    fleet.wait_empty(within=60.0)
    assert killed(group) == 0
    assert [len(fleet.runs("begin", n)) for n in range(tasks)] == [1] * tasks
    assert [len(fleet.runs("end", n)) for n in range(tasks)] == [1] * tasks
    assert fleet.fates() == {}
    assert master.said().count("to leave, after the task") == 1, master.said()
    status = fleet.status()
    assert status["reason"].startswith("bound by memory: ")
    assert status["total_memory"] == LIMIT
    assert 0 < sum(slot["private"] for slot in status["slots"]) < LIMIT


def test_slots_leave_when_another_process_takes_the_memory_and_come_back_with_it(
    group: pathlib.Path, fleet: Fleet
) -> None:
    master = launch_in(group, fleet, ("stand", "work"), *[("work",)] * (SLOTS - 1), reserve="10%")
    tasks = 0

    def have_grown() -> bool:
        nonlocal tasks
        if not fleet.stats().tasks:
            fleet.app.work.enqueue_many([(tasks + n, 30, 1) for n in range(SLOTS)])
            tasks += SLOTS
        live = fleet.live()
        return len(live) == SLOTS and all((slot["private"] or 0) > 30 * M for slot in live if not slot["task"])

    fleet.app.stand.enqueue(1000)
    fleet.wait_run("begin", 1000)
    wait_for(have_grown, lambda: f"slots to grow; {fleet.all_said()}", 60.0)
    counts = [SLOTS]

    def slots() -> int:
        count = len([slot for slot in fleet.live() if slot["state"] != "leaving"])
        if count != counts[-1]:
            counts.append(count)
        return count

    words = [sys.executable, "-c", EATER, str(group), str(LIMIT), str(15 * M)]
    eater = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert eater.stdout is not None
        assert eater.stdout.readline() == b"full\n"
        wait_for(lambda: slots() < SLOTS and fleet.status()["free_memory"] > 20 * M, fleet.all_said, START)
        fewest = slots()
    finally:
        eater.kill()
        eater.communicate()
    wait_for(lambda: slots() > fewest, lambda: f"a slot to come back; {fleet.all_said()}", 60.0)
    turn = counts.index(fewest)
    assert counts[: turn + 1] == sorted(counts[: turn + 1], reverse=True), counts
    assert counts[turn:] == sorted(counts[turn:]), counts
    assert master.said().count("to leave, after the task") == master.said().count("more may be forked again") == 1
    assert killed(group) == 0
    fleet.open()
    fleet.wait_empty("stand")
    assert [len(fleet.runs(what, 1000)) for what in ("begin", "end")] == [1, 1], "nobody was killed in its task"
    assert fleet.fates() == fleet.fates("stand") == {}
