"""Memory of real slots: who is recycled for growth and who is not, hard limits inside a task, the plateau."""

import pathlib
import resource
import time
from functools import partial

from process.fleet import APP as APP_NAME
from process.fleet import START, Fleet, Program, lives
from support.waiting import wait_for

APP = """\
import gc

TABLE = bytes(range(256)) * (200 << 12)  # 200 MB, loaded once
OBJECTS = [str(n) for n in range(300_000)]  # some 20 MB that reference counts are written into
KEPT: list[bytearray] = []


@task(batch=1)
def work(megabytes: int) -> None:
    KEPT.append(bytearray(os.urandom(1024)) * (megabytes << 10))
    note("leaked", megabytes)


@task(batch=4)
def reads(n: int) -> None:
    note("read", n, TABLE.count(7) + sum(len(each) for each in OBJECTS))


@task(batch=1)
def litters() -> None:
    gc.disable()
    for _ in range(8):
        cycle: list[object] = [bytearray(os.urandom(1024)) * (10 << 10)]
        cycle.append(cycle)
    gc.callbacks.append(lambda phase, _: note("collected") if phase == "stop" else None)
    note("littered")


@task(max_crashes=2, backoff="100ms..100ms")
def devours() -> None:
    note("devours")
    while True:
        KEPT.append(bytearray(b"x") * (4 << 20))
        time.sleep(0.02)


@task(max_crashes=1)
def mixed(megabytes: int, attempt: int) -> None:
    if megabytes:
        KEPT.append(bytearray(b"x") * (megabytes << 20))
        note("grown", attempt)
    else:
        note("begin", attempt)
        gate(f"open{attempt}")


@task
def imports() -> None:
    import late

    note("imported", len(late.DATA))
"""
BIG_TABLE = """\
OBJECTS = [str(n) for n in range(1_500_000)]  # some 90 MB that reference counts are written into


@task
def work() -> None:
    note("read", sum(len(each) for each in OBJECTS))
"""
PERIOD = 2.5  # seconds from one reading of a slot to the next: one, but for a busy machine and for what reading costs
NEVER = {"growth": 0, "tasks": 0, "age": 0}


def says(master: Program, text: str) -> None:
    wait_for(lambda: text in master.said(), lambda: f"{text!r} in the log: {master.said()}", START)


def private(fleet: Fleet, index: int) -> int:
    """As last measured, bytes; 0 before that."""
    return next((int(slot["private"] or 0) for slot in fleet.live() if slot["index"] == index), 0)


def other_pid(fleet: Fleet, than: list[int]) -> int | None:
    return next((int(slot["pid"]) for slot in fleet.live() if slot["pid"] not in than), None)


