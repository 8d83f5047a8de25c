"""What each queue is worth in slots, from what was counted of it. Pure: readings in, one Demand a queue out.

Only takeable tasks count: what is paused, parked or beyond the rate can keep no slot busy, however much of it waits.
It keeps no state of its own (the readings are handed back to the caller as a tuple), reads no clock and knows nothing
of capacity or of other queues. What is missing damps: the caller keeps the last Demand of a queue without statistics.
All times are seconds, on the queue server's clock.
"""

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from qslots.reports import QueueDeclared, QueueStats
from qslots.units import counted

WINDOW = 60.0  # least span over which rates are taken
YOUNG = 10.0  # a shorter history counts as this long: two readings a second apart are no rate
ENOUGH = 20  # finished tasks from which a mean time is believed
NEGLIGIBLE = 0.05  # of a slot: what keeps one less busy than this is nothing to speak of
UTILISATION = 0.8  # how busy slots may be before arrivals queue up
HORIZON = 86400.0  # older readings are forgotten
_READINGS = 256  # a history longer than this is thinned
_FINENESS = 16  # thinned readings lie at least 1/16 of their age apart: a day fits into 150


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one queue. Only differences of the cumulative fields mean something."""

    now: float
    takeable: int = 0
    taken: int = 0  # less what was handed back untouched
    finished: int = 0  # done, failed or crashed
    booked: float = 0.0  # slot seconds of the finished tasks
    busy: float = 0.0  # booked, and what the running tasks have used so far
    lifetime: float = 0.0  # slot seconds that listened to this queue since the first reading


Samples = tuple[Sample, ...]  # oldest first

_BIRTH = Sample(now=0.0)  # the counters start with the queue's first task


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

    @property
    def served(self) -> bool:
        """Whether the queue may have a slot at all: somebody handles its tasks and its max is not 0."""
        return bool(self.queue.handlers) and self.queue.max_slots != 0


def observe(samples: Samples, stats: QueueStats, *, running: Sequence[float] = (), slots: int = 0) -> Samples:
    """The history with one reading more. ``running``: ages of the running tasks; ``slots``: how many listen now."""
    finished = stats.done + stats.failed + stats.crashed
    last = samples[-1] if samples else None
    if last and stats.now == last.now:
        return samples  # the same reading once more
    if last and (stats.now < last.now or finished < last.finished):
        samples, last = (), None  # another server or an emptied one: differences would mean nothing
    lifetime = last.lifetime + slots * (stats.now - last.now) if last else 0.0
    busy = stats.busy + sum(running)
    newest = Sample(stats.now, stats.takeable, stats.taken - stats.returned, finished, stats.busy, busy, lifetime)
    return _thinned((*samples, newest)) if len(samples) >= _READINGS else (*samples, newest)


def unknown(queue: QueueDeclared) -> Demand:
    """The demand of a queue of which nothing was ever read."""
    return _clamped(queue, 0.0, "no statistics yet")


def measure(
    queue: QueueDeclared, samples: Samples, stats: QueueStats, *, running: Sequence[float] = (), slots: int = 0,
    interval: float = 1.0,
) -> Demand:  # fmt: skip
    """The demand of a queue. ``samples`` must end with the reading of ``stats``; ``interval``: the manager's cycle."""
    last = samples[-1]
    mean = mean_time(samples, max(running, default=None))
    arrivals = _arrivals(samples, max(WINDOW, 2 * (mean or 0.0)))
    first = _before(samples, last.now - WINDOW)
    wanted, reason = _worth(queue, stats, arrivals, mean, interval)
    if not stats.takeable and not running and wanted < NEGLIGIBLE:
        reason = "nothing to do"
    wanted, reason = _sobered(wanted, reason, stats, last.finished, arrivals * max(mean or 0.0, 1.0), len(running))
    if stats.takeable and stats.oldest > queue.target_delay and wanted < 1.0:
        wanted, reason = 1.0, f"the oldest task has waited {stats.oldest:.3g} s of {queue.target_delay:.3g} s: one slot"
    wanted, reason = _gated(*_paced(queue, wanted, reason, mean), stats)
    base = _clamped(queue, wanted, reason)
    return Demand(
        queue=queue,
        wanted=base.wanted,
        reason=base.reason,
        arrivals=arrivals,
        rate=(last.finished - first.finished) / max(last.now - first.now, YOUNG),
        mean_time=mean,
        load=_load(first, last, mean, slots=slots, interval=interval),
    )


def mean_time(samples: Samples, oldest_running: float | None) -> float | None:
    """Slot seconds a task, over a window stretched back to 20 finished tasks, if need be to the queue's first one.

    Exposure / finished is the maximum-likelihood mean of lifetimes of which some still run (censored), so a long task
    counts while it runs, not only when it ends. It swings when few have finished: never below the mean of those that
    did, and what runs may lift it no higher than the longest of them has run. With none finished: the oldest's age.
    """
    last = samples[-1]
    i = bisect.bisect_right(samples, last.finished - ENOUGH, key=attrgetter("finished"))
    i = min(i, bisect.bisect_right(samples, last.now - WINDOW, key=attrgetter("now")))
    first = samples[i - 1] if i else _BIRTH
    finished = last.finished - first.finished
    if finished <= 0:
        return oldest_running
    exposed = (last.busy - first.busy) / finished
    return max((last.booked - first.booked) / finished, min(exposed, oldest_running or 0.0), 0.0)


