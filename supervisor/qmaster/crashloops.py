"""Slots that die again and again: how long an assignment waits for its next one, and when a handler is to be parked.
Pure; times are monotonic seconds given by the caller.

A death outside of any task is held against the assignment (the queues that the slot was to serve): each wave of them
doubles the pause, and meanwhile one slot at a time is tried. After PARK_AFTER waves without a success between them the
assignment is parked on this server: one slot each PROBE_EVERY seconds, until one has success. What a task does to its
slot is held against the task; and against its handler, if ten tasks in a row do the same.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

QUICK = 10.0  # seconds; who has lived so long and asked for work has had success
PARK_AFTER = 5  # deaths in a row
PROBE_EVERY = 30.0  # seconds
HANDLER_AFTER = 10  # crashes in a row
DIFFERENT = 5  # so many tasks at least must have had a part in them
_FIRST = 0.1  # seconds
Queues = tuple[str, ...]


@dataclass(slots=True)
class Loop:
    """The deaths in a row of one assignment."""

    deaths: int = 0
    died_at: float = 0.0  # the first death of the last wave; who was ordered before it belongs to the same wave
    not_before: float = 0.0  # when the next slot may be tried
    why: str = ""
    unborn: int = 0  # times that it was held back though nobody had died

    @property
    def is_parked(self) -> bool:
        """Whether the assignment is given up for now."""
        return self.deaths >= PARK_AFTER


@dataclass(slots=True)
class CrashLoops:
    """The assignments whose slots die."""

    loops: dict[Queues, Loop] = field(default_factory=dict)

    def died(self, queues: Queues, ordered_at: float, now: float, why: str) -> bool:
        """A slot died without success; True if its assignment is parked by that."""
        loop = self.loops.setdefault(queues, Loop())
        loop.why = why
        if loop.deaths and ordered_at < loop.died_at:
            return False
        loop.deaths += 1
        loop.died_at = now
        loop.not_before = now + (PROBE_EVERY if loop.is_parked else _FIRST * 2 ** (loop.deaths - 1))
        return loop.deaths == PARK_AFTER

    def hold_back(self, queues: Queues, now: float) -> None:
        """A slot was never born, which is its mold's fault or its server's: the next one waits, longer each time."""
        loop = self.loops.setdefault(queues, Loop())
        if now >= loop.not_before:
            loop.unborn += 1
            loop.not_before = now + min(PROBE_EVERY, 0.5 * 2**loop.unborn)

    def succeeded(self, queues: Queues, ordered_at: float) -> Loop | None:
        """A slot has had success; returns the loop that is over by that, if there was one and it came after it."""
        loop = self.loops.get(queues)
        return self.loops.pop(queues) if loop is not None and ordered_at >= loop.died_at else None

    def keep(self, wanted: Collection[Queues]) -> None:
        """Forgets what the map no longer asks for."""
        self.loops = {queues: loop for queues, loop in self.loops.items() if queues in wanted}

    def forget(self) -> None:
        """Other code is loaded: it has no past."""
        self.loops.clear()

    def not_before(self, queues: Queues) -> float:
        """When the next slot of this assignment may be tried."""
        loop = self.loops.get(queues)
        return loop.not_before if loop is not None else 0.0

    def are_failing(self, queues: Queues) -> bool:
        """Whether the last slots of this assignment have died without success."""
        loop = self.loops.get(queues)
        return loop is not None and loop.deaths > 0

    def parked(self) -> dict[Queues, Loop]:
        """Those that are given up for now."""
        return {queues: loop for queues, loop in self.loops.items() if loop.is_parked}


@dataclass(frozen=True, slots=True)
class Work:
    """What a slot does, as its record says: whose tasks it has, and how many of that handler it has ended so far."""

    queue: str
    handler: str
    ended: int


@dataclass(slots=True)
class _Row:
    deaths: int = 0
    tasks: set[str] = field(default_factory=set)


@dataclass(slots=True)
class HandlerRows:
    """Crashes of slots in a row, by the handler whose task ran."""

    rows: dict[tuple[str, str], _Row] = field(default_factory=dict)
    _ended: dict[str, Work] = field(default_factory=dict)  # holder -> as last seen

    def crashed(self, work: Work, task: str, why: str) -> str:
        """A slot crashed in this task; returns why its handler is to be parked, "" if it is not."""
        key = work.queue, work.handler
        if work.ended:  # it has had success with others of them
            self.rows.pop(key, None)
        row = self.rows.setdefault(key, _Row())
        row.deaths += 1
        row.tasks.add(task)
        if row.deaths < HANDLER_AFTER or len(row.tasks) < DIFFERENT:
            return ""
        del self.rows[key]
        return (
            f"{row.deaths} slots in a row died of {len(row.tasks)} of its tasks and none was done between them, the "
            f"last slot {why}"
        )

    def look(self, living: dict[str, Work]) -> None:
        """What living slots (by holder) do: a handler that ends tasks has success."""
        if not self.rows:
            self._ended.clear()
            return
        for holder, work in living.items():
            before = self._ended.get(holder)
            if before is not None and before.handler == work.handler and work.ended > before.ended:
                self.rows.pop((work.queue, work.handler), None)
        self._ended = dict(living)
