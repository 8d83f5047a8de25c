"""Who counts as there: servers that are lost alone or many at once, a blind manager, clocks that are set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.presence import Presence, present, reporting

LOST = 5.0


def names(count: int) -> frozenset[str]:
    return frozenset(f"s{i}" for i in range(count))


def seen(count: int, at: float, **others: float) -> dict[str, float]:
    return {**dict.fromkeys(names(count), at), **others}


def after(there: frozenset[str], at: float = 99.0) -> Presence:
    return Presence(there, at)


def step(reports: dict[str, float], before: Presence, now: float = 100.0) -> Presence:
    return present(reports, before, now, lost_after=LOST)


def test_a_server_that_is_silent_for_longer_than_the_others_is_lost() -> None:
    assert step(seen(10, 99.5, s3=94.6), after(names(10))).there == names(10)
    assert step(seen(10, 99.5, s3=94.4), after(names(10))).there == names(10) - {"s3"}


def test_a_single_server_is_never_many_also_of_two() -> None:
    found = step({"a": 99.0, "b": 90.0}, after(frozenset("ab")))
    assert (found.there, found.held) == ({"a"}, False)


def test_a_server_that_left_in_good_order_goes_at_once() -> None:
    assert step({"a": 99.0}, after(frozenset("ab"))).there == {"a"}


def test_when_all_reports_are_old_nobody_is_lost() -> None:  # case 43: the queue server hung for six seconds
    found = step(seen(10, 94.0), after(names(10), at=94.0), now=100.3)
    assert (found.there, found.held) == (names(10), False)


def test_the_first_to_report_after_a_hang_does_not_make_the_others_lost() -> None:
    found = step(seen(10, 94.0, s0=100.0), after(names(10), at=99.0))
    assert (found.there, found.held_until) == (names(10), 105.0)
    back = step(seen(10, 101.0), found, now=101.0)
    assert (back.there, back.held) == (names(10), False)


def test_many_that_stay_away_are_lost_after_another_span_and_no_later() -> None:
    before = step(seen(6, 99.0, s6=90.0, s7=90.0, s8=90.0), after(names(9)))
    assert before.held
    for now in (101.0, 103.0, 104.9):
        before = step(seen(6, now, s6=90.0, s7=90.0, s8=90.0), before, now)
        assert (before.there, before.held_until) == (names(9), 105.0)
    assert step(seen(6, 105.0, s6=90.0, s7=90.0, s8=90.0), before, 105.0) == Presence(names(6), 105.0)


def test_a_manager_that_was_stopped_takes_one_silent_server_for_blindness_too() -> None:
    found = step({**seen(9, 99.5), "s9": 93.0}, after(names(10), at=90.0))
    assert (found.there, found.held_until) == (names(10), 105.0)


def test_a_new_manager_keeps_the_servers_of_the_map_for_a_while() -> None:
    found = step({"a": 99.5, "b": 60.0}, Presence(frozenset("abc")))
    assert (found.there, found.held_until) == ({"a", "b"}, 105.0)
    assert step({"a": 99.5, "b": 39.0}, Presence(frozenset("ab"))) == Presence(frozenset("a"), 100.0)
    assert step({"a": 99.5, "b": 99.0}, Presence(frozenset("ab"))).held is False
    assert step({}, Presence()) == Presence(frozenset(), 100.0)


def test_an_emptied_queue_server_takes_no_row_at_once() -> None:
    found = step({}, after(frozenset("a")))
    assert (found.there, found.held) == ({"a"}, True)
    assert step({}, found, 105.5).there == frozenset()


def test_a_clock_that_is_set_forward_loses_nobody_who_still_reports() -> None:
    found = step(seen(10, 99.0, s0=3700.0), after(names(10)), now=3700.2)
    assert found.there == names(10)
    assert step(seen(10, 3701.0), found, now=3701.2) == Presence(names(10), 3701.2)


def test_a_clock_that_is_set_back_loses_who_is_silent_from_then_on() -> None:
    before = step(seen(3, 3700.0), after(names(3), at=3700.0), now=100.0)
    assert before.there == names(3)
    for now in (101.0, 103.0, 105.0):
        before = step({"s0": now, "s1": now, "s2": 3700.0}, before, now)
        assert before.there == names(3)
    assert step({"s0": 105.5, "s1": 105.5, "s2": 3700.0}, before, 105.5).there == {"s0", "s1"}


def test_a_report_of_before_the_clock_was_set_back_is_no_sign_of_life_when_its_time_comes_again() -> None:
    before = step({"s0": 110.0, "s1": 110.0, "s2": 110.0}, after(names(3), at=110.0), now=100.0)
    for now in (103.0, 106.0, 109.0, 111.0, 114.0):
        before = step({"s0": now, "s1": now, "s2": 110.0}, before, now)
    assert before.there == {"s0", "s1"}
    assert step({"s0": 115.0, "s1": 115.0, "s2": 115.0}, before, 115.0).there == names(3)


def test_a_map_that_is_held_is_let_go_when_the_clock_is_set_back() -> None:
    held = Presence(names(3), 3700.0, held_until=3705.0)
    assert step(seen(2, 100.0), held).held is False


Cycle = tuple[float, dict[str, float]]
times = st.floats(10, 14400)


@given(st.lists(st.tuples(times, st.dictionaries(st.sampled_from("abcdef"), times)), max_size=12))
def test_whoever_has_just_reported_is_there_and_nothing_is_held_for_ever(cycles: list[Cycle]) -> None:
    before, last = Presence(frozenset("az")), dict[str, float]()
    for now, reports in cycles:
        found = step(reports, before, now)
        assert {name for name, at in reports.items() if at >= now - LOST and at != last.get(name)} <= found.there
        assert found.held_until <= now + LOST
        assert found.there <= before.there | reports.keys()
        before, last = found, reports
    for now in (20000.0, 20005.0, 20010.0):  # all but one are silent
        before = step({"a": now, "b": 0.0}, before, now)
    assert before.there == {"a"}


@pytest.mark.parametrize("many", [(1, 2), (2, 10), (20, 100)])
def test_no_more_than_a_fifth_is_a_plain_loss(many: tuple[int, int]) -> None:
    gone, all_of_them = many
    reports = {**dict.fromkeys(names(all_of_them), 99.9), **dict.fromkeys(names(gone), 90.0)}
    assert step(reports, after(names(all_of_them))).there == names(all_of_them) - names(gone)


def test_who_looks_once_counts_ages_against_the_newest_report_and_takes_the_future_for_now() -> None:
    assert reporting({}, 100.0, lost_after=LOST) == frozenset()
    assert reporting(seen(3, 60.0, s3=54.0), 100.0, lost_after=LOST) == names(3)
    assert reporting(seen(3, 99.0, s3=3600.0, s4=94.9), 100.0, lost_after=LOST) == names(4)
