"""Assignments whose slots die, and handlers whose tasks end their slots: tables over deaths and successes."""

import pytest

from qmaster.children import Children
from qmaster.crashloops import DIFFERENT, HANDLER_AFTER, PARK_AFTER, PROBE_EVERY, QUICK, CrashLoops, HandlerRows, Work

MAIL, OTHER = ("mail",), ("other", "more")
SEGV = "was killed by SIGSEGV"
NONE = Work("mail", "send", 0)


def died(loops: CrashLoops, times: int) -> tuple[list[float], list[bool]]:
    """The pauses after deaths one after the other, each slot ordered as soon as it may be; which of them has parked."""
    now, pauses, parked = 0.0, [], []
    for _ in range(times):
        parked.append(loops.died(MAIL, now, now + 0.01, "x"))
        pauses.append(loops.not_before(MAIL) - now - 0.01)
        now = loops.not_before(MAIL)
    return pauses, parked


def test_each_death_doubles_the_pause_and_the_fifth_parks() -> None:
    loops = CrashLoops()
    pauses, parked = died(loops, 7)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, PROBE_EVERY, PROBE_EVERY, PROBE_EVERY])
    assert parked == [False] * (PARK_AFTER - 1) + [True, False, False], "it is told once"
    assert loops.parked().keys() == {MAIL}
    assert loops.not_before(OTHER) == 0.0, "others live on"


def test_slots_that_were_born_together_and_die_together_count_once() -> None:
    loops = CrashLoops()
    for late in range(8):
        assert not loops.died(MAIL, 0.0, 1.0 + late, "x")
    assert loops.loops[MAIL].deaths == 1


def test_success_counts_if_the_slot_was_ordered_after_the_last_death() -> None:
    loops = CrashLoops()
    died(loops, PARK_AFTER)
    at = loops.loops[MAIL].died_at
    assert loops.succeeded(MAIL, at - 1.0) is None
    over = loops.succeeded(MAIL, at)
    assert over is not None and over.is_parked
    assert not loops.loops


def test_another_map_and_other_code_have_no_past() -> None:
    loops = CrashLoops()
    died(loops, PARK_AFTER)
    loops.keep({MAIL, OTHER})
    assert loops.parked()
    loops.keep({OTHER})
    assert not loops.loops
    died(loops, PARK_AFTER)
    loops.forget()
    assert not loops.loops


def test_a_slot_that_its_mold_could_not_bear_holds_others_back_and_parks_nothing() -> None:
    children = Children()
    for _ in range(10):
        children.loops.hold_back(MAIL, 5.0)
    assert not children.may_spawn(MAIL, 5.9)
    assert children.may_spawn(MAIL, 6.0)
    children.order(0, "h", 1, 6.0, MAIL)
    assert children.may_spawn(MAIL, 6.0), "as many as are wanted: nobody has died"
    for _ in range(10):
        children.loops.hold_back(MAIL, children.loops.not_before(MAIL))
    at = children.loops.not_before(MAIL)
    children.loops.hold_back(MAIL, at)
    assert children.loops.not_before(MAIL) == at + PROBE_EVERY
    assert not children.loops.parked()


@pytest.mark.parametrize(
    ("done", "takes", "age", "has"),
    [(0, 0, 0.0, False), (1, 1, 0.0, True), (0, 5, QUICK, False), (0, 1, QUICK + 0.1, True), (0, 0, 3600.0, False)],
)
def test_what_counts_as_success(done: int, takes: int, age: float, has: bool) -> None:
    child = Children().order(0, "h", 1, 100.0, MAIL)
    assert child.has_success(done, takes, 100.0 + age) is has


def test_a_handler_is_parked_after_ten_crashes_in_a_row_of_different_tasks() -> None:
    rows = HandlerRows()
    said = [rows.crashed(NONE, f"t{number}", SEGV) for number in range(HANDLER_AFTER)]
    assert said[:-1] == [""] * (HANDLER_AFTER - 1)
    assert said[-1] == (
        "10 slots in a row died of 10 of its tasks and none was done between them, the last slot was killed by SIGSEGV"
    )
    assert rows.crashed(NONE, "t", SEGV) == "", "resumed by hand, the row begins anew"


def test_few_tasks_are_buried_one_by_one_and_park_nothing() -> None:
    rows = HandlerRows()
    assert not any(rows.crashed(NONE, f"t{number % (DIFFERENT - 1)}", SEGV) for number in range(50))


def test_success_ends_the_row_of_its_handler_alone() -> None:
    rows = HandlerRows()
    for number in range(HANDLER_AFTER - 1):
        assert not rows.crashed(NONE, f"t{number}", SEGV)
        assert not rows.crashed(Work("mail", "other", 0), f"o{number}", SEGV)
    rows.look({"web/1": Work("mail", "send", 5)})
    rows.look({"web/1": Work("mail", "send", 5)})  # nothing has ended since
    rows.look({"web/1": Work("mail", "send", 6)})
    assert not rows.crashed(NONE, "t", SEGV)
    assert rows.crashed(Work("mail", "other", 0), "o", SEGV)


def test_a_slot_that_had_ended_other_tasks_of_the_handler_before_begins_the_row_anew() -> None:
    rows = HandlerRows()
    for number in range(HANDLER_AFTER - 1):
        assert not rows.crashed(NONE, f"t{number}", SEGV)
    assert not rows.crashed(Work("mail", "send", 1), "t", SEGV)
    assert not any(rows.crashed(NONE, f"u{number}", SEGV) for number in range(HANDLER_AFTER - 2))
    assert rows.crashed(NONE, "last", SEGV)