def resident(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_leak_is_recycled_after_its_task_and_no_task_is_lost(fleet: Fleet) -> None:
    master = fleet.launch(APP, ("work",), ("reads",))
    leaking, bystander = fleet.pid_of(0), fleet.pid_of(1)
    fleet.app.work.enqueue_many([(10,) for _ in range(7)])
    says(master, "slot 0 is recycled: it has grown by")
    wait_for(lambda: not lives(leaking), "the slot that has leaked to leave")
    took = time.monotonic() - fleet.runs("leaked")[-1].at
    assert took < 2 * PERIOD, f"{took:.1f} s from the last leak to its end"
    fleet.app.work.enqueue(1)
    [run] = fleet.wait_run("leaked", 1)
    fleet.wait_empty()
    assert run.pid != leaking
    assert len(fleet.runs("leaked", 10)) == 7
    assert fleet.fates() == {}
    assert "over its" in master.said()
    assert "; work: +" in master.said()
    status = fleet.status()
    assert status["recycled"] == NEVER | {"growth": 1}
    assert 2 << 20 < status["growth"]["work"]["bytes_a_task"] < 20 << 20
    assert fleet.pid_of(1) == bystander


def test_slot_is_never_recycled_for_what_it_shares_with_the_mold(fleet: Fleet) -> None:
    fleet.launch(APP, ("reads",))
    pid = fleet.pid_of(0)
    fleet.app.reads.enqueue_many([(n,) for n in range(8)])
    fleet.wait_run("read", count=8)
    wait_for(lambda: private(fleet, 0) > 8 << 20, "its reference counts to be seen", START)
    assert resident(pid) > 200 << 20
    fleet.app.reads.enqueue_many([(n,) for n in range(8, 12)])
    fleet.wait_run("read", count=12)
    assert {run.pid for run in fleet.runs("read")} == {pid}
    assert fleet.status()["recycled"] == NEVER


def test_garbage_that_can_be_collected_is_no_reason_to_recycle(fleet: Fleet) -> None:
    master = fleet.launch(APP, ("litters",))
    pid = fleet.pid_of(0)
    fleet.app.litters.enqueue()
    fleet.wait_run("littered")
    fleet.wait_run("collected")
    wait_for(lambda: 0 < private(fleet, 0) < 40 << 20, lambda: f"less: {private(fleet, 0)}; {master.said()}", START)
    assert fleet.pid_of(0) == pid
    assert fleet.status()["recycled"] == NEVER
    fleet.wait_empty("litters")


def test_task_that_outgrows_twice_the_limit_is_killed_charged_and_buried_alone(fleet: Fleet) -> None:
    master = fleet.launch(APP, ("devours",), ("reads",))
    bystander = fleet.pid_of(1)
    task = fleet.app.devours.enqueue().id
    wait_for(lambda: task in fleet.buried("devours"), lambda: f"its burial: {master.said()}", START)
    assert len(fleet.runs("devours")) == 2
    fate = fleet.fates("devours")[task]
    assert fate.crashes == 2
    assert "was killed: it used too much memory: " in fate.error
    assert "twice its limit of 48 MB" in fate.error
    assert fate.error.removeprefix("the slot that ran it ") in master.said()
    fleet.app.reads.enqueue(1)
    assert fleet.wait_run("read")[0].pid == bystander


def test_task_that_begins_in_a_slot_that_another_has_just_grown_is_not_charged(fleet: Fleet) -> None:
    fleet.launch(APP, ("mixed",))
    for attempt in range(9):
        fleet.app.mixed.enqueue_many([(120, attempt), (0, attempt)])
        [grown] = fleet.wait_run("grown", attempt)
        first = fleet.wait_run("begin", attempt)[0]
        if first.pid == grown.pid:
            break
        fleet.open(f"open{attempt}")  # the slot was measured while it grew, and left before the other began
    assert first.pid == grown.pid
    crashed = fleet.stats("mixed").crashed
    second = fleet.wait_run("begin", attempt, count=2)[1]
    assert first.pid != second.pid, "its slot was killed"
    fleet.open(f"open{attempt}")
    fleet.wait_empty("mixed")
    assert fleet.stats("mixed").crashed == crashed
    assert fleet.status()["deaths"]["memory"] >= 1


def test_slot_is_recycled_after_so_many_tasks_and_hands_back_the_rest_of_its_pack(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_RECYCLE_AFTER_TASKS"] = "5"
    master = fleet.launch(APP, ("reads",))
    fleet.app.reads.enqueue_many([(n,) for n in range(20)])
    fleet.wait_run("read", count=20)
    fleet.wait_empty("reads")
    wait_for(
        lambda: fleet.status()["recycled"]["tasks"], "a slot to be recycled; how many depends on their haste", START
    )
    assert "is recycled" not in master.said(), "that is as the settings say"
    assert sorted(int(run.words[1]) for run in fleet.runs("read")) == list(range(20))
    assert fleet.fates("reads") == {}


def test_what_every_slot_needs_soon_after_birth_stops_its_recycling(fleet: Fleet) -> None:
    fleet.write_app(BIG_TABLE)
    fleet.publish(("work",))
    master = fleet.start_master()
    pids: list[int] = []
    for born in range(1, 4):
        pids.append(wait_for(partial(other_pid, fleet, pids), "the next slot", START))
        fleet.app.work.enqueue()
        fleet.wait_run("read", count=born)
    says(master, "they are not recycled for growth any more: set server.private_limit to at least")
    [plateau] = fleet.status()["plateaus"]
    assert plateau["queues"] == ["work"]
    assert plateau["limit"] == 48 << 20 < plateau["growth"] < plateau["needed"]
    assert fleet.status()["recycled"] == NEVER | {"growth": 2}
    fleet.app.work.enqueue()
    assert fleet.wait_run("read", count=4)[-1].pid == fleet.pid_of(0) == pids[-1]


def test_what_a_slot_imports_is_told_of_with_its_price(fleet: Fleet) -> None:
    (fleet.folder / "late.py").write_text("DATA = bytearray(b'x') * (5 << 20)\n")
    master = fleet.launch(APP, ("imports",))
    fleet.app.imports.enqueue()
    says(master, "imports after fork: late +5 MB a slot: import them at the top of the application")
    [found] = [each for each in fleet.status()["late_imports"] if "late" in each["modules"]]
    assert found["slots"] == 1
    assert found["bytes"] >= 5 << 20


def test_limit_that_no_slot_could_keep_is_refused_at_the_start(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_PRIVATE_LIMIT"] = "64K"
    fleet.write_app(APP)
    master = fleet.start_master()
    check = fleet.start("qmaster", "check", "--app", APP_NAME)
    for program in (master, check):
        assert program.ended(START) == 1
        assert "server.private_limit 64K is less than twice what a fresh slot" in program.said()
        assert "set at least " in program.said()
