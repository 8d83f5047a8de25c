"""Slots dealt in a shortage: who is heard, who insists, who yields, and what more room brings."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from qmanager.planning.dealing import Claim, dealt


def claim(
    name: str, target: int, priority: int = 50, late: float = 0.0, *, least: int = 0, hurry: bool = True, away: int = 0
) -> Claim:
    return Claim((name,), least, target, target, target, priority, late, late * hurry, away)


@pytest.mark.parametrize(
    ("claims", "capacity", "expected"),
    [
        pytest.param(
            [claim("urgent", 60, 90), claim("usual", 60, 30)], 60, [45, 15], id="nobody is late: by priority",
        ),
        pytest.param(
            [claim("urgent", 55, 90, 1.0), claim("usual", 60, 30)], 60, [55, 5], id="who has time yields",
        ),
        pytest.param(
            [claim("urgent", 55, 90, 0.5), claim("usual", 60, 30)], 60, [52, 8], id="half of it to who is half late",
        ),
        pytest.param(
            [claim("important", 55, 90, 1.0, hurry=False), claim("usual", 60, 30)], 60, [45, 15],
            id="not to who can bear a delay",
        ),
        pytest.param(
            [claim("urgent", 60, 90, 1.0), claim("usual", 60, 30, 1.0)], 60, [45, 15], id="both late: by priority",
        ),
        pytest.param(
            [claim("urgent", 60, 90), claim("usual", 60, 30, 1.0)], 60, [45, 15], id="not to who is less important",
        ),
        pytest.param(
            [claim("one", 60, 50, 1.0), claim("other", 60, 50)], 60, [30, 30], id="not to equals",
        ),
        pytest.param(
            [claim("urgent", 40, 90, 1.0), claim("usual", 40, 50), claim("least", 40, 10, 1.0)], 60, [36, 20, 4],
            id="not what those below would get",
        ),
        pytest.param(
            [claim("urgent", 90, 90, 1.0), claim("usual", 60, 30, least=8)], 60, [52, 8], id="never its minimum",
        ),
        pytest.param(
            [claim("urgent", 20, 90, 1.0), claim("usual", 60, 30)], 60, [20, 40], id="no more than is needed",
        ),
        pytest.param(
            [claim("urgent", 20, 90, 1.0), claim("late", 50, 20, 1.0, hurry=False), claim("usual", 50, 10)], 50,
            [20, 20, 10], id="nothing where nobody in a hurry lacks",
        ),
        pytest.param(
            [claim("urgent", 70, 90, 1.0), claim("mail", 60, 60), claim("photos", 60, 30)], 90, [70, 14, 6],
            id="each the same part",
        ),
        pytest.param(
            [claim("urgent", 20, 90, 1.0, away=6), claim("usual", 60, 30)], 60, [26, 34], id="also for what is away",
        ),
        pytest.param(
            [claim("usual", 50, 90), claim("late", 10, 30, 1.0, away=9)], 60, [50, 10],
            id="not for what is away from who is more important",
        ),
        pytest.param(
            [claim("urgent", 20, 90, 1.0, away=6), claim("usual", 10, 30)], 60, [26, 10], id="away, as there is room",
        ),
        pytest.param(
            [claim("urgent", 20, 90, 0.0, away=6), claim("usual", 10, 30)], 60, [20, 10], id="in time nothing is away",
        ),
        pytest.param(
            [claim("urgent", 90, 90, 1.0), claim("usual", 60, 30)], 2, [1, 1], id="never its place to listen",
        ),
    ],
)  # fmt: skip
def test_who_has_time_yields_to_who_is_late_in_a_hurry_and_more_important(
    claims: Sequence[Claim], capacity: int, expected: list[int]
) -> None:
    assert dealt(claims, capacity) == expected


@st.composite
def crowds(draw: st.DrawFn) -> list[Claim]:
    """Claims of all kinds; some heard in a second slot, some with a peak behind them."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        target = draw(st.integers(1, 40))
        heard = target + draw(st.integers(0, 1))
        late = draw(st.sampled_from((0.0, 0.0, 0.25, 0.5, 1.0)))
        found.append(
            Claim(
                (f"q{number:02}",), min(target, draw(st.integers(0, 6))), target, heard,
                heard + draw(st.integers(0, 9)), draw(st.integers(1, 100)), late, late * draw(st.booleans()),
                draw(st.sampled_from((0, 0, 3))),
            )
        )  # fmt: skip
    return found


def plain(claims: Sequence[Claim]) -> list[Claim]:
    return [replace(each, late=0.0, haste=0.0) for each in claims]


@given(crowds(), st.integers(0, 200))
def test_nothing_is_left_while_somebody_lacks_and_nobody_gets_more_than_it_claims(
    claims: list[Claim], beyond: int
) -> None:
    capacity = len(claims) + beyond
    got = dealt(claims, capacity)
    event(f"short: {sum(got) == capacity}")
    most = [max(each.spare, each.target + each.away if each.haste else 0) for each in claims]
    assert sum(got) == min(capacity, sum(most))
    assert all(1 <= n <= limit for n, limit in zip(got, most, strict=True))


@given(crowds(), st.integers(0, 200))
def test_one_slot_more_takes_none_from_anybody(claims: list[Claim], beyond: int) -> None:
    capacity = len(claims) + beyond
    less, more = dealt(plain(claims), capacity), dealt(plain(claims), capacity + 1)
    assert all(before <= after for before, after in zip(less, more, strict=True))


@given(crowds(), st.integers(0, 200))
def test_who_is_late_costs_nobody_more_important_a_slot_that_it_needs(claims: list[Claim], beyond: int) -> None:
    capacity = len(claims) + beyond
    hasty = [each.priority for each in claims if each.haste]
    for each, was, now in zip(claims, dealt(plain(claims), capacity), dealt(claims, capacity), strict=True):
        if now < min(was, each.target):
            event("yields")
            assert any(priority > each.priority for priority in hasty)
            assert now >= min(max(1, each.least), was)
        if each.haste and each.priority == max(hasty):
            assert now >= min(was, each.target)


@given(crowds(), st.integers(0, 200))
def test_where_nobody_in_haste_lacks_anything_nobody_yields(claims: list[Claim], beyond: int) -> None:
    capacity = len(claims) + beyond
    calm = [replace(each, away=0) for each in claims]
    shares = dealt(plain(calm), capacity)
    if all(n >= each.target for each, n in zip(calm, shares, strict=True) if each.haste):
        event("short" if sum(shares) == capacity else "room")
        assert dealt(calm, capacity) == shares
