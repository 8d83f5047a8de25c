"""Slots that die: what they had done stays done, what ran is charged if it was to blame, the rest runs at once."""

import json
import os
import pathlib
import signal
import time
from collections.abc import Iterator

import pytest
from process.fleet import START, Fleet, lives, stands_in_a_pack, titled
from support.groups import memory_group
from support.waiting import wait_for

POISON = """\
import signal


@task(batch=4, backoff="50ms..100ms", max_crashes=2)
def work(how: str) -> None:
    note("begin", how)
    if how == "exit":
        os._exit(3)
    if how == "abort":
        os.abort()
    if how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    note("end", how)
"""
SLOW = """\
@task(batch=4, backoff="100ms..100ms")
def work(n: int) -> None:
    note("begin", n)
    if n == 4:
        time.sleep(1.2)
    if n == 5:
        gate("open")
    note("end", n)
"""
CAUSES = {"exit": "exited with code 3", "abort": "killed by SIGABRT", "segv": "killed by SIGSEGV"}
HANGS = """\
import ctypes
import signal
import subprocess


@task(time_limit="500ms", max_crashes=1)
def hang(own_session: bool) -> None:
    deaf = "trap '' TERM; while :; do sleep 600; done"  # takes no notice of a polite word
    child = subprocess.Popen(["sh", "-c", deaf], start_new_session=own_session)
    note("child", child.pid)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    ctypes.PyDLL(None).sleep(600)  # in C, with the interpreter's lock held


@task(max_crashes=1)
def litter() -> None:
    endless = "n=0; while [ $n -lt 400 ]; do sleep 600 & n=$((n+1)); done; wait"
    subprocess.Popen(["sh", "-c", f"{{ {endless}; }} & {{ {endless}; }} & {endless}"])
    os.kill(os.getpid(), signal.SIGKILL)  # while it starts one after the other


@task
def work(n: int) -> None:
    note("begin", n)
    gate("open")
    note("end", n)
"""


def test_after_the_kill_of_a_slot_marked_tasks_stay_done_and_the_rest_runs_at_once(fleet: Fleet) -> None:
    victim = stands_in_a_pack(fleet)
    fleet.publish(("work",), ("work",))
    fleet.slots(2)
    other = fleet.pid_of(1)
    wait_for(lambda: fleet.live()[1]["state"] == "idle", "slot 1 to be idle")
    os.kill(victim, signal.SIGKILL)
    [rest] = fleet.wait_run("begin", 6, within=5.0)
    assert rest.pid != victim
    fleet.wait_run("begin", 5, count=2)
    [fate] = fleet.fates().values()
    assert (fate.crashes, fate.failures) == (1, 0)
    assert "killed by SIGKILL" in fate.error
    fleet.open()
    fleet.wait_empty()
    assert [len(fleet.runs("end", n)) for n in range(7)] == [1] * 7
    assert [len(fleet.runs("begin", n)) for n in range(7)] == [1, 1, 1, 1, 1, 2, 1]
    assert lives(other)
    assert fleet.fates() == {}, "success clears the fate"
    assert fleet.stats().done == 7


def test_what_a_killed_task_took_is_booked_beside_what_its_slot_had_booked(fleet: Fleet) -> None:
    fleet.launch(SLOW, ("work",))
    fleet.app.work.enqueue_many([(n,) for n in range(7)])
    [run] = fleet.wait_run("begin", 5)
    wait_for(lambda: fleet.stats().done == 5, "what was done before to be settled")
    [told], booked = fleet.runs("end", 4), fleet.stats().busy
    assert booked > 1.2
    wait_for(lambda: time.monotonic() > run.at + 0.7, "the task to have run for a while")
    killed = time.monotonic()
    os.kill(run.pid, signal.SIGKILL)
    wait_for(lambda: fleet.stats().crashed == 1, "the crash to be counted")
    more = fleet.stats().busy - booked
    assert killed - run.at < more < time.monotonic() - told.at


