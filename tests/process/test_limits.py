"""Limits of tasks in real slots: soft, hard, extended; who is charged, what is stored, what the log says."""

import os
import signal

from process.fleet import Fleet, lives
from support.waiting import wait_for

LIMITS = """\
import ctypes
import select

from qslots import SoftTimeLimit, extend


@task(soft_time_limit="200ms", time_limit="20s", max_failures=2, backoff="50ms..50ms")
def soft() -> None:
    note("soft")
    select.select([], [], [], 600)


@task(soft_time_limit="200ms")
def tidies() -> None:
    try:
        select.select([], [], [], 600)
    except SoftTimeLimit:
        note("tidied")


@task(time_limit="1s", max_crashes=2, backoff="1s..1s")
def hard() -> None:
    note("hard")
    ctypes.PyDLL(None).sleep(600)  # in C, with the interpreter's lock held


@task(time_limit="1s", max_crashes=1)
def longer() -> None:
    extend("1m")
    note("begin")
    gate("open")
    note("end")


@task(alert_after="100ms", on_alert=lambda task_id, seconds: note("alert", task_id))
def slow() -> None:
    gate("open")


@task
def leaves_an_alarm() -> None:
    import signal
    signal.alarm(1)
    note("left")
"""


def test_soft_limit_is_a_failure_with_the_stack_in_the_log_or_a_success_if_caught(fleet: Fleet) -> None:
    fleet.launch(LIMITS, ("soft", "tidies"))
    late = fleet.app.soft.enqueue().id
    fleet.app.tidies.enqueue()
    fleet.wait_empty("soft")
    fleet.wait_empty("tidies")
    fate = fleet.fates("soft")[late]
    assert (fate.failures, fate.crashes) == (2, 0)
    assert fleet.buried("soft") == {late}
    assert "select.select" in fate.error
    assert "limits.py" not in fate.error.splitlines()[1], "the traceback begins at the handler"
    assert fleet.all_said().count(f"soft {late} ran into its soft limit of 0.2 s here:") == 2
    assert len(fleet.runs("tidied")) == 1
    assert fleet.fates("tidies") == {}
    assert {run.pid for run in fleet.runs()} == {fleet.pid_of(0)}, "the slot lives on"


def test_hard_limit_backs_off_and_buries_with_its_cause(fleet: Fleet) -> None:
    fleet.launch(LIMITS, ("hard",))
    stuck = fleet.app.hard.enqueue().id
    first, second = fleet.wait_run("hard", count=2)
    assert second.pid != first.pid
    assert second.at - first.at > 1.8, "its limit and its backoff"
    wait_for(lambda: fleet.buried("hard") == {stuck}, "the task to be buried")
    fate = fleet.fates("hard")[stuck]
    assert (fate.crashes, fate.failures) == (2, 0)
    assert fate.error == "the slot that ran it was killed: it ran longer than its time limit of 1 s"


def test_a_task_that_extends_its_limit_is_left_alone_until_then(fleet: Fleet) -> None:
    fleet.launch(LIMITS, ("longer",), ("hard",))
    fleet.app.longer.enqueue()
    [begun] = fleet.wait_run("begin")
    fleet.app.hard.enqueue()
    [witness] = fleet.wait_run("hard")
    wait_for(lambda: not lives(witness.pid), "one that does not extend to be killed at the same limit")
    assert lives(begun.pid)
    fleet.open()
    assert fleet.wait_run("end")[0].pid == begun.pid
    fleet.wait_empty("longer")


def test_task_longer_than_its_alert_is_told_of_once_by_the_master_and_to_its_hook(fleet: Fleet) -> None:
    master = fleet.launch(LIMITS, ("slow",))
    task = fleet.app.slow.enqueue().id
    [heard] = fleet.wait_run("alert", task)
    wait_for(lambda: f"slow {task} has been running for" in master.said(), "the master to say so")
    fleet.wait_run("alert", task)
    fleet.open()
    fleet.wait_empty("slow")
    assert heard.pid == fleet.pid_of(0)
    assert len(fleet.runs("alert")) == 1
    assert master.said().count("has been running for") == 1


def test_an_alarm_left_over_by_a_handler_does_not_end_the_slot(fleet: Fleet) -> None:
    fleet.launch(LIMITS, ("leaves_an_alarm",))
    fleet.app.leaves_an_alarm.enqueue()
    [left] = fleet.wait_run("left")
    fleet.wait_empty("leaves_an_alarm")
    os.kill(left.pid, signal.SIGALRM)  # whatever comes
    fleet.app.leaves_an_alarm.enqueue()
    again = fleet.wait_run("left", count=2)[1]
    assert again.pid == left.pid
    fleet.wait_empty("leaves_an_alarm")
    assert fleet.fates("leaves_an_alarm") == {}
