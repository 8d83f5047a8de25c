"""Closed loops: a queue whose slots are as many as demand wanted a second ago. Simulated time, no clock, no server."""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from qmanager.planning.demand import Demand, measure
from qmanager.planning.history import Samples, observe
from qslots.lottery import PackSize
from qslots.packtimes import PackTimes
from qslots.reports import HandlerDeclared, QueueDeclared, QueueStats

TICK = 0.02  # seconds in which idle slots find what waits


@dataclass
class Slot:
    """One process: what it runs, until when, and what it has learnt of its packs."""

    size: PackSize
    began: float = 0.0
    until: float = 0.0
    pack: int = 0


@dataclass
class Loop:
    """One queue that has as many slots as it wants, from the next second on."""

    takes: Callable[[int, int], float]  # (tasks of a pack, busy slots) -> seconds
    queue: QueueDeclared
    arrivals: float = 0.0  # tasks a second
    most: int = 2000  # slots that there are
    forks: int = 1000  # slots born a second
    whole: bool = False  # whether the handler has its packs whole
    killed: Callable[[], bool] = bool  # whether the slot dies at the end of a pack
    now: float = 0.0
    waiting: float = 0.0
    wanted: int = 1
    slots: list[Slot] = field(default_factory=list)
    samples: Samples = ()
    taken: int = 0
    packs: int = 0
    done: int = 0
    crashed: int = 0
    busy: float = 0.0
    counters: Counter[str] = field(default_factory=Counter)
    demand: Demand | None = None

    def second(self) -> Demand:
        """A second passes; what is wanted after it is there for the next one."""
        self._births(math.ceil(self.demand.wanted) if self.demand else 1)
        for _ in range(round(1 / TICK)):
            self.now += TICK
            self.waiting += self.arrivals * TICK
            self._end()
            self._take()
        running = [self.now - slot.began for slot in self.slots if slot.pack]
        stats = QueueStats(
            "q", self.now, active=int(self.waiting), takeable=int(self.waiting), taken=self.taken, done=self.done,
            crashed=self.crashed, busy=self.busy, packs=self.packs, packing=PackTimes.counted(self.counters),
        )  # fmt: skip
        self.samples = observe(self.samples, stats, running=running, slots=len(self.slots))
        growth = {"growth": self.demand.growth} if self.demand else {}
        self.demand = measure(self.queue, self.samples, stats, running=running, slots=len(self.slots), **growth)
        return self.demand

    def run(self, seconds: int) -> list[float]:
        """What was wanted, second by second."""
        return [self.second().wanted for _ in range(seconds)]

    def _births(self, wanted: int) -> None:
        wanted = max(1, min(wanted, self.most, len(self.slots) + self.forks))
        batch = max(handler.batch for handler in self.queue.handlers)
        self.slots += [Slot(PackSize(batch, whole=self.whole)) for _ in range(wanted - len(self.slots))]
        self.wanted = wanted

    def _end(self) -> None:
        for slot in self.slots:
            if slot.pack and slot.until <= self.now:
                seconds, size = slot.until - slot.began, slot.pack
                slot.size.ran(size, seconds)
                self.busy += seconds
                self.counters[f"took:{math.frexp(seconds * 1e6)[1]}"] += 1
                slot.pack = 0
                if self.killed():
                    self.crashed += size
                else:
                    self.done += size
                    self._count(size, seconds * 1e6)
        spare = len(self.slots) - self.wanted
        leaving = {id(slot) for slot in [slot for slot in self.slots if not slot.pack][: max(0, spare)]}
        self.slots = [slot for slot in self.slots if id(slot) not in leaving]

    def _count(self, size: int, micros: float) -> None:
        sums = {"n": 1, "k": size, "kk": size**2, "t": micros, "kt": size * micros, "tt": micros**2}
        self.counters.update({f"pack:{name}": int(value) for name, value in sums.items()})

    def _take(self) -> None:
        busy = sum(bool(slot.pack) for slot in self.slots)
        for slot in self.slots:
            if not slot.pack and self.waiting >= 1:
                slot.pack = min(slot.size.want(), math.ceil(int(self.waiting) / len(self.slots)))
                self.waiting -= slot.pack
                self.taken += slot.pack
                self.packs += 1
                slot.began = self.now
                busy += 1
                slot.until = self.now + self.takes(slot.pack, busy)


