"""Whether a growth has helped: single steps of the judgement, which loops of demand do not reach."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmanager.planning.saturation import CALM, FIRST_PAUSE, LONGEST_PAUSE, Growth, Work, watch

BEFORE = Work(slots=10.0, rate=100.0, finished=6000)


def step(before: Growth, now: float, slots: int, work: Work, **fields: object) -> Growth:
    told: dict[str, object] = {"mean": 0.1, "backlogged": True} | fields
    return watch(before, now, slots=slots, work=lambda _: work, **told)  # type: ignore[arg-type]


def grown(work: Work = BEFORE) -> Growth:
    """Ten slots have become forty a moment ago."""
    return step(Growth(top=10), 100.0, 40, work)


def stopped() -> Growth:
    return step(grown(), 111.0, 40, Work(40.0, 104.0, 1100))


@pytest.mark.parametrize(
    ("work", "judging", "ceiling"),
    [
        pytest.param(Work(40.0, 390.0, 4000), False, 0, id="it has helped"),
        pytest.param(Work(40.0, 280.0, 3000), False, 0, id="it has helped by more than half"),
        pytest.param(Work(40.0, 104.0, 1100), False, 17, id="it was in vain"),
        pytest.param(Work(40.0, 180.0, 2000), False, 29, id="it has helped too little"),
        pytest.param(Work(40.0, 104.0, 5), True, 0, id="nobody can tell from so few"),
        pytest.param(Work(12.0, 104.0, 1100), True, 0, id="the new slots do not work yet"),
        pytest.param(Work(40.0, 30.0, 300), True, 0, id="the tasks are others now"),
    ],
)
def test_a_growth_is_judged_by_what_busy_slots_finish(work: Work, judging: bool, ceiling: int) -> None:
    after = step(grown(), 111.0, 40, work)
    assert (after.judging, after.ceiling) == (judging, ceiling)


def test_nothing_is_judged_before_two_run_times_are_over() -> None:
    assert step(grown(), 109.0, 40, Work(40.0, 104.0, 1100)) == grown()
    assert step(grown(), 150.0, 40, Work(40.0, 104.0, 1100), mean=30.0) == grown()
    assert step(grown(), 161.0, 40, Work(40.0, 104.0, 1100), mean=30.0).ceiling


def test_without_a_rate_to_compare_with_nothing_is_judged() -> None:
    after = grown(Work(10.0, 1.0, 3))
    assert not after.judging
    assert step(after, 200.0, 40, Work(40.0, 1.0, 300)).ceiling == 0


@pytest.mark.parametrize("before", [
    grown(), stopped(), dataclasses.replace(stopped(), base=None), dataclasses.replace(stopped(), base=None, known=9),
])  # fmt: skip
def test_finished_tasks_of_which_no_time_is_known_say_nothing(before: Growth) -> None:
    for now in (160.0, 161.0, 400.0):
        found = step(before, now, 40, Work(0.0, 0.5, 30))
        assert (found.base, found.ceiling, found.judging) == (before.base, before.ceiling, before.judging)
        before = found


def tried(growth: Growth) -> Growth:
    """More slots are tried, and come."""
    more = int(growth.limit(growth.retry))
    assert more > 1.4 * growth.top
    return step(growth, growth.retry, more, Work(float(growth.top), 104.0, 6000))


def test_more_slots_are_tried_again_more_and_more_seldom() -> None:
    growth, pauses = stopped(), []
    for _ in range(8):
        pauses.append(growth.pause)
        assert growth.limit(growth.retry - 0.1) == 17
        growth = tried(growth)
        assert growth.judging
        growth = step(growth, growth.begun + 11.0, growth.top, Work(float(growth.top), 104.0, 1100))
        growth = step(growth, growth.begun, 17, Work(17.0, 104.0, 1100))
    assert pauses[0] == FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


def test_slots_that_are_not_granted_are_no_longer_asked_for() -> None:
    growth = step(stopped(), 112.0, 17, BEFORE)
    assert growth.limit(141.0) == 26
    growth = step(growth, 142.0, 17, BEFORE)
    assert growth.limit(142.0) == 26
    growth = step(growth, 171.0, 17, Work(17.0, 104.0, 50))
    assert (growth.limit(171.0), growth.retry) == (17, 231.0)
    assert growth.limit(231.0) == 26


def test_chance_does_not_undo_a_stop() -> None:
    growth = tried(step(stopped(), 112.0, 17, BEFORE))
    lucky = Work(26.0, 135.0, 200)
    assert step(growth, growth.begun + 11.0, growth.top, lucky) == growth  # nobody can tell yet
    growth = step(growth, growth.begun + 61.0, growth.top, lucky)
    assert (growth.judging, growth.ceiling, growth.pause) == (False, 17, 2 * FIRST_PAUSE)


def test_help_beyond_chance_undoes_it() -> None:
    growth = tried(step(stopped(), 112.0, 17, BEFORE))
    assert step(growth, growth.begun + 11.0, growth.top, Work(26.0, 150.0, 1700)).ceiling == 0


def fewer() -> Growth:
    """Growth has stopped at 17 slots, and nine are tried."""
    growth = step(stopped(), 112.0, 17, BEFORE)
    growth = step(growth, 132.0, 17, Work(17.0, 104.0, 1000))
    assert (growth.ceiling, growth.limit(132.0), growth.limit(999.0)) == (9, 9, 9)
    assert growth.reason(132.0).endswith("so the limit is behind the tasks: 9 to see whether they do as much")
    return step(growth, 133.0, 9, Work(9.0, 104.0, 1000))


@pytest.mark.parametrize(
    ("work", "ceiling", "lowest"),
    [
        pytest.param(Work(9.0, 103.0, 1000), 9, 0, id="they do as much"),
        pytest.param(Work(9.0, 99.0, 1000), 9, 0, id="as far as chance lets see"),
        pytest.param(Work(9.0, 80.0, 1000), 17, 9, id="they do less"),
    ],
)
def test_fewer_slots_stay_if_they_do_as_much(work: Work, ceiling: int, lowest: int) -> None:
    growth = step(fewer(), 153.0, 9, work)
    assert (growth.ceiling, growth.lowest, growth.known) == (ceiling, lowest, 0)
    back = step(growth, 154.0, ceiling, work)
    back = step(back, 175.0, ceiling, Work(float(ceiling), 104.0, 2000))
    assert back.ceiling == (5 if ceiling == 9 else 17)  # what did less is not tried again
    assert back.limit(175.0) == back.ceiling


def test_nobody_waits_for_ever_to_see_what_fewer_do() -> None:
    slow = Work(9.0, 1.0, 100)
    assert step(fewer(), 153.0, 9, slow) == fewer()
    growth = step(fewer(), 194.0, 9, slow)
    assert (growth.ceiling, growth.known, growth.limit(194.0)) == (17, 0, 17)  # nine there are: more are tried


def test_fewer_are_not_judged_while_all_are_kept() -> None:
    kept = Work(17.0, 104.0, 1000)
    growth = step(stopped(), 112.0, 17, BEFORE)
    growth = step(step(growth, 132.0, 17, kept), 150.0, 17, kept)
    assert growth.limit(150.0) == 9
    assert step(growth, 193.0, 17, kept).ceiling == 17


@pytest.mark.parametrize(
    ("slots", "work", "goes_on"),
    [
        pytest.param(40, Work(40.0, 104.0, 6000), False, id="as before"),
        pytest.param(40, Work(40.0, 160.0, 9000), True, id="the same slots finish more"),
        pytest.param(20, Work(20.0, 102.0, 6000), False, id="fewer finish as much"),
        pytest.param(20, Work(20.0, 50.0, 3000), True, id="fewer finish less, so slots matter"),
    ],
)
def test_growth_goes_on_as_soon_as_slots_matter(slots: int, work: Work, goes_on: bool) -> None:
    growth = step(stopped(), 112.0, slots, work)
    assert step(growth, 130.0, slots, work) == growth  # what began in the crowd is not over yet
    growth = step(growth, 132.0, slots, work)
    if growth.ceiling and growth.base is None:  # first it shows by how much
        growth = step(growth, 143.0, 2 * slots, Work(slots, work.rate, 1000))
        growth = step(growth, 154.0, 2 * slots, Work(2.0 * slots, 2 * work.rate, 3000))
    assert (growth.ceiling == 0) == goes_on


def test_it_lets_go_when_the_backlog_is_gone() -> None:
    assert step(stopped(), 112.0, 40, BEFORE, backlogged=False) == Growth(top=40, begun=112.0)
    assert step(CALM, 112.0, 0, BEFORE) == CALM


def test_the_reason_has_the_figures() -> None:
    said = "more slots did not finish more (10 busy ones 100/s, 40 104/s), so the limit is behind the tasks: "
    assert stopped().reason(112.0) == said + "no more than 17 for 29 s"
    assert stopped().reason(150.0) == said + "60 to see whether it still is"
    assert dataclasses.replace(stopped(), proof=None).reason(150.0) == ""


STEPS = st.tuples(
    st.floats(0.0, 40.0), st.integers(0, 500), st.floats(0.0, 500.0), st.floats(0.0, 1e4), st.integers(0, 10**5),
    st.booleans(), st.floats(0.0, 1e4),
)  # fmt: skip


@given(st.lists(STEPS, max_size=30))
def test_whatever_happens_there_is_room_for_a_slot_and_a_reason_for_every_limit(steps: list[tuple[float, ...]]) -> None:
    growth, now = CALM, 0.0
    for seconds, slots, busy, rate, finished, backlogged, mean in steps:
        now += seconds
        work = Work(busy, rate if finished else 0.0, int(finished) if rate else 0)
        growth = step(growth, now, int(slots), work, mean=mean, backlogged=bool(backlogged))
        assert growth.limit(now) >= 1
        assert bool(growth.reason(now)) == bool(growth.ceiling)
        assert growth.doubling(now) >= growth.top


def test_a_growth_that_is_undecided_for_years_is_still_a_number() -> None:
    assert Growth(top=4).doubling(1e9) > 1e9
