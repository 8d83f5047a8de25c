"""How many slots a server carries, as tables of readings."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmaster.bounds import Bound, Work
from qmaster.capacity import (
    LEAST_SIZE,
    RISE,
    SHRINK,
    WINDOW,
    Capacity,
    Policy,
    Readings,
    SlotReading,
    State,
    assess,
    damp,
    measured_sizes,
    p90,
    room,
)

M = 1 << 20
POLICY = Policy(private_limit=256 * M, reserve=(0.0, 100 * M))
LONG_AGO = State(ramp=1 << 20)  # a server that has left the ramp behind


def slots(count: int, queue: str, size: int | None, *, grown: bool = True) -> tuple[SlotReading, ...]:
    return (SlotReading((queue,), grown, size, size or 0),) * count


def readings(available: int, live: tuple[SlotReading, ...] = (), *, busy: float = 0.0) -> Readings:
    return Readings(available, 4000 * M, mold=50 * M, mold_pss=20 * M, work=Work(2.0, busy), slots=live)


def first(readings: Readings, policy: Policy = POLICY, state: State = LONG_AGO) -> Capacity:
    return assess(readings, policy, state, 0.0)[0]


def left(capacity: Capacity, live: int = 0) -> int:
    """Bytes for one more slot of mail beside so many."""
    return room(capacity, dict.fromkeys(range(live), ("mail",)), {live: ("mail",)}).memory


@pytest.mark.parametrize(
    ("sizes", "expected"), [([7], 7), ([1, 2], 2), (list(range(1, 11)), 9), ([1] * 91 + [5] * 9, 1)]
)
def test_p90_is_the_nearest_rank(sizes: list[int], expected: int) -> None:
    assert p90(sizes) == expected


@pytest.mark.parametrize("videos", [9, 10, 11])
def test_a_few_big_slots_among_a_hundred_are_counted_at_their_own_size(videos: int) -> None:
    live = slots(100 - videos, "mail", 10 * M) + slots(videos, "video", 124 * M)
    sizes = measured_sizes(live)
    assert sizes == {"mail": 10 * M, "video": 124 * M}
    used = sum(slot.size or 0 for slot in live)
    capacity = first(readings(2000 * M, live))
    assert capacity.budget == 2000 * M + used - 150 * M
    fit = capacity.budget // (used // 100)
    assert fit - 1 <= capacity.max_slots <= fit
    assert capacity.max_slots < capacity.budget // p90([10 * M] * 91 + [124 * M] * 9) / 1.8  # one p90 for all


def test_the_size_of_a_queue_is_measured_then_declared_then_the_limit() -> None:
    live = slots(3, "mail", 10 * M) + slots(3, "video", 2 * M, grown=False) + slots(1, "web", None)
    capacity = first(readings(2000 * M, live), replace(POLICY, declared={"mail": 99 * M, "video": 80 * M}))
    assert capacity.slot_sizes == {"mail": 10 * M, "video": 80 * M}
    assert capacity.slot_size == 256 * M


def test_a_slot_of_several_queues_counts_for_each() -> None:
    both = SlotReading(("mail", "video"), True, 30 * M)
    assert measured_sizes((both, *slots(9, "mail", 10 * M))) == {"mail": 10 * M, "video": 30 * M}


def test_a_measured_size_is_kept_while_all_slots_of_the_queue_are_young() -> None:
    before, state = assess(readings(2000 * M, slots(8, "mail", 10 * M)), POLICY, LONG_AGO, 0.0)
    young = slots(8, "mail", 1 * M, grown=False)  # all replaced, as after a reload
    after, _ = assess(readings(2072 * M, young), replace(POLICY, declared={"mail": 99 * M}), state, 1.0)
    assert (after.slot_sizes, after.max_slots) == (before.slot_sizes, before.max_slots)


def test_the_size_of_slots_that_never_had_a_task_counts_only_where_nothing_better_is_known() -> None:
    idle = tuple(SlotReading((queue,), True, 3 * M, 3 * M, idle=True) for queue in ("mail", "video", "web"))
    policy = replace(POLICY, declared={"video": 80 * M})
    capacity = first(readings(2000 * M, (*idle, *slots(1, "mail", 10 * M))), policy)
    assert capacity.slot_sizes == {"mail": 10 * M, "video": 80 * M, "web": 3 * M}


def test_what_is_forked_must_fit_at_the_size_of_its_own_queues() -> None:
    sizes = {"mail": 10 * M, "video": 124 * M}
    capacity = first(readings(400 * M), replace(POLICY, declared=sizes))  # 250 MB for slots
    found = room(capacity, {0: ("video",)}, {0: ("video",), 1: ("video",), 2: ("mail",), 3: ("mail", "video"), 4: ()})
    assert found.memory == 126 * M
    assert found.sizes == {1: 124 * M, 2: 10 * M, 3: 124 * M}
    assert room(capacity, {}, {0: ("video",), 1: ("mail",)}, empty=(1,)).sizes == {0: 124 * M, 1: inf}


def test_a_size_rises_at_once_and_falls_slowly() -> None:
    state, seen = LONG_AGO, []
    for second, size in enumerate([10 * M, 93 * M, 78 * M, *[78 * M] * 30]):
        capacity, state = assess(readings(2000 * M, slots(1, "mail", size)), POLICY, state, float(second))
        seen.append(capacity.slot_sizes["mail"])
    assert seen[:2] == [10 * M, 93 * M]
    assert seen[2] == int(93 * M * SHRINK)
    assert seen[12] > 83 * M > 78 * M == seen[-1]


def test_room_is_no_more_than_the_budget_and_no_more_than_there_is_now() -> None:
    policy = replace(POLICY, declared={"mail": 40 * M})
    state = assess(readings(1000 * M), policy, LONG_AGO, 0.0)[1]
    assert left(assess(readings(2000 * M), policy, state, 1.0)[0], 1) == 810 * M  # 850 until it has risen
    assert left(assess(readings(400 * M), policy, state, 1.0)[0], 1) == 210 * M


def test_without_any_slot_one_is_tried_and_none_where_none_is_allowed() -> None:
    tight = first(readings(160 * M), replace(POLICY, declared={"mail": 4 * M, "video": 124 * M}))
    wanted = {0: ("video",), 1: ("video",)}
    assert room(tight, {}, wanted).memory == 124 * M
    assert room(tight, {7: ("mail",)}, wanted).memory == 6 * M
    assert room(first(readings(2000 * M), replace(POLICY, max_slots=0)), {}, wanted).sizes == {}


def test_no_size_is_ever_nothing() -> None:
    capacity = first(readings(2000 * M, slots(1, "mail", 0)), replace(POLICY, private_limit=0, declared={"web": 0}))
    assert capacity.slot_sizes == {"mail": LEAST_SIZE, "web": LEAST_SIZE}
    assert capacity.slot_size == LEAST_SIZE


@pytest.mark.parametrize(
    ("reserve", "budget"), [((0.1, 0), 550 * M), ((0.0, 300 * M), 650 * M), ((0.0, 0), 950 * M), ((1.0, 0), 0)]
)
def test_the_budget_leaves_the_reserve_and_room_for_a_second_mold(reserve: tuple[float, int], budget: int) -> None:
    assert first(readings(1000 * M), replace(POLICY, reserve=reserve)).budget == budget


def test_starting_slots_leaves_the_budget_and_takes_the_room_they_will_grow_into() -> None:
    policy = replace(POLICY, declared={"mail": 40 * M})
    before = first(readings(1000 * M), policy)
    after = first(readings(1000 * M - 10 * 3 * M, slots(10, "mail", 3 * M, grown=False)), policy)
    assert after.budget == before.budget == left(before) == 850 * M
    assert left(after, 10) == 450 * M


def test_what_one_slot_uses_beyond_its_size_is_not_offered_to_others() -> None:
    live = slots(10, "mail", 10 * M) + slots(1, "mail", 500 * M)
    capacity = first(readings(150 * M, live))
    assert (capacity.budget, capacity.max_slots, left(capacity, 11)) == (110 * M, 11, 0)


def test_slots_that_may_not_be_measured_do_not_stop_the_server() -> None:
    capacity, state = assess(readings(1000 * M, slots(2, "mail", None)), POLICY, State(), 0.0)
    assert capacity.budget == 850 * M + 2 * 256 * M
    assert (left(capacity, 2), state.ramp, capacity.my_world_slots) == (850 * M, 4, None)


def test_a_server_smaller_than_the_limit_of_one_slot_tries_one() -> None:
    capacity, state = assess(readings(300 * M), POLICY, State(), 0.0)
    assert (capacity.budget, capacity.slot_size, capacity.max_slots) == (150 * M, 150 * M, 1)
    capacity, state = assess(readings(295 * M, slots(1, "mail", 4 * M, grown=False)), POLICY, state, 1.0)
    assert (capacity.max_slots, capacity.bound) == (1, Bound.MEMORY)
    capacity, state = assess(readings(295 * M, slots(1, "mail", 5 * M)), POLICY, state, 2.0)
    assert (capacity.max_slots, capacity.bound) == (2, Bound.RAMP)


def test_the_first_slots_come_by_two_four_eight_as_they_grow() -> None:
    state, seen = State(), []
    for grown, young in [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2), (4, 0), (8, 0), (1, 0)]:
        live = slots(grown, "mail", 5 * M) + slots(young, "mail", 1 * M, grown=False)
        capacity, state = assess(readings(3000 * M, live), POLICY, state, 0.0)
        seen.append(capacity.max_slots)
    assert seen == [2, 2, 2, 4, 4, 8, 16, 16]


@pytest.mark.parametrize(
    ("setting", "expected"), [(5, (5, Bound.SETTING)), (0, (0, Bound.SETTING)), (99, (11, "memory"))]
)
def test_the_setting_lowers_what_memory_allows(setting: int, expected: tuple[int, str]) -> None:
    capacity = first(readings(3000 * M), replace(POLICY, max_slots=setting))
    assert (capacity.max_slots, capacity.bound) == expected


@pytest.mark.parametrize(("live", "expected"), [(20, 20), (1, 4)])
def test_busy_processors_stop_growth_and_take_nothing(live: int, expected: int) -> None:
    busy, idle = (readings(3000 * M, slots(live, "mail", 5 * M), busy=part) for part in (0.97, 0.5))
    capacity, state = assess(busy, POLICY, LONG_AGO, 0.0)
    assert (capacity.max_slots, capacity.bound) == (expected, Bound.CPU)
    capacity, state = assess(replace(busy, slots=busy.slots[1:]), POLICY, state, 1.0)  # one is being recycled
    assert capacity.max_slots == expected
    assert assess(idle, POLICY, state, 2.0)[0].bound is Bound.MEMORY


def budgets(state: State, *turns: tuple[float, int], step: int = 10, short: bool = False) -> list[int]:
    seen = []
    for now, reading in turns:
        budget, state = damp(state, reading, now, step=step, short=short)
        seen.append(budget)
    return seen


STEADY = State(budget=1000)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([(0, 600), (9.9, 600), (10, 600)], [1000, 1000, 600]),
        ([(0, 600), (5, 800), (10, 700)], [1000, 1000, 800]),  # to the highest of the window
        ([(0, 600), (5, 1000), (10, 600), (15, 600)], [1000, 1000, 1000, 1000]),  # one good reading starts anew
        ([(0, 600), (10, 500), (19, 500), (20, 500)], [1000, 600, 600, 500]),
    ],
)
def test_the_budget_falls_after_a_window_of_lower_readings(turns: list[tuple[float, int]], expected: list[int]) -> None:
    assert budgets(STEADY, *turns) == expected


@pytest.mark.parametrize(
    ("turns", "step", "expected"),
    [
        ([(0, 5000), (9.9, 5000), (10, 5000), (19, 5000), (20, 5000)], 10, [1000, 1000, 1100, 1100, 1210]),
        ([(0, 5000), (10, 5000)], 300, [1000, 1300]),  # not slower than one slot
        ([(0, 1050), (5, 1020), (10, 1090)], 10, [1000, 1000, 1020]),  # to the lowest of the window
        ([(0, 5000), (5, 900), (10, 5000), (15, 5000)], 10, [1000, 1000, 1000, 1000]),
    ],
)
def test_the_budget_rises_by_a_tenth_or_one_slot(
    turns: list[tuple[float, int]], step: int, expected: list[int]
) -> None:
    assert budgets(STEADY, *turns, step=step) == expected


def test_a_budget_of_nothing_can_rise_again() -> None:
    assert budgets(State(budget=0), (0, 500), (10, 500), step=40) == [0, 40]


def test_the_budget_falls_at_once_when_half_of_the_reserve_is_gone() -> None:
    live = slots(20, "mail", 40 * M)
    state = assess(readings(400 * M, live), POLICY, LONG_AGO, 0.0)[1]
    lower = assess(readings(51 * M, live), POLICY, state, 1.0)[0]
    short = assess(readings(49 * M, live), POLICY, state, 1.0)[0]
    assert (lower.budget, short.budget) == (1050 * M, 699 * M)


def test_my_worlds_number_charges_the_mold_to_the_slots_there_are() -> None:
    live = slots(4, "mail", 20 * M)  # mold and slots: PSS 100 MB, 25 MB a slot
    assert first(readings(1000 * M, live)).my_world_slots == 40  # (100 + 1000 - reserve 100) / 25
    assert first(readings(1000 * M)).my_world_slots is None
    assert first(readings(0, slots(1, "mail", 20 * M))).my_world_slots == 0


sizes = st.integers(0, 2000 * M)
some_slots = st.lists(
    st.builds(SlotReading, st.sampled_from([(), ("a",), ("b",), ("a", "b")]), st.booleans(), st.none() | sizes, sizes),
    max_size=6,
).map(tuple)


@given(st.lists(st.tuples(st.integers(0, 9000 * M), some_slots, st.floats(0, 1)), max_size=5))
def test_whatever_is_read_the_capacity_is_never_negative(
    turns: list[tuple[int, tuple[SlotReading, ...], float]],
) -> None:
    state = State()
    for number, (available, live, busy) in enumerate(turns):
        capacity, state = assess(readings(available, live, busy=busy), POLICY, state, number * 6.0)
        assert min(capacity.budget, left(capacity, 3), capacity.max_slots, capacity.my_world_slots or 0) >= 0
        assert capacity.slot_size >= LEAST_SIZE


@given(st.lists(st.tuples(st.floats(0, 8), st.integers(0, 10_000), st.booleans()), min_size=1, max_size=12))
def test_no_rise_is_quicker_than_allowed(turns: list[tuple[float, int, bool]]) -> None:
    state, now, risen = State(budget=1000), 0.0, -WINDOW
    for wait, reading, short in turns:
        now += wait
        before = state.budget or 0
        budget, state = damp(state, reading, now, step=50, short=short)
        assert budget <= before + max(before * RISE, 50)
        if budget > before:
            assert now - risen >= WINDOW
            risen = now


@given(
    st.integers(200, 20_000),
    st.lists(st.floats(-0.04, 0.04), min_size=60, max_size=120),
)
def test_a_budget_stays_within_the_noise_of_its_readings(base: int, noise: list[float]) -> None:
    state, seen = State(budget=base), []
    for second, part in enumerate(noise):
        budget, state = damp(state, int(base * (1 + part)), float(second), step=10, short=False)
        seen.append(budget)
    assert all(0.96 * base - 1 <= budget <= 1.04 * base + 1 for budget in seen)


@given(st.lists(st.tuples(st.integers(0, 4000), st.booleans()), min_size=1, max_size=60))
def test_a_budget_moves_once_in_a_window_at_most(turns: list[tuple[int, bool]]) -> None:
    """But for a fall at once, when memory is short."""
    state, last = State(budget=1000), -WINDOW
    for second, (reading, short) in enumerate(turns):
        before = state.budget or 0
        budget, state = damp(state, reading, float(second), step=50, short=short)
        move = (budget > before) - (budget < before)
        if move > 0 or (move < 0 and not short):
            assert second - last >= WINDOW
        if move:
            last = second


QUEUES = ("a", "b", "c")
DECLARED = {"a": 5 * M, "b": 40 * M, "c": 124 * M}


@given(
    st.lists(st.sampled_from(QUEUES), max_size=40),
    st.lists(st.integers(0, 3000 * M), min_size=1, max_size=12),
)
def test_slots_forked_into_the_room_there_is_never_exceed_the_budget(row: list[str], memory: list[int]) -> None:
    wanted = {index: (queue,) for index, queue in enumerate(row)}
    live: dict[int, tuple[str, ...]] = {}
    state, policy = LONG_AGO, replace(POLICY, declared=DECLARED)
    for second, available in enumerate(memory):
        young = tuple(SlotReading(queues, False) for queues in live.values())
        capacity, state = assess(readings(available, young), policy, state, second * 4.0)
        found = room(capacity, live, wanted)
        before, free = len(live), found.memory
        for index, size in sorted(found.sizes.items()):
            if size <= free:
                live[index], free = wanted[index], free - size
        if len(live) > before and before:
            assert sum(map(capacity.charge, live.values())) <= min(capacity.budget, capacity.present)
