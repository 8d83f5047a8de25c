"""Which source a slot tries next when it serves several, and how many tasks it asks for. Pure.

A source is a queue on one of the servers that it lives on. Tickets are priority / mean pack time, so that sources get
time by priority and not merely turns; one found empty drops out until it may have work again. (The lottery with
reduction is Nextdoor's; weighing it by time is ours.)
"""

import math
from collections.abc import Callable, Iterator, Mapping

PACK_TIME = 1.0  # seconds that a pack should take
_GROWTH = 2
_NEWEST = 0.3  # weight of the newest measurement in a running mean


class Lottery:
    """The sources of one assignment, each with the priority of its queue."""

    def __init__(self, priorities: Mapping[str, int]) -> None:
        self._priorities = dict(priorities)
        self._pack_time: dict[str, float] = {}
        self._dry: dict[str, float] = {}  # source -> until when nothing can be had there

    @property
    def sources(self) -> list[str]:
        """All sources of the assignment."""
        return list(self._priorities)

    @property
    def dry(self) -> list[str]:
        """The sources that dropped out."""
        return list(self._dry)

    def ran(self, source: str, seconds: float) -> None:
        """A pack of this source took so long."""
        before = self._pack_time.get(source, seconds)
        self._pack_time[source] = before + _NEWEST * (seconds - before)

    def found_empty(self, source: str, until: float) -> None:
        """The source has nothing, or cannot be reached; it drops out until then, or until it is refilled."""
        self._dry[source] = until

    def earliest(self, now: float) -> float:
        """Seconds until the first source that dropped out is to be tried again."""
        return max(0.0, min(self._dry.values(), default=now) - now)

    def refill(self, source: str) -> None:
        """This source may have work again."""
        self._dry.pop(source, None)

    def draw(self, now: float, chance: Callable[[], float]) -> Iterator[str]:
        """The sources to try, one after the other, each at most once. ``chance`` gives numbers in [0, 1)."""
        self._dry = {source: until for source, until in self._dry.items() if until > now}
        hat = {source: self._tickets(source) for source in self._priorities if source not in self._dry}
        while hat:
            number = chance() * sum(hat.values())
            drawn = next(reversed(hat))
            for source, tickets in hat.items():
                number -= tickets
                if number < 0:
                    drawn = source
                    break
            del hat[drawn]
            yield drawn

    def _tickets(self, source: str) -> float:
        # A source not measured yet counts as one with short packs: it is tried soon and then known.
        return self._priorities[source] / max(self._pack_time.get(source, 0.0), 0.001)


class PackSize:
    """How many tasks of a handler to ask for: what it can run in PACK_TIME, growing from 1 while it is unmeasured.

    ``beside``: so many run at a time; they take as long as one. ``whole``: the handler has all tasks at once; its pack
    may have a cost of its own, which smaller packs do not spare: only what tasks add must fit into PACK_TIME.
    """

    __slots__ = ("_batch", "_beside", "_last", "_line", "_mean")

    def __init__(self, batch: int, beside: int = 1, *, whole: bool = False) -> None:
        self._batch = batch
        self._beside = beside
        self._last = 0
        self._mean: float | None = None
        self._line = _Line() if whole else None

    @property
    def mean(self) -> float | None:
        """Seconds that a task takes as a rule; None while it is unmeasured."""
        return self._mean

    def want(self) -> int:
        """Tasks to ask for."""
        grown = max(1, self._last * _GROWTH)
        fitting = grown if not self._mean else self._beside * max(1, int(PACK_TIME / self._mean))
        if self._line and fitting < grown:
            fitting = max(fitting, self._line.most(grown))
        return min(self._batch, grown, fitting)

    def ran(self, tasks: int, seconds: float) -> None:
        """So many tasks took so long together."""
        if tasks:
            mean = seconds / math.ceil(tasks / self._beside)
            self._mean = mean if self._mean is None else self._mean + _NEWEST * (mean - self._mean)
            self._last = max(tasks, self._last // _GROWTH)
            if self._line:
                self._line.ran(tasks, seconds)


class _Line:
    """What each task adds to the time of a pack: the slope through the newest packs of different sizes."""

    __slots__ = ("_each", "_own", "_product", "_square", "_tasks", "_time")

    def __init__(self) -> None:
        self._tasks = self._time = self._square = self._product = 0.0  # running means
        self._own = self._each = 0.0

    def most(self, untold: int) -> int:
        """Tasks that add PACK_TIME; ``untold`` as long as nobody can tell."""
        return untold if not self._each else int(PACK_TIME / self._each)

    def ran(self, tasks: int, seconds: float) -> None:
        new = 1.0 if not self._tasks else _NEWEST
        self._tasks += new * (tasks - self._tasks)
        self._time += new * (seconds - self._time)
        self._square += new * (tasks * tasks - self._square)
        self._product += new * (tasks * seconds - self._product)
        spread = self._square - self._tasks**2
        if spread > 0.01 * self._square:
            self._each = max(1e-9, (self._product - self._tasks * self._time) / spread)
            self._own = max(0.0, self._time - self._each * self._tasks)
        elif self._each and seconds > 1.5 * (self._own + self._each * tasks):
            self._each = self._time / self._tasks  # slower than ever: begin again at the careful end
