"""What a run has shown: figures over all of it, and curves over time. It looks once a cycle and decides nothing."""

import itertools
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .fleet import Fleet
from .line import Line
from .load import Load

BINS = 120  # points of a curve
STARVED = 10  # times its target_delay that a task may wait before it counts as starved
PERCENTILES = (50, 95, 99)

Tick = Callable[[float], None]  # told the simulated time of each cycle: for progress


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """One queue. Times in seconds; a task that has not begun has waited until the end."""

    tasks: int
    unstarted: int
    p50: float
    p95: float
    p99: float
    max: float
    mean: float
    slots: float  # on average, one that is shared counted as a part
    starved: int  # tasks that waited longer than STARVED x target_delay
    unheard: float  # the longest time in which tasks waited and no slot served them
    backlog: float  # waiting tasks on average


@dataclass(frozen=True, slots=True)
class Curves:
    """One queue over time, BINS points each."""

    slots: tuple[float, ...]
    backlog: tuple[float, ...]
    delay: tuple[float | None, ...]  # p95 of the tasks that began then; None where none did


@dataclass(frozen=True, slots=True)
class Figures:
    """A whole run."""

    slots_mean: float
    slots_peak: int
    slot_hours: float
    busy: float  # the part of the slots that ran a task, on average
    moved_mean: float  # the part of the slots that got other queues, a cycle
    moved_peak: float
    queues: Mapping[str, QueueFigures]
    curves: Mapping[str, Curves]

    def urgent(self, names: Iterable[str]) -> float:
        """The highest p99 of these queues."""
        return max(self.queues[name].p99 for name in names)


@dataclass(slots=True)
class Watch:
    """What is noted while a run goes on. Readings before 0 are the warm-up's."""

    load: Load
    tick: Tick
    at: "array[float]" = field(default_factory=lambda: array("d"))
    slots: "array[int]" = field(default_factory=lambda: array("l"))
    moved: "array[float]" = field(default_factory=lambda: array("d"))
    own: dict[str, "array[float]"] = field(default_factory=dict)
    backlog: dict[str, "array[float]"] = field(default_factory=dict)
    busy: int = 0

    def look(self, now: float, fleet: Fleet, moved: int) -> None:
        """Once a cycle."""
        self.tick(now)
        if now < 0:
            return
        slots = sum(len(server.tenants) for server in fleet.servers)
        self.at.append(now)
        self.slots.append(slots)
        self.moved.append(moved / slots if slots else 0.0)
        for name, line in fleet.lines.items():
            self.own.setdefault(name, array("d")).append(line.slots)
            self.backlog.setdefault(name, array("d")).append(line.waiting)
            self.busy += line.running

    def figures(self, fleet: Fleet) -> Figures:
        """All that was noted, added up."""
        cycles, total = max(1, len(self.at)), sum(self.slots)
        return Figures(
            slots_mean=total / cycles,
            slots_peak=max(self.slots, default=0),
            slot_hours=total / cycles * self.load.duration / 3600,
            busy=self.busy / max(1, total),
            moved_mean=sum(self.moved) / cycles,
            moved_peak=max(self.moved, default=0.0),
            queues={name: self._queue(line, fleet) for name, line in fleet.lines.items()},
            curves={name: self._curves(line) for name, line in fleet.lines.items()},
        )

    def _queue(self, line: Line, fleet: Fleet) -> QueueFigures:
        ended = (wait for begun, wait in zip(line.begun, line.waits, strict=True) if begun - wait >= 0)
        running, unstarted = _open(line, fleet, self.load.duration)
        waits = sorted(itertools.chain(ended, running, unstarted))
        p50, p95, p99 = (percentile(waits, each) for each in PERCENTILES)
        return QueueFigures(
            tasks=len(waits),
            unstarted=len(unstarted),
            p50=p50,
            p95=p95,
            p99=p99,
            max=waits[-1] if waits else 0.0,
            mean=sum(waits) / max(1, len(waits)),
            slots=sum(self.own[line.name]) / max(1, len(self.at)),
            starved=sum(wait > STARVED * line.declared.target_delay for wait in waits),
            unheard=line.unheard,
            backlog=sum(self.backlog[line.name]) / max(1, len(self.at)),
        )

    def _curves(self, line: Line) -> Curves:
        delays: list[list[float]] = [[] for _ in range(BINS)]
        for begun, wait in zip(line.begun, line.waits, strict=True):
            if begun >= 0:
                delays[self._bin(begun)].append(wait)
        return Curves(
            slots=self._averaged(self.own[line.name]),
            backlog=self._averaged(self.backlog[line.name]),
            delay=tuple(percentile(sorted(each), 95) if each else None for each in delays),
        )

    def _bin(self, at: float) -> int:
        return min(BINS - 1, int(at / self.load.duration * BINS))

    def _averaged(self, readings: Sequence[float]) -> tuple[float, ...]:
        sums, counts = [0.0] * BINS, [0] * BINS
        for at, reading in zip(self.at, readings, strict=True):
            sums[self._bin(at)] += reading
            counts[self._bin(at)] += 1
        means: list[float] = []
        for total, count in zip(sums, counts, strict=True):  # cycles may be longer than a bin
            means.append(total / count if count else (means[-1] if means else 0.0))
        return tuple(means)


def _open(line: Line, fleet: Fleet, end: float) -> tuple[list[float], list[float]]:
    """How long the tasks had waited that run at the end, and those that have not begun."""
    held = [slot.pack for server in fleet.servers for slot in server.tenants.values() if slot.pack is not None]
    packs = [pack for pack in held if pack.line is line]
    started = [(task, at) for pack in packs for task, at in zip(pack.tasks, pack.starts, strict=True)]
    begun = [at - line.times[task] for task, at in started if at <= end and line.times[task] >= 0]
    waiting = [task for task, at in started if at > end]
    waiting += [task for pack in (*packs, *(pack for pack in fleet.adrift if pack.line is line)) for task in pack.tail]
    waiting += [task for pack in fleet.adrift if pack.line is line for task in pack.tasks]
    waiting += [*line.back, *range(line.head, line.put)]
    return begun, [end - line.times[task] for task in waiting if line.times[task] >= 0]


def percentile(ordered: Sequence[float], part: int) -> float:
    """By nearest rank; 0 of nothing."""
    return ordered[max(0, -(-part * len(ordered) // 100) - 1)] if ordered else 0.0
