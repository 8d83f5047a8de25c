"""Stores the ticks of periodic handlers, once a cycle: reads what each queue server remembers, decides, and stores.

It holds nothing that a successor needs, so any manager may be killed at any time, and two at once do no harm. A server
that does not answer is left alone; its ticks come when it does.
"""

import functools
import logging
from collections.abc import Callable, Container, Mapping, Sequence

from qslots import ticks
from qslots.errors import QueueServerDown, QueueServerError
from qslots.periodic import Place, Step, tick_id
from qslots.reports import Periodic
from qslots.servers import QueueServers
from qslots.ticks import Seen

from .schedules import step, withdrawal

log = logging.getLogger("qmanager")
_Look = tuple[float, dict[Place, Seen]]  # a server's time, and what it remembers


class Ticker:
    """The ticks of one reign."""

    def __init__(self, servers: QueueServers) -> None:
        self._servers = servers
        self._served: dict[Place, Periodic] = {}
        self._told: set[tuple[Place, str]] = set()

    def turn(self, periodic: Mapping[Place, Periodic], away: Container[str]) -> None:
        """One cycle for all periodic handlers that are declared; ``away``: servers that are not to be asked.

        QueueServerError if the first queue server does not answer.
        """
        gone = {place: known for place, known in self._served.items() if place not in periodic}
        looks = self._looks([*periodic, *gone], away)
        for server, (now, seen) in looks.items():
            for place, known in periodic.items():
                if place in seen:
                    decide = functools.partial(self._step, place, known, looks, server, now=now)
                    self._do(server, place, known, seen[place], decide)
            for place, known in gone.items():
                if place in seen:
                    self._do(server, place, known, seen[place], functools.partial(withdrawal, seen[place].ticks, now))
        left = {place: known for place, known in gone.items() if set(self._servers.places(place[0])) - looks.keys()}
        self._served = {**periodic, **left}

    def _looks(self, places: Sequence[Place], away: Container[str]) -> dict[str, _Look]:
        """server -> what it remembers of the handlers whose queue lives there; only those that answer."""
        looks = {}
        for server in self._servers.names:
            here = [place for place in places if server in self._servers.places(place[0])]
            if not here or server in away:
                continue
            try:
                looks[server] = self._read(server, here)
            except QueueServerError as error:
                if isinstance(error, QueueServerDown) and self._servers[server] is self._servers.control:
                    raise
                log.debug("no ticks on %s: %s", server, error)  # the collector tells of it
        return looks

    def _read(self, server: str, here: Sequence[Place]) -> _Look:
        """What can be read on a server; a queue whose keys are damaged must not stop the others."""
        try:
            now, seen = ticks.read(self._servers[server], here)
            return now, dict(zip(here, seen, strict=True))
        except QueueServerDown:
            raise
        except QueueServerError as error:
            if len(here) == 1:
                raise
            log.debug("ticks are read one by one on %s: %s", server, error)
        now, found = 0.0, dict[Place, Seen]()
        for place in here:
            try:
                now, [found[place]] = ticks.read(self._servers[server], [place])
            except QueueServerDown:
                raise
            except QueueServerError as error:
                self._tell(place, server, error)
        return now, found

    def _step(
        self, place: Place, periodic: Periodic, looks: Mapping[str, _Look], server: str, *, now: float
    ) -> Step | None:  # fmt: skip
        queue, handler = place
        others = [look[place].ticks for name, (_, look) in looks.items() if place in look and name != server]

        def here(instant: int) -> bool:
            # Those that must not overlap are together, for the queue server to see them.
            return self._servers.home(queue, tick_id(handler, instant) if periodic.overlap else handler) == server

        return step(
            periodic, looks[server][1][place].ticks, now, others=[each.cursor for each in others if each], here=here
        )

    def _do(self, server: str, place: Place, periodic: Periodic, seen: Seen, decide: Callable[[], Step | None]) -> None:
        """One handler must not stop the others. A refusal is told once."""
        try:
            chosen = decide()
            if chosen is not None:
                ticks.store(self._servers[server], place, periodic, seen, chosen)
        except (QueueServerError, LookupError, ValueError, OSError) as error:  # or its time zone is not known here
            if isinstance(error, QueueServerDown) and self._servers[server] is self._servers.control:
                raise
            self._tell(place, server, error)
        else:
            self._told.discard((place, server))

    def _tell(self, place: Place, server: str, error: Exception) -> None:
        if (place, server) not in self._told:
            self._told.add((place, server))
            log.warning("no ticks of %s (queue %s) on %s: %s", place[1], place[0], server, error)
