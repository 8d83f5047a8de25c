"""Who is recycled and who is not, as tables of readings; the rates under any sequence of them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmaster.recycling import (
    AT_A_TIME,
    EVERY,
    SOON,
    Plateau,
    Policy,
    Reading,
    Recycle,
    State,
    Tidy,
    Verdict,
    beyond,
    decide,
    mb,
    too_low,
)

M = 1 << 20
NEVER = Policy()


def reading(index: int = 0, grown: int | None = 4 * M, **more: object) -> Reading:
    plain = Reading(
        index=index, holder=f"h{index}", queues=("q",), generation=1, live=True, baseline=4 * M, grown=grown,
        limit=48 * M, jitter=1.0, done=10, age=1000.0,
    )  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


def condemned(index: int = 0, growth: int = 61 * M, **more: object) -> Reading:
    """One that has tidied in vain."""
    return reading(index, 4 * M + growth, **{"tidied": 4 * M + growth, **more})


def first(*readings: Reading, policy: Policy = NEVER) -> list[Verdict]:
    return decide(readings, policy, State(), 0.0)[0]


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (reading(), []),
        (reading(grown=None), []),  # shares with a mold that is gone: its figure says nothing
        (reading(grown=None, tidied=900 * M), []),
        (reading(grown=52 * M), []),  # just at the limit over its baseline
        (reading(grown=53 * M), [Tidy(0)]),
        (reading(grown=53 * M, jitter=1.15), []),
        (reading(grown=46 * M, jitter=0.85), [Tidy(0)]),
        (reading(grown=53 * M, asked=True), []),  # its task is long: it is left until it answers
        (reading(grown=53 * M, tidied=10 * M), [Tidy(0)]),  # tidying helped then, and it has grown again
        (reading(grown=20 * M, tidied=53 * M), []),  # it has freed more since
        (reading(grown=53 * M, live=False), []),
        (reading(grown=300 * M, limit=512 * M), []),  # its queue has declared so much
    ],
)
def test_ladder_up_to_the_answer(each: Reading, expected: list[Verdict]) -> None:
    assert first(each) == expected


def test_slot_that_has_tidied_in_vain_is_recycled_with_its_figures() -> None:
    why = "has grown by 61 MB over its 4 MB, the limit is 48 MB, 48 MB for this slot"
    assert first(condemned()) == [Recycle(0, "growth", why)]


@pytest.mark.parametrize(
    ("policy", "each", "why"),
    [
        (Policy(after_tasks=1000), reading(done=999), None),
        (Policy(after_tasks=1000), reading(done=1000),
         "has served 1,000 tasks, the limit is 1,000, 1,000 for this slot"),
        (Policy(after_tasks=1000), reading(done=1100, jitter=1.15), None),
        (Policy(after=3600.0), reading(age=3599.0), None),
        (Policy(after=3600.0), reading(age=3600.0), "is 3600 s old, the limit is 3600 s, 3600 s for this slot"),
        (Policy(after=3600.0), reading(age=3100.0, jitter=0.85),
         "is 3100 s old, the limit is 3600 s, 3060 s for this slot"),
    ],
)  # fmt: skip
def test_served_long_or_grown_old(policy: Policy, each: Reading, why: str | None) -> None:
    assert [v.why for v in first(each, policy=policy) if isinstance(v, Recycle)] == ([why] if why else [])


def test_one_a_second_the_largest_first_and_the_others_tidy_meanwhile() -> None:
    slots = [condemned(n, growth=(60 + n) * M) for n in range(40)] + [reading(40, 70 * M)]
    verdicts, state = decide(slots, NEVER, State(), 0.0)
    assert verdicts[0] == Tidy(40)
    assert [v.index for v in verdicts if isinstance(v, Recycle)] == [39]
    assert decide(slots[:-1], NEVER, state, EVERY / 2)[0] == []
    [verdict] = decide(slots[:-1], NEVER, state, EVERY)[0]
    assert isinstance(verdict, Recycle)
    assert verdict.index == 38


@pytest.mark.parametrize(("slots", "at_a_time"), [(1, 1), (4, 1), (19, 1), (20, 2), (100, 10)])
def test_a_tenth_at_a_time_and_one_at_least(slots: int, at_a_time: int) -> None:
    readings = {n: condemned(n) for n in range(slots)}
    state, away = State(), 0
    for second in range(slots + 10):
        verdicts, state = decide(readings.values(), NEVER, state, float(second))
        for verdict in verdicts:
            assert isinstance(verdict, Recycle)
            away += 1  # it goes on with its long task and is not replaced
    assert away == at_a_time


def test_place_is_free_again_when_its_next_tenant_lives_or_nobody_comes() -> None:
    _, state = decide([condemned(0), condemned(1)], NEVER, State(), 0.0)
    assert list(state.away) == [0]
    assert decide([condemned(0, live=False), condemned(1)], NEVER, state, 10.0)[0] == []
    assert decide([condemned(1)], NEVER, state, 10.0)[0] == []  # its successor is not born yet
    assert len(decide([reading(0, holder="next"), condemned(1)], NEVER, state, 10.0)[0]) == 1
    assert len(decide([condemned(1)], NEVER, state, SOON)[0]) == 1  # not wanted any more


def plateau(**more: object) -> tuple[list[Verdict], State]:
    """After three tenants of one slot that were at the limit 20 s after their birth."""
    state, verdicts, now = State(), list[Verdict](), 0.0
    for tenant in range(3):
        now = tenant * 25.0
        verdicts, state = decide(
            [condemned(holder=f"t{tenant}", age=20.0, growth=(50 + tenant) * M, **more)], NEVER, state, now
        )
    return verdicts, state


def test_three_in_a_row_at_the_limit_soon_after_birth_stop_it_with_figures_and_remedy() -> None:
    verdicts, state = plateau()
    assert verdicts == [
        Plateau(
            ("q",),
            "slots of q need more than their limit of 48 MB: 3 in a row had grown by 50, 51, 52 MB within 60 s of "
            "their birth; they are not recycled for growth any more: set server.private_limit to at least 62M, or the "
            "memory of the queue",
        )
    ]
    after = condemned(holder="t2", age=100.0, growth=90 * M)
    assert decide([after], NEVER, state, 80.0)[0] == []
    assert decide([replace(after, tidied=None)], NEVER, state, 80.0)[0] == []  # nor is it made to tidy for ever
    assert decide([after], NEVER, state, 80.0)[1].streaks[("q",)].needed == 106


@pytest.mark.parametrize(
    "after", [condemned(limit=49 * M), condemned(generation=2), condemned(queues=("other",))], ids=str
)
def test_it_begins_again_with_another_limit_or_other_code_and_never_stopped_for_others(after: Reading) -> None:
    _, state = plateau()
    assert [type(v) for v in decide([replace(after, age=20.0)], NEVER, state, 80.0)[0]] == [Recycle]


def test_slots_of_older_code_do_not_undo_what_is_known_of_the_newer() -> None:
    _, state = plateau(generation=2)
    verdicts, state = decide([condemned(generation=1, holder="old"), condemned(1, generation=2)], NEVER, state, 80.0)
    assert verdicts == []
    assert state.streaks[("q",)].is_plateau


def test_one_that_took_its_time_breaks_the_row() -> None:
    state, now = State(), 0.0
    for tenant, age in enumerate([20.0, 20.0, 61.0, 20.0, 20.0]):
        verdicts, state = decide([condemned(holder=f"t{tenant}", age=age)], NEVER, state, now)
        assert [type(v) for v in verdicts] == [Recycle]
        now += 25.0


def test_plateau_of_growth_leaves_tasks_and_age_alone() -> None:
    _, state = plateau()
    verdicts, _ = decide([condemned(holder="t2", done=100)], Policy(after_tasks=50), state, 80.0)
    assert [v.reason for v in verdicts if isinstance(v, Recycle)] == ["tasks"]


def test_plateau_is_forgotten_when_nobody_serves_the_assignment_any_more() -> None:
    _, state = plateau()
    _, state = decide([], NEVER, state, 50.0 + SOON - 1)
    assert ("q",) in state.streaks
    assert decide([], NEVER, state, 50.0 + SOON)[1].streaks == {}


SIZES = st.integers(0, 120).map(lambda megabytes: megabytes * M)


@given(st.integers(1, 35), st.data())
def test_whatever_comes_the_rates_hold_and_only_the_guilty_leave(slots: int, data: st.DataObject) -> None:
    state, last, now = State(), -EVERY, 0.0
    tenants = {n: reading(n, age=1000.0) for n in range(slots)}
    for _ in range(12):
        now += data.draw(st.sampled_from([0.0, 0.25, 0.75, 1.0, 3.0]))
        for index in data.draw(st.lists(st.integers(0, slots - 1), max_size=4)):
            grown, tidied = data.draw(SIZES), data.draw(st.none() | SIZES)
            tenants[index] = replace(tenants[index], grown=grown, tidied=tidied)
        verdicts, state = decide(tenants.values(), NEVER, state, now)
        recycled = [v for v in verdicts if isinstance(v, Recycle)]
        assert len(recycled) <= 1
        for verdict in recycled:
            assert now - last >= EVERY
            last = now
            assert tenants[verdict.index].is_above_though_tidy
            tenants[verdict.index] = replace(tenants[verdict.index], live=False)
        assert all(tenants[v.index].is_above and tenants[v.index].live for v in verdicts if isinstance(v, Tidy))
        leaving = [index for index, each in tenants.items() if not each.live]
        assert len(leaving) <= max(1, int(AT_A_TIME * slots))
        for index in leaving:
            if data.draw(st.booleans()):
                tenants[index] = reading(index, holder=f"{tenants[index].holder}'")


def test_limit_below_twice_what_a_fresh_slot_needs_is_refused_with_the_figures() -> None:
    assert too_low(6 * M, 3 * M) == too_low(4 * M, 0) == ""
    assert too_low(4 * M, 3 * M) == (
        "server.private_limit 4M is less than twice what a fresh slot of this application needs (3 MB): set at least 6M"
    )
    assert "server.private_limit 64K is less" in too_low(64 << 10, int(1.9 * M))
    assert "(1.9 MB): set at least 4M" in too_low(64 << 10, int(1.9 * M))


def test_hard_limit_is_twice_the_limit() -> None:
    assert beyond(96 * M, 0, 48 * M) == ("", False)
    why = "used too much memory: 105 MB more than at its birth, twice its limit of 48 MB is the most"
    assert beyond(105 * M, 0, 48 * M) == (why, True)
    assert beyond(105 * M, 56 * M, 48 * M) == (why, True)
    assert beyond(105 * M, 57 * M, 48 * M) == (why, False)  # others before it have grown the slot as much


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 kB"), (3 << 10, "3 kB"), (M, "1 MB"), (1.94 * M, "1.9 MB"), (61.4 * M, "61 MB")]
)
def test_bytes_for_people(amount: float, text: str) -> None:
    assert mb(amount) == text
