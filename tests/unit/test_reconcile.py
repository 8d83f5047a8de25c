"""The master's decisions, as tables: what is wanted, what is there, what time it is -> what is to be done."""

import pytest

from qmaster.children import Children, Phase
from qmaster.reasons import Reason
from qmaster.reconcile import AT_ONCE, BIRTH_WITHIN, HURRY, Ask, Desired, Fork, Kill, Serve, reconcile

MAIL = ("mail",)
LATE_BIRTH, GRACE, STOPPED = Reason.LATE_BIRTH, Reason.GRACE, Reason.STOPPED
LATE = Kill(0, "did not leave in time", GRACE)


def desired(slots: dict[int, tuple[str, ...]], **changes: object) -> Desired:
    settings = {"can_fork": True, "room": 99, "grace": 30.0, **changes}
    return Desired(slots=slots, **settings)  # type: ignore[arg-type]


def children(*phases: Phase, queues: tuple[str, ...] = MAIL, since: float = 0.0) -> Children:
    """Slots 0, 1, 2, … in these phases."""
    registry = Children()
    for index, phase in enumerate(phases):
        child = registry.order(index, f"h{index}", 1, since)
        child.phase, child.pid, child.queues = phase, 1000 + index, queues
    return registry


def busy_since(phase: Phase, last: float) -> Children:
    """Slot 0, when it was last seen in a task."""
    registry = children(phase)
    registry.tenants[0].busy_at = last
    return registry


@pytest.mark.parametrize(
    ("what", "wanted", "there", "now", "actions"),
    [
        ("nothing wanted, nothing there", {}, children(), 0.0, []),
        ("wanted slots are forked", {0: MAIL, 1: MAIL}, children(), 0.0, [Fork(0, MAIL), Fork(1, MAIL)]),
        ("an empty assignment needs no slot", {0: ()}, children(), 0.0, []),
        ("what is as wanted is left alone", {0: MAIL}, children(Phase.LIVE), 9.0, []),
        ("another queue: the same slot is told", {0: ("a",)}, children(Phase.LIVE), 9.0, [Serve(0, ("a",))]),
        ("off the map: asked, not killed", {}, children(Phase.LIVE), 9.0, [Ask(0, "no longer on the map")]),
        ("an unborn slot is waited for", {0: MAIL}, children(Phase.ORDERED), BIRTH_WITHIN - 1, []),
        ("not for ever", {0: MAIL}, children(Phase.ORDERED), BIRTH_WITHIN, [Kill(0, "not born in time", LATE_BIRTH)]),
        ("a leaving slot has its grace", {}, children(Phase.LEAVING), 29.9, []),
        ("and then no more", {}, children(Phase.LEAVING), 30.0, [Kill(0, "did not leave in time", GRACE)]),
        ("one in a task is not hurried", {}, busy_since(Phase.LEAVING, 29.0), 58.9, []),
        ("one that has done it and does not go", {}, busy_since(Phase.LEAVING, 29.0), 59.0, [LATE]),
        ("a leaving slot is not told new queues", {0: ("a",)}, children(Phase.LEAVING), 1.0, []),
        ("a killed slot is not killed again", {}, children(Phase.KILLED), 99.0, []),
        ("a dead slot's index waits for its settlement", {0: MAIL}, children(Phase.DEAD), 99.0, []),
    ],
)
def test_the_difference_becomes_actions(what: str, wanted: dict, there: Children, now: float, actions: list) -> None:
    assert reconcile(desired(wanted), there, now).actions == actions, what


def test_no_more_births_than_memory_allows() -> None:
    plan = reconcile(desired(dict.fromkeys(range(10), MAIL), room=3), children(), 0.0)
    assert plan.actions == [Fork(0, MAIL), Fork(1, MAIL), Fork(2, MAIL)]


def test_what_does_not_fit_by_its_own_size_waits_and_smaller_ones_are_forked() -> None:
    wanted = dict.fromkeys(range(4), MAIL)
    plan = reconcile(desired(wanted, memory=20, sizes={0: 10, 1: 124, 2: 6, 3: 5}), children(), 0.0)
    assert plan.actions == [Fork(0, MAIL), Fork(2, MAIL)]


