"""What is to be played: per queue its declaration, how its load changes, and every task drawn from that beforehand.

Tasks are drawn before a run, by a seed and the queue's name alone, so that all ways to allot slots face the very same
tasks. Times are seconds from the start of what is measured; what comes before 0 is the warm-up.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from random import Random

from qslots.errors import Error
from qslots.reports import QueueDeclared

MOST_TASKS = 50_000_000  # a run keeps all of them in memory
SAME = 1e-6  # cv: less than this is none
WARM_UP = 120.0  # s played before anything is measured: a fleet that begins with nothing is no steady one


@dataclass(frozen=True, slots=True)
class Phase:
    """How a queue is loaded from ``at`` on, until its next phase."""

    at: float  # s
    arrivals: float  # tasks a second, as a Poisson process
    service_time: float  # s of a slot, the mean of a task
    slowdown: float = 1.0  # by which tasks take longer than that: a sick storage
    parallel: float = math.inf  # tasks at a time that what is behind bears; beyond, each takes longer in proportion


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """One queue. ``phases`` are in order and not empty; the first one holds from the beginning of the warm-up."""

    declared: QueueDeclared
    phases: tuple[Phase, ...]
    cv: float = 1.0  # of service times: standard deviation / mean; 0 all alike, 1 exponential
    pack_cost: float = 0.0  # s that a pack takes beside its tasks; above 0 its tasks begin and end together

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.declared.name

    def mean_load(self, duration: float) -> float:
        """Slots that it keeps busy on average, in full packs and were nothing behind it ever slow."""
        fixed = self.pack_cost / max(handler.batch for handler in self.declared.handlers)
        spans = self._spans(0.0, duration)
        return sum(phase.arrivals * (phase.service_time + fixed) * seconds for phase, seconds in spans) / duration

    def tasks(self, duration: float) -> float:
        """How many tasks are drawn, on average."""
        return sum(phase.arrivals * seconds for phase, seconds in self._spans(-WARM_UP, duration))

    def _spans(self, start: float, end: float) -> Iterator[tuple[Phase, float]]:
        """How long each phase holds between two instants."""
        begins = [-WARM_UP, *(phase.at for phase in self.phases[1:])]
        for phase, at, until in zip(self.phases, begins, [*begins[1:], math.inf], strict=True):
            yield phase, max(0.0, min(until, end) - max(at, start))

    def phase(self, at: float) -> Phase:
        """The phase at an instant."""
        return self.phases[max(0, bisect_right(self.phases, at, key=attrgetter("at")) - 1)]


@dataclass(frozen=True, slots=True)
class Loss:
    """So many servers are lost at once; ``back``: when they come back, empty."""

    at: float
    servers: int
    back: float = math.inf


@dataclass(frozen=True, slots=True)
class Load:
    """All that is played."""

    name: str
    queues: tuple[QueueLoad, ...]
    duration: float  # s that are measured
    losses: tuple[Loss, ...] = ()

    @property
    def urgent(self) -> tuple[str, ...]:
        """The queues of the highest priority."""
        highest = max(queue.declared.priority for queue in self.queues)
        return tuple(queue.name for queue in self.queues if queue.declared.priority == highest)


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of one queue in the order of their coming: when, and how long by the mean of their phase."""

    times: "array[float]"
    sizes: "array[float]"  # of mean 1


def drawn(load: Load, seed: int) -> dict[str, Tasks]:
    """Every task of every queue, warm-up included. Error if they are too many."""
    tasks = sum(queue.tasks(load.duration) for queue in load.queues)
    if tasks > MOST_TASKS:
        raise Error(f"{load.name} draws {tasks:,.0f} tasks, {MOST_TASKS:,} are the most: play less of it")
    return {queue.name: _tasks(queue, load.duration, f"{seed}/{queue.name}") for queue in load.queues}


def _tasks(queue: QueueLoad, duration: float, seed: str) -> Tasks:
    random = Random(seed)
    tasks = Tasks(array("d"), array("d"))
    shape = 1 / queue.cv**2 if queue.cv > SAME else math.inf
    ends = [*(phase.at for phase in queue.phases[1:]), duration]
    begin = -WARM_UP
    for phase, end in zip(queue.phases, ends, strict=True):
        at, end = begin, min(end, duration)
        while phase.arrivals and (at := at + random.expovariate(phase.arrivals)) < end:
            tasks.times.append(at)
            tasks.sizes.append(_size(random, shape))
        begin = max(begin, end)
    return tasks


def _size(random: Random, shape: float) -> float:
    """Gamma-distributed with mean 1; of shape 1 it is the exponential distribution."""
    if shape == 1:
        return random.expovariate(1.0)
    return 1.0 if shape == math.inf else random.gammavariate(shape, 1 / shape)
