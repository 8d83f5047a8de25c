"""Slots that live and are of no use, slots that die again and again, and a master that comes late to its own work."""

import os
import pathlib
import re
import signal
import time
from typing import Any

from process.fleet import SERVER, START, Fleet, alone_titled, lives
from support.moved_clock import sitecustomize as moved_clock
from support.waiting import wait_for

from qslots.control import Control
from qslots.scoreboard import Scoreboard

PATIENCE = 45.0  # seconds for what takes twenty by design, on a busy machine
GATED = """\
@task
def work(n: int) -> None:
    note("begin", n)
    gate("open")
    note("end", n)
"""


def deaths(fleet: Fleet) -> dict[str, int]:
    found: dict[str, int] = fleet.status().get("deaths", {})
    return found


def parked(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.status().get("parked", [])
    return found


USELESS = """\
from qslots import hooks
from qslots.slot import Slot


@hooks.after_fork
def one_slot_looks_for_nothing(slot: hooks.Slot) -> None:
    if slot.index == 1 and not (HERE / "was deaf").exists():
        (HERE / "was deaf").touch()
        Slot._take = lambda self: None


@task
def work(n: int) -> None:
    note("end", n)


@task
def other(n: int) -> None:
    note("other", n)
"""


def test_a_slot_that_is_stopped_and_one_that_looks_for_nothing_are_replaced(fleet: Fleet) -> None:
    master = fleet.launch(USELESS, ("other",), ("work",), ("other",))
    stopped, deaf, sound = (fleet.pid_of(index) for index in range(3))
    wait_for(lambda: fleet.live()[0]["state"] == "idle", "slot 0 to be idle")
    os.kill(stopped, signal.SIGSTOP)
    fleet.app.work.enqueue(1)
    fleet.wait_run("end", 1, within=PATIENCE)
    assert not lives(deaf)
    assert "made no attempt to take though a task waits" in master.said()
    wait_for(lambda: not lives(stopped), lambda: f"the stopped slot to be replaced; {master.said()}", PATIENCE)
    fleet.slots(3)
    wait_for(lambda: deaths(fleet) == {"silent": 1, "no attempt": 1}, lambda: f"{deaths(fleet)}")
    assert "was ended by its master: silent for 2" in master.said()
    assert fleet.pid_of(2) == sound, "others live on"


STUBBORN = """\
import signal


@task
def work(n: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("begin", n)
    gate("open")
    note("end", n)
"""


def test_a_task_that_takes_sigterm_for_itself_does_not_keep_its_slot(fleet: Fleet) -> None:
    fleet.launch(STUBBORN, ("work",))
    fleet.app.work.enqueue_many([(1,), (2,)])
    [run] = fleet.wait_run("begin", 1)
    fleet.publish(())
    wait_for(lambda: fleet.live()[0]["state"] == "leaving", "the slot to be asked to leave")
    fleet.open()
    fleet.wait_run("end", 1)
    wait_for(lambda: not lives(run.pid), "the slot to leave")
    wait_for(lambda: deaths(fleet) == {"left": 1}, lambda: f"{deaths(fleet)}")
    assert fleet.runs("begin", 2) == []


CLOSES_ALL = """\
import signal


@task
def work(n: int) -> None:
    note("begin", n)
    if times("begin", n) == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(3, 100)
        gate("open")
    note("end", n)
"""


def test_a_slot_that_cannot_be_told_anything_is_asked_and_goes_after_its_task(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_GRACEFUL_TIMEOUT"] = "1s"
    master = fleet.launch(CLOSES_ALL, ("work",))
    fleet.app.work.enqueue(1)
    [run] = fleet.wait_run("begin", 1)
    wait_for(lambda: fleet.live()[0]["state"] == "leaving", lambda: f"it to be asked; {master.said()}", PATIENCE)
    asked = time.monotonic()
    wait_for(lambda: time.monotonic() > asked + 2.0, "twice the grace to pass")
    assert lives(run.pid), "time in its task is no grace"
    fleet.open()
    wait_for(lambda: not lives(run.pid), lambda: f"the slot to go; {master.said()}", PATIENCE)
    fleet.wait_empty()
    fleet.slots(1)
    assert deaths(fleet) == {"exit:70": 1}, "without its descriptors it can only fail"
    assert len(fleet.runs("begin", 1)) == len(fleet.runs("end", 1)) == 1
    assert (fleet.stats().done, fleet.stats().crashed) == (1, 0)


BOMB = """\
import signal


@task(max_crashes=3, backoff="5s..5s")
def bomb(n: int) -> None:
    note("bomb", n)
    os.kill(os.getpid(), signal.SIGSEGV)


@task(queue="bomb")
def beside(n: int) -> None:
    note("beside", n)


@task
def work(n: int) -> None:
    note("end", n)
"""


def test_a_handler_whose_every_task_ends_its_slot_is_parked_with_the_cause(fleet: Fleet) -> None:
    master = fleet.launch(BOMB, ("bomb",), ("bomb",), ("work",))
    sound = fleet.pid_of(2)
    fleet.app.bomb.enqueue_many([(n,) for n in range(200)])
    fleet.app.work.enqueue_many([(n,) for n in range(200)])
    said = "ERROR qmaster: handler bomb of queue bomb is parked: 10 slots in a row died of "
    wait_for(lambda: said in master.said(), master.said, PATIENCE)
    fleet.wait_empty("work")
    fleet.app.beside.enqueue(1)
    fleet.wait_run("beside", 1)
    assert len(fleet.runs("bomb")) <= 10 + 2, "with those that were under way when it was parked"
    assert master.said().count("is parked") == 1
    [reason] = fleet.stats("bomb").reasons.values()
    assert "was killed by SIGSEGV" in reason
    assert "qslots queue resume bomb --handler bomb" in reason
    assert fleet.buried("bomb") == set()
    assert fleet.pid_of(2) == sound
    assert deaths(fleet) == {"signal:SIGSEGV": len(fleet.runs("bomb"))}


LOOPS = """\
from qslots import hooks


@hooks.after_fork
def slot_0_is_ill(slot: hooks.Slot) -> None:
    if slot.index == 0 and not (HERE / "mended").exists():
        note("ill")
        raise OSError("no licence")


@task
def work(n: int) -> None:
    note("end", n)


@task
def other(n: int) -> None:
    note("end", n)
"""


def test_an_assignment_whose_slots_cannot_begin_is_parked_and_another_map_row_ends_it(fleet: Fleet) -> None:
    fleet.write_app(LOOPS)
    fleet.publish(("work",), ("other",))
    master = fleet.start_master()
    wait_for(lambda: parked(fleet), master.said, PATIENCE)
    why = "hook after_fork: slot_0_is_ill raised OSError: no licence"
    [found] = parked(fleet)
    assert (found["queues"], found["why"], found["deaths"]) == (["work"], why, 5)
    assert 0 < found["next"] <= 30
    assert len(fleet.runs("ill")) == 5
    assert deaths(fleet) == {"exit:1": 5}
    assert master.said().count("work is parked on this server: slots for it have died 5 times in a row") == 1
    wait_for(lambda: reported(fleet) == {"work": why}, "the report to tell of it")
    fleet.app.other.enqueue(1)
    fleet.wait_run("end", 1)
    (fleet.folder / "mended").touch()
    fleet.publish(("work", "other"), ("other",))
    fleet.slots(2)
    wait_for(lambda: parked(fleet) == [], lambda: f"{parked(fleet)}")


def reported(fleet: Fleet) -> dict[str, str]:
    reports, _, _ = Control(fleet.client).reports()
    return reports[SERVER].parked if SERVER in reports else {}


def test_a_master_that_was_stopped_for_a_minute_of_its_clock_ends_nobody(fleet: Fleet) -> None:
    move = moved_clock.create(fleet.folder / "clock")
    fleet.write_app(GATED)
    fleet.publish(("work",), ("work",))
    folder = pathlib.Path(moved_clock.__file__).parent
    master = fleet.start_master({"PYTHONPATH": str(folder), "QSLOTS_TEST_CLOCK": str(fleet.folder / "clock")})
    living = [slot["pid"] for slot in fleet.slots(2)]
    fleet.app.work.enqueue(1)
    [run] = fleet.wait_run("begin", 1)
    victim = next(pid for pid in reversed(living) if pid != run.pid)
    living.remove(victim)
    mold = alone_titled(fleet.folder, "qmaster: mold gen")
    os.kill(mold, signal.SIGSTOP)
    index = next(slot["index"] for slot in fleet.live() if slot["pid"] == victim)
    dead = holder(fleet, index)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: holder(fleet, index) not in (dead, ""), "another slot to be ordered, and not yet to be born")
    [(lock, until)] = locks(fleet)

    master.signal(signal.SIGSTOP)
    wait_for(lambda: state(master.pid) == "T", "the master to stand still")
    move(60.0)
    master.signal(signal.SIGCONT)

    wait_for(lambda: re.search(r"this turn comes (59|6\d) s late", master.said()), master.said)
    wait_for(lambda: locks(fleet)[0][1] > until, "the lock to be extended", 5.0)
    assert [name for name, _ in locks(fleet)] == [lock]
    os.kill(mold, signal.SIGCONT)
    assert {slot["pid"] for slot in fleet.slots(2)} > set(living)
    fleet.open()
    fleet.wait_run("end", 1)
    fleet.wait_empty()
    assert len(fleet.runs("begin", 1)) == 1
    assert deaths(fleet) == {"signal:SIGKILL": 1}
    for word in ("by its master", "not born", "was never born", "is replaced"):
        assert word not in master.said()


def locks(fleet: Fleet) -> list[tuple[bytes, float]]:
    found: Any = fleet.client.redis.zrange("qs:{work}:locks", 0, -1, withscores=True)
    return list(found)


def holder(fleet: Fleet, index: int) -> str:
    [path] = (fleet.folder / "run").glob("*.board")
    return Scoreboard.open(str(path)).record(index).text("holder")


def state(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


SHORT = """\
@task(lock="4s")
def work(n: int) -> None:
    note("begin", n)
    if times("begin", n) == 1:
        gate("open")
    note("end", n)
"""


def test_a_task_whose_lock_cannot_be_extended_is_ended_uncharged(fleet: Fleet) -> None:
    master = fleet.launch(SHORT, ("work",))
    fleet.app.work.enqueue(1)
    [first] = fleet.wait_run("begin", 1)
    redis = int(fleet.client.redis.info("server")["process_id"])
    os.kill(redis, signal.SIGSTOP)
    try:
        wait_for(lambda: not lives(first.pid), lambda: f"the slot to be ended; {master.said()}", PATIENCE)
    finally:
        os.kill(redis, signal.SIGCONT)
    told = "may no longer be trusted: its lock could not be extended"
    wait_for(lambda: told in master.said(), master.said, START)
    fleet.wait_run("end", 1)
    fleet.wait_empty()
    assert len(fleet.runs("begin", 1)) == 2
    assert fleet.stats().crashed == 0
    assert deaths(fleet) == {"lock not extended": 1}
