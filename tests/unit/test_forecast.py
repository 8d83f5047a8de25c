"""How many slots would fit before any is measured."""

import msgspec
import pytest

from qmaster.forecast import Told, slots

MEGA = 1 << 20
TOLD = Told(
    available=10_000 * MEGA, reserve=1_000 * MEGA, mold=200 * MEGA, fresh=2 * MEGA, pss=202 * MEGA,
    sizes=[100 * MEGA, 300 * MEGA], max_slots=None,
)  # fmt: skip


def test_a_reserve_and_a_second_mold_are_kept_and_queues_count_at_their_mean() -> None:
    found = slots(TOLD)
    assert (found.budget // MEGA, found.slot_size // MEGA) == (8_800, 200)
    assert (found.slots, found.slots_at_best, found.my_world_slots) == (44, 4_400, (9_000 + 202) // 202)


@pytest.mark.parametrize(("told", "expected"), [
    ({"max_slots": 7}, (7, 7)),
    ({"max_slots": 0}, (0, 0)),
    ({"available": 1_250 * MEGA}, (1, 25)),  # one is tried
    ({"available": 900 * MEGA}, (0, 0)),
    ({"fresh": 0}, (44, 8_800 * 8)),  # no slot is smaller than its kernel stack and sockets
])  # fmt: skip
def test_bounds(told: dict[str, int], expected: tuple[int, int]) -> None:
    found = slots(msgspec.structs.replace(TOLD, **told))
    assert (found.slots, found.slots_at_best) == expected
