"""Who leaves when memory does not carry all slots any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmaster.shedding import TOLERANCE, Held, reason, shed

M = 1 << 20


def held(*sizes: int, packs: dict[int, int] | None = None) -> list[Held]:
    """Slots 0, 1, 2, … of these sizes; ``packs``: index -> when it took its pack."""
    return [Held(f"h{index}", index, size, (packs or {}).get(index)) for index, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("what", "slots", "budget", "expected"),
    [
        ("all fit", held(10, 10, 10), 30, []),
        ("the noise of measuring is nothing", held(100, 100), 191, []),
        ("one must go: the highest index", held(10, 10, 10), 20, [2]),
        ("as many as needed", held(10, 10, 10, 10), 15, [3, 2, 1]),
        ("the last one stays", held(10, 10), 0, [1]),
        ("idle ones before busy ones", held(10, 10, 10, packs={1: 5, 2: 9}), 20, [0]),
        ("of the busy the youngest pack", held(10, 10, 10, packs={0: 5, 1: 9, 2: 7}), 20, [1]),
        ("idle ones, then the youngest", held(10, 10, 10, packs={0: 5, 1: 9}), 10, [2, 1]),
        ("a large one makes smaller ones needless", held(50, 100, 5, 5), 62, [1]),
        ("nobody", [], 0, []),
    ],
)
def test_who_leaves(what: str, slots: list[Held], budget: int, expected: list[int]) -> None:
    assert [slot.index for slot in shed(slots, budget=budget, short=False)] == expected, what


def test_when_memory_is_short_nothing_is_tolerated() -> None:
    assert [slot.index for slot in shed(held(100, 100), budget=191, short=True)] == [1]


def test_slots_that_are_being_born_count_and_cannot_be_asked() -> None:
    assert [slot.index for slot in shed(held(10, 10), budget=30, short=False, besides=20)] == [1]


def test_the_reason_has_the_figures() -> None:
    assert reason(held(*[35 * M] * 12), 310 * M) == "memory: 310 MB for slots, 12 slots need 420 MB"


slots_of = st.lists(st.tuples(st.integers(0, 200), st.none() | st.integers(0, 99)), max_size=12).map(
    lambda each: [Held(f"h{n}", n, size, pack) for n, (size, pack) in enumerate(each)]
)


@given(slots_of, st.integers(0, 1000), st.booleans(), st.integers(0, 100))
def test_what_stays_fits_and_nobody_leaves_for_nothing(
    slots: list[Held], budget: int, short: bool, besides: int
) -> None:
    chosen = shed(slots, budget=budget, short=short, besides=besides)
    total = besides + sum(slot.size for slot in slots)
    stays = total - sum(slot.size for slot in chosen)
    if not chosen:
        assert total <= budget * (1 if short else 1 + TOLERANCE) or len(slots) <= 1 or stays == total
        return
    assert total > budget
    assert len(chosen) < len(slots)
    assert stays <= budget or len(slots) - len(chosen) == 1
    assert all(stays + slot.size > budget for slot in chosen)
    assert not shed([slot for slot in slots if slot not in chosen], budget=budget, short=True, besides=besides) or (
        len(slots) - len(chosen) == 1
    )
