"""A cluster as plain data, of any size, for ``make bench-plan``: servers, queues, their counts, what masters report.

Nothing runs: every map is carried out at once, and every queue is kept as busy as its base says, with noise. The same
seed gives the same fleet and the same noise.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from qmanager.planning.grant import Names
from qmanager.planning.masters import Master, Running
from qmanager.planning.placement import Rows
from qmanager.planning.planner import Memory, PlanResult, plan
from qslots.reports import Declared, HandlerDeclared, QueueDeclared, QueueStats, Report, SlotReport

MB = 1 << 20
TAKES = 2.0  # seconds a task
POWERS = (96, 96, 96, 96, 96, 96, 96, 96, 64, 68)  # slots that a server carries: 90 in the mean
PRIORITIES = (20, 50, 50, 50, 80)
FILLED = 0.93  # of all slots, how many the queues want in the mean


@dataclass
class Fleet:
    """The cluster between two plans."""

    servers: int
    queues: int
    seed: int = 1
    noise: float = 0.3  # standard deviation of the logarithm of a queue's load, which drifts within a minute
    interval: float = 1.0
    now: float = 1e6
    rows: Rows = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.powers = {f"web-{n:05}": POWERS[n % len(POWERS)] for n in range(self.servers)}
        names = [f"queue-{n:04}" for n in range(self.queues)]
        weights = [1 / (n + 3) for n in range(self.queues)]  # few are large, most are small, some are worth no slot
        slots = FILLED * sum(self.powers.values())
        self.base = {name: slots * weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
        for name in names[-self.queues // 5 :]:
            self.base[name] = self.draw.uniform(0.05, 0.9)
        self.sizes = {name: self.draw.randrange(15, 40) * MB for name in names}
        self.declared = Declared(tuple(self._declared(n, name) for n, name in enumerate(names)))
        self.done = dict.fromkeys(names, 1e6)
        self.mood = {name: self.draw.gauss(0.0, 1.0) for name in names}
        self.waiting = {name: int(5 * base / TAKES) for name, base in self.base.items()}

    def _declared(self, n: int, name: str) -> QueueDeclared:
        least, priority = min(n % 4, int(self.base[name])), PRIORITIES[n % len(PRIORITIES)]
        return QueueDeclared(name, priority=priority, min_slots=least, handlers=(HandlerDeclared(f"do_{name}"),))

    def ahead(self) -> None:
        """One interval passes: what comes is worked off, with noise; the backlog of the beginning is gone.

        What is worth less than two slots comes in bursts: one in three is busy, with three times the load.
        """
        self.now += self.interval
        keeps = math.exp(-self.interval / 60)
        for name, base in self.base.items():
            drift = self.draw.gauss(0.0, 1.0) * math.sqrt(1 - keeps * keeps)
            self.mood[name] = self.mood[name] * keeps + drift
            load = base * math.exp(self.noise * self.mood[name] - self.noise**2 / 2)
            if base < 2:
                load = 3 * base if self.mood[name] > 0.43 else 0.0
            self.done[name] += load * 0.75 / TAKES * self.interval
            self.waiting[name] = int(self.draw.uniform(0, 0.2) * load)

    def counts(self) -> dict[str, QueueStats]:
        """What the queue server has counted."""
        return {
            name: QueueStats(
                name, self.now, active=self.waiting[name], taken=int(done), done=int(done), busy=done * TAKES,
                takeable=self.waiting[name], oldest=0.5,
            )
            for name, done in self.done.items()
        }  # fmt: skip

    def masters(self) -> list[Master]:
        """What the masters say, summed up."""
        digest = self.declared.digest()
        return [self._master(name, power, digest) for name, power in self.powers.items()]

    def _master(self, name: str, power: int, digest: str) -> Master:
        row = self.rows.get(name, ())
        running = tuple(Running(1.0, queues[0], None, queues) for queues in row[::2] if queues)
        idle = frozenset(range(1, len(row), 2))
        sizes = self._sizes(row)
        budget = power * 32 * MB
        return Master(
            server=name, declared=digest, budget=budget, max_slots=power, bound="memory",
            slot_size=32 * MB, slot_sizes=sizes, draining=False, idle=idle,
            listening=tuple(filter(None, row)), running=running,
        )  # fmt: skip

    def _sizes(self, row: Sequence[Names]) -> dict[str, int]:
        return {name: self.sizes[name] for queues in row for name in queues}

    def report(self, name: str) -> Report:
        """The same as a master sends it."""
        row, power = self.rows[name], self.powers[name]
        slots = tuple(self._slot(index, queues) for index, queues in enumerate(row) if queues)
        return Report(
            server=name, incarnation="5f1c-0192f3", host=name, pid=471, generation=3, declared=self.declared.digest(),
            budget=power * 32 * MB, max_slots=power, pss=power * 25 * MB, free_memory=900 * MB, slot_size=32 * MB,
            slot_sizes=self._sizes(row), epoch=1, seq=77, slots=slots, my_world_slots=power, bound="memory",
            reason=f"{power} slots of 25 MB in {power * 32} MB", reserve=800 * MB, total_memory=8192 * MB,
        )  # fmt: skip

    @staticmethod
    def _slot(index: int, queues: Names) -> SlotReport:
        common = {"done": 12345 + index, "pss": 25 * MB + index, "private": 9 * MB + index}
        if index % 2:
            return SlotReport(index, 5000 + index, 3, "idle", queues, **common)
        return SlotReport(
            index, 5000 + index, 3, "busy", queues, task=f"0192f3a1{index:024x}", handler=f"do_{queues[0]}",
            task_age=1.25 + index, queue=queues[0], **common,
        )  # fmt: skip

    def planned(self, masters: Sequence[Master], counts: Mapping[str, QueueStats]) -> PlanResult:
        """The next map, not yet in force."""
        return plan(
            declared={self.declared.digest(): self.declared}, stats=counts, reports=masters, current=self.rows,
            now=self.now, memory=self.memory, interval=self.interval,
        )  # fmt: skip

    def owned(self, names: Sequence[str]) -> dict[str, int]:
        """Slots of these queues on the servers that are there, those aside that are shared."""
        slots = Counter(chain.from_iterable(self.rows.get(name, ()) for name in self.powers))
        return {name: slots[name,] for name in names}

    def obey(self, result: PlanResult) -> None:
        """The map is in force."""
        self.rows, self.memory = result.rows, result.memory

    def slots(self) -> int:
        """How many the servers can carry."""
        return sum(self.powers.values())
