"""The master's books: what its processes cost, what this server can carry, and the report it makes of that.

Readings come from the courier (memory) and the kernel's cheap counters (processors); the arithmetic is ``capacity``'s.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from qslots.reports import Declared, SlotReport
from qslots.scoreboard import Field, Record, boot_ns
from qslots.servers import parted
from qslots.settings import ServerSettings
from qslots.states import SlotState
from qslots.units import counted, portion, share, size

from .bounds import Work, megabytes
from .capacity import Capacity, Policy, Readings, Room, SlotReading, State, assess, room
from .children import Child, Children, Phase
from .letters import Measured, Sized
from .shedding import EMPTY_FOR, Held, reason, shed

log = logging.getLogger("qmaster")

GROWN = 10.0  # seconds after which a slot's size says what such a slot needs
AT_REST = 60.0  # seconds between two readings of a process that has done nothing in between
_SMOOTH = 0.3


class Mark(NamedTuple):
    """What is another one whenever a process may have grown."""

    done: int
    is_old: bool = True  # its size says what such a process needs
    at_work: float = 0.0  # the time of the mark, if it is at work just then


@dataclass(frozen=True, slots=True)
class Size:
    """One process as last measured; ``None`` where the kernel refused. ``mark``: what it had done by then."""

    found: Sized | None
    at: float
    mark: Mark | None = None

    @property
    def pss(self) -> int | None:
        """Bytes."""
        return self.found.pss if self.found is not None else None

    @property
    def private(self) -> int | None:
        """Bytes that would come free with its end."""
        return self.found.size if self.found is not None else None


NO_MARKS: Mapping[int, Mark] = MappingProxyType({})
_NEVER = Size(None, -inf)


class Books:
    """Sizes by pid, and the capacity that follows from them."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._sizes: dict[int, Size] = {}
        self._machine: Measured | None = None  # the newest reading
        self._busy = 0.0
        self._old: dict[str, float] = {}  # holder -> when it was first seen to be old enough to have grown
        self._state = State()
        self._leaving: dict[str, str] = {}  # holder -> why, of those that memory does not carry any more
        self._emptied: dict[int, float] = {}  # index -> when its slot was last told so
        self._falls = False  # the direction in which memory moves the number of slots
        self.capacity: Capacity | None = None
        self.most: int | None = None  # slots at most, where it was moved by hand

    def use(self, settings: ServerSettings) -> None:
        """Other settings, from the next assessment on."""
        self._settings = settings

    def spare(self) -> int | None:
        """What is free beside the reserve, bytes (below 0 if the reserve is touched); None while not measured."""
        if self._machine is None:
            return None
        return self._machine.available - portion(share(self._settings.reserve_memory), self._machine.total)

    def pss(self, pid: int) -> int | None:
        """PSS of one process, bytes, as last measured."""
        known = self._sizes.get(pid)
        return known.pss if known is not None else None

    def mark(self, child: Child, record: Record, now: float) -> Mark:
        """That of a slot."""
        words = record.words
        at_work = words[Field.TASK] or words[Field.HELD]
        return Mark(words[Field.DONE], child.holder in self._old, now if at_work else 0.0)

    def to_measure(self, marks: Mapping[int, Mark], now: float) -> list[int]:
        """Of the pids with these marks those to measure: first those whose size is waited for before more are forked,
        then those that were measured longest ago. One whose mark has not changed can wait. Forgets all other pids.
        """
        self._sizes = {pid: size for pid, size in self._sizes.items() if pid in marks}
        known = {pid: self._sizes.get(pid, _NEVER) for pid in marks}
        due = [pid for pid, size in known.items() if size.mark != marks[pid] or now - size.at >= AT_REST]

        def urgency(pid: int) -> tuple[bool, float]:
            before = known[pid].mark
            return not marks[pid].is_old or (before is not None and before.is_old), known[pid].at

        return sorted(due, key=urgency)

    def measured(self, answer: Measured, asked: float, marks: Mapping[int, Mark] = NO_MARKS) -> None:
        """Enters what the courier has read since it was ``asked``; the ``marks`` are those of that moment."""
        self._machine = answer
        self._busy += _SMOOTH * (answer.strain.busy - self._busy)
        for pid, found in answer.sizes.items():
            self._sizes[pid] = Size(found, asked, marks.get(pid))

    def outdated(self, pid: int) -> None:
        """This process has another size than was read: it has tidied."""
        if pid in self._sizes:
            self._sizes[pid] = replace(self._sizes[pid], mark=None)

    def found(self, pid: int) -> Size | None:
        """One process as last measured; None if it never was."""
        return self._sizes.get(pid)

    def assess(
        self, children: Children, record: Callable[[int], Record], mold: "MoldSize", declared: Declared, now: float
    ) -> None:
        """Works out the capacity anew; nothing changes before the first measurement."""
        if self._machine is None:
            return
        born = [child for child in children.tenants.values() if child.pid is not None and child.phase < Phase.DEAD]
        self._old = {child.holder: self._old.get(child.holder, now) for child in born if _is_old(child, record, now)}
        machine, strain = self._machine, self._machine.strain
        work = Work(strain.cpus, self._busy, strain.load, strain.cpu_pressure, strain.memory_pressure)
        slots = tuple(self._reading(child, record(child.index), mold) for child in born)
        mold_pss = sum(self.pss(pid) or 0 for pid in (mold.pid, *mold.others)) or mold.unshared
        to_come = 0 if mold.others else mold.unshared  # a second mold that is there is in the readings
        readings = Readings(machine.available, machine.total, to_come, mold_pss, work, slots)
        policy = Policy(
            size(self._settings.private_limit),
            share(self._settings.reserve_memory),
            self.most if self.most is not None or self._settings.max_slots == "auto" else self._settings.max_slots,
            {queue.name: queue.memory for queue in declared.queues if queue.memory is not None},
            by_hand=self.most is not None,
        )
        self.capacity, self._state = assess(readings, policy, self._state, now)

    def _reading(self, child: Child, record: Record, mold: "MoldSize") -> SlotReading:
        """Grown is who was measured when it was old enough; of another generation nobody will be forked any more."""
        known = self._sizes.get(child.pid or 0)
        grown = (
            known is not None and known.at >= self._old.get(child.holder, inf) and child.generation == mold.generation
        )
        idle = not (record.words[Field.DONE] or record.words[Field.TASK])
        known = known if known is not None and known.at > child.ordered_at else None
        return SlotReading(
            child.queues, grown, known.private if known else None, (known.pss if known else None) or 0, idle
        )  # fmt: skip

    def room(self, children: Children, wanted: Mapping[int, tuple[str, ...]], now: float) -> Room:
        """What may be forked now of the map's row. Says so when it is the first that fits after slots had to leave."""
        if self.capacity is None:
            return Room()
        live = {child.index: child.queues or wanted.get(child.index, ()) for child in children.tenants.values()}
        self._emptied = {index: at for index, at in self._emptied.items() if now - at < EMPTY_FOR}
        found = room(self.capacity, live, wanted, empty=self._emptied)
        if self._falls and found.places and any(need <= found.memory for need in found.sizes.values()):
            log.info("memory: %s for slots: more may be forked again", megabytes(self.capacity.budget))
            self._falls = False
        return found

    def shed(
        self, children: Children, record: Callable[[int], Record], wanted: Mapping[int, tuple[str, ...]], now: float
    ) -> None:
        """Chooses who leaves for want of memory, once a second. Says so when their number begins to fall."""
        capacity = self.capacity
        if capacity is None:
            return
        staying = [child for child in children.tenants.values() if wanted.get(child.index)]
        live = [child for child in staying if child.phase is Phase.LIVE]
        slots = [Held(child.holder, child.index, self._counted(child), _pack(record(child.index))) for child in live]
        besides = sum(capacity.charge(wanted[child.index]) for child in staying if child.phase is Phase.ORDERED)
        chosen = shed(slots, budget=capacity.budget, short=capacity.short, besides=besides)
        why = reason(slots, capacity.budget)
        self._leaving = {slot.holder: why for slot in chosen}
        self._emptied |= {slot.index: now for slot in chosen}
        if chosen and not self._falls:
            log.warning("%s: %s to leave, after the task", why, counted(len(chosen), "slot"))
            self._falls = True

    def _counted(self, child: Child) -> int:
        """Bytes of a live slot. Nobody leaves for a guess: where no size is known of its queues, its own counts."""
        sizes = self.capacity.slot_sizes if self.capacity is not None else {}
        own = self._sizes.get(child.pid or 0)
        return max([sizes[queue] for queue in child.queues if queue in sizes], default=(own and own.private) or 0)

    def retiring(self, children: Children) -> dict[int, str]:
        """Index -> why, of the slots that are to leave for want of memory."""
        if not self._leaving:
            return {}
        tenants = children.tenants.values()
        return {child.index: self._leaving[child.holder] for child in tenants if child.holder in self._leaving}

    def slot_report(self, child: Child, record: Record) -> SlotReport:
        """One slot, as its record and the last measurement say."""
        words = record.words
        known = self._sizes.get(child.pid or 0)
        task = words[Field.TASK] != 0
        state = _STATES.get(words[Field.STATE], SlotState.ABSENT)  # whatever stands there
        state = state if child.phase is Phase.LIVE else _PHASES[child.phase]
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

    def figures(self, mold: int, slots: list[int]) -> "Figures | None":
        """What a report says of memory, or None before the first measurement. ``mold``, ``slots``: their pids."""
        capacity, machine = self.capacity, self._machine
        if capacity is None or machine is None:
            return None
        known = [self._sizes[pid].found for pid in (mold, *slots) if pid in self._sizes]
        return Figures(
            budget=capacity.budget,
            max_slots=capacity.max_slots,
            pss=sum(found.pss for found in known if found is not None),
            free_memory=machine.available,
            slot_size=capacity.slot_size,
            slot_sizes=capacity.slot_sizes,
            my_world_slots=capacity.my_world_slots,
            bound=str(capacity.bound),
            reason=str(capacity.limit),
            reserve=capacity.reserve,
            total_memory=machine.total,
            swap=sum(found.swap for found in known if found is not None),
        )


