"""A cluster of plain data for the planner: it does at once what the map says."""

from dataclasses import dataclass, field

from qmanager.planning.planner import Memory, PlanResult, plan
from qslots.reports import Declared, HandlerDeclared, QueueDeclared, QueuePlan, QueueStats, Report, SlotReport

Row = tuple[tuple[str, ...], ...]


def queue(name: str, **fields: object) -> QueueDeclared:
    return QueueDeclared(name, handlers=(HandlerDeclared(f"do_{name}"),), **fields)  # type: ignore[arg-type]


def many(count: int) -> list[QueueDeclared]:
    return [queue(f"q{i:02}") for i in range(count)]


def report(server: str, digest: str, slots: int, living: tuple[SlotReport, ...] = (), generation: int = 1) -> Report:
    return Report(
        server=server, incarnation="i", host=server, pid=1, generation=generation, declared=digest,
        budget=slots * 100, max_slots=slots, pss=0, free_memory=0, slot_size=100, slot_sizes={}, epoch=1, seq=1,
        slots=living,
    )  # fmt: skip


@dataclass
class Cluster:
    """Carries out every map at once; tasks run in the slots of their queue, each ``takes`` seconds."""

    queues: list[QueueDeclared]
    servers: dict[str, int] = field(default_factory=lambda: {"x": 4})
    takes: float = 1.0
    interval: float = 1.0
    now: float = 1000.0
    rows: dict[str, Row] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    waiting: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    running: dict[tuple[str, int], tuple[str, float]] = field(default_factory=dict)  # slot -> queue, since
    blind: bool = False  # no statistics arrive
    paused: set[str] = field(default_factory=set)

    def cycle(self) -> PlanResult:
        self._work()
        declared = Declared(tuple(self.queues))
        result = plan(
            declared={declared.digest(): declared},
            stats={} if self.blind else {each.name: self._stats(each.name) for each in self.queues},
            reports=[report(name, declared.digest(), n, self._living(name)) for name, n in self.servers.items()],
            current=self.rows, now=self.now, memory=self.memory, interval=self.interval,
        )  # fmt: skip
        self.rows, self.memory = result.rows, result.memory
        self.now += self.interval
        return result

    def _work(self) -> None:
        for slot, (name, since) in list(self.running.items()):
            if self.now - since >= self.takes:
                self.done[name] = self.done.get(name, 0) + 1
                del self.running[slot]
        for server, row in self.rows.items():
            for index, queues in enumerate(row):
                name = next((each for each in queues if self.waiting.get(each) and each not in self.paused), None)
                if name and (server, index) not in self.running:
                    self.waiting[name] -= 1
                    self.running[server, index] = name, self.now
                    more = min(self.waiting[name], max(0, int(self.interval / self.takes) - 1))  # short ones in a row
                    self.waiting[name] -= more
                    self.done[name] = self.done.get(name, 0) + more

    def _stats(self, name: str) -> QueueStats:
        done, active = self.done.get(name, 0), self.waiting.get(name, 0)
        taken = done + sum(each == name for each, _ in self.running.values())
        paused = name in self.paused
        return QueueStats(
            name, self.now, active=active, taken=taken, done=done, busy=done * self.takes,
            takeable=0 if paused else active, paused=paused,
        )  # fmt: skip

    def _living(self, server: str) -> tuple[SlotReport, ...]:
        living = []
        for index, queues in enumerate(self.rows.get(server, ())):
            name, since = self.running.get((server, index), (None, 0.0))
            age = self.now - since if name else None
            if queues:
                state, handler = ("busy", f"do_{name}") if name else ("idle", None)
                living.append(SlotReport(index, 1, 1, state, queues, handler=handler, task_age=age, queue=name))
        return tuple(living)

    def own(self, name: str) -> int:
        return sum(queues == (name,) for row in self.rows.values() for queues in row)

    def heard(self) -> set[str]:
        return {name for row in self.rows.values() for queues in row for name in queues}


def numbers(result: PlanResult, name: str) -> QueuePlan:
    return next(each for each in result.queues if each.name == name)
