"""Arrivals by what was counted: a step is believed within seconds, a burst and chance are not."""

import itertools
import math
import random
import statistics
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.planning.history import Samples, arrivals, observe
from qslots.reports import QueueStats

QUIET = [10] * 60  # tasks a second, long before
SOON = 2.1  # s in which tasks are to be done


def read(came: Iterable[int], seconds: Sequence[float] = (1.0,)) -> Samples:
    """Readings of a queue to which so many tasks came in each stretch; the last of ``seconds`` goes on."""
    stretches = itertools.chain(seconds, itertools.repeat(seconds[-1]))
    samples, now, put = observe((), QueueStats("q", 1000.0)), 1000.0, 0
    for count, stretch in zip(came, stretches, strict=False):
        now, put = now + stretch, put + count
        samples = observe(samples, QueueStats("q", now, takeable=put))
    return samples


@pytest.mark.parametrize(
    ("latest", "least", "most"),
    [
        pytest.param([100], 10, 13, id="one reading may be a burst"),
        pytest.param([100, 100], 80, 100, id="a second is none"),
        pytest.param([100] * 30, 80, 100, id="and as long as it lasts"),
        pytest.param([100, 100, 0, 100], 80, 100, id="with a hole in it too"),
        pytest.param([40, 100], 20, 40, id="it may begin between two readings"),
        pytest.param([100_000], 1600, 1700, id="a burst is averaged"),
        pytest.param([100_000, 10], 1600, 1700, id="a second later too"),
        pytest.param([-100_000, 100_000, 10], 0, 13, id="a gate that closes and opens is no rate"),
        pytest.param([0] * 10, 8, 10, id="less is never believed at once"),
    ],
)
def test_a_step_is_believed_at_once_and_a_burst_is_not(latest: list[int], least: float, most: float) -> None:
    assert least <= arrivals(read([*QUIET, *latest]), 0.1, SOON) <= most


@pytest.mark.parametrize(
    ("latest", "least", "most"),
    [
        pytest.param([100], 70, 100, id="one reading is enough"),
        pytest.param([20], 10, 12, id="but for what may be chance"),
        pytest.param([5000], 4700, 5000, id="also of a burst"),
        pytest.param([5000, 10], 80, 100, id="for as long as it is the newest"),
    ],
)
def test_who_is_in_a_hurry_believes_one_reading(latest: list[int], least: float, most: float) -> None:
    assert least <= arrivals(read([*QUIET, *latest]), 0.1, SOON, hurry=True) <= most


@pytest.mark.parametrize(
    ("came", "seconds", "least", "most"),
    [
        pytest.param([10] * 30 + [100, 400, 100], [1.0] * 31 + [4.0, 1.0], 80, 100, id="readings are missing"),
        pytest.param([10] * 30 + [10, 9000, 10], [1.0] * 31 + [4.0, 1.0], 100, 300, id="a burst among missing ones"),
        pytest.param([50] * 12 + [500] * 2, [5.0], 80, 100, id="a slow cycle"),
        pytest.param([50] * 12 + [50_000], [5.0], 800, 1000, id="a burst in a slow cycle"),
        pytest.param([300] * 5 + [3000] * 2, [30.0], 50, 100, id="a cycle of half a minute"),
        pytest.param([1] * 300 + [10] * 16, [0.1], 60, 100, id="a quick cycle"),
        pytest.param([1] * 300 + [1000, 1, 1], [0.1], 20, 50, id="a burst in a quick cycle"),
        pytest.param([10, 100], [1.0], 10, 12, id="too few readings"),
    ],
)
def test_it_holds_however_often_is_read(came: list[int], seconds: list[float], least: float, most: float) -> None:
    assert least <= arrivals(read(came, seconds), 0.1, SOON) <= most


@pytest.mark.parametrize(("within", "believed"), [(2.0, 1), (2.1, 2), (5.0, 4), (10.0, 8), (30.0, 18), (61.0, 41)])
def test_what_may_take_longer_is_looked_at_for_longer(within: float, believed: int) -> None:
    steps = [arrivals(read([*QUIET, *[100] * seconds]), 0.1, within) for seconds in range(1, 60)]
    assert next(seconds for seconds, found in enumerate(steps, 1) if found > 70) == pytest.approx(believed, abs=1)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(SOON, 100.0), st.integers(0, 50))
def test_a_burst_across_two_readings_is_no_more_as_a_rate_than_one_and_a_half_times_its_backlog(
    some: int, others: int, within: float, ago: int
) -> None:
    burst, samples = some + others, read([*[0] * 200, some, others, *[0] * ago])
    assert arrivals(samples, 0.1, within) <= max(burst / 60, 1.5 * burst / within)


@pytest.mark.parametrize(("rate", "most"), [(1, 1.25), (10, 1.1), (100, 1.02)])
def test_chance_is_taken_for_a_rise_seldom_and_never_for_a_large_one(rate: int, most: float) -> None:
    draw, samples, found = random.Random(rate), observe((), QueueStats("q", 1000.0)), []
    put = next_one = 0.0
    for second in range(1, 2000):
        while next_one <= second:
            next_one, put = next_one + draw.expovariate(rate), put + 1
        samples = observe(samples, QueueStats("q", 1000.0 + second, takeable=int(put)))
        found.append(arrivals(samples, 0.1, SOON))
    assert max(found[100:]) < rate * (1 + 4 / math.sqrt(60 * rate)) * most
    assert statistics.mean(found[100:]) < rate * 1.03


def test_of_long_tasks_no_more_are_to_run_than_have_come() -> None:
    samples = read([*[0] * 400, *[10] * 5], [*[10.0] * 400, 1.0])
    assert arrivals(samples, 1800.0, SOON) * 1800.0 <= 50
    assert arrivals(samples, 1.0, SOON) > 4


@given(
    st.lists(st.tuples(st.floats(0.01, 100.0), st.integers(-1000, 10**6)), min_size=1, max_size=20), st.floats(0, 1e4)
)
def test_arrivals_are_at_most_the_quickest_that_was_seen(readings: list[tuple[float, int]], mean: float) -> None:
    seconds, came = zip(*readings, strict=True)
    found = arrivals(read(came, seconds), mean, SOON)
    assert 0 <= found <= max(0.0, *(count / stretch for stretch, count in readings), 0.0) * (1 + 1e-6)
