"""What a grant promises whatever is asked of it: minima, priorities, nobody unheard, rest, and no loss by more room."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from hypothesis import event, given
from hypothesis import strategies as st

from qmanager.planning.demand import Demand
from qmanager.planning.grant import Grant, Held, Holding, Names, dead_band, grant, hold, remembered, stabilization
from qslots.reports import HandlerDeclared, QueueDeclared

CAPACITY = st.integers(1, 80)


@st.composite
def demands(draw: st.DrawFn, most: int = 25, minima: Sequence[int] = (0, 0, 0, 1, 4)) -> list[Demand]:
    """Queues of all kinds, wanting from nothing to more than there is."""
    found = []
    for number in range(draw(st.integers(1, most))):
        least = draw(st.sampled_from(minima))
        highest = draw(st.sampled_from((None, None, 1, 9)))
        queue = QueueDeclared(
            f"q{number:02}", priority=draw(st.integers(1, 100)), min_slots=least, max_slots=highest,
            target_delay=draw(st.sampled_from((0.5, 5.0, 600.0))), handlers=(HandlerDeclared(f"h{number}"),),
        )  # fmt: skip
        wanted = max(draw(st.one_of(st.floats(0, 1.5), st.floats(0, 50))), float(least))
        wanted = wanted if highest is None else min(wanted, float(highest))
        run = draw(st.one_of(st.none(), st.floats(0.001, 4000)))
        found.append(Demand(queue, wanted, "because", mean_time=run, p95=run))
    return found


def granted(wanting: Sequence[Demand], capacity: int) -> tuple[dict[str, Grant], Holding]:
    """Per queue its grant, of a cluster that had nothing yet."""
    grants, holding = grant(wanting, capacity, Holding(), 0.0, {}, {})
    return {name: each for each in grants for name in each.queues}, holding


def need(demand: Demand, holding: Holding) -> int:
    """Whole slots that a queue needs for itself; 0 if it could share."""
    return holding.queues[demand.queue.name].need


@given(demands(), CAPACITY)
def test_nobody_is_unheard_and_nothing_is_given_twice(wanting: list[Demand], capacity: int) -> None:
    grants, _ = grant(wanting, capacity, Holding(), 0.0, {}, {})
    heard = [name for each in grants if each.slots for name in each.queues]
    assert sorted(heard) == sorted(each.queue.name for each in wanting)
    assert sum(each.slots for each in grants) <= capacity


@given(demands(most=10, minima=(0, 2, 4, 9)), st.integers(0, 40))
def test_minima_come_before_needs_and_by_priority(wanting: list[Demand], beyond: int) -> None:
    capacity = len(wanting) + beyond
    mine, holding = granted(wanting, capacity)
    event(f"minima fit: {sum(max(1, each.queue.min_slots) for each in wanting) <= capacity}")
    for each in wanting:
        own, least = mine[each.queue.name], min(each.queue.min_slots, need(each, holding))
        if own.slots < least:
            assert sum(one.slots for one in set(mine.values())) == capacity
            assert len(own.queues) == 1
            assert all(other.slots <= 1 for other in mine.values() if other.priority < own.priority)
            assert all(
                other.slots <= max(1, least_of(wanting, other.queues)) for other in mine.values() if other != own
            )


def least_of(wanting: Sequence[Demand], names: Names) -> int:
    return sum(each.queue.min_slots for each in wanting if each.queue.name in names)


ROUNDS = st.lists(st.tuples(st.floats(0, 600), CAPACITY, st.lists(st.floats(0, 30), max_size=10)), max_size=6)


@given(demands(most=10, minima=(0, 0, 2, 5)), ROUNDS)
def test_whatever_went_before_all_are_heard_and_minima_and_needs_come_before_what_is_kept(
    wanting: list[Demand], rounds: list[tuple[float, int, list[float]]]
) -> None:
    present: dict[Names, int] = {}
    holding, now, seen = Holding(), 0.0, set()
    for seconds, capacity, levels in rounds:
        wanting = [within(each, level) for each, level in zip_longest(wanting, levels[: len(wanting)]) if each]
        now += seconds
        grants, holding = grant(wanting, capacity, holding, now, {}, present)
        present = {each.queues: each.slots for each in grants if each.slots}
        assert sum(present.values()) <= capacity
        assert {name for names in present for name in names} == {each.queue.name for each in wanting}
        own = {each.queue.name: each for each in wanting if (each.queue.name,) in present}
        needs = {name: holding.queues[name].need for name in own}
        seen.add("kept" if any(present[name,] > max(1, needs[name]) for name in own) else "nothing kept")
        if any(present[name,] < needs[name] for name in own):
            seen.add("short")
            assert all(present[name,] <= max(1, needs[name]) for name in own)
        if any(present[name,] < min(each.queue.min_slots, needs[name]) for name, each in own.items()):
            seen.add("minima short")
            assert all(present[name,] <= max(1, each.queue.min_slots) for name, each in own.items())
    for each in seen:
        event(each)


def within(demand: Demand, level: float | None) -> Demand:
    """The same queue wanting something else, within its min and max."""
    most = math.inf if demand.queue.max_slots is None else demand.queue.max_slots
    wanted = demand.wanted if level is None else min(max(level, demand.queue.min_slots), most)
    return replace(demand, wanted=float(wanted))


@given(demands(), CAPACITY)
def test_nobody_is_short_while_another_has_more_than_its_weight(wanting: list[Demand], capacity: int) -> None:
    mine, holding = granted(wanting, capacity)
    own = [each for each in wanting if len(mine[each.queue.name].queues) == 1]
    for short in own:
        got = mine[short.queue.name].slots
        if got >= max(1, need(short, holding)):
            continue
        for other in own:
            theirs = mine[other.queue.name].slots
            if theirs > max(1, other.queue.min_slots):  # its last slot came no later than the next of this would
                assert theirs / other.queue.priority <= (got + 1) / short.queue.priority + 1e-9


@given(demands(), CAPACITY, st.integers(1, 40))
def test_more_room_takes_no_needed_slot_from_anybody(wanting: list[Demand], capacity: int, more: int) -> None:
    before, holding = granted(wanting, capacity)
    after, _ = granted(wanting, capacity + more)

    def worth(mine: Mapping[str, Grant], demand: Demand) -> float:
        one = mine[demand.queue.name]
        return min(one.slots, max(1, need(demand, holding))) if len(one.queues) == 1 else min(one.slots, 0.5)

    for each in wanting:
        assert worth(after, each) >= worth(before, each)


@given(demands(), CAPACITY, st.integers(2, 30))
def test_what_does_not_change_is_granted_unchanged(wanting: list[Demand], capacity: int, cycles: int) -> None:
    present: dict[Names, int] = {}
    holding, seen = Holding(), []
    for cycle in range(cycles):
        grants, holding = grant(wanting, capacity, holding, cycle * 20.0, {}, present)
        present = {each.queues: each.slots for each in grants if each.slots}
        seen.append(grants)
    assert all(each == seen[0] for each in seen)


@given(demands(), CAPACITY)
def test_only_those_share_who_never_wait_long_for_each_other(wanting: list[Demand], capacity: int) -> None:
    mine, _ = granted(wanting, 100 * len(wanting) + capacity)
    known = {each.queue.name: each for each in wanting}
    for names in {each.queues for each in mine.values() if len(each.queues) > 1}:
        longest = sorted(known[name].run_time for name in names)
        for name in names:
            assert known[name].wanted < 1.0
            others = longest[-1] if known[name].run_time < longest[-1] else longest[-2]
            assert others <= known[name].queue.target_delay


@given(demands(most=8), st.lists(st.integers(0, 12), min_size=8, max_size=8), st.floats(0, 59))
def test_a_new_manager_only_adds(wanting: list[Demand], there: list[int], seconds: float) -> None:  # case 43
    present = {
        (each.queue.name,): count if each.queue.max_slots is None else min(count, each.queue.max_slots)
        for each, count in zip(wanting, there, strict=False)
        if count
    }
    capacity = sum(present.values()) + 60 * len(wanting)
    grants, _ = grant(wanting, capacity, remembered(present, 0.0), seconds, {}, present)
    after = {each.queues: each.slots for each in grants}
    for names, count in present.items():
        assert after.get(names, 0) >= count


@given(st.lists(st.floats(0, 100), min_size=2, max_size=60), st.integers(1, 100))
def test_slots_fall_no_lower_than_the_highest_demand_of_the_window(levels: list[float], priority: int) -> None:
    queue = QueueDeclared("q", priority=priority, handlers=(HandlerDeclared("h"),))
    window = stabilization(Demand(queue, 0.0, ""))
    held = Held()
    for cycle, level in enumerate(levels):
        held = hold(Demand(queue, level, ""), held, 7.0 * cycle)
        highest = max(levels[max(0, cycle - math.ceil(window / 7.0) + 1) : cycle + 1])
        assert held.own >= math.ceil(highest / (1 + dead_band(priority)) - 1e-6) or highest < 1.0
        assert held.need <= held.own


@given(st.integers(1, 100), st.integers(1, 1000), st.floats(-1.0, 1.0))
def test_within_the_dead_band_nothing_changes(priority: int, slots: int, swing: float) -> None:
    queue = QueueDeclared("q", priority=priority, handlers=(HandlerDeclared("h"),))
    level = slots * (1 + swing * 0.99 * dead_band(priority))
    held = hold(Demand(queue, max(level, 1.0), ""), Held(own=slots, need=slots), 0.0)
    assert (held.own, held.need) == (slots, slots)
