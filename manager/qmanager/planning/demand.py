"""What each queue is worth in slots, from what was counted of it. Pure: readings in, one Demand a queue out.

Only takeable tasks count: what is paused, parked or beyond the rate can keep no slot busy, however much of it waits.
It keeps no state of its own (history and growth are handed back to the caller), reads no clock and knows nothing of
capacity or of other queues. What is missing damps: the caller keeps the last Demand of a queue without statistics.
All times are seconds, on the queue server's clock. Reasons are read by people at night: whole words, and the figures.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from qslots.lottery import PACK_TIME
from qslots.packtimes import PackTimes
from qslots.reports import QueueDeclared, QueueStats
from qslots.units import counted, figure

from ..figures import size as size_of
from .history import (
    ENOUGH,
    HORIZON,
    NO_PACKS,
    WINDOW,
    YOUNG,
    Sample,
    Samples,
    before,
    long_run,
    mean_time,
    stretched,
    work,
)
from .history import arrivals as arriving
from .history import load as loaded
from .packfit import ENOUGH as PACKS
from .packfit import first_fitted
from .saturation import CALM, Growth, watch

NEGLIGIBLE = 0.05  # of a slot: what keeps one less busy than this is nothing to speak of
UTILISATION = 0.8  # how busy few slots of a usual queue may be before arrivals queue up
HEADROOM = 1.5  # times the square root of the busy slots: what many slots need above them
USUAL = 50  # the priority above which headroom grows
CAREFUL = 75  # by how much the priority is above it for twice the headroom
HURRY = 2.0  # s; a queue with no more of target_delay can bear no delay to speak of
INSTANT = 0.001  # s; no target delay counts as shorter
FULL = 0.5  # of the largest pack: packs of that size say what a task takes, smaller ones only through a line
SLOWER = 1.25  # times the time that tasks took before there were more slots


@dataclass(frozen=True, slots=True)
class Demand:
    """What one queue is worth, and why."""

    queue: QueueDeclared
    wanted: float  # slots, within the queue's min and max
    reason: str  # one sentence
    arrivals: float = 0.0  # tasks a second
    rate: float = 0.0  # tasks finished a second
    mean_time: float | None = None  # slot seconds a task; None while nothing has run
    load: float | None = None  # (busy + backlog) / slot time; None without a slot
    p95: float | None = None  # seconds for which a slot is away in 19 of 20 times; None while nothing has run
    waits: float = 0.0  # seconds that its tasks wait; in a hurry also what the newest will have waited
    away: int = 0  # slots told to serve it that still end a task of another queue
    growth: Growth = CALM  # for the next cycle
    fits: bool = True  # whether any server can carry a slot of it

    @property
    def served(self) -> bool:
        """Whether the queue may have a slot at all: somebody handles its tasks, its max is not 0, and it fits."""
        return bool(self.queue.handlers) and self.queue.max_slots != 0 and self.fits

    @property
    def haste(self) -> float:
        """``late`` of a queue that is in a hurry; 0 of others."""
        return self.late if in_a_hurry(self.queue) else 0.0

    @property
    def late(self) -> float:
        """From 0, at half of the target delay, to 1, where all of it has passed: later, help would come too late."""
        return min(max(0.0, 2 * self.waits / max(self.queue.target_delay, INSTANT) - 1), 1.0)

    def beyond(self, size: int) -> "Demand":
        """The same of a queue of which one slot needs so many bytes, more than any server has."""
        return replace(
            self, fits=False, reason=f"{self.reason}; one slot needs {size_of(size)}, more than any server has"
        )

    @property
    def run_time(self) -> float:
        """Seconds that others wait behind it in a slot they share, as a rule."""
        return self.p95 if self.p95 is not None else self.mean_time or 0.0


@dataclass(frozen=True, slots=True)
class _Need:
    """What is to be done of one queue, and how soon."""

    queue: QueueDeclared
    takeable: int
    arrivals: float  # tasks a second
    within: float  # seconds in which what waits is to be done
    mean: float | None
    running: int
    slots: int
    batch: int  # the most tasks that a slot takes in one go

    def worth(self, steady: float, backlog: float) -> tuple[float, float]:
        """What arrivals need, and takeable * t / max(within, t): of each the seconds a task, ``t``."""
        return staffed(self.arrivals * steady, self.queue.priority), self.takeable * backlog / max(self.within, backlog)


def staffed(busy: float, priority: int) -> float:
    """Slots for arrivals that keep so many busy: a quarter more, of large numbers less; more for urgent queues.

    Chance moves n busy slots by sqrt(n), so headroom in proportion to that keeps the wait as short, whatever n is
    (Halfin and Whitt, Heavy-traffic limits for queues with many exponential servers, Operations Research 29, 1981).
    How short is a matter of importance.
    """
    headroom = min(busy / UTILISATION - busy, HEADROOM * math.sqrt(busy))
    return busy + headroom * (1 + max(0, priority - USUAL) / CAREFUL)


def utilised(busy: float, priority: int) -> float:
    """How busy these slots are then; those of a queue without work as soon as some comes."""
    busy = max(busy, 1e-9)
    return busy / staffed(busy, priority)


def in_a_hurry(queue: QueueDeclared) -> bool:
    """Whether its tasks can bear no delay to speak of."""
    return queue.target_delay <= HURRY


def unknown(queue: QueueDeclared) -> Demand:
    """The demand of a queue of which nothing was ever read."""
    return Demand(queue, *_clamped(queue, 0.0, "no statistics yet"))


def measure(
    queue: QueueDeclared, samples: Samples, stats: QueueStats, *, running: Sequence[float] = (), slots: int = 0,
    away: int = 0, interval: float = 1.0, growth: Growth = CALM,
) -> Demand:  # fmt: skip
    """The demand of a queue. ``samples`` must end with the reading of ``stats``; ``running``: ages of running tasks;
    ``slots``: how many listen, ``away``: of them still in tasks of others; ``interval``: the manager's cycle;
    ``growth``: that of the demand before.
    """
    last, since = samples[-1], stretched(samples)
    first = before(samples, last.now - WINDOW)
    mean = mean_time(last, since, max(running, default=None))
    within = max(queue.target_delay, 2 * interval)
    arrivals = arriving(samples, mean or 0.0, within, hurry=in_a_hurry(queue))
    batch = max([handler.batch for handler in queue.handlers], default=1)
    need = _Need(queue, stats.takeable, arrivals, within, mean, len(running), slots, batch)
    growth = _growth(need, samples, growth)
    wanted, reason = _limited(*_worth(need, samples, first), need, stats, samples, growth)
    wanted, reason = _clamped(queue, *_gated(*_paced(queue, wanted, reason, mean), stats))
    return Demand(
        queue=queue,
        wanted=wanted,
        reason=reason,
        arrivals=arrivals,
        rate=(last.finished - first.finished) / max(last.now - first.now, YOUNG),
        mean_time=mean,
        load=loaded(first, last, mean, slots=slots, interval=interval),
        p95=long_run(last, since, running),
        waits=_waits(need, stats, slots - away),
        away=away,
        growth=growth,
    )


def _waits(need: _Need, stats: QueueStats, there: int) -> float:
    """Seconds that tasks wait: the oldest until now; in a hurry also the newest, as far as it can be foreseen."""
    if not need.takeable:
        return 0.0
    foreseen = need.takeable * (need.mean or 0.0) / max(1, there) if in_a_hurry(need.queue) else 0.0
    return max(stats.oldest, foreseen)


def _worth(need: _Need, samples: Samples, first: Sample) -> tuple[float, str]:
    """What the queue is worth before any limit."""
    mean = need.mean
    if mean is None:
        if need.takeable:
            return 1.0, f"{need.takeable:,} waiting and none has run yet: one slot to learn how long they take"
        return 0.0, "nothing to do"
    alone, packed = _in_packs(need, samples, first)
    steady, backlog = need.worth(alone, packed)
    if not need.takeable and not need.running and steady < NEGLIGIBLE:
        return steady, "nothing to do"
    size = "" if alone >= mean else f" in larger packs ({figure(mean)} s now)"
    busy = f"{utilised(need.arrivals * alone, need.queue.priority):.0%} busy"
    reason = f"{figure(need.arrivals)}/s arrive, {figure(alone)} s each{size}: {figure(steady)} at {busy}"
    if need.takeable:
        within = figure(max(need.within, packed))
        reason += f"; {need.takeable:,} waiting, to be done in {within} s: {figure(backlog)} more"
    return steady + backlog, reason


def _in_packs(need: _Need, samples: Samples, first: Sample) -> tuple[float, float]:
    """Seconds a task in packs of the size that arrivals allow, and of that which the backlog allows.

    Packs at least half full say it themselves. Else a line through the packs of the last minute, or of longer ago.
    """
    mean, most, last = need.mean or 0.0, need.batch, samples[-1]
    is_full = last.taken - first.taken >= FULL * most * (last.packs - first.packs)
    if most == 1 or is_full or sum(need.worth(mean, mean)) < NEGLIGIBLE:
        return mean, mean

    def earlier() -> Iterator[PackTimes]:
        yield first.packing
        for age in (10 * WINDOW, 100 * WINDOW, HORIZON):
            yield before(samples, last.now - age).packing
        yield NO_PACKS

    size = min(max(need.arrivals * need.within, 1.0), most)
    alone = min(mean, first_fitted(last.packing, earlier(), size) or mean)
    if need.takeable <= size:
        return alone, alone
    return alone, min(alone, first_fitted(last.packing, earlier(), min(need.takeable, most)) or alone)


def _growth(need: _Need, samples: Samples, growth: Growth) -> Growth:
    """Whether slots that were added have helped: asked only while each could take a full pack at once."""
    mean = need.mean or 0.0
    full = min(need.batch, max(1.0, PACK_TIME / max(mean, 1e-6)))
    backlogged = need.takeable >= need.slots * full
    return watch(
        growth, samples[-1].now, slots=need.slots, mean=mean, backlogged=backlogged, work=partial(work, samples)
    )


def _limited(
    wanted: float, reason: str, need: _Need, stats: QueueStats, samples: Samples, growth: Growth
) -> tuple[float, str]:  # fmt: skip
    """No more than has helped, than there is proof for, than tasks can use; one slot at least for what is overdue."""
    wanted, reason = _grown(wanted, reason, need, growth, samples[-1].now)
    last, proven = samples[-1], max(1, 2 * max(need.running, need.slots if samples[-1].finished else 0))
    if last.finished < ENOUGH and wanted > proven:
        wanted, reason = proven, f"{reason}; no more than {proven} until {ENOUGH} tasks have finished"
    elif need.batch > 1 and last.packs - need.running < PACKS and wanted > proven:
        wanted, reason = proven, f"{reason}; no more than {proven} until {PACKS} packs have finished"
    usable = math.ceil(need.takeable + need.running + need.arrivals * max(need.mean or 0.0, 1.0))
    if wanted > usable:
        wanted, reason = usable, f"{reason}; {counted(usable, 'task')} can use no more"
    target = need.queue.target_delay
    if need.takeable and stats.oldest > target and wanted < 1.0:
        wanted = 1.0
        reason = f"the oldest task has waited {figure(stats.oldest)} s of {figure(target)} s: one slot"
    return wanted, reason


def _grown(wanted: float, reason: str, need: _Need, growth: Growth, now: float) -> tuple[float, str]:
    """No more than has helped; until that is known no leap for tasks that take longer with more slots."""
    limit = growth.limit(now)
    if wanted > limit:
        return limit, f"{reason}; {growth.reason(now)}"
    if growth.judging and growth.base and need.mean and need.mean > SLOWER * growth.base.time:
        usual = growth.base.time
        step = max(growth.doubling(now), sum(need.worth(usual, usual)))
        if wanted > step:
            slower = f"tasks take {figure(need.mean)} s since there are more slots, {figure(usual)} s before"
            return step, f"{reason}; {slower}: no more than {figure(step)} until it shows whether they help"
    return wanted, reason


def _paced(queue: QueueDeclared, wanted: float, reason: str, mean: float | None) -> tuple[float, str]:
    """No more than tasks beginning at the queue's rate can keep busy."""
    if queue.rate is None or mean is None:
        return wanted, reason
    most = max(1, math.ceil(queue.rate * mean - 1e-9))
    if wanted > most:
        return most, f"{reason}; its rate of {figure(queue.rate)}/s needs no more than {most}"
    return wanted, reason


