"""Which slots leave when those that live are counted at more than memory allows. Pure.

It does not wait for the manager, who may be gone. It never chooses more than must go, nor the last slot, and whoever
it chooses finishes its task. Slots come back when ``capacity.room`` has room for them; the budget behind that follows
memory slowly, and a place stays empty for a while, so nothing flaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from qslots.units import counted

from .bounds import megabytes

TOLERANCE = 0.05  # of the budget: sizes are measured anew every few seconds, and a slot is not worth that noise
EMPTY_FOR = 10.0  # seconds that a place stays empty whose slot had to leave


@dataclass(frozen=True, slots=True)
class Held:
    """One slot that is to stay as far as the map says."""

    holder: str
    index: int
    size: int  # bytes it is counted at
    pack: int | None = None  # when it took its pack (any clock), None while it has none


def shed(slots: Sequence[Held], *, budget: int, short: bool, besides: int = 0) -> list[Held]:
    """The slots to retire: idle ones first (the highest index), then the youngest pack. ``besides``: bytes counted for
    slots that cannot be asked, being not born yet.
    """
    total = besides + sum(slot.size for slot in slots)
    if total <= (budget if short else budget * (1 + TOLERANCE)):
        return []
    chosen: list[Held] = []
    for slot in sorted(slots, key=_least_loss)[:-1]:
        if total <= budget:
            break
        chosen.append(slot)
        total -= slot.size
    for slot in chosen[::-1]:  # a large one may have made smaller ones before it needless
        if total + slot.size <= budget:
            chosen.remove(slot)
            total += slot.size
    return chosen


def reason(slots: Sequence[Held], budget: int) -> str:
    """``memory: 310 MB for slots, 12 slots need 420 MB``."""
    need = megabytes(sum(slot.size for slot in slots))
    return f"memory: {megabytes(budget)} for slots, {counted(len(slots), 'slot')} need {need}"


def _least_loss(slot: Held) -> tuple[bool, int]:
    return slot.pack is not None, -slot.index if slot.pack is None else -slot.pack