def _arrivals(samples: Samples, span: float) -> float:
    """Tasks a second: what was taken plus what the backlog grew by. Deleting tasks is no negative arrival.

    Tasks that a gate lets go arrive then, as they could not be worked on before.
    """
    last = samples[-1]
    first = _before(samples, last.now - span)
    came = last.taken - first.taken + last.takeable - first.takeable
    return max(0, came) / max(last.now - first.now, YOUNG)


def _load(first: Sample, last: Sample, mean: float | None, *, slots: int, interval: float) -> float | None:
    """(busy + takeable * t) / slot time over the window: above 1 when the slots are busy and a backlog waits."""
    if not slots:
        return None
    lifetime = max(last.lifetime - first.lifetime, slots * interval)
    return (max(0.0, last.busy - first.busy) + last.takeable * (mean or 0.0)) / lifetime


def _worth(
    queue: QueueDeclared, stats: QueueStats, arrivals: float, mean: float | None, interval: float
) -> tuple[float, str]:
    """wanted = arrivals * t / utilisation + takeable * t / max(target_delay, 2 intervals, t), before any limit."""
    if mean is None:
        if stats.takeable:
            return 1.0, f"{stats.takeable} waiting and none has run yet: one slot to learn how long they take"
        return 0.0, "nothing to do"
    within = max(queue.target_delay, 2 * interval, mean)
    steady, backlog = arrivals * mean / UTILISATION, stats.takeable * mean / within
    reason = f"{arrivals:.3g}/s of {mean:.3g} s at {UTILISATION:.0%} busy = {steady:.3g}"
    if stats.takeable:
        reason += f", {stats.takeable} waiting to be done in {within:.3g} s = {backlog:.3g}"
    return steady + backlog, reason


def _sobered(
    wanted: float, reason: str, stats: QueueStats, finished: int, coming: float, running: int
) -> tuple[float, str]:
    """No more than there is proof for: twice what runs until 20 have finished; never more slots than tasks."""
    proven = max(1, 2 * running)
    if finished < ENOUGH and wanted > proven:
        return proven, f"{reason}; {proven} until {ENOUGH} have finished"
    usable = math.ceil(stats.takeable + running + coming)
    if wanted > usable:
        return usable, f"{reason}; {counted(usable, 'task')} can use no more"
    return wanted, reason


def _paced(queue: QueueDeclared, wanted: float, reason: str, mean: float | None) -> tuple[float, str]:
    """No more than tasks beginning at the queue's rate can keep busy."""
    if queue.rate is None or mean is None:
        return wanted, reason
    most = max(1, math.ceil(queue.rate * mean - 1e-9))
    if wanted > most:
        return most, f"{reason}; its rate of {queue.rate:.3g}/s needs no more than {most}"
    return wanted, reason


def _gated(wanted: float, reason: str, stats: QueueStats) -> tuple[float, str]:
    """Nothing is wanted for a paused queue; of other gates is told what they hold back.

    A server that is away may still have it paused as it was when it was last seen; that must not starve the others.
    """
    if stats.paused and not stats.takeable:
        return 0.0, "paused"
    held = [gate for gate in stats.gates if gate.startswith(("collection:", "handler:"))]
    return wanted, f"{reason}; held back: {', '.join(with_reasons(held, stats.reasons))}" if held else reason


def with_reasons(gates: Iterable[str], reasons: Mapping[str, str]) -> list[str]:
    """Closed gates, with the reasons of those that have closed by themselves."""
    return [f"{gate} ({reasons[gate]})" if gate in reasons else gate for gate in gates]


def _clamped(queue: QueueDeclared, wanted: float, reason: str) -> Demand:
    """Within min and max; max wins where they contradict."""
    if not queue.handlers:
        return Demand(queue, 0.0, "no handler")
    if wanted < queue.min_slots:
        wanted, reason = queue.min_slots, f"{reason}; min {queue.min_slots}"
    if queue.max_slots is not None and wanted > queue.max_slots:
        wanted, reason = queue.max_slots, f"{reason}; max {queue.max_slots}"
    return Demand(queue, float(wanted), reason)


def _before(samples: Samples, instant: float) -> Sample:
    """The newest reading not after ``instant``, else the oldest there is."""
    return samples[max(0, bisect.bisect_right(samples, instant, key=attrgetter("now")) - 1)]


def _thinned(samples: Samples) -> Samples:
    now = samples[-1].now
    kept = [samples[-1]]
    for sample in reversed(samples[:-1]):
        age = now - sample.now
        if age <= HORIZON and kept[-1].now - sample.now >= age / _FINENESS:
            kept.append(sample)
    return tuple(reversed(kept))
