"""Which queue a slot tries next when it serves several, and how many tasks it asks for. Pure.

Tickets are priority / mean pack time, so that queues get time by priority and not merely turns; a queue found empty
drops out until it may have work again. (The lottery with reduction is Nextdoor's; weighing it by time is ours.)
"""

from collections.abc import Callable, Iterator, Mapping

PACK_TIME = 1.0  # seconds that a pack should take
_GROWTH = 2
_NEWEST = 0.3  # weight of the newest measurement in a running mean


class Lottery:
    """The queues of one assignment."""

    def __init__(self, priorities: Mapping[str, int]) -> None:
        self._priorities = dict(priorities)
        self._pack_time: dict[str, float] = {}
        self._dry: dict[str, float] = {}  # queue -> until when it is known to be empty

    @property
    def queues(self) -> list[str]:
        """All queues of the assignment."""
        return list(self._priorities)

    @property
    def dry(self) -> list[str]:
        """The queues that dropped out."""
        return list(self._dry)

    def ran(self, queue: str, seconds: float) -> None:
        """A pack of this queue took so long."""
        before = self._pack_time.get(queue, seconds)
        self._pack_time[queue] = before + _NEWEST * (seconds - before)

    def found_empty(self, queue: str, until: float) -> None:
        """The queue has nothing; it drops out until then, or until it is refilled."""
        self._dry[queue] = until

    def earliest(self, now: float) -> float:
        """Seconds until the first queue that dropped out is to be tried again."""
        return max(0.0, min(self._dry.values(), default=now) - now)

    def refill(self, queue: str) -> None:
        """This queue may have work again."""
        self._dry.pop(queue, None)

    def draw(self, now: float, chance: Callable[[], float]) -> Iterator[str]:
        """The queues to try, one after the other, each at most once. ``chance`` gives numbers in [0, 1)."""
        self._dry = {queue: until for queue, until in self._dry.items() if until > now}
        hat = {queue: self._tickets(queue) for queue in self._priorities if queue not in self._dry}
        while hat:
            number = chance() * sum(hat.values())
            drawn = next(reversed(hat))
            for queue, tickets in hat.items():
                number -= tickets
                if number < 0:
                    drawn = queue
                    break
            del hat[drawn]
            yield drawn

    def _tickets(self, queue: str) -> float:
        # A queue not measured yet counts as one with short packs: it is tried soon and then known.
        return self._priorities[queue] / max(self._pack_time.get(queue, 0.0), 0.001)


class PackSize:
    """How many tasks of a handler to ask for: what it can run in PACK_TIME, growing from 1 while it is unmeasured."""

    __slots__ = ("_batch", "_last", "_mean")

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._last = 0
        self._mean: float | None = None

    def want(self) -> int:
        """Tasks to ask for."""
        grown = max(1, self._last * _GROWTH)
        fitting = grown if not self._mean else max(1, int(PACK_TIME / self._mean))
        return min(self._batch, grown, fitting)

    def ran(self, tasks: int, seconds: float) -> None:
        """So many tasks took so long together."""
        if tasks:
            mean = seconds / tasks
            self._mean = mean if self._mean is None else self._mean + _NEWEST * (mean - self._mean)
            self._last = max(tasks, self._last // _GROWTH)
