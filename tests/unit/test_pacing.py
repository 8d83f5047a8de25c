"""Measuring takes one hundredth of a processor, whatever one reading costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmaster.pacing import SHARE, Pace


def test_a_reading_of_51_ms_is_paid_off_for_five_seconds() -> None:
    pace = Pace(at=100.0).spent(0.051, 100.0)
    assert pace.allowed(104.0) == 0.0
    assert pace.allowed(105.1) == pytest.approx(SHARE)
    assert pace.spent(0.0, 103.0).allowed(105.1) == pytest.approx(SHARE), "looking at it changes nothing"


def test_what_was_not_spent_is_not_saved_up() -> None:
    assert Pace(at=0.0).allowed(3600.0) == SHARE


@given(st.lists(st.tuples(st.floats(0.001, 3), st.floats(0.0001, 0.06)), min_size=1, max_size=60))
def test_no_stretch_of_time_takes_more_than_its_share_and_one_reading(turns: list[tuple[float, float]]) -> None:
    now, pace, spent = 0.0, Pace(), 0.0
    for wait, cost in turns:
        now += wait
        allowed, turn = pace.allowed(now), 0.0
        while turn < allowed:  # as the courier does it
            turn += cost
        pace, spent = pace.spent(turn, now), spent + turn
        assert spent <= SHARE * (now + 1) + max(each for _, each in turns) + 1e-9
