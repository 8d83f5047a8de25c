"""What people have asked of this master by signal or command, until they take it back or it is started again. Pure.

It never ends a slot: it says which are to leave after their task, whether any are wanted, and how many at most.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from qslots.reports import Orders

from .bounds import Bound
from .children import Children, Phase
from .reconcile import REPLACED_AT_ONCE

RECYCLED = "recycled by hand"
DRAINED = "the server is drained"


@dataclass(slots=True)
class ByHand:
    """Standing orders."""

    draining: bool = False  # ordered here
    drained_from_afar: bool = False  # ordered for the cluster, by `qslots server drain`
    most: int | None = None  # slots at most, where it was moved by hand
    _leaving: dict[str, int] = field(default_factory=dict)  # holder -> index, of slots to be recycled
    _away: set[int] = field(default_factory=set)  # indexes recycled one after the other, and not back yet
    _waiting: dict[str, int] = field(default_factory=dict)  # holder -> index, of those whose turn has not come

    @property
    def drains(self) -> bool:
        """Whether no slot is wanted."""
        return self.draining or self.drained_from_afar

    def recycle(self, children: Children, indexes: Iterable[int]) -> tuple[list[int], list[int]]:
        """These slots, all at once. Returns those that will leave, and indexes where none lives."""
        found, none = [], []
        for index in dict.fromkeys(indexes):
            child = children.tenants.get(index)
            if child is None or child.phase is not Phase.LIVE:
                none.append(index)
            else:
                self._leaving[child.holder] = index
                found.append(index)
        return found, none

    def recycle_all(self, children: Children) -> list[int]:
        """All that live now, a few at a time."""
        living = {child.holder: child.index for child in children.tenants.values() if child.phase is Phase.LIVE}
        self._waiting |= living
        return sorted(living.values())

    def follow(self, orders: Orders, children: Children) -> bool:
        """What people have said from afar. True if that begins or ends a drain."""
        for child in children.tenants.values() if orders.recycle else ():
            pid, _ = orders.recycle.get(child.index, (None, None))
            if pid is not None and pid == child.pid and child.phase is Phase.LIVE:
                self._leaving[child.holder] = child.index
        changed = self.drained_from_afar != orders.draining
        self.drained_from_afar = orders.draining
        return changed

    def retiring(self, children: Children, wanted: Collection[int]) -> dict[int, str]:
        """Slots to leave after their task, and why; forgets those that have left. ``wanted``: indexes of the map."""
        if self.drains:
            self._waiting.clear()
            return {child.index: DRAINED for child in children.tenants.values()}
        if not self._leaving and not self._waiting:
            return {}
        living = {child.holder: child for child in children.tenants.values() if child.phase is Phase.LIVE}
        back = {child.index for holder, child in living.items() if holder not in self._leaving}
        self._leaving = {holder: index for holder, index in self._leaving.items() if holder in living}
        self._waiting = {holder: index for holder, index in self._waiting.items() if holder in living}
        self._away = {index for index in self._away if index in wanted and index not in back}
        places = max(1, int(REPLACED_AT_ONCE * len(wanted))) - len(self._away)
        for holder in list(self._waiting)[: max(0, places)]:
            index = self._waiting.pop(holder)
            self._leaving[holder] = index
            self._away.add(index)
        return dict.fromkeys(self._leaving.values(), RECYCLED)

    def one_more(self, max_slots: int | None, bound: str) -> str:
        """TTIN, where so many slots are allowed now, and what binds them. Returns what came of it, for the log."""
        if max_slots is None:
            return "one slot more: nothing is measured yet, ask again in a moment"
        lowered = self.most is not None and self.most < max_slots  # and the capacity does not show it yet
        if not lowered and bound != Bound.SETTING:
            return f"no slot more: {max_slots} are what this server can carry just now ({bound})"
        self.most = (max_slots if self.most is None else self.most) + 1
        return f"one slot more: at most {self.most} until qmaster is started again"

    def one_fewer(self, max_slots: int | None, bound: str) -> str:
        """TTOU, where so many slots are allowed now, and what binds them. Returns what came of it, for the log."""
        if max_slots is None:
            return "one slot fewer: nothing is measured yet, ask again in a moment"
        now = max_slots if self.most is None else min(self.most, max_slots)
        if self.most is not None and bound == Bound.SETTING:
            now = self.most  # which the capacity does not show yet, if it is another number
        self.most = max(0, now - 1)
        return f"one slot fewer: at most {self.most} until qmaster is started again"
