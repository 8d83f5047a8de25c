"""The end of qmaster and of its helpers, wanted or not: who lives on, what is settled, what is left behind."""

import os
import pathlib
import signal
import socket

import pytest
from process.fleet import PACK, SERVER, START, Fleet, Program, alone_titled, children_of, lives, within
from support.processes import processes_in
from support.waiting import wait_for


def stopped_in_a_pack(fleet: Fleet, *more: tuple[str, ...]) -> Program:
    """Tasks 0 to 6 in packs of 1, 2 and 4: slot 0 stands in task 5, with 3 and 4 marked and 6 not begun."""
    fleet.write_app(PACK)
    fleet.app.work.enqueue_many([(n,) for n in range(7)])
    fleet.publish(("work",))
    master = fleet.start_master()
    fleet.wait_run("begin", 5)
    assert fleet.locked() == [4]
    if more:
        fleet.publish(("work",), *more)
        fleet.slots(1 + len(more))
    return master


def begun(fleet: Fleet) -> list[int]:
    return [len(fleet.runs("begin", n)) for n in range(7)]


def remains(fleet: Fleet) -> list[str]:
    """Control sockets and scoreboards."""
    return sorted(path.name for path in (fleet.folder / "run").iterdir() if path.suffix in (".sock", ".board"))


def test_no_process_outlives_a_killed_master(fleet: Fleet) -> None:
    master = stopped_in_a_pack(fleet, ("work",))
    family = children_of(fleet)
    assert len(family) == 4
    master.signal(signal.SIGKILL)
    wait_for(lambda: not any(map(lives, family)), "mold, courier and slots to end", 5.0)


def test_a_new_master_settles_what_a_killed_one_left_exactly_and_at_once(fleet: Fleet) -> None:
    first = stopped_in_a_pack(fleet)
    first.signal(signal.SIGKILL)
    first.ended()
    fleet.open()
    second = fleet.start_master()
    fleet.wait_run("end", 6, within=10.0)  # the lock would have lasted 60 s
    fleet.wait_empty()
    assert begun(fleet) == [1, 1, 1, 1, 1, 2, 1]
    assert (fleet.stats().done, fleet.stats().crashed, fleet.fates()) == (7, 0, {})
    wait_for(lambda: len(remains(fleet)) == 2, "the old scoreboard to go")
    assert second.process.poll() is None


def test_a_master_killed_before_it_was_registered_forgets_nothing(fleet: Fleet) -> None:
    stopped_in_a_pack(fleet).signal(signal.SIGKILL)
    second = fleet.start_master()
    wait_for(lambda: fleet.status(), "the second master to listen; its courier is not ready yet")
    second.signal(signal.SIGKILL)
    second.ended()
    fleet.open()
    fleet.start_master()
    fleet.wait_run("end", 6, within=10.0)
    fleet.wait_empty()
    assert begun(fleet) == [1, 1, 1, 1, 1, 2, 1]


def test_slots_work_on_without_their_mold_and_a_new_one_bears_slots(fleet: Fleet) -> None:
    fleet.launch(PACK, ("work",))
    before = fleet.pid_of(0)
    mold = alone_titled(fleet.folder, "qmaster: mold gen 1")
    os.kill(mold, signal.SIGKILL)
    wait_for(lambda: not lives(mold), "the mold to be gone")
    fleet.app.work.enqueue(1)
    assert fleet.wait_run("end", 1)[0].pid == before
    fleet.publish(("work",), ("work",))
    fleet.slots(2)
    again = alone_titled(fleet.folder, "qmaster: mold gen 2")
    assert again != mold
    # What the dead mold has borne shares its pages with no new slot, and may be older code: it is replaced.
    wait_for(lambda: [slot["generation"] for slot in fleet.live()] == [2, 2], fleet.all_said, START)


def test_a_courier_is_replaced_and_no_settlement_is_lost(fleet: Fleet) -> None:
    stopped_in_a_pack(fleet, ("work",))
    victim = fleet.pid_of(0)
    wait_for(lambda: fleet.live()[1]["state"] == "idle", "slot 1 to be idle")
    survivor = fleet.pid_of(1)
    courier = alone_titled(fleet.folder, "qmaster: courier")
    os.kill(courier, signal.SIGSTOP)  # the settlement reaches it, but is not done
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not lives(victim), "the slot to be gone")
    os.kill(courier, signal.SIGKILL)
    fleet.wait_run("begin", 6, within=5.0)
    fleet.open()
    fleet.wait_empty()
    assert begun(fleet) == [1, 1, 1, 1, 1, 2, 1]
    again = alone_titled(fleet.folder, "qmaster: courier")
    assert again != courier
    assert fleet.pid_of(1) == survivor


