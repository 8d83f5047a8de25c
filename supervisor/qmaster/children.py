"""The registry of slots: who lives where, in which phase. Pure; times are monotonic seconds given by the caller.

A slot's identity is its index; pid and holder are facts about its present tenant. A late word of a dead tenant must
not touch the next: whatever comes is matched by channel or pid, never by index.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from .watch import Overdue


class Phase(IntEnum):
    """The life of a tenant; it only rises."""

    ORDERED = 1  # the mold was told to fork it
    LIVE = 2  # it said that it is born
    LEAVING = 3  # it was asked to leave (TERM)
    KILLED = 4  # it was sent SIGKILL, or is dead already without our knowing
    DEAD = 5  # reaped; what it left is being settled


@dataclass(slots=True)
class Child:
    """One tenant of a slot."""

    index: int
    holder: str
    generation: int
    phase: Phase
    since: float  # when this phase began
    ordered_at: float
    pid: int | None = None
    queues: tuple[str, ...] = ()
    why: str = ""  # why we ended it, if we did
    overdue: Overdue | None = None  # the task over its limit for which we killed it
    unsettled: list[str] = field(default_factory=list)  # sources whose settlement is not answered yet
    busy_at: float = 0.0  # when it was last seen with a pack
    fault: str = ""  # why it could not begin, as it has said itself


@dataclass(slots=True)
class Respawn:
    """How soon an index may have its next tenant: min(30 s, 0.1 s * 2^quick deaths)."""

    quick_deaths: int = 0
    not_before: float = 0.0


QUICK = 10.0  # seconds; who lives longer than that has not died at birth
_SLOWEST = 30.0


@dataclass(slots=True)
class Children:
    """All slots of this server."""

    tenants: dict[int, Child] = field(default_factory=dict)
    respawns: dict[int, Respawn] = field(default_factory=dict)

    def order(self, index: int, holder: str, generation: int, now: float) -> Child:
        """A fork was ordered."""
        assert index not in self.tenants
        child = Child(index, holder, generation, Phase.ORDERED, now, now)
        self.tenants[index] = child
        return child

    def advance(self, child: Child, phase: Phase, now: float, why: str = "") -> bool:
        """Moves a tenant on; False if it was as far already. The first reason given stands."""
        if child.phase >= phase:
            return False
        child.phase = phase
        child.since = now
        child.why = child.why or why
        return True

    def by_pid(self, pid: int) -> Child | None:
        """The tenant that lives under this pid."""
        return next((c for c in self.tenants.values() if c.pid == pid and c.phase < Phase.DEAD), None)

    def by_holder(self, holder: str) -> Child | None:
        """The tenant of this name, alive or not yet settled."""
        return next((child for child in self.tenants.values() if child.holder == holder), None)

    def gone(self, child: Child, now: float, *, worked: bool) -> None:
        """A tenant is settled: its index is free; later if it died soon after its birth, not by our wish and before it
        had any work. What a task does to its slot is held against the task, not against the place.
        """
        del self.tenants[child.index]
        respawn = self.respawns.setdefault(child.index, Respawn())
        if worked or child.why or now - child.ordered_at > QUICK:
            respawn.quick_deaths = 0
            respawn.not_before = now
            return
        self.hold_back(child.index, now)

    def hold_back(self, index: int, now: float) -> None:
        """The index had no success: each time it waits twice as long."""
        respawn = self.respawns.setdefault(index, Respawn())
        respawn.not_before = now + min(_SLOWEST, 0.1 * 2**respawn.quick_deaths)
        respawn.quick_deaths += 1

    def may_spawn(self, index: int, now: float) -> bool:
        """Whether the index is free and not held back."""
        return index not in self.tenants and self.respawn_at(index) <= now

    def respawn_at(self, index: int) -> float:
        """When the index may have a tenant again."""
        respawn = self.respawns.get(index)
        return respawn.not_before if respawn else 0.0

    def count(self, *phases: Phase) -> int:
        """How many tenants are in these phases."""
        return sum(child.phase in phases for child in self.tenants.values())