def test_who_is_to_leave_finishes_its_task_and_then_has_its_grace() -> None:
    there = children(Phase.LEAVING)
    there.tenants[0].busy_at = 3600.0
    assert reconcile(desired({}), there, 3629.0).actions == []
    assert reconcile(desired({}), there, 3630.0).actions == [Kill(0, "did not leave in time", GRACE)]


def test_when_all_stops_the_grace_is_that_of_the_stop() -> None:
    there = children(Phase.LEAVING)
    there.tenants[0].busy_at = 109.0
    stop = desired({}, stopping=True, stopping_since=100.0)
    assert reconcile(stop, there, 129.9).actions == []
    assert reconcile(stop, there, 130.0).actions == [Kill(0, "did not leave in time", GRACE)]


def test_births_under_way_are_counted() -> None:
    plan = reconcile(desired(dict.fromkeys(range(50), MAIL)), children(*[Phase.ORDERED] * (AT_ONCE - 1)), 0.0)
    assert plan.actions == [Fork(AT_ONCE - 1, MAIL)]


def test_without_a_mold_nobody_is_born_but_the_others_are_looked_after() -> None:
    plan = reconcile(desired({1: MAIL}, can_fork=False), children(Phase.LIVE), 0.0)
    assert plan.actions == [Ask(0, "no longer on the map")]


def test_fast_kills_all_alike() -> None:
    plan = reconcile(desired({}, fast=True), children(Phase.LIVE, Phase.LEAVING, Phase.ORDERED), 1.0)
    at_once = "told to stop at once"  # also who is not born yet: the mold may hang
    assert plan.actions == [
        Kill(0, at_once, STOPPED),
        Kill(1, "did not leave in time", GRACE),
        Kill(2, at_once, STOPPED),
    ]


def test_the_deadline_is_when_something_will_be_due() -> None:
    assert reconcile(desired({0: MAIL}), children(Phase.ORDERED), 1.0).deadline == BIRTH_WITHIN
    assert reconcile(desired({}), children(Phase.LEAVING), 1.0).deadline == 30.0
    assert reconcile(desired({0: MAIL}), children(Phase.LIVE), 1.0).deadline == float("inf")


def test_a_slot_retires_after_its_task_and_is_told_why() -> None:
    plan = reconcile(desired({0: MAIL, 1: MAIL}, retiring={1: "has grown"}), children(Phase.LIVE, Phase.LIVE), 1.0)
    assert plan.actions == [Ask(1, "has grown")]
    assert plan.deadline == 31.0


NEW = "generation 2 takes its place"


@pytest.mark.parametrize(
    ("what", "phases", "busy", "asked"),
    [
        ("one of a few", [Phase.LIVE] * 3, (), [0]),
        ("a tenth of many", [Phase.LIVE] * 40, (), [0, 1, 2, 3]),
        ("the idle before the busy", [Phase.LIVE] * 3, (0, 1), [2]),
        ("the busy too, when no other is left", [Phase.LIVE] * 2, (0, 1), [0]),
        ("none while the one before is not back", [Phase.LIVE, Phase.LIVE, Phase.ORDERED], (), []),
        ("nor while it leaves", [Phase.LIVE, Phase.LIVE, Phase.LEAVING], (), []),
        ("nor while it is settled", [Phase.LIVE, Phase.LIVE, Phase.DEAD], (), []),
    ],
)
def test_an_older_generation_is_replaced_a_few_at_a_time(
    what: str, phases: list[Phase], busy: tuple[int, ...], asked: list[int]
) -> None:
    wanted = dict.fromkeys(range(len(phases)), MAIL)
    plan = reconcile(desired(wanted, generation=2, busy=frozenset(busy)), children(*phases), 1.0)
    assert plan.actions == [Ask(index, NEW) for index in asked], what


