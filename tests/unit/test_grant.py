"""Who gets how many slots: fairness, sharing and the dead band, without any server."""

import dataclasses
from collections.abc import Iterable, Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.planning.demand import Demand
from qmanager.planning.grant import Grant, Held, Holding, Names, grant, hold, remembered, stabilization
from qslots.reports import HandlerDeclared, QueueDeclared


def demand(name: str, wanted: float, mean: float | None = 0.1, **fields: object) -> Demand:
    queue = QueueDeclared(name, handlers=(HandlerDeclared(name),), **fields)  # type: ignore[arg-type]
    return Demand(queue, max(wanted, float(queue.min_slots)), "because", mean_time=mean)


def granted(demands: Iterable[Demand], capacity: int, present: Mapping[Names, int] | None = None) -> list[Grant]:
    """The next grants; what is ``present`` was wanted until a while ago."""
    before = present or {}
    return list(grant(demands, capacity, remembered(before, 0.0), 61.0, {}, before)[0])


def slots(grants: Iterable[Grant]) -> dict[str, int]:
    return {" ".join(each.queues): each.slots for each in grants}


def idle(count: int) -> list[Demand]:
    return [demand(f"q{i:02}", 0.0) for i in range(count)]


def test_four_slots_serve_thirty_idle_queues() -> None:
    (only,) = granted(idle(30), 4)
    assert len(only.queues) == 30
    assert only.slots == 2  # two where there are two; more would be waste


def test_no_more_queues_share_a_slot_than_it_can_wait_for() -> None:
    assert sorted(len(each.queues) for each in granted(idle(70), 20)) == [6, 32, 32]


def test_minimum_of_one_queue_leaves_nobody_deaf() -> None:  # case 44
    grants = granted([demand("greedy", 0.0, min_slots=4), *idle(29)], 4)
    assert slots(grants)["greedy"] == 3
    assert {name for each in grants if each.slots for name in each.queues} >= {f"q{i:02}" for i in range(29)}


def test_minima_are_kept_by_priority() -> None:
    low, high = demand("low", 0.0, min_slots=4, priority=10), demand("high", 0.0, min_slots=4, priority=90)
    assert slots(granted([low, high], 6)) == {"high": 4, "low": 2}


def test_shortage_is_shared_by_priority_and_small_wishes_are_met() -> None:
    demands = [demand("a", 100, priority=75), demand("b", 100, priority=25), demand("small", 2, priority=25)]
    assert slots(granted(demands, 22)) == {"a": 15, "b": 5, "small": 2}


def test_own_slot_from_one_and_shared_again_below_six_tenths() -> None:
    held = hold(demand("a", 0.9), Held(), 0.0)
    assert held.own == 0
    held = hold(demand("a", 1.0), held, 1.0)
    assert held.own == 1
    later = 1.0 + stabilization(demand("a", 0.7)) + 1
    assert hold(demand("a", 0.7), hold(demand("a", 0.7), held, 100.0), later).own == 1
    assert hold(demand("a", 0.5), hold(demand("a", 0.5), held, 100.0), later).own == 0


def test_long_tasks_do_not_share_with_the_urgent() -> None:
    grants = granted([demand("urgent", 0.1, target_delay=1.0), demand("slow", 0.1, mean=60.0), demand("c", 0.1)], 9)
    assert sorted(each.queues for each in grants) == [("c", "urgent"), ("slow",)]


def test_with_too_few_slots_even_the_unlike_share() -> None:
    demands = [demand(f"q{i}", 2.0, mean=600.0) for i in range(5)]
    grants = granted(demands, 3)
    assert sum(each.slots for each in grants) == 3
    assert {name for each in grants if each.slots for name in each.queues} == {f"q{i}" for i in range(5)}


def test_queue_of_one_slot_is_never_shared_into_two() -> None:
    grants = granted([demand("single", 0.0, max_slots=1), *idle(3)], 9)
    assert slots(grants) == {"single": 1, "q00 q01 q02": 2}


