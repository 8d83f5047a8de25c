"""What the planner is worth in simulated time: the urgent wait less than by others with as many slots.

It stands here, where tests run beside each other, as a run takes a second or two; it starts no process.
"""

import functools
import itertools

import pytest

from qmanager.simulation.measures import Figures
from qmanager.simulation.play import simulated
from qmanager.simulation.scenarios import SCENARIOS
from qmanager.simulation.server import Size


@functools.cache
def compared(name: str) -> dict[str, Figures]:
    size = Size(8, 8)
    return {each.policy: each.figures for each in simulated(SCENARIOS[name](size, 360.0), size, seed=2, compare=True)}


@pytest.mark.parametrize(("scenario", "other", "part"), [
    ("tenfold", "static", 0.1), ("night", "static", 0.8), ("night", "backlog", 0.2), ("wave", "static", 0.1),
    ("wave", "backlog", 0.9), ("losses", "static", 0.1), ("losses", "backlog", 0.6),
    ("tenfold", "backlog", 1.0), ("steady", "static", 1.0), ("steady", "backlog", 0.5),
])  # fmt: skip
def test_the_urgent_wait_less_by_our_planner_with_as_many_slots(scenario: str, other: str, part: float) -> None:
    """``part``: of the other's p99, which ours is to stay below. Static loses the slots of lost servers for good."""
    ours, theirs = compared(scenario)["qslots"], compared(scenario)[other]
    assert ours.queues["urgent"].p99 < part * theirs.queues["urgent"].p99
    assert theirs.slots_mean >= 0.8 * ours.slots_mean  # given the same, it may leave some unused


def test_a_sick_queue_takes_nothing_that_the_urgent_need() -> None:
    """Static has the best division of all here: it gives the sick queue no slot that does not help it."""
    size = Size(20, 20)
    runs = itertools.islice(simulated(SCENARIOS["sick"](size, 600.0), size, seed=2, compare=True), 2)
    ours, static = (each.figures for each in runs)
    assert ours.queues["urgent"].p99 < static.queues["urgent"].p99
    assert ours.slots_mean <= static.slots_mean * 1.02