def queue(batch: int = 1, **fields: object) -> QueueDeclared:
    return QueueDeclared("q", handlers=(HandlerDeclared("h", batch=batch),), **fields)  # type: ignore[arg-type]


def alone(seconds: float) -> Callable[[int, int], float]:
    """Tasks that take so long whatever else runs."""
    return lambda pack, _: seconds * pack


def through(storage: float, seconds: float) -> Callable[[int, int], float]:
    """Tasks that all go through a storage that does so many a second."""
    return lambda pack, busy: pack * max(seconds, busy / storage)


def test_pack_handler_gets_what_full_packs_need() -> None:  # case 39
    loop = Loop(lambda pack, _: 0.3 + 0.001 * pack, queue(1000), arrivals=1000.0, whole=True)
    wanted = loop.run(60)
    assert max(wanted) <= 16  # while nothing is known of its packs
    assert max(wanted[20:]) < 2
    assert wanted[-1] == pytest.approx(1.6, abs=0.2)
    assert "in larger packs" in loop.second().reason
    assert loop.waiting < 1000


@pytest.mark.parametrize(("own", "slots"), [(0.9, 4), (2.0, 8), (4.0, 40)])
def test_packs_that_take_longer_than_a_second_want_few_slots_too(own: float, slots: int) -> None:
    loop = Loop(lambda pack, _: own + 0.001 * pack, queue(1000), arrivals=1000.0, whole=True)
    assert max(loop.run(60)[45:]) <= slots
    assert loop.waiting < 15_000


@pytest.mark.parametrize("batch", [1, 100])
def test_a_batch_whose_packs_cost_nothing_of_their_own_wants_as_many_slots_as_tasks_need(batch: int) -> None:
    wanted = Loop(alone(0.05), queue(batch), arrivals=200.0).run(60)
    assert wanted[-1] == pytest.approx(200 * 0.05 / 0.8, rel=0.1)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
@pytest.mark.parametrize("mean", [0.02, 0.2])
def test_run_times_that_vary_widely_are_no_reason_for_fewer_slots(mean: float, sigma: float) -> None:
    draw, middle = random.Random(1), math.log(mean) - sigma**2 / 2
    takes = lambda pack, _: sum(draw.lognormvariate(middle, sigma) for _ in range(pack))  # noqa: E731
    loop = Loop(takes, queue(100), arrivals=10 / mean, most=100)
    assert min(loop.run(100)[60:]) > 10  # that would be busy all the time


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_tasks_that_are_killed_want_as_many_slots_and_are_as_much_load_as_others(share: float) -> None:
    draw = random.Random(1)
    loop = Loop(alone(20.0), queue(), arrivals=1.25, killed=lambda: draw.random() < share)
    loop.run(400)
    assert loop.demand is not None and loop.demand.load is not None
    assert loop.demand.mean_time == pytest.approx(20.0, rel=0.02)
    assert loop.demand.wanted == pytest.approx(25 / 0.8, rel=0.03)
    assert loop.demand.load == pytest.approx(0.8, rel=0.05)


def test_cold_queue_with_a_hundred_thousand_tasks_doubles_until_it_knows() -> None:
    loop = Loop(alone(0.5), queue(), most=200, waiting=100_000)
    wanted = loop.run(4)
    assert wanted[:3] == [2, 4, 8]
    assert wanted[3] > 200