def test_queues_of_other_servers_do_not_share() -> None:
    grants, _ = grant(idle(2), 9, Holding(), 0.0, {"q00": "x", "q01": "y"}, {})
    assert [each.queues for each in grants] == [("q00",), ("q01",)]


def test_up_at_once_and_down_only_after_the_window() -> None:
    held = hold(demand("a", 4.0), Held(), 0.0)
    assert held.own == 4
    held = hold(demand("a", 40.0), held, 1.0)
    assert held.own == 40
    window = stabilization(demand("a", 2.0))
    for second in range(2, int(window)):
        held = hold(demand("a", 2.0), held, float(second))
        assert held.own == 40
    assert hold(demand("a", 2.0), held, window + 2).own == 2


def test_urgent_queues_are_stable_longer_with_a_narrower_dead_band() -> None:
    low, high = demand("low", 108.0, priority=5), demand("high", 108.0, priority=95)
    assert stabilization(low) < stabilization(high)
    assert hold(low, Held(own=100), 0.0).own == 100
    assert hold(high, Held(own=100), 0.0).own == 108


@pytest.mark.parametrize(("priority", "seconds"), [(50, 0), (90, 29), (100, 37)])
def test_what_an_urgent_queue_needs_stays_needed_for_a_while(priority: int, seconds: int) -> None:
    held = hold(demand("a", 40.0, priority=priority), Held(), 0.0)
    quiet = demand("a", 2.0, priority=priority)
    needs = []
    for second in range(1, 60):
        held = hold(quiet, held, float(second))
        needs.append(held.need)
    assert needs == [40] * seconds + [2] * (59 - seconds)


def test_haste_lasts_as_long_as_the_need() -> None:
    late = dataclasses.replace(demand("a", 10.0, priority=90, target_delay=2.0), waits=2.0)
    held = hold(late, Held(), 100.0)
    assert held.haste == 1.0
    half, calm = dataclasses.replace(late, waits=1.5), dataclasses.replace(late, waits=0.0)
    assert hold(half, held, 110.0).haste == 1.0
    assert hold(calm, hold(half, held, 110.0), 129.0).haste == 1.0
    assert hold(half, held, 130.0).haste == 0.5
    assert hold(calm, held, 99.0).haste == 0.0, "the clock was set back"


def test_who_is_in_a_hurry_and_late_asks_anew_for_slots_that_still_end_tasks_of_others() -> None:
    late = dataclasses.replace(demand("a", 10.0, target_delay=2.0), waits=1.5, away=4)
    assert slots(granted([late], 40)) == {"a": 14}
    assert slots(granted([dataclasses.replace(late, waits=0.9)], 40)) == {"a": 10}
    patient = dataclasses.replace(late, queue=msgspec.structs.replace(late.queue, target_delay=2.5), waits=9.0)
    assert slots(granted([patient], 40)) == {"a": 10}
    bounded = dataclasses.replace(late, queue=msgspec.structs.replace(late.queue, max_slots=12))
    assert slots(granted([bounded], 40)) == {"a": 12}


@pytest.mark.parametrize(("mean", "window"), [(None, 160.0), (0.1, 160.0), (1800.0, 1800.0), (86400.0, 3600.0)])
def test_a_peak_is_kept_as_long_as_a_task_takes_up_to_an_hour(mean: float | None, window: float) -> None:
    assert stabilization(demand("q", 1.0, mean, priority=50)) == window


def test_small_swings_do_not_change_the_grant() -> None:
    held = hold(demand("a", 16.0), Held(), 0.0)
    for second in range(1, 1000):
        held = hold(demand("a", 16.0 + (second % 3 - 1) * 0.5), held, float(second))
        assert held.own == 16


def test_new_manager_takes_nothing_away_for_a_window() -> None:
    present: dict[Names, int] = {("a",): 9, ("b", "c"): 2}
    demands = [demand("a", 0.0), demand("b", 0.0), demand("c", 0.0)]
    grants, after = grant(demands, 20, remembered(present, 0.0), 1.0, {}, present)
    assert slots(grants) == {"a": 9, "b c": 2}
    grants, _ = grant(demands, 20, after, 500.0, {}, present)
    assert slots(grants) == {"a b c": 2}


