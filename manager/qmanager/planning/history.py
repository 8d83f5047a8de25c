"""What was counted of one queue over time, and what follows from it: arrivals, run times, load. Pure.

A history is a tuple of readings that the caller keeps; it is thinned as it ages and begins anew when counters go back.
Only differences of two readings mean something. All times are seconds, on the queue server's clock.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from statistics import median

from qslots.packtimes import PackTimes
from qslots.reports import QueueStats

from .saturation import Work

WINDOW = 60.0  # least span over which rates are taken
YOUNG = 10.0  # a shorter history counts as this long: two readings a second apart are no rate
STEPS = 3  # newest stretches of time, of which the median shows whether arrivals have risen
APART = 0.8  # s; readings nearer to each other than that count as one
CHANCE = 3.0  # standard deviations that chance may do
ENOUGH = 20  # finished tasks from which a mean time is believed
LONG = 0.95  # this part of all runs is shorter than what counts as long
HORIZON = 86400.0  # older readings are forgotten
_READINGS = 256  # a history longer than this is thinned
_FINENESS = 16  # thinned readings lie at least 1/16 of their age apart: a day fits into 150
NO_PACKS = PackTimes()
_now, _finished = attrgetter("now"), attrgetter("finished")


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one queue."""

    now: float
    takeable: int = 0
    taken: int = 0  # less what was handed back untouched
    finished: int = 0  # done, failed or crashed
    booked: float = 0.0  # slot seconds of what has ended, also by the death of its slot
    busy: float = 0.0  # booked, and what the running tasks have used so far
    lifetime: float = 0.0  # slot seconds that listened to this queue since the first reading
    packs: int = 0  # taken
    packing: PackTimes = NO_PACKS


Samples = tuple[Sample, ...]  # oldest first

_BIRTH = Sample(now=0.0)  # the counters start with the queue's first task


def observe(samples: Samples, stats: QueueStats, *, running: Sequence[float] = (), slots: int = 0) -> Samples:
    """The history with one reading more. ``running``: ages of the running tasks; ``slots``: how many listen now."""
    finished = stats.done + stats.failed + stats.crashed
    last = samples[-1] if samples else None
    if last and stats.now == last.now:
        return samples  # the same reading once more
    if last and (stats.now < last.now or finished < last.finished):
        samples, last = (), None  # another server or an emptied one: differences would mean nothing
    lifetime = last.lifetime + slots * (stats.now - last.now) if last else 0.0
    taken, busy = stats.taken - stats.returned, stats.busy + sum(running)
    newest = Sample(
        stats.now, stats.takeable, taken, finished, stats.busy, busy, lifetime, stats.packs, stats.packing
    )  # fmt: skip
    return _thinned((*samples, newest)) if len(samples) >= _READINGS else (*samples, newest)


def before(samples: Samples, instant: float) -> Sample:
    """The newest reading not after ``instant``, else the oldest there is."""
    return samples[max(0, bisect.bisect_right(samples, instant, key=_now) - 1)]


def stretched(samples: Samples) -> Sample:
    """Where a window begins that goes back to 20 finished tasks, if need be to the queue's first one."""
    last = samples[-1]
    i = bisect.bisect_right(samples, last.now - WINDOW, key=_now)
    if not i or samples[i - 1].finished > last.finished - ENOUGH:
        i = bisect.bisect_right(samples, last.finished - ENOUGH, key=_finished)
    return samples[i - 1] if i else _BIRTH


def mean_time(last: Sample, first: Sample, oldest_running: float | None) -> float | None:
    """Slot seconds a task between two readings.

    Exposure / finished is the maximum-likelihood mean of lifetimes of which some still run (censored), so a long task
    counts while it runs, not only when it ends. It swings when few have finished: never below the mean of those that
    did, and what runs may lift it no higher than the longest of them has run. With none finished: the oldest's age.
    """
    finished = last.finished - first.finished
    if finished <= 0:
        return None if oldest_running is None else max(0.0, oldest_running)
    exposed = (last.busy - first.busy) / finished
    return max((last.booked - first.booked) / finished, min(exposed, oldest_running or 0.0), 0.0)


