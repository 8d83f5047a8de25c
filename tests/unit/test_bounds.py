"""What stops growth, and how it is said."""

import pytest

from qmaster.bounds import Bound, Work, brake, by_memory, others

M = 1 << 20
WIDE = 1 << 20


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (Work(2.0, 0.94, 3.9, 0.79, 0.1), None),
        (Work(1.5, 0.95), "bound by cpu: 95% of 1.5 processors busy"),
        (Work(2.0, 0.1, 4.5), "bound by cpu: a load of 4.5 for each processor"),
        (Work(2.0, 0.1, 0.0, 0.83), "bound by cpu: processes wait for a processor 83% of the time"),
        (Work(2.0, 0.99, 9.0, 0.9, 0.12), "bound by pressure: processes wait for memory 12% of the time"),
    ],
)
def test_what_stops_growth(work: Work, expected: str | None) -> None:
    assert (brake(work) is not None) == (expected is not None)
    found = others(setting=None, ramp=WIDE, held=7, work=work)
    if expected is None:
        assert found.slots == WIDE
    else:
        assert (found.slots, str(found)) == (7, expected)


def test_a_brake_leaves_two_slots_a_processor() -> None:
    assert others(setting=None, ramp=WIDE, held=1, work=Work(1.5, 0.99)).slots == 3


def test_the_lowest_bound_counts() -> None:
    found = others(setting=5, ramp=4, held=None, work=Work(2.0))
    assert (found.slots, found.bound, str(found)) == (
        4, Bound.RAMP, "bound by ramp: twice as many as soon as these have been measured",
    )  # fmt: skip
    assert str(others(setting=3, ramp=4, held=None, work=Work(2.0))) == "bound by setting: server.max_slots is 3"
    by_hand = others(setting=3, ramp=4, held=None, work=Work(2.0), by_hand=True)
    assert str(by_hand) == "bound by setting: moved by TTIN or TTOU"
    assert str(by_memory(1204 * M, 23 * M)) == "bound by memory: 1,204 MB / 23 MB a slot"
