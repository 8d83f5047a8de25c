"""How many slots a server that runs none yet would carry: the arithmetic of ``capacity`` before anything is measured.

Pure; bytes and numbers of slots.
"""

import msgspec

from .capacity import LEAST_SIZE


class Told(msgspec.Struct, frozen=True):
    """What is known. ``available`` was read while the mold and one fresh slot lived."""

    available: int
    reserve: int
    mold: int  # of a whole mold: room for a second one is kept, for a reload
    fresh: int  # of a slot that has done nothing
    pss: int  # of mold and fresh slot together
    sizes: list[int]  # of a grown slot of each queue: its ``memory``, or private_limit
    max_slots: int | None


class Forecast(msgspec.Struct, frozen=True):
    """``slots`` of ``slot_size`` each fit into the budget; at best, if none grew; and by My World's formula."""

    budget: int
    slot_size: int
    slots: int
    slots_at_best: int
    my_world_slots: int


def slots(told: Told) -> Forecast:
    """A server of whatever size tries one slot, or nothing would ever be known of it."""
    budget = max(0, told.available - told.reserve - told.mold)
    mean = max(LEAST_SIZE, sum(told.sizes) // len(told.sizes))
    most = told.max_slots if told.max_slots is not None else budget
    return Forecast(
        budget=budget,
        slot_size=mean,
        slots=min(most, max(budget // mean, 1 if budget else 0)),
        slots_at_best=min(most, budget // max(LEAST_SIZE, told.fresh)),
        my_world_slots=max(0, (told.pss + told.available - told.reserve) // told.pss),
    )
