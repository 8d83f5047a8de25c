"""One load played by one policy, and the three policies beside each other at the same number of slots."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .fleet import Fleet, Policy
from .line import Line
from .load import WARM_UP, Load, Tasks, drawn
from .measures import Figures, Tick, Watch
from .policies import ByBacklog, Planned, Static, divided, within
from .server import Size

SWEEP = 6  # constants that are tried
LEAST, MOST = 0.05, 20.0  # tasks a slot, of the constants
ALLOWANCE = 1.02  # times our mean number of slots that an autoscaler may use
RUNS = 2 + SWEEP  # of a comparison


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one policy. ``note``: how it was set."""

    policy: str
    note: str
    figures: Figures


def played(load: Load, size: Size, policy: Policy, *, tasks: Mapping[str, Tasks], seed: int, tick: Tick) -> Figures:
    """The load, played once."""
    fleet = Fleet([Line(queue, tasks[queue.name]) for queue in load.queues], size, policy, seed)
    for loss in load.losses:
        fleet.at(loss.at, fleet.lose, loss.servers)
        if loss.back < math.inf:
            fleet.at(loss.back, fleet.come_back, loss.servers)
    watch = Watch(load, tick)
    fleet.play(-WARM_UP, load.duration, watch)
    return watch.figures(fleet)


def simulated(load: Load, size: Size, *, seed: int, compare: bool, tick: Tick = lambda _: None) -> Iterator[Outcome]:
    """The outcome of our planner, then those of the static division and of the best autoscaler."""
    tasks = drawn(load, seed)

    def run(policy: Policy) -> Figures:
        return played(load, size, policy, tasks=tasks, seed=seed, tick=tick)

    ours = run(Planned([queue.declared for queue in load.queues], size))
    yield Outcome("qslots", "the manager's planner", ours)
    if compare:
        division = static(load, round(ours.slots_mean))
        yield Outcome("static", ", ".join(f"{name} {slots}" for name, slots in division.items()), run(Static(division)))
        yield autoscaled(load, ours.slots_mean, run)


def static(load: Load, slots: int) -> dict[str, int]:
    """So many slots in proportion to the mean load of each queue, within its max and min."""
    parts = divided({queue.name: queue.mean_load(load.duration) for queue in load.queues}, slots)
    return {queue.name: within(queue.declared, parts[queue.name]) for queue in load.queues}


def autoscaled(load: Load, slots: float, run: Callable[[Policy], Figures]) -> Outcome:
    """The autoscaler with the constant that serves the urgent best without more slots than ours.

    A smaller constant means more slots, so the sweep closes in on as many as ours by halving.
    """
    queues = [queue.declared for queue in load.queues]
    low, high = math.log(LEAST), math.log(MOST)
    tried: list[tuple[float, Figures]] = []
    for _ in range(SWEEP):
        middle = (low + high) / 2
        constant = float(f"{math.exp(middle):.2g}")
        figures = run(ByBacklog(queues, constant))
        tried.append((constant, figures))
        low, high = (middle, high) if figures.slots_mean > slots * ALLOWANCE else (low, middle)
    fair = [each for each in tried if each[1].slots_mean <= slots * ALLOWANCE]
    constant, figures = min(fair or tried[-1:], key=lambda each: (each[1].urgent(load.urgent), each[0]))
    return Outcome("backlog", f"a slot for every {constant:g} tasks that wait or run", figures)