def test_new_manager_keeps_what_groups_have_for_a_window() -> None:  # case 43
    present: dict[Names, int] = {("a", "b"): 5}
    demands, holding = [demand("a", 0.1), demand("b", 0.1)], remembered(present, 0.0)
    for now in (1.0, 70.0, stabilization(demands[0]) - 1):
        grants, holding = grant(demands, 20, holding, now, {}, present)
        assert slots(grants) == {"a b": 5}
    grants, _ = grant(demands, 20, holding, stabilization(demands[0]) + 1, {}, present)
    assert slots(grants) == {"a b": 2}


def test_a_task_of_a_moment_does_not_wait_behind_a_long_one() -> None:  # case 42
    short, long = demand("short", 0.005, mean=0.01), demand("long", 0.6, mean=600.0)
    assert slots(granted([short, long, *idle(2)], 9)) == {"long": 1, "q00 q01 short": 2}
    seldom_long = dataclasses.replace(demand("seldom", 0.1, mean=0.5), p95=60.0)  # one of ten takes a minute
    assert slots(granted([short, seldom_long], 9)) == {"seldom": 1, "short": 1}
    often_short = dataclasses.replace(demand("often", 0.1, mean=8.0), p95=0.5)  # one of a hundred takes ten minutes
    assert slots(granted([short, often_short], 9)) == {"often short": 2}


def test_a_clock_that_was_set_back_keeps_a_peak_no_longer() -> None:
    present: dict[Names, int] = {("a",): 9, ("b", "c"): 5}
    demands = [demand("a", 9.0), demand("b", 0.5), demand("c", 0.5)]
    _, holding = grant(demands, 20, remembered(present, 5000.0), 5000.0, {}, present)
    quiet = [demand(name, 0.0) for name in "abc"]
    _, holding = grant(quiet, 20, holding, 1000.0, {}, present)
    grants, _ = grant(quiet, 20, holding, 1001.0 + stabilization(quiet[0]), {}, present)
    assert slots(grants) == {"a b c": 2}


@pytest.mark.parametrize(("present", "expected"), [(0, 14), (3, 14), (20, 20), (46, 46), (60, 46)])
def test_no_more_is_kept_of_a_peak_than_is_there(present: int, expected: int) -> None:
    peak = Holding({"a": Held(((0.0, 46.0),), 46, 46)})
    grants, after = grant([demand("a", 14.0)], 100, peak, 1.0, {}, {("a",): present})
    assert slots(grants) == {"a": expected}
    assert after.queues["a"].own == 46  # what is remembered does not depend on what is there


@pytest.mark.parametrize(
    ("demands", "capacity", "present", "expected"),
    [
        pytest.param(
            [demand("big", 0.0), demand("busy", 6.0)], 8, {("big",): 8}, {"big": 2, "busy": 6}, id="need before peak",
        ),
        pytest.param(
            [demand("big", 0.0), demand("busy", 6.0)], 20, {("big",): 8}, {"big": 8, "busy": 6}, id="room for both",
        ),
        pytest.param(
            [demand("x", 0.0), demand("y", 0.0), demand("urgent", 9.0, min_slots=4, priority=80)], 4,
            {("x",): 2, ("y",): 2}, {"urgent": 3, "x y": 1}, id="min before idle owners",
        ),
        pytest.param(
            [demand("p", 0.9), demand("q", 0.2), demand("urgent", 4.0, priority=80)], 5,
            {("p", "q"): 3}, {"urgent": 3, "p q": 2}, id="both are needs, by priority",
        ),
        pytest.param(
            [demand("p", 0.1), demand("q", 0.1), demand("urgent", 4.0, priority=80)], 5,
            {("p", "q"): 3}, {"urgent": 4, "p q": 1}, id="backlog before a second slot",
        ),
        pytest.param(
            [demand("x", 0.0), demand("y", 0.0), demand("z", 0.0), *idle(2)], 4,
            {("x",): 1, ("y",): 1, ("z",): 1, ("q00", "q01"): 1}, {"q00 q01 x y z": 2},
            id="second slot before idle owners",
        ),
        pytest.param(
            [demand("x", 0.0), *idle(2)], 4, {("x",): 9, ("q00", "q01"): 1}, {"q00 q01": 2, "x": 2},
            id="second slot before a peak",
        ),
        pytest.param(
            [demand("x", 0.7), demand("busy", 9.0)], 4, {("x",): 1}, {"x": 1, "busy": 3}, id="in need of its slot",
        ),
    ],
)  # fmt: skip
def test_present_needs_come_before_what_is_kept(
    demands: list[Demand], capacity: int, present: dict[Names, int], expected: dict[str, int]
) -> None:
    assert slots(granted(demands, capacity, present)) == expected