def test_a_task_that_kills_its_process_is_buried_and_no_innocent_one_is_charged(fleet: Fleet) -> None:
    fleet.write_app(POISON)
    poison = {}
    for how in CAUSES:
        fleet.app.work.enqueue_many([(f"innocent-{how}-{n}",) for n in range(10)])
        poison[how] = fleet.app.work.enqueue(how).id
    fleet.publish(("work",), ("work",))
    master = fleet.start_master()
    fleet.wait_empty()
    assert fleet.buried() == set(poison.values())
    for how, task in poison.items():
        for what in ("has crashed, 1 of 2", "is buried after 2 crashes"):
            line = f"WARNING qmaster: work {task} {what}: the slot that ran it "
            wait_for(lambda line=line: line in master.said(), master.said)  # type: ignore[misc]
            told = master.said().partition(line)[2].splitlines()[0]
            assert CAUSES[how] in told
    fates = fleet.fates()
    assert fates.keys() == set(poison.values())
    for how, task in poison.items():
        assert CAUSES[how] in fates[task].error
        assert fates[task].crashes == 2
        assert len(fleet.runs("begin", how)) == 2
    shown = fleet.start("qmanager.admin", "task", "show", poison["segv"], "--json")
    assert shown.ended(START) == 0
    told = json.loads(shown.out.read_text())
    assert (told["crashes"], told["state"]) == (2, "fatal_failure") and CAUSES["segv"] in told["last_error"]
    innocent = [run.words for run in fleet.runs("end")]
    assert len(innocent) == len(set(innocent)) == 30


def test_a_hard_limit_kills_in_c_code_with_children_and_nobody_else(fleet: Fleet) -> None:  # case 33
    master = fleet.launch(HANGS, ("hang",), ("work",))
    fleet.app.work.enqueue(1)
    [innocent] = fleet.wait_run("begin", 1)
    task = fleet.app.hang.enqueue(False).id
    [child] = fleet.wait_run("child")
    wait_for(lambda: not lives(child.pid), "the slot that hangs to be killed", 5.0)
    wait_for(lambda: fleet.buried("hang") == {task}, "the task to be buried")
    assert "ran longer than its time limit" in fleet.fates("hang")[task].error
    assert 0.5 < fleet.stats("hang").busy < 5.0
    wait_for(lambda: not lives(int(child.words[1])), "its child to be gone", 5.0)  # killed before, it may still exit
    fleet.open()
    [end] = fleet.wait_run("end", 1)
    assert end.pid == innocent.pid
    assert master.process.poll() is None


def test_a_hard_limit_ends_a_child_that_has_left_the_session(fleet: Fleet) -> None:
    fleet.launch(HANGS, ("hang",))
    fleet.app.hang.enqueue(True)
    [child] = fleet.wait_run("child")
    wait_for(lambda: not lives(child.pid), "the slot that hangs to be killed", 5.0)
    stray = int(child.words[1])
    wait_for(lambda: not lives(stray), "its child to be gone", 5.0)
    wait_for(lambda: not sleepers(fleet), "its child's child to be gone", 5.0)


def test_what_starts_processes_while_its_slot_is_buried_leaves_none(fleet: Fleet) -> None:
    fleet.launch(HANGS, ("litter",))
    task = fleet.app.litter.enqueue().id
    wait_for(lambda: fleet.buried("litter") == {task}, "the task to be buried")
    wait_for(lambda: not sleepers(fleet), lambda: f"{len(sleepers(fleet))} of its children to be gone", 5.0)


def sleepers(fleet: Fleet) -> list[int]:
    return titled(fleet.folder, "sleep 600")


ALONE = """\
import ctypes
import signal


@task
def work() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    note("hangs")
    ctypes.PyDLL(None).sleep(600)
"""


def test_a_slot_that_hangs_in_c_with_all_signals_blocked_does_not_outlive_a_killed_master(fleet: Fleet) -> None:
    master = fleet.launch(ALONE, ("work",), ("work",))
    fleet.app.work.enqueue()
    [run] = fleet.wait_run("hangs")
    idle = next(slot["pid"] for slot in fleet.live() if slot["pid"] != run.pid)
    master.signal(signal.SIGKILL)
    wait_for(lambda: not lives(run.pid) and not lives(idle), "its slots to be gone", 5.0)


EATER = """\
@task(max_crashes=1)
def eat(group: str) -> None:
    pathlib.Path(group, "cgroup.procs").write_text(str(os.getpid()))
    note("eats")
    bytearray(400 << 20)
"""


@pytest.fixture
def small_group() -> Iterator[pathlib.Path]:
    with memory_group(100 << 20) as made:
        yield made


def test_a_kill_of_the_kernel_for_want_of_memory_is_told_as_that(fleet: Fleet, small_group: pathlib.Path) -> None:
    fleet.environ["QSLOTS_PRIVATE_LIMIT"] = "1G"  # else we are the first
    fleet.launch(EATER, ("eat",))
    task = fleet.app.eat.enqueue(str(small_group)).id
    fleet.wait_run("eats")
    wait_for(lambda: fleet.buried("eat") == {task}, lambda: f"the task to be buried; {fleet.all_said()}")
    assert "was killed by SIGKILL: the kernel was out of memory" in fleet.fates("eat")[task].error