def long_run(last: Sample, first: Sample, running: Sequence[float]) -> float | None:
    """Seconds for which a slot is away in 19 of 20 times; if more than one of 20 has been for longer, the longest."""
    runs, found = last.packing.quantile(LONG, first.packing)
    longer = [age for age in running if found is None or age > found]
    return max(longer) if len(longer) > (1 - LONG) * (runs + len(running)) else found


def arrivals(samples: Samples, mean: float, within: float, *, hurry: bool = False) -> float:
    """Tasks a second, of ``mean`` slot seconds: what was taken plus what the backlog grew by. Deleting is no arrival.

    Tasks that a gate lets go arrive then, as they could not be worked on before. An average, so that chance moves it
    little; but more as soon as chance cannot explain it. ``within``: seconds in which the backlog is to be done;
    ``hurry``: there is no time to wait for a second step.
    """
    last, first = samples[-1], before(samples, samples[-1].now - max(WINDOW, 2 * mean))
    return max(_came(first, last) / max(last.now - first.now, YOUNG), _risen(samples, mean, within, hurry=hurry), 0.0)


def _came(first: Sample, last: Sample) -> int:
    return last.taken - first.taken + last.takeable - first.takeable


def _risen(samples: Samples, mean: float, within: float, *, hurry: bool) -> float:
    """Tasks a second that come now at least, by the newest readings alone.

    The median of three steps: what was put in one go is a backlog and no rate. The steps are a third of ``within`` or
    more, so what lies across two of them is worth as a rate no more than 1.5 times what it is as a backlog. Who is in a
    hurry believes one: if it was a burst, that is done sooner.
    """
    ends = _steps(samples, max(APART, within / STEPS))
    newest = 0.0
    if hurry and len(ends) > 1:
        newest = _proven(_came(ends[1], ends[0]), ends[0].now - ends[1].now, mean)
    if len(ends) <= STEPS:
        return newest
    span = ends[0].now - ends[-1].now
    came = span * median(_came(first, last) / (last.now - first.now) for last, first in pairwise(ends))
    return max(newest, _proven(came, span, mean))


def _proven(came: float, span: float, mean: float) -> float:
    """Tasks a second that at least come, where so many have in ``span`` seconds: less what chance does to a Poisson
    process. What has lasted for seconds says only so much of the next seconds: of longer tasks no more are to run at a
    time than have come.
    """
    return (came - CHANCE * math.sqrt(max(0.0, came))) / max(span, mean)


def _steps(samples: Samples, least: float) -> list[Sample]:
    """The ends of the last steps of so many seconds or more, newest first."""
    ends = [samples[-1]]
    for sample in reversed(samples):
        if len(ends) > STEPS or samples[-1].now - sample.now > WINDOW:
            break
        if ends[-1].now - sample.now >= least:
            ends.append(sample)
    return ends


def load(first: Sample, last: Sample, mean: float | None, *, slots: int, interval: float) -> float | None:
    """(busy + takeable * t) / slot time over the window: above 1 when the slots are busy and a backlog waits."""
    if not slots:
        return None
    lifetime = max(last.lifetime - first.lifetime, slots * interval)
    return (max(0.0, last.busy - first.busy) + last.takeable * (mean or 0.0)) / lifetime


def work(samples: Samples, since: float) -> Work:
    """What was done since an instant."""
    last, first = samples[-1], before(samples, since)
    span, finished = max(last.now - first.now, 1e-3), last.finished - first.finished
    return Work(max(0.0, last.busy - first.busy) / span, finished / span, finished)


def _thinned(samples: Samples) -> Samples:
    now = samples[-1].now
    kept = [samples[-1]]
    for sample in reversed(samples[:-1]):
        age = now - sample.now
        if age <= HORIZON and kept[-1].now - sample.now >= age / _FINENESS:
            kept.append(sample)
    return tuple(reversed(kept))