def test_a_master_that_stops_waits_for_no_task_longer_than_its_grace() -> None:
    there = busy_since(Phase.LEAVING, 129.0)  # was asked to leave long before
    stopping = desired({}, stopping=True, stopping_since=100.0, busy=frozenset({0}))
    assert reconcile(stopping, there, 129.9).actions == []
    assert reconcile(stopping, there, 130.0).actions == [LATE]


def test_a_slot_in_a_long_task_does_not_hold_up_the_others() -> None:
    wanted, busy = dict.fromkeys(range(3), MAIL), frozenset({2})
    there = children(Phase.LIVE, Phase.LIVE, Phase.LEAVING)
    changes = {"generation": 2, "busy": busy}
    assert reconcile(desired(wanted, **changes), there, HURRY - 1).actions == []
    assert reconcile(desired(wanted, **changes), there, HURRY).actions == [Ask(0, NEW)]


def test_nothing_is_replaced_before_the_new_slot_has_come_to_its_work() -> None:
    wanted = dict.fromkeys(range(3), MAIL)
    there = children(Phase.LIVE, Phase.LIVE, Phase.LIVE)
    assert reconcile(desired(wanted, generation=2, unready=frozenset({2})), there, 1.0).actions == []


def test_nothing_is_replaced_before_the_index_of_the_one_before_is_filled_again() -> None:
    there = children(Phase.LIVE, Phase.LIVE)
    plan = reconcile(desired(dict.fromkeys(range(3), MAIL), generation=2), there, 1.0)
    assert plan.actions == [Fork(2, MAIL)]
    no_room = reconcile(desired(dict.fromkeys(range(3), MAIL), generation=2, room=0), there, 1.0)
    assert no_room.actions == [Ask(0, NEW)]


def test_slots_of_the_present_generation_stay() -> None:
    assert reconcile(desired({0: MAIL}, generation=1), children(Phase.LIVE), 1.0).actions == []


def test_nothing_is_replaced_while_a_new_slot_is_held_back() -> None:
    registry = children(Phase.LIVE, Phase.LIVE)
    registry.loops.hold_back(MAIL, 1.0)
    plan = reconcile(desired(dict.fromkeys(range(3), MAIL), generation=2, room=0), registry, 1.0)
    assert plan.actions == []


def test_of_slots_that_die_one_at_a_time_is_tried() -> None:
    registry = Children()
    registry.loops.died(MAIL, 0.0, 1.0, "x")
    wanted = {0: MAIL, 1: MAIL, 2: ("other",), 3: MAIL}
    waits = reconcile(desired(wanted), registry, 1.05)
    assert (waits.actions, waits.deadline) == ([Fork(2, ("other",))], 1.1)
    assert reconcile(desired(wanted), registry, 1.1).actions == [Fork(0, MAIL), Fork(2, ("other",))]
    registry.order(0, "tried", 1, 1.1, MAIL)
    assert reconcile(desired(wanted), registry, 1.2).actions == [Fork(2, ("other",))]
    registry.loops.succeeded(MAIL, 1.1)
    assert reconcile(desired(wanted), registry, 1.3).actions == [Fork(1, MAIL), Fork(2, ("other",)), Fork(3, MAIL)]


def test_whose_master_was_not_there_has_its_time_anew() -> None:
    registry = children(Phase.ORDERED, Phase.LEAVING)
    registry.postpone(60.0)
    assert reconcile(desired({0: MAIL, 1: MAIL}), registry, 60.0).actions == []


def test_a_phase_only_rises_and_the_first_reason_stands() -> None:
    registry = children(Phase.LIVE)
    child = registry.tenants[0]
    assert registry.advance(child, Phase.KILLED, 5.0, "first")
    assert not registry.advance(child, Phase.LEAVING, 6.0, "second")
    assert (child.phase, child.why, child.since) == (Phase.KILLED, "first", 5.0)


def test_a_pid_names_only_the_tenant_that_lives_under_it() -> None:
    registry = children(Phase.DEAD)
    assert registry.by_pid(1000) is None
    assert registry.by_holder("h0") is registry.tenants[0]
