"""Slots as processes: whose children they are, what they are called, what the map makes of them."""

import contextlib
import gc
import os
import pathlib
import time

from process.fleet import PACK, SERVER, Fleet, alone_titled, children_of, lives, parent_and_session
from support.processes import title
from support.waiting import wait_for

TWO_QUEUES = """\
@task
def first(n: int) -> None:
    note("first", n)


@task
def second(n: int) -> None:
    note("second", n)
"""


def test_a_task_put_in_runs_in_a_slot(fleet: Fleet) -> None:
    fleet.launch(PACK, ("work",))
    fleet.app.work.enqueue(1)
    [run] = fleet.wait_run("end", 1)
    assert run.pid == fleet.pid_of(0)
    fleet.wait_empty()
    assert fleet.stats().done == 1


def test_master_mold_courier_and_slots_carry_titles_and_live_in_sessions_of_their_own(fleet: Fleet) -> None:
    master = fleet.launch(PACK, ("work",), ("work",))
    pids = [fleet.pid_of(0), fleet.pid_of(1)]
    assert [title(pid) for pid in pids] == ["qmaster: slot 0", "qmaster: slot 1"]
    mold = alone_titled(fleet.folder, "qmaster: mold gen 1")
    courier = alone_titled(fleet.folder, "qmaster: courier")
    wait_for(lambda: title(master.pid).startswith(f"qmaster: master [{SERVER}]"), lambda: title(master.pid))
    for pid in (*pids, mold, courier):
        assert parent_and_session(pid) == (master.pid, pid)
    assert parent_and_session(master.pid)[1] not in pids


def test_a_slot_serves_another_queue_without_being_born_again(fleet: Fleet) -> None:
    fleet.launch(TWO_QUEUES, ("first",))
    fleet.app.first.enqueue(1)
    [before] = fleet.wait_run("first")
    fleet.publish(("second",))
    fleet.app.second.enqueue(1)
    [after] = fleet.wait_run("second")
    assert after.pid == before.pid
    fleet.app.first.enqueue(2)
    fleet.app.second.enqueue(2)
    fleet.wait_run("second", 2)
    assert len(fleet.runs("first")) == 1
    assert [slot["queues"] for slot in fleet.live()] == [["second"]]


def test_one_slot_serves_several_queues(fleet: Fleet) -> None:
    fleet.launch(TWO_QUEUES, ("first", "second"))
    fleet.app.first.enqueue(1)
    fleet.app.second.enqueue(1)
    assert fleet.wait_run("first")[0].pid == fleet.wait_run("second")[0].pid


def test_a_sick_queue_does_not_end_the_slots_that_share_it(fleet: Fleet) -> None:
    fleet.client.redis.set(fleet.client.keys_of("second").part("holders"), "a text where a hash should be")
    master = fleet.launch(TWO_QUEUES, ("first", "second"))
    before = fleet.pid_of(0)
    fleet.app.first.enqueue_many([(n,) for n in range(50)])
    fleet.wait_empty("first")
    assert {run.pid for run in fleet.runs("first")} == {before} == {slot["pid"] for slot in fleet.live()}
    assert master.said().count("second@main: queue server") == 1
    fleet.client.redis.delete(fleet.client.keys_of("second").part("holders"))
    fleet.app.second.enqueue(1)
    assert fleet.wait_run("second")[0].pid == before


def test_a_slot_of_several_queues_hears_of_each_at_once_when_it_has_worked_for_another(fleet: Fleet) -> None:
    fleet.launch(TWO_QUEUES, ("first", "second"))
    delays = []
    for n in range(6):
        wait_for(lambda: [slot["state"] for slot in fleet.live()] == ["idle"], "an idle slot")
        name, began = ("first", "second")[n % 2], time.monotonic()
        getattr(fleet.app, name).enqueue(n)
        delays.append(fleet.wait_run(name, n)[0].at - began)
    assert max(delays) < 2.0, delays  # they look again by themselves after 3 s


def test_an_index_taken_off_the_map_leaves_and_can_come_back(fleet: Fleet) -> None:
    fleet.launch(PACK, ("work",), ("work",))
    stays, leaves = fleet.pid_of(0), fleet.pid_of(1)
    fleet.publish(("work",))
    wait_for(lambda: not lives(leaves), "slot 1 to leave")
    assert [slot["pid"] for slot in fleet.slots(1)] == [stays]
    fleet.publish(("work",), ("work",))
    assert [slot["pid"] for slot in fleet.slots(2)] == [stays, fleet.pid_of(1)]
    assert fleet.pid_of(1) not in (leaves, os.getpid())


def sockets(pid: int) -> set[str]:
    """The sockets that a living process holds; it may close other files while we look."""
    held = set()
    for each in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.add(str(each.readlink()))
    return {each for each in held if each.startswith("socket:")}


def test_no_process_of_a_fleet_holds_a_socket_of_another(fleet: Fleet) -> None:  # case 27
    """Or who waits for the end of a line would wait for everybody who has it."""
    master = fleet.launch(PACK, *[("work",)] * 2)
    held = {pid: sockets(pid) for pid in (master.pid, *children_of(fleet))}
    assert len(held) == 5 and all(held.values())
    every = [each for found in held.values() for each in found]
    assert len(every) == len(set(every)), held


FREEZES = """\
import gc

gc.callbacks.append(lambda phase, _: note("collects", gc.get_freeze_count()))
HEAP = [{str(n): n} for n in range(50_000)]


@task
def work() -> None:
    note("frozen", gc.get_freeze_count(), gc.isenabled())
"""


def test_a_mold_freezes_its_heap_and_never_collects_before(fleet: Fleet) -> None:  # case 28
    """A collection leaves holes in shared pages, which slots fill and so make their own."""
    fleet.launch(FREEZES, ("work",))
    gc.callbacks.pop()  # this process has imported it, too
    fleet.app.work.enqueue()
    [frozen] = fleet.wait_run("frozen")
    assert int(frozen.words[1]) > 50_000 and frozen.words[2] == "True"
    mold = alone_titled(fleet.folder, "qmaster: mold gen")
    assert all(int(run.words[1]) > 50_000 for run in fleet.runs("collects") if run.pid == mold)
