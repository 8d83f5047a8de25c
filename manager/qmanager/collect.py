"""The counts of every queue, gathered from all queue servers that it lives on.

The first queue server must answer, as it also holds map and reports. Another one that is away is left alone for a
while, and what was last counted on it stays: missing data must move no slot, and must never look like work done. A
queue whose keys are damaged is told of once and looked at now and then; it stops nothing but its own counts.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from qslots import gates
from qslots.connection import translated
from qslots.errors import QueueServerDown, QueueServerError
from qslots.reports import QueueDeclared, QueueStats, merged
from qslots.servers import QueueServers
from qslots.units import counted

from .counting import counts_of, insist_on_one
from .published import clock
from .readings import counted_from

log = logging.getLogger("qmanager")
FIRST_PAUSE = 1.0  # s until a server that is away is asked again, doubled each time
LONGEST_PAUSE = 16.0
BROKEN_PAUSE = 10.0  # s until a queue that cannot be counted is looked at again


@dataclass(frozen=True, slots=True)
class _Away:
    """A server that did not answer."""

    again: float  # when to ask it next
    pause: float


class Collector:
    """What a manager knows of its queues, place by place."""

    def __init__(self, servers: QueueServers) -> None:
        self._servers = servers
        self._control = servers.names[0]
        self._newest: dict[tuple[str, str], QueueStats] = {}  # (queue, server)
        self._bases: dict[tuple[str, str], QueueStats] = {}
        self._away: dict[str, _Away] = {}
        self._level: set[str] = set()  # queues whose gates are the same on all their servers
        self._broken: dict[tuple[str, str], float] = {}  # (queue, server) -> when to look at it again
        self._rounds = 0

    @property
    def away(self) -> frozenset[str]:
        """The servers that did not answer when they were asked last."""
        return frozenset(self._away)

    def collect(self, queues: Mapping[str, QueueDeclared], now: float) -> dict[str, QueueStats]:
        """One reading a queue; none of one that was never seen, or cannot be counted anywhere: with counts that only
        repeat it would seem to rest. ``now`` is monotonic.

        QueueServerError if the first queue server does not answer. Locks past their time are taken back on the way.
        """
        seen = {queue for queue, _ in self._newest}
        for server, mine in self._servers.by_server(queues).items():
            for each in self._read(server, [queues[name] for name in mine], now):
                place = each.name, server
                if place not in self._newest and each.name in seen:
                    self._bases[place] = each  # it comes late: what it did before is no news of this minute
                self._newest[place] = each
        self._newest = {place: each for place, each in self._newest.items() if place[0] in queues}
        self._broken = {place: again for place, again in self._broken.items() if place[0] in queues}
        self._rounds += 1
        self._level_gates(queues)
        return self._merged(queues)

    def _merged(self, queues: Iterable[str]) -> dict[str, QueueStats]:
        control, found = self._servers.control, {}
        with translated(control.url):
            now = clock(control)
        for queue in queues:
            places = [(queue, server) for server in self._servers.places(queue) if (queue, server) in self._newest]
            if places and not all(place in self._broken for place in places):
                parts = [counted_from(self._bases.get(at), self._newest[at]) for at in places]
                found[queue] = msgspec.structs.replace(merged(parts), now=now)
        return found

    def _read(self, server: str, queues: list[QueueDeclared], now: float) -> list[QueueStats]:
        """The newest counts on one server; none while it is away."""
        away = self._away.get(server)
        if away is not None and now < away.again:
            return []
        try:
            found = self._counted(server, [queue.name for queue in queues], now)
            self._look_after(server, queues, {each.name for each in found if each.expired})
        except QueueServerError as error:
            self._level -= {queue.name for queue in queues}
            if server == self._control:
                raise
            self._missed(server, error, now)
            return []
        if self._away.pop(server, None):
            log.info("queue server %s answers again", server)
        return found

    def _counted(self, server: str, queues: list[str], now: float) -> list[QueueStats]:
        """The counts of those that can be counted. QueueServerError if there are several and none can."""
        sound = [queue for queue in queues if (queue, server) not in self._broken]
        found, broken = counts_of(self._servers[server], sound)
        for queue in queues:
            if self._broken.get((queue, server), math.inf) <= now:
                mended, why = counts_of(self._servers[server], [queue])
                found += mended
                broken |= why
        insist_on_one(server, queues, broken)
        self._tell_of_broken(server, broken, [each.name for each in found])
        self._broken |= {(queue, server): now + BROKEN_PAUSE for queue in broken}
        return found

    def _tell_of_broken(self, server: str, broken: Mapping[str, Exception], sound: Iterable[str]) -> None:
        for queue, error in broken.items():
            if (queue, server) not in self._broken:
                log.warning("queue %s cannot be counted on %s, what was counted last stays: %s", queue, server, error)
        for queue in sound:
            if self._broken.pop((queue, server), None):
                log.info("queue %s can be counted again on %s", queue, server)

    def _level_gates(self, queues: Iterable[str]) -> None:
        """What was paused or resumed while a server was away counts there too, once all servers of a queue answer."""
        for queue in queues:
            places = self._servers.places(queue)
            if queue not in self._level and len(places) > 1 and not self._away.keys() & set(places):
                try:
                    gates.level(self._servers, queue)
                except QueueServerError as error:  # who counts it tells of it
                    log.debug("the gates of queue %s are not compared: %s", queue, error)
                else:
                    self._level.add(queue)

    def _look_after(self, server: str, queues: list[QueueDeclared], expired: set[str]) -> None:
        """Takes back what expired locks hold; and in turn forgets what lost slots have left in a queue."""
        turn = queues[self._rounds % len(queues)].name
        for queue in queues:
            if queue.name in expired or queue.name == turn:
                self._reclaim(server, queue)

    def _reclaim(self, server: str, queue: QueueDeclared) -> None:
        try:
            taken = self._servers[server].reclaim(queue.name, queue.lock)
        except QueueServerDown:
            raise
        except QueueServerError as error:
            log.debug("queue %s: expired locks are not taken back on %s: %s", queue.name, server, error)
            return
        if taken:
            log.info(
                "queue %s: %s taken back from locks past their time on %s", queue.name, counted(taken, "task"), server
            )

    def _missed(self, server: str, error: QueueServerError, now: float) -> None:
        before = self._away.get(server)
        if before is None:
            log.warning("%s; what was last counted on %s stays", error, server)
        pause = min(LONGEST_PAUSE, 2 * before.pause) if before else FIRST_PAUSE
        self._away[server] = _Away(now + pause, pause)
        self._servers[server].close()
