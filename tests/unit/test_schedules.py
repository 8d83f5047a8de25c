"""Which ticks are stored next: ahead, after a gap by the catch-up policy, at first sight, after a change; bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

from qmanager.schedules import AHEAD, GONE_BACK, MOST, aged, newest, step, withdrawal
from qslots.periodic import Step, Ticks, first, words
from qslots.reports import Declared, HandlerDeclared, Periodic, QueueDeclared

MINUTE = Periodic(every=60)
NOW = 6_000_000.4  # a multiple of 60, and a bit


def remembered(cursor: float, *waiting: int, periodic: Periodic = MINUTE, last: int = 0) -> Ticks:
    return Ticks(int(cursor), last, 0, 0, words(periodic), waiting)


def periodic(every: int, **options: object) -> Periodic:
    return Periodic(every=every, **options)  # type: ignore[arg-type]


def test_at_first_sight_nothing_is_made_up_for() -> None:
    assert step(periodic(10), None, NOW) == Step(6_000_000, 6_000_060, tuple(range(6_000_010, 6_000_061, 10)))


def test_a_server_that_joins_begins_where_the_others_are() -> None:
    begun = step(periodic(10), None, NOW, others=[6_000_040, 5_000_000])
    assert begun == Step(6_000_040, 6_000_060, (6_000_050, 6_000_060))


@pytest.mark.parametrize(("cursor", "chosen"), [
    (6_000_060, None), (6_000_000, Step(6_000_000, 6_000_060, (6_000_060,))),
    (6_000_010, Step(6_000_010, 6_000_060, (6_000_060,))),
])  # fmt: skip
def test_ticks_are_stored_a_minute_ahead_and_once(cursor: int, chosen: Step | None) -> None:
    assert step(MINUTE, remembered(cursor), NOW) == chosen


def test_a_tick_farther_away_waits() -> None:
    assert step(periodic(3600), remembered(NOW, periodic=periodic(3600)), NOW) is None


@pytest.mark.parametrize(("policy", "ago", "instants", "missed"), [
    ("once", 200, (6_000_000,), 3), ("skip", 200, (6_000_000,), 3),
    ("all", 200, (5_999_820, 5_999_880, 5_999_940, 6_000_000), 0),
])  # fmt: skip
def test_after_a_gap_the_handler_says_what_is_made_up_for(
    policy: str, ago: int, instants: tuple[int, ...], missed: int
) -> None:
    schedule = periodic(60, catch_up=policy)
    gap = step(schedule, remembered(NOW - ago, periodic=schedule), NOW)
    assert gap == Step(int(NOW - ago), 6_000_060, (*instants, 6_000_060), missed)


@pytest.mark.parametrize(
    ("late", "instants", "missed"), [(5, (6_000_000, 6_000_060), 1), (6, (6_000_060,), 2), (30, (6_000_060,), 2)]
)
def test_skip_lets_a_tick_go_that_is_late(late: int, instants: tuple[int, ...], missed: int) -> None:
    schedule = periodic(60, catch_up="skip")
    gap = step(schedule, remembered(5_999_880, periodic=schedule), NOW + late)
    assert gap is not None and (gap.instants, gap.missed, gap.upto) == (instants, missed, 6_000_060)


MONTH = 30 * 86400


@pytest.mark.parametrize("schedule", [periodic(1), Periodic(cron="* * * * * *", tz="Europe/Moscow")])
def test_one_tick_after_a_month_away_of_a_handler_of_every_second(schedule: Periodic) -> None:
    gap = step(schedule, remembered(NOW - MONTH, periodic=schedule), NOW)
    assert gap is not None
    assert gap.instants == tuple(range(6_000_000, 6_000_061))
    assert gap.missed == MOST  # it counts no further
    assert gap.upto == 6_000_060


def test_all_ticks_of_a_month_come_in_portions_and_none_twice() -> None:
    schedule = periodic(60, catch_up="all")
    ticks, found = remembered(NOW - MONTH, periodic=schedule), list[int]()
    turns = 0
    while chosen := step(schedule, ticks, NOW):
        turns += 1
        assert len(chosen.instants) <= MOST + AHEAD
        found += chosen.instants
        ticks = remembered(chosen.upto, periodic=schedule)
    assert found == first(schedule, int(NOW - MONTH), int(NOW) + AHEAD, 10**6)
    assert turns == MONTH // 60 // MOST + 1


def test_without_overlap_one_tick_at_a_time_is_stored_ahead() -> None:
    schedule = periodic(10, overlap=False)
    assert step(schedule, None, NOW) == Step(6_000_000, 6_000_010, (6_000_010,))


def test_another_schedule_begins_now_and_withdraws_what_waits() -> None:
    changed = step(periodic(120), remembered(6_000_060, 6_000_060), NOW)
    assert changed == Step(6_000_000, 6_000_000, (), withdraw=True)
    assert step(Periodic(every=60, overlap=False, catch_up="skip"), remembered(6_000_060, 6_000_060), NOW) is None


def test_a_clock_that_has_gone_back_far_begins_anew() -> None:
    little, far = remembered(NOW + AHEAD + GONE_BACK - 1), remembered(NOW + AHEAD + GONE_BACK + 1)
    assert step(MINUTE, little, NOW) is None
    assert step(MINUTE, far, NOW) == Step(6_000_000, 6_000_060, (6_000_060,), withdraw=True)


def test_of_several_that_wait_all_but_one_go_unless_all_are_wanted() -> None:
    ticks = remembered(6_000_060, 5_999_940, 6_000_000, 6_000_060)
    assert step(MINUTE, ticks, NOW) == Step(6_000_060, 6_000_060)
    assert step(MINUTE, remembered(6_000_060, 6_000_000, 6_000_060), NOW) is None
    assert step(periodic(60, catch_up="all"), ticks, NOW) is None


def test_ticks_that_belong_elsewhere_are_passed_over_and_not_counted() -> None:
    chosen = step(
        periodic(10), remembered(NOW - 40, periodic=periodic(10)), NOW, here=lambda instant: instant % 20 == 0
    )
    assert chosen == Step(5_999_960, 6_000_060, (6_000_000, 6_000_020, 6_000_040, 6_000_060), missed=1)


def test_handler_that_is_gone_withdraws_what_waits_and_stays_known() -> None:
    assert withdrawal(remembered(6_000_060, 6_000_060), NOW) == Step(6_000_000, 6_000_000, withdraw=True)
    assert withdrawal(remembered(5_000_000, 6_000_060), NOW) == Step(5_000_000, 5_000_000, withdraw=True)
    assert withdrawal(remembered(6_000_060), NOW) is None
    assert withdrawal(None, NOW) is None


@examples(200)
@given(
    st.sampled_from([periodic(7), periodic(61), periodic(10, catch_up="all"), periodic(10, catch_up="skip"),
                     Periodic(cron="*/2 * * * *", tz="Europe/Berlin", catch_up="all")]),
    st.lists(st.floats(0.1, 500.0), min_size=1, max_size=30),
)  # fmt: skip
def test_no_tick_is_stored_twice_or_lost_whenever_the_manager_comes(schedule: Periodic, gaps: list[float]) -> None:
    now, ticks, found, missed = 1_774_742_400.0, None, list[int](), 0
    for gap in gaps:
        chosen = step(schedule, ticks, now)
        if chosen is not None:
            found += chosen.instants
            missed += chosen.missed
            ticks = remembered(chosen.upto, periodic=schedule)
        now += gap
    assert ticks is not None
    wanted = first(schedule, 1_774_742_400, ticks.cursor, 10**6)
    assert found == sorted(set(found)) and set(found) <= set(wanted)
    assert len(found) + missed == len(wanted)
    assert missed == 0 or schedule.catch_up != "all"


def generation(*handlers: HandlerDeclared, queue: str = "q") -> Declared:
    return Declared((QueueDeclared(queue, handlers=handlers),))


def test_newest_generation_says_when_and_an_older_one_what_only_it_knows() -> None:
    old = generation(HandlerDeclared("a", periodic=MINUTE), HandlerDeclared("b", periodic=MINUTE), HandlerDeclared("c"))
    new = generation(HandlerDeclared("a", periodic=periodic(7)), HandlerDeclared("c", periodic=MINUTE))
    assert newest([old, new]) == {("q", "a"): periodic(7), ("q", "b"): MINUTE, ("q", "c"): MINUTE}
    assert newest([new, old]) == {("q", "a"): MINUTE, ("q", "b"): MINUTE}


def test_order_of_generations_is_that_of_the_manager_before() -> None:
    known = {name: generation(queue=name) for name in "abc"}
    assert list(aged(known, ("c", "x", "a"))) == ["c", "a", "b"]
    assert list(aged(known, ())) == ["a", "b", "c"]