class Figures(msgspec.Struct, frozen=True):
    """The part of a report that these books can answer for; bytes."""

    budget: int
    max_slots: int
    pss: int
    free_memory: int
    slot_size: int
    slot_sizes: dict[str, int]
    my_world_slots: int | None
    bound: str
    reason: str
    reserve: int
    total_memory: int
    swap: int


@dataclass(frozen=True, slots=True)
class MoldSize:
    """The mold: its pid, its PSS before the first fork (bytes), its generation; pids of others that come or go."""

    pid: int
    unshared: int
    generation: int = 0
    others: tuple[int, ...] = ()


_STATES = {int(state): state for state in SlotState}
_PHASES = {
    Phase.ORDERED: SlotState.STARTING,
    Phase.LEAVING: SlotState.LEAVING,
    Phase.KILLED: SlotState.LEAVING,
    Phase.DEAD: SlotState.LEAVING,
}


def _is_old(child: Child, record: Callable[[int], Record], now: float) -> bool:
    return now - child.ordered_at > GROWN or record(child.index).words[Field.DONE] > 0


def _pack(record: Record) -> int | None:
    """When the slot took its pack (ns since boot), None while it has none."""
    words = record.words
    return words[Field.LOCK_UNTIL] - words[Field.TTL] if words[Field.HELD] else None


def monotonic() -> float:
    """The master's clock for deadlines."""
    return time.monotonic()
