"""Time by priority, nobody starved, dry queues left out; packs that grow until they take a second."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslots.lottery import PACK_TIME, Lottery, PackSize


def played(lottery: Lottery, times: dict[str, float], turns: int) -> tuple[Counter[str], dict[str, float]]:
    """Turns and time that each queue got when all have always work."""
    chance = random.Random(7).random
    drawn: Counter[str] = Counter()
    for _ in range(turns):
        queue = next(lottery.draw(0.0, chance))
        drawn[queue] += 1
        lottery.ran(queue, times[queue])
    return drawn, {queue: count * times[queue] for queue, count in drawn.items()}


def test_time_goes_by_priority_and_not_by_turns() -> None:  # case 20: packs of 1 s against 10 min
    _, time = played(Lottery({"short": 50, "long": 50}), {"short": 1.0, "long": 600.0}, 20_000)
    assert 0.75 < time["long"] / time["short"] < 1.33


def test_higher_priority_gets_its_share_more() -> None:
    drawn, _ = played(Lottery({"a": 75, "b": 25}), {"a": 0.1, "b": 0.1}, 8000)
    assert 2.6 < drawn["a"] / drawn["b"] < 3.4


def test_nobody_starves() -> None:
    drawn, _ = played(Lottery({"low": 1, "high": 100}), {"low": 0.1, "high": 0.1}, 2000)
    assert drawn["low"] > 5


def test_unmeasured_queue_is_tried_soon() -> None:
    lottery = Lottery({"old": 100, "new": 1})
    lottery.ran("old", 10.0)
    drawn = Counter(next(lottery.draw(0.0, random.Random(n).random)) for n in range(100))
    assert drawn["new"] > 90


def test_dry_queue_is_left_out_until_its_time_or_until_somebody_rings() -> None:
    lottery = Lottery({"a": 50, "b": 50})
    lottery.found_empty("a", until=10.0)
    assert lottery.dry == ["a"]
    assert list(lottery.draw(9.9, random.random)) == ["b"]
    lottery.found_empty("b", until=12.0)
    assert list(lottery.draw(9.9, random.random)) == []
    assert lottery.earliest(9.0) == 1.0
    assert lottery.earliest(11.0) == 0.0
    assert list(lottery.draw(10.0, random.random)) == ["a"]
    lottery.refill("b")
    assert lottery.dry == []
    assert sorted(lottery.draw(9.0, random.random)) == ["a", "b"]


def test_empty_assignment_draws_nothing() -> None:
    assert list(Lottery({}).draw(0.0, random.random)) == []
    assert Lottery({}).earliest(5.0) == 0.0


@given(
    st.dictionaries(st.text(max_size=2), st.integers(1, 100), max_size=6),
    st.lists(st.floats(0, 1e6), max_size=6),
    st.floats(0, 1, exclude_max=True),
)
def test_every_queue_is_drawn_exactly_once_whatever_chance_says(
    priorities: dict[str, int], times: list[float], chance: float
) -> None:
    lottery = Lottery(priorities)
    for queue, seconds in zip(priorities, times, strict=False):
        lottery.ran(queue, seconds)
    assert sorted(lottery.draw(0.0, lambda: chance)) == sorted(priorities)


def sizes(batch: int, seconds_a_task: float, packs: int, most: int = 1000) -> list[int]:
    size, asked = PackSize(batch), []
    for _ in range(packs):
        want = size.want()
        asked.append(want)
        size.ran(min(want, most), min(want, most) * seconds_a_task)
    return asked


@pytest.mark.parametrize(("batch", "seconds", "expected"), [
    (100, 1e-4, [1, 2, 4, 8, 16, 32, 64, 100, 100]),
    (3, 1e-4, [1, 2, 3, 3]),
    (1000, 0.1, [1, 2, 4, 8, 10, 10]),
    (1000, 600.0, [1, 1, 1]),
    (1000, 0.0, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000]),
    (1, 0.0, [1, 1]),
])  # fmt: skip
def test_packs_grow_from_one_until_they_take_a_second(batch: int, seconds: float, expected: list[int]) -> None:
    assert sizes(batch, seconds, len(expected)) == expected


def test_pack_of_a_handler_that_became_slow_shrinks_within_a_few_packs() -> None:
    size = PackSize(1000)
    for _ in range(12):
        size.ran(size.want(), size.want() * 0.001)
    assert size.want() == 1000
    for _ in range(3):
        size.ran(10, 10 * 1.0)
    assert size.want() * 0.6 <= PACK_TIME


def test_small_packs_for_want_of_tasks_do_not_forget_the_size_at_once() -> None:
    size = PackSize(1000)
    for _ in range(11):
        size.ran(size.want(), 0.0)
    size.ran(3, 0.0)
    assert size.want() >= 512
    size.ran(0, 5.0)  # handed back untouched
    assert size.want() >= 512


def test_tasks_that_run_beside_each_other_take_as_long_as_one() -> None:
    size = PackSize(100, beside=100)
    for count in (1, 2, 4, 8, 16, 32, 64, 100):
        assert size.want() == count
        size.ran(count, 30.0)  # each waits long for something: that is no reason for small packs
    size = PackSize(1000, beside=10)
    for _ in range(20):
        size.ran(1000, 50.0)  # 0.5 s for ten
    assert size.want() == 20


def whole(own: float, each: float, packs: int, batch: int = 1000) -> PackSize:
    """After so many packs of a handler that has them whole: a pack costs its own, and each task some more."""
    size = PackSize(batch, whole=True)
    for _ in range(packs):
        size.ran(size.want(), own + each * size.want())
    return size


@pytest.mark.parametrize("own", [0.3, 0.9, 2.0, 60.0])
def test_a_pack_with_a_cost_of_its_own_grows_until_its_tasks_add_a_second(own: float) -> None:
    assert 700 <= whole(own, 0.001, 40).want() <= 1000
    assert whole(own, 0.0, 40).want() == 1000


@pytest.mark.parametrize("each", [0.1, 1.0, 10.0])
def test_a_pack_without_a_cost_of_its_own_takes_a_second_at_most(each: float) -> None:
    assert whole(0.0, each, 40).want() == max(1, round(1 / each))


def test_a_whole_pack_shrinks_when_its_tasks_become_slow() -> None:
    size = whole(2.0, 0.001, 40)
    for _ in range(12):
        size.ran(size.want(), 2.0 + 0.1 * size.want())
    assert size.want() <= 40
