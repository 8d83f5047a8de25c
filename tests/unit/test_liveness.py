"""Slots that are silent, or idle beside tasks that wait: what the master does, and when."""

from dataclasses import replace

import pytest

from qmaster.liveness import READY_WITHIN, Liveness, LookUp, Move, Poke, Replace, Sign
from qmaster.reasons import Reason

IDLE = Sign("web/3/x.1", (7, 1), 1, sleeps=False, has_begun=True, has_task=False, has_pack=False)
NO_ATTEMPT = "made no attempt to take though {} wait"


def looked(liveness: Liveness, sign: Sign, *times: float) -> list[tuple[float, Move]]:
    return [(now, move) for now in times for move in liveness.look({3: sign}, now)]


def silent(sign: Sign, *times: float) -> list[tuple[float, Move]]:
    """What is done about one that gives no sign, but for looking whether tasks wait."""
    return [each for each in looked(Liveness(), sign, *times) if not isinstance(each[1], LookUp)]


def test_a_silent_slot_is_poked_and_then_replaced() -> None:
    assert silent(IDLE, 0, 14.9, 15, 16, 19.9, 20) == [
        (15, Poke(3)), (20, Replace(3, "silent for 20 s", Reason.SILENT)),
    ]  # fmt: skip


@pytest.mark.parametrize("sign", [replace(IDLE, has_task=True), replace(IDLE, has_task=True, has_pack=True)])
def test_while_a_task_runs_no_sign_is_expected(sign: Sign) -> None:
    assert looked(Liveness(), sign, 0, 20, 3600) == []


def test_while_it_sleeps_no_sign_is_expected_but_whether_tasks_wait_is_looked_up() -> None:
    liveness, asleep = Liveness(), replace(IDLE, sleeps=True)
    assert looked(liveness, asleep, 0, 6, 30) == [(30, LookUp(3))]
    assert [move for _, move in looked(liveness, IDLE, 44, 45, 50) if not isinstance(move, LookUp)] == [
        Poke(3), Replace(3, "silent for 20 s", Reason.SILENT),
    ]  # fmt: skip


def test_a_slot_that_was_busy_is_not_silent_at_once_when_its_task_is_over() -> None:
    liveness = Liveness()
    looked(liveness, replace(IDLE, has_task=True), 0, 3600)
    assert looked(liveness, IDLE, 3601, 3606) == []


def test_any_sign_of_life_counts() -> None:
    liveness = Liveness()
    for second in range(60):
        assert looked(liveness, replace(IDLE, life=(second // 10, 1), takes=second // 5), second) == []


def test_a_slot_is_not_silent_for_its_predecessor() -> None:
    liveness = Liveness()
    looked(liveness, IDLE, 0, 15)
    assert looked(liveness, replace(IDLE, holder="web/3/x.2"), 20) == []


def test_a_slot_that_never_gets_ready_is_replaced_late() -> None:
    assert looked(Liveness(), replace(IDLE, has_begun=False, takes=0), 0, 60, READY_WITHIN - 1, READY_WITHIN) == [
        (READY_WITHIN, Replace(3, "not ready 300 s after its birth", Reason.LATE_BIRTH)),
    ]  # fmt: skip


def test_an_idle_slot_that_asks_for_nothing_is_looked_up_every_time() -> None:
    assert looked(Liveness(), IDLE, 0, 6.9, 7, 8) == [(7, LookUp(3)), (8, LookUp(3))]


@pytest.mark.parametrize(("tasks", "words"), [(1, "a task waits"), (12, "12 tasks wait")])
def test_where_tasks_wait_it_is_poked_and_replaced_if_no_attempt_follows(tasks: int, words: str) -> None:
    liveness = Liveness()
    looked(liveness, IDLE, 0, 7)
    assert liveness.tasks_wait(3, IDLE.holder, tasks, 7.1) == [Poke(3)]
    assert liveness.tasks_wait(3, IDLE.holder, tasks, 8.1) == []
    moving = [replace(IDLE, life=(8 + second, 1)) for second in range(6)]  # its loop turns, that is no attempt
    assert [move for second, sign in enumerate(moving) for move in liveness.look({3: sign}, 8.0 + second)] == [
        Replace(3, f"made no attempt to take though {words}", Reason.NO_ATTEMPT)
    ]


@pytest.mark.parametrize("sign", [replace(IDLE, takes=2), replace(IDLE, has_pack=True), replace(IDLE, has_task=True)])
def test_an_attempt_ends_it(sign: Sign) -> None:
    liveness = Liveness()
    looked(liveness, IDLE, 0, 7)
    liveness.tasks_wait(3, IDLE.holder, 5, 7.1)
    assert looked(liveness, sign, 8) == []
    assert looked(liveness, sign, 14) == []


def test_where_nothing_waits_nothing_follows() -> None:
    liveness = Liveness()
    looked(liveness, IDLE, 0, 7)
    assert liveness.tasks_wait(3, IDLE.holder, 0, 7.1) == []
    assert liveness.tasks_wait(3, "web/3/x.0", 5, 7.1) == [], "of its predecessor"
    assert liveness.tasks_wait(4, IDLE.holder, 5, 7.1) == []


def test_while_the_master_was_away_nobody_was_silent() -> None:
    liveness = Liveness()
    looked(liveness, IDLE, 0, 7)
    liveness.tasks_wait(3, IDLE.holder, 5, 7.0)
    liveness.postpone(60.0)
    assert looked(liveness, IDLE, 68) == []
    assert looked(liveness, IDLE, 72) == [(72, Replace(3, NO_ATTEMPT.format("5 tasks"), Reason.NO_ATTEMPT))]
