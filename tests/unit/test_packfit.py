"""The line through packs, and how long runs are, from nothing but counters."""

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.planning.packfit import fitted
from qslots.packtimes import PackTimes


def counted(packs: Iterable[tuple[int, float]]) -> PackTimes:
    """The counters after packs of (tasks, seconds)."""
    sums: Counter[str] = Counter()
    for size, seconds in packs:
        micros = round(seconds * 1e6)
        more = {"n": 1, "k": size, "kk": size**2, "t": micros, "kt": size * micros, "tt": micros**2}
        sums.update({f"pack:{name}": value for name, value in more.items()})
        sums[f"took:{micros.bit_length()}"] += 1
    return PackTimes.counted(sums)


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_a_line_gives_what_a_task_takes_in_packs_of_any_size(size: int) -> None:
    times = counted((n, 0.3 + 0.001 * n) for n in range(1, 21))
    assert fitted(times, PackTimes(), size) == pytest.approx(0.3 / size + 0.001, rel=1e-3)


def test_too_few_packs_or_packs_of_one_size_give_no_line() -> None:
    assert fitted(PackTimes(), PackTimes(), 10) is None
    assert fitted(counted((n, 0.3 + 0.001 * n) for n in range(1, 9)), PackTimes(), 10) is None
    assert fitted(counted((50 + n % 2, 0.3) for n in range(100)), PackTimes(), 10) is None


def test_costs_are_never_negative() -> None:
    shrinking = counted((n, 1.0 / n) for n in range(1, 41))
    assert (fitted(shrinking, PackTimes(), 100) or 0) > 0
    convex = counted((n, 0.001 * n * n) for n in range(1, 41))
    assert (fitted(convex, PackTimes(), 1) or 0) >= 0.001


@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.floats(0.001, 0.1))
def test_noise_seldom_makes_tasks_look_cheaper_than_they_are(seed: int, own: float, each: float) -> None:
    draw = random.Random(seed)
    packs = [(n, (own + each * n) * draw.uniform(0.5, 1.5)) for n in range(1, 31)]
    assert (fitted(counted(packs), PackTimes(), 100) or 0) > 0.5 * (own / 100 + each)


def test_readings_add_up_and_their_difference_is_what_came_between() -> None:
    first, more = counted([(1, 0.5), (2, 3.0)]), counted([(7, 0.001)])
    both = counted([(1, 0.5), (2, 3.0), (7, 0.001)])
    assert first.plus(more) == both
    since = both.since(first)
    assert (since.n, since.k, since.kk) == (1, 7, 49)
    assert both.quantile(0.95, first) == (1, pytest.approx(0.001, rel=0.05))


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_quantile_lies_within_a_power_of_two_of_the_truth(share: float) -> None:
    draw = random.Random(4)
    runs = sorted(draw.lognormvariate(0.0, 2.0) for _ in range(2000))
    found = counted((1, seconds) for seconds in runs).quantile(share, PackTimes())[1]
    assert found is not None
    assert 0.7 < found / runs[int(share * 2000)] < 1.4


def test_no_runs_have_no_quantile() -> None:
    assert PackTimes().quantile(0.95, PackTimes()) == (0, None)
