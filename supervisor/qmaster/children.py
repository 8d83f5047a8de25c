"""The registry of slots: who lives where, in which phase. Pure; times are monotonic seconds given by the caller.

A slot's identity is its index; pid and holder are facts about its present tenant. A late word of a dead tenant must
not touch the next: whatever comes is matched by channel or pid, never by index.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from .crashloops import QUICK, CrashLoops
from .reasons import Reason
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
    assigned: tuple[str, ...] = ()  # what it was ordered for, before it is told its queues
    killed: Reason | None = None  # why it was sent SIGKILL, if it was
    fault: str = ""  # why it could not begin, as it has said itself
    overdue: Overdue | None = None  # the task over its limit for which we killed it
    unsettled: list[str] = field(default_factory=list)  # sources whose settlement is not answered yet
    busy_at: float = 0.0  # when it was last seen with a pack

    @property
    def assignment(self) -> tuple[str, ...]:
        """What its end is counted for."""
        return self.queues or self.assigned

    def has_success(self, done: int, takes: int, now: float) -> bool:
        """Whether it has proved that such slots can live: it has ended a task, or has looked for some long enough."""
        return done > 0 or (takes > 0 and now - self.ordered_at > QUICK)


@dataclass(slots=True)
class Children:
    """All slots of this server."""

    tenants: dict[int, Child] = field(default_factory=dict)
    loops: CrashLoops = field(default_factory=CrashLoops)

    def order(self, index: int, holder: str, generation: int, now: float, queues: tuple[str, ...] = ()) -> Child:
        """A fork was ordered, to serve these queues."""
        assert index not in self.tenants
        child = Child(index, holder, generation, Phase.ORDERED, now, now, assigned=queues)
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

    def gone(self, child: Child) -> None:
        """A tenant is settled: its index is free."""
        del self.tenants[child.index]

    def postpone(self, seconds: float) -> None:
        """The master was not there for so long: nobody's time has run meanwhile."""
        for child in self.tenants.values():
            child.since += seconds
            child.ordered_at += seconds

    def may_spawn(self, queues: tuple[str, ...], now: float) -> bool:
        """Whether another slot may be tried for these queues: of those whose slots have died one at a time."""
        loop = self.loops.loops.get(queues)
        if loop is None:
            return True
        tried = any(
            child.assignment == queues and child.ordered_at >= loop.died_at and child.phase < Phase.DEAD
            for child in self.tenants.values()
        )
        return loop.not_before <= now and not (loop.deaths and tried)

    def count(self, *phases: Phase) -> int:
        """How many tenants are in these phases."""
        return sum(child.phase in phases for child in self.tenants.values())
