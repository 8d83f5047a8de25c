"""Slots that give no sign of life, and idle ones that do not look for work while work waits. Pure.

A slot is poked first (over its channel), then replaced. While a task runs nothing is expected of it (that is what time
limits are for), nor while it sleeps for lack of work; but whether any waits for it is looked up all the same. Times are
monotonic seconds given by the caller; what was seen of an earlier tenant does not count for the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .reasons import Reason

SILENT_AFTER = 15.0  # seconds without a sign, a try to reach a queue server and its time-out included
AFTER_POKE = 5.0  # seconds from a poke to the replacement
IDLE_AFTER = 7.0  # seconds without a request for tasks: one slot of a queue and server should have asked twice by then
READY_WITHIN = 300.0  # seconds from the birth to the first turn: hooks may load a model


@dataclass(frozen=True, slots=True)
class Sign:
    """What is seen of a slot: numbers that move while it lives, and those of its requests for tasks."""

    holder: str
    life: tuple[int, ...]
    takes: int
    sleeps: bool  # it has said until when it waits, and that is to come
    has_begun: bool  # its loop has turned
    has_task: bool
    has_pack: bool


@dataclass(frozen=True, slots=True)
class Poke:
    """Wake it, so that it looks at once."""

    index: int


@dataclass(frozen=True, slots=True)
class LookUp:
    """Find out whether tasks wait for it."""

    index: int


@dataclass(frozen=True, slots=True)
class Replace:
    """Kill it."""

    index: int
    why: str
    reason: Reason


Move = Poke | LookUp | Replace


@dataclass(slots=True)
class _Seen:
    sign: Sign
    lived_at: float
    took_at: float
    is_poked: bool = False  # because it is silent
    hinted_at: float | None = None  # poked because tasks wait
    waiting: int = 0


class Liveness:
    """All slots that are at work, by index."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def look(self, signs: Mapping[int, Sign], now: float) -> list[Move]:
        """What follows from what is seen now."""
        before, self._seen = self._seen, {}
        moves: list[Move] = []
        for index, sign in signs.items():
            seen = before.get(index)
            if seen is None or seen.sign.holder != sign.holder:
                seen = _Seen(sign, now, now)
            self._seen[index] = seen
            moves += self._judged(index, seen, sign, now)
            seen.sign = sign
        return moves

    def tasks_wait(self, index: int, holder: str, tasks: int, now: float) -> list[Move]:
        """So many tasks wait for a slot that was looked up."""
        seen = self._seen.get(index)
        if seen is None or seen.sign.holder != holder or seen.hinted_at is not None or not tasks:
            return []
        seen.hinted_at, seen.waiting = now, tasks
        return [Poke(index)]

    def postpone(self, seconds: float) -> None:
        """So long nobody has looked."""
        for seen in self._seen.values():
            seen.lived_at += seconds
            seen.took_at += seconds
            if seen.hinted_at is not None:
                seen.hinted_at += seconds

    @staticmethod
    def _judged(index: int, seen: _Seen, sign: Sign, now: float) -> list[Move]:
        if sign.has_task or sign.sleeps or sign.life != seen.sign.life:
            seen.lived_at, seen.is_poked = now, False
        if sign.has_task or sign.has_pack or sign.takes != seen.sign.takes:
            seen.took_at, seen.hinted_at = now, None
        silent, idle = now - seen.lived_at, now - seen.took_at
        if not sign.has_begun:
            late = f"not ready {READY_WITHIN:.0f} s after its birth"
            return [Replace(index, late, Reason.LATE_BIRTH)] if silent >= READY_WITHIN else []
        if silent >= SILENT_AFTER + AFTER_POKE and seen.is_poked:
            return [Replace(index, f"silent for {silent:.0f} s", Reason.SILENT)]
        if silent >= SILENT_AFTER and not seen.is_poked:
            seen.is_poked = True
            return [Poke(index)]
        if seen.hinted_at is not None and now - seen.hinted_at >= AFTER_POKE:
            wait = f"{seen.waiting} tasks wait" if seen.waiting > 1 else "a task waits"
            return [Replace(index, f"made no attempt to take though {wait}", Reason.NO_ATTEMPT)]
        return [LookUp(index)] if idle >= IDLE_AFTER and seen.hinted_at is None else []
