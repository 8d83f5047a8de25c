"""Whether a turn of the master comes too late: a table over two clocks."""

import pytest

from qmaster.lateness import Clocks, Late, late

BEFORE = Clocks(100.0, 1000.0)


@pytest.mark.parametrize(
    ("what", "planned", "now", "found"),
    [
        ("in time", 101.0, Clocks(101.0, 1001.0), None),
        ("an event came before", 101.0, Clocks(100.2, 1000.2), None),
        ("a busy machine", 101.0, Clocks(105.9, 1005.9), None),
        ("stopped for a minute", 101.0, Clocks(161.0, 1061.0), Late(60.0, 0.0)),
        ("just late enough", 101.0, Clocks(106.0, 1006.0), Late(5.0, 0.0)),
        ("suspended for an hour", 101.0, Clocks(101.0, 4601.0), Late(0.0, 3600.0)),
        ("suspended, then an event", 101.0, Clocks(100.5, 1060.5), Late(0.0, 60.0)),
        ("stopped and suspended, neither long", 101.0, Clocks(104.0, 1006.5), Late(3.0, 2.5)),
        ("nothing was planned", float("inf"), Clocks(9000.0, 9900.0), None),
        ("planned for long ago, as something is due at once", 0.0, Clocks(100.1, 1000.1), None),
    ],
)
def test_what_was_lost(what: str, planned: float, now: Clocks, found: Late | None) -> None:
    assert late(BEFORE, planned, now) == found, what