def test_a_second_master_of_the_name_is_refused_and_the_first_unharmed(fleet: Fleet) -> None:
    first = fleet.launch(PACK, ("work",))
    before = fleet.pid_of(0)
    second = fleet.start_master()
    assert second.ended() == 1
    [line] = second.err.read_text().splitlines()
    assert f"(pid {first.pid})" in line and SERVER in line
    fleet.app.work.enqueue(1)
    assert fleet.wait_run("end", 1)[0].pid == before
    assert fleet.status()["pid"] == first.pid


def test_a_second_master_of_the_name_on_another_machine_is_refused(fleet: Fleet) -> None:
    first = fleet.launch(PACK, ("work",))
    before = fleet.pid_of(0)
    elsewhere = fleet.folder / "elsewhere"
    second = fleet.start_master({"QSLOTS_RUNTIME_DIR": str(elsewhere)})
    assert second.ended() == 1
    last = second.err.read_text().splitlines()[-1]
    assert f"a qmaster of the name {SERVER} is alive elsewhere ({socket.gethostname()}, pid {first.pid})" in last
    assert [path.name for path in elsewhere.iterdir() if path.suffix in (".sock", ".board")] == []
    assert len(processes_in(fleet.folder)) == 5 - 1 + 1  # master, mold, courier, slot, redis
    assert fleet.pid_of(0) == before


def test_on_term_slots_finish_their_task_and_hand_back_the_rest(fleet: Fleet) -> None:
    master = stopped_in_a_pack(fleet)
    master.signal(signal.SIGTERM)
    wait_for(lambda: [slot["state"] for slot in fleet.live()] == ["leaving"], "the slot to be asked to leave")
    assert fleet.runs("end", 5) == []
    fleet.open()
    assert master.ended() == 0
    assert len(fleet.runs("end", 5)) == 1
    assert begun(fleet) == [1, 1, 1, 1, 1, 1, 0]
    stats = fleet.stats()
    assert (stats.done, stats.active, stats.locked, stats.inactive) == (6, 1, 0, 0)
    assert fleet.fates() == {}
    assert remains(fleet) == []
    assert children_of(fleet) == []
    assert fleet.client.redis.hlen("qs:masters") == 0


def test_a_second_int_ends_at_once_without_a_charge(fleet: Fleet) -> None:
    master = stopped_in_a_pack(fleet)
    master.signal(signal.SIGINT)
    wait_for(lambda: fleet.status().get("stage") == "stopping", "the master to stop")
    master.signal(signal.SIGINT)
    with within(2.0):
        assert master.ended() == 0
    stats = fleet.stats()
    assert (stats.done, stats.active, stats.locked, stats.inactive) == (5, 2, 0, 0)
    assert fleet.fates() == {}
    assert remains(fleet) == []


def test_status_and_stop(fleet: Fleet) -> None:
    master = fleet.launch(PACK, ("work",))
    status = fleet.start("qmaster", "status", "--json")
    assert status.ended() == 0
    told = status.out.read_text()
    assert f'"pid": {master.pid}' in told and f'"pid": {fleet.pid_of(0)}' in told
    stop = fleet.start("qmaster", "stop")
    assert stop.ended() == 0
    assert master.ended(1.0) == 0
    assert remains(fleet) == []
    none = fleet.start("qmaster", "status")
    assert none.ended() == 1
    [line] = none.err.read_text().splitlines()
    assert "no qmaster is running here" in line


STARTS = """\
import subprocess

@task
def start(how: str) -> None:
    if how == "program":
        child = subprocess.Popen(["sleep", "600"], start_new_session=True).pid
    elif how == "shell":
        os.system("sleep 600 & echo $! > pid")
        child = int(open("pid").read())
    else:
        child = os.fork() or time.sleep(600)
    note("child", child)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["program", "shell", "fork"])
def test_what_a_task_had_started_does_not_outlive_a_killed_master_beyond_its_successor(fleet: Fleet, how: str) -> None:
    master = fleet.launch(STARTS, ("start",))
    fleet.app.start.enqueue(how)
    [started] = fleet.wait_run("child")
    stray = int(started.words[1])
    master.signal(signal.SIGKILL)
    master.ended()
    try:
        fleet.start_master()
        wait_for(lambda: not lives(stray), "the child of the task to be gone", 5.0)
    finally:
        if lives(stray):
            os.kill(stray, signal.SIGKILL)


def test_an_orderly_end_leaves_not_even_a_zombie(fleet: Fleet) -> None:
    fleet.write_app(PACK)
    master = fleet.start_master()
    wait_for(lambda: len(children_of(fleet)) == 2, "mold and courier to live")
    family = children_of(fleet)
    master.signal(signal.SIGTERM)
    assert master.ended() == 0
    assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in family)
