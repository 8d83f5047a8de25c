"""The master's books: what its processes cost, what this server can carry, and the report it makes of that.

Readings come from the courier (memory) and the kernel's cheap counters (processors); the arithmetic is ``capacity``'s.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import psutil

from qslots.reports import Declared, SlotReport
from qslots.scoreboard import Field, Record, boot_ns
from qslots.servers import parted
from qslots.settings import ServerSettings
from qslots.states import SlotState
from qslots.units import share, size

from .capacity import Capacity, Policy, Readings, SlotReading, State, assess
from .children import Child, Children, Phase
from .letters import Measured, Sized

GROWN = 10.0  # seconds after which a slot's size says what such a slot needs
_SMOOTH = 0.3


@dataclass(frozen=True, slots=True)
class Size:
    """One process as last measured; ``None`` where the kernel refused."""

    found: Sized | None
    at: float

    @property
    def pss(self) -> int | None:
        """Bytes."""
        return self.found.pss if self.found is not None else None

    @property
    def private(self) -> int | None:
        """Bytes that would come free with its end."""
        return self.found.size if self.found is not None else None


class Books:
    """Sizes by pid, and the capacity that follows from them."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._sizes: dict[int, Size] = {}
        self._memory: tuple[int, int] | None = None  # available, total
        self._busy = 0.0
        self._state = State()
        self.capacity: Capacity | None = None
        psutil.cpu_percent()  # the first call begins the interval of the next

    def use(self, settings: ServerSettings) -> None:
        """Other settings, from the next assessment on."""
        self._settings = settings

    def spare(self) -> int | None:
        """What is free beside the reserve, bytes (below 0 if the reserve is touched); None while not measured."""
        if self._memory is None:
            return None
        available, total = self._memory
        part, amount = share(self._settings.reserve_memory)
        return available - int(part * total) - amount

    def pss(self, pid: int) -> int | None:
        """PSS of one process, bytes, as last measured."""
        known = self._sizes.get(pid)
        return known.pss if known is not None else None

    def to_measure(self, pids: list[int]) -> list[int]:
        """The pids, those first that were measured longest ago; forgets all others."""
        self._sizes = {pid: size for pid, size in self._sizes.items() if pid in pids}
        return sorted(pids, key=lambda pid: self._sizes[pid].at if pid in self._sizes else 0.0)

    def measured(self, answer: Measured, now: float) -> None:
        """Enters what the courier has read."""
        self._memory = (answer.available, answer.total)
        for pid, found in answer.sizes.items():
            self._sizes[pid] = Size(found, now)

    def assess(
        self, children: Children, record: Callable[[int], Record], mold: "MoldSize", declared: Declared, now: float
    ) -> None:
        """Works out the capacity anew; nothing changes before the first measurement."""
        if self._memory is None:
            return
        self._busy += _SMOOTH * (psutil.cpu_percent() / 100 - self._busy)
        slots = tuple(
            self._reading(child, record(child.index), now)
            for child in children.tenants.values()
            if child.pid is not None and child.phase < Phase.DEAD
        )
        pss = sum(self.pss(pid) or 0 for pid in (mold.pid, *mold.others)) or mold.unshared
        to_come = 0 if mold.others else mold.unshared  # a second mold that is there is in the readings
        readings = Readings(*self._memory, to_come, pss, _cpus(), self._busy, slots)
        policy = Policy(
            size(self._settings.private_limit),
            share(self._settings.reserve_memory),
            None if self._settings.max_slots == "auto" else self._settings.max_slots,
            {queue.name: queue.memory for queue in declared.queues if queue.memory is not None},
        )
        self.capacity, self._state = assess(readings, policy, self._state, now)

    def _reading(self, child: Child, record: Record, now: float) -> SlotReading:
        known = self._sizes.get(child.pid or 0)
        old = now - child.ordered_at > GROWN or record.words[Field.DONE] > 0
        grown = old and known is not None and known.at > child.ordered_at
        return SlotReading(child.queues, grown, known.private if known else None, (known.pss if known else None) or 0)

    def room(self, live: int) -> int:
        """How many more slots may be forked now."""
        if self.capacity is None:
            return 0
        capacity = self.capacity
        by_memory = capacity.room // max(1, capacity.slot_size)
        return max(0, min(capacity.max_slots - live, by_memory if live else max(1, by_memory)))

    def slot_report(self, child: Child, record: Record) -> SlotReport:
        """One slot, as its record and the last measurement say."""
        words = record.words
        known = self._sizes.get(child.pid or 0)
        task = words[Field.TASK] != 0
        state = SlotState(words[Field.STATE]) if child.phase is Phase.LIVE else _PHASES[child.phase]
        return SlotReport(
            child.index,
            child.pid or 0,
            child.generation,
            state.name.lower(),
            child.queues,
            record.text("task") if task else None,
            record.text("handler") if task else None,
            max(0.0, (boot_ns() - words[Field.START]) / 1e9) if task else None,
            words[Field.DONE],
            known.pss if known else None,
            known.private if known else None,
            (parted(record.text("held_source"))[0] or None) if task else None,
        )

    def figures(self, mold: "MoldSize", slots: list[int]) -> "Figures | None":
        """What a report says of memory, or None before the first measurement. ``slots``: their pids."""
        capacity = self.capacity
        if capacity is None or self._memory is None:
            return None
        return Figures(
            budget=capacity.budget,
            max_slots=capacity.max_slots,
            pss=sum(self._sizes[pid].pss or 0 for pid in (mold.pid, *mold.others, *slots) if pid in self._sizes),
            free_memory=self._memory[0],
            slot_size=capacity.slot_size,
            slot_sizes=capacity.slot_sizes,
        )


class Figures(msgspec.Struct, frozen=True):
    """The part of a report that these books can answer for; bytes."""

    budget: int
    max_slots: int
    pss: int
    free_memory: int
    slot_size: int
    slot_sizes: dict[str, int]


@dataclass(frozen=True, slots=True)
class MoldSize:
    """The mold: its pid, and its PSS before the first fork (bytes); the pid of another one that comes or goes."""

    pid: int
    unshared: int
    others: tuple[int, ...] = ()


_PHASES = {
    Phase.ORDERED: SlotState.STARTING,
    Phase.LEAVING: SlotState.LEAVING,
    Phase.KILLED: SlotState.LEAVING,
    Phase.DEAD: SlotState.LEAVING,
}


def _cpus() -> float:
    return float(len(os.sched_getaffinity(0)))


def monotonic() -> float:
    """The master's clock for deadlines."""
    return time.monotonic()
