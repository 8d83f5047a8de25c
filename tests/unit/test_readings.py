"""Counts of one queue from several queue servers: what adds up, what does not, and who comes late."""

from hypothesis import given
from hypothesis import strategies as st

from qmanager.readings import counted_from, merged
from qslots.reports import QueueStats


def reading(**fields: object) -> QueueStats:
    return QueueStats("mail", 50.0, **fields)  # type: ignore[arg-type]


def test_counts_and_counters_add_and_the_oldest_task_is_the_oldest_of_all() -> None:
    one = reading(active=3, inactive=1, locked=2, oldest=4.0, done=10, busy=1.5, parked=5, takeable=2, expired=1)
    two = reading(active=4, buried=7, oldest=9.0, done=20, busy=0.5, takeable=4)
    both = merged([one, two], 60.0)
    assert (both.name, both.now, both.oldest) == ("mail", 60.0, 9.0)
    assert (both.active, both.inactive, both.locked, both.buried) == (7, 1, 2, 7)
    assert (both.done, both.busy, both.parked, both.takeable, both.expired) == (30, 2.0, 5, 6, 1)


def test_it_is_paused_where_all_are_and_every_gate_is_told_once() -> None:
    main, other = reading(paused=True, gates=("queue", "handler:send")), reading(paused=True, gates=("queue",))
    assert merged([main, other], 1.0).paused
    half = merged([main, reading(gates=("collection:a",))], 1.0)
    assert not half.paused
    assert half.gates == ("queue", "handler:send", "collection:a")


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), st.integers(0, 5))
def test_the_order_of_the_servers_does_not_matter(counts: list[int], shift: int) -> None:
    parts = [reading(active=count, done=2 * count, oldest=float(count)) for count in counts]
    turned = parts[shift % len(parts) :] + parts[: shift % len(parts)]
    assert merged(parts, 1.0) == merged(turned, 1.0)


def test_a_late_server_brings_its_tasks_but_not_its_past() -> None:
    late = reading(active=9, taken=1_000_000, done=900_000, failed=5, busy=8e5)
    assert counted_from(late, late) == reading(active=9)
    later = reading(active=3, taken=1_000_010, done=900_008, failed=5, busy=8e5 + 4)
    assert counted_from(late, later) == reading(active=3, taken=10, done=8, busy=4.0)


def test_a_server_that_was_emptied_counts_from_nothing() -> None:
    now = reading(taken=7, done=6)
    assert counted_from(reading(taken=100, done=100), now) == now
    assert counted_from(None, now) == now