def test_growth_stops_where_the_storage_behind_is_the_limit() -> None:
    loop = Loop(through(200, 0.1), queue(), arrivals=100.0)
    assert loop.run(60)[-1] == pytest.approx(12.5, rel=0.05)
    loop.arrivals = 1000.0
    wanted = loop.run(280)
    assert max(wanted) < 320  # what arrivals and a backlog of tasks of 0.1 s is worth until growth is judged
    assert wanted[20] == 32
    assert min(wanted[20:]) == 16  # tried once, and found to do less
    assert sum(each < 32 for each in wanted[20:]) < 40
    assert max(wanted[20:]) <= 55  # tried again now and then
    assert sum(each > 32 for each in wanted[20:]) < 60
    assert "so the limit is behind the tasks: no more than 32 for" in loop.second().reason


def test_a_queue_behind_a_sick_storage_comes_down_to_the_slots_that_do_as_much() -> None:
    loop = Loop(through(10_000, 0.1), queue(), arrivals=100.0, most=300)
    loop.run(60)
    loop.takes = lambda pack, busy: pack * max(2.0, busy / 10)  # twenty would do
    wanted = loop.run(900)
    assert min(wanted[-200:]) <= 40
    assert loop.demand is not None
    assert loop.demand.rate == pytest.approx(10.0, rel=0.15)


def test_growth_goes_on_when_the_storage_has_recovered() -> None:
    loop = Loop(through(200, 0.1), queue(), arrivals=100.0)
    loop.run(60)
    loop.arrivals = 1000.0
    assert loop.run(100)[-1] == 32
    loop.takes = alone(0.1)
    assert max(loop.run(90)) > 120
    assert "behind the tasks" not in loop.second().reason


def test_growth_goes_on_when_the_load_has_fallen() -> None:
    loop = Loop(through(200, 0.1), queue(), arrivals=100.0)
    loop.run(60)
    loop.arrivals = 1000.0
    assert loop.run(30)[-1] == 32
    loop.arrivals, loop.waiting = 100.0, 10.0
    loop.run(20)
    assert "behind the tasks" not in loop.second().reason
    assert loop.demand is not None
    assert not loop.demand.growth.ceiling


@pytest.mark.parametrize("forks", [1000, 5])
def test_growth_that_helps_is_never_stopped(forks: int) -> None:
    loop = Loop(alone(0.1), queue(), forks=forks, arrivals=100.0)
    loop.run(60)
    loop.arrivals = 1000.0
    for _ in range(120):
        assert "behind the tasks" not in loop.second().reason
    assert loop.waiting < 4000
    assert len(loop.slots) > 100


@pytest.mark.parametrize("seed", range(5))
def test_growth_that_helps_is_not_stopped_by_chance(seed: int) -> None:
    draw = random.Random(seed)
    loop = Loop(lambda *_: draw.expovariate(2.0), queue(), arrivals=10.0, most=60)
    loop.run(60)
    loop.arrivals = 50.0
    for _ in range(90):
        assert "behind the tasks" not in loop.second().reason
    assert len(loop.slots) > 25


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_behind_the_tasks_is_found_whatever_chance_does(seed: int) -> None:
    draw = random.Random(seed)
    loop = Loop(lambda _, busy: draw.expovariate(1.0) * max(0.5, busy / 20), queue(), arrivals=10.0, most=300)
    loop.run(60)
    loop.arrivals = 50.0
    wanted = loop.run(200)
    assert loop.demand is not None
    assert loop.demand.growth.ceiling
    assert max(wanted[100:]) < 150


def test_tasks_that_have_become_longer_are_no_limit_behind_them() -> None:
    loop = Loop(alone(0.01), queue(), arrivals=10.0)
    loop.run(60)
    loop.takes = alone(10.0)
    for _ in range(120):
        assert "behind the tasks" not in loop.second().reason
    assert len(loop.slots) >= 100


def test_a_rate_is_no_limit_behind_the_tasks() -> None:
    loop = Loop(alone(0.1), queue(rate=50.0), arrivals=50.0, most=20)
    for _ in range(120):
        assert "behind the tasks" not in loop.second().reason
    assert len(loop.slots) <= 5
