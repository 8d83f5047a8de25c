"""Counts of a queue server that comes late or was emptied."""

from qmanager.readings import CUMULATIVE, counted_from
from qslots.packtimes import PackTimes
from qslots.reports import QueueStats, merged


def reading(**fields: object) -> QueueStats:
    return QueueStats("mail", 50.0, **fields)  # type: ignore[arg-type]


def test_a_late_server_brings_its_tasks_but_not_its_past() -> None:
    late = reading(active=9, taken=1_000_000, done=900_000, failed=5, busy=8e5)
    assert counted_from(late, late) == reading(active=9)
    later = reading(active=3, taken=1_000_010, done=900_008, failed=5, busy=8e5 + 4)
    assert counted_from(late, later) == reading(active=3, taken=10, done=8, busy=4.0)


def test_times_of_packs_add_up_over_servers_and_are_counted_from_when_one_came() -> None:
    one, other = PackTimes(1, 10, 100, 0.5, 5.0, 0.25, (0, 1)), PackTimes(2, 4, 8, 1.0, 2.0, 0.5, (3,))
    both = merged([reading(packing=one), reading(packing=other)])
    assert both.packing == one.plus(other) == PackTimes(3, 14, 108, 1.5, 7.0, 0.75, (3, 1))
    assert counted_from(reading(packing=other), both).packing == PackTimes(1, 10, 100, 0.5, 5.0, 0.25, (0, 1))


def test_a_server_that_was_emptied_counts_from_nothing() -> None:
    now = reading(taken=7, done=6)
    assert counted_from(reading(taken=100, done=100), now) == now
    assert counted_from(None, now) == now


def test_every_counter_is_counted_so_and_nothing_else() -> None:
    now = {"name", "now", "active", "inactive", "locked", "buried", "oldest", "parked", "takeable", "expired"}
    assert set(CUMULATIVE) | now | {"paused", "gates", "reasons", "packing", "handlers"} == set(
        QueueStats.__struct_fields__
    )
