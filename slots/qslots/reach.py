"""A slot's way to its queue servers: how long it insists when one does not answer.

Where the slot serves no other server it insists until it is answered. Where it does, one try must be enough: the server
is left alone for a while (a pause that grows, connection closed, from scratch next time) and the others are served. All
that a slot asks may be asked again.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from .errors import QueueServerDown
from .outages import FIRST_PAUSE, LONGEST_PAUSE, Outages
from .queueserver import QueueServer
from .scoreboard import boot_ns
from .servers import QueueServers, parted
from .work import TERM, jitter

log = logging.getLogger("qslots.slot")
_R = TypeVar("_R")


class Leave(Exception):
    """The slot is to end now: told to, or its master is gone."""


class Reach:
    """The queue servers of one slot; ``pause`` waits so many seconds and obeys the master meanwhile."""

    def __init__(self, servers: QueueServers, pause: Callable[[float], None]) -> None:
        self.servers = servers
        self._pause = pause
        self._in_use: set[str] = set()
        self._outages = Outages()

    def use(self, servers: Iterable[str]) -> None:
        """From now on these are served."""
        self._in_use = set(servers)

    def ask(self, server: str, operation: Callable[[QueueServer], _R]) -> _R:
        """The answer of one server. QueueServerDown if it is away and there is another one to serve meanwhile."""
        if self._alone(server):
            return self._repeated(server, operation, partial(self._alone, server))
        return self.once(server, operation)

    def once(self, server: str, operation: Callable[[QueueServer], _R]) -> _R:
        """The answer of one server; QueueServerDown after a single try, without one if the last try has just failed."""
        if self._outages.until(server) > boot_ns() / 1e9:
            raise QueueServerDown(f"queue server {server} has not answered; it is left alone for now")
        began = boot_ns()
        try:
            answer = operation(self.servers[server])
        except QueueServerDown as error:
            log.debug("%s; it is left alone for now", error)
            self.lost(server, took=(boot_ns() - began) / 1e9)
            raise
        self._outages.answered(server)
        return answer

    def insist(self, server: str, operation: Callable[[QueueServer], _R]) -> _R:
        """The answer of one server, however long it takes. Leave if told to leave meanwhile."""
        return self._repeated(server, operation, lambda: True)

    def _repeated(self, server: str, operation: Callable[[QueueServer], _R], go_on: Callable[[], bool]) -> _R:
        pause = FIRST_PAUSE
        while True:
            try:
                answer = operation(self.servers[server])
            except QueueServerDown as error:
                log.debug("%s; trying again in %.2f s", error, pause)  # the master says it aloud, once for all
                self.servers[server].close()
                self._pause(pause * jitter())
                pause = min(2 * pause, LONGEST_PAUSE)
                if TERM.asked:
                    raise Leave from None
                if not go_on():
                    raise
            else:
                self._outages.answered(server)
                return answer

    def lost(self, server: str, *, took: float = 0.0) -> None:
        """This server has not answered, after so many seconds."""
        self.servers[server].close()
        self._outages.failed(server, boot_ns() / 1e9, took=took, jitter=jitter())

    def _alone(self, server: str) -> bool:
        return self._in_use <= {server}

    def spare(self, server: str) -> None:
        """QueueServerDown if this server has not answered a moment ago."""
        if self.away_until(server) > boot_ns() / 1e9:
            raise QueueServerDown(f"queue server {server} has not answered; it is left alone for now")

    def away_until(self, server: str) -> float:
        """When to try this server again, seconds since boot; 0 at once. A slot's only server is always tried."""
        return 0.0 if self._alone(server) else self._outages.until(server)


def by_server(sources: Iterable[str]) -> dict[str, list[str]]:
    """server -> the queues of these sources that live there."""
    found: dict[str, list[str]] = {}
    for queue, server in map(parted, sources):
        found.setdefault(server, []).append(queue)
    return found
