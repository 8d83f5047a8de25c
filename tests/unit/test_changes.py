"""What the manager's log says of a map: one line with the counts, and behind it no flood."""

import pytest

from qmanager.changes import MOST_LINES, listed, spans, summary, told
from qmanager.loop import following
from qmanager.pins import pinned
from qmanager.pins import told as told_of_pins
from qmanager.planning.placement import Change
from qslots.reports import Declared, QueueDeclared, QueuePlan


def change(server: str, index: int, before: str, after: str, reason: str = "why") -> Change:
    return Change(server, index, tuple(before.split()), tuple(after.split()), reason)


def test_one_line_sums_a_map_up() -> None:
    changes = [change("x", 0, "", "mail"), change("x", 1, "index", "mail"), change("y", 0, "rest", "")]
    changes += [change("y", 1, "a", "b"), change("y", 2, "b", "a")]
    assert summary(changes) == "5 slots of 2 servers changed: mail +2, index -1, rest -1, 2 queues only moved"
    many = [change("x", n, "", f"q{n:02}") for n in range(9)]
    assert summary(many).endswith("q05 +1, 3 other queues")
    assert summary([change("x", 0, "a b", "b a")]) == "1 slot of 1 server changed: 2 queues only moved"


def test_the_lines_behind_it_join_what_is_alike_and_are_not_endless() -> None:
    assert told([change("x", n, "", "a") for n in (0, 1, 2, 5)]) == ["x slots 0-2, 5: none -> a (why)"]
    lines = told([change("x", n, "", "a", f"why {n}") for n in range(3 * MOST_LINES)])
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == f"and {2 * MOST_LINES} more slots"


def test_numbers_and_names_are_listed_shortly() -> None:
    assert spans([5, 1, 2]) == "1-2, 5"
    assert listed(list("abc")) == "a, b, c"
    assert listed(list("abcdefghij")) == "a, b, c, d, e, f, g, h and 2 more"


@pytest.mark.parametrize(("due", "now", "begins"), [
    (10.0, 10.2, 11.0),  # in time
    (10.0, 10.9, 11.15),  # late: a pause all the same
    (10.0, 17.0, 17.25),  # what was missed is not made up for
    (99.0, 10.0, 11.0),  # a clock that has gone back does not stop it
])  # fmt: skip
def test_cycles_begin_once_an_interval_and_never_in_a_burst(due: float, now: float, begins: float) -> None:
    assert following(due, 1.0, now) == pytest.approx(begins)


def test_a_pin_is_min_and_max_of_that_queue_in_all_declarations() -> None:
    declared = {"d": Declared((QueueDeclared("a", min_slots=1), QueueDeclared("b", max_slots=9)))}
    assert pinned(declared, {}) == declared
    a, b = pinned(declared, {"b": 4, "unknown": 2})["d"].queues
    assert (a.min_slots, a.max_slots, b.min_slots, b.max_slots) == (1, None, 4, 4)
    plans = (QueuePlan("b", 50, 4, 4, 4.0, 2.0, None, 0.0, 0.0, None, "min 4; short of slots: 2 of 4"),)
    [plan] = told_of_pins(plans, {"b": 4})
    assert (plan.pinned, plan.reason) == (4, "pinned to 4 by `qslots pin`; min 4; short of slots: 2 of 4")
