"""When a server that does not answer is tried again: soon, then seldom; one that hangs costs little time."""

import pytest

from qslots.outages import FIRST_PAUSE, LONGEST_PAUSE, Outages


def pauses(tries: int, took: float) -> list[float]:
    """The pauses after so many tries in a row that each took so long."""
    outages, now, found = Outages(), 100.0, []
    for _ in range(tries):
        now += took
        outages.failed("a", now, took=took, jitter=1.0)
        found.append(outages.until("a") - now)
        now = outages.until("a")
    return found


def test_pauses_double_up_to_the_longest() -> None:
    assert pauses(8, 0.0) == pytest.approx([FIRST_PAUSE * 2**n for n in range(6)] + [LONGEST_PAUSE] * 2)


@pytest.mark.parametrize("took", [0.5, 2.0, 5.0])
def test_server_that_hangs_has_a_fifth_of_the_time_at_most(took: float) -> None:
    assert all(took <= 0.2 * (took + pause) for pause in pauses(5, took))


def test_jitter_stretches_the_pause() -> None:
    outages = Outages()
    outages.failed("a", 10.0, took=0.0, jitter=1.1)
    assert outages.until("a") == pytest.approx(10.0 + 1.1 * FIRST_PAUSE)


def test_server_that_answers_is_forgiven_and_others_are_not_concerned() -> None:
    outages = Outages()
    for _ in range(3):
        outages.failed("a", 10.0, took=0.0, jitter=1.0)
        outages.failed("b", 10.0, took=0.0, jitter=1.0)
    outages.answered("a")
    assert (outages.until("a"), outages.until("c")) == (0.0, 0.0)
    assert outages.until("b") > 10.0
    outages.failed("a", 20.0, took=0.0, jitter=1.0)
    assert outages.until("a") == pytest.approx(20.0 + FIRST_PAUSE)