def test_what_a_new_manager_found_counts_as_needed_until_it_knows_rates() -> None:  # case 43
    present: dict[Names, int] = {("steady",): 6, ("q00", "q01"): 1}
    demands = [demand("steady", 0.0), *idle(2), demand("waits", 9.0)]
    grants, holding = grant(demands, 8, remembered(present, 0.0), 0.0, {}, present)
    assert slots(grants) == {"steady": 4, "waits": 3, "q00 q01": 1}
    grants, _ = grant(demands, 8, holding, 61.0, {}, present)
    assert slots(grants) == {"q00 q01 steady": 1, "waits": 7}


def test_slot_given_up_in_a_shortage_is_not_taken_back_without_need() -> None:
    calm, busy = [demand("x", 0.0), *idle(2)], [demand("busy", 3.0)]
    before = remembered({("x",): 1}, 0.0)
    grants, holding = grant([*calm, *busy], 4, before, 61.0, {}, {("x",): 1})
    assert slots(grants) == {"busy": 3, "q00 q01 x": 1}
    assert holding.queues["x"].own == 1
    present = {each.queues: each.slots for each in grants}
    grants, _ = grant([*calm, demand("busy", 0.0)], 4, holding, 62.0, {}, present)
    assert slots(grants) == {"busy": 2, "q00 q01 x": 2}


QUEUES = st.lists(
    st.tuples(
        st.floats(0, 50), st.one_of(st.none(), st.floats(0, 4000)), st.integers(1, 100), st.integers(0, 6),
        st.one_of(st.none(), st.integers(1, 9)), st.sampled_from((0.5, 5.0, 600.0)),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@given(QUEUES, st.integers(1, 60))
def test_everybody_is_heard_once_and_nobody_gets_more_than_there_is(
    queues: list[tuple[float, float | None, int, int, int | None, float]], capacity: int
) -> None:
    demands = [
        demand(f"q{i:02}", w, mean, priority=p, min_slots=low, max_slots=high, target_delay=delay)
        for i, (w, mean, p, low, high, delay) in enumerate(queues)
    ]
    grants, holding = grant(demands, capacity, Holding(), 0.0, {}, {})
    heard = [name for each in grants if each.slots for name in each.queues]
    assert sorted(heard) == sorted(each.queue.name for each in demands)
    assert sum(each.slots for each in grants) <= capacity
    for each in grants:
        limits = [d.queue.max_slots for d in demands if d.queue.name in each.queues and d.queue.max_slots is not None]
        assert each.slots <= min(limits, default=capacity)
    if sum(max(1, min(d.queue.min_slots, d.queue.max_slots or 99)) for d in demands) <= capacity:
        own = {each.queues[0]: each.slots for each in grants if len(each.queues) == 1}
        for d in demands:
            assert own.get(d.queue.name, 0) >= min(d.queue.min_slots, d.queue.max_slots or 99)
    assert grant(demands, capacity, holding, 1.0, {}, {each.queues: each.slots for each in grants})[0] == grants


@pytest.mark.parametrize("capacity", [0, -1])
def test_without_a_slot_nothing_is_granted(capacity: int) -> None:
    assert [each.slots for each in granted(idle(3), capacity)] == [0]