def _gated(wanted: float, reason: str, stats: QueueStats) -> tuple[float, str]:
    """Nothing is wanted for a paused queue; of other gates is told what they hold back.

    A server that is away may still have it paused as it was when it was last seen; that must not starve the others.
    """
    if stats.paused and not stats.takeable:
        return 0.0, "paused"
    if not stats.gates:
        return wanted, reason
    held = [gate for gate in stats.gates if gate.startswith(("collection:", "handler:"))]
    return wanted, f"{reason}; held back: {', '.join(with_reasons(held, stats.reasons))}" if held else reason


def with_reasons(gates: Iterable[str], reasons: Mapping[str, str]) -> list[str]:
    """Closed gates, with the reasons of those that have closed by themselves."""
    return [f"{gate} ({reasons[gate]})" if gate in reasons else gate for gate in gates]


def _clamped(queue: QueueDeclared, wanted: float, reason: str) -> tuple[float, str]:
    """Within min and max; max wins where they contradict."""
    if not queue.handlers:
        return 0.0, "no handler"
    if wanted < queue.min_slots:
        wanted, reason = queue.min_slots, f"{reason}; min {queue.min_slots}"
    if queue.max_slots is not None and wanted > queue.max_slots:
        wanted, reason = queue.max_slots, f"{reason}; max {queue.max_slots}"
    return float(wanted), reason
