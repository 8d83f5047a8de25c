"""Tasks on a queue server on which their queue does not live by the settings: no slot looks for them there.

They come from producers that do not read the fleet's settings file, or were left when the settings moved the queue. It
only tells: nothing here moves a task.
"""

import logging
from collections.abc import Container, Iterable, Mapping

from qslots.errors import QueueServerError
from qslots.reports import QueueStats
from qslots.servers import QueueServers
from qslots.units import counted

from .counting import counts_of

log = logging.getLogger("qmanager")
EVERY = 10.0  # s between two looks of the manager

Parts = dict[str, dict[str, QueueStats]]  # queue -> server -> counts


def parted(counts: Mapping[str, Mapping[str, QueueStats]], servers: QueueServers) -> tuple[Parts, list[str]]:
    """Counts where the queues live, and a line for each queue that has tasks elsewhere. Pure."""
    parts: Parts = {}
    lines = []
    for queue, found in counts.items():
        places = servers.places(queue)
        for server, stats in found.items():
            if server in places:
                parts.setdefault(queue, {})[server] = stats
            elif stats.tasks:
                parts.setdefault(queue, {})
                lines.append(described(stats, server, places))
    return parts, sorted(lines)


def described(stats: QueueStats, server: str, places: Iterable[str]) -> str:
    """What to say of the tasks of one queue on a server on which it does not live. Pure."""
    many = f"{counted(stats.tasks, 'task')} of queue {stats.name}"
    listed = ", ".join([*places, server])
    return (
        f"{many} on {server}, where it does not live and no slot looks: do all producers read the fleet's settings? "
        f"queues.{stats.name}.queue_server: [{listed}] lets slots drain them"
    )


class StrayWatch:
    """The manager's look for them, now and then; each queue on each server is told once a reign."""

    def __init__(self, servers: QueueServers) -> None:
        self._servers = servers
        self._due = 0.0
        self._told: set[tuple[str, str]] = set()

    def look(self, away: Container[str], now: float) -> None:
        """``away``: servers that are not to be asked. ``now`` is monotonic."""
        if len(self._servers.names) < 2 or now < self._due:
            return
        self._due = now + EVERY
        for name in self._servers.names:
            if name not in away:
                self._look_on(name)

    def _look_on(self, name: str) -> None:
        server = self._servers[name]
        try:
            foreign = [queue for queue in server.queue_names() if name not in self._servers.places(queue)]
            found, broken = counts_of(server, foreign)
            for queue, why in broken.items():  # no slot and no plan needs its counts
                log.debug("queue %s, which does not live there, cannot be counted on %s: %s", queue, name, why)
            for stats in found:
                if stats.tasks and (stats.name, name) not in self._told:
                    self._told.add((stats.name, name))
                    log.warning("%s", described(stats, name, self._servers.places(stats.name)))
        except QueueServerError as error:  # whoever needs this server says so
            log.debug("no look for strays on %s: %s", name, error)
