"""One queue of the simulated queue server: who waits, what was counted of it, which slots wait for it.

It counts as the ``stats`` script does: a task is taken when its pack is, done and its time booked when the pack ends.
"""

import heapq
import math
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from qslots.packtimes import PackTimes
from qslots.reports import HandlerStats, QueueStats

from .load import QueueLoad, Tasks

if TYPE_CHECKING:
    from .server import Slot


class Line:
    """A queue while it is played. Tasks are their numbers in ``tasks``."""

    __slots__ = (
        "back", "batch", "begun", "busy", "declared", "done", "empty", "head", "idle", "listening", "load", "lost",
        "mean", "name", "packing", "packs", "parallel", "put", "returned", "running", "sizes", "slots", "taken",
        "times", "took", "unheard", "unheard_since", "waits",
    )  # fmt: skip

    def __init__(self, load: QueueLoad, tasks: Tasks) -> None:
        self.load, self.declared, self.name = load, load.declared, load.name
        self.batch = max((handler.batch for handler in load.declared.handlers), default=1)
        self.times, self.sizes = tasks.times, tasks.sizes
        self.put = self.head = 0  # tasks that came, and of these the first that nobody has taken yet
        self.back: list[int] = []  # a heap of those that were given back
        self.taken = self.returned = self.done = self.packs = self.empty = self.lost = 0
        self.busy = 0.0
        self.packing = PackTimes()  # but for ``took``
        self.took = [0] * 64
        self.running = 0  # packs under work
        self.idle: OrderedDict[Slot, None] = OrderedDict()  # who waits longest is woken first
        self.listening = 0  # slots that serve it
        self.slots = 0.0  # the same, one that is shared counted as a part
        self.begun, self.waits = array("d"), array("d")  # of every task that ended: when it began, how long it waited
        self.unheard = 0.0  # the longest time in which tasks waited and no slot served it
        self.unheard_since: float | None = None
        self.mean, self.parallel = 0.0, math.inf
        self.turn_to(-math.inf)

    def turn_to(self, at: float) -> None:
        """The phase of this instant holds from now on."""
        phase = self.load.phase(at)
        self.mean, self.parallel = phase.service_time * phase.slowdown, phase.parallel

    @property
    def waiting(self) -> int:
        """Tasks that could begin."""
        return self.put - self.head + len(self.back)

    @property
    def locked(self) -> int:
        """Tasks in packs, those of lost servers too until their lock ends."""
        return self.taken - self.returned - self.lost - self.done

    def take(self, count: int) -> list[int]:
        """The longest waiting."""
        if self.back:
            tasks = [heapq.heappop(self.back) for _ in range(min(count, len(self.back)))]
        else:
            tasks = list(range(self.head, min(self.put, self.head + count)))
            self.head += len(tasks)
        self.taken += len(tasks)
        self.packs += 1
        return tasks

    def give_back(self, tasks: list[int]) -> None:
        """Tasks of a pack wait again, in their old places."""
        for task in tasks:
            heapq.heappush(self.back, task)

    def ended(self, tasks: list[int], starts: list[float], seconds: float, *, whole: bool) -> None:
        """The tasks of a pack, which began then, are done, after so long in all; ``whole``: none of them went back."""
        size = len(tasks)
        self.done += size
        self.busy += seconds
        self.took[math.frexp(seconds * 1e6)[1]] += 1
        if whole and self.batch > 1:
            sums = PackTimes(1, size, size * size, seconds, size * seconds, seconds * seconds)
            self.packing = self.packing.plus(sums)
        for task, start in zip(tasks, starts, strict=True):
            self.begun.append(start)
            self.waits.append(start - self.times[task])

    def hears(self, slots: int, part: float, now: float) -> None:
        """So many slots more serve it."""
        self.listening += slots
        self.slots += part
        self.note(now)

    def note(self, now: float) -> None:
        """Watches how long tasks wait while no slot serves the queue."""
        if self.unheard_since is not None:
            self.unheard = max(self.unheard, now - max(0.0, self.unheard_since))
        if self.listening or not self.waiting:
            self.unheard_since = None
        elif self.unheard_since is None:
            self.unheard_since = now

    def stats(self, now: float, clock: float) -> QueueStats:
        """What the queue server would answer; ``clock``: its time at 0."""
        waiting, oldest = self.waiting, 0.0
        if waiting:
            oldest = now - self.times[min(self.back[0], self.head) if self.back else self.head]
        return QueueStats(
            self.name, clock + now, active=waiting, takeable=waiting, oldest=oldest, locked=self.locked, put=self.put,
            taken=self.taken, returned=self.returned, done=self.done, busy=self.busy, packs=self.packs,
            empty=self.empty, lost=self.lost, packing=msgspec.structs.replace(self.packing, took=tuple(self.took)),
            handlers=(HandlerStats(self.name, waiting, 0, oldest),),
        )  # fmt: skip
